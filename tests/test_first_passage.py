"""When probability leaves: its distribution, its quantiles, regions that absorb; and how far a density is from rest."""

import math

import numpy as np
import pytest
from exact import orders, survival
from problems import box, free, linear, with_drift, with_loss
from scipy.interpolate import CubicHermiteSpline
from scipy.optimize import brentq

from fpsolve.analyse.first_passage import QUANTILES, first_passage
from fpsolve.analyse.motion import evolve
from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError
from fpsolve.model.initial import Gaussian, Point, Uniform
from fpsolve.model.noise import ConstantNoise
from fpsolve.model.problem import Problem
from fpsolve.solve.passage import Passage

# --- the distribution from survival and its slope


def test_an_exponential_decay_is_exact():
    """However far apart the saved times are: the logarithm is a straight line."""
    times = np.array([0.0, 2.0, 7.0])
    found = first_passage(times, 0.3 * np.exp(-times / 1.7), 0.3 * np.exp(-times / 1.7) / 1.7)
    np.testing.assert_allclose(found.survival, np.exp(-times / 1.7), rtol=1e-15)
    np.testing.assert_allclose(found.density, np.exp(-times / 1.7) / 1.7, rtol=1e-15)
    for share in QUANTILES:
        assert found.quantiles[share] == pytest.approx(-1.7 * math.log1p(-share), rel=1e-12)


def test_quantiles_are_of_fourth_order_in_the_spacing():
    """Two decays one after the other, survival (1 + t) exp(-t), density t exp(-t)."""
    exact = brentq(lambda t: (1 + t) * math.exp(-t) - 0.5, 0.0, 9.0, xtol=1e-15)
    counts, errors = (16, 32, 64), []
    for count in counts:
        t = np.linspace(0.0, 8.0 + 1.0 / 3.0, count + 1)
        errors.append(abs(first_passage(t, (1 + t) * np.exp(-t), t * np.exp(-t)).quantiles[0.5] - exact))
    # Where in its interval the median lies differs from grid to grid: orders scatter around 4.
    assert 3.5 < orders(counts, errors).mean() < 5.0
    assert errors[-1] < 1e-6


def test_quantiles_beyond_the_last_time_are_unknown():
    times = np.linspace(0.0, 1.0, 5)
    found = first_passage(times, np.exp(-0.1 * times), 0.1 * np.exp(-0.1 * times))
    assert found.quantiles[0.05] == pytest.approx(-10.0 * math.log(0.95), rel=1e-12)
    assert [found.quantiles[share] for share in QUANTILES[1:]] == [None] * 4
    alone = first_passage(times[:1], np.ones(1), np.ones(1))
    assert set(alone.quantiles.values()) == {None}


def test_nothing_left_is_no_error():
    found = first_passage(np.array([0.0, 1.0, 2.0]), np.array([1.0, 0.0, 0.0]), np.array([1.0, 0.0, 0.0]))
    assert set(found.quantiles.values()) == {1.0}


# --- an interval between absorbing walls, by its sine series


def test_an_interval_between_absorbing_walls():
    """Survival, density and quantiles: second order in the cells, each time half as wide."""
    diffusion, start, late = 0.4, 0.3, 20
    quantiles = [
        brentq(lambda time, s=share: survival(start, time, diffusion, 1.0) - 1.0 + s, 1e-3, 3.0, xtol=1e-14)
        for share in QUANTILES
    ]
    cells, errors = (20, 40, 80), []
    for count in cells:
        problem = free(box((count,), (0.0, 1.0), "absorbing"), [[diffusion]])
        motion = evolve(problem, Point((start,)), until=1.5, save=240, tolerance=1e-7)
        passage = motion.first_passage
        wanted = np.array([survival(start, time, diffusion, 1.0) for time in motion.times[late:]])
        step = 1e-4
        ahead, behind = (
            np.array([survival(start, t + shift, diffusion, 1.0) for t in motion.times[late:]])
            for shift in (step, -step)
        )
        errors.append(
            [
                np.abs(passage.survival[late:] - wanted).max(),
                np.abs(passage.density[late:] - (behind - ahead) / (2 * step)).max(),
                *np.abs(np.array(list(passage.quantiles.values())) - quantiles),
            ]
        )
        np.testing.assert_allclose(passage.survival, motion.mass, rtol=1e-15)
        np.testing.assert_allclose(passage.density, motion.outflow, rtol=1e-15)
    for column in np.transpose(errors):
        np.testing.assert_allclose(orders(cells, column), 2.0, rtol=0, atol=0.25)
    assert np.max(errors[-1]) < 5e-4


# --- regions that absorb


