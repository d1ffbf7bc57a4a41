"""The lowest pass from a start to a region.

On the grid a pass is found by flooding: of all ways from the start to the region, the lowest is the one whose
highest cell is lowest. That cell is then moved, by Newton's method, onto the saddle of the loss itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import numpy as np
from scipy.optimize import brentq
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree

from fpsolve.analyse.geometry import (
    cell_at,
    describe,
    displacement,
    in_cells,
    inside_walls,
    neighbour_pairs,
    separation,
)
from fpsolve.analyse.stationary_points import (
    PLACE,
    StationaryPoint,
    StationaryPointError,
    descent,
    is_stationary,
    newton,
    require_loss,
    stationary_point,
    value_at,
)
from fpsolve.model.grid import BoolArray, FloatArray, Grid
from fpsolve.model.problem import Problem
from fpsolve.model.region import Region

# How far, in cells, a saddle may lie from the highest cell of the way over it.
FARTHEST_SADDLE = 5.0
# The lowest cells that are tried as minima; narrow oblique valleys show false ones.
MOST_MINIMA = 50

Begins: TypeAlias = Literal["before", "on", "beyond"]


@final
@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """The lowest pass from a start to a region.

    begins: where the region begins, on the way over the saddle: "before" it (the saddle lies inside the region),
    "on" it (less than a cell to either side), or "beyond" it.
    """

    saddle: StationaryPoint
    begins: Begins


def pass_between(
    problem: Problem, start: Sequence[float] | FloatArray, region: Region, closed: BoolArray | None = None
) -> Pass:
    """The lowest pass on the way from a start to a region, or to an absorbing wall where that is reached lower.

    Parameters
    ----------
    problem : with a loss.
    start : (axes,) [length].
    closed : (cells,), cells that the way may not enter.

    Returns
    -------
    A saddle of index 1, exact to rounding.

    Raises
    ------
    StationaryPointError : there is no loss or no way, the start lies in the region, or the highest point
        of the way is not near a saddle of index 1: it is one of its ends, a wall, or a flat top.
    """
    grid = problem.grid
    cell = summit_between(problem, start, region, closed)
    summit = grid.positions()[:, cell]
    saddle = stationary_point(problem, newton(problem, summit, 1))
    if (
        saddle.index == 1
        and not saddle.held
        and separation(grid, saddle.position, summit) <= FARTHEST_SADDLE
        and is_stationary(problem, saddle)
    ):
        return Pass(saddle, _beginning(problem, saddle, region))
    place = describe(grid, summit)
    if _exits(grid, region)[cell]:
        reason = f"the target, or an absorbing wall, is reached on the way up, at {place}, before any saddle"
    else:
        reason = (
            f"no index-1 saddle between start and target: the highest point of the lowest way, {place}, is not near one"
        )
    raise StationaryPointError(PLACE, reason, "", "Use a finer grid, or a target beyond a saddle")


def summit_between(
    problem: Problem, start: Sequence[float] | FloatArray, region: Region, closed: BoolArray | None = None
) -> int:
    """The highest cell of the lowest way from a start to a region (or an absorbing wall), as a flat cell number.

    The lowest way lies in the minimum spanning tree of the cells, with the height of the higher cell as the length
    of an edge; all cells of the region hang on one extra node by edges shorter than any other, so that the way to
    that node leaves the tree in the first of them. Parameters and errors as in `pass_between`.
    """
    grid = problem.grid
    exits = _exits(grid, region)
    first = cell_at(grid, np.asarray(start, dtype=np.float64))
    if exits[first]:
        raise StationaryPointError(PLACE, "the start lies in the target")
    # Ranks instead of heights: exact, positive, and of any range.
    ranks = np.empty(grid.size, dtype=np.int64)
    ranks[np.argsort(require_loss(problem)(grid.positions()), kind="stable")] = np.arange(grid.size)
    tails, heads = neighbour_pairs(grid, np.ones(grid.size, np.bool_) if closed is None else ~closed)
    (cells,) = np.nonzero(exits)
    lengths = np.concatenate([1.0 + np.maximum(ranks[tails], ranks[heads]), np.full(cells.size, 0.5)])
    ends = np.concatenate([tails, cells]), np.concatenate([heads, np.full(cells.size, grid.size)])
    tree = minimum_spanning_tree(coo_array((lengths, ends), shape=(grid.size + 1,) * 2).tocsr())
    _, parents = breadth_first_order(tree, first, directed=False)
    if parents[grid.size] < 0:
        raise StationaryPointError(PLACE, "no way leads from the start to the target")
    way = [int(parents[grid.size])]
    while way[-1] != first:
        way.append(int(parents[way[-1]]))
    return max(way, key=ranks.__getitem__)


def minima_below(
    problem: Problem, start: Sequence[float] | FloatArray, level: float, closed: BoolArray
) -> list[StationaryPoint]:
    """The minima of the lake around a start: of all that is reached from it below a level, around the closed cells.

    level: of the loss; closed: (cells,). Lowest first; looked for from the lowest cells with higher neighbours only.
    """
    grid = problem.grid
    heights = require_loss(problem)(grid.positions())
    tails, heads = neighbour_pairs(grid, (heights < level) & ~closed)
    links = coo_array((np.ones(tails.size), (tails, heads)), shape=(grid.size,) * 2)
    _, lakes = connected_components(links.tocsr(), directed=False)
    bottom = lakes == lakes[cell_at(grid, np.asarray(start, dtype=np.float64))]
    tails, heads = neighbour_pairs(grid, np.ones(grid.size, np.bool_))
    bottom[np.where(heights[tails] > heights[heads], tails, heads)] = False
    (cells,) = np.nonzero(bottom)
    minima: list[StationaryPoint] = []
    for cell in cells[np.argsort(heights[cells], kind="stable")][:MOST_MINIMA]:
        found = stationary_point(problem, newton(problem, descent(problem, grid.positions()[:, cell])[-1], 0))
        known = any(separation(grid, found.position, other.position) < 1.0 for other in minima)
        if not known and found.index == 0 and not found.held and is_stationary(problem, found):
            minima.append(found)
    return sorted(minima, key=lambda point: point.loss)


def entry_into(problem: Problem, way: FloatArray, region: Region) -> FloatArray | None:
    """Where a way (points, axes) first enters a region, (axes,), on the straight line between two of its points.

    None where it never does.
    """
    (inside,) = np.nonzero(region.level(way.T) > 0.0)
    if inside.size == 0:
        return None
    first = int(inside[0])
    if first == 0:
        return np.asarray(way[0])
    before, step = way[first - 1], displacement(problem.grid, way[first], way[first - 1])
    share = brentq(lambda part: value_at(region.level, before + part * step), 0.0, 1.0)
    return inside_walls(problem.grid, before + share * step)


def neighbourhood(grid: Grid, point: StationaryPoint, height: float) -> BoolArray:
    """Cells (cells,) around a stationary point where the quadratic form of |H| / 2 stays below a height of the loss.

    The cells next to it always belong to it, so that no way between neighbours leads over the point.
    """
    values, vectors = np.linalg.eigh(point.hessian)
    offsets = displacement(grid, grid.positions(), point.position[:, None])
    energy = 0.5 * np.abs(values) @ (vectors.T @ offsets) ** 2
    adjoining = (np.abs(in_cells(grid, offsets, point.position[:, None])) < 1.0).all(axis=0)
    inside: BoolArray = adjoining | (energy < height)
    return inside


def _beginning(problem: Problem, saddle: StationaryPoint, region: Region) -> Begins:
    """Where the region begins: looked at one cell to either side of the saddle, along the way over it."""
    across = saddle.lowest_direction
    across = across / np.abs(in_cells(problem.grid, across, saddle.position)).max()
    inside = [value_at(region.level, saddle.position + side * across) > 0.0 for side in (-1.0, 0.0, 1.0)]
    if all(inside):
        return "before"
    return "on" if any(inside) else "beyond"


def _exits(grid: Grid, region: Region) -> BoolArray:
    """Cells of the region (those touched by it, where it holds no cell centre) and cells at absorbing walls."""
    exits: BoolArray = region.level(grid.positions()) > 0.0
    if not exits.any():
        exits = region.weights(grid) > 0.0
    for axis, row in zip(grid.axes, grid.indices(), strict=True):
        for wall, cell in zip(axis.walls, (0, axis.cells - 1), strict=True):
            if wall == "absorbing":
                exits |= row == cell
    if grid.domain is not None and grid.parts is not None and grid.domain.wall == "absorbing":
        exits |= grid.parts.depth <= 1.0
    return exits
