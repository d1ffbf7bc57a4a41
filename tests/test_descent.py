"""SGD on data: laws of the discrete chain that are known exactly, batches, schedules, exits and walls.

Statistical bounds are in standard errors of independent walkers, each averaged over its own time; 3 of them unless a
test says otherwise, the seeds being fixed.
"""

import itertools
import math

import numpy as np
import pytest

from fpsolve.analyse.moments import mean_and_covariance
from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError, RunError
from fpsolve.model.fields import FunctionField
from fpsolve.model.grid import Axis, Grid
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import ConstantNoise, MinibatchNoise
from fpsolve.model.problem import Problem
from fpsolve.model.region import Region
from fpsolve.model.schedule import Stage
from fpsolve.solve import descent
from fpsolve.solve.descent import descend
from fpsolve.solve.stationary import stationary

LINE = np.array([[1.0], [0.5], [-1.5], [2.0], [0.8]]), np.array([1.0, -0.25, -1.0, 1.5, 1.4])
PLANE = (
    np.array([[1.0, 0.3], [0.5, -1.2], [-0.8, 0.6], [1.4, 0.9], [0.2, -0.5], [-1.1, -0.4]]),
    np.array([0.7, -0.9, 0.4, 1.6, -0.3, -0.2]),
)
NAMES = ("x", "y")


def open_grid(axes, scale=0.3, centre=0.8, cells=200):
    """A grid without ends."""
    return Grid(**{name: Axis(name, -math.inf, math.inf, cells, scale=scale, centre=centre) for name in NAMES[:axes]})


def regression(data, mobility=None):
    """Linear least squares, a row's loss being 0.5*(a.x - b)**2."""
    inputs, outputs = data
    names = NAMES[: inputs.shape[1]]
    columns = {f"a{name}": column for name, column in zip(names, inputs.T, strict=True)} | {"b": outputs}
    model = " + ".join(f"a{name}*{name}" for name in names)
    return Landscape(per_example_loss=f"0.5*({model} - b)**2", data=columns, variables=names, mobility=mobility)


def parts(data):
    """The minimum, the Hessian of every row, (rows, axes, axes), and the gradient of every row at the minimum."""
    inputs, outputs = data
    best = np.linalg.lstsq(inputs, outputs, rcond=None)[0]
    return best, np.einsum("ni,nj->nij", inputs, inputs), inputs * (inputs @ best - outputs)[:, None]


def variance_share(rows, size, sampling):
    """The variance of the mean of a batch over that of a row."""
    return 1.0 / size if sampling == "replacement" else (rows - size) / (size * (rows - 1.0))


def exact_covariance(data, rate, size, sampling="replacement", momentum=0.0):
    """The stationary covariance of (v, x), from its own equation: a linear chain with noise linear in x.

    V = M V M^T + share B (mean of A_n V_xx A_n^T + R) B^T, A_n the Hessian of a row less its mean, R the covariance of
    the rows' gradients at the minimum. Without momentum v is -gradient.
    """
    _, hessians, residues = parts(data)
    rows, axes = residues.shape
    unit, hessian = np.eye(axes), hessians.mean(axis=0)
    chain = np.block([[momentum * unit, -hessian], [rate * momentum * unit, unit - rate * hessian]])
    inlet = np.vstack([-unit, -rate * unit]) * math.sqrt(variance_share(rows, size, sampling))
    select = np.hstack([np.zeros((axes, axes)), unit])
    jumps = [inlet @ (each - hessian) @ select for each in hessians]
    maps = np.kron(chain, chain) + sum(np.kron(jump, jump) for jump in jumps) / rows
    source = inlet @ (residues.T @ residues / rows) @ inlet.T
    return np.linalg.solve(np.eye(maps.shape[0]) - maps, source.ravel()).reshape(2 * axes, 2 * axes)


def assert_within(found, wanted, errors=3.0):
    """Means over the walkers, (walkers, ...), within so many standard errors of what is wanted."""
    size = found.std(axis=0, ddof=1) / math.sqrt(len(found))
    score = (found.mean(axis=0) - wanted) / size
    assert np.abs(score).max() < errors, f"{score} standard errors off"


def products(deviations):
    """Products of deviations (times, walkers, axes), averaged over the times: (walkers, axes, axes)."""
    return np.einsum("twi,twj->wij", deviations, deviations) / len(deviations)


