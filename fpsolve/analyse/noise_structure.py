"""The gradient noise in the landscape: its covariance C beside the Hessian H at the minima, and where it pushes.

Theories of SGD take D to be proportional to H (Zhu, Wu, Yu, Wu & Ma 2019; Xie, Sato & Sugiyama 2021): for the negative
log-likelihood of a model that is true, C = H at the minimum. Where D changes from place to place its divergence is a
drift of its own, towards quieter places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from fpsolve.analyse.chain_exponent import ChainExponent, Examples, chain_exponent
from fpsolve.analyse.geometry import describe, in_cells, wrapped
from fpsolve.analyse.path import Path
from fpsolve.analyse.stationary_points import StationaryPoint
from fpsolve.analyse.tilt import Tilt, gradient_covariance_of, require_covariance, tilt_along, tilt_notice
from fpsolve.errors import Notice
from fpsolve.model.grid import BoolArray, FloatArray, in_pieces
from fpsolve.model.problem import Problem

# Eigenvalues closer than this share of the largest have no directions of their own.
DEGENERATE = 1e-6
NOTICEABLE_DENSITY = 1e-3  # share of the highest: where the density is lower nothing is compared
STRONG_DRIFT = 0.1  # share of the strongest drift there: where it is weaker no ratio is taken
NUDGE = 1e-2  # cells, over which it is seen whether the noise falls


@final
@dataclass(frozen=True, slots=True, eq=False)
class CovarianceAtMinimum:
    """The covariance of the gradients of the examples beside the Hessian, at a minimum of the loss.

    scale: the s of the best C ~ s H, <C, H> / <H, H> of Frobenius [loss]; difference: |C - s H| / |C| of Frobenius,
    0 where C is proportional to H, and plain_difference with s = 1; both nan where there is no noise.
    Eigenvalues are ascending, (axes,). angles: between the directions of the eigenvalues of C and H of the same rank
    [degrees], 0 to 90, nan where an eigenvalue of either is degenerate. ratios: e . C e / h along the eigenvectors e of
    H, (axes,); nan where h vanishes.
    """

    point: StationaryPoint
    covariance: FloatArray  # (axes, axes) [loss**2/length**2]
    scale: float
    difference: float
    plain_difference: float
    covariance_eigenvalues: FloatArray
    hessian_eigenvalues: FloatArray
    angles: FloatArray
    ratios: FloatArray


def covariance_against_hessian(problem: Problem, minima: Sequence[StationaryPoint]) -> tuple[CovarianceAtMinimum, ...]:
    """C beside H at every minimum, in their order.

    Raises CaseError where the landscape has no covariance of gradients.
    """
    covariance = require_covariance(problem)
    return tuple(_compared(point, covariance(point.position[:, None])[..., 0]) for point in minima)


def _compared(point: StationaryPoint, covariance: FloatArray) -> CovarianceAtMinimum:
    hessian = point.hessian
    size, stiffness = float(np.linalg.norm(covariance)), float((hessian**2).sum())
    scale = float((covariance * hessian).sum()) / stiffness if stiffness > 0.0 else math.nan
    differences = [float(np.linalg.norm(covariance - s * hessian)) for s in (scale, 1.0)]
    shares = [difference / size if size > 0.0 else math.nan for difference in differences]
    values, vectors = np.linalg.eigh(covariance)
    curvatures, directions = np.linalg.eigh(hessian)
    cosines = np.abs((vectors * directions).sum(axis=0))
    # From the part across: the arc cosine of nearly 1 would lose half the digits.
    sines = np.linalg.norm(vectors - directions * (vectors * directions).sum(axis=0), axis=0)
    angles = np.where(_apart(values) & _apart(curvatures), np.degrees(np.arctan2(sines, cosines)), math.nan)
    along = np.einsum("ik,ij,jk->k", directions, covariance, directions)
    flat = np.abs(curvatures) <= DEGENERATE * np.abs(curvatures).max()
    ratios = np.where(flat, math.nan, along / np.where(flat, 1.0, curvatures))
    return CovarianceAtMinimum(
        point, covariance, scale, shares[0], shares[1], np.asarray(values), np.asarray(curvatures), angles, ratios
    )


def _apart(eigenvalues: FloatArray) -> BoolArray:
    """Whether each of some ascending eigenvalues has a direction of its own, (axes,)."""
    gaps = np.diff(eigenvalues) > DEGENERATE * np.abs(eigenvalues).max()
    return np.concatenate([[True], gaps]) & np.concatenate([gaps, [True]])


@final
@dataclass(frozen=True, slots=True, eq=False)
class NoiseDrift:
    """The noise-gradient drift -div D (what the convention leaves of it) beside the drift, where the density is seen.

    strongest: the largest |noise drift| [length/time], at place (axes,). mean_ratio: root mean square of the noise
    drift over that of the drift, by the density. largest_ratio: the largest |noise drift| / |drift| where the drift is
    not weak (STRONG_DRIFT). share_stronger: probability of being where the noise drift is the stronger of the two.
    share_to_quieter: share of the noise drift, by its strength and the density, that points to where the trace of D is
    lower. shifts: how far it moves the point of balance from every minimum, (minima, axes) [length], to first order in
    D: (M H)^-1 times the noise drift there; nan where H is singular.
    """

    strongest: float
    place: FloatArray
    mean_ratio: float
    largest_ratio: float
    share_stronger: float
    share_to_quieter: float
    shifts: FloatArray


def noise_drift_at_cells(problem: Problem) -> FloatArray:
    """The noise-gradient drift at the cell centres, (axes, cells) [length/time]: flux drift minus given drift."""
    return in_pieces(problem.diffusion.noise_drift, problem.grid.positions())


def noise_drift_summary(
    problem: Problem, probability: FloatArray | None, minima: Sequence[StationaryPoint] = ()
) -> NoiseDrift | None:
    """How strong the noise-gradient drift is beside the drift, and where it pushes; None where there is none.

    probability: at rest, (cells,); None: every place counts the same.
    """
    grid, positions = problem.grid, problem.grid.positions()
    noise_drift = noise_drift_at_cells(problem)
    strength = np.linalg.norm(noise_drift, axis=0)
    sizes = grid.volumes * grid.active
    weights = sizes / sizes.sum() if probability is None else probability
    density = weights / grid.volumes
    seen = density >= NOTICEABLE_DENSITY * density.max()
    if not strength[seen].any():
        return None
    drift = np.linalg.norm(in_pieces(problem.landscape.drift, positions), axis=0)
    strong = seen & (drift >= STRONG_DRIFT * drift[seen].max()) & (drift > 0.0)
    means = [math.sqrt(float(weights @ np.where(seen, part, 0.0) ** 2)) for part in (strength, drift)]
    strongest = int(np.where(seen, strength, -1.0).argmax())
    return NoiseDrift(
        strongest=float(strength[strongest]),
        place=positions[:, strongest],
        mean_ratio=means[0] / means[1] if means[1] > 0.0 else math.inf,
        largest_ratio=float((strength[strong] / drift[strong]).max()) if strong.any() else math.inf,
        share_stronger=float(weights[seen & (strength > drift)].sum()),
        share_to_quieter=_share_to_quieter(problem, noise_drift, np.where(seen, weights * strength, 0.0)),
        shifts=np.array([_shift(problem, point) for point in minima]).reshape(-1, grid.dimensions),
    )


def _share_to_quieter(problem: Problem, noise_drift: FloatArray, weights: FloatArray) -> float:
    """The share of the weights (cells,) of places where the trace of D falls along the noise drift."""
    (cells,) = np.nonzero(weights)
    grid = problem.grid
    positions = grid.positions(grid.index_of(cells))
    direction = in_cells(grid, noise_drift[:, cells], positions)
    steps = noise_drift[:, cells] / np.linalg.norm(direction, axis=0) * NUDGE

    def trace(places: FloatArray) -> FloatArray:
        return np.einsum("ii...->...", problem.diffusion.matrix(places))

    falls = in_pieces(trace, positions + steps) < in_pieces(trace, positions - steps)
    return float(weights[cells[falls]].sum() / weights[cells].sum())


def _shift(problem: Problem, minimum: StationaryPoint) -> FloatArray:
    push = problem.diffusion.noise_drift(minimum.position[:, None])[:, 0]
    try:
        return np.asarray(np.linalg.solve(problem.landscape.mobility @ minimum.hessian, push))
    except np.linalg.LinAlgError:
        return np.full(push.size, math.nan)


@final
@dataclass(frozen=True)
class NoiseStructure:
    """What there is to say about the noise of a problem.

    at_minima: empty without a covariance of gradients, and so are the tilts, one on the climb of every path; exponents:
    one for every tilt where the gradients of the examples are known; barriers: over the noise, of the same climbs.
    """

    at_minima: tuple[CovarianceAtMinimum, ...] = ()
    tilts: tuple[Tilt, ...] = ()
    exponents: tuple[ChainExponent, ...] = ()
    barriers: tuple[float | None, ...] = ()
    noise_drift: NoiseDrift | None = None
    places: tuple[str, ...] = ()  # of the largest tilts, in words

    @property
    def notices(self) -> tuple[Notice, ...]:
        """A warning about the path of the largest tilt, where that is not small."""
        if not self.tilts:
            return ()
        worst = int(np.argmax([tilt.largest for tilt in self.tilts]))
        found = tilt_notice(self.tilts[worst], self.exponents[worst] if self.exponents else None, self.barriers[worst])
        return () if found is None else (found,)


def noise_structure(
    problem: Problem,
    minima: Sequence[StationaryPoint] = (),
    paths: Sequence[Path] = (),
    probability: FloatArray | None = None,
) -> NoiseStructure:
    """Everything above of a problem: at its minima, on the climbs of paths, and with a probability at rest (cells,).

    The exponents of SGD itself are there where the landscape has a sample and the noise a learning rate and batches
    that are drawn with replacement.
    """
    drift = noise_drift_summary(problem, probability, minima)
    if gradient_covariance_of(problem) is None:
        return NoiseStructure(noise_drift=drift)
    tilts = tuple(tilt_along(problem, path.climb.T) for path in paths)
    return NoiseStructure(
        covariance_against_hessian(problem, minima),
        tilts,
        _exponents(problem, paths),
        tuple(path.action for path in paths),
        drift,
        tuple(describe(problem.grid, wrapped(problem.grid, tilt.place)) for tilt in tilts),
    )


def _exponents(problem: Problem, paths: Sequence[Path]) -> tuple[ChainExponent, ...]:
    sample: Examples | None = getattr(problem.landscape, "sample", None)
    noise, landscape = problem.noise, problem.landscape
    numbers = [getattr(noise, name, None) for name in ("learning_rate", "batch_size")]
    drawn = getattr(noise, "sampling", None) == "replacement" and all(numbers) and not noise.injected
    if sample is None or not drawn or not landscape.is_gradient:
        return ()
    learning_rate, batch_size = (noise.number(name) for name in ("learning_rate", "batch_size"))
    steps = _Preconditioned(sample, landscape.mobility)
    return tuple(chain_exponent(steps, path.climb.T, learning_rate, batch_size) for path in paths)


@final
@dataclass(frozen=True, slots=True)
class _Preconditioned:
    """Examples whose gradients are multiplied with a mobility, (axes, axes): what a step goes along."""

    sample: Examples
    mobility: FloatArray

    def gradients(self, position: FloatArray) -> FloatArray:
        return self.mobility @ self.sample.gradients(position)
