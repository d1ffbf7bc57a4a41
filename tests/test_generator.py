"""The chain as a whole: conservation, adjointness, fluxes and face currents, thin and permuted axes."""

import itertools

import numpy as np
import pytest
from exact import EPSILON
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from problems import box, curved_valley, free, turned, with_drift, with_loss

from fpsolve.analyse.currents import current_density
from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError

FULL = np.array([[1.0, 0.3, 0.2], [0.3, 0.6, -0.25], [0.2, -0.25, 0.5]])

CHAINS = {
    "line": lambda: Generator.of(with_loss(box((17,)), "x**4 - x**2", 0.05)),
    "absorbing line": lambda: Generator.of(with_drift(box((17,), walls=[("reflecting", "absorbing")]), ["1"], [[0.5]])),
    "ring": lambda: Generator.of(with_drift(box((9,), walls="periodic"), ["1 + sin(pi*x)"], [[0.3]])),
    "Hessian noise": lambda: Generator.of(curved_valley(15, 0.1)),
    "long offsets": lambda: Generator.of(free(box((14, 11)), turned([1.0, 0.003], 0.4))),
    "torus, long offsets": lambda: Generator.of(free(box((14, 11), walls="periodic"), turned([1.0, 0.003], 0.4))),
    "absorbing, long offsets": lambda: Generator.of(
        free(box((14, 11), walls=["absorbing", ("reflecting", "absorbing")]), turned([1.0, 0.003], 0.4))
    ),
    "mixed walls": lambda: Generator.of(
        with_drift(box((8, 7), walls=["periodic", ("absorbing", "reflecting")]), ["1", "-y"], [[0.5, 0.2], [0.2, 0.3]])
    ),
    "three axes": lambda: Generator.of(
        with_drift(
            box((6, 5, 4), walls=["periodic", ("reflecting", "absorbing"), "reflecting"]), ["1", "-y", "x*0"], FULL
        )
    ),
    "target": lambda: slanted_target(curved_valley(20, 0.1)),
    "target in a torus": lambda: slanted_target(free(box((12, 9), walls="periodic"), turned([1.0, 0.01], 0.4))),
}


def slanted_target(problem):
    return Generator.of(problem).killed(problem.region("x + 0.4*y > 0.6"))


@pytest.fixture(params=CHAINS, scope="module")
def chain(request):
    return CHAINS[request.param]()


def random_probability(chain, seed=3):
    probability = np.random.default_rng(seed).random(chain.grid.size) * chain.active
    return probability / probability.sum()


def rounding(chain, probability):
    """What one rounding of the traffic of every edge, of a few roundings each, can add up to in a cell."""
    return 50 * EPSILON * float((chain.departure * probability).max())


# One object, several faces


def test_columns_sum_to_minus_the_losses(chain):
    columns = np.asarray(chain.matrix().sum(axis=0)).ravel()
    np.testing.assert_allclose(columns, -chain.losses, rtol=0, atol=50 * EPSILON * chain.departure.max())


def test_rates_are_not_negative(chain):
    matrix = chain.matrix().toarray()
    off_diagonal = matrix - np.diag(np.diag(matrix))
    assert (off_diagonal >= 0.0).all()
    assert (np.diag(matrix) <= 0.0).all()
    assert (chain.losses >= 0.0).all()


def test_the_matrix_and_the_loops_agree(chain):
    probability = random_probability(chain)
    np.testing.assert_allclose(
        chain.apply(probability), chain.matrix() @ probability, rtol=0, atol=rounding(chain, probability)
    )
    function = np.random.default_rng(5).normal(size=chain.grid.size)
    scale = 50 * EPSILON * chain.departure.max() * np.abs(function).max()
    np.testing.assert_allclose(chain.adjoint(function), chain.matrix().T @ function, rtol=0, atol=scale)


def test_the_adjoint_identity(chain):
    probability = random_probability(chain)
    function = np.random.default_rng(5).normal(size=chain.grid.size)
    traffic = np.abs(function) @ (chain.departure * probability)
    left, right = function @ chain.apply(probability), chain.adjoint(function) @ probability
    assert left == pytest.approx(right, abs=50 * EPSILON * traffic)


