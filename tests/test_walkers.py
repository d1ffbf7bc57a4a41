"""Walkers: against exact laws of the stochastic equation and of Euler's steps, and against fpsolve's own densities.

Seeds are fixed; every comparison of a sample with an exact value allows three standard errors, the limits of 99.7 %,
and a larger margin only where Euler's steps have an error of their own, which is then said.
"""

import math
from itertools import pairwise

import numpy as np
import pytest
from exact import ornstein_uhlenbeck, passage_moments, quartic_passage
from problems import QUARTIC, box, free, linear, rotated_quartic, turned, with_drift, with_loss
from scipy.special import erfc

from fpsolve.analyse.ensemble import absorbed, exit_times, histogram, l1_distance, moments
from fpsolve.analyse.motion import evolve
from fpsolve.errors import CaseError, RunError
from fpsolve.model.grid import Axis, Grid
from fpsolve.model.initial import Density, Gaussian, Point
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import ConstantNoise, TensorNoise
from fpsolve.model.problem import Problem
from fpsolve.model.schedule import Stage
from fpsolve.solve.ensemble import Walls
from fpsolve.solve.walkers import draw_starts, walk

DRIFT = np.array([[-1.0, 0.8], [-0.5, -2.0]])
TENSOR = turned([1.0, 0.15], 0.6)


def at(point, walkers):
    """All walkers at one point."""
    return np.tile(np.atleast_1d(np.asarray(point, dtype=float)), (walkers, 1))


def agree(found, error, expected, more=0.0):
    """Whether all entries are within three standard errors (and an error of the steps)."""
    assert (np.abs(found - expected) < 3.0 * error + more).all(), (found, error, expected)


def exits(problem, point, time_step, walkers, *, until=60.0, seed=5, **options):
    """The exit times of walkers from a point."""
    return exit_times(walk(problem, at(point, walkers), [until], time_step=time_step, seed=seed, **options))


def euler(drift, diffusion, mean, time_step, steps):
    """Mean and covariance of Euler's chain after some steps from a point: m -> M m, c -> M c M^T + 2 D h."""
    matrix, covariance = np.eye(len(drift)) + time_step * drift, np.zeros_like(drift)
    for _ in range(steps):
        mean, covariance = matrix @ mean, matrix @ covariance @ matrix.T + 2.0 * diffusion * time_step
    return mean, covariance


# The law of the steps


@pytest.mark.parametrize("infinite", [False, True])
def test_moments_of_a_linear_drift_with_a_full_tensor(infinite):
    """On an infinite axis nodes are uneven. Linear fields are interpolated exactly, so Euler's chain is met."""
    ends = (-np.inf, np.inf) if infinite else (-12.0, 12.0)
    axes = {name: Axis(name, *ends, 60, scale=1.0 if infinite else None) for name in "xy"}
    problem = with_drift(Grid(**axes), linear(DRIFT), TENSOR)
    swarm = walk(problem, at([2.0, -1.0], 40_000), [0.0, 0.5, 2.0], time_step=0.05, seed=1)
    found = moments(swarm)
    assert swarm.interpolation_error < 1e-12  # rounding
    assert (swarm.positions[0] == [2.0, -1.0]).all()
    for row, steps in ((1, 10), (2, 40)):
        mean, covariance = euler(DRIFT, TENSOR, np.array([2.0, -1.0]), 0.05, steps)
        agree(found.mean[row], found.mean_error[row], mean)
        agree(found.covariance[row], found.covariance_error[row], covariance)
    exact = ornstein_uhlenbeck(DRIFT, TENSOR, [2.0, -1.0], np.zeros((2, 2)), 2.0)
    # Euler's stationary variance is too large by the share h |eigenvalue| / 2 <= 5 %.
    agree(found.covariance[2], found.covariance_error[2], exact[1], 0.05 * np.abs(exact[1]).max())


