"""Momentum: the underdamped equation on (position, velocity)."""

from __future__ import annotations

import math
import tomllib

import numpy as np
import pytest
from exact import error_l1, klein_kramers_rate, kramers_with_inertia, orders, ornstein_uhlenbeck
from scipy.sparse.linalg import eigs

import fpsolve
from fpsolve import (
    Axis,
    CaseError,
    ConstantNoise,
    Gaussian,
    Generator,
    Grid,
    HessianNoise,
    Landscape,
    MinibatchNoise,
    Momentum,
    Point,
    Problem,
    TensorNoise,
    evolve,
    stationary,
)
from fpsolve.case import load_case, parse_case
from fpsolve.discretise.phase_space import numerical_share
from fpsolve.model.region import point_weights
from fpsolve.solve.passage import Passage

QUARTIC = Landscape("(x**2 - 1)**2", variables=("x",))
ACTION = 8.0 / 3.0  # of the swing from the saddle of the quartic and back: the integral of V dx
CASE = """
title = "momentum"
[landscape]
variables = ["x"]
loss = "(x**2 - 1)**2"
[noise]
kind = "constant"
temperature = 0.25
[momentum]
friction = 2.0
[grid]
x = { min = -2.0, max = 2.0, cells = 40 }
"""


def moving(friction: float, temperature: float, *axes, landscape: Landscape = QUARTIC, mass: float = 1.0) -> Problem:
    names = ("x", "velocity_x")[: len(axes)]
    grid = Grid(**dict(zip(names, axes, strict=True)))
    return Momentum(friction=friction, mass=mass).problem(landscape, ConstantNoise(temperature=temperature), grid)


def boltzmann(problem: Problem, temperature: float) -> np.ndarray:
    energy = problem.landscape.loss(problem.grid.positions())
    weights = np.exp(-(energy - energy.min()) / temperature) * problem.grid.volumes
    return weights / weights.sum()


# What the equation is


def test_the_equation():
    """(V, -(friction V + L')/m), D = diag(0, friction T / m**2), energy m V**2/2 + L."""
    problem = moving(0.6, 0.25, (-2, 2, 8), (-3, 3, 6), mass=2.0)
    x, v = positions = problem.grid.positions()
    slope = 4.0 * x * (x**2 - 1.0)
    np.testing.assert_allclose(problem.flux_drift(positions), [v, -(0.6 * v + slope) / 2.0], atol=1e-13)
    np.testing.assert_allclose(problem.diffusion.constant, np.diag([0.0, 0.6 * 0.25 / 4.0]), rtol=1e-15)
    np.testing.assert_allclose(problem.landscape.loss(positions), v**2 + (x**2 - 1.0) ** 2, rtol=1e-14)
    np.testing.assert_allclose(problem.landscape.hessian(positions)[1, 1], 2.0)
    assert problem.boltzmann_temperature == pytest.approx(0.25)
    assert problem.temperature is None  # D is not T times a mobility


def test_the_map_from_sgd():
    """One step takes the time eta: m = eta, friction 1 - beta, D_V = C/(2 S eta), T = eta C/(2 S (1 - beta))."""
    rows = np.array([0.2, -1.0, 0.7, 1.4, -0.3])
    landscape = Landscape(per_example_loss="0.5*(x - u)**2", data={"u": rows}, variables=("x",))
    noise = MinibatchNoise(learning_rate=0.1, batch_size=4)
    problem = Momentum(beta=0.9).problem(landscape, noise, Grid(x=(-2, 2, 20), velocity_x=(-3, 3, 20)))
    covariance = np.var(rows)
    matrix = problem.diffusion.matrix(np.array([[0.3], [0.1]]))[..., 0]
    np.testing.assert_allclose(matrix, np.diag([0.0, covariance / (2 * 4 * 0.1)]), rtol=1e-12)
    temperature = problem.landscape.inertia.temperature(matrix[1, 1])
    assert temperature == pytest.approx(0.1 * covariance / (2 * 4 * (1.0 - 0.9)), rel=1e-12)
    assert (problem.landscape.inertia.mass, problem.landscape.inertia.friction) == (0.1, pytest.approx(0.1))


def test_an_axis_of_velocities_that_nobody_gave():
    """Six thermal velocities sqrt(T/m) to either side."""
    axis = moving(0.5, 0.25, (-2, 2, 100), mass=4.0).grid.axes[1]
    assert (axis.name, axis.lower, axis.upper, axis.cells) == ("velocity_x", -1.5, 1.5, 50)


