"""Batches of examples: their means drawn at random, and the exact moments of those means."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import numpy as np
from numba import njit

from fpsolve.model.grid import FloatArray

Sampling: TypeAlias = Literal["replacement", "without"]

PIECE = 1 << 20  # random numbers at a time


@final
@dataclass(frozen=True, slots=True)
class Moments:
    """Standard deviation [loss/length], skewness and excess kurtosis of the noise, each (axes,), by direction."""

    standard_deviation: FloatArray
    skewness: FloatArray
    excess_kurtosis: FloatArray


def draw_batches(values: FloatArray, batch_size: int, sampling: Sampling, draws: int, seed: int) -> FloatArray:
    """Means of batches of the columns of values (axes, rows): (axes, draws)."""
    random = np.random.default_rng([seed, batch_size])
    rows = values.shape[1]
    if sampling == "replacement" and batch_size > rows:
        shares, piece = np.full(rows, 1.0 / rows), max(1, PIECE // rows)
        counts = (random.multinomial(batch_size, shares, min(piece, draws - at)) for at in range(0, draws, piece))
        return np.concatenate([values @ some.T for some in counts], axis=1) / batch_size
    totals, order = np.zeros((len(values), draws)), np.arange(rows)
    columns, piece = np.ascontiguousarray(values.T), max(1, PIECE // batch_size)
    for at in range(0, draws, piece):
        numbers = random.random((min(piece, draws - at), batch_size))
        _add_up(columns, numbers, order, sampling == "without", totals[:, at : at + piece])
    return totals / batch_size


@njit(cache=True, nogil=True)
def _add_up(values, numbers, order, moved, totals):  # type: ignore[no-untyped-def]
    """Add rows of values, chosen by numbers in [0, 1), to totals (axes, draws).

    moved: rows that were chosen move to the front of the order (Fisher & Yates), so that a draw has none twice; what
    order it starts from does not matter.
    """
    rows, axes = values.shape
    draws, size = numbers.shape
    for draw in range(draws):
        for turn in range(size):
            if moved:
                place = turn + int(numbers[draw, turn] * (rows - turn))
                order[turn], order[place] = order[place], order[turn]
                row = order[turn]
            else:
                row = int(numbers[draw, turn] * rows)
            for axis in range(axes):
                totals[axis, draw] += values[row, axis]


def exact_moments(values: FloatArray, batch_size: int, sampling: Sampling) -> Moments:
    """Moments of the mean of a batch of the columns of values (axes, rows), whose rows have mean 0.

    With replacement the cumulants are those of one draw over S, S**2, S**3: deviation / sqrt(S), skewness / sqrt(S),
    excess kurtosis / S. Without it they are those of a finite population of N: variance times (N - S) / (N - 1), third
    moment m3 (N - S) (N - 2 S) / (S**2 (N - 1) (N - 2)), fourth moment
    (N - S) ((N**2 - 6 N S + N + 6 S**2) m4 + 3 N (S - 1) (N - S - 1) m2**2) / (S**3 (N - 1) (N - 2) (N - 3)).
    """
    # N, S, and standardised third and fourth moments, in the docstring's letters.
    n, s = values.shape[1], batch_size
    single = sample_moments(values)
    deviation, third, fourth = single.standard_deviation, single.skewness, single.excess_kurtosis
    if sampling == "replacement":
        return Moments(deviation / math.sqrt(s), third / math.sqrt(s), fourth / s)
    factor = (n - s) / (n - 1)
    third = third * (n - 2 * s) / max(n - 2, 1) * math.sqrt((n - 1) / (s * (n - s)))
    if n > 3:  # else the batch is one row, or all but one
        both = (n * n - 6 * n * s + n + 6 * s * s) * (fourth + 3.0) + 3.0 * n * (s - 1) * (n - s - 1)
        fourth = both * (n - 1) / (s * (n - 2) * (n - 3) * (n - s)) - 3.0
    return Moments(deviation * math.sqrt(factor / s), third, fourth)


def sample_moments(samples: FloatArray) -> Moments:
    """Moments (1/draws) of samples (axes, draws); not a number where they do not vary."""
    deviation = samples.std(axis=1)
    standard = _standardised(samples)
    return Moments(deviation, (standard**3).mean(axis=1), (standard**4).mean(axis=1) - 3.0)


def _standardised(samples: FloatArray) -> FloatArray:
    deviation = samples.std(axis=1, keepdims=True)
    return (samples - samples.mean(axis=1, keepdims=True)) / np.where(deviation > 0.0, deviation, np.nan)


def moment_errors(samples: FloatArray, found: Moments) -> Moments:
    """Standard errors of the moments of samples (axes, draws), by the delta method."""
    standard = _standardised(samples)
    surplus, third, fourth = standard**2 - 1.0, found.skewness[:, None], found.excess_kurtosis[:, None] + 3.0
    influences = (
        0.5 * surplus * found.standard_deviation[:, None],
        standard**3 - third - 3.0 * standard - 1.5 * third * surplus,
        standard**4 - fourth - 4.0 * third * standard - 2.0 * fourth * surplus,
    )
    return Moments(*(np.sqrt((influence**2).mean(axis=1) / samples.shape[1]) for influence in influences))
