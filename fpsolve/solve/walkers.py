"""Walkers: an ensemble of the stochastic equation behind the Fokker-Planck equation, by Euler & Maruyama's steps.

    dX = (v + div D) dt + sqrt(2 D) dW         v the flux drift, v + div D Ito's drift

Drift and D are read off a lattice of nodes, linearly between them, so that any problem is walked by the same compiled
loop. It is D that is interpolated, and its root (Cholesky's) taken at every step: D between two nodes is then positive
definite, and exact wherever the entries of D are linear, also where the root is not, as beside a wall at which D
vanishes. The law of the steps depends on D alone, not on which root of it is taken.

Surfaces that absorb are looked for between the two ends of a step too, by the law of the Brownian bridge; the error of
exit times is then of first order in the time step instead of order 1/2 (Mannella 1999; Gobet 2000), and the time of the
exit is drawn from that law.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import final

import numpy as np
from numpy.typing import ArrayLike

from fpsolve.errors import CaseError, RunError
from fpsolve.model.grid import FloatArray, Grid, in_pieces
from fpsolve.model.initial import AbstractInitial, Gaussian, Point
from fpsolve.model.landscape import symmetric_matrix
from fpsolve.model.problem import Problem
from fpsolve.model.region import Region
from fpsolve.model.symmetric import composed, eigen
from fpsolve.solve import walkers_kernels as kernels
from fpsolve.solve.ensemble import (
    BLOCK,
    Progress,
    Record,
    Swarm,
    Walls,
    checked_starts,
    checked_step,
    checked_times,
    run_blocks,
    streams,
    surface_gates,
)
from fpsolve.solve.nodes import MOST_NODES, Nodes

SLICE = 200_000  # steps of single walkers between two looks at whether to stop: some hundredths of a second
# Where something changes smoothly it is taken anew so often, in the middle of every slice of time; the error falls as
# the square of that number.
SLICES = 200
FEWER_NODES = 8  # so many times fewer nodes, where they are sampled so often
MOST_CHECKED = 4096  # positions around which the interpolation is checked
ROUNDING = 1e-9  # relative difference of a step count that is rounding
FAR_OUT = 100.0  # times the outermost node: no normal step leads there
MOST_DRAWS = 1000  # of a Gaussian start, until all lie inside the walls


def walk(
    problem: Problem,
    starts: ArrayLike,
    times: ArrayLike,
    *,
    time_step: float,
    absorb: Sequence[Region | str] = (),
    seed: int,
    threads: int = 1,
    tail_index: float | None = None,
    bridge: bool = True,
    begin: float = 0.0,
    held: bool = False,
    progress: Progress | None = None,
) -> Swarm:
    """Let walkers follow the stochastic equation of a problem.

    Reflecting walls return them along the conormal D n, so that nothing flows through; periodic ones join the ends;
    absorbing walls and the regions `absorb` are gates, in the order and by the names of a Motion. One who starts in a
    region leaves at once. The law of what comes out has an error of first order in the time step.

    Where drift or noise change in time, jumps between stages are met exactly; what changes smoothly is taken from the
    middles of `SLICES` even parts of the time, or of single steps where those are longer.

    Parameters
    ----------
    starts : (walkers, axes) [length]; see `draw_starts`.
    times : saved times, increasing; the start itself is saved where `begin` is the first of them.
    time_step : the longest step; the steps between two saved times are equal [time].
    absorb : regions that absorb, or their conditions.
    seed : of the random numbers; with the same one the same swarm comes out, whatever the threads.
    threads : how many blocks of walkers move at a time.
    tail_index : alpha in (0, 2]; below 2 the steps are symmetric stable jumps D**(1/alpha) s in place of normal ones,
        with E exp(i k s) = exp(-time_step sum of |k|**alpha), the components of s being independent: for alpha = 2 they
        are those of the Fokker-Planck equation. Exits are then seen at the ends of steps only.
    bridge : whether exits between the ends of a step count.
    begin : the time of the start [time]. held : whether everything stays as it is at the time of the problem.
    progress : called with the share that is done.

    Raises CaseError for bad input, RunError where a walker goes beyond all bounds.
    """
    grid, alpha = problem.grid, _checked_tail(tail_index)
    instants, places = checked_times(times, begin), checked_starts(starts, grid)
    given_regions = [problem.region(text, "ensemble.absorb") if isinstance(text, str) else text for text in absorb]
    regions = surface_gates(grid) + given_regions
    changing = None if held or not problem.depends_on_time else problem
    walls, legs = Walls.of(grid), _legs(changing, instants, begin, checked_step(time_step))
    record = Record.room(instants, *places.shape)
    nodes = Nodes.of(
        grid, MOST_NODES[grid.dimensions] // (FEWER_NODES if changing and changing.changes_smoothly else 1)
    )
    # Walkers move along the axes of the grid: their coordinates are those until the end.
    crowd = _Crowd(places.copy(), record, walls, alpha, bridge and alpha == kernels.GAUSSIAN, time_step)
    randoms, medium = streams(seed, len(places)), None
    for number, leg in enumerate(legs):
        now = changing.at(leg.middle) if changing else problem
        medium = Medium.of(now, nodes, regions, alpha)
        march, told = partial(crowd.through, leg, medium), partial(_tell, progress, number, len(legs))
        run_blocks(march, randoms, len(places), threads=threads, progress=told)
    if instants[0] == begin:
        record.positions[0] = np.where(record.exit_times[:, None] > begin, places, np.nan)
    error = None if medium is None else medium.error(np.concatenate([places[None], record.positions]))
    record.positions[:] = np.moveaxis(grid.placed(np.moveaxis(record.positions, 2, 0)), 0, 2)
    names = walls.names + tuple(region.name for region in regions)
    return record.swarm(names, begin, error)


def _tell(progress: Progress | None, number: int, count: int, share: float) -> None:
    """Say how much is done, in one of so many legs."""
    if progress is not None:
        progress((number + share) / count)


def _checked_tail(tail_index: float | None) -> float:
    """The tail index alpha; 2 unless it is given."""
    if tail_index is None:
        return kernels.GAUSSIAN
    if not 0.0 < tail_index <= kernels.GAUSSIAN:
        found, required = f"it is {tail_index:g}", "It must be above 0 and at most 2, which is normal noise"
        raise CaseError("ensemble.tail_index", found, required, "")
    return float(tail_index)


@final
@dataclass(frozen=True, slots=True)
class _Leg:
    """A stretch of time over which the problem is taken as it is in its middle.

    stops: saved times within, and its end, increasing; rows: which saved time each is, -1 for none.
    """

    begin: float
    stops: tuple[float, ...]
    rows: tuple[int, ...]

    @property
    def middle(self) -> float:
        """The middle of the time."""
        return 0.5 * (self.begin + self.stops[-1])


def _legs(changing: Problem | None, times: FloatArray, begin: float, time_step: float) -> list[_Leg]:
    """The legs from the start to the last saved time: one, unless there is a problem that changes."""
    end = float(times[-1])
    ends = {end, *(jump for jump in (changing.course.jumps if changing else ()) if begin < jump < end)}
    if changing and changing.changes_smoothly:
        count = int(np.clip((end - begin) / time_step, 1, SLICES))
        ends |= set(np.linspace(begin, end, count + 1)[1:-1].tolist())
    legs = []
    for lower, upper in itertools.pairwise([begin, *sorted(ends - {begin})]):
        (rows,) = np.nonzero((times > lower) & (times <= upper))
        stops, numbers = times[rows].tolist(), rows.tolist()
        more = not stops or stops[-1] < upper
        legs.append(_Leg(lower, (*stops, *[upper] * more), (*numbers, *[-1] * more)))
    return legs


@final
@dataclass(frozen=True)
class Medium:
    """What walkers feel at one time, at the nodes of a lattice: components along the axes of the grid.

    table: (nodes, channels), see the kernels; reach: bound on the diffusion across the surface of every region,
    (regions,) [level**2/time].
    """

    problem: Problem
    nodes: Nodes
    table: FloatArray
    reach: FloatArray

    @classmethod
    def of(cls, problem: Problem, nodes: Nodes, regions: Sequence[Region], alpha: float) -> Medium:
        """Sample a problem. Raises CaseError where something is not finite, or has no Ito drift."""
        _ = problem.exponent  # raises where a Stratonovich drift is not known
        grid, axes = problem.grid, problem.grid.dimensions
        places = grid.placed(nodes.positions())
        with np.errstate(all="ignore"):
            drifts = grid.turned(in_pieces(lambda points: ito_drift(problem, points), places))
            drift = nodes.filled(drifts, "landscape.drift")
            tensors = nodes.filled(grid.turned_matrices(in_pieces(problem.diffusion.matrix, places)), "noise.diffusion")
            levels = [nodes.filled(region.level(places), f"ensemble.absorb ({region.name})") for region in regions]
        lower = np.tril_indices(axes)
        rows = [*drift, *levels, *tensors[lower]]
        if alpha < kernels.GAUSSIAN:
            values, vectors = eigen(tensors)
            rows += list(composed(np.maximum(values, 0.0) ** (1.0 / alpha), vectors)[lower])
        reach = np.array([_reach(nodes, level, tensors) for level in levels])
        return cls(problem, nodes, np.ascontiguousarray(np.array(rows).T), reach)

    def error(self, positions: FloatArray) -> float:
        """Error of the interpolation of drift and D around positions (..., axes), nan being left out.

        It is measured in the middles of the lattice's boxes around them, where it is largest: root mean square of the
        difference over that of the field, or over the field's median on the lattice where that is larger (walkers may
        be seen only where the drift vanishes); for the drift or for D, whichever is larger.
        """
        flat = positions.reshape(-1, positions.shape[-1])
        flat = flat[np.isfinite(flat).all(axis=1)]
        flat = flat[:: max(1, len(flat) // MOST_CHECKED)]
        corner, middles = self.nodes.boxes(flat.T)
        axes, grid, places = len(middles), self.problem.grid, self.problem.grid.placed(middles)
        between = self.table[corner[:, None] + self.nodes.corners].mean(axis=1).T
        tensors = grid.turned_matrices(self.problem.diffusion.matrix(places))[np.tril_indices(axes)]
        begin = axes + self.reach.size
        parts = (
            (slice(0, axes), grid.turned(ito_drift(self.problem, places))),
            (slice(begin, begin + len(tensors)), tensors),
        )
        return max(_relative(between[part], exact, self.table[:, part]) for part, exact in parts)


def ito_drift(problem: Problem, positions: FloatArray) -> FloatArray:
    """Ito's drift [length/time], (axes, points): the flux drift plus div D."""
    diffusion = problem.diffusion
    drift = problem.landscape.drift(positions)
    if diffusion.constant is not None or diffusion.convention == "ito":
        return drift
    return drift + (diffusion.noise_drift(positions) + diffusion.divergence(positions))


