"""The watershed of the loss: which minimum the way down from every cell leads to.

Cells are divided by flooding from the lowest ones; then the borders are put right by following the gradient.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

from fpsolve.analyse.flow import fall
from fpsolve.analyse.geometry import cells_at, displacement, in_cells, neighbour_pairs, on_walls
from fpsolve.analyse.stationary_points import StationaryPoint, newton_from_all, require_loss, slopes_along_axes
from fpsolve.model.grid import BoolArray, FloatArray, Grid, IntArray
from fpsolve.model.problem import Problem

# The label of cells from which the way down leads out through an absorbing wall.
OUTSIDE = -1
# The number of a way that ends on a ridge.
UNKNOWN = -2
# Two ends of Newton's method nearer than this, in cells, are the same point.
SAME_POINT = 0.1
# A way down that ends within this many cells of a border ends on it.
SHORT_WAY = 1.5
# The coarsest grid on which borders are looked for has so many cells along an axis.
COARSE = 32
# A curvature below this share of the largest is none.
DEGENERATE = 1e-9


def bottoms_of(problem: Problem, heights: FloatArray) -> tuple[IntArray, FloatArray]:
    """The cells without a lower neighbour, one of each plateau, and where the gradient leads from each."""
    grid = problem.grid
    tails, heads = neighbour_pairs(grid, np.ones(grid.size, dtype=np.bool_))
    level = heights[tails] == heights[heads]
    links = coo_array((np.ones(level.sum()), (tails[level], heads[level])), shape=(grid.size,) * 2)
    count, plateau = connected_components(links.tocsr(), directed=False)
    bottom = np.ones(count, dtype=np.bool_)
    bottom[plateau[~grid.active]] = False
    bottom[plateau[np.where(heights[tails] > heights[heads], tails, heads)[~level]]] = False
    _, first = np.unique(plateau, return_index=True)
    cells = first[bottom]
    return cells, newton_from_all(problem, fall(problem, grid.positions()[:, cells]), 0)


def flooded(grid: Grid, heights: FloatArray, bottoms: IntArray, numbers: IntArray) -> IntArray:
    """The label of every cell, (cells,), spread from the bottoms of known number by flooding.

    The minimum spanning forest rooted in the bottoms, with the height of the higher cell, then of the lower one, as
    the length of an edge (Cousty et al. 2009): every cell joins the bottom that a drop of water reaches from it,
    cell by cell. Bottoms of one number hang on one node; all these nodes hang on a top node by edges shorter than
    any other, which are cut from the tree.
    """
    bottoms, numbers = bottoms[numbers != UNKNOWN], numbers[numbers != UNKNOWN]
    ranks = np.unique(heights, return_inverse=True)[1]
    tails, heads = neighbour_pairs(grid, np.ones(grid.size, dtype=np.bool_))
    top = grid.size
    roots = top + 1 + np.arange(int(numbers.max()) - OUTSIDE + 1)  # in the order of their numbers, OUTSIDE first
    edges = [
        (
            2.0 + np.maximum(ranks[tails], ranks[heads]) * grid.size + np.minimum(ranks[tails], ranks[heads]),
            tails,
            heads,
        ),
        (np.full(bottoms.size, 1.0), bottoms, roots[numbers - OUTSIDE]),
        (np.full(roots.size, 0.5), roots, np.full(roots.size, top)),
    ]
    lengths, ends, others = (np.concatenate(parts) for parts in zip(*edges, strict=True))
    shape = (top + 1 + roots.size,) * 2
    forest = minimum_spanning_tree(coo_array((lengths, (ends, others)), shape=shape).tocsr()).tocoo()
    kept = forest.data != 0.5
    links = coo_array((forest.data[kept], (forest.row[kept], forest.col[kept])), shape=shape)
    _, tree = connected_components(links.tocsr(), directed=False)
    label_of = np.full(tree.max() + 1, OUTSIDE)  # also of cells outside the domain
    label_of[tree[roots]] = np.arange(roots.size) + OUTSIDE
    return np.asarray(label_of[tree[:top]])


def united(
    problem: Problem, label: IntArray, minima: Sequence[StationaryPoint], rounding: float
) -> tuple[IntArray, tuple[StationaryPoint, ...]]:
    """Labels and minima with one minimum only, the lowest, on every flat floor of a valley.

    A floor is flat between two minima where the ways down from two adjoining cells, one on either side of the border,
    end close by and as low as the minima are.
    """
    if len(minima) == 1 or not any(is_degenerate(point) for point in minima):
        return label, tuple(minima)
    grid, loss = problem.grid, require_loss(problem)
    tails, heads = neighbour_pairs(grid, label != OUTSIDE)
    border = label[tails] != label[heads]
    tails, heads = tails[border], heads[border]
    cells, place = np.unique(np.concatenate([tails, heads]), return_inverse=True)
    ends = fall(problem, grid.positions()[:, cells])
    depths = np.array([point.loss for point in minima])[label[cells]]
    way = np.abs(in_cells(grid, displacement(grid, ends, grid.positions()[:, cells]), ends)).max(axis=0)
    floor = (np.abs(loss(ends) - depths) <= rounding) & (way <= SHORT_WAY)
    joined = np.logical_and(*np.split(floor[place], 2))
    links = coo_array((np.ones(joined.sum()), (label[tails[joined]], label[heads[joined]])), shape=(len(minima),) * 2)
    _, cluster = connected_components(links.tocsr(), directed=False)
    _, kept, number = np.unique(cluster, return_index=True, return_inverse=True)
    order = np.argsort(kept)  # the lowest of every cluster comes first among the minima
    rank = np.empty_like(order)
    rank[order] = np.arange(order.size)
    united = np.append(rank[number], OUTSIDE)
    return united[label], tuple(minima[first] for first in kept[order])


def settled(problem: Problem, heights: FloatArray, label: IntArray, minima: Sequence[StationaryPoint]) -> IntArray:
    """The labels with the borders where the gradient has them.

    The ways down are followed from the cells beside a border: on a coarse grid first, whose labels are where the
    next finer one begins. Below the lowest point of its border a basin is a lake around its minimum: there a way has
    arrived.
    """
    grid, loss = problem.grid, require_loss(problem)
    tails, heads = neighbour_pairs(grid, np.ones(grid.size, dtype=np.bool_))
    differ = label[tails] != label[heads]
    shore = np.full(len(minima) + 1, np.inf)  # of every basin, and of OUTSIDE, the last
    for side in (tails[differ], heads[differ]):
        np.minimum.at(shore, label[side], np.maximum(heights[tails], heights[heads])[differ])
    shore[OUTSIDE] = -np.inf
    lakes = np.where(heights < shore[label], label, OUTSIDE)

    def lake_at(positions: FloatArray) -> IntArray:
        lake = lakes[cells_at(grid, positions)]
        return np.where(loss(positions) < shore[lake], lake, OUTSIDE)

    def destination(starts: FloatArray) -> tuple[FloatArray, IntArray]:
        ends = fall(problem, starts, lambda positions: lake_at(positions) != OUTSIDE)
        lake = lake_at(ends)
        return ends, np.where(lake == OUTSIDE, numbers_of(problem, ends, minima), lake)

    before = grid
    for here in _ever_finer(grid):
        positions = here.positions()
        lake = lake_at(positions)
        label = np.where(lake == OUTSIDE, label[cells_at(before, positions)], lake)
        label = _followed(here, label, destination)
        before = here
    return label


def _ever_finer(grid: Grid) -> list[Grid]:
    """The grid, the last, and before it those with half the cells each, down to COARSE along every axis."""
    grids = [grid]
    while max(grids[0].shape) > COARSE:
        axes = [replace(axis, cells=max(min(axis.cells, COARSE), axis.cells // 2)) for axis in grids[0].axes]
        grids.insert(0, grid.with_axes(axes))
    return grids


def _followed(
    grid: Grid, label: IntArray, destination: Callable[[FloatArray], tuple[FloatArray, IntArray]]
) -> IntArray:
    """The labels of the cells beside a border as the ways down from there have them.

    While borders still move, the band of cells that are followed doubles its width. destination: positions -> ends of
    the ways down, and the numbers of the minima there.
    """
    label = label.copy()
    unknown = np.ones(grid.size, dtype=np.bool_)
    for doublings in itertools.count():
        (cells,) = np.nonzero(_band(grid, label, unknown, 2**doublings))
        if cells.size == 0:
            break
        unknown[cells] = False
        ends, numbers = destination(grid.positions()[:, cells])
        label[cells] = np.where(numbers == UNKNOWN, label[cells_at(grid, ends)], numbers)
    return label


def _band(grid: Grid, label: IntArray, unknown: BoolArray, width: int) -> BoolArray:
    """The unknown cells beside a border, and those within a width of them, (cells,)."""
    tails, heads = neighbour_pairs(grid, unknown)
    every_tail, every_head = neighbour_pairs(grid, np.ones(grid.size, dtype=np.bool_))
    differ = label[every_tail] != label[every_head]
    band = np.zeros(grid.size, dtype=np.bool_)
    band[every_tail[differ]] = band[every_head[differ]] = True
    band &= unknown
    for _ in range(width - 1):
        before = band.copy()
        band[heads[before[tails]]] = True
        band[tails[before[heads]]] = True
    return band


def numbers_of(problem: Problem, ends: FloatArray, minima: Sequence[StationaryPoint]) -> IntArray:
    """Which minimum each end of a way down (axes, ends) is, (ends,); OUTSIDE, or UNKNOWN on a ridge."""
    grid = problem.grid
    numbers = np.where(leaving(problem, ends), OUTSIDE, UNKNOWN)
    for number, point in enumerate(minima):
        offset = in_cells(grid, displacement(grid, ends, point.position[:, None]), point.position[:, None])
        numbers[(np.abs(offset) <= SAME_POINT).all(axis=0)] = number
    return numbers


def leaving(problem: Problem, positions: FloatArray) -> BoolArray:
    """Which positions (axes, points) lie on an absorbing wall where the loss falls towards the outside, (points,).

    Those beyond the absorbing surface of a domain, too.
    """
    gradient, _ = slopes_along_axes(problem, positions)
    lower, upper = on_walls(problem.grid, positions)
    absorbs = np.array([[wall == "absorbing" for wall in axis.walls] for axis in problem.grid.axes])
    out = (absorbs[:, :1] & lower & (gradient > 0.0)) | (absorbs[:, 1:] & upper & (gradient < 0.0))
    out = np.asarray(out.any(axis=0))
    if (domain := problem.grid.domain) is not None and domain.wall == "absorbing":
        out |= domain.level(positions) <= 0.0
    return out


def distinct(grid: Grid, positions: FloatArray) -> list[FloatArray]:
    """The different ones among positions (axes, points), each (axes,)."""
    found = []
    while positions.shape[1] > 0:
        found.append(positions[:, 0])
        offset = in_cells(grid, displacement(grid, positions, found[-1][:, None]), positions)
        positions = positions[:, (np.abs(offset) > SAME_POINT).any(axis=0)]
    return found


def is_degenerate(point: StationaryPoint) -> bool:
    """Whether a curvature vanishes."""
    sizes = np.abs(point.eigenvalues)
    return bool(sizes.size > 0 and sizes.min() <= DEGENERATE * np.abs(point.hessian).max())
