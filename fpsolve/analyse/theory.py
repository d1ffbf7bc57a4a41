"""Closed forms for escape times, each with the reason where it does not apply.

Everything is computed as the logarithm of the time: barriers of thousands of thermal energies are wanted.

In one dimension every formula comes from the drift and the diffusion; with psi = integral of v / D, v the flux
drift, exp(psi) is the density of a closed box at rest. In more dimensions they come from the loss at the minimum
and at the saddle.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import final

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import brentq

from fpsolve.analyse.basins import (
    StationaryPoint,
    StationaryPointError,
    descent,
    displacement,
    entry_into,
    minima_below,
    minimum_near,
    neighbourhood,
    pass_between,
    separation,
    summit_between,
)
from fpsolve.analyse.basins import describe as describe_position
from fpsolve.model.grid import BoolArray, FloatArray, Grid
from fpsolve.model.noise import NOISE_GRADIENT_SHARE
from fpsolve.model.problem import Problem
from fpsolve.model.region import Region, point_weights

# A formula counts one barrier: others matter (by exp(-3) = 5 %) when they are less than this higher or lower.
RIVAL = 3.0  # [thermal energies]
# Within this of the saddle an absorbing edge, or a wall, takes more than (1 - erf(sqrt 2)) / 2 = 2 % of the Gaussian.
NEAR = 2.0  # [thermal energies]
SAME_NOISE = 1e-9  # relative: less is rounding
SAME_PLACE = 0.05  # [thermal energies]: what is said to be at the saddle itself
# Eigenvalues of a Hessian below this share of the largest are rounding: the point is degenerate.
DEGENERATE = 1e-9

POINTS_PER_CELL = 16  # to find edges of the target and zeros of the drift along an axis
FEWEST_POINTS = 4001

# The exact integral: panels with Gauss-Legendre nodes, split until their last two coefficients are rounding.
NODES = 20
FIRST_PANELS = 128
MOST_PANELS = 2_000  # where the formulas of a user round coarsely, more would not help
NARROWEST_PANEL = 1e-13  # of the whole interval
RESOLVED = 1e-13
UNSETTLED = 1e-6  # change of the logarithm when all panels are halved; above this the result is refused

HALVES = "the formulas are for a passage into the far well (absorbing on the saddle halves the time)"


class InapplicableError(Exception):
    """A formula has no value; the message is the reason."""


@final
@dataclass(frozen=True, slots=True)
class ClosedForm:
    """What a formula gives for an escape time.

    log_time: ln of the time; None where the formula has no value.
    applies: whether it should agree with the equation, to its accuracy. A formula may have a value and not apply.
    reason: why it does not apply, a clause for the report; None where it does.
    """

    log_time: float | None
    applies: bool
    reason: str | None

    @classmethod
    def doubted(cls, log_time: float, doubt: str | None) -> ClosedForm:
        """A value, and what speaks against it if anything does."""
        return cls(log_time, doubt is None, doubt)

    @property
    def value(self) -> float | None:
        """The time, or None where there is none or it exceeds the floating-point numbers."""
        if self.log_time is None or self.log_time > math.log(np.finfo(np.float64).max):
            return None
        return math.exp(self.log_time)

    @property
    def log10(self) -> float | None:
        """Decimal logarithm of the time."""
        return None if self.log_time is None else self.log_time / math.log(10.0)


def closed_forms(problem: Problem, start: Sequence[float], target: Region) -> dict[str, ClosedForm]:
    """Every closed form for the mean time from a start to a target, by name, in the order of FORMULAS.

    Parameters
    ----------
    problem : of any dimension; what does not fit a formula becomes its reason.
    start : (axes,) [length].
    target : where the time ends; absorbing walls end it too.

    Returns
    -------
    Times in the unit of time of the drift; see ClosedForm.

    Raises
    ------
    CaseError : the start is not a point of the grid.
    """
    point_weights(problem.grid, start, "escape.start")
    crossing = Crossing(problem, np.asarray(start, dtype=np.float64), target)
    return {name: _answer(formula, crossing) for name, formula in FORMULAS.items()}


@final
@dataclass(frozen=True)
class Crossing:
    """A start, a target and what several formulas need of the way between."""

    problem: Problem
    start: FloatArray  # (axes,)
    target: Region

    @cached_property
    def over_drift(self) -> ClosedForm:
        """The low-noise formula, in one dimension."""
        return _answer(_over_drift, self)

    @cached_property
    def over_loss(self) -> ClosedForm:
        """Langer's formula; in one dimension it is the low-noise formula."""
        return self.over_drift if self.problem.grid.dimensions == 1 else _answer(_over_loss, self)

    @cached_property
    def barrier(self) -> _Barrier:
        """The barrier in one dimension."""
        return _barrier(_Line(self.problem), float(self.start[0]), self.target)

    def check_one_axis(self, formula: str) -> None:
        """Refuse more than one dimension."""
        if (axes := self.problem.grid.dimensions) != 1:
            reason = f"the grid has {axes} dimensions; {formula} has one"
            raise InapplicableError(reason)

    def check_constant_noise(self) -> None:
        """Refuse noise that depends on the position."""
        if self.problem.diffusion.constant is None:
            raise InapplicableError(_noise_changes(self))

    def check_boltzmann(self) -> float:
        """The temperature, when exp(-loss/T) is the density at rest."""
        landscape = self.problem.landscape
        if landscape.loss is None:
            reason = "the landscape gives a drift and no loss"
            raise InapplicableError(reason)
        if not landscape.is_gradient:
            reason = "the drift is not minus the gradient of the loss"
            raise InapplicableError(reason)
        self.check_constant_noise()
        if self.problem.temperature is None:
            reason = "the diffusion is not proportional to the mobility, so exp(-loss/T) is not the density at rest"
            raise InapplicableError(reason)
        return self.problem.temperature


