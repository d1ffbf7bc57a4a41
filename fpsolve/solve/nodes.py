"""A lattice of nodes over the grid, finer than its cells, between which compiled loops interpolate.

Nodes stand at the faces of the cells, and at m - 1 places between two faces that are evenly spaced in index coordinates
(with m even the cell centres are among them). On an infinite axis the outermost ones are the outermost cell centres.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.ndimage import distance_transform_edt

from fpsolve.errors import CaseError
from fpsolve.model.grid import Axis, BoolArray, FloatArray, Grid, IntArray

# As many nodes as fit into a processor's cache, or in space, into memory; the grid's own cells always get theirs.
MOST_NODES = {1: 20_000, 2: 200_000, 3: 1_000_000}
EVEN = 1e-9  # relative difference of spacings that is rounding


@final
@dataclass(frozen=True)
class Nodes:
    """Nodes over a grid, as compiled loops want them.

    axes: names; places: positions along all axes, one after the other [length]; first: (axes + 1,), where those of each
    begin and end; pace: nodes per length, (axes,), 0 where they are uneven; strides: of flat node numbers, (axes,);
    corners: offsets from a box's lowest corner to all, (2**axes,), the first axis changing fastest.
    """

    axes: tuple[str, ...]
    places: FloatArray
    first: IntArray
    pace: FloatArray
    strides: IntArray
    corners: IntArray

    @classmethod
    def of(cls, grid: Grid, most: int | None = None) -> Nodes:
        """About so many nodes, or at least one per face of every cell."""
        most = most or MOST_NODES[grid.dimensions]
        parts = _parts(grid, most)
        along = [_places(axis, parts) for axis in grid.axes]
        shape = [places.size for places in along]
        strides = np.array([math.prod(shape[axis + 1 :]) for axis in range(len(shape))], dtype=np.int64)
        ones = [corner[::-1] for corner in itertools.product((0, 1), repeat=len(shape))]
        first = np.cumsum([0, *shape]).astype(np.int64)
        pace = np.array([_pace(places) for places in along])
        return cls(grid.names, np.concatenate(along), first, pace, strides, np.array(ones, dtype=np.int64) @ strides)

    @property
    def shape(self) -> tuple[int, ...]:
        """Nodes along each axis."""
        return tuple(np.diff(self.first).tolist())

    def along(self, axis: int) -> FloatArray:
        """Positions of the nodes along an axis."""
        return self.places[self.first[axis] : self.first[axis + 1]]

    def positions(self) -> FloatArray:
        """Positions of all nodes, (axes, nodes)."""
        every = np.meshgrid(*(self.along(axis) for axis in range(len(self.axes))), indexing="ij")
        return np.array(every).reshape(len(self.axes), -1)

    def boxes(self, positions: FloatArray) -> tuple[IntArray, FloatArray]:
        """Flat numbers of the lowest corners of the boxes around positions (axes, points), and the boxes' middles."""
        corner, middles = np.zeros(positions.shape[1], dtype=np.int64), np.empty_like(positions)
        for axis, row in enumerate(positions):
            places = self.along(axis)
            below = np.clip(np.searchsorted(places, row, side="right") - 1, 0, places.size - 2)
            corner += below * self.strides[axis]
            middles[axis] = 0.5 * (places[below] + places[below + 1])
        return corner, middles

    def filled(self, values: FloatArray, where: str) -> FloatArray:
        """Values (..., nodes) that are finite at all nodes.

        At outermost nodes, which may stand on a wall where a formula has no value, those of the nearest node replace
        what is not. Raises CaseError where that is so further inside.
        """
        missing: BoolArray = (~np.isfinite(values)).reshape(-1, values.shape[-1]).any(axis=0).reshape(self.shape)
        if not missing.any():
            return values
        inner = missing[tuple(slice(1, -1) for _ in self.shape)]
        if inner.any() or missing.all():
            node = int(np.argmax(missing.ravel())) if missing.all() else self._inner_node(inner)
            spots = [f"{name} = {place:.6g}" for name, place in zip(self.axes, self.positions()[:, node], strict=True)]
            raise CaseError(where, f"it is not finite at {', '.join(spots)}", "Walkers need it at every place", "")
        nearest = distance_transform_edt(missing, return_distances=False, return_indices=True)
        flat = np.ravel_multi_index(tuple(nearest), self.shape).ravel()
        return values[..., flat]

    def _inner_node(self, inner: BoolArray) -> int:
        """The flat number of the first of some nodes that are not outermost."""
        place = np.unravel_index(int(np.argmax(inner)), inner.shape)
        return int(self.strides @ (np.array(place) + 1))


def _parts(grid: Grid, most: int) -> int:
    """Into how many parts each cell is cut along every axis: one, or an even number."""
    parts, finer = 1, 2
    while math.prod(axis.cells * finer + 1 for axis in grid.axes) <= most:
        parts, finer = finer, finer + 2
    return parts


def _places(axis: Axis, parts: int) -> FloatArray:
    """Positions of the nodes along an axis; walls are met exactly."""
    index = np.arange(axis.cells * parts + 1, dtype=np.float64) / parts - 0.5
    lower, upper = axis.infinite
    kept = index[(index >= (0.0 if lower else -0.5)) & (index <= axis.cells - (1.0 if upper else 0.5))]
    if lower and kept[0] > 0.0:
        kept = np.append(0.0, kept)
    if upper and kept[-1] < axis.cells - 1.0:
        kept = np.append(kept, axis.cells - 1.0)
    places = axis.position(kept)
    places[0], places[-1] = (places[0] if lower else axis.lower), (places[-1] if upper else axis.upper)
    return places


def _pace(places: FloatArray) -> float:
    """Nodes per length, 0 where they are uneven."""
    gaps = np.diff(places)
    return 1.0 / float(gaps.mean()) if np.ptp(gaps) <= EVEN * gaps.mean() else 0.0
