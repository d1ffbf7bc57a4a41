"""Pictures of a run: the density at rest, the density in time, and the escape.

One panel is a *view*: one or two axes of the grid are drawn, the others are held at a cell or integrated over. What
is drawn does not depend on how many axes the grid has beyond that; axes of a single cell are left out.

Densities and times are the cells' own values (means over blocks of cells on large grids), currents the scheme's own,
losses and regions come from their formulas. Loss lines are at 1, 4, 9, ... units above the minimum: evenly spaced in
a parabola, close enough at the bottom to show a saddle.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, final

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.colors import Colormap, ListedColormap, LogNorm, Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, SubplotSpec
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogFormatter, MaxNLocator, NullFormatter, ScalarFormatter

from fpsolve.analyse.currents import NOTICEABLE_CURRENT
from fpsolve.analyse.escape import Escape
from fpsolve.analyse.motion import Motion
from fpsolve.analyse.rest import AtRest
from fpsolve.model.grid import BoolArray, FloatArray, Grid, IntArray
from fpsolve.model.problem import PointFunction, Problem
from fpsolve.model.region import Region

Named: TypeAlias = Sequence[tuple[str, Region, str]]  # regions with their words in the legend, and their colours

DOTS_PER_INCH = 150
MOST_BLOCKS = 400  # along each axis of an image: more than a panel has dots
LATTICE = {1: 801, 2: 201}  # points per axis at which formulas are drawn, by the number of axes
STREAM_POINTS = 60  # per axis
ARROWS = 20  # per axis

DENSITY_DECADES = 6.0  # of a logarithmic density scale
PASSAGE_DECADES = 8.0
WIDE = 2.0  # decades from which a scale is logarithmic
SEEN = 1e-6  # share of the highest density below which the loss does not set the lines
STRONG = 1e-2  # share of the strongest current above which it does whatever the density
SEEN_CELLS = 100_000  # that are asked for their loss
LOSS_LINES = 10  # where there is something to see; as many again beyond
WEAKEST = 1e-3  # share of the strongest current below which none is drawn
FAINTEST = 1e-2  # the same for arrows
TINIEST = 1e-280  # smaller values are drawn as zero: the scales of matplotlib underflow
SNAPSHOTS = {1: 5, 2: 6, 3: 4}  # by the number of drawn axes
ALIKE = 10.0  # ratio of the box's sides up to which their means are drawn to one scale
UNEVEN = 4.0  # ratio of peaks from which every snapshot has its own scale

INK = "#262626"
PALE = "#8c8c8c"
LOSS_COLOUR = "#595959"
# Okabe & Ito (2008): told apart by the colour-blind.
DENSITY_COLOUR = "#0072b2"
PASSAGE_COLOUR = "#d55e00"
LINE_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
OUTLINE_COLOURS = ("#009e73", "#0072b2", "#56b4e9", "#cc79a7")
BAND_COLOURS = ("#009e73", "#e69f00", "#cc79a7", "#56b4e9")
GATE_COLOURS = ("#d55e00", "#262626", "#e69f00", "#0072b2")
VALLEY_COLOUR = "#009e73"
TARGET_COLOUR = "#e3e3e3"
DASHES = (0.0, (4.0, 2.0))

PLAIN_ASPECT = 0.85
NICE_STEPS = [1, 2, 2.5, 5, 10]
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def _from_paper(name: str) -> Colormap:
    """A colour map of matplotlib whose lowest eighth fades into the white of the paper."""
    colours = matplotlib.colormaps[name](np.linspace(0.0, 0.95, 256))[:, :3]
    share = np.clip(np.linspace(0.0, 8.0, 256), 0.0, 1.0)[:, None]
    return ListedColormap(1.0 - (1.0 - colours) * share**2 * (3.0 - 2.0 * share), name=f"paper-{name}")


DENSITY_MAP = _from_paper("magma_r")
PASSAGE_MAP = matplotlib.colormaps["viridis_r"]

STYLE: Any = {  # any: the names of the settings are a type of their own from matplotlib 3.11 on
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.titlepad": 6.0,
    "axes.labelsize": 9.5,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.edgecolor": PALE,
    "axes.linewidth": 0.7,
    "axes.formatter.limits": (-3, 4),
    "axes.xmargin": 0.0,
    "text.color": INK,
    "xtick.labelsize": 9.0,
    "ytick.labelsize": 9.0,
    "xtick.color": PALE,
    "ytick.color": PALE,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.fontsize": 9.0,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "figure.titlesize": 12.0,
    "figure.titleweight": "bold",
    "figure.constrained_layout.h_pad": 0.07,
    "figure.constrained_layout.w_pad": 0.07,
    "figure.constrained_layout.wspace": 0.04,
    "lines.linewidth": 1.6,
    "hatch.linewidth": 0.6,
    "hatch.color": PALE,
}


def draw_figures(
    problem: Problem,
    title: str,
    stem: Path,
    *,
    rest: AtRest | None,
    motion: Motion | None,
    escape: Escape | None,
    regions: Mapping[str, Region],
) -> list[Path]:
    """Draw what there is of a run, as PNG files beside each other; a file appears complete or not at all.

    Parameters
    ----------
    stem : where, without the ending: `<stem>-density.png` (at rest), `<stem>-time.png`, `<stem>-escape.png`.
    rest, motion, escape : results on the grid of the problem; None leaves their picture out, and so does a motion
        of a single instant.
    regions : by name; their surfaces are drawn.

    Returns
    -------
    Paths of the files, in that order.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    with styled():
        figures = sketch(problem, title, rest=rest, motion=motion, escape=escape, regions=regions)
        return [_save(figure, stem.with_name(f"{stem.name}-{ending}.png")) for ending, figure in figures.items()]


def sketch(
    problem: Problem,
    title: str,
    *,
    rest: AtRest | None,
    motion: Motion | None,
    escape: Escape | None,
    regions: Mapping[str, Region],
) -> dict[str, Figure]:
    """The figures of `draw_figures` by the ending of their file name; to be made, and rendered, while `styled`."""
    figures: dict[str, Figure] = {}
    if rest is not None:
        figures["density"] = _draw_rest(_Sheet.on(problem, title, regions), rest)
    if motion is not None and motion.times.size > 1:
        figures["time"] = _draw_motion(_Sheet.on(problem, title, regions), motion)
    if escape is not None:
        figures["escape"] = _draw_escape(_Sheet.on(problem, title, regions), escape)
    return figures


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Matplotlib's settings for these figures, and back; what overflows while drawing lies outside the picture."""
    with matplotlib.rc_context(STYLE), np.errstate(all="ignore"):
        yield


