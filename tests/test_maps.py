"""Axes whose cells follow a map: refined, stretched, half-infinite, infinite. All holds on them as on equal cells."""

from __future__ import annotations

import math
import tomllib
from dataclasses import replace

import h5netcdf
import numpy as np
import pytest
from exact import error_l1, orders, passage_moments, ring_current
from problems import PLANE_AXES, directions, free, linear, rotated_loud_well, with_drift, with_loss
from scipy.linalg import expm, solve_continuous_lyapunov

import fpsolve
from fpsolve import Axis, CaseError, Grid, Landscape, Problem, Refinement, TensorNoise
from fpsolve.analyse.currents import current_density
from fpsolve.analyse.motion import evolve
from fpsolve.analyse.rest import stationary
from fpsolve.case import parse_case
from fpsolve.discretise.exponents import cells_across
from fpsolve.discretise.generator import Generator
from fpsolve.model.initial import Gaussian, Point, Uniform
from fpsolve.model.maps import Even, Peak, Refined
from fpsolve.model.region import point_weights
from fpsolve.present import figures
from fpsolve.solve.elimination import Resolvent

INFINITY = math.inf
AROUND = ("periodic", "periodic")


def refined(name, cells):
    """Finer at two places, one of them with a width of its own."""
    return Axis(name, -3.0, 3.0, cells, refine=(Refinement(-1.0, 3.0), Refinement(0.5, 2.0, 0.4)))


def stretched(name, cells):
    """Finite: even within 0.9 of 0.2, wider beyond."""
    return Axis(name, -3.5, 3.0, cells, scale=0.9, centre=0.2)


def half_infinite(name, cells):
    """From -4 to infinity, finest at 0."""
    return Axis(name, -4.0, INFINITY, cells, scale=1.5, centre=0.0)


def half_infinite_below(name, cells):
    """From minus infinity to 4, finest at the wall."""
    return Axis(name, -INFINITY, 4.0, cells, scale=5.0)


def infinite(name, cells):
    """The whole line."""
    return Axis(name, -INFINITY, INFINITY, cells, scale=1.2)


def infinite_and_refined(name, cells):
    """The whole line, finer at -1."""
    return Axis(name, -INFINITY, INFINITY, cells, scale=1.2, refine=(Refinement(-1.0, 2.0),))


def around(name, cells):
    """Periodic, finer beside the joint."""
    return Axis(name, 0.0, 2.0 * math.pi, cells, AROUND, refine=(Refinement(0.2, 4.0, 0.5),))


KINDS = (refined, stretched, half_infinite, half_infinite_below, infinite, infinite_and_refined)
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
every_kind_around = pytest.mark.parametrize("kind", [*KINDS, around], ids=lambda kind: kind.__name__)


# The map itself


@every_kind_around
def test_the_index_is_the_inverse_of_the_position(kind):
    axis = kind("x", 60)
    index = np.sort(np.random.default_rng(1).uniform(-0.5, 59.5, 2000))
    position = axis.position(index)
    assert (np.diff(position) > 0.0).all()
    # Rounding of a position counts as many cells more as these are narrower than the axis is far from 0.
    assert np.abs(axis.index(position) - index).max() < 1e-12
    assert axis.position(np.array([-0.5, 59.5])).tolist() == [axis.lower, axis.upper]
    assert axis.index(axis.centres) == pytest.approx(np.arange(60.0), abs=1e-12)


@every_kind_around
def test_the_stretch_is_the_slope_of_the_position(kind):
    axis, step = kind("x", 60), 1e-3
    index = np.linspace(0.0, 59.0, 237)
    points = [axis.position(index + part * step) for part in (-2.0, -1.0, 1.0, 2.0)]
    slope = (8.0 * (points[2] - points[1]) - (points[3] - points[0])) / (12.0 * step)
    # Fourth-order differences, of a map whose fifth derivative is up to 5!/0.5**5 widths half a cell from infinity.
    assert axis.stretch(index) == pytest.approx(slope, rel=1e-8)


WALLS = (("reflecting", "reflecting"), AROUND)


@pytest.mark.parametrize("walls", WALLS, ids=lambda walls: walls[0])
@pytest.mark.parametrize("by", [1.0, 4.0, 1e3, 1e6])
@pytest.mark.parametrize("width", [None, 4e-11, 4e-7, 1e-3, 0.1, 3.0])
def test_narrow_and_strong_refinements_are_inverted_to_rounding(walls, by, width):
    axis = Axis("x", -2.0, 2.0, 400, walls, refine=(Refinement(0.7, by, width), Refinement(-2.0, 2.0)))
    machine = float(np.finfo(np.float64).eps)
    there = axis.index(np.array(0.7))
    index = np.sort(np.concatenate([np.linspace(-0.5, 399.5, 5001), there + np.linspace(-3.0, 3.0, 301)]))
    position = axis.position(index)
    assert (np.diff(position) >= 0.0).all()
    assert (np.diff(axis.faces) > 0.0).all()
    # A position up to 2 is rounded, and so are shares of the axis and of the cells; a few roundings each.
    assert (np.abs(axis.index(position) - index) <= 4.0 * machine * (2.0 / axis.stretch(index) + 400.0)).all()
    position = np.clip(0.7 + 1e-10 * np.sinh(np.linspace(-25.0, 25.0, 2001)), -2.0, 2.0)
    index = axis.index(position)
    assert (np.abs(axis.position(index) - position) <= 4.0 * machine * (2.0 + 400.0 * axis.stretch(index))).all()


