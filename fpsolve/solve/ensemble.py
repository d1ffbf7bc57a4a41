"""Ensembles: many independent walkers, in blocks that threads share, each block with its own stream of random numbers.

A march moves one block from its start to the last saved time and tells on the way how far it is. The blocks and their
streams follow from the number of walkers and the seed alone, so the numbers that come out do not depend on how many
threads there are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import numpy as np
from numpy.typing import ArrayLike

from fpsolve.errors import CaseError
from fpsolve.model.domain import Domain
from fpsolve.model.grid import BoolArray, FloatArray, Grid, IntArray
from fpsolve.model.region import Region

BLOCK = 128  # walkers that share a stream
MOST_BYTES = 2**31  # of saved positions
PATIENCE = 0.1  # seconds between two looks at how far the blocks are

# What a march yields now and then, at least several times a second: the share of its block's work that is done.
March: TypeAlias = Callable[[slice, np.random.Generator], Iterator[float]]
Progress: TypeAlias = Callable[[float], None]
# Random numbers for different uses of one seed are independent of each other.
Use: TypeAlias = Literal["steps", "starts"]
USES: dict[Use, int] = {"steps": 0, "starts": 1}

# How a wall along one axis acts on a walker that steps beyond it, for kernels.
REFLECTS, ABSORBS, WRAPS = 0, 1, 2
WALL_CODES = {"reflecting": REFLECTS, "absorbing": ABSORBS, "periodic": WRAPS}


@final
@dataclass(frozen=True)
class Swarm:
    """Walkers at the saved times, and when and where they left.

    times: (times,) [time]; positions: (times, walkers, axes) [length], nan once a walker has left;
    exit_times: (walkers,) [time], infinite where it is still inside at the last time; exit_gates: (walkers,), row of
    `gates`, -1 where it is still inside; gates: names of the absorbing walls ("x_max") and regions, as in a Motion;
    begin: the time of the start [time];
    interpolation_error: of the fields that the walkers felt, see `walkers.Medium.error`, None where nothing was
    interpolated.
    """

    times: FloatArray
    positions: FloatArray
    exit_times: FloatArray
    exit_gates: IntArray
    gates: tuple[str, ...]
    begin: float = 0.0
    interpolation_error: float | None = None

    @property
    def walkers(self) -> int:
        """How many walkers there were at the start."""
        return len(self.exit_times)

    @property
    def inside(self) -> BoolArray:
        """Who is still inside at each time, (times, walkers)."""
        return np.asarray(self.exit_times > self.times[:, None])


@final
@dataclass(frozen=True, slots=True)
class Record:
    """The arrays of a swarm to be, which marches fill in, each in the rows of its block; see Swarm.

    times: (times,), increasing; the rest begins as for walkers that are never seen and never leave.
    """

    times: FloatArray
    positions: FloatArray
    exit_times: FloatArray
    exit_gates: IntArray

    @classmethod
    def room(cls, times: FloatArray, walkers: int, axes: int) -> Record:
        """Room for so many walkers. Raises CaseError where that would take too much memory."""
        size = times.size * walkers * axes * 8
        if size > MOST_BYTES:
            found = f"{times.size} saved times of {walkers} walkers take {size / 2**30:.3g} GiB"
            required = f"At most {MOST_BYTES / 2**30:.3g} GiB of positions are kept"
            raise CaseError("ensemble.walkers", found, required, "Save fewer times, or take fewer walkers")
        positions = np.full((times.size, walkers, axes), np.nan)
        return cls(times, positions, np.full(walkers, np.inf), np.full(walkers, -1, dtype=np.int64))

    def swarm(self, gates: tuple[str, ...], begin: float = 0.0, interpolation_error: float | None = None) -> Swarm:
        """The swarm, once all blocks have been marched."""
        arrays = self.times, self.positions, self.exit_times, self.exit_gates
        return Swarm(*arrays, gates, begin, interpolation_error)


@final
@dataclass(frozen=True, slots=True)
class Walls:
    """The walls of a grid, for kernels, and their gates.

    lower, upper: (axes,) [length], may be infinite; kinds: (axes, 2), REFLECTS, ABSORBS or WRAPS at either end; gates:
    (axes, 2), row of `names`, -1 where the wall does not absorb; names: of the absorbing ones ("x_max").
    """

    lower: FloatArray
    upper: FloatArray
    kinds: IntArray
    gates: IntArray
    names: tuple[str, ...]

    @classmethod
    def of(cls, grid: Grid) -> Walls:
        """The walls of a grid; the gates in the order of a Generator's."""
        kinds = np.array([[WALL_CODES[wall] for wall in axis.walls] for axis in grid.axes], dtype=np.int64)
        gates = np.where(kinds == ABSORBS, np.cumsum(kinds.ravel() == ABSORBS).reshape(kinds.shape) - 1, -1)
        ends = [(axis, end) for axis in range(grid.dimensions) for end in (0, 1) if kinds[axis, end] == ABSORBS]
        names = tuple(f"{grid.names[axis]}_{('min', 'max')[end]}" for axis, end in ends)
        lower, upper = (np.array([getattr(axis, end) for axis in grid.axes], float) for end in ("lower", "upper"))
        return cls(lower, upper, kinds, gates.astype(np.int64), names)


