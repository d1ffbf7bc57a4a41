"""What a convention means: densities at rest and times against exact values; jumps; the current by what drives it."""

import math

import numpy as np
import pytest
from exact import orders
from problems import box, turned, with_drift, with_loss

import fpsolve
from fpsolve.analyse.currents import current_density, current_parts
from fpsolve.analyse.escape import escape
from fpsolve.analyse.motion import evolve
from fpsolve.analyse.passage_integral import log_passage_time
from fpsolve.analyse.rest import stationary
from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError
from fpsolve.model.initial import Gaussian
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import AmplitudeNoise, HessianNoise, TensorNoise
from fpsolve.model.problem import Problem

CONVENTIONS = ("ito", "stratonovich", "isothermal")
POWER = {"ito": 1.0, "stratonovich": 0.5, "isothermal": 0.0}  # without drift, D = f M: p ~ f**-power
every_convention = pytest.mark.parametrize("convention", CONVENTIONS)


def problem(noise, grid, drift=None):
    return Problem(Landscape(drift=drift or ["0"] * grid.dimensions, variables=grid.names), noise, grid)


# --- frozen pieces: D = f M, f jumps


@every_convention
@pytest.mark.parametrize("place", [0.0, 0.137])  # on a face, and anywhere
def test_frozen_pieces_at_rest(convention, place):
    """A full constant M, loud to the left of a line and quiet to its right: p is constant on either side."""
    scale = f"where(x + 0.4*y < {place!r}, 4.0, 1.0)"
    matrix = turned([1.0, 0.3], 0.5)
    entries = [[f"({entry!r})*{scale}" for entry in row] for row in matrix.tolist()]
    found = problem(TensorNoise(diffusion=entries, convention=convention), box((24, 18)))
    rest = stationary(found)
    x, y = found.grid.positions()
    wanted = np.where(x + 0.4 * y < place, 4.0 ** -POWER[convention], 1.0)
    assert rest.reversible
    np.testing.assert_allclose(rest.density, wanted / (wanted @ found.grid.volumes), rtol=1e-12)  # exact


@every_convention
@pytest.mark.parametrize("amplitude", [False, True])
def test_first_passage_over_frozen_pieces(convention, amplitude):
    """On a line with a jump of D on the way: against the exact integral, to second order."""
    diffusion = "where(x < 0.3, 0.8, 0.2)"
    noise = (
        AmplitudeNoise(noise_amplitude=f"sqrt(2*{diffusion})", convention=convention)
        if amplitude
        else TensorNoise(diffusion=diffusion, convention=convention)
    )

    times = [
        escape(
            problem(noise, box((cells,), (-2.0, 2.0)), ["-x"]),
            start=(-0.5,),
            target="x > 1.2",
            definitions=["mean_first_passage_time"],
        ).times["mean_first_passage_time"]
        for cells in (80, 160, 320)
    ]
    errors = [abs(time.log_time - _frozen_passage(convention)) for time in times]
    # Isothermal second order; where the density jumps too, still above 1.6 here.
    assert min(orders((80, 160, 320), errors)) > (1.9 if convention == "isothermal" else 1.6)
    assert errors[-1] < 2e-4


@pytest.mark.parametrize("place", [0.307, 0.31, 0.321])
def test_isothermal_first_passage_wherever_the_jump_lies(place):
    """Inside a cell as on a face: p is continuous, and the two parts of the edge have resistances in series."""
    found = [
        escape(
            problem(
                TensorNoise(diffusion=f"where(x < {place!r}, 0.8, 0.2)", convention="isothermal"),
                box((cells,), (-2.0, 2.0)),
                ["-x"],
            ),
            start=(-0.5,),
            target="x > 1.2",
            definitions=["mean_first_passage_time"],
        ).times["mean_first_passage_time"]
        for cells in (100, 1600)
    ]
    wanted = _frozen_passage("isothermal", place)
    assert abs(found[0].log_time - wanted) < 1.5e-3  # second order: 0.9 h**2
    assert abs(found[1].log_time - wanted) < 1.5e-5


