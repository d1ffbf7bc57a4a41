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
from fpsolve.discretise.selling import LONGEST_OFFSET, Lattice, selling
from fpsolve.model.grid import BoolArray, FloatArray, Grid, IntArray
from fpsolve.model.problem import Problem

# An edge whose Simpson and trapezoidal integrals differ by more than this is integrated again on finer panels,
# until halving them changes nothing by more than the second figure; most edges never need it.
ROUGH_EXPONENT = 0.05
SMOOTH_EXPONENT = 1e-6
MOST_HALVINGS = 8


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


def lattice(problem: Problem) -> Lattice:
    """Weighted offsets of every cell, with the tangential ones that reflecting walls need.

    A reflecting wall drops the offsets that leave. What they would have carried along the wall is given back to
    the cells beside it: the energy of (offset . grad) over the strip of |n|/2 cells that they no longer cover,
    with the normal derivative eliminated by J . normal = 0,

        missing = sum over offsets of |n|/2 weight g g^T,   g = tangential part - n D_tn / D_nn,

    n the normal part of the offset. It is zero for a diagonal D, restores second order at the wall for any
    other, and never leaves a corner cell without an edge. In a channel one cell wide it gives exactly the
    effective diffusivity D_tt - D_tn D_nt / D_nn.
    """
    grid = problem.grid
    scaled = problem.diffusion_at_cells / np.multiply.outer(grid.spacings, grid.spacings)[..., None]
    parts = _lattices(grid, np.arange(grid.size), scaled, tuple(range(grid.dimensions)))
    joined = (np.concatenate([getattr(part, name) for part in parts], axis=-1) for name in Lattice.__slots__)
    return Lattice(*joined)


def _lattices(grid: Grid, cells: IntArray, tensors: FloatArray, axes: tuple[int, ...]) -> list[Lattice]:
    """Decompose tensors over some axes for some cells, then what their reflecting walls are missing, and so on."""
    own = selling(cells, tensors)
    offsets = np.zeros((grid.dimensions, own.cells.size), dtype=np.int64)
    offsets[list(axes)] = own.offsets
    parts = [Lattice(own.cells, offsets, own.weights)]
    if len(axes) == 1:
        return parts
    index = grid.index_of(cells)
    for normal, axis in enumerate(axes):
        others = tuple(other for other in axes if other != axis)
        for side, wall in enumerate(grid.axes[axis].walls):
            if wall != "reflecting":
                continue
            beside = index[axis] == (0, grid.axes[axis].cells - 1)[side]
            missing = _missing_tensors(own, cells, tensors, beside, normal)
            trace = np.einsum("iip->p", missing)
            needed = trace > 1e-12 * np.einsum("iip->p", tensors[..., beside])
            parts += _lattices(grid, cells[beside][needed], missing[..., needed], others) if needed.any() else []
    return parts


def _missing_tensors(own: Lattice, cells: IntArray, tensors: FloatArray, beside: BoolArray, normal: int) -> FloatArray:
    """The tensors of `lattice` for the cells beside one wall, over the tangential axes: (axes-1, axes-1, cells)."""
    slots = np.full(int(cells.max()) + 1, -1)
    slots[cells[beside]] = np.arange(int(beside.sum()))
    slot = slots[own.cells]
    mine = slot >= 0
    slot, offsets, weights = slot[mine], own.offsets[:, mine], own.weights[mine]
    tangential = [axis for axis in range(len(tensors)) if axis != normal]
    slope = tensors[tangential, normal][:, beside] / tensors[normal, normal][beside]
    g = offsets[tangential] - offsets[normal] * slope[:, slot]
    energy = 0.5 * np.abs(offsets[normal]) * weights * g[:, None] * g[None, :]
    missing = np.zeros((len(tangential), len(tangential), int(beside.sum())))
    for row, column in np.ndindex(missing.shape[:2]):
        missing[row, column] = np.bincount(slot, energy[row, column], minlength=missing.shape[2])
    return missing


