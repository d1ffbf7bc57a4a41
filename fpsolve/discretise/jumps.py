"""Jumps of the diffusion: what they mean depends on the convention, and mostly nothing is said about it.

Where D = f(x) M with a constant M a jump of f is exact differences of ln f, and without a derivative of D (isothermal)
there is nothing to ask. For any other D the divergence at a jump is a measure that no formula of D holds.

An edge on which D jumps has two parts in series, each with its own resistance; they are told apart. Isothermal, where
the density itself does not jump, what flows across is then of second order wherever in the edge the jump lies. Else a
jump should lie on cell faces: a cell has one density, and what lies beyond a jump inside it is wrong to first order.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from fpsolve.errors import CaseError
from fpsolve.model.grid import FloatArray, IntArray, in_pieces
from fpsolve.model.noise import NOISE_GRADIENT_SHARE
from fpsolve.model.problem import Problem

# A change of D over this share of its trace within JUMP_HALVINGS halvings of a cell is a jump. Smaller ones, and those
# that two neighbouring cells do not see because D is the same at both of their centres, are not found.
SMALLEST_JUMP = 0.01
JUMP_HALVINGS = 30
# A change of ln(step . D^-1 step) over this within as many halvings of an edge parts it in two.
PARTING_JUMP = 0.1

LogLengths: TypeAlias = Callable[[Problem, FloatArray, FloatArray], FloatArray]


def refuse_jumps(problem: Problem) -> None:
    """Raise CaseError where a diffusion jumps whose divergence matters and is not that of f(x) times a matrix.

    Between neighbouring cells whose D differ the place of the larger change is sought by halving. Where D is smooth
    the change halves too, and soon is below SMALLEST_JUMP; at a jump it stays.
    """
    diffusion, grid = problem.diffusion, problem.grid
    if diffusion.constant is not None or diffusion.convention == "isothermal" or problem.has_constant_shape:
        return
    matrices = problem.diffusion_at_cells
    for axis in range(grid.dimensions):
        offset = np.zeros(grid.dimensions, dtype=np.int64)
        offset[axis] = 1
        there, inside = grid.neighbours(offset)
        inside &= grid.active & grid.active[there] & (there > np.arange(grid.size))
        (cells,) = np.nonzero(inside)
        low = grid.index_of(cells).astype(np.float64)
        ends = matrices[..., cells], matrices[..., there[cells]]
        place = _jump(problem, low, low + offset[:, None], *ends)
        if place is not None:
            spot = ", ".join(f"{name} = {x:.6g}" for name, x in zip(grid.names, place, strict=True))
            required = 'A jump has a meaning for D = f times a constant matrix (kind = "tensor"), or if isothermal'
            remedy = 'Smooth it, for instance by tanh, or give convention = "isothermal"'
            raise CaseError("noise", f"the diffusion jumps at {spot}", required, remedy)


def _jump(
    problem: Problem, low: FloatArray, high: FloatArray, below: FloatArray, above: FloatArray
) -> FloatArray | None:
    """Where D jumps between index coordinates (axes, n), at whose ends it is known, (axes, axes, n); None: nowhere."""
    grid = problem.grid
    for _ in range(JUMP_HALVINGS):
        large = _change(below, above) > SMALLEST_JUMP
        if not large.any():
            return None
        low, high, below, above = (part[..., large] for part in (low, high, below, above))
        middle = 0.5 * (low + high)
        between = in_pieces(problem.diffusion.matrix, grid.positions(middle))
        first = _change(below, between) >= _change(between, above)
        low, high = np.where(first, low, middle), np.where(first, middle, high)
        below, above = np.where(first, below, between), np.where(first, between, above)
    large = _change(below, above) > SMALLEST_JUMP
    return grid.positions(low[:, large][:, :1])[:, 0] if large.any() else None


def _change(one: FloatArray, other: FloatArray) -> FloatArray:
    """The largest change of an entry over the larger of two traces, (n,)."""
    sizes = np.maximum(np.einsum("iip->p", one), np.einsum("iip->p", other))
    return np.asarray(np.abs(other - one).max(axis=(0, 1)) / np.maximum(sizes, np.finfo(np.float64).tiny))


def jumping_edges(
    problem: Problem, start: FloatArray, step: FloatArray, first: FloatArray, last: FloatArray, lengths: LogLengths
) -> tuple[IntArray, FloatArray]:
    """The edges on which D jumps, by number, and at which fraction of them, (jumps,).

    start, step: (axes, edges), in cells; first, last: ln(step . D^-1 step) at both ends, (edges,); lengths: the same
    anywhere.
    """
    (edges,) = np.nonzero(np.abs(last - first) > PARTING_JUMP)
    low, high, below, above = np.zeros(edges.size), np.ones(edges.size), first[edges], last[edges]
    for _ in range(JUMP_HALVINGS):
        large = np.abs(above - below) > PARTING_JUMP
        edges = edges[large]
        low, high, below, above = (part[large] for part in (low, high, below, above))
        if edges.size == 0:
            break
        middle = 0.5 * (low + high)
        between = lengths(problem, start[:, edges] + middle * step[:, edges], step[:, edges])
        left = np.abs(between - below) >= np.abs(above - between)
        low, high = np.where(left, low, middle), np.where(left, middle, high)
        below, above = np.where(left, below, between), np.where(left, between, above)
    kept = np.abs(above - below) > PARTING_JUMP
    return edges[kept], high[kept]


def rates_across_jumps(
    problem: Problem, mean: FloatArray, whole: FloatArray, ratio: FloatArray, place: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Forward and backward rates of edges whose D jumps at a place s, (jumps,) each.

    With w, r w the weights to either side, r = ratio, and p beyond the jump rho = r**-share times p before it, where
    it is at rest, the resistances s / w and (1 - s) / (r w rho) add up. What else the exponent Z = whole holds is
    smooth:

        forward = B(ln rho - Z) / resistance,    forward / backward = exp(Z)

    mean: of the two weights.
    """
    share = NOISE_GRADIENT_SHARE[problem.diffusion.convention] if problem.has_constant_shape else 0.0
    weight, log_rho = 2.0 * mean / (1.0 + ratio), -share * np.log(ratio)
    resistance = place / weight + (1.0 - place) / (ratio * weight * np.exp(log_rho))
    z = np.clip(log_rho - whole, -700.0, 700.0)
    small = np.abs(z) < 1e-8
    forward = np.where(small, 1.0 - 0.5 * z, z / np.where(small, 1.0, np.expm1(z))) / resistance
    return forward, forward * np.exp(-whole)
