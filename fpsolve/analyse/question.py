"""What an escape asks when the case leaves it out: from which basin, out of which valley, into which target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from fpsolve.analyse.basins import Basins, basin_region, find_basins
from fpsolve.analyse.cores import core_region
from fpsolve.analyse.geometry import describe
from fpsolve.analyse.stationary_points import StationaryPointError
from fpsolve.analyse.watershed import OUTSIDE
from fpsolve.errors import CaseError
from fpsolve.model.problem import Problem
from fpsolve.model.region import Region

MOST_NAMED = 6  # minima, in a message
WHEN_LEFT_OUT = "Start and target may be left out where the loss has exactly two basins"


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
    """The question of an escape, with what is None filled in from the two basins of the loss.

    start: the minimum of the basin that is left: of the one that the target does not lie in; else of the one that
    the valley lies in; else of the shallower one, whose minimum is higher (of equally deep ones that which comes
    first along the axes).
    target: the core of the other basin, all within one thermal energy of its minimum (`core_region`).
    valley: the basin that is left, where the target lies apart from it.

    Where start and target are given basins are not needed: without two of them there is then no valley.

    Raises
    ------
    CaseError : a start or a target is missing and there is no loss, or there are not exactly two basins, or which
        of them is left cannot be told.
    """
    missing = [name for name, given in (("start", start), ("target", target)) if given is None]
    keys = " and ".join(f"escape.{name}" for name in missing)
    try:
        basins = find_basins(problem)
    except StationaryPointError as error:
        if start is not None and target is not None:
            return Question(_point(start), valley, target, None)
        raise CaseError(f"escape.{missing[0]}", error.found, WHEN_LEFT_OUT, f"Give {keys}") from None
    if len(basins.minima) != 2:
        if start is not None and target is not None:
            return Question(_point(start), valley, target, None, basins)
        raise CaseError(f"escape.{missing[0]}", _named_minima(basins), WHEN_LEFT_OUT, f"Give {keys}")
    number = _left_basin(basins, start, valley, target)
    chosen = []
    if start is None:
        start = basins.minima[number].position.tolist()
        chosen.append(f"start: {_why_left(basins, number, valley, target)}")
    if target is None:
        target = _core_of(basins, 1 - number)
        chosen.append(f"target: the {target.name}")
    if valley is None and _apart(basins, number, target):
        valley = basin_region(basins, number)
        chosen.append(f"valley: the {valley.name}")
    return Question(_point(start), valley, target, "; ".join(chosen) or None, basins)


def _point(start: Sequence[float]) -> tuple[float, ...]:
    return tuple(float(coordinate) for coordinate in np.atleast_1d(start))


def _named_minima(basins: Basins) -> str:
    names = [f"({describe(basins.problem.grid, point.position)})" for point in basins.minima]
    listed = ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")
    return f"the loss has {len(names)} minima: {listed}" if len(names) > 1 else f"the loss has one minimum, {listed}"


def _left_basin(basins: Basins, start: Sequence[float] | None, valley: Region | None, target: Region | None) -> int:
    """Which of the two basins is left."""
    if start is not None:
        number = basins.number_at(_point(start))
        if number == OUTSIDE:
            origin = describe(basins.problem.grid, np.array(_point(start)))
            found = f"from {origin} the loss falls to an absorbing wall"
            raise CaseError("escape.start", found, "The start must lie in one of the two basins", "Move it")
        return number
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
        return core_region(problem, position, f"core of {describe(problem.grid, position)}")
    except StationaryPointError as error:
        required = "The target is the core of the other basin"
        raise CaseError("escape.target", error.found, required, "Give escape.target") from None


def _apart(basins: Basins, number: int, target: Region) -> bool:
    """Whether no cell of a basin has its centre in the target."""
    inside = target.level(basins.problem.grid.positions()) > 0.0
    return not bool((inside & (basins.label == number)).any())
