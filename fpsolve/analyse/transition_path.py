"""The transition path: committors between a core and a target, the reactive current, and its rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from fpsolve.analyse.currents import flow as steady_flow
from fpsolve.analyse.passage_integral import InapplicableError
from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError
from fpsolve.model.grid import FloatArray
from fpsolve.model.region import Region
from fpsolve.solve.extended import Extended
from fpsolve.solve.passage import union
from fpsolve.solve.reactive import Reactive
from fpsolve.solve.stationary import stationary


@final
@dataclass(frozen=True, slots=True, eq=False)
class TransitionPath:
    """Transitions from a core A to a target B, at rest.

    log_time: ln(1 / k), k = transitions per time over the probability to have visited A last; committor: probability
    to reach B before A, (cells,); backward_committor: probability to have visited A later than B, (cells,);
    current: current density of the trajectories on their way from A to B, of total flux 1, (axes, cells).
    """

    core: Region
    log_time: float
    committor: FloatArray
    backward_committor: FloatArray
    current: FloatArray


def transition_path(generator: Generator, core: Region, targets: Sequence[Region]) -> TransitionPath:
    """Transitions from a core to the union of the targets (E & Vanden-Eijnden 2006).

    With q+ the committor to B and m = P q- the probability at rest to be there and to have visited A last, the edge
    from i to j carries  m_i f q+_j - m_j b q+_i  transitions per time.

    Raises InapplicableError where walls absorb, or when core and target meet or hold no cell.
    """
    if not generator.closed:
        reason = f"probability is lost through {', '.join(generator.exits.gates)}"
        raise InapplicableError(reason)
    try:
        chain = Reactive.of(generator, [core, union(targets, generator.grid.dimensions)], stationary(generator))
    except CaseError as error:
        raise InapplicableError(error.found) from None
    ahead, since, flux = chain.committor(1), chain.last_visited(0), chain.flux(0)[1]
    return TransitionPath(
        core=core,
        log_time=float((since.sum() / flux).log()),
        committor=_probability(ahead),
        backward_committor=_probability(chain.backward_committor(0)),
        current=_reactive_current(chain, ahead, since, flux),
    )


def _probability(values: Extended) -> FloatArray:
    """In [0, 1]: sums of probabilities exceed 1 by rounding."""
    return np.minimum(values.floats(), 1.0)


def _reactive_current(chain: Reactive, ahead: Extended, since: Extended, flux: Extended) -> FloatArray:
    generator = chain.generator
    edges, exits = generator.edges, generator.exits
    there = since[edges.origin] * ahead[edges.end] * edges.forward
    back = since[edges.end] * ahead[edges.origin] * edges.backward
    into_target = since[exits.cell] * np.where(exits.gate == 1, exits.rate, 0.0)
    from_core = chain.entry * ahead[exits.cell] * np.where(exits.gate == 0, -1.0, 0.0)
    leaving = ((into_target + from_core) / flux).floats()
    return steady_flow(generator, there, back, flux, leaving, np.zeros(generator.grid.size))
