"""Turned grids: all is as on a grid along the variables, and stays in the user's coordinates."""

from __future__ import annotations

import math
from dataclasses import replace

import exact
import matplotlib as mpl
import numpy as np
import problems
import pytest
import xarray
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse.linalg import spsolve

import fpsolve
from fpsolve import (
    Axis,
    CaseError,
    ConstantNoise,
    Frame,
    Gaussian,
    Generator,
    Grid,
    HessianNoise,
    Landscape,
    Problem,
    Saved,
    TensorNoise,
)
from fpsolve.analyse.basins import find_basins
from fpsolve.analyse.path import most_probable_path
from fpsolve.analyse.stationary_points import stationary_point
from fpsolve.case import parse_case
from fpsolve.model.region import point_weights
from fpsolve.present.figures import sketch
from fpsolve.present.pictures.style import styled
from fpsolve.refine import coarsened
from fpsolve.solve.ensemble import Swarm

ANGLE = 0.4
ROWS = problems.rotation(ANGLE).T  # rows are the directions of u and v
U, V = problems.along(ANGLE)
GENERIC = 0.9  # the angle of a grid that no problem is turned by
ROUNDING = 1e-12


def frame(angle: float = ANGLE, at: tuple[float, float] = (0.0, 0.0)) -> Frame:
    return Frame(("x", "y"), at, problems.rotation(angle).T)


def square(angle: float, half: float, cells: int, at: tuple[float, float] = (0.0, 0.0)) -> Grid:
    return Grid(frame(angle, at), axis_1=(-half, half, cells), axis_2=(-half, half, cells))


# --- frames


@given(st.floats(-7.0, 7.0), st.floats(-5.0, 5.0), st.floats(-5.0, 5.0))
def test_coordinates_go_there_and_back(angle, x, y):
    one, place = frame(angle, (x, y)), np.array([[0.3, -2.0, 5.0], [0.0, 1.0, -7.0]])
    assert np.abs(one.positions(one.along(place)) - place).max() < 1e-13  # rounding of numbers up to 10
    matrix = np.array([[2.0, 0.5], [0.5, 1.0]])
    assert np.abs(one.unturned_matrices(one.turned_matrices(matrix)) - matrix).max() < 1e-14
    assert np.isclose(place[:, 0] @ matrix @ place[:, 0],
                      one.turned(place[:, 0]) @ one.turned_matrices(matrix) @ one.turned(place[:, 0]))  # fmt: skip


@given(st.floats(0.0, 2.0 * math.pi), st.floats(0.1, 10.0))
def test_principal_axes_are_the_stiffest_first_and_point_to_the_positive(angle, stiffness):
    hessian = problems.turned([stiffness + 1.0, 1.0], angle)
    found = Frame.principal(("x", "y"), (0.0, 0.0), hessian).directions
    diagonal = found @ hessian @ found.T
    assert np.allclose(diagonal, np.diag([stiffness + 1.0, 1.0]), atol=1e-13 * (stiffness + 1.0))  # rounding
    for row in found:
        assert row[int(np.argmax(np.abs(row) > (1.0 - 1e-9) * np.abs(row).max()))] > 0.0


def test_equal_curvatures_keep_the_coordinate_axes():
    assert np.array_equal(Frame.principal(("x", "y"), (0.0, 0.0), 3.0 * np.eye(2)).directions, np.eye(2))
    rows = Frame.principal(("x", "y", "z"), (0.0, 0.0, 0.0), np.diag([1.0, 5.0, 1.0])).directions
    assert np.allclose(rows, np.eye(3)[[1, 0, 2]], atol=1e-15)


def test_a_landscape_makes_frames():
    landscape = Landscape(f"({U}**2 - 1)**2 + 10*{V}**2", variables=("x", "y"))
    at = ROWS.T @ [1.0, 0.0]
    stiffest = landscape.frame(at)
    assert np.allclose(stiffest.directions, [ROWS[1], ROWS[0]], atol=1e-12)  # rounding: 20 across, 8 along
    assert np.allclose(landscape.frame(at, 3.0 * ROWS).directions, ROWS, atol=1e-15)
    assert stiffest.words(1, "axis_2") == "axis_2 = 0.921 x + 0.389 y from (0.9211, 0.3894)"
    assert Frame(("x", "y"), (0, 0), [[0, 1], [-1, 0]]).words(1, "axis_2") == "axis_2 = -x from (0, 0)"


