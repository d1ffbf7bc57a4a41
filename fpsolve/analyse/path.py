"""The most probable path from a minimum over a saddle and down the far side.

For weak noise nearly all escapes follow one path. Where the drift is -M grad L and D = T M it is the way of steepest
descent in the metric of M, walked backwards up to the saddle; elsewhere it is the path of least action, which climbs
on another way than the one on which the drift comes down.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, final

import numpy as np
from scipy.integrate import solve_ivp

from fpsolve.analyse.action import NoPathError, action_along, least_action_path
from fpsolve.analyse.geometry import describe, displacement, wrapped
from fpsolve.analyse.stationary_points import PLACE, StationaryPointError
from fpsolve.model.grid import FloatArray, Grid
from fpsolve.model.problem import Problem

Method: TypeAlias = Literal["steepest descent", "minimum action"]

LEG_POINTS = 200  # on either side of the saddle, equally far apart
# Shares of the distance between minimum and saddle: how far from the saddle a way down starts along the tangent
# (the error is its square), how close to a point at rest it ends, and how closely points at rest are to be known.
FIRST_STEP = 1e-6
LAST_STEP = 1e-6
SAME_POINT = 1e-9
LONGEST_RELAXATION = 1e6  # [1 / rate at which the saddle is left]; only degenerate minima take as long
MOST_NEWTON_STEPS = 50
MOST_EVALUATIONS = 50_000  # of the drift on one way down; some thousands are usual, only endless ways take more


@final
@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """A path from a minimum over a saddle to where the drift leads beyond it: the next minimum, or a wall.

    Where the drift leads to infinity the path ends at the outermost cell centres.

    points: (points, axes) [length]; on periodic axes they run on beyond the ends of the axis, without jumps.
    arc_length: from the minimum, (points,) [length]. loss: (points,); None where there is none.
    saddle: row of the saddle. method: how the climb was found; it came down along the drift.
    action: of the climb, the exponent of the escape time for weak noise (barrier over noise); None where D vanishes
    on it. reason: why this is not the most probable path, a clause for the report; None where it is.
    """

    points: FloatArray
    arc_length: FloatArray
    loss: FloatArray | None
    saddle: int
    method: Method
    action: float | None
    reason: str | None = None

    @property
    def climb(self) -> FloatArray:
        """The points from the minimum to the saddle, both included."""
        return self.points[: self.saddle + 1]


def most_probable_path(
    problem: Problem, minimum: Sequence[float] | FloatArray, saddle: Sequence[float] | FloatArray
) -> Path:
    """The path that escapes take when the noise is weak.

    Drift -M grad L with D = T M, and every problem of one dimension: steepest descent from the saddle to both sides.
    Otherwise the climb is the path of least action (`action`; Heymann & Vanden-Eijnden 2008), and where that is not
    to be had, for instance because D vanishes on the way, it is the way of steepest descent with the reason.

    Parameters
    ----------
    problem : with a loss or without.
    minimum, saddle : (axes,) [length]; moved onto the zeros of the drift close to them.

    Raises
    ------
    StationaryPointError : there is no stable, or no once unstable, point at rest of the drift close to them.
    """
    descended = steepest_descent(problem, minimum, saddle)
    landscape = problem.landscape
    if (landscape.is_gradient and problem.temperature is not None) or problem.grid.dimensions == 1:
        return descended
    try:
        climb, action = least_action_path(problem, descended.climb)
    except NoPathError as refusal:
        return replace(descended, reason=f"it is the way of steepest descent: {refusal}")
    down = descended.points[descended.saddle :]
    return _path(problem, climb, down, "minimum action", action)


def steepest_descent(
    problem: Problem, minimum: Sequence[float] | FloatArray, saddle: Sequence[float] | FloatArray
) -> Path:
    """The two ways on which the drift comes down from a saddle, to a minimum and to the far side.

    The differential equation dx/dt = drift is solved from a point next to the saddle, along the direction in which it
    is left, to rounding and the square of FIRST_STEP. Parameters and errors as in `most_probable_path`; a saddle from
    which no way leads to the minimum is an error too, and one from which a way never ends.
    """
    bottom, top = (np.asarray(point, dtype=np.float64) for point in (minimum, saddle))
    scale = float(np.linalg.norm(displacement(problem.grid, bottom, top)))
    bottom, top = _at_rest(problem, bottom, scale, 0), _at_rest(problem, top, scale, 1)
    ways = [_way_down(problem, top, side, scale) for side in (1.0, -1.0)]
    ends = [displacement(problem.grid, way[-1], bottom) for way in ways]
    back = int(np.linalg.norm(ends[1]) < np.linalg.norm(ends[0]))
    if np.linalg.norm(ends[back]) > 1e-3 * scale:
        places = " and ".join(_destination(problem.grid, way[-1]) for way in ways)
        raise _misled(problem, top, f"{places}, not to the minimum")
    climb, down = ways[back][::-1], ways[1 - back]
    return _path(problem, climb, down, "steepest descent", action_along(problem, climb))


def _path(problem: Problem, climb: FloatArray, down: FloatArray, method: Method, action: float | None) -> Path:
    """The path made of a climb to the saddle and a way down from it, each (points, axes)."""
    points = np.concatenate([climb, down[1:]])
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])
    loss = problem.landscape.loss
    heights = None if loss is None else loss(wrapped(problem.grid, points.T))
    return Path(points, lengths, heights, len(climb) - 1, method, action)


def drift_slopes(problem: Problem, position: FloatArray) -> FloatArray:
    """Derivatives of the drift, (axes, axes) [1/time]: row i, column j is d drift_i / d x_j."""
    landscape, column = problem.landscape, wrapped(problem.grid, position)[:, None]
    slopes = np.zeros((position.size, position.size))
    if landscape.hessian is not None:
        slopes -= landscape.mobility @ landscape.hessian(column)[..., 0]
    if landscape.extra_drift is not None:
        slopes += landscape.extra_drift.derivative()(column)[..., 0]
    return slopes


def _drift(problem: Problem, position: FloatArray) -> FloatArray:
    drift: FloatArray = problem.landscape.drift(wrapped(problem.grid, position)[:, None])[:, 0]
    return drift


def _at_rest(problem: Problem, position: FloatArray, scale: float, unstable: int) -> FloatArray:
    """The zero of the drift close to a position, with its number of unstable directions checked."""
    found = _drift_zero(problem, position, scale)
    if found is not None:
        growing = int((np.linalg.eigvals(drift_slopes(problem, found)).real > 0.0).sum())
        if growing == unstable and np.linalg.norm(displacement(problem.grid, found, position)) < 0.5 * scale:
            return found
    name = ("minimum", "saddle")[unstable]
    reason = f"the drift has no {name} close to {describe(problem.grid, wrapped(problem.grid, position))}"
    raise StationaryPointError(PLACE, reason)


def _drift_zero(problem: Problem, position: FloatArray, scale: float) -> FloatArray | None:
    """Where Newton's method for drift = 0 arrives from a position; None where it does not settle."""
    for _ in range(MOST_NEWTON_STEPS):
        slopes, drift = drift_slopes(problem, position), _drift(problem, position)
        if not (np.isfinite(slopes).all() and np.isfinite(drift).all()):
            return None
        step = -np.linalg.lstsq(slopes, drift, rcond=None)[0]
        if not np.linalg.norm(step) < scale:
            return None
        position = position + step
        if np.linalg.norm(step) <= SAME_POINT * scale:
            return position
    return None


