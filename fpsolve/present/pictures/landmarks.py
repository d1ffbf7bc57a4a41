"""Landmarks of an escape in a panel: start, target and valley, basins, minima and saddles, the most probable path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from fpsolve.analyse.basins import Basins, Saddle, basin_region
from fpsolve.analyse.escape import Escape
from fpsolve.analyse.geometry import cell_at, wrapped
from fpsolve.analyse.path import Path
from fpsolve.analyse.watershed import OUTSIDE
from fpsolve.model.grid import FloatArray
from fpsolve.present.pictures.layers import bands, loss_range, outlines
from fpsolve.present.pictures.sheet import Named, Sheet
from fpsolve.present.pictures.style import INK, PALE, TARGET_COLOUR, VALLEY_COLOUR
from fpsolve.present.pictures.views import View, drawn_axes
from fpsolve.present.pictures.words import printed, printed_from_logarithm, shortened

MOST_NAMED_SADDLES = 3  # in the legend, each with its barrier
MOST_OUTLINED_BASINS = 12
AWAY = 13.0  # points
JUMP = 0.5  # share of a panel that two neighbouring points of a path lie apart where it leaves at a periodic end

Style = dict[str, Any]

HATCHED: Style = {"facecolor": TARGET_COLOUR, "edgecolor": PALE, "hatch": "////", "linewidth": 0.5}
STAR: Style = {"marker": "*", "markersize": 12, "color": "white", "markeredgecolor": INK, "linestyle": ""}
CROSS: Style = {"marker": "X", "markersize": 8, "color": "white", "markeredgecolor": INK, "linestyle": ""}
BADGE: Style = {"boxstyle": "circle,pad=0.18", "facecolor": "white", "edgecolor": INK, "linewidth": 0.8}
CIRCLE: Style = {"marker": "o", "markersize": 10, "color": "white", "markeredgecolor": INK, "linestyle": ""}
DOTS = (0.0, (1.0, 1.5))
BORDER: Style = {"colors": INK, "linewidths": 1.1, "linestyles": [DOTS]}
PATH: Style = {"color": INK, "linewidth": 1.7}


def start_words(escape: Escape) -> str:
    """Where it starts, and how long it takes."""
    words = f"start ({', '.join(printed(coordinate) for coordinate in escape.start)})"
    time = escape.times.get("mean_first_passage_time")
    return words if time is None else f"{words}: τ = {printed_from_logarithm(time.log10)}"


def valley_of(escape: Escape) -> Named:
    """The valley as a region to be drawn, where there is one."""
    return [] if escape.valley is None else [(f"valley {shortened(escape.valley.name)}", escape.valley, VALLEY_COLOUR)]


def flow_of(escape: Escape) -> FloatArray:
    """The current of the escape, (axes, cells): of the transitions, free of loops in the well, where there are any."""
    return escape.current if escape.transition is None else escape.transition.current


def draw_places(sheet: Sheet, axes: Axes, view: View, escape: Escape) -> None:
    """The target hatched, and the surface of the valley, in an image."""
    (across, up), level = view.evaluate(escape.target.level)
    top = float(np.nanmax(level))
    if top > 0.0:
        level = np.ma.masked_invalid(level)
        surface = [0.0, 2.0 * top]
        axes.contourf(across, up, level, levels=surface, colors=[TARGET_COLOUR], hatches=["////"], zorder=2.5)
        sheet.legend[f"target {shortened(escape.target.name)}"] = Patch(**HATCHED)
    outlines(sheet, axes, view, valley_of(escape))


def draw_start(sheet: Sheet, axes: Axes, view: View, escape: Escape) -> None:
    """The start, in an image."""
    across_start, up_start = view.place(np.array(escape.start))
    axes.plot([across_start], [up_start], zorder=5, **STAR)
    sheet.legend[start_words(escape)] = Line2D([], [], **STAR)


def draw_bands(sheet: Sheet, axes: Axes, view: View, escape: Escape, others: Named = ()) -> None:
    """The target hatched and the valley shaded, and other regions, on a line."""
    bands(sheet, axes, view, [*valley_of(escape), *others])
    (place,), level = view.evaluate(escape.target.level)
    axes.fill_between(place, 0.0, 1.0, level > 0.0, transform=axes.get_xaxis_transform(), zorder=0, **HATCHED)
    sheet.legend[f"target {shortened(escape.target.name)}"] = Patch(**HATCHED)


def draw_borders(sheet: Sheet, axes: Axes, view: View, basins: Basins) -> None:
    """The borders between basins in an image: where the levels of two of them are the highest."""
    count = len(basins.minima)
    numbers = [*range(count), *([OUTSIDE] if (basins.label == OUTSIDE).any() else [])]
    if not 2 <= len(numbers) <= MOST_OUTLINED_BASINS:
        return
    drawn = [view.evaluate(basin_region(basins, number).level) for number in numbers]
    (across, up), levels = drawn[0][0], np.array([level for _, level in drawn])
    for number in range(len(numbers) - 1):
        excess = levels[number] - np.delete(levels, number, axis=0).max(axis=0)
        if np.nanmin(excess) < 0.0 < np.nanmax(excess):
            axes.contour(across, up, excess, levels=[0.0], colors="white", linewidths=2.2, alpha=0.7)
            axes.contour(across, up, excess, levels=[0.0], **BORDER)
            sheet.legend["border between basins"] = Line2D([], [], color=INK, linewidth=1.1, linestyle=DOTS)


def draw_points(
    sheet: Sheet, axes: Axes, view: View, basins: Basins, *, projected: bool = False, beside: bool = False
) -> None:
    """The minima as circles with their numbers, the saddles as crosses, in an image.

    projected: those outside the plane of the view, too; beside: the numbers hide nothing of the minima.
    """
    for number, minimum in enumerate(basins.minima):
        if _is_shown(view, minimum.position, projected):
            _badge(axes, number, view.place(minimum.position), AWAY if beside else 0.0)
            sheet.legend["minimum, by number"] = Line2D([], [], **CIRCLE)
    for saddle in basins.saddles:
        if _is_shown(view, saddle.point.position, projected):
            across, up = view.place(saddle.point.position)
            axes.plot([across], [up], zorder=4.8, **CROSS)
            sheet.legend[_saddle_words(saddle, basins)] = Line2D([], [], **CROSS)


def draw_points_on_line(sheet: Sheet, axes: Axes, view: View, basins: Basins) -> None:
    """The minima as circles with their numbers, the saddles as crosses, on the line of the loss."""
    for number, minimum in enumerate(basins.minima):
        if _is_shown(view, minimum.position, projected=True):
            _badge(axes, number, np.append(view.place(minimum.position), minimum.loss), 0.0)
            sheet.legend["minimum, by number"] = Line2D([], [], **CIRCLE)
    for saddle in basins.saddles:
        if _is_shown(view, saddle.point.position, projected=True):
            axes.plot(view.place(saddle.point.position), [saddle.point.loss], zorder=4.8, **CROSS)
            sheet.legend[_saddle_words(saddle, basins)] = Line2D([], [], **CROSS)


def draw_paths(sheet: Sheet, axes: Axes, view: View, paths: Sequence[Path]) -> None:
    """The most probable paths in an image; those that were not to be had are said to be of steepest descent."""
    for path in paths:
        points = view.place(wrapped(sheet.grid, path.points.T))
        leaps = np.abs(np.diff(points, axis=1)) > JUMP * np.array(view.extents)[:, None]
        line = np.insert(points, np.flatnonzero(leaps.any(axis=0)) + 1, np.nan, axis=1)
        axes.plot(*line, color="white", linewidth=3.4, alpha=0.8, zorder=3.9)
        axes.plot(*line, zorder=4.0, **PATH)
        words = "most probable path" if path.reason is None else "way of steepest descent"
        sheet.legend[words] = Line2D([], [], **PATH)


def _badge(axes: Axes, number: int, place: FloatArray, away: float) -> None:
    """The number of a minimum in a circle, so many points away from it to the right and up; whole also on a wall."""
    style: Style = {"textcoords": "offset points", "ha": "center", "va": "center", "fontsize": 9.0, "bbox": BADGE}
    axes.annotate(str(number + 1), place.tolist(), (away, away), annotation_clip=True, zorder=4.9, **style)


def _is_shown(view: View, position: FloatArray, projected: bool) -> bool:
    """Whether a point lies in the window of a view and, if it is not projected, in the cell where a cut is held."""
    ends = [view.limits(number) for number in range(len(view.axes))]
    inside = all(low <= x <= high for x, (low, high) in zip(view.place(position), ends, strict=True))
    index = np.unravel_index(cell_at(view.grid, position), view.grid.shape)
    others = [number for number in range(view.grid.dimensions) if number not in view.axes]
    return inside and (projected or all(index[number] == view.held[number] for number in others))


def _saddle_words(saddle: Saddle, basins: Basins) -> str:
    """'saddle 1–2: barrier 1 from 1, 0.4 from 2', also over the temperature where there is one."""
    if len(basins.saddles) > MOST_NAMED_SADDLES:
        return "saddle"
    one, other = (number + 1 for number in saddle.basins)
    first, second = (printed(height) for height in saddle.heights)
    if saddle.thermal_heights is not None:
        shares = [printed(height) for height in saddle.thermal_heights]
        first, second = (f"{height} = {share} T" for height, share in zip((first, second), shares, strict=True))
    return f"saddle {one}–{other}: barrier {first}" + ("" if first == second else f" from {one}, {second} from {other}")


def loss_shown(
    sheet: Sheet, basins: Basins | None, density: FloatArray, current: FloatArray | None = None
) -> tuple[float, float] | None:
    """The range of the loss where there is something to see, up to the lowest saddle at least.

    On a line, where the loss has an axis, all minima and saddles are within.
    """
    span = loss_range(sheet.problem, density, current)
    if span is None or basins is None or not basins.saddles:
        return span
    heights = [saddle.point.loss for saddle in basins.saddles]
    if len(drawn_axes(sheet.grid)) == 1:
        return min(span[0], basins.minima[0].loss), max(span[1], *heights)
    return span[0], max(span[1], heights[0])
