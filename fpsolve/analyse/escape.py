"""How long until the target is reached: several definitions from one chain, beside the closed forms."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from fpsolve.analyse.currents import current_density
from fpsolve.analyse.theory import ClosedForm, closed_forms
from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError, RunError
from fpsolve.model.grid import FloatArray
from fpsolve.model.problem import Problem
from fpsolve.model.region import PointWeights, Region, point_weights
from fpsolve.solve.passage import Passage


@final
@dataclass(frozen=True)
class EscapeTime:
    """One time [time], with its standard deviation where it has one."""

    value: float
    standard_deviation: float | None = None

    @property
    def log10(self) -> float:
        """Decimal logarithm of the value."""
        return math.log10(self.value)


@final
@dataclass(frozen=True)
class Escape:
    """Escape from a start into a target.

    times: by definition, "mean_first_passage_time" first; theory: the closed forms, by name.
    mean_first_passage_time: from every cell, (cells,), 0 on the target; density: where the escaping probability is
    while as much enters at the start as leaves, (cells,), normalised; current: its current density, (axes, cells).
    splitting: share that leaves through each absorbing wall and through the target.
    flux_balance: share of the probability that got lost between start and exits (rounding).
    """

    start: tuple[float, ...]
    target: Region
    valley: Region | None
    times: dict[str, EscapeTime]
    theory: dict[str, ClosedForm]
    mean_first_passage_time: FloatArray
    density: FloatArray
    current: FloatArray
    splitting: dict[str, float]
    flux_balance: float


def escape(
    problem: Problem | Generator,
    *,
    start: Sequence[float],
    target: Region | str,
    valley: Region | str | None = None,
) -> Escape:
    """Escape times from a start point into a target region, which absorbs.

    mean first-passage time: tau(start) of the backward equation; flux over population: with unit probability per
    time entering at the start, the population outside the target over the absorbed flux (the same number);
    valley flux over population: probability in the valley over the net flux through its surface.

    Raises CaseError for a start outside the grid or the valley or inside the target, or a target without cells;
    RunError when the barrier is too deep for the elimination.
    """
    generator = problem if isinstance(problem, Generator) else Generator.of(problem)
    problem, grid = generator.problem, generator.grid
    goal = target if isinstance(target, Region) else problem.region(target, "escape.target")
    basin = problem.region(valley, "escape.valley") if isinstance(valley, str) else valley
    point = tuple(float(coordinate) for coordinate in np.atleast_1d(start))
    weights = start_weights(problem, point, goal, basin)
    killed = generator.killed(goal, "escape.target")
    if not killed.active[weights.cells].all():
        found = "the start lies within a cell of the target"
        raise CaseError("escape.start", found, "The grid must tell the two apart", "Move the start or refine the grid")
    passage = Passage.of(killed)
    population = passage.population(weights.inject(grid.size))
    outflow = killed.outflow(population)
    absorbed = float(outflow.sum())
    times = {
        "mean_first_passage_time": _first_passage(passage, weights),
        "flux_over_population": EscapeTime(float(population.sum()) / absorbed),
    }
    if basin is not None:
        times["valley_flux_over_population"] = _through_valley(killed, population, basin)
    share = population / population.sum()
    return Escape(
        start=point,
        target=goal,
        valley=basin,
        times=times,
        theory=closed_forms(problem, point, goal),
        mean_first_passage_time=passage.mean_time,
        density=share / grid.cell_volume,
        current=current_density(killed, share),
        splitting=dict(zip(killed.exits.gates, (outflow / absorbed).tolist(), strict=True)),
        flux_balance=abs(absorbed - 1.0),
    )


def start_weights(
    problem: Problem, point: Sequence[float], target: Region, valley: Region | None = None
) -> PointWeights:
    """The start as weights on cells. Raises CaseError outside the grid or the valley, or inside the target."""
    weights = point_weights(problem.grid, point, "escape.start")
    position = np.array(point)[:, None]
    if target.level(position)[0] > 0.0:
        found = f"the start lies inside the target {target.name!r}"
        raise CaseError("escape.start", found, "It must lie outside", "Move the start or shrink the target")
    if valley is not None and not valley.level(position)[0] > 0.0:
        found = f"the start lies outside the valley {valley.name!r}"
        raise CaseError("escape.valley", found, "It must lie inside", "Move the start or widen the valley")
    return weights


def _first_passage(passage: Passage, start: PointWeights) -> EscapeTime:
    mean = start.read(passage.mean_time)
    variance = start.read(passage.mean_square_time) - mean**2
    if mean <= 0.0:
        found = "all cells around the start are absorbed at once"
        raise CaseError("escape.start", found, "The start must lie outside the target", "Move it or refine the grid")
    return EscapeTime(mean, math.sqrt(max(variance, 0.0)))


def _through_valley(killed: Generator, population: FloatArray, valley: Region) -> EscapeTime:
    weights = valley.weights(killed.grid)
    flux = killed.flux(population, weights)
    inside = float(weights @ population)
    if not (flux > 0.0 and inside > 0.0):
        found = f"the net flux out of the valley {valley.name!r} is {flux:.3g}, its population {inside:.3g}"
        raise RunError("escape.valley", found, "Both must be above zero", "The valley must hold the start")
    return EscapeTime(inside / flux)
