"""The noise: diffusion matrices D of dX = drift dt + sqrt(2 D) dW, and what their convention adds to the drift."""

from __future__ import annotations

import abc
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self, TypeAlias, final

import numpy as np
from numpy.typing import ArrayLike

from fpsolve.errors import CaseError
from fpsolve.model.fields import Field, Source, congruence, field
from fpsolve.model.grid import FloatArray
from fpsolve.model.landscape import Landscape, symmetric_matrix
from fpsolve.model.schedule import Course, Scheduled, schedule
from fpsolve.model.symmetric import composed, divergence, eigen

Convention: TypeAlias = Literal["ito", "isothermal", "stratonovich"]
CONVENTIONS: tuple[Convention, ...] = ("ito", "isothermal", "stratonovich")
CONVENTION_WORDS: dict[Convention, str] = {"ito": "Ito", "isothermal": "isothermal", "stratonovich": "Stratonovich"}
Projection: TypeAlias = Literal["abs", "clip"]
FloorKind: TypeAlias = Literal["smooth", "additive", "maximum"]
Sampling: TypeAlias = Literal["replacement", "without"]

# Share of the noise-gradient drift -div D that the convention leaves in the flux drift, for D = f(x) M.
NOISE_GRADIENT_SHARE: dict[Convention, float] = {"ito": 1.0, "stratonovich": 0.5, "isothermal": 0.0}
# Eigenvalues closer than this share of the largest are taken as equal in a divided difference.
EQUAL_EIGENVALUES = 1e-5

TABLE = "table"  # in place of a diffusion

PointFunction: TypeAlias = Callable[[FloatArray], FloatArray]


@final
@dataclass(frozen=True)
class Diffusion:
    """The diffusion of one noise model in one landscape.

    matrix: positions (axes, points) -> D, shape (axes, axes, points) [length**2/time], symmetric.
    divergence: positions -> (div D)_i = sum_j d D_ij / d x_j, shape (axes, points).
    constant: D itself where it does not depend on the position, else None.
    both: positions -> matrix and divergence, where one computation serves both.
    amplitude_drift: positions -> 1/2 sum_jk s_jk d s_ik / d x_j for a given amplitude s, D = s s^T / 2.
    eigenvalue_name, eigenvalue_scale: the matrix a user gave, and D's eigenvalue per unit of its own; for messages.
    """

    matrix: PointFunction
    divergence: PointFunction
    convention: Convention
    description: str
    constant: FloatArray | None = None
    both: Callable[[FloatArray], tuple[FloatArray, FloatArray]] | None = None
    amplitude_drift: PointFunction | None = None
    eigenvalue_name: str = "diffusion matrix"
    eigenvalue_scale: float = 1.0
    remedy: str = "Make it positive definite everywhere on the grid, for instance by adding a small constant"
    depends_on_time: bool = False  # as a field; schedules are the noise's own

    def plus(self, extra: float) -> Diffusion:
        """The diffusion with an isotropic constant added, D + extra I."""
        if extra == 0.0:
            return self
        if self.constant is not None:
            constant = _constant(self.constant + extra * np.eye(len(self.constant)), self.description)
            return replace(constant, depends_on_time=self.depends_on_time)

        def matrix(positions: FloatArray) -> FloatArray:
            return self.matrix(positions) + extra * np.eye(len(positions))[..., None]

        def both(positions: FloatArray) -> tuple[FloatArray, FloatArray]:
            assert self.both is not None
            without, divergence = self.both(positions)
            return without + extra * np.eye(len(positions))[..., None], divergence

        return replace(self, matrix=matrix, both=None if self.both is None else both)

    def times(self, factor: float) -> Diffusion:
        """The diffusion of a noise so many times as strong, factor * D."""
        if self.constant is not None:
            constant = _constant(factor * self.constant, self.description)
            return replace(constant, depends_on_time=self.depends_on_time)

        def scaled(function: PointFunction) -> PointFunction:
            return lambda positions: factor * function(positions)

        def both(positions: FloatArray) -> tuple[FloatArray, FloatArray]:
            assert self.both is not None
            matrix, divergence = self.both(positions)
            return factor * matrix, factor * divergence

        return replace(
            self,
            matrix=scaled(self.matrix),
            divergence=scaled(self.divergence),
            both=None if self.both is None else both,
            amplitude_drift=None if self.amplitude_drift is None else scaled(self.amplitude_drift),
            eigenvalue_scale=factor * self.eigenvalue_scale,
        )

    def noise_drift(self, positions: FloatArray) -> FloatArray:
        """Flux drift minus the given drift, (axes, points): -div D (Ito), 0 (isothermal), between (Stratonovich).

        The flux drift v is the one for which the current is v p - D grad(p), without a derivative of D.
        Stratonovich: v = drift + 1/2 sum s_jk d_j s_ik - div D for an amplitude s; for D = f(x) M this is
        drift - 1/2 div D.
        """
        if self.constant is not None or self.convention == "isothermal":
            return np.zeros_like(positions)
        if self.convention == "stratonovich" and self.amplitude_drift is not None:
            return self.amplitude_drift(positions) - self.divergence(positions)
        return -NOISE_GRADIENT_SHARE[self.convention] * self.divergence(positions)

    def matrix_and_noise_drift(self, positions: FloatArray) -> tuple[FloatArray, FloatArray]:
        """D and the noise drift at the same positions."""
        if self.both is None or self.convention == "isothermal":
            return self.matrix(positions), self.noise_drift(positions)
        matrix, divergence = self.both(positions)
        return matrix, -NOISE_GRADIENT_SHARE[self.convention] * divergence


