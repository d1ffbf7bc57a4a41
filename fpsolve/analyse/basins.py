"""Basins: the minimum that a start belongs to, and the lowest pass from there to a region.

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

from fpsolve.errors import RunError
from fpsolve.model.fields import Field
from fpsolve.model.grid import BoolArray, FloatArray, Grid, IntArray
from fpsolve.model.problem import Problem
from fpsolve.model.region import Region

# The place named in errors.
PLACE = "basins of the loss"
# How far, in cells, a saddle may lie from the highest cell of the way over it.
FARTHEST_SADDLE = 5.0
# Newton's steps double the digits; degenerate points (no quadratic term) gain a factor 3/2 a step.
MOST_NEWTON_STEPS = 100
# A point counts as stationary when Newton would move it by less, in cells.
STATIONARY_STEP = 1e-6
# The lowest cells that are tried as minima; narrow oblique valleys show false ones.
MOST_MINIMA = 50

Begins: TypeAlias = Literal["before", "on", "beyond"]


@final
class StationaryPointError(RunError):
    """There is no minimum or no pass where one was asked for; `found` is the reason, as a clause for the report."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class StationaryPoint:
    """A point where the gradient of the loss vanishes."""

    position: FloatArray  # (axes,) [length]
    loss: float
    hessian: FloatArray  # (axes, axes) [loss/length**2]
    eigenvalues: FloatArray  # of the Hessian, (axes,), ascending

    @property
    def index(self) -> int:
        """Number of directions in which the loss falls: 0 for a minimum, 1 for a saddle."""
        return int((self.eigenvalues < 0.0).sum())

    @property
    def lowest_direction(self) -> FloatArray:
        """Unit vector along which the curvature is lowest, (axes,): at a saddle, the way over it."""
        return np.asarray(np.linalg.eigh(self.hessian)[1][:, 0])


@final
@dataclass(frozen=True, slots=True, eq=False)
class Pass:
    """The lowest pass from a start to a region.

    begins: where the region begins, on the way over the saddle: "before" it (the saddle lies inside the region),
    "on" it (less than a cell to either side), or "beyond" it.
    """

    saddle: StationaryPoint
    begins: Begins


def minimum_near(problem: Problem, point: Sequence[float] | FloatArray) -> StationaryPoint:
    """The minimum of the loss at the end of the way down from a point, exact to rounding.

    Parameters
    ----------
    problem : with a loss.
    point : (axes,) [length].

    Raises
    ------
    StationaryPointError : there is no loss, or the way down ends on a wall or, by symmetry, on a saddle or maximum.
    """
    _require_loss(problem)
    way = descent(problem, point)
    found = _stationary(problem, _newton(problem, way[-1], 0))
    origin, end = describe(problem.grid, way[0]), describe(problem.grid, found.position)
    if not _is_stationary(problem, found):
        reason = f"the loss falls from {origin} all the way to a wall, at {end}"
        raise StationaryPointError(PLACE, reason, "", "Widen the grid or move the start")
    if found.index > 0:
        reason = f"the way down from {origin} ends on a ridge, at {end}, with a way down to either side"
        raise StationaryPointError(PLACE, reason, "", "Move the start into the well that is meant")
    return found


