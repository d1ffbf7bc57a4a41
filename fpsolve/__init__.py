"""fpsolve: Fokker-Planck equations by finite volumes, above all for the noise of SGD.

    case -> problem -> generator -> solution -> analysis -> report

On the grid, the Fokker-Planck equation is a Markov chain; every question is linear algebra on its generator.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from fpsolve.version import __version__

if TYPE_CHECKING:
    from fpsolve.analyse.ensemble import exit_times
    from fpsolve.analyse.gradient_noise import gradient_noise
    from fpsolve.analyse.motion import evolve
    from fpsolve.analyse.rest import stationary
    from fpsolve.analyse.spectrum import spectrum
    from fpsolve.case import Case, load_case
    from fpsolve.discretise.generator import Generator
    from fpsolve.errors import CaseError, FpsolveError, RunError
    from fpsolve.model.domain import Domain
    from fpsolve.model.frame import Frame
    from fpsolve.model.grid import Axis, Grid
    from fpsolve.model.initial import Density, Gaussian, Point, Saved, Uniform
    from fpsolve.model.landscape import Landscape
    from fpsolve.model.maps import Refinement
    from fpsolve.model.momentum import Momentum
    from fpsolve.model.noise import AmplitudeNoise, ConstantNoise, HessianNoise, MinibatchNoise, TensorNoise
    from fpsolve.model.problem import Problem
    from fpsolve.model.region import Region
    from fpsolve.model.schedule import Stage
    from fpsolve.model.table import Table, write_table
    from fpsolve.pipeline import run
    from fpsolve.preview import check
    from fpsolve.refine import escape
    from fpsolve.solve.descent import descend
    from fpsolve.solve.walkers import draw_starts, walk

# Where each public name lives; looked up on first use, so that `import fpsolve` is quick.
_HOMES = {
    "fpsolve.analyse.ensemble": ("exit_times",),
    "fpsolve.analyse.gradient_noise": ("gradient_noise",),
    "fpsolve.analyse.motion": ("evolve",),
    "fpsolve.analyse.rest": ("stationary",),
    "fpsolve.analyse.spectrum": ("spectrum",),
    "fpsolve.case": ("Case", "load_case"),
    "fpsolve.discretise.generator": ("Generator",),
    "fpsolve.errors": ("CaseError", "FpsolveError", "RunError"),
    "fpsolve.model.domain": ("Domain",),
    "fpsolve.model.frame": ("Frame",),
    "fpsolve.model.grid": ("Axis", "Grid"),
    "fpsolve.model.initial": ("Density", "Gaussian", "Point", "Saved", "Uniform"),
    "fpsolve.model.landscape": ("Landscape",),
    "fpsolve.model.maps": ("Refinement",),
    "fpsolve.model.momentum": ("Momentum",),
    "fpsolve.model.noise": ("AmplitudeNoise", "ConstantNoise", "HessianNoise", "MinibatchNoise", "TensorNoise"),
    "fpsolve.model.problem": ("Problem",),
    "fpsolve.model.region": ("Region",),
    "fpsolve.model.schedule": ("Stage",),
    "fpsolve.model.table": ("Table", "write_table"),
    "fpsolve.pipeline": ("run",),
    "fpsolve.preview": ("check",),
    "fpsolve.refine": ("escape",),
    "fpsolve.solve.descent": ("descend",),
    "fpsolve.solve.walkers": ("draw_starts", "walk"),
}
_MODULE_OF = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "AmplitudeNoise",
    "Axis",
    "Case",
    "CaseError",
    "ConstantNoise",
    "Density",
    "Domain",
    "FpsolveError",
    "Frame",
    "Gaussian",
    "Generator",
    "Grid",
    "HessianNoise",
    "Landscape",
    "MinibatchNoise",
    "Momentum",
    "Point",
    "Problem",
    "Refinement",
    "Region",
    "RunError",
    "Saved",
    "Stage",
    "Table",
    "TensorNoise",
    "Uniform",
    "__version__",
    "check",
    "descend",
    "draw_starts",
    "escape",
    "evolve",
    "exit_times",
    "gradient_noise",
    "load_case",
    "run",
    "spectrum",
    "stationary",
    "walk",
    "write_table",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        message = f"module 'fpsolve' has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
