"""The grid: a box of cells in one to three dimensions, and the walls around it.

Everything downstream works in *index coordinates*: cell i of an axis has its centre at i,
its faces at i - 1/2 and i + 1/2. Only this module knows how an index becomes a position: the
cells of an axis are equal, or follow a smooth map. The axes may be turned (`frame`): then positions are still those of
the user, and coordinates along the axes stand beside them.

       face -1/2        face 1/2         face 3/2               face n-1/2
    lower |------- 0 -------|------- 1 -------|----  ...  ----|------- n-1 -------| upper
"""

from __future__ import annotations

import abc
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, Literal, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from fpsolve.errors import CaseError
from fpsolve.model.frame import Frame
from fpsolve.model.maps import AbstractMap, Refinement, axis_map

FloatArray: TypeAlias = NDArray[np.float64]
IntArray: TypeAlias = NDArray[np.int64]
BoolArray: TypeAlias = NDArray[np.bool_]

Wall: TypeAlias = Literal["reflecting", "absorbing", "periodic"]
WALLS: tuple[Wall, ...] = ("reflecting", "absorbing", "periodic")
MOST_AXES = 3
FEWEST_CELLS_TO_INFINITY = 3
# Cells of an infinite axis that are this much wider than its finest are far out.
FAR_STRETCH = 100.0

# Fields are evaluated at so many points at a time: what is computed on the way then stays in the processor's cache.
POINTS_AT_A_TIME = 2**13


def turned_names(axes: int) -> tuple[str, ...]:
    """Names of the axes of a turned grid."""
    return tuple(f"axis_{number}" for number in range(1, axes + 1))


def pieces(count: int, most: int = POINTS_AT_A_TIME) -> Iterator[slice]:
    """Slices of at most so many that make up range(count)."""
    for start in range(0, count, most):
        yield slice(start, min(start + most, count))


def in_pieces(function: Callable[[FloatArray], FloatArray], positions: FloatArray) -> FloatArray:
    """function(positions), (..., points), for positions (axes, points), or matrices there, piece by piece."""
    count = positions.shape[-1]
    if count <= POINTS_AT_A_TIME:
        return function(positions)
    values = np.empty(0)
    for piece in pieces(count):
        found = function(positions[..., piece])
        if piece.start == 0:
            values = np.empty((*found.shape[:-1], count))
        values[..., piece] = found
    return values


