"""Minima and saddles of the loss: Newton's method, exact to rounding, from points near them.

Where the loss still falls at a wall, the wall holds a point: it can be stationary along the wall.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from fpsolve.analyse.geometry import cell_size, describe, in_cells, inside_walls, on_walls
from fpsolve.errors import RunError
from fpsolve.model.fields import Field
from fpsolve.model.frame import Frame
from fpsolve.model.grid import BoolArray, FloatArray, Grid
from fpsolve.model.problem import Problem

# The place named in errors.
PLACE = "basins of the loss"
# Newton's steps double the digits; degenerate points (no quadratic term) gain a factor 3/2 a step.
MOST_NEWTON_STEPS = 100
# A point counts as stationary when Newton would move it by less, in cells.
STATIONARY_STEP = 1e-6


@final
class StationaryPointError(RunError):
    """There is no minimum or no pass where one was asked for; `found` is the reason, as a clause for the report."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class StationaryPoint:
    """A point where the gradient of the loss vanishes, along the walls that hold it, if any.

    held: the axes along which a wall holds the point against the fall of the loss, by number; mostly none. frame: of
    the grid, where it is turned.
    """

    position: FloatArray  # (axes,) [length]
    loss: float
    hessian: FloatArray  # (axes, axes) [loss/length**2]
    eigenvalues: FloatArray  # of the Hessian, along the free axes, (free axes,), ascending
    held: tuple[int, ...] = ()
    frame: Frame | None = None

    @property
    def index(self) -> int:
        """Number of directions in which the loss falls: 0 for a minimum, 1 for a saddle."""
        return int((self.eigenvalues < 0.0).sum())

    @property
    def lowest_direction(self) -> FloatArray:
        """Unit vector along which the curvature is lowest, (axes,): at a saddle, the way over it."""
        free = np.setdiff1d(np.arange(self.position.size), self.held)
        direction = np.zeros(self.position.size)
        hessian = self.hessian if self.frame is None else self.frame.turned_matrices(self.hessian)
        direction[free] = np.linalg.eigh(hessian[np.ix_(free, free)])[1][:, 0]
        return direction if self.frame is None else self.frame.unturned(direction)


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
    require_loss(problem)
    way = descent(problem, point)
    found = stationary_point(problem, newton(problem, way[-1], 0))
    origin, end = describe(problem.grid, way[0]), describe(problem.grid, found.position)
    if found.held or not is_stationary(problem, found):
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
    loss = require_loss(problem)
    way = [np.asarray(point, dtype=np.float64)]
    lowest = value_at(loss, way[0])
    for _ in range(20 * sum(problem.grid.shape)):
        step = newton_steps(problem, way[-1][:, None], 0)[:, 0]
        if (np.abs(in_cells(problem.grid, step, way[-1])) < STATIONARY_STEP).all():
            break
        for halvings in range(30):
            trial = inside_walls(problem.grid, way[-1] + 0.5**halvings * step)
            height = value_at(loss, trial)
            if height < lowest:
                break
        else:
            break
        way.append(trial)
        lowest = height
    return np.array(way)


def newton(problem: Problem, position: FloatArray, index: int) -> FloatArray:
    """A point (axes,) moved onto a stationary point of the given index, between the walls."""
    return newton_from_all(problem, position[:, None], index)[:, 0]


def newton_from_all(
    problem: Problem, positions: FloatArray, index: int, most_steps: int = MOST_NEWTON_STEPS
) -> FloatArray:
    """Points (axes, points) moved onto stationary points of the given index, until the steps no longer shrink."""
    positions = positions.copy()
    size = cell_size(problem.grid, positions)
    last = np.full(positions.shape[1], np.inf)
    moving = np.arange(positions.shape[1])
    for _ in range(most_steps):
        steps = newton_steps(problem, positions[:, moving], index)
        length = np.abs(problem.grid.turned(steps) / size[:, moving]).max(axis=0)
        going = (length > 0.0) & ~((last[moving] < STATIONARY_STEP) & (length >= last[moving]))
        moving, steps, length = moving[going], steps[:, going], length[going]
        if moving.size == 0:
            break
        positions[:, moving] = inside_walls(problem.grid, positions[:, moving] + steps)
        last[moving] = length
    return positions


