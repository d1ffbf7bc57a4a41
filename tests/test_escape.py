"""The definitions of the escape time: what each of them is, and how they agree."""

import re

import numpy as np
import pytest
from exact import WEIGHTS, orders, panels, passage_moments, quartic_passage
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import QUARTIC, along, box, curved_valley, free, rotated_quartic, rotating_tensor, with_drift, with_loss

from fpsolve.analyse import currents
from fpsolve.analyse.currents import current_density
from fpsolve.analyse.escape import DEFINITIONS, escape, escape_times
from fpsolve.analyse.motion import evolve
from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import ConstantNoise
from fpsolve.model.problem import Problem
from fpsolve.model.region import point_weights
from fpsolve.solve.extended import Extended
from fpsolve.solve.passage import absorbed, outflow
from fpsolve.solve.reactive import Reactive
from fpsolve.solve.stationary import stationary

FIRST = ("mean_first_passage_time",)
U, V = along(0.4)
ROTATED_START = (-np.cos(0.4), -np.sin(0.4))  # u = -1, v = 0


def quartic(cells, depth, upper=1.5, lower=-2.0):
    """The quartic well with barrier/noise = depth."""
    return with_loss(box((cells,), (lower, upper)), QUARTIC, 1.0 / depth)


def whirl(cells, temperature):
    """Drift -grad U + R grad U on the well U = (x**2 - 1)**2 + y**2, with exp(-U / temperature) at rest."""
    landscape = Landscape(f"{QUARTIC} + y**2", variables=("x", "y"), extra_drift=["-2*y", "4*x*(x**2 - 1)"])
    grid = box((cells, cells), [(-2.2, 2.2), (-2.5, 2.5)])
    return Problem(landscape, ConstantNoise(temperature=temperature), grid)


def logarithms(problem, **question):
    """Every escape time, as its natural logarithm."""
    return {name: time.log_time for name, time in escape(problem, **question).times.items()}


# All of them


def test_every_definition_answers_for_a_well():
    found = escape(quartic(200, 10), start=(-1.0,), target="x > 0.8", valley="x < 0")
    assert list(found.times) == list(DEFINITIONS)
    assert not found.absent
    wanted = quartic_passage(0.1, 0.8, -2.0)[0]
    for time in found.times.values():  # they differ by what is beyond the saddle, exp(-10)
        assert time.value == pytest.approx(wanted, rel=1e-4)
        assert time.log10 == pytest.approx(np.log10(time.value), rel=1e-14)


@pytest.mark.parametrize("depth", [50, 300, 600, 1500])
def test_they_are_one_behind_a_deep_barrier(depth):
    """What they differ by is exp(-depth); the sums behind them round by 1e-14 of ln(time) each."""
    found = logarithms(quartic(300, depth), start=(-1.0,), target="x > 0.8", valley="x < 0")
    assert list(found) == list(DEFINITIONS)
    np.testing.assert_allclose(list(found.values()), found["mean_first_passage_time"], rtol=0, atol=1e-12 * depth)
    # Laplace's method to the second order: 2 pi / sqrt(8 * 4) exp(depth) (1 + 3/8/depth)
    leading = np.log(2.0 * np.pi / np.sqrt(32.0)) + depth
    # the grid resolves the well at depth 50 (10 cells) and hardly at 1500 (2 cells)
    assert found["mean_first_passage_time"] == pytest.approx(leading + 0.375 / depth, abs=0.1 / depth + 2e-3)


@pytest.mark.parametrize(
    ("problem", "start", "question"),
    [
        (rotated_quartic(48, 1 / 50), ROTATED_START, {"target": f"{U} > 0.5", "valley": f"{U} < 0"}),
        (rotated_quartic(48, 1 / 400), ROTATED_START, {"target": f"{U} > 0.5", "valley": f"{U} < 0"}),
        (whirl(48, 1 / 30), (-1.0, 0.0), {"target": "x > 0.8", "valley": "x < 0", "core": "(x + 1)**2 + y**2 < 0.03"}),
    ],
)
def test_they_are_one_in_the_plane(problem, start, question):
    found = logarithms(problem, start=start, **question)
    assert list(found) == list(DEFINITIONS)
    np.testing.assert_allclose(list(found.values()), found["mean_first_passage_time"], rtol=0, atol=1e-9)


