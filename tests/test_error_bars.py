"""Error bars hold: twenty fixed escape problems whose times are known, and a well that no coarse grid sees through.

The twenty were fixed before any was run: one and two dimensions, constant and place-dependent noise, gradient and
circulating drifts, 30 to 400 cells per axis. A bar must contain the error in 19 of them (it is meant to be of two
standard deviations) and be at most ten times the error in 15 (a Gaussian error is smaller than that by chance once in
six). The rule itself was measured on 1670 random problems, see fpsolve.analyse.convergence.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
from exact import passage_moments, quartic_passage
from problems import PLANE_AXES, curved_valley, directions, rotated_loud_well, rotated_quartic

from fpsolve.analyse.convergence import Estimate
from fpsolve.analyse.passage_integral import log_passage_time
from fpsolve.discretise.generator import Generator
from fpsolve.model.grid import Axis, Grid
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import ConstantNoise, HessianNoise, TensorNoise
from fpsolve.model.problem import Problem
from fpsolve.model.region import point_weights
from fpsolve.refine import Question, escape, first_passage, refined, resolution_notices
from fpsolve.solve.passage import Passage

QUARTIC = "(x**2 - 1)**2"
FIRST = "mean_first_passage_time"


@dataclass(frozen=True)
class Known:
    """An escape whose logarithm of the mean time is known."""

    name: str
    problem: Problem
    question: Question
    log_time: Callable[[], float]


def line(cells: int, loss: str, noise: object, lower: float = -2.4, upper: float = 2.4) -> Problem:
    return Problem(Landscape(loss, variables=("x",)), noise, Grid(x=(lower, upper, cells)))  # type: ignore[arg-type]


def on_line(name: str, problem: Problem, target: float, psi: Callable, diffusion: Callable) -> Known:
    """A problem of one dimension from -1; psi: the integral of the Ito drift over D."""
    lower, base = problem.grid.axes[0].lower, float(psi(np.array(-1.0)))

    def log_time() -> float:
        return math.log(passage_moments(lambda x: psi(x) - base, diffusion, lower, -1.0, target)[0])

    return Known(name, problem, first_passage((-1.0,), f"x > {target}"), log_time)


def constant(cells: int, depth: float, target: float, tilt: float = 0.0, lower: float = -2.4) -> Known:
    problem = line(cells, f"{QUARTIC} + {tilt}*x", ConstantNoise(temperature=1.0 / depth), lower)
    return on_line(
        f"constant noise, depth {depth:g}, {cells} cells",
        problem,
        target,
        lambda x: -depth * ((x**2 - 1.0) ** 2 + tilt * x),
        lambda x: np.full_like(x, 1.0 / depth),
    )


def tensor(text: str, convention: str) -> TensorNoise:
    return TensorNoise(diffusion=[[text]], convention=convention)  # type: ignore[arg-type]


def louder_outside(cells: int, depth: float) -> Known:
    """D = (1 + 0.8 x**2) / depth, Ito: psi = -2 depth integral of (s - 1) / (1 + 0.8 s), s = x**2."""

    def psi(x):
        s = x**2
        return -2.0 * depth * (s / 0.8 - 1.8 / 0.64 * np.log1p(0.8 * s))

    noise = tensor(f"(1 + 0.8*x**2)/{depth}", "ito")
    return on_line("louder outside", line(cells, QUARTIC, noise), 0.5, psi, lambda x: (1.0 + 0.8 * x**2) / depth)


def louder_ahead(cells: int, depth: float) -> Known:
    """D = exp(x) / depth, isothermal: psi = x - 4 depth integral of (x**3 - x) exp(-x)."""
    return on_line(
        "louder ahead",
        line(cells, QUARTIC, tensor(f"exp(x)/{depth}", "isothermal"), lower=-1.8),
        0.4,
        lambda x: x + 4.0 * depth * np.exp(-x) * (x**3 + 3.0 * x**2 + 5.0 * x + 5.0),
        lambda x: np.exp(x) / depth,
    )


def quieter_ahead(cells: int, depth: float) -> Known:
    """D = exp(-x) / depth, Ito: psi = -4 depth integral of (x**3 - x) exp(x)."""
    return on_line(
        "quieter ahead",
        line(cells, QUARTIC, tensor(f"exp(-x)/{depth}", "ito"), upper=1.5),
        0.6,
        lambda x: -4.0 * depth * np.exp(x) * (x**3 - 3.0 * x**2 + 5.0 * x - 5.0),
        lambda x: np.exp(-x) / depth,
    )


def hessian(cells: int, strength: float, floor: float) -> Known:
    """D = strength sqrt(h**2 + floor**2), h = L'' = 12 x**2 - 4, so that L' dx = (h - 8) dh / 72."""

    def psi(x):
        h = 12.0 * x**2 - 4.0
        return (8.0 * np.arcsinh(h / floor) - np.hypot(h, floor)) / (72.0 * strength)

    noise = HessianNoise(learning_rate=2.0 * strength, batch_size=1, projection="abs", floor=floor)
    problem = line(cells, QUARTIC, noise, lower=-2.2, upper=0.8)
    return on_line(f"Hessian, floor {floor:g}", problem, 0.0, psi, lambda x: strength * np.hypot(12 * x**2 - 4, floor))


