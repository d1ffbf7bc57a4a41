"""How far the noise of single examples must be tilted on the way out of a well.

Fokker-Planck knows the mean and the covariance of the gradients of the examples; an escape asks for the tails of their
law where the tilt is large, and then SGD does not leave when Fokker-Planck says (Doering, Sargsyan & Sander 2005).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import numpy as np

from fpsolve.analyse.chain_exponent import ChainExponent
from fpsolve.analyse.geometry import wrapped
from fpsolve.analyse.stationary_points import slopes_at
from fpsolve.errors import CaseError, Notice
from fpsolve.model.fields import Field
from fpsolve.model.grid import FloatArray
from fpsolve.model.problem import Problem
from fpsolve.model.symmetric import eigen

# Below this tilt Fokker-Planck's escape times are good to some tens of per cent at barriers of ten times the noise;
# above the second SGD's differ by factors.
NOTICEABLE_TILT = 0.3
LARGE_TILT = 1.0
# Of the times of SGD and Fokker-Planck by their exponents: gradients with long tails reach it at small tilts too.
NOTICEABLE_LOG_RATIO = 0.2
# Escape time of SGD over that of Fokker-Planck, measured: quartic wells, gradients of the examples +-sigma about their
# mean, barrier over noise 8; by the largest tilt.
MEASURED_TILTS = (0.0, 0.15, 0.62, 1.23)
MEASURED_RATIOS = (1.0, 1.045, 1.6, 7.6)

Grade: TypeAlias = Literal["small", "noticeable", "large"]


def gradient_covariance_of(problem: Problem) -> Field | None:
    """The covariance of the gradients of the examples, where the landscape has one."""
    found: Field | None = getattr(problem.landscape, "gradient_covariance", None)
    return found


def require_covariance(problem: Problem) -> Field:
    """The same; raises CaseError where there is none."""
    if (covariance := gradient_covariance_of(problem)) is None:
        required = "It is the covariance of the gradients of the examples"
        raise CaseError("landscape.gradient_covariance", "there is none", required, "Give a sample, or a table with it")
    return covariance


@final
@dataclass(frozen=True, slots=True, eq=False)
class Tilt:
    """How far the noise of an example must be tilted on a path: 2 sqrt(grad L . C^-1 grad L), by arc length.

    It has no unit and depends on neither learning rate nor batch size. In one dimension it is 2 |L'| / sigma, sigma
    the standard deviation of the gradient of an example: the tilt 2 L' / sigma**2 in standard deviations.
    """

    positions: FloatArray  # (axes, points) [length]
    arc_length: FloatArray  # (points,) [length]
    values: FloatArray  # (points,), >= 0; inf where the loss falls in a direction without noise

    @property
    def largest(self) -> float:
        """The largest tilt on the path."""
        return float(self.values.max())

    @property
    def place(self) -> FloatArray:
        """Where it is largest, (axes,) [length]."""
        return self.positions[:, int(self.values.argmax())]

    @property
    def grade(self) -> Grade:
        """Small, noticeable from NOTICEABLE_TILT on, large from LARGE_TILT on."""
        if self.largest < NOTICEABLE_TILT:
            return "small"
        return "noticeable" if self.largest < LARGE_TILT else "large"

    def log_excess(self, barrier_over_noise: float = 8.0) -> float:
        """How far ln(escape time) of SGD may be from that of Fokker-Planck, going by what was measured.

        For +-sigma noise the exponent changes by the share tilt**2 / 6 of what it is, so that what was measured is
        interpolated in tilt**2 and grows with the barrier. Beyond the largest tilt measured it is a lower bound.
        """
        measured = np.interp(self.largest**2, np.square(MEASURED_TILTS), np.log(MEASURED_RATIOS))
        return float(measured) * barrier_over_noise / 8.0

    @property
    def verdict(self) -> str:
        """What the largest tilt means, in words."""
        if self.grade == "small":
            return "small: SGD with short steps leaves when Fokker-Planck says, unless its gradients have long tails"
        if self.grade == "noticeable":
            return "noticeable: SGD's escape times may differ from Fokker-Planck's by tens of per cent"
        return "large: SGD's escape times may differ from Fokker-Planck's by factors"


def tilt_along(problem: Problem, positions: FloatArray) -> Tilt:
    """The tilt at points of a path, (axes, points) [length].

    A linear change of the coordinates leaves it as it is, and so does a mobility. Raises CaseError where the landscape
    has no covariance of gradients.
    """
    covariance = require_covariance(problem)
    places = wrapped(problem.grid, positions)
    gradient, _ = slopes_at(problem, places)
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(positions, axis=1), axis=0))])
    return Tilt(positions, lengths, 2.0 * np.sqrt(_over(covariance(places), gradient)))


def _over(covariance: FloatArray, vectors: FloatArray) -> FloatArray:
    """V . C^-1 v for vectors (axes, points), (points,): inf where v has a part along which C vanishes."""
    values, directions = eigen(covariance)
    parts = np.einsum("ikp,ip->kp", directions, vectors) ** 2
    tiny = np.finfo(np.float64)
    quiet = values <= tiny.eps * np.abs(values).max(axis=0)
    still = parts <= tiny.eps * np.maximum(parts.sum(axis=0), tiny.tiny)
    lost = quiet & ~still
    total = np.where(quiet, 0.0, parts / np.where(quiet, 1.0, values)).sum(axis=0)
    return np.where(lost.any(axis=0), math.inf, total)


def tilt_notice(tilt: Tilt, path_exponent: ChainExponent | None, barrier_over_noise: float | None) -> Notice | None:
    """A warning where the tilt or its effect is more than small: how far SGD's time may be from Fokker-Planck's.

    path_exponent: from the gradients of the examples on the same path, where there are any: they say which way.
    """
    ratio = None if path_exponent is None else path_exponent.log_ratio
    if tilt.grade == "small" and (ratio is None or abs(ratio) < NOTICEABLE_LOG_RATIO):
        return None
    head = f"an escape tilts the gradient noise of every example by up to {tilt.largest:.2g} standard deviations"
    if ratio is not None:
        when = f"{'later' if ratio > 0.0 else 'sooner'} than Fokker-Planck says, {factor_words(abs(ratio))}"
        meant = f"by the gradients of the examples SGD leaves {when} where its steps are short"
    else:
        barrier = 8.0 if barrier_over_noise is None else barrier_over_noise
        amount = factor_words(tilt.log_excess(barrier), tilt.largest > MEASURED_TILTS[-1])
        when = f"{amount} for gradients of two values, at a barrier of {barrier:.3g} times the noise"
        meant = f"SGD may leave sooner or later than Fokker-Planck says, {when}"
    known = "Fokker-Planck knows only the mean and the covariance of the gradients"
    message = f"{head}: {meant}; {known}. An ensemble of real SGD runs tells"
    return Notice("tilt_is_large", message)


def factor_words(log_ratio: float, at_least: bool = False) -> str:
    """'by about 12 %', 'by a factor of about 7.6' for a ratio of times, >= 1, given by its logarithm."""
    least = "more than" if at_least else "about"
    if log_ratio == math.inf:
        return "by any factor: its steps do not reach across"
    if log_ratio < math.log(2.0):
        return f"by {least} {100.0 * math.expm1(log_ratio):.2g} %"
    if log_ratio < math.log(1e4):
        return f"by a factor of {least} {math.exp(log_ratio):.2g}"
    return f"by a factor of {least} 10^{log_ratio / math.log(10.0):.0f}"