def _way_down(problem: Problem, saddle: FloatArray, side: float, scale: float) -> FloatArray:
    """The way of the drift from a saddle to one side, equally spaced, (LEG_POINTS + 1, axes), the saddle first.

    Its arc length is carried along as one more unknown. It ends in a minimum or at the ends of the grid (`_Ends`).
    """
    rates, directions = np.linalg.eig(drift_slopes(problem, saddle))
    fastest = int(np.argmax(rates.real))
    direction, rate = directions[:, fastest].real, float(rates[fastest].real)
    first, axes = FIRST_STEP * scale, saddle.size
    ends = _Ends.of(problem.grid)
    evaluations = itertools.count(1)

    def motion(_: float, state: FloatArray) -> FloatArray:
        drift = _drift(problem, ends.nearest(state[:axes]))  # beyond the ends it goes on: no trial step blows up
        if not np.isfinite(drift).all():
            raise _misled(problem, saddle, f"{_destination(problem.grid, state[:axes])}, where it is not finite")
        if next(evaluations) > MOST_EVALUATIONS:
            raise _misled(problem, saddle, "no point of rest")
        return np.append(drift, np.linalg.norm(drift))

    def speed(_: float, state: FloatArray) -> float:
        drift = _drift(problem, ends.nearest(state[:axes]))
        return float(np.linalg.norm(drift)) - 0.5 * LAST_STEP * scale * rate

    def room(_: float, state: FloatArray) -> float:
        return ends.room(state[:axes])

    speed.terminal = room.terminal = True  # type: ignore[attr-defined]
    speed.direction = -1.0  # type: ignore[attr-defined]
    solved = solve_ivp(
        motion,
        (0.0, LONGEST_RELAXATION / rate),
        np.append(saddle + side * first * direction / np.linalg.norm(direction), first),
        method="LSODA",
        rtol=1e-11,
        atol=1e-13 * scale,
        events=(speed, room),
        dense_output=True,
    )
    lengths = np.linspace(0.0, solved.y[-1, -1], LEG_POINTS + 1)
    way = np.concatenate([saddle[None, :], solved.sol(_times_at(solved, lengths[1:])).T[:, :axes]])
    way[-1] = _rest_beside(problem, way[-1], scale)
    return way


