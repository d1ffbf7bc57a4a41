"""Views: what of a grid one panel shows.

One or two axes of the grid are drawn, the others are held at a cell or integrated over. What is drawn does not depend
on how many axes the grid has beyond that; axes of a single cell are left out, and of an infinite axis there is only
the part where there is something to see.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import numpy as np

from fpsolve.model.grid import Axis as GridAxis
from fpsolve.model.grid import BoolArray, FloatArray, Grid, IntArray
from fpsolve.model.problem import PointFunction, Problem

Window: TypeAlias = tuple[tuple[int, int], ...]  # the cells that are drawn along every axis: the first, and one past

MOST_BLOCKS = 400  # along each axis of an image: more than a panel has dots
LATTICE = {1: 801, 2: 201}  # points per axis at which formulas are drawn, by the number of axes
STRONG = 1e-2  # share of the strongest current above which there is something to see whatever the density
SHOWN = 1e-4  # share of the highest density up to which an infinite axis is drawn
MARGIN = 0.08  # of its length, beyond what is shown


@final
@dataclass(frozen=True, slots=True)
class View:
    """One or two axes of a grid to be drawn, the first across, the second up; the other axes are held at a cell.

    Boxes of a view have shape (across,) or (up, across). block: cells that are joined along every drawn axis, more
    where a panel has not so many dots.
    """

    grid: Grid
    axes: tuple[int, ...]
    held: tuple[int, ...]  # a cell along every axis
    window: Window
    block: int = 1

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the drawn axes."""
        return tuple(self.grid.names[axis] for axis in self.axes)

    @property
    def extents(self) -> tuple[float, ...]:
        """Lengths of the drawn axes."""
        return tuple(upper - lower for lower, upper in map(self.limits, range(len(self.axes))))

    def place(self, position: FloatArray) -> FloatArray:
        """A position (axes,), or positions (axes, points), along the drawn axes."""
        return self.grid.along(position)[list(self.axes)]

    def components(self, vectors: FloatArray) -> FloatArray:
        """Components of vectors (axes, ...) along the drawn axes."""
        return self.grid.turned(vectors)[list(self.axes)]

    def limits(self, number: int) -> tuple[float, float]:
        """Ends of a drawn axis: its walls, or where it is cut off."""
        return limits_of(self.grid, self.window, self.axes[number])

    def edges(self, number: int) -> FloatArray:
        """Edges of the blocks along a drawn axis."""
        return self.grid.axes[self.axes[number]].faces[self._starts(number)]

    def centres(self, number: int) -> FloatArray:
        """Centres of the blocks along a drawn axis."""
        starts = self._starts(number)
        middles = 0.5 * (starts[:-1] + starts[1:] - 1).astype(np.float64)
        return self.grid.axes[self.axes[number]].position(middles)

    def _starts(self, number: int) -> IntArray:
        """First cell of every block along a drawn axis, and one past the last."""
        first, last = self.window[self.axes[number]]
        return first + np.append(_block_starts(last - first, self.block), last - first)

    def section(self, values: FloatArray) -> FloatArray:
        """Values on the cells (..., cells) where the other axes are held, as a box of block means."""
        cut = tuple(
            slice(*self.window[number]) if number in self.axes else cell for number, cell in enumerate(self.held)
        )
        return self._blocks(self.grid.shaped(values)[(..., *cut)])

    @property
    def inside(self) -> BoolArray:
        """Blocks that hold some of the domain, anywhere along the axes that are not drawn, as a box."""
        box = self.grid.shaped(self.grid.active.astype(np.float64))
        others = tuple(axis for axis in range(self.grid.dimensions) if axis not in self.axes)
        cut = tuple(slice(*self.window[axis]) for axis in self.axes)
        return self._blocks(box.max(axis=others)[cut]) > 0.0

    def integral(self, values: FloatArray) -> FloatArray:
        """Values on the cells (..., cells) integrated over the other axes, as a box of block means."""
        box = self.grid.shaped(values)
        for number, axis in reversed(list(enumerate(self.grid.axes))):
            if number not in self.axes:
                box = np.moveaxis(box, number - self.grid.dimensions, -1) @ axis.widths
        cut: list[Any] = [slice(*self.window[axis]) for axis in self.axes]
        return self._blocks(box[(..., *cut)])

    def evaluate(self, function: PointFunction) -> tuple[list[FloatArray], FloatArray]:
        """Coordinates along the drawn axes, wall to wall, and a function of the position on their lattice.

        Not a number outside the domain.
        """
        points = LATTICE[len(self.axes)]
        # Just inside the walls, where a formula need not be finite.
        ends = [self.window[axis] for axis in self.axes]
        lines = [np.linspace(first - 0.499, last - 0.501, points) for first, last in ends]
        mesh = np.meshgrid(*lines, indexing="ij")
        index = np.repeat(np.array(self.held, dtype=np.float64)[:, None], mesh[0].size, axis=1)
        for axis, values in zip(self.axes, mesh, strict=True):
            index[axis] = values.ravel()
        positions = self.grid.positions(index)
        if self.grid.domain is None:
            values = function(positions)
        else:
            with np.errstate(all="ignore"):
                values = np.where(self.grid.domain.level(positions) > 0.0, function(positions), np.nan)
        box = values.reshape(mesh[0].shape).T
        coordinates = [self.grid.axes[axis].position(line) for axis, line in zip(self.axes, lines, strict=True)]
        return coordinates, np.where(np.isfinite(box), box, np.nan)

    def _blocks(self, box: FloatArray) -> FloatArray:
        for number, axis in enumerate(self.axes):
            first, last = self.window[axis]
            starts, along = self._starts(number)[:-1] - first, number - len(self.axes)
            if starts.size < last - first:
                after = [1] * (-along - 1)
                widths = self.grid.axes[axis].widths[first:last]
                whole = np.add.reduceat(widths, starts).reshape(-1, *after)
                box = np.add.reduceat(box * widths.reshape(-1, *after), starts, axis=along) / whole
        return box if len(self.axes) == 1 else np.swapaxes(box, -1, -2)


