"""A sheet: a figure, its panels, and its legend."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, final

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, SubplotSpec
from matplotlib.ticker import MaxNLocator

from fpsolve.model.frame import Frame
from fpsolve.model.grid import Grid
from fpsolve.model.problem import Problem
from fpsolve.model.region import Region
from fpsolve.present.pictures.scales import Powers, is_logarithmic
from fpsolve.present.pictures.style import BAND_COLOURS, DOTS_PER_INCH, OUTLINE_COLOURS
from fpsolve.present.pictures.views import View, Window, drawn_axes
from fpsolve.present.pictures.words import label_logarithms, label_numbers, label_powers, printed, shortened

Named: TypeAlias = Sequence[tuple[str, Region, str]]  # regions with their words in the legend, and their colours

PLAIN_ASPECT = 0.85
NICE_STEPS = [1, 2, 2.5, 5, 10]


@final
@dataclass(frozen=True, slots=True)
class Sheet:
    """A figure, the problem and the regions it is about, and what its legend says so far: artists by their words."""

    figure: Figure
    problem: Problem
    title: str
    regions: Mapping[str, Region]
    window: Window
    legend: dict[str, Artist] = field(default_factory=dict)

    @classmethod
    def on(cls, problem: Problem, title: str, regions: Mapping[str, Region], window: Window) -> Sheet:
        """An empty sheet."""
        figure = Figure(layout="constrained", dpi=DOTS_PER_INCH)
        FigureCanvasAgg(figure)
        return cls(figure, problem, title, regions, window)

    @property
    def grid(self) -> Grid:
        """The grid of the problem."""
        return self.problem.grid

    def _axes_words(self, frame: Frame) -> str:
        """What the axes of a turned grid are, for the title."""
        origin = ", ".join(printed(float(x)) for x in np.round(frame.at, 9) + 0.0)
        words = [frame.direction_words(number, name).replace("-", "−") for number, name in enumerate(self.grid.names)]
        return f"{', '.join(words)}; from ({origin})"

    @property
    def colours(self) -> dict[str, str]:
        """Colours of the regions, by name."""
        palette = BAND_COLOURS if len(drawn_axes(self.grid)) == 1 else OUTLINE_COLOURS
        return dict(zip(self.regions, itertools.cycle(palette), strict=False))

    def named(self, words: Callable[[str], str] = shortened) -> Named:
        """The regions, with words made of their names."""
        return [(words(name), region, self.colours[name]) for name, region in self.regions.items()]

    def divided(self, width: float, rows: Sequence[float], columns: int, around: float) -> GridSpec:
        """The sheet cut into rows of panels of given heights under the title; all lengths in inches.

        around: what names and numbers above and below all the panels take, roughly.
        """
        most = int(width * 8.5)
        lines = textwrap.wrap(self.title, most, max_lines=3, placeholder=" …") or [" "]
        lines += [] if self.grid.frame is None else textwrap.wrap(self._axes_words(self.grid.frame), most)
        self.figure.set_size_inches(width, sum(rows) + around + 0.2 * len(lines))
        self.figure.suptitle("\n".join(shortened(line, 200) for line in lines), x=0.012, ha="left")
        return self.figure.add_gridspec(len(rows), columns, height_ratios=rows)

    def image_panel(self, slot: SubplotSpec, view: View, title: str) -> Axes:
        """A panel for an image of a view, its axes named."""
        axes = self.figure.add_subplot(slot)
        axes.set_title(title)
        across, up = (self.grid.axes[number] for number in view.axes)
        axes.set_xlim(*view.limits(0))
        axes.set_ylim(*view.limits(1))
        axes.set_xlabel(shortened(across.name))
        axes.set_ylabel(shortened(up.name))
        set_ticks(axes)
        return axes

    def line_panel(self, slot: SubplotSpec, view: View, title: str) -> Axes:
        """A panel for functions of one variable."""
        axes = self.figure.add_subplot(slot)
        axes.set_title(title)
        axis = self.grid.axes[view.axes[0]]
        axes.set_xlim(*view.limits(0))
        axes.set_xlabel(shortened(axis.name))
        set_ticks(axes)
        return axes

    def colour_bar(self, axes: Axes, mesh: QuadMesh, words: str, extend: str | None = None) -> None:
        """A colour bar beside a panel, as tall as it."""
        beside = axes.inset_axes((1.03, 0.0, 0.045, 1.0))
        reach = extend or ("min" if is_logarithmic(mesh.norm) else "neither")
        self.figure.colorbar(mesh, cax=beside, label=words, extend=reach)
        if isinstance(mesh.norm, Powers):
            label_logarithms(beside.yaxis)
        elif is_logarithmic(mesh.norm):
            label_powers(beside.yaxis)

    def finished(self) -> Figure:
        """The figure, its numbers in print, with its legend below."""
        for axes in self.figure.axes:
            for part in (axes, *axes.child_axes):
                label_numbers(part.yaxis)
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


def aspect_of(view: View) -> float:
    """Height over width of an image: about true to scale in the plane, unless that makes it a strip."""
    ratio = view.extents[1] / view.extents[0]
    return ratio if len(drawn_axes(view.grid)) == 2 and 0.4 <= ratio <= 1.6 else PLAIN_ASPECT


def set_ticks(axes: Axes) -> None:
    """A few ticks at round numbers: each costs time, and crowds its neighbours."""
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=NICE_STEPS))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=NICE_STEPS))


def legend_beside(axes: Axes) -> None:
    """A legend to the right of a panel, where it hides nothing."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.02), borderaxespad=0.3)


def hide_inner(axes: Axes, *, left: bool, bottom: bool) -> None:
    """Numbers and names only at the left and at the bottom of a block of panels."""
    axes.tick_params(labelleft=left, labelbottom=bottom)
    axes.yaxis.label.set_visible(left)
    axes.xaxis.label.set_visible(bottom)