def test_constants_are_conserved_up_to_the_losses(chain):
    found = chain.adjoint(np.ones(chain.grid.size))
    np.testing.assert_array_equal(found, -chain.losses)


def test_what_leaves_is_counted_at_a_gate(chain):
    probability = random_probability(chain)
    change = chain.apply(probability).sum()
    total = float((chain.departure * probability).sum())
    assert chain.outflow(probability).sum() == pytest.approx(-change, abs=20 * EPSILON * total)
    assert chain.outflow(probability).shape == (len(chain.exits.gates),)


# Fluxes


@settings(max_examples=40)
@given(st.sampled_from(sorted(CHAINS)), st.integers(0, 2**32 - 1))
def test_the_flux_out_of_any_region_is_what_its_occupation_loses(name, seed):
    chain = CHAINS[name]()
    weights = np.random.default_rng(seed).random(chain.grid.size)
    probability = random_probability(chain, seed)
    change = weights @ chain.apply(probability)
    total = float(weights.max() * (chain.departure * probability).sum())
    assert chain.flux(probability, weights) == pytest.approx(-change, abs=20 * EPSILON * total)


@pytest.mark.parametrize("condition", ["x > 0.3", "x**2 + y**2 < 0.5", "x + y > 0 or x < -0.5"])
def test_the_flux_out_of_level_sets(condition):
    problem = curved_valley(25, 0.1)
    chain = Generator.of(problem)
    weights = problem.region(condition).weights(problem.grid)
    probability = random_probability(chain)
    assert chain.flux(probability, weights) == pytest.approx(
        -float(weights @ chain.apply(probability)), abs=20 * EPSILON * float((chain.departure * probability).sum())
    )


def divergence(chain, faces):
    """Net flow out of every cell through its faces, (cells,) [1/time]."""
    total = np.zeros(chain.grid.shape)
    for axis, density in enumerate(faces):
        total += np.diff(density, axis=axis) * (chain.grid.volumes[0] / chain.grid.axes[axis].spacing)
    return total.ravel()


def test_face_currents_carry_the_change_of_every_cell(chain):
    """To rounding, with long offsets, periodic axes, absorbing walls and targets."""
    probability = random_probability(chain)
    faces = chain.face_currents(probability)
    active = chain.active  # what enters a target ends in it, beyond its surface
    longest = 1 + np.abs(chain.edges.offsets).max()  # many edges are led through one face
    np.testing.assert_allclose(
        divergence(chain, faces)[active],
        -chain.apply(probability)[active],
        rtol=0,
        atol=longest**2 * rounding(chain, probability),
    )


def test_face_currents_stay_inside_reflecting_walls_and_agree_across_periodic_ones():
    problem = free(box((9, 8), walls=["periodic", "reflecting"]), turned([1.0, 0.01], 0.4))
    chain = Generator.of(problem)
    along_x, along_y = chain.face_currents(random_probability(chain))
    np.testing.assert_array_equal(along_x[0], along_x[-1])
    np.testing.assert_array_equal(along_y[:, [0, -1]], 0.0)


def test_the_faces_of_the_absorbing_walls_carry_the_outflow():
    """And those of a reflecting wall carry nothing, near its corners too."""
    chain = CHAINS["absorbing, long offsets"]()
    probability = random_probability(chain)
    along_x, along_y = chain.face_currents(probability)
    hx, hy = chain.grid.spacings
    np.testing.assert_array_equal(along_y[:, 0], 0.0)
    outflow = dict(zip(chain.exits.gates, chain.outflow(probability), strict=True))
    assert -along_x[0].sum() * hy == pytest.approx(outflow["x_min"], rel=1e-12)
    assert along_x[-1].sum() * hy == pytest.approx(outflow["x_max"], rel=1e-12)
    assert along_y[:, -1].sum() * hx == pytest.approx(outflow["y_max"], rel=1e-12)


