"""The exponential of a chain against matrix exponentials in many digits: within what was asked, at any time."""

import functools
from dataclasses import replace

import mpmath
import numpy as np
import pytest
import scipy.linalg
from problems import QUARTIC, box, free, with_drift, with_loss

from fpsolve.discretise.generator import Generator
from fpsolve.errors import RunError
from fpsolve.model.grid import Axis, Grid
from fpsolve.solve.exponential import LARGEST_BASIS, Exponential, seconds_needed
from fpsolve.solve.krylov import exponentials
from fpsolve.solve.passage import Passage

ROUNDING = 5e-12  # ten squarings of small matrices, some hundred solves

NARROW = np.array([[1.0, 0.6], [0.6, 0.5]])
TURNING = ["-x + 6*y", "-6*x - y"]


def killed(problem, condition):
    return Generator.of(problem).killed(problem.region(condition))


# Up to 16 cells: mpmath takes a second for each.
CHAINS = {
    "wells": Generator.of(with_loss(box((14,), (-1.6, 1.6)), QUARTIC, 0.2)),
    "target": killed(with_loss(box((14,), (-1.6, 1.6)), QUARTIC, 0.2), "x > 0.8"),
    "ring": Generator.of(with_drift(box((15,), (0.0, 1.0), "periodic"), ["3"], [[0.05]])),
    "turning": Generator.of(with_drift(box((4, 4), (-2.0, 2.0), "absorbing"), TURNING, 0.2 * np.eye(2))),
    "torus": Generator.of(with_drift(box((4, 4), walls="periodic"), ["1", "0.5"], NARROW)),
    "gates": Generator.of(free(box((1, 12), walls=["reflecting", "absorbing"]), np.eye(2))),
}


def point(generator, position):
    """All probability in the active cell nearest to a position."""
    distance = ((generator.grid.positions() - np.array(position)[:, None]) ** 2).sum(axis=0)
    start = np.zeros(generator.grid.size)
    start[np.argmin(np.where(generator.active, distance, np.inf))] = 1.0
    return start


def with_gates(generator):
    """The matrix of the chain with a cell more behind every gate, (cells + gates, cells + gates)."""
    exits, size = generator.exits, generator.grid.size
    whole = np.zeros((size + len(exits.gates),) * 2)
    whole[:size, :size] = generator.matrix().toarray()
    np.add.at(whole, (size + exits.gate, exits.cell), exits.rate)
    return whole


@functools.cache
def exact(name, time):
    """exp(t Q) with what goes through the gates, for times up to 1e6 of the fastest."""
    whole, halvings = with_gates(CHAINS[name]), 28
    with mpmath.workdps(40):
        part = mpmath.matrix(whole.tolist()) * (mpmath.mpf(float(time)) / 2**halvings)
        for column in range(len(whole)):  # nothing is lost
            part[column, column] -= mpmath.fsum(part[row, column] for row in range(len(whole)))
        power = term = mpmath.eye(len(whole))
        for number in range(1, 11):
            term = term * part / number
            power += term
        for _ in range(halvings):
            power *= power
        return np.array(power.tolist(), dtype=np.float64)


def served(motion, start, times, allowed):
    """All states, group after group: probability, what left so far, and the errors admitted so far."""
    generator, states = motion.generator, []
    probability, left, error, begun = start, np.zeros(len(generator.exits.gates)), 0.0, 0.0
    while len(states) < len(times):
        steps = motion.advance(probability, times[len(states) :] - begun, allowed)
        assert all(0.0 <= step.error <= allowed for step in steps)
        states += [(step.probability, left + step.left, error + step.error) for step in steps]
        begun, (probability, left, error) = times[len(states) - 1], states[-1]
    return states


def check(states, start):
    """None negative, none lost, none that comes back."""
    assert (np.diff([left for _, left, _ in states], axis=0) >= -1e-15).all()
    for probability, left, _ in states:
        assert (probability >= 0.0).all()
        assert (left >= 0.0).all()
        assert probability.sum() + left.sum() == pytest.approx(start.sum(), abs=1e-12)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-6, 1e-10])
@pytest.mark.parametrize("name", CHAINS)
def test_states_are_as_accurate_as_asked(name, tolerance):
    """From a point and from a random start, at times from 1e-6 to 1e6 of the fastest, in any groups."""
    generator = CHAINS[name]
    times = np.array([1e-6, 0.3, 7.0, 400.0, 1e6]) / generator.departure.max()
    random = np.random.default_rng(5).random(generator.grid.size) * generator.active
    for start in (point(generator, [0.3] * generator.grid.dimensions), random / random.sum()):
        states = served(Exponential.of(generator), start, times, tolerance)
        check(states, start)
        for time, (probability, left, error) in zip(times, states, strict=True):
            wanted = exact(name, float(time))[:, : start.size] @ start
            assert np.abs(np.append(probability, left) - wanted).sum() <= error + ROUNDING


