"""The density at rest, its currents, and the refusal of what rounding would spoil."""

import math

import numpy as np
import pytest
import scipy.linalg
import sympy
from exact import error_l1, integral, normal, orders, ring_current
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import box, curved_valley, free, linear, rotating_potential, rotating_tensor, with_drift, with_loss

from fpsolve.analyse.rest import stationary
from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError
from fpsolve.model.grid import Grid
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import ConstantNoise, TensorNoise
from fpsolve.model.problem import Problem
from fpsolve.solve import stationary as solver

MOBILITIES = {
    1: None,
    2: np.array([[1.0, 0.6], [0.6, 0.5]]),
    3: np.array([[1.0, 0.3, 0.2], [0.3, 0.6, -0.25], [0.2, -0.25, 0.5]]),
}
LOSSES = {
    1: "(x**2 - 1)**2 + 0.1*x",
    2: "(x**2 - 1)**2 + 0.1*x + y**2 + 0.3*x*y + sin(3*y)/5",
    3: "(x**2 - 1)**2 + 0.1*x + y**2 + 0.3*x*y + z**2 + sin(3*y)*cos(z)/5",
}


def boltzmann(problem, temperature):
    """Cell probabilities exp(-loss/temperature), normalised on the grid."""
    loss = problem.landscape.loss(problem.grid.positions())
    probability = np.exp(-(loss - loss.min()) / temperature)
    return probability / probability.sum()


# Equilibrium is exact on any grid


def assert_is_boltzmann(problem, temperature):
    rest, wanted = stationary(problem), boltzmann(problem, temperature)
    loss = problem.landscape.loss(problem.grid.positions())
    assert rest.reversible
    assert rest.detailed_balance <= 1e-13
    assert error_l1(rest.probability, wanted) <= 1e-12
    # Entry by entry, down to where doubles end: the rounding of an exponent of size ptp(loss)/T, summed along a path.
    representable = wanted > 1e-290
    ratio = rest.probability[representable] / wanted[representable]
    assert np.abs(ratio - 1.0).max() <= 1e-15 * (10.0 + np.ptp(loss) / temperature)
    assert (rest.probability >= 0.0).all()
    assert rest.imbalance <= 1e-13


@pytest.mark.parametrize("temperature", [1.0, 0.05, 0.002])  # 0.002: barrier/noise 500
@pytest.mark.parametrize(
    "shape", [(1,), (2,), (301,), (2, 2), (3, 3), (2, 3), (7, 5), (64, 3), (31, 64), (128, 128), (3, 4, 5), (5, 1, 4)]
)
def test_equilibrium_is_exact(shape, temperature):
    dimensions = len(shape)
    for mobility in (None, MOBILITIES[dimensions]):
        problem = with_loss(box(shape, (-1.5, 1.4)), LOSSES[dimensions], temperature, mobility)
        assert_is_boltzmann(problem, temperature)


@settings(max_examples=25)
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=3),
    st.lists(st.floats(0.05, 20.0), min_size=3, max_size=3),
    st.floats(0.01, 10.0),
    st.booleans(),
)
def test_equilibrium_is_exact_on_cells_of_any_shape(shape, widths, temperature, full):
    bounds = [(-width, 0.7 * width) for width in widths[: len(shape)]]
    names = "xyz"[: len(shape)]
    loss = " + ".join(f"{name}**2 / (1 + {name}**2)" for name in names) + f" + sin({'*'.join(names)})"
    mobility = MOBILITIES[len(shape)] if full else None
    assert_is_boltzmann(with_loss(box(shape, bounds), loss, temperature, mobility), temperature)


def test_equilibrium_on_a_torus_is_exact():
    problem = with_loss(box((9, 14), (0.0, 2.0), "periodic"), "cos(pi*x) + sin(pi*y)*cos(pi*x)", 0.1, MOBILITIES[2])
    assert_is_boltzmann(problem, 0.1)


# Where the noise changes from place to place: p = 1/D without a drift


