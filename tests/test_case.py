"""Case files: what is read, what is filled in, what is refused, and where the refusal points."""

from __future__ import annotations

import contextlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fpsolve
from fpsolve import CaseError, load_case
from fpsolve.case import Case, join_path, line_of, parse_case, split_path

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


CELS = 'unknown key "cels". Known: min, max, cells, scale, centre, refine. Did you mean "cells"?'


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
    assert (case.evolve.tolerance, case.evolve.watch) == (1e-5, [])
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
        pytest.param(LOSS, LOSS + "\nextra_drift = [0.1]\nmobility = [[2]]", id="extra drift"),
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
        "until": 1.0, "save": 50, "stepper": "auto", "tolerance": 1e-5, "absorb": [], "watch": ["left"],
        "relative_entropy": True,
    }  # fmt: skip
    assert tables["stationary"] == {"grids": 1}
    assert tables["escape"]["grids"] == 3
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
        ("grid.x.cels=40", f"--set grid.x.cels: {CELS}"),
        ("grid.x=3", "--set grid.x: 3 stands where a table belongs. Write x = { min = ..., max = ..., cells = ... }."),
        ("title.a=3", '--set: title is "A well". It has no entry "a". Shorten the key.'),
        ("grid.x.min.0=3", '--set: grid.x.min is -2.0. It has no entry "0". Shorten the key.'),
        ("escape.start.1=3", '--set: escape.start has no entry "1". Its entries are 0 to 0.'),
        ("escape.start.-1=3", '--set: escape.start has no entry "-1". Its entries are 0 to 0.'),
        (
            "noise={kind = 'constant', temperature = nan}",
            "--set noise, noise.temperature: it is nan. It must be a finite",
        ),
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
    ("[grid]", "¶[gird]", 'gird: unknown table "gird". Known: title, landscape, noise, momentum, grid, walls, regions, '
     'initial, observables, evolve, stationary, spectrum, escape, ensemble, gradient_noise, expect. '
     'Did you mean "grid"?'),
    ("[stationary]", "¶[stationnary]", 'stationnary: unknown table "stationnary". Known: '),
    ("cells =", "¶cels =", f"grid.x.cels: {CELS}"),
    ("variables =", "¶variable =", 'landscape.variable: unknown key "variable". Known: variables, loss, drift, '
     'extra_drift, mobility, per_example_loss, data, table, degree, parameters. Did you mean "variables"?'),
    ("temperature", "¶temprature", 'noise.temprature: unknown key "temprature". Known: kind, learning_rate, injected, '
     'temperature, diffusion. Did you mean "temperature"?'),
    ("until", "¶untill", 'evolve.untill: unknown key "untill". Known: until, save, times, stepper, tolerance, absorb, '
     'watch, relative_entropy. Did you mean "until"?'),
    (POINT, "¶pont = [-1.0]", 'initial.pont: unknown key "pont". Known: '),
    (POINT, "¶gaussian = { mean = [0.0], wdth = 1.0 }", 'initial.gaussian.wdth: unknown key "wdth". '
     'Known: mean, covariance, width. Did you mean "width"?'),
    ('target = "right"', 'target = "right"\n¶strat = [0.0]', 'escape.strat: unknown key "strat". '
     'Known: start, valley, target, targets, core, grids, at_time. Did you mean "start"?'),
    ("absolute", "¶absolut", 'expect."stationary.mean.0".absolut: unknown key "absolut". Known: '),
    (AXIS, AXIS + "\n¶y = { min = 0.0, max = 1.0, cells = 3 }",
     'grid.y: unknown key "y". Axes are named after the variables: x.'),
    ('x = "reflecting"', '¶z = "reflecting"', 'walls.z: unknown key "z". Walls are named after the variables: x.'),
    # keys of another kind of noise
    ("temperature = 0.25", "temperature = 0.25\n¶batch_size = 8", 'noise.batch_size: it has no effect for '
     'noise.kind = "constant". It belongs to hessian, minibatch. Remove it or change the kind.'),
    ("temperature = 0.25", "temperature = 0.25\n¶floor = 0.1", 'noise.floor: it has no effect for '
     'noise.kind = "constant". It belongs to hessian, minibatch. Remove it or change the kind.'),
    (CONSTANT, HESSIAN + "\n¶temperature = 0.1", 'noise.temperature: it has no effect for noise.kind = "hessian". '
     "It belongs to constant. Remove it or change the kind."),
    ("temperature = 0.25", 'temperature = 0.25\n¶convention = "ito"', "noise.convention: it has no effect for "
     'noise.kind = "constant". It belongs to tensor, amplitude, hessian, minibatch.'),
    # what is missing
    ("[grid]\n" + AXIS, "¶[grid]", 'grid: the variable "x" has no axis. Every variable needs one. '
     "Add x = { min = ..., max = ..., cells = ... }."),
    ("max = 2.0, ", "¶", 'grid.x: the key "max" is missing. It has no default. Add max = ...'),
    ('[noise]\nkind = "constant"', "¶[noise]", 'noise: the key "kind" is missing. Choose one of constant, tensor, '
     "amplitude, hessian, minibatch. Add kind = ..."),
    ("[initial]\n" + POINT, "¶[initial]", "initial: 0 ways to start (none). Give exactly one of gaussian, point, "
     "density, stationary, uniform, file."),
    ("[initial]\n" + POINT, "¶[initial]\nuniform = false", "initial: 0 ways to start (none). Give exactly one of "),
    (POINT, "¶gaussian = { width = 0.1 }", 'initial.gaussian: the key "mean" is missing. It has no default.'),
    ("[evolve]\nuntil = 1.0\nsave = 4", "¶[evolve]", "evolve: neither until nor times is given. Exactly one of them "),
    # too much
    ("[initial]\n", "¶[initial]\nuniform = true\n", "initial: 2 ways to start (point, uniform). Give exactly one of "),
    ("[evolve]\n", "¶[evolve]\ntimes = [1.0]\n", "evolve: both until and times are given. Exactly one of them is "),
    ("until = 1.0\nsave = 4", "times = [1.0]\n¶save = 4", "evolve.save: it has no effect beside times. It belongs to "
     "until. Remove it."),
    # wrong kinds of values
    ('"A well"', "¶3", "title: it is 3. It must be a text in quotes."),
    ("0.25", "¶true", "noise.temperature: it is true. It must be a number, a formula in t or k in quotes, or stages. "
     "Write temperature = [{ steps = 100, value = 0.1 }, { steps = 1000, value = 0.01 }]."),
    ("0.25", "¶2020-01-01", 'noise.temperature: it is "2020-01-01". It must be a number, a formula in t or k in '),
    ("0.25", "¶nan", "noise.temperature: it is nan. It must be a finite number."),
    ('"constant"', "¶3", "noise.kind: 3 is not a known choice. Choose one of constant, tensor, amplitude, hessian, "
     "minibatch."),
    ('"constant"', '¶["constant"]', 'noise.kind: ["constant"] is not a known choice. Choose one of '),
    ('"constant"', '¶"constnat"', 'noise.kind: "constnat" is not a known choice. Choose one of constant, tensor, '
     'amplitude, hessian, minibatch. Did you mean "constant"?'),
    (CONSTANT, 'kind = "constant"\n¶diffusion = 0.25', "noise.diffusion: it is 0.25. It must be a list in brackets. "
     "Write [[0.25]]."),
    (CONSTANT, 'kind = "constant"\n¶diffusion = [["x"]]', 'noise.diffusion.0.0: it is "x". It must be a number.'),
    (CONSTANT, 'kind = "constant"\ndiffusion = [\n  [1.0, 0.0],\n  [0.0, ¶"x"],\n]', 'noise.diffusion.1.1: it is "x".'),
    (CONSTANT, 'kind = "tensor"\n¶diffusion = ["1"]', 'noise.diffusion.0: it is "1". It must be a list in brackets. '
     'Write ["1"].'),
    (CONSTANT, 'kind = "tensor"\n¶diffusion = [[true]]', "noise.diffusion.0.0: it is true. It must be a formula in "
     "quotes, or a number."),
    (CONSTANT, HESSIAN.replace('"abs"', '¶"absolut"'), 'noise.projection: "absolut" is not a known choice. '
     'Choose "abs" or "clip". Did you mean "abs"?'),
    (CONSTANT, HESSIAN + '\n¶floor_kind = "soft"', 'noise.floor_kind: "soft" is not a known choice. '
     'Choose "smooth", "additive" or "maximum".'),
    (CONSTANT, HESSIAN + '\n¶convention = "itoo"', 'noise.convention: "itoo" is not a known choice. '
     'Choose "ito", "isothermal" or "stratonovich". Did you mean "ito"?'),
    (AXIS, "¶x = [-2, 2, 20]", "grid.x: [-2, 2, 20] stands where a table belongs. "
     "Write x = { min = ..., max = ..., cells = ... }."),
    ("cells = 20", "¶cells = 20.0", "grid.x.cells: it is 20.0. It must be a whole number."),
    ("cells = 20", '¶cells = "20"', 'grid.x.cells: it is "20". It must be a whole number. Write 20 without quotes.'),
    ("cells = 20", "¶cells = 1000000000000000", "grid.x.cells: it is 1000000000000000. It must be at most 1e+12."),
    ('["x"]', '¶"x"', 'landscape.variables: it is "x". It must be a list in brackets. Write ["x"].'),
    ('["x"]', "¶[]", "landscape.variables: it is []. It must have at least 1 entry."),
    ('["x"]', '¶["x", "y", "z", "u"]', 'landscape.variables: it is ["x", "y", "z", "u"]. It must have at most 3 '),
    ('["x"]', "¶[1]", "landscape.variables.0: it is 1. It must be a text in quotes."),
    (LOSS, '¶loss = ["x**2"]', 'landscape.loss: it is ["x**2"]. It must be a formula in quotes, or a number.'),
    (LOSS, '¶drift = "-x"', 'landscape.drift: it is "-x". It must be a list in brackets. Write ["-x"].'),
    ("a = 1.0", '¶a = "one"', 'landscape.parameters.a: it is "one". It must be a number.'),
    ("a = 1.0", 'a = 1.0\n¶strength = "x"', 'landscape.parameters.strength: it is "x". It must be a number.'),
    ("[landscape.parameters]\na = 1.0", "¶[landscape.parameters.a]\nb = 1.0", "landscape.parameters.a: it is "
     '{"b": 1.0}. It must be a number.'),
    ('x = "reflecting"', "¶x = 3", "walls.x: 3 is not a known choice. Choose one of reflecting, absorbing, periodic."),
    ('"reflecting"', '¶"reflectng"', 'walls.x: "reflectng" is not a known choice. Choose one of reflecting, absorbing, '
     'periodic. Did you mean "reflecting"?'),
    ('"reflecting"', '¶[["absorbing"], "reflecting"]', 'walls.x: ["absorbing"] is not a known choice.'),
    ('"reflecting"', '¶["absorbing"]', "walls.x: 1 walls. An axis has two: [lower, upper], or one word for both."),
    ('"x < 0"', "¶3", "regions.left: it is 3. It must be a formula in quotes."),
    ('"abs(x + 1)"', "¶true", "observables.distance: it is true. It must be a formula in quotes."),
    (POINT, "¶point = -1.0", "initial.point: it is -1.0. It must be a list in brackets. Write [-1.0]."),
    (POINT, "¶uniform = 1", "initial.uniform: it is 1. It must be true or false."),
    (POINT, "¶gaussian = 0.1", "initial.gaussian: 0.1 stands where a table belongs. "
     "Write gaussian = { mean = [...], width = ... }."),
    (POINT, "¶gaussian = { mean = [0.0], width = -0.1 }", "initial.gaussian.width: it is -0.1. It must be above 0."),
    ("until = 1.0", '¶until = "long"', 'evolve.until: it is "long". It must be a number.'),
    ("until = 1.0", "¶until = 0", "evolve.until: it is 0. It must be above 0."),
    ("save = 4", "¶save = 0", "evolve.save: it is 0. It must be at least 1."),
    ("save = 4", "¶save = 1.5", "evolve.save: it is 1.5. It must be a whole number."),
    ("tolerance = 1e-3", "¶tolerance = 0.0", "evolve.tolerance: it is 0.0. It must be above 0."),
    ("until = 1.0\nsave = 4", "¶times = []", "evolve.times: it is []. It must have at least 1 entry."),
    ("until = 1.0\nsave = 4", "¶times = [0.0, 1.0]", "evolve.times: the times [0.0, 1.0] do not increase from 0. "
     "Each must be later than the one before, the first after 0. Sort them."),
    ("until = 1.0\nsave = 4", "¶times = [\n  1.0,\n  0.5,\n]", "evolve.times: the times [1.0, 0.5] do not increase"),
    ("save = 4", 'save = 4\n¶stepper = "implict"', 'evolve.stepper: "implict" is not a known choice. '
     'Choose "auto", "implicit", "stabilised" or "exponential". Did you mean "implicit"?'),
    ('watch = ["left"]', '¶watch = "left"', 'evolve.watch: it is "left". It must be a list in brackets. '
     'Write ["left"].'),
    ("[stationary]\n", "¶[[stationary]]\n", "stationary: [{}] stands where a table belongs. Write [stationary]."),
    ("start = [-1.0]", '¶start = ["left"]', 'escape.start.0: it is "left". It must be a number.'),
    ("start = [-1.0]", "¶start = -1.0", "escape.start: it is -1.0. It must be a list in brackets. Write [-1.0]."),
    ('target = "right"', '¶target = ["right"]', 'escape.target: it is ["right"]. It must be a text in quotes.'),
    ('target = "right"', 'target = "right"\n¶grids = "three"', 'escape.grids: "three" is not a known choice. '
     "Choose 1 or 3."),
    ('target = "right"', 'target = "right"\n¶grids = 3.0', 'escape.grids: "3.0" is not a known choice. Choose 1 or 3.'),
    ("cells = 20", "¶refine = 4, cells = 20", "grid.x.refine: it is 4. It must be a list in brackets. "
     "Write refine = [{ at = ..., by = ... }]."),
    ('target = "right"', 'target = "right"\n¶grids = 2', "escape.grids: 2 is not a known choice. Choose 1 or 3."),
    ('target = "right"', 'target = "right"\n¶targets = ["right"]', "escape.targets: both target and targets are given. "
     "One region is the target, several are targets. Remove one."),
    ('target = "right"', "¶targets = []", "escape.targets: it is []. It must have at least 1 entry."),
    (ENTRY, '¶"stationary.mean.0" = 3.0', 'expect."stationary.mean.0": 3.0 stands where a table belongs. '
     "Write { value = 3.0, relative = 1e-3 }."),
    (ENTRY, "¶" + ENTRY.replace('"', ""), "expect.stationary: a path without quotes around it. "
     'Write "stationary.mean.0" = { ... }, in quotes.'),
    ("absolute = 1e-9", "¶absolute = -1.0", 'expect."stationary.mean.0".absolute: it is -1.0. It must be at least 0.'),
    # numbers that are none
    ("0.25", "¶nan", "noise.temperature: it is nan. It must be a finite number."),
    ("0.25", "¶-inf", "noise.temperature: it is -inf. It must be a finite number."),
    ("min = -2.0", "¶min = nan", "grid.x.min: it is nan. It must be a number, -inf or inf."),
    ("a = 1.0", "¶a = inf", "landscape.parameters.a: it is inf. It must be a finite number."),
    ("start = [-1.0]", "start = [\n  ¶nan,\n]", "escape.start.0: it is nan. It must be a finite number."),
    ("value = 0.0", "¶value = nan", 'expect."stationary.mean.0".value: it is nan. It must be a finite number.'),
    # names
    ("a = 1.0", "¶exp = 1.0", 'landscape.parameters.exp: "exp" is taken. Taken are abs, cos, '),
    ("a = 1.0", "¶t = 1.0", 'landscape.parameters.t: "t" is taken. Taken are '),
    ("a = 1.0", "¶x = 1.0", 'landscape.parameters.x: "x" is also a variable. Each name may be used once. Rename one.'),
    ("a = 1.0", '¶"a b" = 1.0', 'landscape.parameters."a b": "a b" cannot be a name. A name is one word of letters, '
     "digits and _, and no keyword of Python. Rename it."),
    ('["x"]', '¶["x", "x"]', 'landscape.variables: a name occurs twice in ["x", "x"]. Each name may be used once.'),
    ("left =", '¶"left side" =', 'regions."left side": "left side" cannot be a name. A name is one word of letters, '
     "digits and _. Rename it."),
    ("left =", '¶"left.side" =', 'regions."left.side": "left.side" cannot be a name.'),
    ("left =", '¶"left/side" =', 'regions."left/side": "left/side" cannot be a name.'),
    ("distance =", "¶loss =", 'observables.loss: "loss" is taken. The loss is always recorded. Rename it.'),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), REFUSED, ids=[message[:60] for *_, message in REFUSED])
