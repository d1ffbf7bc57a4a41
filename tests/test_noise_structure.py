"""The gradient noise beside the Hessian, its tilt on a path, the exponent of SGD's own steps, and the noise drift."""

import copy
import json
import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize

from fpsolve.analyse.action import action_along
from fpsolve.analyse.basins import find_basins
from fpsolve.analyse.chain_exponent import chain_exponent
from fpsolve.analyse.noise_structure import covariance_against_hessian, noise_drift_summary, noise_structure
from fpsolve.analyse.path import most_probable_path
from fpsolve.analyse.rest import stationary
from fpsolve.analyse.stationary_points import minimum_near
from fpsolve.analyse.tilt import factor_words, tilt_along, tilt_notice
from fpsolve.errors import CaseError
from fpsolve.model.fields import field
from fpsolve.model.grid import Grid
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import ConstantNoise, TensorNoise
from fpsolve.model.problem import Problem
from fpsolve.present.structure_words import structure_lines, structure_record

ROUNDING = 1e-12
NAMES = ("x", "y", "z")
STEEPEST = 8.0 / math.sqrt(27.0)  # of (x**2 - 1)**2 between the minimum and the saddle


def problem(loss, covariance, *, diffusion=None, cells=20, half=2.0):
    """A loss with a covariance of gradients (nested lists of expressions), and D as given or 1/10 of it."""
    names = NAMES[: len(covariance)]
    landscape = copy.copy(Landscape(loss, variables=names))
    given_field = field(covariance, (len(names),) * 2, names, {}, "landscape.gradient_covariance")
    object.__setattr__(landscape, "gradient_covariance", given_field)
    tensor = diffusion or [[f"0.1*({entry})" for entry in row] for row in covariance]
    return Problem(landscape, TensorNoise(diffusion=tensor), Grid(**dict.fromkeys(names, (-half, half, cells))))


def nested(matrix):
    return [[repr(float(entry)) for entry in row] for row in matrix]


def quadratic(matrix):
    terms = [f"{float(matrix[i, j])!r}*{NAMES[i]}*{NAMES[j]}/2" for i, j in np.ndindex(matrix.shape)]
    return " + ".join(terms)


