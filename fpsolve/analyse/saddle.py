"""The mean time over a saddle of the loss, in any number of dimensions, and what speaks against it.

Langer's formula counts one minimum, one saddle and a Gaussian at each. A doubt is a reason why the time to the target
differs, as a clause for the report; doubts that also arise in one dimension without a loss are worded here once.
"""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np
from scipy.linalg import eigh

from fpsolve.analyse.basins import (
    PLACE,
    StationaryPoint,
    StationaryPointError,
    descent,
    describe,
    displacement,
    entry_into,
    loss_at,
    minima_below,
    minimum_near,
    neighbourhood,
    pass_between,
    separation,
    summit_between,
)
from fpsolve.model.grid import BoolArray, FloatArray, Grid
from fpsolve.model.problem import Problem
from fpsolve.model.region import Region

# A formula counts one barrier: others matter (by exp(-3) = 5 %) when they are less than this higher or lower.
RIVAL = 3.0  # [thermal energies]
# Within this of the saddle an absorbing edge, or a wall, takes more than (1 - erf(sqrt 2)) / 2 = 2 % of the Gaussian.
NEAR = 2.0  # [thermal energies]
SAME_PLACE = 0.05  # [thermal energies]: what is said to be at the saddle itself
# Eigenvalues of a Hessian below this share of the largest are rounding: the point is degenerate.
DEGENERATE = 1e-9


def langer_time(problem: Problem, temperature: float, start: FloatArray, target: Region) -> tuple[float, str | None]:
    """Logarithm of the mean time from a start to a target, and what speaks against it.

    Parameters
    ----------
    problem : drift -M grad L and D = temperature * M.
    start : (axes,) [length].

    Raises
    ------
    StationaryPointError : there is no minimum or no saddle on the way, or one of them is degenerate.
    """
    minimum = minimum_near(problem, start)
    found = pass_between(problem, minimum.position, target)
    if found.begins == "before":
        raise StationaryPointError(PLACE, "the saddle lies inside the target")
    passage = _Passage(problem, temperature, start, target, minimum, found.saddle)
    for name, point in passage.points.items():
        sizes = np.abs(point.eigenvalues)
        if sizes.min() <= DEGENERATE * sizes.max():
            reason = f"the {name} is degenerate: the Hessian has the eigenvalue {sizes.min():.2g} there"
            raise StationaryPointError(PLACE, reason)
    growth = eigh(-found.saddle.hessian, np.linalg.inv(problem.landscape.mobility), eigvals_only=True)[-1]
    stiffness = np.log(np.abs(found.saddle.eigenvalues)).sum() - np.log(minimum.eigenvalues).sum()
    log_time = math.log(2.0 * math.pi / growth) + 0.5 * stiffness + passage.barrier
    doubt = (
        low_barrier(passage.barrier)
        or (begins_near("the target begins", 0.0, "beyond") if found.begins == "on" else None)
        or _doubt_beyond(passage)
        or _doubt_start(passage)
        or _doubt_walls(passage)
        or _doubt_passes(passage)
        or _doubt_minima(passage)
    )
    return float(log_time), doubt


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
    return f"a second way out, {place}, is {amount}; the formulas count one"


def another_minimum(place: str, excess: float) -> str | None:
    """The doubt that a minimum raises which is reached without crossing the saddle, `excess` thermal energies up."""
    if excess >= RIVAL:
        return None
    amount = f"only {excess:.1f} thermal energies higher" if excess > SAME_PLACE else "no higher"
    return f"another minimum on this side of the saddle, at {place}, is {amount}"


@final
@dataclass(frozen=True, eq=False)
class _Passage:
    """A way over a saddle, and from where to where."""

    problem: Problem
    temperature: float
    start: FloatArray  # (axes,)
    target: Region
    minimum: StationaryPoint
    saddle: StationaryPoint

    @property
    def points(self) -> dict[str, StationaryPoint]:
        return {"minimum": self.minimum, "saddle": self.saddle}

    @property
    def barrier(self) -> float:
        """Height of the saddle above the minimum [thermal energies]."""
        return (self.saddle.loss - self.minimum.loss) / self.temperature

    @property
    def closed_height(self) -> float:
        """How high around the saddle cells are closed, to look for other ways [thermal energies]."""
        return min(4.0, 0.5 * self.barrier)

    @cached_property
    def closed(self) -> BoolArray:
        """Cells around the saddle, (cells,)."""
        return neighbourhood(self.problem.grid, self.saddle, self.closed_height * self.temperature)

    def below(self, position: FloatArray) -> float:
        """How far a position lies below the saddle [thermal energies]."""
        return (self.saddle.loss - loss_at(self.problem, position)) / self.temperature


