"""Time to reach a given error: fpsolve against the tools that people use today, each in its own best setting.

    pip install -e '.[benchmark]'
    python scripts/compare_tools.py                              # everything; results kept, only missing ones are run
    python scripts/compare_tools.py --task well --tool fpsolve --again
    python scripts/compare_tools.py --table                      # only the table and the figure, from kept results

Five problems whose answers are known (`TASKS`), each with a target for the L1 error of the density at one time. A
tool climbs its ladder with every method that it offers: grids from coarse to fine, and on each from loose to tight
settings in time. A method stays on a grid while its error still falls by a tenth, goes to the grid that second order
would need next, and is done when it reaches the target or a finer grid no longer helps. The quickest setting that
reaches the target is the tool's entry, or else the one of the smallest error.

Every method runs in an interpreter of its own on one thread. It solves a small copy of the problem first (imports,
compilation: "first run"), then the whole problem from its description to the density, assembly included; the median
of up to five runs counts. py-pde compiles anew for every grid: there the compiled stepper is called on the same grid
first, and only its second run is timed. Seconds are of the processor, which other work on the machine does not
lengthen. Memory is what the timed run adds to the process at most.

All start from the same values at the cell centres, normalised. The error is the L1 distance to the exact density,
either to its averages over the cells or to its values at the centres, normalised: whichever is nearer, since some
schemes mean the one and some the other.
"""

from __future__ import annotations

import argparse
import cProfile
import ctypes
import gc
import importlib.metadata
import inspect
import itertools
import json
import math
import os
import platform
import pstats
import resource
import signal
import statistics
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import scipy.integrate as integrate
import scipy.linalg
import scipy.sparse as sparse
import scipy.sparse.linalg as sparse_linalg
from matplotlib.patches import Patch
from matplotlib.ticker import NullLocator
from scipy.special import ndtr

import fpsolve
from fpsolve.discretise.stencil import Stencil
from fpsolve.solve.elimination import Resolvent
from fpsolve.solve.krylov import Basis

HERE = Path(__file__).resolve().parent
KEPT = HERE.parent / "results" / "compare_tools"
TIME_LIMIT = (60.0, 60.0, 180.0)  # seconds of processor time of one timed run, by the number of axes
PATIENCE = 1200.0  # seconds of wall time of one process, compilation included
MEMORY_LIMIT = 14 * 2**30  # bytes of address space of one process
RUNS, ENOUGH = 5, 3.0  # timed runs at most; no further one after this many seconds
STAGNANT = 0.9  # a tighter setting or finer grid that leaves more of the error than this share does not help
SMALL = (32, 32, 10)  # cells per axis of the copy that compiles, by the number of axes
LINE = (200, 250, 320, 400, 500, 640, 800, 1000, 1280, 1600, 2000, 2560, 3200)
PLANE = (64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 576, 640)
SPACE = (24, 32, 40, 48, 56, 64, 80, 96, 112, 128)

Array = np.ndarray[Any, np.dtype[np.float64]]
Axes = tuple[Array, ...]
OfAxes = Callable[[Axes], Array]
Solve = Callable[[], tuple[Axes, Array]]  # -> centres of the cells, density (any scale) of shape (cells, ...)


# --- The problems ------------------------------------------------------------------------------------------------


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
        value = eval(expression, {"__builtins__": {}}, dict(zip(self.names, points, strict=True)))
        return np.broadcast_to(np.asarray(value, dtype=float), np.broadcast_shapes(*(p.shape for p in points)))

    def initial(self, centres: Axes) -> Array:
        """Probabilities of the cells at the start."""
        values = self.start(centres)
        return values / values.sum()


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


# --- The tools ---------------------------------------------------------------------------------------------------
# Each `prepare` imports its tool (only in the process that measures it) and returns the whole solve.


@dataclass(frozen=True)
class Tool:
    """A way to solve the tasks.

    package: what must be installed; ladder: task -> method -> settings in time, loose to tight; prepare: task, cells
    along each axis, method, setting -> the solve. own: `prepare` does all that must be done once.
    """

    package: str
    ladder: Callable[[Task], dict[str, tuple[float, ...]]]
    prepare: Callable[[Task, int, str, float], Solve]
    own: bool = False
    note: str = ""


def tolerances(task: Task, *factors: float) -> tuple[float, ...]:
    """Multiples of the target, without those that would allow anything."""
    return tuple(factor * task.target for factor in factors if factor * task.target < 1.0)


def problem_of(task: Task, cells: int) -> fpsolve.Problem:
    """The task as fpsolve states it."""
    source = {"loss": task.loss} if task.loss else {"drift": list(task.drift)}
    entries = [list(row) for row in task.diffusion]
    if task.constant:
        noise: Any = fpsolve.ConstantNoise(diffusion=np.array(entries, dtype=float))
    else:
        noise = fpsolve.TensorNoise(diffusion=entries)
    grid = fpsolve.Grid(**{name: (*ends, cells) for name, ends in zip(task.names, task.box, strict=True)})
    return fpsolve.Problem(fpsolve.Landscape(variables=task.names, **source), noise, grid)


