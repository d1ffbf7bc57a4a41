"""Questions on several grids: which grids, how the numbers become one, and what is said where they cannot."""

import math
import re
import tomllib
from dataclasses import replace

import numpy as np
import pytest
from exact import quartic_passage
from problems import rotated_quartic, with_loss

from fpsolve.analyse.convergence import Estimate, Limit, limit_of, peak_error
from fpsolve.analyse.passage_integral import log_passage_time
from fpsolve.errors import CaseError
from fpsolve.model.grid import Axis, Grid
from fpsolve.model.landscape import Landscape
from fpsolve.model.maps import Refinement
from fpsolve.model.noise import TensorNoise
from fpsolve.model.problem import Problem
from fpsolve.refine import (
    FIRST,
    Resolution,
    coarsened,
    converge,
    escape,
    first_passage,
    limits,
    refined,
    resolution,
    resolution_notices,
)

QUARTIC = "(x**2 - 1)**2"
SPACINGS = (4.0, 8.0 / 3.0, 2.0, 1.0)
NARROW, WIDE = 0.3, 10.0  # cells across the narrowest well


def levels(law):
    return [law(spacing) for spacing in SPACINGS]


def quartic(cells: int, temperature: float = 0.1):
    return with_loss(Grid(x=(-2.4, 2.4, cells)), QUARTIC, temperature)


# How numbers become one


def test_second_order_is_extrapolated_exactly():
    found = limit_of(levels(lambda h: 3.0 + 0.01 * h**2), SPACINGS, WIDE)
    assert found.extrapolated == pytest.approx(3.0, abs=1e-14)
    assert found.order == pytest.approx(2.0, abs=1e-9)
    assert found.clean
    assert found.reason is None
    assert found.error == pytest.approx(0.01 * 0.03, rel=1e-6)  # TRUST of the last change


def test_bar_is_a_few_times_what_a_term_of_order_four_leaves():
    found = limit_of(levels(lambda h: 3.0 + 0.01 * h**2 + 1e-4 * h**4), SPACINGS, WIDE)
    error = abs(found.extrapolated - 3.0)
    assert error == pytest.approx(4e-4, rel=1e-9)  # h**2 h'**2 of the two grids
    assert 3.0 * error < found.error < 8.0 * error


def test_where_the_well_is_seen_on_two_grids_only_the_bar_covers_orders_two_and_four():
    quarter, check, half, fine = 9.0, 4.9, 5.004, 5.001
    found = limit_of([quarter, check, half, fine], SPACINGS, 1.8)
    for share in (1.0 / 3.0, 1.0 / 15.0):
        assert abs(fine + share * (fine - half) - found.extrapolated) <= found.error


def test_change_of_a_grid_that_sees_no_well_is_not_extrapolated_as_order_two():
    found = limit_of([20.0, 24.0, 23.0, 23.4], SPACINGS, NARROW)
    assert abs(found.extrapolated - 23.4) < 0.4 / 3.0
    assert found.error > 0.8 * 0.4


def test_changes_that_grow_widen_the_bar():
    # 22 are missing: ln(time) of the circulating well at T = 0.02 on 9, 13, 17 and 33 cells (tests/test_error_bars.py).
    found = limit_of([16.6, 16.9, 17.4, 25.6], SPACINGS, 0.5)
    assert found.extrapolated + found.error > 49.9
    assert "does not shrink" in found.reason


def test_missing_coarse_answers_leave_an_error_bar():
    found = limit_of([None, None, 3.04, 3.01], SPACINGS, WIDE)
    assert found.order is None
    assert not found.clean
    assert abs(found.extrapolated - 3.0) <= found.error
    assert len(found.levels) == 2


def test_rounding_is_an_error_too():
    found = limit_of([600.0] * 4, SPACINGS, WIDE)
    assert 0.0 < found.error < 1e-10
    assert found.clean


