"""Diffusion matrices, their divergence, and what a convention adds to the drift."""

import numpy as np
import pytest
import sympy
from exact import orders
from problems import box
from scipy.linalg import sqrtm

from fpsolve.errors import CaseError
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import CONVENTIONS, AmplitudeNoise, ConstantNoise, HessianNoise, TensorNoise
from fpsolve.model.problem import Problem

NAMES = ("x", "y", "z")
# Mixed curvatures of both signs, no symmetry, in one to three variables.
LOSSES = {
    1: "x**4/4 - x**2 + sin(2*x)",
    2: "x**4/4 - x**2 + x*y**2 + sin(x + 2*y)",
    3: "x**4/4 - x**2 + x*y**2 + sin(x + 2*y) + z**3*x/2 + cos(z - y)",
}
DIMENSIONS = (1, 2, 3)


def hessian_noise(projection="abs", floor=0.3, floor_kind="smooth", **other):
    settings = {"learning_rate": 0.2, "batch_size": 4} | other
    return HessianNoise(projection=projection, floor=floor, floor_kind=floor_kind, **settings)


def landscape_in(dimensions):
    return Landscape(LOSSES[dimensions], variables=NAMES[:dimensions])


def points_in(dimensions, count=6):
    return np.random.default_rng(dimensions).uniform(-1.5, 1.5, size=(dimensions, count))


def matrices(values):
    """(axes, axes, points) -> a list of matrices."""
    return list(np.moveaxis(values, -1, 0))


# The matrix


def projected(hessian, projection, floor, kind):
    """The floored projection of a symmetric matrix by matrix square roots: no eigenvectors involved.

    |H| = sqrt(H H), max(A, B) = (A + B + |A - B|)/2 for commuting matrices.
    """
    unit = np.eye(len(hessian))

    def absolute(matrix):
        return np.real(sqrtm(matrix @ matrix))

    part = absolute(hessian) if projection == "abs" else 0.5 * (hessian + absolute(hessian))
    if kind == "smooth":
        return np.real(sqrtm(part @ part + floor**2 * unit))
    if kind == "additive":
        return part + floor * unit
    return 0.5 * (part + floor * unit + absolute(part - floor * unit))


@pytest.mark.parametrize("dimensions", DIMENSIONS)
@pytest.mark.parametrize("projection", ["abs", "clip"])
@pytest.mark.parametrize("kind", ["smooth", "additive", "maximum"])
def test_hessian_noise_is_the_matrix_function(dimensions, projection, kind):
    landscape, points = landscape_in(dimensions), points_in(dimensions)
    diffusion = hessian_noise(projection, 0.3, kind).diffusion_in(landscape)
    for found, hessian in zip(matrices(diffusion.matrix(points)), matrices(landscape.hessian(points)), strict=True):
        wanted = 0.2 / (2 * 4) * projected(hessian, projection, 0.3, kind)
        # sqrtm of a singular square (clip) is good to the square root of rounding
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9 if projection == "clip" else 1e-14)


def test_injected_noise_adds_a_multiple_of_the_identity():
    landscape, points = landscape_in(3), points_in(3)
    plain = hessian_noise().diffusion_in(landscape).matrix(points)
    injected = hessian_noise(injected=0.7).diffusion_in(landscape).matrix(points)
    added = 0.5 * 0.2 * 0.7 * np.eye(3)[..., None]
    np.testing.assert_allclose(injected - plain, added.repeat(6, 2), rtol=0, atol=1e-16)


def test_raw_hessian_noise_is_proportional_to_the_hessian():
    landscape = Landscape("x**2 + x*y/2 + y**2 + x**4", variables=("x", "y"))
    points = points_in(2)
    noise = HessianNoise(learning_rate=0.1, batch_size=5)
    found = noise.diffusion_in(landscape).matrix(points)
    np.testing.assert_allclose(found, 0.1 / 10 * landscape.hessian(points), rtol=1e-13)
    assert noise.course({}).clock.steps(1.0) == pytest.approx(10.0, rel=1e-15)


# Its divergence


def differences(matrix, points, step):
    """Divergence of a matrix field by fourth-order central differences."""
    total = np.zeros_like(points)
    for axis, unit in enumerate(np.eye(len(points))[..., None]):
        near = matrix(points + step * unit) - matrix(points - step * unit)
        far = matrix(points + 2 * step * unit) - matrix(points - 2 * step * unit)
        total += ((8 * near - far) / (12 * step))[:, axis]
    return total


def assert_is_divergence(diffusion, points):
    """Differences come towards the given divergence as step**4, and end at their rounding error."""
    exact = diffusion.divergence(points)
    steps = np.array([0.02, 0.01])
    errors = [np.abs(differences(diffusion.matrix, points, step) - exact).max() for step in steps]
    assert abs(orders(1 / steps, errors)[0] - 4.0) < 0.25
    # 1/16 of 1/16 of the error at 0.01, and rounding 1e-16/step
    assert np.abs(differences(diffusion.matrix, points, 0.0025) - exact).max() < errors[1] / 200 + 1e-12


