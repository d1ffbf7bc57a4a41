"""The order of elimination: nested dissection, and what it makes of the pattern of a chain.

The cells are halved at the median plane of their longest axis, axes being directions along which edges are short.
Those of one half that touch the other separate the two and are eliminated last; each half is treated alike, down to
a few cells (George 1973). The pivots of one such step form a *front*: eliminating them links the cells around them,
the front's boundary, to one another.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple, final

import numpy as np
from numba import njit

from fpsolve.discretise.generator import Generator
from fpsolve.model.grid import BoolArray, FloatArray, IntArray
from fpsolve.solve.sweep import BLOCKS, slots_on_line

STEEPEST = 2  # entries of the directions that are tried
LEAF = 8  # cells that are not divided further
DEEPEST = 200  # sets that wait to be divided; more than 2 log2(cells)


class Graph(NamedTuple):
    """Which cells exchange probability: neighbours of cell i are head[first[i]:first[i + 1]], some perhaps twice."""

    first: IntArray
    head: IntArray


class Tree(NamedTuple):
    """The fronts, children before parents, the last one the root.

    Cells are counted in the order of elimination: `order` gives the cell at a place, `place` the place of a cell.
    Front f has the pivots start[f] to start[f + 1] and the boundary around[start_around[f]:start_around[f + 1]]
    (places, increasing). left, right: its children, -1 where it has none. depth: steps below the root.
    entries[f]: where its entries begin in the array of factors.
    """

    order: IntArray
    place: IntArray
    start: IntArray
    left: IntArray
    right: IntArray
    depth: IntArray
    start_around: IntArray
    around: IntArray
    entries: IntArray


NOTHING = np.zeros(0, dtype=np.int64)
NO_GRAPH, NO_TREE = Graph(NOTHING, NOTHING), Tree(*[NOTHING] * len(Tree._fields))


@final
@dataclass(frozen=True)
class Plan:
    """All that elimination can know from the pattern of a chain: made once, used for any rates and shifts on it.

    cells: mask of the cells that are unknowns; numbers: their numbers in the order of elimination. slots: where the
    two rates of each edge stand in the list of neighbours, (2, edges), -1 for an edge that leaves the mask.
    flops: multiplications and additions of one factorisation. A chain on a line or a ring is eliminated cell by cell
    (see `sweep`): it has no graph and no tree, and two neighbours for every cell.
    """

    cells: BoolArray
    numbers: IntArray
    graph: Graph
    tree: Tree
    slots: IntArray
    edges: tuple[IntArray, IntArray]  # origins and ends
    flops: float
    line: bool = False

    @classmethod
    def of(cls, generator: Generator, cells: BoolArray | None = None) -> Plan:
        """The plan of a chain on the active cells, or on those of a mask."""
        chosen = generator.active if cells is None else cells
        (numbers,) = np.nonzero(chosen)
        node = np.full(chosen.size, -1, dtype=np.int32)
        node[numbers] = np.arange(numbers.size, dtype=np.int32)
        ends = (generator.edges.origin, generator.edges.end)
        slots, line = slots_on_line(*ends, node, numbers.size)
        if line:
            return cls(chosen, numbers, NO_GRAPH, NO_TREE, slots, ends, 10.0 * numbers.size, line)
        first, head, slots = neighbours(*ends, node, numbers.size)
        graph = Graph(first, head)
        index = np.ascontiguousarray((_directions(generator) @ generator.grid.index_of(numbers)).T.astype(np.int32))
        order, fronts = dissect(first, head, index, LEAF)
        start, left, right, depth = _children_first(fronts, numbers.size)
        place = np.empty_like(order)
        place[order] = np.arange(order.size, dtype=np.int32)
        start_around, around, entries, flops = boundaries(first, head, order, place, start, left, right)
        tree = Tree(order, place, start, left, right, depth, start_around, around, entries)
        return cls(chosen, numbers[order], graph, tree, slots, ends, float(flops))

    @property
    def entries(self) -> int:
        """Numbers in the factors."""
        return BLOCKS * self.numbers.size if self.line else int(self.tree.entries[-1])

    def fits(self, generator: Generator) -> bool:
        """Whether another chain has the same edges, in the same order, and the same active cells."""
        edges = generator.edges
        return (
            np.array_equal(self.edges[0], edges.origin)
            and np.array_equal(self.edges[1], edges.end)
            and np.array_equal(self.cells, generator.active)
        )

    def rates(self, forward: FloatArray, backward: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Rates of every cell's list of neighbours, to them and from them, from those of the edges."""
        size = 2 * self.numbers.size if self.line else self.graph.head.size
        out, into = np.zeros(size), np.zeros(size)
        fill_rates(self.slots, forward, backward, out, into)
        return out, into


