"""Walkers beside a density: histograms in blocks of cells, so large that chance does not hide their shape."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from matplotlib.gridspec import SubplotSpec
from matplotlib.lines import Line2D

from fpsolve.analyse.ensemble import Distance
from fpsolve.model.grid import FloatArray, Grid
from fpsolve.present.pictures.in_time import UNEVEN
from fpsolve.present.pictures.layers import loss_lines, loss_range, paint, profile
from fpsolve.present.pictures.scales import TINIEST, linear_scale, root_scale
from fpsolve.present.pictures.sheet import Sheet, aspect_of, hide_inner
from fpsolve.present.pictures.style import DENSITY_COLOUR, DENSITY_MAP, PASSAGE_COLOUR
from fpsolve.present.pictures.views import View, drawn_axes, pair_views, plain_view
from fpsolve.present.pictures.words import brief_words, density_words, printed, shortened

TYPICAL = {1: 100.0, 2: 25.0}  # walkers in the block of a typical one, by the number of axes of a panel
FEWEST_BLOCKS = 8  # along each axis
HEADROOM = 1.25  # factor above the highest density: steps of the walkers go beyond it
DENSITY_WORDS = "Fokker-Planck"


@final
@dataclass(frozen=True)
class Instant:
    """A density beside walkers at one time.

    density: (cells,); counts: walkers in every cell, (cells,); walkers: all of them, also those that have left; words:
    of the time.
    """

    density: FloatArray
    counts: FloatArray
    walkers: int
    distance: Distance | None
    words: str

    def histogram(self, grid: Grid) -> FloatArray:
        """The density of the walkers, (cells,)."""
        return self.counts / (self.walkers * grid.volumes)

    def coarse(self, view: View) -> View:
        """The view in blocks in which a typical walker has enough others beside it, if the density is right.

        With probabilities P of the blocks they are sum P**2 / sum P of the walkers.
        """
        cells = min(last - first for first, last in (view.window[axis] for axis in view.axes))
        found = view
        for block in range(1, max(1, cells // FEWEST_BLOCKS) + 1):
            found = replace(view, block=block)
            sizes = np.diff(found.edges(0))
            if len(view.axes) == 2:
                sizes = np.diff(found.edges(1))[:, None] * sizes
            probability = found.integral(self.density) * sizes
            if self.walkers * (probability**2).sum() >= TYPICAL[len(view.axes)] * probability.sum():
                break
        return found


def distance_title(distance: Distance | None) -> str:
    """'L1 0.021 (chance 0.019)'."""
    return "" if distance is None else f"L1 {printed(distance.value)} (chance {printed(distance.expected)})"


def columns_of(grid: Grid, instants: int, further: int = 0) -> int:
    """Panels in a row: one for each instant, of three variables one for each pair; two maps where there is one instant.

    further: panels of another kind in the same row.
    """
    dimensions = len(drawn_axes(grid))
    own = 3 if dimensions == 3 else 2 if dimensions == 2 and instants == 1 else instants
    return own + further


def height_of(sheet: Sheet, columns: int, instants: int, width: float) -> tuple[float, float]:
    """Height [inches] of the panels of `draw_instants`, and what names and numbers take beside them."""
    dimensions = len(drawn_axes(sheet.grid))
    if dimensions == 1:
        return 2.2, 0.9
    if dimensions == 3:
        return 2.0 * min(2.1, 0.7 * width / columns), 1.4
    room = min(width / columns - 0.9, 3.6) * aspect_of(plain_view(sheet.grid, sheet.window))
    return (room, 0.9) if instants == 1 else (2.0 * room, 1.4)


def draw_instants(sheet: Sheet, slots: Sequence[Sequence[SubplotSpec]], instants: Sequence[Instant], name: str) -> None:
    """Densities and walkers at some instants.

    slots: of `columns_of`, in one row, or two: densities above, walkers below. name: of the walkers.
    """
    dimensions = len(drawn_axes(sheet.grid))
    if dimensions == 1:
        for slot, instant in zip(slots[0], instants, strict=True):
            _draw_line(sheet, slot, instant, instants, name)
    elif dimensions == 2 and len(instants) == 1:
        _draw_maps(sheet, [slots[0][:1], slots[0][1:]], instants, name)
    elif dimensions == 2:
        _draw_maps(sheet, slots, instants, name)
    else:
        _draw_pairs(sheet, slots, instants[-1], name)


def _draw_line(sheet: Sheet, slot: SubplotSpec, instant: Instant, instants: Sequence[Instant], name: str) -> None:
    """The density as a line and the walkers as steps; to one scale unless the peaks differ much."""
    view = plain_view(sheet.grid, sheet.window)
    coarse = instant.coarse(view)
    axes = sheet.line_panel(slot, view, "\n".join(filter(None, (instant.words, distance_title(instant.distance)))))
    axes.stairs(coarse.section(instant.histogram(sheet.grid)), coarse.edges(0), color=PASSAGE_COLOUR, linewidth=1.1)
    axes.plot(*profile(view, view.section(instant.density)), color=DENSITY_COLOUR)
    sheet.legend[DENSITY_WORDS] = Line2D([], [], color=DENSITY_COLOUR)
    sheet.legend[f"{name}: histogram"] = Line2D([], [], color=PASSAGE_COLOUR, drawstyle="steps", linewidth=1.1)
    peaks = np.array([float(view.section(some.density).max()) for some in instants])
    alike = bool(peaks.max() <= UNEVEN * peaks.min())
    peak = peaks.max() if alike else float(view.section(instant.density).max())
    axes.set_ylim(0.0, HEADROOM * (linear_scale(peak).vmax or 1.0))
    axes.set_ylabel(brief_words(density_words(view.names)))
    first = instant is instants[0]
    axes.tick_params(labelleft=first or not alike)
    axes.yaxis.label.set_visible(first)


def _draw_maps(sheet: Sheet, slots: Sequence[Sequence[SubplotSpec]], instants: Sequence[Instant], name: str) -> None:
    """A row of maps of the density and one of the walkers; where the peaks differ much, as shares of its peak."""
    view = plain_view(sheet.grid, sheet.window)
    boxes = [view.section(instant.density) for instant in instants]
    peaks = np.array([float(box.max()) for box in boxes])
    own = bool(peaks.max() > UNEVEN * peaks.min() and peaks.min() > TINIEST)
    norm = root_scale(1.0 if own else float(peaks.max()))
    words = "density / peak" if own else "density"
    span = loss_range(sheet.problem, np.max([instant.density for instant in instants], axis=0))
    single = len(instants) == 1
    for number, (instant, box, peak) in enumerate(zip(instants, boxes, peaks, strict=True)):
        unit, coarse = (peak if own else 1.0), instant.coarse(view)
        walkers = coarse.section(instant.histogram(sheet.grid))
        heads = (f"{DENSITY_WORDS}\n" if not number else "\n", f"{name}\n" if not number else "\n")
        parts = ((view, box, heads[0] + instant.words), (coarse, walkers, heads[1] + distance_title(instant.distance)))
        for row, (shown, values, title) in enumerate(parts):
            axes = sheet.image_panel(slots[row][number], view, title)
            mesh = paint(axes, shown, values / unit, norm, DENSITY_MAP)
            loss_lines(sheet, axes, view, span)
            hide_inner(axes, left=single or number == 0, bottom=single or row == 1)
            if (single and row == 1) or (not single and number == len(instants) - 1):
                sheet.colour_bar(axes, mesh, words, "max" if values.max() / unit > (norm.vmax or 1.0) else None)


def _draw_pairs(sheet: Sheet, slots: Sequence[Sequence[SubplotSpec]], instant: Instant, name: str) -> None:
    """Above, the density integrated over one variable after the other; below, the walkers."""
    for column, view in enumerate(pair_views(sheet.grid, 0, sheet.window)):
        box, coarse = view.integral(instant.density), instant.coarse(view)
        walkers = coarse.integral(instant.histogram(sheet.grid))
        norm = root_scale(float(box.max()))
        (other,) = (axis for axis in sheet.grid.names if axis not in view.names)
        above = f"Integrated over {shortened(other, 16)}"
        heads = (f"{DENSITY_WORDS}, {instant.words}", f"{name}, {distance_title(instant.distance)}")
        for row, (shown, values) in enumerate(((view, box), (coarse, walkers))):
            lines = [heads[row] if not column else "", above if row == 0 else ""]
            axes = sheet.image_panel(
                slots[row][column], view, "\n".join(lines).rstrip("\n") if row else "\n".join(lines)
            )
            mesh = paint(axes, shown, values, norm, DENSITY_MAP)
            hide_inner(axes, left=True, bottom=row == 1)
            if row == 0:
                sheet.colour_bar(axes, mesh, brief_words(density_words(view.names)))
