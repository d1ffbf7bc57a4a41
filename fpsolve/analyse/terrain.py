"""The terrain of an escape: basins, the rates between them, the paths over the passes, and theory's assumptions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from fpsolve.analyse.assumptions import Assumptions, assumptions
from fpsolve.analyse.basins import Basins, find_basins
from fpsolve.analyse.coarse import CoarseChain, coarse_chain
from fpsolve.analyse.passage_integral import InapplicableError
from fpsolve.analyse.path import Path, most_probable_path
from fpsolve.analyse.question import Question
from fpsolve.analyse.saddle import passage_to
from fpsolve.analyse.stationary_points import StationaryPointError
from fpsolve.discretise.generator import Generator
from fpsolve.model.problem import Problem


@final
@dataclass(frozen=True)
class Terrain:
    """What lies around an escape.

    basins, chain: None where there are none; paths: the most probable path over each pass to the target, the lowest
    pass first; absent: why one of them is missing, by name; chosen: what the question had left open, in words.
    """

    basins: Basins | None
    chain: CoarseChain | None
    paths: tuple[Path, ...]
    assumptions: Assumptions
    absent: dict[str, str]
    chosen: str | None


def terrain(generator: Generator, question: Question, log_escape_time: float) -> Terrain:
    """Survey the loss around an escape; log_escape_time: ln of the mean escape time [time]."""
    problem = generator.problem
    absent: dict[str, str] = {}
    basins: Basins | None = None
    chain: CoarseChain | None = None
    paths: tuple[Path, ...] = ()
    try:
        basins = question.basins or find_basins(problem)
        chain = coarse_chain(generator, basins)
    except StationaryPointError as absence:
        absent["basins"] = absence.found
    except InapplicableError as refusal:
        absent["chain"] = str(refusal)
    try:
        paths = _paths(problem, question)
    except StationaryPointError as absence:
        absent["paths"] = absence.found
    assumed = assumptions(problem, question.start, question.target, log_escape_time)
    return Terrain(basins, chain, paths, assumed, absent, question.chosen)


def _paths(problem: Problem, question: Question) -> tuple[Path, ...]:
    passage = passage_to(problem, np.asarray(question.start), question.target)
    minimum = passage.minimum.position
    return tuple(most_probable_path(problem, minimum, saddle.position) for saddle in passage.saddles)
