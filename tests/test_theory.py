"""Closed forms for escape times: against reference values, identities that hold exactly, and every reason."""

import math

import mpmath
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fpsolve.analyse.theory import FORMULAS, ClosedForm, closed_forms
from fpsolve.errors import CaseError
from fpsolve.model.grid import Axis, Grid
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import AmplitudeNoise, ConstantNoise, HessianNoise, TensorNoise
from fpsolve.model.problem import Problem

QUARTIC = Landscape("(x**2 - 1)**2", variables=("x",))
# U' = (x + 1) x (x - 2) (27/20 - 33/20 x + 3/5 x**2): minima at -1 (U'' = 10.8) and 2 (2.7), saddle at 0 (-2.7),
# both barriers 1.
SHARP_FLAT = Landscape(
    "1.35*(x**4/4 - x**3/3 - x**2) - 1.65*(x**5/5 - x**4/4 - 2*x**3/3) + 0.6*(x**6/6 - x**5/5 - x**4/2)",
    variables=("x",),
)
ABSORBING = ("absorbing", "absorbing")

# Where the reference values have as many digits, the exact integral must agree to the rounding of its exponents.
ROUNDING = 1e-11
# The reference values with state-dependent noise were compared among their methods to 1e-11 ... 2e-11.
AGREEMENT = 5e-11


def forms(problem, start, target):
    found = closed_forms(problem, start, problem.region(target))
    names = ["kramers", "eyring_kramers", "langer", "irreversible_eyring_kramers", "low_noise", "exact_integral"]
    assert list(found) == [*names, "xie_ito", "xie_stratonovich", "xie_isothermal"] == list(FORMULAS)
    return found


def quartic(temperature, lower=-2.0, upper=2.0):
    return Problem(QUARTIC, ConstantNoise(temperature=temperature), Grid(x=(lower, upper, 100)))


def with_floor(landscape, c, floor, lower, upper):
    """D = c sqrt(H**2 + floor**2)."""
    noise = HessianNoise(learning_rate=2.0 * c, batch_size=1, projection="abs", floor=floor)
    return Problem(landscape, noise, Grid(x=(lower, upper, 120)))


# --- reference values -------------------------------------------------------------------------------------------


# Nested quadrature in 25-digit arithmetic, a composite spectral quadrature and an initial-value integration of order
# eight, which agree to 2e-13.
@pytest.mark.parametrize(
    ("barrier", "to_saddle", "to_minimum"),
    [
        (3, 12.6983500580613, 26.6400877981141),
        (5, 90.4759398752311, 182.417672985581),
        (8, 1749.19088458468, 3500.03481118679),
        (12, 93559.0148916216, 187119.840767335),
        (20, 2.74830549171648e8, 5.49661100352072e8),
    ],
)
def test_quartic_well_with_constant_noise(barrier, to_saddle, to_minimum):
    problem = quartic(1.0 / barrier)
    saddle, minimum = forms(problem, [-1.0], "x > 0"), forms(problem, [-1.0], "x > 1")
    assert saddle["exact_integral"].value == pytest.approx(to_saddle, rel=ROUNDING)
    assert minimum["exact_integral"].value == pytest.approx(to_minimum, rel=ROUNDING)
    kramers = math.log(2.0 * math.pi / math.sqrt(32.0)) + barrier
    for name in ("kramers", "eyring_kramers", "langer", "low_noise"):
        assert minimum[name].log_time == pytest.approx(kramers, abs=1e-13)
        assert minimum[name] == ClosedForm(minimum[name].log_time, True, None)


# Composite spectral quadrature on graded panels and an initial-value integration, which agree to 8e-12; nested
# quadrature in extended precision for some. The last column is the ratio to half the low-noise time.
@pytest.mark.parametrize(
    ("c", "floor", "time", "ratio"),
    [
        (0.05, 3, 86.788004427472, 1.0707289),
        (0.05, 1, 6888.07744850197, 1.0307973),
        (0.05, 0.1, 1.77599053171904e8, 1.0244298),
        (0.05, 0.01, 4.93794808867673e12, 1.0243661),
        (0.05, 1e-4, 3.82324376244281e21, 1.0243655),
        (0.1, 1, 54.3086253402826, 1.0542098),
        (0.1, 0.01, 1419607.16799355, 1.0317924),
        (0.1, 0.0001, 39501036604.5726, 1.0317869),
        (0.2, 3, 1.50531865101248, 0.95337007),
        (0.2, 0.1, 58.7690697836381, 1.032348),
        (0.2, 0.001, 9784.46996604573, 1.0306453),
        (0.2, 1e-6, 21079767.68863, 1.0306339),
        (0.4, 1, 1.15365602091782, 0.86073966),
        (0.4, 0.03, 9.20885475044233, 0.99787701),
    ],
)
def test_quartic_well_with_floored_hessian_noise(c, floor, time, ratio):
    found = forms(with_floor(QUARTIC, c, floor, -4.0, 1.5), [-1.0], "x > 0")
    assert found["exact_integral"].value == pytest.approx(time, rel=AGREEMENT)
    half = 0.5 * math.exp(found["low_noise"].log_time)
    assert found["exact_integral"].value / half == pytest.approx(ratio, rel=1e-7)  # the digits given
    assert not found["low_noise"].applies  # the target begins at the saddle (or the barrier is low)


