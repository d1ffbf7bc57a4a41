"""Exponents: how much ln p of a local equilibrium rises along an edge, and how sharply it bends.

    phi(s) = integral of beta along the edge from its origin, beta = D^-1 v; Z = phi(1)

Differences of a known potential are exact; the remainder of beta is integrated by quadrature, never by its end
values alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from fpsolve.model.grid import FloatArray, IntArray
from fpsolve.model.problem import Problem

# An edge whose Simpson and trapezoidal integrals differ by more than this is integrated again on finer panels,
# until halving them changes nothing by more than the second figure; most edges never need it.
ROUGH_EXPONENT = 0.05
SMOOTH_EXPONENT = 1e-6
MOST_HALVINGS = 8


@final
@dataclass(frozen=True, slots=True)
class Sample:
    """Potential (points,) and remainder of beta in index units (axes, points) at some points; None where absent."""

    potential: FloatArray | None
    slope: FloatArray | None

    def take(self, cells: IntArray) -> Sample:
        """The sample at some of the points."""
        potential = None if self.potential is None else self.potential[cells]
        return Sample(potential, None if self.slope is None else self.slope[:, cells])


def sample(problem: Problem, index: FloatArray) -> Sample:
    """Sample the exponent of a problem at index coordinates (axes, points)."""
    positions = problem.grid.positions(index)
    exponent = problem.exponent
    potential = None if exponent.potential is None else exponent.potential(positions)
    slope = None if exponent.remainder is None else exponent.remainder(positions) * problem.grid.spacings[:, None]
    return Sample(potential, slope)


def exponents(
    problem: Problem, start: FloatArray, displacement: FloatArray, sides: tuple[Sample, Sample] | None = None
) -> tuple[FloatArray, FloatArray, int]:
    """phi(1) and phi(1/2) along segments, and how many of them are not resolved.

    start, displacement: (axes, segments), in cells. phi(s) = potential difference + integral of the remainder by
    Simpson's rule; phi(1/2) integrates the same parabola: (5 b(0) + 8 b(1/2) - b(1)) / 24.
    """
    first, last = sides or (sample(problem, start), sample(problem, start + displacement))
    middle = sample(problem, start + 0.5 * displacement)
    whole, half = np.zeros(start.shape[1]), np.zeros(start.shape[1])
    unresolved = 0
    if first.slope is not None and middle.slope is not None and last.slope is not None:
        b0, b1, b2 = ((part.slope * displacement).sum(axis=0) for part in (first, middle, last))  # type: ignore[operator]
        whole, half = (b0 + 4.0 * b1 + b2) / 6.0, (5.0 * b0 + 8.0 * b1 - b2) / 24.0
        rough = np.flatnonzero(np.abs(whole - 0.5 * (b0 + b2)) > ROUGH_EXPONENT)
        if rough.size:
            whole[rough], half[rough], unresolved = _refined(problem, start[:, rough], displacement[:, rough])
    if first.potential is not None and middle.potential is not None and last.potential is not None:
        whole += last.potential - first.potential
        half += middle.potential - first.potential
    return whole, half, unresolved


def _refined(problem: Problem, start: FloatArray, displacement: FloatArray) -> tuple[FloatArray, FloatArray, int]:
    """Integrals of the remainder by Simpson's rule on 4, 8, 16 ... panels until they stop changing."""
    whole, half = np.full(start.shape[1], np.inf), np.empty(start.shape[1])
    open_ = np.arange(start.shape[1])
    for halving in range(1, MOST_HALVINGS + 1):
        nodes = np.linspace(0.0, 1.0, 2 ** (halving + 1) + 1)
        points = start[:, open_, None] + displacement[:, open_, None] * nodes
        slope = sample(problem, points.reshape(len(start), -1)).slope
        assert slope is not None
        values = (slope.reshape(points.shape) * displacement[:, open_, None]).sum(axis=0)
        middle = nodes.size // 2
        new = _simpson(values)
        half[open_] = _simpson(values[:, : middle + 1]) * 0.5
        settled = np.abs(new - whole[open_]) <= SMOOTH_EXPONENT * (1.0 + np.abs(new))
        whole[open_] = new
        open_ = open_[~settled]
        if not open_.size:
            break
    return whole, half, int(open_.size)


def _simpson(values: FloatArray) -> FloatArray:
    """Composite Simpson's rule over [0, 1] for values (segments, odd number of nodes)."""
    inner = 4.0 * values[:, 1:-1:2].sum(axis=1) + 2.0 * values[:, 2:-1:2].sum(axis=1)
    total: FloatArray = (values[:, 0] + inner + values[:, -1]) / (3.0 * (values.shape[1] - 1))
    return total


def local_shape(problem: Problem) -> tuple[FloatArray, FloatArray]:
    """Slope (axes, cells) and |Hessian| (axes, axes, cells) of the local log equilibrium density, in index units.

    By differences over the grid (they enter a correction and diagnostics only); |.| acts on the eigenvalues of the
    symmetric part. A well or saddle is 1 / sqrt(|Hessian|) cells wide.
    """
    grid = problem.grid
    at_cells = sample(problem, grid.indices().astype(np.float64))
    slope = np.zeros((grid.dimensions, grid.size))
    if at_cells.slope is not None:
        slope += at_cells.slope
    if at_cells.potential is not None:
        slope += grid.differences(at_cells.potential)
    hessian = np.array([grid.differences(row) for row in slope])
    values, vectors = np.linalg.eigh(np.moveaxis(0.5 * (hessian + hessian.swapaxes(0, 1)), -1, 0))
    return slope, np.einsum("pia,pa,pja->ijp", vectors, np.abs(values), vectors)


def cells_across(problem: Problem) -> dict[str, float]:
    """Width, in cells, of the narrowest well or saddle along each axis; infinite where there is none.

    The cells that hold a stationary point of ln p are those where the slope is below what the curvature makes of it
    within one cell.
    """
    slope, curvature = local_shape(problem)
    turning = (np.abs(slope) <= np.abs(curvature).sum(axis=1)).all(axis=0)
    sharpest = np.einsum("iip->ip", curvature)[:, turning].max(axis=1, initial=0.0)
    widths = [float(1.0 / np.sqrt(value)) if value > 0.0 else float("inf") for value in sharpest]
    return dict(zip(problem.grid.names, widths, strict=True))