@final
@dataclass(frozen=True, slots=True)
class Axis:
    """One coordinate, cut into cells, with a wall at either end.

    The cells are equal, unless `scale` or `refine` ask for others. An end may be infinite: a wall that reflects,
    infinitely far away. About two thirds of the cells of an infinite axis lie within one `scale` of its `centre` (0
    unless given, or the finite end); their widths grow as (x - centre)**2 far beyond, so that heavy tails are held. On
    a finite axis cells are even within a scale of the centre (the middle, unless given) and grow in proportion to the
    distance beyond. `refine` makes them finer around some places.

    `map` follows from the rest: None where cells are equal.

    Raises CaseError when the bounds are not in order, an infinite end has no scale or a wall that does not reflect,
    a value of the map is out of range or has no effect, there is no cell, or one end is periodic and the other is not.
    """

    name: str
    lower: float  # [length]
    upper: float  # [length]
    cells: int
    walls: tuple[Wall, Wall] = ("reflecting", "reflecting")
    scale: float | None = None  # [length]
    centre: float | None = None  # [length]
    refine: tuple[Refinement, ...] = ()
    map: AbstractMap | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        where = f"grid.{self.name}"
        for bound in (self.lower, self.upper):
            if math.isnan(bound):
                raise CaseError(where, "a bound is nan", "Bounds are numbers, -inf or inf", "Give min and max")
        if not self.lower < self.upper:
            found = f"min = {self.lower:g} is not below max = {self.upper:g}"
            raise CaseError(where, found, "An axis needs min < max", "Exchange them or widen the axis")
        if not isinstance(self.cells, int | np.integer) or self.cells < 1:
            required = "An axis needs a whole number of cells, at least 1"
            raise CaseError(where, f"cells = {self.cells}", required, "Try cells = 100")
        if (self.walls[0] == "periodic") != (self.walls[1] == "periodic"):
            found = f"one end is periodic, the other {self.walls[1] if self.walls[0] == 'periodic' else self.walls[0]}"
            raise CaseError(f"walls.{self.name}", found, "A periodic axis joins both ends", 'Write "periodic" once')
        self._check_infinite_ends(where)
        object.__setattr__(self, "refine", tuple(self.refine))
        bounds = (self.lower, self.upper)
        made = axis_map(where, bounds, self.scale, self.centre, self.refine, self.periodic)
        object.__setattr__(self, "map", made)

    def _check_infinite_ends(self, where: str) -> None:
        for bound, wall, infinite in zip((self.lower, self.upper), self.walls, self.infinite, strict=True):
            if infinite and wall != "reflecting":
                found, required = f"the wall at {bound:g} is {wall}", "An infinite end counts as a reflecting wall"
                raise CaseError(f"walls.{self.name}", found, required, "Remove it, or give the axis a finite end")
        if any(self.infinite) and self.cells < FEWEST_CELLS_TO_INFINITY:
            required = f"An infinite axis needs at least {FEWEST_CELLS_TO_INFINITY}"
            raise CaseError(where, f"cells = {self.cells}", required, "Try cells = 100")

    @property
    def infinite(self) -> tuple[bool, bool]:
        """Whether the lower and the upper end are infinite."""
        return math.isinf(self.lower), math.isinf(self.upper)

    @property
    def spacing(self) -> float:
        """Mean cell width [length]; infinite on an infinite axis."""
        return (self.upper - self.lower) / self.cells

    @property
    def periodic(self) -> bool:
        """Whether the two ends are joined."""
        return self.walls[0] == "periodic"

    @property
    def centres(self) -> FloatArray:
        """Cell centres, shape (cells,) [length]."""
        return self.position(np.arange(self.cells, dtype=np.float64))

    @property
    def faces(self) -> FloatArray:
        """Cell faces, walls included, shape (cells + 1,) [length]."""
        return self.position(np.arange(self.cells + 1, dtype=np.float64) - 0.5)

    def position(self, index: FloatArray) -> FloatArray:
        """Position [length] of an index coordinate; cell centres are whole indices."""
        if self.map is None:
            return self.lower + (index + 0.5) * self.spacing
        return self.map.position((index + 0.5) / self.cells)

    def index(self, position: FloatArray) -> FloatArray:
        """Index coordinate of a position: the inverse of `position`."""
        if self.map is None:
            return (position - self.lower) / self.spacing - 0.5
        return self.map.share(position) * self.cells - 0.5

    def stretch(self, index: FloatArray) -> FloatArray:
        """Derivative of the position by the index [length]: the local cell width."""
        if self.map is None:
            return np.full_like(index, self.spacing, dtype=np.float64)
        return self.map.stretch((index + 0.5) / self.cells) / self.cells

    @property
    def widths(self) -> FloatArray:
        """Local cell width at the cell centres, shape (cells,) [length]; finite for the last cells too."""
        return self.stretch(np.arange(self.cells, dtype=np.float64))


@final
@dataclass(frozen=True, slots=True)
class Cut:
    """What a domain leaves of the cells of a box.

    inside: cells that hold probability, (cells,); shares: volume that each of them stands for, in volumes of the whole
    cell, (cells,), 1 outside; nearest: the nearest cell inside, (cells,), itself there; depth: distance to the nearest
    cell outside, (cells,) [cells].
    """

    inside: BoolArray
    shares: FloatArray
    nearest: IntArray
    depth: FloatArray


