"""Losses and drifts, from expressions and from functions, and the messages for what is no landscape."""

import numpy as np
import pytest

from fpsolve.errors import CaseError
from fpsolve.model.fields import DIFFERENCE_STEP
from fpsolve.model.landscape import Landscape

LOSS = "sin(a*x)*cosh(y) + x**4*y/10"
VARIABLES = ("x", "y")


def loss(x, y):
    return np.sin(1.5 * x) * np.cosh(y) + x**4 * y / 10


@pytest.fixture
def positions():
    return np.random.default_rng(1).uniform(-1.0, 1.0, size=(2, 20))


@pytest.fixture
def symbolic():
    return Landscape(LOSS, variables=VARIABLES, parameters={"a": 1.5})


def by_hand(x, y):
    """Gradient and Hessian of the loss, written out."""
    s, c, sh, ch = np.sin(1.5 * x), np.cos(1.5 * x), np.sinh(y), np.cosh(y)
    gradient = np.array([1.5 * c * ch + 0.4 * x**3 * y, s * sh + 0.1 * x**4])
    cross = 1.5 * c * sh + 0.4 * x**3
    return gradient, np.array([[-2.25 * s * ch + 1.2 * x**2 * y, cross], [cross, s * ch]])


def test_derivatives_of_expressions_are_exact(symbolic, positions):
    gradient, hessian = by_hand(*positions)
    np.testing.assert_allclose(symbolic.loss(positions), loss(*positions), rtol=1e-14)
    np.testing.assert_allclose(symbolic.gradient(positions), gradient, rtol=0, atol=1e-14)
    np.testing.assert_allclose(symbolic.hessian(positions), hessian, rtol=0, atol=1e-14)


def test_derivatives_of_functions_are_of_fourth_order(symbolic, positions):
    function = Landscape(loss, variables=VARIABLES)
    # step**4 |f'''''| / 30, the fifth derivative below 1.5**5 cosh(1) = 12; the second difference adds as much again;
    # rounding: 1e-16 / step, and / step**2.
    bound = DIFFERENCE_STEP**4 * 12.0 / 30.0
    np.testing.assert_allclose(function.loss(positions), symbolic.loss(positions), rtol=1e-14)
    np.testing.assert_allclose(function.gradient(positions), symbolic.gradient(positions), rtol=0, atol=bound + 1e-13)
    np.testing.assert_allclose(function.hessian(positions), symbolic.hessian(positions), rtol=0, atol=3 * bound + 1e-11)


def test_a_function_may_bring_its_derivatives(symbolic, positions):
    given = Landscape(
        loss,
        variables=VARIABLES,
        gradient=lambda x, y: by_hand(x, y)[0],
        hessian=lambda x, y: by_hand(x, y)[1],
    )
    np.testing.assert_allclose(given.gradient(positions), symbolic.gradient(positions), rtol=0, atol=1e-14)
    np.testing.assert_allclose(given.hessian(positions), symbolic.hessian(positions), rtol=0, atol=1e-14)


def test_the_drift_goes_down_the_loss_through_the_mobility(positions):
    mobility = np.array([[1.0, 0.6], [0.6, 0.5]])
    landscape = Landscape(
        LOSS, variables=VARIABLES, parameters={"a": 1.5}, mobility=mobility, extra_drift=["-y", "a*x"]
    )
    x, y = positions
    wanted = -mobility @ by_hand(x, y)[0] + np.array([-y, 1.5 * x])
    np.testing.assert_allclose(landscape.drift(positions), wanted, rtol=0, atol=1e-14)
    assert not landscape.is_gradient


def test_a_drift_stands_alone(positions):
    x, y = positions
    expressions = Landscape(drift=["-x + y", "-x - y"], variables=VARIABLES)
    function = Landscape(drift=lambda x, y: (-x + y, -x - y), variables=VARIABLES)
    np.testing.assert_array_equal(expressions.drift(positions), [-x + y, -x - y])
    np.testing.assert_array_equal(function.drift(positions), [-x + y, -x - y])
    assert expressions.loss is None
    assert not expressions.is_gradient


def test_a_function_may_return_a_constant(positions):
    landscape = Landscape(drift=lambda x, y: (1.0, -x), variables=VARIABLES)
    np.testing.assert_array_equal(landscape.drift(positions), [np.ones(20), -positions[0]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, r"landscape: none of loss, drift, per_example_loss, table is given\. Exactly one of them is needed"),
        ({"loss": "x", "drift": ["x", "y"]}, r"landscape: both loss and drift are given"),
        ({"drift": ["x", "y"], "mobility": np.eye(2)}, r"landscape\.mobility: it has no effect beside drift"),
        ({"drift": ["x", "y"], "extra_drift": ["x", "y"]}, r"landscape\.extra_drift: it has no effect beside drift"),
        ({"drift": ["x"]}, r"landscape\.drift: 1 found where 2 entries belong\. Give a list of 2 entries"),
        ({"drift": "x"}, r"landscape\.drift: a single entry found where 2 entries belong"),
        ({"loss": "x**2", "extra_drift": ["x", "y", "x"]}, r"landscape\.extra_drift: 3 found where 2 entries belong"),
        ({"loss": "x**2 + w"}, r'landscape\.loss: "w" .* is not a known name'),
        ({"loss": "x**2 + zeta", "parameters": {"zeto": 1.0}}, r'Did you mean "zeto"\?'),
        ({"loss": "x", "mobility": [[1, 2], [0, 5]]}, r"landscape\.mobility: it is not symmetric\. .* its transpose"),
        ({"loss": "x", "mobility": [[1, 2], [2, 1]]}, r"landscape\.mobility: it has the eigenvalue -1\. .* positive"),
        ({"loss": "x", "mobility": [[1, 1], [1, 1]]}, r"landscape\.mobility: it has the eigenvalue"),
        ({"loss": "x", "mobility": np.eye(3)}, r"landscape\.mobility: it is 3 x 3\. It must be 2 x 2"),
        ({"loss": "x", "mobility": [[1, np.nan], [np.nan, 1]]}, r"landscape\.mobility: an entry is not finite"),
        ({"loss": "x", "mobility": [[1, "two"], [2, 1]]}, r"landscape\.mobility: it is not a matrix of numbers"),
        ({"loss": "x", "mobility": [[1, 2], [3]]}, r"landscape\.mobility: it is not a matrix of numbers"),
    ],
)
def test_what_is_no_landscape_is_refused(arguments, message):
    with pytest.raises(CaseError, match=message):
        Landscape(variables=VARIABLES, **arguments)


def test_a_function_of_the_wrong_shape_is_refused(positions):
    landscape = Landscape(drift=lambda x, y: x, variables=VARIABLES)
    with pytest.raises(CaseError, match=r"landscape\.drift: the function returned something else .* list of 2 entries"):
        landscape.drift(positions)
