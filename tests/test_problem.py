"""A landscape, a noise and a grid together: the fields of the equation, and the messages where they do not fit."""

import numpy as np
import pytest
from problems import box, curved_valley, free, with_drift, with_loss

from fpsolve.errors import CaseError
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import AmplitudeNoise, ConstantNoise, HessianNoise, TensorNoise
from fpsolve.model.problem import Problem

MOBILITY = np.array([[1.0, 0.6], [0.6, 0.5]])


def path_integral(problem, start, end, count=2000):
    """Integral of D^-1 v along a straight line, by the midpoint rule."""
    step = (np.asarray(end) - np.asarray(start)) / count
    positions = np.asarray(start)[:, None] + step[:, None] * (np.arange(count) + 0.5)
    matrices = np.moveaxis(problem.diffusion.matrix(positions), -1, 0)
    slope = np.linalg.solve(matrices, problem.flux_drift(positions).T[..., None])[..., 0]
    return float((slope @ step).sum())


def split_integral(problem, start, end, count=2000):
    """The same from the split into a potential and a remainder."""
    ends = np.array([start, end]).T
    exponent = problem.exponent
    total = 0.0 if exponent.potential is None else float(np.diff(exponent.potential(ends))[0])
    if exponent.remainder is not None:
        step = (np.asarray(end) - np.asarray(start)) / count
        positions = np.asarray(start)[:, None] + step[:, None] * (np.arange(count) + 0.5)
        total += float((exponent.remainder(positions).T @ step).sum())
    return total


def tensor_problem(convention):
    grid = box((4, 4))
    scaled = [["2 + x", "0.5 + 0.25*x"], ["0.5 + 0.25*x", "1 + 0.5*x"]]  # (2 + x) times a constant matrix
    return Problem(
        Landscape(drift=["y", "-x"], variables=grid.names), TensorNoise(diffusion=scaled, convention=convention), grid
    )


SPLITS = {
    "a loss": (lambda: with_loss(box((4, 4)), "x**4 + x*y + y**2", 0.3), True, False),
    "a loss with mobility": (lambda: with_loss(box((4, 4)), "x**4 + x*y + y**2", 0.3, MOBILITY), True, False),
    "a loss with constant D of another shape": (
        lambda: Problem(
            Landscape("x**4 + x*y + y**2", variables=("x", "y")), ConstantNoise(diffusion=MOBILITY), box((4, 4))
        ),
        False,
        True,
    ),
    "a loss and more": (
        lambda: Problem(
            Landscape("x**4 + y**2", variables=("x", "y"), extra_drift=["-y", "x"]),
            ConstantNoise(temperature=0.3),
            box((4, 4)),
        ),
        True,
        True,
    ),
    "a drift": (lambda: with_drift(box((4, 4)), ["-x + y", "-x - y"], MOBILITY), False, True),
    "D = f M, Ito": (lambda: tensor_problem("ito"), True, True),
    "D = f M, Stratonovich": (lambda: tensor_problem("stratonovich"), True, True),
    "D = f M, isothermal": (lambda: tensor_problem("isothermal"), False, True),
    "Hessian noise": (lambda: curved_valley(4, 0.1), False, True),
}


@pytest.mark.parametrize("name", SPLITS)
def test_potential_and_remainder_add_up_to_the_exponent(name):
    make, has_potential, has_remainder = SPLITS[name]
    problem = make()
    assert (problem.exponent.potential is not None) == has_potential
    assert (problem.exponent.remainder is not None) == has_remainder
    assert problem.is_reversible == (not has_remainder)
    start, end = (-0.8, 0.3), (0.6, -0.7)
    wanted = path_integral(problem, start, end)
    # midpoint rule with 2000 points: length**3/24 * second derivative (up to 1e3) / 2000**2
    assert split_integral(problem, start, end) == pytest.approx(wanted, rel=3e-6, abs=1e-5)


def test_the_temperature_is_found_in_a_diffusion_matrix():
    landscape = Landscape("x**2 + y**2", variables=("x", "y"), mobility=MOBILITY)
    assert Problem(landscape, ConstantNoise(diffusion=0.25 * MOBILITY), box((2, 2))).temperature == pytest.approx(0.25)
    assert Problem(landscape, ConstantNoise(diffusion=np.eye(2)), box((2, 2))).temperature is None
    assert free(box((2, 2)), np.eye(2)).temperature is None


def test_the_same_problem_on_another_grid():
    problem = with_loss(box((4, 4)), "x**2", 1.0)
    finer = problem.on(box((8, 8)))
    assert finer.landscape is problem.landscape
    assert finer.grid.shape == (8, 8)


def test_one_dimension_takes_any_shape_of_a_single_entry():
    x = np.array([[0.2, 0.7]])
    for diffusion in ("1 + x", ["1 + x"], [["1 + x"]], lambda x: 1 + x, lambda x: [[1 + x]]):
        problem = Problem(Landscape("x**2", variables=("x",)), TensorNoise(diffusion=diffusion), box((4,), (0.0, 1.0)))
        np.testing.assert_allclose(problem.diffusion.matrix(x), [[[1.2, 1.7]]], rtol=1e-15)


# What is refused