def turned(values, degrees):
    """A symmetric matrix with its eigenvectors turned by an angle in the plane."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turn = np.array([[c, -s], [s, c]])
    return turn @ np.diag(values) @ turn.T


def compared(hessian, covariance):
    case = problem(quadratic(hessian), nested(covariance))
    return covariance_against_hessian(case, [minimum_near(case, (0.1,) * len(hessian))])[0]


# C against H


@pytest.mark.parametrize("scale", [1.0, 0.3, 7.0])
def test_proportional_covariance(scale):
    hessian = turned([1.0, 5.0], 20.0)
    found = compared(hessian, scale * hessian)
    assert found.scale == pytest.approx(scale, rel=ROUNDING)
    assert found.difference < ROUNDING
    assert found.plain_difference == pytest.approx(abs(scale - 1.0) / scale, abs=ROUNDING)
    assert found.ratios == pytest.approx([scale, scale], rel=ROUNDING)
    assert found.angles == pytest.approx([0.0, 0.0], abs=1e-10)  # degrees, rounding


@pytest.mark.parametrize("degrees", [1e-4, 30.0, 75.0, 90.0])
def test_turned_covariance(degrees):
    found = compared(turned([1.0, 4.0], 10.0), turned([2.0, 3.0], 10.0 + degrees))
    assert found.angles == pytest.approx([degrees] * 2, abs=1e-10)
    assert found.covariance_eigenvalues == pytest.approx([2.0, 3.0], rel=ROUNDING)
    assert found.hessian_eigenvalues == pytest.approx([1.0, 4.0], rel=ROUNDING)
    share = math.sin(math.radians(degrees)) ** 2  # of the other eigenvalue along a direction of H
    assert found.ratios == pytest.approx([2.0 + share, (3.0 - share) / 4.0], rel=1e-11)
    overlap = (1.0 * (2.0 + share) + 4.0 * (3.0 - share)) / 17.0
    assert found.scale == pytest.approx(overlap, rel=1e-11)
    assert found.difference == pytest.approx(math.sqrt(1.0 - overlap**2 * 17.0 / 13.0), rel=1e-10)


def test_degenerate_directions_have_no_angle():
    found = compared(np.diag([1.0, 4.0]), 2.0 * np.eye(2))
    assert np.isnan(found.angles).all()
    assert found.ratios == pytest.approx([2.0, 0.5], rel=ROUNDING)


def test_no_noise_at_a_minimum():
    case = problem("x**2", [["x**2"]], diffusion=[["1"]])
    found = covariance_against_hessian(case, [minimum_near(case, (0.1,))])[0]
    assert math.isnan(found.difference)
    assert found.ratios == pytest.approx([0.0])
    assert "there is no gradient noise" in structure_lines(noise_structure(case, [found.point]), case.grid)[1]


def test_every_minimum_is_compared():
    case = problem("(x**2 - 1)**2", [["8 + 4*(x + 1)"]], cells=60)
    found = covariance_against_hessian(case, find_basins(case).minima)
    assert [entry.ratios[0] for entry in found] == pytest.approx([1.0, 2.0], rel=ROUNDING)


def test_a_covariance_is_needed():
    case = Problem(Landscape("x**2", variables=("x",)), ConstantNoise(temperature=1.0), Grid(x=(-1, 1, 20)))
    with pytest.raises(CaseError, match=r"landscape\.gradient_covariance: there is none.*Give a sample"):
        covariance_against_hessian(case, [])
    with pytest.raises(CaseError, match="gradient_covariance"):
        tilt_along(case, np.zeros((1, 2)))
    assert noise_structure(case, find_basins(case).minima).at_minima == ()


# The tilt


def test_tilt_on_a_line():
    sigma = 2.5
    case = problem("(x**2 - 1)**2", [[repr(sigma**2)]])
    positions = np.linspace(-1.0, 0.0, 301)[None]
    tilt = tilt_along(case, positions)
    x = positions[0]
    assert tilt.values == pytest.approx(2.0 * np.abs(4.0 * x * (x**2 - 1.0)) / sigma, abs=ROUNDING)
    assert tilt.largest == pytest.approx(2.0 * STEEPEST / sigma, rel=1e-4)  # the nearest of 301 points
    assert tilt.place == pytest.approx([-1.0 / math.sqrt(3.0)], abs=2e-3)
    assert tilt.arc_length[-1] == pytest.approx(1.0, rel=ROUNDING)


@given(st.lists(st.floats(-2.0, 2.0), min_size=4, max_size=4), st.floats(0.1, 3.0))
@settings(max_examples=40)
def test_tilt_does_not_depend_on_linear_coordinates(entries, first):
    """Positions T y: gradient T' grad, covariance T' C T."""
    change = np.reshape(entries, (2, 2)) + 4.0 * np.eye(2)
    hessian, covariance = turned([1.0, first], 25.0), turned([2.0, 0.7], 60.0)
    positions = np.array([[0.0, 0.5, -1.0], [0.2, 0.9, 0.4]])
    one = tilt_along(problem(quadratic(hessian), nested(covariance)), positions)
    mirrored = problem(quadratic(change.T @ hessian @ change), nested(_symmetric(change.T @ covariance @ change)))
    other = tilt_along(mirrored, np.linalg.solve(change, positions))
    expected = 2.0 * np.sqrt(
        np.einsum("ip,ip->p", hessian @ positions, np.linalg.solve(covariance, hessian @ positions))
    )
    assert one.values == pytest.approx(expected, rel=1e-11)
    assert other.values == pytest.approx(expected, rel=1e-9)  # rounding times the condition of the matrices


def _symmetric(matrix):
    return 0.5 * (matrix + matrix.T)


def test_no_noise_where_the_loss_falls_is_an_infinite_tilt():
    case = problem("x**2 + y**2", [["1", "0"], ["0", "0"]], diffusion=[["1", "0"], ["0", "1"]])
    values = tilt_along(case, np.array([[0.5, 0.5, 0.0], [0.0, 0.5, 0.0]])).values
    assert values == pytest.approx([2.0, math.inf, 0.0])


@pytest.mark.parametrize(
    ("largest", "grade", "factor"), [(0.15, "small", 1.045), (0.62, "noticeable", 1.6), (1.23, "large", 7.6)]
)
def test_what_was_measured(largest, grade, factor):
    sigma = 2.0 * STEEPEST / largest
    tilt = tilt_along(problem("(x**2 - 1)**2", [[repr(sigma**2)]]), np.linspace(-1.0, 0.0, 1001)[None])
    assert tilt.grade == grade
    assert math.exp(tilt.log_excess(8.0)) == pytest.approx(factor, rel=1e-4)
    assert tilt.log_excess(16.0) == pytest.approx(2.0 * tilt.log_excess(8.0))
    notice = tilt_notice(tilt, None, 8.0)
    assert (notice is None) == (grade == "small")
    if notice is not None:
        assert notice.code == "tilt_is_large"
        assert "ensemble" in notice.message


def test_factors_in_words():
    assert factor_words(math.log(1.12)) == "by about 12 %"
    assert factor_words(math.log(7.6), at_least=True) == "by a factor of more than 7.6"
    assert factor_words(math.log(1e12)) == "by a factor of about 10^12"
    assert factor_words(math.inf).startswith("by any factor")


# The exponent of the steps


@dataclass
class Scattered:
    """Examples whose gradients are that of a loss plus deviations (axes, rows) of mean zero."""

    slope: object
    deviations: np.ndarray

    def gradients(self, position):
        return self.slope(position)[:, None] + self.deviations


def quartic(x):
    return 4.0 * x * (x**2 - 1.0)


CLIMB = np.linspace(-1.0, 0.0, 401)[None]


def two_valued(largest):
    """+-sigma noise about the quartic well with a given largest tilt; batch over rate for barrier/noise 8."""
    sigma = 2.0 * STEEPEST / largest
    return Scattered(quartic, sigma * np.array([[-1.0, 1.0]])), 4.0 * sigma**2


def test_exponent_of_two_valued_noise_solves_its_equation():
    """ln cosh(u) = u L' / sigma, u = tilt sigma, by a root finder of another kind."""
    sample, batch = two_valued(1.23)
    found = chain_exponent(sample, CLIMB, 1.0, batch)
    sigma = float(sample.deviations[0, 1])
    for point in (40, 169, 300, 398):
        ratio = float(quartic(CLIMB[0, point])) / sigma
        root = brentq(lambda u, r=ratio: math.log(math.cosh(u)) / u - r, 1e-9, 50.0, xtol=1e-15, rtol=1e-14)
        assert found.chain[point] == pytest.approx(batch * root / sigma, rel=1e-9)
    assert found.fokker_planck_exponent == pytest.approx(8.0, rel=1e-9)  # Simpson's rule, exact for cubics


