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
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from typing import ClassVar, final

import numpy as np
from numba import njit

from fpsolve.discretise.generator import Generator
from fpsolve.model.grid import FloatArray
from fpsolve.model.threads import threads_allowed
from fpsolve.solve.series import Series, hops_needed, polynomials_needed, spectral_bound
from fpsolve.solve.steps import AbstractStepper, Step, balanced

DAMPING = 2 / 13
MOST_STAGES = 1000  # rounding errors grow as their square: to 1e-10 here
MOST_HOPS = 50_000  # terms of a sum over hops
ROUNDING = 1e-14  # of the largest value: what lies below zero by no more is rounding
# Seconds for each number that a product reads or writes, and to start one (scripts/measure_products.py, 2 to 3 GHz).
SECONDS_PER_NUMBER = 5e-10
SECONDS_PER_PRODUCT = 1e-5
PASSES = 4  # products that the error estimate, clipping and balancing of a step are worth
SUMMING = 1.2  # products that a term of a series is worth
GROWTH = 0.7  # of the largest growth of terms, what is seen of it


@final
@dataclass(frozen=True, slots=True)
class ChebyshevSteps:
    """Steps of any length through dP/dt = Q P by products with Q alone, which is constant.

    Probability is complete: what goes out through the gates is a component of the same recursion, and the new state
    is balanced against it. As the exact state has no negative entries, those of the new one add up to no more than
    its error. Where the caller allows as much they are cut off.

    A step that errs more is redone by a series, exact, if that takes fewer products than steps so short that the
    error fits: in polynomials, or where their terms grow, over hops, which keeps all entries >= 0.

    Chebyshev's polynomials are made for eigenvalues near the negative real axis. Where the drift circulates, and
    faster than it spreads over a cell, they are complex and long steps grow; the estimate sees that before it matters.
    """

    series: Series

    @property
    def generator(self) -> Generator:
        """The chain."""
        return self.series.generator

    @classmethod
    def of(cls, generator: Generator, threads: int | None = None) -> ChebyshevSteps:
        """Lay out the rates. threads: left out, as many as FPSOLVE_THREADS in the environment allows, else one."""
        return cls(Series.of(generator, threads or threads_allowed()))

    def step(self, probability: FloatArray, time_step: float, allowed: float) -> Step:
        """Advance by a time step that may make an L1 error of at most `allowed`.

        Where it would make more, and shorter steps are of more use, the error returned is larger; it is infinite, with
        the state before, where nothing is known of the step.
        """
        stages = stages_needed(self.series.radius, time_step)
        if stages > MOST_STAGES:
            return self._refused(probability)
        with np.errstate(over="ignore", invalid="ignore"):  # of a step that blows up
            step = self._finished(probability, *self._propose(probability, time_step, stages))
            if not step.error <= allowed:
                step = self._exact(probability, time_step, allowed, step)
        return step

    def _propose(self, probability: FloatArray, time_step: float, stages: int) -> tuple[FloatArray, FloatArray, float]:
        """R(time_step Q) P, what left through every gate, and the error estimate.

        It is 4/5 (P - new P) + 2/5 time_step Q (P + new P), about 1.8 times the error of a smooth step.
        """
        series = self.series
        shift, scale, constant, factor = coefficients(stages)
        terms = series.chebyshev(probability, scale * time_step, shift)
        now, before, gone, _ = next(islice(terms, stages - 1, None))
        proposed = np.empty_like(probability)
        series.share(_close, probability, now, before, proposed, constant, factor)
        series.stencil.advance(before, now, 0.4 * time_step, 0.0, 1.0)
        error = float(np.abs(now, out=now).sum())
        return proposed, series.through_gates(factor * gone), error

    def _exact(self, probability: FloatArray, time_step: float, allowed: float, step: Step) -> Step:
        """The step by a series, where one is cheaper than shorter steps; else the step given."""
        series, excess = self.series, step.error / allowed if allowed > 0.0 else np.inf
        steps = math.sqrt(min(excess, 1e30))
        most = steps * (stages_needed(series.radius, time_step / steps) + PASSES)
        if SUMMING * polynomials_needed(0.5 * time_step * series.radius, max(allowed, 1e-15)) <= most:
            other = self._finished(probability, *series.in_polynomials(probability, time_step, allowed))
            if other.error <= allowed:
                return other
        if SUMMING * hops_needed(series.fastest * time_step) <= min(most, MOST_HOPS):
            return self._finished(probability, *series.over_hops(probability, time_step), 0.0)
        return step

    def _finished(self, probability: FloatArray, result: FloatArray, left: FloatArray, error: float) -> Step:
        """The step to a result, clipped and balanced; what is cut off counts as error."""
        undershoot = -float(np.minimum(result, 0.0).sum())
        if not (np.isfinite(error + undershoot) and np.isfinite(left).all()):
            self.series.forget()
            return self._refused(probability)
        total, gone = float(probability.sum()), float(left.sum())
        if gone > total:
            left = left * (total / gone)
        limited = float(result.min()) < -ROUNDING * float(result.max())
        return Step(balanced(result, total - float(left.sum())), left, error + 2.0 * undershoot, limited)

    def _refused(self, probability: FloatArray) -> Step:
        return Step(probability, np.zeros(len(self.series.generator.exits.gates)), float("inf"), True)


