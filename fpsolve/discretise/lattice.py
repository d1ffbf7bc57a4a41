"""The lattice: which offsets join which cells, and how strongly; and what reflecting walls change in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import final

import numpy as np

from fpsolve.discretise.selling import LONGEST_OFFSET, Lattice, longest_offsets, selling
from fpsolve.model.grid import BoolArray, FloatArray, Grid, IntArray
from fpsolve.model.problem import Problem

# Shares of a trace below these are rounding: nothing to give back, and no flow across.
NOTHING_RETURNED = 1e-12
NO_FLOW = 1e-14
LONGEST_EXACT = 4  # cells, of an offset that stands for a D without inverse
WIDENED = 4.0  # over the cells along an axis: the share by which other ones are widened; see `index_tensors`
LONGEST_FAR = 8.0  # cells, of an offset far out on an infinite axis


@final
@dataclass(frozen=True, slots=True)
class Strand:
    """Some cells (n,) that have the same offset (axes,), with weights (n,), or (1,) where they are equal [1/time]."""

    offset: tuple[int, ...]
    cells: IntArray
    weights: FloatArray


def lattice(problem: Problem) -> Iterator[tuple[IntArray, FloatArray]]:
    """All offsets (axes,), in order, with their weights (cells,): Selling's, and those that reflecting walls need.

    A reflecting wall drops the offsets that leave. What they would have carried along the wall is given back to the
    cells beside it: the energy of (offset . grad) of the half edges that a column of cells loses, |n| of them for
    each offset, with the normal derivative eliminated by J . normal = 0,

        returned = sum over offsets of |n|/2 weight g g^T,   g = tangential part - n D_tn / D_nn,

    n the normal part of the offset. All cells from which some offset leaves share it evenly: one cell alone may lose
    a single offset, and g g^T of that has no rational direction. It is zero for a diagonal D, restores second order
    at the wall for any other, and never leaves a cell without an edge. Nothing flows along an axis of a single cell:
    such axes are eliminated beforehand, D_tt - D_tn D_nn^-1 D_nt.

    Far out on an infinite axis, where nothing is, cells are so much wider one way than the other that only very long
    offsets would follow a tensor: its diagonal is taken there.
    """
    grid = problem.grid
    scaled = index_tensors(problem)
    closed = [axis.cells == 1 and axis.walls == ("reflecting", "reflecting") for axis in grid.axes]
    wide = [number for number, thin in enumerate(closed) if not thin] or [0]
    strands = _strands(grid, np.arange(grid.size), _without_flow(scaled, wide), tuple(wide), along_wall=False)
    for offset, parts in groupby(sorted(strands, key=lambda strand: strand.offset), lambda strand: strand.offset):
        weights = np.zeros(grid.size)
        for part in parts:
            weights[part.cells if part.cells.size < grid.size else slice(None)] += part.weights
        yield np.array(offset), weights


def index_tensors(problem: Problem) -> FloatArray:
    """D in index units as the lattice is given it [1/time], (axes, axes, cells), or (axes, axes, 1) if all are alike.

    A D without inverse whose directions have no short offsets is given a little more in all directions, so that the
    longest offset grows as the root of the number of cells: an error of first order.
    """
    grid = problem.grid
    alike = grid.even and problem.diffusion.constant is not None
    widths = grid.spacings[:, None] if alike else grid.stretch()
    tensors = problem.diffusion_along_axes[..., :1] if alike else problem.diffusion_along_axes
    scaled = tensors / (widths[:, None] * widths)
    if not grid.even:
        scaled = _without_far_skew(grid, scaled)
    if not problem.is_degenerate:
        return scaled
    (singular,) = np.nonzero(problem.singular_cells[: scaled.shape[-1]])
    long = singular[longest_offsets(scaled[..., singular]) > LONGEST_EXACT]
    more = np.eye(len(scaled))[..., None] * np.einsum("iip->p", scaled[..., long]) * (WIDENED / max(grid.shape))
    scaled[..., long] += more
    return scaled


def _without_flow(tensors: FloatArray, kept: list[int]) -> FloatArray:
    """What is left of tensors (axes, axes, cells) where nothing flows along the other axes, over the kept ones."""
    left = [axis for axis in range(len(tensors)) if axis not in kept]
    if not left:
        return tensors
    matrices = np.moveaxis(tensors, -1, 0)
    across = matrices[:, kept][..., left]
    reduced = across @ np.linalg.solve(matrices[:, left][..., left], across.swapaxes(1, 2))
    return np.moveaxis(matrices[:, kept][..., kept] - reduced, 0, -1)


def _without_far_skew(grid: Grid, tensors: FloatArray) -> FloatArray:
    """The tensors, or their diagonals far out where an offset would be longer than LONGEST_FAR cells."""
    sizes = np.einsum("iip->ip", tensors)
    longer = np.abs(tensors) > LONGEST_FAR * np.minimum(sizes[:, None], sizes)
    skew = longer.any(axis=(0, 1)) & grid.far
    return np.where(skew, tensors * np.eye(len(tensors))[..., None], tensors) if skew.any() else tensors


def wall_crossings(grid: Grid, cells: IntArray, offsets: IntArray) -> FloatArray:
    """The fraction at which offsets (axes, n) from cells (n,) cross a wall of each axis, (axes, n); infinite: not."""
    fractions = np.full(offsets.shape, np.inf)
    for number, (axis, row) in enumerate(zip(grid.axes, grid.index_of(cells), strict=True)):
        length = np.abs(offsets[number])
        distance = np.where(offsets[number] < 0, row + 0.5, axis.cells - 0.5 - row)
        leaves = (length > distance) & (not axis.periodic)
        fractions[number, leaves] = distance[leaves] / length[leaves]
    return fractions


def meets_absorbing(grid: Grid, offsets: IntArray) -> BoolArray:
    """Whether the wall towards which an offset (axes, n) runs along each axis is absorbing, (axes, n)."""
    absorbs = np.array([[wall == "absorbing" for wall in axis.walls] for axis in grid.axes])
    return absorbs[np.arange(grid.dimensions)[:, None], (offsets > 0).astype(np.int64)]


def _strands(grid: Grid, cells: IntArray, tensors: FloatArray, axes: tuple[int, ...], along_wall: bool) -> list[Strand]:
    """Decompose tensors over some axes for some cells, then what reflecting walls give back of them, and so on.

    tensors: (axes, axes, cells), or (axes, axes, 1) where all are alike.
    """
    # What walls give back may be one-dimensional, in a direction without short offsets; its diagonal is right in size.
    own = selling(np.arange(tensors.shape[-1]), tensors, diagonal_instead=along_wall)
    alike = tensors.shape[-1] == 1
    strands = []
    groups = list(_by_offset(own.offsets))
    for offset, entries in groups:
        whole = np.zeros(grid.dimensions, dtype=np.int64)
        whole[list(axes)] = offset
        mine = cells if alike else cells[own.cells[entries]]
        strands.append(Strand(tuple(whole.tolist()), mine, own.weights[entries]))
    for normal, axis in enumerate(axes if len(axes) > 1 else ()):
        length = grid.axes[axis].cells
        returned = _returned(own, tensors, normal, length)
        depth = np.zeros(tensors.shape[-1], dtype=np.int64)
        for offset, entries in groups:
            slots = own.cells[entries]
            depth[slots] = np.maximum(depth[slots], min(abs(offset[normal]), length))
        needed = np.einsum("iip->p", returned) > NOTHING_RETURNED * depth * np.einsum("iip->p", tensors)
        if not needed.any():
            continue
        row = grid.index_of(cells)[axis]
        others = tuple(other for other in axes if other != axis)
        for distance, wall in zip((row, length - 1 - row), grid.axes[axis].walls, strict=True):
            beside = (distance < depth) & needed & (wall == "reflecting")
            if beside.any():
                some = slice(None) if alike else beside
                strands += _strands(grid, cells[beside], returned[..., some] / depth[some], others, along_wall=True)
    return strands


def _by_offset(offsets: IntArray) -> Iterator[tuple[IntArray, IntArray]]:
    """The distinct ones of offsets (axes, entries), and which entries have them."""
    base = 2 * LONGEST_OFFSET + 1
    codes = np.zeros(offsets.shape[1], dtype=np.int64)
    for row in offsets:
        codes = codes * base + (row + LONGEST_OFFSET)
    _, first, kind = np.unique(codes, return_index=True, return_inverse=True)
    order = np.argsort(kind, kind="stable")
    bounds = np.searchsorted(kind[order], np.arange(first.size + 1))
    for number, entry in enumerate(first):
        yield offsets[:, entry], order[bounds[number] : bounds[number + 1]]


def _returned(own: Lattice, tensors: FloatArray, normal: int, length: int) -> FloatArray:
    """What a wall takes from a column of cells like each of these, over the tangential axes: (axes-1, axes-1, cells).

    length: cells of the column; an offset cannot lose more half edges than that.
    """
    slot = own.cells
    tangential = [axis for axis in range(len(tensors)) if axis != normal]
    across = tensors[normal, normal]
    flows = across > NO_FLOW * np.einsum("iip->p", tensors)
    slope = np.where(flows, tensors[tangential, normal], 0.0) / np.where(flows, across, 1.0)
    g = own.offsets[tangential] - own.offsets[normal] * slope[:, slot]
    energy = 0.5 * np.minimum(np.abs(own.offsets[normal]), length) * own.weights * g[:, None] * g[None, :]
    returned = np.zeros((len(tangential), len(tangential), tensors.shape[-1]))
    for row, column in np.ndindex(returned.shape[:2]):
        returned[row, column] = np.bincount(slot, energy[row, column], minlength=returned.shape[-1])
    return returned
