"""Numbers of any range: a double times a power of two, element by element.

Escape times grow as exp(barrier / noise) and the population beside the barrier is smaller than that in the well by
the same factor; beyond a barrier of about 700 thermal energies doubles cannot hold both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from fpsolve.model.grid import FloatArray, IntArray

# Powers of two that a double can be scaled by without losing digits; beyond, it is 0 or infinite.
LARGEST_SHIFT = 2000
NOTHING = -(2**40)  # exponent of zero: below that of any number


@final
@dataclass(frozen=True, slots=True, eq=False)
class Extended:
    """An array of numbers mantissa * 2**exponent; |mantissa| in [1/2, 1), or 0 with the lowest exponent.

    mantissa, exponent: of the same shape. Products, quotients and sums keep the relative accuracy of doubles
    (sums of terms of one sign do; differences cancel as ever).
    """

    mantissa: FloatArray
    exponent: IntArray

    @classmethod
    def of(cls, values: FloatArray | float, exponent: IntArray | int = 0) -> Extended:
        """The numbers values * 2**exponent, normalised. `exponent` is one for all, or one for each."""
        mantissa, own = np.frexp(np.asarray(values, dtype=np.float64))
        total = np.where(mantissa != 0.0, own.astype(np.int64) + exponent, NOTHING)
        return cls(np.asarray(mantissa), np.asarray(total, dtype=np.int64))

    @classmethod
    def exp(cls, logarithm: FloatArray) -> Extended:
        """The exponential of natural logarithms, of any size; exp(-infinity) is 0."""
        power = np.where(np.isfinite(logarithm), np.floor(logarithm / math.log(2.0)), 0.0)
        return cls.of(np.exp(logarithm - power * math.log(2.0)), power.astype(np.int64))

    def __getitem__(self, selection: Any) -> Extended:
        return Extended(np.asarray(self.mantissa[selection]), np.asarray(self.exponent[selection]))

    def __mul__(self, other: Extended | FloatArray | float) -> Extended:
        factor = other if isinstance(other, Extended) else Extended.of(other)
        return Extended.of(self.mantissa * factor.mantissa, self.exponent + factor.exponent)

    def __truediv__(self, other: Extended | FloatArray | float) -> Extended:
        divisor = other if isinstance(other, Extended) else Extended.of(other)
        return Extended.of(self.mantissa / divisor.mantissa, self.exponent - divisor.exponent)

    def share_of(self, total: Extended) -> Extended:
        """The quotient, 0 where the total is 0."""
        return self / Extended(np.where(total.mantissa == 0.0, 0.5, total.mantissa), total.exponent)

    def __add__(self, other: Extended | FloatArray | float) -> Extended:
        term = other if isinstance(other, Extended) else Extended.of(other)
        common = np.maximum(self.exponent, term.exponent)
        both = _shifted(self.mantissa, self.exponent - common) + _shifted(term.mantissa, term.exponent - common)
        return Extended.of(both, common)

    def sum(self) -> Extended:
        """The sum of all elements, of shape ()."""
        largest = self.largest_exponent
        return Extended.of(_shifted(self.mantissa, self.exponent - largest).sum(), largest)

    def collected(self, into: IntArray, size: int) -> Extended:
        """Sums of the elements that share a number from 0 to size - 1, (size,): a bincount at any range."""
        largest = np.full(size, NOTHING, dtype=np.int64)
        np.maximum.at(largest, into, self.exponent)
        terms = _shifted(self.mantissa, self.exponent - largest[into])
        return Extended.of(np.bincount(into, terms, minlength=size).astype(np.float64), largest)

    def narrowed(self, powers: int) -> Extended:
        """The numbers, but 0 for those so many powers of two below the largest."""
        kept = self.exponent >= self.largest_exponent - powers
        return Extended(np.where(kept, self.mantissa, 0.0), np.where(kept, self.exponent, NOTHING))

    @property
    def largest_exponent(self) -> int:
        """The largest exponent of all elements."""
        return int(self.exponent.max(initial=NOTHING))

    def scaled(self, exponent: int) -> FloatArray:
        """The numbers divided by 2**exponent, as doubles: 0 or infinite where they are out of range."""
        return _shifted(self.mantissa, self.exponent - exponent)

    def floats(self) -> FloatArray:
        """The numbers as doubles: 0 or infinite where they are out of range."""
        return self.scaled(0)

    def log(self) -> FloatArray:
        """Natural logarithms; minus infinity where a number is 0."""
        with np.errstate(divide="ignore"):
            return np.where(
                self.mantissa == 0.0, -np.inf, np.log(self.mantissa) + self.exponent.astype(np.float64) * math.log(2.0)
            )


def _shifted(mantissa: FloatArray, shift: IntArray | int) -> FloatArray:
    with np.errstate(over="ignore", under="ignore"):
        return np.ldexp(mantissa, np.clip(shift, -LARGEST_SHIFT, LARGEST_SHIFT).astype(np.int32))
