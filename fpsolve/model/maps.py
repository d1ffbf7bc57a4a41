"""Maps: where along an axis the cells lie, so that they can be fine where it matters and reach to infinity.

A map takes the share u of the cells that lie below a place, 0 at the lower end and 1 at the upper, to its position
x(u). It is smooth, so that a scheme of second order on equal cells stays one, and knows nothing of how many cells
there are, so that grids of n, n/2 and n/4 cells follow the same map.

    even         x = lower + u (upper - lower)
    stretched    x = centre + scale sinh(w)              finite: even near the centre, in proportion to |x| beyond
    unbounded    x = centre + scale w / (1 - w**2)       w = 1 is infinity, and powers of 1/x are powers of 1 - w
                 w linear in u between its values at the ends
    refined      any of these, with more cells around some places: du/dx grows as 1/distance towards them
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
from scipy.optimize import brentq
from scipy.special import ellipkinc

from fpsolve.errors import CaseError

FloatArray: TypeAlias = NDArray[np.float64]

# The table from which Newton's method starts has a node for every such step of asinh(distance / width), so that the
# density changes by 6 % between two. Linear interpolation is then 5e-4 off, and Newton's third step below rounding.
STEP_OF_TABLE, NEWTON_STEPS = 1.0 / 16.0, 3
# Rounding of a position may be this share of a width: a few thousand floating-point numbers lie within one.
FINEST_WIDTH = 1e-12


@final
@dataclass(frozen=True, slots=True)
class Refinement:
    """A place around which the cells of an axis are finer, in proportion to the distance from it.

    The density of cells du/dx is multiplied by

        1 + (by - 1) / sqrt(1 + ((x - at) / width)**2)

    and then scaled to the same number of cells as without. They are equal within one width (of a layer, well or kink)
    of `at`, and beyond grow in proportion to the distance, up to by widths away. As every factor of ten in distance
    takes the same number of cells, one entry reaches any depth. `by` compares `at` with places so far away that the
    refinement is not felt; compared with the axis without it, cells at `at` are by / (1 + (by - 1) m) times as fine, m
    the mean of the inverse root over the axis.

    Without a width it is such that m = 1 / (by + 1). Of an entry alone, that makes cells (by + 1) / 2 times as fine at
    `at` as without it, and nowhere twice as wide. A width that is given should hold some of the cells that it gets: of
    a peak between two cell centres the grid would feel nothing.

    at, width: [length]; by: at least 1. On a stretched axis the distance is counted in cells, and `width` is what it is
    at `at`. On a periodic axis, of period P, (x - at) / width is sin(pi (x - at) / P) P / (pi width).
    """

    at: float
    by: float
    width: float | None = None

    def case_text(self, precision: float) -> str:
        """The entry of a case file, `at` to a precision [length] and the others to two digits."""
        at = round(self.at, max(0, math.ceil(-math.log10(precision)))) + 0.0
        width = "" if self.width is None else f", width = {self.width:.2g}"
        return f"{{ at = {at:.15g}, by = {float(f'{self.by:.2g}'):g}{width} }}"


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
@dataclass(frozen=True, slots=True)
class Peak:
    """A peak of the density of cells, 1 / sqrt(1 + z**2), over the share t of the base.

    z = (t - place) / width; with `around`, of period 1, z = sin(pi (t - place)) / (pi width).
    """

    place: float
    width: float
    around: bool = False

    def density(self, share: FloatArray) -> FloatArray:
        """1 / sqrt(1 + z**2); 1 at the place."""
        away = share - self.place
        return np.asarray(
            1.0 / np.hypot(1.0, np.sin(np.pi * away) / (np.pi * self.width) if self.around else away / self.width)
        )

    def integral(self, share: FloatArray) -> FloatArray:
        """The integral of the density from the place: width asinh(z).

        Around it is the elliptic integral F(pi (t - place) | m) / pi, m = -1 / (pi width)**2, which grows by the same
        over every period (Abramowitz & Stegun 1964, 17.2.7).
        """
        away = share - self.place
        if not self.around:
            return np.asarray(self.width * np.arcsinh(away / self.width))
        return np.asarray(ellipkinc(np.pi * away, -1.0 / (np.pi * self.width) ** 2) / np.pi)

    @property
    def mean(self) -> float:
        """The mean of the density over the axis."""
        ends = self.integral(np.array([0.0, 1.0]))
        return float(ends[1] - ends[0])

    @property
    def nodes(self) -> FloatArray:
        """Shares in [0, 1], a step of the table apart."""
        ends = np.array([-0.5, 0.5]) if self.around else np.array([0.0, 1.0]) - self.place
        first, last = np.arcsinh(ends / self.width)
        steps = math.ceil((last - first) / STEP_OF_TABLE)
        found = self.place + self.width * np.sinh(np.linspace(first, last, steps + 1))
        return np.asarray(found % 1.0 if self.around else np.clip(found, 0.0, 1.0))


@final
@dataclass(frozen=True)
class Refined(AbstractMap):
    """Another map with more cells around some places.

    With t the share of the base, du/dt is in proportion to 1 + sum of excess times peak, whose integral is closed; t(u)
    follows by Newton's method. Where the axis is periodic, so are the peaks.
    """

    base: AbstractMap
    peaks: tuple[Peak, ...]
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
    def _total(self) -> float:
        return float(self._cumulative(np.array(1.0)))

    @cached_property
    def _table(self) -> tuple[FloatArray, FloatArray]:
        """Shares, and those of the base, from which Newton's method starts."""
        found = np.unique(np.concatenate([np.array([0.0, 1.0]), *(peak.nodes for peak in self.peaks)]))
        return self._cumulative(found) / self._total, found

    def _base_share(self, share: FloatArray) -> FloatArray:
        """t(u) for u in [0, 1]; Newton's method, held between two nodes of the table."""
        shares, nodes = self._table
        found = np.interp(share, shares, nodes)
        after = np.clip(np.searchsorted(shares, share), 1, nodes.size - 1)
        for _ in range(NEWTON_STEPS):
            excess = self._cumulative(found) - share * self._total
            found = np.clip(found - excess / self._density(found), nodes[after - 1], nodes[after])
        return np.where(share >= 1.0, 1.0, np.where(share <= 0.0, 0.0, found))

    def _density(self, base_share: FloatArray) -> FloatArray:
        """du/dt times the total."""
        density = np.ones_like(base_share)
        for peak, excess in zip(self.peaks, self.excesses, strict=True):
            density += excess * peak.density(base_share)
        return density

    def _cumulative(self, base_share: FloatArray) -> FloatArray:
        """The integral of the density from 0."""
        integral = np.array(base_share)
        for peak, excess in zip(self.peaks, self.excesses, strict=True):
            integral += excess * (peak.integral(base_share) - peak.integral(np.array(0.0)))
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
    even = base or Even(*bounds)
    peaks = tuple(_peak(f"{where}.refine.{number}", one, even, bounds, periodic) for number, one in enumerate(refine))
    return Refined(even, peaks, tuple(one.by - 1.0 for one in refine), bounds[1] - bounds[0] if periodic else None)


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


