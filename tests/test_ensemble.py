"""Ensembles: blocks, streams and threads; what is said about walkers, against what is known of their laws."""

import numpy as np
import pytest
from problems import box

from fpsolve.errors import CaseError
from fpsolve.solve.ensemble import (
    BLOCK,
    Record,
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


def test_walls_and_their_gates():
    grid = box((4, 4, 4), (-1.0, 2.0), [("absorbing", "reflecting"), "periodic", ("reflecting", "absorbing")])
    walls = Walls.of(grid)
    assert walls.names == ("x_min", "z_max")
    assert walls.gates.tolist() == [[0, -1], [-1, -1], [-1, 1]]
    assert walls.kinds.tolist() == [[1, 0], [2, 2], [0, 1]]
    assert walls.lower.tolist() == [-1.0] * 3
    assert walls.upper.tolist() == [2.0] * 3


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
