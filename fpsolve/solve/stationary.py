"""The density at rest: Q P = 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from fpsolve.discretise import kernels
from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError, RunError
from fpsolve.model.grid import FloatArray
from fpsolve.solve.elimination import REMEDY_TOO_DEEP, Resolvent

# Edges disagree with a potential by rounding only (of sums along paths) when the chain is reversible.
REVERSIBLE_ROUNDING = 1e-11
# Relative change of P by the rounding errors of the elimination up to which it is returned.
LARGEST_SENSITIVITY = 1e-4
MUCH_HEAVIER = 100.0  # times the held cell: then the heaviest cell is held instead
MOST_GUESSES = 4


@final
@dataclass(frozen=True, slots=True)
class Rest:
    """The chain at rest.

    probability: (cells,), non-negative, sums to one. reversible: whether every current is zero (detailed balance).
    """

    probability: FloatArray
    reversible: bool


def stationary(generator: Generator) -> Rest:
    """Probability of every cell at rest.

    A chain is reversible when the exponents of its edges are differences of one potential (Kolmogorov 1936); then
    P = exp(potential), to rounding, whatever the barrier. Otherwise one cell is held at 1 and the others follow by
    elimination. Raises CaseError where probability can leave; RunError when rounding would spoil the result.
    """
    if not generator.closed:
        gates = ", ".join(generator.exits.gates)
        raise CaseError("stationary", f"probability leaves through {gates}", "A density at rest needs closed walls", "")
    potential, mismatch = _potential(generator)
    heaviest = int(np.argmax(potential))
    if mismatch <= REVERSIBLE_ROUNDING * (1.0 + np.ptp(potential)):
        probability = np.exp(potential - potential[heaviest])
        return Rest(probability / probability.sum(), True)
    return Rest(_by_elimination(generator, heaviest), False)


def _potential(generator: Generator) -> tuple[FloatArray, float]:
    """Sum of the exponents along a spanning tree, (cells,), and the largest disagreement of any other edge.

    The tree is grown twice, the second time from the highest cell, so that rounding is least where P is largest.
    """
    edges, size = generator.edges, generator.grid.size
    tail = np.concatenate([edges.origin, edges.end])
    order = np.argsort(tail, kind="stable")
    first = np.searchsorted(tail[order], np.arange(size + 1))
    head = np.concatenate([edges.end, edges.origin])[order]
    rise = np.concatenate([edges.exponent, -edges.exponent])[order]
    root = 0
    for _ in range(2):
        potential = np.full(size, np.nan)
        reached = kernels.grow_tree(first, head, rise, root, potential)
        if reached < size:
            cell = generator.grid.place(int(np.argmax(np.isnan(potential))))
            raise RunError("stationary", f"{cell} cannot be reached from {generator.grid.place(root)}", "", "")
        root = int(np.argmax(potential))
    mismatch = np.abs(potential[edges.end] - potential[edges.origin] - edges.exponent)
    return potential, float(mismatch.max(initial=0.0))


def _by_elimination(generator: Generator, held: int) -> FloatArray:
    """Hold one cell at 1 and solve for the others; again with the heaviest cell when that was a bad guess.

    How much rounding may have changed the result is estimated as if every diagonal were off by its last digit: a
    spurious loss that acts for as long as it takes to come back to the held cell.
    """
    for _ in range(MOST_GUESSES):
        probability, return_time = _held(generator, held)
        held = int(np.argmax(np.abs(probability)))  # of a spoilt solution even the sign may be wrong
        if abs(probability[held]) <= MUCH_HEAVIER:
            break
    mean_rate = generator.departure @ np.abs(probability) / np.abs(probability).sum()
    sensitivity = np.finfo(np.float64).eps * mean_rate * return_time.max()
    lowest = float(probability.min())
    if lowest < 0.0 or return_time.min() < 0.0 or not sensitivity < LARGEST_SENSITIVITY:
        share = "beyond measure" if lowest < 0.0 or return_time.min() < 0.0 else f"by {sensitivity:.1e}"
        found = f"rounding errors may change the density at rest {share} (smallest value {lowest:.1e})"
        raise RunError("stationary", found, f"At most {LARGEST_SENSITIVITY:.0e} is accepted", REMEDY_TOO_DEEP)
    return probability / probability.sum()


def _held(generator: Generator, held: int) -> tuple[FloatArray, FloatArray]:
    """Solution of Q P = 0 with P = 1 in the held cell, and the mean time to get there from every cell."""
    others = np.ones(generator.grid.size, dtype=np.bool_)
    others[held] = False
    resolvent = Resolvent.of(generator, 0.0, others)
    unit = np.where(others, 0.0, 1.0)
    probability = resolvent.solve(np.where(others, generator.apply(unit), 0.0))
    probability[held] = 1.0
    return probability, resolvent.solve_adjoint(others.astype(np.float64))
