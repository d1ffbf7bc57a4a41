"""The action of a path, and the path of least action between two points.

For weak noise the mean escape time grows as exp(action), with dX = b dt + sqrt(2 D) dW and, whatever the speed,

    action = 1/2 integral of (|b| |dx| - <b, dx>),     <u, w> = u . D^-1 w,   |u| = sqrt(<u, u>)

(Freidlin & Wentzell 1998, chapter 4; Heymann & Vanden-Eijnden 2008). It is zero along the drift; against the drift
-M grad L of D = T M it is the rise of L / T. The drift is the one given: what a convention adds is of the order of
the noise.
"""

from __future__ import annotations

import numpy as np
from scipy.fft import dst
from scipy.interpolate import CubicSpline
from scipy.optimize import minimize

from fpsolve.analyse.geometry import wrapped
from fpsolve.model.grid import FloatArray
from fpsolve.model.problem import Problem

# Shares of the length of the path: to take differences over (the error is its square), how far the first guess is
# bent aside (a path of symmetry may be stationary without being least), and when the path has settled.
DIFFERENCE = 1e-5
BEND = 0.02
SETTLED = 1e-6
MOST_ROUNDS = 60
ACCURACY = 1e-12  # of the action of a given curve, in every piece of it
NARROWEST = 2.0**-40  # piece of a segment: where D jumps
MOST_PIECES = 100_000  # at a time; only rounding asks for more
COARSENING = (8, 4, 2, 1)  # a path of fewer points settles in fewer steps and makes a good guess
STEPS_PER_ROUND = 60

VANISHES = "D is not positive on the way"
INFINITE = "the drift is not finite on the way"


class NoPathError(Exception):
    """There is no path of least action; the message is the reason, as a clause for the report."""


def least_action_path(problem: Problem, guess: FloatArray) -> tuple[FloatArray, float]:
    """The path of least action between the ends of a guess, and its action.

    The nodes move across the path only, by a quasi-Newton method in the coefficients of sines over their wave
    number (of that size are the steps that the action allows), and are then spread evenly again, until they rest.

    Parameters
    ----------
    problem : of any noise whose D is positive definite along the path.
    guess : (points, axes) [length], equally far apart, from a minimum to a saddle.

    Returns
    -------
    Equally spaced points (points, axes); the action, from a spline through them.

    Raises
    ------
    NoPathError : D vanishes on the way, the drift is not finite there, or the path does not settle.
    """
    path = guess
    for share in COARSENING:
        points = (len(guess) - 1) // share + 1
        path = _settled(problem, _evened(path, points), BEND if share == COARSENING[0] else 0.0)
    action = action_along(problem, path)
    if action is None:
        raise NoPathError(VANISHES)
    return path, action


def _settled(problem: Problem, path: FloatArray, bend: float) -> FloatArray:
    """The path moved and evened until it rests; bend: of the first guess, as a share of its length."""
    for _ in range(MOST_ROUNDS):
        length = float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())
        moved = _evened(_moved(problem, path, _normals(path), bend * length), len(path))
        change = float(np.abs(moved - path).max())
        path = moved
        if bend == 0.0 and change < SETTLED * length:
            return path
        bend = 0.0
    reason = "the path of least action does not settle"
    raise NoPathError(reason)


def action_along(problem: Problem, path: FloatArray) -> float | None:
    """The action of the smooth curve through points (points, axes).

    None where D is not positive on it, or the drift not finite. By Simpson's rule between the points, on pieces that
    are halved where that changes something.
    """
    spline = CubicSpline(np.arange(len(path)), path)
    pieces: list[float] = []
    lower, width = np.arange(len(path) - 1.0), 1.0
    try:
        while lower.size and width > NARROWEST:
            places = lower[:, None] + width * np.linspace(0.0, 1.0, 5)
            flat = places.ravel()
            values = _action_density(problem, spline(flat).T, spline(flat, 1).T).reshape(places.shape)
            coarse = width / 6.0 * (values @ [1.0, 0.0, 4.0, 0.0, 1.0])
            fine = width / 12.0 * (values @ [1.0, 4.0, 2.0, 4.0, 1.0])
            if not pieces:
                smallest = ACCURACY * float(fine.sum())
            settled = (np.abs(fine - coarse) <= smallest) | (lower.size > MOST_PIECES)
            pieces.append(float(fine[settled].sum()))
            lower = (lower[~settled, None] + 0.5 * width * np.array([0.0, 1.0])).ravel()
            width *= 0.5
    except NoPathError:
        return None
    return sum(pieces)


def _action_density(problem: Problem, positions: FloatArray, steps: FloatArray) -> FloatArray:
    """(|b| |dx| - <b, dx>) / 2 for steps dx (axes, points) at positions, (points,)."""
    places = wrapped(problem.grid, positions)
    drift, inverse = problem.landscape.drift(places), _inverse_diffusion(problem, places)
    if not np.isfinite(drift).all():
        raise NoPathError(INFINITE)
    strength, size, along = (
        np.einsum("ip,pij,jp->p", one, inverse, other)
        for one, other in ((drift, drift), (steps, steps), (drift, steps))
    )
    density: FloatArray = 0.5 * (np.sqrt(strength * size) - along)
    return density