def build_edges(problem: Problem) -> tuple[Edges, Exits]:
    """All edges of a problem, sorted by origin, and the exits through its absorbing walls.

    An edge's weight is the mean of its two cells' weights for that offset; weights of one cell only would be
    first order where the diffusion varies.
    """
    grid = problem.grid
    entries = lattice(problem)
    kinds, kind = _kinds(entries.offsets)
    order = np.argsort(kind, kind="stable")
    bounds = np.searchsorted(kind[order], np.arange(len(kinds) + 1))
    edges, exits = [], []
    for number, offset in enumerate(kinds):
        mine = order[bounds[number] : bounds[number + 1]]
        weights = np.bincount(entries.cells[mine], entries.weights[mine], minlength=grid.size)
        end, inside = grid.neighbours(offset)
        mean = np.where(inside, 0.5 * (weights + weights[end]), 0.0)
        origin = np.flatnonzero((mean > 0.0) & (end != np.arange(grid.size)))
        edges.append((origin, end[origin], np.full(origin.size, number), mean[origin]))
        for sign in (1, -1):
            inside = inside if sign == 1 else grid.neighbours(-offset)[1]
            cells = np.flatnonzero((weights > 0.0) & ~inside)
            exits.append((cells, np.repeat(sign * offset[None, :], cells.size, axis=0), weights[cells]))
    origin, end, kind, weight = (np.concatenate(column) for column in zip(*edges, strict=True))
    order = np.argsort(origin, kind="stable")
    joined = _joined(problem, origin[order], end[order], kind[order], kinds, weight[order])
    cells, displacement, weight = (np.concatenate(column) for column in zip(*exits, strict=True))
    return joined, _wall_exits(problem, cells, displacement, weight)


def _kinds(offsets: IntArray) -> tuple[IntArray, IntArray]:
    """The distinct offsets, (kinds, axes), and the number of each entry's own."""
    base = 2 * LONGEST_OFFSET + 1
    codes = np.zeros(offsets.shape[1], dtype=np.int64)
    for row in offsets:
        codes = codes * base + (row + LONGEST_OFFSET)
    _, first, kind = np.unique(codes, return_index=True, return_inverse=True)
    return offsets[:, first].T, kind


def _joined(
    problem: Problem, origin: IntArray, end: IntArray, kind: IntArray, offsets: IntArray, weight: FloatArray
) -> Edges:
    start = problem.grid.indices().astype(np.float64)
    at_cells = _sample(problem, start)
    sides = (at_cells.take(origin), at_cells.take(end))
    steps = offsets[kind].T.astype(np.float64)
    whole, half, unresolved = exponents(problem, start[:, origin], steps, sides)
    _, bend = local_shape(problem)
    forward, backward = rates(
        weight, whole, half, 0.5 * (_along(bend[..., origin], steps) + _along(bend[..., end], steps))
    )
    return Edges(origin, end, kind, offsets, weight, whole, forward, backward, unresolved)


def local_shape(problem: Problem) -> tuple[FloatArray, FloatArray]:
    """Slope (axes, cells) and |Hessian| (axes, axes, cells) of the local log equilibrium density, in index units.

    By differences over the grid (they enter a correction and diagnostics only); |.| acts on the eigenvalues of the
    symmetric part. A well or saddle is 1 / sqrt(|Hessian|) cells wide.
    """
    grid = problem.grid
    at_cells = _sample(problem, grid.indices().astype(np.float64))
    slope = np.zeros((grid.dimensions, grid.size))
    if at_cells.slope is not None:
        slope += at_cells.slope
    if at_cells.potential is not None:
        slope += grid.differences(at_cells.potential)
    hessian = np.array([grid.differences(row) for row in slope])
    values, vectors = np.linalg.eigh(np.moveaxis(0.5 * (hessian + hessian.swapaxes(0, 1)), -1, 0))
    return slope, np.einsum("pia,pa,pja->ijp", vectors, np.abs(values), vectors)


def _along(matrices: FloatArray, steps: FloatArray) -> FloatArray:
    """Step . matrix . step for each edge."""
    return np.einsum("ijp,ip,jp->p", matrices, steps, steps)


def _wall_exits(problem: Problem, cells: IntArray, displacement: IntArray, weight: FloatArray) -> Exits:
    """Exits through absorbing walls; offsets that meet another wall first are dropped."""
    grid = problem.grid
    index = grid.index_of(cells)
    fraction = np.full(cells.size, np.inf)
    gate = np.full(cells.size, -1)
    gates: list[str] = []
    for axis, row, steps in zip(grid.axes, index, displacement.T, strict=True):
        for side, wall in enumerate(axis.walls):
            distance = (row + 0.5, axis.cells - 0.5 - row)[side]
            leaves = (steps < 0, steps > 0)[side] & (wall != "periodic")
            crossing = np.where(leaves, distance / np.maximum(np.abs(steps), 1), np.inf)
            gate = np.where(crossing < fraction, len(gates) if wall == "absorbing" else -1, gate)
            fraction = np.minimum(crossing, fraction)
            if wall == "absorbing":
                gates.append(f"{axis.name}_{('min', 'max')[side]}")
    kept = gate >= 0
    return cut_exits(problem, cells[kept], displacement[kept], fraction[kept], weight[kept], gate[kept], tuple(gates))