def kramers(crossing: Crossing) -> ClosedForm:
    """Kramers (1940): one dimension, constant D, any drift.

    tau = 2 pi / sqrt(L''_a |L''_b|) exp((L_b - L_a) / D), a the minimum and b the saddle; with a mobility m and D = T m
    1/m times that, with T in the exponent. For D constant it is the low-noise formula.
    """
    crossing.check_one_axis("Kramers' formula")
    crossing.check_constant_noise()
    return crossing.over_drift


def eyring_kramers(crossing: Crossing) -> ClosedForm:
    """Eyring-Kramers: D = T I, unit mobility; tau = 2 pi / |l_b| sqrt(|det H_b| / det H_a) exp((L_b - L_a) / T).

    l_b is the negative eigenvalue of the Hessian H_b at the saddle (Bovier, Eckhoff, Gayrard & Klein 2004).
    """
    crossing.check_boltzmann()
    mobility = crossing.problem.landscape.mobility
    if not np.allclose(mobility, np.eye(len(mobility)), rtol=0.0, atol=1e-12):
        reason = "the mobility is not the identity: Langer's formula is the one with a mobility"
        raise InapplicableError(reason)
    return crossing.over_loss


def langer(crossing: Crossing) -> ClosedForm:
    """Langer (1969): drift -M grad L, D = T M; tau = 2 pi / l sqrt(|det H_b| / det H_a) exp((L_b - L_a) / T).

    l is the positive eigenvalue of -M H_b: the rate at which the saddle is left.
    """
    crossing.check_boltzmann()
    return crossing.over_loss


def low_noise(crossing: Crossing) -> ClosedForm:
    """One dimension, any D(x), by Laplace's method: the leading order of the exact integral for weak noise.

    tau = 2 pi / sqrt(|m_a| m_b) (D_b / D_a)**(1/2 - alpha) exp(-integral from a to b of m / D), m the drift as given,
    m_a and m_b its slopes; alpha = 0 (Ito), 1/2 (Stratonovich), 1 (isothermal).
    """
    crossing.check_one_axis("the low-noise formula")
    return crossing.over_drift


def exact_integral(crossing: Crossing) -> ClosedForm:
    """One dimension, any D(x): the mean first-passage time itself (Gardiner 2009, section 5.5).

    With psi = integral of v / D and the far end reflecting or far away,
    tau = integral over y of exp(-psi(y)) / D(y) * integral over z before y of exp(psi(z)),
    y from the start to the target. Between two absorbing ends, with S(y, z) = integral of exp(-psi) / D,
    tau = S(x, r) / S(l, r) integral_l^x S(l, z) exp(psi(z)) dz + S(l, x) / S(l, r) integral_x^r S(z, r) exp(psi(z)) dz.
    Absorbing walls count as target.
    """
    crossing.check_one_axis("the integral")
    line, start = _Line(crossing.problem), float(crossing.start[0])
    return ClosedForm.doubted(_log_passage_time(line, start, _reach(line, start, crossing.target)), None)


FORMULAS: dict[str, Callable[[Crossing], ClosedForm]] = {
    "kramers": kramers,
    "eyring_kramers": eyring_kramers,
    "langer": langer,
    "low_noise": low_noise,
    "exact_integral": exact_integral,
}


def _answer(formula: Callable[[Crossing], ClosedForm], crossing: Crossing) -> ClosedForm:
    """What the formula gives, or the reason why it gives nothing."""
    try:
        return formula(crossing)
    except InapplicableError as refusal:
        return ClosedForm(None, False, str(refusal))
    except StationaryPointError as absence:
        return ClosedForm(None, False, absence.found)


def _noise_changes(crossing: Crossing) -> str:
    """That D depends on the position, and how much: between minimum and saddle where they are known."""
    traces = np.einsum("ii...->...", crossing.problem.diffusion_at_cells)
    place = "over the grid"
    if crossing.problem.grid.dimensions == 1 and crossing.over_drift.log_time is not None:
        barrier = crossing.barrier
        traces = barrier.line.diffusion(np.linspace(barrier.minimum, barrier.saddle, FEWEST_POINTS))
        place = "between the minimum and the saddle"
    ratio = float(traces.max() / traces.min())
    if ratio < 1.0 + SAME_NOISE:
        return "the noise is given as a function of the position, if a constant one; give it as a number or a matrix"
    amount = f"{ratio:.2g}" if ratio < 10.0 else f"{ratio:.0f}"
    return f"the noise depends on the position: D changes {amount}-fold {place}"


# Over the loss, in any number of dimensions


