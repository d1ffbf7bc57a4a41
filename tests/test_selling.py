"""Selling's decomposition: every positive definite tensor as non-negative weights on integer offsets."""

import numpy as np
import pytest
from exact import EPSILON
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from fpsolve.discretise.selling import LONGEST_OFFSET, selling
from fpsolve.errors import CaseError

MOST_OFFSETS = {1: 1, 2: 3, 3: 6}


def tensor(angles, logs):
    """A symmetric matrix with eigenvalues 10**-logs (the largest is 1), turned by angles."""
    values = np.diag(10.0 ** -np.array([0.0, *logs]))
    if len(values) == 1:
        turn = np.eye(1)
    elif len(values) == 2:
        turn = Rotation.from_euler("z", angles[0]).as_matrix()[:2, :2]
    else:
        turn = Rotation.from_euler("zyx", angles).as_matrix()
    matrix = turn @ values @ turn.T
    return 0.5 * (matrix + matrix.T)


angles = st.lists(st.floats(0.0, 2 * np.pi), min_size=3, max_size=3)
tensors = st.builds(tensor, angles, st.lists(st.floats(0.0, 4.0), max_size=2))


def summed(lattice, dimensions):
    """sum of weight offset offset^T."""
    return np.einsum("k,ik,jk->ij", lattice.weights, *2 * [lattice.offsets.astype(float)]).reshape(
        dimensions, dimensions
    )


@given(tensors, st.floats(-6.0, 6.0))
def test_the_offsets_reproduce_the_tensor(matrix, logarithm):
    matrix = matrix * 10.0**logarithm
    lattice = selling(np.array([0]), matrix[..., None])
    longest = np.abs(lattice.offsets).max()
    # Rounding: a weight is a product b . D b' of vectors as long as the offsets, and its rounding error, 9 roundings of
    # terms up to longest**2 trace/3, comes back times offset offset^T. Such weights are of size trace / longest**2
    # wherever that product is large, so the errors grow as longest**2 and not as its square (measured: at most 2).
    np.testing.assert_allclose(
        summed(lattice, len(matrix)), matrix, rtol=0, atol=9 * EPSILON * longest**2 * np.trace(matrix)
    )
    assert (lattice.weights >= 0.0).all()
    assert lattice.cells.size <= MOST_OFFSETS[len(matrix)]


@given(tensors)
def test_offsets_are_lines_of_the_lattice(matrix):
    """Each offset stands for both directions, once, and joins next neighbours of its line."""
    lattice = selling(np.array([0]), matrix[..., None])
    offsets = lattice.offsets.T
    assert len({tuple(offset) for offset in offsets}) == len(offsets)
    for offset in offsets:
        assert offset[np.flatnonzero(offset)[0]] > 0
        assert np.gcd.reduce(offset) == 1


@given(st.lists(st.floats(1e-8, 1e8), min_size=1, max_size=3))
def test_a_diagonal_tensor_keeps_to_the_axes(diagonal):
    lattice = selling(np.array([7]), np.diag(diagonal)[..., None])
    weights = np.zeros(len(diagonal))
    for offset, weight in zip(lattice.offsets.T, lattice.weights, strict=True):
        assert np.abs(offset).sum() == 1
        weights[np.flatnonzero(offset)[0]] = weight
    # weights below 1e-14 of the trace are left out
    np.testing.assert_allclose(weights, diagonal, rtol=1e-14, atol=1e-14 * sum(diagonal))


@given(tensors.filter(lambda matrix: len(matrix) > 1), st.data())
def test_permuted_axes_give_permuted_offsets(matrix, data):
    """The decomposition belongs to the tensor, not to the order of the axes."""
    order = data.draw(st.permutations(range(len(matrix))))
    straight = selling(np.array([0]), matrix[..., None])
    permuted = selling(np.array([0]), matrix[np.ix_(order, order)][..., None])

    def entries(lattice, rows):
        heavy = lattice.weights > 1e-9 * np.trace(matrix)  # the rest are rounding errors of a zero
        found = {}
        for offset, weight in zip(lattice.offsets[rows].T[heavy], lattice.weights[heavy], strict=True):
            sign = 1 if offset[np.flatnonzero(offset)[0]] > 0 else -1
            found[tuple((sign * offset).tolist())] = weight
        return found

    one, other = entries(straight, list(order)), entries(permuted, list(range(len(matrix))))
    assert one.keys() == other.keys()
    scale = EPSILON * np.trace(matrix) * max(np.abs(straight.offsets).max(), 1) ** 2
    for offset, weight in one.items():
        assert other[offset] == pytest.approx(weight, abs=9 * scale)


def test_many_cells_are_decomposed_one_by_one():
    matrices = np.stack([tensor((0.3 * k, 0.1, 0.2), (1.0, 2.0)) for k in range(5)], axis=-1)
    cells = np.array([4, 9, 2, 30, 11])
    lattice = selling(cells, matrices)
    for number, cell in enumerate(cells):
        mine = lattice.cells == cell
        single = selling(np.array([cell]), matrices[..., number : number + 1])
        np.testing.assert_array_equal(lattice.offsets[:, mine], single.offsets)
        np.testing.assert_array_equal(lattice.weights[mine], single.weights)


def test_a_hopelessly_anisotropic_tensor_is_refused():
    matrix = tensor(((1 + 5**0.5) / 2, 0.0, 0.0), (12.0,))
    with pytest.raises(
        CaseError, match=rf"an offset of \d+ cells\. Offsets of at most {LONGEST_OFFSET} cells are used"
    ):
        selling(np.array([0]), matrix[..., None])