@pytest.mark.parametrize("width", [0.25, 0.4, 0.6, 0.8])
def test_peak_error_is_that_of_the_worst_place_of_a_gaussian_peak(width):
    index = np.arange(-60, 61)
    sums = [np.exp(-0.5 * ((index - place) / width) ** 2).sum() for place in (0.0, 0.5)]
    worst = max(abs(total / (width * math.sqrt(2.0 * math.pi)) - 1.0) for total in sums)
    assert peak_error(width) == pytest.approx(worst, rel=0.03)  # the next harmonic: its fourth power


def test_estimate_speaks_of_the_number_not_of_its_logarithm():
    limit = Limit((1000.0, 1001.0), 1002.0, math.log(3.0), None, False, "reasons")
    found = Estimate.of(limit)
    assert found.error == pytest.approx(2.0)
    assert found.value is None
    assert found.extrapolated is None
    assert found.log10 == pytest.approx(1002.0 / math.log(10.0))
    small = Estimate.of(Limit((1.0, 2.0), 2.5, 0.1, 2.0, True, None))
    assert small.value == pytest.approx(math.exp(2.0))
    assert small.extrapolated == pytest.approx(math.exp(2.5))
    assert Estimate.of(Limit.unknown(1.0, "one grid")).error is None


# Which grids


def test_coarse_grids_round_up_and_keep_single_cells():
    problem = with_loss(Grid(x=(-2.0, 2.0, 65), y=(-1.0, 1.0, 1)), f"{QUARTIC} + y**2", 0.1)
    assert [one.grid.shape for one in coarsened(problem)] == [(17, 1), (25, 1), (33, 1), (65, 1)]


def test_coarse_grids_follow_the_same_map():
    axis = Axis("x", -2.0, 2.0, 80, refine=(Refinement(-1.0, 4.0),))
    (half,) = coarsened(with_loss(Grid(x=axis), QUARTIC, 0.1), (0.5,))
    assert half.grid.axes[0].refine == axis.refine
    np.testing.assert_allclose(half.grid.axes[0].faces, axis.faces[::2], atol=1e-12)


def test_odd_numbers_of_cells_are_extrapolated_by_their_own_ratios():
    # A question whose answer is exactly 1 + 7 h**2.
    question = lambda problem: {"number": 1.0 + 7.0 * problem.grid.axes[0].spacing ** 2}  # noqa: E731
    found = limits(quartic(117), question)["number"]
    assert found.extrapolated == pytest.approx(1.0, abs=1e-13)


# What a question gives


def test_first_passage_against_the_exact_integral():
    estimate = refined(quartic(120), first_passage((-1.0,), "x > 0.5"))[FIRST]
    exact = quartic_passage(0.1, 0.5)[0]
    assert abs(estimate.extrapolated / exact - 1.0) <= estimate.error <= 1e-3


def test_numbers_of_either_sign_have_absolute_errors():
    # The mean of x**3 - x over the cells' centres against exp(-loss / T): trapezoidal sums, spectrally accurate.
    def question(problem):
        x = problem.grid.positions()[0]
        weight = np.exp(-problem.landscape.loss(problem.grid.positions()) / 0.1)
        return {"negative": float(((x - 3.0) * weight).sum() / weight.sum()), "zero": 0.0}

    found = limits(quartic(100), question)
    assert found["negative"].extrapolated == pytest.approx(-3.0, abs=1e-12)
    assert found["negative"].error < 1e-6
    assert found["zero"].extrapolated == 0.0


def test_question_that_fails_on_half_the_cells_has_an_unknown_error_and_a_reason():
    # On 20 cells the start is in the cell next to the target's surface.
    problem = with_loss(Grid(x=(-2.0, 2.0, 40)), QUARTIC, 0.5)

    def question(asked):
        if asked.grid.size < 40:
            raise CaseError("escape.start", "the start lies within a cell of the target")
        return {FIRST: 1.0}

    estimate = refined(problem, question)[FIRST]
    assert estimate.error is None
    assert estimate.reason == "on 20 cells, the start lies within a cell of the target"
    assert estimate.log_extrapolated == estimate.log_value


