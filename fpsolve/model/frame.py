"""Frames: a grid may be turned, with axes along directions of its own through a point of its own.

    x = at + R^T u,    u = R (x - at),    R orthogonal

x is a position in the user's coordinates, u the same along the axes of the grid; row k of R is the direction of axis k.
A vector has the components R v along the axes, a matrix R M R^T.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import qr

from fpsolve.errors import CaseError

FloatArray: TypeAlias = NDArray[np.float64]

WHERE = "grid.axes"
MOST_AXES = 3
# Directions whose cosines are below this are orthogonal but for the digits that they are written with.
ORTHOGONAL = 1e-6
# Curvatures that differ by less than this share of the largest are equal: any directions are principal ones.
EQUAL = 1e-9
# A component of a direction that is rounding.
NOTHING = 1e-9
# The components of a direction that are the largest but for rounding.
AS_LARGE = 1.0 - 1e-9


@final
@dataclass(frozen=True, eq=False)
class Frame:
    """Where the axes of a turned grid begin and along which directions they run; all in the user's coordinates.

    variables: the names of those, (axes,); at: the origin of the axes, (axes,) [length]; directions: one row for every
    axis, (axes, axes), orthogonal to each other; their lengths do not matter. Rows that are orthogonal to six digits
    are made so to rounding, from the first to the last (Gram-Schmidt), and of length one.

    Raises CaseError where there is only one variable, the numbers do not fit together, or the rows are not orthogonal.
    """

    variables: tuple[str, ...]
    at: FloatArray
    directions: FloatArray

    def __init__(
        self,
        variables: Sequence[str],
        at: Sequence[float] | FloatArray,
        directions: Sequence[Sequence[float]] | FloatArray,
    ) -> None:
        names, origin = tuple(variables), _origin(at, variables)
        rows = _rows(directions, names)
        object.__setattr__(self, "variables", names)
        object.__setattr__(self, "at", origin)
        object.__setattr__(self, "directions", _orthonormal(rows))

    @classmethod
    def principal(cls, variables: Sequence[str], at: Sequence[float] | FloatArray, hessian: FloatArray) -> Frame:
        """The frame along the eigenvectors of a Hessian (axes, axes): axis_1 is that of the largest eigenvalue.

        Every direction points to where its largest component is positive (of equally large ones the first); those of
        equal eigenvalues are the coordinate axes nearest to their plane, made orthogonal.

        Raises CaseError where the Hessian is not finite.
        """
        origin = _origin(at, variables)
        if not np.isfinite(hessian).all():
            found = f"the Hessian of the loss is not finite at {_place(variables, origin)}"
            raise CaseError(f"{WHERE}.at", found, "It gives the directions of the axes", "Move the point")
        values, vectors = np.linalg.eigh(0.5 * (hessian + hessian.T))
        values, vectors = values[::-1], vectors[:, ::-1]
        groups = np.cumsum(np.append(0.0, -np.diff(values)) > EQUAL * max(np.abs(values).max(), np.finfo(float).tiny))
        rows = []
        for group in np.unique(groups):
            alike = vectors[:, groups == group]
            if alike.shape[1] > 1:
                alike = qr(alike @ alike.T, pivoting=True)[0][:, : alike.shape[1]]
            rows += [_oriented(column) for column in alike.T]
        return cls(variables, origin, np.array(rows))

    def along(self, positions: FloatArray) -> FloatArray:
        """Coordinates along the axes, u, of positions (axes, ...)."""
        return self.turned((positions.T - self.at).T)

    def positions(self, coordinates: FloatArray) -> FloatArray:
        """Positions of coordinates along the axes (axes, ...)."""
        return (self.unturned(coordinates).T + self.at).T

    def turned(self, vectors: FloatArray) -> FloatArray:
        """Components along the axes of vectors (axes, ...) in the user's coordinates."""
        return np.tensordot(self.directions, vectors, axes=1)

    def unturned(self, vectors: FloatArray) -> FloatArray:
        """Vectors in the user's coordinates of components along the axes (axes, ...)."""
        return np.tensordot(self.directions.T, vectors, axes=1)

    def turned_matrices(self, matrices: FloatArray) -> FloatArray:
        """Components along the axes, R M R^T, of matrices (axes, axes, ...)."""
        return _conjugated(self.directions, matrices)

    def unturned_matrices(self, matrices: FloatArray) -> FloatArray:
        """Matrices in the user's coordinates of components along the axes (axes, axes, ...)."""
        return _conjugated(self.directions.T, matrices)

    def words(self, axis: int, name: str) -> str:
        """An axis in words: 'axis_1 = 0.92 x + 0.38 y from (-1, 0)'."""
        origin = ", ".join(f"{round(float(x), 9) + 0.0:.4g}" for x in self.at)
        return f"{self.direction_words(axis, name)} from ({origin})"

    def direction_words(self, axis: int, name: str) -> str:
        """The direction of an axis in words: 'axis_1 = 0.92 x + 0.38 y'."""
        words = ""
        for share, variable in zip(self.directions[axis], self.variables, strict=True):
            if abs(share) > NOTHING:
                factor = "" if abs(share) > 1.0 - NOTHING else f"{abs(share):.3g} "
                sign = ("-" if share < 0.0 else "") if not words else (" - " if share < 0.0 else " + ")
                words += f"{sign}{factor}{variable}"
        return f"{name} = {words}"

    def formula(self, axis: int) -> str:
        """The coordinate along an axis as a formula in the variables: '0.92*(x - -1) + 0.38*(y - 0)'."""
        parts = zip(self.directions[axis], self.variables, self.at, strict=True)
        terms = [f"{share:.6g}*({name} - {origin:.6g})" for share, name, origin in parts if abs(share) > NOTHING]
        return " + ".join(terms)


