"""Fields known at the nodes of a lattice: tensor-product splines through their values.

Along every axis the spline has an odd degree and the not-a-knot ends of SciPy's make_interp_spline (de Boor, A
Practical Guide to Splines, 1978, ch. XIII); its error is of the order spacing**(degree + 1), and each derivative loses
one order.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from scipy.interpolate import NdBSpline, make_interp_spline

from fpsolve.errors import CaseError
from fpsolve.model.fields import Field
from fpsolve.model.grid import Axis, BoolArray, FloatArray, Grid

DEGREES = {3: "cubic", 5: "quintic"}
DEFAULT_DEGREE = 5  # a loss then has continuous fourth derivatives, and its Hessian an error of fourth order
# On an infinite axis nodes are no farther apart than this share of scale + distance from the centre.
LONGEST_STEP = 0.25
# Values at the two ends of a period may differ by rounding (that of float32), as a share of the largest value.
SAME = 1e-6


@final
@dataclass(frozen=True, eq=False)
class SplineField(Field):
    """A number, vector or matrix that is a tensor-product spline; its derivatives are exact for the spline.

    Made by `SplineField.through`. Beyond the first and the last node the end polynomials go on: that is
    smooth, and as accurate as near the end within about one spacing; farther out it grows like distance**degree. On a
    periodic axis positions are wrapped instead.

    Equal entries (those of a symmetric matrix) share their coefficients, and so are equal everywhere.
    """

    shape: tuple[int, ...]  # the last `order` indices are those of derivatives
    nodes: tuple[FloatArray, ...]  # per axis, increasing [length]
    degree: int
    periodic: tuple[bool, ...]
    spline: NdBSpline  # of the distinct entries, the last index of its values
    entries: tuple[int, ...]  # flat, in C order of the shape without derivatives: which of the distinct entries
    is_constant: bool = False
    order: int = 0
    depends_on_time = False

    @classmethod
    def through(
        cls,
        nodes: Sequence[FloatArray],
        values: FloatArray,
        *,
        degree: int = DEFAULT_DEGREE,
        periodic: Sequence[bool] | None = None,
        names: Sequence[str] = (),
        where: str = "table",
    ) -> SplineField:
        """The spline through values (*shape, *lengths) at nodes (length,) of each axis.

        nodes: finite and increasing, at least degree + 1; the first and the last of a periodic axis are the same place.
        names: of the axes, for messages, in which `where` is the place.

        Raises CaseError for another degree, too few or unsorted nodes, values that are not finite, or that differ at
        the two ends of a period.
        """
        names = tuple(names) or tuple(f"axis {number + 1}" for number in range(len(nodes)))
        check_degree(degree, where)
        for along, name in zip(nodes, names, strict=True):
            check_nodes(along, name, degree, where)
        shape = values.shape[: values.ndim - len(nodes)]
        flat = values.reshape(math.prod(shape), *values.shape[len(shape) :])
        check_finite(flat, "values", nodes, names, where)
        wraps = tuple(periodic or (False,) * len(nodes))
        distinct, entries = _distinct(flat)
        joined = _joined(distinct, wraps, names, where)
        columns = joined.reshape(len(joined), -1)
        same = bool((columns == columns[:, :1]).all())
        spline = _interpolant(nodes, joined, degree, wraps)
        return cls(shape, tuple(nodes), degree, wraps, spline, entries, same)

    def __call__(self, positions: FloatArray) -> FloatArray:
        """Values (*shape, points)."""
        axes, points = positions.shape
        places = self._wrapped(positions).T
        found: dict[tuple[int, ...], FloatArray] = {}
        values = np.empty((len(self.entries), axes**self.order, points))
        for number, along in enumerate(itertools.product(range(axes), repeat=self.order)):
            orders = tuple(along.count(axis) for axis in range(axes))  # they may be taken in any order
            if orders not in found:
                found[orders] = self._partial(places, orders)
            values[:, number] = found[orders][list(self.entries)]
        return values.reshape(*self.shape, points)

    def derivative(self) -> SplineField:
        """The spline's own partial derivatives."""
        return replace(self, shape=(*self.shape, len(self.nodes)), order=self.order + 1)

    def at(self, time: float) -> SplineField:
        """The field itself: it does not change."""
        return self

    def _partial(self, places: FloatArray, orders: tuple[int, ...]) -> FloatArray:
        """A partial derivative of the distinct entries, (distinct, points), at places (points, axes)."""
        distinct = self.spline.c.shape[-1]
        if max(orders) > self.degree or (self.is_constant and any(orders)):
            return np.zeros((distinct, len(places)))
        if self.is_constant:  # at any distance: the end polynomials would magnify rounding
            return np.repeat(self.spline.c.reshape(-1, distinct)[:1].T, len(places), axis=1)
        return np.asarray(self.spline(places, nu=orders)).T

    def _wrapped(self, positions: FloatArray) -> FloatArray:
        """Positions (axes, points), inside the period of every periodic axis."""
        if not any(self.periodic):
            return positions
        inside = np.array(positions, dtype=np.float64)
        for row, along, wraps in zip(inside, self.nodes, self.periodic, strict=True):
            if wraps:
                row[:] = along[0] + np.mod(row - along[0], along[-1] - along[0])
        return inside