def descent(problem: Problem, point: Sequence[float] | FloatArray) -> FloatArray:
    """A way down from a point to a minimum, (points, axes) [length], the point first.

    Every step is Newton's with the absolute values of the curvatures, at most one cell long in every principal
    direction; the loss falls at each of them. The way stops where it can fall no further: at a minimum,
    to the square root of rounding, or on a wall.
    """
    loss = _require_loss(problem)
    way = [np.asarray(point, dtype=np.float64)]
    lowest = _value(loss, way[0])
    for _ in range(20 * sum(problem.grid.shape)):
        step = _newton_step(problem, way[-1], 0)
        if (np.abs(step) < STATIONARY_STEP * _cell_size(problem.grid, way[-1])).all():
            break
        for halvings in range(30):
            trial = _inside(problem.grid, way[-1] + 0.5**halvings * step)
            height = _value(loss, trial)
            if height < lowest:
                break
        else:
            break
        way.append(trial)
        lowest = height
    return np.array(way)


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
    saddle = _stationary(problem, _newton(problem, summit, 1))
    if (
        saddle.index == 1
        and separation(grid, saddle.position, summit) <= FARTHEST_SADDLE
        and _is_stationary(problem, saddle)
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
    first = _cell_at(grid, np.asarray(start, dtype=np.float64))
    if exits[first]:
        raise StationaryPointError(PLACE, "the start lies in the target")
    # Ranks instead of heights: exact, positive, and of any range.
    ranks = np.empty(grid.size, dtype=np.int64)
    ranks[np.argsort(_require_loss(problem)(grid.positions()), kind="stable")] = np.arange(grid.size)
    tails, heads = _neighbour_pairs(grid, np.ones(grid.size, np.bool_) if closed is None else ~closed)
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
    heights = _require_loss(problem)(grid.positions())
    tails, heads = _neighbour_pairs(grid, (heights < level) & ~closed)
    links = coo_array((np.ones(tails.size), (tails, heads)), shape=(grid.size,) * 2)
    _, lakes = connected_components(links.tocsr(), directed=False)
    bottom = lakes == lakes[_cell_at(grid, np.asarray(start, dtype=np.float64))]
    tails, heads = _neighbour_pairs(grid, np.ones(grid.size, np.bool_))
    bottom[np.where(heights[tails] > heights[heads], tails, heads)] = False
    (cells,) = np.nonzero(bottom)
    minima: list[StationaryPoint] = []
    for cell in cells[np.argsort(heights[cells], kind="stable")][:MOST_MINIMA]:
        found = _stationary(problem, _newton(problem, descent(problem, grid.positions()[:, cell])[-1], 0))
        known = any(separation(grid, found.position, other.position) < 1.0 for other in minima)
        if not known and found.index == 0 and _is_stationary(problem, found):
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
    share = brentq(lambda part: _value(region.level, before + part * step), 0.0, 1.0)
    return _inside(problem.grid, before + share * step)


def separation(grid: Grid, one: FloatArray, other: FloatArray) -> float:
    """Distance of two points, in cells of the axis along which it is largest."""
    return float(np.abs(displacement(grid, one, other) / _cell_size(grid, other)).max())


def neighbourhood(grid: Grid, point: StationaryPoint, height: float) -> BoolArray:
    """Cells (cells,) around a stationary point where the quadratic form of |H| / 2 stays below a height of the loss.

    The cells next to it always belong to it, so that no way between neighbours leads over the point.
    """
    values, vectors = np.linalg.eigh(point.hessian)
    offsets = displacement(grid, grid.positions(), point.position[:, None])
    energy = 0.5 * np.abs(values) @ (vectors.T @ offsets) ** 2
    adjoining = (np.abs(offsets) < _cell_size(grid, point.position)[:, None]).all(axis=0)
    inside: BoolArray = adjoining | (energy < height)
    return inside


def displacement(grid: Grid, end: FloatArray, origin: FloatArray) -> FloatArray:
    """The way from origin to end, the short way round on periodic axes."""
    rows = []
    for axis, difference in zip(grid.axes, end - origin, strict=True):
        length = axis.upper - axis.lower
        rows.append(difference - length * np.rint(difference / length) if axis.periodic else difference)
    return np.array(rows)


def wrapped(grid: Grid, position: FloatArray) -> FloatArray:
    """The position (axes,), or positions (axes, points), with periodic axes brought back between their ends."""
    rows = [
        axis.lower + (x - axis.lower) % (axis.upper - axis.lower) if axis.periodic else x
        for axis, x in zip(grid.axes, position, strict=True)
    ]
    return np.array(rows)


def loss_at(problem: Problem, position: FloatArray) -> float:
    """The loss at a position (axes,)."""
    return _value(_require_loss(problem), position)


def describe(grid: Grid, position: FloatArray) -> str:
    """A position in words: 'x = 0.5, y = -1'."""
    return ", ".join(f"{name} = {round(float(x), 9) + 0.0:.6g}" for name, x in zip(grid.names, position, strict=True))


def _require_loss(problem: Problem) -> Field:
    if problem.landscape.loss is None:
        raise StationaryPointError(PLACE, "the landscape gives a drift and no loss", "", "Give a loss")
    return problem.landscape.loss


def _value(field: Field, position: FloatArray) -> float:
    return float(field(position[:, None])[0])


def _slopes(problem: Problem, position: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Gradient (axes,) and Hessian (axes, axes) of the loss."""
    gradient, hessian = problem.landscape.gradient, problem.landscape.hessian
    if gradient is None or hessian is None:
        raise StationaryPointError(PLACE, "the landscape gives a drift and no loss", "", "Give a loss")
    return gradient(position[:, None])[:, 0], hessian(position[:, None])[..., 0]


def _newton_step(problem: Problem, position: FloatArray, index: int) -> FloatArray:
    """Newton's step towards a stationary point of the given index, (axes,) [length].

    In the eigenvectors of the Hessian, measured in cells: uphill along the `index` lowest, downhill along the others
    (Cerjan & Miller 1981). Where the curvatures have the signs of that index this is Newton's step itself;
    along each eigenvector it is at most one cell.
    """
    size = _cell_size(problem.grid, position)
    gradient, hessian = _slopes(problem, position)
    curvatures, vectors = np.linalg.eigh(size[:, None] * hessian * size)
    slopes = vectors.T @ (size * gradient)
    slopes[:index] *= -1.0
    tiny = np.finfo(np.float64).tiny
    step: FloatArray = -size * (vectors @ (slopes / np.maximum(np.maximum(np.abs(curvatures), np.abs(slopes)), tiny)))
    return step


def _newton(problem: Problem, position: FloatArray, index: int) -> FloatArray:
    """Move a point onto a stationary point of the given index, between the walls, until steps no longer shrink."""
    size = _cell_size(problem.grid, position)
    last = np.inf
    for _ in range(MOST_NEWTON_STEPS):
        step = _newton_step(problem, position, index)
        length = float(np.abs(step / size).max())
        if length == 0.0 or (last < STATIONARY_STEP and length >= last):
            break
        position = _inside(problem.grid, position + step)
        last = length
    return position


def _is_stationary(problem: Problem, point: StationaryPoint) -> bool:
    step = _newton_step(problem, point.position, point.index)
    return bool((np.abs(step) < STATIONARY_STEP * _cell_size(problem.grid, point.position)).all())


def _stationary(problem: Problem, position: FloatArray) -> StationaryPoint:
    _, hessian = _slopes(problem, position)
    eigenvalues: FloatArray = np.linalg.eigvalsh(hessian)  # type: ignore[assignment]
    return StationaryPoint(position, loss_at(problem, position), hessian, eigenvalues)


def _beginning(problem: Problem, saddle: StationaryPoint, region: Region) -> Begins:
    """Where the region begins: looked at one cell to either side of the saddle, along the way over it."""
    across = saddle.lowest_direction
    across = across / np.abs(across / _cell_size(problem.grid, saddle.position)).max()
    inside = [_value(region.level, saddle.position + side * across) > 0.0 for side in (-1.0, 0.0, 1.0)]
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
    return exits


def _neighbour_pairs(grid: Grid, allowed: BoolArray) -> tuple[IntArray, IntArray]:
    """Pairs of allowed cells that share a face."""
    tails, heads = [], []
    for offset in np.eye(grid.dimensions, dtype=np.int64):
        neighbours, inside = grid.neighbours(offset)
        (cells,) = np.nonzero(inside & allowed & allowed[neighbours] & (neighbours != np.arange(grid.size)))
        tails.append(cells)
        heads.append(neighbours[cells])
    return np.concatenate(tails), np.concatenate(heads)


def _index(grid: Grid, position: FloatArray) -> FloatArray:
    return np.array([axis.index(x) for axis, x in zip(grid.axes, position, strict=True)], dtype=np.float64)


def _cell_at(grid: Grid, position: FloatArray) -> int:
    """Flat number of the cell that holds a position, or of the nearest one."""
    nearest = np.clip(np.rint(_index(grid, wrapped(grid, position))), 0, np.array(grid.shape) - 1)
    return int(grid.strides @ nearest.astype(np.int64))


def _cell_size(grid: Grid, position: FloatArray) -> FloatArray:
    """Widths of the cell around a position, (axes,) [length]."""
    index = _index(grid, position)[:, None]
    return (grid.positions(index + 0.5) - grid.positions(index - 0.5))[:, 0]


def _inside(grid: Grid, position: FloatArray) -> FloatArray:
    """The position, wrapped, or the nearest one between the walls."""
    return np.clip(wrapped(grid, position), [axis.lower for axis in grid.axes], [axis.upper for axis in grid.axes])
