"""The factors of a chain: eliminated on one thread or two, in doubles or in numbers of any range."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TypeAlias

import numpy as np

from fpsolve.model.grid import FloatArray, IntArray
from fpsolve.solve import fronts, sweep
from fpsolve.solve.arithmetic import paired, unpaired
from fpsolve.solve.extended import Extended
from fpsolve.solve.ordering import Plan, Tree
from fpsolve.solve.products import DGEMM, one_blas_thread

# In the layout of `fronts`, or `sweep` for a line: doubles, or a pair of arrays as in `arithmetic`.
Factors: TypeAlias = FloatArray | tuple[FloatArray, IntArray]


def factors(plan: Plan, out: FloatArray, into: FloatArray, losses: FloatArray, threads: int, extended: bool) -> Factors:
    """Eliminate a chain: rates to and from the neighbours of plan.graph, and losses in the plan's order.

    With two threads each takes one of the root's two subtrees; BLAS stays on the thread that calls it.
    """
    if plan.line:
        made = _blank(plan.entries, extended)
        sweep.factorise(out, _values(losses, extended), losses.size, made)
        return made
    return _of_fronts(plan, out, into, losses, threads, extended)


def solve(plan: Plan, made: Factors, values: Factors, several: int, *, adjoint: bool) -> None:
    """Solve forwards or backwards in place; values: (several * cells,) of the factors' kind, in the plan's order."""
    if plan.line:
        given, taken = (sweep.BACK, sweep.ONWARD) if adjoint else (sweep.ONWARD, sweep.BACK)
        sweep.solve(made, values, plan.numbers.size, several, given, taken)
    elif adjoint:
        fronts.solve_function(plan.tree, made, values, several)
    else:
        fronts.solve_probability(plan.tree, made, values, several)


def _of_fronts(
    plan: Plan, out: FloatArray, into: FloatArray, losses: FloatArray, threads: int, extended: bool
) -> Factors:
    tree, top = plan.tree, plan.tree.left.size - 1
    pieces = _pieces(tree, threads)
    ends = np.cumsum([0] + [fronts.room_needed(tree, *piece) for piece in pieces])
    made, work = _blank(plan.entries, extended), _blank(int(ends[-1]), extended)
    remainder = np.empty(top + 1, dtype=np.int64)

    def eliminate(loss: Factors, number: int, first: int, last: int) -> Factors:
        span = ends[number : number + 2]
        fronts.factorise(tree, plan.graph, out, into, loss, made, work, span, remainder, first, last, DGEMM)
        return loss

    with one_blas_thread():
        if len(pieces) == 1:
            eliminate(_values(losses, extended), 0, *pieces[0])
            return made
        below = np.where(np.arange(losses.size) < tree.start[top], losses, 0.0)
        with ThreadPoolExecutor(len(pieces)) as pool:
            tasks = [
                pool.submit(eliminate, _values(own, extended), number, *pieces[number])
                for number, own in enumerate((losses, below))
            ]
            both = _sum(*(task.result() for task in tasks))
        eliminate(both, 0, top, top + 1)
    return made


def numbers_needed(plan: Plan, threads: int) -> int:
    """How many numbers the factors and the remainders under way take."""
    if plan.line:
        return plan.entries
    return plan.entries + sum(fronts.room_needed(plan.tree, *piece) for piece in _pieces(plan.tree, threads))


def _pieces(tree: Tree, threads: int) -> list[tuple[int, int]]:
    """Fronts that can be eliminated at the same time, as ranges: all, or those on either side of the root."""
    left, right = int(tree.left[-1]), int(tree.right[-1])
    return [(0, tree.left.size)] if threads == 1 or right < 0 else [(0, left + 1), (left + 1, right + 1)]


def _blank(count: int, extended: bool) -> Factors:
    return (np.empty(count), np.empty(count, dtype=np.int32)) if extended else np.empty(count)


def _values(numbers: FloatArray, extended: bool) -> Factors:
    return paired(Extended.of(numbers)) if extended else numbers.copy()


def _sum(one: Factors, other: Factors) -> Factors:
    if isinstance(one, tuple) and isinstance(other, tuple):
        return paired(unpaired(one) + unpaired(other))
    return np.add(one, other)