def _frozen_passage(convention, place=0.3):
    """ln of tau(-0.5 -> 1.2), reflecting at -2, drift -x, D = 0.8 left of a place and 0.2 right of it.

    tau = integral dy exp(-psi(y)) / D(y) integral below y of exp(psi(z)) dz, exp(psi) = p at rest: within a piece
    exp(-x**2 / (2 D)), at the jump ln p falls by the power of the convention times ln D.
    """
    nodes, weights = np.polynomial.legendre.leggauss(40)

    def cells(lower, upper, count=60):
        edges = np.linspace(lower, upper, count + 1)
        half = 0.5 * np.diff(edges)
        return (edges[:-1, None] + half[:, None] * (nodes + 1.0)), half[:, None] * weights

    def density(x):
        left = -(x**2) / 1.6 - POWER[convention] * math.log(0.8)
        right = -(x**2) / 0.4 - POWER[convention] * math.log(0.2) + place**2 / 0.4 - place**2 / 1.6
        return np.exp(np.where(x < place, left, right))

    def below(y):
        """The integral of the density from -2 to y."""
        parts = [(-2.0, place), (place, y)] if y > place else [(-2.0, y)]
        return sum(float((density(x) * w).sum()) for x, w in (cells(*ends, 20) for ends in parts))

    total = 0.0
    for ends, diffusion in (((-0.5, place), 0.8), ((place, 1.2), 0.2)):
        y, w = cells(*ends, 4)
        inner = np.array([below(value) for value in y.ravel()]).reshape(y.shape)
        total += float((inner * w / (density(y) * diffusion)).sum())
    return math.log(total)


def test_a_jump_of_a_general_tensor_is_refused():
    """Its divergence has a meaning only where the convention takes no derivative of D."""
    entries = [["where(x + y < 0.1, 1.0, 0.4)", "0"], ["0", "1"]]
    with pytest.raises(CaseError, match=r"the diffusion jumps at x = .*isothermal"):
        Generator.of(problem(TensorNoise(diffusion=entries), box((12, 10))))
    isothermal = problem(TensorNoise(diffusion=entries, convention="isothermal"), box((12, 10)))
    np.testing.assert_allclose(stationary(isothermal).density, 0.25, rtol=1e-12)  # uniform


def test_a_jump_of_the_hessian_is_refused():
    noise = HessianNoise(learning_rate=0.1, batch_size=1)
    landscape = Landscape("where(x < 0, x**2, 3*x**2) + y**2", variables=("x", "y"))
    with pytest.raises(CaseError, match=r"the diffusion jumps at x = -?[0-9.e-]+, y ="):
        Generator.of(Problem(landscape, noise, box((11, 6))))


@pytest.mark.parametrize("width", [0.3, 1e-2, 1e-5])
def test_a_sharp_layer_is_no_jump(width):
    entries = [[f"1 + 0.5*tanh((x - 0.07)/{width!r})", "0"], ["0", "1"]]
    Generator.of(problem(TensorNoise(diffusion=entries), box((12, 8))))


# --- amplitudes in the plane


@every_convention
def test_an_amplitude_along_the_axes(convention):
    """s = diag(a(x), b(y)) without drift: p ~ D_xx**-power D_yy**-power in every convention, to second order."""
    noise = AmplitudeNoise(noise_amplitude=[["1 + 0.5*x", "0"], ["0", "exp(0.4*y)"]], convention=convention)
    errors = []
    for cells in (12, 24, 48):
        found = problem(noise, box((cells, cells)))
        x, y = found.grid.positions()
        wanted = ((1.0 + 0.5 * x) * np.exp(0.4 * y)) ** (-2.0 * POWER[convention])
        wanted /= wanted @ found.grid.volumes
        errors.append(float(np.abs(stationary(found).density / wanted - 1.0).max()))
    # Isothermal, and for other conventions wherever quadrature is exact to rounding, there is no error at all.
    assert errors[-1] < 1e-5
    if errors[0] > 1e-9:
        assert min(orders((12, 24, 48), errors)) > 1.9


