"""Grids cut to a domain: discs, annuli, holes; reflecting and absorbing surfaces."""

import math

import numpy as np
import pytest
from exact import orders
from problems import free, with_drift, with_loss
from scipy.special import jn_zeros, jnp_zeros

import fpsolve
from fpsolve.analyse.basins import find_basins
from fpsolve.analyse.escape import escape
from fpsolve.analyse.motion import evolve
from fpsolve.analyse.rest import stationary
from fpsolve.analyse.spectrum import spectrum
from fpsolve.case import load_case
from fpsolve.discretise.generator import Generator
from fpsolve.discretise.stencil import Stencil
from fpsolve.discretise.surfaces import first_outside
from fpsolve.errors import CaseError
from fpsolve.model.domain import Domain
from fpsolve.model.grid import Axis, Grid
from fpsolve.model.initial import Density, Gaussian, Point, Saved, Uniform
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import TensorNoise
from fpsolve.model.problem import Problem
from fpsolve.model.region import point_weights
from fpsolve.solve.passage import Passage
from fpsolve.solve.walkers import draw_starts, walk

DISC = "x**2 + y**2 < 1"
RADIUS = "sqrt(x**2 + y**2)"
ANNULUS = f"0.25 < {RADIUS} and {RADIUS} < 1"
HOLE = "x**2 + y**2 > 0.09"


def cut(cells, text=DISC, wall="reflecting", half=1.1):
    """A square of so many cells along each axis, cut to a domain."""
    return Grid(x=(-half, half, cells), y=(-half, half, cells), domain=Domain.parse(text, ("x", "y"), {}, wall))


def loud_annulus(cells):
    """D = |r| I without a drift."""
    noise = TensorNoise(diffusion=[[RADIUS, "0"], ["0", RADIUS]])
    return Problem(Landscape(drift=["0", "0"], variables=("x", "y")), noise, cut(cells, ANNULUS))


# --- which cells, and what they stand for


def test_a_cell_belongs_by_its_centre():
    grid = cut(20)
    centres = np.array(np.meshgrid(*(axis.centres for axis in grid.axes), indexing="ij")).reshape(2, -1)
    np.testing.assert_array_equal(grid.active, (centres**2).sum(axis=0) < 1.0)
    np.testing.assert_array_equal(grid.positions()[:, grid.active], centres[:, grid.active])


def test_shares_make_integrals_of_second_order():
    """Of x**2 + x over a half disc: the sum over cells, exact value pi/8 + 2/3."""
    errors = []
    for cells in (20, 40, 80, 160):
        grid = cut(cells, f"{DISC} and x > 0.0")
        x, _ = grid.positions()
        errors.append(abs(float(((x**2 + x) * grid.volumes) @ grid.active) - (math.pi / 8.0 + 2.0 / 3.0)))
    # The places of the cells beside the surface are irregular: the order is that of the whole range.
    assert math.log2(errors[0] / errors[-1]) / 3.0 > 1.9
    assert errors[-1] < 1e-4


def test_shares_are_exact_where_the_surface_is_a_plane():
    grid = Grid(x=(0.0, 1.0, 7), y=(0.0, 1.0, 5), domain=Domain.parse("x + 0.37*y < 0.71", ("x", "y")))
    area = 0.5 * (0.71 + 0.34)  # a trapezium
    assert (grid.volumes @ grid.active) == pytest.approx(area, rel=1e-12)


def test_a_domain_of_everything_changes_nothing():
    whole = Grid(x=(-1.0, 1.0, 12), y=(-1.0, 1.0, 9))
    same = Grid(x=(-1.0, 1.0, 12), y=(-1.0, 1.0, 9), domain=Domain.parse("x > -9", ("x", "y")))
    first, second = (Generator.of(with_loss(grid, "x**2 + x*y + y**2", 0.3)) for grid in (whole, same))
    np.testing.assert_allclose(first.edges.forward, second.edges.forward, rtol=1e-14)
    np.testing.assert_allclose(same.volumes, whole.volumes, rtol=1e-14)


def test_slopes_are_one_sided_beside_the_surface():
    grid = cut(20, ANNULUS)
    slopes = grid.differences(3.0 * grid.positions()[0]) / grid.stretch()
    found = slopes[0][grid.active]
    assert (np.isclose(found, 3.0) | (found == 0.0)).all()  # 0: neither neighbour is inside
    assert (found == 0.0).sum() <= 4