@pytest.mark.parametrize(("convention", "power"), [("ito", 1.0), ("stratonovich", 0.5), ("isothermal", 0.0)])
def test_probability_leaves_the_loud_places(convention, power):
    """D = y I without a drift: p = y**-1, y**-1/2, 1, to rounding, and no current."""
    grid = box((8, 30), [(0.0, 1.0), (1.0, 3.0)])
    noise = TensorNoise(diffusion=[["y", "0"], ["0", "y"]], convention=convention)
    rest = stationary(Problem(Landscape(drift=["0", "0"], variables=("x", "y")), noise, grid))
    wanted = grid.positions()[1] ** -power
    np.testing.assert_allclose(rest.probability, wanted / wanted.sum(), rtol=1e-13)
    assert rest.detailed_balance <= 1e-13
    if convention == "ito":
        y = grid.positions()[1]
        # density at the centres against 1/(y ln 3): the sum over centres is a midpoint rule, h**2/24 (1/1 - 1/9)/ln 3
        assert np.abs(rest.density * y * math.log(3.0) - 1.0).max() < 0.034 * (2.0 / 30) ** 2


@pytest.mark.parametrize("dimensions", [2, 3])
def test_noise_that_grows_with_the_distance_from_the_origin(dimensions):
    """D = |r| I: p = 1/|r| at the cell centres to rounding, zero current."""
    names = "xyz"[:dimensions]
    grid = box({2: (20, 14), 3: (8, 6, 10)}[dimensions])
    radius = f"sqrt({' + '.join(f'{name}**2' for name in names)})"
    diffusion = [[radius if row == column else "0" for column in names] for row in names]
    problem = Problem(Landscape(drift=["0"] * dimensions, variables=names), TensorNoise(diffusion=diffusion), grid)
    rest = stationary(problem)
    wanted = 1.0 / np.linalg.norm(grid.positions(), axis=0)
    np.testing.assert_allclose(rest.probability, wanted / wanted.sum(), rtol=1e-12)
    assert rest.detailed_balance <= 1e-13
    # rounding of the edges' traffic per cell
    assert np.abs(rest.current).max() * grid.volumes[0] <= 1e-12 * np.abs(problem.diffusion_at_cells).max()


@pytest.mark.parametrize("cells", [16, 33])
def test_a_scaled_tensor_on_a_torus(cells):
    """D = f(x, y) D0 with a full D0, no drift: p = 1/(Z f) with Z = 1.13410698260315 (a trapezoidal rule is exact)."""
    f = "(1 + 0.5*sin(2*pi*x)*cos(2*pi*y) + 0.3*cos(2*pi*x))"
    tensor = [[f"1.0*{f}", f"0.6*{f}"], [f"0.6*{f}", f"0.8*{f}"]]
    grid = box((cells, cells), (0.0, 1.0), "periodic")
    rest = stationary(Problem(Landscape(drift=["0", "0"], variables=("x", "y")), TensorNoise(diffusion=tensor), grid))
    x, y = grid.positions()
    wanted = 1.0 / (1.0 + 0.5 * np.sin(2 * np.pi * x) * np.cos(2 * np.pi * y) + 0.3 * np.cos(2 * np.pi * x))
    # The sum over 16 or more points of the analytic periodic 1/f differs from Z by less than exp(-16).
    np.testing.assert_allclose(rest.density, wanted / 1.13410698260315, rtol=2e-7 if cells == 16 else 1e-12)
    assert rest.detailed_balance <= 1e-13


def test_heavy_tails_in_a_box():
    """dX = -X dt with D = 0.5 + 0.3 x**2 (Ito) in [-4, 4]: p = c (0.5 + 0.3 x**2)**-(8/3).

    Density and variance 0.64626402210377 of the box by quadrature and Gamma functions, 13 digits.
    """
    norm = integral(lambda x: (0.5 + 0.3 * x**2) ** (-8 / 3), -4.0, 4.0)
    assert 0.5 ** (-8 / 3) / norm == pytest.approx(0.608875626122272, rel=1e-13)
    cells, errors, variances = (40, 80, 160), [], []
    for count in cells:
        landscape = Landscape(drift=["-x"], variables=("x",))
        problem = Problem(landscape, TensorNoise(diffusion="0.5 + 0.3*x**2"), box((count,), (-4.0, 4.0)))
        rest = stationary(problem)
        (x,) = problem.grid.positions()
        errors.append(np.abs(rest.density * norm / (0.5 + 0.3 * x**2) ** (-8 / 3) - 1.0).max())
        variances.append(abs(rest.covariance[0, 0] - 0.64626402210377))
    # Simpson's rule for the exponents: 3 digits to begin with, and order 2 from the normalisation on the grid.
    assert errors[-1] < 5e-4 * (8.0 / 160) ** 2
    assert abs(orders(cells, variances)[-1] - 2.0) < 0.1
    assert variances[-1] < 1.1e-3 * (8.0 / 160) ** 2


