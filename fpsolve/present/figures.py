"""Pictures of a run: the density at rest, the density in time, and the escape.

One panel is a *view*: one or two axes of the grid are drawn, the others are held at a cell or integrated over. What
is drawn does not depend on how many axes the grid has beyond that; axes of a single cell are left out.

Densities and times are the cells' own values (means over blocks of cells on large grids), currents the scheme's own,
losses and regions come from their formulas. Loss lines are evenly spaced and end where there is nothing to see.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.colors import Colormap, LogNorm, Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, SubplotSpec
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from fpsolve.analyse.escape import Escape
from fpsolve.analyse.motion import Motion
from fpsolve.analyse.rest import AtRest
from fpsolve.model.grid import BoolArray, FloatArray, Grid, IntArray
from fpsolve.model.problem import PointFunction, Problem
from fpsolve.model.region import Region

DOTS_PER_INCH = 150
MOST_BLOCKS = 400  # along each axis of an image: more than a panel has dots
LATTICE = {1: 801, 2: 201}  # points per axis at which formulas are drawn, by the number of axes
STREAM_POINTS = 60  # per axis
ARROWS = 24  # per axis

DENSITY_DECADES = 6.0  # of a logarithmic density scale
PASSAGE_DECADES = 8.0
WIDE = 2.0  # decades from which a scale is logarithmic
SEEN = 1e-6  # share of the highest density below which the loss is not drawn
STRONG = 1e-2  # share of the strongest current above which the loss is drawn whatever the density
WEAKEST = 1e-3  # share of the strongest current below which none is drawn
REVERSIBLE = 1e-10  # AtRest.detailed_balance up to which currents are rounding
TINIEST = 1e-280  # smaller values are drawn as zero: the scales of matplotlib underflow
LOSS_LINES = 12
SNAPSHOTS = {1: 5, 2: 6, 3: 4}  # by the number of drawn axes
UNEVEN = 4.0  # ratio of peaks from which every snapshot has its own scale

INK = "#262626"
PALE = "#8c8c8c"
DENSITY_COLOUR = "#0072b2"  # Okabe & Ito: told apart by the colour-blind
LOSS_COLOUR = "#595959"
PASSAGE_COLOUR = "#d55e00"
LINE_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
BAND_COLOURS = ("#009e73", "#e69f00", "#cc79a7", "#d55e00", "#56b4e9")
TARGET_COLOUR = "#d0d0d0"
OUTLINE_COLOURS = ("#56d4ff", "#7dffa8", "#ffd84d", "#ff9ed2", "#ffffff", "#c3b5ff")  # over dark images
DENSITY_MAP = "magma"
PASSAGE_MAP = "viridis"

STYLE: dict[str, Any] = {
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
    "axes.formatter.use_mathtext": True,
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
    rest, motion, escape : results on the grid of the problem; None leaves their picture out.
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
        figures["density"] = _draw_rest(_Sheet.on(problem, title), rest, regions)
    if motion is not None:
        figures["time"] = _draw_motion(_Sheet.on(problem, title), motion, regions)
    if escape is not None:
        figures["escape"] = _draw_escape(_Sheet.on(problem, title), escape)
    return figures


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Matplotlib's settings for these figures, and back; what overflows while drawing lies outside the picture."""
    with matplotlib.rc_context(STYLE), np.errstate(all="ignore"):
        yield


def _save(figure: Figure, path: Path) -> Path:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        figure.savefig(partial, format="png", dpi=DOTS_PER_INCH)
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


def _scale(values: FloatArray, decades: float, lowest: float = 0.0) -> Normalize:
    """A logarithmic scale of at most so many decades where values, above the share `lowest` of them, span WIDE ones.

    Else a linear one from zero.
    """
    positive = values[values > TINIEST]
    if positive.size == 0:
        return _linear(0.0)
    top = float(positive.max())
    bottom = float(np.quantile(positive, lowest)) if lowest else float(positive.min())
    if math.log10(top) - math.log10(bottom) < WIDE:
        return _linear(top)
    return LogNorm(max(bottom, top * 10.0**-decades), top)


def _is_log(norm: Normalize) -> bool:
    return isinstance(norm, LogNorm)


def _plain(text: str) -> str:
    """Text as it is: a dollar sign starts no formula."""
    return text.replace("$", r"\$")


def _short(text: str, length: int = 32) -> str:
    return _plain(text if len(text) <= length else text[: length - 1].rstrip() + "…")


def _of(names: Sequence[str]) -> str:
    """'(x, y)'."""
    return f"({_short(', '.join(names), 24)})"


