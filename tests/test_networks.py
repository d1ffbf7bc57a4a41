"""From a network to a table: against closed forms, differences, explicit gradients and dense Hessians.

All but the first tests need PyTorch; where it is absent they are skipped.
"""

from __future__ import annotations

import h5netcdf
import numpy as np
import pytest

from fpsolve import networks
from fpsolve.errors import CaseError, RunError
from fpsolve.model.table import Table
from fpsolve.networks import Plane, parameters_of, project, random_directions, top_hessian_directions
from fpsolve.networks import examples as examples_module

torch = pytest.importorskip("torch") if examples_module.torch is not None else None
needs_torch = pytest.mark.skipif(torch is None, reason="PyTorch is not installed")


# The plane itself


def test_a_plane_makes_its_directions_orthonormal_in_order(random):
    given = random.standard_normal((3, 7)) * [[2.0], [0.1], [30.0]]
    plane = Plane(np.arange(7.0), given)
    rounding = dict(rtol=0.0, atol=1e-14)  # of a QR factorisation of unit vectors
    np.testing.assert_allclose(plane.directions @ plane.directions.T, np.eye(3), **rounding)
    np.testing.assert_allclose(plane.directions[0], given[0] / np.linalg.norm(given[0]), **rounding)
    np.testing.assert_allclose(plane.lengths, np.linalg.norm(given, axis=1), rtol=1e-15)
    units = given / plane.lengths[:, None]
    np.testing.assert_allclose(plane.cosines, units @ units.T, **rounding)
    shares = plane.directions @ given.T
    assert (np.diag(shares) > 0.0).all(), "every direction keeps its orientation"
    np.testing.assert_allclose(np.tril(shares, -1), 0.0, atol=1e-13)  # rounding times the length 30 * sqrt(7)


def test_coordinates_and_parameters_are_inverse(random):
    plane = Plane(random.standard_normal(6), random.standard_normal((2, 6)))
    coordinates = random.standard_normal((4, 5, 2))
    found = plane.parameters(coordinates)
    assert found.shape == (4, 5, 6)
    np.testing.assert_allclose(plane.coordinates(found), coordinates, atol=1e-14)  # rounding
    aside = random.standard_normal(6)
    aside -= plane.directions.T @ (plane.directions @ aside)
    np.testing.assert_allclose(plane.coordinates(found + aside), coordinates, atol=1e-14)  # rounding


@pytest.mark.parametrize(
    ("point", "directions", "words"),
    [
        (np.zeros(3), np.ones((1, 2)), r"point has the shape \(3,\), directions \(1, 2\)"),
        (np.zeros(3), np.zeros((1, 3)), "direction 1 is zero"),
        (np.zeros(3), [[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]], "direction 2 is a combination"),
        (np.zeros(5), np.eye(5)[:4], "there are 4. One to three"),
        (np.zeros(2), [[1.0, np.nan]], "not finite"),
        (np.zeros(2), "x", "not an array of numbers"),
    ],
)
def test_a_plane_says_what_is_wrong(point, directions, words):
    with pytest.raises(CaseError, match=words):
        Plane(point, directions)


def test_without_torch_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(examples_module, "torch", None)
    plane = Plane(np.zeros(2), np.eye(2))
    asked = (
        lambda: parameters_of(object()),
        lambda: random_directions(object(), 2, seed=0),
        lambda: top_hessian_directions(object(), None, [], [], 1),
        lambda: project(object(), None, [], [], plane, [[0.0, 1.0]] * 2),
    )
    for question in asked:
        with pytest.raises(CaseError, match=r"PyTorch is not installed.*pip install 'fpsolve\[torch\]'"):
            question()


# Everything in closed form: a linear model with squared loss


ROWS, SIZE = 40, 5
NODES = (np.linspace(-0.7, 0.9, 5), np.linspace(-0.4, 0.5, 4), np.array([-0.3, 0.0, 0.1, 0.6]))


@pytest.fixture
def random():
    return np.random.default_rng(11)


@pytest.fixture
def line(random):
    """A linear model without bias, its data, and the loss of an example, (model, inputs, targets)."""
    model = torch.nn.Linear(SIZE, 1, bias=False).double()
    with torch.no_grad():
        model.weight.copy_(torch.as_tensor(random.standard_normal((1, SIZE))))
    return model, random.standard_normal((ROWS, SIZE)), random.standard_normal(ROWS)


def half_square(outputs, targets):
    return 0.5 * (outputs.squeeze(-1) - targets) ** 2


def half_mean_square(outputs, targets):
    return half_square(outputs, targets).mean()


