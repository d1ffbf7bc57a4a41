"""Escape times of SGD after Xie, Sato & Sugiyama (2021): noise proportional to the Hessian, frozen in two pieces.

Their theorem 3.2 takes the noise of SGD to be D = learning_rate / (2 batch_size) |H|, but with |H| = H_a, that of the
minimum, on the first part of the way and |H| = |H_b|, that of the saddle, on the rest. The exponent of the time is
then the integral of dL / D along the way,

    tau = 2 pi / |H_be| exp(2 S (L_b - L_a) / eta (s / H_ae + (1 - s) / |H_be|)),    s = (L_i - L_a) / (L_b - L_a)

with H_ae and H_be the eigenvalues of the Hessian along the way at its ends, and the part changing at the point i of
the way of steepest descent where the loss bends neither way along it, t . H t = 0 (t the tangent). The widths across
the way are sqrt(eta / 2 S) all along it, whatever H, so that no determinants are left in any number of dimensions.

The prefactor depends on the convention: with the same exponent, Laplace's method gives for the frozen noise

    2 pi / H_ae (Ito),    2 pi / sqrt(H_ae |H_be|) (Stratonovich),    2 pi / |H_be| (isothermal, that of the theorem).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.interpolate import CubicHermiteSpline
from scipy.optimize import brentq

from fpsolve.analyse.geometry import describe, wrapped
from fpsolve.analyse.passage_integral import InapplicableError
from fpsolve.analyse.path import Path, steepest_descent
from fpsolve.analyse.saddle import Passage, in_parallel
from fpsolve.analyse.stationary_points import StationaryPoint, loss_at
from fpsolve.model.grid import FloatArray
from fpsolve.model.noise import CONVENTION_WORDS, NOISE_GRADIENT_SHARE, Convention, HessianNoise
from fpsolve.model.problem import Problem

SAME_NOISE = 1e-6  # relative: of frozen pieces that a user writes with rounded numbers
UNDECIDED = 1e-4  # share of the way around the point where the pieces meet that is not looked at


@final
@dataclass(frozen=True, slots=True)
class FrozenWay:
    """What the theorem needs to know of the way over one saddle.

    share: s, the part of the climb before the inflection; minimum_curvature, saddle_curvature: H_ae > 0 and
    H_be < 0 [loss/length**2]; climb: height of the saddle [loss]; inflection: (axes,) [length], and inflection_length,
    its arc length from the minimum; path: of steepest descent; bends: how often t . H t changes its sign on the climb,
    of which the first is taken.
    """

    share: float
    minimum_curvature: float
    saddle_curvature: float
    climb: float
    inflection: FloatArray
    inflection_length: float
    path: Path
    bends: int

    def log_time(self, noise: float, convention: Convention) -> float:
        """Logarithm of the mean escape time; noise: D over |H|, learning_rate / (2 batch_size) [length**2/loss/time].

        The prefactor is 2 pi / sqrt(H_ae |H_be|) (|H_be| / H_ae)**(1/2 - alpha), alpha as in `theory.low_noise`.
        """
        first, second = self.minimum_curvature, abs(self.saddle_curvature)
        exponent = self.climb / noise * (self.share / first + (1.0 - self.share) / second)
        alpha = 1.0 - NOISE_GRADIENT_SHARE[convention]
        prefactor = math.log(2.0 * math.pi) - (1.0 - alpha) * math.log(first) - alpha * math.log(second)
        return prefactor + exponent


@final
@dataclass(frozen=True, slots=True)
class XieTimes:
    """The theorem's times for one passage.

    ways: over each saddle, the lowest first; noise: D over |H|; convention: of the equation;
    doubt: why the equation's time differs from that of its own convention; None where it should not.
    """

    ways: tuple[FrozenWay, ...]
    noise: float
    convention: Convention
    doubt: str | None

    def log_time(self, convention: Convention) -> float:
        """Logarithm of the mean escape time with the prefactor of a convention; the rates over the saddles add."""
        return in_parallel(way.log_time(self.noise, convention) for way in self.ways)

    def doubt_of(self, convention: Convention) -> str | None:
        """Why the time with the prefactor of a convention does not apply, a clause for the report."""
        if self.doubt is not None or convention == self.convention:
            return self.doubt
        own, other = CONVENTION_WORDS[self.convention], CONVENTION_WORDS[convention]
        return f"the equation is taken in the {own} sense, this prefactor in the {other}"


def xie_times(passage: Passage) -> XieTimes:
    """The theorem's times for a passage.

    Raises
    ------
    InapplicableError : the drift is not -grad L, or the noise not proportional to |H| at minimum and saddles.
    StationaryPointError : no way of steepest descent leads from a saddle to the minimum.
    """
    problem = passage.problem
    if not problem.landscape.is_gradient:
        reason = "the drift is not minus the gradient of the loss"
        raise InapplicableError(reason)
    if not np.allclose(problem.landscape.mobility, np.eye(problem.grid.dimensions), rtol=0.0, atol=1e-12):
        reason = "the mobility is not the identity"
        raise InapplicableError(reason)
    noise = _noise_over_curvature(passage)
    ways = tuple(frozen_way(problem, passage.minimum, saddle) for saddle in passage.saddles)
    bends = max(way.bends for way in ways)
    turns = f"the loss along the way bends {bends} times between minimum and saddle; s counts the first"
    doubt = _doubt_frozen(problem, ways, noise) or (turns if bends > 1 else None) or passage.doubt
    return XieTimes(ways, noise, problem.diffusion.convention, doubt)


def frozen_way(problem: Problem, minimum: StationaryPoint, saddle: StationaryPoint) -> FrozenWay:
    """The way of steepest descent from a saddle to a minimum, as the theorem sees it."""
    path = steepest_descent(problem, minimum.position, saddle.position)
    points, rise = path.climb, saddle.loss - minimum.loss
    tangents = _tangents(problem, points, saddle)
    way = CubicHermiteSpline(path.arc_length[: len(points)], points, tangents)
    bend = _bends(problem, points, tangents)
    (falling,) = np.nonzero((bend[:-1] > 0.0) & (bend[1:] <= 0.0))
    if falling.size == 0:
        reason = f"the loss does not bend downwards before the saddle {describe(problem.grid, saddle.position)}"
        raise InapplicableError(reason)
    lengths = path.arc_length[falling[0] : falling[0] + 2]

    def bend_at(length: float) -> float:
        place = way(length)
        return float(_bends(problem, place[None, :], _directions(problem, place[None, :]))[0])

    turn = float(brentq(bend_at, *lengths))
    place = np.asarray(way(turn))
    changes = int((np.sign(bend[1:]) != np.sign(bend[:-1])).sum())
    values, vectors = np.linalg.eigh(minimum.hessian)
    along = float(values[np.argmax(np.abs(vectors.T @ tangents[0]))])
    share = (loss_at(problem, wrapped(problem.grid, place)) - minimum.loss) / rise
    return FrozenWay(share, along, float(saddle.eigenvalues[0]), rise, place, turn, path, changes)


def _tangents(problem: Problem, points: FloatArray, saddle: StationaryPoint) -> FloatArray:
    """Unit tangents at points (points, axes) of a climb: uphill, or, at its ends, the limit of that."""
    tangents = np.empty_like(points)
    tangents[1:-1] = _directions(problem, points[1:-1])
    first = points[1] - points[0]
    tangents[0] = first / np.linalg.norm(first)
    across = saddle.lowest_direction
    tangents[-1] = across * np.sign(across @ (points[-1] - points[-2]))
    return tangents


def _directions(problem: Problem, points: FloatArray) -> FloatArray:
    """The directions uphill, (points, axes)."""
    assert problem.landscape.gradient is not None
    slopes = problem.landscape.gradient(wrapped(problem.grid, points.T)).T
    directions: FloatArray = slopes / np.linalg.norm(slopes, axis=1, keepdims=True)
    return directions


def _bends(problem: Problem, points: FloatArray, tangents: FloatArray) -> FloatArray:
    """How the loss bends along tangents, t . H t, at points (points, axes), (points,)."""
    assert problem.landscape.hessian is not None
    hessian = problem.landscape.hessian(wrapped(problem.grid, points.T))
    bend: FloatArray = np.einsum("pi,ijp,pj->p", tangents, hessian, tangents)
    return bend


def _noise_over_curvature(passage: Passage) -> float:
    """D over |H|, the same at minimum and saddles: given by learning rate and batch size, or read off D."""
    noise = passage.problem.noise
    if isinstance(noise, HessianNoise):
        return noise.scale
    points = (passage.minimum, *passage.saddles)
    matrices = [_diffusion_at(passage.problem, point.position) for point in points]
    ratio = float(np.trace(matrices[0]) / np.trace(_absolute(points[0].hessian)))
    for matrix, point in zip(matrices, points, strict=True):
        if not np.allclose(matrix, ratio * _absolute(point.hessian), rtol=0.0, atol=SAME_NOISE * np.trace(matrix)):
            reason = "the noise is not proportional to |H| at minimum and saddle"
            raise InapplicableError(reason)
    return ratio


def _doubt_frozen(problem: Problem, ways: tuple[FrozenWay, ...], noise: float) -> str | None:
    """Whether D along every way is noise times the curvature at its ends, changing at the inflection.

    That the whole matrix is frozen is not enough: the way must keep to the direction in which it leaves its end, or
    D dx is not parallel to dx.
    """
    for way in ways:
        points = way.path.climb
        lengths = way.path.arc_length[: len(points)]
        steps = np.gradient(points, lengths, axis=0)
        matrices = problem.diffusion.matrix(wrapped(problem.grid, points.T))
        first = lengths < way.inflection_length
        wanted = noise * np.where(first, way.minimum_curvature, -way.saddle_curvature)
        off = np.linalg.norm(np.einsum("ijp,pj->pi", matrices, steps) - wanted[:, None] * steps, axis=1)
        apart = np.abs(lengths - way.inflection_length) > UNDECIDED * lengths[-1]
        if (off[apart] > SAME_NOISE * wanted[apart]).any():
            return "the bracket holds only for noise frozen in two pieces, and D is not that along the way"
    return None


def _diffusion_at(problem: Problem, position: FloatArray) -> FloatArray:
    matrix: FloatArray = problem.diffusion.matrix(wrapped(problem.grid, position)[:, None])[..., 0]
    return matrix


def _absolute(hessian: FloatArray) -> FloatArray:
    """|H|: its eigenvalues without their signs."""
    values, vectors = np.linalg.eigh(hessian)
    return np.asarray((vectors * np.abs(values)) @ vectors.T)
