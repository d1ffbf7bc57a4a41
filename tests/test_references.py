"""Escape times, rates and committors of test problems, against values that other methods agree on.

Each value has its source: quadrature in high precision, spectral elements and P4 finite elements, unless noted. The
tolerances are errors of the grid, of second order; measured ones are given.
"""

import numpy as np
import pytest
from exact import orders
from problems import (
    PLANE_AXES,
    QUARTIC,
    SPACE_AXES,
    box,
    directions,
    rotated_loud_well,
    rotated_well_in_space,
    with_loss,
)

from fpsolve.analyse.escape import escape
from fpsolve.analyse.spectrum import spectrum
from fpsolve.discretise.generator import Generator
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import ConstantNoise, TensorNoise
from fpsolve.model.problem import Problem
from fpsolve.model.region import point_weights
from fpsolve.solve.reactive import Reactive
from fpsolve.solve.stationary import stationary

FIRST = ("mean_first_passage_time",)
SLOWEST = ("quasi_stationary",)


def first_passage(problem, start, target):
    found = escape(problem, start=start, target=target, definitions=FIRST)
    return found.times["mean_first_passage_time"].value


def slowest_rate(problem, start, target):
    found = escape(problem, start=start, target=target, definitions=SLOWEST)
    return 1.0 / found.times["quasi_stationary"].value


# On a line: nested quadrature in 25 digits, composite spectral quadrature, and an ODE solver

QUARTIC_TIMES = {
    (3, 0): 12.6983500580613,
    (3, 1): 26.6400877981141,
    (5, 0): 90.4759398752311,
    (5, 1): 182.417672985581,
    (8, 0): 1749.19088458468,
    (8, 1): 3500.03481118679,
    (12, 0): 93559.0148916216,
    (12, 1): 187119.840767335,
    (20, 0): 2.74830549171648e8,
    (20, 1): 5.49661100352072e8,
}
# (temperature, start, target): escape from a sharp and from a flat minimum of equal depth over the same saddle
SHARP_AND_FLAT = {
    (0.2, -1.0, "x > 0"): 87.7725221364504,
    (0.2, -1.0, "x > 2"): 206.550384148107,
    (0.2, 2.0, "x < 0"): 255.354222067501,
    (0.2, 2.0, "x < -1"): 453.666077054238,
    (0.1, -1.0, "x > 0"): 12597.8790570733,
    (0.1, -1.0, "x > 2"): 27450.3771317647,
    (0.1, 2.0, "x < 0"): 32303.4270215919,
    (0.1, 2.0, "x < -1"): 59715.4171750224,
    (0.05, -1.0, "x > 0"): 275332830.035455,
    (0.05, -1.0, "x > 2"): 582502868.399935,
    (0.05, 2.0, "x < 0"): 644018810.936534,
    (0.05, 2.0, "x < -1"): 1221287111.72562,
}
# (c, floor L0, target): D = c (L + L0), Ito; from -1 (Mori, Ziyin, Liu & Ueda 2021)
PROPORTIONAL_TO_LOSS = {
    (0.3, 0.1, 0): 5048.49805306311,
    (0.3, 0.1, 1): 10098.4409163378,
    (0.15, 0.1, 0): 15507147.5579234,
    (0.15, 0.1, 1): 31014296.8832061,
    (0.2, 0.05, 0): 9817837.02235062,
    (0.2, 0.05, 1): 19635675.7730468,
    (0.05, 0.5, 0): 3335073505.87746,
    (0.05, 0.5, 1): 6670147013.71678,
}


@pytest.mark.parametrize(("depth", "target"), QUARTIC_TIMES)
def test_the_quartic_well(depth, target):
    """Measured at 800 cells: 1.0e-6 at the shallowest barrier, 1e-9 at the deepest."""
    found = first_passage(with_loss(box((800,), (-2.0, 1.2)), QUARTIC, 1.0 / depth), (-1.0,), f"x > {target}")
    assert found == pytest.approx(QUARTIC_TIMES[depth, target], rel=1.5e-6)


