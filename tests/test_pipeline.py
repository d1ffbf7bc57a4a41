"""A case through all rooms, and the same from Python."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

import numpy as np
import pytest

import fpsolve
from fpsolve import CaseError
from fpsolve.analyse.escape import DEFINITIONS
from fpsolve.case import Case, parse_case
from fpsolve.solve.elimination import memory_of_machine

NAMES = ("x", "y", "z")
# Escape over a barrier of four thermal energies in any number of dimensions, everything asked for.
TABLES = """
[noise]
kind = "constant"
temperature = 0.25
[regions]
left = "x < 0"
[initial]
uniform = true
[observables]
distance = "abs(x + 1)"
[evolve]
times = [0.5, 1.0]
tolerance = 1e-3
watch = ["left"]
[stationary]
[escape]
start = {start}
valley = "left"
target = "x > 0.8"
"""


def well(dimensions: int, cells: int = 12) -> str:
    names = NAMES[:dimensions]
    loss = " + ".join(["(x**2 - 1)**2", *(f"{name}**2" for name in names[1:])])
    axes = "\n".join(f"{name} = {{ min = -2.0, max = 2.0, cells = {cells + 2 * i} }}" for i, name in enumerate(names))
    start = [-1.0, *[0.0] * (dimensions - 1)]
    return f"[landscape]\nvariables = {list(names)}\nloss = '{loss}'\n[grid]\n{axes}\n{TABLES.format(start=start)}"


def case_of(text: str) -> Case:
    return parse_case(tomllib.loads(text), "well")


def replaced(text: str, *changes: tuple[str, str]) -> str:
    for old, new in changes:
        assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times"
        text = text.replace(old, new)
    return text


# --- whole runs


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_a_whole_run(dimensions, tmp_path):
    report = fpsolve.run(case_of(well(dimensions)), output=tmp_path, figures=False)
    assert report.outcome == "done"
    rest, motion, escape = report.rest, report.motion, report.escape
    size = math.prod(12 + 2 * axis for axis in range(dimensions))
    assert rest.probability.shape == (size,)
    assert motion.density.shape == (3, size)
    assert motion.current.shape == (3, dimensions, size)
    assert escape.mean_first_passage_time.shape == (size,)
    assert rest.regions == {"left": pytest.approx(0.5, abs=1e-12)}
    assert set(rest.observables) == set(motion.observables) == {"loss", "distance"}
    assert abs(rest.mean).max() < 1e-12
    assert motion.mass_error <= 1e-12
    assert min(rest.probability.min(), motion.probability.min()) >= 0.0
    assert set(escape.times) | set(escape.absent) == set(DEFINITIONS)
    assert {"mean_first_passage_time", "flux_over_population", "valley_flux_over_population"} <= set(escape.times)
    assert report.result_file == tmp_path / "well.nc"
    assert report.as_text().startswith(f"well   {dimensions}-D, 12")


def test_the_escape_does_not_depend_on_axes_that_do_not_matter():
    """Parabolas across the way change nothing: the same time in one, two and three dimensions, on the same cells."""
    times = [fpsolve.run(case_of(well(n))).escape.times["mean_first_passage_time"].value for n in (1, 2, 3)]
    # On one line of cells exact; across it, linear interpolation of the start and cut edges are the same on every line.
    np.testing.assert_allclose(times, times[0], rtol=1e-8)


def test_a_run_of_a_file_and_of_a_case_are_one(tmp_path):
    path = tmp_path / "well.toml"
    path.write_text(well(1))
    first, second, third = (fpsolve.run(what).as_record() for what in (path, str(path), fpsolve.load_case(path)))
    for record in (first, second, third):
        record["seconds"] = 0.0
    assert first == second == third
    assert first["files"] == {"result": None, "figures": []}
    assert list(tmp_path.iterdir()) == [path], "nothing is written when no output is given"


def test_only_what_is_asked_for_is_computed():
    text = well(1)
    report = fpsolve.run(case_of(text[: text.index("[initial]")]))
    assert (report.rest, report.motion, report.escape, report.outcome) == (None, None, None, "done")
    assert "nothing was asked for: add [stationary], [spectrum], [evolve] or [escape]" in report.as_text()
    assert set(report.as_record()["invariants"].values()) == {None}


def test_overrides_change_the_file(tmp_path):
    path = tmp_path / "well.toml"
    path.write_text(well(1))
    report = fpsolve.run(path, overrides=["grid.x.cells=30", "escape.target=x > 0.9"])
    assert report.generator.grid.shape == (30,)
    assert report.escape.target.name == "x > 0.9"
    with pytest.raises(CaseError) as caught:
        fpsolve.run(path, overrides=["escape.start=[1.0]"])
    assert str(caught.value).startswith("--set escape.start: the start lies inside the target 'x > 0.8'. ")


@pytest.mark.parametrize("verb", [fpsolve.run, fpsolve.check])
def test_overrides_beside_a_case_are_not_ignored(verb):
    with pytest.raises(CaseError, match=r"^overrides: 1 given beside a Case, which is already read\. "):
        verb(case_of(well(1)), overrides=["grid.x.cells=30"])


def test_progress_names_the_stages():
    seen = []
    fpsolve.run(case_of(well(1)), progress=lambda stage, share: seen.append((stage, share)))
    assert list(dict.fromkeys(stage for stage, _ in seen)) == [
        "generator",
        "density at rest",
        "density in time",
        "escape",
        "basins and paths",
    ]
    shares = [share for stage, share in seen if stage == "density in time"]
    assert shares[0] == 0.0
    assert (np.diff(shares) > 0.0).all(), "at every step"
    assert {0.5, 1.0} <= set(shares), "among them the saved times"
    assert shares[-1] == 1.0


# --- walls


def test_absorbing_walls():
    text = replaced(well(2), ("[stationary]\n", '[walls]\nx = ["absorbing", "reflecting"]\ny = "absorbing"\n'))
    report = fpsolve.run(case_of(text))
    motion = report.motion
    assert list(motion.absorbed) == ["x_min", "y_min", "y_max"]
    assert all(values[0] == 0.0 and (np.diff(values) > 0.0).all() for values in motion.absorbed.values())
    np.testing.assert_allclose(motion.absorbed["y_min"], motion.absorbed["y_max"], rtol=1e-9)  # symmetry; LU rounding
    gone = np.sum(list(motion.absorbed.values()), axis=0)
    np.testing.assert_allclose(motion.mass + gone, 1.0, rtol=0, atol=1e-10)
    assert motion.mass_error <= 1e-10
    assert "left through x_min" in report.as_text()
    assert set(report.as_record()["evolve"]["absorbed"]) == {"x_min", "y_min", "y_max"}


def test_rest_behind_an_absorbing_wall_is_refused():
    walls = '[walls]\nx = ["reflecting", "absorbing"]\n'
    with pytest.raises(CaseError, match=r"^stationary: probability leaves through x_max\. "):
        fpsolve.run(case_of(well(1) + walls))
    text = replaced(well(1) + walls, ("[stationary]\n", ""), ("uniform = true", "stationary = true"))
    with pytest.raises(CaseError, match=r"^initial\.stationary: probability leaves through x_max\. "):
        fpsolve.run(case_of(text))


def test_a_periodic_axis():
    escape = '[escape]\nstart = [-1.0]\nvalley = "left"\ntarget = "x > 0.8"\n'
    text = replaced(well(1), ("(x**2 - 1)**2", "cos(pi*x)"), (escape, '[walls]\nx = "periodic"\n'))
    report = fpsolve.run(case_of(text))
    assert report.rest.detailed_balance < 1e-12
    np.testing.assert_allclose(
        report.rest.density[:6], report.rest.density[6:], rtol=1e-12
    )  # two periods of the cosine


# --- starts


@pytest.mark.parametrize(
    ("initial", "mean", "variance"),
    [
        # Cell centres are at -1.9, -1.7, ..., 1.9.
        pytest.param("point = [-1.0]", -1.0, 0.01, id="point"),  # half in -1.1 and half in -0.9
        pytest.param("point = [-0.9]", -0.9, 0.0, id="point on a centre"),
        pytest.param("gaussian = { mean = [0.0], width = 0.3 }", 0.0, 0.09, id="width"),
        pytest.param("gaussian = { mean = [0.2], covariance = [[0.09]] }", 0.2, 0.09, id="covariance"),
        pytest.param('density = "exp(-(x + 0.1)**2/0.18)"', -0.1, 0.09, id="density"),
        pytest.param("uniform = true", 0.0, (4**2 - 0.2**2) / 12, id="uniform"),
    ],
)
def test_initial(initial, mean, variance):
    text = replaced(well(1, cells=20), ("uniform = true", initial))
    motion = fpsolve.run(case_of(text)).motion
    # Gaussians on a grid of spacing 0.2 <= 0.67 widths have their moments to exp(-2 (pi 0.3/0.2)**2), cut at 6 widths.
    np.testing.assert_allclose(motion.mean[0], mean, atol=1e-7)
    np.testing.assert_allclose(motion.covariance[0], variance, atol=1e-7)
    assert motion.mass[0] == pytest.approx(1.0, abs=1e-14)


@pytest.mark.parametrize("rest", ["[stationary]\n", ""], ids=["asked for too", "not asked for"])
def test_a_start_at_rest_stays_at_rest(rest):
    text = replaced(well(1), ("uniform = true", "stationary = true"), ("[stationary]\n", rest))
    motion = fpsolve.run(case_of(text)).motion
    np.testing.assert_allclose(motion.probability, motion.probability[[0, 0, 0]], rtol=0, atol=1e-13)


# --- observables, regions, steps


def test_observables_are_means():
    report = fpsolve.run(case_of(well(2)))
    x, y = report.generator.grid.positions()
    loss, distance = (x**2 - 1) ** 2 + y**2, np.abs(x + 1)
    for name, values in (("loss", loss), ("distance", distance)):
        assert report.rest.observables[name] == pytest.approx(report.rest.probability @ values, rel=1e-13)
        np.testing.assert_allclose(report.motion.observables[name], report.motion.probability @ values, rtol=1e-12)


def test_a_drift_without_a_loss_has_no_mean_loss():
    text = replaced(well(1), ("loss = '(x**2 - 1)**2'", "drift = ['-x']"))
    report = fpsolve.run(case_of(text))
    assert set(report.rest.observables) == {"distance"}


def test_watched_regions():
    text = replaced(well(1), ('watch = ["left"]', 'watch = ["left", "x > 0.5"]'))
    motion = fpsolve.run(case_of(text)).motion
    assert list(motion.occupation) == list(motion.flux) == ["left", "x > 0.5"]
    np.testing.assert_allclose(motion.occupation["left"], 0.5, atol=1e-9)
    np.testing.assert_allclose(motion.flux["left"], 0.0, atol=1e-9)  # symmetry; LU rounding
    assert motion.occupation["x > 0.5"][0] == pytest.approx(1.5 / 4.0, rel=1e-12)  # uniform


def test_sgd_steps_are_time_over_the_learning_rate():
    hessian = 'kind = "hessian"\nlearning_rate = 0.05\nbatch_size = 2\nprojection = "abs"\nfloor = 4.0'
    text = replaced(well(1), ('kind = "constant"\ntemperature = 0.25', hessian))
    report = fpsolve.run(case_of(text))
    np.testing.assert_allclose(report.motion.steps, [0.0, 10.0, 20.0], rtol=1e-14)
    assert report.as_record()["evolve"]["steps"] == report.motion.steps.tolist()
    assert "(20 SGD steps)" in report.as_text()


def test_saved_times_are_even():
    text = replaced(well(1), ("times = [0.5, 1.0]", "until = 0.9\nsave = 3"))
    report = fpsolve.run(case_of(text))
    np.testing.assert_allclose(report.motion.times, [0.0, 0.3, 0.6, 0.9], rtol=1e-15)


# --- bad questions are found before the long work


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("uniform = true", "point = [9.0]"), "initial.point: x = 9 lies outside the grid. "),
        (('"abs(x + 1)"', '"log(x)"'), "observables.distance: it is nan in cell (0) at x = "),
        (("start = [-1.0]", "start = [0.9]"), "escape.start: the start lies inside the target 'x > 0.8'. "),
        (('"x > 0.8"', '"x > 8"'), "escape.target: the region 'x > 8' holds no cell of the grid. "),
        (('watch = ["left"]', 'watch = ["lift"]'), 'evolve.watch: "lift" is not a known region. '),
        (("[initial]\nuniform = true\n", ""), "evolve: there is no [initial] table. "),
    ],
)
def test_bad_questions(change, message, monkeypatch):
    for name in ("pipeline.stationary", "pipeline.evolve", "refine.escape"):
        monkeypatch.setattr(f"fpsolve.{name}", lambda *_, **__: pytest.fail("the long work has begun"))
    case = case_of(replaced(well(1), change))
    for verb in (fpsolve.run, fpsolve.check):
        with pytest.raises(CaseError) as caught:
            verb(case)
        assert str(caught.value).startswith(message)


def test_too_many_saved_densities():
    each = 8 * 12 * 6  # bytes: probability, density, current and its three parts in 12 cells
    most = int(0.5 * memory_of_machine() / each)
    many = int(memory_of_machine() / each) + 1
    text = replaced(well(1), ("times = [0.5, 1.0]", f"until = 1.0\nsave = {many}"))
    with pytest.raises(CaseError) as caught:
        fpsolve.check(case_of(text))
    assert str(caught.value).startswith(f"evolve.save: {many} saved densities need about ")
    assert str(caught.value).endswith(f"Save at most {most}.")


def test_a_barrier_beyond_all_floating_point_numbers_is_answered():
    """The exponential of 1250: its logarithm is right, its value is none, and nothing else suffers."""
    text = replaced(well(1, cells=400), ("temperature = 0.25", "temperature = 0.0008"), ("[stationary]\n", ""))
    text = replaced(text, ('[evolve]\ntimes = [0.5, 1.0]\ntolerance = 1e-3\nwatch = ["left"]\n', ""))
    record = fpsolve.run(case_of(text)).as_record()["escape"]
    first, exact = record["mean_first_passage_time"], record["theory"]["exact_integral"]
    assert first["value"] is None
    # Of 1250 thermal energies; the grid's own error is a few 1e-4 of the time, 1e-6 of its logarithm.
    assert first["log10"] == pytest.approx(exact["log10"], rel=1e-6)


# --- check


def test_check_previews():
    preview = fpsolve.check(case_of(well(2, cells=8)))
    assert preview.case == "well"
    assert preview.smallest_diffusion == pytest.approx(0.25, rel=1e-14)
    assert set(preview.cells_across) == set(preview.suggested_cells) == {"x", "y"}
    # Along y the density at rest is a Gaussian of variance T/2 in cells of 0.4.
    assert preview.cells_across["y"] == pytest.approx(math.sqrt(0.125) / 0.4, rel=1e-6)
    assert preview.suggested_cells["y"] == math.ceil(10 * 2 / (math.sqrt(0.125) / 0.4))
    assert 0.0 < preview.memory < preview.memory_of_machine
    assert "under-resolved" in preview.as_text()
    fine = fpsolve.check(case_of(well(2, cells=120)))
    assert fine.verdict == "fine"
    assert all(fine.suggested_cells[axis.name] == axis.cells for axis in fine.grid.axes)


# --- from Python, as the documentation has it


@pytest.fixture(scope="module")
def problem() -> fpsolve.Problem:
    landscape = fpsolve.Landscape("(x**2 - 1)**2 + y**2", variables=("x", "y"))
    return fpsolve.Problem(
        landscape,
        fpsolve.HessianNoise(learning_rate=0.1, batch_size=0.25, projection="abs", floor=1.0),
        fpsolve.Grid(x=(-2, 2, 32), y=(-2, 2, 20)),
    )


def test_stationary_from_python(problem):
    rest = fpsolve.stationary(problem)
    assert rest.probability.sum() == pytest.approx(1.0, abs=1e-14)
    assert rest.density @ problem.grid.volumes == pytest.approx(1.0, abs=1e-13)
    assert rest.regions == rest.observables == {}
    rest = fpsolve.stationary(
        problem, regions={"left": problem.region("x < 0")}, observables={"loss": problem.landscape.loss}
    )
    assert rest.regions["left"] == pytest.approx(0.5, abs=1e-9)
    assert rest.observables["loss"] > 0.0


def test_evolve_from_python(problem):
    initial = fpsolve.Gaussian((-1.0, 0.0), width=0.4)
    motion = fpsolve.evolve(problem, initial, until=50.0)
    assert motion.times.size == 51
    np.testing.assert_allclose(motion.steps, motion.times / 0.1)
    np.testing.assert_allclose(motion.probability[-1], fpsolve.stationary(problem).probability, atol=1e-6)
    again = fpsolve.evolve(problem, motion.probability[0], times=[1.0], tolerance=1e-3)
    np.testing.assert_allclose(again.probability[1], motion.probability[1], atol=2e-3)


def test_escape_from_python(problem):
    out = fpsolve.escape(problem, start=(-1, 0), valley="x < 0", target="x > 0.8")
    assert out.start == (-1.0, 0.0)
    assert (out.target.name, out.valley.name) == ("x > 0.8", "x < 0")
    first, flux = (out.times[name].value for name in ("mean_first_passage_time", "flux_over_population"))
    assert flux == pytest.approx(first, rel=1e-9)
    regions = fpsolve.escape(
        problem,
        start=(-1, 0),
        valley=problem.region("x < 0"),
        target=fpsolve.Region.parse("far", "x > 0.8", "xy", {}, ""),
    )
    assert regions.times == out.times
    assert regions.target.name == "far"


def test_a_generator_serves_all_three(problem):
    generator = fpsolve.Generator.of(problem)
    np.testing.assert_array_equal(fpsolve.stationary(generator).probability, fpsolve.stationary(problem).probability)
    start = fpsolve.Point((-1.0, 0.0))
    first, second = (fpsolve.evolve(what, start, times=[0.5], tolerance=1e-2) for what in (generator, problem))
    np.testing.assert_array_equal(first.probability, second.probability)
    first, second = (fpsolve.escape(what, start=(-1, 0), target="x > 0.8").times for what in (generator, problem))
    assert first == second


def test_functions_instead_of_formulas():
    grid = fpsolve.Grid(x=(-2, 2, 40))
    noise = fpsolve.ConstantNoise(temperature=0.25)
    formula = fpsolve.Problem(fpsolve.Landscape("(x**2 - 1)**2", variables=("x",)), noise, grid)
    function = fpsolve.Problem(fpsolve.Landscape(lambda x: (x**2 - 1) ** 2, variables=("x",)), noise, grid)
    times = [
        fpsolve.escape(p, start=(-1,), target="x > 0.8").times["mean_first_passage_time"].value
        for p in (formula, function)
    ]
    assert times[1] == pytest.approx(times[0], rel=1e-8)


def test_the_example_of_the_documentation(repository):
    report = fpsolve.run(repository / "cases" / "kramers.toml")
    assert report.outcome == "done"
    assert report.escape.theory["kramers"].value == pytest.approx(2 * math.pi / math.sqrt(32) * math.exp(8), rel=1e-12)


def test_the_public_names_are_there():
    for name in fpsolve.__all__:
        assert getattr(fpsolve, name) is not None
    assert dir(fpsolve) == fpsolve.__all__
    with pytest.raises(AttributeError, match="module 'fpsolve' has no attribute 'solve_everything'"):
        _ = fpsolve.solve_everything


def test_a_path_object_and_a_text_are_the_same(tmp_path):
    with pytest.raises(CaseError, match="there is no such file"):
        fpsolve.run(str(tmp_path / "no.toml"))
    with pytest.raises(CaseError, match="there is no such file"):
        fpsolve.check(Path(tmp_path / "no.toml"))