BAD_FRAMES = [
    ((("x",), (0.0,), [[1.0]]), "grid.axes: 1 variable. A grid of 2 to 3 axes can be turned. Remove it."),
    ((("x", "y"), (0.0,), np.eye(2)), "grid.axes.at: 1 coordinates. A point needs 2, one per variable."),
    ((("x", "y"), (0.0, math.inf), np.eye(2)), "grid.axes.at: it is not finite. Axes begin at a point."),
    ((("x", "y"), (0.0, 0.0), [[1.0, 0.0]]), "grid.axes.directions: it is 1 x 2. It needs 2 rows, one for every axis"),
    ((("x", "y"), (0.0, 0.0), [[1.0], [0.0, 1.0]]), "grid.axes.directions: its rows are not alike. It needs 2 rows"),
    ((("x", "y"), (0.0, 0.0), [[1.0, 0.0], [0.0, 0.0]]), "grid.axes.directions: a row is zero or not finite."),
    ((("x", "y"), (0.0, 0.0), [[1.0, 0.0], [1.0, 1.0]]), "grid.axes.directions: rows 1 and 2 are at 45 degrees. "
     "The axes of a grid are at right angles. Write [[1, 0], [0, 1]]."),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), BAD_FRAMES, ids=[message[:45] for _, message in BAD_FRAMES])
def test_bad_frames_are_refused(arguments, message):
    with pytest.raises(CaseError) as caught:
        Frame(*arguments)
    assert str(caught.value).startswith(message)


def test_a_turned_grid_has_axes_of_its_own():
    with pytest.raises(CaseError, match=r"grid: axes x, y\. The axes of a turned grid are axis_1, axis_2"):
        Grid(frame(), x=(-1.0, 1.0, 4), y=(-1.0, 1.0, 4))
    landscape = Landscape("a**2 + b**2", variables=("a", "b"))
    with pytest.raises(CaseError, match=r"grid: axes x, y beside variables a, b"):
        Problem(landscape, ConstantNoise(temperature=1.0), square(0.1, 1.0, 4))
    for at in ("stiffest", "hessian"):
        with pytest.raises(CaseError, match=r"grid\.axes\.directions"):
            Landscape(drift=["-x", "-y"], variables=("x", "y")).frame((0.0, 0.0), at)


# --- the same as unturned


def quartic(temperature: float = 0.3, swirl: float = 0.5) -> tuple[Problem, Problem]:
    """The quartic well with a drift that circles, on a grid turned by its angle, and straight."""
    c, s = ROWS[0].tolist()
    across, along = f"({swirl}*{V})", f"(-{swirl}*{U}/2)"
    drift = [f"{c!r}*{across} - {s!r}*{along}", f"{s!r}*{across} + {c!r}*{along}"]
    noise, bounds = ConstantNoise(temperature=temperature), {"lower": (-2.0, 2.0, 40), "upper": (-2.5, 2.5, 30)}
    oblique = Landscape(f"({U}**2 - 1)**2 + {V}**2", variables=("x", "y"), extra_drift=drift)
    straight = Landscape("(x**2 - 1)**2 + y**2", variables=("x", "y"),
                         extra_drift=[f"{swirl}*y", f"-{swirl}*x/2"])  # fmt: skip
    return (
        Problem(oblique, noise, Grid(frame(), axis_1=bounds["lower"], axis_2=bounds["upper"])),
        Problem(straight, noise, Grid(x=bounds["lower"], y=bounds["upper"])),
    )


def test_the_density_at_rest_is_that_of_the_straight_problem():
    """Rounding, everywhere below: both are the same sums in another order."""
    oblique, straight = quartic()
    rest, wanted = fpsolve.stationary(oblique), fpsolve.stationary(straight)
    assert exact.error_l1(rest.probability, wanted.probability) < 1e-11
    assert np.allclose(rest.mean, ROWS.T @ wanted.mean, atol=ROUNDING)
    assert np.allclose(rest.covariance, ROWS.T @ wanted.covariance @ ROWS, atol=ROUNDING)
    assert np.allclose(rest.current, ROWS.T @ wanted.current, atol=1e-11)
    assert np.allclose(rest.mean_current, ROWS.T @ wanted.mean_current, atol=ROUNDING)
    assert rest.entropy_production == pytest.approx(wanted.entropy_production, rel=1e-9)
    assert np.allclose(oblique.grid.positions(), ROWS.T @ straight.grid.positions(), atol=1e-14)


