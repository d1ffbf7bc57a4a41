"""The compiled loops over edges. One-letter names are the mathematics of the docstrings."""

from __future__ import annotations

import math

import numpy as np
from numba import njit


@njit(cache=True)
def bernoulli(z):  # type: ignore[no-untyped-def]
    """B(z) = z / (exp(z) - 1) for z >= 0, to rounding; B(-z) = B(z) + z."""
    if z == 0.0:
        return 1.0
    # From 700 on exp(z) - 1 = exp(z) in double precision, and soon it overflows.
    return z * math.exp(-z) if z > 700.0 else z / math.expm1(z)


@njit(cache=True)
def curvature_share(z):  # type: ignore[no-untyped-def]
    """6 times the mean of s (1 - s) over [0, 1] weighted by exp(-z s): 1 at z = 0, 6 / |z| for large |z|.

    Closed form 12 (z/2 coth(z/2) - 1) / z**2, z/2 coth(z/2) = B(z) + z/2; its series where that cancels.
    """
    return _share(abs(z), bernoulli(abs(z)))


@njit(cache=True)
def _share(size, least):  # type: ignore[no-untyped-def]
    """The same, where least = B(size) is known."""
    if size < 0.05:
        return 1.0 - size * size / 60.0
    return 12.0 * (least + 0.5 * size - 1.0) / (size * size)


@njit(cache=True)
def conductances(whole, half, curvature, circulating):  # type: ignore[no-untyped-def]
    """Forward and backward rate over weight of an edge; forward / backward = exp(Z), so the equilibrium is exact.

    With phi = ln of the local equilibrium density along the edge, phi(0) = 0, phi(1/2) = half, phi(1) = Z = whole,
    m = phi(1/2) - Z/2 its bulge, and c = circulating the part of Z that is no difference of ln p at rest, q = Z - c:

        forward  / weight = B(-q) B(-c) exp(share(Z) (m + curvature / 24)),    B(z) = z / (exp(z) - 1)
        backward / weight = B(+q) B(+c) exp(share(Z) (m + curvature / 24))

    Without circulation (c = 0) B(-Z) alone is Scharfetter & Gummel's (1969): it moves a uniform density with exactly
    the right drift, but is wrong by h**2 phi''/12 at a barrier. Adding m (= -h**2 phi''/8) makes the edge a midpoint
    rule for the barrier's resistance, the integral of exp(-phi) / D, with the weight midway along the edge, up to the
    drift's correction factor 1 - Z**2/24. That factor does no harm across the barrier, nor along it, provided that
    its Z**2 comes with minus the curvature: integration by parts of phi' (exp(-phi))' / D gives

        integral of (phi'**2 - phi'' + phi' (ln D)') exp(-phi) / D = 0   across the barrier,
        integral of (phi'**2 + phi'' + phi' (ln D)') exp(phi) D = 0      along it,

    so that curvature = |h**2 phi''| - Z (rise of ln D along the edge) serves both; |h**2 phi''| is e . |Hessian| . e
    of ln p. So one rate serves transients and barriers alike.

    With circulation: where p is exponentially small its logarithm, rising by q along an edge, obeys the equation of
    large deviations (Freidlin & Wentzell), of the continuum and of the chain

        sum over edges of weight q (q - Z) = 0,   sum over edges of forward (exp(-q) - 1) + backward (exp(q) - 1) = 0.

    With forward = weight B(-q) B(-c) they are the same, edge by edge, for any Z: the exponent of a barrier is right
    however large Z is. B(-Z) in its place adds weight q**2 c**2 / 12, which is never negative, so that every barrier
    comes out too low: by 12 of 50 in ln(time) where q and c reach 4. Bulge and curvature are those of ln p at rest.
    """
    size = abs(whole)
    least = bernoulli(size)
    common = math.exp(_share(size, least) * (half - 0.5 * whole + curvature / 24.0))
    if circulating == 0.0:
        return common * (least + max(whole, 0.0)), common * (least + max(-whole, 0.0))
    forward = backward = common
    for z in (whole - circulating, circulating):
        least = bernoulli(abs(z))
        forward *= least + max(z, 0.0)
        backward *= least + max(-z, 0.0)
    return forward, backward