def test_a_time_beyond_all_numbers_has_a_logarithm():
    found = escape(quartic(300, 1500), start=(-1.0,), target="x > 0.8", definitions=FIRST)
    time = found.times["mean_first_passage_time"]
    assert time.value is None
    assert time.standard_deviation is None
    assert time.log10 == pytest.approx(651.49, abs=0.01)  # (1500 + ln(2 pi / sqrt(32))) / ln(10)
    assert time.log_standard_deviation == pytest.approx(time.log_time, abs=1e-9)  # exponential
    assert np.isinf(found.mean_first_passage_time).any()
    inside = found.mean_first_passage_time == 0.0
    assert np.isfinite(found.log10_mean_first_passage_time[~inside]).all()


@pytest.mark.parametrize("name", DEFINITIONS)
def test_only_what_is_asked_for_is_computed(name):
    found = escape(quartic(60, 5), start=(-1.0,), target="x > 0.5", valley="x < 0", definitions=[name])
    assert list(found.times) == [name]
    assert (found.running is None) == (name != "running_flux")
    assert (found.transition is None) == (name != "transition_path")
    assert (found.quasi_stationary_density is None) == (name != "quasi_stationary")


# Several targets


def scale_function(temperature, lower, start, upper):
    """Probability to reach the lower end first in the quartic well, by quadrature."""
    sides = panels(lower, start, 800), panels(start, upper, 800)
    below, above = (half * (np.exp((x**2 - 1.0) ** 2 / temperature) @ WEIGHTS).sum() for x, half in sides)
    return above / (below + above)


def test_the_rarer_of_two_targets():
    """Up a wall of 43 thermal energies, or over a barrier of 10: probability 4e-13, to second order."""
    cells, wanted = (640, 1280, 2560), scale_function(0.1, -1.75, -1.0, 0.6)
    found = [
        escape(quartic(n, 10, 1.0), start=(-1.0,), targets=["x < -1.75", "x > 0.6"], definitions=FIRST).splitting
        for n in cells
    ]
    errors = [abs(shares["x < -1.75"] / wanted - 1.0) for shares in found]
    assert wanted < 1e-12
    assert all(sum(shares.values()) == pytest.approx(1.0, abs=1e-14) for shares in found)
    assert np.abs(orders(cells, errors) - 2.0).max() < 0.1
    assert errors[-1] < 1e-4


def test_targets_that_touch_are_one():
    """Two halves of a corner: the time is that of the union, and from the diagonal either is reached equally often."""
    problem, halves = free(box((40, 40), (0.0, 1.0)), np.eye(2)), ["x > 0.8 and x > y", "y > 0.8 and y > x"]
    several = escape(problem, start=(0.3, 0.3), targets=halves, definitions=FIRST)
    one = escape(problem, start=(0.3, 0.3), target=" or ".join(f"({half})" for half in halves), definitions=FIRST)
    assert several.times["mean_first_passage_time"].value == one.times["mean_first_passage_time"].value
    np.testing.assert_allclose(list(several.splitting.values()), 0.5, rtol=1e-12)
    assert several.target.name == "x > 0.8 and x > y or y > 0.8 and y > x"


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ({}, r"escape\.target: neither target nor targets is given"),
        ({"target": "x > 0.5", "targets": ["x > 0.5"]}, r"escape\.target: both target and targets are given"),
        ({"targets": ["x > 0.5", "x > 7"]}, r"escape\.targets: the region 'x > 7' holds no cell"),
        ({"targets": ["x > 0.5", "x > -1.5"]}, r"escape\.start: the start lies inside the target"),
        ({"targets": ["x > 0.5", "x > 1"]}, r"escape\.targets: 'x > 0\.5' and 'x > 1' share 7 cells\. .* disjoint"),
        ({"targets": ["x > 0.5", "x > 0.5"]}, r"escape\.targets: 'x > 0\.5' and 'x > 0\.5' share"),
    ],
)
def test_bad_targets_are_refused(question, message):
    with pytest.raises(CaseError, match=message):
        escape(quartic(50, 5), start=(-1.0,), **question)