def fpsolve_ladder(task: Task) -> dict[str, tuple[float, ...]]:
    """Every stepper there is; the tolerance bounds the error in time, which is usually far smaller."""
    loose = tolerances(task, 1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0)
    return dict.fromkeys(("auto", "implicit", "stabilised", "exponential"), loose)


def prepare_fpsolve(task: Task, cells: int, method: str, setting: float) -> Solve:
    """The public call."""

    def solve() -> tuple[Axes, Array]:
        problem, centres = problem_of(task, cells), task.centres(cells)
        start = task.initial(centres).ravel()
        motion = fpsolve.evolve(problem, start, times=[task.time], tolerance=setting, stepper=method)
        return centres, motion.probability[-1].reshape((cells,) * len(centres))

    return solve


def on_our_matrix(
    advance: Callable[[Any, Array, float, float], Array], task: Task, cells: int, setting: float
) -> Solve:
    """A solve by SciPy on fpsolve's generator: what a careful user would assemble by hand, and no worse."""

    def solve() -> tuple[Axes, Array]:
        centres = task.centres(cells)
        matrix = fpsolve.Generator.of(problem_of(task, cells)).matrix()
        start = task.initial(centres)
        return centres, advance(matrix, start.ravel(), task.time, setting).reshape(start.shape)

    return solve


def bdf(matrix: Any, start: Array, t: float, rtol: float) -> Array:
    """solve_ivp with its implicit multistep method and the sparse Jacobian."""
    found = integrate.solve_ivp(
        lambda _, p: matrix @ p, (0.0, t), start, method="BDF", jac=matrix, t_eval=[t],
        rtol=rtol, atol=1e-3 * rtol * start.max(),
    )  # fmt: skip
    return found.y[:, -1]


def crank_nicolson(matrix: Any, start: Array, t: float, steps: float) -> Array:
    """One factorisation (minimum degree, the symmetric mode: the best of SuperLU's orderings), many steps."""
    half = (0.5 * t / steps) * matrix
    unit = sparse.identity(start.size, format="csc")
    options = {"permc_spec": "MMD_AT_PLUS_A", "diag_pivot_thresh": 0.0, "options": {"SymmetricMode": True}}
    implicit, explicit = sparse_linalg.splu((unit - half).tocsc(), **options), (unit + half).tocsr()
    for _ in range(round(steps)):
        start = implicit.solve(explicit @ start)
    return start


def crank_nicolson_krylov(matrix: Any, start: Array, t: float, steps: float) -> Array:
    """In space a factorisation is out of reach; BiCGSTAB with the diagonal solves the steps."""
    half = ((0.5 * t / steps) * matrix).tocsr()
    unit = sparse.identity(start.size, format="csr")
    implicit, explicit = unit - half, unit + half
    inverse = 1.0 / implicit.diagonal()
    scaled = sparse_linalg.LinearOperator(implicit.shape, lambda vector: inverse * vector)
    for _ in range(round(steps)):
        start, failed = sparse_linalg.bicgstab(implicit, explicit @ start, start, rtol=1e-5, M=scaled)
        assert not failed
    return start


def exponential(matrix: Any, start: Array, t: float, _: float) -> Array:
    """Al-Mohy and Higham's action of the exponential, to rounding."""
    return sparse_linalg.expm_multiply(t * matrix, start)


STEPS = (8, 16, 32, 64, 128, 256, 512, 1024)


def prepare_crank_nicolson(task: Task, cells: int, method: str, setting: float) -> Solve:
    """Either way to solve the steps."""
    return on_our_matrix(crank_nicolson if method == "one LU" else crank_nicolson_krylov, task, cells, setting)


def prepare_py_pde(task: Task, cells: int, method: str, setting: float) -> Solve:
    """The equation as expressions. The walls hold p = 0: p is negligible there.

    Explicit: the adaptive Runge-Kutta-Fehlberg, and Euler with the longest stable steps, here as many as `setting`
    times the least. On a line the stiff integrator LSODA with its banded Jacobian (both documented options of the SciPy
    solver) is also offered, in a plane BDF with the pattern of the Jacobian; py-pde's own implicit solvers iterate on
    the step equation and need steps as short as the explicit ones.
    """
    import pde

    pde.config["backend.numba.multithreading"] = "never"
    grid = pde.CartesianGrid(task.box, cells)
    axes = range(len(task.names))
    terms = [f"-d_d{name}(({drift}) * p)" for name, drift in zip(task.names, task.drift, strict=True)]
    isotropic = task.constant and not task.tensor and len({task.diffusion[i][i] for i in axes}) == 1
    if isotropic:  # one operator compiles faster
        terms.append(f"{task.diffusion[0][0]} * laplace(p)")
    for i, j in () if isotropic else itertools.combinations_with_replacement(axes, 2):
        a, b, entry = task.names[i], task.names[j], task.diffusion[i][j]
        if entry != "0":
            scaled = f"({entry}) * {{}}" if task.constant else "{}"
            inner = "p" if task.constant else f"({entry}) * p"
            terms.append(scaled.format(f"d2_d{a}2({inner})" if i == j else f"2 * d_d{a}(d_d{b}({inner}))"))
    equation = pde.PDE({"p": " + ".join(terms)}, bc={"value": 0})
    centres = tuple(grid.axes_coords)
    start = pde.ScalarField(grid, task.initial(centres) / grid.cell_volumes)
    step = 1e-6 * task.time
    if method == "Runge-Kutta 4(5)":
        solver = pde.RungeKuttaSolver(equation, backend="numba", adaptive=True, tolerance=setting)
    elif method == "Euler":
        solver = pde.EulerSolver(equation, backend="numba")
        step = task.time / math.ceil(setting * stable_steps(task, cells))
    else:
        # Errors are allowed where p is small: its largest value sets the scale.
        options: dict[str, Any] = {"rtol": setting, "atol": 1e-3 * setting * float(start.data.max())}
        if method == "LSODA, banded":
            options |= {"method": "LSODA", "lband": 1, "uband": 1}
        else:
            options |= {"method": "BDF", "jac_sparsity": stencil(cells, len(task.names), task.tensor)}
        solver = pde.ScipySolver(equation, backend="numba", **options)
    stepper = solver.make_stepper(start, dt=step)
    stepper(start.copy(), 0.0, 2.0 * step)  # compiles

    def solve() -> tuple[Axes, Array]:
        state = start.copy()
        stepper(state, 0.0, task.time)
        return centres, np.array(state.data)

    return solve


