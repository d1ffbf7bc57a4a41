"""Problems with known answers, for `compare_tools`: five Fokker-Planck equations on boxes, each at one time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce
from typing import Any

import numpy as np
import scipy.linalg
import sympy
from scipy.special import ndtr

from fpsolve.model.expressions import Expression

TIME_LIMIT = (60.0, 60.0, 180.0)  # seconds of processor time of one timed run, by the number of axes
LINE = (200, 250, 320, 400, 500, 640, 800, 1000, 1280, 1600, 2000, 2560, 3200)
PLANE = (64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
SPACE = (24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)

Array = np.ndarray[Any, np.dtype[np.float64]]
Axes = tuple[Array, ...]
OfAxes = Callable[[Axes], Array]


@dataclass(frozen=True)
class Task:
    """dp/dt = -div(drift p) + sum d_i d_j (D_ij p) on a box whose walls the density does not feel.

    loss: drift = -grad(loss), or None; drift, diffusion: expressions in the names, the latter row by row.
    start: (axes of points) -> density, separable arguments broadcast; averages: faces of each axis -> exact averages
    over the cells; values: centres -> exact density.
    """

    title: str
    names: tuple[str, ...]
    box: tuple[tuple[float, float], ...]
    drift: tuple[str, ...]
    diffusion: tuple[tuple[str, ...], ...]
    loss: str | None
    time: float
    target: float
    grids: tuple[int, ...]
    start: OfAxes
    averages: OfAxes
    values: OfAxes

    @property
    def limit(self) -> float:
        """Seconds of processor time that one run may take."""
        return TIME_LIMIT[len(self.names) - 1]

    @property
    def constant(self) -> bool:
        """Whether D is the same everywhere."""
        return not any(name in entry for row in self.diffusion for entry in row for name in self.names)

    @cached_property
    def tensor(self) -> bool:
        """Whether D has entries off the diagonal."""
        rows = enumerate(self.diffusion)
        return any(float(entry) != 0.0 for i, row in rows for j, entry in enumerate(row) if i != j)

    def centres(self, cells: int) -> Axes:
        """Centres of equal cells along each axis."""
        return tuple(low + (np.arange(cells) + 0.5) * (high - low) / cells for low, high in self.box)

    def evaluate(self, expression: str, points: Sequence[Array]) -> Array:
        """An expression at points, one array of coordinates per axis."""
        value = _compiled(expression, self.names)(*points)
        return np.broadcast_to(np.asarray(value, dtype=float), np.broadcast_shapes(*(p.shape for p in points)))

    def initial(self, centres: Axes) -> Array:
        """Probabilities of the cells at the start."""
        values = self.start(centres)
        return values / values.sum()


@lru_cache
def _compiled(expression: str, names: tuple[str, ...]) -> Callable[..., Array]:
    """An expression as a plain function of the coordinates: as cheap for a tool as one written by hand."""
    tree = Expression.parse(expression, names, {}, "task").tree
    return sympy.lambdify([sympy.Symbol(name, real=True) for name in names], tree)


def product(factors: Sequence[Array]) -> Array:
    """Outer product."""
    return reduce(np.multiply.outer, factors)


def normal(mean: Sequence[float], variance: Sequence[float]) -> tuple[OfAxes, OfAxes]:
    """Values and cell averages of an upright normal density."""
    pairs = list(zip(mean, np.sqrt(variance), strict=True))

    def values(centres: Axes) -> Array:
        return product([np.exp(-0.5 * ((x - m) / s) ** 2) / s for x, (m, s) in zip(centres, pairs, strict=True)])

    def averages(faces: Axes) -> Array:
        return product([np.diff(ndtr((x - m) / s)) for x, (m, s) in zip(faces, pairs, strict=True)])

    return values, averages


def by_quadrature(values: OfAxes) -> OfAxes:
    """Cell averages by Gauss-Legendre with five points along each axis."""
    points, weights = np.polynomial.legendre.leggauss(5)

    def averages(faces: Axes) -> Array:
        fine = tuple((0.5 * (f[1:] + f[:-1])[:, None] + 0.5 * np.diff(f)[:, None] * points).ravel() for f in faces)
        found = values(fine)
        for axis, face in enumerate(faces):
            shape = (*found.shape[:axis], face.size - 1, 5, *found.shape[axis + 1 :])
            found = np.moveaxis(found.reshape(shape), axis + 1, -1) @ weights
        return found

    return averages


def ornstein_uhlenbeck(
    rates: Sequence[float], diffusion: Sequence[float], mean: Sequence[float], width: float, t: float
) -> tuple[OfAxes, OfAxes, OfAxes]:
    """Start, exact averages, exact values: drift -rate x, constant D, along each axis of its own."""
    decay = np.exp(-np.asarray(rates) * t)
    rest = np.asarray(diffusion) / np.asarray(rates)
    start, _ = normal(mean, np.full(len(mean), width**2))
    return (start, *reversed(normal(decay * mean, rest + (width**2 - rest) * decay**2)))


def anisotropic(
    angle: float, eigenvalues: tuple[float, float], mean: tuple[float, float], variance: float, t: float
) -> tuple[tuple[tuple[str, ...], ...], OfAxes, OfAxes, OfAxes]:
    """D with its principal axes at an angle [degrees], drift -x: D, start, exact averages, exact values."""
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    turn = np.array([[c, -s], [s, c]])
    tensor = turn @ np.diag(eigenvalues) @ turn.T
    shrunk = math.exp(-2.0 * t)
    inverse = np.linalg.inv(variance * shrunk * np.eye(2) + (1.0 - shrunk) * tensor)
    at = math.exp(-t) * np.asarray(mean)

    def values(centres: Axes) -> Array:
        x, y = np.ix_(*centres)
        x, y = x - at[0], y - at[1]
        return np.exp(-0.5 * (inverse[0, 0] * x * x + 2.0 * inverse[0, 1] * x * y + inverse[1, 1] * y * y))

    entries = tuple(tuple(repr(float(entry)) for entry in row) for row in tensor)
    return entries, normal(mean, (variance, variance))[0], by_quadrature(values), values


@lru_cache(maxsize=4)
def sinc_solution(temperature: float, mean: float, width: float, t: float, points: int) -> tuple[Array, Array]:
    """The density of drift -d/dx (x**2 - 1)**2 by sinc collocation: nodes and values, exponentially accurate.

    Derivatives of sinc functions at the nodes: Stenger, SIAM Review 23 (1981) 165.
    """
    x = np.linspace(-2.4, 2.4, points)
    h, k = x[1] - x[0], np.arange(points)
    apart = k[:, None] - k[None, :]
    sign = (-1.0) ** apart
    with np.errstate(divide="ignore"):
        first = np.where(apart == 0, 0.0, sign / apart) / h
        second = np.where(apart == 0, -(np.pi**2) / 3.0, -2.0 * sign / apart.astype(float) ** 2) / h**2
    generator = first * (4.0 * x * (x * x - 1.0)) + temperature * second
    start = np.exp(-0.5 * ((x - mean) / width) ** 2) / (width * math.sqrt(2.0 * np.pi))
    return x, scipy.linalg.expm(t * generator) @ start


def double_well(temperature: float, mean: tuple[float, float], width: float, t: float) -> tuple[OfAxes, OfAxes, OfAxes]:
    """Start, exact averages, exact values in (x**2 - 1)**2 + y**2, where x and y move independently."""
    x, found = sinc_solution(temperature, mean[0], width, t, 360)
    _, _, in_y = ornstein_uhlenbeck([2.0], [temperature], [mean[1]], width, t)

    def values(centres: Axes) -> Array:
        in_x = np.sinc((centres[0][:, None] - x) / (x[1] - x[0])) @ found
        return np.multiply.outer(in_x, in_y((centres[1],)))

    return normal(mean, (width**2, width**2))[0], by_quadrature(values), values


def lognormal(growth: float, volatility: float, width: float, t: float) -> tuple[OfAxes, OfAxes, OfAxes]:
    """Start, exact averages, exact values of dX = growth X dt + volatility X dW (Ito) from a lognormal of median 1."""
    m, s = (growth - 0.5 * volatility**2) * t, math.sqrt(width**2 + volatility**2 * t)

    def density(mean: float, deviation: float) -> OfAxes:
        return lambda centres: np.exp(-0.5 * ((np.log(centres[0]) - mean) / deviation) ** 2) / centres[0]

    def averages(faces: Axes) -> Array:
        return np.diff(ndtr((np.log(faces[0]) - m) / s))

    return density(0.0, width), averages, density(m, s)


def tasks() -> dict[str, Task]:
    """The five problems."""
    tensor, *oblique = anisotropic(30.0, (0.2, 0.002), (0.8, -0.3), 0.02, 1.0)
    space = ((-3.0, 3.0), (-2.4, 2.4), (-2.0, 2.0))
    return {
        "line": Task(
            "Ornstein-Uhlenbeck on a line", ("x",), ((-4.0, 4.0),), ("-x",), (("0.5",),), "0.5*x**2",
            1.0, 1e-5, LINE, *ornstein_uhlenbeck([1.0], [0.5], [1.5], 0.2, 1.0),
        ),
        "well": Task(
            "Double well in a plane, barrier/noise 20", ("x", "y"), ((-2.0, 2.0), (-2.0, 2.0)),
            ("-4*x*(x**2 - 1)", "-2*y"), (("0.05", "0"), ("0", "0.05")), "(x**2 - 1)**2 + y**2",
            1.0, 4e-4, PLANE, *double_well(0.05, (-0.6, 0.5), 0.1, 1.0),
        ),
        "space": Task(
            "Ornstein-Uhlenbeck in space, rates 1, 1.5, 2, D = 0.3, 0.2, 0.1", ("x", "y", "z"), space,
            ("-x", "-1.5*y", "-2*z"), (("0.3", "0", "0"), ("0", "0.2", "0"), ("0", "0", "0.1")),
            "0.5*x**2 + 0.75*y**2 + z**2", 0.3, 2.8e-3, SPACE,
            *ornstein_uhlenbeck([1.0, 1.5, 2.0], [0.3, 0.2, 0.1], [1.0, -0.6, 0.5], 0.17, 0.3),
        ),
        "oblique": Task(
            "Rotated tensor of condition number 100 in a plane", ("x", "y"), ((-2.5, 2.5), (-2.5, 2.5)),
            ("-x", "-y"), tensor, "0.5*x**2 + 0.5*y**2", 1.0, 2.9e-2, PLANE, *oblique,
        ),
        "lognormal": Task(
            "Geometric Brownian motion, D = 0.045 x^2 (Ito)", ("x",), ((0.15, 6.15),), ("0.1*x",), (("0.045*x**2",),),
            None, 1.0, 3e-5, LINE, *lognormal(0.1, 0.3, 0.1, 1.0),
        ),
    }  # fmt: skip