# Quasi-stationary


@pytest.mark.parametrize(
    ("problem", "start", "target"),
    [
        (quartic(200, 5), (-1.0,), "x > 0.8"),
        (quartic(200, 1), (-1.0,), "x > 0.8"),  # hardly a barrier: many iterations
        (rotated_quartic(40, 0.2), ROTATED_START, f"{U} > 0.5"),
        (curved_valley(40, 0.1), (-1.04, -0.11), f"{U} > 0.8"),
    ],
)
def test_the_quasi_stationary_rate_is_the_mean_first_passage_from_its_density(problem, start, target):
    """1 / lambda_0 = integral of tau over the quasi-stationary density: two solves, to rounding."""
    found = escape(problem, start=start, target=target, definitions=["quasi_stationary"])
    density = found.quasi_stationary_density * problem.grid.volumes
    assert density.sum() == pytest.approx(1.0, rel=1e-13)
    assert density.min() >= 0.0
    mean = density @ found.mean_first_passage_time
    assert found.times["quasi_stationary"].value == pytest.approx(mean, rel=1e-10)


def test_the_rate_of_leaving_an_interval():
    """Free diffusion, D = 0.4, between absorbing ends of [0, 1]: lambda_0 = 0.4 pi**2; cosine density."""
    cells, errors = (20, 40, 80), []
    for count in cells:
        problem = free(box((count,), (0.0, 1.2), [("absorbing", "reflecting")]), [[0.4]])
        found = escape(problem, start=(0.5,), target="x > 1", definitions=["quasi_stationary"])
        errors.append(abs(found.times["quasi_stationary"].value * 0.4 * np.pi**2 - 1.0))
    assert np.abs(orders(cells, errors) - 2.0).max() < 0.1
    x = problem.grid.positions()[0]
    wanted = np.where(x < 1.0, 0.5 * np.pi * np.sin(np.pi * x), 0.0)
    assert np.abs(found.quasi_stationary_density - wanted).max() < 2.0 / 80**2 * np.pi


def test_two_wells_that_empty_at_the_same_rate_have_no_quasi_stationary_state():
    """Equal halves behind a barrier of 14, both open outwards: the rates differ by 1e-5 of themselves."""
    problem = with_loss(box((100,), (-1.0, 1.0)), "14*exp(-50*x**2)", 1.0)
    found = escape(problem, start=(-0.5,), target="abs(x) > 0.95", definitions=[*FIRST, "quasi_stationary"])
    assert list(found.times) == list(FIRST)
    assert "the density still changes" in found.absent["quasi_stationary"]


# Running flux


def test_the_running_flux_levels_off_at_the_slowest_rate():
    found = escape(rotated_quartic(48, 0.15), start=ROTATED_START, target=f"{U} > 0.5", valley=f"{U} < 0")
    plateau, slowest = found.times["running_flux"].log_time, found.times["quasi_stationary"].log_time
    assert plateau == pytest.approx(slowest, abs=1e-9)  # faster modes are gone: exp(-10 ln(100)) and less
    running = found.running
    assert (np.diff(running.times) > 0.0).all()
    assert running.log_values[-1] == plateau