def test_moments_in_space():
    """The whole of a Cholesky factor."""
    drift = np.array([[-1.0, 0.5, 0.0], [0.0, -2.0, 0.3], [-0.4, 0.0, -0.7]])
    tensor = np.array([[0.5, 0.3, -0.2], [0.3, 0.4, 0.1], [-0.2, 0.1, 0.6]])
    problem = with_drift(box((8, 8, 8), (-9.0, 9.0)), linear(drift), tensor)
    found = moments(walk(problem, at([1.0, 0.0, -1.0], 30_000), [1.0], time_step=0.1, seed=1))
    mean, covariance = euler(drift, tensor, np.array([1.0, 0.0, -1.0]), 0.1, 10)
    agree(found.mean[0], found.mean_error[0], mean)
    agree(found.covariance[0], found.covariance_error[0], covariance)


def test_a_drift_that_has_no_value_on_a_wall():
    """Drift 1/x, D = 1 on (0, 6): the radius of free diffusion in the plane, E x**2 = 1 + 4 t."""
    problem = with_drift(box((300,), (0.0, 6.0)), ["1/x"], [[1.0]])
    squares = walk(problem, at(1.0, 20_000), [0.25], time_step=1e-3, seed=2).positions[0, :, 0] ** 2
    agree(squares.mean(), squares.std() / math.sqrt(20_000), 2.0, 0.01)  # of the steps beside the wall


@pytest.mark.slow
def test_the_variance_is_of_first_order_in_the_time_step():
    """At rest Euler's variance is T / (1 - h/2), so T / variance is off by h/2. 300 nearly independent times."""
    errors = []
    for time_step in (0.2, 0.1):
        times = 6.0 + 1.6 * np.arange(300)
        problem = with_loss(box((40,), (-8.0, 8.0)), "x**2/2", 1.0)
        swarm = walk(problem, at(0.0, 6_000), times, time_step=time_step, seed=2)
        errors.append(1.0 - 1.0 / np.mean(swarm.positions**2))
    assert errors == pytest.approx([0.1, 0.05], abs=0.0035)  # 3 sqrt(2 / 1.6e6), 1.6e6 being independent
    assert abs(math.log2(errors[0] / errors[1]) - 1.0) < 0.1


@pytest.mark.parametrize("tail_index", [2.0, 1.5, 1.0, 0.6])
def test_stable_steps_have_the_characteristic_function(tail_index):
    """exp(-t sum |(D**(1/alpha) k)_j|**alpha) for a free walker at any step: sums of stable numbers are stable."""
    wide = {name: Axis(name, -np.inf, np.inf, 10, scale=1.0) for name in "xy"}
    swarm = walk(
        free(Grid(**wide), TENSOR), at([0.0, 0.0], 40_000), [0.6], time_step=0.15, seed=4, tail_index=tail_index
    )
    values, vectors = np.linalg.eigh(TENSOR)
    root = vectors @ np.diag(values ** (1.0 / tail_index)) @ vectors.T
    for wave in ([1.0, 0.0], [0.4, -0.8], [1.0, 1.5]):
        found = np.cos(swarm.positions[0] @ wave)
        expected = math.exp(-0.6 * (np.abs(root @ wave) ** tail_index).sum())
        agree(found.mean(), found.std() / math.sqrt(40_000), expected)


def test_the_tail_index_two_is_normal_noise():
    """The same stream, the same root of a diagonal D: the same numbers."""
    problem, starts = with_loss(box((50, 50), (-3.0, 3.0)), "x**2 + y**2", 0.3), at([0.5, 0.0], 100)
    swarms = [walk(problem, starts, [1.0], time_step=0.1, seed=1, tail_index=index) for index in (None, 2.0)]
    assert np.array_equal(swarms[0].positions, swarms[1].positions)


