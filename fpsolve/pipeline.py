"""A case through the rooms, one line per arrow: case -> problem -> generator -> solution -> analysis -> report."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from fpsolve import refine
from fpsolve.analyse.basins import find_basins
from fpsolve.analyse.convergence import Limit
from fpsolve.analyse.escape import DEFINITIONS, Escape, escape_times
from fpsolve.analyse.floor import FloorSensitivity, floor_of
from fpsolve.analyse.gradient_noise import GradientNoise, gradient_noise
from fpsolve.analyse.motion import NOTHING, Motion, evolve
from fpsolve.analyse.noise_structure import NoiseStructure, noise_structure
from fpsolve.analyse.rest import AtRest, stationary
from fpsolve.analyse.spectrum import Spectrum, spectrum
from fpsolve.analyse.stationary_points import StationaryPoint, StationaryPointError
from fpsolve.analyse.terrain import Terrain, terrain
from fpsolve.analyse.witness import Witness, witness_escape, witness_motion, witness_rest
from fpsolve.case import Case, with_case
from fpsolve.discretise.exponents import cells_across
from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError, Notice, RunError
from fpsolve.expect import check_expectations
from fpsolve.model.problem import Problem
from fpsolve.present import storage
from fpsolve.present.checkpoint import Checkpoints, read_earlier
from fpsolve.present.report import Report
from fpsolve.preview import chain_of, refuse_bad_questions, refuse_without_memory
from fpsolve.refine import Convergence
from fpsolve.solve.elimination import refuse_too_large

Progress = Callable[[str, float], None]  # stage, share done


def run(
    case: Case | str | Path,
    *,
    overrides: Sequence[str] = (),
    output: str | Path | None = None,
    figures: bool = True,
    progress: Progress | None = None,
    resume: bool = False,
) -> Report:
    """Run a case, or the case file at a path, and report.

    output: directory for the result file and the figures; nothing is written when it is left out. resume: whether to
    go on from what an interrupted run of the same case has left in its result file there.

    Raises CaseError for bad input (with file, key and line), RunError when the run fails. A missed expectation does
    not raise: the report's outcome is then "failed".
    """
    directory, watcher = None if output is None else Path(output), progress or _silent
    if resume and directory is None:
        raise CaseError("resume", "there is no output directory", "An earlier result is needed", "Give output")
    return with_case(case, overrides, lambda loaded: _run(loaded, directory, figures, watcher, resume))


def converge(case: Case | str | Path, *, overrides: Sequence[str] = ()) -> dict[str, Convergence]:
    """Ask a case's positive numbers, escape times and occupations at rest, on ever finer grids.

    Raises CaseError for bad input, or a case that asks for none of them; RunError when the finest grid fails.
    """
    return with_case(case, overrides, _converge)


def _converge(case: Case) -> dict[str, Convergence]:
    if case.escape is None and not (case.stationary is not None and case.regions):
        found = "the case asks for no number that could converge"
        raise CaseError("escape", found, "Escape times and occupations at rest are", "Add [escape], or [stationary]")
    refuse_too_large(case.grid)
    refuse_bad_questions(case, Generator.of(case.problem))
    problem = case.problem_of("stationary" if case.escape is None else "escape")
    return refine.converge(problem, lambda problem: _logarithms(case, problem))


def _logarithms(case: Case, problem: Problem) -> dict[str, float]:
    """Logarithms of what a case asks, on another grid."""
    generator, found = Generator.of(problem), {}
    if case.stationary is not None:
        regions = stationary(generator, regions=case.regions).regions
        found = {f"P({name})": math.log(value) for name, value in regions.items() if value > 0.0}
    if case.escape is not None:
        question = case.question
        targets = case.targets or (question.target,)
        times = escape_times(
            generator,
            start=question.start,
            targets=targets,
            valley=question.valley,
            core=case.core,
            definitions=[name for name in DEFINITIONS if name != "running_flux"],
        )
        found |= {name: time.log_time for name, time in times.items()}
    return found


def _silent(stage: str, share: float) -> None:
    """Progress that nobody watches."""


def _run(case: Case, output: Path | None, figures: bool, progress: Progress, resume: bool) -> Report:
    began = time.perf_counter()
    if output is not None:
        storage.make_directory(output)
    case = replace(case, watch=lambda share: progress("data", share))
    progress("generator", 0.0)
    refuse_without_memory(case)
    generator = Generator.of(case.problem)
    refuse_bad_questions(case, generator)
    rest = _at_rest(case, generator, progress)
    modes, missing = _spectrum(case, generator, progress)
    report = Report(case.name, case.title, generator, rest, spectrum=modes)
    motion = _in_time(case, report, output, progress, resume)
    out = _escape(case, generator, progress)
    around, floor = _terrain(case, generator, out, progress), _floor(case, out, progress)
    report = replace(report, motion=motion, escape=out, terrain=around, floor=floor)
    report = replace(report, witness=_witness(case, report, progress), structure=_structure(case, report))
    report = replace(report, gradient_noise=_gradient_noise(case, progress))
    report = replace(report, limits=_limits(case, rest, progress), notices=(*missing, *_notices(case, report)))
    report = replace(report, cells_across=cells_across(case.problem))
    report = replace(report, checks=check_expectations(case, report))
    if output is not None:
        report = _written(case, report, output, figures, progress)
    return replace(report, seconds=time.perf_counter() - began)


def _at_rest(case: Case, generator: Generator, progress: Progress) -> AtRest | None:
    if case.stationary is None:
        return None
    progress("density at rest", 0.0)
    chain = chain_of(case, "stationary", generator)
    return stationary(chain, regions=case.regions, observables=case.observables, with_quasi_potential=True)


def _in_time(case: Case, report: Report, output: Path | None, progress: Progress, resume: bool) -> Motion | None:
    """The density in time, written to the result file as it goes; Ctrl-C leaves there what is known."""
    generator = report.generator
    if case.evolve is None or generator is None:
        return None
    table, start, begin, last = case.evolve, case.start, case.saved_times[0], case.saved_times[-1]
    checkpoints, earlier = None, NOTHING
    if output is not None:
        path, text = storage.result_path(output, case.name), case.resolved()
        storage.remove_leftovers(path)
        checkpoints = Checkpoints(path, report, text)
        if resume:
            gates = generator.exits.gates + tuple(region.name for region in case.absorbing)
            earlier = read_earlier(path, text, generator.grid, gates)
    progress("density in time", 0.0)
    try:
        return evolve(
            generator,
            start if start is not None else _rest_at_start(case, report).probability,
            until=table.until,
            save=table.saved,
            times=table.times,
            tolerance=table.tolerance,
            stepper=table.stepper,
            absorb=case.absorbing,
            watch={name: case.region(name, "evolve.watch") for name in table.watch},
            observables=case.observables,
            relative_entropy=table.relative_entropy,
            progress=lambda reached: progress("density in time", (reached - begin) / (last - begin)),
            keep=None if checkpoints is None else checkpoints.keep,
            earlier=earlier,
        )
    except KeyboardInterrupt:
        if checkpoints is None:
            raise
        raise _interrupted(checkpoints, len(earlier.moments)) from None


def _interrupted(checkpoints: Checkpoints, before: int) -> RunError:
    """What is known is on disk. before: how many saved times there were when the run began."""
    saved = checkpoints.write() or before
    if not saved:
        return RunError("evolve", "interrupted before the first saved time", "", "Run it again")
    kept = f"{checkpoints.path} holds {saved} saved times"
    return RunError("evolve", "interrupted", kept, "Go on with fpsolve run --resume")


def _rest_at_start(case: Case, report: Report) -> AtRest:
    """The density at rest of the problem as it is at the start."""
    generator = report.generator
    assert generator is not None
    known = report.rest is not None and not case.problem.depends_on_time
    return report.rest if known and report.rest is not None else stationary(generator)


def _spectrum(case: Case, generator: Generator, progress: Progress) -> tuple[Spectrum | None, tuple[Notice, ...]]:
    """The spectrum; where it fails beside other questions, those are answered and this becomes a warning."""
    if case.spectrum is None:
        return None, ()
    progress("spectrum", 0.0)
    try:
        return spectrum(chain_of(case, "spectrum", generator), case.spectrum.count), ()
    except RunError as error:
        if case.stationary is None and case.evolve is None and case.escape is None:
            raise
        return None, (Notice("no_spectrum", f"there is no spectrum: {error}"),)


def _limits(case: Case, rest: AtRest | None, progress: Progress) -> dict[str, Limit]:
    """The numbers at rest with error bars, where the case asks for them."""
    if rest is None or case.stationary is None or case.stationary.grids == 1:
        return {}
    progress("error bars at rest", 0.0)

    def question(problem: Problem) -> dict[str, float]:
        start = None if case.initial is None else case.start
        return stationary(problem, regions=case.regions, observables=case.observables, initial=start).numbers

    return refine.limits(case.problem_of("stationary"), question, rest.numbers)


def _escape(case: Case, generator: Generator, progress: Progress) -> Escape | None:
    if case.escape is None:
        return None
    progress("escape", 0.0)
    question = case.question
    return refine.escape(
        chain_of(case, "escape", generator),
        start=question.start,
        targets=case.targets or (question.target,),
        valley=question.valley,
        core=case.core,
        grids=case.escape.grids,
    )


def _floor(case: Case, out: Escape | None, progress: Progress) -> FloorSensitivity | None:
    if out is None or floor_of(case.problem) is None:
        return None
    progress("floor", 0.0)
    return refine.escape_floor(case.problem_of("escape"), out)


def _notices(case: Case, report: Report) -> tuple[Notice, ...]:
    basins = None if report.terrain is None else report.terrain.basins
    out, floor, structure, witness = report.escape, report.floor, report.structure, report.witness
    found = [] if out is None else refine.resolution_notices(case.problem_of("escape"), out, basins)
    found += [] if floor is None else floor.notices()
    return (*found, *(part for some in (structure, witness) if some is not None for part in some.notices))


def _structure(case: Case, report: Report) -> NoiseStructure | None:
    """What the noise is like in the landscape; None where it is the same everywhere."""
    problem = case.problem if case.escape is None else case.problem_of("escape")
    if problem.diffusion.constant is not None and problem.landscape.gradient_covariance is None:
        return None
    around = report.terrain
    minima = _minima(problem) if around is None else () if around.basins is None else around.basins.minima
    paths = () if around is None else around.paths
    return noise_structure(problem, minima, paths, None if report.rest is None else report.rest.probability)


def _minima(problem: Problem) -> Sequence[StationaryPoint]:
    """The minima of the loss, where the noise can be compared with the Hessian."""
    if problem.landscape.gradient_covariance is None:
        return ()
    try:
        return find_basins(problem).minima
    except StationaryPointError:
        return ()


def _gradient_noise(case: Case, progress: Progress) -> GradientNoise | None:
    """The law of the gradient noise at a point, where the case asks for it."""
    if (table := case.gradient_noise) is None:
        return None
    progress("gradient noise", 0.0)
    sample = case.problem.landscape.sample
    assert sample is not None
    return gradient_noise(
        sample.gradients(table.at),
        table.batch_sizes,
        point=np.array(table.at),
        sampling=case.gradient_sampling,
        draws=table.draws,
        seed=table.seed,
    )


def _witness(case: Case, report: Report, progress: Progress) -> Witness | None:
    """Walkers beside the escape, the density in time, or else the density at rest."""
    ensemble, table = case.walkers, case.ensemble
    if ensemble is None or table is None:
        return None

    def tell(share: float) -> None:
        progress("walkers", share)

    found = Witness(ensemble, ensemble.process_in(case.problem))
    if report.escape is not None:
        question, times = case.question, report.escape.times
        runs, notices = witness_escape(
            case.problem_of("escape"),
            ensemble,
            question.start,
            case.targets or (question.target,),
            times["mean_first_passage_time"].log_time,
            max_time=table.max_time,
            progress=tell,
        )
        found = replace(found, escape=runs, notices=notices)
    if report.motion is not None:
        motion, start = report.motion, case.start
        moving = witness_motion(
            case.problem,
            ensemble,
            start if start is not None else motion.probability[0],
            motion.times,
            motion.probability,
            absorb=case.absorbing,
            progress=tell,
        )
        return replace(found, motion=moving, notices=(*found.notices, *moving.runs.notices))
    if report.rest is None or report.escape is not None or table.max_time is None:
        return found
    probability = report.rest.probability
    begin = None if case.initial is None else case.start
    whence = probability if begin is None else begin
    resting = witness_rest(case.problem, ensemble, whence, probability, max_time=table.max_time, progress=tell)
    return replace(found, rest=resting, notices=resting.runs.notices)


def _terrain(case: Case, generator: Generator, out: Escape | None, progress: Progress) -> Terrain | None:
    if out is None:
        return None
    progress("basins and paths", 0.0)
    return terrain(chain_of(case, "escape", generator), case.question, out.times["mean_first_passage_time"].log_time)


def _written(case: Case, report: Report, output: Path, figures: bool, progress: Progress) -> Report:
    """The report with its result file and figures on disk."""
    progress("files", 0.0)
    drawn: list[Path] = []
    if figures:
        drawn = _drawn(case, report, output / case.name)
    result = storage.result_path(output, case.name)
    report = replace(report, result_file=result, figures=drawn)
    storage.write_result(report, result, case.resolved())
    return report


def _drawn(case: Case, report: Report, stem: Path) -> list[Path]:
    from fpsolve.present.figures import draw_figures

    around = report.terrain
    try:
        return draw_figures(
            case.problem,
            case.title,
            stem,
            rest=report.rest,
            motion=report.motion,
            escape=report.escape,
            spectrum=report.spectrum,
            basins=None if around is None else around.basins,
            paths=() if around is None else around.paths,
            structure=report.structure,
            gradient_noise=report.gradient_noise,
            witness=report.witness,
            regions=case.regions,
        )
    except OSError as error:
        found = f"the figures cannot be written ({error.strerror})"
        raise RunError(str(stem.parent), found, "", "Free some space, or run with --no-figures") from None
