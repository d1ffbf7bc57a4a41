"""Products by the stencil, and the stabilised explicit stepper: order, positivity, what leaves, stability."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import box, free, linear, rotating_tensor, turned, with_drift, with_loss
from scipy.linalg import expm

from fpsolve.discretise.generator import Generator
from fpsolve.discretise.stencil import BLOCK, CELLS_PER_THREAD, Stencil
from fpsolve.model.region import Region
from fpsolve.solve.series import Series, hops, polynomials, polynomials_needed, spectral_bound
from fpsolve.solve.stabilised import (
    DAMPING,
    MOST_STAGES,
    ChebyshevSteps,
    StabilisedStepper,
    coefficients,
    seconds_needed,
    stages_needed,
)

WALLS = ("reflecting", "absorbing", "periodic")


def random_state(size, seed=0):
    values = np.random.default_rng(seed).random(size)
    return values / values.sum()


def bump(generator, width=0.3):
    distance = (generator.grid.positions() ** 2).sum(axis=0)
    values = np.exp(-distance / (2 * width**2)) * generator.active
    return values / values.sum()


def exact(generator, probability, time):
    """exp(time Q) P and what left through every gate, by the matrix exponential with the integral beside it."""
    size = probability.size
    both = np.zeros((2 * size, 2 * size))
    both[:size, :size] = generator.matrix().toarray()
    both[size:, :size] = np.eye(size)
    after, integral = np.split(expm(time * both)[:, :size] @ probability, 2)
    return after, generator.outflow(integral)


# The layout


@st.composite
def generators(draw):
    """Any number of dimensions, walls, drift and tensor; thin boxes too; sometimes with a target."""
    dimensions = draw(st.integers(1, 3))
    longest = {1: 6000, 2: 90, 3: 20}[dimensions]
    shape = [draw(st.one_of(st.integers(3, longest), st.just(longest), st.just(1))) for _ in range(dimensions)]
    walls = [draw(st.sampled_from(WALLS)) for _ in range(dimensions)]
    grid = box(shape, (-1.0, 1.0), walls)
    factor = np.array(draw(st.lists(st.floats(-1, 1), min_size=dimensions**2, max_size=dimensions**2)))
    factor = factor.reshape(dimensions, dimensions)
    tensor = factor @ factor.T + 0.05 * np.eye(dimensions)
    drift = [f"{draw(st.floats(-20, 20))!r}*sin(pi*{name})" for name in reversed(grid.names)]
    generator = Generator.of(with_drift(grid, drift, tensor))
    region = Region.parse("core", " + ".join(f"{name}**2" for name in grid.names) + " < 0.2", grid.names, {}, "target")
    inside = region.level(grid.positions()) > 0.0
    if draw(st.booleans()) and inside.any() and not inside.all():
        return generator.killed(region)
    return generator


def assert_same_products(generator):
    probability = random_state(generator.grid.size)
    scale = (generator.departure * probability).max() + np.finfo(float).tiny
    difference = np.abs(Stencil.of(generator).apply(probability) - generator.apply(probability)).max()
    assert difference <= 2e-14 * scale  # sums of a few dozen terms in another order


@given(generator=generators())
@settings(max_examples=60)
def test_products_are_those_of_the_generator(generator):
    assert_same_products(generator)


@pytest.mark.parametrize("cells", [30, 100])
def test_products_where_the_tensor_varies(cells):
    assert_same_products(Generator.of(rotating_tensor(cells, 1.0, 2.0)))


def test_memory_stays_near_the_number_of_rates():
    """Rows that few cells have are short: what is kept is at most half as much again as there are rates."""
    problems = [rotating_tensor(200, 1.0, 2.0), free(box((150, 150), walls="periodic"), turned([1.0, 0.1], 0.4))]
    for problem in problems:
        generator = Generator.of(problem)
        rates = 2 * generator.edges.origin.size + generator.grid.size
        assert rates <= Stencil.of(generator).rate.size <= 1.5 * rates


def test_a_product_can_add_to_what_is_there():
    generator = Generator.of(rotating_tensor(90, 1.0, 2.0))
    stencil, size = Stencil.of(generator), generator.grid.size
    assert size > BLOCK
    probability, before = random_state(size, 1), random_state(size, 2)
    out = before.copy()
    stencil.advance(probability, out, 0.01, 0.5, -2.0)
    wanted = 0.01 * generator.apply(probability) + 0.5 * probability - 2.0 * before
    np.testing.assert_allclose(out, wanted, rtol=0, atol=1e-14)
    out.fill(np.nan)
    stencil.advance(probability, out, 0.01, 0.5)  # reads nothing of what was there
    np.testing.assert_allclose(out, wanted + 2.0 * before, rtol=0, atol=1e-14)


def test_threads_change_nothing():
    generator = Generator.of(with_loss(box((700, 701), (-2.0, 2.0)), "x**2 + y**2", 0.5, turned([1.0, 0.2], 0.5)))
    assert generator.grid.size > 2 * CELLS_PER_THREAD
    start, length = bump(generator), 30.0 / spectral_bound(generator)
    steps = []
    for threads in (1, 2, 3):
        stepper = ChebyshevSteps.of(generator, threads=threads)
        assert stepper.series.stencil.threads == threads
        steps.append(
            [stepper.step(start, length, allowed) for allowed in (np.inf, 1e-9, 0.0)]
        )  # stages and both series
    for others in steps[1:]:
        for one, other in zip(steps[0], others, strict=True):
            np.testing.assert_array_equal(one.probability, other.probability)
            assert one.error == other.error


def test_a_small_grid_takes_one_thread():
    generator = Generator.of(free(box((50, 50)), np.eye(2)))
    assert Stencil.of(generator, threads=2).threads == 1


# The formula


def stability(stages, z):
    shift, scale, constant, factor = coefficients(stages)
    return constant + factor * np.polynomial.Chebyshev.basis(stages)(shift + scale * z)


@pytest.mark.parametrize("stages", [2, 3, 4, 7, 20, 60])
def test_the_polynomial_is_of_second_order_and_stable(stages):
    shift, scale, _, factor = coefficients(stages)
    basis = np.polynomial.Chebyshev.basis(stages)
    assert shift == 1.0 + DAMPING / stages**2
    assert stability(stages, 0.0) == pytest.approx(1.0, abs=1e-12)
    for order in (1, 2):
        assert factor * scale**order * basis.deriv(order)(shift) == pytest.approx(1.0, rel=1e-9)
    lengths = np.linspace(0.0, float(stages**2), 2000)
    radius = max(length for length in lengths if stages_needed(1.0, length) <= stages)
    assert np.abs(stability(stages, -np.linspace(0.0, radius, 5000))).max() <= 1.0 + 1e-9


def test_stages_grow_as_the_root_of_the_step():
    lengths = np.logspace(2, 5, 20)
    stages = np.array([stages_needed(1.0, length) for length in lengths])
    np.testing.assert_allclose(stages, np.sqrt(1.54 * lengths), rtol=0, atol=1.5)


@given(generator=generators())
@settings(max_examples=25)
def test_the_spectral_bound_bounds(generator):
    if generator.grid.size > 400:
        return
    values = np.linalg.eigvals(generator.matrix().toarray())
    assert np.abs(values).max() <= spectral_bound(generator) * (1.0 + 1e-9)


@pytest.mark.parametrize("mean", [0.0, 0.3, 1.0, 40.0, 5000.5])
def test_hops_are_poisson_distributed(mean):
    probabilities, more = hops(mean)
    counts = np.arange(probabilities.size)
    assert probabilities.sum() == pytest.approx(1.0, abs=1e-14)
    assert probabilities @ counts == pytest.approx(mean, rel=1e-12)
    assert probabilities @ counts**2 == pytest.approx(mean + mean**2, rel=1e-12)
    assert more.sum() == pytest.approx(mean, rel=1e-12)  # the mean again
    assert probabilities[-1] < 1e-16


@pytest.mark.parametrize("half", [0.0, 0.2, 3.0, 1e3, 1e6])
def test_the_polynomials_give_the_exponential(half):
    factors = polynomials(half)
    points = np.linspace(-1.0, 1.0, 200)
    values = np.polynomial.chebyshev.chebval(points, factors)
    np.testing.assert_allclose(values, np.exp(half * (points - 1.0)), rtol=0, atol=1e-12)
    for error in (1e-3, 1e-9):
        left_out = factors[int(polynomials_needed(half, error)) + 1 :].sum()
        assert left_out <= error


# Steps


def small(walls="absorbing", temperature=0.4):
    return Generator.of(with_loss(box((150,), (-2.0, 2.0), [walls]), "(x**2 - 1)**2/2", temperature))


def observed_order(values):
    return np.log2(np.array(values[:-1]) / np.array(values[1:]))


@pytest.mark.parametrize("plane", [False, True])
def test_second_order_in_time(plane):
    """Steps of many stages, whose error constants agree; the start is smooth on the scale of the steps."""
    if plane:
        walls = [("absorbing", "reflecting"), "periodic"]
        generator = Generator.of(with_loss(box((20, 18), (-1.0, 1.0), walls), "x**2/2", 0.5, turned([40.0, 1.0], 0.0)))
    else:
        generator = small()
    duration = 0.4 if not plane else 0.05
    start, _ = exact(generator, bump(generator, 0.5), duration)
    start /= start.sum()
    wanted, gone = exact(generator, start, duration)
    stepper = ChebyshevSteps.of(generator)
    errors, missed, estimates = [], [], []
    for count in (4, 8, 16):
        assert stages_needed(stepper.series.radius, duration / count) >= 6
        state, left, estimated = start, np.zeros_like(gone), 0.0
        for _ in range(count):
            step = stepper.step(state, duration / count, np.inf)
            state, left, estimated = step.probability, left + step.left, estimated + step.error
        errors.append(np.abs(state - wanted).sum())
        missed.append(np.abs(left - gone).sum())
        estimates.append(estimated)
    np.testing.assert_allclose(observed_order(errors), StabilisedStepper.order, atol=0.1)
    np.testing.assert_allclose(observed_order(missed), StabilisedStepper.order, atol=0.1)
    assert errors[-1] < 1e-4
    assert (np.array(errors) <= estimates).all()


def test_the_estimate_is_near_the_error():
    """1.8 times the error where it is smooth, and of its order, third in one step."""
    generator = small()
    start, _ = exact(generator, bump(generator, 0.5), 0.3)
    stepper = ChebyshevSteps.of(generator)
    for length in (0.04, 0.02):
        step = stepper.step(start, length, np.inf)
        error = np.abs(step.probability - exact(generator, start, length)[0]).sum()
        assert 1.2 * error < step.error < 2.5 * error


lengths = st.floats(-3.0, 7.0).map(lambda power: 10.0**power)  # of a step, in units of the largest rate


@given(
    generator=generators(),
    length=lengths,
    allowed=st.floats(-12, 0).map(lambda power: 10.0**power),
    point=st.booleans(),
)
@settings(max_examples=80)
def test_positive_and_conservative_for_any_step(generator, length, allowed, point):
    active = np.flatnonzero(generator.active)
    probability = random_state(generator.grid.size) * generator.active
    if point:
        probability = np.zeros_like(probability)
        probability[active[active.size // 3]] = 1.0
    radius = spectral_bound(generator)
    stepper = ChebyshevSteps.of(generator)
    step = stepper.step(probability, length / radius if radius > 0.0 else length, allowed)
    assert step.probability.min() >= 0.0
    assert step.left.min(initial=0.0) >= 0.0
    assert (step.probability[~generator.active] == 0.0).all()
    assert step.probability.sum() + step.left.sum() == pytest.approx(probability.sum(), abs=1e-14)


@pytest.mark.parametrize("turning", [0.0, 3.0, 30.0])
def test_series_are_exact(turning):
    """Hops always; polynomials as far as they claim, which is everywhere without circulation."""
    drift = linear([[-1.0, -turning], [turning, -1.0]])
    generator = Generator.of(
        with_drift(box((15, 15), walls=[("absorbing", "reflecting"), "absorbing"]), drift, 0.2 * np.eye(2))
    )
    start = np.zeros(generator.grid.size)
    start[100] = 1.0
    series = Series.of(generator)
    for length in (1.0, 10.0, 300.0):
        time = length / series.radius
        wanted, gone = exact(generator, start, time)
        state, left = series.over_hops(start, time)
        assert state.min() >= 0.0
        assert np.abs(state - wanted).sum() < 1e-13
        assert np.abs(left - gone).sum() < 1e-13
        for allowed in (1e-3, 1e-7, 1e-11):
            state, left, error = series.in_polynomials(start, time, allowed)
            assert error <= allowed or (error == np.inf and turning > 0.0)
            if error <= allowed:
                assert np.abs(state - wanted).sum() < allowed
                assert np.abs(left - gone).sum() < allowed


@given(generator=generators(), length=st.floats(-1.0, 3.5).map(lambda power: 10.0**power))
@settings(max_examples=30)
def test_the_polynomials_keep_their_word(generator, length):
    """Against the sum over hops, itself right to about 1e-12, whatever drift and tensor."""
    if spectral_bound(generator) == 0.0:
        return
    series = Series.of(generator)
    start, time = random_state(generator.grid.size) * generator.active, length / series.radius
    wanted, gone = series.over_hops(start, time)
    for allowed in (1e-3, 1e-8):
        with np.errstate(over="ignore", invalid="ignore"):  # as in a step
            state, left, error = series.in_polynomials(start, time, allowed)
        if error < np.inf:
            assert error <= allowed
            assert np.abs(state - wanted).sum() <= error + 1e-11
            assert np.abs(left - gone).sum() <= error + 1e-11


def test_a_step_that_errs_is_redone():
    """From a point the estimate refuses what the stages make of it; a series takes 60 products or less."""
    generator = Generator.of(free(box((15, 15), walls="absorbing"), np.eye(2)))
    start = np.zeros(generator.grid.size)
    start[112] = 1.0
    stepper, length = ChebyshevSteps.of(generator), 60.0 / spectral_bound(generator)
    wanted, gone = exact(generator, start, length)
    crude = stepper.step(start, length, np.inf)
    assert crude.limited
    assert crude.error > 0.1
    assert np.abs(crude.probability - wanted).sum() < crude.error
    for allowed in (1e-6, 0.0):
        step = stepper.step(start, length, allowed)
        assert step.error <= allowed
        assert np.abs(step.probability - wanted).sum() <= step.error + 1e-13
        assert np.abs(step.left - gone).sum() <= step.error + 1e-13


def test_too_long_a_step_is_refused():
    generator = small()
    stepper, start = ChebyshevSteps.of(generator), bump(generator)
    step = stepper.step(start, 2.0 * MOST_STAGES**2 / stepper.series.radius, 1e-3)
    assert step.error == np.inf
    np.testing.assert_array_equal(step.probability, start)
    assert (step.left == 0.0).all()
    again = stepper.step(start, 10.0 / stepper.series.radius, np.inf)  # nothing of it stays behind
    fresh = ChebyshevSteps.of(generator).step(start, 10.0 / stepper.series.radius, np.inf)
    np.testing.assert_array_equal(again.probability, fresh.probability)


def march(stepper, start, duration, tolerance):
    """Halve and double as the estimate asks; state, what left, steps taken, refused."""
    state, left, done, part, taken, refused = start, 0.0, 0.0, 1.0, 0, 0
    while done < 1.0:
        step = stepper.step(state, duration * part, tolerance * part)
        if not step.error <= tolerance * part:
            part, refused = part / 2, refused + 1
            continue
        state, left, done, taken = step.probability, left + step.left, done + part, taken + 1
        if step.error < 0.1 * tolerance * part and (done / part) % 2 == 0:
            part *= 2
    return state, left, taken, refused


@pytest.mark.parametrize(
    ("drift", "diffusion", "walls", "cells"),
    [
        (linear([[-0.5, -20.0], [20.0, -0.5]]), 0.02, "reflecting", (18, 18)),  # turns, cell Peclet number 200
        (linear([[0.0, -20.0], [20.0, 0.0]]), 1.0, "absorbing", (18, 18)),
        (["5"], 1e-3, "periodic", (150,)),  # eigenvalues on the circle |z + d| = d
        (["5"], 1e-3, "absorbing", (150,)),  # and a single one, with one eigenvector
        (["5"], 0.1, "periodic", (150,)),
    ],
)
def test_drift_does_not_make_it_unstable(drift, diffusion, walls, cells, monkeypatch):
    """With stages alone and with the series: the error stays below what was allowed, in a few refusals."""
    generator = Generator.of(with_drift(box(cells, walls=walls), drift, diffusion * np.eye(len(cells))))
    start, duration, tolerance = bump(generator, 0.25), 0.1, 1e-2
    wanted, gone = exact(generator, start, duration)
    stepper = ChebyshevSteps.of(generator)
    for series in (True, False):
        if not series:
            monkeypatch.setattr(ChebyshevSteps, "_exact", lambda *arguments: arguments[-1])
        state, left, taken, refused = march(stepper, start, duration, tolerance)
        assert np.abs(state - wanted).sum() < tolerance
        assert np.abs(left - gone).sum() < tolerance
        assert refused < 15 + taken / 4


def test_the_cost_grows_as_the_root_of_the_duration():
    generator = small()
    one = seconds_needed(generator, 10.0, 1, 1e-7)
    assert seconds_needed(generator, 40.0, 1, 1e-7) == pytest.approx(2.0 * one, rel=0.1)
    assert seconds_needed(generator, 40.0, 4, 1e-7) == pytest.approx(4.0 * one)
