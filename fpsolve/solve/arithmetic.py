"""Arithmetic for the compiled loops of the elimination: plain doubles, or doubles with an exponent of their own.

The same loops serve both. `values` is an array of doubles, or a pair of arrays (m, e), float64 and int32, that stands
for the numbers m * 2**(512 e), with m = 0 or 2**-256 <= |m| < 2**256. So coarse an exponent is nearly always the same
for both terms of a sum: no digits are shifted, and the loops run on vectors. A single number is a double or (m, e).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.extending import overload, register_jitable

from fpsolve.model.grid import FloatArray, IntArray
from fpsolve.solve.extended import Extended

BITS = 512
UP, DOWN = 2.0**BITS, 2.0**-BITS  # one step of the exponent
ABOVE, BELOW = 2.0**256, 2.0**-256  # bounds of |m|
NOTHING = -(2**28)  # exponent of zero


def paired(numbers: Extended) -> tuple[FloatArray, IntArray]:
    """Numbers as a pair (m, e)."""
    something = numbers.mantissa != 0.0
    steps = np.where(something, (numbers.exponent + BITS // 2) // BITS, NOTHING)
    within = np.where(something, numbers.exponent - BITS * steps, 0)
    return np.ldexp(numbers.mantissa, within.astype(np.int32)), steps.astype(np.int32)


def unpaired(values: tuple[FloatArray, IntArray]) -> Extended:
    """The numbers that a pair (m, e) stands for."""
    return Extended.of(values[0], BITS * values[1].astype(np.int64))


def of_two_kinds(name: Any, plain: Any, extended: Any) -> None:
    """Let compiled loops call `name`, which is `extended` where its first argument is a pair, else `plain`."""

    def choose(*arguments: Any) -> Any:
        return extended if isinstance(arguments[0], types.BaseTuple) else plain

    overload(name, strict=False)(choose)


@register_jitable
def _normal(m, e):  # type: ignore[no-untyped-def]
    while ABOVE <= abs(m) < np.inf:
        m, e = m * DOWN, e + 1
    while 0.0 < abs(m) < BELOW:
        m, e = m * UP, e - 1
    return m, e if m != 0.0 else NOTHING


@register_jitable
def _sum(m, e, other, other_e):  # type: ignore[no-untyped-def]
    """Sum of a number and another, perhaps the product of two; selections instead of branches."""
    most = max(e, other_e)
    m = m if e == most else (m * DOWN if e == most - 1 else 0.0)
    other = other if other_e == most else (other * DOWN if other_e == most - 1 else 0.0)
    m += other
    high, low = abs(m) >= ABOVE, (abs(m) < BELOW) & (m != 0.0)
    return m * (DOWN if high else (UP if low else 1.0)), most + (1 if high else (-1 if low else 0))


# Single numbers


def plus(one: Any, other: Any) -> Any:
    """The sum of two numbers."""
    raise NotImplementedError


def times(one: Any, other: Any) -> Any:
    """The product of two numbers."""
    raise NotImplementedError


def inverse(one: Any) -> Any:
    """One over a number; infinite for 0."""
    raise NotImplementedError


def lifted(values: Any, number: Any) -> Any:
    """A double as a number of the kind of values."""
    raise NotImplementedError


of_two_kinds(plus, lambda one, other: one + other, lambda one, other: _sum(one[0], one[1], other[0], other[1]))
of_two_kinds(times, lambda one, other: one * other, lambda one, other: _normal(one[0] * other[0], one[1] + other[1]))
of_two_kinds(
    inverse,
    lambda one: 1.0 / one if one != 0.0 else np.inf,
    lambda one: _normal(1.0 / one[0], -one[1]) if one[0] != 0.0 else (np.inf, 0),
)
of_two_kinds(lifted, lambda values, number: number, lambda values, number: _normal(number, 0))


# Arrays of numbers


def room(values: Any, count: Any) -> Any:
    """Room for numbers of the kind of values."""
    raise NotImplementedError


def number(values: Any, at: Any) -> Any:
    """The number at a place."""
    raise NotImplementedError


def put(values: Any, at: Any, number: Any) -> None:
    """Write a number to a place."""
    raise NotImplementedError


def clear(values: Any, begin: Any, count: Any) -> None:
    """Set consecutive numbers to 0."""
    raise NotImplementedError


def add_run(target: Any, at: Any, source: Any, begin: Any, count: Any) -> None:
    """Add consecutive numbers to others."""
    raise NotImplementedError


def add_multiple(target: Any, at: Any, factor: Any, source: Any, begin: Any, count: Any) -> None:
    """Add a multiple of consecutive numbers to others."""
    raise NotImplementedError


def scale(values: Any, begin: Any, factor: Any, count: Any) -> None:
    """Multiply consecutive numbers."""
    raise NotImplementedError


def total(values: Any, begin: Any, count: Any) -> Any:
    """Sum of consecutive numbers."""
    raise NotImplementedError


def dot(values: Any, begin: Any, others: Any, other_begin: Any, count: Any) -> Any:
    """Sum of products of consecutive numbers."""
    raise NotImplementedError


def combine(target: Any, values: Any, at: Any, rows: Any, source: Any, begin: Any, columns: Any) -> None:
    """Write the sum of some rows of a matrix (rows, columns), each times one of consecutive numbers."""
    raise NotImplementedError


def add_dots(values: Any, at: Any, rows: Any, source: Any, begin: Any, columns: Any, others: Any) -> None:
    """Add to consecutive numbers the products of the rows of a matrix (rows, columns) with others."""
    raise NotImplementedError


def _put_plain(values, at, number):  # type: ignore[no-untyped-def]
    values[at] = number


def _put_extended(values, at, number):  # type: ignore[no-untyped-def]
    values[0][at], values[1][at] = number


def _clear_plain(values, begin, count):  # type: ignore[no-untyped-def]
    for c in range(begin, begin + count):
        values[c] = 0.0


def _clear_extended(values, begin, count):  # type: ignore[no-untyped-def]
    for c in range(begin, begin + count):
        values[0][c], values[1][c] = 0.0, NOTHING


def _add_run_plain(target, at, source, begin, count):  # type: ignore[no-untyped-def]
    for c in range(count):
        target[at + c] += source[begin + c]


def _add_run_extended(target, at, source, begin, count):  # type: ignore[no-untyped-def]
    (to, to_e), (of, of_e) = target, source
    for c in range(count):
        to[at + c], to_e[at + c] = _sum(to[at + c], to_e[at + c], of[begin + c], of_e[begin + c])


def _add_multiple_plain(target, at, factor, source, begin, count):  # type: ignore[no-untyped-def]
    for c in range(count):
        target[at + c] += factor * source[begin + c]


def _add_multiple_extended(target, at, factor, source, begin, count):  # type: ignore[no-untyped-def]
    (to, to_e), (of, of_e), (f, f_e) = target, source, factor
    for c in range(count):
        to[at + c], to_e[at + c] = _sum(to[at + c], to_e[at + c], f * of[begin + c], f_e + of_e[begin + c])


def _scale_plain(values, begin, factor, count):  # type: ignore[no-untyped-def]
    for c in range(begin, begin + count):
        values[c] *= factor


def _scale_extended(values, begin, factor, count):  # type: ignore[no-untyped-def]
    for c in range(begin, begin + count):
        values[0][c], values[1][c] = _normal(values[0][c] * factor[0], values[1][c] + factor[1])


def _total_plain(values, begin, count):  # type: ignore[no-untyped-def]
    one = two = three = four = 0.0  # strands that need not wait for one another
    whole = begin + 4 * (count // 4)
    for c in range(begin, whole, 4):
        one += values[c]
        two += values[c + 1]
        three += values[c + 2]
        four += values[c + 3]
    for c in range(whole, begin + count):
        one += values[c]
    return (one + two) + (three + four)


def _total_extended(values, begin, count):  # type: ignore[no-untyped-def]
    m, e = 0.0, NOTHING
    for c in range(begin, begin + count):
        m, e = _sum(m, e, values[0][c], values[1][c])
    return m, e


def _dot_plain(values, begin, others, other_begin, count):  # type: ignore[no-untyped-def]
    one = two = three = four = 0.0
    whole = 4 * (count // 4)
    for c in range(0, whole, 4):
        one += values[begin + c] * others[other_begin + c]
        two += values[begin + c + 1] * others[other_begin + c + 1]
        three += values[begin + c + 2] * others[other_begin + c + 2]
        four += values[begin + c + 3] * others[other_begin + c + 3]
    for c in range(whole, count):
        one += values[begin + c] * others[other_begin + c]
    return (one + two) + (three + four)


def _combine_plain(target, values, at, rows, source, begin, columns):  # type: ignore[no-untyped-def]
    out, row = target[:columns], 0
    for c in range(columns):
        out[c] = 0.0
    while row + 4 <= rows:  # four rows at a time: fewer passes over the sums
        v0, v1, v2, v3 = values[at + row], values[at + row + 1], values[at + row + 2], values[at + row + 3]
        of = source[begin + row * columns : begin + (row + 4) * columns]
        s0, s1, s2, s3 = of[:columns], of[columns : 2 * columns], of[2 * columns : 3 * columns], of[3 * columns :]
        for c in range(columns):
            out[c] += (v0 * s0[c] + v1 * s1[c]) + (v2 * s2[c] + v3 * s3[c])
        row += 4
    for i in range(row, rows):
        v0, s0 = values[at + i], source[begin + i * columns : begin + (i + 1) * columns]
        for c in range(columns):
            out[c] += v0 * s0[c]


def _combine_extended(target, values, at, rows, source, begin, columns):  # type: ignore[no-untyped-def]
    clear(target, 0, columns)
    for i in range(rows):
        add_multiple(target, 0, number(values, at + i), source, begin + i * columns, columns)


def _add_dots_plain(values, at, rows, source, begin, columns, others):  # type: ignore[no-untyped-def]
    other, row = others[:columns], 0
    while row + 4 <= rows:
        t0 = t1 = t2 = t3 = 0.0
        of = source[begin + row * columns : begin + (row + 4) * columns]
        s0, s1, s2, s3 = of[:columns], of[columns : 2 * columns], of[2 * columns : 3 * columns], of[3 * columns :]
        for c in range(columns):
            t0 += s0[c] * other[c]
            t1 += s1[c] * other[c]
            t2 += s2[c] * other[c]
            t3 += s3[c] * other[c]
        values[at + row] += t0
        values[at + row + 1] += t1
        values[at + row + 2] += t2
        values[at + row + 3] += t3
        row += 4
    for i in range(row, rows):
        values[at + i] += dot(source, begin + i * columns, others, 0, columns)


def _add_dots_extended(values, at, rows, source, begin, columns, others):  # type: ignore[no-untyped-def]
    for i in range(rows):
        put(values, at + i, plus(number(values, at + i), dot(source, begin + i * columns, others, 0, columns)))


def _dot_extended(values, begin, others, other_begin, count):  # type: ignore[no-untyped-def]
    (of, of_e), (to, to_e) = values, others
    m, e = 0.0, NOTHING
    for c in range(count):
        m, e = _sum(m, e, of[begin + c] * to[other_begin + c], of_e[begin + c] + to_e[other_begin + c])
    return m, e


of_two_kinds(
    room,
    lambda values, count: np.empty(count),
    lambda values, count: (np.empty(count), np.empty(count, dtype=np.int32)),
)
of_two_kinds(number, lambda values, at: values[at], lambda values, at: (values[0][at], np.int64(values[1][at])))
of_two_kinds(put, _put_plain, _put_extended)
of_two_kinds(clear, _clear_plain, _clear_extended)
of_two_kinds(add_run, _add_run_plain, _add_run_extended)
of_two_kinds(add_multiple, _add_multiple_plain, _add_multiple_extended)
of_two_kinds(scale, _scale_plain, _scale_extended)
of_two_kinds(total, _total_plain, _total_extended)
of_two_kinds(dot, _dot_plain, _dot_extended)
of_two_kinds(combine, _combine_plain, _combine_extended)
of_two_kinds(add_dots, _add_dots_plain, _add_dots_extended)