@dataclass(frozen=True, kw_only=True)
class AbstractNoise(abc.ABC):
    """A noise model; `diffusion_in` says what it is in a landscape.

    A learning rate gives it a clock, which counts SGD steps; injected is the variance of explicit gradient noise, which
    adds learning_rate * injected / 2 * I to D. Both, and what else SCHEDULED names, may change in time: an expression
    in t or k, or stages.
    """

    SCHEDULED: ClassVar[tuple[str, ...]] = ("learning_rate", "injected")

    learning_rate: Scheduled | None = None  # [time], > 0
    injected: Scheduled = 0.0  # [loss**2/length**2], >= 0

    @abc.abstractmethod
    def diffusion_without_injected(self, landscape: Landscape, time: float) -> Diffusion:
        """The diffusion in a landscape at a time, of a noise with plain numbers. Raises CaseError as `diffusion_in`."""

    def diffusion_in(self, landscape: Landscape, time: float = 0.0) -> Diffusion:
        """The diffusion of this noise in a landscape at a time. Raises CaseError when the two do not fit."""
        now = self.at(time, landscape.parameters)
        injected = now.number("injected", least=0.0)
        if injected > 0.0 and now.learning_rate is None:
            required = "Injected noise acts once in every SGD step"
            raise CaseError("noise.injected", "there is no learning rate", required, "Add noise.learning_rate")
        extra = 0.5 * injected * (now.number("learning_rate") if now.learning_rate is not None else 0.0)
        return now.diffusion_without_injected(landscape, time).plus(extra)

    def course(self, parameters: Mapping[str, float]) -> Course:
        """What the numbers do in time. parameters: names that expressions may use."""
        values = ((name, getattr(self, name)) for name in self.SCHEDULED)
        given = tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in values)
        return _course(given, tuple(sorted(parameters.items())))

    def at(self, time: float, parameters: Mapping[str, float]) -> Self:
        """The noise with plain numbers, those of a time."""
        if all(isinstance(getattr(self, name), int | float | None) for name in self.SCHEDULED):
            return self
        return replace(self, **self.course(parameters).at(time))

    def number(self, name: str, least: float | None = None) -> float:
        """A number of the noise, above 0 or, where that is given, at least `least`. Raises CaseError."""
        value = getattr(self, name)
        bad = not (isinstance(value, int | float | np.number) and np.isfinite(value))
        if bad or value < (0.0 if least is None else least) or (least is None and value == 0.0):
            required = f"It must be a finite number{' above 0' if least is None else ', 0 or more'}"
            shown = f"{value:g}" if isinstance(value, int | float) else value
            raise CaseError(f"noise.{name}", f"it is {shown}", required, "")
        return float(value)

    def _words(self) -> str:
        """Injected noise and the learning rate in words, to be appended."""
        return f", injected variance {self.injected:g}" if self.number("injected", least=0.0) > 0.0 else ""


