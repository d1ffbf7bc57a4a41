"""First passage: against exact integrals, against references in the plane and in space, and what is refused."""

import numpy as np
import pytest
from exact import orders, quartic_passage, share_beyond
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import (
    PLANE_AXES,
    QUARTIC,
    SPACE_AXES,
    along,
    box,
    curved_valley,
    directions,
    free,
    rotated_loud_well,
    rotated_quartic,
    rotated_well_in_space,
    turned,
    with_drift,
    with_loss,
)

from fpsolve.analyse.escape import escape
from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError
from fpsolve.model.grid import Axis, Grid
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import ConstantNoise
from fpsolve.model.problem import Problem
from fpsolve.model.region import point_weights
from fpsolve.solve import elimination
from fpsolve.solve.passage import Passage

U, _ = along(0.4)
ROTATED_START = (-np.cos(0.4), -np.sin(0.4))  # u = -1, v = 0


FIRST = ("mean_first_passage_time",)
FORWARD = ("flux_over_population",)  # the same by the forward equation
VALLEY = ("valley_flux_over_population",)


def times(problem, start, target, definitions=FIRST + FORWARD, valley=None):
    """Escape times by some definitions, in their order."""
    found = escape(problem, start=start, target=target, valley=valley, definitions=definitions).times
    return [time.value for time in found.values()]


def first_passage(problem, start, target):
    return times(problem, start, target, FIRST)[0]


def quartic_line(cells, depth):
    """The quartic well with barrier/noise = depth."""
    return with_loss(box((cells,), (-2.0, 1.5)), QUARTIC, 1.0 / depth)


# The quartic well on a line

# Exact integrals by nested Gauss quadrature in 25 digits, composite spectral quadrature and an ODE solver.
QUARTIC_TIMES = {
    (3, 1.0): 26.6400877981141,
    (5, 0.0): 90.4759398752311,
    (5, 1.0): 182.417672985581,
    (8, 1.0): 3500.03481118679,
    (12, 0.0): 93559.0148916216,
    (12, 1.0): 187119.840767335,
    (20, 1.0): 5.49661100352072e8,
}


@pytest.mark.parametrize(("depth", "target"), QUARTIC_TIMES)
def test_the_integrals_of_these_tests_are_exact(depth, target):
    assert quartic_passage(1.0 / depth, target, -2.0)[0] == pytest.approx(QUARTIC_TIMES[depth, target], rel=1e-12)


@pytest.mark.parametrize(("depth", "target"), [key for key in QUARTIC_TIMES if key[0] <= 12])
def test_the_quartic_well(depth, target):
    """Within 1e-4 at 200 cells, as the Kramers case asks, and 1e-5 at 400 (measured: 2.3e-5 and 4.7e-6 at worst)."""
    errors = [
        first_passage(quartic_line(cells, depth), (-1.0,), f"x > {target}") / QUARTIC_TIMES[depth, target] - 1.0
        for cells in (200, 400)
    ]
    assert abs(errors[0]) < 1e-4
    assert abs(errors[1]) < 1e-5


@pytest.mark.parametrize("depth", [3, 5, 8])
def test_the_deviation_of_the_escape_time(depth):
    """Not only the mean: an escape is nearly, but not quite, exponential."""
    mean, deviation = quartic_passage(1.0 / depth, 1.0, -2.0)
    escaped = escape(quartic_line(400, depth), start=(-1.0,), target="x > 1", definitions=FIRST)
    found = escaped.times["mean_first_passage_time"]
    assert found.standard_deviation == pytest.approx(deviation, rel=1e-5)  # as good as the mean
    assert found.standard_deviation / found.value == pytest.approx(deviation / mean, rel=1e-5)


