"""Most probable paths: against curves known in closed form, other flows, and the exponents of measured times."""

import math

import numpy as np
import pytest
from problems import SPACE_AXES, along, box, curved_valley, directions, with_drift, with_loss

from fpsolve.analyse.action import action_along, least_action_path
from fpsolve.analyse.passes import pass_between
from fpsolve.analyse.path import LEG_POINTS, most_probable_path, steepest_descent
from fpsolve.analyse.stationary_points import StationaryPointError, minimum_near
from fpsolve.model.grid import Axis, Grid
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import ConstantNoise, TensorNoise
from fpsolve.model.problem import Problem

PLANE = box((40, 40), (-2.0, 2.0))
# Minima at (-1, 0) and (1, 0), saddles at (0, -1) and (0, 1). In polar coordinates (r**2 - 1)**2 - cos(2 phi) / 2: the
# ways of steepest descent from the saddles are arcs of the circle r = 1, on which the loss climbs by 1.
RING = "(x**2 + y**2 - 1)**2 - 0.5*(x**2 - y**2)/(x**2 + y**2)"
BANANA = "(x**2 - 1)**2 + 2*(y - 0.8*x**2)**2"
# The start of a way, on the tangent of the curve, is off by the square of 1e-6 over the radius, and a minimum is
# approached to 1e-6 along it; the tolerance of the differential equation is 1e-11.
ON_THE_CURVE = 1e-9


def test_steepest_descent_along_a_circle():
    path = most_probable_path(with_loss(PLANE, RING, 0.1), [-1.0, 0.0], [0.0, 1.0])
    assert path.method == "steepest descent"
    assert path.reason is None
    assert np.linalg.norm(path.points, axis=1) == pytest.approx(1.0, abs=ON_THE_CURVE)
    assert path.points[[0, path.saddle, -1]] == pytest.approx(np.array([[-1, 0], [0, 1], [1, 0]]), abs=ON_THE_CURVE)
    assert path.saddle == LEG_POINTS
    assert len(path.points) == 2 * LEG_POINTS + 1
    # Chords of the angle h are shorter than their arcs by h**2 / 24.
    assert path.arc_length[-1] == pytest.approx(math.pi * (1.0 - (0.5 * math.pi / LEG_POINTS) ** 2 / 24.0), rel=1e-8)
    angle = math.pi - path.arc_length
    assert path.loss == pytest.approx(-0.5 * np.cos(2.0 * angle), abs=1e-5)  # the same, in the angle
    assert path.action == pytest.approx(10.0, rel=1e-8)  # the points are exact, a spline of 200 pieces is not quite


def test_points_are_equally_far_apart():
    path = most_probable_path(with_loss(PLANE, BANANA, 0.1), [-1.0, 0.8], [0.0, 0.0])
    for leg in (path.climb, path.points[path.saddle :]):
        steps = np.linalg.norm(np.diff(leg, axis=0), axis=1)
        # Chords differ by (curvature * step)**2 / 24; the curvature of this path stays below 5.
        assert steps == pytest.approx(steps.mean(), rel=25.0 * steps.mean() ** 2)


def test_a_mobility_is_the_metric_of_the_descent():
    """With z = A^-1 x and M = A A^T the drift -M grad L is dz = -grad_z L: for a separable L(z) a straight line."""
    matrix = np.array([[1.0, 0.3], [0.5, 0.8]])
    p, q = np.linalg.inv(matrix).tolist()
    u, v = (f"({row[0]!r}*x + {row[1]!r}*y)" for row in (p, q))
    problem = with_loss(PLANE, f"({u}**2 - 1)**2 + 3*{v}**2", 0.2, matrix @ matrix.T)
    path = most_probable_path(problem, -matrix[:, 0], [0.0, 0.0])
    assert np.linalg.solve(matrix, path.points.T)[1] == pytest.approx(0.0, abs=ON_THE_CURVE)
    assert path.points[-1] == pytest.approx(matrix[:, 0], abs=ON_THE_CURVE)
    assert path.action == pytest.approx(5.0, rel=1e-9)


def test_the_path_follows_the_gradient_everywhere():
    """Chords over two steps have its direction, to the square of the step."""
    problem = with_loss(PLANE, BANANA, 0.1)
    points = most_probable_path(problem, [-1.0, 0.8], [0.0, 0.0]).climb
    tangents = (points[2:] - points[:-2]) / np.linalg.norm(points[2:] - points[:-2], axis=1, keepdims=True)
    slopes = problem.landscape.gradient(points[1:-1].T).T
    across = tangents[:, 0] * slopes[:, 1] - tangents[:, 1] * slopes[:, 0]
    step = np.linalg.norm(points[1] - points[0])
    # A chord errs by step**2 / 6 times the change of the curvature along the path, below 30 here.
    assert np.abs(across / np.linalg.norm(slopes, axis=1)).max() < 5.0 * step**2


