"""The picture page: every case is on it, its links lead somewhere, it stays small, and no label is cut off."""

import importlib.util
import re
import sys
import tomllib
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image
from test_cases import PATHS, SLOW
from test_figures import check_figure

from fpsolve import pipeline
from fpsolve.present import figures

CASES = Path(__file__).resolve().parents[1] / "cases"
PAGE = CASES / "README.md"
LARGEST = 5e6  # bytes, of the page and its pictures
LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def script():
    """The script that makes the page, as a module."""
    place = importlib.util.spec_from_file_location("gallery", CASES.parent / "scripts" / "gallery.py")
    module = importlib.util.module_from_spec(place)
    sys.modules["gallery"] = module  # dataclasses look their module up
    place.loader.exec_module(module)
    yield module
    del sys.modules["gallery"]


def test_every_case_is_on_the_page(page):
    missing = [path.stem for path in PATHS if f"### [{path.stem}]({path.name})" not in page]
    assert not missing, "run scripts/gallery"
    assert "**missed**" not in page


def test_the_page_says_what_the_cases_do(page, script):
    """The comments are those of today, and so are the values that are expected."""
    for path in PATHS:
        text = path.read_text(encoding="utf-8")
        case = tomllib.loads(text)
        assert script.escaped(script.comment_of(text)) in page, f"run scripts/gallery --only {path.stem}"
        assert all(f"`{what}`" in page for what in case["expect"])


def test_every_link_leads_somewhere(page):
    for link in LINK.findall(page):
        if link.startswith("#"):
            continue
        assert (PAGE.parent / unquote(link)).is_file(), link


def test_every_section_of_the_contents_is_there(page, script):
    headings = {f"#{script.anchor(line.removeprefix('## '))}" for line in page.splitlines() if line.startswith("## ")}
    assert set(link for link in LINK.findall(page) if link.startswith("#")) == headings
    assert len(headings) >= 11


def test_every_picture_is_shown_and_all_are_small(page):
    pictures = list((CASES / "gallery").iterdir())
    assert all(f"(gallery/{path.name})" in page for path in pictures)
    assert sum(path.stat().st_size for path in [PAGE, *pictures]) < LARGEST
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.width <= 800


def test_a_case_in_no_section_comes_last(script):
    last = script.complete(["kramers", "brand-new"])[-1]
    assert last.cases == {"brand-new": ""}
    assert [one.cases for one in script.complete(["kramers"])] == [{"kramers": "transition"}]


def test_a_comment_is_its_first_paragraph(script):
    assert script.comment_of("# One\n# two.\n#\n# Three.\ntitle = 1\n") == "One two."


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"value": 2.0, "relative": 0.01}, "2 ± 1 %"),
        ({"value": 2.0, "absolute": 0.01}, "2 ± 0.01"),
        ({"at_least": 1.0, "at_most": 3.0}, "≥ 1, ≤ 3"),
        ({"expression": "x", "l1": 1e-3}, "the expression in the case, to 0.001 in L1"),
    ],
)
def test_wishes_in_words(script, entry, words):
    assert script.wish_of(entry) == words


@pytest.mark.slow
@pytest.mark.parametrize("path", [path for path in PATHS if path.stem not in SLOW], ids=lambda path: path.stem)
def test_no_label_of_a_case_is_cut_off(path, tmp_path, monkeypatch):
    """Every figure of every quick case: all axes named, everything on the paper, nothing upon anything else."""
    drawn = []

    def checked(figure, place):
        check_figure(figure)
        drawn.append(place)
        return place

    monkeypatch.setattr(figures, "_save", checked)
    pipeline.run(path, output=tmp_path)
    assert drawn
