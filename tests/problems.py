"""The problems that several tests ask about, on grids of any size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import sympy
from numpy.typing import ArrayLike, NDArray

from fpsolve.model.grid import Axis, Grid, Wall
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import ConstantNoise, HessianNoise, TensorNoise
from fpsolve.model.problem import Problem

Array = NDArray[np.float64]

NAMES = ("x", "y", "z")
QUARTIC = "(x**2 - 1)**2"
# The three-hole potential of Metzner, Schuette & Vanden-Eijnden, J. Chem. Phys. 125, 084110 (2006).
THREE_HOLES = (
    "3*exp(-x**2 - (y - 1/3)**2) - 3*exp(-x**2 - (y - 5/3)**2) - 5*exp(-(x - 1)**2 - y**2) - 5*exp(-(x + 1)**2 - y**2)"
    " + 0.2*x**4 + 0.2*(y - 1/3)**4"
)


def box(
    shape: Sequence[int],
    bounds: Sequence[tuple[float, float]] | tuple[float, float] = (-1.0, 1.0),
    walls: Wall | Sequence[Wall | tuple[Wall, Wall]] = "reflecting",
) -> Grid:
    """A grid of the axes x, y, z; the same bounds and walls for all axes unless one entry per axis is given."""
    count = len(shape)
    limits = [bounds] * count if isinstance(bounds[0], int | float) else list(bounds)
    kinds = [walls] * count if isinstance(walls, str) else list(walls)
    pairs = [(kind, kind) if isinstance(kind, str) else tuple(kind) for kind in kinds]
    return Grid(
        **{
            name: Axis(name, float(lower), float(upper), cells, pair)
            for name, cells, (lower, upper), pair in zip(NAMES, shape, limits, pairs, strict=False)
        }
    )


def with_loss(grid: Grid, loss: str, temperature: float, mobility: ArrayLike | None = None) -> Problem:
    """Drift -M grad(loss), D = temperature M."""
    landscape = Landscape(loss, variables=grid.names, mobility=mobility)
    return Problem(landscape, ConstantNoise(temperature=temperature), grid)


def with_drift(grid: Grid, drift: Sequence[str], diffusion: ArrayLike) -> Problem:
    """Any drift, constant D."""
    return Problem(Landscape(drift=list(drift), variables=grid.names), ConstantNoise(diffusion=diffusion), grid)


def free(grid: Grid, diffusion: ArrayLike) -> Problem:
    """No drift, constant D."""
    return with_drift(grid, ["0"] * grid.dimensions, diffusion)


def rotation(angle: float) -> Array:
    """The matrix that turns a vector of the plane by an angle."""
    return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])


def turned(eigenvalues: ArrayLike, angle: float) -> Array:
    """The tensor with the first of two eigenvalues along the direction at an angle to x."""
    matrix = rotation(angle) @ np.diag(np.asarray(eigenvalues, dtype=np.float64)) @ rotation(angle).T
    return 0.5 * (matrix + matrix.T)


def linear(rows: ArrayLike) -> list[str]:
    """The expressions of a linear drift, one for each row of a matrix."""
    matrix = np.asarray(rows, dtype=np.float64)
    terms = [[f"({entry!r})*{name}" for entry, name in zip(row, NAMES, strict=False)] for row in matrix.tolist()]
    return [" + ".join(row) for row in terms]


def rotating_tensor(cells: int, gamma: float, half: float) -> Problem:
    """A turning tensor of condition number up to 60; at rest p = exp(-V) with the current gamma R grad(V) p.

    Principal angle 0.9 x + 0.7 y, eigenvalues 1 + sin(x)/2 and (1 + cos(y)/2)/20, V = `rotating_potential`,
    flux drift v = -D grad(V) + gamma R grad(V), R the quarter turn; the drift given is Ito's, v + div D.
    """
    x, y = sympy.symbols("x y", real=True)
    potential = x**2 + y**2 + x * y / 2 + sympy.sin(2 * x) / 2
    angle = sympy.Rational(9, 10) * x + sympy.Rational(7, 10) * y
    turn = sympy.Matrix([[sympy.cos(angle), -sympy.sin(angle)], [sympy.sin(angle), sympy.cos(angle)]])
    tensor = turn * sympy.diag(1 + sympy.sin(x) / 2, (1 + sympy.cos(y) / 2) / 20) * turn.T
    slope = sympy.Matrix([potential.diff(x), potential.diff(y)])
    quarter = sympy.Matrix([[0, -1], [1, 0]])
    divergence = sympy.Matrix([tensor[i, 0].diff(x) + tensor[i, 1].diff(y) for i in (0, 1)])
    drift = -tensor * slope + gamma * quarter * slope + divergence
    landscape = Landscape(drift=[str(sympy.N(entry, 17)) for entry in drift], variables=("x", "y"))
    noise = TensorNoise(diffusion=[[str(sympy.N(tensor[i, j], 17)) for j in (0, 1)] for i in (0, 1)])
    return Problem(landscape, noise, box((cells, cells), (-half, half)))


def rotating_potential(positions: Array) -> Array:
    """V of `rotating_tensor`."""
    x, y = positions
    return x**2 + y**2 + x * y / 2 + np.sin(2 * x) / 2


def along(angle: float) -> tuple[str, str]:
    """Coordinates u and v turned by an angle, as expressions in x and y."""
    c, s = float(np.cos(angle)), float(np.sin(angle))
    return f"({c!r}*x + {s!r}*y)", f"({c!r}*y - {s!r}*x)"


def rotated_quartic(cells: int, temperature: float, angle: float = 0.4, half: float = 2.4) -> Problem:
    """(u**2 - 1)**2 + v**2 with u, v turned by an angle: along u the one-dimensional quartic well."""
    u, v = along(angle)
    return with_loss(box((cells, cells), (-half, half)), f"({u}**2 - 1)**2 + {v}**2", temperature)


def curved_valley(cells: int, temperature: float) -> Problem:
    """A curved valley with D = temperature sqrt(H**2 + 0.3**2): D^-1 v is no gradient."""
    u, v = along(0.4)
    loss = f"({u}**2 - 1)**2/4*(1 + 0.3*{u}) + 2*({v} - 0.3*{u}**2)**2"
    noise = HessianNoise(learning_rate=2.0 * temperature, batch_size=1, projection="abs", floor=0.3)
    return Problem(Landscape(loss, variables=("x", "y")), noise, box((cells, cells), (-2.2, 2.2)))


# The rotation of the next two problems: rows are the directions of q1, q2 (and q3).
PLANE_AXES = np.array([[0.8253356149096783, 0.5646424733950354], [-0.5646424733950354, 0.8253356149096783]])
SPACE_AXES = np.array(
    [
        [0.6712121661589577, -0.2909391183496383, 0.6817834387942663],
        [0.3666848775860826, 0.9296593631628186, 0.03571650925527695],
        [-0.644217687237691, 0.22602632124962302, 0.7306816499355124],
    ]
)


def directions(axes: Array) -> list[str]:
    """The expressions of q1, q2 ... in x, y, z."""
    return [f"({row})" for row in linear(axes)]


def rotated_well_in_space(cells: int, temperature: float) -> Problem:
    """(q1**2 - 1)**2 + 3/2 q2**2 + 5/2 q3**2: along q1 the one-dimensional quartic well."""
    q1, q2, q3 = directions(SPACE_AXES)
    loss = f"({q1}**2 - 1)**2 + 1.5*{q2}**2 + 2.5*{q3}**2"
    return with_loss(box((cells,) * 3, (-2.4, 2.4)), loss, temperature)


def rotated_loud_well(cells: int) -> Problem:
    """A full tensor that changes from place to place (Ito), separable along turned axes.

    Along q1: drift -4 q1 (q1**2 - 1), D = (1 + 0.8 q1**2)/4; along q2: drift -2 q2, D = 0.3 + 0.2 q2**2.
    """
    q1, q2 = directions(PLANE_AXES)
    slopes = (f"(-4*{q1}*({q1}**2 - 1))", f"(-2*{q2})")
    values = (f"(0.25*(1 + 0.8*{q1}**2))", f"(0.3 + 0.2*{q2}**2)")
    rows = PLANE_AXES.tolist()
    drift = [" + ".join(f"({row[i]!r})*{slope}" for row, slope in zip(rows, slopes, strict=True)) for i in (0, 1)]
    tensor = [
        [" + ".join(f"({row[i] * row[j]!r})*{value}" for row, value in zip(rows, values, strict=True)) for j in (0, 1)]
        for i in (0, 1)
    ]
    landscape = Landscape(drift=drift, variables=("x", "y"))
    return Problem(landscape, TensorNoise(diffusion=tensor), box((cells, cells), (-3.5, 3.5)))