def test_escapes_basins_and_paths_are_those_of_the_straight_problem():
    oblique, straight = quartic()
    target = oblique.region(f"{U} > 0.8"), straight.region("x > 0.8")
    found, wanted = (
        fpsolve.escape(problem, start=tuple(start), target=region)
        for problem, region, start in zip((oblique, straight), target, (ROWS.T @ [-1.0, 0.0], [-1.0, 0.0]), strict=True)
    )
    for name, time in wanted.times.items():
        # The plateau of the running flux is found to its own tolerance.
        assert found.times[name].value == pytest.approx(time.value, rel=1e-8 if name == "running_flux" else 1e-10)
    assert np.allclose(found.current, ROWS.T @ wanted.current, atol=1e-9 * np.abs(wanted.current).max())
    assert np.allclose(found.transition.current, ROWS.T @ wanted.transition.current, atol=1e-9)
    basins, others = find_basins(oblique), find_basins(straight)
    assert np.array_equal(basins.label, others.label)
    for one, other in zip(basins.minima, others.minima, strict=True):
        assert np.allclose(one.position, ROWS.T @ other.position, atol=1e-12)
    (saddle,) = basins.saddles
    assert np.allclose(saddle.point.position, 0.0, atol=1e-12)
    assert abs(saddle.point.lowest_direction @ ROWS[0]) == pytest.approx(1.0, abs=1e-12)
    path = most_probable_path(oblique, basins.minima[0].position, saddle.point.position)
    straight_path = most_probable_path(straight, others.minima[0].position, others.saddles[0].point.position)
    assert path.action == pytest.approx(straight_path.action, rel=1e-6)  # the optimiser's own tolerance


def test_spectrum_and_motion_are_those_of_the_straight_problem():
    oblique, straight = quartic()
    modes, wanted = fpsolve.spectrum(oblique, count=3), fpsolve.spectrum(straight, count=3)
    assert np.allclose(modes.eigenvalues, wanted.eigenvalues, rtol=1e-7, atol=1e-9)  # of the iteration
    starts = Gaussian(mean=ROWS.T @ [-0.9, 0.2], width=0.3), Gaussian(mean=[-0.9, 0.2], width=0.3)
    motion, other = (
        fpsolve.evolve(problem, start, until=2.0, save=2, watch={"left": region}, tolerance=1e-8)
        for problem, start, region in zip((oblique, straight), starts, (f"{U} < 0.1", "x < 0.1"), strict=True)
    )
    assert np.allclose(motion.mean, other.mean @ ROWS, atol=1e-9)  # the tolerance in time
    assert np.allclose(motion.covariance, ROWS.T @ other.covariance @ ROWS, atol=1e-9)
    assert np.allclose(motion.occupation["left"], other.occupation["left"], atol=1e-9)
    assert np.allclose(motion.current[-1], ROWS.T @ other.current[-1], atol=1e-8)
    assert motion.mass_error < ROUNDING


@pytest.mark.parametrize("convention", ["ito", "isothermal", "stratonovich"])
def test_noise_that_changes_is_turned_too(convention):
    """A full tensor f(x) M; D along the axes is diag(1, 0.2) f."""
    scale, oblique_scale = "(1 + 0.5*sin(x))", f"(1 + 0.5*sin({U}))"
    shape = ROWS.T @ np.diag([1.0, 0.2]) @ ROWS
    tensor = [[f"{entry!r}*{oblique_scale}" for entry in row] for row in (0.5 * (shape + shape.T)).tolist()]
    axes = (-2.0, 2.0, 24), (-1.5, 1.5, 20)
    oblique = Problem(
        Landscape(f"{U}**2 + 0.5*{V}**2", variables=("x", "y")),
        TensorNoise(diffusion=tensor, convention=convention),
        Grid(frame(), axis_1=axes[0], axis_2=axes[1]),
    )
    straight = Problem(
        Landscape("x**2 + 0.5*y**2", variables=("x", "y")),
        TensorNoise(diffusion=[[scale, "0"], ["0", f"0.2*{scale}"]], convention=convention),
        Grid(x=axes[0], y=axes[1]),
    )
    rest, wanted = fpsolve.stationary(oblique), fpsolve.stationary(straight)
    assert exact.error_l1(rest.probability, wanted.probability) < 1e-10  # rounding
    assert int(np.abs(Generator.of(oblique).edges.displacement).max()) == 1


def test_the_noise_of_sgd_is_turned_too():
    loss = "(x**2 - 1)**2 + 20*y**2"
    noise = HessianNoise(learning_rate=0.2, batch_size=1, projection="abs", floor=2.0)
    landscape = Landscape(loss.replace("x", U).replace("y**", f"{V}**"), variables=("x", "y"))
    axes = (-2.0, 2.0, 30), (-1.5, 1.5, 20)
    oblique = Problem(landscape, noise, Grid(frame(), axis_1=axes[0], axis_2=axes[1]))
    straight = Problem(Landscape(loss, variables=("x", "y")), noise, Grid(x=axes[0], y=axes[1]))
    rest, wanted = fpsolve.stationary(oblique), fpsolve.stationary(straight)
    assert exact.error_l1(rest.probability, wanted.probability) < 1e-10  # rounding
    one, other = fpsolve.escape(oblique), fpsolve.escape(straight)  # start, valley and target follow from the basins
    first = "mean_first_passage_time"
    assert one.times[first].value == pytest.approx(other.times[first].value, rel=1e-7)  # of the core's edge
    assert np.allclose(ROWS @ one.start, other.start, atol=1e-9)


