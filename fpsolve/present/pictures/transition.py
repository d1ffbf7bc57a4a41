"""The picture of the transition: committor and reactive current, the most probable paths, and the flux in time."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec

from fpsolve.analyse.basins import Basins
from fpsolve.analyse.escape import Escape
from fpsolve.analyse.geometry import cell_at, wrapped
from fpsolve.analyse.path import Path
from fpsolve.analyse.quasi_equilibrium import RunningFlux
from fpsolve.analyse.transition_path import TransitionPath
from fpsolve.present.pictures.landmarks import (
    DOTS,
    Style,
    draw_bands,
    draw_paths,
    draw_places,
    draw_points,
    draw_points_on_line,
    flow_of,
    loss_shown,
)
from fpsolve.present.pictures.layers import arrows, loss_axis, loss_lines, outlines, paint, profile, streams
from fpsolve.present.pictures.scales import root_scale
from fpsolve.present.pictures.sheet import Named, Sheet, aspect_of
from fpsolve.present.pictures.style import DENSITY_COLOUR, DENSITY_MAP, INK, PASSAGE_COLOUR, TWO_SIDED_MAP
from fpsolve.present.pictures.views import View, drawn_axes, pair_views, plain_view
from fpsolve.present.pictures.words import (
    cut_words,
    label_logarithms,
    label_powers,
    printed,
    printed_from_logarithm,
    shortened,
)

CORE_COLOUR = "#e69f00"
HIGHEST = 6.0  # decades above its plateau up to which the flux in time is drawn
ROOM = 0.5  # decades, below it
LONG_DASHES = (0.0, (5.0, 3.0))
DASH_AND_DOT = (0.0, (4.0, 2.0, 1.0, 2.0))


def has_transition(escape: Escape, paths: Sequence[Path]) -> bool:
    """Whether there is anything to draw."""
    return escape.transition is not None or escape.running is not None or bool(paths)


def draw_transition(sheet: Sheet, escape: Escape, basins: Basins | None, paths: Sequence[Path]) -> Figure:
    """What there is of the committor with the reactive current and the paths, and the flux in time."""
    dimensions = len(drawn_axes(sheet.grid))
    if dimensions == 3:
        _draw_space(sheet, escape, basins, paths)
        return sheet.finished()
    view = plain_view(sheet.grid, sheet.window)
    placed = escape.transition is not None or (dimensions == 2 and bool(paths))
    panels = placed + (escape.running is not None)
    height = 3.4 if dimensions == 1 else 3.85 * aspect_of(view)
    slots = sheet.divided(5.3 * panels, [height], panels, 0.8)
    if escape.transition is not None and dimensions == 1:
        _draw_line(sheet, slots[0, 0], view, escape, escape.transition, basins)
    elif placed:
        _draw_map(sheet, slots[0, 0], view, escape, basins, paths)
    if escape.running is not None:
        _draw_running(sheet, slots[0, panels - 1], escape, escape.running)
    return sheet.finished()


def _core(transition: TransitionPath | None) -> Named:
    return [] if transition is None else [("core", transition.core, CORE_COLOUR)]


def _draw_line(
    sheet: Sheet, slot: SubplotSpec, view: View, escape: Escape, transition: TransitionPath, basins: Basins | None
) -> None:
    """The two committors over the variable, and the loss."""
    axes = sheet.line_panel(slot, view, "Which is reached next, which was visited last")
    curves = {
        "target is reached before the core": (transition.committor, PASSAGE_COLOUR),
        "core was visited after the target": (transition.backward_committor, DENSITY_COLOUR),
    }
    for words, (values, colour) in curves.items():
        (line,) = axes.plot(*profile(view, view.section(values)), color=colour)
        sheet.legend[words] = line
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel("probability (committor)")
    right = loss_axis(sheet, axes, view, loss_shown(sheet, basins, escape.density, transition.current))
    draw_bands(sheet, axes, view, escape, _core(transition))
    if right is not None and basins is not None:
        draw_points_on_line(sheet, right, view, basins)


def _draw_map(
    sheet: Sheet, slot: SubplotSpec, view: View, escape: Escape, basins: Basins | None, paths: Sequence[Path]
) -> None:
    """The committor and the reactive current, with the paths over the saddles."""
    transition = escape.transition
    title = "Most probable path" if transition is None else "Committor, with the reactive current"
    axes = sheet.image_panel(slot, view, title)
    _draw_committor(sheet, axes, view, escape, basins)
    if transition is not None:
        streams(sheet, axes, view, view.section(view.components(transition.current)), "reactive current")
    draw_paths(sheet, axes, view, paths)
    if basins is not None:
        draw_points(sheet, axes, view, basins)


def _draw_committor(sheet: Sheet, axes: Axes, view: View, escape: Escape, basins: Basins | None) -> None:
    """The committor where there is one, under the loss lines and the regions."""
    transition = escape.transition
    if transition is not None:
        mesh = paint(axes, view, view.section(transition.committor), Normalize(0.0, 1.0), TWO_SIDED_MAP)
        sheet.colour_bar(axes, mesh, "committor: target before core")
    loss_lines(sheet, axes, view, loss_shown(sheet, basins, escape.density, flow_of(escape)))
    draw_places(sheet, axes, view, escape)
    outlines(sheet, axes, view, _core(transition))


def _draw_space(sheet: Sheet, escape: Escape, basins: Basins | None, paths: Sequence[Path]) -> None:
    """Above, the committor on cuts through the saddle; then the reactive current, integrated; the flux in time."""
    transition, running = escape.transition, escape.running
    rows = [2.1] * (transition is not None) + [2.1] * (transition is not None or bool(paths))
    slots = sheet.divided(11.4, rows + [2.1] * (running is not None), 3, 0.8 * (len(rows) + (running is not None)))
    for column, view in enumerate(pair_views(sheet.grid, _cut(sheet, escape, paths), sheet.window)):
        if transition is not None:
            axes = sheet.image_panel(slots[0, column], view, f"Committor, {cut_words(view).lower()}")
            _draw_committor(sheet, axes, view, escape, basins)
        if rows:
            (other,) = (name for name in sheet.grid.names if name not in view.names)
            axes = sheet.image_panel(slots[len(rows) - 1, column], view, f"Integrated over {shortened(other, 16)}")
            if transition is not None:
                _draw_flow(sheet, axes, view, transition)
            draw_paths(sheet, axes, view, paths)
            if basins is not None:
                draw_points(sheet, axes, view, basins, projected=True)
    if running is not None:
        _draw_running(sheet, slots[len(rows), :], escape, running)


def _cut(sheet: Sheet, escape: Escape, paths: Sequence[Path]) -> int:
    """The cell of the saddle, or of the start where no path is known."""
    place = np.array(escape.start) if not paths else wrapped(sheet.grid, paths[0].points[paths[0].saddle])
    return cell_at(sheet.grid, place)


def _draw_flow(sheet: Sheet, axes: Axes, view: View, transition: TransitionPath) -> None:
    """How strong the reactive current is, integrated over the variable that a view lacks, and where it goes."""
    current = view.integral(view.components(transition.current))
    strength = np.sqrt((current**2).sum(axis=0))
    mesh = paint(axes, view, strength, root_scale(float(strength.max())), DENSITY_MAP)
    sheet.colour_bar(axes, mesh, "reactive current")
    arrows(sheet, axes, view, current, "reactive current")


def _draw_running(sheet: Sheet, slot: SubplotSpec, escape: Escape, running: RunningFlux) -> None:
    """The population of the valley over its flux as time goes on, its plateau, and from when it holds."""
    axes = sheet.figure.add_subplot(slot)
    axes.set_title("Population over flux, as time goes on")
    axes.set_xlabel("time t")
    axes.set_ylabel("population / flux [time]")
    axes.set_xscale("log")
    axes.set_xlim(float(running.times[0]), float(running.times[-1]))
    label_powers(axes.xaxis)
    values = running.log_values / math.log(10.0)
    plateau = running.log_plateau / math.log(10.0)
    words = "population of the valley / flux out of it"
    if escape.valley is None:
        words = "population outside the target / flux into it"
    (curve,) = axes.plot(running.times, np.where(np.isfinite(values), values, np.nan), color=DENSITY_COLOUR)
    sheet.legend[words] = curve
    levels: dict[str, tuple[float, Style]] = {
        "its plateau": (plateau, {"color": DENSITY_COLOUR, "linewidth": 0.9, "linestyle": DOTS})
    }
    if (passage := escape.times.get("mean_first_passage_time")) is not None:
        style: Style = {"color": PASSAGE_COLOUR, "linewidth": 1.2, "linestyle": LONG_DASHES, "zorder": 1.9}
        levels["mean first-passage time"] = (passage.log10, style)
    for words, (level, style) in levels.items():
        sheet.legend[f"{words}: τ = {printed_from_logarithm(level)}"] = axes.axhline(level, **style)
    if running.onset > running.times[0]:
        onset = axes.axvline(running.onset, color=INK, linewidth=0.9, linestyle=DASH_AND_DOT)
        sheet.legend[f"quasi-equilibrium from t = {printed(running.onset)}"] = onset
    drawn = np.array([*values[np.isfinite(values)], *(level for level, _ in levels.values())])
    axes.set_ylim(drawn.min() - ROOM, min(max(drawn.max(), plateau + 1.0), plateau + HIGHEST) + ROOM)
    label_logarithms(axes.yaxis)