def test_refused(old, new, message, tmp_path):
    text, line = changed(old, new)
    path = written(text, tmp_path)
    assert refusal(path).startswith(f"{path} line {line}, {message}")


@pytest.mark.parametrize(
    "name", ["t", "k", "pi", "time", "density", "loss", "axes", "domain", "exp", "bound", "steps", "mass"]
)
def test_reserved_variable_names(name, tmp_path):
    path = written(WELL.replace('["x"]', f'["{name}"]'), tmp_path)
    assert refusal(path).startswith(f'{path} line 4, landscape.variables: "{name}" is taken. Taken are abs, ')


@pytest.mark.parametrize("name", ["my x", "1x", "", "lambda", "x-y", "x.y"])
def test_what_cannot_be_a_variable(name, tmp_path):
    path = written(WELL.replace('["x"]', f'["{name}"]'), tmp_path)
    message = f'"{name}" cannot be a name. A name is one word of letters, digits and _, and no keyword of Python. '
    assert refusal(path) == f"{path} line 4, landscape.variables: {message}Rename it."


@pytest.mark.parametrize("table", ["landscape", "noise", "grid"])
def test_missing_tables(table, tmp_path):
    tables = {"landscape": "variables = ['x']\nloss = 'x**2'", "noise": CONSTANT, "grid": AXIS}
    text = "\n".join(f"[{name}]\n{body}" for name, body in tables.items() if name != table)
    path = written(text, tmp_path)
    required = "Every case needs [landscape], [noise] and [grid]"
    assert refusal(path) == f"{path}: the table [{table}] is missing. {required}. Add [{table}]."


