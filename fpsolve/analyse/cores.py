"""Attractors, and the cores around them: where a process that belongs to a basin spends its time.

A core is the set from which transitions are counted. It must be small beside the basin, or recrossings of its edge
count as transitions, and as large as the thermal width, or the process rarely is in it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.linalg import solve_continuous_lyapunov

from fpsolve.analyse.convergence import SHARES_OF_CELLS
from fpsolve.analyse.geometry import describe, displacement, in_cells, inside_walls
from fpsolve.analyse.stationary_points import PLACE, StationaryPointError, held_by_walls, minimum_near
from fpsolve.model.fields import FunctionField
from fpsolve.model.grid import FloatArray, Grid
from fpsolve.model.problem import Problem
from fpsolve.model.region import Region

# A core that is grown to reach a cell centre reaches a little beyond it.
MARGIN = 1.1
# For the sake of coarser grids it may grow to so many thermal energies, or to this share of the median of the quadratic
# well over the grid: deep barriers, of about a twentieth of that, hardly notice.
MOST_GROWTH = 2.0
SHARE_OF_WELL = 2e-3
MOST_STEPS = 10_000
# A rate of return below this share of the largest is none.
DEGENERATE = 1e-9
# A point is at rest when the next step is shorter than this, in cells.
AT_REST = 1e-9


def core_region(problem: Problem, attractor: FloatArray, name: str) -> Region:
    """The core around an attractor: all within one thermal energy of it, as far as the drift is linear.

        1/2 (x - a)^T Sigma^-1 (x - a) < 1,    A Sigma + Sigma A^T = -2 D

    with the drift's Jacobian A and the diffusion D at the attractor a; Sigma is the covariance of the
    Ornstein-Uhlenbeck process there (Gardiner 2009, 4.5.6). For the drift -M grad L and D = T M the condition is
    that the quadratic well of the loss rises by less than T. Along an axis whose wall holds the attractor against a
    drift m, |m (x - a)| / D is added instead. Where the grid, or a coarser one of the error bars, does not resolve the
    well and would have no cell in the core, it is grown, in proportion, to reach the nearest one: for a coarser grid
    only as far as no barrier worth the name is touched.

    Parameters
    ----------
    attractor : (axes,) [length], a stable fixed point of the drift.

    Returns
    -------
    A region called `name`, a function of positions that does not depend on the grid it is used on.

    Raises
    ------
    StationaryPointError : the drift does not lead back to the attractor from all sides, or so weakly that the well is
        wider than the grid.
    """
    grid = problem.grid
    precision, pressure = _linear_well(problem, attractor)

    def energy(positions: FloatArray) -> FloatArray:
        offset = grid.turned(displacement(grid, positions, attractor[:, None]))
        return np.asarray(0.5 * np.einsum("ip,ij,jp->p", offset, precision, offset) + pressure @ np.abs(offset))

    top = _top([energy(_coarse_centres(grid, share)) for share in SHARES_OF_CELLS])

    def level(*coordinates: FloatArray) -> FloatArray:
        return np.asarray(1.0 - energy(np.array(coordinates)) / top)

    return Region(name, FunctionField(level, (), grid.dimensions, name))


def _top(energies: Sequence[FloatArray]) -> float:
    """Thermal energies up to which a core reaches: 1, or what the nearest cells ask for; energies: the finest last."""
    *coarse, fine = (MARGIN * float(values.min()) for values in energies)
    harmless = max(MOST_GROWTH, SHARE_OF_WELL * float(np.median(energies[-1])))
    return max(1.0, fine, *(needed for needed in coarse if needed <= harmless))


def _linear_well(problem: Problem, attractor: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Sigma^-1, (axes, axes), of the axes that are free, and |drift| / D, (axes,), of those that a wall holds.

    All are components along the axes of the grid.
    """
    grid = problem.grid
    drift = grid.turned(problem.landscape.drift(attractor[:, None]))
    held = held_by_walls(problem.grid, attractor[:, None], -drift)[:, 0]
    free = np.ix_(~held, ~held)
    jacobian = grid.turned_matrices(_jacobian(problem)(attractor))[free]
    diffusion = grid.turned_matrices(problem.diffusion.matrix(attractor[:, None])[..., 0])
    precision, pressure = np.zeros_like(diffusion), np.zeros_like(attractor)
    pressure[held] = np.abs(drift[held, 0]) / np.diag(diffusion)[held]
    if held.all():
        return precision, pressure
    growth = np.linalg.eigvals(jacobian)
    if growth.real.max() >= -DEGENERATE * np.abs(growth).max():
        reason = f"the drift does not lead back to {describe(problem.grid, attractor)} from all sides"
        raise StationaryPointError(PLACE, reason, "A core lies around a stable fixed point", "Give the core")
    covariance = solve_continuous_lyapunov(jacobian, -2.0 * diffusion[free])
    lengths = np.array([axis.upper - axis.lower for axis in problem.grid.axes])[~held]
    if (np.diag(covariance) > lengths**2).any():
        reason = f"the well at {describe(problem.grid, attractor)} is wider than the grid"
        raise StationaryPointError(PLACE, reason, "A core lies in a well that is quadratic", "Give the core")
    precision[free] = np.linalg.inv(0.5 * (covariance + covariance.T))
    return precision, pressure


