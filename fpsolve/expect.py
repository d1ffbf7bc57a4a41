"""[expect]: what a case says about its own result, compared with what was found."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from fpsolve.case import Case, Expectation, join_path, split_path
from fpsolve.errors import CaseError, did_you_mean
from fpsolve.model.grid import FloatArray
from fpsolve.model.initial import Density
from fpsolve.model.region import point_weights
from fpsolve.present.report import Check, Report

# Densities are compared on the grid; everything else is read off the record.
DENSITIES = ("stationary.density", "evolve.density")
ANALYSES = ("stationary", "spectrum", "evolve", "escape", "ensemble", "gradient_noise")
# Read on the grid at a point.
FIELDS = ("stationary.quasi_potential",)
NUMBER = ("value", "relative", "absolute", "at_least", "at_most")
SAME_TIME = 1e-9


def check_expectations(case: Case, report: Report) -> list[Check]:
    """Compare every entry of [expect] with a report. Raises CaseError for a path that leads nowhere."""
    record = report.as_record()
    return [_check(case, report, record, path, entry) for path, entry in case.expect.items()]


def refuse_malformed(case: Case) -> None:
    """Raise CaseError, before the long work, for an entry that says nothing or asks about what is not computed."""
    for path, entry in case.expect.items():
        where = _where(path)
        parts = split_path(path)
        needed = [*parts[:1], *(["ensemble"] if parts[:2] == ["escape", "ensemble"] else [])]
        for analysis in needed:
            if analysis in ANALYSES and getattr(case, analysis) is None:
                found = f"the case does not ask for it: there is no [{analysis}]"
                raise CaseError(where, found, "", f"Add [{analysis}]")
        if path in DENSITIES and (entry.at is None) == (entry.expression is None):
            found, required = _both_or_neither(entry.at is None, "at", "expression"), "A density needs exactly one"
            raise CaseError(where, found, required, "Give at = [...] and value, or expression = ... and l1")
        if path in FIELDS and entry.at is None:
            raise CaseError(where, "the place is missing", "A field is compared at a point", "Add at = [...]")
        if path == "evolve.density" and entry.time is None:
            raise CaseError(where, "the time is missing", "A density in time is compared at one", "Add time = ...")
        _refuse_idle(path, entry, where)
        _refuse_wishless(entry, where)
        if entry.at is not None:
            point_weights(case.grid, entry.at, where)
        if entry.expression is not None:
            _wanted_probability(case, entry.expression, where)


def _where(path: str) -> str:
    return join_path(("expect", path))


def _both_or_neither(neither: bool, first: str, second: str) -> str:
    return f"neither {first} nor {second} is given" if neither else f"both {first} and {second} are given"


def _refuse_idle(path: str, entry: Expectation, where: str) -> None:
    """Refuse keys that have no effect for this path."""
    used = {"source"}
    used |= {"expression", "l1"} if path in DENSITIES and entry.expression is not None else set(NUMBER)
    used |= {"at"} if path in (*DENSITIES, *FIELDS) else set()
    used |= {"time"} if path.startswith("evolve.") else set()
    idle = [key for key, value in entry if value is not None and key not in used]
    if entry.value is None:
        idle += [key for key in ("relative", "absolute") if key in used and getattr(entry, key) is not None]
    if idle:
        raise CaseError(where, f'"{idle[0]}" has no effect here', f"Used are {', '.join(sorted(used))}", "Remove it")


def _refuse_wishless(entry: Expectation, where: str) -> None:
    """Refuse an entry that wishes for nothing, or for a number without saying how closely."""
    if entry.expression is not None:
        if entry.l1 is None:
            raise CaseError(where, "an expression without a tolerance", "", "Add l1 = ...")
    elif entry.value is not None:
        if entry.relative is None and entry.absolute is None:
            raise CaseError(where, "a value without a tolerance", "", "Add relative = ... or absolute = ...")
        if entry.value == 0.0 and not entry.absolute:
            raise CaseError(where, "no tolerance relative to a value of zero has any room", "", "Add absolute = ...")
    elif entry.at_least is None and entry.at_most is None:
        raise CaseError(where, "it wishes for nothing", "", "Add value, at_least or at_most")


def _check(case: Case, report: Report, record: dict[str, Any], path: str, entry: Expectation) -> Check:
    where = _where(path)
    if path in FIELDS:
        return _judged(path, _quasi_potential(case, report, entry, where), entry)
    if path not in DENSITIES:
        return _judged(path, _lookup(record, path, entry, where), entry)
    density = _density(report, path, entry, where)
    grid = case.problem.grid
    if entry.at is not None:
        return _judged(path, point_weights(grid, entry.at, where).read(density), entry)
    assert entry.expression is not None
    assert entry.l1 is not None
    wanted = _wanted_probability(case, entry.expression, where)
    distance = float(np.abs(density * grid.volumes - wanted).sum())
    words = f"within {entry.l1:g} of the expression in L1"
    return Check(path, distance, words, distance <= entry.l1, entry.source)


def _wanted_probability(case: Case, expression: str, where: str) -> FloatArray:
    """The probability of every cell that a density given as an expression makes, normalised on the grid."""
    try:
        return Density(expression).probability(case.problem)
    except CaseError as error:
        raise CaseError(where, error.found, error.required, error.remedy) from None


def _judged(path: str, found: float | None, entry: Expectation) -> Check:
    """The wish in words, and whether it came true."""
    words, passed = [], found is not None
    number = float("nan") if found is None else found
    if entry.value is not None:
        room = max((entry.relative or 0.0) * abs(entry.value), entry.absolute or 0.0)
        words.append(f"{entry.value:.10g} +- {room:.2g}")
        passed &= abs(number - entry.value) <= room
    if entry.at_least is not None:
        words.append(f"at least {entry.at_least:g}")
        passed &= number >= entry.at_least
    if entry.at_most is not None:
        words.append(f"at most {entry.at_most:g}")
        passed &= number <= entry.at_most
    return Check(path, found, " and ".join(words), bool(passed), entry.source, entry.value)


def _lookup(record: dict[str, Any], path: str, entry: Expectation, where: str) -> float | None:
    """Follow a dotted path through the record; with `time`, the first list on the way is read at that saved time."""
    place: Any = record
    timed = entry.time is not None
    for part in split_path(path):
        place = _follow(place, part, where)
        if timed and isinstance(place, list):
            place, timed = place[_instant(record["evolve"]["times"], entry.time, where)], False
    if isinstance(place, dict | list):
        entries = _entries(place)
        series = isinstance(place, list) and path.startswith("evolve.") and entry.time is None
        remedy = "Add time = ..., or an index to the path" if series else "Add one to the path"
        raise CaseError(where, "it leads to more than one number", f"Entries here are {entries}", remedy)
    if place is not None and not isinstance(place, int | float):
        raise CaseError(where, f"it leads to a text, {place!r}", "A number is required", "")
    if timed:
        raise CaseError(where, "it is one number for all times", "", "Remove time")
    return None if place is None else float(place)


def _follow(place: Any, part: str, where: str) -> Any:
    """One step along a path."""
    if isinstance(place, dict) and part in place:
        return place[part]
    if isinstance(place, list) and re.fullmatch(r"-?\d+", part) and -len(place) <= int(part) < len(place):
        return place[int(part)]
    required = f"Entries here are {_entries(place)}" if isinstance(place, dict | list) else "The path ends before it"
    near = did_you_mean(part, place) if isinstance(place, dict) else ""
    raise CaseError(where, f'"{part}" leads nowhere', required, near)


def _entries(place: dict[str, Any] | list[Any]) -> str:
    if isinstance(place, list):
        return f"0 to {len(place) - 1}" if place else "none"
    return ", ".join(place) or "none"


def _instant(times: Sequence[float], wanted: float | None, where: str) -> int:
    assert wanted is not None
    nearest = int(np.argmin(np.abs(np.asarray(times) - wanted)))
    if abs(times[nearest] - wanted) > SAME_TIME * max(1.0, abs(wanted)):
        found, required = f"t = {wanted:g} is not a saved time", f"The nearest is {times[nearest]:g}"
        raise CaseError(where, found, required, "Choose evolve.times or evolve.save to hit it")
    return nearest


def _quasi_potential(case: Case, report: Report, entry: Expectation, where: str) -> float:
    """The quasi-potential at a point."""
    assert report.rest is not None
    assert entry.at is not None
    if (found := report.rest.quasi_potential) is None:
        required = "It is known in the plane, where there is a current at rest, on grids that take 10 seconds at most"
        raise CaseError(where, "there is no quasi-potential", required, "")
    return point_weights(case.problem.grid, entry.at, where).read(found.values)


def _density(report: Report, path: str, entry: Expectation, where: str) -> FloatArray:
    if path == "stationary.density":
        assert report.rest is not None
        return report.rest.density
    assert report.motion is not None
    density: FloatArray = report.motion.density[_instant(report.motion.times.tolist(), entry.time, where)]
    return density
