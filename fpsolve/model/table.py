"""Landscapes from tables: losses, drifts and noise known at the nodes of a lattice.

A table file holds one array per variable, its nodes, and arrays over all nodes, dimensions in the order of the
variables: `loss`, `gradient_x`, `hessian_xx`, `hessian_xy` (the upper triangle), `gradient_covariance_xx`, `drift_x`,
`diffusion_xx`. These are the names of fpsolve's own result files, which are tables too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from numpy.typing import ArrayLike

from fpsolve.errors import CaseError, did_you_mean
from fpsolve.model.fields import Field, symmetric_part
from fpsolve.model.grid import FloatArray
from fpsolve.model.splines import (
    DEFAULT_DEGREE,
    DEGREES,
    SplineField,
    check_degree,
    check_finite,
    check_nodes,
)
from fpsolve.model.surface_files import SURFACE_NAMES, is_surface, surface_as_table
from fpsolve.model.table_files import Contents, Entry, load, shape_words, store

# What a table may hold: the number of indices, what it is, and its unit, to be completed with the names of the axes.
QUANTITIES = {
    "loss": (0, "loss", "loss"),
    "gradient": (1, "gradient of the loss", "loss/{0}"),
    "hessian": (2, "Hessian of the loss", "loss/({0}*{1})"),
    "gradient_covariance": (2, "covariance over the data of the gradients of single examples", "loss**2/({0}*{1})"),
    "drift": (1, "drift", "{0}/time"),
    "diffusion": (2, "diffusion", "{0}*{1}/time"),
}
EXAMPLES = "examples"

ROUNDING = 1e-6  # of a period, or of the entries of a matrix: that of float32


@final
@dataclass(frozen=True, eq=False)
class Table:
    """The fields of a table file, None where it does not hold them; made by `Table.read`.

    Vectors have the shape (axes,), matrices (axes, axes). A gradient or Hessian that is not in the file is the
    derivative of what is; all others are interpolated themselves.
    """

    source: Path
    variables: tuple[str, ...]
    nodes: tuple[FloatArray, ...]  # per variable, increasing [length]; a periodic one ends where it begins
    degree: int
    periodic: tuple[bool, ...]
    loss: Field | None  # [loss]
    gradient: Field | None  # [loss/length]
    hessian: Field | None  # [loss/length**2], symmetric
    gradient_covariance: Field | None  # [loss**2/length**2], covariance over the data (1/N) of per-example gradients
    drift: Field | None  # [length/time]
    diffusion: Field | None  # [length**2/time]
    examples: int | None  # N

    @classmethod
    def read(
        cls,
        path: str | Path,
        variables: Sequence[str],
        *,
        degree: int = DEFAULT_DEGREE,
        periods: Mapping[str, float] | None = None,
        where: str = "landscape.table",
    ) -> Table:
        """Read a NetCDF-4, HDF5 or NPZ file, or a surface file, whose first coordinate is then the first variable.

        Nodes may be in decreasing order; integers and float32 become float64. degree: of the splines, 3 or 5.
        periods: the length [length] of each variable that is periodic; the table may hold its first node twice.

        Raises CaseError when the file is missing, or no table of these variables.
        """
        path, names = Path(path), tuple(variables)
        check_degree(degree, where)
        components = {quantity: list(_components(quantity, names)) for quantity in QUANTITIES}
        known = {name for found in components.values() for name, _ in found}
        contents = load(path, {*known, *names, EXAMPLES, *SURFACE_NAMES}, where)
        if is_surface(contents) and not known & set(contents.arrays):
            contents = surface_as_table(contents, names, path, where)
        _check_names(contents, components, names, path, where)
        lattice = _Lattice.of(contents, names, degree, dict(periods or {}), path, where)
        fields = {quantity: lattice.field(quantity, found) for quantity, found in components.items()}
        gradient, hessian = _derivatives(fields)
        return cls(
            *(path, names, lattice.nodes, degree, lattice.periodic),
            loss=fields["loss"],
            gradient=gradient,
            hessian=hessian,
            gradient_covariance=fields["gradient_covariance"],
            drift=fields["drift"],
            diffusion=fields["diffusion"],
            examples=_examples(contents, path, where),
        )

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """First and last node of each variable [length]."""
        return tuple((float(along[0]), float(along[-1])) for along in self.nodes)

    @property
    def reach(self) -> tuple[tuple[float, float], ...]:
        """How far each variable's splines may be used [length]: one spacing beyond the nodes, or to infinity."""
        return tuple(
            (-math.inf, math.inf) if wraps else (float(2.0 * along[0] - along[1]), float(2.0 * along[-1] - along[-2]))
            for along, wraps in zip(self.nodes, self.periodic, strict=True)
        )

    @property
    def description(self) -> str:
        """The table in words, for a report."""
        lengths = " x ".join(str(along.size) for along in self.nodes)
        return f"table {self.source.name}, {lengths} nodes, {DEGREES[self.degree]} spline"


