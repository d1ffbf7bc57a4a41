"""The figures: they appear, everything on them is named, nothing is cut off, and no field is too odd to draw."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.axis import Axis as TickedAxis
from matplotlib.figure import Figure
from matplotlib.text import Text

from fpsolve.analyse.escape import Escape, escape
from fpsolve.analyse.motion import Motion, evolve
from fpsolve.analyse.rest import AtRest, stationary
from fpsolve.model.fields import field
from fpsolve.model.grid import Axis, Grid
from fpsolve.model.initial import Gaussian
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import ConstantNoise, HessianNoise
from fpsolve.model.problem import Problem
from fpsolve.present import figures
from fpsolve.present.figures import draw_figures, sketch, styled

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
    return {
        "rest": stationary(problem, regions=regions),
        "motion": motion,
        "escape": escape(problem, start=start, target=target, valley="x < 0"),
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


def check_figure(figure: Figure) -> None:
    """Draw a figure; everything must be named, lie on the paper, and leave its neighbours alone."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    paper = figure.bbox.padded(ROUNDING)
    for legend in figure.legends:
        check_inside(legend.get_window_extent(renderer), paper, "the legend")
    for text in figure.texts:
        check_inside(text.get_window_extent(renderer), paper, text.get_text())
    for axes in figure.axes:
        check_inside(axes.get_tightbbox(renderer), paper, title(axes))
        check_named(axes)
        for part in (axes, *axes.child_axes):
            check_ticks(part.xaxis)
            check_ticks(part.yaxis)
    check_apart(figure)
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


def check_apart(figure: Figure) -> None:
    """What belongs to one panel does not reach into another."""
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    panels: dict[Any, list[Axes]] = {}
    for axes in figure.axes:
        panels.setdefault(tuple(axes.get_position().bounds), []).append(axes)
    whole = [axes[0].get_tightbbox(renderer) for axes in panels.values()]
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


@pytest.fixture
def case(request: pytest.FixtureRequest) -> tuple[Problem, Results]:
    found: tuple[Problem, Results] = request.getfixturevalue(request.param)
    return found


def test_files_appear_complete(one, tmp_path):
    problem, given = one
    stem = tmp_path / "made" / "case.v2"
    paths = draw_figures(problem, "A title", stem, **given)
    assert [path.name for path in paths] == ["case.v2-density.png", "case.v2-time.png", "case.v2-escape.png"]
    assert sorted(stem.parent.iterdir()) == sorted(paths)
    assert all(path.read_bytes().startswith(SIGNATURE) for path in paths)


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_everything_is_named_and_nothing_is_cut_off(case):
    problem, given = case
    assert list(check_all(problem, given)) == ["density", "time", "escape"]


def test_only_what_there_is_is_drawn(one, tmp_path):
    problem, given = one
    paths = draw_figures(problem, "t", tmp_path / "a", **{**given, "rest": None, "escape": None, "regions": {}})
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
    before = dict(figures.matplotlib.rcParams)
    check_all(*one)
    assert dict(figures.matplotlib.rcParams) == before


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def test_the_legend_says_what_is_drawn(two):
    problem, given = two
    drawn = check_all(problem, given)
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
    drawn = check_all(problem, {**given, "rest": still})
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
    [("one", 0.0), ("one", 1e-300), ("one", 1e-200), ("one", 1e200), ("two", 0.0), ("two", 1e-200), ("three", 1e-300)],
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
        ),
        "regions": given["regions"],
    }


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_constant_fields(case):
    problem, given = case
    flat = np.full(problem.grid.size, 0.3)
    still = np.zeros((problem.grid.dimensions, problem.grid.size))
    motion = given["motion"]
    constant = {
        "rest": replace(given["rest"], density=flat, current=still, detailed_balance=1.0),
        "motion": replace(motion, density=np.broadcast_to(flat, motion.density.shape)),
        "escape": replace(given["escape"], density=flat, current=still, mean_first_passage_time=flat),
        "regions": {"all": problem.region("x < 9"), "none": problem.region("x > 9")},
    }
    check_all(problem, constant)


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_peaks_of_very_different_height(case):
    problem, given = case
    motion = given["motion"]
    heights = np.geomspace(1.0, 1e-9, motion.times.size)[:, None]
    uneven = replace(motion, density=motion.density * heights)
    check_all(problem, {**given, "rest": None, "escape": None, "motion": uneven})


