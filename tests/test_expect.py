"""[expect]: every form of a wish, met and missed, and wishes that make no sense."""

from __future__ import annotations

import math
import tomllib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import fpsolve
from fpsolve import CaseError
from fpsolve.case import Case, parse_case
from fpsolve.expect import check_expectations, refuse_malformed
from fpsolve.present.report import Check, Report

TEMPERATURE = 0.25
TEXT = f"""
[landscape]
variables = ["x"]
loss = "x**2/2"
[noise]
kind = "constant"
temperature = {TEMPERATURE}
[grid]
x = {{ min = -4.0, max = 4.0, cells = 80 }}
[regions]
right = "x > 0"
[initial]
gaussian = {{ mean = [1.0], width = 0.5 }}
[evolve]
times = [0.25, 0.5, 1.0]
tolerance = 1e-4
watch = ["right", "x > 1/2"]
[stationary]
[escape]
start = [0.0]
target = "x > 1"
"""


def case_with(expect: dict[str, Any], text: str = TEXT) -> Case:
    return parse_case({**tomllib.loads(text), "expect": expect}, "spring")


@pytest.fixture(scope="module")
def report() -> Report:
    """One run; the tests compare it with different wishes."""
    return fpsolve.run(case_with({}))


def checked(report: Report, path: str, **entry: Any) -> Check:
    case = case_with({path: entry})
    refuse_malformed(case)
    (check,) = check_expectations(case, report)
    assert check.what == path
    return check


def refusal(report: Report, path: str, **entry: Any) -> str:
    """What a user reads of a wish that makes no sense, without the path in front."""
    with pytest.raises(CaseError) as caught:
        checked(report, path, **entry)
    where, _, message = str(caught.value).partition(": ")
    assert where == f'expect."{path}"'
    return message


# --- what is found at the end of a path


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("stationary.mean.0", lambda r: r.rest.mean[0]),
        ("stationary.mean.-1", lambda r: r.rest.mean[0]),
        ("stationary.covariance.0.0", lambda r: r.rest.covariance[0, 0]),
        ("stationary.regions.right", lambda r: r.rest.regions["right"]),
        ('stationary."regions"."right"', lambda r: r.rest.regions["right"]),
        ("stationary.observables.loss", lambda r: r.rest.observables["loss"]),
        ("evolve.mean.3.0", lambda r: r.motion.mean[3, 0]),
        ("evolve.mean.-1.0", lambda r: r.motion.mean[3, 0]),
        ('evolve.regions."x > 1/2".occupation.2', lambda r: r.motion.occupation["x > 1/2"][2]),
        ("evolve.stepper.steps", lambda r: r.motion.counts.steps),
        ("escape.mean_first_passage_time.value", lambda r: r.escape.times["mean_first_passage_time"].value),
        ("escape.theory.exact_integral.value", lambda r: r.escape.theory["exact_integral"].value),
        ("escape.theory.exact_integral.applies", lambda _: 1.0),
        ("invariants.mass_error", lambda r: r.as_record()["invariants"]["mass_error"]),
    ],
)
def test_a_path_leads_to_a_number(report, path, found):
    assert checked(report, path, at_least=-1e300).found == pytest.approx(found(report), rel=1e-15)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("evolve.mass", lambda r: r.motion.mass[2]),
        ("evolve.mean.0", lambda r: r.motion.mean[2, 0]),
        ("evolve.covariance.0.0", lambda r: r.motion.covariance[2, 0, 0]),
        ("evolve.observables.loss", lambda r: r.motion.observables["loss"][2]),
        ("evolve.regions.right.flux", lambda r: r.motion.flux["right"][2]),
    ],
)
def test_a_time_reads_a_series(report, path, found):
    assert checked(report, path, at_least=-1e300, time=0.5).found == found(report)


