"""D that vanishes, at points, in directions, everywhere: rates are finite and >= 0, the solution the equation's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from exact import error_l1, feller_density, orders

import fpsolve
from fpsolve import (
    Axis,
    CaseError,
    ConstantNoise,
    Gaussian,
    Generator,
    Grid,
    HessianNoise,
    Landscape,
    Point,
    Problem,
    RunError,
    TensorNoise,
    evolve,
    stationary,
)
from fpsolve.solve.passage import Passage

NONE = [[0.0, 0.0], [0.0, 0.0]]


def plain(drift, diffusion, **axes) -> Problem:
    """A problem with the drift and the D given."""
    names = tuple(axes)
    noise = TensorNoise(diffusion=diffusion)
    return Problem(Landscape(drift=drift, variables=names), noise, Grid(**axes))


def on_half_line(cells: int, wall: str = "absorbing", upper: float = 15.0) -> Problem:
    """dY = sqrt(2 Y) dW: without drift, zero is reached and never left."""
    return plain(["0"], [["y"]], y=Axis("y", 0.0, upper, cells, walls=(wall, "reflecting")))


def assert_sound(generator: Generator) -> None:
    """All rates finite and >= 0."""
    edges = generator.edges
    for rates in (edges.forward, edges.backward, generator.exits.rate):
        assert np.isfinite(rates).all()
        assert (rates >= 0.0).all()


# D = y


@pytest.mark.parametrize("convention", ["ito", "isothermal", "stratonovich"])
def test_the_flux_drift_of_linear_noise(convention):
    """D = y I: the flux drift is (-1, 0) in Ito, nothing isothermally, half of it between."""
    share = {"ito": 1.0, "isothermal": 0.0, "stratonovich": 0.5}[convention]
    noise = TensorNoise(diffusion=[["y", "0"], ["0", "y"]], convention=convention)
    problem = Problem(Landscape(drift=["0", "0"], variables=("y", "z")), noise, Grid(y=(0, 2, 8), z=(0, 1, 4)))
    drift = problem.flux_drift(problem.grid.positions())
    np.testing.assert_array_equal(drift, [np.full(32, -share), np.zeros(32)])


def test_linear_noise_without_drift_is_absorbed_at_zero():
    """The chance to have been absorbed is exp(-y0/t), and the density is Feller's: h**2 times logarithms of h."""
    missed, errors, sizes = [], [], (150, 300, 600)
    nodes, weights = np.polynomial.hermite_e.hermegauss(20)
    starts, weights = 1.0 + 0.1 * nodes, weights / math.sqrt(2.0 * math.pi)
    for cells in sizes:
        problem = on_half_line(cells)
        assert_sound(Generator.of(problem))
        motion = evolve(problem, Gaussian([1.0], width=0.1), times=[1.0], tolerance=1e-9)
        y = problem.grid.positions()[0]
        density = sum(weight * feller_density(y, start, 1.0) for weight, start in zip(weights, starts, strict=True))
        missed.append(abs(1.0 - motion.probability[-1].sum() - (weights * np.exp(-starts)).sum()))
        errors.append(error_l1(motion.probability[-1], density * problem.grid.volumes))
    assert np.all(np.abs(orders(sizes, missed) - 1.7) < 0.2), missed
    assert np.all(np.abs(orders(sizes, errors) - 1.7) < 0.2), errors


def test_the_reference_chances_of_absorption():
    """exp(-1/t) at t = 0.5, 1, 3."""
    motion = evolve(on_half_line(600, upper=40.0), Point([1.0]), times=[0.5, 1.0, 3.0])
    gone = 1.0 - motion.probability.sum(axis=1)
    expected = [0.135335283236613, 0.367879441171442, 0.716531310573789]
    np.testing.assert_allclose(gone[-3:], expected, rtol=0.0, atol=1.5e-3)  # discretisation