def _density_words(names: Sequence[str]) -> str:
    return f"probability density p{_of(names)}"


def _passage_words(names: Sequence[str]) -> str:
    return f"mean first-passage time τ{_of(names)}"


def _number(value: float) -> str:
    """Three digits, and powers of ten as such: 1.23e-05 becomes 1.23 × 10⁻⁵."""
    text = f"{value:.3g}"
    if "e" not in text:
        return text
    mantissa, exponent = text.split("e")
    return f"${mantissa}\\times 10^{{{int(exponent)}}}$"


# A figure and its panels


@final
@dataclass(frozen=True, slots=True)
class _Sheet:
    """A figure, the problem it is about, and what its legend says so far: artists by their words."""

    figure: Figure
    problem: Problem
    title: str
    legend: dict[str, Artist] = field(default_factory=dict)

    @classmethod
    def on(cls, problem: Problem, title: str) -> _Sheet:
        """An empty sheet."""
        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        return cls(figure, problem, title)

    def cut(self, width: float, height: float, rows: Sequence[float], columns: int) -> GridSpec:
        """Set the size [inches] and divide it into rows of relative heights."""
        lines = textwrap.wrap(self.title, int(width * 9.0)) or [""]
        self.figure.set_size_inches(width, height + 0.22 * len(lines))
        self.figure.suptitle(_plain("\n".join(lines[:3])), x=0.012, ha="left")
        return self.figure.add_gridspec(len(rows), columns, height_ratios=rows)

    def panel(self, slot: SubplotSpec, view: _View, title: str) -> Axes:
        """A panel for an image of a view, its axes named."""
        axes = self.figure.add_subplot(slot)
        axes.set_title(title)
        axes.set_box_aspect(_aspect(view))
        across, up = (self.problem.grid.axes[number] for number in view.axes)
        axes.set_xlim(across.lower, across.upper)
        axes.set_ylim(up.lower, up.upper)
        axes.set_xlabel(_short(across.name))
        axes.set_ylabel(_short(up.name))
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_locator(MaxNLocator(5))
        return axes

    def finished(self) -> Figure:
        """The figure, with its legend below."""
        if self.legend:
            longest = 0.45 + 0.075 * max(len(words) for words in self.legend)
            columns = max(1, int(self.figure.get_figwidth() / longest))
            handles, words = list(self.legend.values()), list(self.legend)
            self.figure.legend(handles, words, loc="outside lower left", ncols=min(columns, len(words)))
        return self.figure


def _aspect(view: _View) -> float:
    """Height over width of a panel: true to scale where that is no strip."""
    ratio = view.extents[1] / view.extents[0]
    return ratio if 0.4 <= ratio <= 1.6 else 0.8


def _paint(axes: Axes, view: _View, box: FloatArray, norm: Normalize, colours: str | Colormap) -> QuadMesh:
    """An image of a box; what lies below the scale has its lowest colour."""
    return axes.pcolormesh(view.edges(0), view.edges(1), np.ma.maximum(box, norm.vmin), norm=norm, cmap=colours)


def _colour_bar(sheet: _Sheet, axes: Axes, mesh: QuadMesh, words: str) -> None:
    """A colour bar as tall as its panel."""
    beside = axes.inset_axes((1.03, 0.0, 0.045, 1.0))
    sheet.figure.colorbar(mesh, cax=beside, label=words, extend="min" if _is_log(mesh.norm) else "neither")


def _seen(density: FloatArray, current: FloatArray | None = None) -> BoolArray:
    """Where there is something to see, (...) of densities (..., cells)."""
    seen: BoolArray = density >= SEEN * density.max()
    if current is not None:
        strength = np.sqrt((current**2).sum(axis=0))
        seen |= (strength > STRONG * strength.max()) & (strength > 0.0)
    return seen


def _loss_lines(sheet: _Sheet, axes: Axes, view: _View, seen: BoolArray) -> None:
    """Contour lines of the loss, evenly spaced up to its highest value where there is something to see."""
    loss = sheet.problem.landscape.loss
    if loss is None:
        return
    (across, up), box = view.evaluate(loss)
    visible = _resampled(view.section(seen.astype(np.float64)), box.shape) > 0.0
    lowest, highest = np.nanmin(box), np.nanmax(np.where(visible, box, np.nan)) if visible.any() else np.nanmax(box)
    levels = MaxNLocator(LOSS_LINES, steps=[1, 2, 2.5, 5, 10]).tick_values(lowest, highest)
    drawn = levels[(levels > lowest) & (levels < np.nanmax(box))]
    if drawn.size:
        style: dict[str, Any] = {"colors": "white", "alpha": 0.45, "linewidths": 0.6}
        axes.contour(across, up, np.ma.masked_invalid(box), levels=drawn, **style)
        words = f"loss, a line every {_number(float(levels[1] - levels[0]))}"
        sheet.legend[words] = Line2D([], [], color=PALE, linewidth=0.8)