def cut_exits(
    problem: Problem,
    cells: IntArray,
    displacement: IntArray,
    fraction: FloatArray,
    weight: FloatArray,
    gate: IntArray,
    gates: tuple[str, ...],
) -> Exits:
    """Exits along displacement, cut at fraction: rate = weight / fraction * conductance of the part up to there."""
    start = problem.grid.index_of(cells).astype(np.float64)
    steps = displacement.T * fraction
    whole, half, _ = exponents(problem, start, steps)
    forward, _ = rates(weight / fraction, whole, half, _along(local_shape(problem)[1][..., cells], steps))
    return Exits(cells, displacement, fraction, forward, gate, gates)


def rates(weight: FloatArray, whole: FloatArray, half: FloatArray, bend: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Forward and backward rates [1/time] of edges; see kernels.log_conductance for the formula."""
    forward, backward = np.empty_like(weight), np.empty_like(weight)
    kernels.rates(weight, whole, half, bend, forward, backward)
    return forward, backward


@final
@dataclass(frozen=True, slots=True)
class _Sample:
    """Potential (points,) and remainder of beta in index units (axes, points); None where absent."""

    potential: FloatArray | None
    slope: FloatArray | None

    def take(self, cells: IntArray) -> _Sample:
        potential = None if self.potential is None else self.potential[cells]
        return _Sample(potential, None if self.slope is None else self.slope[:, cells])


def _sample(problem: Problem, index: FloatArray) -> _Sample:
    positions = problem.grid.positions(index)
    exponent = problem.exponent
    potential = None if exponent.potential is None else exponent.potential(positions)
    slope = None if exponent.remainder is None else exponent.remainder(positions) * problem.grid.spacings[:, None]
    return _Sample(potential, slope)


def exponents(
    problem: Problem, start: FloatArray, displacement: FloatArray, sides: tuple[_Sample, _Sample] | None = None
) -> tuple[FloatArray, FloatArray, int]:
    """phi(1) and phi(1/2) along segments, and how many of them are not resolved.

    start, displacement: (axes, segments), in cells. phi(s) = potential difference + integral of the remainder by
    Simpson's rule; phi(1/2) integrates the same parabola: (5 b(0) + 8 b(1/2) - b(1)) / 24.
    """
    first, last = sides or (_sample(problem, start), _sample(problem, start + displacement))
    middle = _sample(problem, start + 0.5 * displacement)
    whole, half = np.zeros(start.shape[1]), np.zeros(start.shape[1])
    unresolved = 0
    if first.slope is not None and middle.slope is not None and last.slope is not None:
        b0, b1, b2 = ((part.slope * displacement).sum(axis=0) for part in (first, middle, last))  # type: ignore[operator]
        whole, half = (b0 + 4.0 * b1 + b2) / 6.0, (5.0 * b0 + 8.0 * b1 - b2) / 24.0
        rough = np.flatnonzero(np.abs(whole - 0.5 * (b0 + b2)) > ROUGH_EXPONENT)
        if rough.size:
            whole[rough], half[rough], unresolved = _refined(problem, start[:, rough], displacement[:, rough])
    if first.potential is not None and middle.potential is not None and last.potential is not None:
        whole += last.potential - first.potential
        half += middle.potential - first.potential
    return whole, half, unresolved


def _refined(problem: Problem, start: FloatArray, displacement: FloatArray) -> tuple[FloatArray, FloatArray, int]:
    """Integrals of the remainder by Simpson's rule on 4, 8, 16 ... panels until they stop changing."""
    whole, half = np.full(start.shape[1], np.inf), np.empty(start.shape[1])
    open_ = np.arange(start.shape[1])
    for halving in range(1, MOST_HALVINGS + 1):
        nodes = np.linspace(0.0, 1.0, 2 ** (halving + 1) + 1)
        points = start[:, open_, None] + displacement[:, open_, None] * nodes
        slope = _sample(problem, points.reshape(len(start), -1)).slope
        assert slope is not None
        values = (slope.reshape(points.shape) * displacement[:, open_, None]).sum(axis=0)
        middle = nodes.size // 2
        new = _simpson(values)
        half[open_] = _simpson(values[:, : middle + 1]) * 0.5
        settled = np.abs(new - whole[open_]) <= SMOOTH_EXPONENT * (1.0 + np.abs(new))
        whole[open_] = new
        open_ = open_[~settled]
        if not open_.size:
            break
    return whole, half, int(open_.size)


def _simpson(values: FloatArray) -> FloatArray:
    """Composite Simpson's rule over [0, 1] for values (segments, odd number of nodes)."""
    inner = 4.0 * values[:, 1:-1:2].sum(axis=1) + 2.0 * values[:, 2:-1:2].sum(axis=1)
    total: FloatArray = (values[:, 0] + inner + values[:, -1]) / (3.0 * (values.shape[1] - 1))
    return total
