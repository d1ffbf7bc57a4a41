"""The noise of minibatches against its exact moments, and what is said about it against laws that are known."""

import itertools
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtri
from scipy.stats import chi2, kstest
from test_figures import check_figure

from fpsolve.analyse.batches import draw_batches, exact_moments
from fpsolve.analyse.gradient_noise import GradientNoise, Shape, Trend, gradient_noise, principal_directions
from fpsolve.errors import CaseError
from fpsolve.model.grid import FloatArray
from fpsolve.present.noise_words import noise_lines, noise_record
from fpsolve.present.pictures.gradient_noise import draw_gradient_noise
from fpsolve.present.pictures.style import styled

SIZES = (1, 8, 64, 512)
DRAWS = 20_000
SAMPLINGS = ("replacement", "without")
NAMES = ("x", "y", "z")

LEVELS = (np.arange(20_000) + 0.5) / 20_000
GAUSS = ndtri(LEVELS)[None]
LAPLACE = (np.sign(LEVELS - 0.5) * np.log(1.0 - 2.0 * np.abs(LEVELS - 0.5)))[None]
CAUCHY = np.tan(np.pi * (LEVELS - 0.5))[None]
EXPONENTIAL = -np.log(LEVELS)[None]
TWO_VALUED = np.array([[-1.0, 1.0]])
SPARSE = np.concatenate([np.zeros(18_000), ndtri((np.arange(2000) + 0.5) / 2000)])[None]


def noise_of(gradients: FloatArray, sizes: tuple[int, ...] = SIZES, **choices: object) -> GradientNoise:
    return gradient_noise(gradients, sizes, point=np.zeros(len(gradients)), **choices)


@pytest.fixture(scope="module")
def known() -> dict[str, GradientNoise]:
    laws = {"gauss": GAUSS, "laplace": LAPLACE, "cauchy": CAUCHY, "exponential": EXPONENTIAL}
    return {name: noise_of(rows) for name, rows in (laws | {"two-valued": TWO_VALUED, "sparse": SPARSE}).items()}


def moments_of(values: FloatArray) -> tuple[float, float, float]:
    away = values - values.mean()
    deviation = math.sqrt((away**2).mean())
    return deviation, (away**3).mean() / deviation**3, (away**4).mean() / deviation**4 - 3.0


@pytest.mark.parametrize("sampling", SAMPLINGS)
@pytest.mark.parametrize("rows", [[-1.0, 1.0], [-2.0, 0.5, 1.5], [3.0, -1.0, -1.5, 0.25, 0.5, -1.25]])
def test_exact_moments_are_those_of_all_batches(rows, sampling):
    batches = itertools.combinations if sampling == "without" else lambda some, size: itertools.product(*[some] * size)
    for size in range(1, len(rows)):
        means = np.array([np.mean(batch) for batch in batches(rows, size)])
        exact = exact_moments(np.array([rows]), size, sampling)
        found = exact.standard_deviation[0], exact.skewness[0], exact.excess_kurtosis[0]
        assert found == pytest.approx(moments_of(means), rel=1e-12, abs=1e-12)


@pytest.mark.parametrize(
    ("sampling", "size"), [("replacement", 5), ("replacement", 100), ("without", 5), ("without", 36)]
)
def test_drawn_moments_are_exact_within_their_errors(sampling, size):
    rows = np.random.default_rng(3).exponential(size=(2, 40 if size < 40 or sampling == "replacement" else 110)) * [
        [1.0],
        [3.0],
    ]
    batch = noise_of(rows, (size,), sampling=sampling, draws=40_000).batches[0]
    for name in ("standard_deviation", "skewness", "excess_kurtosis"):
        found, error, exact = (getattr(some, name) for some in (batch.found, batch.errors, batch.exact))
        assert (np.abs(found - exact) < 4.0 * error).all(), name  # standard errors, 24 of them in all
    # Uncorrelated along the principal directions: the sample correlation has a standard error of about 1 / sqrt(draws).
    assert abs(np.corrcoef(batch.samples)[0, 1]) < 5.0 / math.sqrt(batch.draws)
    assert np.abs(batch.samples.mean(axis=1) / batch.exact.standard_deviation).max() < 4.0 / math.sqrt(batch.draws)


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_the_noise_is_that_of_the_covariance(sampling):
    rows = np.array([[1.0, 0.4], [-0.3, 2.0]]) @ np.random.default_rng(1).standard_normal((2, 50))
    noise = noise_of(rows, (1, 7, 49), sampling=sampling, draws=100)
    covariance = np.cov(rows, bias=True)
    assert noise.directions @ np.diag(noise.variances) @ noise.directions.T == pytest.approx(covariance, abs=1e-12)
    for batch in noise.batches:
        factor = (50 - batch.batch_size) / 49 if sampling == "without" else 1.0
        wanted = np.sqrt(noise.variances / batch.batch_size * factor)
        assert batch.exact.standard_deviation == pytest.approx(wanted, rel=1e-12)