def test_an_empty_file(tmp_path):
    path = written("", tmp_path)
    assert refusal(path).startswith(f"{path}: the table [landscape] is missing. ")


def test_a_text_where_a_table_belongs(tmp_path):
    path = written('noise = "loud"\n' + WELL.replace("[noise]", "[landscape.noise]"), tmp_path)
    assert "landscape.noise: unknown key" in refusal(path)
    path = written(f'noise = "loud"\n[landscape]\nvariables = ["x"]\nloss = "x"\n[grid]\n{AXIS}', tmp_path)
    assert refusal(path) == f'{path} line 1, noise: "loud" stands where a table belongs. Write [noise].'


# --- schedules

SCHEDULES = {
    "a formula": '"0.1/(1 + k/100)"',
    "a formula in t": '"0.1*exp(-t)"',
    "stages": "[{ steps = 100, value = 0.1 }, { steps = 10, value = 0.2 }]",
    "durations": "[{ time = 2.0, value = 0.1 }, { time = 1, value = 0.2 }]",
}


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("key", ["temperature", "learning_rate", "batch_size", "injected"])
def test_numbers_of_the_noise_may_be_schedules(key, schedule):
    """They survive the way through the resolved text, and the problem knows that it changes."""
    noise = f"{CONSTANT}\nlearning_rate = 0.1\ninjected = 0.3" if key == "temperature" else f"{HESSIAN}\ninjected = 0.3"
    old = re.search(rf"^{key} = (.*)$", noise, re.MULTILINE)[1]
    case = parsed(WELL.replace(CONSTANT, noise.replace(f"{key} = {old}", f"{key} = {schedule}")))
    again = parsed(case.resolved())
    assert again == case
    assert again.resolved() == case.resolved()
    course = case.problem.course
    assert course.is_smooth == schedule.startswith('"')
    assert (not course.is_smooth) == bool(course.jumps)
    assert course.words.startswith(key.replace("_", " "))


