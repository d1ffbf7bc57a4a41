"""The picture of the noise: D over the loss, where its change pushes, C against H at the minima, and the tilt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, SubplotSpec
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from fpsolve.analyse.basins import Basins
from fpsolve.analyse.noise_structure import CovarianceAtMinimum, NoiseStructure, noise_drift_at_cells
from fpsolve.analyse.tilt import LARGE_TILT, NOTICEABLE_TILT, Tilt
from fpsolve.model.grid import FloatArray, IntArray
from fpsolve.present.pictures.landmarks import Style, draw_points, draw_points_on_line, loss_shown
from fpsolve.present.pictures.layers import arrows, loss_axis, loss_lines, paint, profile
from fpsolve.present.pictures.scales import decade_scale, root_scale
from fpsolve.present.pictures.sheet import Sheet, aspect_of, set_ticks
from fpsolve.present.pictures.style import (
    DASHES,
    DENSITY_COLOUR,
    DENSITY_MAP,
    INK,
    INSTANT_MAP,
    LINE_COLOURS,
    PALE,
    PASSAGE_COLOUR,
)
from fpsolve.present.pictures.views import View, drawn_axes, pair_views, plain_view
from fpsolve.present.pictures.words import cut_words, label_powers, printed, shortened

NOISE_DECADES = 6.0  # of a logarithmic scale
ELLIPSES = 9  # per axis of a map
ELLIPSE_SIZE = 0.8  # of their distance
MINIMUM_SIZE = 1.9  # the same, at a minimum
CORNERS = 48  # of an ellipse drawn as a polygon
MOST_COMPARED = 4  # minima
WIDE_RATIOS = 20.0  # largest over smallest, from which their axis is logarithmic
HIGHEST_TILT = 5.0  # that an axis shows where the tilt is infinite

SOLID: Style = {"facecolors": "none", "edgecolors": DENSITY_COLOUR, "linewidths": 1.6}
DASHED: Style = {"facecolors": "none", "edgecolors": PASSAGE_COLOUR, "linewidths": 1.6, "linestyles": [DASHES]}
TILT_COLOURS = (INK, *LINE_COLOURS[3:])
MARK: Style = {"marker": "o", "markersize": 7, "markeredgecolor": "white", "linestyle": ""}


def has_noise(structure: NoiseStructure) -> bool:
    """Whether there is anything to draw: D that changes from place to place, or a covariance of gradients."""
    return structure.noise_drift is not None or bool(structure.at_minima) or bool(structure.tilts)


def draw_noise(sheet: Sheet, structure: NoiseStructure, basins: Basins | None, density: FloatArray) -> Figure:
    """D and the noise drift, C against H at the minima, and the tilt on the climbs: what there is of them.

    density: at rest, or any other that says where there is something to see, (cells,).
    """
    draw = {1: _noise_line, 2: _noise_map, 3: _noise_space}[len(drawn_axes(sheet.grid))]
    draw(sheet, structure, basins, density)
    return sheet.finished()


def _noise_line(sheet: Sheet, structure: NoiseStructure, basins: Basins | None, density: FloatArray) -> None:
    """D over the loss, the noise drift beside the drift, and the tilt."""
    view = plain_view(sheet.grid, sheet.window)
    panels = 1 + (structure.noise_drift is not None) + bool(structure.tilts)
    slots = _rows_of_two(sheet, panels, 2.9)
    axes = sheet.line_panel(slots[0], view, "Diffusion over the loss")
    _draw_diffusion(sheet, axes, view, structure)
    right = loss_axis(sheet, axes, view, loss_shown(sheet, basins, density))
    if right is not None and basins is not None:
        draw_points_on_line(sheet, right, view, basins)
    if structure.noise_drift is not None:
        axes = sheet.line_panel(slots[1], view, "Where the change of the noise pushes")
        _draw_drifts(sheet, axes, view, density)
    if structure.tilts:
        _draw_tilts(sheet, slots[panels - 1], structure.tilts)


def _noise_map(sheet: Sheet, structure: NoiseStructure, basins: Basins | None, density: FloatArray) -> None:
    """D and its ellipses, the noise drift, C against H at the minima, and the tilt."""
    view = plain_view(sheet.grid, sheet.window)
    varies = sheet.problem.diffusion.constant is None
    panels = varies + (structure.noise_drift is not None) + bool(structure.at_minima) + bool(structure.tilts)
    slots = iter(_rows_of_two(sheet, panels, 3.85 * aspect_of(view)))
    span = loss_shown(sheet, basins, density)
    if varies:
        axes = sheet.image_panel(next(slots), view, "Trace of the diffusion D, and its shape")
        _draw_trace(sheet, axes, view)
        loss_lines(sheet, axes, view, span)
        _draw_ellipses(sheet, axes, view, structure.at_minima)
    if structure.noise_drift is not None:
        axes = sheet.image_panel(next(slots), view, "Noise-gradient drift −div D")
        _draw_push(sheet, axes, view)
        loss_lines(sheet, axes, view, span)
        if basins is not None:
            draw_points(sheet, axes, view, basins, beside=True)
    if structure.at_minima:
        _draw_pairs(sheet, next(slots), view, structure.at_minima[:MOST_COMPARED])
    if structure.tilts:
        _draw_tilts(sheet, next(slots), structure.tilts)


def _noise_space(sheet: Sheet, structure: NoiseStructure, basins: Basins | None, density: FloatArray) -> None:
    """Cuts of D with its ellipses, and of the noise drift; below, C over H at the minima, and the tilt."""
    varies, pushes = sheet.problem.diffusion.constant is None, structure.noise_drift is not None
    below = bool(structure.at_minima) + bool(structure.tilts)
    rows = [2.1] * (varies + pushes) + [2.6] * bool(below)
    slots = sheet.divided(11.4, rows, 6, 0.8 * len(rows))
    span = loss_shown(sheet, basins, density)
    for column, view in enumerate(pair_views(sheet.grid, int(np.argmax(density)), sheet.window)):
        place = slice(2 * column, 2 * column + 2)
        if varies:
            axes = sheet.image_panel(slots[0, place], view, f"Trace of D, {cut_words(view).lower()}")
            _draw_trace(sheet, axes, view)
            loss_lines(sheet, axes, view, span)
            _draw_ellipses(sheet, axes, view, structure.at_minima)
        if pushes:
            axes = sheet.image_panel(slots[1, place], view, f"−div D, {cut_words(view).lower()}")
            _draw_push(sheet, axes, view)
            loss_lines(sheet, axes, view, span)
            if basins is not None:
                draw_points(sheet, axes, view, basins, beside=True)
    width = 6 // max(below, 1)
    if structure.at_minima:
        _draw_ratios(sheet, slots[len(rows) - 1, :width], structure.at_minima[:MOST_COMPARED])
    if structure.tilts:
        _draw_tilts(sheet, slots[len(rows) - 1, -width:], structure.tilts)


def _rows_of_two(sheet: Sheet, panels: int, height: float) -> list[SubplotSpec]:
    """Slots for panels in rows of two; one alone takes a whole row."""
    rows = -(-panels // 2)
    slots: GridSpec = sheet.divided(7.6 if panels == 1 else 10.6, [height] * rows, min(panels, 2), 0.8 * rows)
    found = [slots[number // 2, number % 2] for number in range(panels - panels % 2)]
    return [*found, slots[rows - 1, :]] if panels % 2 else found


def _draw_diffusion(sheet: Sheet, axes: Axes, view: View, structure: NoiseStructure) -> None:
    """D on a line, and what is proportional to the Hessian, as large as D at the lowest minimum."""
    (number,) = view.axes
    diffusion = sheet.problem.diffusion_along_axes[number, number]
    position, values = profile(view, view.section(diffusion))
    (line,) = axes.plot(position, values, color=DENSITY_COLOUR)
    sheet.legend["diffusion D"] = line
    top = float(values.max())
    hessian, turned = sheet.problem.landscape.hessian, sheet.grid.turned_matrices
    if structure.at_minima and hessian is not None:
        lowest = structure.at_minima[0].point
        curvature = float(turned(lowest.hessian)[number, number])
        here = float(turned(sheet.problem.diffusion.matrix(lowest.position[:, None]))[number, number, 0])
        if curvature > 0.0:
            (place,), bend = view.evaluate(lambda positions: np.asarray(turned(hessian(positions))[number, number]))
            (line,) = axes.plot(place, here / curvature * bend, color=PASSAGE_COLOUR, linestyle=DASHES, linewidth=1.2)
            sheet.legend["∝ Hessian, as large as D at minimum 1"] = line
        for row, found in enumerate(structure.at_minima[:MOST_COMPARED], 1):
            bent = float(turned(found.point.hessian)[number, number])
            if bent > 0.0:
                ratio = printed(float(turned(found.covariance)[number, number]) / bent)
                sheet.legend[f"minimum {row}: C / H = {ratio}"] = Line2D([], [], linestyle="")
    axes.set_ylim(0.0, 1.15 * top if top > 0.0 else 1.0)
    axes.set_ylabel(f"D({shortened(view.names[0])})", color=DENSITY_COLOUR)


def _draw_drifts(sheet: Sheet, axes: Axes, view: View, density: FloatArray) -> None:
    """The noise drift and the drift on a line, as far up and down as the noise drift and the drift that is seen."""
    noise_drift = view.section(view.components(noise_drift_at_cells(sheet.problem))[0])
    drift = view.section(view.components(sheet.problem.landscape.drift(sheet.grid.positions()))[0])
    lines = {"noise-gradient drift −D′": (noise_drift, PASSAGE_COLOUR), "drift": (drift, INK)}
    lines["both together"] = (noise_drift + drift, DENSITY_COLOUR)
    for words, (values, colour) in lines.items():
        position, row = profile(view, values)
        style: Style = {"linestyle": DASHES, "linewidth": 1.2} if words == "both together" else {}
        (line,) = axes.plot(position, row, color=colour, **style)
        sheet.legend[words] = line
    axes.axhline(0.0, color=PALE, linewidth=0.7, zorder=0.5)
    box = view.section(density)
    seen = box > 1e-2 * box.max()
    height = 1.2 * max(float(np.abs(row[seen]).max()) for row in (noise_drift, drift, noise_drift + drift))
    if height > 0.0:
        axes.set_ylim(-height, height)
    axes.set_ylabel("drift [length/time]")


def _draw_trace(sheet: Sheet, axes: Axes, view: View) -> None:
    box = view.section(np.einsum("iip->p", sheet.problem.diffusion_at_cells))
    words = "trace of D" if len(view.names) == sheet.grid.dimensions else "trace D"
    sheet.colour_bar(axes, paint(axes, view, box, decade_scale(box, NOISE_DECADES), DENSITY_MAP), words)


def _draw_push(sheet: Sheet, axes: Axes, view: View) -> None:
    """How strong the noise drift is, and where it points."""
    vectors = view.section(view.components(noise_drift_at_cells(sheet.problem)))
    strength = np.sqrt((vectors**2).sum(axis=0))
    sheet.colour_bar(axes, paint(axes, view, strength, root_scale(float(strength.max())), INSTANT_MAP), "|div D|")
    arrows(sheet, axes, view, vectors * view.inside, "noise-gradient drift")


def _draw_ellipses(sheet: Sheet, axes: Axes, view: View, minima: Sequence[CovarianceAtMinimum]) -> None:
    """The shape of D on a coarse lattice, and of D and of H at the minima that lie in the view; the size says nothing.

    An ellipse has the square roots of the eigenvalues as half axes: noise of this shape moves a point so far.
    """
    across, up = (_evenly(view.centres(number).size) for number in (0, 1))
    room = np.array([extent / line.size for extent, line in zip(view.extents, (across, up), strict=True)])
    chosen = np.ix_(view.axes, view.axes)
    matrices = view.section(sheet.problem.diffusion_along_axes[chosen])[:, :, up[:, None], across]
    centres = np.stack(np.meshgrid(view.centres(0)[across], view.centres(1)[up]))
    shapes = [
        centres[:, row, column, None] + fitted(_outline(matrices[:, :, row, column]), ELLIPSE_SIZE * room)
        for row, column in np.argwhere(view.inside[up[:, None], across])
    ]
    style: Style = {"facecolors": "white", "edgecolors": INK, "linewidths": 0.7, "alpha": 0.55}
    axes.add_collection(PolyCollection([shape.T for shape in shapes], zorder=3.0, **style), autolim=False)
    sheet.legend["shape of D"] = Patch(facecolor="white", edgecolor=INK, linewidth=0.7)
    turned = sheet.grid.turned_matrices
    here = [found.point for found in minima if _is_held(view, found.point.position)]
    for point in here:
        diffusion = sheet.problem.diffusion.matrix(point.position[:, None])[..., 0]
        for matrix, kind in ((diffusion, SOLID), (point.hessian, DASHED)):
            outline = fitted(_outline(turned(matrix)[chosen]), MINIMUM_SIZE * room)
            outline = outline + view.place(point.position)[:, None]
            axes.add_collection(PolyCollection([outline.T], zorder=4.0, **kind), autolim=False)
    if here:
        sheet.legend["D at a minimum"] = Line2D([], [], color=DENSITY_COLOUR)
        sheet.legend["H at a minimum"] = Line2D([], [], color=PASSAGE_COLOUR, linestyle=DASHES)


def _evenly(count: int) -> IntArray:
    """About ELLIPSES of so many numbers, equally far apart."""
    step = -(-count // ELLIPSES)
    return np.arange(step // 2, count, step)


def _is_held(view: View, position: FloatArray) -> bool:
    """Whether a point lies in the cells in which the axes that a view lacks are held."""
    along = view.grid.along(position)
    others = [number for number in range(view.grid.dimensions) if number not in view.axes]
    indices = [view.grid.axes[number].index(along[number]) for number in others]
    return all(abs(index - view.held[number]) <= 1.0 for index, number in zip(indices, others, strict=True))


def _outline(matrix: FloatArray) -> FloatArray:
    """The ellipse of a symmetric matrix (2, 2), negative eigenvalues as if positive: (2, corners), around zero."""
    values, vectors = np.linalg.eigh(matrix)
    angle = np.linspace(0.0, 2.0 * np.pi, CORNERS)
    half = np.sqrt(np.abs(values) / max(float(np.abs(values).max()), np.finfo(np.float64).tiny))
    return np.asarray(vectors @ (half[:, None] * np.array([np.cos(angle), np.sin(angle)])))


def fitted(outline: FloatArray, room: FloatArray) -> FloatArray:
    """An outline (2, corners) around zero made as large as fits into a box, (2,) wide, its shape kept."""
    widths = 2.0 * np.abs(outline).max(axis=1)
    return np.asarray(outline * float((room / np.maximum(widths, np.finfo(np.float64).tiny)).min()))


def _draw_pairs(sheet: Sheet, slot: SubplotSpec, view: View, minima: Sequence[CovarianceAtMinimum]) -> None:
    """The ellipses of C and of H at every minimum, of the same trace, and their ratio along H's directions."""
    axes = sheet.figure.add_subplot(slot)
    axes.set_title("Gradient covariance C against the Hessian H")
    room = 0.4 if len(minima) == 1 else 0.0
    axes.set_xlim(-room, len(minima) + room)
    axes.set_ylim(-0.55, 0.55)
    axes.set_aspect("equal", adjustable="box")
    chosen = np.ix_(view.axes, view.axes)
    for number, found in enumerate(minima):
        centre = np.array([[number + 0.5], [0.0]])
        pair = (found.covariance, found.point.hessian)
        outlines = [_sized(sheet.grid.turned_matrices(matrix)[chosen]) for matrix in pair]
        widest = max(float(np.abs(outline).max()) for outline in outlines)
        for outline, kind in zip(outlines, (SOLID, DASHED), strict=True):
            if widest > 0.0:
                axes.add_collection(PolyCollection([(centre + 0.45 / widest * outline).T], **kind), autolim=False)
    words = [f"minimum {number}\n{_comparison(found)}" for number, found in enumerate(minima, 1)]
    axes.set_xticks([number + 0.5 for number in range(len(minima))], words)
    axes.set_yticks([])
    across, up = (shortened(name, 16) for name in view.names)
    axes.set_xlabel("C / H along the directions of H; how far C is from being ∝ H")
    axes.set_ylabel(f"{across} across, {up} up")
    sheet.legend["C, of the same trace as H"] = Line2D([], [], color=DENSITY_COLOUR)
    sheet.legend["H"] = Line2D([], [], color=PASSAGE_COLOUR, linestyle=DASHES)