REFUSALS = {
    "two parameters": (
        lambda: moving(1.0, 1.0, (-1, 1, 4), (-1, 1, 4), landscape=Landscape("x*y", variables=("x", "y"))),
        "momentum: the landscape has the variables x, y. Momentum is for one parameter",
    ),
    "no loss": (
        lambda: moving(1.0, 1.0, (-1, 1, 4), (-1, 1, 4), landscape=Landscape(drift=["-x"], variables=("x",))),
        "momentum: the drift is not that of a loss alone",
    ),
    "mobility": (
        lambda: moving(1.0, 1.0, (-1, 1, 4), landscape=Landscape("x**2", variables=("x",), mobility=[[2.0]])),
        "landscape.mobility: it has no meaning with momentum",
    ),
    "absorbed velocities": (
        lambda: moving(1.0, 1.0, (-1, 1, 4), Axis("velocity_x", -1.0, 1.0, 4, walls=("absorbing", "reflecting"))),
        "walls.velocity_x: the walls of velocity_x are absorbing and reflecting",
    ),
    "both": (lambda: Momentum(beta=0.5, friction=1.0), "both beta and friction are given"),
    "none": (lambda: Momentum(), "neither beta nor friction is given"),
    "beta": (lambda: Momentum(beta=1.0), "momentum.beta: it is 1. It must be at least 0 and below 1"),
    "friction": (lambda: Momentum(friction=0.0), "momentum.friction: it is 0. It must be a finite number above 0"),
    "mass": (lambda: Momentum(beta=0.9, mass=1.0), "momentum.mass: it has no effect beside beta"),
    "no learning rate": (
        lambda: Momentum(beta=0.9).problem(QUARTIC, ConstantNoise(temperature=0.1), Grid(x=(-1, 1, 4))),
        "momentum.beta: there is no learning rate",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_makes_no_sense_is_refused(name):
    make, message = REFUSALS[name]
    with pytest.raises(CaseError, match=message.replace(".", r"\.")):
        make()


# At rest


@pytest.mark.parametrize("axes", [
    ((-2, 2, 17), (-3, 3, 12)),
    ((-2, 2, 30), (-3, 3, 31)),
    (Axis("x", -math.inf, math.inf, 40, scale=1.0), Axis("velocity_x", -math.inf, math.inf, 30, scale=0.5)),
    (Axis("x", -2.0, 2.0, 24, refine=(fpsolve.Refinement(-1.0, 3.0),)), (-3, 3, 20)),
], ids=["coarse", "odd", "infinite", "refined"])  # fmt: skip
def test_boltzmann_is_at_rest_on_any_grid(axes):
    """exp(-E/T) to rounding, whatever the cells; all rates finite and >= 0."""
    problem = moving(0.3, 0.25, *axes)
    generator, expected = Generator.of(problem), boltzmann(problem, 0.25)
    for rates in (generator.edges.forward, generator.edges.backward):
        assert np.isfinite(rates).all()
        assert (rates >= 0.0).all()
    assert np.abs(generator.apply(expected)).max() < 1e-14 * (generator.departure * expected).max()
    assert error_l1(stationary(problem).probability, expected) < 1e-11


def test_boltzmann_on_a_ring():
    landscape = Landscape("cos(x)", variables=("x",))
    ring = Axis("x", -math.pi, math.pi, 24, walls=("periodic", "periodic"))
    problem = moving(0.3, 0.5, ring, (-4, 4, 20), landscape=landscape)
    assert error_l1(stationary(problem).probability, boltzmann(problem, 0.5)) < 1e-11


def test_deep_wells_are_no_trouble():
    """Barriers of 1000 thermal energies: logarithms of the density at rest stay right."""
    problem = moving(1.0, 0.001, (-1.4, 1.4, 40), (-0.5, 0.5, 20))
    generator = Generator.of(problem)
    assert np.isfinite(generator.edges.forward).all()
    assert np.isfinite(generator.edges.backward).all()


def test_the_same_equation_given_as_a_drift_is_first_order():
    """Without [momentum] nothing is known of its equilibrium: upwinding alone has order 1."""
    errors, sizes = [], (40, 80, 160)
    for cells in sizes:
        landscape = Landscape(drift=["v", "-x - v"], variables=("x", "v"))
        noise = TensorNoise(diffusion=[["0", "0"], ["0", "0.25"]])
        problem = Problem(landscape, noise, Grid(x=(-2.5, 2.5, cells), v=(-2.5, 2.5, cells)))
        expected = np.exp(-2.0 * (problem.grid.positions() ** 2).sum(axis=0))
        errors.append(error_l1(stationary(problem).probability, expected / expected.sum()))
    rising = orders(sizes, errors)
    assert abs(2.0 * rising[1] - rising[0] - 1.0) < 0.1, rising  # its limit: the next term is of order 2


def test_noise_that_changes_with_the_position():
    """Hessian noise: no closed form at rest, but what friction takes the noise gives, rate <V**2> = <D_V>; order 1."""
    noise = HessianNoise(learning_rate=0.05, batch_size=2, projection="abs", floor=0.5)
    shares = []
    for cells in (30, 60, 120):
        grid = Grid(x=(-2, 2, cells), velocity_x=(-4.5, 4.5, cells))
        problem = Momentum(friction=0.5).problem(QUARTIC, noise, grid)
        rest, positions = stationary(problem).probability, problem.grid.positions()
        shares.append(0.5 * (rest @ positions[1] ** 2) / (rest @ problem.diffusion.matrix(positions)[1, 1]))
    assert shares[0] > shares[1] > shares[2] > 1.0  # numerical diffusion heats
    assert (8.0 * shares[2] - 6.0 * shares[1] + shares[0]) / 3.0 == pytest.approx(1.0, abs=5e-3)  # what is left of it


# In time


def test_a_harmonic_well_in_time():
    """Linear drift: the density stays normal, with the moments of the exponential of the matrix; order 1."""
    landscape = Landscape("0.5*x**2", variables=("x",))
    drift, noise = np.array([[0.0, 1.0], [-1.0, -0.5]]), np.diag([0.0, 0.5 * 0.1])
    mean, covariance = ornstein_uhlenbeck(drift, noise, [0.8, 0.0], 0.04 * np.eye(2), 1.5)
    errors, sizes = [], (50, 100, 200)
    for cells in sizes:
        problem = moving(0.5, 0.1, (-2, 2, cells), (-2, 2, cells), landscape=landscape)
        motion = evolve(problem, Gaussian([0.8, 0.0], width=0.2), times=[1.5])
        assert motion.probability.min() >= 0.0
        assert abs(motion.probability[-1].sum() - 1.0) < 1e-12
        away = problem.grid.positions() - mean[:, None]
        expected = np.exp(-0.5 * np.einsum("ip,ij,jp->p", away, np.linalg.inv(covariance), away))
        errors.append(error_l1(motion.probability[-1], expected / expected.sum()))
    rising = orders(sizes, errors)
    assert abs(2.0 * rising[1] - rising[0] - 1.0) < 0.1, rising


def test_an_absorbing_wall():
    """Thrown at a wall 1 away with the speed 1, with little noise: it is there at t = 1."""
    wall = Axis("x", -1.0, 1.0, 200, walls=("reflecting", "absorbing"))
    problem = moving(0.05, 0.05, wall, (-2.5, 2.5, 120), landscape=Landscape("0*x", variables=("x",)))
    motion = evolve(problem, Point([0.0, 1.0]), times=[0.6, 1.6], tolerance=1e-4)
    assert motion.probability[-2].sum() > 0.98
    assert motion.probability[-1].sum() < 0.02


# Escape


def slowest(problem: Problem) -> float:
    return float(np.sort(np.abs(eigs(Generator.of(problem).matrix(), 2, sigma=1e-9, which="LM")[0]))[1])


@pytest.mark.parametrize("friction", [5.0, 1.0, 0.3])
def test_the_slowest_rate(friction):
    """Against Brinkman's hierarchy, with T = 0.25: order 1; from three grids right to a per cent."""
    exact = klein_kramers_rate(lambda x: 4.0 * x * (x * x - 1.0), 0.25, friction, 2.1, 90, 40)
    problems = [moving(friction, 0.25, (-2, 2, cells), (-3, 3, cells)) for cells in (30, 60, 120)]
    rates = [slowest(problem) for problem in problems]
    share = numerical_share(problems[2], Generator.of(problems[2]).edges)
    assert rates[2] == pytest.approx(exact, rel=1.2 * share)  # discretisation, as it is measured
    assert (8.0 * rates[2] - 6.0 * rates[1] + rates[0]) / 3.0 == pytest.approx(exact, rel=0.015)


def escape_rate(friction: float, temperature: float, cells: int) -> float:
    """1 / mean time from -1, at rest, to x > 0.8."""
    problem = moving(friction, temperature, (-1.8, 1.2, cells), (-2.5, 2.5, cells))
    killed = Generator.of(problem).killed(problem.region("x > 0.8"))
    weights = point_weights(problem.grid, (-1.0, 0.0), "start")
    times = Passage.of(killed).mean_time
    return math.exp(-float((times[weights.cells] * weights.weights).sum().log()))


@pytest.mark.slow
def test_kramers_turnover():
    """From energy diffusion (slow friction) to spatial diffusion (fast): largest in between.

    Within 10 % of Kramers' theory, whose own error at eight thermal energies is some 4 %.
    """
    rates = {}
    for friction in (0.08, 0.15, 0.3, 1.0, 5.0, 15.0):
        grids = [escape_rate(friction, 0.125, cells) for cells in (60, 120, 240)]
        rates[friction] = (8.0 * grids[2] - 6.0 * grids[1] + grids[0]) / 3.0
        theory = kramers_with_inertia(friction, 0.125, 1.0, (8.0, 4.0), ACTION)
        assert rates[friction] == pytest.approx(theory, rel=0.1), friction
    assert max(rates, key=rates.__getitem__) == 0.3
    assert rates[0.08] < 0.75 * rates[0.3]
    assert rates[15.0] < 0.2 * rates[0.3]


def test_too_little_friction_for_the_grid_is_refused():
    problem = moving(0.05, 0.2, (-2, 2, 60), (-3, 3, 60))
    message = r"grid: numerical diffusion spreads the probability .* times as fast as the noise does\. .*x\.cells = "
    with pytest.raises(CaseError, match=message):
        fpsolve.escape(problem, start=(-1.0, 0.0), target="x > 0.8", grids=1)


def test_an_escape_from_python():
    problem = moving(1.0, 0.25, (-2, 2, 48), (-3, 3, 48))
    found = fpsolve.escape(problem, start=(-1.0, 0.0), valley="x < 0", target="x > 0.8")
    first = found.times["mean_first_passage_time"]
    exact = 2.0 / klein_kramers_rate(lambda x: 4.0 * x * (x * x - 1.0), 0.25, 1.0, 2.1, 90, 40)
    assert first.estimate.extrapolated == pytest.approx(exact, rel=0.04)  # the target is not the other well's minimum


# In a case file


def test_a_case_with_momentum(tmp_path):
    path = tmp_path / "case.toml"
    path.write_text(CASE + "[stationary]\n[regions]\nfast = 'velocity_x > 0.5'\n[escape]\nstart = [-1.0]\n"
                    "valley = 'x < 0'\ntarget = 'x > 0.8'\ngrids = 1\n", encoding="utf-8")  # fmt: skip
    case = load_case(path)
    assert case.grid.names == ("x", "velocity_x")
    assert case.grid.axes[1].upper == pytest.approx(6.0 * 0.5)
    assert case.question.start == (-1.0, 0.0)
    report = fpsolve.run(case, output=tmp_path)
    expected = 0.5 * math.erfc(0.5 / math.sqrt(2.0 * 0.25))
    assert report.rest.regions["fast"] == pytest.approx(expected, rel=0.02)
    assert report.as_record()["outcome"] == "done"
    assert "nan" not in report.as_text()


def test_a_case_is_read_again_as_it_was(tmp_path):
    content = tomllib.loads(CASE + "[escape]\nstart = [-1.0]\ntarget = 'x > 0.8'\n")
    case = parse_case(content, "case", tmp_path)
    assert parse_case(tomllib.loads(case.resolved()), "case", tmp_path) == case


@pytest.mark.parametrize(
    ("initial", "variance"), [("point = [-1.0]", 0.0), ("gaussian = { mean = [-1.0], width = 0.2 }", 0.25)]
)
def test_starts_of_one_coordinate(tmp_path, initial, variance):
    """A point starts without velocity, a Gaussian with a thermal one."""
    path = tmp_path / "case.toml"
    path.write_text(CASE + f"[initial]\n{initial}\n[evolve]\nuntil = 0.1\n", encoding="utf-8")
    case = load_case(path)
    probability = case.start.probability(case.problem)
    _, v = case.problem.grid.positions()
    width = case.grid.axes[1].spacing
    assert probability @ v == pytest.approx(0.0, abs=1e-12)
    assert probability @ v**2 == pytest.approx(variance, abs=width**2)


def test_momentum_of_two_variables_in_a_case(tmp_path):
    path = tmp_path / "case.toml"
    path.write_text(CASE.replace('["x"]', '["x", "y"]'), encoding="utf-8")
    with pytest.raises(CaseError, match="Momentum is for one parameter"):
        load_case(path)
