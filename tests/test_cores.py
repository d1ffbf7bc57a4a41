"""Cores and attractors: against quadratic wells, exact covariances, and grids too coarse to hold a core."""

import numpy as np
import pytest

from fpsolve.analyse.convergence import SHARES_OF_CELLS
from fpsolve.analyse.cores import attractor_near, core_region
from fpsolve.analyse.stationary_points import StationaryPointError
from fpsolve.discretise.generator import Generator
from fpsolve.model.grid import Axis, Grid
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import ConstantNoise, TensorNoise
from fpsolve.model.problem import Problem

# Newton's method and small linear systems of order one end within a few roundings.
ROUNDING = 1e-12


def problem_of(landscape, noise=None, **axes):
    return Problem(landscape, noise or ConstantNoise(temperature=0.1), Grid(**axes))


def on_its_edge(core, centre, direction):
    """How far a core reaches from a centre in a direction: the level is 1 - (distance / reach)**2."""
    level = core.level((np.asarray(centre) + np.asarray(direction))[:, None])[0]
    return 1.0 / np.sqrt(1.0 - level)


def test_the_core_of_a_quadratic_well_is_one_thermal_energy_deep():
    landscape = Landscape("2*(x - 0.3)**2 + (x - 0.3)*y + 3*y**2", variables=("x", "y"))
    problem = problem_of(landscape, x=(-1, 1, 50), y=(-1, 1, 50))
    core = core_region(problem, np.array([0.3, 0.0]), "a")
    assert core.name == "a"
    points = np.random.default_rng(1).uniform(-1.0, 1.0, (2, 50))
    assert core.level(points) == pytest.approx(1.0 - problem.landscape.loss(points) / 0.1, rel=ROUNDING)


def test_the_core_is_that_of_the_drift_and_its_noise():
    """Drift A x with A not symmetric: the covariance of the Ornstein-Uhlenbeck process by vectorised equations."""
    drift = np.array([[-1.0, 2.0], [-0.5, -0.8]])
    diffusion = np.array([[0.05, 0.01], [0.01, 0.02]])
    landscape = Landscape(drift=["-x + 2*y", "-0.5*x - 0.8*y"], variables=("x", "y"))
    problem = problem_of(landscape, ConstantNoise(diffusion=diffusion), x=(-1, 1, 60), y=(-1, 1, 60))
    eye = np.eye(2)
    covariance = np.linalg.solve(np.kron(drift, eye) + np.kron(eye, drift), -2.0 * diffusion.ravel()).reshape(2, 2)
    core = core_region(problem, np.zeros(2), "a")
    for direction in ([0.1, 0.0], [0.0, 0.1], [0.1, 0.05]):
        energy = 0.5 * np.array(direction) @ np.linalg.solve(covariance, direction)
        assert on_its_edge(core, [0.0, 0.0], direction) == pytest.approx(1.0 / np.sqrt(energy), rel=1e3 * ROUNDING)


def test_the_noise_is_that_at_the_attractor():
    noise = TensorNoise(diffusion=[["0.1*(1 + x**2)"]])
    problem = problem_of(Landscape("(x - 1)**2", variables=("x",)), noise, x=(-1, 3, 100))
    # Sigma = D / H = 0.2 / 2: the edge lies sqrt(2 Sigma) away.
    core = core_region(problem, np.array([1.0]), "a")
    assert on_its_edge(core, [1.0], [0.5]) * 0.5 == pytest.approx(np.sqrt(0.2), rel=ROUNDING)


def test_a_core_on_a_periodic_axis_wraps():
    circle = Axis("x", 0.0, 2.0 * np.pi, 60, ("periodic", "periodic"))
    core = core_region(problem_of(Landscape("-cos(x)", variables=("x",)), x=circle), np.array([0.0]), "a")
    assert (core.level(np.array([[0.2, 2.0 * np.pi - 0.2, np.pi]])) > 0.0).tolist() == [True, True, False]


def test_a_core_on_a_wall():
    """The loss falls to the wall x = 0 with slope 2: exp(-2 x / T) beside it, a Gaussian along it."""
    problem = problem_of(Landscape("2*x + y**2", variables=("x", "y")), x=(0, 1, 50), y=(-1, 1, 50))
    core = core_region(problem, np.array([0.0, 0.0]), "a")
    points = np.array([[0.01, 0.04, 0.06, 0.0], [0.0, 0.1, 0.0, 0.4]])
    assert core.level(points) == pytest.approx(1.0 - problem.landscape.loss(points) / 0.1, rel=ROUNDING)


OBLIQUE = "20*(x - 0.13)**2 + (y - 0.31)**2 + 5*(x - 0.13)*(y - 0.31)"


def oblique(cells, temperature):
    landscape = Landscape(OBLIQUE, variables=("x", "y"))
    return problem_of(landscape, ConstantNoise(temperature=temperature), x=(-2, 2, cells), y=(-1, 1, cells))


@pytest.mark.parametrize("cells", [5, 16, 23, 64, 200])
@pytest.mark.parametrize("temperature", [1e-4, 1e-2, 1.0])
def test_a_core_holds_a_cell_of_its_grid(cells, temperature):
    """Where the thermal width is a fiftieth of a cell as well."""
    problem = oblique(cells, temperature)
    held = ~Generator.of(problem).killed(core_region(problem, np.array([0.13, 0.31]), "a")).active
    assert 0 < held.sum() < held.size


