"""Symmetric matrices at many points, compiled: eigenvalues, functions of matrices, linear equations.

Matrices have the shape (axes, axes, points). NumPy's own routines spend most of their time between the matrices, which
are as small as one to three axes.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from fpsolve.model.grid import BoolArray, FloatArray

MOST_SWEEPS = 30  # of Jacobi's method; it converges quadratically, and five or six are enough
SINGULAR = 1e-13  # a pivot below this share of the entry that it came from is a rounded zero
NO_ROTATION = 1e-17  # an off-diagonal entry below this share of the diagonal's is zero


def eigen(matrices: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Eigenvalues (axes, points), in no order, and eigenvectors (axes, axes, points): one in every column."""
    values, vectors = np.empty(matrices.shape[1:]), np.empty(matrices.shape)
    _eigen(np.ascontiguousarray(matrices), values, vectors)
    return values, vectors


def composed(values: FloatArray, vectors: FloatArray) -> FloatArray:
    """The matrices of some eigenvalues and eigenvectors, as `eigen` gives them."""
    out = np.empty(vectors.shape)
    _compose(values, vectors, out)
    return out


def absolute(matrices: FloatArray, out: FloatArray | None = None) -> FloatArray:
    """|symmetric part| of matrices, |.| acting on the eigenvalues; those are needed only where signs may differ.

    out: written to, and may be the same array.

    A diagonal that outweighs the rest of its rows and has one sign is that of all eigenvalues (Gershgorin 1931).
    """
    result = np.empty(matrices.shape) if out is None else out
    _absolute(matrices, result)
    return result


def divergence(factors: FloatArray, vectors: FloatArray, slopes: FloatArray) -> FloatArray:
    """The divergence sum_j d f(A)_ij / d x_j of a function f of matrices A(x), (axes, points).

    d f(A) = V (F o V^T dA V) V^T by Daletskii and Krein; factors: F, (axes, axes, points), of the eigenvalues to which
    the columns V of vectors belong; slopes: d A_ij / d x_k, (axes, axes, axes, points).
    """
    out = np.empty(vectors.shape[1:])
    _divergence(factors, vectors, np.ascontiguousarray(slopes), out)
    return out


def is_positive_definite(matrices: FloatArray) -> BoolArray:
    """Whether a Cholesky factor exists, (points,)."""
    return ~np.isnan(solved(matrices, np.zeros(matrices.shape[1:]))[0])


def is_singular(matrices: FloatArray) -> BoolArray:
    """Whether matrices have no inverse, up to rounding of their entries, (points,).

    Small entries of a diagonal are none: the pivots of a Cholesky factor are measured by what they came from.
    """
    found = np.empty(matrices.shape[2], dtype=np.bool_)
    _singular(np.ascontiguousarray(matrices), SINGULAR, found)
    return found


def solved(matrices: FloatArray, vectors: FloatArray) -> FloatArray:
    """matrix^-1 vector, (axes, points), for positive definite matrices; nan for others."""
    out = np.array(vectors, dtype=np.float64, order="C")
    _solve(np.ascontiguousarray(matrices), out)
    return out


@njit(cache=True, nogil=True)
def _load(matrices, point, a):  # type: ignore[no-untyped-def]
    """Copy the symmetric part of one of the matrices to a."""
    for i in range(a.shape[0]):
        for j in range(i + 1):
            a[i, j] = a[j, i] = 0.5 * (matrices[i, j, point] + matrices[j, i, point])


@njit(cache=True, nogil=True)
def _eigen(matrices, values, vectors):  # type: ignore[no-untyped-def]
    axes = matrices.shape[0]
    a, v = np.empty((axes, axes)), np.empty((axes, axes))
    for point in range(matrices.shape[2]):
        _load(matrices, point, a)
        _diagonalise(a, v)
        for i in range(axes):
            values[i, point] = a[i, i]
            for j in range(axes):
                vectors[i, j, point] = v[i, j]


@njit(cache=True, nogil=True)
def _diagonalise(a, v):  # type: ignore[no-untyped-def]
    """Make a symmetric matrix a = v diag(values) v^T diagonal, in place, by Jacobi's rotations.

    Every rotation makes one off-diagonal entry zero; in the plane, the first one ends it. t: tangent of its angle, the
    smaller one, so that equal eigenvalues do no harm (Rutishauser 1966).
    """
    axes = a.shape[0]
    for i in range(axes):
        for j in range(axes):
            v[i, j] = 1.0 if i == j else 0.0
    for _ in range(MOST_SWEEPS):
        turned = False
        for p in range(axes - 1):
            for q in range(p + 1, axes):
                off = a[p, q]
                if not abs(off) > NO_ROTATION * (abs(a[p, p]) + abs(a[q, q])):
                    continue
                turned = True
                half = 0.5 * (a[q, q] - a[p, p])
                t = off / (half + math.copysign(math.hypot(half, off), half))
                cosine = 1.0 / math.sqrt(1.0 + t * t)
                sine = t * cosine
                a[p, p] -= t * off
                a[q, q] += t * off
                a[p, q] = a[q, p] = 0.0
                for k in range(axes):
                    if k != p and k != q:
                        first, second = a[k, p], a[k, q]
                        a[k, p] = a[p, k] = cosine * first - sine * second
                        a[k, q] = a[q, k] = sine * first + cosine * second
                    first, second = v[k, p], v[k, q]
                    v[k, p], v[k, q] = cosine * first - sine * second, sine * first + cosine * second
        if not turned:
            return


