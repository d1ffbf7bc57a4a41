"""Edges between cells, with the rates at which probability hops along them, forward and backward.

Selling's decomposition gives each cell weighted offsets; an offset that stays inside makes an *edge*, one that
crosses an absorbing surface makes an *exit*, cut where it crosses. Along an edge the equation is one-dimensional:

          origin                        end
        ----o--------------|--------------o----        phi(s) = integral of beta along the edge, Z = phi(1)
            s = 0         1/2         s = 1

    current = forward p(origin) - backward p(end),     forward / backward = exp(Z)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import numpy as np

from fpsolve.discretise import kernels
from fpsolve.discretise.exponents import exponents, sample
from fpsolve.discretise.lattice import lattice
from fpsolve.discretise.selling import LONGEST_OFFSET
from fpsolve.model.grid import BoolArray, FloatArray, IntArray
from fpsolve.model.problem import Problem


@final
@dataclass(frozen=True, slots=True)
class Edges:
    """Pairs of cells that exchange probability.

    origin, end: flat cell numbers, (edges,); kind: row of `offsets`, (edges,); offsets: (kinds, axes), in cells,
    from origin to end; weight: mean weight of the decomposition [1/time]; exponent: Z; forward, backward: rates
    [1/time], non-negative. unresolved: edges whose exponent did not stop changing under refinement.
    """

    origin: IntArray
    end: IntArray
    kind: IntArray
    offsets: IntArray
    weight: FloatArray
    exponent: FloatArray
    forward: FloatArray
    backward: FloatArray
    unresolved: int

    def select(self, kept: BoolArray) -> Edges:
        """The edges of a mask."""
        return replace(
            self,
            origin=self.origin[kept],
            end=self.end[kept],
            kind=self.kind[kept],
            weight=self.weight[kept],
            exponent=self.exponent[kept],
            forward=self.forward[kept],
            backward=self.backward[kept],
        )

    @property
    def displacement(self) -> IntArray:
        """Offset of every edge, (edges, axes) [cells]."""
        return self.offsets[self.kind]


@final
@dataclass(frozen=True, slots=True)
class Exits:
    """Ways out of the chain: edges cut where they cross an absorbing wall or the surface of a target.

    cell: (exits,); displacement: (exits, axes), the whole edge in cells; fraction: the part of it up to the
    surface, in (0, 1]; rate [1/time]; gate: row of `gates`, the names of the surfaces ("x_max", "target", ...).
    """

    cell: IntArray
    displacement: IntArray
    fraction: FloatArray
    rate: FloatArray
    gate: IntArray
    gates: tuple[str, ...]

    def select(self, kept: BoolArray) -> Exits:
        """The exits of a mask."""
        return Exits(
            self.cell[kept], self.displacement[kept], self.fraction[kept], self.rate[kept], self.gate[kept], self.gates
        )

    def joined(self, other: Exits) -> Exits:
        """These and others, gates side by side."""
        return Exits(
            np.concatenate([self.cell, other.cell]),
            np.concatenate([self.displacement, other.displacement]),
            np.concatenate([self.fraction, other.fraction]),
            np.concatenate([self.rate, other.rate]),
            np.concatenate([self.gate, other.gate + len(self.gates)]),
            self.gates + other.gates,
        )


@final
@dataclass(frozen=True, slots=True)
class Cuts:
    """Where edges are to be cut: from cell along displacement, (cuts, axes), at fraction, leading to a gate."""

    cell: IntArray
    displacement: IntArray
    fraction: FloatArray
    weight: FloatArray
    gate: IntArray
    gates: tuple[str, ...]


def build_edges(problem: Problem, curvature: FloatArray) -> tuple[Edges, Exits]:
    """All edges of a problem, sorted by origin, and the exits through its absorbing walls.

    An edge's weight is the mean of its two cells' weights for that offset; weights of one cell only would be
    first order where the diffusion varies. curvature: see exponents.local_shape.
    """
    entries = lattice(problem)
    offsets, kind = _kinds(entries.offsets)
    order = np.argsort(kind, kind="stable")
    bounds = np.searchsorted(kind[order], np.arange(len(offsets) + 1))
    inner, outer = [], []
    for number, offset in enumerate(offsets):
        mine = order[bounds[number] : bounds[number + 1]]
        weights = np.bincount(entries.cells[mine], entries.weights[mine], minlength=problem.grid.size)
        origin, end, mean = _pairs(problem, offset, weights)
        inner.append((origin, end, np.full(origin.size, number), mean))
        outer += [_leaving(problem, sign * offset, weights) for sign in (1, -1)]
    origin, end, kind, weight = (np.concatenate(column) for column in zip(*inner, strict=True))
    order = np.argsort(origin, kind="stable")
    edges = _with_rates(problem, curvature, origin[order], end[order], kind[order], offsets, weight[order])
    cells, displacement, weight = (np.concatenate(column) for column in zip(*outer, strict=True))
    return edges, cut_exits(problem, curvature, _wall_cuts(problem, cells, displacement, weight))


def _kinds(offsets: IntArray) -> tuple[IntArray, IntArray]:
    """The distinct offsets, (kinds, axes), and the number of each entry's own."""
    base = 2 * LONGEST_OFFSET + 1
    codes = np.zeros(offsets.shape[1], dtype=np.int64)
    for row in offsets:
        codes = codes * base + (row + LONGEST_OFFSET)
    _, first, kind = np.unique(codes, return_index=True, return_inverse=True)
    return offsets[:, first].T, kind


