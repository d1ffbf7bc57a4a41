"""The noise: diffusion matrices D of dX = drift dt + sqrt(2 D) dW, and what their convention adds to the drift."""

from __future__ import annotations

import abc
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import numpy as np
from numpy.typing import ArrayLike

from fpsolve.errors import CaseError
from fpsolve.model.fields import Field, Source, field
from fpsolve.model.grid import FloatArray
from fpsolve.model.landscape import Landscape, symmetric_matrix
from fpsolve.model.symmetric import composed, divergence, eigen

Convention: TypeAlias = Literal["ito", "isothermal", "stratonovich"]
CONVENTIONS: tuple[Convention, ...] = ("ito", "isothermal", "stratonovich")
CONVENTION_WORDS: dict[Convention, str] = {"ito": "Ito", "isothermal": "isothermal", "stratonovich": "Stratonovich"}
Projection: TypeAlias = Literal["abs", "clip"]
FloorKind: TypeAlias = Literal["smooth", "additive", "maximum"]

# Share of the noise-gradient drift -div D that the convention leaves in the flux drift, for D = f(x) M.
NOISE_GRADIENT_SHARE: dict[Convention, float] = {"ito": 1.0, "stratonovich": 0.5, "isothermal": 0.0}
# Eigenvalues closer than this share of the largest are taken as equal in a divided difference.
EQUAL_EIGENVALUES = 1e-5

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


class AbstractNoise(abc.ABC):
    """A noise model; `diffusion_in` says what it is in a landscape."""

    @abc.abstractmethod
    def diffusion_in(self, landscape: Landscape) -> Diffusion:
        """The diffusion of this noise in a landscape. Raises CaseError when the two do not fit."""

    @property
    def time_per_step(self) -> float | None:
        """Time of one SGD step (the learning rate), or None where there are no steps."""
        return None


@final
@dataclass(frozen=True, kw_only=True)
class ConstantNoise(AbstractNoise):
    """D = temperature * mobility, or a constant diffusion matrix: exactly one of the two is given."""

    temperature: float | None = None  # [loss], > 0
    diffusion: ArrayLike | None = None  # (axes, axes)

    def diffusion_in(self, landscape: Landscape) -> Diffusion:
        """D, the same everywhere."""
        axes = len(landscape.variables)
        if (self.temperature is None) == (self.diffusion is None):
            found = (
                "neither temperature nor diffusion" if self.temperature is None else "both temperature and diffusion"
            )
            raise CaseError("noise", f"{found} given", "Constant noise needs exactly one of them", "")
        if self.diffusion is not None:
            return _constant(symmetric_matrix(self.diffusion, axes, "noise.diffusion"), "constant diffusion")
        assert self.temperature is not None
        _positive("noise.temperature", self.temperature)
        return _constant(self.temperature * landscape.mobility, f"temperature {self.temperature:g}")


@final
@dataclass(frozen=True, kw_only=True)
class TensorNoise(AbstractNoise):
    """D(x), given entry by entry as expressions, or as one vectorised function that returns the matrix."""

    diffusion: Source
    convention: Convention = "ito"

    def diffusion_in(self, landscape: Landscape) -> Diffusion:
        """D as given. Symmetry is checked on the grid."""
        axes = len(landscape.variables)
        matrix = field(self.diffusion, (axes, axes), landscape.variables, landscape.parameters, "noise.diffusion")
        if matrix.is_constant:
            return _constant(symmetric_matrix(matrix(np.zeros((axes, 1)))[..., 0], axes, "noise.diffusion"), "tensor")
        return Diffusion(matrix, _divergence(matrix), self.convention, f"tensor, {CONVENTION_WORDS[self.convention]}")


@final
@dataclass(frozen=True, kw_only=True)
class AmplitudeNoise(AbstractNoise):
    """D = s s^T / 2 of a noise amplitude s(x): dX = drift dt + s dW, with any number of columns.

    columns is read off nested lists; a function must say it.
    """

    noise_amplitude: Source
    columns: int | None = None
    convention: Convention = "ito"

    def diffusion_in(self, landscape: Landscape) -> Diffusion:
        """D = s s^T / 2, and the Stratonovich drift of s."""
        axes = len(landscape.variables)
        where = "noise.noise_amplitude"
        shape = (axes, self.columns or _columns(self.noise_amplitude, where))
        amplitude = field(self.noise_amplitude, shape, landscape.variables, landscape.parameters, where)
        slope = amplitude.derivative()

        def matrix(positions: FloatArray) -> FloatArray:
            s = amplitude(positions)
            return 0.5 * np.einsum("ik...,jk...->ij...", s, s)

        def divergence(positions: FloatArray) -> FloatArray:
            s, ds = amplitude(positions), slope(positions)
            return 0.5 * (np.einsum("ikj...,jk...->i...", ds, s) + np.einsum("ik...,jkj...->i...", s, ds))

        def drift(positions: FloatArray) -> FloatArray:
            return 0.5 * np.einsum("jk...,ikj...->i...", amplitude(positions), slope(positions))

        words = f"amplitude, {CONVENTION_WORDS[self.convention]}"
        return Diffusion(matrix, divergence, self.convention, words, amplitude_drift=drift)