def relative_widths(axis, positions, base=1.0):
    """Cell widths at positions as multiples of that at the first."""
    widths = axis.stretch(axis.index(np.array(positions))) / base
    return widths / widths[0]


def test_cells_are_so_many_times_finer():
    axis = Axis("x", -2.0, 2.0, 400, refine=(Refinement(-1.0, 5.0, 0.2),))
    # 1 + 4 / sqrt(1 + z**2) is 5, 1 + sqrt(8), 3 and 1 + 4/sqrt(101) at z = 0, 1, sqrt(3) and 10.
    wanted = [1.0, 5.0 / (1.0 + math.sqrt(8.0)), 5.0 / 3.0, 5.0 / (1.0 + 4.0 / math.sqrt(101.0))]
    found = relative_widths(axis, [-1.0, -0.8, -1.0 + 0.2 * math.sqrt(3.0), 1.0])
    assert found == pytest.approx(wanted, rel=1e-12)
    # Around, z = sin(pi away / 4) 4 / (pi 0.2): at half of the period 4 it is 20 / pi.
    circle = Axis("x", -2.0, 2.0, 400, AROUND, refine=(Refinement(-1.0, 5.0, 0.2),))
    half = 5.0 / (1.0 + 4.0 / math.hypot(1.0, 20.0 / math.pi))
    assert relative_widths(circle, [-1.0, 1.0]) == pytest.approx([1.0, half], rel=1e-12)


def test_the_distance_is_counted_in_cells_of_the_axis_without_refinement():
    bare = Axis("x", -INFINITY, INFINITY, 400, scale=1.2)
    axis = replace(bare, refine=(Refinement(3.0, 5.0, 0.2),))
    at = float(bare.index(np.array(3.0)))
    away = float(bare.position(np.array(at + math.sqrt(3.0) * 0.2 / float(bare.stretch(np.array(at))))))
    base = bare.stretch(bare.index(np.array([3.0, away])))
    assert relative_widths(axis, [3.0, away], base) == pytest.approx([1.0, 5.0 / 3.0], rel=1e-12)


@pytest.mark.parametrize("walls", WALLS, ids=lambda walls: walls[0])
@pytest.mark.parametrize("by", [1.0, 1.5, 4.0, 1e3, 1e9])
@pytest.mark.parametrize("at", [-2.0, -1.0, 0.1])
def test_without_a_width_cells_get_half_of_by_times_finer_and_nowhere_twice_as_wide(walls, by, at):
    axis = Axis("x", -2.0, 2.0, 400, walls, refine=(Refinement(at, by),))
    assert float(axis.stretch(axis.index(np.array(at)))) == pytest.approx(0.01 * 2.0 / (by + 1.0), rel=1e-6)
    assert axis.widths.max() < 0.02


def test_one_entry_reaches_any_depth():
    """Cells of a density 1 + by width / distance beyond the width: as many in every factor of ten of the distance."""
    axis = Axis("x", -2.0, 2.0, 400, refine=(Refinement(0.5, 1e7, 1e-7),))
    total = 1.0 + (math.asinh(2.5e7) + math.asinh(1.5e7)) / 4.0  # by width / length asinh(distance / width)
    assert float(axis.stretch(axis.index(np.array(0.5)))) == pytest.approx(total * 1e-9, rel=1e-6)
    for distance in (1e-5, 1e-4, 1e-3):
        index = axis.index(0.5 + np.array([distance, 10.0 * distance]))
        width = float(axis.stretch(index[:1])[0])
        assert width == pytest.approx(0.01 * total * distance / (1.0 + distance), rel=1e-4)
        assert index[1] - index[0] == pytest.approx((math.log(10.0) + 9.0 * distance) / (0.01 * total), rel=1e-4)


@pytest.mark.parametrize("width", [None, 0.02, 0.3, 2.9])
def test_refined_circles_have_no_seam(width):
    """The logarithm of the cell width is analytic around: its Fourier coefficients fall to rounding, at any place."""
    axis = Axis("x", -1.0, 2.0, 4096, AROUND, refine=(Refinement(-0.9, 4.0, width), Refinement(2.0, 2.0)))
    size = np.abs(np.fft.rfft(np.log(axis.widths))) / 4096
    assert size[1500:].max() < 1e-13
    index = np.linspace(-0.5, 4095.5, 99)
    assert axis.position(index + 4096.0) == pytest.approx(axis.position(index) + 3.0, abs=1e-12)
    assert axis.position(index - 4096.0) == pytest.approx(axis.position(index) - 3.0, abs=1e-12)
    assert axis.stretch(index + 4096.0) == pytest.approx(axis.stretch(index), rel=1e-10)
    assert axis.index(axis.position(index) + 6.0) == pytest.approx(index + 8192.0, abs=1e-8)


