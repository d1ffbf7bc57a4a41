"""Ensembles: blocks, streams and threads; what is said about walkers, against what is known of their laws."""

import numpy as np
import pytest
from problems import box

from fpsolve.analyse.ensemble import absorbed, blocks, exit_times, histogram, l1_distance, moments
from fpsolve.errors import CaseError
from fpsolve.solve.ensemble import (
    BLOCK,
    Record,
    Swarm,
    Walls,
    checked_starts,
    checked_step,
    checked_times,
    run_blocks,
    streams,
)


def drawn(threads, walkers=3 * BLOCK + 5, seed=7):
    """A number of every walker, drawn in two turns."""
    found = np.zeros(walkers)

    def march(block, stream):
        for share in (0.5, 1.0):
            found[block] += stream.standard_normal(block.stop - block.start)
            yield share

    run_blocks(march, streams(seed, walkers), walkers, threads=threads)
    return found


def test_the_numbers_do_not_depend_on_the_threads():
    first = drawn(1)
    assert np.array_equal(first, drawn(2))
    assert np.unique(first).size == first.size  # no two blocks share a stream
    assert not np.isin(first, drawn(1, seed=8)).any()


def test_streams_for_other_uses_are_others():
    steps, starts = streams(1, 1), streams(1, 1, "starts")
    assert steps[0].random() != starts[0].random()


def test_progress_grows_to_one():
    shares = []

    def march(block, stream):
        yield 0.5

    run_blocks(march, streams(0, 5 * BLOCK), 5 * BLOCK, progress=shares.append)
    assert shares[-1] == 1.0
    assert (np.diff(shares) >= 0.0).all()


def test_a_failure_in_one_block_stops_the_others():
    turns = []

    def march(block, stream):
        while True:
            turns.append(block.start)
            if block.start == 0:
                raise KeyboardInterrupt
            yield 0.0

    with pytest.raises(KeyboardInterrupt):  # and the endless blocks come to an end
        run_blocks(march, streams(0, 4 * BLOCK), 4 * BLOCK, threads=2)


def test_an_interruption_stops_all_blocks():
    def interrupt(share):
        raise KeyboardInterrupt

    def march(block, stream):
        while True:
            yield 0.0

    with pytest.raises(KeyboardInterrupt):
        run_blocks(march, streams(0, 4 * BLOCK), 4 * BLOCK, progress=interrupt)


def test_walls_and_their_gates():
    grid = box((4, 4, 4), (-1.0, 2.0), [("absorbing", "reflecting"), "periodic", ("reflecting", "absorbing")])
    walls = Walls.of(grid)
    assert walls.names == ("x_min", "z_max")
    assert walls.gates.tolist() == [[0, -1], [-1, -1], [-1, 1]]
    assert walls.kinds.tolist() == [[1, 0], [2, 2], [0, 1]]
    assert walls.lower.tolist() == [-1.0] * 3
    assert walls.upper.tolist() == [2.0] * 3


# What is said about walkers


def swarm_of(times, durations, gates=None, begin=0.0):
    """Walkers on a line that leave after some durations; those that stay until later than the last time are inside."""
    times, leave = np.asarray(times, dtype=float), begin + np.asarray(durations, dtype=float)
    left = leave <= times[-1]
    positions = np.where(leave > times[:, None], 0.5, np.nan)[..., None]
    numbers = np.where(left, 0 if gates is None else gates, -1)
    return Swarm(times, positions, np.where(left, leave, np.inf), numbers, ("x_min", "x > 1"), begin)


def test_the_mean_exit_time():
    swarm = swarm_of([3.0, 9.0], [1.0, 2.0, 3.0, 6.0], [0, 1, 1, 1], begin=1.0)
    found = exit_times(swarm)
    assert (found.value, found.exits, found.censored, found.method) == (3.0, 4, 0, "mean")
    assert found.standard_error == pytest.approx(np.std([1, 2, 3, 6], ddof=1) / 2)
    assert found.interval == pytest.approx((3.0 - 1.96 * found.standard_error, 3.0 + 1.96 * found.standard_error), 1e-4)
    assert found.splitting["x > 1"].value == 0.75
    assert found.splitting["x > 1"].standard_error == pytest.approx(np.sqrt(0.75 * 0.25 / 4))
    assert found.log10 == pytest.approx(np.log10(3.0))
    assert found.log10_error == pytest.approx(found.standard_error / 3.0 / np.log(10.0))
    assert absorbed(swarm)["x > 1"].tolist() == [0.25, 0.75]
    assert absorbed(swarm)["x_min"].tolist() == [0.25, 0.25]


def test_censored_exit_times_have_the_right_error():
    """Exponential exits of mean 5, seen for a time of 2: over 2000 swarms the mean, the error and the interval hold."""
    randoms, found = np.random.default_rng(1), []
    for _ in range(2000):
        found.append(exit_times(swarm_of([2.0], randoms.exponential(5.0, 60))))
    values, errors = np.array([(each.value, each.standard_error) for each in found]).T
    assert {each.method for each in found} == {"exponential"}
    # The quotient's bias and its skewness are 1 / (2 exits) = 2 %, exits being 20 on average.
    assert values.mean() == pytest.approx(5.0, rel=0.05)
    assert values.std() == pytest.approx(errors.mean(), rel=0.1)
    covered = np.mean([each.interval[0] <= 5.0 <= each.interval[1] for each in found])
    assert covered == pytest.approx(0.95, abs=0.02)  # 3 standard errors, and what discrete exits leave over
    assert "constant rate" in found[0].reason