@given(st.lists(st.floats(-3.0, 3.0), min_size=9, max_size=9))
def test_principal_directions_turn_without_mirrors(entries):
    root = np.reshape(entries, (3, 3))
    covariance = root @ root.T
    directions = principal_directions(covariance)
    assert directions.T @ directions == pytest.approx(np.eye(3), abs=1e-12)
    turned = directions.T @ covariance @ directions
    assert turned == pytest.approx(np.diag(np.diag(turned)), abs=1e-12 * (1.0 + covariance.max()))
    assert (np.diff(np.diag(turned)) <= 1e-12 * (1.0 + covariance.max())).all()
    assert (directions[np.abs(directions).argmax(axis=0), range(3)] > 0.0).all()


@pytest.mark.parametrize(("sampling", "batches"), [("without", 20), ("replacement", 216)])
def test_all_batches_are_as_likely(sampling, batches):
    """Every batch of 3 of 6 rows, told apart by the sum of powers: of 2 without replacement, of 7 with it."""
    weights = np.array([[2.0**row if sampling == "without" else 7.0**row for row in range(6)]])
    sums = np.rint(3.0 * draw_batches(weights, 3, sampling, DRAWS, seed=2)[0]).astype(int)
    choices = itertools.combinations(range(6), 3) if sampling == "without" else itertools.product(range(6), repeat=3)
    wanted: dict[int, float] = {}
    for rows in choices:
        key = round(sum(weights[0, row] for row in rows))
        wanted[key] = wanted.get(key, 0.0) + DRAWS / batches
    values, counts = np.unique(sums, return_counts=True)
    assert set(values) <= set(wanted)  # no row twice without replacement
    expected = np.array([wanted[value] for value in wanted])
    drawn = np.array([dict(zip(values, counts, strict=True)).get(value, 0) for value in wanted])
    assert ((drawn - expected) ** 2 / expected).sum() < chi2.ppf(0.9999, len(wanted) - 1)


def test_the_seed_gives_the_samples_whatever_the_other_sizes():
    rows = np.random.default_rng(1).standard_normal((2, 30))
    for sampling in SAMPLINGS:
        one, other = (noise_of(rows, sizes, sampling=sampling, draws=500) for sizes in ((4, 20), (20,)))
        assert (one.batches[1].samples == other.batches[0].samples).all()
        again = noise_of(rows, (20,), sampling=sampling, draws=500, seed=1)
        assert (again.batches[0].samples != other.batches[0].samples).any()


def test_gaussian_rows_are_gaussian(known):
    noise = known["gauss"]
    assert noise.trends[0].kind is Trend.GAUSSIAN
    for batch in noise.batches:
        low, high = batch.fits[0].interval
        assert low <= 2.0 == high
        assert low > 1.98  # four standard errors, 0.344 / sqrt(20000)
        assert batch.gaussian.log_likelihood[0] == pytest.approx(
            -0.5 * math.log(2.0 * np.pi * np.e), abs=0.02
        )  # 4 s.e.