def test_a_refined_circle_has_no_beginning():
    """Moved along by a quarter, cells stay what they are."""
    first, second = (Axis("x", 0.0, 1.0, 400, AROUND, refine=(Refinement(at, 50.0),)) for at in (0.1, 0.35))
    index = np.linspace(-200.0, 200.0, 41)
    widths = [axis.stretch(axis.index(np.array(at)) + index) for axis, at in ((first, 0.1), (second, 0.35))]
    assert widths[1] == pytest.approx(widths[0], rel=1e-11)


def test_a_refinement_as_text():
    assert Refinement(-0.577350269, 1652345.0, 7.217e-8).case_text(1e-9) == (
        "{ at = -0.577350269, by = 1.7e+06, width = 7.2e-08 }"
    )
    assert Refinement(-1e-17, 4.0).case_text(0.01) == "{ at = 0, by = 4 }"
    assert Refinement(1234.5678, 342.0).case_text(20.0) == "{ at = 1235, by = 340 }"


def test_most_cells_of_an_infinite_axis_lie_within_a_scale():
    axis = Axis("x", -INFINITY, INFINITY, 1000, scale=3.0, centre=10.0)
    assert (np.abs(axis.centres - 10.0) < 3.0).mean() == pytest.approx((math.sqrt(5.0) - 1.0) / 2.0, abs=2e-3)
    half = Axis("x", 10.0, INFINITY, 1000, scale=3.0)
    assert half.centres == pytest.approx(Axis("x", -INFINITY, INFINITY, 2000, scale=3.0, centre=10.0).centres[1000:])


@every_kind_around
def test_coarser_grids_have_the_same_map(kind):
    fine, coarse = kind("x", 60), kind("x", 20)
    assert fine.faces[::3] == pytest.approx(coarse.faces, rel=1e-13)
    assert replace(fine, cells=20) == coarse


@every_kind_around
def test_volumes_are_products_of_widths(kind):
    grid = Grid(x=kind("x", 30), y=stretched("y", 20), z=(0.0, 2.0, 4))
    assert grid.volumes.shape == (grid.size,)
    wanted = np.multiply.outer(np.multiply.outer(grid.axes[0].widths, grid.axes[1].widths), np.full(4, 0.5)).ravel()
    assert grid.volumes == pytest.approx(wanted, rel=1e-15)
    assert np.isfinite(grid.volumes).all()
    assert grid.volumes == pytest.approx(np.prod(grid.stretch(), axis=0), rel=1e-14)


def test_equal_cells_stay_what_they_were():
    axis = Axis("x", -1.0, 2.0, 7)
    assert axis.map is None
    assert axis.stretch(np.array([0.0, 3.3])).tolist() == [axis.spacing] * 2
    assert Grid(x=axis).even
    assert Refined(Even(-1.0, 2.0), (Peak(0.3, 0.1),), (0.0,)).position((np.arange(7) + 0.5) / 7) == pytest.approx(
        axis.centres, rel=1e-14
    )


def test_a_map_that_changes_nothing_changes_nothing():
    """A refinement by 1 is a map all the same: rates and currents agree with those of equal cells to rounding."""
    even = Grid(x=(-2.0, 2.0, 24), y=(-2.0, 2.0, 20))
    mapped = Grid(x=Axis("x", -2.0, 2.0, 24, refine=(Refinement(0.0, 1.0),)), y=Axis("y", -2.0, 2.0, 20))
    assert not mapped.even
    chains = [Generator.of(rotated_loud_well(4).on(grid)) for grid in (even, mapped)]
    first, second = (chain.matrix().toarray() for chain in chains)
    assert second == pytest.approx(first, rel=1e-10, abs=1e-12 * np.abs(first).max())
    probability = np.random.default_rng(2).random(even.size)
    currents = [current_density(chain, probability) for chain in chains]
    assert currents[1] == pytest.approx(currents[0], rel=1e-9, abs=1e-11 * np.abs(currents[0]).max())


# Equilibrium


WELL = {
    ("x",): "(x**2 - 1)**2 + x/5",
    ("x", "y"): "(x**2 - 1)**2 + x*y/3 + y**2",
    ("x", "y", "z"): "(x**2 - 1)**2 + x*y/3 + y**2 + z**2 - y*z/2",
}


