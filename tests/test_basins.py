"""Minima, passes and basins: against known stationary points, floods and steepest descents by brute force."""

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import THREE_HOLES
from scipy.integrate import solve_ivp

from fpsolve.analyse.basins import MOST_BASINS, basin_region, find_basins
from fpsolve.analyse.flow import fall
from fpsolve.analyse.geometry import cells_at, separation
from fpsolve.analyse.passes import entry_into, minima_below, neighbourhood, pass_between, summit_between
from fpsolve.analyse.stationary_points import StationaryPointError, descent, minimum_near
from fpsolve.analyse.watershed import OUTSIDE
from fpsolve.discretise.generator import Generator
from fpsolve.model.grid import Axis, Grid
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import ConstantNoise
from fpsolve.model.problem import Problem

# Newton's method ends within a few roundings of the root; positions and losses here are of order one.
ROUNDING = 1e-12

# The potential of Mueller & Brown, Theor. Chim. Acta 53, 75 (1979). Its stationary points below, and those of the three
# holes, were found in 30-digit arithmetic from the exact gradient, to the digits given.
MUELLER_BROWN = (
    "-200*exp(-(x - 1)**2 - 10*y**2) - 100*exp(-x**2 - 10*(y - 0.5)**2)"
    " - 170*exp(-6.5*(x + 0.5)**2 + 11*(x + 0.5)*(y - 1.5) - 6.5*(y - 1.5)**2)"
    " + 15*exp(0.7*(x + 1)**2 + 0.6*(x + 1)*(y - 1) + 0.7*(y - 1)**2)"
)
MUELLER_BROWN_MINIMA = [
    ([-0.558223634633, 1.441725841805], -146.69951720995),
    ([0.6234994049309, 0.02803775852869], -108.16672411685),
    ([-0.05001082299821, 0.466694104872], -80.767818129659),
]
MUELLER_BROWN_SADDLES = [
    ([0.2124865820007, 0.2929883251074], -72.248940112325),
    ([-0.8220015587327, 0.6243128028149], -40.664843508657),
]


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


def turned(loss_along, loss_across, angle=0.4):
    """A loss of u and v, the axes turned by an angle."""
    c, s = float(np.cos(angle)), float(np.sin(angle))
    return loss_along.replace("u", f"({c!r}*x + {s!r}*y)") + "+" + loss_across.replace("v", f"({c!r}*y - {s!r}*x)")


def test_basins_of_the_quartic_well():
    basins = find_basins(problem_of("(x**2 - 1)**2", x=(-2.0, 2.0, 50)))
    assert np.concatenate([point.position for point in basins.minima]) == pytest.approx([-1.0, 1.0], abs=ROUNDING)
    (saddle,) = basins.saddles
    assert saddle.point.position == pytest.approx([0.0], abs=ROUNDING)
    assert saddle.basins == (0, 1)
    assert saddle.heights == pytest.approx((1.0, 1.0), abs=ROUNDING)
    assert saddle.thermal_heights == pytest.approx((10.0, 10.0), abs=10.0 * ROUNDING)
    assert (basins.label == np.repeat([0, 1], 25)).all()


def test_basins_of_the_three_holes(three_holes):
    basins = find_basins(three_holes)
    found = np.array([point.position for point in basins.minima])
    holes = [[-1.048054992824, -0.04209366630668], [1.048054992824, -0.04209366630668], [0.0, 1.537082004449]]
    assert found == pytest.approx(np.array(holes), abs=ROUNDING)
    assert [point.loss for point in basins.minima] == pytest.approx(
        [-3.9948606018543, -3.9948606018543, -2.1721536229943], abs=2e-13
    )
    passes = np.array([saddle.point.position for saddle in basins.saddles])
    upper = [0.6172723078765, 1.102734517508]
    assert passes == pytest.approx(np.array([[-upper[0], upper[1]], upper, [0.0, -0.3158265504781]]), abs=ROUNDING)
    assert [saddle.basins for saddle in basins.saddles] == [(0, 2), (1, 2), (0, 1)]
    assert basins.saddles[2].heights == pytest.approx((2.6102739614558, 2.6102739614558), abs=4e-13)
    left, right, upper_cells = np.bincount(basins.label)
    assert left == right
    assert left + right + upper_cells == three_holes.grid.size