def test_grid_too_small_to_be_coarser_has_an_unknown_error():
    problem = with_loss(Grid(x=(-2.0, 2.0, 3)), QUARTIC, 0.5)
    estimate = refined(problem, lambda _: {FIRST: 1.0})[FIRST]
    assert estimate.error is None
    assert "too few cells" in estimate.reason


# Escapes


@pytest.fixture(scope="module")
def escaped():
    return escape(quartic(100), start=(-1.0,), target="x > 0.8", valley="x < 0")


def test_every_time_of_an_escape_has_an_error_bar(escaped):
    assert len(escaped.times) >= 5
    for name, time in escaped.times.items():
        assert time.estimate is not None, name
        assert time.estimate.log_value == time.log_time
        assert 0.0 < time.estimate.error < 0.01


def test_bar_of_the_escape_holds(escaped):
    estimate, exact = escaped.times[FIRST].estimate, quartic_passage(0.1, 0.8)[0]
    assert abs(estimate.extrapolated / exact - 1.0) <= estimate.error


def test_running_flux_moves_with_the_quasi_stationary_one(escaped):
    running, lasting = (escaped.times[name].estimate for name in ("running_flux", "quasi_stationary"))
    assert running.error == lasting.error
    moved = running.log_extrapolated - running.log_value
    assert moved == pytest.approx(lasting.log_extrapolated - lasting.log_value, abs=1e-13)


def test_one_grid_gives_no_bars():
    found = escape(quartic(40), start=(-1.0,), target="x > 0.8", definitions=(FIRST,), grids=1)
    assert found.times[FIRST].estimate is None
    assert resolution_notices(quartic(40), found) == []


# Convergence


def test_convergence_table():
    found = converge(rotated_quartic(96, 0.25), first_passage((-0.92, -0.39), "0.921*x + 0.389*y > 0.5"))[FIRST]
    assert [row.cells for row in found.rows] == [(12, 12), (24, 24), (48, 48), (96, 96)]
    assert found.rows[0].change is None
    assert found.rows[1].order is None
    assert found.rows[3].change == pytest.approx(found.rows[3].log_value - found.rows[2].log_value)
    text = found.as_text()
    assert text.splitlines()[0] == "mean first passage time"
    assert "96 x 96" in text
    assert "limit" in text


def test_convergence_shows_where_a_grid_gives_no_answer():
    def question(problem):
        if problem.grid.size < 10:
            raise CaseError("grid", "too coarse")
        return {FIRST: 1.0 + problem.grid.axes[0].spacing ** 2}

    found = converge(quartic(64), question)[FIRST]
    assert found.rows[0].log_value is None
    assert found.rows[1].change is None
    assert found.rows[3].order == pytest.approx(2.0)


# Resolution


def test_widths_at_minimum_and_saddle():
    # Standard deviations sqrt(T / |L''|): sqrt(0.1 / 8) at the minimum, sqrt(0.1 / 4) at the saddle; cells of 0.05.
    problem = quartic(96)
    found = resolution(problem, (-1.0,), problem.region("x > 0.8"))
    assert found.minimum.cells["x"] == pytest.approx(math.sqrt(0.1 / 8.0) / 0.05, rel=1e-9)
    assert found.saddle.cells["x"] == pytest.approx(math.sqrt(0.1 / 4.0) / 0.05, rel=1e-9)
    assert found.saddle.position == pytest.approx((0.0,), abs=1e-9)


def test_widths_count_the_refined_cells():
    axis = Axis("x", -2.4, 2.4, 96, refine=(Refinement(-1.0, 4.0),))
    problem = with_loss(Grid(x=axis), QUARTIC, 0.1)
    found = resolution(problem, (-1.0,), problem.region("x > 0.8"))
    assert found.minimum.cells["x"] > 2.0 * found.saddle.cells["x"] / math.sqrt(2.0)


