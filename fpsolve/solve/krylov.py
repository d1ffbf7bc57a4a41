"""Functions of a generator from powers of one resolvent: shift and invert.

The polynomials in (1 - Q/q)^-1, q > 0 real, applied to a start make up a space from which exp(t Q) and its integral
are taken for any t: rational Krylov with one repeated pole (Moret & Novati, BIT 44 (2004) 595; van den Eshof &
Hochbruck, SIAM J. Sci. Comput. 27 (2006) 1438). Real q > 0 are what elimination without subtractions can serve.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import final

import numpy as np

from fpsolve.discretise.generator import Generator
from fpsolve.model.grid import FloatArray
from fpsolve.solve.elimination import Resolvent

LEAST_LAG = 3
CLOSED = 1e-14  # of a new vector, what is left beside the others when the space holds all that it can
# The Pade approximant of exp of degrees 5 and 6: of each pair of poles one, with two zeros that go with the pair.
PADE = (
    (4.0388475344888002 + 8.3456004148722157j, -5.6446417378554576 + 7.6935461856440472j),
    (6.4705149367015698 + 4.9001211474213864j, -7.7060966838022925 + 3.7400530516591526j),
    (7.4906375288096301 + 1.6215023887783940j, -8.2985231566844998),
)
SMALL = 0.5  # up to which it is exact to rounding
FORGOTTEN = 45.0  # exp(-45) is nothing beside 1
WIDEST = 256.0  # rates times time that are scaled to be small; faster ones where they turn, not where they decay
TINY, HUGE = 1e-200, 1e100
SAME = 1e-15  # of a time: intervals that differ by so little are equal


@final
@dataclass(frozen=True, slots=True)
class Approximation:
    """What a space knows about some times.

    probability: (times, cells); left: probability gone through each gate so far, (times, gates); error: estimate of
    the L1 error of both together, (times,).
    """

    probability: FloatArray
    left: FloatArray
    error: FloatArray


@final
@dataclass(slots=True)
class Basis:
    """Orthonormal vectors of the space, one more with every solve (Arnoldi; Gram-Schmidt twice).

    A vector v stands for the probability weight * v, weight the root of the cells' volumes: the scalar product is
    that of densities. vectors: (room + 1, cells); hessenberg: (room + 1, room), what solves do to them; outflow:
    through the gates, (room + 1, gates); norm, mass: of the start, the first vector. size: solves so far; closed: no
    more are needed.
    """

    generator: Generator
    resolvent: Resolvent
    pole: float
    weight: FloatArray
    vectors: FloatArray
    hessenberg: FloatArray
    outflow: FloatArray
    norm: float
    mass: float
    size: int = 0
    closed: bool = False
    known: dict[tuple[int, bytes], FloatArray] = field(default_factory=dict)  # coefficients, by size and times

    @classmethod
    def of(
        cls, generator: Generator, resolvent: Resolvent, pole: float, weight: FloatArray, start: FloatArray, room: int
    ) -> Basis:
        """The space of a start P != 0 alone, with room for so many solves. resolvent: (pole - Q)^-1."""
        vectors = np.empty((room + 1, start.size))
        vectors[0] = start / weight
        norm = float(np.linalg.norm(vectors[0]))
        vectors[0] /= norm
        outflow = np.empty((room + 1, len(generator.exits.gates)))
        outflow[0] = generator.outflow(vectors[0] * weight)
        hessenberg = np.zeros((room + 1, room))
        mass = float(start.sum())
        return cls(generator, resolvent, pole, weight, vectors, hessenberg, outflow, norm, mass)

    @property
    def lag(self) -> int:
        """Approximations so many solves apart are compared: more where many are needed, as the error falls slowly."""
        return max(LEAST_LAG, self.size // 8)

    def grow(self) -> None:
        """Solve once more."""
        last = self.size
        new = self.pole * self.resolvent.solve(self.vectors[last] * self.weight) / self.weight
        length, others = np.linalg.norm(new), self.vectors[: last + 1]
        for _ in range(2):
            along = others @ new
            new -= along @ others
            self.hessenberg[: last + 1, last] += along
        rest = np.linalg.norm(new)
        self.closed = bool(rest <= CLOSED * length)
        self.hessenberg[last + 1, last] = rest
        self.vectors[last + 1] = new / max(rest, np.finfo(np.float64).tiny)
        self.outflow[last + 1] = self.generator.outflow(self.vectors[last + 1] * self.weight)
        self.size += 1

    def change(self, times: FloatArray) -> FloatArray:
        """By how much the coefficients at some times are others than those of `lag` solves before, (times,)."""
        return np.asarray(np.linalg.norm(self._compared(times)[1][:, : self.size], axis=1))

    def approximation(self, times: FloatArray) -> Approximation:
        """States and what left at some times.

        The error is what the last `lag` solves changed, with what is out of balance and what lies below zero.
        """
        now, change = self._compared(times)
        vectors, inside = self.vectors[: self.size], slice(0, self.size)
        probability, left = (now[:, inside] @ vectors) * self.weight, now[:, self.size :]
        error = np.abs(change[:, inside] @ vectors) @ self.weight + np.abs(change[:, self.size :]).sum(axis=1)
        error += np.abs(probability.sum(axis=1) + left.sum(axis=1) - self.mass)
        error -= 2.0 * np.minimum(probability, 0.0).sum(axis=1)  # clipped, then taken from the others
        return Approximation(probability, left, error)

    def _compared(self, times: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Coefficients and what left, and how much of that the last solves changed, (times, size + gates) each."""
        now = self._known(self.size, times)
        if self.closed:
            return now, np.zeros_like(now)
        before, lag = self._known(self.size - self.lag, times), np.zeros((times.size, self.lag))
        return now, now - np.hstack([before[:, : self.size - self.lag], lag, before[:, self.size - self.lag :]])

    def _known(self, size: int, times: FloatArray) -> FloatArray:
        """The coefficients, made once: the same times are looked at again, and later sizes are compared with these."""
        key = (size, times.tobytes())
        if key not in self.known:
            self.known[key] = self._coefficients(size, times)
        return self.known[key]

    def _coefficients(self, size: int, times: FloatArray) -> FloatArray:
        """Coefficients of exp(t Q) P and after them what left through the gates by t, (times, size + gates).

        That is the same equation with a cell more behind every gate. It goes from time to time, so that equal intervals
        share an exponential.
        """
        inner, outflow = self.hessenberg[:size, :size], self.outflow[:size].T
        gates = len(outflow)
        unit = np.maximum(np.abs(outflow).max(axis=1, initial=0.0), TINY)
        below = (outflow / unit[:, None]) @ inner
        whole = np.eye(size + gates)
        whole[:size, :size], whole[size:, :size] = inner, below
        intervals = np.diff(times, prepend=0.0)
        same = np.abs(intervals[:, None] - intervals) <= SAME * times[:, None]
        which = np.argmax(same, axis=1)  # the first of those that are equal
        made = dict(
            zip(distinct := np.unique(which), exponentials(whole, self.pole * intervals[distinct]), strict=True)
        )
        state, states = np.append(self.norm, np.zeros(size + gates - 1)), np.empty((times.size, size + gates))
        for number, kind in enumerate(which):
            state = states[number] = np.clip(np.nan_to_num(made[kind] @ state, nan=HUGE), -HUGE, HUGE)
        states[:, size:] *= unit / self.pole
        return states


