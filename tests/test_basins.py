"""Minima and passes: against known stationary points, a flood by brute force, and the reasons why there is none."""

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st

from fpsolve.analyse.basins import (
    StationaryPointError,
    descent,
    entry_into,
    minima_below,
    minimum_near,
    neighbourhood,
    pass_between,
    separation,
    summit_between,
)
from fpsolve.model.grid import Axis, Grid
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import ConstantNoise
from fpsolve.model.problem import Problem

# Newton's method ends within a few roundings of the root; positions and losses here are of order one.
ROUNDING = 1e-12

# The three-hole potential of Metzner, Schuette & Vanden-Eijnden (2006). Its stationary points below were found
# in 30-digit arithmetic from the exact gradient, to the digits given.
THREE_HOLES = (
    "3*exp(-x**2 - (y - 1/3)**2) - 3*exp(-x**2 - (y - 5/3)**2) - 5*exp(-(x - 1)**2 - y**2) - 5*exp(-(x + 1)**2 - y**2)"
    " + 0.2*x**4 + 0.2*(y - 1/3)**4"
)


def problem_of(loss, **axes):
    landscape = Landscape(loss, variables=tuple(axes))
    return Problem(landscape, ConstantNoise(temperature=0.1), Grid(**axes))


@pytest.fixture(scope="module")
def three_holes():
    return problem_of(THREE_HOLES, x=(-2.2, 2.2, 110), y=(-1.6, 2.6, 105))


@pytest.fixture(scope="module")
def two_wells():
    return problem_of("(x**2 - 1)**2 + y**2", x=(-2.0, 2.0, 80), y=(-1.5, 1.5, 60))


@pytest.mark.parametrize(
    ("start", "position", "loss"),
    [
        ([0.7, 0.3], [1.048054992824, -0.04209366630668], -3.9948606018543),
        ([-1.4, -0.6], [-1.048054992824, -0.04209366630668], -3.9948606018543),
        ([0.2, 1.9], [0.0, 1.537082004449], -2.1721536229943),
    ],
)
def test_every_hole_is_found(three_holes, start, position, loss):
    found = minimum_near(three_holes, start)
    assert found.position == pytest.approx(position, abs=ROUNDING)
    assert found.loss == pytest.approx(loss, abs=2e-13)  # the digits given
    assert found.index == 0


def test_the_lowest_pass_of_the_three_holes(three_holes):
    found = pass_between(three_holes, [-1.05, -0.04], three_holes.region("(x - 1)**2 + y**2 < 0.04"))
    # Two mirror images of equal height lie on the way; either is the highest point.
    assert np.abs(found.saddle.position) == pytest.approx([0.6172723078765, 1.102734517508], abs=ROUNDING)
    assert found.saddle.loss == pytest.approx(-1.6466874534753, abs=2e-13)
    diagonal = [1.97757063, -1.05334368]
    assert np.diag(found.saddle.hessian) == pytest.approx(diagonal, abs=1e-8)  # the digits given
    assert found.saddle.index == 1
    assert found.begins == "beyond"


def test_with_the_upper_way_closed_the_lower_pass_is_taken(three_holes):
    closed = three_holes.grid.positions()[1] > 0.5
    target = three_holes.region("(x - 1)**2 + y**2 < 0.04")
    saddle = pass_between(three_holes, [-1.05, -0.04], target, closed).saddle
    assert saddle.position == pytest.approx([0.0, -0.3158265504781], abs=ROUNDING)
    assert saddle.loss == pytest.approx(-1.3845866403985, abs=2e-13)


def test_a_pass_in_three_dimensions():
    problem = problem_of(
        "(x**2 - 1)**2 + (y - 0.3*x)**2 + 2*(z + 0.2*x*y)**2", x=(-1.6, 1.6, 24), y=(-1, 1, 21), z=(-1, 1, 20)
    )
    found = pass_between(problem, [-1.0, -0.3, -0.06], problem.region("x > 0.7"))
    # The two squares vanish at the origin, and so does the gradient; there H = diag(-4, 0, 0) + 2 a a^T + 4 b b^T.
    a, b = np.array([-0.3, 1.0, 0.0]), np.array([0.0, 0.0, 1.0])
    hessian = np.diag([-4.0, 0.0, 0.0]) + 2.0 * np.outer(a, a) + 4.0 * np.outer(b, b)
    assert found.saddle.position == pytest.approx(0.0, abs=ROUNDING)
    assert found.saddle.hessian == pytest.approx(hessian, abs=ROUNDING)
    assert found.saddle.eigenvalues == pytest.approx(np.linalg.eigvalsh(hessian), abs=ROUNDING)


