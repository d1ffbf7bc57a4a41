"""Measure what a direct solve costs: numbers held, memory and seconds, against the estimates in use.

    OMP_NUM_THREADS=1 .venv/bin/python scripts/measure_elimination.py

Prints one line per grid. The constants of fpsolve.solve.elimination are read off this table.
"""

from __future__ import annotations

import time

import numpy as np

import fpsolve
from fpsolve.solve.elimination import Resolvent, memory_needed, seconds_needed
from fpsolve.solve.factors import numbers_needed

GRIDS: tuple[tuple[int, ...], ...] = ((1000,), (100_000,), (64, 64), (128, 128), (256, 256), (512, 512),
                                      (16, 16, 16), (24, 24, 24), (32, 32, 32), (40, 40, 40))  # fmt: skip


def measure(shape: tuple[int, ...], anisotropic: bool) -> str:
    """Two factorisations of a quadratic well on a grid of this shape; the faster counts (the first may compile)."""
    names = ("x", "y", "z")[: len(shape)]
    landscape = fpsolve.Landscape(" + ".join(f"0.5*{name}**2" for name in names), variables=names)
    matrix = np.eye(len(shape)) + (0.6 if anisotropic else 0.0) * (1 - np.eye(len(shape)))
    grid = fpsolve.Grid(**{name: (-3.0, 3.0, cells) for name, cells in zip(names, shape, strict=True)})
    generator = fpsolve.Generator.of(fpsolve.Problem(landscape, fpsolve.ConstantNoise(diffusion=matrix), grid))
    seconds = []
    for _ in range(2):
        began = time.perf_counter()
        plan = Resolvent.of(generator, 1.0).plan
        seconds.append(time.perf_counter() - began)
    numbers = numbers_needed(plan, 1)
    name, kind = "x".join(map(str, shape)), "tensor" if anisotropic else "axes"
    return (
        f"{name:>12s} {kind:>7s} {numbers / grid.size:8.1f} numbers/cell {8 * numbers / 2**20:8.1f} MiB "
        f"(all in all: {memory_needed(grid) / 2**20:8.1f} estimated) {plan.flops / 1e9:8.2f} Gflop "
        f"{min(seconds):8.3f} s ({seconds_needed(grid):7.3f} estimated)"
    )


if __name__ == "__main__":
    for shape in GRIDS:
        for anisotropic in (False, True) if len(shape) > 1 else (False,):
            print(measure(shape, anisotropic), flush=True)