def _pairs(problem: Problem, offset: IntArray, weights: FloatArray) -> tuple[IntArray, IntArray, FloatArray]:
    """Origin, end and mean weight of the edges along one offset."""
    end, inside = problem.grid.neighbours(offset)
    mean = np.where(inside, 0.5 * (weights + weights[end]), 0.0)
    origin = np.flatnonzero((mean > 0.0) & (end != np.arange(end.size)))
    return origin, end[origin], mean[origin]


def _leaving(problem: Problem, offset: IntArray, weights: FloatArray) -> tuple[IntArray, IntArray, FloatArray]:
    """Cell, offset and weight where an offset leaves the box."""
    cells = np.flatnonzero((weights > 0.0) & ~problem.grid.neighbours(offset)[1])
    return cells, np.repeat(offset[None, :], cells.size, axis=0), weights[cells]


def _with_rates(
    problem: Problem,
    curvature: FloatArray,
    origin: IntArray,
    end: IntArray,
    kind: IntArray,
    offsets: IntArray,
    weight: FloatArray,
) -> Edges:
    start = problem.grid.indices().astype(np.float64)
    at_cells = sample(problem, start)
    steps = offsets[kind].T.astype(np.float64)
    sides = (at_cells.take(origin), at_cells.take(end))
    whole, half, unresolved = exponents(problem, start[:, origin], steps, sides)
    bend = 0.5 * (_along(curvature[..., origin], steps) + _along(curvature[..., end], steps))
    forward, backward = _rates(weight, whole, half, bend)
    return Edges(origin, end, kind, offsets, weight, whole, forward, backward, unresolved)


def _wall_cuts(problem: Problem, cells: IntArray, displacement: IntArray, weight: FloatArray) -> Cuts:
    """Offsets that leave through an absorbing wall, cut there; those that meet another wall first are dropped."""
    grid = problem.grid
    fraction = np.full(cells.size, np.inf)
    gate = np.full(cells.size, -1)
    gates: list[str] = []
    for axis, row, steps in zip(grid.axes, grid.index_of(cells), displacement.T, strict=True):
        for side, wall in enumerate(axis.walls):
            distance = (row + 0.5, axis.cells - 0.5 - row)[side]
            leaves = (steps < 0, steps > 0)[side] & (wall != "periodic")
            crossing = np.where(leaves, distance / np.maximum(np.abs(steps), 1), np.inf)
            gate = np.where(crossing < fraction, len(gates) if wall == "absorbing" else -1, gate)
            fraction = np.minimum(crossing, fraction)
            if wall == "absorbing":
                gates.append(f"{axis.name}_{('min', 'max')[side]}")
    kept = gate >= 0
    return Cuts(cells[kept], displacement[kept], fraction[kept], weight[kept], gate[kept], tuple(gates))


def cut_exits(problem: Problem, curvature: FloatArray, cuts: Cuts) -> Exits:
    """Exits from cuts: rate = weight / fraction * conductance of the part up to the cut."""
    start = problem.grid.index_of(cuts.cell).astype(np.float64)
    steps = cuts.displacement.T * cuts.fraction
    whole, half, _ = exponents(problem, start, steps)
    rate, _ = _rates(cuts.weight / cuts.fraction, whole, half, _along(curvature[..., cuts.cell], steps))
    return Exits(cuts.cell, cuts.displacement, cuts.fraction, rate, cuts.gate, cuts.gates)


def _rates(weight: FloatArray, whole: FloatArray, half: FloatArray, bend: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Forward and backward rates [1/time] of edges; see kernels.log_conductance for the formula."""
    forward, backward = np.empty_like(weight), np.empty_like(weight)
    kernels.rates(weight, whole, half, bend, forward, backward)
    return forward, backward


def _along(matrices: FloatArray, steps: FloatArray) -> FloatArray:
    """Step . matrix . step for each edge."""
    return np.einsum("ijp,ip,jp->p", matrices, steps, steps)
