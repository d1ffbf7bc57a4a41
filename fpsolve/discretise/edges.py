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
from functools import reduce
from typing import Any, TypeAlias, final

import numpy as np

from fpsolve.discretise import kernels
from fpsolve.discretise.exponents import LocalShape, Sample, exponents
from fpsolve.discretise.jumps import jumping_edges, rates_across_jumps
from fpsolve.discretise.lattice import lattice, meets_absorbing, wall_crossings
from fpsolve.discretise.surfaces import cuts_at_domain, first_outside, stays_inside
from fpsolve.errors import CaseError
from fpsolve.model.domain import NAME
from fpsolve.model.grid import BoolArray, FloatArray, Grid, IntArray, in_pieces, pieces
from fpsolve.model.problem import Problem
from fpsolve.model.symmetric import solved

EDGES_AT_A_TIME = 2**15  # what is known about so many edges stays in the processor's cache
TARGET, DOMAIN = -1, -2  # in place of the axis of a wall


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

    def select(self, kept: BoolArray | slice) -> Edges:
        """The edges of a mask, or some in a row."""
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
    surface, in (0, 1]; rate [1/time]; axis: of the wall, TARGET for a target, DOMAIN for the surface of the domain;
    gate: row of `gates`, the names of the surfaces ("x_max", or the name of the region); unresolved: as for Edges.
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


# Origin, end and mean weight of edges, (n,) each.
Pairs: TypeAlias = tuple[IntArray, IntArray, FloatArray]


def build_edges(problem: Problem, at_cells: Sample, shape: LocalShape) -> tuple[Edges, Exits]:
    """All edges of a problem, sorted by origin, and the exits through its absorbing walls.

    An edge's weight is the mean of its two cells' weights for that offset; weights of one cell only would be
    first order where the diffusion varies. at_cells, shape: of this problem, see exponents.
    """
    offsets, inner, outer, times = [], [], [], np.zeros(problem.grid.size, dtype=np.int64)
    open_ = not problem.grid.closed or (problem.grid.domain is not None and problem.grid.domain.wall == "absorbing")
    for offset, weights in lattice(problem):
        offsets.append(offset)
        inner.append(_pairs(problem.grid, offset, weights, times))
        outer += [] if not open_ else [_leaving(problem, sign * offset, weights) for sign in (1, -1)]
    edges = _merged(np.array(offsets), inner, times)
    cuts: list[Cuts] = []
    beyond = [np.concatenate(column) for column in zip(*outer, strict=True)] if outer else []
    if problem.grid.domain is not None:
        edges, beyond, cuts = _within_domain(problem.grid, edges, beyond)
    edges = _with_rates(problem, at_cells, shape, edges)
    cuts = cuts if problem.grid.closed else [_wall_cuts(problem, *beyond), *cuts]
    exits = [cut_exits(problem, shape, some) for some in cuts]
    if not exits:
        nothing, nowhere = np.zeros(0, dtype=np.int64), np.zeros((0, problem.grid.dimensions), dtype=np.int64)
        return edges, Exits(nothing, nowhere, np.zeros(0), np.zeros(0), nothing, nothing, (), 0)
    return edges, reduce(Exits.joined, exits)


def _within_domain(grid: Grid, edges: Edges, beyond: list[Any]) -> tuple[Edges, list[Any], list[Cuts]]:
    """The edges, and the offsets beyond walls, that do not cross the surface of the domain; cuts where it absorbs.

    beyond: cells, offsets (n, axes) and weights, or nothing. A reflecting surface drops what crosses it.
    """
    assert grid.domain is not None
    assert grid.parts is not None
    displacement = edges.displacement
    stays = stays_inside(grid, edges.origin, edges.end, displacement)
    cells = np.concatenate([edges.origin[~stays], edges.end[~stays]])
    steps = np.concatenate([displacement[~stays], -displacement[~stays]])
    crossing = [cells, steps, np.tile(edges.weight[~stays], 2), first_outside(grid, cells, steps.T.astype(np.float64))]
    if beyond:  # up to the wall
        wall = wall_crossings(grid, beyond[0], beyond[1].T).min(axis=0)
        last = wall * first_outside(grid, beyond[0], beyond[1].T * wall)
        leaves = np.isfinite(last)
        crossing = [np.concatenate([one, other[leaves]]) for one, other in zip(crossing, [*beyond, last], strict=True)]
        kept = ~leaves & grid.parts.inside[beyond[0]]
        beyond = [column[kept] for column in beyond]
    if grid.domain.wall != "absorbing":
        return edges.select(stays), beyond, []
    cells, displacement, fraction, weight = cuts_at_domain(grid, *crossing)
    gate = np.zeros(cells.size, dtype=np.int64)
    return edges.select(stays), beyond, [Cuts(cells, displacement, fraction, weight, gate + DOMAIN, gate, (NAME,))]


