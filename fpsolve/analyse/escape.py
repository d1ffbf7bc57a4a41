"""How long until the target is reached: every definition from one chain, beside the closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import numpy as np

from fpsolve.analyse.convergence import Estimate
from fpsolve.analyse.cores import attractor_near, core_region
from fpsolve.analyse.currents import escaping_current
from fpsolve.analyse.passage_integral import InapplicableError
from fpsolve.analyse.quasi_equilibrium import RunningFlux, running_flux
from fpsolve.analyse.stationary_points import StationaryPointError
from fpsolve.analyse.theory import ClosedForm, closed_forms
from fpsolve.analyse.transition_path import TransitionPath, transition_path
from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError
from fpsolve.model.grid import FloatArray
from fpsolve.model.problem import Problem
from fpsolve.model.region import PointWeights, Region, point_weights
from fpsolve.solve.extended import Extended
from fpsolve.solve.passage import Passage, absorbed, net_flux, outflow, relative_difference, union
from fpsolve.solve.quasi_stationary import QuasiStationary, SlowConvergenceError, quasi_stationary
from fpsolve.solve.reactive import refuse_meeting, refuse_overlap

LARGEST_LOGARITHM = math.log(np.finfo(np.float64).max)
# Share of the flux through the surface of a valley that may be rounding.
LARGEST_FLUX_ERROR = 1e-6


@final
@dataclass(frozen=True, slots=True)
class EscapeTime:
    """One time, as a logarithm: deep barriers give times beyond all floating-point numbers.

    log_time: ln of the time [time]; log_standard_deviation: ln of its standard deviation, where it has one;
    estimate: the time from several grids with its error bar, where there are several.
    """

    log_time: float
    log_standard_deviation: float | None = None
    estimate: Estimate | None = None

    @property
    def value(self) -> float | None:
        """The time, or None where it exceeds the floating-point numbers."""
        return _float(self.log_time)

    @property
    def log10(self) -> float:
        """Decimal logarithm of the time."""
        return self.log_time / math.log(10.0)

    @property
    def standard_deviation(self) -> float | None:
        """The standard deviation; None where there is none or it exceeds the floating-point numbers."""
        return None if self.log_standard_deviation is None else _float(self.log_standard_deviation)


def _float(logarithm: float) -> float | None:
    return math.exp(logarithm) if logarithm < LARGEST_LOGARITHM else None


@final
@dataclass(frozen=True)
class Escape:
    """Escape from a start into a target, or the first of several.

    target: where it ends, all of the targets together; times: by definition, "mean_first_passage_time" first; absent:
    why a definition does not apply, by name; theory: the closed forms, by name.
    mean_first_passage_time: from every cell, (cells,), 0 on the target, infinite where it exceeds the floating-point
    numbers; log10_mean_first_passage_time: its decimal logarithm, minus infinity on the target.
    density: where the escaping probability is while as much enters at the start as leaves, (cells,), normalised;
    current: how it flows there, as a current density of total flux 1, (axes, cells) [1/length**(axes-1)], right at the
    foot of any barrier, loops included where the drift drives any (`escaping_current`).
    quasi_stationary_density: what is left after a long time, (cells,), normalised; transition: committors and reactive
    current; running: population over flux in time; each None where its definition is absent or was not asked for.
    splitting: share that leaves through each target and each absorbing wall, by name.
    flux_balance: share of the probability that got lost between start and exits (rounding).
    """

    start: tuple[float, ...]
    target: Region
    valley: Region | None
    times: dict[str, EscapeTime]
    absent: dict[str, str]
    theory: dict[str, ClosedForm]
    mean_first_passage_time: FloatArray
    log10_mean_first_passage_time: FloatArray
    density: FloatArray
    current: FloatArray
    quasi_stationary_density: FloatArray | None
    transition: TransitionPath | None
    running: RunningFlux | None
    splitting: dict[str, float]
    flux_balance: float


def escape(
    problem: Problem | Generator,
    *,
    start: Sequence[float],
    target: Region | str | None = None,
    targets: Sequence[Region | str] | None = None,
    valley: Region | str | None = None,
    core: Region | str | None = None,
    definitions: Collection[str] | None = None,
) -> Escape:
    """Escape times from a start point into a target region, which absorbs, by every definition.

    mean_first_passage_time: tau(start) of the backward equation; flux_over_population: with unit probability per
    time entering at the start, the population outside the target over the absorbed flux (the same number);
    valley_flux_over_population: of the same density, the population of the valley over the net flux through its
    surface; quasi_stationary: 1 / (slowest rate of decay); running_flux: valley population over flux in time, where
    it is flat; transition_path: 1 / (rate of transitions from the core to the target, at rest).

    Parameters
    ----------
    start : (axes,) [length]. target, or targets : one region or several; the first that is reached ends the escape.
    valley : around the start; without it running_flux takes all that is outside the target.
    core : around the minimum; without it all within one thermal energy of the attractor nearest the start.
    definitions : names of those that are wanted; all of them when left out.

    Raises
    ------
    CaseError : a start outside the grid, the valley or the core or inside the target, a target or a core without
        cells, a valley or a core that meets the target, targets that overlap.
    RunError : the linear algebra failed.
    """
    question = _Question.of(problem, start, target, targets, valley, core)
    refuse_bad_regions(question.generator, question.point, question.targets, question.valley, question.core)
    chain = question.chain()
    return _gathered(chain, *_times(chain, definitions))


def escape_times(
    problem: Problem | Generator,
    *,
    start: Sequence[float],
    target: Region | str | None = None,
    targets: Sequence[Region | str] | None = None,
    valley: Region | str | None = None,
    core: Region | str | None = None,
    definitions: Collection[str] | None = None,
) -> dict[str, EscapeTime]:
    """The times of `escape` alone, without fields and closed forms: for the same question on other grids.

    Where the core meets the target or holds no cell there, the transition path is absent.
    """
    return _times(_Question.of(problem, start, target, targets, valley, core).chain(), definitions)[0]


@final
@dataclass(frozen=True)
class _Question:
    """What is asked of a chain. key: where the targets stand in a case."""

    generator: Generator
    point: tuple[float, ...]
    targets: tuple[Region, ...]
    valley: Region | None
    core: Region | None
    key: str

    @classmethod
    def of(
        cls,
        problem: Problem | Generator,
        start: Sequence[float],
        target: Region | str | None,
        targets: Sequence[Region | str] | None,
        valley: Region | str | None,
        core: Region | str | None,
    ) -> _Question:
        """Read the regions."""
        generator = problem if isinstance(problem, Generator) else Generator.of(problem)
        given = [target] if target is not None else list(targets or [])
        if not given or (target is not None and targets is not None):
            found = "neither target nor targets is given" if not given else "both target and targets are given"
            raise CaseError("escape.target", found, "Exactly one of them is needed", "")
        key = "escape.target" if target is not None else "escape.targets"
        regions = tuple(_region(generator.problem, region, key) for region in given)
        basin = None if valley is None else _region(generator.problem, valley, "escape.valley")
        heart = None if core is None else _region(generator.problem, core, "escape.core")
        point = tuple(float(coordinate) for coordinate in np.atleast_1d(start))
        return cls(generator, point, regions, basin, heart, key)

    def chain(self) -> _EscapingChain:
        """The chain absorbed in the targets, factorised."""
        return _EscapingChain.of(self)


def _times(chain: _EscapingChain, definitions: Collection[str] | None) -> tuple[dict[str, EscapeTime], dict[str, str]]:
    """The times by the definitions that are wanted, and why others do not apply."""
    times: dict[str, EscapeTime] = {}
    absent: dict[str, str] = {}
    for name, definition in DEFINITIONS.items():
        if definitions is None or name in definitions:
            try:
                times[name] = definition(chain)
            except InapplicableError as reason:
                absent[name] = str(reason)
            except (StationaryPointError, SlowConvergenceError) as reason:
                absent[name] = reason.found
    return times, absent


def _region(problem: Problem, given: Region | str, where: str) -> Region:
    return given if isinstance(given, Region) else problem.region(given, where)


def start_weights(
    problem: Problem, point: Sequence[float], target: Region | None, valley: Region | None = None
) -> PointWeights:
    """The start as weights on cells. Raises CaseError outside the grid or the valley, or inside the target."""
    weights = point_weights(problem.grid, point, "escape.start")
    position = np.array(point)[:, None]
    if target is not None and target.level(position)[0] > 0.0:
        found = f"the start lies inside the target {target.name!r}"
        raise CaseError("escape.start", found, "It must lie outside", "Move the start or shrink the target")
    if valley is not None and not valley.level(position)[0] > 0.0:
        found = f"the start lies outside the valley {valley.name!r}"
        raise CaseError("escape.valley", found, "It must lie inside", "Move the start or widen the valley")
    return weights


def refuse_bad_regions(
    generator: Generator,
    start: Sequence[float],
    targets: Sequence[Region],
    valley: Region | None = None,
    core: Region | None = None,
) -> None:
    """Raise CaseError where the regions of an escape contradict each other or the start. It takes no elimination.

    Targets must not overlap, a valley must end before them; a core must hold the start and lie apart from them.
    """
    target, positions = union(targets, generator.grid.dimensions), generator.grid.positions()
    start_weights(generator.problem, start, target, valley)
    refuse_overlap(targets, np.array([region.level(positions) for region in targets]), "escape.targets")
    # Cells that the surface of a valley cuts do not count: that of a basin is known to a fraction of a cell.
    if valley is not None and ((valley.weights(generator.grid) == 1.0) & (target.level(positions) > 0.0)).any():
        found = f"the valley {valley.name!r} meets the target {target.name!r}"
        raise CaseError("escape.valley", found, "It must end before it", "Shrink the valley")
    if core is not None:
        _refuse_bad_core(generator, start, target, core)


def _refuse_bad_core(generator: Generator, start: Sequence[float], target: Region, core: Region) -> None:
    where = "escape.core"
    if not (core.level(generator.grid.positions()) > 0.0).any():
        found = f"the core {core.name!r} holds no cell of the grid"
        raise CaseError(where, found, "It must hold some cells", "Widen it or refine the grid")
    if not core.level(np.array(start)[:, None])[0] > 0.0:
        found = f"the start lies outside the core {core.name!r}"
        raise CaseError(where, found, "It must lie inside", "Move the start or the core")
    refuse_meeting(generator, [core, target], where)


@final
@dataclass(frozen=True)
class _EscapingChain:
    """A chain absorbed in its targets, with what several definitions need of it, each computed once."""

    question: _Question
    start: PointWeights
    passage: Passage

    @classmethod
    def of(cls, question: _Question) -> _EscapingChain:
        """Check the start and factorise."""
        generator, targets = question.generator, question.targets
        weights = start_weights(generator.problem, question.point, union(targets, len(question.point)), question.valley)
        if generator.pieces.max() > 0:
            held = weights.inject(generator.grid.size) > 0.0
            question = replace(question, generator=generator.joined_to(held))
        killed = absorbed(question.generator, targets, question.key)
        if not killed.active[weights.cells].all():
            found = "the start lies within a cell of the target"
            required = "The grid must tell the two apart"
            raise CaseError("escape.start", found, required, "Move the start or refine the grid")
        return cls(question, weights, Passage.of(killed))

    @property
    def killed(self) -> Generator:
        return self.passage.generator

    @cached_property
    def source(self) -> FloatArray:
        """Unit probability per time, at the start."""
        return self.start.inject(self.killed.grid.size)

    @cached_property
    def population(self) -> Extended:
        """The density while escaping, per unit flux."""
        return self.passage.population(self.source)

    @cached_property
    def outflow(self) -> Extended:
        """Through each gate."""
        return outflow(self.killed, self.population)

    @cached_property
    def valley_weights(self) -> FloatArray | None:
        return None if self.question.valley is None else self.question.valley.weights(self.killed.grid)

    @cached_property
    def lasting(self) -> QuasiStationary:
        """The quasi-stationary state."""
        return quasi_stationary(self.passage.resolvent, self.population)

    @cached_property
    def running(self) -> RunningFlux:
        """The flux in time."""
        log_time = float((self.population.sum() / self.outflow.sum()).log())
        return running_flux(self.killed, self.start, log_time, self.valley_weights)

    @cached_property
    def transition(self) -> TransitionPath:
        """Transitions from the core to the targets, at rest."""
        problem = self.question.generator.problem
        core = self.question.core or core_region(problem, attractor_near(problem, self.question.point), "core")
        return transition_path(self.question.generator, core, self.question.targets)


def _first_passage(chain: _EscapingChain) -> EscapeTime:
    mean = _read(chain.start, chain.passage.mean_time)
    variance = _read(chain.start, chain.passage.mean_square_time) + mean * mean * -1.0
    deviation = 0.5 * float(variance.log()) if variance.mantissa > 0.0 else None
    return EscapeTime(float(mean.log()), deviation)


def _flux_over_population(chain: _EscapingChain) -> EscapeTime:
    return EscapeTime(float((chain.population.sum() / chain.outflow.sum()).log()))


def _valley_flux_over_population(chain: _EscapingChain) -> EscapeTime:
    """The net flux must be what enters inside the valley: all of the source, unless the start is at its edge."""
    valley = chain.question.valley
    if valley is None or chain.valley_weights is None:
        reason = "no valley is given"
        raise InapplicableError(reason)
    flux = net_flux(chain.killed, chain.population, chain.valley_weights)
    error = relative_difference(flux, Extended.of(float(chain.valley_weights @ chain.source)))
    if not abs(error) < LARGEST_FLUX_ERROR:
        reason = f"the surface of {valley.name!r} lies so deep in the well that its net flux is lost in rounding"
        raise InapplicableError(reason)
    return EscapeTime(float(((chain.population * chain.valley_weights).sum() / flux).log()))


DEFINITIONS: dict[str, Callable[[_EscapingChain], EscapeTime]] = {
    "mean_first_passage_time": _first_passage,
    "flux_over_population": _flux_over_population,
    "valley_flux_over_population": _valley_flux_over_population,
    "quasi_stationary": lambda chain: EscapeTime(chain.lasting.log_time),
    "running_flux": lambda chain: EscapeTime(chain.running.log_plateau),
    "transition_path": lambda chain: EscapeTime(chain.transition.log_time),
}


def _read(start: PointWeights, values: Extended) -> Extended:
    """The value at the start, of shape ()."""
    return (values[start.cells] * start.weights).sum()


def _gathered(chain: _EscapingChain, times: dict[str, EscapeTime], absent: dict[str, str]) -> Escape:
    killed, grid = chain.killed, chain.killed.grid
    target, passed = union(chain.question.targets, grid.dimensions), chain.outflow.sum()
    return Escape(
        start=chain.question.point,
        target=target,
        valley=chain.question.valley,
        times=times,
        absent=absent,
        theory=closed_forms(chain.question.generator.problem, chain.question.point, target),
        mean_first_passage_time=chain.passage.mean_time.floats(),
        log10_mean_first_passage_time=chain.passage.mean_time.log() / math.log(10.0),
        density=(chain.population / chain.population.sum()).floats() / grid.volumes,
        current=escaping_current(chain.passage, chain.source, chain.population),
        quasi_stationary_density=(
            chain.lasting.probability.floats() / grid.volumes if "quasi_stationary" in times else None
        ),
        transition=chain.transition if "transition_path" in times else None,
        running=chain.running if "running_flux" in times else None,
        splitting=dict(zip(killed.exits.gates, (chain.outflow / passed).floats().tolist(), strict=True)),
        flux_balance=abs(relative_difference(passed, Extended.of(float(chain.source.sum())))),
    )
