"""The picture of the spectrum: how long the slowest modes of the density live, and what they look like."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fpsolve.analyse.spectrum import Spectrum
from fpsolve.model.grid import FloatArray
from fpsolve.present.pictures.layers import loss_axis, loss_lines, loss_range, paint, profile
from fpsolve.present.pictures.scales import two_sided_scale
from fpsolve.present.pictures.sheet import Sheet, aspect_of, set_ticks
from fpsolve.present.pictures.style import DENSITY_COLOUR, LINE_COLOURS, PALE, PASSAGE_COLOUR, TWO_SIDED_MAP
from fpsolve.present.pictures.views import View, drawn_axes, pair_views, plain_view
from fpsolve.present.pictures.words import brief_words, density_words, label_logarithms, printed, shortened

DRAWN = {1: 4, 2: 5, 3: 3}  # modes, by the number of drawn axes
COLUMNS = 3
HALF = 0.36  # of the length of a rung
DECADE = 10.0  # ratio of times from which the ladder is logarithmic


def draw_spectrum(sheet: Sheet, spectrum: Spectrum) -> Figure:
    """The relaxation times as a ladder, and the slowest modes of the density over the loss."""
    draw = {1: _draw_lines, 2: _draw_maps, 3: _draw_marginals}[len(drawn_axes(sheet.grid))]
    draw(sheet, spectrum, _chosen(spectrum)[: DRAWN[len(drawn_axes(sheet.grid))]])
    return sheet.finished()


def shape_of(spectrum: Spectrum) -> FloatArray:
    """What is drawn of the modes, (modes, cells): the density that decays, of a pair that turns the real part."""
    return np.asarray(np.real(spectrum.densities))


def _chosen(spectrum: Spectrum) -> list[int]:
    """The modes that decay, by number; of those that turn, the first of each pair."""
    found: list[int] = []
    for number, time in enumerate(spectrum.relaxation_times):
        second = (
            bool(found) and number - 1 == found[-1] and _turning(spectrum, number) == -_turning(spectrum, number - 1)
        )
        if time is not None and (not second or _turning(spectrum, number) == 0.0):
            found.append(number)
    return found


def _turning(spectrum: Spectrum, number: int) -> float:
    return float(np.imag(spectrum.eigenvalues[number]))


def _mode_words(spectrum: Spectrum, number: int) -> str:
    time = printed(spectrum.relaxation_times[number] or math.inf)
    if (turning := abs(_turning(spectrum, number))) > 0.0:
        return f"modes {number}, {number + 1}: relax in {time}, turn in {printed(2.0 * math.pi / turning)}"
    return f"mode {number}: relaxes in {time}"


def _ladder(sheet: Sheet, slot: SubplotSpec, spectrum: Spectrum) -> None:
    """The relaxation times, one rung each."""
    axes = sheet.figure.add_subplot(slot)
    set_ticks(axes)
    rungs = [(number, time) for number, time in enumerate(spectrum.relaxation_times) if time is not None]
    numbers, times = np.array([number for number, _ in rungs]), np.array([time for _, time in rungs])
    logarithmic = bool(times.max() > DECADE * times.min())
    heights = np.log10(times) if logarithmic else times
    turning = np.imag(spectrum.eigenvalues)[numbers] != 0.0
    for which, colour in ((~turning, DENSITY_COLOUR), (turning, PASSAGE_COLOUR)):
        across = numbers[which]
        axes.hlines(heights[which], across - HALF, across + HALF, color=colour, linewidth=3.0)
    if turning.any():
        sheet.legend["modes that turn while they decay"] = Line2D([], [], color=PASSAGE_COLOUR, linewidth=3.0)
    axes.set_xlim(float(numbers[0]) - 0.6, float(numbers[-1]) + 0.6)
    if logarithmic:
        margin = max(0.2, 0.06 * float(np.ptp(heights)))
        axes.set_ylim(heights.min() - margin, heights.max() + margin)
        label_logarithms(axes.yaxis)
    else:
        axes.set_ylim(0.0, 1.15 * heights.max())
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_title("Relaxation times")
    axes.set_xlabel("mode")
    axes.set_ylabel("relaxation time 1 / Re λ")


def _draw_lines(sheet: Sheet, spectrum: Spectrum, chosen: list[int]) -> None:
    """The modes over the variable, each as a share of its peak."""
    view = plain_view(sheet.grid, sheet.window)
    slots = sheet.divided(10.6, [3.4], COLUMNS, 0.8)
    _ladder(sheet, slots[0, 0], spectrum)
    axes = sheet.line_panel(slots[0, 1:], view, "Modes of the density")
    axes.axhline(0.0, color=PALE, linewidth=0.7)
    for number, colour in zip(chosen, LINE_COLOURS, strict=False):
        position, values = profile(view, view.section(shape_of(spectrum)[number]))
        peak = float(np.abs(values).max())
        (line,) = axes.plot(position, values / peak if peak > 0.0 else values, color=colour)
        sheet.legend[_mode_words(spectrum, number)] = line
    axes.set_ylim(-1.08, 1.08)
    axes.set_ylabel("density / its peak")
    loss_axis(sheet, axes, view, _span(sheet, spectrum, chosen))


def _draw_maps(sheet: Sheet, spectrum: Spectrum, chosen: list[int]) -> None:
    """The ladder, and a map of each mode."""
    view = plain_view(sheet.grid, sheet.window)
    panels = 1 + len(chosen)
    columns = 2 if panels in (2, 4) else COLUMNS
    rows = -(-panels // columns)
    slots = sheet.divided(3.8 * columns, [2.6 * aspect_of(view)] * rows, columns, 0.6 + 0.65 * rows)
    _ladder(sheet, slots[0, 0], spectrum)
    span = _span(sheet, spectrum, chosen)
    for place, number in enumerate(chosen, start=1):
        slot = slots[place // columns, place % columns]
        _draw_mode(sheet, slot, view, view.section(shape_of(spectrum)[number]), _title(spectrum, number))
        loss_lines(sheet, sheet.figure.axes[-1], view, span)


def _draw_marginals(sheet: Sheet, spectrum: Spectrum, chosen: list[int]) -> None:
    """The ladder, and a row of each mode, integrated over one variable."""
    slots = sheet.divided(13.0, [2.2] * len(chosen), 4, 0.75 * len(chosen))
    _ladder(sheet, slots[:, 0], spectrum)
    for row, number in enumerate(chosen):
        for column, view in enumerate(pair_views(sheet.grid, 0, sheet.window), start=1):
            (other,) = (name for name in sheet.grid.names if name not in view.names)
            title = f"{_title(spectrum, number)}\n" if column == 1 else "\n"
            title += f"Integrated over {shortened(other, 16)}"
            _draw_mode(sheet, slots[row, column], view, view.integral(shape_of(spectrum)[number]), title)


def _draw_mode(sheet: Sheet, slot: SubplotSpec, view: View, box: FloatArray, title: str) -> None:
    axes = sheet.image_panel(slot, view, title)
    mesh = paint(axes, view, box, two_sided_scale(box), TWO_SIDED_MAP)
    sheet.colour_bar(axes, mesh, brief_words(density_words(view.names)))


def _title(spectrum: Spectrum, number: int) -> str:
    """The words of a mode, on two lines where it turns."""
    words = _mode_words(spectrum, number).replace(", turn in", "\nturn in")
    return words[0].upper() + words[1:]


def _span(sheet: Sheet, spectrum: Spectrum, chosen: list[int]) -> tuple[float, float] | None:
    return loss_range(sheet.problem, np.abs(shape_of(spectrum)[chosen]).max(axis=0))