def in_closed_form(inputs, targets, plane, coordinates, weight_decay):
    """Loss, gradient, Hessian and covariance in the coordinates, from those in the parameters."""
    parameters = plane.parameters(coordinates)
    rest = inputs @ parameters - targets
    gradients = rest[:, None] * inputs
    mean = gradients.mean(axis=0)
    covariance = gradients.T @ gradients / len(inputs) - np.outer(mean, mean)
    hessian = inputs.T @ inputs / len(inputs) + weight_decay * np.eye(len(parameters))
    turn = plane.directions
    return (
        0.5 * np.mean(rest**2) + 0.5 * weight_decay * parameters @ parameters,
        turn @ (mean + weight_decay * parameters),
        turn @ hessian @ turn.T,
        turn @ covariance @ turn.T,
    )


@needs_torch
@pytest.mark.parametrize("loss_function", [half_square, half_mean_square])
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_a_linear_model_is_projected_exactly(line, random, axes, loss_function):
    model, inputs, targets = line
    plane = Plane(random.standard_normal(SIZE), random.standard_normal((axes, SIZE)))
    found = project(model, loss_function, inputs, targets, plane, NODES[:axes], weight_decay=0.3, chunk=7)
    assert found.variables == ("x", "y", "z")[:axes]
    assert found.examples == ROWS
    for place in np.ndindex(found.loss.shape):
        coordinates = np.array([axis[index] for axis, index in zip(found.nodes, place, strict=True)])
        wanted = in_closed_form(inputs, targets, plane, coordinates, 0.3)
        here = (..., *place)
        parts = (found.loss[place], found.gradient[here], found.hessian[here], found.gradient_covariance[here])
        for part, value in zip(parts, wanted, strict=True):
            np.testing.assert_allclose(part, value, rtol=1e-12, atol=1e-12 * np.abs(value).max())  # rounding


@needs_torch
def test_sgd_projected_on_the_plane_has_the_drift_and_the_noise_of_the_table(line, random):
    """Steps -learning_rate * gradient of single examples, projected: mean -gradient and covariance C, no mobility."""
    model, inputs, targets = line
    skewed = random.standard_normal((2, SIZE))
    skewed[1] += 3.0 * skewed[0]
    plane = Plane(parameters_of(model), skewed)
    found = project(model, half_square, inputs, targets, plane, [[0.0, 1.0, 2.0, 3.0]] * 2)
    rest = inputs @ plane.point - targets
    stepped = plane.point - 0.1 * rest[:, None] * inputs
    moves = plane.coordinates(stepped)
    np.testing.assert_allclose(moves.mean(axis=0), -0.1 * found.gradient[:, 0, 0], atol=1e-14)  # rounding
    covariance = np.cov(moves.T, bias=True)
    np.testing.assert_allclose(covariance, 0.01 * found.gradient_covariance[..., 0, 0], rtol=1e-12)  # rounding
    # The same step in the coordinates of the directions as given is another drift: the mobility of the docstring.
    given = np.linalg.lstsq(skewed.T, (stepped - plane.point).T, rcond=None)[0].T
    mobility = np.linalg.inv(skewed @ skewed.T)
    np.testing.assert_allclose(given.mean(axis=0), -0.1 * mobility @ skewed @ (rest @ inputs / ROWS), atol=1e-13)
    noise = mobility @ skewed @ np.cov((rest[:, None] * inputs).T, bias=True) @ skewed.T @ mobility
    np.testing.assert_allclose(np.cov(given.T, bias=True), 0.01 * noise, rtol=1e-11)  # rounding times the skewness


# Networks


def tanh_network():
    torch.manual_seed(5)
    return torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.Tanh(), torch.nn.Linear(6, 3))


def labelled(rows=30):
    generator = np.random.default_rng(3)
    return generator.standard_normal((rows, 4)), generator.integers(0, 3, rows)


def entropy(outputs, targets):
    return torch.nn.functional.cross_entropy(outputs, targets, reduction="none")


def dense(model, inputs, targets, parameters):
    """Loss, per-example gradients (rows, parameters) and Hessian by one backward pass per number, in full."""
    model = model.double().eval()
    inputs, targets = torch.as_tensor(inputs), torch.as_tensor(targets)
    torch.nn.utils.vector_to_parameters(torch.as_tensor(parameters), model.parameters())
    losses = entropy(model(inputs), targets)
    trained = list(model.parameters())

    def flat(parts):
        return torch.cat([part.reshape(-1) for part in parts])

    gradients = torch.stack([flat(torch.autograd.grad(loss, trained, retain_graph=True)) for loss in losses])
    slope = flat(torch.autograd.grad(losses.mean(), trained, create_graph=True))
    rows = [flat(torch.autograd.grad(one, trained, retain_graph=True, materialize_grads=True)) for one in slope]
    return losses.mean().item(), gradients.numpy(), torch.stack(rows).numpy()


