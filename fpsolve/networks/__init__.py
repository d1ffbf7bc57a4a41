"""From a network to a table: loss, gradient, Hessian and gradient noise over a plane through its parameters.

    model, loss function, data -> directions -> Plane -> project -> ProjectedLandscape -> table of a case file

Needs PyTorch: pip install 'fpsolve[torch]'.
"""

from fpsolve.networks.curvature import HessianDirections, top_hessian_directions
from fpsolve.networks.examples import parameters_of
from fpsolve.networks.plane import Plane, random_directions
from fpsolve.networks.projection import ProjectedLandscape, project

__all__ = [
    "HessianDirections",
    "Plane",
    "ProjectedLandscape",
    "parameters_of",
    "project",
    "random_directions",
    "top_hessian_directions",
]
