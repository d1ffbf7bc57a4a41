"""The floor of Hessian-proportional noise: escape times from the smallest floors, and how they depend on it.

The quartic well (x**2 - 1)**2 with D = c f(12 x**2 - 4): the noise vanishes at x = -1/sqrt(3) without a floor, and the
time from -1 to 0 grows as floor**(-2 / (9 c)).
"""

import math
import re
import tomllib
from dataclasses import replace

import numpy as np
import pytest
from exact import integral
from problems import with_loss

from fpsolve.analyse.floor import FloorLayer, climb, floor_law, graded, narrowest_layer
from fpsolve.analyse.passage_integral import log_passage_time
from fpsolve.errors import Notice
from fpsolve.model.grid import Axis, Grid
from fpsolve.model.landscape import Landscape
from fpsolve.model.maps import Refinement
from fpsolve.model.noise import HessianNoise
from fpsolve.model.problem import Problem
from fpsolve.refine import FIRST, escape, escape_floor, first_passage, floor_sensitivity, refined, resolution_notices

QUARTIC = "(x**2 - 1)**2"
INFLECTION, KAPPA = -1.0 / math.sqrt(3.0), 24.0 / math.sqrt(3.0)
TO_THE_SADDLE = first_passage((-1.0,), "x > 0")

# log10 of the time from -1 to 0, reflecting at -4, by floor, for c = 0.05, "abs" and "smooth": nested Gauss-Legendre
# quadrature in double precision, checked against mpmath and an initial value problem.
LOG10_TIMES = {3.0: 1.93845970247, 1.0: 3.83809802161, 0.1: 8.24944064611, 0.01: 12.69354652, 1e-6: 30.4713208772}


def quartic(floor: float, cells: int, strength: float = 0.05, kind: str = "smooth", *, finer: bool = True) -> Problem:
    noise = HessianNoise(
        learning_rate=2.0 * strength,
        batch_size=1,
        projection="abs",
        floor=floor,
        floor_kind=kind,  # type: ignore[arg-type]
    )
    axis = Axis("x", -4.0, 0.25, cells)
    if finer:
        layer = FloorLayer(math.nan, floor / KAPPA, (INFLECTION,))
        axis = replace(axis, refine=(graded(axis, layer),))
    return Problem(Landscape(QUARTIC, variables=("x",)), noise, Grid(x=axis))


@pytest.mark.parametrize("floor", LOG10_TIMES)
def test_times_down_to_the_smallest_floor(floor):
    # One refinement. Order 2: ln(time) on the finest grid is off by (0.08 / (cells / 100))**2 or less.
    estimate = refined(quartic(floor, 800), TO_THE_SADDLE)[FIRST]
    assert estimate.log_value / math.log(10.0) == pytest.approx(LOG10_TIMES[floor], abs=1e-4)
    assert estimate.log10 == pytest.approx(LOG10_TIMES[floor], abs=1e-4)
    assert abs(estimate.log10 - LOG10_TIMES[floor]) * math.log(10.0) <= math.log1p(estimate.error)


@pytest.mark.parametrize(("strength", "floor"), [(0.05, 0.1), (0.05, 1e-3), (0.1, 0.1), (0.2, 1.0)])
def test_exponent_is_the_derivative_of_the_exact_time(strength, floor):
    found = floor_sensitivity(quartic(floor, 400, strength), TO_THE_SADDLE)
    low, high = (
        log_passage_time(quartic(floor * math.exp(step), 4, strength), -1.0, (-4.0, 0.0), (False, True))
        for step in (-1e-3, 1e-3)
    )
    # Asked on half the cells: 1e-3 of ln(time) there, of which most cancels in the difference.
    assert found.exponent == pytest.approx((high - low) / 2e-3, rel=0.02)


@pytest.mark.parametrize("strength", [0.05, 0.1])
def test_exponent_tends_to_the_law_of_a_vanishing_floor(strength):
    problem = quartic(1e-3, 400, strength)
    target = problem.region("x > 0")
    found = floor_sensitivity(problem, TO_THE_SADDLE, start=(-1.0,), target=target)
    assert found.law == pytest.approx(-2.0 / (9.0 * strength), rel=1e-9)
    assert found.exponent == pytest.approx(found.law, rel=5e-3)  # corrections of order floor, and LOG_STEP**2


