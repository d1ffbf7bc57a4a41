"""Make cases/digits.nc: the loss and the gradient noise of a network that reads digits, on a plane.

    python -m pip install 'fpsolve[torch]' scikit-learn
    OMP_NUM_THREADS=1 python scripts/digits_landscape.py [file, cases/digits.nc unless given]

A network of one hidden layer (64 pixels, 16 tanh, 10 digits; 1210 parameters) learns all 1797 digits of scikit-learn
by SGD with weight decay, and goes on by L-BFGS until the gradient vanishes: without noise, the bottom of its valley.
The plane through it is spanned by the two eigenvectors of the Hessian of largest eigenvalue. Half a minute on one
core. The same machine makes the same file again; another one, whose rounding sends SGD elsewhere, one of the same kind.

The digits: E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository,
1998, https://doi.org/10.24432/C50P49, licence CC BY 4.0; scikit-learn ships their test set. The table holds means over
them, no digit itself.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from fpsolve.model.grid import FloatArray
from fpsolve.networks import Plane, ProjectedLandscape, parameters_of, project, top_hessian_directions

SEED = 0
HIDDEN = 16
WEIGHT_DECAY = 1e-3
LEARNING_RATE, BATCH_SIZE, EPOCHS = 0.5, 50, 60
ITERATIONS = 1000  # of L-BFGS: the gradient falls below 1e-5
NODES = np.linspace(-1.2, 1.2, 49)  # along both directions
LICENCE = "CC BY 4.0"
SOURCE = (
    'E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI Machine Learning Repository, 1998, '
    "https://doi.org/10.24432/C50P49, as shipped with scikit-learn"
)


def digits() -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels (1797, 64) from 0 to 1, and which digit (1797,)."""
    data = load_digits()
    return torch.as_tensor(data.data / 16.0), torch.as_tensor(data.target)


def losses(outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of every example [nat]."""
    return cross_entropy(outputs, targets, reduction="none")


def trained(pixels: torch.Tensor, labels: torch.Tensor) -> torch.nn.Module:
    """A network at a minimum of its loss."""
    torch.manual_seed(SEED)
    layers = (torch.nn.Linear(pixels.shape[1], HIDDEN), torch.nn.Tanh(), torch.nn.Linear(HIDDEN, 10))
    model = torch.nn.Sequential(*layers).double()
    optimiser = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(pixels)).split(BATCH_SIZE):
            optimiser.zero_grad()
            losses(model(pixels[batch]), labels[batch]).mean().backward()
            optimiser.step()
    settle(model, pixels, labels)
    return model


def settle(model: torch.nn.Module, pixels: torch.Tensor, labels: torch.Tensor) -> None:
    """Walk down to the bottom of the valley, without noise."""
    optimiser = torch.optim.LBFGS(
        model.parameters(),
        max_iter=ITERATIONS,
        max_eval=2 * ITERATIONS,
        tolerance_grad=1e-9,
        tolerance_change=0.0,
        history_size=50,
        line_search_fn="strong_wolfe",
    )

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        size = sum((parameter**2).sum() for parameter in model.parameters())
        value = losses(model(pixels), labels).mean() + 0.5 * WEIGHT_DECAY * size
        value.backward()
        return value

    optimiser.step(loss)


def noise_on_plane(model: torch.nn.Module, pixels: torch.Tensor, labels: torch.Tensor, plane: Plane) -> float:
    """Share of the variance of the gradient noise at the minimum that lies in the plane."""
    parameters = {name: parameter.detach() for name, parameter in model.named_parameters()}

    def loss(values: dict[str, torch.Tensor], image: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
        return losses(torch.func.functional_call(model, values, (image[None],)), label[None])[0]

    found = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(parameters, pixels, labels)
    gradients = torch.cat([part.reshape(len(pixels), -1) for part in found.values()], dim=1).numpy()
    apart = gradients - gradients.mean(axis=0)
    return float(np.sum((apart @ plane.directions.T) ** 2) / np.sum(apart**2))


def definite(matrices: FloatArray) -> tuple[float, float, float]:
    """Share of the nodes where (2, 2, *nodes) is positive definite, smallest and largest eigenvalue."""
    values = np.linalg.eigvalsh(np.moveaxis(matrices, (0, 1), (-2, -1)))
    return float((values[..., 0] > 0.0).mean()), float(values.min()), float(values.max())


def tell(landscape: ProjectedLandscape) -> None:
    """Say what a case needs to know."""
    middle = (..., *np.unravel_index(landscape.loss.argmin(), landscape.loss.shape))
    print(f"loss {landscape.loss.min():.6f} ... {landscape.loss.max():.4f}")
    print(f"gradient at the minimum {np.abs(landscape.gradient[middle]).max():.1e}")
    for name, matrices in (("H", landscape.hessian), ("C", landscape.gradient_covariance)):
        share, smallest, largest = definite(matrices)
        print(f"{name} positive definite on {share:.1%} of the nodes, eigenvalues {smallest:.4f} ... {largest:.4f}")
        print(f"{name} at the minimum {np.array2string(matrices[middle].ravel(), precision=5)}")


def main(path: Path) -> None:
    """Train, project, write."""
    torch.set_num_threads(1)
    pixels, labels = digits()
    model = trained(pixels, labels)
    top = top_hessian_directions(model, losses, pixels, labels, 2, weight_decay=WEIGHT_DECAY, chunk=len(pixels))
    print(f"eigenvalues {top.eigenvalues}, residuals {top.residuals}")
    plane = Plane(parameters_of(model), top.directions)
    with tqdm(total=NODES.size**2, mininterval=1.0, desc="projection") as bar:
        landscape = project(
            model,
            losses,
            pixels,
            labels,
            plane,
            (NODES, NODES),
            weight_decay=WEIGHT_DECAY,
            chunk=len(pixels),
            progress=lambda _, share: bar.update(round(share * NODES.size**2) - bar.n),
        )
    tell(landscape)
    share = noise_on_plane(model, pixels, labels, plane)
    print(f"share of the noise that lies in the plane {share:.4f}")
    landscape.write(
        path,
        title="Digits: a small network on the plane of its two sharpest directions",
        description=(
            f"Cross-entropy [nat] of a network (64 pixels, {HIDDEN} tanh, 10 digits) over {len(pixels)} digits, plus "
            "weight decay; x and y along the first and second eigenvector of the Hessian, from a minimum"
        ),
        source=SOURCE,
        license=LICENCE,
        eigenvalues=top.eigenvalues,
        eigenvalue_residuals=top.residuals,
        noise_on_plane=share,
        torch_version=str(torch.__version__),
    )
    print(f"{path}, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parents[1] / "cases" / "digits.nc")