# Graded spectral quadrature and an initial-value integration, which agree to 2e-11.
@pytest.mark.parametrize(
    ("c", "floor", "to_the_right", "to_the_left"),
    [
        (0.2, None, 206.550384148107, 453.666077054238),
        (0.1, None, 27450.3771317647, 59715.4171750224),
        (0.05, None, 582502868.399935, 1221287111.72562),
        (0.05, 1.0, 6441.92304984549, 69436472.6397749),
        (0.05, 0.01, 137114559379.396, 9.83636586314688e35),
        (0.1, 0.3, 619.610121387831, 396167277.949957),
        (0.1, 0.1, 4587.63534295367, 5674783629551.54),
        (0.2, 0.01, 479.182162815016, 2181346908.92718),
    ],
)
def test_sharp_and_flat_minimum(c, floor, to_the_right, to_the_left):
    grid = Grid(x=(-2.5, 3.5, 120))
    constant = floor is None
    problem = (
        Problem(SHARP_FLAT, ConstantNoise(temperature=c), grid)
        if constant
        else with_floor(SHARP_FLAT, c, floor, -2.5, 3.5)
    )
    right, left = forms(problem, [-1.0], "x > 2"), forms(problem, [2.0], "x < -1")
    # tau = 5e8 at c = 0.05 has the coefficients of U, with 1e-16 times 1/c * 1e1, in its exponent
    assert right["exact_integral"].value == pytest.approx(to_the_right, rel=AGREEMENT)
    assert left["exact_integral"].value == pytest.approx(to_the_left, rel=AGREEMENT)
    assert right["kramers"].applies == left["kramers"].applies == constant
    assert right["low_noise"].applies
    assert left["low_noise"].applies


# Spectral quadrature and nested quadrature in extended precision, which agree to 2e-15; the low-noise values are
# equation (16) of Mori, Ziyin, Liu & Ueda (2021), evaluated by itself.
@pytest.mark.parametrize(
    ("c", "least", "to_saddle", "to_minimum", "low_noise"),
    [
        (0.3, 0.1, 5048.49805306311, 10098.4409163378, 10904.6108667527),
        (0.15, 0.1, 15507147.5579234, 31014296.8832061, 32278929.463338),
        (0.2, 0.05, 9817837.02235062, 19635675.7730468, 20787918.2488113),
        (0.05, 0.5, 3335073505.87746, 6670147013.71678, 6707962111.97038),
    ],
)
def test_noise_proportional_to_the_loss(c, least, to_saddle, to_minimum, low_noise):
    noise = TensorNoise(diffusion=f"{c}*((x**2 - 1)**2 + {least})")
    problem = Problem(QUARTIC, noise, Grid(x=(-4.0, 4.0, 160)))
    found = forms(problem, [-1.0], "x > 1")
    assert found["exact_integral"].value == pytest.approx(to_minimum, rel=ROUNDING)
    assert forms(problem, [-1.0], "x > 0")["exact_integral"].value == pytest.approx(to_saddle, rel=ROUNDING)
    assert found["low_noise"].value == pytest.approx(low_noise, rel=ROUNDING)
    assert found["low_noise"].applies


def langer_problem(temperature, mobility=((1.0, 0.6), (0.6, 0.5)), cells=60):
    landscape = Landscape("(x**2 - 1)**2 + y**2", variables=("x", "y"), mobility=mobility)
    grid = Grid(x=(-2.1, 2.1, cells), y=(-3.2, 3.2, cells))
    return Problem(landscape, ConstantNoise(temperature=temperature), grid)


# 2 pi / l sqrt(|det H_b| / det H_a) exp(1/T), with l = 3.335755975 the positive eigenvalue of -M H_b,
# H_a = diag(8, 2), H_b = diag(-4, 2); evaluated in 25-digit arithmetic.
@pytest.mark.parametrize(
    ("temperature", "time"), [(0.25, 72.7191050695128), (0.15, 1046.56725867482), (0.1, 29336.980822065)]
)
def test_langer(temperature, time):
    found = forms(langer_problem(temperature), [-1.0, 0.0], "x > 1")
    assert found["langer"].value == pytest.approx(time, rel=1e-12)  # rounding of 1/T and of the eigenvalues
    assert found["langer"].applies


def with_current(strength, temperature, extra=None):
    """-grad L plus a current along the level lines of L = (x**2 - 1)**2 + y**2, which keeps exp(-L/T)."""
    current = [f"-({strength})*2*y", f"({strength})*4*x*(x**2 - 1)"]
    landscape = Landscape("(x**2 - 1)**2 + y**2", variables=("x", "y"), extra_drift=extra or current)
    grid = Grid(x=(-2.1, 2.1, 60), y=(-3.2, 3.2, 60))
    return Problem(landscape, ConstantNoise(temperature=temperature), grid)


# 2 pi / l sqrt(|det H_b| / det H_a) exp(1/T), with l = 5.123105626 the positive eigenvalue of -(1 - R) H_b, R the
# quarter turn; evaluated in 25-digit arithmetic.
@pytest.mark.parametrize(
    ("temperature", "time"), [(0.25, 47.3488557456829), (0.15, 681.440759093225), (0.1, 19101.8917467424)]
)
def test_irreversible_eyring_kramers(temperature, time):
    found = forms(with_current(1.0, temperature), [-1.0, 0.0], "x > 0.9")
    assert found["irreversible_eyring_kramers"].value == pytest.approx(time, rel=1e-12)
    assert found["irreversible_eyring_kramers"].applies
    assert not found["langer"].applies


@pytest.mark.parametrize(
    ("extra", "words"), [(["-y", "x"], "does work against the loss"), (["0.1*x", "0"], "has a divergence")]
)
def test_an_added_drift_that_does_not_keep_the_density(extra, words):
    found = forms(with_current(0.0, 0.1, extra), [-1.0, 0.0], "x > 0.9")["irreversible_eyring_kramers"]
    assert found.reason.startswith(
        f"exp(-loss/T) is not the density at rest: the added drift {words}, as in cell (0, 0)"
    )
    assert found.log_time is None


