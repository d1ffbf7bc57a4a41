"""A case through the rooms, one line per arrow: case -> problem -> generator -> solution -> analysis -> report."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from fpsolve.analyse.escape import Escape, escape
from fpsolve.analyse.motion import Motion, evolve
from fpsolve.analyse.rest import AtRest, stationary
from fpsolve.case import Case, with_case
from fpsolve.discretise.exponents import cells_across
from fpsolve.discretise.generator import Generator
from fpsolve.errors import RunError
from fpsolve.expect import check_expectations
from fpsolve.model.grid import FloatArray
from fpsolve.present import storage
from fpsolve.present.report import Report
from fpsolve.preview import refuse_bad_questions
from fpsolve.solve.elimination import refuse_too_large

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
    directory, watcher = None if output is None else Path(output), progress or _silent
    return with_case(case, overrides, lambda loaded: _run(loaded, directory, figures, watcher))


def _silent(stage: str, share: float) -> None:
    """Progress that nobody watches."""


def _run(case: Case, output: Path | None, figures: bool, progress: Progress) -> Report:
    began = time.perf_counter()
    if output is not None:
        storage.make_directory(output)
    progress("generator", 0.0)
    refuse_too_large(case.grid)
    generator = Generator.of(case.problem)
    refuse_bad_questions(case, generator)
    rest = _at_rest(case, generator, progress)
    motion = _in_time(case, generator, rest, progress)
    out = _escape(case, generator, progress)
    report = Report(case.name, case.title, generator, rest, motion, out, cells_across(case.problem))
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