def _block_starts(cells: int, block: int) -> IntArray:
    """First cell of every block along an axis."""
    return np.arange(0, cells, max(block, -(-cells // MOST_BLOCKS)), dtype=np.int64)


def nearest(centres: FloatArray, places: FloatArray) -> IntArray:
    """Numbers of the centres nearest to some places."""
    return np.asarray(np.abs(centres - places[:, None]).argmin(axis=1), dtype=np.int64)


def drawn_axes(grid: Grid) -> tuple[int, ...]:
    """The axes worth drawing: those of more than one cell."""
    return tuple(number for number, axis in enumerate(grid.axes) if axis.cells > 1) or (0,)


def shown_variables(grid: Grid) -> tuple[int, ...]:
    """The variables whose means are worth drawing: those of the drawn axes; on a turned grid all."""
    return drawn_axes(grid) if grid.frame is None else tuple(range(grid.dimensions))


def plain_view(grid: Grid, window: Window | None = None) -> View:
    """The view of a grid with one or two axes worth drawing."""
    return View(grid, drawn_axes(grid), (0,) * grid.dimensions, window or whole_window(grid))


def pair_views(grid: Grid, cell: int, window: Window | None = None) -> list[View]:
    """The views xy, xz, yz of a box, each held at a cell."""
    held = tuple(int(index) for index in np.unravel_index(cell, grid.shape))
    return [View(grid, pair, held, window or whole_window(grid)) for pair in itertools.combinations(range(3), 2)]


def whole_window(grid: Grid) -> Window:
    """All cells of every axis."""
    return tuple((0, cells) for cells in grid.shape)


def limits_of(grid: Grid, window: Window, number: int) -> tuple[float, float]:
    """Positions of the ends of a window along an axis."""
    axis, (first, last) = grid.axes[number], window[number]
    faces = axis.faces
    return axis.lower if first == 0 else float(faces[first]), axis.upper if last == axis.cells else float(faces[last])


def window_of(problem: Problem, density: FloatArray, current: FloatArray | None = None) -> Window:
    """The cells to draw: all of them, but on an infinite axis those where there is something to see.

    That is where a density (..., cells) is not SHOWN times lower than at its peak, where the loss is not higher than
    there, and where a current (axes, cells) is strong.
    """
    grid = problem.grid
    if not any(any(axis.infinite) for axis in grid.axes):
        return whole_window(grid)
    rows = density.reshape(-1, grid.size)
    seen: BoolArray = (rows >= SHOWN * rows.max(axis=1, keepdims=True)).any(axis=0)
    if problem.landscape.loss is not None:
        loss = problem.landscape.loss(grid.positions())
        seen |= loss <= loss[seen].max()
    if current is not None:
        strength = np.sqrt((current**2).sum(axis=0))
        seen |= strength > STRONG * strength.max()
    return tuple(_seen_cells(axis, row[seen]) for axis, row in zip(grid.axes, grid.indices(), strict=True))


def _seen_cells(axis: GridAxis, seen: IntArray) -> tuple[int, int]:
    """The first of the cells of an axis to be drawn, and one past the last; seen: those worth it."""
    low, high = axis.position(np.array([seen.min() - 0.5, seen.max() + 0.5]))
    low, high = max(low, axis.centres[0]), min(high, axis.centres[-1])
    room = MARGIN * (high - low)
    first, last = np.rint(axis.index(np.array([low - room, high + room])) + 0.5).astype(np.int64)
    lower, upper = axis.infinite
    return (max(int(first), 1) if lower else 0), (min(int(last), axis.cells - 1) if upper else axis.cells)
