"""Edges between cells, with the rates at which probability hops along them, forward and backward.

Selling's decomposition gives each cell weighted offsets; an offset that stays inside makes an *edge*, one that
crosses an absorbing surface makes an *exit*, cut where it crosses. Along an edge the equation is one-dimensional:

          origin                        end
        ----o--------------|--------------o----        phi(s) = integral of beta along the edge, Z = phi(1)
            s = 0         1/2         s = 1

    current = forward p(origin) - backward p(end),     forward / backward = exp(Z)
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias, final

import numpy as np

from fpsolve.discretise import kernels
from fpsolve.discretise.degenerate import Departures, blocked
from fpsolve.discretise.exponents import LocalShape, Sample, exponents
from fpsolve.discretise.lattice import lattice, meets_absorbing, wall_crossings
from fpsolve.errors import CaseError
from fpsolve.model.grid import BoolArray, FloatArray, Grid, IntArray, in_pieces, pieces
from fpsolve.model.problem import VANISHING, Problem
from fpsolve.model.symmetric import solved

LOG_VANISHING = -math.log(VANISHING)
EDGES_AT_A_TIME = 2**15  # what is known about so many edges stays in the processor's cache


@final
@dataclass(frozen=True, slots=True)
class Edges:
    """Pairs of cells that exchange probability.

    origin, end: flat cell numbers, (edges,); kind: row of `offsets`, (edges,); offsets: (kinds, axes), in cells,
    from origin to end; weight: mean weight of the decomposition [1/time]; exponent: Z; forward, backward: rates
    [1/time], non-negative. unresolved: edges whose exponent did not stop changing under refinement. local: weight and
    drift with which the origin is left, and the end, (2, 2, edges), both counted from origin to end [1/time], where
    edges have no exponents (then it is ln(forward / backward)), else None; see `degenerate`.
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
    local: FloatArray | None = None

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
            local=None if self.local is None else self.local[..., kept],
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
    surfaces ("x_max", or the name of the region); unresolved: as for Edges; local: weight and drift with which the cell
    is left, (2, exits), nan for exits that have an exponent.
    """

    cell: IntArray
    displacement: IntArray
    fraction: FloatArray
    rate: FloatArray
    axis: IntArray
    gate: IntArray
    gates: tuple[str, ...]
    unresolved: int
    local: FloatArray

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
            local=self.local[:, kept],
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
            np.concatenate([self.local, other.local], axis=1),
        )


@final
@dataclass(frozen=True, slots=True)
class Cuts:
    """Where edges are to be cut; as Exits, with a weight in place of the rate.

    local: weight and drift with which cells are left, (2, cuts); nan or None as for Edges.
    """

    cell: IntArray
    displacement: IntArray
    fraction: FloatArray
    weight: FloatArray
    axis: IntArray
    gate: IntArray
    gates: tuple[str, ...]
    local: FloatArray | None = None


# Origin, end and mean weight of edges, (n,) each.
Pairs: TypeAlias = tuple[IntArray, IntArray, FloatArray]


def build_edges(problem: Problem, at_cells: Sample, shape: LocalShape) -> tuple[Edges, Exits]:
    """All edges of a problem, sorted by origin, and the exits through its absorbing walls.

    An edge's weight is the mean of its two cells' weights for that offset; weights of one cell only would be
    first order where the diffusion varies. at_cells, shape: of this problem, see exponents.
    """
    if not problem.is_degenerate:
        edges, cuts = _edges_and_cuts(problem, lattice(problem), every=False)
        edges, fitted = _with_rates(problem, at_cells, shape, edges)
        exits = cut_exits(problem, shape, cuts)
        if fitted and np.isnan(exits.local).all():
            return edges, exits
    departures = Departures.of(problem)
    found = zip(departures.offsets, departures.weight, strict=True)
    edges, cuts = _edges_and_cuts(problem, found, every=True)
    cuts = replace(cuts, local=departures.leaving(cuts.cell, cuts.displacement))
    return _with_departures(problem, edges, departures), cut_exits(problem, shape, cuts)


def _edges_and_cuts(problem: Problem, found: Iterable[tuple[IntArray, FloatArray]], every: bool) -> tuple[Edges, Cuts]:
    """Edges without rates, and where those that leave through absorbing walls are cut.

    found: offsets and weights; every: whether edges along the axes need no weight (the drift may follow them).
    """
    offsets, inner, outer, times = [], [], [], np.zeros(problem.grid.size, dtype=np.int64)
    for offset, weights in found:
        straight = every and np.abs(offset).sum() == 1
        offsets.append(offset)
        inner.append(_pairs(problem.grid, offset, weights, straight, times))
        signs = () if problem.grid.closed else (1, -1)
        outer += [_leaving(problem, sign * offset, weights, straight) for sign in signs]
    edges = _merged(np.array(offsets), inner, times)
    if not outer:
        nothing, nowhere = np.zeros(0, dtype=np.int64), np.zeros((0, problem.grid.dimensions), dtype=np.int64)
        return edges, Cuts(nothing, nowhere, np.zeros(0), np.zeros(0), nothing, nothing, ())
    cells, displacement, weight = (np.concatenate(column) for column in zip(*outer, strict=True))
    return edges, _wall_cuts(problem, cells, displacement, weight)


def _pairs(grid: Grid, offset: IntArray, weights: FloatArray, every: bool, times: IntArray) -> Pairs:
    """The edges along one offset, every one or those with a weight; times: (cells,), their number is added to."""
    origin, end, mean = np.empty(grid.size, np.int64), np.empty(grid.size, np.int64), np.empty(grid.size)
    more = 3 - grid.dimensions
    moved, box = np.append(offset, np.zeros(more, np.int64)), np.array(grid.shape + (1,) * more)
    periodic = np.array([axis.periodic for axis in grid.axes] + [False] * more)
    count = kernels.pairs(weights, moved, box, periodic, every, origin, end, mean, times)
    return origin[:count], end[:count], mean[:count]


def _merged(offsets: IntArray, pairs: list[Pairs], times: IntArray) -> Edges:
    """All edges, sorted by origin, without rates; times: how many have each cell as origin."""
    place = np.cumsum(times) - times
    origin, end, kind = np.empty((3, times.sum()), dtype=np.int64)
    weight, exponent, forward, backward = np.empty((4, origin.size))
    for number, some in enumerate(pairs):
        kernels.merge(*some, number, place, origin, end, kind, weight)
    return Edges(origin, end, kind, offsets, weight, exponent, forward, backward, 0)


def _leaving(
    problem: Problem, offset: IntArray, weights: FloatArray, every: bool
) -> tuple[IntArray, IntArray, FloatArray]:
    """Cell, offset and weight where an offset leaves the box."""
    cells = np.flatnonzero(~problem.grid.neighbours(offset)[1] & (every | (weights > 0.0)))
    return cells, np.repeat(offset[None, :], cells.size, axis=0), weights[cells]


def _with_rates(problem: Problem, at_cells: Sample, shape: LocalShape, edges: Edges) -> tuple[Edges, bool]:
    """The edges with exponents and rates, and weights midway; and whether every edge has an exponent."""
    blocks, unresolved = pieces(edges.origin.size, EDGES_AT_A_TIME), 0
    for block in blocks:  # they are filled in, some edges at a time
        found = _fill_rates(problem, at_cells, shape, edges.select(block))
        if found is None:
            return edges, False
        unresolved += found
    return replace(edges, unresolved=unresolved), True


def _with_departures(problem: Problem, edges: Edges, departures: Departures) -> Edges:
    """The edges with rates of the cells that are left; those that nothing follows are left out."""
    origin, end, kind = edges.origin, edges.end, edges.kind
    local = departures.along(kind, origin, end)
    start = problem.grid.index_of(origin).astype(np.float64)
    none, drift = blocked(problem, start, departures.offsets[kind].T.astype(np.float64))
    local[:, 0] = np.where(none, 0.0, local[:, 0])
    local[:, 1] = np.where(none, drift, local[:, 1])
    kernels.departing(local[0, 0], local[0, 1], edges.forward)
    kernels.departing(local[1, 0], -local[1, 1], edges.backward)
    with np.errstate(divide="ignore", invalid="ignore"):
        edges.exponent[:] = np.log(edges.forward / edges.backward)
    moving = (edges.forward > 0.0) | (edges.backward > 0.0)
    return replace(edges, local=local).select(moving)


def _fill_rates(problem: Problem, at_cells: Sample, shape: LocalShape, edges: Edges) -> int | None:
    """Fill in exponents, weights and rates; returns how many exponents are not resolved, None where some are none."""
    origin, end = edges.origin, edges.end
    start, step = np.empty((2, problem.grid.dimensions, origin.size))
    kernels.segments(origin, edges.kind, edges.offsets, np.array(problem.grid.shape), start, step)
    with np.errstate(invalid="ignore"):  # where D has no inverse
        whole, half, unresolved = exponents(problem, start, step, (at_cells, origin, end))
    if not np.isfinite(whole + half).all():
        return None
    rise = np.zeros_like(whole)
    if not _has_equal_lengths(problem):
        first, last = (_log_lengths_at_cells(problem, cells, step) for cells in (origin, end))
        middle = _log_lengths(problem, start + 0.5 * step, step)
        if not (middle - np.minimum(first, last) < LOG_VANISHING).all():
            return None
        edges.weight[:] *= _within_e(2.0 / (np.exp(middle - first) + np.exp(middle - last)))
        rise = last - first
    edges.exponent[:] = whole
    local = _local(shape, origin, end, step, whole, rise)
    bad = kernels.rates(edges.weight, whole, half, *local, edges.forward, edges.backward)
    if bad >= 0:
        _refuse_rates(problem, int(origin[bad]))
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
    """Exits from cuts: rate = weight / fraction * conductance of the part up to the cut (the cell's own shape).

    Where there is no exponent: by the weight and the drift of the cell, see `degenerate`.
    """
    fitted = np.ones(cuts.cell.size, dtype=np.bool_) if cuts.local is None else np.isnan(cuts.local[0])
    rate, unresolved = np.full(cuts.cell.size, np.nan), 0
    if fitted.any():
        some = replace(
            cuts,
            cell=cuts.cell[fitted],
            displacement=cuts.displacement[fitted],
            fraction=cuts.fraction[fitted],
            weight=cuts.weight[fitted],
            axis=cuts.axis[fitted],
        )
        rate[fitted], unresolved = _cut_rates(problem, shape, some)
    local = np.full((2, rate.size), np.nan) if cuts.local is None else cuts.local.copy()
    missing = fitted & np.isnan(rate)
    if missing.any():
        local[:, missing] = Departures.of(problem).leaving(cuts.cell[missing], cuts.displacement[missing])
    loose = ~np.isnan(local[0])
    own = np.empty(int(loose.sum()))
    kernels.departing(local[0, loose] / cuts.fraction[loose], local[1, loose], own)
    rate[loose] = own
    if not np.isfinite(rate).all():
        _refuse_rates(problem, int(cuts.cell[np.argmin(np.isfinite(rate))]))
    return Exits(cuts.cell, cuts.displacement, cuts.fraction, rate, cuts.axis, cuts.gate, cuts.gates, unresolved, local)


def _cut_rates(problem: Problem, shape: LocalShape, cuts: Cuts) -> tuple[FloatArray, int]:
    """Rates by exponents, nan where there is none, and how many of these are not resolved."""
    start = problem.grid.index_of(cuts.cell).astype(np.float64)
    steps = cuts.displacement.T * cuts.fraction
    with np.errstate(invalid="ignore"):  # where D has no inverse
        whole, half, unresolved = exponents(problem, start, steps)
    known = start + np.where(cuts.axis < 0, 0.5, 0.0) * cuts.displacement.T
    # The weight is that of the whole edge midway, or at a wall, beyond which there is nothing, that of the cell.
    first, wanted, last = (_log_lengths(problem, start + part * steps, steps) for part in (0.0, 0.5, 1.0))
    weight = cuts.weight * _within_e(np.exp(_log_lengths(problem, known, steps) - wanted)) / cuts.fraction
    local = _local(shape, cuts.cell, cuts.cell, steps, whole, last - first)
    rate, back = np.empty((2, weight.size))
    bad = kernels.rates(weight, whole, half, *local, rate, back)
    found = np.isfinite(whole + half) & (np.maximum(wanted, last) - first < LOG_VANISHING)
    if bad >= 0 and found[bad]:
        _refuse_rates(problem, int(cuts.cell[bad]))
    return np.where(found, rate, np.nan), unresolved


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