def rotated(cells: int, depth: float) -> Known:
    u, start = "(cos(0.4)*x + sin(0.4)*y)", (-math.cos(0.4), -math.sin(0.4))
    problem, question = rotated_quartic(cells, 1.0 / depth), first_passage(start, f"{u} > 0.5")
    name = f"rotated quartic, depth {depth:g}, {cells} cells"
    return Known(name, problem, question, lambda: math.log(quartic_passage(1.0 / depth, 0.5)[0]))


def loud(cells: int) -> Known:
    """Along q1 on its own: drift -4 q (q**2 - 1), D = (1 + 0.8 q**2) / 4, so psi is that of `louder_outside`."""
    start, q1 = tuple(-PLANE_AXES[0]), directions(PLANE_AXES)[0]

    def log_time() -> float:
        potential = lambda q: -8.0 * (q**2 / 0.8 - 1.8 / 0.64 * np.log1p(0.8 * q**2))  # noqa: E731
        return math.log(passage_moments(potential, lambda q: 0.25 * (1.0 + 0.8 * q**2), -3.5, -1.0, 0.5)[0])

    return Known(f"loud well, {cells} cells", rotated_loud_well(cells), first_passage(start, f"{q1} > 0.5"), log_time)


def circulating_well(cells: int, temperature: float) -> Problem:
    """-grad U + R grad U, R the quarter turn, U = (x**2 - 1)**2 + y**2; the wall at x = 0.8 absorbs."""
    extra = ["-2*y", "4*x*(x**2 - 1)"]
    landscape = Landscape("(x**2 - 1)**2 + y**2", variables=("x", "y"), extra_drift=extra)
    x = Axis("x", -2.2, 0.8, cells, ("reflecting", "absorbing"))
    return Problem(landscape, ConstantNoise(temperature=temperature), Grid(x=x, y=(-2.5, 2.5, cells)))


def until_the_wall(problem: Problem) -> dict[str, float]:
    """The question of the time from (-1, 0) to an absorbing wall."""
    times, start = Passage.of(Generator.of(problem)).mean_time, point_weights(problem.grid, (-1.0, 0.0), "start")
    return {FIRST: float((times[start.cells] * start.weights).sum().log())}


# ln(time) by temperature: grids of 320, 480, 720 and 1080 cells per axis, extrapolated at order 2 from the last two
# (which gave 9.889481, 9.889481; 19.87257, 19.87258; 49.86143, 49.86300, of which a fifth of the change is to come).
# The law of Bouchet & Reygner (2016) has 49.87 for the last.
CIRCULATING = {0.1: 9.889481, 0.05: 19.872586, 0.02: 49.8634}


def circulating(cells: int, temperature: float) -> Known:
    name = f"circulating, T = {temperature:g}, {cells} cells"
    return Known(name, circulating_well(cells, temperature), until_the_wall, lambda: CIRCULATING[temperature])


# ln(time) of the curved valley by temperature, as above from 576 and 800 cells per axis (before: 384 and 576, which
# gave the same to 2e-6).
VALLEY = {0.05: 7.344681, 0.025: 14.789728}