@pytest.mark.parametrize("seed", range(6))
def test_chains_at_random(seed):
    """Any rates, over four orders of magnitude, in a box with walls of every kind."""
    rng = np.random.default_rng(seed)
    walls = [("absorbing", "reflecting"), "periodic"] if seed % 2 else "reflecting"
    generator = Generator.of(free(box((9, 8), walls=walls), NARROW))
    for rates in (generator.edges.forward, generator.edges.backward, generator.exits.rate):
        rates *= 10.0 ** rng.uniform(-2.0, 2.0, rates.size)
    times = np.cumsum(rng.random(20)) * 10.0 ** rng.uniform(-3.0, 1.0)
    start = point(generator, rng.uniform(-1.0, 1.0, 2))
    tolerance = 10.0 ** rng.uniform(-10.0, -3.0)
    states = served(Exponential.of(generator), start, times, tolerance)
    check(states, start)
    whole, begun = with_gates(generator), np.append(start, np.zeros(len(generator.exits.gates)))
    for time, (probability, left, error) in zip(times, states, strict=True):
        wanted = scipy.linalg.expm(time * whole) @ begun
        rounding = 1e-15 * time * np.abs(whole).max()  # of expm
        assert np.abs(np.append(probability, left) - wanted).sum() <= error + rounding + ROUNDING


# Many times, few solves


@pytest.mark.parametrize("tolerance", [1e-4, 1e-7, 1e-10])
def test_many_times_take_one_factorisation(tolerance):
    """100 even times of an Ornstein-Uhlenbeck process from a point: fewer solves than states, at any spacing."""
    for cells in (100, 400):
        generator = Generator.of(with_drift(box((cells,), (-4.0, 4.0)), ["-x"], [[0.5]]))
        start, times = point(generator, [2.0]), np.linspace(0.0, 2.0, 101)[1:]
        motion = Exponential.of(generator)
        states = served(motion, start, times, tolerance)
        check(states, start)
        assert motion.factorisations == 1
        assert motion.solves <= 100
        interval = scipy.linalg.expm(times[0] * with_gates(generator))
        wanted = start
        for probability, _, error in states:
            wanted = interval @ wanted
            assert np.abs(probability - wanted).sum() <= error + ROUNDING


def test_solves_do_not_grow_with_the_grid():
    counts = []
    for cells in (50, 800):
        generator = Generator.of(with_loss(box((cells,), (-2.0, 2.0)), QUARTIC, 0.1))
        motion = Exponential.of(generator)
        motion.advance(np.where(np.abs(generator.grid.positions()[0]) < 0.5, 1.0, 0.0) / cells, np.array([1.0]), 1e-8)
        counts.append(motion.solves)
    assert abs(counts[1] - counts[0]) <= 2  # the grid's largest rate grows 256 times


def test_one_basis_is_never_larger_than_its_room():
    generator = CHAINS["turning"]
    motion = Exponential.of(generator)
    motion.advance(point(generator, [1.0, 0.5]), np.array([1.0]), 1e-8)
    assert motion.factorisations == 1
    assert motion.solves <= min(LARGEST_BASIS, generator.grid.size)  # it closes


# Where it is hard


def test_cold_wells_and_thin_diffusion():
    """Drift carries a point across 100 cells nearly without noise: cells' Peclet number 2."""
    generator = Generator.of(with_drift(box((200,), (-5.0, 5.0)), ["-x"], [[0.02]]))
    start, times = point(generator, [3.0]), np.array([0.01, 0.1, 0.5, 1.0, 5.0])
    for tolerance in (1e-4, 1e-9):
        states = served(Exponential.of(generator), start, times, tolerance)
        check(states, start)
        for time, (probability, _, error) in zip(times, states, strict=True):
            wanted = scipy.linalg.expm(time * with_gates(generator)) @ start
            assert np.abs(probability - wanted).sum() <= error + ROUNDING


def test_a_ring_that_circulates_often_is_walked_in_parts():
    """Two turns between saved times, hardly any diffusion: more than one basis can hold. Exact by Fourier's series."""
    cells = 1000
    generator = Generator.of(with_drift(box((cells,), (0.0, 1.0), "periodic"), ["20"], [[1e-4]]))
    start, times = point(generator, [0.3]), np.array([0.1, 0.2])
    motion = Exponential.of(generator)
    states = served(motion, start, times, 1e-6)
    check(states, start)
    assert motion.reach < 0.1
    assert motion.factorisations <= 4
    onward, back = generator.edges.forward[5], generator.edges.backward[5]
    turn = np.exp(2j * np.pi * np.arange(cells) / cells)
    rates = onward * (turn.conj() - 1.0) + back * (turn - 1.0)
    for time, (probability, _, error) in zip(times, states, strict=True):
        wanted = np.fft.ifft(np.exp(time * rates) * np.fft.fft(start)).real
        assert np.abs(probability - wanted).sum() <= error + ROUNDING


