"""Splines through tables: orders, polynomials, periods, ends, and what is no table."""

import itertools

import numpy as np
import pytest
from exact import orders
from hypothesis import given
from hypothesis import strategies as st

from fpsolve.errors import CaseError
from fpsolve.model.fields import FunctionField, SymbolicField, field, symmetric_part
from fpsolve.model.grid import Axis, Grid
from fpsolve.model.maps import Refinement
from fpsolve.model.splines import SplineField, lattice, nodes_of

VARIABLES = ("x", "y")
WAVES = {1: "sin(2*x + 0.3) + exp(x)/2", 2: "sin(2*x + 0.3)*cosh(y) + exp(x - y/2)/2"}


def symbolic(source, shape=(), variables=VARIABLES) -> SymbolicField:
    return field(source, shape, variables, {}, "test")


def even(count: int) -> np.ndarray:
    return np.linspace(-1.0, 1.5, count)


def uneven(count: int) -> np.ndarray:
    """Spacings that differ by a factor of four, smoothly, so that halving them is a refinement."""
    share = np.linspace(0.0, 1.0, count)
    return -1.0 + 2.5 * (share + 0.6 * np.sin(2 * np.pi * share) / (2 * np.pi))


def tabulated(exact, axes, **settings) -> SplineField:
    """The spline through a field at all nodes."""
    values = exact(lattice(axes)).reshape(*exact.shape, *(len(along) for along in axes))
    return SplineField.through(axes, values, **settings)


def sampled(exact, axes, **settings) -> SplineField:
    return tabulated(exact, axes, names=VARIABLES[: len(axes)], **settings)


def derivatives(given, count: int) -> list:
    """A field and its derivatives."""
    found = [given]
    for _ in range(count):
        found.append(found[-1].derivative())
    return found


