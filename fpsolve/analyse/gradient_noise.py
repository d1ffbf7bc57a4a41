"""How Gaussian the noise of minibatch gradients is at a point.

The noise of a batch of size S is the mean of S per-example gradients minus the mean of all. A Fokker-Planck equation
knows its covariance alone. Here many batches are drawn, projected on the principal directions of the covariance C of
single examples, and compared with the Gaussian of the exact covariance and with alpha-stable laws.

What a tail index does not say. The noise has finitely many values, so all its moments are finite, and by the central
limit theorem it tends to the Gaussian as S grows. An index below 2 that is fitted at one batch size may come from a
heavy tail, or merely from a peak or two in a law with light tails. Simsekli, Sagun & Gurbuzbalaban (2019) fitted
indices below 2 to the gradients of neural networks; Panigrahi, Somani, Goyal & Netrapalli (2019) found the noise of
moderate batches Gaussian early in training; Xie, Sato & Sugiyama (2021) note that the former pooled the parameters of
one batch, and find the noise over batches close to Gaussian. The index as a function of S tells: a stable law keeps
it, a law of finite variance goes to 2. Rows drawn from a heavy tail keep it up to a batch size that grows with their
number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import final

import numpy as np
from scipy.special import ndtr

from fpsolve.analyse.batches import Moments, Sampling, draw_batches, exact_moments, moment_errors, sample_moments
from fpsolve.analyse.stable_law import GAUSSIAN, StableFit, TailSlope, fit_stable_law, tail_slope
from fpsolve.errors import CaseError
from fpsolve.model.grid import BoolArray, FloatArray

DRAWS = 20_000
FEWEST_DRAWS = 100
SILENT = 1e-12  # of the gradients: noise below is rounding
KOLMOGOROV = 1.628  # critical distance * sqrt(draws) at 1 %, of a law known beforehand
LILLIEFORS = 1.035  # the same for a Gaussian with fitted location and scale; refuses 0.5 to 4 % of fitted stable laws
APART = 4  # ratio of batch sizes between which a trend is judged
STANDARD_ERRORS = 3.0  # within which skewness, kurtosis and changes of the tail index count as zero


class Shape(StrEnum):
    """What the noise looks like along one direction at one batch size."""

    SILENT = "no noise"
    GAUSSIAN = "Gaussian within sampling error"
    STABLE = "alpha-stable within sampling error"
    PEAKED = "more peaked or heavier-tailed than Gaussian, but not alpha-stable"
    LIGHT = "not Gaussian, but with a tail index of 2"
    ATOM = "no stable law fits: too many batches have one and the same noise"


class Trend(StrEnum):
    """How the tail index moves with the batch size along one direction."""

    SILENT = "no noise"
    GAUSSIAN = "Gaussian within sampling error at every batch size"
    LIGHT = "light-tailed: a tail index of 2 at every batch size"
    REACHED = "finite variance: the tail index reaches 2"
    RISING = "the tail index rises with the batch size, as for a finite variance"
    STEADY = "heavy-tailed: the tail index stays below 2"
    UNCLEAR = "the batch sizes and the rows do not tell a heavy tail from a peak"


@final
@dataclass(frozen=True, slots=True)
class TailTrend:
    """How the tail index moves along one direction.

    smaller, larger: the largest batch size with a fitted index, and the largest of those at most a quarter of it (else
    the smallest); None where there are not two. change: of the index (cut at 2) between them. standard_error: of that,
    from the draws, and from the rows as a sample of more.
    """

    kind: Trend
    smaller: int | None
    larger: int | None
    change: float
    standard_error: float


@final
@dataclass(frozen=True, slots=True)
class Goodness:
    """How well a law describes the drawn noise, each (axes,), by direction; not a number where there is no law.

    log_likelihood: mean over the draws of the natural logarithm of the density, the noise measured in exact standard
    deviations. distance: Kolmogorov's, the largest |difference of the distributions|.
    """

    log_likelihood: FloatArray
    distance: FloatArray


@final
@dataclass(frozen=True, slots=True)
class BatchNoise:
    """The noise at one batch size.

    samples: (axes, draws) [loss/length], the drawn noise along each direction. found, errors: moments of the samples
    and their standard errors. exact: moments of the law that is drawn from. gaussian: goodness of the Gaussian with
    mean 0 and the exact standard deviation. stable, fits: goodness of the fitted stable laws, and they themselves.
    exact_tail_index: (axes,), what the fit tends to with the number of draws; not a number without replacement.
    row_errors: (axes,), standard error of that, were the rows a sample of more.
    shapes: the verdict by direction.
    """

    batch_size: int
    samples: FloatArray
    found: Moments
    errors: Moments
    exact: Moments
    gaussian: Goodness
    stable: Goodness
    fits: tuple[StableFit | None, ...]
    exact_tail_index: FloatArray
    row_errors: FloatArray
    shapes: tuple[Shape, ...]

    @property
    def draws(self) -> int:
        """How many batches were drawn."""
        return self.samples.shape[1]


@final
@dataclass(frozen=True, slots=True)
class GradientNoise:
    """The noise of minibatch gradients at a point.

    point: (axes,) [length]. directions: (axes, axes), its columns are the principal directions of the covariance of the
    per-example gradients, the noisiest first, the largest component positive. variances: (axes,) along them
    [loss**2/length**2], of single examples (1/rows). batches: by growing batch size. trends: by direction.
    """

    point: FloatArray
    directions: FloatArray
    variances: FloatArray
    rows: int
    sampling: Sampling
    seed: int
    batches: tuple[BatchNoise, ...]
    trends: tuple[TailTrend, ...]


def gradient_noise(
    gradients: FloatArray,
    batch_sizes: Sequence[int],
    *,
    sampling: Sampling = "replacement",
    draws: int = DRAWS,
    seed: int = 0,
    point: FloatArray,
) -> GradientNoise:
    """Draw the noise of batches of each size and say how Gaussian it is.

    Parameters
    ----------
    gradients : per-example gradients at the point, (axes, rows) [loss/length].
    batch_sizes : each at least 1; without replacement, below the number of rows (a batch of all rows has no noise).
    sampling : whether a batch may hold a row twice ("replacement") or not ("without").
    draws : batches of each size. seed : the samples of a batch size depend on it and on the size alone.
    point : where the gradients were taken, (axes,) [length]; handed on.

    Raises
    ------
    CaseError : a batch size, the number of draws or a gradient that makes no sense.
    """
    gradients = np.atleast_2d(np.asarray(gradients, dtype=np.float64))
    rows = gradients.shape[1]
    sizes = _checked(gradients, batch_sizes, sampling, draws)
    centred = gradients - gradients.mean(axis=1, keepdims=True)
    directions = principal_directions(centred @ centred.T / rows)
    values = directions.T @ centred
    values[np.sqrt((values**2).mean(axis=1)) <= SILENT * np.sqrt((gradients**2).mean())] = 0.0
    slopes = [[tail_slope(line, size) for line in values] for size in sizes]
    batches = tuple(
        _batch_noise(values, size, sampling, draw_batches(values, size, sampling, draws, seed), known)
        for size, known in zip(sizes, slopes, strict=True)
    )
    trends = tuple(_trend(batches, [some[axis] for some in slopes], axis) for axis in range(len(values)))
    variances = (values**2).mean(axis=1)
    place = np.asarray(point, dtype=np.float64)
    return GradientNoise(place, directions, variances, rows, sampling, seed, batches, trends)


def _checked(gradients: FloatArray, batch_sizes: Sequence[int], sampling: Sampling, draws: int) -> list[int]:
    """The batch sizes in growing order."""
    rows = gradients.shape[1]
    if rows == 0 or not np.isfinite(gradients).all():
        raise CaseError("gradient_noise.at", "no finite gradient of every row", "finite gradients", "Move the point.")
    if draws < FEWEST_DRAWS:
        raise CaseError("gradient_noise.draws", f"{draws}", f"at least {FEWEST_DRAWS}", f"The default is {DRAWS}.")
    if sampling not in ("replacement", "without"):
        raise CaseError("gradient_noise.sampling", f'"{sampling}"', '"replacement" or "without"')
    check_batch_sizes(batch_sizes, sampling, rows)
    return sorted({int(size) for size in batch_sizes})


def check_batch_sizes(batch_sizes: Sequence[int], sampling: Sampling, rows: int) -> None:
    """Raise CaseError unless there are batch sizes, and every one can be drawn from so many rows."""
    place = "gradient_noise.batch_sizes"
    if not batch_sizes:
        raise CaseError(place, "no batch size", "at least one", "For example [1, 8, 64, 512].")
    for size in batch_sizes:
        if size != int(size) or size < 1:
            raise CaseError(place, f"{size}", "whole numbers from 1 on", "For example [1, 8, 64, 512].")
        if sampling == "without" and size >= rows:
            remedy = 'Leave it out, or draw with sampling = "replacement".'
            required = f"below the number of rows, {rows}, without replacement (a batch of all rows has no noise)"
            raise CaseError(place, f"{size}", required, remedy)


def principal_directions(covariance: FloatArray) -> FloatArray:
    """Eigenvectors (axes, axes), in columns, the largest eigenvalue first, the largest component positive."""
    _, vectors = np.linalg.eigh(covariance)
    vectors = vectors[:, ::-1]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=0)[None], axis=0)
    return vectors * np.where(largest < 0.0, -1.0, 1.0)


def _batch_noise(
    values: FloatArray, size: int, sampling: Sampling, samples: FloatArray, known: Sequence[TailSlope | None]
) -> BatchNoise:
    found, exact = sample_moments(samples), exact_moments(values, size, sampling)
    fits = tuple(fit_stable_law(line) for line in samples)
    gaussian = _goodness([_gaussian_fit(*line) for line in zip(samples, exact.standard_deviation, strict=True)])
    stable = _goodness([_stable_fit(*line) for line in zip(samples, exact.standard_deviation, fits, strict=True)])
    slopes = [math.nan if slope is None or sampling == "without" else slope.slope for slope in known]
    return BatchNoise(
        size,
        samples,
        found,
        moment_errors(samples, found),
        exact,
        gaussian,
        stable,
        fits,
        exact_tail_index=np.minimum(slopes, GAUSSIAN),
        row_errors=np.array([math.nan if slope is None else slope.standard_error for slope in known]),
        shapes=tuple(_shapes(found, gaussian, stable, fits, samples.shape[1])),
    )


def _goodness(pairs: Sequence[tuple[float, float]]) -> Goodness:
    likelihoods, distances = zip(*pairs, strict=True)
    return Goodness(np.array(likelihoods), np.array(distances))


def _gaussian_fit(sample: FloatArray, deviation: float) -> tuple[float, float]:
    """Log-likelihood and distance of the Gaussian with mean 0 and a standard deviation."""
    if not sample.any():
        return math.nan, math.nan
    standard = sample / deviation
    return float(-0.5 * (standard**2).mean() - 0.5 * math.log(2.0 * math.pi)), _distance(standard, ndtr(standard))


def _stable_fit(sample: FloatArray, deviation: float, fit: StableFit | None) -> tuple[float, float]:
    """Log-likelihood and distance of the fitted stable law."""
    if fit is None:
        return math.nan, math.nan
    return (
        float(fit.law.log_density(sample).mean()) + math.log(deviation),
        _distance(sample, fit.law.distribution(sample)),
    )


def _distance(sample: FloatArray, distribution: FloatArray) -> float:
    """Kolmogorov's: the largest |share of the sample below - distribution|, on both sides of its jumps."""
    order = np.argsort(sample)
    ordered, below = sample[order], distribution[order]
    least = np.searchsorted(ordered, ordered, side="left") / sample.size
    most = np.searchsorted(ordered, ordered, side="right") / sample.size
    return float(max((below - least).max(), (most - below).max()))


