"""Drifts that are no gradient: what flows at rest, what that costs, and what takes the place of the loss."""

import h5netcdf
import numpy as np
import pytest
from exact import error_l1, integral, orders
from problems import box, linear, with_drift, with_loss
from test_figures import check_figure

from fpsolve import pipeline
from fpsolve.analyse.rest import AtRest, stationary
from fpsolve.case import parse_case
from fpsolve.errors import CaseError
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import AmplitudeNoise, ConstantNoise, HessianNoise, ScaledNoise, TensorNoise
from fpsolve.model.problem import Problem
from fpsolve.model.region import point_weights
from fpsolve.present.figures import sketch
from fpsolve.present.pictures.style import styled

CELLS = (64, 128)
SEEN = 1e-3  # share of the highest density down to which fields are compared


def at_rest(problem: Problem) -> AtRest:
    return stationary(problem, with_quasi_potential=True)


def seen(rest: AtRest) -> np.ndarray:
    return rest.density > SEEN * rest.density.max()


# Ornstein-Uhlenbeck, its drift a spiral and its noise full

SPIRAL = np.array([[-1.0, 4.0], [-0.5, -1.5]])
NOISE = np.array([[0.5, 0.2], [0.2, 0.3]])
COVARIANCE = np.array(
    [[1.15142857142857, 0.162857142857143], [0.162857142857143, 0.145714285714286]]
)  # A S + S A' = -2D
IRREVERSIBLE = SPIRAL + NOISE @ np.linalg.inv(COVARIANCE)  # J = irreversible x p


def spiral(cells):
    return with_drift(box((cells, cells), [(-6.5, 6.5), (-2.4, 2.4)]), linear(SPIRAL), NOISE)


def test_a_spiral_moves_and_produces_entropy_as_it_must():
    """J/p = (A + D S^-1) x; the entropy that it produces is tr((J/p)' D^-1 (J/p)) over the density. Second order."""
    velocities, rates = [], []
    wanted = np.trace(IRREVERSIBLE.T @ np.linalg.inv(NOISE) @ IRREVERSIBLE @ COVARIANCE)
    for cells in CELLS:
        problem = spiral(cells)
        rest = at_rest(problem)
        difference = rest.irreversible_drift - IRREVERSIBLE @ problem.grid.positions()
        velocities.append(np.sqrt((difference**2).sum(axis=0) @ rest.probability))
        rates.append(abs(rest.entropy_production / wanted - 1.0))
    assert velocities[1] < 0.05  # of 2.4 on average
    assert rates[1] < 0.01
    assert abs(orders(CELLS, velocities)[0] - 2.0) < 0.1
    assert abs(orders(CELLS, rates)[0] - 2.0) < 0.1


def test_the_quasi_potential_of_a_spiral_is_a_parabola():
    """x' S^-1 x / 2 in units of the noise, the same at every noise; the error says how far the grid is off."""
    inverse, cells, errors = np.linalg.inv(COVARIANCE), (128, 256), []
    for count in cells:
        problem = spiral(count)
        found = at_rest(problem).quasi_potential
        exact = 0.5 * np.einsum("ik,ij,jk->k", problem.grid.positions(), inverse, problem.grid.positions())
        near = exact < 4.0
        off = np.abs(found.values - exact)[near]
        assert (off <= found.error[near] + 0.1 * off.max()).all()
        errors.append(off.max())
    assert found.noise == 1.0
    assert errors[1] < 0.1
    assert abs(orders(cells, errors)[0] - 2.0) < 0.15  # the third digit of the largest of many


# A limit cycle: the Hopf normal form, dr = r (1 - r**2), turning at the rate OMEGA

OMEGA, TEMPERATURE = 1.0, 0.1


def ring(cells):
    drift = [f"x*(1 - x**2 - y**2) - {OMEGA}*y", f"y*(1 - x**2 - y**2) + {OMEGA}*x"]
    return with_drift(box((cells, cells), [(-2.0, 2.0)] * 2), drift, TEMPERATURE * np.eye(2))


def well(squares):
    """What the radial drift is the gradient of, zero on the ring: p = exp(-well/T) whatever the rotation."""
    return 0.25 * (squares - 1.0) ** 2


def radial_mean(function):
    """Mean over the density, by quadrature over the radius."""
    weights = lambda r: r * np.exp(-well(r**2) / TEMPERATURE)  # noqa: E731
    return integral(lambda r: function(r) * weights(r), 0.0, 3.0) / integral(weights, 0.0, 3.0)


