"""The noise of minibatch gradients in words and numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fpsolve.analyse.batches import Moments
from fpsolve.analyse.gradient_noise import BatchNoise, Goodness, GradientNoise, Shape, Trend
from fpsolve.analyse.stable_law import GAUSSIAN, StableFit
from fpsolve.model.grid import FloatArray

HEAVY = {Shape.STABLE, Shape.PEAKED}
CAVEAT = "a tail index below 2 at one batch size may be a peak with finite variance; how it moves with S tells"
WAYS = {"replacement": "with replacement", "without": "without replacement"}


def noise_lines(noise: GradientNoise, variables: Sequence[str]) -> list[str]:
    """Where, the verdict and the numbers of each direction, and a caveat where a tail index is below 2."""
    place = ", ".join(f"{name} = {value:.4g}" for name, value in zip(variables, noise.point, strict=True))
    drawn = f"{noise.rows} rows, {noise.batches[0].draws} batches of each size {WAYS[noise.sampling]}"
    lines = [f"Gradient noise at {place}   {drawn}; exact values in brackets"]
    for axis in range(noise.variances.size):
        where = f"along {direction_words(noise, axis)}: " if noise.variances.size > 1 else ""
        lines += [f"  {where}{verdict(noise, axis)}"]
        lines += [] if noise.trends[axis].kind is Trend.SILENT else [f"    {_numbers(noise, axis)}"]
    heavy = any(shape in HEAVY for batch in noise.batches for shape in batch.shapes)
    return [*lines, f"  ({CAVEAT})"] if heavy else lines


def direction_words(noise: GradientNoise, axis: int) -> str:
    """'(0.98, -0.17)'."""
    return f"({', '.join(f'{value:.3g}' for value in np.round(noise.directions[:, axis], 3) + 0.0)})"


def verdict(noise: GradientNoise, axis: int) -> str:
    """The trend of a direction with the tail indices it rests on, and from which batch size on it is Gaussian."""
    trend = noise.trends[axis]
    parts = [str(trend.kind)]
    if trend.kind in (Trend.REACHED, Trend.RISING, Trend.STEADY, Trend.UNCLEAR):
        known = [(batch.batch_size, fit) for batch in noise.batches if (fit := batch.fits[axis]) is not None]
        told = [f"{index_words(fit)} at S = {size}" for size, fit in (known[:1] + known[1:][-1:])]
        parts += [f"alpha = {', '.join(told)}"] if told else []
        if math.isfinite(trend.change) and trend.kind is not Trend.REACHED:
            parts.append(f"moves by {trend.change:+.2g} +- {trend.standard_error:.1g} from S = {trend.smaller} on")
    if trend.kind in (Trend.REACHED, Trend.LIGHT):
        parts.append(_gaussian_from(noise, axis))
    return "; ".join(parts)


def index_words(fit: StableFit) -> str:
    """'1.62 (1.60-1.64)': the tail index with its 95 % confidence interval; '2' where that hardly leaves 2."""
    low, high = fit.interval
    if low > 0.9975 * GAUSSIAN:
        return "2"
    return f"{fit.law.tail_index:.3g} ({low:.3g}-{high:.3g})"


def _gaussian_from(noise: GradientNoise, axis: int) -> str:
    """From which batch size on, up to the largest, the noise is Gaussian within sampling error."""
    start = None
    for batch in reversed(noise.batches):
        if batch.shapes[axis] is not Shape.GAUSSIAN:
            break
        start = batch.batch_size
    largest = noise.batches[-1].batch_size
    return f"not yet Gaussian at S = {largest}" if start is None else f"{Shape.GAUSSIAN} from S = {start} on"


def _numbers(noise: GradientNoise, axis: int) -> str:
    """Moments at the smallest and the largest batch size with standard errors, the exact ones in brackets."""
    ends = [noise.batches[0], *noise.batches[1:][-1:]]
    sizes = ", ".join(str(batch.batch_size) for batch in ends)
    ratios = [batch.found.standard_deviation[axis] / batch.exact.standard_deviation[axis] for batch in ends]
    parts = [f"S = {sizes}: deviation/exact {', '.join(f'{ratio:.3f}' for ratio in ratios)}"]
    for words, name in (("skewness", "skewness"), ("kurtosis", "excess_kurtosis")):
        parts.append(f"{words} {', '.join(_moment_words(batch, name, axis) for batch in ends)}")
    return " · ".join(parts)


def _moment_words(batch: BatchNoise, name: str, axis: int) -> str:
    value, error, exact = (float(getattr(some, name)[axis]) for some in (batch.found, batch.errors, batch.exact))
    return f"{value:.2g} +- {error:.1g} ({round(exact, 4) + 0.0:.2g})"


def noise_record(noise: GradientNoise) -> dict[str, Any]:
    """The `gradient_noise` entry of --json: lists by direction, None where there is no number."""
    return {
        "point": noise.point.tolist(),
        "rows": noise.rows,
        "sampling": noise.sampling,
        "draws": noise.batches[0].draws,
        "seed": noise.seed,
        "directions": noise.directions.T.tolist(),
        "variances": noise.variances.tolist(),
        "batches": [_batch_record(batch) for batch in noise.batches],
        "trends": [
            {
                "kind": trend.kind.name.lower(),
                "smaller": trend.smaller,
                "larger": trend.larger,
                "change": _finite(trend.change),
                "standard_error": _finite(trend.standard_error),
                "verdict": verdict(noise, axis),
            }
            for axis, trend in enumerate(noise.trends)
        ],
    }


def _batch_record(batch: BatchNoise) -> dict[str, Any]:
    fits = batch.fits
    return {
        "batch_size": batch.batch_size,
        **_moment_record(batch.found, ""),
        **_moment_record(batch.errors, "_error"),
        **_moment_record(batch.exact, "_exact"),
        "gaussian": _goodness_record(batch.gaussian),
        "stable": {
            **_goodness_record(batch.stable),
            "tail_index": [None if fit is None else fit.law.tail_index for fit in fits],
            "interval": [None if fit is None else list(fit.interval) for fit in fits],
            "slope": [None if fit is None else fit.slope for fit in fits],
            "slope_error": [None if fit is None else fit.standard_error for fit in fits],
            "location": [None if fit is None else fit.law.location for fit in fits],
            "scale": [None if fit is None else fit.law.scale for fit in fits],
            "tail_index_exact": _listed(batch.exact_tail_index),
            "row_error": _listed(batch.row_errors),
        },
        "verdict": [str(shape) for shape in batch.shapes],
    }


def _moment_record(moments: Moments, ending: str) -> dict[str, Any]:
    names = ("standard_deviation", "skewness", "excess_kurtosis")
    return {name + ending: _listed(getattr(moments, name)) for name in names}


def _goodness_record(goodness: Goodness) -> dict[str, Any]:
    return {"log_likelihood": _listed(goodness.log_likelihood), "distance": _listed(goodness.distance)}


def _listed(values: FloatArray) -> list[float | None]:
    return [_finite(float(value)) for value in values]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
