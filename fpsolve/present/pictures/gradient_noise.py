"""The picture of the gradient noise: its law at each batch size, and how it nears the Gaussian."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from fpsolve.analyse.gradient_noise import BatchNoise, GradientNoise
from fpsolve.analyse.stable_law import GAUSSIAN, NORMAL_95
from fpsolve.model.grid import FloatArray
from fpsolve.present.noise_words import index_words
from fpsolve.present.pictures.style import (
    DENSITY_COLOUR,
    DOTS_PER_INCH,
    INK,
    LINE_COLOURS,
    PALE,
    PASSAGE_COLOUR,
    styled,
)
from fpsolve.present.pictures.words import label_powers, printed, shortened

COLUMNS = 4  # of batch sizes
COLUMN_WIDTH, ROW_HEIGHT, LAST_HEIGHT = 2.9, 2.3, 2.5  # inches
WIDEST, NARROWEST = 12.0, 5.0  # half width of a panel, in standard deviations
BINS = 61
CURVE_POINTS = 400
HEADROOM = 3.0  # factor above the highest bar


def draw_gradient_noise(noise: GradientNoise, variables: Sequence[str], title: str) -> Figure:
    """Histograms by direction (rows) and batch size (columns, at most 4), and below tail index and kurtosis against S.

    The noise is in units of the exact standard deviation, its density logarithmic: tails show. To be saved in the same
    style.
    """
    with styled():
        shown = _shown(noise.batches)
        axes_shown = [axis for axis, variance in enumerate(noise.variances) if variance > 0.0] or [0]
        heights = [ROW_HEIGHT] * len(axes_shown) + [LAST_HEIGHT]
        width = COLUMN_WIDTH * max(len(shown), 3)
        figure = _empty(title, width, heights)
        rows = figure.add_gridspec(len(heights), 1, height_ratios=heights)
        for row, axis in enumerate(axes_shown):
            slots = rows[row].subgridspec(1, len(shown))
            for column, batch in enumerate(shown):
                panel = figure.add_subplot(slots[0, column])
                _draw_law(panel, batch, axis)
                panel.set_title(_law_title(noise, variables, axis, batch, column == 0))
        slots = rows[len(axes_shown)].subgridspec(1, 2)
        _draw_indices(figure.add_subplot(slots[0, 0]), noise, axes_shown)
        _draw_kurtoses(figure.add_subplot(slots[0, 1]), noise, axes_shown)
        _add_legend(figure, noise, variables, axes_shown)
        return figure


def _shown(batches: Sequence[BatchNoise]) -> list[BatchNoise]:
    """At most 4 batch sizes, the smallest and the largest among them."""
    chosen = np.unique(np.linspace(0, len(batches) - 1, min(COLUMNS, len(batches))).round().astype(int))
    return [batches[number] for number in chosen]


def _empty(title: str, width: float, heights: Sequence[float]) -> Figure:
    figure = Figure(layout="constrained", dpi=DOTS_PER_INCH)
    FigureCanvasAgg(figure)
    lines = textwrap.wrap(title, int(width * 8.5), max_lines=3, placeholder=" …") or [" "]
    figure.set_size_inches(width, sum(heights) + 0.5 * len(heights) + 0.2 * len(lines))
    figure.suptitle("\n".join(shortened(line, 200) for line in lines), x=0.012, ha="left")
    return figure


def _law_title(noise: GradientNoise, variables: Sequence[str], axis: int, batch: BatchNoise, first: bool) -> str:
    """The batch size, and above it, in the first column, the direction, where there are several."""
    words = f"S = {batch.batch_size}"
    if noise.variances.size == 1:
        return words
    return f"{_direction_words(noise, variables, axis) if first else ''}\n{words}"


def _direction_words(noise: GradientNoise, variables: Sequence[str], axis: int) -> str:
    """'Along 0.98 x − 0.17 y', the parts below 0.005 left out."""
    words = ""
    for name, value in zip(variables, noise.directions[:, axis], strict=True):
        if abs(value) >= 0.005:
            size = "" if abs(value) > 0.995 else f"{printed(abs(value), 2)} "
            sign = (" − " if value < 0.0 else " + ") if words else ("−" if value < 0.0 else "")
            words += sign + size + shortened(name, 12)
    return f"Along {words}"


def _draw_law(panel: Axes, batch: BatchNoise, axis: int) -> None:
    """The histogram of the noise, the Gaussian and the stable law over it."""
    unit = float(batch.exact.standard_deviation[axis])
    panel.set_xlabel("noise / exact deviation")
    panel.set_ylabel("density")
    if not unit > 0.0:
        panel.set_axis_off()
        panel.text(0.5, 0.5, "no noise", transform=panel.transAxes, ha="center", va="center")
        return
    values = batch.samples[axis] / unit
    half = float(np.clip(1.1 * np.abs(values).max(), NARROWEST, WIDEST))
    edges = np.linspace(-half, half, BINS + 1)
    counts, _ = np.histogram(values, edges)
    width = edges[1] - edges[0]
    heights = counts / (values.size * width)
    lowest = 0.5 / (values.size * width)  # below a single draw
    panel.stairs(np.maximum(heights, lowest), edges, fill=True, baseline=lowest, color=PALE, alpha=0.45)
    places = np.linspace(-half, half, CURVE_POINTS)
    panel.plot(places, np.exp(-0.5 * places**2) / np.sqrt(2.0 * np.pi), color=DENSITY_COLOUR)
    top = float(heights.max())
    if (fit := batch.fits[axis]) is not None:
        curve = unit * fit.law.density(places * unit)
        panel.plot(places, curve, color=PASSAGE_COLOUR, linestyle=(0, (4, 1.5)))
        top = max(top, float(curve.max()))
    panel.set_yscale("log")
    panel.set_ylim(lowest, HEADROOM * max(top, 0.4))
    panel.set_xlim(-half, half)
    panel.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    panel.yaxis.set_major_locator(LogLocator(numticks=6))
    panel.yaxis.set_minor_locator(NullLocator())
    label_powers(panel.yaxis)
    _tell(panel, batch, axis, int((np.abs(values) > half).sum()))


def _tell(panel: Axes, batch: BatchNoise, axis: int, outside: int) -> None:
    """The tail index with its confidence interval, and how many draws lie outside the panel."""
    fit = batch.fits[axis]
    style: dict[str, Any] = {"transform": panel.transAxes, "va": "top", "fontsize": 9.0}
    words = "no stable fit" if fit is None else f"α = {index_words(fit)}".replace(" (", "\n(").replace("-", "–")
    panel.text(0.03, 0.97, words, ha="left", **style)
    if outside:
        panel.text(0.97, 0.97, f"{outside} of {batch.draws}\noutside", ha="right", **style)


def _draw_indices(panel: Axes, noise: GradientNoise, axes_shown: Sequence[int]) -> None:
    """The tail index against the batch size: of the draws with its interval, and the exact one."""
    _batch_axis(panel, noise)
    panel.set_title("Tail index")
    panel.set_ylabel("α, 95 % interval")
    panel.axhline(GAUSSIAN, color=INK, linewidth=0.8, linestyle=(0, (2, 2)))
    lowest = 1.8
    for axis, colour, shift in _lines(axes_shown):
        known = [(batch.batch_size, fit) for batch in noise.batches if (fit := batch.fits[axis]) is not None]
        sizes = np.array([size for size, _ in known]) * shift
        indices = np.array([fit.law.tail_index for _, fit in known])
        reach = np.array([fit.interval for _, fit in known]).reshape(-1, 2).T - indices
        style: dict[str, Any] = {"color": colour, "marker": "o", "markersize": 4, "linestyle": "none", "capsize": 3}
        panel.errorbar(sizes, indices, np.abs(reach), **style)
        exact = [batch.exact_tail_index[axis] for batch in noise.batches]
        panel.plot([batch.batch_size * shift for batch in noise.batches], exact, color=colour, linewidth=0.9)
        for batch, middle in zip(noise.batches, exact, strict=True):
            _row_bar(panel, batch.batch_size * shift, middle, NORMAL_95 * batch.row_errors[axis], colour)
        lowest = min([lowest, *(indices + 2.0 * reach[0])])
    panel.set_ylim(lowest - 0.05 * (2.0 - lowest), GAUSSIAN + 0.12 * (2.0 - lowest))
    panel.yaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))


def _row_bar(panel: Axes, size: float, middle: float, reach: float, colour: str) -> None:
    """What the rows, as a sample of more, leave open of the index: a wide pale bar."""
    if np.isfinite(middle) and np.isfinite(reach):
        ends = [middle - reach, min(middle + reach, GAUSSIAN)]
        panel.plot([size, size], ends, color=colour, alpha=0.25, linewidth=7.0, solid_capstyle="butt", zorder=1)


def _draw_kurtoses(panel: Axes, noise: GradientNoise, axes_shown: Sequence[int]) -> None:
    """The modulus of the excess kurtosis against the batch size, beside the exact one."""
    _batch_axis(panel, noise)
    panel.set_title("Excess kurtosis")
    panel.set_ylabel("|excess kurtosis|")
    panel.set_yscale("log")
    seen: list[float] = []
    for axis, colour, shift in _lines(axes_shown):
        sizes = np.array([batch.batch_size for batch in noise.batches]) * shift
        found, error, exact = (
            np.array([getattr(batch, name).excess_kurtosis[axis] for batch in noise.batches])
            for name in ("found", "errors", "exact")
        )
        panel.plot(sizes, np.abs(exact), color=colour, linewidth=0.9)
        style: dict[str, Any] = {"color": colour, "markersize": 4, "linestyle": "none", "capsize": 3}
        for sign, face in ((1.0, colour), (-1.0, "white")):
            which = sign * found > 0.0
            low = np.minimum(error[which], 0.999 * np.abs(found[which]))
            panel.errorbar(
                sizes[which], np.abs(found[which]), [low, error[which]], marker="o", markerfacecolor=face, **style
            )
        seen += [value for value in np.abs(np.concatenate([found, exact])) if value > 0.0]
    if seen:
        panel.set_ylim(0.4 * max(min(seen), 1e-4 * max(seen)), 2.5 * max(seen))
    panel.yaxis.set_minor_locator(NullLocator())
    label_powers(panel.yaxis)


def _lines(axes_shown: Sequence[int]) -> Iterator[tuple[int, str, float]]:
    """Directions with their colours, and a factor that sets them apart along the batch sizes."""
    middle = 0.5 * (len(axes_shown) - 1)
    for number, (axis, colour) in enumerate(zip(axes_shown, itertools.cycle(LINE_COLOURS), strict=False)):
        yield axis, colour, float(1.08 ** (number - middle))


def _batch_axis(panel: Axes, noise: GradientNoise) -> None:
    sizes: FloatArray = np.array([float(batch.batch_size) for batch in noise.batches])
    panel.set_xscale("log")
    panel.set_xlim(sizes[0] / 1.6, sizes[-1] * 1.6)
    apart = [sizes[0], *(b for a, b in itertools.pairwise(sizes) if b > 1.3 * a)]
    panel.xaxis.set_major_locator(FixedLocator(apart[:: -(-len(apart) // 8)]))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: printed(value, 6)))
    panel.xaxis.set_minor_locator(NullLocator())
    panel.set_xlabel("batch size S")


def _add_legend(figure: Figure, noise: GradientNoise, variables: Sequence[str], axes_shown: Sequence[int]) -> None:
    dashes = (0, (4, 1.5))
    legend: dict[str, Artist] = {
        "drawn noise": Patch(facecolor=PALE, alpha=0.45),
        "Gaussian of the exact deviation": Line2D([], [], color=DENSITY_COLOUR),
        "fitted α-stable law": Line2D([], [], color=PASSAGE_COLOUR, linestyle=dashes),
    }
    colour = LINE_COLOURS[0] if len(axes_shown) == 1 else INK
    legend["drawn (hollow: negative)"] = Line2D([], [], color=colour, marker="o", markersize=4, linestyle="none")
    legend["exact"] = Line2D([], [], color=colour, linewidth=0.9)
    if noise.sampling == "replacement":
        legend["exact α, the rows as a sample"] = Line2D([], [], color=colour, alpha=0.25, linewidth=7.0)
    if len(axes_shown) > 1:
        for axis, tone, _ in _lines(axes_shown):
            legend[_direction_words(noise, variables, axis).lower()] = Line2D([], [], color=tone, linewidth=3.0)
    columns = 3
    figure.set_figheight(figure.get_figheight() + 0.1 + 0.2 * -(-len(legend) // columns))
    figure.legend(list(legend.values()), list(legend), loc="outside lower left", ncols=columns)
