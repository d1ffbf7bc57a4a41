"""One step in time. The implicit stepper: fourth order, L-stable, positive, conservative."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from fpsolve.discretise import kernels
from fpsolve.discretise.generator import Generator
from fpsolve.model.grid import FloatArray
from fpsolve.solve.elimination import Resolvent
from fpsolve.solve.ordering import Plan

# SDIRK of five stages, order 4, L-stable and stiffly accurate, with an embedded third-order formula
# (Hairer & Wanner, Solving Ordinary Differential Equations II, 1996, Table IV.6.5). All stages share one matrix.
DIAGONAL = 0.25
STAGES = (
    (),
    (1 / 2,),
    (17 / 50, -1 / 25),
    (371 / 1360, -137 / 2720, 15 / 544),
    (25 / 24, -49 / 48, 125 / 16, -85 / 12),
)
WEIGHTS = (25 / 24, -49 / 48, 125 / 16, -85 / 12, 1 / 4)
ERROR_WEIGHTS = (-3 / 16, -27 / 32, 25 / 32, 0.0, 1 / 4)
ORDER = 4


@final
@dataclass(frozen=True, slots=True)
class Step:
    """The state after a step.

    probability: (cells,), >= 0; left: probability that went out through each gate, (gates,); error: estimate of the
    L1 error that the step made; limited: whether the positive method had to help.
    """

    probability: FloatArray
    left: FloatArray
    error: float
    limited: bool


@final
@dataclass(frozen=True, slots=True)
class ImplicitStepper:
    """Steps of one length through dP/dt = Q P, with one factorisation.

    Probability is complete: the new state is balanced against what went out through the gates. Where the fourth-order
    step would take more from a cell than it has, four implicit Euler steps of a quarter of the length (the same
    matrix; positive for any length) serve instead, corrected towards fourth order along the edges as far as every
    cell stays >= 0 (Zalesak 1979).
    """

    generator: Generator
    time_step: float
    resolvent: Resolvent

    @classmethod
    def of(
        cls, generator: Generator, time_step: float, *, plan: Plan | None = None, threads: int | None = None
    ) -> ImplicitStepper:
        """Factorise 1 - DIAGONAL * time_step * Q, up to a factor. plan, threads: as for `Resolvent`."""
        shift = 1.0 / (DIAGONAL * time_step)
        return cls(generator, time_step, Resolvent.of(generator, shift, plan=plan, threads=threads))

    def step(self, probability: FloatArray) -> Step:
        """Advance by one time step."""
        stages, slopes = self._stages(probability)
        mean = self.time_step * np.tensordot(WEIGHTS, stages, 1)  # integral of P over the step, fourth order
        error = float(np.abs(np.tensordot(ERROR_WEIGHTS, slopes, 1)).sum())
        proposed = stages[-1]
        if proposed.min() >= 0.0:
            left = self.generator.outflow(mean)
            return Step(balanced(proposed, probability.sum() - left.sum()), left, error, False)
        limited, left = self._limited(probability, mean)
        return Step(limited, left, error + float(np.abs(limited - proposed).sum()), True)

    def _implicit(self, right: FloatArray) -> FloatArray:
        """(1 - DIAGONAL * time_step * Q)^-1 right."""
        return self.resolvent.solve(right / (DIAGONAL * self.time_step))

    def _stages(self, probability: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Stage values and time_step * Q values, (stages, cells) each; the last value is the new state.

        A slope is read off its stage's own equation, (value - right) / DIAGONAL: Q itself would multiply rounding
        errors by the largest rate.
        """
        stages = np.empty((len(STAGES), probability.size))
        slopes = np.empty_like(stages)
        for number, coefficients in enumerate(STAGES):
            right = probability + np.tensordot(coefficients, slopes[:number], 1)
            stages[number] = self._implicit(right)
            slopes[number] = (stages[number] - right) / DIAGONAL
        return stages, slopes

    def _limited(self, probability: FloatArray, mean: FloatArray) -> tuple[FloatArray, FloatArray]:
        """The state and what left, with the integral over the step limited so that no cell falls below zero."""
        generator = self.generator
        state, low = probability, np.zeros_like(probability)
        for _ in range(round(1.0 / DIAGONAL)):
            state = self._implicit(state)
            low += DIAGONAL * self.time_step * state
        edges, exits = generator.edges, generator.exits
        extra = generator.current(mean - low)
        leaving = exits.rate * (mean - low)[exits.cell]
        result = np.empty_like(state)
        kernels.limit_transport(edges.origin, edges.end, extra, exits.cell, leaving, np.maximum(state, 0.0), result)
        left = generator.outflow(low) + np.bincount(exits.gate, leaving, minlength=len(exits.gates))
        return balanced(result, probability.sum() - left.sum()), left


def balanced(values: FloatArray, total: float) -> FloatArray:
    """Values clipped at zero and scaled to a known sum: takes back rounding errors, eps * rate * time_step of them."""
    clipped = np.maximum(values, 0.0)
    mass = clipped.sum()
    return clipped * (max(total, 0.0) / mass) if mass > 0.0 else clipped
