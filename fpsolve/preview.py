"""Before the work: every question that cannot be answered is refused, and what a run would take is estimated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from fpsolve.analyse.escape import start_weights
from fpsolve.case import Case, EscapeTable, EvolveTable, with_case
from fpsolve.discretise.exponents import cells_across
from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError
from fpsolve.expect import refuse_malformed
from fpsolve.model.fields import Field
from fpsolve.model.problem import Problem
from fpsolve.present.report import lattice_words
from fpsolve.solve.elimination import memory_needed, memory_of_machine, refuse_too_large, seconds_needed
from fpsolve.solve.passage import union

# A feature is drawn well when this many cells fit in its standard deviation.
ENOUGH_CELLS = 4.0


def refuse_bad_questions(case: Case, generator: Generator) -> None:
    """Check everything that the case asks before the long work begins. Raises CaseError."""
    problem = case.problem
    from_rest = case.initial is not None and case.initial.initial() is None
    if not generator.closed and (from_rest or case.stationary is not None):
        found = f"probability leaves through {', '.join(generator.exits.gates)}"
        where = "stationary" if case.stationary is not None else "initial.stationary"
        raise CaseError(where, found, "A density at rest needs closed walls", "Remove it, or let no wall absorb")
    for name, region in case.regions.items():
        _refuse_undefined(region.level, problem, f"regions.{name}")
    for name, value in case.observables.items():
        _refuse_undefined(value, problem, f"observables.{name}")
    if case.evolve is not None:
        _refuse_bad_motion(case, case.evolve, problem)
    if case.escape is not None:
        _refuse_bad_escape(case, case.escape, generator)
    refuse_malformed(case)


def _refuse_undefined(field: Field, problem: Problem, where: str) -> None:
    values = field(problem.grid.positions())
    bad = ~np.isfinite(values)
    if bad.any():
        cell = int(np.argmax(bad))
        found = f"it is {values[cell]} in {problem.grid.place(cell)}"
        raise CaseError(where, found, "It must be finite in every cell", "Move the walls or change the formula")


def _refuse_bad_motion(case: Case, table: EvolveTable, problem: Problem) -> None:
    if case.initial is None:
        raise CaseError("evolve", "there is no [initial] table", "A density in time needs a start", "Add [initial]")
    if (initial := case.initial.initial()) is not None:
        initial.probability(problem)
    for text in table.watch:
        _refuse_undefined(case.region(text, "evolve.watch").level, problem, "evolve.watch")
    grid, available = problem.grid, memory_of_machine()
    each = 8.0 * grid.size * (2 + grid.dimensions)  # probability, density and current
    if (table.saved + 1) * each > available:
        raise CaseError(
            "evolve.save" if table.times is None else "evolve.times",
            f"{table.saved} saved densities need about {table.saved * each / 2**30:.3g} GiB",
            f"This machine has {available / 2**30:.3g} GiB",
            f"Save at most {int(0.5 * available / each)}",
        )


def _refuse_bad_escape(case: Case, table: EscapeTable, generator: Generator) -> None:
    problem = case.problem
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
    start_weights(problem, question.start, question.target, question.valley)


def _target_keys(case: Case) -> list[str]:
    assert case.escape is not None
    several = case.escape.targets is not None
    return [f"escape.targets.{number}" if several else "escape.target" for number in range(len(case.targets))]


@final
@dataclass(frozen=True)
class Preview:
    """What `check` says of a case without running it."""

    case: str
    lattice: str
    smallest_diffusion: float
    cells_across: dict[str, float]
    suggested_cells: dict[str, int]
    memory: float
    memory_of_machine: float
    seconds: float

    def as_text(self) -> str:
        """The lines that `fpsolve check` prints."""
        narrowest = ", ".join(f"{name} {cells:.2g}" for name, cells in self.cells_across.items() if cells < np.inf)
        grid = ", ".join(f"{name} {cells}" for name, cells in self.suggested_cells.items())
        resolution = f"cells across the narrowest feature: {narrowest}; enough would be {grid}"
        return "\n".join(
            [
                f"{self.case}   {'fine' if min(self.cells_across.values()) >= 1.0 else 'under-resolved'}",
                f"  generator   {self.lattice}",
                f"  diffusion   positive definite in every cell, smallest eigenvalue {self.smallest_diffusion:.3g}",
                f"  resolution  {resolution if narrowest else 'no well or saddle inside'}",
                f"  memory      about {self.memory / 2**20:.0f} MiB of {self.memory_of_machine / 2**20:.0f} MiB",
                f"  time        about {self.seconds:.1f} s for each factorisation",
            ]
        )


def check(case: Case | str | Path, overrides: Sequence[str] = ()) -> Preview:
    """Validate a case and look ahead: diffusion, resolution, memory, time. Raises CaseError where it is wrong."""
    return with_case(case, overrides, _check)


def _check(case: Case) -> Preview:
    refuse_too_large(case.grid)
    problem = case.problem
    generator = Generator.of(problem)
    refuse_bad_questions(case, generator)
    grid = problem.grid
    across = cells_across(problem)
    enough = {
        axis.name: max(axis.cells, int(np.ceil(axis.cells * ENOUGH_CELLS / max(across[axis.name], 1e-3))))
        if across[axis.name] < ENOUGH_CELLS
        else axis.cells
        for axis in grid.axes
    }
    eigenvalues = np.linalg.eigvalsh(np.moveaxis(problem.diffusion_at_cells, -1, 0))
    memory = memory_needed(grid)
    return Preview(
        case.name,
        lattice_words(generator),
        float(eigenvalues.min()),
        across,
        enough,
        memory,
        memory_of_machine(),
        seconds_needed(grid),
    )
