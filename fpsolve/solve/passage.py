"""First passage to a target: how long it takes from everywhere, and where the time is spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import numpy as np

from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError, RunError
from fpsolve.model.fields import FunctionField
from fpsolve.model.grid import FloatArray
from fpsolve.model.region import Region
from fpsolve.solve.elimination import Resolvent
from fpsolve.solve.extended import Extended

# Share of the probability that may get lost between source and exits before a result is refused.
LARGEST_IMBALANCE = 1e-6


@final
@dataclass(frozen=True)
class Passage:
    """First passage out of a chain with exits: one factorisation serves every question.

    Times and populations are of any range (Extended): beside a barrier of height b they differ by exp(b / noise).
    """

    generator: Generator
    resolvent: Resolvent

    @classmethod
    def of(cls, generator: Generator) -> Passage:
        """Factorise the chain absorbed at its target (and absorbing walls)."""
        return cls(generator, Resolvent.of(generator, 0.0))

    @cached_property
    def mean_time(self) -> Extended:
        """Mean first-passage time from every cell, (cells,) [time]: -Q^T tau = 1, tau = 0 on the target."""
        ones = Extended.of(self.generator.active.astype(np.float64))
        return self.resolvent.solve_adjoint(ones)

    @cached_property
    def mean_square_time(self) -> Extended:
        """Mean square of the first-passage time, (cells,) [time**2]: -Q^T s = 2 tau."""
        return self.resolvent.solve_adjoint(self.mean_time * 2.0)

    def population(self, source: FloatArray | Extended) -> Extended:
        """Probability held in every cell while the source [1/time] enters, (cells,): -Q P = source.

        Checked: all that enters leaves. Raises RunError otherwise.
        """
        given = source if isinstance(source, Extended) else Extended.of(source)
        entering = given * self.generator.active.astype(np.float64)
        population = self.resolvent.solve(entering)
        imbalance = relative_difference(outflow(self.generator, population).sum(), entering.sum())
        if not abs(imbalance) <= LARGEST_IMBALANCE:
            found = f"{abs(imbalance):.1e} of the probability that enters does not leave"
            raise RunError("first passage", found, f"At most {LARGEST_IMBALANCE:.0e} may go missing", "")
        return population


def outflow(generator: Generator, population: Extended) -> Extended:
    """Probability per unit time through every gate, (gates,)."""
    exits = generator.exits
    return (population[exits.cell] * exits.rate).collected(exits.gate, len(exits.gates))


def net_flux(generator: Generator, population: Extended, weights: FloatArray) -> Extended:
    """Net probability per unit time out of a region given by its weights, of shape (); see Generator.flux.

    Only edges on its surface count. Each is the difference of its two directions: where the surface runs through a
    well that is nearly at rest, little but rounding is left.
    """
    edges, exits = generator.edges, generator.exits
    (across,) = np.nonzero(weights[edges.origin] != weights[edges.end])
    origin, end = edges.origin[across], edges.end[across]
    there = population[origin] * (edges.forward[across] * (weights[origin] - weights[end]))
    back = population[end] * (edges.backward[across] * (weights[end] - weights[origin]))
    leaving = population[exits.cell] * (exits.rate * weights[exits.cell])
    return there.sum() + back.sum() + leaving.sum()


def relative_difference(found: Extended, wanted: Extended) -> float:
    """The excess of one number over another, found / wanted - 1, both of shape ()."""
    return float((found / wanted).floats()) - 1.0


def absorbed(generator: Generator, regions: Sequence[Region], where: str = "target") -> Generator:
    """The chain absorbed in the union of several regions, with one gate for each.

    An edge is cut where it first enters any of them, and counts for the one that it enters there.

    Raises CaseError when a region holds no cell centre, or all of them together hold every one.
    """
    if len(regions) == 1:
        return generator.killed(regions[0], where)
    for region in regions:
        if not (region.level(generator.grid.positions()) > 0.0)[generator.active].any():
            found = f"the region {region.name!r} holds no cell of the grid"
            raise CaseError(where, found, "It must hold some cells and leave others", "Check its condition")
    killed = generator.killed(union(regions, generator.grid.dimensions), where)
    exits, own = killed.exits, killed.exits.gate == len(killed.exits.gates) - 1
    start = generator.grid.index_of(exits.cell[own]).astype(np.float64)
    cut = generator.grid.positions(start + exits.displacement[own].T * exits.fraction[own])
    gate = exits.gate.copy()
    gate[own] += np.argmax([region.level(cut) for region in regions], axis=0)
    names = tuple(region.name for region in regions)
    return replace(killed, exits=replace(exits, gate=gate, gates=exits.gates[:-1] + names))


def union(regions: Sequence[Region], axes: int) -> Region:
    """All places that lie in any of the regions, named after all of them."""
    if len(regions) == 1:
        return regions[0]
    name = " or ".join(region.name for region in regions)

    def level(*coordinates: FloatArray) -> FloatArray:
        positions = np.array(coordinates)
        return np.max([region.level(positions) for region in regions], axis=0)

    return Region(name, FunctionField(level, (), axes, name))