def test_without_an_added_drift_langer_says_it():
    found = forms(with_current(0.0, 0.1).on(Grid(x=(-2.0, 2.0, 40), y=(-2.0, 2.0, 40))), [-1.0, 0.0], "x > 0.9")
    assert found["irreversible_eyring_kramers"].log_time == pytest.approx(math.log(math.pi / 2 / math.sqrt(2)) + 10.0)
    found = forms(langer_problem(0.1), [-1.0, 0.0], "x > 0.9")["irreversible_eyring_kramers"]
    assert found.reason == "the drift is minus the gradient of the loss: Langer's formula says the same"


def test_eyring_kramers_of_a_separable_well_is_kramers():
    """The stiff direction is the same at minimum and saddle and drops out."""
    found = forms(langer_problem(0.1, np.eye(2)), [-1.0, 0.0], "x > 1")
    assert found["eyring_kramers"] == found["langer"]
    assert found["langer"].log_time == pytest.approx(math.log(2.0 * math.pi / math.sqrt(32.0)) + 10.0, abs=1e-12)


def test_eyring_kramers_of_a_curved_valley():
    """L = (x^2-1)^2 + 2 (y - 0.8 x^2)^2: det H_a = 8 * 4, H_b = diag(-4, 4), barrier 1; tau = pi/2/sqrt(2) exp(1/T)."""
    landscape = Landscape("(x**2 - 1)**2 + 2*(y - 0.8*x**2)**2", variables=("x", "y"))
    problem = Problem(landscape, ConstantNoise(temperature=0.1), Grid(x=(-2.1, 2.1, 60), y=(-1.6, 3.6, 60)))
    found = forms(problem, [-1.0, 0.8], "x > 0.9")["eyring_kramers"]
    assert found.log_time == pytest.approx(math.log(math.pi / 2.0 / math.sqrt(2.0)) + 10.0, abs=1e-12)
    assert found.applies


@pytest.mark.parametrize(("drift", "time"), [("0", 0.2625), ("1.1", 0.27284548842108)])
def test_interval_with_two_absorbing_walls(drift, time):
    """Closed form (l x - x^2)/(2 D) without drift; the survival probability integrated over time with it: 1e-12."""
    landscape = Landscape(drift=[drift], variables=("x",))
    grid = Grid(x=Axis("x", 0.0, 1.0, 20, ABSORBING))
    found = forms(Problem(landscape, ConstantNoise(diffusion=[[0.4]]), grid), [0.3], "x > 2")["exact_integral"]
    assert found.value == pytest.approx(time, rel=1e-12)


# --- in log space -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("barrier", [40, 1500])
def test_deep_barriers(barrier):
    """From minimum to minimum tau = barrier * integral of exp(barrier U) * integral over one well of exp(-barrier U).

    That the integrals are taken one by one is right to exp(-barrier); here in 30-digit arithmetic.
    """
    with mpmath.workdps(30):
        well = mpmath.quad(lambda x: mpmath.exp(-barrier * (x * x - 1) ** 2), mpmath.linspace(-2, 0, 65))
        top = mpmath.quad(lambda x: mpmath.exp(barrier * ((x * x - 1) ** 2 - 1)), mpmath.linspace(-1, 1, 65))
        expected = float(mpmath.log(barrier * well * top) + barrier)
    found = forms(quartic(1.0 / barrier), [-1.0], "x > 1")
    # Exponents round at 1e-16 * barrier.
    assert found["exact_integral"].log_time == pytest.approx(expected, abs=1e-11)
    assert found["kramers"].log_time == pytest.approx(math.log(2 * math.pi / math.sqrt(32)) + barrier, abs=1e-11)


def test_a_time_beyond_floating_point_has_a_logarithm_only():
    found = forms(quartic(1.0 / 1500.0), [-1.0], "x > 1")["exact_integral"]
    assert found.value is None
    assert found.log10 == pytest.approx(found.log_time / math.log(10.0))
    assert found.applies


def test_a_closed_form_without_a_value():
    empty = ClosedForm(None, False, "because")
    assert empty.value is None
    assert empty.log10 is None
    assert ClosedForm(math.log(100.0), True, None).log10 == pytest.approx(2.0)
    assert ClosedForm(math.log(100.0), True, None).value == pytest.approx(100.0)


# --- identities -------------------------------------------------------------------------------------------------


def wavy(tilt=0.0, scale=1.0, noise=1.0, mirrored=1.0):
    """Several wells, and a noise that changes by a factor of two."""
    landscape = Landscape(
        lambda x: scale * (np.cos(3.0 * x) + tilt * mirrored * x + 0.5 * x**2),
        gradient=lambda x: [scale * (-3.0 * np.sin(3.0 * x) + tilt * mirrored + x)],
        hessian=lambda x: [[scale * (1.0 - 9.0 * np.cos(3.0 * x))]],
        variables=("x",),
    )
    diffusion = TensorNoise(diffusion=lambda x: [[scale * noise * (1.0 + 0.3 * np.sin(2.0 * mirrored * x))]])
    return Problem(landscape, diffusion, Grid(x=(-3.0, 3.0, 60)))


def exact(problem, start, target):
    return forms(problem, [start], target)["exact_integral"]


