"""What is drawn into a panel: fields, loss lines, regions, currents.

Densities and times are the cells' own values (means over blocks of cells on large grids), currents the scheme's own,
losses and regions come from their formulas. Loss lines are at 1, 4, 9, ... units above the minimum: evenly spaced in
a parabola, close enough at the bottom to show a saddle.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.colors import Colormap, Normalize
from matplotlib.gridspec import SubplotSpec
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from fpsolve.model.grid import BoolArray, FloatArray
from fpsolve.model.problem import Problem
from fpsolve.present.pictures.scales import TINIEST, decade_scale, linear_scale
from fpsolve.present.pictures.sheet import Named, Sheet, aspect_of, set_ticks
from fpsolve.present.pictures.style import DASHES, DENSITY_COLOUR, DENSITY_MAP, INK, LOSS_COLOUR, PALE
from fpsolve.present.pictures.views import STRONG, View, nearest
from fpsolve.present.pictures.words import brief_words, density_words, printed, shortened

PROBABILITY_CURRENT = "probability current"

STREAM_POINTS = 60  # per axis
ARROWS = 20  # per axis
DENSITY_DECADES = 6.0  # of a logarithmic density scale
SEEN = 1e-6  # share of the highest density below which the loss does not set the lines
SEEN_CELLS = 100_000  # that are asked for their loss
LOSS_LINES = 10  # where there is something to see; as many again beyond
WEAKEST = 1e-3  # share of the strongest current below which none is drawn
FAINTEST = 1e-2  # the same for arrows


def paint(axes: Axes, view: View, box: FloatArray, norm: Normalize, colours: Colormap) -> QuadMesh:
    """An image of a box; what lies below the scale has its lowest colour, what lies outside the domain none."""
    lowest = norm.vmin if norm.vmin is not None else 0.0
    shown = np.maximum(box, lowest)
    if view.grid.parts is not None:
        shown = np.ma.masked_array(shown, ~view.inside)
    return axes.pcolormesh(view.edges(0), view.edges(1), shown, norm=norm, cmap=colours)


def profile(view: View, box: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A line through the values at the block centres, led on level to the walls, or joined where they are periodic."""
    axis = view.grid.axes[view.axes[0]]
    joint = 0.5 * (box[:1] + box[-1:])
    ends = (joint, joint) if axis.periodic else (box[:1], box[-1:])
    lower, upper = view.limits(0)
    return np.concatenate([[lower], view.centres(0), [upper]]), np.concatenate([ends[0], box, ends[1]])


def fill_density(axes: Axes, view: View, density: FloatArray, words: str) -> None:
    """A density of one variable, as an area under a line."""
    position, values = profile(view, view.section(density))
    axes.fill_between(position, values, color=DENSITY_COLOUR, alpha=0.25, linewidth=0)
    axes.plot(position, values, color=DENSITY_COLOUR)
    axes.set_ylim(0.0, 1.15 * (linear_scale(float(values.max())).vmax or 1.0))
    axes.set_ylabel(words, color=DENSITY_COLOUR)


