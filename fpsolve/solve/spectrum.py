"""The slowest modes of a chain: eigenvalues of -Q, however far apart, with their functions and densities.

Two wells behind a barrier of 100 thermal energies exchange probability at a rate 1e-43 times any other, and no
eigenvalue solver in doubles sees it. Here every eigenvalue is read off s (s - Q)^-1 with a shift s comparable to it:

    s / (s + lambda)  =  1/2  for lambda = s;   slower modes crowd at 1, faster ones at 0, and neither disturbs.

The elimination applies (s - Q)^-1 without subtraction, so the eigenvalue is right to rounding, relatively. Which
shifts to take is told by hitting times, which cannot cancel either: of all cells the last to reach the deepest one
needs about 1 / lambda_1, the last to reach that or the first one about 1 / lambda_2, and so on
(Bovier, Eckhoff, Gayrard & Klein 2002).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from fpsolve.discretise.generator import Generator
from fpsolve.errors import RunError
from fpsolve.model.grid import BoolArray, FloatArray
from fpsolve.solve.elimination import WIDEST_SOURCE, Resolvent
from fpsolve.solve.extended import Extended
from fpsolve.solve.ordering import Plan
from fpsolve.solve.stationary import stationary

ComplexArray: TypeAlias = NDArray[np.complexfloating[Any, Any]]
Solve: TypeAlias = Callable[[Extended], Extended]
Operator: TypeAlias = Callable[[FloatArray], FloatArray]  # on several vectors, (several, cells)

WINDOW = 1e4  # an eigenvalue this many times the shift, or this part of it, is still read off to 12 digits
TRUSTED = 1e9  # up to this many times the shift it is good enough to be the next shift
LONGEST = 660.0  # ln of the slowest mode's time: its rate must be a number
RESIDUAL = 1e-12  # of an eigenvector of s / (s - Q), whose norm is about 1
REAL = 1e-9  # imaginary parts below this share are rounding
NEGLIGIBLE = 1e-7  # entries of a vector below this share of the largest are short of digits
POLISHED = 1e-9  # until they change by less than this share of the largest
MOST_POLISHING = 40
WALL = 580.0  # beside the fullest cell; ln
MOMENTS = 16
MOST_SHIFTS = 60
BLOCKS = 8  # in a Krylov space before it is restarted from its best vectors
MOST_RESTARTS = 60


@final
@dataclass(frozen=True, slots=True, eq=False)
class Modes:
    """The slowest modes, ascending by the real part of the eigenvalue.

    eigenvalues: of -Q, (modes,) [1/time]; pairs of conjugate ones where the chain is not reversible.
    densities: right eigenvectors, -Q phi = lambda phi, as probabilities of the cells, sum |phi| = 1; functions: left
    eigenvectors psi, sum phi psi = 1; (modes, cells) each, real unless there are pairs. The mode 0 of a chain
    without losses is the probability at rest, with psi = 1. shifts: how many factorisations for eigenvalues it took.
    """

    eigenvalues: ComplexArray | FloatArray
    densities: ComplexArray | FloatArray
    functions: ComplexArray | FloatArray
    shifts: int


def slowest_modes(generator: Generator, count: int) -> Modes:
    """The slowest modes of a chain, as many as wanted or as it has.

    Of modes that oscillate, those with the smallest modulus are looked for.

    Raises RunError for modes too slow for a double, or when the iteration does not converge.
    """
    search = _Search.of(generator, min(count, int(generator.active.sum())))
    search.run()
    if (generator.active & ~search.kept).any() and abs(search.values[-1]) >= _slowest_outside(generator, search.kept):
        search = replace(_Search.of(generator, search.count), kept=generator.active)
        search.run()
    values: ComplexArray | FloatArray = np.array(search.values)
    right: ComplexArray | FloatArray = np.array(search.densities)
    left: ComplexArray | FloatArray = np.array(search.functions)
    if (np.abs(values.imag) <= REAL * np.abs(values)).all():
        values, right, left = (np.asarray(part.real, dtype=np.float64) for part in (values, right, left))
    return Modes(values, right, left, search.shifts)


@final
@dataclass(slots=True, eq=False)
class _Search:
    """Modes found so far, slowest first."""

    generator: Generator
    count: int
    reversible: bool
    balance: Extended  # w: W^-1 (s - Q)^-1 W is symmetric where the chain is reversible, and of norm 1/s anyway
    scales: _Scales
    plan: Plan
    kept: BoolArray  # cells that the vectors live on, (cells,)
    values: list[complex] = field(default_factory=list)
    densities: list[ComplexArray] = field(default_factory=list)
    functions: list[ComplexArray] = field(default_factory=list)
    shifts: int = 0

    @classmethod
    def of(cls, generator: Generator, count: int) -> _Search:
        active = generator.active.astype(np.float64)
        if generator.closed:
            rest = stationary(generator)
            weight = rest.log_probability
            balance, scales = Extended.exp(0.5 * weight), _Scales(generator, weight, [int(np.argmax(weight))])
            search = cls(generator, count, rest.reversible, balance, scales, Plan.of(generator), _probable(weight))
            search.values.append(0.0)
            search.densities.append(rest.probability.astype(np.complex128))
            search.functions.append(active.astype(np.complex128))
            return search
        plan = Plan.of(generator)
        resolvent = Resolvent.of(generator, 0.0, plan=plan)
        right = left = Extended.of(active)
        for _ in range(3):  # towards the slowest mode and its function: their ratio is w squared
            right, left = resolvent.solve(right), resolvent.solve_adjoint(left)
            right, left = right / right.sum(), left / left.sum()
        weight = np.full(active.size, -np.inf)
        weight[generator.active] = right.log()[generator.active] - left.log()[generator.active]
        scales = _Scales(generator, weight, [])
        return cls(generator, count, False, Extended.exp(0.5 * weight), scales, plan, _probable(weight))

    def run(self) -> None:
        """Shift by shift, from the slowest modes up."""
        shift = None
        while len(self.values) < self.count:
            shift = self.scales.above(abs(self.values[-1]) if self.values else 0.0) if shift is None else shift
            if self.shifts == MOST_SHIFTS:
                found = f"{len(self.values)} of {self.count} eigenvalues after {MOST_SHIFTS} shifts"
                raise RunError("spectrum", found, "", "Ask for fewer")
            shift = self._from(shift)

    def _from(self, shift: float) -> float | None:
        """Take the modes near a shift; what the next shift should be, None where that is not known."""
        self.shifts += 1
        resolvent = Resolvent.of(self.generator, shift, plan=self.plan)
        shares, vectors = self._largest(resolvent, shift, adjoint=False)
        rates = shift * (1.0 / np.where(shares == 0.0, 1e-300, shares) - 1.0)
        if (np.abs(rates) <= shift / WINDOW).sum() > sum(abs(value) <= shift / WINDOW for value in self.values):
            return shift / WINDOW  # there are modes in between
        order = [int(i) for i in np.argsort(rates.real, kind="stable") if rates[i].real > 0.0]
        near = [i for i in order if shift / WINDOW < abs(rates[i]) < shift * WINDOW]
        known = sum(abs(value) > shift / WINDOW for value in self.values)
        partners = (shares, vectors) if self.reversible else self._largest(resolvent, shift, adjoint=True)
        for i in near[known:][: self.count - len(self.values)]:
            partner = partners[1][int(np.argmin(np.abs(partners[0] - shares[i])))]
            self._keep(resolvent, shift, complex(rates[i]), vectors[i], partner)
        beyond = min((abs(rates[i]) for i in order if abs(rates[i]) >= shift * WINDOW), default=math.inf)
        return float(beyond) if beyond < shift * TRUSTED else None

    def _largest(self, resolvent: Resolvent, shift: float, *, adjoint: bool) -> tuple[ComplexArray, ComplexArray]:
        """Largest eigenvalues and eigenvectors of W^-1 s (s - Q)^-1 W, or of its transpose."""
        mask = self.kept.astype(np.float64)
        before, after = (self.inverse, self.balance * mask) if adjoint else (self.balance, self.inverse * mask)
        solve = resolvent.solve_adjoint if adjoint else resolvent.solve

        def apply(vectors: FloatArray) -> FloatArray:
            return (solve(before * vectors) * after * shift).floats()

        return _largest(apply, self.kept, self.count + 2, self.reversible)

    @property
    def inverse(self) -> Extended:
        """1 / w on the active cells, 0 elsewhere."""
        return Extended.exp(np.where(self.generator.active, -self.balance.log(), -np.inf))

    def _keep(
        self, resolvent: Resolvent, shift: float, rate: complex, vector: ComplexArray, partner: ComplexArray
    ) -> None:
        """Polish a mode and store it; partner: the left eigenvector."""
        function = _polished(resolvent.solve_adjoint, shift, rate, partner, self.balance, self.balance.log())
        if self.reversible:
            weights = np.asarray(function.real, dtype=np.float64)
            density: ComplexArray = (self.balance * self.balance * weights).floats().astype(np.complex128)
        else:
            density = _polished(resolvent.solve, shift, rate, vector, self.inverse, self.balance.log())
        largest = density[int(np.argmax(np.abs(density)))]
        density = density * (abs(largest) / largest) / np.abs(density).sum()
        self.values.append(rate)
        self.densities.append(density)
        self.functions.append(function / (density * function).sum())


def _probable(log_weight: FloatArray) -> BoolArray:
    """Cells that hold more than exp(-WALL) of the fullest, (cells,): plain doubles do for them."""
    kept: BoolArray = log_weight > log_weight.max() - WALL
    return kept


def _slowest_outside(generator: Generator, kept: BoolArray) -> float:
    """A rate that all modes outside some cells exceed [1/time]: there may be wells high up, but mostly walls.

    With u_k the moments of the time to come back, R u_k = u_(k+1), the slowest rate exceeds max(u_k)**(-1/k).
    """
    outside = generator.active & ~kept
    resolvent = Resolvent.of(generator, 0.0, outside)
    moment, logarithm = outside.astype(np.float64), 0.0
    for _ in range(MOMENTS):
        moment = resolvent.solve_adjoint(moment)
        largest = float(moment.max())
        moment, logarithm = moment / largest, logarithm + math.log(largest)
    return math.exp(-logarithm / MOMENTS)


@final
@dataclass(slots=True, eq=False)
class _Scales:
    """Times of the slowest modes, from the slowest on, to a factor of a few.

    reached: cells that count as reached. The longest mean time to reach one of them exceeds that of the first mode
    that is slower than all exchange between them (for reversible chains always: eigenvalues interlace).
    """

    generator: Generator
    log_weight: FloatArray  # of the cells at rest, (cells,), but for a constant
    reached: list[int]

    def above(self, rate: float) -> float:
        """The next rate well above a given one."""
        for _ in range(int(self.generator.active.sum()) - len(self.reached)):
            cells = self.generator.active.copy()
            cells[self.reached] = False
            times = Resolvent.of(self.generator, 0.0, cells).solve_adjoint(Extended.of(cells.astype(np.float64)))
            logarithms = times.log()
            longest = float(logarithms.max())
            if longest > LONGEST:
                found = f"a mode takes about 1e{longest / math.log(10.0):.0f}"
                raise RunError("spectrum", found, "Its rate must be a floating-point number", "Ask for no spectrum")
            late = logarithms > longest - math.log(2.0)  # a whole well: its most probable cell stands for it
            self.reached.append(int(np.argmax(np.where(late, self.log_weight, -np.inf))))
            found_rate = math.exp(-longest)
            if found_rate > rate * math.sqrt(WINDOW):
                return found_rate
        raise RunError("spectrum", "the chain has no faster modes", "", "Ask for fewer")


def _polished(
    solve: Solve, shift: float, rate: complex, vector: ComplexArray, weight: Extended, log_balance: FloatArray
) -> ComplexArray:
    """The vector over its weight, (cells,), right also where the vector is nothing but rounding.

    In improbable places those entries come from the others by repeated f = (s + lambda) (s - Q)^-1 f: they forget
    where they began, as the process soon leaves for more probable places.
    """
    size = np.abs(vector)
    reliable = (size > NEGLIGIBLE * size.max()) | (log_balance > math.log(NEGLIGIBLE) + log_balance.max())
    whole = np.where(reliable, vector, 0.0)
    parts = np.array([whole.real, whole.imag] if whole.imag.any() else [whole.real])
    given = Extended.of(parts).share_of(weight)
    values, last = given, np.zeros(parts.shape)
    for _ in range(MOST_POLISHING):
        moved = solve(values.narrowed(WIDEST_SOURCE - 20))
        turned = moved * (shift + rate.real)
        if len(parts) == 2:
            turned = turned + moved[::-1] * np.asarray([[-rate.imag], [rate.imag]], dtype=np.float64)
        values = given + turned * (~reliable).astype(np.float64)
        found = values.floats()
        if np.abs(found - last).max() <= POLISHED * np.abs(found).max():
            break
        last = found
    return np.asarray(found[0] + 1j * found[1] if len(parts) == 2 else found[0].astype(np.complex128))


def _largest(operator: Operator, active: BoolArray, count: int, symmetric: bool) -> tuple[ComplexArray, ComplexArray]:
    """Eigenvalues of largest modulus, (count,), and eigenvectors, (count, cells), of an operator of norm about 1.

    Block Krylov spaces, restarted from their best vectors: a block finds multiple eigenvalues, too. Those below
    1 / WINDOW of the norm need not have converged.
    """
    size = int(active.sum())
    width = min(2 * count, size)  # the more beside those that are wanted, the sooner these converge
    block = np.random.default_rng(0).standard_normal((width, active.size)) * active
    for _ in range(MOST_RESTARTS):
        basis, image = _krylov(operator, block, active, size)
        small = basis @ image.T  # (small)_ij = v_i . B v_j
        if symmetric:
            shares, within = np.linalg.eigh(0.5 * (small + small.T))
        else:
            shares, within = np.linalg.eig(small)
        order = np.argsort(-np.abs(shares), kind="stable")[:width]
        shares, within = shares[order], within[:, order]
        vectors = within.T @ basis
        residuals = np.linalg.norm(within.T @ image - shares[:, None] * vectors, axis=1)
        worst = residuals[:count][np.abs(shares[:count]) > 1.0 / WINDOW].max(initial=0.0)
        if worst < RESIDUAL or len(basis) == size:
            return shares[:count].astype(np.complex128), vectors[:count].astype(np.complex128)
        block = vectors.real if symmetric else np.concatenate([vectors.real, vectors.imag])
    found = f"residuals of {worst:.0e} after {MOST_RESTARTS} restarts"
    raise RunError("spectrum", found, "", "Ask for fewer eigenvalues")


def _krylov(operator: Operator, block: FloatArray, active: BoolArray, size: int) -> tuple[FloatArray, FloatArray]:
    """An orthonormal basis of block, B block, B^2 block, ... and what B makes of it, (vectors, cells) each."""
    basis = np.zeros((0, active.size))
    image = np.zeros((0, active.size))
    for _ in range(BLOCKS):
        for _ in range(3):  # twice is enough, once more where only rounding was left
            block = _orthonormal(block - (block @ basis.T) @ basis, active)
        block = block[: size - len(basis)]
        if not len(block):
            break
        moved = operator(block)
        basis, image = np.concatenate([basis, block]), np.concatenate([image, moved])
        block = moved
    return basis, image


def _orthonormal(block: FloatArray, active: BoolArray) -> FloatArray:
    """An orthonormal basis of the rows, on the active cells."""
    result = np.zeros((min(len(block), int(active.sum())), active.size))
    result[:, active] = np.linalg.qr(block[:, active].T)[0].T
    return result
