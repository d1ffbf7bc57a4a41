"""Symmetric matrices at many points, against NumPy's routines for one."""

import numpy as np
import pytest
from exact import EPSILON
from hypothesis import given
from hypothesis import strategies as st

from fpsolve.model.symmetric import absolute, composed, divergence, eigen, is_positive_definite, solved

SIZES = (1, 2, 3)
entries = st.one_of(st.floats(-1e3, 1e3), st.integers(-3, 3).map(float), st.floats(-1e-9, 1e-9))


@st.composite
def matrices(draw):
    """A symmetric matrix: any, or nearly a multiple of the identity, or of low rank; of any magnitude."""
    axes = draw(st.sampled_from(SIZES))
    given_entries = np.array(draw(st.lists(entries, min_size=axes * axes, max_size=axes * axes))).reshape(axes, axes)
    matrix = given_entries + given_entries.T
    match draw(st.sampled_from(["any", "degenerate", "of low rank"])):
        case "degenerate":
            matrix = np.eye(axes) + 1e-14 * matrix
        case "of low rank":
            matrix = np.outer(given_entries[0], given_entries[0]) * draw(st.sampled_from([-1.0, 1.0]))
    return matrix * 10.0 ** draw(st.integers(-100, 100))


@given(matrices())
def test_eigenvectors_compose_the_matrix(matrix):
    values, vectors = eigen(matrix[..., None])
    # A few rotations, of a few roundings of the largest entry each.
    tolerance = {"rtol": 0, "atol": 50 * EPSILON * np.abs(matrix).max()}
    np.testing.assert_allclose(np.sort(values[:, 0]), np.linalg.eigvalsh(matrix), **tolerance)
    np.testing.assert_allclose(composed(values, vectors)[..., 0], matrix, **tolerance)
    np.testing.assert_allclose(vectors[..., 0].T @ vectors[..., 0], np.eye(len(matrix)), rtol=0, atol=50 * EPSILON)


@given(matrices())
def test_the_absolute_value_is_that_of_the_eigenvalues(matrix):
    values, vectors = np.linalg.eigh(matrix)
    wanted = (vectors * np.abs(values)) @ vectors.T
    found = absolute(matrix[..., None])[..., 0]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=50 * EPSILON * np.abs(matrix).max())
    np.testing.assert_array_equal(found, found.T)


def test_the_absolute_value_takes_the_symmetric_part():
    skewed = np.array([[1.0, 4.0], [0.0, -2.0]])
    np.testing.assert_array_equal(absolute(skewed[..., None]), absolute(0.5 * (skewed + skewed.T)[..., None]))


@pytest.mark.parametrize("axes", SIZES)
def test_equations_are_solved(axes):
    random = np.random.default_rng(axes)
    roots, right = random.normal(size=(axes, axes, 50)), random.normal(size=(axes, 50))
    positive = np.einsum("ikp,jkp->ijp", roots, roots) + 0.1 * np.eye(axes)[..., None]
    wanted = [np.linalg.solve(positive[..., point], right[:, point]) for point in range(50)]
    np.testing.assert_allclose(solved(positive, right).T, wanted, rtol=0, atol=1e-12)  # condition numbers of 1e3
    assert is_positive_definite(positive).all()


@given(matrices())
def test_only_positive_definite_matrices_have_a_solution(matrix):
    found = is_positive_definite(matrix[..., None])[0]
    smallest, rounding = np.linalg.eigvalsh(matrix)[0], 50 * EPSILON * np.abs(matrix).max()
    if abs(smallest) > rounding:
        assert found == (smallest > 0.0)
    assert np.isnan(solved(matrix[..., None], np.ones((len(matrix), 1)))).all() != found


@pytest.mark.parametrize("axes", SIZES)
def test_the_divergence_of_a_function_of_matrices(axes):
    """Of A**2, whose divided differences are sums of eigenvalues: d (A**2) = dA A + A dA."""
    random = np.random.default_rng(axes)
    matrix, slopes = random.normal(size=(axes, axes, 9)), random.normal(size=(axes, axes, axes, 9))
    matrix, slopes = matrix + matrix.swapaxes(0, 1), slopes + slopes.swapaxes(0, 1)
    values, vectors = eigen(matrix)
    wanted = np.einsum("ikjp,kjp->ip", slopes, matrix) + np.einsum("ikp,kjjp->ip", matrix, slopes)
    found = divergence(values[:, None] + values, vectors, slopes)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e3 * EPSILON)  # sums of 27 products of sizes up to 10
