"""The distribution of first-passage times: how long probability that leaves for good has stayed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.interpolate import CubicHermiteSpline
from scipy.optimize import brentq

from fpsolve.model.grid import FloatArray

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# Survival below which its logarithm, which the quantiles are read on, is rounding.
LEAST_SURVIVAL = 1e-300


@final
@dataclass(frozen=True, slots=True)
class FirstPassage:
    """When probability leaves through any of the gates, from the saved times of a motion.

    survival: probability still inside as a share of what there was at the start, (times,); density: minus its
    derivative, (times,) [1/time]; quantiles: by share, the time by which so much has left, None where that is later
    than the last saved time.
    """

    survival: FloatArray
    density: FloatArray
    quantiles: dict[float, float | None]


def first_passage(times: FloatArray, mass: FloatArray, outflow: FloatArray) -> FirstPassage:
    """The distribution from the mass inside and the outflow through all gates at some times, (times,) each.

    Between the times ln(survival) is a cubic that meets its values and slopes, -density / survival: exact for an
    exponential decay, of fourth order in the spacing otherwise.
    """
    survival, density = mass / mass[0], outflow / mass[0]
    return FirstPassage(survival, density, {share: _quantile(times, survival, density, share) for share in QUANTILES})


def _quantile(times: FloatArray, survival: FloatArray, density: FloatArray, share: float) -> float | None:
    """The time at which a share has left."""
    (beyond,) = np.nonzero(survival <= 1.0 - share)
    if beyond.size == 0 or times.size < 2:
        return None
    last = int(beyond[0])
    if last == 0 or survival[last] < LEAST_SURVIVAL:
        return float(times[last])
    near = slice(last - 1, last + 1)
    curve = CubicHermiteSpline(times[near], np.log(survival[near]), -density[near] / survival[near])
    return float(brentq(lambda time: float(curve(time)) - np.log1p(-share), times[last - 1], times[last]))