def write_table(
    path: str | Path,
    variables: Sequence[str],
    nodes: Sequence[ArrayLike],
    *,
    attributes: Mapping[str, Any] | None = None,
    **fields: ArrayLike,
) -> None:
    """Write a table that `Table.read` reads: NPZ if the path ends so, else NetCDF-4. The file is whole or not there.

    nodes: of each variable, (length,). fields: loss (*lengths), gradient and drift (axes, *lengths), hessian,
    gradient_covariance and diffusion (axes, axes, *lengths), symmetric to rounding; or single components by their names
    in the file; examples, a number; any other array (*lengths) is kept beside them.

    Raises CaseError for wrong shapes and matrices that are not symmetric, RunError when the disk refuses.
    """
    path, names = Path(path), tuple(variables)
    along = [np.asarray(given, dtype=np.float64) for given in nodes]
    lengths = tuple(given.size for given in along)
    entries = {name: Entry(row, (name,), name, name) for name, row in zip(names, along, strict=True)}
    kept = dict(attributes or {})
    for name, given in fields.items():
        if name == EXAMPLES:
            kept[EXAMPLES] = int(given)  # type: ignore[arg-type]
            continue
        values = np.asarray(given, dtype=np.float64)
        rank = QUANTITIES.get(name, (0,))[0]
        wanted = (len(names),) * rank + lengths
        if values.shape != wanted:
            found = f"{name} has the shape {shape_words(values)}"
            raise CaseError(str(path), found, f"It must be {shape_words(np.empty(wanted))}", "")
        if rank == 2:
            turned = values.swapaxes(0, 1)
            if np.abs(values - turned).max() > ROUNDING * np.abs(values).max():
                raise CaseError(str(path), f"{name} is not symmetric", "It must equal its transpose at every node", "")
            values = 0.5 * (values + turned)
        parts = _components(name, names) if name in QUANTITIES else [(name, ())]
        entries |= {part: Entry(values[index], names, *_words(part, names)) for part, index in parts}
    store(path, entries, kept)


