"""Subtraction-free elimination: every entry against hundreds of digits, on chains of every shape."""

import math
from dataclasses import replace

import mpmath
import numpy as np
import pytest
from problems import QUARTIC, box, free, with_loss

from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError, RunError
from fpsolve.solve import elimination
from fpsolve.solve.elimination import Resolvent
from fpsolve.solve.extended import Extended
from fpsolve.solve.factors import numbers_needed
from fpsolve.solve.ordering import Plan

ROUNDING = 1e-13  # relative, of every entry: a few hundred roundings of positive numbers

# A chain of every shape: tridiagonal and cyclic; offsets of one, of two and longer; wrapped; rods and single cells.
LEFT_OPEN = ("absorbing", "reflecting")
TILTED = np.array([[1.0, 0.6], [0.6, 0.5]])
NARROW = np.array([[1.0, 1.38], [1.38, 2.0]])  # offsets up to (5, 7)
IN_SPACE = np.array([[1.0, 0.4, 0.2], [0.4, 0.8, -0.3], [0.2, -0.3, 0.6]])
SHAPES = {
    "one cell": free(box((1,), walls=[LEFT_OPEN]), [[1.0]]),
    "line": free(box((40,), walls=[LEFT_OPEN]), [[1.0]]),
    "ring": free(box((40,), walls=["periodic"]), [[1.0]]),
    "ring of two": free(box((2,), walls=["periodic"]), [[1.0]]),
    "ring of three": free(box((3,), walls=["periodic"]), [[1.0]]),
    "plane": free(box((6, 7), walls=[LEFT_OPEN, "reflecting"]), np.eye(2)),
    "tilted": free(box((7, 6), walls=[LEFT_OPEN, "absorbing"]), TILTED),
    "long offsets": free(box((9, 8), walls=[LEFT_OPEN, "reflecting"]), NARROW),
    "wrapped": free(box((7, 6), walls=["periodic", LEFT_OPEN]), TILTED),
    "torus": free(box((6, 5), walls=["periodic", "periodic"]), NARROW),
    "rod": free(box((1, 30), walls=["reflecting", LEFT_OPEN]), np.eye(2)),
    "space": free(box((4, 3, 4), walls=[LEFT_OPEN, "reflecting", "reflecting"]), IN_SPACE),
    "wrapped space": free(box((3, 4, 4), walls=["periodic", "periodic", LEFT_OPEN]), np.eye(3)),
}


def chain(name, depth, seed=2):
    """A chain of a given shape with random rates, irreversible: uphill by about `depth` to its exits (or to cell 0)."""
    rng = np.random.default_rng(seed)
    generator = Generator.of(SHAPES[name])
    grid, edges, exits = generator.grid, generator.edges, generator.exits
    here, ways_out = (
        grid.indices()[:, :, None],
        grid.index_of(np.append(exits.cell, [] if exits.cell.size else 0).astype(np.int64))[:, None, :],
    )
    distance = np.abs(here - ways_out).max(axis=0).min(axis=1)
    height = depth * (0.1 * rng.random(grid.size) - distance / max(1, distance.max()))
    rise = np.clip(height[edges.end] - height[edges.origin], -700.0, 700.0)  # rates are doubles
    forward = rng.random(rise.size) * np.exp(-np.maximum(rise, 0.0))
    backward = rng.random(rise.size) * np.exp(np.minimum(rise, 0.0))
    return replace(
        generator,
        edges=replace(edges, forward=forward, backward=backward),
        exits=replace(exits, rate=exits.rate * rng.random(exits.rate.size)),
    )


