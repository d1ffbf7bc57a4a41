"""Edges between cells: their rates, their exponents, and what happens at walls."""

import itertools

import mpmath
import numpy as np
import pytest
from exact import EPSILON, error_l1, orders, reflecting_box
from hypothesis import example, given, settings
from hypothesis import strategies as st
from problems import box, curved_valley, free, rotating_tensor, turned, with_drift, with_loss
from scipy.sparse.csgraph import connected_components
from scipy.spatial.transform import Rotation

from fpsolve.analyse.motion import evolve
from fpsolve.analyse.passage_integral import log_passage_time
from fpsolve.discretise import kernels
from fpsolve.discretise.exponents import exponents
from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import ConstantNoise, TensorNoise
from fpsolve.model.problem import Problem
from fpsolve.model.region import point_weights
from fpsolve.solve.passage import Passage

OBLIQUE = np.array([[1.0, 0.6], [0.6, 0.5]])


# The conductance


def exact_bernoulli(z):
    """z / (exp(z) - 1) to 40 digits."""
    with mpmath.workdps(40):
        return float(mpmath.mpf(z) / mpmath.expm1(mpmath.mpf(z))) if z else 1.0


magnitudes = st.floats(-300.0, 3.0).map(lambda power: 10.0**power)


@given(magnitudes)
@example(0.0)
@example(700.0)
@example(700.0000001)
@example(745.2)
@example(5e-324)
def test_bernoulli_is_right_to_rounding(z):
    smallest = np.finfo(float).smallest_subnormal  # has one digit, times z
    assert kernels.bernoulli(z) == pytest.approx(exact_bernoulli(z), abs=(1.0 + z) * smallest, rel=4 * EPSILON)


@given(st.floats(-1000.0, 1000.0).filter(lambda z: abs(z) > 1e-3))
def test_the_share_of_the_curvature(z):
    with mpmath.workdps(40):
        half = mpmath.mpf(z) / 2
        wanted = float(3 * (half * mpmath.coth(half) - 1) / half**2)
    # Below 0.05 a series that ends before z**4/2520 = 2.5e-9: a share of a correction, no exponent depends on it.
    assert kernels.curvature_share(z) == pytest.approx(wanted, rel=2.5e-9)


def rates(*values):
    """Forward and backward rate of one edge of given weight, phi(1), phi(1/2), curvature and circulation."""
    forward, backward = np.empty(1), np.empty(1)
    kernels.rates(*(np.array([value]) for value in values), forward, backward)
    return float(forward[0]), float(backward[0])


exponents_of_edges, weights_of_edges = st.floats(-500.0, 500.0), st.floats(1e-6, 1e6)


@given(exponents_of_edges, st.floats(-20.0, 20.0), st.floats(0.0, 20.0), st.floats(-100.0, 100.0), weights_of_edges)
def test_forward_over_backward_is_the_exponential_of_the_exponent(whole, bulge, bend, circulating, weight):
    forward, backward = rates(weight, whole, 0.5 * whole + bulge, bend, circulating)
    assert forward >= 0.0
    assert backward >= 0.0
    if min(forward, backward) > 1e-290:  # else one of them has underflown
        # exp turns an absolute rounding of an argument up to |Z| into a relative one
        assert np.log(forward) - np.log(backward) == pytest.approx(whole, abs=8 * EPSILON * (abs(whole) + 700.0))


@given(exponents_of_edges, weights_of_edges)
def test_a_uniform_slope_moves_a_uniform_density_at_the_drift(whole, weight):
    """Without bulge, curvature and circulation Scharfetter & Gummel's: forward - backward = weight Z exactly."""
    forward, backward = rates(weight, whole, 0.5 * whole, 0.0, 0.0)
    scale = max(forward, backward)
    # exp(ln B) carries the rounding of its argument, up to |Z|
    assert forward - backward == pytest.approx(weight * whole, abs=8 * EPSILON * (1.0 + abs(whole)) * scale)


