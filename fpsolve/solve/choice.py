"""Which stepper: the one that is asked for, or the cheapest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, final

from fpsolve.errors import CaseError
from fpsolve.model.grid import FloatArray
from fpsolve.solve.evolve import StepperName
from fpsolve.solve.steps import Timeline


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
    if wanted != "auto":
        return Choice(wanted)
    return Choice("implicit", "it is the only one")
