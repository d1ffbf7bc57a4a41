"""The steps of SGD in time: the learning rate, batch size and injected variance of every step.

Step k is taken at the time t_k = sum of the learning rates of the steps before it, with the values that the schedules
have at t_k and k. (The clock of the Fokker-Planck equation is the limit of small learning rates, dk/dt = 1/learning
rate.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from fpsolve.errors import CaseError
from fpsolve.model.grid import FloatArray, IntArray
from fpsolve.model.native import native
from fpsolve.model.schedule import AbstractSchedule, Course, Fixed, Formula, Stages
from fpsolve.solve import descent_kernels as kernels

ROUNDING = 1e-12  # relative difference of two times that is rounding
MOST_STEPS = 2**25  # of a schedule, which are kept: 256 MiB for each number that changes
CHUNK = 2**14  # steps of a schedule that are found at a time


@final
@dataclass(frozen=True, slots=True)
class Steps:
    """What SGD does in each step, as far as the last saved time.

    learning_rates [time], batch_sizes, injected [loss**2/length**2]: (steps,), or (1,) where all are the same;
    clock: times after 0, 1, ... steps, increasing, None where they are multiples of the learning rate;
    saved: steps done at the saved times, (times,).
    """

    learning_rates: FloatArray
    batch_sizes: IntArray
    injected: FloatArray
    clock: FloatArray | None
    saved: IntArray

    @classmethod
    def of(cls, course: Course, times: FloatArray) -> Steps:
        """The steps of a course. A batch size that is not whole is rounded, and at least 1.

        Raises CaseError where the learning rate or batch size is not above 0, the variance below 0, or a schedule has
        more than MOST_STEPS steps.
        """
        rate = course.schedules["learning_rate"]
        if _is_constant(rate):
            learning_rates, clock = np.array([_checked(rate(0.0, 0.0), "learning_rate", 0.0, 0.0)]), None
            saved = np.floor(times / learning_rates[0] * (1.0 + ROUNDING)).astype(np.int64)
            if not all(map(_is_constant, course.schedules.values())):
                _refuse_many(float(saved[-1]), float(times[-1]))
        else:
            learning_rates, clock = _followed(rate, float(times[-1]))
            saved = np.searchsorted(clock[1:], times * (1.0 + ROUNDING), side="right").astype(np.int64)
        count = int(saved[-1])
        begins = (lambda: np.arange(count) * learning_rates[0]) if clock is None else (lambda: clock[:count])

        def values(name: str) -> FloatArray:
            given = course.schedules.get(name, Fixed(0.0))
            if _is_constant(given):
                return np.array([_checked(given(0.0, 0.0), name, 0.0, 0.0)])
            return _all_checked(_values(given, begins(), np.arange(count)), name, begins())

        sizes = np.maximum(np.floor(values("batch_size") + 0.5), 1.0).astype(np.int64)
        return cls(learning_rates, sizes, values("injected"), clock, saved)

    @property
    def count(self) -> int:
        """How many steps there are."""
        return int(self.saved[-1])

    def times(self, steps: IntArray) -> FloatArray:
        """The times after so many steps [time]."""
        return steps * self.learning_rates[0] if self.clock is None else self.clock[steps]


def _is_constant(values: AbstractSchedule) -> bool:
    """Whether a schedule has one value."""
    return not values.words


def _values(values: AbstractSchedule, times: FloatArray, steps: IntArray) -> FloatArray:
    """A schedule at some times and counts of steps."""
    if isinstance(values, Stages):
        now = steps if values.in_steps else times * (1.0 + ROUNDING)
        return np.array(values.values)[np.searchsorted(values.ends_at, now, side="right")]
    assert isinstance(values, Formula)
    with np.errstate(all="ignore"):
        return values.expression(np.array([times, steps], dtype=np.float64))


def _followed(rate: AbstractSchedule, end: float) -> tuple[FloatArray, FloatArray]:
    """Learning rates of all steps that begin before a time, (steps,), and the clock, (steps + 1,)."""
    found, clocks, count, now = [np.empty(0)], [np.zeros(1)], 0, 0.0
    while now < end * (1.0 - ROUNDING):
        _refuse_many(count, now)
        some = _next_rates(rate, now, count)
        lengths = np.where(np.isfinite(some) & (some > 0.0), some, np.inf)  # after a bad one no step begins
        sums = now + np.cumsum(lengths, dtype=np.longdouble).astype(np.float64)
        begins = np.concatenate([[now], sums[:-1]])
        needed = begins < end * (1.0 - ROUNDING)
        found.append(_all_checked(some[needed], "learning_rate", begins[needed], count))
        clocks.append(sums[needed])
        count, now = count + found[-1].size, float(clocks[-1][-1])
    return np.concatenate(found), np.concatenate(clocks)


def _next_rates(rate: AbstractSchedule, now: float, count: int) -> FloatArray:
    """Learning rates of some more steps."""
    if isinstance(rate, Stages) and not rate.in_steps:
        stage = int(np.searchsorted(rate.ends_at, now * (1.0 + ROUNDING), side="right"))
        value, left = rate.values[stage], [*rate.ends_at, math.inf][stage] - now
        within = min(CHUNK, left / value) if value > 0.0 else 1.0
        return np.full(max(1, math.ceil(within * (1.0 - ROUNDING))), value)
    if isinstance(rate, Formula) and "t" in rate.expression.names:
        rates = np.empty(CHUNK)
        native((rate.expression,), 2, (kernels.follow,), ()).follow(now, float(count), rates)
        return rates
    return _values(rate, np.zeros(CHUNK), np.arange(count, count + CHUNK))


def _all_checked(values: FloatArray, name: str, times: FloatArray, first: int = 0) -> FloatArray:
    """The values, none of which is bad."""
    bad = ~np.isfinite(values) | (values < 0.0) | (values == 0.0 if name != "injected" else False)
    if bad.any():
        step = int(np.argmax(bad))
        _checked(float(values[step]), name, float(times[step]), float(first + step))
    return values


def _checked(value: float, name: str, time: float, step: float) -> float:
    """A value; above 0, or at least 0 for a variance. Raises CaseError."""
    least = name == "injected"
    if not (math.isfinite(value) and (value > 0.0 or (least and value == 0.0))):
        found = f"it is {value:g} at t = {time:g}, k = {step:g}"
        required = f"It must be a finite number{', 0 or more,' if least else ' above 0'} at all times"
        raise CaseError(f"noise.{name}", found, required, "")
    return value


def _refuse_many(count: float, time: float) -> None:
    if count > MOST_STEPS:
        found, required = f"{count:.3g} steps reach t = {time:g}", f"A schedule of SGD is followed for {MOST_STEPS}"
        raise CaseError("ensemble.times", found, required, "Ask for earlier times, or take larger learning rates")
