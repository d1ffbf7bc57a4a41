"""Closed forms for escape times, each with the reason where it does not apply.

Everything is computed as the logarithm of the time: barriers of thousands of thermal energies are wanted.

In one dimension every formula comes from the drift and the diffusion (`line`, `passage_integral`); in more dimensions
they come from the loss at the minimum and at the saddles (`saddle`), that of Xie, Sato & Sugiyama from the way between
them too (`xie`). Where several saddles lead from the minimum into the target, their rates add.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import final

import numpy as np

from fpsolve.analyse.line import Barriers, Line, barriers_to, reach
from fpsolve.analyse.passage_integral import InapplicableError, confined, log_passage_time
from fpsolve.analyse.saddle import Passage, langer_time, passage_to, reason_of
from fpsolve.analyse.stationary_points import StationaryPointError
from fpsolve.analyse.xie import XieTimes, xie_times
from fpsolve.model.grid import FloatArray
from fpsolve.model.noise import Convention
from fpsolve.model.problem import Problem
from fpsolve.model.region import Region, point_weights

SAME_NOISE = 1e-9  # relative: less is rounding
KEPT = 1e-6  # relative: less is rounding, or the error of differences


@final
@dataclass(frozen=True, slots=True)
class ClosedForm:
    """What a formula gives for an escape time.

    log_time: ln of the time; None where the formula has no value.
    applies: whether it should agree with the equation, to its accuracy. A formula may have a value and not apply.
    reason: why it does not apply, a clause for the report; None where it does.
    detail: numbers that the formula took from the problem, by name.
    """

    log_time: float | None
    applies: bool
    reason: str | None
    detail: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def doubted(cls, log_time: float, doubt: str | None, **detail: float) -> ClosedForm:
        """A value, and what speaks against it if anything does."""
        return cls(log_time, doubt is None, doubt, detail)

    @property
    def value(self) -> float | None:
        """The time, or None where there is none or it exceeds the floating-point numbers."""
        if self.log_time is None or self.log_time > math.log(np.finfo(np.float64).max):
            return None
        return math.exp(self.log_time)

    @property
    def log10(self) -> float | None:
        """Decimal logarithm of the time."""
        return None if self.log_time is None else self.log_time / math.log(10.0)


def closed_forms(problem: Problem, start: Sequence[float], target: Region) -> dict[str, ClosedForm]:
    """Every closed form for the mean time from a start to a target, by name, in the order of FORMULAS.

    Parameters
    ----------
    problem : of any dimension; what does not fit a formula becomes its reason.
    start : (axes,) [length].
    target : where the time ends; absorbing walls end it too.

    Returns
    -------
    Times in the unit of time of the drift; see ClosedForm.

    Raises
    ------
    CaseError : the start is not a point of the grid.
    """
    point_weights(problem.grid, start, "escape.start")
    crossing = Crossing(problem, np.asarray(start, dtype=np.float64), target)
    return {name: _answer(formula, crossing) for name, formula in FORMULAS.items()}


@final
@dataclass(frozen=True)
class Crossing:
    """A start, a target and what several formulas need of the way between."""

    problem: Problem
    start: FloatArray  # (axes,)
    target: Region

    @cached_property
    def over_drift(self) -> ClosedForm:
        """The low-noise formula, in one dimension."""
        return _answer(_over_drift, self)

    @cached_property
    def over_loss(self) -> ClosedForm:
        """Langer's formula; in one dimension it is the low-noise formula."""
        return self.over_drift if self.problem.grid.dimensions == 1 else _answer(_over_loss, self)

    @cached_property
    def barriers(self) -> Barriers:
        """The barriers in one dimension."""
        return barriers_to(Line(self.problem), float(self.start[0]), self.target)

    @cached_property
    def passage(self) -> Passage:
        """The minimum and the saddles of the loss."""
        return passage_to(self.problem, self.start, self.target)

    @cached_property
    def xie(self) -> XieTimes | str:
        """The times of Xie, Sato & Sugiyama, or the reason why there are none."""
        try:
            if self.problem.diffusion.constant is not None:
                return "the noise is constant, not proportional to the Hessian"
            return xie_times(self.passage)
        except (InapplicableError, StationaryPointError) as refusal:
            return reason_of(refusal)

    def check_one_axis(self) -> None:
        """Refuse more than one dimension."""
        if (axes := self.problem.grid.dimensions) != 1:
            reason = f"the grid has {axes} dimensions, the formula one"
            raise InapplicableError(reason)

    def check_constant_noise(self) -> None:
        """Refuse noise that depends on the position."""
        if self.problem.diffusion.constant is None:
            raise InapplicableError(_noise_changes(self))

    def check_temperature(self) -> None:
        """Refuse noise that is not D = T M."""
        self.check_no_momentum()
        if self.problem.landscape.loss is None:
            reason = "the landscape gives a drift and no loss"
            raise InapplicableError(reason)
        self.check_constant_noise()
        if self.problem.temperature is None:
            reason = "the diffusion is not proportional to the mobility, so exp(-loss/T) is not the density at rest"
            raise InapplicableError(reason)

    def check_no_momentum(self) -> None:
        """Refuse a position with a velocity."""
        if self.problem.landscape.inertia is not None:
            reason = "the formula is one without momentum"
            raise InapplicableError(reason)

    def check_boltzmann(self) -> None:
        """Refuse what does not have exp(-loss/T) at rest, without currents."""
        landscape = self.problem.landscape
        self.check_no_momentum()
        if landscape.loss is not None and not landscape.is_gradient:
            reason = "the drift is not minus the gradient of the loss"
            raise InapplicableError(reason)
        self.check_temperature()


