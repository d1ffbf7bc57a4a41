"""Answers that do not come from fpsolve: closed forms, series, quadrature. Beside each test they are the other side."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.integrate import quad
from scipy.linalg import expm, solve_continuous_lyapunov
from scipy.special import erf, i1e

Array = NDArray[np.float64]
Function = Callable[[Array], Array]

EPSILON = float(np.finfo(np.float64).eps)


# How errors are measured


def error_l1(probability: Array, expected: Array) -> float:
    """Sum of the differences: the L1 distance of two densities."""
    return float(np.abs(probability - expected).sum())


def orders(sizes: Sequence[float], errors: Sequence[float]) -> Array:
    """Observed orders between neighbouring sizes (cells, or steps): errors fall as size**-order."""
    return np.diff(np.log(errors)) / -np.diff(np.log(sizes))


# Gauss-Legendre panels

NODES, WEIGHTS = np.polynomial.legendre.leggauss(16)
_POLYNOMIALS = np.polynomial.legendre.legvander(NODES, 16)
_BELOW = np.concatenate([-np.ones((16, 1)), _POLYNOMIALS[:, :15]], axis=1)  # P_-1 counts as -1 in the next line
_ORDERS = np.arange(16)
# Values at the nodes -> integrals from -1 to the nodes: the integral of P_k is (P_(k+1) - P_(k-1)) / (2 k + 1).
ANTIDERIVATIVE = ((_POLYNOMIALS[:, 1:] - _BELOW) / (2 * _ORDERS + 1)) @ (
    (_ORDERS[:, None] + 0.5) * _POLYNOMIALS[:, :16].T * WEIGHTS
)


def panels(lower: float, upper: float, count: int) -> tuple[Array, float]:
    """Nodes (count, 16) of equal panels, and half the width of one."""
    half = 0.5 * (upper - lower) / count
    middles = lower + half * (2.0 * np.arange(count) + 1.0)
    return middles[:, None] + half * NODES, half


def integral(function: Function, lower: float, upper: float, count: int = 400) -> float:
    """Integral of a smooth function, to rounding."""
    nodes, half = panels(lower, upper, count)
    return float(half * (function(nodes) @ WEIGHTS).sum())


def running_integral(values: Array, half: float) -> Array:
    """Integral from the lower end to every node, of values (panels, 16)."""
    before = np.concatenate([[0.0], np.cumsum(half * (values @ WEIGHTS))[:-1]])
    return before[:, None] + half * (values @ ANTIDERIVATIVE.T)


# First passage on a line


def passage_moments(
    potential: Function, diffusion: Function, lower: float, start: float, target: float, count: int = 2000
) -> tuple[float, float]:
    """Mean and standard deviation of the time from start to target (start < target), reflecting at lower.

    With psi = potential = the integral of drift / D (Ito),

        m_n(x) = n  integral_x^target dy e^{-psi(y)}  integral_lower^y dz e^{psi(z)} / D(z) m_{n-1}(z),   m_0 = 1

    (Gardiner, Handbook of Stochastic Methods, 5.2.160). Barriers up to 700: nothing may overflow.
    """
    below = max(2, round(count * (start - lower) / (target - lower)))
    parts = [panels(lower, start, below), panels(start, target, count - below)]
    psi = [potential(nodes) for nodes, _ in parts]
    rate = [np.exp(values) / diffusion(nodes) for values, (nodes, _) in zip(psi, parts, strict=True)]
    moments = [np.ones_like(nodes) for nodes, _ in parts]
    at_start = []
    for order in (1, 2):
        inner = _chained([r * m for r, m in zip(rate, moments, strict=True)], parts)
        outer = [np.exp(-values) * part for values, part in zip(psi, inner, strict=True)]
        climbed = _chained(outer, parts)
        total = sum(half * float((values @ WEIGHTS).sum()) for values, (_, half) in zip(outer, parts, strict=True))
        moments = [order * (total - part) for part in climbed]
        at_start.append(order * parts[1][1] * float((outer[1] @ WEIGHTS).sum()))
    mean, square = at_start
    return mean, math.sqrt(square - mean**2)


def _chained(values: list[Array], parts: list[tuple[Array, float]]) -> list[Array]:
    """Running integrals of the parts, one after the other."""
    total, found = 0.0, []
    for part, (_, half) in zip(values, parts, strict=True):
        found.append(total + running_integral(part, half))
        total += half * float((part @ WEIGHTS).sum())
    return found


def quartic_passage(temperature: float, target: float, lower: float = -2.4) -> tuple[float, float]:
    """Mean and deviation of the time from -1 to target in (x**2 - 1)**2 with D = temperature."""
    return passage_moments(
        lambda x: -((x**2 - 1.0) ** 2) / temperature, lambda x: np.full_like(x, temperature), lower, -1.0, target
    )


def share_beyond(temperature: float, target: float, surface: float = 0.0, lower: float = -2.4) -> float:
    """Share of the population beyond a surface while as much enters at -1 as is absorbed at target, quartic well.

    The density of unit flux is e^{psi(y)}/D times the integral of e^{-psi} from max(y, -1) to the target.
    """
    parts = [panels(low, high, 300) for low, high in ((lower, -1.0), (-1.0, surface), (surface, target))]
    psi = [-((nodes**2 - 1.0) ** 2) / temperature for nodes, _ in parts]
    resistance = [np.exp(-values) for values in psi[1:]]
    climbed = [np.zeros_like(psi[0]), *_chained(resistance, parts[1:])]
    whole = sum(half * float((values @ WEIGHTS).sum()) for values, (_, half) in zip(resistance, parts[1:], strict=True))
    shares = [
        half * float(((np.exp(values) * (whole - below)) @ WEIGHTS).sum())
        for values, below, (_, half) in zip(psi, climbed, parts, strict=True)
    ]
    return shares[2] / sum(shares)


# Gaussians


def normal(positions: Array, mean: ArrayLike, covariance: ArrayLike) -> Array:
    """Normal density at positions (axes, points)."""
    matrix = np.atleast_2d(np.asarray(covariance, dtype=np.float64))
    away = positions - np.asarray(mean, dtype=np.float64).reshape(-1, 1)
    exponent = -0.5 * np.einsum("ip,ij,jp->p", away, np.linalg.inv(matrix), away)
    return np.exp(exponent) / math.sqrt(np.linalg.det(2.0 * math.pi * matrix))


def ornstein_uhlenbeck(
    drift: ArrayLike, diffusion: ArrayLike, mean: ArrayLike, covariance: ArrayLike, time: float
) -> tuple[Array, Array]:
    """Mean and covariance at a time of dX = drift X dt + sqrt(2 diffusion) dW."""
    a = np.atleast_2d(np.asarray(drift, dtype=np.float64))
    rest = solve_continuous_lyapunov(a, -2.0 * np.atleast_2d(np.asarray(diffusion, dtype=np.float64)))
    flow = expm(a * time)
    later = rest + flow @ (np.atleast_2d(np.asarray(covariance, dtype=np.float64)) - rest) @ flow.T
    return flow @ np.atleast_1d(np.asarray(mean, dtype=np.float64)), later


def gauss_in_cells(edges: Array, mean: float, variance: float) -> Array:
    """Probability of a one-dimensional normal density between neighbouring edges."""
    return np.diff(0.5 * erf((edges - mean) / math.sqrt(2.0 * variance)))


# Heat kernels


def periodic_kernel(x: Array, start: float, time: float, drift: float, diffusion: float, period: float) -> Array:
    """Density at time of a walker with constant drift on a ring, started at a point: a sum over images."""
    images = period * np.arange(-20, 21)[:, None]
    return np.exp(-((x - start - drift * time - images) ** 2) / (4.0 * diffusion * time)).sum(axis=0) / math.sqrt(
        4.0 * math.pi * diffusion * time
    )


def reflecting_kernel(x: Array, start: float, time: float, diffusion: float, length: float) -> Array:
    """Density at time of free diffusion in [0, length] between reflecting walls, started at a point."""
    return periodic_kernel(x, start, time, 0.0, diffusion, 2.0 * length) + periodic_kernel(
        x, -start, time, 0.0, diffusion, 2.0 * length
    )


def survival(start: float, time: float, diffusion: float, length: float) -> float:
    """Probability of not having left [0, length], both ends absorbing, by the sine series."""
    odd = np.arange(1, 400, 2)
    rate = diffusion * (odd * math.pi / length) ** 2
    terms = 4.0 / (odd * math.pi) * np.sin(odd * math.pi * start / length) * np.exp(-rate * time)
    return float(terms.sum())


# A driven ring


def ring_current(potential: Function, force: float, temperature: float, period: float) -> float:
    """Current of dX = (force - potential') dt + sqrt(2 temperature) dW on a ring (Stratonovich 1958; Risken 11.3).

    With W = potential - force x:  J = T (1 - e^{-force period / T}) / integral_0^period dx e^{-W(x)/T}
    integral_x^{x + period} dy e^{W(y)/T}  in units of probability per time.
    """
    nodes, half = panels(0.0, period, 60)
    tilted = (potential(nodes) - force * nodes) / temperature
    up = np.exp(tilted)
    rising = running_integral(up, half)
    whole = half * float((up @ WEIGHTS).sum())
    # The integral over [x, x + period]: the rest of this period, and the part below x once more, tilted.
    ahead = whole - rising + math.exp(-force * period / temperature) * rising
    total = half * float(((np.exp(-tilted) * ahead) @ WEIGHTS).sum())
    return temperature * (1.0 - math.exp(-force * period / temperature)) / total


# Diffusion with a full tensor in a box with reflecting walls


def reflecting_box(diffusion: ArrayLike, start: Sequence[Function], time: float, cells: int, degree: int) -> Array:
    """Cell probabilities in the unit box at a time, for no drift and a constant full tensor.

    start: a product of one function per axis. Galerkin's method with Legendre polynomials along every axis; J . n = 0
    is its natural boundary condition. Where the tensor meets walls obliquely, corners and edges of the box are
    singular (r**1.2 for [[1, 0.6], [0.6, 0.5]]), so it converges as a power of 1/degree: see the tests.
    """
    d = np.atleast_2d(np.asarray(diffusion, dtype=np.float64))
    axes = len(d)
    nodes, weights = np.polynomial.legendre.leggauss(3 * degree)
    norm = np.sqrt(2.0 * np.arange(degree) + 1.0)
    value = np.polynomial.legendre.legvander(nodes, degree - 1) * norm
    slope = np.stack(
        [np.polynomial.legendre.legval(nodes, np.polynomial.legendre.legder(row)) for row in np.diag(norm)]
    )
    stiff = 2.0 * (slope * weights) @ slope.T  # integral of phi_i' phi_j' over [0, 1]
    mixed = (slope * weights) @ value  # integral of phi_i' phi_j
    total = np.zeros((degree**axes,) * 2)
    for i, j in np.ndindex(axes, axes):
        factors = [np.eye(degree)] * axes
        factors[i], factors[j] = (stiff, stiff) if i == j else (mixed, mixed.T)
        total += d[i, j] * reduce(np.kron, factors)
    first = reduce(np.multiply.outer, [(value * 0.5 * weights[:, None]).T @ f(0.5 + 0.5 * nodes) for f in start])
    rates, modes = np.linalg.eigh(total)
    later = (modes @ (np.exp(-rates * time) * (modes.T @ first.ravel()))).reshape(first.shape)
    points, half = panels(0.0, 1.0, cells)
    inside = np.einsum("cnk,n->ck", np.polynomial.legendre.legvander(2.0 * points - 1.0, degree - 1), WEIGHTS) * norm
    for axis in range(axes):
        later = np.moveaxis(np.tensordot(half * inside, later, (1, axis)), 0, axis)
    return later.ravel() / first.flat[0]


def gaussian_in_boxes(edges: Sequence[Array], mean: ArrayLike, covariance: ArrayLike) -> Array:
    """Probability of a normal density in the boxes between edges, one array per axis, flat: 5 Gauss points a side."""
    nodes, weights = np.polynomial.legendre.leggauss(5)
    points = [(0.5 * (e[1:] + e[:-1])[:, None] + 0.5 * np.diff(e)[:, None] * nodes).ravel() for e in edges]
    shares = [(0.5 * np.diff(e)[:, None] * weights).ravel() for e in edges]
    positions = np.array([axis.ravel() for axis in np.meshgrid(*points, indexing="ij")])
    volume = math.prod(np.meshgrid(*shares, indexing="ij"))
    fine = normal(positions, mean, covariance).reshape(volume.shape) * volume
    for axis, edge in enumerate(edges):
        fine = np.add.reduceat(fine, 5 * np.arange(len(edge) - 1), axis=axis)
    return fine.ravel()


# Feller's diffusion dY = sqrt(2 Y) dW


def feller_density(y: Array, start: float, time: float) -> Array:
    """The part of the density that zero has not yet absorbed (Feller 1951): a Bessel function.

    p = sqrt(y0/y) exp(-(y + y0)/t) I_1(2 sqrt(y y0)/t) / t
    """
    argument = 2.0 * np.sqrt(y * start) / time
    exponent = argument - (y + start) / time
    return np.asarray(np.sqrt(start / y) * i1e(argument) * np.exp(exponent) / time)


# Momentum


def kramers_with_inertia(friction: float, temperature: float, height: float, curvatures: tuple[float, float],
                         action: float) -> float:  # fmt: skip
    """Rate out of a well of unit mass that is not come back to: Kramers (1940), Mel'nikov & Meshkov (1986).

    k = A(d) (sqrt(g**2/4 + w_b**2) - g/2) / w_b  w_0 / (2 pi) exp(-height/T),  d = g action / T the energy lost on one
    swing from the saddle back to it [T]; ln A = 1/(2 pi) int ln(1 - exp(-d (s**2 + 1/4))) / (s**2 + 1/4) ds: d for slow
    friction, where energy diffuses, 1 for fast. curvatures: of the minimum, w_0**2, and of the saddle, w_b**2.
    """
    lost, (well, top) = friction * action / temperature, curvatures
    logarithm, _ = quad(lambda s: math.log1p(-math.exp(-lost * (s * s + 0.25))) / (s * s + 0.25), -np.inf, np.inf)
    spatial = (math.sqrt(0.25 * friction**2 + top) - 0.5 * friction) / math.sqrt(top)
    attempts = math.sqrt(well) / (2.0 * math.pi) * math.exp(-height / temperature)
    return math.exp(logarithm / (2.0 * math.pi)) * spatial * attempts


def klein_kramers_rate(slope: Function, temperature: float, friction: float, reach: float, cells: int = 100,
                       velocities: int = 40) -> float:  # fmt: skip
    """The slowest rate of the underdamped equation of unit mass in a symmetric double well, by Brinkman's hierarchy.

    Hermite functions c_n of the velocity, c_n' = -n friction c_n - sqrt(n+1) A- c_(n+1) - sqrt(n) A+ c_(n-1), with
    A+- = sqrt(T) (d/dx +- U'/(2 T)) in the basis of sinc functions, and matrix continued fractions (Risken 1989, 10.3).

    slope: U'; reach: half the width, where exp(-U/2T) is gone.
    """
    step = 2.0 * reach / cells
    number = np.arange(cells)
    apart = number[:, None] - number
    derivative = np.where(apart == 0, 0.0, (-1.0) ** apart / (step * np.where(apart == 0, 1, apart)))
    push = np.diag(slope(step * (number + 0.5) - reach) / (2.0 * temperature))
    up, down = (math.sqrt(temperature) * (derivative + sign * push) for sign in (1.0, -1.0))
    rate = 0.0
    for _ in range(10):
        below = np.zeros((cells, cells))
        for n in range(velocities, 0, -1):
            below = (
                math.sqrt(n) * down @ np.linalg.solve((n * friction - rate) * np.eye(cells) - below, math.sqrt(n) * up)
            )
        values = np.linalg.eigvals(-below)
        values = values[np.abs(values.imag) < 1e-9 * np.abs(values).max()].real
        found = float(values[np.argsort(np.abs(values))][1])
        if abs(found - rate) < 1e-11 * found:
            break
        rate = found
    return found
