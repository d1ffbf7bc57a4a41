"""The quasi-potential: what takes the place of the loss where the drift over the noise is no gradient.

At low noise the density at rest is exp(-quasi-potential / noise) times a prefactor (Freidlin & Wentzell 1984, chapter
4): zero at the deepest attractor, and as much higher elsewhere as the noise has to work to get there. Where the drift
is -M grad L and D = T M it is the loss.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import final

import numpy as np

from fpsolve.discretise.generator import Generator
from fpsolve.errors import FpsolveError
from fpsolve.model.grid import FloatArray
from fpsolve.model.noise import ScaledNoise
from fpsolve.solve.elimination import memory_needed, memory_of_machine, seconds_needed
from fpsolve.solve.stationary import stationary

LOWER = 0.5  # the second level of the noise, as a share of the first
# The error of the grid grows fourfold where the noise is halved: three quarters of it then lie in V, a quarter in the
# difference to what the lower level says by itself.
OWN_DIFFERENCES = 3.0
LONGEST = 10.0  # seconds that the density at the second level may take


@final
@dataclass(frozen=True, slots=True)
class QuasiPotential:
    """The quasi-potential on the cells, from the densities at rest at two levels of the noise.

    values: (cells,), 0 where it is lowest; error: of the values, (cells,), measured to hold that of the grid as well
    as what is left of the prefactor; noise: what both are multiplied with, the temperature [loss] where D = T M, else 1
    (they are then in units of the noise, D as given).
    """

    values: FloatArray
    error: FloatArray
    noise: float


def quasi_potential(generator: Generator, log_probability: FloatArray) -> QuasiPotential | None:
    """The quasi-potential of a closed chain in the plane; None where it takes too long, or cannot be had.

    With p = z exp(-V/e) at the noise e and p' at e/2, both as shares of their highest values,

        V/e = ln p - ln p' + O(e),      of which -ln p and -ln p' / 2 fall short by ln z and (ln z)/2

    so the prefactor z drops out; |ln p - (ln p')/2| = |ln z|/2 says how much it was. z = 1 and V is exact
    where the density is exp(-V/e) at every noise: linear drifts, losses, and rotations along their contours.

    log_probability: of the cells at rest, (cells,), natural, also where it is below all floating-point numbers.
    """
    grid = generator.grid
    if seconds_needed(grid) > LONGEST or memory_needed(grid) > memory_of_machine():
        return None
    problem = generator.problem
    try:
        lower = Generator.of(replace(problem, noise=ScaledNoise(noise=problem.noise, factor=LOWER)))
        log_lower = stationary(lower).log_probability
    except FpsolveError:
        return None
    high, low = (_below_highest(logarithm, grid.volumes) for logarithm in (log_probability, log_lower))
    noise = problem.temperature or 1.0
    with np.errstate(invalid="ignore"):  # outside the domain there is nothing
        values = (low - high) / (1.0 / LOWER - 1.0)
        error = OWN_DIFFERENCES * np.abs(values - LOWER * low)
    return QuasiPotential(noise * (values - np.nanmin(values)), noise * error, noise)


def _below_highest(log_probability: FloatArray, volumes: FloatArray) -> FloatArray:
    """Minus the logarithm of the density over its highest value, (cells,)."""
    log_density = log_probability - np.log(volumes)
    return log_density.max() - log_density