@pytest.mark.parametrize(("depth", "valley"), [(3, None), (5, "x < 0"), (8, "x < 0")])
def test_when_quasi_equilibrium_sets_in(depth, valley):
    """Against the adaptive fourth-order stepper: the time from which P / flux is within 1 % of its end, to 3 %."""
    problem = quartic(100, depth, 1.0)
    found = escape(problem, start=(-1.0,), target="x > 0.8", valley=valley, definitions=["running_flux"])
    killed = Generator.of(problem).killed(problem.region("x > 0.8"))
    weights = np.ones(100) if valley is None else problem.region(valley).weights(problem.grid)
    times = np.concatenate([[0.0], np.arange(1, 401) * 0.01 * found.running.onset / 2.0])
    source = point_weights(problem.grid, (-1.0,), "start").inject(100)
    states = evolve(killed, source, times=times[1:], tolerance=1e-9, stepper="implicit").probability[1:]
    ratios = np.array([(weights @ state) / killed.flux(state, weights) for state in states])
    off = np.abs(ratios / found.times["running_flux"].value - 1.0) > 0.01
    onset = times[1:][np.flatnonzero(off)[-1]]
    assert found.running.onset == pytest.approx(onset, rel=0.03)


def test_no_plateau_where_nothing_holds_the_density_back():
    """Carried to the target as a pulse: the flux settles long after it has passed."""
    problem = with_drift(box((100,), (0.0, 2.2)), ["5"], [[0.1]])
    found = escape(problem, start=(0.2,), target="x > 2", definitions=[*FIRST, "running_flux"])
    assert list(found.times) == list(FIRST)
    assert "no barrier holds it back" in found.absent["running_flux"]


# Transition path


@pytest.mark.parametrize(("core", "share"), [("x < 0", 0.50402), ("abs(x + 1) < 0.1", 0.99933)])
def test_the_core_must_be_small(core, share):
    """Barrier/noise 5, from one minimum to the other: recrossings of the saddle would halve the time."""
    found = escape(quartic(400, 5, 2.0), start=(-1.0,), target="x > 1", core=core)
    times = {name: time.value for name, time in found.times.items()}
    assert times["transition_path"] / times["mean_first_passage_time"] == pytest.approx(share, abs=5e-5)


@pytest.mark.parametrize("radius", [0.4, 0.2, 0.1, 0.05])
def test_a_core_on_a_line_is_left_at_its_edge(radius):
    """In one dimension 1 / k is the first-passage time from the edge of the core, exactly."""
    found = escape(quartic(400, 5), start=(-1.0,), target="x > 0.8", core=f"abs(x + 1) < {radius}")
    times = {name: time.value for name, time in found.times.items()}
    edge, _ = passage_moments(
        lambda x: -5.0 * (x**2 - 1.0) ** 2, lambda x: np.full_like(x, 0.2), -2.0, radius - 1.0, 0.8
    )
    # error of the grid: that of the first-passage time itself, 6e-6 at 400 cells
    assert times["transition_path"] == pytest.approx(edge, rel=1e-5)
    difference = 1.0 - edge / quartic_passage(0.2, 0.8, -2.0)[0]
    assert 1.0 - times["transition_path"] / times["mean_first_passage_time"] == pytest.approx(difference, rel=5e-3)


def test_the_default_core_is_one_thermal_energy_deep():
    """The quadratic well of (x**2 - 1)**2 is 4 (x + 1)**2: it rises by T = 0.2 within 0.2236."""
    found = escape(quartic(400, 5), start=(-1.1,), target="x > 0.8", definitions=["transition_path"])
    x = np.array([[-1.2235, -1.2237, -0.7763, -0.7765]])
    np.testing.assert_array_equal(found.transition.core.level(x) > 0.0, [True, False, False, True])