def assert_boltzmann(problem, temperature):
    """The density at rest is Boltzmann's at the cell centres, and nothing flows."""
    rest, grid = stationary(problem), problem.grid
    loss = problem.landscape.loss(grid.positions())
    wanted = np.exp(-(loss - loss.min()) / temperature)
    wanted /= wanted @ grid.volumes
    assert rest.reversible
    # Rounding of sums of exponents: vast far out, some hundreds on the ways between cells where anything is.
    assert rest.density == pytest.approx(wanted, rel=1e-11, abs=1e-13 * wanted.max())
    assert rest.probability.sum() == pytest.approx(1.0, abs=1e-13)
    assert rest.detailed_balance <= 1e-12
    assert np.abs(rest.mean_current).max() <= 1e-12 * np.abs(problem.diffusion_at_cells).max()


@every_kind
@pytest.mark.parametrize("temperature", [0.5, 0.01])
def test_equilibrium_is_exact_on_a_line(kind, temperature):
    assert_boltzmann(with_loss(Grid(x=kind("x", 80)), WELL["x",], temperature), temperature)


@every_kind
def test_equilibrium_is_exact_in_the_plane_with_a_full_tensor(kind):
    grid = Grid(x=kind("x", 24), y=infinite("y", 20))
    assert_boltzmann(with_loss(grid, WELL["x", "y"], 0.3, [[1.0, 0.6], [0.6, 0.5]]), 0.3)


def test_equilibrium_is_exact_in_space_with_a_full_tensor():
    grid = Grid(x=infinite("x", 10), y=refined("y", 9), z=half_infinite("z", 8))
    mobility = [[1.0, 0.3, 0.2], [0.3, 0.6, -0.25], [0.2, -0.25, 0.5]]
    assert_boltzmann(with_loss(grid, WELL["x", "y", "z"], 0.5, mobility), 0.5)


def test_equilibrium_is_exact_around_a_circle():
    grid = Grid(x=around("x", 40))
    assert_boltzmann(with_loss(grid, "cos(x) + sin(2*x)/3", 0.2), 0.2)


def test_vast_losses_far_out_leave_every_cell_a_way_inward():
    grid = Grid(x=Axis("x", -INFINITY, INFINITY, 400, scale=3.0), y=Axis("y", -INFINITY, INFINITY, 9, scale=3.0))
    chain = Generator.of(with_loss(grid, "x**8 + x**4*y**2 + y**4", 1e-3))
    assert np.isfinite(chain.departure).all()
    assert (chain.departure > 0.0).all()
    inward = np.where(chain.edges.exponent > 0.0, chain.edges.forward, chain.edges.backward)
    assert (inward > 0.0).all()


# Heavy and light tails, with 200 cells to infinity


def relative_errors(problem, wanted):
    """Errors of the density at rest: the largest over the peak, and in L1."""
    found, volumes = stationary(problem).density, problem.grid.volumes
    return np.abs(found - wanted).max() / wanted.max(), error_l1(found * volumes, wanted * volumes)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_ornstein_uhlenbeck_on_the_whole_line(scale):
    grid = Grid(x=Axis("x", -INFINITY, INFINITY, 100, scale=scale))
    (x,) = grid.positions()
    wanted = np.exp(-0.75 * (x - 0.2) ** 2 / 0.4) / math.sqrt(2.0 * math.pi * 0.4 / 1.5)
    assert max(relative_errors(with_loss(grid, "0.75*(x - 0.2)**2", 0.4), wanted)) < 1e-6  # 7e-9 at worst


def student(axis):
    """Drift -x, D = 0.5 + 0.3 x**2 (Ito)."""
    landscape = Landscape(drift=["-x"], variables=("x",))
    return Problem(landscape, TensorNoise(diffusion=[["0.5 + 0.3*x**2"]]), Grid(x=axis))


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_student_t_on_the_whole_line(scale):
    """p = (a + b x**2)**-(1 + k/(2 b)) / norm, a = 0.5, b = 0.3, k = 1; norm by Gamma functions."""
    problem = student(Axis("x", -INFINITY, INFINITY, 200, scale=scale))
    (x,) = problem.grid.positions()
    wanted = 0.607506982698374 * (1.0 + 0.6 * x**2) ** (-8.0 / 3.0)
    assert max(relative_errors(problem, wanted)) < 1e-6  # 2e-7 at worst
    # its second moment converges as (1 - w)**(4/3) at infinity only
    assert stationary(problem).covariance[0, 0] == pytest.approx(0.5 / 0.7, rel=1e-3)


# Second order where the scheme is not exact, with the error bounded too