def _inverse_diffusion(problem: Problem, positions: FloatArray) -> FloatArray:
    """D^-1, (points, axes, axes)."""
    matrices = np.moveaxis(problem.diffusion.matrix(positions), -1, 0)
    try:
        np.linalg.cholesky(matrices)
    except np.linalg.LinAlgError:
        raise NoPathError(VANISHES) from None
    return np.asarray(np.linalg.inv(matrices))


def _moved(problem: Problem, path: FloatArray, normals: FloatArray, bend: float) -> FloatArray:
    """The path with its inner nodes moved across it to where the action is least.

    normals: (axes - 1, inner, axes). The unknowns are sine coefficients times their wave number.
    """
    inner, across = len(path) - 2, len(normals)
    waves = np.arange(1, inner + 1)

    def shape(unknowns: FloatArray) -> FloatArray:
        heights = dst(unknowns.reshape(across, inner) / waves, type=1, axis=1)
        return np.concatenate([path[:1], path[1:-1] + np.einsum("ki,kia->ia", heights, normals), path[-1:]])

    def action(unknowns: FloatArray) -> tuple[float, FloatArray]:
        value, slopes = _action_and_slopes(problem, shape(unknowns))
        # The type-1 sine transform is symmetric: its transpose is itself.
        return value, (dst(np.einsum("ia,kia->ki", slopes, normals), type=1, axis=1) / waves).ravel()

    start = np.zeros((across, inner))
    start[:, 0] = 0.5 * bend  # the first sine, of height `bend`
    found = minimize(
        action, start.ravel(), jac=True, method="L-BFGS-B",
        options={"maxiter": STEPS_PER_ROUND, "ftol": 0.0, "gtol": 1e-12, "maxcor": 20},
    )  # fmt: skip
    return shape(found.x)


def _action_and_slopes(problem: Problem, path: FloatArray) -> tuple[float, FloatArray]:
    """The action of a polygon by the midpoint rule, and its derivative by the inner nodes, (inner, axes)."""
    middles, steps = 0.5 * (path[:-1] + path[1:]).T, np.diff(path, axis=0).T
    axes, segments = steps.shape
    length = float(np.linalg.norm(steps, axis=0).sum())
    shifts = np.concatenate([np.zeros((1, axes)), np.eye(axes), -np.eye(axes)])[:, :, None] * DIFFERENCE * length
    positions = np.moveaxis(middles + shifts, 1, 0).reshape(axes, -1)
    values = _action_density(problem, positions, np.tile(steps, 2 * axes + 1)).reshape(-1, segments)
    by_place = (values[1 : axes + 1] - values[axes + 1 :]) / (2.0 * DIFFERENCE * length)
    by_step = _by_step(problem, middles, steps)
    slopes = 0.5 * (by_place[:, :-1] + by_place[:, 1:]) + by_step[:, :-1] - by_step[:, 1:]
    return float(values[0].sum()), slopes.T


def _by_step(problem: Problem, middles: FloatArray, steps: FloatArray) -> FloatArray:
    """Derivative of the action density by the step, (axes, segments): (D^-1 dx |b| / |dx| - D^-1 b) / 2."""
    places = wrapped(problem.grid, middles)
    drift, inverse = problem.landscape.drift(places), _inverse_diffusion(problem, places)
    of_step, of_drift = (np.einsum("pij,jp->ip", inverse, vector) for vector in (steps, drift))
    ratio = np.sqrt((drift * of_drift).sum(axis=0) / (steps * of_step).sum(axis=0))
    slope: FloatArray = 0.5 * (of_step * ratio - of_drift)
    return slope


def _normals(path: FloatArray) -> FloatArray:
    """Unit vectors across the path at its inner nodes, (axes - 1, inner, axes), turning with it as little as can be."""
    tangents = path[2:] - path[:-2]
    tangents /= np.linalg.norm(tangents, axis=1, keepdims=True)
    frame = np.linalg.svd(tangents[:1])[2][1:]  # (axes - 1, axes), across the first tangent
    normals = np.empty((path.shape[1] - 1, *tangents.shape))
    for node, tangent in enumerate(tangents):
        frame = frame - np.outer(frame @ tangent, tangent)
        frame = np.linalg.qr(frame.T)[0].T * np.sign(np.diag(np.linalg.qr(frame.T)[1]))[:, None]
        normals[:, node] = frame
    return normals


def _evened(path: FloatArray, points: int) -> FloatArray:
    """The same curve by so many points equally far apart, along a spline through the given ones."""
    for _ in range(2):
        lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
        path = CubicSpline(lengths, path)(np.linspace(0.0, lengths[-1], points))
    return path
