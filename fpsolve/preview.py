"""Before the work: every question that cannot be answered is refused, and what a run would take is estimated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, final

import numpy as np

from fpsolve.analyse.escape import refuse_bad_regions, start_weights
from fpsolve.analyse.floor import FloorLayer, climb, floor_of, layer_words, narrowest_layer
from fpsolve.analyse.gradient_noise import check_batch_sizes
from fpsolve.analyse.motion import first_moment, timeline_of
from fpsolve.analyse.witness import refuse_continued_descent
from fpsolve.case import Case, EnsembleTable, EscapeTable, EvolveTable, GradientNoiseTable, with_case
from fpsolve.discretise.exponents import cells_across
from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError
from fpsolve.expect import refuse_malformed
from fpsolve.model.domain import Domain
from fpsolve.model.fields import Field
from fpsolve.model.grid import Grid
from fpsolve.model.initial import Saved
from fpsolve.model.problem import Problem
from fpsolve.present.report import axes_words, lattice_words
from fpsolve.solve.choice import Choice, choose
from fpsolve.solve.descent import refuse_bad_descent
from fpsolve.solve.elimination import memory_needed, memory_of_machine, refuse_too_large, seconds_needed
from fpsolve.solve.passage import union

# A well or saddle of a standard deviation of so many cells is drawn well: its quadrature on half of them is exact.
ENOUGH_CELLS = 2.0
# Below so many it is said to be thin, and finer cells there help more than cells all over.
FEW_CELLS = 1.0
# No more cells than this many times as many are asked for along an axis.
MOST_TIMES_THE_CELLS = 1e3


def refuse_without_memory(case: Case) -> bool:
    """Whether the case cannot do without factorising its chain. Raises CaseError where that cannot fit in memory."""
    in_time = case.evolve is not None and case.evolve.stepper in ("implicit", "exponential")
    needed = in_time or case.spectrum is not None or case.escape is not None
    if needed:
        refuse_too_large(case.grid)
    return needed


def refuse_bad_questions(case: Case, generator: Generator) -> None:
    """Check everything that the case asks before the long work begins. Raises CaseError."""
    problem = case.problem
    from_rest = case.initial is not None and case.start is None
    if not generator.closed and (from_rest or case.stationary is not None):
        found = f"probability leaves through {', '.join(generator.exits.gates)}"
        where = "stationary" if case.stationary is not None else "initial.stationary"
        raise CaseError(where, found, "A density at rest needs closed walls", "Remove it, or let no wall absorb")
    if from_rest or case.stationary is not None or case.spectrum is not None:
        _refuse_pieces(case, generator)
    for name, region in case.regions.items():
        _refuse_undefined(region.level, problem, f"regions.{name}")
    for name, value in case.observables.items():
        _refuse_undefined(value, problem, f"observables.{name}")
    for table in ("stationary", "spectrum", "escape"):
        if getattr(case, table) is not None:
            case.problem_of(table)
    if case.evolve is not None:
        _refuse_bad_motion(case, case.evolve, generator)
    if case.escape is not None:
        _refuse_bad_escape(case, case.escape, chain_of(case, "escape", generator))
    if case.ensemble is not None:
        _refuse_bad_ensemble(case, case.ensemble)
    if case.gradient_noise is not None:
        _refuse_bad_point(case, case.gradient_noise)
    refuse_malformed(case)


def _refuse_pieces(case: Case, generator: Generator) -> None:
    """Refuse a domain that falls apart, unless the start picks one of its pieces. Raises CaseError."""
    if generator.pieces.max() > 0:
        start = None if case.initial is None else case.start
        held = generator.active if start is None else start.probability(generator.problem) > 0.0
        generator.joined_to(held).refuse_pieces()


def chain_of(case: Case, table: Literal["stationary", "spectrum", "escape"], generator: Generator) -> Generator:
    """The chain that a table asks about; generator: that of the start, which serves where nothing changes in time."""
    problem = case.problem_of(table)
    chain = generator if problem is generator.problem else Generator.of(problem)
    if chain.pieces.max() > 0 and table != "escape" and case.initial is not None and case.start is not None:
        return chain.joined_to(case.start.probability(problem) > 0.0)  # an escape has a start of its own
    return chain


def _refuse_undefined(field: Field, problem: Problem, where: str) -> None:
    values = field(problem.grid.positions())
    bad = ~np.isfinite(values)
    if bad.any():
        cell = int(np.argmax(bad))
        found = f"it is {values[cell]} in {problem.grid.place(cell)}"
        raise CaseError(where, found, "It must be finite in every cell", "Move the walls or change the formula")


def _refuse_bad_motion(case: Case, table: EvolveTable, generator: Generator) -> None:
    problem = generator.problem
    if case.initial is None:
        raise CaseError("evolve", "there is no [initial] table", "A density in time needs a start", "Add [initial]")
    for key in ("watch", "absorb"):
        for text in getattr(table, key):
            _refuse_undefined(case.region(text, f"evolve.{key}").level, problem, f"evolve.{key}")
    grid, available = problem.grid, memory_of_machine()
    each = 8.0 * grid.size * (2 + 4 * grid.dimensions)  # probability, density, current and its three parts
    if (table.saved + 1) * each > available:
        raise CaseError(
            "evolve.save" if table.times is None else "evolve.times",
            f"{table.saved} saved densities need about {table.saved * each / 2**30:.3g} GiB",
            f"This machine has {available / 2**30:.3g} GiB",
            f"Save at most {int(0.5 * available / each)}",
        )
    timeline, times = timeline_of(generator, case.absorbing), case.saved_times
    if case.start is not None:
        first_moment(timeline.at(float(times[0])), case.start, float(times[0]))
    choose(timeline, times, table.tolerance, table.stepper)
    _refuse_bad_times(problem, float(times[-1]))


def _refuse_bad_times(problem: Problem, last: float) -> None:
    """Look at a problem that changes in time where its noise jumps, and at the end."""
    if problem.depends_on_time:
        for time in (*(jump for jump in problem.course.jumps if jump < last), last):
            problem.at(time)


def _refuse_bad_escape(case: Case, table: EscapeTable, generator: Generator) -> None:
    problem = generator.problem
    regions = dict(zip(_target_keys(case), case.targets, strict=True))
    regions |= {} if table.valley is None else {"escape.valley": case.region(table.valley, "escape.valley")}
    regions |= {} if case.core is None else {"escape.core": case.core}
    for where, region in regions.items():
        _refuse_undefined(region.level, problem, where)
    if table.start is not None:
        target = union(case.targets, problem.grid.dimensions) if case.targets else None
        start_weights(problem, table.start, target, regions.get("escape.valley"))
    for where, target in zip(_target_keys(case), case.targets, strict=True):
        generator.killed(target, where)
    question = case.question
    refuse_bad_regions(generator, question.start, case.targets or (question.target,), question.valley, case.core)


def _refuse_bad_ensemble(case: Case, table: EnsembleTable) -> None:
    ensemble = case.walkers
    assert ensemble is not None
    if ensemble.process_in(case.problem) == "sgd":
        refuse_bad_descent(*case.problem.whole, case.problem.grid, ensemble.sampling)
        if case.evolve is not None and isinstance(case.start, Saved):
            refuse_continued_descent()
    if case.evolve is None and case.escape is None:
        if case.stationary is None:
            required = "Walkers stand beside a density or an escape time"
            raise CaseError("ensemble", "nothing else is asked", required, "Add [evolve], [stationary] or [escape]")
        if table.max_time is None:
            required = "Walkers at rest need a time to get there, of many relaxation times"
            raise CaseError("ensemble.max_time", "it is missing", required, "Add max_time = ...")
    elif case.escape is None and table.max_time is not None:
        required = "Walkers are seen at the saved times of [evolve]"
        raise CaseError("ensemble.max_time", "it has no effect beside [evolve]", required, "Remove it")


def _refuse_bad_point(case: Case, table: GradientNoiseTable) -> None:
    """[gradient_noise] needs data, and a point of the landscape."""
    axes = len(case.axes)
    if len(table.at) != axes:
        found = f"{len(table.at)} coordinates"
        raise CaseError("gradient_noise.at", found, f"A point has {axes}, one for every variable", "")
    if case.problem.landscape.sample is None:
        required = "The noise of gradients is that of the rows of a data set"
        raise CaseError("gradient_noise", "there are no data", required, "Give landscape.data and per_example_loss")
    check_batch_sizes(table.batch_sizes, case.gradient_sampling, case.problem.landscape.sample.rows)


def _target_keys(case: Case) -> list[str]:
    assert case.escape is not None
    several = case.escape.targets is not None
    return [f"escape.targets.{number}" if several else "escape.target" for number in range(len(case.targets))]


def enough_cells(problem: Problem) -> dict[str, int]:
    """How many cells along each axis draw all its wells and saddles: those that there are where they are enough."""
    across = cells_across(problem)
    factors = {name: min(ENOUGH_CELLS / cells, MOST_TIMES_THE_CELLS) for name, cells in across.items()}
    return {axis.name: math.ceil(axis.cells * max(factors[axis.name], 1.0)) for axis in problem.grid.axes}


@final
@dataclass(frozen=True)
class Preview:
    """What `check` says of a case without running it."""

    case: str
    origin: str
    lattice: str
    smallest_diffusion: float
    cells_across: dict[str, float]
    suggested_cells: dict[str, int]
    memory: float
    memory_of_machine: float
    seconds: float
    grid: Grid
    needs_matrices: bool = True
    layer: FloorLayer | None = None  # the narrowest that only the floor of the noise keeps open
    choice: Choice | None = None  # of the stepper, where a density in time is asked for
    seconds_for_data: float = 0.0  # to read big data at every cell, on one thread

    @property
    def verdict(self) -> str:
        """'fine' where nothing is suggested."""
        if min(self.cells_across.values()) < FEW_CELLS:
            return "under-resolved"
        enough = all(axis.cells >= self.suggested_cells[axis.name] for axis in self.grid.axes)
        return "fine" if enough and (self.layer is None or self.layer.cells >= 1.0) else "could be finer"

    def as_text(self) -> str:
        """The lines that `fpsolve check` prints."""
        narrowest = ", ".join(f"{name} {cells:.2g}" for name, cells in self.cells_across.items() if cells < np.inf)
        grid = ", ".join(f"{name} {cells}" for name, cells in self.suggested_cells.items())
        resolution = f"cells across the narrowest feature: {narrowest}; enough would be {grid}"
        return "\n".join(
            [
                f"{self.case}   {self.verdict}",
                *([f"  landscape   {self.origin}"] if self.origin else []),
                f"  generator   {self.lattice}",
                *(f"              {words}" for words in axes_words(self.grid)),
                *([f"  domain      {self.grid.domain.words}"] if isinstance(self.grid.domain, Domain) else []),
                f"  diffusion   {self._definite()} in every cell, smallest eigenvalue {self.smallest_diffusion:.3g}",
                f"  resolution  {resolution if narrowest else 'no well or saddle inside'}",
                *([] if self.layer is None else [f"  floor       the layer {layer_words(self.grid, self.layer)}"]),
                *self._effort(),
            ]
        )

    def _definite(self) -> str:
        return "positive definite" if self.smallest_diffusion > 0.0 else "nowhere negative"

    def _effort(self) -> list[str]:
        """Memory and time: of a factorisation where one is needed, and of the steps in time."""
        lines, choice = [], self.choice
        if self.seconds_for_data > 0.0:
            lines.append(f"  data        about {self.seconds_for_data:.0f} s for all rows at every cell, on one thread")
        if self.needs_matrices or choice is None or choice.stepper != "stabilised":
            room = f"about {self.memory / 2**20:.0f} MiB of {self.memory_of_machine / 2**20:.0f} MiB"
            lines += [f"  memory      {room}", f"  time        about {self.seconds:.1f} s for each factorisation"]
        if choice is not None:
            lines.append(f"  in time     {choice.stepper}{f', {choice.reason}' if choice.reason else ''}")
        return lines


def check(case: Case | str | Path, overrides: Sequence[str] = ()) -> Preview:
    """Validate a case and look ahead: diffusion, resolution, memory, time. Raises CaseError where it is wrong."""
    return with_case(case, overrides, _check)


def _check(case: Case) -> Preview:
    case = replace(case, roughly=True)
    needs_matrices = refuse_without_memory(case)
    problem = case.problem
    generator = Generator.of(problem)
    refuse_bad_questions(case, generator)
    grid = problem.grid
    eigenvalues = np.linalg.eigvalsh(np.moveaxis(problem.diffusion_at_cells, -1, 0))
    memory = memory_needed(grid)
    return Preview(
        case.name,
        problem.landscape.origin,
        lattice_words(generator),
        float(eigenvalues.min()),
        cells_across(problem),
        enough_cells(problem),
        memory,
        memory_of_machine(),
        seconds_needed(grid),
        grid,
        needs_matrices,
        _layer(case),
        _choice(case, generator),
        problem.landscape.seconds_for_data(grid),
    )


def _choice(case: Case, generator: Generator) -> Choice | None:
    if (table := case.evolve) is None:
        return None
    return choose(timeline_of(generator, case.absorbing), case.saved_times, table.tolerance, table.stepper)


def _layer(case: Case) -> FloorLayer | None:
    """The layer that matters to the case, where the noise has a floor."""
    if case.escape is None or floor_of(case.problem) is None:
        return narrowest_layer(case.problem)
    return narrowest_layer(case.problem, climb(case.problem, case.question.start, case.question.target))
