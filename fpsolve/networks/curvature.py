"""Directions of largest curvature: eigenvectors of the Hessian of the loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from fpsolve.errors import CaseError, RunError
from fpsolve.model.grid import FloatArray
from fpsolve.networks.examples import Examples, LossFunction, Module, Tensor

TOLERANCE = 1e-10  # of an eigenvalue, relative


@final
@dataclass(frozen=True)
class HessianDirections:
    """Eigenvectors of the Hessian of the loss that belong to its largest eigenvalues, largest first."""

    eigenvalues: FloatArray  # (count,) [loss/length**2]
    directions: FloatArray  # (count, parameters), orthonormal; the entry of largest magnitude is positive
    residuals: FloatArray  # (count,) |H v - eigenvalue v|, a bound on the error of the eigenvalue


def top_hessian_directions(
    model: Module,
    loss_function: LossFunction,
    inputs: Tensor,
    targets: Tensor,
    count: int,
    *,
    weight_decay: float = 0.0,
    chunk: int = 1024,
    seed: int = 0,
) -> HessianDirections:
    """Eigenvectors of the Hessian of the mean loss to its largest eigenvalues, at the model as it is.

    By Lanczos' method (ARPACK) on exact products of the Hessian with vectors (Pearlmutter 1994), never the Hessian
    itself. Arguments as for `project`; seed: of the first vector.

    Raises CaseError for as many directions as parameters, RunError where Lanczos' method does not converge.
    """
    examples = Examples(model, loss_function, inputs, targets, chunk, weight_decay)
    size = examples.point.numel()
    if not 0 < count < size:
        found = f"{count} directions of {size} parameters are asked for"
        required = f"1 to {size - 1} can be found"
        raise CaseError("top_hessian_directions", found, required, "Give the directions yourself")
    first = np.random.default_rng(seed).standard_normal(size)
    operator = LinearOperator((size, size), matvec=examples.hessian_product, dtype=np.float64)
    try:
        values, columns = eigsh(operator, k=count, which="LA", v0=first, tol=TOLERANCE)
    except ArpackNoConvergence as error:
        found = f"{len(error.eigenvalues)} of {count} eigenvectors converged"
        raise RunError("top_hessian_directions", found, "", "Ask for fewer, or train the model further") from None
    order = np.argsort(-values)
    vectors = columns.T[order]
    largest = np.take_along_axis(vectors, np.abs(vectors).argmax(axis=1)[:, None], axis=1)
    vectors = vectors * np.sign(largest)
    products = np.array([examples.hessian_product(vector) for vector in vectors])
    residuals = np.linalg.norm(products - values[order, None] * vectors, axis=1)
    return HessianDirections(values[order], vectors, residuals)
