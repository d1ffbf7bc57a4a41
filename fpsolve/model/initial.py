"""Where the probability is at the start."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike

from fpsolve.errors import CaseError
from fpsolve.model.fields import Source, field
from fpsolve.model.grid import FloatArray, Grid
from fpsolve.model.landscape import symmetric_matrix
from fpsolve.model.problem import Problem
from fpsolve.model.region import point_weights

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
        widths = 1.0 / np.sqrt(np.diag(np.linalg.inv(covariance)))  # of slices along each axis
        cells = [float(axis.stretch(axis.index(np.array(x)))) for axis, x in zip(grid.axes, self.mean, strict=True)]
        if (widths < NARROWEST * np.array(cells)).any():
            axis = int(np.argmin(widths / cells))
            found = f"it is {widths[axis]:.3g} wide along {grid.names[axis]}, where cells are {cells[axis]:.3g}"
            required = f"A Gaussian must be at least {NARROWEST:g} cells wide"
            raise CaseError(where, found, required, "Use more cells, a wider Gaussian, or a point")
        away = grid.positions() - np.asarray(self.mean, dtype=np.float64)[:, None]
        exponent = -0.5 * np.einsum("ip,ij,jp->p", away, np.linalg.inv(covariance), away)
        return _normalised(np.exp(exponent - exponent.max()), grid, where)


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


def _normalised(density: FloatArray, grid: Grid, where: str) -> FloatArray:
    """Probability of the cells of a density (cells,) at their centres."""
    probability = density if grid.even else density * grid.volumes
    total = probability.sum()
    if not total > 0.0:
        raise CaseError(where, "the density is zero everywhere on the grid", "It must be positive somewhere", "")
    result: FloatArray = probability / total
    return result