@pytest.mark.parametrize("spread", [even, uneven])
@pytest.mark.parametrize(("degree", "axes"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_value_gradient_and_hessian_are_of_their_orders(degree, axes, spread):
    exact = symbolic(WAVES[axes], variables=VARIABLES[:axes])
    counts, errors = {3: np.array([81, 161, 321]), 5: np.array([41, 81, 161])}[degree], []
    for count in counts:
        spline = sampled(exact, [spread(count)] * axes, degree=degree)
        # Eighths of cells, so that the largest error within a cell is always seen at the same place; all of them near
        # the ends, where it is largest.
        fine = spread(8 * count - 7)
        positions = lattice([np.concatenate([fine[:40], fine[40:-40:33], fine[-40:]])] * axes)
        pairs = zip(derivatives(spline, 2), derivatives(exact, 2), strict=True)
        errors.append([np.abs(found(positions) - wanted(positions)).max() for found, wanted in pairs])
    found = [orders(counts - 1.0, column)[-1] for column in zip(*errors, strict=True)]
    np.testing.assert_allclose(found, [degree + 1, degree, degree - 1], rtol=0, atol=0.1)


@pytest.mark.parametrize("degree", [3, 5])
def test_a_period_has_no_ends(degree):
    exact = symbolic("exp(sin(x))", variables=("x",))
    positions = np.linspace(-20.0, 20.0, 4001)[None]
    wanted, errors, counts = [part(positions) for part in derivatives(exact, 2)], [], np.array([33, 65, 129])
    for count in counts:
        nodes = np.linspace(0.3, 0.3 + 2 * np.pi, count)
        spline = sampled(exact, [nodes], degree=degree, periodic=[True])
        errors.append([np.abs(a(positions) - b).max() for a, b in zip(derivatives(spline, 2), wanted, strict=True)])
        beside = nodes[0] + np.array([[-1e-9, 1e-9]])
        sides = derivatives(spline, degree - 1)[-1](beside)
        jump = derivatives(spline, degree)[-1](beside) * 1e-9
        # All derivatives below the degree are continuous: they change by their slope; rounding: 1e-16 / spacing**4.
        assert abs(np.diff(sides.ravel())) <= np.abs(jump).sum() + 1e-9
    found = [orders(counts - 1.0, column)[-1] for column in zip(*errors, strict=True)]
    np.testing.assert_allclose(found, [degree + 1, degree, degree - 1], rtol=0, atol=0.1)


def test_one_axis_of_two_may_be_periodic():
    exact = symbolic(["cos(x)*y**3", "sin(x)*y"], (2,))
    nodes = [np.linspace(-np.pi, np.pi, 65), even(9)]
    spline = sampled(exact, nodes, periodic=[True, False])
    positions = np.random.default_rng(3).uniform([[-30.0], [-1.0]], [[30.0], [1.5]], (2, 200))
    # (2 pi / 64)**6 / 2000 = 4e-10 times 1.5**3, and its square root of six for one derivative
    np.testing.assert_allclose(spline(positions), exact(positions), rtol=0, atol=2e-9)
    np.testing.assert_allclose(spline.derivative()(positions), exact.derivative()(positions), rtol=0, atol=1e-7)


@given(
    degree=st.sampled_from([3, 5]),
    axes=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
def test_polynomials_come_back_whole(degree, axes, seed, data):
    rng = np.random.default_rng(seed)
    lengths = data.draw(st.lists(st.integers(degree + 1, degree + 5), min_size=axes, max_size=axes))
    nodes = [np.sort(np.linspace(-1.0, 1.0, n) + 0.25 / n * rng.uniform(-1.0, 1.0, n)) for n in lengths]
    coefficients = rng.uniform(-1.0, 1.0, (degree + 1,) * axes)

    def polynomial(taken, places):
        """Its derivative, so many times along each axis."""
        left = coefficients
        for axis, times in enumerate(taken):
            left = np.polynomial.polynomial.polyder(left, times, axis=axis)
        evaluate = {1: np.polynomial.polynomial.polyval, 2: np.polynomial.polynomial.polyval2d}
        return evaluate.get(axes, np.polynomial.polynomial.polyval3d)(*places, left)

    box = polynomial((0,) * axes, np.meshgrid(*nodes, indexing="ij"))
    # Half a spacing beyond the nodes too: the end polynomials go on.
    positions = rng.uniform(-1.1, 1.1, (axes, 20))
    for order, spline in enumerate(derivatives(SplineField.through(nodes, box, degree=degree), 2)):
        assert spline.shape == (axes,) * order
        values = spline(positions).reshape(-1, 20)
        for along, row in zip(itertools.product(range(axes), repeat=order), values, strict=True):
            wanted = polynomial([along.count(axis) for axis in range(axes)], positions)
            # Rounding: 1e-16 times the condition of interpolation (some 1e2 per axis here), 1/spacing per derivative.
            np.testing.assert_allclose(row, wanted, rtol=0, atol=1e-15 * 60.0**axes * 20.0**order)


def test_more_derivatives_than_the_degree_are_zero():
    spline = SplineField.through([even(12)], np.sin(even(12)), degree=3)
    fourth = derivatives(spline, 4)[-1]
    assert fourth.shape == (1, 1, 1, 1)
    np.testing.assert_array_equal(fourth(np.array([[0.1, 0.7]])), np.zeros((1, 1, 1, 1, 2)))


def test_the_nodes_keep_their_values_and_matrices_their_symmetry():
    rng = np.random.default_rng(5)
    values = rng.normal(size=(2, 2, 30, 20))
    values[1, 0] = values[0, 1]
    nodes = [uneven(30), even(20)]
    spline = SplineField.through(nodes, values)
    # Rounding: 1e-16 times the condition of the interpolation.
    np.testing.assert_allclose(spline(lattice(nodes)), values.reshape(2, 2, -1), rtol=0, atol=1e-12)
    slopes = spline.derivative()(rng.uniform(-1.0, 1.5, (2, 50)))
    assert slopes.shape == (2, 2, 2, 50)
    np.testing.assert_array_equal(slopes[0, 1], slopes[1, 0])
    assert spline.at(3.0) is spline
    assert not spline.depends_on_time
    assert not spline.is_constant


def test_a_constant_is_known_as_one():
    spline = SplineField.through([even(8), even(9)], np.full((2, 8, 9), [[[3.0]], [[4.0]]]))
    assert spline.is_constant
    np.testing.assert_allclose(spline(np.array([[0.1], [900.0]])), [[3.0], [4.0]], rtol=1e-14)  # far beyond the nodes
    np.testing.assert_array_equal(spline.derivative()(np.array([[0.1], [0.2]])), np.zeros((2, 2, 1)))


def test_the_symmetric_part_and_its_derivative():
    matrix = symbolic([["x", "x*y"], ["y**2", "y"]], (2, 2))
    part = symmetric_part(matrix)
    positions = np.array([[0.5, -1.0], [2.0, 3.0]])
    x, y = positions
    cross = 0.5 * (x * y + y**2)
    np.testing.assert_array_equal(part(positions), [[x, cross], [cross, y]])
    np.testing.assert_array_equal(part.derivative()(positions)[1, 0], [0.5 * y, 0.5 * (x + 2.0 * y)])
    assert part.shape == (2, 2)
    assert not part.is_constant
    moving = symmetric_part(field([["t", "x*t"], ["0", "1"]], (2, 2), VARIABLES, {}, "test", timed=True))
    assert moving.depends_on_time
    np.testing.assert_array_equal(moving.at(2.0)(positions)[0, 1], x)


def test_nodes_cover_a_grid():
    axes = {
        "x": Axis("x", -1.0, 2.0, 6, walls=("reflecting", "absorbing"), refine=(Refinement(0.5, 3.0),)),
        "y": Axis("y", 0.0, 2.0, 8, walls=("periodic", "periodic")),
        "z": Axis("z", 0.0, np.inf, 7, scale=1.0),
    }
    grid = Grid(**axes)
    x, y, z = nodes_of(grid)
    np.testing.assert_array_equal(x, [-1.0, *axes["x"].centres, 2.0])
    np.testing.assert_allclose(y, [*axes["y"].centres, 2.125], rtol=1e-15)
    assert set(z) >= {0.0, *axes["z"].centres}
    wave = symbolic("x*cos(pi*y)*z", variables=("x", "y", "z"))
    spline = tabulated(wave, (x, y, z), periodic=[axis.periodic for axis in grid.axes])
    # At the nodes: rounding; z reaches out to about 50.
    np.testing.assert_allclose(spline(grid.positions()), wave(grid.positions()), rtol=0, atol=1e-11)


def test_few_cells_have_enough_nodes():
    grid = Grid(x=(0.0, 1.0, 1), y=Axis("y", 0.0, 1.0, 3, walls=("periodic", "periodic")))
    x, y = nodes_of(grid)
    np.testing.assert_allclose(x, np.linspace(0.0, 1.0, 9), rtol=1e-15)
    np.testing.assert_allclose(y, np.linspace(0.0, 1.0, 7) + 1 / 6, rtol=1e-15)


@pytest.mark.parametrize(("lower", "centre"), [(-np.inf, None), (-np.inf, 3.0), (2.0, None)])
def test_tails_on_infinite_axes_are_followed(lower, centre):
    """Cells far out are as long as their distance: a polynomial through their centres alone misses by 9 here."""
    axis = Axis("x", lower, np.inf, 32, scale=1.5, centre=centre)
    middle = centre or max(lower, 0.0)
    tail = FunctionField(lambda x: 1.0 / (1.0 + (x - middle) ** 2), (), 1, "test")
    (nodes,) = nodes_of(Grid(x=axis))
    assert nodes.size < 70
    between = axis.position(np.arange(0.0, 31.01, 0.1))[None]
    # 0.25**6 / 46080 times the sixth derivative, 720, is 4e-6, and up to ten times that near the ends.
    np.testing.assert_allclose(tabulated(tail, (nodes,))(between), tail(between), rtol=0, atol=4e-5)


def bad(count: int, **places: float) -> np.ndarray:
    """Nodes with some replaced."""
    nodes = even(count)
    for place, value in places.items():
        nodes[int(place[1:])] = value
    return nodes


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"degree": 4}, ("degree = 4", "3 or 5", "degree = 5")),
        ({"nodes": even(5)}, ("x has 5 nodes", "quintic", "at least 6", "degree = 3")),
        ({"nodes": even(3)}, ("x has 3 nodes", "at least 6", "Take more.")),
        ({"nodes": bad(9, n4=-0.9)}, ("node 4 of x goes back to -0.9", "increase")),
        ({"nodes": bad(9, n1=-1.0)}, ("node 1 of x repeats -1",)),
        ({"nodes": bad(9, n2=np.nan)}, ("node 2 of x is nan", "finite")),
        ({"nodes": even(9), "periodic": [True]}, ("two ends of x differ by up to 1.84", "same place")),
    ],
)
def test_what_is_no_lattice_is_refused(settings, words):
    nodes = settings.pop("nodes", even(9))
    with pytest.raises(CaseError) as error:
        SplineField.through([nodes], np.sin(nodes) + (nodes - nodes), names=("x",), where="landscape.table", **settings)
    assert error.value.where == "landscape.table"
    for word in words if np.isfinite(nodes).all() else words[:1]:
        assert word in str(error.value)


def test_values_that_are_not_finite_are_counted_and_named():
    values = np.ones((2, 9, 8))
    values[0, 3, 2] = values[1, 3, 2] = values[1, 5, 0] = np.nan
    with pytest.raises(CaseError, match=r"2 of 72 values are not finite, the first at x = -0.0625, y = -0.285714"):
        SplineField.through([even(9), even(8)], values, names=VARIABLES)