def _directions(generator: Generator) -> IntArray:
    """Directions along which edges are short, (axes, axes): planes across them are thin separators.

    Of small integer directions n, independent ones with the least sum over edges of (n . offset)**2: the axes
    themselves for the usual stencils, sheared ones where a tensor makes the offsets long.
    """
    edges, axes = generator.edges, generator.grid.dimensions
    often = np.bincount(edges.kind, minlength=len(edges.offsets))
    moment = (edges.offsets.T * often) @ edges.offsets
    some = [np.array(n) for n in itertools.product(range(-STEEPEST, STEEPEST + 1), repeat=axes) if any(n)]
    some.sort(key=lambda n: (n @ moment @ n, np.abs(n).sum(), -n.sum()))
    chosen: list[IntArray] = []
    for direction in some:
        if np.linalg.matrix_rank(np.array([*chosen, direction])) > len(chosen):
            chosen.append(direction)
    return np.array(chosen)


@njit(cache=True, nogil=True)
def neighbours(origin, end, node, size):  # type: ignore[no-untyped-def]
    """Lists of neighbours from edges: first (size + 1,), head, and the slots of every edge, (2, edges)."""
    first, slots = np.zeros(size + 1, dtype=np.int64), np.empty((2, origin.size), dtype=np.int64)
    for edge in range(origin.size):
        i, j = node[origin[edge]], node[end[edge]]
        if i >= 0 and j >= 0 and i != j:
            first[i + 1] += 1
            first[j + 1] += 1
    for i in range(size):
        first[i + 1] += first[i]
    free = first.copy()
    head = np.empty(first[size], dtype=np.int32)
    for edge in range(origin.size):
        i, j = node[origin[edge]], node[end[edge]]
        slots[0, edge] = slots[1, edge] = -1
        if i >= 0 and j >= 0 and i != j:
            slots[0, edge], slots[1, edge] = free[i], free[j]
            head[free[i]], head[free[j]] = j, i
            free[i] += 1
            free[j] += 1
    return first, head, slots


@njit(cache=True, nogil=True)
def fill_rates(slots, forward, backward, out, into):  # type: ignore[no-untyped-def]
    """Add the rates of the edges to the lists of neighbours: to the neighbour, and from it."""
    for edge in range(forward.size):
        here, there = slots[0, edge], slots[1, edge]
        if here >= 0:
            out[here] += forward[edge]
            into[there] += forward[edge]
            into[here] += backward[edge]
            out[there] += backward[edge]


@njit(cache=True, nogil=True)
def dissect(first, head, index, leaf):  # type: ignore[no-untyped-def]
    """Nested dissection of cells at positions index, (cells, axes), into sets of at most `leaf` cells.

    Returns order (cells,) as in `Tree`, and a row for every front, parents first: begin of its pivots, parent, depth.
    """
    size = index.shape[0]
    lowest, highest = _reach(first, head, index)
    order, spare, label = np.empty(size, np.int32), np.empty(size, np.int32), np.empty(size, np.int32)
    for i in range(size):
        order[i], label[i] = i, -1  # label: half of the latest set that holds a cell; -1 in a separator
    fronts = np.empty((2 * size + 1, 3), np.int64)  # begin of the pivots, parent, depth; parents come first
    stack = np.zeros((DEEPEST, 4), np.int64)  # sets to be divided: begin, end, parent, depth
    stack[0, 1], stack[0, 2], waiting, count = size, -1, 1, 0
    while waiting > 0:
        waiting -= 1
        begin, end, parent, depth = stack[waiting, 0], stack[waiting, 1], stack[waiting, 2], stack[waiting, 3]
        pivots = begin
        if end - begin > leaf and waiting + 2 <= DEEPEST:
            axis, cut = _plane(order, begin, end, index)
            separators = _separate(
                first, head, order, begin, end, spare, label, index, axis, cut, lowest, highest, count
            )
            middle, pivots = _arrange(order, spare, label, begin, end, separators, count)
            waiting = _push(stack, waiting, begin, middle, count, depth + 1)
            waiting = _push(stack, waiting, middle, pivots, count, depth + 1)
        fronts[count, 0], fronts[count, 1], fronts[count, 2] = pivots, parent, depth
        count += 1
    return order, fronts[:count]


