"""Loss, gradient, Hessian and gradient noise of a model over a plane, and the table that holds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import ArrayLike

from fpsolve.errors import CaseError, RunError
from fpsolve.model.grid import FloatArray
from fpsolve.model.table import write_table
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
        """Write the table of a case file: NPZ if the path ends so, else NetCDF-4.

        Attributes: `examples`, the weight decay, the number of parameters, lengths and cosines of the directions as
        given, and those named here, such as title, description, eigenvalues.

        Raises RunError when the disk refuses.
        """
        known: dict[str, Any] = {
            "weight_decay": self.weight_decay,
            "parameters": self.plane.point.size,
            "direction_lengths": self.plane.lengths,
            "direction_cosines": self.plane.cosines.ravel(),
            "fpsolve_version": __version__,
        }
        write_table(
            path,
            self.variables,
            self.nodes,
            attributes={**known, **attributes},
            loss=self.loss,
            gradient=self.gradient,
            hessian=self.hessian,
            gradient_covariance=self.gradient_covariance,
            examples=self.examples,
        )


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
    axes : nodes along each direction [length], increasing: at least six for quintic splines through the table, four for
        cubic ones.
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
