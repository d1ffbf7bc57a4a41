"""Maps: where along an axis the cells lie, so that they can be fine where it matters and reach to infinity.

A map takes the share u of the cells that lie below a place, 0 at the lower end and 1 at the upper, to its position
x(u). It is smooth, so that a scheme of second order on equal cells stays one, and knows nothing of how many cells
there are, so that grids of n, n/2 and n/4 cells follow the same map.

    even         x = lower + u (upper - lower)
    stretched    x = centre + scale sinh(w)              finite: even near the centre, in proportion to |x| beyond
    unbounded    x = centre + scale w / (1 - w**2)       w = 1 is infinity, and powers of 1/x are powers of 1 - w
                 w linear in u between its values at the ends
    refined      any of these, with du/dx multiplied around some places
"""

from __future__ import annotations

import abc
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from fpsolve.errors import CaseError

FloatArray: TypeAlias = NDArray[np.float64]

# Width of a refinement that gives none, as a share of the cells.
DEFAULT_WIDTH = 0.1
# The bump sech(z)**2 is below rounding beyond this; periodic images further away are left out.
END_OF_BUMP = 20.0
# Nodes of the table from which Newton's method starts: over the whole axis, and over each bump, out to z = 10. They
# are so close that the third step is below rounding.
NODES_OF_AXIS, NODES_OF_BUMP = 1025, 1281
NEWTON_STEPS = 3


@final
@dataclass(frozen=True, slots=True)
class Refinement:
    """A place around which the cells of an axis are finer: du/dx is multiplied by 1 + (by - 1) sech((x - at)/width)**2.

    at, width: [length]; by: at least 1. At `at` the cells are `by` times finer than away from it; half of that is left
    0.9 widths away. Without a width it is a tenth of the cells that lie around `at` before. (On a stretched axis the
    distance is counted in cells, and `width` is what it is at `at`.)
    """

    at: float
    by: float
    width: float | None = None


class AbstractMap(abc.ABC):
    """A smooth increasing map of the share of the cells, in [0, 1], to the position [length]."""

    @abc.abstractmethod
    def position(self, share: FloatArray) -> FloatArray:
        """Position of a share, of the same shape; the ends exactly, infinite ones too."""

    @abc.abstractmethod
    def share(self, position: FloatArray) -> FloatArray:
        """Share of a position: the inverse of `position`, to rounding."""

    @abc.abstractmethod
    def stretch(self, share: FloatArray) -> FloatArray:
        """Derivative of the position [length], positive."""


@final
@dataclass(frozen=True)
class Even(AbstractMap):
    """Equal cells."""

    lower: float
    upper: float

    def position(self, share: FloatArray) -> FloatArray:
        """Linear in the share."""
        return self.lower + share * (self.upper - self.lower)

    def share(self, position: FloatArray) -> FloatArray:
        """Linear in the position."""
        return (position - self.lower) / (self.upper - self.lower)

    def stretch(self, share: FloatArray) -> FloatArray:
        """The length of the axis."""
        return np.full_like(share, self.upper - self.lower, dtype=np.float64)