@settings(max_examples=30)
@given(st.floats(-2.9, 2.5), st.floats(0.05, 1.0), st.floats(0.05, 1.0), st.floats(0.1, 2.0), st.floats(-0.5, 0.5))
def test_times_to_successive_targets_add_up(start, step, further, noise, tilt):
    """To reach c from a one must pass b: tau(a, c) = tau(a, b) + tau(b, c)."""
    middle, end = start + step, min(start + step + further, 2.99)
    middle = min(middle, end - 0.01)
    if middle <= start:
        return
    problem = wavy(tilt, noise=noise)
    whole = exact(problem, start, f"x > {end!r}").value
    parts = exact(problem, start, f"x > {middle!r}").value + exact(problem, middle, f"x > {end!r}").value
    assert parts == pytest.approx(whole, rel=ROUNDING)


@settings(max_examples=30)
@given(st.floats(-2.0, 2.0), st.floats(0.01, 100.0), st.sampled_from(["x > 2.3", "x < -2.2", "abs(x) > 2.5"]))
def test_twice_as_fast_takes_half_the_time(start, scale, target):
    slow, fast = forms(wavy(0.2), [start], target), forms(wavy(0.2, scale), [start], target)
    for name in ("low_noise", "exact_integral"):
        assert (slow[name].log_time is None) == (fast[name].log_time is None)
        if slow[name].log_time is not None:
            # Exponents of order ten round at 1e-16 of that.
            assert fast[name].log_time + math.log(scale) == pytest.approx(slow[name].log_time, abs=1e-12)
        assert slow[name].applies == fast[name].applies


@settings(max_examples=30)
@given(st.floats(-2.0, 2.0), st.sampled_from([("x > 2.3", "x < -2.3"), ("x < -2.2", "x > 2.2"), ("abs(x) > 2.5",) * 2]))
def test_the_mirror_image_takes_as_long(start, targets):
    there, back = exact(wavy(0.2), start, targets[0]), exact(wavy(0.2, mirrored=-1.0), -start, targets[1])
    assert there.log_time == pytest.approx(back.log_time, abs=1e-12)


@pytest.mark.parametrize("edge", [0.3, 1.4])
def test_two_exits_of_a_symmetric_well_are_one_of_its_half(edge):
    """From the middle, leaving to either side takes as long as leaving the half with a wall in the middle."""
    landscape = Landscape("x**2 - 0.3*x**4", variables=("x",))
    noise = TensorNoise(diffusion="0.1 + 0.05*x**2")
    whole = Problem(landscape, noise, Grid(x=(-1.5, 1.5, 60)))
    half = Problem(landscape, noise, Grid(x=(0.0, 1.5, 30)))
    both = exact(whole, 0.0, f"abs(x) > {edge}").log_time
    assert both == pytest.approx(exact(half, 0.0, f"x > {edge}").log_time, abs=1e-12)


def test_conventions_with_the_same_flux_drift_agree():
    """Ito drift m, Stratonovich drift m - D'/2 and isothermal drift m - D' are one equation."""
    shape, slope = "0.1*(1 + 0.5*sin(x))", "0.05*cos(x)"
    times = []
    for convention, share in (("ito", 0.0), ("stratonovich", 0.5), ("isothermal", 1.0)):
        landscape = Landscape("(x**2 - 1)**2", variables=("x",), extra_drift=[f"-{share}*{slope}"])
        problem = Problem(landscape, TensorNoise(diffusion=shape, convention=convention), Grid(x=(-2.0, 2.0, 60)))
        times.append(exact(problem, -1.0, "x > 1").log_time)
    amplitude = AmplitudeNoise(noise_amplitude=f"sqrt(2*{shape})", convention="ito")
    times.append(exact(Problem(QUARTIC, amplitude, Grid(x=(-2.0, 2.0, 60))), -1.0, "x > 1").log_time)
    assert times == pytest.approx([times[0]] * 4, abs=1e-12)


@pytest.mark.parametrize("convention", ["ito", "stratonovich", "isothermal"])
def test_low_noise_is_the_limit_of_the_exact_integral(convention):
    """The correction is of first order in the noise: it halves with the noise, up to terms of second order."""
    gaps = []
    for noise in (0.02, 0.01):
        diffusion = TensorNoise(diffusion=f"{noise}*(1 + 0.5*x)", convention=convention)
        found = forms(Problem(QUARTIC, diffusion, Grid(x=(-1.8, 2.0, 60))), [-1.0], "x > 0.8")
        assert found["low_noise"].applies
        gaps.append(found["exact_integral"].log_time - found["low_noise"].log_time)
    assert gaps[0] / gaps[1] == pytest.approx(2.0, abs=0.1)
    assert abs(gaps[1]) < 0.02  # noise of 0.01 times a factor of order one


def test_a_potential_hidden_in_a_drift_gives_the_same_times():
    """Without a loss everything is integrated instead of differenced."""
    problem = Problem(
        Landscape(drift=["-4*x*(x**2 - 1)"], variables=("x",)),
        ConstantNoise(diffusion=[[0.1]]),
        Grid(x=(-2.0, 2.0, 100)),
    )
    hidden, open_ = forms(problem, [-1.0], "x > 1"), forms(quartic(0.1), [-1.0], "x > 1")
    for name in ("kramers", "low_noise", "exact_integral"):
        assert hidden[name].log_time == pytest.approx(open_[name].log_time, abs=1e-12)
        assert hidden[name].applies
    assert hidden["langer"].reason == "the landscape gives a drift and no loss"