def _rest_beside(problem: Problem, end: FloatArray, scale: float) -> FloatArray:
    """The zero of the drift that a way was about to reach, or else its end."""
    rest = _drift_zero(problem, end, scale)
    return end if rest is None or np.linalg.norm(rest - end) >= 1e-3 * scale else rest


def _misled(problem: Problem, saddle: FloatArray, destination: str) -> StationaryPointError:
    reason = f"from the saddle {describe(problem.grid, saddle)} the drift leads to {destination}"
    return StationaryPointError(PLACE, reason)


def _times_at(solved: Any, lengths: FloatArray) -> FloatArray:
    """When the arc length, the last unknown of a solution, reaches some values: by bisection."""
    early, late = np.zeros_like(lengths), np.full_like(lengths, solved.t[-1])
    for _ in range(60):
        middle = 0.5 * (early + late)
        reached = solved.sol(middle)[-1] < lengths
        early, late = np.where(reached, middle, early), np.where(reached, late, middle)
    return late


@final
@dataclass(frozen=True, slots=True)
class _Ends:
    """The lowest and the highest coordinates along the axes that a way may reach, (axes,): no bound on periodic axes.

    A wall at infinity is not reached, or in a finite time at an infinite speed: there it is the outermost cell centre.
    """

    grid: Grid
    lower: FloatArray
    upper: FloatArray

    @classmethod
    def of(cls, grid: Grid) -> _Ends:
        """Those of a grid."""
        lower, upper = np.full(grid.dimensions, -np.inf), np.full(grid.dimensions, np.inf)
        for number, axis in enumerate(grid.axes):
            if not axis.periodic:
                lower[number] = axis.centres[0] if axis.infinite[0] else axis.lower
                upper[number] = axis.centres[-1] if axis.infinite[1] else axis.upper
        return cls(grid, lower, upper)

    def nearest(self, position: FloatArray) -> FloatArray:
        """The position (axes,), or the nearest one within."""
        return self.grid.placed(np.clip(self.grid.along(position), self.lower, self.upper))

    def room(self, position: FloatArray) -> float:
        """How far a position (axes,) is from the nearest end; negative beyond."""
        along = self.grid.along(position)
        return float(np.minimum(along - self.lower, self.upper - along).min())


def _destination(grid: Grid, end: FloatArray) -> str:
    """Where a way ends, in words; in the outermost cell of an infinite axis it is on its way to infinity."""
    for axis, x in zip(grid.axes, grid.along(end), strict=True):
        below, above = axis.infinite
        if (below and axis.index(x) < 0.5) or (above and axis.index(x) > axis.cells - 1.5):
            return "infinity"
    return describe(grid, wrapped(grid, end))
