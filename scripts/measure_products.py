"""Measure the products of a stencil against the bandwidth of the memory, and against the generator's own.

    OMP_NUM_THREADS=1 .venv/bin/python scripts/measure_products.py [cells per axis, 192 unless given]

The triad a = b + s c, counted at 24 bytes per entry, runs through three arrays as large together as all that the
product touches (510 MB at 192^3), in turn with the products, so that both find the machine and its caches in the same
state. Seconds are those that the busiest thread computes: other programs on the machine do not count. A product
on the lattice of nearest neighbours counts at 72 bytes per cell, what it cannot do without: six rates, the
probability read, the result read and written. As stored it moves 80: the departure is kept as well. A stage of the
Runge-Kutta-Chebyshev recursion, which adds the two stages before, moves no more. The last table gives the constants
of fpsolve.solve.stabilised.seconds_needed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numba import njit

import fpsolve
from fpsolve.discretise import stencil_kernels
from fpsolve.discretise.edges import Edges
from fpsolve.discretise.stencil import BLOCK, Stencil, aligned
from fpsolve.model.grid import FloatArray

ROUNDS = 15
BYTES = 72.0  # per cell, compulsory


@njit(nogil=True)
def triad(a, b, c, factor, start, stop):
    """The yardstick."""
    for entry in range(start, stop):
        a[entry] = b[entry] + factor * c[entry]


@njit(nogil=True)
def naive(rates, p, out, cells, start, stop):
    """A product with a question at every wall; rates: forward and backward along each axis, (3, 2, cells)."""
    strides = (cells * cells, cells, 1)
    for i in range(start, stop):
        for j in range(cells):
            for k in range(cells):
                here = (i * cells + j) * cells + k
                total = 0.0
                for axis, index in enumerate((i, j, k)):
                    s = strides[axis]
                    if index > 0:
                        total += rates[axis, 0, here - s] * p[here - s] - rates[axis, 1, here - s] * p[here]
                    if index < cells - 1:
                        total += rates[axis, 1, here] * p[here + s] - rates[axis, 0, here] * p[here]
                out[here] = total


def walk(cells: int) -> fpsolve.Generator:
    """A walk with random rates between the nearest neighbours of a cube."""
    generator = fpsolve.Generator.of(problem((4, 4, 4)))
    return fpsolve.Generator(problem((cells,) * 3), generator.shape, *rest(generator, cells))


def rest(generator: fpsolve.Generator, cells: int) -> tuple[Edges, object, object]:
    """Edges, exits and active cells of the walk."""
    number = np.arange(cells**3).reshape(cells, cells, cells)
    pairs = []
    for axis in range(3):
        along = np.moveaxis(number, axis, 0)
        pairs.append((along[:-1].ravel(), along[1:].ravel()))
    origin, end = (np.concatenate(column) for column in zip(*pairs, strict=True))
    order = np.argsort(origin, kind="stable")
    kind = np.repeat(np.arange(3), [pair[0].size for pair in pairs])[order]
    origin, end = origin[order], end[order]
    random = np.random.default_rng(0)
    forward, backward = random.random(origin.size), random.random(origin.size)
    edges = Edges(origin, end, kind, np.eye(3, dtype=np.int64), forward, forward, forward, backward, 0)
    return edges, generator.exits, np.ones(cells**3, dtype=np.bool_)


def problem(shape: tuple[int, ...]) -> fpsolve.Problem:
    """A quadratic well on a grid of this shape."""
    names = ("x", "y", "z")[: len(shape)]
    landscape = fpsolve.Landscape(" + ".join(f"0.5*{name}**2" for name in names), variables=names)
    grid = fpsolve.Grid(**{name: (-3.0, 3.0, cells) for name, cells in zip(names, shape, strict=True)})
    return fpsolve.Problem(landscape, fpsolve.ConstantNoise(temperature=1.0), grid)


def seconds(works: dict[str, Callable[[], float]], rounds: int = ROUNDS) -> dict[str, FloatArray]:
    """Seconds of each work, done in turn, (rounds,); the first round, which may compile, does not count."""
    found: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(rounds + 1):
        for name, work in works.items():
            found[name].append(work())
    return {name: np.array(values[1:]) for name, values in found.items()}


def split(work: Callable[[int, int], object], count: int, threads: int) -> Callable[[], float]:
    """The same work on ranges of equal length; seconds of the busiest thread."""
    pool, ends = ThreadPoolExecutor(threads), [count * number // threads for number in range(threads + 1)]

    def timed(start: int, stop: int) -> float:
        began = time.thread_time()
        work(start, stop)
        return time.thread_time() - began

    return lambda: max(pool.map(timed, ends[:-1], ends[1:]))


def product(stencil: Stencil, p: FloatArray, out: FloatArray, slope: float, keep: float, back: float, threads: int):
    """As `Stencil.advance` does it."""
    rows = (stencil.first, stencil.full, stencil.cell, stencil.length, stencil.stride, stencil.place, stencil.rate)

    def work(start: int, stop: int) -> None:
        stencil_kernels.advance(BLOCK, *rows, p, out, slope, keep, back, start, stop)

    return split(work, stencil.full.size, threads)


def against_triad(cells: int) -> None:
    """Shares of the triad's bandwidth."""
    generator, size = walk(cells), cells**3
    random = np.random.default_rng(1)
    rates = np.zeros((3, 2, size))
    for axis in range(3):
        chosen = generator.edges.kind == axis
        rates[axis, :, generator.edges.origin[chosen]] = np.stack(
            [generator.edges.forward[chosen], generator.edges.backward[chosen]], axis=-1
        )
    p, out, length = aligned(size), aligned(size), 3 * size
    p[:] = random.random(size)
    a, b, c = (aligned(length) for _ in range(3))
    b[:], c[:] = 1.0, 2.0
    stencil = Stencil.of(generator)
    for threads in (1, 2):
        works = {
            "triad": split(lambda start, stop: triad(a, b, c, 0.5, start, stop), length, threads),
            "product": product(stencil, p, out, 1.0, 0.0, 0.0, threads),
            "stage": product(stencil, p, out, 0.1, 0.5, -0.4, threads),
            "naive": split(lambda start, stop: naive(rates, p, out, cells, start, stop), cells, threads),
        }
        found = seconds(works)
        speed = 24.0 * length / found["triad"]
        print(f"{cells}^3, {threads} thread(s): triad {np.median(speed) / 1e9:.2f} GB/s, {speed.max() / 1e9:.2f} best")
        for name in ("product", "stage", "naive"):
            shares = BYTES * size / found[name] / speed  # round by round
            best = BYTES * size / found[name].min() / speed.max()
            times = f"{1e3 * np.median(found[name]):7.1f} ms, {1e3 * found[name].min():7.1f} best"
            print(
                f"  {name:8s} {times}: {np.median(shares):7.1%} of the triad, {best:7.1%} by the best of both",
                flush=True,
            )