def test_a_number_in_quotes_is_a_formula():
    assert parsed(WELL.replace("0.25", '"1/4"')).problem.temperature == 0.25


BAD_SCHEDULES = [
    ("[]", "noise.temperature: it has no stages. At least one is needed. Give one number instead."),
    ("[0.1, 0.2]", "noise.temperature.0: 0.1 stands where a table belongs. Write { steps = 100, value = 0.1 }."),
    ("[{ steps = 100 }]", 'noise.temperature.0: the key "value" is missing. It has no default. Add value = ...'),
    ("[{ steps = 0, value = 0.1 }]", "noise.temperature.0.steps: it is 0. It must be above 0."),
    ("[{ time = -1.0, value = 0.1 }]", "noise.temperature.0.time: it is -1.0. It must be above 0."),
    ("[{ step = 100, value = 0.1 }]", 'noise.temperature.0.step: unknown key "step". Known: value, steps, time. '),
    ("[{ steps = 1, value = 0.1 }, { steps = 9, value = 'a' }]", 'noise.temperature.1.value: it is "a". It must be a '),
    ("[{ steps = 1, value = 0.1 }, { time = 9, value = 0.2 }]", "noise.temperature: its stages are measured in "),
    ("[{ steps = 1, time = 1, value = 0.1 }]", "noise.temperature: its stages are measured in different ways. "),
    ("[{ value = 0.1 }, { value = 0.2 }]", "noise.temperature: its stages are measured in different ways. "),
    ("[{ steps = 1, value = 0.1 }, { steps = 1, value = 0.2 }]", "noise.temperature: it counts SGD steps. Steps are "
     "counted where there is a learning rate. Add noise.learning_rate, or use the time t."),
    ('"0.1/(1 + k)"', "noise.temperature: it counts SGD steps. Steps are counted where there is a learning rate. "),
    ('"0.1*x"', 'noise.temperature: "x" in "0.1*x" is not a known name. Allowed are numbers, + - * / **, the names t, '
     "k, a, pi and the functions "),
    ('"0.1*t"', "noise.temperature: it is 0. It must be a finite number above 0."),
    ('"1/t"', "noise.temperature: it is inf"),
    ("[{ time = 1, value = 0.0 }, { time = 1, value = 0.2 }]", "noise.temperature: it is 0. It must be a finite "),
    ('"0.1 - t"', "noise.temperature: at t = 1 it is -0.9. It must be a finite number above 0."),
    ("[{ time = 0.5, value = 0.1 }, { time = 1, value = 0.0 }]", "noise.temperature: at t = 0.5 it is 0. It must be "),
]  # fmt: skip


