"""Where the probability is at the start."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, final

import h5netcdf
import numpy as np
from numpy.typing import ArrayLike

from fpsolve.errors import CaseError
from fpsolve.model.fields import Source, field
from fpsolve.model.grid import FloatArray, Grid
from fpsolve.model.landscape import symmetric_matrix
from fpsolve.model.problem import Problem
from fpsolve.model.region import point_weights

TAIL = 1e-3  # of a start: so much of it may lie where nothing can be, and is cut off
# A Gaussian narrower than this many cells is not represented by its values at cell centres.
NARROWEST = 0.5


class AbstractInitial(abc.ABC):
    """A starting density."""

    @abc.abstractmethod
    def probability(self, problem: Problem) -> FloatArray:
        """Probability of every cell, (cells,), >= 0, summing to one. Raises CaseError where that cannot be."""


@final
@dataclass(frozen=True)
class Gaussian(AbstractInitial):
    """A normal density with a covariance matrix, or the same width (standard deviation) in every direction."""

    mean: Sequence[float]
    covariance: ArrayLike | None = None
    width: float | None = None

    def probability(self, problem: Problem) -> FloatArray:
        """Values at the cell centres times the volume, normalised: moments are then right to rounding."""
        grid, where = problem.grid, "initial.gaussian"
        if (self.covariance is None) == (self.width is None):
            raise CaseError(where, "a Gaussian needs exactly one of covariance and width", "", "")
        if self.width is not None and not self.width > 0.0:
            raise CaseError(f"{where}.width", f"it is {self.width:g}", "A width must be above 0", "")
        point_weights(grid, self.mean, f"{where}.mean")
        matrix = self.covariance if self.width is None else self.width**2 * np.eye(grid.dimensions)
        covariance = symmetric_matrix(matrix if matrix is not None else 0.0, grid.dimensions, f"{where}.covariance")
        # Of slices along each axis.
        widths = 1.0 / np.sqrt(np.diag(np.linalg.inv(grid.turned_matrices(np.asarray(covariance)))))
        mean = grid.along(np.asarray(self.mean, dtype=np.float64))
        cells = [float(axis.stretch(axis.index(np.array(x)))) for axis, x in zip(grid.axes, mean, strict=True)]
        if (widths < NARROWEST * np.array(cells)).any():
            axis = int(np.argmin(widths / cells))
            found = f"it is {widths[axis]:.3g} wide along {grid.names[axis]}, where cells are {cells[axis]:.3g}"
            required = f"A Gaussian must be at least {NARROWEST:g} cells wide"
            raise CaseError(where, found, required, "Use more cells, a wider Gaussian, or a point")
        away = grid.positions(grid.indices()) - np.asarray(self.mean, dtype=np.float64)[:, None]
        exponent = -0.5 * np.einsum("ip,ij,jp->p", away, np.linalg.inv(covariance), away)
        density = np.exp(exponent - exponent.max())
        _refuse_outside(density, grid, where)
        return _normalised(density, grid, where)


@final
@dataclass(frozen=True)
class Point(AbstractInitial):
    """All probability at one point, spread over the surrounding cell centres by multilinear weights."""

    point: Sequence[float]

    def probability(self, problem: Problem) -> FloatArray:
        """The multilinear weights."""
        return point_weights(problem.grid, self.point, "initial.point").inject(problem.grid.size)


@final
@dataclass(frozen=True)
class Density(AbstractInitial):
    """Any density, as an expression or a function; its integral need not be one."""

    density: Source

    def probability(self, problem: Problem) -> FloatArray:
        """Values at the cell centres times the volume, normalised."""
        where, landscape = "initial.density", problem.landscape
        values = field(self.density, (), landscape.variables, landscape.parameters, where)(problem.grid.positions())
        if not np.isfinite(values).all() or (values < 0.0).any():
            cell = int(np.argmax(~np.isfinite(values) | (values < 0.0)))
            found = f"it is {values[cell]:g} in {problem.grid.place(cell)}"
            raise CaseError(where, found, "A density is finite and not negative", "")
        return _normalised(values, problem.grid, where)


@final
@dataclass(frozen=True)
class Uniform(AbstractInitial):
    """The same density everywhere."""

    def probability(self, problem: Problem) -> FloatArray:
        """In proportion to the volumes."""
        grid = problem.grid
        for axis in grid.axes:
            if any(axis.infinite):
                found = f"the axis {axis.name} is infinite"
                remedy = "Give a Gaussian or another density"
                raise CaseError("initial.uniform", found, "A uniform density needs finite walls", remedy)
        return _normalised(np.ones(grid.size), grid, "initial.uniform")


@final
@dataclass(frozen=True)
class Saved(AbstractInitial):
    """The last density in time of an earlier result file, on the same grid; the clock goes on from its time."""

    path: str | Path

    def probability(self, problem: Problem) -> FloatArray:
        """What was inside, by cell; it sums to less than one where some had been absorbed."""
        grid, where = problem.grid, "initial.file"
        content = self._content
        for axis in grid.axes:
            centres = content["axes"].get(axis.name)
            if centres is None or centres.shape != (axis.cells,) or not np.allclose(centres, axis.centres, rtol=1e-9):
                found = f"{self.path} has {'no axis' if centres is None else 'other cells along'} {axis.name}"
                raise CaseError(where, found, "The grid must be that of the earlier result", "Take over its [grid]")
        self._check_frame(grid, where)
        density: FloatArray = content["density"].reshape(-1)
        if density.size == grid.size:
            density = np.where(grid.active, density, 0.0)
        if density.size != grid.size or not (density >= 0.0).all():
            found = f"the last density of {self.path} does not fit the grid"
            raise CaseError(where, found, "The grid must be that of the earlier result", "Take over its [grid]")
        return density * grid.volumes

    def _check_frame(self, grid: Grid, where: str) -> None:
        """The axes must begin where those of the earlier result do, along the same directions."""
        for number, axis in enumerate(grid.axes):
            known = self._content["turned"][axis.name]
            wanted = [] if grid.frame is None else [*grid.frame.at, *grid.frame.directions[number]]
            if len(known) != len(wanted) or not np.allclose(known, wanted, rtol=1e-9, atol=1e-9):
                found = f"{self.path} has another {axis.name}, with another origin or direction"
                raise CaseError(where, found, "The grid must be that of the earlier result", "Take over its [grid]")

    @property
    def time(self) -> float:
        """When it was saved [time]."""
        return float(self._content["time"])

    @property
    def absorbed(self) -> dict[str, float]:
        """What had gone through each gate by then, by its name."""
        return dict(self._content["absorbed"])

    @cached_property
    def _content(self) -> dict[str, Any]:
        required, remedy = "It must be a result file with a density in time", "Run a case with [evolve] first"
        try:
            with h5netcdf.File(self.path, "r") as file:
                if "time" not in file.variables or "density" not in file.variables:
                    raise CaseError("initial.file", f"{self.path} holds no density in time", required, remedy)
                series = {name: file.variables[name] for name in file.variables if name.startswith("absorbed_")}
                axes = {name: np.asarray(values) for name, values in file.variables.items() if values.ndim == 1}
                turned = {name: _turned(file.variables[name].attrs) for name in axes}
                return {
                    "time": file.variables["time"][-1],
                    "density": np.asarray(file.variables["density"][-1], dtype=np.float64),
                    "absorbed": {gate_of(name): float(values[-1]) for name, values in series.items()},
                    "axes": axes,
                    "turned": turned,
                }
        except FileNotFoundError:
            raise CaseError("initial.file", f"there is no file {self.path}", required, "Check the path") from None
        except OSError as error:
            found = f"{self.path} cannot be read ({error.strerror or 'it is no NetCDF-4 file'})"
            raise CaseError("initial.file", found, required, remedy) from None


def _turned(attributes: Mapping[str, Any]) -> list[float]:
    """Origin and direction of an axis of a turned grid, one after the other; empty where there are none."""
    parts = [np.atleast_1d(attributes[name]).tolist() for name in ("origin", "direction") if name in attributes]
    return [float(number) for part in parts for number in part]


# Stands for a slash in the names of variables of result files, where it would open a group.
SLASH = "\N{DIVISION SLASH}"


def in_one_piece(name: str) -> str:
    """A region's name as part of that of a variable."""
    return name.replace("/", SLASH)


def absorbed_name(gate: str) -> str:
    """The variable of a result file that tells what has gone through a gate."""
    return f"absorbed_{in_one_piece(gate)}"


def gate_of(name: str) -> str:
    """The gate of such a variable."""
    return name.removeprefix("absorbed_").replace(SLASH, "/")


def _refuse_outside(density: FloatArray, grid: Grid, where: str) -> None:
    """Refuse a density (cells,) that lies outside the domain by more than a tail, which is cut off."""
    outside = float((density * grid.box_volumes) @ ~grid.active)
    total = float(density @ grid.box_volumes)
    if outside > TAIL * total:
        found = f"{outside / total:.3g} of the probability lies outside the domain"
        raise CaseError(where, found, "It must lie inside", "Move it, make it narrower, or widen grid.domain")


def _normalised(density: FloatArray, grid: Grid, where: str) -> FloatArray:
    """Probability of the cells of a density (cells,) at their centres."""
    probability = density if grid.even and grid.parts is None else density * grid.volumes * grid.active
    total = probability.sum()
    if not total > 0.0:
        raise CaseError(where, "the density is zero everywhere on the grid", "It must be positive somewhere", "")
    result: FloatArray = probability / total
    return result