def at_rest(data, noise, *, walkers=400, saves=200, apart=10, wait=300, **options):
    """Runs at rest, saved so many steps apart."""
    landscape = regression(data)
    axes, rate = len(landscape.variables), noise.learning_rate
    starts = np.tile(parts(data)[0], (walkers, 1))
    times = rate * (wait + apart * np.arange(saves))
    return descend((landscape, noise, open_grid(axes)), starts, times, seed=3, **options)


@pytest.mark.parametrize(
    ("rate", "size", "sampling", "variance"),
    [
        (1 / 10, 1, "replacement", 0.00457238690581349),
        (1 / 5, 2, "without", 0.00371913186674996),
        (2 / 5, 4, "without", 0.00149189967377139),
    ],
)
def test_variance_at_rest_on_a_line(rate, size, sampling, variance):
    best = parts(LINE)[0]
    assert best == pytest.approx(0.797911547911548, rel=1e-14)  # rounding
    wanted = exact_covariance(LINE, rate, size, sampling)[1, 1]
    assert wanted == pytest.approx(variance, rel=1e-12)  # rounding; from a c0 / (2h - a h**2 - a c2) share
    found = at_rest(LINE, MinibatchNoise(learning_rate=rate, batch_size=size, sampling=sampling))
    deviations = found.swarm.positions - best
    assert_within(deviations.mean(axis=0), 0.0)
    assert_within(products(deviations)[:, 0, 0], wanted)


@pytest.mark.parametrize(
    ("rate", "size", "covariance"),
    [
        (0.1, 1, (0.00542538239701053, 0.0025399150112434, 0.00193075104129485)),
        (0.3, 2, (0.00932999965262843, 0.00438382307914941, 0.00332639690509734)),
        (0.02, 3, (0.00033205375875495, 0.000153476574543046, 0.000114115085855456)),
    ],
)
def test_covariance_at_rest_in_a_plane(rate, size, covariance):
    wanted = exact_covariance(PLANE, rate, size)[2:, 2:]
    np.testing.assert_allclose(wanted[np.triu_indices(2)], covariance, rtol=1e-12)  # rounding
    # The slowest direction, of curvature 0.5, forgets a start in 1 / (0.5 rate) steps.
    found = at_rest(
        PLANE, MinibatchNoise(learning_rate=rate, batch_size=size), wait=int(20 / rate), apart=int(2 / rate)
    )
    deviations = found.swarm.positions - parts(PLANE)[0]
    assert_within(products(deviations)[:, *np.triu_indices(2)], wanted[np.triu_indices(2)])


@pytest.mark.parametrize("data", [LINE, PLANE], ids=["line", "plane"])
def test_covariance_at_rest_with_momentum(data):
    rate, momentum = 0.1, 0.6
    wanted = exact_covariance(data, rate, 1, momentum=momentum)
    found = at_rest(data, MinibatchNoise(learning_rate=rate, batch_size=1), momentum=momentum, apart=15)
    both = np.concatenate([found.velocities, found.swarm.positions - parts(data)[0]], axis=2)
    upper = np.triu_indices(len(wanted))
    assert_within(products(both)[:, *upper], wanted[upper], 3.5)  # of up to ten entries


def test_injected_noise_and_mobility():
    rate, mobility, injected = 0.1, 0.7, 0.05
    _, hessians, residues = parts(LINE)
    step, hessian = rate * mobility, hessians.mean()
    # V = (1 - step h)**2 V + step**2 (C0 + C2 V + injected)
    wanted = step * (residues.var() + injected) / (hessian * (2.0 - step * hessian) - step * hessians.var())
    noise = MinibatchNoise(learning_rate=rate, batch_size=1, injected=injected)
    times = rate * (200 + 10 * np.arange(200))
    starts = np.full((400, 1), parts(LINE)[0][0])
    found = descend((regression(LINE, mobility), noise, open_grid(1)), starts, times, seed=5)
    assert_within(products(found.swarm.positions - starts)[:, 0, 0], wanted)


LOGISTIC = (
    np.array([[1.0, 0.2], [0.6, -0.8], [-0.9, 0.5], [0.3, 0.9], [-0.5, -0.7]]),
    np.array([1.0, 1.0, -1.0, -1.0, 1.0]),
)
RIDGE = 0.5


