"""Steps of SGD on the rows of a data set, around the gradient of a case.

`native` puts the source of these functions, compiled, into one module with the `terms` of a case (the gradient of one
row's loss), the `levels` of the regions that absorb, and the numbers COUNT, AXES and LEVELS: here they are only written
down.

x: position; v: velocity, -gradient of the batch without momentum; g: mean gradient of a batch; w: a walker; k: steps
done.
"""

from __future__ import annotations

import numpy as np

from fpsolve.solve.ensemble import ABSORBS, REFLECTS, WRAPS

COUNT = AXES = LEVELS = 0  # of formulas, of coordinates, of regions: generated
REPLACEMENT, WITHOUT, EPOCHS = 0, 1, 2  # how a batch is drawn
STAYS, TOUCHES, LOST = -1, -2, -3  # what becomes of a walker that leaves by no gate
FARTHEST = 1e150  # where a walker counts as lost; its square is still a number
CONSTANTS = ("REFLECTS", "ABSORBS", "WRAPS", "REPLACEMENT", "EPOCHS", "STAYS", "TOUCHES", "LOST", "FARTHEST")


def terms(position, columns, row, out):  # type: ignore[no-untyped-def]
    """The gradient of one row's loss: generated."""
    raise NotImplementedError


def levels(position, out):  # type: ignore[no-untyped-def]
    """The level functions of the regions that absorb: generated."""
    raise NotImplementedError


def batch_gradient(stream, columns, x, size, sampling, order, cursor, values, g):  # type: ignore[no-untyped-def]
    """The mean gradient of the next batch, into g; returns how many rows of the epoch are used.

    order: a permutation of the rows, of which a shuffle (Fisher & Yates) takes the next one as it is asked for, so that
    any permutation may be left there before. A row is int(rows * u): u has 53 bits, so that no row is more likely than
    another by more than rows / 2**53.
    """
    rows = columns.shape[0]
    if sampling != EPOCHS or cursor == rows:
        cursor = 0
    if sampling == EPOCHS:
        size = min(size, rows - cursor)
    g[:] = 0.0
    for _ in range(size):
        if sampling == REPLACEMENT:
            row = int(stream.random() * rows)
        else:
            other = cursor + int(stream.random() * (rows - cursor))
            row = order[other]
            order[other] = order[cursor]
            order[cursor] = row
            cursor += 1
        terms(x, columns, row, values)  # type: ignore[no-untyped-call]
        for axis in range(AXES):
            g[axis] += values[axis]
    share = 1.0 / size
    for axis in range(AXES):
        g[axis] *= share
    return cursor


def beyond(x, lower, upper):  # type: ignore[no-untyped-def]
    """Whether x is behind a wall, or no number."""
    for a in range(AXES):  # noqa: SIM110
        if not lower[a] <= x[a] < upper[a]:
            return True
    return False


def settle(x, v, lower, upper, kinds, gates):  # type: ignore[no-untyped-def]
    """Fold and wrap x in place, v turning with it; the gate of the absorbing wall beyond which it is, or a sign."""
    found = STAYS
    for a in range(AXES):
        if not abs(x[a]) <= FARTHEST:
            return LOST
        length = upper[a] - lower[a]
        if kinds[a, 0] == WRAPS:
            if x[a] < lower[a] or x[a] >= upper[a]:
                x[a] = lower[a] + (x[a] - lower[a]) % length
        elif (kinds[a, 0] == REFLECTS and x[a] < lower[a]) or (kinds[a, 1] == REFLECTS and x[a] > upper[a]):
            found = TOUCHES
            turned = lower[a] - x[a] if x[a] < lower[a] else x[a] - upper[a]
            near, sign = (lower[a], 1.0) if x[a] < lower[a] else (upper[a], -1.0)
            if kinds[a, 0] == REFLECTS and kinds[a, 1] == REFLECTS:
                turned = turned % (2.0 * length)
                if turned > length:
                    turned = 2.0 * length - turned
                    v[a] = -v[a]  # once more: it comes back as it went
            x[a] = near + sign * turned
            v[a] = -v[a]
    for a in range(AXES):
        if kinds[a, 0] == ABSORBS and x[a] < lower[a]:
            return gates[a, 0]
        if kinds[a, 1] == ABSORBS and x[a] > upper[a]:
            return gates[a, 1]
    return found


