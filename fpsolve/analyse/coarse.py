"""The coarse Markov chain: the rates of transitions between the cores of all basins.

Every trajectory at rest is cut where it enters a core; it belongs to the core that it visited last. With F_ij the
transitions per time from core i to core j, no other core between, and P_i the probability to have visited i last, the
rates are k_ij = F_ij / P_i (E & Vanden-Eijnden 2006; Schuette et al., J. Chem. Phys. 134, 204105 (2011)). They hold at
any barrier; that the passages are those of a Markov chain, exponential and independent, holds as far as the barriers
are higher than the noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import final

import mpmath
import numpy as np

from fpsolve.analyse.basins import Basins
from fpsolve.analyse.cores import core_region
from fpsolve.analyse.geometry import brief
from fpsolve.analyse.passage_integral import InapplicableError
from fpsolve.analyse.stationary_points import StationaryPointError
from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError
from fpsolve.model.grid import FloatArray
from fpsolve.model.region import Region
from fpsolve.solve.reactive import Reactive
from fpsolve.solve.stationary import stationary

# Digits kept in the eigenvalues of the coarse chain, beside those that the range of its rates takes.
DIGITS = 20
# More states than this would make the eigenvalues slow.
MOST_STATES = 30


@final
@dataclass(frozen=True, eq=False)
class CoarseChain:
    """Rates between the cores of basins.

    log_flux: ln of the transitions per time from core i (row) to core j, (cores, cores) [1/time]; minus infinity on
    the diagonal and where none leads directly; log_share: ln of the probability at rest to have visited core i last,
    (cores,).
    """

    basins: Basins
    cores: tuple[Region, ...]
    log_flux: FloatArray
    log_share: FloatArray

    @property
    def log_rates(self) -> FloatArray:
        """Logarithms of the rates k_ij from core i (row) to core j, (cores, cores)."""
        return self.log_flux - self.log_share[:, None]

    @property
    def shares(self) -> FloatArray:
        """Probability at rest to have visited each core last, (cores,); sums to one."""
        return np.exp(self.log_share)

    @cached_property
    def log_mean_times(self) -> FloatArray:
        """Logarithms of the mean times of the coarse chain from core i (row) to core j, (cores, cores).

        Of the first passage, over all detours; minus infinity on the diagonal.
        """
        size = len(self.cores)
        times = np.full((size, size), -np.inf)
        for target in range(size):
            others = np.delete(np.arange(size), target)
            rates = self.log_rates[np.ix_(others, others)]
            times[others, target] = _log_passage_times(rates, self.log_rates[others, target])
        return times

    @property
    def imbalance(self) -> float:
        """Largest difference of the transitions per time out of a core and into it, over their sum.

        At rest they are equal, so that the shares are those of the coarse chain at rest: what remains is rounding.
        """
        out, back = (_log_sum(self.log_flux, axis) for axis in (1, 0))
        return float(np.abs(np.tanh(0.5 * (out - back))).max())

    @property
    def detailed_balance(self) -> float:
        """Largest difference of the transitions from i to j and from j to i over their sum: 0 of a reversible chain."""
        there, back = self.log_flux, self.log_flux.T
        joined = np.isfinite(there) | np.isfinite(back)
        return float(np.abs(np.tanh(0.5 * (there[joined] - back[joined]))).max(initial=0.0))

    @cached_property
    def log_relaxation_times(self) -> FloatArray:
        """Logarithms of the relaxation times of the coarse chain, the slowest first, (cores - 1,).

        They are -1 / Re(eigenvalue), by arithmetic of as many digits as the rates differ by.
        """
        size = len(self.cores)
        finite = self.log_rates[np.isfinite(self.log_rates)]
        digits = DIGITS + int(np.ptp(finite) / math.log(10.0))
        with mpmath.workdps(digits):
            generator = mpmath.matrix(size, size)
            for row, column in np.argwhere(np.isfinite(self.log_rates)):
                generator[row, column] = mpmath.exp(float(self.log_rates[row, column]))
            for row in range(size):
                generator[row, row] = -mpmath.fsum(generator[row, :])
            values = mpmath.eig(generator, left=False, right=False)
            decays = sorted(-mpmath.re(value) for value in values)[1:]
            return np.array([-float(mpmath.log(decay)) for decay in decays])


def coarse_chain(generator: Generator, basins: Basins) -> CoarseChain:
    """The rates between the cores of all basins, each all within one thermal energy of its minimum.

    Parameters
    ----------
    generator : without losses, on any grid of the box in which the basins were found.

    Raises
    ------
    InapplicableError : walls absorb, there is one basin or more than MOST_STATES, a minimum is too flat for a core,
        or the grid does not tell the cores apart.
    """
    problem, minima = basins.problem, basins.minima
    if not generator.closed:
        _refuse(f"probability is lost through {', '.join(generator.exits.gates)}")
    if not 2 <= len(minima) <= MOST_STATES:
        _refuse(f"the loss has {len(minima)} {'minimum' if len(minima) == 1 else 'minima'}")
    names = [f"core of {brief(problem.grid, point.position)}" for point in minima]
    try:
        cores = [core_region(problem, point.position, name) for point, name in zip(minima, names, strict=True)]
        chain = Reactive.of(generator, cores, stationary(generator))
    except (StationaryPointError, CaseError) as error:
        raise InapplicableError(error.found) from None
    log_flux = np.array([chain.flux(number).log() for number in range(len(cores))])
    np.fill_diagonal(log_flux, -np.inf)
    log_share = np.array([float(chain.last_visited(number).sum().log()) for number in range(len(cores))])
    return CoarseChain(basins, tuple(cores), log_flux, log_share - float(_log_sum(log_share, 0)))


def _refuse(reason: str) -> None:
    raise InapplicableError(reason)


def _log_passage_times(log_rates: FloatArray, log_losses: FloatArray) -> FloatArray:
    """Logarithms of the mean times until a chain is lost, (states,), by eliminating state after state.

    Nothing is subtracted (Grassmann, Taksar & Heyman 1985): times are right at any range of the rates.
    log_rates: (states, states), minus infinity on the diagonal; log_losses: (states,).
    """
    rates, losses = log_rates.copy(), log_losses.copy()
    sources = np.zeros(losses.size)
    departures = np.empty(losses.size)
    for last in reversed(range(losses.size)):
        departures[last] = np.logaddexp(_log_sum(rates[last, :last], 0), losses[last])
        share = rates[:last, last] - departures[last]
        rates[:last, :last] = np.logaddexp(rates[:last, :last], share[:, None] + rates[last, :last])
        losses[:last] = np.logaddexp(losses[:last], share + losses[last])
        sources[:last] = np.logaddexp(sources[:last], share + sources[last])
    times = np.empty(losses.size)
    for state in range(losses.size):
        onward = _log_sum(rates[state, :state] + times[:state], 0)
        times[state] = np.logaddexp(sources[state], onward) - departures[state]
    return times


def _log_sum(logarithms: FloatArray, axis: int) -> FloatArray:
    """Logarithm of the sum of the exponentials along an axis; minus infinity of nothing."""
    return np.asarray(np.logaddexp.reduce(logarithms, axis=axis, initial=-np.inf))
