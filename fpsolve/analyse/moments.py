"""Means, covariances and occupations of a probability over the cells."""

from __future__ import annotations

import numpy as np

from fpsolve.model.grid import Axis, FloatArray, Grid


def mean_and_covariance(grid: Grid, probability: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Mean (axes,) and covariance (axes, axes) of the position, of the probability normalised to one.

    Sums over cell centres: spectrally accurate for densities that are smooth and small at the walls. Not a number
    where nothing is left.
    """
    total = probability.sum()
    if not total > 0.0:
        return np.full(grid.dimensions, np.nan), np.full((grid.dimensions,) * 2, np.nan)
    share = probability / total
    positions = grid.positions()
    mean = positions @ share
    centred = positions - mean[:, None]
    return mean, (centred * share) @ centred.T


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
