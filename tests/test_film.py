"""Films: one frame for every saved instant, all of one size, and a message for what is no film."""

import numpy as np
import pytest
from click.testing import CliRunner
from matplotlib.animation import FFMpegWriter
from PIL import Image
from test_figures import check_figure

from fpsolve import cli, pipeline
from fpsolve.case import parse_case
from fpsolve.errors import CaseError
from fpsolve.present import film as filming
from fpsolve.present.film import film
from fpsolve.present.pictures.frames import frames
from fpsolve.present.pictures.style import styled
from fpsolve.present.reel import MOST_FRAMES, read_reel

LINE = {
    "title": "A long title of a case that goes over more than one line of a narrow film, and yet further",
    "landscape": {"variables": ["x"], "loss": "(x**2 - 1)**2"},
    "noise": {"kind": "constant", "temperature": 0.3, "learning_rate": 0.1},
    "grid": {"x": {"min": -2.0, "max": 1.5, "cells": 50}},
    "initial": {"gaussian": {"mean": [-1.0], "width": 0.2}},
    "evolve": {"until": 20.0, "save": 10, "tolerance": 1e-3, "absorb": ["x > 1"]},
}
MAP = {
    "title": "A map",
    "landscape": {"variables": ["x", "y"], "loss": "x**2 + y**2"},
    "noise": {"kind": "constant", "temperature": 0.3},
    "grid": {
        "x": {"min": -2.0, "max": 2.0, "cells": 24},
        "y": {"min": -float("inf"), "max": float("inf"), "cells": 32, "scale": 1.0},
    },
    "initial": {"gaussian": {"mean": [0.5, 0.4], "width": 0.3}},
    "evolve": {"until": 1.0, "save": 4, "tolerance": 1e-3},
}
SPACE = {
    "title": "A space",
    "landscape": {"variables": ["x", "y", "z"], "drift": ["-x", "-y", "-z"]},
    "noise": {"kind": "constant", "diffusion": [[0.3, 0, 0], [0, 0.3, 0], [0, 0, 0.3]]},
    "grid": {name: {"min": -2.0, "max": 2.0, "cells": 10} for name in "xyz"},
    "initial": {"gaussian": {"mean": [0.5, 0.4, 0.0], "width": 0.4}},
    "evolve": {"until": 1.0, "save": 3, "tolerance": 1e-3},
}
CASES = {"line": LINE, "map": MAP, "space": SPACE}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """The result files of all cases, by name."""
    folder = tmp_path_factory.mktemp("films")
    return {
        name: pipeline.run(parse_case(case, name), output=folder, figures=False).result_file
        for name, case in CASES.items()
    }


@pytest.mark.parametrize("name", CASES)
def test_every_saved_instant_is_a_frame(results, name):
    path = film(results[name], fps=10.0)
    assert path == results[name].with_suffix(".gif")
    with Image.open(path) as picture:
        assert picture.n_frames == CASES[name]["evolve"]["save"] + 1
        assert picture.info["duration"] == 100
        assert picture.convert("RGB").getpixel((2, picture.height - 3)) == (255, 255, 255)
        assert max(picture.size) < 1000
    assert path.stat().st_size < 500_000


@pytest.mark.parametrize("name", CASES)
def test_frames_are_named_and_nothing_is_cut_off(results, name):
    with styled():
        shown = frames(read_reel(results[name]))
        for instant in (0, -1):
            shown.show(instant)
            check_figure(shown.figure)


def test_a_frame_says_when_it_is_and_what_has_left(results):
    with styled():
        shown = frames(read_reel(results["line"]))
        reel = read_reel(results["line"])
        shown.show(10)
        (left,) = reel.gone.values()
        title = shown.figure.axes[0].get_title(loc="left")
        assert title == f"t = 20 (200 SGD steps), {100.0 * left[-1]:.1f} % have left"
        (line, *_) = shown.figure.axes[0].get_lines()
        assert line.get_ydata() == pytest.approx(reel.density[10])


def test_a_reel_holds_what_the_result_does(results):
    """Mass: what is there and what has left; over the third variable it is integrated. Rounding, and far cells."""
    line, plane, space = (read_reel(results[name]) for name in CASES)
    inside = (line.density * np.diff(line.edges[0])).sum(axis=1)
    assert inside + next(iter(line.gone.values())) == pytest.approx(1.0, abs=1e-12)
    assert np.isfinite(plane.edges[1]).all()
    assert plane.density.shape[2] < 32
    areas = np.diff(plane.edges[0])[:, None] * np.diff(plane.edges[1])
    assert (plane.density * areas).sum(axis=(1, 2)) == pytest.approx(1.0, abs=3e-3)  # of the faces, of mapped cells
    assert space.names == ("x", "y")
    assert space.loss is None
    assert (space.density * 0.4**2).sum(axis=(1, 2)) == pytest.approx(1.0, abs=1e-12)


def test_very_many_instants_are_thinned_out(tmp_path):
    case = {**LINE, "evolve": {"until": 1.0, "save": 700, "tolerance": 1e-3}}
    path = pipeline.run(parse_case(case, "many"), output=tmp_path, figures=False).result_file
    reel = read_reel(path)
    assert reel.times.size == MOST_FRAMES
    assert reel.times[[0, -1]] == pytest.approx([0.0, 1.0])


def test_the_command(results, tmp_path):
    output = tmp_path / "escape.gif"
    run = CliRunner().invoke(cli.main, ["film", str(results["line"]), "--output", str(output), "--fps", "5"])
    assert run.exit_code == 0
    assert f"Film  {output}" in run.stdout
    with Image.open(output) as picture:
        assert picture.info["duration"] == 200


@pytest.mark.skipif(not FFMpegWriter.isAvailable(), reason="no ffmpeg on this machine")
def test_a_video(results, tmp_path):
    assert film(results["line"], tmp_path / "escape.mp4").stat().st_size > 1000


def refused(*arguments):
    run = CliRunner().invoke(cli.main, ["film", *map(str, arguments)])
    assert run.exit_code == 2
    assert "Traceback" not in run.output
    return run.stderr


def test_what_is_no_film(results, tmp_path, monkeypatch):
    assert "cannot be read" in refused(tmp_path / "nothing.nc")
    text = tmp_path / "text.nc"
    text.write_text("no result", encoding="utf-8")
    assert "cannot be read" in refused(text)
    still = {key: value for key, value in LINE.items() if key not in ("initial", "evolve")} | {"stationary": {}}
    path = pipeline.run(parse_case(still, "still"), output=tmp_path, figures=False).result_file
    assert "it holds no density at several times" in refused(path)
    assert "Add [evolve] to the case" in refused(path)
    assert '".avi" is no kind of film' in refused(results["line"], "--output", tmp_path / "film.avi")
    assert "the film cannot be written" in refused(results["line"], "--output", tmp_path / "nowhere" / "film.gif")
    monkeypatch.setattr(filming.FFMpegWriter, "isAvailable", classmethod(lambda _: False))
    with pytest.raises(CaseError, match=r"there is no ffmpeg .* Use film\.gif"):
        film(results["line"], tmp_path / "film.mp4")
    assert not list(tmp_path.glob(".*film*"))
