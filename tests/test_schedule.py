"""Schedules and the clock that counts SGD steps, against closed forms."""

import functools
import math
import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fpsolve.errors import CaseError
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import AmplitudeNoise, ConstantNoise, HessianNoise, TensorNoise
from fpsolve.model.schedule import Clock, Course, Stage, schedule

PLACE = "noise.learning_rate"
WELL = Landscape("x**2/2", variables=("x",))
THREE = [Stage(0.1, steps=100), Stage(0.02, steps=50), Stage(0.001, steps=10)]
LASTING = [Stage(0.1, time=2.0), Stage(0.05, time=1.0), Stage(0.25, time=1.0)]
# Accuracy of a clock whose rate is a formula, 1e-12 a step of its integration, and a margin: it takes tens of them.
CLOCK = 1e-10


def clock_of(given, **parameters):
    return Clock(schedule(given, parameters, PLACE))


@functools.cache
def held_clock(text):
    """One clock for all examples, so that it is asked in any order."""
    return clock_of(next(given for given, _ in CLOCKS.values() if str(given) == text))


def course_of(**given):
    return Course({name: schedule(value, {}, f"noise.{name}") for name, value in given.items()})


# --- the clock: k(t) of dk/dt = 1 / learning_rate(t, k), and the learning rate as a function of t

CLOCKS = {
    "a number": (0.1, lambda t: t / 0.1),
    "a constant formula": ("0.1", lambda t: t / 0.1),
    "a/(k + k0)": ("0.5/(k + 10)", lambda t: 10.0 * math.expm1(t / 0.5)),
    "exponential in t": ("0.1*exp(-t)", lambda t: 10.0 * math.expm1(t)),
    "1/sqrt(k)": ("0.1/sqrt(1 + k)", lambda t: (1.0 + t / 0.2) ** 2 - 1.0),
    "growing": ("0.1*(1 + t)", lambda t: 10.0 * math.log1p(t)),
    "stages in steps": (
        THREE, lambda t: t / 0.1 if t < 10.0 else 100 + (t - 10) / 0.02 if t < 11.0 else 150 + (t - 11) / 0.001
    ),
    "stages in time": (
        LASTING, lambda t: t / 0.1 if t < 2.0 else 20 + (t - 2) / 0.05 if t < 3.0 else 40 + (t - 3) / 0.25
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "steps"), CLOCKS.values(), ids=CLOCKS)
def test_the_clock_counts_steps(given, steps):
    clock = clock_of(given)
    assert clock.steps(0.0) == 0.0
    for time in (0.0, 1e-6, 0.3, 1.0, 2.0, 2.5, 3.0, 5.0, 10.0, 10.5, 11.0, 12.0, 1.5, 0.01):
        assert clock.steps(time) == pytest.approx(steps(time), rel=CLOCK, abs=CLOCK)


@pytest.mark.parametrize(("given", "steps"), CLOCKS.values(), ids=CLOCKS)
def test_the_clock_tells_when_a_step_is_done(given, steps):
    clock = clock_of(given)
    assert clock.time(0.0) == 0.0
    for time in (1e-3, 0.3, 1.0, 2.0, 3.0, 7.5):
        assert clock.time(steps(time)) == pytest.approx(time, rel=CLOCK)


@pytest.mark.parametrize("given", [entry[0] for entry in CLOCKS.values()], ids=CLOCKS)
@settings(max_examples=30)
@example(time=0.0)
@given(time=st.floats(0.0, 8.0, allow_subnormal=False))
def test_steps_and_times_are_each_others_inverse(given, time):
    clock = held_clock(str(given))
    steps = clock.steps(time)
    assert clock.time(steps) == pytest.approx(time, rel=CLOCK, abs=CLOCK)
    assert clock.steps(clock.time(steps)) == pytest.approx(steps, rel=CLOCK, abs=CLOCK)
    assert clock.steps(time + 0.1) > steps


