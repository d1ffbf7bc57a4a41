"""The spectrum: how fast a density relaxes, and along which modes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError
from fpsolve.model.grid import FloatArray
from fpsolve.model.problem import Problem
from fpsolve.solve.spectrum import ComplexArray, slowest_modes


@final
@dataclass(frozen=True, slots=True, eq=False)
class Spectrum:
    """The slowest modes: p(t) = sum over modes of exp(-eigenvalue t) density(x) <function, p(0)>.

    eigenvalues: of minus the generator, ascending by the real part, (modes,) [1/time]; 0 first where no wall absorbs,
    conjugate pairs where the density swirls; relaxation_times: 1 / (real part) [time], None for 0.
    densities: right eigenfunctions, integral of |density| = 1; functions: left eigenfunctions, integral of
    function * density = 1; (modes, cells) each. Of two wells the slowest function is a number in either, with a step
    over the barrier.
    """

    eigenvalues: FloatArray | ComplexArray
    relaxation_times: list[float | None]
    densities: FloatArray | ComplexArray
    functions: FloatArray | ComplexArray


def spectrum(problem: Problem | Generator, count: int = 6) -> Spectrum:
    """The slowest modes of a problem, every eigenvalue right to rounding relatively to itself.

    Raises CaseError for a count that makes no sense, RunError for modes slower than 1e-286, or when the iteration
    does not converge.
    """
    generator = problem if isinstance(problem, Generator) else Generator.of(problem)
    cells = int(generator.active.sum())
    if not 1 <= count <= cells:
        required = f"There are 1 to {cells} modes, one per cell"
        raise CaseError("spectrum.count", f"it is {count}", required, "Try count = 6")
    modes = slowest_modes(generator, count)
    return Spectrum(
        eigenvalues=modes.eigenvalues,
        relaxation_times=[None if rate == 0.0 else float(1.0 / rate) for rate in np.real(modes.eigenvalues)],
        densities=modes.densities / generator.grid.volumes,
        functions=modes.functions,
    )
