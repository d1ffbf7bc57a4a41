"""The witness in words and numbers: walkers beside densities and escape times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fpsolve.analyse.ensemble import Distance, ExitTimes
from fpsolve.analyse.moments import mean_and_covariance
from fpsolve.analyse.witness import Comparison, Runs, Witness
from fpsolve.model.grid import FloatArray, Grid

SAMPLING_WORDS = {
    "replacement": "batches with replacement",
    "without": "batches without replacement",
    "epochs": "shuffled epochs",
}


def witness_name(witness: Witness) -> str:
    """'SGD, 10000 runs'."""
    return f"{witness.process.upper()}, {witness.ensemble.walkers} {'runs' if witness.process == 'sgd' else 'walkers'}"


def witness_lines(witness: Witness, grid: Grid, rest: FloatArray | None, motion: FloatArray | None) -> list[str]:
    """Who the walkers are, and how far from the densities; rest, motion: probabilities (cells,), at the last time."""
    lines = [f"Witness: {', '.join(_how(witness))}"]
    if witness.escape is not None:
        lines.append(f"  left: {_exit_words(witness.escape)}")
    for words, found, density in (("in time", witness.motion, motion), ("at rest", witness.rest, rest)):
        if found is not None and density is not None:
            lines += _comparison_lines(words, found, density, grid)
    return lines


def _how(witness: Witness) -> list[str]:
    """The walkers in words."""
    ensemble, runs = witness.ensemble, next((some for some in _all_runs(witness)), None)
    words = [witness_name(witness)]
    if ensemble.sampling is not None:
        words.append(SAMPLING_WORDS[ensemble.sampling])
    if ensemble.momentum > 0.0:
        words.append(f"momentum {ensemble.momentum:g}")
    if ensemble.tail_index is not None:
        words.append(f"stable steps of tail index {ensemble.tail_index:g}")
    if runs is not None and runs.time_step is not None:
        words.append(f"time step {runs.time_step:.3g}{'' if ensemble.time_step else ' (chosen)'}")
    return [*words, f"seed {ensemble.seed}"]


def _all_runs(witness: Witness) -> list[Runs]:
    comparisons = [some.runs for some in (witness.motion, witness.rest) if some is not None]
    return ([] if witness.escape is None else [witness.escape]) + comparisons


def _exit_words(runs: Runs) -> str:
    found = runs.exits
    words = f"{found.exits} of {found.exits + found.censored} by t = {runs.swarm.times[-1]:.4g}"
    if found.method == "none":
        return f"{words}; the mean is above {found.interval[0]:.4g} with 95 % confidence"
    assert found.value is not None
    words += f", mean {found.value:.5g}, 95 % confidence {found.interval[0]:.5g} to {found.interval[1]:.5g}"
    if (steps := mean_exit_steps(runs)) is not None:
        words += f", {steps:.5g} steps"
    return f"{words} ({found.reason})" if found.method != "mean" else words


def mean_exit_steps(runs: Runs) -> float | None:
    """The mean number of steps at the exit, of SGD runs that have all left."""
    steps = runs.exit_steps
    return None if steps is None or (steps < 0).any() else float(steps.mean())


def _comparison_lines(words: str, found: Comparison, density: FloatArray, grid: Grid) -> list[str]:
    """The distance at the last time, and mean and variance beside those of the density."""
    moments, distance = found.moments, found.distances[-1]
    time = f"t = {moments.times[-1]:.4g}" if words == "in time" else f"looked at up to t = {moments.times[-1]:.4g}"
    lines = [f"  {words}, {time}: {'' if distance is None else distance_words(distance)}"]
    mean, covariance = mean_and_covariance(grid, density)
    for axis, name in enumerate(grid.variables):
        own = _beside(moments.mean[-1, axis], moments.mean_error[-1, axis], float(mean[axis]))
        spread = _beside(
            moments.covariance[-1, axis, axis], moments.covariance_error[-1, axis, axis], float(covariance[axis, axis])
        )
        lines.append(f"    {name}: mean {own}   variance {spread}")
    return lines


def distance_words(distance: Distance) -> str:
    """'L1 distance 0.021 to the density, by chance 0.019 +- 0.001'."""
    chance = f"{distance.expected:.3g} +- {distance.deviation:.1g}"
    return f"L1 distance {distance.value:.3g} to the density, by chance {chance}"


def _beside(value: float, error: float, other: float) -> str:
    apart = f", {(other - value) / error:+.1f} sigma" if error > 0.0 and math.isfinite(error) else ""
    return f"{value:.5g} +- {error:.1g} (Fokker-Planck {other:.5g}{apart})"


def exits_record(runs: Runs) -> dict[str, Any]:
    """The `escape.ensemble` entry of --json."""
    found: ExitTimes = runs.exits
    return {
        "value": found.value,
        "standard_error": found.standard_error,
        "censored": found.censored,
        "exits": found.exits,
        "log10": found.log10,
        "interval": [_finite(end) for end in found.interval],
        "method": found.method,
        "steps": mean_exit_steps(runs),
        "process": runs.process,
        "splitting": {name: [share.value, share.standard_error] for name, share in found.splitting.items()},
    }


def witness_record(witness: Witness) -> dict[str, Any]:
    """The `ensemble` entry of --json: moments of the walkers and distances to the densities."""
    ensemble = witness.ensemble
    record: dict[str, Any] = {
        "process": witness.process,
        "walkers": ensemble.walkers,
        "seed": ensemble.seed,
        "sampling": ensemble.sampling,
        "momentum": ensemble.momentum,
        "tail_index": ensemble.tail_index,
        "time_step": next((runs.time_step for runs in _all_runs(witness)), None),
    }
    parts = {"evolve": witness.motion, "stationary": witness.rest}
    return record | {name: _comparison_record(part) for name, part in parts.items() if part is not None}


def _comparison_record(found: Comparison) -> dict[str, Any]:
    moments, steps = found.moments, found.runs.steps
    return {
        "times": moments.times.tolist(),
        "steps": None if steps is None else steps.tolist()[-len(moments.times) :],
        "inside": moments.inside.tolist(),
        "mean": _nested(moments.mean),
        "mean_error": _nested(moments.mean_error),
        "covariance": _nested(moments.covariance),
        "covariance_error": _nested(moments.covariance_error),
        "l1_distance": _distances(found.distances, "value"),
        "l1_distance_by_chance": _distances(found.distances, "expected"),
        "l1_distance_deviation": _distances(found.distances, "deviation"),
    }


def _distances(distances: Sequence[Distance | None], name: str) -> list[float | None]:
    return [None if distance is None else float(getattr(distance, name)) for distance in distances]


def _nested(values: FloatArray) -> Any:
    """Nested lists, None where there is no number."""
    if values.ndim == 0:
        return _finite(float(values))
    return [_nested(np_row) for np_row in values]


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
