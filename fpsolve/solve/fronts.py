"""The compiled loops of the elimination: rates and losses only, nothing is ever subtracted.

A cell m with rates a_mj >= 0 to others and loss k_m >= 0 is eliminated by (Grassmann, Taksar & Heyman 1985)

    d_m = sum over j of a_mj + k_m,   a_ij += a_im a_mj / d_m,   k_i += a_im k_m / d_m,   r_i += a_im r_m / d_m

Every result is a sum of products and quotients of positive numbers: right to rounding, entry by entry, however deep
the barrier (O'Cinneide 1993). Fronts (see `ordering`) do it in blocks. With P the pivots of a front and B its
boundary, the factors hold four blocks one after the other, row by row:

    F11 = a_PP, afterwards L = a_im/d_m below the diagonal, 1/d on it and U = a_mj above it
    F12 = a_PB, afterwards (1 - L)^-1 F12           F21T = a_BP transposed, afterwards (F21 (D - U)^-1) transposed

and what elimination adds to the rates among B, the remainder F22 = F21 F12, goes to the front above. Diagonals of
rates stand for nothing and are never read; the losses are eliminated like a right-hand side.

Numbers are of either kind of `arithmetic`; matrix products by BLAS serve the doubles.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from fpsolve.solve.arithmetic import (
    add_dots,
    add_multiple,
    add_run,
    clear,
    combine,
    dot,
    inverse,
    lifted,
    number,
    of_two_kinds,
    plus,
    put,
    room,
    scale,
    times,
    total,
)
from fpsolve.solve.products import add_product

PANEL = 32  # pivots that are eliminated together in large fronts
SMALL = 4  # pivots up to which plain loops are quicker than matrix products
DOUBLE = 8  # bytes


@njit(cache=True, nogil=True)
def factorise(tree, graph, out, into, loss, factors, work, span, remainder, first_front, last_front, dgemm):  # type: ignore[no-untyped-def]
    """Eliminate the fronts from first_front up to last_front, children first.

    out, into: rates to and from the neighbours of `graph`, doubles. loss: (cells,) in the order of elimination,
    updated. factors: written. work from span[0] to span[1]: room for remainders, filled from both ends; remainder:
    where that of each front stands in work. dgemm: its address.
    """
    free = span.copy()
    local, widest = np.empty(tree.order.size, dtype=np.int32), 1
    for front in range(first_front, last_front):
        p, b = _size(tree, front)
        widest = max(widest, p + b)
    runs, spare = np.empty((widest + 1, 2), dtype=np.int32), room(factors, PANEL * widest)
    for front in range(first_front, last_front):
        p, b = _size(tree, front)
        at, up = tree.entries[front], tree.depth[front] % 2 == 0
        _enter_rates(tree, graph, front, out, into, local, factors)
        for child in (tree.left[front], tree.right[front]):
            if child >= 0:
                _enter_remainder(tree, front, child, work, remainder[child], local, runs, factors)
        _eliminate(factors, at, p, b, loss, tree.start[front], spare, dgemm)
        _pass_losses(tree, front, factors, loss, spare)
        remainder[front] = free[0] if up else free[1] - b * b
        _multiply(factors, at, p, b, work, remainder[front], dgemm)
        for child in (tree.left[front], tree.right[front]):
            if child >= 0:
                _pass_on(tree, front, child, work, remainder, local, runs)
                free[1 if up else 0] += _size(tree, child)[1] ** 2 * (1 if up else -1)
        free[0 if up else 1] += b * b * (1 if up else -1)


@njit(nogil=True)
def _size(tree, front):  # type: ignore[no-untyped-def]
    """Pivots and boundary of a front."""
    p = tree.start[front + 1] - tree.start[front]
    return p, tree.start_around[front + 1] - tree.start_around[front]


@njit(nogil=True)
def _enter_rates(tree, graph, front, out, into, local, factors):  # type: ignore[no-untyped-def]
    """Clear a front's blocks and enter the rates that its pivots have from the start.

    local: for every place of the boundary, written: which one it is.
    """
    p, b = _size(tree, front)
    begin, end, at = tree.start[front], tree.start[front + 1], tree.entries[front]
    for c in range(b):
        local[tree.around[tree.start_around[front] + c]] = c
    clear(factors, at, p * (p + 2 * b))
    for i in range(p):
        cell = tree.order[begin + i]
        for slot in range(graph.first[cell], graph.first[cell + 1]):
            q = tree.place[graph.head[slot]]
            if q >= end:
                j = at + p * p + i * b + local[q]
                put(factors, j, plus(number(factors, j), lifted(factors, out[slot])))
                put(factors, j + p * b, plus(number(factors, j + p * b), lifted(factors, into[slot])))
            elif q >= begin:
                j = at + i * p + q - begin
                put(factors, j, plus(number(factors, j), lifted(factors, out[slot])))


@njit(nogil=True)
def _runs(tree, front, child, local, runs):  # type: ignore[no-untyped-def]
    """Split a child's boundary into runs that are consecutive in the front: rows of runs (begin, place in front).

    Returns how many runs lie in the front's pivots, and how many there are in all.
    """
    begin, end, p = tree.start[front], tree.start[front + 1], tree.start[front + 1] - tree.start[front]
    count, inside, expected = 0, 0, -1
    base, stop = tree.start_around[child], tree.start_around[child + 1]
    for c in range(stop - base):
        q = tree.around[base + c]
        here = q - begin if q < end else p + local[q]
        if here != expected or here == p:
            runs[count, 0], runs[count, 1] = c, here
            count += 1
            inside += q < end
        expected = here + 1
    runs[count, 0] = stop - base
    return inside, count


@njit(nogil=True)
def _enter_remainder(tree, front, child, work, source, local, runs, factors):  # type: ignore[no-untyped-def]
    """Add a child's remainder to the blocks F11, F12 and F21T of the front above it."""
    p, b = _size(tree, front)
    at, width = tree.entries[front], _size(tree, child)[1]
    inside, count = _runs(tree, front, child, local, runs)
    for run in range(inside):
        for r in range(runs[run, 0], runs[run + 1, 0]):
            row = runs[run, 1] + r - runs[run, 0]
            for other in range(count):
                begin, here = runs[other, 0], runs[other, 1]
                target = at + row * p + here if other < inside else at + p * p + row * b + here - p
                add_run(factors, target, work, source + r * width + begin, runs[other + 1, 0] - begin)
    for r in range(runs[inside, 0], width):  # from below the pivots into them: transposed
        column = at + p * (p + b) + local[tree.around[tree.start_around[child] + r]]
        for run in range(inside):
            for c in range(runs[run, 0], runs[run + 1, 0]):
                target = column + (runs[run, 1] + c - runs[run, 0]) * b
                put(factors, target, plus(number(factors, target), number(work, source + r * width + c)))