@given(
    stages=st.lists(
        st.tuples(st.floats(1e-3, 10.0), st.floats(1e-2, 1e4)), min_size=1, max_size=6
    ),
    in_steps=st.booleans(),
    at=st.floats(1e-200, 1.5),
)  # fmt: skip
def test_any_stages_sum_up(stages, in_steps, at):
    """t is the sum of value times steps over what is done of every stage; the last one never ends."""
    made = [Stage(value, steps=length) if in_steps else Stage(value, time=length) for value, length in stages]
    clock = clock_of(made)
    lengths = [length if in_steps else length / value for value, length in stages]
    done = at * sum(lengths)
    left, time = done, 0.0
    for number, ((value, _), length) in enumerate(zip(stages, lengths, strict=True)):
        part = left if number == len(stages) - 1 else min(left, length)
        time += value * part
        left -= part
    assert clock.time(done) == pytest.approx(time, rel=1e-12)
    # Rounding of the time counts by the steps that the smallest learning rate makes of it.
    rounding = 16 * np.finfo(float).eps * time / min(value for value, _ in stages)
    assert clock.steps(time) == pytest.approx(done, rel=1e-12, abs=rounding)


def test_stages_are_exact():
    """Numbers that floating point holds exactly: no rounding at all."""
    clock = clock_of([Stage(0.5, steps=8), Stage(0.25, steps=4), Stage(0.125, steps=1)])
    assert [clock.steps(time) for time in (2.0, 4.0, 4.5, 5.0, 6.0)] == [4.0, 8.0, 10.0, 12.0, 20.0]
    assert [clock.time(step) for step in (4.0, 8.0, 10.0, 12.0, 20.0)] == [2.0, 4.0, 4.5, 5.0, 6.0]


def test_asking_in_any_order_gives_the_same():
    """The clock integrates as far as it was asked; what it said before does not change."""
    forth, back = clock_of("0.5/(k + 10)"), clock_of("0.5/(k + 10)")
    times = np.linspace(0.1, 5.0, 12)
    first = [forth.steps(time) for time in times]
    second = [back.steps(time) for time in times[::-1]][::-1]
    np.testing.assert_allclose(first, second, rtol=CLOCK)
    assert [forth.steps(time) for time in times] == first


def test_a_step_that_is_never_reached():
    """1/learning_rate so small that k stays below 1 for ever: dk/dt = exp(-t), k < 1."""
    assert clock_of("exp(t)").time(0.5) == pytest.approx(math.log(2.0), rel=CLOCK)
    with pytest.raises(CaseError, match=rf"^{PLACE}: "), np.errstate(all="ignore"):
        clock_of("exp(t)").time(2.0)


@pytest.mark.parametrize(
    ("given", "steps"),
    [("0.1*(1 - t/10)", lambda t: -100.0 * math.log1p(-t / 10)), ("0.1*sqrt(1 - t/10)", None)],
)
def test_a_learning_rate_may_fall_to_zero_after_the_end(given, steps):
    """As far as is asked there are steps, however near the end of time; nothing beyond it matters."""
    clock = clock_of(given)
    if steps is not None:
        for time in (1.0, 6.0, 9.0, 9.99, 9.999999):
            assert clock.steps(time) == pytest.approx(steps(time), rel=CLOCK)
        assert clock_of(given).time(700.0) == pytest.approx(-10.0 * math.expm1(-7.0), rel=CLOCK)
    with pytest.raises(CaseError, match=r"^noise.learning_rate: it is "), np.errstate(invalid="ignore"):
        clock.steps(10.5)


# --- values


def test_values_at_jumps_are_those_of_the_next_stage():
    given = [Stage(1.0, steps=10), Stage(2.0, steps=5), Stage(3.0, steps=1)]
    values = schedule(given, {}, "noise.batch_size")
    assert [values(0.0, step) for step in (0, 9.999, 10, 14.999, 15, 16, 1e9)] == [1, 1, 2, 2, 3, 3, 3]
    lasting = schedule([Stage(1.0, time=2.0), Stage(4.0, time=1.0)], {}, "noise.batch_size")
    assert [lasting(time, None) for time in (0.0, 1.999, 2.0, 3.0, 1e9)] == [1, 1, 4, 4, 4]
    assert values.counts_steps
    assert not lasting.counts_steps
    assert not values.is_smooth


