"""Starting densities as cell probabilities."""

import numpy as np
import pytest
from problems import box, free

from fpsolve.analyse.moments import mean_and_covariance, tail_mass
from fpsolve.errors import CaseError
from fpsolve.model.initial import Density, Gaussian, Point, Uniform


@pytest.fixture
def problem():
    return free(box((40, 30), [(-2.0, 2.0), (-1.5, 1.5)]), np.eye(2))


def test_a_gaussian_has_its_moments(problem):
    covariance = np.array([[0.05, 0.02], [0.02, 0.04]])
    probability = Gaussian((0.3, -0.2), covariance).probability(problem)
    mean, spread = mean_and_covariance(problem.grid, probability)
    assert probability.sum() == pytest.approx(1.0, abs=1e-14)
    # Sums over cell centres of a Gaussian two cells wide are exact to exp(-2 pi**2 2**2) = 1e-34; the walls are six
    # standard deviations away: 1e-8.
    np.testing.assert_allclose(mean, [0.3, -0.2], rtol=0, atol=1e-8)
    np.testing.assert_allclose(spread, covariance, rtol=0, atol=1e-8)
    assert tail_mass(problem.grid, probability) < 1e-8


def test_a_width_is_a_round_covariance(problem):
    np.testing.assert_allclose(
        Gaussian((0.3, -0.2), width=0.2).probability(problem),
        Gaussian((0.3, -0.2), 0.04 * np.eye(2)).probability(problem),
        rtol=1e-12,
    )


def test_a_point_has_its_mean(problem):
    mean, _ = mean_and_covariance(problem.grid, Point((0.33, -0.21)).probability(problem))
    np.testing.assert_allclose(mean, [0.33, -0.21], rtol=0, atol=1e-14)


def test_a_density_is_normalised(problem):
    x, y = problem.grid.positions()
    wanted = np.exp(-(x**2) - y**2)
    for source in ("3*exp(-x**2 - y**2)", lambda x, y: np.exp(-(x**2) - y**2)):
        np.testing.assert_allclose(Density(source).probability(problem), wanted / wanted.sum(), rtol=1e-13)


def test_uniform_is_the_same_everywhere(problem):
    np.testing.assert_array_equal(Uniform().probability(problem), 1.0 / 1200)


@pytest.mark.parametrize(
    ("initial", "message"),
    [
        (Gaussian((0.0, 0.0)), r"initial\.gaussian: a Gaussian needs exactly one of covariance and width"),
        (Gaussian((0.0, 0.0), np.eye(2), 1.0), r"initial\.gaussian: a Gaussian needs exactly one of"),
        (Gaussian((0.0, 3.0), width=0.2), r"initial\.gaussian\.mean: y = 3 lies outside the grid"),
        (Gaussian((0.0,), width=0.2), r"initial\.gaussian\.mean: 1 coordinates\. A point needs 2"),
        (Gaussian((0.0, 0.0), [[1, 2], [2, 1]]), r"initial\.gaussian\.covariance: it has the eigenvalue -1"),
        (
            Gaussian((0.0, 0.0), width=0.01),
            r"it is 0\.01 wide along x, where cells are 0\.1\. A Gaussian must be at least",
        ),
        (Point((5.0, 0.0)), r"initial\.point: x = 5 lies outside the grid"),
        (Density("x"), r"initial\.density: it is -1\.95 in cell \(0, 0\) .*A density is finite and not negative"),
        (Density("log(x)"), r"initial\.density: it is nan in cell \(0, 0\)"),
        (Density("0*x"), r"initial\.density: the density is zero everywhere on the grid"),
    ],
)
def test_what_is_no_density_is_refused(problem, initial, message):
    with pytest.raises(CaseError, match=message):
        initial.probability(problem)
