"""Stable laws against their closed forms, and the fit against laws whose tail index is known."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import gamma, ndtr, ndtri
from scipy.stats import levy_stable

from fpsolve.analyse.stable_law import (
    STEEPEST,
    TABLE,
    StableLaw,
    fit_stable_law,
    slope_error,
    standard_density,
    standard_distribution,
    tail_slope,
)
from fpsolve.model.grid import FloatArray

DISTANCES = np.concatenate([[0.0], np.geomspace(1e-3, 1e4, 200)])
ROUNDING = 1e-13  # a hundred nodes of size 1

indices = st.floats(0.3, 2.0)


def stable_sample(tail_index: float, draws: int, seed: int) -> FloatArray:
    """Draws of the symmetric law of scale 1 (Chambers, Mallows & Stuck 1976)."""
    random = np.random.default_rng(seed)
    angle, wait = random.uniform(-0.5 * np.pi, 0.5 * np.pi, draws), random.exponential(size=draws)
    turned = np.cos((1.0 - tail_index) * angle) / wait
    return np.sin(tail_index * angle) / np.cos(angle) ** (1.0 / tail_index) * turned ** (1.0 / tail_index - 1.0)


def cauchy_quantiles(draws: int) -> FloatArray:
    return np.tan(np.pi * ((np.arange(draws) + 0.5) / draws - 0.5))


def test_cauchy_and_gauss_are_exact():
    assert np.abs(standard_density(DISTANCES, 1.0) - 1.0 / (np.pi * (1.0 + DISTANCES**2))).max() < ROUNDING
    assert np.abs(standard_distribution(DISTANCES, 1.0) - 0.5 - np.arctan(DISTANCES) / np.pi).max() < ROUNDING
    gauss = np.exp(-0.25 * np.minimum(DISTANCES, 50.0) ** 2) / math.sqrt(4.0 * np.pi)
    assert np.abs(standard_density(DISTANCES, 2.0) - gauss).max() < ROUNDING
    assert np.abs(standard_distribution(DISTANCES, 2.0) - ndtr(DISTANCES / math.sqrt(2.0))).max() < ROUNDING


@pytest.mark.parametrize("tail_index", [0.5, 0.8, 1.2, 1.5, 1.8, 1.95])
def test_scipy_agrees(tail_index):
    places = np.array([0.0, 0.1, 1.0, 3.0, 10.0, 50.0])
    with np.errstate(all="ignore"):
        density, below = levy_stable.pdf(places, tail_index, 0.0), levy_stable.cdf(places, tail_index, 0.0)
    assert np.abs(standard_density(places, tail_index) - density).max() < ROUNDING
    assert np.abs(standard_distribution(places, tail_index) - below).max() < 1e-10  # scipy's own quadrature


@settings(max_examples=30)
@given(indices)
def test_the_density_at_the_middle_is_a_gamma_function(tail_index):
    peak = standard_density(np.zeros(1), tail_index)[0]
    assert peak == pytest.approx(gamma(1.0 + 1.0 / tail_index) / np.pi, rel=1e-12)
    assert standard_distribution(np.zeros(1), tail_index)[0] == pytest.approx(0.5, abs=ROUNDING)


@pytest.mark.parametrize("tail_index", [0.7, 1.3, 1.7])
def test_the_tail_is_a_power(tail_index):
    """f ~ alpha Gamma(alpha) sin(pi alpha / 2) / pi |x|**(-1 - alpha), and the next term is |x|**alpha smaller."""
    places = np.array([100.0, 200.0, 400.0])
    leading = gamma(tail_index + 1.0) * math.sin(0.5 * np.pi * tail_index) / np.pi * places ** (-1.0 - tail_index)
    errors = np.abs(standard_density(places, tail_index) / leading - 1.0)
    assert np.abs(np.log2(errors[:-1] / errors[1:]) - tail_index).max() < 0.1


@settings(max_examples=30)
@given(indices, st.floats(-5.0, 5.0), st.floats(0.1, 10.0))
def test_location_and_scale_move_and_stretch(tail_index, location, scale):
    law, away = StableLaw(tail_index, location, scale), np.array([-3.0, -0.5, 0.0, 0.5, 3.0])
    density, below = law.density(location + scale * away), law.distribution(location + scale * away)
    assert scale * density == pytest.approx(standard_density(np.abs(away), tail_index), rel=1e-9)
    assert below + below[::-1] == pytest.approx(np.ones(5), abs=1e-12)
    assert (np.diff(below) > 0.0).all()


@pytest.mark.parametrize("tail_index", [0.6, 1.5, 1.99])
def test_tables_are_as_good_as_the_quadrature(tail_index):
    law, places = StableLaw(tail_index, 0.3, 2.0), np.linspace(-400.0, 500.0, 3 * TABLE)
    parts = np.array_split(places, 9)
    direct = np.concatenate([law.log_density(part) for part in parts])
    assert np.abs(law.log_density(places) - direct).max() < 1e-6
    below = np.concatenate([law.distribution(part) for part in parts])
    assert np.abs(law.distribution(places) - below).max() < 1e-8


def test_quantiles_of_cauchy_and_gauss_give_their_index():
    """Evenly spaced quantiles are the law but for what lies beyond the last: a share of 1 / draws of the tail."""
    cauchy = fit_stable_law(3.0 + 2.0 * cauchy_quantiles(20_001))
    assert cauchy.law.tail_index == pytest.approx(1.0, abs=40.0 / 20_001)  # a few 1 / draws of -ln|phi| = 0.1
    assert cauchy.law.scale == pytest.approx(2.0, abs=1e-3)
    assert cauchy.law.location == pytest.approx(3.0, abs=1e-9)
    gauss = ndtri((np.arange(20_001) + 0.5) / 20_001)
    assert fit_stable_law(gauss).slope == pytest.approx(2.0, abs=1e-3)


@pytest.mark.parametrize("tail_index", [0.8, 1.0, 1.2, 1.5, 1.8, 2.0])
def test_the_fit_finds_a_known_law(tail_index):
    fit = fit_stable_law(5.0 + 3.0 * stable_sample(tail_index, 20_000, seed=4))
    assert abs(fit.slope - tail_index) < 4.0 * fit.standard_error
    assert fit.standard_error == pytest.approx(slope_error(np.array([tail_index]))[0] / math.sqrt(20_000), rel=0.15)
    assert fit.law.scale == pytest.approx(3.0, rel=0.05)  # 4 standard errors
    assert fit.law.location == pytest.approx(5.0, abs=0.2)  # 4 standard errors
    low, high = fit.interval
    assert low <= fit.law.tail_index <= high <= 2.0


def test_the_errors_that_the_documentation_names():
    assert slope_error(np.array([2.0, 1.5])) == pytest.approx([0.344, 1.833], abs=5e-4)
    everywhere = slope_error(np.linspace(0.1, 2.0, 1901))
    assert everywhere.max() == pytest.approx(slope_error(np.array([STEEPEST]))[0], rel=1e-3)


@pytest.mark.parametrize("tail_index", [1.2, 1.9, 2.0])
def test_the_scatter_of_the_slope_is_the_error_of_theory(tail_index):
    slopes = [tail_slope(stable_sample(tail_index, 2000, seed)).slope for seed in range(200)]
    # The scatter of 200 slopes is known to 5 %: four standard errors.
    assert np.std(slopes, ddof=1) * math.sqrt(2000) == pytest.approx(slope_error(np.array([tail_index]))[0], rel=0.2)


@pytest.mark.parametrize("law", ["laplace", "exponential", "uniform"])
def test_the_standard_error_holds_for_laws_that_are_not_stable(law):
    random = np.random.default_rng(7)
    found = [tail_slope(getattr(random, law)(size=2000)) for _ in range(200)]
    scatter = np.std([one.slope for one in found], ddof=1)
    # The scatter of 200 slopes is known to 1 / sqrt(2 * 199) = 5 %: four standard errors.
    assert np.mean([one.standard_error for one in found]) == pytest.approx(scatter, rel=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("tail_index", [1.2, 1.5, 1.8, 2.0])
def test_intervals_cover(tail_index):
    studies = 600
    covered = 0
    for seed in range(studies):
        low, high = fit_stable_law(stable_sample(tail_index, 2000, seed)).interval
        covered += low <= tail_index <= high
    nominal = 0.975 if tail_index == 2.0 else 0.95  # an interval cut at 2 misses on one side only
    assert abs(covered / studies - nominal) < 4.0 * math.sqrt(nominal * (1.0 - nominal) / studies)


@settings(max_examples=30)
@given(st.floats(-100.0, 100.0), st.floats(1e-3, 1e3))
def test_the_fit_follows_shifts_and_units(shift, unit):
    sample = stable_sample(1.6, 500, seed=1)
    one, other = fit_stable_law(sample), fit_stable_law(shift + unit * sample)
    # The scale is a root to 1e-12; a shift of 1e5 units rounds the sample to 1e-11.
    assert other.slope == pytest.approx(one.slope, rel=1e-8)
    assert other.standard_error == pytest.approx(one.standard_error, rel=1e-6)
    assert other.law.scale == pytest.approx(unit * one.law.scale, rel=1e-8)
    assert other.law.location == pytest.approx(shift + unit * one.law.location, abs=1e-8 * (unit + abs(shift)))


def test_summands_are_a_convolution():
    sample = np.array([-1.0, 0.5, 2.0])
    sums = (sample[:, None, None] + sample[None, :, None] + sample[None, None, :]).ravel()
    one, other = tail_slope(sample, summands=3), tail_slope(sums)
    assert one.slope == pytest.approx(other.slope, rel=1e-9)
    assert one.scale == pytest.approx(other.scale, rel=1e-9)


def test_the_influence_is_a_derivative():
    """Doubling the weight of one draw moves the slope by its influence / draws, to first order."""
    sample = stable_sample(1.5, 400, seed=3)
    base = tail_slope(np.tile(sample, 50))
    heavier = tail_slope(np.concatenate([np.tile(sample, 50), sample[:1]]))
    assert (heavier.slope - base.slope) * 20_000 == pytest.approx(base.influence[0], rel=5e-3, abs=5e-3)
    assert base.influence.mean() == pytest.approx(0.0, abs=1e-12)


def test_an_atom_has_no_scale():
    half = np.concatenate([np.zeros(600), stable_sample(2.0, 400, seed=2)])
    assert fit_stable_law(half) is None
    assert fit_stable_law(np.ones(10)) is None
