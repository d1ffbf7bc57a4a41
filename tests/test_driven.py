"""What changes in time, against closed forms and dense references: schedules, moving drift, turning diffusion."""

import itertools
import math

import numpy as np
import pytest
from exact import error_l1, orders
from problems import box, free, with_loss
from scipy.integrate import quad, solve_ivp
from scipy.interpolate import BarycentricInterpolator

from fpsolve.analyse.motion import evolve, timeline_of
from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError
from fpsolve.model.initial import Density, Gaussian, Point
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import ConstantNoise, HessianNoise, TensorNoise
from fpsolve.model.problem import Problem
from fpsolve.model.schedule import Stage
from fpsolve.solve.implicit import ImplicitStepper
from fpsolve.solve.stabilised import StabilisedStepper

# --- Ornstein-Uhlenbeck: dv/dt = -2 h v + 2 D(t)

CURVATURE = 1.3
START = Gaussian([0.5], width=0.4)
TIMES = (0.5, 1.0)


def bowl(cells, noise, loss=f"{CURVATURE}*x**2/2"):
    """A parabola between walls at more than five standard deviations."""
    return Problem(Landscape(loss, variables=("x",)), noise, box((cells,), (-3.0, 3.0)))


def moments(noise, loss=f"{CURVATURE}*x**2/2"):
    """Mean and variance at TIMES, extrapolated from 48 and 96 cells, and SGD steps.

    The error of the scheme in space is second order, 3e-4 in the variance on 96 cells, 1/4 of it on 192; what is left
    of it in (4 fine - coarse) / 3 is a few 1e-6. The tolerance leaves as much in time.
    """
    coarse, fine = (evolve(bowl(cells, noise, loss), START, times=TIMES, tolerance=2e-6) for cells in (96, 192))
    for motion in (coarse, fine):
        assert motion.mass_error < 1e-12
        assert motion.smallest_density >= 0.0
    mean, variance = (
        (4.0 * getattr(fine, name) - getattr(coarse, name)).reshape(3, -1)[1:, 0] / 3.0
        for name in ("mean", "covariance")
    )
    return mean, variance, fine


def exact_variance(diffusion, jumps=()):
    """At TIMES, to 1e-12. diffusion: a function of the time."""
    start, found = [START.width**2], []
    ends = sorted({0.0, *TIMES, *jumps})
    for begin, end in itertools.pairwise(ends):
        middle = 0.5 * (begin + end)  # the end itself may already belong to the next stage

        def slope(t, v, begin=begin, end=end, middle=middle):
            inside = middle + (t - middle) * (1.0 - 1e-13)
            return -2.0 * CURVATURE * v + 2.0 * diffusion(inside)

        start = solve_ivp(slope, (begin, end), start, method="DOP853", rtol=1e-13, atol=1e-15).y[:, -1]
        if end in TIMES:
            found.append(start[0])
    return np.array(found)