FLOW = np.array([[-1.0, 4.0], [-0.5, -1.5]])  # non-normal: a steady current flows
TENSOR = np.array([[0.5, 0.2], [0.2, 0.3]])
SPREAD = solve_continuous_lyapunov(FLOW, -2.0 * TENSOR)
# Walls stand at least 7.4 standard deviations away.
PLANES = {
    "refined": lambda n: (
        Axis("x", -8.0, 8.0, n, refine=(Refinement(0.0, 3.0),)),
        Axis("y", -3.0, 3.0, n, refine=(Refinement(0.2, 2.0), Refinement(-0.4, 2.0, 0.5))),
    ),
    "stretched": lambda n: (Axis("x", -8.0, 8.0, n, scale=2.0), Axis("y", -3.0, 3.0, n, scale=1.0)),
    "half-infinite": lambda n: (
        Axis("x", -8.0, INFINITY, n, scale=3.0, centre=0.0),
        Axis("y", -INFINITY, 3.0, n, scale=1.0, centre=0.0),
    ),
    "infinite": lambda n: (Axis("x", -INFINITY, INFINITY, n, scale=2.0), Axis("y", -INFINITY, INFINITY, n, scale=0.8)),
}


def first_passage(problem, start, target):
    """Mean time from a point to a region."""
    killed = Generator.of(problem).killed(problem.region(target))
    times = Resolvent.of(killed, 0.0, killed.active).solve_adjoint(killed.active.astype(np.float64))
    return point_weights(problem.grid, start, "start").read(times)


def gaussian(grid, covariance, mean=(0.0, 0.0)):
    """A normal density at the cell centres."""
    away = grid.positions() - np.array(mean)[:, None]
    exponent = -0.5 * np.einsum("ip,ij,jp->p", away, np.linalg.inv(covariance), away)
    return np.exp(exponent) / math.sqrt(np.linalg.det(2.0 * math.pi * covariance))


@pytest.mark.parametrize("name", PLANES)
def test_second_order_at_rest_with_a_current(name):
    cells, errors, flows = (48, 96), [], []
    for count in cells:
        x, y = PLANES[name](count)
        problem = with_drift(Grid(x=x, y=y), linear(FLOW.tolist()), TENSOR)
        rest, grid = stationary(problem), problem.grid
        density = gaussian(grid, SPREAD)
        current = (FLOW + TENSOR @ np.linalg.inv(SPREAD)) @ grid.positions() * density
        errors.append(error_l1(rest.density * grid.volumes, density * grid.volumes))
        flows.append(error_l1(rest.current * grid.volumes, current * grid.volumes))
    assert abs(orders(cells, errors)[0] - 2.0) < 0.1
    assert abs(orders(cells, flows)[0] - 2.0) < 0.1
    assert errors[-1] < 60.0 / cells[-1] ** 2  # 52 measured where refined, 24 to 37 elsewhere; 88 on equal cells


LINES = {
    "refined": lambda n: Axis("x", -3.0, 2.0, n, refine=(Refinement(-1.0, 3.0), Refinement(0.0, 2.0, 0.3))),
    "stretched": lambda n: Axis("x", -3.0, 2.0, n, scale=0.6, centre=-0.8),
    "half-infinite": lambda n: Axis("x", -INFINITY, 1.5, n, scale=1.0, centre=-0.5),
    "infinite": lambda n: Axis("x", -INFINITY, INFINITY, n, scale=1.0),
    "infinite and refined": lambda n: Axis("x", -INFINITY, INFINITY, n, scale=1.0, refine=(Refinement(-1.0, 2.0),)),
}


@pytest.mark.parametrize("name", LINES)
def test_second_order_of_the_first_passage_time_with_changing_noise(name):
    """Drift -4 x (x**2 - 1), D = (1 + 0.8 x**2)/4 (Ito), from about -1 to about 0.6, at faces of all the grids."""
    cells = (200, 400)
    start, target = (float(LINES[name](50).faces[np.abs(LINES[name](50).faces - x).argmin()]) for x in (-1.0, 0.6))

    def potential(x):
        """Integral of drift / D, with u = x**2: of -8 (u - 1) / (1 + 0.8 u) du."""
        return 22.5 * np.log1p(0.8 * x**2) - 10.0 * x**2

    lower = max(-7.0, LINES[name](9).lower)  # ln p = -400 there
    wanted, _ = passage_moments(potential, lambda x: 0.25 * (1.0 + 0.8 * x**2), lower, start, target)
    landscape = Landscape(drift=["-4*x*(x**2 - 1)"], variables=("x",))
    noise, errors = TensorNoise(diffusion=[["0.25*(1 + 0.8*x**2)"]]), []
    for count in cells:
        problem = Problem(landscape, noise, Grid(x=LINES[name](count)))
        errors.append(abs(first_passage(problem, (start,), f"x > {target!r}") / wanted - 1.0))
    assert np.abs(orders(cells, errors) - 2.0).max() < 0.1
    assert errors[-1] < 1.2 / cells[-1] ** 2  # 0.03 to 1.02 measured


