"""The compiled product of a stencil: out = slope * Q p + keep * p + back * out, block after block of cells.

Rows of rates run alongside the cells of a block, so every loop has unit stride and no branch, and vectorises. Several
rows are read side by side: the memory then delivers them together, and the sums stay in registers.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def advance(block, first, full, cell, length, stride, place, rate, p, out, slope, keep, back, start, stop):  # type: ignore[no-untyped-def]
    """Fill the blocks start ... stop - 1 of out with slope * Q p + keep * p + back * out; out is not read if back = 0.

    Row r adds rate[place[r] + j] * p[cell[r] + stride[r] + j] to cell[r] + j, for j < length[r]. Rows first[b] ...
    first[b + 1] - 1 belong to block b; the first is the diagonal, and those before full[b] span the block.
    """
    for b in range(start, stop):
        low = b * block
        n = min(block, out.size - low)
        w, q = out[low : low + n], p[low : low + n]
        k = first[b]
        d = rate[place[k] : place[k] + n]
        if full[b] - k >= 7:
            _seven(w, q, d, k + 1, low, stride, place, rate, p, slope, keep, back)
            k += 7
        else:
            _diagonal(w, q, d, slope, keep, back)
            k += 1
        while k + 2 <= full[b]:
            _two(w, k, low, stride, place, rate, p, slope)
            k += 2
        for k in range(k, first[b + 1]):  # noqa: B020 - goes on where the others stopped
            _row(out, cell[k], length[k], stride[k], place[k], rate, p, slope)


@njit(cache=True, nogil=True)
def _seven(w, q, d, k, low, stride, place, rate, p, slope, keep, back):  # type: ignore[no-untyped-def]
    """The diagonal and six rows."""
    n = w.size
    r1, q1 = _pair(k, n, low, stride, place, rate, p)
    r2, q2 = _pair(k + 1, n, low, stride, place, rate, p)
    r3, q3 = _pair(k + 2, n, low, stride, place, rate, p)
    r4, q4 = _pair(k + 3, n, low, stride, place, rate, p)
    r5, q5 = _pair(k + 4, n, low, stride, place, rate, p)
    r6, q6 = _pair(k + 5, n, low, stride, place, rate, p)
    if back == 0.0:
        for j in range(n):
            inner = d[j] * q[j] + r1[j] * q1[j] + r2[j] * q2[j] + r3[j] * q3[j]
            w[j] = slope * (inner + r4[j] * q4[j] + r5[j] * q5[j] + r6[j] * q6[j]) + keep * q[j]
    else:
        for j in range(n):
            inner = d[j] * q[j] + r1[j] * q1[j] + r2[j] * q2[j] + r3[j] * q3[j]
            w[j] = slope * (inner + r4[j] * q4[j] + r5[j] * q5[j] + r6[j] * q6[j]) + keep * q[j] + back * w[j]


@njit(cache=True, nogil=True)
def _diagonal(w, q, d, slope, keep, back):  # type: ignore[no-untyped-def]
    if back == 0.0:
        for j in range(w.size):
            w[j] = (slope * d[j] + keep) * q[j]
    else:
        for j in range(w.size):
            w[j] = (slope * d[j] + keep) * q[j] + back * w[j]


@njit(cache=True, nogil=True)
def _two(w, k, low, stride, place, rate, p, slope):  # type: ignore[no-untyped-def]
    r1, q1 = _pair(k, w.size, low, stride, place, rate, p)
    r2, q2 = _pair(k + 1, w.size, low, stride, place, rate, p)
    for j in range(w.size):
        w[j] += slope * (r1[j] * q1[j] + r2[j] * q2[j])


@njit(cache=True, nogil=True)
def _row(out, cell, length, stride, place, rate, p, slope):  # type: ignore[no-untyped-def]
    w, r, q = out[cell : cell + length], rate[place : place + length], p[cell + stride : cell + stride + length]
    for j in range(length):
        w[j] += slope * r[j] * q[j]


@njit(cache=True, nogil=True, inline="always")
def _pair(k, n, low, stride, place, rate, p):  # type: ignore[no-untyped-def]
    """The rates of a row that spans the block, and what they multiply."""
    return rate[place[k] : place[k] + n], p[low + stride[k] : low + stride[k] + n]


@njit(cache=True)
def rows(target, chosen, stride, size, block, dense, gap):  # type: ignore[no-untyped-def]
    """The rows of some edges that lead into the cells target[chosen], in increasing order, from target + stride.

    A row for each: how many edges, first cell, length; see `Stencil`.
    """
    found, count, begin = np.empty((chosen.size, 3), dtype=np.int64), 0, 0
    while begin < chosen.size:
        low = target[chosen[begin]] // block * block
        high = min(low + block, size)
        end = begin
        while end < chosen.size and target[chosen[end]] < high:
            end += 1
        if end - begin > dense * (high - low):
            low, high = max(low, -stride), min(high, size - stride)
            found[count, 0], found[count, 1], found[count, 2] = end - begin, low, high - low
            begin, count = end, count + 1
            continue
        for edge in range(begin + 1, end + 1):
            before = target[chosen[edge - 1]]
            if edge == end or target[chosen[edge]] - before > gap:
                first = target[chosen[begin]]
                found[count, 0], found[count, 1], found[count, 2] = edge - begin, first, before + 1 - first
                begin, count = edge, count + 1
    return found[:count].copy()


@njit(cache=True)
def fill(target, rate, chosen, count, cell, place, out):  # type: ignore[no-untyped-def]
    """Put the rates of chosen edges, count[row] of them in each row, where they belong: out[place + target - cell]."""
    entry = 0
    for row in range(count.size):
        shift = place[row] - cell[row]
        for _ in range(count[row]):
            out[shift + target[chosen[entry]]] = rate[chosen[entry]]
            entry += 1
