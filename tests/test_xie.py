"""The law of Xie, Sato & Sugiyama (2021): on the frozen noise that it assumes, beside it, and why it does not apply.

"The theorem's exponent" is E = 2 S (L_b - L_a) / eta (s / H_ae + (1 - s) / |H_be|). With D frozen in two pieces that
meet at the inflection it is the integral of dL / D along the way, so that by Laplace's method

    -ln(rate) = ln(tau) = E + ln(prefactor) + O(1 / E)

holds in every convention, with the prefactor of that convention. On noise that follows |H| along the way it does not.
"""

import math

import numpy as np
import pytest
from problems import QUARTIC, along, box

from fpsolve.analyse.escape import escape
from fpsolve.analyse.passes import pass_between
from fpsolve.analyse.stationary_points import minimum_near
from fpsolve.analyse.theory import closed_forms
from fpsolve.analyse.xie import frozen_way
from fpsolve.model.grid import Grid
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import ConstantNoise, HessianNoise, TensorNoise
from fpsolve.model.problem import Problem

CONVENTIONS = ("ito", "stratonovich", "isothermal")
RING = "(x**2 + y**2 - 1)**2 - 0.5*(x**2 - y**2)/(x**2 + y**2)"


class Frozen:
    """A well of depth `barrier` and curvature `sharp` behind a saddle at 0 of curvature -`round`, under frozen noise.

    Left of the saddle L = barrier - round x**2 / 2 + c3 x**3 + c4 x**4; that it has its minimum, of height 0 and
    curvature `sharp`, at -a fixes a**2 = 12 barrier / (sharp + round), c4 = (sharp - round) / (4 a**2) and
    c3 = (sharp - 2 round) / (3 a). The loss bends the other way at the root of 12 c4 x**2 + 6 c3 x = round.
    """

    def __init__(self, learning_rate=0.1, batch_size=4.0, barrier=1.0, sharp=8.0, round=4.0):
        self.noise = learning_rate / (2.0 * batch_size)
        self.sharp, self.round, self.barrier = sharp, round, barrier
        self.minimum = -math.sqrt(12.0 * barrier / (sharp + round))
        c4, c3 = (sharp - round) / (4.0 * self.minimum**2), (sharp - 2.0 * round) / (-3.0 * self.minimum)
        self.turn = (-3.0 * c3 - math.sqrt(9.0 * c3**2 + 12.0 * c4 * round)) / (12.0 * c4)
        left = f"{barrier!r} - {round!r}/2*x**2 + ({c3!r})*x**3 + ({c4!r})*x**4"
        self.loss = f"where(x < 0, {left}, {barrier!r} - {round!r}/2*x**2)"
        height = barrier - round / 2.0 * self.turn**2 + c3 * self.turn**3 + c4 * self.turn**4
        self.share = height / barrier
        self.exponent = barrier / self.noise * (self.share / sharp + (1.0 - self.share) / round)

    def problem(self, convention="ito", cells=400):
        diffusion = f"{self.noise!r}*where(x < {self.turn!r}, {self.sharp!r}, {self.round!r})"
        grid = Grid(x=(1.8 * self.minimum, -1.1 * self.minimum, cells))
        noise = TensorNoise(diffusion=diffusion, convention=convention)
        return Problem(Landscape(self.loss, variables=("x",)), noise, grid)

    @property
    def target(self):
        return f"x > {-self.minimum!r}"  # round a**2 / 2 below the saddle

    def forms(self, convention="ito"):
        problem = self.problem(convention)
        return closed_forms(problem, [self.minimum], problem.region(self.target))

    def log_prefactor(self, convention):
        below = {"ito": self.sharp, "stratonovich": math.sqrt(self.sharp * self.round), "isothermal": self.round}
        return math.log(2.0 * math.pi / below[convention])


# Exponents of 15 to 125. Laplace's method errs by 2 / E at most, relative to the time.
SERIES = {
    "batch size": [{"batch_size": size} for size in (4.0, 8.0, 16.0, 32.0)],
    "learning rate": [{"learning_rate": rate} for rate in (0.1, 0.05, 0.025, 0.0125)],
    "barrier": [{"barrier": height} for height in (1.0, 2.0, 4.0, 8.0)],
    "sharpness": [{"sharp": curvature, "batch_size": 8.0} for curvature in (5.0, 8.0, 12.0, 24.0)],
}


