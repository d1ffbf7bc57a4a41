"""How far a density is from rest."""

from __future__ import annotations

import math

import numpy as np

from fpsolve.discretise.generator import Generator
from fpsolve.errors import RunError
from fpsolve.model.grid import FloatArray
from fpsolve.solve.elimination import memory_needed, memory_of_machine, seconds_needed
from fpsolve.solve.stationary import is_reversible, stationary

LONGEST = 10.0  # seconds that a density at rest may take, if elimination is needed for it


def entropy_to_rest(generator: Generator, probability: FloatArray) -> float:
    """Relative entropy of a state to the state at rest, sum P ln(P / P_rest) [1], >= 0.

    It never grows in time while the chain stays the same (the free energy over the temperature, less its minimum).
    Not a number where there is no state at rest, or where that takes longer than LONGEST.
    """
    if not generator.closed:
        return math.nan
    grid = generator.grid
    dear = seconds_needed(grid) > LONGEST or memory_needed(grid) > memory_of_machine()
    if dear and not is_reversible(generator):
        return math.nan
    try:
        rest = stationary(generator)
    except RunError:
        return math.nan
    held = probability > 0.0
    share = probability[held] / probability.sum()
    return float((share * (np.log(share) - rest.log_probability[held])).sum())
