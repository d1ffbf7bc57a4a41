"""The exponential exp(t Q) P of a chain whose rates do not change: the state at many times from one factorisation.

Shift and invert (see `krylov`) tells slow rates from fast ones however far apart they are. For rates on the negative
axis the error of the best pole q falls as (sqrt(2) - 1)**solves (Andersson, J. Approx. Theory 32 (1981) 85), for any
q as that of polynomials on (0, 1) that stand for exp(-q t (1/s - 1)), s = 1 / (1 - z/q), whatever the grid:

    q t                   0.1   0.6    2    6   15   27   50   80
    solves for 1e-4        42    18   11   10   11   14   20   25
    solves for 1e-10      172    72   43   29   25   26   31   37

so that one pole serves times far apart. Rates off the axis, of chains that circulate, take more.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from fpsolve.discretise.generator import Generator
from fpsolve.errors import RunError
from fpsolve.model.grid import FloatArray, Grid
from fpsolve.solve import elimination
from fpsolve.solve.elimination import Resolvent
from fpsolve.solve.krylov import LEAST_LAG, Basis
from fpsolve.solve.ordering import Plan
from fpsolve.solve.steps import Step, balanced

LARGEST_BASIS = 60
DIGITS_PER_SOLVE = 0.38  # log10(1 + sqrt(2))
BEST_POLE = 2.5  # times the digits asked for: q t that suits one time
LARGEST_POLE = 80.0  # q t of the last of several times
EASY_DIGITS = 8.0  # for which q t = 1 is within reach of a basis; the smallest such q t grows as the digits' cube
SAME_POLE = 2.5  # a pole may be so many times smaller or larger than wanted
LARGEST_BLOCK = 2**25  # numbers in the states that are made at a time
FRACTIONS = 0.5 ** np.arange(6.0, 0.0, -1.0)  # of a duration that is out of reach, tried instead
MOST_PARTS = 1e9  # of a duration
NEGLIGIBLE = 1e-14  # of the largest entry: smaller negative ones are rounding
SECONDS_PER_BASIS = 0.005  # of small matrices
SECONDS_PER_PRODUCT = 1e-9  # of all that is done with a basis in one solve, for each number in it


@final
@dataclass(slots=True)
class Exponential:
    """The motion of an autonomous chain, as accurate as asked.

    Kept between calls: the factorisation, as long as the next pole may be the same; where a chain circulates fast, the
    longest time that a basis serves, reach, and the largest quotient of two times, width. factorisations, solves: how
    many there were.
    """

    generator: Generator
    threads: int | None
    weight: FloatArray
    resolvent: Resolvent | None = None
    pole: float = 0.0
    reach: float = np.inf
    width: float = np.inf
    factorisations: int = 0
    solves: int = 0

    @classmethod
    def of(cls, generator: Generator, threads: int | None = None, memory: tuple[float, ...] = ()) -> Exponential:
        """No work yet, unless it goes on where another one stopped, with its memory. threads: as for `Resolvent`."""
        volumes = generator.grid.volumes
        made = cls(generator, threads, np.sqrt(volumes / volumes.mean()))
        if memory:
            made.pole, made.reach, made.width = memory
            made.resolvent = made._factorised(made.pole)
        return made

    @property
    def memory(self) -> tuple[float, ...]:
        """What another one needs to go on in the same way: pole, reach and width."""
        return (self.pole, self.reach, self.width) if self.resolvent else ()

    @property
    def plan(self) -> Plan | None:
        """The plan of the factorisation, when there has been one."""
        return self.resolvent.plan if self.resolvent else None

    def advance(self, probability: FloatArray, durations: FloatArray, allowed: float) -> list[Step]:
        """The states after the leading ones of some durations (> 0, increasing): as many as one basis serves.

        At least one. allowed: L1 error that each may have. None is negative anywhere; what is missing left.

        Raises RunError where rounding errors leave no room for the accuracy asked for.
        """
        nothing = np.zeros(len(self.generator.exits.gates))
        if not probability.any():
            return [Step(probability, nothing, 0.0, False) for _ in durations]
        done, begun = 0.0, Step(probability, nothing, 0.0, False)
        while True:
            ahead, room = durations - done, allowed - begun.error
            parts = max(1.0, float(np.ceil(ahead[0] / self.reach * (1.0 - 1e-9))))
            if parts > MOST_PARTS:
                found = f"the error estimate asks for parts below {1.0 / MOST_PARTS:.0e} of the saved interval"
                raise RunError("evolve", found, "Rounding errors leave no room for it", "Raise evolve.tolerance")
            times = ahead[: self._count(ahead, room)] if parts == 1.0 else ahead[:1] / parts
            length, steps = self._leap(begun, times, room / parts)
            if length == ahead[0]:
                return steps
            if steps:
                done, begun = done + length, steps[0]

    def _count(self, durations: FloatArray, allowed: float) -> int:
        """How many durations to serve at once."""
        width = min(span(allowed), self.width, max(self.reach / durations[0], 1.0))
        return served_at_once(durations, width, self.generator.grid.size)

    def _leap(self, begun: Step, times: FloatArray, allowed: float) -> tuple[float, list[Step]]:
        """The states at the leading times, else at a part of the first; and the first time that was served, or 0."""
        while True:
            basis = self._basis(begun.probability, times, allowed)
            steps = self._grown(basis, begun, times, allowed)
            if steps or times.size == 1:
                break
            self.width = float(np.sqrt(times[-1] / times[0]))
            times = times[times <= times[0] * self.width]
        if steps:
            if 2 * basis.size <= LARGEST_BASIS:  # it could have served more
                self.reach, self.width = 2.0 * self.reach, 2.0 * self.width
            return float(times[0]), steps
        parts = times[0] * FRACTIONS
        made = _steps(basis, begun, parts)
        served = [number for number, step in enumerate(made) if step.error - begun.error <= allowed * FRACTIONS[number]]
        longest = max(served, default=0)
        self.reach = float(parts[longest])
        return (self.reach, [made[longest]]) if served else (0.0, [])

    def _basis(self, probability: FloatArray, times: FloatArray, allowed: float) -> Basis:
        """A basis of the start alone, with the pole that suits some times, or one nearly as good that is at hand."""
        pole, resolvent = best_pole(times, allowed), self.resolvent
        if resolvent is None or not 1.0 / SAME_POLE <= pole / self.pole <= SAME_POLE:
            resolvent = self.resolvent = self._factorised(pole)
            self.pole = pole
        return Basis.of(self.generator, resolvent, self.pole, self.weight, probability, LARGEST_BASIS)

    def _factorised(self, pole: float) -> Resolvent:
        plan, self.resolvent = self.plan, None  # its memory
        self.factorisations += 1
        return Resolvent.of(self.generator, pole, plan=plan, threads=self.threads)

    def _grown(self, basis: Basis, begun: Step, times: FloatArray, allowed: float) -> list[Step]:
        """Solve until all times have converged, or there is no more room; the steps to the leading ones that have."""
        ratio, ends = 1.0, np.unique(times[[0, -1]])
        check = max(LEAST_LAG + 1, int(0.6 * _digits(allowed) / DIGITS_PER_SOLVE))
        while basis.size < LARGEST_BASIS and not basis.closed:
            basis.grow()
            self.solves += 1
            if basis.size < check and basis.size < LARGEST_BASIS and not basis.closed:
                continue
            change = basis.change(ends)
            worst = int(np.argmax(change))
            if change[worst] * ratio <= allowed:
                error = basis.approximation(ends[worst : worst + 1]).error[0]
                ratio = max(ratio, error / max(change[worst], 1e-300))
                if error <= allowed:
                    steps = _steps(basis, begun, times)
                    if all(step.error - begun.error <= allowed for step in steps):
                        return steps
            missing = np.log10(max(change[worst], 1e-300)) + np.log10(ratio) - np.log10(allowed)
            check = basis.size + int(np.clip(missing / DIGITS_PER_SOLVE / 1.5, 1, 8))
        steps = _steps(basis, begun, times)
        failed = [step.error - begun.error > allowed for step in steps]
        return steps[: failed.index(True)] if any(failed) else steps


def _steps(basis: Basis, begun: Step, times: FloatArray) -> list[Step]:
    """The steps to some times, with one that was made before. Nothing comes back, and no more leaves than there was."""
    found, steps = basis.approximation(times), list[Step]()
    left = np.zeros_like(begun.left)
    for state, gone, error in zip(found.probability, found.left, np.maximum.accumulate(found.error), strict=True):
        more, held = np.maximum(gone - left, 0.0), max(basis.mass - left.sum(), 0.0)
        left = left + more * (held / max(more.sum(), held) if held > 0.0 else 0.0)
        limited = begun.limited or bool(state.min() < -NEGLIGIBLE * state.max())
        held_where = state if state.max() > 0.0 else begun.probability  # as good where nearly all has left
        state = balanced(held_where, basis.mass - left.sum())
        steps.append(Step(state, begun.left + left, begun.error + float(error), limited))
    return steps


def best_pole(times: FloatArray, allowed: float) -> float:
    """The pole q [1/time] that serves times from the first to the last in the fewest solves."""
    best = BEST_POLE * _digits(allowed)
    return float(min(best * np.sqrt(times[-1] / times[0]), max(best, LARGEST_POLE)) / times[-1])


def served_at_once(durations: FloatArray, width: float, cells: int) -> int:
    """How many leading durations to serve from one basis: none beyond `width` times the first, no more than fit."""
    return int(min((durations <= durations[0] * width).sum(), max(1, LARGEST_BLOCK // cells)))


def span(allowed: float) -> float:
    """The quotient of the last and the first time that one basis can serve."""
    return float(LARGEST_POLE / (_digits(allowed) / EASY_DIGITS) ** 3)


def _digits(allowed: float) -> float:
    return float(np.clip(-np.log10(allowed), 3.0, 14.0))


def memory_needed(grid: Grid) -> float:
    """The memory [bytes] that a basis takes, beside the factors."""
    return elimination.BYTES_PER_NUMBER * LARGEST_BASIS * grid.size


def seconds_needed(generator: Generator, durations: FloatArray, allowed: float) -> float:
    """Estimate of the time [s] that the states after some durations take, where nothing circulates fast."""
    grid, solves = generator.grid, _digits(allowed) / DIGITS_PER_SOLVE + LEAST_LAG
    bases, ahead = 0, durations
    while ahead.size:
        count = served_at_once(ahead, span(allowed), grid.size)
        bases, ahead = bases + 1, ahead[count:] - ahead[count - 1]
    once = solves * (elimination.seconds_to_solve(grid) + solves * grid.size * SECONDS_PER_PRODUCT)
    return elimination.seconds_needed(grid) + bases * (once + SECONDS_PER_BASIS)
