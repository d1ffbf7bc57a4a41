"""The implicit stepper: fourth order, L-stable, positive, conservative, for chains that may change in time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, final

import numpy as np

from fpsolve.discretise import kernels
from fpsolve.discretise.generator import Generator
from fpsolve.model.grid import FloatArray, IntArray
from fpsolve.solve.elimination import Resolvent
from fpsolve.solve.ordering import Plan
from fpsolve.solve.steps import AbstractStepper, Step, balanced

# SDIRK of five stages, order 4, L-stable and stiffly accurate, with an embedded third-order formula
# (Hairer & Wanner, Solving Ordinary Differential Equations II, 1996, Table IV.6.5). All stages share one matrix,
# unless the chain changes in time.
DIAGONAL = 0.25
STAGES = (
    (),
    (1 / 2,),
    (17 / 50, -1 / 25),
    (371 / 1360, -137 / 2720, 15 / 544),
    (25 / 24, -49 / 48, 125 / 16, -85 / 12),
)
NODES = (1 / 4, 3 / 4, 11 / 20, 1 / 2, 1.0)
WEIGHTS = (25 / 24, -49 / 48, 125 / 16, -85 / 12, 1 / 4)
ERROR_WEIGHTS = (-3 / 16, -27 / 32, 25 / 32, 0.0, 1 / 4)
# The step's own error is GROWTH * time_step * Q times that difference to leading order, from the coefficients of
# z**4 in the difference, -7/768, and of z**5 in the method's growth factor less exp(z), -13/15360. It is doubled to be
# on the safe side; and where Q changes in time it is not all, so that a tenth of the difference counts in any case.
GROWTH = (13 / 15360) / (7 / 768)
SAFE = 2.0
LEAST_SHARE = 0.1
QUARTERS = (0, 3, 1, 4)  # the stages at 1/4, 2/4, 3/4 and 4/4 of the step, whose matrices implicit Euler steps share
HELD = 2  # matrices of different steps that are kept


@final
@dataclass(frozen=True, slots=True)
class Stage:
    """The chain at the time of a stage, and (1 - DIAGONAL * time_step * Q)^-1 up to a factor."""

    generator: Generator
    resolvent: Resolvent


@final
@dataclass(slots=True)
class ImplicitStepper(AbstractStepper):
    """Steps through dP/dt = Q P, with one factorisation for all steps of the same length while Q is constant.

    Where Q changes in time every stage has a matrix of its own. Probability is complete: the new state is balanced
    against what went out through the gates. Where the fourth-order step would take more from a cell than it has, four
    implicit Euler steps of a quarter of the length (with the matrices of the stages; positive for any length) serve
    instead, corrected towards fourth order along the edges as far as every cell stays >= 0 (Zalesak 1979).

    threads: as for `Resolvent`.
    """

    order: ClassVar[int] = 4
    error_order: ClassVar[int] = 4

    threads: int | None = None
    held: dict[float, Stage] = field(default_factory=dict)
    plan: Plan | None = None

    def step(self, probability: FloatArray, time: float, time_step: float, allowed: float = 0.0) -> Step:
        """Advance by one time step; what is allowed does not matter."""
        stages = self._stages(time, time_step)
        values, slopes = self._values(stages, probability, time_step)
        error = self._error(stages[-1], np.tensordot(ERROR_WEIGHTS, slopes, 1), time_step)
        held = [time_step * weight * value for weight, value in zip(WEIGHTS, values, strict=True)]
        proposed = values[-1]
        if proposed.min() >= 0.0:
            left = _outflow(_gathered(stages, held))
            return Step(balanced(proposed, probability.sum() - left.sum()), left, error, False)
        limited, left = self._limited(stages, probability, held, time_step)
        return Step(limited, left, error + float(np.abs(limited - proposed).sum()), True)

    def _error(self, stage: Stage, difference: FloatArray, time_step: float) -> float:
        """The L1 error of a step from its difference to the third-order formula."""
        grown = (self._implicit(stage, difference, time_step) - difference) / DIAGONAL
        return float(max(SAFE * GROWTH * np.abs(grown).sum(), LEAST_SHARE * np.abs(difference).sum()))

    def _stages(self, time: float, time_step: float) -> list[Stage]:
        """The stages of a step, all the same one while the chain is constant."""
        if not self.span.constant:
            return [self._made(time + node * time_step, time_step) for node in NODES]
        if time_step not in self.held:
            while len(self.held) >= HELD:
                self.held.pop(next(iter(self.held)))
            self.held[time_step] = self._made(time, time_step)
        return [self.held[time_step]] * len(NODES)

    def _made(self, time: float, time_step: float) -> Stage:
        generator = self.span.generator(time)
        plan = self.plan if self.plan is not None and self.plan.fits(generator) else None
        resolvent = Resolvent.of(generator, 1.0 / (DIAGONAL * time_step), plan=plan, threads=self.threads)
        self.plan = resolvent.plan
        self.counts.factorisations += 1
        return Stage(generator, resolvent)

    def _implicit(self, stage: Stage, right: FloatArray, time_step: float) -> FloatArray:
        """(1 - DIAGONAL * time_step * Q)^-1 right."""
        self.counts.solves += 1
        return stage.resolvent.solve(right / (DIAGONAL * time_step))

    def _values(self, stages: list[Stage], probability: FloatArray, time_step: float) -> tuple[FloatArray, FloatArray]:
        """Stage values and time_step * Q values, (stages, cells) each; the last value is the new state.

        A slope is read off its stage's own equation, (value - right) / DIAGONAL: Q itself would multiply rounding
        errors by the largest rate.
        """
        values = np.empty((len(STAGES), probability.size))
        slopes = np.empty_like(values)
        for number, coefficients in enumerate(STAGES):
            right = probability + np.tensordot(coefficients, slopes[:number], 1)
            values[number] = self._implicit(stages[number], right, time_step)
            slopes[number] = (values[number] - right) / DIAGONAL
        return values, slopes

    def _limited(
        self, stages: list[Stage], probability: FloatArray, held: list[FloatArray], time_step: float
    ) -> tuple[FloatArray, FloatArray]:
        """The state and what left, with the transport of the step limited so that no cell falls below zero.

        held: the integral of P over the step, a part for each stage.
        """
        state, low = probability, [np.zeros_like(probability) for _ in stages]
        for number in QUARTERS:
            state = self._implicit(stages[number], state, time_step)
            low[number] = DIAGONAL * time_step * state
        more = _gathered(stages, [high - part for high, part in zip(held, low, strict=True)])
        origin, end, extra = _along_edges(more)
        cell, gate, leaving = _out_of_exits(more)
        result = np.empty_like(state)
        kernels.limit_transport(origin, end, extra, cell, leaving, np.maximum(state, 0.0), result)
        left = _outflow(_gathered(stages, low))
        left += np.bincount(gate, leaving, minlength=left.size)
        return balanced(result, probability.sum() - left.sum()), left


def _gathered(stages: list[Stage], amounts: list[FloatArray]) -> list[tuple[Generator, FloatArray]]:
    """Chains and the integral of P over the time that each of them acts: one entry where all stages share a chain."""
    if all(stage is stages[0] for stage in stages):
        return [(stages[0].generator, np.sum(amounts, axis=0))]
    return [(stage.generator, amount) for stage, amount in zip(stages, amounts, strict=True)]


def _along_edges(parts: list[tuple[Generator, FloatArray]]) -> tuple[IntArray, IntArray, FloatArray]:
    """Origins, ends, and transport from the one to the other, of chains and the integrals of P over their time.

    What several chains carry along one edge is added up: stages of opposite sign must cancel before they are limited.
    """
    if len(parts) == 1:
        ((chain, amount),) = parts
        return chain.edges.origin, chain.edges.end, chain.current(amount)
    size = parts[0][0].grid.size
    origin, end = (np.concatenate([getattr(chain.edges, name) for chain, _ in parts]) for name in ("origin", "end"))
    along = np.concatenate([chain.current(amount) for chain, amount in parts])
    edges, number = np.unique(np.minimum(origin, end) * size + np.maximum(origin, end), return_inverse=True)
    return edges // size, edges % size, np.bincount(number, np.where(origin < end, along, -along)).astype(np.float64)


def _out_of_exits(parts: list[tuple[Generator, FloatArray]]) -> tuple[IntArray, IntArray, FloatArray]:
    """Cells, gates, and what leaves from the one through the other, likewise."""
    gates = max(1, len(parts[0][0].exits.gates))
    exits = np.concatenate([chain.exits.cell * gates + chain.exits.gate for chain, _ in parts])
    leaving = np.concatenate([chain.exits.rate * amount[chain.exits.cell] for chain, amount in parts])
    exits, number = np.unique(exits, return_inverse=True)
    return exits // gates, exits % gates, np.bincount(number, leaving, minlength=exits.size).astype(np.float64)


def _outflow(parts: list[tuple[Generator, FloatArray]]) -> FloatArray:
    """What goes out through every gate, (gates,), of chains and the integrals of P over the time that they act."""
    return np.sum([chain.outflow(amount) for chain, amount in parts], axis=0)