@pytest.mark.parametrize("walls", ["reflecting", ("reflecting", "absorbing")])
def test_a_region_absorbs_as_a_wall_does(walls):
    """Its surface on a face of the grid: the same chain, so the same survival to rounding."""
    there = free(box((30,), (0.0, 1.0), [("reflecting", "absorbing")]), [[0.4]])
    wall = evolve(there, Point((0.31,)), until=1.0, save=4, tolerance=1e-6)
    wide = free(box((45,), (0.0, 1.5), [walls] if isinstance(walls, tuple) else walls), [[0.4]])
    region = evolve(wide, Point((0.31,)), until=1.0, save=4, tolerance=1e-6, absorb=["x > 1"])
    np.testing.assert_allclose(region.mass, wall.mass, rtol=0, atol=1e-12)
    np.testing.assert_allclose(region.outflow, wall.outflow, rtol=0, atol=1e-12)
    np.testing.assert_allclose(region.absorbed["x > 1"], wall.absorbed["x_max"], rtol=0, atol=1e-12)
    np.testing.assert_allclose(region.probability[:, :30], wall.probability, rtol=0, atol=1e-12)
    assert (region.probability[:, 30:] == 0.0).all()
    assert region.mass_error < 1e-12
    np.testing.assert_allclose(list(region.first_passage.quantiles.values())[:3],
                               list(wall.first_passage.quantiles.values())[:3], rtol=1e-9)  # fmt: skip


def test_the_surface_of_a_region_lies_where_it_is_not_where_cells_end():
    """Between 0 and 0.613: second order, though the surface meets cells at other places on every grid."""
    length, errors, cells = 0.613, [], (25, 50, 100, 200)
    for count in cells:
        problem = free(box((count,), (0.0, 1.0), [("absorbing", "reflecting")]), [[0.2]])
        motion = evolve(problem, Gaussian([0.3], width=0.06), times=[0.2, 0.6], tolerance=1e-7,
                        absorb=[f"x > {length}"])  # fmt: skip
        nodes = np.linspace(0.3 - 0.3, 0.3 + 0.3, 241)
        weights = np.exp(-((nodes - 0.3) ** 2) / (2 * 0.06**2))
        wanted = [
            (weights @ [survival(x, time, 0.2, length) for x in nodes]) / weights.sum() for time in motion.times[1:]
        ]
        errors.append(np.abs(motion.mass[1:] - wanted).max())
    assert errors[-1] < 1e-4
    # Where the surface cuts its cell differs from grid to grid, and the error with it: the order over a factor of 8.
    assert orders((cells[0], cells[-1]), (errors[0], errors[-1]))[0] == pytest.approx(2.0, abs=0.5)


def test_several_regions_and_a_wall_share_what_leaves():
    problem = with_loss(box((24,), (-2.0, 2.0), [("absorbing", "reflecting")]), "x**2/2", 1.0)
    motion = evolve(problem, Point([0.0]), until=1.0, save=4, tolerance=1e-5, absorb=["x > 1.5", "x > -1 and x < -0.9"])
    assert list(motion.absorbed) == ["x_min", "x > 1.5", "x > -1 and x < -0.9"]
    assert motion.absorbed["x_min"][-1] == 0.0, "nothing passes the region in between"
    total = sum(values for values in motion.absorbed.values())
    np.testing.assert_allclose(motion.mass + total, 1.0, rtol=0, atol=1e-12)
    assert (np.diff(motion.mass) < 0.0).all()


def test_the_mean_is_the_integral_of_the_survival():
    """That of the escape over a barrier of two thermal energies, which comes from one linear system."""
    problem, target = with_loss(box((40,), (-2.2, 2.2)), "(x**2 - 1)**2", 0.5), "x > 0.8"
    generator = Generator.of(problem)
    start = Point([-1.0]).probability(problem)
    mean = Passage.of(generator.killed(problem.region(target))).mean_time
    wanted = float(start @ mean.floats())
    motion = evolve(problem, start, until=60.0, save=120, tolerance=1e-7, absorb=[target])
    passage = motion.first_passage
    curve = CubicHermiteSpline(motion.times, passage.survival, -passage.density)
    rate = passage.density[-1] / passage.survival[-1]  # the tail is one exponential
    assert float(curve.integrate(0.0, 60.0)) + passage.survival[-1] / rate == pytest.approx(wanted, rel=1e-4)


def test_the_tail_of_a_start_inside_a_region_is_cut_off():
    problem = with_loss(box((40,), (-2.0, 2.0)), "x**2", 0.5)
    motion = evolve(problem, Gaussian([-0.5], width=0.3), until=0.1, save=1, absorb=["x > 0.5"])
    assert motion.mass[0] == pytest.approx(1.0, rel=1e-15)
    assert (motion.probability[0, 25:] == 0.0).all()
    assert motion.absorbed["x > 0.5"][0] == 0.0


