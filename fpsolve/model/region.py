"""Regions and points as weights on cells.

A region is a level set g > 0. Its weight in a cell is the volume fraction inside, so its occupation is
sum(weight * probability), and the flux out of it is the sum over edges of current * (weight at the origin -
weight at the end): d(occupation)/dt = -flux, exactly. A point is its multilinear weights on the surrounding
cells: what is injected with them and what is read with them are adjoint to each other.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from fpsolve.errors import CaseError
from fpsolve.model.expressions import parse_level_set
from fpsolve.model.fields import Field, SymbolicField
from fpsolve.model.grid import FloatArray, Grid, IntArray

# A point of a turned grid that is so many cells from a wall is on it, but for rounding.
ON_WALL = 1e-9


@final
@dataclass(frozen=True, slots=True)
class Region:
    """The set where a level function is above zero."""

    name: str
    level: Field

    @classmethod
    def parse(
        cls, name: str, text: str, variables: Sequence[str], parameters: Mapping[str, float], where: str
    ) -> Region:
        """A region from a condition such as 'x > 0.8 and y < 0'. Raises CaseError where it is not one."""
        level = parse_level_set(text, tuple(variables), parameters, where)
        return cls(name, SymbolicField((level,), (), tuple(variables)))

    def weights(self, grid: Grid) -> FloatArray:
        """Volume fraction of every cell inside, shape (cells,), in [0, 1].

        Exact where the surface is a plane and cells are equal; a share of the index box on other cells. Of a cell that
        the surface of a domain cuts, too, the share of the whole cell.
        """
        from_centre = self.level(grid.positions())
        # The last face of an infinite axis is out of reach: the slope is taken closer to the centre then.
        reach = 0.25 if any(any(axis.infinite) for axis in grid.axes) else 0.5
        index = grid.indices().astype(np.float64)
        normals = np.empty_like(index)
        for axis in range(grid.dimensions):
            half = np.zeros((grid.dimensions, 1))
            half[axis] = reach
            across = self.level(grid.positions(index + half)) - self.level(grid.positions(index - half))
            normals[axis] = across * (0.5 / reach)
        return volume_fractions(normals, from_centre)


def volume_fractions(normals: FloatArray, levels: FloatArray) -> FloatArray:
    """Share of each unit cell centred at 0 where normal . x + level > 0, by inclusion and exclusion of corners.

    share = sum over corners of the cube of (-1)^(ones) max(depth - |normal| . corner, 0)^n / (n! product |normal|),
    depth measured from the corner that lies deepest inside (Scardovelli & Zaleski 2000). Components of the normal
    below 1e-4 of their sum are taken as 0: the plane is as good as parallel to them, and the sum would cancel.

    normals: (axes, cells); levels: (cells,), at the centres. Returns (cells,).
    """
    sizes = np.abs(normals)
    total = sizes.sum(axis=0)
    result = (levels > 0.0).astype(np.float64)
    (cut,) = np.nonzero(np.abs(levels) < 0.5 * total)
    sizes, levels = sizes[:, cut] / total[cut], levels[cut] / total[cut]
    sizes[sizes < 1e-4] = 0.0
    kept = sizes > 0.0
    count = kept.sum(axis=0)
    depth = np.clip(levels + 0.5 * sizes.sum(axis=0), 0.0, sizes.sum(axis=0))
    share = np.zeros(cut.size)
    for corner in itertools.product((0, 1), repeat=len(normals)):
        ones = np.array(corner)[:, None]
        counts = ~((ones == 1) & ~kept).any(axis=0)  # axes that are left out have no second corner
        rest = np.maximum(depth - (ones * sizes).sum(axis=0), 0.0)
        share += np.where(counts, (-1.0) ** sum(corner) * rest**count, 0.0)
    factorial = np.array([1.0, 1.0, 2.0, 6.0])[count]
    result[cut] = np.clip(share / (factorial * np.where(kept, sizes, 1.0).prod(axis=0)), 0.0, 1.0)
    return result


@final
@dataclass(frozen=True, slots=True)
class PointWeights:
    """A point as non-negative weights, summing to one, on at most 2**axes cells."""

    cells: IntArray
    weights: FloatArray

    def read(self, values: FloatArray) -> float:
        """The value at the point of a function given on the cells, linear between cell centres."""
        return float(values[self.cells] @ self.weights)

    def inject(self, size: int) -> FloatArray:
        """Unit probability at the point, spread over the cells: shape (size,)."""
        probability = np.zeros(size)
        np.add.at(probability, self.cells, self.weights)
        return probability


def point_weights(grid: Grid, point: Sequence[float], where: str) -> PointWeights:
    """Multilinear weights of a point; between a wall and the nearest centres, those of the nearest centres.

    They are linear in the position, so that what is injected has its mean at the point.

    Raises CaseError when the point has the wrong number of coordinates or lies outside the grid.
    """
    if len(point) != grid.dimensions:
        raise CaseError(where, f"{len(point)} coordinates", f"A point needs {grid.dimensions}, one per variable", "")
    sides = []
    for axis, coordinate in zip(grid.axes, _along_axes(grid, point), strict=True):
        if not axis.lower <= coordinate <= axis.upper:
            found = f"{axis.name} = {coordinate:g} lies outside the grid"
            required = f"{axis.name} runs from {axis.lower:g} to {axis.upper:g}"
            raise CaseError(where, found, required, "Move the point or widen the grid")
        index = float(axis.index(np.array(coordinate)))
        if not axis.periodic:
            index = min(max(index, 0.0), axis.cells - 1.0)
        low = int(np.floor(index))
        first, second = axis.position(np.array([low, low + 1.0]))
        share = index - low if axis.map is None else min(max((coordinate - first) / (second - first), 0.0), 1.0)
        high = (low + 1) % axis.cells if axis.periodic else min(low + 1, axis.cells - 1)
        sides.append(((low % axis.cells, 1.0 - share), (high, share)))
    corners = [corner for corner in itertools.product(*sides) if all(weight > 0.0 for _, weight in corner)]
    cells = [int(grid.strides @ [index for index, _ in corner]) for corner in corners]
    weights = [float(np.prod([weight for _, weight in corner])) for corner in corners]
    if grid.parts is not None:
        return _inside_weights(grid, point, where, np.array(cells, dtype=np.int64), np.array(weights))
    return PointWeights(np.array(cells, dtype=np.int64), np.array(weights))


def _along_axes(grid: Grid, point: Sequence[float]) -> list[float]:
    """The coordinates of a point along the axes; of a turned grid, one outside by rounding only is on the wall."""
    if grid.frame is None:
        return list(point)
    coordinates = []
    for axis, x in zip(grid.axes, grid.along(np.array(point, dtype=np.float64)).tolist(), strict=True):
        nearest, width = min(max(x, axis.lower), axis.upper), float(axis.widths.min())
        coordinates.append(nearest if abs(x - nearest) <= ON_WALL * width else x)
    return coordinates


def _inside_weights(
    grid: Grid, point: Sequence[float], where: str, cells: IntArray, weights: FloatArray
) -> PointWeights:
    """Of the weights of a point those on cells inside the domain, in proportion; the nearest cell's where none is."""
    assert grid.domain is not None
    assert grid.parts is not None
    if not grid.domain.level(np.array(point, dtype=np.float64)[:, None])[0] > 0.0:
        place = ", ".join(f"{name} = {x:g}" for name, x in zip(grid.names, point, strict=True))
        raise CaseError(where, f"{place} lies outside the domain", "It must lie inside", "Move it or widen grid.domain")
    inside = grid.parts.inside[cells]
    if not inside.any():
        return PointWeights(grid.parts.nearest[cells[[int(np.argmax(weights))]]], np.ones(1))
    return PointWeights(cells[inside], weights[inside] / weights[inside].sum())