def case(loss=None, noise=None, walls="reflecting", bounds=(-1.0, 1.0), shape=(4, 5), **landscape):
    grid = box(shape, bounds, walls)
    if loss is None and "drift" not in landscape:
        loss = "x**2 + y**2"
    return Problem(Landscape(loss, variables=grid.names, **landscape), noise or ConstantNoise(temperature=1.0), grid)


REFUSALS = {
    "axes and variables differ": (
        lambda: Problem(Landscape("x", variables=("x",)), ConstantNoise(temperature=1.0), box((4, 4))),
        r"grid: axes x, y beside variables x\. There must be one axis per variable, in the same order",
    ),
    "axes in another order": (
        lambda: Problem(Landscape("x", variables=("y", "x")), ConstantNoise(temperature=1.0), box((4, 4))),
        r"grid: axes x, y beside variables y, x",
    ),
    "loss is NaN": (
        lambda: case("log(x)"),
        r"landscape\.loss: it is nan in cell \(0, 0\) at x = -0\.75, y = -0\.8\. It must be finite in every cell",
    ),
    "loss is infinite": (
        lambda: case("1/x", bounds=((-1.0, 1.0), (0.0, 1.0)), shape=(3, 2)),
        r"landscape\.loss: it is inf in cell \(1, 0\) at x = 0, y = 0\.25",
    ),
    "drift is not finite": (
        lambda: case(drift=["sqrt(y)", "0"]),
        r"landscape\.drift: it is nan in cell \(0, 0\) at x = -0\.75, y = -0\.8",
    ),
    "diffusion is not finite": (
        lambda: case(noise=TensorNoise(diffusion=[["log(y)", "0"], ["0", "1"]])),
        r"noise\.diffusion: it is nan in cell \(0, 0\)",
    ),
    "diffusion has a negative eigenvalue": (
        lambda: case(noise=TensorNoise(diffusion=[["x", "0"], ["0", "1"]])),
        r"noise: the diffusion matrix has the eigenvalue -0\.75 in cell \(0, 0\) at x = -0\.75, y = -0\.8\. "
        r"No eigenvalue of the diffusion may be negative in any cell",
    ),
    "diffusion has a negative eigenvalue off the diagonal": (
        lambda: case(noise=TensorNoise(diffusion=[["1", "2*y"], ["2*y", "1"]])),
        r"noise: the diffusion matrix has the eigenvalue -0\.6 in cell \(0, 0\) at x = -0\.75, y = -0\.8",
    ),
    "diffusion is not symmetric": (
        lambda: case(noise=TensorNoise(diffusion=[["1", "x"], ["0", "1"]])),
        r"noise\.diffusion: it is not symmetric in cell \(0, 0\) at x = -0\.75, y = -0\.8\. It must equal",
    ),
    "Hessian is indefinite": (
        lambda: case("(x**2 - 1)**2 + y**2", HessianNoise(learning_rate=0.1, batch_size=8), shape=(3, 2)),
        r"noise: the Hessian of the loss has the eigenvalue -4 in cell \(1, 0\) at x = 0, y = -0\.5\. .*"
        r"may be negative in any cell\. Choose noise\.projection = \"abs\" or \"clip\", and a noise\.floor above 0",
    ),
    "loss is not periodic": (
        lambda: case("x + cos(pi*y)", walls=("periodic", "reflecting")),
        r"walls\.x: axis x is periodic but loss is .* at -1 and .* at 1\. A periodic axis needs a periodic loss\. "
        r'Use walls\.x = "reflecting" or a loss of period 2',
    ),
    "drift is not periodic": (
        lambda: case(drift=["1", "y"], walls="periodic"),
        r"walls\.y: axis y is periodic but drift is -1 at -1 and 1 at 1\. A periodic axis needs a periodic drift",
    ),
    "diffusion is not periodic": (
        lambda: case("0*x", TensorNoise(diffusion=[["2 + x", "0"], ["0", "1"]]), walls=("periodic", "reflecting")),
        r"walls\.x: axis x is periodic but diffusion is 1 at -1 and 3 at 1",
    ),
    "Stratonovich without an amplitude": (
        lambda: case(noise=TensorNoise(diffusion=[["2 + x", "0"], ["0", "1"]], convention="stratonovich")).exponent,
        r'noise\.convention: "stratonovich" for a diffusion whose shape changes from place to place\. .* amplitude',
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_what_does_not_fit_is_refused(name):
    make, message = REFUSALS[name]
    with pytest.raises(CaseError, match=message):
        make()


def test_a_loss_with_a_kink_at_the_seam_is_refused():
    """The same at both ends is not enough: its slope, the drift, must be too."""
    with pytest.raises(CaseError, match=r"axis x is periodic but drift is"):
        with_loss(box((8,), walls="periodic"), "x**2", 1.0)


def test_an_amplitude_under_stratonovich_may_turn():
    amplitude = [["cos(x)", "-sin(x)"], ["sin(x)", "cos(x)"]]
    problem = case("0*x", AmplitudeNoise(noise_amplitude=amplitude, convention="stratonovich"))  # D = I/2 everywhere
    x, _ = positions = problem.grid.positions()
    # 1/2 s_jk d_j s_ik, by hand: (-cos sin + sin cos, cos**2 + sin**2) / 2
    np.testing.assert_allclose(problem.flux_drift(positions), [0 * x, 0 * x + 0.5], rtol=0, atol=1e-15)