@final
@dataclass(slots=True)
class StabilisedStepper(AbstractStepper):
    """Steps of second order through a chain that may change in time: it is held as it is in the middle of a step.

    Where it changes the error estimate is the same, 4/5 (P - new P) + 2/5 time_step (Q P + new Q new P), with Q as it
    is at both ends, so that it sees the change.
    """

    order: ClassVar[int] = 2
    error_order: ClassVar[int] = 3

    held: ChebyshevSteps | None = None
    known: tuple[float, Generator] | None = None  # the chain at the end of the latest step

    def step(self, probability: FloatArray, time: float, time_step: float, allowed: float) -> Step:
        """Advance by a time step; see `ChebyshevSteps.step`."""
        if not self.span.constant or self.held is None:
            self.held = ChebyshevSteps.of(self.span.generator(time + 0.5 * time_step))
        before = self.held.series.stencil.products
        step = self.held.step(probability, time_step, allowed)
        self.counts.products += self.held.series.stencil.products - before
        if self.span.constant or not step.error <= allowed:
            return step
        slope = self._at(time).apply(probability) + self._at(time + time_step).apply(step.probability)
        doubt = 0.8 * (probability - step.probability) + 0.4 * time_step * slope
        self.counts.products += 2
        return replace(step, error=max(step.error, float(np.abs(doubt).sum())))

    def _at(self, time: float) -> Generator:
        """The chain at the beginning or end of a step, which is the beginning of the next."""
        if self.known is None or self.known[0] != time:
            self.known = (time, self.span.generator(time))
        return self.known[1]


def stages_needed(radius: float, time_step: float) -> int:
    """The stages that make a step stable for real eigenvalues down to -radius: about sqrt(1.54 time_step radius)."""
    return max(2, 1 + int(math.sqrt(1.0 + 1.54 * min(time_step * radius, 1e30))))


def seconds_needed(generator: Generator, duration: float, steps: int, allowed: float) -> float:
    """Estimate of the time [s] that so many steps, which together span a duration, take on one thread.

    That of a series in each of them, tried after stages: shorter steps are taken only where they cost less. Where
    edges are steep eigenvalues come close to an ellipse about the real axis, on which the terms in polynomials grow;
    those needed are more by the digits that they grow by at most, or a little less.
    """
    edges, radius, part = generator.edges, spectral_bound(generator), duration / steps
    numbers, half = 2 * edges.origin.size + 4 * generator.grid.size, 0.5 * radius * part
    steepest = 2.0 * float(np.abs(edges.forward - edges.backward).max(initial=0.0)) / max(radius, 1e-300)
    grown = GROWTH * half * math.asinh(steepest) ** 2
    terms = min(
        polynomials_needed(half, max(allowed, 1e-15) * math.exp(-min(grown, 600.0))),
        hops_needed(float(generator.departure.max()) * part),
    )
    products = steps * (stages_needed(radius, part) + PASSES + SUMMING * terms)
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


@njit(cache=True, nogil=True)
def _close(old, now, before, new, constant, factor, start, stop):  # type: ignore[no-untyped-def]
    """Fill new = constant * old + factor * now; then now = 4/5 (old - new), before = old + new, for the estimate."""
    for cell in range(start, stop):
        value = constant * old[cell] + factor * now[cell]
        new[cell] = value
        now[cell] = 0.8 * (old[cell] - value)
        before[cell] = old[cell] + value
