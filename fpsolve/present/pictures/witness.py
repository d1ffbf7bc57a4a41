"""The picture of the witness: walkers beside the densities and the escape times that they should have."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import SubplotSpec
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from fpsolve.analyse.ensemble import ExitTimes
from fpsolve.analyse.escape import Escape
from fpsolve.analyse.motion import Motion
from fpsolve.analyse.rest import AtRest
from fpsolve.analyse.witness import PROCESS_WORDS, Comparison, Runs, Witness
from fpsolve.model.grid import FloatArray
from fpsolve.present.pictures.beside import DENSITY_WORDS, Instant, columns_of, draw_instants, height_of
from fpsolve.present.pictures.in_time import ALIKE, instants_shown, moment_words, time_axis
from fpsolve.present.pictures.sheet import Sheet, set_ticks
from fpsolve.present.pictures.style import DENSITY_COLOUR, INK, LINE_COLOURS, PALE, PASSAGE_COLOUR
from fpsolve.present.pictures.views import drawn_axes, limits_of, shown_variables
from fpsolve.present.pictures.words import label_logarithms, label_powers, printed, printed_from_logarithm, shortened
from fpsolve.present.witness_words import SAMPLING_WORDS, witness_name

WIDTH = 11.4  # inches
SNAPSHOTS = 4
ERROR_BARS = 14  # over time
SURE = 2.0  # standard errors that bars and bands reach
BINS = 40  # of exit times
ENOUGH_EXITS = 100  # for a histogram
SHOWN_EXITS = 0.99  # share of the exits that its axis holds
BELOW_ONE = 0.5  # of a single walker, down to where the share inside is drawn

BARS: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 3.5, "capsize": 2.5, "linewidth": 1.1}


@final
@dataclass(frozen=True)
class _Row:
    """A row of panels: its height, what names and numbers take beside that [inches], and how it is drawn."""

    height: float
    around: float
    draw: Callable[[SubplotSpec], None]


def draw_witness(
    sheet: Sheet, witness: Witness, *, rest: AtRest | None, motion: Motion | None, escape: Escape | None
) -> Figure:
    """Walkers beside the density in time, with moments and distances over it, beside that at rest, and their exits.

    rest, motion, escape: what the walkers are compared with; None leaves that part out, as it does in the witness.
    """
    sheet = replace(sheet, title=f"{sheet.title}: {_walkers_words(sheet, witness)}")
    name = PROCESS_WORDS[witness.process]
    rows: list[_Row] = []
    if witness.motion is not None and motion is not None:
        rows += [_moving(sheet, witness.motion, motion, name), _strip(sheet, witness.motion, motion, name)]
    if witness.rest is not None and rest is not None:
        rows.append(_resting(sheet, witness.rest, rest, name))
    if witness.escape is not None and escape is not None:
        rows.append(_exits(sheet, witness.escape, escape, name))
    slots = sheet.divided(WIDTH, [row.height for row in rows], 1, sum(row.around for row in rows))
    for number, row in enumerate(rows):
        row.draw(slots[number, 0])
    return sheet.finished()


def _walkers_words(sheet: Sheet, witness: Witness) -> str:
    """'SGD, 4000 runs, batches with replacement'."""
    ensemble, words = witness.ensemble, [witness_name(witness)]
    if witness.process == "sgd":
        own = str(getattr(sheet.problem.noise, "sampling", "replacement"))
        words.append(SAMPLING_WORDS[ensemble.sampling or own])
    if ensemble.momentum > 0.0:
        words.append(f"momentum {printed(ensemble.momentum)}")
    if ensemble.tail_index is not None:
        words.append(f"stable steps of tail index {printed(ensemble.tail_index)}")
    return ", ".join(words)


def _moving(sheet: Sheet, found: Comparison, motion: Motion, name: str) -> _Row:
    """Densities and walkers at some instants after the start, of three variables at the last."""
    flat = motion.density[1:]
    numbers = 1 + instants_shown(flat, motion.times[1:], SNAPSHOTS)
    numbers = numbers[-1:] if len(drawn_axes(sheet.grid)) == 3 else numbers
    walkers = found.runs.swarm.walkers
    instants = [
        Instant(motion.density[at], found.counts[at], walkers, found.distances[at], moment_words(motion, at))
        for at in numbers
    ]
    columns = columns_of(sheet.grid, len(instants))
    height, around = height_of(sheet, columns, len(instants), WIDTH)

    def draw(slot: SubplotSpec) -> None:
        parts = slot.subgridspec(2, columns) if _stacked(sheet, len(instants)) else slot.subgridspec(1, columns)
        slots = [[parts[row, column] for column in range(columns)] for row in range(parts.nrows)]
        draw_instants(sheet, slots, instants, name)

    return _Row(height, around, draw)


def _stacked(sheet: Sheet, instants: int) -> bool:
    """Whether walkers stand below the density."""
    dimensions = len(drawn_axes(sheet.grid))
    return dimensions == 3 or (dimensions == 2 and instants > 1)


def _resting(sheet: Sheet, found: Comparison, rest: AtRest, name: str) -> _Row:
    """The density at rest and the walkers at the last look, and their moments over all looks."""
    counts, distance = found.counts[-1], found.distances[-1]
    instant = Instant(rest.density, counts, found.runs.swarm.walkers, distance, "at rest")
    columns = columns_of(sheet.grid, 1, further=1)
    height, around = height_of(sheet, columns, 1, WIDTH)

    def draw(slot: SubplotSpec) -> None:
        parts = slot.subgridspec(2 if _stacked(sheet, 1) else 1, columns)
        slots = [[parts[row, column] for column in range(columns - 1)] for row in range(parts.nrows)]
        draw_instants(sheet, slots, [instant], name)
        _draw_moments(sheet, sheet.figure.add_subplot(parts[:, columns - 1]), found, rest, name)

    return _Row(height, around, draw)


def _draw_moments(sheet: Sheet, axes: Axes, found: Comparison, rest: AtRest, name: str) -> None:
    """How far means and covariances of the walkers are from those of the density, in standard errors."""
    moments, labels, apart = found.moments, [], []
    drawn = shown_variables(sheet.grid)
    names = [shortened(variable, 10) for variable in sheet.grid.variables]
    for one in drawn:
        labels.append(f"mean {names[one]}")
        apart.append((moments.mean[-1, one] - rest.mean[one]) / moments.mean_error[-1, one])
    for one in drawn:
        for other in (axis for axis in drawn if axis >= one):
            labels.append(f"var {names[one]}" if one == other else f"cov {names[one]}, {names[other]}")
            difference = moments.covariance[-1, one, other] - rest.covariance[one, other]
            apart.append(difference / moments.covariance_error[-1, one, other])
    places = np.arange(len(labels))[::-1]
    axes.axvspan(-SURE, SURE, color=PALE, alpha=0.25, linewidth=0)
    axes.axvline(0.0, color=DENSITY_COLOUR)
    axes.plot(apart, places, color=PASSAGE_COLOUR, marker="o", markersize=5, linestyle="none")
    reach = 1.15 * max(2.0 * SURE, float(np.abs(apart).max()))
    axes.set_xlim(-reach, reach)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.set_ylim(-0.6, len(labels) - 0.4)
    axes.set_yticks(places, labels)
    axes.set_title(f"{name} − Fokker-Planck")
    axes.set_xlabel("difference / standard error")
    axes.set_ylabel("moment")
    sheet.legend["within 2 standard errors of Fokker-Planck"] = Patch(facecolor=PALE, alpha=0.25)


def _strip(sheet: Sheet, found: Comparison, motion: Motion, name: str) -> _Row:
    """Means, variances and the distance over time."""

    def draw(slot: SubplotSpec) -> None:
        parts = slot.subgridspec(1, 3)
        panels = [sheet.figure.add_subplot(parts[0, column]) for column in range(3)]
        for axes in panels:
            set_ticks(axes)
        _draw_means(sheet, panels[0], found, motion)
        _draw_variances(sheet, panels[1], found, motion)
        _draw_distances(sheet, panels[2], found, motion, name)
        for axes in panels:
            time_axis(axes, motion)
        _name_lines(sheet, name)

    return _Row(1.9, 0.85 if motion.steps is None else 1.25, draw)


def _scales(sheet: Sheet) -> tuple[list[tuple[int, str, float, float]], bool]:
    """The variables with their colours, where they begin and how long they are; whether they are alike: 0 and 1."""
    drawn = shown_variables(sheet.grid)
    ends = [limits_of(sheet.grid, sheet.window, axis) for axis in drawn]
    lengths = [upper - lower for lower, upper in ends]
    alike = sheet.grid.frame is not None or max(lengths) <= ALIKE * min(lengths)
    units = [(0.0, 1.0) if alike else (lower, upper - lower) for lower, upper in ends]
    return [(axis, colour, *unit) for axis, colour, unit in zip(drawn, LINE_COLOURS, units, strict=False)], alike


def _draw_means(sheet: Sheet, axes: Axes, found: Comparison, motion: Motion) -> None:
    scales, alike = _scales(sheet)
    for axis, colour, begin, length in scales:
        pairs = (motion.mean[:, axis], found.moments.mean[:, axis], found.moments.mean_error[:, axis])
        line, points, errors = (pairs[0] - begin) / length, (pairs[1] - begin) / length, pairs[2] / length
        _draw_pair(axes, motion.times, line, points, errors, colour)
    axes.set_title("Mean")
    axes.set_ylabel("mean" if alike else "mean, share of the box")


def _draw_variances(sheet: Sheet, axes: Axes, found: Comparison, motion: Motion) -> None:
    scales, alike = _scales(sheet)
    for axis, colour, _, length in scales:
        pairs = (motion.covariance, found.moments.covariance, found.moments.covariance_error)
        line, points, errors = (values[:, axis, axis] / length**2 for values in pairs)
        _draw_pair(axes, motion.times, line, points, errors, colour)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]) if axes.dataLim.y0 < 0.0 else 0.0)
    axes.set_title("Variance")
    axes.set_ylabel("variance" if alike else "variance, share of the box squared")


def _draw_pair(
    axes: Axes, times: FloatArray, line: FloatArray, points: FloatArray, errors: FloatArray, colour: str
) -> None:
    """Fokker-Planck as a line, walkers as points with bars at some of the times."""
    axes.plot(times, line, color=colour)
    shown = np.unique(np.linspace(0, times.size - 1, min(ERROR_BARS, times.size)).round().astype(np.int64))
    axes.errorbar(times[shown], points[shown], SURE * errors[shown], color=colour, clip_on=False, **BARS)


def _name_lines(sheet: Sheet, name: str) -> None:
    """What lines and points of the strip are, and the colours of the variables where there are several."""
    scales, _ = _scales(sheet)
    colour = scales[0][1] if len(scales) == 1 else INK
    sheet.legend[DENSITY_WORDS] = Line2D([], [], color=colour)
    sheet.legend[f"{name} ± {SURE:g} standard errors"] = Line2D(
        [], [], color=colour, marker="o", linestyle="none", markersize=4
    )
    if len(scales) > 1:
        for axis, tone, *_ in scales:
            sheet.legend[shortened(sheet.grid.variables[axis], 16)] = Line2D([], [], color=tone, linewidth=3.0)


def _draw_distances(sheet: Sheet, axes: Axes, found: Comparison, motion: Motion, name: str) -> None:
    """The L1 distance over time, and what chance makes of it."""
    known = [(time, some) for time, some in zip(motion.times, found.distances, strict=True) if some is not None]
    times = np.array([time for time, _ in known])
    values, expected, reach = (
        np.array([part for _, some in known for part in [getattr(some, key)]])
        for key in ("value", "expected", "deviation")
    )
    axes.fill_between(times, expected - SURE * reach, expected + SURE * reach, color=PALE, alpha=0.35, linewidth=0)
    axes.plot(times, values, color=PASSAGE_COLOUR, marker="o", markersize=3, linewidth=0.9, clip_on=False)
    axes.set_ylim(0.0, 1.1 * max(float(values.max()), float((expected + SURE * reach).max())))
    axes.set_title(f"Distance of {name} and density")
    axes.set_ylabel("L1 distance")
    sheet.legend["L1 distance"] = Line2D([], [], color=PASSAGE_COLOUR, marker="o", markersize=3, linewidth=0.9)
    sheet.legend[f"its mean ± {SURE:g} deviations by chance"] = Patch(facecolor=PALE, alpha=0.35)


def _exits(sheet: Sheet, runs: Runs, escape: Escape, name: str) -> _Row:
    """Who is still inside, and when they left; where none left, what bound that sets."""
    if not runs.exits.exits:
        return _Row(0.7, 1.0, lambda slot: _draw_bound(sheet, sheet.figure.add_subplot(slot), runs, escape, name))

    def draw(slot: SubplotSpec) -> None:
        both = runs.exits.exits >= ENOUGH_EXITS
        parts = slot.subgridspec(1, 2 if both else 1)
        _draw_survival(sheet, sheet.figure.add_subplot(parts[0, 0]), runs, escape, name)
        if both:
            _draw_exit_times(sheet, sheet.figure.add_subplot(parts[0, 1]), runs, escape, name)

    return _Row(3.0, 1.0, draw)


def _decay(escape: Escape) -> float:
    """The logarithm of the time in which what is inside decays."""
    return escape.times.get("quasi_stationary", escape.times["mean_first_passage_time"]).log_time


def _draw_survival(sheet: Sheet, axes: Axes, runs: Runs, escape: Escape, name: str) -> None:
    """The share still inside over time beside Fokker-Planck's; both means, at 1/e as for an exponential law."""
    swarm, exits, mean = runs.swarm, runs.exits, escape.times["mean_first_passage_time"]
    left = np.sort(swarm.exit_times[np.isfinite(swarm.exit_times)] - swarm.begin)
    end = float(swarm.times[-1] - swarm.begin) if exits.censored else float(left[-1])
    inside = 1.0 - np.arange(left.size + 1) / swarm.walkers
    times = np.linspace(0.0, end, 400)
    axes.plot(times, np.exp(-times * math.exp(-_decay(escape))), color=DENSITY_COLOUR)
    steps = np.concatenate([[0.0], left, [end]])
    axes.step(steps, np.append(inside, inside[-1]), where="post", color=PASSAGE_COLOUR, linewidth=1.2)
    axes.set_yscale("log")
    level = math.exp(-1.0)
    if mean.value is not None and mean.value <= end:
        style: dict[str, Any] = {"color": DENSITY_COLOUR, "marker": "D", "markersize": 7, "linestyle": "none"}
        axes.plot([mean.value], [level], markeredgecolor="white", zorder=4, **style)
        sheet.legend["mean first-passage time, at 1/e"] = Line2D([], [], **style)
    if exits.value is not None and exits.value <= end:
        _draw_mean(sheet, axes, exits, level, name)
    axes.set_xlim(0.0, end)
    axes.set_ylim(min(BELOW_ONE / swarm.walkers, 0.1), 1.3)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_locator(LogLocator(numticks=6))
    axes.yaxis.set_minor_locator(NullLocator())
    label_powers(axes.yaxis)
    axes.set_xlabel("time t")
    axes.set_ylabel("share still inside")
    axes.set_title(_exit_title(exits, mean.log10, name))
    sheet.legend["Fokker-Planck: exp(−t / quasi-stationary time)"] = Line2D([], [], color=DENSITY_COLOUR)
    sheet.legend[f"{name}: exits"] = Line2D([], [], color=PASSAGE_COLOUR, linewidth=1.2)


