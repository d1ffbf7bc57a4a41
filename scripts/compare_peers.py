"""The tools that `compare_tools` compares, and how each is used at its best.

Each `prepare` imports its tool (only in the process that measures it) and returns the whole solve.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np
import scipy.integrate as integrate
import scipy.sparse as sparse
import scipy.sparse.linalg as sparse_linalg
from compare_problems import Array, Axes, Task

import fpsolve

Solve = Callable[[], tuple[Axes, Array]]  # -> centres of the cells, density (any scale) of shape (cells, ...)


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
    """Every stepper; the tolerance bounds the error in time, which is usually far smaller. In space products only."""
    steppers = ("auto", "stabilised") if len(task.names) > 2 else ("auto", "implicit", "stabilised", "exponential")
    return dict.fromkeys(steppers, tolerances(task, 100.0, 30.0, 10.0, 3.0, 1.0, 0.3))


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
    """Few settings, since every one compiles anew (in space the Runge-Kutta rule for more than two minutes).

    A looser tolerance of the explicit rule saves next to nothing.
    """
    if len(task.names) == 1:
        return {"Runge-Kutta 4(5)": (1e-5,), "LSODA, banded": tolerances(task, 10.0, 3.0, 1.0)}
    explicit: dict[str, tuple[float, ...]] = {"Euler": (1.05,)}
    return explicit | ({"Runge-Kutta 4(5)": (1e-4,), "BDF": tolerances(task, 1.0)} if len(task.names) == 2 else {})


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