def test_committors_and_the_reactive_current_on_a_line():
    """Both committors are scale functions; the reactive current is 1 between core and target, 0 elsewhere."""
    problem = quartic(400, 5, 2.0)
    found = escape(problem, start=(-1.0,), target="x > 0.8", core="abs(x + 1) < 0.1").transition
    x = problem.grid.positions()[0]
    between = (x > -0.88) & (x < 0.78)
    wanted = np.array([1.0 - scale_function(0.2, -0.9, point, 0.8) for point in x[between]])
    # second order: the spacing is 0.01, the barrier 1/sqrt(20) wide
    np.testing.assert_allclose(found.committor[between], wanted, rtol=0, atol=2e-3)
    np.testing.assert_allclose(found.backward_committor, 1.0 - found.committor, rtol=0, atol=1e-12)  # reversible
    np.testing.assert_allclose(found.current[0, between], 1.0, rtol=1e-10)
    outside = (x < -1.12) | (x > 0.82)
    np.testing.assert_allclose(found.current[0, outside], 0.0, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("problem", "core", "reason"),
    [
        (
            with_drift(box((100,), (-2.0, 1.5), "absorbing"), ["-4*x*(x**2-1)"], [[0.2]]),
            None,
            "lost through x_min, x_max",
        ),
        (with_drift(box((100,), (-2.0, 1.5)), ["1"], [[0.2]]), None, "the drift carries x = -1 to a wall"),
        (free(box((100,), (-2.0, 1.5)), [[0.2]]), None, "not stable"),
    ],
)
def test_a_transition_path_that_does_not_apply_says_why(problem, core, reason):
    found = escape(problem, start=(-1.0,), target="x > 0.8", core=core, definitions=[*FIRST, "transition_path"])
    assert list(found.times) == list(FIRST)
    assert re.search(reason, found.absent["transition_path"])


def test_a_default_core_that_meets_the_target_is_a_reason():
    found = escape(quartic(100, 5), start=(-1.0,), target="x > -0.9", definitions=[*FIRST, "transition_path"])
    assert list(found.times) == list(FIRST)
    assert "'core' and 'x > -0.9' share" in found.absent["transition_path"]


@pytest.mark.parametrize(
    ("core", "message"),
    [
        ("x < -1 and x > -1.001", "the core 'x < -1 and x > -1.001' holds no cell of the grid"),
        ("x < 0.8", "no cell lies between 'x < 0.8' and 'x > 0.8'"),
        ("x < 0.9", "'x < 0.9' and 'x > 0.8' share 3 cells"),
        ("abs(x) < 0.1", r"the start lies outside the core 'abs\(x\) < 0.1'. It must lie inside"),
    ],
)
def test_a_bad_core_is_refused(core, message):
    with pytest.raises(CaseError, match=rf"escape\.core: {message}"):
        escape(quartic(100, 5), start=(-1.0,), target="x > 0.8", core=core, definitions=FIRST)


def test_on_other_grids_a_core_that_they_do_not_resolve_leaves_the_others():
    times = escape_times(quartic(20, 5), start=(-1.0,), target="x > 0.8", core="abs(x + 1) < 0.02")
    assert set(DEFINITIONS) - set(times) == {"valley_flux_over_population", "transition_path"}


@pytest.mark.parametrize("valley", ["x < 5", "x < 0.9"])
def test_a_valley_that_meets_the_target_is_refused(valley):
    message = rf"escape\.valley: the valley '{valley}' meets the target 'x > 0.8'\. It must end before it"
    with pytest.raises(CaseError, match=message):
        escape(quartic(100, 5), start=(-1.0,), target="x > 0.8", valley=valley, definitions=FIRST)


def test_a_valley_may_end_where_the_target_begins():
    found = escape(quartic(100, 5), start=(-1.0,), target="x > 0.8", valley="x < 0.8")
    assert found.times["valley_flux_over_population"].log_time == pytest.approx(
        found.times["mean_first_passage_time"].log_time, rel=1e-12
    )


@pytest.mark.parametrize("depth", [5, 50, 500, 2000])
def test_the_backward_committor_is_a_probability_everywhere(depth):
    """Up the wall, where nothing is left of the population (4500 noises at depth 500), and at the core: 1."""
    problem = quartic(300, depth)
    found = escape(problem, start=(-1.0,), target="x > 0.8", definitions=["transition_path"]).transition
    x, since = problem.grid.positions()[0], found.backward_committor
    assert since.min() >= 0.0
    assert since.max() == 1.0
    np.testing.assert_allclose(since[x < -1.0], 1.0, rtol=0, atol=1e-12)  # rounding
    np.testing.assert_allclose(since + found.committor, 1.0, rtol=0, atol=1e-12)


