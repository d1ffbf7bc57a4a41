#!/usr/bin/env python
"""How far SGD is from its Fokker-Planck equation as the learning rate varies: the difference is proportional to it.

Two questions on data, each at several learning rates. The variance at rest of a linear regression with one parameter
(five rows, batches of one), where the value of the discrete chain is known exactly; and the time that SGD takes to
leave a valley (cases/two-valleys.toml), at a fixed learning_rate / batch_size, so that the equation stays the same and
only the length of a step changes: 20 000 runs each, with their standard errors.

    python scripts/compare_sgd.py      prints the table and draws scripts/compare_sgd.png; some minutes
"""

import math
import os
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

import fpsolve
from fpsolve.present.pictures.style import styled

FOLDER = Path(__file__).parent
INPUTS, OUTPUTS = np.array([1.0, 0.5, -1.5, 2.0, 0.8]), np.array([1.0, -0.25, -1.0, 1.5, 1.4])
RATES = (0.2, 0.1, 0.05, 0.025)
BATCH_PER_RATE = 360  # of the escape


def variances(rate: float) -> tuple[float, float]:
    """The variance at rest on a grid, and that of SGD, rate c0 / (2h - rate h^2 - rate c2), C = c0 + c1 d + c2 d^2."""
    landscape = fpsolve.Landscape(
        per_example_loss="0.5*(a*x - b)**2", data={"a": INPUTS, "b": OUTPUTS}, variables=("x",)
    )
    axis = fpsolve.Axis("x", -math.inf, math.inf, 400, scale=0.3, centre=0.8)
    problem = fpsolve.Problem(landscape, fpsolve.MinibatchNoise(learning_rate=rate, batch_size=1), fpsolve.Grid(x=axis))
    curvature = float((INPUTS**2).mean())
    minimum = float((INPUTS * OUTPUTS).mean()) / curvature
    quiet = (INPUTS * (INPUTS * minimum - OUTPUTS)).var()
    growth = (INPUTS**2).var()
    exact = rate * quiet / (2.0 * curvature - rate * curvature**2 - rate * growth)
    return float(fpsolve.stationary(problem).covariance[0, 0]), exact


def escapes(rate: float) -> tuple[float, float, float]:
    """Fokker-Planck's mean escape time, that of SGD, and its standard error."""
    size = round(BATCH_PER_RATE * rate)
    overrides = [f"noise.learning_rate={rate}", f"noise.batch_size={size}", "ensemble.walkers=20000"]
    report = fpsolve.run(FOLDER.parent / "cases/two-valleys.toml", overrides=overrides, figures=False)
    assert report.escape is not None
    assert report.witness is not None
    assert report.witness.escape is not None
    exits, first = report.witness.escape.exits, report.escape.times["mean_first_passage_time"].value
    assert exits.value is not None
    assert exits.standard_error is not None
    assert first is not None
    return first, exits.value, exits.standard_error


def main() -> None:
    """Measure, print, draw."""
    os.environ.setdefault("FPSOLVE_THREADS", "2")
    rest = [variances(rate) for rate in RATES]
    away = [escapes(rate) for rate in RATES]
    print("learning rate   variance: equation, SGD exactly, difference      escape time: equation, SGD, difference")
    for rate, (mine, exact), (first, found, error) in zip(RATES, rest, away, strict=True):
        differences = f"{mine / exact - 1:+.4f}", f"{found / first - 1:+.4f} +- {error / first:.4f}"
        print(f"{rate:13g}   {mine:.6f}  {exact:.6f}  {differences[0]}      {first:.2f}  {found:.2f}  {differences[1]}")
    with styled():
        figure = Figure(figsize=(5.6, 4.2), layout="constrained")
        axes = figure.add_subplot()
        axes.loglog(RATES, [abs(mine / exact - 1.0) for mine, exact in rest], "o-", label="variance at rest, exact")
        gaps, bars = np.array([[abs(found / first - 1.0), error / first] for first, found, error in away]).T
        axes.errorbar(
            RATES, gaps, 2.0 * bars, fmt="s-", capsize=3, label="escape time, 20000 runs, two standard errors"
        )
        line = np.array([min(RATES), max(RATES)])
        axes.loglog(line, 1.2 * line, ":", color="grey", label="proportional to the learning rate")
        axes.set_xlim(0.8 * min(RATES), 1.25 * max(RATES))
        axes.set_xticks(RATES, [f"{rate:g}" for rate in RATES])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel("learning rate")
        axes.set_ylabel("relative difference of Fokker-Planck and SGD")
        axes.legend()
        FigureCanvasAgg(figure).print_png(FOLDER / "compare_sgd.png")
    print(f"drew {FOLDER / 'compare_sgd.png'}")


if __name__ == "__main__":
    main()