@njit(cache=True, nogil=True)
def _absolute(matrices, out):  # type: ignore[no-untyped-def]
    axes = matrices.shape[0]
    a, v = np.empty((axes, axes)), np.empty((axes, axes))
    for point in range(matrices.shape[2]):
        _load(matrices, point, a)
        up = down = True
        for i in range(axes):
            rest = 0.0
            for j in range(axes):
                rest += abs(a[i, j]) if j != i else 0.0
            up, down = up and a[i, i] > rest, down and a[i, i] < -rest
        if up or down:
            for i in range(axes):
                for j in range(axes):
                    out[i, j, point] = a[i, j] if up else -a[i, j]
            continue
        _diagonalise(a, v)
        for i in range(axes):
            for j in range(i + 1):
                total = 0.0
                for k in range(axes):
                    total += v[i, k] * abs(a[k, k]) * v[j, k]
                out[i, j, point] = out[j, i, point] = total


@njit(cache=True, nogil=True)
def _compose(values, vectors, out):  # type: ignore[no-untyped-def]
    axes = values.shape[0]
    for i in range(axes):
        for j in range(i + 1):
            for point in range(values.shape[1]):
                total = 0.0
                for k in range(axes):
                    total += vectors[i, k, point] * values[k, point] * vectors[j, k, point]
                out[i, j, point] = out[j, i, point] = total


@njit(cache=True, nogil=True)
def _divergence(factors, vectors, slopes, out):  # type: ignore[no-untyped-def]
    """out_i = sum_a V_ia sum_b F_ab sum_jkl V_ja dA_jk/dx_l V_kb V_lb."""
    axes = vectors.shape[0]
    along = np.empty(axes)  # sum_kl dA_jk/dx_l V_kb V_lb
    for point in range(out.shape[1]):
        for i in range(axes):
            out[i, point] = 0.0
        for b in range(axes):
            for j in range(axes):
                along[j] = 0.0
            for k in range(axes):
                for l in range(axes):  # noqa: E741
                    product = vectors[k, b, point] * vectors[l, b, point]
                    for j in range(axes):
                        along[j] += slopes[j, k, l, point] * product
            for a in range(axes):
                total = 0.0
                for j in range(axes):
                    total += vectors[j, a, point] * along[j]
                for i in range(axes):
                    out[i, point] += vectors[i, a, point] * factors[a, b, point] * total


@njit(cache=True, nogil=True)
def _singular(matrices, share, out):  # type: ignore[no-untyped-def]
    axes = matrices.shape[0]
    a = np.empty((axes, axes))
    for point in range(matrices.shape[2]):
        _load(matrices, point, a)
        out[point] = False
        for k in range(axes):
            if not a[k, k] > share * max(matrices[k, k, point], 0.0):
                out[point] = True
                break
            for i in range(k + 1, axes):
                for j in range(k + 1, i + 1):
                    a[i, j] -= a[i, k] * a[j, k] / a[k, k]


@njit(cache=True, nogil=True, error_model="numpy")
def _solve(matrices, x):  # type: ignore[no-untyped-def]
    """Replace x by matrix^-1 x, matrix = L diag(p, q, r) L^T; where there are fewer axes, the identity fills up."""
    axes = matrices.shape[0]
    c = f = 1.0
    b = d = e = x1 = x2 = 0.0
    for point in range(x.shape[1]):
        p, x0 = matrices[0, 0, point], x[0, point]
        if axes > 1:
            b, c, x1 = 0.5 * (matrices[1, 0, point] + matrices[0, 1, point]), matrices[1, 1, point], x[1, point]
        if axes > 2:
            d, e = matrices[2, 0, point] + matrices[0, 2, point], matrices[2, 1, point] + matrices[1, 2, point]
            d, e, f, x2 = 0.5 * d, 0.5 * e, matrices[2, 2, point], x[2, point]
        l10, l20 = b / p, d / p
        q, e = c - l10 * b, e - l20 * b
        l21 = e / q
        r = f - l20 * d - l21 * e
        if not (p > 0.0 and q > 0.0 and r > 0.0):
            x[:, point] = math.nan
            continue
        x1 -= l10 * x0
        x2 = (x2 - l20 * x0 - l21 * x1) / r
        x1 = x1 / q - l21 * x2
        x[0, point] = x0 / p - l10 * x1 - l20 * x2
        if axes > 1:
            x[1, point] = x1
        if axes > 2:
            x[2, point] = x2
