"""Means, covariances and occupations of a probability over the cells."""

from __future__ import annotations

import itertools

import numpy as np

from fpsolve.model.grid import Axis, FloatArray, Grid


def mean_and_covariance(grid: Grid, probability: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean (axes,) and covariance (axes, axes) of the position, of the probability normalised to one.

    Sums over cell centres: spectrally accurate for densities that are smooth and small at the walls. Not a number
    where nothing is left.
    """
    box, axes = grid.shaped(probability), range(grid.dimensions)
    total = box.sum()
    if not total > 0.0:
        return np.full(grid.dimensions, np.nan), np.full((grid.dimensions,) * 2, np.nan)

    def marginal(*kept: int) -> FloatArray:
        return np.asarray(box.sum(axis=tuple(axis for axis in axes if axis not in kept)) / total)

    mean = np.array([grid.axes[axis].centres @ marginal(axis) for axis in axes])
    away = [grid.axes[axis].centres - mean[axis] for axis in axes]
    covariance = np.diag([away[axis] ** 2 @ marginal(axis) for axis in axes])
    for one, other in itertools.combinations(axes, 2):
        covariance[one, other] = covariance[other, one] = away[one] @ marginal(one, other) @ away[other]
    return grid.placed(mean), grid.unturned_matrices(covariance)


def tail_mass(grid: Grid, probability: FloatArray) -> float:
    """Probability in the outermost cells along walls that are neither periodic nor infinitely far away.

    So much the box may cut off.
    """
    box = grid.shaped(probability)
    inner = tuple(_inner(axis) for axis in grid.axes)
    return float(max(0.0, box.sum() - box[inner].sum()))


def _inner(axis: Axis) -> slice:
    """The cells of an axis that do not touch a wall."""
    if axis.periodic or axis.cells < 3:
        return slice(None)
    lower, upper = axis.infinite
    return slice(None if lower else 1, None if upper else -1)
