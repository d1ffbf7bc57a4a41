"""Every case that comes with the program loads, says what it is, and meets its own expectations."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import fpsolve
from fpsolve.case import Case, load_case, parse_case

FOLDER = Path(__file__).resolve().parents[1] / "cases"
PATHS = sorted(FOLDER.glob("*.toml"))
# More than 4 seconds on one core without figures; the others stay below.
SLOW = {"deep-barrier", "iris", "kramers-turnover", "one-example-steps", "one-over-k", "sharp-to-flat"}
SLOW |= {"two-valleys", "well-3d"}

every_case = pytest.mark.parametrize("path", PATHS, ids=[path.stem for path in PATHS])


def test_there_are_cases():
    assert len(PATHS) >= 8
    assert {path.stem for path in PATHS} >= SLOW


@every_case
def test_it_loads_and_echoes(path):
    case = load_case(path)
    assert case.title != case.name, "a case has a title of its own"
    assert parse_case(tomllib.loads(case.resolved()), case.name) == case


@every_case
def test_it_opens_with_what_it_is_about(path):
    assert path.read_text(encoding="utf-8").startswith("# ")


@every_case
def test_every_expectation_names_its_source(path):
    case = load_case(path)
    assert case.expect, "a case checks itself"
    assert all(entry.source for entry in case.expect.values())


@pytest.mark.parametrize("path", [path for path in PATHS if path.stem not in SLOW], ids=lambda path: path.stem)
def test_it_meets_its_expectations(path):
    meets(load_case(path))


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in PATHS if path.stem in SLOW], ids=lambda path: path.stem)
def test_a_slow_one_meets_its_expectations(path):
    meets(load_case(path))


def meets(case: Case) -> None:
    report = fpsolve.run(case)
    missed = [f"{check.what} = {check.found}, wanted {check.wanted}" for check in report.checks if not check.passed]
    assert not missed
    assert report.outcome == "done"
    assert len(report.checks) == len(case.expect)