def test_a_uniform_drift_has_a_uniform_current():
    """On a torus the uniform density is at rest and its current is the drift: exactly, oblique edges or not."""
    tensor = turned([1.0, 0.01], 0.4)
    problem = with_drift(box((12, 9), walls="periodic"), ["0.7", "-0.4"], tensor)
    chain = Generator.of(problem)
    uniform = np.full(chain.grid.size, 1.0 / chain.grid.size)
    current = current_density(chain, uniform) / (uniform[0] / chain.grid.volumes[0])
    scale = chain.departure.max() * chain.grid.spacings.max()
    np.testing.assert_allclose(
        current, np.array([[0.7], [-0.4]]).repeat(chain.grid.size, 1), rtol=0, atol=1e-14 * scale
    )


# Linear functions: what the discretisation gets exactly right away from walls


def test_the_mean_moves_with_the_drift_and_spreads_with_the_diffusion():
    """D/Dt of x_i is the drift, of x_i x_j the diffusion: exact for constant coefficients on Selling's offsets."""
    problem = with_drift(box((13, 13)), ["0", "0"], turned([1.0, 0.05], 0.4))
    chain, middle = Generator.of(problem), 6 * 13 + 6
    positions = problem.grid.positions()
    for i, j in itertools.product(range(2), repeat=2):
        rate = chain.adjoint(positions[i] * positions[j])[middle]
        assert rate == pytest.approx(2.0 * turned([1.0, 0.05], 0.4)[i, j], abs=1e-12)
        assert chain.adjoint(positions[i])[middle] == pytest.approx(0.0, abs=1e-12)


# Dimension appears once


@pytest.mark.parametrize("shape", [(9, 1), (1, 9), (9, 1, 1), (1, 9, 1), (1, 1, 9)])
@pytest.mark.parametrize("walls", ["reflecting", "absorbing", "periodic"])
def test_a_thin_box_is_a_line(shape, walls):
    long = shape.index(9)
    name = "xyz"[long]
    thin = ["reflecting"] * len(shape)
    thin[long] = walls
    drift = ["0"] * len(shape)
    drift[long] = f"1 + sin(pi*{name})"
    diffusion = np.diag([0.3 if axis == long else 0.7 for axis in range(len(shape))])
    wide = Generator.of(with_drift(box(shape, walls=thin), drift, diffusion))
    line = Generator.of(with_drift(box((9,), walls=walls), ["1 + sin(pi*x)"], [[0.3]]))
    scale = 10 * EPSILON * line.departure.max()
    np.testing.assert_allclose(wide.matrix().toarray(), line.matrix().toarray(), rtol=0, atol=scale)


WALLS = {
    "reflecting": ("reflecting", "reflecting", "reflecting"),
    "periodic": ("periodic", "reflecting", "periodic"),
    "absorbing": ("absorbing", "absorbing", "absorbing"),
    "mixed": ("reflecting", ("reflecting", "absorbing"), "reflecting"),
}


def permuted_problem(order, walls):
    """A full tensor and a shear that fits any walls, the axes in another order."""
    index = np.ix_(order, order)
    shape = [(7, 6, 5)[axis] for axis in order]
    bounds = [((-1.0, 1.0), (-2.0, 1.0), (-1.0, 1.5))[axis] for axis in order]
    drift = [("0.5", f"sin(pi*{'xyz'[order.index(0)]})", "-0.3")[axis] for axis in order]
    return with_drift(box(shape, bounds, [WALLS[walls][axis] for axis in order]), drift, FULL[index])


@pytest.mark.parametrize("walls", WALLS)
@pytest.mark.parametrize("order", [(1, 0, 2), (2, 1, 0), (1, 2, 0)])
def test_permuted_axes_give_the_permuted_answer(order, walls):
    straight, permuted = (Generator.of(permuted_problem(axes, walls)) for axes in ((0, 1, 2), order))
    probability = random_probability(straight).reshape(7, 6, 5)
    moved = np.transpose(probability, order).ravel()
    wanted = np.transpose(straight.apply(probability.ravel()).reshape(7, 6, 5), order).ravel()
    np.testing.assert_allclose(permuted.apply(moved), wanted, rtol=0, atol=rounding(straight, probability.ravel()))
    for axis, faces in enumerate(permuted.face_currents(moved)):
        original = straight.face_currents(probability.ravel())[order[axis]]
        np.testing.assert_allclose(faces, np.transpose(original, order), rtol=0, atol=1e-13 * np.abs(original).max())


