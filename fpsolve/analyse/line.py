"""The low-noise time over a barrier in one dimension, and what speaks against it.

The drift and the diffusion D are all that is needed: minima and saddles are the stable and unstable zeros of the
drift, and heights are integrals of -drift / D, in thermal energies.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import final

import numpy as np
from scipy.optimize import brentq

from fpsolve.analyse.geometry import describe, wrapped
from fpsolve.analyse.passage_integral import InapplicableError, positive_diffusion, remainder_integral
from fpsolve.analyse.saddle import (
    NEAR,
    RIVAL,
    another_minimum,
    begins_near,
    in_parallel,
    low_barrier,
    second_way,
    start_near,
    wall_near,
)
from fpsolve.model.grid import BoolArray, FloatArray
from fpsolve.model.noise import NOISE_GRADIENT_SHARE
from fpsolve.model.problem import Problem
from fpsolve.model.region import Region

# To find edges of the target and zeros of the drift.
POINTS_PER_CELL = 16
FEWEST_POINTS = 4001


@final
@dataclass(frozen=True, slots=True)
class Line:
    """A problem of one dimension as functions of a number; a periodic axis goes round and round."""

    problem: Problem

    def bounds(self, start: float) -> tuple[float, float]:
        """How far there is something to look at: walls, the last cells before infinity, once round to either side."""
        axis = self.problem.grid.axes[0]
        length = axis.upper - axis.lower
        if axis.periodic:
            return start - length, start + length
        lower, upper = (
            float(last) if infinite else wall
            for wall, infinite, last in zip((axis.lower, axis.upper), axis.infinite, axis.centres[[0, -1]], strict=True)
        )
        return lower, upper

    def points(self, lower: float, upper: float) -> FloatArray:
        """Points close enough to find edges and zeros between: as many to a cell wherever the cells are finer."""
        axis = self.problem.grid.axes[0]
        count = max(FEWEST_POINTS, POINTS_PER_CELL * self.problem.grid.size + 1)
        if axis.map is None or axis.periodic:
            return np.linspace(lower, upper, count)
        first, last = axis.index(np.array([lower, upper]))
        return np.concatenate([[lower], axis.position(np.linspace(first, last, count))[1:-1], [upper]])

    def positions(self, x: FloatArray) -> FloatArray:
        """The points (points,) as positions (1, points) between the ends of the axis."""
        return wrapped(self.problem.grid, np.atleast_1d(x)[None, :])

    def name(self, x: float) -> str:
        """A point in words."""
        return describe(self.problem.grid, self.positions(np.array(x))[:, 0])

    def drift(self, x: FloatArray) -> FloatArray:
        """The drift at points (points,) [length/time]."""
        drift: FloatArray = self.problem.landscape.drift(self.positions(x))[0]
        return drift

    def drift_slope(self, x: float) -> float:
        """Derivative of the drift [1/time]."""
        landscape, position = self.problem.landscape, self.positions(np.array(x))
        slope = 0.0
        if landscape.hessian is not None:
            slope -= float(landscape.mobility[0, 0] * landscape.hessian(position)[0, 0, 0])
        if landscape.extra_drift is not None:
            slope += float(landscape.extra_drift.derivative()(position)[0, 0, 0])
        return slope

    def drift_zeros(self, lower: float, upper: float) -> FloatArray:
        """Where the drift changes its sign, ascending; minima (stable) and saddles (unstable) take turns."""
        points = self.points(lower, upper)
        signs = np.sign(self.drift(points))
        # A zero that happens to be a point keeps the sign before it.
        signs = signs[np.maximum.accumulate(np.where(signs != 0.0, np.arange(signs.size), 0))]
        (before,) = np.nonzero(signs[:-1] * signs[1:] < 0.0)
        return np.array([self._root(self.drift, points[k], points[k + 1]) for k in before])

    def edge(self, region: Region, start: float, wall: float) -> float | None:
        """Where a region begins on the way from the start to a wall; None where it does not."""

        def level(x: FloatArray) -> FloatArray:
            return region.level(self.positions(x))

        points = self.points(start, wall)
        (inside,) = np.nonzero(level(points) > 0.0)
        if inside.size == 0:
            return None
        if inside[0] == 0:
            reason = "the start lies in the target"
            raise InapplicableError(reason)
        return self._root(level, points[inside[0] - 1], points[inside[0]])

    def _root(self, function: Callable[[FloatArray], FloatArray], one: float, other: float) -> float:
        """Where a function changes its sign, to rounding."""
        (lower, upper), epsilon = self.bounds(one), 4.0 * np.finfo(np.float64).eps
        accuracy = {"xtol": epsilon * (upper - lower), "rtol": epsilon}
        return float(brentq(lambda x: float(function(np.array(x))[0]), one, other, **accuracy))

    def diffusion(self, x: FloatArray) -> FloatArray:
        """D at points (points,) [length**2/time], all positive."""
        return positive_diffusion(self.problem, self.positions(x))

    @property
    def noise_share(self) -> float:
        """The drift as given is the flux drift plus this share of D'."""
        return NOISE_GRADIENT_SHARE[self.problem.diffusion.convention]

    def work(self, points: FloatArray) -> FloatArray:
        """Integral of drift / D from every point to the next, (points - 1,) [thermal energies].

        drift / D is v / D, whose potential may be known, and the convention's share of D' / D.
        """
        exponent = self.problem.exponent
        total = self.noise_share * np.diff(np.log(self.diffusion(points)))
        if exponent.potential is not None:
            total += np.diff(exponent.potential(self.positions(points)))
        if exponent.remainder is not None:
            total += [remainder_integral(self.problem, *ends) for ends in pairwise(points)]
        return total