def test_basins_of_the_mueller_brown_potential():
    basins = find_basins(problem_of(MUELLER_BROWN, x=(-1.5, 1.2, 54), y=(-0.5, 2.0, 50)))
    for points, known in (
        (basins.minima, MUELLER_BROWN_MINIMA),
        ([saddle.point for saddle in basins.saddles], MUELLER_BROWN_SADDLES),
    ):
        assert len(points) == len(known)
        for point, (position, loss) in zip(points, known, strict=True):
            assert point.position == pytest.approx(position, abs=ROUNDING)
            assert point.loss == pytest.approx(loss, abs=1e-11)  # the digits given
    assert [saddle.basins for saddle in basins.saddles] == [(1, 2), (0, 2)]


def test_parallel_saddles_of_a_ring():
    """On the ring r = 1 about: two minima, and two passes between them, of different height."""
    basins = find_basins(problem_of("4*(x**2 + y**2 - 1)**2 + 0.3*x**2 + 0.1*x", x=(-1.6, 1.6, 41), y=(-1.6, 1.6, 40)))
    assert len(basins.minima) == 2
    one, other = basins.between(0, 1)
    # The slope along y vanishes on the circle and where y = 0; that along x then at x = -1/6 (minima), and where
    # 16 x (x^2 - 1) + 0.6 x + 0.1 = 0 (saddles, and a maximum between).
    places = sorted(np.real(np.roots([16.0, 0.0, -15.4, 0.1])))
    assert sorted([one.point.position[0], other.point.position[0]]) == pytest.approx(
        [places[0], places[2]], abs=ROUNDING
    )
    assert one.point.loss < other.point.loss
    minima = np.array([point.position for point in basins.minima])
    assert minima == pytest.approx(np.array([[-1 / 6, -np.sqrt(35) / 6], [-1 / 6, np.sqrt(35) / 6]]), abs=ROUNDING)


def test_periodic_axes_wrap():
    """cos 2x + cos 2y + 0.1 sin x on a torus: four basins, joined to each other on either side."""
    circles = {name: Axis(name, 0.0, 2.0 * np.pi, cells, ("periodic",) * 2) for name, cells in (("x", 30), ("y", 31))}
    basins = find_basins(problem_of("cos(2*x) + cos(2*y) + 0.1*sin(x)", **circles))
    quarter = 0.5 * np.pi
    minima = np.array([point.position for point in basins.minima]) / quarter
    assert minima == pytest.approx(np.array([[3, 1], [3, 3], [1, 1], [1, 3]]), abs=ROUNDING)
    pairs = [saddle.basins for saddle in basins.saddles]
    assert pairs == [(0, 1)] * 2 + [(0, 2), (1, 3)] * 2 + [(2, 3)] * 2
    wrapped_round, straight = (saddle.point.position for saddle in basins.between(0, 1))
    assert wrapped_round[1] % (2.0 * np.pi) == pytest.approx(0.0, abs=ROUNDING)
    assert straight == pytest.approx([3 * quarter, 2 * quarter], abs=ROUNDING)


@pytest.mark.parametrize("condition", [100.0, 1000.0])
def test_narrow_oblique_valleys_are_one_basin_each(condition):
    """Across the valley the loss rises by far more from cell to cell than along it: most grid minima are false."""
    problem = problem_of(turned("(u**2 - 1)**2", f"{4.0 * condition}*v**2"), x=(-2.4, 2.4, 60), y=(-2.4, 2.4, 60))
    basins = find_basins(problem)
    assert len(basins.minima) == 2
    assert len(basins.saddles) == 1
    assert basins.saddles[0].heights == pytest.approx((1.0, 1.0), abs=1e3 * ROUNDING)
    x, y = problem.grid.positions()
    u = np.cos(0.4) * x + np.sin(0.4) * y
    assert (basins.label == (u > 0.0)).all()