@every_convention
def test_an_amplitude_that_turns(convention):
    """s = R(angle), D = I/2: Stratonovich's drift is J grad(angle) / 2, which has no divergence: p stays uniform.

    J is the quarter turn. In the other conventions nothing flows.
    """
    angle = "(cos(x) + 0.7*sin(y))"
    turn = [[f"cos({angle})", f"-sin({angle})"], [f"sin({angle})", f"cos({angle})"]]
    noise = AmplitudeNoise(noise_amplitude=turn, convention=convention)
    errors = []
    for cells in (16, 32):
        found = problem(noise, box((cells, cells), (0.0, 2.0 * math.pi), "periodic"))
        rest = stationary(found)
        x, y = found.grid.positions()
        gradient = np.array([-np.sin(x), 0.7 * np.cos(y)])
        share = 0.5 if convention == "stratonovich" else 0.0
        wanted = share * np.array([-gradient[1], gradient[0]]) / (4.0 * math.pi**2)
        np.testing.assert_allclose(rest.density, 0.25 / math.pi**2, rtol=0.02)
        errors.append(float(np.abs(rest.current - wanted).max()))
    if convention == "stratonovich":
        assert abs(orders((16, 32), errors)[0] - 2.0) < 0.2
        assert errors[1] < 1e-4
    else:
        assert errors[1] < 1e-13  # rounding


# --- the current, by what drives it


def circling(cells):
    """A tensor that changes, and at rest p = exp(-V) with the current 0.5 J grad(V) p, V = x**2 + y**2 + x y / 2.

    The flux drift is v = -D grad(V) + 0.5 J grad(V), J the quarter turn; the drift given is Ito's, v + div D.
    """
    slope_x, slope_y = "(2*x + y/2)", "(2*y + x/2)"
    a, b, c = "(0.3 + 0.1*sin(x))", "(0.3 + 0.1*cos(y))", "0.08"
    drift = [
        f"-{a}*{slope_x} - {c}*{slope_y} - 0.5*{slope_y} + 0.1*cos(x)",
        f"-{c}*{slope_x} - {b}*{slope_y} + 0.5*{slope_x} - 0.1*sin(y)",
    ]
    return problem(TensorNoise(diffusion=[[a, c], [c, b]]), box((cells, cells), (-3.2, 3.2)), drift)


def test_the_parts_of_a_current_at_rest():
    """They sum to the scheme's own current, and both to the exact one, to second order."""
    differences, errors = [], []
    for cells in (20, 40, 80):
        found = circling(cells)
        rest, (x, y) = stationary(found), found.grid.positions()
        exact = 0.5 * np.array([-(2.0 * y + 0.5 * x), 2.0 * x + 0.5 * y]) * rest.density
        differences.append(np.abs(rest.parts.total - rest.current).max())
        errors.append(np.abs(rest.parts.total - exact).max() / np.abs(exact).max())
    assert abs(np.mean(orders((20, 40, 80), differences)) - 2.0) < 0.1
    assert abs(np.mean(orders((20, 40, 80), errors)) - 2.0) < 0.1
    assert errors[-1] < 2e-3


def test_the_parts_are_those_of_the_formula():
    """D = y I on a box, p ~ 1/y at rest: without a drift -D grad p = p/y y and -(div D) p = -p cancel."""
    noise = TensorNoise(diffusion=[["y", "0"], ["0", "y"]])
    errors = []
    for cells in (20, 40, 80):
        found = problem(noise, box((4, cells), [(-1.0, 1.0), (1.0, 3.0)]))
        rest = stationary(found)
        assert (rest.parts.drift == 0.0).all()
        np.testing.assert_allclose(rest.parts.noise_gradient[1], -rest.density, rtol=1e-13)
        errors.append(np.abs(rest.parts.diffusion[1] - rest.density).mean())
        assert np.abs(rest.current).max() < 1e-14
        assert np.abs(rest.parts.total).max() < 3.0 / cells**2  # beside walls, too
    assert abs(np.mean(orders((20, 40, 80), errors)) - 2.0) < 0.1


