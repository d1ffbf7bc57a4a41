"""The floor of Hessian-proportional noise: where the noise would vanish without it, and what that costs.

With D = c f(H), c = learning_rate / (2 batch_size), the diffusion vanishes where an eigenvalue h of the Hessian does:
on the surface that separates every minimum from every saddle. Only the floor lets anything through, in a layer in
which |h| stays below it: floor / kappa wide, kappa = |grad h|. In one dimension the time grows as

    tau ~ floor**(-p),    p = 2 g / (c kappa),    g = |dL/dx|, kappa = |d3L/dx3| at the inflection

for projection "abs" and every kind of floor (the integral of L' / D through the layer; 2 / (9 c) for the quartic
well).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from scipy.optimize import brentq

from fpsolve.analyse.geometry import describe
from fpsolve.errors import Notice
from fpsolve.model.fields import Field
from fpsolve.model.grid import Axis, BoolArray, FloatArray, Grid
from fpsolve.model.maps import Refinement
from fpsolve.model.noise import HessianNoise
from fpsolve.model.problem import Problem
from fpsolve.model.region import Region

# Above this exponent, twice the floor more than halves the time; floors are seldom known better.
DOMINANT_EXPONENT = 1.0
NOTICEABLE_EXPONENT = 0.01
# More cells all over than this are no advice.
MOST_TIMES_THE_CELLS = 10.0
# Points between start and target among which inflections are told apart.
NODES = 4001


@final
@dataclass(frozen=True, slots=True)
class FloorLayer:
    """The narrowest layer that only the floor keeps open.

    cells: floor / kappa, in cells; width: the same along the axis that it is thinnest along [length]; position: of its
    middle, (axes,), exact in one dimension and to a cell in others.
    """

    cells: float
    width: float
    position: tuple[float, ...]


@final
@dataclass(frozen=True, slots=True)
class FloorSensitivity:
    """How a time depends on the floor of Hessian-proportional noise.

    exponent: d ln(time) / d ln(floor). share: the part of the exponent of exp(barrier / noise) that the floor carries,

        (d ln(time) / d ln(floor)) / (d ln(time) / d ln(noise)),

    noise multiplying all of D. D = c f(H, floor) with f homogeneous of degree one, so by Euler's theorem the rest is
    carried by the Hessian; in one dimension the share is that of the integral of L'/D, weighted by floor dD/dfloor / D.
    law: the exponent for a vanishing floor, where there is a closed form; layer: what only the floor keeps open, None
    where no eigenvalue of the Hessian changes its sign.
    """

    grid: Grid
    floor: float
    exponent: float
    share: float
    law: float | None
    layer: FloorLayer | None

    def notices(self) -> list[Notice]:
        """Warnings: the floor dominates; the grid does not resolve the layer that it keeps open."""
        found = []
        if abs(self.exponent) > DOMINANT_EXPONENT:
            message = (
                f"the escape time depends on the floor: d ln(time) / d ln(floor) = {self.exponent:.2g}, "
                f"{100.0 * self.share:.0f} % of the exponent; twice the floor gives {_times(self.exponent)} the time"
            )
            found.append(Notice("floor_dominates", message))
        if self.layer is not None and self.layer.cells < 1.0 and abs(self.exponent) > NOTICEABLE_EXPONENT:
            factor = 1.0 / self.layer.cells
            more = f"{factor:.2g} times the cells, " if factor <= MOST_TIMES_THE_CELLS else ""
            message = (
                f"the layer {layer_words(self.grid, self.layer)}, so that the time depends on the grid: use "
                f"{more}a larger floor, or {self._finer(self.layer)}"
            )
            found.append(Notice("floor_unresolved", message))
        return found

    def _finer(self, layer: FloorLayer) -> str:
        axis = self.grid.axes[0]
        if self.grid.dimensions > 1:
            return "finer cells there (refine)"
        return f"{axis.name}.refine = [{graded(axis, layer).case_text(0.01 * layer.width)}]"


def floor_of(problem: Problem) -> HessianNoise | None:
    """The noise where it has a floor over a projected Hessian, else None."""
    noise = problem.noise
    if isinstance(noise, HessianNoise) and noise.floor > 0.0 and noise.projection is not None:
        return noise
    return None


def uphill(problem: Problem, current: FloatArray) -> BoolArray:
    """The cells (cells,) in which a current (axes, cells) climbs the loss; all of them where there is no loss.

    Layers that are passed downhill hold nothing up.
    """
    gradient = problem.landscape.gradient
    if gradient is None:
        return np.ones(problem.grid.size, dtype=np.bool_)
    work: FloatArray = (current * gradient(problem.grid.positions())).sum(axis=0)
    return work > 0.0


def climb(problem: Problem, start: Sequence[float], target: Region) -> BoolArray | None:
    """The cells (cells,) in which the way from a start to a target climbs the loss, in one dimension, else None."""
    end = _nearest(problem, float(start[0]), target) if problem.grid.dimensions == 1 else None
    if end is None:
        return None
    x, ahead = problem.grid.positions()[0], np.sign(end - start[0])
    between = ((x - start[0]) * ahead >= 0.0) & ((end - x) * ahead >= 0.0)
    return np.asarray(between & uphill(problem, np.full((1, x.size), ahead)))


def layer_words(grid: Grid, layer: FloorLayer) -> str:
    """What a layer is, as the end of a clause."""
    place = describe(grid, np.array(layer.position))
    return f"that only the floor keeps open is {layer.cells:.2g} cells wide at {place}"


def narrowest_layer(problem: Problem, relevant: BoolArray | None = None) -> FloorLayer | None:
    """The layer with the fewest cells across floor / kappa, along any axis; None where no eigenvalue changes its sign.

    relevant: (cells,), those that matter to the question; all of them when left out. An eigenvalue (the first, the
    second ... in ascending order) that changes its sign between two neighbours by an amount s has kappa = s per cell.
    """
    noise, hessian = floor_of(problem), problem.landscape.hessian
    if noise is None or hessian is None:
        return None
    grid = problem.grid
    values = np.linalg.eigvalsh(np.moveaxis(hessian(grid.positions()), -1, 0)).T  # (axes, cells)
    found: tuple[float, int, int, int] | None = None  # change of the eigenvalue, cell, neighbour, axis
    for axis, offset in enumerate(np.eye(grid.dimensions, dtype=np.int64)):
        end, inside = grid.neighbours(offset)
        changes = inside & ((values < 0.0) != (values[:, end] < 0.0))
        step = np.where(changes, np.abs(values[:, end] - values), 0.0).max(axis=0)
        if relevant is not None:
            step = np.where(relevant & relevant[end], step, 0.0)
        cell = int(np.argmax(step))
        if step[cell] > (0.0 if found is None else found[0]):
            found = float(step[cell]), cell, int(end[cell]), axis
    if found is None:
        return None
    step_there, cell, neighbour, axis = found
    ends = grid.positions()[:, [cell, neighbour]]
    cells = noise.floor / step_there
    position = _between(hessian, ends) if grid.dimensions == 1 else tuple(ends.mean(axis=1).tolist())
    return FloorLayer(cells, cells * float(np.abs(grid.turned(ends[:, 1] - ends[:, 0])[axis])), position)


def _between(hessian: Field, ends: FloatArray) -> tuple[float, ...]:
    """Where the second derivative vanishes between two places, (1, 2)."""
    return (float(brentq(lambda x: float(hessian(np.array([[x]]))[0, 0, 0]), ends[0, 0], ends[0, 1])),)


def graded(axis: Axis, layer: FloorLayer) -> Refinement:
    """The refinement that resolves a layer in one dimension: as wide as the layer, with half of the cells of an axis.

    by = 1 / m with the mean m = 2 s asinh(1 / (2 s)) of a refinement in the middle of an axis, s its share of the
    length; where cells are unequal without it, the length is that of as many cells of the width at the layer.
    """
    bare, at = replace(axis, refine=()), layer.position[0]
    length = axis.cells * float(bare.stretch(bare.index(np.array(at))))
    return Refinement(at, length / (2.0 * layer.width * math.asinh(0.5 * length / layer.width)), layer.width)


def floor_law(problem: Problem, start: float, target: Region) -> float | None:
    """The exponent d ln(time) / d ln(floor) = -p of a vanishing floor, in one dimension.

    Summed over the inflections between the start and the nearest point of the target; those that are passed downhill
    hold nothing up. None where the law does not apply: more dimensions, another projection, injected noise, no target.
    """
    noise = floor_of(problem)
    if (
        noise is None
        or problem.grid.dimensions != 1
        or noise.projection != "abs"
        or noise.number("injected", least=0.0) > 0.0
    ):
        return None
    gradient, hessian = problem.landscape.gradient, problem.landscape.hessian
    end = _nearest(problem, start, target)
    if gradient is None or hessian is None or end is None:
        return None
    curvature, third = (lambda x: float(hessian(np.array([[x]]))[0, 0, 0])), hessian.derivative()
    nodes = np.linspace(start, end, NODES)
    values = hessian(nodes[None, :])[0, 0]
    total = 0.0
    for before in np.flatnonzero(values[:-1] * values[1:] < 0.0):
        inflection = np.array([[brentq(curvature, nodes[before], nodes[before + 1])]])
        slope = float(gradient(inflection)[0, 0]) * np.sign(end - start)
        total += 2.0 * max(slope, 0.0) / abs(float(third(inflection)[0, 0, 0, 0]))
    return -float(total) / noise.scale


def _nearest(problem: Problem, start: float, target: Region) -> float | None:
    """The cell centre of the target nearest the start."""
    centres: FloatArray = problem.grid.positions()
    inside = centres[0, target.level(centres) > 0.0]
    return None if inside.size == 0 else float(inside[np.argmin(np.abs(inside - start))])


def _times(exponent: float) -> str:
    factor = 2.0**exponent
    return f"{factor:.2g} times" if factor >= 0.01 else f"1/{1.0 / factor:.2g} of"