@njit(cache=True)
def pairs(weights, offset, shape, periodic, every, origin, end, mean, times):  # type: ignore[no-untyped-def]
    """Fill origin, end and mean weight of the edges along one offset, sorted by origin; returns their number.

    offset, shape, periodic: of three axes; every: whether edges without weight count; times: (cells,), is raised by the
    number of edges with that origin.
    """
    count = cell = 0
    for i in range(shape[0]):
        a = _moved(i + offset[0], shape[0], periodic[0])
        for j in range(shape[1]):
            b = _moved(j + offset[1], shape[1], periodic[1])
            for k in range(shape[2]):
                c = _moved(k + offset[2], shape[2], periodic[2])
                if a >= 0 and b >= 0 and c >= 0:
                    other = (a * shape[1] + b) * shape[2] + c
                    weight = 0.5 * (weights[cell] + weights[other])
                    if (every or weight > 0.0) and other != cell:
                        origin[count], end[count], mean[count] = cell, other, weight
                        times[cell] += 1
                        count += 1
                cell += 1
    return count


@njit(cache=True)
def _moved(index, cells, periodic):  # type: ignore[no-untyped-def]
    """An index inside the axis; -1 where it is outside."""
    if periodic:
        return index % cells
    return index if 0 <= index < cells else -1


@njit(cache=True)
def merge(origin, end, mean, number, place, to_origin, to_end, to_kind, to_weight):  # type: ignore[no-untyped-def]
    """Put the edges along offset `number` among all; place: (cells,), where the next one with that origin goes."""
    for edge in range(origin.size):
        to = place[origin[edge]]
        to_origin[to], to_end[to], to_kind[to], to_weight[to] = origin[edge], end[edge], number, mean[edge]
        place[origin[edge]] += 1


@njit(cache=True)
def segments(origin, kind, offsets, shape, start, step):  # type: ignore[no-untyped-def]
    """Fill start and step of edges, (axes, edges), in index units; offsets: (kinds, axes)."""
    for edge in range(origin.size):
        rest, along, again = origin[edge], kind[edge], edge > 0 and origin[edge] == origin[edge - 1]
        for axis in range(shape.size - 1, -1, -1):
            step[axis, edge] = offsets[along, axis]
            if again:  # most of the time; divisions take long
                start[axis, edge] = start[axis, edge - 1]
            else:
                above = rest // shape[axis]
                start[axis, edge] = rest - above * shape[axis]
                rest = above


@njit(cache=True)
def integrate(origin, end, step, slope, middle, largest, jump, smooth, whole, half, rough):  # type: ignore[no-untyped-def]
    """Fill in the integrals of parabolas over segments and their first halves, and which are too rough for that.

    slope: (axes, points), at points of which origin and end are two for every segment; middle: (axes, segments).
    """
    for edge in range(origin.size):
        b0 = b1 = b2 = 0.0
        for axis in range(step.shape[0]):
            along = step[axis, edge]
            b0 += slope[axis, origin[edge]] * along
            b1 += middle[axis, edge] * along
            b2 += slope[axis, end[edge]] * along
        whole[edge] = (b0 + 4.0 * b1 + b2) / 6.0
        half[edge] = (5.0 * b0 + 8.0 * b1 - b2) / 24.0
        bend = abs(whole[edge] - 0.5 * (b0 + b2))
        rough[edge] = bend > largest or bend > max(jump * (abs(b0) + abs(b2)), smooth)