@pytest.mark.parametrize(("depth", "about"), [(5, 3.0e-3), (10, 2.6e-5)])
def test_the_flux_out_of_the_valley_misses_what_is_beyond_the_saddle(depth, about):
    passage, population, valley = times(quartic_line(200, depth), (-1.0,), "x > 0.8", FIRST + FORWARD + VALLEY, "x < 0")
    beyond = share_beyond(1.0 / depth, 0.8)
    assert beyond == pytest.approx(about, rel=0.02)
    # error of the grid: a share that itself errs as h**2 does; rounding: the flux balance at this depth, 1e-10
    assert 1.0 - valley / passage == pytest.approx(beyond, rel=2e-3, abs=1e-9)
    assert population == pytest.approx(passage, rel=1e-9)


# In the plane


def test_a_slanted_target_in_a_rotated_well():
    """Constant D, barrier/noise 10: 1.4e-4, 8e-6, 3.4e-7 measured at 50, 100, 200 cells."""
    mean, deviation = quartic_passage(0.1, 0.5)
    for cells, bound in ((50, 1e-3), (100, 1e-4), (200, 1e-4)):
        problem = rotated_quartic(cells, 0.1)
        escaped = escape(problem, start=ROTATED_START, target=f"{U} > 0.5", definitions=FIRST)
        found = escaped.times["mean_first_passage_time"]
        assert found.value == pytest.approx(mean, rel=bound)
        assert found.standard_deviation == pytest.approx(deviation, rel=bound)
        assert escaped.flux_balance < 1e-9


def test_flux_over_population_is_the_first_passage_time():
    """Two solves, one number, to 1e-9: forwards and backwards on the same grid."""
    problems = [
        (quartic_line(200, 10), (-1.0,), "x > 0.8"),
        (rotated_quartic(60, 0.1), ROTATED_START, f"{U} > 0.5"),
        (curved_valley(48, 0.05), (-1.04, -0.11), f"{U} > 0.8"),
        (rotated_loud_well(48), tuple(-PLANE_AXES[0]), f"{directions(PLANE_AXES)[0]} > 1"),
        (free(box((30, 20)), turned([1.0, 0.01], 0.5)), (-0.83, 0.4), "x + y > 0.7"),
    ]
    for problem, start, target in problems:
        passage, population = times(problem, start, target)
        assert population == pytest.approx(passage, rel=1e-9)


@settings(max_examples=20)
@given(st.floats(-0.95, 0.3), st.floats(-0.95, 0.95), st.floats(0.0, 3.14))
def test_the_two_agree_from_any_start(x, y, angle):
    problem = with_drift(box((14, 11)), ["0.3", "-y"], turned([1.0, 0.05], angle))
    passage, population = times(problem, (x, y), "x > 0.5")
    assert population == pytest.approx(passage, rel=1e-11)


