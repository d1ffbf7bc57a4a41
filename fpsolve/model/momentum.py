"""Phase space: a one-parameter loss with momentum, the underdamped equation of position and velocity.

    dx = V dt,    mass dV = -(friction V + L'(x)) dt + sqrt(2 D) dW,    D the diffusion of the one-parameter noise

SGD with heavy ball v <- beta v - g, x <- x + learning_rate v, one step of which takes the time learning_rate (the clock
of SGD without momentum), is this with velocity V = v, mass = learning_rate and friction = 1 - beta. Where D is
constant, the density at rest is exp(-E/T) with the energy E = mass V**2/2 + L and T = D / friction; without mass
(friction = 1) that is the equation of the position alone.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Self, TypeAlias, final

import numpy as np

from fpsolve.errors import CaseError
from fpsolve.model.fields import Field
from fpsolve.model.grid import Axis, FloatArray, Grid
from fpsolve.model.inertia import Inertia
from fpsolve.model.initial import AbstractInitial, Gaussian, Point
from fpsolve.model.landscape import PARTS_OF_DATA, Landscape
from fpsolve.model.noise import AbstractNoise, ConstantNoise, Diffusion
from fpsolve.model.problem import Problem
from fpsolve.model.schedule import Course

PREFIX = "velocity_"  # of the name of the axis that is gained
THERMAL_VELOCITIES = 6.0  # how far an axis of velocities reaches that nobody gave
FEWEST_CELLS = 32  # of such an axis; it has half the cells of the position, if that is more

# a L^(k)(x) + b V + c V**2 + d, as (a, k, b, c, d).
Entry: TypeAlias = tuple[float, int, float, float, float]


@final
@dataclass(frozen=True, kw_only=True)
class Momentum:
    """Mass and friction; or beta, of which both follow with the learning rate of the noise.

    beta : in [0, 1): friction = 1 - beta, mass = the learning rate.
    friction : above 0, of m dV = -(friction V + L') dt + noise; mass: above 0, 1 unless given [time].
    """

    beta: float | None = None
    friction: float | None = None
    mass: float | None = None

    def __post_init__(self) -> None:
        if (self.beta is None) == (self.friction is None):
            found = "neither beta nor friction is given" if self.beta is None else "both beta and friction are given"
            raise CaseError("momentum", found, "Exactly one of them is needed", "")
        if self.beta is not None and self.mass is not None:
            required = "With beta, the mass is the learning rate"
            raise CaseError("momentum.mass", "it has no effect beside beta", required, "Remove it, or give friction")
        if self.beta is not None and not 0.0 <= self.beta < 1.0:
            raise CaseError("momentum.beta", f"it is {self.beta:g}", "It must be at least 0 and below 1", "")
        for name in ("friction", "mass"):
            value = getattr(self, name)
            if value is not None and not (value > 0.0 and np.isfinite(value)):
                raise CaseError(f"momentum.{name}", f"it is {value:g}", "It must be a finite number above 0", "")

    def with_noise(self, noise: AbstractNoise) -> Inertia:
        """Mass and friction, with the learning rate of a noise. Raises CaseError where there is none, or it changes."""
        if self.beta is None:
            assert self.friction is not None
            return Inertia(1.0 if self.mass is None else self.mass, self.friction)
        rate = noise.learning_rate
        if not isinstance(rate, int | float):
            found = "there is no learning rate" if rate is None else "the learning rate changes in time"
            required = "With beta, the mass is the learning rate, a number"
            raise CaseError("momentum.beta", found, required, "Give friction and mass instead")
        return Inertia(noise.number("learning_rate"), 1.0 - self.beta)

    def problem(self, landscape: Landscape, noise: AbstractNoise, grid: Grid) -> Problem:
        """The problem in phase space of a one-parameter problem.

        grid: of the position x and velocity_x, or of the position alone: then there are six thermal velocities to
        either side. A `temperature` of the noise is that of exp(-E/T).

        Raises CaseError where the landscape has no loss or several parameters, a mobility or a further drift.
        """
        _check_landscape(landscape)
        line = Grid(None, domain=None, **{axis.name: axis for axis in grid.axes[:1]})
        position = Problem(landscape, noise, line)  # checked, and sampled where that is dear
        inertia = self.with_noise(noise)
        base = position.whole[0].tabulated(line)
        moving = PhaseNoise(
            inner=noise, inertia=inertia, position=base, learning_rate=noise.learning_rate, injected=noise.injected
        )
        name = PREFIX + landscape.variables[0]
        if grid.dimensions == 1:
            velocity = velocity_axis(position, inertia, name)
            grid = Grid(None, domain=None, **{line.names[0]: line.axes[0], name: velocity})
        if grid.dimensions == 2 and grid.axes[1].walls != ("reflecting", "reflecting"):
            found = f"the walls of {name} are {' and '.join(grid.axes[1].walls)}"
            raise CaseError(f"walls.{name}", found, "Velocities have no walls but reflecting ones, far out", "")
        return Problem(phase_landscape(base, inertia), moving, grid)


def velocity_diffusion(noise: AbstractNoise, inertia: Inertia, diffusion: FloatArray) -> FloatArray:
    """The diffusion of the velocity, D / mass**2 [length**2/time**3], of D (...).

    A temperature T given as such is to be that at rest: D = friction T then.
    """
    given = noise.number("temperature") if isinstance(noise, ConstantNoise) and noise.diffusion is None else 0.0
    return np.asarray((diffusion + (inertia.friction - 1.0) * given) / inertia.mass**2)


def velocity_axis(position: Problem, inertia: Inertia, name: str) -> Axis:
    """An axis of velocities that holds six thermal ones to either side, by the largest noise on the grid."""
    largest = velocity_diffusion(position.noise, inertia, position.diffusion_at_cells[0, 0]).max()
    reach = THERMAL_VELOCITIES * float(np.sqrt(inertia.temperature(largest) / inertia.mass))
    if reach == 0.0:
        raise CaseError(f"grid.{name}", "nothing says how wide it is", "There is no noise", f"Give grid.{name}")
    return Axis(name, -reach, reach, max(FEWEST_CELLS, 2 * ((position.grid.size + 3) // 4)))


def in_phase_space(start: AbstractInitial | None, problem: Problem) -> AbstractInitial | None:
    """A start of one coordinate in phase space: a point has no velocity, a Gaussian a thermal one; others as they are.

    Thermal is the Maxwellian of the temperature at the Gaussian's mean.
    """
    if isinstance(start, Point) and len(start.point) == 1:
        return Point([*start.point, 0.0])
    if isinstance(start, Gaussian) and len(start.mean) == 1:
        assert problem.landscape.inertia is not None
        noise = problem.diffusion.matrix(np.array([[start.mean[0]], [0.0]]))[1, 1, 0]
        thermal = float(problem.landscape.inertia.temperature(noise)) / problem.landscape.inertia.mass
        spread = start.width**2 if start.width is not None else float(np.asarray(start.covariance).reshape(-1)[0])
        return Gaussian([*start.mean, 0.0], np.diag([spread, thermal]))
    return start


def _check_landscape(landscape: Landscape) -> None:
    if len(landscape.variables) != 1:
        found = f"the landscape has the variables {', '.join(landscape.variables)}"
        raise CaseError("momentum", found, "Momentum is for one parameter", "Remove [momentum]")
    if landscape.loss is None or landscape.extra_drift is not None:
        required = "Momentum needs a loss, and no other drift"
        raise CaseError("momentum", "the drift is not that of a loss alone", required, "Give landscape.loss alone")
    if landscape.mobility[0, 0] != 1.0:
        required = "The friction of [momentum] is what says how fast it goes"
        raise CaseError("landscape.mobility", "it has no meaning with momentum", required, "Remove it")


@final
@dataclass(frozen=True)
class PhaseField(Field):
    """Sums of derivatives of a loss of the position, and of powers of the velocity, at positions (x, V)."""

    loss: Field
    entries: tuple[Entry, ...]  # flat, in C order of shape
    shape: tuple[int, ...]

    @property
    def is_constant(self) -> bool:  # type: ignore[override]
        """Whether no entry depends on the position or the velocity."""
        return all(a == b == c == 0.0 for a, _, b, c, _ in self.entries)

    @property
    def depends_on_time(self) -> bool:  # type: ignore[override]
        """Whether the loss does, where it counts."""
        return self.loss.depends_on_time and any(entry[0] != 0.0 for entry in self.entries)

    def __call__(self, positions: FloatArray) -> FloatArray:
        """Values (*shape, points)."""
        x, velocity = positions[:1], positions[1]
        slope, known = self.loss, {}
        for order in range(1 + max(k for _, k, *_ in self.entries)):
            if any(k == order and a != 0.0 for a, k, *_ in self.entries):
                known[order] = slope(x).reshape(-1)
            slope = slope.derivative()
        rows = [
            (a * known[k] if a != 0.0 else 0.0) + (b + c * velocity) * velocity + d for a, k, b, c, d in self.entries
        ]
        return np.array(rows).reshape(*self.shape, positions.shape[1])

    def derivative(self) -> PhaseField:
        """Exact, as far as the derivatives of the loss are."""
        slopes: list[Entry] = []
        for a, k, b, c, _ in self.entries:
            slopes += [(a, k + 1, 0.0, 0.0, 0.0), (0.0, 0, 2.0 * c, 0.0, b)]
        return PhaseField(self.loss, tuple(slopes), (*self.shape, 2))

    def at(self, time: float) -> PhaseField:
        """The field at a time."""
        return replace(self, loss=self.loss.at(time))


def phase_landscape(position: Landscape, inertia: Inertia) -> Landscape:
    """The landscape of position and velocity: its loss is the energy mass V**2/2 + L.

    The drift (V, -(friction V + L') / mass) is written as minus the gradient of the energy and all the rest.
    """
    assert position.loss is not None
    m, rate = inertia.mass, inertia.friction / inertia.mass
    energy = PhaseField(position.loss, ((1.0, 0, 0.0, 0.5 * m, 0.0),), ())
    rest: tuple[Entry, ...] = ((1.0, 1, 1.0, 0.0, 0.0), (-1.0 / m, 1, m - rate, 0.0, 0.0))
    moving = copy.copy(position)
    values = {
        "variables": (position.variables[0], PREFIX + position.variables[0]),
        "loss": energy,
        "gradient": energy.derivative(),
        "hessian": energy.derivative().derivative(),
        "mobility": np.eye(2),
        "extra_drift": PhaseField(position.loss, rest, (2,)),
        "inertia": inertia,
    }
    for key, value in (values | dict.fromkeys(PARTS_OF_DATA)).items():
        object.__setattr__(moving, key, value)
    return moving


@final
@dataclass(frozen=True, kw_only=True)
class PhaseNoise(AbstractNoise):
    """The noise of a one-parameter problem, acting on the velocity: it does not depend on what it acts on.

    So every convention is the same, and no noise-gradient drift arises.
    """

    SCHEDULED: ClassVar[tuple[str, ...]] = ()

    inner: AbstractNoise
    inertia: Inertia
    position: Landscape  # of the one parameter

    def course(self, parameters: Mapping[str, float]) -> Course:
        """What the numbers of the inner noise do in time."""
        return self.inner.course(parameters)

    def at(self, time: float, parameters: Mapping[str, float]) -> Self:
        """The noise with the numbers of a time."""
        now = self.inner.at(time, parameters)
        return replace(self, inner=now, learning_rate=now.learning_rate, injected=now.injected)

    def diffusion_in(self, landscape: Landscape, time: float = 0.0) -> Diffusion:
        """D = diag(0, D of the parameter / mass**2)."""
        return self.diffusion_without_injected(landscape, time)

    def diffusion_without_injected(self, landscape: Landscape, time: float) -> Diffusion:
        """The same; injected noise is the inner noise's."""
        now = self.inner.at(time, landscape.parameters)
        found = now.diffusion_in(self.position.at(time), time)
        words = f"{found.description}, mass {self.inertia.mass:g}, friction {self.inertia.friction:g}"

        def matrix(positions: FloatArray) -> FloatArray:
            values = np.zeros((2, 2, positions.shape[1]))
            values[1, 1] = velocity_diffusion(now, self.inertia, found.matrix(positions[:1])[0, 0])
            return values

        constant = None if found.constant is None else matrix(np.zeros((2, 1)))[..., 0]
        changes = found.depends_on_time
        return Diffusion(matrix, np.zeros_like, "ito", words, constant=constant, depends_on_time=changes)