def test_a_mobility_speeds_everything_up():
    landscape = Landscape("(x**2 - 1)**2", variables=("x",), mobility=[[4.0]])
    fast = forms(Problem(landscape, ConstantNoise(temperature=0.1), Grid(x=(-2.0, 2.0, 100))), [-1.0], "x > 1")
    slow = forms(quartic(0.1), [-1.0], "x > 1")
    for name in ("kramers", "langer", "low_noise", "exact_integral"):
        assert fast[name].log_time + math.log(4.0) == pytest.approx(slow[name].log_time, abs=1e-12)
        assert fast[name].applies
    assert (
        fast["eyring_kramers"].reason == "the mobility is not the identity: Langer's formula is the one with a mobility"
    )


def test_a_ring_is_cut_at_the_target():
    """On a ring the time to the target is that between two absorbing ends, wherever the seam of the axis lies."""
    times = []
    for seam in (0.0, 2.5):
        ring = Axis("x", seam, seam + 2.0 * np.pi, 60, ("periodic", "periodic"))
        landscape = Landscape("cos(2*x)", variables=("x",), extra_drift=["0.5"])
        problem = Problem(landscape, ConstantNoise(temperature=0.1), Grid(x=ring))
        times.append(exact(problem, np.pi / 2.0 + 2.0 * np.pi * (seam > 0), "cos(x - 3*pi/2) > 0.99").log_time)
    box = Axis("x", 1.5 * np.pi - 2.0 * np.pi + math.acos(0.99), 1.5 * np.pi - math.acos(0.99), 60, ABSORBING)
    landscape = Landscape("cos(2*x)", variables=("x",), extra_drift=["0.5"])
    problem = Problem(landscape, ConstantNoise(temperature=0.1), Grid(x=box))
    times.append(exact(problem, np.pi / 2.0, "x > 10").log_time)
    assert times == pytest.approx([times[0]] * 3, abs=1e-12)


def test_a_jump_of_the_noise_is_found():
    """D = 0.1 left of 0.3 and 0.2 right of it, no drift, reflecting at 0, target beyond 1, Ito.

    v is not defined at a jump under Ito except as exact differences of ln D: then p D is continuous at rest, so
    tau(0) = integral_0^1 dy integral_0^y dz / D(z), since exp(psi) = 1 / D.
    """
    problem = Problem(
        Landscape(drift=["0"], variables=("x",)),
        TensorNoise(diffusion="where(x < 0.3, 0.1, 0.2)"),
        Grid(x=(0.0, 1.5, 30)),
    )
    expected = (0.3**2 / 2 + 0.3 * 0.7) / 0.1 + 0.7**2 / 2 / 0.2
    # Panels are halved towards the jump to 1e-13 of the interval.
    assert exact(problem, 0.0, "x > 1").value == pytest.approx(expected, rel=1e-11)


# --- reasons ----------------------------------------------------------------------------------------------------

TWO_WELLS = Landscape("(x**2 - 1)**2 + y**2", variables=("x", "y"))
PLANE = Grid(x=(-2.0, 2.0, 40), y=(-2.0, 2.0, 40))
WARM = ConstantNoise(temperature=0.1)
HALVES = "; the formulas are for a passage into the far well (absorbing on the saddle halves the time)"


def test_in_two_dimensions_the_formulas_of_one_are_refused():
    found = forms(Problem(TWO_WELLS, WARM, PLANE), [-1.0, 0.0], "x > 0.8")
    assert found["kramers"] == ClosedForm(None, False, "the grid has 2 dimensions, the formula one")
    assert found["low_noise"].reason == "the grid has 2 dimensions, the formula one"
    assert found["exact_integral"].reason == "the grid has 2 dimensions, the formula one"


def test_noise_that_depends_on_the_position():
    # sqrt(H^2 + 1) is sqrt(65) at the minimum, where H = 8, and 1 where H = 0: a factor of 8.06.
    found = forms(with_floor(QUARTIC, 0.05, 1.0, -2.0, 2.0), [-1.0], "x > 0.8")
    reason = "the noise depends on the position: D changes 8.1-fold between the minimum and the saddle"
    for name in ("kramers", "eyring_kramers", "langer"):
        assert found[name] == ClosedForm(None, False, reason)
    assert found["low_noise"].applies


def test_noise_that_depends_on_the_position_in_two_dimensions():
    noise = TensorNoise(diffusion=[["1 + x**2", "0"], ["0", "1"]])
    found = forms(Problem(TWO_WELLS, noise, Grid(x=(-2.0, 2.0, 41), y=(-2.0, 2.0, 4))), [-1.0, 0.0], "x > 0.8")
    # The trace is 2 + x**2, from 2 at x = 0 to 5.81 in the outermost cells: a factor of 2.9.
    reason = "the noise depends on the position: D changes 2.9-fold over the grid"
    assert found["eyring_kramers"].reason == found["langer"].reason == reason


def test_constant_noise_in_disguise():
    grid = Grid(x=(-2.0, 2.0, 50))
    plain = forms(Problem(QUARTIC, ConstantNoise(temperature=0.1), grid), [-1.0], "x > 0.8")
    assert forms(Problem(QUARTIC, TensorNoise(diffusion="0.1"), grid), [-1.0], "x > 0.8")["kramers"] == plain["kramers"]
    found = forms(Problem(QUARTIC, TensorNoise(diffusion=lambda x: 0.1 + 0.0 * x), grid), [-1.0], "x > 0.8")
    assert "the noise is given as a function of the position, if a constant one" in found["kramers"].reason


def test_a_drift_that_is_no_gradient():
    landscape = Landscape("(x**2 - 1)**2 + y**2", variables=("x", "y"), extra_drift=["-y", "x"])
    found = forms(Problem(landscape, WARM, PLANE), [-1.0, 0.0], "x > 0.8")
    assert found["langer"] == found["eyring_kramers"]
    assert found["langer"].reason == "the drift is not minus the gradient of the loss"


