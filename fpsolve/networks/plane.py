"""A plane through parameter space, and directions that do not ask for the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike

from fpsolve.errors import CaseError
from fpsolve.model.grid import FloatArray
from fpsolve.networks.examples import Module, trained_parameters

LARGEST = 3  # axes of a landscape
# Directions that are closer than this to the span of those before them, as a share of their length, name no new one.
DEPENDENT = 1e-8


@final
@dataclass(frozen=True, init=False)
class Plane:
    """A plane (line, box) in parameter space: parameters = point + sum over axes of coordinate times direction.

    The directions are made orthonormal in the order given (Gram & Schmidt): the first only loses its length, each
    later one also what it shares with those before it. Only so is SGD, projected orthogonally onto the plane, a drift
    -gradient with noise of covariance V^T C V in the coordinates, V the directions as columns. Other coordinates
    c with parameters = point + V c would need the mobility (V^T V)^-1, and noise (V^T V)^-1 V^T C V (V^T V)^-1.
    Coordinates are therefore lengths in parameter space. To count in filter norms, or in the distance to another
    solution, multiply by `lengths`.

    What a plane is not: a plane that SGD stays in. SGD moves along all parameters, and much of its noise points out of
    the plane (two thirds on the plane of cases/digits.toml); a density on the plane holds all other directions fixed
    at `point`. It is a section: true for motion that the other directions take no part in, as along eigenvectors of
    the Hessian close to a minimum, along which Xie, Sato & Sugiyama 2021 let SGD escape. A barrier on the plane is an
    upper bound, there may be a way around; and a section shows less non-convexity than there is (Li, Xu, Taylor,
    Studer & Goldstein 2018).

    Parameters
    ----------
    point : (parameters,), where the coordinates are zero; `parameters_of(model)` for a model as it is.
    directions : (axes, parameters), one to three, linearly independent.

    Raises CaseError for wrong shapes, entries that are not finite, directions that depend on each other.
    """

    point: FloatArray  # (parameters,)
    directions: FloatArray  # (axes, parameters), orthonormal
    lengths: FloatArray  # (axes,) lengths of the directions as given
    cosines: FloatArray  # (axes, axes) between the directions as given

    def __init__(self, point: ArrayLike, directions: ArrayLike) -> None:
        origin, given = _numbers(point, "point"), np.atleast_2d(_numbers(directions, "directions"))
        _check_directions(origin, given)
        lengths = np.linalg.norm(given, axis=1)
        units = given / lengths[:, None]
        columns, triangle = np.linalg.qr(units.T)
        heights = np.diag(triangle)
        if np.abs(heights).min() < DEPENDENT:
            number = int(np.abs(heights).argmin()) + 1
            found = f"direction {number} is a combination of those before it"
            raise CaseError("plane.directions", found, "They must be linearly independent", f"Leave out {number}")
        values = {
            "point": origin,
            "directions": (columns * np.sign(heights)).T,
            "lengths": lengths,
            "cosines": units @ units.T,
        }
        for key, value in values.items():
            object.__setattr__(self, key, value)

    @property
    def axes(self) -> int:
        """Number of directions."""
        return len(self.directions)

    def parameters(self, coordinates: ArrayLike) -> FloatArray:
        """Parameters (..., parameters) at coordinates (..., axes)."""
        return self.point + np.asarray(coordinates, dtype=np.float64) @ self.directions

    def coordinates(self, parameters: ArrayLike) -> FloatArray:
        """Coordinates (..., axes) of the points of the plane nearest to parameters (..., parameters)."""
        return (np.asarray(parameters, dtype=np.float64) - self.point) @ self.directions.T


def random_directions(model: Module, count: int, seed: int) -> FloatArray:
    """Filter-normalised random directions, (count, parameters): Li, Xu, Taylor, Studer & Goldstein 2018.

    Each filter of a Gaussian direction (an output channel of a convolution, a row of a linear layer's weight) gets
    the norm of the model's own filter: one unit then changes every filter by its own size, whatever the scales of the
    layers. Parameters with one index, biases and those of batch norm, do not move, as in the authors' own pictures
    (their options xnorm=filter, xignore=biasbn). They do not have unit length; `Plane.lengths` keeps it.
    """
    generator = np.random.default_rng(seed)
    weights = [parameter.detach().double().cpu().numpy() for _, parameter in trained_parameters(model)]
    return np.array([np.concatenate([_like(weight, generator) for weight in weights]) for _ in range(count)])


def _like(weight: FloatArray, generator: np.random.Generator) -> FloatArray:
    """A Gaussian direction with the filter norms of a weight, flat; zero for weights of one index."""
    if weight.ndim <= 1:
        return np.zeros(weight.size)
    filters = weight.reshape(len(weight), -1)
    direction = generator.standard_normal(filters.shape)
    norms = np.linalg.norm(filters, axis=1) / np.linalg.norm(direction, axis=1)
    return np.asarray(norms[:, None] * direction).ravel()


def _numbers(given: ArrayLike, key: str) -> FloatArray:
    try:
        numbers = np.array(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise CaseError(f"plane.{key}", "it is not an array of numbers", "It must be", "") from None
    if not np.isfinite(numbers).all():
        raise CaseError(f"plane.{key}", "an entry is not finite", "All entries must be finite numbers", "")
    return numbers


def _check_directions(point: FloatArray, directions: FloatArray) -> None:
    if point.ndim != 1 or directions.ndim != 2 or directions.shape[1] != point.size:
        found = f"point has the shape {point.shape}, directions {directions.shape}"
        required = "They must be (parameters,) and (axes, parameters)"
        raise CaseError("plane", found, required, "Give directions as rows, in the order of parameters_of(model)")
    if not 1 <= len(directions) <= min(LARGEST, point.size):
        raise CaseError("plane.directions", f"there are {len(directions)}", "One to three are possible", "")
    lengths = np.linalg.norm(directions, axis=1)
    if not lengths.all():
        number = int(lengths.argmin()) + 1
        raise CaseError("plane.directions", f"direction {number} is zero", "It must have a length", "")