def logistic_moments(axes, rate, nodes):
    """Mean and covariance at rest of SGD, S = 1, on the logistic loss, by the operator of the chain.

    One step maps x to as many points as there are rows, so that f(x) goes over to the mean of f there; polynomials
    through Chebyshev nodes stand for f. All steps stay in [-2, 2]: |gradient of a row - RIDGE x| is at most 1.
    """
    inputs, labels = LOGISTIC[0][:, :axes], LOGISTIC[1]
    places = 2.0 * np.cos(math.pi * (np.arange(nodes) + 0.5) / nodes)
    weights = (-1.0) ** np.arange(nodes) * np.sin(math.pi * (np.arange(nodes) + 0.5) / nodes)
    points = np.array(list(itertools.product(places, repeat=axes)))
    operator = np.zeros((len(points), len(points)))
    for row, label in zip(inputs, labels, strict=True):
        slope = -label / (1.0 + np.exp(label * (points @ row)))
        moved = points - rate * (slope[:, None] * row + RIDGE * points)
        assert np.abs(moved).max() < 2.0
        basis = np.ones((len(points), 1))
        for axis in range(axes):
            gaps = moved[:, axis, None] - places
            ratios = weights / gaps  # barycentric interpolation; no point meets a node
            along = ratios / ratios.sum(axis=1, keepdims=True)
            basis = (basis[:, :, None] * along[:, None, :]).reshape(len(points), -1)
        operator += basis / len(labels)
    system = np.vstack([operator.T - np.eye(len(points)), np.ones(len(points))])
    law = np.linalg.lstsq(system, np.append(np.zeros(len(points)), 1.0), rcond=None)[0]
    mean = law @ points
    return mean, (law[:, None] * (points - mean)).T @ (points - mean)


@pytest.mark.parametrize(("axes", "nodes"), [(1, 40), (2, 20)])
def test_logistic_regression_at_rest(axes, nodes):
    rate = 0.5
    mean, covariance = logistic_moments(axes, rate, nodes)
    for coarse, fine in zip(logistic_moments(axes, rate, nodes - 4), (mean, covariance), strict=True):
        np.testing.assert_allclose(coarse, fine, rtol=0, atol=1e-8)  # of the polynomials
    columns = {f"a{name}": column for name, column in zip(NAMES, LOGISTIC[0].T, strict=True)} | {"b": LOGISTIC[1]}
    names = NAMES[:axes]
    model, square = (" + ".join(part) for part in zip(*((f"a{n}*{n}", f"{n}**2") for n in names), strict=True))
    loss = f"log(1 + exp(-b*({model}))) + {RIDGE / 2}*({square})"
    landscape = Landscape(per_example_loss=loss, data=columns, variables=names)
    noise = MinibatchNoise(learning_rate=rate, batch_size=1)
    times = rate * (100 + 10 * np.arange(200))
    found = descend((landscape, noise, open_grid(axes)), np.zeros((1000, axes)), times, seed=11).swarm.positions
    assert_within(found.mean(axis=0), mean)
    assert_within(products(found - mean)[:, *np.triu_indices(axes)], covariance[np.triu_indices(axes)])


def equation_covariance(data, rate):
    """The stationary covariance of the Fokker-Planck equation for S = 1, from its own equation.

    H V + V H = rate (mean of A_n V A_n^T + R), as in `exact_covariance`.
    """
    _, hessians, residues = parts(data)
    unit, hessian = np.eye(residues.shape[1]), hessians.mean(axis=0)
    jumps = [each - hessian for each in hessians]
    maps = np.kron(hessian, unit) + np.kron(unit, hessian)
    maps -= rate * sum(np.kron(jump, jump) for jump in jumps) / len(residues)
    return np.linalg.solve(maps, rate * (residues.T @ residues).ravel() / len(residues)).reshape(hessian.shape)


def solved_covariance(data, rate, grid):
    """The same from a density on a grid."""
    problem = Problem(regression(data), MinibatchNoise(learning_rate=rate, batch_size=1), grid)
    return mean_and_covariance(grid, stationary(Generator.of(problem)).probability)[1]


@pytest.mark.parametrize("data", [LINE, PLANE], ids=["line", "plane"])
def test_the_equation_is_of_first_order_in_the_learning_rate(data):
    rates, axes = np.array([0.01, 0.02, 0.04]), data[0].shape[1]
    pairs = [(exact_covariance(data, rate, 1)[axes:, axes:], equation_covariance(data, rate)) for rate in rates]
    excess = [np.trace(exact - equation) / np.trace(equation) for exact, equation in pairs]
    slope = np.polyfit(np.log(rates), np.log(excess), 1)[0]
    assert abs(slope - 1.0) < 0.1


