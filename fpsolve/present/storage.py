"""The result file: NetCDF-4 with everything in it, written whole or not at all."""

from __future__ import annotations

import io
import math
import os
from pathlib import Path
from typing import Any, final

import h5netcdf
import numpy as np

from fpsolve.analyse.escape import EscapeTime
from fpsolve.analyse.watershed import OUTSIDE
from fpsolve.errors import CaseError, RunError
from fpsolve.model.grid import FloatArray, Grid, in_pieces
from fpsolve.model.problem import Problem
from fpsolve.present.datasets import write, write_analyses, write_vector
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


def result_path(directory: Path, name: str) -> Path:
    """Where the result of a case goes."""
    return directory / f"{name}.nc"


def write_result(report: Report, path: Path, case_text: str, *, under_way: bool = False) -> None:
    """Write a report to a NetCDF-4 file, through a temporary file beside it. under_way: whether the run goes on.

    Coordinates are named after the variables (cell centres, with bounds) and `time`; those of a turned grid are axis_1,
    ..., and the variables are coordinates over them. Variables are named as in the
    documentation; the resolved case, the version, the outcome and the invariants are attributes of the root.

    Raises RunError when the disk refuses.
    """
    assert report.generator is not None
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with _Sink(temporary) as sink, h5netcdf.File(sink, "w") as file:
            _write_root(file, report, case_text, "under way" if under_way else report.outcome)
            _write_grid(file, report.generator.grid)
            _write_problem(file, report.generator.problem)
            write_analyses(file, report)
            _blank_outside(file, report.generator.grid)
            _name_positions(file, report.generator.grid)
        os.replace(temporary, path)
    except OSError as error:
        found = f"the result cannot be written ({error.strerror or error})"
        kept = "The file is as it was at the last save" if path.exists() else ""
        raise RunError(str(path), found, kept, "Free some space") from None
    finally:
        temporary.unlink(missing_ok=True)