def _save(figure: Figure, path: Path) -> Path:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        # Figure.savefig would draw twice to lay out once.
        FigureCanvasAgg(figure).print_png(partial, pil_kwargs={"compress_level": 3})  # type: ignore[no-untyped-call]
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


# Views


@final
@dataclass(frozen=True, slots=True)
class _View:
    """One or two axes of a grid to be drawn, the first across, the second up; the other axes are held at a cell.

    Boxes of a view have shape (across,) or (up, across).
    """

    grid: Grid
    axes: tuple[int, ...]
    held: tuple[int, ...]  # a cell along every axis

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the drawn axes."""
        return tuple(self.grid.names[axis] for axis in self.axes)

    @property
    def extents(self) -> tuple[float, ...]:
        """Lengths of the drawn axes."""
        return tuple(self.grid.axes[axis].upper - self.grid.axes[axis].lower for axis in self.axes)

    def edges(self, number: int) -> FloatArray:
        """Edges of the blocks along a drawn axis."""
        axis = self.grid.axes[self.axes[number]]
        return axis.faces[np.append(_block_starts(axis.cells), axis.cells)]

    def centres(self, number: int) -> FloatArray:
        """Centres of the blocks along a drawn axis."""
        edges = self.edges(number)
        return 0.5 * (edges[:-1] + edges[1:])

    def section(self, values: FloatArray) -> FloatArray:
        """Values on the cells (..., cells) where the other axes are held, as a box of block means."""
        cut = tuple(slice(None) if number in self.axes else cell for number, cell in enumerate(self.held))
        return self._blocks(self.grid.shaped(values)[(..., *cut)])

    def integral(self, values: FloatArray) -> FloatArray:
        """Values on the cells (..., cells) integrated over the other axes, as a box of block means."""
        others = [axis for axis in range(self.grid.dimensions) if axis not in self.axes]
        volume = math.prod(self.grid.axes[axis].spacing for axis in others)
        summed = self.grid.shaped(values).sum(axis=tuple(axis - self.grid.dimensions for axis in others))
        return self._blocks(np.asarray(summed * volume))

    def evaluate(self, function: PointFunction) -> tuple[list[FloatArray], FloatArray]:
        """Coordinates along the drawn axes, wall to wall, and a function of the position on their lattice."""
        points = LATTICE[len(self.axes)]
        # Just inside the walls, where a formula need not be finite.
        lines = [np.linspace(-0.499, self.grid.axes[axis].cells - 0.501, points) for axis in self.axes]
        mesh = np.meshgrid(*lines, indexing="ij")
        index = np.repeat(np.array(self.held, dtype=np.float64)[:, None], mesh[0].size, axis=1)
        for axis, values in zip(self.axes, mesh, strict=True):
            index[axis] = values.ravel()
        box = function(self.grid.positions(index)).reshape(mesh[0].shape).T
        coordinates = [self.grid.axes[axis].position(line) for axis, line in zip(self.axes, lines, strict=True)]
        return coordinates, np.where(np.isfinite(box), box, np.nan)

    def _blocks(self, box: FloatArray) -> FloatArray:
        for number, axis in enumerate(self.axes):
            starts = _block_starts(self.grid.axes[axis].cells)
            along = number - len(self.axes)
            lengths = np.diff(np.append(starts, self.grid.axes[axis].cells))
            if starts.size < self.grid.axes[axis].cells:
                box = np.add.reduceat(box, starts, axis=along) / lengths.reshape(-1, *([1] * (-along - 1)))
        return box if len(self.axes) == 1 else np.swapaxes(box, -1, -2)


def _block_starts(cells: int) -> IntArray:
    """First cell of every block along an axis."""
    return np.arange(0, cells, -(-cells // MOST_BLOCKS), dtype=np.int64)


def _resampled(box: FloatArray, points: tuple[int, ...]) -> FloatArray:
    """The nearest entries of a box (..., up, across) at evenly spaced points."""
    for along, count in zip((-2, -1)[-len(points) :], points, strict=True):
        nearest = np.rint(np.linspace(0.0, box.shape[along] - 1.0, count)).astype(np.int64)
        box = np.take(box, nearest, axis=along)
    return box


def _drawn_axes(grid: Grid) -> tuple[int, ...]:
    """The axes worth drawing: those of more than one cell."""
    return tuple(number for number, axis in enumerate(grid.axes) if axis.cells > 1) or (0,)


def _view(grid: Grid) -> _View:
    """The view of a grid with one or two axes worth drawing."""
    return _View(grid, _drawn_axes(grid), (0,) * grid.dimensions)


def _pairs(grid: Grid, cell: int) -> list[_View]:
    """The views xy, xz, yz of a box, each held at a cell."""
    held = tuple(int(index) for index in np.unravel_index(cell, grid.shape))
    return [_View(grid, pair, held) for pair in itertools.combinations(range(3), 2)]


# Scales and words


def _linear(peak: float) -> Normalize:
    return Normalize(0.0, peak if peak > TINIEST else 1.0)


def _root(peak: float) -> Normalize:
    """Colours by the square root: a hundredth of the peak still shows."""
    return PowerNorm(0.5, 0.0, peak if peak > TINIEST else 1.0)


def _scale(values: FloatArray, decades: float, lowest: float = 0.0) -> Normalize:
    """A logarithmic scale of at most so many decades where positive values span WIDE ones, else a linear one.

    lowest: the share of the positive values that may lie below the scale.
    """
    positive = values[values > TINIEST]
    if positive.size == 0:
        return _linear(0.0)
    top = float(positive.max())
    bottom = float(np.quantile(positive, lowest, method="lower") if lowest > 0.0 else positive.min())
    if math.log10(top) - math.log10(bottom) < WIDE:
        return _linear(top)
    return LogNorm(max(bottom, top * 10.0**-decades), top)


def _is_log(norm: object) -> bool:
    return isinstance(norm, LogNorm)


def _common_peak(peaks: FloatArray) -> float:
    """The highest of several peaks; where a few stand out, they are cut off."""
    return min(float(peaks.max()), UNEVEN * float(np.median(peaks)))


def _short(text: str, length: int = 32) -> str:
    """Text as it is (a dollar sign starts no formula), what is too long cut out of its middle."""
    if len(text) > length:
        text = f"{text[: length - length // 3 - 1].rstrip()}…{text[-(length // 3) :].lstrip()}"
    return text.replace("$", r"\$")


def _number(value: float, digits: int = 3) -> str:
    """A number as in print, with so many digits or whole: 12346 for 12345.6, 1.23×10⁻⁵ for 1.2345e-5."""
    mantissa, _, exponent = f"{value:.{digits}g}".partition("e")
    if exponent and 0 <= int(exponent) < 5:
        mantissa, exponent = f"{value:.0f}", ""
    power = f"×{_power(int(exponent))}" if exponent else ""
    return mantissa.replace("-", "−") + power


def _power(exponent: int) -> str:
    return f"10{str(exponent).translate(SUPERSCRIPTS)}"


def _power_tick(value: float, _: int) -> str:
    """A tick label of a logarithmic axis: powers of ten only."""
    exponent = math.log10(value) if value > 0.0 else 0.5
    return _power(round(exponent)) if abs(exponent - round(exponent)) < 1e-6 else ""


def _label_numbers(axis: Axis) -> None:
    """Label an axis without a factor apart from it, which would stand in the way of what is above."""
    if not isinstance(axis.get_major_formatter(), ScalarFormatter) or isinstance(
        axis.get_major_formatter(), LogFormatter
    ):
        return
    low, high = axis.get_view_interval()
    top = max(abs(low), abs(high))
    if 1e-3 <= top < 1e5:
        plain = ScalarFormatter(useOffset=False)
        plain.set_scientific(False)
        axis.set_major_formatter(plain)
    else:
        digits = 3 + max(0, math.ceil(math.log10(top / max(high - low, 1e-12 * top)))) if top > 0.0 else 3
        axis.set_major_formatter(FuncFormatter(lambda value, _: _number(value, digits)))


def _label_powers(axis: Axis) -> None:
    """Label a logarithmic axis without formulas, which are slow to set."""
    axis.set_major_formatter(FuncFormatter(_power_tick))
    axis.set_minor_formatter(NullFormatter())


def _density_words(names: Sequence[str]) -> str:
    return f"probability density p({_short(', '.join(names), 24)})"


def _passage_words(names: Sequence[str]) -> str:
    return f"mean first-passage time τ({_short(', '.join(names), 24)})"


def _brief(words: str) -> str:
    """Words for a small panel."""
    return words.replace("probability density", "density").replace("first-passage time", "time")


def _moment_words(motion: Motion, instant: int) -> str:
    words = f"t = {_number(float(motion.times[instant]))}"
    return words if motion.steps is None else f"{words} ({_number(float(motion.steps[instant]))} steps)"


def _cut_words(view: _View) -> str:
    """'Cut at z = 0.5'."""
    (other,) = (number for number in range(view.grid.dimensions) if number not in view.axes)
    axis = view.grid.axes[other]
    return f"Cut at {_short(axis.name, 16)} = {_number(float(axis.centres[view.held[other]]))}"


# A figure and its panels


@final
@dataclass(frozen=True, slots=True)
class _Sheet:
    """A figure, the problem and the regions it is about, and what its legend says so far: artists by their words."""

    figure: Figure
    problem: Problem
    title: str
    regions: Mapping[str, Region]
    legend: dict[str, Artist] = field(default_factory=dict)

    @classmethod
    def on(cls, problem: Problem, title: str, regions: Mapping[str, Region]) -> _Sheet:
        """An empty sheet."""
        figure = Figure(layout="constrained", dpi=DOTS_PER_INCH)
        FigureCanvasAgg(figure)
        return cls(figure, problem, title, regions)

    @property
    def grid(self) -> Grid:
        """The grid of the problem."""
        return self.problem.grid

    @property
    def colours(self) -> dict[str, str]:
        """Colours of the regions, by name."""
        palette = BAND_COLOURS if len(_drawn_axes(self.grid)) == 1 else OUTLINE_COLOURS
        return dict(zip(self.regions, itertools.cycle(palette), strict=False))

    def named(self, words: Callable[[str], str] = _short) -> Named:
        """The regions, with words made of their names."""
        return [(words(name), region, self.colours[name]) for name, region in self.regions.items()]

    def divided(self, width: float, rows: Sequence[float], columns: int, around: float) -> GridSpec:
        """The sheet cut into rows of panels of given heights under the title; all lengths in inches.

        around: what names and numbers above and below all the panels take, roughly.
        """
        lines = textwrap.wrap(self.title, int(width * 8.5), max_lines=3, placeholder=" …") or [" "]
        self.figure.set_size_inches(width, sum(rows) + around + 0.2 * len(lines))
        self.figure.suptitle("\n".join(_short(line, 200) for line in lines), x=0.012, ha="left")
        return self.figure.add_gridspec(len(rows), columns, height_ratios=rows)

    def image_panel(self, slot: SubplotSpec, view: _View, title: str) -> Axes:
        """A panel for an image of a view, its axes named."""
        axes = self.figure.add_subplot(slot)
        axes.set_title(title)
        across, up = (self.grid.axes[number] for number in view.axes)
        axes.set_xlim(across.lower, across.upper)
        axes.set_ylim(up.lower, up.upper)
        axes.set_xlabel(_short(across.name))
        axes.set_ylabel(_short(up.name))
        _set_ticks(axes)
        return axes

    def line_panel(self, slot: SubplotSpec, view: _View, title: str) -> Axes:
        """A panel for functions of one variable."""
        axes = self.figure.add_subplot(slot)
        axes.set_title(title)
        axis = self.grid.axes[view.axes[0]]
        axes.set_xlim(axis.lower, axis.upper)
        axes.set_xlabel(_short(axis.name))
        _set_ticks(axes)
        return axes

    def colour_bar(self, axes: Axes, mesh: QuadMesh, words: str, extend: str | None = None) -> None:
        """A colour bar beside a panel, as tall as it."""
        beside = axes.inset_axes((1.03, 0.0, 0.045, 1.0))
        reach = extend or ("min" if _is_log(mesh.norm) else "neither")
        self.figure.colorbar(mesh, cax=beside, label=words, extend=reach)
        if _is_log(mesh.norm):
            _label_powers(beside.yaxis)

    def finished(self) -> Figure:
        """The figure, its numbers in print, with its legend below."""
        for axes in self.figure.axes:
            for part in (axes, *axes.child_axes):
                _label_numbers(part.yaxis)
        if self.legend:
            words = list(self.legend)
            columns, rows = _legend_shape(words, self.figure.get_figwidth())
            self.figure.set_figheight(self.figure.get_figheight() + 0.1 + 0.2 * rows)
            handles = list(self.legend.values())
            self.figure.legend(handles, words, loc="outside lower left", ncols=columns)
        return self.figure


def _legend_shape(words: Sequence[str], width: float) -> tuple[int, int]:
    """Columns and rows of a legend not wider than a width [inches]."""
    lengths = np.array([len(word) for word in words])
    for columns in range(len(words), 1, -1):
        widest = sum(0.55 + 0.078 * float(part.max()) for part in np.array_split(lengths, columns))
        if widest <= width:
            return columns, -(-len(words) // columns)
    return 1, len(words)


def _aspect(view: _View) -> float:
    """Height over width of an image: about true to scale in the plane, unless that makes it a strip."""
    ratio = view.extents[1] / view.extents[0]
    return ratio if len(_drawn_axes(view.grid)) == 2 and 0.4 <= ratio <= 1.6 else PLAIN_ASPECT


def _set_ticks(axes: Axes) -> None:
    """A few ticks at round numbers: each costs time, and crowds its neighbours."""
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=NICE_STEPS))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=NICE_STEPS))


def _legend_beside(axes: Axes) -> None:
    """A legend to the right of a panel, where it hides nothing."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.02), borderaxespad=0.3)