def test_a_diffusion_that_does_not_go_with_the_mobility():
    noise = ConstantNoise(diffusion=[[0.1, 0.0], [0.0, 0.2]])
    found = forms(Problem(TWO_WELLS, noise, PLANE), [-1.0, 0.0], "x > 0.8")
    reason = "the diffusion is not proportional to the mobility, so exp(-loss/T) is not the density at rest"
    assert found["langer"].reason == found["eyring_kramers"].reason == reason
    assert found["langer"].log_time is None


GAUSSIAN_FORMULAS = ("kramers", "eyring_kramers", "langer", "low_noise")


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("x > 0", "the target begins at the saddle" + HALVES),
        ("x > 0.2", "the target begins 0.8 thermal energies beyond the saddle" + HALVES),
        ("x > -0.2", "the target begins 0.8 thermal energies before the saddle" + HALVES),
    ],
)
def test_a_target_near_the_saddle(target, reason):
    # 2 * 0.2**2 - 0.2**4 = 0.0784 is 0.8 thermal energies of 0.1.
    found = forms(quartic(0.1), [-1.0], target)
    for name in GAUSSIAN_FORMULAS:
        assert found[name].reason == reason
        assert not found[name].applies
        assert found[name].log_time == pytest.approx(math.log(2.0 * math.pi / math.sqrt(32.0)) + 10.0, abs=1e-12)


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("x > 0.02", "the target begins at the saddle" + HALVES),
        ("x > 0.25", "the target begins 1.2 thermal energies beyond the saddle" + HALVES),
        ("x > -0.25", "the saddle lies inside the target"),
        (
            "x > -0.6",
            "the target, or an absorbing wall, is reached on the way up, at x = -0.55, y = -0.05, before any saddle",
        ),
    ],
)
def test_a_target_near_the_saddle_in_two_dimensions(target, reason):
    found = forms(Problem(TWO_WELLS, WARM, PLANE), [-1.0, 0.0], target)
    assert found["eyring_kramers"].reason == found["langer"].reason == reason


@pytest.mark.parametrize(
    ("start", "target", "reason"),
    [
        (-1.0, "x > -0.7", "the target begins on the way up, before any saddle"),
        (-1.0, "x < -1.3", "the target begins on the way up, before any saddle"),
        (-0.2, "x > 0.8", "the start lies only 0.8 thermal energies below the saddle"),
        (0.0, "x > 0.8", "the start is a saddle, with a way down to either side (x = 0)"),
        (0.3, "x > 0.8", "the drift carries the start into the target: there is no barrier"),
        (-1.0, "x > 7", "the target cannot be reached: no edge of it lies on the axis"),
        (-1.0, "x < 0", "the start lies in the target"),
        (-0.5, "x > -0.5", "the start lies on the edge of the target"),
    ],
)
def test_starts_and_targets_without_a_barrier_between(start, target, reason):
    found = forms(quartic(0.1), [start], target)
    for name in GAUSSIAN_FORMULAS:
        assert found[name].reason == reason
    at_rest = "target cannot be reached", "start lies in", "start lies on the edge"
    assert found["exact_integral"].applies != any(words in reason for words in at_rest)


def test_a_start_near_the_saddle_in_two_dimensions():
    found = forms(Problem(TWO_WELLS, WARM, PLANE), [-0.2, 0.1], "x > 0.8")
    assert found["langer"].reason == "the start lies only 0.7 thermal energies below the saddle"


def test_a_low_barrier():
    # barrier 1, noise 1.25
    assert forms(quartic(1.25), [-1.0], "x > 1")["kramers"].reason == "barrier/noise is only 0.8"
    found = forms(Problem(TWO_WELLS, ConstantNoise(temperature=1.25), PLANE), [-1.0, 0.0], "x > 1")
    assert found["langer"].reason == "barrier/noise is only 0.8"
    assert not found["langer"].applies
    assert found["langer"].log_time is not None


def test_no_minimum():
    landscape = Landscape(drift=["1"], variables=("x",))
    found = forms(Problem(landscape, ConstantNoise(diffusion=[[0.1]]), Grid(x=(0.0, 2.0, 20))), [0.5], "x > 1")
    reason = "there is no minimum: the drift carries the start x = 0.5 to an end of the axis"
    assert found["kramers"].reason == found["low_noise"].reason == reason
    assert found["exact_integral"].applies


def test_a_well_that_is_not_quadratic():
    landscape = Landscape("x**4 - 0.3*x**6", variables=("x",))
    problem = Problem(landscape, ConstantNoise(temperature=0.1), Grid(x=(-1.6, 2.0, 50)))
    found = forms(problem, [0.1], "x > 1.95")["kramers"]
    assert "well and barrier are not quadratic" in found.reason
    assert found.log_time is None
    landscape = Landscape("x**4 - 0.3*x**6 + y**2", variables=("x", "y"))
    problem = Problem(landscape, WARM, Grid(x=(-1.6, 2.0, 50), y=(-1.0, 1.0, 20)))
    assert "the minimum is degenerate" in forms(problem, [0.1, 0.0], "x > 1.95")["langer"].reason


def tilted_hill(temperature, lower=-1.9):
    """A well at 0 with ways out to both sides; saddles near -1.39 and 1.44, the latter lower."""
    landscape = Landscape("x**2 - 0.25*x**4 - 0.05*x", variables=("x",))
    axis = Axis("x", lower, 1.9, 76, ("absorbing", "reflecting"))
    return Problem(landscape, ConstantNoise(temperature=temperature), Grid(x=axis))