def streams(seed: int, walkers: int, use: Use = "steps") -> list[np.random.Generator]:
    """One stream of random numbers per block of walkers, independent of each other (PCG64DXSM, spawned).

    They keep their state: marched again, they go on. Raises CaseError for a seed below 0.
    """
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:
        raise CaseError("ensemble.seed", f"it is {seed}", "It must be a whole number, 0 or more", "")
    if not isinstance(walkers, int | np.integer) or walkers < 1:
        raise CaseError("ensemble.walkers", f"it is {walkers}", "It must be a whole number, at least 1", "")
    seeds = np.random.SeedSequence(int(seed), spawn_key=(USES[use],)).spawn(-(-int(walkers) // BLOCK))
    return [np.random.Generator(np.random.PCG64DXSM(each)) for each in seeds]


def run_blocks(
    march: March,
    streams: Sequence[np.random.Generator],
    walkers: int,
    *,
    threads: int = 1,
    progress: Progress | None = None,
) -> None:
    """March all blocks, with as many threads as are given; kernels must release the lock to gain by it.

    march: called with the walkers of a block and its stream; between two shares that it yields it can be stopped.
    progress: called with the share of the whole work that is done, in the thread of the caller.

    An exception in a march, or an interruption, stops all and is raised.
    """
    if not isinstance(threads, int | np.integer) or threads < 1:
        raise CaseError("ensemble.threads", f"it is {threads}", "It must be a whole number, at least 1", "")
    done, stopped = np.zeros(len(streams)), threading.Event()

    def through(number: int) -> None:
        block = slice(number * BLOCK, min((number + 1) * BLOCK, walkers))
        for share in march(block, streams[number]):
            done[number] = share
            if stopped.is_set():
                return
        done[number] = 1.0

    with ThreadPoolExecutor(int(threads)) as pool:
        waiting = {pool.submit(through, number) for number in range(len(streams))}
        try:
            _watch(waiting, done, progress or (lambda _: None))
        except BaseException:
            stopped.set()
            pool.shutdown(cancel_futures=True)
            raise


def _watch(waiting: set[Future[None]], done: FloatArray, progress: Progress) -> None:
    """Wait for all blocks and tell how far they are."""
    while waiting:
        ready, waiting = wait(waiting, timeout=PATIENCE)
        for future in ready:
            future.result()
        progress(float(done.mean()))


def checked_times(times: ArrayLike, begin: float = 0.0) -> FloatArray:
    """The saved times, (times,). Raises CaseError unless they are finite, increasing and not before the start."""
    instants = np.atleast_1d(np.asarray(times, dtype=np.float64))
    if instants.ndim != 1 or not instants.size or not np.isfinite(instants).all():
        raise CaseError("ensemble.times", "they are not a list of finite numbers", "At least one is needed", "")
    if instants[0] < begin or (np.diff(instants) <= 0.0).any():
        required = f"They must increase, the first not before the start at {begin:g}"
        raise CaseError("ensemble.times", "the times do not increase", required, "")
    return instants


def checked_starts(starts: ArrayLike, grid: Grid) -> FloatArray:
    """Coordinates of the starts along the axes of the grid, (walkers, axes), a copy.

    Raises CaseError where they have another shape or lie outside the grid.
    """
    places = np.array(starts, dtype=np.float64, order="C")
    if places.ndim != 2 or places.shape[1] != grid.dimensions or not len(places):
        found = f"an array of shape {places.shape}"
        raise CaseError("ensemble.starts", found, f"It must be (walkers, {grid.dimensions}), one row per walker", "")
    places = np.array(grid.along(places.T).T, order="C")
    for axis, column in zip(grid.axes, places.T, strict=True):
        outside = ~((column >= axis.lower) & (column <= axis.upper))
        if outside.any():
            found = f"a walker starts at {axis.name} = {column[outside][0]:g}"
            required = f"{axis.name} runs from {axis.lower:g} to {axis.upper:g}"
            raise CaseError("ensemble.starts", found, required, "Move the start or widen the grid")
    return places


def surface_gates(grid: Grid) -> list[Region]:
    """The absorbing surface of the domain as a gate for walkers; none where there is no domain.

    Raises CaseError where it reflects: walkers cannot be returned there.
    """
    if not isinstance(grid.domain, Domain):
        return []
    if grid.domain.wall != "absorbing":
        required = "Walkers are not returned at the surface of a domain"
        raise CaseError(
            "ensemble", "grid.domain reflects", required, 'Remove [ensemble], or give walls.domain = "absorbing"'
        )
    return [grid.domain.outside(grid.dimensions)]


def checked_step(time_step: float) -> float:
    """The time step. Raises CaseError unless it is a finite number above 0."""
    if not (np.isfinite(time_step) and time_step > 0.0):
        raise CaseError("ensemble.time_step", f"it is {time_step:g}", "It must be a finite number above 0", "")
    return float(time_step)
