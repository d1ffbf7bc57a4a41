"""The lattice: which offsets join which cells, and how strongly; and what reflecting walls change in it."""

from __future__ import annotations

import numpy as np

from fpsolve.discretise.selling import Lattice, selling
from fpsolve.model.grid import BoolArray, FloatArray, Grid, IntArray
from fpsolve.model.problem import Problem

# What walls give back may be nearly one-dimensional; with eigenvalues further apart than this its diagonal serves
# instead, which needs no long offsets.
FLATTEST = 1e-4


def lattice(problem: Problem) -> Lattice:
    """Weighted offsets of every cell, with the tangential ones that reflecting walls need.

    A reflecting wall drops the offsets that leave. Half the weight of a dropped edge is its cell's own; the energy of
    (offset . grad) that it would have carried is given back along the wall, with the normal derivative eliminated by
    J . normal = 0:

        returned = sum over dropped offsets of weight/2 g g^T,   g = tangential part - n D_tn / D_nn,

    n the normal part of the offset. It is zero for a diagonal D, restores second order at the wall for any other,
    and never leaves a cell without an edge. In a channel or slab one cell wide it gives exactly the effective
    diffusion D_tt - D_tn D_nt / D_nn. (Where two walls meet in three dimensions it is only of the right size; that
    line is too thin to matter.)
    """
    grid = problem.grid
    scaled = problem.diffusion_at_cells / np.multiply.outer(grid.spacings, grid.spacings)[..., None]
    parts = _lattices(grid, np.arange(grid.size), scaled, tuple(range(grid.dimensions)))
    joined = (np.concatenate([getattr(part, name) for part in parts], axis=-1) for name in Lattice.__slots__)
    return Lattice(*joined)


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


def _lattices(grid: Grid, cells: IntArray, tensors: FloatArray, axes: tuple[int, ...]) -> list[Lattice]:
    """Decompose tensors over some axes for some cells, then what reflecting walls give back of them, and so on."""
    own = selling(cells, tensors)
    offsets = np.zeros((grid.dimensions, own.cells.size), dtype=np.int64)
    offsets[list(axes)] = own.offsets
    parts = [Lattice(own.cells, offsets, own.weights)]
    if len(axes) == 1:
        return parts
    for normal, axis in enumerate(axes):
        dropped = [_dropped(grid, own.cells, sign * offsets, axis) for sign in (1, -1)]
        returned = _returned(own, cells, tensors, np.concatenate(dropped), normal)
        needed = np.einsum("iip->p", returned) > 1e-12 * np.einsum("iip->p", tensors)
        others = tuple(other for other in axes if other != axis)
        parts += _lattices(grid, cells[needed], returned[..., needed], others) if needed.any() else []
    return parts


def _dropped(grid: Grid, cells: IntArray, offsets: IntArray, axis: int) -> IntArray:
    """Numbers of the entries that leave across an axis and do not meet an absorbing wall first.

    At a corner an offset may leave across two axes; it is then given back along both walls, so that no cell of the
    smallest grid is cut off.
    """
    crossings = wall_crossings(grid, cells, offsets)
    first = crossings.min(axis=0)
    absorbed = (meets_absorbing(grid, offsets) & (crossings == first) & np.isfinite(first)).any(axis=0)
    return np.flatnonzero(np.isfinite(crossings[axis]) & ~absorbed)


def _returned(own: Lattice, cells: IntArray, tensors: FloatArray, dropped: IntArray, normal: int) -> FloatArray:
    """The tensors of `lattice`, over the tangential axes, for dropped entries: (axes - 1, axes - 1, cells)."""
    slot = np.searchsorted(cells, own.cells[dropped])
    offsets, weights = own.offsets[:, dropped], own.weights[dropped]
    tangential = [axis for axis in range(len(tensors)) if axis != normal]
    across = tensors[normal, normal]
    slope = tensors[tangential, normal] / np.where(across > 0.0, across, 1.0)
    g = offsets[tangential] - offsets[normal] * slope[:, slot]
    energy = 0.5 * weights * g[:, None] * g[None, :]
    returned = np.zeros((len(tangential), len(tangential), cells.size))
    for row, column in np.ndindex(returned.shape[:2]):
        returned[row, column] = np.bincount(slot, energy[row, column], minlength=cells.size)
    eigenvalues = np.linalg.eigvalsh(np.moveaxis(returned, -1, 0))
    flat = eigenvalues[:, 0] < FLATTEST * eigenvalues[:, -1]
    returned[..., flat] *= np.eye(len(tangential))[..., None]
    return returned