# A turning tensor whose equilibrium is known (condition number up to 60)


def turning_error(cells, gamma, half):
    problem = rotating_tensor(cells, gamma, half)
    wanted = np.exp(-rotating_potential(problem.grid.positions()))
    rest = stationary(problem)
    assert (rest.probability > 0.0).all()
    return error_l1(rest.probability, wanted / wanted.sum())


def test_the_turning_tensor_is_of_fourth_order_at_equilibrium():
    """Simpson's exponents: L1 6.5e-7, 4.0e-8, 2.5e-9 measured."""
    cells = (64, 128, 256)
    errors = [turning_error(count, 0.0, 3.0) for count in cells]
    assert errors[0] <= 1e-5
    assert (orders(cells, errors) >= 3.5).all()
    assert np.abs(orders(cells, errors) - 4.0).max() < 0.1


def test_the_turning_tensor_with_a_current():
    """gamma = 0.3 on +-4.5: 2.9e-2 and 4.5e-3 measured, order 2 from below."""
    errors = [turning_error(count, 0.3, 4.5) for count in (96, 256)]
    assert errors[0] <= 3e-2
    assert errors[1] <= 5e-3
    assert orders((96, 256), errors)[0] > 1.8


# Currents


def test_the_driven_ring_has_a_constant_current():
    """dX = (0.7 - L') dt + sqrt(2 T) dW with L = 0.3 cos(2 pi x): the exact current is a double integral."""
    wanted = ring_current(lambda x: 0.3 * np.cos(2 * np.pi * x), 0.7, 0.2, 1.0)
    cells, errors = (40, 80, 160), []
    for count in cells:
        landscape = Landscape("0.3*cos(2*pi*x)", variables=("x",), extra_drift=["0.7"])
        problem = Problem(landscape, ConstantNoise(temperature=0.2), box((count,), (0.0, 1.0), "periodic"))
        rest = stationary(problem)
        assert not rest.reversible
        # rounding of an elimination: the traffic D/h**2 P of each edge
        assert np.ptp(rest.current) < 1e-12 * abs(wanted) * count
        errors.append(abs(rest.current[0, 0] / wanted - 1.0))
        assert rest.mean_current[0] == pytest.approx(rest.current[0, 0], rel=1e-11)
        # Entropy production of a constant current J round a ring with force 0.7: J 0.7 / T, exactly for the chain too.
        assert rest.entropy_production == pytest.approx(rest.current[0, 0] * 0.7 / 0.2, rel=1e-10)
    assert np.abs(orders(cells, errors) - 2.0).max() < 0.1
    assert errors[-1] < 0.5 / 160**2


def test_a_ring_without_a_potential_is_exact():
    problem = with_drift(box((11,), (0.0, 1.0), "periodic"), ["0.7"], [[0.1]])
    rest = stationary(problem)
    np.testing.assert_allclose(rest.density, 1.0, rtol=1e-13)
    np.testing.assert_allclose(rest.current, 0.7, rtol=1e-12)


def rotational_torus(cells):
    """Drift -grad U + 1.5 R grad U, D = 0.5 I, U = cos x + 0.5 cos y + 0.4 cos(x - y)."""
    slope = ("(-sin(x) - 0.4*sin(x - y))", "(-0.5*sin(y) + 0.4*sin(x - y))")
    extra = [f"-1.5*{slope[1]}", f"1.5*{slope[0]}"]
    landscape = Landscape("cos(x) + 0.5*cos(y) + 0.4*cos(x - y)", variables=("x", "y"), extra_drift=extra)
    return Problem(landscape, ConstantNoise(temperature=0.5), box((cells, cells), (0.0, 2 * np.pi), "periodic"))


def test_a_current_that_circulates_on_a_torus():
    """p = exp(-2 U)/Z and J = 1.5 R grad U p; Z = 102.80572579546 by a Bessel series and by the trapezoidal rule."""
    cells, errors, current_errors = (32, 64, 128), [], []
    for count in cells:
        problem = rotational_torus(count)
        rest = stationary(problem)
        x, y = positions = problem.grid.positions()
        density = np.exp(-2.0 * problem.landscape.loss(positions)) / 102.80572579546
        slope = np.array([-np.sin(x) - 0.4 * np.sin(x - y), -0.5 * np.sin(y) + 0.4 * np.sin(x - y)])
        current = 1.5 * np.array([-slope[1], slope[0]]) * density
        errors.append(error_l1(rest.density, density) * problem.grid.volumes[0])
        current_errors.append(np.abs(rest.current - current).sum() / np.abs(current).sum())
    assert np.abs(orders(cells, errors) - 2.0).max() < 0.1
    assert np.abs(orders(cells, current_errors) - 2.0).max() < 0.1
    # constants of h**2, h = 2 pi / cells: 0.024 and 0.140 measured
    assert errors[-1] < 0.03 * (2 * np.pi / 128) ** 2
    assert current_errors[-1] < 0.16 * (2 * np.pi / 128) ** 2