@pytest.mark.parametrize("convention", ["ito", "isothermal", "stratonovich"])
def test_the_density_at_rest_where_the_noise_changes(convention):
    """Without drift p ~ D**-1, 1, D**-1/2 (Ito, isothermal, Stratonovich), on a ring; beside it what chance makes."""
    grid = Grid(x=Axis("x", -np.pi, np.pi, 120, ("periodic", "periodic")))
    noise = TensorNoise(diffusion=[["0.5 + 0.4*sin(x)"]], convention=convention)
    problem = Problem(Landscape(drift=["0"], variables=("x",)), noise, grid)
    power = {"ito": -1.0, "isothermal": 0.0, "stratonovich": -0.5}[convention]
    rest = (0.5 + 0.4 * np.sin(grid.positions()[0])) ** power
    rest /= rest.sum()
    starts = draw_starts(problem, rest, 20_000, seed=3)
    swarm = walk(problem, starts, [4.0], time_step=0.01, seed=3)
    distance = l1_distance(histogram(swarm, grid)[0], rest, swarm.walkers, grid, fewest=400)
    assert abs(distance.excess) < 3.0
    wrong = l1_distance(histogram(swarm, grid)[0], np.roll(rest, 15) if power else np.ones(120) / 60, 20_000, grid)
    assert wrong.excess > 10.0 or power == 0.0  # another density is told apart


# Walls


def test_reflecting_walls_let_nothing_through_a_full_tensor():
    """A tensor at 45 degrees in a box: moments against the density. Mirrors along the axes would be wrong."""
    problem = free(box((60, 60), (0.0, 1.0)), turned([1.0, 0.05], np.pi / 4))
    start, times = (0.25, 0.6), [0.05, 0.2]
    motion = evolve(problem, Point(start), times=times)
    swarm = walk(problem, at(start, 20_000), times, time_step=1e-3, seed=2)
    found = moments(swarm)
    assert swarm.inside.all()
    assert ((swarm.positions >= 0.0) & (swarm.positions <= 1.0)).all()
    # The density's own error on 60 x 60 cells, and the steps', is below 0.002 in the mean and 0.001 in the covariance.
    agree(found.mean, found.mean_error, motion.mean[1:], 0.002)
    agree(found.covariance, found.covariance_error, motion.covariance[1:], 0.001)


def test_periodic_walls_join_the_ends():
    """A drift round a ring: the mean of exp(i x) turns by the drift and decays by D."""
    grid = Grid(x=Axis("x", -np.pi, np.pi, 16, ("periodic", "periodic")))
    swarm = walk(with_drift(grid, ["3"], [[0.2]]), at(1.0, 20_000), [2.0], time_step=0.1, seed=8)
    found, exact = np.exp(1j * swarm.positions[0, :, 0]), np.exp(1j * 7.0 - 0.4)
    assert swarm.inside.all()
    assert abs(found.mean() - exact) < 3.0 * math.sqrt((1.0 - abs(exact) ** 2) / 20_000)


def test_jumps_longer_than_the_box_are_folded():
    problem = free(box((10,), (-1.0, 1.0)), [[1.0]])
    swarm = walk(problem, at(0.0, 2_000), [1.0, 50.0], time_step=0.5, seed=1, tail_index=0.5)
    assert (np.abs(swarm.positions) <= 1.0).all()
    last = swarm.positions[1, :, 0]
    agree(np.mean(last**2), np.std(last**2) / math.sqrt(2_000), 1.0 / 3.0)  # uniform in the end


# Exits

LINE = box((100,), (-1.0, 1.0), "absorbing")


@pytest.mark.parametrize("time_step", [0.1, 0.01])
def test_exit_from_an_interval_is_exact_at_any_step(time_step):
    """Constant drift m and D = 1: the bridge and the time on it are exact but for both walls in one step, exp(-4/h).

    m = 0: (1 - x**2)/2; m = 2: (2 P - x - 1)/m, P = (1 - exp(-m (x + 1)))/(1 - exp(-2 m)) the share that leaves above.
    """
    for drift, start in ((0.0, 0.3), (2.0, -0.2)):
        found = exits(with_drift(LINE, [f"{drift}"], [[1.0]]), start, time_step, 20_000)
        above = -math.expm1(-drift * (start + 1.0)) / -math.expm1(-2.0 * drift) if drift else 0.5 * (1.0 + start)
        mean = (2.0 * above - start - 1.0) / drift if drift else 0.5 * (1.0 - start**2)
        agree(found.value, found.standard_error, mean)
        agree(found.splitting["x_max"].value, found.splitting["x_max"].standard_error, above)