def test_a_long_edge_does_not_jump_across_a_hole():
    grid = cut(41, "abs(x) > 0.03")  # one column of cells
    start = np.array([grid.strides @ [19, 20]])
    assert np.isfinite(first_outside(grid, start, np.array([[2.0], [0.0]]))).all()
    assert np.isinf(first_outside(grid, start, np.array([[0.0], [5.0]]))).all()


# --- reflecting surfaces


def test_density_is_one_over_diffusion_on_an_annulus():
    """D = |r| I: p = 1 / (2 pi (1 - 1/4) r) to second order, and nothing flows."""
    errors = []
    for cells in (20, 40, 80, 160):
        problem = loud_annulus(cells)
        rest, active = stationary(problem), problem.grid.active
        wanted = 1.0 / (2.0 * math.pi * 0.75 * np.hypot(*problem.grid.positions()[:, active]))
        errors.append(np.abs(rest.density[active] / wanted - 1.0).max())
        assert rest.reversible
        assert np.abs(rest.current).max() < 1e-13  # rounding
        assert abs(rest.probability.sum() - 1.0) < 1e-12
        assert (rest.probability[~active] == 0.0).all()
    assert abs(math.log2(errors[0] / errors[-1]) / 3.0 - 2.0) < 0.1
    assert errors[-1] < 5e-5


def test_ornstein_uhlenbeck_in_a_disc():
    """p ~ exp(-r**2 / (2 T)) entry by entry; <r**2> = 2 T - 1 / (exp(1/(2 T)) - 1) to second order."""
    temperature, errors = 0.3, []
    wanted = 2.0 * temperature - 1.0 / math.expm1(0.5 / temperature)
    for cells in (20, 40, 80, 160):
        problem = with_loss(cut(cells), "0.5*(x**2 + y**2)", temperature)
        rest, grid = stationary(problem), problem.grid
        squares = (grid.positions() ** 2).sum(axis=0)
        level = np.log(rest.density[grid.active]) + 0.5 * squares[grid.active] / temperature
        assert np.ptp(level) < 1e-12  # rounding: exact but for a constant
        errors.append(abs(float(squares @ rest.probability) - wanted))
    assert math.log2(errors[0] / errors[-1]) / 3.0 > 1.9
    assert errors[-1] < 1e-4


def test_a_full_tensor_in_a_disc_stays_exact():
    diffusion = 0.2 * np.array([[1.0, 0.7], [0.7, 0.8]])
    problem = with_loss(cut(40), "0.5*(x**2 + y**2)", 0.2, [[1.0, 0.7], [0.7, 0.8]])
    np.testing.assert_allclose(problem.diffusion.constant, diffusion)
    rest, active = stationary(problem), problem.grid.active
    level = np.log(rest.density[active]) + 2.5 * (problem.grid.positions()[:, active] ** 2).sum(axis=0)
    assert np.ptp(level) < 1e-12


def test_relaxation_in_a_disc_is_right_to_first_order():
    """Neumann's eigenvalue D j'11**2: the error falls at least with the cell size, on average."""
    errors = []
    for cells in (20, 40, 80):
        rate = float(spectrum(free(cut(cells), np.diag([0.5, 0.5])), 2).eigenvalues[1])
        errors.append(abs(rate / (0.5 * jnp_zeros(1, 1)[0] ** 2) - 1.0))
    assert errors[-1] < errors[0] / 3.0
    assert errors[-1] < 0.01


def test_a_driven_disc_keeps_its_mass():
    """A rotation about the centre leaves the uniform density as it is, to first order at the surface."""
    errors = []
    for cells in (30, 60):
        problem = with_drift(cut(cells), ["-y", "x"], np.diag([0.2, 0.2]))
        rest, active = stationary(problem), problem.grid.active
        assert abs(rest.probability.sum() - 1.0) < 1e-12
        errors.append(float((np.abs(rest.density - 1.0 / math.pi) * problem.grid.volumes)[active].sum()))
    assert errors[1] < 0.6 * errors[0]
    motion = evolve(problem, Point([0.5, 0.0]), until=1.0, save=4, relative_entropy=True)
    assert motion.mass_error < 1e-12
    assert motion.smallest_density >= 0.0


@pytest.mark.parametrize("stepper", ["implicit", "stabilised", "exponential"])
def test_steppers_know_cells_outside(stepper):
    motion = evolve(loud_annulus(24), Point([0.6, 0.0]), times=[0.1, 3.0], tolerance=1e-7, stepper=stepper)
    active = motion.timeline.at(0.0).grid.active
    assert (motion.probability[:, ~active] == 0.0).all()
    assert motion.mass_error < 1e-12
    rest = stationary(loud_annulus(24)).probability
    # The slowest mode has decayed by exp(-3 * 1.4), the steps are right to 1e-7.
    assert np.abs(motion.probability[-1] - rest).sum() < 0.05