def _sized(matrix: FloatArray) -> FloatArray:
    """The ellipse of a symmetric matrix (2, 2) over its trace."""
    trace = float(np.abs(np.linalg.eigvalsh(matrix)).sum())
    largest = float(np.abs(np.linalg.eigvalsh(matrix)).max())
    return _outline(matrix) * math.sqrt(largest / trace if trace > 0.0 else 0.0)


def _comparison(found: CovarianceAtMinimum) -> str:
    """How far C is from H, in a few words below each other."""
    if not math.isfinite(found.difference):
        return "no noise"
    return f"{', '.join(printed(ratio, 2) if np.isfinite(ratio) else '–' for ratio in found.ratios)}\n{_share(found)}"


def _share(found: CovarianceAtMinimum) -> str:
    share = 100.0 * found.difference
    return "0 %" if share < 1e-6 else f"{printed(share, 2)} %"


def _draw_ratios(sheet: Sheet, slot: SubplotSpec, minima: Sequence[CovarianceAtMinimum]) -> None:
    """C over H along every direction of H, a mark each, one colour a minimum; C ∝ H is a level line."""
    axes = sheet.figure.add_subplot(slot)
    axes.set_title("Gradient covariance C over the Hessian H at the minima")
    for number, found in enumerate(minima):
        colour = LINE_COLOURS[number % len(LINE_COLOURS)]
        known = np.isfinite(found.ratios) & (found.hessian_eigenvalues > 0.0)
        style = MARK | {"markersize": 12.0 - 2.5 * number}  # one upon the other both show
        axes.plot(found.hessian_eigenvalues[known], found.ratios[known], color=colour, **style)
        words = f"{_share(found)} from C ∝ H" if math.isfinite(found.difference) else "no noise"
        sheet.legend[f"minimum {number + 1}: {words}"] = Line2D([], [], color=colour, **MARK)
    axes.axhline(1.0, color=PALE, linewidth=0.9, linestyle=DASHES)
    sheet.legend["C = H"] = Line2D([], [], color=PALE, linewidth=0.9, linestyle=DASHES)
    axes.margins(0.08, 0.15)
    set_ticks(axes)
    axes.set_xlabel("eigenvalue of H")
    axes.set_ylabel("C / H along its direction")
    values = np.concatenate([[1.0], *(found.ratios[np.isfinite(found.ratios)] for found in minima)])
    if values.min() > 0.0 and values.max() > WIDE_RATIOS * values.min():
        axes.set_yscale("log")
        axes.set_ylim(0.5 * values.min(), 2.0 * values.max())
        label_powers(axes.yaxis)
    else:
        axes.set_ylim(bottom=min(0.0, float(values.min())))