@given(st.floats(-30.0, 30.0), st.floats(-30.0, 30.0), weights_of_edges)
def test_an_edge_obeys_the_equation_of_large_deviations(rise, circulating, weight):
    """Where ln p rises by q and Z = q + c: forward (e^-q - 1) + backward (e^q - 1) = weight q (q - Z), for any size."""
    whole = rise + circulating
    forward, backward = rates(weight, whole, 0.5 * whole, 0.0, circulating)
    found = forward * np.expm1(-rise) + backward * np.expm1(rise)
    # q = Z - c carries the rounding of Z, which B and expm1 turn into one relative to their arguments
    scale = weight * (1.0 + abs(rise)) * (1.0 + abs(circulating))
    parts = abs(forward * np.expm1(-rise)) + abs(backward * np.expm1(rise))
    assert found == pytest.approx(
        -weight * rise * circulating, abs=8 * EPSILON * (abs(rise) + abs(circulating) + 4.0) * (parts + scale)
    )


# Exponents


def polynomial_drift(coefficients):
    return with_drift(
        box((4,), (-1.0, 3.0)), [" + ".join(f"({c!r})*x**{k}" for k, c in enumerate(coefficients))], [[1.0]]
    )


def gauss(function, lower, length):
    """Integral of a polynomial of degree up to 7."""
    nodes, weights = np.polynomial.legendre.leggauss(4)
    return 0.5 * length * float(function(lower + 0.5 * length * (1.0 + nodes)) @ weights)


@given(st.lists(st.floats(-2.0, 2.0), min_size=1, max_size=4), st.floats(0.0, 3.0), st.floats(-3.0, 3.0))
def test_exponents_of_polynomials_are_exact(coefficients, start, length):
    """phi(1) for beta up to cubic, phi(1/2) up to quadratic: Simpson's rule, and the parabola it rests on."""
    problem = polynomial_drift(coefficients)
    whole, half, unresolved = exponents(problem, np.array([[start]]), np.array([[length]]))
    beta = np.polynomial.Polynomial(coefficients)
    first = float(problem.grid.axes[0].position(np.array(start)))
    step = length * problem.grid.axes[0].spacing
    rounding = 20 * EPSILON * sum(abs(c) * 7.0**k for k, c in enumerate(coefficients)) * abs(step)  # |x| < 7
    assert whole[0] == pytest.approx(gauss(beta, first, step), abs=rounding)
    if len(coefficients) < 4:
        assert half[0] == pytest.approx(gauss(beta, first, step / 2), abs=rounding)
    assert unresolved == 0


def test_exponents_along_oblique_edges_are_exact_for_cubics():
    problem = with_drift(box((3, 3)), ["x**3 - y", "x*y**2"], np.eye(2))
    start, step = np.array([[0.0], [2.0]]), np.array([[2.0], [-1.0]])
    whole, _, _ = exponents(problem, start, step)
    (x, y), (dx, dy) = problem.grid.positions(start)[:, 0], step[:, 0] * problem.grid.spacings
    nodes, weights = np.polynomial.legendre.leggauss(8)
    s = 0.5 + 0.5 * nodes
    slope = ((x + s * dx) ** 3 - (y + s * dy)) * dx + (x + s * dx) * (y + s * dy) ** 2 * dy
    assert whole[0] == pytest.approx(float(slope @ weights) / 2, abs=1e-15)


def test_a_potential_is_differenced_exactly():
    """The exponent of an edge is the difference of -loss/T, however rough the loss between its ends."""
    problem = with_loss(box((5, 4)), "100*sin(40*x)*cos(30*y)", 0.1, OBLIQUE)
    edges = Generator.of(problem).edges
    height = -problem.landscape.loss(problem.grid.positions()) / 0.1
    difference = height[edges.end] - height[edges.origin]
    np.testing.assert_allclose(edges.exponent, difference, rtol=0, atol=4 * EPSILON * np.abs(height).max())


def narrow_noise(width):
    """D that changes from 1 to 0.01 over a width: beta = D^-1 drift has a step of that width."""
    landscape = Landscape(drift=["1"], variables=("x",))
    noise = TensorNoise(diffusion=f"0.505 + 0.495*tanh(x/{width!r})", convention="isothermal")
    return Problem(landscape, noise, box((4,)))


