"""The density in time: adaptive steps that meet every saved instant exactly."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import final

import numpy as np

from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError, RunError
from fpsolve.model.grid import FloatArray
from fpsolve.solve.steppers import ORDER, ImplicitStepper

SAFETY = 0.8  # a step is doubled when the error expected of the doubled one is below this share of the allowed
MOST_HALVINGS = 40
KEPT_STEPPERS = 2  # factorisations held at a time


@final
@dataclass(slots=True)
class Counts:
    """How the stepping went."""

    steps: int = 0
    rejected: int = 0
    factorisations: int = 0
    limited: int = 0


@final
@dataclass(frozen=True, slots=True)
class Moment:
    """The state at a saved time. left: probability gone through each gate since the start, (gates,)."""

    time: float
    probability: FloatArray
    left: FloatArray


def evolve(
    generator: Generator, initial: FloatArray, times: FloatArray, tolerance: float, counts: Counts | None = None
) -> Iterator[Moment]:
    """Yield the state at each of the times (increasing, the first is the start).

    tolerance bounds the L1 error in time of every state: exp(tQ) never stretches an L1 distance, so local errors
    add at most. Half of it is spread evenly over time, half over its logarithm, so that a quick start before a long
    rest gets its share. Steps are the saved intervals divided by powers of two, so few lengths, and few
    factorisations, occur.

    Raises CaseError for times out of order; RunError when no step is short enough.
    """
    if times.size < 1 or (np.diff(times) <= 0.0).any() or not np.isfinite(times).all():
        raise CaseError("evolve.times", "the times do not increase", "They must be finite and increasing", "")
    yield Moment(float(times[0]), initial, np.zeros(len(generator.exits.gates)))
    if times.size == 1:
        return
    march = _March(generator, tolerance, float(times[0]), float(times[-1]), counts or Counts())
    march.guess_first_step(initial, float(times[1] - times[0]))
    moment = Moment(float(times[0]), initial, np.zeros(len(generator.exits.gates)))
    intervals = _rounded(np.diff(times))
    for time, interval in zip(times[1:], intervals, strict=True):
        moment = march.through(moment, float(interval), float(time))
        yield moment


def _rounded(intervals: FloatArray) -> FloatArray:
    """Intervals that differ by rounding only made equal, so that they share a factorisation."""
    return np.where(np.abs(intervals / intervals[0] - 1.0) < 1e-9, intervals[0], intervals)


@final
@dataclass(slots=True)
class _March:
    """Steps of interval / 2**halvings, longer or shorter as the error asks."""

    generator: Generator
    tolerance: float
    start: float
    stop: float
    counts: Counts
    halvings: int = 0
    last_interval: float = 0.0
    first_step: float = 0.0
    steppers: dict[float, ImplicitStepper] = field(default_factory=dict)

    def guess_first_step(self, initial: FloatArray, interval: float) -> None:
        """A first step in which about a tenth of the probability moves on."""
        moving = float(np.abs(self.generator.apply(initial)).sum())
        if not np.isfinite(moving):
            found = f"probability moves at a rate of {moving} at the start"
            raise RunError("evolve", found, "Rates must be finite", "Check the size of the drift and the diffusion")
        self.halvings = int(np.clip(np.ceil(np.log2(max(interval * moving / 0.1, 1.0))), 0, MOST_HALVINGS))
        self.last_interval = interval
        self.first_step = interval / 2**self.halvings

    def allowance(self, time: float, time_step: float) -> float:
        """L1 error that a step may make; over all steps it sums to the tolerance."""
        since, whole = time - self.start + self.first_step, self.stop - self.start
        share = np.log1p(time_step / since) / np.log1p(whole / self.first_step)
        return float(0.5 * self.tolerance * (time_step / whole + share))

    def through(self, moment: Moment, interval: float, time: float) -> Moment:
        """March through one saved interval."""
        shift = int(np.round(np.log2(interval / self.last_interval)))
        self.halvings, self.last_interval = min(max(0, self.halvings + shift), MOST_HALVINGS), interval
        probability, left = moment.probability, moment.left
        done, whole = 0, 1 << MOST_HALVINGS  # position in the interval in units of the shortest step
        while done < whole:
            length = whole >> self.halvings
            time_step, now = interval / 2**self.halvings, moment.time + interval * done / whole
            step = self._stepper(time_step).step(probability)
            allowed = self.allowance(now, time_step)
            if not step.error <= allowed:
                self._shorten(step.error / allowed, now)
                continue
            self.counts.steps += 1
            self.counts.limited += step.limited
            probability, left, done = step.probability, left + step.left, done + length
            self._lengthen(step.error / allowed, done)
        return Moment(time, probability, left)

    def _stepper(self, time_step: float) -> ImplicitStepper:
        if time_step not in self.steppers:
            while len(self.steppers) >= KEPT_STEPPERS:
                self.steppers.pop(next(iter(self.steppers)))
            plan = next((stepper.resolvent.plan for stepper in self.steppers.values()), None)
            self.steppers[time_step] = ImplicitStepper.of(self.generator, time_step, plan=plan)
            self.counts.factorisations += 1
        return self.steppers[time_step]

    def _shorten(self, excess: float, time: float) -> None:
        """Halve as often as the excess asks; the error estimate falls as step**ORDER, the allowance as step."""
        self.counts.rejected += 1
        self.halvings += int(np.clip(np.ceil(np.log2(excess) / (ORDER - 1)), 1, 6)) if np.isfinite(excess) else 6
        if self.halvings > MOST_HALVINGS:
            found = f"the error estimate asks for steps below 1e-12 of the saved interval at t = {time:g}"
            raise RunError("evolve", found, "Rounding errors leave no room for it", "Raise evolve.tolerance")

    def _lengthen(self, used: float, done: int) -> None:
        """Double while the longer step would still be well within the allowance and ends on a multiple of itself."""
        while (
            self.halvings > 0
            and used * 2 ** (ORDER - 1) <= SAFETY
            and done % (1 << (MOST_HALVINGS - self.halvings + 1)) == 0
        ):
            self.halvings -= 1
            used *= 2 ** (ORDER - 1)
