"""A case through the rooms, one line per arrow: case -> problem -> generator -> solution -> analysis -> report."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import final

import numpy as np

from fpsolve.analyse.escape import Escape, escape
from fpsolve.analyse.motion import Motion, evolve
from fpsolve.analyse.rest import AtRest, stationary
from fpsolve.case import Case, EscapeTable, EvolveTable, load_case, located
from fpsolve.discretise.exponents import local_shape
from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError, RunError
from fpsolve.expect import check_expectations, refuse_malformed
from fpsolve.model.fields import Field
from fpsolve.model.grid import FloatArray
from fpsolve.model.problem import Problem
from fpsolve.model.region import point_weights
from fpsolve.present import storage
from fpsolve.present.report import Report, lattice_words
from fpsolve.solve.elimination import memory_available, memory_needed, refuse_too_large, seconds_needed

Progress = Callable[[str, float], None]  # stage, share done


def run(
    case: Case | str | Path,
    *,
    overrides: Sequence[str] = (),
    output: str | Path | None = None,
    figures: bool = True,
    progress: Progress | None = None,
) -> Report:
    """Run a case, or the case file at a path, and report.

    output: directory for the result file and the figures; nothing is written when it is left out.

    Raises CaseError for bad input (with file, key and line), RunError when the run fails. A missed expectation does
    not raise: the report's outcome is then "failed".
    """
    if isinstance(case, Case):
        _refuse_overrides(overrides)
        return _run(case, None if output is None else Path(output), figures, progress or _silent)
    file = Path(case)
    loaded = load_case(file, overrides)
    try:
        return _run(loaded, None if output is None else Path(output), figures, progress or _silent)
    except CaseError as error:
        raise located(error, file, overrides) from None


def _refuse_overrides(overrides: Sequence[str]) -> None:
    if overrides:
        found = f"{len(overrides)} given beside a Case, which is already read"
        raise CaseError("overrides", found, "They change the text of a case file", "Use load_case(path, overrides)")


def _silent(stage: str, share: float) -> None:
    """Progress that nobody watches."""


def _run(case: Case, output: Path | None, figures: bool, progress: Progress) -> Report:
    began = time.perf_counter()
    if output is not None:
        storage.make_directory(output)
    progress("generator", 0.0)
    refuse_too_large(case.grid)
    generator = Generator.of(case.problem)
    _refuse_bad_questions(case, generator)
    rest = _at_rest(case, generator, progress)
    motion = _in_time(case, generator, rest, progress)
    out = _escape(case, generator, progress)
    report = Report(case.name, case.title, generator, rest, motion, out)
    report = replace(report, checks=check_expectations(case, report))
    if output is not None:
        report = _written(case, report, output, figures, progress)
    return replace(report, seconds=time.perf_counter() - began)


def _at_rest(case: Case, generator: Generator, progress: Progress) -> AtRest | None:
    if case.stationary is None:
        return None
    progress("density at rest", 0.0)
    return stationary(generator, regions=case.regions, observables=case.observables)


def _in_time(case: Case, generator: Generator, rest: AtRest | None, progress: Progress) -> Motion | None:
    if case.evolve is None:
        return None
    table, last = case.evolve, case.evolve.until or max(case.evolve.times or [1.0])
    return evolve(
        generator,
        _start(case, generator, rest),
        until=table.until,
        save=table.saved,
        times=table.times,
        tolerance=table.tolerance,
        watch={name: case.region(name, "evolve.watch") for name in table.watch},
        observables=case.observables,
        progress=lambda reached: progress("density in time", reached / last),
    )


def _start(case: Case, generator: Generator, rest: AtRest | None) -> FloatArray:
    assert case.initial is not None
    initial = case.initial.initial()
    if initial is None:
        return (rest or stationary(generator)).probability
    return initial.probability(generator.problem)


def _escape(case: Case, generator: Generator, progress: Progress) -> Escape | None:
    if (table := case.escape) is None:
        return None
    progress("escape", 0.0)
    return escape(
        generator,
        start=table.start,
        target=case.region(table.target, "escape.target"),
        valley=None if table.valley is None else case.region(table.valley, "escape.valley"),
    )


def _written(case: Case, report: Report, output: Path, figures: bool, progress: Progress) -> Report:
    """The report with its result file and figures on disk."""
    progress("files", 0.0)
    stem = output / case.name
    drawn: list[Path] = []
    if figures:
        drawn = _drawn(case, report, stem)
    result = stem.with_name(f"{stem.name}.nc")
    report = replace(report, result_file=result, figures=drawn)
    storage.write_result(report, result, case.resolved())
    return report


def _drawn(case: Case, report: Report, stem: Path) -> list[Path]:
    from fpsolve.present.figures import draw_figures

    rest, motion, out = report.rest, report.motion, report.escape
    try:
        return draw_figures(case.problem, case.title, stem, rest=rest, motion=motion, escape=out, regions=case.regions)
    except OSError as error:
        found = f"the figures cannot be written ({error.strerror})"
        raise RunError(str(stem.parent), found, "", "Free some space, or run with --no-figures") from None


def _refuse_bad_questions(case: Case, generator: Generator) -> None:
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
    grid, available = problem.grid, memory_available()
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
    target = case.region(table.target, "escape.target")
    _refuse_undefined(target.level, problem, "escape.target")
    point_weights(problem.grid, table.start, "escape.start")
    start = np.array(table.start)[:, None]
    if target.level(start)[0] > 0.0:
        found = f"the start lies inside the target {target.name!r}"
        raise CaseError("escape.start", found, "It must lie outside", "Move the start or shrink the target")
    generator.killed(target, "escape.target")
    if table.valley is not None:
        valley = case.region(table.valley, "escape.valley")
        _refuse_undefined(valley.level, problem, "escape.valley")
        if not valley.level(start)[0] > 0.0:
            found = f"the start lies outside the valley {valley.name!r}"
            raise CaseError("escape.valley", found, "It must lie inside", "Move the start or widen the valley")


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
    memory_available: float
    seconds: float

    def as_text(self) -> str:
        """The lines that `fpsolve check` prints."""
        narrowest = ", ".join(f"{name} {cells:.2g}" for name, cells in self.cells_across.items() if cells < np.inf)
        grid = ", ".join(f"{name} {cells}" for name, cells in self.suggested_cells.items())
        resolution = f"cells across the narrowest feature: {narrowest}; enough would be {grid}"
        return "\n".join(
            [
                f"{self.case}   fine",
                f"  generator   {self.lattice}",
                f"  diffusion   positive definite in every cell, smallest eigenvalue {self.smallest_diffusion:.3g}",
                f"  resolution  {resolution if narrowest else 'no well or saddle inside'}",
                f"  memory      about {self.memory / 2**20:.0f} MiB of {self.memory_available / 2**20:.0f} MiB",
                f"  time        about {self.seconds:.1f} s for each factorisation",
            ]
        )


# A feature is drawn well when this many cells fit in its standard deviation.
ENOUGH_CELLS = 4.0


def check(case: Case | str | Path, overrides: Sequence[str] = ()) -> Preview:
    """Validate a case and look ahead: diffusion, resolution, memory, time. Raises CaseError where it is wrong."""
    if isinstance(case, Case):
        _refuse_overrides(overrides)
        return _check(case)
    file = Path(case)
    loaded = load_case(file, overrides)
    try:
        return _check(loaded)
    except CaseError as error:
        raise located(error, file, overrides) from None


def _check(case: Case) -> Preview:
    refuse_too_large(case.grid)
    problem = case.problem
    generator = Generator.of(problem)
    _refuse_bad_questions(case, generator)
    grid = problem.grid
    widths = _narrowest(problem)
    across = dict(zip(grid.names, widths, strict=True))
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
        memory_available(),
        seconds_needed(grid),
    )


def _narrowest(problem: Problem) -> list[float]:
    """Width, in cells, of the narrowest well or saddle along each axis; infinite where there is none.

    The cells that hold a stationary point of ln p are those where the slope is below what the curvature makes of it
    within one cell.
    """
    slope, curvature = local_shape(problem)
    turning = (np.abs(slope) <= np.abs(curvature).sum(axis=1)).all(axis=0)
    sharpest = np.einsum("iip->ip", curvature)[:, turning].max(axis=1, initial=0.0)
    return [float(1.0 / np.sqrt(value)) if value > 0.0 else float("inf") for value in sharpest]