@pytest.mark.parametrize(
    ("rate", "variance"), [(0.01, 3.96207336744066e-4), (0.05, 0.0020275452457004), (0.1, 0.00417768938586788)]
)
def test_the_density_has_the_variance_of_the_equation(rate, variance):
    assert equation_covariance(LINE, rate)[0, 0] == pytest.approx(variance, rel=1e-12)  # rounding
    found = solved_covariance(LINE, rate, open_grid(1))
    assert found[0, 0] == pytest.approx(variance, rel=1e-8)  # discretisation; 2e-9 observed


def test_the_density_has_the_covariance_of_the_equation():
    rate, errors = 0.1, []
    wanted = equation_covariance(PLANE, rate)
    for cells in (90, 135):
        grid = Grid(**{name: (c - 0.8, c + 0.8, cells) for name, c in zip(NAMES, parts(PLANE)[0], strict=True)})
        errors.append(np.abs(solved_covariance(PLANE, rate, grid) - wanted).max() / np.trace(wanted))
    assert errors[1] < 1e-3  # discretisation
    assert abs(math.log(errors[0] / errors[1]) / math.log(1.5) - 2.0) < 0.1


def scalar_moments(rates, sizes, injected, start):
    """Mean and variance of SGD on the line, step by step, from a start."""
    best, hessians, residues = parts(LINE)
    h, r = hessians.ravel(), residues.ravel()
    mean, square = start - best[0], (start - best[0]) ** 2
    for rate, size, extra in zip(rates, sizes, injected, strict=True):
        spread = (h.var() * square + 2.0 * np.mean(h * r) * mean + r.var()) / size + extra
        mean, square = (1.0 - rate * h.mean()) * mean, (1.0 - rate * h.mean()) ** 2 * square + rate**2 * spread
    return mean + best[0], square - mean**2


def test_rates_that_fall_with_the_steps():
    count = 60
    rates = 1.5 / (np.arange(count) + 5.0)
    noise = MinibatchNoise(learning_rate="1.5/(k + 5)", batch_size=1)
    assert_schedule(noise, rates, np.ones(count), np.zeros(count))


def test_rates_that_fall_with_the_time_and_batches_in_stages():
    rates = [0.3]
    while len(rates) < 50:
        rates.append(0.3 / (1.0 + sum(rates)))
    stages = [Stage(1.0, steps=20), Stage(4.0, steps=1)]
    noise = MinibatchNoise(learning_rate="0.3/(1 + t)", batch_size=stages, injected="0.1*exp(-k/10)")
    sizes = np.where(np.arange(50) < 20, 1, 4)
    assert_schedule(noise, np.array(rates), sizes, 0.1 * np.exp(-np.arange(50) / 10.0))


def test_rates_in_stages_of_time_and_batches_that_are_not_whole():
    noise = MinibatchNoise(
        learning_rate=[Stage(0.1, time=0.3), Stage(0.2, time=1.0), Stage(0.05, time=1.0)], batch_size="1 + t"
    )
    rates = np.array([0.1] * 3 + [0.2] * 5 + [0.05] * 10)
    begins = np.cumsum(rates) - rates
    assert_schedule(noise, rates, np.floor(1.0 + begins + 0.5), np.zeros(rates.size))


def assert_schedule(noise, rates, sizes, injected, walkers=20_000):
    """Mean and variance at the end of so many steps, and at the middle, and when that is."""
    middle, count = len(rates) // 2, len(rates)
    times = [rates[:middle].sum(), rates.sum()]
    found = descend((regression(LINE), noise, open_grid(1)), np.full((walkers, 1), 1.5), times, seed=2)
    assert found.steps.tolist() == [middle, count]
    for steps, positions in zip((middle, count), found.swarm.positions[..., 0], strict=True):
        mean, variance = scalar_moments(rates[:steps], sizes[:steps], injected[:steps], 1.5)
        assert_within(positions, mean)
        assert_within((positions - mean) ** 2, variance)


def ladder(slopes):
    """Rows with constant gradients; with a learning rate of 1 each step goes down by the mean slope of its rows."""
    return Landscape(per_example_loss="c*x", data={"c": np.asarray(slopes, float)}, variables=("x",))


