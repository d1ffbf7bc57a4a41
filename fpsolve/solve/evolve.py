"""The density in time: adaptive steps that meet every saved instant exactly."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, final

import numpy as np

from fpsolve.errors import CaseError, RunError
from fpsolve.model.grid import FloatArray
from fpsolve.solve.exponential import Exponential
from fpsolve.solve.implicit import ImplicitStepper
from fpsolve.solve.stabilised import StabilisedStepper
from fpsolve.solve.steps import AbstractStepper, Counts, Span, Step, Timeline

StepperName: TypeAlias = Literal["implicit", "stabilised", "exponential"]

SAFETY = 0.8  # a step is doubled when the error expected of the doubled one is below this share of the allowed
MOST_HALVINGS = 40
STUBBORN = 0.5  # share of its last excess that a shorter step, refused again, shows where the chain jumps
PATIENCE = 3  # such steps in a row, after which it is taken to jump
JUMP_SHARE = 1 / 64  # of the reserve left, that a step over a jump may take
SAME_INTERVAL = 1e-9  # relative difference of intervals that is rounding


@final
@dataclass(frozen=True, slots=True)
class Pace:
    """What a march knows on its way: with it, one that was interrupted goes on as if it had not been.

    first_step: the step that it began with [time]; memory: numbers of its own, see the marches.
    """

    stepper: StepperName
    first_step: float
    memory: tuple[float, ...] = ()


@final
@dataclass(frozen=True, slots=True)
class Moment:
    """The state at a saved time.

    left: probability gone through each gate since the start, (gates,); pace: how to go on from here, None where only
    an earlier or a later moment can tell.
    """

    time: float
    probability: FloatArray
    left: FloatArray
    pace: Pace | None = None


@final
@dataclass(frozen=True, slots=True)
class Budget:
    """The L1 error that a march may make, and how it is spread.

    exp(tQ) never stretches an L1 distance, so local errors add at most. Four tenths of the tolerance are spread evenly
    over time, four over its logarithm, so that a quick start before a long rest gets its share; two are kept for jumps
    of the chain that nobody announced, as where a formula has a kink: the error of a step over one falls no faster than
    its share.
    """

    tolerance: float
    start: float
    stop: float
    first_step: float

    def allowance(self, time: float, time_step: float) -> float:
        """L1 error that a step may make; over all steps it sums to the tolerance."""
        since, whole = time - self.start + self.first_step, self.stop - self.start
        share = np.log1p(time_step / since) / np.log1p(whole / self.first_step)
        return float(0.4 * self.tolerance * (time_step / whole + share))

    @property
    def reserve(self) -> float:
        """What is kept for jumps."""
        return 0.2 * self.tolerance


def evolve(
    timeline: Timeline,
    first: Moment,
    times: FloatArray,
    tolerance: float,
    stepper: StepperName,
    counts: Counts,
    *,
    start: float | None = None,
    progress: Callable[[float], None] | None = None,
) -> Iterator[Moment]:
    """Yield the state at each of the times (increasing, after that of the first moment).

    tolerance bounds the L1 error in time of every state, from `start` (the time of the first moment, unless given) to
    the last one. A first moment with a pace is one of an earlier march, which goes on. progress: told of every step.

    Raises CaseError for times out of order; RunError when no step is short enough.
    """
    if (np.diff(times, prepend=first.time) <= 0.0).any() or not np.isfinite(times).all():
        raise CaseError("evolve.times", "the times do not increase", "They must be finite and increasing", "")
    if times.size == 0:
        return
    begin, moment = first.time if start is None else start, first
    for span in timeline.spans(first.time, float(times[-1])):
        pace = moment.pace or Pace(stepper, first_step(span, moment.probability, float(times[0]) - begin))
        budget = Budget(tolerance, begin, float(times[-1]), pace.first_step)
        wanted = times[(times > span.begin) & (times <= span.end)]
        stops = wanted if wanted.size and wanted[-1] == span.end else np.append(wanted, span.end)
        march = MARCHES[pace.stepper](span, budget, counts, pace, progress or (lambda _: None))
        for reached in march.through(moment, stops):
            moment = reached
            if moment.time in wanted:
                yield moment


def first_step(span: Span, probability: FloatArray, longest: float) -> float:
    """A first step in which about a tenth of the probability moves on: a power of two of the longest."""
    moving = float(np.abs(span.generator(span.begin).apply(probability)).sum())
    if not np.isfinite(moving):
        found = f"probability moves at a rate of {moving} at t = {span.begin:g}"
        raise RunError("evolve", found, "Rates must be finite", "Check the size of the drift and the diffusion")
    halvings = np.ceil(np.log2(max(longest * moving / 0.1, 1.0)))
    return float(longest / 2.0 ** np.clip(halvings, 0, MOST_HALVINGS))


@dataclass(slots=True)
class AbstractMarch(abc.ABC):
    """A way through a span that meets every stop."""

    span: Span
    budget: Budget
    counts: Counts
    pace: Pace
    progress: Callable[[float], None]

    @abc.abstractmethod
    def through(self, moment: Moment, stops: FloatArray) -> Iterator[Moment]:
        """Yield the state at every stop."""


@final
@dataclass(slots=True)
class SteppedMarch(AbstractMarch):
    """Single steps, of the interval between two stops over a power of two, longer or shorter as the error asks.

    So few lengths, and few factorisations, occur. Its memory is the length of the next step, and what is left of the
    reserve.
    """

    stepper: AbstractStepper = field(init=False)
    interval: float = field(init=False)  # between the two stops
    halvings: int = field(init=False)
    reserve: float = field(init=False)
    excess: float = np.inf  # error of the step refused last over what it might have made
    stubborn: int = 0

    def __post_init__(self) -> None:
        self.stepper = STEPPERS[self.pace.stepper](self.span, self.counts)

    def through(self, moment: Moment, stops: FloatArray) -> Iterator[Moment]:
        """Yield the state at every stop."""
        # Explicit steps of a constant chain may be of any length at no loss: they turn into a series.
        bold = self.pace.stepper == "stabilised" and self.span.constant
        begin = float(stops[0] - moment.time) if bold else self.pace.first_step
        time_step, self.reserve = self.pace.memory or (begin, self.budget.reserve)
        for stop, interval in zip(stops, _rounded(np.diff(stops, prepend=moment.time)), strict=True):
            self.interval = float(interval)
            self.halvings = int(np.clip(np.round(np.log2(interval / time_step)), 0, MOST_HALVINGS))
            moment = self._to(moment, float(stop))
            time_step = self.interval / 2**self.halvings
            yield moment

    def _to(self, moment: Moment, stop: float) -> Moment:
        """March to the next stop."""
        probability, left = moment.probability, moment.left
        done, whole = 0, 1 << MOST_HALVINGS  # position in the interval in units of the shortest step
        while done < whole:
            time_step, now = self.interval / 2**self.halvings, moment.time + self.interval * done / whole
            allowed = self.budget.allowance(now, time_step)
            step = self.stepper.step(probability, now, time_step, allowed)
            if not step.error <= allowed and not self._jumps(step.error, step.error / allowed):
                self._shorten(step.error / allowed, now)
                continue
            self.counts.steps += 1
            self.counts.limited += step.limited
            probability, left, done = step.probability, left + step.left, done + (whole >> self.halvings)
            self.progress(now + time_step)
            self._lengthen(step.error / allowed, done)
        pace = replace(self.pace, memory=(self.interval / 2**self.halvings, self.reserve))
        return Moment(stop, probability, left, pace)

    def _jumps(self, error: float, excess: float) -> bool:
        """Whether a step is taken for one over a jump, small enough to be paid for by the reserve; then it is."""
        self.stubborn = self.stubborn + 1 if excess > STUBBORN * self.excess else 0
        self.excess = excess
        if self.stubborn < PATIENCE or not error <= JUMP_SHARE * self.reserve:
            return False
        self.reserve, self.excess, self.stubborn = self.reserve - error, np.inf, 0
        return True

    def _shorten(self, excess: float, time: float) -> None:
        """Halve as often as the excess asks; the error estimate falls as step**error_order, the allowance as step."""
        self.counts.rejected += 1
        power = self.stepper.error_order - 1
        self.halvings += int(np.clip(np.ceil(np.log2(excess) / power), 1, 6)) if np.isfinite(excess) else 1
        if self.halvings > MOST_HALVINGS:
            found = f"the error estimate asks for steps below 1e-12 of the saved interval at t = {time:g}"
            raise RunError("evolve", found, "Rounding errors leave no room for it", "Raise evolve.tolerance")

    def _lengthen(self, used: float, done: int) -> None:
        """Double while the longer step would still be well within the allowance and ends on a multiple of itself."""
        gain = 2 ** (self.stepper.error_order - 1)
        while self.halvings > 0 and used * gain <= SAFETY and done % (1 << (MOST_HALVINGS - self.halvings + 1)) == 0:
            self.halvings -= 1
            used *= gain


@final
@dataclass(slots=True)
class ExponentialMarch(AbstractMarch):
    """Exponentials, each of which serves as many stops as it can. Its memory is that of `Exponential`."""

    stepper: Exponential = field(init=False)

    def __post_init__(self) -> None:
        self.stepper = Exponential.of(self.span.generator(self.span.begin), memory=self.pace.memory)

    def through(self, moment: Moment, stops: FloatArray) -> Iterator[Moment]:
        """Yield the state at every stop; only from the last of those served together can another march go on."""
        while stops.size:
            durations = stops - moment.time
            allowed = self.budget.allowance(moment.time, float(durations[0]))
            steps = self._served(moment.probability, durations, allowed)
            paces = [None] * (len(steps) - 1) + [replace(self.pace, memory=self.stepper.memory)]
            moments = [
                Moment(float(stop), step.probability, moment.left + step.left, pace)
                for stop, step, pace in zip(stops[: len(steps)], steps, paces, strict=True)
            ]
            yield from moments
            moment, stops = moments[-1], stops[len(steps) :]
            self.progress(moment.time)

    def _served(self, probability: FloatArray, durations: FloatArray, allowed: float) -> list[Step]:
        """The steps to the leading durations, counted."""
        before = (self.stepper.factorisations, self.stepper.solves)
        steps = self.stepper.advance(probability, durations, allowed)
        self.counts.factorisations += self.stepper.factorisations - before[0]
        self.counts.solves += self.stepper.solves - before[1]
        self.counts.steps += 1
        self.counts.limited += any(step.limited for step in steps)
        return steps


def _rounded(intervals: FloatArray) -> FloatArray:
    """Intervals that differ by rounding only made equal, so that they share a factorisation."""
    return np.where(np.abs(intervals / intervals[0] - 1.0) < SAME_INTERVAL, intervals[0], intervals)


STEPPERS: dict[StepperName, type[AbstractStepper]] = {"implicit": ImplicitStepper, "stabilised": StabilisedStepper}
MARCHES: dict[StepperName, type[AbstractMarch]] = {
    "implicit": SteppedMarch,
    "stabilised": SteppedMarch,
    "exponential": ExponentialMarch,
}
