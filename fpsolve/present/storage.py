"""The result file: NetCDF-4 with everything in it, written whole or not at all."""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, final

import h5netcdf
import numpy as np
from numpy.typing import NDArray

from fpsolve.analyse.escape import Escape, EscapeTime
from fpsolve.analyse.motion import Motion
from fpsolve.analyse.path import Path as ProbablePath
from fpsolve.analyse.rest import AtRest
from fpsolve.analyse.spectrum import Spectrum
from fpsolve.analyse.terrain import Terrain
from fpsolve.analyse.watershed import OUTSIDE
from fpsolve.errors import CaseError, RunError
from fpsolve.model.grid import FloatArray, Grid
from fpsolve.model.initial import absorbed_name, in_one_piece
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


def result_path(directory: Path, name: str) -> Path:
    """Where the result of a case goes."""
    return directory / f"{name}.nc"


def write_result(report: Report, path: Path, case_text: str, *, under_way: bool = False) -> None:
    """Write a report to a NetCDF-4 file, through a temporary file beside it. under_way: whether the run goes on.

    Coordinates are named after the variables (cell centres, with bounds) and `time`; variables as in the
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
            _write_analyses(file, report)
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
    if report.rest is not None:
        _write_rest(file, grid, report.rest)
    if report.motion is not None:
        _write_motion(file, grid, report.motion)
    if report.spectrum is not None:
        _write_spectrum(file, grid, report.spectrum)
    if report.escape is not None:
        _write_escape(file, grid, report.escape)
        _write_transition(file, grid, report.escape)
    if report.terrain is not None:
        _write_terrain(file, grid, report.terrain)


def _density_units(grid: Grid) -> str:
    return f"1/({'*'.join(grid.names)})"


def _current_units(grid: Grid) -> str:
    """To be completed with the axis."""
    return "{axis}/(time*" + "*".join(grid.names) + ")"


def _flux_share_units(grid: Grid) -> str:
    """Of a current of total flux 1, to be completed with the axis."""
    return "{axis}/(" + "*".join(grid.names) + ")"


def _write_rest(file: Any, grid: Grid, rest: AtRest) -> None:
    names = grid.names
    _write(file, "stationary_density", names, grid.shaped(rest.density), "density at rest", _density_units(grid))
    current = grid.shaped(rest.current)
    _write_vector(file, "stationary_current", names, current, "probability current at rest", _current_units(grid))


def _write_motion(file: Any, grid: Grid, motion: Motion) -> None:
    file.dimensions["time"] = motion.times.size
    along = ("time", *grid.names)
    _write(file, "time", ("time",), motion.times, "time", "time")
    _write(file, "density", along, grid.shaped(motion.density), "probability density", _density_units(grid))
    current = grid.shaped(np.moveaxis(motion.current, 1, 0))
    _write_vector(file, "current", along, current, "probability current", _current_units(grid))
    _write_series(file, motion.steps, "steps", "SGD steps", "1")
    _write_series(file, motion.mass, "mass", "probability inside", "1")
    _write_moments(file, grid, motion)
    _write_first_passage(file, motion)
    _write_march(file, motion)
    for gate, values in motion.absorbed.items():
        _write_series(file, values, absorbed_name(gate), f"probability gone through {gate}", "1")
    groups: tuple[tuple[str, str, str, Mapping[str, FloatArray]], ...] = (
        ("mean", "mean of", "", motion.observables),
        ("occupation", "probability in", "1", motion.occupation),
        ("flux", "net probability current out of", "1/time", motion.flux),
    )
    for prefix, words, units, series in groups:
        for name, values in series.items():
            _write_series(file, values, f"{prefix}_{in_one_piece(name)}", f"{words} {name}", units or name)


def _write_moments(file: Any, grid: Grid, motion: Motion) -> None:
    """Mean and covariance of the position, and the distance from rest."""
    for row, first in enumerate(grid.names):
        _write_series(file, motion.mean[:, row], f"mean_{first}", f"mean of {first}", first)
        for column in range(row, len(grid.names)):
            second, values = grid.names[column], motion.covariance[:, row, column]
            words = f"covariance of {first} and {second}"
            _write_series(file, values, f"covariance_{first}{second}", words, f"{first}*{second}")
    words = "relative entropy to the density at rest"
    _write_series(file, motion.relative_entropy, "relative_entropy", words, "1")


def _write_first_passage(file: Any, motion: Motion) -> None:
    if (passage := motion.first_passage) is not None:
        _write_series(file, passage.survival, "survival", "share of the probability that has not left", "1")
        words = "density of the first-passage time"
        _write_series(file, passage.density, "first_passage_density", words, "1/time")


def _write_march(file: Any, motion: Motion) -> None:
    """How to go on from the saved times, as JSON."""
    paces = [None if pace is None else asdict(pace) for pace in motion.paces]
    file.attrs["march"] = json.dumps({"choice": asdict(motion.choice), "counts": asdict(motion.counts), "paces": paces})


def _write_spectrum(file: Any, grid: Grid, spectrum: Spectrum) -> None:
    """Modes p(t) = sum over modes of exp(-eigenvalue t) eigendensity(x) <eigenfunction, p(0)>."""
    file.dimensions["mode"] = spectrum.eigenvalues.size
    along, turns = ("mode", *grid.names), np.iscomplexobj(spectrum.eigenvalues)
    parts = {
        "eigenvalue": (("mode",), spectrum.eigenvalues, "rate of decay", "1/time"),
        "eigenfunction": (along, spectrum.functions, "function that decays at that rate", "1"),
        "eigendensity": (along, spectrum.densities, "density that decays at it", _density_units(grid)),
    }
    for name, (dimensions, values, words, units) in parts.items():
        shape = (-1, *grid.shape) if dimensions == along else (-1,)
        _write(file, name, dimensions, values.real.reshape(shape), f"{words}, real part" if turns else words, units)
        if turns:
            imaginary = values.imag.reshape(shape)
            _write(file, f"{name}_imaginary", dimensions, imaginary, f"{words}, imaginary part", units)
    times = np.array([np.inf if time is None else time for time in spectrum.relaxation_times])
    _write(file, "relaxation_time", ("mode",), times, "1 / (real part of the eigenvalue), infinite at rest", "time")


def _write_escape(file: Any, grid: Grid, escape: Escape) -> None:
    names = grid.names
    words, times = f"mean first-passage time into {escape.target.name}", escape.mean_first_passage_time
    _write(file, "mean_first_passage_time", names, grid.shaped(times), words, "time")
    logarithms = grid.shaped(escape.log10_mean_first_passage_time)
    _write(file, "log10_mean_first_passage_time", names, logarithms, f"decimal logarithm of the {words}", "1")
    words = "density while as much enters at the start as leaves through the target"
    _write(file, "escape_density", names, grid.shaped(escape.density), words, _density_units(grid))
    current = grid.shaped(escape.current)
    words = "current from the start to the target, total flux 1"
    _write_vector(file, "escape_current", names, current, words, _flux_share_units(grid))
    if (lasting := escape.quasi_stationary_density) is not None:
        words = "density that decays as a whole into the target"
        _write(file, "quasi_stationary_density", names, grid.shaped(lasting), words, _density_units(grid))


def _write_transition(file: Any, grid: Grid, escape: Escape) -> None:
    names = grid.names
    if (path := escape.transition) is not None:
        there, back = grid.shaped(path.committor), grid.shaped(path.backward_committor)
        words = f"probability to reach {escape.target.name} before the core {path.core.name}"
        _write(file, "committor", names, there, words, "1")
        words = f"probability to have visited the core {path.core.name} later than {escape.target.name}"
        _write(file, "backward_committor", names, back, words, "1")
        current, words = grid.shaped(path.current), "current of the transitions from core to target, total flux 1"
        _write_vector(file, "reactive_current", names, current, words, _flux_share_units(grid))
    if (running := escape.running) is not None:
        along = ("running_flux_time",)
        file.dimensions[along[0]] = running.times.size
        _write(file, along[0], along, running.times, "time of the running flux", "time")
        words = "population of the valley over the flux out of it"
        with np.errstate(over="ignore"):
            _write(file, "running_flux", along, np.exp(running.log_values), words, "time")
        logarithms = running.log_values / math.log(10.0)
        _write(file, "log10_running_flux", along, logarithms, f"decimal logarithm of the {words}", "1")


def _write_terrain(file: Any, grid: Grid, terrain: Terrain) -> None:
    if terrain.basins is not None:
        minima = terrain.basins.minima
        file.dimensions["minimum"] = len(minima)
        words = f"number of the minimum that the way down leads to, {OUTSIDE} where it leads out"
        _write(file, "basin", grid.names, terrain.basins.label.reshape(grid.shape), words, "1", "i4")
        positions = np.array([point.position for point in minima]).T
        _write_vector(file, "minimum", ("minimum",), positions, "minimum of the loss", "{axis}", grid.names)
        _write(file, "minimum_loss", ("minimum",), np.array([point.loss for point in minima]), "its loss", "loss")
    if terrain.paths:
        _write_paths(file, grid, terrain.paths)


def _write_paths(file: Any, grid: Grid, paths: Sequence[ProbablePath]) -> None:
    """All paths one after the other: path_number tells them apart."""
    along = ("path_point",)
    file.dimensions["path_point"] = sum(len(path.points) for path in paths)
    numbers = np.repeat(np.arange(len(paths)), [len(path.points) for path in paths])
    _write(file, "path_number", along, numbers, "path that the point belongs to, 0 the most probable one", "1", "i4")
    points = np.concatenate([path.points for path in paths]).T
    _write_vector(file, "path", along, points, "path over a saddle", "{axis}", grid.names)
    lengths = np.concatenate([path.arc_length for path in paths])
    _write(file, "path_arc_length", along, lengths, "length of the path from its minimum", "length")
    losses = [path.loss for path in paths if path.loss is not None]
    if len(losses) == len(paths):
        _write(file, "path_loss", along, np.concatenate(losses), "loss along the path", "loss")


def _write_series(file: Any, values: FloatArray | None, name: str, words: str, units: str) -> None:
    if values is not None:
        _write(file, name, ("time",), values, words, units)


def _write_vector(
    file: Any,
    name: str,
    dimensions: tuple[str, ...],
    values: FloatArray,
    words: str,
    units: str,
    axes: Sequence[str] | None = None,
) -> None:
    """One variable per component; values has the component first. axes: their names, else those of the grid."""
    for axis, component in zip(axes or [axis for axis in dimensions if axis != "time"], values, strict=True):
        _write(file, f"{name}_{axis}", dimensions, component, f"{words}, component {axis}", units.format(axis=axis))


def _write(
    file: Any, name: str, dimensions: tuple[str, ...], values: NDArray[Any], words: str, units: str, kind: str = "f8"
) -> None:
    variable = file.create_variable(name, dimensions, data=np.ascontiguousarray(values), dtype=kind)
    variable.attrs["long_name"] = words
    variable.attrs["units"] = units