def steps_down(rows, size, sampling, count, walkers=2000):
    """What each step goes down by on a ladder of powers of two, (steps, walkers)."""
    noise = MinibatchNoise(learning_rate=1.0, batch_size=size)
    times = np.arange(count + 1.0)
    landscape = ladder(2.0 ** np.arange(rows))
    found = descend((landscape, noise, open_grid(1)), np.zeros((walkers, 1)), times, seed=9, sampling=sampling)
    return -np.diff(found.swarm.positions[..., 0], axis=0)


def assert_equally_likely(values, kinds):
    """All kinds occur, and the frequencies differ no more than 4 standard deviations of chi-square allow."""
    _, counts = np.unique(values, return_counts=True)
    assert counts.size == kinds
    expected = values.size / kinds
    chi_square = np.sum((counts - expected) ** 2) / expected
    assert abs(chi_square - (kinds - 1)) < 4.0 * math.sqrt(2.0 * (kinds - 1))


def test_batches_with_replacement_are_equally_likely():
    assert_equally_likely(steps_down(5, 1, "replacement", 10), 5)
    pairs = 2.0 * steps_down(5, 2, "replacement", 10)
    assert np.unique(pairs).size == 15
    assert np.mean(np.log2(pairs) % 1.0 == 0.0) == pytest.approx(0.2, abs=4.0 * 0.4 / math.sqrt(pairs.size))  # twins


def test_batches_without_replacement_are_equally_likely():
    assert_equally_likely(2.0 * steps_down(5, 2, "without", 10), 10)
    assert_equally_likely(4.0 * steps_down(5, 4, "without", 10), 5)


def test_epochs_visit_every_row_once():
    steps = steps_down(4, 1, "epochs", 12).reshape(3, 4, -1)
    assert (np.sort(steps, axis=1) == 2.0 ** np.arange(4)[:, None]).all()
    orders = np.einsum("eow,o->ew", np.log2(steps), 10.0 ** np.arange(4))
    assert_equally_likely(orders, 24)


def test_the_last_batch_of_an_epoch_is_smaller():
    steps = steps_down(5, 2, "epochs", 6).reshape(2, 3, -1)
    total = 2.0 * steps[:, 0] + 2.0 * steps[:, 1] + steps[:, 2]
    assert (total == 31.0).all()
    assert_equally_likely(steps[:, 2], 5)


@pytest.mark.parametrize("sampling", ["without", "epochs"])
def test_a_batch_of_all_rows_is_gradient_descent(sampling):
    noise = MinibatchNoise(learning_rate=0.3, batch_size=6)
    starts = np.random.default_rng(1).normal(size=(70, 2))
    found = descend((regression(PLANE), noise, open_grid(2)), starts, [0.3 * 25], seed=1, sampling=sampling)
    best, hessians, _ = parts(PLANE)
    decay = np.linalg.matrix_power(np.eye(2) - 0.3 * hessians.mean(axis=0), 25)
    np.testing.assert_allclose(
        found.swarm.positions[0], best + (starts - best) @ decay.T, rtol=0, atol=1e-14
    )  # rounding


def test_the_first_exit_of_a_walk_on_a_lattice():
    slopes, spacing = np.array([1.0, -1.0, 2.0, -1.0, -2.0, 1.0, 1.0]), 0.1
    grid = Grid(x=Axis("x", -1.05, 3.0, 10, ("absorbing", "reflecting")))
    noise = MinibatchNoise(learning_rate=spacing, batch_size=1)
    start, walkers = 0.1, 20_000
    found = descend(
        (ladder(slopes), noise, grid), np.full((walkers, 1), start), [0.0, 50.0, 500.0], absorb=["x > 0.85"], seed=4
    )
    inside = np.arange(-10, 9)  # lattice points between the gates, which lie half-way between two
    chain = np.zeros((inside.size, inside.size))
    upward = np.zeros(inside.size)
    for slope in slopes:
        for number, place in enumerate(inside - slope):
            if place in inside:
                chain[number, int(place) + 10] += 1.0 / slopes.size
            upward[number] += (place > 8) / slopes.size
    resolvent = np.linalg.inv(np.eye(inside.size) - chain)
    mean, up = (resolvent @ np.ones(inside.size))[11], (resolvent @ upward)[11]
    assert found.swarm.gates == ("x_min", "x > 0.85")
    assert (found.exit_steps > 0).all()  # 5000 steps are some hundred times the mean
    assert_within(found.exit_steps.astype(float), mean)
    assert_within((found.swarm.exit_gates == 1).astype(float), up)
    np.testing.assert_allclose(found.swarm.exit_times, spacing * found.exit_steps, rtol=1e-12)  # rounding
    gone = found.exit_steps[:, None] <= found.steps
    assert (np.isnan(found.swarm.positions[..., 0].T) == gone).all()
    assert (~gone == found.swarm.inside.T).all()