def test_a_course_jumps_where_any_number_does():
    """Steps of the batch size are counted by the learning rate: step 100 is over at t = 10, step 120 at 10.4."""
    course = course_of(
        learning_rate=THREE,
        batch_size=[Stage(1, steps=120), Stage(8, steps=1)],
        injected=[Stage(0.0, time=3.0), Stage(1.0, time=1.0)],
    )
    np.testing.assert_allclose(course.jumps, [3.0, 10.0, 10.4, 11.0], rtol=1e-14)
    assert not course.is_smooth
    assert course.at(10.2) == {"learning_rate": 0.02, "batch_size": 1, "injected": 1.0}
    for jump in course.jumps:
        assert course.at(jump * (1 - 1e-9)) != course.at(jump * (1 + 1e-9))
    np.testing.assert_allclose(course.steps(np.array([0.0, 10.0, 10.4])), [0.0, 100.0, 120.0], rtol=1e-14)
    assert course.words == (
        "learning rate 0.1, 0.02 from k = 100, 0.001 from k = 150 · batch size 1, 8 from k = 120 · "
        "injected 0, 1 from t = 3"
    )


def test_nothing_changes_where_numbers_stand():
    course = course_of(learning_rate=0.1, temperature="1/4", injected=[Stage(0.3, steps=5)])
    assert (course.jumps, course.is_smooth, course.words) == ((), False, "injected 0.3")
    assert course.at(3.0) == {"learning_rate": 0.1, "temperature": 0.25, "injected": 0.3}
    alone = course_of(temperature=[Stage(0.3, steps=5)])
    assert (alone.jumps, alone.clock, alone.at(1.0)) == ((), None, {"temperature": 0.3})
    assert alone.steps(np.array([1.0])) is None


def test_expressions_may_name_the_time_the_steps_and_parameters():
    values = schedule("a*t + b*k", {"a": 2.0, "b": 3.0}, "noise.temperature")
    assert values(0.5, 4.0) == 13.0
    assert values.is_smooth
    assert values.counts_steps
    assert values.words == "a*t + b*k"
    assert not schedule("a*t", {"a": 2.0}, "noise.temperature").counts_steps
    assert not schedule("a", {"a": 2.0}, "noise.temperature").is_smooth


def test_parameters_of_the_landscape_reach_the_noise():
    landscape = Landscape("x**2/2", variables=("x",), parameters={"a": 0.3, "k0": 9.0})
    noise = HessianNoise(learning_rate="a/(k + k0)", batch_size="1 + t")
    assert noise.at(0.0, landscape.parameters).learning_rate == pytest.approx(0.3 / 9.0)
    # D = learning_rate / (2 batch_size), and k + k0 = k0 exp(t/a)
    found = noise.diffusion_in(landscape, 0.6).matrix(np.array([[0.0]]))
    assert float(found.squeeze()) == pytest.approx(0.3 / 9.0 * math.exp(-2.0) / 2.0 / 1.6, rel=CLOCK)


@pytest.mark.parametrize(
    ("noise", "diffusion"),
    [
        (ConstantNoise(temperature="0.25*exp(-t)"), lambda t: 0.25 * math.exp(-t)),
        (ConstantNoise(temperature=0.25, learning_rate="0.1/(1+t)", injected="2*t"),
         lambda t: 0.25 + 0.1 / (1 + t) * t),
        (TensorNoise(diffusion=[["1 + t"]], learning_rate=0.1, injected="t"), lambda t: 1 + t + 0.05 * t),
        (AmplitudeNoise(noise_amplitude=[["1 + t"]]), lambda t: 0.5 * (1 + t) ** 2),
        (HessianNoise(learning_rate="0.1*exp(-t)", batch_size="1+t", injected=0.6),
         lambda t: 0.05 * math.exp(-t) * (1 / (1 + t) + 0.6)),
    ],
)  # fmt: skip
def test_noise_of_every_kind_changes_in_time(noise, diffusion):
    for time in (0.0, 0.7, 3.0):
        found = noise.diffusion_in(WELL, time).matrix(np.array([[0.4]]))
        assert float(found.squeeze()) == pytest.approx(diffusion(time), rel=1e-14)


