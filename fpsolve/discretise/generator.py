"""The generator: on the grid, the Fokker-Planck equation is a Markov chain.

    dP_i/dt = sum over edges (rate into i - rate out of i) - sum over exits of i

P is the probability of a cell (density times volume). Edges carry forward and backward rates, exits lead out for
good; all are >= 0, so probability stays positive, and what leaves one cell arrives in another.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from functools import cached_property
from typing import final

import numpy as np
import scipy.sparse as sparse
from scipy.sparse.csgraph import connected_components

from fpsolve.discretise import kernels
from fpsolve.discretise.edges import Cuts, Edges, Exits, build_edges, cut_exits
from fpsolve.discretise.exponents import LocalShape, local_shape, sample_cells
from fpsolve.discretise.jumps import refuse_jumps
from fpsolve.discretise.phase_space import build_phase_edges, in_phase_space
from fpsolve.discretise.surfaces import entry_fractions
from fpsolve.errors import CaseError
from fpsolve.model.grid import BoolArray, FloatArray, Grid, IntArray
from fpsolve.model.problem import Problem
from fpsolve.model.region import Region

# A cell whose edge meets a target within this part of its length is itself absorbed: 1 / fraction would be a rate
# that says nothing about the physics and ruins the conditioning.
NEAREST_CUT = 1e-3


@final
@dataclass(frozen=True)
class Generator:
    """Rates between the cells of a problem.

    shape: what the log equilibrium looks like around every cell; needed to cut edges.
    active: cells that hold probability, (cells,); those outside the domain and those of an absorbed target do not, and
    have no edges.
    """

    problem: Problem
    shape: LocalShape
    edges: Edges
    exits: Exits
    active: BoolArray

    @classmethod
    def of(cls, problem: Problem) -> Generator:
        """The generator of a problem with its walls. Raises CaseError where the diffusion jumps as it must not."""
        if in_phase_space(problem):
            edges, exits, shape = build_phase_edges(problem)
            return cls(problem, shape, edges, exits, problem.grid.active)
        refuse_jumps(problem)
        at_cells = sample_cells(problem)
        shape = local_shape(problem, at_cells)
        edges, exits = build_edges(problem, at_cells, shape)
        return cls(problem, shape, edges, exits, problem.grid.active)

    @property
    def grid(self) -> Grid:
        """The grid of the problem."""
        return self.problem.grid

    @property
    def closed(self) -> bool:
        """Whether nothing can leave."""
        return self.exits.cell.size == 0

    @cached_property
    def losses(self) -> FloatArray:
        """Rate of leaving for good from every cell, (cells,) [1/time]."""
        return np.bincount(self.exits.cell, self.exits.rate, minlength=self.grid.size).astype(np.float64)

    @cached_property
    def departure(self) -> FloatArray:
        """Total rate out of every cell, along edges and exits, (cells,) [1/time]."""
        edges, total = self.edges, self.losses.copy()
        kernels.depart(edges.origin, edges.end, edges.forward, edges.backward, total)
        return total

    def apply(self, probability: FloatArray) -> FloatArray:
        """dP/dt, (cells,) [1/time]. Sums to minus the outflow, to rounding."""
        change = -self.losses * probability
        kernels.collect(self.edges.origin, self.edges.end, self.current(probability), change)
        return change

    def adjoint(self, function: FloatArray) -> FloatArray:
        """The backward (Kolmogorov) operator on a function of the cells, (cells,): its mean rate of change."""
        change = -self.losses * function
        edges = self.edges
        kernels.adjoint(edges.origin, edges.end, edges.forward, edges.backward, function, change)
        return change

    def current(self, probability: FloatArray) -> FloatArray:
        """Probability per unit time along every edge, (edges,): the very numbers that move the probability."""
        edges = self.edges
        out = np.empty(edges.origin.size)
        kernels.edge_current(edges.origin, edges.end, edges.forward, edges.backward, probability, out)
        return out

    def outflow(self, probability: FloatArray) -> FloatArray:
        """Probability per unit time through every gate, (gates,) [1/time]."""
        leaving = self.exits.rate * probability[self.exits.cell]
        return np.bincount(self.exits.gate, leaving, minlength=len(self.exits.gates)).astype(np.float64)

    def flux(self, probability: FloatArray, weights: FloatArray) -> float:
        """Net probability per unit time out of a region given by its weights; minus the change of its occupation."""
        along = self.current(probability) @ (weights[self.edges.origin] - weights[self.edges.end])
        leaving = (self.exits.rate * probability[self.exits.cell]) @ weights[self.exits.cell]
        return float(along + leaving)

    def matrix(self) -> sparse.csc_matrix:
        """The generator as a sparse matrix Q on all cells, dP/dt = Q P; columns sum to minus the losses."""
        edges, size = self.edges, self.grid.size
        rows = np.concatenate([edges.end, edges.origin, np.arange(size)])
        columns = np.concatenate([edges.origin, edges.end, np.arange(size)])
        values = np.concatenate([edges.forward, edges.backward, -self.departure])
        return sparse.csc_matrix((values, (rows, columns)), shape=(size, size))

    @cached_property
    def pieces(self) -> IntArray:
        """The piece of the domain that every cell belongs to, (cells,): 0, 1, ... from the largest on; -1 outside."""
        found = np.where(self.active, 0, -1)
        if self.grid.parts is None:
            return found
        links = (np.ones(self.edges.origin.size), (self.edges.origin, self.edges.end))
        _, labels = connected_components(sparse.csr_array(links, shape=(self.grid.size,) * 2), directed=False)
        _, number, size = np.unique(labels[self.active], return_inverse=True, return_counts=True)
        rank = np.argsort(np.argsort(-size, kind="stable"))
        found[self.active] = rank[number]
        return found

    def joined_to(self, cells: BoolArray) -> Generator:
        """The chain on those pieces of the domain that hold some of the cells of a mask."""
        chosen = np.unique(self.pieces[cells & self.active])
        if chosen.size == 0 or chosen.size == self.pieces.max() + 1:
            return self
        kept = np.isin(self.pieces, chosen)
        exits = self.exits.select(kept[self.exits.cell])
        return replace(self, edges=self.edges.select(kept[self.edges.origin]), exits=exits, active=kept)

    def refuse_pieces(self) -> None:
        """Raise CaseError where the domain falls apart, and there is no one density at rest."""
        count = int(self.pieces.max()) + 1
        if count > 1:
            spots = [int(np.argmax(self.pieces == number)) for number in range(count)]
            sizes = np.bincount(self.pieces[self.active])
            named = [f"{size} around {self.grid.place(spot)}" for size, spot in zip(sizes, spots, strict=True)]
            found = f"the domain falls apart into {count} pieces, of {', '.join(named[:3])}{', ...' * (count > 3)}"
            remedy = "Change the condition, use more cells, or give an [initial] density in one of them"
            raise CaseError("grid.domain", found, "A density at rest needs one piece", remedy)

    def killed(self, region: Region, where: str = "target") -> Generator:
        """The same chain absorbed in a region: edges are cut where its surface crosses them.

        Raises CaseError when the region holds no cell centre, or all of them.
        """
        level = region.level(self.grid.positions())
        inside = (level > 0.0) & self.active
        if not inside.any() or (inside == self.active).all():
            found = f"the region {region.name!r} holds {'no cell' if not inside.any() else 'every cell'} of the grid"
            remedy = "Check the condition against the grid's bounds, or refine the grid"
            raise CaseError(where, found, "It must hold some cells and leave others", remedy)
        crossing, outer, step = self._crossing(inside)
        fraction = np.ones(self.edges.origin.size)
        fraction[crossing] = entry_fractions(self.grid, region.level, outer, step)
        inside[outer[fraction[crossing] < NEAREST_CUT]] = True
        fraction[fraction < NEAREST_CUT] = 1.0
        return self._cut(inside, fraction[self._crossing(inside)[0]], region.name)

    def _crossing(self, inside: BoolArray) -> tuple[IntArray, IntArray, FloatArray]:
        """Edges with one end inside: numbers, outer cells, and displacement from there, (axes, edges) in cells."""
        edges = self.edges
        inward = inside[edges.end]
        (crossing,) = np.nonzero(inside[edges.origin] != inward)
        inward = inward[crossing]
        outer = np.where(inward, edges.origin[crossing], edges.end[crossing])
        step = edges.displacement[crossing].T * np.where(inward, 1, -1)
        return crossing, outer, step.astype(np.float64)

    def _cut(self, inside: BoolArray, fraction: FloatArray, gate: str) -> Generator:
        """Without the cells inside; edges that lead there become exits, cut at the given fractions."""
        edges = self.edges
        crossing, outer, step = self._crossing(inside)
        only = np.zeros(outer.size, dtype=np.int64)
        local = None if edges.local is None else _outward(edges.local[..., crossing], outer == edges.origin[crossing])
        cuts = Cuts(outer, step.T.astype(np.int64), fraction, edges.weight[crossing], only - 1, only, (gate,), local)
        cut = cut_exits(self.problem, self.shape, cuts)
        kept = self.exits.select(~inside[self.exits.cell])
        staying = edges.select(~inside[edges.origin] & ~inside[edges.end])
        return replace(self, edges=staying, exits=kept.joined(cut), active=self.active & ~inside)

    def face_currents(self, probability: FloatArray) -> tuple[FloatArray, ...]:
        """Current density through the cell faces; see `through_faces`."""
        return self.through_faces(self.current(probability), self.exits.rate * probability[self.exits.cell])

    def through_faces(self, current: FloatArray, leaving: FloatArray) -> tuple[FloatArray, ...]:
        """Density through the cell faces of a current along the edges, (edges,), and the exits, (exits,) [1/time].

        One array per axis with one more entry along it, of shape (..., cells + 1, ...), positive upwards
        [1/time/length**(axes-1)]. Diagonal edges are led along the axes in every order in equal shares, so the net
        flow through the faces of each cell is exactly its dP/dt.
        """
        grid = self.grid
        shape = np.array(grid.shape + (1,) * (3 - grid.dimensions))
        faces = np.zeros((grid.dimensions, *(shape + 1)))
        orders = np.array(list(itertools.permutations(range(grid.dimensions))))
        periodic = np.array([axis.periodic for axis in grid.axes])
        parts = (
            (self.edges.origin, self.edges.displacement, current),
            (self.exits.cell, self._way_out(), leaving),
        )
        for cells, displacement, along in parts:
            start = grid.index_of(cells).T
            box = np.array(grid.shape)
            kernels.route_through_faces(
                np.ascontiguousarray(start), np.ascontiguousarray(displacement), along, orders, box, periodic, faces
            )
        return tuple(self._face_density(faces[axis], axis) for axis in range(grid.dimensions))

    def _way_out(self) -> IntArray:
        """Displacement of the exits, (exits, axes); those through a wall go straight to it, and cross no other."""
        axis = self.exits.axis[:, None]
        straight = self.exits.displacement * (np.arange(self.grid.dimensions) == axis)
        return np.where(axis >= 0, straight, self.exits.displacement)

    def _face_density(self, through: FloatArray, axis: int) -> FloatArray:
        """Probability per time through the padded faces of one axis as a density on the faces of the grid."""
        grid = self.grid
        size = tuple(cells + (other == axis) for other, cells in enumerate(grid.shape))
        values = through[tuple(slice(length) for length in size) + (0,) * (3 - grid.dimensions)]
        if grid.axes[axis].periodic:  # the first and the last face are the same
            first = tuple(0 if other == axis else slice(None) for other in range(grid.dimensions))
            last = tuple(-1 if other == axis else slice(None) for other in range(grid.dimensions))
            values[first] = values[last] = values[first] + values[last]
        for other, across in enumerate(grid.axes):
            if other != axis:
                values = values / across.widths.reshape(-1, *([1] * (grid.dimensions - 1 - other)))
        return values


def _outward(local: FloatArray, forward: BoolArray) -> FloatArray:
    """Weight and drift with which edges are followed from their origin, or else from their end, (2, edges)."""
    weight = np.where(forward, local[0, 0], local[1, 0])
    return np.array([weight, np.where(forward, local[0, 1], -local[1, 1])])
