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
from fpsolve.discretise.exponents import LocalShape, exponents, sample
from fpsolve.discretise.lattice import lattice, meets_absorbing, wall_crossings
from fpsolve.discretise.selling import LONGEST_OFFSET
from fpsolve.errors import CaseError
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
    surface, in (0, 1]; rate [1/time]; axis: of the wall, -1 for a target; gate: row of `gates`, the names of the
    surfaces ("x_max", or the name of the region); unresolved: as for Edges.
    """

    cell: IntArray
    displacement: IntArray
    fraction: FloatArray
    rate: FloatArray
    axis: IntArray
    gate: IntArray
    gates: tuple[str, ...]
    unresolved: int

    def select(self, kept: BoolArray) -> Exits:
        """The exits of a mask."""
        return replace(
            self,
            cell=self.cell[kept],
            displacement=self.displacement[kept],
            fraction=self.fraction[kept],
            rate=self.rate[kept],
            axis=self.axis[kept],
            gate=self.gate[kept],
        )

    def joined(self, other: Exits) -> Exits:
        """These and others, gates side by side."""
        return Exits(
            np.concatenate([self.cell, other.cell]),
            np.concatenate([self.displacement, other.displacement]),
            np.concatenate([self.fraction, other.fraction]),
            np.concatenate([self.rate, other.rate]),
            np.concatenate([self.axis, other.axis]),
            np.concatenate([self.gate, other.gate + len(self.gates)]),
            self.gates + other.gates,
            self.unresolved + other.unresolved,
        )


@final
@dataclass(frozen=True, slots=True)
class Cuts:
    """Where edges are to be cut; as Exits, with a weight in place of the rate."""

    cell: IntArray
    displacement: IntArray
    fraction: FloatArray
    weight: FloatArray
    axis: IntArray
    gate: IntArray
    gates: tuple[str, ...]


def build_edges(problem: Problem, shape: LocalShape) -> tuple[Edges, Exits]:
    """All edges of a problem, sorted by origin, and the exits through its absorbing walls.

    An edge's weight is the mean of its two cells' weights for that offset; weights of one cell only would be
    first order where the diffusion varies. shape: see exponents.local_shape.
    """
    entries = lattice(problem)
    offsets, kind = _kinds(entries.offsets)
    order = np.argsort(kind, kind="stable")
    bounds = np.searchsorted(kind[order], np.arange(len(offsets) + 1))
    inner, outer = [], []
    for number, offset in enumerate(offsets):
        mine = order[bounds[number] : bounds[number + 1]]
        weights = np.bincount(entries.cells[mine], entries.weights[mine], problem.grid.size).astype(np.float64)
        origin, end, mean = _pairs(problem, offset, weights)
        inner.append((origin, end, np.full(origin.size, number), mean))
        outer += [_leaving(problem, sign * offset, weights) for sign in (1, -1)]
    origin, end, kind, weight = (np.concatenate(column) for column in zip(*inner, strict=True))
    order = np.argsort(origin, kind="stable")
    edges = _with_rates(problem, shape, origin[order], end[order], kind[order], offsets, weight[order])
    cells, displacement, weight = (np.concatenate(column) for column in zip(*outer, strict=True))
    return edges, cut_exits(problem, shape, _wall_cuts(problem, cells, displacement, weight))


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
    shape: LocalShape,
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
    parts = zip(_along(shape, origin, steps), _along(shape, end, steps), strict=True)
    bend, circulating = (0.5 * (near + far) for near, far in parts)
    first, middle, last = (_log_lengths(problem, start[:, origin] + part * steps, steps) for part in (0.0, 0.5, 1.0))
    weight = weight * _within_e(2.0 / (np.exp(middle - first) + np.exp(middle - last)))
    bend = _bounded(bend + whole * (last - first), whole)
    forward, backward = _rates(weight, whole, half, bend, circulating)
    if not (np.isfinite(forward).all() and np.isfinite(backward).all()):
        _refuse_rates(problem, int(origin[np.argmax(~np.isfinite(forward + backward))]))
    return Edges(origin, end, kind, offsets, weight, whole, forward, backward, unresolved)


def _refuse_rates(problem: Problem, cell: int) -> None:
    """A well or barrier so steep that it fits between two cells many times over."""
    found = f"a rate beside {problem.grid.place(cell)} is beyond all numbers"
    required = "A cell must be of the size of the wells and barriers, sqrt(diffusion / curvature of the loss)"
    raise CaseError("grid", found, required, "Use many more cells; fpsolve check says how many")


def _wall_cuts(problem: Problem, cells: IntArray, displacement: IntArray, weight: FloatArray) -> Cuts:
    """Offsets that leave through an absorbing wall, cut there; those that meet another wall first are dropped.

    One that leaves through a corner of two absorbing walls leaves through both, half and half.
    """
    grid = problem.grid
    crossings = wall_crossings(grid, cells, displacement.T)
    first = crossings.min(axis=0)
    out = meets_absorbing(grid, displacement.T) & (crossings == first) & np.isfinite(first)
    axis, entry = np.nonzero(out)
    side = (displacement[entry, axis] > 0).astype(np.int64)
    walls = [(number, end) for number in range(grid.dimensions) for end in (0, 1)]
    walls = [(number, end) for number, end in walls if grid.axes[number].walls[end] == "absorbing"]
    rows = np.full((grid.dimensions, 2), -1)
    for row, wall in enumerate(walls):
        rows[wall] = row
    names = tuple(f"{grid.names[number]}_{('min', 'max')[end]}" for number, end in walls)
    share = weight[entry] / out.sum(axis=0)[entry]
    return Cuts(cells[entry], displacement[entry], first[entry], share, axis, rows[axis, side], names)


def cut_exits(problem: Problem, shape: LocalShape, cuts: Cuts) -> Exits:
    """Exits from cuts: rate = weight / fraction * conductance of the part up to the cut (the cell's own shape)."""
    start = problem.grid.index_of(cuts.cell).astype(np.float64)
    steps = cuts.displacement.T * cuts.fraction
    whole, half, unresolved = exponents(problem, start, steps)
    # The weight is that of the whole edge midway, or at a wall, beyond which there is nothing, that of the cell.
    known = start + np.where(cuts.axis < 0, 0.5, 0.0) * cuts.displacement.T
    first, wanted, last = (_log_lengths(problem, start + part * steps, steps) for part in (0.0, 0.5, 1.0))
    weight = cuts.weight * _within_e(np.exp(_log_lengths(problem, known, steps) - wanted)) / cuts.fraction
    bend, circulating = _along(shape, cuts.cell, steps)
    bend = _bounded(bend + whole * (last - first), whole)
    rate, _ = _rates(weight, whole, half, bend, circulating)
    if not np.isfinite(rate).all():
        _refuse_rates(problem, int(cuts.cell[np.argmax(~np.isfinite(rate))]))
    return Exits(cuts.cell, cuts.displacement, cuts.fraction, rate, cuts.axis, cuts.gate, cuts.gates, unresolved)


def _rates(weight: FloatArray, *exponent: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Forward and backward rates [1/time] of edges; see kernels.log_conductance for the formula and its arguments."""
    forward, backward = np.empty_like(weight), np.empty_like(weight)
    kernels.rates(weight, *exponent, forward, backward)
    return forward, backward


def _log_lengths(problem: Problem, index: FloatArray, steps: FloatArray) -> FloatArray:
    """ln(step . D^-1 step) at index coordinates (axes, edges), D in index units, (edges,); 0 where all are equal.

    The squared length of a step as diffusion measures it: weights vary along an edge as 1 / length**2, by the map of
    an axis and by D alike. They change their offsets from place to place; the length does not. Two things keep the
    error of a barrier as small as for constant D on equal cells, far below second order: the weight midway in place
    of the mean of both ends, and curvature + Z (rise of ln length**2); see kernels.log_conductance.
    """
    constant = problem.diffusion.constant
    if problem.grid.even and constant is not None:
        return np.zeros(index.shape[1])
    lengths = problem.grid.stretch(index) * steps
    if constant is not None:
        return np.asarray(np.log((lengths * np.linalg.solve(constant, lengths)).sum(axis=0)))
    matrices = np.moveaxis(problem.diffusion.matrix(problem.grid.positions(index)), -1, 0)
    return np.asarray(np.log((lengths.T * np.linalg.solve(matrices, lengths.T[..., None])[..., 0]).sum(axis=1)))


def _within_e(factor: FloatArray) -> FloatArray:
    """The weight midway over the mean of both ends, as far as it can be trusted.

    Where D dips between two cells that do not see it, as at a floor, the bottom does not make an edge's resistance.
    """
    return np.asarray(np.clip(factor, np.exp(-1.0), np.exp(1.0)))


def _bounded(curvature: FloatArray, whole: FloatArray) -> FloatArray:
    """The curvature where it can be trusted: on the vast cells far out on an axis its differences mean nothing.

    So bounded it changes no rate by more than a factor of e, and none where wells are at least a fifth of a cell wide.
    """
    most = np.maximum(24.0, 4.0 * np.abs(whole))
    return np.clip(curvature, -most, most)


def _along(shape: LocalShape, cells: IntArray, steps: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Step . curvature . step and circulation . step at some cells, (edges,)."""
    bend = np.einsum("ijp,ip,jp->p", shape.curvature[..., cells], steps, steps)
    return bend, np.einsum("ip,ip->p", shape.circulation[:, cells], steps)
