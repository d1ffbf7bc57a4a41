"""The density at rest: Q P = 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
import scipy.sparse as sparse
from scipy.sparse.csgraph import connected_components

from fpsolve.discretise import kernels
from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError, RunError
from fpsolve.model.grid import FloatArray
from fpsolve.solve.elimination import Resolvent
from fpsolve.solve.extended import Extended

# Edges disagree with a potential by rounding only (of sums along paths) when the chain is reversible.
REVERSIBLE_ROUNDING = 1e-11
# What flows into a cell and out of it may differ by rounding, relative to the flow.
LARGEST_IMBALANCE = 1e-9
# Logarithm of the smallest probability, relative to the largest, up to which plain doubles hold all digits on the way.
LEAST_LOGARITHM = -600.0


@final
@dataclass(frozen=True, slots=True)
class Rest:
    """The chain at rest.

    probability: (cells,), non-negative, sums to one; log_probability: its natural logarithm, also where it is below
    all floating-point numbers. reversible: whether every current is zero (detailed balance).
    """

    probability: FloatArray
    log_probability: FloatArray
    reversible: bool


def stationary(generator: Generator) -> Rest:
    """Probability of every cell at rest.

    A chain is reversible when the exponents of its edges are differences of one potential (Kolmogorov 1936); then
    P = exp(potential), to rounding. Otherwise one cell is held at 1 and the others follow by elimination, every one
    of them to rounding too, whatever the barrier. Raises CaseError where probability can leave, or where the domain
    falls apart; RunError where cells
    cannot be reached or left, or where the flows do not balance.
    """
    if not generator.closed:
        gates = ", ".join(generator.exits.gates)
        raise CaseError("stationary", f"probability leaves through {gates}", "A density at rest needs closed walls", "")
    generator.refuse_pieces()
    if not np.isfinite(generator.edges.exponent).all():
        return by_elimination(generator, _recurrent_cell(generator))
    potential, mismatch = _potential(generator)
    if _agree(potential, mismatch):
        return _normalised(potential, True)
    return by_elimination(generator, int(np.argmax(potential)))


def is_reversible(generator: Generator) -> bool:
    """Whether the exponents of the edges are differences of one potential."""
    if not np.isfinite(generator.edges.exponent).all():
        return False  # some edges lead one way only
    return _agree(*_potential(generator))


def _recurrent_cell(generator: Generator) -> int:
    """A cell of the one set of cells that is never left, where some edges lead one way only.

    Raises RunError where there are several: what is at rest then depends on the start.
    """
    edges, size = generator.edges, generator.grid.size
    tail = np.concatenate([edges.origin[edges.forward > 0.0], edges.end[edges.backward > 0.0]])
    head = np.concatenate([edges.end[edges.forward > 0.0], edges.origin[edges.backward > 0.0]])
    graph = sparse.csr_matrix((np.ones(tail.size), (tail, head)), shape=(size, size))
    count, label = connected_components(graph, directed=True, connection="strong")
    closed = np.ones(count, dtype=np.bool_)
    closed[label[tail][label[tail] != label[head]]] = False
    if closed.sum() > 1:
        cells = [generator.grid.place(int(np.argmax(label == number))) for number in np.flatnonzero(closed)[:2]]
        found = f"what is in {cells[0]} and what is in {cells[1]} never meet: there are {closed.sum()} states at rest"
        raise RunError("stationary", found, "Where nothing diffuses, rest depends on the start", "Use [evolve]")
    return int(np.argmax(closed[label]))


def _agree(potential: FloatArray, mismatch: float) -> bool:
    return bool(mismatch <= REVERSIBLE_ROUNDING * (1.0 + np.ptp(potential[potential > -np.inf])))


def _potential(generator: Generator) -> tuple[FloatArray, float]:
    """Sum of the exponents along a spanning tree, (cells,), and the largest disagreement of any other edge.

    The tree is grown twice, the second time from the highest cell, so that rounding is least where P is largest.
    Minus infinity in cells that hold nothing.
    """
    edges, size, active = generator.edges, generator.grid.size, generator.active
    tail = np.concatenate([edges.origin, edges.end])
    order = np.argsort(tail, kind="stable")
    first = np.searchsorted(tail[order], np.arange(size + 1))
    head = np.concatenate([edges.end, edges.origin])[order]
    rise = np.concatenate([edges.exponent, -edges.exponent])[order]
    root = int(np.argmax(active))
    for _ in range(2):
        potential = np.full(size, np.nan)
        reached = kernels.grow_tree(first, head, rise, root, potential)
        if reached < active.sum():
            cell = generator.grid.place(int(np.argmax(np.isnan(potential) & active)))
            raise RunError("stationary", f"{cell} cannot be reached from {generator.grid.place(root)}", "", "")
        potential[~active] = -np.inf
        root = int(np.argmax(potential))
    mismatch = np.abs(potential[edges.end] - potential[edges.origin] - edges.exponent)
    return potential, float(mismatch.max(initial=0.0))


def _normalised(logarithm: FloatArray, reversible: bool) -> Rest:
    """The state at rest whose probabilities have these logarithms, up to a common constant."""
    above = logarithm - logarithm.max()
    total = np.exp(above).sum()
    return Rest(np.exp(above) / total, above - np.log(total), reversible)


def by_elimination(generator: Generator, held: int) -> Rest:
    """Probability of every cell at rest of any closed chain: one cell is held at 1, and the others follow.

    In numbers of any range where some are very improbable. Raises RunError as `stationary` does.
    """
    rest = _normalised(_held(generator, held, extended=False), False)
    if rest.log_probability[generator.active].min() - rest.log_probability.max() < LEAST_LOGARITHM:
        rest = _normalised(_held(generator, held, extended=True), False)
    flow = generator.departure * rest.probability
    imbalance = np.abs(generator.apply(rest.probability)).max() / max(flow.max(), np.finfo(np.float64).tiny)
    if not imbalance <= LARGEST_IMBALANCE:
        found = f"what flows into a cell and out of it differ by {imbalance:.1e} of the largest flow"
        raise RunError("stationary", found, f"At most {LARGEST_IMBALANCE:.0e} is accepted", "")
    return rest


def _held(generator: Generator, held: int, extended: bool) -> FloatArray:
    """Logarithm of the solution of Q P = 0 with P = 1 in the held cell, (cells,)."""
    others = generator.active.copy()
    others[held] = False
    coming = np.where(others, generator.apply(np.where(others, 0.0, 1.0)), 0.0)
    logarithm = Resolvent.of(generator, 0.0, others, extended=extended).solve(Extended.of(coming)).log()
    logarithm[held] = 0.0
    return logarithm