@pytest.mark.parametrize(("temperature", "start", "target"), SHARP_AND_FLAT)
def test_a_sharp_and_a_flat_minimum(temperature, start, target):
    """The loss with L' = (x + 1) x (x - 2) (27/20 - 33/20 x + 3/5 x**2); measured at 800 cells: 1.3e-6 at worst."""
    drift = "-(x + 1)*x*(x - 2)*(27/20 - 33/20*x + 3/5*x**2)"
    problem = Problem(
        Landscape(drift=[drift], variables=("x",)),
        ConstantNoise(diffusion=[[temperature]]),
        box((800,), (-2.5, 3.5)),
    )
    assert first_passage(problem, (start,), target) == pytest.approx(
        SHARP_AND_FLAT[temperature, start, target], rel=2e-6
    )


@pytest.mark.parametrize(("share", "floor", "target"), PROPORTIONAL_TO_LOSS)
def test_noise_in_proportion_to_the_loss(share, floor, target):
    """Weights midway along the edges: 2.8e-6 and 1.8e-7 measured at worst.

    Of fourth order, where the target lies beyond the saddle and the noise is not so loud (0.3) that what is left at 800
    cells, 1e-7, is small beside the part of second order.
    """
    noise = TensorNoise(diffusion=[[f"{share}*((x**2 - 1)**2 + {floor})"]])
    wanted, errors = PROPORTIONAL_TO_LOSS[share, floor, target], []
    for cells, bound in ((400, 3.5e-6), (800, 2.2e-7)):
        problem = Problem(Landscape(QUARTIC, variables=("x",)), noise, box((cells,), (-4.0, 1.6)))
        found = first_passage(problem, (-1.0,), f"x > {target}")
        errors.append(abs(found / wanted - 1.0))
        assert errors[-1] < bound
    if target == 1 and share < 0.3:
        assert abs(orders((400, 800), errors)[0] - 4.0) < 0.1


def test_the_rate_of_leaving_an_interval():
    """D = 0.4 between absorbing ends of [0, 1]: lambda_0 = 0.4 pi**2."""
    problem = Problem(
        Landscape(drift=["0"], variables=("x",)),
        ConstantNoise(diffusion=[[0.4]]),
        box((400,), (0.0, 1.01), [("absorbing", "reflecting")]),
    )
    assert slowest_rate(problem, (0.3,), "x > 1") == pytest.approx(3.94784176043574, rel=1e-5)


# In the plane

ROUND = ((1.0, 0.0), (0.0, 1.0))
OBLIQUE = ((1.0, 0.6), (0.6, 0.5))
# (mobility, share of the quarter turn, temperature): time from (-1, 0) to x > 1, slowest rate of the full well
WELL_TIMES = {
    (OBLIQUE, 0, 0.25): (100.36118442518, 0.0184951862210079),
    (OBLIQUE, 0, 0.15): (1201.89972133393, 0.00163794993993396),
    (OBLIQUE, 0, 0.1): (31445.2024854774, 6.34873292175478e-05),
    (ROUND, 1, 0.25): (52.0503634811331, 0.0399923952467384),
    (ROUND, 1, 0.15): (717.488909846006, 0.0027971059733713),
    (ROUND, 1, 0.1): (19721.9657293455, 0.00010142419002635),
}


def well(cells, mobility, turn, temperature, upper):
    """U = (x**2 - 1)**2 + y**2, drift -M grad U + turn R grad U, D = T M."""
    extra = [f"{-turn}*2*y", f"{turn}*4*x*(x**2 - 1)"] if turn else None
    landscape = Landscape(f"{QUARTIC} + y**2", variables=("x", "y"), mobility=mobility, extra_drift=extra)
    grid = box((cells, cells), [(-2.1, upper), (-3.2, 3.2)])
    return Problem(landscape, ConstantNoise(temperature=temperature), grid)


@pytest.mark.parametrize(("mobility", "turn", "temperature"), WELL_TIMES)
def test_a_full_mobility_and_an_irreversible_drift(mobility, turn, temperature):
    """Second order; the irreversible drift comes to it from above: 1.8e-4 at T = 0.1 and 384 cells (measured)."""
    cells, wanted = (192, 384) if turn else (64, 128), WELL_TIMES[mobility, turn, temperature][0]
    errors = [
        abs(first_passage(well(n, mobility, turn, temperature, 1.2), (-1.0, 0.0), "x > 1") / wanted - 1.0)
        for n in cells
    ]
    assert errors[1] < (2.5e-4 if turn else 2.5e-3)
    assert abs(orders(cells, errors)[0] - 2.0) < 0.1