def test_in_space():
    rows = problems.SPACE_AXES
    problem = problems.rotated_well_in_space(4, 0.4)
    bounds = {"axis_1": (-2.0, 2.0, 14), "axis_2": (-1.8, 1.8, 10), "axis_3": (-1.5, 1.5, 9)}
    problem = problem.on(Grid(Frame(("x", "y", "z"), (0.0, 0.0, 0.0), rows), **bounds))
    straight = problems.with_loss(
        Grid(**dict(zip("xyz", bounds.values(), strict=True))), "(x**2 - 1)**2 + 1.5*y**2 + 2.5*z**2", 0.4
    )
    rest, wanted = fpsolve.stationary(problem), fpsolve.stationary(straight)
    assert exact.error_l1(rest.probability, wanted.probability) < 1e-11  # rounding
    assert np.allclose(rest.covariance, rows.T @ wanted.covariance @ rows, atol=1e-11)
    with styled():
        sketch(problem, "t", rest=rest, motion=None, escape=None, basins=find_basins(problem), regions={})


def test_a_turned_axis_may_be_periodic():
    """A potential of period 2 along u, with a force: a ring."""
    landscape = Landscape(f"0.3*cos(pi*{U}) + {V}**2", variables=("x", "y"), extra_drift=(ROWS[0] * 0.7).tolist())
    walls = ("periodic", "periodic")
    ring = Axis("axis_1", -1.0, 1.0, 32, walls)
    problem = Problem(landscape, ConstantNoise(temperature=0.4), Grid(frame(), axis_1=ring, axis_2=(-2.0, 2.0, 24)))
    rest = fpsolve.stationary(problem)
    current = exact.ring_current(lambda u: 0.3 * np.cos(np.pi * u), 0.7, 0.4, 2.0)
    assert np.allclose(rest.mean_current, ROWS[0] * current * 2.0, rtol=2e-3, atol=1e-10)  # discretisation
    with pytest.raises(CaseError, match="axis axis_1 is periodic but loss"):
        problem.on(Grid(frame(0.5), axis_1=ring, axis_2=(-2.0, 2.0, 24)))


def test_infinite_axes():
    """A quadratic loss on all of the plane, oblique to the axes: covariance T H^-1 to 1e-6 on 60 x 60 cells."""
    axes = {name: Axis(name, -math.inf, math.inf, 60, scale=1.0) for name in ("axis_1", "axis_2")}
    landscape = Landscape("x**2 + 0.5*x*y + 0.8*(y - 0.3)**2", variables=("x", "y"))
    problem = Problem(landscape, ConstantNoise(temperature=0.5), Grid(frame(GENERIC, (0.1, 0.2)), **axes))
    rest = fpsolve.stationary(problem)
    hessian = np.array([[2.0, 0.5], [0.5, 1.6]])
    assert np.isfinite(problem.grid.positions()).all()
    assert np.allclose(rest.covariance, 0.5 * np.linalg.inv(hessian), rtol=1e-6, atol=0.0)  # sums over smooth cells
    assert np.allclose(rest.mean, np.linalg.solve(hessian, [0.0, 0.48]), atol=1e-6)


def test_a_table_must_reach_to_the_corners(tmp_path):
    line = np.linspace(-2.0, 2.0, 41)
    x, y = np.meshgrid(line, line, indexing="ij")
    np.savez(tmp_path / "loss.npz", x=line, y=line, loss=x**2 + x * y + y**2)
    landscape = Landscape(table=str(tmp_path / "loss.npz"), variables=("x", "y"))
    noise = ConstantNoise(temperature=0.2)
    rest = fpsolve.stationary(Problem(landscape, noise, square(math.pi / 4, 1.4, 40)))
    assert np.allclose(rest.covariance, 0.2 * np.linalg.inv([[2.0, 1.0], [1.0, 2.0]]), rtol=5e-2)  # the box cuts it
    with pytest.raises(CaseError, match=r"grid: a corner of the turned grid lies at x = -2\.12.*knows x from -2 to 2"):
        Problem(landscape, noise, square(math.pi / 4, 1.5, 40))


# --- order 2 at an angle that is no problem's own