@pytest.mark.parametrize(
    ("largest", "measured", "gaussian"), [(0.15, 1.045, 1.03), (0.62, 1.605, 1.13), (1.23, 7.6, 1.15)]
)
def test_exponent_beside_what_was_measured(largest, measured, gaussian):
    """Measured times of SGD over Fokker-Planck's; what steps of Gaussian noise overshoot is not in the exponent."""
    sample, batch = two_valued(largest)
    ratio = math.exp(chain_exponent(sample, CLIMB, 1.0, batch).log_ratio)
    assert ratio * gaussian == pytest.approx(measured, rel=0.08)  # what was measured, to its scatter


@pytest.mark.parametrize(
    ("rows", "order", "coefficient"),
    [
        # Deviations of unit variance. The exponent's slope beyond Fokker-Planck's 2 r, with r = L' / sigma:
        ([-2.0, 0.5, 0.5, 0.5, 0.5], 2, 4.0 / 3.0 * (-8.0 + 4 * 0.125) / 5.0),  # 4/3 (third cumulant) r**2
        ([-1.0, 1.0], 3, 4.0 / 3.0),  # -2/3 (fourth cumulant, -2) r**3
        ([-math.sqrt(3.0), 0.0, 0.0, 0.0, 0.0, math.sqrt(3.0)], 5, None),  # Gaussian up to the fifth moment
    ],
)
def test_leading_orders(rows, order, coefficient):
    """The first cumulant beyond the variance sets how the exponent leaves Fokker-Planck's as the tilt falls."""
    deviations = np.array([rows])
    assert deviations.mean() == pytest.approx(0.0, abs=1e-15)
    assert deviations.var() == pytest.approx(1.0)
    slopes = 0.04 * 0.5 ** np.arange(3)
    path = np.array([[0.0, 1.0]])
    excesses = []
    for slope in slopes:
        found = chain_exponent(Scattered(lambda _, g=slope: np.array([g]), deviations), path, 1.0, 1.0)
        assert found.fokker_planck_exponent == pytest.approx(2.0 * slope, rel=ROUNDING)
        excesses.append(found.log_ratio)
    observed = np.diff(np.log(np.abs(excesses))) / np.diff(np.log(slopes))
    assert abs(observed[-1] - order) < 0.1
    if coefficient is not None:
        assert excesses[-1] == pytest.approx(coefficient * slopes[-1] ** order, rel=0.06)  # the next order, ~ r