def outcome(x, v, lower, upper, kinds, gates, regions, level):  # type: ignore[no-untyped-def]
    """What becomes of x: a gate or a sign. regions: gate of the first one; level: room for the level functions."""
    found = settle(x, v, lower, upper, kinds, gates)  # type: ignore[no-untyped-call]
    if LEVELS > 0 and found in (STAYS, TOUCHES):
        levels(x, level)  # type: ignore[no-untyped-call]
        for region in range(LEVELS):
            if level[region] > 0.0:
                return regions + region
    return found


def march(stream, columns, rule, table, walls, ends, order, state, record):  # type: ignore[no-untyped-def]
    """Move some walkers on by some steps; returns the one that is lost, -1 where none is.

    rule: mobility (axes, axes), momentum, sampling; table: learning rates, batch sizes and injected variances of the
    steps, the last of each holding on, and the steps at which positions are saved; walls: lower, upper, kinds and gates
    of them, and the gate of the first region; ends: first walker, one beyond the last, steps done, steps to be done;
    order: see batch_gradient; state: of every walker, where it is, its velocity, rows of the epoch that are used, step
    and gate of its exit, steps at which a wall returned it; record: positions and velocities at the saved steps.
    """
    mobility, momentum, sampling = rule
    rates, sizes, variances, saved = table
    lower, upper, kinds, gates, regions = walls
    first, last, begin, end = ends
    positions, velocities, cursors, exit_steps, exit_gates, touches = state
    values, g, level = np.empty(COUNT), np.empty(AXES), np.empty(LEVELS)
    for w in range(first, last):
        x, v, cursor = positions[w], velocities[w], cursors[w]
        pending = np.searchsorted(saved, begin, side="right")
        for k in range(begin, end if exit_gates[w] < 0 else begin):
            size, variance = sizes[min(k, len(sizes) - 1)], variances[min(k, len(variances) - 1)]
            cursor = batch_gradient(stream, columns, x, size, sampling, order, cursor, values, g)  # type: ignore[no-untyped-call]
            if variance > 0.0:
                for a in range(AXES):
                    g[a] += np.sqrt(variance) * stream.standard_normal()
            for a in range(AXES):
                moved = momentum * v[a]
                for b in range(AXES):
                    moved -= mobility[a, b] * g[b]
                v[a] = moved
                x[a] += rates[min(k, len(rates) - 1)] * moved
            gate = STAYS
            if LEVELS > 0 or beyond(x, lower, upper):  # type: ignore[no-untyped-call]
                gate = outcome(x, v, lower, upper, kinds, gates, regions, level)  # type: ignore[no-untyped-call]
            if gate == TOUCHES:
                touches[w] += 1
            if gate >= 0 or gate == LOST:
                exit_steps[w], exit_gates[w] = k + 1, max(gate, -1)
                if gate == LOST:
                    return w
                break
            while pending < len(saved) and saved[pending] == k + 1:
                record[0][pending, w] = x
                if momentum > 0.0:
                    record[1][pending, w] = v
                pending += 1
        cursors[w] = cursor
    return -1


def follow(time, step, rates):  # type: ignore[no-untyped-def]
    """Learning rates of the next steps, each at its own time and count, which are the coordinates of `terms`."""
    position, columns, values = np.array([time, step]), np.empty((1, 0)), np.empty(1)
    for k in range(len(rates)):
        position[1] = step + k
        terms(position, columns, 0, values)  # type: ignore[no-untyped-call]
        rates[k] = values[0]
        position[0] += rates[k]
    return position[0]