def test_a_rough_exponent_is_refined_until_it_settles():
    problem = narrow_noise(0.05)
    edges = Generator.of(problem).edges
    middle = np.flatnonzero((edges.origin == 1) & (edges.end == 2))[0]
    nodes, weights = np.polynomial.legendre.leggauss(400)
    wanted = 0.25 * (1.0 / (0.505 + 0.495 * np.tanh(0.25 * nodes / 0.05))) @ weights
    assert edges.unresolved == 0
    # Halving a panel changed it by less than SMOOTH_EXPONENT = 1e-8; the error left is 1/15 of that.
    assert edges.exponent[middle] == pytest.approx(float(wanted), rel=1e-6)


@pytest.mark.parametrize("place", [0.003, 0.11, 0.125, 0.2499, 0.31, 0.497])
def test_a_jump_is_integrated_wherever_it_lies(place):
    """D jumps from 0.1 to 0.05 on the edge from -0.25 to 0.25; the drift is 0.02, so that the exponent is small."""
    landscape = Landscape(drift=["0.02"], variables=("x",))
    noise = TensorNoise(diffusion=f"where(x < {place - 0.25!r}, 0.1, 0.05)", convention="isothermal")
    edges = Generator.of(Problem(landscape, noise, box((4,)))).edges
    middle = np.flatnonzero((edges.origin == 1) & (edges.end == 2))[0]
    assert edges.exponent[middle] == pytest.approx(0.2 * place + 0.4 * (0.5 - place), abs=2e-8)  # SMOOTH_EXPONENT
    assert edges.unresolved == 0


def test_exponents_that_do_not_settle_are_counted():
    landscape = Landscape(drift=["1/abs(x - 0.1)"], variables=("x",))  # its integral grows with every panel
    noise = TensorNoise(diffusion="1 + 0.1*x", convention="isothermal")
    assert Generator.of(Problem(landscape, noise, box((4,)))).edges.unresolved > 0


@pytest.mark.parametrize("diffusion", ["abs(x)", "x**2", "x**2*(1 + x)"])
def test_a_diffusion_that_vanishes_between_cells_is_refused_or_harmless(diffusion):
    """Cell centres miss x = 0, the middle of an edge; no rate may become infinite unnoticed."""
    problem = Problem(
        Landscape(drift=["-x"], variables=("x",)), TensorNoise(diffusion=diffusion), box((10,), (-0.5, 0.5))
    )
    try:
        edges = Generator.of(problem).edges
    except CaseError:
        return
    assert np.isfinite(edges.forward).all()
    assert np.isfinite(edges.backward).all()


# Rates of real problems