@pytest.mark.parametrize(
    ("series", "convention"),
    [(series, "isothermal") for series in SERIES] + [("batch size", "ito"), ("sharpness", "stratonovich")],
)
def test_the_law_holds_on_frozen_noise(series, convention):
    """-ln(rate) against S, 1/eta, the barrier and the sharpness: within 5 % of the exponent, at its own s, and closer
    still with the prefactor."""
    shares = []
    for values in SERIES[series]:
        frozen = Frozen(**values)
        found = frozen.forms(convention)
        exact, theorem = found["exact_integral"].log_time, found[f"xie_{convention}"]
        assert theorem.detail["s"] == pytest.approx(frozen.share, rel=1e-8)  # cubes of the step of the path, 0.005
        assert exact == pytest.approx(frozen.exponent, rel=0.05)
        assert exact - frozen.log_prefactor(convention) == pytest.approx(frozen.exponent, abs=2.0 / frozen.exponent)
        assert theorem.log_time == pytest.approx(frozen.exponent + frozen.log_prefactor(convention), rel=1e-8)
        assert theorem.applies
        shares.append(frozen.share)
    assert (np.ptp(shares) > 0.05) == (series == "sharpness")


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_the_measured_prefactor_is_that_of_the_convention(convention):
    """At the lowest noise, E = 97, tau exp(-E) is within 1 % of its own form and far from the two others."""
    frozen = Frozen(batch_size=25.0)
    problem = frozen.problem(convention)
    found = escape(problem, start=[frozen.minimum], target=frozen.target)
    measured = found.times["mean_first_passage_time"].log_time
    assert measured == pytest.approx(found.theory["exact_integral"].log_time, abs=1e-4)  # cells of 0.005: order 2
    for name in CONVENTIONS:
        form = found.theory[f"xie_{name}"]
        assert form.log_time - frozen.exponent == pytest.approx(frozen.log_prefactor(name), abs=1e-6)
        away = measured - form.log_time
        assert (abs(away) < 0.01) == (name == convention)
        assert form.applies == (name == convention)
        if name != convention:
            assert abs(away) > 0.3  # sqrt(2) or 2
            assert form.reason.startswith("the equation is taken in the ")


def test_the_time_on_a_grid_converges_across_the_jump():
    """The exponent across the jump of D is integrated to 1e-8 wherever the jump lies in its cell.

    What is left is first order in the cells, times the share of the time that is spent around the jump.
    """
    frozen = Frozen()
    exact = frozen.forms()["exact_integral"].log_time
    errors = []
    for cells in (200, 300, 450):
        found = escape(frozen.problem(cells=cells), start=[frozen.minimum], target=frozen.target)
        errors.append(abs(found.times["mean_first_passage_time"].log_time - exact))
    # Of the weights exp(-E) at the jump, exp(-E s H_be ...) = 7e-3 and 2e-5, times a cell over the widths of the well
    # and of the saddle, 0.1.
    assert max(errors) < 1e-3 * frozen.exponent / 15.0
    assert errors[2] < 1e-4


def test_the_share_of_the_quartic_well():
    problem = Problem(Landscape(QUARTIC, variables=("x",)), ConstantNoise(temperature=0.1), box((50,), (-2.0, 2.0)))
    minimum = minimum_near(problem, [-1.0])
    way = frozen_way(problem, minimum, pass_between(problem, [-1.0], problem.region("x > 0.8")).saddle)
    assert way.share == pytest.approx(4.0 / 9.0, rel=1e-12)
    assert way.inflection == pytest.approx([-1.0 / math.sqrt(3.0)], rel=1e-9)
    assert (way.minimum_curvature, way.saddle_curvature) == pytest.approx((8.0, -4.0), rel=1e-12)
    assert way.bends == 1


def hessian_noise(loss, grid, **options):
    noise = HessianNoise(learning_rate=0.2, batch_size=4.0, projection="abs", floor=0.5, **options)
    return Problem(Landscape(loss, variables=grid.names), noise, grid)


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_noise_that_follows_the_hessian_is_not_frozen(convention):
    """The times are given all the same: c = eta / 2S = 1/40, E = 40 (4/9 / 8 + 5/9 / 4) = 70/9."""
    problem = hessian_noise(QUARTIC, box((50,), (-2.0, 2.0)), convention=convention)
    found = closed_forms(problem, [-1.0], problem.region("x > 0.8"))
    for name, curvature in (("ito", 8.0), ("stratonovich", math.sqrt(32.0)), ("isothermal", 4.0)):
        form = found[f"xie_{name}"]
        assert form.log_time == pytest.approx(math.log(2.0 * math.pi / curvature) + 70.0 / 9.0, rel=1e-9)
        assert not form.applies
        assert form.reason == "the bracket holds only for noise frozen in two pieces, and D is not that along the way"
        assert form.detail["s"] == pytest.approx(4.0 / 9.0, rel=1e-9)
        assert form.detail["learning_rate_over_twice_batch_size"] == pytest.approx(1.0 / 40.0)