def lattice(axes: Sequence[FloatArray]) -> FloatArray:
    """The positions (axes, points) of all combinations of nodes, the last axis fastest."""
    return np.stack([box.ravel() for box in np.meshgrid(*axes, indexing="ij")])


def nodes_of(grid: Grid) -> tuple[FloatArray, ...]:
    """Nodes that cover a grid, for each axis: cell centres and finite walls, so that no edge extrapolates.

    Those of a periodic axis are the centres and the first one again, a period on; `through` must be told so. On an
    infinite axis, whose last centres are far apart, there are more in between, up to the last centre; and so on an axis
    of few cells, so that there are enough for every degree.
    """
    nodes = []
    for axis in grid.axes:
        centres = axis.centres
        if axis.periodic:
            along = np.append(centres, centres[0] + (axis.upper - axis.lower))
        else:
            along = np.concatenate([[axis.lower], centres, [axis.upper]])
            along = along[np.isfinite(along)]
        if any(axis.infinite):
            along = _filled(along, axis)
        while along.size <= max(DEGREES):
            along = np.insert(along, np.arange(1, along.size), 0.5 * (along[1:] + along[:-1]))
        nodes.append(along)
    return tuple(nodes)


def _filled(along: FloatArray, axis: Axis) -> FloatArray:
    """Nodes of an infinite axis with long intervals divided: a polynomial over a few of them then follows a tail."""
    finite = [end for end in (axis.lower, axis.upper) if math.isfinite(end)]
    centre = axis.centre if axis.centre is not None else finite[0] if finite else 0.0
    distances = np.abs(along - centre)
    longest = LONGEST_STEP * ((axis.scale or 0.0) + np.minimum(distances[:-1], distances[1:]))
    counts = np.ceil(np.diff(along) / longest).astype(int)
    intervals = zip(itertools.pairwise(along), counts, strict=True)
    starts = [np.linspace(lower, upper, count, endpoint=False) for (lower, upper), count in intervals]
    return np.concatenate([*starts, along[-1:]])


def check_degree(degree: int, where: str) -> None:
    """Raise CaseError unless there is a spline of this degree."""
    if degree not in DEGREES:
        required = f"A spline has the degree {' or '.join(str(known) for known in DEGREES)}"
        raise CaseError(where, f"degree = {degree}", required, f"Try degree = {DEFAULT_DEGREE}")