def _peak(where: str, refinement: Refinement, base: AbstractMap, bounds: tuple[float, float], periodic: bool) -> Peak:
    """The peak that a refinement adds to the density of cells."""
    _check(where, refinement, bounds)
    at = np.array(refinement.at, dtype=np.float64)
    place, stretch = float(base.share(at)), float(base.stretch(base.share(at)))
    given = refinement.width
    share = _default_width(place, refinement.by, periodic) if given is None else given / stretch
    finest = FINEST_WIDTH * max(stretch, abs(refinement.at))
    if share * stretch < finest:
        found = f"it makes cells finer over a width of {share * stretch:.2g}"
        required = f"Positions there are told apart over widths of at least {finest:.2g}"
        key, remedy = ("by", "Use fewer") if given is None else ("width", "Use a wider one")
        raise CaseError(f"{where}.{key}", found, required, remedy)
    return Peak(place, share, periodic)


def _default_width(place: float, by: float, around: bool) -> float:
    """The width, in shares, of a peak whose mean is 1 / (by + 1).

    The mean is width (asinh((1 - place) / width) + asinh(place / width)), or somewhat more around: it rises from 0 to
    1, is above 0.88 for 1, and below 1 / (by + 1) for a thousandth of that unless by is beyond 1e200.
    """
    wanted = 1.0 / (by + 1.0)
    lowest = math.log(1e-3 * wanted)
    return math.exp(brentq(lambda log: Peak(place, math.exp(log), around).mean - wanted, lowest, 0.0, xtol=1e-14))


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
        raise CaseError(f"{where}.width", f"it is {width:g}", required, "Leave it out for one that suits by")
