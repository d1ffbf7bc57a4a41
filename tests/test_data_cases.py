"""Cases with data, tables, walkers and gradient noise, from files through the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import h5netcdf
import numpy as np
import pytest
import xarray
from test_cli import invoke, record_of

POINTS = "a,b\n1,1\n0.5,-0.25\n-1.5,-1\n2,1.5\n0.8,1.4\n"
# Linear regression of one slope. The tests below change a piece; the mark ¶ is where the complaint must point.
DATA = 'data = "points.csv"\nper_example_loss = "0.5*(a*x - b)**2"'
NOISE = 'kind = "minibatch"\nlearning_rate = 0.1\nbatch_size = 1'
EVOLVE = "[evolve]\ntimes = [0.5, 2.0]\n"
ESCAPE = '[escape]\nstart = [0.75]\ntarget = "far"\ngrids = 1\n'
WALKERS = "[ensemble]\nwalkers = 400"
GRADIENTS = "[gradient_noise]\nat = [0.8]\nbatch_sizes = [1, 4]\ndraws = 400\n"
LINE = f"""\
title = "Linear regression"
[landscape]
variables = ["x"]
{DATA}
[noise]
{NOISE}
[grid]
x = {{ min = 0.0, max = 1.6, cells = 40 }}
[regions]
far = "x > 0.88"
[initial]
point = [0.75]
{EVOLVE}[stationary]
{ESCAPE}{WALKERS}
{GRADIENTS}"""
AT_REST = LINE.replace(EVOLVE, "").replace(ESCAPE, "").replace(WALKERS, f"{WALKERS}\nmax_time = 30.0")
FORMULA = LINE.replace(DATA, 'loss = "(x - 0.8)**2"').replace(NOISE, 'kind = "constant"\ntemperature = 0.01')
PLAIN = FORMULA.replace(GRADIENTS, "")
EXACT_VARIANCE = 0.00457238690581349  # of x - learning_rate * a * (a*x - b) with one row drawn in every step


def written(folder: Path, text: str) -> Path:
    """The case file beside its data."""
    (folder / "points.csv").write_text(POINTS, encoding="utf-8")
    path = folder / "line.toml"
    path.write_text(text, encoding="utf-8")
    return path


def ran(folder: Path, text: str, *arguments: object) -> dict[str, Any]:
    """The record of a run, which must succeed."""
    result = invoke("run", written(folder, text), "--json", "--output", folder / "out", *arguments)
    assert result.exit_code == 0, result.stderr
    return record_of(result)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """The record of a case that asks for everything, and its folder."""
    folder = tmp_path_factory.mktemp("line")
    return ran(folder, LINE), folder


# --- everything at once


def test_everything_is_in_the_record(line):
    record, _ = line
    assert record["outcome"] == "done"
    exits = record["escape"]["ensemble"]
    assert exits["process"] == "sgd"
    assert exits["censored"] + exits["exits"] == 400
    assert exits["value"] > 10.0 * exits["standard_error"] > 0.0
    assert exits["steps"] == pytest.approx(10.0 * exits["value"], rel=1e-12)  # rounding
    walkers = record["ensemble"]
    assert (walkers["process"], walkers["walkers"], walkers["seed"]) == ("sgd", 400, 1)
    assert walkers["evolve"]["times"] == record["evolve"]["times"] == [0.0, 0.5, 2.0]
    assert walkers["evolve"]["steps"] == [0, 5, 20]
    assert walkers["evolve"]["inside"] == [400, 400, 400]
    assert "stationary" not in walkers
    noise = record["gradient_noise"]
    assert (noise["rows"], noise["draws"], noise["sampling"]) == (5, 400, "replacement")
    assert [batch["batch_size"] for batch in noise["batches"]] == [1, 4]
    assert record["noise"]["at_minima"][0]["position"][0] == pytest.approx(6.495 / 8.14, abs=1e-9)  # Newton's method


def test_everything_is_drawn(line):
    record, _ = line
    names = [Path(path).name.removeprefix("line-") for path in record["files"]["figures"]]
    expected = ["density.png", "time.png", "escape.png", "noise.png", "gradient-noise.png", "ensemble.png"]
    assert [name for name in names if name != "transition.png"] == expected
    for path in record["files"]["figures"]:
        assert Path(path).read_bytes().startswith(b"\x89PNG")


def test_walkers_are_in_the_result_file(line):
    record, _ = line
    path = record["files"]["result"]
    with xarray.open_dataset(path, engine="h5netcdf") as found:
        assert found["ensemble_density"].dims == ("time", "x")
        inside = found["ensemble_density"].values @ np.full(40, 0.04)
        assert inside == pytest.approx(np.ones(3), rel=1e-12)  # rounding
        mean = record["ensemble"]["evolve"]["mean"]
        assert found["ensemble_mean_x"].values.tolist() == [row[0] for row in mean]
        assert np.isnan(found["ensemble_l1_distance"].values[0])
        exits = found["ensemble_exit_time"]
        assert exits.dims == ("walker",)
        assert float(exits.mean()) == pytest.approx(record["escape"]["ensemble"]["value"], rel=1e-12)  # rounding
        assert set(found["ensemble_exit_gate"].values.tolist()) == {0}
    with h5netcdf.File(path) as file:
        assert file.dimensions["walker"].size == 400
        for name in ("ensemble_density", "ensemble_covariance_xx", "ensemble_l1_distance_by_chance"):
            assert {"long_name", "units"} <= set(file[name].attrs)


def test_the_page_names_the_witness(tmp_path):
    result = invoke("run", written(tmp_path, LINE), "--no-figures")
    assert result.exit_code == 0
    assert "points.csv, 5 rows" in result.stdout.splitlines()[0]
    assert re.search(r"^  SGD, 400 runs +[\d.]+ +[\d.e+]+ ", result.stdout, re.MULTILINE)
    assert re.search(r"^Witness: SGD, 400 runs, .*seed 1$", result.stdout, re.MULTILINE)
    assert "Gradient noise at x = 0.8   5 rows, 400 batches of each size with replacement" in result.stdout
    assert "Traceback" not in result.stderr


def test_the_same_seed_gives_the_same_numbers(line, tmp_path):
    again = ran(tmp_path, LINE, "--no-figures", "--threads", "2")
    other = ran(tmp_path, LINE, "--no-figures", "--set", "ensemble.seed=2")
    for part in ("ensemble", "gradient_noise"):
        assert again[part] == line[0][part]
    assert other["ensemble"]["evolve"]["mean"] != line[0]["ensemble"]["evolve"]["mean"]
    assert other["gradient_noise"] == line[0]["gradient_noise"]


def test_the_stochastic_equation_on_data(tmp_path):
    case = LINE.replace(WALKERS, f'{WALKERS}\nprocess = "sde"')
    record = ran(tmp_path, case, "--no-figures")
    assert record["ensemble"]["process"] == "sde"
    assert record["ensemble"]["evolve"]["steps"] is None
    found, expected = record["escape"]["ensemble"], record["escape"]["mean_first_passage_time"]["value"]
    # 4 standard errors, and the error of 40 cells
    assert abs(found["value"] - expected) < 4.0 * found["standard_error"] + 0.05 * expected


def test_walkers_at_rest_meet_the_exact_variance(tmp_path):
    expect = {
        "ensemble.stationary.covariance.0.0.0": {"value": EXACT_VARIANCE, "relative": 0.03},  # 3 standard errors
        "ensemble.stationary.mean.0.0": {"value": 6.495 / 8.14, "absolute": 0.005},
    }
    entries = "\n".join(
        f'"{path}" = {{ {", ".join(f"{key} = {value!r}" for key, value in entry.items())} }}'
        for path, entry in expect.items()
    )
    record = ran(tmp_path, f"{AT_REST}\n[expect]\n{entries}\n", "--set", "ensemble.walkers=2000")
    assert [check["passed"] for check in record["expect"]] == [True, True]
    walkers = record["ensemble"]["stationary"]
    assert walkers["covariance_error"][0][0][0] < 0.01 * EXACT_VARIANCE
    assert any(path.endswith("line-ensemble.png") for path in record["files"]["figures"])
    with xarray.open_dataset(record["files"]["result"], engine="h5netcdf") as found:
        assert found["ensemble_stationary_density"].dims == ("look", "x")
        assert found["ensemble_stationary_covariance_xx"].values.tolist() == [walkers["covariance"][0][0][0]]


def test_an_expected_exit_time_that_is_missed_fails_the_run(tmp_path):
    entry = '"escape.ensemble.value" = { value = 1e4, relative = 0.1, source = "nowhere" }'
    result = invoke("run", written(tmp_path, f"{LINE}\n[expect]\n{entry}\n"), "--no-figures")
    assert result.exit_code == 1
    assert "MISS escape.ensemble.value" in result.stdout


def test_a_barrier_too_deep_for_walkers_is_said(tmp_path):
    deep = PLAIN.replace("temperature = 0.01", "temperature = 1e-4").replace("(x - 0.8)**2", "(x - 0.75)**2")
    record = ran(tmp_path, deep.replace(EVOLVE, ""), "--no-figures")
    assert "no_ensemble" in [warning["code"] for warning in record["warnings"]]
    assert "ensemble" not in record["escape"]


# --- tables


def test_a_result_is_a_table_for_another_case(line, tmp_path):
    _, folder = line
    table = f'table = "{folder / "out" / "line.nc"}"'
    text = LINE.replace(DATA, table).replace(WALKERS, f'{WALKERS}\nprocess = "sde"').replace(GRADIENTS, "")
    record = ran(tmp_path, text.replace("0.0, max = 1.6, cells = 40", "0.1, max = 1.5, cells = 70"), "--no-figures")
    # The formula on the same 70 cells, which the splines of a quadratic loss meet.
    own = LINE.replace(WALKERS, f'{WALKERS}\nprocess = "sde"').replace(GRADIENTS, "")
    same = ran(tmp_path, own.replace("0.0, max = 1.6, cells = 40", "0.1, max = 1.5, cells = 70"), "--no-figures")
    found, wanted = (part["stationary"]["covariance"][0][0] for part in (record, same))
    assert found == pytest.approx(wanted, rel=1e-8)  # rounding of splines


# --- what is refused, and where


CASES = {
    "no data": (
        LINE,
        'data = "points.csv"\nper_example',
        "¶per_example",
        "landscape.per_example_loss: there is no data",
    ),
    "no loss of a row": (LINE, DATA, 'data = "points.csv"', "landscape: none of loss, drift, per_example_loss, table"),
    "another loss beside": (LINE, DATA, f'{DATA}\nloss = "x"', "both loss and per_example_loss are given"),
    "no such file": (LINE, '"points.csv"', '¶"pints.csv"', "landscape.data: there is no file pints.csv"),
    "no text": (LINE, '"points.csv"', "¶5", "landscape.data: it is 5. It must be a text in quotes"),
    "no such column": (LINE, "(a*x - b)", "¶(a*x - c)", 'landscape.per_example_loss: "c" in'),
    "no variable": (LINE, "(a*x - b)", "¶(a - b)", "names no variable"),
    "no column": (LINE, "(a*x - b)", "¶(2*x - 3)", "names no column. The columns are a, b"),
    "no such table": (LINE, DATA, '¶table = "surface.nc"', "landscape.table: there is no file surface.nc"),
    "degree without table": (LINE, DATA, f"{DATA}\n¶degree = 3", "landscape.degree: it has no effect without a table"),
    "no such degree": (LINE, DATA, f"{DATA}\n¶degree = 4", "landscape.degree: 4 is not a known choice. Choose 3 or 5"),
    "no batch size": (LINE, "batch_size = 1\n", "", 'noise: the key "batch_size" is missing'),
    "a batch of nothing": (LINE, "batch_size = 1\n", "¶batch_size = 0\n", "noise.batch_size: it is 0"),
    "too large a batch": (
        *(LINE, "batch_size = 1\n", '¶batch_size = 9\nsampling = "without"\n'),
        "noise.batch_size: a batch of 9 without replacement. There are 5 examples",
    ),
    "epochs of noise": (
        *(LINE, "batch_size = 1\n", 'batch_size = 1\n¶sampling = "epochs"\n'),
        'noise.sampling: "epochs" is not a known choice',
    ),
    "projection": (
        *(LINE, "batch_size = 1\n", 'batch_size = 1\n¶projection = "abs"\n'),
        'noise.projection: it has no effect for noise.kind = "minibatch". It belongs to hessian',
    ),
    "batches of a formula": (
        *(LINE, DATA, 'loss = "x**2"'),
        'noise.kind: "minibatch" needs the gradients of single examples. The landscape has no data',
    ),
    "a step of SGD": (LINE, WALKERS, f"{WALKERS}\n¶time_step = 0.1", "ensemble.time_step: it has no effect"),
    "a tail of SGD": (LINE, WALKERS, f"{WALKERS}\n¶tail_index = 1.5", "ensemble.tail_index: it has no effect"),
    "momentum of the equation": (PLAIN, WALKERS, f"{WALKERS}\n¶momentum = 0.5", "ensemble.momentum: it has no effect"),
    "batches of the equation": (
        *(PLAIN, WALKERS, f'{WALKERS}\n¶sampling = "epochs"'),
        "ensemble.sampling: it has no effect",
    ),
    "SGD without data": (PLAIN, WALKERS, f'{WALKERS}\nprocess = "sgd"', "landscape.data: there are no data"),
    "too large a batch of SGD": (
        *(LINE.replace("batch_size = 1\n", "batch_size = 9\n"), WALKERS, f'{WALKERS}\nsampling = "without"'),
        "noise.batch_size: a batch of 9 different rows. There are 5",
    ),
    "no such process": (LINE, WALKERS, f'{WALKERS}\n¶process = "walk"', 'Choose "sgd" or "sde"'),
    "no such key": (LINE, WALKERS, "[ensemble]\n¶walker = 400", 'Did you mean "walkers"?'),
    "one walker": (LINE, WALKERS, "[ensemble]\n¶walkers = 1", "ensemble.walkers: it is 1. It must be at least 2"),
    "half a walker": (LINE, WALKERS, "[ensemble]\n¶walkers = 9.5", "ensemble.walkers: it is 9.5. It must be a whole"),
    "a step back": (PLAIN, WALKERS, f"{WALKERS}\n¶time_step = -1.0", "ensemble.time_step: it is -1.0"),
    "all momentum": (LINE, WALKERS, f"{WALKERS}\n¶momentum = 1.0", "ensemble.momentum: it is 1.0"),
    "a tail above 2": (PLAIN, WALKERS, f"{WALKERS}\n¶tail_index = 3.0", "ensemble.tail_index: it is 3.0"),
    "a seed below 0": (LINE, WALKERS, f"{WALKERS}\n¶seed = -1", "ensemble.seed: it is -1. It must be at least 0"),
    "a time beside evolve": (
        *(LINE.replace(ESCAPE, ""), WALKERS, f"{WALKERS}\n¶max_time = 2.0"),
        "ensemble.max_time: it has no effect beside [evolve]",
    ),
    "no time at rest": (
        AT_REST,
        "[ensemble]\nwalkers = 400\nmax_time = 30.0",
        f"¶{WALKERS}",
        "ensemble.max_time: it is missing",
    ),
    "nothing to stand beside": (AT_REST, "[stationary]\n[ensemble]", "¶[ensemble]", "ensemble: nothing else is asked"),
    "a point of two": (LINE, "at = [0.8]", "¶at = [0.8, 1.0]", "gradient_noise.at: 2 coordinates. A point has 1"),
    "no point": (LINE, "[gradient_noise]\nat = [0.8]", "¶[gradient_noise]", 'gradient_noise: the key "at" is missing'),
    "a point without brackets": (LINE, "at = [0.8]", "¶at = 0.8", "gradient_noise.at: it is 0.8"),
    "no data for gradients": (FORMULA, "[gradient_noise]", "¶[gradient_noise]", "gradient_noise: there are no data"),
    "no batches": (LINE, "batch_sizes = [1, 4]", "¶batch_sizes = []", "gradient_noise.batch_sizes: it is []"),
    "an empty batch": (LINE, "batch_sizes = [1, 4]", "¶batch_sizes = [0, 4]", "gradient_noise.batch_sizes: 0"),
    "half a batch": (LINE, "batch_sizes = [1, 4]", "¶batch_sizes = [1.5]", "gradient_noise.batch_sizes.0: it is 1.5"),
    "a batch of all": (
        *(LINE, "batch_sizes = [1, 4]", '¶batch_sizes = [1, 5]\nsampling = "without"'),
        "gradient_noise.batch_sizes: 5",
    ),
    "few draws": (LINE, "draws = 400", "¶draws = 50", "gradient_noise.draws: it is 50. It must be at least 100"),
    "an expectation of no walkers": (
        *(
            LINE.replace(WALKERS, ""),
            "draws = 400",
            'draws = 400\n[expect]\n¶"escape.ensemble.value" = { at_least = 0 }',
        ),
        "there is no [ensemble]. Add [ensemble]",
    ),
    "an expectation of no gradients": (
        *(PLAIN, WALKERS, f'{WALKERS}\n[expect]\n¶"gradient_noise.rows" = {{ at_least = 0 }}'),
        "there is no [gradient_noise]",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_refused_before_the_work(name, tmp_path):
    text, old, new, message = CASES[name]
    assert text.count(old) == 1
    marked = text.replace(old, new)
    path = written(tmp_path, marked.replace("¶", ""))
    result = invoke("check", path)
    assert result.exit_code == 2, result.stdout
    assert message in result.stderr
    assert str(path) in result.stderr
    if "¶" in marked:
        line = marked[: marked.index("¶")].count("\n") + 1
        assert f"line {line}," in result.stderr
    assert "Traceback" not in result.stderr


def test_a_run_refuses_the_same_as_json(tmp_path):
    text = LINE.replace(WALKERS, f"{WALKERS}\ntime_step = 0.1")
    result = invoke("run", written(tmp_path, text), "--json", "--output", tmp_path / "out")
    assert result.exit_code == 2
    error = json.loads(result.stdout)["error"]
    assert error["where"].endswith("ensemble.time_step")
    assert not list(tmp_path.glob("out/*.nc"))


def test_a_case_with_data_is_checked(tmp_path):
    result = invoke("check", written(tmp_path, LINE))
    assert result.exit_code == 0, result.stderr
    assert "positive definite" in result.stdout


def test_data_are_sought_beside_the_case(tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    assert invoke("check", written(tmp_path, LINE)).exit_code == 0


def test_walkers_do_not_go_on_from_an_earlier_result_with_sgd(line, tmp_path):
    _, folder = line
    text = LINE.replace("point = [0.75]", f'file = "{folder / "out" / "line.nc"}"').replace("[0.5, 2.0]", "[3.0, 4.0]")
    result = invoke("check", written(tmp_path, text))
    assert result.exit_code == 2
    assert "SGD counts its steps from 0" in result.stderr
    record = ran(tmp_path, text.replace(WALKERS, f'{WALKERS}\nprocess = "sde"'), "--no-figures")
    assert record["ensemble"]["evolve"]["times"] == [2.0, 3.0, 4.0]