def kramers(crossing: Crossing) -> ClosedForm:
    """Kramers (1940): one dimension, constant D, any drift.

    tau = 2 pi / sqrt(L''_a |L''_b|) exp((L_b - L_a) / D), a the minimum and b the saddle; with a mobility m and D = T m
    1/m times that, with T in the exponent. For D constant it is the low-noise formula.
    """
    crossing.check_one_axis()
    crossing.check_constant_noise()
    return crossing.over_drift


def eyring_kramers(crossing: Crossing) -> ClosedForm:
    """Eyring-Kramers: D = T I, unit mobility; tau = 2 pi / |l_b| sqrt(|det H_b| / det H_a) exp((L_b - L_a) / T).

    l_b is the negative eigenvalue of the Hessian H_b at the saddle (Bovier, Eckhoff, Gayrard & Klein 2004).
    """
    crossing.check_boltzmann()
    mobility = crossing.problem.landscape.mobility
    if not np.allclose(mobility, np.eye(len(mobility)), rtol=0.0, atol=1e-12):
        reason = "the mobility is not the identity: Langer's formula is the one with a mobility"
        raise InapplicableError(reason)
    return crossing.over_loss


def langer(crossing: Crossing) -> ClosedForm:
    """Langer (1969): drift -M grad L, D = T M; tau = 2 pi / l sqrt(|det H_b| / det H_a) exp((L_b - L_a) / T).

    l is the positive eigenvalue of -M H_b: the rate at which the saddle is left.
    """
    crossing.check_boltzmann()
    return crossing.over_loss


def irreversible(crossing: Crossing) -> ClosedForm:
    """Langer's formula for the drift -M grad L + f where f keeps the density exp(-L/T): Bouchet & Reygner (2016).

    l is the positive eigenvalue of the derivative of the drift at the saddle, -M H_b + df_b. The density is kept where
    div f = 0 and f . grad L = 0, which is looked at in every cell (Lee & Seo 2022, for the proof).
    """
    crossing.check_temperature()
    if crossing.problem.landscape.is_gradient:
        reason = "the drift is minus the gradient of the loss: Langer's formula says the same"
        raise InapplicableError(reason)
    _check_density_kept(crossing.problem)
    return ClosedForm.doubted(langer_time(crossing.passage), crossing.passage.doubt)


def low_noise(crossing: Crossing) -> ClosedForm:
    """One dimension, any D(x), by Laplace's method: the leading order of the exact integral for weak noise.

    tau = 2 pi / sqrt(|m_a| m_b) (D_b / D_a)**(1/2 - alpha) exp(-integral from a to b of m / D), m the drift as given,
    m_a and m_b its slopes; alpha = 0 (Ito), 1/2 (Stratonovich), 1 (isothermal).
    """
    crossing.check_one_axis()
    return crossing.over_drift


def exact_integral(crossing: Crossing) -> ClosedForm:
    """One dimension, any D(x): the mean first-passage time itself (Gardiner 2009, section 5.5).

    With psi = integral of v / D, v the flux drift, and the far end reflecting or far away,
    tau = integral over y of exp(-psi(y)) / D(y) * integral over z before y of exp(psi(z)),
    y from the start to the target. Between two absorbing ends, with S(y, z) = integral of exp(-psi) / D,
    tau = S(x, r) / S(l, r) integral_l^x S(l, z) exp(psi(z)) dz + S(l, x) / S(l, r) integral_x^r S(z, r) exp(psi(z)) dz.
    Absorbing walls count as target. An infinite end that is reached counts as its last cell, if the integral converges.
    """
    crossing.check_one_axis()
    start = float(crossing.start[0])
    lower, upper = reach(Line(crossing.problem), start, crossing.target)
    ends, absorbing = (lower.place, upper.place), (lower.absorbs, upper.absorbs)
    infinite = crossing.problem.grid.axes[0].infinite
    for end, beyond in zip((lower, upper), infinite, strict=True):
        if beyond and not end.absorbs and not confined(crossing.problem, start, end.place):
            reason = "the integral does not converge: nothing confines the process at infinity"
            raise InapplicableError(reason)
    return ClosedForm.doubted(log_passage_time(crossing.problem, start, ends, absorbing), None)