def _shapes(
    found: Moments, gaussian: Goodness, stable: Goodness, fits: Sequence[StableFit | None], draws: int
) -> list[Shape]:
    root = math.sqrt(draws)
    alike: BoolArray = gaussian.distance < KOLMOGOROV / root
    alike &= np.abs(found.skewness) < STANDARD_ERRORS * math.sqrt(6.0) / root
    alike &= np.abs(found.excess_kurtosis) < STANDARD_ERRORS * math.sqrt(24.0) / root
    shapes = []
    for axis, fit in enumerate(fits):
        if not found.standard_deviation[axis] > 0.0:
            shapes.append(Shape.SILENT)
        elif alike[axis]:
            shapes.append(Shape.GAUSSIAN)
        elif fit is None:
            shapes.append(Shape.ATOM)
        elif fit.interval[1] >= GAUSSIAN:
            shapes.append(Shape.LIGHT)
        else:
            shapes.append(Shape.STABLE if stable.distance[axis] < LILLIEFORS / root else Shape.PEAKED)
    return shapes


def _trend(batches: Sequence[BatchNoise], slopes: Sequence[TailSlope | None], axis: int) -> TailTrend:
    """The trend along one direction, judged between two batch sizes: a law on its way to a stable one rises first."""
    known = [
        (batch.batch_size, fit, slope)
        for batch, slope in zip(batches, slopes, strict=True)
        if (fit := batch.fits[axis]) is not None
    ]
    shapes = [batch.shapes[axis] for batch in batches]
    if len(known) < 2:
        return TailTrend(_kind(shapes, 0.0, math.inf, 0.0), None, None, math.nan, math.nan)
    larger, last, last_slope = known[-1]
    smaller, first, first_slope = next((some for some in known[::-1] if APART * some[0] <= larger), known[0])
    change = last.law.tail_index - first.law.tail_index
    error = math.hypot(first.standard_error, last.standard_error, _row_error(first_slope, last_slope))
    wanted = (GAUSSIAN - first.law.tail_index) * (1.0 - smaller / larger)
    return TailTrend(_kind(shapes, change, error, wanted), smaller, larger, change, error)


def _row_error(first: TailSlope | None, last: TailSlope | None) -> float:
    """Standard error of the difference of two tail indices from the rows as a sample."""
    if first is None or last is None:
        return 0.0
    return float(np.sqrt(((last.influence - first.influence) ** 2).mean() / first.influence.size))


def _kind(shapes: Sequence[Shape], change: float, error: float, wanted: float) -> Trend:
    """The trend by the change of the tail index; wanted: the change where 2 - index falls like 1 / batch size."""
    if all(shape is Shape.SILENT for shape in shapes):
        return Trend.SILENT
    if all(shape is Shape.GAUSSIAN for shape in shapes):
        return Trend.GAUSSIAN
    if not {Shape.STABLE, Shape.PEAKED, Shape.ATOM} & set(shapes):
        return Trend.LIGHT
    if shapes[-1] in (Shape.GAUSSIAN, Shape.LIGHT):
        return Trend.REACHED
    if change > STANDARD_ERRORS * error:
        return Trend.RISING
    if change < -STANDARD_ERRORS * error or wanted < STANDARD_ERRORS * error:
        return Trend.UNCLEAR
    return Trend.STEADY