def away_from_kinks(landscape, points, marks):
    """The points around which no Hessian eigenvalue passes a mark within the stencil of the differences."""
    values = np.linalg.eigvalsh(np.moveaxis(landscape.hessian(points), -1, 0))
    return points[:, (np.abs(values[:, :, None] - np.array(marks)).min(axis=(1, 2)) > 0.6)]


@pytest.mark.parametrize("dimensions", DIMENSIONS)
@pytest.mark.parametrize("projection", ["abs", "clip"])
@pytest.mark.parametrize("kind", ["smooth", "additive", "maximum"])
def test_divergence_of_hessian_noise(dimensions, projection, kind):
    landscape = landscape_in(dimensions)
    points = away_from_kinks(landscape, points_in(dimensions, 60), (0.0, 0.3, -0.3))[:, :6]
    assert points.shape[1] >= 3
    assert_is_divergence(hessian_noise(projection, 0.3, kind).diffusion_in(landscape), points)


def test_divergence_where_eigenvalues_meet():
    # H = diag(12 x**2, 12 y**2) is a multiple of I on the diagonal and on x = -y: the divided difference is a slope.
    landscape = Landscape("x**4 + y**4", variables=("x", "y"))
    points = np.array([[0.7, 0.5, -0.9, 0.7], [0.7, -0.5, -0.9, 0.7 + 1e-7]])
    diffusion = hessian_noise(floor=0.5).diffusion_in(landscape)
    h = 12 * points**2
    wanted = 0.2 / 8 * h / np.hypot(h, 0.5) * 24 * points
    np.testing.assert_allclose(diffusion.divergence(points), wanted, rtol=1e-6)  # eigenvalues 1e-6 apart count as equal
    np.testing.assert_allclose(diffusion.divergence(points)[:, :3], wanted[:, :3], rtol=1e-13)


def test_divergence_of_amplitude_and_tensor_noise():
    landscape, points = landscape_in(2), points_in(2)
    amplitude = [["1 + x**2", "sin(y)", "0.3"], ["x*y", "2 + cos(x)", "y"]]
    assert_is_divergence(AmplitudeNoise(noise_amplitude=amplitude).diffusion_in(landscape), points)
    tensor = [["2 + sin(x*y)", "0.3*cos(x)"], ["0.3*cos(x)", "exp(x + y)"]]
    assert_is_divergence(TensorNoise(diffusion=tensor).diffusion_in(landscape), points)


# Conventions: the flux drift v of the given drift mu


def flux_drift(noise, points, drift, names):
    problem = Problem(Landscape(drift=drift, variables=names), noise, box((2,) * len(names), (0.4, 0.6)))
    return problem.flux_drift(points)


@pytest.mark.parametrize(("convention", "share"), [("ito", 1.0), ("stratonovich", 0.5), ("isothermal", 0.0)])
def test_flux_drift_on_a_line(convention, share):
    x = np.linspace(0.1, 2.0, 7)
    v = flux_drift(TensorNoise(diffusion="1 + x**3", convention=convention), x[None], ["cos(x)"], ("x",))
    np.testing.assert_allclose(v[0], np.cos(x) - share * 3 * x**2, rtol=1e-14)


@pytest.mark.parametrize(("convention", "share"), [("ito", 1.0), ("stratonovich", 0.5), ("isothermal", 0.0)])
def test_flux_drift_of_a_scaled_tensor(convention, share):
    x, y = points = points_in(2)
    tensor = [["2*exp(x*y)", "0.5*exp(x*y)"], ["0.5*exp(x*y)", "exp(x*y)"]]
    v = flux_drift(TensorNoise(diffusion=tensor, convention=convention), points, ["y", "-x"], ("x", "y"))
    noise_gradient = np.array([[2.0, 0.5], [0.5, 1.0]]) @ np.array([y * np.exp(x * y), x * np.exp(x * y)])
    np.testing.assert_allclose(v, np.array([y, -x]) - share * noise_gradient, rtol=1e-12, atol=1e-13)


def test_noise_along_y_that_grows_with_y_drifts_by_minus_one():
    """D(y) = y I: in Ito's convention the flux drift is exactly (0, -1)."""
    points = np.array([[-2.0, 0.0, 5.0], [1.0, 2.0, 3.0]])
    v = flux_drift(TensorNoise(diffusion=[["y", "0"], ["0", "y"]]), points, ["0", "0"], ("x", "y"))
    np.testing.assert_array_equal(v, [[0.0] * 3, [-1.0] * 3])


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_flux_drift_of_an_amplitude(convention):
    """Against the formulas of each convention, evaluated symbolically; two axes, three noises."""
    symbols = sympy.symbols("x y", real=True)
    texts = [["1 + x**2", "sin(y)", "0.25"], ["x*y", "2 + cos(x)", "y"]]
    x, y = symbols
    s = sympy.Matrix([[1 + x**2, sympy.sin(y), 0.25], [x * y, 2 + sympy.cos(x), y]])
    d = s * s.T / 2
    divergence = [sum(d[i, j].diff(symbols[j]) for j in (0, 1)) for i in (0, 1)]
    spurious = [
        sum(s[j, k] * s[i, k].diff(symbols[j]) for j in (0, 1) for k in (0, 1, 2)) / 2  # 1/2 s_jk d_j s_ik
        for i in (0, 1)
    ]
    added = {
        "ito": [-entry for entry in divergence],
        "stratonovich": [a - b for a, b in zip(spurious, divergence, strict=True)],
        "isothermal": [0, 0],
    }[convention]
    points = points_in(2)
    wanted = [np.broadcast_to(sympy.lambdify(symbols, entry, "numpy")(*points), 6) for entry in added]
    noise = AmplitudeNoise(noise_amplitude=texts, convention=convention)
    v = flux_drift(noise, points, ["y", "-x"], ("x", "y"))
    np.testing.assert_allclose(v, np.array([points[1], -points[0]]) + wanted, rtol=0, atol=1e-13)


