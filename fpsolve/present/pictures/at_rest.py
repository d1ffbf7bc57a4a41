"""The picture of the density at rest."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from fpsolve.analyse.basins import Basins
from fpsolve.analyse.currents import NOTICEABLE_CURRENT
from fpsolve.analyse.rest import AtRest
from fpsolve.present.pictures.landmarks import draw_borders, draw_points, draw_points_on_line, loss_shown
from fpsolve.present.pictures.layers import (
    DENSITY_DECADES,
    bands,
    draw_marginal,
    fill_density,
    loss_axis,
    loss_lines,
    outlines,
    paint,
    streams,
)
from fpsolve.present.pictures.scales import decade_scale, is_logarithmic, linear_scale, root_scale
from fpsolve.present.pictures.sheet import Named, Sheet, aspect_of
from fpsolve.present.pictures.style import DENSITY_MAP
from fpsolve.present.pictures.views import drawn_axes, pair_views, plain_view
from fpsolve.present.pictures.words import brief_words, cut_words, density_words, printed, shortened


def draw_rest(sheet: Sheet, rest: AtRest, basins: Basins | None = None) -> Figure:
    """The density at rest, with the current, the regions, the loss, and its basins."""
    draw = {1: _rest_line, 2: _rest_map, 3: _rest_space}[len(drawn_axes(sheet.grid))]
    draw(sheet, rest, sheet.named(lambda name: _occupied(name, rest)), basins)
    return sheet.finished()


def _occupied(name: str, rest: AtRest) -> str:
    """A region's name, with its occupation where that is known."""
    return shortened(name) + (f": P = {printed(rest.regions[name])}" if name in rest.regions else "")


def flows(rest: AtRest) -> bool:
    """Whether there is a current at rest that is not rounding."""
    return rest.detailed_balance > NOTICEABLE_CURRENT


def _rest_line(sheet: Sheet, rest: AtRest, regions: Named, basins: Basins | None) -> None:
    """The density over the variable, and the loss."""
    view = plain_view(sheet.grid, sheet.window)
    title = "Density at rest"
    if flows(rest):
        title += f", with the current J = {printed(float(view.components(rest.current)[0].mean()))}"
    axes = sheet.line_panel(sheet.divided(7.6, [3.5], 1, 0.75)[0, 0], view, title)
    fill_density(axes, view, rest.density, density_words(sheet.grid.variables))
    bands(sheet, axes, view, regions)
    right = loss_axis(sheet, axes, view, loss_shown(sheet, basins, rest.density))
    if right is not None and basins is not None:
        draw_points_on_line(sheet, right, view, basins)


def _rest_map(sheet: Sheet, rest: AtRest, regions: Named, basins: Basins | None) -> None:
    """The density; and once more, on a logarithmic scale and with the current, where it spans decades or flows."""
    view = plain_view(sheet.grid, sheet.window)
    box = view.section(rest.density)
    norms = {"Density at rest": linear_scale(float(box.max()))}
    second = decade_scale(box, DENSITY_DECADES)
    if is_logarithmic(second) or flows(rest):
        words = ["logarithmic"] * is_logarithmic(second) + ["with the current"] * flows(rest)
        norms[f"The same, {', '.join(words)}"] = second
    slots = sheet.divided(5.3 * len(norms), [3.85 * aspect_of(view)], len(norms), 0.8)
    span = loss_shown(sheet, basins, rest.density)
    for number, (title, norm) in enumerate(norms.items()):
        axes = sheet.image_panel(slots[0, number], view, title)
        sheet.colour_bar(axes, paint(axes, view, box, norm, DENSITY_MAP), density_words(sheet.grid.variables))
        loss_lines(sheet, axes, view, span)
        outlines(sheet, axes, view, regions)
        if basins is not None:
            draw_borders(sheet, axes, view, basins)
            draw_points(sheet, axes, view, basins, beside=True)
        if number == 1 and flows(rest):
            streams(sheet, axes, view, view.section(view.components(rest.current)))


def _rest_space(sheet: Sheet, rest: AtRest, regions: Named, basins: Basins | None) -> None:
    """Above, the density integrated over one variable, with the current; below, cuts through its maximum."""
    slots = sheet.divided(11.4, [2.1, 2.1], 3, 1.6)
    span = loss_shown(sheet, basins, rest.density)
    for column, view in enumerate(pair_views(sheet.grid, int(np.argmax(rest.density)), sheet.window)):
        axes = draw_marginal(sheet, slots[0, column], view, rest.density, rest.current if flows(rest) else None)
        if basins is not None:
            draw_points(sheet, axes, view, basins, projected=True, beside=True)
        axes = sheet.image_panel(slots[1, column], view, cut_words(view))
        box = view.section(rest.density)
        sheet.colour_bar(
            axes,
            paint(axes, view, box, root_scale(float(box.max())), DENSITY_MAP),
            brief_words(density_words(view.grid.variables)),
        )
        loss_lines(sheet, axes, view, span)
        outlines(sheet, axes, view, regions)
        if basins is not None:
            draw_borders(sheet, axes, view, basins)
            draw_points(sheet, axes, view, basins, beside=True)
