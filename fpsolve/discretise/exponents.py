"""Exponents: how much ln P of a local equilibrium rises along an edge, and how sharply it bends.

    phi(s) = integral of beta along the edge from its origin, beta = D^-1 v; Z = phi(1)

Differences of a known potential are exact; the remainder of beta is integrated by quadrature, never by its end
values alone.

Cells carry probability, P = density * volume. On a map x_a(index_a) with widths x'_a the Fokker-Planck equation of P
in index coordinates has the diffusion D_ab / (x'_a x'_b), and by Ito's rule

    beta_index = x' beta + grad ln(product of the x'):

the volume is one more known potential, so that the discrete density at rest is Boltzmann's on any map.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np
from scipy.ndimage import maximum_filter, minimum_filter

from fpsolve.discretise import kernels
from fpsolve.model.grid import BoolArray, FloatArray, Grid, IntArray, in_pieces, pieces
from fpsolve.model.problem import Problem
from fpsolve.model.symmetric import absolute

# An edge whose Simpson and trapezoidal integrals differ by more than this, or by more than this share of the ends (the
# exponent then jumps on it, where D does), is integrated again on finer panels, until halving them changes nothing by
# more than the third figure; most edges never need it.
ROUGH_EXPONENT = 0.05
JUMP = 0.02
SMOOTH_EXPONENT = 1e-8
MOST_HALVINGS = 30
HALVES = np.array([[0, 1, 2], [2, 3, 4]])  # which of the five nodes of a panel are the three of either half


@final
@dataclass(frozen=True, slots=True)
class Sample:
    """Potential (points,) and remainder of beta in index units (axes, points) at some points; None where absent.

    The potential counts the logarithm of the cell volume, where volumes differ.
    """

    potential: FloatArray | None
    slope: FloatArray | None


# What is known at some points, and which of them are the two ends of every segment.
Ends: TypeAlias = tuple[Sample, IntArray, IntArray]


def sample(problem: Problem, index: FloatArray) -> Sample:
    """Sample the exponent of a problem at index coordinates (axes, points)."""
    of_density = _density_sample(problem, index)
    if problem.grid.even:
        return of_density
    mapped = [axis.map is not None for axis in problem.grid.axes]
    log_volume = np.log(problem.grid.stretch(index)[mapped]).sum(axis=0)
    potential = log_volume if of_density.potential is None else of_density.potential + log_volume
    return Sample(potential, of_density.slope)


def _density_sample(problem: Problem, index: FloatArray) -> Sample:
    """The same for ln p, without the volume."""
    grid, exponent = problem.grid, problem.exponent

    def potential(index: FloatArray) -> FloatArray:
        assert exponent.potential is not None
        return exponent.potential(grid.positions(index))

    def slope(index: FloatArray) -> FloatArray:
        assert exponent.remainder is not None
        widths = grid.spacings[:, None] if grid.even else grid.stretch(index)
        return grid.turned(exponent.remainder(grid.positions(index))) * widths

    found = Sample(
        None if exponent.potential is None else in_pieces(potential, index),
        None if exponent.remainder is None else in_pieces(slope, index),
    )
    if problem.is_degenerate and found.potential is not None:
        found.potential[~np.isfinite(found.potential)] = np.nan
    return found


def sample_cells(problem: Problem) -> Sample:
    """The sample at all cells; those outside the domain stand in for the nearest one inside."""
    grid = problem.grid
    index = grid.indices() if grid.parts is None else grid.index_of(grid.parts.nearest)
    return sample(problem, index.astype(np.float64))


def exponents(
    problem: Problem, start: FloatArray, displacement: FloatArray, ends: Ends | None = None
) -> tuple[FloatArray, FloatArray, int]:
    """phi(1) and phi(1/2) along segments, and how many of them are not resolved.

    start, displacement: (axes, segments), in cells. phi(s) = potential difference + integral of the remainder by
    Simpson's rule; phi(1/2) integrates the same parabola: (5 b(0) + 8 b(1/2) - b(1)) / 24. A circulation counts as
    straight there: phi(1/2) - phi(1)/2 is the bulge of ln P at rest.
    """
    count = start.shape[1]
    known, origin, end = ends or _ends(problem, start, displacement)
    whole, half, midway, rough = np.zeros(count), np.zeros(count), np.zeros(count), np.zeros(count, dtype=np.bool_)
    for piece in pieces(count):
        step = displacement[:, piece]
        middle = sample(problem, start[:, piece] + 0.5 * step)
        if known.slope is not None and middle.slope is not None:
            slopes, limits = (known.slope, middle.slope), (ROUGH_EXPONENT, JUMP, SMOOTH_EXPONENT)
            found = whole[piece], half[piece], rough[piece]
            kernels.integrate(origin[piece], end[piece], step, *slopes, *limits, *found)
        if middle.potential is not None:
            midway[piece] = middle.potential
    unresolved = 0
    if rough.any():
        whole[rough], half[rough], unresolved = _refined(problem, start[:, rough], displacement[:, rough])
    if circulates(problem):
        half = 0.5 * whole
    if known.potential is not None:
        below = known.potential[origin]
        whole += known.potential[end] - below
        half += midway - below
    return whole, half, unresolved


def _ends(problem: Problem, start: FloatArray, displacement: FloatArray) -> Ends:
    """The ends of segments, sampled."""
    number = np.arange(start.shape[1])
    return sample(problem, np.hstack([start, start + displacement])), number, number + number.size


def _refined(problem: Problem, start: FloatArray, displacement: FloatArray) -> tuple[FloatArray, FloatArray, int]:
    """Integrals of the remainder by Simpson's rule, on panels that are halved wherever that changes something.

    A jump takes one or two more panels at every halving, so that it is integrated to SMOOTH_EXPONENT wherever it lies.
    """
    count = start.shape[1]

    def slopes(segment: IntArray, place: FloatArray) -> FloatArray:
        """The remainder along segments (n,) at places in [0, 1], (n or 1, m), times the segment: (n, m)."""
        step = displacement[:, segment, None]
        points = start[:, segment, None] + step * place
        slope = sample(problem, points.reshape(len(start), -1)).slope
        assert slope is not None
        return np.asarray((slope.reshape(points.shape) * step).sum(axis=0))

    halves = np.zeros((2, count))
    segment, lower = np.repeat(np.arange(count), 2), np.tile([0.0, 0.5], count)
    known = slopes(np.arange(count), np.linspace(0.0, 1.0, 5)[None])[:, HALVES].reshape(-1, 3)
    for halving in range(1, MOST_HALVINGS + 1):
        width = 0.5**halving
        between = slopes(segment, lower[:, None] + width * np.array([0.25, 0.75]))
        values = np.insert(known, [1, 2], between, axis=1)
        coarse = width / 6.0 * (values @ [1.0, 0.0, 4.0, 0.0, 1.0])
        fine = width / 12.0 * (values @ [1.0, 4.0, 2.0, 4.0, 1.0])
        open_ = ~(np.abs(fine - coarse) <= SMOOTH_EXPONENT * (1.0 + np.abs(fine)))
        done = ~open_ | (halving == MOST_HALVINGS)
        np.add.at(halves, ((lower[done] >= 0.5).astype(np.int64), segment[done]), fine[done])
        if done.all():
            break
        segment, known = np.repeat(segment[open_], 2), values[open_][:, HALVES].reshape(-1, 3)
        lower = (lower[open_, None] + 0.5 * width * np.array([0.0, 1.0])).ravel()
    return halves.sum(axis=0), halves[0], int(np.unique(segment[open_]).size) if open_.any() else 0


@final
@dataclass(frozen=True, slots=True)
class LocalShape:
    """What the local log equilibrium P looks like around every cell, in index units; it enters corrections only.

    curvature: |Hessian|, (axes, axes, cells), |.| acting on the eigenvalues of the symmetric part; circulation: the
    part of beta that is no gradient of ln P at rest, (axes, cells).
    """

    curvature: FloatArray
    circulation: FloatArray


def circulates(problem: Problem) -> bool:
    """Whether a part of beta is known to be no gradient: D = T M, and a drift besides that of the loss.

    On a line nothing can circulate.
    """
    remains = problem.temperature is not None and problem.exponent.remainder is not None
    return remains and problem.grid.dimensions > 1


def local_shape(problem: Problem, at_cells: Sample) -> LocalShape:
    """The local shape, by differences over the grid of what is sampled at all cells.

    Where beta circulates, ln P at rest is taken to rise along grad(potential), and as fast as the equation of large
    deviations says, q . D (q - beta) = 0: q is the projection of beta on that direction, whatever the other part of
    the drift. Where that runs along the level lines of the loss, q is the gradient of -loss/T itself. The curvature
    is then the potential's. Elsewhere all of beta counts as gradient.
    """
    grid = problem.grid
    slope, curvature = _shape(grid, at_cells)
    matrix = problem.diffusion.constant
    if at_cells.potential is None or matrix is None or not circulates(problem):
        return LocalShape(curvature, np.zeros_like(slope))
    matrix = grid.turned_matrices(matrix)
    rise, curvature = _shape(grid, Sample(at_cells.potential, None))
    widths = grid.stretch()
    across = np.einsum("ij,jp->ip", matrix, rise / widths) / widths
    length = (across * rise).sum(axis=0)
    share = np.divide((across * slope).sum(axis=0), length, out=np.zeros_like(length), where=length > 0.0)
    return LocalShape(curvature, slope - share * rise)


def _shape(grid: Grid, at_cells: Sample) -> tuple[FloatArray, FloatArray]:
    """Slope (axes, cells) and |Hessian| of what is sampled at the cells."""
    slope = np.zeros((grid.dimensions, grid.size))
    if at_cells.slope is not None:
        slope += at_cells.slope
    if at_cells.potential is not None:
        slope += grid.differences(at_cells.potential)
    hessian = grid.differences(slope)
    hessian[~np.isfinite(hessian)] = 0.0  # beside cells where D has no inverse
    return slope, absolute(hessian, out=hessian)


def cells_across(problem: Problem) -> dict[str, float]:
    """Width, in cells, of the narrowest well or saddle along each axis; infinite where there is none.

    The cells that hold a stationary point of ln p are those where the slope is below what the curvature makes of it
    within one cell, and changes its sign among the neighbours. It is 1 / sqrt(|Hessian|) cells wide.
    """
    grid = problem.grid
    index = grid.indices() if grid.parts is None else grid.index_of(grid.parts.nearest)
    slope, curvature = _shape(grid, _density_sample(problem, index.astype(np.float64)))
    turning = grid.active & (np.abs(slope) <= np.abs(curvature).sum(axis=1)).all(axis=0) & _changes_sign(grid, slope)
    sharpest = np.einsum("iip->ip", curvature)[:, turning].max(axis=1, initial=0.0)
    widths = [float(1.0 / np.sqrt(value)) if value > 0.0 else float("inf") for value in sharpest]
    return dict(zip(grid.names, widths, strict=True))


def _changes_sign(grid: Grid, slope: FloatArray) -> BoolArray:
    """Cells (cells,) among whose neighbours, and itself, no component of a slope (axes, cells) keeps its sign."""
    modes = ["wrap" if axis.periodic else "nearest" for axis in grid.axes]
    found = np.ones(grid.shape, dtype=np.bool_)
    for row in grid.shaped(slope):
        lowest, highest = (function(row, size=3, mode=modes) for function in (minimum_filter, maximum_filter))
        found &= (lowest <= 0.0) & (highest >= 0.0)
    return found.ravel()
