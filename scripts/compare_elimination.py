"""Elimination against SciPy's SuperLU: order and factorise the same matrices in turn, in the same run.

    OMP_NUM_THREADS=1 .venv/bin/python scripts/compare_elimination.py
    OMP_NUM_THREADS=1 .venv/bin/python scripts/compare_elimination.py --cube

Prints one line per matrix: medians in seconds of SuperLU with its best ordering and of `Resolvent` on one thread and
on two (everything from the edges on: plan, factors and the check of their range), and the memory that each adds to
the process at most, measured in a process of its own. --cube: 64 x 64 x 64 cells, which SuperLU is spared.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sparse
import scipy.sparse.linalg as sparse_linalg

import fpsolve
from fpsolve.solve.elimination import Resolvent

PLANE = {
    "5-point": [[1.0, 0.0], [0.0, 1.0]],
    "7-point": [[1.0, 0.5], [0.5, 1.0]],
    "offsets of 2": [[1.0, 0.65], [0.65, 0.5]],
}
MATRICES = [((cells, cells), stencil) for cells in (256, 512) for stencil in PLANE] + [
    ((32, 32, 32), "7-point in space"),
    ((48, 48, 48), "7-point in space"),
]
ORDERINGS = ("MMD_AT_PLUS_A", "COLAMD", "MMD_ATA")
ROUNDS = 5
LONG = 5.0  # seconds: what takes longer is timed once
SHIFT = 1.0


def generator(shape: tuple[int, ...], stencil: str) -> fpsolve.Generator:
    """The chain of a quadratic well."""
    names = ("x", "y", "z")[: len(shape)]
    landscape = fpsolve.Landscape(" + ".join(f"0.5*{name}**2" for name in names), variables=names)
    noise = fpsolve.ConstantNoise(diffusion=PLANE.get(stencil, np.eye(len(shape))))
    grid = fpsolve.Grid(**{name: (-2.0, 2.0, cells) for name, cells in zip(names, shape, strict=True)})
    return fpsolve.Generator.of(fpsolve.Problem(landscape, noise, grid))


def superlu(matrix: sparse.csc_matrix, ordering: str) -> Callable[[], Any]:
    """Factorise by SuperLU; with an ordering of A + A^T also in its symmetric mode."""
    symmetric = {"diag_pivot_thresh": 0.0, "options": {"SymmetricMode": True}} if ordering == ORDERINGS[0] else {}
    return lambda: sparse_linalg.splu(matrix, permc_spec=ordering, **symmetric)


def seconds(action: Callable[[], Any]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def medians(actions: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Wall times of actions called in turn, medians over the rounds."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(ROUNDS):
        for name, action in actions.items():
            if not times[name] or statistics.median(times[name]) < LONG:
                times[name].append(seconds(action))
    return {name: statistics.median(values) for name, values in times.items()}


def peak(shape: tuple[int, ...], stencil: str, ordering: str) -> float:
    """MiB that one factorisation adds to a process at most; ordering: of SuperLU, or "" for `Resolvent`."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (shape, stencil, ordering))


def _peak(shape: tuple[int, ...], stencil: str, ordering: str) -> float:
    small, chain = generator(tuple(8 for _ in shape), stencil), generator(shape, stencil)
    Resolvent.of(small, SHIFT)  # compiles
    matrix = (SHIFT * sparse.identity(chain.grid.size) - chain.matrix()).tocsc()
    action = superlu(matrix, ordering) if ordering else lambda: Resolvent.of(chain, SHIFT)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak so far
    kept = action()
    after = resident("VmHWM")
    del kept
    return after - before


def resident(which: str) -> float:
    """Memory of this process [MiB]: now (VmRSS) or at most so far (VmHWM)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(which)) / 2**10


def compare(shape: tuple[int, ...], stencil: str) -> str:
    """One line of the table."""
    chain = generator(shape, stencil)
    matrix = (SHIFT * sparse.identity(chain.grid.size) - chain.matrix()).tocsc()
    once = {ordering: seconds(superlu(matrix, ordering)) for ordering in ORDERINGS[: 1 if len(shape) == 3 else 3]}
    best = min(once, key=lambda ordering: once[ordering])
    threads = {f"{count}": lambda count=count: Resolvent.of(chain, SHIFT, threads=count) for count in (1, 2)}
    found = medians({"SuperLU": superlu(matrix, best), **threads})
    name, memory = " x ".join(map(str, shape)), (peak(shape, stencil, best), peak(shape, stencil, ""))
    return (
        f"{name:>14s} {stencil:<17s} SuperLU {found['SuperLU']:7.3f} s ({best}), {memory[0]:6.0f} MiB; "
        f"one thread {found['1']:7.3f} s = {found['1'] / found['SuperLU']:.2f}, {memory[1]:6.0f} MiB; "
        f"two {found['2']:7.3f} s, {found['1'] / found['2']:.2f} times faster"
    )


def cube() -> str:
    """The largest grid in space that is asked for."""
    chain = generator((64, 64, 64), "7-point in space")
    times = [seconds(lambda count=count: Resolvent.of(chain, SHIFT, threads=count)) for count in (2, 1)]
    return f"64 x 64 x 64: two threads {times[0]:.1f} s, one {times[1]:.1f} s, {peak((64,) * 3, '', ''):.0f} MiB"


if __name__ == "__main__":
    Resolvent.of(generator((40, 40), "5-point"), SHIFT, threads=2)  # compiles
    if "--cube" in sys.argv:
        print(cube())
    else:
        for entry in MATRICES:
            print(compare(*entry), flush=True)
