"""Runs that are interrupted: what is on disk, and how they go on."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import h5netcdf
import numpy as np
import pytest
import xarray
from click.testing import CliRunner

import fpsolve
from fpsolve import CaseError, RunError, cli
from fpsolve.case import load_case, parse_case
from fpsolve.present import checkpoint, storage

PLAIN = """
[landscape]
variables = ["x"]
loss = "(x**2 - 1)**2"
[noise]
kind = "constant"
temperature = 0.3
[grid]
x = { min = -2.0, max = 2.0, cells = 16 }
[initial]
point = [-1.0]
[observables]
distance = "abs(x + 1)"
[evolve]
until = 2.0
save = 10
tolerance = 1e-3
stepper = "implicit"
watch = ["x < 0"]
"""
ABSORBING = PLAIN.replace("[initial]", '[walls]\nx = ["reflecting", "absorbing"]\n[initial]').replace(
    "watch", 'absorb = ["x > 0.9 and x < 1.5"]\nwatch'
)
STAGED = PLAIN.replace(
    "temperature = 0.3", "temperature = [{ time = 0.5, value = 0.3 }, { time = 0.75, value = 0.1 }, "
    "{ time = 1, value = 0.4 }]",
)  # fmt: skip
SMOOTH = PLAIN.replace("temperature = 0.3", 'learning_rate = 0.1\ntemperature = "0.3/(1 + k/10)"').replace(
    "(x**2 - 1)**2", "(x**2 - 1 + 0.2*sin(t))**2"
)
# Many saved times from one basis: only the last of them is one to go on from.
EXPONENTIAL = STAGED.replace("implicit", "exponential")
CASES = {"plain": PLAIN, "absorbing": ABSORBING, "stages": STAGED, "smooth": SMOOTH, "exponential": EXPONENTIAL}


@pytest.fixture(autouse=True)
def _no_checkpoint_but_the_last(monkeypatch):
    """Runs that a test interrupts write what there is then: no more files than needed, each takes a tenth of a second.

    That checkpoints are written on the way is seen where a process is killed, and where the disk is full.
    """
    monkeypatch.setattr(checkpoint, "SHORTEST_WAIT", 1e9)


def written(text: str, folder: Path, name: str = "well") -> Path:
    path = folder / f"{name}.toml"
    path.write_text(text)
    return path


def run(path: Path, **options):
    return fpsolve.run(path, output=path.parent / "out", figures=False, **options)


def stop_at(share: float):
    """A progress callback: Ctrl-C at a share of the way."""

    def progress(stage: str, done: float) -> None:
        if stage == "density in time" and done >= share:
            raise KeyboardInterrupt

    return progress


def interrupted(path: Path, share: float, **options) -> RunError:
    with pytest.raises(RunError) as caught:
        run(path, progress=stop_at(share), **options)
    return caught.value


def contents(folder: Path) -> dict[str, np.ndarray]:
    with h5netcdf.File(folder / "out" / "well.nc") as file:
        return {name: np.asarray(variable) for name, variable in file.variables.items()}


# --- interrupted, and on again


@pytest.mark.parametrize("text", CASES.values(), ids=CASES)
@pytest.mark.parametrize("share", [0.25, 0.999])
def test_a_resumed_run_is_the_uninterrupted_one(text, share, tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    whole.mkdir()
    parts.mkdir()
    wanted = run(written(text, whole)).motion
    path = written(text, parts)
    error = interrupted(path, share)
    said = f"evolve: interrupted. {parts / 'out' / 'well.nc'} holds {{}} saved times. Go on with fpsolve run --resume."
    least = int(10 * share) + 1
    assert str(error) in [said.format(saved) for saved in range(least, 12 if text == EXPONENTIAL else least + 1)]
    assert error.exit_code == 1
    found = run(path, resume=True).motion
    # To rounding: the density is stored, not the probability; and limited steps are not affected by it.
    np.testing.assert_allclose(found.probability, wanted.probability, rtol=1e-12, atol=1e-300)
    np.testing.assert_array_equal(found.times, wanted.times)
    for name in wanted.absorbed:
        np.testing.assert_allclose(found.absorbed[name], wanted.absorbed[name], rtol=1e-12)
    assert (found.counts.steps, found.counts.limited, found.counts.rejected) == (
        wanted.counts.steps, wanted.counts.limited, wanted.counts.rejected,
    )  # fmt: skip
    first, second = contents(whole), contents(parts)
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_allclose(second[name], first[name], rtol=1e-9, atol=1e-12, err_msg=name)


def test_the_file_of_an_interrupted_run_can_be_read(tmp_path):
    path = written(ABSORBING, tmp_path)
    interrupted(path, 0.55)
    file = tmp_path / "out" / "well.nc"
    with h5netcdf.File(file) as raw:
        assert raw.attrs["outcome"] == "under way"
        assert raw.attrs["case"] == load_case(path).resolved()
        assert raw.variables["time"].shape == (6,)
    with xarray.open_dataset(file) as data:
        np.testing.assert_allclose(data.time, 0.2 * np.arange(6), rtol=1e-14)
        assert (data.density >= 0.0).all()
        width = 4.0 / 16
        np.testing.assert_allclose(data.density.sum("x") * width, data.mass, rtol=1e-12)
        np.testing.assert_allclose(data.mass + data.absorbed_x_max + data["absorbed_x > 0.9 and x < 1.5"], 1.0)
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["well.nc"], "no temporary files"


def test_resumed_twice_and_once_more_when_all_is_done(tmp_path):
    path = written(STAGED, tmp_path)
    wanted = run(path).motion
    (tmp_path / "out" / "well.nc").unlink()
    assert "holds 3 saved times" in str(interrupted(path, 0.25))
    assert "holds 7 saved times" in str(interrupted(path, 0.65, resume=True))
    found = run(path, resume=True)
    assert found.outcome == "done"
    np.testing.assert_allclose(found.motion.probability, wanted.probability, rtol=1e-12, atol=1e-300)
    assert found.motion.counts.steps == wanted.counts.steps
    again = run(path, resume=True)
    np.testing.assert_allclose(again.motion.probability, wanted.probability, rtol=1e-12, atol=1e-300)
    assert again.motion.counts == found.motion.counts, "nothing was left to do"
    with h5netcdf.File(tmp_path / "out" / "well.nc") as file:
        assert file.attrs["outcome"] == "done"


def test_interrupted_again_before_the_next_saved_time(tmp_path):
    """What was on disk stays there."""
    path = written(PLAIN, tmp_path)
    interrupted(path, 0.55)
    before = (tmp_path / "out" / "well.nc").read_bytes()
    assert "interrupted. " in (said := str(interrupted(path, 1e-9, resume=True)))
    assert "well.nc holds 6 saved times. Go on with fpsolve run --resume." in said
    assert (tmp_path / "out" / "well.nc").read_bytes() == before
    assert run(path, resume=True).motion.times.size == 11


def test_interrupted_before_the_first_saved_time(tmp_path):
    path = written(PLAIN, tmp_path)
    assert str(interrupted(path, 1e-9)) == "evolve: interrupted before the first saved time. Run it again."
    assert not (tmp_path / "out" / "well.nc").exists()
    assert run(path, resume=True).outcome == "done", "resuming without a file begins at the start"


def test_without_an_output_an_interrupt_is_an_interrupt(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fpsolve.run(written(PLAIN, tmp_path), progress=stop_at(0.5))


def test_checkpoints_are_far_apart(tmp_path, monkeypatch):
    """At every saved time, unless they take more than a tenth of the time, or come within a second."""
    path, writes = written(PLAIN.replace("save = 10", "save = 4"), tmp_path), []

    def write(*given, **named):
        writes.append(1)
        storage.write_result(*given, **named)

    monkeypatch.setattr(checkpoint, "write_result", write)
    for shortest, worth, expected in ((0.0, 0.0, 4), (0.0, 1e9, 1), (1e9, 0.0, 0)):
        monkeypatch.setattr(checkpoint, "SHORTEST_WAIT", shortest)
        monkeypatch.setattr(checkpoint, "WORTH", worth)
        writes.clear()
        run(path)
        assert len(writes) == expected


# --- what cannot be resumed


def refused(path: Path, **options) -> str:
    with pytest.raises(CaseError) as caught:
        run(path, resume=True, **options)
    assert caught.value.exit_code == 2
    return str(caught.value)


def test_another_case_is_refused(tmp_path):
    path = written(PLAIN, tmp_path)
    interrupted(path, 0.55)
    file = tmp_path / "out" / "well.nc"
    before = file.read_bytes()
    wanted = (
        f"--resume {file}: it is the result of another case. --resume goes on with the very same case. "
        "Remove the file, or run without --resume."
    )
    assert refused(path, overrides=["noise.temperature=0.2"]) == wanted
    written(PLAIN.replace("tolerance = 1e-3", "tolerance = 1e-4"), tmp_path)
    assert refused(path) == wanted
    assert file.read_bytes() == before
    result = CliRunner().invoke(cli.main, ["run", str(path), "--output", str(tmp_path / "out"), "--resume"])
    assert result.exit_code == 2
    assert result.stderr.endswith(f"Error: {wanted}\n")
    # Comments and blank lines do not make another case.
    written(f"# the same\n{PLAIN}\n", tmp_path)
    assert run(path, resume=True).outcome == "done"


def test_a_file_that_is_no_result_is_refused(tmp_path):
    path = written(PLAIN, tmp_path)
    (tmp_path / "out").mkdir()
    file = tmp_path / "out" / "well.nc"
    file.write_text("no NetCDF")
    assert refused(path).startswith(f"--resume {file}: it cannot be read (")
    assert file.read_text() == "no NetCDF"


def test_resuming_needs_an_output(tmp_path):
    with pytest.raises(CaseError, match=r"^resume: there is no output directory\. An earlier result is needed\."):
        fpsolve.run(written(PLAIN, tmp_path), resume=True)


def test_a_case_without_a_motion_is_just_run_again(tmp_path):
    text = PLAIN[: PLAIN.index("[initial]")] + "[stationary]\n"
    path = written(text, tmp_path)
    first = run(path).rest.probability
    np.testing.assert_array_equal(run(path, resume=True).rest.probability, first)


# --- real signals, to a real process


LONG = PLAIN.replace("cells = 16", "cells = 400").replace("save = 10", "save = 4000").replace("1e-3", "1e-7")


def started(path: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "fpsolve", "run", str(path), "--output", str(path.parent / "out"), "--no-figures",
         *options],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1],
    )  # fmt: skip


def when_written(process: subprocess.Popen[str], file: Path) -> None:
    """Wait for the first checkpoint."""
    deadline = time.monotonic() + 60.0
    while not file.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_a_real_signal(sent, tmp_path):
    """About two seconds of work: the first checkpoint comes after one."""
    path, file = written(LONG, tmp_path), tmp_path / "out" / "well.nc"
    process = started(path)
    when_written(process, file)
    process.send_signal(sent)
    _, said = process.communicate(timeout=60)
    if sent == signal.SIGINT:
        assert process.returncode == 1
        assert "Traceback" not in said
        assert said.splitlines()[-1].startswith(f"Error: evolve: interrupted. {file} holds ")
        assert said.endswith("Go on with fpsolve run --resume.\n")
    else:
        assert process.returncode == -signal.SIGKILL
    with xarray.open_dataset(file) as data:
        assert data.attrs["outcome"] == "under way"
        saved = data.sizes["time"]
    assert 1 < saved < 4001
    process = started(path, "--resume")
    page, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    assert "Done in" in page
    with xarray.open_dataset(file) as data:
        assert data.attrs["outcome"] == "done"
        assert data.sizes["time"] == 4001
    assert [entry.name for entry in (tmp_path / "out").iterdir()] == ["well.nc"]


def test_leftovers_of_killed_runs_are_removed(tmp_path):
    path = written(PLAIN, tmp_path)
    out = tmp_path / "out"
    out.mkdir()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead, alive, other = (out / name for name in (f".well.nc.{gone.pid}", f".well.nc.{os.getppid()}", ".well.nc.bak"))
    for file in (dead, alive, other):
        file.write_text("half a file")
    run(path)
    assert not dead.exists()
    assert alive.exists(), "that of a run which is still there is not ours to remove"
    assert other.exists()


# --- the disk is full


FULL = """
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from fpsolve.present import checkpoint
checkpoint.SHORTEST_WAIT = checkpoint.WORTH = 0.0
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), int(sys.argv[1])))
from fpsolve.cli import main
main(["run", sys.argv[2], "--output", sys.argv[3], "--no-figures"])
"""


def limited(path: Path, limit: int) -> subprocess.CompletedProcess[str]:
    """A run whose files may not grow beyond a size."""
    command = [sys.executable, "-c", FULL, str(limit), str(path), str(path.parent / "out")]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[1])


@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit of this kind")
def test_a_full_disk(tmp_path):
    """The file grows with the saved times; at some time it no longer fits, and the last one that did stays."""
    text = PLAIN.replace("cells = 16", "cells = 300").replace("save = 10", "save = 40")
    path, file = written(text, tmp_path), tmp_path / "out" / "well.nc"
    run(path)
    size = file.stat().st_size
    file.unlink()
    done = limited(path, int(0.7 * size))
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert last == (
        f"Error: {file}: the result cannot be written (File too large). The file is as it was at the last save. "
        "Free some space."
    )
    with xarray.open_dataset(file) as data:
        assert data.attrs["outcome"] == "under way"
        assert 1 < data.sizes["time"] < 41
        assert (data.density >= 0.0).all()
    assert [entry.name for entry in file.parent.iterdir()] == ["well.nc"]
    assert run(path, resume=True).motion.times.size == 41, "and it goes on when there is space again"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, "RLIMIT_FSIZE"), reason="no limit of this kind")
def test_a_full_disk_leaves_an_earlier_result_alone(tmp_path):
    path, file = written(PLAIN, tmp_path), tmp_path / "out" / "well.nc"
    run(path)
    before = file.read_bytes()
    done = limited(path, 4096)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"{file}: the result cannot be written (" in done.stderr
    assert file.read_bytes() == before


# --- [initial] file: another run goes on from where one ended


def continued(text: str, until: float, save: int) -> str:
    """The same case from the file of the first."""
    return text.replace("point = [-1.0]", 'file = "out/well.nc"').replace(
        "until = 2.0\nsave = 10", f"until = {until}\nsave = {save}"
    )


@pytest.mark.parametrize("text", CASES.values(), ids=CASES)
def test_a_run_may_start_where_another_ended(text, tmp_path):
    """One run to t = 2 is a run to t = 1 and another from there: the clock and what was absorbed go on."""
    whole = fpsolve.run(written(text, tmp_path, "whole")).motion
    run(written(text.replace("until = 2.0\nsave = 10", "until = 1.0\nsave = 5"), tmp_path))
    second = fpsolve.run(written(continued(text, 2.0, 5), tmp_path, "second")).motion
    np.testing.assert_allclose(second.times, whole.times[5:], rtol=1e-14)
    # Both keep the tolerance, 1e-3 in L1, and what is left of it is far less.
    assert np.abs(second.probability - whole.probability[5:]).sum(axis=1).max() < 2e-3
    for name, values in whole.absorbed.items():
        np.testing.assert_allclose(second.absorbed[name], values[5:], rtol=0, atol=2e-3)
    assert second.mass_error < 1e-12
    if whole.steps is not None:
        np.testing.assert_allclose(second.steps, whole.steps[5:], rtol=1e-9)
    if whole.absorbed:
        assert second.mass[0] < 1.0
        assert sum(values[0] for values in second.absorbed.values()) == pytest.approx(1.0 - second.mass[0], abs=1e-12)


def test_a_continuation_may_be_interrupted_too(tmp_path):
    run(written(ABSORBING.replace("until = 2.0\nsave = 10", "until = 1.0\nsave = 5"), tmp_path))
    path = written(continued(ABSORBING, 2.0, 5), tmp_path, "second")
    wanted = fpsolve.run(path).motion
    interrupted(path, 0.5)
    found = run(path, resume=True).motion
    np.testing.assert_array_equal(found.times, wanted.times)
    np.testing.assert_allclose(found.probability, wanted.probability, rtol=1e-12, atol=1e-300)
    for name, values in wanted.absorbed.items():
        np.testing.assert_allclose(found.absorbed[name], values, rtol=1e-12)


def test_bad_files_to_start_from(tmp_path):
    run(written(PLAIN, tmp_path))

    def message(text: str) -> str:
        path = written(text, tmp_path, "second")
        with pytest.raises(CaseError) as caught:
            fpsolve.check(path)
        said = str(caught.value)
        line = 1 + text[: text.index("file =")].count("\n") if "until" not in said else None
        assert line is None or said.startswith(f"{path} line {line}, initial.file: "), said
        return said.partition("initial.file: ")[2] or said

    good = continued(PLAIN, 3.0, 5)
    there = tmp_path / "out" / "well.nc"
    assert message(good.replace("cells = 16", "cells = 17")) == (
        f"{there} has other cells along x. The grid must be that of the earlier result. Take over its [grid]."
    )
    assert message(good.replace("max = 2.0", "max = 2.1")).startswith(f"{there} has other cells along x.")
    renamed = good.replace('["x"]', '["y"]').replace("x = {", "y = {").replace("x**2", "y**2")
    renamed = renamed.replace("abs(x", "abs(y").replace("x < 0", "y < 0")
    assert message(renamed).startswith(f"{there} has no axis y.")
    assert message(good.replace("well.nc", "wel.nc")).startswith("there is no file out/wel.nc. It must be a result ")
    (tmp_path / "out" / "text.nc").write_text("no NetCDF")
    assert message(good.replace("well.nc", "text.nc")).startswith(f"{tmp_path / 'out' / 'text.nc'} cannot be read (")
    rest = PLAIN[: PLAIN.index("[initial]")] + "[stationary]\n"
    fpsolve.run(written(rest, tmp_path, "rest"), output=tmp_path / "out", figures=False)
    assert message(good.replace("well.nc", "rest.nc")) == (
        f"{tmp_path / 'out' / 'rest.nc'} holds no density in time. It must be a result file with a density in time. "
        "Run a case with [evolve] first."
    )


def test_a_continuation_must_go_on(tmp_path):
    run(written(PLAIN, tmp_path))
    path = written(continued(PLAIN, 2.0, 5), tmp_path, "second")
    for verb in (fpsolve.check, fpsolve.run):
        with pytest.raises(
            CaseError, match=r"evolve\.until: it is 2\. It must be a finite time above 2, when the start"
        ):
            verb(path)
    times = continued(PLAIN, 2.0, 5).replace("until = 2.0\nsave = 5", "times = [1.0, 3.0]")
    with pytest.raises(
        CaseError, match=r"evolve\.times: the times do not increase\. .*, the first after 2, when the start"
    ):
        fpsolve.check(written(times, tmp_path, "third"))


def test_a_file_beside_the_case_is_found(tmp_path, monkeypatch):
    """From wherever the program runs; and one of the working directory where there is none beside the case."""
    run(written(PLAIN, tmp_path))
    path = written(continued(PLAIN, 3.0, 1), tmp_path, "second")
    monkeypatch.chdir("/")
    assert load_case(path).start.time == pytest.approx(2.0)
    monkeypatch.chdir(tmp_path)
    assert parse_case(tomllib.loads(continued(PLAIN, 3.0, 1)), "second").start.time == pytest.approx(2.0)
