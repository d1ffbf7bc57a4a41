"""The mean first-passage time in one dimension, as an integral that is exact to rounding.

With psi = integral of v / D, v the flux drift, exp(psi) is the density of a closed box at rest ("speed"), and
exp(-psi) / D is how hard each point is to pass ("scale"); the time is a double integral of their product.

Both are known at the Gauss-Legendre nodes of panels that are halved until nothing changes, and are kept as
logarithms: barriers of thousands of thermal energies are wanted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np

from fpsolve.analyse.geometry import describe, wrapped
from fpsolve.model.grid import BoolArray, FloatArray
from fpsolve.model.problem import Problem

# Panels are split until their last two coefficients are rounding.
NODES = 20  # per panel
FIRST_PANELS = 128
MOST_PANELS = 2_000  # where the formulas of a user round coarsely, more would not help
NARROWEST_PANEL = 1e-13  # of the whole interval
RESOLVED = 1e-13
# Beyond the last cell of an infinite axis the density must lose this share of its mass at every doubling of the
# distance, as it does below a density of 1 / x**1.07; it is looked at over three doublings.
LOSS_BY_DOUBLING, DOUBLINGS = 0.05, 3
UNSETTLED = 1e-6  # change of the result when all panels are halved; above this it is refused


class InapplicableError(Exception):
    """A formula has no value; the message is the reason, as a clause for the report."""


def log_passage_time(problem: Problem, start: float, ends: tuple[float, float], absorbing: tuple[bool, bool]) -> float:
    """Logarithm of the mean time from a start to the absorbing ends of an interval around it.

    Parameters
    ----------
    problem : of one dimension.
    start, ends : [length]; on a periodic axis they may lie beyond its ends.
    absorbing : for each end, whether it absorbs; at least one does, the other may reflect.

    Raises
    ------
    InapplicableError : D is not positive somewhere, or the integral does not settle.
    """
    sides = [np.linspace(start, end, FIRST_PANELS + 1) for end in ends]
    return _settled(
        _Panels.between(problem, np.unique(np.concatenate(sides))),
        lambda panels: _coarse(panels, start, absorbing),
        lambda panels: _log_time(panels, start, absorbing),
    )


def confined(problem: Problem, start: float, last: float) -> bool:
    """Whether the density at rest can be normalised beyond the last cell towards an infinite end of the axis.

    Between doublings of the distance from the start its mass must fall; the mass of 1 / x is the same in all.
    """
    distances = (last - start) * 2.0 ** np.linspace(0.0, DOUBLINGS, 16 * DOUBLINGS + 1)
    edges = np.sort(np.append(start + distances, np.linspace(start, last, FIRST_PANELS + 1)[:-1]))
    with np.errstate(over="ignore", invalid="ignore"):
        panels = _Panels.between(problem, edges)
        masses = _log_panels(panels.log_densities(start)[0], panels.widths)
    outward = masses[-16 * DOUBLINGS :] if last > start else masses[: 16 * DOUBLINGS][::-1]
    doubled = np.logaddexp.reduce(outward.reshape(DOUBLINGS, 16), axis=1)
    if not np.isfinite(doubled).all():  # the loss overflows, or no probability is left, so far out
        return True
    return bool(doubled[-1] <= doubled[-2] + np.log1p(-LOSS_BY_DOUBLING))


def remainder_integral(problem: Problem, origin: float, end: float) -> float:
    """Integral from origin to end of the part of v / D that has no known potential. Raises as log_passage_time."""
    if end < origin:
        return -remainder_integral(problem, end, origin)
    return _settled(
        _Panels.between(problem, np.linspace(origin, end, FIRST_PANELS + 1)),
        lambda panels: panels.unsure > RESOLVED,
        lambda panels: float(panels.remainder_integrals.sum()),
    )


def positive_diffusion(problem: Problem, positions: FloatArray) -> FloatArray:
    """D at positions (1, points), (points,); InapplicableError where it is not positive."""
    diffusion: FloatArray = problem.diffusion.matrix(positions)[0, 0]
    wrong = ~(diffusion > 0.0)
    if wrong.any():
        reason = f"D is not positive at {describe(problem.grid, positions[:, wrong][:, 0])}"
        raise InapplicableError(reason)
    return diffusion


def _legendre_tables() -> tuple[FloatArray, FloatArray, FloatArray, FloatArray]:
    """Nodes and weights on [-1, 1]; values at the nodes -> Legendre coefficients; -> integrals from -1 to the nodes.

    The integral of P_k is (P_(k+1) - P_(k-1)) / (2 k + 1), with P_(-1) = -1.
    """
    nodes, weights = np.polynomial.legendre.leggauss(NODES)
    polynomials = np.polynomial.legendre.legvander(nodes, NODES)  # (nodes, order)
    orders = np.arange(NODES)
    coefficients = (orders[:, None] + 0.5) * polynomials[:, :NODES].T * weights
    below = np.concatenate([-np.ones((NODES, 1)), polynomials[:, : NODES - 1]], axis=1)
    integrals = (polynomials[:, 1:] - below) / (2.0 * orders + 1.0)
    return nodes, weights, coefficients, integrals @ coefficients


NODE, WEIGHT, COEFFICIENTS, ANTIDERIVATIVE = _legendre_tables()


def _tail(values: FloatArray) -> FloatArray:
    """Size of the last two Legendre coefficients of values at the nodes, (panels,): what is not resolved."""
    size: FloatArray = np.abs(values @ COEFFICIENTS[-2:].T).max(axis=1)
    return size


@final
@dataclass(frozen=True, slots=True)
class _Panels:
    """Adjoining panels, with v / D and D at their Gauss-Legendre nodes.

    edges: ascending, (panels + 1,) [length]; the others (panels, NODES): potential: the part of psi that is known;
    remainder: the rest of v / D, times half the width of the panel; diffusion [length**2/time].
    """

    problem: Problem
    edges: FloatArray
    potential: FloatArray
    remainder: FloatArray
    diffusion: FloatArray

    @classmethod
    def between(cls, problem: Problem, edges: FloatArray) -> _Panels:
        """The panels between ascending edges."""
        half = 0.5 * np.diff(edges)[:, None]
        points = 0.5 * (edges[:-1] + edges[1:])[:, None] + half * NODE
        positions, exponent = wrapped(problem.grid, points.reshape(1, -1)), problem.exponent
        diffusion = positive_diffusion(problem, positions).reshape(points.shape)
        potential, remainder = np.zeros_like(points), np.zeros_like(points)
        if exponent.potential is not None:
            potential = exponent.potential(positions).reshape(points.shape)
        if exponent.remainder is not None:
            remainder = exponent.remainder(positions)[0].reshape(points.shape) * half
        return cls(problem, edges, potential, remainder, diffusion)

    @property
    def widths(self) -> FloatArray:
        return np.diff(self.edges)

    @property
    def remainder_integrals(self) -> FloatArray:
        """Integral over each panel, (panels,)."""
        return self.remainder @ WEIGHT

    @property
    def unsure(self) -> FloatArray:
        """Error of the integrals of the remainder, (panels,), less what is rounding."""
        rounding = 8.0 * np.finfo(np.float64).eps * np.abs(self.remainder).max(axis=1)
        return np.asarray(_tail(self.remainder) - rounding)

    def log_densities(self, start: float) -> tuple[FloatArray, FloatArray, int]:
        """Logarithms of speed and scale at the nodes, (panels, NODES), and the number of panels before the start.

        psi is zero at the start, which is an edge.
        """
        split, whole = int(np.searchsorted(self.edges, start)), self.remainder_integrals
        # Summed from the start outward: a sum from the wall would round at the height of the wall.
        before = np.concatenate([-np.cumsum(whole[:split][::-1])[::-1], [0.0], np.cumsum(whole[split:])])
        psi = before[:-1, None] + self.remainder @ ANTIDERIVATIVE.T + self.potential
        if (potential := self.problem.exponent.potential) is not None:
            psi -= potential(wrapped(self.problem.grid, np.array([[start]])))
        return psi, -psi - np.log(self.diffusion), split

    def halved(self, where: BoolArray | None = None) -> _Panels:
        """The panels with some of them, or all, cut in the middle."""
        middles = 0.5 * (self.edges[:-1] + self.edges[1:])
        added = middles if where is None else middles[where]
        return _Panels.between(self.problem, np.sort(np.append(self.edges, added)))


def _settled(panels: _Panels, coarse: Callable[[_Panels], BoolArray], integral: Callable[[_Panels], float]) -> float:
    """The integral over panels that are halved while coarse; halving all once more shows that it has settled."""
    narrowest = NARROWEST_PANEL * (panels.edges[-1] - panels.edges[0])
    while panels.widths.size < MOST_PANELS and (where := coarse(panels) & (panels.widths > narrowest)).any():
        panels = panels.halved(where)
    finer = integral(panels.halved())
    change = abs(finer - integral(panels))
    if not change <= UNSETTLED:
        cut = f"when its {panels.widths.size} panels are halved (does D vanish somewhere?)"
        reason = f"the integral still changes by {change:.1g} {cut}"
        raise InapplicableError(reason)
    return finer


def _log_time(panels: _Panels, start: float, absorbing: tuple[bool, bool]) -> float:
    """Logarithm of the time for a start on the edge of a panel. Only positive terms are added."""
    (speed, scale, split), widths = panels.log_densities(start), panels.widths
    if absorbing == (True, False):
        speed, scale, widths, split = speed[::-1, ::-1], scale[::-1, ::-1], widths[::-1], len(widths) - split
    if absorbing != (True, True):
        return _log_integral((scale + _log_cumulative(speed, widths))[split:], widths[split:])
    from_lower = _log_cumulative(scale, widths)[:split]
    to_upper = _log_cumulative(scale[::-1, ::-1], widths[::-1])[::-1, ::-1][split:]
    below, above = _log_integral(scale[:split], widths[:split]), _log_integral(scale[split:], widths[split:])
    first = above + _log_integral(from_lower + speed[:split], widths[:split])
    second = below + _log_integral(to_upper + speed[split:], widths[split:])
    return float(np.logaddexp(first, second) - np.logaddexp(below, above))


def _log_panels(log_values: FloatArray, widths: FloatArray) -> FloatArray:
    """Logarithm of the integral of exp(log_values) over each panel, (panels,)."""
    peaks = log_values.max(axis=1)
    return np.asarray(np.log(0.5 * widths * (np.exp(log_values - peaks[:, None]) @ WEIGHT)) + peaks)


def _log_integral(log_values: FloatArray, widths: FloatArray) -> float:
    """Logarithm of the integral of exp(log_values) over all panels."""
    return float(np.logaddexp.reduce(_log_panels(log_values, widths)))


def _log_cumulative(log_values: FloatArray, widths: FloatArray) -> FloatArray:
    """Logarithm of the integral of exp(log_values) from the first edge to every node, (panels, NODES)."""
    peaks = log_values.max(axis=1, keepdims=True)
    inside = 0.5 * widths[:, None] * (np.exp(log_values - peaks) @ ANTIDERIVATIVE.T)
    # Where a panel is too coarse to matter, the antiderivative may come out below zero.
    log_inside = np.log(np.maximum(inside, np.finfo(np.float64).tiny)) + peaks
    whole = np.logaddexp.accumulate(_log_panels(log_values, widths))
    before = np.concatenate([[-np.inf], whole[:-1]])[:, None]
    return np.asarray(np.logaddexp(before, log_inside))


def _coarse(panels: _Panels, start: float, absorbing: tuple[bool, bool]) -> BoolArray:
    """Panels whose unresolved part, times their largest share in the time, is above rounding."""
    (speed, scale, split), widths = panels.log_densities(start), panels.widths
    rough = np.maximum(*(_tail(np.exp(log - log.max(axis=1, keepdims=True))) for log in (speed, scale)))
    totals = _log_panels(speed, widths), _log_panels(scale, widths)
    shares = []
    if absorbing[1]:
        shares.append(_log_pairs(*totals, split))
    if absorbing[0]:
        shares.append(_log_pairs(totals[0][::-1], totals[1][::-1], len(widths) - split)[::-1])
    # With two exits the time is at most that through either alone.
    whole = min(share.max() for share in shares)
    share = np.exp(np.minimum(np.maximum.reduce(shares) - whole, 0.0))
    rounding = 16.0 * np.finfo(np.float64).eps * np.abs(speed).max(axis=1)
    return np.asarray((rough * share > RESOLVED + rounding) | (panels.unsure > RESOLVED))


def _log_pairs(speed: FloatArray, scale: FloatArray, split: int) -> FloatArray:
    """Logarithm of the largest term with each panel, (panels,), of the double sum over z <= y, y from `split` on."""
    outer = np.where(np.arange(scale.size) >= split, scale, -np.inf)
    ahead = np.maximum.accumulate(outer[::-1])[::-1]
    return np.asarray(np.maximum(speed + ahead, outer + np.maximum.accumulate(speed)))