@final
@dataclass(frozen=True)
class Stretched(AbstractMap):
    """x = centre + scale g(w) with w linear in the share, between two ends of which either may be infinite.

    g = w / (1 - w**2) where one is, else sinh(w). Cells are even where |x - centre| < scale.
    """

    lower: float
    upper: float
    centre: float
    scale: float

    @property
    def bounded(self) -> bool:
        """Whether both ends are finite."""
        return math.isfinite(self.lower) and math.isfinite(self.upper)

    @cached_property
    def ends(self) -> tuple[float, float]:
        """The values of w at the two ends."""
        first, last = (float(self._inner(np.array(end))) for end in (self.lower, self.upper))
        return first, last

    def position(self, share: FloatArray) -> FloatArray:
        """Centre + scale g(w)."""
        w = self._linear(share)
        with np.errstate(divide="ignore"):  # infinite at infinity
            g = np.sinh(w) if self.bounded else w / ((1.0 - w) * (1.0 + w))
        inside = np.where(share <= 0.0, self.lower, self.centre + self.scale * g)
        return np.where(share >= 1.0, self.upper, inside)

    def share(self, position: FloatArray) -> FloatArray:
        """The closed-form inverse."""
        first, last = self.ends
        return np.asarray((self._inner(position) - first) / (last - first))

    def stretch(self, share: FloatArray) -> FloatArray:
        """Scale g'(w) dw/du."""
        w, (first, last) = self._linear(share), self.ends
        with np.errstate(divide="ignore"):  # infinite at infinity
            slope = np.cosh(w) if self.bounded else (1.0 + w * w) / ((1.0 - w) * (1.0 + w)) ** 2
        return np.asarray(self.scale * (last - first) * slope)

    def _linear(self, share: FloatArray) -> FloatArray:
        first, last = self.ends
        return np.asarray(first + np.clip(share, 0.0, 1.0) * (last - first))

    def _inner(self, position: FloatArray) -> FloatArray:
        """The inverse of g."""
        y = np.clip((position - self.centre) / self.scale, -1e300, 1e300)
        return np.asarray(np.arcsinh(y) if self.bounded else 2.0 * y / (1.0 + np.hypot(1.0, 2.0 * y)))


@final
@dataclass(frozen=True)
class Refined(AbstractMap):
    """Another map with more cells around some places.

    With t the share of the base, du/dt is in proportion to 1 + sum of excess sech((t - place)/width)**2, whose integral
    is a sum of tanh; t(u) follows by Newton's method. Where the axis is periodic, so are the bumps.
    """

    base: AbstractMap
    places: tuple[float, ...]  # in shares of the base, as are
    widths: tuple[float, ...]
    excesses: tuple[float, ...]
    period: float | None = None  # [length]

    def position(self, share: FloatArray) -> FloatArray:
        """The base's position of t(u)."""
        if self.period is None:
            return self.base.position(self._base_share(np.clip(share, 0.0, 1.0)))
        turns = np.floor(share)
        return self.base.position(self._base_share(share - turns)) + turns * self.period

    def share(self, position: FloatArray) -> FloatArray:
        """The closed form u(t)."""
        share = self.base.share(position)
        if self.period is None:
            return self._cumulative(np.clip(share, 0.0, 1.0)) / self._total
        turns = np.floor(share)
        return self._cumulative(share - turns) / self._total + turns

    def stretch(self, share: FloatArray) -> FloatArray:
        """The base's, divided by du/dt."""
        inside = np.clip(share, 0.0, 1.0) if self.period is None else share - np.floor(share)
        base_share = self._base_share(inside)
        return self.base.stretch(base_share) * (self._total / self._density(base_share))

    @cached_property
    def _bumps(self) -> tuple[tuple[float, float, float], ...]:
        """(place, width, excess) of every bump, the periodic images of a bump included."""
        bumps = []
        for place, width, excess in zip(self.places, self.widths, self.excesses, strict=True):
            reach = 0 if self.period is None else math.ceil(END_OF_BUMP * width) + 1
            bumps += [(place + turn, width, excess) for turn in range(-reach, reach + 1)]
        return tuple(bumps)

    @cached_property
    def _total(self) -> float:
        return float(self._cumulative(np.array(1.0)))

    @cached_property
    def _table(self) -> tuple[FloatArray, FloatArray]:
        """Shares, and those of the base, from which Newton's method starts."""
        around = np.linspace(-10.0, 10.0, NODES_OF_BUMP)
        nodes = [np.linspace(0.0, 1.0, NODES_OF_AXIS)]
        nodes += [np.clip(place + width * around, 0.0, 1.0) for place, width, _ in self._bumps]
        found = np.unique(np.concatenate(nodes))
        return self._cumulative(found) / self._total, found

    def _base_share(self, share: FloatArray) -> FloatArray:
        """t(u) for u in [0, 1]."""
        found = np.interp(share, *self._table)
        for _ in range(NEWTON_STEPS):
            excess = self._cumulative(found) - share * self._total
            found = np.clip(found - excess / self._density(found), 0.0, 1.0)
        return np.where(share >= 1.0, 1.0, np.where(share <= 0.0, 0.0, found))

    def _density(self, base_share: FloatArray) -> FloatArray:
        """du/dt times the total."""
        density = np.ones_like(base_share)
        for place, width, excess in self._bumps:
            density += excess * (1.0 - np.tanh((base_share - place) / width) ** 2)
        return density

    def _cumulative(self, base_share: FloatArray) -> FloatArray:
        """The integral of the density from 0."""
        integral = np.array(base_share)
        for place, width, excess in self._bumps:
            integral += excess * width * (np.tanh((base_share - place) / width) + math.tanh(place / width))
        return integral