def test_an_exit_is_where_a_step_ends_inside_a_region():
    grid, noise = open_grid(2), MinibatchNoise(learning_rate=0.7, batch_size=6)
    starts = np.random.default_rng(2).normal(size=(100, 2))
    regions = ["(x - 1)**2 + y**2 < 0.3", "y > 0.6 and x < 0.5"]
    found = descend((regression(PLANE), noise, grid), starts, [70.0], absorb=regions, sampling="without", seed=1)
    inputs, outputs = PLANE
    steps, gates, place = np.full(100, -1), np.full(100, -1), starts.copy()
    for step in range(101):
        inside = [(place[:, 0] - 1) ** 2 + place[:, 1] ** 2 < 0.3, (place[:, 1] > 0.6) & (place[:, 0] < 0.5)]
        new = (steps < 0) & (inside[0] | inside[1])
        steps[new], gates[new] = step, np.where(inside[0], 0, 1)[new]
        place = place - 0.7 * (place @ inputs.T - outputs) @ inputs / len(inputs)
    assert found.exit_steps.tolist() == steps.tolist()
    assert found.swarm.exit_gates.tolist() == gates.tolist()
    assert set(gates.tolist()) >= {0, 1}
    assert (steps == 0).any()  # some start inside, and leave at once
    assert (found.swarm.exit_times[steps == 0] == 0.0).all()


def test_exits_of_a_schedule_have_its_times():
    noise = MinibatchNoise(learning_rate="1/(k + 1)", batch_size=1)
    found = descend((ladder([-1.0]), noise, open_grid(1)), [[0.0]], [1.0, 1.6, 4.0], absorb=["x > 1.7"], seed=1)
    assert found.exit_steps.tolist() == [3]  # at 1, 1.5, 1.83
    assert found.swarm.exit_times[0] == pytest.approx(1 + 1 / 2 + 1 / 3, rel=1e-15)  # rounding
    np.testing.assert_allclose(found.swarm.positions[:, 0, 0], [1.0, 1.5, np.nan], rtol=1e-15)


@pytest.mark.parametrize("momentum", [0.0, 0.5])
def test_walls_fold_and_wrap(momentum):
    landscape = Landscape(per_example_loss="c*x + d*y", data={"c": [0.3], "d": [-1.75]}, variables=NAMES)
    grid = Grid(x=Axis("x", -1.0, 1.0, 4), y=Axis("y", 0.0, 1.0, 4, ("periodic", "periodic")))
    count, noise = 40, MinibatchNoise(learning_rate=1.0, batch_size=1)
    found = descend((landscape, noise, grid), [[0.2, 0.5]], np.arange(count + 1.0), momentum=momentum, seed=1)
    x, v, y, w, touches = 0.2, 0.0, 0.5, 0.0, 0
    for step in range(count + 1):
        np.testing.assert_allclose(found.swarm.positions[step, 0], [x, y % 1.0], rtol=0, atol=1e-12)  # rounding
        v, w = momentum * v - 0.3, momentum * w + 1.75
        x, y = x + v, y + w
        if abs(x) > 1.0:
            x, v, touches = math.copysign(2.0, x) - x, -v, touches + (step < count)
    assert found.touches.tolist() == [touches]
    assert found.touched == 1.0
    assert "widen the grid" in found.notices[0].message


def test_a_step_longer_than_the_box_is_folded_more_than_once():
    grid = Grid(x=Axis("x", -1.0, 1.0, 4))
    found = descend((ladder([-7.3]), MinibatchNoise(learning_rate=1.0, batch_size=1), grid), [[0.0]], [1.0], seed=1)
    assert found.swarm.positions[0, 0, 0] == pytest.approx(-0.7, abs=1e-14)  # 7.3 -> -5.3 -> 3.3 -> -1.3 -> -0.7


