"""[expect]: what a case says about its own result, compared with what was found."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fpsolve.case import Case, Expectation, split_path
from fpsolve.errors import CaseError, did_you_mean
from fpsolve.model.grid import FloatArray
from fpsolve.model.region import point_weights
from fpsolve.present.report import Check, Report

# Densities are compared on the grid; everything else is read off the record.
DENSITIES = ("stationary.density", "evolve.density")
SAME_TIME = 1e-9


def check_expectations(case: Case, report: Report) -> list[Check]:
    """Compare every entry of [expect]. Raises CaseError for a path that leads nowhere or an entry that says nothing."""
    record = report.as_record()
    return [_check(case, report, record, path, entry) for path, entry in case.expect.items()]


def _check(case: Case, report: Report, record: dict[str, Any], path: str, entry: Expectation) -> Check:
    where = f'expect."{path}"'
    if path in DENSITIES:
        found = _density_value(case, report, path, entry, where)
        if entry.l1 is not None:
            wanted = f"within {entry.l1:g} of the expression in L1"
            return Check(path, found, wanted, found <= entry.l1, entry.source)
        wanted, passed = _judge(found, entry, where)
        return Check(path, found, wanted, passed, entry.source)
    value = _lookup(record, path, entry, where)
    wanted, passed = _judge(value, entry, where)
    return Check(path, value, wanted, passed, entry.source)


def _judge(found: float | None, entry: Expectation, where: str) -> tuple[str, bool]:
    """The wish in words, and whether it came true."""
    words, passed = [], found is not None
    number = float("nan") if found is None else found
    if entry.value is not None:
        if entry.relative is None and entry.absolute is None:
            raise CaseError(where, "a value without a tolerance", "", "Add relative = ... or absolute = ...")
        room = max((entry.relative or 0.0) * abs(entry.value), entry.absolute or 0.0)
        words.append(f"{entry.value:.10g} +- {room:.2g}")
        passed &= abs(number - entry.value) <= room
    if entry.at_least is not None:
        words.append(f"at least {entry.at_least:g}")
        passed &= number >= entry.at_least
    if entry.at_most is not None:
        words.append(f"at most {entry.at_most:g}")
        passed &= number <= entry.at_most
    if not words:
        raise CaseError(where, "it wishes for nothing", "", "Add value, at_least or at_most")
    return " and ".join(words), bool(passed)


def _lookup(record: dict[str, Any], path: str, entry: Expectation, where: str) -> float | None:
    """Follow a dotted path through the record; with `time`, series are read at that saved time."""
    place: Any = record
    for part in split_path(path):
        if isinstance(place, dict) and part in place:
            place = place[part]
        elif isinstance(place, list) and part.lstrip("-").isdigit() and -len(place) <= int(part) < len(place):
            place = place[int(part)]
        else:
            known = (
                list(place)
                if isinstance(place, dict)
                else [f"0 to {len(place) - 1}"]
                if isinstance(place, list)
                else []
            )
            raise CaseError(
                where, f'"{part}" leads nowhere', f"Known here: {', '.join(known)}", did_you_mean(part, known)
            )
        if entry.time is not None and isinstance(place, list) and len(place) == len(record["evolve"]["times"]):
            place = place[_instant(record["evolve"]["times"], entry.time, where)]
    if place is not None and not isinstance(place, int | float):
        raise CaseError(where, "it leads to more than one number", "", "Name one entry")
    return None if place is None else float(place)


def _instant(times: Sequence[float], wanted: float, where: str) -> int:
    nearest = int(np.argmin(np.abs(np.asarray(times) - wanted)))
    if abs(times[nearest] - wanted) > SAME_TIME * max(1.0, abs(wanted)):
        found = f"t = {wanted:g} is not a saved time"
        raise CaseError(
            where, found, f"The nearest is {times[nearest]:g}", "Choose evolve.times or evolve.save to hit it"
        )
    return nearest


def _density_value(case: Case, report: Report, path: str, entry: Expectation, where: str) -> float:
    """The density at a point, or its L1 distance to an expression normalised on the grid."""
    density = _density(report, path, entry, where)
    grid = case.problem.grid
    if entry.at is not None:
        return point_weights(grid, entry.at, where).read(density)
    if entry.expression is None or entry.l1 is None:
        raise CaseError(
            where, "a density is compared at a point or with an expression", "", "Add at, or expression and l1"
        )
    exact = case.expression(entry.expression, where)(grid.positions())
    return float(np.abs(density * grid.cell_volume - exact / exact.sum()).sum())


def _density(report: Report, path: str, entry: Expectation, where: str) -> FloatArray:
    if path == "stationary.density":
        if report.rest is None:
            raise CaseError(where, "the case does not ask for the density at rest", "", "Add [stationary]")
        return report.rest.density
    if report.motion is None:
        raise CaseError(where, "the case does not ask for the density in time", "", "Add [evolve]")
    if entry.time is None:
        raise CaseError(where, "the time is missing", "A density in time is compared at one", "Add time = ...")
    density: FloatArray = report.motion.density[_instant(report.motion.times.tolist(), entry.time, where)]
    return density