def test_without_exits_there_is_a_bound():
    """Nobody of 10 left within 3: with 95 % confidence the mean is above 30 / ln 20."""
    found = exit_times(swarm_of([3.0], [9.0] * 10))
    assert found.value is None
    assert found.standard_error is None
    assert found.log10 is None
    assert found.interval == (pytest.approx(30.0 / np.log(20.0)), np.inf)
    assert (found.exits, found.censored, found.method, found.splitting) == (0, 10, "none", {})


def test_moments_and_their_errors():
    """Over 400 swarms of 500 the standard errors are the spread of what they belong to (5 %: 400 swarms, and tails)."""
    randoms, tensor = np.random.default_rng(2), np.array([[2.0, 0.6], [0.6, 0.5]])
    root, found = np.linalg.cholesky(tensor), []
    for _ in range(400):
        positions = (randoms.standard_normal((500, 2)) @ root.T)[None]
        found.append(moments(Swarm(np.array([1.0]), positions, np.full(500, np.inf), np.full(500, -1), ())))
    for name in ("mean", "covariance"):
        values = np.array([getattr(each, name)[0] for each in found])
        errors = np.array([getattr(each, f"{name}_error")[0] for each in found])
        assert values.std(axis=0) == pytest.approx(errors.mean(axis=0), rel=0.12)  # 3 / sqrt(2 * 400)
        exact = tensor if name == "covariance" else np.zeros(2)
        assert (np.abs(values.mean(axis=0) - exact) < 3.0 * errors.mean(axis=0) / 20.0).all()


def test_moments_of_those_that_are_left():
    found = moments(swarm_of([1.0, 2.0], [0.5, 1.5, 9.0, 9.0]))
    assert found.inside.tolist() == [3, 2]
    assert found.mean[:, 0].tolist() == [0.5, 0.5]
    assert np.isnan(moments(swarm_of([1.0], [0.5, 9.0])).covariance).all()


def test_histograms_count_everyone_inside():
    grid = box((4, 3), [(0.0, 4.0), (0.0, 3.0)])
    positions = np.array([[[0.0, 0.0], [4.0, 3.0], [1.2, 2.9], [1.8, 2.0], [np.nan, np.nan]]])
    swarm = Swarm(np.array([1.0]), positions, np.array([np.inf] * 4 + [0.5]), np.array([-1] * 4 + [0]), ("x_min",))
    counts = histogram(swarm, grid)[0]
    assert counts.sum() == 4
    assert grid.shaped(counts)[[0, 3, 1], [0, 2, 2]].tolist() == [1, 1, 2]


def test_blocks_hold_enough_and_cover_all():
    grid = box((40, 30), (-3.0, 3.0))
    x, y = grid.positions()
    density = np.exp(-(x**2) - 2.0 * y**2)
    density /= density.sum()
    number = blocks(density, grid, 0.01)
    shares = np.bincount(number, density)
    assert shares.sum() == pytest.approx(1.0, abs=1e-12)
    assert (shares >= 0.01).all()
    assert 30 <= len(shares) <= 100  # halved as long as both halves hold enough
    assert blocks(density, grid, 0.6).max() == 0


def test_the_distance_by_chance():
    """Of walkers drawn from the density itself the distance is as foretold; another density stands out."""
    grid, randoms = box((60, 20), (-3.0, 3.0)), np.random.default_rng(3)
    x, y = grid.positions()
    density = np.exp(-(x**2) - y**2 + x * y)
    density *= 0.8 / density.sum()  # a fifth has left
    drawn = randoms.multinomial(5000, np.append(density, 0.2), 400)[:, :-1]
    found = [l1_distance(counts, density, 5000, grid) for counts in drawn]
    values = np.array([each.value for each in found])
    assert values.mean() == pytest.approx(found[0].expected, abs=0.01 * found[0].expected)  # of 25 as normal
    assert values.std() == pytest.approx(found[0].deviation, rel=0.11)  # 3 / sqrt(2 * 400)
    other = density * (1.0 + 0.15 * np.sign(x))
    assert l1_distance(drawn[0], other, 5000, grid).excess > 3.0
    assert l1_distance(drawn[0], other, 5000, grid, fewest=400).excess > 6.0  # wide blocks see more


def test_a_histogram_that_is_the_density():
    grid = box((4,), (0.0, 4.0))
    found = l1_distance(np.array([100, 100, 100, 100]), np.full(4, 0.25), 400, grid, fewest=100)
    assert found.value == 0.0
    assert found.blocks == 4


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: streams(-1, 1), "ensemble.seed: it is -1"),
        (lambda: streams(1, 0), "ensemble.walkers: it is 0"),
        (lambda: run_blocks(None, [], 0, threads=0), "ensemble.threads: it is 0"),
        (lambda: Record.room(np.zeros(2000), 10**6, 2), "ensemble.walkers: 2000 saved times .* 29.8 GiB"),
        (lambda: checked_times([1.0, 1.0]), "ensemble.times: the times do not increase"),
        (lambda: checked_times([-1.0]), "the first not before the start at 0"),
        (lambda: checked_times([]), "At least one is needed"),
        (lambda: checked_starts([0.0], box((4,))), r"ensemble.starts: an array of shape \(1,\)"),
        (lambda: checked_starts([[2.0]], box((4,))), "a walker starts at x = 2"),
        (lambda: checked_step(0.0), "ensemble.time_step: it is 0"),
    ],
)
def test_what_is_refused(ask, message):
    with pytest.raises(CaseError, match=message):
        ask()
