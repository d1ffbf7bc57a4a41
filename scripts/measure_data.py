#!/usr/bin/env python
"""What it takes to compute loss, gradient, Hessian and gradient covariance of a big data set on a big grid.

A two-parameter tanh model, 100 000 rows, 256 x 256 cells: seconds by the clock on one thread and on two, nanoseconds
of one processor per row and cell, and the most memory that the process ever held.

    python scripts/measure_data.py            the whole, some minutes
    python scripts/measure_data.py 4          a quarter of the cells along each axis
"""

import os
import resource
import sys
import time

import numpy as np

import fpsolve

ROWS, CELLS = 100_000, 256
LOSS = "0.5*(tanh(x*u + y) - v)**2"


def main() -> None:
    """Measure and print."""
    part = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    cells = CELLS // part
    random = np.random.default_rng(0)
    inputs = random.normal(size=ROWS)
    outputs = np.tanh(1.2 * inputs + 0.3) + 0.5 * random.normal(size=ROWS)
    landscape = fpsolve.Landscape(per_example_loss=LOSS, data={"u": inputs, "v": outputs}, variables=("x", "y"))
    grid = fpsolve.Grid(x=(-1.0, 3.0, cells), y=(-2.0, 2.0, cells))
    landscape.tabulated(fpsolve.Grid(x=(-1.0, 3.0, 40), y=(-2.0, 2.0, 40)))  # compiles
    for threads in (1, 2):
        os.environ["FPSOLVE_THREADS"] = str(threads)
        clock, processor = time.perf_counter(), time.process_time()
        sampled = landscape.tabulated(grid)
        clock, processor = time.perf_counter() - clock, time.process_time() - processor
        points = (cells + 2) ** 2
        each = 1e9 * processor / (ROWS * points)
        print(f"{ROWS} rows, {cells} x {cells} cells, {threads} threads: {clock:.0f} s, {each:.0f} ns a row and point")
    places = grid.positions()[:, :: grid.size // 50]
    error = max(
        float(np.abs(getattr(sampled, name)(places) - getattr(landscape, name)(places)).max())
        for name in ("loss", "gradient", "hessian", "gradient_covariance")
    )
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"largest difference to the sums themselves at cells: {error:.1g}; most memory: {most:.2f} GiB")


if __name__ == "__main__":
    main()