def test_stencil_on_a_cut_grid():
    generator = Generator.of(loud_annulus(24))
    probability = np.random.default_rng(1).random(generator.grid.size) * generator.active
    np.testing.assert_allclose(Stencil.of(generator).apply(probability), generator.apply(probability), atol=1e-11)


def test_in_space_and_on_a_line():
    """A ball and an interval, D constant: uniform."""
    ball = Domain.parse("x**2 + y**2 + z**2 < 1", ("x", "y", "z"))
    axes = {name: (-1.1, 1.1, 14) for name in "xyz"}
    rest = stationary(free(Grid(domain=ball, **axes), np.eye(3)))
    np.testing.assert_allclose(rest.density[rest.density > 0.0], 0.75 / math.pi, rtol=2e-3)
    line = Grid(x=(-2.0, 2.0, 33), domain=Domain.parse("abs(x - 0.1) < 1.03", ("x",)))
    found = stationary(free(line, [[0.3]]))
    np.testing.assert_allclose(found.density[found.density > 0.0], 1.0 / 2.06, rtol=1e-12)


def test_a_periodic_axis_beside_a_domain():
    grid = Grid(
        x=Axis("x", 0.0, 2.0 * math.pi, 24, ("periodic", "periodic")),
        y=(-1.0, 1.0, 20),
        domain=Domain.parse("y < 0.4 + 0.2*sin(x)", ("x", "y")),
    )
    rest = stationary(free(grid, np.diag([0.3, 0.4])))
    np.testing.assert_allclose(rest.density[grid.active], 1.0 / (2.8 * math.pi), rtol=1e-3)


# --- absorbing surfaces


def test_first_exit_from_a_disc():
    """(1 - r**2) / (4 D), to second order."""
    errors = []
    for cells in (20, 40, 80, 160):
        chain = Generator.of(free(cut(cells, wall="absorbing"), np.diag([0.5, 0.5])))
        found = Passage.of(chain).mean_time.floats()
        wanted = (1.0 - (chain.grid.positions() ** 2).sum(axis=0)) / 2.0
        errors.append(np.abs(found - wanted)[chain.active].max())
        assert chain.exits.gates == ("domain",)
    assert abs(np.mean(orders((20, 40, 80, 160), errors)) - 2.0) < 0.1


def test_a_full_tensor_leaves_an_ellipse():
    """For D = M the exit time from x . M^-1 x < 1 is (1 - x . M^-1 x) / 4."""
    matrix = np.array([[0.5, 0.2], [0.2, 0.3]])
    (a, b), (_, c) = np.linalg.inv(matrix).tolist()
    errors = []
    for cells in (20, 40, 80):
        grid = cut(cells, f"{a!r}*x**2 + 2*({b!r})*x*y + {c!r}*y**2 < 1", "absorbing", half=0.8)
        chain = Generator.of(free(grid, matrix))
        x = grid.positions()
        wanted = 0.25 * (1.0 - np.einsum("ip,ij,jp->p", x, np.linalg.inv(matrix), x))
        errors.append(np.abs(Passage.of(chain).mean_time.floats() - wanted)[chain.active].max())
    assert np.mean(orders((20, 40, 80), errors)) > 1.9


@pytest.mark.parametrize("half", [1.0, 1.1])  # a disc that touches the walls of its box, too
def test_the_slowest_decay_in_a_disc(half):
    rates = spectrum(free(cut(60, wall="absorbing", half=half), np.diag([0.5, 0.5])), 1).eigenvalues
    assert float(rates[0]) == pytest.approx(0.5 * jn_zeros(0, 1)[0] ** 2, rel=1e-3)  # second order, h = 1/30


def test_noise_that_vanishes_at_the_surface():
    """D = 1 - r**2 is asked for inside only. Nothing is refused, and p = 1/D cannot be normalised: it is cut off."""
    noise = TensorNoise(diffusion=[["1 - x**2 - y**2", "0"], ["0", "1 - x**2 - y**2"]], convention="isothermal")
    problem = Problem(Landscape(drift=["0", "0"], variables=("x", "y")), noise, cut(30))
    rest = stationary(problem)
    np.testing.assert_allclose(rest.density[problem.grid.active], 1.0 / math.pi, rtol=5e-3)  # isothermal: uniform