def test_two_ways_out_of_a_well_in_one_dimension():
    """The rates over both saddles add. They are at the roots of 2 x - x**3 = 0.05, of curvature 2 - 3 x**2."""
    found = forms(tilted_hill(0.1), [0.0], "abs(x) > 1.85")
    left, bottom, right = sorted(np.roots([-1.0, 0.0, 2.0, -0.05]).real)
    loss = np.polynomial.Polynomial([0.0, -0.05, 1.0, 0.0, -0.25])
    rate = sum(
        math.sqrt((2.0 - 3.0 * bottom**2) * (3.0 * x**2 - 2.0)) * math.exp(-(loss(x) - loss(bottom)) / 0.1)
        for x in (left, right)
    )
    assert found["kramers"].log_time == pytest.approx(math.log(2.0 * math.pi / rate), abs=1e-10)
    assert found["kramers"].applies
    # The correction is of first order in the noise: at half the noise, half of it.
    gaps = [exact(tilted_hill(noise), 0.0, "abs(x) > 1.85").log_time for noise in (0.04, 0.02)]
    gaps = [
        gap - forms(tilted_hill(noise), [0.0], "abs(x) > 1.85")["low_noise"].log_time
        for gap, noise in zip(gaps, (0.04, 0.02), strict=True)
    ]
    assert gaps[0] / gaps[1] == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize(("wall", "reason"), [(-1.2, "only 0.5 thermal energies"), (-1.14, "no")])
def test_a_way_out_on_the_other_side_that_is_no_saddle(wall, reason):
    """The loss is 0.982 at -1.2, 0.934 at -1.14 and 0.930 at the saddle."""
    found = forms(tilted_hill(0.1, wall), [0.0], "x > 1.85")["kramers"]
    assert found.reason.startswith(f"a second way out, at x = {wall:g}, is {reason} higher")
    assert found.reason.endswith("but does not lead straight over a saddle into the target")


def two_passes(tilt):
    """Minima near (-1, 0) and (1, 0), saddles at x = 0 where 16 y (y**2 - 1) + 2 y + tilt = 0."""
    landscape = Landscape(f"4*(x**2 + y**2 - 1)**2 + y**2 + {tilt}*y", variables=("x", "y"))
    return Problem(landscape, WARM, Grid(x=(-1.7, 1.7, 80), y=(-1.7, 1.7, 80)))


@pytest.mark.parametrize("tilt", [0.0, 0.1])
def test_two_passes_side_by_side(tilt):
    """The rates over both saddles add; without a tilt they are the same, at sqrt(7/8), and halve the time."""
    found = forms(two_passes(tilt), [-1.0, 0.0], "x > 0.9")["eyring_kramers"]
    lower, _, upper = sorted(np.roots([16.0, 0.0, -14.0, tilt]).real)
    x, y = ring_minimum(tilt)
    rate = 0.0
    for place in (lower, upper):
        across, along = 16.0 * (place**2 - 1.0), 16.0 * (3.0 * place**2 - 1.0) + 2.0
        climb = 4.0 * (place**2 - 1.0) ** 2 + place**2 + tilt * place - ring_loss(x, y, tilt)
        rate += (
            -across / (2.0 * math.pi) * math.sqrt(ring_determinant(x, y) / (-across * along)) * math.exp(-climb / 0.1)
        )
    assert found.log_time == pytest.approx(-math.log(rate), abs=1e-9)
    assert found.applies


def ring_loss(x, y, tilt):
    return 4.0 * (x**2 + y**2 - 1.0) ** 2 + y**2 + tilt * y


def ring_determinant(x, y):
    """Of the Hessian of `two_passes`."""
    r = x**2 + y**2
    xx, xy, yy = 16.0 * (r - 1.0) + 32.0 * x**2, 32.0 * x * y, 16.0 * (r - 1.0) + 32.0 * y**2 + 2.0
    return xx * yy - xy**2


def ring_minimum(tilt):
    """Off the axis x = 0 the gradient of `two_passes` vanishes where r = 1 and 2 y + tilt = 0."""
    y = -0.5 * tilt
    return -math.sqrt(1.0 - y**2), y


def test_a_second_pass_that_leads_elsewhere():
    """Three wells on a circle: over a saddle to the third one, and from there on, the target is reached as well.

    Along the circle the loss is 0.1 cos(phi) - cos(3 phi) / 2: the saddles near +-60 degrees are 1.6 T higher than
    that at 180 degrees, between start and target.
    """
    wells = "4*(x**2 + y**2 - 1)**2 - 0.5*(x**3 - 3*x*y**2)/(x**2 + y**2)**1.5 + 0.1*x"
    problem = Problem(Landscape(wells, variables=("x", "y")), WARM, Grid(x=(-1.8, 1.8, 72), y=(-1.8, 1.8, 72)))
    found = forms(problem, [-0.5, 0.9], "(x + 0.5)**2 + (y + 0.87)**2 < 0.04")["eyring_kramers"]
    assert found.reason.startswith("a second way out, over x = 0.5")
    assert found.reason.endswith(
        "is only 1.6 thermal energies higher but does not lead straight over a saddle into the target"
    )
    assert not found.applies


def test_a_second_pass_that_is_high_enough_does_not_matter():
    landscape = Landscape("4*(x**2 + y**2 - 1)**2 + y**2 + 0.25*y", variables=("x", "y"))
    problem = Problem(landscape, WARM, Grid(x=(-1.7, 1.7, 80), y=(-1.7, 1.7, 80)))
    assert forms(problem, [-1.0, 0.0], "x > 0.9")["eyring_kramers"].applies