@final
@dataclass(frozen=True, kw_only=True)
class HessianNoise(AbstractNoise):
    """D = learning_rate / (2 batch_size) * f(H) + learning_rate * injected / 2 * I, H the Hessian of the loss.

    f acts on the eigenvalues: first the projection (abs: |h|, clip: max(h, 0), None: h, an error where h < 0),
    then the floor (smooth: sqrt(h**2 + floor**2), additive: h + floor, maximum: max(h, floor)).
    Near a minimum the covariance of minibatch gradients is close to H (Xie, Sato & Sugiyama 2021).
    """

    learning_rate: float  # [time]
    batch_size: float
    projection: Projection | None = None
    floor: float = 0.0  # [loss/length**2]
    floor_kind: FloorKind = "smooth"
    convention: Convention = "ito"
    injected: float = 0.0  # variance of explicit gradient noise [loss**2/length**2]

    @property
    def time_per_step(self) -> float | None:
        """One SGD step takes the learning rate."""
        return self.learning_rate

    def diffusion_in(self, landscape: Landscape) -> Diffusion:
        """D and div D, by the Daletskii-Krein formula for the derivative of a matrix function.

        d f(H) = V (F o V^T dH V) V^T,  F_ab = (f(h_a) - f(h_b)) / (h_a - h_b),  H = V diag(h) V^T
        (Bhatia 1997, Theorem V.3.3); dH is the third derivative of the loss.
        """
        if landscape.hessian is None:
            raise CaseError("noise.kind", '"hessian" needs a loss', "The landscape gives only a drift", "Give a loss")
        self._check()
        hessian, third = landscape.hessian, landscape.hessian.derivative()
        scale = self.learning_rate / (2.0 * self.batch_size)
        extra = 0.5 * self.learning_rate * self.injected

        def matrix(positions: FloatArray) -> FloatArray:
            values, vectors = eigen(hessian(positions))
            return composed(scale * self._eigenvalue_map(values)[0] + extra, vectors)

        def both(positions: FloatArray) -> tuple[FloatArray, FloatArray]:
            values, vectors = eigen(hessian(positions))
            differences = scale * self._divided_differences(values)
            composition = composed(scale * self._eigenvalue_map(values)[0] + extra, vectors)
            return composition, divergence(differences, vectors, third(positions))

        return Diffusion(
            matrix,
            lambda positions: both(positions)[1],
            self.convention,
            self._words(),
            both=both,
            eigenvalue_name="Hessian of the loss" if self.projection is None else "diffusion matrix",
            eigenvalue_scale=scale if self.projection is None else 1.0,
            remedy='Choose noise.projection = "abs" or "clip", and a noise.floor above 0',
        )

    def _check(self) -> None:
        _positive("noise.learning_rate", self.learning_rate)
        _positive("noise.batch_size", self.batch_size)
        for key, value in (("floor", self.floor), ("injected", self.injected)):
            if not (np.isfinite(value) and value >= 0.0):
                raise CaseError(f"noise.{key}", f"it is {value:g}", "It must be a finite number, 0 or more", "")

    def _words(self) -> str:
        name = {"abs": "|H|", "clip": "max(H, 0)", None: "H"}[self.projection]
        floor = f", {self.floor_kind} floor {self.floor:g}" if self.floor > 0.0 else ""
        injected = f", injected variance {self.injected:g}" if self.injected > 0.0 else ""
        steps = f"learning rate {self.learning_rate:g}, batch {self.batch_size:g}"
        return f"{name} ({steps}{floor}{injected}), {CONVENTION_WORDS[self.convention]}"

    def _eigenvalue_map(self, h: FloatArray) -> tuple[FloatArray, FloatArray]:
        """f(h) and f'(h). A negative eigenvalue without a projection stays negative, so that it is found."""
        if self.projection == "abs":
            g, slope = np.abs(h), np.sign(h)
        elif self.projection == "clip":
            g, slope = np.maximum(h, 0.0), (h > 0.0).astype(np.float64)
        else:
            g, slope = h, np.ones_like(h)
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


def _positive(where: str, value: float) -> None:
    if not (isinstance(value, int | float | np.number) and np.isfinite(value) and value > 0.0):
        raise CaseError(where, f"it is {value}", "It must be a finite number above 0", "")