def _components(quantity: str, variables: Sequence[str]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Names in the file of the components of a quantity, and their indices; of a matrix the upper triangle."""
    rank = QUANTITIES[quantity][0]
    if rank == 0:
        yield quantity, ()
    for row, first in enumerate(variables if rank else ()):
        if rank == 1:
            yield f"{quantity}_{first}", (row,)
        for column in range(row, len(variables) if rank == 2 else row):
            yield f"{quantity}_{first}{variables[column]}", (row, column)


def _words(name: str, variables: Sequence[str]) -> tuple[str, str]:
    """What a component is, and its unit."""
    for quantity, (_, words, units) in QUANTITIES.items():
        for part, index in _components(quantity, variables):
            if part == name:
                axes = [variables[i] for i in index]
                return words + (f", component {', '.join(axes)}" if axes else ""), units.format(*axes)
    return name, "1"


@final
@dataclass(frozen=True, eq=False)
class _Lattice:
    """The arrays of a file, and their nodes put in order. backwards: axes that the file holds in decreasing order."""

    contents: Contents
    variables: tuple[str, ...]
    nodes: tuple[FloatArray, ...]
    periodic: tuple[bool, ...]
    lengths: tuple[int, ...]  # in the file
    backwards: tuple[int, ...]
    degree: int
    path: Path
    where: str

    @classmethod
    def of(
        cls,
        contents: Contents,
        names: tuple[str, ...],
        degree: int,
        periods: Mapping[str, float],
        path: Path,
        where: str,
    ) -> _Lattice:
        nodes, lengths, backwards = [], [], []
        for axis, name in enumerate(names):
            along = contents.arrays[name].values
            if along.ndim != 1:
                found = f"{name} in {path} has the shape {shape_words(along)}"
                raise CaseError(where, found, "Nodes are a list of numbers, one array per variable", "")
            check_nodes(along, name, degree, where, falling=True)
            lengths.append(along.size)
            if along[-1] < along[0]:
                backwards.append(axis)
                along = along[::-1].copy()
            if name in periods:
                along = _closed(along, periods[name], name, where)
            nodes.append(along)
        wraps = tuple(name in periods for name in names)
        return cls(contents, names, tuple(nodes), wraps, tuple(lengths), tuple(backwards), degree, path, where)

    def field(self, quantity: str, components: Sequence[tuple[str, tuple[int, ...]]]) -> SplineField | None:
        """The spline through a quantity; None where the file does not hold it."""
        missing = [name for name, _ in components if name not in self.contents.arrays]
        if len(missing) == len(components):
            return None
        if missing:
            given = ", ".join(name for name, _ in components if name not in missing)
            found = f"{self.path} holds {given} but not {', '.join(missing)}"
            required = f"A {quantity.replace('_', ' ')} needs all its components"
            raise CaseError(self.where, found, required, "Add the rest, or leave it out")
        axes, rank = len(self.variables), QUANTITIES[quantity][0]
        values = np.empty((axes,) * rank + tuple(along.size for along in self.nodes))
        for name, index in components:
            values[index] = values[index[::-1]] = self._ordered(name)
        settings = {"degree": self.degree, "periodic": self.periodic, "names": self.variables, "where": self.where}
        return SplineField.through(self.nodes, values, **settings)  # type: ignore[arg-type]

    def _ordered(self, name: str) -> FloatArray:
        """An array of the file over the nodes, which may be more than the file holds: those that close a period."""
        stored = self.contents.arrays[name]
        values = stored.values
        if sorted(stored.dimensions) == sorted(self.variables):
            values = values.transpose([stored.dimensions.index(variable) for variable in self.variables])
        if values.shape != self.lengths:
            found = f"{name} in {self.path} has the shape {shape_words(values)}"
            wanted = " x ".join(f"{n} ({name})" for n, name in zip(self.lengths, self.variables, strict=True))
            turned = values.ndim > 1 and values.shape == self.lengths[::-1]
            remedy = "Transpose it" if turned else "Sample it at all combinations of the nodes"
            raise CaseError(self.where, found, f"It must be {wanted}", remedy)
        values = np.flip(values, self.backwards)
        for axis, along in enumerate(self.nodes):
            if along.size > values.shape[axis]:
                values = np.concatenate([values, values.take([0], axis)], axis)
        check_finite(values, f"values of {name}", self.nodes, self.variables, self.where)
        return values


def _closed(along: FloatArray, period: float, name: str, where: str) -> FloatArray:
    """The increasing nodes of a periodic axis, the first one again at their end."""
    rest = period - (along[-1] - along[0])
    if rest < -ROUNDING * period:
        found = f"the nodes of {name} run over {along[-1] - along[0]:.6g}"
        raise CaseError(where, found, f"Its period is {period:.6g}", "Leave out the nodes that repeat")
    return np.append(along[:-1] if rest <= ROUNDING * period else along, along[0] + period)


def _derivatives(fields: Mapping[str, SplineField | None]) -> tuple[Field | None, Field | None]:
    """Gradient and Hessian: those of the file, else derivatives of what it holds."""
    loss, gradient, hessian = fields["loss"], fields["gradient"], fields["hessian"]
    if gradient is not None:
        return gradient, hessian or symmetric_part(gradient.derivative())
    if loss is None:
        return None, hessian
    return loss.derivative(), hessian or loss.derivative().derivative()


def _examples(contents: Contents, path: Path, where: str) -> int | None:
    """The number of examples, an entry or an attribute."""
    stored = contents.arrays.get(EXAMPLES)
    given = contents.attributes.get(EXAMPLES) if stored is None else stored.values
    if given is None:
        return None
    try:
        number = float(np.asarray(given, dtype=np.float64).reshape(()))
    except (TypeError, ValueError):
        number = math.nan
    if not (number >= 1.0 and number.is_integer()):
        found = f"{EXAMPLES} in {path} is {np.asarray(given)}"
        raise CaseError(where, found, "It is the number of examples, a whole number of at least 1", "")
    return int(number)


def _check_names(
    contents: Contents,
    components: Mapping[str, Sequence[tuple[str, tuple[int, ...]]]],
    variables: Sequence[str],
    path: Path,
    where: str,
) -> None:
    known = [name for found in components.values() for name, _ in found]
    if not set(known) & set(contents.arrays):
        found = f"{path} holds {contents.words}"
        examples = f"loss, or {' and '.join(name for name, _ in components['drift'])}"
        remedy = f"Rename it.{hint}" if (hint := contents.nearest(known)) else ""
        raise CaseError(where, found, f"A table of {', '.join(variables)} holds {examples}", remedy)
    for name in variables:
        if name not in contents.arrays:
            found = f"{path} has no coordinate {name}: it holds {contents.words}"
            required = "Each variable needs an array of its name, with its nodes"
            hint = did_you_mean(name, contents.names)
            raise CaseError(where, found, required, f"Rename the coordinate or the variable.{hint}")