@pytest.mark.parametrize(
    ("mobility", "turn", "temperature", "bound"),
    [(OBLIQUE, 0, 0.25, 2e-3), (OBLIQUE, 0, 0.15, 5e-3), (OBLIQUE, 0, 0.1, 1e-2), (ROUND, 1, 0.25, 5e-2)],
)
def test_the_slowest_rate_of_the_full_well(mobility, turn, temperature, bound):
    """Nearly second order already at 32 and 64 cells."""
    cells, wanted = (32, 64), WELL_TIMES[mobility, turn, temperature][1]
    found = [spectrum(well(n, mobility, turn, temperature, 2.1), 2).eigenvalues[1] for n in cells]
    assert all(np.imag(value) == 0.0 for value in found)
    errors = [abs(np.real(value) / wanted - 1.0) for value in found]
    assert errors[1] < bound
    assert abs(orders(cells, errors)[0] - 2.0) < 0.2


def test_a_separable_well_takes_the_time_of_a_line():
    """U = (x**2 - 1)**2 + w/2 y**2 to x = 0, T = 0.1, for any w."""
    for stiffness in (1.0, 4.0):
        problem = with_loss(box((200, 40), [(-2.0, 0.4), (-2.2, 2.2)]), f"{QUARTIC} + {0.5 * stiffness}*y**2", 0.1)
        assert first_passage(problem, (-1.0, 0.3), "x > 0") == pytest.approx(12762.67562715, rel=2e-7)


# (alpha, noise): time from (-1, 0) to x = 0, and the slowest rate with absorption there
MAIER_STEIN = {
    (1, 0.2): (24.054888757516, 0.0435394322330046),
    (1, 0.1): (270.610344048224, 0.00371984055215328),
    (1, 0.07): (2197.30952445659, 0.000455545404585585),
    (1, 0.05): (37038.8780558052, 2.70004387630394e-05),
    (3, 0.2): (14.7332790859675, 0.0737866953011723),
    (3, 0.1): (140.627569604685, 0.007210249036962),
    (3, 0.07): (1052.44836224549, 0.000952264998423738),
    (3, 0.05): (16688.8530603819, 5.99296728313541e-05),
}


@pytest.mark.parametrize(("alpha", "noise"), MAIER_STEIN)
def test_the_maier_stein_system(alpha, noise):
    """Drift (x - x**3 - alpha x y**2, -y (1 + x**2)), D = noise/2: a gradient for alpha = 1 only.

    Measured at 96 cells: 4e-5 at worst for the gradient, where errors of two signs nearly cancel; 2.3e-3 else.
    """
    landscape = Landscape(drift=[f"x - x**3 - {alpha}*x*y**2", "-y*(1 + x**2)"], variables=("x", "y"))
    cells, time, rate = (48, 96), *MAIER_STEIN[alpha, noise]
    errors = []
    for count in cells:
        grid = box((count, count), [(-2.2, 0.2), (-1.8, 1.8)])
        problem = Problem(landscape, ConstantNoise(temperature=0.5 * noise), grid)
        found = escape(problem, start=(-1.0, 0.0), target="x > 0", definitions=FIRST + SLOWEST).times
        errors.append(
            [
                abs(found["mean_first_passage_time"].value / time - 1.0),
                abs(1.0 / found["quasi_stationary"].value / rate - 1.0),
            ]
        )
    if alpha == 1:
        assert max(errors[1]) < 5e-5
    else:
        assert max(errors[1]) < 2.5e-3
        assert np.abs(orders(cells, np.array(errors)[:, 0]) - 2.0).max() < 0.1
        assert np.abs(orders(cells, np.array(errors)[:, 1]) - 2.0).max() < 0.1