@every_convention
def test_the_parts_in_every_convention(convention):
    """The drift is Ito's: the given one and what the convention adds."""
    noise = TensorNoise(diffusion="0.3*(1 + 0.5*sin(x))", convention=convention)
    found = problem(noise, box((64,), (0.0, 2.0 * math.pi), "periodic"), ["0.4"])
    rest = stationary(found)
    x = found.grid.positions()[0]
    slope = 0.15 * np.cos(x)
    added = {"ito": 0.0, "stratonovich": 0.5, "isothermal": 1.0}[convention]
    np.testing.assert_allclose(rest.parts.drift[0], (0.4 + added * slope) * rest.density, rtol=1e-12)
    np.testing.assert_allclose(rest.parts.noise_gradient[0], -slope * rest.density, atol=1e-15)
    np.testing.assert_allclose(rest.parts.total, rest.current, rtol=0.01)  # second order, h = 0.1


def test_the_parts_of_a_gaussian_are_exact():
    """Ornstein-Uhlenbeck: ln p is quadratic, so that diffusion and drift cancel to rounding inside."""
    found = with_loss(box((24, 24), (-2.0, 2.0)), "0.5*x**2 + y**2 + 0.3*x*y", 0.2)
    parts = stationary(found).parts
    inner = (np.abs(found.grid.positions()) < 1.9).all(axis=0)
    assert np.abs(parts.total[:, inner]).max() < 1e-12 * np.abs(parts.drift).max()


def test_the_parts_in_time():
    """A density on its way: the sum is the scheme's current, to second order."""
    errors = []
    for cells in (20, 40, 80):
        found = with_drift(box((cells, cells), (-2.0, 2.0)), ["-x + y", "-x - y"], np.diag([0.2, 0.3]))
        motion = evolve(found, Gaussian([0.6, 0.2], width=0.35), times=[0.3], tolerance=1e-7)
        total = current_parts(found, motion.probability[1]).total
        current = current_density(Generator.of(found), motion.probability[1])
        errors.append(np.abs(total - current).max() / np.abs(current).max())
    assert abs(np.mean(orders((20, 40, 80), errors)) - 2.0) < 0.2


CASE = """
[landscape]
variables = ["x", "y"]
drift = ["0.1", "-y"]

[noise]
kind = "tensor"
convention = "stratonovich"
diffusion = [["0.3 + 0.1*y", "0"], ["0", "0.3 + 0.1*y"]]

[grid]
x = { min = -1.0, max = 1.0, cells = 12 }
y = { min = -1.0, max = 1.0, cells = 10 }

[initial]
uniform = true

[stationary]

[evolve]
until = 0.2
save = 2
"""


def test_the_parts_in_the_result_file(tmp_path):
    xarray = pytest.importorskip("xarray")
    (tmp_path / "parts.toml").write_text(CASE)
    report = fpsolve.run(tmp_path / "parts.toml", output=tmp_path / "out", figures=False)
    with xarray.open_dataset(tmp_path / "out" / "parts.nc") as file:
        for number, axis in enumerate("xy"):
            for part in ("drift", "diffusion", "noise_gradient"):
                held = file[f"stationary_current_{part}_{axis}"]
                np.testing.assert_array_equal(held.values.ravel(), getattr(report.rest.parts, part)[number])
                assert file[f"current_{part}_{axis}"].dims == ("time", "x", "y")
            parts = current_parts(report.generator.problem, report.motion.probability[2])
            np.testing.assert_array_equal(file[f"current_drift_{axis}"].values[2].ravel(), parts.drift[number])
        np.testing.assert_allclose(file.noise_gradient_drift_y, -0.1, rtol=1e-13)
        np.testing.assert_allclose(file.convention_drift_y, 0.05, rtol=1e-13)  # half of div D
        assert (file.noise_gradient_drift_x == 0.0).all()


def test_passage_times_agree_with_the_integral():
    """The integral of this file and that of the exact references, where there is no jump to worry about."""
    found = problem(TensorNoise(diffusion="0.3 + 0.1*tanh(x)"), box((400,), (-2.0, 2.0)), ["-x"])
    out = escape(found, start=(-0.5,), target="x > 1.2", definitions=["mean_first_passage_time"])
    wanted = log_passage_time(found, -0.5, (-2.0, 1.2), (False, True))
    assert out.times["mean_first_passage_time"].log_time == pytest.approx(wanted, abs=1e-4)  # second order, h = 0.01