@njit(cache=True)
def rates(weight, whole, half, curvature, circulating, forward, backward):  # type: ignore[no-untyped-def]
    """Fill forward and backward rates of edges [1/time]; forward / backward = exp(whole).

    Returns the first edge of which one is not finite, -1 where there is none.
    """
    bad = -1
    for edge in range(weight.size):
        out, back = conductances(whole[edge], half[edge], curvature[edge], circulating[edge])
        forward[edge], backward[edge] = weight[edge] * out, weight[edge] * back
        if bad < 0 and not math.isfinite(forward[edge] + backward[edge]):
            bad = edge
    return bad


@njit(cache=True)
def drifting(weight, drift):  # type: ignore[no-untyped-def]
    """Weight B(-drift / weight), the rate along an offset; its limit max(drift, 0) where the weight vanishes."""
    if abs(drift) >= 700.0 * weight:
        return drift if drift > 0.0 else 0.0
    return weight * bernoulli(abs(drift / weight)) + max(drift, 0.0)


@njit(cache=True)
def departing(weight, drift, out):  # type: ignore[no-untyped-def]
    """Fill the rates out (n,) with which offsets of these weights and drifts are followed."""
    for entry in range(weight.size):
        out[entry] = drifting(weight[entry], drift[entry])


@njit(cache=True)
def local_shape(origin, end, steps, curvature, circulation, whole, rise, bend, circulating):  # type: ignore[no-untyped-def]
    """Fill curvature and circulation along edges: means of step . curvature . step and circulation . step at both ends.

    With Z times the rise of ln length**2, see conductances, the curvature is bounded where it cannot be trusted: on
    the vast cells far out on an axis its differences mean nothing. So bounded it changes no rate by more than a factor
    of e, and none where wells are at least a fifth of a cell wide.

    steps: (axes, edges); curvature: (axes, axes, cells); circulation: (axes, cells); whole: Z, (edges,).
    """
    for edge in range(origin.size):
        i, j = origin[edge], end[edge]
        bend[edge] = circulating[edge] = 0.0
        for row in range(steps.shape[0]):
            step = 0.5 * steps[row, edge]
            if step == 0.0:
                continue
            circulating[edge] += step * (circulation[row, i] + circulation[row, j])
            for column in range(steps.shape[0]):
                bend[edge] += step * steps[column, edge] * (curvature[row, column, i] + curvature[row, column, j])
        most = max(24.0, 4.0 * abs(whole[edge]))
        bend[edge] = min(max(bend[edge] + whole[edge] * rise[edge], -most), most)


@njit(cache=True)
def edge_current(origin, end, forward, backward, p, out):  # type: ignore[no-untyped-def]
    """Probability per unit time through every edge: forward p(origin) - backward p(end)."""
    for edge in range(origin.size):
        out[edge] = forward[edge] * p[origin[edge]] - backward[edge] * p[end[edge]]


@njit(cache=True)
def collect(origin, end, current, out):  # type: ignore[no-untyped-def]
    """Subtract the current of every edge from its origin and add it to its end: minus the divergence."""
    for edge in range(origin.size):
        out[origin[edge]] -= current[edge]
        out[end[edge]] += current[edge]


@njit(cache=True)
def depart(origin, end, forward, backward, out):  # type: ignore[no-untyped-def]
    """Add the rates out of every cell."""
    for edge in range(origin.size):
        out[origin[edge]] += forward[edge]
        out[end[edge]] += backward[edge]


@njit(cache=True)
def adjoint(origin, end, forward, backward, u, out):  # type: ignore[no-untyped-def]
    """Add the backward (Kolmogorov) operator without losses: sum over edges of rate times difference."""
    for edge in range(origin.size):
        difference = u[end[edge]] - u[origin[edge]]
        out[origin[edge]] += forward[edge] * difference
        out[end[edge]] -= backward[edge] * difference


