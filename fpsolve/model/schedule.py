"""Schedules: numbers of the noise that change in time, and the clock that counts SGD steps.

One SGD step takes the learning rate, also while that changes: dk/dt = 1 / learning_rate, so that t is the sum of the
learning rates of the steps so far.
"""

from __future__ import annotations

import abc
import functools
import itertools
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias, final

import numpy as np
from scipy.integrate import DenseOutput, solve_ivp
from scipy.optimize import brentq

from fpsolve.errors import CaseError
from fpsolve.model.expressions import Expression
from fpsolve.model.grid import FloatArray

# Accuracy of a clock whose rate is a formula; its error is far below one step.
CLOCK_ACCURACY = 1e-12
MOST_EVALUATIONS = 5_000  # of the learning rate in one stretch; as it falls to 0, k may grow beyond bounds
MOST_STRETCHES = 200  # on the way to a step
MOST_HALVINGS = 5_000  # of a bracket around a time, which may be as small as floating point holds


@final
@dataclass(frozen=True, slots=True)
class Stage:
    """A value that holds for so many SGD steps, or for so long; the last stage of a schedule never ends."""

    value: float
    steps: float | None = None
    time: float | None = None  # [time]


# A number, an expression in t (time) or k (SGD steps), or stages one after the other.
Scheduled: TypeAlias = "float | str | list[Stage] | tuple[Stage, ...]"


class AbstractSchedule(abc.ABC):
    """A number as a function of the time and the count of SGD steps."""

    @abc.abstractmethod
    def __call__(self, time: float, step: float | None) -> float:
        """The value at a time; step: SGD steps done by then, None where there is no clock."""

    @property
    def counts_steps(self) -> bool:
        """Whether the value depends on the count of SGD steps."""
        return False

    @property
    def is_smooth(self) -> bool:
        """Whether the value changes continuously, not by jumps (or not at all)."""
        return False

    @property
    def words(self) -> str:
        """How the value changes; empty where it does not."""
        return ""

    def ends(self, clock: Clock | None) -> list[float]:
        """Times at which the value jumps."""
        return []


@final
@dataclass(frozen=True, slots=True)
class Fixed(AbstractSchedule):
    """One number for all times."""

    value: float

    def __call__(self, time: float, step: float | None) -> float:
        """The number."""
        return self.value


@final
@dataclass(frozen=True, slots=True)
class Formula(AbstractSchedule):
    """An expression in t and k."""

    expression: Expression

    def __call__(self, time: float, step: float | None) -> float:
        """The value; NaN where k is asked for and unknown."""
        return float(self.expression(np.array([[time], [np.nan if step is None else step]]))[0])

    @property
    def counts_steps(self) -> bool:
        """Whether k occurs."""
        return any(str(symbol) == "k" for symbol in self.expression.tree.free_symbols)

    @property
    def is_smooth(self) -> bool:
        """Whether anything occurs that changes."""
        return not self.expression.is_constant

    @property
    def words(self) -> str:
        """The expression."""
        return self.expression.text if self.is_smooth else ""


@final
@dataclass(frozen=True, slots=True)
class Stages(AbstractSchedule):
    """Values one after the other. ends_at: when each but the last is over, (stages - 1,), in steps or in time."""

    values: tuple[float, ...]
    ends_at: tuple[float, ...]
    in_steps: bool

    def __call__(self, time: float, step: float | None) -> float:
        """The value of the stage under way; at the end of a stage, the next one's."""
        now = step if self.in_steps else time
        return self.values[int(np.searchsorted(self.ends_at, np.nan if now is None else now, side="right"))]

    @property
    def counts_steps(self) -> bool:
        """Whether stages last for steps, not for a time."""
        return self.in_steps and len(self.values) > 1

    @property
    def words(self) -> str:
        """The values, and when each but the first begins."""
        begins = [f" from {'k' if self.in_steps else 't'} = {end:g}" for end in self.ends_at]
        return ", ".join(f"{value:g}{begin}" for value, begin in zip(self.values, ["", *begins], strict=True))

    def ends(self, clock: Clock | None) -> list[float]:
        """Times at which one stage gives way to the next."""
        if not self.counts_steps:
            return list(self.ends_at)
        assert clock is not None
        return [clock.time(end) for end in self.ends_at]


