"""The slowest modes: against exact spectra, references and high-precision algebra, however far apart they are."""

import mpmath
import numpy as np
import pytest
from exact import orders
from problems import (
    QUARTIC,
    box,
    free,
    rotated_quartic,
    rotated_well_in_space,
    rotating_tensor,
    turned,
    with_drift,
    with_loss,
)

import fpsolve
from fpsolve.analyse.escape import escape
from fpsolve.analyse.spectrum import spectrum
from fpsolve.discretise.generator import Generator
from fpsolve.errors import CaseError, RunError

BANANA = "(x**2 - 1)**2 + 2*(y - 0.8*x**2)**2"
THREE_HOLE = (
    "3*exp(-x**2 - (y - 1/3)**2) - 3*exp(-x**2 - (y - 5/3)**2) - 5*exp(-(x - 1)**2 - y**2)"
    " - 5*exp(-(x + 1)**2 - y**2) + 0.2*x**4 + 0.2*(y - 1/3)**4"
)


def quartic(cells, depth):
    return with_loss(box((cells,), (-2.0, 2.0)), QUARTIC, 1.0 / depth)


def three_wells(cells, depth):
    """Minima of unequal depth near -2, 0 and 2, barriers of about 0.7 between them."""
    return with_loss(box((cells,), (-2.4, 2.4)), "0.075*x**2*(x**2 - 4)**2 + 0.03*x", 1.0 / depth)


def exact_eigenvalues(generator, count):
    """Of -Q, in 400 digits: the rates as they are, the diagonal as their sum."""
    size = generator.grid.size
    with mpmath.workdps(400):
        rows = mpmath.zeros(size)
        edges = generator.edges
        for origin, end, forward, backward in zip(edges.origin, edges.end, edges.forward, edges.backward, strict=True):
            for one, other, rate in ((int(origin), int(end), forward), (int(end), int(origin), backward)):
                rows[other, one] -= mpmath.mpf(float(rate))
                rows[one, one] += mpmath.mpf(float(rate))
        for cell, rate in zip(generator.exits.cell, generator.exits.rate, strict=True):
            rows[int(cell), int(cell)] += mpmath.mpf(float(rate))
        # Symmetric by a diagonal: neighbours only, so the product of the two rates is what counts.
        line = mpmath.zeros(size)
        for i in range(size):
            line[i, i] = rows[i, i]
            if i:
                line[i, i - 1] = line[i - 1, i] = -mpmath.sqrt(rows[i, i - 1] * rows[i - 1, i])
        values = mpmath.eigsy(line, eigvals_only=True)
        return np.array([float(value) for value in sorted(values)[:count]])


# To rounding


@pytest.mark.parametrize(
    ("problem", "count"),
    [
        (quartic(30, 5), 6),
        (quartic(30, 40), 4),
        (quartic(40, 120), 3),
        (three_wells(36, 60), 5),
        (three_wells(36, 400), 4),
        (with_loss(box((30,), (-1.9, 1.7), "absorbing"), QUARTIC, 1.0 / 30.0), 5),
        (with_loss(box((30,), (-1.9, 1.7), [("reflecting", "absorbing")]), QUARTIC, 1.0 / 80.0), 3),
    ],
)
def test_every_eigenvalue_is_right_relatively(problem, count):
    """Eigenvalues 1e-17, 1e-52, 1e-170 times the next: each to 1e-11 of itself."""
    generator = Generator.of(problem)
    wanted = exact_eigenvalues(generator, count)
    found = spectrum(generator, count).eigenvalues
    first = 1 if generator.closed else 0
    assert not generator.closed or found[0] == 0.0
    np.testing.assert_allclose(found[first:], wanted[first:], rtol=1e-11)


