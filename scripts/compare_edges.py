"""Compare edge formulas on three problems with known answers: why the rates are what they are.

    .venv/bin/python scripts/compare_edges.py

formulas   Scharfetter-Gummel: ln B(-Z).  midpoint: phi(1/2).  blend: midpoint up to |Z| = 2, Scharfetter-Gummel from
           6 on, their logarithms mixed between.  fpsolve: kernels.log_conductance.
problems   barrier: first-passage time in the rotated quartic well, barrier/noise 10, against the exact integral.
           transient: Ornstein-Uhlenbeck, rotated D of condition number 19, t = 1, L1 against exact cell averages.
           current: rotating tensor with a rotational drift (0.3), density at rest, L1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

import fpsolve
from fpsolve.discretise import edges
from fpsolve.model.grid import FloatArray

Formula = Callable[[FloatArray, FloatArray, FloatArray], FloatArray]
OWN = edges._rates
COSINE, SINE = math.cos(0.4), math.sin(0.4)
# First passage u = -1 -> 0.5, L = (u**2 - 1)**2, T = 0.1, by mpmath to 25 digits.
EXACT_TIME = 25473.94675616438


def log_bernoulli(z: FloatArray) -> FloatArray:
    """ln(z / (exp(z) - 1))."""
    safe = np.where(z == 0.0, 1.0, z)
    return np.where(z == 0.0, 0.0, np.log(safe / np.expm1(np.minimum(safe, 700.0))) - np.maximum(safe - 700.0, 0.0))


def scharfetter_gummel(whole: FloatArray, half: FloatArray, _bend: FloatArray) -> FloatArray:
    """The formula for a linear exponent."""
    return log_bernoulli(-whole)


def midpoint(_whole: FloatArray, half: FloatArray, _bend: FloatArray) -> FloatArray:
    """The equilibrium density at the middle."""
    return half


def blend(whole: FloatArray, half: FloatArray, bend: FloatArray) -> FloatArray:
    """Midpoint for small exponents, Scharfetter-Gummel for large ones."""
    s = np.clip((np.abs(whole) - 2.0) / 4.0, 0.0, 1.0)
    mixture = s**3 * (10.0 - 15.0 * s + 6.0 * s**2)
    return (1.0 - mixture) * half + mixture * scharfetter_gummel(whole, half, bend)


def use(formula: Formula | None) -> None:
    """Make new generators use a formula; None restores fpsolve's own."""

    def rates(weight: FloatArray, *exponent: FloatArray) -> tuple[FloatArray, FloatArray]:
        assert formula is not None
        logarithm = formula(*exponent)
        return weight * np.exp(logarithm), weight * np.exp(logarithm - exponent[0])

    edges._rates = OWN if formula is None else rates


def barrier(cells: int) -> float:
    """Relative error of the first-passage time."""
    turned = {"c": COSINE, "s": SINE}
    landscape = fpsolve.Landscape("((c*x + s*y)**2 - 1)**2 + (c*y - s*x)**2", variables=("x", "y"), parameters=turned)
    problem = fpsolve.Problem(landscape, fpsolve.ConstantNoise(temperature=0.1), square(2.4, cells))
    out = fpsolve.escape(problem, start=(-COSINE, -SINE), target="c*x + s*y > 0.5")
    return out.times["mean_first_passage_time"].value / EXACT_TIME - 1.0


def transient(cells: int) -> float:
    """L1 error of a transient."""
    diffusion = np.array([[0.1, 0.09], [0.09, 0.1]])
    landscape = fpsolve.Landscape("0.5*(x**2 + y**2)", variables=("x", "y"))
    problem = fpsolve.Problem(landscape, fpsolve.ConstantNoise(diffusion=diffusion), square(2.5, cells))
    start = fpsolve.Gaussian((0.8, -0.3), covariance=0.02 * np.eye(2))
    motion = fpsolve.evolve(problem, start, times=[1.0], tolerance=1e-3)
    covariance = 0.02 * math.exp(-2.0) * np.eye(2) + diffusion * (1.0 - math.exp(-2.0))
    mean = np.array([0.8, -0.3]) * math.exp(-1.0)
    return float(np.abs(motion.probability[-1] - cell_averages(problem.grid, mean, covariance)).sum())


def cell_averages(grid: fpsolve.Grid, mean: FloatArray, covariance: FloatArray) -> FloatArray:
    """Probability of a Gaussian in every cell, by three Gauss points an axis."""
    nodes, weights = np.array([-1.0, 0.0, 1.0]) * math.sqrt(0.6) / 2.0, np.array([5.0, 8.0, 5.0]) / 18.0
    total = np.zeros(grid.size)
    for i in range(3):
        for j in range(3):
            away = grid.positions(grid.indices() + np.array([[nodes[i]], [nodes[j]]])) - mean[:, None]
            exponent = -0.5 * np.einsum("ip,ij,jp->p", away, np.linalg.inv(covariance), away)
            total += weights[i] * weights[j] * np.exp(exponent)
    return total * grid.volumes / math.sqrt(np.linalg.det(2.0 * math.pi * covariance))


def current(cells: int) -> float:
    """L1 error of the density at rest with a rotational drift."""
    angle, first, second = "(0.9*x + 0.7*y)", "(1 + 0.5*sin(x))", "((1 + 0.5*cos(y))/20)"
    across = f"({first} - {second})*sin{angle}*cos{angle}"
    diffusion = [
        [f"{first}*cos{angle}**2 + {second}*sin{angle}**2", across],
        [across, f"{first}*sin{angle}**2 + {second}*cos{angle}**2"],
    ]
    slope = ["(2*x + 0.5*y + cos(2*x))", "(2*y + 0.5*x)"]
    drift = [
        f"-({diffusion[0][0]})*{slope[0]} - ({diffusion[0][1]})*{slope[1]} - 0.3*{slope[1]}",
        f"-({diffusion[1][0]})*{slope[0]} - ({diffusion[1][1]})*{slope[1]} + 0.3*{slope[0]}",
    ]
    noise = fpsolve.TensorNoise(diffusion=diffusion, convention="isothermal")
    problem = fpsolve.Problem(fpsolve.Landscape(drift=drift, variables=("x", "y")), noise, square(4.5, cells))
    x, y = problem.grid.positions()
    exact = np.exp(-(x**2 + y**2 + 0.5 * x * y + 0.5 * np.sin(2.0 * x)))
    return float(np.abs(fpsolve.stationary(problem).probability - exact / exact.sum()).sum())


def square(size: float, cells: int) -> fpsolve.Grid:
    """A square box of equal cells about the origin."""
    return fpsolve.Grid(x=(-size, size, cells), y=(-size, size, cells))


FORMULAS: dict[str, Formula | None] = {
    "Scharfetter-Gummel": scharfetter_gummel,
    "midpoint": midpoint,
    "blend": blend,
    "fpsolve": None,
}

if __name__ == "__main__":
    for problem, grids in ((barrier, (50, 100, 200)), (transient, (64, 128, 256)), (current, (96, 192))):
        print(f"{problem.__name__:20s}" + "".join(f"{f'{cells} x {cells}':>12s}" for cells in grids))
        for name, formula in FORMULAS.items():
            use(formula)
            print(f"  {name:18s}" + "".join(f"{problem(cells):12.1e}" for cells in grids), flush=True)