def test_basins_in_three_dimensions():
    problem = problem_of(
        "(x**2 - 1)**2 + (y - 0.3*x)**2 + 2*(z + 0.2*x*y)**2", x=(-1.6, 1.6, 20), y=(-1, 1, 15), z=(-1, 1, 14)
    )
    basins = find_basins(problem)
    minima = np.array([point.position for point in basins.minima])
    assert minima == pytest.approx(np.array([[-1.0, -0.3, -0.06], [1.0, 0.3, -0.06]]), abs=ROUNDING)
    (saddle,) = basins.saddles
    assert saddle.point.position == pytest.approx(0.0, abs=ROUNDING)


@pytest.mark.parametrize("cells", [31, 40, 64])
@pytest.mark.parametrize("loss", ["(x*y - 1)**2", turned("(u**2 - 1)**2", "0*v", np.pi / 4)])
def test_flat_floors_hold_one_basin_each(loss, cells):
    """Along xy = 1, or u = 1, the loss is 0: two valleys without a lowest point."""
    basins = find_basins(problem_of(loss, x=(-2.0, 2.0, cells), y=(-2.0, 2.0, cells)))
    assert [point.loss for point in basins.minima] == pytest.approx([0.0, 0.0], abs=ROUNDING)
    assert len(basins.saddles) == 1
    x, y = basins.problem.grid.positions()
    assert (basins.label[x + y < -0.3] == 0).all()
    assert (basins.label[x + y > 0.3] == 1).all()


def test_a_ridge_of_one_height_is_one_saddle():
    basins = find_basins(problem_of("(x**2 - 1)**2 + 0*y", x=(-2.0, 2.0, 40), y=(-1.0, 1.0, 10)))
    assert len(basins.minima) == 2
    assert len(basins.saddles) == 1


def test_a_minimum_on_a_reflecting_wall_counts():
    """The loss falls to the wall y = 1: minima and pass lie on it."""
    basins = find_basins(problem_of("(x**2 - 1)**2 - y", x=(-2.0, 2.0, 40), y=(-1.0, 1.0, 20)))
    minima = np.array([point.position for point in basins.minima])
    assert minima == pytest.approx(np.array([[-1.0, 1.0], [1.0, 1.0]]), abs=ROUNDING)
    assert [point.held for point in basins.minima] == [(1,), (1,)]
    assert basins.minima[0].eigenvalues == pytest.approx([8.0], abs=1e2 * ROUNDING)
    (saddle,) = basins.saddles
    assert saddle.point.position == pytest.approx([0.0, 1.0], abs=ROUNDING)
    assert saddle.point.held == (1,)
    assert saddle.heights == pytest.approx((1.0, 1.0), abs=ROUNDING)


def test_beyond_an_absorbing_wall_there_is_no_basin():
    basins = find_basins(problem_of("x**3 - 3*x", x=Axis("x", -2.5, 2.0, 90, ("absorbing", "reflecting"))))
    (minimum,) = basins.minima
    assert minimum.position == pytest.approx([1.0], abs=ROUNDING)
    x = basins.problem.grid.positions()[0]
    assert (basins.label == np.where(x < -1.0, OUTSIDE, 0)).all()
    assert basins.number_at([-1.2]) == OUTSIDE
    assert basins.number_at([-0.9]) == 0


def test_basins_of_an_infinite_axis():
    problem = problem_of("(x**2 - 1)**2", x=Axis("x", -np.inf, np.inf, 80, scale=1.5))
    basins = find_basins(problem)
    assert np.concatenate([point.position for point in basins.minima]) == pytest.approx([-1.0, 1.0], abs=ROUNDING)
    assert (basins.label == (problem.grid.positions()[0] > 0.0)).all()


