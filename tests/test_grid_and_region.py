"""Cells, walls, regions as volume fractions, points as multilinear weights."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from problems import box

from fpsolve.errors import CaseError
from fpsolve.model.grid import Axis, Grid
from fpsolve.model.region import Region, point_weights, volume_fractions

coordinates = st.floats(-3.0, 3.0, allow_nan=False)


# Axes and grids


def test_cells_fill_the_axis_and_index_inverts_position():
    axis = Axis("x", -1.0, 2.0, 6)
    np.testing.assert_allclose(axis.centres, [-0.75, -0.25, 0.25, 0.75, 1.25, 1.75], rtol=0, atol=1e-15)
    np.testing.assert_allclose(axis.faces, np.linspace(-1.0, 2.0, 7), rtol=0, atol=1e-15)
    index = np.linspace(-0.5, 5.5, 13)
    np.testing.assert_allclose(axis.index(axis.position(index)), index, rtol=0, atol=1e-14)


def test_flat_numbers_run_like_numpy():
    grid = box((3, 4, 5))
    np.testing.assert_array_equal(grid.indices(), np.unravel_index(np.arange(60), (3, 4, 5)))
    assert grid.size == 60
    assert grid.volumes == pytest.approx(2 / 3 * 2 / 4 * 2 / 5, rel=1e-15)
    values = np.arange(60.0)
    assert grid.shaped(values)[2, 1, 3] == values[2 * 20 + 1 * 5 + 3]


def test_neighbours_wrap_or_lie_outside():
    grid = box((3, 4), walls=("periodic", "reflecting"))
    neighbour, inside = grid.neighbours(np.array([1, -2]))
    wanted = [(((i + 1) % 3) * 4 + j - 2, j >= 2) for i, j in itertools.product(range(3), range(4))]
    assert inside.tolist() == [there for _, there in wanted]
    assert neighbour[inside].tolist() == [cell for cell, there in wanted if there]


def test_differences_are_exact_for_planes():
    grid = box((5, 1, 4), walls=("reflecting", "reflecting", "reflecting"))
    x, _, z = grid.positions()
    slopes = grid.differences(2.0 * x - 3.0 * z) / grid.spacings[:, None]
    np.testing.assert_allclose(slopes, np.array([[2.0], [0.0], [-3.0]]).repeat(20, 1), rtol=0, atol=1e-13)


def test_differences_wrap_on_a_periodic_axis():
    grid = box((8,), walls="periodic")
    wave = np.sin(np.pi * grid.positions()[0])
    slope = grid.differences(wave)[0]
    # (sin(a + h) - sin(a - h)) / 2 = cos(a) sin(h), h = pi/4, at the ends too
    np.testing.assert_allclose(slope, np.cos(np.pi * grid.positions()[0]) * math.sin(np.pi / 4), rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Axis("x", 1.0, 1.0, 10), r"grid\.x: min = 1 is not below max = 1\. An axis needs min < max"),
        (lambda: Axis("x", 2.0, -2.0, 10), r"grid\.x: min = 2 is not below max = -2\. An axis needs min < max"),
        (lambda: Axis("y", math.nan, 1.0, 10), r"grid\.y: a bound is nan\. Bounds are numbers, -inf or inf"),
        (lambda: Axis("y", 0.0, math.inf, 10), r"grid\.y: the axis runs from 0 to inf and has no scale"),
        (lambda: Axis("y", -math.inf, 1.0, 10), r"grid\.y: the axis runs from -inf to 1 and has no scale"),
        (lambda: Axis("z", 0.0, 1.0, 0), r"grid\.z: cells = 0\. An axis needs a whole number of cells, at least 1"),
        (
            lambda: Axis("x", 0.0, 1.0, 9, ("periodic", "absorbing")),
            r"walls\.x: one end is periodic, the other absorbing\. A periodic axis joins both ends",
        ),
        (
            lambda: Axis("x", 0.0, 1.0, 9, ("reflecting", "periodic")),
            r"walls\.x: one end is periodic, the other reflecting",
        ),
        (lambda: Grid(), r"grid: 0 axes \(none\)\. A grid has 1 to 3 axes"),
        (lambda: Grid(**dict.fromkeys("abcd", (0.0, 1.0, 2))), r"grid: 4 axes \(a, b, c, d\)\. A grid has 1 to 3 axes"),
    ],
)
def test_bad_grids_are_refused(make, message):
    with pytest.raises(CaseError, match=message):
        make()


# Regions


def exact_share(normal, level):
    """Share of the unit cell where normal . x + level > 0, one axis after the other.

    The share of a slice is a polynomial of degree < 3 between the heights at which the plane passes a corner of it,
    so Gauss points between those heights integrate it exactly.
    """
    *rest, last = normal
    if not rest:
        return float(np.clip(0.5 + level / abs(last), 0.0, 1.0)) if last else float(level > 0.0)
    corners = [math.fsum(signs) / 2 for signs in itertools.product(*((n, -n) for n in rest))]
    breaks = [-(corner + level) / last for corner in corners] if last else []
    edges = sorted({-0.5, 0.5, *(height for height in breaks if -0.5 < height < 0.5)})
    nodes, weights = np.polynomial.legendre.leggauss(3)
    total = 0.0
    for low, high in itertools.pairwise(edges):
        for node, weight in zip(nodes, weights, strict=True):
            height = 0.5 * (low + high) + 0.5 * (high - low) * node
            total += 0.5 * (high - low) * weight * exact_share(rest, level + last * height)
    return total


components = st.one_of(st.just(0.0), st.floats(0.05, 1.0), st.floats(-1.0, -0.05))


@given(st.lists(components, min_size=1, max_size=3), st.floats(-1.0, 1.0))
def test_the_share_of_a_plane_is_exact(normal, level):
    share = volume_fractions(np.array(normal)[:, None], np.array([level]))[0]
    # Rounding: a sum of 8 terms of size one, divided by 6 times the product of three components, at least 0.05**3.
    assert share == pytest.approx(exact_share(normal, level), abs=1e-11)


@given(st.lists(st.floats(-1.0, 1.0), min_size=1, max_size=2), st.floats(-1.0, 1.0))
def test_the_share_of_a_nearly_parallel_plane_is_nearly_exact(normal, level):
    normal = [*normal, 1.0]
    share = volume_fractions(np.array(normal)[:, None], np.array([level]))[0]
    # Components below 1e-4 of the sum are dropped. Where the plane meets a face this shifts it by up to half as much,
    # over up to half the cell: 1e-4 / 8 for each of two components.
    assert share == pytest.approx(exact_share(normal, level), abs=2.6e-5)
    assert 0.0 <= share <= 1.0


@pytest.mark.parametrize("scale", [1e-150, 1e-3, 1e3, 1e120])
def test_the_share_does_not_depend_on_the_unit_of_the_level(scale):
    normal, level = np.array([[0.3], [-0.5], [0.4]]), np.array([0.1])
    share = volume_fractions(scale * normal, scale * level)[0]
    assert share == pytest.approx(exact_share((0.3, -0.5, 0.4), 0.1), abs=1e-14)


@given(st.floats(0.0, 2 * math.pi), st.floats(-0.5, 0.5))
def test_half_planes_and_their_complements_fill_the_box(angle, distance):
    grid = box((7, 5))
    c, s = math.cos(angle), math.sin(angle)
    inside = Region.parse("in", f"{c!r}*x + {s!r}*y > {distance!r}", ("x", "y"), {}, "").weights(grid)
    outside = Region.parse("out", f"{c!r}*x + {s!r}*y < {distance!r}", ("x", "y"), {}, "").weights(grid)
    np.testing.assert_allclose(inside + outside, 1.0, rtol=0, atol=1e-8)  # rounding over the smallest kept component
    # The box is one big cell, cut by the same plane; components dropped in a cell cost 1e-4 / 8 of it, in 7 + 5 cells.
    assert inside.mean() == pytest.approx(exact_share((2 * c, 2 * s), -distance), abs=1e-5)


def test_a_disc_has_its_area_to_second_order():
    disc = Region.parse("disc", "x**2 + y**2 < 0.49", ("x", "y"), {}, "")
    for cells in (10, 20, 40, 80):
        grid = box((cells, cells))
        area = disc.weights(grid).sum() * grid.volumes[0]
        # A chord cuts off h**2/(8 r) of each piece of the circle: less than 2 pi r h**2/(8 r).
        assert abs(area - math.pi * 0.49) < math.pi / 4 * (2.0 / cells) ** 2


def test_and_is_the_smaller_level():
    grid = box((4, 4))
    corner = Region.parse("corner", "x > 0 and y > 0", ("x", "y"), {}, "").weights(grid)
    x, y = grid.positions()
    np.testing.assert_array_equal(corner, ((x > 0) & (y > 0)).astype(float))


# Points


@given(coordinates, coordinates, coordinates)
def test_points_read_linear_functions_exactly(x, y, z):
    grid = box((9, 4, 6), (-4.0, 4.0))
    weights = point_weights(grid, (x, y, z), "start")
    values = np.array([1.0, 2.0, -0.5]) @ grid.positions() + 3.0
    assert weights.read(values) == pytest.approx(x + 2 * y - 0.5 * z + 3, abs=1e-13)
    assert (weights.weights > 0).all()
    assert weights.weights.sum() == pytest.approx(1.0, abs=1e-15)
    assert weights.cells.size <= 8


@given(st.lists(st.floats(-1.0, 1.0), min_size=2, max_size=2), st.integers(0, 2**32 - 1))
def test_injecting_and_reading_are_adjoint(point, seed):
    grid = box((5, 3), walls=("periodic", "reflecting"))
    values = np.random.default_rng(seed).normal(size=grid.size)
    weights = point_weights(grid, point, "start")
    assert weights.read(values) == pytest.approx(float(weights.inject(grid.size) @ values), abs=1e-14)


def test_a_point_near_a_periodic_end_is_shared_with_the_other_end():
    grid = box((4,), (0.0, 4.0), "periodic")
    weights = point_weights(grid, (3.75,), "start")
    np.testing.assert_allclose(weights.inject(4), [0.25, 0.0, 0.0, 0.75], rtol=0, atol=1e-15)


def test_a_point_near_a_wall_belongs_to_the_last_cell():
    weights = point_weights(box((4,), (0.0, 4.0)), (3.9,), "start")
    np.testing.assert_array_equal(weights.inject(4), [0.0, 0.0, 0.0, 1.0])


@pytest.mark.parametrize(
    ("point", "message"),
    [
        ((0.0,), r"start: 1 coordinates\. A point needs 2, one per variable"),
        ((0.0, 1.5), r"start: y = 1\.5 lies outside the grid\. y runs from -1 to 1\. Move the point or widen the grid"),
        ((math.nan, 0.0), r"start: x = nan lies outside the grid"),
    ],
)
def test_bad_points_are_refused(point, message):
    with pytest.raises(CaseError, match=message):
        point_weights(box((4, 4)), point, "start")