# Each with its source; methods agree to the digits given.
REFERENCES = {
    # 1-D quadrature against an ODE solver: the problem is separable along turned axes; full tensor, Ito
    "loud well, to the saddle": (
        rotated_loud_well,
        tuple(-PLANE_AXES[0]),
        f"{directions(PLANE_AXES)[0]} > 0",
        12.5723540811238,
        (64, 128, 256),
        1.0,  # error at most this times (8/cells)**2
    ),
    "loud well, to the other minimum": (
        rotated_loud_well,
        tuple(-PLANE_AXES[0]),
        f"{directions(PLANE_AXES)[0]} > 1",
        26.4948945568649,
        (64, 128, 256),
        1.0,
    ),
    # spectral elements of degree 6 and 8 and P4 finite elements: full constant mobility, D = T M
    "full mobility": (
        lambda cells: with_loss(
            box((cells, cells), [(-2.1, 1.2), (-3.2, 3.2)]), "(x**2 - 1)**2 + y**2", 0.15, [[1.0, 0.6], [0.6, 0.5]]
        ),
        (-1.0, 0.0),
        "x > 1",
        1201.89972133393,
        (64, 128, 256),
        1.0,
    ),
    # likewise: drift -grad U + R grad U, which keeps exp(-U/T) and shortens the time
    "irreversible": (
        lambda cells: Problem(
            Landscape("(x**2 - 1)**2 + y**2", variables=("x", "y"), extra_drift=["-2*y", "4*x*(x**2 - 1)"]),
            ConstantNoise(temperature=0.25),
            box((cells, cells), [(-2.1, 1.2), (-3.2, 3.2)]),
        ),
        (-1.0, 0.0),
        "x > 1",
        52.0503634811331,
        (64, 128, 256),
        2.0,
    ),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_references_in_the_plane(name):
    make, start, target, wanted, cells, constant = REFERENCES[name]
    errors = [abs(first_passage(make(count), start, target) / wanted - 1.0) for count in cells]
    assert abs(orders(cells, errors)[-1] - 2.0) < 0.1
    assert errors[-1] < constant * (8.0 / cells[-1]) ** 2


@pytest.mark.parametrize(
    ("temperature", "wanted"), [(0.25, 38.5834484344623), (0.15, 495.058714433689), (0.1, 13155.3177675922)]
)
def test_a_banana_valley(temperature, wanted):
    """To the line x = 0 over the saddle; two spectral-element codes and P4 finite elements agree to 5e-8.

    Once as a target that cuts cells, once as an absorbing wall: 3e-5 and 8e-6 measured at 132 and 264 cells.
    """
    loss = "(x**2 - 1)**2 + 2*(y - 0.8*x**2)**2"
    errors = []
    for cells in (132, 264):
        cut = with_loss(box((cells, cells), [(-2.1, 0.21), (-1.6, 3.6)]), loss, temperature)
        errors.append(abs(first_passage(cut, (-1.0, 0.8), "x > 0") / wanted - 1.0))
        walls = [("reflecting", "absorbing"), "reflecting"]
        walled = Generator.of(with_loss(box((cells, cells), [(-2.1, 0.0), (-1.6, 3.6)], walls), loss, temperature))
        found = point_weights(walled.grid, (-1.0, 0.8), "start").read(Passage.of(walled).mean_time.floats())
        errors.append(abs(found / wanted - 1.0))
    # constants of (1/cells)**2, of the order of one: the curvature of the valley in cells, measured 0.6
    assert max(errors[:2]) < 1.0 / 132**2
    assert max(errors[2:]) < 1.0 / 264**2


def test_a_curved_valley_with_hessian_noise():
    """D^-1 v is no gradient: second order to 1548.05, extrapolated from 96, 192, 384 cells with another conductance.

    From u = -1, v = 0.3 to u > 0.8; the extrapolation is good to 1e-4.
    """
    c, s = np.cos(0.4), np.sin(0.4)
    start = (-c - 0.3 * s, -s + 0.3 * c)
    errors = [
        abs(first_passage(curved_valley(cells, 0.05), start, f"{U} > 0.8") / 1548.05 - 1.0) for cells in (96, 192)
    ]
    assert errors[0] < 1e-2
    assert errors[1] < 2.5e-3
    assert orders((96, 192), errors)[0] > 1.5


# Curved surfaces: from anywhere inside the ellipse x . D^-1 x = 1, tau = (1 - x . D^-1 x) / (2 dimensions)


@pytest.mark.parametrize("tensor", [np.eye(2), np.array([[1.0, 0.6], [0.6, 0.5]]), turned([1.0, 0.05], 0.4)])
def test_the_time_to_leave_an_ellipse(tensor):
    inverse = np.linalg.inv(tensor)
    (a, b), (_, c) = inverse.tolist()
    bounds = [(-width, width) for width in (1.2 * np.sqrt(np.diag(tensor))).tolist()]
    for cells in (20, 40, 80):
        problem = free(box((cells, cells), bounds), tensor)
        outside = f"{a!r}*x**2 + {2 * b!r}*x*y + {c!r}*y**2 > 1"
        escaped = escape(problem, start=(0.0, 0.0), target=outside, definitions=FIRST)
        positions = problem.grid.positions()
        wanted = np.maximum(0.0, 1.0 - np.einsum("ip,ij,jp->p", positions, inverse, positions)) / 4.0
        error = np.abs(escaped.mean_first_passage_time - wanted).max()
        # The scheme is exact for quadratics, so only the cut edges err; order 2 everywhere, 1.1/cells**2 measured.
        # A cell within a thousandth of an edge of the surface is absorbed: 1e-3 of an edge's rise, 1e-3/cells.
        assert error < 1.5 / cells**2 + 1e-3 / cells


def test_the_time_to_leave_a_ball():
    for cells in (12, 24):
        problem = free(box((cells,) * 3, (-1.2, 1.2)), np.eye(3))
        found = first_passage(problem, (0.0, 0.0, 0.0), "x**2 + y**2 + z**2 > 1")
        assert found == pytest.approx(1.0 / 6.0, rel=5.0 / cells**2)  # measured 3.5/cells**2


# In space


def space_time(cells, temperature, target):
    start = tuple(-SPACE_AXES[0])
    return first_passage(rotated_well_in_space(cells, temperature), start, f"{directions(SPACE_AXES)[0]} > {target}")


@pytest.mark.parametrize(
    ("temperature", "target", "wanted"), [(0.25, 0.0, 33.9457442876798), (0.25, 1.0, 69.2636447608363)]
)
def test_a_rotated_well_in_space(temperature, target, wanted):
    """Exact: the time along q1. 1e-4 and 2.5e-4 measured at 24**3; h = 0.2, so h**2/10 leaves room."""
    assert quartic_passage(temperature, target, -2.6)[0] == pytest.approx(wanted, rel=1e-12)
    assert space_time(24, temperature, target) == pytest.approx(wanted, rel=0.1 * 0.2**2)


def test_a_rotated_well_in_space_at_the_depth_of_five():
    # 3.1e-4 measured at 24**3, 3.1e-3 at 16**3
    assert space_time(24, 0.2, 0.5) == pytest.approx(quartic_passage(0.2, 0.5, -2.6)[0], rel=0.1 * 0.2**2)


@pytest.mark.slow
@pytest.mark.parametrize("target", [0.5, 1.0])
def test_a_rotated_well_in_space_on_a_fine_grid(target):
    # asked for: 1 % at 48**3; measured 1.4e-5 for 0.5
    assert space_time(48, 0.2, target) == pytest.approx(quartic_passage(0.2, target, -2.6)[0], rel=1e-3)


# Between absorbing walls


@pytest.mark.parametrize(("drift", "mean", "right"), [(0.0, 0.2625, 0.3), (1.1, 0.27284548842108, 0.600130037263188)])
def test_an_absorbing_interval(drift, mean, right):
    """D = 0.4 in [0, 1] from 0.3: closed forms, confirmed by the integral of the survival probability."""
    cells, errors = (20, 40, 80), []
    for count in cells:
        generator = Generator.of(with_drift(box((count,), (0.0, 1.0), "absorbing"), [repr(drift)], [[0.4]]))
        passage, start = Passage.of(generator), point_weights(generator.grid, (0.3,), "start")
        through = generator.outflow(passage.population(start.inject(count)).floats())
        errors.append([abs(start.read(passage.mean_time.floats()) - mean), abs(through[1] - right)])
        assert through.sum() == pytest.approx(1.0, abs=1e-12)
    if drift == 0.0:  # linear functions are exact, quadratic ones at cell faces, where 0.3 lies on all three grids
        np.testing.assert_allclose(errors, 0.0, rtol=0, atol=1e-13)
    else:
        assert np.abs(orders(cells, np.array(errors)[:, 0]) - 2.0).max() < 0.1
        assert np.abs(orders(cells, np.array(errors)[:, 1]) - 2.0).max() < 0.1
        assert np.max(errors[-1]) < 0.5 / 80**2


def test_the_deviation_of_the_time_to_leave_an_interval():
    """From the middle of [0, L]: mean L**2/(8 D), mean square 5 L**4/(192 D**2)."""
    cells, errors = (20, 40, 80), []
    for count in cells:
        generator = Generator.of(free(box((count,), (0.0, 2.0), "absorbing"), [[0.5]]))
        passage, start = Passage.of(generator), point_weights(generator.grid, (1.0,), "start")
        assert start.read(passage.mean_time.floats()) == pytest.approx(1.0, rel=1e-12)  # quadratics are exact at faces
        errors.append(abs(start.read(passage.mean_square_time.floats()) / (5 * 16 / (192 * 0.25)) - 1.0))
    assert np.abs(orders(cells, errors) - 2.0).max() < 0.1


# However deep the barrier


@pytest.mark.parametrize(
    ("make", "start", "condition", "width"),
    [
        (lambda depth: quartic_line(200, depth), (-1.0,), "x > 0.5", 3.5),
        (lambda depth: rotated_quartic(200, 1.0 / depth), ROTATED_START, f"{U} > 0.5", 4.8),
    ],
    ids=["line", "plane"],
)
@pytest.mark.parametrize("depth", [10, 40, 80, 160, 300])
def test_deep_barriers(make, start, condition, width, depth):
    """Both equations alike. The grid's error goes with (h**2 8 depth)**2, h over the width of the well: 2e-4 of it."""
    lower = -min(2.0, np.sqrt(1.0 + np.sqrt(600.0 / depth)))  # the wall, or beyond all but exp(-600) of the population
    wanted = quartic_passage(1.0 / depth, 0.5, lower)[0]
    passage, population = times(make(depth), start, condition)
    assert population == pytest.approx(passage, rel=1e-12)
    assert passage == pytest.approx(wanted, rel=3e-4 * ((width / 200) ** 2 * 8.0 * depth) ** 2 + 1e-7)


@pytest.mark.parametrize(
    ("start", "target", "message"),
    [
        ((2.0,), "x > 0.5", r"escape\.start: x = 2 lies outside the grid\. x runs from -2 to 1\.5"),
        (
            (0.7,),
            "x > 0.5",
            r"escape\.start: the start lies inside the target 'x > 0\.5'\. It must lie outside",
        ),
        ((-1.0, 0.0), "x > 0.5", r"escape\.start: 2 coordinates\. A point needs 1"),
        ((-1.0,), "x > 3", r"escape\.target: the region 'x > 3' holds no cell of the grid"),
        ((-1.0,), "x > x - 1", r"escape\.(target|start): .*(holds every cell|lies inside the target)"),
        ((-1.0,), "x + 1", r"escape\.target: .* has no comparison"),
        ((-1.0,), "z > 1", r'escape\.target: "z" .* is not a known name'),
    ],
)
def test_bad_escapes_are_refused(start, target, message):
    with pytest.raises(CaseError, match=message):
        escape(quartic_line(50, 5), start=start, target=target, definitions=FIRST)


def test_a_grid_beyond_the_memory_of_the_machine_is_refused(monkeypatch):
    monkeypatch.setattr(elimination, "memory_of_machine", lambda: 2.0**20)
    message = r"grid: 60 x 60 cells need about .* GiB\. This machine has 0\.000977 GiB\. Use about \d+ x \d+ cells"
    with pytest.raises(CaseError, match=message):
        escape(rotated_quartic(60, 0.1), start=ROTATED_START, target=f"{U} > 0.5")


def test_a_valley_without_the_start_is_refused():
    with pytest.raises(CaseError, match=r"escape\.valley: the start lies outside the valley 'x > 5'"):
        escape(quartic_line(50, 5), start=(-1.0,), target="x > 0.5", valley="x > 5")


def test_a_start_within_a_cell_of_the_target_is_refused():
    with pytest.raises(CaseError, match=r"escape\.start: the start lies within a cell of the target"):
        escape(quartic_line(50, 5), start=(0.499,), target="x > 0.5")


def test_absorbing_walls_take_their_share():
    """Free diffusion from 0.3 in [0, 1]: the right end comes first with probability 0.3, after 0.3 * 0.7 / (2 D)."""
    grid = Grid(x=Axis("x", 0.0, 1.2, 60, ("absorbing", "reflecting")))
    problem = Problem(Landscape(drift=["0"], variables=("x",)), ConstantNoise(diffusion=[[0.4]]), grid)
    out = escape(problem, start=(0.3,), target="x > 1", definitions=FIRST)
    assert out.splitting["x > 1"] == pytest.approx(0.3, abs=1e-12)  # linear functions are exact: rounding
    assert out.splitting["x_min"] == pytest.approx(0.7, abs=1e-12)