@final
@dataclass(frozen=True, kw_only=True)
class ConstantNoise(AbstractNoise):
    """D = temperature * mobility, or a constant diffusion matrix: exactly one of the two is given."""

    SCHEDULED: ClassVar[tuple[str, ...]] = ("learning_rate", "injected", "temperature")

    temperature: Scheduled | None = None  # [loss], > 0
    diffusion: ArrayLike | None = None  # (axes, axes)

    def diffusion_without_injected(self, landscape: Landscape, time: float) -> Diffusion:
        """D, the same everywhere."""
        axes = len(landscape.variables)
        if (self.temperature is None) == (self.diffusion is None):
            found = (
                "neither temperature nor diffusion" if self.temperature is None else "both temperature and diffusion"
            )
            raise CaseError("noise", f"{found} given", "Constant noise needs exactly one of them", "")
        if self.diffusion is not None:
            constant = symmetric_matrix(self.diffusion, axes, "noise.diffusion", singular=True)
            return _constant(constant, "constant diffusion")
        temperature = self.number("temperature")
        return _constant(temperature * landscape.mobility, f"temperature {temperature:g}{self._words()}")


@final
@dataclass(frozen=True, kw_only=True)
class TensorNoise(AbstractNoise):
    """D(x), given entry by entry as expressions, or as one vectorised function that returns the matrix.

    "table" stands for the diffusion in the table of the landscape.
    """

    diffusion: Source
    convention: Convention = "ito"

    def diffusion_without_injected(self, landscape: Landscape, time: float) -> Diffusion:
        """D as given. Symmetry is checked on the grid."""
        axes, where = len(landscape.variables), "noise.diffusion"
        given = self._of_table(landscape) if self.diffusion == TABLE else None
        if given is None:
            given = field(self.diffusion, (axes, axes), landscape.variables, landscape.parameters, where, timed=True)
        matrix, changes = given.at(time), given.depends_on_time
        if matrix.is_constant:
            constant = symmetric_matrix(matrix(np.zeros((axes, 1)))[..., 0], axes, where, singular=True)
            return replace(_constant(constant, f"tensor{self._words()}"), depends_on_time=changes)
        words = f"tensor{self._words()}, {CONVENTION_WORDS[self.convention]}"
        return Diffusion(matrix, _divergence(matrix), self.convention, words, depends_on_time=changes)

    def _of_table(self, landscape: Landscape) -> Field:
        if landscape.diffusion is None:
            required = "There is no table with components of diffusion"
            raise CaseError("noise.diffusion", 'it is "table"', required, "Give landscape.table, or the matrix itself")
        return landscape.diffusion


@final
@dataclass(frozen=True, kw_only=True)
class AmplitudeNoise(AbstractNoise):
    """D = s s^T / 2 of a noise amplitude s(x): dX = drift dt + s dW, with any number of columns.

    columns is read off nested lists; a function must say it.
    """

    noise_amplitude: Source
    columns: int | None = None
    convention: Convention = "ito"

    def diffusion_without_injected(self, landscape: Landscape, time: float) -> Diffusion:
        """D = s s^T / 2, and the Stratonovich drift of s."""
        axes = len(landscape.variables)
        where = "noise.noise_amplitude"
        shape = (axes, self.columns or _columns(self.noise_amplitude, where))
        given = field(self.noise_amplitude, shape, landscape.variables, landscape.parameters, where, timed=True)
        amplitude, slope = given.at(time), given.derivative().at(time)

        def matrix(positions: FloatArray) -> FloatArray:
            s = amplitude(positions)
            return 0.5 * np.einsum("ik...,jk...->ij...", s, s)

        def divergence(positions: FloatArray) -> FloatArray:
            s, ds = amplitude(positions), slope(positions)
            return 0.5 * (np.einsum("ikj...,jk...->i...", ds, s) + np.einsum("ik...,jkj...->i...", s, ds))

        def drift(positions: FloatArray) -> FloatArray:
            return 0.5 * np.einsum("jk...,ikj...->i...", amplitude(positions), slope(positions))

        return Diffusion(
            matrix,
            divergence,
            self.convention,
            f"amplitude{self._words()}, {CONVENTION_WORDS[self.convention]}",
            amplitude_drift=drift,
            depends_on_time=given.depends_on_time,
        )


