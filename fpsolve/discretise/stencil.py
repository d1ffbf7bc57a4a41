"""A layout of the generator for fast products, in any number of dimensions.

All edges that join cells the same distance apart in the flat array make a *row*: their rates, in the order of the
cells they lead into, so that a product runs through rates and probabilities with unit stride. Rows are cut into
blocks of cells that fit in the fastest caches, and follow one another in memory as they are used. A row that most
cells of a block have spans the block (rates of 0 where there is no edge); what few have, as where tensors change from
cell to cell or an edge goes round a periodic axis, makes short rows of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, final

import numpy as np

from fpsolve.discretise import stencil_kernels as kernels
from fpsolve.discretise.generator import Generator
from fpsolve.model.grid import FloatArray, IntArray

BLOCK = 4096  # cells: long enough for the memory to deliver in bulk, short enough for the second cache
DENSE = 0.5  # a row that more than this share of a block's cells have spans the block
GAP = 8  # cells without an edge, up to which a short row goes on
LINE = 8  # numbers in a line of the cache
CELLS_PER_THREAD = 100_000  # below, handing work to a thread takes as long as doing it


@final
@dataclass(slots=True)
class Stencil:
    """The rates of a generator, row by row; see `stencil_kernels.advance` for how they are read.

    size: of the grid, cells; first: (blocks + 1,); full: (blocks,); cell, length, stride, place: (rows,); rate
    [1/time], one after the other, the first row of each block minus the departure; pool: the threads that share the
    work, if there are several; products: how many there were. Results are the same, to the last bit, for any number
    of threads.
    """

    size: int
    first: IntArray
    full: IntArray
    cell: IntArray
    length: IntArray
    stride: IntArray
    place: IntArray
    rate: FloatArray
    threads: int
    pool: ThreadPoolExecutor | None
    products: int = 0

    @classmethod
    def of(cls, generator: Generator, threads: int = 1) -> Stencil:
        """Lay out the rates; threads: the most to use, fewer on a small grid."""
        size = generator.grid.size
        every = np.arange(size)
        groups = [_Group.of(every, -generator.departure, every, 0, size), *_groups(generator)]
        cell, length, stride = (
            np.concatenate([getattr(group, name) for group in groups]) for name in ("cell", "length", "stride")
        )
        block = cell // BLOCK
        spans = length == np.minimum(BLOCK, size - block * BLOCK)
        order = np.lexsort((~spans, block))  # stable: the diagonal stays in front
        padded = -(-length // LINE) * LINE
        place = np.empty_like(padded)
        place[order] = np.cumsum(padded[order]) - padded[order]
        rate = aligned(int(padded.sum()))
        row = 0
        for group in groups:
            group.fill(place[row : row + group.cell.size], rate)
            row += group.cell.size
        first = np.searchsorted(block[order], np.arange(-(-size // BLOCK) + 1))
        full = first[:-1] + np.bincount(block[spans], minlength=first.size - 1)
        threads = max(1, min(threads, size // CELLS_PER_THREAD))
        pool = ThreadPoolExecutor(threads) if threads > 1 else None
        return cls(size, first, full, cell[order], length[order], stride[order], place[order], rate, threads, pool)

    def apply(self, probability: FloatArray) -> FloatArray:
        """dP/dt, (cells,) [1/time], as of the generator."""
        change = np.empty(self.size)
        self.advance(probability, change, 1.0)
        return change

    def advance(
        self, probability: FloatArray, out: FloatArray, slope: float, keep: float = 0.0, back: float = 0.0
    ) -> None:
        """Overwrite out, another array, with slope * Q probability + keep * probability + back * out."""
        rows = (self.first, self.full, self.cell, self.length, self.stride, self.place, self.rate)

        def advance(start: int, stop: int) -> None:
            kernels.advance(BLOCK, *rows, probability, out, slope, keep, back, start, stop)

        self.share(advance)
        self.products += 1

    def share(self, work: Callable[[int, int], Any]) -> list[Any]:
        """Call work(start, stop) for ranges of blocks, on every thread one; what the calls return."""
        ends = [self.full.size * number // self.threads for number in range(self.threads + 1)]
        if self.pool is None:
            return [work(ends[0], ends[1])]
        return list(self.pool.map(work, ends[:-1], ends[1:]))


@final
@dataclass(frozen=True, slots=True)
class _Group:
    """The edges that lead into cells from as many cells further on: rows, and to which of them each edge belongs."""

    target: IntArray
    rate: FloatArray
    chosen: IntArray
    count: IntArray
    cell: IntArray
    length: IntArray
    stride: IntArray

    @classmethod
    def of(cls, target: IntArray, rate: FloatArray, chosen: IntArray, stride: int, size: int) -> _Group:
        """Rows of chosen edges with these rates into the cells `target`, in increasing order, from target + stride."""
        count, cell, length = kernels.rows(target, chosen, stride, size, BLOCK, DENSE, GAP).T
        return cls(target, rate, chosen, count, cell, length, np.full(cell.size, stride))

    def fill(self, place: IntArray, out: FloatArray) -> None:
        """Put the rates where the rows are."""
        kernels.fill(self.target, self.rate, self.chosen, self.count, self.cell, place, out)


def _groups(generator: Generator) -> Iterator[_Group]:
    """Edges forward and backward by kind and by distance; those round a periodic axis have another distance."""
    edges, size = generator.edges, generator.grid.size
    narrow = np.uint16 if len(edges.offsets) < 2**16 else np.int64  # sorted much faster
    order = np.argsort(edges.kind.astype(narrow), kind="stable")
    bounds = np.searchsorted(edges.kind[order], np.arange(len(edges.offsets) + 1))
    for start, stop in pairwise(bounds):
        mine = order[start:stop]  # sorted by origin
        distance = edges.end[mine] - edges.origin[mine]
        alike = (distance == distance[:1]).all()
        for stride in (distance[:1] if alike else np.unique(distance)).tolist():
            chosen = mine if alike else mine[distance == stride]
            yield _Group.of(edges.end, edges.forward, chosen, -stride, size)
            yield _Group.of(edges.origin, edges.backward, chosen, stride, size)


def aligned(count: int) -> FloatArray:
    """An array of zeros that begins with a line of the cache."""
    array = np.zeros(count + LINE)
    start = -(array.ctypes.data // array.itemsize) % LINE
    return array[start : start + count]