@pytest.mark.parametrize("make", [lambda: whirl(40, 0.3), lambda: rotating_tensor(40, 0.3, 3.0)])
def test_the_backward_committor_is_that_of_the_chain_run_backwards(make):
    """Where currents flow at rest it is not 1 minus the committor, but the share that was in the core last."""
    problem = make()
    generator = Generator.of(problem)
    rest = stationary(generator)
    chain = Reactive.of(generator, regions(problem, "(x + 1)**2 + y**2 < 0.1", "(x - 1)**2 + y**2 < 0.1"), rest)
    assert not rest.reversible
    found, wanted = chain.backward_committor(0).floats(), chain.last_visited(0).share_of(chain.rest).floats()
    np.testing.assert_allclose(found, wanted, rtol=1e-9)  # two eliminations of 1600 cells each
    assert np.abs(found + chain.committor(0).floats() * -1.0).max() > 0.05


def test_the_backward_committor_far_up_a_wall_beside_currents():
    problem = whirl(40, 1.0 / 300)
    core = "(x + 1)**2 + y**2 < 0.05"
    found = escape(problem, start=(-1.0, 0.0), target="x > 0.8", core=core, definitions=["transition_path"]).transition
    x, since = problem.grid.positions()[0], found.backward_committor
    assert ((since >= 0.0) & (since <= 1.0)).all()
    assert since[x < -1.8].min() > 0.99


# The current


@pytest.mark.parametrize("start", [-1.0, -0.9973])
@pytest.mark.parametrize("depth", [5, 50, 500, 2000])
def test_the_current_of_a_unit_flux_on_a_line(depth, start):
    """1 between start and target and 0 elsewhere, to rounding, at any barrier."""
    problem = quartic(300, depth)
    found = escape(problem, start=(start,), target="x > 0.8", definitions=FIRST)
    x = problem.grid.positions()[0]
    np.testing.assert_allclose(found.current[0, (x > start + 0.025) & (x < 0.78)], 1.0, rtol=1e-12)
    np.testing.assert_array_equal(found.current[0, (x < start - 0.025) | (x > 0.82)], 0.0)


@pytest.mark.parametrize(
    ("make", "target"),
    [
        (lambda: rotated_quartic(48, 0.3), f"{U} > 0.5"),
        (lambda: curved_valley(48, 0.1), f"{U} > 0.8"),
        (lambda: whirl(48, 0.4), "x > 0.8"),
        (lambda: with_drift(box((40, 40), (-2.0, 2.0), "absorbing"), ["-x + y", "-x - y"], 0.3 * np.eye(2)), "x > 1"),
    ],
)
def test_where_nothing_is_lost_the_current_is_the_plain_difference(make, target):
    problem = make()
    found = escape(problem, start=(-0.92, -0.39), target=target, definitions=FIRST)
    killed = Generator.of(problem).killed(problem.region(target))
    population = found.density * problem.grid.volumes
    plain = current_density(killed, population) / killed.outflow(population).sum()
    assert np.abs(found.current - plain).max() < 1e-10 * np.abs(plain).max()  # rounding