def test_a_limit_cycle_is_a_ring_that_turns():
    """Density, velocity OMEGA at right angles to the radius, entropy production OMEGA**2 <r**2>/T; second order."""
    densities, velocities, rates = [], [], []
    wanted = OMEGA**2 * radial_mean(lambda r: r**2) / TEMPERATURE
    for cells in CELLS:
        problem = ring(cells)
        rest, (x, y) = at_rest(problem), problem.grid.positions()
        exact = np.exp(-well(x**2 + y**2) / TEMPERATURE)
        densities.append(error_l1(rest.probability, exact / exact.sum()))
        difference = rest.irreversible_drift - OMEGA * np.array([-y, x])
        velocities.append(np.sqrt((difference**2).sum(axis=0) @ rest.probability))
        rates.append(abs(rest.entropy_production / wanted - 1.0))
    assert densities[1] < 0.02
    assert rates[1] < 5e-3
    for errors in (densities, velocities, rates):
        assert abs(orders(CELLS, errors)[0] - 2.0) < 0.1


def test_a_limit_cycle_has_a_circulation():
    """The current through a ray from the centre to the wall is OMEGA / (2 pi): so many turns in a unit of time."""
    errors = []
    for cells in CELLS:
        problem = ring(cells)
        rest = at_rest(problem)
        current = problem.grid.shaped(rest.current)[0]  # upwards through y = 0, x > 0: by symmetry, along x at x = 0
        half = cells // 2
        through = 0.5 * (current[half - 1] + current[half])[half:].sum() * problem.grid.axes[1].widths[0]
        errors.append(abs(-through / (OMEGA / (2.0 * np.pi)) - 1.0))
    assert errors[1] < 2e-3
    assert abs(orders(CELLS, errors)[0] - 2.0) < 0.1


def test_the_quasi_potential_of_a_limit_cycle():
    """Zero on the ring, 1/4 above it in the middle, over T = 0.1."""
    errors = []
    for cells in (128, 256):
        problem = ring(cells)
        found = at_rest(problem).quasi_potential
        exact = well((problem.grid.positions() ** 2).sum(axis=0)) / TEMPERATURE
        off = np.abs(found.values - exact)[exact < 4.0]
        assert off.max() < found.error[exact < 4.0].max() + 0.01  # its zero is that of the nearest cell
        errors.append(off.max())
    assert errors[1] < 0.06
    assert abs(orders((128, 256), errors)[0] - 2.0) < 0.15  # the largest of many


# Maier & Stein (1993): drift (x - x**3 - alpha x y**2, -y (1 + x**2)), D = noise / 2


def maier_stein(alpha, noise, cells):
    drift = [f"x - x**3 - {alpha}*x*y**2", "-y*(1 + x**2)"]
    return with_drift(box((cells, cells), [(-1.8, 1.8), (-1.2, 1.2)]), drift, 0.5 * noise * np.eye(2))


def test_the_quasi_potential_of_a_drift_that_is_a_gradient_is_its_loss():
    problem = maier_stein(1.0, 0.05, 40)
    x, y = problem.grid.positions()
    found = at_rest(problem).quasi_potential
    exact = (0.25 * (x**2 - 1.0) ** 2 + 0.5 * y**2 * (1.0 + x**2)) / 0.025
    assert found.values == pytest.approx(exact - exact.min(), abs=1e-9)  # rounding of sums of some 200
    assert found.error.max() < 1e-9


def test_the_barrier_of_maier_and_stein():
    """1/2 for every alpha up to 4, in units in which D = noise / 2; at alpha = 3 the prefactor is another one."""
    heights, own = [], []
    for noise in (0.2, 0.1, 0.05):
        problem = maier_stein(3.0, noise, 128)
        rest = at_rest(problem)
        saddle = point_weights(problem.grid, (0.0, 0.0), "saddle")
        heights.append(noise * saddle.read(rest.quasi_potential.values))
        own.append(-noise * np.log(saddle.read(rest.density) / rest.density.max()))
        assert abs(heights[-1] - 0.5) < noise * saddle.read(rest.quasi_potential.error)
    assert heights[-1] == pytest.approx(0.5, abs=0.005)
    assert np.abs(np.array(heights) - 0.5).max() < 0.4 * np.abs(np.array(own) - 0.5).max()
    assert np.all(np.diff(np.abs(np.array(heights) - 0.5)) < 0.0)


# When there is one


def test_a_loss_needs_no_quasi_potential():
    assert at_rest(with_loss(box((20, 20), [(-2.0, 2.0)] * 2), "x**2 + y**2", 0.3)).quasi_potential is None
    assert at_rest(with_drift(box((20,), (-2.0, 2.0)), ["-x"], [[0.3]])).quasi_potential is None
    assert stationary(spiral(20)).quasi_potential is None


def test_a_temperature_gives_it_the_unit_of_the_loss():
    """A rotation along the contours of the loss leaves it the loss, to second order in the cells."""
    landscape = Landscape("x**2 + y**2/2", variables=("x", "y"), extra_drift=["-y/2", "x"])
    problem = Problem(landscape, ConstantNoise(temperature=0.3), box((64, 64), [(-2.5, 2.5), (-3.0, 3.0)]))
    found, loss = at_rest(problem).quasi_potential, landscape.loss(problem.grid.positions())
    near = loss < 1.0
    assert found.noise == 0.3
    assert np.abs(found.values - loss)[near].max() < 0.02


