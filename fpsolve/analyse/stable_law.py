"""Symmetric alpha-stable laws: density, distribution, and a fit by the empirical characteristic function.

The law of tail index alpha, location d and scale g has the characteristic function exp(i d t - |g t|**alpha),
0 < alpha <= 2: the Gaussian of variance 2 g**2 at alpha = 2, Cauchy's law at alpha = 1, and tails
P(|x| > r) ~ r**(-alpha) below 2. The modulus of the characteristic function does not see a skewness of the law, so
the tail index and the scale that are fitted here are those of a skewed stable law too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.optimize import brentq

from fpsolve.model.grid import FloatArray

GAUSSIAN = 2.0  # tail index
SMALLEST_INDEX = 0.3  # below, what looks like a heavy tail is an atom
PLACES = np.arange(1, 11) / 10.0  # arguments of the characteristic function in units of 1 / scale
WEIGHTS = np.log(PLACES) - np.log(PLACES).mean()
WEIGHTS /= (WEIGHTS**2).sum()  # of the slope of a line over ln(PLACES)
STEP = 1.25  # by which the argument grows on the way to the scale
LARGEST_ARGUMENT = 1e6  # in units of 1 / standard deviation: no scale is looked for beyond
TABLE = 1200  # points of a table of the law, evenly spaced in arcsinh
PIECE = 1 << 18  # complex numbers at a time
NEARBY = 1.02  # ratio of arguments whose difference is a derivative
NODE_STEP = 0.05
LAST_EXPONENT = 40.0  # exp(-40) is below rounding
TINIEST = 1e-300
STEEPEST = 1.59  # the tail index whose slope has the largest error
ASKED = 401  # tail indices that are asked about for an interval
NORMAL_95 = 1.959963984540054


@final
@dataclass(frozen=True, slots=True)
class StableLaw:
    """exp(i location t - |scale t|**tail_index), 0.3 <= tail_index <= 2; location, scale in units of the variable."""

    tail_index: float
    location: float
    scale: float

    def density(self, positions: FloatArray) -> FloatArray:
        """Probability density [1/unit of the variable], (points,); see standard_density."""
        return np.exp(self.log_density(positions))

    def log_density(self, positions: FloatArray) -> FloatArray:
        """Natural logarithm of the density, (points,); of many points by a spline, good to 1e-6."""
        away = self._standardised(positions)
        if self.tail_index >= GAUSSIAN:
            standard = -0.25 * away**2 - 0.5 * math.log(4.0 * math.pi)
        else:
            standard = _tabulated(_log_standard_density, away, self.tail_index)
        return standard - math.log(self.scale)

    def distribution(self, positions: FloatArray) -> FloatArray:
        """Probability below each position, (points,); of many points by a spline, good to 1e-8."""
        away = self._standardised(positions)
        upper = _tabulated(standard_distribution, away, self.tail_index)
        return np.where(np.asarray(positions) < self.location, 1.0 - upper, upper)

    def _standardised(self, positions: FloatArray) -> FloatArray:
        return np.abs(np.asarray(positions, dtype=np.float64) - self.location) / self.scale


def standard_density(distances: FloatArray, tail_index: float) -> FloatArray:
    """Density of the law of location 0 and scale 1 at distances >= 0, (points,), with an error below 1e-13.

    f(x) = (1/pi) Re int_0^inf exp(-i t x - t**alpha) dt, on the ray t = s exp(-i theta) on which the integrand decays
    with x as well, by the trapezoidal rule in v, s = exp(v - exp(-v)).
    """
    theta = _angle(tail_index)

    def part(values: FloatArray, arguments: FloatArray, weights: FloatArray) -> FloatArray:
        return np.einsum("pn,pn,n->p", (values * np.exp(-1j * theta)).real, arguments, weights)

    return _on_the_ray(distances, tail_index, part) / math.pi


def standard_distribution(distances: FloatArray, tail_index: float) -> FloatArray:
    """Probability below distances >= 0 of the law of location 0 and scale 1, (points,), with an error below 1e-13.

    F(x) = 1/2 + theta/pi - (1/pi) Im int_0^inf exp(-i t x - t**alpha) ds/s on the ray of the density.
    """

    def part(values: FloatArray, arguments: FloatArray, weights: FloatArray) -> FloatArray:
        return values.imag @ weights

    return 0.5 + (_angle(tail_index) - _on_the_ray(distances, tail_index, part)) / math.pi


def _angle(tail_index: float) -> float:
    """Of the ray: t**alpha is turned by an eighth of a circle, or t itself where alpha < 1."""
    return 0.25 * math.pi / max(tail_index, 1.0)


def _on_the_ray(distances: FloatArray, tail_index: float, part: Callable[..., FloatArray]) -> FloatArray:
    """Sums over the nodes of the ray: part(integrand (points, nodes), s (points, nodes), weights of ds/s (nodes,))."""
    theta = _angle(tail_index)
    ends = (LAST_EXPONENT / math.cos(tail_index * theta)) ** (1.0 / tail_index), LAST_EXPONENT / math.sin(theta)
    first = -math.log(LAST_EXPONENT / min(tail_index, 1.0))  # there s**alpha = exp(-40)
    places = np.arange(first, math.log(max(ends)) + NODE_STEP, NODE_STEP)
    nodes, weights = np.exp(places - np.exp(-places)), NODE_STEP * (1.0 + np.exp(-places))
    turned, powered = 1j * np.exp(-1j * theta), np.exp(-1j * tail_index * theta)
    sums = [np.zeros(0)]
    for some in np.array_split(distances, -(-distances.size * nodes.size // PIECE) or 1):
        arguments = nodes / np.maximum(some, 1.0)[:, None]
        values = np.exp(-turned * arguments * some[:, None] - powered * arguments**tail_index)
        sums.append(part(values, arguments, weights))
    return np.concatenate(sums)


def _log_standard_density(distances: FloatArray, tail_index: float) -> FloatArray:
    return np.log(np.maximum(standard_density(distances, tail_index), TINIEST))


def _tabulated(function: Callable[..., FloatArray], distances: FloatArray, tail_index: float) -> FloatArray:
    """A function of the distance, by a spline over arcsinh(distance) where there are many."""
    if distances.size <= TABLE:
        return function(distances, tail_index)
    places = np.linspace(0.0, np.arcsinh(float(distances.max())), TABLE)
    return CubicSpline(places, function(np.sinh(places), tail_index))(np.arcsinh(distances))


@final
@dataclass(frozen=True, slots=True)
class StableFit:
    """A symmetric stable law fitted to a sample.

    law: its tail index is the slope, cut to [0.3, 2]. slope: of ln(-ln |characteristic function|) against the
    logarithm of its argument, which exceeds 2 for laws with lighter shoulders than the Gaussian's. standard_error: of
    the slope, from independent draws of any law. interval: 95 % confidence interval of the tail index, cut at 2.
    """

    law: StableLaw
    slope: float
    standard_error: float
    interval: tuple[float, float]


@final
@dataclass(frozen=True, slots=True)
class TailSlope:
    """What the modulus of a characteristic function says: see tail_slope.

    influence: (draws,), the derivative of the slope with respect to the weight of each draw; its mean is 0.
    """

    slope: float
    scale: float
    influence: FloatArray

    @property
    def standard_error(self) -> float:
        """Of the slope, were the draws independent draws of a law: rms influence / sqrt(draws)."""
        return float(np.sqrt((self.influence**2).mean() / self.influence.size))


def tail_slope(sample: FloatArray, summands: int = 1) -> TailSlope | None:
    """The tail index and the scale of a stable law by Koutrouvelis' regression; None where there is no scale.

    For a stable law ln(-ln |phi(t)|) = alpha ln(scale) + alpha ln(t). Here phi is the empirical characteristic
    function, the scale is defined by |phi(1/scale)| = 1/e (at the smallest such argument), and the slope is that of the
    least-squares line over the arguments 0.1, 0.2, ... 1 / scale (Koutrouvelis 1980, J. Am. Stat. Assoc. 75, 918; the
    arguments of Kogon & Williams 1998). Its standard error is the delta method's (infinitesimal jackknife), the
    scale's own error included, so it holds whether the law is stable or not. In a Gaussian sample it is
    0.344 / sqrt(draws), at alpha = 1.5 1.83 / sqrt(draws), 12 % above the best weights for these arguments.

    Parameters
    ----------
    sample : (draws,) in any unit.
    summands : the law is that of the mean of so many independent draws of the sample, times `summands`: phi**summands.

    There is no scale where the modulus nowhere falls to 1/e, as where one value has more than 1/e of the draws and the
    others are spread out.
    """
    spread = float(sample.std())
    if not spread > 0.0:
        return None
    away = (sample - sample.mean()) / spread
    argument = _unit_argument(away, summands)
    if argument is None:
        return None
    height, effect, rise = np.zeros(PLACES.size), np.zeros(away.size), 0.0
    for number, place in enumerate(PLACES):
        height[number], part = _height(away, argument * place, summands)
        effect += WEIGHTS[number] * part
        rise += WEIGHTS[number] * _steepness(away, argument * place, summands)
    _, shift = _height(away, argument, summands)
    effect -= rise / _steepness(away, argument, summands) * shift
    return TailSlope(float(WEIGHTS @ height), spread / argument, effect)


def _height(away: FloatArray, argument: float, summands: int) -> tuple[float, FloatArray]:
    """ln(-ln |phi(t)|**summands), and its influence (draws,)."""
    turning = np.exp(1j * argument * away)
    mean = turning.mean()
    logarithm = math.log(abs(mean))
    return math.log(-summands * logarithm), ((turning / mean).real - 1.0) / logarithm


def _steepness(away: FloatArray, argument: float, summands: int) -> float:
    """D ln(-ln |phi(t)|) / d ln(t), by a central difference."""
    low, high = (_height(away, argument * factor, summands)[0] for factor in (1.0 / NEARBY, NEARBY))
    return (high - low) / (2.0 * math.log(NEARBY))


def _unit_argument(away: FloatArray, summands: int) -> float | None:
    """The smallest t with |phi(t)|**summands = 1/e for a sample of variance 1."""

    def above(argument: float) -> float:
        return abs(complex(np.exp(1j * argument * away).mean())) - math.exp(-1.0 / summands)

    lower = 1.0 / math.sqrt(summands)  # |phi(t)| >= 1 - t**2 / 2: still above
    while lower < LARGEST_ARGUMENT:
        if above(lower * STEP) <= 0.0:
            return float(brentq(above, lower, lower * STEP, xtol=1e-12 * lower))
        lower *= STEP
    return None


def fit_stable_law(sample: FloatArray) -> StableFit | None:
    """Fit a symmetric stable law to a sample (draws,); None where it has no scale, or a slope below 0.3.

    Tail index and scale: see tail_slope. Location: the least-squares slope of the phase of the characteristic function
    over the same arguments, in which an even law with a shift is exact.
    """
    found = tail_slope(sample)
    if found is None or found.slope < SMALLEST_INDEX:
        return None
    middle = float(np.median(sample))
    phases = [np.angle(np.exp(1j * (sample - middle) * (place / found.scale)).mean()) for place in PLACES]
    location = middle + found.scale * float(PLACES @ np.unwrap(phases) / (PLACES @ PLACES))
    law = StableLaw(min(found.slope, GAUSSIAN), location, found.scale)
    return StableFit(law, found.slope, found.standard_error, _interval(found, sample.size))


def _interval(found: TailSlope, draws: int) -> tuple[float, float]:
    """95 % confidence interval of the tail index, cut at 2: it covers both of two.

    Of a stable law: the indices from which the slope is no farther than 1.96 of their own standard errors, which fall
    steeply towards alpha = 2. Of any law: 1.96 standard errors of the sample to either side.
    """
    unit, reach = NORMAL_95 / math.sqrt(draws), NORMAL_95 * found.standard_error
    widest = unit * float(slope_error(np.array([STEEPEST]))[0])
    asked = np.clip(found.slope + widest * np.linspace(-1.0, 1.0, ASKED), 0.1, GAUSSIAN)
    accepted = asked[np.abs(found.slope - asked) <= unit * slope_error(asked)]
    ends = np.concatenate([accepted, [found.slope - reach, found.slope + reach]])
    return min(float(ends.min()), GAUSSIAN), min(float(ends.max()), GAUSSIAN)


def slope_error(tail_index: FloatArray) -> FloatArray:
    """Standard error of the slope of tail_slope, times sqrt(draws), in samples of stable laws: (laws,) to (laws,).

    From 2 cov(Re phi(s), Re phi(t)) = phi(s - t) + phi(s + t) - 2 phi(s) phi(t) of one draw.
    """
    a, s, t = np.asarray(tail_index)[:, None, None], PLACES[:, None], PLACES
    covariance = 0.5 * (np.exp(-(np.abs(s - t) ** a)) + np.exp(-((s + t) ** a))) - np.exp(-(s**a) - t**a)
    heights = covariance * np.exp(s**a + t**a) / (s * t) ** a
    return np.sqrt(np.einsum("s,lst,t->l", WEIGHTS, heights, WEIGHTS))