def test_gaussian_noise_is_fokker_planck():
    """Rows at Gauss-Hermite nodes, repeated by their weights: Gaussian but for high moments and the rounded weights."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(9)
    counts = np.rint(weights / weights.sum() * 1e6).astype(int)
    deviations = np.repeat(nodes, counts)
    deviations = 3.0 * (deviations - deviations.mean()) / deviations.std()
    keep = Scattered(quartic, deviations[None, :])
    found = chain_exponent(keep, CLIMB[:, ::100], 0.1, 4.0)
    assert found.log_ratio == pytest.approx(0.0, abs=1e-4 * found.fokker_planck_exponent)  # rounded weights


def test_learning_rate_and_batch_only_scale():
    sample, _ = two_valued(0.8)
    one, other = chain_exponent(sample, CLIMB, 0.1, 3), chain_exponent(sample, CLIMB, 0.05, 12)
    assert other.exponent == pytest.approx(8.0 * one.exponent, rel=ROUNDING)
    assert other.log_ratio == pytest.approx(8.0 * one.log_ratio, rel=1e-9)


def test_steps_that_cannot_climb():
    sample = Scattered(quartic, np.array([[-1.0, 1.0]]))  # the steepest slope is 1.54
    found = chain_exponent(sample, CLIMB, 0.1, 1)
    assert found.exponent == math.inf
    assert found.fokker_planck_exponent < math.inf


def test_nothing_is_paid_on_the_way_down():
    sample, batch = two_valued(0.6)
    found = chain_exponent(sample, 1.0 + CLIMB, 1.0, batch)  # from 0 to 1, downhill
    assert found.exponent == pytest.approx(0.0, abs=1e-9)
    assert found.fokker_planck_exponent == pytest.approx(0.0, abs=1e-9)


PLANE = np.array([[1.7, -1.1, 0.4, -1.0, 0.3, -0.3], [0.2, 0.9, -1.5, 0.6, -0.9, 0.7]])


@pytest.mark.parametrize("angle", [0.0, 40.0, 110.0, 250.0])
def test_exponent_in_the_plane_is_the_largest_tilt(angle):
    """max tilt . t with K(tilt) <= 0, by a general optimiser."""
    tangent = np.array([math.cos(math.radians(angle)), math.sin(math.radians(angle))])
    mean = np.array([0.3, 0.15])
    deviations = PLANE - PLANE.mean(axis=1, keepdims=True)
    sample = Scattered(lambda _: mean, deviations)
    found = chain_exponent(sample, np.outer(tangent, [0.0, 1.0]), 1.0, 1.0)

    def cumulant(tilt):
        return math.log(float(np.exp(-tilt @ sample.gradients(None)).mean()))

    rule = {"type": "ineq", "fun": lambda tilt: -cumulant(tilt)}
    best = minimize(lambda tilt: -tilt @ tangent, tangent, constraints=[rule], method="SLSQP", tol=1e-14)
    assert found.exponent == pytest.approx(-best.fun, rel=1e-6)  # the optimiser's
    covariance = np.cov(deviations, bias=True)
    slope, along = np.linalg.solve(covariance, mean), np.linalg.solve(covariance, tangent)
    gaussian = tangent @ slope + math.sqrt((mean @ slope) * (tangent @ along))
    assert found.fokker_planck_exponent == pytest.approx(gaussian, rel=1e-11)


def test_linear_coordinates_do_not_change_the_exponent():
    change = np.array([[1.3, -0.4], [0.2, 0.8]])
    deviations = PLANE - PLANE.mean(axis=1, keepdims=True)
    path = np.array([np.linspace(0.0, 1.0, 21), np.linspace(0.0, 1.0, 21) ** 2])

    def slope(x):
        return np.array([0.4 * x[0], 0.2 * x[1]])

    one = chain_exponent(Scattered(slope, deviations), path, 0.1, 2.0)
    inverse = np.linalg.inv(change)  # positions, and with them the steps, are those of other coordinates
    moved = Scattered(lambda y: inverse @ slope(change @ y), inverse @ deviations)
    other = chain_exponent(moved, inverse @ path, 0.1, 2.0)
    # Tangents and the integral are those of 21 points, by different arc lengths.
    assert other.exponent == pytest.approx(one.exponent, rel=1e-3)
    assert other.fokker_planck_exponent == pytest.approx(one.fokker_planck_exponent, rel=1e-3)


def test_independent_axes_are_one_axis():
    """Noise of its own along y, where the path does not go and the loss does not fall, changes nothing."""
    rows = np.array([[-2.0, 2.0, -2.0, 2.0], [-1.0, -1.0, 1.0, 1.0]])
    plane = Scattered(lambda x: np.array([float(quartic(x[0])), 2.0 * x[1]]), rows)
    path = np.concatenate([CLIMB[:, ::10], np.zeros((1, 41))])
    line = chain_exponent(Scattered(quartic, rows[:1, :2]), CLIMB[:, ::10], 0.1, 3.0)
    found = chain_exponent(plane, path, 0.1, 3.0)
    assert found.chain == pytest.approx(line.chain, rel=1e-9, abs=1e-9)


def test_fokker_planck_exponent_is_the_action():
    """The same number as the action of the path in the problem with D = rate C / (2 batch)."""
    covariance = turned([9.0, 4.0], 30.0)
    case = problem("(x**2 - 1)**2 + 2*(y - 0.4*x**2)**2", nested(covariance), diffusion=nested(0.05 * covariance))
    path = most_probable_path(case, (-1.0, 0.4), (0.0, 0.0))
    corners = np.array([[1.0, -1.0, 1.0, -1.0], [1.0, 1.0, -1.0, -1.0]])
    gradient = case.landscape.gradient
    assert gradient is not None
    sample = Scattered(lambda x: gradient(x[:, None])[:, 0], np.linalg.cholesky(covariance) @ corners)
    found = chain_exponent(sample, path.climb.T, 0.1, 1.0)
    expected = action_along(case, path.climb)
    assert expected is not None
    assert found.fokker_planck_exponent == pytest.approx(expected, rel=1e-5)  # Simpson's rule on 201 points
    assert found.log_ratio > 0.0


# The noise drift


def test_noise_drift_of_a_line():
    """Drift -x, D = (1 + x**2)/10: the noise drift is -x/5, a fifth of the drift everywhere."""
    case = problem("x**2/2", [["1 + x**2"]], cells=80)
    rest = stationary(case)
    found = noise_drift_summary(case, rest.probability, [minimum_near(case, (0.3,))])
    assert found is not None
    assert found.mean_ratio == pytest.approx(0.2, rel=1e-11)
    assert found.largest_ratio == pytest.approx(0.2, rel=1e-11)
    assert found.share_stronger == 0.0
    assert found.share_to_quieter == pytest.approx(1.0)
    assert found.shifts == pytest.approx(np.zeros((1, 1)), abs=ROUNDING)


def test_shift_of_the_balance():
    """Drift -3 x, D = (2 + x)/10: the noise drift -1/10 moves the balance to -1/30."""
    case = problem("1.5*x**2", [["2.5 + x"]], cells=60)
    found = noise_drift_summary(case, None, [minimum_near(case, (0.3,))])
    assert found is not None
    assert found.strongest == pytest.approx(0.1, rel=ROUNDING)
    assert found.shifts[0] == pytest.approx([-1.0 / 30.0], rel=1e-9)


def test_no_noise_drift():
    for noise in (
        ConstantNoise(temperature=0.2),
        TensorNoise(diffusion=[["1 + x**2"]], convention="isothermal"),
    ):
        case = Problem(Landscape("x**2", variables=("x",)), noise, Grid(x=(-1.0, 1.0, 20)))
        assert noise_drift_summary(case, None) is None
        assert noise_structure(case, find_basins(case).minima).notices == ()


# Together, and in words


def test_structure_in_words_and_numbers():
    case = problem(
        "(x**2 - 1)**2 + 2*(y - 0.4*x**2)**2",
        [["5 + 3*x**2 + x", "1.5*x + 0.5"], ["1.5*x + 0.5", "3 + y**2"]],
        diffusion=[["0.1 + 0.06*x**2 + 0.02*x", "0"], ["0", "0.06 + 0.02*y**2"]],
        cells=40,
    )
    basins = find_basins(case)
    paths = [most_probable_path(case, basins.minima[0].position, basins.saddles[0].point.position)]
    found = noise_structure(case, basins.minima, paths, stationary(case).probability)
    text = "\n".join(structure_lines(found, case.grid))
    assert f"C ~ {found.at_minima[0].scale:.4g} H to within" in text
    assert f"up to {found.tilts[0].largest:.3g} per example at x = " in text
    assert "pushes to quieter places" in text
    assert [notice.code for notice in found.notices] == ["tilt_is_large"]
    record = structure_record(found, case.grid)
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert record["at_minima"][1]["ratios"] == found.at_minima[1].ratios.tolist()
    assert record["tilts"][0]["grade"] == "large"
    assert len(record["noise_drift"]["shifts"]) == 2


def test_the_gradients_of_the_examples_say_which_way():
    sample, batch = two_valued(1.0)
    tilt = tilt_along(problem("(x**2 - 1)**2", [[repr(float(sample.deviations.var()))]]), CLIMB)
    later = tilt_notice(tilt, chain_exponent(sample, CLIMB, 1.0, batch), 8.0)
    skewed = Scattered(quartic, float(sample.deviations[0, 1]) * np.array([[-2.0, 0.5, 0.5, 0.5, 0.5]]))
    sooner = tilt_notice(tilt, chain_exponent(skewed, CLIMB, 1.0, batch), 8.0)
    assert later is not None
    assert sooner is not None
    assert "SGD leaves later than Fokker-Planck says, by a factor of about" in later.message
    assert "SGD leaves sooner than" in sooner.message