@final
class _Sink(io.FileIO):
    """A file that holds back the first error of the disk until it is closed.

    HDF5 that cannot write what it has promised cannot close its file either, and brings the process down at its end.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "w+")
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        """Write everything, or remember why not."""
        rest = memoryview(content).cast("B")
        size = rest.nbytes
        try:
            while rest.nbytes and self.error is None:
                rest = rest[super().write(rest) :]
        except OSError as error:
            self.error = error
        return size

    def truncate(self, size: int | None = None) -> int:
        """Change the size, or remember why not."""
        try:
            return super().truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size or 0

    def __exit__(self, *_: object) -> None:
        self.close()
        if self.error is not None:
            raise self.error


def remove_leftovers(path: Path) -> None:
    """Remove temporary files beside a result that runs which were killed have left."""
    for leftover in path.parent.glob(f".{path.name}.*"):
        owner = leftover.suffix[1:]
        if owner.isdecimal() and not _is_alive(int(owner)):
            leftover.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _write_root(file: Any, report: Report, case_text: str, outcome: str) -> None:
    record = report.as_record()
    file.attrs["title"] = report.title
    file.attrs["case"] = case_text
    file.attrs["outcome"] = outcome
    file.attrs["fpsolve_version"] = __version__
    file.attrs["numpy_version"] = np.__version__
    file.attrs["Conventions"] = "CF-1.10"
    if report.witness is not None:
        file.attrs["seed"] = report.witness.ensemble.seed
    for name, value in record["invariants"].items():
        if value is not None:
            file.attrs[name] = value
    for name, time in {} if report.escape is None else report.escape.times.items():
        _write_time(file, f"escape_{name}", time)
    if report.escape is not None and report.escape.running is not None:
        file.attrs["escape_running_flux_onset"] = report.escape.running.onset


def _write_time(file: Any, name: str, time: EscapeTime) -> None:
    """An escape time and its error, as far as they are finite, as attributes of the root."""
    values = {"": time.value, "_log10": time.log10, "_standard_deviation": time.standard_deviation}
    if time.estimate is not None:
        values |= {"_extrapolated": time.estimate.extrapolated, "_error": time.estimate.error}
    for ending, value in values.items():
        if value is not None and math.isfinite(value):
            file.attrs[f"{name}{ending}"] = value


def _write_grid(file: Any, grid: Grid) -> None:
    file.dimensions = {**dict(zip(grid.names, grid.shape, strict=True)), "bound": 2}
    for number, axis in enumerate(grid.axes):
        words = axis.name if grid.frame is None else f"{grid.frame.words(number, axis.name)},"
        units = axis.name if grid.frame is None else "length"
        write(file, axis.name, (axis.name,), axis.centres, f"{words} at cell centres", units)
        attributes = file.variables[axis.name].attrs
        attributes["bounds"] = f"{axis.name}_bounds"
        if grid.frame is not None:
            attributes["origin"], attributes["direction"] = grid.frame.at, grid.frame.directions[number]
        bounds = np.stack([axis.faces[:-1], axis.faces[1:]], axis=1)
        write(file, f"{axis.name}_bounds", (axis.name, "bound"), bounds, f"{axis.name} at cell faces", units)
    if grid.frame is not None:
        for variable, values in zip(grid.variables, grid.positions(), strict=True):
            write(file, variable, grid.names, grid.shaped(values), f"{variable} at cell centres", variable)


def _name_positions(file: Any, grid: Grid) -> None:
    """On a turned grid, say of everything over the grid that the variables are its coordinates (CF-1.10, 5)."""
    for name, variable in {} if grid.frame is None else file.variables.items():
        if name not in grid.variables and set(grid.names) <= set(variable.dimensions):
            variable.attrs["coordinates"] = " ".join(grid.variables)


def _blank_outside(file: Any, grid: Grid) -> None:
    """Outside the domain there is no number, and no basin."""
    if grid.parts is None:
        return
    inside = grid.parts.inside.reshape(grid.shape)
    for variable in file.variables.values():
        if tuple(variable.dimensions[-grid.dimensions :]) == grid.names:
            nothing = np.nan if variable.dtype.kind == "f" else OUTSIDE
            variable[...] = np.where(inside, variable[...], nothing)


def _write_problem(file: Any, problem: Problem) -> None:
    grid, positions = problem.grid, problem.grid.positions()
    names = grid.names
    if problem.landscape.loss is not None:
        write(file, "loss", names, grid.shaped(problem.landscape.loss(positions)), "loss", "loss")
    divergence = problem.diffusion.divergence(positions)
    noise_drift = problem.diffusion.noise_drift(positions)
    vectors = {
        "drift": (problem.landscape.drift(positions), "drift as given"),
        "noise_gradient_drift": (-divergence, "noise-gradient drift, minus the divergence of the diffusion"),
        "convention_drift": (noise_drift + divergence, "Ito drift minus the given drift"),
    }
    for name, (values, words) in vectors.items():
        write_vector(file, name, names, grid.shaped(values), words, "{axis}/time", grid.variables)
    _write_matrix(file, grid, problem.diffusion_at_cells, "diffusion", "diffusion", "{0}*{1}/time")
    if (covariance := problem.landscape.gradient_covariance) is not None:
        words, units = "covariance over the data of the gradients of single examples", "loss**2/({0}*{1})"
        _write_matrix(file, grid, in_pieces(covariance, positions), "gradient_covariance", words, units)
        if problem.landscape.examples is not None:
            file.attrs["examples"] = problem.landscape.examples


def _write_matrix(file: Any, grid: Grid, values: FloatArray, name: str, words: str, units: str) -> None:
    """The upper triangle of a symmetric matrix (axes, axes, cells)."""
    for row, first in enumerate(grid.variables):
        for column in range(row, grid.dimensions):
            second = grid.variables[column]
            component, described = grid.shaped(values[row, column]), f"{words}, component {first}, {second}"
            write(file, f"{name}_{first}{second}", grid.names, component, described, units.format(first, second))
