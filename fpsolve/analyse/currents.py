"""Probability currents, and how far a state is from equilibrium. All of them are the scheme's own edge currents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import scipy.sparse as sparse
from scipy.sparse.csgraph import connected_components

from fpsolve.discretise import kernels
from fpsolve.discretise.generator import Generator
from fpsolve.model.grid import BoolArray, FloatArray, Grid, IntArray, in_pieces
from fpsolve.model.problem import Problem
from fpsolve.solve.elimination import WIDEST_SOURCE, Resolvent
from fpsolve.solve.extended import Extended
from fpsolve.solve.passage import Passage, outflow

# Edge currents below this share of the traffic are as good as none: what the quadrature of a gradient leaves.
NOTICEABLE_CURRENT = 1e-5
# A difference of two traffics below this share of them is lost in rounding, or will be before long.
CANCELLED = 1e-9
# Flow into a region less flow out of it, as a share of all flow, beyond which what was lost inside is sought again.
LARGEST_DEFECT = 1e-5
# A slope of ln p [1/cell] beyond which, as beside a cell that holds nothing, p itself is as good.
LARGEST_LOG_SLOPE = 5.0
# Loops in a well exceed the flux out of it by exp(barrier / noise); beyond this they are held here.
LARGEST_CURRENT = 1e290


def current_density(generator: Generator, probability: FloatArray) -> FloatArray:
    """Current density at the cell centres, (axes, cells): the mean of the two faces of each cell.

    Unit [1/time/length**(axes-1)].
    """
    return at_centres(generator.grid, generator.face_currents(probability))


def at_centres(grid: Grid, faces: Sequence[FloatArray]) -> FloatArray:
    """Density of a current at the cell centres, (axes, cells), from that through the faces, one array per axis.

    A vector in the coordinates of positions, on a turned grid too.
    """
    axes = len(faces)
    means = []
    for axis, values in enumerate(faces):
        lower = tuple(slice(None, -1) if other == axis else slice(None) for other in range(axes))
        upper = tuple(slice(1, None) if other == axis else slice(None) for other in range(axes))
        means.append(0.5 * (values[lower] + values[upper]).ravel())
    return grid.unturned(np.array(means))


@final
@dataclass(frozen=True, slots=True)
class CurrentParts:
    """What the current of a density is made of, J = drift - D grad p - (div D) p, each (axes, cells) at cell centres.

    drift: mu p, mu being Ito's drift; diffusion: -D grad p; noise_gradient: -(div D) p, from loud places to quiet ones.
    Unit [1/time/length**(axes-1)].
    """

    drift: FloatArray
    diffusion: FloatArray
    noise_gradient: FloatArray

    @property
    def total(self) -> FloatArray:
        """Their sum: the current, to second order in the cell size."""
        return self.drift + self.diffusion + self.noise_gradient


def current_parts(problem: Problem, probability: FloatArray) -> CurrentParts:
    """The current of a density by what drives it, from values at the cell centres; probability: (cells,).

    The sum differs from `current_density`, which is the scheme's own, by a second order of the cell size; beside the
    surface of a domain by a first. Where D jumps its divergence is that to either side, and so are the parts.
    """
    grid, diffusion = problem.grid, problem.diffusion
    density = probability / grid.volumes
    drift, divergence = in_pieces(problem.landscape.drift, grid.positions()), np.zeros((grid.dimensions, grid.size))
    if diffusion.constant is None:
        divergence = in_pieces(diffusion.divergence, grid.positions())
        drift = drift + in_pieces(diffusion.noise_drift, grid.positions()) + divergence
    gradient = _gradient(grid, density)
    spread = np.einsum("ijp,jp->ip", problem.diffusion_at_cells, gradient)
    return CurrentParts(drift * density, -spread, -divergence * density)


def _gradient(grid: Grid, density: FloatArray) -> FloatArray:
    """Gradient of a density at the cell centres, (axes, cells), by the variables: second order, also beside walls.

    p times the differences of ln p where it changes little from cell to cell: exact for Gaussians.
    """
    logarithms = np.log(np.maximum(density, np.finfo(np.float64).tiny))
    plain, relative = _slopes(grid, density), _slopes(grid, logarithms)
    along_axes = np.where(np.abs(relative) < LARGEST_LOG_SLOPE, density * relative, plain) / grid.stretch()
    return grid.unturned(along_axes)


def _slopes(grid: Grid, values: FloatArray) -> FloatArray:
    """Differences over one cell, (axes, cells), with three cells beside a wall."""
    slopes = grid.differences(values)
    if grid.parts is None:
        for number, axis in enumerate(grid.axes):
            if axis.cells >= 3 and not axis.periodic:
                box, slope = (np.moveaxis(grid.shaped(part), number, 0) for part in (values, slopes[number]))
                slope[0] = -1.5 * box[0] + 2.0 * box[1] - 0.5 * box[2]
                slope[-1] = 1.5 * box[-1] - 2.0 * box[-2] + 0.5 * box[-3]
    return slopes


def net_current(there: Extended, back: Extended, unit: Extended) -> FloatArray:
    """The difference of two traffics along edges, (edges,), in units of a number of shape ().

    0 where the two are nearly equal: in a well at the foot of a high barrier nothing is left of it.
    """
    net = there + back * -1.0
    noise = net.share_of(there + back).floats()
    return np.where(np.abs(noise) > CANCELLED, (net / unit).floats(), 0.0)


def flow(
    chain: Generator, there: Extended, back: Extended, unit: Extended, leaving: FloatArray, source: FloatArray
) -> FloatArray:
    """The current density of a steady flow, (axes, cells), also where the difference of its traffics is lost.

    That happens in a well on the way: what passes it is little beside what it exchanges inside. But what flows in and
    out is known, and along the edges where it is lost the current is that of some population n, so

        sum over the lost edges of i:  f n_i - b n_j  =  what flows in from elsewhere less what flows out

    with n = 0 in one cell of each such region determines it (up to loops inside, where the drift drives any); inflow
    and outflow one by one, so nothing cancels.

    there, back: traffics along the edges, (edges,); unit: what they are divided by, of shape (). leaving: current
    through the exits, (exits,); source: what enters every cell, (cells,); both in the unit.
    """
    along = net_current(there, back, unit)
    edges, exits = chain.edges, chain.exits
    defect = source - np.bincount(exits.cell, leaving, minlength=source.size)
    kernels.collect(edges.origin, edges.end, along, defect)
    traffic = there + back
    lost = (along == 0.0) & (traffic.mantissa > 0.0)
    links = sparse.csr_array((np.ones(int(lost.sum())), (edges.origin[lost], edges.end[lost])), (source.size,) * 2)
    _, region = connected_components(links, directed=False)
    lost &= (np.bincount(region, np.abs(defect)) > LARGEST_DEFECT)[region[edges.origin]]
    if lost.any():
        along[lost] = _regained(chain, lost, defect, region, traffic.log())
    return at_centres(chain.grid, chain.through_faces(along, leaving))


def _regained(
    chain: Generator, lost: BoolArray, defect: FloatArray, region: IntArray, log_traffic: FloatArray
) -> FloatArray:
    """The current along the lost edges that makes up for a defect, (lost edges,); region: number, (cells,)."""
    edges = chain.edges.select(lost)
    busiest = np.full(defect.size, -np.inf)
    for cells in (edges.origin, edges.end):
        np.maximum.at(busiest, cells, log_traffic[lost])
    touched = busiest > -np.inf
    order = np.lexsort((busiest, region))
    order = order[touched[order]]
    last_of_region = np.append(region[order][1:] != region[order][:-1], True)
    free = touched.copy()
    free[order[last_of_region]] = False
    part = replace(chain, edges=edges, exits=chain.exits.select(np.zeros(chain.exits.cell.size, bool)), active=touched)
    resolvent, current = Resolvent.of(part, 0.0, free), np.zeros(edges.origin.size)
    for sign in (1.0, -1.0):
        amount = resolvent.solve(Extended.of(np.where(free, np.maximum(sign * defect, 0.0), 0.0)))
        current += sign * (amount[edges.origin] * edges.forward + amount[edges.end] * edges.backward * -1.0).floats()
    return current


def escaping_current(passage: Passage, source: FloatArray, population: Extended) -> FloatArray:
    """Current density of a steady flow from a source to the exits, of total flux 1, (axes, cells).

    At the foot of a high barrier the plain difference  f P_i - b P_j  of an edge is lost in rounding. So what leaves
    is parted from what returns. With c the cell that takes most of the source, h the probability to reach an exit
    before c and r that to reach c before (h + r = 1), n the population that has not been in c yet and m that which
    has, an edge carries

        (f n_i - b n_j)  +  (m_i f h_j - m_j b h_i)  +  (m_i f r_j - m_j b r_i)

    The first two are a `flow` (the second in the form of E & Vanden-Eijnden 2006, for a core of one
    cell), the third are loops from c to c: none in a reversible chain, whose loops are as likely either way
    round. They are left out where they are no more than what the quadrature of a gradient leaves, as at rest. Loops
    of a well beyond a barrier of 660 noises exceed the flux by more than LARGEST_CURRENT and are held at that.

    Unit [1/length**(axes-1)]. population: that of the source, see `Passage.population`; source: (cells,).
    """
    chain, flux = passage.generator, outflow(passage.generator, population).sum()
    centre = int(np.argmax(source))
    fresh, used, leaves, returns = _parted(chain, source, population, centre)
    edges, exits = chain.edges, chain.exits

    def traffic(amount: Extended, chance: Extended | float) -> tuple[Extended, Extended]:
        ahead, behind = (chance, chance) if isinstance(chance, float) else (chance[edges.end], chance[edges.origin])
        return amount[edges.origin] * ahead * edges.forward, amount[edges.end] * behind * edges.backward

    there, back = (first + second for first, second in zip(traffic(fresh, 1.0), traffic(used, leaves), strict=True))
    leaving = (population[exits.cell] * exits.rate / flux).floats()
    current = flow(chain, there, back, flux, leaving, (Extended.of(source) / flux).floats())
    if _circulates(*(loops := traffic(used, returns))):
        circling = np.clip(net_current(*loops, flux), -LARGEST_CURRENT, LARGEST_CURRENT)
        current += at_centres(chain.grid, chain.through_faces(circling, np.zeros_like(leaving)))
    return current


def _parted(chain: Generator, source: FloatArray, population: Extended, centre: int) -> tuple[Extended, ...]:
    """Of every cell: population that has not been in the central one, that which has; chance to exit, to return."""
    others = np.arange(source.size) != centre
    away, back = _neighbour_rates(chain, centre)
    leaving, held = population[centre] * away, population * (~others).astype(np.float64)
    if not (others & chain.active).any():
        nothing = population * 0.0
        return nothing, held, nothing, nothing
    wide = leaving.largest_exponent > WIDEST_SOURCE  # per unit flux: what the chances range over
    resolvent = Resolvent.of(chain, 0.0, others & chain.active, extended=wide)
    fresh = resolvent.solve(Extended.of(source * others))
    used = resolvent.solve(leaving) + held
    exits = resolvent.solve_adjoint(Extended.of(chain.losses * others))
    returns = resolvent.solve_adjoint(Extended.of(back)) + (~others).astype(np.float64)
    return fresh, used, exits, returns


def _neighbour_rates(chain: Generator, centre: int) -> tuple[FloatArray, FloatArray]:
    """Rates from one cell to every cell, and from every cell to it, (cells,)."""
    edges, size = chain.edges, chain.grid.size
    from_it, to_it = edges.origin == centre, edges.end == centre

    def collected(cells: IntArray, rates: FloatArray) -> FloatArray:
        return np.bincount(cells, rates, minlength=size).astype(np.float64)

    ahead, behind = edges.end[from_it], edges.origin[to_it]
    away = collected(ahead, edges.forward[from_it]) + collected(behind, edges.backward[to_it])
    back = collected(ahead, edges.backward[from_it]) + collected(behind, edges.forward[to_it])
    return away, back


def _circulates(there: Extended, back: Extended) -> bool:
    """Whether two traffics along edges differ by more than the quadrature of a gradient leaves."""
    both = there + back
    net = (there + back * -1.0).scaled(both.largest_exponent)
    busiest = both.scaled(both.largest_exponent).max(initial=0.0)
    return bool(np.abs(net).max(initial=0.0) > NOTICEABLE_CURRENT * busiest)


def entropy_production(generator: Generator, probability: FloatArray) -> float:
    """Total entropy production [1/time], non-negative, zero only in equilibrium (Schnakenberg 1976, eq. 7.6).

    sum over edges of (a - b) ln(a / b), with a = forward P(origin) and b = backward P(end); edges without
    traffic in one direction (underflow in the far tails) are left out. nan where D has no inverse: edges that the drift
    alone follows lead one way, whose entropy says nothing about the equation.
    """
    edges = generator.edges
    if edges.local is not None and not np.isfinite(edges.exponent).all():
        return float("nan")
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