def exponentials(inverse: FloatArray, factors: FloatArray) -> list[FloatArray]:
    """exp(factor (1 - M)) for some factors > 0, of a matrix M given by its inverse, which may be as good as singular.

    Scaling and squaring of the Pade approximant of degrees 5 and 6 of Z = factor (1 - M) / 2**halvings. It vanishes at
    infinity, as the exponential does, so that Z need not be small where the exponential is nothing: scaled by the
    largest rate of all, the small ones would be lost in rounding. Rates > 0 may overflow.
    """
    values, lowest = np.linalg.eigvals(inverse), max(float(np.linalg.norm(inverse, -2)), TINY)
    rates = 1.0 - 1.0 / np.where(np.abs(values) > TINY, values, TINY)
    results = []
    for factor in factors:
        seen = 2.0 * np.abs(rates[np.abs(factor * rates.real) < FORGOTTEN]).max(initial=0.0)
        largest = factor * min(1.0 + 1.0 / lowest, max(WIDEST / factor, float(seen)))
        halvings = max(0, int(np.ceil(np.log2(largest / SMALL))))
        with np.errstate(over="ignore", invalid="ignore"):
            result = _pade(inverse, factor / 2.0**halvings)
            for _ in range(halvings):
                result = result @ result
        results.append(result)
    return results


def _pade(inverse: FloatArray, factor: float) -> FloatArray:
    """The approximant of Z = factor (1 - M): factors (1 - Z/zero) / (1 - Z/pole), none of which is large."""
    one, result = np.eye(len(inverse)), np.eye(len(inverse))
    for pole, zero in PADE:
        part = factor / pole
        single = np.linalg.solve((1.0 - part) * inverse + part * one, inverse)  # 1 / (1 - Z/pole)
        both = one * (pole / zero) + (1.0 - pole / zero) * single
        result = result @ (both @ (both if zero.imag else single).conj()).real
    return result
