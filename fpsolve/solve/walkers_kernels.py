"""The compiled steps of walkers. One-letter names are the mathematics of the docstrings.

Legend: x, y positions before and after a step, h the time step, n the axes; a, b axes; w a walker; D the diffusion, L
its Cholesky factor; q = D_n h, with D_n the diffusion across a surface.

All walkers of a block take a step together, and every loop runs over walkers innermost: arrays are (..., walkers), and
of them the first `count` are still inside. What depends on the position comes from a table over the nodes of a lattice,
one row per node, whose channels are the drift (n), the levels of the regions, D (n (n + 1) / 2, by rows of its lower
triangle), and for stable steps D**(1/alpha), packed as D.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from fpsolve.solve.ensemble import ABSORBS, REFLECTS, WRAPS

GAUSSIAN = 2.0  # the tail index of normal steps
NEVER = 2.0  # a share of a step beyond its end: the surface is not crossed
# A bridge crosses with probability exp(-g0 g1 / q); beyond this exponent that is below rounding.
FARTHEST = 40.0
FLATTEST = 1e12  # mean of the inverse Gaussian from which on it is taken as infinite
MOST_FOLDS = 3  # at walls in a corner, before what is left is folded axis by axis
STRIDES = 4  # nodes that are searched one by one before bisection


@njit(cache=True, nogil=True)
def march(  # type: ignore[no-untyped-def]
    stream, positions, exit_times, exit_gates, begin, h, steps, alpha, bridge, lattice, walls, reach
):
    """Move the walkers of a block by some steps of Euler & Maruyama; returns how many went beyond all bounds.

        y = x + drift h + sqrt(2 h) L z             z standard normal, L L^T = D
        y = x + drift h + h**(1/alpha) A s          alpha < 2: s standard symmetric stable, A = D**(1/alpha)

    positions: (walkers, n), exit_times, exit_gates: changed in place; those that have a gate are skipped. begin: the
    time; lattice: see `evaluate`; walls: lower, upper, kinds, gates, see `Walls`; the regions' gates follow those;
    reach: largest diffusion across each region's surface, (regions,), an upper bound.
    """
    whole, n = positions.shape
    linear, first, table = n + len(reach), lattice[1], lattice[5]
    x, y, z, share, next_share = np.empty((5, n, whole))
    here, there = np.empty((2, table.shape[1], whole))
    node, next_node = np.empty((2, n, whole), np.int64)
    weight, earliest, (gate, row) = np.empty((2, whole)), np.empty(whole), np.empty((2, whole), np.int64)
    who = np.flatnonzero(exit_gates < 0)
    count = len(who)
    for a in range(n):
        x[a, :count] = positions[who, a]
        node[a] = first[a]
    evaluate(x, count, lattice, linear, node, share, row, weight, here)
    for step in range(steps):
        if count == 0:
            break
        propose(stream, x, here, count, linear, h, alpha, z, y)
        gate[:], earliest[:] = -1, NEVER
        through_walls(stream, x, y, here, count, linear, h, bridge, walls, gate, earliest)
        lost = settle(y, here, count, linear, alpha, walls)
        if lost > 0:
            return lost
        next_node[:] = node
        evaluate(y, count, lattice, linear, next_node, next_share, row, weight, there)
        into_regions(
            stream, here, there, count, linear, h, bridge, lattice, walls, reach, node, share, z, gate, earliest
        )
        x, y, here, there, node, next_node, share, next_share = y, x, there, here, next_node, node, next_share, share
        count = release(count, gate, earliest, begin + step * h, h, who, exit_times, exit_gates, x, here, node, share)
    for a in range(n):
        positions[who[:count], a] = x[a, :count]
    return 0


@njit(cache=True, nogil=True)
def release(  # type: ignore[no-untyped-def]
    count, gate, earliest, begin, h, who, exit_times, exit_gates, x, here, node, share
):
    """Note the exits of a step and fill the gaps from behind; returns how many walkers are left."""
    for w in range(count - 1, -1, -1):
        if gate[w] >= 0:
            exit_times[who[w]], exit_gates[who[w]] = begin + earliest[w] * h, gate[w]
            count -= 1
            who[w] = who[count]
            x[:, w], here[:, w], node[:, w], share[:, w] = x[:, count], here[:, count], node[:, count], share[:, count]
    return count


@njit(cache=True, nogil=True)
def evaluate(x, count, lattice, linear, node, share, row, weight, values):  # type: ignore[no-untyped-def]
    """Multilinear interpolation at x, into node (the box, changed from a guess), share (of it, below) and values.

    lattice: places, first, pace, strides, corners, table. The nodes of axis a are places[first[a]:first[a + 1]]; pace:
    nodes per length, (n,), 0 where they are uneven; strides: of rows of the table, (n,); corners: offsets of the rows
    of a box's corners, (2**n,), bit a of their number saying whether it is the upper one along axis a. Beyond the last
    nodes the first channels, `linear` of them, go on linearly, and the rest stays constant.
    row, weight: room, (walkers,) and (2, walkers).
    """
    places, first, pace, strides, corners, table = lattice
    row[:count] = 0
    for a in range(len(x)):
        for w in range(count):
            j = locate(x[a, w], places, first[a], first[a + 1], pace[a], node[a, w])
            node[a, w] = j
            row[w] += (j - first[a]) * strides[a]
            share[a, w] = (x[a, w] - places[j]) / (places[j + 1] - places[j])
    for channel in range(len(values)):
        for w in range(count):
            values[channel, w] = 0.0
    for corner in range(len(corners)):
        for w in range(count):
            weight[0, w], weight[1, w] = 1.0, 1.0
        for a in range(len(x)):
            for w in range(count):
                part = share[a, w] if corner >> a & 1 else 1.0 - share[a, w]
                weight[0, w] *= part
                weight[1, w] *= min(max(part, 0.0), 1.0)
        for channel in range(len(values)):
            kind = 0 if channel < linear else 1
            for w in range(count):
                values[channel, w] += weight[kind, w] * table[row[w] + corners[corner], channel]


@njit(cache=True, nogil=True)
def locate(x, places, begin, end, pace, guess):  # type: ignore[no-untyped-def]
    """The node below x among places[begin:end], the last but one at most."""
    if not x > places[begin]:
        return begin
    if not x < places[end - 1]:
        return end - 2
    if pace > 0.0:
        return min(begin + int((x - places[begin]) * pace), end - 2)
    for _ in range(STRIDES):
        if x < places[guess]:
            guess -= 1
        elif x >= places[guess + 1]:
            guess += 1
        else:
            return guess
    low, high = begin, end - 1
    while high - low > 1:
        middle = (low + high) // 2
        if x < places[middle]:
            high = middle
        else:
            low = middle
    return low


@njit(cache=True, nogil=True)
def propose(stream, x, here, count, linear, h, alpha, z, y):  # type: ignore[no-untyped-def]
    """The ends of steps from x, into y, without walls; z: room. here: the channels at x."""
    n = len(x)
    scale = math.sqrt(2.0 * h) if alpha == GAUSSIAN else h ** (1.0 / alpha)
    for a in range(n):
        for w in range(count):
            z[a, w] = scale * (stream.standard_normal() if alpha == GAUSSIAN else stable(stream, alpha))
    if alpha == GAUSSIAN:
        multiply_by_root(here, count, linear, z)
        for a in range(n):
            for w in range(count):
                y[a, w] = x[a, w] + h * here[a, w] + z[a, w]
    else:
        packed = linear + n * (n + 1) // 2
        for a in range(n):
            for w in range(count):
                y[a, w] = x[a, w] + h * here[a, w]
            for b in range(n):
                for w in range(count):
                    y[a, w] += here[packed + place(a, b), w] * z[b, w]


@njit(cache=True, nogil=True)
def place(a, b):  # type: ignore[no-untyped-def]
    """Where entry (a, b) of a symmetric matrix stands among those of its lower triangle."""
    return a * (a + 1) // 2 + b if a >= b else b * (b + 1) // 2 + a


@njit(cache=True, nogil=True)
def multiply_by_root(here, count, linear, z):  # type: ignore[no-untyped-def]
    """L z in place of z, for L L^T = D (Cholesky); a column is left out where D leaves nothing for it."""
    n = len(z)
    for w in range(count):
        first = math.sqrt(max(here[linear, w], 0.0))
        if n > 1:
            slope = here[linear + 1, w] / first if first > 0.0 else 0.0
            second = math.sqrt(max(here[linear + 2, w] - slope * slope, 0.0))
            if n > 2:
                one = here[linear + 3, w] / first if first > 0.0 else 0.0
                two = (here[linear + 4, w] - one * slope) / second if second > 0.0 else 0.0
                third = math.sqrt(max(here[linear + 5, w] - one * one - two * two, 0.0))
                z[2, w] = one * z[0, w] + two * z[1, w] + third * z[2, w]
            z[1, w] = slope * z[0, w] + second * z[1, w]
        z[0, w] *= first


@njit(cache=True, nogil=True)
def stable(stream, alpha):  # type: ignore[no-untyped-def]
    """A symmetric stable number, E exp(i k s) = exp(-|k|**alpha) (Chambers, Mallows & Stuck 1976, eq. 4.1)."""
    u = math.pi * (stream.random() - 0.5)
    if alpha == 1.0:
        return math.tan(u)
    w = stream.standard_exponential()
    while w == 0.0:
        w = stream.standard_exponential()
    tail = (math.cos((1.0 - alpha) * u) / w) ** ((1.0 - alpha) / alpha)
    return math.sin(alpha * u) / math.cos(u) ** (1.0 / alpha) * tail


@njit(cache=True, nogil=True)
def through_walls(  # type: ignore[no-untyped-def]
    stream, x, y, here, count, linear, h, bridge, walls, gate, earliest
):
    """The gate of the absorbing wall that each step crosses first, and at which share of the step, if there is any."""
    lower, upper, kinds, gates = walls
    for a in range(len(x)):
        for end in range(2):
            if kinds[a, end] == ABSORBS:
                wall, sign = (lower[a], 1.0) if end == 0 else (upper[a], -1.0)
                for w in range(count):
                    near, far = sign * (x[a, w] - wall), sign * (y[a, w] - wall)
                    at = crossing(stream, near, far, here[linear + place(a, a), w] * h, bridge)
                    if at < earliest[w]:
                        gate[w], earliest[w] = gates[a, end], at


@njit(cache=True, nogil=True)
def into_regions(  # type: ignore[no-untyped-def]
    stream, here, there, count, linear, h, bridge, lattice, walls, reach, node, share, room, gate, earliest
):
    """The same for regions, from their levels before and after the steps; see `march`. room: (n, walkers)."""
    first, channel = walls[3].max() + 1, len(node)
    for region in range(len(reach)):
        for w in range(count):
            near, far = -here[channel + region, w], -there[channel + region, w]
            if near <= 0.0 or far <= 0.0 or (bridge and near * far < FARTHEST * reach[region] * h):
                q = h * across(channel + region, w, here, linear, lattice, node, share, room)
                at = crossing(stream, near, far, q, bridge)
                if at < earliest[w]:
                    gate[w], earliest[w] = first + region, at


@njit(cache=True, nogil=True)
def crossing(stream, near, far, q, bridge):  # type: ignore[no-untyped-def]
    """At which share of a step a surface is crossed, NEVER where it is not.

    near, far: distances from it before and after, negative behind it. With both ends outside, the Brownian bridge
    between them crosses with probability exp(-near far / q), the variance being 2 q. The first crossing of a bridge to
    distance -b or b is at the share s / (1 + s), s of the inverse Gaussian law with mean near / b and shape
    near**2 / (2 q): with W standard on [0, inf), (1 - t) W(t / (1 - t)) is a bridge on [0, 1].
    Without bridge: at the end of the step, where that lies behind.
    """
    if near <= 0.0:
        return 0.0
    if far > 0.0:
        if not bridge or near * far >= FARTHEST * q or stream.random() >= math.exp(-near * far / q):
            return NEVER
    elif not bridge:
        return 1.0
    b = abs(far)
    if q <= 0.0:
        return near / (near + b)
    mean = near / b if b * FLATTEST > near else FLATTEST
    s = inverse_gaussian(stream, mean, near * near / (2.0 * q))
    return s / (1.0 + s)


@njit(cache=True, nogil=True)
def inverse_gaussian(stream, mean, shape):  # type: ignore[no-untyped-def]
    """A number of the inverse Gaussian law (Michael, Schucany & Haas 1976), its smaller root without cancellation."""
    z = stream.standard_normal()
    r = 0.5 * mean * z * z / shape
    root = mean / (1.0 + r + math.sqrt(r * (2.0 + r)))
    return root if stream.random() * (mean + root) <= mean else mean * (mean / root)


@njit(cache=True, nogil=True)
def across(channel, w, here, linear, lattice, node, share, slope):  # type: ignore[no-untyped-def]
    """D across the surface of a level: grad . D grad, at x. here, node, share: of x; slope: room for the gradient."""
    places, first, _, strides, corners, table = lattice
    n, base, total = len(node), 0, 0.0
    for a in range(n):
        base += (node[a, w] - first[a]) * strides[a]
    for a in range(n):
        slope[a, w] = 0.0
        for corner in range(len(corners)):
            weight = 1.0 if corner >> a & 1 else -1.0
            for b in range(n):
                if b != a:
                    held = min(max(share[b, w], 0.0), 1.0)
                    weight *= held if corner >> b & 1 else 1.0 - held
            slope[a, w] += weight * table[base + corners[corner], channel]
        slope[a, w] /= places[node[a, w] + 1] - places[node[a, w]]
    for a in range(n):
        for b in range(n):
            total += slope[a, w] * here[linear + place(a, b), w] * slope[b, w]
    return total


@njit(cache=True, nogil=True)
def settle(y, here, count, linear, alpha, walls):  # type: ignore[no-untyped-def]
    """Bring y back inside, in place, from behind reflecting and periodic walls; how many of them are no numbers.

    A reflecting wall returns a walker along the conormal D e_a: so no probability flows through it, whatever the
    diffusion along it (Bossy, Gobet & Talay 2004). Steps longer than the box, and jumps, are folded along the axis.
    """
    n, lost = len(y), 0
    lower, upper, kinds, _ = walls
    for _ in range(MOST_FOLDS if alpha == GAUSSIAN and n > 1 else 0):
        moved = False
        for a in range(n):
            for w in range(count):
                under, over = y[a, w] < lower[a], y[a, w] > upper[a]
                if (under and kinds[a, 0] == REFLECTS) or (over and kinds[a, 1] == REFLECTS):
                    beyond = y[a, w] - (lower[a] if under else upper[a])
                    through = here[linear + place(a, a), w]
                    for b in range(n):
                        if b != a and through > 0.0:
                            y[b, w] -= 2.0 * beyond * here[linear + place(a, b), w] / through
                    y[a, w] -= 2.0 * beyond
                    moved = True
        if not moved:
            break
    for a in range(n):
        length, wraps = upper[a] - lower[a], kinds[a, 0] == WRAPS
        mirrors = kinds[a, 0] == REFLECTS and kinds[a, 1] == REFLECTS and math.isfinite(length)
        for w in range(count):
            if not math.isfinite(y[a, w]):
                lost += 1
            elif lower[a] <= y[a, w] <= upper[a]:
                continue
            elif wraps:
                y[a, w] = lower[a] + (y[a, w] - lower[a]) % length
            elif mirrors:
                y[a, w] = fold(y[a, w], lower[a], upper[a])
            elif y[a, w] < lower[a] and kinds[a, 0] == REFLECTS:
                y[a, w] = 2.0 * lower[a] - y[a, w]
            elif y[a, w] > upper[a] and kinds[a, 1] == REFLECTS:
                y[a, w] = 2.0 * upper[a] - y[a, w]
    return lost


@njit(cache=True, nogil=True)
def fold(y, lower, upper):  # type: ignore[no-untyped-def]
    """Y between two mirrors."""
    length = upper - lower
    turned = (y - lower) % (2.0 * length)
    return lower + (turned if turned <= length else 2.0 * length - turned)
