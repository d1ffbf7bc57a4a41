"""The terrain of an escape in words and numbers: basins, rates between them, paths, and theory's assumptions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fpsolve.analyse.assumptions import Assumptions
from fpsolve.analyse.basins import Basins, Saddle
from fpsolve.analyse.coarse import CoarseChain
from fpsolve.analyse.floor import FloorSensitivity
from fpsolve.analyse.geometry import describe
from fpsolve.analyse.path import Path
from fpsolve.analyse.terrain import Terrain
from fpsolve.model.grid import FloatArray

MOST_SHOWN = 6  # basins and saddles; all of them are in the record
LN_10 = math.log(10.0)


def terrain_lines(terrain: Terrain) -> list[str]:
    """Minima with their share and the mean times between them; saddles; paths; assumptions."""
    lines = [] if terrain.chosen is None else [f"Chosen   {part}" for part in terrain.chosen.split("; ")]
    lines += [] if terrain.basins is None else _basin_lines(terrain.basins, terrain.chain)
    lines += [f"  no rates between basins: {reason}" for name, reason in terrain.absent.items() if name == "chain"]
    lines += [_path_line(number, path) for number, path in enumerate(terrain.paths, 1) if path.action is not None]
    return [*lines, _assumption_line(terrain.assumptions)]


def _basin_lines(basins: Basins, chain: CoarseChain | None) -> list[str]:
    shown = range(min(len(basins.minima), MOST_SHOWN))
    head = "" if chain is None else "share at rest   log10 time to core of " + " ".join(f"{to + 1:>9d}" for to in shown)
    count = f"{len(basins.minima)} basin{'s' if len(basins.minima) != 1 else ''} of the loss"
    lines = [f"{count:<40s}{'loss':>10s}   {head}".rstrip()]
    for number in shown:
        minimum = basins.minima[number]
        place = describe(basins.problem.grid, minimum.position)
        row = f"  {number + 1}  {place:<35s}{round(minimum.loss, 12):10.4g}"
        if chain is not None:
            times = " ".join(_power(value) for value in chain.log_mean_times[number, list(shown)])
            row += f"   {chain.shares[number]:13.4g}   {'':21s}{times}"
        lines.append(row)
    return lines + [_saddle_line(basins, saddle) for saddle in basins.saddles[:MOST_SHOWN]]


def _power(logarithm: float) -> str:
    return f"{logarithm / LN_10:9.4f}" if math.isfinite(logarithm) else f"{'-':>9s}"


def _saddle_line(basins: Basins, saddle: Saddle) -> str:
    place = describe(basins.problem.grid, saddle.point.position)
    one, other = (number + 1 for number in saddle.basins)
    if saddle.thermal_heights is None:
        heights = saddle.heights
        return f"  saddle {place}: loss {heights[0]:.4g} above minimum {one}, {heights[1]:.4g} above {other}"
    heights = saddle.thermal_heights
    return f"  saddle {place}: {heights[0]:.4g} thermal energies above minimum {one}, {heights[1]:.4g} above {other}"


def _path_line(number: int, path: Path) -> str:
    order = "most probable path" if number == 1 else f"path over saddle {number}"
    doubt = "" if path.reason is None else f" ({path.reason})"
    return f"  {order}: length {path.arc_length[-1]:.4g}, barrier/noise {path.action:.4g}, by {path.method}{doubt}"


def _assumption_line(found: Assumptions) -> str:
    parts = []
    if found.barrier_over_noise is not None:
        parts.append(f"barrier/noise {found.barrier_over_noise:.4g}")
    if found.curvature_change_at_minimum is not None and found.curvature_change_at_saddle is not None:
        changes = f"{found.curvature_change_at_minimum:.2g} at the minimum, {found.curvature_change_at_saddle:.2g}"
        parts.append(f"H changes within the thermal width by {changes} at the saddle")
    if found.log_relaxation_over_escape is not None:
        parts.append(f"relaxation/escape time 10^{found.log_relaxation_over_escape / LN_10:.1f}")
    return f"  theory assumes: {' · '.join(parts) or found.reason}"


def floor_line(floor: FloorSensitivity) -> str:
    """How the time depends on the floor of the noise."""
    law = "" if floor.law is None else f" (a vanishing floor: {floor.law:.3g})"
    share = f"{100.0 * floor.share:.2g} % of the exponent is the floor's"
    return f"  escape time depends on the floor: d ln(time) / d ln(floor) = {floor.exponent:.3g}{law}; {share}"


def floor_record(floor: FloorSensitivity) -> dict[str, Any]:
    """The `floor` entry of `escape` in --json."""
    return {
        "value": floor.floor,
        "exponent": floor.exponent,
        "share": floor.share,
        "law": floor.law,
        "layer_cells": None if floor.layer is None else floor.layer.cells,
    }


def terrain_record(terrain: Terrain) -> dict[str, Any]:
    """The entries of `escape` in --json: basins, paths, assumptions."""
    return {
        "chosen": terrain.chosen,
        "basins": _basins_record(terrain),
        "paths": [_path_record(path) for path in terrain.paths],
        "assumptions": _assumptions_record(terrain.assumptions),
    }


def _basins_record(terrain: Terrain) -> dict[str, Any]:
    basins, chain = terrain.basins, terrain.chain
    reason = terrain.absent.get("basins") or terrain.absent.get("chain")
    if basins is None:
        return {"reason": reason}
    record: dict[str, Any] = {
        "minima": [{"position": point.position.tolist(), "loss": point.loss} for point in basins.minima],
        "saddles": [_saddle_record(saddle) for saddle in basins.saddles],
        "reason": reason,
    }
    if chain is not None:
        record["shares"] = chain.shares.tolist()
        record["log10_rates"] = _powers(chain.log_rates)
        record["log10_mean_times"] = _powers(chain.log_mean_times)
        record["log10_relaxation_times"] = (chain.log_relaxation_times / LN_10).tolist()
    return record


def _saddle_record(saddle: Saddle) -> dict[str, Any]:
    return {
        "position": saddle.point.position.tolist(),
        "loss": saddle.point.loss,
        "basins": list(saddle.basins),
        "heights": list(saddle.heights),
        "thermal_heights": None if saddle.thermal_heights is None else list(saddle.thermal_heights),
    }


def _powers(logarithms: FloatArray) -> list[list[float | None]]:
    """Decimal logarithms, None where there is nothing."""
    return [[value if math.isfinite(value) else None for value in row] for row in (np.asarray(logarithms) / LN_10)]


def _path_record(path: Path) -> dict[str, Any]:
    return {
        "length": float(path.arc_length[-1]),
        "saddle": path.points[path.saddle].tolist(),
        "action": path.action,
        "method": path.method,
        "reason": path.reason,
    }


def _assumptions_record(found: Assumptions) -> dict[str, Any]:
    return {
        "curvature_change_at_minimum": found.curvature_change_at_minimum,
        "curvature_change_at_saddle": found.curvature_change_at_saddle,
        "barrier_over_noise": found.barrier_over_noise,
        "relaxation_time": found.relaxation_time,
        "relaxation_over_escape": found.relaxation_over_escape,
        "reason": found.reason,
    }
