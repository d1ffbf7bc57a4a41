"""The losses of single examples as a function of the parameters of a model, by PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, final

import numpy as np

from fpsolve.errors import CaseError
from fpsolve.model.grid import FloatArray

try:
    import torch
except ImportError:  # an optional part
    torch = None

# A PyTorch module, tensor or loss function; PyTorch may be absent.
Module: TypeAlias = Any
Tensor: TypeAlias = Any
LossFunction: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # outputs, targets -> a loss per example, or their mean

# The mean over examples and the loss of their batch may differ by as much, relative and absolute: float64 leaves far
# less, another reduction far more. So many examples are asked.
SAME_LOSS, NO_LOSS, ASKED = 1e-9, 1e-12, 32


def parameters_of(model: Module) -> FloatArray:
    """The trained parameters of a model as one vector, (parameters,): in its own order, the frozen ones left out."""
    require_torch()
    trained = [parameter.detach().double().reshape(-1) for _, parameter in trained_parameters(model)]
    return np.asarray(torch.cat(trained).cpu().numpy())


@final
class Examples:
    """The losses of single examples as a function of the parameters: the model in float64 and evaluation mode."""

    def __init__(
        self,
        model: Module,
        loss_function: LossFunction,
        inputs: Tensor,
        targets: Tensor,
        chunk: int,
        weight_decay: float,
    ) -> None:
        require_torch()
        self._model = copy.deepcopy(model).double().train(False)
        self._function = loss_function
        self._weight_decay = weight_decay
        trained = [(name, parameter.detach()) for name, parameter in trained_parameters(self._model)]
        self._shapes = {name: parameter.shape for name, parameter in trained}
        self.point = torch.cat([parameter.reshape(-1) for _, parameter in trained])
        self._inputs, self._targets = (_tensor(data, self.point.device) for data in (inputs, targets))
        self.rows = len(self._inputs)
        _check_data(self.rows, len(self._targets), chunk)
        self._chunk = chunk
        self._is_mean = self._gives_mean()

    def tensor(self, values: FloatArray) -> Tensor:
        """Numbers where the model is."""
        return torch.as_tensor(values, device=self.point.device)

    def hessian_product(self, vector: FloatArray) -> FloatArray:
        """The Hessian of the mean loss at the model's own parameters times a vector (parameters,)."""
        total = torch.zeros_like(self.point)
        for inputs, targets in self._chunks():
            with torch.enable_grad():
                parameters = self.point.clone().requires_grad_()
                loss = self._losses(parameters, inputs, targets).sum()
            (slope,) = torch.autograd.grad(loss, parameters, create_graph=True)
            total += torch.autograd.grad(slope, parameters, self.tensor(vector), materialize_grads=True)[0]
        return np.asarray((total / self.rows).cpu().numpy())

    def derivatives(
        self, origin: Tensor, directions: Tensor, coordinates: FloatArray
    ) -> Iterator[tuple[FloatArray, FloatArray, FloatArray]]:
        """Chunk by chunk at origin + coordinates (axes,) times directions (axes, parameters).

        Losses (rows,), their derivatives along the directions (axes, rows), and the sum of their Hessians
        (axes, axes). The graph of s(c, u) = sum_n u_n grad l_n at u = 1 is differentiated by the coordinates c for
        the Hessian and by u for the derivatives of every example.
        """
        for inputs, targets in self._chunks():
            with torch.enable_grad():
                place = self.tensor(coordinates).requires_grad_()
                losses = self._losses(origin + place @ directions, inputs, targets)
            weights = torch.ones_like(losses).requires_grad_()
            (slope,) = torch.autograd.grad(losses, place, weights, create_graph=True)
            parts = [
                torch.autograd.grad(component, (place, weights), retain_graph=True, materialize_grads=True)
                for component in slope
            ]
            hessian, slopes = (torch.stack(part) for part in zip(*parts, strict=True))
            yield losses.detach().cpu().numpy(), slopes.cpu().numpy(), hessian.cpu().numpy()

    def _chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        yield from zip(self._inputs.split(self._chunk), self._targets.split(self._chunk), strict=True)

    def _losses(self, parameters: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        """Losses (rows,) at parameters (parameters,)."""
        # The one implementation of attention that can be differentiated twice.
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            outputs = self._outputs(parameters, inputs)
            losses = self._each(outputs, targets) if self._is_mean else self._function(outputs, targets)
        return losses + 0.5 * self._weight_decay * (parameters @ parameters)

    def _each(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Losses (rows,) by a function that gives the mean: of batches of one."""
        return torch.func.vmap(lambda output, target: self._function(output[None], target[None]))(outputs, targets)

    def _outputs(self, parameters: Tensor, inputs: Tensor) -> Tensor:
        parts = parameters.split([shape.numel() for shape in self._shapes.values()])
        named = {name: part.view(shape) for (name, shape), part in zip(self._shapes.items(), parts, strict=True)}
        return torch.func.functional_call(self._model, named, (inputs,))

    def _gives_mean(self) -> bool:
        """Whether the loss function gives the mean over a batch, and not one loss per example."""
        inputs, targets = self._inputs[:ASKED], self._targets[:ASKED]
        rows = len(inputs)
        required, remedy = "It must give one number per example, or their mean", "Use reduction='none'"
        with torch.no_grad():
            outputs = self._outputs(self.point, inputs)
            losses = self._function(outputs, targets)
            if losses.shape == (rows,):
                return False
            if losses.ndim:
                found = f"it gives the shape {tuple(losses.shape)} for {rows} examples"
                raise CaseError("loss_function", found, required, "Take the mean over what belongs to one example")
            mean = self._each(outputs, targets).mean()
        if not torch.isclose(mean, losses, rtol=SAME_LOSS, atol=NO_LOSS):
            found = f"for {rows} examples it gives {float(losses):g}, for each alone {float(mean):g} in the mean"
            raise CaseError("loss_function", found, required, remedy)
        return True


def require_torch() -> None:
    """Raise CaseError where PyTorch is absent."""
    if torch is None:
        remedy = "pip install 'fpsolve[torch]'"
        raise CaseError("fpsolve.networks", "PyTorch is not installed", "Networks need it", remedy)


def trained_parameters(model: Module) -> list[tuple[str, Tensor]]:
    """Names and values of the parameters that are trained, in the model's order. Raises CaseError for none."""
    require_torch()
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    if not trained:
        raise CaseError("model", "none of its parameters is trained", "At least one must be", "Set requires_grad")
    return trained


def _tensor(data: Tensor, device: Any) -> Tensor:
    tensor = torch.as_tensor(data, device=device).detach()
    return tensor.double() if tensor.is_floating_point() else tensor


def _check_data(inputs: int, targets: int, chunk: int) -> None:
    if inputs != targets or not inputs:
        found = f"{inputs} inputs and {targets} targets"
        raise CaseError("inputs", found, "As many of both are needed, at least one", "")
    if chunk < 1:
        raise CaseError("chunk", f"it is {chunk}", "It must be at least 1", "")
