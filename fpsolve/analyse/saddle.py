"""The mean time over saddles of the loss, in any number of dimensions, and what speaks against it.

The formulas count one minimum, the saddles that lead from it straight into the target, and a Gaussian at each; the
rates over several saddles add. A doubt is a reason why the time to the target differs, as a clause for the report;
doubts that also arise in one dimension without a loss are worded here once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from fpsolve.analyse.geometry import cell_size, describe, displacement, is_inside, on_walls, separation
from fpsolve.analyse.passage_integral import InapplicableError
from fpsolve.analyse.passes import entry_into, minima_below, neighbourhood, pass_between, summit_between
from fpsolve.analyse.path import drift_slopes
from fpsolve.analyse.stationary_points import (
    PLACE,
    StationaryPoint,
    StationaryPointError,
    descent,
    loss_at,
    minimum_near,
)
from fpsolve.model.grid import BoolArray, FloatArray, Grid
from fpsolve.model.problem import Problem
from fpsolve.model.region import Region

# What is less than this higher or lower matters (by exp(-3) = 5 %): the rates over such saddles are added.
RIVAL = 3.0  # [thermal energies]
# Within this of the saddle an absorbing edge, or a wall, takes more than (1 - erf(sqrt 2)) / 2 = 2 % of the Gaussian.
NEAR = 2.0  # [thermal energies]
SAME_PLACE = 0.05  # [thermal energies]: what is said to be at the saddle itself
# Eigenvalues of a Hessian below this share of the largest are rounding: the point is degenerate.
DEGENERATE = 1e-9


def langer_time(passage: Passage) -> float:
    """Logarithm of the mean time over the saddles of a passage whose density at rest is exp(-L / T).

    1 / tau = sum over saddles of l / 2 pi sqrt(det H_a / |det H_b|) exp(-(L_b - L_a) / T), with l the positive
    eigenvalue of the derivative of the drift at the saddle, the rate at which it is left: that of -M H_b for the drift
    -M grad L (Langer 1969), of -M H_b + df_b for an added drift f that keeps the density (Bouchet & Reygner 2016).
    """
    minimum, times = passage.minimum, []
    for saddle in passage.saddles:
        growth = float(np.linalg.eigvals(drift_slopes(passage.problem, saddle.position)).real.max())
        stiffness = np.log(np.abs(saddle.eigenvalues)).sum() - np.log(minimum.eigenvalues).sum()
        times.append(math.log(2.0 * math.pi / growth) + 0.5 * stiffness + passage.height(saddle))
    return in_parallel(times)


def in_parallel(log_times: Iterable[float]) -> float:
    """Logarithm of the time when the rates of several ways add: 1 / tau = sum of 1 / tau_i."""
    return -float(np.logaddexp.reduce([-log_time for log_time in log_times]))


def reason_of(refusal: InapplicableError | StationaryPointError) -> str:
    """The clause for the report that a refusal holds."""
    return refusal.found if isinstance(refusal, StationaryPointError) else str(refusal)


def low_barrier(height: float) -> str | None:
    """The doubt that a barrier of `height` thermal energies raises."""
    return f"barrier/noise is only {height:.2g}" if height < 1.0 else None


def begins_near(what: str, drop: float, side: str) -> str | None:
    """The doubt that an absorbing edge `drop` thermal energies below the saddle raises; what: 'the target begins'."""
    if drop >= NEAR:
        return None
    place = "at" if drop < SAME_PLACE else f"{drop:.1f} thermal energies {side}"
    halves = "the formulas are for a passage into the far well (absorbing on the saddle halves the time)"
    return f"{what} {place} the saddle; {halves}"


def start_near(below: float) -> str | None:
    """The doubt that a start `below` thermal energies below the saddle raises: it may not visit the minimum."""
    return f"the start lies only {below:.1f} thermal energies below the saddle" if below < NEAR else None


def wall_near(wall: str, point: str) -> str:
    """The doubt that a wall cuts the Gaussian around the minimum or the saddle."""
    return f"the wall {wall} lies within {NEAR:g} thermal energies of the {point}"


def second_way(place: str, excess: float) -> str:
    """The doubt that another way out raises, `excess` thermal energies higher than the saddle."""
    amount = "no higher" if excess < SAME_PLACE else f"only {excess:.1f} thermal energies higher"
    return f"a second way out, {place}, is {amount} but does not lead straight over a saddle into the target"


def another_minimum(place: str, excess: float) -> str | None:
    """The doubt that a minimum raises which is reached without crossing the saddle, `excess` thermal energies up."""
    if excess >= RIVAL:
        return None
    amount = f"only {excess:.1f} thermal energies higher" if excess > SAME_PLACE else "no higher"
    return f"another minimum on this side of the saddle, at {place}, is {amount}"


@final
@dataclass(frozen=True, slots=True, eq=False)
class Passage:
    """From a minimum into a target over one saddle, or over several side by side.

    saddles: the lowest first; the others lead straight from the minimum into the target too, and are less than RIVAL
    higher. temperature: the noise at the lowest saddle, along the way over it [loss]. doubt: why the time may not be
    that of these Gaussians alone; None where nothing speaks against it.
    """

    problem: Problem
    start: FloatArray  # (axes,)
    target: Region
    minimum: StationaryPoint
    saddles: tuple[StationaryPoint, ...]
    temperature: float
    doubt: str | None = None

    def height(self, saddle: StationaryPoint) -> float:
        """Height of a saddle above the minimum [thermal energies]."""
        return (saddle.loss - self.minimum.loss) / self.temperature

    def below(self, position: FloatArray) -> float:
        """How far a position lies below the lowest saddle [thermal energies]."""
        return (self.saddles[0].loss - loss_at(self.problem, position)) / self.temperature

    @property
    def closed_height(self) -> float:
        """How high around the saddles cells are closed, to look for other ways [thermal energies]."""
        return min(4.0, 0.5 * self.height(self.saddles[0]))

    @property
    def closed(self) -> BoolArray:
        """Cells around the saddles, (cells,)."""
        height = self.closed_height * self.temperature
        return np.logical_or.reduce([neighbourhood(self.problem.grid, saddle, height) for saddle in self.saddles])


def passage_to(problem: Problem, start: FloatArray, target: Region) -> Passage:
    """The passage from the minimum that a start belongs to, over the lowest saddles, into a target.

    Parameters
    ----------
    problem : with a loss and any noise.
    start : (axes,) [length].

    Raises
    ------
    StationaryPointError : there is no loss, no minimum or no saddle on the way, or one of them is degenerate.
    """
    minimum = minimum_near(problem, start)
    lowest = pass_between(problem, minimum.position, target)
    if not (is_inside(problem.grid, minimum.position) and is_inside(problem.grid, lowest.saddle.position)):
        raise StationaryPointError(PLACE, "the minimum or the saddle lies outside the domain")
    if lowest.begins == "before":
        raise StationaryPointError(PLACE, "the saddle lies inside the target")
    temperature = _temperature(problem, lowest.saddle)
    passage, rival = _with_rivals(Passage(problem, start, target, minimum, (lowest.saddle,), temperature))
    _refuse_degenerate(passage)
    doubt = (
        low_barrier(passage.height(lowest.saddle))
        or (begins_near("the target begins", 0.0, "beyond") if lowest.begins == "on" else None)
        or _doubt_beyond(passage)
        or _doubt_start(passage)
        or _doubt_walls(passage)
        or rival
        or _doubt_minima(passage)
    )
    return replace(passage, doubt=doubt)


def _temperature(problem: Problem, saddle: StationaryPoint) -> float:
    """The noise over the mobility along the way over a saddle: T itself where D = T M, or in phase space."""
    across = saddle.lowest_direction
    diffusion = problem.diffusion.matrix(saddle.position[:, None])[..., 0]
    if (inertia := problem.landscape.inertia) is not None:
        return float(inertia.temperature(diffusion[1, 1]))
    if not across @ diffusion @ across > 0.0:
        raise StationaryPointError(PLACE, "there is no noise along the way over the saddle")
    return float(across @ diffusion @ across / (across @ problem.landscape.mobility @ across))


def _refuse_degenerate(passage: Passage) -> None:
    for name, point in [("minimum", passage.minimum), *(("saddle", saddle) for saddle in passage.saddles)]:
        sizes = np.abs(point.eigenvalues)
        if sizes.min() <= DEGENERATE * sizes.max():
            reason = f"the {name} is degenerate: the Hessian has the eigenvalue {sizes.min():.2g} there"
            raise StationaryPointError(PLACE, reason)


def _with_rivals(passage: Passage) -> tuple[Passage, str | None]:
    """The passage with the other saddles that lead straight into the target, and the doubt that any other way raises.

    Ways out are looked for around the closed neighbourhoods of the saddles known; a way around these themselves is
    higher by their height, where the ridge is a parabola.
    """
    problem, minimum, target = passage.problem, passage.minimum, passage.target
    limit = min(RIVAL, 0.75 * passage.closed_height)
    while True:
        try:
            cell = summit_between(problem, minimum.position, target, passage.closed)
        except StationaryPointError:
            return passage, None
        place = problem.grid.positions()[:, cell]
        excess = -passage.below(place)
        if excess > limit:
            return passage, None
        try:
            found = pass_between(problem, minimum.position, target, passage.closed).saddle
        except StationaryPointError:
            return passage, second_way(f"near {describe(problem.grid, place)}", excess)
        if any(separation(problem.grid, found.position, saddle.position) < 1.0 for saddle in passage.saddles):
            return passage, None
        if not _leads_straight(passage, found):
            return passage, second_way(f"over {describe(problem.grid, found.position)}", excess)
        passage = replace(passage, saddles=(*passage.saddles, found))


def _leads_straight(passage: Passage, saddle: StationaryPoint) -> bool:
    """Whether the loss falls from a saddle to the minimum on one side and into the target on the other."""
    problem, minimum = passage.problem, passage.minimum.position
    ways = _ways_down(problem, saddle)
    home = [separation(problem.grid, way[-1], minimum) < 1.0 for way in ways]
    inside = [_end_in_target(passage, way) is not None for way in ways]
    return (home[0] and inside[1]) or (home[1] and inside[0])


def _ways_down(problem: Problem, saddle: StationaryPoint) -> list[FloatArray]:
    """The ways down from a saddle to either side, each (points, axes)."""
    nudge = saddle.lowest_direction * 0.05 * cell_size(problem.grid, saddle.position).min()
    return [descent(problem, saddle.position + side * nudge) for side in (-1.0, 1.0)]


def _end_in_target(passage: Passage, way: FloatArray) -> FloatArray | None:
    """Where a way first enters the target or meets an absorbing wall; None where it does neither."""
    entry = entry_into(passage.problem, way, passage.target)
    return way[-1] if entry is None and _at_absorbing_wall(passage.problem.grid, way[-1]) else entry


def _doubt_beyond(passage: Passage) -> str | None:
    """Whether the loss falls from the saddles into the target, and at least two thermal energies before it begins."""
    problem, target = passage.problem, passage.target
    drops = []
    for saddle in passage.saddles:
        ways = _ways_down(problem, saddle)
        entries = [entry for way in ways if (entry := _end_in_target(passage, way)) is not None]
        if not entries:
            ends = " and ".join(describe(problem.grid, way[-1]) for way in ways)
            return f"from the saddle the loss falls to {ends}, neither of them in the target"
        drops += [(saddle.loss - loss_at(problem, entry)) / passage.temperature for entry in entries]
    absorbing = all(entry_into(problem, way, target) is None for way in _ways_down(problem, passage.saddles[0]))
    return begins_near("an absorbing wall stands" if absorbing else "the target begins", min(drops), "beyond")


def _at_absorbing_wall(grid: Grid, position: FloatArray) -> bool:
    lower, upper = (ends[:, 0] for ends in on_walls(grid, position[:, None]))
    return any(
        (below and axis.walls[0] == "absorbing") or (above and axis.walls[1] == "absorbing")
        for axis, below, above in zip(grid.axes, lower, upper, strict=True)
    )


def _doubt_start(passage: Passage) -> str | None:
    """Whether the start lies near a saddle: hardly below it, and hardly beside it along the way over it."""
    for saddle in passage.saddles:
        offset = saddle.lowest_direction @ displacement(passage.problem.grid, passage.start, saddle.position)
        across = 0.5 * abs(saddle.eigenvalues[0]) * float(offset) ** 2 / passage.temperature
        if across < NEAR and (doubt := start_near(passage.below(passage.start))) is not None:
            return doubt
    return None


def _doubt_walls(passage: Passage) -> str | None:
    """Whether a wall cuts the Gaussian around the minimum or a saddle."""
    for name, point in [("minimum", passage.minimum), *(("saddle", saddle) for saddle in passage.saddles)]:
        grid = passage.problem.grid
        values, vectors = np.linalg.eigh(grid.turned_matrices(point.hessian))
        variances = passage.temperature * (vectors**2 / np.abs(values)).sum(axis=1)
        for axis, x, variance in zip(grid.axes, grid.along(point.position), variances, strict=True):
            for wall in () if axis.periodic else (axis.lower, axis.upper):
                if (wall - x) ** 2 < 2.0 * NEAR * variance:
                    return wall_near(f"{axis.name} = {wall:g}", name)
    return None


def _doubt_minima(passage: Passage) -> str | None:
    """Whether another minimum that is reached without crossing a saddle holds much of the probability."""
    problem, minimum = passage.problem, passage.minimum
    level = passage.saddles[0].loss + 0.75 * passage.closed_height * passage.temperature
    shut = passage.closed | (passage.target.level(problem.grid.positions()) > 0.0)
    for other in minima_below(problem, minimum.position, level, shut):  # lowest first
        if separation(problem.grid, other.position, minimum.position) > 1.0:
            excess = (other.loss - minimum.loss) / passage.temperature
            return another_minimum(describe(problem.grid, other.position), excess)
    return None
