"""Edges in phase space: rates that keep exp(-E/T) at rest exactly, and are never negative.

The equation of position x and velocity V with energy E = m V**2/2 + L(x), in terms of p* = exp(-E/T) and g = p / p*, is

    dp/dt = -div(F g) + d/dV (D p* dg/dV),    F = p* (V, -L'/m) = (d psi/dV, -d psi/dx),    psi = -(T/m) exp(-E/T)

F, the flow of Hamilton's equations at rest, is without divergence: what crosses a face of a cell is the difference of
psi between its two ends, so that on the grid, too, as much leaves every cell as comes in, to rounding. psi is zero on
walls, along which all that arrives turns round. With k = D p* / (width) on the faces between velocities (k = 0 between
positions), the current through a face between cells of g and g' is that of a constant F and k between their centres,

    k B(-F/k) g - k B(F/k) g',    B(z) = z / (exp(z) - 1),

max(F, 0) g - max(-F, 0) g' where k = 0: g = 1 is at rest, whatever the grid. Upwinding spreads what it carries like a
diffusion, |V| width/2 along positions, which is reversible, has the same p* at rest, and vanishes with the grid, to
first order. What it does to slow friction is to mix energies. So flow that turns a corner, through one cell from one
neighbour to another, is taken straight to it, along a diagonal: as much as can be leaves every cell along the curve of
its energy, and F keeps its zero divergence.

Where D changes along positions, no density at rest is known: T is then a mean one, and the friction that is not in
balance with the noise adds -(friction/m - D m/T) V p* to F.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from fpsolve.discretise import kernels
from fpsolve.discretise.edges import Cuts, Edges, Exits, cut_exits
from fpsolve.discretise.exponents import LocalShape
from fpsolve.errors import CaseError
from fpsolve.model.grid import Axis, FloatArray, IntArray
from fpsolve.model.problem import Problem


def in_phase_space(problem: Problem) -> bool:
    """Whether a problem is one of phase space, with noise somewhere."""
    return problem.landscape.inertia is not None and _temperature(problem) > 0.0


def _temperature(problem: Problem) -> float:
    """T of exp(-E/T); where the noise changes along positions, its mean, as if each of them were at rest by itself."""
    if (known := problem.boltzmann_temperature) is not None:
        return known
    inertia, loss = problem.landscape.inertia, problem.landscape.loss
    assert inertia is not None
    assert loss is not None
    thermal = inertia.temperature(_noise(problem))
    centres = problem.grid.axes[0].centres
    height = loss(np.array([centres, np.zeros_like(centres)]))
    warm = thermal > 0.0
    if not warm.any():
        return 0.0
    depth = (height - height.min())[warm] / thermal[warm]
    weights = np.exp(depth.min() - depth) * problem.grid.axes[0].widths[warm]
    return float((weights * thermal[warm]).sum() / weights.sum())


def _noise(problem: Problem) -> FloatArray:
    """The diffusion of the velocity at every position, (positions,)."""
    centres = problem.grid.axes[0].centres
    return np.asarray(problem.diffusion.matrix(np.array([centres, np.zeros_like(centres)]))[1, 1])


# The ways round a corner between four cells, by the direction (along positions, along velocities) of the diagonal: the
# faces that they cross, first and second, as (flow, side). Flows: up and down along positions, up and down along
# velocities; sides: the face below or above the corner, or the one left or right of it.
WAYS = {
    (1, 1): (((0, 0), (2, 1)), ((2, 0), (0, 1))),
    (1, -1): (((0, 1), (3, 1)), ((3, 0), (0, 0))),
    (-1, 1): (((1, 0), (2, 0)), ((2, 1), (1, 1))),
    (-1, -1): (((1, 1), (3, 0)), ((3, 1), (1, 0))),
}
# Upwinding may spread energies by this share of what friction does, on the finest grid: then escape times are within
# some two per cent after extrapolation from three grids.
MOST_NUMERICAL = 0.75
# psi may be anything on the corners of cells, at the price of accuracy: where cells are so wide that E changes by more
# thermal energies within half of one, it is taken to change by so many.
MOST_RISE = 10.0
LEAST_SHORTENED = 1e-200  # a cell that is less probable, relative to the most probable one, has no diagonals


@final
@dataclass(frozen=True, slots=True)
class Hops:
    """Weights and drifts with which cells (positions, velocities) are left upwards along both axes, and downwards.

    along_position: drifts upwards and downwards, counted upwards, (2, *shape); along_velocity: likewise; diffusion:
    weights upwards and downwards, (2, *shape); all [1/time].
    """

    along_position: FloatArray
    along_velocity: FloatArray
    diffusion: FloatArray

    @classmethod
    def of(cls, problem: Problem) -> Hops:
        """Those of a problem in phase space at one temperature."""
        inertia, temperature = problem.landscape.inertia, _temperature(problem)
        assert inertia is not None
        position, velocity = problem.grid.axes
        mass, spread = inertia.mass, _noise(problem)
        still = np.zeros(position.cells + 1)

        def height(x: FloatArray) -> FloatArray:
            assert problem.landscape.loss is not None
            with np.errstate(invalid="ignore"):
                return problem.landscape.loss(np.array([x, still[: x.size]])) / temperature

        below, above = _falls(position, height)
        slower, faster = _falls(velocity, lambda v: 0.5 * mass * v**2 / temperature)
        size = temperature / mass / np.multiply.outer(position.widths, velocity.widths)
        across = slower - faster  # the rise of psi along a face between positions, over p* of the cell
        along_position = np.array([size * np.multiply.outer(ends, across) for ends in (above, below)])
        rise = above - below
        along_velocity = np.array([size * np.multiply.outer(rise, ends) for ends in (faster, slower)])
        diffusion = spread[:, None] * _reversible(velocity, mass / temperature)[:, None]
        if problem.diffusion.constant is None:  # friction beyond what is in balance with the noise
            excess = inertia.friction / mass - spread * mass / temperature
            ends = (velocity.faces[1:] * faster, velocity.faces[:-1] * slower)
            along_velocity -= np.array([np.multiply.outer(excess, end / velocity.widths) for end in ends])
        return cls(along_position, along_velocity, diffusion)


def _falls(axis: Axis, height: Callable[[FloatArray], FloatArray]) -> tuple[FloatArray, FloatArray]:
    """exp(-height) at the lower and the upper face of every cell, over that at its centre; 0 at reflecting walls."""
    centre, faces = height(axis.centres), height(axis.faces)
    beside = np.concatenate([centre[:1], np.maximum(centre[:-1], centre[1:]), centre[-1:]])
    faces = np.maximum(faces, beside - MOST_RISE)
    below, above = np.exp(centre - faces[:-1]), np.exp(centre - faces[1:])
    if axis.walls[0] == "reflecting":
        below[0] = 0.0
    if axis.walls[1] == "reflecting":
        above[-1] = 0.0
    return below, above


def _reversible(axis: Axis, stiffness: float) -> FloatArray:
    """Rates from every velocity to the next and to the one before, (2, cells), of the fluctuations and the friction.

    For D = 1, at rest with exp(-stiffness V**2/2), as for other edges of a known equilibrium. stiffness: mass / T.
    """
    centres, between = axis.centres, axis.faces[1:-1]
    widths, thin = axis.widths, axis.stretch(np.arange(0.5, axis.cells - 1.0))
    log_p = np.log(widths) - 0.5 * stiffness * centres**2
    whole = np.diff(log_p)
    half = np.log(thin) - 0.5 * stiffness * between**2 - log_p[:-1]
    bend = stiffness * thin**2 + whole * 2.0 * np.diff(np.log(widths))
    most = np.maximum(24.0, 4.0 * np.abs(whole))
    rates = np.zeros((2, axis.cells))
    weight = 1.0 / thin**2
    kernels.rates(weight, whole, half, np.clip(bend, -most, most), np.zeros_like(whole), rates[0, :-1], rates[1, 1:])
    return rates


@final
@dataclass(frozen=True, slots=True)
class Shortcuts:
    """What flows along diagonals, and what that takes from the faces between neighbours; see WAYS.

    diagonal: by direction, (corners along positions, corners along velocities); between_positions, between_velocities:
    net, upwards, (faces, velocities) and (positions, faces). All relative to the largest p*.
    """

    diagonal: dict[tuple[int, int], FloatArray]
    between_positions: FloatArray
    between_velocities: FloatArray

    @classmethod
    def of(cls, positions: FloatArray, velocities: FloatArray, left: IntArray, right: IntArray) -> Shortcuts:
        """Those of the flow F between positions, and between velocities; left, right: the positions beside faces.

        Either way round a corner carries half of the weaker of its two flows. Where a face would give more than it
        has (beside a point at rest), its ways carry less.
        """
        flows = [np.maximum(sign * flow, 0.0) for flow in (positions, velocities) for sign in (1.0, -1.0)]

        def at(flow: int, side: int) -> Any:
            along = (slice(None, -1), slice(1, None))[side]
            return (slice(None), along) if flow < 2 else ((left, right)[side], slice(None))

        def taken(amounts: dict[tuple[int, int], list[FloatArray]]) -> list[FloatArray]:
            total = [np.zeros_like(flow) for flow in flows]
            for direction, ways in WAYS.items():
                for way, amount in zip(ways, amounts[direction], strict=True):
                    for face in way:
                        total[face[0]][at(*face)] += amount
            return total

        asked = {
            direction: [0.5 * np.minimum(*(flows[face[0]][at(*face)] for face in way)) for way in ways]
            for direction, ways in WAYS.items()
        }
        share = [
            np.minimum(1.0, np.divide(flow, most, out=np.ones_like(flow), where=most > 0.0))
            for flow, most in zip(flows, taken(asked), strict=True)
        ]
        given = {
            direction: [
                amount * np.minimum(*(share[face[0]][at(*face)] for face in way))
                for way, amount in zip(ways, asked[direction], strict=True)
            ]
            for direction, ways in WAYS.items()
        }
        up, down, faster, slower = taken(given)
        return cls(
            {direction: first + second for direction, (first, second) in given.items()}, up - down, faster - slower
        )


def build_phase_edges(problem: Problem) -> tuple[Edges, Exits, LocalShape]:
    """All edges of a problem in phase space with exp(-E/T) at rest, sorted by origin, and the exits of its walls."""
    grid, hops = problem.grid, Hops.of(problem)
    cells = np.arange(grid.size).reshape(grid.shape)
    left = np.arange(grid.shape[0] - (not grid.axes[0].periodic))
    right = (left + 1) % grid.shape[0]
    probable = _relative_density(problem)
    seen = np.where(probable > LEAST_SHORTENED, probable, 0.0)
    flow = (hops.along_position[0] * seen)[left] * (seen[right] > 0.0)
    short = Shortcuts.of(flow, (hops.along_velocity[0] * seen)[:, :-1] * (seen[:, 1:] > 0.0), left, right)
    some = np.where(seen > 0.0, seen, 1.0)
    parts = [
        _between(
            cells[left], cells[right], 0, hops.along_position, np.zeros_like(hops.diffusion), short.between_positions
        ),
        _between(cells[:, :-1], cells[:, 1:], 1, hops.along_velocity, hops.diffusion, short.between_velocities),
        _across(cells[left][:, :-1], cells[right][:, 1:], 2, short.diagonal[1, 1], short.diagonal[-1, -1]),
        _across(cells[left][:, 1:], cells[right][:, :-1], 3, short.diagonal[1, -1], short.diagonal[-1, 1]),
    ]
    origin, end, kind = (np.concatenate([part[row] for part in parts]) for row in range(3))
    local, less = (np.concatenate([part[row] for part in parts], axis=-1) for row in (3, 4))
    local[:, 1] -= less / some.ravel()[[origin, end]]
    order = np.argsort(origin, kind="stable")
    origin, end, kind, local = origin[order], end[order], kind[order], np.ascontiguousarray(local[..., order])
    forward, backward = np.empty((2, origin.size))
    kernels.departing(local[0, 0], local[0, 1], forward)
    kernels.departing(local[1, 0], -local[1, 1], backward)
    with np.errstate(divide="ignore", invalid="ignore"):
        exponent = np.log(forward / backward)
    weight = 0.5 * (local[0, 0] + local[1, 0])
    offsets = np.array([[1, 0], [0, 1], [1, 1], [1, -1]])
    edges = Edges(origin, end, kind, offsets, weight, exponent, forward, backward, 0, local)
    shape = LocalShape(np.zeros((2, 2, grid.size)), np.zeros((2, grid.size)))
    kept = edges.select((forward > 0.0) | (backward > 0.0))
    return kept, cut_exits(problem, shape, _leaving(problem, cells, hops)), shape


def numerical_share(problem: Problem, edges: Edges) -> float:
    """How much upwinding spreads, over how much the noise does, at rest: the larger one of two shares.

    Of energies: the sum over edges of rate * (rise of the energy)**2, without what the noise does, over that of the
    noise. Where friction is slow, that is the relative error of rates of escape. Of positions: mean |V| width / 2 over
    T / (mass friction rate), the diffusion of positions where friction is fast.
    """
    inertia, temperature, grid = problem.landscape.inertia, _temperature(problem), problem.grid
    assert inertia is not None
    assert problem.landscape.loss is not None
    assert edges.local is not None
    energy, probable = problem.landscape.loss(grid.positions()), _relative_density(problem).ravel()
    passing = edges.forward * probable[edges.origin] + edges.backward * probable[edges.end]
    noise = 2.0 * edges.local[0, 0] * probable[edges.origin]
    squares = (energy[edges.end] - energy[edges.origin]) ** 2
    mixing = float(((passing - noise) @ squares) / (noise @ squares))
    speed = np.sqrt(2.0 * temperature / (np.pi * inertia.mass))
    width = float((grid.stretch()[0] * probable).sum() / probable.sum())
    return max(mixing, 0.5 * speed * width * inertia.friction / temperature)


def refuse_numerical_diffusion(problem: Problem, edges: Edges) -> None:
    """Refuse an escape whose time upwinding would decide. Raises CaseError with the cells that would do."""
    if not in_phase_space(problem) or (share := numerical_share(problem, edges)) <= MOST_NUMERICAL:
        return
    cells = " and ".join(
        f"{axis.name}.cells = {int(np.ceil(axis.cells * share / MOST_NUMERICAL))}" for axis in problem.grid.axes
    )
    found = f"numerical diffusion spreads the probability {share:.2g} times as fast as the noise does"
    required = f"At most {MOST_NUMERICAL:g} times as fast is accepted for an escape, on the finest grid"
    raise CaseError("grid", found, required, f"Use {cells}, or another friction")


def _relative_density(problem: Problem) -> FloatArray:
    """exp(-E/T) times the volume of every cell, over the largest, (positions, velocities)."""
    grid = problem.grid
    assert problem.landscape.loss is not None
    height = problem.landscape.loss(grid.positions()) / _temperature(problem) - np.log(grid.volumes)
    return grid.shaped(np.exp(height.min() - height))


def _between(
    origin: IntArray, end: IntArray, kind: int, drift: FloatArray, weight: FloatArray, less: FloatArray
) -> tuple[Any, ...]:
    """Origin, end, kind, local weights and drifts of edges between neighbours, and what diagonals take from them."""
    start, stop = origin.ravel(), end.ravel()
    drifts, weights = drift.reshape(2, -1), weight.reshape(2, -1)
    local = np.array([[weights[0, start], drifts[0, start]], [weights[1, stop], drifts[1, stop]]])
    return start, stop, np.full(start.size, kind), local, np.broadcast_to(less.ravel(), (2, start.size))


def _across(origin: IntArray, end: IntArray, kind: int, there: FloatArray, back: FloatArray) -> tuple[Any, ...]:
    """The same of diagonals, with what flows there and back."""
    start, stop = origin.ravel(), end.ravel()
    return (
        start,
        stop,
        np.full(start.size, kind),
        np.zeros((2, 2, start.size)),
        np.array([-there.ravel(), back.ravel()]),
    )


def _leaving(problem: Problem, cells: IntArray, hops: Hops) -> Cuts:
    """Where the flow leaves through absorbing walls of the position: half a cell on."""
    position, name = problem.grid.axes[0], problem.grid.names[0]
    sides = [(0, -1, hops.along_position[1, 0]), (-1, 1, hops.along_position[0, -1])]
    open_ = [side for side, wall in zip(sides, position.walls, strict=True) if wall == "absorbing"]
    names = tuple(f"{name}_{'min' if sign < 0 else 'max'}" for _, sign, _ in open_)
    row = cells.shape[1]
    cell = np.concatenate([np.zeros(0, np.int64), *(cells[end] for end, _, _ in open_)])
    sign = np.repeat(np.array([sign for _, sign, _ in open_], dtype=np.int64), row)
    drift = np.concatenate([np.zeros(0), *(sign * along for _, sign, along in open_)])
    displacement = np.stack([sign, np.zeros_like(sign)], axis=1)
    gate = np.repeat(np.arange(len(open_)), row)
    nothing = np.zeros(cell.size)
    return Cuts(
        cell, displacement, nothing + 0.5, nothing, np.zeros_like(gate), gate, names, np.array([nothing, drift])
    )