def stable_steps(task: Task, cells: int) -> float:
    """How many steps of Euler's rule with central differences are just stable (constant D): diffusion, then drift."""
    points = np.ix_(*task.centres(cells))
    largest = [float(task.diffusion[axis][axis]) for axis in range(len(points))]
    widths = [(high - low) / cells for low, high in task.box]
    spread = sum(2.0 * d / width**2 for d, width in zip(largest, widths, strict=True))
    least = np.linalg.eigvalsh(np.array(task.diffusion, dtype=float))[0]
    carried = sum(np.max(task.evaluate(entry, points) ** 2) for entry in task.drift) / (2.0 * least)
    return task.time * max(spread, float(carried))


def stencil(cells: int, axes: int, corners: bool) -> Any:
    """Which cells touch each other: the pattern of the Jacobian."""
    line = sparse.diags([1.0, 1.0, 1.0], [-1, 0, 1], shape=(cells, cells))
    if corners or axes == 1:
        return reduce(sparse.kron, [line] * axes).tocsr()
    unit = sparse.identity(cells)
    return sum(reduce(sparse.kron, [line if i == j else unit for j in range(axes)]) for i in range(axes)).tocsr()


def prepare_fipy(task: Task, cells: int, method: str, setting: float) -> Solve:
    """Finite volumes: the exponential scheme with implicit Euler, or central differences with Crank-Nicolson.

    Direct solution on a line, BiCGSTAB elsewhere (FiPy would repeat the LU every step; an incomplete LU takes longer
    than it saves). With a tensor every step is swept three times, since FiPy takes mixed derivatives at the last value.
    """
    os.environ["FIPY_SOLVERS"] = "scipy"
    import fipy

    axes, steps = len(task.names), round(setting)

    def solve() -> tuple[Axes, Array]:
        make = (fipy.Grid1D, fipy.Grid2D, fipy.Grid3D)[axes - 1]
        sizes = {f"d{name}": (high - low) / cells for name, (low, high) in zip(task.names, task.box, strict=True)}
        mesh = make(**sizes, **{f"n{name}": cells for name in task.names}) + [[low] for low, _ in task.box]
        centres = task.centres(cells)
        density = fipy.CellVariable(mesh=mesh, value=task.initial(centres).T.ravel(), hasOld=True)
        equation = fipy_equation(task, mesh, density, method)
        if axes == 1:
            solver = fipy.LinearLUSolver(tolerance=1e-10)
        else:
            solver = fipy.LinearBicgstabSolver(tolerance=1e-6, iterations=1000, precon=None)
        for _ in range(steps):
            density.updateOld()
            for _ in range(3 if task.tensor else 1):
                equation.sweep(var=density, solver=solver, dt=task.time / steps)
        return centres, np.array(density.value).reshape((cells,) * axes).T

    return solve