def test_cauchy_rows_keep_their_index(known):
    noise = known["cauchy"]
    assert noise.trends[0].kind is Trend.STEADY
    for batch in noise.batches[:3]:
        reach = math.hypot(batch.fits[0].standard_error, batch.row_errors[0])
        assert abs(batch.fits[0].slope - 1.0) < 4.0 * reach
        assert batch.stable.log_likelihood[0] > batch.gaussian.log_likelihood[0] + 1.0
        assert batch.stable.distance[0] < 0.02 < 0.3 < batch.gaussian.distance[0]


def test_a_peak_with_finite_variance_rises_to_two(known):
    """An index well below 2 at one example though all moments are finite: what only the trend tells."""
    noise = known["laplace"]
    first, last = noise.batches[0], noise.batches[-1]
    assert first.shapes[0] is Shape.PEAKED
    assert first.fits[0].interval[1] < 1.85
    assert first.exact.excess_kurtosis[0] == pytest.approx(3.0, abs=0.05)  # of the quantiles
    assert last.shapes[0] is Shape.GAUSSIAN
    assert noise.trends[0].kind is Trend.REACHED
    short = noise_of(LAPLACE, (1, 8))
    assert short.trends[0].kind is Trend.RISING
    assert (short.trends[0].smaller, short.trends[0].larger) == (1, 8)


def test_two_values_are_light(known):
    noise = known["two-valued"]
    assert noise.trends[0].kind is Trend.LIGHT
    assert all(batch.shapes[0] is Shape.LIGHT for batch in noise.batches)  # a lattice is never Gaussian
    assert noise.batches[0].fits[0].slope > 2.0
    assert noise.batches[0].fits[0].interval == (2.0, 2.0)
    assert noise.batches[0].found.excess_kurtosis[0] == pytest.approx(-2.0, abs=1e-3)  # 4 / draws, quadratic


def test_few_heavy_rows_do_not_tell():
    rows = np.random.default_rng(3).standard_cauchy((1, 60))
    noise = noise_of(rows, (1, 4))
    assert noise.trends[0].kind is Trend.UNCLEAR


def test_mostly_zero_gradients_are_an_atom(known):
    noise = known["sparse"]
    assert [batch.shapes[0] for batch in noise.batches[:2]] == [Shape.ATOM, Shape.ATOM]
    assert noise.batches[0].fits == (None,)
    assert np.isnan(noise.batches[0].stable.distance).all()
    assert noise.trends[0].kind is Trend.REACHED


def test_fits_tend_to_the_exact_index(known):
    """The rows' own characteristic function to the power S gives the index without a draw."""
    for name, noise in known.items():
        for batch in noise.batches:
            if batch.fits[0] is not None and batch.exact_tail_index[0] < 2.0:
                error = abs(batch.fits[0].slope - batch.exact_tail_index[0])
                assert error < 4.5 * batch.fits[0].standard_error, (name, batch.batch_size)


def test_distances_are_those_of_scipy(known):
    batch = known["exponential"].batches[1]
    unit = batch.exact.standard_deviation[0]
    assert batch.gaussian.distance[0] == pytest.approx(kstest(batch.samples[0] / unit, "norm").statistic, abs=1e-12)
    wanted = kstest(batch.samples[0], batch.fits[0].law.distribution).statistic
    assert batch.stable.distance[0] == pytest.approx(wanted, abs=1e-12)


def test_a_direction_without_noise_is_silent():
    along = np.random.default_rng(1).standard_normal(40)
    noise = noise_of(np.stack([0.6 * along + 7.0, 0.8 * along]), (1, 8))
    assert [trend.kind is Trend.SILENT for trend in noise.trends] == [False, True]
    assert noise.variances[1] == 0.0
    assert np.abs(noise.directions[:, 0]) == pytest.approx([0.6, 0.8], abs=1e-12)
    assert noise_of(np.full((1, 5), 0.1), (2,)).trends[0].kind is Trend.SILENT
    assert noise_of(np.ones((2, 1)), (2,)).batches[0].shapes == (Shape.SILENT, Shape.SILENT)