@needs_torch
def test_a_network_against_full_gradients_and_the_full_hessian(random):
    model, (inputs, targets) = tanh_network(), labelled()
    plane = Plane(parameters_of(model), random.standard_normal((2, 51)))
    found = project(model, torch.nn.functional.cross_entropy, inputs, targets, plane, NODES[:2])
    for place in ((0, 0), (3, 1), (4, 3)):
        parameters = plane.parameters([axis[index] for axis, index in zip(found.nodes, place, strict=True)])
        loss, gradients, hessian = dense(tanh_network(), inputs, targets, parameters)
        along, here = gradients @ plane.directions.T, (..., *place)
        turned = plane.directions @ hessian @ plane.directions.T
        rounding = dict(rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(found.loss[place], loss, **rounding)
        np.testing.assert_allclose(found.gradient[here], along.mean(axis=0), **rounding)
        np.testing.assert_allclose(found.hessian[here], turned, **rounding)
        np.testing.assert_allclose(found.gradient_covariance[here], np.cov(along.T, bias=True), **rounding)


class Attention(torch.nn.Module if torch is not None else object):
    """Words in, a class out, with layers whose forward mode PyTorch lacks."""

    def __init__(self):
        super().__init__()
        self.words = torch.nn.Embedding(7, 4)
        self.layer = torch.nn.TransformerEncoderLayer(4, 2, 5, dropout=0.5, activation="gelu", batch_first=True)
        self.last = torch.nn.Linear(4, 3)

    def forward(self, words):
        return self.last(self.layer(self.words(words)).mean(dim=1))


def network_of(name):
    """(model, inputs) with layers that behave differently in training, or have kinds of derivatives of their own."""
    generator = np.random.default_rng(8)
    if name == "attention":
        return Attention(), generator.integers(0, 7, (30, 3))
    if name == "convolution":
        layers = (
            torch.nn.Conv2d(1, 2, 2),
            torch.nn.BatchNorm2d(2),
            torch.nn.SiLU(),
            torch.nn.Flatten(),
            torch.nn.Dropout(0.5),
            torch.nn.Linear(8, 3),
        )
        model = torch.nn.Sequential(*layers)
        model[1].running_mean.copy_(torch.tensor([0.3, -0.2]))
        return model, generator.standard_normal((30, 1, 3, 3))
    layers = (torch.nn.Linear(4, 6), torch.nn.LayerNorm(6), torch.nn.GELU(), torch.nn.Linear(6, 3))
    return torch.nn.Sequential(*layers), labelled()[0]


@needs_torch
@pytest.mark.parametrize("name", ["attention", "convolution", "layer norm"])
def test_derivatives_against_differences(name):
    torch.manual_seed(2)
    model, inputs = network_of(name)
    targets, step = labelled()[1], 1e-3
    plane = Plane(parameters_of(model), random_directions(model, 1, seed=4))
    nodes = step * np.arange(-2.0, 3.0)
    found = project(model, entropy, inputs, targets, plane, [nodes], chunk=11)
    first = np.array([1.0, -8.0, 0.0, 8.0, -1.0]) / (12.0 * step)  # fourth order
    # Discretisation step**4/30 times a fifth derivative of order 1 to 1e3, and rounding 1e-16/step.
    np.testing.assert_allclose(first @ found.loss, found.gradient[0, 2], rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(first @ found.gradient[0], found.hessian[0, 0, 2], rtol=1e-8, atol=1e-10)
    assert model.training, "the model itself stays as it was"
    assert next(model.parameters()).dtype == torch.float32


@needs_torch
def test_chunks_change_nothing_but_rounding(random):
    model, (inputs, targets) = tanh_network(), labelled()
    plane = Plane(parameters_of(model), random.standard_normal((2, 51)))
    nodes = [NODES[1], NODES[2]]
    whole, *parts = (project(model, entropy, inputs, targets, plane, nodes, chunk=rows) for rows in (99, 1, 7, 30))
    for part in parts:
        for name in ("loss", "gradient", "hessian", "gradient_covariance"):
            wanted = getattr(whole, name)
            np.testing.assert_allclose(getattr(part, name), wanted, rtol=0.0, atol=1e-13 * np.abs(wanted).max())


@needs_torch
def test_frozen_parameters_stay_where_they_are(random):
    model, (inputs, targets) = tanh_network(), labelled()
    for parameter in model[0].parameters():
        parameter.requires_grad_(False)
    plane = Plane(parameters_of(model), random.standard_normal((1, 21)))
    found = project(model, entropy, inputs, targets, plane, [NODES[0]])
    whole = np.concatenate([parameters_of(tanh_network())[:30], plane.parameters([NODES[0][1]])])
    loss, gradients, _ = dense(tanh_network(), inputs, targets, whole)
    np.testing.assert_allclose(found.loss[1], loss, rtol=1e-13)  # rounding
    np.testing.assert_allclose(found.gradient[0, 1], plane.directions[0] @ gradients.mean(axis=0)[30:], rtol=1e-12)


# Directions


@needs_torch
def test_the_largest_eigenvectors_are_those_of_the_dense_hessian():
    model, (inputs, targets) = tanh_network(), labelled()
    _, _, hessian = dense(tanh_network(), inputs, targets, parameters_of(model))
    values, vectors = np.linalg.eigh(hessian)
    found = top_hessian_directions(model, entropy, inputs, targets, 3, chunk=8)
    np.testing.assert_allclose(found.eigenvalues, values[:-4:-1], rtol=1e-10)  # the tolerance of Lanczos' method
    shares = np.abs(np.sum(found.directions * vectors[:, :-4:-1].T, axis=1))
    np.testing.assert_allclose(shares, 1.0, rtol=1e-10)
    assert (found.residuals < 1e-6 * values[-1]).all()  # the square root of twice that tolerance and more
    again = top_hessian_directions(model, entropy, inputs, targets, 3, seed=9)
    np.testing.assert_allclose(again.directions, found.directions, atol=1e-5)  # the orientation too
    shifted = top_hessian_directions(model, entropy, inputs, targets, 3, weight_decay=0.5)
    np.testing.assert_allclose(shifted.eigenvalues, found.eigenvalues + 0.5, rtol=1e-10)


@needs_torch
def test_the_largest_eigenvalues_are_the_hessian_on_their_plane():
    model, (inputs, targets) = tanh_network(), labelled()
    top = top_hessian_directions(model, entropy, inputs, targets, 2)
    plane = Plane(parameters_of(model), top.directions)
    found = project(model, entropy, inputs, targets, plane, [[-1.0, 0.0, 1.0, 2.0]] * 2)
    wanted = np.diag(top.eigenvalues)
    np.testing.assert_allclose(found.hessian[:, :, 1, 1], wanted, atol=1e-9 * wanted.max())  # Lanczos' tolerance


@needs_torch
def test_random_directions_have_the_filter_norms_of_the_model():
    torch.manual_seed(1)
    layers = (torch.nn.Conv2d(2, 3, 2), torch.nn.BatchNorm2d(3), torch.nn.Flatten(), torch.nn.Linear(12, 5))
    model = torch.nn.Sequential(*layers)
    found = random_directions(model, 2, seed=6)
    assert found.shape == (2, parameters_of(model).size)
    for direction in found:
        start = 0
        for parameter in model.parameters():
            part = direction[start : start + parameter.numel()].reshape(parameter.shape)
            start += parameter.numel()
            if parameter.ndim == 1:
                assert not part.any(), "biases and batch norm do not move"
                continue
            own = parameter.detach().double().numpy()
            norms = [np.linalg.norm(values.reshape(len(own), -1), axis=1) for values in (part, own)]
            np.testing.assert_allclose(*norms, rtol=1e-14)  # rounding
    np.testing.assert_array_equal(found, random_directions(model, 2, seed=6))
    assert not np.allclose(found, random_directions(model, 2, seed=7))
    weights = sum((parameter**2).sum().item() for parameter in model.parameters() if parameter.ndim > 1)
    lengths = Plane(parameters_of(model), found).lengths
    np.testing.assert_allclose(lengths, np.sqrt(weights), rtol=1e-6)  # float32 sum: one unit is the model's own size


# The table, progress, and what goes wrong


@needs_torch
def test_the_table_holds_what_was_found(line, random, tmp_path):
    model, inputs, targets = line
    plane = Plane(parameters_of(model), random.standard_normal((2, SIZE)))
    told = []
    found = project(
        model,
        half_square,
        inputs,
        targets,
        plane,
        NODES[:2],
        variables=("a", "b"),
        progress=lambda *it: told.append(it),
    )
    assert told[-1] == ("projection", 1.0)
    assert len(told) == found.loss.size
    found.write(tmp_path / "line.nc", title="A line", eigenvalues=np.array([2.0, 1.0]))
    assert [path.name for path in tmp_path.iterdir()] == ["line.nc"], "no temporary file is left"
    with h5netcdf.File(tmp_path / "line.nc") as file:
        assert set(file.variables) == {
            *("a", "b", "loss", "gradient_a", "gradient_b", "hessian_aa", "hessian_ab", "hessian_bb"),
            *("gradient_covariance_aa", "gradient_covariance_ab", "gradient_covariance_bb"),
        }
        assert file["loss"].dimensions == ("a", "b")
        np.testing.assert_array_equal(file["a"], NODES[0])
        np.testing.assert_array_equal(file["hessian_ab"], found.hessian[0, 1])
        np.testing.assert_array_equal(file["gradient_covariance_bb"], found.gradient_covariance[1, 1])
        np.testing.assert_array_equal(file["gradient_b"], found.gradient[1])
        assert file.attrs["examples"] == ROWS
        assert file.attrs["title"] == "A line"
        np.testing.assert_array_equal(file.attrs["eigenvalues"], [2.0, 1.0])
        np.testing.assert_array_equal(file.attrs["direction_lengths"], plane.lengths)
    with pytest.raises(RunError, match="the table cannot be written"):
        found.write(tmp_path / "nowhere" / "line.nc")


@needs_torch
def test_the_table_read_again_is_the_landscape_between_the_nodes(line, random, tmp_path):
    """A linear model: all are polynomials of degree two in the coordinates, which quintic splines hold exactly."""
    model, inputs, targets = line
    plane = Plane(parameters_of(model), random.standard_normal((2, SIZE)))
    axes = (np.linspace(-1.0, 1.0, 7), np.linspace(-0.5, 0.8, 6))
    project(model, half_square, inputs, targets, plane, axes, weight_decay=0.1).write(tmp_path / "line.nc")
    table = Table.read(tmp_path / "line.nc", ("x", "y"))
    assert table.examples == ROWS
    for place in random.uniform([-1.0, -0.5], [1.0, 0.8], (20, 2)):
        wanted = in_closed_form(inputs, targets, plane, place, 0.1)
        fields = (table.loss, table.gradient, table.hessian, table.gradient_covariance)
        for read, value in zip(fields, wanted, strict=True):
            found = read(place[:, None])[..., 0]
            np.testing.assert_allclose(found, value, rtol=0.0, atol=1e-12 * np.abs(value).max())  # rounding


def squares(outputs, targets):
    return (outputs - targets[:, None]) ** 2


def total(outputs, targets):
    return half_square(outputs, targets).sum()


@needs_torch
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"targets": np.zeros(3)}, "40 inputs and 3 targets"),
        ({"loss_function": squares}, r"the shape \(32, 1\) for 32 examples"),
        ({"loss_function": total}, "for 32 examples it gives .* for each alone"),
        ({"plane": Plane(np.zeros(2), np.eye(2))}, "its point has 2 parameters, the model trains 5"),
        ({"axes": [NODES[0]]}, "1 axes of nodes, variables x, y, and 2 directions"),
        ({"axes": [NODES[0], [0.0, 2.0, 1.0, 3.0]]}, "axis 2 is not a list of nodes"),
        ({"variables": ("x", "x")}, "variables x, x"),
        ({"chunk": 0}, "chunk: it is 0"),
    ],
)
def test_it_says_what_does_not_fit(line, changes, words):
    model, inputs, targets = line
    given = {
        "loss_function": half_square,
        "inputs": inputs,
        "targets": targets,
        "plane": Plane(np.zeros(SIZE), np.eye(SIZE)[:2]),
        "axes": NODES[:2],
    }
    with pytest.raises(CaseError, match=words):
        project(model, **(given | changes))


@needs_torch
def test_a_loss_that_is_not_finite_names_the_place(line):
    model, inputs, targets = line
    plane = Plane(np.zeros(SIZE), np.eye(SIZE)[:1])

    def steep(outputs, targets):
        return half_square(outputs, targets).exp()

    with pytest.raises(RunError, match="project at x = 200: the loss or a derivative is not finite"):
        project(model, steep, inputs, targets, plane, [[0.0, 1.0, 2.0, 200.0]])


@needs_torch
def test_more_eigenvectors_than_parameters_is_refused(line):
    model, inputs, targets = line
    with pytest.raises(CaseError, match=r"5 directions of 5 parameters are asked for\. 1 to 4"):
        top_hessian_directions(model, half_square, inputs, targets, 5)


@needs_torch
def test_a_model_that_trains_nothing_is_refused(line):
    model = line[0].requires_grad_(False)
    with pytest.raises(CaseError, match="none of its parameters is trained"):
        parameters_of(model)


def test_the_public_names_are_there():
    assert all(hasattr(networks, name) for name in networks.__all__)