@functools.lru_cache(maxsize=64)
def _formula(text: str, parameters: tuple[tuple[str, float], ...], where: str) -> Formula:
    return Formula(Expression.schedule(text, dict(parameters), where))


def schedule(given: Scheduled, parameters: Mapping[str, float], where: str) -> AbstractSchedule:
    """Read what a user gave for one number. Raises CaseError naming the place where it makes no sense."""
    if isinstance(given, str):
        return _formula(given, tuple(sorted(parameters.items())), where)
    if isinstance(given, list | tuple):
        return _stages(given, where)
    if isinstance(given, bool) or not isinstance(given, int | float | np.number):
        required = "It must be a number, an expression in t or k, or stages"
        raise CaseError(where, f"it is {given!r}", required, "")
    return Fixed(float(given))


def _stages(given: Sequence[Stage], where: str) -> Stages:
    if not given:
        raise CaseError(where, "it has no stages", "At least one is needed", "Give one number instead")
    units = {(stage.steps is not None, stage.time is not None) for stage in given}
    if units not in ({(True, False)}, {(False, True)}):
        required = "Every stage has a value, and steps or time, the same for all stages"
        raise CaseError(where, "its stages are measured in different ways", required, "Use steps throughout, or time")
    in_steps = given[0].steps is not None
    lengths = np.array([stage.steps if in_steps else stage.time for stage in given], dtype=np.float64)
    if not (lengths > 0.0).all():
        raise CaseError(where, f"a stage lasts for {lengths.min():g}", "A stage must last for more than 0", "")
    return Stages(tuple(stage.value for stage in given), tuple(np.cumsum(lengths)[:-1].tolist()), in_steps)


@final
class Clock:
    """The count k of SGD steps as a function of the time: k(0) = 0, dk/dt = 1 / learning_rate.

    Exact for numbers and stages; for a formula in t or k by an integration with error control, as far as is asked.
    Raises CaseError where the learning rate is not above 0.
    """

    def __init__(self, learning_rate: AbstractSchedule) -> None:
        self._rate = learning_rate
        self._times, self._steps = [0.0], [0.0]  # knots: ends of stages, or of stretches integrated so far
        self._parts: list[DenseOutput] = []
        self._forbidden = math.inf  # a time to which nothing can be integrated
        if isinstance(learning_rate, Stages):
            for value, end in zip(learning_rate.values, learning_rate.ends_at, strict=False):
                last_time, last_step = self._times[-1], self._steps[-1]
                self._positive(value, last_time, last_step)
                in_steps = learning_rate.in_steps
                self._times.append(last_time + value * (end - last_step) if in_steps else end)
                self._steps.append(end if in_steps else last_step + (end - last_time) / value)

    def steps(self, time: float) -> float:
        """SGD steps done at a time >= 0."""
        if isinstance(self._rate, Formula):
            self._reach(time)
            if time <= 0.0:
                return 0.0
            return float(self._parts[int(np.searchsorted(self._times, time)) - 1](time)[0])
        knot = int(np.searchsorted(self._times, time, side="right")) - 1
        return self._steps[knot] + (time - self._times[knot]) / self._value(knot)

    def time(self, steps: float) -> float:
        """The time [time] at which so many SGD steps are done."""
        if not isinstance(self._rate, Formula):
            knot = int(np.searchsorted(self._steps, steps, side="right")) - 1
            return self._times[knot] + (steps - self._steps[knot]) * self._value(knot)
        if steps <= 0.0:
            return 0.0
        self._reach_step(steps)
        return float(
            brentq(
                lambda time: self.steps(time) - steps,
                0.0,
                self._times[-1],
                xtol=1e-300,
                rtol=1e-14,
                maxiter=MOST_HALVINGS,
            )
        )

    def _value(self, knot: int) -> float:
        """The learning rate after a knot."""
        time, step = self._times[knot], self._steps[knot]
        return self._positive(self._rate(time, step), time, step)

    def _slope(self, time: float, step: float) -> float:
        return self._positive(self._rate(time, step), time, step)

    def _reach(self, time: float) -> None:
        """Know the steps up to a time, and as far again where the learning rate allows it: that is asked for next."""
        if self._times[-1] >= time:
            return
        twice = 2.0 * self._times[-1]
        if time < twice < self._forbidden:
            try:
                self._integrate(twice)
            except CaseError:
                self._forbidden = twice
            else:
                return
        self._integrate(time)

    def _reach_step(self, steps: float) -> None:
        """Know the time up to a step, by stretches that grow as long as the learning rate stays above 0."""
        stretch = steps * self._slope(0.0, 0.0)
        for _ in range(MOST_STRETCHES):
            if self._steps[-1] >= steps:
                return
            try:
                self._integrate(self._times[-1] + stretch, 2.0 * steps)
                stretch *= 2.0
            except CaseError:
                stretch *= 0.5
        found, required = f"step {steps:g} is never reached", "The steps that are counted must be"
        raise CaseError("noise.learning_rate", found, required, "Use times, or a learning rate that falls faster")

    def _integrate(self, end: float, most_steps: float = math.inf) -> None:
        """Integrate dk/dt = 1 / learning_rate(t, k) from where it is known to a time, or to so many steps."""
        evaluations = itertools.count()

        def rate(time: float, step: FloatArray) -> list[float]:
            if next(evaluations) == MOST_EVALUATIONS:
                self._refuse(time, float(step[0]))
            return [1.0 / self._slope(time, float(step[0]))]

        def enough(time: float, step: FloatArray) -> float:
            return float(step[0]) - min(most_steps, sys.float_info.max)

        enough.terminal = True  # type: ignore[attr-defined]
        accuracy = {"rtol": CLOCK_ACCURACY, "atol": CLOCK_ACCURACY}
        span, first = (self._times[-1], end), [self._steps[-1]]
        found: Any = solve_ivp(rate, span, first, method="DOP853", dense_output=True, events=enough, **accuracy)
        if not found.success:
            self._refuse(float(found.t[-1]), float(found.y[0, -1]))
        self._parts.append(found.sol)
        self._times.append(float(found.t[-1]))
        self._steps.append(float(found.y[0, -1]))

    def _refuse(self, time: float, step: float) -> NoReturn:
        """The learning rate falls to 0, and k rises beyond all bounds."""
        found = f"it is {self._rate(time, step):g} at t = {time:g}, k = {step:g}, and falls to 0"
        raise CaseError("noise.learning_rate", found, "It must stay above 0 until the end", "")

    def _positive(self, value: float, time: float, step: float) -> float:
        if not value > 0.0 or not np.isfinite(value):
            found = f"it is {value:g} at t = {time:g}, k = {step:g}"
            raise CaseError("noise.learning_rate", found, "It must be a finite number above 0 at all times", "")
        return value


