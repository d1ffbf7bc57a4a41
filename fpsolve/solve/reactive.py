"""Transitions between regions of a chain at rest: which was visited last, which comes next, and how often.

(E & Vanden-Eijnden, J. Stat. Phys. 123, 503 (2006); for chains Metzner, Schuette & Vanden-Eijnden 2009.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError
from fpsolve.model.grid import BoolArray, FloatArray, IntArray
from fpsolve.model.region import Region
from fpsolve.solve.elimination import WIDEST_SOURCE, Resolvent
from fpsolve.solve.extended import Extended
from fpsolve.solve.passage import absorbed, outflow
from fpsolve.solve.stationary import Rest

WHERE = "transition path"
REMEDY_APART = "Shrink them or refine the grid"


@final
@dataclass(frozen=True)
class Reactive:
    """A chain without losses at rest, seen from several disjoint regions.

    generator: the chain absorbed in the regions, one gate for each; owner: number of the region that a cell belongs
    to, -1 for the cells between, (cells,); rest: probability at rest of every cell, (cells,); reversible: whether it
    carries no current; entry: probability per time that enters the chain along every exit from the surface at its
    end, at rest, (exits,).
    """

    generator: Generator
    resolvent: Resolvent
    owner: IntArray
    rest: Extended
    reversible: bool
    entry: Extended

    @classmethod
    def of(cls, generator: Generator, regions: Sequence[Region], rest: Rest) -> Reactive:
        """Cut the chain at the surfaces of the regions, and factorise.

        Raises CaseError where probability can leave the chain, or when a region holds no cell, or two of them meet.
        """
        if not generator.closed:
            gates = ", ".join(generator.exits.gates)
            raise CaseError(WHERE, f"probability leaves through {gates}", "It needs walls without loss", "")
        levels = refuse_meeting(generator, regions, WHERE)
        killed = absorbed(generator, regions, WHERE)
        gone = generator.active & ~killed.active  # with the cells at the very surface
        owner = np.where(gone, np.argmax(levels, axis=0), -1)
        _check_apart(generator, regions, owner, WHERE)
        probability = Extended.exp(rest.log_probability)
        killed, entry = _entered(generator, killed, probability)
        chain = cls(killed, Resolvent.of(killed, 0.0), owner, probability, rest.reversible, entry)
        if chain.largest_contrast > WIDEST_SOURCE:
            return replace(chain, resolvent=Resolvent.of(killed, 0.0, extended=True))
        return chain

    @property
    def largest_contrast(self) -> int:
        """Powers of two between returns to a region and transitions to another: what the solves have to hold."""
        exponents = [self.flux(number).exponent for number in range(len(self.generator.exits.gates))]
        return max(int(row.max() - row.min()) for row in exponents)

    def committor(self, number: int) -> Extended:
        """Probability to reach this region before the others, from every cell, (cells,): 1 inside it."""
        exits = self.generator.exits
        into = Extended.of(np.where(exits.gate == number, exits.rate, 0.0))
        between = self.resolvent.solve_adjoint(into.collected(exits.cell, self.owner.size))
        return between + (self.owner == number).astype(np.float64)

    def backward_committor(self, number: int) -> Extended:
        """Probability to have visited this region later than the others, at rest, (cells,): 1 inside it.

        It is the committor of the chain run backwards in time, whose rates from j to i are  f P_i / P_j;  that of
        the chain itself where no current flows at rest. A quotient of `last_visited` would be lost far up a wall.
        Cells so far up that the rates to them are below all floating-point numbers keep their own rates.
        """
        if self.reversible:
            return self.committor(number)
        edges, exits = self.generator.edges, self.generator.exits
        ahead, behind, beside = (self.rest[cells] for cells in (edges.end, edges.origin, exits.cell))

        def rate(flow: Extended, held: Extended, own: FloatArray) -> FloatArray:
            return np.where(held.mantissa > 0.0, flow.share_of(held).floats(), own)

        forward = rate(ahead * edges.backward, behind, edges.forward)
        backward = rate(behind * edges.forward, ahead, edges.backward)
        turned = replace(edges, forward=forward, backward=backward)
        out = replace(exits, rate=rate(self.entry, beside, exits.rate))
        chain = replace(self.generator, edges=turned, exits=out)
        return replace(self, generator=chain, resolvent=Resolvent.of(chain, 0.0)).committor(number)

    def last_visited(self, number: int) -> Extended:
        """Probability at rest to be in a cell and to have visited this region last, (cells,); all that is inside it.

        The sum over the regions is the probability at rest.
        """
        return self.resolvent.solve(self.source(number)) + self.rest * (self.owner == number).astype(np.float64)

    def source(self, number: int) -> Extended:
        """Probability per time that enters every cell from the surface of a region, at rest, (cells,)."""
        exits = self.generator.exits
        out = self.entry * (exits.gate == number).astype(np.float64)
        return out.collected(exits.cell, self.owner.size)

    def flux(self, number: int) -> Extended:
        """Transitions per time, at rest, from this region to each of them, (regions,); to itself: returns."""
        return outflow(self.generator, self.resolvent.solve(self.source(number)))


def _entered(generator: Generator, killed: Generator, rest: Extended) -> tuple[Generator, Extended]:
    """The chain, and the probability per time that comes back along every exit, at rest, (exits,).

    An edge with rates f (outwards into the region) and b (back) was cut to an exit of rate k. The current that it
    carries at rest stays the same when  k P_outer - entry = f P_outer - b P_inner,  so

        entry = (k - f) P_outer + b P_inner;      k P_outer where the edge is in balance.

    A part has less resistance than the whole, k >= f. Where a potential that the grid does not resolve says otherwise
    the exit gets the rate f of the whole edge, so that the balance holds on any grid.
    """
    edges, exits = generator.edges, killed.exits
    gone = generator.active & ~killed.active
    inward = gone[edges.end]
    (cut,) = np.nonzero(gone[edges.origin] != inward)  # the exits are in the order of the edges
    inward = inward[cut]
    origin, end, forward, backward = edges.origin[cut], edges.end[cut], edges.forward[cut], edges.backward[cut]
    outer, inner = np.where(inward, origin, end), np.where(inward, end, origin)
    out, back = np.where(inward, forward, backward), np.where(inward, backward, forward)
    assert (outer == exits.cell).all()
    rate = np.maximum(exits.rate, out)
    entry = rest[outer] * (rate - out) + rest[inner] * back
    return replace(killed, exits=replace(exits, rate=rate)), entry


def refuse_meeting(generator: Generator, regions: Sequence[Region], where: str) -> FloatArray:
    """Raise CaseError where two regions share cells or have none between them; the levels, (regions, cells)."""
    levels = np.array([region.level(generator.grid.positions()) for region in regions])
    refuse_overlap(regions, levels, where)
    held = (levels > 0.0).any(axis=0) & generator.active
    _check_apart(generator, regions, np.where(held, np.argmax(levels, axis=0), -1), where)
    return levels


def refuse_overlap(regions: Sequence[Region], levels: FloatArray, where: str) -> None:
    """Raise CaseError where two regions share cells; levels: of each in every cell, (regions, cells)."""
    twice: BoolArray = (levels > 0.0).sum(axis=0) > 1
    if twice.any():
        first, second = np.flatnonzero(levels[:, int(np.argmax(twice))] > 0.0)[:2]
        found = f"{regions[first].name!r} and {regions[second].name!r} share {int(twice.sum())} cells"
        raise CaseError(where, found, "The regions must be disjoint", REMEDY_APART)


def _check_apart(generator: Generator, regions: Sequence[Region], owner: IntArray, where: str) -> None:
    """Between two regions there must be cells: an edge from one to the other would be lost."""
    one, other = owner[generator.edges.origin], owner[generator.edges.end]
    (meeting,) = np.nonzero((one >= 0) & (other >= 0) & (one != other))
    if meeting.size:
        first, second = one[meeting[0]], other[meeting[0]]
        found = f"no cell lies between {regions[first].name!r} and {regions[second].name!r}"
        raise CaseError(where, found, "The grid must tell the regions apart", REMEDY_APART)