def test_no_loss_no_features():
    problem = quartic(60)
    assert resolution(problem, (-1.0,), problem.region("x > -0.5")).saddle is None
    assert isinstance(resolution(problem, (-1.0,), problem.region("x > 0.5")), Resolution)


@pytest.mark.parametrize("cells", [60, 100, 200])
def test_the_refinements_that_the_notice_names_draw_thin_wells(cells):
    """Barrier/noise 1100 in a tilted well whose minimum is 0.1 to 0.4 cells wide: the same cells, put elsewhere."""
    landscape = Landscape(f"{QUARTIC} + 0.1*x", variables=("x",))
    noise = TensorNoise(diffusion=[["0.001*exp(x)"]])
    problem = Problem(landscape, noise, Grid(x=(-2.0, 1.6, cells)))
    plain, notices = asked(problem)
    notice = next(one for one in notices if one.code == "short_resolution")
    table = tomllib.loads(re.search(r"x\.(refine = \[.*\])", notice.message)[1])
    axis = replace(problem.grid.axes[0], refine=tuple(Refinement(**entry) for entry in table["refine"]))
    finer, notices = asked(problem.on(Grid(x=axis)))
    exact = log_passage_time(problem, -1.01, (-2.0, 0.3), (False, True))
    assert abs(plain - exact) > 0.05
    assert finer == pytest.approx(exact, abs=80.0 / cells**2)  # order 2; two wells and the saddle share the cells
    assert not any("cells wide" in notice.message for notice in notices)


def asked(problem):
    """The logarithm of the time on the finest grid, and the notices."""
    found = escape(problem, start=(-1.01,), target="x > 0.3", definitions=(FIRST,))
    return found.times[FIRST].log_time, resolution_notices(problem, found)


def test_wells_beyond_the_target_are_named():
    axis = Axis("x", -2.0, 2.0, 200, refine=(Refinement(-1.0, 9.0), Refinement(0.0, 9.0)))
    problem = with_loss(Grid(x=axis), QUARTIC, 0.0005)
    found = escape(problem, start=(-1.0,), target="x > 0.8", definitions=(FIRST,))
    (notice,) = resolution_notices(problem, found)
    assert notice.code == "under_resolved"
    assert notice.message.startswith("the well at x = 1 is 0.23 cells wide along x: the share at rest")
    table = tomllib.loads(re.search(r"x\.(refine = \[.*\])", notice.message)[1])
    finer = problem.on(Grid(x=replace(axis, refine=tuple(Refinement(**entry) for entry in table["refine"]))))
    again = escape(finer, start=(-1.0,), target="x > 0.8", definitions=(FIRST,))
    assert not any("cells wide" in notice.message for notice in resolution_notices(finer, again))


def test_changes_that_go_on_have_no_limit():
    infinite = quartic(200).on(Grid(x=Axis("x", -math.inf, math.inf, 200, scale=1.0)))
    for problem, words in ((quartic(200), "on these grids"), (infinite, "far out")):
        found = refined(problem, lambda one: {FIRST: 0.1 * math.log(one.grid.size) ** 2})[FIRST]
        assert found.error is None
        assert found.reason.startswith("the value does not converge on these grids")
        assert found.reason.endswith(words)


def test_what_is_left_out_follows_from_the_basins():
    problem = quartic(80)
    whole, part = (
        escape(problem, definitions=(FIRST,), grids=1, **given) for given in ({}, {"start": (-1.0,), "valley": "x < 0"})
    )
    # The first of two wells alike is left, for the core of the other.
    assert whole.start == pytest.approx((-1.0,), abs=1e-12)
    assert whole.target.name == "core of x = 1"
    assert part.times[FIRST].log_time == pytest.approx(whole.times[FIRST].log_time, rel=1e-12)
    with pytest.raises(CaseError, match=r"Give escape\.start"):
        escape(problem.on(Grid(x=(-2.0, 2.0, 80))), targets=["x > 0.5", "x < -0.5"])
