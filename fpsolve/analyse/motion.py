"""The density in time and what it says: moments, occupations, fluxes, absorbed mass, distance from rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, TypeAlias, final

import numpy as np
from numpy.typing import ArrayLike

from fpsolve.analyse.currents import current_density
from fpsolve.analyse.entropy import entropy_relative_to, log_rest
from fpsolve.analyse.first_passage import FirstPassage, first_passage
from fpsolve.analyse.moments import mean_and_covariance, tail_mass
from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError
from fpsolve.model.fields import Field
from fpsolve.model.grid import FloatArray, Grid
from fpsolve.model.initial import TAIL, AbstractInitial, Saved
from fpsolve.model.problem import Problem
from fpsolve.model.region import Region
from fpsolve.solve import evolve as solver
from fpsolve.solve.choice import Choice, choose
from fpsolve.solve.evolve import Moment
from fpsolve.solve.passage import absorbed
from fpsolve.solve.steps import Counts, Timeline

StepperChoice: TypeAlias = Literal["auto", "implicit", "stabilised", "exponential"]

DEFAULT_SAVED = 50
DEFAULT_TOLERANCE = 1e-5
SAVED_WORDS = ", when the start was saved"
ROUNDING = 1e-9  # of a sum of probabilities given by hand


@final
@dataclass(frozen=True)
class Motion:
    """The density at the saved times, the first of which is the start.

    times: (times,); steps: SGD steps, (times,), or None where the noise has none; probability, density:
    (times, cells), probability >= 0; mass: what is still inside, (times,); absorbed: what has gone through each gate,
    by its name, (times,); outflow: through all gates, (times,) [1/time]; occupation, flux: of each watched region,
    (times,), d(occupation)/dt = -flux; relative_entropy: of the density to the one at rest (of the problem as it is at
    that time), (times,), None where there is none or it was not asked for; mass_error: largest |inside + absorbed -
    what there was|. choice: the stepper, and why. paces: how a march would go on from each saved time, None where it
    cannot.
    """

    times: FloatArray
    steps: FloatArray | None
    probability: FloatArray
    density: FloatArray
    mass: FloatArray
    mean: FloatArray
    covariance: FloatArray
    observables: dict[str, FloatArray]
    absorbed: dict[str, FloatArray]
    outflow: FloatArray
    occupation: dict[str, FloatArray]
    flux: dict[str, FloatArray]
    relative_entropy: FloatArray | None
    mass_error: float
    smallest_density: float
    tail_mass: float
    counts: Counts
    choice: Choice
    timeline: Timeline = field(repr=False)
    paces: tuple[solver.Pace | None, ...] = field(repr=False)

    @cached_property
    def current(self) -> FloatArray:
        """Current density at the cell centres, (times, axes, cells), of the scheme itself."""
        rows = zip(self.times, self.probability, strict=True)
        return np.array([current_density(self.timeline.at(float(time)), row) for time, row in rows])

    @cached_property
    def first_passage(self) -> FirstPassage | None:
        """The distribution of the time at which probability leaves; None where nothing can."""
        return first_passage(self.times, self.mass, self.outflow) if self.absorbed else None


@final
@dataclass(frozen=True, slots=True)
class Earlier:
    """What a march had done when it was interrupted: moments, the first at the start, the last one with a pace."""

    moments: tuple[Moment, ...] = ()
    choice: Choice | None = None
    counts: Counts = field(default_factory=Counts)


NOTHING = Earlier()


def evolve(
    problem: Problem | Generator,
    initial: AbstractInitial | ArrayLike,
    *,
    until: float | None = None,
    save: int = DEFAULT_SAVED,
    times: Sequence[float] | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
    stepper: StepperChoice = "auto",
    absorb: Sequence[Region | str] = (),
    watch: Mapping[str, Region | str] | None = None,
    observables: Mapping[str, Field] | None = None,
    relative_entropy: bool = False,
    progress: Callable[[float], None] | None = None,
    keep: Callable[[Callable[[], Motion]], None] | None = None,
    earlier: Earlier = NOTHING,
) -> Motion:
    """Move a density in time.

    Parameters
    ----------
    problem : or its generator (of a problem that does not change in time).
    initial : a starting density, or the probability of every cell, (cells,). One that was `Saved` starts at its time,
        with what had been absorbed by then.
    until, save : last time, and number of evenly spaced saved times after the start.
    times : instead of them: the saved times, increasing, after the start (0, unless the start was saved).
    tolerance : bound on the L1 error in time of every saved density.
    stepper : "implicit" (fourth order, a factorisation for every length of step), "stabilised" (explicit, second order,
        products only), "exponential" (to any accuracy at any time, while nothing changes), or "auto": the cheapest.
    absorb : regions that absorb, beside absorbing walls.
    watch : regions whose occupation and outward flux are recorded.
    observables : fields whose means are recorded.
    relative_entropy : whether to record the distance from the density at rest.
    progress : called with the time reached.
    keep : called at every saved time with a function that gives the motion so far.
    earlier : what the same march had done when it was interrupted: it goes on.

    Raises CaseError for bad input, RunError when the stepping cannot go on.
    """
    if not (np.isfinite(tolerance) and tolerance > 0.0):
        raise CaseError("evolve.tolerance", f"it is {tolerance:g}", "It must be a number above 0", "Try 1e-6")
    timeline = timeline_of(problem, absorb)
    generator = timeline.at(0.0)
    grid, problem = generator.grid, generator.problem
    instants = saved_times(until, save, times, initial.time if isinstance(initial, Saved) else 0.0)
    moments = earlier.moments or (first_moment(generator, initial, float(instants[0])),)
    weights = {name: _region(problem, given).weights(grid) for name, given in (watch or {}).items()}
    choice = earlier.choice or choose(timeline, instants, tolerance, stepper)
    fields = {name: value(grid.positions()) for name, value in (observables or {}).items()}
    record = _Record(timeline, weights, fields, relative_entropy, choice, replace(earlier.counts))
    for moment in moments:
        record.add(moment)
    rest, start = instants[instants > moments[-1].time], moments[0].time
    march = solver.evolve(
        timeline, moments[-1], rest, tolerance, choice.stepper, record.counts, start=start, progress=progress
    )
    for moment in march:
        record.add(moment)
        if keep is not None:
            keep(record.motion)
    return record.motion()


def timeline_of(problem: Problem | Generator, absorb: Sequence[Region | str] = ()) -> Timeline:
    """The chain of a problem at all times, absorbed in some regions."""
    first = problem if isinstance(problem, Generator) else Generator.of(problem)
    regions = [_region(first.problem, given, "evolve.absorb") for given in absorb]

    def chain(generator: Generator) -> Generator:
        return absorbed(generator, regions, "evolve.absorb") if regions else generator

    if not first.problem.depends_on_time:
        return Timeline.always(chain(first))
    whole = first.problem
    return Timeline(
        lambda time: chain(Generator.of(whole.at(time))), whole.course.jumps, changes=whole.changes_smoothly
    )


def _region(problem: Problem, given: Region | str, where: str = "evolve.watch") -> Region:
    return problem.region(given, where) if isinstance(given, str) else given


def first_moment(generator: Generator, initial: AbstractInitial | ArrayLike, time: float) -> Moment:
    """The start, without a tail inside absorbing regions; what a saved one had lost stays lost.

    Raises CaseError where more than a tail lies there, or the start is no probability on the grid.
    """
    gates, active = generator.exits.gates, generator.active
    if isinstance(initial, AbstractInitial):
        probability = initial.probability(generator.problem)
    else:
        probability = _given(initial, generator.grid)
    before = initial.absorbed if isinstance(initial, Saved) else {}
    left = np.array([before.get(gate, 0.0) for gate in gates])
    inside, total = probability[~active].sum(), probability.sum()
    if inside > TAIL * total:
        out = "" if generator.grid.parts is None else ", or outside the domain"
        found = f"{inside:.3g} of the probability starts inside a region that absorbs{out}"
        raise CaseError("initial", found, "It must start where it can be", "Move the start or shrink the region")
    outside = np.where(active, probability, 0.0)
    return Moment(time, outside if inside == 0.0 else outside * (total / outside.sum()), left)


def _given(initial: ArrayLike, grid: Grid) -> FloatArray:
    """A starting probability given as an array, checked."""
    probability = np.asarray(initial, dtype=np.float64).ravel()
    if probability.size != grid.size:
        raise CaseError("initial", f"{probability.size} values", f"The grid has {grid.size} cells", "Give one per cell")
    if not (probability >= 0.0).all() or not abs(probability.sum() - 1.0) <= ROUNDING:
        found = f"the smallest value is {probability.min():g} and the sum {probability.sum():g}"
        raise CaseError("initial", found, "Probabilities are not negative and sum to 1", "Divide by the sum")
    return probability


def saved_times(until: float | None, save: int, times: Sequence[float] | None, start: float) -> FloatArray:
    """The times that are saved, the start first. Raises CaseError where they make no sense."""
    if (until is None) == (times is None):
        found = "neither until nor times is given" if until is None else "both until and times are given"
        raise CaseError("evolve", found, "Exactly one of them is needed", "")
    if until is not None:
        if not (np.isfinite(until) and until > start):
            required = f"It must be a finite time above {start:g}{SAVED_WORDS if start > 0.0 else ''}"
            raise CaseError("evolve.until", f"it is {until:g}", required, "")
        if save < 1:
            raise CaseError("evolve.save", f"it is {save}", "At least one instant must be saved", "")
        return start + np.arange(save + 1, dtype=np.float64) * ((until - start) / save)
    instants = np.concatenate([[start], np.asarray(times, dtype=np.float64)])
    if not np.isfinite(instants).all() or (np.diff(instants) <= 0.0).any():
        since = SAVED_WORDS if start > 0.0 else ""
        required = f"They must be finite and increasing, the first after {start:g}{since}"
        raise CaseError("evolve.times", "the times do not increase", required, "")
    return instants


@final
@dataclass(slots=True)
class _Record:
    """What is recorded at every saved time."""

    timeline: Timeline
    weights: dict[str, FloatArray]  # of the watched regions
    fields: dict[str, FloatArray]  # values of the observables
    wants_entropy: bool
    choice: Choice
    counts: Counts
    counted: Counts = field(default_factory=Counts)  # up to the last moment from which a march can go on
    moments: list[Moment] = field(default_factory=list)
    rows: list[dict[str, FloatArray]] = field(default_factory=list)
    fluxes: list[dict[str, float]] = field(default_factory=list)
    rest: tuple[Generator, FloatArray | None] | None = None  # a chain, and the logarithm of its state at rest

    def add(self, moment: Moment) -> None:
        """Record a moment."""
        generator = self.timeline.at(moment.time)
        grid, probability = generator.grid, moment.probability
        mean, covariance = mean_and_covariance(grid, probability)
        row = {"mean": mean, "covariance": covariance, "outflow": generator.outflow(probability).sum()}
        row["tail"] = np.array(tail_mass(grid, probability))
        if self.wants_entropy:
            row["entropy"] = np.array(self._entropy(generator, probability))
        if moment.pace is not None:
            self.counted = replace(self.counts)
        self.moments.append(moment)
        self.rows.append(row)
        self.fluxes.append({name: generator.flux(probability, weights) for name, weights in self.weights.items()})

    def _entropy(self, generator: Generator, probability: FloatArray) -> float:
        """Distance from rest, not a number where there is none. The rest is kept as long as the chain is the same."""
        if self.rest is None or self.rest[0] is not generator:
            self.rest = (generator, log_rest(generator))
        known = self.rest[1]
        return np.nan if known is None else entropy_relative_to(probability, known)

    def motion(self) -> Motion:
        """The motion so far."""
        generator = self.timeline.at(self.moments[-1].time)
        times = np.array([moment.time for moment in self.moments])
        probability = np.array([moment.probability for moment in self.moments])
        left = np.array([moment.left for moment in self.moments])
        series = {name: np.array([row[name] for row in self.rows]) for name in self.rows[0]}
        density, mass = probability / generator.grid.volumes, probability.sum(axis=1)
        entropy = series.get("entropy")
        return Motion(
            times=times,
            steps=generator.problem.course.steps(times),
            probability=probability,
            density=density,
            mass=mass,
            mean=series["mean"],
            covariance=series["covariance"],
            observables={name: _quotient(probability @ values, mass) for name, values in self.fields.items()},
            absorbed={gate: left[:, number] for number, gate in enumerate(generator.exits.gates)},
            outflow=series["outflow"],
            occupation={name: probability @ weight for name, weight in self.weights.items()},
            flux={name: np.array([row[name] for row in self.fluxes]) for name in self.weights},
            relative_entropy=None if entropy is None or np.isnan(entropy).all() else entropy,
            mass_error=float(np.abs(mass + left.sum(axis=1) - mass[0] - left[0].sum()).max()),
            smallest_density=float(density.min()),
            tail_mass=float(series["tail"].max()),
            counts=self.counted,
            choice=self.choice,
            timeline=self.timeline,
            paces=tuple(moment.pace for moment in self.moments),
        )


def _quotient(sums: FloatArray, mass: FloatArray) -> FloatArray:
    """Means, not a number where nothing is left."""
    return np.divide(sums, mass, out=np.full_like(sums, np.nan), where=mass > 0.0)