def test_law_counts_what_is_passed_uphill_only():
    noise = HessianNoise(learning_rate=0.1, batch_size=1, projection="abs", floor=0.01)
    problem = Problem(Landscape(QUARTIC, variables=("x",)), noise, Grid(x=(-4.0, 4.0, 80)))
    over = floor_law(problem, -1.0, problem.region("x > 0.9"))
    assert over == pytest.approx(-2.0 / 0.45, rel=1e-9)
    assert floor_law(problem, 0.0, problem.region("x > 0.9")) == 0.0
    assert floor_law(problem, -1.0, problem.region("x > 9")) is None


def test_share_is_the_floors_part_of_the_exponent():
    # The integral of L'/D, weighted by floor dD/dfloor / D = floor**2 / (h**2 + floor**2). The prefactor of the time
    # depends on floor and noise too, as powers of order one beside exponents of 4.4 and 20.
    floor, strength = 0.1, 0.05
    slope = lambda x: 4.0 * x * (x**2 - 1.0)  # noqa: E731
    size = lambda x: np.hypot(12.0 * x**2 - 4.0, floor)  # noqa: E731
    whole = integral(lambda x: slope(x) / size(x), -1.0, 0.0, 4000)
    part = integral(lambda x: slope(x) / size(x) * (floor / size(x)) ** 2, -1.0, 0.0, 4000)
    found = floor_sensitivity(quartic(floor, 400, strength), TO_THE_SADDLE)
    assert found.share == pytest.approx(part / whole, rel=0.02)


def test_kinds_of_floor_differ_by_powers_of_two_and_e():
    # smooth : additive : maximum = 2**p : 1 : e**p as the floor vanishes (the integral through the layer).
    strength, floor = 0.1, 1e-4
    smooth, additive, largest = (
        refined(quartic(floor, 800, strength, kind), TO_THE_SADDLE)[FIRST].log_extrapolated
        for kind in ("smooth", "additive", "maximum")
    )
    p = 2.0 / (9.0 * strength)
    assert smooth - additive == pytest.approx(p * math.log(2.0), abs=5e-3)
    assert largest - additive == pytest.approx(p, abs=5e-3)


def test_layer_is_measured_in_cells():
    layer = narrowest_layer(quartic(0.1, 850, finer=False))
    assert layer.cells == pytest.approx(0.1 / KAPPA / 0.005, rel=0.02)  # the third derivative varies by 1 % a cell
    assert layer.width == pytest.approx(0.1 / KAPPA, rel=0.02)
    assert layer.position[0] == pytest.approx(INFLECTION, abs=1e-9)


def test_layer_in_two_dimensions_lies_where_an_eigenvalue_vanishes():
    grid = Grid(x=(-2.0, 2.0, 80), y=(-2.0, 2.0, 40))
    noise = HessianNoise(learning_rate=0.1, batch_size=1, projection="abs", floor=0.5)
    layer = narrowest_layer(Problem(Landscape(f"{QUARTIC} + y**2", variables=("x", "y")), noise, grid))
    assert layer.cells == pytest.approx(0.5 / KAPPA / 0.05, rel=0.1)
    assert abs(layer.position[0]) == pytest.approx(-INFLECTION, abs=0.05)


def test_only_layers_on_the_way_count():
    noise = HessianNoise(learning_rate=0.1, batch_size=1, projection="abs", floor=0.1)
    problem = Problem(Landscape(QUARTIC, variables=("x",)), noise, Grid(x=(-2.0, 2.0, 200)))
    relevant = problem.grid.positions()[0] > 1.0
    assert narrowest_layer(problem) is not None
    assert narrowest_layer(problem, relevant) is None