ORDER_SIZES = (24, 48, 96)
OU_DRIFT = [[-1.0, 1.3], [-0.8, -1.6]]
OU_TENSOR = problems.turned([0.6, 0.15], 0.3)


def turned_ou(cells: int) -> Problem:
    landscape = Landscape(drift=problems.linear(OU_DRIFT), variables=("x", "y"))
    return Problem(landscape, ConstantNoise(diffusion=OU_TENSOR), square(GENERIC, 3.6, cells, (0.1, -0.2)))


def test_the_density_at_rest_has_order_2():
    errors = []
    covariance = exact.ornstein_uhlenbeck(OU_DRIFT, OU_TENSOR, [0.0, 0.0], np.eye(2), 60.0)[1]
    for cells in ORDER_SIZES:
        problem = turned_ou(cells)
        wanted = exact.normal(problem.grid.positions(), [0.0, 0.0], covariance) * problem.grid.volumes
        errors.append(exact.error_l1(fpsolve.stationary(problem).probability, wanted))
    assert abs(exact.orders(ORDER_SIZES, errors)[-1] - 2.0) < 0.1


def test_moments_in_time_have_order_2():
    start, width, time = [0.5, -0.8], 0.4, 0.7
    mean, covariance = exact.ornstein_uhlenbeck(OU_DRIFT, OU_TENSOR, start, width**2 * np.eye(2), time)
    densities, covariances = [], []
    for cells in ORDER_SIZES:
        problem = turned_ou(cells)
        motion = fpsolve.evolve(problem, Gaussian(mean=start, width=width), times=[time], tolerance=1e-9)
        wanted = exact.normal(problem.grid.positions(), mean, covariance) * problem.grid.volumes
        densities.append(exact.error_l1(motion.probability[-1], wanted))
        covariances.append(float(np.abs(motion.covariance[-1] - covariance).max()))
    assert abs(exact.orders(ORDER_SIZES, densities)[-1] - 2.0) < 0.1
    assert abs(exact.orders(ORDER_SIZES, covariances)[-1] - 2.0) < 0.1


def test_first_passage_times_have_order_2():
    """Out through a wall of the turned box, D full along its axes: the coordinate u of axis_1 is a process of its own.

    du = -1.2 u dt + sqrt(2 D_uu) dW whatever v does, reflected at -1.5, absorbed at 1.
    """
    rows, walls = problems.rotation(GENERIC).T, ("reflecting", "absorbing")
    matrix = rows.T @ np.array([[-1.2, 0.0], [0.5, -1.0]]) @ rows
    landscape = Landscape(drift=problems.linear(matrix), variables=("x", "y"))
    across = float(rows[0] @ OU_TENSOR @ rows[0])
    wanted, _ = exact.passage_moments(
        lambda u: -0.6 * u**2 / across, lambda u: np.full_like(u, across), -1.5, -0.4, 1.0
    )
    errors = []
    for cells in ORDER_SIZES:
        grid = Grid(frame(GENERIC), axis_1=Axis("axis_1", -1.5, 1.0, cells, walls), axis_2=(-3.5, 3.5, 2 * cells))
        problem = Problem(landscape, ConstantNoise(diffusion=OU_TENSOR), grid)
        times = spsolve(Generator.of(problem).matrix().T.tocsc(), -np.ones(grid.size))
        start = frame(GENERIC).positions(np.array([-0.4, 0.1]))
        errors.append(abs(point_weights(grid, start.tolist(), "start").read(times) / wanted - 1.0))
    assert abs(exact.orders(ORDER_SIZES, errors)[-1] - 2.0) < 0.1


def test_first_passage_into_an_oblique_region():
    """The rotated quartic well on a grid turned by another angle; how the surface cuts edges varies with the cells."""
    wanted, errors = exact.quartic_passage(0.4, 1.2)[0], []
    for cells in ORDER_SIZES:
        problem = problems.rotated_quartic(4, 0.4).on(square(GENERIC, 2.9, cells))
        found = fpsolve.escape(problem, start=tuple(ROWS.T @ [-1.0, 0.0]), target=problem.region(f"{U} > 1.2"))
        errors.append(abs(found.times["mean_first_passage_time"].value / wanted - 1.0))
    assert errors[-1] < 5e-4  # discretisation
    assert errors[0] > 2.0 * errors[1] > 4.0 * errors[2]


