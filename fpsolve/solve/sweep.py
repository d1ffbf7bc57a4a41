"""The elimination of a chain on a line or a ring: one sweep there and one back, without subtractions.

The cells are eliminated in order as in `fronts`, the last one at the end. A cell i then has rates to i + 1 and, on a
ring, to the last cell n; with d_i = a_i,i+1 + a_in + k_i the sum of what leads out of it,

    a_i+1,n += a_i+1,i a_in / d_i      a_n,i+1 += a_ni a_i,i+1 / d_i
    k_i+1   += a_i+1,i k_i / d_i       k_n     += a_ni k_i / d_i

The factors are five blocks: 1/d_i, a_i,i+1/d_i, a_in/d_i, a_i+1,i/d_i and a_ni/d_i. Forwards and backwards equations
are solved alike, with the two pairs of the last four exchanged. Numbers are of either kind of `arithmetic`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from fpsolve.solve.arithmetic import inverse, lifted, number, plus, put, times

BLOCKS = 5
ONWARD, BACK = 1, 3  # where the two pairs of blocks begin


@njit(cache=True, nogil=True)
def slots_on_line(origin, end, node, size):  # type: ignore[no-untyped-def]
    """Where the two rates of every edge stand in a list of each cell's rates to the one before and the one after it.

    node: (cells,) position on the line, -1 for cells that are left out. The last cell and the first may be joined.
    Returns slots (2, edges) as in `Plan`; whether all edges fit: the chain lies on a line or a ring.
    """
    slots = np.full((2, origin.size), -1, dtype=np.int64)
    for edge in range(origin.size):
        i, j = node[origin[edge]], node[end[edge]]
        if i < 0 or j < 0 or i == j:
            continue
        if j == i + 1 or (i == size - 1 and j == 0):
            slots[0, edge], slots[1, edge] = 2 * i + 1, 2 * j
        elif i == j + 1 or (j == size - 1 and i == 0):
            slots[0, edge], slots[1, edge] = 2 * i, 2 * j + 1
        else:
            return slots, False
    return slots, size > 0


@njit(cache=True, nogil=True)
def factorise(out, loss, size, factors):  # type: ignore[no-untyped-def]
    """Eliminate a chain; out: (2 * size,) rates of each cell to the one before and the one after it, doubles."""
    last = size - 1
    own, loss_of_last = number(loss, 0), number(loss, last)
    to_last, from_last = lifted(factors, out[0]), lifted(factors, out[2 * last + 1])
    for i in range(last):
        onward, back = lifted(factors, out[2 * i + 1]), lifted(factors, out[2 * i + 2])
        if i == last - 1:  # the next cell is the last
            to_last, from_last = plus(to_last, onward), plus(from_last, back)
            onward = back = lifted(factors, 0.0)
        one_over = inverse(plus(plus(onward, to_last), own))
        share, share_of_last = times(back, one_over), times(from_last, one_over)
        put(factors, i, one_over)
        put(factors, ONWARD * size + i, times(onward, one_over))
        put(factors, (ONWARD + 1) * size + i, times(to_last, one_over))
        put(factors, BACK * size + i, share)
        put(factors, (BACK + 1) * size + i, share_of_last)
        to_last, from_last = times(share, to_last), times(share_of_last, onward)
        loss_of_last = plus(loss_of_last, times(share_of_last, own))
        own = plus(number(loss, i + 1), times(share, own))
    put(factors, last, inverse(loss_of_last))


@njit(cache=True, nogil=True)
def solve(factors, values, size, several, given, taken):  # type: ignore[no-untyped-def]
    """Solve in place; values: (several * size,).

    given, taken: the blocks that pass on to cells eliminated later, and that bring back from them: ONWARD and BACK
    for a probability, BACK and ONWARD for a function.
    """
    last, given_last, taken_last = size - 1, (given + 1) * size, (taken + 1) * size
    for x in range(0, size * several, size):
        own, final = number(values, x), number(values, x + last)
        for i in range(last):
            put(values, x + i, own)
            final = plus(final, times(number(factors, given_last + i), own))
            own = plus(number(values, x + i + 1), times(number(factors, given * size + i), own))
        own = final = times(final, number(factors, last))
        put(values, x + last, final)
        for i in range(last - 1, -1, -1):
            known = times(number(values, x + i), number(factors, i))
            known = plus(known, times(number(factors, taken_last + i), final))
            own = plus(known, times(number(factors, taken * size + i), own))
            put(values, x + i, own)