def _draw_mean(sheet: Sheet, axes: Axes, exits: ExitTimes, level: float, name: str) -> None:
    """The mean of the walkers with its confidence interval."""
    assert exits.value is not None
    reach = [[exits.value - exits.interval[0]], [exits.interval[1] - exits.value]]
    style: dict[str, Any] = {"color": PASSAGE_COLOUR, "marker": "o", "markersize": 4}
    axes.errorbar([exits.value], [level], xerr=reach, capsize=7, capthick=1.6, zorder=5, **style)
    sheet.legend[f"mean of {name}, 95 % interval"] = Line2D([], [], linestyle="none", **style)


def _exit_title(exits: ExitTimes, log10: float, name: str) -> str:
    """Both means: 'SGD 105 (102 to 108), Fokker-Planck 152'."""
    expected = f"Fokker-Planck {printed_from_logarithm(log10)}"
    if exits.value is None:
        return f"None left: mean of {name} above {printed(exits.interval[0])}, {expected}"
    lower, upper = (printed(end) for end in exits.interval)
    return f"Mean exit time: {name} {printed(exits.value)} ({lower} to {upper}), {expected}"


def _draw_bound(sheet: Sheet, axes: Axes, runs: Runs, escape: Escape, name: str) -> None:
    """Where none left: the bound on the mean that this sets, and Fokker-Planck's mean, on an axis of powers of ten."""
    bound, mean = math.log10(runs.exits.interval[0]), escape.times["mean_first_passage_time"].log10
    low, high = min(bound, mean), max(bound, mean)
    room = 0.5 + 0.1 * (high - low)
    axes.axvspan(bound, high + room, color=PASSAGE_COLOUR, alpha=0.2, linewidth=0)
    axes.axvline(bound, color=PASSAGE_COLOUR)
    style: dict[str, Any] = {"color": DENSITY_COLOUR, "marker": "D", "markersize": 7, "linestyle": "none"}
    axes.plot([mean], [0.5], **style)
    axes.set_xlim(low - room, high + room)
    axes.set_ylim(0.0, 1.0)
    axes.set_yticks([])
    label_logarithms(axes.xaxis)
    axes.set_xlabel("mean exit time")
    axes.set_ylabel(name)
    axes.set_title(_exit_title(runs.exits, mean, name))
    sheet.legend["mean first-passage time"] = Line2D([], [], **style)
    sheet.legend[f"mean of {name}, with 95 % confidence"] = Patch(facecolor=PASSAGE_COLOUR, alpha=0.2)


def _draw_exit_times(sheet: Sheet, axes: Axes, runs: Runs, escape: Escape, name: str) -> None:
    """The histogram of the exit times, and the exponential law."""
    swarm = runs.swarm
    set_ticks(axes)
    left = swarm.exit_times[np.isfinite(swarm.exit_times)] - swarm.begin
    end = float(np.quantile(left, SHOWN_EXITS)) or float(left.max())
    counts, edges = np.histogram(left, np.linspace(0.0, end, BINS + 1))
    heights = counts / (swarm.walkers * (edges[1] - edges[0]))
    axes.stairs(heights, edges, color=PASSAGE_COLOUR, linewidth=1.2)
    times, rate = np.linspace(0.0, end, 400), math.exp(-_decay(escape))
    law = rate * np.exp(-rate * times)
    axes.plot(times, law, color=DENSITY_COLOUR)
    axes.set_xlim(0.0, end)
    axes.set_ylim(0.0, 1.1 * max(float(heights.max()), float(law.max())))
    axes.set_xlabel("time t")
    axes.set_ylabel("density [1/time]")
    words = f", {runs.exits.censored} of {swarm.walkers} still inside" if runs.exits.censored else ""
    axes.set_title(f"Exit times{words}")