@pytest.mark.parametrize("drift", [0.0, 0.7, -1.5])
def test_a_single_step_has_the_whole_law_of_the_exit_time(drift):
    """From 0.5 to the end of a half line, D = 1, all within one step: P(t) of the inverse Gaussian law, at any t.

    P = N((-x - m t)/s) + exp(-m x) N((-x + m t)/s), s**2 = 2 t, N the normal distribution (Cox & Miller 1965, 5.7).
    """
    grid = Grid(x=Axis("x", 0.0, np.inf, 20, ("absorbing", "reflecting"), scale=1.0))
    swarm = walk(with_drift(grid, [f"{drift}"], [[1.0]]), at(0.5, 40_000), [1.0], time_step=1.0, seed=1)
    times = np.array([0.02, 0.05, 0.1, 0.3, 0.6, 0.95])
    scale = 2.0 * np.sqrt(times)
    exact = 0.5 * erfc((0.5 + drift * times) / scale) + 0.5 * np.exp(-0.5 * drift) * erfc((0.5 - drift * times) / scale)
    found = (swarm.exit_times[:, None] <= times).mean(axis=0)
    agree(found, np.sqrt(exact * (1.0 - exact) / 40_000), exact)


@pytest.mark.slow
def test_exit_times_are_of_first_order_with_the_bridge():
    """Drift -3 x, D = 1 + x**2 on (-1, 1), from 0: both change along a step; psi = -3/2 ln(1 + x**2), mean 2/3."""
    exact = passage_moments(lambda x: -1.5 * np.log1p(x**2), lambda x: 1.0 + x**2, 0.0, 1e-9, 1.0)[0]
    assert exact == pytest.approx(2.0 / 3.0, rel=1e-12)
    landscape = Landscape(drift=["-3*x"], variables=("x",))
    problem = Problem(landscape, TensorNoise(diffusion=[["1 + x**2"]]), LINE)
    errors = [exact - exits(problem, 0.0, step, 300_000).value for step in (0.1, 0.025)]
    assert errors[1] < 0.03
    assert abs(math.log(errors[0] / errors[1], 4.0) - 1.0) < 0.1  # the sample's own uncertainty is 0.033


@pytest.mark.slow
def test_exit_times_are_of_order_one_half_without_the_bridge():
    errors = [exits(free(LINE, [[1.0]]), 0.0, step, 60_000, bridge=False).value - 0.5 for step in (0.01, 0.0025)]
    assert errors[1] > 0.03  # where with the bridge there is none
    assert abs(math.log(errors[0] / errors[1], 4.0) - 0.5) < 0.1


def test_exit_from_an_ellipse_with_a_full_tensor():
    """(1 - x.A x) / (2 tr(A D)) for the ellipse x.A x < 1 and no drift: a curved surface, from a region's level."""
    shape = turned([1.0, 2.5], -0.3)
    a, b, c = shape[[0, 0, 1], [0, 1, 1]].tolist()
    region = f"{a!r}*x**2 + {2 * b!r}*x*y + {c!r}*y**2 > 1"
    problem, start = free(box((60, 60), (-1.3, 1.3)), TENSOR), np.array([0.2, -0.1])
    exact = (1.0 - start @ shape @ start) / (2.0 * np.trace(shape @ TENSOR))
    found = exits(problem, start, 0.0025, 20_000, absorb=[region])
    # The bridge takes the surface for a plane: of first order, 2.0 % at 0.005 and 0.3 % at 0.00125.
    agree(found.value, found.standard_error, exact, 0.01 * exact)
    assert list(found.splitting) == [region]


@pytest.mark.parametrize("condition", ["x > 0.8", "x**3 > 0.512"])
def test_exit_from_a_double_well(condition):
    """Against the exact integral, at a barrier of three times the noise; the same surface by a bent level."""
    problem = with_loss(box((150,), (-2.4, 1.6)), QUARTIC, 1.0 / 3.0)
    found = exits(problem, -1.0, 0.004, 2_000, absorb=[condition], until=500.0)
    exact = quartic_passage(1.0 / 3.0, 0.8)[0]
    agree(
        found.value, found.standard_error, exact, 0.02 * exact
    )  # Euler's own error, 8 h/2 of the temperature in the well


