"""Escapes of SGD itself beside those of the equation, on the data of the cases: where they agree, and where not."""

from pathlib import Path

import numpy as np
import pytest

import fpsolve

pytestmark = pytest.mark.slow  # runs of SGD, many seconds each

CASES = Path(__file__).parents[1] / "cases"
# learning_rate / batch_size is the same in all three, and so is the equation.
RATES = {0.1: 36, 0.05: 18, 0.025: 9}


def ran(case, **settings):
    overrides = [f"{key.replace('__', '.')}={value}" for key, value in settings.items()]
    return fpsolve.run(CASES / case, overrides=["escape.grids=1", *overrides], figures=False)


def first_passage(report) -> float:
    return report.escape.times["mean_first_passage_time"].value


@pytest.mark.slow
def test_sgd_leaves_when_fokker_planck_says_but_for_the_learning_rate():
    """The ratio of the times is 1 + c learning_rate to three standard errors; c = -1.7 is read off the three rates.

    On the way out the gradient is at most 0.062 standard deviations of an example's (the tilt is twice that), the
    barrier 4.0 times the noise, and the target lies beyond the saddle.
    """
    ratios, errors = [], []
    for rate, size in RATES.items():
        report = ran("two-valleys.toml", noise__learning_rate=rate, noise__batch_size=size, ensemble__walkers=20_000)
        exits, expected = report.witness.escape.exits, first_passage(report)
        assert exits.censored < 10  # of 20000, after ten mean times
        assert report.structure.tilts[0].largest < 0.2  # 0.1 standard deviations
        assert 3.0 < report.terrain.paths[0].action < 5.0
        ratios.append(exits.value / expected)
        errors.append(exits.standard_error / expected)
    terms = np.stack([np.ones(3), list(RATES)], axis=1) / np.array(errors)[:, None]
    covariance = np.linalg.inv(terms.T @ terms)
    limit, slope = covariance @ terms.T @ (np.array(ratios) / errors)
    assert abs(limit - 1.0) < 3.0 * np.sqrt(covariance[0, 0])
    assert abs(slope + 1.7) < 3.0 * np.sqrt(covariance[1, 1])


def test_the_hessian_is_no_stand_in_for_this_noise():
    """Beside it: C is 27 times H here, and noise of the size of H would keep SGD in its valley for 10^166."""
    noise = '{kind = "hessian", learning_rate = 0.025, batch_size = 9, projection = "abs", floor = 0.05}'
    of_data = ran("two-valleys.toml", noise=noise, ensemble__max_time=1.0, ensemble__walkers=2)
    assert of_data.escape.times["mean_first_passage_time"].log10 > 160.0
    with_covariance = ran("two-valleys.toml", ensemble__walkers=500)
    assert with_covariance.structure.at_minima[0].scale > 20.0
    assert first_passage(with_covariance) == pytest.approx(139.2, rel=2e-3)  # discretisation


def test_where_steps_are_those_of_single_examples_the_gap_shows_and_is_announced():
    report = ran("one-example-steps.toml", ensemble__walkers=300)
    exits = report.witness.escape.exits
    gap = exits.value / first_passage(report)
    assert gap - 3.0 * exits.standard_error / first_passage(report) > 1.4  # 1.78 with 4000 walkers
    notice = next(notice for notice in report.warnings if notice.code == "tilt_is_large")
    assert "SGD leaves later" in notice.message
    assert report.structure.exponents[0].log_ratio > 0.5