@pytest.mark.parametrize("name", LINES)
def test_barriers_converge_as_on_equal_cells(name):
    """Constant noise, barrier/noise 10: what a map adds is far below its own second order, 2e-4 at 200 cells."""
    problem = with_loss(Grid(x=LINES[name](200)), "(x**2 - 1)**2", 0.1)
    lower = max(-2.4, problem.grid.axes[0].lower)  # ln p = -227 there
    wanted, _ = passage_moments(lambda x: -((x**2 - 1.0) ** 2) / 0.1, lambda x: np.full_like(x, 0.1), lower, -1.0, 0.5)
    assert first_passage(problem, (-1.0,), "x > 0.5") == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("kind", [refined, stretched, infinite], ids=lambda kind: kind.__name__)
def test_second_order_of_the_first_passage_time_in_the_plane(kind):
    """A full tensor that changes from place to place, separable along turned axes: 1-D quadrature, 12 digits."""
    cells, errors, start = (64, 128), [], tuple(-PLANE_AXES[0])
    for count in cells:
        problem = rotated_loud_well(4).on(Grid(x=kind("x", count), y=kind("y", count)))
        found = first_passage(problem, start, f"{directions(PLANE_AXES)[0]} > 1")
        errors.append(abs(found / 26.4948945568649 - 1.0))
    assert abs(orders(cells, errors)[0] - 2.0) < 0.1
    assert errors[-1] < 15.0 / cells[-1] ** 2  # 10 measured where cells were taken away, 3 on equal cells


def test_the_current_around_a_circle_is_of_second_order():
    """A constant force on a refined circle: J is known (Stratonovich 1967), and the same everywhere."""
    wanted = ring_current(lambda x: np.cos(x), 0.5, 0.4, 2.0 * math.pi)
    cells, errors = (40, 80, 160), []
    for count in cells:
        problem = with_drift(Grid(x=around("x", count)), ["sin(x) + 0.5"], [[0.4]])
        rest = stationary(problem)
        assert rest.current[0] == pytest.approx(np.full(count, rest.current[0, 0]), rel=1e-11)
        errors.append(abs(rest.current[0, 0] / wanted - 1.0))
    assert np.abs(orders(cells, errors) - 2.0).max() < 0.1
    assert errors[-1] < 10.0 / cells[-1] ** 2


# In time


@pytest.mark.parametrize(("name", "cells"), [("refined", (48, 96)), ("infinite", (32, 64))])
def test_second_order_in_time_with_the_mass_kept(name, cells):
    """A non-normal Ornstein-Uhlenbeck process with a full tensor stays Gaussian (Van Loan's formula for its spread)."""
    errors, start = [], np.array([[0.3, 0.05], [0.05, 0.12]])
    turn = expm(FLOW * 0.5)
    spread = SPREAD + turn @ (start - SPREAD) @ turn.T
    for count in cells:
        x, y = PLANES[name](count)
        problem = with_drift(Grid(x=x, y=y), linear(FLOW.tolist()), TENSOR)
        motion = evolve(problem, Gaussian((1.0, 0.3), start), until=0.5, save=1, tolerance=1e-6)
        wanted = gaussian(problem.grid, spread, turn @ (1.0, 0.3))
        errors.append(error_l1(motion.density[-1] * problem.grid.volumes, wanted * problem.grid.volumes))
        assert motion.mass_error < 1e-12
        assert motion.probability.min() >= 0.0
    assert abs(orders(cells, errors)[0] - 2.0) < 0.1


def test_what_leaves_a_stretched_box_is_counted():
    axis = Axis("x", -1.0, 3.0, 60, ("absorbing", "reflecting"), scale=0.5, centre=-1.0)
    motion = evolve(free(Grid(x=axis), [[0.5]]), Uniform(), until=1.0, save=4)
    assert motion.mass_error < 1e-12
    assert motion.density[0] == pytest.approx(np.full(60, motion.density[0, 0]), rel=1e-13)
    # cosine series of the survival of a uniform start, length 4, D t = 0.5
    modes = (np.arange(200) + 0.5) * math.pi
    survival = float((2.0 / modes**2 * np.exp(-(modes**2) * 0.5 / 16.0)).sum())
    assert motion.mass[-1] == pytest.approx(survival, rel=20.0 / 60**2)


# Points, starts, regions, diagnostics


@every_kind_around
def test_a_point_is_where_it_is(kind):
    grid = Grid(x=kind("x", 30), y=infinite("y", 20))
    weights = point_weights(grid, (0.37, -0.41), "point")
    assert weights.weights.sum() == pytest.approx(1.0, rel=1e-15)
    for row, wanted in zip(grid.positions(), (0.37, -0.41), strict=True):
        assert weights.read(row) == pytest.approx(wanted, abs=1e-14)
    beside = point_weights(grid, (0.0, 1e9), "point")
    assert grid.positions()[1][beside.cells] == pytest.approx(grid.axes[1].centres[-1])


