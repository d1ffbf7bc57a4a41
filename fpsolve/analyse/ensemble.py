"""What an ensemble says: exit times, moments in time, and how far its histogram is from a density, each with its error.

Errors are standard errors of the sampling: one number in three is farther off than that.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import numpy as np
from scipy.special import gammaincinv

from fpsolve.model.grid import FloatArray, Grid, IntArray
from fpsolve.solve.ensemble import Swarm

FEWEST_EXPECTED = 25  # walkers in a block of cells: their number is then as good as normal
CONFIDENCE = 0.95
NORMAL_QUANTILE = 1.959963984540054  # of the two-sided 95 %

ExitMethod: TypeAlias = Literal["mean", "exponential", "none"]
METHOD_WORDS: dict[ExitMethod, str] = {
    "mean": "the mean over all walkers",
    "exponential": "the time spent inside by all walkers over the number of exits: right where exits come at a "
    "constant rate, as from a deep valley",
    "none": "no walker left",
}


@final
@dataclass(frozen=True, slots=True)
class Share:
    """A share of exits, with its standard error."""

    value: float
    standard_error: float


@final
@dataclass(frozen=True, slots=True)
class ExitTimes:
    """The mean exit time of a swarm.

    value: [time], None where no walker left; standard_error: of it; interval: 95 % confidence, its upper end infinite
    where no walker left; exits, censored: walkers that left, and that were still inside at the last time; splitting:
    share of the exits through each gate. method: "mean" where all left, "exponential" where some are censored (or a
    single one left): time at risk / exits, with the standard error value / sqrt(exits); "none" without exits, the
    lower end of the interval being a bound with 95 % confidence. An exponential law of the exits is assumed wherever
    the method is not "mean". reason: the method in words.
    """

    value: float | None
    standard_error: float | None
    interval: tuple[float, float]
    exits: int
    censored: int
    splitting: dict[str, Share]
    method: ExitMethod

    @property
    def reason(self) -> str:
        """The method in words."""
        return METHOD_WORDS[self.method]

    @property
    def log10(self) -> float | None:
        """Decimal logarithm of the value."""
        return None if self.value is None or self.value <= 0.0 else math.log10(self.value)

    @property
    def log10_error(self) -> float | None:
        """Standard error of the decimal logarithm."""
        if self.value is None or self.standard_error is None or self.value <= 0.0:
            return None
        return self.standard_error / (self.value * math.log(10.0))


def exit_times(swarm: Swarm) -> ExitTimes:
    """The mean exit time since the start, with its error, and the splitting between the gates."""
    left = swarm.exit_gates >= 0
    exits, censored = int(left.sum()), int((~left).sum())
    durations = np.where(left, swarm.exit_times, swarm.times[-1]) - swarm.begin
    at_risk, numbers = float(durations.sum()), np.bincount(swarm.exit_gates[left], minlength=len(swarm.gates))
    shares = numbers / max(exits, 1)
    errors = np.sqrt(shares * (1.0 - shares) / max(exits, 1))
    splitting = {
        gate: Share(float(share), float(error))
        for gate, share, error in zip(swarm.gates, shares, errors, strict=True)
        if exits
    }
    if not exits:
        bound = at_risk / float(gammaincinv(1, CONFIDENCE))
        return ExitTimes(None, None, (bound, math.inf), exits, censored, splitting, "none")
    value = at_risk / exits
    if censored or exits == 1:
        # The number of exits is a Poisson variable of mean at_risk / value: its exact confidence limits.
        tail = 0.5 * (1.0 - CONFIDENCE)
        interval = (at_risk / float(gammaincinv(exits + 1, 1.0 - tail)), at_risk / float(gammaincinv(exits, tail)))
        return ExitTimes(value, value / math.sqrt(exits), interval, exits, censored, splitting, "exponential")
    error = float(durations.std(ddof=1)) / math.sqrt(exits)
    reach = NORMAL_QUANTILE * error
    return ExitTimes(value, error, (value - reach, value + reach), exits, censored, splitting, "mean")


def absorbed(swarm: Swarm) -> dict[str, FloatArray]:
    """Share of all walkers that has gone through each gate by each saved time, (times,), as Motion.absorbed."""
    gone = swarm.exit_times <= swarm.times[:, None]
    return {
        gate: np.asarray((gone & (swarm.exit_gates == number)).mean(axis=1)) for number, gate in enumerate(swarm.gates)
    }


@final
@dataclass(frozen=True, slots=True)
class Moments:
    """Moments of the walkers still inside at the saved times, with standard errors.

    times, inside: (times,); mean, mean_error: (times, axes) [length]; covariance, covariance_error:
    (times, axes, axes) [length**2]. Not a number where fewer than two are left.
    """

    times: FloatArray
    inside: IntArray
    mean: FloatArray
    mean_error: FloatArray
    covariance: FloatArray
    covariance_error: FloatArray


def moments(swarm: Swarm) -> Moments:
    """Mean and covariance (unbiased) in time.

    The variance of a covariance is that of the products of deviations, over the number of walkers.
    """
    times, _, axes = swarm.positions.shape
    mean, covariance = np.full((2, times, axes), np.nan), np.full((2, times, axes, axes), np.nan)
    inside = swarm.inside
    for number, (positions, kept) in enumerate(zip(swarm.positions, inside, strict=True)):
        count = int(kept.sum())
        if count < 2:
            continue
        away = positions[kept] - positions[kept].mean(axis=0)
        matrix = away.T @ away / (count - 1)
        squares = (away**2).T @ away**2 / count
        mean[:, number] = positions[kept].mean(axis=0), np.sqrt(np.diag(matrix) / count)
        covariance[:, number] = matrix, np.sqrt(np.maximum(squares - matrix**2, 0.0) / count)
    return Moments(swarm.times, inside.sum(axis=1), *mean, *covariance)


def histogram(swarm: Swarm, grid: Grid) -> IntArray:
    """Walkers in every cell at every saved time, (times, cells); those that lie on a wall count for the cell there."""
    counts = np.empty((len(swarm.times), grid.size), dtype=np.int64)
    for number, (positions, kept) in enumerate(zip(swarm.positions, swarm.inside, strict=True)):
        columns = positions[kept].T
        index = [
            np.clip(np.floor(axis.index(column) + 0.5), 0, axis.cells - 1)
            for axis, column in zip(grid.axes, grid.along(columns), strict=True)
        ]
        cells = grid.strides @ np.array(index).astype(np.int64)
        counts[number] = np.bincount(cells, minlength=grid.size)
    return counts


@final
@dataclass(frozen=True, slots=True)
class Distance:
    """The L1 distance between a histogram and a density, beside what chance makes of it.

    value: sum over blocks of cells of |share of the walkers - probability|, those that have left being one more block;
    expected, deviation: its mean and standard deviation if the walkers were drawn from the density; blocks: how many.
    """

    value: float
    expected: float
    deviation: float
    blocks: int

    @property
    def excess(self) -> float:
        """By how many standard deviations it is more than chance."""
        return (self.value - self.expected) / self.deviation if self.deviation > 0.0 else 0.0


def l1_distance(
    counts: IntArray, probability: FloatArray, walkers: int, grid: Grid, fewest: float = FEWEST_EXPECTED
) -> Distance:
    """The L1 distance between walkers and a density.

    Cells are joined to blocks, as `blocks` says, in each of which at least `fewest` walkers are expected: of single
    cells the distance would be chance alone. With x_i normal of variance s_i**2 = p_i (1 - p_i) / walkers, and
    correlated by r_ij**2 = p_i p_j / ((1 - p_i) (1 - p_j)), as multinomial counts are,

        expected    = sum of sqrt(2 / pi) s_i
        deviation^2 = sum of (1 - 2 / pi) s_i**2 + sum over i != j of r_ij**2 s_i s_j / pi

    to order r**2. counts, probability: (cells,); walkers: all of them, also those that have left; the probability that
    is missing from 1 is theirs.
    """
    number = blocks(probability, grid, fewest / walkers)
    found = np.append(np.bincount(number, counts), walkers - counts.sum()) / walkers
    p = np.append(np.bincount(number, probability), max(1.0 - probability.sum(), 0.0))
    variances = np.maximum(p * (1.0 - p), 0.0) / walkers
    shared = p**1.5 / np.sqrt(np.maximum(1.0 - p, np.finfo(float).tiny)) * (p < 1.0)
    spread = (1.0 - 2.0 / math.pi) * variances.sum()
    spread += (shared.sum() ** 2 - (shared**2).sum()) / (math.pi * walkers)
    expected = math.sqrt(2.0 / math.pi) * float(np.sqrt(variances).sum())
    return Distance(float(np.abs(found - p).sum()), expected, math.sqrt(spread), len(found) - int(p[-1] == 0.0))


def blocks(probability: FloatArray, grid: Grid, least: float) -> IntArray:
    """The number of the block that each cell belongs to, (cells,), every block holding a probability of `least`.

    The box of cells is halved by probability along its longest side, and so on, as long as both halves hold enough
    (a k-d tree): the blocks depend on the density alone, so what walkers there are does not bend the statistics.
    """
    number = np.zeros(grid.shape, dtype=np.int64)
    box = grid.shaped(np.asarray(probability, dtype=np.float64))
    for count, block in enumerate(_halved(box, tuple(slice(0, cells) for cells in grid.shape), least)):
        number[block] = count
    return number.ravel()


def _halved(box: FloatArray, block: tuple[slice, ...], least: float) -> Iterator[tuple[slice, ...]]:
    """The blocks that a block falls into."""
    inner = box[block]
    for axis in sorted(range(box.ndim), key=lambda axis: -inner.shape[axis]):
        below = np.cumsum(inner.sum(axis=tuple(other for other in range(box.ndim) if other != axis)))
        cut = 1 + int(np.argmin(np.abs(below - 0.5 * below[-1])))
        if cut < inner.shape[axis] and min(below[cut - 1], below[-1] - below[cut - 1]) >= least:
            begin, end = block[axis].start, block[axis].stop
            for part in (slice(begin, begin + cut), slice(begin + cut, end)):
                yield from _halved(box, (*block[:axis], part, *block[axis + 1 :]), least)
            return
    yield block