@pytest.mark.parametrize(("case", "count"), [("one", 2), ("two", 2), ("two", 5), ("three", 3)], indirect=["case"])
def test_few_instants(case, count):
    problem, given = case
    motion = given["motion"]
    few = {
        name: getattr(motion, name)[:count]
        for name in ("times", "probability", "density", "current", "mass", "mean", "covariance")
    }
    steps = None if motion.steps is None else motion.steps[:count]
    short = replace(motion, **few, steps=steps, occupation={}, absorbed={}, observables={})
    check_all(problem, {**given, "rest": None, "escape": None, "motion": short})


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_a_single_instant_is_no_motion(case):
    problem, given = case
    motion = given["motion"]
    start = replace(motion, times=motion.times[:1])
    assert "time" not in sketch(problem, "t", **{**given, "motion": start})


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_uneven_times_and_steps(case):
    """Times over decades go on a logarithmic axis; steps need not be proportional to time."""
    problem, given = case
    motion = given["motion"]
    times = np.concatenate([[0.0], np.geomspace(1e-3, 1e4, motion.times.size - 1)])
    spread = replace(motion, times=times, steps=times**0.7)
    drawn = check_all(problem, {**given, "rest": None, "escape": None, "motion": spread})
    strip = next(axes for axes in drawn["time"].axes if title(axes).startswith("Mean ±"))
    assert strip.get_xscale() == "log"


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
    view = figures._view(grid)
    values = np.random.default_rng(1).random(grid.size)
    box = view.section(values)
    assert max(box.shape) <= figures.MOST_BLOCKS
    areas = np.outer(np.diff(view.edges(1)), np.diff(view.edges(0)))
    assert box.shape == areas.shape
    assert np.isclose((box * areas).sum(), values.sum() * grid.cell_volume, rtol=1e-12)
    assert view.edges(0)[[0, -1]] == pytest.approx([0.0, 1.0])


def test_sections_and_integrals_turn_the_first_variable_across():
    grid = Grid(x=(0.0, 3.0, 3), y=(0.0, 8.0, 4), z=(0.0, 1.0, 2))
    x, y, z = grid.positions()
    across_z = figures._pairs(grid, 1)[0]  # held at the second cell along z
    assert across_z.section(x + 10.0 * y + 100.0 * z) == pytest.approx(
        grid.axes[0].centres + 10.0 * grid.axes[1].centres[:, None] + 75.0
    )
    assert figures._pairs(grid, 0)[1].integral(y) == pytest.approx(np.full((2, 3), (1 + 3 + 5 + 7) * 2.0))


def test_instants_follow_the_change():
    times = np.linspace(0.0, 100.0, 101)
    settled = np.exp(-times)[:, None] * np.ones((101, 3))
    chosen = figures._instants(settled, times, 6)
    assert chosen[0] == 0
    assert chosen[-1] == 100
    assert chosen.size == 6
    assert (chosen[1:4] < 30).all()
    assert figures._instants(settled * 0.0, times, 6).size == 6
    assert list(figures._instants(settled[:3], times[:3], 6)) == [0, 1, 2]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0"), (-0.5, "−0.5"), (12345.6, "12346"), (1.2345e-5, "1.23×10⁻⁵"), (-3e22, "−3×10²²"), (0.065, "0.065")],
)
def test_numbers_as_in_print(value, text):
    assert figures._number(value) == text