def fipy_equation(task: Task, mesh: Any, density: Any, method: str) -> Any:
    """dp/dt = div (D grad p - v p). FiPy's terms are implicit; the other half is taken at the old value, as fluxes.

    FiPy's own term for a tensor takes mixed derivatives by harmonic means of gradients, at the value before the sweep
    and as a whole: no scheme of second order can be made of it. Here they are fluxes by faceGrad, half old, half new.
    """
    import fipy

    faces, axes = np.asarray(mesh.faceCenters.value), len(task.names)
    drift = np.array([task.evaluate(entry, faces) for entry in task.drift])
    tensor = np.array([[task.evaluate(entry, faces) for entry in row] for row in task.diffusion])
    if not task.constant:  # on a line: div grad (D p) = div (D grad p + D' p)
        above, below = (task.evaluate(task.diffusion[0][0], [faces[0] + shift]) for shift in (1e-5, -1e-5))
        drift[0] -= (above - below) / 2e-5
    velocity = fipy.FaceVariable(mesh=mesh, rank=1, value=drift)
    upright = np.einsum("iif->if", tensor)
    if method != "Crank-Nicolson":
        spreading = fipy.DiffusionTerm(coeff=fipy_coefficient(mesh, tensor if task.tensor else upright))
        return fipy.TransientTerm() + fipy.ExponentialConvectionTerm(coeff=velocity) == spreading
    flux = -velocity * density.old.arithmeticFaceValue
    for axis in range(axes):
        flux = flux + fipy.FaceVariable(mesh=mesh, rank=1, value=tensor[:, axis]) * density.old.faceGrad[axis]
        if task.tensor:
            oblique = tensor[:, axis] * (np.arange(axes) != axis)[:, None]
            flux = flux + fipy.FaceVariable(mesh=mesh, rank=1, value=oblique) * density.faceGrad[axis]
    inside = fipy.FaceVariable(mesh=mesh, value=1.0 - mesh.exteriorFaces.value)  # no flux through the walls
    implicit = fipy.DiffusionTerm(coeff=fipy_coefficient(mesh, upright))
    implicit = implicit - fipy.CentralDifferenceConvectionTerm(coeff=velocity)
    return fipy.TransientTerm() == 0.5 * implicit + 0.5 * (flux * inside).divergence


def fipy_coefficient(mesh: Any, entries: Array) -> Any:
    """A coefficient of diffusion for FiPy: a number per face on a line or where all axes agree, else a tensor."""
    import fipy

    if entries.ndim == 2 and (entries == entries[0]).all():
        return fipy.FaceVariable(mesh=mesh, value=entries[0])
    tensor = entries if entries.ndim == 3 else np.eye(len(entries))[:, :, None] * entries
    return [fipy.FaceVariable(mesh=mesh, rank=2, value=tensor)]


def prepare_fplanck(task: Task, cells: int, method: str, setting: float) -> Solve:
    """Hops between neighbours, the exponential by expm_multiply. Temperature 1/k: D = 1 / drag, force = drift * drag.

    A loss goes in as the potential where D is isotropic; a force serves elsewhere. Coordinates are about the middle.
    """
    import fplanck.solver
    from scipy import constants

    middle = [0.5 * (low + high) for low, high in task.box]
    steps = [(high - low) / cells for low, high in task.box]

    def at(points: Sequence[Array]) -> list[Array]:
        return [point + shift for point, shift in zip(points, middle, strict=True)]

    def drag(*points: Array) -> Array:
        return np.array([1.0 / task.evaluate(row[i], at(points)) for i, row in enumerate(task.diffusion)])

    def force(*points: Array) -> Array:
        return np.array([task.evaluate(entry, at(points)) for entry in task.drift]) * drag(*points)

    isotropic = task.constant and task.loss and len({task.diffusion[i][i] for i in range(len(task.names))}) == 1

    def potential(*points: Array) -> Array:
        return task.evaluate(str(task.loss), at(points)) / float(task.diffusion[0][0])

    def solve() -> tuple[Axes, Array]:
        centres = task.centres(cells)
        extent = [(cells - 0.5) * step for step in steps]  # half a cell less: ceil must not add one
        pull = {"potential": potential} if isotropic else {"force": force}
        simulation = fplanck.solver.FokkerPlanck(
            temperature=1.0 / constants.k, drag=drag, extent=extent, resolution=np.array(steps), **pull
        )
        return centres, simulation.propagate(lambda *_: task.initial(centres), task.time)

    return solve


def prepare_pyddm(task: Task, cells: int, method: str, setting: float) -> Solve:
    """Drift and noise on [-B, B] about the middle, by the compiled implicit Euler (Crank-Nicolson keeps no density).

    PyDDM takes one more step than T_dur / dt, so T_dur is one step short. Its matrix for noise n that depends on x
    stands for half (n**2 p')' + (n**2)'' p / 8, which is no convention of a diffusion. "Ito by hand" makes up for it
    by the drift -(n**2)'/2 and by normalising, which is exact where (n**2)'' is constant.
    """
    import pyddm

    (low, high), steps = task.box[0], round(setting)
    middle, dt, dx = 0.5 * (low + high), task.time / steps, (high - low) / cells

    def diffusion(where: Array) -> Array:
        return task.evaluate(task.diffusion[0][0], [where])

    class TaskDrift(pyddm.Drift):
        name, required_parameters = "drift of the task", ()

        def get_drift(self, x: Array, **_: Any) -> Array:
            where = np.asarray(x, dtype=float) + middle
            slope = (diffusion(where + 1e-5) - diffusion(where - 1e-5)) / 2e-5
            return task.evaluate(task.drift[0], [where]) - (slope if "by hand" in method else 0.0)

    class TaskNoise(pyddm.Noise):
        name, required_parameters = "noise of the task", ()

        def get_noise(self, x: Array, **_: Any) -> Array:
            return np.sqrt(2.0 * diffusion(np.asarray(x, dtype=float) + middle))

    class TaskStart(pyddm.InitialCondition):
        name, required_parameters = "start of the task", ()

        def get_IC(self, x: Array, *_: Any, **__: Any) -> Array:  # noqa: N802
            return task.initial((x + middle,))

    noise = pyddm.NoiseConstant(noise=math.sqrt(2.0 * float(task.diffusion[0][0]))) if task.constant else TaskNoise()

    def solve() -> tuple[Axes, Array]:
        model = pyddm.Model(
            drift=TaskDrift(), noise=noise, bound=pyddm.BoundConstant(B=0.5 * (high - low)), IC=TaskStart(),
            dx=dx, dt=dt, T_dur=task.time - dt,
        )  # fmt: skip
        return (model.x_domain({}) + middle,), np.asarray(model.solve_numerical_c().pdf_undec())

    return solve