def test_the_runs_do_not_depend_on_threads_or_on_turns(monkeypatch):
    noise = MinibatchNoise(learning_rate=0.1, batch_size=2)
    starts = np.zeros((150, 2))

    def run(threads, sampling):
        times = [1.0, 7.0, 30.0]
        found = descend(
            (regression(PLANE), noise, open_grid(2)), starts, times, seed=6, threads=threads, sampling=sampling
        )
        return found.swarm.positions

    for sampling in ("replacement", "without", "epochs"):
        first = run(1, sampling)
        assert np.array_equal(first, run(2, sampling))
        with monkeypatch.context() as patch:
            patch.setattr(descent, "GRADIENTS", 100)  # every walker in several turns
            assert np.array_equal(first, run(1, sampling))
    assert np.unique(first[-1, :, 0]).size == 150


def test_positions_at_times_between_steps_are_those_of_the_last_step():
    noise = MinibatchNoise(learning_rate=0.1, batch_size=1)
    times = [0.0, 0.05, 0.1, 0.3, 0.35, 0.7]  # 3 * 0.1 is above 0.3 in floating point
    found = descend((regression(LINE), noise, open_grid(1)), [[0.0]], times, seed=1)
    assert found.steps.tolist() == [0, 0, 1, 3, 3, 7]
    places = found.swarm.positions[:, 0, 0]
    assert places[0] == places[1] == 0.0
    assert places[3] == places[4]
    assert found.velocities is None


def test_a_run_that_diverges_is_an_error():
    noise = MinibatchNoise(learning_rate=3.0, batch_size=1)
    with pytest.raises(RunError, match=r"with a learning rate of 3\..*Lower noise\.learning_rate"):
        descend((regression(LINE), noise, open_grid(1)), [[0.0]], [3000.0], seed=1)


NOISE = MinibatchNoise(learning_rate=0.1, batch_size=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"landscape": Landscape("x**2", variables=("x",))}, r"landscape\.data: there are no data"),
        ({"noise": ConstantNoise(temperature=0.1)}, r"noise\.learning_rate: the noise has no learning rate"),
        (
            {"noise": ConstantNoise(temperature=0.1, learning_rate=0.1)},
            r"noise\.batch_size: the noise has no batch size",
        ),
        ({"sampling": "all"}, r'ensemble\.sampling: it is "all". It must be one of replacement, without, epochs'),
        ({"momentum": 1.0}, r"ensemble\.momentum: it is 1\. It must be 0 or more, and below 1"),
        (
            {"noise": MinibatchNoise(learning_rate=0.1, batch_size=6), "sampling": "without"},
            r"noise\.batch_size: a batch of 6 different rows\. There are 5",
        ),
        (
            {"noise": MinibatchNoise(learning_rate="0.1 - t/10", batch_size=1)},
            r"noise\.learning_rate: it is .* at t = ",
        ),
        ({"noise": MinibatchNoise(learning_rate=0.0, batch_size=1)}, r"noise\.learning_rate: it is 0 at t = 0"),
        ({"noise": MinibatchNoise(learning_rate=0.1, batch_size="1 - k")}, r"noise\.batch_size: it is 0 at .* k = 1"),
        ({"noise": MinibatchNoise(learning_rate="1e-9 + 0*k/(k + 1)", batch_size="1 + k")}, "ensemble.times"),
        (
            {"absorb": [Region("hill", FunctionField(lambda x: x, (), 1, "test"))]},
            r'ensemble\.absorb: "hill" is a function',
        ),
        ({"grid": Grid(y=(-1.0, 1.0, 4))}, r"grid: axes y beside variables x"),
        ({"starts": [[math.nan]]}, r"ensemble\.starts"),
    ],
)
def test_what_is_refused(changes, message):
    given = {"landscape": regression(LINE), "noise": NOISE, "grid": open_grid(1), "starts": [[0.0]]} | changes
    *places, starts = [given.pop(name) for name in ("landscape", "noise", "grid", "starts")]
    with pytest.raises(CaseError, match=message):
        descend(tuple(places), starts, [2.0], seed=1, **given)


def test_an_extra_drift_has_no_part():
    columns = {"ax": LINE[0][:, 0], "b": LINE[1]}
    landscape = Landscape(per_example_loss="0.5*(ax*x - b)**2", data=columns, variables=("x",), extra_drift=["1"])
    with pytest.raises(CaseError, match=r"landscape\.extra_drift: it has no part in SGD"):
        descend((landscape, NOISE, open_grid(1)), [[0.0]], [1.0], seed=1)