@njit(nogil=True)
def _pass_on(tree, front, child, work, remainder, local, runs):  # type: ignore[no-untyped-def]
    """Add a child's remainder among the front's own boundary to the front's remainder."""
    p, b = _size(tree, front)
    width = _size(tree, child)[1]
    inside, count = _runs(tree, front, child, local, runs)
    for run in range(inside, count):
        for r in range(runs[run, 0], runs[run + 1, 0]):
            source = remainder[child] + r * width
            row = remainder[front] + (runs[run, 1] + r - runs[run, 0] - p) * b
            for other in range(inside, count):
                begin, target = runs[other, 0], row + runs[other, 1] - p
                add_run(work, target, work, source + begin, runs[other + 1, 0] - begin)


@njit(nogil=True)
def _eliminate_one_by_one(factors, at, p, b, loss, begin):  # type: ignore[no-untyped-def]
    """Eliminate the pivots of a front: every row takes what all before it pass on."""
    f12, f21 = at + p * p, at + p * (p + b)
    for i in range(p):
        row = at + i * p
        for m in range(i):
            share = times(number(factors, row + m), number(factors, at + m * p + m))
            put(factors, row + m, share)
            add_multiple(factors, row + m + 1, share, factors, at + m * p + m + 1, p - m - 1)
            add_multiple(factors, f12 + i * b, share, factors, f12 + m * b, b)
            add_multiple(loss, begin + i, share, loss, begin + m, 1)
            add_multiple(factors, f21 + i * b, number(factors, at + m * p + i), factors, f21 + m * b, b)
        leaving = plus(total(factors, row + i + 1, p - i - 1), total(factors, f12 + i * b, b))
        one_over = inverse(plus(number(loss, begin + i), leaving))
        put(factors, row + i, one_over)
        scale(factors, f21 + i * b, one_over, b)