@pytest.mark.parametrize(("depth", "whirling"), [(50, False), (400, False), (30, True), (300, True)])
def test_every_cut_between_start_and_target_carries_the_unit_flux(depth, whirling):
    """Also beside the loops of a well, which exceed it by exp(depth): on the way over the saddle, x = 0."""
    problem = whirl(48, 1.0 / depth) if whirling else rotated_quartic(48, 1.0 / depth)
    start = (-1.0, 0.0) if whirling else ROTATED_START
    target = "x > 0.8" if whirling else f"{U} > 0.5"
    found = escape(problem, start=start, target=target, definitions=FIRST)
    grid = problem.grid
    through = (grid.shaped(found.current[0]) * grid.axes[1].widths).sum(axis=1)
    x = grid.axes[0].centres
    between = (x > (-0.3 if whirling else start[0] + 0.2)) & (x < 0.0)
    np.testing.assert_allclose(through[between], 1.0, rtol=1e-9)  # rounding, beside small loops
    loops = np.abs(grid.shaped(found.current)[:, x < -0.7]).max()
    assert loops > 1e8 if whirling else loops < 20.0


@pytest.mark.parametrize("temperature", [0.2, 0.05, 0.02, 0.005, 0.0015])
def test_the_current_through_a_well_on_the_way(temperature):
    """From x = -2 over two barriers of 2, with a deeper well at 0 between them: what passes is lost beside its traffic.

    To 1e-6: a difference of traffics that is just above CANCELLED has lost 9 of its 16 digits.
    """
    problem = with_loss(box((400,), (-3.0, 3.0)), "1 - cos(pi*x) + 0.02*x**2", temperature)
    found = escape(problem, start=(-2.0,), target="x > 1.8", core="abs(x + 2) < 0.1", definitions=["transition_path"])
    x = problem.grid.positions()[0]
    between = (x > -1.87) & (x < 1.78)
    np.testing.assert_allclose(found.current[0, between], 1.0, rtol=1e-6)
    np.testing.assert_allclose(found.transition.current[0, between], 1.0, rtol=1e-6)


def test_what_is_lost_in_a_well_on_the_way_is_regained(monkeypatch):
    """With most digits declared lost: the current of all that is taken for noise is that of the plain difference."""
    problem = with_loss(box((60, 40), [(-3.0, 3.0), (-2.0, 2.0)]), "1 - cos(pi*x) + (y - 0.5*sin(x))**2", 0.15)
    killed = Generator.of(problem).killed(problem.region("x + 0.5*y > 1.8"))
    monkeypatch.setattr(currents, "CANCELLED", 1e-3)
    found = escape(problem, start=(-2.0, -0.45), target="x + 0.5*y > 1.8", definitions=FIRST)
    population = found.density * problem.grid.volumes
    plain = current_density(killed, population) / killed.outflow(population).sum()
    x, y = problem.grid.positions()
    middle = (np.abs(x) < 0.5) & (np.abs(y) < 0.8)
    # 1e-3 of the traffic is more than what passes: nothing would be left
    lost = currents.net_current(
        *(
            Extended.of(population[cells] * rates)
            for cells, rates in ((killed.edges.origin, killed.edges.forward), (killed.edges.end, killed.edges.backward))
        ),
        Extended.of(1.0),
    )
    assert (lost[middle[killed.edges.origin]] == 0.0).mean() > 0.9
    # regions with a defect below LARGEST_DEFECT are left alone: measured 1e-9
    np.testing.assert_allclose(found.current[:, middle], plain[:, middle], rtol=0, atol=1e-7)


# Transitions between regions


def regions(problem, *conditions):
    return [problem.region(condition) for condition in conditions]


THREE = ("(x + 0.92)**2 + (y + 0.39)**2 < 0.1", "(x - 0.92)**2 + (y - 0.39)**2 < 0.05", "x**2 + y**2 < 0.02")