# What is drawn into a panel


def _paint(axes: Axes, view: _View, box: FloatArray, norm: Normalize, colours: Colormap) -> QuadMesh:
    """An image of a box; what lies below the scale has its lowest colour."""
    lowest = norm.vmin if norm.vmin is not None else 0.0
    return axes.pcolormesh(view.edges(0), view.edges(1), np.maximum(box, lowest), norm=norm, cmap=colours)


def _profile(view: _View, box: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A line through the values at the block centres, led on level to the walls, or joined where they are periodic."""
    axis = view.grid.axes[view.axes[0]]
    joint = 0.5 * (box[:1] + box[-1:])
    ends = (joint, joint) if axis.periodic else (box[:1], box[-1:])
    return np.concatenate([[axis.lower], view.centres(0), [axis.upper]]), np.concatenate([ends[0], box, ends[1]])


def _fill_density(axes: Axes, view: _View, density: FloatArray, words: str) -> None:
    position, values = _profile(view, view.section(density))
    axes.fill_between(position, values, color=DENSITY_COLOUR, alpha=0.25, linewidth=0)
    axes.plot(position, values, color=DENSITY_COLOUR)
    axes.set_ylim(0.0, 1.15 * (_linear(float(values.max())).vmax or 1.0))
    axes.set_ylabel(words, color=DENSITY_COLOUR)


def _loss_range(problem: Problem, density: FloatArray, current: FloatArray | None = None) -> tuple[float, float] | None:
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


def _loss_lines(sheet: _Sheet, axes: Axes, view: _View, span: tuple[float, float] | None, colour: str = INK) -> None:
    """Contour lines of the loss at 1, 4, 9, ... units above its minimum."""
    loss = sheet.problem.landscape.loss
    if loss is None or span is None or not span[1] > span[0]:
        return
    (across, up), box = view.evaluate(loss)
    unit = _rounded_down((span[1] - span[0]) / LOSS_LINES**2)
    levels = span[0] + unit * np.arange(1.0, 2.0 * LOSS_LINES + 1.0) ** 2
    levels = levels[(levels > np.nanmin(box)) & (levels < np.nanmax(box))]
    if levels.size:
        axes.contour(across, up, np.ma.masked_invalid(box), levels=levels, colors=colour, alpha=0.35, linewidths=0.6)
        sheet.legend[f"loss − minimum = {_number(unit)} × (1, 4, 9, …)"] = Line2D([], [], color=PALE, linewidth=0.8)


def _rounded_down(value: float) -> float:
    """The next number below of the form 1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return max(step * power for step in (1.0, 2.0, 5.0) if step * power <= value or step == 1.0)


def _loss_axis(sheet: _Sheet, axes: Axes, view: _View, span: tuple[float, float] | None) -> None:
    """The loss on an axis of its own at the right, up to its highest value where there is something to see."""
    loss = sheet.problem.landscape.loss
    if loss is None or span is None:
        return
    (position,), values = view.evaluate(loss)
    right = axes.twinx()
    _set_ticks(right)
    style: dict[str, Any] = {"color": LOSS_COLOUR, "linewidth": 1.1, "linestyle": (0, (5, 1.5))}
    right.plot(position, values, **style)
    margin = 0.06 * (span[1] - span[0]) or 1.0
    right.set_ylim(span[0] - margin, span[1] + margin)
    right.set_ylabel("loss", color=LOSS_COLOUR)
    sheet.legend["loss"] = Line2D([], [], **style)


def _outlines(sheet: _Sheet, axes: Axes, view: _View, regions: Named) -> None:
    """Surfaces of regions in an image: dashed lines, named by their words in the legend."""
    for words, region, colour in regions:
        (across, up), level = view.evaluate(region.level)
        if np.nanmin(level) < 0.0 < np.nanmax(level):
            level = np.ma.masked_invalid(level)
            axes.contour(across, up, level, levels=[0.0], colors="white", linewidths=2.6, alpha=0.7)
            axes.contour(across, up, level, levels=[0.0], colors=colour, linewidths=1.4, linestyles=[DASHES])
            sheet.legend[words] = Line2D([], [], color=colour, linewidth=1.4, linestyle=DASHES)


def _bands(sheet: _Sheet, axes: Axes, view: _View, regions: Named) -> None:
    """Regions of a line: shaded bands between dashed edges, named by their words in the legend."""
    for words, region, colour in regions:
        (position,), level = view.evaluate(region.level)
        inside, high = level > 0.0, axes.get_xaxis_transform()
        axes.fill_between(position, 0.0, 1.0, inside, transform=high, color=colour, alpha=0.12, linewidth=0)
        for step in np.flatnonzero(inside[1:] != inside[:-1]):
            axes.axvline(float(position[step : step + 2].mean()), color=colour, linewidth=0.9, linestyle=DASHES)
        if inside.any():
            sheet.legend[words] = Patch(facecolor=colour, alpha=0.35)


def _current(view: _View, current: FloatArray, points: int) -> tuple[list[FloatArray], FloatArray, FloatArray]:
    """A current (2, up, across) at evenly spaced points: coordinates; components in units of the panel; strength.

    The largest strength is 1, or 0 where nothing flows.
    """
    shape = (min(points, current.shape[1]), min(points, current.shape[2]))
    scaled = _resampled(current, shape) / np.array(view.extents)[:, None, None]
    scaled /= max(float(np.abs(scaled).max()), TINIEST)
    strength = np.sqrt((scaled**2).sum(axis=0))
    strength /= max(float(strength.max()), TINIEST)
    centres = (view.centres(0), view.centres(1))
    ends = [np.linspace(line[0], line[-1], count) for line, count in zip(centres, shape[::-1], strict=True)]
    return ends, scaled, strength


def _streams(sheet: _Sheet, axes: Axes, view: _View, current: FloatArray) -> None:
    """Streamlines of a current (2, up, across), the thicker the stronger it is."""
    (across, up), scaled, strength = _current(view, current, STREAM_POINTS)
    if not strength.any():
        return
    flow = np.ma.masked_where(np.broadcast_to(strength < WEAKEST, scaled.shape), scaled)
    flow *= np.array(view.extents)[:, None, None]
    style: dict[str, Any] = {"density": 1.2, "color": "white", "linewidth": 0.4 + 1.5 * np.sqrt(strength)}
    lines = axes.streamplot(across, up, flow[0], flow[1], arrowsize=0.9, zorder=3, **style).lines
    shadow = LineCollection(lines.get_segments(), linewidths=np.add(lines.get_linewidth(), 1.0))
    shadow.set(color=INK, alpha=0.45, zorder=2.9)
    axes.add_collection(shadow, autolim=False)
    _name_current(sheet)


def _arrows(sheet: _Sheet, axes: Axes, view: _View, current: FloatArray) -> None:
    """Arrows along a current (2, up, across); their length is the square root of its strength."""
    (across, up), scaled, strength = _current(view, current, ARROWS)
    strong = strength > FAINTEST
    if not strong.any():
        return
    length = np.sqrt(strength[strong]) * 1.5 / max(across.size, up.size)
    direction = scaled[:, strong] / np.sqrt((scaled[:, strong] ** 2).sum(axis=0))
    direction[1] *= _aspect(view)
    places = (line[strong] for line in np.meshgrid(across, up))
    style: dict[str, Any] = {"angles": "uv", "pivot": "mid", "scale_units": "width", "scale": 1.0, "minlength": 0.5}
    style |= {"width": 0.006, "headwidth": 3.4, "headlength": 3.8, "headaxislength": 3.4}
    axes.quiver(*places, *(direction * length), color="white", edgecolor=INK, linewidth=0.25, **style)
    _name_current(sheet)


def _name_current(sheet: _Sheet) -> None:
    sheet.legend["probability current"] = Line2D([], [], color=PALE, marker=">", markersize=4, linewidth=1.2)


# At rest


def _draw_rest(sheet: _Sheet, rest: AtRest) -> Figure:
    draw = {1: _rest_line, 2: _rest_map, 3: _rest_space}[len(_drawn_axes(sheet.grid))]
    draw(sheet, rest, sheet.named(lambda name: _occupied(name, rest)))
    return sheet.finished()


def _occupied(name: str, rest: AtRest) -> str:
    """A region's name, with its occupation where that is known."""
    return _short(name) + (f": P = {_number(rest.regions[name])}" if name in rest.regions else "")


def _flows(rest: AtRest) -> bool:
    """Whether there is a current at rest that is not rounding."""
    return rest.detailed_balance > NOTICEABLE_CURRENT


def _rest_line(sheet: _Sheet, rest: AtRest, regions: Named) -> None:
    """The density over the variable, and the loss."""
    view = _view(sheet.grid)
    title = "Density at rest"
    if _flows(rest):
        title += f", with the current J = {_number(float(rest.current[view.axes[0]].mean()))}"
    axes = sheet.line_panel(sheet.divided(7.6, [3.5], 1, 0.75)[0, 0], view, title)
    _fill_density(axes, view, rest.density, _density_words(sheet.grid.names))
    _bands(sheet, axes, view, regions)
    _loss_axis(sheet, axes, view, _loss_range(sheet.problem, rest.density))


def _rest_map(sheet: _Sheet, rest: AtRest, regions: Named) -> None:
    """The density; and once more, on a logarithmic scale and with the current, where it spans decades or flows."""
    view = _view(sheet.grid)
    box = view.section(rest.density)
    norms = {"Density at rest": _linear(float(box.max()))}
    second = _scale(box, DENSITY_DECADES)
    if _is_log(second) or _flows(rest):
        words = ["logarithmic"] * _is_log(second) + ["with the current"] * _flows(rest)
        norms[f"The same, {', '.join(words)}"] = second
    slots = sheet.divided(5.3 * len(norms), [3.85 * _aspect(view)], len(norms), 0.8)
    span = _loss_range(sheet.problem, rest.density)
    for number, (title, norm) in enumerate(norms.items()):
        axes = sheet.image_panel(slots[0, number], view, title)
        sheet.colour_bar(axes, _paint(axes, view, box, norm, DENSITY_MAP), _density_words(sheet.grid.names))
        _loss_lines(sheet, axes, view, span)
        _outlines(sheet, axes, view, regions)
        if number == 1 and _flows(rest):
            _streams(sheet, axes, view, view.section(rest.current[list(view.axes)]))


def _rest_space(sheet: _Sheet, rest: AtRest, regions: Named) -> None:
    """Above, the density integrated over one variable, with the current; below, cuts through its maximum."""
    slots = sheet.divided(11.4, [2.1, 2.1], 3, 1.6)
    span = _loss_range(sheet.problem, rest.density)
    for column, view in enumerate(_pairs(sheet.grid, int(np.argmax(rest.density)))):
        _draw_marginal(sheet, slots[0, column], view, rest.density, rest.current if _flows(rest) else None)
        axes = sheet.image_panel(slots[1, column], view, _cut_words(view))
        box = view.section(rest.density)
        sheet.colour_bar(
            axes, _paint(axes, view, box, _root(float(box.max())), DENSITY_MAP), _brief(_density_words(view.grid.names))
        )
        _loss_lines(sheet, axes, view, span)
        _outlines(sheet, axes, view, regions)


def _draw_marginal(
    sheet: _Sheet, slot: SubplotSpec, view: _View, density: FloatArray, current: FloatArray | None
) -> None:
    """A density integrated over the variable that a view lacks, and its current."""
    (other,) = (name for name in view.grid.names if name not in view.names)
    axes = sheet.image_panel(slot, view, f"Integrated over {_short(other, 16)}")
    box = view.integral(density)
    norm = _scale(box, DENSITY_DECADES)
    sheet.colour_bar(axes, _paint(axes, view, box, norm, DENSITY_MAP), _brief(_density_words(view.names)))
    if current is not None:
        _arrows(sheet, axes, view, view.integral(current[list(view.axes)]))


# In time


def _draw_motion(sheet: _Sheet, motion: Motion) -> Figure:
    draw = {1: _motion_line, 2: _motion_map, 3: _motion_space}[len(_drawn_axes(sheet.grid))]
    draw(sheet, motion)
    return sheet.finished()


def _motion_line(sheet: _Sheet, motion: Motion) -> None:
    """The density over time and position, its profiles at some instants, and the strip."""
    view = _view(sheet.grid)
    boxes = view.section(motion.density)
    slots = sheet.divided(10.6, [2.8, 1.9], 2, 2.0)
    _space_and_time(sheet, slots[0, 0], view, motion, boxes)
    instants = _instants(boxes, motion.times, SNAPSHOTS[1])
    axes = sheet.line_panel(slots[0, 1], view, "Density at some instants")
    colours = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.9, instants.size))
    for instant, colour in zip(instants, colours, strict=True):
        axes.plot(*_profile(view, boxes[instant]), color=colour, label=_moment_words(motion, instant))
    axes.set_ylim(0.0, 1.08 * (_linear(_common_peak(boxes[instants].max(axis=1))).vmax or 1.0))
    axes.set_ylabel(_density_words(sheet.grid.names))
    _legend_beside(axes)
    _bands(sheet, axes, view, sheet.named())
    _strip(sheet, [slots[1, 0], slots[1, 1]], slots[1, :], motion)