def pyddm_ladder(task: Task) -> dict[str, tuple[float, ...]]:
    """On a line only; numbers of steps."""
    if len(task.names) > 1:
        return {}
    steps = (1e3, 1e4, 1e5, 3e5)
    return {"implicit Euler": steps} if task.constant else {"implicit Euler": steps[:2], "Ito by hand": steps}


def py_pde_ladder(task: Task) -> dict[str, tuple[float, ...]]:
    """Few settings, since every one compiles anew. A looser tolerance of the explicit rule saves next to nothing."""
    explicit: dict[str, tuple[float, ...]] = {"Runge-Kutta 4(5)": (1e-5 if len(task.names) == 1 else 1e-4,)}
    if len(task.names) == 1:
        return explicit | {"LSODA, banded": tolerances(task, 10.0, 3.0, 1.0)}
    explicit["Euler"] = (1.05,)
    return explicit | ({"BDF": tolerances(task, 1.0)} if len(task.names) == 2 else {})


def fipy_ladder(task: Task) -> dict[str, tuple[float, ...]]:
    """Numbers of steps."""
    steps = ((64, 128, 256, 512), (16, 32, 64), (8, 16))[len(task.names) - 1]
    return {"Crank-Nicolson": steps, "exponential, implicit Euler": steps[::2]}


def fplanck_ladder(task: Task) -> dict[str, tuple[float, ...]]:
    """No settings in time, no tensors."""
    return {} if task.tensor else {"expm_multiply": (0.0,)}


TOOLS = {
    "fpsolve": Tool("fpsolve", fpsolve_ladder, prepare_fpsolve),
    "py-pde": Tool("py-pde", py_pde_ladder, prepare_py_pde, own=True),
    "FiPy": Tool("fipy", fipy_ladder, prepare_fipy),
    # (On the small copy of the well fplanck's rates, exponentials of the potential's steps, are beyond expm_multiply.)
    "fplanck": Tool("fplanck", fplanck_ladder, prepare_fplanck, own=True, note="diagonal D only"),
    "PyDDM": Tool("pyddm", pyddm_ladder, prepare_pyddm, note="one dimension only"),
    "SciPy BDF": Tool(
        "scipy",
        lambda task: {"solve_ivp": tolerances(task, 100.0, 10.0, 1.0, 0.1)},
        lambda task, cells, _, setting: on_our_matrix(bdf, task, cells, setting),
    ),
    "SciPy Crank-Nicolson": Tool(
        "scipy", lambda task: {"one LU" if len(task.names) < 3 else "BiCGSTAB": STEPS}, prepare_crank_nicolson
    ),
    "SciPy expm_multiply": Tool(
        "scipy",
        lambda _: {"expm_multiply": (0.0,)},
        lambda task, cells, _, setting: on_our_matrix(exponential, task, cells, setting),
    ),
}


# --- One measurement, in a process of its own --------------------------------------------------------------------


def resident(which: str) -> float:
    """Memory of this process [MiB]: now (VmRSS) or at most so far (VmHWM)."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(which)) / 2**10


def compared(task: Task, centres: Axes, density: Array) -> dict[str, float]:
    """L1 error to the nearer of averages and values, and the smallest value relative to the largest."""
    halves = [0.5 * (axis[1] - axis[0]) for axis in centres]
    faces = tuple(np.append(axis - half, axis[-1] + half) for axis, half in zip(centres, halves, strict=True))
    found = density / density.sum()
    references = (task.averages(faces), task.values(centres))
    errors = [float(np.abs(found - exact / exact.sum()).sum()) for exact in references]
    return {"error": min(errors), "smallest": float(found.min() / found.max())}


def serve(task: Task, tool: Tool, method: str) -> None:
    """Measure every "cells setting" that comes in, a line of JSON each; the first compiles."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    warnings.simplefilter("ignore")
    answers, sys.stdout = sys.stdout, sys.stderr  # tools may print
    warm = tool.own
    for line in sys.stdin:
        cells, setting = line.split()
        try:
            found = measure(task, tool, int(cells), method, float(setting), warm)
        except MemoryError:
            found = {"failed": f"not within {MEMORY_LIMIT >> 30} GiB"}
        except Exception as error:
            found = {"failed": f"{type(error).__name__}: {error}"[:160]}
        warm = True
        print(json.dumps(found), file=answers, flush=True)