PROBLEMS = {
    "turning tensor": lambda: rotating_tensor(24, 0.3, 3.0),
    "Hessian noise": lambda: curved_valley(24, 0.05),
    "thin tensor": lambda: free(box((30, 20)), turned([1.0, 0.001], 0.5)),
    "three axes": lambda: with_loss(
        box((7, 6, 5)), "x**4 + x*y + z**2", 0.01, [[1.0, 0.3, 0.1], [0.3, 0.5, 0.2], [0.1, 0.2, 0.4]]
    ),
    "steep": lambda: with_loss(box((12, 9)), "1000*(x**2 + x*y + y**2)", 0.5),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_rates_are_positive_and_obey_their_exponents(name):
    edges = Generator.of(PROBLEMS[name]()).edges
    assert np.isfinite(edges.forward).all()
    assert np.isfinite(edges.backward).all()
    assert (edges.forward >= 0.0).all()
    assert (edges.backward >= 0.0).all()
    assert (edges.weight > 0.0).all()
    both = (edges.forward > 1e-290) & (edges.backward > 1e-290)
    found = np.log(edges.forward[both]) - np.log(edges.backward[both])
    # rounding of the argument of exp
    np.testing.assert_allclose(found, edges.exponent[both], rtol=4 * EPSILON, atol=1e-12)


def loud_line(cells, convention="ito"):
    """D = (1 + 0.8 x**2)/12."""
    landscape = Landscape(drift=["-4*x*(x**2 - 1)"], variables=("x",))
    return Problem(
        landscape, TensorNoise(diffusion=[["(1 + 0.8*x**2)/12"]], convention=convention), box((cells,), (-3.0, 2.0))
    )


def test_the_weight_of_an_edge_is_that_midway():
    """On a line weight * width**2 = D: in the wells, where Z and the corrections vanish, the rate is D midway.

    `Edges.weight` keeps the mean of both ends: it says how a lattice joins its cells.
    """
    problem = Problem(
        Landscape(drift=["0"], variables=("x",)),
        TensorNoise(diffusion=[["exp(3*x)"]], convention="isothermal"),
        box((40,)),
    )
    edges, width = Generator.of(problem).edges, problem.grid.axes[0].spacing
    middle = problem.grid.positions(0.5 * (edges.origin + edges.end)[None, :])[0]
    np.testing.assert_allclose(edges.forward, np.exp(3.0 * middle) / width**2, rtol=1e-13)
    np.testing.assert_allclose(edges.backward, edges.forward, rtol=1e-14)


def log_times(problem, start, target):
    """ln(mean first-passage time)."""
    killed = Generator.of(problem).killed(problem.region(target))
    weights = point_weights(problem.grid, start, "start")
    return float((Passage.of(killed).mean_time[weights.cells] * weights.weights).sum().log())


@pytest.mark.parametrize("convention", ["ito", "isothermal"])
def test_barriers_converge_far_faster_than_second_order_where_the_noise_changes(convention):
    """Measured: 2.1e-4, 1.1e-5, 1.7e-7; where D counts as constant along every edge 2.4e-3, 6.3e-4, 1.6e-4."""
    exact = log_passage_time(loud_line(4, convention), -1.0, (-3.0, 0.6), (False, True))
    errors = [abs(log_times(loud_line(cells, convention), (-1.0,), "x > 0.6") - exact) for cells in (50, 100, 200)]
    assert (np.array(errors) < (3e-4, 2e-5, 1e-6)).all(), errors


def circulating_well(cells, temperature):
    """Drift -grad U + R grad U, which keeps exp(-U/T)."""
    extra = ["-2*y", "4*x*(x**2 - 1)"]
    landscape = Landscape("(x**2 - 1)**2 + y**2", variables=("x", "y"), extra_drift=extra)
    grid = box((cells, cells), [(-2.2, 0.8), (-2.5, 2.5)], [("reflecting", "absorbing"), "reflecting"])
    return Problem(landscape, ConstantNoise(temperature=temperature), grid)


@pytest.mark.parametrize(("cells", "short"), [(33, 1.4), (65, 0.4), (129, 0.08)])
def test_a_deep_barrier_around_which_probability_circulates(cells, short):
    """T = 0.02, ln(time) = 49.8634 (extrapolated, test_error_bars.py): 1.30, 0.35, 0.068 short.

    Where the whole drift counts as gradient 24, 12 and 4.3: the exponent is wrong, not only the prefactor.
    """
    problem = circulating_well(cells, 0.02)
    start = point_weights(problem.grid, (-1.0, 0.0), "start")
    found = float((Passage.of(Generator.of(problem)).mean_time[start.cells] * start.weights).sum().log())
    assert 0.0 < 49.8634 - found < short


def test_a_drift_along_the_gradient_is_no_circulation():
    """-grad U/2 and -grad U/2 besides: the rates are those of -grad U up to the differences that stand for slopes."""
    loss, slope = "x**4/4 + x*y/2 + y**2", ["-(x**3 + y/2)/2", "-(x/2 + 2*y)/2"]
    divided = Landscape(f"({loss})/2", variables=("x", "y"), extra_drift=slope)
    grid = box((40, 40), (-2.0, 2.0))
    found = Generator.of(Problem(divided, ConstantNoise(temperature=0.3), grid)).edges
    wanted = Generator.of(with_loss(grid, loss, 0.3)).edges
    np.testing.assert_allclose(found.exponent, wanted.exponent, rtol=0, atol=1e-12)
    # bulge and curvature are then those of a half of it: h**2 phi''/12 of 2, h = 0.1, phi'' up to 42
    np.testing.assert_allclose(found.forward, wanted.forward, rtol=0.05)


@pytest.mark.parametrize("walls", ["reflecting", "periodic", ("periodic", "reflecting"), "absorbing"])
def test_edges_and_exits_join_what_the_offsets_say(walls):
    grid = box((11, 9), walls=walls)
    generator = Generator.of(free(grid, turned([1.0, 0.01], 0.5)))
    edges, exits = generator.edges, generator.exits
    index = grid.indices()
    lengths, wraps = np.array([[11], [9]]), np.array([[axis.periodic] for axis in grid.axes])
    reached = index[:, edges.origin] + edges.displacement.T
    np.testing.assert_array_equal(np.where(wraps, reached % lengths, reached), index[:, edges.end])
    assert np.abs(edges.offsets).max() > 2  # condition number 100: long ones are among them
    assert (edges.origin != edges.end).all()
    assert exits.cell.size == 0 or walls == "absorbing"
    if walls == "absorbing":
        ends = index[:, exits.cell] + exits.displacement.T
        assert ((ends < 0) | (ends >= lengths)).any(axis=0).all()
        at_wall = index[:, exits.cell] + exits.fraction * exits.displacement.T
        distance = np.minimum(np.abs(at_wall + 0.5), np.abs(at_wall - lengths + 0.5)).min(axis=0)
        np.testing.assert_allclose(distance, 0.0, rtol=0, atol=1e-13)
        assert exits.gates == ("x_min", "x_max", "y_min", "y_max")


def test_on_a_torus_every_cell_has_every_offset():
    grid = box((8, 8), walls="periodic")
    edges = Generator.of(free(grid, OBLIQUE)).edges
    kinds = len(edges.offsets)
    assert edges.origin.size == kinds * grid.size
    assert np.ptp(edges.forward.reshape(grid.size, kinds), axis=0).max() == 0.0


# Cells are never cut off


def turned_in_space(angles, values):
    turn = Rotation.from_euler("zyx", angles).as_matrix()
    tensor = turn @ np.diag(values) @ turn.T
    return 0.5 * (tensor + tensor.T)


def connected(generator):
    """Whether every cell can reach every other."""
    return connected_components(generator.matrix(), directed=True, connection="strong")[0] == 1


SMALL_SHAPES = [(2, 2), (3, 3), (4, 4), (2, 3), (1, 2), (1, 5), (5, 1), (2, 3, 2), (3, 3, 3), (1, 1, 4), (2, 1, 3)]


@pytest.mark.parametrize("shape", SMALL_SHAPES)
@pytest.mark.parametrize("condition", [3.0, 100.0, 1e3, 1e4])
def test_no_cell_of_a_small_grid_is_cut_off(shape, condition):
    grid = box(shape)
    for angle, middle in itertools.product(np.linspace(0.0, np.pi, 25), (1.0, condition**0.5)):
        if len(shape) == 2:
            tensor = turned([1.0, 1.0 / condition], angle)
        else:
            tensor = turned_in_space([angle, 2.0 * angle + 0.3, 0.7 * angle], [1.0, 1.0 / middle, 1.0 / condition])
        generator = Generator.of(free(grid, tensor))
        assert (generator.departure > 0.0).all(), f"a cell without an edge, angle {angle}"
        assert connected(generator), f"separate parts, angle {angle}"


# Walls that the tensor meets obliquely


def bell(middle):
    return lambda x: np.exp(-((x - middle) ** 2) / 0.08)


def error_beside_walls(tensor, time, cells, degree):
    """L1 error of diffusion in the unit box with reflecting walls."""
    start = [bell(middle) for middle in (0.3, 0.6, 0.5)[: len(tensor)]]
    initial = np.maximum(reflecting_box(tensor, start, 0.0, cells, degree), 0.0)
    motion = evolve(free(box((cells,) * len(tensor), (0.0, 1.0)), tensor), initial, times=[time], tolerance=1e-5)
    return error_l1(motion.probability[-1], reflecting_box(tensor, start, time, cells, degree))


def test_oblique_reflecting_walls_keep_second_order():
    cells = (12, 24, 48)
    errors = [error_beside_walls(OBLIQUE, 0.05, count, 30) for count in cells]  # degrees 30 and 40 agree to 5e-7
    assert np.abs(orders(cells, errors) - 2.0).max() < 0.1  # measured 2.00, 1.94; dropped edges alone: order 1
    assert errors[-1] < 1.3 / 48**2  # measured 1.17 h**2


@pytest.mark.slow
def test_oblique_reflecting_walls_keep_second_order_in_space():
    tensor = np.array([[1.0, 0.6, 0.2], [0.6, 0.5, 0.1], [0.2, 0.1, 0.4]])  # an offset of 2 cells, along two axes
    cells = (8, 16, 24)
    errors = [error_beside_walls(tensor, 0.04, count, 14) for count in cells]  # degrees 12 and 15 agree to 1.2e-4
    assert np.abs(orders(cells, errors) - 2.0).max() < 0.1
    assert errors[-1] < 2.5 / 24**2  # measured 1.9 h**2


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("shape", [(6, 41), (2, 41), (6, 31, 29), (3, 31, 29)])
def test_walls_give_back_the_energy_of_a_flow_along_them(shape, seed):
    """A flow that does not cross the walls meets the same resistance beside them as anywhere.

    For a linear function whose gradient a has no normal flux, (D a)_x = 0, the sum of weight (a . offset)**2 over all
    edges is cells times a . D a: dropped offsets included, nothing is lost and nothing is invented.
    """
    random = np.random.default_rng(seed)
    axes, angles, values = len(shape), random.uniform(0.0, np.pi, 3), [1.0, *10.0 ** -random.uniform(0.0, 1.7, 2)]
    tensor = turned_in_space(angles, values) if axes == 3 else turned(values[:2], angles[0])
    grid = box(shape, [(0.0, float(cells)) for cells in shape], ["reflecting"] + ["periodic"] * (axes - 1))
    along = random.normal(size=axes - 1)
    gradient = np.array([-tensor[0, 1:] @ along / tensor[0, 0], *along])
    edges = Generator.of(free(grid, tensor)).edges
    energy = float(edges.weight @ (edges.displacement @ gradient) ** 2)
    assert energy == pytest.approx(grid.size * gradient @ tensor @ gradient, rel=1e-10)  # rounding


def schur(tensor, kept):
    """D_tt - D_tn D_nn^-1 D_nt: what is left of a tensor along the kept axes where nothing flows along the others."""
    left = [axis for axis in range(len(tensor)) if axis not in kept]
    if not left:
        return tensor[np.ix_(kept, kept)]
    return tensor[np.ix_(kept, kept)] - tensor[np.ix_(kept, left)] @ np.linalg.solve(
        tensor[np.ix_(left, left)], tensor[np.ix_(left, kept)]
    )


def assert_is_a_line(shape, tensor):
    """One cell wide along all axes but x, a grid moves probability like a line with the effective diffusivity."""
    bounds = [(-1.0, 1.0)] + [(0.0, 0.3)] * (len(shape) - 1)
    effective = schur(tensor, [0])
    channel = Generator.of(with_loss(box(shape, bounds), "x**4 - x/2", 0.4, tensor)).matrix().toarray()
    line = Generator.of(with_loss(box(shape[:1], (-1.0, 1.0)), "x**4 - x/2", 0.4, effective)).matrix().toarray()
    # rounding of the differences that make the effective diffusivity, of the size of D
    np.testing.assert_allclose(channel, line, rtol=0, atol=1e-12 * np.abs(line).max() / effective[0, 0])


@settings(max_examples=30)
@given(st.floats(0.0, np.pi), st.floats(0.0, 3.0))
def test_a_channel_one_cell_wide_has_the_effective_diffusivity(angle, logarithm):
    """D_xx - D_xy**2 / D_yy, whatever the tensor."""
    assert_is_a_line((7, 1), turned([1.0, 10.0**-logarithm], angle))


@settings(max_examples=30)
@given(st.lists(st.floats(0.0, np.pi), min_size=3, max_size=3), st.floats(0.0, 2.0))
def test_a_rod_one_cell_thick_has_the_effective_diffusivity(angles, logarithm):
    assert_is_a_line((7, 1, 1), turned_in_space(angles, [1.0, 10.0**-logarithm, 0.5]))


def test_a_slab_one_cell_thick_has_the_effective_tensor():
    tensor = np.array([[1.0, 0.3, 0.2], [0.3, 0.6, -0.25], [0.2, -0.25, 0.5]])
    slab = free(box((9, 9, 1), [(0.0, 9.0), (0.0, 9.0), (0.0, 1.0)]), tensor)
    x, y, _ = slab.grid.positions()
    effective = schur(tensor, [0, 1])
    for left, right, wanted in ((x, x, effective[0, 0]), (x, y, effective[0, 1]), (y, y, effective[1, 1])):
        rate = Generator.of(slab).adjoint(left * right).reshape(9, 9)[4, 4]  # far from the other walls
        assert rate == pytest.approx(2.0 * wanted, abs=1e-12)