def attractor_near(problem: Problem, point: Sequence[float] | FloatArray) -> FloatArray:
    """The stable fixed point, (axes,) [length], that the drift leads to from a point; exact to rounding.

    Of a loss whose gradient is all of the drift it is the minimum (`minimum_near`). Any other drift is followed by
    linearly implicit Euler steps, at most about a cell long, that become Newton's as the drift vanishes.

    Raises
    ------
    StationaryPointError : the way leads to a wall, to a point that is not stable, or round and round.
    """
    if problem.landscape.is_gradient:
        return minimum_near(problem, point).position
    grid, jacobian = problem.grid, _jacobian(problem)
    start = position = np.asarray(point, dtype=np.float64)
    for _ in range(MOST_STEPS):
        drift, slope = problem.landscape.drift(position[:, None])[:, 0], jacobian(position)
        growth = float(np.linalg.eigvals(slope).real.max())
        if not drift.any():
            _require_stable(grid, start, position, 0.0, growth)
            return position
        # Slower than twice any growth: no step turns back to a saddle.
        pace = float(np.abs(in_cells(grid, drift, position)).max()) + 2.0 * max(growth, 0.0)
        step = np.asarray(np.linalg.solve(pace * np.eye(grid.dimensions) - slope, drift), dtype=np.float64)
        ahead = inside_walls(grid, position + step)
        if (np.abs(in_cells(grid, displacement(grid, ahead, position), position)) < AT_REST).all():
            _require_stable(grid, start, ahead, float(np.abs(in_cells(grid, step, position)).max()), growth)
            return ahead
        position = ahead
    reason = f"the drift carries {describe(grid, start)} round and round, to no point of rest"
    raise StationaryPointError(PLACE, reason, "", "Give the core and the start explicitly")


def _require_stable(grid: Grid, start: FloatArray, end: FloatArray, step: float, growth: float) -> None:
    origin, place = describe(grid, start), describe(grid, end)
    if step >= AT_REST:
        reason = f"the drift carries {origin} to a wall, at {place}"
        raise StationaryPointError(PLACE, reason, "", "Widen the grid or move the start")
    if growth >= 0.0:
        reason = f"the drift carries {origin} to {place}, which is not stable"
        raise StationaryPointError(PLACE, reason, "", "Move the start into the well that is meant")


def _jacobian(problem: Problem) -> Callable[[FloatArray], FloatArray]:
    """The function position (axes,) -> Jacobian of the drift, (axes, axes) [1/time]."""
    landscape = problem.landscape
    own = None if landscape.extra_drift is None else landscape.extra_drift.derivative()

    def jacobian(position: FloatArray) -> FloatArray:
        total = np.zeros((position.size, position.size))
        if landscape.hessian is not None:
            total -= landscape.mobility @ landscape.hessian(position[:, None])[..., 0]
        if own is not None:
            total += own(position[:, None])[..., 0]
        return total

    return jacobian


def _coarse_centres(grid: Grid, share: float) -> FloatArray:
    """Cell centres of the grid with a share of the cells along each axis, (axes, points)."""
    lines = []
    for axis in grid.axes:
        cells = math.ceil(share * axis.cells)
        lines.append((np.arange(cells) + 0.5) * (axis.cells / cells) - 0.5)
    return grid.positions(np.array(np.meshgrid(*lines)).reshape(grid.dimensions, -1))