@pytest.mark.parametrize(("schedule", "message"), BAD_SCHEDULES, ids=[entry[0] for entry in BAD_SCHEDULES])
def test_bad_schedules_are_refused(schedule, message, tmp_path):
    """All before the run begins: `fpsolve check` finds them, with the line of the key."""
    path = written(WELL[: WELL.index("[stationary]")].replace("0.25", schedule), tmp_path)
    with pytest.raises(CaseError) as caught:
        fpsolve.check(path)
    assert str(caught.value).startswith(f"{path} line 12, {message}")


# --- what only the model can refuse: `fpsolve check` finds all of it, still with file, line and key

MODELLED = [
    # formulas
    ("x**2 - a", "x**2 - b", LOSS, 'landscape.loss: "b" in "(x**2 - b)**2" is not a known name. Allowed are numbers, '),
    ("(x**2 - a)**2", "xp(x)", LOSS, 'landscape.loss: "xp(x)" calls "xp", which is not a known function. Allowed '),
    ("(x**2 - a)**2", "x.real", LOSS, 'landscape.loss: "x.real" is not allowed. '),
    ("(x**2 - a)**2", "__import__('os')", LOSS, "landscape.loss: \"__import__('os')\" calls \"__import__\", which is "),
    ("(x**2 - a)**2", "x**1000", LOSS, 'landscape.loss: "x**1000" has too large an exponent. Constant exponents go '),
    ("(x**2 - a)**2", "x^2", LOSS, 'landscape.loss: "x^2" is not allowed. '),
    ("(x**2 - a)**2", "2x", LOSS, 'landscape.loss: "2x" cannot be read: '),
    ("(x**2 - a)**2", "", "loss =", 'landscape.loss: "" cannot be read: '),
    ("(x**2 - a)**2", "x*exp(-t)", "[stationary]", "stationary: the drift or the noise changes in time. [stationary] "
     "is about one time, at which everything is held. Add at_time = 0.0."),
    ("(x**2 - a)**2", "k*x", LOSS, 'landscape.loss: "k" in "k*x" is reserved for time. Drift and diffusion may depend '
     "on the time t, schedules of the noise also on the SGD step k. Use a number or a parameter."),
    ("x < 0", "x < t", "left =", 'regions.left: "t" in "x < t" is reserved for time. '),
    ("abs(x + 1)", "x*t", "distance =", 'observables.distance: "t" in "x*t" is reserved for time. '),
    ("[stationary]", "[stationary]\nat_time = 0.0", "at_time", "stationary.at_time: it has no effect. Nothing changes "
     "in time here. Remove it."),
    ('target = "right"', 'target = "right"\nat_time = 0.0', "at_time", "escape.at_time: it has no effect. "),
    (POINT, 'file = "earlier.nc"', "file =", "initial.file: there is no file earlier.nc. It must be a result file with "
     "a density in time. Check the path."),
    ("save = 4", 'save = 4\nabsorb = ["lift"]', "absorb =", 'evolve.absorb: "lift" is not a known region. '),
    ("(x**2 - a)**2", "x*log(x)", LOSS, "landscape.loss: it is nan in cell (0) at x = -1.9. It must be finite in every "
     "cell. Move the walls or change the formula."),
    ("(x**2 - a)**2", "exp(1000*x)", LOSS, "landscape.loss: it is inf in cell ("),
    ("x < 0", "z < 0", "left =", 'regions.left: "z" in "z < 0" is not a known name. '),
    ("x < 0", "x == 0", "left =", 'regions.left: "x == 0" has no inside. A region needs < or >, not == or !=. '),
    ("x < 0", "x + 1", "left =", 'regions.left: "x + 1" has no comparison. A region needs a comparison such as '),
    ("x < 0", "log(x) < 0", "left =", "regions.left: it is nan in cell (0) at x = -1.9. It must be finite in every "),
    ("abs(x + 1)", "z", "distance =", 'observables.distance: "z" is not a known name. '),
    ("abs(x + 1)", "log(x)", "distance =", "observables.distance: it is nan in cell (0) at x = -1.9. It must be finite "
     "in every cell. Move the walls or change the formula."),
    # landscape and noise
    (LOSS, "", "[landscape]", "landscape: none of loss, drift, per_example_loss, table is given. Exactly one of them"),
    (LOSS, LOSS + '\ndrift = ["-x"]', "[landscape]", "landscape: both loss and drift are given. Exactly one of them "),
    (LOSS, 'drift = ["-x", "-y"]', "drift =", "landscape.drift: 2 found where 1 entries belong."),
    (LOSS, LOSS + "\nmobility = [[-1.0]]", "mobility =", "landscape.mobility: it has the eigenvalue -1. It must be "),
    ("temperature = 0.25", "", "[noise]", "noise: neither temperature nor diffusion given. Constant noise needs "),
    ("temperature = 0.25", "temperature = -0.25", "temperature =", "noise.temperature: it is -0.25. It must be a "
     "finite number above 0."),
    (CONSTANT, 'kind = "constant"\ndiffusion = [[1.0, 0.0], [0.0, 1.0]]', "diffusion =", "noise.diffusion: it is 2 x "
     "2. It must be 1 x 1, one row per variable."),
    (CONSTANT, 'kind = "tensor"\ndiffusion = [["x"]]', "[noise]", "noise: the diffusion matrix has the eigenvalue -1.9 "
     "in cell (0) at x = -1.9. No eigenvalue of the diffusion may be negative in any cell."),
    (CONSTANT, HESSIAN.replace('\nprojection = "abs"', ""), "[noise]", "noise: the Hessian of the loss has the "
     "eigenvalue -3.88 in cell (9) at x = -0.1. No eigenvalue of the diffusion may be negative in any cell. "
     'Choose noise.projection = "abs" or "clip", and a noise.floor above 0.'),
    (CONSTANT, HESSIAN.replace("floor = 0.5", "floor = -1"), "floor =", "noise.floor: it is -1. It must be a finite "
     "number, 0 or more."),
    # the grid and its walls
    ("min = -2.0, max = 2.0", "min = 2.0, max = -2.0", "x = {", "grid.x: min = 2 is not below max = -2. An axis needs "
     "min < max. Exchange them or widen the axis."),
    ("min = -2.0", "min = 2.0", "x = {", "grid.x: min = 2 is not below max = 2. "),
    ("cells = 20", "cells = 0", "x = {", "grid.x: cells = 0. An axis needs a whole number of cells, "
     "at least 1. Try cells = 100."),
    ('x = "reflecting"', 'x = ["periodic", "reflecting"]', 'x = ["per', "walls.x: one end is periodic, the other "
     'reflecting. A periodic axis joins both ends. Write "periodic" once.'),
    (f'loss = "(x**2 - a)**2"\n\n[landscape.parameters]\na = 1.0\n\n[noise]\n{CONSTANT}\n\n[grid]\n{AXIS}\n\n[walls]\n'
     'x = "reflecting"', f'loss = "x"\n[noise]\n{CONSTANT}\n[grid]\n{AXIS}\n[walls]\nx = "periodic"', 'x = "periodic"',
     "walls.x: axis x is periodic but loss is -2 at -2 and 2 at 2. A periodic axis needs a periodic loss. "
     'Use walls.x = "reflecting" or a loss of period 4.'),
    ('x = "reflecting"', 'x = ["reflecting", "absorbing"]', "[stationary]", "stationary: probability leaves through "
     "x_max. A density at rest needs closed walls. Remove it, or let no wall absorb."),
    # the start of the motion
    ("[initial]\n" + POINT, "", "[evolve]", "evolve: there is no [initial] table. A density in time needs a start. "
     "Add [initial]."),
    (POINT, "point = [-1.0, 0.0]", "point =", "initial.point: 2 coordinates. A point needs 1, one per variable."),
    (POINT, "point = [7.0]", "point =", "initial.point: x = 7 lies outside the grid. x runs from -2 to 2. "),
    (POINT, 'density = "x"', "density =", "initial.density: it is -1.9 in cell (0) at x = -1.9. A density is finite "),
    (POINT, 'density = "0"', "density =", "initial.density: the density is zero everywhere on the grid. "),
    (POINT, "gaussian = { mean = [0.0] }", "gaussian =", "initial.gaussian: a Gaussian needs exactly one of "),
    (POINT, "gaussian = { mean = [9.0], width = 0.5 }", "gaussian =", "initial.gaussian.mean: x = 9 lies outside the "),
    (POINT, "gaussian = { mean = [0.0], width = 0.01 }", "gaussian =", "initial.gaussian: it is 0.01 wide along x, "
     "where cells are 0.2. A Gaussian must be at least 0.5 cells wide. Use more cells, a wider Gaussian, or a point."),
    ('watch = ["left"]', 'watch = ["lift"]', "watch =", 'evolve.watch: "lift" is not a known region. A region is a '
     'condition or one of [regions]: left, right. Did you mean "left"?'),
    ("save = 4", "save = 1000000000000", "save =", "evolve.save: 1000000000000 saved densities need about 8.94e+05 "
     "GiB. This machine has "),
    # the escape
    ("start = [-1.0]", "start = [-1.0, 0.0]", "start =", "escape.start: 2 coordinates. A point needs 1, one per "),
    ("start = [-1.0]", "start = [-3.0]", "start =", "escape.start: x = -3 lies outside the grid. x runs from -2 to 2. "
     "Move the point or widen the grid."),
    ("start = [-1.0]", "start = [1.0]", "start =", "escape.start: the start lies inside the target 'right'. It must "
     "lie outside. Move the start or shrink the target."),
    ('target = "right"', 'target = "x > -3"', "start =", "escape.start: the start lies inside the target 'x > -3'."),
    ('target = "right"', 'target = "x > 5"', "target =", "escape.target: the region 'x > 5' holds no cell of the grid. "
     "It must hold some cells and leave others. Check the condition against the grid's bounds, or refine the grid."),
    ('target = "right"', 'target = "rigth"', "target =", 'escape.target: "rigth" is not a known region. A region is a '
     'condition or one of [regions]: left, right. Did you mean "right"?'),
    ('target = "right"', 'target = "x > log(x)"', "target =", "escape.target: it is nan in cell (0) at x = -1.9. "),
    ('target = "right"', 'target = "right"\nvalley = "lft"', "valley =", 'escape.valley: "lft" is not a known '),
    ('target = "right"', 'target = "right"\nvalley = "x > 0.5"', "valley =", "escape.valley: the start lies outside "
     "the valley 'x > 0.5'. It must lie inside. Move the start or widen the valley."),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "pointed", "message"), MODELLED, ids=[message[:60] for *_, message in MODELLED])
