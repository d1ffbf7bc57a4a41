"""Jumps of the diffusion: what they mean depends on the convention, and mostly nothing is said about it.

Where D = f(x) M with a constant M a jump of f is exact differences of ln f, and without a derivative of D (isothermal)
there is nothing to ask. For any other D the divergence at a jump is a measure that no formula of D holds.
"""

from __future__ import annotations

import numpy as np

from fpsolve.errors import CaseError
from fpsolve.model.grid import FloatArray, in_pieces
from fpsolve.model.problem import Problem

# A change of D over this share of its trace within JUMP_HALVINGS halvings of a cell is a jump. Smaller ones, and those
# that two neighbouring cells do not see because D is the same at both of their centres, are not found.
SMALLEST_JUMP = 0.01
JUMP_HALVINGS = 30


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
