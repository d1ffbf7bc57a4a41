"""Domains: the part of the box that a level set keeps, such as a disc or an annulus.

A cell belongs to the domain by its centre, so that no field is ever asked for a value outside. At a reflecting surface
edges that lead out are dropped. The density at rest of a reversible chain does not notice: it stays exact, since what
it is in a cell depends on the potential alone. What a cell stands for is its share of the domain's volume, its own and
that of neighbours whose centres lie outside, so that sums over cells, such as means and occupations, are of second
order. What flows along the surface is of first order in the cell size. At an absorbing surface edges are cut where
they cross it, as at a target, which is of second order altogether; cells then count whole.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.ndimage import distance_transform_edt

from fpsolve.errors import CaseError
from fpsolve.model.fields import FunctionField
from fpsolve.model.grid import AbstractDomain, BoolArray, Cut, FloatArray, Grid, IntArray, Wall
from fpsolve.model.region import Region, volume_fractions

WHERE = "grid.domain"
NAME = "domain"  # of the gate that its surface is
BESIDE = 2.0  # distance in cells, to the nearest cell on the other side, up to which the surface may cut a cell
PARTS = 4  # into which such a cell is cut along every axis
# The smallest part of a cell that a cell stands for: less of it would be a rate that says nothing about the physics.
LEAST_SHARE = 0.05


@final
@dataclass(frozen=True)
class Domain(AbstractDomain):
    """The places of the box where the level of a region is above zero.

    Raises CaseError for a wall that is neither "reflecting" nor "absorbing".
    """

    region: Region
    wall: Wall = "reflecting"
    complement: Region | None = None  # the rest of the box, where it is known as a condition

    def __post_init__(self) -> None:
        if self.wall not in ("reflecting", "absorbing"):
            required = 'The surface of a domain is "reflecting" or "absorbing"'
            raise CaseError("walls.domain", f'it is "{self.wall}"', required, "")

    @classmethod
    def parse(
        cls,
        text: str,
        variables: Sequence[str],
        parameters: Mapping[str, float] | None = None,
        wall: Wall = "reflecting",
    ) -> Domain:
        """The domain of a condition such as "x**2 + y**2 < 1". Raises CaseError where it is not one."""
        known = parameters or {}
        rest = Region.parse(NAME, f"not ({text})", variables, known, WHERE)
        return cls(Region.parse(text, text, variables, known, WHERE), wall, rest)

    @property
    def words(self) -> str:
        """The condition, and what its surface means for what is found."""
        if self.wall == "absorbing":
            return f"{self.region.name}, absorbing surface"
        orders = "what flows along it is right to first order in the cell size, sums at rest to second"
        return f"{self.region.name}, reflecting surface ({orders})"

    def level(self, positions: FloatArray) -> FloatArray:
        """The level of the region; where it has no value, that is outside."""
        with np.errstate(all="ignore"):
            return np.nan_to_num(self.region.level(positions), nan=-1.0)

    def outside(self, axes: int) -> Region:
        """What the domain leaves out, as a region named "domain"."""
        if self.complement is not None:
            return self.complement

        def level(*coordinates: FloatArray) -> FloatArray:
            return -self.level(np.array(coordinates))

        return Region(NAME, FunctionField(level, (), axes, NAME))

    def cut(self, grid: Grid) -> Cut:
        """The cells whose centres lie inside."""
        inside = self.level(grid.positions()) > 0.0
        if not inside.any():
            found = f"the domain {self.region.name!r} holds no cell of the grid"
            raise CaseError(
                WHERE, found, "It must hold some", "Check the condition against the bounds, or refine the grid"
            )
        shares = np.ones(grid.size) if self.wall == "absorbing" else self._shares(grid, inside)
        box = inside.reshape(grid.shape)
        indices = distance_transform_edt(~box, return_distances=False, return_indices=True)
        nearest = np.ravel_multi_index(tuple(indices), grid.shape).ravel().astype(np.int64)
        depth = np.full(grid.size, np.inf) if inside.all() else distance_transform_edt(box).ravel()
        return Cut(inside, shares, nearest, depth)

    def _shares(self, grid: Grid, inside: BoolArray) -> FloatArray:
        """Volumes that cells stand for, so that sums over cells are integrals over the domain to second order.

        What the domain takes of a cell beside its surface has a volume and a centre of mass. A function there follows
        linearly from the cell itself, or where its centre lies outside, from cells inside that it touches, in equal
        parts: from their values and their differences to their neighbours inside. That makes weights of the cells.
        """
        near = np.zeros(grid.shape, dtype=np.bool_)
        box = inside.reshape(grid.shape)
        if not box.all():
            near = np.where(box, distance_transform_edt(box), distance_transform_edt(~box)) < BESIDE
        (cells,) = np.nonzero(near.ravel())
        volume, centre = self._contents(grid, cells)
        shares = inside.astype(np.float64)
        shares[cells] = 0.0
        own = inside[cells]
        _add(grid, inside, shares, cells[own], volume[own], centre[:, own])
        cells, volume, centre = cells[~own], volume[~own], centre[:, ~own]
        for shell in _shells(grid.dimensions):
            takers = [_inside_beside(grid, cells, offset, inside) for offset in shell]
            count = np.sum([takes for _, takes in takers], axis=0)
            for offset, (there, takes) in zip(shell, takers, strict=True):
                part = volume[takes] / count[takes]
                _add(grid, inside, shares, there[takes], part, centre[:, takes] - offset[:, None])
            cells, volume, centre = cells[count == 0], volume[count == 0], centre[:, count == 0]
        return np.where(inside, np.maximum(shares, LEAST_SHARE), 1.0)

    def _contents(self, grid: Grid, cells: IntArray) -> tuple[FloatArray, FloatArray]:
        """Share of cells (n,) inside, (n,), and its centre of mass, from that of each, (axes, n) [cells].

        Every cell is cut into PARTS along each axis, and in each part the surface taken as a plane.
        """
        index, volume = grid.index_of(cells).astype(np.float64), np.zeros(cells.size)
        moment = np.zeros(index.shape)
        middles = (np.arange(PARTS) + 0.5) / PARTS - 0.5
        for place in itertools.product(middles, repeat=grid.dimensions):
            shift = np.array(place)[:, None]
            share = self._fractions(grid, index + shift) / PARTS**grid.dimensions
            volume += share
            moment += share * shift
        return volume, np.divide(moment, volume, out=np.zeros_like(moment), where=volume > 0.0)

    def _fractions(self, grid: Grid, index: FloatArray) -> FloatArray:
        """Share of parts of cells around index coordinates (axes, n) that is inside, (n,)."""
        normals = np.empty_like(index)
        for axis in range(grid.dimensions):
            half = np.zeros((grid.dimensions, 1))
            half[axis] = 0.5 / PARTS
            normals[axis] = self.level(grid.positions(index + half)) - self.level(grid.positions(index - half))
        return volume_fractions(normals, self.level(grid.positions(index)))


def _shells(axes: int) -> list[list[IntArray]]:
    """Offsets to the neighbours across faces, then across edges, then across corners."""
    offsets = [np.array(offset, dtype=np.int64) for offset in itertools.product((-1, 0, 1), repeat=axes)]
    return [[offset for offset in offsets if np.abs(offset).sum() == length] for length in range(1, axes + 1)]


def _inside_beside(grid: Grid, cells: IntArray, offset: IntArray, inside: BoolArray) -> tuple[IntArray, BoolArray]:
    """The neighbours of some cells at an offset, and whether they exist and are inside."""
    there, exists = grid.neighbours(offset)
    return there[cells], exists[cells] & inside[there[cells]]


def _add(
    grid: Grid, inside: BoolArray, shares: FloatArray, cells: IntArray, volume: FloatArray, away: FloatArray
) -> None:
    """Add weights of cells inside that make volumes times the value of a linear function.

    volume: (n,); away: where they are, seen from the centres of cells (n,), (axes, n) [cells].
    """
    shares += np.bincount(cells, volume, minlength=grid.size)
    for axis, unit in enumerate(np.eye(grid.dimensions, dtype=np.int64)):
        sides = [(side, *_inside_beside(grid, cells, side * unit, inside)) for side in (1, -1)]
        count = np.maximum(np.sum([known for _, _, known in sides], axis=0), 1)
        for side, there, known in sides:
            slope = np.where(known, side * volume * away[axis] / count, 0.0)
            shares += np.bincount(there[known], slope[known], minlength=grid.size)
            shares -= np.bincount(cells, slope, minlength=grid.size)
