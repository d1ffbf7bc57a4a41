"""The coarse chain: against closed forms at low noise, exact eigenvalues, and arithmetic of any precision."""

import mpmath
import numpy as np
import pytest
from problems import THREE_HOLES

from fpsolve.analyse.basins import find_basins
from fpsolve.analyse.coarse import CoarseChain, coarse_chain
from fpsolve.analyse.passage_integral import InapplicableError
from fpsolve.discretise.generator import Generator
from fpsolve.model.grid import Axis, Grid
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import ConstantNoise
from fpsolve.model.problem import Problem

# Sums and eliminations of a few thousand positive terms.
ROUNDING = 1e-11


def problem_of(loss, temperature, **axes):
    return Problem(Landscape(loss, variables=tuple(axes)), ConstantNoise(temperature=temperature), Grid(**axes))


def chain_of(problem):
    return coarse_chain(Generator.of(problem), find_basins(problem))


def three_holes(temperature, cells=80):
    return problem_of(THREE_HOLES, temperature, x=(-2.2, 2.2, cells), y=(-1.6, 2.6, cells))


def eyring_kramers(basins, saddle, number):
    """Logarithm of the rate over a saddle out of a basin, |l| / (2 pi) sqrt(det H_a / |det H_b|) exp(-barrier / T)."""
    well, top = basins.minima[number].eigenvalues, saddle.point.eigenvalues
    height = saddle.thermal_heights[saddle.basins.index(number)]
    return np.log(-top[0] / (2.0 * np.pi)) + 0.5 * (np.log(well).sum() - np.log(np.abs(top)).sum()) - height


@pytest.mark.parametrize("temperature", [0.08, 0.02, 0.006])
def test_rates_between_three_holes_at_low_noise(temperature):
    """Every rate to Eyring and Kramers, whose relative error is of order T / barrier; barriers up to 435 T."""
    problem = three_holes(temperature, 80 if temperature > 0.01 else 160)
    basins = find_basins(problem)
    chain = coarse_chain(Generator.of(problem), basins)
    for saddle in basins.saddles:
        for one, other in (saddle.basins, saddle.basins[::-1]):
            closed_form = eyring_kramers(basins, saddle, one)
            # Discretisation is below 1 %; the shallow well, 0.53 deep, has the largest correction.
            assert chain.log_rates[one, other] == pytest.approx(closed_form, abs=0.5 * temperature / 0.53 + 0.01)


def test_shares_are_those_of_the_wells_at_rest():
    """At low noise a core's share is the probability of its basin at rest."""
    problem = three_holes(0.1)
    chain = chain_of(problem)
    basins = chain.basins
    rest = np.exp(-(problem.landscape.loss(problem.grid.positions()) - basins.minima[0].loss) / 0.1)
    occupation = np.bincount(basins.label, rest) / rest.sum()
    assert chain.shares == pytest.approx(occupation, rel=0.02)  # exp(-4): what starts over before it is in the core
    assert chain.shares.sum() == pytest.approx(1.0, abs=ROUNDING)


def test_the_chain_at_rest_is_that_of_the_shares():
    for problem in (three_holes(0.6, 50), three_holes(0.1, 50), three_holes(0.01, 50)):
        chain = chain_of(problem)
        assert chain.imbalance < ROUNDING
        assert chain.detailed_balance < 10.0 * ROUNDING  # exponents of up to 500


def test_relaxation_times_are_those_of_the_fine_chain():
    """Against all eigenvalues of a small generator, dense; the coarse chain's are high by the share of recrossings."""
    problem = three_holes(0.2, 30)
    generator = Generator.of(problem)
    exact = np.sort(-np.linalg.eigvals(generator.matrix().toarray()).real)[1:3]
    coarse = np.exp(-chain_of(problem).log_relaxation_times)
    assert coarse[0] == pytest.approx(exact[0], rel=0.05)
    assert coarse[1] == pytest.approx(exact[1], rel=0.1)  # out of the shallow well: a barrier of 2.6 T


def test_a_chain_out_of_balance_keeps_its_shares():
    """A drift along the ring r = 1: transitions go round one way more than the other."""
    landscape = Landscape(
        "3*(x**2 + y**2 - 1)**2 + 0.5*x*(x**2 - 3*y**2)", variables=("x", "y"), extra_drift=["-0.4*y", "0.4*x"]
    )
    problem = Problem(landscape, ConstantNoise(temperature=0.15), Grid(x=(-1.8, 1.8, 50), y=(-1.8, 1.8, 50)))
    chain = chain_of(problem)
    assert len(chain.cores) == 3
    assert chain.imbalance < ROUNDING
    assert chain.detailed_balance > 0.1
    # The grid breaks the three-fold symmetry: a few per cent at 50 cells.
    assert chain.shares == pytest.approx(1.0 / 3.0, rel=0.02)


def test_transitions_in_a_row_go_from_neighbour_to_neighbour():
    """Four wells in a row: from one to the next but one every trajectory passes a core, in one dimension."""
    chain = chain_of(problem_of("cos(2*pi*x) + 0.1*x", 0.1, x=(0.0, 4.0, 200)))
    assert np.isfinite(chain.log_rates).tolist() == (np.abs(np.subtract.outer(range(4), range(4))) == 1).tolist()


def test_mean_times_and_relaxation_against_many_digits():
    """A made-up chain whose rates range over 500 orders of magnitude."""
    generator = np.random.default_rng(3)
    log_rates = -generator.uniform(0.0, 1150.0, (5, 5))
    np.fill_diagonal(log_rates, -np.inf)
    chain = CoarseChain(basins=None, cores=(None,) * 5, log_flux=log_rates, log_share=np.zeros(5))
    with mpmath.workdps(3000):
        rates = mpmath.matrix([[mpmath.exp(float(entry)) for entry in row] for row in log_rates])
        matrix = rates - mpmath.diag([mpmath.fsum(rates[row, :]) for row in range(5)])
        for target in range(5):
            others = [state for state in range(5) if state != target]
            inner = mpmath.matrix([[-matrix[one, other] for other in others] for one in others])
            times = mpmath.lu_solve(inner, mpmath.ones(4, 1))
            wanted = [float(mpmath.log(time)) for time in times]
            assert chain.log_mean_times[others, target] == pytest.approx(wanted, abs=1e-11)  # rounding of 1150
        decays = sorted(-mpmath.re(value) for value in mpmath.eig(matrix, left=False, right=False))
        wanted = [-float(mpmath.log(decay)) for decay in decays[1:]]
    assert chain.log_relaxation_times == pytest.approx(wanted, abs=1e-11)


@pytest.mark.parametrize(
    ("loss", "axis", "reason"),
    [
        ("x**2", (-1.0, 1.0, 20), "the loss has 1 minimum"),
        ("(x**2 - 1)**2", Axis("x", -2.0, 2.0, 40, ("reflecting", "absorbing")), "probability is lost through x_max"),
        ("cos(pi*x)", (-40.0, 40.0, 800), "the loss has 40 minima"),
        ("(x**2 - 1)**4", (-2.0, 2.0, 41), "the well at x = -1 is wider than the grid"),
        ("0.02*(x**2 - 1)**2", (-2.0, 2.0, 40), "share"),
    ],
)
def test_why_there_is_no_coarse_chain(loss, axis, reason):
    with pytest.raises(InapplicableError) as error:
        chain_of(problem_of(loss, 0.1, x=axis))
    assert reason in str(error.value)
