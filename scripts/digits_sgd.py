"""Run SGD itself beside cases/digits.toml: confined to the plane of the table, and free in all 1210 parameters.

    OMP_NUM_THREADS=1 python scripts/digits_sgd.py      (needs what digits_landscape.py needs; two minutes on one core)

A thousand runs from the minimum, batches drawn with replacement, 600 steps; variances along x and y over the runs,
averaged from step 100 on. Measured (PyTorch 2.14), learning rate 0.1, batch 4:

    Fokker-Planck on the plane, cases/digits.toml    2.400e-3   2.460e-3
    SGD, projected onto the plane after every step   2.84e-3    2.70e-3     finite steps and noise that is not Gaussian
    SGD in all parameters                            3.63e-3    3.39e-3     also: the noise grows off the plane

Standard errors 0.03e-3, from 25 times that hang together a little.
"""

from __future__ import annotations

import numpy as np
import torch
from digits_landscape import WEIGHT_DECAY, digits, losses, trained

from fpsolve.model.grid import FloatArray
from fpsolve.networks import Plane, parameters_of, top_hessian_directions

RUNS, STEPS, FIRST, EVERY = 1000, 600, 100, 20
LEARNING_RATE, BATCH_SIZE = 0.1, 4


def variances(
    model: torch.nn.Module, pixels: torch.Tensor, labels: torch.Tensor, plane: Plane, confined: bool
) -> tuple[FloatArray, FloatArray]:
    """Variances along the axes of the plane, (axes,), and their standard errors."""
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}

    def loss(parameters: torch.Tensor, images: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        parts = parameters.split([shape.numel() for shape in shapes.values()])
        named = {name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=True)}
        outputs = torch.func.functional_call(model, named, (images,))
        return losses(outputs, numbers).mean() + 0.5 * WEIGHT_DECAY * parameters @ parameters

    slopes = torch.func.vmap(torch.func.grad(loss))
    generator = torch.Generator().manual_seed(3)
    origin, directions = torch.as_tensor(plane.point), torch.as_tensor(plane.directions)
    places, found = origin.repeat(RUNS, 1), []
    for step in range(1, STEPS + 1):
        batches = torch.randint(0, len(pixels), (RUNS, BATCH_SIZE), generator=generator)
        places = places - LEARNING_RATE * slopes(places, pixels[batches], labels[batches])
        coordinates = (places - origin) @ directions.T
        if confined:
            places = origin + coordinates @ directions
        if step > FIRST and step % EVERY == 0:
            found.append(coordinates.numpy().var(axis=0))
    return np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(len(found))


def main() -> None:
    """Train, run, tell."""
    torch.set_num_threads(1)
    pixels, labels = digits()
    model = trained(pixels, labels)
    top = top_hessian_directions(model, losses, pixels, labels, 2, weight_decay=WEIGHT_DECAY, chunk=len(pixels))
    plane = Plane(parameters_of(model), top.directions)
    for confined, words in ((True, "projected onto the plane after every step"), (False, "in all parameters")):
        mean, error = variances(model, pixels, labels, plane, confined)
        print(f"SGD {words}: variances {mean} +- {error}", flush=True)


if __name__ == "__main__":
    main()