# --- points, starts and everything else that must know


def test_points_keep_to_the_domain():
    grid = cut(20)
    weights = point_weights(grid, [0.95, 0.2], "here")
    assert grid.active[weights.cells].all()
    assert weights.weights.sum() == pytest.approx(1.0)
    with pytest.raises(CaseError, match=r"x = 0\.95, y = 0\.5 lies outside the domain"):
        point_weights(grid, [0.95, 0.5], "here")


def test_starts_are_cut_off_or_refused():
    problem = free(cut(40), np.eye(2))
    active = problem.grid.active
    for initial in (Gaussian([0.3, 0.0], width=0.1), Density("exp(-x)"), Uniform()):
        probability = initial.probability(problem)
        assert (probability[~active] == 0.0).all()
        assert probability.sum() == pytest.approx(1.0, abs=1e-12)
    with pytest.raises(CaseError, match=r"of the probability lies outside the domain"):
        Gaussian([0.8, 0.0], width=0.2).probability(problem)


def test_walkers_leave_through_the_surface():
    """Brownian motion from the centre: mean exit time 1/(4 D) = 1/2, within 4 standard errors."""
    problem = free(cut(40, wall="absorbing"), np.diag([0.5, 0.5]))
    swarm = walk(problem, draw_starts(problem, Point([0.0, 0.0]), 4000, 3), [6.0], time_step=2e-3, seed=3)
    assert swarm.gates == ("domain",)
    times = swarm.exit_times[np.isfinite(swarm.exit_times)]
    assert times.size == 4000
    assert abs(times.mean() - 0.5) < 4.0 * times.std() / math.sqrt(times.size) + 2e-3  # first order in the step
    assert (np.hypot(*draw_starts(problem, Gaussian([0.5, 0.0], width=0.15), 500, 1).T) < 1.0).all()


def test_walkers_are_not_returned():
    problem = free(cut(20), np.eye(2))
    with pytest.raises(CaseError, match=r"Walkers are not returned at the surface of a domain.*absorbing"):
        walk(problem, np.zeros((2, 2)), [1.0], time_step=0.1, seed=1)


def test_minima_outside_do_not_count():
    """Of the two wells at x = -1 and 1 the domain keeps one."""
    grid = Grid(x=(-2.0, 2.0, 40), y=(-1.0, 1.0, 20), domain=Domain.parse("x > -0.3", ("x", "y")))
    basins = find_basins(with_loss(grid, "(x**2 - 1)**2 + y**2", 0.1))
    assert len(basins.minima) == 1
    np.testing.assert_allclose(basins.minima[0].position, [1.0, 0.0], atol=1e-9)


def test_escape_around_a_hole():
    """With a hole where the saddle is all definitions still agree, and the closed forms say why they do not apply."""
    grid = Grid(x=(-2.0, 2.0, 40), y=(-1.2, 1.2, 24), domain=Domain.parse(HOLE, ("x", "y")))
    found = escape(with_loss(grid, "(x**2 - 1)**2 + y**2", 0.2), start=(-1.0, 0.0), target="x > 0.8", valley="x < 0")
    first = found.times["mean_first_passage_time"].log_time
    for name in ("flux_over_population", "quasi_stationary", "transition_path"):
        assert found.times[name].log_time == pytest.approx(first, abs=0.1), name
    assert found.flux_balance < 1e-12
    assert not any(form.applies for form in found.theory.values())


def test_a_domain_in_pieces():
    grid = Grid(x=(-2.0, 2.0, 40), y=(-1.0, 1.0, 10), domain=Domain.parse("abs(x) > 0.5", ("x", "y")))
    problem = with_loss(grid, "x**2 + y**2", 0.3)
    with pytest.raises(CaseError, match=r"falls apart into 2 pieces, of 150 around cell \(0, 0\).*needs one piece"):
        stationary(problem)
    rest = stationary(problem, initial=Point([1.0, 0.0]))
    assert rest.mean[0] > 0.5
    assert abs(rest.probability.sum() - 1.0) < 1e-12
    motion = evolve(problem, Point([1.0, 0.0]), until=1.0, save=2, relative_entropy=True)
    assert motion.mass_error < 1e-12
    assert motion.relative_entropy is None
    out = escape(problem, start=(1.0, 0.0), target="x > 1.5", definitions=["mean_first_passage_time"])
    assert math.isfinite(out.times["mean_first_passage_time"].log_time)