def test_starts_on_maps():
    problem = free(Grid(x=infinite("x", 200)), [[1.0]])
    (x,) = problem.grid.positions()
    probability = Gaussian((0.5,), width=0.6).probability(problem)
    assert probability @ x == pytest.approx(0.5, abs=1e-10)
    assert probability @ (x - 0.5) ** 2 == pytest.approx(0.36, abs=1e-10)
    assert Point((0.3,)).probability(problem) @ x == pytest.approx(0.3, abs=1e-14)
    with pytest.raises(
        CaseError, match=r"initial.uniform: the axis x is infinite. A uniform density needs finite walls"
    ):
        Uniform().probability(problem)
    with pytest.raises(CaseError, match="where cells are"):
        Gaussian((20.0,), width=0.2).probability(problem)


@every_kind
def test_regions_on_maps(kind):
    cells, errors = (40, 80, 160), []
    for count in cells:
        problem = with_loss(Grid(x=kind("x", count)), "x**2/2", 0.49)
        rest = stationary(problem, regions={"left": problem.region("x < 0.3"), "all": problem.region("x < 1e30")})
        assert rest.regions["all"] == pytest.approx(1.0, abs=1e-13)
        errors.append(abs(rest.regions["left"] - 0.5 * (1.0 + math.erf(0.3 / (0.7 * math.sqrt(2.0))))))
    assert max(error * count**2 for error, count in zip(errors, cells, strict=True)) < 20.0


def test_nothing_is_cut_off_at_infinity():
    rest = stationary(with_loss(Grid(x=half_infinite_below("x", 60)), "(x - 4)**2", 1.0))
    assert rest.tail_mass == pytest.approx(rest.probability[-1])
    assert stationary(with_loss(Grid(x=infinite("x", 60)), "0.01*x**2", 1.0)).tail_mass == 0.0


def test_a_map_makes_no_wells():
    wide = with_loss(Grid(x=infinite("x", 64)), "x**2/2", 1.0)
    assert cells_across(wide)["x"] == pytest.approx(1.0 / wide.grid.axes[0].widths.min(), rel=0.02)
    assert cells_across(free(Grid(x=refined("x", 64)), [[1.0]]))["x"] == INFINITY
    # the minimum at 1 is 0.112 wide and a cell there 0.047; beyond it both change quickly
    assert 1.5 < cells_across(with_loss(Grid(x=infinite("x", 128)), "(x**2 - 1)**2", 0.1))["x"] < 2.5


def test_long_offsets_far_out_on_infinite_axes_are_no_error():
    grid = Grid(x=infinite("x", 64), y=Axis("y", -INFINITY, INFINITY, 16, scale=1.0))
    chain = Generator.of(with_drift(grid, ["-x", "-y"], [[1.0, 0.9], [0.9, 1.0]]))
    assert np.isfinite(chain.departure).all()
    stretches = [Axis(name, -1.0, 1e6, 40, scale=1.0, centre=-1.0) for name in "xy"]
    with pytest.raises(CaseError, match="cells of more equal widths"):
        Generator.of(free(Grid(x=stretches[0], y=stretches[1]), [[1.0, 0.9], [0.9, 1.0]]))


# Case files and result files

CASE = """\
[landscape]
variables = ["x", "y"]
loss = "(x**2 - 1)**2/2 + y**2"
[noise]
kind = "constant"
temperature = 0.3
[grid]
x = { min = -inf, max = inf, cells = 56, scale = 1.0, refine = [{ at = -1.0, by = 2.0 }] }
y = { min = -1.5, max = inf, cells = 24, scale = 0.8, centre = 0.0 }
[regions]
left = "x < 0"
[initial]
gaussian = { mean = [-1.0, 0.0], width = 0.3 }
[evolve]
until = 0.2
save = 2
watch = ["left"]
[stationary]
[escape]
start = [-1.0, 0.0]
target = "x > 0.8"
grids = 1
"""


def read(text):
    return parse_case(tomllib.loads(text), "plane")


def test_case_keys():
    case = read(CASE)
    x, y = case.grid.axes
    assert x == Axis("x", -INFINITY, INFINITY, 56, scale=1.0, refine=(Refinement(-1.0, 2.0),))
    assert y == Axis("y", -1.5, INFINITY, 24, scale=0.8, centre=0.0)
    assert read(case.resolved()) == case


def test_a_run_on_an_infinite_plane(tmp_path):
    report = fpsolve.run(read(CASE), output=tmp_path)
    assert report.outcome == "done"
    assert report.warnings == []
    assert {path.stem for path in report.figures} >= {"plane-density", "plane-time", "plane-escape"}
    with h5netcdf.File(report.result_file) as file:
        grid = report.generator.grid
        np.testing.assert_array_equal(file["x"], grid.axes[0].centres)
        np.testing.assert_array_equal(file["x_bounds"][:, 0], grid.axes[0].faces[:-1])
        np.testing.assert_array_equal(file["y_bounds"][-1], [grid.axes[1].faces[-2], INFINITY])
        assert file["x_bounds"][0, 0] == -INFINITY
        assert np.sum(file["stationary_density"][:].ravel() * grid.volumes) == pytest.approx(1.0, abs=1e-12)
        assert read(file.attrs["case"]) == read(CASE)


