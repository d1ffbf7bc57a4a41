"""Linear systems with the generator: (shift - Q) P = source, forwards and backwards, by sparse elimination.

Subtraction-free: the unknowns are eliminated as cells of a Markov chain (see `fronts`, and `sweep` for those on a
line), so every entry of a solution with a source >= 0 is right to rounding, however deep the barrier.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import final, overload

import numpy as np
import scipy.sparse as sparse

from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError, RunError
from fpsolve.model.grid import BoolArray, FloatArray, Grid
from fpsolve.model.threads import threads_allowed
from fpsolve.solve.arithmetic import paired, unpaired
from fpsolve.solve.extended import Extended
from fpsolve.solve.factors import Factors, factors, numbers_needed, solve
from fpsolve.solve.ordering import Plan

# What it takes, by the number of dimensions with more than one cell: numbers held per cell = a * cells**b, and
# seconds = c * cells**d on one thread (scripts/measure_elimination.py, 2 to 3 GHz, tensors with short offsets).
NUMBERS_PER_CELL = {0: (5.0, 0.0), 1: (5.0, 0.0), 2: (19.0, 0.135), 3: (9.6, 0.41)}
SECONDS = {0: (1e-4, 0.0), 1: (4e-8, 1.0), 2: (1.1e-7, 1.25), 3: (4.2e-10, 2.0)}
BYTES_PER_NUMBER = 8.0
SECONDS_PER_NUMBER = 1.6e-9  # of a solve, for each number in the factors
BYTES_PER_CELL = 800.0  # edges, lists of neighbours and fields
# Largest mean time until the chain is left, times its largest rate, up to which doubles hold all that elimination
# meets on the way, with room to spare.
LARGEST_TIME = 1e280
WIDEST_SOURCE = 900  # powers of two between the numbers of a source that doubles hold side by side


@final
@dataclass(frozen=True)
class Resolvent:
    """(shift - Q)^-1 on the active cells, factorised once and applied many times.

    A source >= 0 gives a solution >= 0, every entry of it right to rounding: with plain doubles where that exceeds
    about 1e-280 of the largest (below, it may be lost), with extended numbers always.
    """

    chain: _Chain
    factors: Factors

    @classmethod
    def of(
        cls,
        generator: Generator,
        shift: float,
        cells: BoolArray | None = None,
        *,
        plan: Plan | None = None,
        threads: int | None = None,
        extended: bool = False,
    ) -> Resolvent:
        """Factorise, on the active cells or those of a mask: rates to cells that are left out are losses.

        shift [1/time]: >= 0. plan: of the same chain on the same cells, where there is one already. threads: more
        than two are of no use; left out, as many as FPSOLVE_THREADS in the environment allows, else one. extended:
        whether to work with numbers of any range from the start; otherwise only where the times exceed what doubles
        can hold, which takes about ten times as long.

        Raises CaseError when it cannot fit in memory, RunError where probability cannot get out.
        """
        refuse_too_large(generator.grid)
        structure = Plan.of(generator, cells) if plan is None else plan
        chain = _Chain.of(generator, shift, structure, threads or threads_allowed())
        if not extended:
            resolvent = cls(chain, chain.factors(extended=False))
            if resolvent._longest_time * chain.largest_rate <= LARGEST_TIME:
                return resolvent
            del resolvent  # its memory
        chain.refuse_closed()
        return cls(chain, chain.factors(extended=True))

    @overload
    def solve(self, source: FloatArray) -> FloatArray: ...
    @overload
    def solve(self, source: Extended) -> Extended: ...
    def solve(self, source: FloatArray | Extended) -> FloatArray | Extended:
        """The probability P with (shift - Q) P = source; zero on inactive cells."""
        return self._solve(source, adjoint=False)

    @overload
    def solve_adjoint(self, source: FloatArray) -> FloatArray: ...
    @overload
    def solve_adjoint(self, source: Extended) -> Extended: ...
    def solve_adjoint(self, source: FloatArray | Extended) -> FloatArray | Extended:
        """The function u with (shift - Q^T) u = source; zero on inactive cells."""
        return self._solve(source, adjoint=True)

    @property
    def plan(self) -> Plan:
        """Order and structure of the factors: serves any other shift on the same cells."""
        return self.chain.plan

    def _solve(self, source: FloatArray | Extended, *, adjoint: bool) -> FloatArray | Extended:
        if isinstance(self.factors, tuple):
            given = source if isinstance(source, Extended) else Extended.of(source)
            result = self._solve_extended(given, adjoint=adjoint)
            return result if isinstance(source, Extended) else result.floats()
        if not isinstance(source, Extended):
            return self._solve_doubles(source, adjoint=adjoint)
        scale = source.largest_exponent
        if scale - source.exponent[source.mantissa != 0.0].min(initial=scale) > WIDEST_SOURCE:
            return self._wide._solve_extended(source, adjoint=adjoint)
        return Extended.of(self._solve_doubles(source.scaled(scale), adjoint=adjoint), scale)

    @property
    def _longest_time(self) -> float:
        """The mean time until the chain is left at most [time], or a bound on it; may be NaN where it is too long."""
        least = float(self.chain.losses.min(initial=np.inf))
        if least * LARGEST_TIME >= self.chain.largest_rate:
            return 1.0 / least
        return float(self._solve_doubles(self.plan.cells.astype(np.float64), adjoint=True).max(initial=0.0))

    @cached_property
    def _wide(self) -> Resolvent:
        """The same with numbers of any range."""
        return Resolvent(self.chain, self.chain.factors(extended=True))

    def _solve_doubles(self, source: FloatArray, *, adjoint: bool) -> FloatArray:
        plan = self.plan
        if plan.line and plan.numbers.size == plan.cells.size:  # nothing to be sorted
            result = source.copy()
            solve(plan, self.factors, result.reshape(-1), result.size // plan.numbers.size, adjoint=adjoint)
            return result
        values = source[..., plan.numbers].reshape(-1)
        solve(plan, self.factors, values, values.size // plan.numbers.size, adjoint=adjoint)
        result = np.zeros_like(source)
        result[..., plan.numbers] = values.reshape(*source.shape[:-1], -1)
        return result

    def _solve_extended(self, source: Extended, *, adjoint: bool) -> Extended:
        plan = self.plan
        chosen = source[..., plan.numbers]
        values = paired(Extended(chosen.mantissa.reshape(-1), chosen.exponent.reshape(-1)))
        solve(plan, self.factors, values, values[0].size // plan.numbers.size, adjoint=adjoint)
        solved = unpaired(values)
        result = Extended.of(np.zeros_like(source.mantissa))
        result.mantissa[..., plan.numbers] = solved.mantissa.reshape(chosen.mantissa.shape)
        result.exponent[..., plan.numbers] = solved.exponent.reshape(chosen.mantissa.shape)
        return result


@final
@dataclass(frozen=True)
class _Chain:
    """What is eliminated: rates to and from the neighbours of the plan's graph, and losses in the plan's order."""

    generator: Generator
    plan: Plan
    out: FloatArray
    into: FloatArray
    losses: FloatArray
    threads: int

    @classmethod
    def of(cls, generator: Generator, shift: float, plan: Plan, threads: int) -> _Chain:
        out, into = plan.rates(generator.edges.forward, generator.edges.backward)
        losses = generator.losses + _left_out(generator, plan.cells)
        chain = cls(generator, plan, out, into, shift + losses[plan.numbers], threads)
        if not np.isfinite(chain.largest_rate):
            remedy = "Check the size of the drift and the diffusion"
            raise RunError("linear solve", f"the largest rate is {chain.largest_rate}", "Rates must be finite", remedy)
        return chain

    @property
    def largest_rate(self) -> float:
        return float(np.max([self.out.max(initial=0.0), self.losses.max(initial=0.0)]))

    def factors(self, *, extended: bool) -> Factors:
        """Eliminate, once it is known that there is room."""
        needed = numbers_needed(self.plan, self.threads) * (BYTES_PER_NUMBER + (4.0 if extended else 0.0))
        _refuse_beyond_memory(self.generator.grid, needed + BYTES_PER_CELL * self.losses.size)
        return factors(self.plan, self.out, self.into, self.losses, self.threads, extended)

    def refuse_closed(self) -> None:
        """Raise RunError when there is a cell that probability cannot leave for good."""
        edges, plan, size = self.generator.edges, self.plan, self.plan.cells.size
        leaving = plan.numbers[self.losses > 0.0]
        onward, back = edges.forward > 0.0, edges.backward > 0.0
        heads = np.concatenate([np.full(leaving.size, size), edges.end[onward], edges.origin[back]])
        tails = np.concatenate([leaving, edges.origin[onward], edges.end[back]])
        links = sparse.csr_array((np.ones(heads.size), (heads, tails)), shape=(size + 1, size + 1))
        stuck = plan.cells.copy()
        reached = sparse.csgraph.breadth_first_order(links, size, return_predecessors=False)
        stuck[reached[1:]] = False
        if stuck.any():
            found = f"probability cannot get out from {self.generator.grid.place(int(np.argmax(stuck)))}"
            raise RunError("linear solve", found, "Every cell must be joined to a way out", "")


def _left_out(generator: Generator, chosen: BoolArray) -> FloatArray:
    """Rates from every cell of a mask to cells outside it, (cells,)."""
    if not (generator.active & ~chosen).any():  # edges join active cells only
        return np.zeros(generator.grid.size)
    edges, size = generator.edges, generator.grid.size
    onward, back = chosen[edges.origin] & ~chosen[edges.end], chosen[edges.end] & ~chosen[edges.origin]
    total: FloatArray = np.bincount(edges.origin[onward], edges.forward[onward], minlength=size).astype(np.float64)
    total += np.bincount(edges.end[back], edges.backward[back], minlength=size)
    return total


def memory_needed(grid: Grid) -> float:
    """Estimate of the memory [bytes] that a direct solve on this grid takes."""
    factor, power = NUMBERS_PER_CELL[_wide_axes(grid)]
    cells = float(grid.size)
    return cells * (BYTES_PER_CELL + BYTES_PER_NUMBER * factor * cells**power)


def seconds_needed(grid: Grid) -> float:
    """Estimate of the time [s] that one factorisation on this grid takes."""
    factor, power = SECONDS[_wide_axes(grid)]
    return factor * float(grid.size) ** power


def seconds_to_solve(grid: Grid) -> float:
    """Estimate of the time [s] that one solve with the factors takes."""
    factor, power = NUMBERS_PER_CELL[_wide_axes(grid)]
    return float(SECONDS_PER_NUMBER * factor * float(grid.size) ** (1.0 + power))


def _wide_axes(grid: Grid) -> int:
    return sum(axis.cells > 1 for axis in grid.axes)


@cache
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
    _refuse_beyond_memory(grid, memory_needed(grid))


def _refuse_beyond_memory(grid: Grid, needed: float) -> None:
    """Raise CaseError when the memory needed [bytes] is more than this machine has."""
    available = memory_of_machine()
    if needed > available:
        shape = " x ".join(str(axis.cells) for axis in grid.axes)
        share, usual = 0.9, memory_needed(grid)
        while memory_needed(_shrunk(grid, share)) * needed > usual * available:
            share *= 0.9
        suggested = " x ".join(str(axis.cells) for axis in _shrunk(grid, share).axes)
        raise CaseError(
            "grid",
            f"{shape} cells need about {needed / 2**30:.3g} GiB",
            f"This machine has {available / 2**30:.3g} GiB",
            f"Use about {suggested} cells",
        )


def _shrunk(grid: Grid, share: float) -> Grid:
    """A coarser box; the domain does not count here."""
    axes = {axis.name: replace(axis, cells=max(1, int(share * axis.cells))) for axis in grid.axes}
    return Grid(grid.frame, domain=None, **axes)