def test_a_domain_without_cells():
    with pytest.raises(CaseError, match=r"grid\.domain: the domain 'x > 7' holds no cell of the grid"):
        cut(10, "x > 7")


# --- cases

CASE = """
[landscape]
variables = ["x", "y"]
loss = "x**2 + y**2"

[noise]
kind = "constant"
temperature = 0.2

[grid]
x = { min = -1.1, max = 1.1, cells = 24 }
y = { min = -1.1, max = 1.1, cells = 24 }
domain = "x**2 + y**2 < a**2"

[stationary]

[initial]
gaussian = { mean = [0.1, 0.0], width = 0.2 }

[evolve]
until = 0.5
save = 3
"""


def written(text, tmp_path):
    path = tmp_path / "cut.toml"
    path.write_text(text.replace('"x**2 + y**2"\n', '"x**2 + y**2"\nparameters = { a = 1.0 }\n', 1))
    return path


def test_a_case_with_a_domain(tmp_path):
    path = written(CASE, tmp_path)
    report = fpsolve.run(path, output=tmp_path / "out")
    assert report.outcome == "done"
    assert "x**2 + y**2 < a**2, reflecting surface" in report.as_text()
    assert "x**2 + y**2 < a**2" in fpsolve.check(path).as_text()
    assert load_case(path).resolved().count("domain = ") == 1
    problem = report.generator.problem
    again = Saved(tmp_path / "out" / "cut.nc").probability(problem)
    np.testing.assert_allclose(again, report.motion.probability[-1], atol=1e-15)


def test_outside_there_is_no_number(tmp_path):
    xarray = pytest.importorskip("xarray")
    report = fpsolve.run(written(CASE, tmp_path), output=tmp_path / "out", figures=False)
    with xarray.open_dataset(tmp_path / "out" / "cut.nc") as file:
        active = report.generator.active.reshape(24, 24)
        for name in (
            "loss",
            "stationary_density",
            "stationary_current_x",
            "stationary_current_drift_y",
            "diffusion_xy",
        ):
            np.testing.assert_array_equal(np.isfinite(file[name].values), active)
        assert (np.isfinite(file["density"].values) == active).all()
        assert file["x"].notnull().all()


BAD = [
    ('domain = "x**2 + y**2 < a**2"', "domain = 3", r"grid\.domain: it is 3\. It must be a condition in quotes"),
    ('"x**2 + y**2 < a**2"', '"x**2 + y**2"', r"grid\.domain: .*comparison"),
    ("[stationary]", '[walls]\ndomain = "absorbing"\n[stationary]', r"stationary: probability leaves through domain"),
    ("[stationary]", '[walls]\ndomain = "periodic"\n[stationary]', r'walls\.domain: "periodic" is not a known choice'),
    ("mean = [0.1, 0.0]", "mean = [1.05, 0.5]", r"initial\.gaussian\.mean: .* lies outside the domain"),
    ("[stationary]", "[stationary]\n[ensemble]\nwalkers = 10", r"ensemble: grid\.domain reflects"),
    ("< a**2", "< a**2 and abs(x) > 0.2", r"initial\.gaussian\.mean: x = 0\.1, y = 0 lies outside the domain"),
    (
        CASE[CASE.index("< a**2") : CASE.index("[evolve]")],
        '< a**2 and abs(x) > 0.2"\n[stationary]\n[initial]\nuniform = true\n',
        r"grid\.domain: the domain falls apart into 2 pieces",
    ),
]


@pytest.mark.parametrize(("old", "new", "message"), BAD, ids=[message for _, _, message in BAD])
def test_bad_domains_are_refused(old, new, message, tmp_path):
    with pytest.raises(CaseError, match=message):
        fpsolve.check(written(CASE.replace(old, new, 1), tmp_path))


def test_a_wall_without_a_domain_has_no_effect(tmp_path):
    text = CASE.replace('domain = "x**2 + y**2 < a**2"\n', "") + '[walls]\ndomain = "absorbing"\n'
    with pytest.raises(CaseError, match=r"walls\.domain: it has no effect without a domain"):
        fpsolve.check(written(text, tmp_path))


def test_coarser_grids_are_cut_too():
    problem = free(cut(32, wall="absorbing"), np.eye(2))
    coarse = problem.on(
        problem.grid.with_axes([Axis(axis.name, axis.lower, axis.upper, 16) for axis in problem.grid.axes])
    )
    assert coarse.grid.domain is problem.grid.domain
    assert 0 < coarse.grid.active.sum() < coarse.grid.size
