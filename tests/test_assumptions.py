"""The assumptions behind the formulas, as numbers worked out by hand."""

import math

import numpy as np
import pytest
from problems import box, curved_valley, rotation, turned, with_drift, with_loss

from fpsolve.analyse.assumptions import assumptions, curvature_change
from fpsolve.analyse.stationary_points import minimum_near
from fpsolve.errors import CaseError
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import HessianNoise, TensorNoise
from fpsolve.model.problem import Problem

LINE = box((60,), (-2.0, 2.0))


def test_the_quartic_well():
    """H = 12 x**2 - 4: one width w away, it changes by 24 w + 12 w**2 at -1 (w**2 = T/8), 12 w**2 at 0 (T/4)."""
    problem = with_loss(LINE, "(x**2 - 1)**2", 0.02)
    found = assumptions(problem, [-1.0], problem.region("x > 0.8"), 50.0)
    width = math.sqrt(0.02 / 8.0)
    assert found.curvature_change_at_minimum == pytest.approx((24.0 * width + 12.0 * width**2) / 8.0, rel=1e-12)
    assert found.curvature_change_at_saddle == pytest.approx(12.0 * 0.02 / 4.0 / 4.0, rel=1e-12)
    assert found.barrier_over_noise == pytest.approx(50.0, rel=1e-12)
    assert found.relaxation_time == pytest.approx(1.0 / 8.0, rel=1e-12)
    assert found.log_relaxation_over_escape == pytest.approx(-math.log(8.0) - 50.0, rel=1e-12)
    assert found.relaxation_over_escape == pytest.approx(math.exp(-50.0) / 8.0, rel=1e-12)
    assert found.reason is None


def test_a_relaxation_time_that_is_known():
    problem = with_loss(LINE, "(x**2 - 1)**2", 0.02)
    found = assumptions(problem, [-1.0], problem.region("x > 0.8"), 2000.0, relaxation_time=0.25)
    assert found.relaxation_time == 0.25
    assert found.log_relaxation_over_escape == pytest.approx(math.log(0.25) - 2000.0)
    assert found.relaxation_over_escape == 0.0  # beyond the floating-point numbers


def test_a_quadratic_loss_does_not_change_its_curvature():
    problem = with_loss(box((20, 20)), "x**2 + 0.7*x*y + 3*y**2", 0.05, turned([1.0, 0.2], 0.3))
    assert curvature_change(problem, minimum_near(problem, [0.1, 0.2])) == pytest.approx(0.0, abs=1e-13)


@pytest.mark.parametrize("angle", [0.0, 0.7])
def test_the_largest_of_all_directions_counts(angle):
    """L = u**2 + 5 v**2 + v**3 + 2 u v**2: w_u**2 = T/2, w_v**2 = T/10.

    Along u, dH has 4 w_u in (v, v) alone: 4 w_u / 10. Along v it has 4 w_v beside the diagonal and 6 w_v in (v, v).
    """
    (c, s), _ = rotation(angle).T.tolist()
    u, v = f"({c!r}*x + {s!r}*y)", f"({c!r}*y - {s!r}*x)"
    problem = with_loss(box((20, 20)), f"{u}**2 + 5*{v}**2 + {v}**3 + 2*{u}*{v}**2", 0.05)
    along_u = 4.0 * math.sqrt(0.05 / 2.0) / 10.0
    beside, within = (w * math.sqrt(0.05 / 10.0) for w in (4.0 / math.sqrt(20.0), 6.0 / 10.0))
    along_v = 0.5 * (within + math.sqrt(within**2 + 4.0 * beside**2))  # of [[0, beside], [beside, within]]
    found = curvature_change(problem, minimum_near(problem, [0.1, 0.05]))
    assert found == pytest.approx(max(along_u, along_v), rel=1e-12)


def test_a_mobility_slows_the_relaxation():
    mobility = np.array([[1.0, 0.6], [0.6, 0.5]])
    problem = with_loss(box((40, 40), (-2.0, 2.0)), "(x**2 - 1)**2 + y**2", 0.05, mobility)
    found = assumptions(problem, [-1.0, 0.0], problem.region("x > 0.8"), 20.0)
    slowest = np.linalg.eigvals(mobility @ np.diag([8.0, 2.0])).real.min()
    assert found.relaxation_time == pytest.approx(1.0 / slowest, rel=1e-12)
    assert found.barrier_over_noise == pytest.approx(20.0, rel=1e-12)


def test_noise_that_depends_on_the_position_in_one_dimension():
    """D = 0.1 (1 + x/2): the barrier is the integral of 4 x (x**2 - 1) / D."""
    noise = TensorNoise(diffusion="0.1*(1 + x/2)")
    problem = Problem(Landscape("(x**2 - 1)**2", variables=("x",)), noise, box((60,), (-1.9, 2.0)))
    found = assumptions(problem, [-1.0], problem.region("x > 0.8"), 20.0)
    nodes, weights = np.polynomial.legendre.leggauss(40)
    x = -0.5 + 0.5 * nodes
    barrier = 0.5 * float(weights @ (4.0 * x * (x**2 - 1.0) / (0.1 * (1.0 + x / 2.0))))
    assert found.barrier_over_noise == pytest.approx(barrier, rel=1e-12)
    # The width is that of the noise at the minimum, 0.05 / 8.
    width = math.sqrt(0.05 / 8.0)
    assert found.curvature_change_at_minimum == pytest.approx((24.0 * width + 12.0 * width**2) / 8.0, rel=1e-12)


def test_noise_that_depends_on_the_position_in_two_dimensions():
    """The action of the most probable path, which the ratio of two measured times confirms to a per cent."""
    problem = curved_valley(40, 0.05)
    found = assumptions(problem, [-1.0, -0.1], problem.region("0.921*x + 0.389*y > 0.8"), math.log(1548.05))
    assert found.barrier_over_noise == pytest.approx(math.log(2.6490e6 / 1548.05), rel=0.01)
    assert found.reason is None


def test_why_there_are_no_numbers():
    problem = with_drift(LINE, ["-4*x*(x**2 - 1)"], [[0.1]])
    found = assumptions(problem, [-1.0], problem.region("x > 0.8"), 20.0, relaxation_time=0.1)
    assert found.reason == "the landscape gives a drift and no loss"
    assert found.curvature_change_at_minimum is None
    assert found.barrier_over_noise is None
    assert found.log_relaxation_over_escape == pytest.approx(math.log(0.1) - 20.0)
    bare = assumptions(problem, [-1.0], problem.region("x > 0.8"), 20.0)
    assert bare.relaxation_over_escape is None


def test_a_barrier_that_noise_cannot_climb():
    """Without a floor the noise vanishes on the way, and the barrier is infinitely many times the noise."""
    noise = HessianNoise(learning_rate=0.2, batch_size=1, projection="abs", floor=0.0)
    problem = Problem(Landscape("(x**2 - 1)**2", variables=("x",)), noise, box((61,), (-2.0, 2.0)))
    found = assumptions(problem, [-1.0], problem.region("x > 0.8"), 20.0)
    assert found.barrier_over_noise is None
    assert "does D vanish somewhere?" in found.reason
    assert found.relaxation_time == pytest.approx(1.0 / 8.0)


def test_a_start_outside_the_grid_is_an_error():
    problem = with_loss(LINE, "(x**2 - 1)**2", 0.1)
    with pytest.raises(CaseError, match="x = -3 lies outside the grid"):
        assumptions(problem, [-3.0], problem.region("x > 0"), 1.0)