STAGED = [Stage(0.8, steps=0.5), Stage(0.2, steps=1.0), Stage(0.4, steps=1.0)]
# Learning rate as given, as a function of the time, SGD steps as a function of the time, jumps.
LEARNING_RATES = {
    "exponential": ("0.8*exp(-t)", lambda t: 0.8 * math.exp(-t), lambda t: math.expm1(t) / 0.8, ()),
    "a/(k + k0)": ("1.6/(k + 2)", lambda t: 0.8 * math.exp(-t / 1.6), lambda t: 2.0 * math.expm1(t / 1.6), ()),
    "1/sqrt(k)": ("0.8/sqrt(1 + k)", lambda t: 0.8 / (1 + t / 1.6), lambda t: (1 + t / 1.6) ** 2 - 1, ()),
    "staged": (
        STAGED,
        lambda t: 0.8 if t < 0.4 else 0.2 if t < 0.6 else 0.4,
        lambda t: t / 0.8 if t < 0.4 else 0.5 + (t - 0.4) / 0.2 if t < 0.6 else 1.5 + (t - 0.6) / 0.4,
        (0.4, 0.6),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("given", "rate", "steps", "jumps"), LEARNING_RATES.values(), ids=LEARNING_RATES)
def test_ornstein_uhlenbeck_under_a_schedule(given, rate, steps, jumps):
    mean, variance, motion = moments(HessianNoise(learning_rate=given, batch_size=2))
    wanted = exact_variance(lambda t: rate(t) / 4.0 * CURVATURE, jumps)
    np.testing.assert_allclose(variance, wanted, rtol=0, atol=1e-5)
    np.testing.assert_allclose(mean, 0.5 * np.exp(-CURVATURE * np.array(TIMES)), rtol=0, atol=1e-5)
    np.testing.assert_array_equal(motion.times, [0.0, *TIMES])
    np.testing.assert_allclose(motion.steps, [steps(time) for time in (0.0, *TIMES)], rtol=1e-10)


OTHERS = {
    "temperature": (ConstantNoise(temperature="0.3*exp(-2*t)"), lambda t: 0.3 * math.exp(-2 * t), ()),
    "temperature in steps": (
        ConstantNoise(temperature="0.3/(1 + k)", learning_rate=0.5), lambda t: 0.3 / (1 + 2 * t), ()
    ),
    "injected": (
        HessianNoise(learning_rate=0.4, batch_size=2, injected="0.5*t"),
        lambda t: 0.1 * CURVATURE + 0.1 * t, (),
    ),
    "batch size": (
        HessianNoise(learning_rate=0.4, batch_size=[Stage(1, time=0.3), Stage(4, time=1.0)]),
        lambda t: 0.2 * CURVATURE / (1 if t < 0.3 else 4), (0.3,),
    ),
    "diffusion": (TensorNoise(diffusion=[["0.3/(1 + t)"]]), lambda t: 0.3 / (1 + t), ()),
}  # fmt: skip


@pytest.mark.parametrize(("noise", "diffusion", "jumps"), OTHERS.values(), ids=OTHERS)
def test_ornstein_uhlenbeck_under_noise_that_changes(noise, diffusion, jumps):
    _, variance, motion = moments(noise)
    np.testing.assert_allclose(variance, exact_variance(diffusion, jumps), rtol=0, atol=1e-5)
    assert (motion.steps is None) == (noise.learning_rate is None)


def test_a_moving_trap():
    """dX = -(X - sin t) dt + noise: mean m0 exp(-t) + (sin t - cos t + exp(-t)) / 2; the variance does not notice."""
    mean, variance, _ = moments(ConstantNoise(temperature=0.2), "(x - sin(t))**2/2")
    t = np.array(TIMES)
    np.testing.assert_allclose(mean, 0.5 * np.exp(-t) + 0.5 * (np.sin(t) - np.cos(t) + np.exp(-t)), rtol=0, atol=1e-5)
    np.testing.assert_allclose(variance, 0.2 + (0.16 - 0.2) * np.exp(-2 * t), rtol=0, atol=1e-5)


def test_the_linear_scaling_rule():
    """Learning rate and batch size twice as large: the same density at the same time, after half as many steps."""
    one = evolve(bowl(40, HessianNoise(learning_rate="0.4*exp(-t)", batch_size=1)), START, until=0.5, save=2)
    two = evolve(bowl(40, HessianNoise(learning_rate="0.8*exp(-t)", batch_size=2)), START, until=0.5, save=2)
    np.testing.assert_allclose(two.probability, one.probability, rtol=0, atol=1e-14)
    np.testing.assert_allclose(2.0 * two.steps, one.steps, rtol=1e-10)


# --- pure diffusion


@pytest.mark.parametrize("cells", [16, 32])
def test_a_cosine_between_walls_decays_by_the_integral_of_d(cells):
    """1 + cos(pi x)/2 on [0, 1]: on the grid pi**2 is 4 sin(pi h/2)**2 / h**2, the rest is the error in time."""
    problem = Problem(
        Landscape(drift=["0"], variables=("x",)), TensorNoise(diffusion=[["0.1 + 0.4*t"]]), box((cells,), (0.0, 1.0))
    )
    motion = evolve(problem, Density("1 + cos(pi*x)/2"), times=[0.3, 1.0], tolerance=1e-6)
    rate = 4.0 * cells**2 * math.sin(math.pi / (2 * cells)) ** 2
    (x,) = problem.grid.positions()
    for time, probability in zip(motion.times, motion.probability, strict=True):
        decay = math.exp(-rate * (0.1 * time + 0.2 * time**2))
        assert error_l1(probability, (1.0 + 0.5 * decay * np.cos(math.pi * x)) / cells) < 1e-6
    assert rate == pytest.approx(math.pi**2, rel=math.pi**2 / (12 * cells**2))


def turning(cells=14):
    """A tensor that turns by half a circle until t = 1, eigenvalues 0.55 and 0.05: other lattice offsets all the time.

    No drift, so that what the grid has of moments is exact: d(covariance)/dt = 2 D.
    """
    tensor = [["0.3 + 0.25*cos(2*pi*t)", "0.25*sin(2*pi*t)"], ["0.25*sin(2*pi*t)", "0.3 - 0.25*cos(2*pi*t)"]]
    grid = box((cells, cells), (-7.0, 7.0))
    return Problem(Landscape(drift=["0", "0"], variables=("x", "y")), TensorNoise(diffusion=tensor), grid)


def test_a_turning_tensor():
    problem = turning()
    offsets = {
        tuple(np.unique(np.abs(Generator.of(problem.at(time)).edges.displacement), axis=1).ravel())
        for time in (0.0, 0.1, 0.2)
    }
    assert len(offsets) > 1, "the lattice changes"
    motion = evolve(problem, Point([0.1, -0.2]), times=[0.25, 0.5], tolerance=1e-4)
    assert motion.probability.min() >= 0.0
    assert motion.mass_error < 1e-12
    np.testing.assert_allclose(motion.mean, np.tile([0.1, -0.2], (3, 1)), rtol=0, atol=1e-3)
    for time, covariance in zip(motion.times, motion.covariance, strict=True):
        whole, part = 0.6 * time, 0.25 * math.sin(2 * math.pi * time) / math.pi
        across = 0.25 * (1.0 - math.cos(2 * math.pi * time)) / math.pi
        grown = np.array([[whole + part, across], [across, whole - part]])
        # What is far out counts by its square: 49 times the tolerance at the walls, but little gets there.
        np.testing.assert_allclose(covariance - motion.covariance[0], grown, rtol=0, atol=1e-3)


# --- the stepper and the tolerance, against a dense reference


def driven(walls=("reflecting", "absorbing"), temperature="0.3/(1 + t)", cells=12):
    """A trap that moves, between a wall that reflects and one that absorbs, and noise that fades."""
    landscape = Landscape("2*(x - 0.5*sin(3*t))**2", variables=("x",))
    return Problem(landscape, ConstantNoise(temperature=temperature), box((cells,), (-1.0, 1.2), [walls]))


def dense(generator):
    """Q with the gates as further states, so that what left through each is counted."""
    size, gates = generator.grid.size, len(generator.exits.gates)
    matrix = np.zeros((size + gates, size + gates))
    matrix[:size, :size] = generator.matrix().toarray()
    np.add.at(matrix, (size + generator.exits.gate, generator.exits.cell), generator.exits.rate)
    return matrix


def reference(timeline, start, times):
    """State and what left through the gates at some times, to 1e-12.

    Between two jumps Q(t) is read off 25 Chebyshev points: it is analytic, so that this is exact to rounding.
    """
    state = np.concatenate([start, np.zeros(len(timeline.at(0.0).exits.gates))])
    stops, found = sorted({0.0, *times, *(jump for jump in timeline.jumps if jump < times[-1])}), []
    for begin, end in itertools.pairwise(stops):
        nodes = 0.5 * (begin + end) - 0.5 * (end - begin) * np.cos(np.pi * (np.arange(25) + 0.5) / 25)
        q = BarycentricInterpolator(nodes, np.array([dense(timeline.at(float(node))) for node in nodes]))
        state = solve_ivp(lambda t, p, q=q: q(t) @ p, (begin, end), state, method="DOP853", rtol=1e-13, atol=1e-16).y[
            :, -1
        ]
        if end in times:
            found.append(state)
    return np.array(found)


def shaken_trap():
    """A few cells between absorbing walls, under a trap that moves and noise that falls: span, start, and end."""
    landscape = Landscape("2*(x - 0.3*sin(6*t))**2", variables=("x",))
    problem = Problem(landscape, ConstantNoise(temperature="0.3/(1 + t)"), box((7,), (-1.0, 1.2), "absorbing"))
    timeline = timeline_of(problem)
    (span,) = timeline.spans(0.0, 1.0)
    start = Gaussian([0.2], width=0.3).probability(problem)
    (wanted,) = reference(timeline, start, (1.0,))
    return span, start, wanted


def test_implicit_steps_of_a_driven_chain_are_of_fourth_order():
    """What is inside, and what left through each of two gates, which takes shorter steps to show it."""
    span, start, wanted = shaken_trap()
    counts, errors = (20, 40, 80), []
    for count in counts:
        stepper, probability, left = ImplicitStepper(span), start, np.zeros(2)
        for number in range(count):
            step = stepper.step(probability, number / count, 1.0 / count)
            probability, left = step.probability, left + step.left
        errors.append([error_l1(probability, wanted[:-2]), *np.abs(left - wanted[-2:])])
    inside, *through = np.transpose(errors)
    np.testing.assert_allclose(orders(counts, inside), ImplicitStepper.order, rtol=0, atol=0.1)
    for series in through:
        assert abs(orders(counts, series)[-1] - ImplicitStepper.order) < 0.2, series


def test_stabilised_steps_of_a_driven_chain_are_of_second_order():
    """The chain is held as it is midway; the estimate sees what that costs. What is inside, and what left."""
    span, start, wanted = shaken_trap()
    counts, errors, estimates = (40, 80, 160), [], []
    for count in counts:
        stepper, probability, left, estimate = StabilisedStepper(span), start, np.zeros(2), 0.0
        for number in range(count):
            step = stepper.step(probability, number / count, 1.0 / count, np.inf)
            probability, left, estimate = step.probability, left + step.left, estimate + step.error
        errors.append([error_l1(probability, wanted[:-2]), *np.abs(left - wanted[-2:])])
        estimates.append(estimate)
    for series in np.transpose(errors):
        np.testing.assert_allclose(orders(counts, series), StabilisedStepper.order, rtol=0, atol=0.1)
    assert (np.array(errors)[:, 0] <= estimates).all()


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4])
def test_stabilised_steps_keep_the_tolerance(tolerance):
    landscape = Landscape("2*(x - 0.3*sin(6*t))**2", variables=("x",))
    problem = Problem(landscape, ConstantNoise(temperature="0.3/(1 + t)"), box((12,), (-1.0, 1.2)))
    start = Point([0.2]).probability(problem)
    (wanted,) = reference(timeline_of(problem), start, (1.0,))
    motion = evolve(problem, start, times=[1.0], tolerance=tolerance, stepper="stabilised")
    assert error_l1(motion.probability[-1], wanted[: start.size]) <= 3.0 * tolerance
    assert motion.smallest_density >= 0.0
    assert motion.mass_error <= 1e-12


