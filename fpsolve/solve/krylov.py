"""Functions of a generator from powers of one resolvent: shift and invert.

The polynomials in (1 - Q/q)^-1, q > 0 real, applied to a start make up a space from which exp(t Q) and its integral
are taken for any t: rational Krylov with one repeated pole (Moret & Novati, BIT 44 (2004) 595; van den Eshof &
Hochbruck, SIAM J. Sci. Comput. 27 (2006) 1438). Real q > 0 are what elimination without subtractions can serve.
"""

from __future__ import annotations

from dataclasses import dataclass
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
    that of densities. vectors: (room + 1, cells); hessenberg: (room + 1, room), what solves do to them; outflow: through
    the gates, (room + 1, gates); norm: of the start, the first vector. size: solves so far; closed: no more are needed.
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
        return np.asarray(np.linalg.norm(self._changes(times)[0], axis=1))

    def approximation(self, times: FloatArray) -> Approximation:
        """States and what left at some times.

        The error is what the last `lag` solves changed, with what is out of balance and what lies below zero.
        """
        now, left = self._coefficients(self.size, times)
        change, change_left = self._changes(times)
        vectors = self.vectors[: self.size]
        probability = (now @ vectors) * self.weight
        error = np.abs(change @ vectors) @ self.weight + np.abs(change_left).sum(axis=1)
        error += np.abs(probability.sum(axis=1) + left.sum(axis=1) - self.mass)
        error -= 2.0 * np.minimum(probability, 0.0).sum(axis=1)  # clipped, then taken from the others
        return Approximation(probability, left, error)

    def _changes(self, times: FloatArray) -> tuple[FloatArray, FloatArray]:
        """What the last solves changed in the coefficients and in what left."""
        now, left = self._coefficients(self.size, times)
        if self.closed:
            return np.zeros_like(now), np.zeros_like(left)
        earlier, earlier_left = self._coefficients(self.size - self.lag, times)
        return now - np.pad(earlier, ((0, 0), (0, self.lag))), left - earlier_left

    def _coefficients(self, size: int, times: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Coefficients of exp(t Q) P, (times, size), and what left through the gates by t, (times, gates).

        That is the same equation with a cell more behind every gate. From time to time, so that equal intervals share
        an exponential.
        """
        inner, outflow = self.hessenberg[:size, :size], self.outflow[:size].T
        gates = len(outflow)
        unit = np.maximum(np.abs(outflow).max(axis=1, initial=0.0), TINY)
        below = (outflow / unit[:, None]) @ inner
        whole = np.block([[inner, np.zeros((size, gates))], [below, np.eye(gates)]])
        made, state = dict[float, FloatArray](), np.append(self.norm, np.zeros(size + gates - 1))
        states = np.empty((times.size, size + gates))
        for number, interval in enumerate(np.diff(times, prepend=0.0)):
            key = next((known for known in made if abs(known - interval) <= SAME * times[number]), float(interval))
            if key not in made:
                with np.errstate(over="ignore", invalid="ignore"):  # a space too small may know of rates > 0
                    made[key] = exponential(whole, self.pole * key)
            state = states[number] = np.clip(np.nan_to_num(made[key] @ state, nan=HUGE), -HUGE, HUGE)
        return states[:, :size], states[:, size:] * (unit / self.pole)


def exponential(inverse: FloatArray, factor: float) -> FloatArray:
    """exp(factor (1 - M)) of a matrix M given by its inverse, which may be as good as singular.

    Scaling and squaring of the Pade approximant of degrees 5 and 6, Z = factor (1 - M) / 2**halvings, in factors, with
    M^-1 multiplied through. It vanishes at infinity, as the exponential does, so that Z need not be small where the
    exponential is nothing: scaled by the largest entry of all, the small ones would be lost in rounding.
    """
    values, lowest = np.linalg.eigvals(inverse), np.linalg.norm(inverse, -2)
    rates = factor * (1.0 - 1.0 / np.where(np.abs(values) > TINY, values, TINY))
    seen = 2.0 * np.abs(rates[np.abs(rates.real) < FORGOTTEN]).max(initial=0.0)
    largest = min(factor * (1.0 + 1.0 / max(float(lowest), TINY)), max(WIDEST, float(seen)))
    halvings = max(0, int(np.ceil(np.log2(largest / SMALL))))
    one, result = np.eye(len(inverse)), np.eye(len(inverse))
    for pole, zero in PADE:
        part = factor / 2.0**halvings / pole
        first = np.linalg.solve((1.0 - part) * inverse + part * one, inverse)  # 1 / (1 - Z/pole)
        factors = one * (pole / zero) + (1.0 - pole / zero) * first
        result = result @ (factors @ (factors if zero.imag else first).conj()).real
    for _ in range(halvings):
        result = result @ result
    return result