def check_nodes(nodes: FloatArray, name: str, degree: int, where: str, *, falling: bool = False) -> None:
    """Raise CaseError unless the nodes of an axis are finite, in order, and enough for the degree.

    falling: whether they may also decrease.
    """
    if not np.isfinite(nodes).all():
        first = int(np.argmin(np.isfinite(nodes)))
        found = f"node {first} of {name} is {nodes[first]:g}"
        raise CaseError(where, found, "Nodes are finite numbers", f"Correct {name}")
    back = falling and nodes.size > 1 and nodes[-1] < nodes[0]
    forward = np.diff(nodes) * (-1.0 if back else 1.0) > 0.0
    if not forward.all():
        first = int(np.argmin(forward))
        word = "repeats" if nodes[first] == nodes[first + 1] else "goes back to"
        found = f"node {first + 1} of {name} {word} {nodes[first + 1]:g}, after {nodes[first]:g}"
        required = f"The nodes of {name} must {'decrease' if back else 'increase'} throughout"
        raise CaseError(where, found, required, f"Sort {name}, and the values with it")
    if nodes.size <= degree:
        found = f"{name} has {nodes.size} node{'s' * (nodes.size != 1)}"
        required = f"A {DEGREES[degree]} spline needs at least {degree + 1} along every axis"
        smaller = [known for known in DEGREES if known < nodes.size]
        raise CaseError(where, found, required, f"Take more{f', or degree = {max(smaller)}' if smaller else ''}")


def check_finite(values: FloatArray, words: str, nodes: Sequence[FloatArray], names: Sequence[str], where: str) -> None:
    """Raise CaseError unless values (..., *lengths) are finite at all nodes; words: what they are called."""
    lengths = tuple(along.size for along in nodes)
    spots: BoolArray = np.logical_or.reduce(~np.isfinite(values.reshape(-1, *lengths)), axis=0)
    if spots.any():
        found = f"{spots.sum()} of {spots.size} {words} are not finite, the first at {first_spot(spots, nodes, names)}"
        remedy = "Compute the rest, or keep a smaller box without them"
        raise CaseError(where, found, "A spline needs a finite number at every node", remedy)


def first_spot(spots: BoolArray, nodes: Sequence[FloatArray], names: Sequence[str]) -> str:
    """Where the first True of a box (*lengths) is, in words: 'x = -1, y = 0.5'."""
    index = np.unravel_index(int(np.argmax(spots)), spots.shape)
    return ", ".join(f"{name} = {along[i]:.6g}" for name, along, i in zip(names, nodes, index, strict=True))


def _distinct(flat: FloatArray) -> tuple[FloatArray, tuple[int, ...]]:
    """Entries (entries, *lengths) without repetitions, and for each which of them it is."""
    kept: list[int] = []
    entries = []
    for number, values in enumerate(flat):
        twins = [place for place, other in enumerate(kept) if np.array_equal(flat[other], values)]
        entries.append(twins[0] if twins else len(kept))
        kept += [] if twins else [number]
    return flat[kept], tuple(entries)


def _joined(flat: FloatArray, periodic: Sequence[bool], names: Sequence[str], where: str) -> FloatArray:
    """The values, those at the end of each period made those at its start."""
    joined = np.array(flat, dtype=np.float64)
    for number, (wraps, name) in enumerate(zip(periodic, names, strict=True), start=1):
        if wraps:
            along = np.moveaxis(joined, number, 0)
            gap = float(np.abs(along[-1] - along[0]).max())
            if gap > SAME * np.abs(along).max():
                required = "They are the same place where the axis is periodic"
                raise CaseError(where, f"values at the two ends of {name} differ by up to {gap:.3g}", required, "")
            along[-1] = along[0]
    return joined


def _interpolant(nodes: Sequence[FloatArray], flat: FloatArray, degree: int, periodic: Sequence[bool]) -> NdBSpline:
    """The tensor-product spline: one interpolation along every axis."""
    coefficients, knots = np.moveaxis(flat, 0, -1), []
    for axis, (along, wraps) in enumerate(zip(nodes, periodic, strict=True)):
        values = np.moveaxis(coefficients, axis, 0)
        spline = make_interp_spline(along, values, k=degree, bc_type="periodic" if wraps else None)
        coefficients = np.moveaxis(spline.c, 0, axis)
        knots.append(spline.t)
    return NdBSpline(tuple(knots), np.ascontiguousarray(coefficients), degree, extrapolate=True)
