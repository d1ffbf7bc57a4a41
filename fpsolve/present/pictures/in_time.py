"""The picture of the density in time."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.ticker import MaxNLocator

from fpsolve.analyse.motion import Motion
from fpsolve.model.grid import FloatArray, IntArray
from fpsolve.present.pictures.layers import bands, loss_lines, loss_range, outlines, paint, profile
from fpsolve.present.pictures.scales import TINIEST, linear_scale, root_scale
from fpsolve.present.pictures.sheet import NICE_STEPS, Sheet, aspect_of, hide_inner, legend_beside, set_ticks
from fpsolve.present.pictures.style import DENSITY_MAP, GATE_COLOURS, INSTANT_MAP, LINE_COLOURS, LOSS_COLOUR
from fpsolve.present.pictures.views import View, drawn_axes, limits_of, pair_views, plain_view, shown_variables
from fpsolve.present.pictures.words import brief_words, density_words, label_numbers, label_powers, printed, shortened

SNAPSHOTS = {1: 5, 2: 6, 3: 4}  # by the number of drawn axes
ALIKE = 10.0  # ratio of the box's sides up to which their means are drawn to one scale
STEP_TICKS = 5
EVEN = 1e-6  # relative difference of learning rates that is rounding
UNEVEN = 4.0  # ratio of peaks from which every snapshot has its own scale


def draw_motion(sheet: Sheet, motion: Motion) -> Figure:
    """The density at some instants, and over them its mean, width, and share of the regions."""
    draw = {1: _motion_line, 2: _motion_map, 3: _motion_space}[len(drawn_axes(sheet.grid))]
    draw(sheet, motion)
    return sheet.finished()


def _motion_line(sheet: Sheet, motion: Motion) -> None:
    """The density over time and position, its profiles at some instants, and the strip."""
    view = plain_view(sheet.grid, sheet.window)
    boxes = view.section(motion.density)
    slots = sheet.divided(10.6, [2.8, 1.9], 2, 2.0)
    _space_and_time(sheet, slots[0, 0], view, motion, boxes)
    instants = instants_shown(boxes, motion.times, SNAPSHOTS[1])
    axes = sheet.line_panel(slots[0, 1], view, "Density at some instants")
    colours = INSTANT_MAP(np.linspace(0.0, 0.9, instants.size))
    for instant, colour in zip(instants, colours, strict=True):
        axes.plot(*profile(view, boxes[instant]), color=colour, label=moment_words(motion, instant))
    axes.set_ylim(0.0, 1.08 * (linear_scale(_common_peak(boxes[instants].max(axis=1))).vmax or 1.0))
    axes.set_ylabel(density_words(sheet.grid.variables))
    legend_beside(axes)
    bands(sheet, axes, view, sheet.named())
    _strip(sheet, [slots[1, 0], slots[1, 1]], slots[1, :], motion)


def _space_and_time(sheet: Sheet, slot: SubplotSpec, view: View, motion: Motion, boxes: FloatArray) -> None:
    """An image of a density (times, across), time across and position up."""
    axes = sheet.figure.add_subplot(slot)
    set_ticks(axes)
    axes.set_title("Density in time")
    spread = _is_spread(motion.times)
    times = motion.times[1:] if spread else motion.times
    peaks = boxes.max(axis=1)
    norm = root_scale(_common_peak(peaks))
    edges = _time_edges(times, spread)
    mesh = axes.pcolormesh(edges, view.edges(0), boxes[-times.size :].T, norm=norm, cmap=DENSITY_MAP)
    time_axis(axes, motion)
    axes.set_ylabel(shortened(view.names[0]))
    cut = norm.vmax is not None and float(peaks.max()) > norm.vmax
    sheet.colour_bar(axes, mesh, density_words(sheet.grid.variables), "max" if cut else None)


def _motion_map(sheet: Sheet, motion: Motion) -> None:
    """The density at some instants, and the strip."""
    view = plain_view(sheet.grid, sheet.window)
    instants = instants_shown(view.section(motion.density), motion.times, SNAPSHOTS[2])
    columns = instants.size if instants.size <= 3 else -(-instants.size // 2)
    rows = -(-instants.size // columns)
    height = min(9.4 / columns - 0.25, 3.6) * aspect_of(view)
    slots = sheet.divided(10.8, [height] * rows + [strip_height(motion)], columns, 0.5 * rows + 0.6)
    parts = [slots[number // columns, number % columns] for number in range(instants.size)]
    panels = _snapshots(sheet, parts, view, motion, instants, view.section(motion.density[instants]))
    span = loss_range(sheet.problem, motion.density[instants].max(axis=0))
    for number, axes in enumerate(panels):
        loss_lines(sheet, axes, view, span)
        outlines(sheet, axes, view, sheet.named())
        hide_inner(axes, left=number % columns == 0, bottom=number + columns >= instants.size)
    _strip(sheet, [], slots[rows, :], motion)


def _motion_space(sheet: Sheet, motion: Motion) -> None:
    """The density at some instants integrated over one variable, a row for each, and the strip."""
    views = pair_views(sheet.grid, 0, sheet.window)
    marginals = [view.integral(motion.density) for view in views]
    flat = np.concatenate([boxes.reshape(len(boxes), -1) for boxes in marginals], axis=1)
    instants = instants_shown(flat, motion.times, SNAPSHOTS[3])
    slots = sheet.divided(11.4, [2.0, 2.0, 2.0, strip_height(motion)], instants.size, 2.5)
    for row, (view, boxes) in enumerate(zip(views, marginals, strict=True)):
        parts = [slots[row, column] for column in range(instants.size)]
        panels = _snapshots(sheet, parts, view, motion, instants, boxes[instants])
        for number, axes in enumerate(panels):
            hide_inner(axes, left=number == 0, bottom=True)
    _strip(sheet, [], slots[3, :], motion)


def _snapshots(
    sheet: Sheet, slots: Sequence[SubplotSpec], view: View, motion: Motion, instants: IntArray, boxes: FloatArray
) -> list[Axes]:
    """Boxes at some instants on one scale; where their peaks differ much, each as a share of its own peak."""
    peaks = boxes.max(axis=(1, 2))
    own = bool(peaks.max() > UNEVEN * peaks.min() and peaks.min() > TINIEST)
    norm = root_scale(1.0 if own else float(peaks.max()))
    words = brief_words(density_words(view.names)) + (" / peak" if own else "")
    panels = []
    for slot, instant, box, peak in zip(slots, instants, boxes, peaks, strict=True):
        title = moment_words(motion, instant) + (f"\npeak {printed(float(peak))}" if own else "")
        axes = sheet.image_panel(slot, view, title)
        mesh = paint(axes, view, box / peak if own else box, norm, DENSITY_MAP)
        if slot is slots[-1] or slot.colspan.stop == slot.get_gridspec().ncols:
            sheet.colour_bar(axes, mesh, words)
        panels.append(axes)
    return panels


def moment_words(motion: Motion, instant: int) -> str:
    """'t = 2.5 (25 steps)'."""
    words = f"t = {printed(float(motion.times[instant]))}"
    return words if motion.steps is None else f"{words} ({printed(float(motion.steps[instant]))} steps)"


def _common_peak(peaks: FloatArray) -> float:
    """The highest of several peaks; where a few stand out, they are cut off."""
    return min(float(peaks.max()), UNEVEN * float(np.median(peaks)))


def instants_shown(boxes: FloatArray, times: FloatArray, count: int) -> IntArray:
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


def time_axis(axes: Axes, motion: Motion) -> None:
    """Time across, and SGD steps above where there are any."""
    times, steps = motion.times, motion.steps
    spread = _is_spread(times)
    axes.set_xscale("log" if spread else "linear")
    axes.set_xlim(float(times[1] if spread else times[0]), float(times[-1]))
    axes.set_xlabel("time t")
    shown = [axes.xaxis]
    if steps is not None:
        # Beyond the end the last pace goes on: ticks that lie outside must not be drawn at the edge.
        long, more = (np.append(row, 3.0 * row[-1] - 2.0 * row[-2]) for row in (times, steps))
        there, back = (lambda time: np.interp(time, long, more)), (lambda step: np.interp(step, more, long))
        above = axes.secondary_xaxis("top", functions=(there, back))
        above.set_xlabel("SGD steps")
        shown.append(above.xaxis)
        label_numbers(above.xaxis)
        if not spread and (ticks := _step_ticks(times, steps)).size:
            above.set_xticks(ticks, [printed(float(tick)) for tick in ticks])
    for axis in shown if spread else []:
        label_powers(axis)


def _step_ticks(times: FloatArray, steps: FloatArray) -> FloatArray:
    """Round numbers of SGD steps about evenly spread over the time, none beyond its end."""
    rates = np.diff(steps) / np.diff(times)
    if rates.max() - rates.min() <= EVEN * rates.max():
        even = np.asarray(MaxNLocator(STEP_TICKS - 1, steps=NICE_STEPS).tick_values(float(steps[0]), float(steps[-1])))
        return even[(even >= steps[0]) & (even <= steps[-1])]
    at = np.interp(np.linspace(times[0], times[-1], STEP_TICKS), times, steps)
    ticks = np.unique([float(f"{step:.2g}") for step in at])
    return ticks[ticks <= steps[-1]]


def strip_height(motion: Motion) -> float:
    """Height [inches] of a strip in parts of a row, with its names and numbers."""
    return 2.2 if motion.steps is None else 2.6


def _strip(sheet: Sheet, slots: Sequence[SubplotSpec], whole: SubplotSpec, motion: Motion) -> None:
    """Over time, beside each other: mean and standard deviation, probabilities, first passage or an observable.

    In the slots where as many are given, else in parts of the whole row.
    """
    draw = [_means]
    if motion.occupation or motion.absorbed:
        draw.append(_shares)
    if motion.absorbed:
        draw.append(_arrivals)
    elif motion.observables:
        draw.append(_observable)
    parts = whole.subgridspec(1, len(draw))
    slots = slots if len(slots) == len(draw) else [parts[0, number] for number in range(len(draw))]
    for slot, panel in zip(slots, draw, strict=True):
        axes = sheet.figure.add_subplot(slot)
        set_ticks(axes)
        panel(sheet, axes, motion)
        time_axis(axes, motion)


def _means(sheet: Sheet, axes: Axes, motion: Motion) -> None:
    """Mean and standard deviation of every variable; as shares of the box where its sides differ much."""
    grid = sheet.grid
    drawn = [(number, shortened(grid.variables[number], 16)) for number in shown_variables(grid)]
    ends = [limits_of(grid, sheet.window, number) for number, _ in drawn]
    lengths = [upper - lower for lower, upper in ends]
    alike = grid.frame is not None or max(lengths) <= ALIKE * min(lengths)
    for (number, name), (lower, upper), colour in zip(drawn, ends, LINE_COLOURS, strict=False):
        mean, deviation = motion.mean[:, number], np.sqrt(np.maximum(motion.covariance[:, number, number], 0.0))
        if not alike:
            mean, deviation = (mean - lower) / (upper - lower), deviation / (upper - lower)
        axes.fill_between(motion.times, mean - deviation, mean + deviation, color=colour, alpha=0.2, linewidth=0)
        axes.plot(motion.times, mean, color=colour, label=name)
    axes.set_title("Mean ± standard deviation")
    names = ", ".join(grid.variables[number] for number, _ in drawn)
    axes.set_ylabel(shortened(names, 24) if alike else "share of the box")
    if len(drawn) > 1:
        legend_beside(axes)


def _shares(sheet: Sheet, axes: Axes, motion: Motion) -> None:
    """Occupation of the watched regions, and what has gone through the gates."""
    others = itertools.cycle(GATE_COLOURS)
    lines = [(f"in {name}", values, sheet.colours.get(name)) for name, values in motion.occupation.items()]
    lines += [(f"through {gate}", values, None) for gate, values in motion.absorbed.items()]
    for words, values, colour in lines:
        axes.plot(motion.times, values, color=colour or next(others), label=shortened(words, 20))
    top = max(float(values.max()) for _, values, _ in lines)
    axes.set_ylim(0.0, 1.05 * (top if top > TINIEST else 1.0))
    axes.set_title("Where the probability is")
    axes.set_ylabel("probability")
    legend_beside(axes)


def _observable(sheet: Sheet, axes: Axes, motion: Motion) -> None:
    """The mean of the loss, or else of the first observable."""
    name = "loss" if "loss" in motion.observables else next(iter(motion.observables))
    axes.plot(motion.times, motion.observables[name], color=LOSS_COLOUR)
    axes.set_title(f"Mean {shortened(name, 20)}")
    axes.set_ylabel(shortened(name, 20))


def _arrivals(sheet: Sheet, axes: Axes, motion: Motion) -> None:
    """The density of the first-passage time, and its median where that is known."""
    passage = motion.first_passage
    assert passage is not None
    axes.plot(motion.times, passage.density, color=LOSS_COLOUR)
    axes.set_ylim(bottom=0.0)
    median = passage.quantiles[0.5]
    words = "" if median is None else f", median {printed(median)}"
    if median is not None:
        axes.axvline(median, color=LOSS_COLOUR, linestyle="--", linewidth=1.0)
    axes.set_title(f"First-passage time{words}")
    axes.set_ylabel("density [1/time]")