@dataclass(frozen=True, kw_only=True)
class AbstractGradientNoise(AbstractNoise):
    """D = learning_rate / (2 batch_size) * f(A), A a symmetric matrix at every position.

    f acts on the eigenvalues: a projection where there is one (abs: |h|, clip: max(h, 0)), then the floor (smooth:
    sqrt(h**2 + floor**2), additive: h + floor, maximum: max(h, floor)).
    """

    SCHEDULED: ClassVar[tuple[str, ...]] = ("learning_rate", "batch_size", "injected")

    learning_rate: Scheduled
    batch_size: Scheduled
    floor: float = 0.0  # [loss/length**2] of a Hessian, [loss**2/length**2] of a covariance
    floor_kind: FloorKind = "smooth"
    convention: Convention = "ito"

    @property
    def scale(self) -> float:
        """D over f(A): learning_rate / (2 batch_size), of a noise with plain numbers."""
        return self.number("learning_rate") / (2.0 * self.number("batch_size"))

    def _function_of(self, matrices: Field, scale: float) -> Diffusion:
        """Scale * f(A) and its divergence, by the Daletskii-Krein formula for the derivative of a matrix function.

        d f(A) = V (F o V^T dA V) V^T,  F_ab = (f(h_a) - f(h_b)) / (h_a - h_b),  A = V diag(h) V^T
        (Bhatia 1997, Theorem V.3.3).
        """
        self.number("floor", least=0.0)

        def matrix(positions: FloatArray) -> FloatArray:
            values, vectors = eigen(matrices(positions))
            return composed(scale * self._eigenvalue_map(values)[0], vectors)

        def both(positions: FloatArray) -> tuple[FloatArray, FloatArray]:
            at_positions, slopes = matrices.with_derivative(positions)
            values, vectors = eigen(at_positions)
            differences = scale * self._divided_differences(values)
            composition = composed(scale * self._eigenvalue_map(values)[0], vectors)
            return composition, divergence(differences, vectors, slopes)

        return Diffusion(matrix, lambda positions: both(positions)[1], self.convention, self._words(), both=both)

    def _words(self) -> str:
        floor = f", {self.floor_kind} floor {self.floor:g}" if self.floor > 0.0 else ""
        steps = f"learning rate {self.learning_rate:g}, batch {self.batch_size:g}"
        return f"({steps}{floor}{super()._words()}), {CONVENTION_WORDS[self.convention]}"

    def _projected(self, h: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Eigenvalues before the floor, and the slope of that map."""
        return h, np.ones_like(h)

    def _eigenvalue_map(self, h: FloatArray) -> tuple[FloatArray, FloatArray]:
        """f(h) and f'(h). A negative eigenvalue without a projection stays negative, so that it is found."""
        g, slope = self._projected(h)
        floor = self.floor
        if self.floor_kind == "smooth":
            f = np.hypot(g, floor)
            df = slope * np.divide(g, f, out=np.ones_like(g), where=f > 0.0)
        elif self.floor_kind == "additive":
            f, df = g + floor, slope
        else:
            f, df = np.maximum(g, floor), slope * (g > floor)
        return np.where(g < 0.0, g, f), df

    def _divided_differences(self, h: FloatArray) -> FloatArray:
        """F_ab of the Daletskii-Krein formula, shape (axes, axes, points)."""
        f, _ = self._eigenvalue_map(h)
        rise, run = f[:, None] - f, h[:, None] - h
        _, slope = self._eigenvalue_map(0.5 * (h[:, None] + h))
        near = np.abs(run) <= EQUAL_EIGENVALUES * (np.abs(h).max(axis=0) + self.floor)
        return np.where(near, slope, rise / np.where(near, 1.0, run))


@final
@dataclass(frozen=True, kw_only=True)
class HessianNoise(AbstractGradientNoise):
    """D = learning_rate / (2 batch_size) * f(H) + learning_rate * injected / 2 * I, H the Hessian of the loss.

    projection: abs, clip, or None: then a negative eigenvalue is an error. Near a minimum the covariance of minibatch
    gradients is close to H (Xie, Sato & Sugiyama 2021).
    """

    projection: Projection | None = None

    def diffusion_without_injected(self, landscape: Landscape, time: float) -> Diffusion:
        """D and div D; the derivative of H is the third derivative of the loss."""
        if landscape.hessian is None:
            raise CaseError("noise.kind", '"hessian" needs a loss', "The landscape gives only a drift", "Give a loss")
        return replace(
            self._function_of(landscape.hessian, self.scale),
            eigenvalue_name="Hessian of the loss" if self.projection is None else "diffusion matrix",
            eigenvalue_scale=self.scale if self.projection is None else 1.0,
            remedy='Choose noise.projection = "abs" or "clip", and a noise.floor above 0',
        )

    def _words(self) -> str:
        return f"{ {'abs': '|H|', 'clip': 'max(H, 0)', None: 'H'}[self.projection] } {super()._words()}"

    def _projected(self, h: FloatArray) -> tuple[FloatArray, FloatArray]:
        if self.projection == "abs":
            return np.abs(h), np.sign(h)
        if self.projection == "clip":
            return np.maximum(h, 0.0), (h > 0.0).astype(np.float64)
        return super()._projected(h)


@final
@dataclass(frozen=True, kw_only=True)
class MinibatchNoise(AbstractGradientNoise):
    """D = learning_rate / (2 batch_size) * f(C) + injected part, C the covariance of the gradients of single examples.

    Where a mobility M turns the gradients, C stands for that of what is left of them, M C M.

    sampling: "replacement", or "without" for batches of different examples, whose mean varies less by the factor
    (N - batch_size) / (N - 1), N the number of examples. A batch of all of them has no noise, and is refused.
    """

    sampling: Sampling = "replacement"

    def diffusion_without_injected(self, landscape: Landscape, time: float) -> Diffusion:
        """D and div D, from the data."""
        if landscape.gradient_covariance is None:
            found, required = '"minibatch" needs the gradients of single examples', "The landscape has no data"
            remedy = 'Give landscape.data and per_example_loss, or take kind = "hessian"'
            raise CaseError("noise.kind", found, required, remedy)
        share, covariance = self._share_of_population(landscape.examples), landscape.gradient_covariance
        if not np.array_equal(landscape.mobility, np.eye(len(landscape.mobility))):
            covariance = congruence(covariance, landscape.mobility)
        return replace(
            self._function_of(covariance, share * self.scale),
            eigenvalue_name="covariance of the gradients",
            eigenvalue_scale=share * self.scale,
            remedy="Add a noise.floor above 0, or injected noise",
        )

    def _share_of_population(self, examples: int | None) -> float:
        """What the variance of the mean of a batch is over that of a batch drawn with replacement."""
        if self.sampling == "replacement":
            return 1.0
        size = self.number("batch_size")
        if examples is None or not size < examples:
            found = f"a batch of {size:g} without replacement"
            required = f"There are {'an unknown number of' if examples is None else examples} examples"
            raise CaseError("noise.batch_size", found, required, 'Take smaller batches, or sampling = "replacement"')
        return (examples - size) / (examples - 1.0)

    def _words(self) -> str:
        words = "" if self.sampling == "replacement" else "without replacement "
        return f"minibatch {words}{super()._words()}"


@final
@dataclass(frozen=True, kw_only=True)
class ScaledNoise(AbstractNoise):
    """Another noise, of plain numbers, so many times as strong: D is multiplied with the factor."""

    SCHEDULED: ClassVar[tuple[str, ...]] = ()

    noise: AbstractNoise
    factor: float

    def diffusion_without_injected(self, landscape: Landscape, time: float) -> Diffusion:
        """The other diffusion, injected noise included, times the factor."""
        return self.noise.diffusion_in(landscape, time).times(self.factor)


@functools.lru_cache(maxsize=64)  # a clock that is read at many times counts on from where it is
def _course(given: tuple[tuple[str, Scheduled | None], ...], parameters: tuple[tuple[str, float], ...]) -> Course:
    known = [(name, value) for name, value in given if value is not None]
    return Course({name: schedule(value, dict(parameters), f"noise.{name}") for name, value in known})


def _columns(source: Source, where: str) -> int:
    """Columns of an amplitude given as nested lists; one for a single expression."""
    if callable(source):
        raise CaseError(where, "a function does not show its number of columns", "", "Give columns = ...")
    if isinstance(source, Sequence) and not isinstance(source, str) and source and not isinstance(source[0], str):
        first = source[0]
        return len(first) if isinstance(first, Sequence) else 1
    return 1


def _constant(matrix: FloatArray, words: str) -> Diffusion:
    def everywhere(positions: FloatArray) -> FloatArray:
        return np.broadcast_to(matrix[..., None], (*matrix.shape, positions.shape[1]))

    return Diffusion(everywhere, np.zeros_like, "ito", words, constant=matrix)


def _divergence(matrix: Field) -> PointFunction:
    slope = matrix.derivative()

    def divergence(positions: FloatArray) -> FloatArray:
        return np.einsum("ijj...->i...", slope(positions))

    return divergence
