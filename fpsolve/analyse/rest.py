"""The state at rest and what it says: occupations, moments, currents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import final

import numpy as np

from fpsolve.analyse.currents import CurrentParts, current_density, current_parts, detailed_balance, entropy_production
from fpsolve.analyse.moments import mean_and_covariance, tail_mass
from fpsolve.analyse.quasi_potential import QuasiPotential, quasi_potential
from fpsolve.discretise.generator import Generator
from fpsolve.model.fields import Field
from fpsolve.model.grid import FloatArray
from fpsolve.model.initial import AbstractInitial
from fpsolve.model.problem import Problem
from fpsolve.model.region import Region
from fpsolve.solve import stationary as solver


@final
@dataclass(frozen=True)
class AtRest:
    """The density at rest of a problem.

    probability: (cells,), >= 0, sums to one; density: probability / volume [1/length**axes]; current: current
    density at cell centres, (axes, cells); mean_current: its integral over the box, (axes,) [length/time], the mean
    velocity; regions: occupation of each; observables: mean of each; reversible: detailed balance holds; parts: what
    the current is made of. quasi_potential: in the plane, where it is not the loss, if it was asked for.
    """

    probability: FloatArray
    density: FloatArray
    current: FloatArray
    mean_current: FloatArray
    mean: FloatArray
    covariance: FloatArray
    regions: dict[str, float]
    observables: dict[str, float]
    entropy_production: float
    detailed_balance: float
    imbalance: float  # largest |dP/dt| over the largest rate of departure times P
    tail_mass: float
    reversible: bool
    parts: CurrentParts | None = field(default=None, repr=False)
    quasi_potential: QuasiPotential | None = None

    @property
    def irreversible_drift(self) -> FloatArray:
        """The part of the flux drift v that keeps the current going, J / p, (axes, cells) [length/time].

        At rest v = D grad(ln p) + J / p (Graham & Haken 1971): the first part balances the noise, and is the gradient
        of a loss where D = T M; the second moves along with the density and produces all the entropy. Nan where the
        density is below all floating-point numbers.
        """
        held = self.density > 0.0
        return np.where(held, self.current, np.nan) / np.where(held, self.density, 1.0)

    @property
    def numbers(self) -> dict[str, float]:
        """Means and occupations by their path in the report, such as 'regions.left'."""
        means = {f"mean.{axis}": float(value) for axis, value in enumerate(self.mean)}
        occupied = {f"regions.{name}": value for name, value in self.regions.items()}
        return means | occupied | {f"observables.{name}": value for name, value in self.observables.items()}


def stationary(
    problem: Problem | Generator,
    *,
    regions: Mapping[str, Region] | None = None,
    observables: Mapping[str, Field] | None = None,
    initial: AbstractInitial | None = None,
    with_quasi_potential: bool = False,
) -> AtRest:
    """The density at rest of a problem whose walls are closed, and what it says.

    initial: where the domain falls apart into pieces, the start that picks one of them; it has no effect else.
    with_quasi_potential: whether to ask for the quasi-potential, too, where that makes sense; it takes about as long
    again.

    Raises CaseError where probability can leave, or the domain falls apart; RunError where rounding would spoil the
    result.
    """
    generator = problem if isinstance(problem, Generator) else Generator.of(problem)
    grid = generator.grid
    if initial is not None and generator.pieces.max() > 0:
        generator = generator.joined_to(initial.probability(generator.problem) > 0.0)
    rest = solver.stationary(generator)
    probability = rest.probability
    current = current_density(generator, probability)
    mean, covariance = mean_and_covariance(grid, probability)
    traffic = generator.departure * probability
    positions = grid.positions()
    known = rest.reversible and generator.problem.temperature is not None  # it is the loss
    asked = with_quasi_potential and grid.dimensions == 2 and not known
    return AtRest(
        probability=probability,
        density=probability / grid.volumes,
        current=current,
        parts=current_parts(generator.problem, probability),
        mean_current=current @ grid.box_volumes,
        mean=mean,
        covariance=covariance,
        regions={name: float(region.weights(grid) @ probability) for name, region in (regions or {}).items()},
        observables={name: float(value(positions) @ probability) for name, value in (observables or {}).items()},
        entropy_production=entropy_production(generator, probability),
        detailed_balance=detailed_balance(generator, probability),
        imbalance=float(np.abs(generator.apply(probability)).max() / max(traffic.max(), np.finfo(np.float64).tiny)),
        tail_mass=tail_mass(grid, probability),
        reversible=rest.reversible,
        quasi_potential=quasi_potential(generator, rest.log_probability) if asked else None,
    )