@pytest.mark.parametrize("walls", ["reflecting", "absorbing"])
def test_limited_steps_of_a_chain_that_hardly_changes(walls):
    """As of one that does not, though every stage has a matrix of its own: what the stages carry is added first."""

    def whirl(rate):
        landscape = Landscape(drift=["-x + 2*y", "-x - y"], variables=("x", "y"))
        noise = TensorNoise(diffusion=[[f"0.5 + {rate}*t", "0.2"], ["0.2", "0.3"]])
        return Problem(landscape, noise, box((9, 8), [(-1.5, 1.5), (-1.2, 1.4)], walls))

    steps = []
    for rate in ("0", "1e-13"):
        timeline = timeline_of(whirl(rate))
        (span,) = timeline.spans(0.0, 1.0)
        assert span.constant == (rate == "0")
        start = Point([0.3, 0.1]).probability(timeline.at(0.0).problem)
        steps.append(ImplicitStepper(span).step(start, 0.0, 0.02))
    constant, driven = steps
    assert constant.limited
    assert driven.limited
    np.testing.assert_allclose(driven.probability, constant.probability, rtol=0, atol=1e-11)
    np.testing.assert_allclose(driven.left, constant.left, rtol=0, atol=1e-11)


DRIVEN = {
    "smooth": "0.3/(1 + t)",
    "jumps": [Stage(0.3, time=0.13), Stage(0.05, time=0.2), Stage(0.4, time=1.0)],
}