@final
@dataclass(frozen=True)
class Course:
    """What the numbers of a noise do in time.

    schedules: by name; clock: counts SGD steps, where the noise has a learning rate.
    """

    schedules: Mapping[str, AbstractSchedule]
    clock: Clock | None = field(init=False)

    def __post_init__(self) -> None:
        rate = self.schedules.get("learning_rate")
        object.__setattr__(self, "clock", None if rate is None else Clock(rate))
        for name, values in self.schedules.items():
            if values.counts_steps and self.clock is None:
                found, required = "it counts SGD steps", "Steps are counted where there is a learning rate"
                raise CaseError(f"noise.{name}", found, required, "Add noise.learning_rate, or use the time t")

    @property
    def is_smooth(self) -> bool:
        """Whether a number changes continuously."""
        return any(values.is_smooth for values in self.schedules.values())

    @property
    def words(self) -> str:
        """What changes: 'learning rate 0.1 / (1 + k/100) · batch size 1, 8 from k = 100'; empty where nothing does."""
        parts = {name.replace("_", " "): values.words for name, values in self.schedules.items()}
        return " · ".join(f"{name} {words}" for name, words in parts.items() if words)

    @functools.cached_property
    def jumps(self) -> tuple[float, ...]:
        """Times > 0 at which a number jumps, increasing."""
        return tuple(sorted({end for values in self.schedules.values() for end in values.ends(self.clock)}))

    def at(self, time: float) -> dict[str, float]:
        """All numbers at a time."""
        counted = self.clock is not None and any(values.counts_steps for values in self.schedules.values())
        step = self.clock.steps(time) if self.clock is not None and counted else None
        return {name: values(time, step) for name, values in self.schedules.items()}

    def steps(self, times: FloatArray) -> FloatArray | None:
        """SGD steps done at some times, where there is a clock."""
        clock = self.clock
        return None if clock is None else np.array([clock.steps(float(time)) for time in times])
