"""SGD itself: an ensemble of runs on the rows of a data set, the witness of the Fokker-Planck equation.

    g = mean of the gradients of the rows of a batch + injected noise
    v <- momentum v - M g,    x <- x + learning_rate v

Nothing is approximated: batches are drawn from the rows, each step has its own learning rate and batch size, and it is
at the ends of steps that a walker has left, not between them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final

import numpy as np
from numpy.typing import ArrayLike

from fpsolve.errors import CaseError, Notice, RunError
from fpsolve.model.expressions import Expression
from fpsolve.model.fields import SymbolicField
from fpsolve.model.grid import BoolArray, FloatArray, Grid, IntArray
from fpsolve.model.landscape import Landscape
from fpsolve.model.native import native
from fpsolve.model.noise import AbstractNoise
from fpsolve.model.problem import Problem
from fpsolve.model.region import Region
from fpsolve.model.sample import Sample
from fpsolve.solve import descent_kernels as kernels
from fpsolve.solve.descent_steps import Steps
from fpsolve.solve.ensemble import (
    BLOCK,
    Progress,
    Record,
    Swarm,
    Walls,
    checked_starts,
    checked_times,
    run_blocks,
    streams,
    surface_gates,
)

Batches: TypeAlias = Literal["replacement", "without", "epochs"]
BATCHES: dict[Batches, int] = {
    "replacement": kernels.REPLACEMENT,
    "without": kernels.WITHOUT,
    "epochs": kernels.EPOCHS,
}
CONSTANTS = tuple((name, getattr(kernels, name)) for name in kernels.CONSTANTS)
KERNELS = (kernels.batch_gradient, kernels.beyond, kernels.settle, kernels.outcome, kernels.march)
GRADIENTS = 200_000  # of single rows between two looks at whether to stop: some hundredths of a second
MOST_BYTES = 2**31  # of permutations of the rows, one for every thread


@final
@dataclass(frozen=True)
class Descent:
    """Runs of SGD.

    swarm: where they are at the saved times; steps: done at those times, (times,): the last that ends by then, to
    rounding; velocities: v at those times, (times, walkers, axes) [loss/length], None without momentum; exit_steps:
    after which a walker had left, (walkers,), 0 where it starts outside, -1 where it is still inside; touches: steps at
    which a reflecting wall returned it, (walkers,).
    """

    swarm: Swarm
    steps: IntArray
    velocities: FloatArray | None
    exit_steps: IntArray
    touches: IntArray

    @property
    def touched(self) -> float:
        """Share of the walkers that a reflecting wall has ever returned."""
        return float(np.mean(self.touches > 0))

    @property
    def notices(self) -> list[Notice]:
        """What should be known about the runs: SGD has no walls, so one that is touched changes what it does."""
        if not self.touches.any():
            return []
        found = f"a reflecting wall returned {100.0 * self.touched:.3g} % of the SGD runs, {self.touches.sum()} times"
        return [Notice("sgd_touches_wall", f"{found}; SGD itself knows no walls: widen the grid")]


def descend(
    problem: Problem | tuple[Landscape, AbstractNoise, Grid],
    starts: ArrayLike,
    times: ArrayLike,
    *,
    absorb: Sequence[Region | str] = (),
    sampling: Batches | None = None,
    momentum: float = 0.0,
    seed: int,
    threads: int = 1,
    progress: Progress | None = None,
) -> Descent:
    """Run SGD from many starts.

    The noise gives learning rate, batch size (rounded to whole rows) and injected variance of each step, by its own
    count and time; its floor and convention belong to the equation alone. With a mobility M the step is M g, so that
    its diffusion is M C M learning_rate / (2 batch_size).

    Walls of the grid: a reflecting one folds the step (and is told of in the notices), a periodic one wraps it, an
    absorbing one and the regions `absorb` are gates, in the order and by the names of a Motion; one who starts in a
    region leaves at once.

    Parameters
    ----------
    problem : or its landscape, noise and grid, where there is no such equation: batches of all rows have no noise.
    starts : (walkers, axes) [length].
    times : saved times, increasing, the first at least 0: the learning rates of the steps add up to the time.
    absorb : regions that absorb, or their conditions.
    sampling : how batches are drawn: "replacement": every row of a batch from all rows; "without": different rows in a
        batch; "epochs": batch by batch through all rows, shuffled anew by every walker for every epoch, the last batch
        of an epoch smaller where rows are left over (PyTorch's DataLoader with shuffle=True, drop_last=False). That of
        a minibatch noise unless given, or "replacement".
    momentum : share of the velocity that is kept in each step, 0 or more and below 1; velocities start at 0.
    seed : of the random numbers; with the same one the same runs come out, whatever the threads.
    threads : how many blocks of walkers move at a time.
    progress : called with the share that is done.

    Raises CaseError for bad input, RunError where a walker goes beyond all bounds.
    """
    landscape, noise, grid = (*problem.whole, problem.grid) if isinstance(problem, Problem) else problem
    sample = _checked_landscape(landscape, grid)
    code = _checked_sampling(noise, sampling)
    instants, places = checked_times(times), checked_starts(starts, grid)
    regions = surface_gates(grid) + [
        Region.parse(given, given, landscape.variables, landscape.parameters, "ensemble.absorb")
        if isinstance(given, str)
        else given
        for given in absorb
    ]
    if not 0.0 <= momentum < 1.0:
        raise CaseError("ensemble.momentum", f"it is {momentum:g}", "It must be 0 or more, and below 1", "")
    steps = Steps.of(_checked_course(noise, landscape), instants)
    _check_batches(steps, code, sample.rows, threads)
    rule = (np.ascontiguousarray(landscape.mobility), float(momentum), code)
    record = Record.room(instants, *places.shape)
    crowd = _Crowd.of(sample, rule, steps, Walls.of(grid), regions, record, places)
    run_blocks(crowd.through, streams(seed, len(places)), len(places), threads=threads, progress=progress)
    return crowd.descent()


def refuse_bad_descent(landscape: Landscape, noise: AbstractNoise, grid: Grid, sampling: Batches | None = None) -> None:
    """Raise CaseError, before any long work, where `descend` would at its first step; arguments as there."""
    sample, code = _checked_landscape(landscape, grid), _checked_sampling(noise, sampling)
    course = _checked_course(noise, landscape)
    first = np.array([course.schedules["learning_rate"](0.0, 0.0)])
    _check_batches(Steps.of(course, first), code, sample.rows, 1)


def _checked_landscape(landscape: Landscape, grid: Grid) -> Sample:
    """The data and the loss of their rows. Raises CaseError where there are none, or the drift has other parts."""
    if landscape.sample is None:
        found, required = "there are no data", "SGD runs on the rows of a data set"
        raise CaseError("landscape.data", found, required, "Give landscape.data and per_example_loss")
    if landscape.extra_drift is not None:
        required = "SGD follows the gradients of the rows and nothing else"
        raise CaseError("landscape.extra_drift", "it has no part in SGD", required, "Remove it, or the ensemble of SGD")
    if grid.frame is not None:
        required = "Runs of SGD need walls along the variables"
        raise CaseError("grid.axes", "the grid is turned", required, 'Give ensemble.process = "sde", or no grid.axes')
    if grid.names != landscape.variables:
        found = f"axes {', '.join(grid.names)} beside variables {', '.join(landscape.variables)}"
        raise CaseError("grid", found, "There must be one axis per variable, in the same order", "")
    return landscape.sample


def _checked_sampling(noise: AbstractNoise, sampling: Batches | None) -> int:
    """How batches are drawn, for kernels."""
    name = sampling or getattr(noise, "sampling", "replacement")
    if name not in BATCHES:
        raise CaseError("ensemble.sampling", f'it is "{name}"', f"It must be one of {', '.join(BATCHES)}", "")
    return BATCHES[name]


def _checked_course(noise: AbstractNoise, landscape: Landscape) -> Any:
    """What the numbers of the noise do in time. Raises CaseError where SGD lacks one."""
    for name in ("learning_rate", "batch_size"):
        if getattr(noise, name, None) is None:
            required = "A step of SGD needs a learning rate and a batch size"
            remedy = 'Take noise.kind = "minibatch" or "hessian"'
            raise CaseError(f"noise.{name}", f"the noise has no {name.replace('_', ' ')}", required, remedy)
    return noise.course(landscape.parameters)


def _check_batches(steps: Steps, sampling: int, rows: int, threads: int) -> None:
    """Refuse batches of more rows than there are, and permutations that do not fit into memory."""
    if sampling == kernels.REPLACEMENT:
        return
    largest = int(steps.batch_sizes.max(initial=1))
    if largest > rows:
        found, required = f"a batch of {largest} different rows", f"There are {rows}"
        raise CaseError("noise.batch_size", found, required, 'Take smaller batches, or sampling = "replacement"')
    size = 4 * rows * threads
    if size > MOST_BYTES:
        found = f"permutations of {rows} rows take {size / 2**30:.3g} GiB with {threads} threads"
        required = f"At most {MOST_BYTES / 2**30:.3g} GiB are taken"
        raise CaseError("ensemble.sampling", found, required, 'Take sampling = "replacement", or fewer threads')


@final
@dataclass(frozen=True)
class _Crowd:
    """The walkers on their way.

    compiled: the kernels of the case; walls: lower and upper ends, kinds and gates of the walls, and how many gates
    they are; starts: (walkers, axes); state: positions and velocities (walkers, axes), rows of the epoch that are used,
    step and gate of the exit, steps at which a wall returned a walker (walkers,), changed by a march, as record and
    velocities are, which hold what is saved.
    """

    compiled: Any
    columns: FloatArray
    rule: tuple[FloatArray, float, int]  # mobility, momentum, how batches are drawn
    steps: Steps
    walls: tuple[FloatArray, FloatArray, IntArray, IntArray, int]
    gates: tuple[str, ...]
    record: Record
    velocities: FloatArray
    starts: FloatArray
    state: tuple[FloatArray, FloatArray, IntArray, IntArray, IntArray, IntArray]

    @classmethod
    def of(
        cls,
        sample: Sample,
        rule: tuple[FloatArray, float, int],
        steps: Steps,
        walls: Walls,
        regions: Sequence[Region],
        record: Record,
        starts: FloatArray,
    ) -> _Crowd:
        """The walkers at their starts; those that start in a region have left."""
        levels = tuple(_level(region) for region in regions)
        compiled = native(sample.gradient, len(sample.variables), KERNELS, CONSTANTS, levels)
        gates, exits = record.exit_gates, np.full(len(starts), -1, dtype=np.int64)
        for number, region in reversed([*enumerate(regions)]):
            inside: BoolArray = region.level(starts.T) > 0.0
            gates[inside], exits[inside] = len(walls.names) + number, 0
        velocities = np.full(record.positions.shape if rule[1] > 0.0 else (0, 0, 0), np.nan)
        for row in np.nonzero(steps.saved == 0)[0]:
            record.positions[row, gates < 0] = starts[gates < 0]
            if rule[1] > 0.0:
                velocities[row, gates < 0] = 0.0
        # Beyond FARTHEST a walker is lost: an infinite end is a wall there, which nothing reaches.
        lower, upper = (np.clip(ends, -kernels.FARTHEST, kernels.FARTHEST) for ends in (walls.lower, walls.upper))
        cursors, touches = np.zeros((2, len(starts)), dtype=np.int64)
        names = walls.names + tuple(region.name for region in regions)
        bounds = (lower, upper, walls.kinds, walls.gates, len(walls.names))
        state = (starts.copy(), np.zeros_like(starts), cursors, exits, gates, touches)
        return cls(compiled, sample.columns, rule, steps, bounds, names, record, velocities, starts, state)

    def through(self, block: slice, stream: np.random.Generator) -> Iterator[float]:
        """Move a block to the end, walker by walker. Raises RunError for one beyond all bounds."""
        steps = self.steps
        table = (steps.learning_rates, steps.batch_sizes, steps.injected, steps.saved)
        rows = 0 if self.rule[2] == kernels.REPLACEMENT else len(self.columns)
        order = np.arange(rows, dtype=np.int32)
        for turn in self._turns(block):
            lost = self.compiled.march(
                *(stream, self.columns, self.rule, table, self.walls, turn, order, self.state),
                (self.record.positions, self.velocities),
            )
            if lost >= 0:
                self._refuse(lost)
            first, last, _, done = turn
            yield (first + (last - first) * done / steps.count - block.start) / (block.stop - block.start)

    def _turns(self, block: slice) -> Iterator[tuple[int, int, int, int]]:
        """Walkers and steps to be taken at once: many walkers to the end, or a part of the steps of one."""
        count, most = self.steps.count, max(1, GRADIENTS // int(self.steps.batch_sizes.max(initial=1)))
        together = max(1, min(BLOCK, most // max(1, count)))
        for first in range(block.start, block.stop, together):
            for begin in range(0, count, most):
                yield first, min(first + together, block.stop), begin, min(begin + most, count)

    def _refuse(self, walker: int) -> None:
        """A walker is lost."""
        positions, _, _, exits, *_ = self.state
        step = int(exits[walker])
        rate = self.steps.learning_rates[min(step, self.steps.learning_rates.size) - 1]
        start, place = (", ".join(f"{value:.6g}" for value in row[walker]) for row in (self.starts, positions))
        found = f"a walker from ({start}) is at ({place}) after step {step}, with a learning rate of {rate:g}"
        required = "SGD diverges where the learning rate is above 2 over the curvature of the loss of a batch"
        raise RunError("ensemble", found, required, "Lower noise.learning_rate, or start closer to a minimum")

    def descent(self) -> Descent:
        """The result, once all blocks have been marched."""
        _, _, _, exits, gates, touches = self.state
        gone, steps, times = gates >= 0, self.steps, self.record.times
        # No later than the first saved time at which it is gone: the two may differ by rounding.
        seen = times[np.searchsorted(steps.saved, exits[gone])]
        self.record.exit_times[gone] = np.minimum(steps.times(exits[gone]), seen)
        velocities = self.velocities if self.rule[1] > 0.0 else None
        return Descent(self.record.swarm(self.gates), steps.saved, velocities, exits, touches)


def _level(region: Region) -> Expression:
    """The level function of a region as a formula. Raises CaseError where it is none."""
    if not isinstance(region.level, SymbolicField):
        found, required = f'"{region.name}" is a function', "A region that absorbs SGD is a condition in words"
        raise CaseError("ensemble.absorb", found, required, 'Give it as text, such as "x > 0.8"')
    return region.level.entries[0]