def test_a_periodic_axis_is_gone_round():
    circle = Axis("x", 0.0, 2.0 * np.pi, 90, ("periodic", "periodic"))
    problem = problem_of("cos(2*x) - 0.3*sin(x) + y**2", x=circle, y=(-1.0, 1.0, 31))
    # Minima near pi/2 and 3 pi/2; sin(x) = -0.3/4 at the saddles, which are equally high.
    target = problem.region("(x - 4.7)**2 + y**2 < 0.04")
    first = pass_between(problem, [1.6, 0.0], target)
    second = pass_between(problem, [1.6, 0.0], target, neighbourhood(problem.grid, first.saddle, 0.3))
    places = sorted([first.saddle.position[0], second.saddle.position[0]])
    assert places == pytest.approx([np.pi + np.arcsin(0.075), 2.0 * np.pi - np.arcsin(0.075)], abs=ROUNDING)


def test_a_loss_given_as_a_function():
    problem = problem_of(lambda x, y: (x**2 - 1) ** 2 + y**2, x=(-2.0, 2.0, 80), y=(-1.5, 1.5, 60))
    # Fourth-order differences of step 0.01 are exact for polynomials of this degree but for rounding, 1e-16/0.01.
    assert minimum_near(problem, [-0.8, 0.4]).position == pytest.approx([-1.0, 0.0], abs=1e-11)
    saddle = pass_between(problem, [-1.0, 0.0], problem.region("x > 0.5")).saddle
    assert saddle.position == pytest.approx([0.0, 0.0], abs=1e-11)


@pytest.mark.parametrize(
    ("region", "begins"),
    [("x > 0.5", "beyond"), ("x > 0.02", "on"), ("x > 0", "on"), ("x > -0.02", "on"), ("x > -0.09", "before")],
)
def test_where_the_region_begins(two_wells, region, begins):
    found = pass_between(two_wells, [-1.0, 0.0], two_wells.region(region))  # cells of 0.05
    assert found.begins == begins
    assert found.saddle.position == pytest.approx(0.0, abs=ROUNDING)


@pytest.mark.parametrize(
    ("start", "region", "reason"),
    [
        ([-1.0, 0.0], "x > -0.5", "the target, or an absorbing wall, is reached on the way up, at x = -0.475"),
        ([-1.0, 0.0], "x < -0.5", "the start lies in the target"),
        ([-1.0, 0.0], "x > 3", "no way leads from the start to the target"),
        ([-1.0, 0.0], "(x + 1)**2 + y**2 > 0.3", "reached on the way up"),
    ],
)
def test_why_there_is_no_pass(two_wells, start, region, reason):
    with pytest.raises(StationaryPointError) as error:
        pass_between(two_wells, start, two_wells.region(region))
    assert reason in error.value.found


def test_a_flat_top_is_no_pass():
    problem = problem_of("max(x**2 - 0.25, 0)*(x**2 - 2) + y**2", x=(-2.0, 2.0, 80), y=(-1.0, 1.0, 41))
    with pytest.raises(StationaryPointError) as error:
        pass_between(problem, [-0.7, 0.0], problem.region("x > 0.8"))
    assert "no index-1 saddle between start and target: the highest point of the lowest way" in error.value.found


def test_no_way_when_all_is_closed(two_wells):
    closed = np.abs(two_wells.grid.positions()[0]) < 0.1
    with pytest.raises(StationaryPointError, match="no way leads from the start to the target"):
        pass_between(two_wells, [-1.0, 0.0], two_wells.region("x > 0.8"), closed)


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        ([0.0, 0.0], "the way down from x = 0, y = 0 ends on a ridge, at x = 0, y = 0"),
        ([0.0, 0.7], "the way down from x = 0, y = 0.7 ends on a ridge, at x = 0, y = 0"),
    ],
)
def test_a_start_on_the_ridge_belongs_to_no_minimum(two_wells, start, reason):
    with pytest.raises(StationaryPointError) as error:
        minimum_near(two_wells, start)
    assert reason in error.value.found
    assert "Move the start" in str(error.value)


def test_a_slope_down_to_a_wall_holds_no_minimum():
    problem = problem_of("x + y**2", x=(-1.0, 1.0, 20), y=(-1.0, 1.0, 20))
    with pytest.raises(
        StationaryPointError, match=r"the loss falls from x = 0\.5, y = 0\.2 all the way to a wall, at x = -1"
    ):
        minimum_near(problem, [0.5, 0.2])


def test_a_drift_without_a_loss_has_no_minimum():
    landscape = Landscape(drift=["-x"], variables=("x",))
    problem = Problem(landscape, ConstantNoise(diffusion=[[0.1]]), Grid(x=(-1.0, 1.0, 20)))
    with pytest.raises(StationaryPointError, match="the landscape gives a drift and no loss"):
        minimum_near(problem, [0.5])