def valley(cells: int, temperature: float) -> Known:
    """From (u, v) = (-1, 0.3) to u > 0.8; the noise is the Hessian's, so that the drift over it is no gradient."""
    c, s = math.cos(0.4), math.sin(0.4)
    question = first_passage((-c - 0.3 * s, -s + 0.3 * c), f"({c!r}*x + {s!r}*y) > 0.8")
    name = f"curved valley, T = {temperature:g}, {cells} cells"
    return Known(name, curved_valley(cells, temperature), question, lambda: VALLEY[temperature])


CASES = (
    partial(constant, 100, 5.0, 0.5),
    partial(constant, 40, 20.0, 0.5),
    partial(constant, 200, 80.0, 0.5, lower=-1.9),
    partial(constant, 64, 10.0, 0.0),
    partial(constant, 128, 15.0, 0.3, tilt=0.25),
    partial(louder_outside, 50, 12.0),
    partial(louder_ahead, 300, 8.0),
    partial(quieter_ahead, 400, 40.0),
    partial(hessian, 150, 0.05, 1.0),
    partial(hessian, 256, 0.1, 0.1),
    partial(rotated, 30, 5.0),
    partial(rotated, 64, 20.0),
    partial(rotated, 128, 10.0),
    partial(loud, 48),
    partial(loud, 100),
    partial(circulating, 80, 0.1),
    partial(circulating, 129, 0.05),
    partial(circulating, 160, 0.02),
    partial(valley, 60, 0.05),
    partial(valley, 120, 0.025),
)


def judged(known: Known) -> tuple[float, float, Estimate]:
    """The relative error of the extrapolated time, the bar, and the estimate."""
    estimate = refined(known.problem, known.question)[FIRST]
    assert estimate.error is not None
    return abs(math.expm1(known.log_time() - estimate.log_extrapolated)), estimate.error, estimate


def test_bars_hold_in_nineteen_of_twenty_and_are_tight_in_fifteen():
    found = []
    for case in CASES:
        known = case()
        error, bar, _ = judged(known)
        found.append((known.name, error, bar))
    lines = "\n".join(f"{name:45s} error {error:.1e}, bar {bar:.1e}" for name, error, bar in found)
    assert sum(error <= bar for _, error, bar in found) >= 19, lines
    assert sum(bar <= 10.0 * error for _, error, bar in found) >= 15, lines


@pytest.mark.parametrize("cells", [33, 65, 129, 257])
def test_bar_holds_where_a_deep_well_circulates(cells):
    # ln(time) is 1.3, 0.35, 0.07 and 0.01 short on these grids, and up to 1.9 on their coarser ones: no law until 129.
    error, bar, estimate = judged(circulating(cells, 0.02))
    assert error <= bar
    assert estimate.clean == (cells >= 129)
    assert (estimate.reason is None) == estimate.clean


def test_shallow_circulating_well_is_clean():
    error, bar, estimate = judged(circulating(513, 0.1))  # orders 2.22, 2.15, 2.10 on 257, 321, 401 cells
    assert estimate.clean
    assert estimate.reason is None
    assert estimate.order == pytest.approx(2.0, abs=0.1)
    assert error <= bar <= 1e-3


def test_notice_says_that_the_resolution_is_short_and_what_would_do():
    problem = circulating_well(64, 0.02)
    problem = problem.on(Grid(x=(-2.2, 1.5, 64), y=(-2.5, 2.5, 64)))
    found = escape(problem, start=(-1.0, 0.0), target="x > 0.8", definitions=(FIRST,))
    notice, wells = resolution_notices(problem, found)
    assert [notice.code, wells.code] == ["short_resolution", "under_resolved"]
    assert "the well at x = 1, y = 0 is" in wells.message
    for words in (
        "not yet 2",
        "the minimum at x = -1, y = 0 is",
        "cells would do",
        "x.refine = [{ at = -1, by = 9.2 }, { at = 0, by = 9.2 }, { at = 1, by = 9.2 }]",
    ):
        assert words in notice.message