@njit(cache=True)
def route_through_faces(start, offset, current, orders, shape, periodic, faces):  # type: ignore[no-untyped-def]
    """Spread the currents of edges over the cell faces that their staircase paths cross.

    An edge that runs diagonally is led along the axes, one axis after the other, in each of the given
    orders in equal shares; so the net flow through the faces of a cell is, to rounding, the net flow of
    its edges. Face i of an axis is the lower face of cell i; a path that leaves the box ends at the wall.

    start: (edges, axes) cell index of the origin; offset: (edges, axes); faces: (axes, *shape + 1), added to.
    """
    axes = shape.size
    here = [0, 0, 0]
    for edge in range(start.shape[0]):
        for order in range(orders.shape[0]):
            share = current[edge] / orders.shape[0]
            for axis in range(axes):
                here[axis] = start[edge, axis]
            inside = True
            for turn in range(axes):
                axis = orders[order, turn]
                step = 1 if offset[edge, axis] > 0 else -1
                for _ in range(abs(offset[edge, axis])):
                    if not inside:
                        break
                    face = here[axis] + (1 if step > 0 else 0)
                    _add_to_face(faces, here, axis, face, step * share)
                    here[axis] += step
                    if here[axis] < 0 or here[axis] >= shape[axis]:
                        if periodic[axis]:
                            here[axis] -= step * shape[axis]
                        else:
                            inside = False


@njit(cache=True)
def _add_to_face(faces, here, axis, face, amount):  # type: ignore[no-untyped-def]
    i = face if axis == 0 else here[0]
    j = face if axis == 1 else here[1]
    k = face if axis == 2 else here[2]
    faces[axis, i, j, k] += amount


@njit(cache=True)
def grow_tree(first, head, rise, root, potential):  # type: ignore[no-untyped-def]
    """Breadth first from root: potential[head] = potential[tail] + rise; returns how many cells were reached.

    first: (cells + 1,) start of each cell's list in head and rise; potential: (cells,), NaN where not yet reached.
    """
    queue = np.empty(potential.size, dtype=np.int64)
    queue[0] = root
    potential[root] = 0.0
    reached = 1
    for turn in range(potential.size):
        if turn == reached:
            break
        tail = queue[turn]
        for entry in range(first[tail], first[tail + 1]):
            if math.isnan(potential[head[entry]]):
                potential[head[entry]] = potential[tail] + rise[entry]
                queue[reached] = head[entry]
                reached += 1
    return reached


@njit(cache=True)
def limit_transport(origin, end, extra, leaving_cell, leaving_extra, low, out):  # type: ignore[no-untyped-def]
    """Add high-order corrections of edge transports to a positive solution as far as it stays positive.

    Zalesak's limiter (1979) with the lower bound only: cell i can give at most low_i; when the corrections ask for
    more, all that leave it are scaled by one factor. What an edge takes it gives: probability is conserved.
    extra: (edges,) correction of the transport; leaving_extra: (exits,) likewise; low: (cells,), >= 0;
    out: the exits' limited corrections are written back to leaving_extra, the cells' new values to out.
    """
    asked = np.zeros(low.size)
    for edge in range(origin.size):
        asked[origin[edge] if extra[edge] > 0.0 else end[edge]] += abs(extra[edge])
    for leaving in range(leaving_cell.size):
        if leaving_extra[leaving] > 0.0:
            asked[leaving_cell[leaving]] += leaving_extra[leaving]
    share = asked
    for cell in range(low.size):
        share[cell] = min(1.0, low[cell] / asked[cell]) if asked[cell] > 0.0 else 1.0
        out[cell] = low[cell]
    for edge in range(origin.size):
        moved = extra[edge] * share[origin[edge] if extra[edge] > 0.0 else end[edge]]
        out[origin[edge]] -= moved
        out[end[edge]] += moved
    for leaving in range(leaving_cell.size):
        if leaving_extra[leaving] > 0.0:
            leaving_extra[leaving] *= share[leaving_cell[leaving]]
        out[leaving_cell[leaving]] -= leaving_extra[leaving]
