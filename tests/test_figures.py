"""The figures: they appear, everything on them is named, nothing is cut off, and no field is too odd to draw."""

import itertools
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.axis import Axis as TickedAxis
from matplotlib.figure import Figure
from matplotlib.text import Text

from fpsolve.analyse.basins import find_basins
from fpsolve.analyse.escape import Escape, escape
from fpsolve.analyse.motion import Motion, evolve
from fpsolve.analyse.path import most_probable_path
from fpsolve.analyse.rest import AtRest, stationary
from fpsolve.analyse.spectrum import Spectrum, spectrum
from fpsolve.model.fields import field
from fpsolve.model.grid import Axis, Grid
from fpsolve.model.initial import Gaussian
from fpsolve.model.landscape import Landscape
from fpsolve.model.maps import Refinement
from fpsolve.model.noise import ConstantNoise, HessianNoise
from fpsolve.model.problem import Problem
from fpsolve.present import figures
from fpsolve.present.figures import draw_figures, sketch
from fpsolve.present.pictures import in_time, views
from fpsolve.present.pictures.style import styled
from fpsolve.present.pictures.words import printed, printed_from_logarithm

ROUNDING = 0.5  # dots: text is hinted to whole dots
SIGNATURE = b"\x89PNG\r\n\x1a\n"

Results = dict[str, Any]  # what draw_figures takes after the title and the stem


def results(
    problem: Problem, start: tuple[float, ...], target: str, *, until: float = 4.0, width: float = 0.25
) -> Results:
    """Everything there is to draw of a problem whose walls are closed."""
    regions = {"left": problem.region("x < 0"), "target": problem.region(target)}
    loss = field("x**2", (), problem.landscape.variables, {}, "observables")
    motion = evolve(
        problem, Gaussian(start, width=width), until=until, save=8, watch=regions, observables={"loss": loss}
    )
    basins = find_basins(problem)
    minimum, saddle = basins.minima[0].position, basins.saddles[0].point.position
    return {
        "rest": stationary(problem, regions=regions),
        "motion": motion,
        "escape": escape(problem, start=start, target=target, valley="x < 0"),
        "spectrum": spectrum(problem, 4),
        "basins": basins,
        "paths": [most_probable_path(problem, minimum, saddle)],
        "regions": regions,
    }


@pytest.fixture(scope="module")
def one() -> tuple[Problem, Results]:
    """A double well."""
    landscape = Landscape("(x**2 - 1)**2", variables=("x",))
    problem = Problem(landscape, ConstantNoise(temperature=0.2), Grid(x=(-2.0, 2.0, 80)))
    return problem, results(problem, (-1.0,), "x > 0.8")


@pytest.fixture(scope="module")
def two() -> tuple[Problem, Results]:
    """SGD in two wells: its noise keeps a current going at rest, and its time is counted in steps as well."""
    landscape = Landscape("(x**2 - 1)**2 / 4 + (y - 0.3*x**2)**2", variables=("x", "y"))
    noise = HessianNoise(learning_rate=0.1, batch_size=1, projection="abs", floor=0.5)
    problem = Problem(landscape, noise, Grid(x=(-2.0, 2.0, 28), y=(-1.4, 2.0, 26)))
    return problem, results(problem, (-1.0, 0.3), "x > 0.8")


@pytest.fixture(scope="module")
def three() -> tuple[Problem, Results]:
    """A double well with a rotation in three variables."""
    landscape = Landscape(
        "(x**2 - 1)**2 + y**2 + z**2 / 2", variables=("x", "y", "z"), extra_drift=["-y / 2", "x / 2", "0"]
    )
    grid = Grid(x=(-1.9, 1.9, 12), y=(-1.6, 1.6, 10), z=(-2.0, 2.0, 9))
    problem = Problem(landscape, ConstantNoise(temperature=0.3), grid)
    return problem, results(problem, (-1.0, 0.0, 0.0), "x > 0.8", width=0.4)


