"""The matrix exponential by sums of products: exp(t Q) P, and what leaves, in one go.

In Chebyshev's polynomials (Tal-Ezer & Kosloff, J. Chem. Phys. 81, 3967, 1984), m = t radius / 2,

    exp(t Q) = sum over k of c_k T_k(1 + 2 Q / radius),   c_k = 2 exp(-m) I_k(m), half of it for k = 0:

about sqrt(4 m ln(1 / error)) products, as long as the eigenvalues are near the real axis, as where probability runs
down a loss; elsewhere the terms grow, which shows. Over the number of hops (Jensen, Skand. Aktuarietidskr. 36, 87,
1953), n = t fastest,

    exp(t Q) = sum over k of p_k (1 + Q / fastest)**k,    p_k = exp(-n) n**k / k!:

n + 9 sqrt(n) products, whatever the drift, and since all terms are >= 0, so is the result.

The integral of P over time, which makes what leaves, is one more component of both, followed at the exits alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
from numba import njit
from scipy import special

from fpsolve.discretise.generator import Generator
from fpsolve.discretise.stencil import BLOCK, Stencil, aligned
from fpsolve.model.grid import FloatArray

ROUNDING = 1e-15  # of a term, times its number
LOOK = 8  # terms from one look at their size to the next; even
LAST = 1e-200  # coefficient: terms may grow that much
MARGIN = 0.5  # of the error allowed, at which a sum stops


@final
@dataclass(frozen=True, slots=True)
class Series:
    """Sums of products with a generator.

    stencil: its products; radius: bound of its spectral radius [1/time]; fastest: the largest departure [1/time];
    rooms: for two terms, (cells,) each.
    """

    generator: Generator
    stencil: Stencil
    radius: float
    fastest: float
    rooms: tuple[FloatArray, FloatArray]

    @classmethod
    def of(cls, generator: Generator, threads: int = 1) -> Series:
        """Lay out the rates, for so many threads at most."""
        stencil = Stencil.of(generator, threads)
        fastest = float(generator.departure.max()) * (1.0 + 1e-12)  # so that rounding leaves no cell below zero
        rooms = (aligned(stencil.size), aligned(stencil.size))
        return cls(generator, stencil, spectral_bound(generator), fastest, rooms)

    def chebyshev(
        self, probability: FloatArray, slope: float, shift: float
    ) -> Iterator[tuple[FloatArray, FloatArray, FloatArray, FloatArray]]:
        """For k = 1, 2, ...: T_k(shift + slope Q) P and the one before, in the rooms; their integrals at the exits.

        The integral is that component of T_k of [[Q, 0], [1, 0]], whose exponential integrates P over time.
        """
        cells = self.generator.exits.cell
        before, now = self.rooms
        np.copyto(before, probability)
        self.stencil.advance(before, now, slope, shift)
        gone_before, gone = np.zeros(cells.size), slope * before[cells]
        while True:
            yield now, before, gone, gone_before
            gone_before, gone = gone, 2.0 * (shift * gone + slope * now[cells]) - gone_before
            self.stencil.advance(now, before, 2.0 * slope, 2.0 * shift, -1.0)
            before, now = now, before

    def in_polynomials(
        self, probability: FloatArray, time: float, allowed: float
    ) -> tuple[FloatArray, FloatArray, float]:
        """exp(time Q) P, what left through every gate, and the L1 error; infinite where the terms grow too much.

        The error is that of what is left out, if the terms go on growing as they did, and of rounding. To be sure of
        it, the last terms added count as left out.
        """
        factors = polynomials(0.5 * time * self.radius)
        result, integral = np.zeros_like(probability), np.zeros(self.generator.exits.cell.size)
        size, rounding, error = float(np.abs(probability).sum()), 0.0, np.inf
        terms = self.chebyshev(probability, 2.0 / self.radius, 1.0)
        for last, (now, before, gone, gone_before) in enumerate(terms, start=1):
            if last % 2 == 0:
                continue
            one, two = factors[last - 1 : last + 1]
            self.share(_add_two, before, now, result, one, two)
            integral += one * gone_before + two * gone
            if last % LOOK == LOOK - 1 or last + 1 == factors.size:
                earlier, size = size, float(np.abs(now).sum())
                recent = factors[max(last - LOOK, 0) :]
                rounding += ROUNDING * last * size * float(recent[: LOOK + 1].sum())
                error = rounding + max(earlier, size) * _rest(recent, size / earlier)
                if error <= MARGIN * allowed or not rounding <= allowed or last + 1 == factors.size:
                    break
        return result, self.through_gates(integral), error if error <= allowed else np.inf

    def over_hops(self, probability: FloatArray, time: float) -> tuple[FloatArray, FloatArray]:
        """exp(time Q) P, >= 0, and what left through every gate, (gates,), both exact but for rounding."""
        cells = self.generator.exits.cell
        now, after = self.rooms
        np.copyto(now, probability)
        result, integral = np.zeros_like(probability), np.zeros(cells.size)
        weights, more = hops(self.fastest * time)
        for term in range(0, weights.size, 2):
            self.stencil.advance(now, after, 1.0 / self.fastest, 1.0)
            self.share(_add_two, now, after, result, weights[term], weights[term + 1])
            integral += more[term] * now[cells] + more[term + 1] * after[cells]
            self.stencil.advance(after, now, 1.0 / self.fastest, 1.0)
        return result, self.through_gates(integral / self.fastest)

    def share(self, kernel: Callable[..., None], *arguments: FloatArray | float) -> None:
        """Run kernel(*arguments, first cell, cell after the last) over all cells, on every thread a part."""
        size = self.stencil.size
        self.stencil.share(lambda start, stop: kernel(*arguments, start * BLOCK, min(stop * BLOCK, size)))

    def through_gates(self, integral: FloatArray) -> FloatArray:
        """Probability through every gate, (gates,), from the integral of P over time at the exits."""
        exits = self.generator.exits
        return np.maximum(np.bincount(exits.gate, exits.rate * integral, minlength=len(exits.gates)), 0.0)

    def forget(self) -> None:
        """Clear the rooms of what is not finite."""
        for room in self.rooms:
            room.fill(0.0)


def spectral_bound(generator: Generator) -> float:
    """No eigenvalue of Q is larger than this in size [1/time] (Gershgorin, by columns)."""
    return float((2.0 * generator.departure - generator.losses).max())


def polynomials_needed(half: float, error: float) -> float:
    """About the number of terms in polynomials that leaves out this error; half: time * radius / 2."""
    figures = math.log(1.0 / error)
    return 0.5 * (figures + math.sqrt(figures * (figures + 8.0 * half)))


def polynomials(half: float) -> FloatArray:
    """The coefficients c_k of the exponential in polynomials, an even number; as many as growing terms may need."""
    count = 2 * int(0.5 * polynomials_needed(half, LAST) + 2.0)
    factors = 2.0 * special.ive(np.arange(count, dtype=np.float64), half)
    factors[0] *= 0.5
    return np.asarray(factors / factors.sum())


def hops_needed(mean: float) -> float:
    """Terms of the sum over hops, `mean` of them expected, after which nothing is left."""
    return mean + 9.0 * math.sqrt(mean) + 25.0


def hops(mean: float) -> tuple[FloatArray, FloatArray]:
    """Probabilities of 0, 1, ... hops, Poisson-distributed, and of more than that many: an even number of each.

    The latter over `fastest` are the coefficients of the integral of exp(t Q) over t.
    """
    likeliest, counts = int(mean), np.arange(2 * int(0.5 * hops_needed(mean) + 1.0), dtype=np.float64)
    fewer = np.cumprod(counts[likeliest:0:-1] / mean)[::-1] if likeliest else counts[:0]
    more = np.cumprod(mean / counts[likeliest + 1 :])
    probabilities = np.concatenate([fewer, [1.0], more])
    probabilities /= probabilities.sum()
    return probabilities, np.append(np.cumsum(probabilities[:0:-1])[::-1], 0.0)


def _rest(factors: FloatArray, growth: float) -> float:
    """The sum of coefficients, times the growth of their terms, given over LOOK of them."""
    each = max(growth, 1.0) ** (1.0 / LOOK)
    return float(factors @ each ** np.arange(1.0, factors.size + 1.0)) if np.isfinite(each) else np.inf


@njit(cache=True, nogil=True)
def _add_two(one, two, out, share, other, start, stop):  # type: ignore[no-untyped-def]
    """Add share * one + other * two to out, on the cells start ... stop - 1."""
    for cell in range(start, stop):
        out[cell] += share * one[cell] + other * two[cell]
