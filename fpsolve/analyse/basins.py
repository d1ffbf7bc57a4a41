"""Basins: the minima of the loss on a grid, the saddles between them, and which minimum every cell belongs to.

Grid minima are led down the gradient to the minima of the loss itself; several, in a narrow oblique valley, to one
and the same. A watershed then divides the cells, and its borders are put right by following the gradient from the
cells beside them. Along the borders lie the saddles, which Newton's method finds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from fpsolve.analyse.flow import fall
from fpsolve.analyse.geometry import (
    brief,
    cell_at,
    cell_size,
    cells_at,
    displacement,
    in_cells,
    inside_walls,
    is_inside,
    neighbour_pairs,
)
from fpsolve.analyse.passes import FARTHEST_SADDLE
from fpsolve.analyse.stationary_points import (
    PLACE,
    StationaryPoint,
    StationaryPointError,
    is_stationary,
    newton_from_all,
    newton_steps,
    require_loss,
    stationary_point,
)
from fpsolve.analyse.watershed import (
    DEGENERATE,
    OUTSIDE,
    UNKNOWN,
    bottoms_of,
    distinct,
    flooded,
    is_degenerate,
    leaving,
    numbers_of,
    settled,
    united,
)
from fpsolve.model.fields import FunctionField
from fpsolve.model.grid import FloatArray, Grid, IntArray
from fpsolve.model.problem import Problem
from fpsolve.model.region import Region

# More minima than this are ripples: a matrix of rates between them would say nothing.
MOST_BASINS = 100
# Newton's steps that a cell at a border may take to come near a saddle, and how short they must then be, in cells.
FIRST_STEPS = 12
SHORT_STEP = 0.1
# Losses that differ by less than this share of their range over the lower half of the cells count as equal.
ROUNDING = 1e-12
# From a saddle the ways down are followed from this far to either side, in cells.
NUDGE = 0.05
# Standard deviation, in cells, of the smoothing that turns the staircase between two basins into a surface.
SMOOTHING = 1.0


@final
@dataclass(frozen=True, slots=True, eq=False)
class Saddle:
    """A saddle of index 1 between two basins.

    basins: their numbers, the lower first; heights: of the saddle above the minimum of either [loss];
    thermal_heights: the same over T, where D = T M.
    """

    point: StationaryPoint
    basins: tuple[int, int]
    heights: tuple[float, float]
    thermal_heights: tuple[float, float] | None


@final
@dataclass(frozen=True, slots=True, eq=False)
class Basins:
    """The basins of a loss on a grid.

    minima: the lowest first; equally low ones in the order of their positions. A minimum may lie on a reflecting wall
    that holds it (`held`); where the loss falls out through an absorbing wall there is none.
    saddles: of index 1 between two different basins, the lowest first; passes along a wall are held by it.
    label: the basin of every cell, (cells,), by number in `minima`; OUTSIDE where the way down leads out.
    rounding: losses that differ by less count as equal [loss].
    """

    problem: Problem
    minima: tuple[StationaryPoint, ...]
    saddles: tuple[Saddle, ...]
    label: IntArray
    rounding: float

    @property
    def equally_deep(self) -> bool:
        """Whether the two lowest minima are equally low, but for rounding."""
        return len(self.minima) > 1 and self.minima[1].loss - self.minima[0].loss <= self.rounding

    def between(self, one: int, other: int) -> tuple[Saddle, ...]:
        """The saddles between two basins, the lowest first."""
        return tuple(saddle for saddle in self.saddles if set(saddle.basins) == {one, other})

    def number_at(self, point: Sequence[float] | FloatArray) -> int:
        """The basin of a point (axes,), by number: where its way down ends; OUTSIDE where it leads out."""
        end = fall(self.problem, np.asarray(point, dtype=np.float64)[:, None])
        found = int(numbers_of(self.problem, end, self.minima)[0])
        return found if found != UNKNOWN else int(self.label[cell_at(self.problem.grid, end[:, 0])])


def find_basins(problem: Problem) -> Basins:
    """The minima, saddles and basins of the loss of a problem.

    A minimum or saddle is found when it is wider than the cells; its position is then exact to rounding. Basins are
    those of the drift -M grad L: from every cell it leads to the minimum of the cell's label (a drift that is added
    to it is left out).

    Raises
    ------
    StationaryPointError : there is no loss, no minimum, or more than MOST_BASINS.
    """
    heights = require_loss(problem)(problem.grid.positions())
    # Of the lower half: far out on an infinite axis a loss is of any size.
    rounding = max(ROUNDING * float(np.median(heights) - heights.min()), np.finfo(np.float64).tiny)
    bottoms, ends = bottoms_of(problem, heights)
    minima = _minima(problem, ends, rounding)
    label = flooded(problem.grid, heights, bottoms, numbers_of(problem, ends, minima))
    label, minima = united(problem, label, minima, rounding)
    if len(minima) > MOST_BASINS:
        reason = f"the loss has {len(minima)} minima on this grid, more than {MOST_BASINS}"
        raise StationaryPointError(PLACE, reason, "", "Give start and target, or a smoother loss")
    label = settled(problem, heights, label, minima)
    return Basins(problem, minima, _saddles(problem, label, minima, rounding), label, rounding)


def basin_region(basins: Basins, number: int) -> Region:
    """A basin as a region, for a valley: a function of positions, usable on any grid of the same box.

    The level is the indicator (1 inside, -1 outside) of the cells, smoothed by a Gaussian of one cell and linear
    between cell centres: it is zero within a fraction of a cell of the true border.
    """
    grid = basins.problem.grid
    modes = ["wrap" if axis.periodic else "nearest" for axis in grid.axes]
    indicator = np.where(basins.label == number, 1.0, -1.0)
    padded = gaussian_filter(grid.shaped(indicator), SMOOTHING, mode=modes)
    for side, axis in enumerate(grid.axes):  # one more cell at either end
        width = [(int(other == side),) * 2 for other in range(grid.dimensions)]
        padded = np.pad(padded, width, mode="wrap" if axis.periodic else "edge")

    def interpolated(*coordinates: FloatArray) -> FloatArray:
        positions = inside_walls(grid, np.array(coordinates))
        index = [axis.index(x) + 1.0 for axis, x in zip(grid.axes, grid.along(positions), strict=True)]
        return np.asarray(map_coordinates(padded, index, order=1, mode="nearest"))

    name = f"basin of {brief(grid, basins.minima[number].position)}"
    return Region(name, FunctionField(interpolated, (), grid.dimensions, name))


def _minima(problem: Problem, ends: FloatArray, rounding: float) -> tuple[StationaryPoint, ...]:
    """The different minima among the ends of ways down, (axes, ends), the lowest first."""
    staying = ends[:, ~leaving(problem, ends)]
    points = [stationary_point(problem, end) for end in distinct(problem.grid, staying)]
    minima = [point for point in points if _is_minimum(point) and is_stationary(problem, point)]
    minima = [point for point in minima if is_inside(problem.grid, point.position)]
    if not minima:
        raise StationaryPointError(PLACE, "the loss has no minimum on this grid", "", "Widen the grid")
    return tuple(_ordered(minima, rounding))


def _is_minimum(point: StationaryPoint) -> bool:
    """Whether the loss falls nowhere; rounding of a curvature that vanishes does not count."""
    return bool((point.eigenvalues >= -DEGENERATE * np.abs(point.hessian).max()).all())


def _ordered(points: Sequence[StationaryPoint], rounding: float) -> list[StationaryPoint]:
    """The lowest first; those that are equally high, but for rounding, by their positions."""
    ascending = sorted(points, key=lambda point: point.loss)
    rises = np.diff([point.loss for point in ascending], prepend=-np.inf) > rounding
    ranks = dict(zip(map(id, ascending), np.cumsum(rises).tolist(), strict=True))
    return sorted(ascending, key=lambda point: (ranks[id(point)], *np.round(point.position, 9)))


def _saddles(
    problem: Problem, label: IntArray, minima: Sequence[StationaryPoint], rounding: float
) -> tuple[Saddle, ...]:
    """The saddles between different basins: Newton's method from all cells at a border, and from the walls there."""
    grid = problem.grid
    starts = _border_positions(grid, label)
    near = newton_from_all(problem, starts, 1, FIRST_STEPS)
    close = np.abs(in_cells(grid, displacement(grid, near, starts), near)).max(axis=0) <= FARTHEST_SADDLE
    close &= np.abs(in_cells(grid, newton_steps(problem, near, 1), near)).max(axis=0) <= SHORT_STEP
    points = [stationary_point(problem, end) for end in distinct(grid, newton_from_all(problem, near[:, close], 1))]
    saddles = _ordered([point for point in points if point.index == 1 and is_stationary(problem, point)], rounding)
    saddles = [point for point in saddles if is_inside(grid, point.position)]
    found: list[Saddle] = []
    for point, ends in zip(saddles, _joined_basins(problem, label, saddles, minima), strict=True):
        ridge = is_degenerate(point) and any(
            other.basins == ends and abs(other.point.loss - point.loss) <= rounding for other in found
        )  # of one height all along: one saddle of it will do
        if 0 <= ends[0] < ends[1] and not ridge:
            heights = (point.loss - minima[ends[0]].loss, point.loss - minima[ends[1]].loss)
            temperature = problem.temperature
            thermal = None if temperature is None else (heights[0] / temperature, heights[1] / temperature)
            found.append(Saddle(point, ends, heights, thermal))
    return tuple(found)