def _relative(found: FloatArray, wanted: FloatArray, everywhere: FloatArray) -> float:
    """Root mean square of a difference over the size of the field, (entries, points); everywhere: (nodes, entries)."""
    size = max(float(np.sqrt(np.mean(wanted**2))), float(np.median(np.abs(everywhere).max(axis=1))))
    return float(np.sqrt(np.mean((found - wanted) ** 2))) / size if size > 0.0 else 0.0


def _reach(nodes: Nodes, level: FloatArray, tensors: FloatArray) -> float:
    """A bound on grad(level) . D grad(level) over all boxes: (sum over axes of largest |slope| sqrt(D_aa))**2."""
    box, total = level.reshape(nodes.shape), 0.0
    for axis in range(len(nodes.shape)):
        gaps = np.diff(nodes.along(axis)).reshape(-1, *[1] * (len(nodes.shape) - 1 - axis))
        total += float((np.abs(np.diff(box, axis=axis)) / gaps).max()) * math.sqrt(max(tensors[axis, axis].max(), 0.0))
    return total**2


@final
@dataclass(frozen=True, slots=True)
class _Crowd:
    """The walkers on their way.

    positions: where they are now, (walkers, axes); a march changes them, and the record.
    """

    positions: FloatArray
    record: Record
    walls: Walls
    alpha: float
    bridge: bool
    time_step: float

    def through(self, leg: _Leg, medium: Medium, block: slice, stream: np.random.Generator) -> Iterator[float]:
        """Move a block through a leg; yields the share that is done. Raises RunError for one beyond all bounds."""
        now, most = leg.begin, max(1, SLICE // (block.stop - block.start))
        gone = self.record.exit_gates[block]
        for stop, row in zip(leg.stops, leg.rows, strict=True):
            count = max(1, math.ceil((stop - now) / self.time_step * (1.0 - ROUNDING)))
            length = (stop - now) / count
            for done in range(0, count, most):
                if (gone >= 0).all():
                    return
                self._some(medium, block, stream, now + done * length, length, min(most, count - done))
                yield (now + done * length - leg.begin) / (leg.stops[-1] - leg.begin)
            if row >= 0:
                self.record.positions[row, block][gone < 0] = self.positions[block][gone < 0]
            now = stop

    def _some(
        self, medium: Medium, block: slice, stream: np.random.Generator, now: float, time_step: float, steps: int
    ) -> None:
        """Some steps of one length."""
        record, nodes, walls = self.record, medium.nodes, self.walls
        lost = kernels.march(
            stream,
            *(self.positions[block], record.exit_times[block], record.exit_gates[block]),
            *(now, time_step, steps, self.alpha, self.bridge),
            (nodes.places, nodes.first, nodes.pace, nodes.strides, nodes.corners, medium.table),
            (walls.lower, walls.upper, walls.kinds, walls.gates),
            medium.reach,
        )
        if lost or (self.alpha == kernels.GAUSSIAN and self._strays(block, nodes)):
            found = f"a walker went beyond all bounds before t = {now + steps * time_step:g}"
            required = "A step must be shorter than 2 over the steepest slope of the drift"
            raise RunError("ensemble", found, required, f"Lower ensemble.time_step, which is {self.time_step:g}")

    def _strays(self, block: slice, nodes: Nodes) -> bool:
        """Whether a walker is so far out that only unstable steps can have brought it there."""
        return bool(np.abs(self.positions[block]).max() > FAR_OUT * np.abs(nodes.places).max())


def draw_starts(problem: Problem, initial: AbstractInitial | ArrayLike, walkers: int, seed: int) -> FloatArray:
    """Where walkers start, (walkers, axes) [length].

    A Point is met exactly, a Gaussian drawn exactly (anew for those that come to lie behind walls or outside the
    domain); from any other density, or a probability of every cell (cells,), a cell is drawn, and within it a place,
    evenly in index coordinates. Raises CaseError where the start is none on the grid.
    """
    randoms = streams(seed, walkers, "starts")
    if isinstance(initial, Point):
        initial.probability(problem)  # refuses a point outside
        return np.tile(np.asarray(initial.point, dtype=np.float64), (walkers, 1))
    given = initial.probability(problem) if isinstance(initial, AbstractInitial) else np.asarray(initial, np.float64)
    if given.size != problem.grid.size or not (given >= 0.0).all() or not given.sum() > 0.0:
        found = f"{given.size} values, the smallest {given.min():g}"
        required = f"A probability of every one of the {problem.grid.size} cells is not negative"
        raise CaseError("ensemble.initial", found, required, "")
    cumulative = np.cumsum(given.ravel())
    starts = np.empty((walkers, problem.grid.dimensions))
    for number, stream in enumerate(randoms):
        block = slice(number * BLOCK, min((number + 1) * BLOCK, walkers))
        count = block.stop - block.start
        starts[block] = (
            _gaussian(problem.grid, initial, count, stream)
            if isinstance(initial, Gaussian)
            else _in_cells(problem.grid, cumulative, count, stream)
        )
    return starts


def _in_cells(grid: Grid, cumulative: FloatArray, count: int, stream: np.random.Generator) -> FloatArray:
    """Places drawn from probabilities of cells, given as their running sum; (count, axes)."""
    cells = np.searchsorted(cumulative, stream.random(count) * cumulative[-1], side="right")
    index = grid.index_of(np.minimum(cells, grid.size - 1).astype(np.int64)) - 0.5
    places = grid.positions(index + stream.random((grid.dimensions, count))).T
    if grid.domain is not None:  # the centre of a cell that holds something is inside
        centres = grid.positions((index + 0.5).astype(np.float64)).T
        places = np.where((grid.domain.level(places.T) > 0.0)[:, None], places, centres)
    places = grid.along(places.T).T
    walls = Walls.of(grid)
    return grid.placed(np.clip(places, walls.lower, walls.upper).T).T


def _gaussian(grid: Grid, initial: Gaussian, count: int, stream: np.random.Generator) -> FloatArray:
    """Places drawn from a normal density between the walls; (count, axes)."""
    axes, walls = grid.dimensions, Walls.of(grid)
    given = initial.covariance if initial.width is None else initial.width**2 * np.eye(axes)
    root = np.linalg.cholesky(symmetric_matrix(given if given is not None else 0.0, axes, "initial.gaussian"))
    places, missing = np.empty((count, axes)), np.ones(count, dtype=np.bool_)
    for _ in range(MOST_DRAWS):
        places[missing] = np.asarray(initial.mean) + stream.standard_normal((int(missing.sum()), axes)) @ root.T
        along = grid.along(places.T).T
        missing[:] = ((along < walls.lower) | (along > walls.upper)).any(axis=1)
        if grid.domain is not None:
            missing |= grid.domain.level(places.T) <= 0.0
        if not missing.any():
            return places
    raise CaseError("initial.gaussian", "hardly any of it lies inside the walls", "Most of it must", "Widen the grid")
