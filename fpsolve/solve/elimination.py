"""Linear systems with the generator: (shift - Q) P = source, forwards and backwards, by sparse elimination.

SciPy's SuperLU does the work. It forms diagonals by subtraction, so a barrier of more than about 18 thermal
energies is beyond it; whoever calls it checks signs and flux balance and refuses what is out of bounds.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final, overload

import numpy as np
import scipy.sparse as sparse
import scipy.sparse.linalg as sparse_linalg

from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError, RunError
from fpsolve.model.grid import BoolArray, FloatArray, Grid
from fpsolve.solve.extended import Extended

# What SuperLU needs with minimum-degree ordering, by the number of dimensions with more than one cell: entries of the
# factors per cell = a * cells**b, and seconds = c * cells**d (scripts/measure_elimination.py, one core, 2 to 3 GHz).
ENTRIES_PER_CELL = {0: (1.0, 0.0), 1: (4.0, 0.0), 2: (9.0, 0.2), 3: (1.6, 0.55)}
SECONDS = {0: (1e-6, 1.0), 1: (1e-6, 1.0), 2: (1.6e-8, 1.5), 3: (2.4e-9, 2.0)}
BYTES_PER_ENTRY = 16.0  # value and row, and a third on top while they are made
BYTES_PER_CELL = 800.0  # edges, matrix and fields
REMEDY_TOO_DEEP = (
    "The barrier is too deep for this solver: lower barrier/noise below about 18: a larger learning_rate or "
    "temperature, or a smaller batch_size"
)


@final
@dataclass(frozen=True)
class Resolvent:
    """(shift - Q)^-1 on the active cells, factorised once and applied many times.

    All off-diagonal entries of shift - Q are <= 0 and its columns sum to shift plus the losses, so it is an
    M-matrix: diagonal pivots are stable, and a source >= 0 gives a solution >= 0.
    """

    cells: BoolArray
    factors: sparse_linalg.SuperLU

    @classmethod
    def of(cls, generator: Generator, shift: float, cells: BoolArray | None = None) -> Resolvent:
        """Factorise. Raises CaseError when it cannot fit in memory, RunError when the matrix is singular."""
        chosen = generator.active if cells is None else cells
        refuse_too_large(generator.grid)
        (numbers,) = np.nonzero(chosen)
        matrix = -generator.matrix()[numbers][:, numbers]
        matrix = (matrix + shift * sparse.identity(numbers.size, format="csc")).tocsc()
        try:
            factors = sparse_linalg.splu(
                matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
            )
        except (RuntimeError, MemoryError) as error:
            found = f"the elimination failed ({error})"
            raise RunError("linear solve", found, "Every cell must be joined to a way out", "") from None
        return cls(chosen, factors)

    @overload
    def solve(self, source: FloatArray) -> FloatArray: ...
    @overload
    def solve(self, source: Extended) -> Extended: ...
    def solve(self, source: FloatArray | Extended) -> FloatArray | Extended:
        """The probability P with (shift - Q) P = source; zero on inactive cells."""
        return self._solve(source, "N")

    @overload
    def solve_adjoint(self, source: FloatArray) -> FloatArray: ...
    @overload
    def solve_adjoint(self, source: Extended) -> Extended: ...
    def solve_adjoint(self, source: FloatArray | Extended) -> FloatArray | Extended:
        """The function u with (shift - Q^T) u = source; zero on inactive cells."""
        return self._solve(source, "T")

    def _solve(self, source: FloatArray | Extended, side: str) -> FloatArray | Extended:
        if isinstance(source, Extended):
            scale = source.largest_exponent
            return Extended.of(self._solve_floats(source.scaled(scale), side), scale)
        return self._solve_floats(source, side)

    def _solve_floats(self, source: FloatArray, side: str) -> FloatArray:
        result = np.zeros_like(source)
        result[..., self.cells] = self.factors.solve(source[..., self.cells].T, side).T
        return result


def memory_needed(grid: Grid) -> float:
    """Estimate of the memory [bytes] that a direct solve on this grid takes."""
    factor, power = ENTRIES_PER_CELL[_wide_axes(grid)]
    cells = float(grid.size)
    return cells * (BYTES_PER_CELL + BYTES_PER_ENTRY * factor * cells**power)


def seconds_needed(grid: Grid) -> float:
    """Estimate of the time [s] that one factorisation on this grid takes."""
    factor, power = SECONDS[_wide_axes(grid)]
    return factor * float(grid.size) ** power


def _wide_axes(grid: Grid) -> int:
    return sum(axis.cells > 1 for axis in grid.axes)


def memory_of_machine() -> float:
    """Memory of this machine, or of the container that holds it [bytes]."""
    try:
        total = float(os.sysconf("SC_PAGE_SIZE")) * float(os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # not told on this system
        return float("inf")
    try:
        return min(total, float(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):
        return total


def refuse_too_large(grid: Grid) -> None:
    """Raise CaseError when a direct solve on this grid cannot fit in this machine's memory."""
    needed, available = memory_needed(grid), memory_of_machine()
    if needed > available:
        shape = " x ".join(str(axis.cells) for axis in grid.axes)
        share = 0.9
        while memory_needed(_shrunk(grid, share)) > available:
            share *= 0.9
        suggested = " x ".join(str(axis.cells) for axis in _shrunk(grid, share).axes)
        raise CaseError(
            "grid",
            f"{shape} cells need about {needed / 2**30:.3g} GiB",
            f"This machine has {available / 2**30:.3g} GiB",
            f"Use about {suggested} cells",
        )


def _shrunk(grid: Grid, share: float) -> Grid:
    return Grid(**{axis.name: replace(axis, cells=max(1, int(share * axis.cells))) for axis in grid.axes})