# --- what is refused, and under which name

REFUSED = [
    ({"learning_rate": 0.0}, "noise.learning_rate: it is 0 at t = 0, k = 0. It must be a finite number above 0 at all"),
    ({"learning_rate": -0.1}, "noise.learning_rate: it is -0.1 at t = 0, k = 0."),
    ({"learning_rate": math.nan}, "noise.learning_rate: it is nan at t = 0"),
    ({"learning_rate": "0.1*t"}, "noise.learning_rate: it is 0 at t = 0"),
    ({"learning_rate": "0.1 - 0.1*t"}, "noise.learning_rate: it is "),
    ({"learning_rate": "0.1 - 0.01*k"}, "noise.learning_rate: "),
    ({"learning_rate": [Stage(0.1, time=1.0), Stage(0.0, time=1.0)]}, "noise.learning_rate: it is 0 at t = 1, k = 10."),
    ({"learning_rate": [Stage(0.0, steps=1), Stage(1.0, steps=1)]}, "noise.learning_rate: it is 0 at t = 0, k = 0."),
    ({"temperature": "0.1/(1 + k)"}, "noise.temperature: it counts SGD steps. Steps are counted where there is a "
     "learning rate. Add noise.learning_rate, or use the time t."),
    ({"batch_size": [Stage(1, steps=2), Stage(2, steps=1)]}, "noise.batch_size: it counts SGD steps. "),
    ({"temperature": [Stage(1, steps=2), Stage(2, time=1)]}, "noise.temperature: its stages are measured in different"),
    ({"temperature": [Stage(1), Stage(2)]}, "noise.temperature: its stages are measured in different ways. Every "),
    ({"temperature": [Stage(1, steps=2, time=1.0)]}, "noise.temperature: its stages are measured in different ways. "),
    ({"temperature": []}, "noise.temperature: it has no stages. At least one is needed. Give one number instead."),
    ({"temperature": [Stage(1, time=0.0), Stage(2, time=1)]}, "noise.temperature: a stage lasts for 0. A stage must "
     "last for more than 0."),
    ({"temperature": [Stage(1, time=-2.0)]}, "noise.temperature: a stage lasts for -2."),
    ({"temperature": [Stage(1, time=math.nan), Stage(2, time=1)]}, "noise.temperature: a stage lasts for nan."),
    ({"temperature": "0.1*x"}, 'noise.temperature: "x" in "0.1*x" is not a known name. '),
    ({"temperature": "exp("}, 'noise.temperature: "exp(" cannot be read: '),
    ({"injected": True}, "noise.injected: it is True. It must be a number, an expression in t or k, or stages."),
    ({"injected": {"value": 1}}, "noise.injected: it is {'value': 1}. It must be a number, "),
]  # fmt: skip


@pytest.mark.parametrize(("given", "message"), REFUSED, ids=[str(entry[0]) for entry in REFUSED])
def test_refused(given, message):
    with pytest.raises(CaseError, match=re.escape(message)):
        course_of(**given).steps(np.array([0.0, 1.0, 2.0]))


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (ConstantNoise(temperature="1 - t"), "noise.temperature: it is -1. It must be a finite number above 0."),
        (ConstantNoise(temperature="1/(2 - t)"), "noise.temperature: it is "),
        (HessianNoise(learning_rate=0.1, batch_size="2 - t"), "noise.batch_size: it is 0. It must be a finite number "),
        (HessianNoise(learning_rate=0.1, batch_size=1, injected="1 - t"), "noise.injected: it is -1. It must be a "
         "finite number, 0 or more."),
        (ConstantNoise(temperature=1.0, injected=0.5), "noise.injected: there is no learning rate. Injected noise acts "
         "once in every SGD step. Add noise.learning_rate."),
        (HessianNoise(learning_rate="0.1*exp(-t)*(t - 3)", batch_size=1), "noise.learning_rate: it is -0.3 at t = 0"),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused_at_their_time(noise, message):
    with pytest.raises(CaseError, match=re.escape(message)), np.errstate(divide="ignore"):
        noise.diffusion_in(WELL, 2.0)