@njit(nogil=True)
def _multiply_one_by_one(factors, at, p, b, work, target):  # type: ignore[no-untyped-def]
    """F22 = F21 F12."""
    f12, f21 = at + p * p, at + p * (p + b)
    clear(work, target, b * b)
    for i in range(b):
        for m in range(p):
            add_multiple(work, target + i * b, number(factors, f21 + m * b + i), factors, f12 + m * b, b)


@njit(nogil=True)
def _pass_losses(tree, front, factors, loss, spare):  # type: ignore[no-untyped-def]
    """Add to the losses of the boundary what the pivots pass on: F21 (D - U)^-1 times their losses."""
    p, b = _size(tree, front)
    row, base = tree.entries[front] + p * (p + b), tree.start_around[front]
    clear(spare, 0, b)
    for m in range(p):
        add_multiple(spare, 0, number(loss, tree.start[front] + m), factors, row + m * b, b)
    for c in range(b):
        add_run(loss, tree.around[base + c], spare, c, 1)


# Doubles: panels and matrix products


@njit(nogil=True)
def _eliminate_doubles(factors, at, p, b, loss, begin, spare, dgemm):  # type: ignore[no-untyped-def]
    if p <= SMALL:
        _eliminate_one_by_one(factors, at, p, b, loss, begin)
    else:
        _eliminate_panels(factors, at, p, b, loss[begin : begin + p], spare, dgemm)


@njit(nogil=True, error_model="numpy")
def _eliminate_panels(factors, at, p, b, loss, spare, dgemm):  # type: ignore[no-untyped-def]
    """Eliminate the pivots of a front in panels, each brought up to date by products with all before it."""
    f12, f21 = at + p * p, at + p * (p + b)
    tile, lower, upper = np.empty((PANEL, PANEL)), np.empty((PANEL, PANEL)), np.empty((PANEL, PANEL))
    for k in range(0, p, PANEL):
        w = min(PANEL, p - k)
        row, column, corner, below = at + k * p, at + k, at + k * p + k, p - k - w
        if k > 0:
            base = factors.ctypes.data
            one, other = base + DOUBLE * row, base + DOUBLE * column
            add_product(dgemm, 0, w, p - k, k, one, p, other, p, 1.0, base + DOUBLE * corner, p)
            add_product(dgemm, 0, w, b, k, one, p, base + DOUBLE * f12, b, 1.0, base + DOUBLE * (f12 + k * b), b)
            add_product(dgemm, 1, w, b, k, other, p, base + DOUBLE * f21, b, 1.0, base + DOUBLE * (f21 + k * b), b)
            below_one, below_corner = one + DOUBLE * w * p, base + DOUBLE * (corner + w * p)
            add_product(dgemm, 0, below, w, k, below_one, p, other, p, 1.0, below_corner, p)
        _eliminate_panel(factors, at, p, b, k, w, loss, tile, lower, upper)
        _replace(factors, corner + w, p, w, below, lower, 0, spare, dgemm)
        _replace(factors, f12 + k * b, b, w, b, lower, 0, spare, dgemm)
        _replace(factors, f21 + k * b, b, w, b, upper, 1, spare, dgemm)
        _replace_right(factors, corner + w * p, p, below, w, upper, spare, dgemm)