@pytest.mark.parametrize(
    ("problem", "conditions"),
    [
        (quartic(150, 8, 2.0), ("abs(x + 1) < 0.2", "x > 0.87")),
        (rotated_quartic(40, 0.15), THREE),
        (rotating_tensor(40, 0.3, 3.0), THREE),  # currents at rest
        (curved_valley(40, 0.2), THREE[:2]),
        (rotated_quartic(40, 0.01), THREE[:2]),  # deep
        (whirl(40, 0.05), ("(x + 1)**2 + y**2 < 0.05", "(x - 1)**2 + y**2 < 0.05")),  # deep, with currents
    ],
)
def test_transitions_balance(problem, conditions):
    """What leaves for a region is what enters it, seen from either end, to rounding; also with currents at rest."""
    generator = Generator.of(problem)
    rest = stationary(generator)
    chain = Reactive.of(generator, regions(problem, *conditions), rest)
    count = len(conditions)
    visited = [chain.last_visited(number) for number in range(count)]
    committors = [chain.committor(number) for number in range(count)]
    np.testing.assert_allclose(sum(part.floats() for part in visited), rest.probability, rtol=1e-8, atol=1e-300)
    np.testing.assert_allclose(sum(part.floats() for part in committors), 1.0, rtol=1e-12)
    fluxes = np.array([chain.flux(number).floats() for number in range(count)])
    # Every region is left as often as it is entered.
    np.testing.assert_allclose(fluxes.sum(axis=0), fluxes.sum(axis=1), rtol=1e-9)
    for start in range(count):
        for end in range(count):
            # The same transitions, counted where they begin: source times committor.
            begun = (chain.source(start) * committors[end]).sum().floats()
            np.testing.assert_allclose(fluxes[start, end], begun, rtol=1e-11)
    if rest.reversible:
        np.testing.assert_allclose(fluxes, fluxes.T, rtol=1e-11)


def test_regions_that_meet_are_refused():
    problem = quartic(100, 5)
    generator, rest = Generator.of(problem), stationary(Generator.of(problem))
    with pytest.raises(CaseError, match="no cell lies between 'x < 0' and 'x > 0'"):
        Reactive.of(generator, regions(problem, "x < 0", "x > 0"), rest)
    with pytest.raises(CaseError, match="share"):
        Reactive.of(generator, regions(problem, "x < 0.2", "x > 0"), rest)


def test_every_target_has_its_gate():
    """Exits lead to the region whose surface they cross."""
    problem = free(box((30, 30), (-1.0, 1.0)), [[1.0, 0.5], [0.5, 0.6]])
    found = absorbed(Generator.of(problem), regions(problem, "x > 0.5", "y < -0.4"))
    assert found.exits.gates == ("x > 0.5", "y < -0.4")
    end = problem.grid.index_of(found.exits.cell) + found.exits.fraction * found.exits.displacement.T
    x, y = problem.grid.positions(end)
    np.testing.assert_allclose(np.where(found.exits.gate == 0, x - 0.5, y + 0.4), 0.0, rtol=0, atol=1e-12)
    through = outflow(found, Extended.of(found.active.astype(np.float64))).floats()
    assert (through > 0.0).all()


# Numbers of any range


@settings(max_examples=50)
@given(st.lists(st.tuples(st.floats(-3000.0, 3000.0), st.integers(0, 4)), min_size=1, max_size=20))
def test_sums_of_numbers_of_any_range(entries):
    """Bins are sums of exponentials, in logarithms; empty ones are 0."""
    logarithms, into = np.array([entry[0] for entry in entries]), np.array([entry[1] for entry in entries])
    found = Extended.exp(logarithms).collected(into, 5)
    for number in range(5):
        mine = logarithms[into == number]
        wanted = np.logaddexp.reduce(mine) if mine.size else -np.inf
        assert found[number].log() == pytest.approx(wanted, rel=1e-12, abs=1e-12)
    shares = Extended.exp(logarithms).share_of(found[into]).floats()
    np.testing.assert_allclose(np.bincount(into, shares, minlength=5)[np.unique(into)], 1.0, rtol=1e-11)


def test_narrow_numbers_are_the_largest_ones():
    found = Extended.exp(np.array([0.0, -100.0, -1000.0])).narrowed(800)
    assert found.log()[:2].tolist() == pytest.approx([0.0, -100.0], abs=1e-13)
    assert found.log()[2] == -np.inf
    assert Extended.of(0.0).share_of(Extended.of(0.0)).floats() == 0.0
