"""The stabilised explicit stepper: second order, matrix-free, positive, conservative.

The Runge-Kutta-Chebyshev method of Sommeijer, Shampine & Verwer (J. Comput. Appl. Math. 88, 315, 1998): a step of s
stages may be as long as 0.65 s**2 / (spectral radius), s times as far as with as many products in steps of their own.
Its stability polynomial is

    R(z) = a + b T_s(w0 + w1 z),   w0 = 1 + DAMPING / s**2,   w1 = T'_s / T''_s,   b = T''_s / T'_s**2,   a = 1 - b T_s

with Chebyshev's polynomial and its derivatives at w0. For dP/dt = Q P with constant Q, R(time_step Q) P takes nothing
but the three-term recursion of T_s: a stage moves no more memory than a product with Q.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import final

import numpy as np
from numba import njit

from fpsolve.discretise.generator import Generator
from fpsolve.discretise.stencil import BLOCK, Stencil, aligned
from fpsolve.model.grid import FloatArray
from fpsolve.solve.steppers import Step, balanced
from fpsolve.solve.threads import threads_allowed

ORDER = 2
DAMPING = 2 / 13
MOST_STAGES = 1000  # rounding errors grow as their square: to 1e-10 here
MOST_HOPS = 50_000  # terms of a sum over hops
ROUNDING = 1e-14  # of the largest value: what lies below zero by no more is rounding
# Seconds for each number that a product reads or writes, and to start one (scripts/measure_products.py, 2 to 3 GHz).
SECONDS_PER_NUMBER = 5e-10
SECONDS_PER_PRODUCT = 1e-5
PASSES = 4  # products that the error estimate, clipping and balancing of a step are worth


@final
@dataclass(frozen=True, slots=True)
class StabilisedStepper:
    """Steps of any length through dP/dt = Q P by products with Q alone.

    stencil: Q; radius: bound of its spectral radius [1/time]; fastest: the largest departure [1/time]; rooms: for two
    stages, (cells,) each.

    Probability is complete: what goes out through the gates is a component of the same recursion, and the new state
    is balanced against it. As the exact state has no negative entries, those of the new one add up to no more than
    its error. Where the caller allows as much they are cut off.

    A step that errs more is redone as a sum over the number of hops (Jensen, Skand. Aktuarietidskr. 36, 87, 1953),
    exact and positive for any length, if that takes fewer products than shorter steps would: it takes one for each
    hop of the fastest cell, which is little for a drift that outruns diffusion, or under a tight tolerance.

    The recursion is made for eigenvalues near the negative real axis. Where the drift circulates, and faster than it
    spreads over a cell, they are complex and long steps grow; the error estimate sees that before it matters.
    """

    generator: Generator
    stencil: Stencil
    radius: float
    fastest: float
    rooms: tuple[FloatArray, FloatArray]

    @classmethod
    def of(cls, generator: Generator, threads: int | None = None) -> StabilisedStepper:
        """Lay out the rates. threads: left out, as many as FPSOLVE_THREADS in the environment allows, else one."""
        stencil = Stencil.of(generator, threads or threads_allowed())
        rooms = (aligned(stencil.size), aligned(stencil.size))
        fastest = float(generator.departure.max()) * (1.0 + 1e-12)  # so that rounding leaves no cell below zero
        return cls(generator, stencil, spectral_bound(generator), fastest, rooms)

    def step(self, probability: FloatArray, time_step: float, allowed: float) -> Step:
        """Advance by a time step that may make an L1 error of at most `allowed`.

        Where it would make more, and shorter steps are of more use, the error returned is larger; it is infinite, with
        the state before, where nothing is known of the step.
        """
        stages = stages_needed(self.radius, time_step)
        if stages > MOST_STAGES:
            return self._refused(probability)
        with np.errstate(over="ignore", invalid="ignore"):  # of a step that blows up
            proposed, left, error = self._propose(probability, time_step, stages)
            undershoot = -float(np.minimum(proposed, 0.0).sum())
        if not (np.isfinite(error + undershoot) and np.isfinite(left).all()):
            for room in self.rooms:
                room.fill(0.0)
            return self._refused(probability)
        error += 2.0 * undershoot
        limited = float(proposed.min()) < -ROUNDING * float(proposed.max())
        if error > allowed and self._hops_pay(time_step, error / allowed if allowed > 0.0 else np.inf):
            proposed, left = self._hop(probability, time_step)
            error = 0.0
        return self._finished(probability, proposed, left, error, limited)

    def _hops_pay(self, time_step: float, excess: float) -> bool:
        """Whether a sum over hops takes fewer products than steps so short that the error fits."""
        steps = math.sqrt(min(excess, 1e30))
        others = steps * (stages_needed(self.radius, time_step / steps) + PASSES)
        return hops_needed(self.fastest * time_step) <= min(others, MOST_HOPS)

    def _propose(self, probability: FloatArray, time_step: float, stages: int) -> tuple[FloatArray, FloatArray, float]:
        """R(time_step Q) P, what left through every gate, and the error estimate.

        The integral of P is one more component of the recursion, followed at the cells with exits alone. The estimate
        is 4/5 (P - new P) + 2/5 time_step Q (P + new P), about 1.8 times the error of a smooth step.
        """
        shift, scale, constant, factor = coefficients(stages)
        slope, cells = scale * time_step, self.generator.exits.cell
        before, now = self.rooms
        np.copyto(before, probability)
        self.stencil.advance(before, now, slope, shift)
        gone_before, gone = np.zeros(cells.size), slope * before[cells]
        for _ in range(1, stages):
            gone_before, gone = gone, 2.0 * (shift * gone + slope * now[cells]) - gone_before
            self.stencil.advance(now, before, 2.0 * slope, 2.0 * shift, -1.0)
            before, now = now, before
        proposed = np.empty_like(probability)
        self._share(_close, probability, now, before, proposed, constant, factor)
        self.stencil.advance(before, now, 0.4 * time_step, 0.0, 1.0)
        error = float(np.abs(now, out=now).sum())
        return proposed, self._through_gates(factor * gone), error

    def _hop(self, probability: FloatArray, time_step: float) -> tuple[FloatArray, FloatArray]:
        """exp(time_step Q) P and what left, exact but for rounding: see `hops`."""
        exits = self.generator.exits
        now, after = self.rooms
        np.copyto(now, probability)
        result, gone = np.zeros_like(probability), np.zeros(exits.cell.size)
        for term, (weight, more) in enumerate(zip(*hops(self.fastest * time_step), strict=True)):
            if term > 0:
                self.stencil.advance(now, after, 1.0 / self.fastest, 1.0)
                now, after = after, now
            self._share(_add, now, result, weight)
            gone += more * now[exits.cell]
        return result, self._through_gates(gone / self.fastest)

    def _share(self, kernel: Callable[..., None], *arguments: FloatArray | float) -> None:
        """Run a kernel over all cells on every thread."""
        size = self.stencil.size
        self.stencil.share(lambda start, stop: kernel(*arguments, start * BLOCK, min(stop * BLOCK, size)))

    def _through_gates(self, integral: FloatArray) -> FloatArray:
        """Probability through every gate, (gates,), from the integral of P over time at the exits."""
        exits = self.generator.exits
        return np.maximum(np.bincount(exits.gate, exits.rate * integral, minlength=len(exits.gates)), 0.0)

    def _finished(
        self, probability: FloatArray, result: FloatArray, left: FloatArray, error: float, limited: bool
    ) -> Step:
        total, gone = float(probability.sum()), float(left.sum())
        if gone > total:
            left = left * (total / gone)
        return Step(balanced(result, total - float(left.sum())), left, error, limited)

    def _refused(self, probability: FloatArray) -> Step:
        return Step(probability, np.zeros(len(self.generator.exits.gates)), float("inf"), True)


def spectral_bound(generator: Generator) -> float:
    """No eigenvalue of Q is larger than this in size [1/time] (Gershgorin, by columns)."""
    return float((2.0 * generator.departure - generator.losses).max())


def stages_needed(radius: float, time_step: float) -> int:
    """The stages that make a step stable for real eigenvalues down to -radius: about sqrt(1.54 time_step radius)."""
    return max(2, 1 + int(math.sqrt(1.0 + 1.54 * min(time_step * radius, 1e30))))


def hops_needed(mean: float) -> int:
    """Terms of the sum over hops, `mean` of them expected, after which nothing is left."""
    return int(min(mean + 9.0 * math.sqrt(mean), 1e15)) + 25


def seconds_needed(generator: Generator, duration: float, steps: int) -> float:
    """Estimate of the time [s] that so many equal steps through a duration take on one thread, or the sum over hops."""
    numbers = 2 * generator.edges.origin.size + 4 * generator.grid.size
    products = steps * (stages_needed(spectral_bound(generator), duration / steps) + PASSES)
    products = min(products, hops_needed(float(generator.departure.max()) * duration))
    return products * (SECONDS_PER_PRODUCT + SECONDS_PER_NUMBER * numbers)


@lru_cache(maxsize=256)
def coefficients(stages: int) -> tuple[float, float, float, float]:
    """w0, w1, a and b of the stability polynomial; see the top of the module."""
    argument = 1.0 + DAMPING / stages**2
    rows = [(1.0, 0.0, 0.0), (argument, 1.0, 0.0)]  # T_j and its first two derivatives
    for _ in range(1, stages):
        (value0, slope0, bend0), (value, slope, bend) = rows[-2:]
        rows.append(
            (
                2.0 * argument * value - value0,
                2.0 * (value + argument * slope) - slope0,
                2.0 * (2.0 * slope + argument * bend) - bend0,
            )
        )
    value, slope, bend = rows[-1]
    factor = bend / slope**2
    return argument, slope / bend, 1.0 - factor * value, factor


def hops(mean: float) -> tuple[FloatArray, FloatArray]:
    """Poisson's distribution: the probabilities of 0, 1, ... hops, and of more than that many, until none are left.

    With `rate` at least the largest departure, all matrix entries of 1 + Q / rate are >= 0, and

        exp(t Q) = sum over k of p_k (1 + Q / rate)**k,   its integral over t = sum of P(more than k) / rate (...)**k

    where p_k is the probability of k hops, of mean rate * t.
    """
    likeliest, counts = int(mean), np.arange(hops_needed(mean), dtype=np.float64)
    fewer = np.cumprod(counts[likeliest:0:-1] / mean)[::-1] if likeliest else counts[:0]
    more = np.cumprod(mean / counts[likeliest + 1 :])
    probabilities = np.concatenate([fewer, [1.0], more])
    probabilities /= probabilities.sum()
    return probabilities, np.append(np.cumsum(probabilities[:0:-1])[::-1], 0.0)


@njit(cache=True, nogil=True)
def _close(old, now, before, new, constant, factor, start, stop):  # type: ignore[no-untyped-def]
    """Fill new = constant * old + factor * now; then now = 4/5 (old - new), before = old + new, for the estimate."""
    for cell in range(start, stop):
        value = constant * old[cell] + factor * now[cell]
        new[cell] = value
        now[cell] = 0.8 * (old[cell] - value)
        before[cell] = old[cell] + value


@njit(cache=True, nogil=True)
def _add(values, out, weight, start, stop):  # type: ignore[no-untyped-def]
    """Out += weight * values."""
    for cell in range(start, stop):
        out[cell] += weight * values[cell]
