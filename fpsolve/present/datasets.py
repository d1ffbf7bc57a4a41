"""What each analysis writes into the result file."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fpsolve.analyse.currents import current_parts
from fpsolve.analyse.escape import Escape
from fpsolve.analyse.motion import Motion
from fpsolve.analyse.path import Path as ProbablePath
from fpsolve.analyse.rest import AtRest
from fpsolve.analyse.spectrum import Spectrum
from fpsolve.analyse.terrain import Terrain
from fpsolve.analyse.watershed import OUTSIDE
from fpsolve.analyse.witness import PROCESS_WORDS, Comparison, Witness
from fpsolve.model.grid import FloatArray, Grid
from fpsolve.model.initial import absorbed_name, in_one_piece
from fpsolve.present.report import Report

# Parts of the current in the result file: their names, and their words.
CURRENT_PARTS = {
    "drift": "part of the current from the Ito drift, mu p",
    "diffusion": "part of the current from diffusion, -D grad p",
    "noise_gradient": "part of the current from the noise gradient, -(div D) p",
}


def write_analyses(file: Any, report: Report) -> None:
    """Everything that was found, on a file with the dimensions of the grid."""
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
    if report.witness is not None:
        _write_witness(file, grid, report.witness)


def _density_units(grid: Grid) -> str:
    return f"1/({'*'.join(grid.variables)})"


def _current_units(grid: Grid) -> str:
    """To be completed with the axis."""
    return "{axis}/(time*" + "*".join(grid.variables) + ")"


def _flux_share_units(grid: Grid) -> str:
    """Of a current of total flux 1, to be completed with the axis."""
    return "{axis}/(" + "*".join(grid.variables) + ")"


def _write_rest(file: Any, grid: Grid, rest: AtRest) -> None:
    names = grid.names
    write(file, "stationary_density", names, grid.shaped(rest.density), "density at rest", _density_units(grid))
    current = grid.shaped(rest.current)
    words, units = "probability current at rest", _current_units(grid)
    write_vector(file, "stationary_current", names, current, words, units, grid.variables)
    for part, words in CURRENT_PARTS.items() if rest.parts is not None else ():
        values = grid.shaped(getattr(rest.parts, part))
        write_vector(file, f"stationary_current_{part}", names, values, f"{words}, at rest", units, grid.variables)
    if not rest.reversible:
        words, drift = "irreversible drift, current over density at rest", grid.shaped(rest.irreversible_drift)
        write_vector(file, "irreversible_drift", names, drift, words, "{axis}/time", grid.variables)
    if (found := rest.quasi_potential) is not None:
        units = "1" if found.noise == 1.0 else "loss"
        write(file, "quasi_potential", names, grid.shaped(found.values), "quasi-potential", units)
        write(file, "quasi_potential_error", names, grid.shaped(found.error), "error of the quasi-potential", units)
        file.variables["quasi_potential"].attrs["noise"] = found.noise


def _write_motion(file: Any, grid: Grid, motion: Motion) -> None:
    file.dimensions["time"] = motion.times.size
    along = ("time", *grid.names)
    write(file, "time", ("time",), motion.times, "time", "time")
    write(file, "density", along, grid.shaped(motion.density), "probability density", _density_units(grid))
    current = grid.shaped(np.moveaxis(motion.current, 1, 0))
    write_vector(file, "current", along, current, "probability current", _current_units(grid), grid.variables)
    _write_current_parts(file, grid, motion)
    write_series(file, motion.steps, "steps", "SGD steps", "1")
    write_series(file, motion.mass, "mass", "probability inside", "1")
    _write_moments(file, grid, motion)
    _write_first_passage(file, motion)
    _write_march(file, motion)
    for gate, values in motion.absorbed.items():
        write_series(file, values, absorbed_name(gate), f"probability gone through {gate}", "1")
    groups: tuple[tuple[str, str, str, Mapping[str, FloatArray]], ...] = (
        ("mean", "mean of", "", motion.observables),
        ("occupation", "probability in", "1", motion.occupation),
        ("flux", "net probability current out of", "1/time", motion.flux),
    )
    for prefix, words, units, series in groups:
        for name, values in series.items():
            write_series(file, values, f"{prefix}_{in_one_piece(name)}", f"{words} {name}", units or name)


def _write_current_parts(file: Any, grid: Grid, motion: Motion) -> None:
    """What the current is made of, one saved time after the other."""
    series = {part: np.empty((grid.dimensions, motion.times.size, *grid.shape)) for part in CURRENT_PARTS}
    for number, (time, probability) in enumerate(zip(motion.times, motion.probability, strict=True)):
        parts = current_parts(motion.timeline.at(float(time)).problem, probability)
        for part, values in series.items():
            values[:, number] = grid.shaped(getattr(parts, part))
    for part, values in series.items():
        along = ("time", *grid.names)
        write_vector(file, f"current_{part}", along, values, CURRENT_PARTS[part], _current_units(grid), grid.variables)


def _write_moments(file: Any, grid: Grid, motion: Motion) -> None:
    """Mean and covariance of the position, and the distance from rest."""
    for row, first in enumerate(grid.variables):
        write_series(file, motion.mean[:, row], f"mean_{first}", f"mean of {first}", first)
        for column in range(row, len(grid.variables)):
            second, values = grid.variables[column], motion.covariance[:, row, column]
            words = f"covariance of {first} and {second}"
            write_series(file, values, f"covariance_{first}{second}", words, f"{first}*{second}")
    words = "relative entropy to the density at rest"
    write_series(file, motion.relative_entropy, "relative_entropy", words, "1")


def _write_first_passage(file: Any, motion: Motion) -> None:
    if (passage := motion.first_passage) is not None:
        write_series(file, passage.survival, "survival", "share of the probability that has not left", "1")
        words = "density of the first-passage time"
        write_series(file, passage.density, "first_passage_density", words, "1/time")


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
        write(file, name, dimensions, values.real.reshape(shape), f"{words}, real part" if turns else words, units)
        if turns:
            imaginary = values.imag.reshape(shape)
            write(file, f"{name}_imaginary", dimensions, imaginary, f"{words}, imaginary part", units)
    times = np.array([np.inf if time is None else time for time in spectrum.relaxation_times])
    write(file, "relaxation_time", ("mode",), times, "1 / (real part of the eigenvalue), infinite at rest", "time")


def _write_escape(file: Any, grid: Grid, escape: Escape) -> None:
    names = grid.names
    words, times = f"mean first-passage time into {escape.target.name}", escape.mean_first_passage_time
    write(file, "mean_first_passage_time", names, grid.shaped(times), words, "time")
    logarithms = grid.shaped(escape.log10_mean_first_passage_time)
    write(file, "log10_mean_first_passage_time", names, logarithms, f"decimal logarithm of the {words}", "1")
    words = "density while as much enters at the start as leaves through the target"
    write(file, "escape_density", names, grid.shaped(escape.density), words, _density_units(grid))
    current = grid.shaped(escape.current)
    words = "current from the start to the target, total flux 1"
    write_vector(file, "escape_current", names, current, words, _flux_share_units(grid), grid.variables)
    if (lasting := escape.quasi_stationary_density) is not None:
        words = "density that decays as a whole into the target"
        write(file, "quasi_stationary_density", names, grid.shaped(lasting), words, _density_units(grid))


def _write_transition(file: Any, grid: Grid, escape: Escape) -> None:
    names = grid.names
    if (path := escape.transition) is not None:
        there, back = grid.shaped(path.committor), grid.shaped(path.backward_committor)
        words = f"probability to reach {escape.target.name} before the core {path.core.name}"
        write(file, "committor", names, there, words, "1")
        words = f"probability to have visited the core {path.core.name} later than {escape.target.name}"
        write(file, "backward_committor", names, back, words, "1")
        current, words = grid.shaped(path.current), "current of the transitions from core to target, total flux 1"
        write_vector(file, "reactive_current", names, current, words, _flux_share_units(grid), grid.variables)
    if (running := escape.running) is not None:
        along = ("running_flux_time",)
        file.dimensions[along[0]] = running.times.size
        write(file, along[0], along, running.times, "time of the running flux", "time")
        words = "population of the valley over the flux out of it"
        with np.errstate(over="ignore"):
            write(file, "running_flux", along, np.exp(running.log_values), words, "time")
        logarithms = running.log_values / math.log(10.0)
        write(file, "log10_running_flux", along, logarithms, f"decimal logarithm of the {words}", "1")


def _write_terrain(file: Any, grid: Grid, terrain: Terrain) -> None:
    if terrain.basins is not None:
        minima = terrain.basins.minima
        file.dimensions["minimum"] = len(minima)
        words = f"number of the minimum that the way down leads to, {OUTSIDE} where it leads out"
        write(file, "basin", grid.names, terrain.basins.label.reshape(grid.shape), words, "1", "i4")
        positions = np.array([point.position for point in minima]).T
        write_vector(file, "minimum", ("minimum",), positions, "minimum of the loss", "{axis}", grid.variables)
        write(file, "minimum_loss", ("minimum",), np.array([point.loss for point in minima]), "its loss", "loss")
    if terrain.paths:
        _write_paths(file, grid, terrain.paths)


def _write_paths(file: Any, grid: Grid, paths: Sequence[ProbablePath]) -> None:
    """All paths one after the other: path_number tells them apart."""
    along = ("path_point",)
    file.dimensions["path_point"] = sum(len(path.points) for path in paths)
    numbers = np.repeat(np.arange(len(paths)), [len(path.points) for path in paths])
    write(file, "path_number", along, numbers, "path that the point belongs to, 0 the most probable one", "1", "i4")
    points = np.concatenate([path.points for path in paths]).T
    write_vector(file, "path", along, points, "path over a saddle", "{axis}", grid.variables)
    lengths = np.concatenate([path.arc_length for path in paths])
    write(file, "path_arc_length", along, lengths, "length of the path from its minimum", "length")
    losses = [path.loss for path in paths if path.loss is not None]
    if len(losses) == len(paths):
        write(file, "path_loss", along, np.concatenate(losses), "loss along the path", "loss")


def _write_witness(file: Any, grid: Grid, witness: Witness) -> None:
    """Walkers beside the density in time and at rest, and their exits."""
    name = PROCESS_WORDS[witness.process]
    if witness.escape is not None:
        swarm = witness.escape.swarm
        file.dimensions["walker"] = swarm.walkers
        gates = ", ".join(f"{number}: {gate}" for number, gate in enumerate(swarm.gates))
        write(file, "ensemble_exit_time", ("walker",), swarm.exit_times, f"exit time of {name}, inf: inside", "time")
        words = f"gate of the exit of {name}, -1: inside, {gates}"
        write(file, "ensemble_exit_gate", ("walker",), swarm.exit_gates, words, "1", "i4")
    if witness.motion is not None:
        _write_walkers(file, grid, name, witness.motion, ("time", *grid.names), "ensemble")
    if witness.rest is not None:
        _write_walkers(file, grid, name, witness.rest, ("look", *grid.names), "ensemble_stationary")


def _write_walkers(file: Any, grid: Grid, name: str, found: Comparison, along: tuple[str, ...], prefix: str) -> None:
    """Histograms over the grid as densities, moments with standard errors, and distances to the density."""
    first, moments = along[:1], found.moments
    if along[0] not in file.dimensions:
        file.dimensions[along[0]] = len(moments.times)
    walkers = found.runs.swarm.walkers
    density = grid.shaped(found.counts / (walkers * grid.volumes))
    write(file, f"{prefix}_density", along, density, f"density of {name}, a histogram", _density_units(grid))
    for row, one in enumerate(grid.variables):
        series = {"mean": moments.mean, "mean_error": moments.mean_error}
        for key, values in series.items():
            write(file, f"{prefix}_{key}_{one}", first, values[:, row], f"{key.replace('_', ', ')} of {one}", one)
        for column in range(row, len(grid.variables)):
            other, units = grid.variables[column], f"{one}*{grid.variables[column]}"
            pairs = {"covariance": moments.covariance, "covariance_error": moments.covariance_error}
            for key, matrices in pairs.items():
                words = f"{key.replace('_', ', ')} of {one} and {other}"
                write(file, f"{prefix}_{key}_{one}{other}", first, matrices[:, row, column], words, units)
    for key, attribute in (("l1_distance", "value"), ("l1_distance_by_chance", "expected")):
        distances = [math.nan if some is None else getattr(some, attribute) for some in found.distances]
        words = "L1 distance of histogram and density" + ("" if attribute == "value" else ", expected by chance")
        write(file, f"{prefix}_{key}", first, np.array(distances), words, "1")


def write_series(file: Any, values: FloatArray | None, name: str, words: str, units: str) -> None:
    """A variable over the saved times, where there is one."""
    if values is not None:
        write(file, name, ("time",), values, words, units)


def write_vector(
    file: Any,
    name: str,
    dimensions: tuple[str, ...],
    values: FloatArray,
    words: str,
    units: str,
    variables: Sequence[str],
) -> None:
    """One variable per component; values has the component first. variables: the names of the components."""
    for axis, component in zip(variables, values, strict=True):
        write(file, f"{name}_{axis}", dimensions, component, f"{words}, component {axis}", units.format(axis=axis))


def write(
    file: Any, name: str, dimensions: tuple[str, ...], values: NDArray[Any], words: str, units: str, kind: str = "f8"
) -> None:
    """One variable, with its words and units."""
    variable = file.create_variable(name, dimensions, data=np.ascontiguousarray(values), dtype=kind)
    variable.attrs["long_name"] = words
    variable.attrs["units"] = units
