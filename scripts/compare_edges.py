"""Compare edge formulas on problems with known answers: why the rates are what they are.

    .venv/bin/python scripts/compare_edges.py

formulas   Scharfetter-Gummel: ln B(-Z).  midpoint: phi(1/2).  blend: midpoint up to |Z| = 2, Scharfetter-Gummel from
           6 on, their logarithms mixed between.  as one: fpsolve's, but all of the drift counts as gradient.
           even: fpsolve's, but D counts as constant along every edge.  fpsolve: kernels.conductances.
problems   barrier: first-passage time in the rotated quartic well, barrier/noise 10, against the exact integral.
           louder: first-passage time on a line with D = (1 + 0.8 x**2)/12, Ito, against the exact integral.
           turning: first-passage time with a full tensor that changes from place to place, separable, exact integral.
           valley: ln(first-passage time) in a curved valley with Hessian noise, T = 0.05, extrapolated from 800 cells.
           circulating: ln(first-passage time) out of a well with drift -grad U + R grad U, T = 0.02, extrapolated.
           transient: Ornstein-Uhlenbeck, rotated D of condition number 19, t = 1, L1 against exact cell averages.
           current: rotating tensor with a rotational drift (0.3), density at rest, L1.
           torus: density at rest of a circulating drift on a torus, barrier/noise 3, L1.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

import fpsolve
from fpsolve.analyse.passage_integral import log_passage_time
from fpsolve.discretise import edges
from fpsolve.model.grid import FloatArray

Formula = Callable[[FloatArray, FloatArray, FloatArray, FloatArray], FloatArray]
OWN, OWN_EQUAL_LENGTHS = edges._rates, edges._has_equal_lengths
COSINE, SINE = math.cos(0.4), math.sin(0.4)
# First passage u = -1 -> 0.5, L = (u**2 - 1)**2, T = 0.1, by mpmath to 25 digits.
EXACT_TIME = 25473.94675616438
# Extrapolated at order 2 from 576 and 800, and from 720 and 1080 cells per axis; both before the last changes here.
LOG_TIME_OF_VALLEY, LOG_TIME_OF_CIRCULATION = 7.344681, 49.8634


def log_bernoulli(z: FloatArray) -> FloatArray:
    """ln(z / (exp(z) - 1))."""
    safe = np.where(z == 0.0, 1.0, z)
    return np.where(z == 0.0, 0.0, np.log(safe / np.expm1(np.minimum(safe, 700.0))) - np.maximum(safe - 700.0, 0.0))


def scharfetter_gummel(whole: FloatArray, *_: FloatArray) -> FloatArray:
    """The formula for a linear exponent."""
    return log_bernoulli(-whole)


def midpoint(_whole: FloatArray, half: FloatArray, *_: FloatArray) -> FloatArray:
    """The equilibrium density at the middle."""
    return half


def blend(whole: FloatArray, half: FloatArray, *_: FloatArray) -> FloatArray:
    """Midpoint for small exponents, Scharfetter-Gummel for large ones."""
    s = np.clip((np.abs(whole) - 2.0) / 4.0, 0.0, 1.0)
    mixture = s**3 * (10.0 - 15.0 * s + 6.0 * s**2)
    return (1.0 - mixture) * half + mixture * scharfetter_gummel(whole)


def use(name: str) -> None:
    """Make new generators use a formula."""
    formula = FORMULAS.get(name)

    def rates(weight: FloatArray, *exponent: FloatArray) -> tuple[FloatArray, FloatArray]:
        assert formula is not None
        logarithm = formula(*exponent)
        return weight * np.exp(logarithm), weight * np.exp(logarithm - exponent[0])

    def as_one(weight: FloatArray, *exponent: FloatArray) -> tuple[FloatArray, FloatArray]:
        return OWN(weight, *exponent[:3], np.zeros_like(weight))

    edges._rates = {"fpsolve": OWN, "even": OWN, "as one": as_one}.get(name, rates)
    even = name not in ("fpsolve", "as one")
    edges._has_equal_lengths = (lambda _: True) if even else OWN_EQUAL_LENGTHS


def barrier(cells: int) -> float:
    """Relative error of the first-passage time."""
    turned = {"c": COSINE, "s": SINE}
    landscape = fpsolve.Landscape("((c*x + s*y)**2 - 1)**2 + (c*y - s*x)**2", variables=("x", "y"), parameters=turned)
    problem = fpsolve.Problem(landscape, fpsolve.ConstantNoise(temperature=0.1), square(2.4, cells))
    return math.exp(log_time(problem, (-COSINE, -SINE), "c*x + s*y > 0.5")) / EXACT_TIME - 1.0


def louder(cells: int) -> float:
    """Relative error of the first-passage time."""
    noise = fpsolve.TensorNoise(diffusion=[["(1 + 0.8*x**2)/12"]])
    landscape = fpsolve.Landscape("(x**2 - 1)**2", variables=("x",))
    problem = fpsolve.Problem(landscape, noise, fpsolve.Grid(x=(-2.4, 2.4, cells)))
    exact = log_passage_time(problem, -1.0, (-2.4, 0.5), (False, True))
    return log_time(problem, (-1.0,), "x > 0.5") - exact


def turning(cells: int) -> float:
    """Relative error of the first-passage time."""
    q = (f"({COSINE!r}*x + {SINE!r}*y)", f"({COSINE!r}*y - {SINE!r}*x)")
    slope, values = (f"(-4*{q[0]}*({q[0]}**2 - 1))", f"(-2*{q[1]})"), (f"(1 + 0.8*{q[0]}**2)/12", f"(2 + {q[1]}**2)/8")
    rows = ((COSINE, SINE), (-SINE, COSINE))
    drift = [" + ".join(f"({row[i]!r})*{part}" for row, part in zip(rows, slope, strict=True)) for i in (0, 1)]
    tensor = [
        [" + ".join(f"({row[i] * row[j]!r})*{part}" for row, part in zip(rows, values, strict=True)) for j in (0, 1)]
        for i in (0, 1)
    ]
    noise = fpsolve.TensorNoise(diffusion=tensor)
    problem = fpsolve.Problem(fpsolve.Landscape(drift=drift, variables=("x", "y")), noise, square(3.0, cells))
    line = fpsolve.Problem(
        fpsolve.Landscape("(x**2 - 1)**2", variables=("x",)),
        fpsolve.TensorNoise(diffusion=[["(1 + 0.8*x**2)/12"]]),
        fpsolve.Grid(x=(-3.0, 3.0, 4)),
    )
    exact = log_passage_time(line, -1.0, (-3.0, 0.5), (False, True))
    return log_time(problem, (-COSINE, -SINE), f"{q[0]} > 0.5") - exact


def valley(cells: int) -> float:
    """Error of ln(first-passage time)."""
    u, v = f"({COSINE!r}*x + {SINE!r}*y)", f"({COSINE!r}*y - {SINE!r}*x)"
    landscape = fpsolve.Landscape(f"({u}**2 - 1)**2/4*(1 + 0.3*{u}) + 2*({v} - 0.3*{u}**2)**2", variables=("x", "y"))
    noise = fpsolve.HessianNoise(learning_rate=0.1, batch_size=1, projection="abs", floor=0.3)
    start = (-COSINE - 0.3 * SINE, -SINE + 0.3 * COSINE)
    return log_time(fpsolve.Problem(landscape, noise, square(2.2, cells)), start, f"{u} > 0.8") - LOG_TIME_OF_VALLEY


def circulating(cells: int) -> float:
    """Error of ln(first-passage time)."""
    landscape = fpsolve.Landscape("(x**2 - 1)**2 + y**2", variables=("x", "y"), extra_drift=["-2*y", "4*x*(x**2 - 1)"])
    # The wall of the problem with the known answer is at 0.8; beyond it lies one column of cells, to be absorbed.
    width = 3.0 / cells
    grid = fpsolve.Grid(x=(-2.2, 0.8 + width, cells + 1), y=(-2.5, 2.5, cells))
    problem = fpsolve.Problem(landscape, fpsolve.ConstantNoise(temperature=0.02), grid)
    return log_time(problem, (-1.0, 0.0), "x > 0.8") - LOG_TIME_OF_CIRCULATION


def log_time(problem: fpsolve.Problem, start: tuple[float, ...], target: str) -> float:
    """ln(mean first-passage time)."""
    found = fpsolve.escape(problem, start=start, target=target, definitions=["mean_first_passage_time"], grids=1)
    return found.times["mean_first_passage_time"].log_time


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


def torus(cells: int) -> float:
    """L1 error of the density at rest with a drift that circulates."""
    extra = ["-1.5*(-0.5*sin(y) + 0.4*sin(x - y))", "1.5*(-sin(x) - 0.4*sin(x - y))"]
    landscape = fpsolve.Landscape("cos(x) + 0.5*cos(y) + 0.4*cos(x - y)", variables=("x", "y"), extra_drift=extra)
    sides = [fpsolve.Axis(name, 0.0, 2.0 * math.pi, cells, ("periodic", "periodic")) for name in "xy"]
    grid = fpsolve.Grid(x=sides[0], y=sides[1])
    problem = fpsolve.Problem(landscape, fpsolve.ConstantNoise(temperature=0.5), grid)
    exact = np.exp(-2.0 * problem.landscape.loss(grid.positions()))
    return float(np.abs(fpsolve.stationary(problem).probability - exact / exact.sum()).sum())


def square(size: float, cells: int) -> fpsolve.Grid:
    """A square box of equal cells about the origin."""
    return fpsolve.Grid(x=(-size, size, cells), y=(-size, size, cells))


FORMULAS: dict[str, Formula] = {"Scharfetter-Gummel": scharfetter_gummel, "midpoint": midpoint, "blend": blend}
PROBLEMS = (
    (barrier, (50, 100, 200)),
    (louder, (40, 80, 160)),
    (turning, (48, 96, 192)),
    (valley, (48, 96, 192)),
    (circulating, (65, 129, 257)),
    (transient, (64, 128, 256)),
    (current, (96, 192)),
    (torus, (32, 64, 128)),
)

if __name__ == "__main__":
    for problem, grids in PROBLEMS:
        print(f"{problem.__name__:20s}" + "".join(f"{cells:12d}" for cells in grids))
        for name in (*FORMULAS, "as one", "even", "fpsolve"):
            use(name)
            print(f"  {name:18s}" + "".join(f"{problem(cells):12.1e}" for cells in grids), flush=True)