def _over_loss(crossing: Crossing) -> ClosedForm:
    """Langer's time, and what speaks against it."""
    problem, temperature = crossing.problem, crossing.check_boltzmann()
    minimum = minimum_near(problem, crossing.start)
    found = pass_between(problem, minimum.position, crossing.target)
    if found.begins == "before":
        reason = "the saddle lies inside the target"
        raise InapplicableError(reason)
    saddle = found.saddle
    for name, point in (("minimum", minimum), ("saddle", saddle)):
        sizes = np.abs(point.eigenvalues)
        if sizes.min() <= DEGENERATE * sizes.max():
            reason = f"the {name} is degenerate: the Hessian has the eigenvalue {sizes.min():.2g} there"
            raise InapplicableError(reason)
    growth = eigh(-saddle.hessian, np.linalg.inv(problem.landscape.mobility), eigvals_only=True)[-1]
    stiffness = np.log(np.abs(saddle.eigenvalues)).sum() - np.log(minimum.eigenvalues).sum()
    barrier = (saddle.loss - minimum.loss) / temperature
    log_time = math.log(2.0 * math.pi / growth) + 0.5 * stiffness + barrier
    begins_on_it = f"the target begins at the saddle; {HALVES}" if found.begins == "on" else None
    doubt = _low_barrier(barrier) or begins_on_it or _doubt_over_loss(crossing, temperature, minimum, saddle)
    return ClosedForm.doubted(float(log_time), doubt)


def _low_barrier(barrier: float) -> str | None:
    return f"barrier/noise is only {barrier:.2g}" if barrier < 1.0 else None


def _doubt_over_loss(
    crossing: Crossing, temperature: float, minimum: StationaryPoint, saddle: StationaryPoint
) -> str | None:
    """What else on the way to the target matters at this temperature."""
    problem = crossing.problem
    around = min(4.0 * temperature, 0.5 * (saddle.loss - minimum.loss))
    closed = neighbourhood(problem.grid, saddle, around)
    return (
        _doubt_beyond(crossing, temperature, saddle)
        or _doubt_high_start(crossing, temperature, saddle)
        or _doubt_walls(problem, temperature, {"minimum": minimum, "saddle": saddle})
        or _doubt_passes(crossing, temperature, minimum, saddle, closed, around)
        or _doubt_minima(crossing, temperature, minimum, saddle.loss + 0.75 * around, closed)
    )


def _doubt_beyond(crossing: Crossing, temperature: float, saddle: StationaryPoint) -> str | None:
    """Whether the loss falls from the saddle into the target, and at least two thermal energies before it begins."""
    problem = crossing.problem
    _, vectors = np.linalg.eigh(saddle.hessian)
    nudge = vectors[:, 0] * 0.05 * problem.grid.spacings.min()
    ways = [descent(problem, saddle.position + side * nudge) for side in (-1.0, 1.0)]
    entries = [entry for way in ways if (entry := entry_into(problem, way, crossing.target)) is not None]
    what = "the target begins" if entries else "an absorbing wall stands"
    entries = entries or [way[-1] for way in ways if _at_absorbing_wall(problem.grid, way[-1])]
    if not entries:
        ends = " and ".join(describe_position(problem.grid, way[-1]) for way in ways)
        return f"from the saddle the loss falls to {ends}, neither of them in the target"
    drop = (saddle.loss - max(_loss(problem, entry) for entry in entries)) / temperature
    return _begins_near(what, drop, "beyond")


def _loss(problem: Problem, position: FloatArray) -> float:
    assert problem.landscape.loss is not None  # checked by Crossing.check_boltzmann
    return float(problem.landscape.loss(position[:, None])[0])


def _at_absorbing_wall(grid: Grid, position: FloatArray) -> bool:
    return any(
        "absorbing" in (axis.walls[0] if x <= axis.lower else "", axis.walls[1] if x >= axis.upper else "")
        for axis, x in zip(grid.axes, position, strict=True)
    )


def _begins_near(what: str, drop: float, side: str) -> str | None:
    """The doubt that an absorbing edge `drop` thermal energies below the saddle raises."""
    if drop >= NEAR:
        return None
    place = "at" if drop < SAME_PLACE else f"{drop:.1f} thermal energies {side}"
    return f"{what} {place} the saddle; {HALVES}"


def _doubt_high_start(crossing: Crossing, temperature: float, saddle: StationaryPoint) -> str | None:
    """Whether the start lies near the saddle."""
    _, vectors = np.linalg.eigh(saddle.hessian)
    offset = displacement(crossing.problem.grid, crossing.start, saddle.position)
    below = (saddle.loss - _loss(crossing.problem, crossing.start)) / temperature
    across = 0.5 * abs(saddle.eigenvalues[0]) * float(vectors[:, 0] @ offset) ** 2 / temperature
    return _start_near(below) if max(across, below) < NEAR else None


def _doubt_walls(problem: Problem, temperature: float, points: dict[str, StationaryPoint]) -> str | None:
    """Whether a wall cuts the Gaussian around the minimum or the saddle."""
    for name, point in points.items():
        values, vectors = np.linalg.eigh(point.hessian)
        variances = temperature * (vectors**2 / np.abs(values)).sum(axis=1)
        for axis, x, variance in zip(problem.grid.axes, point.position, variances, strict=True):
            for wall in () if axis.periodic else (axis.lower, axis.upper):
                if (wall - x) ** 2 < 2.0 * NEAR * variance:
                    return f"the wall {axis.name} = {wall:g} lies within {NEAR:g} thermal energies of the {name}"
    return None