def test_pictures_end_where_there_is_nothing_to_see():
    problem = read(CASE).problem
    rest = stationary(problem)
    with figures.styled():
        drawn = figures.sketch(problem, "Cut", rest=rest, motion=None, escape=None, regions={})
        panel = drawn["density"].axes[0]
        (left, right), (low, high) = panel.get_xlim(), panel.get_ylim()
    assert -4.0 < left < -1.5
    assert 1.5 < right < 4.0
    assert low == -1.5
    assert 1.0 < high < 5.0


X = "x = { min = -2.0, max = 2.0, cells = 20"
HALF = "x = { min = 0, max = inf, cells = 20, scale = 1 }"
REFUSED = [
    (f"{X}, centre = 0.0 }}", "grid.x.centre: it has no effect without scale. It is where cells are finest."),
    (f"{X}, scale = 0.0 }}", "grid.x.scale: it is 0. A scale is a length above 0."),
    (
        f"{X}, scale = 1.0, centre = 3.0 }}",
        "grid.x.centre: it is 3. It must be a number between -2 and 2. Leave it out",
    ),
    (f"{X}, scale = inf }}", "grid.x.scale: it is inf. It must be a finite number."),
    (
        f"{X}, refine = [{{ at = 3.0, by = 4 }}] }}",
        "grid.x.refine.0.at: it is 3. It must lie on the axis, between -2 and 2.",
    ),
    (
        f"{X}, refine = [{{ at = 1.0, by = 0.5 }}] }}",
        "grid.x.refine.0.by: it is 0.5. Cells are made finer by a number of at least 1. Try by = 4.",
    ),
    (
        f"{X}, refine = [{{ at = 1.0, by = 2, width = 0.0 }}] }}",
        "grid.x.refine.0.width: it is 0. It must be above 0 and below the length of the axis.",
    ),
    (
        f"{X}, refine = [{{ at = 1.0, by = 1e9, width = 1e-13 }}] }}",
        "grid.x.refine.0.width: it makes cells finer over a width of 1e-13. Positions there are told apart over widths "
        "of at least 4e-12. Use a wider one.",
    ),
    (f"{X}, refine = [{{ at = 1.0, by = 1e14 }}] }}", "grid.x.refine.0.by: it makes cells finer over a width of"),
    (f"{X}, refine = [{{ at = 1.0 }}] }}", 'grid.x.refine.0: the key "by" is missing. It has no default. Add by = ...'),
    (
        f"{X}, refine = [{{ at = 1.0, by = 2, widht = 1 }}] }}",
        'grid.x.refine.0.widht: unknown key "widht". Known: at, by, width. Did you mean "width"?',
    ),
    (f"{X}, refine = [1.0] }}", "grid.x.refine.0: 1.0 stands where a table belongs. Write { at = ..., by = ... }."),
    (f"{X}, refine = 4 }}", "grid.x.refine: it is 4. It must be a list in brackets."),
    (
        "x = { min = -inf, max = 2.0, cells = 20 }",
        "grid.x: the axis runs from -inf to 2 and has no scale. An infinite axis has most of its cells within one "
        "scale of its centre. Add scale = the width of the densities that you expect.",
    ),
    ("x = { min = -inf, max = inf, cells = 2, scale = 1 }", "grid.x: cells = 2. An infinite axis needs at least 3."),
    ("x = { min = nan, max = 2.0, cells = 20 }", "grid.x.min: it is nan. It must be a number, -inf or inf."),
    ("x = { min = inf, max = -inf, cells = 20, scale = 1 }", "grid.x: min = inf is not below max = -inf."),
    (
        f"{HALF}\n[walls]\nx = ['reflecting', 'absorbing']",
        "walls.x: the wall at inf is absorbing. An infinite end counts as a reflecting wall. Remove it, or give the "
        "axis a finite end.",
    ),
    (f"{HALF}\n[walls]\nx = 'periodic'", "walls.x: the wall at inf is periodic."),
    (
        f"{X}, scale = 1.0 }}\n[walls]\nx = 'periodic'",
        "grid.x.scale: a periodic axis has the same cells at both ends. A scale makes them grow away from a centre. "
        "Use refine.",
    ),
]


@pytest.mark.parametrize(("axis", "message"), REFUSED, ids=[message[:40] for _, message in REFUSED])
def test_axes_that_are_refused(axis, message):
    landscape, noise = 'variables = ["x"]\nloss = "x**2"', 'kind = "constant"\ntemperature = 1.0'
    text = f"[landscape]\n{landscape}\n[noise]\n{noise}\n[grid]\n{axis}\n"
    with pytest.raises(CaseError) as caught:
        _ = read(text).grid
    assert str(caught.value).startswith(message)
