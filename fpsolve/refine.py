"""A question asked on several grids: values with error bars, convergence, and the sensitivity to the floor.

A question takes a problem and gives numbers by name; it is asked of the same problem on fewer cells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias, final

import numpy as np

from fpsolve.analyse import escape as escaping
from fpsolve.analyse.basins import Basins, find_basins
from fpsolve.analyse.convergence import LARGEST_LOGARITHM, SHARES_OF_CELLS, Estimate, Limit, is_stuck, limit_of
from fpsolve.analyse.escape import Escape, EscapeTime
from fpsolve.analyse.floor import FloorLayer, FloorSensitivity, floor_law, floor_of, narrowest_layer, uphill
from fpsolve.analyse.geometry import describe
from fpsolve.analyse.passes import pass_between
from fpsolve.analyse.question import Question as EscapeQuestion
from fpsolve.analyse.question import complete_question
from fpsolve.analyse.stationary_points import StationaryPoint, StationaryPointError, minimum_near
from fpsolve.discretise.exponents import cells_across
from fpsolve.discretise.generator import Generator
from fpsolve.discretise.phase_space import refuse_numerical_diffusion
from fpsolve.errors import FpsolveError, Notice
from fpsolve.model.grid import Axis, BoolArray, Grid
from fpsolve.model.maps import Refinement
from fpsolve.model.noise import HessianNoise
from fpsolve.model.problem import Problem
from fpsolve.model.region import Region
from fpsolve.preview import ENOUGH_CELLS, FEW_CELLS, enough_cells
from fpsolve.solve.passage import Passage, union

Question: TypeAlias = Callable[[Problem], Mapping[str, float]]

# Where a layer that only the floor of the noise keeps open is thinner, in cells, numbers jump from grid to grid with
# its place between the cell centres: the usual bars, times THIN_LAYER_BAR, hold. Below UNSEEN_LAYER the quadrature of
# the edges beside it leaves an error that all grids share: these edges look the same from every one of them. No
# extrapolation then gains anything: the bar is what the two finest grids differ by, times THIN_LAYER_BAR, and
# SHARED_ERROR. Measured on the quartic well, noise of two strengths, floors from 0.1 to 1e-6 and 100 to 1600 cells:
# an error of up to 8e-4 is left on all of the grids.
THIN_LAYER, THIN_LAYER_BAR, UNSEEN_LAYER, SHARED_ERROR = 2.0, 1.5, 1.0, 1e-3
LAYER = "a layer of almost no noise"
NO_LIMIT = "the value does not converge on these grids"
# An axis that has as many cells keeps this many on a coarse grid.
FEWEST_CELLS = 3
# The running flux takes long to follow in time and is, on its plateau, the quasi-stationary flux: it moves with it.
SHARED_BARS = {"running_flux": "quasi_stationary"}
FIRST = "mean_first_passage_time"
# Error bars below this are good enough not to say more, and what is suggested brings them there.
GOOD_ERROR = 1e-2
SMALL_ERROR = 1e-3  # ... even where the order is not 2
# Wells with as many times FEW_CELLS stay well drawn when refinements elsewhere take cells away from them.
ROOMY = 4.0
# Wells that lie higher than so many thermal energies hold nothing at rest.
WEIGHTLESS = 30.0
# The logarithm of the floor, and of the noise, is moved by so much to either side: the change in ln(time) is far above
# rounding, and the third derivative (p or less, since ln(time) is nearly linear in both) enters by 1e-3 of it.
LOG_STEP = 0.05
# Share of the largest escaping current that marks the way out.
RELEVANT_CURRENT = 0.01
SHARES_TO_CONVERGE = (0.125, 0.25, 0.5, 1.0)


def coarsened(problem: Problem, shares: Sequence[float] = SHARES_OF_CELLS) -> list[Problem]:
    """The problem on shares of its cells along every axis, rounded up, in the order of the shares.

    Axes of one cell keep it; maps of axes are followed, whatever the number of cells.
    """
    return [problem if share == 1.0 else problem.on(_coarser(problem.grid, share)) for share in shares]


def _coarser(grid: Grid, share: float) -> Grid:
    return grid.with_axes(
        replace(axis, cells=max(math.ceil(share * axis.cells), min(axis.cells, FEWEST_CELLS))) for axis in grid.axes
    )


def _spacing(grid: Grid, finest: Grid) -> float:
    """Cell size in units of the finest: the geometric mean over the axes that have more than one cell."""
    ratios = [
        math.log(fine.cells / axis.cells) for axis, fine in zip(grid.axes, finest.axes, strict=True) if fine.cells > 1
    ]
    return math.exp(sum(ratios) / max(len(ratios), 1))


def refined(
    problem: Problem,
    question: Question,
    finest: Mapping[str, float] | None = None,
    relevant: BoolArray | None = None,
) -> dict[str, Estimate]:
    """Positive numbers with error bars, by name. The question gives their natural logarithms.

    finest: the answers on the grid of the problem itself, where they are known. Where a coarse grid cannot answer the
    error is unknown, with the reason. relevant: (cells,), those whose layers of vanishing noise count; all when left
    out.
    """
    answers = question(problem) if finest is None else finest
    layer = narrowest_layer(problem, relevant)
    found = _limits(problem, question, answers, layer, relative=False)
    return {name: Estimate.of(limit) for name, limit in found.items()}


def limits(problem: Problem, question: Question, finest: Mapping[str, float] | None = None) -> dict[str, Limit]:
    """As `refined` for numbers of either sign, such as means: the question gives them, errors are absolute."""
    answers = question(problem) if finest is None else finest
    return _limits(problem, question, answers, narrowest_layer(problem), relative=True)


def _limits(
    problem: Problem, question: Question, finest: Mapping[str, float], layer: FloorLayer | None, *, relative: bool
) -> dict[str, Limit]:
    coarse = coarsened(problem)[:-1]
    layer_cells = math.inf if layer is None else layer.cells
    across = min(layer_cells, *cells_across(problem).values())
    spacings = [_spacing(one.grid, problem.grid) for one in coarse] + [1.0]
    answers = [_answers(one, question, finest) for one in coarse]
    found = {}
    for name, value in finest.items():
        levels = [answer.get(name, "it is not defined there") for answer in answers]
        size = abs(value) if relative else 1.0
        limit = _limit(problem, [*levels, value], spacings, across, size)
        found[name] = _beside_layer(limit, layer_cells, size) if layer_cells < THIN_LAYER else limit
    return found


def _beside_layer(limit: Limit, cells: float, size: float) -> Limit:
    """A limit whose bar allows for a layer of so many cells that only the floor of the noise keeps open."""
    if limit.error is None:
        return limit
    if cells >= UNSEEN_LAYER:
        return replace(limit, error=THIN_LAYER_BAR * limit.error)
    error = THIN_LAYER_BAR * max(limit.error, float(np.ptp(limit.levels[-2:]))) + SHARED_ERROR * size
    reason = f"{LAYER} is {cells:.2g} cells wide"
    return replace(limit, error=error, clean=False, reason=reason)


def _answers(problem: Problem, question: Question, names: Mapping[str, float]) -> Mapping[str, float | str]:
    """The numbers, or why there are none, by name."""
    try:
        return {
            name: value if math.isfinite(value) else "it is not a finite number"
            for name, value in question(problem).items()
        }
    except FpsolveError as error:
        return dict.fromkeys(names, error.found)


def _limit(problem: Problem, levels: list[float | str], spacings: list[float], across: float, size: float) -> Limit:
    """The limit of levels, coarse to fine, some of which may be reasons why they are missing."""
    *coarse, half, fine = levels
    assert not isinstance(fine, str)
    if spacings[-2] <= 1.0:
        return Limit.unknown(fine, "the grid has too few cells to be made coarser")
    if isinstance(half, str):
        (halved,) = coarsened(problem, (SHARES_OF_CELLS[-2],))
        return Limit.unknown(fine, f"on {_by(halved.grid.shape)} cells, {half}")
    # Of grids that are equally coarse, because an axis has few cells, one counts.
    kept = [
        None if isinstance(level, str) or spacings[number] <= spacings[number + 1] else level
        for number, level in enumerate(coarse)
    ]
    limit = limit_of([*kept, half, fine], spacings, across, size)
    infinite = any(any(axis.infinite) for axis in problem.grid.axes)
    if is_stuck([*kept, half, fine], spacings, across, size, infinite=infinite):
        far = " and may be infinite: nothing confines the process far out" if infinite else ""
        return limit.without_limit(NO_LIMIT + far)
    return limit


def escape(
    problem: Problem | Generator,
    *,
    start: Sequence[float] | None = None,
    target: Region | str | None = None,
    targets: Sequence[Region | str] | None = None,
    valley: Region | str | None = None,
    core: Region | str | None = None,
    definitions: Collection[str] | None = None,
    grids: int = 3,
) -> Escape:
    """Escape times from a start into a target by every definition, each with an error bar.

    Parameters
    ----------
    problem : or its generator.
    start : (axes,) [length]. target, or targets : regions or conditions such as "x > 0.8"; the first that is reached
        ends the escape. What is left out follows from the basins of the loss, where it has two.
    valley : around the start; left out, the start's basin. core : around the minimum; left out, all within one thermal
        energy of it.
    definitions : names of those that are wanted (`Escape.times`); all of them when left out.
    grids : 3 asks the same on n/2, n/4 and, for certainty, 3n/8 of the n cells along every axis, for the error bars;
        1 leaves that out. The running flux has the bar of the quasi-stationary flux, which it is on its plateau.

    Returns
    -------
    `Escape`: times by definition (value, log10, standard_deviation, estimate.error ...), why others do not apply
    (absent), closed forms (theory), first-passage times from everywhere, densities, committors, currents.

    Raises
    ------
    CaseError : a question that makes no sense, or that the basins do not complete. RunError : the solve failed.
    """
    generator = problem if isinstance(problem, Generator) else Generator.of(problem)
    refuse_numerical_diffusion(generator.problem, generator.edges)
    if start is None or (target is None and targets is None):
        completed = _completed(generator.problem, start, target, targets, valley)
        start, valley = completed.start, completed.valley
        target = completed.target if targets is None else None
    asked = {"start": start, "target": target, "targets": targets, "valley": valley, "core": core}
    found = escaping.escape(generator, **asked, definitions=definitions)  # type: ignore[arg-type]
    if grids == 1:
        return found
    if found.transition is not None:
        asked["core"] = found.transition.core  # one and the same on all grids
    names = [name for name in found.times if name not in SHARED_BARS]

    def question(coarse: Problem) -> dict[str, float]:
        times = escaping.escape_times(coarse, **asked, definitions=names)  # type: ignore[arg-type]
        return {name: time.log_time for name, time in times.items()}

    finest = {name: found.times[name].log_time for name in names}
    estimates = refined(generator.problem, question, finest, climbed(generator.problem, found))
    return replace(found, times={name: _with_bar(name, time, estimates) for name, time in found.times.items()})


def _completed(
    problem: Problem,
    start: Sequence[float] | None,
    target: Region | str | None,
    targets: Sequence[Region | str] | None,
    valley: Region | str | None,
) -> EscapeQuestion:
    """The question with what is left out filled in."""

    def region(given: Region | str, where: str) -> Region:
        return problem.region(given, where) if isinstance(given, str) else given

    given = [target] if target is not None else list(targets or [])
    goal = union([region(one, "escape.target") for one in given], problem.grid.dimensions) if given else None
    around = None if valley is None else region(valley, "escape.valley")
    return complete_question(problem, start, around, goal)


def _with_bar(name: str, time: EscapeTime, estimates: Mapping[str, Estimate]) -> EscapeTime:
    if name in estimates:
        return replace(time, estimate=estimates[name])
    kin = estimates.get(SHARED_BARS[name])
    if kin is None:
        reason = "it is followed in time on the finest grid only"
        return replace(time, estimate=Estimate.of(Limit.unknown(time.log_time, reason)))
    limit = time.log_time + kin.log_extrapolated - kin.log_value
    return replace(
        time, estimate=replace(kin, log_value=time.log_time, log_extrapolated=limit, levels=(time.log_time,))
    )


@final
@dataclass(frozen=True, slots=True)
class Row:
    """A grid: its cells, ln of the number, the change from the grid before, and the order seen on the last three."""

    cells: tuple[int, ...]
    log_value: float | None
    change: float | None
    order: float | None


@final
@dataclass(frozen=True, slots=True)
class Convergence:
    """A positive number on ever finer grids. rows: coarse to fine; estimate: its limit."""

    name: str
    rows: tuple[Row, ...]
    estimate: Estimate

    def as_text(self) -> str:
        """The lines that `fpsolve converge` prints."""
        lines = [f"{self.name.replace('_', ' ')}", f"  {'cells':>17s}{'log10':>14s}{'change':>12s}{'order':>8s}"]
        for row in self.rows:
            value = "-" if row.log_value is None else f"{row.log_value / math.log(10.0):.7f}"
            change = "" if row.change is None else f"{_relative(row.change):.1e}"
            order = "" if row.order is None else f"{row.order:.2f}"
            lines.append(f"  {_by(row.cells):>17s}{value:>14s}{change:>12s}{order:>8s}")
        error = "unknown" if self.estimate.error is None else f"{self.estimate.error:.1e}"
        limit = f"  {'limit':>17s}{self.estimate.log10:14.7f}   +- {error}"
        return "\n".join([*lines, limit if self.estimate.reason is None else f"{limit}: {self.estimate.reason}"])


def converge(problem: Problem, question: Question) -> dict[str, Convergence]:
    """A question on grids of n/8, n/4, n/2 and n cells, by name. The question gives natural logarithms."""
    problems = coarsened(problem, SHARES_TO_CONVERGE)
    finest = question(problem)
    answers = [*(_answers(one, question, finest) for one in problems[:-1]), finest]
    estimates = refined(problem, question, finest)
    return {
        name: Convergence(name, _rows(problems, [answer.get(name) for answer in answers]), estimates[name])
        for name in finest
    }


def _rows(problems: Sequence[Problem], answers: Sequence[float | str | None]) -> tuple[Row, ...]:
    values = [None if isinstance(answer, str) else answer for answer in answers]
    changes = [None, *(_difference(fine, coarse) for coarse, fine in pairwise(values))]
    orders = [None, *(_halving_order(before, after) for before, after in pairwise(changes))]
    shapes = [problem.grid.shape for problem in problems]
    return tuple(Row(*row) for row in zip(shapes, values, changes, orders, strict=True))


def _difference(fine: float | None, coarse: float | None) -> float | None:
    return None if fine is None or coarse is None else fine - coarse


def _halving_order(before: float | None, after: float | None) -> float | None:
    if before is None or after is None or before * after <= 0.0:
        return None
    return math.log2(before / after)


@final
@dataclass(frozen=True, slots=True)
class Feature:
    """A well or saddle: where it is, in words and (axes,), and its width sqrt(D / |H|) along every axis."""

    place: str
    position: tuple[float, ...]
    widths: dict[str, float]  # [length]
    cells: dict[str, float]  # the same, in cells

    @property
    def thin(self) -> str | None:
        """That it has less than FEW_CELLS along some axis, as the end of a clause; None where it has not."""
        axis = min(self.cells, key=lambda name: self.cells[name], default=None)
        if axis is None or self.cells[axis] >= FEW_CELLS:
            return None
        return f"at {self.place} is {self.cells[axis]:.2g} cells wide along {axis}"


@final
@dataclass(frozen=True, slots=True)
class Resolution:
    """How a grid draws the well that is left and the saddle that is passed; None where the loss has none.

    wells: the other minima that hold probability at rest.
    """

    minimum: Feature | None
    saddle: Feature | None
    wells: tuple[Feature, ...] = ()

    @property
    def features(self) -> list[Feature]:
        """Those of the escape, and the other wells that are thin, or would be on less cells there."""
        passed = [feature for feature in (self.minimum, self.saddle) if feature is not None]
        return passed + [well for well in self.wells if min(well.cells.values(), default=math.inf) < ROOMY * FEW_CELLS]


def resolution(problem: Problem, start: Sequence[float], target: Region, basins: Basins | None = None) -> Resolution:
    """Cells across the minimum near a start, across the lowest saddle on the way to a target, and the other wells.

    basins: of the problem, where they are known.
    """
    try:
        minimum = _feature(problem, minimum_near(problem, start))
    except StationaryPointError:
        minimum = None
    try:
        saddle = _feature(problem, pass_between(problem, start, target).saddle)
    except StationaryPointError:
        saddle = None
    return Resolution(minimum, saddle, _other_wells(problem, minimum, basins))


def _other_wells(problem: Problem, minimum: Feature | None, basins: Basins | None) -> tuple[Feature, ...]:
    """The minima, but for one, that hold probability at rest."""
    try:
        minima = (basins or find_basins(problem)).minima
    except StationaryPointError:
        return ()
    temperature = problem.temperature
    highest = math.inf if temperature is None else minima[0].loss + WEIGHTLESS * temperature
    wells = [_feature(problem, point) for point in minima if point.loss <= highest and not point.held]
    return tuple(well for well in wells if minimum is None or well.place != minimum.place)


def _feature(problem: Problem, point: StationaryPoint) -> Feature:
    """The width along an axis is that of a cut: 1 / sqrt of the diagonal of |D^-1 M H|, the curvature of ln p.

    In phase space that is |H| / T; of a D without inverse only its range counts.
    """
    at, inertia, grid = point.position[:, None], problem.landscape.inertia, problem.grid
    matrix = problem.diffusion.matrix(at)[..., 0]
    if inertia is not None and matrix[1, 1] > 0.0:
        curvature = point.hessian / float(inertia.temperature(matrix[1, 1]))
    else:
        inverse = np.linalg.pinv(matrix, hermitian=True) if problem.is_degenerate else np.linalg.inv(matrix)
        curvature = inverse @ problem.landscape.mobility @ point.hessian
    values, vectors = np.linalg.eigh(grid.turned_matrices(0.5 * (curvature + curvature.T)))
    sharpness = np.einsum("ia,a,ia->i", vectors, np.abs(values), vectors)
    along = grid.along(point.position)
    axes = zip(grid.axes, along, sharpness, strict=True)
    widths, cells = {}, {}
    for axis, x, sharp in axes:
        if axis.cells > 1 and sharp > 0.0:
            widths[axis.name] = float(1.0 / math.sqrt(sharp))
            cells[axis.name] = widths[axis.name] / float(axis.stretch(axis.index(np.array(x))))
    return Feature(describe(grid, point.position), tuple(along.tolist()), widths, cells)


def resolution_notices(problem: Problem, found: Escape, basins: Basins | None = None) -> list[Notice]:
    """What to say where the grid is too coarse for the first-passage time or for other wells, and what would do.

    basins: of the problem, where they are known.
    """
    estimate = found.times[FIRST].estimate if FIRST in found.times else None
    if estimate is None:
        return []
    seen = resolution(problem, found.start, found.target, basins)
    short = _short_resolution(problem, estimate, seen)
    wells = [f"the well {well.thin}" for well in seen.wells if well.thin is not None]
    if not wells:
        return short
    unsure = f"{'; '.join(wells)}: the share at rest and the rates out of {'it' if len(wells) == 1 else 'them'} are not"
    advice = "" if short else f"; use {_refinements(problem, seen) or 'finer cells there'}"
    return [*short, Notice("under_resolved", f"{unsure} resolved{advice}")]


def _short_resolution(problem: Problem, estimate: Estimate, seen: Resolution) -> list[Notice]:
    """What to say of the first-passage time."""
    named = [("minimum", seen.minimum), ("saddle", seen.saddle)]
    thin = [f"the {words} {one.thin}" for words, one in named if one is not None and one.thin is not None]
    reasons = [reason for reason in (estimate.reason, *thin) if reason is not None]
    if not thin and estimate.reason is not None and estimate.reason.startswith(NO_LIMIT):
        return [Notice("no_limit", f"the first-passage time has no error bar: {estimate.reason}")]
    bar = math.inf if estimate.error is None else estimate.error
    at_layer = estimate.reason is not None and estimate.reason.startswith(LAYER)
    if bar <= (GOOD_ERROR if estimate.clean or at_layer else SMALL_ERROR) and not any(thin):
        return []
    error = "no error bar" if estimate.error is None else f"an error bar of {_percent(estimate.error)}"
    why = f" ({'; '.join(reasons)})" if reasons else ""
    advice = "it needs finer cells there" if at_layer and not thin else _what_would_do(problem, estimate, seen)
    message = f"the first-passage time has {error}{why}: {advice}"
    return [Notice("short_resolution", message)]


def _what_would_do(problem: Problem, estimate: Estimate, seen: Resolution) -> str:
    """A finer grid, all over or at the minimum and the saddle."""
    factor = 1.2
    if estimate.error is not None and all(feature.thin is None for feature in seen.features):
        # The error falls as the square of the cell size; that of thin wells and saddles is gone with enough cells.
        factor = max(math.sqrt(math.log1p(estimate.error) / GOOD_ERROR), factor)
    axes, least = problem.grid.axes, enough_cells(problem)
    cells = [axis.cells if axis.cells == 1 else max(least[axis.name], math.ceil(factor * axis.cells)) for axis in axes]
    enough, refine = f"about {_by(cells)} cells would do", _refinements(problem, seen)
    return f"{enough}, or fewer that are finer at wells and saddle: {refine}" if refine else enough


def _refinements(problem: Problem, seen: Resolution) -> str:
    """The entries of all axes that draw thin wells and saddles; empty where no axis needs one."""
    finer = (_finer(axis, number, seen.features) for number, axis in enumerate(problem.grid.axes))
    return ", ".join(text for text in finer if text is not None)


def _finer(axis: Axis, number: int, features: Sequence[Feature]) -> str | None:
    """The entry of an axis with refinements at wells and saddles, one for each that lies elsewhere along it.

    Each of n takes 1 / (n + 1) of the cells, or less: they get by / (n + 1) times as fine there, or more. None where
    no well or saddle is thin: finer cells there, at the cost of others, would not help.
    """
    if min((one.cells.get(axis.name, math.inf) for one in features), default=math.inf) >= FEW_CELLS:
        return None
    widths = {round(one.position[number], 9): one.widths[axis.name] for one in features if axis.name in one.widths}
    bare = replace(axis, refine=())
    across = min(width / float(bare.stretch(bare.index(np.array(place)))) for place, width in widths.items())
    by = (len(widths) + 1) * ENOUGH_CELLS / across
    entries = [Refinement(place, by).case_text(0.1 * min(widths.values())) for place in widths]
    return f"{axis.name}.refine = [{', '.join(entries)}]"


def floor_sensitivity(
    problem: Problem,
    question: Question,
    *,
    start: Sequence[float] | None = None,
    target: Region | None = None,
    relevant: BoolArray | None = None,
) -> FloorSensitivity | None:
    """How the time of a question depends on the floor; None for noise without one.

    Asked on half the cells, with the floor and the noise moved by LOG_STEP to either side: four factorisations, as
    long together as half of that on all cells. Half the cells see an exponent to a few per cent.

    Parameters
    ----------
    question : gives the natural logarithm of one time, or of several; the first counts.
    start, target : where they are known, the closed form is given in one dimension.
    relevant : (cells,) of the problem, those whose layers count; all of them when left out.
    """
    noise = floor_of(problem)
    if noise is None:
        return None
    (half,) = coarsened(problem, (0.5,))
    exponent = _log_slope(half, question, lambda factor: replace(noise, floor=factor * noise.floor))
    whole = _log_slope(
        half, question, lambda factor: replace(noise, learning_rate=factor * noise.number("learning_rate"))
    )
    law = None if start is None or target is None else floor_law(problem, float(start[0]), target)
    return FloorSensitivity(
        grid=problem.grid,
        floor=noise.floor,
        exponent=exponent,
        share=exponent / whole if whole != 0.0 else 0.0,
        law=law,
        layer=narrowest_layer(problem, relevant),
    )


def _log_slope(problem: Problem, question: Question, noise: Callable[[float], HessianNoise]) -> float:
    """Derivative of the logarithm of the time by that of the factor of a noise, at 1."""
    sides = []
    for step in (-LOG_STEP, LOG_STEP):
        answers = question(Problem(problem.landscape, noise(math.exp(step)), problem.grid))
        sides.append(next(iter(answers.values())))
    return (sides[1] - sides[0]) / (2.0 * LOG_STEP)


def first_passage(start: Sequence[float], target: Region | str) -> Question:
    """The question of the logarithm of the mean first-passage time, alone."""

    def question(problem: Problem) -> dict[str, float]:
        region = target if isinstance(target, Region) else problem.region(target, "escape.target")
        weights = escaping.start_weights(problem, start, region)
        times = Passage.of(Generator.of(problem).killed(region, "escape.target")).mean_time
        return {FIRST: float((times[weights.cells] * weights.weights).sum().log())}

    return question


def escape_floor(problem: Problem, found: Escape) -> FloorSensitivity | None:
    """How the first-passage time of an escape depends on the floor; layers count where it climbs."""
    question, relevant = first_passage(found.start, found.target), climbed(problem, found)
    return floor_sensitivity(problem, question, start=found.start, target=found.target, relevant=relevant)


def climbed(problem: Problem, found: Escape) -> BoolArray:
    """The cells (cells,) in which an escape climbs the loss: those whose layers of vanishing noise hold it up.

    They count where the current is at least RELEVANT_CURRENT of its largest: that of the transitions where it is
    known, since the loops of a drift that is no gradient drown the escaping one in the well.
    """
    current = found.current if found.transition is None else found.transition.current
    size = np.sqrt((current**2).sum(axis=0))
    return np.asarray((size >= RELEVANT_CURRENT * size.max()) & uphill(problem, current))


def _by(cells: Sequence[int]) -> str:
    return " x ".join(str(number) for number in cells)


def _relative(log_change: float) -> float:
    return math.expm1(min(log_change, LARGEST_LOGARITHM))


def _percent(error: float) -> str:
    return f"{100.0 * error:.2g} %" if error < 1.0 else f"a factor {error + 1.0:.2g}"