def test_a_strongly_anisotropic_well_needs_no_long_offsets():
    """SGD's noise, D in proportion to H of condition 1000, at 30 degrees; on grids of as many cells, as wide."""
    hessian = problems.turned([10.0, 0.01], math.pi / 6)
    h = hessian.tolist()
    loss = f"0.5*({h[0][0]!r}*x**2 + 2*{h[0][1]!r}*x*y + {h[1][1]!r}*y**2)"
    landscape = Landscape(loss, variables=("x", "y"))
    noise = HessianNoise(learning_rate=2.0, batch_size=1)
    along, across = landscape.frame((0.0, 0.0)), Grid(x=(-5.5, 5.5, 48), y=(-5.5, 5.5, 48))
    grids = Grid(along, axis_1=(-5.5, 5.5, 48), axis_2=(-5.5, 5.5, 48)), across
    start, time = np.array([1.5, -0.4]), 0.2
    # D = H: the density at rest is normal with covariance 1 whatever H is.
    mean, covariance = exact.ornstein_uhlenbeck(-hessian, hessian, start, 0.36 * np.eye(2), time)
    offsets, errors = [], []
    for grid in grids:
        problem = Problem(landscape, noise, grid)
        offsets.append(int(np.abs(Generator.of(problem).edges.displacement).max()))
        motion = fpsolve.evolve(problem, Gaussian(mean=start, width=0.6), times=[time], tolerance=1e-8)
        wanted = exact.normal(grid.positions(), mean, covariance) * grid.volumes
        errors.append(exact.error_l1(motion.probability[-1], wanted))
    assert offsets[0] == 1
    assert offsets[1] >= 5
    assert errors[0] < 0.1 * errors[1]  # 1.4e-4 and 4.5e-3


# --- places, walls and coarser grids


def test_points_on_walls_and_beyond():
    grid = square(ANGLE, 1.0, 8, (2.0, -1.0))
    corner = frame(at=(2.0, -1.0)).positions(np.array([1.0, 1.0]))
    weights = point_weights(grid, corner.tolist(), "start")
    assert weights.cells.tolist() == [63]
    with pytest.raises(CaseError, match=r"start: axis_1 = 1\.1 lies outside the grid\. axis_1 runs from -1 to 1\."):
        point_weights(grid, frame(at=(2.0, -1.0)).positions(np.array([1.1, 0.0])).tolist(), "start")
    centre = grid.positions()[:, 17]
    assert point_weights(grid, centre.tolist(), "start").read(np.arange(64.0)) == pytest.approx(17.0, abs=1e-12)
    assert grid.place(0).startswith(f"cell (0, 0) at x = {grid.positions()[0, 0]:.6g}, y = ")


def test_a_turned_wall_holds_a_minimum():
    """The loss falls along u to the wall at u = 1: the point at rest there is a minimum of what is left, along v."""
    landscape = Landscape(f"-{U} + ({V} - 0.3)**2", variables=("x", "y"))
    problem = Problem(landscape, ConstantNoise(temperature=0.2), square(ANGLE, 1.0, 20))
    (minimum,) = find_basins(problem).minima
    assert minimum.held == (0,)
    assert np.allclose(ROWS @ minimum.position, [1.0, 0.3], atol=1e-9)
    assert minimum.eigenvalues == pytest.approx([2.0])
    assert stationary_point(problem, minimum.position).held == (0,)


def test_absorbing_walls_are_named_after_the_axes():
    walls = ("reflecting", "absorbing")
    grid = Grid(frame(), axis_1=Axis("axis_1", -2.0, 0.5, 50, walls), axis_2=(-2.0, 2.0, 20))
    problem = problems.rotated_quartic(4, 0.4).on(grid)
    motion = fpsolve.evolve(problem, Gaussian(mean=ROWS.T @ [-1.0, 0.0], width=0.2), until=20.0, save=4)
    assert list(motion.absorbed) == ["axis_1_max"]
    assert motion.mass_error < ROUNDING
    with pytest.raises(CaseError, match=r"absorbing walls alone are not a target yet.*target = \"0\.921061\*\(x - 0\)"):
        fpsolve.escape(problem)


def test_coarser_grids_are_turned_too():
    problem = quartic()[0]
    for one in coarsened(problem):
        assert one.grid.frame is problem.grid.frame
    assert problem.grid.with_axes(replace(axis, cells=3) for axis in problem.grid.axes).shape == (3, 3)