def against_generator(shape: tuple[int, ...]) -> None:
    """Nanoseconds per cell of a stage and of the generator's own product, for the constants of the estimate."""
    generator = fpsolve.Generator.of(problem(shape))
    stencil = Stencil.of(generator)
    p: FloatArray = np.random.default_rng(2).random(generator.grid.size)
    out = np.zeros_like(p)
    works = {
        "stage": product(stencil, p, out, 0.1, 0.5, -0.4, 1),
        "generator": split(lambda start, stop: generator.apply(p), 1, 1),
    }
    found = {name: float(np.median(values)) for name, values in seconds(works, 50).items()}
    stage, apply = (1e9 * found[name] / p.size for name in works)
    numbers = stencil.rate.size + 3 * p.size
    print(
        f"{'x'.join(map(str, shape)):>12s}: {stage:6.2f} ns per cell and stage, {apply:6.2f} by the generator;"
        f" {found['stage'] / numbers * 1e9:.2f} per number moved, {stencil.rate.size / p.size:.2f} rates per cell",
        flush=True,
    )


if __name__ == "__main__":
    against_triad(int(sys.argv[1]) if len(sys.argv) > 1 else 192)
    for shape in ((10_000,), (1_000_000,), (64, 64), (256, 256), (1024, 1024), (32, 32, 32), (96, 96, 96)):
        against_generator(shape)