def exact(generator, shift, cells, sources, transposed):
    """The solutions by ordinary elimination, with subtractions, in as many digits as mpmath now works with."""
    edges, size = generator.edges, generator.grid.size
    rows = [[mpmath.mpf(0)] * size for _ in range(size)]
    for origin, end, forward, backward in zip(edges.origin, edges.end, edges.forward, edges.backward, strict=True):
        for tail, head, rate in ((origin, end, forward), (end, origin, backward)):
            row, column = (head, tail) if transposed else (tail, head)
            rows[row][column] -= mpmath.mpf(float(rate))
            rows[tail][tail] += mpmath.mpf(float(rate))
    for cell, rate in enumerate(generator.losses):
        rows[cell][cell] += mpmath.mpf(float(rate)) + mpmath.mpf(shift)
    (numbers,) = np.nonzero(cells)
    rows = [[rows[i][j] for j in numbers] + [mpmath.mpf(float(source[i])) for source in sources] for i in numbers]
    for k, pivot in enumerate(rows):
        for row in rows:
            if row is not pivot and row[k] != 0:
                factor = row[k] / pivot[k]
                row[k:] = [mine - factor * its if its else mine for mine, its in zip(row[k:], pivot[k:], strict=True)]
    return [[row[len(rows) + k] / row[i] for i, row in enumerate(rows)] for k in range(len(sources))]


def worst(found, wanted, cells):
    """The largest relative error of any entry; found: Extended, (several, cells)."""
    error = mpmath.mpf(0)
    for row, column in zip(range(len(wanted)), wanted, strict=True):
        for place, cell in enumerate(np.nonzero(cells)[0]):
            value = mpmath.mpf(float(found.mantissa[row, cell])) * mpmath.mpf(2) ** int(found.exponent[row, cell])
            if column[place] == 0:  # out of reach of the source
                assert value == 0
            else:
                error = max(error, abs(value / column[place] - 1))
    return float(error)


def check(generator, shift, *, digits, cells=None, extended=False):
    """Both directions, three right-hand sides at once, of very different size."""
    mask = generator.active if cells is None else cells
    rng = np.random.default_rng(1)
    sources = rng.random((3, generator.grid.size)) * mask
    sources[1] *= rng.random(generator.grid.size) < 0.2
    sources[1, np.nonzero(mask)[0][-1]] = 1.0
    sources[2] *= 1e-200
    resolvent = Resolvent.of(generator, shift, cells, extended=extended)
    with mpmath.workdps(digits):
        for solve, transposed in ((resolvent.solve, True), (resolvent.solve_adjoint, False)):
            found = solve(Extended.of(sources))
            wanted = exact(generator, shift, mask, sources, transposed)
            assert worst(found, wanted, mask) < ROUNDING
            outside = found.mantissa[:, ~mask]
            np.testing.assert_array_equal(outside, np.zeros_like(outside))
    return resolvent


OPEN = [name for name, problem in SHAPES.items() if not problem.grid.closed]


@pytest.mark.parametrize("name", OPEN)
def test_every_entry_is_right(name):
    resolvent = check(chain(name, 3.0), 0.0, digits=60)
    assert not isinstance(resolvent.factors, tuple)


@pytest.mark.parametrize("name", OPEN)
def test_every_entry_is_right_up_to_times_of_1e170(name):
    generator = chain(name, 400.0)
    resolvent = check(generator, 0.0, digits=500)
    assert not isinstance(resolvent.factors, tuple)
    assert name == "one cell" or resolvent.solve_adjoint(np.ones(generator.grid.size)).max() > 1e165


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in OPEN if name != "one cell"])
def test_every_entry_is_right_beyond_the_range_of_doubles(name):
    """Times to 1e600, or as far as edges that climb 700 at once take it, in numbers of any range by themselves."""
    generator = chain(name, 1400.0)
    resolvent = check(generator, 0.0, digits=1600)
    assert isinstance(resolvent.factors, tuple)
    times = resolvent.solve_adjoint(Extended.of(np.ones(generator.grid.size))).log() / np.log(10.0)
    assert times.max() > (300.0 if name in ("tilted", "space") else 585.0)
    with np.errstate(over="ignore"):
        assert resolvent.solve_adjoint(np.ones(generator.grid.size)).max() > 1e300  # or infinite


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("extended", [False, True])
def test_a_shift_is_a_loss(name, extended):
    check(chain(name, 20.0), 0.3, digits=60, extended=extended)


