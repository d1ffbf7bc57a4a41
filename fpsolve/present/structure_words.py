"""The gradient noise in words and numbers: C against H at the minima, the tilt on the way out, the noise drift."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fpsolve.analyse.chain_exponent import ChainExponent
from fpsolve.analyse.geometry import describe
from fpsolve.analyse.noise_structure import CovarianceAtMinimum, NoiseDrift, NoiseStructure
from fpsolve.analyse.tilt import Tilt, factor_words
from fpsolve.model.grid import FloatArray, Grid

MOST_SHOWN = 6  # minima; all of them are in the record


def structure_lines(structure: NoiseStructure, grid: Grid) -> list[str]:
    """C against H at every minimum; the tilt on every path, with the exponents; the noise drift."""
    lines = []
    if structure.at_minima:
        lines.append("Gradient covariance C against the Hessian H")
        lines += [_minimum_line(number, found) for number, found in enumerate(structure.at_minima[:MOST_SHOWN], 1)]
    for number, (tilt, place) in enumerate(zip(structure.tilts, structure.places, strict=True)):
        lines.append(_tilt_line(number, tilt, place))
        if structure.exponents:
            lines.append(_exponent_line(structure.exponents[number]))
    if structure.noise_drift is not None:
        lines += _drift_lines(structure.noise_drift, grid)
    return lines


def structure_record(structure: NoiseStructure, grid: Grid) -> dict[str, Any]:
    """The same as plain numbers, lists and tables, for --json; None where there is no number."""
    tilts = [
        _tilt_record(tilt, structure.exponents[number] if structure.exponents else None)
        for number, tilt in enumerate(structure.tilts)
    ]
    drift = structure.noise_drift
    return {
        "at_minima": [_minimum_record(found) for found in structure.at_minima],
        "tilts": tilts,
        "noise_drift": None if drift is None else _drift_record(drift),
    }


def _minimum_line(number: int, found: CovarianceAtMinimum) -> str:
    if not math.isfinite(found.difference):
        return f"  minimum {number}: the examples agree, there is no gradient noise"
    if found.ratios.size == 1:
        return f"  minimum {number}: C = {found.ratios[0]:.4g} H"
    parts = [f"C ~ {found.scale:.4g} H to within {_percent(found.difference)}"]
    parts.append(f"C/H along H's directions {', '.join(_number(ratio) for ratio in found.ratios)}")
    if np.isfinite(found.angles).any():
        parts.append(f"directions {np.nanmax(found.angles):.3g} degrees apart")
    return f"  minimum {number}: {' · '.join(parts)}"


def _percent(share: float) -> str:
    return f"{100.0 * share:.3g} %" if share > 1e-9 else "rounding"


def _share(share: float) -> str:
    return "none" if share == 0.0 else f"{100.0 * share:.3g} %" if share > 1e-5 else "hardly any"


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "-"


def _tilt_line(number: int, tilt: Tilt, place: str) -> str:
    order = "most probable path" if number == 0 else f"path over saddle {number + 1}"
    return f"  tilt on the {order}: up to {tilt.largest:.3g} per example at {place}, {tilt.verdict}"


def _exponent_line(found: ChainExponent) -> str:
    equation = f"Fokker-Planck's {found.fokker_planck_exponent:.4g}"
    if not math.isfinite(found.log_ratio):
        return f"  exponent of the steps of SGD: none of them lead across, {equation}"
    direction = "longer" if found.log_ratio > 0.0 else "shorter"
    amount = factor_words(abs(found.log_ratio))
    return f"  exponent of the steps of SGD {found.exponent:.4g}, {equation}: times {direction} {amount}"


def _drift_lines(drift: NoiseDrift, grid: Grid) -> list[str]:
    """How strong the noise drift is, where, and what it does."""
    parts = [
        f"{drift.mean_ratio:.2g} of the drift (root mean square)",
        f"strongest {drift.strongest:.3g} at {describe(grid, drift.place)}",
        f"stronger than the drift for {_share(drift.share_stronger)} of the probability",
    ]
    pushes = f"  it pushes to quieter places ({_share(drift.share_to_quieter)} of it)"
    shifts = [
        f"{_vector(shift)} from minimum {number}"
        for number, shift in enumerate(drift.shifts[:MOST_SHOWN], 1)
        if np.isfinite(shift).all()
    ]
    if shifts:
        pushes += f", moving the balance by {', '.join(shifts)}, to first order"
    return [f"Noise-gradient drift: {' · '.join(parts)}", pushes]


def _vector(values: FloatArray) -> str:
    words = ", ".join(f"{round(value, 12) + 0.0:.2g}" for value in values)
    return words if values.size == 1 else f"({words})"


def _minimum_record(found: CovarianceAtMinimum) -> dict[str, Any]:
    return {
        "position": found.point.position.tolist(),
        "covariance": found.covariance.tolist(),
        "hessian": found.point.hessian.tolist(),
        "scale": _finite(found.scale),
        "difference": _finite(found.difference),
        "difference_unscaled": _finite(found.plain_difference),
        "covariance_eigenvalues": found.covariance_eigenvalues.tolist(),
        "hessian_eigenvalues": found.hessian_eigenvalues.tolist(),
        "angles_in_degrees": [_finite(angle) for angle in found.angles.tolist()],
        "ratios": [_finite(ratio) for ratio in found.ratios.tolist()],
    }


def _tilt_record(tilt: Tilt, exponent: ChainExponent | None) -> dict[str, Any]:
    record: dict[str, Any] = {"largest": _finite(tilt.largest), "place": tilt.place.tolist(), "grade": tilt.grade}
    if exponent is not None:
        record["exponent_of_steps"] = _finite(exponent.exponent)
        record["exponent_of_fokker_planck"] = _finite(exponent.fokker_planck_exponent)
        record["log_ratio"] = _finite(exponent.log_ratio)
    return record


def _drift_record(drift: NoiseDrift) -> dict[str, Any]:
    return {
        "strongest": drift.strongest,
        "place": drift.place.tolist(),
        "mean_ratio": _finite(drift.mean_ratio),
        "largest_ratio": _finite(drift.largest_ratio),
        "share_stronger": drift.share_stronger,
        "share_to_quieter": drift.share_to_quieter,
        "shifts": [[_finite(value) for value in shift] for shift in drift.shifts.tolist()],
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