def test_relaxation_over_a_deep_barrier():
    """Two wells 80 thermal energies deep: the half that moves over by t, to 1e-10, from the first steps to 1e40.

    The slowest mode is odd: on the left it is that of the half chain whose last edge leads out with both its rates,
    and the mean time until then its time, but for exp(-80).
    """
    problem = with_loss(box((120,), (-1.6, 1.6)), QUARTIC, 0.0125)
    generator = Generator.of(problem)
    half, edges = generator.killed(problem.region("x > 0")), generator.edges
    out = (edges.forward + edges.backward)[edges.origin == half.exits.cell]
    slow = float(Passage.of(replace(half, exits=replace(half.exits, rate=out))).mean_time[22].floats())
    assert 1e34 < slow < 1e37
    times = np.concatenate([np.geomspace(1e-3, 1e30, 10), slow * np.array([0.01, 0.5, 1.0, 3.0]), [1e40]])
    start = point(generator, [-1.2])
    states = served(Exponential.of(generator), start, times, 1e-11)
    check(states, start)
    right = generator.grid.positions()[0] > 0.0
    for time, (probability, _, error) in zip(times, states, strict=True):
        assert probability[right].sum() == pytest.approx(-0.5 * np.expm1(-time / slow), abs=error + ROUNDING)


def test_escape_over_a_deep_barrier():
    problem = with_loss(box((120,), (-1.6, 1.6)), QUARTIC, 0.0125)
    generator = killed(problem, "x > 0.7")
    slow = float(Passage.of(generator).mean_time[22].floats())
    times = slow * np.array([1e-30, 1e-12, 0.01, 0.5, 1.0, 3.0, 1e3])
    start = point(generator, [-1.0])
    states = served(Exponential.of(generator), start, times, 1e-11)
    check(states, start)
    for time, (_, left, error) in zip(times, states, strict=True):
        assert left[0] == pytest.approx(-np.expm1(-time / slow), abs=error + ROUNDING)


def test_axes_to_infinity():
    """Cells of very different size: the scalar product is that of densities."""
    grid = Grid(x=Axis("x", -np.inf, np.inf, 300, scale=1.0))
    generator = Generator.of(with_drift(grid, ["-x"], [[0.5]]))
    assert generator.grid.volumes.max() > 100.0 * generator.grid.volumes.min()
    times = np.array([0.01, 0.1, 1.0, 100.0])
    for start in (point(generator, [2.0]), point(generator, [30.0])):
        states = served(Exponential.of(generator), start, times, 1e-9)
        check(states, start)
        for time, (probability, _, error) in zip(times, states, strict=True):
            wanted = scipy.linalg.expm(time * with_gates(generator)) @ start
            assert np.abs(probability - wanted).sum() <= error + 1e-10


def test_what_is_empty_stays_empty():
    generator = CHAINS["gates"]
    steps = Exponential.of(generator).advance(np.zeros(12), np.array([0.1, 1.0]), 1e-6)
    assert len(steps) == 2
    for step in steps:
        np.testing.assert_array_equal(step.probability, np.zeros(12))
        np.testing.assert_array_equal(step.left, np.zeros(2))


def test_more_than_rounding_allows_is_refused():
    generator = CHAINS["ring"]
    with pytest.raises(RunError, match=r"evolve: the error estimate asks for parts below 1e-09 of the saved interval"):
        Exponential.of(generator).advance(point(generator, [0.3]), np.array([1.0]), 1e-30)


def test_the_cost_is_known_beforehand():
    generator = CHAINS["wells"]
    one, many = np.array([1.0]), np.linspace(0.0, 1.0, 1001)[1:]
    assert 0.0 < seconds_needed(generator, one, 1e-4) < seconds_needed(generator, one, 1e-10)
    assert seconds_needed(generator, one, 1e-8) < seconds_needed(generator, many, 1e-8)
    wide = Generator.of(free(box((200, 200)), np.eye(2)))
    assert seconds_needed(wide, one, 1e-8) > 10.0 * seconds_needed(generator, one, 1e-8)


# The small exponential


@pytest.mark.parametrize("fastest", [1.0, 1e3, 1e9, 1e30])
def test_an_exponential_from_the_inverse(fastest):
    """Rates on the axis and off it, with one so fast that the matrix itself would drown the others in rounding."""
    rng = np.random.default_rng(1)
    turned = np.linalg.qr(rng.standard_normal((6, 6)))[0]
    rates = np.zeros((6, 6))
    rates[:2, :2] = [[-0.3, 40.0], [-40.0, -0.3]]
    rates[2, 2:4] = [-0.1, 2.0]
    rates[range(3, 6), range(3, 6)] = [-4.0, 0.0, -fastest]
    inverse = turned @ np.linalg.inv(np.eye(6) - rates / 25.0) @ turned.T
    for factor, found in zip((1.0, 25.0), exponentials(inverse, np.array([1.0, 25.0])), strict=True):
        wanted = np.zeros((6, 6))
        wanted[:5, :5] = scipy.linalg.expm(factor / 25.0 * rates[:5, :5])
        wanted[5, 5] = np.exp(-factor / 25.0 * fastest)
        np.testing.assert_allclose(found, turned @ wanted @ turned.T, rtol=0.0, atol=3e-12)
