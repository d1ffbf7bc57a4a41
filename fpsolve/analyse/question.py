"""What an escape asks when the case leaves it out: from which basin, out of which valley, into which target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from fpsolve.analyse.basins import Basins, basin_region, find_basins
from fpsolve.analyse.cores import core_region
from fpsolve.analyse.geometry import brief, describe
from fpsolve.analyse.stationary_points import StationaryPointError, require_loss
from fpsolve.analyse.watershed import OUTSIDE
from fpsolve.errors import CaseError
from fpsolve.model.grid import FloatArray, Grid
from fpsolve.model.problem import Problem
from fpsolve.model.region import Region

MOST_NAMED = 6  # minima, in a message
WHEN_LEFT_OUT = "Start and target may be left out where the loss has exactly two basins"
CELLS_BESIDE_WALL = 3  # the cell there that is four times as wide, of the coarsest error bar, has its centre in them


@final
@dataclass(frozen=True)
class Question:
    """Start, valley and target of an escape.

    chosen: a sentence for the report on what was not given, or None; basins: of the loss, None where there are none.
    """

    start: tuple[float, ...]
    valley: Region | None
    target: Region
    chosen: str | None
    basins: Basins | None = None


def default_question(problem: Problem) -> Question:
    """The escape from the shallower of two basins into the core of the other; see `complete_question`."""
    return complete_question(problem, None, None, None)


def complete_question(
    problem: Problem, start: Sequence[float] | None, valley: Region | None, target: Region | None
) -> Question:
    """The question of an escape, with what is None filled in from the basins of the loss.

    start: the minimum of the basin that is left: of the one that the target does not lie in; else of the one that
    the valley lies in; else of the shallower one, whose minimum is higher (of equally deep ones that which comes
    first along the axes).
    target: the core of the other basin, all within one thermal energy of its minimum (`core_region`).
    valley: the basin that holds the start, where the target lies apart from it.

    Start and target need two basins, and no others, to follow from. Where both are given there may be any number of
    basins, or none; without them, and for a start on the border between two, there is then no valley.

    Raises
    ------
    CaseError : a start or a target is missing and there is no loss, or there are not exactly two basins, or which
        of them is left cannot be told.
    """
    missing = [f"escape.{name}" for name, given in (("start", start), ("target", target)) if given is None]
    point = None if start is None else _point(start)
    try:
        basins = find_basins(problem)
    except StationaryPointError as error:
        if point is not None and target is not None:
            return Question(point, valley, target, None)
        raise CaseError(missing[0], error.found, WHEN_LEFT_OUT, f"Give {' and '.join(missing)}") from None
    if missing and len(basins.minima) != 2:
        raise _not_two(basins, missing)
    if point is not None and target is not None:
        number = basins.number_at(point)
    else:
        number = _left_basin(basins, point, valley, target)
    chosen = []
    if point is None:
        point = _point(basins.minima[number].position)
        chosen.append(f"start: {_why_left(basins, number, valley, target)}")
    if target is None:
        target = _core_of(basins, 1 - number)
        chosen.append(f"target: the {target.name}")
    if valley is None and number != OUTSIDE and _apart(basins, number, target):
        own = basin_region(basins, number)
        if _holds(own, point):
            valley = own
            chosen.append(f"valley: the {own.name}")
    return Question(point, valley, target, "; ".join(chosen) or None, basins)


def _point(start: Sequence[float] | FloatArray) -> tuple[float, ...]:
    return tuple(float(coordinate) for coordinate in np.atleast_1d(start))


def _holds(region: Region, point: Sequence[float]) -> bool:
    return bool(region.level(np.array(point)[:, None])[0] > 0.0)


def _not_two(basins: Basins, missing: Sequence[str]) -> CaseError:
    """What to do where there are not two basins; where walls absorb, also which target says the same as they."""
    grid, count = basins.problem.grid, len(basins.minima)
    names = [brief(grid, point.position) for point in basins.minima]
    listed = ", ".join(names[:MOST_NAMED]) + (", ..." if count > MOST_NAMED else "")
    found = f"the loss has {count} minima on this grid: {listed}"
    remedy = f"Give {' and '.join(missing)}"
    if count == 1:
        found = f"the loss has one minimum on this grid, {listed}"
        heights = require_loss(basins.problem)(grid.positions())
        if float(np.ptp(heights)) <= basins.rounding:
            found = "the loss is flat: it has one value on all of the grid"
    beside = " or ".join(text for number in range(grid.dimensions) for text in _beside_absorbing_walls(grid, number))
    if beside and "escape.target" in missing:
        found += "; absorbing walls alone are not a target yet"
        remedy += f', for instance target = "{beside}"'
    return CaseError(missing[0], found, WHEN_LEFT_OUT, remedy)


def _beside_absorbing_walls(grid: Grid, number: int) -> list[str]:
    """Conditions that hold in the last few cells at the absorbing walls of an axis, where it has more than those."""
    axis = grid.axes[number]
    coordinate = axis.name if grid.frame is None else grid.frame.formula(number)
    if axis.cells <= 2 * CELLS_BESIDE_WALL:
        return []
    lower, upper = (f"{axis.faces[place]:.6g}" for place in (CELLS_BESIDE_WALL, -1 - CELLS_BESIDE_WALL))
    conditions = (f"{coordinate} < {lower}", f"{coordinate} > {upper}")
    return [text for text, wall in zip(conditions, axis.walls, strict=True) if wall == "absorbing"]


def _left_basin(basins: Basins, start: Sequence[float] | None, valley: Region | None, target: Region | None) -> int:
    """Which of the two basins is left; start and target are not both given."""
    if start is not None:
        number = basins.number_at(start)
        place = describe(basins.problem.grid, np.array(start))
        required = "The start must lie in one of the two basins"
        if number == OUTSIDE:
            raise CaseError("escape.start", f"from {place} the loss falls to an absorbing wall", required, "Move it")
        if _holds(basin_region(basins, number), start):
            return number
        if valley is None:
            found = f"the start {place} lies on the border between the basins"
            raise CaseError("escape.start", found, required, "Move it or give escape.valley")
    if target is not None:
        return 1 - _basin_of_most(basins, target, "escape.target")
    if valley is not None:
        return _basin_of_most(basins, valley, "escape.valley")
    return 0 if basins.equally_deep else 1


def _basin_of_most(basins: Basins, region: Region, where: str) -> int:
    """The basin that most of a region lies in."""
    weights = region.weights(basins.problem.grid)
    first, second = (float(weights[basins.label == number].sum()) for number in (0, 1))
    if first == second:
        found = f"the region {region.name!r} lies in both basins alike, or in none"
        raise CaseError(where, found, "The basin that is left follows from it", "Give escape.start")
    return int(second > first)


def _why_left(basins: Basins, number: int, valley: Region | None, target: Region | None) -> str:
    place = describe(basins.problem.grid, basins.minima[number].position)
    if target is not None:
        return f"the minimum {place} of the basin without the target"
    if valley is not None:
        return f"the minimum {place} of the basin of the valley"
    return f"the minimum {place} of {'the first of two equally deep basins' if number == 0 else 'the shallower basin'}"


def _core_of(basins: Basins, number: int) -> Region:
    problem, position = basins.problem, basins.minima[number].position
    try:
        return core_region(problem, position, f"core of {brief(problem.grid, position)}")
    except StationaryPointError as error:
        required = "The target is the core of the other basin"
        raise CaseError("escape.target", error.found, required, "Give escape.target") from None


def _apart(basins: Basins, number: int, target: Region) -> bool:
    """Whether no cell of a basin has its centre in the target."""
    inside = target.level(basins.problem.grid.positions()) > 0.0
    return not bool((inside & (basins.label == number)).any())