def test_stratonovich_amplitude_on_a_line_is_half_way():
    x = np.linspace(0.5, 2.0, 5)
    for convention, wanted in (("ito", -x), ("stratonovich", -x / 2), ("isothermal", 0 * x)):  # D = x**2/2
        noise = AmplitudeNoise(noise_amplitude="x", convention=convention)
        np.testing.assert_allclose(flux_drift(noise, x[None], ["0"], ("x",))[0], wanted, rtol=0, atol=1e-15)


def test_constant_noise_has_no_convention():
    points = points_in(2)
    landscape = Landscape("x**2 + y**2", variables=("x", "y"), mobility=[[1.0, 0.6], [0.6, 0.5]])
    diffusion = ConstantNoise(temperature=0.5).diffusion_in(landscape)
    np.testing.assert_array_equal(diffusion.noise_drift(points), np.zeros_like(points))
    np.testing.assert_array_equal(diffusion.matrix(points)[..., 0], [[0.5, 0.3], [0.3, 0.25]])


def test_noise_given_as_functions():
    points, landscape = points_in(2), landscape_in(2)
    written = [["2 + sin(x*y)", "0.3*cos(x)"], ["0.3*cos(x)", "exp(x + y)"]]
    symbolic = TensorNoise(diffusion=written).diffusion_in(landscape)

    def tensor(x, y):
        return [[2 + np.sin(x * y), 0.3 * np.cos(x)], [0.3 * np.cos(x), np.exp(x + y)]]

    given = TensorNoise(diffusion=tensor).diffusion_in(landscape)
    np.testing.assert_allclose(given.matrix(points), symbolic.matrix(points), rtol=1e-14)
    # 1e-2**4 / 30 times a fifth derivative of up to exp(3) = 20
    np.testing.assert_allclose(given.divergence(points), symbolic.divergence(points), rtol=0, atol=1e-8)


# What is refused


@pytest.mark.parametrize(
    ("noise", "message"),
    [
        (ConstantNoise(), r"noise: neither temperature nor diffusion given\. Constant noise needs exactly one"),
        (ConstantNoise(temperature=1.0, diffusion=np.eye(2)), r"noise: both temperature and diffusion given"),
        (ConstantNoise(temperature=0.0), r"noise\.temperature: it is 0\. It must be a finite number above 0"),
        (ConstantNoise(temperature=np.nan), r"noise\.temperature: it is nan"),
        (ConstantNoise(temperature=np.inf), r"noise\.temperature: it is inf"),
        (ConstantNoise(diffusion=[[1, 2], [2, 1]]), r"noise\.diffusion: it has the eigenvalue -1"),
        (ConstantNoise(diffusion=[[1, 2], [0, 5]]), r"noise\.diffusion: it is not symmetric"),
        (TensorNoise(diffusion=[["1", "0"]]), r"noise\.diffusion: 1 found where 2 entries belong\. Give 2 x 2 entries"),
        (TensorNoise(diffusion=[["1", "0"], ["0"]]), r"noise\.diffusion: 1 found where 2 entries belong"),
        (TensorNoise(diffusion=[["1", "q"], ["q", "1"]]), r'noise\.diffusion: "q" is not a known name'),
        (AmplitudeNoise(noise_amplitude=lambda x, y: x), r"noise\.noise_amplitude: a function does not show"),
        (AmplitudeNoise(noise_amplitude=[["1", "x"], ["y"]]), r"noise\.noise_amplitude: 1 found where 2 entries"),
        (hessian_noise(learning_rate=0.0), r"noise\.learning_rate: it is 0\. It must be a finite number above 0"),
        (hessian_noise(batch_size=-1), r"noise\.batch_size: it is -1"),
        (hessian_noise(floor=-0.1), r"noise\.floor: it is -0\.1\. It must be a finite number, 0 or more"),
        (hessian_noise(injected=np.nan), r"noise\.injected: it is nan"),
    ],
)
def test_bad_noise_is_refused(noise, message):
    with pytest.raises(CaseError, match=message):
        noise.diffusion_in(landscape_in(2))


def test_hessian_noise_needs_a_loss():
    with pytest.raises(CaseError, match=r'noise\.kind: "hessian" needs a loss\. The landscape gives only a drift'):
        hessian_noise().diffusion_in(Landscape(drift=["x"], variables=("x",)))
