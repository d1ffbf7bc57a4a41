"""The picture of the escape: how long it takes, and where that time is spent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.lines import Line2D

from fpsolve.analyse.escape import Escape
from fpsolve.model.grid import FloatArray
from fpsolve.present.pictures.landmarks import draw_bands, draw_places, draw_start, flow_of, start_words
from fpsolve.present.pictures.layers import (
    DENSITY_DECADES,
    draw_marginal,
    fill_density,
    loss_lines,
    loss_range,
    paint,
    profile,
    streams,
)
from fpsolve.present.pictures.scales import decade_scale, is_logarithmic, linear_scale, powers_scale
from fpsolve.present.pictures.sheet import Sheet, aspect_of, set_ticks
from fpsolve.present.pictures.style import (
    DENSITY_MAP,
    PASSAGE_COLOUR,
    PASSAGE_MAP,
)
from fpsolve.present.pictures.views import View, drawn_axes, pair_views, plain_view
from fpsolve.present.pictures.words import brief_words, cut_words, label_logarithms, shortened

PASSAGE_DECADES = 8.0


def draw_escape(sheet: Sheet, escape: Escape) -> Figure:
    """The mean time to the target, and where it is spent."""
    draw = {1: _escape_line, 2: _escape_map, 3: _escape_space}[len(drawn_axes(sheet.grid))]
    draw(sheet, escape)
    return sheet.finished()


def _passage(escape: Escape) -> tuple[FloatArray, Normalize]:
    """What is drawn of the time to the target, and its scale: decimal logarithms where it spans decades.

    Just outside the target the time goes to zero: the lowest few cells do not make the scale.
    """
    logarithms = escape.log10_mean_first_passage_time
    scale = powers_scale(logarithms, PASSAGE_DECADES, lowest=0.01)
    if scale is not None:
        return logarithms, scale
    return escape.mean_first_passage_time, linear_scale(float(escape.mean_first_passage_time.max()))


def _passage_words(names: Sequence[str]) -> str:
    return f"mean first-passage time τ({shortened(', '.join(names), 24)})"


def _escape_line(sheet: Sheet, escape: Escape) -> None:
    """The mean time to the target over the start, and where it is spent."""
    view = plain_view(sheet.grid, sheet.window)
    slot = sheet.divided(7.6, [3.5], 1, 0.75)[0, 0]
    axes = sheet.line_panel(slot, view, "Mean time to the target, and where it is spent")
    right = axes.twinx()
    set_ticks(right)
    fill_density(right, view, escape.density, "density while escaping")
    axes.set_zorder(right.get_zorder() + 1)
    axes.patch.set_visible(False)
    values, scale = _passage(escape)
    position, time = profile(view, view.section(values))
    axes.plot(position, np.where(np.isfinite(time), time, np.nan), color=PASSAGE_COLOUR)
    dot: dict[str, Any] = {"marker": "o", "markersize": 7, "markeredgecolor": "white", "linestyle": ""}
    (start,) = view.place(np.array(escape.start))
    axes.plot([start], [np.interp(start, position, time)], color=PASSAGE_COLOUR, **dot)
    if is_logarithmic(scale):
        label_logarithms(axes.yaxis)
    axes.set_ylabel(_passage_words(sheet.grid.variables), color=PASSAGE_COLOUR)
    sheet.legend[start_words(escape)] = Line2D([], [], color=PASSAGE_COLOUR, **dot)
    draw_bands(sheet, axes, view, escape)


def _escape_map(sheet: Sheet, escape: Escape) -> None:
    """The mean time to the target from everywhere, and where it is spent on the way from the start."""
    view = plain_view(sheet.grid, sheet.window)
    slots = sheet.divided(10.6, [3.85 * aspect_of(view)], 2, 0.8)
    current = view.section(view.components(escape.current))
    span = loss_range(sheet.problem, escape.density, flow_of(escape))
    axes = _draw_passage(sheet, slots[0, 0], view, escape, span, "Mean time to the target")
    streams(sheet, axes, view, current)
    axes = sheet.image_panel(slots[0, 1], view, "Where the time is spent")
    box = view.section(escape.density)
    mesh = paint(axes, view, box, decade_scale(box, DENSITY_DECADES), DENSITY_MAP)
    sheet.colour_bar(axes, mesh, "density while escaping")
    loss_lines(sheet, axes, view, span)
    draw_places(sheet, axes, view, escape)
    draw_start(sheet, axes, view, escape)
    streams(sheet, axes, view, current)


def _escape_space(sheet: Sheet, escape: Escape) -> None:
    """Above, the mean time to the target on cuts through the start; below, where it is spent, integrated."""
    grid = sheet.grid
    start = grid.along(np.array(escape.start))
    index = [int(np.abs(axis.centres - place).argmin()) for axis, place in zip(grid.axes, start, strict=True)]
    slots = sheet.divided(11.4, [2.1, 2.1], 3, 1.6)
    span = loss_range(sheet.problem, escape.density, flow_of(escape))
    for column, view in enumerate(pair_views(grid, int(grid.strides @ index), sheet.window)):
        _draw_passage(sheet, slots[0, column], view, escape, span, cut_words(view))
        draw_marginal(sheet, slots[1, column], view, escape.density, escape.current)


def _draw_passage(
    sheet: Sheet, slot: SubplotSpec, view: View, escape: Escape, span: tuple[float, float] | None, title: str
) -> Axes:
    """The mean first-passage time of a view, the target hatched."""
    axes = sheet.image_panel(slot, view, title)
    values, scale = _passage(escape)
    mesh = paint(axes, view, view.section(values), scale, PASSAGE_MAP)
    words = _passage_words(sheet.grid.variables)
    sheet.colour_bar(axes, mesh, words if len(view.names) == sheet.grid.dimensions else brief_words(words))
    loss_lines(sheet, axes, view, span, "white")
    draw_places(sheet, axes, view, escape)
    draw_start(sheet, axes, view, escape)
    return axes