def test_refused_by_the_model(old, new, pointed, message, tmp_path):
    text, _ = changed(old, new)
    line = 1 + text[: text.index(pointed if pointed in text else new)].count("\n")
    path = written(text, tmp_path)
    with pytest.raises(CaseError) as caught:
        fpsolve.check(path)
    assert str(caught.value).startswith(f"{path} line {line}, {message}")


# --- whatever stands wherever: an answer or a refusal in our words, never a traceback

JUNK = [
    "", "x", "hot", "0", "1/0", "x > 0", "(", "log(x)", "sqrt(x)", "1e308*x*10", "é", 0, 1, -1, 3, 10**18, 10**400, 0.5,
    1e-300, 1e300, float("nan"), float("inf"), True, [], [0], ["x"], [[]], [[1.0]], [["x"]], [1.0, 2.0],
    [[1.0, 0.0], [0.0, 1.0]], [[1.0, 2.0], [3.0]], {}, {"a": 1}, [{"steps": 1, "value": 2.0}],
]  # fmt: skip


def places(table: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where a value stands: every key and every entry of a list."""
    for key, value in table.items() if isinstance(table, dict) else enumerate(table):
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


@pytest.mark.parametrize("place", list(places(tomllib.loads(WELL))), ids=lambda place: ".".join(map(str, place)))
def test_junk_anywhere_is_answered_or_refused(place):
    *way, last = place
    for junk in JUNK:
        content = table = tomllib.loads(WELL)
        for part in way:
            table = table[part]
        table[last] = junk
        with contextlib.suppress(CaseError):
            fpsolve.check(parse_case(content, "well"))
    del table[last]
    with contextlib.suppress(CaseError):
        fpsolve.check(parse_case(content, "well"))


# --- where it is: paths and lines

PARTS = st.text(st.characters(exclude_characters="\"'", exclude_categories=["Cs"]))


@given(st.lists(PARTS, min_size=1))
def test_a_joined_path_splits_again(parts):
    assert split_path(join_path(parts)) == parts


def test_paths_with_quotes_in_them():
    assert split_path('evolve.regions."x > 0.5".occupation.-1') == ["evolve", "regions", "x > 0.5", "occupation", "-1"]
    path = 'evolve.regions."x > 0.5".occupation.-1'
    assert split_path(join_path(["expect", path])) == ["expect", path]


LINES = """\
# a comment with noise.kind = 1
title = "x = 3"
noise.kind = "constant"
noise . "temperature" = 1.0   # dotted
[landscape]  # a header
variables = [
  "x",   # first

  "y",
]
loss = \"\"\"
  x**2
  + kind*y**2 \"\"\"
parameters = { x = 1, kind = 2 }
[ landscape . more ]
x = 1
[[stages]]
steps = 1
[expect]
"a.b" = { value = 1, at = [
  1.0,
  2.0] }
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("title", 2),
        ("noise", 3),
        ("noise.kind", 3),
        ("noise.temperature", 4),
        ("noise.nothing", 3),
        ("landscape", 5),
        ("landscape.nothing", 5),
        ("landscape.variables", 6),
        ("landscape.variables.0", 7),
        ("landscape.variables.1", 9),
        ("landscape.variables.2", 6),
        ("landscape.loss", 11),
        ("landscape.parameters.kind", 14),
        ("landscape.more", 15),
        ("landscape.more.x", 16),
        ("stages", 17),
        ("stages.0.steps", 17),
        ("expect", 19),
        ('expect."a.b".value', 20),
        ('expect."a.b".at', 20),
        ('expect."a.b".at.1', 22),
        ("nothing", None),
    ],
)
def test_line_of_a_path(path, line):
    assert line_of(LINES, split_path(path)) == line