def test_walkers_move_on_turned_grids():
    """Mean and covariance of the SDE within 4 standard errors; walls of the turned box reflect them."""
    problem = turned_ou(30)
    start, time = [0.5, -0.8], 0.7
    mean, covariance = exact.ornstein_uhlenbeck(OU_DRIFT, OU_TENSOR, start, np.zeros((2, 2)), time)
    swarm = fpsolve.walk(problem, [start] * 20_000, times=[time], time_step=0.005, seed=3)
    assert isinstance(swarm, Swarm)
    places = swarm.positions[0]
    error = np.sqrt(np.diag(covariance) / len(places))
    assert (np.abs(places.mean(axis=0) - mean) < 4.0 * error + 0.005).all()  # and the first order of the step
    assert np.allclose(np.cov(places.T), covariance, atol=0.01)
    small = Grid(frame(GENERIC), axis_1=(-0.2, 0.3, 4), axis_2=(-0.1, 0.4, 4))
    held = fpsolve.walk(problem.on(small), [[0.0, 0.0]] * 500, times=[0.0, 1.0], time_step=0.01, seed=3)
    assert np.allclose(held.positions[0], 0.0, atol=1e-15)
    along = small.along(held.positions[-1].T)
    assert (along.min(axis=1) >= np.array([-0.2, -0.1]) - 1e-12).all()
    assert (along.max(axis=1) <= np.array([0.3, 0.4]) + 1e-12).all()
    drawn = fpsolve.draw_starts(problem.on(small), fpsolve.Uniform(), 300, 1)
    assert (small.along(drawn.T).max(axis=1) <= np.array([0.3, 0.4]) + 1e-12).all()


def test_data_are_read_on_turned_grids_and_sgd_is_refused_there():
    rows = {"a": np.linspace(-1.0, 1.0, 40), "b": np.sin(np.arange(40.0))}
    landscape = Landscape(per_example_loss="0.5*(x*a + y - b)**2", data=rows, variables=("x", "y"))
    noise = fpsolve.MinibatchNoise(learning_rate=0.5, batch_size=1)
    problem = Problem(landscape, noise, Grid(landscape.frame((0.0, 0.0)), axis_1=(-2, 2, 20), axis_2=(-2, 2, 20)))
    assert fpsolve.stationary(problem).tail_mass < 0.1
    with pytest.raises(CaseError, match=r"grid\.axes: the grid is turned\. Runs of SGD need walls along the variables"):
        fpsolve.descend(problem, [[0.0, 0.0]] * 2, times=[1.0], seed=1)
    wide = replace(problem.grid.axes[0], cells=400), replace(problem.grid.axes[1], cells=300)
    assert landscape.tabulated(problem.grid.with_axes(wide)) is landscape  # exact, where splines would stand


# --- cases, files and pictures

CASE = """
title = "A turned well"
[landscape]
variables = ["x", "y"]
loss = "x**2 + 0.5*x*y + 4*y**2"
[noise]
kind = "constant"
temperature = 0.3
[grid]
axes = { at = [0.1, -0.2], directions = "hessian" }
axis_1 = { min = -1.5, max = 1.5, cells = 16, refine = [{ at = 0.0, by = 2 }] }
axis_2 = { min = -3.0, max = 3.0, cells = 20 }
[walls]
axis_2 = ["reflecting", "absorbing"]
[regions]
left = "x < 0"
[initial]
gaussian = { mean = [0.0, 0.0], width = 0.3 }
[evolve]
until = 1.0
save = 3
watch = ["left"]
"""


def case_of(text: str):
    return parse_case(fpsolve.case.tomllib.loads(text), "turned")


def test_a_case_with_a_turned_grid_survives_its_own_text():
    case = case_of(CASE)
    assert case_of(case.resolved()) == case
    assert np.array_equal(case.grid.frame.directions, case.problem.landscape.frame((0.1, -0.2)).directions)
    assert case.grid.frame.directions[0, 1] > 0.99, "the stiffest first: nearly y"
    given_rows = case_of(CASE.replace('"hessian"', "[[0.6, 0.8], [-8.0, 6.0]]"))
    assert np.allclose(given_rows.grid.frame.directions, [[0.6, 0.8], [-0.8, 0.6]], atol=1e-15)
    assert given_rows.grid.axes[1].walls == ("reflecting", "absorbing")


