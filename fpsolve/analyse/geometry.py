"""Places on a grid: distances in cells, the short way round, positions in words."""

from __future__ import annotations

import math

import numpy as np

from fpsolve.model.grid import BoolArray, FloatArray, Grid, IntArray
from fpsolve.model.region import ON_WALL


def separation(grid: Grid, one: FloatArray, other: FloatArray) -> float:
    """Distance of two points, in cells of the axis along which it is largest."""
    return float(np.abs(in_cells(grid, displacement(grid, one, other), other)).max())


def displacement(grid: Grid, end: FloatArray, origin: FloatArray) -> FloatArray:
    """The way from origin to end, the short way round on periodic axes."""
    rows = []
    for axis, difference in zip(grid.axes, grid.turned(end - origin), strict=True):
        length = axis.upper - axis.lower
        rows.append(difference - length * np.rint(difference / length) if axis.periodic else difference)
    return grid.unturned(np.array(rows))


def in_cells(grid: Grid, step: FloatArray, position: FloatArray) -> FloatArray:
    """Components along the axes of a step (axes,), or steps (axes, points), in cells of the size there is there."""
    return grid.turned(step) / cell_size(grid, position)


def wrapped(grid: Grid, position: FloatArray) -> FloatArray:
    """The position (axes,), or positions (axes, points), with periodic axes brought back between their ends."""
    if not any(axis.periodic for axis in grid.axes):
        return np.array(position)
    return grid.placed(_wrapped(grid, grid.along(position)))


def _wrapped(grid: Grid, coordinates: FloatArray) -> FloatArray:
    rows = [
        axis.lower + (x - axis.lower) % (axis.upper - axis.lower) if axis.periodic else x
        for axis, x in zip(grid.axes, coordinates, strict=True)
    ]
    return np.array(rows)


def inside_walls(grid: Grid, position: FloatArray) -> FloatArray:
    """The position (axes,), or positions (axes, points), wrapped, or the nearest ones between the walls."""
    shape = (-1,) + (1,) * (position.ndim - 1)
    lower, upper = ([axis.lower for axis in grid.axes], [axis.upper for axis in grid.axes])
    coordinates = _wrapped(grid, grid.along(position))
    return grid.placed(np.clip(coordinates, np.reshape(lower, shape), np.reshape(upper, shape)))


def on_walls(grid: Grid, positions: FloatArray) -> tuple[BoolArray, BoolArray]:
    """Whether positions (axes, points) are on, or beyond, the lower and the upper wall of every axis: (axes, points).

    Never on periodic axes. On a turned grid, but for rounding.
    """
    lower, upper = np.zeros((2, *positions.shape), dtype=np.bool_)
    for number, (axis, x) in enumerate(zip(grid.axes, grid.along(positions), strict=True)):
        if not axis.periodic:
            first, last = (0.0, 0.0) if grid.frame is None else ON_WALL * axis.widths[[0, -1]]
            lower[number], upper[number] = x <= axis.lower + first, x >= axis.upper - last
    return lower, upper


def is_inside(grid: Grid, position: FloatArray) -> bool:
    """Whether a position (axes,) lies inside the domain of the grid."""
    return grid.domain is None or bool(grid.domain.level(position[:, None])[0] > 0.0)


def cell_size(grid: Grid, position: FloatArray) -> FloatArray:
    """Widths along the axes of the cell around a position (axes,), or around positions (axes, points) [length].

    Beyond the outermost cell centres those of the outermost cells: on infinite axes, too, they are finite.
    """
    rows = [
        axis.stretch(row if axis.periodic else np.clip(row, 0.0, axis.cells - 1.0))
        for axis, row in zip(grid.axes, _index(grid, position), strict=True)
    ]
    return np.array(rows)


def cell_at(grid: Grid, position: FloatArray) -> int:
    """Flat number of the cell that holds a position, or of the nearest one."""
    return int(cells_at(grid, position[:, None])[0])


def cells_at(grid: Grid, positions: FloatArray) -> IntArray:
    """Flat numbers of the cells that hold positions (axes, points), or of the nearest ones, (points,)."""
    last = np.array(grid.shape)[:, None] - 1
    nearest = np.clip(np.rint(_index(grid, wrapped(grid, positions))), 0, last)
    return grid.strides @ nearest.astype(np.int64)


def _index(grid: Grid, position: FloatArray) -> FloatArray:
    rows = zip(grid.axes, grid.along(position), strict=True)
    return np.array([axis.index(x) for axis, x in rows], dtype=np.float64)


def neighbour_pairs(grid: Grid, allowed: BoolArray) -> tuple[IntArray, IntArray]:
    """Pairs of allowed cells inside the domain that share a face."""
    tails, heads = [], []
    allowed = allowed & grid.active
    for offset in np.eye(grid.dimensions, dtype=np.int64):
        neighbours, inside = grid.neighbours(offset)
        (cells,) = np.nonzero(inside & allowed & allowed[neighbours] & (neighbours != np.arange(grid.size)))
        tails.append(cells)
        heads.append(neighbours[cells])
    return np.concatenate(tails), np.concatenate(heads)


def describe(grid: Grid, position: FloatArray) -> str:
    """A position in words: 'x = 0.5, y = -1'."""
    parts = zip(grid.variables, position, strict=True)
    return ", ".join(f"{name} = {round(float(x), 9) + 0.0:.6g}" for name, x in parts)


def brief(grid: Grid, position: FloatArray) -> str:
    """A position in a few characters, for names: 'x = 0.5', or '(0.5, -1)' on several axes.

    Three significant digits, and more where neighbouring cells would be alike without them.
    """
    numbers = []
    sizes = cell_size(grid, position)
    if grid.frame is not None:
        sizes = np.full_like(sizes, sizes.min())
    for x, size in zip(position.tolist(), sizes.tolist(), strict=True):
        digits = max(3, math.ceil(math.log10(max(abs(x) / size, 1.0))))
        numbers.append(f"{round(x, 9) + 0.0:.{digits}g}")
    return f"{grid.names[0]} = {numbers[0]}" if grid.dimensions == 1 else f"({', '.join(numbers)})"