def three_wells(tilt, *, plane=False):
    """Minima near -2, 0 and 2."""
    loss = f"0.1*x**2*(x**2 - 4)**2 + {tilt}*x" + (" + y**2" if plane else "")
    axes = {"x": (-2.8, 2.8, 112)} | ({"y": (-1.5, 1.5, 24)} if plane else {})
    return Problem(Landscape(loss, variables=tuple(axes)), ConstantNoise(temperature=0.1), Grid(**axes))


@pytest.mark.parametrize("plane", [False, True])
def test_another_minimum_on_this_side(plane):
    start = [0.0, 0.0][: 1 + plane]
    deep = forms(three_wells(0.05, plane=plane), start, "x > 1.6")["langer"]
    assert deep.reason.startswith("another minimum on this side of the saddle, at x = -2.0")
    assert deep.reason.endswith("is no higher")
    close = forms(three_wells(-0.1, plane=plane), start, "x > 1.6")["langer"]
    assert close.reason.endswith("is only 2.0 thermal energies higher")
    assert forms(three_wells(-0.2, plane=plane), start, "x > 1.6")["langer"].applies


def test_another_saddle_in_series():
    found = forms(three_wells(0.1), [-2.0], "x > 1.6")["kramers"]
    assert found.reason.startswith("another saddle on the way, at x = -1.1")
    assert found.reason.endswith("thermal energies lower")


def test_another_minimum_beyond_the_saddle():
    """The saddle of the middle well is far below the first one, but that well is deep."""
    found = forms(three_wells(-0.2), [-2.0], "x > 1.6")["kramers"]
    assert found.reason.startswith("beyond the saddle another minimum, at x = 0.0")
    assert found.reason.endswith(", delays the passage")


def test_a_saddle_that_leads_elsewhere():
    found = forms(three_wells(-0.2, plane=True), [-2.0, 0.0], "x > 1.6")["langer"]
    assert found.reason.startswith("from the saddle the loss falls to x = ")
    assert found.reason.endswith(", neither of them in the target")


@pytest.mark.parametrize("wall", ["reflecting", "absorbing"])
def test_walls_near_the_minimum_and_the_saddle(wall):
    # -1.1: U = 0.0441, 0.4 thermal energies above the minimum.
    line = Problem(QUARTIC, WARM, Grid(x=Axis("x", -1.1, 2.0, 60, ("reflecting", "reflecting"))))
    found = forms(line, [-1.0], "x > 0.8")["kramers"]
    assert found.reason == "the wall x = -1.1 lies within 2 thermal energies of the minimum"
    beyond = Problem(QUARTIC, WARM, Grid(x=Axis("x", -2.0, 0.2, 60, ("reflecting", "absorbing"))))
    found = forms(beyond, [-1.0], "x > 5")["kramers"]
    assert found.reason == "an absorbing wall stands 0.8 thermal energies beyond the saddle" + HALVES
    side = Axis("y", -0.2, 2.0, 44, (wall, "reflecting"))
    plane = Problem(TWO_WELLS, WARM, Grid(x=(-2.0, 2.0, 40), y=side))
    found = forms(plane, [-1.0, 0.0], "x > 0.8")["langer"]
    if wall == "reflecting":
        assert found.reason == "the wall y = -0.2 lies within 2 thermal energies of the minimum"
    else:
        assert "absorbing wall, is reached on the way up" in found.reason


def test_an_absorbing_wall_beyond_the_saddle_in_two_dimensions():
    grid = Grid(x=Axis("x", -2.0, 0.6, 52, ("reflecting", "absorbing")), y=(-2.0, 2.0, 40))
    assert forms(Problem(TWO_WELLS, WARM, grid), [-1.0, 0.0], "x > 7")["langer"].applies
    grid = Grid(x=Axis("x", -2.0, 0.25, 45, ("reflecting", "absorbing")), y=(-2.0, 2.0, 40))
    found = forms(Problem(TWO_WELLS, WARM, grid), [-1.0, 0.0], "x > 7")["langer"]
    assert found.reason == "an absorbing wall stands 1.2 thermal energies beyond the saddle" + HALVES


def test_noise_that_vanishes_on_the_way():
    """Without a floor |H| vanishes at the inflection x = -1/sqrt(3), where the drift points back: tau is infinite."""
    noise = HessianNoise(learning_rate=0.2, batch_size=1, projection="abs", floor=0.0)
    found = forms(Problem(QUARTIC, noise, Grid(x=(-2.0, 2.0, 61))), [-1.0], "x > 0.8")
    for name in ("low_noise", "exact_integral"):
        assert found[name].log_time is None
        assert "(does D vanish somewhere?)" in found[name].reason


def test_noise_that_vanishes_on_a_wall():
    noise = TensorNoise(diffusion="0.5*(1 - x**2)")
    landscape = Landscape(drift=["-1.2*(x - 0.2)"], variables=("x",))
    found = forms(Problem(landscape, noise, Grid(x=(-1.0, 1.0, 40))), [0.2], "x > 0.9")
    assert found["low_noise"].reason == "D is not positive at x = -1"
    # p at rest is integrable at the wall, so the time is finite: (1-x)^(-0.04) (1+x)^0.44.
    assert found["exact_integral"].applies


def test_a_start_outside_the_grid_is_an_error():
    with pytest.raises(CaseError, match="x = -3 lies outside the grid"):
        closed_forms(quartic(0.1), [-3.0], quartic(0.1).region("x > 0"))