@pytest.mark.parametrize(
    "problem",
    [
        rotated_quartic(16, 0.3),
        rotating_tensor(16, 0.3, 3.0),
        with_drift(box((14, 14), (-3.0, 3.0)), ["-x - 2*y", "-y + 2*x"], np.eye(2)),
        with_drift(box((14, 12), (-1.0, 1.0), "absorbing"), ["0.3", "-y"], turned([1.0, 0.2], 0.5)),
        free(box((6, 6, 6)), np.eye(3)),
    ],
)
def test_modes_are_eigenvectors(problem):
    """Against LAPACK, which is right where no barrier is high; both sides orthogonal to each other."""
    generator = Generator.of(problem)
    found = spectrum(generator, 6)
    matrix = generator.matrix().toarray()
    dense = np.linalg.eigvals(-matrix)
    dense = dense[np.argsort(dense.real)][:6]
    np.testing.assert_allclose(found.eigenvalues.real, dense.real, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(np.sort(np.abs(found.eigenvalues.imag)), np.sort(np.abs(dense.imag)), atol=1e-8)
    probabilities = found.densities * problem.grid.volumes
    scale = np.abs(found.eigenvalues[:, None]).max()
    residual = np.abs(probabilities @ -matrix.T - found.eigenvalues[:, None] * probabilities).sum(axis=1)
    assert residual.max() < 1e-9 * scale
    np.testing.assert_allclose(np.abs(probabilities).sum(axis=1), 1.0, rtol=1e-12)
    overlaps = found.functions @ probabilities.T
    np.testing.assert_allclose(np.diag(overlaps), 1.0, rtol=1e-10)
    separate = np.abs(found.eigenvalues[:, None] - found.eigenvalues) > 1e-6
    assert np.abs(overlaps[separate]).max() < 1e-8


def test_pairs_that_swirl():
    """Ornstein-Uhlenbeck, drift (-x - 2 y, -y + 2 x): eigenvalues m (1 + 2i) + n (1 - 2i)."""
    cells, errors = (32, 64), []
    wanted = np.array([0.0, 1 - 2j, 1 + 2j])
    for count in cells:
        found = spectrum(with_drift(box((count, count), (-5.0, 5.0)), ["-x - 2*y", "-y + 2*x"], np.eye(2)), 3)
        errors.append(np.abs(np.sort_complex(found.eigenvalues) - wanted).max())
    assert errors[1] < 1e-4
    assert orders(cells, errors)[0] > 1.9  # higher while the cells do not resolve the swirl
    assert found.relaxation_times[0] is None
    np.testing.assert_allclose(found.relaxation_times[1:], 1.0, rtol=1e-4)


# Two wells


@pytest.mark.parametrize("depth", [5, 40, 100, 250])
def test_two_wells_exchange_at_twice_the_rate_of_escape(depth):
    """lambda_1 = 2 / tau but for depth exp(-depth), tau from minimum to minimum; the function is +-1 in the wells."""
    found = spectrum(quartic(240, depth), 3)
    time = escape(quartic(240, depth), start=(-1.0,), target="x > 1", definitions=["mean_first_passage_time"])
    tau = time.times["mean_first_passage_time"].value
    assert found.eigenvalues[1] * tau / 2.0 == pytest.approx(1.0, abs=depth * np.exp(-depth) + 1e-9)
    x = np.linspace(-2.0, 2.0, 241)[:-1] + 1.0 / 120.0
    levels = found.functions[1] * np.sign(found.functions[1][0])
    np.testing.assert_allclose(levels[np.abs(x + 1.0) < 0.3], 1.0, rtol=0.02)
    np.testing.assert_allclose(levels[np.abs(x - 1.0) < 0.3], -1.0, rtol=0.02)
    np.testing.assert_allclose(levels, -levels[::-1], atol=1e-8)


def test_a_mode_slower_than_all_numbers_is_refused():
    with pytest.raises(RunError, match="spectrum: a mode takes about 1e391"):
        spectrum(quartic(300, 900))


@pytest.mark.parametrize("count", [0, 51])
def test_a_count_that_makes_no_sense_is_refused(count):
    with pytest.raises(CaseError, match=r"spectrum\.count: it is \d+. There are 1 to 50 modes"):
        spectrum(quartic(50, 5), count)


def test_it_is_public():
    assert fpsolve.spectrum is spectrum


# Exact spectra


def test_free_diffusion_between_walls():
    """D = 0.4 on [0, 1]: 0.4 (k pi)**2 for reflecting ends; from k = 1 for absorbing ones; second order."""
    for walls, first in (("reflecting", 0), ("absorbing", 1)):
        errors, cells = [], (20, 40, 80)
        for count in cells:
            found = spectrum(free(box((count,), (0.0, 1.0), walls), [[0.4]]), 4).eigenvalues
            errors.append(np.abs(found - 0.4 * (np.pi * np.arange(first, first + 4)) ** 2).max())
        assert np.abs(orders(cells, errors) - 2.0).max() < 0.1


def test_degenerate_modes_are_all_found():
    """A square: pi**2 (m**2 + n**2), 1 and 4 twice; the three-point formula errs by (k h)**2 / 12."""
    found = spectrum(free(box((40, 40), (0.0, 1.0)), np.eye(2)), 6).eigenvalues / np.pi**2
    np.testing.assert_allclose(found, [0, 1, 1, 2, 4, 4], rtol=4 * (np.pi / 40) ** 2 / 12 * 1.01, atol=1e-12)
    np.testing.assert_allclose(found[1], found[2], rtol=1e-11)


# References: Green-operator power iteration and Legendre-Galerkin; spectral elements and finite elements


@pytest.mark.parametrize(
    ("depth", "wanted"),
    [
        (3, 0.0806198608574389),
        (5, 0.0111045625462909),
        (8, 0.000571868888868566),
        (12, 1.06885127064859e-05),
        (20, 3.6386056997252e-09),
        (40, 7.57646881506643e-18),
    ],
)
def test_the_spectral_gap_of_the_quartic_well(depth, wanted):
    """Second order: 1.1e-5 to 5e-6 at 200 cells, a quarter at 400 (measured)."""
    errors = [abs(spectrum(quartic(cells, depth), 2).eigenvalues[1] / wanted - 1.0) for cells in (200, 400)]
    assert errors[1] < 1e-5
    assert errors[0] < 4e-5


@pytest.mark.parametrize(
    ("temperature", "wanted", "bound"),
    [(0.25, 0.026401814105528, 2e-4), (0.15, 0.00202411754867393, 2e-4), (0.1, 7.60219445690167e-05, 2e-4)],
)
def test_the_slowest_rate_of_the_banana(temperature, wanted, bound):
    found = spectrum(with_loss(box((100, 120), [(-2.1, 2.1), (-1.6, 3.6)]), BANANA, temperature), 2)
    assert found.eigenvalues[1] == pytest.approx(wanted, rel=bound)


@pytest.mark.parametrize(
    ("inverse", "first", "second"),
    [
        (1.67, 0.0813961197227422, 0.754711433441993),
        (6.67, 3.65338231072057e-07, 0.0460364422889639),
    ],
)
def test_the_three_hole_potential(inverse, first, second):
    """Of Metzner, Schuette & Vanden-Eijnden (2006).

    Measured at 44, 88, 176 cells: 2.9e-4, 9.4e-5, 2.5e-5 and -7.6e-4, -1.8e-4, -4.4e-5 at T = 1/1.67; -1.4e-4, 3.2e-5,
    1.2e-5 and -7.8e-4, -1.6e-4, -3.7e-5 at T = 1/6.67: second order where the error has one sign.
    """
    cells = (88, 176) if inverse < 2.0 else (44, 88)
    found = [
        spectrum(with_loss(box((n, n), [(-2.2, 2.2), (-1.6, 2.6)]), THREE_HOLE, 1.0 / inverse), 3).eigenvalues
        for n in cells
    ]
    for number, wanted in ((1, first), (2, second)):
        errors = [abs(values[number] / wanted - 1.0) for values in found]
        assert max(errors) < 8.0 / cells[0] ** 2
        assert errors[1] < 1.6 / cells[1] ** 2
        if inverse < 2.0:
            assert abs(orders(cells, errors)[0] - 2.0) < 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("temperature", "wanted"), [(0.4, 0.134181149232002), (0.25, 0.0297795933094399), (0.15, 0.00214279374831731)]
)
def test_the_gap_of_a_rotated_well_in_space(temperature, wanted):
    found = spectrum(rotated_well_in_space(24, temperature), 2)
    assert found.eigenvalues[1] == pytest.approx(wanted, rel=2e-3)
