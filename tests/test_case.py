"""Case files: what is read, what is filled in, what is refused, and where the refusal points."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fpsolve
from fpsolve import CaseError, load_case
from fpsolve.case import LATER, Case, join_path, line_of, parse_case, split_path

# Every table once. The tests below change a piece; the mark ¶ in what they put there is where the complaint must point.
WELL = """\
title = "A well"

[landscape]
variables = ["x"]
loss = "(x**2 - a)**2"

[landscape.parameters]
a = 1.0

[noise]
kind = "constant"
temperature = 0.25

[grid]
x = { min = -2.0, max = 2.0, cells = 20 }

[walls]
x = "reflecting"

[regions]
left = "x < 0"
right = "x > 0.8"

[initial]
point = [-1.0]

[observables]
distance = "abs(x + 1)"

[evolve]
until = 1.0
save = 4
tolerance = 1e-3
watch = ["left"]

[stationary]

[escape]
start = [-1.0]
target = "right"

[expect]
"stationary.mean.0" = { value = 0.0, absolute = 1e-9 }
"""
HESSIAN = 'kind = "hessian"\nlearning_rate = 0.1\nbatch_size = 4\nprojection = "abs"\nfloor = 0.5'
CONSTANT = 'kind = "constant"\ntemperature = 0.25'
LOSS = 'loss = "(x**2 - a)**2"'
POINT = "point = [-1.0]"
ENTRY = '"stationary.mean.0" = { value = 0.0, absolute = 1e-9 }'
AXIS = "x = { min = -2.0, max = 2.0, cells = 20 }"

TEN = tuple(range(10))


def changed(old: str, new: str, text: str = WELL) -> tuple[str, int | None]:
    """The text with one piece exchanged, and the line of the mark in it."""
    assert text.count(old) == 1, f"{old!r} occurs {text.count(old)} times"
    marked = text.replace(old, new)
    line = marked[: marked.index("¶")].count("\n") + 1 if "¶" in marked else None
    return marked.replace("¶", ""), line


def written(text: str, folder: Path) -> Path:
    path = folder / "well.toml"
    path.write_text(text, encoding="utf-8")
    return path


def parsed(text: str) -> Case:
    return parse_case(tomllib.loads(text), "well")


def refusal(path: Path, **options: object) -> str:
    """What a user reads when a case is refused while it is read."""
    with pytest.raises(CaseError) as caught:
        load_case(path, **options)
    return str(caught.value)


# --- what is read


def test_every_table_is_read():
    case = parsed(WELL)
    assert (case.name, case.title) == ("well", "A well")
    assert case.landscape.variables == ["x"]
    assert case.landscape.parameters == {"a": 1.0}
    assert case.noise.temperature == 0.25
    assert (case.axes["x"].min, case.axes["x"].max, case.axes["x"].cells) == (-2.0, 2.0, 20)
    assert case.walls == {"x": ("reflecting", "reflecting")}
    assert list(case.regions) == ["left", "right"]
    assert list(case.observables) == ["loss", "distance"]
    assert case.initial.point == [-1.0]
    assert (case.evolve.until, case.evolve.save, case.evolve.watch) == (1.0, 4, ["left"])
    assert (case.escape.start, case.escape.target) == ([-1.0], "right")
    assert case.expect["stationary.mean.0"].absolute == 1e-9


def test_the_problem_is_the_one_described():
    problem = parsed(changed('x = "reflecting"', 'x = ["absorbing", "reflecting"]')[0]).problem
    assert problem.temperature == 0.25
    assert problem.grid.axes[0].walls == ("absorbing", "reflecting")
    assert problem.landscape.loss is not None
    assert problem.landscape.loss(problem.grid.positions())[0] == pytest.approx((1.9**2 - 1) ** 2, rel=1e-14)


def test_defaults():
    case = parsed(
        """
        landscape = { variables = ["x", "y"], loss = "x**2 + y**2" }
        noise = { kind = "hessian", learning_rate = 1, batch_size = 2 }
        grid = { x = { min = -1, max = 1, cells = 4 }, y = { min = -1, max = 1, cells = 4 } }
        evolve = { until = 2 }
        """
    )
    assert case.title == "well"
    assert case.walls == {"x": ("reflecting", "reflecting"), "y": ("reflecting", "reflecting")}
    assert (case.evolve.save, case.evolve.times, case.evolve.stepper) == (50, None, "auto")
    assert (case.evolve.tolerance, case.evolve.watch) == (1e-6, [])
    assert (case.noise.projection, case.noise.floor, case.noise.floor_kind) == (None, 0.0, "smooth")
    assert (case.noise.convention, case.noise.injected) == ("ito", 0.0)
    assert (case.initial, case.stationary, case.escape, case.expect) == (None, None, None, {})


@pytest.mark.parametrize("given", ['"absorbing"', '["absorbing", "absorbing"]'])
def test_one_word_stands_for_both_walls(given):
    assert parsed(changed('"reflecting"', given)[0]).walls == {"x": ("absorbing", "absorbing")}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("", "", id="as it is"),
        pytest.param(POINT, "gaussian = { mean = [-1.0], covariance = [[0.5]] }", id="gaussian"),
        pytest.param(POINT, "gaussian = { mean = [-1], width = 1 }", id="width"),
        pytest.param(POINT, 'density = "exp(-x**2)"', id="density"),
        pytest.param(POINT, "stationary = true", id="stationary"),
        pytest.param(POINT, "uniform = true", id="uniform"),
        pytest.param("until = 1.0\nsave = 4", "times = [0.1, 0.2, 1]", id="times"),
        pytest.param("until = 1.0\nsave = 4", "until = 1.0", id="default save"),
        pytest.param(CONSTANT, 'kind = "constant"\ndiffusion = [[0.25]]', id="constant diffusion"),
        pytest.param(CONSTANT, HESSIAN, id="hessian"),
        pytest.param(CONSTANT, HESSIAN + '\ninjected = 0.1\nfloor_kind = "additive"', id="injected"),
        pytest.param(CONSTANT, 'kind = "tensor"\ndiffusion = [["1 + x**2"]]\nconvention = "isothermal"', id="tensor"),
        pytest.param(CONSTANT, 'kind = "tensor"\ndiffusion = [[1]]', id="tensor of numbers"),
        pytest.param(CONSTANT, 'kind = "amplitude"\nnoise_amplitude = [["1", 0.5]]', id="amplitude"),
        pytest.param(LOSS, 'drift = ["-a*x"]', id="drift"),
        pytest.param(LOSS, LOSS + '\nextra_drift = [0.1]\nmobility = [[2]]', id="extra drift"),
        pytest.param('"x > 0.8"', '"x > 0.8"\n"with_ü" = "x < -1 or x > 1"', id="unicode"),
        pytest.param('target = "right"', 'target = "x > 0.5"\nvalley = "left"\ngrids = 1', id="valley"),
    ],
)
def test_resolved_text_gives_the_same_case(old, new):
    case = parsed(changed(old, new)[0] if old else WELL)
    again = parsed(case.resolved())
    assert again == case
    assert again.resolved() == case.resolved()


def test_resolved_text_has_the_defaults_filled_in():
    tables = tomllib.loads(parsed(changed("until = 1.0\nsave = 4\ntolerance = 1e-3", "until = 1")[0]).resolved())
    assert tables["evolve"] == {
        "until": 1.0, "save": 50, "stepper": "auto", "tolerance": 1e-6, "watch": ["left"],
    }  # fmt: skip
    assert tables["stationary"] == {}
    assert tables["walls"] == {"x": ["reflecting", "reflecting"]}
    assert "initial" in tables
    assert "valley" not in tables["escape"]


def test_a_file_is_named_after_its_stem_and_may_begin_with_a_mark(tmp_path):
    path = tmp_path / "deep.well.toml"
    path.write_bytes(b"\xef\xbb\xbf" + WELL.replace("\n", "\r\n").encode())
    assert load_case(path).name == "deep.well"
    path.write_bytes(path.read_bytes().replace(b"cells", b"cels"))
    assert refusal(path).startswith(f"{path} line 15, grid.x.cels: ")


# --- overrides


@pytest.mark.parametrize(
    ("override", "read", "value"),
    [
        ("grid.x.cells=40", lambda case: case.axes["x"].cells, 40),
        ("noise.temperature = 0.5", lambda case: case.noise.temperature, 0.5),
        ("noise.temperature=1", lambda case: case.noise.temperature, 1.0),
        ("landscape.loss=x**4/4", lambda case: case.landscape.loss, "x**4/4"),
        ('landscape.loss="x**2"', lambda case: case.landscape.loss, "x**2"),
        ("landscape.parameters.a=2.0", lambda case: case.landscape.parameters, {"a": 2.0}),
        ("escape.start.0=-0.5", lambda case: case.escape.start, [-0.5]),
        ("evolve.watch=['left', 'right']", lambda case: case.evolve.watch, ["left", "right"]),
        ("regions.far=x > 1.5", lambda case: case.region_texts["far"], "x > 1.5"),
        ("walls.x=absorbing", lambda case: case.walls["x"], ("absorbing", "absorbing")),
        ("initial={uniform = true}", lambda case: case.initial.uniform, True),
        ('expect."stationary.mean.0".absolute=1', lambda case: case.expect["stationary.mean.0"].absolute, 1.0),
        ("expect.'stationary.mean.0'.absolute=1", lambda case: case.expect["stationary.mean.0"].absolute, 1.0),
        ("title=a = b", lambda case: case.title, "a = b"),
        ("title=", lambda case: case.title, ""),
    ],
)
def test_override(override, read, value, tmp_path):
    assert read(load_case(written(WELL, tmp_path), [override])) == value


def test_overrides_reach_into_missing_tables_and_the_last_one_wins(tmp_path):
    path = written(WELL.replace("[walls]\nx", "[expect.a]\nvalue").replace('"reflecting"', "3\nrelative = 1"), tmp_path)
    overrides = ["walls.x=absorbing", "grid.x.cells=7", "grid.x.cells=8"]
    case = load_case(path, overrides)
    assert case.walls["x"] == ("absorbing", "absorbing")
    assert case.axes["x"].cells == 8


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("cells", "--set: 'cells' is not KEY=VALUE. Write for instance --set noise.batch_size=32."),
        ("=3", "--set: '=3' is not KEY=VALUE. Write for instance --set noise.batch_size=32."),
        ("grid.x.cells=many", '--set grid.x.cells: it is "many". It must be a whole number.'),
        ("grid.x.cels=40", '--set grid.x.cels: unknown key "cels". Known: min, max, cells. Did you mean "cells"?'),
        ("grid.x=3", "--set grid.x: 3 stands where a table belongs. Write x = { min = ..., max = ..., cells = ... }."),
        ("title.a=3", '--set: title is "A well". It has no entry "a". Shorten the key.'),
        ("grid.x.min.0=3", '--set: grid.x.min is -2.0. It has no entry "0". Shorten the key.'),
        ("escape.start.1=3", '--set: escape.start has no entry "1". Its entries are 0 to 0.'),
        ("escape.start.-1=3", '--set: escape.start has no entry "-1". Its entries are 0 to 0.'),
        ("noise={kind = 'constant', temperature = nan}", "--set noise, noise.temperature: it is nan. It must be a finite"),
        ("momentum.beta=0.9", "--set momentum.beta, momentum: it is not available yet. This version does not read it."),
    ],
)
def test_bad_overrides_are_named(override, message, tmp_path):
    assert refusal(written(WELL, tmp_path), overrides=[override]).startswith(message)


def test_an_error_about_a_table_names_the_override_inside_it(tmp_path):
    path = written(WELL, tmp_path)
    with pytest.raises(CaseError) as caught:
        fpsolve.check(path, ["grid.x.min=5", "noise.temperature=1.0"])
    assert str(caught.value).startswith(f"{path} line 15, grid.x with --set grid.x.min: min = 5 is not below max = 2.")


# --- what is refused while it is read; (old, new, message), ¶ where it must point

REFUSED = [
    # names
    ("[grid]", "¶[gird]", 'gird: unknown table "gird". Known: title, landscape, noise, grid, walls, regions, '
     'initial, observables, evolve, stationary, escape, expect. Did you mean "grid"?'),
    ("[stationary]", "¶[stationnary]", 'stationnary: unknown table "stationnary". Known: '),
    ("cells =", "¶cels =", 'grid.x.cels: unknown key "cels". Known: min, max, cells. Did you mean "cells"?'),
    ("variables =", "¶variable =", 'landscape.variable: unknown key "variable". Known: variables, loss, drift, '
     'extra_drift, mobility, parameters. Did you mean "variables"?'),
    ("temperature", "¶temprature", 'noise.temprature: unknown key "temprature". Known: kind, temperature, diffusion. '
     'Did you mean "temperature"?'),
    ("until", "¶untill", 'evolve.untill: unknown key "untill". Known: until, save, times, stepper, tolerance, watch. '
     'Did you mean "until"?'),
    (POINT, "¶pont = [-1.0]", 'initial.pont: unknown key "pont". Known: '),
    (POINT, "¶gaussian = { mean = [0.0], wdth = 1.0 }", 'initial.gaussian.wdth: unknown key "wdth". '
     'Known: mean, covariance, width. Did you mean "width"?'),
    ('target = "right"', 'target = "right"\n¶strat = [0.0]', 'escape.strat: unknown key "strat". '
     'Known: start, target, valley, grids. Did you mean "start"?'),
    ("absolute", "¶absolut", 'expect."stationary.mean.0".absolut: unknown key "absolut". Known: '),
    (AXIS, AXIS + "\n¶y = { min = 0.0, max = 1.0, cells = 3 }",
     'grid.y: unknown key "y". Axes are named after the variables: x.'),
    ('x = "reflecting"', '¶z = "reflecting"', 'walls.z: unknown key "z". Walls are named after the variables: x.'),
    # keys of another kind of noise
    ("temperature = 0.25", "temperature = 0.25\n¶batch_size = 8", 'noise.batch_size: it has no effect for '
     'noise.kind = "constant". It belongs to hessian. Remove it or change the kind.'),
    (CONSTANT, HESSIAN + "\n¶temperature = 0.1", 'noise.temperature: it has no effect for noise.kind = "hessian". '
     "It belongs to constant. Remove it or change the kind."),
    ("temperature = 0.25", 'temperature = 0.25\n¶convention = "ito"', "noise.convention: it has no effect for "
     'noise.kind = "constant". It belongs to tensor, amplitude, hessian.'),
    # what is missing
    (AXIS, "", '¶'),
]  # fmt: skip
