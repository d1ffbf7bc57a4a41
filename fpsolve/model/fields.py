"""Fields: numbers, vectors and matrices that depend on the position, with their derivatives.

A field is called with positions (axes, points) and gives (*shape, points). Its derivative has one more
index, the last of its shape: derivative()[..., k] is the derivative along axis k. A field that changes in time is
read at the time it was taken `at`, 0 from the start.
"""

from __future__ import annotations

import abc
import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self, TypeAlias, final

import numpy as np

from fpsolve.errors import CaseError
from fpsolve.model.expressions import TIME, Expression, ExpressionArray
from fpsolve.model.grid import FloatArray

# What a user may give: an expression or number, nested lists of them, or a vectorised function of one array per axis
# (and, where it changes in time, of the keyword t).
Source: TypeAlias = "str | float | Sequence[Source] | Callable[..., object]"

# Fourth-order differences: the error is step**4 f'''''/30, the rounding error 1e-16 f/step; this step balances third
# derivatives of smooth functions of order one.
DIFFERENCE_STEP = 1e-2
POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Field(abc.ABC):
    """A number, vector or matrix at every position."""

    shape: tuple[int, ...]
    is_constant: bool  # the same everywhere, at any one time
    depends_on_time: bool

    @abc.abstractmethod
    def __call__(self, positions: FloatArray) -> FloatArray:
        """Values (*shape, points) at positions (axes, points)."""

    @abc.abstractmethod
    def derivative(self) -> Field:
        """The field of partial derivatives, shape (*shape, axes)."""

    def with_derivative(self, positions: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Values (*shape, points) and partial derivatives (*shape, axes, points), where one computation may do both."""
        return self(positions), self.derivative()(positions)

    @abc.abstractmethod
    def at(self, time: float) -> Self:
        """The field at a time."""


@final
@dataclass(frozen=True)
class SymbolicField(Field):
    """A field of expressions; its derivatives are exact."""

    entries: tuple[Expression, ...]  # flat, in C order of shape
    shape: tuple[int, ...]
    variables: tuple[str, ...]
    time: float = 0.0

    @property
    def is_constant(self) -> bool:  # type: ignore[override]
        """Whether no entry names a variable."""
        return all(entry.is_constant for entry in self.entries)

    @property
    def depends_on_time(self) -> bool:  # type: ignore[override]
        """Whether an entry names the time."""
        return any(entry.depends_on_time for entry in self.entries)

    def __call__(self, positions: FloatArray) -> FloatArray:
        """Values (*shape, points)."""
        return ExpressionArray(self.entries, self.shape)(positions, self.time)

    def derivative(self) -> SymbolicField:
        """Exact partial derivatives."""
        axes = len(self.variables)
        return SymbolicField(slopes(self.entries, axes), (*self.shape, axes), self.variables, self.time)

    def at(self, time: float) -> SymbolicField:
        """The field at a time."""
        return replace(self, time=time) if self.depends_on_time else self


@functools.lru_cache(maxsize=256)  # differentiation takes far longer than evaluation
def slopes(entries: tuple[Expression, ...], axes: int) -> tuple[Expression, ...]:
    """Derivatives of expressions along every axis, the axis fastest."""
    return tuple(entry.derivative(axis) for entry in entries for axis in range(axes))


@final
@dataclass(frozen=True)
class FunctionField(Field):
    """A field given by a vectorised Python function of one array per axis; derivatives by differences.

    A function that takes the keyword t depends on the time.
    """

    function: Callable[..., object]
    shape: tuple[int, ...]
    axes: int
    where: str
    is_constant: bool = False
    time: float = 0.0

    @functools.cached_property
    def depends_on_time(self) -> bool:  # type: ignore[override]
        """Whether the function takes the time, after the coordinates."""
        try:
            parameters = inspect.signature(self.function).parameters
        except (TypeError, ValueError):  # of some functions written in C nothing is known
            return False
        coordinates = [name for name, given in parameters.items() if given.kind in POSITIONAL][: self.axes]
        return TIME in parameters and TIME not in coordinates

    def __call__(self, positions: FloatArray) -> FloatArray:
        """Values (*shape, points)."""
        points = positions.shape[1]
        with np.errstate(all="ignore"):
            found = self.function(*positions, **({TIME: self.time} if self.depends_on_time else {}))
        try:
            flat = [np.broadcast_to(np.asarray(entry, np.float64), points) for entry in _flatten(found, self.shape)]
        except (TypeError, ValueError) as error:
            required = f"It must return {_shape_words(self.shape)}, each entry an array of {points} numbers"
            raise CaseError(self.where, f"the function returned something else ({error})", required, "") from None
        return np.array(flat).reshape(*self.shape, points)

    def derivative(self) -> FunctionField:
        """Partial derivatives by fourth-order central differences of step DIFFERENCE_STEP."""

        def differences(*coordinates: FloatArray, t: float = self.time) -> FloatArray:
            positions, field_then = np.array(coordinates), self.at(t)
            slopes = []
            for axis in range(len(coordinates)):
                step = np.zeros((len(coordinates), 1))
                step[axis] = DIFFERENCE_STEP
                near = field_then(positions + step) - field_then(positions - step)
                far = field_then(positions + 2.0 * step) - field_then(positions - 2.0 * step)
                slopes.append((8.0 * near - far) / (12.0 * DIFFERENCE_STEP))
            return np.stack(slopes, axis=-2)

        function = differences if self.depends_on_time else lambda *coordinates: differences(*coordinates)
        return FunctionField(function, (*self.shape, self.axes), self.axes, self.where, time=self.time)

    def at(self, time: float) -> FunctionField:
        """The field at a time."""
        return replace(self, time=time) if self.depends_on_time else self


@final
@dataclass(frozen=True)
class LinearImage(Field):
    """A constant linear map of a field, which acts on the first indices of its shape and keeps that shape."""

    original: Field
    image: Callable[[FloatArray], FloatArray]

    @property
    def shape(self) -> tuple[int, ...]:  # type: ignore[override]
        """That of the original."""
        return self.original.shape

    @property
    def is_constant(self) -> bool:  # type: ignore[override]
        """Whether the original is."""
        return self.original.is_constant

    @property
    def depends_on_time(self) -> bool:  # type: ignore[override]
        """Whether the original does."""
        return self.original.depends_on_time

    def __call__(self, positions: FloatArray) -> FloatArray:
        """Values (*shape, points)."""
        return self.image(self.original(positions))

    def derivative(self) -> LinearImage:
        """The image of the derivative."""
        return LinearImage(self.original.derivative(), self.image)

    def with_derivative(self, positions: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Values and partial derivatives."""
        values, slopes = self.original.with_derivative(positions)
        return self.image(values), self.image(slopes)

    def at(self, time: float) -> LinearImage:
        """The field at a time."""
        return LinearImage(self.original.at(time), self.image)


def congruence(matrix: Field, factor: FloatArray) -> LinearImage:
    """M A M of a matrix field A and a constant symmetric matrix M, (axes, axes)."""
    return LinearImage(matrix, functools.partial(_between, factor))


def symmetric_part(matrix: Field) -> LinearImage:
    """(A + A^T)/2 of a matrix field A: the derivative of an interpolated gradient is not symmetric, a Hessian is."""
    return LinearImage(matrix, _symmetrised)


def _between(factor: FloatArray, values: FloatArray) -> FloatArray:
    return np.asarray(np.einsum("ia,ab...,bj->ij...", factor, values, factor))


def _symmetrised(values: FloatArray) -> FloatArray:
    return np.asarray(0.5 * (values + values.swapaxes(0, 1)))


def field(
    source: Source,
    shape: tuple[int, ...],
    variables: Sequence[str],
    parameters: Mapping[str, float],
    where: str,
    *,
    timed: bool = False,
) -> Field:
    """Read a field of the given shape from what a user gave; `where` is the place named in messages.

    timed: whether it may change in time.


    Raises CaseError when the nesting does not have that shape or an expression is not understood.
    """
    if callable(source):
        return FunctionField(source, shape, len(variables), where)
    try:
        texts = _flatten(source, shape)
    except ValueError as error:
        raise CaseError(where, str(error), f"Give {_shape_words(shape)}", "") from None
    entries = tuple(
        Expression.parse(text, variables, parameters, where, timed=timed)  # type: ignore[arg-type]
        for text in texts
    )
    return SymbolicField(entries, shape, tuple(variables))


def _flatten(source: object, shape: tuple[int, ...]) -> list[object]:
    """The entries of nested sequences of a known shape, in C order; a bare entry may stand for a 1 x 1.

    Raises ValueError for any other shape.
    """
    if not shape:
        return [source]
    if math.prod(shape) == 1 and (isinstance(source, str | int | float) or getattr(source, "ndim", 0) == 1):
        return [source]
    length = len(source) if isinstance(source, Sequence | np.ndarray) and not isinstance(source, str) else None
    if length != shape[0]:
        message = f"{'a single entry' if length is None else length} found where {shape[0]} entries belong"
        raise ValueError(message)
    return [entry for part in source for entry in _flatten(part, shape[1:])]  # type: ignore[attr-defined]


def _shape_words(shape: tuple[int, ...]) -> str:
    words = {0: "one number", 1: f"a list of {shape[0] if shape else 1} entries"}
    return words.get(len(shape)) or " x ".join(str(length) for length in shape) + " entries in nested lists"