def _doubt_passes(
    crossing: Crossing,
    temperature: float,
    minimum: StationaryPoint,
    saddle: StationaryPoint,
    closed: BoolArray,
    around: float,
) -> str | None:
    """Whether there is a way out that is hardly higher than the saddle, around its closed neighbourhood."""
    problem = crossing.problem
    try:
        cell = summit_between(problem, minimum.position, crossing.target, closed)
    except StationaryPointError:
        return None
    place = problem.grid.positions()[:, cell]
    # The way around the neighbourhood itself is higher by `around`, where the ridge is a parabola.
    if _loss(problem, place) - saddle.loss > min(RIVAL * temperature, 0.75 * around):
        return None
    with contextlib.suppress(StationaryPointError):
        place = pass_between(problem, minimum.position, crossing.target, closed).saddle.position
    if separation(problem.grid, place, saddle.position) < 1.0:
        return None
    excess = (_loss(problem, place) - saddle.loss) / temperature
    return _second_way(f"near {describe_position(problem.grid, place)}", excess)


def _second_way(place: str, excess: float) -> str:
    amount = "no higher" if excess < SAME_PLACE else f"only {excess:.1f} thermal energies higher"
    return f"a second way out, {place}, is {amount}; the formulas count one"


def _doubt_minima(
    crossing: Crossing, temperature: float, minimum: StationaryPoint, level: float, closed: BoolArray
) -> str | None:
    """Whether another minimum that is reached without crossing the saddle holds much of the probability."""
    problem = crossing.problem
    shut = closed | (crossing.target.level(problem.grid.positions()) > 0.0)
    for other in minima_below(problem, minimum.position, level, shut):
        excess = (other.loss - minimum.loss) / temperature
        if excess < RIVAL and separation(problem.grid, other.position, minimum.position) > 1.0:
            return _another_minimum(describe_position(problem.grid, other.position), excess)
    return None


def _another_minimum(place: str, excess: float) -> str:
    amount = f"only {excess:.1f} thermal energies higher" if excess > SAME_PLACE else "no higher"
    return f"another minimum on this side of the saddle, at {place}, is {amount}"


# Along the line, in one dimension


@final
@dataclass(frozen=True, slots=True)
class _Line:
    """A problem of one dimension as functions of a number; a periodic axis goes round and round."""

    problem: Problem

    def bounds(self, start: float) -> tuple[float, float]:
        """How far there is something to look at: the walls, or once round to either side."""
        axis = self.problem.grid.axes[0]
        length = axis.upper - axis.lower
        return (start - length, start + length) if axis.periodic else (axis.lower, axis.upper)

    def points(self, lower: float, upper: float) -> FloatArray:
        """Points close enough to find edges and zeros between."""
        return np.linspace(lower, upper, max(FEWEST_POINTS, POINTS_PER_CELL * self.problem.grid.size + 1))

    def positions(self, x: FloatArray) -> FloatArray:
        """The points (points,) as positions (1, points) between the ends of the axis."""
        axis = self.problem.grid.axes[0]
        x = np.atleast_1d(x)
        return (axis.lower + (x - axis.lower) % (axis.upper - axis.lower) if axis.periodic else x)[None, :]

    def drift(self, x: FloatArray) -> FloatArray:
        drift: FloatArray = self.problem.landscape.drift(self.positions(x))[0]
        return drift

    def diffusion(self, x: FloatArray) -> FloatArray:
        diffusion: FloatArray = self.problem.diffusion.matrix(self.positions(x))[0, 0]
        return diffusion

    def level(self, region: Region, x: FloatArray) -> FloatArray:
        return region.level(self.positions(x))

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
        return np.array([self.root(self.drift, points[k], points[k + 1]) for k in before])

    def root(self, function: Callable[[FloatArray], FloatArray], lower: float, upper: float) -> float:
        """Where a function changes its sign, to rounding."""
        axis, epsilon = self.problem.grid.axes[0], 4.0 * np.finfo(np.float64).eps
        accuracy = {"xtol": epsilon * (axis.upper - axis.lower), "rtol": epsilon}
        return float(brentq(lambda x: float(function(np.array(x))[0]), lower, upper, **accuracy))

    def work(self, points: FloatArray) -> FloatArray:
        """Integral of drift / D from every point to the next, (points - 1,) [thermal energies].

        drift / D is v / D, whose potential may be known, and the convention's share of D' / D.
        """
        exponent, diffusion = self.problem.exponent, self.diffusion(points)
        _check_positive(self, points, diffusion)
        total = np.zeros(len(points) - 1)
        if exponent.potential is not None:
            total += np.diff(exponent.potential(self.positions(points)))
        if exponent.remainder is not None:
            total += [self._remainder_integral(*ends) for ends in pairwise(points)]
        if self.problem.diffusion.constant is None:
            share = NOISE_GRADIENT_SHARE[self.problem.diffusion.convention]
            total += share * np.diff(np.log(diffusion))
        return total

    def _remainder_integral(self, lower: float, upper: float) -> float:
        def coarse(panels: _Panels) -> BoolArray:
            return panels.unsure > RESOLVED

        panels = _refined(_panels(self, np.linspace(lower, upper, FIRST_PANELS + 1)), coarse)
        found, finer = (float(cut.remainder_integrals.sum()) for cut in (panels, panels.halved()))
        _check_settled(abs(finer - found), len(panels.lower))
        return finer


