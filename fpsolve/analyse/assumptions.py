"""The three assumptions behind formulas for escape times, as numbers.

Quadratic wells: the Hessian hardly changes within the thermal width of the minimum and of the saddle. Low noise: the
barrier is many times the noise. Quasi-equilibrium: the well relaxes in a small part of the escape time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from fpsolve.analyse.geometry import wrapped
from fpsolve.analyse.line import Line, barriers_to
from fpsolve.analyse.passage_integral import InapplicableError
from fpsolve.analyse.path import most_probable_path
from fpsolve.analyse.saddle import Passage, passage_to, reason_of
from fpsolve.analyse.stationary_points import StationaryPoint, StationaryPointError
from fpsolve.model.problem import Problem
from fpsolve.model.region import Region, point_weights


@final
@dataclass(frozen=True, slots=True)
class Assumptions:
    """What the theory takes to be small or large; None where a number is not to be had.

    curvature_change_at_minimum, curvature_change_at_saddle: largest relative change of the Hessian one thermal width
    away, to be much smaller than 1. barrier_over_noise: the action of the climb, to be much larger than 1; L / T where
    the drift is -M grad L and D = T M. relaxation_time: of the slowest direction of the well [time].
    log_relaxation_over_escape: ln of relaxation time over escape time, to be far below 0.
    reason: why some of them are None, a clause for the report.
    """

    curvature_change_at_minimum: float | None = None
    curvature_change_at_saddle: float | None = None
    barrier_over_noise: float | None = None
    relaxation_time: float | None = None
    log_relaxation_over_escape: float | None = None
    reason: str | None = None

    @property
    def relaxation_over_escape(self) -> float | None:
        """Relaxation time over escape time; 0 where it is below all floating-point numbers."""
        logarithm = self.log_relaxation_over_escape
        return None if logarithm is None else math.exp(logarithm)


def assumptions(
    problem: Problem,
    start: Sequence[float],
    target: Region,
    log_escape_time: float,
    relaxation_time: float | None = None,
) -> Assumptions:
    """The numbers for the escape from a start into a target over the lowest saddle between them.

    Parameters
    ----------
    problem : with a loss; without one nearly all numbers are None.
    start : (axes,) [length].
    log_escape_time : ln of the mean escape time [time].
    relaxation_time : of the well, if known [time]; else 1 / (smallest eigenvalue of M H at the minimum).

    Raises
    ------
    CaseError : the start is not a point of the grid.
    """
    point_weights(problem.grid, start, "escape.start")
    try:
        passage = passage_to(problem, np.asarray(start, dtype=np.float64), target)
        minimum, saddle = passage.minimum, passage.saddles[0]
        relaxing = relaxation_time or _relaxation_time(problem, minimum)
        changes = [curvature_change(problem, point) for point in (minimum, saddle)]
    except StationaryPointError as absence:
        share = None if relaxation_time is None else math.log(relaxation_time) - log_escape_time
        return Assumptions(relaxation_time=relaxation_time, log_relaxation_over_escape=share, reason=absence.found)
    barrier, reason = _barrier(passage)
    return Assumptions(changes[0], changes[1], barrier, relaxing, math.log(relaxing) - log_escape_time, reason)


def curvature_change(problem: Problem, point: StationaryPoint) -> float:
    """The largest relative change of the Hessian one thermal width from a minimum or saddle, along its directions.

    With eigenvalues l_k and eigenvectors e_k of H, the width is sqrt(e_k . D e_k / (e_k . M e_k |l_k|)), for D = T M
    sqrt(T / |l_k|); it is gone to either side along each direction. A change dH counts as the largest eigenvalue of
    |H|^(-1/2) dH |H|^(-1/2), the share by which it changes the energy of a thermal fluctuation; in one dimension
    that is dH / H.
    """
    assert problem.landscape.hessian is not None
    values, vectors = np.linalg.eigh(point.hessian)
    diffusion = problem.diffusion.matrix(point.position[:, None])[..., 0]
    along = [np.einsum("ik,ij,jk->k", vectors, matrix, vectors) for matrix in (diffusion, problem.landscape.mobility)]
    widths = np.sqrt(along[0] / (along[1] * np.abs(values)))
    steps = np.concatenate([vectors * widths, -vectors * widths], axis=1)
    hessians = problem.landscape.hessian(wrapped(problem.grid, point.position[:, None] + steps))
    changes = np.moveaxis(hessians - point.hessian[..., None], -1, 0)
    scale = vectors / np.sqrt(np.abs(values))
    return float(np.linalg.norm(scale.T @ changes @ scale, ord=2, axis=(1, 2)).max())


def _relaxation_time(problem: Problem, minimum: StationaryPoint) -> float:
    """1 / (smallest eigenvalue of M H) [time]: how long the mean of the slowest direction takes to come back."""
    return 1.0 / float(np.linalg.eigvals(problem.landscape.mobility @ minimum.hessian).real.min())


def _barrier(passage: Passage) -> tuple[float | None, str | None]:
    """The action of the climb, and the reason why it is not that of the most probable path."""
    problem, saddle = passage.problem, passage.saddles[0]
    if problem.temperature is not None and problem.landscape.is_gradient:
        return passage.height(saddle), None
    try:
        if problem.grid.dimensions == 1:
            return barriers_to(Line(problem), float(passage.start[0]), passage.target).lowest.height, None
        path = most_probable_path(problem, passage.minimum.position, saddle.position)
    except (InapplicableError, StationaryPointError) as absence:
        return None, reason_of(absence)
    return path.action, path.reason
