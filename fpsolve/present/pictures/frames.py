"""The frames of a film: a density, its instant, and how much has left by then."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec

from fpsolve.present.pictures.layers import loss_levels
from fpsolve.present.pictures.scales import linear_scale, root_scale
from fpsolve.present.pictures.sheet import set_ticks
from fpsolve.present.pictures.style import DENSITY_COLOUR, DENSITY_MAP, GATE_COLOURS, INK, LOSS_COLOUR
from fpsolve.present.pictures.words import density_words, label_numbers, printed, shortened
from fpsolve.present.reel import Reel

WIDTH = 6.4  # inches
LETTERS = 54  # of the title on a line
DOTS = 100  # per inch
SPREAD = 30.0  # last over first time from which the time axis is logarithmic
UNEVEN = 4.0  # times the median peak, beyond which colours and heights are cut off
SEEN = 1e-3  # share of the highest density down to which the loss sets the lines


@final
@dataclass(frozen=True, slots=True)
class Frames:
    """A figure that shows one instant of a reel after the other. show: draws an instant into it, by number."""

    figure: Figure
    show: Callable[[int], None]


def frames(reel: Reel) -> Frames:
    """The figure of a film, made while `styled`."""
    figure = Figure(layout="constrained", dpi=DOTS)
    FigureCanvasAgg(figure)
    lines = textwrap.wrap(reel.title, LETTERS, max_lines=2, placeholder=" …") or [" "]
    figure.suptitle("\n".join(shortened(line, LETTERS) for line in lines), x=0.012, ha="left")
    ratio = 0.6 if len(reel.names) == 1 else _aspect(reel)
    tall = 0.82 * WIDTH * ratio
    figure.set_size_inches(WIDTH, tall + 0.6 + 0.2 * len(lines) + (1.3 if reel.gone else 0.0))
    slots = figure.add_gridspec(2 if reel.gone else 1, 1, height_ratios=[tall, 1.0] if reel.gone else [tall])
    axes = figure.add_subplot(slots[0, 0])
    set_ticks(axes)
    draw = (_line if len(reel.names) == 1 else _map)(reel, axes)
    mark = _gone(reel, figure, slots) if reel.gone else None

    def show(instant: int) -> None:
        axes.set_title(_words(reel, instant))
        draw(instant)
        if mark is not None:
            mark(instant)

    show(0)
    for part in figure.axes:
        label_numbers(part.yaxis)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # nothing moves from frame to frame
    return Frames(figure, show)


def _words(reel: Reel, instant: int) -> str:
    """'t = 2 (40 SGD steps), 12 % have left'."""
    steps = "" if reel.steps is None else f" ({printed(float(reel.steps[instant]))} SGD steps)"
    left = sum((float(values[instant]) for values in reel.gone.values()), 0.0)
    return f"t = {printed(float(reel.times[instant]))}{steps}" + (f", {100.0 * left:.1f} % have left" * bool(reel.gone))


def _peak(reel: Reel) -> float:
    """The highest density to be shown; where few instants stand out, they are cut off."""
    peaks = reel.density.reshape(reel.times.size, -1).max(axis=1)
    return min(float(peaks.max()), UNEVEN * float(np.median(peaks)))


def _line(reel: Reel, axes: Axes) -> Callable[[int], None]:
    """A density of one variable over its loss."""
    (edges,) = reel.edges
    middles, top = 0.5 * (edges[:-1] + edges[1:]), linear_scale(_peak(reel)).vmax or 1.0
    axes.set(xlabel=shortened(reel.names[0]), xlim=(edges[0], edges[-1]), ylim=(0.0, 1.1 * top))
    axes.set_ylabel(density_words(reel.names), color=DENSITY_COLOUR)
    if reel.loss is not None:
        right, (lowest, highest) = axes.twinx(), _loss_range(reel, reel.loss)
        set_ticks(right)
        right.plot(middles, reel.loss, color=LOSS_COLOUR, linewidth=1.1, linestyle=(0, (5, 1.5)))
        right.set_ylim(lowest - 0.06 * (highest - lowest), highest + 0.06 * (highest - lowest))
        right.set_ylabel("loss", color=LOSS_COLOUR)
    (line,) = axes.plot(middles, reel.density[0], color=DENSITY_COLOUR)
    area = axes.fill_between(middles, reel.density[0], color=DENSITY_COLOUR, alpha=0.25, linewidth=0)

    def draw(instant: int) -> None:
        values = reel.density[instant]
        line.set_ydata(values)
        outline = np.concatenate([[[middles[0], 0.0]], np.stack([middles, values], axis=1), [[middles[-1], 0.0]]])
        area.set_verts([outline])

    return draw


def _map(reel: Reel, axes: Axes) -> Callable[[int], None]:
    """A density of two variables, and lines of the loss."""
    across, up = reel.edges
    peak = _peak(reel)
    mesh = axes.pcolormesh(across, up, reel.density[0].T, norm=root_scale(peak), cmap=DENSITY_MAP)
    axes.set(xlabel=shortened(reel.names[0]), ylabel=shortened(reel.names[1]))
    beside = axes.inset_axes((1.03, 0.0, 0.045, 1.0))
    extend = "max" if float(reel.density.max()) > peak else "neither"
    axes.figure.colorbar(mesh, cax=beside, label=density_words(reel.names), extend=extend)
    if reel.loss is not None:
        middles = [0.5 * (line[:-1] + line[1:]) for line in reel.edges]
        lowest, highest = _loss_range(reel, reel.loss)
        levels = loss_levels(lowest, highest)[1]
        levels = levels[(levels > np.nanmin(reel.loss)) & (levels < np.nanmax(reel.loss))]
        if levels.size:
            axes.contour(
                *middles, np.ma.masked_invalid(reel.loss).T, levels=levels, colors=INK, alpha=0.35, linewidths=0.6
            )

    def draw(instant: int) -> None:
        mesh.set_array(reel.density[instant].T)

    return draw


def _gone(reel: Reel, figure: Figure, slots: GridSpec) -> Callable[[int], None]:
    """What has left through each gate, in time, and a mark at the instant that is shown."""
    axes = figure.add_subplot(slots[1, 0])
    set_ticks(axes)
    for (gate, values), colour in zip(reel.gone.items(), GATE_COLOURS * len(reel.gone), strict=False):
        axes.plot(reel.times, values, color=colour, label=f"through {shortened(gate, 20)}")
    first, last = (reel.times[1] if reel.times[0] <= 0.0 else reel.times[0]), reel.times[-1]
    if first > 0.0 and last > SPREAD * np.median(reel.times):
        axes.set_xscale("log")
    axes.set(xlim=(first if axes.get_xscale() == "log" else reel.times[0], last), ylim=(0.0, 1.0))
    axes.set(xlabel="time t", ylabel="has left")
    axes.legend(loc="upper left")
    mark = axes.axvline(first, color=INK, linewidth=1.0)

    def draw(instant: int) -> None:
        mark.set_xdata([max(reel.times[instant], first)] * 2)

    return draw


def _loss_range(reel: Reel, loss: np.ndarray) -> tuple[float, float]:
    """Lowest and highest loss where there is something to see."""
    highest = reel.density.max(axis=0)
    seen = loss[highest >= SEEN * highest.max()]
    lowest = float(np.nanmin(seen))
    return lowest, max(float(np.nanmax(seen)), lowest + 1e-12 * (1.0 + abs(lowest)))


def _aspect(reel: Reel) -> float:
    """Height over width of a map: true to scale, unless that makes it a strip."""
    ratio = float(np.ptp(reel.edges[1]) / np.ptp(reel.edges[0]))
    return ratio if 0.4 <= ratio <= 1.3 else 0.8
