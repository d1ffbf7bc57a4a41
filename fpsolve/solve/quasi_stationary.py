"""The quasi-stationary state of a chain that probability leaves: what it is like after a long time, if not empty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from fpsolve.errors import RunError
from fpsolve.solve.elimination import WIDEST_SOURCE, Resolvent
from fpsolve.solve.extended import Extended

# Changes from one iteration to the next, of ln(rate) and of the density in L1, at which it has converged.
CONVERGED = 1e-12
MOST_ITERATIONS = 1000


@final
class SlowConvergenceError(RunError):
    """Two states decay at nearly the same rate, so no single one is what is left."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class QuasiStationary:
    """The slowest mode of decay: -Q P = rate P.

    probability: P, (cells,), >= 0, sums to one; log_time: ln(1 / rate); iterations: solves that it took.
    """

    probability: Extended
    log_time: float
    iterations: int


def quasi_stationary(resolvent: Resolvent, first: Extended, *, adjoint: bool = False) -> QuasiStationary:
    """The slowest mode of the chain that a resolvent at shift 0 belongs to, by inverse iteration (-Q)^-1.

    first: a non-negative state to begin with, (cells,). Every iterate is non-negative and nothing is subtracted, so
    the rate and each entry are right to rounding at any barrier. The error falls at each iteration by the ratio of
    the slowest rate to the next: one or two do when there is a barrier. adjoint: the same of Q^T, its eigenfunction.

    Raises SlowConvergenceError when the two slowest rates are nearly the same.
    """
    state = first / first.sum()
    log_time = np.inf
    for iteration in range(1, MOST_ITERATIONS + 1):
        source = state.narrowed(WIDEST_SOURCE - 20)  # at the next iteration nothing is left of the rest
        moved = resolvent.solve_adjoint(source) if adjoint else resolvent.solve(source)
        total = moved.sum()
        moved, last, log_time = moved / total, log_time, float(total.log())
        change = float(np.abs(moved.floats() - state.floats()).sum())
        state = moved
        if change < CONVERGED and abs(log_time - last) < CONVERGED * max(1.0, abs(log_time)):
            return QuasiStationary(state, log_time, iteration)
    found = f"after {MOST_ITERATIONS} iterations the density still changes by {change:.0e}"
    required = "The slowest mode must decay more slowly than all others"
    raise SlowConvergenceError("quasi-stationary state", found, required, "")
