"""First passage to a target: how long it takes from everywhere, and where the time is spent."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np

from fpsolve.discretise.generator import Generator
from fpsolve.errors import RunError
from fpsolve.model.grid import FloatArray
from fpsolve.solve.elimination import REMEDY_TOO_DEEP, Resolvent

# Share of the probability that may get lost between source and exits before a result is refused.
LARGEST_IMBALANCE = 1e-6


@final
@dataclass(frozen=True)
class Passage:
    """First passage out of a chain with exits: one factorisation serves every question."""

    generator: Generator
    resolvent: Resolvent

    @classmethod
    def of(cls, generator: Generator) -> Passage:
        """Factorise the chain absorbed at its target (and absorbing walls)."""
        return cls(generator, Resolvent.of(generator, 0.0))

    @cached_property
    def mean_time(self) -> FloatArray:
        """Mean first-passage time from every cell, (cells,) [time]: -Q^T tau = 1, tau = 0 on the target."""
        return self._positive(self.resolvent.solve_adjoint(self.generator.active.astype(np.float64)))

    @cached_property
    def mean_square_time(self) -> FloatArray:
        """Mean square of the first-passage time, (cells,) [time**2]: -Q^T s = 2 tau."""
        return self._positive(self.resolvent.solve_adjoint(2.0 * self.mean_time))

    def population(self, source: FloatArray) -> FloatArray:
        """Probability held in every cell while unit probability per time enters at the source, (cells,) [time].

        Checked: non-negative, and all that enters leaves.
        """
        population = self._positive(self.resolvent.solve(np.where(self.generator.active, source, 0.0)))
        entering = float(source[self.generator.active].sum())
        imbalance = abs(float(self.generator.outflow(population).sum()) - entering)
        if not imbalance <= LARGEST_IMBALANCE * entering:
            found = f"{imbalance / entering:.1e} of the probability that enters does not leave"
            raise RunError("first passage", found, f"At most {LARGEST_IMBALANCE:.0e} may go missing", REMEDY_TOO_DEEP)
        return population

    def _positive(self, values: FloatArray) -> FloatArray:
        lowest = float(values.min())
        if not (np.isfinite(values).all() and lowest >= 0.0):
            cell = self.generator.grid.place(int(np.argmin(values)))
            found = f"the linear solve gave {lowest:.3e} in {cell}"
            raise RunError("first passage", found, "Times and densities are finite and not negative", REMEDY_TOO_DEEP)
        return values