def _space_and_time(sheet: _Sheet, slot: SubplotSpec, view: _View, motion: Motion, boxes: FloatArray) -> None:
    """An image of a density (times, across), time across and position up."""
    axes = sheet.figure.add_subplot(slot)
    _set_ticks(axes)
    axes.set_title("Density in time")
    spread = _is_spread(motion.times)
    times = motion.times[1:] if spread else motion.times
    peaks = boxes.max(axis=1)
    norm = _root(_common_peak(peaks))
    edges = _time_edges(times, spread)
    mesh = axes.pcolormesh(edges, view.edges(0), boxes[-times.size :].T, norm=norm, cmap=DENSITY_MAP)
    _time_axis(axes, motion)
    axes.set_ylabel(_short(view.names[0]))
    cut = norm.vmax is not None and float(peaks.max()) > norm.vmax
    sheet.colour_bar(axes, mesh, _density_words(sheet.grid.names), "max" if cut else None)


def _motion_map(sheet: _Sheet, motion: Motion) -> None:
    """The density at some instants, and the strip."""
    view = _view(sheet.grid)
    instants = _instants(view.section(motion.density), motion.times, SNAPSHOTS[2])
    columns = instants.size if instants.size <= 3 else -(-instants.size // 2)
    rows = -(-instants.size // columns)
    height = min(9.4 / columns - 0.25, 3.6) * _aspect(view)
    slots = sheet.divided(10.8, [height] * rows + [_strip_height(motion)], columns, 0.5 * rows + 0.6)
    parts = [slots[number // columns, number % columns] for number in range(instants.size)]
    panels = _snapshots(sheet, parts, view, motion, instants, view.section(motion.density[instants]))
    span = _loss_range(sheet.problem, motion.density[instants].max(axis=0))
    for number, axes in enumerate(panels):
        _loss_lines(sheet, axes, view, span)
        _outlines(sheet, axes, view, sheet.named())
        _hide_inner(axes, left=number % columns == 0, bottom=number + columns >= instants.size)
    _strip(sheet, [], slots[rows, :], motion)


def _motion_space(sheet: _Sheet, motion: Motion) -> None:
    """The density at some instants integrated over one variable, a row for each, and the strip."""
    views = _pairs(sheet.grid, 0)
    marginals = [view.integral(motion.density) for view in views]
    flat = np.concatenate([boxes.reshape(len(boxes), -1) for boxes in marginals], axis=1)
    instants = _instants(flat, motion.times, SNAPSHOTS[3])
    slots = sheet.divided(11.4, [2.0, 2.0, 2.0, _strip_height(motion)], instants.size, 2.5)
    for row, (view, boxes) in enumerate(zip(views, marginals, strict=True)):
        parts = [slots[row, column] for column in range(instants.size)]
        panels = _snapshots(sheet, parts, view, motion, instants, boxes[instants])
        for number, axes in enumerate(panels):
            _hide_inner(axes, left=number == 0, bottom=True)
    _strip(sheet, [], slots[3, :], motion)


def _snapshots(
    sheet: _Sheet, slots: Sequence[SubplotSpec], view: _View, motion: Motion, instants: IntArray, boxes: FloatArray
) -> list[Axes]:
    """Boxes at some instants on one scale; where their peaks differ much, each as a share of its own peak."""
    peaks = boxes.max(axis=(1, 2))
    own = bool(peaks.max() > UNEVEN * peaks.min() and peaks.min() > TINIEST)
    norm = _root(1.0 if own else float(peaks.max()))
    words = _brief(_density_words(view.names)) + (" / peak" if own else "")
    panels = []
    for slot, instant, box, peak in zip(slots, instants, boxes, peaks, strict=True):
        title = _moment_words(motion, instant) + (f"\npeak {_number(float(peak))}" if own else "")
        axes = sheet.image_panel(slot, view, title)
        mesh = _paint(axes, view, box / peak if own else box, norm, DENSITY_MAP)
        if slot is slots[-1] or slot.colspan.stop == slot.get_gridspec().ncols:
            sheet.colour_bar(axes, mesh, words)
        panels.append(axes)
    return panels


def _hide_inner(axes: Axes, *, left: bool, bottom: bool) -> None:
    """Numbers and names only at the left and at the bottom of a block of panels."""
    axes.tick_params(labelleft=left, labelbottom=bottom)
    axes.yaxis.label.set_visible(left)
    axes.xaxis.label.set_visible(bottom)


def _instants(boxes: FloatArray, times: FloatArray, count: int) -> IntArray:
    """Numbers of at most `count` instants to show, the first and the last among them.

    Between them goes an equal amount of half the change (L1 distance along the way) and half the logarithm of time.
    No single step counts for more than one part.
    """
    if times.size <= count:
        return np.arange(times.size, dtype=np.int64)
    change = np.array([float(np.abs(after - before).sum()) for before, after in itertools.pairwise(boxes)])
    waiting = np.diff(np.log1p((times - times[0]) / (times[1] - times[0])))
    parts = waiting / waiting.sum() + (change / change.sum() if change.sum() > 0.0 else 0.0)
    for _ in range(30):
        parts = np.minimum(parts, parts.sum() / (count - 1))
    path = np.concatenate([[0.0], np.cumsum(parts)])
    nearest = np.abs(path[:, None] - np.linspace(0.0, path[-1], count)).argmin(axis=0)
    return np.unique(nearest).astype(np.int64)


def _is_spread(times: FloatArray) -> bool:
    """Whether saved times are so uneven that a logarithmic axis shows them better."""
    return times.size > 4 and bool(times[-1] > 30.0 * times[1] and np.median(times[1:]) < 0.2 * times[-1])


def _time_edges(times: FloatArray, spread: bool) -> FloatArray:
    """Edges between instants, half way on the axis they are drawn on."""
    marks = np.log(times) if spread else times
    edges = np.concatenate([marks[:1], 0.5 * (marks[:-1] + marks[1:]), marks[-1:]])
    return np.exp(edges) if spread else edges


def _time_axis(axes: Axes, motion: Motion) -> None:
    """Time across, and SGD steps above where there are any."""
    times, steps = motion.times, motion.steps
    spread = _is_spread(times)
    axes.set_xscale("log" if spread else "linear")
    axes.set_xlim(float(times[1] if spread else times[0]), float(times[-1]))
    axes.set_xlabel("time t")
    shown = [axes.xaxis]
    if steps is not None:
        there, back = (lambda time: np.interp(time, times, steps)), (lambda step: np.interp(step, steps, times))
        above = axes.secondary_xaxis("top", functions=(there, back))
        above.set_xlabel("SGD steps")
        shown.append(above.xaxis)
    for axis in shown if spread else []:
        _label_powers(axis)


def _strip_height(motion: Motion) -> float:
    """Height [inches] of a strip in parts of a row, with its names and numbers."""
    return 2.2 if motion.steps is None else 2.6


def _strip(sheet: _Sheet, slots: Sequence[SubplotSpec], whole: SubplotSpec, motion: Motion) -> None:
    """Mean and standard deviation, probabilities, and the mean of an observable over time, beside each other.

    In the slots where as many are given, else in parts of the whole row.
    """
    draw = [_means]
    if motion.occupation or motion.absorbed:
        draw.append(_shares)
    if motion.observables:
        draw.append(_observable)
    parts = whole.subgridspec(1, len(draw))
    slots = slots if len(slots) == len(draw) else [parts[0, number] for number in range(len(draw))]
    for slot, panel in zip(slots, draw, strict=True):
        axes = sheet.figure.add_subplot(slot)
        _set_ticks(axes)
        panel(sheet, axes, motion)
        _time_axis(axes, motion)


def _means(sheet: _Sheet, axes: Axes, motion: Motion) -> None:
    """Mean and standard deviation of every variable; as shares of the box where its sides differ much."""
    drawn = [(number, sheet.grid.axes[number]) for number in _drawn_axes(sheet.grid)]
    lengths = [axis.upper - axis.lower for _, axis in drawn]
    alike = max(lengths) <= ALIKE * min(lengths)
    for (number, axis), length, colour in zip(drawn, lengths, LINE_COLOURS, strict=False):
        mean, deviation = motion.mean[:, number], np.sqrt(np.maximum(motion.covariance[:, number, number], 0.0))
        if not alike:
            mean, deviation = (mean - axis.lower) / length, deviation / length
        axes.fill_between(motion.times, mean - deviation, mean + deviation, color=colour, alpha=0.2, linewidth=0)
        axes.plot(motion.times, mean, color=colour, label=_short(axis.name, 16))
    axes.set_title("Mean ± standard deviation")
    axes.set_ylabel(_short(", ".join(axis.name for _, axis in drawn), 24) if alike else "share of the box")
    if len(drawn) > 1:
        _legend_beside(axes)


def _shares(sheet: _Sheet, axes: Axes, motion: Motion) -> None:
    """Occupation of the watched regions, and what has gone through the gates."""
    others = itertools.cycle(GATE_COLOURS)
    lines = [(f"in {name}", values, sheet.colours.get(name)) for name, values in motion.occupation.items()]
    lines += [(f"through {gate}", values, None) for gate, values in motion.absorbed.items()]
    for words, values, colour in lines:
        axes.plot(motion.times, values, color=colour or next(others), label=_short(words, 20))
    top = max(float(values.max()) for _, values, _ in lines)
    axes.set_ylim(0.0, 1.05 * (top if top > TINIEST else 1.0))
    axes.set_title("Where the probability is")
    axes.set_ylabel("probability")
    _legend_beside(axes)


def _observable(sheet: _Sheet, axes: Axes, motion: Motion) -> None:
    """The mean of the loss, or else of the first observable."""
    name = "loss" if "loss" in motion.observables else next(iter(motion.observables))
    axes.plot(motion.times, motion.observables[name], color=LOSS_COLOUR)
    axes.set_title(f"Mean {_short(name, 20)}")
    axes.set_ylabel(_short(name, 20))


# Escape


def _draw_escape(sheet: _Sheet, escape: Escape) -> Figure:
    draw = {1: _escape_line, 2: _escape_map, 3: _escape_space}[len(_drawn_axes(sheet.grid))]
    draw(sheet, escape)
    return sheet.finished()


def _passage_scale(escape: Escape) -> Normalize:
    """Just outside the target the time goes to zero: the lowest few cells do not make the scale."""
    return _scale(escape.mean_first_passage_time, PASSAGE_DECADES, lowest=0.01)


def _start_words(escape: Escape) -> str:
    place = ", ".join(_number(coordinate) for coordinate in escape.start)
    return f"start ({place}): τ = {_number(escape.times['mean_first_passage_time'].value)}"


def _escape_line(sheet: _Sheet, escape: Escape) -> None:
    """The mean time to the target over the start, and where it is spent."""
    view = _view(sheet.grid)
    slot = sheet.divided(7.6, [3.5], 1, 0.75)[0, 0]
    axes = sheet.line_panel(slot, view, "Mean time to the target, and where it is spent")
    right = axes.twinx()
    _set_ticks(right)
    _fill_density(right, view, escape.density, "density of the escaping probability")
    axes.set_zorder(right.get_zorder() + 1)
    axes.patch.set_visible(False)
    position, time = _profile(view, view.section(escape.mean_first_passage_time))
    axes.plot(position, np.where(time > TINIEST, time, np.nan), color=PASSAGE_COLOUR)
    if _is_log(_passage_scale(escape)):
        axes.set_yscale("log")
        _label_powers(axes.yaxis)
    axes.set_ylabel(_passage_words(sheet.grid.names), color=PASSAGE_COLOUR)
    start, reached = escape.start[view.axes[0]], escape.times["mean_first_passage_time"].value
    dot: dict[str, Any] = {"marker": "o", "markersize": 7, "markeredgecolor": "white", "linestyle": ""}
    axes.plot([start], [reached], color=PASSAGE_COLOUR, **dot)
    sheet.legend[_start_words(escape)] = Line2D([], [], color=PASSAGE_COLOUR, **dot)
    _bands(sheet, axes, view, _valley(escape))
    (place,), level = view.evaluate(escape.target.level)
    hatched: dict[str, Any] = {"facecolor": TARGET_COLOUR, "edgecolor": PALE, "hatch": "////", "linewidth": 0.5}
    axes.fill_between(place, 0.0, 1.0, level > 0.0, transform=axes.get_xaxis_transform(), zorder=0, **hatched)
    sheet.legend[f"target {_short(escape.target.name)}"] = Patch(**hatched)


def _valley(escape: Escape) -> Named:
    return [] if escape.valley is None else [(f"valley {_short(escape.valley.name)}", escape.valley, VALLEY_COLOUR)]


def _escape_map(sheet: _Sheet, escape: Escape) -> None:
    """The mean time to the target from everywhere, and where it is spent on the way from the start."""
    view = _view(sheet.grid)
    slots = sheet.divided(10.6, [3.85 * _aspect(view)], 2, 0.8)
    current = view.section(escape.current[list(view.axes)])
    span = _loss_range(sheet.problem, escape.density, escape.current)
    axes = _draw_passage(sheet, slots[0, 0], view, escape, _passage_scale(escape), span, "Mean time to the target")
    _streams(sheet, axes, view, current)
    axes = sheet.image_panel(slots[0, 1], view, "Where the time is spent")
    box = view.section(escape.density)
    mesh = _paint(axes, view, box, _scale(box, DENSITY_DECADES), DENSITY_MAP)
    sheet.colour_bar(axes, mesh, "density of the escaping probability")
    _loss_lines(sheet, axes, view, span)
    _places(sheet, axes, view, escape)
    _streams(sheet, axes, view, current)


def _escape_space(sheet: _Sheet, escape: Escape) -> None:
    """Above, the mean time to the target on cuts through the start; below, where it is spent, integrated."""
    grid = sheet.grid
    index = [int(np.abs(axis.centres - place).argmin()) for axis, place in zip(grid.axes, escape.start, strict=True)]
    slots = sheet.divided(11.4, [2.1, 2.1], 3, 1.6)
    span = _loss_range(sheet.problem, escape.density, escape.current)
    norm = _passage_scale(escape)
    for column, view in enumerate(_pairs(grid, int(grid.strides @ index))):
        _draw_passage(sheet, slots[0, column], view, escape, norm, span, _cut_words(view))
        _draw_marginal(sheet, slots[1, column], view, escape.density, escape.current)


def _draw_passage(
    sheet: _Sheet,
    slot: SubplotSpec,
    view: _View,
    escape: Escape,
    norm: Normalize,
    span: tuple[float, float] | None,
    title: str,
) -> Axes:
    """The mean first-passage time of a view, the target hatched."""
    axes = sheet.image_panel(slot, view, title)
    box = view.section(escape.mean_first_passage_time)
    mesh = _paint(axes, view, box, norm, PASSAGE_MAP)
    words = _passage_words(sheet.grid.names)
    sheet.colour_bar(axes, mesh, words if len(view.names) == sheet.grid.dimensions else _brief(words))
    _loss_lines(sheet, axes, view, span, "white")
    _places(sheet, axes, view, escape)
    return axes


def _places(sheet: _Sheet, axes: Axes, view: _View, escape: Escape) -> None:
    """The target hatched, the surface of the valley, and the start."""
    (across, up), level = view.evaluate(escape.target.level)
    words, top = f"target {_short(escape.target.name)}", float(np.nanmax(level))
    if top > 0.0:
        level = np.ma.masked_invalid(level)
        surface = [0.0, 2.0 * top]
        axes.contourf(across, up, level, levels=surface, colors=[TARGET_COLOUR], hatches=["////"], zorder=2.5)
        sheet.legend[words] = Patch(facecolor=TARGET_COLOUR, edgecolor=PALE, hatch="////", linewidth=0.5)
    _outlines(sheet, axes, view, _valley(escape))
    across_start, up_start = (escape.start[axis] for axis in view.axes)
    star: dict[str, Any] = {"marker": "*", "markersize": 12, "color": "white", "markeredgecolor": INK, "linestyle": ""}
    axes.plot([across_start], [up_start], zorder=5, **star)
    sheet.legend[_start_words(escape)] = Line2D([], [], **star)