# Targets


@settings(max_examples=30)
@given(st.floats(0.0, 6.28), st.floats(-0.5, 0.5))
def test_a_target_takes_its_cells_and_cuts_the_edges_that_enter(angle, distance):
    problem = free(box((9, 8)), turned([1.0, 0.05], 0.4))
    condition = f"{np.cos(angle)!r}*x + {np.sin(angle)!r}*y > {distance!r}"
    region = problem.region(condition.replace("np.float64(", "").replace(")", ""))
    whole = Generator.of(problem)
    level = region.level(problem.grid.positions())
    assume(not np.isclose(level, 0.0, atol=1e-6).any())
    killed = whole.killed(region)
    absorbed = ~killed.active
    assert absorbed[level > 0.0].all()
    assert killed.exits.gates == (region.name,)
    for cells in (killed.edges.origin, killed.edges.end, killed.exits.cell):
        assert not absorbed[cells].any()
    # every cut edge ends on the surface
    index = problem.grid.index_of(killed.exits.cell) + killed.exits.fraction * killed.exits.displacement.T
    inside = killed.exits.fraction < 1.0
    np.testing.assert_allclose(region.level(problem.grid.positions(index))[inside], 0.0, rtol=0, atol=1e-13)
    # cells outside that keep their edges keep their rates
    before, after = whole.matrix().toarray(), killed.matrix().toarray()
    both = np.ix_(killed.active, killed.active)
    np.testing.assert_array_equal((after - np.diag(np.diag(after)))[both], (before - np.diag(np.diag(before)))[both])


def test_an_edge_is_cut_where_it_meets_the_target():
    """Free diffusion on a line: the rate into a target at a share s of the edge is D / h**2 / s."""
    problem = free(box((10,), (0.0, 10.0)), [[2.0]])
    for share in (0.01, 0.3, 0.9, 0.999):
        killed = Generator.of(problem).killed(problem.region(f"x > {6.5 + share!r}"))
        assert killed.exits.rate[0] == pytest.approx(2.0 / share, rel=1e-12)
        assert killed.exits.fraction[0] == pytest.approx(share, rel=1e-12)
        assert killed.exits.cell.tolist() == [6]


def test_a_cell_on_the_edge_of_the_target_is_absorbed():
    """Nearer than a thousandth of an edge: such a rate would say nothing about the physics."""
    problem = free(box((10,), (0.0, 10.0)), [[1.0]])
    killed = Generator.of(problem).killed(problem.region("x > 6.5005"))
    assert killed.exits.cell.tolist() == [5]
    assert killed.exits.fraction[0] == pytest.approx(1.0)


def test_absorbing_walls_and_targets_keep_their_own_gates():
    problem = free(box((8, 6), walls=["absorbing", "reflecting"]), np.eye(2))
    killed = Generator.of(problem).killed(problem.region("x**2 + y**2 < 0.2"))
    assert killed.exits.gates == ("x_min", "x_max", "x**2 + y**2 < 0.2")
    outflow = killed.outflow(random_probability(killed))
    assert (outflow > 0.0).all()


@pytest.mark.parametrize(
    ("condition", "message"),
    [
        ("x > 5", r"target: the region 'x > 5' holds no cell of the grid\. It must hold some cells and leave others"),
        ("x > -5", r"target: the region 'x > -5' holds every cell of the grid"),
        ("abs(x - 0.25) < 0.01", r"holds no cell of the grid.*refine the grid"),
    ],
)
def test_targets_without_cells_are_refused(condition, message):
    problem = free(box((4, 4)), np.eye(2))
    region = problem.region(condition if condition.startswith("x") else "abs(x) < 0.01")
    with pytest.raises(CaseError, match=message):
        Generator.of(problem).killed(region)