def axis_map(
    where: str,
    bounds: tuple[float, float],
    scale: float | None,
    centre: float | None,
    refine: Sequence[Refinement],
    periodic: bool,
) -> AbstractMap | None:
    """The map that an axis asks for; None where its cells are equal.

    Raises CaseError for values out of range, keys without effect, and what a periodic axis cannot have.
    """
    base = _base(where, bounds, scale, centre, periodic)
    if not refine:
        return base
    length = bounds[1] - bounds[0]
    even = base or Even(*bounds)
    places, widths = [], []
    for number, refinement in enumerate(refine):
        _check(f"{where}.refine.{number}", refinement, bounds)
        place = even.share(np.array(refinement.at, dtype=np.float64))
        share = DEFAULT_WIDTH if refinement.width is None else refinement.width / float(even.stretch(place))
        places.append(float(place))
        widths.append(share)
    excesses = tuple(refinement.by - 1.0 for refinement in refine)
    return Refined(even, tuple(places), tuple(widths), excesses, length if periodic else None)


def _base(
    where: str, bounds: tuple[float, float], scale: float | None, centre: float | None, periodic: bool
) -> Stretched | None:
    lower, upper = bounds
    bounded = math.isfinite(lower) and math.isfinite(upper)
    if scale is None:
        if centre is not None:
            raise CaseError(f"{where}.centre", "it has no effect without scale", "It is where cells are finest", "")
        if not bounded:
            found = f"the axis runs from {lower:g} to {upper:g} and has no scale"
            required = "An infinite axis has most of its cells within one scale of its centre"
            raise CaseError(where, found, required, "Add scale = the width of the densities that you expect")
        return None
    if not (math.isfinite(scale) and scale > 0.0):
        raise CaseError(f"{where}.scale", f"it is {scale:g}", "A scale is a length above 0", "")
    if periodic:
        found = "a periodic axis has the same cells at both ends"
        raise CaseError(f"{where}.scale", found, "A scale makes them grow away from a centre", "Use refine")
    ends = [end for end in bounds if math.isfinite(end)]
    middle = sum(ends) / len(ends) if ends else 0.0
    if centre is not None and not (math.isfinite(centre) and lower <= centre <= upper):
        required = f"It must be a number between {lower:g} and {upper:g}"
        raise CaseError(f"{where}.centre", f"it is {centre:g}", required, "Leave it out for the default")
    return Stretched(lower, upper, middle if centre is None else centre, scale)


def _check(where: str, refinement: Refinement, bounds: tuple[float, float]) -> None:
    at, by, width = refinement.at, refinement.by, refinement.width
    if not (math.isfinite(at) and bounds[0] <= at <= bounds[1]):
        required = f"It must lie on the axis, between {bounds[0]:g} and {bounds[1]:g}"
        raise CaseError(f"{where}.at", f"it is {at:g}", required, "")
    if not (math.isfinite(by) and by >= 1.0):
        raise CaseError(f"{where}.by", f"it is {by:g}", "Cells are made finer by a number of at least 1", "Try by = 4")
    length = bounds[1] - bounds[0]
    if width is not None and not 0.0 < width < length:
        required = "It must be above 0 and below the length of the axis"
        raise CaseError(f"{where}.width", f"it is {width:g}", required, "Leave it out for a tenth of the cells")
