"""Loops over the rows of a data set, around the `terms` of some formulas.

`native` puts the source of these functions, compiled, into one module with the `terms` of a case and the numbers COUNT
and AXES: here they are only written down.

position: coordinates of a point, (AXES,); columns: the data, (rows, columns); terms: the values of COUNT formulas at
a point for a row.
"""

from __future__ import annotations

import numpy as np

COUNT = AXES = CROSSED = 0  # of formulas, of coordinates, of formulas whose covariances are wanted: generated
BLOCK = 1024  # rows that are added up at a time, before their sums are: this keeps rounding small


def terms(position, columns, row, out):  # type: ignore[no-untyped-def]
    """Values of the formulas at a position for one row: generated."""
    raise NotImplementedError


def means(positions, columns, out):  # type: ignore[no-untyped-def]
    """Means over the rows, (COUNT, points), at positions (AXES, points)."""
    rows = columns.shape[0]
    position, values, block = np.empty(AXES), np.empty(COUNT), np.empty(COUNT)
    for point in range(positions.shape[1]):
        position[:] = positions[:, point]
        out[:, point] = 0.0
        for start in range(0, rows, BLOCK):
            block[:] = 0.0
            for row in range(start, min(start + BLOCK, rows)):
                terms(position, columns, row, values)  # type: ignore[no-untyped-call]
                for term in range(COUNT):
                    block[term] += values[term]
            for term in range(COUNT):
                out[term, point] += block[term]
        for term in range(COUNT):
            out[term, point] /= rows


def moments(positions, columns, means, covariances):  # type: ignore[no-untyped-def]
    """Means over the rows, (COUNT, points), and covariances of the first CROSSED formulas, (CROSSED, AXES, points).

    These are with the first AXES formulas, of deviations from the first row: what is subtracted at the end is then no
    larger than the covariance.
    """
    rows = columns.shape[0]
    position, values, first = np.empty(AXES), np.empty(COUNT), np.empty(COUNT)
    sums, products = np.empty(COUNT), np.empty((CROSSED, AXES))
    block, block_products = np.empty(COUNT), np.empty((CROSSED, AXES))
    for point in range(positions.shape[1]):
        position[:] = positions[:, point]
        terms(position, columns, 0, first)  # type: ignore[no-untyped-call]
        sums[:] = 0.0
        products[:] = 0.0
        for start in range(0, rows, BLOCK):
            block[:] = 0.0
            block_products[:] = 0.0
            for row in range(start, min(start + BLOCK, rows)):
                terms(position, columns, row, values)  # type: ignore[no-untyped-call]
                for term in range(COUNT):
                    values[term] -= first[term]
                    block[term] += values[term]
                for term in range(CROSSED):
                    for axis in range(AXES):
                        block_products[term, axis] += values[term] * values[axis]
            sums += block
            products += block_products
        for term in range(COUNT):
            means[term, point] = first[term] + sums[term] / rows
        for term in range(CROSSED):
            for axis in range(AXES):
                covariances[term, axis, point] = (products[term, axis] - sums[term] * sums[axis] / rows) / rows


def every_row(position, columns, out):  # type: ignore[no-untyped-def]
    """The formulas of every row at one position, (COUNT, rows)."""
    values = np.empty(COUNT)
    for row in range(columns.shape[0]):
        terms(position, columns, row, values)  # type: ignore[no-untyped-call]
        out[:, row] = values
