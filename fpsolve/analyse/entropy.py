"""How far a density is from rest."""

from __future__ import annotations

import numpy as np

from fpsolve.discretise.generator import Generator
from fpsolve.errors import RunError
from fpsolve.model.grid import FloatArray
from fpsolve.solve.elimination import memory_needed, memory_of_machine, seconds_needed
from fpsolve.solve.stationary import is_reversible, stationary

LONGEST = 10.0  # seconds that a density at rest may take, if elimination is needed for it


def log_rest(generator: Generator) -> FloatArray | None:
    """Logarithms of the probabilities at rest, (cells,); None where there is none, or it takes longer than LONGEST."""
    if not generator.closed or generator.pieces.max() > 0:
        return None
    grid = generator.grid
    dear = seconds_needed(grid) > LONGEST or memory_needed(grid) > memory_of_machine()
    if dear and not is_reversible(generator):
        return None
    try:
        return stationary(generator).log_probability
    except RunError:
        return None


def entropy_relative_to(probability: FloatArray, log_other: FloatArray) -> float:
    """Relative entropy of a state to another, sum P ln(P / other) [1], >= 0. log_other: (cells,).

    To the state at rest it never grows in time while the chain stays the same: it is the free energy over the
    temperature, less its minimum.
    """
    held = probability > 0.0
    share = probability[held] / probability.sum()
    return float((share * (np.log(share) - log_other[held])).sum())