@njit(nogil=True)
def _push(stack, waiting, begin, end, parent, depth):  # type: ignore[no-untyped-def]
    """Let a set wait, if it is not empty; returns how many wait."""
    stack[waiting, 0], stack[waiting, 1], stack[waiting, 2], stack[waiting, 3] = begin, end, parent, depth
    return waiting + (end > begin)


@njit(nogil=True)
def _reach(first, head, index):  # type: ignore[no-untyped-def]
    """Lowest and highest index of each cell's neighbours along every axis, (cells, axes) each."""
    lowest, highest = index.copy(), index.copy()
    for i in range(index.shape[0]):
        for slot in range(first[i], first[i + 1]):
            for axis in range(index.shape[1]):
                there = index[head[slot], axis]
                lowest[i, axis] = min(lowest[i, axis], there)
                highest[i, axis] = max(highest[i, axis], there)
    return lowest, highest


@njit(nogil=True)
def _plane(order, begin, end, index):  # type: ignore[no-untyped-def]
    """The longest axis of a set of cells, and the index along it below which half of them lie."""
    axis, low, high = 0, 0, -1
    for candidate in range(index.shape[1]):
        least = most = index[order[begin], candidate]
        for i in order[begin:end]:
            least, most = min(least, index[i, candidate]), max(most, index[i, candidate])
        if most - least > high - low:
            axis, low, high = candidate, least, most
    counts = np.zeros(high - low + 1, dtype=np.int64)
    for i in order[begin:end]:
        counts[index[i, axis] - low] += 1
    below, cut, size = counts[0], low + 1, end - begin
    while cut < high and abs(2 * (below + counts[cut - low]) - size) < abs(2 * below - size):
        below += counts[cut - low]
        cut += 1
    return axis, cut


@njit(nogil=True)
def _separate(first, head, order, begin, end, spare, label, index, axis, cut, lowest, highest, count):  # type: ignore[no-untyped-def]
    """Label a set by half, 2 count below the cut and 2 count + 1 from it on; -1 for the cells that separate them.

    Those are the cells of one half with a neighbour in the other: of the half that has fewer. Returns their number.
    """
    for i in order[begin:end]:
        label[i] = 2 * count + (index[i, axis] >= cut)
    lower, upper = 0, spare.size  # touching cells are listed from the front of `spare` and from its back
    for i in order[begin:end]:
        above = index[i, axis] >= cut
        if (above and lowest[i, axis] >= cut) or (not above and highest[i, axis] < cut):
            continue
        for slot in range(first[i], first[i + 1]):
            if label[head[slot]] == 2 * count + (not above):
                upper, lower = upper - above, lower + (not above)
                spare[upper if above else lower - 1] = i
                break
    fewer = spare[upper:] if spare.size - upper < lower else spare[:lower]
    for i in fewer:
        label[i] = -1
    return fewer.size


@njit(nogil=True)
def _arrange(order, spare, label, begin, end, separators, count):  # type: ignore[no-untyped-def]
    """Sort a set into lower half, upper half, separator, in sequence within each; returns where the last two begin."""
    lower, upper, last = begin, begin, end - separators
    for place in range(begin, end):
        i = order[place]
        if label[i] == 2 * count:
            order[lower] = i
            lower += 1
        elif label[i] == 2 * count + 1:
            spare[upper] = i
            upper += 1
        else:
            spare[last] = i
            last += 1
    for place in range(begin, upper):
        order[lower + place - begin] = spare[place]
    for place in range(end - separators, end):
        order[place] = spare[place]
    return lower, end - separators


