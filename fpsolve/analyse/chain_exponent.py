"""How improbable a climb is for the steps of SGD themselves, and for the Fokker-Planck equation in their place.

A step is -learning_rate times the mean gradient of a batch. For small learning rates the mean escape time grows as
exp(exponent), and the exponent follows from the whole law of the gradients of the examples, not only from their mean
and covariance (Doering, Sargsyan & Sander 2005; Freidlin & Wentzell 1998, chapter 5). Fokker-Planck keeps only these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, final

import numpy as np
from scipy.integrate import simpson

from fpsolve.model.grid import FloatArray

SAME = 1e-13  # relative: two Newton iterates that differ by less are one
NOTHING = 1e-12  # a tilt of so many standard deviations is rounding
MOST_STEPS = 100
MOST_DOUBLINGS = 60
MOST_HALVINGS = 40


class Examples(Protocol):
    """What is needed of a sample: the gradients of the loss of every example."""

    def gradients(self, position: FloatArray, /) -> FloatArray:
        """Gradients [loss/length], (axes, rows), at a position (axes,)."""


@final
@dataclass(frozen=True, slots=True, eq=False)
class ChainExponent:
    """The exponents of a climb along a path: ln(mean escape time) = exponent + something that stays bounded.

    arc_length: (points,) [length]. chain, fokker_planck: what every unit of length adds to the exponent of the steps
    themselves and to that of the equation, (points,) [1/length], >= 0; inf where no example's noise can lead on.
    """

    arc_length: FloatArray
    chain: FloatArray
    fokker_planck: FloatArray

    @property
    def exponent(self) -> float:
        """Of the steps themselves; inf where they cannot climb the path."""
        return _integral(self.chain, self.arc_length)

    @property
    def fokker_planck_exponent(self) -> float:
        """Of the equation: barrier over noise."""
        return _integral(self.fokker_planck, self.arc_length)

    @property
    def log_ratio(self) -> float:
        """Ln of the escape time of SGD over that of Fokker-Planck, to leading exponential order."""
        return self.exponent - self.fokker_planck_exponent


def chain_exponent(sample: Examples, positions: FloatArray, learning_rate: float, batch_size: float) -> ChainExponent:
    """The exponents of the climb along a path, of SGD with batches drawn with replacement and of Fokker-Planck.

    With K(tilt) = ln mean over the examples of exp(-tilt . gradient), which is convex, and t the direction of the
    path, a unit of length adds

        batch_size / learning_rate * max { tilt . t : K(tilt) <= 0 }

    to the exponent. It is the action of the path (Heymann & Vanden-Eijnden 2008, section 2), exact for learning rates
    so small that a step sees one gradient and one tilt: what is left over in ln(time) does not grow as the learning
    rate falls. In one dimension the tilt solves K(tilt) = 0. To second order K = -tilt . L' + tilt . C tilt / 2: then
    it is t . C^-1 L' + sqrt(L' . C^-1 L' t . C^-1 t), that of Fokker-Planck with D = learning_rate C / (2 batch_size);
    in one dimension L' / D. A third cumulant k changes the tilt by 4/3 k L'**2 / C**3, a fourth k by
    -2/3 k L'**3 / C**4.

    Parameters
    ----------
    sample : its mean gradient is that of the loss.
    positions : (axes, points) [length], from the foot of the climb to its top; in more than one dimension it is the
        path of least action of Fokker-Planck, beside which the steps may have a slightly better one.
    learning_rate : [time]. batch_size : examples, drawn with replacement (without, for few of many).
    """
    lengths = np.linalg.norm(np.diff(positions, axis=1), axis=0)
    arc_length = np.concatenate([[0.0], np.cumsum(lengths)])
    tangents = np.gradient(positions, arc_length, axis=1)
    tangents /= np.linalg.norm(tangents, axis=0)
    pairs = [
        _tilts(np.asarray(sample.gradients(position)), tangent)
        for position, tangent in zip(positions.T, tangents.T, strict=True)
    ]
    chain, equation = batch_size / learning_rate * np.array(pairs).T
    return ChainExponent(arc_length, chain, equation)


def _tilts(gradients: FloatArray, tangent: FloatArray) -> tuple[float, float]:
    """Largest tilt along a direction that the law of gradients (axes, rows) allows, and a Gaussian law of that mean."""
    frame = np.linalg.svd(tangent[None, :])[2].T  # the tangent first, but for its sign
    frame[:, 0] = tangent
    gradients = frame.T @ gradients
    mean = gradients.mean(axis=1)
    covariance = np.atleast_2d(np.cov(gradients, bias=True))
    try:
        factor = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:  # no noise in some direction
        still = float(np.abs(mean).max()) <= NOTHING * float(np.abs(gradients).max())
        return (0.0, 0.0) if still else (math.inf, math.inf)
    slope, along = np.linalg.solve(factor, mean), np.linalg.solve(factor, np.eye(len(mean))[0])
    radius = float(np.linalg.norm(slope) / np.linalg.norm(along))
    gaussian = float(slope @ along) + float(np.linalg.norm(slope) * np.linalg.norm(along))
    if gaussian * math.sqrt(float(covariance[0, 0])) <= NOTHING:
        return 0.0, max(gaussian, 0.0)
    tilt = np.linalg.solve(factor.T, slope + radius * along)
    return _largest_tilt(gradients, gaussian, tilt[1:]), gaussian


def _largest_tilt(gradients: FloatArray, first: float, across: FloatArray) -> float:
    """The largest first component of a tilt for which K <= 0, from a guess for it and the others; inf if there is none.

    min K over the other components is convex in the first: from where it is positive Newton's method comes down to
    its zero from above.
    """
    if float(gradients[0].min()) >= 0.0:
        return math.inf
    for _ in range(MOST_DOUBLINGS):
        value, slope, across = _lowest(gradients, first, across)
        if value >= 0.0:
            break
        first, across = 2.0 * first, 2.0 * across
    else:
        return math.inf
    for _ in range(MOST_STEPS):
        if value <= 0.0 or value <= SAME * first * slope:
            break
        first -= value / slope
        value, slope, across = _lowest(gradients, first, across)
    return first


def _lowest(gradients: FloatArray, first: float, across: FloatArray) -> tuple[float, float, FloatArray]:
    """The lowest K over the other components of the tilt; its slope by the first; where it is lowest.

    By Newton's method with steps that are halved until K falls; what is left of the decrement is rounding.
    """
    value, weights = _cumulant(gradients, first, across)
    for _ in range(MOST_STEPS if across.size else 0):
        means = gradients[1:] @ weights
        deviations = gradients[1:] - means[:, None]
        step = np.linalg.lstsq((deviations * weights) @ deviations.T, means, rcond=None)[0]
        decrement = float(step @ means)
        if decrement <= SAME * max(abs(value), SAME):
            break
        for halvings in range(MOST_HALVINGS):
            trial = across + 0.5**halvings * step
            lower, its_weights = _cumulant(gradients, first, trial)
            if lower < value - 1e-4 * 0.5**halvings * decrement:
                break
        else:
            break
        across, value, weights = trial, lower, its_weights
    return value, -float(gradients[0] @ weights), across


def _cumulant(gradients: FloatArray, first: float, across: FloatArray) -> tuple[float, FloatArray]:
    """K at a tilt, and the weights that it gives the examples, (rows,), which sum to 1."""
    powers = -(first * gradients[0] + across @ gradients[1:])
    top = float(powers.max())
    weights = np.exp(powers - top)
    total = float(weights.sum())
    if top < 1.0 and float(powers.min()) > -1.0:  # small tilts: the differences of 1 and their mean are not lost
        return math.log1p(float(np.expm1(powers).mean())), weights / total
    return top + math.log(total / powers.size), weights / total


def _integral(values: FloatArray, arc_length: FloatArray) -> float:
    return float(simpson(values, x=arc_length)) if np.isfinite(values).all() else math.inf