def _outlines(sheet: _Sheet, axes: Axes, view: _View, regions: Mapping[str, Region]) -> None:
    """Surfaces of regions as dashed lines; the keys go to the legend."""
    for (words, region), colour in zip(regions.items(), itertools.cycle(OUTLINE_COLOURS)):
        (across, up), level = view.evaluate(region.level)
        if not np.nanmin(level) < 0.0 < np.nanmax(level):
            continue
        level = np.ma.masked_invalid(level)
        axes.contour(across, up, level, levels=[0.0], colors=INK, linewidths=2.4, alpha=0.6)
        axes.contour(across, up, level, levels=[0.0], colors=[colour], linewidths=1.3, linestyles=[(0, (4, 2))])
        sheet.legend[words] = _outline_key(colour)


def _outline_key(colour: str) -> Line2D:
    return Line2D([], [], color=colour, linewidth=1.4, linestyle=(0, (3, 1.2)), path_effects=[])


def _strength(view: _View, current: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Current (2, up, across) in units of the panel, so that it points as drawn, and its size; the largest is 1."""
    scaled = current / np.array(view.extents)[:, None, None]
    scaled /= max(float(np.abs(scaled).max()), np.finfo(np.float64).tiny)
    size = np.sqrt((scaled**2).sum(axis=0))
    top = float(size.max())
    return (scaled / top, size / top) if top > 0.0 else (scaled, size)


def _streams(sheet: _Sheet, axes: Axes, view: _View, current: FloatArray) -> None:
    """Streamlines of a current (2, up, across), the thicker the stronger it is."""
    shape = (min(STREAM_POINTS, current.shape[1]), min(STREAM_POINTS, current.shape[2]))
    scaled, size = _strength(view, _resampled(current, shape))
    if not size.any():
        return
    weak = size < WEAKEST
    across, up = (np.linspace(view.centres(n)[0], view.centres(n)[-1], shape[1 - n]) for n in (0, 1))
    extents = view.extents
    axes.streamplot(
        across,
        up,
        np.ma.masked_where(weak, scaled[0] * extents[0]),
        np.ma.masked_where(weak, scaled[1] * extents[1]),
        density=1.2,
        color="white",
        linewidth=0.4 + 1.5 * np.sqrt(size),
        arrowsize=0.9,
    )
    sheet.legend["probability current"] = Line2D([], [], color=PALE, marker=">", markersize=4, linewidth=1.2)


def _arrows(sheet: _Sheet, axes: Axes, view: _View, current: FloatArray) -> None:
    """Arrows along a current (2, up, across); their length is the square root of its strength."""
    shape = (min(ARROWS, current.shape[1]), min(ARROWS, current.shape[2]))
    scaled, size = _strength(view, _resampled(current, shape))
    if not size.any():
        return
    across, up = (np.linspace(view.centres(n)[0], view.centres(n)[-1], shape[1 - n]) for n in (0, 1))
    strong = size > WEAKEST
    length = np.sqrt(size[strong]) * 1.4 / max(shape)
    direction = scaled[:, strong] / size[strong]
    direction[1] *= _aspect(view)
    x, y = np.meshgrid(across, up)
    axes.quiver(
        x[strong],
        y[strong],
        *(direction * length),
        angles="uv",
        pivot="mid",
        scale_units="width",
        scale=1.0,
        color="white",
        width=0.004,
        headwidth=3.5,
        headlength=4.0,
        headaxislength=3.6,
    )
    sheet.legend["probability current"] = Line2D([], [], color=PALE, marker=">", markersize=4, linewidth=1.2)


def _region_bands(sheet: _Sheet, axes: Axes, view: _View, regions: Mapping[str, Region]) -> None:
    """Regions of a line as shaded bands between dashed edges; the keys go to the legend."""
    for (words, region), colour in zip(regions.items(), itertools.cycle(BAND_COLOURS)):
        (position,), level = view.evaluate(region.level)
        inside = level > 0.0
        axes.fill_between(position, 0.0, 1.0, inside, transform=axes.get_xaxis_transform(), color=colour, alpha=0.12, lw=0)
        for step in np.flatnonzero(inside[1:] != inside[:-1]):
            axes.axvline(0.5 * (position[step] + position[step + 1]), color=colour, linewidth=0.9, linestyle=(0, (4, 2)))
        if inside.any():
            sheet.legend[words] = Patch(facecolor=colour, alpha=0.35)


def _profile(view: _View, box: FloatArray) -> tuple[FloatArray, FloatArray]:
    """A line through the values at the block centres, level from the last centres to the walls."""
    axis = view.grid.axes[view.axes[0]]
    return np.concatenate([[axis.lower], view.centres(0), [axis.upper]]), np.concatenate([box[:1], box, box[-1:]])


def _line_panel(sheet: _Sheet, slot: SubplotSpec, view: _View, title: str) -> Axes:
    """A panel for functions of one variable."""
    axes = sheet.figure.add_subplot(slot)
    axes.set_title(title)
    axis = view.grid.axes[view.axes[0]]
    axes.set_xlim(axis.lower, axis.upper)
    axes.set_xlabel(_short(axis.name))
    return axes


def _loss_axis(sheet: _Sheet, axes: Axes, view: _View, seen: BoolArray) -> None:
    """The loss on an axis of its own at the right, up to its highest value where there is something to see."""
    loss = sheet.problem.landscape.loss
    if loss is None:
        return
    (position,), values = view.evaluate(loss)
    visible = _resampled(view.section(seen.astype(np.float64)), values.shape) > 0.0
    shown = values[visible & np.isfinite(values)]
    right = axes.twinx()
    right.plot(position, values, color=LOSS_COLOUR, linewidth=1.1, linestyle=(0, (5, 1.5)))
    low, high = (float(shown.min()), float(shown.max())) if shown.size else (0.0, 1.0)
    margin = 0.06 * (high - low) or 1.0
    right.set_ylim(low - margin, high + margin)
    right.set_ylabel("loss", color=LOSS_COLOUR)
    sheet.legend["loss"] = Line2D([], [], color=LOSS_COLOUR, linewidth=1.1, linestyle=(0, (5, 1.5)))


# At rest


def _draw_rest(sheet: _Sheet, rest: AtRest, regions: Mapping[str, Region]) -> Figure:
    draw = {1: _rest_line, 2: _rest_map, 3: _rest_space}[len(_drawn_axes(sheet.problem.grid))]
    draw(sheet, rest, {_occupied(name, rest): region for name, region in regions.items()})
    return sheet.finished()


def _occupied(name: str, rest: AtRest) -> str:
    """A region's name, with its occupation where that is known."""
    return _short(name) + (f": P = {_number(rest.regions[name])}" if name in rest.regions else "")


def _flows(rest: AtRest) -> bool:
    """Whether there is a current at rest that is not rounding."""
    return rest.detailed_balance > REVERSIBLE


def _rest_line(sheet: _Sheet, rest: AtRest, regions: Mapping[str, Region]) -> None:
    grid = sheet.problem.grid
    view = _view(grid)
    title = "Density at rest"
    if _flows(rest):
        title += f", current {_number(float(rest.current[view.axes[0]].mean()))}"
    axes = _line_panel(sheet, sheet.cut(7.6, 4.4, [1], 1)[0, 0], view, title)
    _fill_density(sheet, axes, view, rest.density)
    _region_bands(sheet, axes, view, regions)
    _loss_axis(sheet, axes, view, _seen(rest.density))


def _fill_density(sheet: _Sheet, axes: Axes, view: _View, density: FloatArray) -> None:
    position, values = _profile(view, view.section(density))
    axes.fill_between(position, values, color=DENSITY_COLOUR, alpha=0.25, linewidth=0)
    axes.plot(position, values, color=DENSITY_COLOUR)
    axes.set_ylim(0.0, 1.08 * _linear(float(values.max())).vmax)
    axes.set_ylabel(_density_words(view.grid.names), color=DENSITY_COLOUR)


def _rest_map(sheet: _Sheet, rest: AtRest, regions: Mapping[str, Region]) -> None:
    """The density as it is, and where it spans decades or a current flows a second time, logarithmic with the current."""
    view = _view(sheet.problem.grid)
    box, current = view.section(rest.density), view.section(rest.current[list(view.axes)])
    norms = {"Density at rest": _linear(float(box.max()))}
    logarithmic = _scale(box, DENSITY_DECADES)
    if _is_log(logarithmic) or _flows(rest):
        norms["Logarithm of the density" if _is_log(logarithmic) else "Current"] = logarithmic
    slots = sheet.cut(5.2 * len(norms), 0.6 + 3.9 * _aspect(view), [1], len(norms))
    for number, (title, norm) in enumerate(norms.items()):
        axes = sheet.panel(slots[0, number], view, title)
        mesh = _paint(axes, view, box, norm, DENSITY_MAP)
        _colour_bar(sheet, axes, mesh, _density_words(sheet.problem.grid.names))
        _loss_lines(sheet, axes, view, _seen(rest.density))
        _outlines(sheet, axes, view, regions)
        if number == 1 and _flows(rest):
            _streams(sheet, axes, view, current)


def _rest_space(sheet: _Sheet, rest: AtRest, regions: Mapping[str, Region]) -> None:
    """Above the density integrated over one variable, with the current; below, cuts through its maximum."""
    peak = int(np.argmax(rest.density))
    slots = sheet.cut(11.4, 6.6, [1, 1], 3)
    for column, view in enumerate(_pairs(sheet.problem.grid, peak)):
        _draw_marginal(sheet, slots[0, column], view, rest.density, rest.current if _flows(rest) else None)
        axes = sheet.panel(slots[1, column], view, _cut_words(view))
        mesh = _paint(axes, view, box := view.section(rest.density), _linear(float(box.max())), DENSITY_MAP)
        _colour_bar(sheet, axes, mesh, f"density p{_of(sheet.problem.grid.names)}")
        _loss_lines(sheet, axes, view, _seen(rest.density))
        _outlines(sheet, axes, view, regions)


def _cut_words(view: _View) -> str:
    """'Cut at z = 0.5'."""
    (other,) = (number for number in range(view.grid.dimensions) if number not in view.axes)
    axis = view.grid.axes[other]
    return f"Cut at {_short(axis.name, 16)} = {_number(float(axis.centres[view.held[other]]))}"


def _draw_marginal(
    sheet: _Sheet, slot: SubplotSpec, view: _View, density: FloatArray, current: FloatArray | None
) -> None:
    (other,) = (name for name in view.grid.names if name not in view.names)
    axes = sheet.panel(slot, view, f"Integrated over {_short(other, 16)}")
    box = view.integral(density)
    norm = _linear(float(box.max())) if current is None else _scale(box, DENSITY_DECADES)
    _colour_bar(sheet, axes, _paint(axes, view, box, norm, DENSITY_MAP), f"density p{_of(view.names)}")
    if current is not None:
        _arrows(sheet, axes, view, view.integral(current[list(view.axes)]))


# In time


def _draw_motion(sheet: _Sheet, motion: Motion, regions: Mapping[str, Region]) -> Figure:
    draw = {1: _motion_line, 2: _motion_map, 3: _motion_space}[len(_drawn_axes(sheet.problem.grid))]
    draw(sheet, motion, {_short(name): region for name, region in regions.items()})
    return sheet.finished()


def _motion_line(sheet: _Sheet, motion: Motion, regions: Mapping[str, Region]) -> None:
    """Density over time and position, its profiles at some instants, and the strip."""
    view = _view(sheet.problem.grid)
    slots = sheet.cut(10.4, 6.6, [1.35, 1], 2)
    boxes = view.section(motion.density)
    axes = sheet.figure.add_subplot(slots[0, 0])
    axes.set_title("Density in time")
    times = motion.times[1:] if _spread(motion.times) else motion.times
    peaks = boxes.max(axis=1)
    top = min(float(peaks.max()), UNEVEN * float(np.median(peaks)))
    norm = PowerNorm(0.5, 0.0, _linear(top).vmax)
    edges = _time_edges(times, _spread(motion.times))
    mesh = axes.pcolormesh(edges, view.edges(0), boxes[-times.size :].T, norm=norm, cmap=DENSITY_MAP)
    _time_axis(axes, motion)
    axes.set_ylabel(_short(view.names[0]))
    beside = axes.inset_axes((1.03, 0.0, 0.04, 1.0))
    extend = "max" if top < peaks.max() else "neither"
    sheet.figure.colorbar(mesh, cax=beside, label=_density_words(sheet.problem.grid.names), extend=extend)
    _profiles(sheet, slots[0, 1], view, motion, boxes)
    _strip(sheet, slots[1, :], motion)


def _profiles(sheet: _Sheet, slot: SubplotSpec, view: _View, motion: Motion, boxes: FloatArray) -> None:
    instants = _instants(boxes, SNAPSHOTS[1])
    axes = _line_panel(sheet, slot, view, "At some instants")
    colours = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, instants.size))
    for instant, colour in zip(instants, colours, strict=True):
        axes.plot(*_profile(view, boxes[instant]), color=colour, label=_moment_words(motion, instant))
    peaks = boxes[instants].max(axis=1)
    top = min(float(peaks.max()), UNEVEN * float(np.median(peaks)))
    axes.set_ylim(0.0, 1.08 * _linear(top).vmax)
    axes.set_ylabel(_density_words(sheet.problem.grid.names))
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))