def test_a_minimum_without_curvature_is_found():
    # Newton's steps shrink by 2/3 only; a hundred of them leave 1e-9 of the way.
    assert minimum_near(problem_of("x**4", x=(-1.0, 1.0, 20)), [0.8]).position == pytest.approx(0.0, abs=1e-9)


@given(
    st.floats(0.1, 50.0), st.floats(0.1, 50.0), st.floats(0.0, 3.0), st.floats(-0.9, 0.9), st.floats(-0.9, 0.9),
    st.floats(-0.9, 0.9), st.floats(-0.9, 0.9),
)  # fmt: skip
def test_a_quadratic_well_has_one_minimum(stiff, soft, angle, x, y, from_x, from_y):
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    h = rotation @ np.diag([stiff, soft]) @ rotation.T
    terms = f"0.5*{h[0, 0]!r}*(x-({x!r}))**2 + 0.5*{h[1, 1]!r}*(y-({y!r}))**2 + ({h[0, 1]!r})*(x-({x!r}))*(y-({y!r}))"
    problem = problem_of(terms.replace("np.float64", ""), x=(-1.0, 1.0, 20), y=(-1.0, 1.0, 25))
    found = minimum_near(problem, [from_x, from_y])
    # Rounding of the gradient over the softest curvature: 1e-16 * 50 / 0.1.
    assert found.position == pytest.approx([x, y], abs=ROUNDING)
    assert found.eigenvalues == pytest.approx(sorted([stiff, soft]), rel=ROUNDING)


def test_the_way_down_falls_in_steps_of_a_cell(three_holes):
    way = descent(three_holes, [0.1, -1.2])
    losses = three_holes.landscape.loss(way.T)
    assert (np.diff(losses) < 0.0).all()
    # At most one cell along each of the two principal directions; separation takes the larger coordinate.
    steps = [separation(three_holes.grid, *ends) for ends in zip(way[1:], way[:-1], strict=True)]
    assert max(steps) <= np.sqrt(2.0) + ROUNDING


def test_where_a_way_enters_a_region(two_wells):
    region = two_wells.region("x > 0.51")
    way = np.array([[0.0, 0.0], [0.4, 0.1], [0.6, 0.2], [0.9, 0.2]])
    assert entry_into(two_wells, way, region) == pytest.approx([0.51, 0.155], abs=ROUNDING)
    assert entry_into(two_wells, way[2:], region) == pytest.approx([0.6, 0.2], abs=ROUNDING)
    assert entry_into(two_wells, way[:2], region) is None


def test_minima_on_this_side_of_a_pass(three_holes):
    saddle = pass_between(three_holes, [-1.05, -0.04], three_holes.region("(x - 1)**2 + y**2 < 0.04")).saddle
    open_everywhere = np.zeros(three_holes.grid.size, dtype=bool)
    alone = minima_below(three_holes, [-1.05, -0.04], saddle.loss - 0.01, open_everywhere)
    assert [point.loss for point in alone] == pytest.approx([-3.9948606018543], abs=2e-13)
    three = minima_below(three_holes, [-1.05, -0.04], saddle.loss + 0.1, open_everywhere)
    assert [point.loss for point in three] == pytest.approx(
        [-3.9948606018543, -3.9948606018543, -2.1721536229943], abs=2e-13
    )


@pytest.mark.parametrize("seed", range(8))
def test_the_summit_is_where_a_flood_breaks_through(seed):
    """Flooded from below, start and target become one lake at the height of the summit cell, and no earlier."""
    generator = np.random.default_rng(seed)
    waves, phases, sizes = (
        generator.uniform(-3.0, 3.0, (12, 2)),
        generator.uniform(0.0, 6.3, 12),
        generator.normal(size=12),
    )

    def loss(x, y):
        return sum(a * np.cos(k[0] * x + k[1] * y + p) for a, k, p in zip(sizes, waves, phases, strict=True))

    problem = problem_of(loss, x=(-3.0, 3.0, 40), y=(-3.0, 3.0, 31))
    grid = problem.grid
    start, target = [-2.5, -2.0], problem.region("x > 2 and y > 1.5")
    summit = summit_between(problem, start, target)
    heights = problem.landscape.loss(grid.positions())
    inside = grid.shaped(target.level(grid.positions()) > 0.0)

    def connected(level):
        lakes, _ = scipy.ndimage.label(grid.shaped(heights <= level))
        lake = lakes[3, 5]  # the cell of the start: (-2.5 + 3) / 0.15 = 3.3, (-2 + 3) / 0.19 = 5.2
        return lake > 0 and bool((lakes[inside] == lake).any())

    assert connected(heights[summit])
    assert not connected(np.nextafter(heights[summit], -np.inf))
