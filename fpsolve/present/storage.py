"""The result file: NetCDF-4 with everything in it, written whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5netcdf
import numpy as np

from fpsolve.errors import CaseError, RunError
from fpsolve.model.grid import FloatArray, Grid
from fpsolve.model.problem import Problem
from fpsolve.present.report import Report
from fpsolve.version import __version__


def make_directory(directory: Path) -> None:
    """Make an output directory. Raises CaseError when it cannot be made or written."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / f".fpsolve-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        found = f"it cannot be written ({error.strerror})"
        raise CaseError(f"--output {directory}", found, "It must be a directory", "Choose another") from None


def write_result(report: Report, path: Path, case_text: str) -> None:
    """Write a report to a NetCDF-4 file, through a temporary file beside it.

    Coordinates are named after the variables (cell centres, with bounds) and `time`; variables as in the
    documentation; the resolved case, the version, the outcome and the invariants are attributes of the root.

    Raises RunError when the disk refuses.
    """
    assert report.generator is not None
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with h5netcdf.File(temporary, "w") as file:
            _write_root(file, report, case_text)
            _write_grid(file, report.generator.grid)
            _write_problem(file, report.generator.problem)
            _write_analyses(file, report)
        os.replace(temporary, path)
    except OSError as error:
        found = f"the result cannot be written ({error.strerror or error})"
        raise RunError(str(path), found, "", "Free some space") from None
    finally:
        temporary.unlink(missing_ok=True)


def _write_root(file: Any, report: Report, case_text: str) -> None:
    record = report.as_record()
    file.attrs["title"] = report.title
    file.attrs["case"] = case_text
    file.attrs["outcome"] = report.outcome
    file.attrs["fpsolve_version"] = __version__
    file.attrs["numpy_version"] = np.__version__
    file.attrs["Conventions"] = "CF-1.10"
    for name, value in record["invariants"].items():
        if value is not None:
            file.attrs[name] = value
    for name, time in record.get("escape", {}).items():
        if isinstance(time, dict) and isinstance(time.get("value"), float):
            file.attrs[f"escape_{name}"] = time["value"]


def _write_grid(file: Any, grid: Grid) -> None:
    file.dimensions = {**dict(zip(grid.names, grid.shape, strict=True)), "bound": 2}
    for axis in grid.axes:
        _write(file, axis.name, (axis.name,), axis.centres, f"{axis.name} at cell centres", axis.name)
        file.variables[axis.name].attrs["bounds"] = f"{axis.name}_bounds"
        bounds = np.stack([axis.faces[:-1], axis.faces[1:]], axis=1)
        _write(file, f"{axis.name}_bounds", (axis.name, "bound"), bounds, f"{axis.name} at cell faces", axis.name)


def _write_problem(file: Any, problem: Problem) -> None:
    grid, positions = problem.grid, problem.grid.positions()
    names = grid.names
    if problem.landscape.loss is not None:
        _write(file, "loss", names, grid.shaped(problem.landscape.loss(positions)), "loss", "loss")
    divergence = problem.diffusion.divergence(positions)
    noise_drift = problem.diffusion.noise_drift(positions)
    vectors = {
        "drift": (problem.landscape.drift(positions), "drift as given"),
        "noise_gradient_drift": (-divergence, "noise-gradient drift, minus the divergence of the diffusion"),
        "convention_drift": (noise_drift + divergence, "Ito drift minus the given drift"),
    }
    for name, (values, words) in vectors.items():
        _write_vector(file, name, names, grid.shaped(values), words, "{axis}/time")
    for row, first in enumerate(names):
        for column in range(row, len(names)):
            second = names[column]
            values = grid.shaped(problem.diffusion_at_cells[row, column])
            words = f"diffusion, component {first}, {second}"
            _write(file, f"diffusion_{first}{second}", names, values, words, f"{first}*{second}/time")


def _write_analyses(file: Any, report: Report) -> None:
    assert report.generator is not None
    grid = report.generator.grid
    names, volume = grid.names, "*".join(grid.names)
    flow = "{axis}/(time*" + volume + ")"
    if (rest := report.rest) is not None:
        _write(file, "stationary_density", names, grid.shaped(rest.density), "density at rest", f"1/({volume})")
        current = grid.shaped(rest.current)
        _write_vector(file, "stationary_current", names, current, "probability current at rest", flow)
    if (escape := report.escape) is not None:
        times = grid.shaped(escape.mean_first_passage_time)
        words = f"mean first-passage time into {escape.target.name}"
        _write(file, "mean_first_passage_time", names, times, words, "time")
        words = "density while as much enters at the start as leaves through the target"
        _write(file, "escape_density", names, grid.shaped(escape.density), words, f"1/({volume})")
        _write_vector(file, "escape_current", names, grid.shaped(escape.current), "current of the escape_density", flow)
    if (motion := report.motion) is not None:
        file.dimensions["time"] = motion.times.size
        along = ("time", *names)
        _write(file, "time", ("time",), motion.times, "time", "time")
        _write(file, "density", along, grid.shaped(motion.density), "probability density", f"1/({volume})")
        current = grid.shaped(np.moveaxis(motion.current, 1, 0))
        _write_vector(file, "current", along, current, "probability current", flow)
        _write_series(file, motion.steps, "steps", "SGD steps", "1")
        _write_series(file, motion.mass, "mass", "probability inside", "1")
        groups: tuple[tuple[str, str, str, Mapping[str, FloatArray]], ...] = (
            ("absorbed", "probability gone through", "1", motion.absorbed),
            ("mean", "mean of", "", motion.observables),
            ("occupation", "probability in", "1", motion.occupation),
            ("flux", "net probability current out of", "1/time", motion.flux),
        )
        for prefix, words, units, series in groups:
            for name, values in series.items():
                _write_series(file, values, f"{prefix}_{_in_one_piece(name)}", f"{words} {name}", units or name)


def _in_one_piece(name: str) -> str:
    """A region's name as part of a variable's; in HDF5 a slash would open a group."""
    return name.replace("/", "\N{DIVISION SLASH}")


def _write_series(file: Any, values: FloatArray | None, name: str, words: str, units: str) -> None:
    if values is not None:
        _write(file, name, ("time",), values, words, units)


def _write_vector(file: Any, name: str, names: tuple[str, ...], values: FloatArray, words: str, units: str) -> None:
    """One variable per component; values has the component first."""
    axes = [axis for axis in names if axis != "time"]
    for axis, component in zip(axes, values, strict=True):
        _write(file, f"{name}_{axis}", names, component, f"{words}, component {axis}", units.format(axis=axis))


def _write(file: Any, name: str, names: tuple[str, ...], values: FloatArray, words: str, units: str) -> None:
    variable = file.create_variable(name, names, data=np.ascontiguousarray(values), dtype="f8")
    variable.attrs["long_name"] = words
    variable.attrs["units"] = units