def test_in_one_dimension_there_is_one_way():
    problem = with_loss(box((50,), (-2.0, 0.5)), "(x**2 - 1)**2", 0.1)
    path = most_probable_path(problem, [-1.0], [0.0])
    assert path.climb[:, 0] == pytest.approx(np.linspace(-1.0, 0.0, LEG_POINTS + 1), abs=2e-6)  # ends at 1e-6
    assert path.points[-1, 0] == pytest.approx(0.5, abs=1e-9)  # the wall
    assert path.action == pytest.approx(10.0, rel=1e-9)


def test_a_jump_of_the_noise_on_the_way():
    """D = 0.1 before x = -1/sqrt(3), where the loss is 4/9, and 0.05 behind."""
    noise = TensorNoise(diffusion="where(3*x**2 > 1, 0.1, 0.05)")
    problem = Problem(Landscape("(x**2 - 1)**2", variables=("x",)), noise, box((50,), (-2.0, 2.0)))
    path = most_probable_path(problem, [-1.0], [0.0])
    assert path.action == pytest.approx(4.0 / 9.0 / 0.1 + 5.0 / 9.0 / 0.05, rel=1e-9)


def test_a_path_across_the_seam_of_a_ring():
    ring = Axis("x", 2.0, 2.0 + 2.0 * math.pi, 60, ("periodic", "periodic"))
    problem = with_loss(Grid(x=ring, y=Axis("y", -1.0, 1.0, 20)), "cos(2*x) + y**2", 0.1)
    path = most_probable_path(problem, [1.5 * math.pi, 0.0], [math.pi, 0.0])
    assert np.abs(np.diff(path.points[:, 0])).max() < 0.02  # no jump of 2 pi
    # Towards lower x the next minimum is pi/2, below the seam at 2.
    assert path.points[[0, path.saddle, -1], 0] == pytest.approx(math.pi * np.array([1.5, 1.0, 0.5]), abs=1e-8)
    assert path.loss[[0, path.saddle, -1]] == pytest.approx([-1.0, 1.0, -1.0], abs=1e-12)


# --- least action -----------------------------------------------------------------------------------------------


def test_least_action_finds_steepest_descent():
    """From a straight line, which is far from the curved valley."""
    problem = with_loss(PLANE, BANANA, 0.1)
    found, action = least_action_path(problem, np.linspace([-1.0, 0.8], [0.0, 0.0], LEG_POINTS + 1))
    exact = steepest_descent(problem, [-1.0, 0.8], [0.0, 0.0]).climb
    # The polygon errs by (curvature * step)**2 / 24 of its size, step 0.007 and curvature below 5; the action, being
    # least, by the square of that.
    assert np.abs(found - exact).max() < 5e-5
    assert action == pytest.approx(10.0, rel=1e-7)


def rotating(strength):
    """-grad L plus a current along the level lines of L = (x**2 - 1)**2 + y**2."""
    extra = [f"-({strength})*2*y", f"({strength})*4*x*(x**2 - 1)"]
    landscape = Landscape("(x**2 - 1)**2 + y**2", variables=("x", "y"), extra_drift=extra)
    return Problem(landscape, ConstantNoise(temperature=0.1), PLANE)


def test_a_current_that_keeps_the_density_turns_round_on_the_climb():
    """With f . grad L = 0 the action is still L / T, and the climb is the descent with the current turned round.

    (Freidlin & Wentzell 1998, theorem 4.3.1.)
    """
    path = most_probable_path(rotating(0.5), [-1.0, 0.0], [0.0, 0.0])
    assert path.method == "minimum action"
    assert path.reason is None
    turned = steepest_descent(rotating(-0.5), [-1.0, 0.0], [0.0, 0.0])
    assert np.abs(path.climb - turned.climb).max() < 2e-3  # windings of less than a step around the minimum are cut
    assert path.action == pytest.approx(10.0, rel=1e-5)
    ahead = steepest_descent(rotating(0.5), [-1.0, 0.0], [0.0, 0.0])
    assert np.abs(path.climb - ahead.climb).max() > 0.2
    assert path.points[path.saddle :] == pytest.approx(ahead.points[ahead.saddle :], abs=1e-12)


def maier_stein(alpha):
    return with_drift(PLANE, [f"x - x**3 - {alpha}*x*y**2", "-y*(1 + x**2)"], [[0.5, 0.0], [0.0, 0.5]])