@pytest.mark.parametrize(
    ("loss", "reason"),
    [
        ("cos(200*x)", f"minima on this grid, more than {MOST_BASINS}"),
        ("x", "the loss has no minimum on this grid"),
    ],
)
def test_why_there_are_no_basins(loss, reason):
    problem = problem_of(loss, x=Axis("x", -4.0, 4.0, 4000, ("absorbing", "reflecting")))
    with pytest.raises(StationaryPointError) as error:
        find_basins(problem)
    assert reason in error.value.found


def test_a_drift_has_no_basins():
    landscape = Landscape(drift=["-x"], variables=("x",))
    with pytest.raises(StationaryPointError, match="the landscape gives a drift and no loss"):
        find_basins(Problem(landscape, ConstantNoise(diffusion=[[0.1]]), Grid(x=(-1.0, 1.0, 20))))


@given(st.integers(0, 10**6), st.booleans())
@settings(max_examples=6)
def test_every_cell_falls_into_the_basin_of_its_label(seed, periodic):
    """Steepest descents, by the classical Runge-Kutta method, from cells that lie a cell off any border."""
    generator = np.random.default_rng(seed)
    waves, phases = generator.integers(-2, 3, (5, 2)), generator.uniform(0.0, 2.0 * np.pi, 5)
    terms = zip(generator.normal(size=5).tolist(), waves.tolist(), phases.tolist(), strict=True)
    loss = " + ".join(f"({a!r})*cos({k}*x + ({m})*y + {p!r})" for a, (k, m), p in terms)
    # Between walls a steep bowl keeps minima off them: a pit at a wall may be narrower than a cell.
    loss += " + 0.2*cos(x) + 0.3*cos(y)" if periodic else " + 2*((x - 3)**4 + (y - 3)**4)"
    half_width = np.pi if periodic else 2.5
    axes = {
        name: Axis(name, 3.0 - half_width, 3.0 + half_width, 36, ("periodic" if periodic else "reflecting",) * 2)
        for name in ("x", "y")
    }
    problem = problem_of(loss, **axes)
    basins, grid = find_basins(problem), problem.grid
    assert basins.label.min() >= 0
    assert basins.label.max() == len(basins.minima) - 1
    inner = np.ones(grid.size, dtype=bool)
    for offset in np.ndindex(3, 3):
        neighbours, exists = grid.neighbours(np.array(offset) - 1)
        inner &= ~exists | (basins.label[neighbours] == basins.label)
    cells = generator.choice(np.flatnonzero(inner), 100)
    ends, step = grid.positions()[:, cells], 0.004  # curvatures reach 24 * 2.5**2 + 40: stable
    for _ in range(2500):
        first = -problem.landscape.gradient(ends)
        second = -problem.landscape.gradient(ends + 0.5 * step * first)
        third = -problem.landscape.gradient(ends + 0.5 * step * second)
        fourth = -problem.landscape.gradient(ends + step * third)
        ends = ends + step / 6.0 * (first + 2.0 * second + 2.0 * third + fourth)
    assert (basins.label[cells_at(grid, ends)] == basins.label[cells]).all()
    assert (problem.landscape.loss(ends) <= problem.landscape.loss(grid.positions()[:, cells])).all()


def test_the_way_down_is_the_flow_of_the_gradient():
    """Past a ridge and round a bend to where it crosses x = 0.6, within a few hundredths of a cell."""
    loss = "(x**2 - 1)**2 + 2*(y - 0.8*x**2)**2"
    start = np.array([0.15, 1.9])

    def crossing(_, position):
        return position[0] - 0.6

    crossing.terminal = True
    for cells in (40, 80, 160):
        problem = problem_of(loss, x=(-2.0, 2.0, cells), y=(-1.0, 3.0, cells))
        gradient = problem.landscape.gradient
        exact = solve_ivp(
            lambda _, x, slope=gradient: -slope(x[:, None])[:, 0], (0.0, 50.0), start, rtol=1e-12, atol=1e-12,
            events=crossing,
        ).y[:, -1]  # fmt: skip
        end = fall(problem, start[:, None], lambda positions: positions[0] >= 0.6)
        slope = gradient(end)
        beside = end[1] - slope[1] / slope[0] * (end[0] - 0.6)  # back to the crossing, along the flow
        assert beside == pytest.approx([exact[1]], abs=0.05 * 4.0 / cells)