class AbstractDomain(abc.ABC):
    """A part of the box to which a grid is cut; see `fpsolve.model.domain`."""

    wall: Wall

    @abc.abstractmethod
    def level(self, positions: FloatArray) -> FloatArray:
        """A function that is above 0 inside and finite everywhere: positions (axes, points) -> (points,)."""

    @abc.abstractmethod
    def cut(self, grid: Grid) -> Cut:
        """The cells of a grid that are kept. Raises CaseError where there are none."""


@final
@dataclass(frozen=True, slots=True, init=False)
class Grid:
    """A box of cells: one Axis per variable, in the order of the variables.

    `Grid(x=(-2, 2, 200), y=Axis("y", -math.inf, math.inf, 100, scale=1.0))`; a triple is
    (lower, upper, cells) with equal cells and reflecting walls.

    Arrays over the grid are flat, in C order (the last axis runs fastest); `shaped` gives
    them their box back. Cells carry *probability*; density = probability / volume.

    A turned grid has a frame and axes called axis_1, axis_2, ..., which are measured from the frame's point along its
    directions: `Grid(landscape.frame((-1, 0)), axis_1=(-1, 1, 50), axis_2=(-2, 3, 200))`.

    A domain cuts the box: cells with their centre outside hold nothing, and wherever a field is asked for at all cells
    they stand in for the nearest one inside, so that no field needs to have a value outside.
    """

    axes: tuple[Axis, ...]
    frame: Frame | None
    domain: AbstractDomain | None
    parts: Cut | None = field(repr=False, compare=False)  # of the cells, where there is a domain

    def __init__(
        self,
        frame: Frame | None = None,
        /,
        *,
        domain: AbstractDomain | None = None,
        **axes: Axis | tuple[float, float, int],
    ) -> None:
        if not 1 <= len(axes) <= MOST_AXES:
            found = f"{len(axes)} axes ({', '.join(axes) or 'none'})"
            raise CaseError("grid", found, "A grid has 1 to 3 axes", "Give one entry per variable")
        for name, axis in axes.items():
            if not isinstance(axis, Axis) and len(axis) != 3:
                raise CaseError(f"grid.{name}", f"{axis!r}", "An axis is (lower, upper, cells) or an Axis", "")
        made = tuple(axis if isinstance(axis, Axis) else Axis(name, *axis) for name, axis in axes.items())
        object.__setattr__(self, "axes", made)
        object.__setattr__(self, "frame", frame)
        if frame is not None and self.names != turned_names(len(frame.variables)):
            required = f"The axes of a turned grid are {', '.join(turned_names(len(frame.variables)))}"
            raise CaseError("grid", f"axes {', '.join(self.names)}", required, "Rename them")
        object.__setattr__(self, "domain", domain)
        object.__setattr__(self, "parts", None)
        if domain is not None:
            object.__setattr__(self, "parts", domain.cut(self))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the axes, in order."""
        return tuple(axis.name for axis in self.axes)

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the coordinates of positions, in order: the user's, of a turned grid too."""
        return self.names if self.frame is None else self.frame.variables

    def with_axes(self, axes: Iterable[Axis]) -> Grid:
        """The same grid with other axes, by the same names."""
        return Grid(self.frame, domain=self.domain, **{axis.name: axis for axis in axes})

    @property
    def dimensions(self) -> int:
        """Number of axes."""
        return len(self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Cells along each axis."""
        return tuple(axis.cells for axis in self.axes)

    @property
    def size(self) -> int:
        """Number of cells."""
        return math.prod(self.shape)

    @property
    def spacings(self) -> FloatArray:
        """Mean cell widths, shape (axes,) [length]."""
        return np.array([axis.spacing for axis in self.axes])

    @property
    def volumes(self) -> FloatArray:
        """Volumes of the cells, shape (cells,) [length**axes]: the products of the local widths at their centres.

        Beside the surface of a reflecting domain those of the part of the domain that a cell stands for.
        """
        return self.box_volumes if self.parts is None else self.box_volumes * self.parts.shares

    @property
    def box_volumes(self) -> FloatArray:
        """Volumes of the whole cells, shape (cells,) [length**axes], whatever a domain leaves of them."""
        return np.asarray(reduce(np.multiply.outer, [axis.widths for axis in self.axes]).ravel())

    @property
    def active(self) -> BoolArray:
        """Cells that hold probability, shape (cells,): those inside the domain."""
        return np.ones(self.size, dtype=np.bool_) if self.parts is None else self.parts.inside.copy()

    @property
    def far(self) -> BoolArray:
        """Cells far out on an infinite axis, shape (cells,): the scheme does not promise much there."""
        found = np.zeros(self.size, dtype=np.bool_)
        box = found.reshape(self.shape)
        for number, axis in enumerate(self.axes):
            if any(axis.infinite):
                widths = axis.widths
                box |= self._along(number, widths > FAR_STRETCH * widths.min())
        return found

    @property
    def even(self) -> bool:
        """Whether all cells are equal."""
        return all(axis.map is None for axis in self.axes)

    @property
    def closed(self) -> bool:
        """Whether nothing can leave: no wall absorbs."""
        return all("absorbing" not in axis.walls for axis in self.axes)

    @property
    def strides(self) -> IntArray:
        """Distance in a flat array between neighbours along each axis, shape (axes,)."""
        return np.array([math.prod(self.shape[axis + 1 :]) for axis in range(self.dimensions)], dtype=np.int64)

    def indices(self) -> IntArray:
        """Indices of every cell, shape (axes, cells)."""
        return np.indices(self.shape, dtype=np.int64).reshape(self.dimensions, -1)

    def index_of(self, cells: IntArray) -> IntArray:
        """Indices of flat cell numbers, shape (axes, *cells.shape)."""
        lengths = np.array(self.shape).reshape(-1, *([1] * cells.ndim))
        return (cells // self.strides.reshape(lengths.shape)) % lengths

    def positions(self, index: FloatArray | IntArray | None = None) -> FloatArray:
        """Positions [length] of index coordinates (axes, points); of all cell centres when none are given.

        A cell outside the domain then stands in for the nearest one inside.
        """
        if index is None:
            centres = self.placed(self._over_box([axis.centres for axis in self.axes]))
            return centres if self.parts is None else centres[:, self.parts.nearest]
        places = np.empty(index.shape)
        for number, axis in enumerate(self.axes):
            places[number] = axis.position(np.asarray(index[number], dtype=np.float64))
        return self.placed(places)

    def along(self, positions: FloatArray) -> FloatArray:
        """Coordinates along the axes [length] of positions (axes, ...); these themselves unless it is turned."""
        return positions if self.frame is None else self.frame.along(positions)

    def placed(self, coordinates: FloatArray) -> FloatArray:
        """Positions of coordinates along the axes (axes, ...)."""
        return coordinates if self.frame is None else self.frame.positions(coordinates)

    def turned(self, vectors: FloatArray) -> FloatArray:
        """Components along the axes of vectors (axes, ...)."""
        return vectors if self.frame is None else self.frame.turned(vectors)

    def unturned(self, vectors: FloatArray) -> FloatArray:
        """Vectors of components along the axes (axes, ...)."""
        return vectors if self.frame is None else self.frame.unturned(vectors)

    def turned_matrices(self, matrices: FloatArray) -> FloatArray:
        """Components along the axes of matrices (axes, axes, ...)."""
        return matrices if self.frame is None else self.frame.turned_matrices(matrices)

    def unturned_matrices(self, matrices: FloatArray) -> FloatArray:
        """Matrices of components along the axes (axes, axes, ...)."""
        return matrices if self.frame is None else self.frame.unturned_matrices(matrices)

    def stretch(self, index: FloatArray | None = None) -> FloatArray:
        """Local cell widths along each axis [length], (axes, points); of all cells when no index is given."""
        if index is None:
            return self._over_box([axis.widths for axis in self.axes])
        return np.array([axis.stretch(row) for axis, row in zip(self.axes, index, strict=True)])

    def shaped(self, values: FloatArray) -> FloatArray:
        """A flat array over the cells (any leading dimensions) as a box."""
        return values.reshape(*values.shape[:-1], *self.shape)

    def differences(self, values: FloatArray) -> FloatArray:
        """Slopes along each axis of values (..., cells): central, one-sided at walls, wrapped where periodic.

        Beside the surface of a domain one-sided, too. Shape (..., axes, cells).
        """
        if self.parts is not None:
            return self._differences_inside(values, self.parts.inside)
        slopes = np.zeros((*values.shape[:-1], self.dimensions, self.size))
        for number, axis in enumerate(self.axes):
            box = np.moveaxis(self.shaped(values), number - self.dimensions, 0)
            slope = np.moveaxis(self.shaped(slopes[..., number, :]), number - self.dimensions, 0)
            if axis.cells > 1:
                np.subtract(box[2:], box[:-2], out=slope[1:-1])
                slope[1:-1] *= 0.5
                slope[0], slope[-1] = box[1] - box[0], box[-1] - box[-2]
            if axis.periodic:
                slope[0], slope[-1] = 0.5 * (box[1 % axis.cells] - box[-1]), 0.5 * (box[0] - box[-2 % axis.cells])
        return slopes

    def _differences_inside(self, values: FloatArray, inside: BoolArray) -> FloatArray:
        """The mean of the differences to either neighbour, as far as both cells are inside."""
        slopes = np.zeros((*values.shape[:-1], self.dimensions, self.size))
        for number in range(self.dimensions):
            total, count = np.zeros(values.shape), np.zeros(self.size)
            for step in (1, -1):
                offset = np.zeros(self.dimensions, dtype=np.int64)
                offset[number] = step
                there, known = self.neighbours(offset)
                known &= inside & inside[there]
                total += np.where(known, step * (values[..., there] - values), 0.0)
                count += known
            slopes[..., number, :] = total / np.maximum(count, 1.0)
        return slopes

    def neighbours(self, offset: IntArray) -> tuple[IntArray, BoolArray]:
        """For every cell the flat index of cell + offset, and whether that lies inside.

        Periodic axes wrap; where the target lies outside, the flat index is meaningless (0).
        """
        found, inside = np.zeros(self.shape, dtype=np.int64), np.ones(self.shape, dtype=np.bool_)
        for number, (axis, stride, step) in enumerate(zip(self.axes, self.strides, offset, strict=True)):
            moved = np.arange(axis.cells) + step
            if axis.periodic:
                moved %= axis.cells
            found += self._along(number, moved * stride)
            inside &= self._along(number, (moved >= 0) & (moved < axis.cells))
        found *= inside
        return found.ravel(), inside.ravel()

    def _along(self, number: int, values: NDArray[Any]) -> NDArray[Any]:
        """One value per index of an axis, (axis.cells,), in a shape that spreads over the box."""
        return values.reshape(-1, *[1] * (self.dimensions - 1 - number))

    def _over_box(self, values: Sequence[FloatArray]) -> FloatArray:
        """Values along each axis, at every cell: (axes, cells)."""
        columns = np.empty((self.dimensions, *self.shape))
        for number, along in enumerate(values):
            columns[number] = self._along(number, along)
        return columns.reshape(self.dimensions, -1)

    def place(self, cell: int) -> str:
        """Where a cell is, for messages: 'cell (3, 7) at x = 0.5, y = -1'."""
        index = np.unravel_index(cell, self.shape)
        centre = self.placed(np.array([axis.centres[i] for axis, i in zip(self.axes, index, strict=True)]))
        spots = [f"{name} = {x:.6g}" for name, x in zip(self.variables, centre, strict=True)]
        return f"cell ({', '.join(str(int(i)) for i in index)}) at {', '.join(spots)}"