@pytest.mark.parametrize("alpha", [1.0, 3.0])
def test_maier_stein(alpha):
    """Below alpha = 4 the path is the axis, and the action 2 int_0^1 (x - x**3) dx = 1/2 (Maier & Stein 1996)."""
    path = most_probable_path(maier_stein(alpha), [-1.0, 0.0], [0.0, 0.0])
    assert path.action == pytest.approx(0.5, abs=1e-9)
    assert path.points[:, 1] == pytest.approx(0.0, abs=1e-6)
    assert path.loss is None


def test_maier_stein_beyond_its_bifurcation():
    """Above alpha = 4 the axis is stationary, but two paths around it are lower: the guess on the axis is left."""
    path = most_probable_path(maier_stein(10.0), [-1.0, 0.0], [0.0, 0.0])
    assert path.action < 0.35
    assert np.abs(path.points[:, 1]).max() > 0.3
    mirrored = path.climb * [1.0, -1.0]
    assert action_along(maier_stein(10.0), mirrored) == pytest.approx(path.action, rel=1e-12)
    # No path close by is lower.
    shares = np.linspace(0.0, math.pi, LEG_POINTS + 1)
    for waves in (1, 2, 5):
        bent = path.climb + 1e-3 * np.sin(waves * shares)[:, None] * [0.3, 1.0]
        assert action_along(maier_stein(10.0), bent) > path.action


def test_noise_that_scales_with_the_drift_leaves_the_path():
    """With D = f(x) T and drift -f grad V the density is exp(-V/T), and a way is the same at another speed."""
    scale = "(1 + 0.2*x + 0.15*y)"
    landscape = Landscape(RING, variables=("x", "y"))
    slopes = [str(entry.tree) for entry in landscape.gradient.entries]
    drift = [f"-{scale}*({slope})" for slope in slopes]
    noise = TensorNoise(diffusion=[[f"0.1*{scale}", "0"], ["0", f"0.1*{scale}"]])
    problem = Problem(Landscape(drift=drift, variables=("x", "y")), noise, PLANE)
    path = most_probable_path(problem, [-1.0, 0.0], [0.0, 1.0])
    assert path.method == "minimum action"
    # Chords of the step h = 0.008 lie on the circle on average: their ends h**2 / 8 outside, at most twice that.
    assert np.linalg.norm(path.climb, axis=1) == pytest.approx(1.0, abs=2e-5)
    assert path.action == pytest.approx(10.0, rel=1e-7)


def test_anisotropic_noise_in_three_dimensions():
    """A separable loss along turned axes with D diagonal in them: the path is straight, the action L / D_1."""
    q1, q2, q3 = directions(SPACE_AXES)
    loss = f"({q1}**2 - 1)**2 + 1.5*{q2}**2 + 2.5*{q3}**2"
    tensor = SPACE_AXES.T @ np.diag([0.1, 0.3, 0.02]) @ SPACE_AXES
    landscape = Landscape(loss, variables=("x", "y", "z"))
    problem = Problem(landscape, ConstantNoise(diffusion=0.5 * (tensor + tensor.T)), box((9, 9, 9), (-2.0, 2.0)))
    path = most_probable_path(problem, -SPACE_AXES[0], [0.0, 0.0, 0.0])
    assert path.method == "minimum action"
    assert SPACE_AXES[1:] @ path.points.T == pytest.approx(0.0, abs=1e-6)  # when a path counts as settled
    assert path.action == pytest.approx(10.0, rel=1e-9)


def test_the_action_is_the_exponent_of_measured_times():
    """Hessian noise in a curved valley, where D^-1 grad L is no gradient.

    First-passage times extrapolated over four grids: 1548.05 at temperature 0.05, 2.6490e6 at 0.025; with
    ln(tau) = action + constant + slope * temperature their ratio is short by slope * 0.025, a per cent at most.
    """
    problem = curved_valley(60, 0.05)
    u = along(0.4)[0]
    minimum = minimum_near(problem, [-1.0, -0.1])
    saddle = pass_between(problem, minimum.position, problem.region(f"{u} > 0.8")).saddle
    path = most_probable_path(problem, minimum.position, saddle.position)
    assert path.method == "minimum action"
    assert path.action == pytest.approx(math.log(2.6490e6 / 1548.05), rel=0.01)
    assert steepest_descent(problem, minimum.position, saddle.position).action > 1.3 * path.action


# --- reasons ----------------------------------------------------------------------------------------------------


def test_where_the_noise_vanishes_the_descent_is_given_with_the_reason():
    noise = TensorNoise(diffusion=[["x**2 - 1e-4", "0"], ["0", "0.1"]])  # cells are centred at x = +-0.05
    landscape = Landscape("(x**2 - 1)**2 + (y - x)**2", variables=("x", "y"))
    path = most_probable_path(Problem(landscape, noise, PLANE), [-1.0, -1.0], [0.0, 0.0])
    assert path.method == "steepest descent"
    assert path.reason == "it is the way of steepest descent: D is not positive on the way"
    assert path.action is None


