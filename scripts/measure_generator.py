"""Measure what it costs to build a generator, stage by stage.

    OMP_NUM_THREADS=1 PYTHONPATH=. .venv/bin/python scripts/measure_generator.py [part of a name ...]

One line per problem: milliseconds for a new Problem (its checks evaluate the fields at every cell), for what is sampled
at the cells and the local shape, for the lattice, for the edges with their rates, and for all of it, each the fastest
of several rounds; and the highest memory that NumPy held on the way.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections import deque
from collections.abc import Callable

import numpy as np

import fpsolve
from fpsolve.discretise.edges import build_edges
from fpsolve.discretise.exponents import local_shape, sample_cells
from fpsolve.discretise.lattice import lattice

WELLS = {1: "(x**2 - 1)**2", 2: "(x**2 - 1)**2 + y**2 + 0.3*x*y", 3: "(x**2 - 1)**2 + y**2 + z**2 + 0.3*x*y + 0.2*y*z"}
SECONDS, MOST_ROUNDS = 3.0, 50


def problem(cells: int, axes: int, noise: fpsolve.AbstractNoise | None = None) -> Callable[[], fpsolve.Problem]:
    """Makes the same problem anew: a quartic and quadratic wells on a box of equal cells."""
    names = ("x", "y", "z")[:axes]
    landscape = fpsolve.Landscape(WELLS[axes], variables=names)
    grid = fpsolve.Grid(**{name: (-2.2, 2.2, cells) for name in names})
    return lambda: fpsolve.Problem(landscape, noise or fpsolve.ConstantNoise(temperature=0.2), grid)


def oblique(axes: int) -> fpsolve.AbstractNoise:
    """A constant full tensor."""
    return fpsolve.ConstantNoise(diffusion=0.2 * (np.eye(axes) + 0.4 * (1 - np.eye(axes))))


HESSIAN = fpsolve.HessianNoise(learning_rate=0.1, batch_size=1, projection="abs", floor=0.3)
PROBLEMS = {
    "400 constant": problem(400, 1),
    "3200 constant": problem(3200, 1),
    "3200 hessian": problem(3200, 1, HESSIAN),
    "256x256 constant": problem(256, 2),
    "256x256 oblique": problem(256, 2, oblique(2)),
    "256x256 hessian": problem(256, 2, HESSIAN),
    "64x64x64 constant": problem(64, 3),
    "96x96x96 constant": problem(96, 3),
    "64x64x64 oblique": problem(64, 3, oblique(3)),
    "48x48x48 hessian": problem(48, 3, HESSIAN),
}
STAGES = ("problem", "shape", "lattice", "edges", "all")


def seconds(make: Callable[[], fpsolve.Problem]) -> list[float]:
    """Of every stage; the lattice is a part of the edges."""
    marks = [time.perf_counter()]
    fresh = make()
    marks.append(time.perf_counter())
    at_cells = sample_cells(fresh)
    shape = local_shape(fresh, at_cells)
    marks.append(time.perf_counter())
    deque(lattice(fresh), maxlen=0)
    marks.append(time.perf_counter())
    build_edges(fresh, at_cells, shape)
    marks.append(time.perf_counter())
    fpsolve.Generator.of(make())
    marks.append(time.perf_counter())
    return list(np.diff(marks))


def mebibytes(make: Callable[[], fpsolve.Problem]) -> float:
    """The most that was held at a time."""
    tracemalloc.start()
    fpsolve.Generator.of(make())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


if __name__ == "__main__":
    print(f"{'ms':20s}" + "".join(f"{stage:>10s}" for stage in STAGES) + f"{'MiB':>10s}")
    for name, make in PROBLEMS.items():
        if sys.argv[1:] and not any(part in name for part in sys.argv[1:]):
            continue
        fpsolve.Generator.of(make())  # compiles
        began, rounds = time.perf_counter(), []
        while len(rounds) < MOST_ROUNDS and (not rounds or time.perf_counter() - began < SECONDS):
            rounds.append(seconds(make))
        fastest = 1e3 * np.min(rounds, axis=0)
        print(f"{name:20s}" + "".join(f"{value:10.2f}" for value in fastest) + f"{mebibytes(make):10.1f}", flush=True)