BAD_CASES = [
    ("axis_2 = { min = -3.0, max = 3.0, cells = 20 }", "y = { min = -3.0, max = 3.0, cells = 20 }",
     'grid.y: unknown key "y". The axes of a turned grid are axis_1, axis_2.'),
    ("axis_2 = { min = -3.0, max = 3.0, cells = 20 }", "", "grid: axis_2 is missing. The axes of a turned grid are "
     "axis_1, axis_2, measured from axes.at. Add axis_2 = {"),
    ('axis_2 = ["reflecting", "absorbing"]', 'x = "absorbing"', 'walls.x: unknown key "x". Walls are named after the '
     "axes of the turned grid: axis_1, axis_2."),
    ('axes = { at = [0.1, -0.2], directions = "hessian" }', "", 'grid.axis_1: unknown key "axis_1". Axes are named '),
    ('"hessian"', '"hesian"', 'grid.axes.directions: it is "hesian". It must be "hessian" or a matrix, one row for '
     'every axis. Did you mean "hessian"?'),
    ('"hessian"', "[[1.0, 0.0], [0.5, 1.0]]", "grid.axes.directions: rows 1 and 2 are at 63.43 degrees."),
    ("at = [0.1, -0.2], ", "", 'grid.axes: the key "at" is missing. It has no default. Add at = ...'),
    ("at = [0.1, -0.2]", "at = [0.1]", "grid.axes.at: 1 coordinates. A point needs 2, one per variable."),
    ("axes = {", "axes = 3 #", 'grid.axes: 3 stands where a table belongs. Write axes = { at = [...], directions = '),
    ('variables = ["x", "y"]', 'variables = ["x", "axis_1"]', 'landscape.variables: "axis_1" is taken.'),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), BAD_CASES, ids=[message[:50] for *_, message in BAD_CASES])
def test_bad_cases_are_refused(old, new, message):
    assert old in CASE
    with pytest.raises(CaseError) as caught:
        _ = case_of(CASE.replace(old, new)).grid
    assert str(caught.value).startswith(message)


def test_the_result_file_has_the_variables_over_the_axes(tmp_path):
    report = fpsolve.run(case_of(CASE), output=tmp_path)
    problem, motion = report.generator.problem, report.motion
    with xarray.open_dataset(tmp_path / "turned.nc") as file:
        assert file["density"].dims == ("time", "axis_1", "axis_2")
        assert set(file["density"].coords) == {"time", "axis_1", "axis_2", "x", "y"}
        assert np.array_equal(file["x"].values, problem.grid.shaped(problem.grid.positions()[0]))
        assert np.array_equal(file["axis_1"].values, problem.grid.axes[0].centres)
        assert np.array_equal(file["axis_1"].attrs["direction"], problem.grid.frame.directions[0])
        assert file["axis_1"].attrs["long_name"].startswith("axis_1 = 0.0825 x + 0.997 y from (0.1, -0.2)")
        positions = np.array([file["x"].values.ravel(), file["y"].values.ravel()])
        assert np.array_equal(file["drift_y"].values.ravel(), problem.landscape.drift(positions)[1])
        assert np.allclose(file["diffusion_xx"].values, 0.3, atol=1e-15)
        assert np.allclose(file["diffusion_xy"].values, 0.0, atol=1e-15)
        assert np.array_equal(file["current_x"].values[-1].ravel(), motion.current[-1, 0])
        assert np.array_equal(file["mean_y"].values, motion.mean[:, 1])
        assert file["density"].attrs["units"] == "1/(x*y)"
        assert "absorbed_axis_2_max" in file
    text = report.as_text()
    assert "axis_1 = 0.0825 x + 0.997 y from (0.1, -0.2)" in text
    later = Saved(tmp_path / "turned.nc")
    assert later.probability(problem) == pytest.approx(motion.probability[-1], abs=1e-16)
    other = problem.on(Grid(Frame(("x", "y"), (0.1, -0.2), np.eye(2)), **{a.name: a for a in problem.grid.axes}))
    with pytest.raises(CaseError, match="has another axis_1, with another origin or direction"):
        later.probability(other)


def test_check_says_what_the_axes_are(tmp_path):
    (tmp_path / "turned.toml").write_text(CASE, encoding="utf-8")
    assert "axis_1 = 0.0825 x + 0.997 y from (0.1, -0.2)" in fpsolve.check(tmp_path / "turned.toml").as_text()


def test_pictures_are_drawn_along_the_axes():
    """The current in a picture is that along the axes; the title says what they are, and nothing leaves the sheet."""
    problem = quartic()[0]
    rest = fpsolve.stationary(problem)
    basins = find_basins(problem)
    with styled():
        found = sketch(problem, "A well", rest=rest, motion=None, escape=None, basins=basins,
                       regions={"left": problem.region("x < 0")})  # fmt: skip
        figure = found["density"]
        figure.canvas.draw()
        title = figure.get_suptitle()
        assert "axis_1 = 0.921 x + 0.389 y, axis_2 = −0.389 x + 0.921 y; from (0, 0)" in title
        panel = figure.axes[0]
        assert (panel.get_xlabel(), panel.get_ylabel()) == ("axis_1", "axis_2")
        assert panel.get_xlim() == (-2.0, 2.0)
        box = figure.bbox
        for text in figure.findobj(mpl.text.Text):
            if text.get_text().strip() and text.get_visible():
                extent = text.get_window_extent()
                assert extent.x0 >= box.x0 - 1.0
                assert extent.x1 <= box.x1 + 1.0