def test_dominant_and_unresolved_floors_are_named():
    problem = quartic(0.01, 200, finer=False)
    found = escape(problem, start=(-1.0,), target="x > 0", definitions=(FIRST,), grids=1)
    notices = {notice.code: notice.message for notice in escape_floor(problem, found).notices()}
    assert "d ln(time) / d ln(floor) = -4.4" in notices["floor_dominates"]
    assert "cells wide at x = -0.57735" in notices["floor_unresolved"]
    assert "x.refine = [{ at = -0.57735, by = 340, width = 0.00072 }]" in notices["floor_unresolved"]
    assert "times the cells" not in notices["floor_unresolved"]  # 29 times


@pytest.mark.parametrize("floor", [0.1, 0.01, 1e-6])
def test_the_refinement_that_the_notice_names_resolves_the_layer(floor):
    problem = quartic(floor, 400, finer=False)
    (notice,) = (one for one in said_of_the_floor(problem) if one.code == "floor_unresolved")
    table = tomllib.loads(re.search(r"x\.(refine = \[.*?\])", notice.message)[1])
    axis = replace(problem.grid.axes[0], refine=tuple(Refinement(**entry) for entry in table["refine"]))
    finer = problem.on(Grid(x=axis))
    assert [one.code for one in said_of_the_floor(finer)] == ["floor_dominates"]
    estimate = refined(finer, TO_THE_SADDLE)[FIRST]
    assert estimate.log10 == pytest.approx(LOG10_TIMES[floor], abs=1e-6)  # 1.7e-4 on 400 cells, before extrapolation
    assert estimate.clean


def test_the_layer_of_an_infinite_axis_is_refined_too():
    problem = quartic(1e-4, 400, finer=False)
    axis = Axis("x", -math.inf, 0.25, 400, scale=1.0)
    layer = narrowest_layer(problem.on(Grid(x=axis)))
    finer = problem.on(Grid(x=replace(axis, refine=(graded(axis, layer),))))
    assert narrowest_layer(finer).cells > 4.0
    exact = log_passage_time(problem, -1.0, (-4.0, 0.0), (False, True))
    assert refined(finer, TO_THE_SADDLE)[FIRST].log_extrapolated == pytest.approx(exact, abs=1e-4)


def test_layers_that_are_passed_downhill_are_silent():
    axis = Axis("x", -2.0, 2.0, 400)
    axis = replace(axis, refine=(graded(axis, FloorLayer(math.nan, 1e-3 / KAPPA, (INFLECTION,))),))
    noise = HessianNoise(learning_rate=0.1, batch_size=1, projection="abs", floor=1e-3)
    problem = Problem(Landscape(QUARTIC, variables=("x",)), noise, Grid(x=axis))
    assert narrowest_layer(problem).cells < 0.1
    found = escape(problem, start=(-1.0,), target="x > 0.9", definitions=(FIRST, "transition_path"))
    assert [notice.code for notice in escape_floor(problem, found).notices()] == ["floor_dominates"]
    assert found.times[FIRST].estimate.error < 1e-3
    assert narrowest_layer(problem, climb(problem, (-1.0,), problem.region("x > 0.9"))).cells > 4.0
    assert resolution_notices(problem, found) == []


def said_of_the_floor(problem: Problem) -> list[Notice]:
    """What is said about the floor of an escape to the saddle."""
    found = escape(problem, start=(-1.0,), target="x > 0", definitions=(FIRST, "transition_path"), grids=1)
    return escape_floor(problem, found).notices()


def test_floor_that_matters_little_is_not_named():
    # A floor far above the curvature: D is nearly constant, and the layer many cells wide.
    problem = quartic(60.0, 200, strength=0.01, finer=False)
    found = floor_sensitivity(problem, TO_THE_SADDLE)
    assert found.exponent == pytest.approx(found.exponent)
    assert [notice.code for notice in found.notices() if notice.code == "floor_unresolved"] == []


def test_other_noise_has_no_floor():
    problem = with_loss(Grid(x=(-2.0, 2.0, 50)), QUARTIC, 0.1)
    assert floor_sensitivity(problem, TO_THE_SADDLE) is None
    assert narrowest_layer(problem) is None
