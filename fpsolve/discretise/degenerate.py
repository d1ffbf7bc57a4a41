"""Rates where D has no inverse: there is no local equilibrium there, and the drift alone moves what D does not.

Kushner's Markov chain (Kushner & Dupuis 2001, section 5.3) in place of fitted exponents. In index units, at every cell,

    D = sum over offsets of weight e e^T,      Ito drift = sum over offsets of drift e,
    rate along e = weight B(-drift / weight),  rate against it = weight B(drift / weight),    B(z) = z / (exp(z) - 1)

with the weight and the drift of the cell that is left. Mean and variance of the steps are those of the equation, and
max(drift, 0), max(-drift, 0) is the limit of the rates where the weight vanishes: finite and never negative. So the
chain converges to the solution of the equation whatever D does, of first order where the drift outweighs D on a cell,
and of second order elsewhere; what reaches a point where drift and D vanish stays there.

Where D vanishes on a line or at a point, the Ito drift there decides, as theory says (Feller 1952; Karlin & Taylor
1981, section 15.6): where it leads out nothing stays, where it is zero what arrives is held. That needs a cell with its
centre there, or an absorbing wall: a cell beside such a place has noise, and a reflecting wall or a face there gives
back what should be held, the less the more cells there are, but only as 1 / ln(cells). A wall that is not reached
(D = y with a drift above 1) may be of any kind.

An offset carries the share weight e . D^+ drift of the drift; what is not in the range of D goes along the axes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from fpsolve.discretise.lattice import index_tensors, lattice
from fpsolve.model.grid import FloatArray, IntArray, in_pieces
from fpsolve.model.problem import Problem
from fpsolve.model.symmetric import composed, eigen

# Eigenvalues of D in index units below this share of the largest count as zero: no drift is asked of them.
OUT_OF_RANGE = 1e-10
# A drift below this share of its parts is what rounding leaves of zero.
NO_DRIFT = 1e-12
QUARTER = 0.25  # of a cell: step of differences of the widths of cells


@final
@dataclass(frozen=True, slots=True)
class Departures:
    """Weights and drifts with which cells are left.

    offsets: (kinds, axes); weight, drift: (kinds, cells) [1/time], the drift counted along the offset.
    """

    offsets: IntArray
    weight: FloatArray
    drift: FloatArray

    @classmethod
    def of(cls, problem: Problem) -> Departures:
        """Those of every cell; every axis along which something can move is among the offsets."""
        found = {tuple(offset.tolist()): weights for offset, weights in lattice(problem)}
        units = [tuple(row) for row in np.eye(problem.grid.dimensions, dtype=np.int64).tolist()]
        for number, axis in enumerate(problem.grid.axes):
            if axis.cells > 1 or axis.walls != ("reflecting", "reflecting"):
                found.setdefault(units[number], np.zeros(problem.grid.size))
        offsets, weight = np.array(list(found)), np.array(list(found.values()))
        tensors = np.broadcast_to(index_tensors(problem), (*[problem.grid.dimensions] * 2, problem.grid.size))
        drift = index_drift(problem, problem.grid.indices().astype(np.float64))
        pull = _in_range(tensors, drift)
        along = weight * (offsets @ pull)
        carried = np.einsum("ijp,jp->ip", tensors, pull)
        rest = drift - carried
        rest[np.abs(rest) <= NO_DRIFT * np.maximum(np.abs(drift), np.abs(carried)).max(axis=0)] = 0.0
        for number, unit in enumerate(units):
            if unit in found:
                along[list(found).index(unit)] += rest[number]
        return cls(offsets, weight, along)

    def leaving(self, cells: IntArray, displacement: IntArray) -> FloatArray:
        """Weight and drift along displacements (n, axes), offsets or their opposites, from cells (n,): (2, n)."""
        found = np.zeros((2, cells.size))
        for kind, offset in enumerate(self.offsets):
            for sign in (1.0, -1.0):
                mine = (displacement == sign * offset).all(axis=1)
                found[0, mine] = self.weight[kind, cells[mine]]
                found[1, mine] = sign * self.drift[kind, cells[mine]]
        return found

    def along(self, kind: IntArray, origin: IntArray, end: IntArray) -> FloatArray:
        """Weight and drift of edges at their origins, and at their ends, both counted from there to here: (2, 2, n)."""
        return np.array([[values[kind, cells] for values in (self.weight, self.drift)] for cells in (origin, end)])


def index_drift(problem: Problem, index: FloatArray) -> FloatArray:
    """The Ito drift in index units [1/time] at index coordinates (axes, points): drift / x' - D_index (ln x')'."""
    grid = problem.grid
    positions = grid.positions(index)
    widths = grid.stretch(index)
    drift = grid.turned(in_pieces(problem.ito_drift, positions)) / widths
    mapped = [number for number, axis in enumerate(grid.axes) if axis.map is not None]
    if mapped:
        matrices = grid.turned_matrices(in_pieces(problem.diffusion.matrix, positions))
        for number in mapped:
            axis, row = grid.axes[number], index[number]
            bend = np.log(axis.stretch(row + QUARTER) / axis.stretch(row - QUARTER)) / (2.0 * QUARTER)
            drift[number] -= matrices[number, number] / widths[number] ** 2 * bend
    return np.asarray(drift)


def blocked(problem: Problem, start: FloatArray, step: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Whether D vanishes midway along segments (axes, n), and the Ito drift along them there, (n,) [1/time].

    What is between two cells then passes with the drift alone; along an oblique segment nothing does.
    """
    middle = start + 0.5 * step
    sizes = [
        np.einsum("iip->p", in_pieces(problem.diffusion.matrix, problem.grid.positions(index)))
        for index in (start, middle, start + step)
    ]
    none = sizes[1] <= OUT_OF_RANGE * (sizes[0] + sizes[2])
    straight = (step != 0.0).sum(axis=0) == 1
    drift = np.where(straight, (index_drift(problem, middle) * np.sign(step)).sum(axis=0), 0.0)
    return none & (sizes[0] > 0.0) & (sizes[2] > 0.0), drift


def _in_range(tensors: FloatArray, vectors: FloatArray) -> FloatArray:
    """D^+ vector, (axes, cells)."""
    values, axes = eigen(tensors)
    large = values > OUT_OF_RANGE * values.max(axis=0)
    inverse = composed(np.where(large, 1.0 / np.where(large, values, 1.0), 0.0), axes)
    return np.asarray(np.einsum("ijp,jp->ip", inverse, vectors))