def newton_steps(problem: Problem, positions: FloatArray, index: int) -> FloatArray:
    """Newton's steps from points towards stationary points of the given index, (axes, points) [length].

    In the eigenvectors of the Hessian, measured in cells: uphill along the `index` lowest, downhill along the others
    (Cerjan & Miller 1981). Where the curvatures have the signs of that index this is Newton's step itself;
    along each eigenvector it is at most one cell. Along an axis whose wall holds the point there is none.
    """
    size = cell_size(problem.grid, positions).T
    gradient, hessian = slopes_along_axes(problem, positions)
    held = held_by_walls(problem.grid, positions, gradient).T
    curvature = np.moveaxis(hessian, -1, 0) * size[:, :, None] * size[:, None, :]
    # Held axes stand apart, with a curvature above all others: they are never the lowest.
    stiffest = 1.0 + np.abs(curvature).max(axis=(1, 2))[:, None, None]
    curvature = np.where(held[:, :, None] | held[:, None, :], stiffest * np.eye(size.shape[1]), curvature)
    curvatures, vectors = np.linalg.eigh(curvature)
    slopes = np.einsum("pia,pi->pa", vectors, np.where(held, 0.0, size * gradient.T))
    slopes[:, :index] *= -1.0
    longest = np.maximum(np.abs(curvatures), np.abs(slopes))
    shares = slopes / np.maximum(longest, np.finfo(np.float64).tiny)
    return problem.grid.unturned(np.asarray(-size * np.einsum("pia,pa->pi", vectors, shares)).T)


def held_by_walls(grid: Grid, positions: FloatArray, gradient: FloatArray) -> BoolArray:
    """Where a point lies on a wall and the loss falls towards the outside, for every axis: (axes, points).

    gradient: its components along the axes, (axes, points).
    """
    lower, upper = on_walls(grid, positions)
    held: BoolArray = (lower & (gradient > 0.0)) | (upper & (gradient < 0.0))
    return held


def is_stationary(problem: Problem, point: StationaryPoint) -> bool:
    """Whether Newton's method leaves a point where it is."""
    step = newton_steps(problem, point.position[:, None], point.index)[:, 0]
    return bool((np.abs(in_cells(problem.grid, step, point.position)) < STATIONARY_STEP).all())


def stationary_point(problem: Problem, position: FloatArray) -> StationaryPoint:
    """What the loss is like at a position (axes,); whether it is stationary there is not looked at."""
    _, hessian = (values[..., 0] for values in slopes_at(problem, position[:, None]))
    gradient, along = (values[..., 0] for values in slopes_along_axes(problem, position[:, None]))
    held = held_by_walls(problem.grid, position[:, None], gradient[:, None])[:, 0]
    # A slope that a shift by a rounding step would undo holds nothing.
    held &= np.abs(gradient) > STATIONARY_STEP * cell_size(problem.grid, position) * np.abs(along).max()
    eigenvalues: FloatArray = np.linalg.eigvalsh(along[np.ix_(~held, ~held)])  # type: ignore[assignment]
    held_axes = tuple(np.nonzero(held)[0].tolist())
    return StationaryPoint(position, loss_at(problem, position), hessian, eigenvalues, held_axes, problem.grid.frame)


def loss_at(problem: Problem, position: FloatArray) -> float:
    """The loss at a position (axes,)."""
    return value_at(require_loss(problem), position)


def require_loss(problem: Problem) -> Field:
    """The loss of a problem. Raises StationaryPointError where it has none."""
    if problem.landscape.loss is None:
        raise StationaryPointError(PLACE, "the landscape gives a drift and no loss", "", "Give a loss")
    return problem.landscape.loss


def value_at(field: Field, position: FloatArray) -> float:
    """A field of numbers at one position (axes,)."""
    return float(field(position[:, None])[0])


def slopes_at(problem: Problem, positions: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Gradient (axes, points) and Hessian (axes, axes, points) of the loss."""
    require_loss(problem)
    gradient, hessian = problem.landscape.gradient, problem.landscape.hessian
    assert gradient is not None
    assert hessian is not None
    return gradient(positions), hessian(positions)


def slopes_along_axes(problem: Problem, positions: FloatArray) -> tuple[FloatArray, FloatArray]:
    """The same, components along the axes of the grid."""
    gradient, hessian = slopes_at(problem, positions)
    return problem.grid.turned(gradient), problem.grid.turned_matrices(hessian)