@final
@dataclass(frozen=True, slots=True)
class _Reach:
    """What can be reached from a start before it is absorbed: an interval and what its ends are."""

    lower: float
    upper: float
    ends: tuple[str, str]  # "target", "absorbing" (a wall) or "reflecting" (a wall)

    @property
    def exits(self) -> tuple[bool, bool]:
        """Which ends absorb."""
        return self.ends[0] != "reflecting", self.ends[1] != "reflecting"


def _reach(line: _Line, start: float, target: Region) -> _Reach:
    """The part of the axis around a start that is not target."""
    lower, upper = line.bounds(start)
    edges = [_first_edge(line, start, wall, target) for wall in (lower, upper)]
    walls = line.problem.grid.axes[0].walls
    ends = ["target" if edge is not None else str(wall) for edge, wall in zip(edges, walls, strict=True)]
    if "target" not in ends and "absorbing" not in ends:
        reason = "the target cannot be reached: no edge of it lies on the axis"
        raise InapplicableError(reason)
    reach = _Reach(lower if edges[0] is None else edges[0], upper if edges[1] is None else edges[1], (ends[0], ends[1]))
    if any(leaves and end == start for leaves, end in zip(reach.exits, (reach.lower, reach.upper), strict=True)):
        reason = "the start lies on the edge of the target"
        raise InapplicableError(reason)
    return reach


def _first_edge(line: _Line, start: float, wall: float, target: Region) -> float | None:
    """Where the target begins on the way from the start to a wall; None where it does not."""
    points = line.points(start, wall)
    (inside,) = np.nonzero(line.level(target, points) > 0.0)
    if inside.size == 0:
        return None
    if inside[0] == 0:
        reason = "the start lies in the target"
        raise InapplicableError(reason)
    ends = points[inside[0] - 1 : inside[0] + 1]
    return line.root(lambda x: line.level(target, x), *ends)


@final
@dataclass(frozen=True, slots=True)
class _Barrier:
    """The barrier on a line: from the minimum, where the drift is stable, over the saddle, where it is not."""

    line: _Line
    minimum: float
    saddle: float
    height: float  # integral of -drift / D from the minimum to the saddle [thermal energies]
    doubt: str | None


@final
@dataclass(frozen=True, slots=True)
class _Way:
    """The way from the minimum outward to one end: the zeros of the drift on it, and the end.

    places, heights [thermal energies above the minimum], unstable: (marks,), the minimum first and the end last.
    saddle_behind: the first saddle behind the end, with its height; None where there is none.
    """

    places: FloatArray
    heights: FloatArray
    unstable: BoolArray
    end: str
    saddle_behind: tuple[float, float] | None

    @property
    def top(self) -> float:
        """Height of the highest point."""
        return float(self.heights.max())


def _over_drift(crossing: Crossing) -> ClosedForm:
    """The low-noise time, and what speaks against it."""
    barrier = crossing.barrier
    line, ends = barrier.line, np.array([barrier.minimum, barrier.saddle])
    slopes = np.array([line.drift_slope(x) for x in ends])
    diffusion = line.diffusion(ends)
    lower, upper = line.bounds(barrier.minimum)
    # A quadratic well is narrower than the axis: its variance is D / |slope|.
    if slopes[0] >= 0.0 or slopes[1] <= 0.0 or (diffusion > np.abs(slopes) * (upper - lower) ** 2).any():
        found = f"{slopes[0]:.2g} and {slopes[1]:.2g}"
        reason = f"the slopes of the drift at minimum and saddle are {found}: well and barrier are not quadratic"
        raise InapplicableError(reason)
    log_time = math.log(2.0 * math.pi) - 0.5 * float(np.log(np.abs(slopes)).sum()) + barrier.height
    if line.problem.diffusion.constant is None:
        share = NOISE_GRADIENT_SHARE[line.problem.diffusion.convention]  # 1 - alpha
        log_time += (share - 0.5) * float(np.log(diffusion[1] / diffusion[0]))
    return ClosedForm.doubted(log_time, barrier.doubt)


def _barrier(line: _Line, start: float, target: Region) -> _Barrier:
    """The lowest barrier between a start and the ends that absorb, and what speaks against counting it alone."""
    reach = _reach(line, start, target)
    zeros = line.drift_zeros(*line.bounds(start))
    minimum = _minimum_on(line, start, zeros)
    if not reach.lower < minimum < reach.upper:
        reason = "the drift carries the start into the target: there is no barrier"
        raise InapplicableError(reason)
    ways = [_way(line, minimum, zeros, reach, side) for side in (0, 1)]
    out, other = sorted(ways, key=lambda way: math.inf if way.end == "reflecting" else way.top)
    place, height, doubt = _saddle_on(out)
    doubt = (
        _low_barrier(height)
        or doubt
        or _doubt_start(line, start, minimum, place, height)
        or _doubt_other_side(line, other, height)
        or _doubt_in_series(line, out, height)
    )
    return _Barrier(line, minimum, place, height, doubt)