def test_gates_are_those_of_a_density():
    """Through an absorbing wall and two regions, in time."""
    grid = box((60, 60), (-1.0, 1.0), ["reflecting", ("absorbing", "reflecting")])
    problem, start = with_drift(grid, ["0.5", "-0.4*x"], TENSOR), (-0.1, 0.1)
    regions, times = ["x > 0.6", "x**2 + (y - 0.9)**2 < 0.09"], [0.1, 0.3, 0.8]
    motion = evolve(problem, Point(start), times=times, absorb=regions)
    swarm = walk(problem, at(start, 20_000), times, time_step=0.002, seed=6, absorb=regions)
    assert tuple(motion.absorbed) == swarm.gates
    for gate, share in absorbed(swarm).items():
        expected = motion.absorbed[gate][1:]
        # The density's error on 60 x 60 cells is below 0.004.
        agree(share, np.sqrt(expected * (1.0 - expected) / 20_000), expected, 0.004)
    assert np.isnan(swarm.positions[~swarm.inside]).all()
    assert np.isfinite(swarm.positions[swarm.inside]).all()
    distance = l1_distance(histogram(swarm, grid)[1], motion.probability[2], 20_000, grid, fewest=200)
    assert abs(distance.excess) < 4.0  # three, and one for the density's own error


def test_who_starts_in_a_region_leaves_at_once():
    problem = free(box((20,), (-1.0, 1.0)), [[1.0]])
    swarm = walk(problem, [[0.9], [-0.5]], [1.0, 1.001], time_step=1e-3, seed=0, absorb=["x > 0.8"], begin=1.0)
    assert swarm.exit_times[0] == 1.0
    assert np.isnan(swarm.positions[:, 0]).all()
    assert swarm.positions[0, 1] == -0.5
    assert swarm.inside[:, 1].all()


# In time


def test_stages_of_temperature():
    """Jumps are met exactly, though they fall between two saved times: the chain's variance, stage by stage."""
    stages = [Stage(1.0, time=1.0), Stage(0.2, time=0.5), Stage(2.0, time=9.0)]
    problem = Problem(Landscape("x**2/2", variables=("x",)), ConstantNoise(temperature=stages), box((40,), (-9.0, 9.0)))
    found = moments(walk(problem, at(1.0, 20_000), [1.2, 3.0], time_step=0.1, seed=1))
    # Steps between stops: 10 to 1.0, 2 to 1.2, 3 to 1.5, 15 to 3.0.
    variances, variance = [], 0.0
    for temperature, steps in ((1.0, 10), (0.2, 2), (0.2, 3), (2.0, 15)):
        for _ in range(steps):
            variance = 0.81 * variance + 0.2 * temperature
        variances.append(variance)
    agree(found.covariance[:, 0, 0], found.covariance_error[:, 0, 0], [variances[1], variances[3]])


def test_a_force_that_changes_smoothly():
    """Drift cos(3 t) - x: the mean is known; of slices of 1/200 the error is 1e-5, of Euler's steps below 0.002."""
    problem = with_drift(box((40,), (-6.0, 6.0)), ["cos(3*t) - x"], [[0.05]])
    times = np.array([0.4, 1.1, 2.0])
    found = moments(walk(problem, at(0.0, 4_000), times, time_step=0.005, seed=1))
    exact = (np.cos(3 * times) + 3 * np.sin(3 * times) - np.exp(-times)) / 10.0
    agree(found.mean[:, 0], found.mean_error[:, 0], exact, 0.004)


# How it is run


def test_threads_and_seeds():
    problem = rotated_quartic(40, 0.3)
    starts = draw_starts(problem, Gaussian([-0.9, -0.4], width=0.2), 300, seed=1)

    def run(threads, seed=1):
        return walk(problem, starts, [0.2, 0.5], time_step=0.01, seed=seed, threads=threads, absorb=["x > 0.5"])

    first, second, other = run(1), run(2), run(1, seed=2)
    assert np.array_equal(first.positions, second.positions, equal_nan=True)
    assert np.array_equal(first.exit_times, second.exit_times)
    assert np.array_equal(first.exit_gates, second.exit_gates)
    assert not np.array_equal(first.positions, other.positions, equal_nan=True)