@final
@dataclass(frozen=True, slots=True)
class End:
    """Where the way from a start to one side ends; kind: "target", or what stands at the end of the axis."""

    place: float
    kind: str

    @property
    def absorbs(self) -> bool:
        """Whether the time ends here."""
        return self.kind != "reflecting"

    @property
    def words(self) -> str:
        """An absorbing end, as the beginning of a reason."""
        return "the target begins" if self.kind == "target" else "an absorbing wall stands"


def reach(line: Line, start: float, target: Region) -> tuple[End, End]:
    """The ends of the part of the axis that can be reached from a start; InapplicableError where none absorbs."""
    walls = zip(line.bounds(start), line.problem.grid.axes[0].walls, strict=True)
    edges = [(line.edge(target, start, place), place, kind) for place, kind in walls]
    lower, upper = (End(place, kind) if edge is None else End(edge, "target") for edge, place, kind in edges)
    if not {"target", "absorbing"} & {lower.kind, upper.kind}:
        reason = "the target cannot be reached: no edge of it lies on the axis"
        raise InapplicableError(reason)
    if any(end.absorbs and end.place == start for end in (lower, upper)):
        reason = "the start lies on the edge of the target"
        raise InapplicableError(reason)
    return lower, upper


@final
@dataclass(frozen=True, slots=True)
class Barrier:
    """The barrier on a line: from the minimum, where the drift is stable, over the saddle, where it is not."""

    line: Line
    minimum: float
    saddle: float
    height: float  # integral of -drift / D from the minimum to the saddle [thermal energies]


@final
@dataclass(frozen=True, slots=True)
class Barriers:
    """The barriers around a minimum that lead into the target: one, or one to either side, the lower first.

    doubt: what speaks against counting just these; None where nothing does.
    """

    ways: tuple[Barrier, ...]
    doubt: str | None

    @property
    def lowest(self) -> Barrier:
        """The lower barrier."""
        return self.ways[0]

    @property
    def log_time(self) -> float:
        """Logarithm of the mean low-noise time: the rates over both barriers add."""
        return in_parallel(map(low_noise_time, self.ways))


def low_noise_time(barrier: Barrier) -> float:
    """Logarithm of the mean time over a barrier, by Laplace's method; InapplicableError where it is not quadratic."""
    line, ends = barrier.line, np.array([barrier.minimum, barrier.saddle])
    slopes = np.array([line.drift_slope(x) for x in ends])
    diffusion = line.diffusion(ends)
    lower, upper = line.bounds(barrier.minimum)
    # A quadratic well is narrower than the axis: its variance is D / |slope|.
    if slopes[0] >= 0.0 or slopes[1] <= 0.0 or (diffusion > np.abs(slopes) * (upper - lower) ** 2).any():
        found = f"{slopes[0]:.2g} and {slopes[1]:.2g}"
        reason = f"the slopes of the drift at minimum and saddle are {found}: well and barrier are not quadratic"
        raise InapplicableError(reason)
    alpha = 1.0 - line.noise_share
    of_noise = (0.5 - alpha) * float(np.log(diffusion[1] / diffusion[0]))
    return math.log(2.0 * math.pi) - 0.5 * float(np.log(np.abs(slopes)).sum()) + barrier.height + of_noise


def barriers_to(line: Line, start: float, target: Region) -> Barriers:
    """The barriers between a start and the ends that absorb; InapplicableError where there is none."""
    ends = reach(line, start, target)
    zeros = line.drift_zeros(*line.bounds(start))
    minimum = _minimum(line, start, zeros)
    if not ends[0].place < minimum < ends[1].place:
        reason = "the drift carries the start into the target: there is no barrier"
        raise InapplicableError(reason)
    ways = [_way(line, minimum, zeros, end) for end in ends]
    out, other = sorted(ways, key=lambda way: way.top if way.end.absorbs else math.inf)
    saddle, height, doubt = _saddle(out)
    first = Barrier(line, minimum, saddle, height)
    rival = _rival(other, minimum)
    doubt = (
        low_barrier(height)
        or doubt
        or _doubt_start(first, start)
        or _doubt_other_side(other, first, rival, start)
        or _doubt_in_series(out, height)
    )
    return Barriers((first,) if rival is None else (first, rival), doubt)


def _rival(way: _Way, minimum: float) -> Barrier | None:
    """The barrier on the other side of the minimum; None where there is no way out over a saddle."""
    if not way.end.absorbs:
        return None
    try:
        saddle, height, _ = _saddle(way)
    except InapplicableError:
        return None
    return Barrier(way.line, minimum, saddle, height)


