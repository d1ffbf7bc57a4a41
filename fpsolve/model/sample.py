"""Means over a data set: loss, gradient, Hessian, and the covariance of per-example gradients.

    L(x) = 1/N sum_n l(x; row n),    g_n = grad l(x; row n),    C(x) = 1/N sum_n (g_n - grad L)(g_n - grad L)^T

All are computed row by row, exactly, by compiled loops; memory does not grow with rows times points.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, final

import numpy as np

from fpsolve.errors import CaseError
from fpsolve.model import row_kernels
from fpsolve.model.data import Data
from fpsolve.model.expressions import RESERVED_NAMES, Expression
from fpsolve.model.fields import Field, FunctionField, slopes
from fpsolve.model.grid import FloatArray, pieces
from fpsolve.model.native import native
from fpsolve.model.splines import SplineField, lattice
from fpsolve.model.threads import threads_allowed

WHERE = "landscape.per_example_loss"
NODES_AT_A_TIME = 256  # between two reports of progress
KERNELS = (row_kernels.means, row_kernels.moments, row_kernels.every_row)


@final
@dataclass(frozen=True, eq=False)
class Sample:
    """A data set and the loss of each of its rows.

    loss: of one row, in the variables and the names of the columns; columns: those that it names, (rows, columns).
    """

    loss: Expression
    variables: tuple[str, ...]
    columns: FloatArray
    words: str

    @classmethod
    def of(cls, text: str, data: Data, variables: Sequence[str], parameters: Mapping[str, float]) -> Sample:
        """Read the loss of one row, and the columns that it names.

        Raises CaseError as Expression.parse; when a column has the name of a variable or a parameter, or a column that
        is named is not all finite numbers; when the loss names no variable.
        """
        for name in data.names:
            if name in variables or name in parameters:
                kind = "variable" if name in variables else "parameter"
                found, required = f'"{name}" is a column of {data.words} and a {kind}', "Each name may be used once"
                raise CaseError("landscape.data", found, required, f"Rename the {kind}, or the column")
        offered = tuple(name for name in data.names if name.isidentifier() and name not in RESERVED_NAMES)
        parsed = Expression.parse(text, (*variables, *offered), parameters, WHERE)
        used = parsed.names
        if not set(used) & set(variables):
            raise CaseError(WHERE, f'"{text}" names no variable', f"It is a function of {', '.join(variables)}", "")
        columns = tuple(name for name in offered if name in used)
        if not columns:
            raise CaseError(WHERE, f'"{text}" names no column', f"The columns are {', '.join(offered)}", "")
        loss = replace(parsed, variables=(*variables, *columns))
        return cls(loss, tuple(variables), data.columns(columns), data.words)

    @property
    def rows(self) -> int:
        """How many examples there are, N."""
        return len(self.columns)

    @property
    def description(self) -> str:
        """Where the examples are from and how many there are, in words."""
        return f"{self.words}, {self.rows} rows"

    @cached_property
    def mean_loss(self) -> MeanField:
        """L, shape ()."""
        return MeanField(self, (self.loss,), ())

    @cached_property
    def gradient(self) -> tuple[Expression, ...]:
        """The gradient of one row's loss."""
        return slopes((self.loss,), len(self.variables))

    @cached_property
    def covariance(self) -> CovarianceField:
        """C, shape (axes, axes)."""
        return CovarianceField(self)

    def gradients(self, position: Sequence[float]) -> FloatArray:
        """Gradients of every row's loss at one position, (axes, rows)."""
        out = np.empty((len(self.variables), self.rows))
        compiled(self.gradient, len(self.variables)).every_row(np.array(position, dtype=np.float64), self.columns, out)
        return out

    def tabulated(
        self, nodes: Sequence[FloatArray], periodic: Sequence[bool], progress: Callable[[float], None]
    ) -> dict[str, SplineField]:
        """Loss, gradient, Hessian and covariance, computed at the nodes of a lattice and cheap from then on."""
        axes = len(self.variables)
        triangle = np.triu_indices(axes)
        second = np.array(slopes(self.gradient, axes), dtype=object).reshape(axes, axes)
        formulas = (*self.gradient, self.loss, *second[triangle])
        positions = lattice(nodes)
        count = positions.shape[1]
        means, covariances = np.empty((len(formulas), count)), np.empty((axes, axes, count))

        def compute(piece: slice) -> int:
            means[:, piece], covariances[..., piece] = self.moments(formulas, positions[:, piece], axes)
            return piece.stop

        with ThreadPoolExecutor(threads_allowed()) as pool:
            for stop in pool.map(compute, pieces(count, NODES_AT_A_TIME)):
                progress(stop / count)
        hessian = np.empty((axes, axes, count))
        hessian[triangle] = hessian[triangle[::-1]] = means[axes + 1 :]
        values = {
            "loss": means[axes],
            "gradient": means[:axes],
            "hessian": hessian,
            "gradient_covariance": covariances,
        }

        def spline(values: FloatArray) -> SplineField:
            box = values.reshape(*values.shape[:-1], *(along.size for along in nodes))
            return SplineField.through(nodes, box, periodic=periodic, names=self.variables, where="landscape.data")

        return {name: spline(found) for name, found in values.items()}

    def moments(
        self, formulas: tuple[Expression, ...], positions: FloatArray, crossed: int
    ) -> tuple[FloatArray, FloatArray]:
        """Means of formulas over the rows, (formulas, points), and covariances of the first of them with the gradient.

        formulas begin with the gradient; the covariances are (crossed, axes, points).
        """
        axes, count, points = len(self.variables), len(formulas), positions.shape[1]
        means, covariances = np.empty((count, points)), np.empty((crossed, axes, points))
        compiled(formulas, axes, crossed).moments(np.ascontiguousarray(positions), self.columns, means, covariances)
        return means, covariances