def test_a_stiff_valley_is_followed_down():
    """A point 40 widths up the side of a valley of condition 10^6 reaches its minimum, not a wall."""
    problem = problem_of(turned("0.5*u**2", "0.5e6*v**2"), x=(-1.0, 1.0, 40), y=(-1.0, 1.0, 40))
    ends = fall(problem, np.array([[0.9, -0.3, 0.5], [0.1, 0.8, 0.5]]))
    # The curvature 1 along the valley against rounding of 1e6 times the position.
    assert ends == pytest.approx(0.0, abs=1e-9)


def test_a_basin_as_a_region():
    """Its surface lies within a third of a cell of the ridge; its weights on coarser grids keep the volume."""
    problem = problem_of(turned("(u**2 - 1)**2", "v**2"), x=(-2.4, 2.4, 60), y=(-2.4, 2.4, 60))
    region = basin_region(find_basins(problem), 0)
    assert region.name == "basin of (-0.921, -0.389)"
    along, across = np.meshgrid(np.linspace(-2.0, 2.0, 33), [-0.33 * 0.08, 0.33 * 0.08])
    ridge = np.array([np.cos(0.4) * across - np.sin(0.4) * along, np.sin(0.4) * across + np.cos(0.4) * along])
    levels = region.level(ridge.reshape(2, -1)).reshape(2, -1)
    assert (levels[0] > 0.0).all()
    assert (levels[1] < 0.0).all()
    for cells in (60, 30, 15):
        grid = Grid(x=(-2.4, 2.4, cells), y=(-2.4, 2.4, cells))
        assert region.weights(grid).mean() == pytest.approx(0.5, abs=1e-6)  # by symmetry
        killed = Generator.of(problem.on(grid)).killed(region)
        assert killed.active.mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("loss", "axis", "names"),
    [
        ("(x**2 - 1)**2", (-2.0, 2.0, 60), ["x = -1", "x = 1"]),
        ("(x**2 - 0.8483)**2", (-2.0, 2.0, 60), ["x = -0.921", "x = 0.921"]),
        ("((x - 1000)**2 - 1)**2", (998.0, 1002.0, 60), ["x = 999", "x = 1001"]),  # three digits would not do
        ("(x**2 - 1e6)**2", (-2e3, 2e3, 60), ["x = -1e+03", "x = 1e+03"]),
    ],
)
def test_names_of_basins_are_short_and_different(loss, axis, names):
    basins = find_basins(problem_of(loss, x=axis))
    assert [basin_region(basins, number).name for number in (0, 1)] == [f"basin of {name}" for name in names]


def test_a_basin_that_wraps_round():
    circle = Axis("x", 0.0, 2.0 * np.pi, 40, ("periodic", "periodic"))
    basins = find_basins(
        problem_of("cos(2*x + 2)", x=circle)
    )  # minima at pi/2 - 1 and 3 pi/2 - 1, borders at -1, pi - 1
    first = basin_region(basins, 0)
    inside = first.level(np.array([[0.1, 2.0 * np.pi - 0.9, 2.0 * np.pi - 1.1, 2.0, 2.3]])) > 0.0
    assert inside.tolist() == [True, True, False, True, False]


def test_the_basin_of_a_point(three_holes):
    basins = find_basins(three_holes)
    assert [basins.number_at(point) for point in ([-1.9, 2.0], [1.5, -1.0], [0.1, 1.9])] == [0, 1, 2]
    assert (basins.label[cells_at(three_holes.grid, np.array([[-1.9, 1.5], [2.0, -1.0]]))] == [0, 1]).all()