def _doubt_start(line: _Line, start: float, minimum: float, saddle: float, height: float) -> str | None:
    """Whether the start lies so high on the way to the saddle that it may pass without visiting the minimum."""
    if (start - minimum) * (saddle - minimum) <= 0.0:
        return None
    below = height - abs(float(line.work(np.sort(np.array([minimum, start])))[0]))
    return _start_near(below) if below < NEAR else None


def _start_near(below: float) -> str:
    return f"the start lies only {below:.1f} thermal energies below the saddle"


def _minimum_on(line: _Line, start: float, zeros: FloatArray) -> float:
    """The stable zero of the drift that the start is carried to."""
    lower, upper = line.bounds(start)
    drift = float(line.drift(np.array(start))[0])
    at_start = np.abs(zeros - start) < 1e-12 * (upper - lower)
    if at_start.any():
        found = float(zeros[at_start][0])
        if line.drift_slope(found) > 0.0:
            reason = f"the start is a saddle, with a way down to either side ({_name(line, start)})"
            raise InapplicableError(reason)
        return found
    ahead = zeros[zeros > start] if drift > 0.0 else zeros[zeros < start][::-1]
    if drift == 0.0 or ahead.size == 0:
        reason = f"there is no minimum: the drift carries the start {_name(line, start)} to an end of the axis"
        raise InapplicableError(reason)
    return float(ahead[0])


def _way(line: _Line, minimum: float, zeros: FloatArray, reach: _Reach, side: int) -> _Way:
    """The way from the minimum to the lower (side 0) or upper (side 1) end."""
    end, sign = (reach.lower, reach.upper)[side], (-1.0, 1.0)[side]
    outward = sorted((x for x in zeros if sign * x >= sign * minimum), key=lambda x: sign * x)
    # Zeros take turns: the minimum is stable, the next one outward is not, and so on.
    unstable = dict(zip(outward, np.arange(len(outward)) % 2 == 1, strict=True))
    places = [x for x in outward if sign * x <= sign * end]
    behind = [x for x in outward if sign * x > sign * end and unstable[x]][:1]
    if places[-1] != end:
        places.append(end)
    marks = np.array([*places, *behind])
    ascending = marks if side else marks[::-1]
    heights = np.concatenate([[0.0], np.cumsum(sign * -(line.work(ascending)[:: int(sign)]))])
    count = len(places)
    return _Way(
        marks[:count],
        heights[:count],
        np.array([bool(unstable.get(x, False)) for x in places]),
        reach.ends[side],
        (behind[0], float(heights[count])) if behind else None,
    )


def _saddle_on(way: _Way) -> tuple[float, float, str | None]:
    """Place and height of the saddle on a way out; the doubt that the end is too close to it."""
    what = "the target begins" if way.end == "target" else "an absorbing wall stands"
    highest = int(np.argmax(way.heights))
    if way.unstable[highest]:
        drop = way.top - float(way.heights[-1])
        return float(way.places[highest]), way.top, _begins_near(what, drop, "beyond")
    if way.saddle_behind is not None:
        place, height = way.saddle_behind
        doubt = _begins_near(what, height - way.top, "before")
        if doubt is not None:
            return place, height, doubt
    reason = f"{what} on the way up, before any saddle"
    raise InapplicableError(reason)


def _doubt_other_side(line: _Line, way: _Way, height: float) -> str | None:
    """Whether what lies on the other side of the minimum matters: a way out, a wall, a minimum."""
    highest = int(np.argmax(way.heights))
    if way.end != "reflecting" and way.top < height + RIVAL:
        return _second_way(f"over {_name(line, way.places[highest])}", way.top - height)
    if way.end == "reflecting":
        if way.heights[-1] < NEAR:
            return f"the wall {_name(line, way.places[-1])} lies within {NEAR:g} thermal energies of the minimum"
        highest = len(way.places) - 1
    return _doubt_minima_on(line, way, slice(1, highest))


def _doubt_in_series(line: _Line, way: _Way, height: float) -> str | None:
    """Whether other minima and saddles on the way out matter."""
    passed = int(np.argmax(way.heights))
    for mark in np.nonzero(way.unstable)[0].tolist():
        if mark != passed and way.heights[mark] > height - RIVAL:
            below = f"{height - way.heights[mark]:.2g} thermal energies lower"
            return f"another saddle on the way, at {_name(line, way.places[mark])}, is only {below}"
    for mark in range(passed + 1, len(way.places) - 1):
        if way.heights[mark:].max() - way.heights[mark] > height - RIVAL:
            return f"beyond the saddle another minimum, at {_name(line, way.places[mark])}, delays the passage"
    return _doubt_minima_on(line, way, slice(1, passed))


def _doubt_minima_on(line: _Line, way: _Way, marks: slice) -> str | None:
    """Whether one of the marks is a minimum that holds much of the probability."""
    for place, height, unstable in zip(way.places[marks], way.heights[marks], way.unstable[marks], strict=True):
        if not unstable and height < RIVAL:
            return _another_minimum(_name(line, place), float(height))
    return None