@pytest.fixture(scope="module", params=DRIVEN.values(), ids=DRIVEN)
def driven_case(request):
    problem = driven(temperature=request.param)
    start, times = Point([0.3]), (0.2, 0.5)
    return problem, start, times, reference(timeline_of(problem), start.probability(problem), times)


@pytest.mark.parametrize("tolerance", [1e-3, 1e-4, 1e-5, 1e-6, pytest.param(1e-7, marks=pytest.mark.slow)])
def test_the_tolerance_is_kept(driven_case, tolerance):
    """Of a trap that moves at every instant, with noise that changes smoothly or by jumps inside saved intervals."""
    problem, start, times, wanted = driven_case
    motion = evolve(problem, start, times=times, tolerance=tolerance)
    assert motion.probability.min() >= 0.0
    assert motion.mass_error < 1e-12
    for probability, left, state in zip(motion.probability[1:], motion.absorbed["x_max"][1:], wanted, strict=True):
        assert error_l1(probability, state[:-1]) + abs(left - state[-1]) < 3.0 * tolerance


def test_noise_in_stages_is_one_constant_run_after_the_other():
    """The jumps are met exactly, though no saved time is there: tolerances of the runs add."""
    stages = [Stage(0.5, time=0.13), Stage(0.1, time=0.2), Stage(0.3, time=1.0)]
    grid = box((30,), (-2.0, 2.0))

    def well(temperature):
        return with_loss(grid, "(x**2 - 1)**2", temperature)

    staged = Problem(well(0.5).landscape, ConstantNoise(temperature=stages), grid)
    motion = evolve(staged, Point([-1.0]), times=[0.5], tolerance=1e-6)
    state = Point([-1.0]).probability(staged)
    for temperature, length in ((0.5, 0.13), (0.1, 0.2), (0.3, 0.17)):
        state = evolve(well(temperature), state / state.sum(), times=[length], tolerance=1e-6).probability[-1]
    assert error_l1(motion.probability[-1], state) < 4e-6
    assert motion.timeline.jumps == pytest.approx((0.13, 0.33), rel=1e-15)


