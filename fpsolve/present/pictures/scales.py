"""Colour scales that hold for any field: zero, constant, or over hundreds of decades."""

from __future__ import annotations

import math
from typing import final

import numpy as np
from matplotlib.colors import LogNorm, Normalize, PowerNorm

from fpsolve.model.grid import FloatArray

WIDE = 2.0  # decades from which a scale is logarithmic
LARGEST_POWER = 300.0  # of ten: beyond, numbers may not be doubles
TINIEST = 1e-280  # smaller values are drawn as zero: the scales of matplotlib underflow


@final
class Powers(Normalize):
    """A logarithmic scale for decimal logarithms: of numbers that may exceed what doubles hold."""


def powers_scale(logarithms: FloatArray, decades: float, lowest: float = 0.0) -> Powers | None:
    """A scale of at most so many decades for decimal logarithms; None where a linear one for the numbers is better.

    lowest: the share of the numbers that may lie below the scale. Infinite ones are left out.
    """
    finite = logarithms[np.isfinite(logarithms)]
    if finite.size == 0:
        return None
    top = float(finite.max())
    bottom = float(np.quantile(finite, lowest, method="lower"))
    if top - bottom < WIDE and top < LARGEST_POWER:
        return None
    return Powers(min(max(bottom, top - decades), top - WIDE), top)


def two_sided_scale(values: FloatArray) -> Normalize:
    """As far below zero as above it."""
    peak = float(np.abs(values).max(initial=0.0))
    return Normalize(-peak, peak) if peak > TINIEST else Normalize(-1.0, 1.0)


def linear_scale(peak: float) -> Normalize:
    """From zero to a peak."""
    return Normalize(0.0, peak if peak > TINIEST else 1.0)


def root_scale(peak: float) -> Normalize:
    """Colours by the square root: a hundredth of the peak still shows."""
    return PowerNorm(0.5, 0.0, peak if peak > TINIEST else 1.0)


def decade_scale(values: FloatArray, decades: float, lowest: float = 0.0) -> Normalize:
    """A logarithmic scale of at most so many decades where positive values span WIDE ones, else a linear one.

    lowest: the share of the positive values that may lie below the scale.
    """
    positive = values[values > TINIEST]
    if positive.size == 0:
        return linear_scale(0.0)
    top = float(positive.max())
    bottom = float(np.quantile(positive, lowest, method="lower") if lowest > 0.0 else positive.min())
    if math.log10(top) - math.log10(bottom) < WIDE:
        return linear_scale(top)
    return LogNorm(max(bottom, top * 10.0**-decades), top)


def is_logarithmic(norm: object) -> bool:
    """Whether colours stand for powers of ten."""
    return isinstance(norm, LogNorm | Powers)