@njit(nogil=True, error_model="numpy")
def _eliminate_panel(factors, at, p, b, k, w, loss, tile, lower, upper):  # type: ignore[no-untyped-def]
    """Eliminate w pivots among themselves; lower = (1 - L)^-1 and upper = (D - U)^-1 of them, none negative.

    tile: the panel's rates, 0 on and below the diagonal of pivots done, so that whole rows of PANEL entries, a
    number the compiler knows, can be added.
    """
    corner, leaving = at + k * p + k, np.empty(PANEL)
    for i in range(w):
        row = corner + i * p
        loss[k + i] += dot(factors, row - k, loss, 0, k)
        outside = total(factors, row + w, p - k - w) + total(factors, at + p * p + (k + i) * b, b)
        leaving[i] = loss[k + i] + outside
        for j in range(PANEL):
            tile[i, j] = factors[row + j] if j < w else 0.0
            lower[i, j] = 1.0 if i == j else 0.0
    for m in range(w):
        tile[m, m] = 0.0
        one_over = 1.0 / (leaving[m] + tile[m].sum())
        factors[corner + m * p + m] = one_over
        for i in range(m + 1, w):
            share = tile[i, m] * one_over
            for j in range(PANEL):
                tile[i, j] += share * tile[m, j]
                lower[i, j] += share * lower[m, j]
            factors[corner + i * p + m], tile[i, m] = share, 0.0
            leaving[i] += share * leaving[m]
            loss[k + i] += share * loss[k + m]
    for m in range(w - 1, -1, -1):
        for j in range(PANEL):
            upper[m, j] = 1.0 if m == j else 0.0
        for i in range(m + 1, w):
            factors[corner + m * p + i] = tile[m, i]
            for j in range(PANEL):
                upper[m, j] += tile[m, i] * upper[i, j]
        for j in range(PANEL):
            upper[m, j] *= factors[corner + m * p + m]


@njit(nogil=True)
def _replace(factors, begin, stride, rows, columns, matrix, transposed, spare, dgemm):  # type: ignore[no-untyped-def]
    """Replace a block by matrix (rows x rows, or its transpose) times the block."""
    block, out = factors.ctypes.data + DOUBLE * begin, spare.ctypes.data
    if columns > 0:
        add_product(dgemm, transposed, rows, columns, rows, matrix.ctypes.data, PANEL, block, stride, 0.0, out, columns)
    _copy(spare, factors, begin, stride, rows, columns)


@njit(nogil=True)
def _replace_right(factors, begin, stride, rows, columns, matrix, spare, dgemm):  # type: ignore[no-untyped-def]
    """Replace a block by the block times matrix (columns x columns)."""
    block, out = factors.ctypes.data + DOUBLE * begin, spare.ctypes.data
    if rows > 0:
        add_product(dgemm, 0, rows, columns, columns, block, stride, matrix.ctypes.data, PANEL, 0.0, out, columns)
    _copy(spare, factors, begin, stride, rows, columns)


@njit(nogil=True)
def _copy(spare, factors, begin, stride, rows, columns):  # type: ignore[no-untyped-def]
    for i in range(rows):
        for j in range(columns):
            factors[begin + i * stride + j] = spare[i * columns + j]


@njit(nogil=True)
def _multiply_doubles(factors, at, p, b, work, target, dgemm):  # type: ignore[no-untyped-def]
    if p <= SMALL:
        _multiply_one_by_one(factors, at, p, b, work, target)
    else:
        f12, f21 = at + p * p, at + p * (p + b)
        base, out = factors.ctypes.data, work.ctypes.data + DOUBLE * target
        add_product(dgemm, 1, b, b, p, base + DOUBLE * f21, b, base + DOUBLE * f12, b, 0.0, out, b)


def _eliminate(factors: Any, at: int, p: int, b: int, loss: Any, begin: int, spare: Any, dgemm: int) -> None:
    raise NotImplementedError


def _multiply(factors: Any, at: int, p: int, b: int, work: Any, target: int, dgemm: int) -> None:
    raise NotImplementedError


of_two_kinds(
    _eliminate,
    lambda factors, at, p, b, loss, begin, spare, dgemm: _eliminate_doubles(
        factors, at, p, b, loss, begin, spare, dgemm
    ),
    lambda factors, at, p, b, loss, begin, spare, dgemm: _eliminate_one_by_one(factors, at, p, b, loss, begin),
)
of_two_kinds(
    _multiply,
    lambda factors, at, p, b, work, target, dgemm: _multiply_doubles(factors, at, p, b, work, target, dgemm),
    lambda factors, at, p, b, work, target, dgemm: _multiply_one_by_one(factors, at, p, b, work, target),
)


