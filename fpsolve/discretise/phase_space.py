"""Edges in phase space: rates that keep exp(-E/T) at rest exactly, and are never negative.

The equation of position x and velocity V with energy E = m V**2/2 + L(x), in terms of p* = exp(-E/T) and g = p / p*, is

    dp/dt = -div(F g) + d/dV (D p* dg/dV),    F = p* (V, -L'/m) = (d psi/dV, -d psi/dx),    psi = -(T/m) exp(-E/T)

F, the flow of Hamilton's equations at rest, is without divergence: what crosses a face of a cell is the difference of
psi between its two ends, so that on the grid, too, as much leaves every cell as comes in, to rounding. psi is zero on
walls, along which all that arrives turns round. With k = D p* / (width) on the faces between velocities (k = 0 between
positions), the current through a face between cells of g and g' is that of a constant F and k between their centres,

    k B(-F/k) g - k B(F/k) g',    B(z) = z / (exp(z) - 1),

max(F, 0) g - max(-F, 0) g' where k = 0: g = 1 is at rest, whatever the grid. Upwinding spreads positions like a
diffusion |V| width/2, which is reversible, has the same p* at rest, and vanishes with the grid, to first order.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from fpsolve.discretise import kernels
from fpsolve.discretise.edges import Cuts, Edges, Exits, cut_exits
from fpsolve.discretise.exponents import LocalShape
from fpsolve.model.grid import Axis, FloatArray
from fpsolve.model.problem import Problem


def has_equilibrium(problem: Problem) -> bool:
    """Whether a problem is one of phase space, with exp(-E/T) at rest."""
    return (
        problem.landscape.inertia is not None
        and problem.diffusion.constant is not None
        and problem_temperature(problem) > 0.0
    )


def problem_temperature(problem: Problem) -> float:
    """T of exp(-E/T)."""
    assert problem.landscape.inertia is not None and problem.diffusion.constant is not None
    return float(problem.landscape.inertia.temperature(problem.diffusion.constant[1, 1]))


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
        inertia, temperature = problem.landscape.inertia, problem_temperature(problem)
        assert inertia is not None
        position, velocity = problem.grid.axes
        mass, spread = inertia.mass, float(problem.diffusion.matrix(np.zeros((2, 1)))[1, 1, 0])
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
        diffusion = _reversible(velocity, mass / temperature, spread)
        return cls(along_position, along_velocity, np.broadcast_to(diffusion[:, None], along_velocity.shape))


def _falls(axis: Axis, height: object) -> tuple[FloatArray, FloatArray]:
    """exp(-height) at the lower and the upper face of every cell, over that at its centre; 0 at reflecting walls."""
    assert callable(height)
    centre, faces = height(axis.centres), height(axis.faces)
    below, above = np.exp(centre - faces[:-1]), np.exp(centre - faces[1:])
    if axis.walls[0] == "reflecting":
        below[0] = 0.0
    if axis.walls[1] == "reflecting":
        above[-1] = 0.0
    return below, above


def _reversible(axis: Axis, stiffness: float, spread: float) -> FloatArray:
    """Rates from every velocity to the next and to the one before, (2, cells), of the fluctuations and the friction.

    stiffness: mass / T; spread: D. As for other edges of a known equilibrium.
    """
    centres, between = axis.centres, axis.faces[1:-1]
    widths, thin = axis.widths, axis.stretch(np.arange(axis.cells - 1) + 0.5)
    log_p = np.log(widths) - 0.5 * stiffness * centres**2
    whole = np.diff(log_p)
    half = np.log(thin) - 0.5 * stiffness * between**2 - log_p[:-1]
    bend = stiffness * thin**2 + whole * 2.0 * np.diff(np.log(widths))
    most = np.maximum(24.0, 4.0 * np.abs(whole))
    rates = np.zeros((2, axis.cells))
    weight = spread / thin**2
    kernels.rates(weight, whole, half, np.clip(bend, -most, most), np.zeros_like(whole), rates[0, :-1], rates[1, 1:])
    return rates


def build_phase_edges(problem: Problem) -> tuple[Edges, Exits, LocalShape]:
    """All edges of a problem in phase space with exp(-E/T) at rest, sorted by origin, and the exits of its walls."""
    grid, hops = problem.grid, Hops.of(problem)
    cells = np.arange(grid.size).reshape(grid.shape)
    offsets = np.eye(2, dtype=np.int64)
    parts = [_line(cells, hops, axis, periodic=grid.axes[axis].periodic) for axis in (0, 1)]
    origin, end, kind = (np.concatenate([part[row] for part in parts]) for row in range(3))
    local = np.concatenate([part[3] for part in parts], axis=2)
    order = np.argsort(origin, kind="stable")
    origin, end, kind, local = origin[order], end[order], kind[order], np.ascontiguousarray(local[..., order])
    forward, backward = np.empty((2, origin.size))
    kernels.departing(local[0, 0], local[0, 1], forward)
    kernels.departing(local[1, 0], -local[1, 1], backward)
    with np.errstate(divide="ignore", invalid="ignore"):
        exponent = np.log(forward / backward)
    weight = 0.5 * (local[0, 0] + local[1, 0])
    edges = Edges(origin, end, kind, offsets, weight, exponent, forward, backward, 0, local)
    shape = LocalShape(np.zeros((2, 2, grid.size)), np.zeros((2, grid.size)))
    kept = edges.select((forward > 0.0) | (backward > 0.0))
    return kept, cut_exits(problem, shape, _leaving(problem, cells, hops)), shape


def _line(cells: FloatArray, hops: Hops, axis: int, periodic: bool) -> tuple[FloatArray, ...]:
    """Origin, end, kind and local weights and drifts of the edges along an axis."""
    origin, end = (cells, np.roll(cells, -1, axis)) if periodic else _neighbours(cells, axis)
    drift = (hops.along_position, hops.along_velocity)[axis].reshape(2, -1)
    weight = hops.diffusion.reshape(2, -1) * (axis == 1)
    start, stop = origin.ravel(), end.ravel()
    local = np.array([[weight[0, start], drift[0, start]], [weight[1, stop], drift[1, stop]]])
    return start, stop, np.full(start.size, axis), local


def _neighbours(cells: FloatArray, axis: int) -> tuple[FloatArray, FloatArray]:
    return (cells[:-1], cells[1:]) if axis == 0 else (cells[:, :-1], cells[:, 1:])


def _leaving(problem: Problem, cells: FloatArray, hops: Hops) -> Cuts:
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
