"""Landscapes from data: means over the rows, covariance of per-example gradients, minibatch noise."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

import fpsolve
from fpsolve.errors import CaseError
from fpsolve.model import landscape as landscape_module
from fpsolve.model.grid import Grid
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import HessianNoise, MinibatchNoise
from fpsolve.model.problem import Problem
from fpsolve.model.splines import SplineField

# Sums over some hundred rows, of either sign.
ROUNDING = 1e-13

RANDOM = np.random.default_rng(5)
INPUT = RANDOM.normal(size=300)
OUTPUT = np.tanh(0.8 * INPUT - 0.2) + 0.5 * RANDOM.normal(size=300)
POINTS = RANDOM.uniform(-1.5, 1.5, size=(2, 7))
TANH = "0.5*(tanh(x*u + y) - v)**2"


def tanh_landscape(**changes):
    given = {"per_example_loss": TANH, "data": {"u": INPUT, "v": OUTPUT}, "variables": ("x", "y")}
    return Landscape(**(given | changes))


def tanh_terms(x, y):
    """Loss, gradient (2, rows) and Hessian (2, 2, rows) of every row, by hand."""
    inner = np.stack([INPUT, np.ones_like(INPUT)])
    output = np.tanh(x * INPUT + y)
    slope, error = 1.0 - output**2, output - OUTPUT
    curvature = slope**2 - 2.0 * output * slope * error
    return 0.5 * error**2, error * slope * inner, curvature * inner[:, None] * inner


def test_loss_gradient_hessian_and_covariance_are_those_of_the_rows():
    landscape = tanh_landscape()
    for number, (x, y) in enumerate(POINTS.T):
        loss, gradient, hessian = tanh_terms(x, y)
        assert_allclose(landscape.loss(POINTS)[number], loss.mean(), rtol=ROUNDING)
        assert_allclose(landscape.gradient(POINTS)[:, number], gradient.mean(axis=1), atol=ROUNDING)
        assert_allclose(landscape.hessian(POINTS)[..., number], hessian.mean(axis=-1), atol=ROUNDING)
        sample_covariance = np.cov(gradient, bias=True)
        assert_allclose(landscape.gradient_covariance(POINTS)[..., number], sample_covariance, atol=ROUNDING)
        assert_allclose(landscape.sample.gradients((x, y)), gradient, atol=ROUNDING)
    assert landscape.examples == 300


def test_covariance_is_right_where_the_mean_is_large():
    """Deviations of 1e-6 of the gradient: squares of the gradient itself would leave 4 digits."""
    slopes = 1.0 + 1e-6 * RANDOM.normal(size=1000)
    landscape = Landscape(per_example_loss="a*x", data={"a": slopes}, variables=("x",))
    found = landscape.gradient_covariance(np.zeros((1, 1)))[0, 0, 0]
    assert_allclose(found, slopes.var(), rtol=1e-9)  # rounding of the slopes: 1e-16 over 1e-6, twice


def test_minibatch_diffusion_is_the_covariance_scaled():
    landscape, size, rate = tanh_landscape(), 8, 0.1
    covariance = landscape.gradient_covariance(POINTS)
    for sampling, share in (("replacement", 1.0), ("without", (300 - size) / (300 - 1))):
        noise = MinibatchNoise(learning_rate=rate, batch_size=size, sampling=sampling)
        found = noise.diffusion_in(landscape).matrix(POINTS)
        assert_allclose(found, share * rate / (2 * size) * covariance, rtol=1e-12)  # eigenvectors there and back


@pytest.mark.parametrize(("kind", "law"), [("smooth", math.hypot), ("additive", lambda c, f: c + f), ("maximum", max)])
def test_floor_acts_on_the_eigenvalues(kind, law):
    landscape, floor = tanh_landscape(), 0.05
    noise = MinibatchNoise(learning_rate=2.0, batch_size=1, floor=floor, floor_kind=kind)
    found = np.linalg.eigvalsh(np.moveaxis(noise.diffusion_in(landscape).matrix(POINTS), -1, 0))
    bare = np.linalg.eigvalsh(np.moveaxis(landscape.gradient_covariance(POINTS), -1, 0))
    assert_allclose(found, np.vectorize(law)(bare, floor), rtol=1e-12)


@pytest.mark.parametrize("floor", [0.0, 0.05])
def test_divergence_is_that_of_differences_to_their_order(floor):
    """Central differences err by step**2: a step of half the size leaves a quarter."""
    diffusion = MinibatchNoise(learning_rate=1.0, batch_size=4, floor=floor).diffusion_in(tanh_landscape())
    exact, gaps = diffusion.divergence(POINTS), []
    for step in (2e-2, 1e-2):
        found = np.zeros_like(exact)
        for axis in range(2):
            shift = np.zeros((2, 1))
            shift[axis] = step
            slope = diffusion.matrix(POINTS + shift) - diffusion.matrix(POINTS - shift)
            found += slope[:, axis] / (2.0 * step)
        gaps.append(np.abs(found - exact).max())
    assert abs(math.log2(gaps[0] / gaps[1]) - 2.0) < 0.1


def test_hessian_noise_of_data():
    """H of the data under the projection, and its divergence by third derivatives."""
    problem = Problem(
        tanh_landscape(),
        HessianNoise(learning_rate=0.1, batch_size=4, projection="abs", floor=0.1),
        Grid(x=(-1, 1, 8), y=(-1, 1, 8)),
    )
    hessian = problem.landscape.hessian(POINTS)
    values, vectors = np.linalg.eigh(np.moveaxis(hessian, -1, 0))
    wanted = np.einsum("pia,pa,pja->ijp", vectors, np.hypot(values, 0.1), vectors) * 0.1 / 8
    assert_allclose(problem.diffusion.matrix(POINTS), wanted, atol=1e-13)


FORMULAS = [
    "where(u > x, u*x**3, abs(x) - v)",
    "max(u*x, v, x**2) + min(x, u)",
    "exp(-abs(x*v)) + log(2 + sin(u*x)) + sqrt(x**2 + 1)",
    "heaviside(x - u)*x + sign(v)*erf(x*u) + cosh(x/2) - sinh(v*x/9)*tan(x/9) + cos(u*x)",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_compiled_formulas_agree_with_numpy(text):
    """Loss and slope of each row beside those of the same formula with numbers in place of the columns."""
    rows, places = 20, np.linspace(-2.0, 2.0, 9)[None]
    columns = {"u": INPUT[:rows], "v": OUTPUT[:rows]}
    landscape = Landscape(per_example_loss=text, data=columns, variables=("x",))
    single = [
        Landscape(text, variables=("x",), parameters={"u": float(u), "v": float(v)})
        for u, v in zip(*columns.values(), strict=True)
    ]
    assert_allclose(landscape.loss(places), np.mean([each.loss(places) for each in single], axis=0), rtol=1e-13)
    slopes = np.array([each.gradient(places)[0] for each in single])
    assert_allclose(landscape.gradient(places)[0], slopes.mean(axis=0), atol=1e-13)
    assert_allclose(landscape.gradient_covariance(places)[0, 0], slopes.var(axis=0), atol=1e-12)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(-5, 5), min_size=2, max_size=40), st.floats(-3, 3))
def test_linear_regression_has_its_closed_form(values, x):
    """l = (a x - b)^2 / 2: everything is a moment of a and b."""
    a = np.array(values)
    b = np.cos(a)
    landscape = Landscape(per_example_loss="0.5*(a*x - b)**2", data={"a": a, "b": b}, variables=("x",))
    gradients = a * (a * x - b)
    place = np.array([[x]])
    scale = 1.0 + np.abs(gradients).max() ** 2
    assert_allclose(landscape.gradient(place)[0, 0], gradients.mean(), atol=1e-14 * scale)
    assert_allclose(landscape.gradient_covariance(place)[0, 0, 0], gradients.var(), atol=1e-14 * scale)


def test_means_taken_once_on_the_grid_are_exact_at_cells_and_close_between(monkeypatch):
    monkeypatch.setattr(landscape_module, "EXACT_UP_TO", 0)
    landscape, told = tanh_landscape(), []
    gaps = []
    for cells in (24, 48):
        grid = Grid(x=(-1, 1, cells), y=(-1, 1, cells))
        sampled = landscape.tabulated(grid, told.append)
        assert isinstance(sampled.loss, SplineField)
        assert sampled.tabulated(grid) is sampled
        at_cells, between = grid.positions(), 0.9 * grid.positions() + 0.01
        for name in ("loss", "gradient", "hessian", "gradient_covariance"):
            exact, found = getattr(landscape, name), getattr(sampled, name)
            assert_allclose(found(at_cells), exact(at_cells), atol=1e-13)  # rounding
        gaps.append(np.abs(sampled.loss(between) - landscape.loss(between)).max())
    assert told[-1] == 1.0
    assert abs(math.log2(gaps[0] / gaps[1]) - 6.0) < 0.7  # the largest error sits in the corners, where it comes late


def test_fokker_planck_has_the_variance_of_its_own_moment_equation():
    """D is quadratic in x, so that V = eta c0/(2h - eta c2) (with replacement, S = 1) without any approximation."""
    a, b = np.array([1, 0.5, -1.5, 2, 0.8]), np.array([1, -0.25, -1, 1.5, 1.4])
    landscape = Landscape(per_example_loss="0.5*(a*x - b)**2", data={"a": a, "b": b}, variables=("x",))
    axis = fpsolve.Axis("x", -math.inf, math.inf, 200, scale=0.3, centre=0.8)
    references = {0.01: 3.96207336744066e-4, 0.05: 0.0020275452457004, 0.1: 0.00417768938578847}
    for rate, variance in references.items():
        problem = Problem(landscape, MinibatchNoise(learning_rate=rate, batch_size=1), Grid(x=axis))
        rest = fpsolve.stationary(problem)
        assert_allclose(rest.covariance[0, 0], variance, rtol=2e-5)  # discretisation on 200 cells
        assert_allclose(rest.mean[0], 0.797911547911548, rtol=1e-6)


BAD = [
    ({"per_example_loss": "0.5*u**2"}, "names no variable"),
    ({"per_example_loss": "x**2 + y**2"}, "names no column"),
    ({"per_example_loss": "x*w + y*u"}, 'landscape.per_example_loss: "w"'),
    ({"per_example_loss": "x*u + t*y"}, "reserved for time"),
    ({"variables": ("u", "y"), "per_example_loss": "u*v + y"}, '"u" is a column of data in memory and a variable'),
    ({"parameters": {"v": 1.0}}, '"v" is a column of data in memory and a parameter'),
    ({"data": None}, "landscape.per_example_loss: there is no data beside it"),
    ({"per_example_loss": None, "loss": "x**2 + y**2"}, "landscape.data: there is no per_example_loss beside it"),
    ({"loss": "x**2 + y**2"}, "both loss and per_example_loss are given"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_bad_samples_are_explained(changes, message):
    with pytest.raises(CaseError, match=message.replace("*", r"\*")):
        tanh_landscape(**changes)


def test_minibatch_noise_needs_data_and_batches_that_fit():
    noise = MinibatchNoise(learning_rate=0.1, batch_size=300, sampling="without")
    with pytest.raises(CaseError, match=r"a batch of 300 without replacement\. There are 300 examples"):
        noise.diffusion_in(tanh_landscape())
    with pytest.raises(CaseError, match='"minibatch" needs the gradients of single examples'):
        noise.diffusion_in(Landscape("x**2", variables=("x",)))


def test_noise_may_vanish_where_the_rows_agree():
    """At x = 0 nothing moves: what comes there stays."""
    landscape = Landscape(per_example_loss="a*x**2", data={"a": [1.0, 2.0]}, variables=("x",))
    problem = Problem(landscape, MinibatchNoise(learning_rate=0.1, batch_size=1), Grid(x=(-1, 1, 5)))
    assert problem.is_degenerate
    np.testing.assert_array_equal(fpsolve.stationary(problem).probability, [0, 0, 1, 0, 0])


@pytest.mark.parametrize("writable", [True, False])
def test_compiled_formulas_are_kept_by_their_content(tmp_path, writable):
    """Where the folder for caches cannot be made, one is made that goes at the end."""
    folder = tmp_path / "cache"
    if not writable:
        folder.write_text("a file stands where the folder belongs")
    code = (
        "import numpy as np; from fpsolve import Landscape;"
        "l = Landscape(per_example_loss='(x*u)**2', data={'u': [1.0, 3.0]}, variables=('x',));"
        "print(l.loss(np.array([[2.0]]))[0])"
    )
    environment = os.environ | {"FPSOLVE_CACHE_DIR": str(folder), "HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.split() == ["20.0"]
    if writable:
        assert len(list(folder.rglob("fpsolve_generated_*.py"))) == 1
        assert list(folder.rglob("fpsolve_generated_*.nbc"))


def test_minibatch_noise_goes_through_the_mobility():
    """Steps along M g have the covariance M C M; its divergence, by differences."""
    mobility = np.array([[1.0, 0.4], [0.4, 0.5]])
    landscape = tanh_landscape(mobility=mobility)
    diffusion = MinibatchNoise(learning_rate=2.0, batch_size=1).diffusion_in(landscape)
    wanted = np.einsum("ia,abp,bj->ijp", mobility, landscape.gradient_covariance(POINTS), mobility)
    assert_allclose(diffusion.matrix(POINTS), wanted, atol=ROUNDING)
    step, found = 1e-4, np.zeros_like(POINTS)
    for axis in range(2):
        shift = np.zeros((2, 1))
        shift[axis] = step
        found += (diffusion.matrix(POINTS + shift) - diffusion.matrix(POINTS - shift))[:, axis] / (2.0 * step)
    assert_allclose(diffusion.divergence(POINTS), found, atol=1e-6)  # differences: step**2, and rounding / step


def test_a_first_look_reads_the_data_at_few_cells(monkeypatch, tmp_path):
    monkeypatch.setattr(landscape_module, "EXACT_UP_TO", 1000)
    grid = Grid(x=(-1, 1, 200), y=(-1, 1, 10))
    rough = tanh_landscape().tabulated(grid, roughly=True)
    assert [nodes.size for nodes in rough.loss.nodes] == [landscape_module.FEW_CELLS + 2, 12]  # and the walls
    rows = "\n".join(f"{u},{v}" for u, v in zip(INPUT, OUTPUT, strict=True))
    (tmp_path / "points.csv").write_text(f"u,v\n{rows}\n")
    (tmp_path / "case.toml").write_text(
        f'[landscape]\nvariables = ["x", "y"]\ndata = "points.csv"\nper_example_loss = "{TANH}"\n'
        '[noise]\nkind = "minibatch"\nlearning_rate = 0.1\nbatch_size = 4\n'
        "[grid]\nx = { min = -1.0, max = 2.0, cells = 60 }\ny = { min = -1.0, max = 1.0, cells = 40 }\n[stationary]\n"
    )
    preview = fpsolve.check(tmp_path / "case.toml")
    assert preview.seconds_for_data == pytest.approx(300 * 2400 * landscape_module.SECONDS_PER_ROW)
    assert "points.csv, 300 rows" in preview.as_text()
    assert "for all rows at every cell" in preview.as_text()
