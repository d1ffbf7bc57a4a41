"""Where edges cross surfaces: those of targets, and of the domain that a grid is cut to."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from fpsolve.model.grid import BoolArray, FloatArray, Grid, IntArray, in_pieces

Level: TypeAlias = Callable[[FloatArray], FloatArray]  # positions (axes, points) -> (points,)

MOST_TURNS = 160  # every third one bisects: enough for a level set that jumps
# At the surface of a domain no edge is cut shorter: 1 / fraction would be a rate that ruins the conditioning.
SHORTEST_CUT = 1e-3


def entry_fractions(
    grid: Grid, level: Level, cells: IntArray, step: FloatArray, last: FloatArray | float = 1.0
) -> FloatArray:
    """The fraction of each segment, from the centre of its cell, at which the level rises above zero, (n,).

    step: (axes, n) in cells; last: a fraction at which it is above, (n,). Secant steps with a bisection in every third
    turn, so that a kinked level set cannot stall them.
    """
    start = grid.index_of(cells).astype(np.float64)
    low, high = np.zeros(cells.size), np.broadcast_to(np.asarray(last, dtype=np.float64), cells.shape).copy()
    below, above = (level(_positions(grid, start + end * step)) for end in (low, high))
    for turn in range(MOST_TURNS):
        guess = 0.5 * (low + high) if turn % 3 == 2 else _secant(low, high, below, above)
        value = level(_positions(grid, start + guess * step))
        enters = value > 0.0
        high, above = np.where(enters, guess, high), np.where(enters, value, above)
        low, below = np.where(enters, low, guess), np.where(enters, below, value)
        if np.max(np.minimum(high - low, np.abs(value)), initial=0.0) < 1e-15:
            break
    return _secant(low, high, below, above)


def _positions(grid: Grid, index: FloatArray) -> FloatArray:
    """Positions of index coordinates (axes, points), those beyond the end of a periodic axis at its other end."""
    if any(axis.periodic for axis in grid.axes):
        rows = [
            (row + 0.5) % axis.cells - 0.5 if axis.periodic else row for axis, row in zip(grid.axes, index, strict=True)
        ]
        return grid.positions(np.array(rows))
    return grid.positions(index)


def _secant(low: FloatArray, high: FloatArray, below: FloatArray, above: FloatArray) -> FloatArray:
    """Where the line through (low, below <= 0) and (high, above >= 0) crosses zero; the high end where it is zero."""
    share = np.divide(below, below - above, out=np.ones_like(below), where=above > below)
    return np.asarray(low + (high - low) * share)


def first_outside(grid: Grid, cells: IntArray, step: FloatArray) -> FloatArray:
    """A fraction at which each segment from the centre of a cell inside is outside the domain, (n,); infinite: none.

    The first one of places half a cell apart along the axis on which the segment is longest, its end included, so that
    none jumps across a hole that holds a cell. step: (axes, n) in cells.
    """
    found = np.full(cells.size, np.inf)
    if grid.domain is None or cells.size == 0:
        return found
    parts = np.maximum(1, np.ceil(2.0 * np.abs(step).max(axis=0) - 1e-9)).astype(np.int64)
    for count in np.unique(parts).tolist():
        (mine,) = np.nonzero(parts == count)
        start, along = grid.index_of(cells[mine]).astype(np.float64), step[:, mine]
        for part in range(count, 0, -1):
            level = in_pieces(grid.domain.level, _positions(grid, start + part / count * along))
            found[mine[level <= 0.0]] = part / count
    return found


def stays_inside(grid: Grid, origin: IntArray, end: IntArray, step: IntArray) -> BoolArray:
    """Edges that begin, end, and stay inside the domain of a grid, (edges,). step: (edges, axes) in cells."""
    assert grid.parts is not None
    inside, depth = grid.parts.inside, grid.parts.depth
    stays = inside[origin] & inside[end]
    doubtful = stays.copy()
    if not any(axis.periodic for axis in grid.axes):  # round which depths are not known
        doubtful &= np.minimum(depth[origin], depth[end]) <= 1.0 + np.sqrt((step.astype(np.float64) ** 2).sum(axis=1))
    (edges,) = np.nonzero(doubtful)
    stays[edges] = np.isinf(first_outside(grid, origin[edges], step[edges].T.astype(np.float64)))
    return stays


def cuts_at_domain(
    grid: Grid, cells: IntArray, step: IntArray, weight: FloatArray, last: FloatArray
) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
    """Cells, steps (n, axes), fractions and weights where steps cross the surface of the domain of a grid.

    last: a fraction of each at which it is outside, (n,). Those from cells outside are left out.
    """
    assert grid.domain is not None
    assert grid.parts is not None
    own, domain = grid.parts.inside[cells], grid.domain
    cells, step, weight, last = cells[own], step[own], weight[own], last[own]
    along = step.T.astype(np.float64)
    fraction = entry_fractions(grid, lambda positions: -domain.level(positions), cells, along, last)
    return cells, step, np.maximum(fraction, SHORTEST_CUT), weight