def xie(crossing: Crossing, convention: Convention) -> ClosedForm:
    """Xie, Sato & Sugiyama (2021), theorem 3.2, with the prefactor of a convention; see `xie`.

    detail: s, the share of the climb before the inflection of the way; minimum_curvature and saddle_curvature along
    the way; learning_rate_over_twice_batch_size, the factor of |H| in D; saddles, the number of ways whose rates were
    added (s and the curvatures are those of the lowest).
    """
    found = crossing.xie
    if isinstance(found, str):
        raise InapplicableError(found)
    way = found.ways[0]
    return ClosedForm.doubted(
        found.log_time(convention),
        found.doubt_of(convention),
        s=way.share,
        minimum_curvature=way.minimum_curvature,
        saddle_curvature=way.saddle_curvature,
        learning_rate_over_twice_batch_size=found.noise,
        saddles=float(len(found.ways)),
    )


FORMULAS: dict[str, Callable[[Crossing], ClosedForm]] = {
    "kramers": kramers,
    "eyring_kramers": eyring_kramers,
    "langer": langer,
    "irreversible_eyring_kramers": irreversible,
    "low_noise": low_noise,
    "exact_integral": exact_integral,
    "xie_ito": partial(xie, convention="ito"),
    "xie_stratonovich": partial(xie, convention="stratonovich"),
    "xie_isothermal": partial(xie, convention="isothermal"),
}


def _answer(formula: Callable[[Crossing], ClosedForm], crossing: Crossing) -> ClosedForm:
    """What the formula gives, or the reason why it gives nothing."""
    try:
        return formula(crossing)
    except (InapplicableError, StationaryPointError) as refusal:
        return ClosedForm(None, False, reason_of(refusal))


def _over_drift(crossing: Crossing) -> ClosedForm:
    return ClosedForm.doubted(crossing.barriers.log_time, crossing.barriers.doubt)


def _over_loss(crossing: Crossing) -> ClosedForm:
    crossing.check_boltzmann()
    return ClosedForm.doubted(langer_time(crossing.passage), crossing.passage.doubt)


def _check_density_kept(problem: Problem) -> None:
    """Refuse an added drift f whose divergence, or whose work f . grad L, is more than rounding in some cell."""
    positions, landscape = problem.grid.positions(), problem.landscape
    assert landscape.extra_drift is not None
    assert landscape.gradient is not None
    extra, slopes = landscape.extra_drift(positions), landscape.extra_drift.derivative()(positions)
    gradient = landscape.gradient(positions)
    divergence, size = np.abs(np.einsum("iip->p", slopes)), np.linalg.norm(slopes, axis=(0, 1))
    work, bound = (
        np.abs((extra * gradient).sum(axis=0)),
        np.linalg.norm(extra, axis=0) * np.linalg.norm(gradient, axis=0),
    )
    for what, found, largest in (("has a divergence", divergence, size), ("does work against the loss", work, bound)):
        if (wrong := found > KEPT * largest).any():
            place = problem.grid.place(int(np.argmax(wrong)))
            reason = f"exp(-loss/T) is not the density at rest: the added drift {what}, as in {place}"
            raise InapplicableError(reason)


def _noise_changes(crossing: Crossing) -> str:
    """That D depends on the position, and how much: between minimum and saddle where they are known."""
    traces = np.einsum("ii...->...", crossing.problem.diffusion_at_cells)
    place = "over the grid"
    if crossing.problem.grid.dimensions == 1 and crossing.over_drift.log_time is not None:
        barrier = crossing.barriers.lowest
        traces = barrier.line.diffusion(barrier.line.points(barrier.minimum, barrier.saddle))
        place = "between the minimum and the saddle"
    ratio = float(traces.max() / traces.min())
    if ratio < 1.0 + SAME_NOISE:
        return "the noise is given as a function of the position, if a constant one; give it as a number or a matrix"
    amount = f"{ratio:.2g}" if ratio < 10.0 else f"{ratio:.0f}"
    return f"the noise depends on the position: D changes {amount}-fold {place}"
