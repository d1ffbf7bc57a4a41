"""One number from several grids: the limit of ever finer grids, and how far the number may be from it.

The error of an escape time falls as the square of the cell size in the end, but not from the beginning. Three things
overlap, and each has left its mark on the rule below:

- the midpoint quadrature of the Gaussian peaks at wells and saddles: relative error 2 exp(-2 (pi width)**2), width in
  cells; huge below half a cell, gone beyond one and a half (Trefethen & Weideman 2014, eq. 3.3);
- a smooth part, a h**2 + b h**4, in which a may be tiny (one dimension and constant noise: order 4) or of the sign
  opposite to b, so that it passes through zero;
- a part of order 2 that jumps from grid to grid with the places of the start and of the target's surface between
  cell centres.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

# The factors below were measured on 1400 one-dimensional problems (constant, place-dependent and Hessian noise, four
# shapes of wells, barrier/noise 2.5 to 100, 30 to 400 cells, starts and targets on and off the cells) and 268 of two
# dimensions (turned and bent valleys; constant, loud, tensor and Hessian noise, mobilities, circulating drifts; 30 to
# 128 cells per axis): the error bar held the truth in 0.95 and 0.96 of them and was at most ten times the error in 0.77
# of both. Edges that know how the noise varies leave less error: on 1200 problems of the first kind 0.97 and 0.66 then.
AGREEMENT, CHECK, TRUST = 0.4, 0.8, 0.01
SHARE_SMOOTH, BAR_SMOOTH = 0.25, 0.8
SHARE_COARSE, BAR_COARSE, COARSEST = 0.15, 0.8, 0.01
# Changes above WILD (of a logarithm: by a factor e) that grow from grid to grid tell of grids far too coarse. Measured
# on the well of tests/test_error_bars.py that circulates: up to three times the last change is then still missing.
WILD, MOST_GROWTH = 1.0, 4.0
# Grids of fewer cells across the narrowest peak than UNSEEN follow no law yet. Where the finest has fewer than RAGGED
# and the levels go up and down by more than RAGGED_SPREAD, as in wells that circulate, it may be off by as much.
UNSEEN, RAGGED, RAGGED_SPREAD = 0.6, 1.0, 2.0
# Changes above STUCK (of a logarithm) on grids that all draw the peaks tell of no limit where the later is more than
# this share of the earlier: all of it, or less where the domain itself grows with the grid (an infinite axis).
STUCK, STUCK_SHARE, STUCK_SHARE_INFINITE = 0.1, 1.0, 0.7
# Above this share of a change between grids the peaks' quadrature may account for it.
VISIBLE = 0.3
# Orders that count as 2.
CLEAN_ORDERS = (1.5, 2.5)
# Rounding of a sum of exponents of that size, and of the elimination.
ROUNDING = 64.0 * 2.0**-52
LARGEST_LOGARITHM = math.log(1.7e308)

# The grids that `limit_of` wants, as shares of the cells of the finest along every axis. That of 3/8 costs a twentieth
# of the finest in two dimensions, and tells a law from a coincidence.
SHARES_OF_CELLS = (0.25, 0.375, 0.5, 1.0)


@final
@dataclass(frozen=True, slots=True)
class Limit:
    """A number on several grids, and its limit.

    levels: the number, coarse to fine; extrapolated: the limit; error: of that, absolute, None where it is not known;
    order: seen on the grids of n/4, n/2 and n cells, None where the changes do not shrink with one sign;
    clean: whether the error falls as h**2; reason: why not, as a clause.
    """

    levels: tuple[float, ...]
    extrapolated: float
    error: float | None
    order: float | None
    clean: bool
    reason: str | None

    @classmethod
    def unknown(cls, value: float, reason: str) -> Limit:
        """A number on one grid."""
        return cls((value,), value, None, None, False, reason)

    @property
    def value(self) -> float:
        """The number on the finest grid."""
        return self.levels[-1]

    def without_limit(self, reason: str) -> Limit:
        """The same levels where no limit is in sight."""
        return Limit(self.levels, self.value, None, None, False, reason)


@final
@dataclass(frozen=True, slots=True)
class Estimate:
    """A positive number of any size on several grids, and its limit: `Limit` of its natural logarithm.

    log_value: on the finest grid; log_extrapolated: the limit; error: of the extrapolated number (not of its
    logarithm), relative, None where it is not known; it may exceed one. levels: the logarithms, coarse to fine.
    """

    log_value: float
    log_extrapolated: float
    error: float | None
    order: float | None
    levels: tuple[float, ...]
    clean: bool
    reason: str | None

    @classmethod
    def of(cls, logarithm: Limit) -> Estimate:
        """From the limit of the logarithm; an error d of that is a relative one of exp(d) - 1 at most."""
        error = None if logarithm.error is None else math.expm1(min(logarithm.error, LARGEST_LOGARITHM))
        return cls(
            logarithm.value,
            logarithm.extrapolated,
            error,
            logarithm.order,
            logarithm.levels,
            logarithm.clean,
            logarithm.reason,
        )

    @property
    def value(self) -> float | None:
        """On the finest grid; None where it exceeds the floating-point numbers."""
        return _exp(self.log_value)

    @property
    def extrapolated(self) -> float | None:
        """The limit; None where it exceeds the floating-point numbers."""
        return _exp(self.log_extrapolated)

    @property
    def log10(self) -> float:
        """Decimal logarithm of the limit."""
        return self.log_extrapolated / math.log(10.0)


def limit_of(levels: Sequence[float | None], spacings: Sequence[float], across: float, size: float = 1.0) -> Limit:
    """The limit of a number from the grids of n/4, 3n/8, n/2 and n cells, with its error.

    Where the peaks are resolved on all of them, Richardson's extrapolation of the two finest,

        fine + (fine - half) / ((h_half / h_fine)**2 - 1),

    and the error is the largest disagreement with the same from coarser pairs, times AGREEMENT or CHECK: where a
    term of order 4 is left, these are 6 and 5 times the error; where the convergence jumps, twice. It is at least
    TRUST times the last change, whatever agrees by chance.
    Where they are resolved on the finer two only, these two cannot tell order 2 (a third of the change between them
    still to come) from order 4 (a fifteenth): a middle one is taken, with an error that covers both. Where not even
    there, that change belongs to the coarser grid, and less of it is taken. And where large changes grow, as in deep
    wells left against a circulating drift, more of them may follow: the error grows with them.

    Parameters
    ----------
    levels : coarse to fine, four of them; None for either of the first two where there is no answer.
    spacings : cell sizes, in units of the finest, (4, 8/3, 2, 1) or nearly so.
    across : cells across the narrowest well or saddle of the finest grid; infinite where there is none.
    size : of the number, that a relative error refers to: 1 for a logarithm.
    """
    quarter, check, half, fine = levels
    assert half is not None
    assert fine is not None
    first, last = None if quarter is None else half - quarter, fine - half
    growth = 1.0 if not first or abs(last) < WILD * size else min(max(abs(last / first), 1.0), MOST_GROWTH)
    rounding = ROUNDING * (size + max(abs(level) for level in levels if level is not None))
    if growth > 1.0:
        extrapolated, error = fine + SHARE_SMOOTH * last, BAR_SMOOTH * growth * abs(last)
    elif abs(last) * VISIBLE <= peak_error(across / spacings[2]) * size:
        extrapolated = fine + SHARE_COARSE * last
        error = BAR_COARSE * abs(last) + COARSEST * abs(first or 0.0)
    elif (
        quarter is None
        or check is None
        or across / spacings[0] < UNSEEN
        or abs(half - quarter) * VISIBLE <= peak_error(across / spacings[0]) * size
    ):
        extrapolated, error = fine + SHARE_SMOOTH * last, BAR_SMOOTH * abs(last)
    else:
        extrapolated = _richardson(half, fine, spacings[2] / spacings[3])
        earlier = _richardson(quarter, half, spacings[0] / spacings[2])
        beside = _richardson(check, half, spacings[1] / spacings[2])
        error = max(AGREEMENT * abs(extrapolated - earlier), CHECK * abs(extrapolated - beside), TRUST * abs(last))
    known = tuple(level for level in levels if level is not None)
    spread = max(known) - min(known)
    if across < RAGGED and spread > RAGGED_SPREAD * size and not _monotonic(known):
        error = max(error, BAR_COARSE * spread)
    order = None if first is None else _order(first, last, spacings)
    reason = None if abs(last) <= rounding else _reason(first, last, order)
    return Limit(known, extrapolated, error + rounding, order, reason is None, reason)


def _monotonic(levels: Sequence[float]) -> bool:
    return list(levels) in (sorted(levels), sorted(levels, reverse=True))


def is_stuck(
    levels: Sequence[float | None], spacings: Sequence[float], across: float, size: float = 1.0, *, infinite: bool
) -> bool:
    """Whether large changes from grid to grid go on though all grids draw the peaks; parameters as of `limit_of`.

    infinite: whether an axis is, so that finer grids reach farther out too.
    """
    quarter, _, half, fine = levels
    if quarter is None or half is None or fine is None:
        return False
    first, last = half - quarter, fine - half
    if abs(last) * VISIBLE <= peak_error(across / spacings[0]) * size:
        return False
    share = STUCK_SHARE_INFINITE if infinite else STUCK_SHARE
    return first * last > 0.0 and abs(last) > max(STUCK * size, share * abs(first))


def peak_error(width: float) -> float:
    """Relative error of the midpoint rule for a Gaussian peak of a standard deviation of so many cells."""
    return 2.0 * math.exp(-2.0 * (math.pi * min(width, 10.0)) ** 2)


def _richardson(coarse: float, fine: float, ratio: float) -> float:
    return fine + (fine - coarse) / (ratio**2 - 1.0)


def _order(first: float, last: float, spacings: Sequence[float]) -> float | None:
    """Observed order from two successive changes."""
    if first * last <= 0.0 or abs(first) <= abs(last):
        return None
    return math.log(first / last) / math.log(math.sqrt(spacings[0] / spacings[3]))


def _reason(first: float | None, last: float, order: float | None) -> str | None:
    """Why the convergence is not clean, as a clause; None where it is."""
    if first is None:
        return "the grid of a quarter of the cells gives no answer"
    if order is None:
        if first * last <= 0.0:
            return "the changes from grid to grid differ in sign"
        return f"the change from grid to grid does not shrink ({abs(first):.2g}, then {abs(last):.2g})"
    if order < CLEAN_ORDERS[0]:
        return f"the observed order is {order:.1f}, not yet 2"
    if order > CLEAN_ORDERS[1]:
        return f"the observed order is {order:.1f}; the error may still come to fall more slowly, as order 2"
    return None


def _exp(logarithm: float) -> float | None:
    return math.exp(logarithm) if logarithm < LARGEST_LOGARITHM else None