def test_a_time_is_read_off_once_even_where_lengths_agree():
    """Two saved times and two variables: no list but the series is indexed by time."""
    text = TEXT.replace('["x"]', '["x", "y"]').replace("x**2/2", "x**2/2 + y**2").replace("[1.0]", "[1.0, 0.5]")
    text = text.replace("cells = 80 }", "cells = 20 }\ny = { min = -2.0, max = 2.0, cells = 20 }")
    text = text.replace("[0.25, 0.5, 1.0]", "[0.5]").replace("start = [0.0]", "start = [0.0, 0.0]")
    entry = {"time": 0.5, "value": 0.0, "absolute": 1e9}
    case = case_with({f"evolve.covariance.{i}.{j}": entry for i in (0, 1) for j in (0, 1)}, text)
    report = fpsolve.run(case)
    assert [check.found for check in report.checks] == report.motion.covariance[1].ravel().tolist()


# --- wishes, met and missed


@pytest.mark.parametrize(
    ("entry", "passed", "wanted"),
    [
        ({"value": TEMPERATURE, "relative": 1e-9}, True, "0.25 +- 2.5e-10"),
        ({"value": TEMPERATURE, "absolute": 1e-9}, True, "0.25 +- 1e-09"),
        ({"value": 0.2525, "relative": 1e-2}, True, "0.2525 +- 0.0025"),
        ({"value": 0.2525, "relative": 0.99e-2}, False, "0.2525 +- 0.0025"),
        ({"value": -0.25, "relative": 1.0}, False, "-0.25 +- 0.25"),
        ({"value": 0.26, "relative": 1e-3, "absolute": 0.02}, True, "0.26 +- 0.02"),
        ({"at_least": 0.2}, True, "at least 0.2"),
        ({"at_least": 0.3}, False, "at least 0.3"),
        ({"at_most": 0.3}, True, "at most 0.3"),
        ({"at_most": 0.2}, False, "at most 0.2"),
        ({"at_least": 0.2, "at_most": 0.3}, True, "at least 0.2 and at most 0.3"),
        ({"at_least": 0.2, "at_most": 0.22}, False, "at least 0.2 and at most 0.22"),
    ],
)
def test_numbers(report, entry, passed, wanted):
    # T of a spring constant of one, to the rounding of a midpoint rule that is exact for Gaussians.
    check = checked(report, "stationary.covariance.0.0", source="closed form", **entry)
    assert (check.passed, check.wanted, check.source) == (passed, wanted, "closed form")


def test_the_record_holds_the_number_that_was_wanted(report):
    number = checked(report, "stationary.mean.0", value=0.0, absolute=1.0).as_record()
    assert number == {"what": "stationary.mean.0", "found": number["found"], "wanted": 0.0, "passed": True}
    assert checked(report, "stationary.mean.0", at_most=1.0).as_record()["wanted"] == "at most 1"


def test_nothing_found_is_a_miss(report):
    """Kramers' formula does not apply to a well without a barrier: its value is null."""
    assert report.escape.theory["kramers"].value is None
    check = checked(report, "escape.theory.kramers.value", at_least=0.0)
    assert (check.found, check.passed) == (None, False)


GAUSSIAN = f"exp(-x**2/2/{TEMPERATURE})"


@pytest.mark.parametrize(
    ("entry", "passed"),
    [
        ({"expression": GAUSSIAN, "l1": 1e-13}, True),
        ({"expression": f"3*{GAUSSIAN}", "l1": 1e-13}, True),
        ({"expression": "1", "l1": 0.1}, False),
        ({"at": [0.05], "value": math.exp(-(0.05**2) / 0.5) / math.sqrt(0.5 * math.pi), "relative": 1e-12}, True),
        ({"at": [0.05], "at_least": 1.0}, False),
    ],
)
def test_density_at_rest(report, entry, passed):
    assert checked(report, "stationary.density", **entry).passed is passed


def test_an_l1_distance_is_that_of_probabilities(report):
    """Against the uniform density the distance is the sum of |P - 1/n|; the bound itself still passes."""
    distance = float(np.abs(report.rest.probability - 1 / 80).sum())
    check = checked(report, "stationary.density", expression="1", l1=distance * (1 + 1e-12))
    assert check.found == pytest.approx(distance, rel=1e-14)
    assert (check.passed, check.wanted) == (True, f"within {distance:g} of the expression in L1")


