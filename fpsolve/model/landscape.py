"""The landscape: where the drift points.

drift = -mobility . gradient(loss) + extra_drift,      or any drift

The loss is a formula or function, the mean of a loss over a data set, or sampled in a table.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike

from fpsolve.errors import CaseError
from fpsolve.model.data import Data, Given
from fpsolve.model.fields import Field, Source, field
from fpsolve.model.frame import Frame
from fpsolve.model.grid import FloatArray, Grid
from fpsolve.model.inertia import Inertia
from fpsolve.model.sample import MeanField, Sample
from fpsolve.model.splines import lattice, nodes_of
from fpsolve.model.table import Table

# Rows times cells: edges and error bars ask some ten to hundred times per cell, each row takes some 20 ns.
EXACT_UP_TO = 3_000_000
FEW_CELLS = 24  # along an axis, for a first look
SECONDS_PER_ROW = 5e-8  # and cell, on one thread
PARTS_OF_DATA = ("gradient_covariance", "examples", "sample", "diffusion", "table")
ROUNDED_ZERO = 1e-14  # share of the trace by which rounding moves an eigenvalue that is zero
SAME_DRIFT = 1e-2  # relative difference of a drift and a spline's gradient on coarse lattices
PARTS_OF_TABLE = ("gradient_covariance", "examples", "diffusion")


@final
@dataclass(frozen=True, init=False)
class Landscape:
    """A loss, or a drift that need not come from one.

    `Landscape("(x**2 - 1)**2 + y**2", variables=("x", "y"))`
    `Landscape(drift=["-x + y", "-x - y"], variables=("x", "y"))`
    `Landscape(per_example_loss="0.5*(tanh(x*u + y) - v)**2", data="points.csv", variables=("x", "y"))`

    Parameters
    ----------
    loss : expression, or a vectorised function of one array per variable.
    variables : names, in grid order.
    parameters : numbers that expressions may name.
    mobility : constant symmetric positive definite matrix M, drift = -M . gradient(loss); the identity when left out.
    extra_drift : one entry per variable, added: the part that is no gradient.
    drift : instead of loss: the whole drift.
    gradient, hessian : functions beside a loss that is a function; else taken by fourth-order differences.
    per_example_loss, data : instead of loss: the loss of one row of the data, in the names of their columns; the loss
        is its mean over the rows. data: a CSV file with a header, an NPZ, NetCDF or HDF5 file, or arrays by name.
    folder : where a file of data is sought first.
    table : instead of loss: a file, or a Table, of the loss, or else a drift, at the nodes of a lattice.

    Loss and drifts may name the time t (functions: take the keyword t); `at` says what they are at a time.

    Beside the parts of the drift: sample: the data and the loss of their rows; gradient_covariance: the covariance C of
    the gradients of single examples [loss**2/length**2]; examples: how many there are; diffusion: D of a table; None
    where there are none.

    Raises CaseError for unknown names, wrong shapes, or when not exactly one of loss, drift, per_example_loss and table
    is given.
    """

    variables: tuple[str, ...]
    parameters: Mapping[str, float]
    loss: Field | None
    gradient: Field | None
    hessian: Field | None
    mobility: FloatArray  # (axes, axes)
    extra_drift: Field | None  # all of the drift that is not -mobility . gradient(loss)
    gradient_covariance: Field | None
    examples: int | None
    sample: Sample | None
    diffusion: Field | None
    table: Table | None
    inertia: Inertia | None = None  # in phase space; see `momentum`

    def __init__(
        self,
        loss: Source | None = None,
        *,
        variables: Sequence[str],
        parameters: Mapping[str, float] | None = None,
        mobility: ArrayLike | None = None,
        extra_drift: Source | None = None,
        drift: Source | None = None,
        gradient: Source | None = None,
        hessian: Source | None = None,
        per_example_loss: str | None = None,
        data: Given | None = None,
        folder: Path = Path(),
        table: Table | str | Path | None = None,
    ) -> None:
        names = tuple(variables)
        numbers = dict(parameters or {})
        axes = len(names)
        _check_sources({"loss": loss, "drift": drift, "per_example_loss": per_example_loss, "table": table})
        _check_companions(drift, mobility, extra_drift, per_example_loss, data)

        def read(source: Source | None, shape: tuple[int, ...], key: str) -> Field | None:
            where = f"landscape.{key}"
            return None if source is None else field(source, shape, names, numbers, where, timed=True)

        known = _of_data(per_example_loss, data, folder, names, numbers) | _of_table(table, names)
        loss_field = known.get("loss") or read(loss, (), "loss")
        slope = read(gradient, (axes,), "gradient") or (loss_field and loss_field.derivative())
        values = {
            "variables": names,
            "parameters": numbers,
            "loss": loss_field,
            "gradient": slope,
            "hessian": read(hessian, (axes, axes), "hessian") or (slope and slope.derivative()),
            "mobility": _mobility(mobility, axes),
            "extra_drift": read(drift, (axes,), "drift") or read(extra_drift, (axes,), "extra_drift"),
        }
        for key, value in (values | dict.fromkeys(PARTS_OF_DATA) | known).items():
            object.__setattr__(self, key, value)

    @property
    def depends_on_time(self) -> bool:
        """Whether the loss or a drift changes in time."""
        return any(part.depends_on_time for part in self._fields().values())

    def at(self, time: float) -> Landscape:
        """The landscape as it is at a time."""
        moved = copy.copy(self)
        for name, part in self._fields().items():
            object.__setattr__(moved, name, part.at(time))
        return moved

    def tabulated(
        self, grid: Grid, progress: Callable[[float], None] | None = None, *, roughly: bool = False
    ) -> Landscape:
        """The landscape for a grid: where means over the data would take long, they are computed once at its cells.

        Between the cells there are quintic splines then, whose error (order 6 of the loss) is far below that of the
        scheme. progress: told the share done; roughly: for a first look, at fewer cells. Landscapes without data, or
        with few, are as they were, and so are all on a turned grid: splines need nodes along the variables.
        """
        if (
            grid.frame is not None
            or not isinstance(self.loss, MeanField)
            or self.loss.sample.rows * grid.size <= EXACT_UP_TO
        ):
            return self
        tell = progress or (lambda _: None)
        if roughly:
            grid = grid.with_axes(replace(axis, cells=min(axis.cells, FEW_CELLS)) for axis in grid.axes)
        fields = self.loss.sample.tabulated(nodes_of(grid), [axis.periodic for axis in grid.axes], tell)
        sampled = copy.copy(self)
        for name, values in fields.items():
            object.__setattr__(sampled, name, values)
        return sampled

    def frame(
        self, at: Sequence[float] | FloatArray, directions: str | Sequence[Sequence[float]] | FloatArray = "hessian"
    ) -> Frame:
        """The frame of a grid that is turned about a point `at`, (axes,) [length], for `Grid(frame, axis_1=..., ...)`.

        directions: one row for every axis of the grid (`Frame`), or those of the eigenvectors of the Hessian of the
        loss at the point (as it is at time 0), the stiffest first (`Frame.principal`).

        Raises CaseError where there is no loss to take the Hessian of, or the numbers make no frame.
        """
        if not isinstance(directions, str):
            return Frame(self.variables, at, directions)
        if directions != "hessian":
            found = f'"{directions}" is not a known choice'
            raise CaseError("grid.axes.directions", found, 'It must be "hessian" or a matrix', "")
        if self.hessian is None:
            required = "The Hessian is that of a loss"
            raise CaseError("grid.axes.directions", "the landscape has no loss", required, "Give the directions")
        origin = Frame(self.variables, at, np.eye(len(self.variables))).at
        return Frame.principal(self.variables, origin, self.hessian(origin[:, None])[..., 0])

    def _fields(self) -> dict[str, Field]:
        parts = {name: getattr(self, name) for name in ("loss", "gradient", "hessian", "extra_drift")}
        return {name: part for name, part in parts.items() if part is not None}

    def seconds_for_data(self, grid: Grid) -> float:
        """About how long the data take at all cells of a grid, on one thread; 0 where that is not needed."""
        if self.sample is None or self.sample.rows * grid.size <= EXACT_UP_TO:
            return 0.0
        return SECONDS_PER_ROW * self.sample.rows * grid.size

    @property
    def origin(self) -> str:
        """Where the loss is from, in words, where it is neither a formula nor a function."""
        if self.sample is not None:
            return self.sample.description
        return "" if self.table is None else self.table.description

    @property
    def is_gradient(self) -> bool:
        """Whether the drift is -mobility . gradient(loss) and nothing else."""
        return self.loss is not None and self.extra_drift is None

    def drift(self, positions: FloatArray) -> FloatArray:
        """Drift [length/time] at positions (axes, points), in the convention of the noise; same shape."""
        if self.gradient is None:
            assert self.extra_drift is not None
            return self.extra_drift(positions)
        down = -(self.mobility @ self.gradient(positions))
        return np.asarray(down if self.extra_drift is None else down + self.extra_drift(positions))


def _of_data(
    text: str | None, data: Given | None, folder: Path, variables: Sequence[str], parameters: Mapping[str, float]
) -> dict[str, Any]:
    """What data and the loss of a row say; nothing where there are none."""
    if text is None or data is None:
        return {}
    sample = Sample.of(text, Data.of(data, folder), variables, parameters)
    return {
        "loss": sample.mean_loss,
        "gradient_covariance": sample.covariance,
        "examples": sample.rows,
        "sample": sample,
    }


def _of_table(given: Table | str | Path | None, variables: Sequence[str]) -> dict[str, Any]:
    """What a table says; nothing where there is none."""
    if given is None:
        return {}
    table = given if isinstance(given, Table) else Table.read(given, variables)
    where, names = "landscape.table", ("gradient", "hessian", *PARTS_OF_TABLE)
    found = {name: getattr(table, name) for name in names} | {"table": table}
    if table.loss is not None:
        _check_drift(table, where)
        return found | {"loss": table.loss}
    if table.drift is None:
        holds = f"{table.source} holds neither a loss nor a drift"
        raise CaseError(where, holds, "A landscape needs one of them", "Add loss, or the components of drift, to it")
    return found | {"extra_drift": table.drift}


def _check_drift(table: Table, where: str) -> None:
    """Refuse a drift beside a loss whose gradient says something else."""
    if table.drift is None or table.gradient is None:
        return
    places = lattice([along[1:-1] for along in table.nodes])
    drift, gap = table.drift(places), table.drift(places) + table.gradient(places)
    if np.abs(gap).max() > SAME_DRIFT * np.abs(drift).max():
        found = f"{table.source} holds a loss, and a drift that is not minus its gradient"
        raise CaseError(where, found, "One of them says where the drift points", "Remove the other from the table")


def _check_sources(sources: Mapping[str, object]) -> None:
    given = [name for name, source in sources.items() if source is not None]
    if len(given) != 1:
        found = f"both {' and '.join(given)} are given" if given else f"none of {', '.join(sources)} is given"
        required = "Exactly one of them is needed"
        raise CaseError("landscape", found, required, "A non-gradient part goes to extra_drift")


def _check_companions(
    drift: Source | None,
    mobility: ArrayLike | None,
    extra_drift: Source | None,
    per_example_loss: str | None,
    data: Given | None,
) -> None:
    """Refuse what has no effect, or is missing, beside what is given."""
    if (per_example_loss is None) != (data is None):
        missing, other = ("data", "per_example_loss") if data is None else ("per_example_loss", "data")
        required = "The loss of a row and the data that it names belong together"
        raise CaseError(f"landscape.{other}", f"there is no {missing} beside it", required, f"Add {missing} = ...")
    if drift is not None:
        for key, value in (("mobility", mobility), ("extra_drift", extra_drift)):
            if value is not None:
                raise CaseError(
                    f"landscape.{key}", "it has no effect beside drift", "It belongs to a loss", f"Remove {key}"
                )


def _mobility(given: ArrayLike | None, axes: int) -> FloatArray:
    if given is None:
        return np.eye(axes)
    return symmetric_matrix(given, axes, "landscape.mobility")


def symmetric_matrix(given: ArrayLike, axes: int, where: str, *, singular: bool = False) -> FloatArray:
    """A constant matrix, checked: numbers, (axes, axes), symmetric and positive definite. Raises CaseError.

    singular: whether eigenvalues may be zero.
    """
    try:
        matrix = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise CaseError(where, "it is not a matrix of numbers", f"It must be {axes} x {axes}", "") from None
    if matrix.ndim == 0:
        matrix = matrix.reshape(1, 1) if axes == 1 else matrix * np.eye(axes)
    if matrix.shape != (axes, axes):
        shape = " x ".join(str(n) for n in matrix.shape)
        raise CaseError(where, f"it is {shape}", f"It must be {axes} x {axes}, one row per variable", "")
    if not np.isfinite(matrix).all():
        raise CaseError(where, "an entry is not finite", "All entries must be finite numbers", "")
    if not np.allclose(matrix, matrix.T, rtol=1e-12, atol=0.0):
        raise CaseError(where, "it is not symmetric", "It must equal its transpose", "Mirror the upper triangle")
    smallest = float(np.linalg.eigvalsh(matrix)[0])
    if smallest <= 0.0 and not (singular and smallest >= -ROUNDED_ZERO * np.trace(matrix)):
        remedy = "Raise the diagonal or lower the off-diagonal entries"
        required = "No eigenvalue may be negative" if singular else "It must be positive definite"
        raise CaseError(where, f"it has the eigenvalue {smallest:g}", required, remedy)
    return matrix