def measure(task: Task, tool: Tool, cells: int, method: str, setting: float, warm: bool) -> dict[str, Any]:
    """Seconds, memory and error of one setting."""
    began = time.perf_counter()
    if not warm:
        tool.prepare(task, SMALL[len(task.names) - 1], method, setting)()
    solve = tool.prepare(task, cells, method, setting)
    first = time.perf_counter() - began
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what an earlier run freed must not serve this one unseen
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak so far
    times: list[float] = []
    walls: list[float] = []
    signal.setitimer(signal.ITIMER_PROF, task.limit)  # ends this process when a run takes too long
    while len(times) < RUNS and sum(times) < ENOUGH:
        began, clock = time.process_time(), time.perf_counter()
        centres, density = solve()
        times.append(time.process_time() - began)
        walls.append(time.perf_counter() - clock)
        if len(times) == 1:
            signal.setitimer(signal.ITIMER_PROF, 0.0)
            memory = resident("VmHWM") - before
    found = compared(task, centres, density)
    if not math.isfinite(found["error"]):
        return {"failed": "unstable"}
    seconds = {"seconds": statistics.median(times), "wall": statistics.median(walls), "first": first}
    return {**seconds, "memory": memory, **found}


class Bench:
    """A process that measures one method of a tool on one task; it starts anew when a run takes too long."""

    def __init__(self, task: str, tool: str, method: str) -> None:
        self.limit, self.process = tasks()[task].limit, None
        self.command = [sys.executable, __file__, "--serve", task, tool, method]

    def __call__(self, cells: int, setting: float) -> dict[str, Any]:
        """One measurement, or why there is none."""
        if self.process is None:
            one = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "OPENBLAS", "MKL", "NUMBA")}
            environment = {**os.environ, **one, "PYTHONPATH": str(HERE.parent)}
            pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
            self.process = subprocess.Popen(self.command, env=environment, text=True, **pipes)
        print(cells, repr(setting), file=self.process.stdin, flush=True)
        timer = threading.Timer(PATIENCE, self.process.kill)
        timer.start()
        answer = self.process.stdout.readline()
        timer.cancel()
        if answer:
            return json.loads(answer)
        code, self.process = self.process.wait(), None
        known = {-signal.SIGPROF: f"not within {self.limit:g} s", -signal.SIGKILL: f"not within {PATIENCE:g} s in all"}
        return {"failed": known.get(code, f"ended with {code}")}

    def close(self) -> None:
        """End the process."""
        if self.process is not None:
            self.process.stdin.close()
            self.process.wait()


# --- The search --------------------------------------------------------------------------------------------------