@pytest.mark.parametrize("floor", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("cells", [173, 400, 801])
def test_bar_holds_where_a_layer_of_almost_no_noise_is_under_a_cell_wide(cells, batch_size, floor):
    noise = HessianNoise(learning_rate=0.1, batch_size=batch_size, projection="abs", floor=floor)
    problem = line(cells, QUARTIC, noise, -2.0, 2.0)
    exact = log_passage_time(problem, -1.0, (-2.0, 0.5), (False, True))
    error, bar, estimate = judged(Known("layer", problem, first_passage((-1.0,), "x > 0.5"), lambda: exact))
    assert error <= bar <= 5e-3
    assert "layer of almost no noise" in estimate.reason


@pytest.mark.parametrize("cells", [60, 240])
def test_time_that_is_infinite_has_no_bar(cells):
    # Nothing confines a particle beside -exp(-x**2): its excursions have an infinite mean.
    grid = Grid(x=Axis("x", -math.inf, math.inf, cells, scale=1.0))
    problem = Problem(Landscape("-exp(-x**2)", variables=("x",)), ConstantNoise(temperature=0.2), grid)
    found = escape(problem, start=(0.0,), target="x > 2", definitions=(FIRST,))
    estimate = found.times[FIRST].estimate
    assert estimate.error is None
    assert estimate.reason.endswith("may be infinite: nothing confines the process far out")
    assert [notice.code for notice in resolution_notices(problem, found)] == ["no_limit"]
    assert "does not converge" in found.theory["exact_integral"].reason


@pytest.mark.parametrize("loss", ["(x**2 - 1)**2", "0.8*log(1 + x**2)"])
def test_infinite_axes_that_confine_have_bars(loss):
    # The second has a density at rest of 1 / (1 + x**2)**4.
    grid = Grid(x=Axis("x", -math.inf, math.inf, 120, scale=1.0))
    problem = Problem(Landscape(loss, variables=("x",)), ConstantNoise(temperature=0.2), grid)
    found = escape(problem, start=(-1.0,), target="x > 1", definitions=(FIRST,))
    estimate, exact = found.times[FIRST].estimate, found.theory["exact_integral"]
    assert exact.applies
    assert abs(math.expm1(estimate.log_extrapolated - exact.log_time)) <= estimate.error <= 1e-2


def test_no_notice_where_the_grid_resolves():
    problem = rotated_quartic(128, 0.1)
    found = escape(problem, start=(-math.cos(0.4), -math.sin(0.4)), target="x > 0.6", definitions=(FIRST,))
    assert resolution_notices(problem, found) == []


@pytest.mark.slow
def test_bars_of_random_problems():
    """A hundred problems of one dimension that the rule was not made for.

    On 1200 others of the same kind the bar held in 0.97 and was at most ten times the error in 0.66 (edges that
    converge faster than second order leave less error than the bar allows for); the thresholds are these less 2.5
    standard errors of a share of 100.
    """
    rng, held, tight = np.random.default_rng(2024), [], []
    while len(held) < 100:
        tilt, ripple, depth = rng.uniform(-0.3, 0.3), rng.uniform(0.0, 0.2), math.exp(rng.uniform(1.0, 4.5))
        loss = f"{QUARTIC} + {tilt:.6f}*x + {ripple:.6f}*sin(4*x)"
        noise = random_noise(rng, 1.0 / depth)
        problem = line(round(math.exp(rng.uniform(3.4, 6.0))), loss, noise, rng.uniform(-2.6, -1.8), 2.0)
        start, target = round(rng.uniform(-1.1, -0.9), 6), round(rng.uniform(0.0, 0.8), 6)
        exact = log_passage_time(problem, start, (problem.grid.axes[0].lower, target), (False, True))
        known = Known("random", problem, first_passage((start,), f"x > {target}"), lambda exact=exact: exact)
        error, bar, _ = judged(known)
        held.append(error <= bar)
        tight.append(bar <= 10.0 * error)
    assert np.mean(held) >= 0.93
    assert np.mean(tight) >= 0.54


def random_noise(rng: np.random.Generator, temperature: float):
    kind = rng.integers(3)
    if kind == 0:
        return ConstantNoise(temperature=temperature)
    if kind == 1:
        wave = f"{temperature:.6g}*(1 + {rng.uniform(-0.8, 0.8):.6f}*sin({rng.uniform(1.0, 3.0):.6f}*x))"
        return tensor(wave, str(rng.choice(["ito", "isothermal"])))
    floor = math.exp(rng.uniform(-1.0, 1.5))
    return HessianNoise(learning_rate=0.5 * temperature, batch_size=1, projection="abs", floor=floor)
