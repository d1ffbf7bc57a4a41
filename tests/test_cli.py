"""The command line: what is printed where, exit codes, and no traceback for any mistake of a user."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fpsolve import cli, pipeline
from fpsolve.solve.elimination import memory_of_machine
from fpsolve.version import __version__

WELL = """\
title = "A shallow well"
[landscape]
variables = ["x"]
loss = "(x**2 - 1)**2"
[noise]
kind = "constant"
temperature = 0.25
[grid]
x = { min = -2.0, max = 2.0, cells = 40 }
[regions]
left = "x < 0"
right = "x > 0.8"
[initial]
point = [-1.0]
[observables]
distance = "abs(x + 1)"
[evolve]
until = 1.0
save = 4
tolerance = 1e-3
watch = ["left"]
[stationary]
[escape]
start = [-1.0]
valley = "left"
target = "right"
[expect]
"stationary.mean.0" = { value = 0.0, absolute = 1e-9, source = "symmetry" }
"""
# A relaxation time of exp(1250): fine as a case, beyond the spectrum.
DEEP = """\
[landscape]
variables = ["x"]
loss = "(x**2 - 1)**2"
[noise]
kind = "constant"
temperature = 0.0008
[grid]
x = { min = -2.0, max = 2.0, cells = 400 }
[spectrum]
"""
ONE_GRID = ("--set", "escape.grids=1")
SGD = """\
[landscape]
variables = ["x", "y"]
loss = "0.5*x**2 + y**2"
[noise]
kind = "hessian"
learning_rate = 0.1
batch_size = 4
[grid]
x = { min = -2.0, max = 2.0, cells = 10 }
y = { min = -2.0, max = 2.0, cells = 10 }
[walls]
x = ["reflecting", "absorbing"]
[initial]
gaussian = { mean = [0.0, 0.0], width = 0.5 }
[evolve]
times = [0.5]
tolerance = 1e-3
"""


@pytest.fixture
def well(tmp_path: Path) -> Path:
    path = tmp_path / "well.toml"
    path.write_text(WELL, encoding="utf-8")
    return path


def invoke(*arguments: object) -> Result:
    """Run a command; anything but a proper exit counts as a crash."""
    result = CliRunner().invoke(cli.main, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def quick(case: Path, *arguments: object) -> Result:
    return invoke("run", case, "--no-figures", "--output", case.parent / "out", *arguments)


def no_constant(text: str) -> None:
    pytest.fail(f"{text} is not JSON")


def record_of(result: Result) -> dict[str, Any]:
    """The one JSON object on standard output."""
    assert result.stdout.endswith("}\n")
    assert result.stdout.count("\n") == 1
    return json.loads(result.stdout, parse_constant=no_constant)


def numbers(value: object) -> list[float]:
    if isinstance(value, dict):
        return [number for entry in value.values() for number in numbers(entry)]
    if isinstance(value, list):
        return [number for entry in value for number in numbers(entry)]
    return [value] if isinstance(value, float) else []


# --- run


def test_run_prints_the_page(well):
    result = quick(well)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "well   1-D, 40 cells, temperature 0.25"
    assert lines[1].startswith("  generator   3-point lattice, longest offset 1, cell Peclet ")
    assert lines[2].startswith("  at rest     P(left) = 0.5   P(right) = ")
    assert re.match(r"  in time     t = 0 … 1, (implicit|stabilised|exponential) \(.+\), \d+ steps?, ", lines[3])
    table = "\n".join(lines[5:24])
    for words in ("Escape from -1 into right", "mean first-passage time", "flux over population", "Kramers",
                  "valley flux over population (left)", "exact integral", "log10 time", "vs first"):  # fmt: skip
        assert words in table
    assert any(line.startswith("Expect   ok   stationary.mean.0 = ") and "symmetry" in line for line in lines)
    assert any(line.startswith("Checks   mass ") for line in lines)
    assert f"Files    well.nc  in {well.parent / 'out'}" in lines
    assert lines[-1].startswith("Done in ")


def test_progress_goes_to_standard_error(well):
    result = quick(well)
    stages = [line for line in result.stderr.splitlines() if not line.endswith("%")]
    assert stages == [
        f"fpsolve: {stage}"
        for stage in ("generator", "density at rest", "density in time", "escape", "basins and paths", "files")
    ]
    shares = [line for line in result.stderr.splitlines() if line.endswith("%")]
    tenths = [int(line.removeprefix("fpsolve: density in time ").removesuffix(" %")) for line in shares]
    assert {50, 100} <= set(tenths) <= set(range(10, 110, 10)), "the saved times, and steps between them"
    assert tenths == sorted(set(tenths)), "none twice"


def test_on_a_terminal_progress_is_a_bar(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    progress = cli._Progress()
    progress("generator", 0.0)
    assert sys.stderr.getvalue().endswith("\rgenerator ...")
    progress("density in time", 0.25)
    progress("density in time", 1.0)
    assert progress.bar.n == 100
    assert "density in time: 100%|" in str(progress.bar)
    progress.close()
    assert sys.stderr.getvalue().split("\r")[-2].isspace(), "the bar is taken away"


def test_files_are_written_and_named(well):
    assert quick(well).exit_code == 0
    assert sorted(path.name for path in (well.parent / "out").iterdir()) == ["well.nc"]


def test_figures_are_drawn_unless_unwanted(well):
    result = invoke("run", well, "--json", "--output", well.parent / "new" / "deep")
    assert result.exit_code == 0
    files = record_of(result)["files"]
    assert files["result"] == str(well.parent / "new" / "deep" / "well.nc")
    assert len(files["figures"]) >= 3
    for figure in files["figures"]:
        assert Path(figure).read_bytes().startswith(b"\x89PNG")


def test_files_go_to_the_working_directory_when_nothing_is_said(well, monkeypatch):
    monkeypatch.chdir(well.parent)
    assert invoke("run", "well.toml", "--no-figures").exit_code == 0
    assert Path("well.nc").exists()


def test_overrides(well):
    record = record_of(
        quick(well, "--json", "--set", "grid.x.cells=20", "--set", "title=Other", "--set", "evolve.save=2")
    )
    assert record["evolve"]["times"] == [0.0, 0.5, 1.0]


# --- --json

TIME = {"value", "extrapolated", "log10", "error", "order"}


def test_json_has_the_keys_of_the_contract(well):
    result = quick(well, "--json")
    assert result.exit_code == 0
    record = record_of(result)
    assert list(record) == ["case", "outcome", "seconds", "warnings", "error", "invariants", "stationary", "evolve",
                            "escape", "expect", "files"]  # fmt: skip
    assert (record["case"], record["outcome"], record["warnings"], record["error"]) == ("well", "done", [], None)
    assert set(record["invariants"]) == {
        "mass_error", "smallest_density", "flux_balance", "tail_mass", "detailed_balance"
    }  # fmt: skip
    assert set(record["stationary"]) == {
        "mean",
        "covariance",
        "regions",
        "observables",
        "current",
        "entropy_production",
    }
    assert set(record["stationary"]["observables"]) == {"loss", "distance"}
    assert set(record["stationary"]["regions"]) == {"left", "right"}
    evolve = record["evolve"]
    assert set(evolve) == {
        "times",
        "steps",
        "mass",
        "mean",
        "covariance",
        "observables",
        "absorbed",
        "regions",
        "relative_entropy",
        "first_passage",
        "stepper",
    }
    assert evolve["steps"] is None
    assert evolve["first_passage"] is None, "nothing leaves"
    assert len(evolve["relative_entropy"]) == 5
    assert set(evolve["regions"]) == {"left"}
    assert {len(series) for series in evolve["regions"]["left"].values()} == {5}
    escape = record["escape"]
    assert set(escape) == {
        "mean_first_passage_time", "flux_over_population", "valley_flux_over_population", "quasi_stationary",
        "running_flux", "transition_path", "theory", "chosen", "basins", "paths", "assumptions",
    }  # fmt: skip
    assert set(escape["mean_first_passage_time"]) == {*TIME, "standard_deviation"}
    assert set(escape["flux_over_population"]) == TIME
    xie = escape["theory"].pop("xie")
    assert set(escape["theory"]) == {
        "kramers", "eyring_kramers", "langer", "irreversible_eyring_kramers", "low_noise", "exact_integral",
    }  # fmt: skip
    assert set(xie) == {"ito", "stratonovich", "isothermal", "s"}
    for form in [*escape["theory"].values(), *(xie[name] for name in ("ito", "stratonovich", "isothermal"))]:
        assert set(form) == {"value", "log10", "relative_difference", "applies", "reason"}
    assert record["expect"] == [
        {"what": "stationary.mean.0", "found": record["stationary"]["mean"][0], "wanted": 0.0, "passed": True}
    ]
    assert record["files"] == {"result": str(well.parent / "out" / "well.nc"), "figures": []}


def test_json_numbers_are_finite_and_progress_stays_outside(well):
    result = quick(well, "--json")
    assert numbers(record_of(result))
    assert "fpsolve: escape" in result.stderr


def test_json_of_sgd_with_an_absorbing_wall(well):
    well.write_text(SGD)
    record = record_of(quick(well, "--json"))
    assert record["evolve"]["steps"] == [0.0, pytest.approx(5.0)]
    assert list(record["evolve"]["absorbed"]) == ["x_max"]
    assert record["invariants"]["detailed_balance"] is None
    assert "stationary" not in record
    assert "escape" not in record


def test_numbers_that_json_cannot_hold_become_null():
    text = cli._json({"a": [float("nan"), (float("inf"), 1.0)], "b": {"c": -float("inf")}})
    assert json.loads(text, parse_constant=no_constant) == {"a": [None, [None, 1.0]], "b": {"c": None}}


def test_warnings_are_told_in_both_forms(well):
    shares = ("--set", "grid.x={min = -1.5, max = 1.5, cells = 20}", "--set", "noise.temperature=2.0", *ONE_GRID)
    (warning,) = record_of(quick(well, "--json", *shares))["warnings"]
    assert warning["code"] == "walls_matter"
    assert warning["message"].endswith(
        "% of the probability at rest sits in the cells beside the walls; widen the box unless the walls are meant"
    )
    assert f"Warning  {warning['message']}" in quick(well, *shares).stdout.splitlines()


# --- exit codes


def test_a_missed_expectation_exits_with_1(well):
    well.write_text(WELL.replace("value = 0.0", "value = 0.5"))
    result = quick(well, "--json")
    assert result.exit_code == 1
    record = record_of(result)
    assert (record["outcome"], record["error"]) == ("failed", None)
    assert [check["passed"] for check in record["expect"]] == [False]
    page = quick(well)
    assert page.exit_code == 1
    assert "Expect   MISS stationary.mean.0 = " in page.stdout
    assert page.stdout.splitlines()[-1].startswith("Failed in ")


def test_a_failed_run_exits_with_1_and_says_what_to_do(well):
    well.write_text(DEEP)
    result = quick(well, "--json")
    assert result.exit_code == 1
    record = record_of(result)
    assert record["outcome"] == "failed"
    assert set(record["error"]) == {"where", "found", "required", "remedy"}
    assert record["error"]["where"] == "spectrum"
    assert result.stderr.splitlines()[-1].startswith("Error: ")
    assert not (well.parent / "out" / "well.nc").exists()
    page = quick(well)
    assert (page.exit_code, page.stdout) == (1, "")


def test_a_failed_spectrum_does_not_take_the_escape_with_it(well):
    well.write_text(DEEP + "[escape]\n")
    result = quick(well, "--json")
    assert result.exit_code == 0
    record = record_of(result)
    assert "no_spectrum" in [warning["code"] for warning in record["warnings"]]
    assert record["escape"]["mean_first_passage_time"]["log10"] > 540.0


def test_bad_input_exits_with_2_in_both_forms(well):
    well.write_text(WELL.replace("cells", "cels"))
    message = 'unknown key "cels". Known: min, max, cells, scale, centre, refine. Did you mean "cells"?'
    page = quick(well)
    assert (page.exit_code, page.stdout) == (2, "")
    assert page.stderr == f"Error: {well} line 9, grid.x.cels: {message}\n"
    result = quick(well, "--json")
    assert result.exit_code == 2
    record = record_of(result)
    assert record["error"] == {
        "where": f"{well} line 9, grid.x.cels",
        "found": 'unknown key "cels"',
        "required": "Known: min, max, cells, scale, centre, refine",
        "remedy": ' Did you mean "cells"?',
    }
    assert (record["case"], record["outcome"], record["expect"]) == ("well", "failed", [])
    assert record["files"] == {"result": None, "figures": []}
    assert set(record["invariants"].values()) == {None}
    assert result.stderr == page.stderr


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("absent.toml", None, "there is no such file. "),
        ("latin.toml", b'title = "M\xfcnchen"', "it is not UTF-8 text (byte 0xfc in line 1). "),
        ("binary.toml", bytes(range(256)), "it is not valid TOML: "),
        ("broken.toml", b"[landscape\n", "it is not valid TOML: "),
        ("unquoted.toml", b"[landscape]\nloss = x**2\n", "it is not valid TOML: Invalid value (at line 2, column 8). "),
        ("empty.toml", b"", "the table [landscape] is missing. "),
        ("page.html", b"<!DOCTYPE html>\n<html></html>\n", "it is not valid TOML: "),
        ("case.json", b'{"landscape": {}}', "it is not valid TOML: "),
        (".", None, "it cannot be read (Is a directory). "),
    ],
)
def test_files_that_are_no_cases(file, content, message, tmp_path):
    path = tmp_path / file
    if content is not None:
        path.write_bytes(content[:128] if file == "binary.toml" else content)
    for command in ("run", "check"):
        result = invoke(command, path)
        assert (result.exit_code, result.stdout) == (2, "")
        assert result.stderr.startswith(f"Error: {path}: {message}")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_file_without_permission(well):
    well.chmod(0)
    result = quick(well)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {well}: it cannot be read (Permission denied). ")


@pytest.mark.parametrize("below", ["plain", "plain/deeper", "plain/deeper/still"])
def test_an_output_directory_that_cannot_be_written(below, well):
    (well.parent / "plain").write_text("a file")
    output = well.parent / below
    reason = os.strerror(errno.EEXIST if below == "plain" else errno.ENOTDIR)
    result = invoke("run", well, "--json", "--output", output)
    assert result.exit_code == 2
    message = f"Error: --output {output}: it cannot be written ({reason}). It must be a directory. Choose another."
    assert result.stderr.splitlines()[-1] == message
    assert record_of(result)["error"]["where"] == f"--output {output}"


def test_a_full_disk_is_a_failed_run(well, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("fpsolve.present.figures.draw_figures", full)
    result = invoke("run", well, "--output", well.parent / "out")
    assert result.exit_code == 1
    place = f"Error: {well.parent / 'out'}: the figures cannot be written (No space left on device). "
    assert result.stderr.splitlines()[-1] == place + "Free some space, or run with --no-figures."


def test_running_out_of_memory_is_a_failed_run(well, monkeypatch):
    def hungry(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(pipeline, "stationary", hungry)
    result = quick(well)
    assert result.exit_code == 1
    message = "Error: run: the memory of the machine ran out. Use fewer cells or saved times."
    assert result.stderr.splitlines()[-1] == message


@pytest.mark.parametrize("command", ["run", "check"])
def test_too_large_a_grid_is_refused_before_anything_is_made(command, well, monkeypatch):
    """5000 cubed cells: the numbers at once, instead of a machine that swaps."""
    monkeypatch.setattr(pipeline.Generator, "of", lambda _: pytest.fail("the generator was made"))
    monkeypatch.setattr("fpsolve.case.Problem", lambda *_: pytest.fail("the problem was made"))
    text = WELL.replace('["x"]', '["x", "y", "z"]').replace(
        "cells = 40 }",
        "cells = 5000 }\ny = { min = -2.0, max = 2.0, cells = 5000 }\nz = { min = 0, max = 1, cells = 5000 }",
    )
    well.write_text(text)
    result = invoke(command, well)
    assert (result.exit_code, result.stdout) == (2, "")
    said = result.stderr.splitlines()[-1]
    assert said.startswith(f"Error: {well} line 8, grid: 5000 x 5000 x 5000 cells need about ")
    assert f" GiB. This machine has {memory_of_machine() / 2**30:.3g} GiB. Use about " in said


# --- check


def test_check_looks_ahead(well):
    result = invoke("check", well)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "well   could be finer"
    assert lines[1].startswith("  generator   3-point lattice, ")
    assert lines[2] == "  diffusion   positive definite in every cell, smallest eigenvalue 0.25"
    assert lines[3].startswith("  resolution  cells across the narrowest feature: x ")
    assert "; enough would be x " in lines[3]
    assert lines[4].startswith("  memory      about ")
    assert f" MiB of {memory_of_machine() / 2**20:.0f} MiB" in lines[4]
    assert lines[5].startswith("  time        about ")


def test_check_of_a_fine_grid(well):
    lines = invoke("check", well, "--set", "grid.x.cells=100").stdout.splitlines()
    assert lines[0] == "well   fine"
    assert lines[3].endswith("; enough would be x 100")


def test_check_writes_nothing_and_runs_nothing(well, monkeypatch):
    for name in ("stationary", "evolve", "refine"):
        monkeypatch.setattr(pipeline, name, lambda *_, **__: pytest.fail("it was run"))
    assert invoke("check", well).exit_code == 0
    assert list(well.parent.iterdir()) == [well]


def test_check_of_a_flat_landscape_has_no_feature_to_resolve(well):
    text = WELL[: WELL.index("[regions]")].replace("(x**2 - 1)**2", "x")
    well.write_text(text)
    assert "  resolution  no well or saddle inside" in invoke("check", well).stdout.splitlines()


def test_check_in_three_dimensions(repository):
    result = invoke(
        "check", repository / "cases" / "well-3d.toml", "--set", "grid.x.cells=12", "--set", "grid.y.cells=10"
    )
    assert result.exit_code == 0
    assert result.stdout.startswith("well-3d   under-resolved\n")
    resolution = result.stdout.splitlines()[3]
    assert all(f"{name} " in resolution for name in "xyz")


def test_check_of_several_names_every_bad_one(well):
    bad = well.with_name("bad.toml")
    bad.write_text(WELL.replace("constant", "constnat"))
    worse = well.with_name("worse.toml")
    worse.write_text(WELL.replace("start = [-1.0]", "start = [1.0]"))
    result = invoke("check", bad, well, worse)
    assert result.exit_code == 2
    assert result.stdout.startswith("well   could be finer\n")
    assert [line.split(",")[0] for line in result.stderr.splitlines()] == [
        f"Error: {bad} line 6",
        f"Error: {worse} line 24",
    ]


def test_check_with_an_override(well):
    result = invoke("check", well, "--set", "noise.temperature=hot")
    assert result.exit_code == 2
    assert result.stderr == (
        'Error: --set noise.temperature: "hot" is not a known name. Allowed are numbers, + - * / **, the names t, k, '
        "pi and the functions abs, cos, cosh, erf, exp, heaviside, log, max, min, sign, sin, sinh, sqrt, tan, tanh, "
        "where.\n"
    )


# --- the program itself


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["run", "--help"], ["check", "-h"]])
def test_help(arguments):
    result = invoke(*arguments)
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: ")


def test_converge_prints_a_table_for_every_number(well):
    result = invoke("converge", well, "--set", "grid.x.cells=24")
    assert result.exit_code == 0
    for words in ("mean first passage time", "transition path", "P(left)", "limit", "order", " 24 "):
        assert words in result.stdout
    nothing = invoke("converge", well, "--set", "noise.temperature=-1.0")
    assert (nothing.exit_code, nothing.stdout) == (2, "")


def test_help_names_what_there_is():
    words = invoke("--help").stdout
    assert all(word in words for word in ("run", "check", "converge", "--version"))
    words = invoke("run", "--help").stdout
    assert all(word in words for word in ("--set", "--output", "--json", "--no-figures", "Exit codes: 0 done"))


@pytest.mark.parametrize("arguments", [["run"], ["check"], ["converge"], ["run", "a", "b"], ["run", "a", "--jason"]])
def test_wrong_usage_exits_with_2(arguments):
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr


def program(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fpsolve", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, **options)


def test_the_module_is_the_program():
    done = program("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"fpsolve, version {__version__}\n", "")


def test_a_real_process(well):
    done = program("run", well, "--json", "--no-figures", cwd=well.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    assert json.loads(done.stdout, parse_constant=no_constant)["outcome"] == "done"
    assert all(line.startswith("fpsolve: ") for line in done.stderr.splitlines()), "nothing but progress"
    assert (well.parent / "well.nc").exists()


def test_a_real_process_with_a_mistake_in_it(well):
    well.write_text(WELL.replace("(x**2 - 1)**2", "log(x)"))
    done = program("run", well, cwd=well.parent)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        f"Error: {well} line 4, landscape.loss: it is nan in cell (0) at x = "
    )