def _pairs(grid: Grid, offset: IntArray, weights: FloatArray, times: IntArray) -> Pairs:
    """The edges along one offset; times: (cells,), their number is added to."""
    origin, end, mean = np.empty(grid.size, np.int64), np.empty(grid.size, np.int64), np.empty(grid.size)
    more = 3 - grid.dimensions
    moved, box = np.append(offset, np.zeros(more, np.int64)), np.array(grid.shape + (1,) * more)
    periodic = np.array([axis.periodic for axis in grid.axes] + [False] * more)
    count = kernels.pairs(weights, moved, box, periodic, origin, end, mean, times)
    return origin[:count], end[:count], mean[:count]


def _merged(offsets: IntArray, pairs: list[Pairs], times: IntArray) -> Edges:
    """All edges, sorted by origin, without rates; times: how many have each cell as origin."""
    place = np.cumsum(times) - times
    origin, end, kind = np.empty((3, times.sum()), dtype=np.int64)
    weight, exponent, forward, backward = np.empty((4, origin.size))
    for number, some in enumerate(pairs):
        kernels.merge(*some, number, place, origin, end, kind, weight)
    return Edges(origin, end, kind, offsets, weight, exponent, forward, backward, 0)


def _leaving(problem: Problem, offset: IntArray, weights: FloatArray) -> tuple[IntArray, IntArray, FloatArray]:
    """Cell, offset and weight where an offset leaves the box."""
    cells = np.flatnonzero(~problem.grid.neighbours(offset)[1] & (weights > 0.0))
    return cells, np.repeat(offset[None, :], cells.size, axis=0), weights[cells]


def _with_rates(problem: Problem, at_cells: Sample, shape: LocalShape, edges: Edges) -> Edges:
    """The edges with exponents and rates, and weights midway; these are filled in, some edges at a time."""
    blocks = pieces(edges.origin.size, EDGES_AT_A_TIME)
    unresolved = sum(_fill_rates(problem, at_cells, shape, edges.select(block)) for block in blocks)
    if problem.grid.parts is not None:
        _count_shares(problem.grid.parts.shares, edges)
    return replace(edges, unresolved=unresolved)


def _count_shares(shares: FloatArray, edges: Edges) -> None:
    """Change rates and exponents of whole cells into those of cells that stand for shares (cells,) of their volume.

    What flows at given densities is the same, and so is the density at rest.
    """
    origin, end = shares[edges.origin], shares[edges.end]
    edges.forward[:] /= origin
    edges.backward[:] /= end
    edges.exponent[:] += np.log(end / origin)


