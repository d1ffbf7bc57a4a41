"""Escape times at any barrier: the rotated quartic well with constant noise, against the exact integral in log space.

L = (u**2 - 1)**2 + the squares of the other turned coordinates, D = T I, from u = -1 to u > 0.5. The turned coordinates
are independent, so the time is that of the line u, exactly. The barrier over the noise is 1 / T.
"""

import math

import numpy as np
import pytest
from exact import WEIGHTS, panels, running_integral

import fpsolve

FROM, TO = -1.0, 0.5
ANGLE = 0.4


def log_exact(noise: float, lower: float = -2.4) -> float:
    """Logarithm of (1/T) times the integral over y from -1 to 0.5 of e^(U(y)/T) times that of e^(-U/T) below y.

    The outer integrand is divided by e^(1/T), its largest value, so that nothing overflows at any noise.
    """
    nodes, half = panels(lower, FROM, 4000)
    below = half * float((np.exp(-((nodes**2 - 1.0) ** 2) / noise) @ WEIGHTS).sum())
    nodes, half = panels(FROM, TO, 4000)
    height = (nodes**2 - 1.0) ** 2 / noise
    outer = np.exp(height - 1.0 / noise) * (below + running_integral(np.exp(-height), half))
    return 1.0 / noise + math.log(half * float((outer @ WEIGHTS).sum()) / noise)


def well(noise: float, cells: int, dimensions: int, reach: float) -> fpsolve.Problem:
    """The quartic well, turned by ANGLE in each plane."""
    names = ("x", "y", "z")[:dimensions]
    cosine, sine = math.cos(ANGLE), math.sin(ANGLE)
    loss = {
        1: "(x**2 - 1)**2",
        2: f"(({cosine}*x + {sine}*y)**2 - 1)**2 + (-{sine}*x + {cosine}*y)**2",
        3: (
            f"(({cosine}*({cosine}*x + {sine}*y) + {sine}*z)**2 - 1)**2 + (-{sine}*x + {cosine}*y)**2"
            f" + (-{sine}*({cosine}*x + {sine}*y) + {cosine}*z)**2"
        ),
    }[dimensions]
    grid = fpsolve.Grid(**{name: (-reach, reach, cells) for name in names})
    return fpsolve.Problem(fpsolve.Landscape(loss, variables=names), fpsolve.ConstantNoise(temperature=noise), grid)


def question(dimensions: int) -> dict[str, object]:
    """Start and target in the grid's coordinates."""
    cosine, sine = math.cos(ANGLE), math.sin(ANGLE)
    direction = {1: [1.0], 2: [cosine, sine], 3: [cosine * cosine, cosine * sine, sine]}[dimensions]
    level = " + ".join(f"{part}*{name}" for part, name in zip(direction, "xyz", strict=False))
    return {"start": tuple(FROM * part for part in direction), "target": f"{level} > {TO}"}


def extrapolated(problem: fpsolve.Problem, dimensions: int) -> tuple[float, float]:
    """Logarithm of the extrapolated mean first-passage time, and its relative error bar."""
    found = fpsolve.escape(problem, **question(dimensions), definitions=["mean_first_passage_time"])
    estimate = found.times["mean_first_passage_time"].estimate
    return estimate.log_extrapolated, estimate.error


@pytest.mark.parametrize("barrier", [5, 20, 80, 150, 300, 600])
def test_on_a_line(barrier):
    # Discretisation: 6e-7 at barrier 600, where the well is six cells wide, and less below.
    found, error = extrapolated(well(1.0 / barrier, 1600, 1, 2.0), 1)
    true = abs(math.expm1(found - log_exact(1.0 / barrier)))
    assert true < 1e-6
    assert true <= error


def test_on_a_line_beyond_all_floating_point_numbers():
    problem = well(1.0 / 1500.0, 400, 1, 2.0)
    found = fpsolve.escape(problem, **question(1)).times["mean_first_passage_time"]
    assert found.value is None
    assert found.log10 > 640.0
    # Discretisation: 5e-3 of the time, 4e-6 of its logarithm, at a well of half a cell on the grid of a quarter.
    assert found.estimate.log_extrapolated == pytest.approx(log_exact(1.0 / 1500.0), rel=1e-5)
    finer = well(1.0 / 1500.0, 800, 1, 2.0)
    found = fpsolve.escape(finer, **question(1)).times["mean_first_passage_time"]
    assert found.estimate.log_extrapolated == pytest.approx(log_exact(1.0 / 1500.0), rel=1e-6)


# Cells that a user would choose: a well is 1.3 to 6 cells wide. Discretisation: 2e-5 at most, all of fourth order.
@pytest.mark.parametrize(("barrier", "cells"), [(5, 100), (20, 160), (80, 256), (300, 384)])
def test_in_the_plane(barrier, cells):
    found, error = extrapolated(well(1.0 / barrier, cells, 2, 1.6 if barrier > 100 else 2.0), 2)
    true = abs(math.expm1(found - log_exact(1.0 / barrier)))
    assert true < 1e-4
    assert true <= error


@pytest.mark.slow
def test_in_the_plane_at_barrier_600():
    found, error = extrapolated(well(1.0 / 600.0, 512, 2, 1.6), 2)
    true = abs(math.expm1(found - log_exact(1.0 / 600.0)))
    assert true < 1e-4
    assert true <= error


@pytest.mark.slow
@pytest.mark.parametrize("barrier", [5, 10])
def test_in_space(barrier):
    found, error = extrapolated(well(1.0 / barrier, 40, 3, 2.2), 3)
    true = abs(math.expm1(found - log_exact(1.0 / barrier)))
    assert true < 0.02
    assert true <= error
