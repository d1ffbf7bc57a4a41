"""The running flux: how fast a valley empties as time goes on, and from when it does so at a steady rate."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import final

import numpy as np

from fpsolve.analyse.passage_integral import InapplicableError
from fpsolve.discretise.generator import Generator
from fpsolve.errors import RunError
from fpsolve.model.grid import FloatArray
from fpsolve.model.region import PointWeights
from fpsolve.solve.elimination import WIDEST_SOURCE, Resolvent
from fpsolve.solve.extended import Extended
from fpsolve.solve.ordering import Plan
from fpsolve.solve.passage import net_flux, outflow

STEPS = 8  # of one length, before it is doubled
FLAT = 0.01  # relative change that a plateau may show
PLATEAU = 10.0  # it lasts at least from one time to this many times it
PATIENCE = 20.0  # escape times that are waited for a plateau
MOST_DOUBLINGS = 400
# ln of escape times up to which cells below 1e-264 of the fullest do not matter to the flux: it is 1e-200 of it.
SHALLOW = 460.0


@final
@dataclass(frozen=True, slots=True, eq=False)
class RunningFlux:
    """Population of the valley over the net flux through its surface, in time.

    times: (instants,) [time], short of quasi-equilibrium and a little beyond; log_values: ln of the ratio, a time that
    may exceed all floating-point numbers, (instants,), infinite where no net flux leaves; log_plateau: ln of the ratio
    where it is flat; onset: the time from when on the ratio stays within FLAT of that: quasi-equilibrium sets in.
    """

    times: FloatArray
    log_values: FloatArray
    log_plateau: float
    onset: float


def running_flux(
    killed: Generator, start: PointWeights, log_time: float, valley: FloatArray | None = None
) -> RunningFlux:
    """Follow the density from a start, with the target absorbing, until the valley empties at a steady rate.

    The plateau is the first stretch over which the ratio P_V(t) / (flux through the surface of V)(t) changes by less
    than 1 % while t grows tenfold. The density moves by implicit Euler steps (1 - dt Q)^-1: no step subtracts
    anything, so every cell is right to rounding at any barrier, and the state that decays as a whole (the
    quasi-stationary one) is kept exactly whatever dt is, so the plateau has no error in time. After every
    STEPS steps dt is doubled. A second march with twice the step serves to extrapolate the onset: 2 % at most.

    Parameters
    ----------
    killed : the chain absorbed in the target. start : inside the valley. log_time : ln of the mean time to escape.
    valley : weights of the cells, (cells,); None for all that is outside the target.

    Raises
    ------
    InapplicableError : the ratio settles only when most of the probability has left: there is no quasi-equilibrium.
    """
    source = Extended.of(start.inject(killed.grid.size) * killed.active)
    shallow = log_time < SHALLOW
    fine, coarse = _March(killed, valley, shallow, source), _March(killed, valley, shallow, source)
    time_step, plan = 1.0 / float(killed.departure[start.cells].max()), Plan.of(killed)
    for doubling in range(MOST_DOUBLINGS):
        resolvent = Resolvent.of(killed, 1.0 / time_step, plan=plan)
        settled = fine.is_flat()
        if doubling > 0:  # one doubling behind, so that the two share their matrices
            coarse.go(resolvent, time_step, STEPS // 2)
        if settled:
            return _read(fine, coarse)
        fine.go(resolvent, time_step, STEPS)
        if math.log(fine.times[-1] / PATIENCE) > fine.log_values[-1] and not fine.is_flat():
            reason = "the flux does not settle before the probability has left: no barrier holds it back"
            raise InapplicableError(reason)
        time_step *= 2.0
    raise RunError("running flux", f"no plateau until t = {fine.times[-1]:g}", "", "")


@final
@dataclass(slots=True, eq=False)
class _March:
    """A density on its way, and what has been read on it. Its sum is kept at one: only ratios matter."""

    killed: Generator
    valley: FloatArray | None
    shallow: bool  # cells that hold next to nothing may be left out: plain doubles do
    state: Extended
    times: list[float] = field(default_factory=list)
    log_values: list[float] = field(default_factory=list)

    def go(self, resolvent: Resolvent, time_step: float, steps: int) -> None:
        """So many steps of implicit Euler."""
        for _ in range(steps):
            moved = resolvent.solve(self.state)
            self.state = moved / moved.sum()
            if self.shallow:
                self.state = self.state.narrowed(WIDEST_SOURCE - 20)
            self.times.append((self.times[-1] if self.times else 0.0) + time_step)
            self.log_values.append(self._log_ratio())

    def _log_ratio(self) -> float:
        if self.valley is None:
            return -float(outflow(self.killed, self.state).sum().log())
        flux = net_flux(self.killed, self.state, self.valley)
        return float(((self.state * self.valley).sum() / flux).log()) if flux.mantissa > 0.0 else math.inf

    def is_flat(self) -> bool:
        """Whether the last stretch is a plateau."""
        if not self.times or self.times[0] * PLATEAU > self.times[-1] or self.log_values[-1] == math.inf:
            return False
        times, values = np.array(self.times), np.array(self.log_values)
        last = values[times * PLATEAU >= times[-1]]
        return bool((np.abs(last - last[-1]) < FLAT).all())

    def onset(self, log_plateau: float) -> float:
        """Time from which the ratio stays within FLAT of a value; 0 where it always does."""
        off = np.abs(np.array(self.log_values) - log_plateau)
        (outside,) = np.nonzero(off > FLAT)
        if outside.size == 0:
            return 0.0
        last = int(outside[-1])
        if last + 1 == off.size or off[last] == math.inf:
            return self.times[last]
        share = math.log(off[last] / FLAT) / math.log(off[last] / max(off[last + 1], 1e-300))
        return self.times[last] + share * (self.times[last + 1] - self.times[last])


def _read(fine: _March, coarse: _March) -> RunningFlux:
    log_plateau = fine.log_values[-1]
    onset = max(2.0 * fine.onset(log_plateau) - coarse.onset(log_plateau), 0.0)
    if onset > 0.0 and math.log(onset) > log_plateau:
        reason = f"the flux settles at t = {onset:.3g}, when most of the probability has left: no barrier holds it back"
        raise InapplicableError(reason)
    return RunningFlux(np.array(fine.times), np.array(fine.log_values), log_plateau, onset)
