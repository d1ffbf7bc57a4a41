"""The witness: an ensemble of SGD itself, or of the stochastic equation, beside densities and escape times.

Where the equation stands for SGD, runs of SGD on the same data say how well; what they say has a standard error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, NoReturn, TypeAlias, final

import numpy as np
from numpy.typing import ArrayLike

from fpsolve.analyse.ensemble import Distance, ExitTimes, Moments, exit_times, histogram, l1_distance, moments
from fpsolve.errors import CaseError, Notice
from fpsolve.model.fields import DIFFERENCE_STEP
from fpsolve.model.grid import FloatArray, IntArray
from fpsolve.model.initial import AbstractInitial, Point, Saved
from fpsolve.model.noise import MinibatchNoise
from fpsolve.model.problem import Problem
from fpsolve.model.region import Region
from fpsolve.model.threads import threads_allowed
from fpsolve.solve.descent import Batches, descend
from fpsolve.solve.ensemble import Progress, Swarm, surface_gates
from fpsolve.solve.walkers import draw_starts, walk

Process: TypeAlias = Literal["sgd", "sde"]
PROCESS_WORDS: dict[Process, str] = {"sgd": "SGD", "sde": "walkers"}

DEFAULT_WALKERS = 10_000
STEPS_PER_RELAXATION = 50  # of the stochastic equation, unless a time step is given
LONG_ENOUGH = 10.0  # mean escape times that walkers have, unless a time is given: 5 in 100 000 are then left
MOST_STEPS = 2e11  # of all walkers together, unless a time is given: an hour or so
SNAPSHOTS = 20  # of walkers at rest, in the second half of their time


@final
@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """How walkers go.

    process: "sgd", runs on the data, or "sde", Euler-Maruyama steps of the stochastic equation; unless given, SGD where
    there are data and the noise has batches. time_step: of the SDE [time]; sampling, momentum: of SGD; tail_index:
    below 2 the steps of the SDE are stable jumps.
    """

    walkers: int = DEFAULT_WALKERS
    process: Process | None = None
    time_step: float | None = None
    sampling: Batches | None = None
    momentum: float = 0.0
    tail_index: float | None = None
    seed: int = 1

    def process_in(self, problem: Problem) -> Process:
        """The process. Raises CaseError where a key has no effect on it."""
        natural = problem.landscape.sample is not None and hasattr(problem.noise, "batch_size")
        process: Process = self.process or ("sgd" if natural else "sde")
        surface_gates(problem.grid)
        given: dict[str, object] = {"time_step": self.time_step, "tail_index": self.tail_index}
        if process == "sde":
            given = {"sampling": self.sampling, "momentum": self.momentum or None}
        if process == "sgd" and problem.grid.frame is not None:
            required = "Runs of SGD need walls along the variables"
            raise CaseError(
                "grid.axes", "the grid is turned", required, 'Give ensemble.process = "sde", or no grid.axes'
            )
        turned = not np.array_equal(problem.landscape.mobility, np.eye(problem.grid.dimensions))
        if process == "sgd" and turned and problem.noise.injected:
            found, required = "SGD passes the injected noise through the mobility", "The equation adds it as it is"
            raise CaseError("noise.injected", found, required, 'Remove one of them, or take ensemble.process = "sde"')
        for key, value in given.items():
            if value is not None:
                found = f'it has no effect where the process is "{process}"'
                required = f"It belongs to {'the stochastic equation' if process == 'sgd' else 'SGD on data'}"
                raise CaseError(f"ensemble.{key}", found, required, "Remove it, or give ensemble.process")
        return process


@final
@dataclass(frozen=True)
class Runs:
    """What walkers did.

    steps: of SGD at the saved times, (times,); exit_steps: (walkers,), -1 where still inside; both None for the SDE,
    whose time_step [time] is None for SGD.
    """

    process: Process
    swarm: Swarm
    steps: IntArray | None
    exit_steps: IntArray | None
    time_step: float | None
    notices: tuple[Notice, ...]

    @cached_property
    def exits(self) -> ExitTimes:
        """Their exit times."""
        return exit_times(self.swarm)


@final
@dataclass(frozen=True)
class Comparison:
    """Walkers beside densities at some times.

    moments: of the walkers at those times; at rest of one time, over many looks at every walker; counts: walkers in
    each cell, (times, cells); distances: of counts and density at each time, None at the start.
    """

    runs: Runs
    moments: Moments
    counts: IntArray
    distances: tuple[Distance | None, ...]


@final
@dataclass(frozen=True)
class Witness:
    """All that an ensemble saw; None where it was not asked."""

    ensemble: Ensemble
    process: Process
    escape: Runs | None = None
    motion: Comparison | None = None
    rest: Comparison | None = None
    notices: tuple[Notice, ...] = ()

    @property
    def saw_anything(self) -> bool:
        """Whether any walker was sent."""
        return any(part is not None for part in (self.escape, self.motion, self.rest))


def run_ensemble(
    problem: Problem,
    ensemble: Ensemble,
    starts: FloatArray,
    times: ArrayLike,
    *,
    absorb: Sequence[Region | str] = (),
    begin: float = 0.0,
    held: bool = False,
    progress: Progress | None = None,
) -> Runs:
    """Let an ensemble go from starts (walkers, axes). Raises CaseError and RunError as `walk` and `descend`.

    held: whether everything stays as it is at the time of the problem.
    """
    process = ensemble.process_in(problem)
    shared: dict[str, Any] = {"absorb": absorb, "seed": ensemble.seed, "threads": threads_allowed()}
    shared["progress"] = progress
    if process == "sde":
        time_step = ensemble.time_step or default_time_step(problem, starts)
        own: dict[str, Any] = {"time_step": time_step, "tail_index": ensemble.tail_index, "begin": begin, "held": held}
        swarm = walk(problem, starts, times, **own, **shared)
        return Runs(process, swarm, None, None, time_step, ())
    system = (problem.landscape, problem.noise, problem.grid) if held else problem
    own = {"sampling": ensemble.sampling, "momentum": ensemble.momentum}
    found = descend(system, starts, times, **own, **shared)
    notices = (*found.notices, *_differences(problem, ensemble))
    return Runs(process, found.swarm, found.steps, found.exit_steps, None, notices)


def _differences(problem: Problem, ensemble: Ensemble) -> list[Notice]:
    """What SGD does that the equation does not know."""
    found = []
    drawn = ensemble.sampling
    if drawn is not None and isinstance(problem.noise, MinibatchNoise) and drawn != problem.noise.sampling:
        message = f'SGD draws its batches by "{drawn}", the noise of the equation is that of "{problem.noise.sampling}"'
        if drawn == "epochs":
            message += "; over an epoch the batches balance each other, so that SGD is quieter than either of the two"
        found.append(Notice("sampling_differs", message))
    if ensemble.momentum > 0.0:
        times = 1.0 / (1.0 - ensemble.momentum)
        message = f"SGD has momentum {ensemble.momentum:g}, the equation has none: SGD's clock and noise are"
        found.append(Notice("momentum", f"{message} those of a learning rate {times:.3g} times as large"))
    return found


def default_time_step(problem: Problem, starts: FloatArray) -> float:
    """A share of the shortest relaxation time of the drift near the starts [time]: 1 over its steepest slope."""
    places = starts[:: max(1, len(starts) // 64)].T
    slopes = []
    for axis in range(len(places)):
        step = np.zeros((len(places), 1))
        step[axis] = DIFFERENCE_STEP * min(1.0, float(problem.grid.spacings[axis]))
        step[axis] = step[axis] if np.isfinite(step[axis]) else DIFFERENCE_STEP
        rise = problem.landscape.drift(places + step) - problem.landscape.drift(places - step)
        slopes.append(rise / (2.0 * step[axis]))
    steepest = float(np.linalg.norm(np.moveaxis(np.array(slopes), -1, 0), ord=2, axis=(1, 2)).max())
    return 1.0 / (STEPS_PER_RELAXATION * steepest) if steepest > 0.0 else 1.0 / STEPS_PER_RELAXATION


def witness_escape(
    problem: Problem,
    ensemble: Ensemble,
    start: Sequence[float],
    targets: Sequence[Region],
    log_time: float,
    *,
    max_time: float | None = None,
    progress: Progress | None = None,
) -> tuple[Runs | None, tuple[Notice, ...]]:
    """Walkers from a point into targets, and what should be known.

    log_time: ln of the mean escape time that is expected [time]; max_time: when those still inside are given up,
    `LONG_ENOUGH` times as much unless it is given. There are no runs where that would take too long. The question is
    about the time of the problem, at which everything is held.
    """
    starts = draw_starts(problem, Point(start), ensemble.walkers, ensemble.seed)
    if max_time is None:
        step = _length_of_step(problem, ensemble, starts)
        if log_time + math.log(ensemble.walkers / step) > math.log(MOST_STEPS):
            exponent = (log_time + math.log(ensemble.walkers / step)) / math.log(10.0)
            message = f"{ensemble.walkers} walkers would need about 10^{exponent:.0f} steps to escape: none was sent"
            return None, (Notice("no_ensemble", f"{message}; give ensemble.max_time, or louder noise"),)
        max_time = LONG_ENOUGH * math.exp(log_time)
    runs = run_ensemble(problem, ensemble, starts, [max_time], absorb=targets, held=True, progress=progress)
    return runs, runs.notices


def _length_of_step(problem: Problem, ensemble: Ensemble, starts: FloatArray) -> float:
    """How long a step takes [time]."""
    if ensemble.process_in(problem) == "sgd":
        return problem.noise.number("learning_rate")
    return ensemble.time_step or default_time_step(problem, starts)


def witness_motion(
    problem: Problem,
    ensemble: Ensemble,
    initial: AbstractInitial | FloatArray,
    times: FloatArray,
    probability: FloatArray,
    *,
    absorb: Sequence[Region] = (),
    progress: Progress | None = None,
) -> Comparison:
    """Walkers beside a density in time.

    initial: the start, or its probability (cells,); probability: (times, cells) at the times, the first of which is the
    start. Raises CaseError for SGD that starts from an earlier result: its steps count from 0.
    """
    begin = float(times[0])
    if isinstance(initial, Saved) and ensemble.process_in(problem) == "sgd":
        refuse_continued_descent()
    starts = draw_starts(problem, initial, ensemble.walkers, ensemble.seed)
    runs = run_ensemble(problem, ensemble, starts, times, absorb=absorb, begin=begin, progress=progress)
    counts = histogram(runs.swarm, problem.grid)
    distances = [
        l1_distance(row, density, ensemble.walkers, problem.grid)
        for row, density in zip(counts[1:], probability[1:], strict=True)
    ]
    return Comparison(runs, moments(runs.swarm), counts, (None, *distances))


def refuse_continued_descent() -> NoReturn:
    """Refuse SGD from an earlier result. Raises CaseError."""
    found = "the density goes on from an earlier result"
    raise CaseError("ensemble", found, "SGD counts its steps from 0", 'Give ensemble.process = "sde"')


def witness_rest(
    problem: Problem,
    ensemble: Ensemble,
    initial: AbstractInitial | FloatArray,
    probability: FloatArray,
    *,
    max_time: float,
    progress: Progress | None = None,
) -> Comparison:
    """Walkers beside a density at rest (cells,), looked at in the second half of their time.

    Their moments are means over the looks, with errors from the differences between walkers, which are independent.
    """
    times = np.linspace(0.5 * max_time, max_time, SNAPSHOTS)
    starts = draw_starts(problem, initial, ensemble.walkers, ensemble.seed)
    runs = run_ensemble(problem, ensemble, starts, times, progress=progress)
    last = replace(runs.swarm, times=times[-1:], positions=runs.swarm.positions[-1:])
    counts = histogram(last, problem.grid)
    distance = l1_distance(counts[0], probability, ensemble.walkers, problem.grid)
    return Comparison(runs, _moments_over_looks(runs.swarm), counts, (distance,))


def _moments_over_looks(swarm: Swarm) -> Moments:
    """Mean and covariance over all times, with errors from the differences between walkers."""
    positions = swarm.positions  # (times, walkers, axes)
    count = positions.shape[1]
    own = positions.mean(axis=0)
    mean = own.mean(axis=0)
    away = positions - mean
    products = np.einsum("twi,twj->wij", away, away) / len(positions)
    root = math.sqrt(count)
    return Moments(
        swarm.times[-1:],
        np.array([count]),
        mean[None],
        own.std(axis=0, ddof=1)[None] / root,
        products.mean(axis=0)[None],
        products.std(axis=0, ddof=1)[None] / root,
    )