def _name(line: _Line, place: float) -> str:
    return describe_position(line.problem.grid, line.positions(np.array(place))[:, 0])


# The exact integral


def _legendre_tables() -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Nodes and weights on [-1, 1]; values at the nodes -> Legendre coefficients; -> integrals from -1 to the nodes.

    The integral of P_k is (P_(k+1) - P_(k-1)) / (2 k + 1), with P_(-1) = -1.
    """
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    polynomials = np.polynomial.legendre.legvander(nodes, NODES)  # (nodes, order)
    orders = np.arange(NODES)
    coefficients = (orders[:, None] + 0.5) * polynomials[:, :NODES].T * weights
    below = np.concatenate([-np.ones((NODES, 1)), polynomials[:, : NODES - 1]], axis=1)
    integrals = (polynomials[:, 1:] - below) / (2.0 * orders + 1.0)
    return nodes, weights, coefficients, integrals @ coefficients


NODE, WEIGHT, COEFFICIENTS, ANTIDERIVATIVE = _legendre_tables()


def _tail(values: FloatArray) -> FloatArray:
    """Size of the last two Legendre coefficients of values at the nodes, (panels,): what is not resolved."""
    size: FloatArray = np.abs(values @ COEFFICIENTS[-2:].T).max(axis=1)
    return size


@final
@dataclass(frozen=True, slots=True)
class _Panels:
    """Adjoining panels, ascending, with v / D and D at their Gauss-Legendre nodes.

    lower, upper: ends (panels,) [length]; the others (panels, NODES): potential: the part of psi that is known;
    remainder: the rest of v / D, times half the width of the panel; diffusion [length**2/time].
    """

    line: _Line
    lower: FloatArray
    upper: FloatArray
    potential: FloatArray
    remainder: FloatArray
    diffusion: FloatArray

    @property
    def widths(self) -> FloatArray:
        return self.upper - self.lower

    @property
    def remainder_integrals(self) -> FloatArray:
        """Integral over each panel, (panels,)."""
        return self.remainder @ WEIGHT

    @property
    def unsure(self) -> FloatArray:
        """Error of the integrals of the remainder, (panels,), less what is rounding."""
        rounding = 8.0 * np.finfo(np.float64).eps * np.abs(self.remainder).max(axis=1)
        return np.asarray(_tail(self.remainder) - rounding)

    def psi(self, start: float) -> FloatArray:
        """Integral of v / D from the start, which is an end of a panel, to the nodes, (panels, NODES)."""
        first = int(np.searchsorted(self.lower, start))
        whole = self.remainder_integrals
        # Summed from the start outward: a sum from the wall would round at the height of the wall.
        before = np.concatenate([-np.cumsum(whole[:first][::-1])[::-1], [0.0], np.cumsum(whole[first:])])
        psi = before[:-1, None] + self.remainder @ ANTIDERIVATIVE.T + self.potential
        potential = self.line.problem.exponent.potential
        return psi if potential is None else psi - potential(self.line.positions(np.array(start)))

    def halved(self, where: BoolArray | None = None) -> _Panels:
        """The panels with some of them, or all, cut in the middle."""
        cut = np.ones(len(self.lower), np.bool_) if where is None else where
        middle = 0.5 * (self.lower + self.upper)[cut]
        halves = _sampled(self.line, np.append(self.lower[cut], middle), np.append(middle, self.upper[cut]))
        order = np.argsort(np.append(self.lower[~cut], halves.lower))

        def merged(kept: FloatArray, added: FloatArray) -> FloatArray:
            return np.concatenate([kept[~cut], added])[order]

        return _Panels(
            self.line,
            merged(self.lower, halves.lower),
            merged(self.upper, halves.upper),
            merged(self.potential, halves.potential),
            merged(self.remainder, halves.remainder),
            merged(self.diffusion, halves.diffusion),
        )


def _panels(line: _Line, edges: FloatArray) -> _Panels:
    """The panels between ascending edges."""
    return _sampled(line, edges[:-1], edges[1:])


def _sampled(line: _Line, lower: FloatArray, upper: FloatArray) -> _Panels:
    half = 0.5 * (upper - lower)[:, None]
    points = 0.5 * (lower + upper)[:, None] + half * NODE
    positions, exponent = line.positions(points.ravel()), line.problem.exponent
    diffusion = line.problem.diffusion.matrix(positions)[0, 0]
    _check_positive(line, points.ravel(), diffusion)
    potential, remainder = np.zeros_like(points), np.zeros_like(points)
    if exponent.potential is not None:
        potential = exponent.potential(positions).reshape(points.shape)
    if exponent.remainder is not None:
        remainder = exponent.remainder(positions)[0].reshape(points.shape) * half
    return _Panels(line, lower, upper, potential, remainder, diffusion.reshape(points.shape))


def _check_positive(line: _Line, points: FloatArray, diffusion: FloatArray) -> None:
    if not (diffusion > 0.0).all():
        reason = f"D is not positive at {_name(line, points[~(diffusion > 0.0)][0])}"
        raise InapplicableError(reason)


def _check_settled(change: float, panels: int) -> None:
    """Refuse an integral in an exponent that still changes by `change` when its panels are halved."""
    if not change <= UNSETTLED:
        reason = (
            f"the integral still changes by {change:.1g} when its {panels} panels are halved (does D vanish somewhere?)"
        )
        raise InapplicableError(reason)


def _refined(panels: _Panels, coarse: Callable[[_Panels], BoolArray]) -> _Panels:
    """Halve panels for as long as they are too coarse."""
    narrowest = NARROWEST_PANEL * (panels.upper[-1] - panels.lower[0])
    while len(panels.lower) < MOST_PANELS:
        where = coarse(panels) & (panels.widths > narrowest)
        if not where.any():
            break
        panels = panels.halved(where)
    return panels


def _log_passage_time(line: _Line, start: float, reach: _Reach) -> float:
    """Logarithm of the mean first-passage time; halving all panels once more shows that it has settled."""
    sides = [np.linspace(start, end, FIRST_PANELS + 1) for end in (reach.lower, reach.upper)]
    panels = _panels(line, np.unique(np.concatenate(sides)))
    panels = _refined(panels, lambda panels: _coarse(panels, start, reach.exits))
    coarser, finer = (_log_time(cut, start, reach.exits) for cut in (panels, panels.halved()))
    _check_settled(abs(finer - coarser), len(panels.lower))
    return finer


def _log_time(panels: _Panels, start: float, exits: tuple[bool, bool]) -> float:
    """Logarithm of the time for a start on the edge of a panel. Only positive terms are added."""
    speed, widths, split = panels.psi(start), panels.widths, int(np.searchsorted(panels.lower, start))
    scale = -speed - np.log(panels.diffusion)
    if exits == (True, False):
        speed, scale, widths, split = speed[::-1, ::-1], scale[::-1, ::-1], widths[::-1], len(widths) - split
    if exits != (True, True):
        return _log_integral((scale + _log_cumulative(speed, widths))[split:], widths[split:])
    from_lower = _log_cumulative(scale, widths)[:split]
    to_upper = _log_cumulative(scale[::-1, ::-1], widths[::-1])[::-1, ::-1][split:]
    below, above = _log_integral(scale[:split], widths[:split]), _log_integral(scale[split:], widths[split:])
    first = above + _log_integral(from_lower + speed[:split], widths[:split])
    second = below + _log_integral(to_upper + speed[split:], widths[split:])
    return float(np.logaddexp(first, second) - np.logaddexp(below, above))


def _log_panels(log_values: FloatArray, widths: FloatArray) -> FloatArray:
    """Logarithm of the integral of exp(log_values) over each panel, (panels,)."""
    peaks = log_values.max(axis=1)
    return np.asarray(np.log(0.5 * widths * (np.exp(log_values - peaks[:, None]) @ WEIGHT)) + peaks)


def _log_integral(log_values: FloatArray, widths: FloatArray) -> float:
    """Logarithm of the integral of exp(log_values) over all panels."""
    return float(np.logaddexp.reduce(_log_panels(log_values, widths)))


def _log_cumulative(log_values: FloatArray, widths: FloatArray) -> FloatArray:
    """Logarithm of the integral of exp(log_values) from the first edge to every node, (panels, NODES)."""
    peaks = log_values.max(axis=1, keepdims=True)
    inside = 0.5 * widths[:, None] * (np.exp(log_values - peaks) @ ANTIDERIVATIVE.T)
    # Where a panel is too coarse to matter, the antiderivative may come out below zero.
    log_inside = np.log(np.maximum(inside, np.finfo(np.float64).tiny)) + peaks
    whole = np.logaddexp.accumulate(_log_panels(log_values, widths))
    before = np.concatenate([[-np.inf], whole[:-1]])[:, None]
    return np.asarray(np.logaddexp(before, log_inside))


def _coarse(panels: _Panels, start: float, exits: tuple[bool, bool]) -> BoolArray:
    """Panels whose unresolved part, times their largest share in the time, is above rounding."""
    speed, widths, split = panels.psi(start), panels.widths, int(np.searchsorted(panels.lower, start))
    scale = -speed - np.log(panels.diffusion)
    rough = np.zeros(len(widths))
    for values in (speed, scale):
        rough = np.maximum(rough, _tail(np.exp(values - values.max(axis=1, keepdims=True))))
    totals = _log_panels(speed, widths), _log_panels(scale, widths)
    shares = []
    if exits[1]:
        shares.append(_log_pairs(*totals, split))
    if exits[0]:
        shares.append(_log_pairs(totals[0][::-1], totals[1][::-1], len(widths) - split)[::-1])
    # With two exits the time is at most that through either alone.
    whole = min(share.max() for share in shares)
    share = np.exp(np.minimum(np.maximum.reduce(shares) - whole, 0.0))
    rounding = 16.0 * np.finfo(np.float64).eps * np.abs(speed).max(axis=1)
    return np.asarray((rough * share > RESOLVED + rounding) | (panels.unsure > RESOLVED))


def _log_pairs(speed: FloatArray, scale: FloatArray, split: int) -> FloatArray:
    """Logarithm of the largest term with each panel, (panels,), of the double sum over z <= y, y from `split` on."""
    outer = np.where(np.arange(scale.size) >= split, scale, -np.inf)
    ahead = np.maximum.accumulate(outer[::-1])[::-1]
    return np.asarray(np.maximum(speed + ahead, outer + np.maximum.accumulate(speed)))