def _minimum(line: Line, start: float, zeros: FloatArray) -> float:
    """The stable zero of the drift that the start is carried to."""
    lower, upper = line.bounds(start)
    drift = float(line.drift(np.array(start))[0])
    at_start = np.abs(zeros - start) < 1e-12 * (upper - lower)
    if at_start.any():
        found = float(zeros[at_start][0])
        if line.drift_slope(found) > 0.0:
            reason = f"the start is a saddle, with a way down to either side ({line.name(start)})"
            raise InapplicableError(reason)
        return found
    ahead = zeros[zeros > start] if drift > 0.0 else zeros[zeros < start][::-1]
    if drift == 0.0 or ahead.size == 0:
        reason = f"there is no minimum: the drift carries the start {line.name(start)} to an end of the axis"
        raise InapplicableError(reason)
    return float(ahead[0])


@final
@dataclass(frozen=True, slots=True)
class _Way:
    """The way from the minimum outward to one end: the zeros of the drift on it, and the end.

    places, heights [thermal energies above the minimum], unstable: (marks,), the minimum first and the end last.
    saddle_behind: the first saddle behind the end, with its height; None where there is none.
    """

    line: Line
    end: End
    places: FloatArray
    heights: FloatArray
    unstable: BoolArray
    saddle_behind: tuple[float, float] | None

    @property
    def highest(self) -> int:
        """The mark that is highest."""
        return int(np.argmax(self.heights))

    @property
    def top(self) -> float:
        """Height of the highest mark."""
        return float(self.heights.max())

    def name(self, mark: int) -> str:
        return self.line.name(self.places[mark])


def _way(line: Line, minimum: float, zeros: FloatArray, end: End) -> _Way:
    sign = 1.0 if end.place > minimum else -1.0
    outward = sorted((x for x in zeros if sign * x >= sign * minimum), key=lambda x: sign * x)
    # Zeros take turns: the minimum is stable, the next one outward is not, and so on.
    saddles = set(outward[1::2])
    places = [x for x in outward if sign * x <= sign * end.place]
    behind = [x for x in outward[1::2] if sign * x > sign * end.place][:1]
    if places[-1] != end.place:
        places.append(end.place)
    heights = np.append(0.0, -np.cumsum(line.work(np.array([*places, *behind]))))
    return _Way(
        line,
        end,
        np.array(places),
        heights[: len(places)],
        np.array([x in saddles for x in places]),
        (behind[0], float(heights[-1])) if behind else None,
    )


def _saddle(way: _Way) -> tuple[float, float, str | None]:
    """Place and height of the saddle on a way out; the doubt that the end is too close to it."""
    if way.unstable[way.highest]:
        doubt = begins_near(way.end.words, way.top - float(way.heights[-1]), "beyond")
        return float(way.places[way.highest]), way.top, doubt
    if way.saddle_behind is not None:
        place, height = way.saddle_behind
        doubt = begins_near(way.end.words, height - way.top, "before")
        if doubt is not None:
            return place, height, doubt
    reason = f"{way.end.words} on the way up, before any saddle"
    raise InapplicableError(reason)


def _doubt_start(barrier: Barrier, start: float) -> str | None:
    """Whether the start lies so high on the way to the saddle that it may pass without visiting the minimum."""
    minimum = barrier.minimum
    if (start - minimum) * (barrier.saddle - minimum) <= 0.0:
        return None
    return start_near(barrier.height + float(barrier.line.work(np.array([minimum, start]))[0]))


def _doubt_other_side(way: _Way, first: Barrier, rival: Barrier | None, start: float) -> str | None:
    """Whether what lies on the other side of the minimum, but for a barrier that is counted, matters."""
    if not way.end.absorbs:
        near = wall_near(way.name(-1), "minimum") if way.heights[-1] < NEAR else None
        return near or _doubt_minima(way, len(way.places) - 1)
    if way.top >= first.height + RIVAL:
        return _doubt_minima(way, way.highest)
    if rival is None:
        return second_way(f"at {way.name(way.highest)}", way.top - first.height)
    return _saddle(way)[2] or _doubt_start(rival, start) or _doubt_in_series(way, rival.height)


def _doubt_in_series(way: _Way, height: float) -> str | None:
    """Whether other minima and saddles on the way out matter."""
    passed = way.highest
    for mark in np.nonzero(way.unstable)[0].tolist():
        if mark != passed and way.heights[mark] > height - RIVAL:
            below = f"{height - way.heights[mark]:.2g} thermal energies lower"
            return f"another saddle on the way, at {way.name(mark)}, is only {below}"
    for mark in range(passed + 1, len(way.places) - 1):
        if way.heights[mark:].max() - way.heights[mark] > height - RIVAL:
            return f"beyond the saddle another minimum, at {way.name(mark)}, delays the passage"
    return _doubt_minima(way, passed)


def _doubt_minima(way: _Way, before: int) -> str | None:
    """Whether a minimum before a mark holds much of the probability."""
    for mark in range(1, before):
        if not way.unstable[mark] and (doubt := another_minimum(way.name(mark), float(way.heights[mark]))):
            return doubt
    return None