def _doubt_beyond(passage: _Passage) -> str | None:
    """Whether the loss falls from the saddle into the target, and at least two thermal energies before it begins."""
    problem, saddle = passage.problem, passage.saddle
    nudge = saddle.lowest_direction * 0.05 * problem.grid.spacings.min()
    ways = [descent(problem, saddle.position + side * nudge) for side in (-1.0, 1.0)]
    entries = [entry for way in ways if (entry := entry_into(problem, way, passage.target)) is not None]
    what = "the target begins" if entries else "an absorbing wall stands"
    entries = entries or [way[-1] for way in ways if _at_absorbing_wall(problem.grid, way[-1])]
    if not entries:
        ends = " and ".join(describe(problem.grid, way[-1]) for way in ways)
        return f"from the saddle the loss falls to {ends}, neither of them in the target"
    return begins_near(what, min(passage.below(entry) for entry in entries), "beyond")


def _at_absorbing_wall(grid: Grid, position: FloatArray) -> bool:
    return any(
        (x <= axis.lower and axis.walls[0] == "absorbing") or (x >= axis.upper and axis.walls[1] == "absorbing")
        for axis, x in zip(grid.axes, position, strict=True)
    )


def _doubt_start(passage: _Passage) -> str | None:
    """Whether the start lies near the saddle: hardly below it, and hardly beside it along the way over it."""
    saddle = passage.saddle
    offset = saddle.lowest_direction @ displacement(passage.problem.grid, passage.start, saddle.position)
    across = 0.5 * abs(saddle.eigenvalues[0]) * float(offset) ** 2 / passage.temperature
    return start_near(passage.below(passage.start)) if across < NEAR else None


def _doubt_walls(passage: _Passage) -> str | None:
    """Whether a wall cuts the Gaussian around the minimum or the saddle."""
    for name, point in passage.points.items():
        values, vectors = np.linalg.eigh(point.hessian)
        variances = passage.temperature * (vectors**2 / np.abs(values)).sum(axis=1)
        for axis, x, variance in zip(passage.problem.grid.axes, point.position, variances, strict=True):
            for wall in () if axis.periodic else (axis.lower, axis.upper):
                if (wall - x) ** 2 < 2.0 * NEAR * variance:
                    return wall_near(f"{axis.name} = {wall:g}", name)
    return None


def _doubt_passes(passage: _Passage) -> str | None:
    """Whether there is a way out that is hardly higher than the saddle, around its closed neighbourhood."""
    problem, minimum, target = passage.problem, passage.minimum.position, passage.target
    try:
        cell = summit_between(problem, minimum, target, passage.closed)
    except StationaryPointError:
        return None
    place = problem.grid.positions()[:, cell]
    # The way around the neighbourhood itself is higher by its height, where the ridge is a parabola.
    if -passage.below(place) > min(RIVAL, 0.75 * passage.closed_height):
        return None
    with contextlib.suppress(StationaryPointError):
        place = pass_between(problem, minimum, target, passage.closed).saddle.position
    if separation(problem.grid, place, passage.saddle.position) < 1.0:
        return None
    return second_way(f"near {describe(problem.grid, place)}", -passage.below(place))


def _doubt_minima(passage: _Passage) -> str | None:
    """Whether another minimum that is reached without crossing the saddle holds much of the probability."""
    problem, minimum = passage.problem, passage.minimum
    level = passage.saddle.loss + 0.75 * passage.closed_height * passage.temperature
    shut = passage.closed | (passage.target.level(problem.grid.positions()) > 0.0)
    for other in minima_below(problem, minimum.position, level, shut):  # lowest first
        if separation(problem.grid, other.position, minimum.position) > 1.0:
            excess = (other.loss - minimum.loss) / passage.temperature
            return another_minimum(describe(problem.grid, other.position), excess)
    return None
