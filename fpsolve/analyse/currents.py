"""Probability currents, and how far a state is from equilibrium. All of them are the scheme's own edge currents."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fpsolve.discretise.generator import Generator
from fpsolve.model.grid import FloatArray
from fpsolve.solve.extended import Extended

# Edge currents below this share of the traffic are as good as none: what the quadrature of a gradient leaves.
NOTICEABLE_CURRENT = 1e-5
# A difference of two traffics below this share of them is rounding.
CANCELLED = 1e-11


def current_density(generator: Generator, probability: FloatArray) -> FloatArray:
    """Current density at the cell centres, (axes, cells): the mean of the two faces of each cell.

    Unit [1/time/length**(axes-1)].
    """
    return at_centres(generator.face_currents(probability))


def at_centres(faces: Sequence[FloatArray]) -> FloatArray:
    """Density of a current at the cell centres, (axes, cells), from that through the faces, one array per axis."""
    axes = len(faces)
    means = []
    for axis, values in enumerate(faces):
        lower = tuple(slice(None, -1) if other == axis else slice(None) for other in range(axes))
        upper = tuple(slice(1, None) if other == axis else slice(None) for other in range(axes))
        means.append(0.5 * (values[lower] + values[upper]).ravel())
    return np.array(means)


def net_current(there: Extended, back: Extended, unit: Extended) -> FloatArray:
    """The difference of two traffics along edges, (edges,), in units of a number of shape ().

    0 where the two are equal to rounding: in a well at the foot of a high barrier nothing is left of it.
    """
    net = there + back * -1.0
    noise = net.share_of(there + back).floats()
    return np.where(np.abs(noise) > CANCELLED, (net / unit).floats(), 0.0)


def entropy_production(generator: Generator, probability: FloatArray) -> float:
    """Total entropy production [1/time], non-negative, zero only in equilibrium (Schnakenberg 1976, eq. 7.6).

    sum over edges of (a - b) ln(a / b), with a = forward P(origin) and b = backward P(end); edges without
    traffic in one direction (underflow in the far tails) are left out.
    """
    edges = generator.edges
    there = edges.forward * probability[edges.origin]
    back = edges.backward * probability[edges.end]
    busy = (there > 0.0) & (back > 0.0)
    there, back = there[busy], back[busy]
    return float(((there - back) * (np.log(there) - np.log(back))).sum())


def detailed_balance(generator: Generator, probability: FloatArray) -> float:
    """Largest edge current over the largest one-way traffic of an edge: rounding in equilibrium, else up to 1."""
    edges = generator.edges
    there = edges.forward * probability[edges.origin]
    back = edges.backward * probability[edges.end]
    busiest = max(there.max(initial=0.0), back.max(initial=0.0), np.finfo(np.float64).tiny)
    return float(np.abs(there - back).max(initial=0.0) / busiest)