def _fill_rates(problem: Problem, at_cells: Sample, shape: LocalShape, edges: Edges) -> int:
    """Fill in exponents, weights and rates; returns how many exponents are not resolved."""
    origin, end = edges.origin, edges.end
    start, step = np.empty((2, problem.grid.dimensions, origin.size))
    kernels.segments(origin, edges.kind, edges.offsets, np.array(problem.grid.shape), start, step)
    whole, half, unresolved = exponents(problem, start, step, (at_cells, origin, end))
    rise = np.zeros_like(whole)
    if not _has_equal_lengths(problem):
        mean = edges.weight.copy()
        first, last = (_log_lengths_at_cells(problem, cells, step) for cells in (origin, end))
        middle = _log_lengths(problem, start + 0.5 * step, step)
        edges.weight[:] *= _within_e(2.0 / (np.exp(middle - first) + np.exp(middle - last)))
        rise = last - first
    edges.exponent[:] = whole
    local = _local(shape, origin, end, step, whole, rise)
    bad = kernels.rates(edges.weight, whole, half, *local, edges.forward, edges.backward)
    if bad >= 0:
        _refuse_rates(problem, int(origin[bad]))
    if not _has_equal_lengths(problem):
        jumps, place = jumping_edges(problem, start, step, first, last, _log_lengths)
        some = mean[jumps], whole[jumps], np.exp(-rise[jumps]), place
        edges.forward[jumps], edges.backward[jumps] = rates_across_jumps(problem, *some)
    return unresolved


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
    # The weight is that of the whole edge midway, or where there is nothing beyond the surface, that of the cell.
    known = start + np.where(cuts.axis == TARGET, 0.5, 0.0) * cuts.displacement.T
    first, wanted, last = (_log_lengths(problem, start + part * steps, steps) for part in (0.0, 0.5, 1.0))
    weight = cuts.weight * _within_e(np.exp(_log_lengths(problem, known, steps) - wanted)) / cuts.fraction
    local = _local(shape, cuts.cell, cuts.cell, steps, whole, last - first)
    rate, back = np.empty((2, weight.size))
    bad = kernels.rates(weight, whole, half, *local, rate, back)
    if bad >= 0:
        _refuse_rates(problem, int(cuts.cell[bad]))
    if problem.grid.parts is not None:
        rate /= problem.grid.parts.shares[cuts.cell]
    return Exits(cuts.cell, cuts.displacement, cuts.fraction, rate, cuts.axis, cuts.gate, cuts.gates, unresolved)


def _log_lengths(problem: Problem, index: FloatArray, steps: FloatArray) -> FloatArray:
    """ln(step . D^-1 step) at index coordinates (axes, edges), D in index units, (edges,); 0 where all are equal.

    The squared length of a step as diffusion measures it: weights vary along an edge as 1 / length**2, by the map of
    an axis and by D alike. They change their offsets from place to place; the length does not. Two things keep the
    error of a barrier as small as for constant D on equal cells, far below second order: the weight midway in place
    of the mean of both ends, and curvature + Z (rise of ln length**2); see kernels.conductances.
    """
    if _has_equal_lengths(problem):
        return np.zeros(index.shape[1])

    def logarithms(parts: FloatArray) -> FloatArray:
        index, steps = np.split(parts, 2)
        matrices = problem.diffusion.matrix(problem.grid.positions(index))
        return _log_length(matrices, problem.grid.stretch(index) * steps)

    return in_pieces(logarithms, np.concatenate([index, steps]))


def _log_lengths_at_cells(problem: Problem, cells: IntArray, steps: FloatArray) -> FloatArray:
    """The same at the centres of cells (edges,), where D is known."""
    matrices, widths = problem.diffusion_at_cells, problem.grid.stretch()
    logarithms = np.empty(cells.size)
    for piece in pieces(cells.size):
        mine = cells[piece]
        logarithms[piece] = _log_length(matrices[..., mine], widths[:, mine] * steps[:, piece])
    return logarithms


def _log_length(matrices: FloatArray, lengths: FloatArray) -> FloatArray:
    return np.asarray(np.log((lengths * solved(matrices, lengths)).sum(axis=0)))


def _has_equal_lengths(problem: Problem) -> bool:
    """Whether a step is as long anywhere."""
    return problem.grid.even and problem.diffusion.constant is not None


def _within_e(factor: FloatArray) -> FloatArray:
    """The weight midway over the mean of both ends, as far as it can be trusted.

    Where D dips between two cells that do not see it, as at a floor, the bottom does not make an edge's resistance.
    """
    return np.asarray(np.clip(factor, np.exp(-1.0), np.exp(1.0)))


def _local(
    shape: LocalShape,
    origin: IntArray,
    end: IntArray,
    steps: FloatArray,
    whole: FloatArray,
    rise: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Curvature and circulation along edges, (edges,); see kernels.local_shape."""
    curvature, circulating = np.empty_like(whole), np.empty_like(whole)
    fields = (np.ascontiguousarray(steps), shape.curvature, shape.circulation)
    kernels.local_shape(origin, end, *fields, whole, rise, curvature, circulating)
    return curvature, circulating