def test_a_density_between_cells_is_read_linearly(report):
    between = 0.5 * (report.rest.density[40] + report.rest.density[41])  # cell centres at 0.05 and 0.15
    check = checked(report, "stationary.density", at=[0.1], value=between, relative=1e-12)
    assert check.passed


def test_density_in_time(report):
    variance = TEMPERATURE  # width 0.5: the variance at the start is that at rest
    mean = math.exp(-1.0)
    exact = f"exp(-(x - {mean!r})**2/2/{variance})"
    assert checked(report, "evolve.density", expression=exact, l1=5e-3, time=1.0).passed
    assert not checked(report, "evolve.density", expression=exact, l1=5e-3, time=0.5).passed
    start = checked(report, "evolve.density", at=[1.05], value=0.79, relative=0.01, time=0.0)
    assert start.passed


# --- what a miss does


def test_a_miss_fails_the_run_but_not_before_the_end(tmp_path):
    met = {"value": 0.0, "absolute": 1e-9}
    case = case_with({"stationary.mean.0": met, "stationary.covariance.0.0": {"at_least": 1.0}})
    report = fpsolve.run(case, output=tmp_path, figures=False)
    assert report.outcome == "failed"
    assert [check.passed for check in report.checks] == [True, False]
    assert report.error is None
    assert report.result_file.exists()
    text = report.as_text()
    assert "Expect   ok   stationary.mean.0 = " in text
    assert "Expect   MISS stationary.covariance.0.0 = 0.25, wanted at least 1" in text
    assert text.splitlines()[-1].startswith("Failed in ")


# --- wishes that make no sense


@pytest.mark.parametrize(
    ("path", "entry", "message"),
    [
        ("stationary.men.0", {}, '"men" leads nowhere. Entries here are mean, covariance, regions, observables, '
         'current, entropy_production. Did you mean "mean"?'),
        ("stationry.mean.0", {}, '"stationry" leads nowhere. Entries here are case, outcome, seconds, warnings, error, '
         'invariants, stationary, evolve, escape, expect, files. Did you mean "stationary"?'),
        ("escape.theory.krammers.value", {}, '"krammers" leads nowhere. Entries here are kramers, '),
        ("stationary.regions.rihgt", {}, '"rihgt" leads nowhere. Entries here are right. Did you mean "right"?'),
        ("stationary.mean.1", {}, '"1" leads nowhere. Entries here are 0 to 0.'),
        ("stationary.mean.-2", {}, '"-2" leads nowhere. Entries here are 0 to 0.'),
        ("stationary.mean.first", {}, '"first" leads nowhere. Entries here are 0 to 0.'),
        ("stationary.mean.0.0", {}, '"0" leads nowhere. The path ends before it.'),
        ("stationary.mean", {}, "it leads to more than one number. Entries here are 0 to 0. Add one to the path."),
        ("escape.theory", {}, "it leads to more than one number. Entries here are kramers, "),
        ("stationary.regions", {}, "it leads to more than one number. Entries here are right. Add one to the path."),
        ("evolve.mean.0", {}, "it leads to more than one number. Entries here are 0 to 0. Add time = ..., or an index "
         "to the path."),
        ("evolve.mass", {}, "it leads to more than one number. Entries here are 0 to 3. Add time = ..., or an index to "
         "the path."),
        ("evolve.mean.0", {"time": 0.3}, "t = 0.3 is not a saved time. The nearest is 0.25. Choose evolve.times or "
         "evolve.save to hit it."),
        ("evolve.stepper.steps", {"time": 0.5}, "it is one number for all times. Remove time."),
        ("stationary.mean.0", {"time": 0.5}, '"time" has no effect here. Used are absolute, at_least, at_most, '
         "relative, source, value. Remove it."),
        ("stationary.mean.0", {"at": [0.0]}, '"at" has no effect here. '),
        ("stationary.mean.0", {"l1": 0.1}, '"l1" has no effect here. '),
        ("stationary.mean.0", {"expression": "1", "l1": 0.1}, '"expression" has no effect here. '),
        ("stationary.mean.0", {"relative": 0.1}, '"relative" has no effect here. '),
    ],
)  # fmt: skip
def test_paths_and_keys_that_make_no_sense(report, path, entry, message):
    assert refusal(report, path, at_least=0.0, **entry).startswith(message)