def loss_range(problem: Problem, density: FloatArray, current: FloatArray | None = None) -> tuple[float, float] | None:
    """Lowest and highest loss where there is something to see: density (cells,), or current (axes, cells)."""
    if problem.landscape.loss is None:
        return None
    seen: BoolArray = density >= SEEN * density.max()
    if current is not None:
        strength = np.sqrt((current**2).sum(axis=0))
        seen |= strength > STRONG * strength.max()
    (cells,) = np.nonzero(seen)
    grid = problem.grid
    loss = problem.landscape.loss(grid.positions(grid.index_of(cells[:: -(-cells.size // SEEN_CELLS)])))
    return float(loss.min()), float(loss.max())


def loss_lines(sheet: Sheet, axes: Axes, view: View, span: tuple[float, float] | None, colour: str = INK) -> None:
    """Contour lines of the loss at 1, 4, 9, ... units above its minimum."""
    loss = sheet.problem.landscape.loss
    if loss is None or span is None or not span[1] > span[0]:
        return
    (across, up), box = view.evaluate(loss)
    unit, levels = loss_levels(*span)
    levels = levels[(levels > np.nanmin(box)) & (levels < np.nanmax(box))]
    if levels.size:
        style: dict[str, Any] = {"colors": colour, "alpha": 0.35, "linewidths": 0.6, "linestyles": "solid"}
        axes.contour(across, up, np.ma.masked_invalid(box), levels=levels, **style)
        sheet.legend[f"loss − minimum = {printed(unit)} × (1, 4, 9, …)"] = Line2D([], [], color=PALE, linewidth=0.8)


def loss_levels(lowest: float, highest: float) -> tuple[float, FloatArray]:
    """A round unit, and the losses 1, 4, 9, ... units above the lowest: LOSS_LINES up to the highest, and beyond."""
    unit = _rounded_down((highest - lowest) / LOSS_LINES**2)
    return unit, lowest + unit * np.arange(1.0, 2.0 * LOSS_LINES + 1.0) ** 2


def _rounded_down(value: float) -> float:
    """The next number below of the form 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return max(step * power for step in (1.0, 2.0, 5.0) if step * power <= value or step == 1.0)


def loss_axis(sheet: Sheet, axes: Axes, view: View, span: tuple[float, float] | None) -> Axes | None:
    """The loss on an axis of its own at the right, up to its highest value where there is something to see."""
    loss = sheet.problem.landscape.loss
    if loss is None or span is None:
        return None
    (position,), values = view.evaluate(loss)
    right = axes.twinx()
    set_ticks(right)
    style: dict[str, Any] = {"color": LOSS_COLOUR, "linewidth": 1.1, "linestyle": (0, (5, 1.5))}
    right.plot(position, values, **style)
    margin = 0.06 * (span[1] - span[0]) or 1.0
    right.set_ylim(span[0] - margin, span[1] + margin)
    right.set_ylabel("loss", color=LOSS_COLOUR)
    sheet.legend["loss"] = Line2D([], [], **style)
    return right


def outlines(sheet: Sheet, axes: Axes, view: View, regions: Named) -> None:
    """Surfaces of regions in an image: dashed lines, named by their words in the legend."""
    for words, region, colour in regions:
        (across, up), level = view.evaluate(region.level)
        if np.isfinite(level).any() and np.nanmin(level) < 0.0 < np.nanmax(level):
            level = np.ma.masked_invalid(level)
            axes.contour(across, up, level, levels=[0.0], colors="white", linewidths=2.6, alpha=0.7)
            axes.contour(across, up, level, levels=[0.0], colors=colour, linewidths=1.4, linestyles=[DASHES])
            sheet.legend[words] = Line2D([], [], color=colour, linewidth=1.4, linestyle=DASHES)


def bands(sheet: Sheet, axes: Axes, view: View, regions: Named) -> None:
    """Regions of a line: shaded bands between dashed edges, named by their words in the legend."""
    for words, region, colour in regions:
        (position,), level = view.evaluate(region.level)
        inside, high = level > 0.0, axes.get_xaxis_transform()
        axes.fill_between(position, 0.0, 1.0, inside, transform=high, color=colour, alpha=0.12, linewidth=0)
        for step in np.flatnonzero(inside[1:] != inside[:-1]):
            axes.axvline(float(position[step : step + 2].mean()), color=colour, linewidth=0.9, linestyle=DASHES)
        if inside.any():
            sheet.legend[words] = Patch(facecolor=colour, alpha=0.35)


def _sampled_current(view: View, current: FloatArray, points: int) -> tuple[list[FloatArray], FloatArray, FloatArray]:
    """A current (2, up, across) at evenly spaced points: coordinates; components in units of the panel; strength.

    The largest strength is 1, or 0 where nothing flows.
    """
    centres = (view.centres(0), view.centres(1))
    ends = [np.linspace(line[0], line[-1], min(points, line.size)) for line in centres]
    across, up = (nearest(line, places) for line, places in zip(centres, ends, strict=True))
    scaled = current[:, up[:, None], across] / np.array(view.extents)[:, None, None]
    scaled /= max(float(np.abs(scaled).max()), TINIEST)
    strength = np.sqrt((scaled**2).sum(axis=0))
    strength /= max(float(strength.max()), TINIEST)
    return ends, scaled, strength


def streams(sheet: Sheet, axes: Axes, view: View, current: FloatArray, words: str = PROBABILITY_CURRENT) -> None:
    """Streamlines of a current (2, up, across), the thicker the stronger it is."""
    (across, up), scaled, strength = _sampled_current(view, current, STREAM_POINTS)
    if not strength.any():
        return
    flow = np.ma.masked_where(np.broadcast_to(strength < WEAKEST, scaled.shape), scaled)
    flow *= np.array(view.extents)[:, None, None]
    style: dict[str, Any] = {"density": 1.2, "color": "white", "linewidth": 0.4 + 1.5 * np.sqrt(strength)}
    lines = axes.streamplot(across, up, flow[0], flow[1], arrowsize=0.9, zorder=3, **style).lines
    shadow = LineCollection(lines.get_segments(), linewidths=np.add(lines.get_linewidth(), 1.0))
    shadow.set(color=INK, alpha=0.45, zorder=2.9)
    axes.add_collection(shadow, autolim=False)
    _name_current(sheet, words)


def arrows(sheet: Sheet, axes: Axes, view: View, current: FloatArray, words: str = PROBABILITY_CURRENT) -> None:
    """Arrows along a current (2, up, across); their length is the square root of its strength."""
    (across, up), scaled, strength = _sampled_current(view, current, ARROWS)
    strong = strength > FAINTEST
    if not strong.any():
        return
    length = np.sqrt(strength[strong]) * 1.5 / max(across.size, up.size)
    direction = scaled[:, strong] / np.sqrt((scaled[:, strong] ** 2).sum(axis=0))
    direction[1] *= aspect_of(view)
    places = (line[strong] for line in np.meshgrid(across, up))
    style: dict[str, Any] = {"angles": "uv", "pivot": "mid", "scale_units": "width", "scale": 1.0, "minlength": 0.5}
    style |= {"width": 0.006, "headwidth": 3.4, "headlength": 3.8, "headaxislength": 3.4}
    axes.quiver(*places, *(direction * length), color="white", edgecolor=INK, linewidth=0.25, **style)
    _name_current(sheet, words)


def _name_current(sheet: Sheet, words: str) -> None:
    sheet.legend[words] = Line2D([], [], color=PALE, marker=">", markersize=4, linewidth=1.2)


def draw_marginal(sheet: Sheet, slot: SubplotSpec, view: View, density: FloatArray, current: FloatArray | None) -> Axes:
    """A density integrated over the variable that a view lacks, and its current."""
    (other,) = (name for name in view.grid.names if name not in view.names)
    axes = sheet.image_panel(slot, view, f"Integrated over {shortened(other, 16)}")
    box = view.integral(density)
    norm = decade_scale(box, DENSITY_DECADES)
    sheet.colour_bar(axes, paint(axes, view, box, norm, DENSITY_MAP), brief_words(density_words(view.names)))
    if current is not None:
        arrows(sheet, axes, view, view.integral(view.components(current)))
    return axes