@pytest.mark.parametrize(
    ("absorb", "start", "message"),
    [
        (["x > 5"], Point([0.0]), r"^evolve\.absorb: the region 'x > 5' holds no cell of the grid"),
        (["x > -9"], Point([0.0]), r"^evolve\.absorb: the region 'x > -9' holds every cell of the grid"),
        (["x > 0"], Uniform(), r"^initial: 0\.5 of the probability starts inside a region that absorbs\. "),
        (["z > 0"], Point([0.0]), r'^evolve\.absorb: "z" in "z > 0" is not a known name'),
    ],
)
def test_bad_regions_are_refused(absorb, start, message):
    problem = with_loss(box((20,), (-2.0, 2.0)), "x**2", 0.5)
    with pytest.raises(CaseError, match=message):
        evolve(problem, start, until=1.0, save=1, absorb=absorb)


# --- relative entropy to rest


def gaussian_entropy(mean, variance, rest):
    """Relative entropy of a normal density to one of mean 0."""
    return 0.5 * (variance / rest - 1.0 - math.log(variance / rest) + mean**2 / rest)


def test_the_relative_entropy_of_ornstein_uhlenbeck():
    """Between Gaussians, second order in the cells; it never grows."""
    cells, errors = (32, 64, 128), []
    for count in cells:
        problem = with_loss(box((count,), (-4.0, 4.0)), "x**2/2", 0.4)
        motion = evolve(problem, Gaussian([1.0], width=0.4), until=2.0, save=8, tolerance=1e-7, relative_entropy=True)
        wanted = [
            gaussian_entropy(math.exp(-t), 0.4 + (0.16 - 0.4) * math.exp(-2 * t), 0.4) for t in motion.times
        ]  # fmt: skip
        errors.append(np.abs(motion.relative_entropy - wanted)[1:].max())
        assert (np.diff(motion.relative_entropy) < 0.0).all()
        assert motion.relative_entropy[0] == pytest.approx(wanted[0], rel=1e-6), "sums over a Gaussian are exact"
    np.testing.assert_allclose(orders(cells, errors), 2.0, rtol=0, atol=0.1)


def test_the_relative_entropy_never_grows_with_a_current_either():
    grid = box((14, 14), (-2.0, 2.0))
    problem = with_drift(grid, linear([[-1.0, 1.5], [-1.5, -1.0]]), [[0.5, 0.2], [0.2, 0.3]])
    motion = evolve(problem, Point([1.0, 0.5]), until=8.0, save=16, tolerance=1e-6, relative_entropy=True)
    assert (np.diff(motion.relative_entropy) < 1e-12).all()
    assert (motion.relative_entropy > -1e-12).all()
    assert motion.relative_entropy[0] > 1.0


def test_the_relative_entropy_is_to_rest_as_it_is_at_the_time():
    """After a jump of the temperature the same density is somewhere else: a density at rest no longer is."""
    from_rest = [0.4, 0.1]
    noise = ConstantNoise(temperature="where(t < 1, 0.4, 0.1)")
    landscape = with_loss(box((40,), (-4.0, 4.0)), "x**2/2", 0.4).landscape
    problem = Problem(landscape, noise, box((40,), (-4.0, 4.0)))
    motion = evolve(problem, Gaussian([0.0], width=math.sqrt(0.4)), times=[0.5, 1.0], tolerance=1e-4,
                    relative_entropy=True)  # fmt: skip
    assert motion.relative_entropy[1] == pytest.approx(0.0, abs=1e-6)
    assert motion.relative_entropy[2] == pytest.approx(gaussian_entropy(0.0, *from_rest), abs=1e-2)


def test_there_is_none_where_there_is_no_rest_or_no_question():
    grid = box((16,), (-2.0, 2.0), [("absorbing", "reflecting")])
    open_walls = evolve(with_loss(grid, "x**2", 0.5), Point([0.0]), until=1.0, save=2, relative_entropy=True)
    closed = with_loss(box((16,), (-2.0, 2.0)), "x**2", 0.5)
    region = evolve(closed, Point([0.0]), until=1.0, save=2, relative_entropy=True, absorb=["x > 1"])
    unasked = evolve(closed, Point([0.0]), until=1.0, save=2)
    assert open_walls.relative_entropy is region.relative_entropy is unasked.relative_entropy is None
    assert unasked.first_passage is None
    assert open_walls.first_passage is not None