def _motion_map(sheet: _Sheet, motion: Motion, regions: Mapping[str, Region]) -> None:
    view = _view(sheet.problem.grid)
    boxes = view.section(motion.density)
    instants = _instants(boxes, SNAPSHOTS[2])
    columns = min(3, instants.size)
    rows = -(-instants.size // columns)
    panel = 3.0 * _aspect(view)
    slots = sheet.cut(10.8, rows * (panel + 0.65) + 2.5, [panel] * rows + [1.7], columns)
    row_slots = [slots[number // columns, number % columns] for number in range(instants.size)]
    snapshots = _snapshots(sheet, row_slots, view, motion, instants, boxes[instants])
    seen = (motion.density[instants] >= SEEN * motion.density[instants].max(axis=1, keepdims=True)).any(axis=0)
    for axes in snapshots:
        _loss_lines(sheet, axes, view, seen)
        _outlines(sheet, axes, view, regions)
    _strip(sheet, slots[rows, :], motion)


def _motion_space(sheet: _Sheet, motion: Motion, regions: Mapping[str, Region]) -> None:
    """The density integrated over one variable, a row for each, and the strip."""
    views = _pairs(sheet.problem.grid, 0)
    instants = _instants(np.concatenate([_coarse(view.integral(motion.density)) for view in views], axis=1), SNAPSHOTS[3])
    slots = sheet.cut(11.4, 10.8, [1.0] * 3 + [0.75], instants.size)
    for row, view in enumerate(views):
        row_slots = [slots[row, column] for column in range(instants.size)]
        _snapshots(sheet, row_slots, view, motion, instants, view.integral(motion.density[instants]))
    _strip(sheet, slots[3, :], motion)


def _coarse(boxes: FloatArray) -> FloatArray:
    return boxes.reshape(len(boxes), -1)


def _snapshots(
    sheet: _Sheet,
    slots: Sequence[SubplotSpec],
    view: _View,
    motion: Motion,
    instants: IntArray,
    boxes: FloatArray,
) -> list[Axes]:
    """Boxes at some instants under one colour bar; where their peaks differ much, each is shown as a share of its own."""
    peaks = boxes.max(axis=(1, 2))
    own = bool(peaks.max() > UNEVEN * peaks.min())
    norm = PowerNorm(0.5, 0.0, 1.0 if own else _linear(float(peaks.max())).vmax)
    panels = []
    for slot, instant, box, peak in zip(slots, instants, boxes, peaks, strict=True):
        words = _moment_words(motion, instant)
        axes = sheet.panel(slot, view, f"{words}, peak {_number(float(peak))}" if own else words)
        mesh = _paint(axes, view, box / peak if own and peak > 0.0 else box, norm, DENSITY_MAP)
        axes.label_outer()
        panels.append(axes)
    words = f"density p{_of(view.names)}" + (", share of its peak" if own else "")
    sheet.figure.colorbar(mesh, ax=panels, label=words, aspect=30, pad=0.015)
    return panels


def _moment_words(motion: Motion, instant: int) -> str:
    words = f"t = {_number(float(motion.times[instant]))}"
    return words if motion.steps is None else f"{words} ({_number(float(motion.steps[instant]))} steps)"


def _instants(boxes: FloatArray, count: int) -> IntArray:
    """Numbers of the instants to show, (at most count,), first and last among them: equal changes in between.

    The change is the L1 distance; a single step counts for at most one of the parts.
    """
    if len(boxes) <= count:
        return np.arange(len(boxes), dtype=np.int64)
    axes = tuple(range(1, boxes.ndim))
    change = np.array([np.abs(after - before).sum() for before, after in itertools.pairwise(boxes)])
    total = float(change.sum())
    change = change / total if total > 0.0 else np.full(len(change), 1.0 / len(change))
    for _ in range(20):
        change = np.minimum(change, change.sum() / (count - 1))
    path = np.concatenate([[0.0], np.cumsum(change)])
    nearest = np.abs(path[:, None] - np.linspace(0.0, path[-1], count)).argmin(axis=0)
    return np.unique(np.concatenate([nearest, [0, len(boxes) - 1]])).astype(np.int64)[:count] if axes else nearest


def _spread(times: FloatArray) -> bool:
    """Whether saved times are so uneven that a logarithmic axis shows them better."""
    return times.size > 4 and bool(times[-1] > 30.0 * times[1] and np.median(times[1:]) < 0.2 * times[-1])


def _time_edges(times: FloatArray, spread: bool) -> FloatArray:
    """Edges between instants, in the middle on the axis they are drawn on."""
    if times.size == 1:
        return np.array([times[0] - 0.5, times[0] + 0.5])
    marks = np.log(times) if spread else times
    middles = np.concatenate([marks[:1], 0.5 * (marks[:-1] + marks[1:]), marks[-1:]])
    return np.exp(middles) if spread else middles


def _time_axis(axes: Axes, motion: Motion) -> None:
    """Time across, and SGD steps above where there are any."""
    first, last = float(motion.times[0]), float(motion.times[-1])
    if _spread(motion.times):
        axes.set_xscale("log")
        first = float(motion.times[1])
    axes.set_xlim(first, last if last > first else first + 1.0)
    axes.set_xlabel("time t")
    if motion.steps is not None and last > first:
        times, steps = motion.times, motion.steps
        above = axes.secondary_xaxis(
            "top", functions=(lambda time: np.interp(time, times, steps), lambda step: np.interp(step, steps, times))
        )
        above.set_xlabel("SGD steps")


def _strip(sheet: _Sheet, slot: SubplotSpec, motion: Motion) -> None:
    """Mean and standard deviation, probabilities, and the mean loss over time, beside each other."""
    draw = [_means]
    if motion.occupation or motion.absorbed:
        draw.append(_shares)
    if motion.observables:
        draw.append(_observable)
    slots = slot.subgridspec(1, len(draw))
    for number, panel in enumerate(draw):
        axes = sheet.figure.add_subplot(slots[0, number])
        panel(axes, sheet.problem.grid, motion)
        _time_axis(axes, motion)


def _means(axes: Axes, grid: Grid, motion: Motion) -> None:
    for number, colour in zip(_drawn_axes(grid), LINE_COLOURS, strict=False):
        mean, deviation = motion.mean[:, number], np.sqrt(np.maximum(motion.covariance[:, number, number], 0.0))
        axes.fill_between(motion.times, mean - deviation, mean + deviation, color=colour, alpha=0.2, linewidth=0)
        axes.plot(motion.times, mean, color=colour, label=_short(grid.names[number], 16))
    axes.set_title("Mean ± standard deviation")
    axes.set_ylabel(_short(", ".join(grid.names[number] for number in _drawn_axes(grid)), 24))
    if len(_drawn_axes(grid)) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _shares(axes: Axes, grid: Grid, motion: Motion) -> None:
    lines = {f"in {name}": values for name, values in motion.occupation.items()}
    lines |= {f"through {gate}": values for gate, values in motion.absorbed.items()}
    for (words, values), colour in zip(lines.items(), itertools.cycle(LINE_COLOURS)):
        axes.plot(motion.times, values, color=colour, label=_short(words, 16))
    top = max(float(values.max()) for values in lines.values())
    axes.set_ylim(0.0, 1.05 * (top or 1.0))
    axes.set_title("Where it is")
    axes.set_ylabel("probability")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _observable(axes: Axes, grid: Grid, motion: Motion) -> None:
    name = "loss" if "loss" in motion.observables else next(iter(motion.observables))
    axes.plot(motion.times, motion.observables[name], color=LOSS_COLOUR)
    axes.set_title(f"Mean {_short(name, 20)}")
    axes.set_ylabel(_short(name, 20))


# Escape


def _draw_escape(sheet: _Sheet, escape: Escape) -> Figure:
    draw = {1: _escape_line, 2: _escape_map, 3: _escape_space}[len(_drawn_axes(sheet.problem.grid))]
    draw(sheet, escape)
    return sheet.finished()


def _passage_scale(time: FloatArray) -> Normalize:
    """Times just outside the target go to zero: the lowest few do not make the scale."""
    return _scale(time, PASSAGE_DECADES, lowest=0.03)


def _start_words(escape: Escape) -> str:
    place = ", ".join(_number(coordinate) for coordinate in escape.start)
    return f"start ({place}), τ = {_number(escape.times['mean_first_passage_time'].value)}"


def _escape_line(sheet: _Sheet, escape: Escape) -> None:
    view = _view(sheet.problem.grid)
    axes = _line_panel(sheet, sheet.cut(7.6, 4.6, [1], 1)[0, 0], view, "Time to the target, and where it is spent")
    right = axes.twinx()
    _fill_density(sheet, right, view, escape.density)
    right.set_ylabel("density of the escaping probability", color=DENSITY_COLOUR)
    axes.set_zorder(right.get_zorder() + 1)
    axes.patch.set_visible(False)
    norm = _passage_scale(escape.mean_first_passage_time)
    position, time = _profile(view, view.section(escape.mean_first_passage_time))
    axes.plot(position, np.where(time > 0.0, time, np.nan), color=PASSAGE_COLOUR)
    axes.set_yscale("log" if _is_log(norm) else "linear")
    axes.set_ylabel(_passage_words(view.grid.names), color=PASSAGE_COLOUR)
    start = escape.start[view.axes[0]]
    time_there = escape.times["mean_first_passage_time"].value
    axes.plot([start], [time_there], marker="o", markersize=7, color=PASSAGE_COLOUR, markeredgecolor="white", linestyle="")
    sheet.legend[_start_words(escape)] = Line2D(
        [], [], marker="o", markersize=7, color=PASSAGE_COLOUR, markeredgecolor="white", linestyle=""
    )
    regions = {f"target {_short(escape.target.name)}": escape.target}
    if escape.valley is not None:
        regions[f"valley {_short(escape.valley.name)}"] = escape.valley
    _region_bands(sheet, axes, view, regions)


def _escape_map(sheet: _Sheet, escape: Escape) -> None:
    view = _view(sheet.problem.grid)
    slots = sheet.cut(10.6, 0.6 + 3.9 * _aspect(view), [1], 2)
    current = view.section(escape.current[list(view.axes)])
    seen = _seen(escape.density, escape.current)
    axes = _draw_passage(sheet, slots[0, 0], view, escape, seen, "Mean time to the target")
    _streams(sheet, axes, view, current)
    axes = sheet.panel(slots[0, 1], view, "Where the time is spent")
    box = view.section(escape.density)
    mesh = _paint(axes, view, box, _scale(box, DENSITY_DECADES), DENSITY_MAP)
    _colour_bar(sheet, axes, mesh, "density of the escaping probability")
    _loss_lines(sheet, axes, view, seen)
    _surroundings(sheet, axes, view, escape)
    _arrows(sheet, axes, view, current)


def _escape_space(sheet: _Sheet, escape: Escape) -> None:
    """Above the mean time on cuts through the start; below, where it is spent, integrated over one variable."""
    grid = sheet.problem.grid
    index = [int(np.abs(axis.centres - x).argmin()) for axis, x in zip(grid.axes, escape.start, strict=True)]
    seen = _seen(escape.density, escape.current)
    slots = sheet.cut(11.4, 6.6, [1, 1], 3)
    for column, view in enumerate(_pairs(grid, int(grid.strides @ index))):
        _draw_passage(sheet, slots[0, column], view, escape, seen, _cut_words(view))
        _draw_marginal(sheet, slots[1, column], view, escape.density, escape.current)


def _draw_passage(
    sheet: _Sheet, slot: SubplotSpec, view: _View, escape: Escape, seen: BoolArray, title: str
) -> Axes:
    """The mean first-passage time of a view, the target hatched."""
    axes = sheet.panel(slot, view, title)
    box = view.section(escape.mean_first_passage_time)
    mesh = _paint(axes, view, box, _passage_scale(escape.mean_first_passage_time), PASSAGE_MAP)
    _colour_bar(sheet, axes, mesh, _passage_words(sheet.problem.grid.names))
    _loss_lines(sheet, axes, view, seen)
    _surroundings(sheet, axes, view, escape)
    return axes


def _surroundings(sheet: _Sheet, axes: Axes, view: _View, escape: Escape) -> None:
    """The target hatched, the surface of the valley, and the start."""
    (across, up), level = view.evaluate(escape.target.level)
    if np.nanmax(level) > 0.0:
        inside = [0.0, float(np.nanmax(level))]
        axes.contourf(across, up, np.ma.masked_invalid(level), levels=inside, colors=[TARGET_COLOUR], hatches=["////"])
        words = f"target {_short(escape.target.name)}"
        sheet.legend[words] = Patch(facecolor=TARGET_COLOUR, edgecolor=PALE, hatch="////", linewidth=0.5)
    if escape.valley is not None:
        _outlines(sheet, axes, view, {f"valley {_short(escape.valley.name)}": escape.valley})
    x, y = (escape.start[axis] for axis in view.axes)
    star: dict[str, Any] = {"marker": "*", "markersize": 12, "color": "white", "markeredgecolor": INK, "linestyle": ""}
    axes.plot([x], [y], zorder=5, **star)
    sheet.legend[_start_words(escape)] = Line2D([], [], **star)