@pytest.mark.parametrize(("temperature", "cells"), [(1e-1, 128), (1e-2, 100), (1e-3, 200)])
def test_a_core_holds_cells_of_coarser_grids(cells, temperature):
    core = core_region(oblique(cells, temperature), np.array([0.13, 0.31]), "a")
    for share in SHARES_OF_CELLS:
        held = ~Generator.of(oblique(int(share * cells), temperature)).killed(core).active
        assert 0 < held.sum() < 0.2 * held.size


@pytest.mark.parametrize("cells", [20, 30, 40, 80])
def test_a_low_barrier_is_not_in_the_core(cells):
    """(x**2 - 1)**2 at T = 0.2, a barrier of 5 T: for coarser grids the core grows to 2 T at most."""
    problem = problem_of(
        Landscape("(x**2 - 1)**2 + y**2", variables=("x", "y")), ConstantNoise(temperature=0.2),
        x=(-2, 2, cells), y=(-2, 2, cells),
    )  # fmt: skip
    reach = on_its_edge(core_region(problem, np.array([-1.0, 0.0]), "a"), [-1.0, 0.0], [0.1, 0.0]) * 0.1
    assert 1.0 - ROUNDING <= 4.0 * reach**2 / 0.2 <= 2.0 + ROUNDING


def test_no_core_where_the_drift_leads_away():
    problem = problem_of(Landscape("(x**2 - 1)**2", variables=("x",)), x=(-2, 2, 50))
    with pytest.raises(StationaryPointError, match="the drift does not lead back to x = 0 from all sides"):
        core_region(problem, np.array([0.0]), "a")


def test_no_core_in_a_well_without_curvature():
    problem = problem_of(Landscape("x**2 + y**4", variables=("x", "y")), x=(-2, 2, 20), y=(-2, 2, 20))
    with pytest.raises(StationaryPointError, match="does not lead back"):
        core_region(problem, np.array([0.0, 1e-9]), "a")


def test_no_core_wider_than_the_grid():
    problem = problem_of(Landscape("0.01*x**2", variables=("x",)), x=(-1, 1, 20))
    with pytest.raises(StationaryPointError, match="the well at x = 0 is wider than the grid"):
        core_region(problem, np.array([0.0]), "a")


def test_the_attractor_of_a_loss_is_its_minimum():
    problem = problem_of(Landscape("(x**2 - 1)**2 + 0.1*x", variables=("x",)), x=(-2, 2, 50))
    slope = 4.0 * attractor_near(problem, [-0.4]) ** 3 - 4.0 * attractor_near(problem, [-0.4]) + 0.1
    assert slope == pytest.approx(0.0, abs=10.0 * ROUNDING)


@pytest.mark.parametrize(
    ("start", "end"), [([-0.1, 0.7], [-1.0, 0.0]), ([0.05, -0.8], [1.0, 0.0]), ([1.9, 1.4], [1.0, 0.0])]
)
def test_the_attractor_of_a_drift(start, end):
    """Maier and Stein's drift (1993), alpha = 5: stable points at (-1, 0) and (1, 0), a saddle at 0."""
    landscape = Landscape(drift=["x - x**3 - 5*x*y**2", "-y*(1 + x**2)"], variables=("x", "y"))
    problem = problem_of(landscape, ConstantNoise(diffusion=[[0.05, 0], [0, 0.05]]), x=(-2, 2, 40), y=(-2, 2, 40))
    assert attractor_near(problem, start) == pytest.approx(end, abs=ROUNDING)


def test_a_loss_with_a_rotating_drift_keeps_its_minimum():
    landscape = Landscape("(x**2 - 1)**2 + y**2", variables=("x", "y"), extra_drift=["-2*y", "4*x*(x**2 - 1)"])
    problem = problem_of(landscape, x=(-2, 2, 40), y=(-2, 2, 40))
    assert attractor_near(problem, [-0.8, 0.3]) == pytest.approx([-1.0, 0.0], abs=ROUNDING)


@pytest.mark.parametrize(
    ("drift", "start", "reason"),
    [
        (["1", "-y"], [0.0, 0.0], "the drift carries x = 0, y = 0 to a wall, at x = 2, y = 0"),
        (["x", "-y"], [0.0, 0.5], "the drift carries x = 0, y = 0.5 to x = 0, y = "),
        (["y", "-x"], [0.5, 0.0], "which is not stable"),
        (["y - x*(x**2 + y**2 - 1)", "-x - y*(x**2 + y**2 - 1)"], [0.5, 0.0], "round and round"),
    ],
)
def test_why_there_is_no_attractor(drift, start, reason):
    landscape = Landscape(drift=drift, variables=("x", "y"))
    problem = problem_of(landscape, ConstantNoise(diffusion=[[0.1, 0], [0, 0.1]]), x=(-2, 2, 10), y=(-2, 2, 10))
    with pytest.raises(StationaryPointError) as error:
        attractor_near(problem, start)
    assert reason in error.value.found