CASES = ("one", "two", "three")
FEWER_CASES = ("one", "two", pytest.param("three", marks=pytest.mark.slow))
ENDINGS = ["density", "time", "escape", "transition", "spectrum"]


def check_figure(figure: Figure) -> None:
    """Draw a figure; everything must be named, lie on the paper, and leave its neighbours alone."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    paper = figure.bbox.padded(ROUNDING)
    for legend in figure.legends:
        check_inside(legend.get_window_extent(renderer), paper, "the legend")
    for text in figure.texts:
        check_inside(text.get_window_extent(renderer), paper, text.get_text())
    boxes = [axes.get_tightbbox(renderer) for axes in figure.axes]
    for axes, box in zip(figure.axes, boxes, strict=True):
        check_inside(box, paper, title(axes))
        check_named(axes)
        for part in (axes, *axes.child_axes):
            check_ticks(part.xaxis)
            check_ticks(part.yaxis)
    check_apart(figure, boxes)
    check_size(figure)


def title(axes: Axes) -> str:
    return axes.get_title(loc="left")


def check_inside(box: Any, paper: Any, what: str) -> None:
    inside = paper.x0 <= box.x0 and box.x1 <= paper.x1 and paper.y0 <= box.y0 and box.y1 <= paper.y1
    assert inside, f"{what!r} is cut off: {box} on {paper}"


def check_named(axes: Axes) -> None:
    """Both directions of a panel are named; what shares its place, and a colour bar or a second scale, has one name."""
    names = [axes.get_xlabel(), axes.get_ylabel()]
    assert all(names) or (any(names) and not title(axes)), f"an axis of {title(axes)!r} has no name: {names}"
    for child in axes.child_axes:
        assert child.get_xlabel() or child.get_ylabel(), f"a scale beside {title(axes)!r} has no name"


def check_ticks(axis: TickedAxis) -> None:
    """Labels that are drawn do not touch each other."""
    low, high = sorted(axis.get_view_interval())
    ticks = [tick for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    labels = [label for tick in ticks for label in (tick.label1, tick.label2)]
    boxes = [label.get_window_extent() for label in labels if label.get_visible() and label.get_text()]
    horizontal = axis.axis_name == "x"  # type: ignore[attr-defined]
    sides = sorted((box.x0, box.x1) if horizontal else (box.y0, box.y1) for box in boxes)
    for (_, end), (start, _) in itertools.pairwise(sides):
        assert start > end - ROUNDING, f"tick labels of {axis.get_label_text()!r} overlap"


def check_apart(figure: Figure, boxes: list[Any]) -> None:
    """What belongs to one panel does not reach into another; panels at one place are one."""
    panels: dict[Any, Any] = {}
    for axes, box in zip(figure.axes, boxes, strict=True):
        panels.setdefault(tuple(axes.get_position().bounds), box)
    whole = list(panels.values())
    for first, second in itertools.combinations(whole, 2):
        width = min(first.x1, second.x1) - max(first.x0, second.x0)
        height = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert width <= ROUNDING or height <= ROUNDING, f"two panels overlap: {first}, {second}"


def check_size(figure: Figure) -> None:
    """Text can be read."""
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
    assert min(text.get_fontsize() for text in texts) >= 9.0


def check_all(problem: Problem, given: Results, title: str = "A title") -> dict[str, Figure]:
    with styled():
        drawn = sketch(problem, title, **given)
        for figure in drawn.values():
            check_figure(figure)
    return drawn


def only(given: Results, **parts: Any) -> Results:
    """The regions of some results, and nothing else but the parts named."""
    return {"rest": None, "motion": None, "escape": None, "regions": given["regions"], **parts}


@pytest.fixture
def case(request: pytest.FixtureRequest) -> tuple[Problem, Results]:
    found: tuple[Problem, Results] = request.getfixturevalue(request.param)
    return found


def test_files_appear_complete(one, tmp_path):
    problem, given = one
    stem = tmp_path / "made" / "case.v2"
    paths = draw_figures(problem, "A title", stem, **given)
    assert [path.name for path in paths] == [f"case.v2-{ending}.png" for ending in ENDINGS]
    assert sorted(stem.parent.iterdir()) == sorted(paths)
    assert all(path.read_bytes().startswith(SIGNATURE) for path in paths)


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_everything_is_named_and_nothing_is_cut_off(case):
    problem, given = case
    assert list(check_all(problem, given)) == ENDINGS


def test_only_what_there_is_is_drawn(one, tmp_path):
    problem, given = one
    paths = draw_figures(problem, "t", tmp_path / "a", **{**only(given, motion=given["motion"]), "regions": {}})
    assert [path.name for path in paths] == ["a-time.png"]
    assert draw_figures(problem, "t", tmp_path / "b", rest=None, motion=None, escape=None, regions={}) == []


def test_a_failure_leaves_the_old_file(one, tmp_path, monkeypatch):
    problem, given = one
    old = tmp_path / "a-density.png"
    old.write_bytes(b"old")

    def fail(_: object, path: Path, **__: object) -> None:
        path.write_bytes(b"half")
        raise OSError

    monkeypatch.setattr(figures.FigureCanvasAgg, "print_png", fail)
    with pytest.raises(OSError):  # noqa: PT011 - the one raised above
        draw_figures(problem, "t", tmp_path / "a", **given)
    assert old.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [old]


def test_the_settings_of_matplotlib_come_back(one):
    before = dict(matplotlib.rcParams)
    problem, given = one
    check_all(problem, only(given, rest=given["rest"]))
    assert dict(matplotlib.rcParams) == before


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def test_the_legend_says_what_is_drawn(two):
    problem, given = two
    drawn = check_all(problem, {**given, "spectrum": None})
    share = given["rest"].regions["left"]
    assert f"left: P = {share:.3g}" in words(drawn["density"])
    for ending in ("density", "escape"):
        assert "probability current" in words(drawn[ending])
    assert "loss − minimum" in words(drawn["time"])
    assert "SGD steps" in words(drawn["time"])
    assert "target x > 0.8" in words(drawn["escape"])
    assert f"τ = {given['escape'].times['mean_first_passage_time'].value:.0f}" in words(drawn["escape"])


def test_rounding_is_not_drawn_as_a_current(two):
    problem, given = two
    still = replace(given["rest"], detailed_balance=1e-15)
    drawn = check_all(problem, only(given, rest=still))
    assert "probability current" not in words(drawn["density"])


def test_no_loss_no_contours():
    landscape = Landscape(drift=["-x + y", "-x - y"], variables=("x", "y"))
    problem = Problem(landscape, ConstantNoise(diffusion=[[0.2, 0.0], [0.0, 0.2]]), Grid(x=(-2, 2, 20), y=(-2, 2, 20)))
    drawn = check_all(problem, {"rest": stationary(problem), "motion": None, "escape": None, "regions": {}})
    assert "loss" not in words(drawn["density"])
    assert "probability current" in words(drawn["density"])


def test_current_around_a_ring():
    ring = Axis("angle", 0.0, 2.0 * np.pi, 40, ("periodic", "periodic"))
    problem = Problem(
        Landscape(drift=["0.5 + sin(angle)"], variables=("angle",)),
        ConstantNoise(diffusion=[[0.3]]),
        Grid(angle=ring),
    )
    rest = stationary(problem)
    drawn = check_all(problem, {"rest": rest, "motion": None, "escape": None, "regions": {}})
    assert f"current J = {rest.current.mean():.3g}" in words(drawn["density"])


@pytest.mark.parametrize("shape", [(24, 1), (1, 24), (12, 1, 10), (1, 1, 12), (1, 1)])
def test_axes_of_one_cell_are_left_out(shape):
    names = ("x", "y", "z")[: len(shape)]
    landscape = Landscape(" + ".join(f"{name}**2" for name in names), variables=names)
    grid = Grid(**{name: (-1.5, 1.5, cells) for name, cells in zip(names, shape, strict=True)})
    problem = Problem(landscape, ConstantNoise(temperature=0.3), grid)
    density = np.exp(-(grid.positions() ** 2).sum(axis=0))
    rest = AtRest(
        probability=density / density.sum(),
        density=density,
        current=np.zeros((len(shape), grid.size)),
        mean_current=np.zeros(len(shape)),
        mean=np.zeros(len(shape)),
        covariance=np.eye(len(shape)),
        regions={},
        observables={},
        entropy_production=0.0,
        detailed_balance=0.0,
        imbalance=0.0,
        tail_mass=0.0,
        reversible=True,
    )
    motion = evolve(problem, np.full(grid.size, 1.0 / grid.size), until=1.0, save=3)
    drawn = check_all(
        problem, {"rest": rest, "motion": motion, "escape": None, "regions": {"all": problem.region("x < 9")}}
    )
    lengths = sum(cells > 1 for cells in shape)
    named = {axes.get_xlabel() for axes in drawn["density"].axes} & set(names)
    assert len(named) == min(max(lengths, 1), 1)


@pytest.mark.parametrize(
    ("case", "factor"),
    [
        ("one", 0.0),
        ("one", 1e-300),
        ("one", 1e200),
        ("two", 1e-200),
        *(pytest.param(*more, marks=pytest.mark.slow) for more in [("one", 1e-200), ("two", 0.0), ("three", 1e-300)]),
    ],
    indirect=["case"],
)
def test_any_size_of_the_fields(case, factor):
    problem, given = case
    check_all(problem, scaled(given, factor))


def scaled(given: Results, factor: float) -> Results:
    """The same results with other densities, currents and times."""
    rest: AtRest = given["rest"]
    motion: Motion = given["motion"]
    out: Escape = given["escape"]
    path = out.transition
    assert path is not None
    power = np.log10(factor) if factor > 0.0 else -np.inf
    modes: Spectrum = given["spectrum"]
    return {
        "rest": replace(rest, density=rest.density * factor, current=rest.current * factor),
        "motion": replace(
            motion,
            density=motion.density * factor,
            occupation={name: values * factor for name, values in motion.occupation.items()},
            observables={name: values * factor for name, values in motion.observables.items()},
        ),
        "escape": replace(
            out,
            density=out.density * factor,
            current=out.current * factor,
            mean_first_passage_time=out.mean_first_passage_time * factor,
            log10_mean_first_passage_time=out.log10_mean_first_passage_time + power,
            transition=replace(path, current=path.current * factor),
        ),
        "spectrum": replace(modes, densities=modes.densities * factor),
        "regions": given["regions"],
    }


@pytest.mark.parametrize("case", FEWER_CASES, indirect=True)
def test_constant_fields(case):
    problem, given = case
    flat = np.full(problem.grid.size, 0.3)
    still = np.zeros((problem.grid.dimensions, problem.grid.size))
    motion = given["motion"]
    constant = {
        "rest": replace(given["rest"], density=flat, current=still, detailed_balance=1.0),
        "motion": replace(motion, density=np.broadcast_to(flat, motion.density.shape)),
        "escape": replace(
            given["escape"],
            density=flat,
            current=still,
            mean_first_passage_time=flat,
            log10_mean_first_passage_time=np.log10(flat),
            transition=replace(given["escape"].transition, current=still, committor=flat, backward_committor=flat),
        ),
        "regions": {"all": problem.region("x < 9"), "none": problem.region("x > 9")},
    }
    check_all(problem, constant)


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_peaks_of_very_different_height(case):
    problem, given = case
    motion = given["motion"]
    heights = np.geomspace(1.0, 1e-9, motion.times.size)[:, None]
    uneven = replace(motion, density=motion.density * heights)
    check_all(problem, only(given, motion=uneven))


@pytest.mark.parametrize(("case", "count"), [("one", 2), ("two", 2), ("two", 5), ("three", 3)], indirect=["case"])
def test_few_instants(case, count):
    problem, given = case
    motion = given["motion"]
    few = {
        name: getattr(motion, name)[:count]
        for name in ("times", "probability", "density", "mass", "mean", "covariance")
    }
    steps = None if motion.steps is None else motion.steps[:count]
    short = replace(motion, **few, steps=steps, occupation={}, absorbed={}, observables={})
    check_all(problem, only(given, motion=short))


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_a_single_instant_is_no_motion(case):
    problem, given = case
    motion = given["motion"]
    start = replace(motion, times=motion.times[:1])
    assert "time" not in sketch(problem, "t", **only(given, motion=start))


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_uneven_times_and_steps(case):
    """Times over decades go on a logarithmic axis; steps need not be proportional to time."""
    problem, given = case
    motion = given["motion"]
    times = np.concatenate([[0.0], np.geomspace(1e-3, 1e4, motion.times.size - 1)])
    spread = replace(motion, times=times, steps=times**0.7)
    drawn = check_all(problem, only(given, motion=spread))
    strip = next(axes for axes in drawn["time"].axes if title(axes).startswith("Mean ±"))
    assert strip.get_xscale() == "log"


@pytest.mark.parametrize("case", ["one", "two"], indirect=True)
def test_times_beyond_all_floating_point_numbers(case):
    """Six hundred decades more: nothing overflows, and the scales go on in powers of ten."""
    problem, given = case
    out: Escape = given["escape"]
    shift = 600.0 * np.log(10.0)
    first = replace(out.times["mean_first_passage_time"], log_time=out.times["quasi_stationary"].log_time + shift)
    late = replace(
        out,
        times={**out.times, "mean_first_passage_time": first},
        mean_first_passage_time=np.where(np.isfinite(out.log10_mean_first_passage_time), np.inf, 0.0),
        log10_mean_first_passage_time=out.log10_mean_first_passage_time + 600.0,
        running=replace(
            out.running, log_values=out.running.log_values + shift, log_plateau=out.running.log_plateau + shift
        ),
    )
    assert first.value is None
    drawn = check_all(problem, only(given, escape=late))
    power = re.search("×10[⁰-⁹]+", words(drawn["escape"]))
    assert power is not None
    assert power[0].startswith("×10⁶⁰")
    for ending in ("escape", "transition"):
        ticks = [label.get_text() for axes in figure_axes(drawn[ending]) for label in axes.get_yticklabels()]
        assert any(text.startswith("10⁶⁰") for text in ticks), ticks


def figure_axes(figure: Figure) -> list[Any]:
    return [part for axes in figure.axes for part in (axes, *axes.child_axes)]


def test_times_that_hardly_differ_beyond_all_floating_point_numbers(one):
    problem, given = one
    out: Escape = given["escape"]
    flat = np.full(problem.grid.size, 400.2)
    check_all(problem, only(given, escape=replace(out, log10_mean_first_passage_time=flat)))


@pytest.mark.parametrize("case", FEWER_CASES, indirect=True)
def test_what_is_absent_is_left_out_of_the_transition(case):
    problem, given = case
    out: Escape = given["escape"]
    bare = replace(out, transition=None, running=None, quasi_stationary_density=None, valley=None)
    assert "transition" not in sketch(problem, "t", **only(given, escape=bare))
    for part in ({"running": out.running}, {"transition": out.transition}):
        drawn = check_all(problem, only(given, escape=replace(bare, **part)))["transition"]
        assert ("its plateau" in words(drawn)) == ("running" in part)
        assert ("core" in words(drawn)) == ("transition" in part)


def test_a_path_alone(two):
    problem, given = two
    bare = replace(given["escape"], transition=None, running=None)
    drawn = check_all(problem, only(given, escape=bare, paths=given["paths"]))["transition"]
    assert "Most probable path" in words(drawn)
    hopeless = replace(given["paths"][0], reason="D vanishes on the way")
    assert "way of steepest descent" in words(
        check_all(problem, only(given, escape=bare, paths=[hopeless]))["transition"]
    )


def test_minima_and_saddles_are_named(two):
    """The numbers of the basins are those of the printed report: the first is 1."""
    problem, given = two
    drawn = check_all(problem, only(given, rest=given["rest"], basins=given["basins"]))["density"]
    barrier = printed(given["basins"].saddles[0].heights[0])
    assert f"saddle 1–2: barrier {barrier}" in words(drawn)
    assert "border between basins" in words(drawn)
    numbers = [text.get_text() for text in drawn.axes[0].texts]
    assert numbers == ["1", "2"]


def test_a_path_around_a_ring_does_not_leap():
    ring = Axis("angle", 0.0, 2.0 * np.pi, 24, ("periodic", "periodic"))
    landscape = Landscape("cos(2*angle)/2 + 2*(r - 1)**2", variables=("r", "angle"))
    problem = Problem(landscape, ConstantNoise(temperature=0.2), Grid(r=(0.2, 1.8, 12), angle=ring))
    path = most_probable_path(problem, (1.0, 1.5 * np.pi), (1.0, 2.0 * np.pi))  # on to pi / 2
    assert path.points[-1, 1] > 2.0 * np.pi
    out = escape(problem, start=(1.0, 1.5 * np.pi), target="cos(angle - pi/2) > 0.9", definitions=["transition_path"])
    with styled():
        drawn = sketch(problem, "t", rest=None, motion=None, escape=out, paths=[path], regions={})["transition"]
    lines = [np.array(line.get_ydata(), dtype=float) for line in drawn.axes[0].lines if np.size(line.get_ydata()) > 99]
    assert lines
    for line in lines:
        assert np.nanmax(np.abs(np.diff(line))) < 0.5


@pytest.mark.slow
@pytest.mark.parametrize("dimensions", [1, 2])
def test_infinite_and_refined_axes(dimensions):
    """Of an infinite axis there is drawn what is to be seen; all the rest is as ever."""
    axes = {
        "x": Axis("x", -math.inf, math.inf, 36, scale=1.2),
        "y": Axis("y", -1.5, 1.5, 18, refine=(Refinement(0.0, 3.0),)),
    }
    names = ("x", "y")[:dimensions]
    loss = "(x**2 - 1)**2" + " + y**2" * (dimensions - 1)
    grid = Grid(**{name: axes[name] for name in names})
    problem = Problem(Landscape(loss, variables=names), ConstantNoise(temperature=0.15), grid)
    given = results(problem, (-1.0, 0.0)[:dimensions], "x > 0.8")
    drawn = check_all(problem, given)
    assert list(drawn) == ENDINGS
    for figure in drawn.values():
        limits = [panel.get_xlim() for panel in figure.axes if panel.get_xlabel() == "x"]
        assert all(-2.5 < low < -1.1 and 1.1 < high < 2.5 for low, high in limits), limits


def test_modes_that_turn_are_drawn_in_pairs():
    landscape = Landscape(drift=["-x + 2*y", "-2*x - y"], variables=("x", "y"))
    problem = Problem(landscape, ConstantNoise(diffusion=[[0.3, 0.0], [0.0, 0.3]]), Grid(x=(-2, 2, 16), y=(-2, 2, 16)))
    modes = spectrum(problem, 6)
    drawn = check_all(problem, {"rest": None, "motion": None, "escape": None, "spectrum": modes, "regions": {}})
    assert "Modes 1, 2: relax in" in words(drawn["spectrum"])
    assert "modes that turn while they decay" in words(drawn["spectrum"])
    turning = np.imag(modes.eigenvalues)
    pairs = int((turning > 0.0).sum())
    maps = sum(title(axes).startswith("Mode") for axes in drawn["spectrum"].axes)
    assert maps == modes.eigenvalues.size - 1 - pairs


def test_few_modes(one):
    problem, given = one
    still = replace(given["spectrum"], relaxation_times=[None] * 4)
    assert sketch(problem, "t", **only(given, spectrum=still)) == {}
    assert list(check_all(problem, only(given, spectrum=spectrum(problem, 2)))) == ["spectrum"]


def test_long_names_and_dollars():
    names = ("x", "the_learning_rate_of_the_second_layer")
    landscape = Landscape(f"(x**2 - 1)**2 + {names[1]}**2", variables=names)
    grid = Grid(**{"x": (-2.0, 2.0, 16), names[1]: (-1e-3, 1e-3, 12)})
    problem = Problem(landscape, ConstantNoise(diffusion=[[0.2, 0.0], [0.0, 1e-7]]), grid)
    regions = {
        f"a region with a rather long name, number {n}": problem.region(f"x < {n / 10}") for n in range(-9, 9, 2)
    }
    motion = evolve(problem, np.full(grid.size, 1.0 / grid.size), until=1.0, save=3, watch=regions)
    given = {
        "rest": stationary(problem, regions=regions),
        "motion": motion,
        "escape": escape(problem, start=(-1.0, 0.0), target="x > 0.8"),
        "regions": regions,
    }
    drawn = check_all(problem, given, "It cost $5, then $6, a title " + "as long as a paragraph " * 30)
    assert r"$5" in words(drawn["density"])


def test_large_grids_are_drawn_as_block_means():
    grid = Grid(x=(0.0, 1.0, 1001), y=(-1.0, 1.0, 730))
    view = views.plain_view(grid)
    values = np.random.default_rng(1).random(grid.size)
    box = view.section(values)
    assert max(box.shape) <= views.MOST_BLOCKS
    areas = np.outer(np.diff(view.edges(1)), np.diff(view.edges(0)))
    assert box.shape == areas.shape
    assert np.isclose((box * areas).sum(), values.sum() * grid.volumes[0], rtol=1e-12)
    assert view.edges(0)[[0, -1]] == pytest.approx([0.0, 1.0])


def test_sections_and_integrals_turn_the_first_variable_across():
    grid = Grid(x=(0.0, 3.0, 3), y=(0.0, 8.0, 4), z=(0.0, 1.0, 2))
    x, y, z = grid.positions()
    across_z = views.pair_views(grid, 1)[0]  # held at the second cell along z
    assert across_z.section(x + 10.0 * y + 100.0 * z) == pytest.approx(
        grid.axes[0].centres + 10.0 * grid.axes[1].centres[:, None] + 75.0
    )
    assert views.pair_views(grid, 0)[1].integral(y) == pytest.approx(np.full((2, 3), (1 + 3 + 5 + 7) * 2.0))


def test_instants_follow_the_change():
    times = np.linspace(0.0, 100.0, 101)
    settled = np.exp(-times)[:, None] * np.ones((101, 3))
    chosen = in_time.instants_shown(settled, times, 6)
    assert chosen[0] == 0
    assert chosen[-1] == 100
    assert chosen.size == 6
    assert (chosen[1:4] < 30).all()
    assert in_time.instants_shown(settled * 0.0, times, 6).size == 6
    assert list(in_time.instants_shown(settled[:3], times[:3], 6)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-0.5, "−0.5"), (12345.6, "12346"), (1.2345e-5, "1.23×10⁻⁵"), (-3e22, "−3×10²²"), (0.065, "0.065")],
)
def test_numbers_as_in_print(value, text):
    assert printed(value) == text


@pytest.mark.parametrize(
    ("log10", "text"),
    [(2.0, "100"), (651.487, "3.07×10⁶⁵¹"), (400.0, "1×10⁴⁰⁰"), (399.99999, "10⁴⁰⁰"), (-350.5, "3.16×10⁻³⁵¹")],
)
def test_numbers_of_any_size(log10, text):
    assert printed_from_logarithm(log10) == text
