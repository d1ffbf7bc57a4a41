"""How the figures look: colours, colour maps, and matplotlib's settings."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import matplotlib
import numpy as np
from matplotlib.colors import Colormap, LinearSegmentedColormap, ListedColormap

DOTS_PER_INCH = 150

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


def _from_paper(name: str) -> Colormap:
    """A colour map of matplotlib whose lowest eighth fades into the white of the paper."""
    colours = matplotlib.colormaps[name](np.linspace(0.0, 0.95, 256))[:, :3]
    share = np.clip(np.linspace(0.0, 8.0, 256), 0.0, 1.0)[:, None]
    return ListedColormap(1.0 - (1.0 - colours) * share**2 * (3.0 - 2.0 * share), name=f"paper-{name}")


DENSITY_MAP = _from_paper("magma_r")
INSTANT_MAP = matplotlib.colormaps["viridis"]
PASSAGE_MAP = matplotlib.colormaps["viridis_r"]
# Two colours apart from white.
TWO_SIDED_MAP = LinearSegmentedColormap.from_list("two-sided", ["#2f86bd", "#7fb9dc", "#ffffff", "#f2ac7c", "#dd7327"])

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


@contextlib.contextmanager
def styled() -> Iterator[None]:
    """Matplotlib's settings for these figures, and back; what overflows while drawing lies outside the picture."""
    with matplotlib.rc_context(STYLE), np.errstate(all="ignore"):
        yield
