"""Selling's decomposition: a positive definite matrix as a sum of non-negative weights on integer offsets.

    D = sum_k weight_k offset_k offset_k^T,    weight_k >= 0,    offset_k in Z^n

with 1, 3 or 6 offsets in 1, 2 or 3 dimensions (Selling 1874; Conway & Sloane 1992; Fehrenbach &
Mirebeau 2014). It is what makes the scheme positive for any diffusion tensor: along each offset the
equation is one-dimensional, and its rates cannot be negative.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numba import njit

from fpsolve.errors import CaseError
from fpsolve.model.grid import FloatArray, IntArray

PAIRS = 6  # pairs of a superbase of four vectors
# Reduction takes a number of flips that grows with the logarithm of the condition number; 1e12 needs fewer than 200.
MOST_FLIPS = 1000
# Weights below this share of the trace are rounding errors of a zero.
SMALLEST_SHARE = 1e-14
LONGEST_OFFSET = 200  # cells; a longer one means that the grid sees a line, not a plane


@final
@dataclass(frozen=True, slots=True)
class Lattice:
    """Weighted offsets of many cells, as a flat list of (cell, offset, weight).

    cells: flat cell numbers, shape (entries,); offsets: shape (axes, entries), each with a positive
    first non-zero component; weights: shape (entries,), positive [1/time].
    """

    cells: IntArray
    offsets: IntArray
    weights: FloatArray


def selling(cells: IntArray, tensors: FloatArray, diagonal_instead: bool = False) -> Lattice:
    """Decompose one symmetric positive semidefinite tensor for each of the given cells.

    tensors has shape (axes, axes, cells), in index units [1/time]. Smaller matrices are padded with the
    mean of their diagonal; the offsets along the added axes are dropped again, which leaves exactly the
    decomposition of the smaller matrix.

    Where a tensor is too anisotropic for the grid, its diagonal is taken instead if that will do, else a CaseError
    is raised.
    """
    axes = len(tensors)
    padded = _padded(tensors)
    smallest = SMALLEST_SHARE * np.trace(tensors)[:, None]
    offsets, weights = _decompose(padded)
    lengths = np.abs(offsets * (weights > smallest)[..., None]).max(axis=(1, 2), initial=0)
    too_long = lengths > LONGEST_OFFSET
    if too_long.any():
        if not diagonal_instead:
            _refuse(int(lengths.max()))
        offsets[too_long], weights[too_long] = _decompose(padded[too_long] * np.eye(3))
    kept = (weights > smallest) & ~offsets[:, :, axes:].any(axis=2)
    rows, columns = np.nonzero(kept)
    return Lattice(cells[rows], np.ascontiguousarray(offsets[rows, columns, :axes].T), weights[rows, columns])


def longest_offsets(tensors: FloatArray) -> IntArray:
    """The longest offset of each of some tensors (axes, axes, cells), (cells,) [cells]."""
    offsets, weights = _decompose(_padded(tensors))
    counts = (weights > SMALLEST_SHARE * np.trace(tensors)[:, None])[..., None]
    return np.asarray(np.abs(offsets * counts).max(axis=(1, 2), initial=0))


def _padded(tensors: FloatArray) -> FloatArray:
    axes, _, count = tensors.shape
    padded = np.zeros((count, 3, 3))
    padded[:, range(axes, 3), range(axes, 3)] = np.trace(tensors)[:, None] / axes
    padded[:, :axes, :axes] = np.moveaxis(tensors, -1, 0)
    return padded


def _refuse(longest: int) -> None:
    raise CaseError(
        "noise",
        f"the diffusion tensor is so anisotropic that the lattice needs an offset of {longest} cells",
        f"Offsets of at most {LONGEST_OFFSET} cells are used",
        "Raise the floor or the smaller eigenvalue of the diffusion, turn the grid to its principal axes (grid.axes), "
        "or give the axes cells of more equal widths",
    )


@njit(cache=True)
def _decompose(tensors):  # type: ignore[no-untyped-def]
    """Offsets (cells, 6, 3) and weights (cells, 6) of 3 x 3 tensors, by reduction to an obtuse superbase.

    A superbase b0 + b1 + b2 + b3 = 0 of Z^3 is obtuse for D when b_i . D b_j <= 0 for every pair; flipping a
    pair that is not (b_i -> -b_i, the two others += b_i) lowers sum_i b_i . D b_i, so the loop ends. Then
        D = sum over pairs of -(b_i . D b_j) v v^T,   v = cross product of the two other vectors.
    """
    count = tensors.shape[0]
    offsets = np.zeros((count, PAIRS, 3), dtype=np.int64)
    weights = np.zeros((count, PAIRS))
    base = np.empty((4, 3), dtype=np.int64)
    for cell in range(count):
        tensor = tensors[cell]
        base[:] = 0
        for axis in range(3):
            base[axis, axis] = 1
            base[3, axis] = -1
        _make_obtuse(base, tensor)
        pair = 0
        for i in range(3):
            for j in range(i + 1, 4):
                k, l = _others(i, j)  # noqa: E741
                weights[cell, pair] = max(0.0, -_product(base[i], tensor, base[j]))
                _cross(base[k], base[l], offsets[cell, pair])
                pair += 1
    return offsets, weights


@njit(cache=True)
def _make_obtuse(base, tensor):  # type: ignore[no-untyped-def]
    size = tensor[0, 0] + tensor[1, 1] + tensor[2, 2]
    for _ in range(MOST_FLIPS):
        flipped = False
        for i in range(3):
            for j in range(i + 1, 4):
                if _product(base[i], tensor, base[j]) > 1e-15 * size:
                    k, l = _others(i, j)  # noqa: E741
                    for axis in range(3):
                        base[k, axis] += base[i, axis]
                        base[l, axis] += base[i, axis]
                        base[i, axis] = -base[i, axis]
                    flipped = True
        if not flipped:
            return


@njit(cache=True)
def _others(i, j):  # type: ignore[no-untyped-def]
    """The two of 0, 1, 2, 3 that are neither i nor j."""
    first = 0
    while first in (i, j):
        first += 1
    return first, 6 - i - j - first


@njit(cache=True)
def _product(left, tensor, right):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(3):
        for j in range(3):
            total += left[i] * tensor[i, j] * right[j]
    return total


@njit(cache=True)
def _cross(left, right, out):  # type: ignore[no-untyped-def]
    """Cross product with the sign that makes its first non-zero component positive."""
    sign = 0
    for axis in range(3):
        i, j = (axis + 1) % 3, (axis + 2) % 3
        out[axis] = left[i] * right[j] - left[j] * right[i]
        if sign == 0 and out[axis] != 0:
            sign = 1 if out[axis] > 0 else -1
    if sign < 0:
        for axis in range(3):
            out[axis] = -out[axis]