def _draw_tilts(sheet: Sheet, slot: SubplotSpec, tilts: Sequence[Tilt]) -> None:
    """The tilt on every climb over the share of its length, on bands that say what it means."""
    axes = sheet.figure.add_subplot(slot)
    worst = max(tilt.largest for tilt in tilts)
    axes.set_title(f"Tilt of the noise of an example on the way out: up to {printed(worst, 2)}")
    top = 1.2 * max(min(worst, HIGHEST_TILT), 1.2 * NOTICEABLE_TILT)
    bands: dict[str, tuple[float, float, Any]] = {
        f"tilt below {NOTICEABLE_TILT:g}: Fokker–Planck holds without long tails": (0.0, NOTICEABLE_TILT, "#009e73"),
        f"up to {LARGE_TILT:g}: off by tens of per cent": (NOTICEABLE_TILT, LARGE_TILT, "#e69f00"),
        "above: off by factors": (LARGE_TILT, top, "#d55e00"),
    }
    for words, (low, high, colour) in bands.items():
        if low < top:
            axes.axhspan(low, min(high, top), color=colour, alpha=0.13, linewidth=0, zorder=0.5)
            sheet.legend[words] = Patch(facecolor=colour, alpha=0.3)
    for number, tilt in enumerate(tilts):
        values = np.where(np.isfinite(tilt.values), tilt.values, np.nan)
        share = tilt.arc_length / tilt.arc_length[-1]
        words = "tilt on the most probable path" if number == 0 else f"over saddle {number + 1}"
        (line,) = axes.plot(share, values, color=TILT_COLOURS[number % len(TILT_COLOURS)])
        sheet.legend[words] = line
    axes.set_xlim(0.0, 1.0)
    axes.set_ylim(0.0, top)
    set_ticks(axes)
    axes.set_xlabel("way from the minimum to the saddle, share of its length")
    axes.set_ylabel("2 √(∇L · C⁻¹∇L)")
