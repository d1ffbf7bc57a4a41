"""The way down: where the drift -M grad L of a loss carries points, many at once, true enough to tell basins apart."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fpsolve.analyse.geometry import cell_size, displacement, in_cells, inside_walls
from fpsolve.analyse.stationary_points import STATIONARY_STEP, held_by_walls, require_loss, slopes_along_axes
from fpsolve.model.grid import BoolArray, FloatArray
from fpsolve.model.problem import Problem

# Length of a step along each principal direction, in cells; less where the loss would rise, as in a bent valley.
LONGEST_STRIDE = 1.0
# Every point of a box is within this many times its circumference in steps of the end of its way down.
MOST_STEPS_PER_CELL = 20
# A fall within one step below this share of what the stiffest curvature makes there is rounding.
NO_SLOPE = 1e-12
TINY = 1e-150  # its square and reciprocal are still doubles


def fall(
    problem: Problem, positions: FloatArray, arrived: Callable[[FloatArray], BoolArray] | None = None
) -> FloatArray:
    """Where the drift -M grad L carries points: (axes, points) -> (axes, points).

    Each step is the exact flow of the quadratic form of the loss around the point (the exponential Rosenbrock-Euler
    method, Hochbruck & Ostermann 2010): of second order, as long as a cell whatever the stiffness across a
    valley, and Newton's own beside a minimum; shorter where the loss would not fall. Walls hold what falls on them;
    it slides along them.

    Parameters
    ----------
    arrived : positions (axes, points) -> which of them need not be followed any further.

    Returns
    -------
    The minima, points on walls, or, from a ridge, saddles and maxima, to the square of 1e-6 cells; or the place where
    `arrived` said so.
    """
    grid, loss = problem.grid, require_loss(problem)
    positions = positions.copy()
    heights = loss(positions)
    strides = np.full(heights.size, LONGEST_STRIDE)
    moving = np.arange(heights.size)
    for _ in range(MOST_STEPS_PER_CELL * sum(grid.shape)):
        if arrived is not None:
            moving = moving[~arrived(positions[:, moving])]
        if moving.size == 0:
            break
        here = positions[:, moving]
        ahead = inside_walls(grid, here + _steps(problem, here, strides[moving]))
        reached = loss(ahead)
        falls = reached < heights[moving]
        fallen = moving[falls]
        positions[:, fallen], heights[fallen] = ahead[:, falls], reached[falls]
        strides[moving] = np.where(falls, np.minimum(2.0 * strides[moving], LONGEST_STRIDE), 0.25 * strides[moving])
        length = np.abs(in_cells(grid, displacement(grid, ahead, here), here)).max(axis=0)
        moving = moving[length >= STATIONARY_STEP]
    return positions


def _steps(problem: Problem, positions: FloatArray, strides: FloatArray) -> FloatArray:
    """One step of every point, (axes, points) [length]: -sum over k of w_k (w_k . g) (1 - exp(-l_k t)) / l_k.

    l_k, w_k: eigenvalues of M^(1/2) H M^(1/2), and its eigenvectors times M^(1/2); t is the longest time in which
    the point moves by at most a stride [cells] along each of them, mostly infinite beside a minimum.
    """
    grid = problem.grid
    gradient, hessian = slopes_along_axes(problem, positions)
    free = ~held_by_walls(grid, positions, gradient).T
    root = free[:, :, None] * _square_root(grid.turned_matrices(problem.landscape.mobility))
    rates, vectors = np.linalg.eigh(np.einsum("pia,ijp,pjb->pab", root, hessian, root))
    ways = root @ vectors
    slopes = np.einsum("pia,ip->pa", ways, gradient)
    sizes = np.maximum(np.abs(ways), TINY) / cell_size(grid, positions).T[:, :, None]
    reach = strides[:, None] / sizes.max(axis=1)
    stiffest = (np.abs(rates) * reach**2).max(axis=1, keepdims=True)
    flat = np.abs(slopes) * reach <= np.maximum(NO_SLOPE * stiffest, TINY)
    shares = reach / np.where(flat, 1.0, np.abs(slopes))  # [time] if there were no curvature
    bends = rates * shares
    ends = (bends >= 1.0) | flat  # less than a stride from the bottom along this direction
    straight = np.abs(bends) < np.finfo(np.float64).eps
    safe = np.where(straight, 1.0, rates)
    times = np.where(straight, shares, -np.log1p(-np.where(ends, 0.0, bends)) / safe)
    longest = np.where(ends, np.inf, times).min(axis=1, keepdims=True)
    decay = -np.expm1(np.where(flat | straight, 0.0, -safe * longest)) / safe
    moved = np.where(flat, 0.0, np.where(straight, longest, decay))
    return grid.unturned(np.asarray(-np.einsum("pia,pa->ip", ways, slopes * moved)))


def _square_root(matrix: FloatArray) -> FloatArray:
    values, vectors = np.linalg.eigh(matrix)
    root: FloatArray = (vectors * np.sqrt(values)) @ vectors.T
    return root