@pytest.mark.parametrize(("jump", "times"), [(0.5, [0.5, 1.0]), (0.25, [0.5, 1.0]), (1.0, [0.5, 1.0]), (3.0, [1.0])])
def test_a_jump_may_lie_anywhere(jump, times):
    """At a saved time, inside an interval, at the end, beyond it: free diffusion, d(variance)/dt = 2 D."""
    noise = TensorNoise(diffusion=[["0.1"]], learning_rate=[Stage(0.1, time=jump), Stage(0.4, time=1.0)], injected=2.0)
    problem = Problem(Landscape(drift=["0"], variables=("x",)), noise, box((30,), (-6.0, 6.0)))
    motion = evolve(problem, Point([0.2]), times=times, tolerance=1e-6)
    t = motion.times
    grown = 2.0 * (0.1 * t + 0.1 * np.minimum(t, jump) + 0.4 * np.maximum(t - jump, 0.0))
    np.testing.assert_allclose(motion.covariance[:, 0, 0] - motion.covariance[0, 0, 0], grown, rtol=0, atol=1e-5)
    np.testing.assert_allclose(motion.steps, np.minimum(t, jump) / 0.1 + np.maximum(t - jump, 0.0) / 0.4, rtol=1e-14)


def test_long_rests_between_jumps():
    noise = ConstantNoise(temperature=[Stage(0.25, time=50.0), Stage(0.5, time=50.0)])
    problem = Problem(Landscape("x**2/2", variables=("x",)), noise, box((30,), (-4.0, 4.0)))
    motion = evolve(problem, Point([1.0]), until=100.0, save=2, tolerance=1e-5)
    # The scheme has the density at rest of both halves exactly: values of a Gaussian at the cell centres.
    (x,) = problem.grid.positions()
    for number, temperature in ((1, 0.25), (2, 0.5)):
        rest = np.exp(-(x**2) / (2 * temperature))
        assert error_l1(motion.probability[number], rest / rest.sum()) < 1e-5
    assert motion.counts.factorisations < 60, "steps of few lengths, whose matrices are kept"


def test_a_problem_that_does_not_change_is_one_chain():
    problem = free(box((10,), (0.0, 1.0)), [[0.1]])
    assert not problem.depends_on_time
    timeline = timeline_of(problem)
    assert timeline.at(0.0) is timeline.at(5.0)
    assert evolve(problem, Point([0.5]), times=[1.0]).steps is None


def test_problems_at_other_times():
    problem = driven()
    later = problem.at(2.0)
    assert (later.time, later.at(0.0).time, later.on(box((20,), (-1.0, 1.2))).time) == (2.0, 0.0, 2.0)
    assert later.temperature == pytest.approx(0.1)
    np.testing.assert_allclose(
        later.landscape.loss(np.array([[0.3]])), 2 * (0.3 - 0.5 * math.sin(6.0)) ** 2, rtol=1e-14
    )
    with pytest.raises(CaseError, match=r"^noise\.temperature: at t = 2 it is -1\. It must be a finite number above 0"):
        driven(temperature="1 - t").at(2.0)


def test_what_becomes_impossible_on_the_way_is_refused_then():
    problem = driven(temperature="0.3 - t")
    with pytest.raises(CaseError, match=r"^noise\.temperature: at t = 0\.[3-9]\d* it is -"):
        evolve(problem, Point([0.3]), until=1.0, save=1, tolerance=1e-3)


def test_the_clock_of_a_long_schedule_is_the_integral_of_the_rate():
    """Numbers of a real training: 1e5 steps of a rate that warms up and fades."""
    rate = "0.1*min(1, (k + 1)/1000)/(1 + k/20000)"
    noise = HessianNoise(learning_rate=rate, batch_size=128)
    clock = noise.course({}).clock
    lasts = quad(lambda k: 0.1 * min(1.0, (k + 1) / 1000) / (1 + k / 20000), 0.0, 1e5, points=[999.0], limit=200)[0]
    assert clock.time(1e5) == pytest.approx(lasts, rel=1e-9)
    assert clock.steps(lasts) == pytest.approx(1e5, rel=1e-9)