def test_mean_time_of_absorption():
    """-y tau'' = 1 with tau(0) = 0, tau'(L) = 0: tau = y (ln(L/y) + 1); order 2 away from zero."""
    errors, sizes = [], (100, 200, 400)
    for cells in sizes:
        problem = on_half_line(cells, upper=2.0)
        time = np.exp(Passage.of(Generator.of(problem)).mean_time.log())
        y = problem.grid.positions()[0]
        errors.append(np.abs(time / (y * (np.log(2.0 / y) + 1.0)) - 1.0)[cells // 4 :].max())
    assert np.all(np.abs(orders(sizes, errors) - 2.0) < 0.1), errors


# D = |x| with a cell on the point where it vanishes


def test_a_point_without_noise_or_drift_keeps_what_it_gets():
    """Absorbed at zero: the chance exp(-1/t); order 1, since one cell stands for the point. Nothing comes out."""
    errors, sizes = [], (151, 301, 601)
    for cells in sizes:
        problem = plain(["0"], [["abs(x)"]], x=(-15.0, 15.0, cells))
        generator = Generator.of(problem)
        assert_sound(generator)
        assert problem.is_degenerate
        motion = evolve(generator, Point([1.0]), times=[1.0], tolerance=1e-9)
        errors.append(motion.probability[-1][cells // 2] - math.exp(-1.0))
        assert motion.probability[-1][: cells // 2].max() < 1e-12  # nothing beyond it
        assert abs(motion.probability[-1].sum() - 1.0) < 1e-12
    assert np.all(np.abs(orders(sizes, errors) - 1.0) < 0.1), errors


def test_all_ends_in_the_point_where_nothing_moves():
    rest = stationary(plain(["0"], [["abs(x)"]], x=(-1.0, 1.0, 41)))
    assert rest.probability[20] == 1.0
    assert np.delete(rest.probability, 20).max() == 0.0


def test_a_drift_leads_out_of_a_point_without_noise():
    """D = |x|, drift 1 (Ito): p ~ 1/|x| exp(x/|x| ln|x|) = 1 where x > 0; nothing stays below."""
    problem = plain(["1"], [["abs(x)"]], x=(-1.0, 1.0, 101))
    rest, x = stationary(problem), problem.grid.positions()[0]
    np.testing.assert_allclose(rest.probability[x > 0.05] * 50, 1.0, rtol=0.03)  # one cell in fifty is the point
    assert rest.probability[x < -0.01].sum() < 1e-12


def test_between_two_cells_only_the_drift_crosses():
    """With an even number of cells D vanishes on a face: without drift there, nothing crosses."""
    still = evolve(plain(["0"], [["abs(x)"]], x=(-3.0, 3.0, 60)), Point([1.0]), times=[1.0])
    assert still.probability[-1][:30].sum() == 0.0
    moved = evolve(plain(["-1"], [["abs(x)"]], x=(-3.0, 3.0, 60)), Point([1.0]), times=[1.0])
    assert moved.probability[-1][:30].sum() > 0.2


def test_noise_that_grows_with_the_distance():
    """D = |r| I, no drift: D p is constant away from the origin, and no current flows (even cells)."""
    size = "sqrt(x**2 + y**2)"
    problem = plain(["0", "0"], [[size, "0"], ["0", size]], x=(-1.0, 1.0, 40), y=(-1.0, 1.0, 40))
    rest = stationary(problem)
    inverse = 1.0 / np.hypot(*problem.grid.positions())
    assert error_l1(rest.probability, inverse / inverse.sum()) < 1e-12  # rounding
    assert np.abs(Generator.of(problem).current(rest.probability)).max() < 1e-13
    assert_sound(Generator.of(plain(["0", "0"], [[size, "0"], ["0", size]], x=(-1.0, 1.0, 41), y=(-1.0, 1.0, 41))))


# No noise, and noise in one direction


def normal(problem: Problem, mean, covariance) -> np.ndarray:
    away = problem.grid.positions() - np.array(mean)[:, None]
    weights = np.exp(-0.5 * np.einsum("ip,ij,jp->p", away, np.linalg.inv(covariance), away))
    return weights / weights.sum()


def transported(drift, diffusion, end, covariance, sizes=(64, 128, 256)):
    """L1 errors at t = 0.5 of a normal density that starts round at (0.5, 0.3), width 0.25."""
    errors = []
    for cells in sizes:
        grid = Grid(x=(-2.5, 2.5, cells), y=(-2.5, 2.5, cells))
        problem = Problem(Landscape(drift=drift, variables=("x", "y")), ConstantNoise(diffusion=diffusion), grid)
        generator = Generator.of(problem)
        assert_sound(generator)
        motion = evolve(generator, Gaussian([0.5, 0.3], width=0.25), times=[0.5])
        assert motion.probability.min() >= 0.0
        assert abs(motion.probability[-1].sum() - 1.0) < 1e-12
        errors.append(error_l1(motion.probability[-1], normal(problem, end, covariance)))
    return errors


def test_pure_drift_follows_its_characteristics():
    """A rotation by 0.5: order 1, which upwinding has."""
    turn = np.array([[math.cos(0.5), -math.sin(0.5)], [math.sin(0.5), math.cos(0.5)]])
    errors = transported(["-y", "x"], NONE, turn @ [0.5, 0.3], 0.0625 * np.eye(2))
    rising = orders((64, 128, 256), errors)
    assert np.abs(2.0 * rising[1] - rising[0] - 1.0) < 0.1, (
        rising
    )  # its limit: the next term of the error is of order 2


def test_noise_across_the_drift():
    """D = diag(0.1, 0), drift along y: diffusion in x, transport in y; order 1."""
    errors = transported(["0", "0.8"], [[0.1, 0.0], [0.0, 0.0]], [0.5, 0.7], np.diag([0.1625, 0.0625]))
    rising = orders((64, 128, 256), errors)
    assert np.abs(2.0 * rising[1] - rising[0] - 1.0) < 0.1, rising


@pytest.mark.parametrize("angle", [math.pi / 4, 0.5], ids=["along a diagonal", "along no short offset"])
def test_noise_along_an_oblique_direction(angle):
    """D = 0.1 n n^T with no drift: it spreads along n alone, of order 1 at least."""
    n = np.array([math.cos(angle), math.sin(angle)])
    diffusion = 0.1 * np.outer(n, n)
    errors = transported(["0", "0"], diffusion.tolist(), [0.5, 0.3], 0.0625 * np.eye(2) + diffusion, (32, 64, 128))
    assert errors[-1] < 0.05
    assert np.all(orders((32, 64, 128), errors) > 0.85), errors


def test_a_sink_takes_all():
    """Pure drift to the middle: one cell is never left, and holds everything at rest."""
    problem = Problem(
        Landscape(drift=["-x", "-y"], variables=("x", "y")),
        ConstantNoise(diffusion=NONE),
        Grid(x=(-1, 1, 21), y=(-1, 1, 21)),
    )
    assert stationary(problem).probability[220] == 1.0


def test_several_sinks_have_no_one_density_at_rest():
    problem = plain(["x - x**3"], [["0"]], x=(-2.0, 2.0, 41))
    with pytest.raises(RunError, match="there are 3 states at rest"):
        stationary(problem)


def test_walls_stop_a_drift_or_let_it_out():
    """Reflecting: all piles up in the last cell. Absorbing: it leaves when the characteristic arrives."""
    stopped = plain(["1"], [["0"]], x=(0.0, 1.0, 50))
    assert stationary(stopped).probability[-1] == 1.0
    leaving = plain(["1"], [["0"]], x=Axis("x", 0.0, 1.0, 400, walls=("reflecting", "absorbing")))
    motion = evolve(leaving, Point([0.2]), times=[0.5, 1.2])
    left = 1.0 - motion.probability.sum(axis=1)
    assert left[-2] < 1e-6
    assert left[-1] > 1.0 - 1e-6


def test_a_target_is_reached_by_drift_alone():
    """tau = distance / speed; upwinding keeps the mean exact up to the width of a cell."""
    problem = plain(["2", "0"], [["0", "0"], ["0", "0.1"]], x=(0.0, 1.0, 100), y=(0.0, 1.0, 10))
    killed = Generator.of(problem).killed(problem.region("x > 0.8"))
    time = np.exp(Passage.of(killed).mean_time.log()).reshape(100, 10)
    x = problem.grid.axes[0].centres
    np.testing.assert_allclose(time[:75, 4], (0.8 - x[:75]) / 2.0, rtol=0.0, atol=0.006)


def test_mapped_axes():
    """Geometric motion D = x**2 on a stretched grid with a wall at 0: the mean of x grows as exp(0.3 t)."""
    axis = Axis("x", 0.0, 40.0, 400, scale=0.5, centre=0.0)
    noise = TensorNoise(diffusion=[["0.04*x**2 + 0*y", "0"], ["0", "0"]])
    problem = Problem(Landscape(drift=["0.3*x", "0"], variables=("x", "y")), noise, Grid(x=axis, y=(0.0, 1.0, 2)))
    assert problem.is_degenerate
    motion = evolve(problem, Gaussian([1.0, 0.5], covariance=[[0.01, 0.0], [0.0, 0.5]]), times=[1.0])
    x = problem.grid.positions()[0]
    assert motion.probability[-1] @ x == pytest.approx(math.exp(0.3) * (motion.probability[0] @ x), rel=2e-3)


# What stays as it was


def test_noise_that_vanishes_nowhere_has_exponents():
    problem = plain(["-x", "-y"], [["1", "0.3"], ["0.3", "0.2"]], x=(-2, 2, 12), y=(-2, 2, 12))
    assert Generator.of(problem).edges.local is None
    assert not problem.is_degenerate


def test_a_projection_may_clip_the_noise_to_zero():
    """D = max(H, 0) vanishes between the wells: the drift alone leads out of there."""
    noise = HessianNoise(learning_rate=0.1, batch_size=8, projection="clip")
    problem = Problem(
        Landscape("(x**2 - 1)**2 + y**2", variables=("x", "y")), noise, Grid(x=(-2, 2, 40), y=(-1, 1, 20))
    )
    generator = Generator.of(problem)
    assert_sound(generator)
    motion = evolve(generator, Point([0.1, 0.3]), times=[20.0])
    assert motion.probability[-1] @ (problem.grid.positions()[0] > 0.5) > 0.99


def test_negative_eigenvalues_are_refused():
    with pytest.raises(CaseError, match="No eigenvalue of the diffusion may be negative"):
        plain(["0"], [["x"]], x=(-1.0, 1.0, 10))
    with pytest.raises(CaseError, match="No eigenvalue may be negative"):
        Problem(
            Landscape(drift=["0", "0"], variables=("x", "y")),
            ConstantNoise(diffusion=[[1.0, 2.0], [2.0, 1.0]]),
            Grid(x=(0, 1, 4), y=(0, 1, 4)),
        )


def test_a_case_without_noise_in_one_direction(tmp_path):
    text = """
title = "shear"
[landscape]
variables = ["x", "y"]
drift = ["-x", "x"]
[noise]
kind = "constant"
diffusion = [[0.1, 0.0], [0.0, 0.0]]
[grid]
x = { min = -2.0, max = 2.0, cells = 40 }
y = { min = 0.0, max = 1.0, cells = 20 }
[walls]
y = "periodic"
[stationary]
"""
    path = tmp_path / "shear.toml"
    path.write_text(text, encoding="utf-8")
    report = fpsolve.run(path, output=tmp_path)
    assert report.outcome == "done"
    assert report.rest.covariance[0, 0] == pytest.approx(0.1, rel=1e-2)
    assert report.as_record()["stationary"]["entropy_production"] is None
    assert "nan" not in report.as_text()