@settings(max_examples=10)
@given(st.floats(1e-3, 1e3), st.floats(-50.0, 50.0))
def test_units_and_the_full_gradient_change_nothing(unit, gradient):
    rows = np.random.default_rng(5).laplace(size=(1, 60))
    one, other = (noise_of(some, (1, 6), draws=500) for some in (rows, gradient + unit * rows))
    for before, after in zip(one.batches, other.batches, strict=True):
        assert after.samples == pytest.approx(unit * before.samples, abs=1e-11 * (1.0 + unit))
        assert after.found.excess_kurtosis == pytest.approx(before.found.excess_kurtosis, abs=1e-6)
        assert after.fits[0].slope == pytest.approx(before.fits[0].slope, abs=1e-6)
        assert after.shapes == before.shapes


@pytest.mark.parametrize(
    ("sizes", "choices", "where"),
    [
        ((), {}, "gradient_noise.batch_sizes"),
        ((0,), {}, "gradient_noise.batch_sizes"),
        ((2.5,), {}, "gradient_noise.batch_sizes"),
        ((1, 5), {"sampling": "without"}, "gradient_noise.batch_sizes"),
        ((9,), {"sampling": "without"}, "gradient_noise.batch_sizes"),
        ((1,), {"sampling": "epochs"}, "gradient_noise.sampling"),
        ((1,), {"draws": 10}, "gradient_noise.draws"),
    ],
)
def test_wrong_questions_are_named(sizes, choices, where):
    with pytest.raises(CaseError) as caught:
        noise_of(np.arange(5.0)[None], sizes, **choices)
    assert caught.value.where == where
    assert caught.value.required


def test_gradients_that_are_no_numbers_are_refused():
    with pytest.raises(CaseError, match=r"gradient_noise\.at"):
        noise_of(np.array([[1.0, np.nan]]), (1,))


def test_the_words_say_the_verdict(known):
    assert "Gaussian within sampling error at every batch size" in noise_lines(known["gauss"], "x")[1]
    steady = noise_lines(known["cauchy"], "x")
    assert steady[0].startswith("Gradient noise at x = 0   20000 rows, 20000 batches of each size with replacement")
    assert "heavy-tailed" in steady[1]
    assert "alpha = 1" in steady[1]
    assert "may be a peak" in steady[-1]
    assert (
        "tail index of 2 at every batch size; not yet Gaussian at S = 512" in noise_lines(known["two-valued"], "x")[1]
    )
    reached = noise_lines(known["laplace"], "x")
    assert "finite variance" in reached[1]
    assert "Gaussian within sampling error from S = " in reached[1]
    silent = noise_lines(noise_of(np.ones((2, 4)), (2,)), NAMES[:2])
    assert silent[1:] == ["  along (0, 1): no noise", "  along (1, 0): no noise"]


def test_the_record_is_plain(known):
    for noise in [*known.values(), noise_of(np.ones((2, 4)), (2,))]:
        record = noise_record(noise)
        assert json.loads(json.dumps(record, allow_nan=False)) == record
        assert [batch["batch_size"] for batch in record["batches"]] == [batch.batch_size for batch in noise.batches]
    interval = noise_record(known["cauchy"])["batches"][0]["stable"]["interval"][0]
    assert interval == list(known["cauchy"].batches[0].fits[0].interval)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cauchy", "two-valued", "sparse", "silent", "three", "one size"])
def test_the_picture_holds_everything(known, name, tmp_path):
    random = np.random.default_rng(8)
    others = {
        "silent": lambda: noise_of(np.ones((2, 4)), (2,)),
        "three": lambda: noise_of(random.laplace(size=(3, 300)), (1, 2, 3, 9, 27, 100), sampling="without", draws=1000),
        "one size": lambda: noise_of(random.laplace(size=(2, 300)), (5,), draws=1000),
    }
    noise = known[name] if name in known else others[name]()
    with styled():
        figure = draw_gradient_noise(noise, NAMES[: noise.variances.size], "A long title of the case " * 4)
        check_figure(figure)
        figure.savefig(tmp_path / "noise.png")
    rows = max(1, int((noise.variances > 0.0).sum()))
    assert len(figure.axes) == min(4, len(noise.batches)) * rows + 2