@pytest.mark.parametrize(
    "noise",
    [
        ConstantNoise(temperature=0.2, learning_rate=0.1, injected=0.3),
        TensorNoise(diffusion=[["1 + x**2", "x/4"], ["x/4", "1"]], convention="ito"),
        TensorNoise(diffusion=[["1 + x**2", "x/4"], ["x/4", "1"]], convention="isothermal"),
        AmplitudeNoise(noise_amplitude=[["1 + x**2", "y/4"], ["0", "1"]], convention="stratonovich"),
        HessianNoise(learning_rate=0.1, batch_size=2, projection="abs", floor=0.3),
    ],
    ids=["constant", "ito", "isothermal", "amplitude", "hessian"],
)
def test_noise_times_a_factor(noise):
    """D and what it adds to the drift are three times as large, to rounding."""
    landscape = Landscape("(x**2 - 1)**2 + y**2", variables=("x", "y"))
    positions = np.random.default_rng(1).uniform(-1.0, 1.0, (2, 50))
    plain = noise.diffusion_in(landscape)
    tripled = ScaledNoise(noise=noise, factor=3.0).diffusion_in(landscape)
    assert tripled.matrix(positions) == pytest.approx(3.0 * plain.matrix(positions), rel=1e-13)
    assert tripled.noise_drift(positions) == pytest.approx(3.0 * plain.noise_drift(positions), rel=1e-13)
    for found, single in zip(
        tripled.matrix_and_noise_drift(positions), plain.matrix_and_noise_drift(positions), strict=True
    ):
        assert found == pytest.approx(3.0 * single, rel=1e-13)


# In a case

CASE = {
    "landscape": {"variables": ["x", "y"], "drift": ["-x + y", "-x - y"]},
    "noise": {"kind": "constant", "diffusion": [[0.2, 0.0], [0.0, 0.2]]},
    "grid": {"x": {"min": -2.5, "max": 2.5, "cells": 60}, "y": {"min": -2.5, "max": 2.5, "cells": 60}},
    "stationary": {},
    "expect": {
        "stationary.quasi_potential": {"at": [0.5, 0.5], "value": 1.25, "absolute": 0.05, "source": "r**2/(2 D)"}
    },
}


def test_a_case_may_ask_for_it_and_its_result_holds_it(tmp_path):
    report = pipeline.run(parse_case(CASE, "spiral"), output=tmp_path, figures=False)
    assert report.outcome == "done"
    with h5netcdf.File(tmp_path / "spiral.nc") as file:
        assert file.variables["quasi_potential"].shape == (60, 60)
        assert file.variables["quasi_potential"].attrs["units"] == "1"
        assert np.asarray(file.variables["quasi_potential"]).min() == 0.0
        assert np.asarray(file.variables["quasi_potential_error"]).min() >= 0.0
        drift = np.asarray(file.variables["irreversible_drift_x"])
        y = np.asarray(file.variables["y"])
        centre = np.abs(y) < 0.5
        assert drift[30, centre] == pytest.approx(y[centre], abs=0.02)  # second order


def test_what_cannot_be_asked():
    still = {**CASE, "landscape": {"variables": ["x", "y"], "loss": "x**2 + y**2"}}
    still["noise"] = {"kind": "constant", "temperature": 0.2}
    with pytest.raises(CaseError, match="there is no quasi-potential"):
        pipeline.run(parse_case(still, "still"))
    nowhere = {**CASE, "expect": {"stationary.quasi_potential": {"value": 1.0, "relative": 0.1}}}
    with pytest.raises(CaseError, match="the place is missing"):
        pipeline.run(parse_case(nowhere, "nowhere"))


@pytest.mark.parametrize("temperature", [None, 0.3])
def test_its_picture(temperature):
    """Named, with its unit, and nothing cut off."""
    turning = {"loss": "(x**2 + y**2)/2", "extra_drift": ["-y", "x"]}
    drift = {"drift": ["-x + y", "-x - y"]} if temperature is None else turning
    noise = ConstantNoise(temperature=temperature, diffusion=0.3 * np.eye(2) if temperature is None else None)
    problem = Problem(Landscape(variables=("x", "y"), **drift), noise, box((30, 24), [(-2.5, 2.5), (-2.0, 2.0)]))
    with styled():
        drawn = sketch(problem, "Spiral", rest=at_rest(problem), motion=None, escape=None, regions={})
        assert list(drawn) == ["density", "quasi-potential"]
        check_figure(drawn["quasi-potential"])
        labels = [axes.get_ylabel() for axes in drawn["quasi-potential"].axes[0].child_axes]
    assert labels == ["quasi-potential / noise" if temperature is None else "quasi-potential [loss]"]