SPIRAL_DRIFT = np.array([[-1.0, 4.0], [-0.5, -1.5]])
SPIRAL_DIFFUSION = np.array([[0.5, 0.2], [0.2, 0.3]])
# Solves A S + S A^T = -2 D: two Lyapunov solvers and 40-digit arithmetic agree.
SPIRAL_COVARIANCE = np.array([[1.15142857142857, 0.162857142857143], [0.162857142857143, 0.145714285714286]])


def test_a_spiral_has_its_covariance_and_its_current():
    cells, errors, covariances, currents = (64, 128), [], [], []
    half = 6.0 * np.sqrt(np.diag(SPIRAL_COVARIANCE))  # the tails beyond hold 1e-9
    for count in cells:
        grid = box((count, count), [(-width, width) for width in half])
        rest = stationary(with_drift(grid, linear(SPIRAL_DRIFT), SPIRAL_DIFFUSION))
        density = normal(grid.positions(), [0.0, 0.0], SPIRAL_COVARIANCE)
        flow = SPIRAL_DRIFT + SPIRAL_DIFFUSION @ np.linalg.inv(SPIRAL_COVARIANCE)
        current = flow @ grid.positions() * density
        errors.append(error_l1(rest.density, density) * grid.volumes[0])
        covariances.append(np.abs(rest.covariance - SPIRAL_COVARIANCE).max())
        currents.append(np.abs(rest.current - current).sum() / np.abs(current).sum())
        np.testing.assert_allclose(rest.mean, 0.0, rtol=0, atol=1e-8)  # by symmetry, up to the tails
    for found in (errors, covariances, currents):
        assert abs(orders(cells, found)[0] - 2.0) < 0.1
    # constants of (1/cells)**2: 55.9, 124, 142 measured
    assert errors[-1] < 60.0 / 128**2
    assert covariances[-1] < 130.0 / 128**2
    assert currents[-1] < 150.0 / 128**2


def test_a_spiral_in_three_dimensions():
    """A full tensor and a non-normal drift in 3-D; the covariance by two Lyapunov solvers and 40-digit arithmetic."""
    drift = [[-1.0, 2.0, 0.5], [-0.3, -1.2, 1.5], [0.2, -0.4, -0.8]]
    diffusion = [[0.3, 0.1, -0.05], [0.1, 0.25, 0.08], [-0.05, 0.08, 0.2]]
    wanted = np.array(
        [
            [1.29773242630385, 0.433978719693005, 0.259549973835688],
            [0.433978719693005, 0.331118088260945, 0.185023547880691],
            [0.259549973835688, 0.185023547880691, 0.222375719518577],
        ]
    )
    errors = []
    for count in (16, 24):
        bounds = [(-width, width) for width in 4.5 * np.sqrt(np.diag(wanted))]
        rest = stationary(with_drift(box((count,) * 3, bounds), linear(drift), diffusion))
        errors.append(np.abs(rest.covariance - wanted).max())
    assert orders((16, 24), errors)[0] > 1.7  # so coarse a grid is not yet asymptotic
    assert errors[-1] < 0.2


# Deep wells, and what is refused


def test_open_boxes_have_no_rest():
    problem = free(box((5, 5), walls=["absorbing", "reflecting"]), np.eye(2))
    with pytest.raises(CaseError, match=r"probability leaves through x_min, x_max\. A density at rest needs closed"):
        stationary(problem)