def _children_first(fronts: IntArray, size: int) -> tuple[IntArray, IntArray, IntArray, IntArray]:
    """Turn the list of fronts of `dissect` round: start, left, right, depth."""
    count = len(fronts)
    begin, parent, depth = fronts[::-1].T
    children = np.full((2, count), -1, dtype=np.int32)
    (child,) = np.nonzero(parent >= 0)
    above = count - 1 - parent[child]
    children[1, above] = child  # the later of two stands
    children[0, above[::-1]] = child[::-1]
    children[1, children[0] == children[1]] = -1
    return np.append(begin, size).astype(np.int64), children[0], children[1], np.ascontiguousarray(depth)


@njit(cache=True, nogil=True)
def boundaries(first, head, order, place, start, left, right):  # type: ignore[no-untyped-def]
    """The boundary of every front: start_around, around, entries as in `Tree`, and the flops of one elimination."""
    count, size = left.size, order.size
    start_around, entries = np.zeros(count + 1, np.int64), np.zeros(count + 1, np.int64)
    around, flops = np.empty(8 * size + 64, np.int32), 0.0
    seen, own, joined = np.zeros(size, np.int32), np.empty(size, np.int32), np.empty(size, np.int32)
    for front in range(count):
        end, used = start[front + 1], start_around[front]
        below = _beyond(around, start_around, left[front], end)
        other = _beyond(around, start_around, right[front], end)
        both, found = _merge(below, other, joined), 0
        for q in joined[:both]:
            seen[q] = front + 1
        for pivot in range(start[front], end):
            for slot in range(first[order[pivot]], first[order[pivot] + 1]):
                q = place[head[slot]]
                if q >= end and seen[q] != front + 1:
                    seen[q], own[found] = front + 1, q
                    found += 1
        _sort(own[:found])
        if used + both + found > around.size:
            around = _larger(around, used, size)
        b = _merge(joined[:both], own[:found], around[used:])
        p = end - start[front]
        start_around[front + 1] = used + b
        entries[front + 1] = entries[front] + p * (p + 2 * b)
        flops += p * (p * (p / 1.5 + 2.0 * b) + 2.0 * b * b)
    return start_around, around[: start_around[count]], entries, flops


@njit(nogil=True)
def _beyond(around, start_around, child, end):  # type: ignore[no-untyped-def]
    """The part of a child's boundary that lies beyond the front above it."""
    if child < 0:
        return around[:0]
    begin = start_around[child]
    while begin < start_around[child + 1] and around[begin] < end:
        begin += 1
    return around[begin : start_around[child + 1]]


@njit(nogil=True)
def _larger(around, used, extra):  # type: ignore[no-untyped-def]
    """The same list with more room."""
    larger = np.empty(2 * around.size + extra, np.int32)
    for place in range(used):
        larger[place] = around[place]
    return larger


@njit(nogil=True)
def _merge(one, other, out):  # type: ignore[no-untyped-def]
    """Merge two increasing lists into out, each value once; returns how many."""
    i, j, count = 0, 0, 0
    while i < one.size or j < other.size:
        if j == other.size or (i < one.size and one[i] < other[j]):
            out[count] = one[i]
            i += 1
        else:
            if i < one.size and one[i] == other[j]:
                i += 1
            out[count] = other[j]
            j += 1
        count += 1
    return count


@njit(nogil=True)
def _sort(values):  # type: ignore[no-untyped-def]
    """Sort in place (Shell 1959): short lists, mostly sorted, and quick to compile."""
    gap = 1
    while 3 * gap < values.size:
        gap = 3 * gap + 1
    while gap > 0:
        for place in range(gap, values.size):
            value, hole = values[place], place
            while hole >= gap and values[hole - gap] > value:
                values[hole] = values[hole - gap]
                hole -= gap
            values[hole] = value
        gap //= 3