def test_a_text_is_no_number(report):
    with pytest.raises(CaseError, match=r"^expect\.outcome: it leads to a text, 'done'\. A number is required\.$"):
        checked(report, "outcome", at_least=0.0)


@pytest.mark.parametrize(
    ("path", "entry", "message"),
    [
        ("stationary.mean.0", {"source": "faith"}, "it wishes for nothing. Add value, at_least or at_most."),
        ("stationary.mean.0", {"value": 0.5}, "a value without a tolerance. Add relative = ... or absolute = ..."),
        ("stationary.mean.0", {"value": 0.0, "relative": 0.1}, "no tolerance relative to a value of zero has any room. "
         "Add absolute = ..."),
        ("stationary.density", {"value": 1.0, "relative": 0.1}, "neither at nor expression is given. A density needs "
         "exactly one. Give at = [...] and value, or expression = ... and l1."),
        ("stationary.density", {"at": [0.0], "expression": "1"}, "both at and expression are given. A density needs "),
        ("stationary.density", {"at": [0.0]}, "it wishes for nothing. "),
        ("stationary.density", {"expression": "1"}, "an expression without a tolerance. Add l1 = ..."),
        ("stationary.density", {"expression": "1", "l1": 1.0, "at_most": 1.0}, '"at_most" has no effect here. '
         "Used are at, expression, l1, source. Remove it."),
        ("stationary.density", {"at": [9.0], "at_least": 0.0}, "x = 9 lies outside the grid. x runs from -4 to 4. "),
        ("stationary.density", {"at": [0.0, 0.0], "at_least": 0.0}, "2 coordinates. A point needs 1, "),
        ("stationary.density", {"expression": "exp(-y)", "l1": 1.0}, '"y" in "exp(-y)" is not a known name. '),
        ("stationary.density", {"expression": "log(x)", "l1": 1.0}, "it is nan in cell (0) at x = -3.95. A density is "
         "finite and not negative."),
        ("stationary.density", {"expression": "0", "l1": 1.0}, "the density is zero everywhere on the grid. "),
        ("evolve.density", {"at": [0.0], "at_least": 0.0}, "the time is missing. A density in time is compared at one. "
         "Add time = ..."),
        ("evolve.density", {"at": [0.0], "at_least": 0.0, "time": 0.3}, "t = 0.3 is not a saved time. The nearest is "),
    ],
)  # fmt: skip
def test_wishes_that_make_no_sense(report, path, entry, message):
    assert refusal(report, path, **entry).startswith(message)


@pytest.mark.parametrize(
    ("path", "table"),
    [
        ("stationary.mean.0", "stationary"),
        ("stationary.density", "stationary"),
        ("evolve.mass.0", "evolve"),
        ("escape.flux_over_population.value", "escape"),
    ],
)
def test_what_the_case_does_not_ask_for(report, path, table):
    case = replace(case_with({path: {"at_least": 0.0}}), **{table: None})
    with pytest.raises(CaseError) as caught:
        refuse_malformed(case)
    assert str(caught.value) == (
        f'expect."{path}": the case does not ask for it: there is no [{table}]. Add [{table}].'
    )


def test_nonsense_is_found_before_the_long_work(monkeypatch):
    monkeypatch.setattr("fpsolve.pipeline.stationary", lambda *_, **__: pytest.fail("the long work has begun"))
    with pytest.raises(CaseError, match="it wishes for nothing"):
        fpsolve.run(case_with({"stationary.mean.0": {"source": "faith"}}))