@pytest.mark.parametrize(
    ("minimum", "saddle", "reason"),
    [
        ([-1.0, 0.0], [-1.0, 0.3], "the drift has no saddle close to x = -1, y = 0.3"),
        ([0.0, 0.0], [-1.0, 0.0], "the drift has no minimum close to x = 0, y = 0"),
    ],
)
def test_points_that_are_not_what_they_are_said_to_be(minimum, saddle, reason):
    with pytest.raises(StationaryPointError) as error:
        most_probable_path(with_loss(PLANE, "(x**2 - 1)**2 + y**2", 0.1), minimum, saddle)
    assert error.value.found == reason


def test_a_saddle_that_does_not_lead_to_the_minimum():
    loss = "0.1*x**2*(x**2 - 4)**2 + y**2"  # minima at -2, 0 and 2
    with pytest.raises(StationaryPointError) as error:
        most_probable_path(with_loss(box((60, 20), (-3.0, 3.0)), loss, 0.1), [-2.0, 0.0], [2.0 / math.sqrt(3.0), 0.0])
    assert error.value.found.startswith("from the saddle x = 1.1547, y = 0 the drift leads to x = ")
    assert error.value.found.endswith(", not to the minimum")


# --- ways without an end ------------------------------------------------------------------------------------------

LINE_TO_INFINITY = Grid(x=Axis("x", -math.inf, math.inf, 60, scale=1.0))


@pytest.mark.parametrize(("loss", "minimum", "rise"), [("x**3 - x", 3.0**-0.5, 20 * 3.0**-1.5), ("x**9 - 9*x", 1, 80)])
def test_a_drift_to_infinity_ends_in_the_outermost_cell(loss, minimum, rise):
    """In a finite time: x' = 1 - 3 x**2 blows up. The rise over T = 0.2 is (4 / 3**1.5) / 0.2 and 16 / 0.2."""
    path = most_probable_path(with_loss(LINE_TO_INFINITY, loss, 0.2), [minimum], [-minimum])
    # Ends are found to 4 roundings of a time in which the way runs at 1e13 times the speed beside the saddle.
    assert path.points[-1, 0] == pytest.approx(LINE_TO_INFINITY.axes[0].centres[0], rel=1e-4)
    assert path.action == pytest.approx(rise, rel=1e-9)


def test_a_saddle_between_infinity_and_another_minimum():
    """Minima at 2 and 4.5, saddles at 0 and 3: from 0 the ways lead to infinity and to 2."""
    problem = with_drift(LINE_TO_INFINITY, ["-x*(x - 2)*(x - 3)*(x - 4.5)"], [[0.1]])
    with pytest.raises(StationaryPointError) as error:
        most_probable_path(problem, [4.5], [0.0])
    assert error.value.found == "from the saddle x = 0 the drift leads to x = 2 and infinity, not to the minimum"


def test_a_way_round_and_round_is_given_up():
    """Beyond the saddle (0, 0) x goes to 1, where y turns round for ever: y' = 4 - sin y."""
    grid = Grid(x=(-1.5, 1.5, 30), y=Axis("y", 0.0, 2.0 * math.pi, 30, ("periodic", "periodic")))
    problem = with_drift(grid, ["x - x**3", "2*x*(x + 1) - sin(y)"], [[0.1, 0.0], [0.0, 0.1]])
    with pytest.raises(StationaryPointError) as error:
        most_probable_path(problem, [-1.0, 0.0], [0.0, 0.0])
    assert error.value.found == "from the saddle x = 0, y = 0 the drift leads to no point of rest"


def test_a_way_to_where_the_drift_is_not_finite():
    """Between two cell centres, within 0.01 of x = 1, there is none."""
    problem = with_drift(box((40,), (-2.0, 2.0)), ["x*(x + 1)*(1 + sqrt((x - 1)**2 - 1e-4))"], [[0.1]])
    with pytest.raises(StationaryPointError) as error:
        most_probable_path(problem, [-1.0], [0.0])
    assert error.value.found.startswith("from the saddle x = 0 the drift leads to x = ")
    assert error.value.found.endswith(", where it is not finite")


def test_the_action_where_the_drift_is_not_finite():
    problem = with_drift(box((40,), (-2.0, 2.0)), ["1/x"], [[0.1]])  # cells are centred at x = +-0.05
    assert action_along(problem, np.linspace([-1.0], [1.0], 5)) is None
