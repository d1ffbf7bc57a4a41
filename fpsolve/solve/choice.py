"""Which stepper: the one that is asked for, or the cheapest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, final

from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError
from fpsolve.model.grid import FloatArray
from fpsolve.solve import elimination, exponential, stabilised
from fpsolve.solve.evolve import StepperName
from fpsolve.solve.steps import Timeline

# Steps that a change in time takes at least, and more for every digit that is asked for: a rough guess.
LEAST_STEPS: dict[StepperName, float] = {"implicit": 12.0, "stabilised": 190.0}
STEPS_PER_DIGIT: dict[StepperName, float] = {"implicit": 1.8, "stabilised": 3.2}  # 10**(1/4) and 10**(1/2)
USUAL_TOLERANCE = 1e-3
SOLVES_PER_STEP = 6
SECONDS_PER_CHAIN = 2e-3  # to make the rates of a chain anew, and for each of its edges
SECONDS_PER_EDGE = 3e-7


@final
@dataclass(frozen=True, slots=True)
class Choice:
    """A stepper, and why it was chosen (empty where it was asked for)."""

    stepper: StepperName
    reason: str = ""


def choose(timeline: Timeline, times: FloatArray, tolerance: float, wanted: Literal["auto"] | StepperName) -> Choice:
    """The stepper that is asked for, or, for "auto", the one that is likely the cheapest.

    Raises CaseError for the exponential of a chain that changes in time.
    """
    if wanted == "exponential" and timeline.changes:
        required = "The exponential needs a drift and a noise that stay the same, or change by stages"
        found = '"exponential" for a problem that changes in time'
        raise CaseError("evolve.stepper", found, required, 'Use "implicit", "stabilised" or "auto"')
    if wanted != "auto" or times.size < 2:
        return Choice("implicit" if wanted == "auto" else wanted)
    generator = timeline.at(float(times[0]))
    costs = (_changing if timeline.changes else _constant)(generator, times, tolerance)
    room = elimination.memory_needed(generator.grid) + exponential.memory_needed(generator.grid)
    if room > elimination.memory_of_machine():
        return Choice("stabilised", "matrices do not fit in memory")
    best, other = sorted(costs, key=lambda name: costs[name])
    words = f"about {costs[best]:.2g} s; {other} about {costs[other]:.2g} s"
    return Choice(best, words)


def _constant(generator: Generator, times: FloatArray, tolerance: float) -> dict[StepperName, float]:
    """Seconds that the steppers of a chain that does not change take."""
    durations, share = times[1:] - times[0], tolerance / (times.size - 1)
    return {
        "exponential": exponential.seconds_needed(generator, durations, share),
        "stabilised": stabilised.seconds_needed(generator, float(durations[-1]), times.size - 1, share),
    }


def _changing(generator: Generator, times: FloatArray, tolerance: float) -> dict[StepperName, float]:
    """Seconds that the steppers of a chain that changes take."""
    digits = max(0.0, math.log10(USUAL_TOLERANCE / tolerance))
    duration, intervals = float(times[-1] - times[0]), times.size - 1
    made = SECONDS_PER_CHAIN + SECONDS_PER_EDGE * generator.edges.origin.size
    steps = {name: max(intervals, LEAST_STEPS[name] * factor**digits) for name, factor in STEPS_PER_DIGIT.items()}
    matrix = made + elimination.seconds_needed(generator.grid)
    solve = elimination.seconds_to_solve(generator.grid)
    return {
        "implicit": steps["implicit"] * (5.0 * matrix + SOLVES_PER_STEP * solve),
        "stabilised": 2.0 * made * steps["stabilised"]
        + stabilised.seconds_needed(generator, duration, round(steps["stabilised"]), tolerance / steps["stabilised"]),
    }