def _border_positions(grid: Grid, label: IntArray) -> FloatArray:
    """Centres of the cells beside a border between two basins, and the points on walls next to them, (axes, points)."""
    tails, heads = neighbour_pairs(grid, label != OUTSIDE)
    differ = label[tails] != label[heads]
    positions = grid.positions()[:, np.unique(np.concatenate([tails[differ], heads[differ]]))]
    for number, axis in enumerate(grid.axes):
        for wall in () if axis.periodic else (axis.lower, axis.upper):
            along = grid.along(positions)
            on_wall = along[:, np.abs(along[number] - wall) < cell_size(grid, positions)[number]]
            on_wall[number] = wall
            positions = np.concatenate([positions, grid.placed(on_wall)], axis=1)
    return positions


def _joined_basins(
    problem: Problem, label: IntArray, saddles: Sequence[StationaryPoint], minima: Sequence[StationaryPoint]
) -> list[tuple[int, int]]:
    """The basins on either side of each saddle, in ascending order."""
    if not saddles:
        return []
    grid = problem.grid
    positions = np.array([point.position for point in saddles]).T
    directions = np.array([point.lowest_direction for point in saddles]).T
    nudge = NUDGE * directions / np.abs(in_cells(grid, directions, positions)).max(axis=0)
    sides = [fall(problem, inside_walls(grid, positions + side * nudge)) for side in (-1.0, 1.0)]
    ended = [numbers_of(problem, ends, minima) for ends in sides]
    numbers = [np.where(n == UNKNOWN, label[cells_at(grid, ends)], n) for n, ends in zip(ended, sides, strict=True)]
    return [(int(lower), int(upper)) for lower, upper in np.sort(numbers, axis=0).T]