def _conjugated(left: FloatArray, matrices: FloatArray) -> FloatArray:
    return np.asarray(np.einsum("ai,ij...,bj->ab...", left, matrices, left, optimize=matrices.ndim > 2))


def _oriented(direction: FloatArray) -> FloatArray:
    """The direction, or its opposite: the first of its largest components is positive."""
    sizes = np.abs(direction)
    return direction * np.sign(direction[int(np.argmax(sizes >= AS_LARGE * sizes.max()))])


def _origin(at: Sequence[float] | FloatArray, variables: Sequence[str]) -> FloatArray:
    axes, origin = len(variables), np.asarray(at, dtype=np.float64)
    if not 2 <= axes <= MOST_AXES:
        required = f"A grid of 2 to {MOST_AXES} axes can be turned"
        raise CaseError(WHERE, f"{axes} variable{'s' if axes != 1 else ''}", required, "Remove it")
    if origin.shape != (axes,):
        found, required = f"{origin.size} coordinates", f"A point needs {axes}, one per variable"
        raise CaseError(f"{WHERE}.at", found, required, "")
    if not np.isfinite(origin).all():
        raise CaseError(f"{WHERE}.at", "it is not finite", "Axes begin at a point", "")
    return origin


def _rows(directions: Sequence[Sequence[float]] | FloatArray, variables: Sequence[str]) -> FloatArray:
    where, axes = f"{WHERE}.directions", len(variables)
    required = f"It needs {axes} rows, one for every axis, of {axes} numbers, one for every variable"
    try:
        rows = np.array(directions, dtype=np.float64)
    except ValueError:
        raise CaseError(where, "its rows are not alike", required, "") from None
    if rows.shape != (axes, axes):
        raise CaseError(where, f"it is {' x '.join(map(str, rows.shape))}", required, "")
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    if not (np.isfinite(lengths) & (lengths > 0.0)).all():
        raise CaseError(where, "a row is zero or not finite", "A row is the direction of an axis", "")
    return rows / lengths


def _orthonormal(rows: FloatArray) -> FloatArray:
    """Rows of length one, orthogonal to rounding. Raises CaseError where they are not orthogonal to six digits."""
    cosines = rows @ rows.T - np.eye(len(rows))
    made, triangle = np.linalg.qr(rows.T)
    made = (made * np.sign(np.diag(triangle))).T
    if np.abs(cosines).max() > ORTHOGONAL:
        one, other = np.unravel_index(int(np.argmax(np.abs(cosines))), cosines.shape)
        angle = np.degrees(np.arccos(np.clip(cosines[one, other], -1.0, 1.0)))
        found = f"rows {min(one, other) + 1} and {max(one, other) + 1} are at {angle:.4g} degrees"
        required = "The axes of a grid are at right angles"
        near = f"Write {_listed(made)}" if np.linalg.cond(rows) < 1e6 else ""
        raise CaseError(f"{WHERE}.directions", found, required, near)
    return np.asarray(made)


def _listed(rows: FloatArray) -> str:
    listed = (", ".join(f"{share + 0.0:.9g}" for share in row) for row in rows)
    return f"[{', '.join(f'[{row}]' for row in listed)}]"


def _place(variables: Sequence[str], position: FloatArray) -> str:
    return ", ".join(f"{name} = {x:g}" for name, x in zip(variables, position, strict=True))