def test_two_curved_ways_side_by_side():
    """Along the circle the loss is -cos(2 phi) / 2: curvatures 2 and -2, half of the climb of 1 before the inflection.

    Two such ways halve the time: E = 40 / 2.
    """
    problem = hessian_noise(RING, box((60, 60), (-1.9, 1.9)))
    found = closed_forms(problem, [-1.0, 0.0], problem.region("x > 0.8"))["xie_ito"]
    assert found.detail["saddles"] == 2.0
    assert found.detail["s"] == pytest.approx(0.5, abs=1e-8)
    assert found.detail["minimum_curvature"] == pytest.approx(2.0, abs=1e-9)
    assert found.detail["saddle_curvature"] == pytest.approx(-2.0, abs=1e-9)
    assert found.log_time == pytest.approx(math.log(math.pi) + 20.0 - math.log(2.0), abs=1e-6)


def test_frozen_noise_along_a_straight_way_in_two_dimensions():
    """(u**2 - 1)**2 + 3 v**2 along turned axes, D = |H| / 80 at minimum and saddle: the transverse widths drop out."""
    u, v = along(0.4)
    c, s = math.cos(0.4), math.sin(0.4)
    sharp = f"where({u}**2 > 1/3, 8, 4)/80"
    entries = [[f"({a!r})*{sharp} + ({b!r})*6/80" for a, b in row] for row in
               (((c * c, s * s), (c * s, -c * s)), ((c * s, -c * s), (s * s, c * c)))]  # fmt: skip
    noise = TensorNoise(diffusion=entries, convention="isothermal")
    landscape = Landscape(f"({u}**2 - 1)**2 + 3*{v}**2", variables=("x", "y"))
    problem = Problem(landscape, noise, box((40, 40), (-2.0, 2.0)))
    found = closed_forms(problem, [-c, -s], problem.region(f"{u} > 0.8"))
    exponent = 80.0 * (4.0 / 9.0 / 8.0 + 5.0 / 9.0 / 4.0)
    assert found["xie_isothermal"].log_time == pytest.approx(math.log(2.0 * math.pi / 4.0) + exponent, rel=1e-8)
    assert found["xie_isothermal"].applies
    assert found["xie_isothermal"].detail["learning_rate_over_twice_batch_size"] == pytest.approx(1.0 / 80.0)
    assert not found["xie_ito"].applies


LINE = box((50,), (-2.0, 2.0))
WELL = Landscape(QUARTIC, variables=("x",))
HESSIAN = HessianNoise(learning_rate=0.2, batch_size=4.0, projection="abs", floor=0.5)


@pytest.mark.parametrize(
    ("landscape", "noise", "reason"),
    [
        (WELL, ConstantNoise(temperature=0.1), "the noise is constant, not proportional to the Hessian"),
        (WELL, TensorNoise(diffusion="0.1 + 0.01*x**2"), "the noise is not proportional to |H| at minimum and saddle"),
        (
            Landscape(drift=["-4*x*(x**2 - 1)"], variables=("x",)),
            TensorNoise(diffusion="0.1 + 0.01*x**2"),
            "the landscape gives a drift and no loss",
        ),
        (Landscape(QUARTIC, variables=("x",), mobility=[[2.0]]), HESSIAN, "the mobility is not the identity"),
        (
            Landscape(QUARTIC, variables=("x",), extra_drift=["0.01"]),
            HESSIAN,
            "the drift is not minus the gradient of the loss",
        ),
    ],
)
def test_why_the_theorem_says_nothing(landscape, noise, reason):
    problem = Problem(landscape, noise, LINE)
    found = closed_forms(problem, [-1.0], problem.region("x > 0.8"))
    for name in CONVENTIONS:
        assert found[f"xie_{name}"].log_time is None
        assert found[f"xie_{name}"].reason == reason
        assert not found[f"xie_{name}"].applies


def test_a_target_on_the_saddle_is_a_doubt_here_too():
    frozen = Frozen()
    problem = frozen.problem()
    found = closed_forms(problem, [frozen.minimum], problem.region("x > 0"))["xie_ito"]
    assert found.log_time is not None
    assert found.reason.startswith("the target begins at the saddle")