def test_no_path_has_no_line():
    assert line_of(LINES, []) is None


# --- files that are no cases


def test_absent_file(tmp_path):
    (tmp_path / "kramers.toml").write_text(WELL)
    path = tmp_path / "kramer.toml"
    assert refusal(path) == f'{path}: there is no such file. Check the path. Did you mean "kramers.toml"?'


def test_directory(tmp_path):
    required = "A case is a text file. Check the path and its permissions."
    assert refusal(tmp_path) == f"{tmp_path}: it cannot be read (Is a directory). {required}"


def test_not_text(tmp_path):
    path = tmp_path / "well.toml"
    path.write_bytes(b'# fine\ntitle = "M\xfcnchen"\n')
    required = "A case is a UTF-8 text file. Save it as UTF-8."
    assert refusal(path) == f"{path}: it is not UTF-8 text (byte 0xfc in line 2). {required}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[landscape]\nloss = x**2\n", "Invalid value (at line 2, column 8)"),
        ('[landscape]\nloss = "x**2\n', "Illegal character '\\n' (at line 2, column 13)"),
        (WELL + "[grid]\n", "Cannot declare ('grid',) twice (at line "),
        ("title = 'a'\ntitle = 'b'\n", "Cannot overwrite a value (at line 2"),
    ],
)
def test_broken_toml(text, reason, tmp_path):
    path = written(text, tmp_path)
    said = refusal(path)
    assert said.startswith(f"{path}: it is not valid TOML: {reason}")
    assert said.endswith(". Mend that line: texts and formulas stand in quotes, numbers do not.")