@pytest.mark.parametrize("name", ["line", "ring", "rod", "wrapped", "torus", "wrapped space"])
def test_rates_to_cells_that_are_left_out_are_losses(name):
    generator = chain(name, 200.0)
    cells = np.random.default_rng(3).random(generator.grid.size) < 0.8
    cells[:2] = [False, True]
    check(generator, 0.0, digits=300, cells=cells)


# Lines and rings: one sweep instead of fronts


def detour(generator):
    """The same chain with an edge of rate 0 across a cell: no longer a line to the eye."""
    edges = generator.edges
    return replace(
        generator,
        edges=replace(
            edges,
            origin=np.append(edges.origin, 5),
            end=np.append(edges.end, 8),
            kind=np.append(edges.kind, 0),
            weight=np.append(edges.weight, 0.0),
            exponent=np.append(edges.exponent, 0.0),
            forward=np.append(edges.forward, 0.0),
            backward=np.append(edges.backward, 0.0),
        ),
    )


@pytest.mark.parametrize("walls", [LEFT_OPEN, "periodic"])
@pytest.mark.parametrize("extended", [False, True])
def test_a_sweep_gives_what_fronts_give(walls, extended):
    """3000 cells, a barrier of 40: to 3000 roundings at worst, a hundred in fact, entry by entry."""
    loss = "-20*cos(pi*x)"
    generator = Generator.of(with_loss(box((3000,), walls=[walls]), loss, 1.0))
    sweep, fronts = (Resolvent.of(each, 1e-9, extended=extended) for each in (generator, detour(generator)))
    assert sweep.plan.line
    assert not fronts.plan.line
    sources = np.random.default_rng(0).random((3, 3000))
    sources[1, 1:] = 0.0
    np.testing.assert_allclose(sweep.solve(sources), fronts.solve(sources), rtol=3e-13, atol=0.0)
    np.testing.assert_allclose(sweep.solve_adjoint(sources), fronts.solve_adjoint(sources), rtol=3e-13, atol=0.0)


# Larger fronts, threads, plans


def wells(shape, depth):
    """Two wells absorbed in one of them."""
    names = ("x", "y", "z")[: len(shape)]
    loss = " + ".join([QUARTIC, *(f"{name}**2" for name in names[1:])])
    mobility = np.eye(len(shape)) + 0.4 * (1.0 - np.eye(len(shape)))
    problem = with_loss(box(shape, (-1.5, 1.5)), loss, 1.0 / depth, mobility)
    return Generator.of(problem).killed(problem.region("x > 0.8"))


@pytest.mark.parametrize("shape", [(150, 140), (14, 13, 15)])
def test_panels_and_threads_give_the_same_numbers(shape):
    """Matrix products in doubles against plain loops in extended numbers, on one thread and on two: all to rounding."""
    generator = wells(shape, 60.0)
    ones = generator.active.astype(np.float64)
    plain = Resolvent.of(generator, 0.0)
    assert not isinstance(plain.factors, tuple)
    for threads, extended in ((2, False), (1, True), (2, True)):
        other = Resolvent.of(generator, 0.0, plan=plain.plan, threads=threads, extended=extended)
        for solve, reference in ((other.solve, plain.solve), (other.solve_adjoint, plain.solve_adjoint)):
            np.testing.assert_allclose(solve(ones), reference(ones), rtol=ROUNDING, atol=0.0)


def test_a_plan_serves_every_shift():
    generator = chain("tilted", 5.0)
    plan = Plan.of(generator)
    source = np.random.default_rng(0).standard_normal(generator.grid.size)
    for shift in (0.0, 0.1, 1e6):
        again, fresh = Resolvent.of(generator, shift, plan=plan), Resolvent.of(generator, shift)
        np.testing.assert_array_equal(again.solve(source), fresh.solve(source))


def test_sources_of_both_signs():
    """Not to every digit of every entry, but linear: within the rounding of the parts."""
    generator = chain("plane", 4.0)
    resolvent, wide = (Resolvent.of(generator, 2.0, extended=extended) for extended in (False, True))
    source = np.random.default_rng(0).standard_normal((2, generator.grid.size))
    for solve in (resolvent.solve, resolvent.solve_adjoint, wide.solve, wide.solve_adjoint):
        parts = solve(np.maximum(source, 0.0)), solve(np.maximum(-source, 0.0))
        np.testing.assert_allclose(solve(source), parts[0] - parts[1], rtol=0, atol=1e-14 * np.abs(parts).max())


