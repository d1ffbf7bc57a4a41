"""The density in time and what it says: moments, occupations, fluxes, absorbed mass."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import final

import numpy as np
from numpy.typing import ArrayLike

from fpsolve.analyse.currents import current_density
from fpsolve.analyse.moments import mean_and_covariance, tail_mass
from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError
from fpsolve.model.fields import Field
from fpsolve.model.grid import FloatArray, Grid
from fpsolve.model.initial import AbstractInitial
from fpsolve.model.problem import Problem
from fpsolve.model.region import Region
from fpsolve.solve import evolve as solver
from fpsolve.solve.evolve import Counts

DEFAULT_SAVED = 50
DEFAULT_TOLERANCE = 1e-5
ROUNDING = 1e-9  # of a sum of probabilities given by hand


@final
@dataclass(frozen=True)
class Motion:
    """The density at the saved times, the first of which is the start.

    times: (times,); steps: SGD steps, (times,), or None where the noise has none; probability, density:
    (times, cells), probability >= 0; current: (times, axes, cells); mass: what is still inside, (times,);
    absorbed: what has gone through each gate, by its name, (times,); occupation, flux: of each watched region,
    (times,), d(occupation)/dt = -flux; mass_error: largest |inside + absorbed - 1|.
    """

    times: FloatArray
    steps: FloatArray | None
    probability: FloatArray
    density: FloatArray
    current: FloatArray
    mass: FloatArray
    mean: FloatArray
    covariance: FloatArray
    observables: dict[str, FloatArray]
    absorbed: dict[str, FloatArray]
    occupation: dict[str, FloatArray]
    flux: dict[str, FloatArray]
    mass_error: float
    smallest_density: float
    tail_mass: float
    counts: Counts


def evolve(
    problem: Problem | Generator,
    initial: AbstractInitial | ArrayLike,
    *,
    until: float | None = None,
    save: int = DEFAULT_SAVED,
    times: Sequence[float] | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
    watch: Mapping[str, Region | str] | None = None,
    observables: Mapping[str, Field] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Motion:
    """Move a density in time.

    Parameters
    ----------
    problem : or its generator.
    initial : a starting density, or the probability of every cell, (cells,).
    until, save : last time, and number of evenly spaced saved times after the start.
    times : instead of them: the saved times, increasing, above 0.
    tolerance : bound on the L1 error in time of every saved density.
    watch : regions whose occupation and outward flux are recorded.
    observables : fields whose means are recorded.
    progress : called with the time reached.

    Raises CaseError for bad input, RunError when the stepping cannot go on.
    """
    generator = problem if isinstance(problem, Generator) else Generator.of(problem)
    grid, problem = generator.grid, generator.problem
    instants = _instants(until, save, times)
    if not (np.isfinite(tolerance) and tolerance > 0.0):
        raise CaseError("evolve.tolerance", f"it is {tolerance:g}", "It must be a number above 0", "Try 1e-6")
    start = initial.probability(problem) if isinstance(initial, AbstractInitial) else _given(initial, grid)
    regions = {
        name: problem.region(given, "evolve.watch") if isinstance(given, str) else given
        for name, given in (watch or {}).items()
    }
    weights = {name: region.weights(grid) for name, region in regions.items()}
    counts = Counts()
    saved = []
    for moment in solver.evolve(generator, start, instants, tolerance, counts):
        saved.append(moment)
        if progress is not None:
            progress(moment.time)
    return _gathered(generator, saved, counts, weights, observables or {})


def _given(initial: ArrayLike, grid: Grid) -> FloatArray:
    """A starting probability given as an array, checked."""
    probability = np.asarray(initial, dtype=np.float64).ravel()
    if probability.size != grid.size:
        raise CaseError("initial", f"{probability.size} values", f"The grid has {grid.size} cells", "Give one per cell")
    if not (probability >= 0.0).all() or not abs(probability.sum() - 1.0) <= ROUNDING:
        found = f"the smallest value is {probability.min():g} and the sum {probability.sum():g}"
        raise CaseError("initial", found, "Probabilities are not negative and sum to 1", "Divide by the sum")
    return probability


def _instants(until: float | None, save: int, times: Sequence[float] | None) -> FloatArray:
    if (until is None) == (times is None):
        found = "neither until nor times is given" if until is None else "both until and times are given"
        raise CaseError("evolve", found, "Exactly one of them is needed", "")
    if until is not None:
        if not (np.isfinite(until) and until > 0.0):
            raise CaseError("evolve.until", f"it is {until:g}", "It must be a finite time above 0", "")
        if save < 1:
            raise CaseError("evolve.save", f"it is {save}", "At least one instant must be saved", "")
        return np.arange(save + 1, dtype=np.float64) * (until / save)
    return np.concatenate([[0.0], np.asarray(times, dtype=np.float64)])


def _gathered(
    generator: Generator,
    saved: list[solver.Moment],
    counts: Counts,
    weights: dict[str, FloatArray],
    observables: Mapping[str, Field],
) -> Motion:
    grid = generator.grid
    times = np.array([moment.time for moment in saved])
    probability = np.array([moment.probability for moment in saved])
    left = np.array([moment.left for moment in saved])
    moments = [mean_and_covariance(grid, row) for row in probability]
    positions = grid.positions()
    mass = probability.sum(axis=1)
    step = generator.problem.noise.time_per_step
    return Motion(
        times=times,
        steps=None if step is None else times / step,
        probability=probability,
        density=probability / grid.volumes,
        current=np.array([current_density(generator, row) for row in probability]),
        mass=mass,
        mean=np.array([mean for mean, _ in moments]),
        covariance=np.array([covariance for _, covariance in moments]),
        observables={name: probability @ value(positions) / mass for name, value in observables.items()},
        absorbed={gate: left[:, number] for number, gate in enumerate(generator.exits.gates)},
        occupation={name: probability @ weight for name, weight in weights.items()},
        flux={name: np.array([generator.flux(row, weight) for row in probability]) for name, weight in weights.items()},
        mass_error=float(np.abs(mass + left.sum(axis=1) - mass[0]).max()),
        smallest_density=float((probability / grid.volumes).min()),
        tail_mass=max(tail_mass(grid, row) for row in probability),
        counts=counts,
    )
