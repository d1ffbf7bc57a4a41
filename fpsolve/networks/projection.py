"""Loss, gradient, Hessian and gradient noise of a model over a plane, and the table that holds them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, final

import h5netcdf
import numpy as np
from numpy.typing import ArrayLike

from fpsolve.errors import CaseError, RunError
from fpsolve.model.grid import FloatArray
from fpsolve.networks.examples import Examples, LossFunction, Module, Tensor
from fpsolve.networks.plane import Plane
from fpsolve.version import __version__

Progress: TypeAlias = Callable[[str, float], None]  # stage, share done

NAMES = ("x", "y", "z")
FEWEST_NODES = 4  # along an axis: what a cubic spline needs


@final
@dataclass(frozen=True)
class ProjectedLandscape:
    """Loss, gradient, Hessian and gradient noise on the nodes of a plane; what the table of a case file holds.

    hessian and gradient_covariance are symmetric; the latter is the covariance over the examples (1/N) of the
    gradients of their losses.
    """

    variables: tuple[str, ...]
    nodes: tuple[FloatArray, ...]  # along each axis [length]
    loss: FloatArray  # (*nodes) mean over the examples
    gradient: FloatArray  # (axes, *nodes) [loss/length]
    hessian: FloatArray  # (axes, axes, *nodes) [loss/length**2]
    gradient_covariance: FloatArray  # (axes, axes, *nodes) [loss**2/length**2]
    examples: int
    plane: Plane
    weight_decay: float = 0.0

    def write(self, path: str | Path, **attributes: str | float | ArrayLike) -> None:
        """Write the table of a case file (NetCDF-4), through a temporary file beside it.

        Coordinates are named after the variables; loss, gradient_x, …, hessian_xx, hessian_xy, …,
        gradient_covariance_xx, … Attributes: `examples`, the lengths and cosines of the directions as given, and
        those named here, such as title, description, eigenvalues.

        Raises RunError when the disk refuses.
        """
        known: dict[str, Any] = {
            "examples": self.examples,
            "weight_decay": self.weight_decay,
            "parameters": self.plane.point.size,
            "direction_lengths": self.plane.lengths,
            "direction_cosines": self.plane.cosines.ravel(),
            "fpsolve_version": __version__,
        }
        _write_table(Path(path), self.variables, self.nodes, self._fields(), {**known, **attributes})

    def _fields(self) -> dict[str, FloatArray]:
        names = self.variables
        fields = {"loss": self.loss}
        fields |= {f"gradient_{name}": part for name, part in zip(names, self.gradient, strict=True)}
        for prefix, matrix in (("hessian", self.hessian), ("gradient_covariance", self.gradient_covariance)):
            for row, first in enumerate(names):
                fields |= {f"{prefix}_{first}{names[j]}": matrix[row, j] for j in range(row, len(names))}
        return fields


def project(
    model: Module,
    loss_function: LossFunction,
    inputs: Tensor,
    targets: Tensor,
    plane: Plane,
    axes: Sequence[ArrayLike],
    *,
    variables: Sequence[str] | None = None,
    weight_decay: float = 0.0,
    chunk: int = 1024,
    progress: Progress | None = None,
) -> ProjectedLandscape:
    """Loss, gradient, Hessian and gradient noise of a model on the nodes of a plane.

    With the loss l_n of example n as a function of the coordinates c, N examples: loss = mean l_n,
    gradient = mean grad l_n, Hessian = mean of the second derivatives, and the covariance of the gradient noise

        C = 1/N sum_n (grad l_n - gradient) (grad l_n - gradient)^T,

    which is V^T C V of the full gradients, V the directions. All are exact derivatives (no differences), by backward
    mode twice: forward mode within forward mode, cheaper by count, is missing for some layers and wrong for others
    (layer norm, PyTorch 2.14).

    In float64, on a copy of the model in evaluation mode: no dropout, and batch norm with its running statistics,
    since in training mode examples have no losses of their own. SGD of a network with either is noisier than C says.
    A network that is not smooth (ReLU) has kinks between the nodes: its Hessian lacks what lies on them.

    Parameters
    ----------
    model : a torch.nn.Module, of one input; outputs have one row per example. It is not changed.
    loss_function : outputs, targets -> losses (examples,), or their mean (then it is asked of one example at a time).
    inputs, targets : tensors or arrays, one row per example; real ones are taken in float64.
    plane : as many parameters as the model trains; its point need not be the model's own.
    axes : nodes along each direction [length], increasing, at least four.
    variables : names of the axes; x, y, z when left out.
    weight_decay : as torch.optim.SGD's: adds weight_decay/2 |parameters|**2 to the loss; without noise.
    chunk : examples at a time; bounds the memory and changes the result by rounding alone.
    progress : called with the stage and the share done.

    Raises CaseError for what does not fit together, RunError where the loss is not finite.
    """
    examples = Examples(model, loss_function, inputs, targets, chunk, weight_decay)
    nodes = tuple(_nodes(axis, number) for number, axis in enumerate(axes, start=1))
    names = NAMES[: plane.axes] if variables is None else tuple(variables)
    _check_plane(plane, examples.point.numel(), nodes, names)
    shape, count = tuple(axis.size for axis in nodes), plane.axes
    loss, gradient = np.empty(shape), np.empty((count, *shape))
    hessian, covariance = np.empty((count, count, *shape)), np.empty((count, count, *shape))
    origin, directions = examples.tensor(plane.point), examples.tensor(plane.directions)
    for number, place in enumerate(np.ndindex(shape)):
        coordinates = np.array([axis[index] for axis, index in zip(nodes, place, strict=True)])
        with np.errstate(over="ignore", invalid="ignore"):  # asked next
            found = _moments(examples, origin, directions, coordinates)
        if not all(np.isfinite(part).all() for part in found):
            where = ", ".join(f"{name} = {value:.6g}" for name, value in zip(names, coordinates, strict=True))
            raise RunError(f"project at {where}", "the loss or a derivative is not finite", "", "Take a smaller plane")
        here = (..., *place)
        loss[place], gradient[here], hessian[here], covariance[here] = found
        if progress is not None:
            progress("projection", (number + 1) / loss.size)
    return ProjectedLandscape(names, nodes, loss, gradient, hessian, covariance, examples.rows, plane, weight_decay)


def _moments(
    examples: Examples, origin: Tensor, directions: Tensor, coordinates: FloatArray
) -> tuple[float, FloatArray, FloatArray, FloatArray]:
    """Loss, gradient, Hessian and gradient covariance at coordinates (axes,).

    Chunks are joined as by Chan, Golub & LeVeque 1983: no difference of large squares.
    """
    axes, rows, loss = len(coordinates), 0, 0.0
    gradient, hessian, scatter = np.zeros(axes), np.zeros((axes, axes)), np.zeros((axes, axes))
    for losses, slopes, curvature in examples.derivatives(origin, directions, coordinates):
        share = len(losses) / (rows + len(losses))
        mean = slopes.mean(axis=1)
        apart, step = slopes - mean[:, None], mean - gradient
        scatter += apart @ apart.T + rows * share * np.outer(step, step)
        loss += share * (float(losses.mean()) - loss)
        gradient += share * step
        hessian += share * (curvature / len(losses) - hessian)
        rows += len(losses)
    return loss, gradient, 0.5 * (hessian + hessian.T), scatter / rows


def _nodes(given: ArrayLike, number: int) -> FloatArray:
    nodes = np.asarray(given, dtype=np.float64)
    if nodes.ndim != 1 or nodes.size < FEWEST_NODES or not (np.diff(nodes) > 0.0).all():
        required = f"The nodes must be increasing numbers, at least {FEWEST_NODES}"
        raise CaseError("axes", f"axis {number} is not a list of nodes", required, "np.linspace(-1, 1, 41), say")
    return nodes


def _check_plane(plane: Plane, parameters: int, nodes: Sequence[FloatArray], names: Sequence[str]) -> None:
    if plane.point.size != parameters:
        found = f"its point has {plane.point.size} parameters, the model trains {parameters}"
        raise CaseError("plane", found, "They must be the same", "Use parameters_of(model)")
    if not len(nodes) == len(set(names)) == len(names) == plane.axes:
        found = f"{len(nodes)} axes of nodes, variables {', '.join(names)}, and {plane.axes} directions"
        raise CaseError("axes", found, "As many of each are needed, with names of their own", "")


def _write_table(
    path: Path,
    variables: Sequence[str],
    nodes: Sequence[FloatArray],
    fields: Mapping[str, FloatArray],
    attributes: Mapping[str, Any],
) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with h5netcdf.File(temporary, "w") as file:
            file.dimensions = {name: axis.size for name, axis in zip(variables, nodes, strict=True)}
            for name, axis in zip(variables, nodes, strict=True):
                file.create_variable(name, (name,), data=axis)
            for name, values in fields.items():
                file.create_variable(name, tuple(variables), data=np.ascontiguousarray(values))
            for name, value in attributes.items():
                file.attrs[name] = value
        os.replace(temporary, path)
    except OSError as error:
        found = f"the table cannot be written ({error.strerror or error})"
        raise RunError(str(path), found, "", "Choose another place") from None
    finally:
        temporary.unlink(missing_ok=True)
