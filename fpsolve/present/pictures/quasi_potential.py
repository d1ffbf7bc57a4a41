"""The picture of the quasi-potential."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from fpsolve.analyse.quasi_potential import QuasiPotential
from fpsolve.analyse.rest import AtRest
from fpsolve.model.grid import BoolArray, FloatArray
from fpsolve.present.pictures.layers import outlines, paint, streams
from fpsolve.present.pictures.scales import linear_scale
from fpsolve.present.pictures.sheet import Sheet, aspect_of
from fpsolve.present.pictures.style import PASSAGE_MAP
from fpsolve.present.pictures.views import View, plain_view

HIGHEST = 12.0  # noises above the lowest place up to which there is something to see
LINES = 12
FLAT = 0.01  # noises between the lowest and the highest place, below which there is nothing to see


def rises(found: QuasiPotential) -> bool:
    """Whether there is anything to see: noise without a drift has none."""
    return float(found.values.max()) > FLAT * found.noise


def draw_quasi_potential(sheet: Sheet, rest: AtRest, found: QuasiPotential) -> Figure:
    """The quasi-potential with the irreversible drift, which leads along its contours at low noise; and its error."""
    view = plain_view(sheet.grid, sheet.window)
    slots = sheet.divided(10.6, [3.85 * aspect_of(view)], 2, 0.8)
    unit = " / noise" if found.noise == 1.0 else " [loss]"
    top = min(HIGHEST * found.noise, float(found.values.max()))
    seen = found.values <= top
    panels = {"Quasi-potential, with the irreversible drift": found.values, "Its error": found.error}
    for number, (title, values) in enumerate(panels.items()):
        axes = sheet.image_panel(slots[0, number], view, title)
        box, peak = view.section(values), top if number == 0 else float(values[seen].max())
        mesh = paint(axes, view, box, linear_scale(peak), PASSAGE_MAP)
        extend = "max" if float(box.max()) > peak else "neither"
        sheet.colour_bar(axes, mesh, ("quasi-potential" if number == 0 else "error") + unit, extend)
        if peak > 0.0:
            levels = np.linspace(0.0, peak, LINES + 1)[1:]
            axes.contour(view.centres(0), view.centres(1), box, levels=levels, colors="white", linewidths=0.5)
        outlines(sheet, axes, view, sheet.named())
        if number == 0:
            streams(sheet, axes, view, _drift(view, rest, seen), "irreversible drift, J / p")
    return sheet.finished()


def _drift(view: View, rest: AtRest, seen: BoolArray) -> FloatArray:
    """The irreversible drift where there is something to see, as a box."""
    drift = rest.irreversible_drift
    shown = seen & np.isfinite(drift).all(axis=0)
    return view.section(np.where(shown, drift, 0.0)[list(view.axes)])
