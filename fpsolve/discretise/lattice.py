"""The lattice: which offsets join which cells, and how strongly; and what reflecting walls change in it."""

from __future__ import annotations

import numpy as np

from fpsolve.discretise.selling import Lattice, selling
from fpsolve.model.grid import BoolArray, FloatArray, Grid, IntArray
from fpsolve.model.problem import Problem


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