# Numbers of any range in a chain of modest times


def test_sources_of_any_range():
    """Two separate rooms, sources 1e500 apart: each keeps its digits."""
    generator = Generator.of(free(box((6, 1), walls=["absorbing", "reflecting"]), np.eye(2)))
    edges = generator.edges
    apart = replace(generator, edges=edges.select((edges.origin < 3) == (edges.end < 3)))
    resolvent = Resolvent.of(apart, 0.0)
    source = np.array([1.0, 2.0, 3.0, 3.0, 2.0, 1.0])
    exponents = np.array([0, 0, 0, -1700, -1700, -1700])
    found, wanted = resolvent.solve(Extended.of(source, exponents)), resolvent.solve(source)
    np.testing.assert_allclose(found.scaled(0)[:3], wanted[:3], rtol=ROUNDING)
    np.testing.assert_allclose(found[3:].scaled(-1700), wanted[3:], rtol=ROUNDING)


def test_a_source_of_nothing():
    resolvent = Resolvent.of(chain("plane", 4.0), 0.0)
    nothing = np.zeros(42)
    np.testing.assert_array_equal(resolvent.solve(nothing), nothing)
    np.testing.assert_array_equal(resolvent.solve(Extended.of(nothing)).floats(), nothing)


# What is refused


@pytest.mark.parametrize("extended", [False, True])
def test_a_chain_without_a_way_out_is_refused(extended):
    with pytest.raises(
        RunError,
        match=r"linear solve: probability cannot get out from cell \(0, 0\) at .* Every cell must be joined to a way",
    ):
        Resolvent.of(Generator.of(free(box((3, 4)), np.eye(2))), 0.0, extended=extended)


def test_a_room_without_a_door_is_refused():
    generator = chain("line", 2.0)  # out at cell 0
    edges = generator.edges
    closed = replace(generator, edges=edges.select((edges.origin < 25) == (edges.end < 25)))
    with pytest.raises(RunError, match=r"probability cannot get out from cell \(25\) at x = "):
        Resolvent.of(closed, 0.0)
    assert np.isfinite(Resolvent.of(closed, 0.1).solve(np.ones(40))).all()


def test_rates_that_are_no_numbers_are_refused():
    generator = chain("line", 2.0)
    broken = replace(generator, edges=replace(generator.edges, forward=np.full(generator.edges.origin.size, np.nan)))
    with pytest.raises(RunError, match=r"linear solve: the largest rate is nan\. Rates must be finite"):
        Resolvent.of(broken, 0.0)


def test_the_memory_of_the_factors_is_known_beforehand(monkeypatch):
    generator = chain("long offsets", 2.0)
    monkeypatch.setattr(elimination, "refuse_too_large", lambda grid: None)
    monkeypatch.setattr(elimination, "memory_of_machine", lambda: 2.0**16)
    with pytest.raises(CaseError, match=r"grid: 9 x 8 cells need about .* GiB\. This machine has 6\.1e-05 GiB\. Use"):
        Resolvent.of(generator, 0.0)


@pytest.mark.parametrize("shape", [(3000,), (50, 50), (200, 100), (12, 12, 12), (20, 20, 20)])
def test_the_memory_is_estimated_without_the_factors(shape):
    """The grid alone gives the numbers that will be held within a third; they are a part of all that is needed."""
    plan = Plan.of(Generator.of(free(box(shape), np.eye(len(shape)) + 0.4)))
    factor, power = elimination.NUMBERS_PER_CELL[len(shape)]
    cells = math.prod(shape)
    estimate = factor * cells ** (1.0 + power)
    assert numbers_needed(plan, 1) / estimate == pytest.approx(1.0, abs=0.35)
    assert elimination.memory_needed(box(shape)) > 8.0 * estimate
