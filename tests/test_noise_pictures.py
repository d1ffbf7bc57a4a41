"""The picture of the noise: everything on it is named, nothing is cut off, and only what there is is drawn."""

import copy

import numpy as np
import pytest
from test_figures import check_figure, title, words

from fpsolve.analyse.basins import find_basins
from fpsolve.analyse.noise_structure import noise_structure
from fpsolve.analyse.path import most_probable_path
from fpsolve.model.fields import field
from fpsolve.model.grid import Grid
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import ConstantNoise, TensorNoise
from fpsolve.model.problem import Problem
from fpsolve.present.pictures.noise import draw_noise, fitted, has_noise
from fpsolve.present.pictures.sheet import Sheet
from fpsolve.present.pictures.style import styled
from fpsolve.present.pictures.views import whole_window

pytestmark = pytest.mark.slow  # pictures, seconds each

SPACE = [["5 + 3*x**2 + x", "x", "0"], ["x", "3 + y**2", "0.5"], ["0", "0.5", "1 + z**2/4"]]
PLANE = [["5 + 3*x**2 + x", "1.5*x + 0.5"], ["1.5*x + 0.5", "3 + y**2"]]
WIDE = [["5*exp(3*x)", "0"], ["0", "3*exp(3*x)"]]
LOSSES = {
    "one": ("(x**2 - 1)**2 + 0.2*x", [["6 + 2*x + 4*x**2"]], (40,)),
    "one well": ("x**2/2 + x**4/8", [["0.9 + 0.5*x**2"]], (40,)),
    "two": ("(x**2 - 1)**2 + 2*(y - 0.4*x**2)**2 + 0.1*x", PLANE, (30, 28)),
    "two, one well": ("x**2 + x*y/2 + 2*y**2", PLANE, (30, 28)),
    "two, wide": ("(x**2 - 1)**2 + 2*(y - 0.4*x**2)**2", WIDE, (30, 28)),
    "two, a line": ("(x**2 - 1)**2 + y**2", PLANE, (40, 1)),
    "three": ("(x**2 - 1)**2 + y**2 + z**2/2", SPACE, (14, 10, 9)),
    "three, one well": ("x**2 + y**2 + z**2/2", SPACE, (14, 10, 9)),
}
QUICK = ("one", "two", "two, a line", "three")
EVERY = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in LOSSES]


def slowly(*names):
    return [pytest.param(name, marks=pytest.mark.slow) for name in names]


def drawn(name, *, covariance=True, noise=None):
    """The figure of one of LOSSES, checked; None where there is nothing to draw."""
    loss, entries, cells = LOSSES[name]
    names = ("x", "y", "z")[: len(cells)]
    landscape = copy.copy(Landscape(loss, variables=names))
    if covariance:
        given = field(entries, (len(names),) * 2, names, {}, "landscape.gradient_covariance")
        object.__setattr__(landscape, "gradient_covariance", given)
    tensor = TensorNoise(diffusion=[[f"0.02*({entry})" for entry in row] for row in entries])
    grid = Grid(**{name: (-1.8, 1.8, count) for name, count in zip(names, cells, strict=True)})
    problem = Problem(landscape, noise or tensor, grid)
    basins = find_basins(problem)
    paths = [
        most_probable_path(problem, basins.minima[saddle.basins[0]].position, saddle.point.position)
        for saddle in basins.saddles
    ]
    structure = noise_structure(problem, basins.minima, paths)
    if not has_noise(structure):
        return None
    density = np.exp(-landscape.loss(grid.positions()) / 0.2)
    with styled():
        figure = draw_noise(Sheet.on(problem, "A title", {}, whole_window(grid)), structure, basins, density)
        check_figure(figure)
    return figure


def titles(figure):
    return [title(axes) for axes in figure.axes if title(axes)]


@pytest.mark.parametrize("name", EVERY)
def test_everything_is_named_and_nothing_is_cut_off(name):
    figure = drawn(name)
    assert ("Tilt of the noise" in words(figure)) == ("well" not in name)
    assert "C against" in words(figure) or "C over" in words(figure) or "C / H" in words(figure)
    assert any("div D" in text or "pushes" in text for text in titles(figure))


@pytest.mark.parametrize("name", ["two", *slowly("one", "three")])
def test_noise_without_a_covariance_of_gradients(name):
    figure = drawn(name, covariance=False)
    assert not any("Tilt" in text or "covariance" in text for text in titles(figure))
    assert "C / H" not in words(figure)


def test_constant_noise_has_no_picture_of_its_own():
    assert drawn("two", covariance=False, noise=ConstantNoise(temperature=0.2)) is None


@pytest.mark.parametrize("name", ["two", *slowly("one", "three")])
def test_constant_noise_beside_a_covariance(name):
    figure = drawn(name, noise=ConstantNoise(temperature=0.2))
    assert not any("div D" in text or "pushes" in text for text in titles(figure))
    assert not any("race of" in text for text in titles(figure))
    assert any("Tilt" in text for text in titles(figure))


def test_one_axis_of_several_is_compared_along_itself():
    text = words(drawn("two, a line"))
    assert "minimum 1: C / H = 0.875" in text  # (5 + 3 - 1) / 8
    assert "minimum 2: C / H = 1.12" in text


def test_the_ratios_are_in_print():
    assert "minimum 1\n1.6, 0.48\n53 %" in words(drawn("two"))


def test_outlines_fit_their_room():
    angle = np.linspace(0.0, 2.0 * np.pi, 400)
    outline = np.array([3.0 * np.cos(angle), np.sin(angle)])
    for room in ([1.0, 1.0], [4.0, 0.5]):
        found = fitted(outline, np.array(room))
        widths = np.ptp(found, axis=1)
        assert (widths <= np.array(room) * (1.0 + 1e-12)).all()
        assert (widths / room).max() == pytest.approx(1.0, rel=1e-4)  # 400 corners
        assert widths[0] / widths[1] == pytest.approx(3.0, rel=1e-4)