def compiled(formulas: tuple[Expression, ...], axes: int, crossed: int = 0) -> Any:
    """The compiled loops over rows around some formulas, of the first of which there are covariances."""
    return native(formulas, axes, KERNELS, (("BLOCK", row_kernels.BLOCK), ("CROSSED", crossed)))


@final
@dataclass(frozen=True, eq=False)
class MeanField(Field):
    """Means over the rows of some formulas."""

    sample: Sample
    entries: tuple[Expression, ...]  # flat, in C order of shape
    shape: tuple[int, ...]
    depends_on_time: bool = False

    @property
    def is_constant(self) -> bool:  # type: ignore[override]
        """Whether no formula names a variable."""
        return not any(set(entry.names) & set(self.sample.variables) for entry in self.entries)

    def __call__(self, positions: FloatArray) -> FloatArray:
        """Values (*shape, points)."""
        values = np.empty((len(self.entries), positions.shape[1]))
        kernels = compiled(self.entries, len(self.sample.variables))
        kernels.means(np.ascontiguousarray(positions), self.sample.columns, values)
        return values.reshape(*self.shape, -1)

    def derivative(self) -> MeanField:
        """The means of the derivatives."""
        axes = len(self.sample.variables)
        return MeanField(self.sample, slopes(self.entries, axes), (*self.shape, axes))

    def at(self, time: float) -> MeanField:
        """The field itself: data do not change in time."""
        return self


@final
@dataclass(frozen=True, eq=False)
class CovarianceField(Field):
    """The covariance of per-example gradients, C(x), shape (axes, axes) [loss**2/length**2]."""

    sample: Sample
    is_constant: bool = False
    depends_on_time: bool = False

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """A square matrix."""
        return len(self.sample.variables), len(self.sample.variables)

    def __call__(self, positions: FloatArray) -> FloatArray:
        """C, (axes, axes, points)."""
        return self.sample.moments(self.sample.gradient, positions, self.shape[0])[1]

    def with_derivative(self, positions: FloatArray) -> tuple[FloatArray, FloatArray]:
        """C and its derivatives d C_ij / d x_k = cov(d_k g_i, g_j) + cov(g_i, d_k g_j), (axes, axes, axes, points)."""
        axes = len(self.sample.variables)
        formulas = (*self.sample.gradient, *slopes(self.sample.gradient, axes))
        _, found = self.sample.moments(formulas, positions, len(formulas))
        crossed = found[axes:].reshape(axes, axes, axes, -1)  # of d_k g_i, by i and k, with g_j
        return found[:axes], np.einsum("ikj...->ijk...", crossed) + np.einsum("jki...->ijk...", crossed)

    def derivative(self) -> FunctionField:
        """Its exact derivatives; theirs are taken by differences."""
        axes = len(self.sample.variables)
        return FunctionField(
            lambda *places: self.with_derivative(np.array(places))[1], (*self.shape, axes), axes, WHERE
        )

    def at(self, time: float) -> CovarianceField:
        """The field itself: data do not change in time."""
        return self