THREE_HOLE = (
    "3*exp(-x**2 - (y - 1/3)**2) - 3*exp(-x**2 - (y - 5/3)**2) - 5*exp(-(x - 1)**2 - y**2)"
    " - 5*exp(-(x + 1)**2 - y**2) + 0.2*x**4 + 0.2*(y - 1/3)**4"
)
DISCS = ("(x + 1)**2 + y**2 < 0.01", "(x - 1)**2 + y**2 < 0.01")
COMMITTORS = {
    1.67: {
        (0.0, 0.3): 0.5,
        (-0.4, 1.0): 0.29539058075185,
        (0.5, -0.3): 0.95147636673157,
        (0.3, 1.6): 0.555815423435853,
    },
    6.67: {
        (0.0, 0.3): 0.5,
        (-0.4, 1.0): 0.291089823811896,
        (0.5, -0.3): 0.999902928759912,
        (0.3, 1.6): 0.5117518538321,
    },
}
# flux per time, rate from disc to disc, mean time from the centre of one disc to the other
THREE_HOLE_RATES = {
    1.67: (0.018651647013247, 0.0373032939969679),
    6.67: (9.1334283843553e-08, 1.82668567169754e-07),
}


@pytest.mark.parametrize("inverse", THREE_HOLE_RATES)
def test_the_three_hole_potential(inverse):
    """Metzner, Schuette & Vanden-Eijnden (2006), T = 1/inverse; isoparametric P2 finite elements.

    Measured at 88, 176, 352 cells across: rates 1.4e-5, 2e-6 to 6e-6, 4e-7; committors 7e-4, 1.9e-4, 5e-5 at worst.
    """
    problem = with_loss(box((176, 168), [(-2.2, 2.2), (-1.6, 2.6)]), THREE_HOLE, 1.0 / inverse)
    generator = Generator.of(problem)
    chain = Reactive.of(generator, [problem.region(disc) for disc in DISCS], stationary(generator))
    flux, rate = THREE_HOLE_RATES[inverse]
    found = chain.flux(0)[1]
    assert float(found.floats()) == pytest.approx(flux, rel=1e-5)
    assert float((found / chain.last_visited(0).sum()).floats()) == pytest.approx(rate, rel=1e-5)
    committor = chain.committor(1).floats()
    for point, wanted in COMMITTORS[inverse].items():
        assert point_weights(problem.grid, point, "point").read(committor) == pytest.approx(wanted, abs=2.5e-4)


def test_the_three_hole_time_from_disc_to_disc():
    """From the centre of one disc to the other, T = 1/1.67 (finite elements: 26.8201)."""
    problem = with_loss(box((176, 168), [(-2.2, 2.2), (-1.6, 2.6)]), THREE_HOLE, 1.0 / 1.67)
    found = escape(problem, start=(-1.0, 0.0), target=DISCS[1], core=DISCS[0], definitions=[*FIRST, "transition_path"])
    assert found.times["mean_first_passage_time"].value == pytest.approx(26.8201, rel=2e-5)
    assert found.times["transition_path"].value == pytest.approx(1.0 / 0.0373032939969679, rel=1e-5)


@pytest.mark.parametrize(("target", "wanted"), [(0, 12.5723540811238), (1, 26.4948945568649)])
def test_a_loud_well(target, wanted):
    """A full tensor that changes from place to place, Ito: 1-D quadrature against an ODE solver."""
    q1 = directions(PLANE_AXES)[0]
    cells = (128, 256)
    errors = [
        abs(first_passage(rotated_loud_well(n), tuple(-PLANE_AXES[0]), f"{q1} > {target}") / wanted - 1.0)
        for n in cells
    ]
    assert abs(orders(cells, errors)[0] - 2.0) < 0.1
    assert errors[1] < 1.5e-4


# In space

SPACE_TIMES = {
    (0.4, 0): 7.70532561816642,
    (0.4, 1): 16.5671565912295,
    (0.25, 0): 33.9457442876798,
    (0.25, 1): 69.2636447608363,
    (0.15, 0): 467.175375667554,
    (0.15, 1): 935.932104559644,
}


@pytest.mark.slow
@pytest.mark.parametrize(("temperature", "target"), SPACE_TIMES)
def test_a_rotated_well_in_space(temperature, target):
    """(q1**2 - 1)**2 + 3/2 q2**2 + 5/2 q3**2, axes turned: exact, the time along q1; h = 0.2."""
    q1 = directions(SPACE_AXES)[0]
    found = first_passage(rotated_well_in_space(24, temperature), tuple(-SPACE_AXES[0]), f"{q1} > {target}")
    assert found == pytest.approx(SPACE_TIMES[temperature, target], rel=0.1 * 0.2**2)