def nearly_reversible(cells, temperature):
    """A double well whose tensor turns: exp(-V/temperature) is known, but the exponents are integrated, not exact."""
    x, y = sympy.symbols("x y", real=True)
    potential = (x**2 - 1) ** 2 + y**2 + x / 10 + sympy.cos(3 * x) * sympy.cos(2 * y) / 10
    turn = sympy.Matrix([[sympy.cos(x + y), -sympy.sin(x + y)], [sympy.sin(x + y), sympy.cos(x + y)]])
    tensor = turn * sympy.diag(1, sympy.Rational(1, 4)) * turn.T
    drift = -tensor * sympy.Matrix([potential.diff(x), potential.diff(y)]) / temperature
    noise = TensorNoise(diffusion=[[str(tensor[i, j]) for j in (0, 1)] for i in (0, 1)], convention="isothermal")
    landscape = Landscape(drift=[str(entry) for entry in drift], variables=("x", "y"))
    problem = Problem(landscape, noise, box((cells, cells), (-1.8, 1.8)))
    height = sympy.lambdify((x, y), potential, "numpy")(*problem.grid.positions())
    exponent = -(height - height.min()) / temperature
    with np.errstate(under="ignore"):
        return problem, np.exp(exponent) / np.exp(exponent).sum(), exponent


@pytest.mark.parametrize("depth", [5, 80, 300])
def test_a_density_is_right_however_deep_its_wells(depth):
    """By elimination, in every cell, also the most improbable: below exp(-700), which no double holds."""
    problem, wanted, exponent = nearly_reversible(40, 1.0 / depth)
    rest = solver.stationary(Generator.of(problem))
    assert not rest.reversible
    assert error_l1(rest.probability, wanted) < 1e-6  # of Simpson's exponents: 7e-7 measured
    found = rest.log_probability - rest.log_probability[np.argmax(wanted)]
    # likewise, relative to the exponent: 6e-5 measured
    np.testing.assert_allclose(found, exponent, rtol=0, atol=1e-4 * np.ptp(exponent))


def test_elimination_finds_the_potential():
    """The tree of exponents and the elimination agree where both apply: to the rounding of exponents of 2000."""
    generator = Generator.of(with_loss(box((30, 30), (-1.6, 1.6)), "(x**2 - 1)**2 + y**2 + 0.01*x", 0.002))
    rest, other = solver.stationary(generator), solver.by_elimination(generator, 0)
    assert rest.reversible
    assert rest.log_probability.min() < -2000.0
    np.testing.assert_allclose(other.log_probability, rest.log_probability, rtol=0, atol=1e-10)


def test_a_deep_barrier_with_a_known_potential_is_never_refused():
    problem = with_loss(box((60, 60), (-1.6, 1.6)), "(x**2 - 1)**2 + y**2 + 0.01*x", 0.002)
    rest = stationary(problem, regions={"left": problem.region("x < 0")})
    assert rest.regions["left"] == pytest.approx(1.0 - math.exp(-10.0), rel=1e-4)  # depths differ by 0.02 = 10 T


def test_regions_and_observables_at_rest():
    problem = curved_valley(30, 0.2)
    left = problem.region("x < 0.1")
    rest = stationary(problem, regions={"left": left}, observables={"loss": problem.landscape.loss})
    assert rest.regions["left"] == float(left.weights(problem.grid) @ rest.probability)
    assert rest.observables["loss"] == float(problem.landscape.loss(problem.grid.positions()) @ rest.probability)
    assert rest.entropy_production > 0.0
    assert rest.imbalance < 1e-13


def test_a_process_without_a_potential_is_held_where_its_probability_is():
    """The tree of exponents points at a far corner here; the elimination must find a better cell to hold."""
    drift = np.array([[-1.0, 2.0], [-2.5, -1.5]])
    diffusion = np.array([[0.5, 0.2], [0.2, 0.3]])
    landscape = Landscape(drift=["-x + 2*y", "-2.5*x - 1.5*y"], variables=("x", "y"))
    grid = Grid(x=(-5.0, 5.0, 100), y=(-5.0, 5.0, 100))
    rest = stationary(Problem(landscape, ConstantNoise(diffusion=diffusion), grid))
    exact = scipy.linalg.solve_continuous_lyapunov(drift, -2.0 * diffusion)
    # discretisation: 1.7e-2 of the variance measured at 0.1, second order; the guess is what is tested
    np.testing.assert_allclose(rest.covariance, exact, rtol=0, atol=2.5 * 0.1**2 * exact.max())
    assert (rest.probability >= 0.0).all()


def test_a_well_that_no_cell_sees_is_refused():
    landscape = Landscape("0.5*(x/0.001)**2", variables=("x",))
    problem = Problem(landscape, ConstantNoise(temperature=1.0), Grid(x=(-2.0, 2.0, 20)))
    with pytest.raises(CaseError, match=r"grid: a rate beside cell .* Use many more cells"):
        stationary(problem)