# Solves


@njit(cache=True, nogil=True)
def solve_function(tree, factors, values, several):  # type: ignore[no-untyped-def]
    """Solve d_i x_i = sum over j of a_ij x_j + r_i in place; values: (several * cells,), in the plan's order."""
    size, fronts = tree.order.size, tree.left.size
    gathered = room(values, size)
    for front in range(fronts):
        p, b = _size(tree, front)
        at, f21 = tree.entries[front], tree.entries[front] + p * (p + b)
        for x in range(tree.start[front], size * several, size):
            for i in range(1, p):
                put(values, x + i, plus(number(values, x + i), dot(factors, at + i * p, values, x, i)))
            combine(gathered, values, x, p, factors, f21, b)
            _scatter(tree, front, gathered, values, x - tree.start[front])
    for front in range(fronts - 1, -1, -1):
        p, b = _size(tree, front)
        at, f12 = tree.entries[front], tree.entries[front] + p * p
        for x in range(tree.start[front], size * several, size):
            _gather(tree, front, gathered, values, x - tree.start[front])
            add_dots(values, x, p, factors, f12, b, gathered)
            for i in range(p - 1, -1, -1):
                coming = plus(number(values, x + i), dot(factors, at + i * p + i + 1, values, x + i + 1, p - i - 1))
                put(values, x + i, times(coming, number(factors, at + i * p + i)))


@njit(cache=True, nogil=True)
def solve_probability(tree, factors, values, several):  # type: ignore[no-untyped-def]
    """Solve d_j y_j = sum over i of a_ij y_i + s_j in place; values: (several * cells,), in the plan's order."""
    size, fronts = tree.order.size, tree.left.size
    gathered = room(values, size)
    for front in range(fronts):
        p, b = _size(tree, front)
        at, f12 = tree.entries[front], tree.entries[front] + p * p
        for y in range(tree.start[front], size * several, size):
            for i in range(p):
                put(values, y + i, times(number(values, y + i), number(factors, at + i * p + i)))
                add_multiple(values, y + i + 1, number(values, y + i), factors, at + i * p + i + 1, p - i - 1)
            combine(gathered, values, y, p, factors, f12, b)
            _scatter(tree, front, gathered, values, y - tree.start[front])
    for front in range(fronts - 1, -1, -1):
        p, b = _size(tree, front)
        at, f21 = tree.entries[front], tree.entries[front] + p * (p + b)
        for y in range(tree.start[front], size * several, size):
            _gather(tree, front, gathered, values, y - tree.start[front])
            add_dots(values, y, p, factors, f21, b, gathered)
            for i in range(p - 1, 0, -1):
                add_multiple(values, y, number(values, y + i), factors, at + i * p, i)


@njit(nogil=True)
def _gather(tree, front, gathered, values, skipped):  # type: ignore[no-untyped-def]
    base = tree.start_around[front]
    for c in range(_size(tree, front)[1]):
        put(gathered, c, number(values, skipped + tree.around[base + c]))


@njit(nogil=True)
def _scatter(tree, front, gathered, values, skipped):  # type: ignore[no-untyped-def]
    base = tree.start_around[front]
    for c in range(_size(tree, front)[1]):
        q = skipped + tree.around[base + c]
        put(values, q, plus(number(values, q), number(gathered, c)))


@njit(cache=True, nogil=True)
def room_needed(tree, first_front, last_front):  # type: ignore[no-untyped-def]
    """Numbers that the remainders of these fronts take at most at a time."""
    rooms, most = np.zeros(2, dtype=np.int64), 0
    for front in range(first_front, last_front):
        parity = tree.depth[front] % 2
        rooms[parity] += _size(tree, front)[1] ** 2
        most = max(most, rooms[0] + rooms[1])
        for child in (tree.left[front], tree.right[front]):
            if child >= 0:
                rooms[1 - parity] -= _size(tree, child)[1] ** 2
    return most