def test_progress_is_told():
    shares = []
    walk(free(LINE, [[1e-3]]), at(0.0, 64), [1.0, 2.0], time_step=1e-3, seed=0, progress=shares.append)
    assert shares[-1] == 1.0
    assert all(later >= earlier for earlier, later in pairwise(shares))


def test_the_interpolation_error_falls_with_the_square_of_the_nodes():
    """In the plane the lattice has one node per cell here, and the walkers of one seed go nearly the same ways."""
    errors = []
    for cells in (240, 480):
        problem = with_loss(box((cells, cells), (-2.0, 2.0)), f"{QUARTIC} + y**4", 0.2)
        swarm = walk(problem, at([-1.0, 0.5], 640), [0.5], time_step=0.01, seed=0)
        errors.append(swarm.interpolation_error)
    assert errors[0] < 1e-3
    assert abs(math.log2(errors[0] / errors[1]) - 2.0) < 0.1


def test_starts_follow_the_density():
    grid = Grid(x=Axis("x", 0.0, 4.0, 80, scale=0.5, centre=0.0), y=(-1.0, 1.0, 10))
    problem = free(grid, np.eye(2))
    assert (draw_starts(problem, Point([0.7, 0.2]), 5, seed=0) == [0.7, 0.2]).all()
    normal = draw_starts(problem, Gaussian([2.0, 0.0], width=0.2), 20_000, seed=0)
    agree(normal.mean(axis=0), normal.std(axis=0) / math.sqrt(20_000), [2.0, 0.0])
    walls = Walls.of(grid)
    assert ((normal >= walls.lower) & (normal <= walls.upper)).all()
    placed = draw_starts(problem, Density("exp(-x)"), 20_000, seed=0)
    exact = 1.0 - 4.0 * math.exp(-4.0) / -math.expm1(-4.0)
    # Within cells the density is even, of 80 cells at most 0.1 wide: an error of 0.1**2 / 12 of the slope.
    agree(placed[:, 0].mean(), placed[:, 0].std() / math.sqrt(20_000), exact, 0.001)


def test_an_unknown_stratonovich_drift_is_refused():
    noise = TensorNoise(diffusion=[["1", "0.5*sin(x)"], ["0.5*sin(x)", "1"]], convention="stratonovich")
    problem = Problem(Landscape(drift=["0", "0"], variables=("x", "y")), noise, box((8, 8)))
    with pytest.raises(CaseError, match=r"noise\.convention"):
        walk(problem, [[0.0, 0.0]], [1.0], time_step=0.1, seed=0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"tail_index": 2.5}, CaseError, "ensemble.tail_index: it is 2.5"),
        ({"time_step": -1.0}, CaseError, "ensemble.time_step: it is -1"),
        ({"times": [2.0, 1.0]}, CaseError, "ensemble.times: the times do not increase"),
        ({"seed": -3}, CaseError, "ensemble.seed: it is -3"),
        ({"starts": [[5.0]]}, CaseError, "a walker starts at x = 5"),
        ({"absorb": ["x >"]}, CaseError, "ensemble.absorb"),
        ({"absorb": ["1/(x - 0.25) > 9"]}, CaseError, r"ensemble.absorb .* not finite at x = 0.25"),
        ({"time_step": 2.5, "times": [100.0]}, RunError, "a walker went beyond all bounds"),
    ],
)
def test_what_is_refused(options, error, message):
    grid = Grid(x=Axis("x", -np.inf, np.inf, 40, scale=1.0)) if error is RunError else box((40,), (-2.0, 2.0))
    given = {"starts": at(0.0, 10), "times": [1.0], "time_step": 0.1, "seed": 0, **options}
    with pytest.raises(error, match=message):
        walk(with_loss(grid, "x**2/2", 1.0), given.pop("starts"), given.pop("times"), **given)
