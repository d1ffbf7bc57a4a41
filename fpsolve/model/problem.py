"""The problem: a landscape, a noise and a grid; and the fields of the Fokker-Planck equation they make.

    dp/dt = -div J,    J = v p - D grad(p),    v = the flux drift

Along any line, ln p of a local equilibrium changes at the rate beta = D^-1 v. Where part of beta is the
gradient of a known potential, exact differences of that potential are used; only the remainder is integrated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter1d

from fpsolve.errors import CaseError
from fpsolve.model.fields import Field
from fpsolve.model.grid import BoolArray, FloatArray, Grid, in_pieces
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import NOISE_GRADIENT_SHARE, AbstractNoise, Diffusion
from fpsolve.model.region import Region
from fpsolve.model.schedule import Course
from fpsolve.model.symmetric import is_positive_definite, is_singular, solved
from fpsolve.model.table import Table

# Two shapes of a matrix count as one when their entries agree to this share of the trace (rounding of D's formulas).
SAME_SHAPE = 1e-12
# An eigenvalue of D below minus this share of the trace is negative, not a rounded zero.
NEGATIVE = 1e-12
# D vanishes where it is below this share of what it is one cell further, or half a cell.
VANISHING = 1e-12

PointFunction = Callable[[FloatArray], FloatArray]


@final
@dataclass(frozen=True, slots=True)
class Exponent:
    """beta = grad(potential) + remainder, either of which may be absent (zero).

    potential: positions (axes, points) -> (points,); remainder: positions -> (axes, points) [1/length].
    """

    potential: PointFunction | None
    remainder: PointFunction | None


@final
@dataclass(frozen=True)
class Problem:
    """A landscape, a noise and a grid of the same variables: those are its axes, or, if it is turned, of its frame.

    Where the drift or the noise change in time, this is the problem as it is at one time: `landscape` and `noise` are
    those of that time; `at` tells of others, `course` what the numbers of the noise do.

    D may vanish, in some directions or in all: what moves there is the drift alone.

    Raises CaseError when they do not fit together, or when a field is not finite, the diffusion not symmetric
    or not positive semidefinite at a cell centre, or a field not periodic along a periodic axis.
    """

    landscape: Landscape
    noise: AbstractNoise
    grid: Grid
    time: float = 0.0
    whole: tuple[Landscape, AbstractNoise] = field(init=False, repr=False, compare=False)  # at all times

    def __post_init__(self) -> None:
        object.__setattr__(self, "landscape", self.landscape.tabulated(self.grid))
        object.__setattr__(self, "whole", (self.landscape, self.noise))
        if self.landscape.depends_on_time:
            object.__setattr__(self, "landscape", self.landscape.at(self.time))
        object.__setattr__(self, "noise", self.noise.at(self.time, self.landscape.parameters))
        if self.grid.variables != self.landscape.variables:
            found = f"axes {', '.join(self.grid.variables)} beside variables {', '.join(self.landscape.variables)}"
            raise CaseError("grid", found, "There must be one axis per variable, in the same order", "")
        self._check_table()
        self._check_finite()
        self._check_diffusion()
        self._check_periodic()

    def on(self, grid: Grid) -> Problem:
        """The same problem on another grid."""
        return Problem(*self.whole, grid, self.time)

    def at(self, time: float) -> Problem:
        """The same problem at another time. Raises CaseError, which names the time, where it is none then."""
        try:
            return Problem(*self.whole, self.grid, time)
        except CaseError as error:
            found = error.found if " at t = " in error.found else f"at t = {time:g} {error.found}"
            raise CaseError(error.where, found, error.required, error.remedy) from None

    @cached_property
    def course(self) -> Course:
        """What the numbers of the noise do in time."""
        landscape, noise = self.whole
        return noise.course(landscape.parameters)

    @property
    def changes_smoothly(self) -> bool:
        """Whether the drift or the noise change at every instant, not only by jumps between stages."""
        return self.landscape.depends_on_time or self.diffusion.depends_on_time or self.course.is_smooth

    @property
    def depends_on_time(self) -> bool:
        """Whether the problem is another one at other times."""
        return self.changes_smoothly or bool(self.course.jumps)

    @cached_property
    def diffusion(self) -> Diffusion:
        """The diffusion of this noise in this landscape."""
        return self.noise.diffusion_in(self.landscape, self.time)

    @cached_property
    def diffusion_at_cells(self) -> FloatArray:
        """D at the cell centres, (axes, axes, cells) [length**2/time]."""
        return in_pieces(self.diffusion.matrix, self.grid.positions())

    @cached_property
    def diffusion_along_axes(self) -> FloatArray:
        """Components of D along the axes of the grid at the cell centres, (axes, axes, cells) [length**2/time]."""
        return self.grid.turned_matrices(self.diffusion_at_cells)

    def flux_drift(self, positions: FloatArray) -> FloatArray:
        """The flux drift [length/time], (axes, points): the drift v of the current v p - D grad(p)."""
        return self.landscape.drift(positions) + self.diffusion.noise_drift(positions)

    def region(self, condition: str, where: str = "region") -> Region:
        """The region of a condition such as 'x > 0.8', named after it."""
        return Region.parse(condition, condition, self.landscape.variables, self.landscape.parameters, where)

    def ito_drift(self, positions: FloatArray) -> FloatArray:
        """The drift of the Ito equation [length/time], (axes, points): flux drift + div D."""
        if self.diffusion.constant is not None or self.diffusion.convention == "ito":
            return self.landscape.drift(positions)
        return self.flux_drift(positions) + self.diffusion.divergence(positions)

    @cached_property
    def singular_cells(self) -> BoolArray:
        """Cells at whose centre D has no inverse, (cells,), up to rounding of D and of the centre."""
        if (constant := self.diffusion.constant) is not None:
            return np.full(self.grid.size, is_singular(constant[..., None])[0])
        sizes = self.grid.shaped(np.einsum("iip->p", self.diffusion_at_cells))
        beside = sizes
        for number, axis in enumerate(self.grid.axes):
            mode = "wrap" if axis.periodic else "nearest"
            beside = np.maximum(beside, maximum_filter1d(sizes, 3, axis=number, mode=mode))
        return is_singular(self.diffusion_at_cells) | (sizes <= VANISHING * beside).ravel()

    @cached_property
    def is_degenerate(self) -> bool:
        """Whether D has no inverse at some cell centre."""
        return bool(self.singular_cells.any())

    @cached_property
    def temperature(self) -> float | None:
        """T where D = T * mobility is constant and the drift has a loss; else None."""
        matrix = self.diffusion.constant
        if matrix is None or self.landscape.loss is None or self.is_degenerate:
            return None
        ratio = np.linalg.solve(self.landscape.mobility, matrix)
        temperature = float(ratio[0, 0])
        return (
            temperature
            if np.allclose(ratio, temperature * np.eye(len(ratio)), rtol=0, atol=1e-12 * temperature)
            else None
        )

    @cached_property
    def boltzmann_temperature(self) -> float | None:
        """T where exp(-loss/T) is at rest: `temperature` without a further drift, or in phase space with constant D."""
        landscape, constant = self.landscape, self.diffusion.constant
        if landscape.inertia is None:
            return self.temperature if landscape.is_gradient else None
        thermal = 0.0 if constant is None else float(landscape.inertia.temperature(constant[1, 1]))
        return thermal if thermal > 0.0 else None

    @cached_property
    def is_reversible(self) -> bool:
        """Whether the equilibrium is known in closed form: beta is the gradient of a known potential."""
        return self.exponent.remainder is None and not self.is_degenerate

    @cached_property
    def exponent(self) -> Exponent:
        """Beta = D^-1 v, split into an exact potential and a remainder.

        D = T M, drift = -M grad L + f:  potential -L/T,      remainder D^-1 f
        D = f(x) M with constant M:      potential -s ln f,   remainder D^-1 drift   (s: the convention's share)
        any other D:                     no potential,        remainder D^-1 v
        phase space, constant D:         potential -E/T, of the density at rest

        Where D has no inverse the potential is infinite and the remainder nan.
        """
        landscape, temperature = self.landscape, self.temperature
        if landscape.inertia is not None and self.boltzmann_temperature is not None and landscape.loss is not None:
            energy, thermal = landscape.loss, self.boltzmann_temperature
            return Exponent(lambda positions: -energy(positions) / thermal, None)
        if temperature is not None and landscape.loss is not None:
            loss = landscape.loss
            extra = None if landscape.extra_drift is None else self._over_diffusion(landscape.extra_drift)
            return Exponent(lambda positions: -loss(positions) / temperature, extra)
        if not self.has_constant_shape:
            if self.diffusion.convention == "stratonovich" and self.diffusion.amplitude_drift is None:
                _refuse_stratonovich()
            return Exponent(None, self._flux_over_diffusion)
        share = NOISE_GRADIENT_SHARE[self.diffusion.convention]
        potential = self._log_scale(share) if share > 0.0 and self.diffusion.constant is None else None
        return Exponent(potential, self._over_diffusion(landscape.drift))

    def _over_diffusion(self, vector: PointFunction | Field) -> PointFunction:
        """The function positions -> D^-1 vector, (axes, points)."""
        if (matrix := self.diffusion.constant) is not None:
            inverse = np.full_like(matrix, np.nan) if self.is_degenerate else np.linalg.inv(matrix)
            return lambda positions: np.asarray(inverse @ vector(positions))
        return lambda positions: self._solved(self.diffusion.matrix(positions), vector(positions), positions)

    def _flux_over_diffusion(self, positions: FloatArray) -> FloatArray:
        """D^-1 v, (axes, points)."""
        matrices, noise_drift = self.diffusion.matrix_and_noise_drift(positions)
        return self._solved(matrices, self.landscape.drift(positions) + noise_drift, positions)

    def _solved(self, matrices: FloatArray, vectors: FloatArray, positions: FloatArray) -> FloatArray:
        """matrix^-1 vector, (axes, points), for D at positions between the cell centres; nan where D has no inverse."""
        found = solved(matrices, vectors)
        if np.isnan(found[0]).any():
            self._checked(matrices, positions)
        return found

    def _log_scale(self, share: float) -> PointFunction:
        """The function positions -> -share ln f of D = f(x) M, by the trace."""

        def potential(positions: FloatArray) -> FloatArray:
            matrices = self._checked(self.diffusion.matrix(positions), positions)
            with np.errstate(divide="ignore"):
                return np.asarray(-share * np.log(np.einsum("ii...->...", matrices)))

        return potential

    def _checked(self, matrices: FloatArray, positions: FloatArray) -> FloatArray:
        """D at positions between the cell centres. Raises CaseError where an eigenvalue is negative."""
        if not is_positive_definite(matrices).all():
            smallest = _smallest_shares(matrices)
            if smallest.min() < -NEGATIVE:
                worst = int(np.argmin(smallest))
                value = smallest[worst] * np.abs(np.diagonal(matrices[..., worst])).sum()
                point = zip(self.grid.variables, positions[:, worst], strict=True)
                place = ", ".join(f"{name} = {value:.6g}" for name, value in point)
                found = f"the diffusion has the eigenvalue {value:.6g} at {place}, between cell centres"
                required = "No eigenvalue may be negative anywhere on the grid"
                raise CaseError("noise", found, required, self.diffusion.remedy)
        return matrices

    @cached_property
    def has_constant_shape(self) -> bool:
        """Whether D = f(x) M at every cell centre. In one dimension always.

        For a given amplitude under Stratonovich a constant shape of D is not enough (the amplitude may turn).
        """
        if self.grid.dimensions == 1 or self.diffusion.constant is not None:
            return True
        if self.diffusion.convention == "stratonovich" and self.diffusion.amplitude_drift is not None:
            return False
        sizes = np.einsum("ii...->...", self.diffusion_at_cells)
        shapes = self.diffusion_at_cells[..., sizes > 0.0] / sizes[sizes > 0.0]
        return shapes.size > 0 and bool(np.abs(shapes - shapes[..., :1]).max() < SAME_SHAPE)

    def _check_table(self) -> None:
        """A grid must not go beyond the table of the landscape."""
        if (table := self.landscape.table) is None:
            return
        if self.grid.frame is not None:
            self._check_table_beneath_turned(table)
            return
        for axis, (lower, upper), (first, last) in zip(self.grid.axes, table.reach, table.bounds, strict=True):
            if axis.lower < lower or axis.upper > upper:
                found = f"{axis.name} runs from {axis.lower:g} to {axis.upper:g}"
                required = f"{table.source.name} knows it from {first:g} to {last:g}"
                raise CaseError(f"grid.{axis.name}", found, required, f"Give min = {first:g}, max = {last:g}")

    def _check_table_beneath_turned(self, table: Table) -> None:
        """A turned grid must not go beyond the table with any of its corners."""
        ends = [(axis.lower, axis.upper) for axis in self.grid.axes]
        corners = self.grid.placed(np.array(np.meshgrid(*ends)).reshape(len(ends), -1))
        reach = zip(self.grid.variables, corners, table.reach, table.bounds, strict=True)
        for name, row, (lower, upper), (first, last) in reach:
            if not (row.min() >= lower and row.max() <= upper):
                farthest = row.min() if row.min() < lower else row.max()
                found = f"a corner of the turned grid lies at {name} = {farthest:g}"
                required = f"{table.source.name} knows {name} from {first:g} to {last:g}"
                raise CaseError("grid", found, required, "Make the box smaller")

    def _check_finite(self) -> None:
        positions = self.grid.positions()
        if self.landscape.loss is not None:
            self._refuse_infinite("landscape.loss", in_pieces(self.landscape.loss, positions))
        self._refuse_infinite("landscape.drift", in_pieces(self.landscape.drift, positions))
        constant = self.diffusion.constant
        self._refuse_infinite("noise.diffusion", self.diffusion_at_cells if constant is None else constant[..., None])

    def _refuse_infinite(self, where: str, values: FloatArray) -> None:
        values = values.reshape(-1, values.shape[-1])
        bad = ~np.isfinite(values).all(axis=0)
        if bad.any():
            cell = int(np.argmax(bad))
            found = f"it is {values[:, cell][~np.isfinite(values[:, cell])][0]} in {self.grid.place(cell)}"
            raise CaseError(where, found, "It must be finite in every cell", "Move the walls or change the formula")

    def _check_diffusion(self) -> None:
        if self.diffusion.constant is not None:
            return  # it was checked when it was read
        matrices = self.diffusion_at_cells
        skew = np.abs(matrices - matrices.swapaxes(0, 1)).max(axis=(0, 1))
        if (skew > SAME_SHAPE * np.abs(matrices).max(axis=(0, 1))).any():
            place = self.grid.place(int(np.argmax(skew)))
            raise CaseError("noise.diffusion", f"it is not symmetric in {place}", "It must equal its transpose", "")
        if not is_positive_definite(matrices).all():
            smallest = _smallest_shares(matrices)
            if smallest.min() < -NEGATIVE:
                self._refuse_diffusion(smallest * np.einsum("iip->p", np.abs(matrices)))

    def _refuse_diffusion(self, smallest: NDArray[np.floating[Any]]) -> None:
        """Name the cell and the eigenvalue of a diffusion that has a negative one."""
        cell = int(np.argmin(smallest))
        value = smallest[cell] / self.diffusion.eigenvalue_scale
        found = f"the {self.diffusion.eigenvalue_name} has the eigenvalue {value:.6g} in {self.grid.place(cell)}"
        required = "No eigenvalue of the diffusion may be negative in any cell"
        raise CaseError("noise", found, required, self.diffusion.remedy)

    def _check_periodic(self) -> None:
        """Drift, diffusion and loss must be the same at both ends of a periodic axis."""
        for number, axis in enumerate(self.grid.axes):
            if not axis.periodic:
                continue
            index = self.grid.indices()[:, self.grid.indices()[number] == 0].astype(np.float64)
            index[number] = -0.5
            if self.grid.domain is not None:
                index = index[:, self.grid.domain.level(self.grid.positions(index)) > 0.0]
                if index.shape[1] == 0:
                    continue
            lower = self.grid.positions(index)
            index[number] = axis.cells - 0.5
            upper = self.grid.positions(index)
            for name, function in self._periodic_fields().items():
                first, second = (function(ends).reshape(-1, lower.shape[1]) for ends in (lower, upper))
                gap = np.abs(first - second)
                entry, point = np.unravel_index(int(np.argmax(gap)), gap.shape)
                if gap[entry, point] > 1e-9 * (1.0 + np.abs(first).max()):
                    found = (
                        f"axis {axis.name} is periodic but {name} is {first[entry, point]:g} at {axis.lower:g} "
                        f"and {second[entry, point]:g} at {axis.upper:g}"
                    )
                    required = f"A periodic axis needs a periodic {name}"
                    remedy = f'Use walls.{axis.name} = "reflecting" or a {name} of period {axis.upper - axis.lower:g}'
                    raise CaseError(f"walls.{axis.name}", found, required, remedy)

    def _periodic_fields(self) -> dict[str, PointFunction | Field]:
        fields: dict[str, PointFunction | Field] = {"drift": self.landscape.drift, "diffusion": self.diffusion.matrix}
        return fields if self.landscape.loss is None else {"loss": self.landscape.loss, **fields}


def _smallest_shares(matrices: FloatArray) -> FloatArray:
    """The smallest eigenvalue of matrices (axes, axes, points) over the sum of their diagonals' sizes, (points,)."""
    smallest = np.linalg.eigvalsh(np.moveaxis(matrices, -1, 0))[:, 0]
    sizes = np.einsum("iip->p", np.abs(matrices))
    return np.asarray(smallest / np.where(sizes > 0.0, sizes, 1.0))


def _refuse_stratonovich() -> None:
    raise CaseError(
        "noise.convention",
        '"stratonovich" for a diffusion whose shape changes from place to place',
        "A Stratonovich drift needs D = f(x) times a constant matrix, or the amplitude itself",
        'Give kind = "amplitude", or use "ito" or "isothermal"',
    )
