"""Measure how many gradients of single examples SGD takes in a second, and what a gradient's time goes to.

    OMP_NUM_THREADS=1 .venv/bin/python scripts/measure_descent.py [millions of gradients per line, 20 unless given]

One line for each number of rows, batch size and way of drawing: gradients per second by the clock on one and two
threads, nanoseconds of one processor per gradient, and how long a thousand million take on two threads. Then, for each
number of rows, nanoseconds of one gradient for its parts taken alone: the formula, rows in order; drawing a row; and
fetching a drawn row.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
from numba import njit

import fpsolve
from fpsolve.model.noise import MinibatchNoise
from fpsolve.solve.descent import BATCHES, Batches, descend

LOSS = "0.5*(tanh(x*u + y) - v)**2"
ROWS, BATCH_SIZES, WALKERS, RATE = (1_000, 100_000, 1_000_000), (1, 32), 256, 0.05
ROUNDS = 5


def landscape(rows: int) -> fpsolve.Landscape:
    """A tanh neuron on made-up data."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=rows)
    outputs = np.tanh(1.2 * inputs + 0.3) + 0.1 * random.normal(size=rows)
    return fpsolve.Landscape(per_example_loss=LOSS, data={"u": inputs, "v": outputs}, variables=("x", "y"))


def measure(model: fpsolve.Landscape, size: int, sampling: Batches, threads: int, gradients: float) -> list[float]:
    """Seconds by the clock, and of all processors, per gradient."""
    grid = fpsolve.Grid(x=(-40.0, 40.0, 10), y=(-40.0, 40.0, 10))
    noise = MinibatchNoise(learning_rate=RATE, batch_size=size)
    steps = max(1, round(gradients / size / WALKERS))

    def run(count: int) -> None:
        starts = np.zeros((WALKERS, 2))
        descend((model, noise, grid), starts, [RATE * count], sampling=sampling, seed=1, threads=threads)

    run(2)  # compiles, or reads what was compiled
    began = time.perf_counter(), time.process_time()
    run(steps)
    ended = time.perf_counter(), time.process_time()
    return [(end - begin) / (steps * size * WALKERS) for begin, end in zip(began, ended, strict=True)]


@njit(cache=True, nogil=True)
def draw(stream, rows, count):  # type: ignore[no-untyped-def]
    """Draw rows, and do nothing with them."""
    total = 0
    for _ in range(count):
        total += int(stream.random() * rows)
    return total


@njit(cache=True, nogil=True)
def fetch(stream, columns, count):  # type: ignore[no-untyped-def]
    """Draw rows, and add up what is there."""
    total = 0.0
    for _ in range(count):
        row = int(stream.random() * len(columns))
        for column in range(columns.shape[1]):
            total += columns[row, column]
    return total


def fastest(function: Callable[[], object], count: int) -> float:
    """Nanoseconds of one of `count`, the fastest of several rounds; the first may compile."""
    seconds = []
    for _ in range(ROUNDS + 1):
        began = time.process_time()
        function()
        seconds.append(time.process_time() - began)
    return 1e9 * min(seconds[1:]) / count


def parts(model: fpsolve.Landscape) -> str:
    """The parts of a gradient alone."""
    assert model.sample is not None
    columns, stream, count = model.sample.columns, np.random.default_rng(1), 2_000_000
    sample = model.sample
    repeats = max(1, count // len(columns))
    formula = fastest(lambda: [sample.gradients([1.0, 0.3]) for _ in range(repeats)], repeats * len(columns))
    drawing = fastest(lambda: draw(stream, len(columns), count), count)
    fetching = fastest(lambda: fetch(stream, columns, count), count) - drawing
    return f"formula {formula:5.1f} ns   drawing {drawing:4.1f} ns   fetching {fetching:5.1f} ns"


if __name__ == "__main__":
    wanted = 1e6 * float(sys.argv[1]) if len(sys.argv) > 1 else 2e7
    models = {rows: landscape(rows) for rows in ROWS}
    print("   rows  batch     sampling   1 thread: 1/s     ns    2 threads: 1/s     ns    1e9 on 2 threads")
    for rows, model in models.items():
        for size in BATCH_SIZES:
            for sampling in BATCHES:
                (one, work), (two, twice) = (measure(model, size, sampling, threads, wanted) for threads in (1, 2))
                print(
                    f"{rows:7d} {size:6d} {sampling:>12s} {1 / one:15.3g} {1e9 * work:6.1f} {1 / two:17.3g} "
                    f"{1e9 * twice:6.1f} {1e9 * two:17.0f} s",
                    flush=True,
                )
    for rows, model in models.items():
        print(f"{rows:7d} rows: {parts(model)}", flush=True)