def installed(tool: Tool) -> bool:
    """Whether the package is there."""
    try:
        importlib.metadata.version(tool.package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def climb(name: str, task: Task, tool: str, kept: dict[str, Any], again: bool) -> Iterator[str]:
    """Run a tool up its ladder; one line per setting, results into `kept`."""
    for method, settings in TOOLS[tool].ladder(task).items():
        cells, best = task.grids[0], math.inf  # smallest error on the grids so far
        bench = Bench(name, tool, method)
        while cells:
            found: dict[str, Any] = {}
            here = math.inf  # smallest error on this grid
            for setting in settings:
                key = "|".join((name, tool, method, str(cells), f"{setting:.6g}"))
                if again or key not in kept:
                    kept[key] = bench(cells, setting)
                    save(tool, kept)
                found = kept[key]
                yield f"{key:70s} {short(found)}"
                error = found.get("error", math.inf)
                stuck = not error <= STAGNANT * here
                here = min(here, error)
                if error <= task.target or stuck:
                    break
            if here <= task.target or not here <= STAGNANT * best:
                break
            best = here
            cells = next_grid(task, cells, here)
        bench.close()


def next_grid(task: Task, cells: int, error: float) -> int:
    """The grid on which an error of second order would be the target's; the finest if none is; 0 after that."""
    finer = [grid for grid in task.grids if grid > cells]
    if not math.isfinite(error):  # failed: too coarse, perhaps
        return next((grid for grid in finer if grid >= 1.4 * cells), 0)
    enough = (grid for grid in finer if error * (cells / grid) ** 2 <= task.target)
    return next(enough, finer[-1] if finer else 0)


def short(found: dict[str, Any]) -> str:
    """A result in a line."""
    if "error" not in found:
        return str(found["failed"])
    text = f"error {found['error']:.2e}  {found['seconds']:8.3f} s (first {found['first']:.1f} s)  "
    return text + f"{found['memory']:6.0f} MiB  smallest {found['smallest']:.1e}"


def load(tools: Iterable[str]) -> dict[str, Any]:
    """What was kept of some tools."""
    files = [file for file in (KEPT / f"{tool}.json" for tool in tools) if file.exists()]
    return {key: row for file in files for key, row in json.loads(file.read_text(encoding="utf-8")).items()}


def save(tool: str, kept: dict[str, Any]) -> None:
    """Keep the results of a tool, in a file of its own: several may be run at a time."""
    KEPT.mkdir(parents=True, exist_ok=True)
    mine = {key: row for key, row in kept.items() if key.split("|")[1] == tool}
    (KEPT / f"{tool}.json").write_text(json.dumps(mine, indent=1), encoding="utf-8")


# --- Where fpsolve's time goes -----------------------------------------------------------------------------------

# What a stage consists of: functions none of which calls another one of the list.
STAGES: dict[str, tuple[Callable[..., Any], ...]] = {
    "problem": (problem_of,),
    "generator": (fpsolve.Generator.of,),
    "plan and factors": (Resolvent.of,),
    "solves": (Resolvent.solve,),
    "small matrices": (Basis.change, Basis.approximation),
    "stencil": (Stencil.of,),
    "products": (Stencil.advance, fpsolve.Generator.apply),
}


def profile(task: Task, cells: int, method: str, setting: float) -> dict[str, float]:
    """Milliseconds of processor time of every stage of a solve, by cProfile; the rest, and all."""
    solve = prepare_fpsolve(task, cells, method, setting)
    solve()
    watch = cProfile.Profile(time.process_time)
    watch.runcall(solve)
    rows: Any = pstats.Stats(watch).stats  # type: ignore[attr-defined]
    spent = {where: row[3] for where, row in rows.items()}  # cumulative
    found = {stage: 1e3 * sum(spent.get(place(part), 0.0) for part in parts) for stage, parts in STAGES.items()}
    total = 1e3 * sum(row[2] for row in rows.values())
    return found | {"rest": total - sum(found.values()), "all": total}


def place(function: Callable[..., Any]) -> tuple[str, int, str]:
    """The name of a function in a profile."""
    code = inspect.unwrap(getattr(function, "__func__", function)).__code__
    return code.co_filename, code.co_firstlineno, code.co_name


def profiles(every: dict[str, Task], kept: dict[str, Any]) -> str:
    """The stages of fpsolve's best setting for every task, in Markdown."""
    lines = ["| [ms] | " + " | ".join((*STAGES, "rest", "all")) + " |", "|---|" + "---:|" * (len(STAGES) + 2)]
    for name, task in every.items():
        key = best(name, task, "fpsolve", kept)
        if key:
            _, _, method, cells, setting = key.split("|")
            spent = profile(task, int(cells), method, float(setting))
            row = " | ".join(f"{value:.3g}" for value in spent.values())
            lines.append(f"| {name}: {described(key, len(task.names))} | {row} |")
    return "\n".join(lines)


# --- The table and the figure ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """What a tool can do for a task: its best setting, or the reason for none."""

    tool: str
    setting: str
    found: dict[str, Any]
    reached: bool


def best(name: str, task: Task, tool: str, kept: dict[str, Any]) -> str:
    """A tool's entry: the quickest setting that reaches the target, or else the nearest to it; empty where none ran."""
    done = {key: row for key, row in kept.items() if key.startswith(f"{name}|{tool}|") and "failed" not in row}
    good = {key: row for key, row in done.items() if row["error"] <= task.target}
    if good:
        return min(good, key=lambda key: good[key]["seconds"])
    return min(done, key=lambda key: done[key]["error"], default="")


def entries(name: str, task: Task, kept: dict[str, Any]) -> list[Entry]:
    """The entries of all tools."""
    result = []
    for tool, entry in TOOLS.items():
        key = best(name, task, tool, kept)
        rows = [row for key, row in kept.items() if key.startswith(f"{name}|{tool}|")]
        if key:
            result.append(Entry(tool, described(key, len(task.names)), kept[key], kept[key]["error"] <= task.target))
        elif not entry.ladder(task):
            result.append(Entry(tool, "", {"failed": entry.note}, False))
        else:
            reason = rows[0]["failed"] if rows else "not run" if installed(entry) else "not installed"
            result.append(Entry(tool, "", {"failed": reason}, False))
    return result


def described(key: str, axes: int) -> str:
    """A setting in words."""
    _, _, method, cells, setting = key.split("|")
    size = cells + ("", "²", "³")[axes - 1]
    value = float(setting)
    if value == 0.0 or method == "Euler":
        return f"{size}, {method}"
    time_setting = f", {value:g} steps" if value >= 2.0 else f", tolerance {value:.0e}"
    return f"{size}, {method}{time_setting}"


HEADER = ("tool", "setting", "L1 error", "processor [s]", "wall [s]", "times fpsolve", "MiB", "smallest p / largest")


def cells_of(entry: Entry, ours: float | None) -> tuple[str, ...]:
    """One row of the table."""
    found = entry.found
    if "error" not in found:
        return (entry.tool, str(found["failed"]), *[""] * (len(HEADER) - 2))
    slower = "misses" if not entry.reached else f"{found['seconds'] / ours:.2g}" if ours else "-"
    smallest = "0" if found["smallest"] == 0.0 else f"{found['smallest']:.0e}"
    return (
        entry.tool, entry.setting, f"{found['error']:.1e}", f"{found['seconds']:.3g}", f"{found['wall']:.3g}", slower,
        f"{found['memory']:.0f}", smallest,
    )  # fmt: skip


def machine() -> str:
    """Processor and versions, in a sentence."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    packages = sorted({"numpy", "numba"} | {tool.package for tool in TOOLS.values() if installed(tool)})
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    return f"{next(names, platform.machine())}, one thread; Python {platform.python_version()}, {versions}."


def table(every: dict[str, Task], kept: dict[str, Any]) -> str:
    """All tasks in Markdown."""
    lines = [
        "# Time to reach a given error",
        "",
        "Written by `scripts/compare_tools.py`, whose head says how: whole solve of one density at one time, quickest",
        'setting of a short ladder that reaches the target, else ("misses") the one of the smallest error within',
        f"{TIME_LIMIT[0]:g} s ({TIME_LIMIT[2]:g} s in space) and {MEMORY_LIMIT >> 30} GiB. Compilation and imports are",
        "not counted.",
        "The SciPy rows use fpsolve's own generator as their matrix.",
        "",
        machine(),
    ]
    for name, task in every.items():
        rows = entries(name, task, kept)
        ours = next((e.found["seconds"] for e in rows if e.tool == "fpsolve" and e.reached), None)
        lines += ["", f"## {task.title}: L1 error {task.target:g} at t = {task.time:g}", ""]
        lines += ["| " + " | ".join(HEADER) + " |", "|---|---|" + "---:|" * (len(HEADER) - 2)]
        lines += ["| " + " | ".join(cells_of(entry, ours)) + " |" for entry in rows]
    return "\n".join(lines) + "\n"


SHORTEST = 1e-3  # seconds, the left end of the axis
GOOD, BAD, OURS = "#4c78a8", "#d9d9d9", "#e45756"


def draw(every: dict[str, Task], kept: dict[str, Any]) -> None:
    """One panel per task: seconds of every tool, on a logarithmic axis."""
    size = (9.0, 2.05 * len(every) + 0.8)
    figure, panels = plt.subplots(len(every), 1, figsize=size, layout="constrained", sharex=True)
    for panel, (name, task) in zip(panels, every.items(), strict=True):
        rows = entries(name, task, kept)
        for row, entry in enumerate(rows):
            _bar(panel, row, entry, task.limit)
        panel.set_yticks(range(len(rows)), [entry.tool for entry in rows], fontsize=9)
        panel.set_ylim(len(rows) - 0.4, -0.6)
        panel.set_title(f"{task.title}; target: L1 error {task.target:g}", fontsize=10, loc="left")
        panel.set_xscale("log")
        panel.set_xlim(SHORTEST, 300.0 * TIME_LIMIT)  # room for the words
        panel.set_xticks([10.0**k for k in range(-3, 3)])
        panel.xaxis.set_minor_locator(NullLocator())
        panel.grid(axis="x", alpha=0.3)
        panel.axvline(TIME_LIMIT, color="#888888", linewidth=0.8, linestyle=":")
        panel.spines[["top", "right"]].set_visible(False)
    panels[-1].set_xlabel(
        f"processor time of the whole solve, compilation excluded [s] (dotted: the limit, {TIME_LIMIT:g} s)"
    )
    handles = [
        Patch(color=OURS, label="fpsolve"),
        Patch(color=GOOD, label="reaches the target"),
        Patch(facecolor=BAD, edgecolor="#888888", hatch="///", label="misses it: the smallest error within the limits"),
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=3, frameon=False, fontsize=9)
    figure.savefig(HERE / "compare_tools.png", dpi=140)


def _bar(panel: Any, row: int, entry: Entry) -> None:
    found = entry.found
    if "error" not in found:
        panel.text(1.2 * SHORTEST, row, str(found["failed"]), va="center", fontsize=8, color="#777777", style="italic")
        return
    colour = OURS if entry.tool == "fpsolve" else GOOD
    style = {"color": colour} if entry.reached else {"facecolor": BAD, "edgecolor": "#888888", "hatch": "///"}
    panel.barh(row, found["seconds"], height=0.7, **style)
    words = f"{found['seconds']:.2g} s"
    if not entry.reached:
        words += f", error {found['error']:.1e}"
    if found["smallest"] < -1e-6:
        words += f", smallest p {found['smallest']:.0e} of the largest"
    panel.text(found["seconds"] * 1.15, row, words, va="center", fontsize=8)


def main() -> None:
    """Run what is missing, then write the table and the figure."""
    every = tasks()
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--task", choices=every, action="append", help="only this problem (may be repeated)")
    parser.add_argument("--tool", choices=TOOLS, action="append", help="only this tool (may be repeated)")
    parser.add_argument("--again", action="store_true", help="run again what is kept")
    parser.add_argument("--table", action="store_true", help="run nothing")
    parser.add_argument("--profile", action="store_true", help="only print where fpsolve's time goes")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        name, tool, method = chosen.serve
        serve(every[name], TOOLS[tool], method)
        return
    if chosen.profile:
        print(profiles({name: every[name] for name in chosen.task or every}, load(["fpsolve"])))
        return
    for name, tool in itertools.product(chosen.task or every, () if chosen.table else chosen.tool or TOOLS):
        if not installed(TOOLS[tool]):
            print(f"{tool} is not installed: skipped")
            continue
        for line in climb(name, every[name], tool, load([tool]), chosen.again):
            print(line, flush=True)
    kept = load(TOOLS)
    text = table(every, kept)
    print("\n" + text)
    (HERE / "compare_tools.md").write_text(text, encoding="utf-8")
    draw(every, kept)


if __name__ == "__main__":
    main()
