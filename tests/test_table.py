"""Landscapes from table files: what they hold comes back, and what is no table is named."""

import os
import re
import shutil
import tomllib

import h5netcdf
import h5py
import numpy as np
import pytest

import fpsolve
from fpsolve.analyse.escape import escape
from fpsolve.case import parse_case
from fpsolve.errors import CaseError, RunError
from fpsolve.model.fields import SymbolicField, field
from fpsolve.model.grid import Grid
from fpsolve.model.landscape import Landscape
from fpsolve.model.noise import TensorNoise
from fpsolve.model.problem import Problem
from fpsolve.model.table import QUANTITIES, Table, write_table

VARIABLES = ("x", "y")
X, Y = np.linspace(-1.6, 1.6, 41), np.linspace(-1.0, 1.0, 31)
SOURCES = {
    "loss": "(x**2 - 1)**2 + y**2 + x*y/3",
    "gradient": ["4*x*(x**2 - 1) + y/3", "2*y + x/3"],
    "hessian": [["12*x**2 - 4", "1/3"], ["1/3", "2"]],
    "gradient_covariance": [["1 + x**2", "x*y"], ["x*y", "2 + y**2"]],
    "drift": ["y - x**3", "-x - y"],
    "diffusion": [["1 + x**2", "x/4"], ["x/4", "2 + y**2"]],
}
POSITIONS = np.random.default_rng(7).uniform([[-1.6], [-1.0]], [[1.6], [1.0]], (2, 100))


def exact(quantity: str) -> SymbolicField:
    return field(SOURCES[quantity], (2,) * QUANTITIES[quantity][0], VARIABLES, {}, "test")


def on_nodes(quantity: str, x=X, y=Y) -> np.ndarray:
    """Values (*shape, x, y)."""
    box = np.meshgrid(x, y, indexing="ij")
    values = exact(quantity)(np.stack([along.ravel() for along in box]))
    return values.reshape(*values.shape[:-1], x.size, y.size)


def whole() -> dict:
    return {quantity: on_nodes(quantity) for quantity in SOURCES}


@pytest.mark.parametrize("name", ["surface.nc", "surface.npz", "surface.h5"])
def test_what_is_written_comes_back(tmp_path, name):
    write_table(tmp_path / name, VARIABLES, (X, Y), attributes={"network": "small"}, **whole(), examples=1000)
    assert os.listdir(tmp_path) == [name]  # nothing temporary is left
    table = Table.read(tmp_path / name, VARIABLES)
    np.testing.assert_array_equal(table.nodes[0], X)
    np.testing.assert_array_equal(table.nodes[1], Y)
    for quantity in SOURCES:
        found = getattr(table, quantity)
        assert found.shape == exact(quantity).shape
        # All are polynomials of degree four at most, so that a quintic spline is exact: rounding of the interpolation.
        np.testing.assert_allclose(found(POSITIONS), exact(quantity)(POSITIONS), rtol=0, atol=1e-13)
    assert table.examples == 1000
    assert table.bounds == ((-1.6, 1.6), (-1.0, 1.0))
    assert table.reach == (pytest.approx((-1.68, 1.68)), pytest.approx((-1.0 - 1 / 15, 1.0 + 1 / 15)))
    assert table.source == tmp_path / name
    assert table.description == f"table {name}, 41 x 31 nodes, quintic spline"


@pytest.mark.parametrize("name", ["surface.nc", "surface.npz"])
def test_files_hold_every_bit(tmp_path, name):
    loss, covariance = np.random.default_rng(1).normal(size=(6, 7)), np.random.default_rng(2).normal(size=(2, 2, 6, 7))
    covariance[1, 0] = covariance[0, 1]
    nodes, path = (np.arange(6.0) ** 1.1, np.arange(7.0) / 3.0), tmp_path / name
    write_table(path, VARIABLES, nodes, loss=loss, gradient_covariance=covariance, accuracy=0.5 * loss, examples=3)
    file = np.load(path) if name.endswith("npz") else h5py.File(path)
    with file:
        names = {"x", "y", "loss", "accuracy", *(f"gradient_covariance_{end}" for end in ("xx", "xy", "yy"))}
        assert set(file) - {"examples"} == names
        for variable, values in zip(VARIABLES, nodes, strict=True):
            np.testing.assert_array_equal(file[variable], values)
        np.testing.assert_array_equal(file["loss"], loss)
        np.testing.assert_array_equal(file["accuracy"], 0.5 * loss)
        np.testing.assert_array_equal(file["gradient_covariance_xy"], covariance[0, 1])


def test_written_arrays_say_what_they_are(tmp_path):
    write_table(tmp_path / "surface.nc", VARIABLES, (X, Y), attributes={"network": "small"}, **whole(), examples=9)
    with h5netcdf.File(tmp_path / "surface.nc") as file:
        assert file.attrs["network"] == "small"
        assert file.attrs["examples"] == 9
        found = file.variables["hessian_xy"]
        assert found.dimensions == VARIABLES
        assert found.attrs["long_name"] == "Hessian of the loss, component x, y"
        assert found.attrs["units"] == "loss/(x*y)"
        assert file.variables["drift_y"].attrs["units"] == "y/time"
        assert file.variables["loss"].attrs["units"] == "loss"


def test_a_loss_alone_brings_its_derivatives(tmp_path):
    write_table(tmp_path / "a.nc", VARIABLES, (X, Y), loss=on_nodes("loss"))
    table = Table.read(tmp_path / "a.nc", VARIABLES)
    for quantity in ("gradient", "hessian"):  # exact too: rounding over one spacing per derivative
        np.testing.assert_allclose(getattr(table, quantity)(POSITIONS), exact(quantity)(POSITIONS), rtol=0, atol=1e-10)
    assert (table.gradient_covariance, table.drift, table.diffusion, table.examples) == (None,) * 4


def test_given_derivatives_are_used_themselves(tmp_path):
    gradient = on_nodes("gradient") + 1.0  # not that of the loss, to tell them apart
    write_table(tmp_path / "a.npz", VARIABLES, (X, Y), loss=on_nodes("loss"), gradient=gradient)
    table = Table.read(tmp_path / "a.npz", VARIABLES)
    np.testing.assert_allclose(table.gradient(POSITIONS), exact("gradient")(POSITIONS) + 1.0, rtol=0, atol=1e-13)
    np.testing.assert_allclose(table.hessian(POSITIONS), exact("hessian")(POSITIONS), rtol=0, atol=1e-11)


def test_the_hessian_of_a_rough_gradient_is_symmetric(tmp_path):
    gradient = np.random.default_rng(3).normal(size=(2, 41, 31))
    write_table(tmp_path / "a.nc", VARIABLES, (X, Y), gradient=gradient)
    table = Table.read(tmp_path / "a.nc", VARIABLES)
    hessian = table.hessian(POSITIONS)
    np.testing.assert_array_equal(hessian, hessian.swapaxes(0, 1))
    slopes = table.gradient.derivative()(POSITIONS)
    np.testing.assert_array_equal(hessian[0, 1], 0.5 * (slopes[0, 1] + slopes[1, 0]))
    assert table.loss is None


def through_functions(table: Table, grid: Grid) -> Problem:
    """The problem of a table's loss and diffusion."""

    def function(found):
        return lambda *coordinates: found(np.array(coordinates))

    given = {name: function(getattr(table, name)) for name in ("loss", "gradient", "hessian")}
    noise = TensorNoise(diffusion=function(table.diffusion))
    return Problem(Landscape(**given, variables=table.variables), noise, grid)


@pytest.mark.parametrize("degree", [3, 5])
def test_a_double_well_in_a_table_is_the_double_well(tmp_path, degree):
    loss, noise = "(x**2 - 1)**2 + y**2 + sin(2*x)*cos(y)/5", [["0.3*exp(y/4)", "cos(x)/20"], ["cos(x)/20", "0.25"]]
    grid = Grid(x=(-1.6, 1.6, 37), y=(-1.0, 1.0, 23))
    symbolic = Problem(Landscape(loss, variables=VARIABLES), TensorNoise(diffusion=noise), grid)
    question = {"start": (-1.0, 0.0), "target": "x > 0.8", "definitions": ("mean_first_passage_time",)}
    positions, errors, counts = grid.positions(), [], np.array([41, 81])
    for count in counts:
        x, y = np.linspace(-1.6, 1.6, count), np.linspace(-1.0, 1.0, count)
        box = np.stack([along.ravel() for along in np.meshgrid(x, y, indexing="ij")])
        diffusion = field(noise, (2, 2), VARIABLES, {}, "test")(box).reshape(2, 2, count, count)
        values = symbolic.landscape.loss(box).reshape(count, count)
        write_table(tmp_path / "a.nc", VARIABLES, (x, y), loss=values, diffusion=diffusion)
        problem = through_functions(Table.read(tmp_path / "a.nc", VARIABLES, degree=degree), grid)
        slopes = problem.landscape.gradient(positions) - symbolic.landscape.gradient(positions)
        (time,), (wanted,) = (escape(case, **question).times.values() for case in (problem, symbolic))
        errors.append([np.abs(slopes).max(), abs(time.value / wanted.value - 1.0)])
    # 0.08**degree times the next derivative (24 of x**4 for a cubic, 2**6/5 of the wave for both) / degree! for the
    # gradient; for the time the error of the loss, 0.08**(degree + 1) times it / 384 or / 46080, over the noise, some
    # times more near the ends.
    bounds = {3: (2e-3, 1e-5), 5: (5e-6, 3e-9)}[degree]
    assert (np.array(errors[0]) < bounds).all()
    assert (np.array(errors[1]) < 0.6**degree * np.array(errors[0])).all()  # the orders: test_splines.py


RESULT = """
title = "A result that is a table"
[landscape]
variables = ["x", "y"]
loss = "(x**2 - 1)**2 + y**2 + x*y/3"
[noise]
kind = "tensor"
diffusion = [["1 + x**2", "x/4"], ["x/4", "2 + y**2"]]
[grid]
x = { min = -1.6, max = 1.6, cells = 10 }
y = { min = -1.0, max = 1.0, cells = 8 }
[stationary]
"""


def test_results_are_tables(tmp_path):
    report = fpsolve.run(parse_case(tomllib.loads(RESULT), "result"), output=tmp_path, figures=False)
    table = Table.read(report.result_file, VARIABLES)
    for quantity in ("loss", "gradient", "hessian", "diffusion"):  # polynomials, up to the walls; rounding of the ends
        np.testing.assert_allclose(getattr(table, quantity)(POSITIONS), exact(quantity)(POSITIONS), rtol=0, atol=1e-10)
    np.testing.assert_allclose(table.drift(POSITIONS), -exact("gradient")(POSITIONS), rtol=0, atol=1e-10)
    assert table.description == "table result.nc, 10 x 8 nodes, quintic spline"
    assert all(lower < -bound and bound < upper for (lower, upper), bound in zip(table.reach, (1.6, 1.0), strict=True))


def plain(path, **arrays) -> None:
    """An HDF5 file without names of dimensions."""
    with h5py.File(path, "w") as file:
        for name, values in arrays.items():
            file[name] = values


@pytest.mark.parametrize("kind", [np.float32, np.int16, np.uint8])
def test_other_numbers_are_accepted(tmp_path, kind):
    x = np.arange(8)
    plain(tmp_path / "a.h5", x=x.astype(kind), loss=(x**2).astype(kind), examples=np.int32(7))
    table = Table.read(str(tmp_path / "a.h5"), ("x",))
    assert table.loss(np.array([[2.5]])) == pytest.approx(6.25, abs=1e-13)  # rounding
    assert table.examples == 7


def test_decreasing_axes_are_turned_round(tmp_path):
    loss = on_nodes("loss")
    plain(tmp_path / "a.h5", x=X[::-1], y=Y, loss=loss[::-1])
    plain(tmp_path / "b.h5", x=X[::-1], y=Y[::-1], loss=loss[::-1, ::-1])
    for name in ("a.h5", "b.h5"):
        table = Table.read(tmp_path / name, VARIABLES)
        np.testing.assert_allclose(table.loss(POSITIONS), exact("loss")(POSITIONS), rtol=0, atol=1e-13)
        assert table.bounds == ((-1.6, 1.6), (-1.0, 1.0))


def test_named_dimensions_may_be_in_another_order(tmp_path):
    with h5netcdf.File(tmp_path / "a.nc", "w") as file:
        file.dimensions = {"y": Y.size, "x": X.size}
        for name, dimensions, values in (
            ("y", ("y",), Y),
            ("x", ("x",), X),
            ("loss", ("y", "x"), on_nodes("loss").T),
        ):
            file.create_variable(name, dimensions, data=np.ascontiguousarray(values))
    table = Table.read(tmp_path / "a.nc", VARIABLES)
    np.testing.assert_allclose(table.loss(POSITIONS), exact("loss")(POSITIONS), rtol=0, atol=1e-13)


def test_packed_numbers_are_unpacked(tmp_path):
    path, x = tmp_path / "a.nc", np.arange(8)
    plain(path, x=x, loss=x.astype(np.int16))
    with h5py.File(path, "a") as file:
        file["loss"].attrs["scale_factor"] = 0.5
        file["loss"].attrs["add_offset"] = [3.0]
    assert Table.read(path, ("x",)).loss(np.array([[3.0]])) == pytest.approx(4.5, abs=1e-13)  # rounding
    with h5py.File(path, "a") as file:
        file["loss"].attrs["_FillValue"] = np.int16(2)
    with pytest.raises(CaseError, match="1 of 8 values of loss are not finite, the first at x = 2"):
        Table.read(path, ("x",))


@pytest.mark.parametrize("closed", [True, False])
def test_periods(tmp_path, closed):
    phases = np.linspace(0.2, 0.2 + 2 * np.pi, 65)[: None if closed else -1]
    plain(tmp_path / "a.h5", x=phases, y=Y, loss=np.cos(phases)[:, None] * Y**2)
    table = Table.read(tmp_path / "a.h5", VARIABLES, periods={"x": 2 * np.pi})
    positions = np.random.default_rng(2).uniform([[-20.0], [-1.0]], [[20.0], [1.0]], (2, 50))
    # (2 pi / 64)**6 / 2000: the spline's error
    np.testing.assert_allclose(table.loss(positions), np.cos(positions[0]) * positions[1] ** 2, rtol=0, atol=1e-9)
    assert table.periodic == (True, False)
    assert table.bounds[0] == pytest.approx((0.2, 0.2 + 2 * np.pi))
    assert table.reach[0] == (-np.inf, np.inf)
    with pytest.raises(CaseError, match=r"the nodes of x run over 6\.\d+\. Its period is 6"):
        Table.read(tmp_path / "a.h5", VARIABLES, periods={"x": 6.0})


# The surface files of loss-landscape


def write_surface(path, x, y, function, finished=10**6) -> None:
    """A surface file just as plot_surface.py writes it, stopped after so many points."""
    with h5py.File(path, "a") as file:
        file["dir_file"] = "directions.h5"
        file["xcoordinates"] = x
        if y is not None:
            file["ycoordinates"] = y
    with h5py.File(path, "r+") as file:
        shape = x.shape if y is None else (len(x), len(y))
        losses, accuracies = -np.ones(shape=shape), -np.ones(shape=shape)
        file["train_loss"], file["train_acc"] = losses, accuracies
        indices = np.array(range(losses.size))[losses.ravel() <= 0]
        if y is None:
            coordinates = x.ravel()[indices][:, None]
        else:
            meshes = np.meshgrid(x, y)
            coordinates = np.c_[meshes[0].ravel()[indices], meshes[1].ravel()[indices]]
        for index, coordinate in list(zip(indices, coordinates, strict=True))[:finished]:
            losses.ravel()[index] = function(*coordinate)
            accuracies.ravel()[index] = 50.0
        file["train_loss"][:] = losses
        file["train_acc"][:] = accuracies


@pytest.mark.parametrize(("across", "up"), [(9, 9), (12, 7), (7, 12)])
def test_surface_files_are_read_as_they_were_filled(tmp_path, across, up):
    x, y = np.linspace(-1.0, 1.0, across), np.linspace(-2.0, 1.0, up)
    write_surface(tmp_path / "surface.h5", x, y, lambda x, y: 3.0 + x + x**2 * y - y**3 / 8)
    table = Table.read(tmp_path / "surface.h5", ("a", "b"))
    a, b = positions = np.random.default_rng(4).uniform([[-1.0], [-2.0]], [[1.0], [1.0]], (2, 30))
    np.testing.assert_allclose(table.loss(positions), 3.0 + a + a**2 * b - b**3 / 8, rtol=0, atol=1e-12)  # rounding
    assert table.bounds == ((-1.0, 1.0), (-2.0, 1.0))
    assert table.description == f"table surface.h5, {across} x {up} nodes, quintic spline"


def test_surface_files_of_one_direction(tmp_path):
    write_surface(tmp_path / "line.h5", np.linspace(1.0, -1.0, 11), None, lambda x: 1.0 + x**4)
    table = Table.read(tmp_path / "line.h5", ("a",))
    np.testing.assert_allclose(table.loss(np.array([[0.33]])), 1.0 + 0.33**4, rtol=1e-13)
    with pytest.raises(CaseError, match=r"surface over 1 direction\. There are 2 variables: x, y"):
        Table.read(tmp_path / "line.h5", VARIABLES)


def test_unfinished_surface_files_are_refused(tmp_path):
    x, y = np.linspace(-1.0, 1.0, 12), np.linspace(-2.0, 1.0, 7)
    write_surface(tmp_path / "surface.h5", x, y, lambda x, y: 3.0, finished=80)
    # Point 80 of 84 is that of index 8 along x, and 6 along y.
    words = r"4 of 84 points were not computed, the first at x = 0.454545, y = 1\..* Run plot_surface.py once more"
    with pytest.raises(CaseError, match=words):
        Table.read(tmp_path / "surface.h5", VARIABLES)
    with h5py.File(tmp_path / "surface.h5", "a") as file:
        del file["train_loss"]
    with pytest.raises(CaseError, match="A surface needs train_loss"):
        Table.read(tmp_path / "surface.h5", VARIABLES)


def test_surface_files_of_another_shape_are_refused(tmp_path):
    plain(tmp_path / "a.h5", xcoordinates=X, ycoordinates=Y, train_loss=np.ones((41, 30)))
    with pytest.raises(CaseError, match=r"train_loss in .* has the shape 41 x 30. It must be 41 x 31"):
        Table.read(tmp_path / "a.h5", VARIABLES)


# What is no table


def without(*names, **more) -> dict:
    arrays = {"x": X, "y": Y, "loss": on_nodes("loss"), **more}
    return {name: values for name, values in arrays.items() if name not in names}


def broken(name: str) -> np.ndarray:
    values = on_nodes(name)
    values[..., 3, 4] = values[..., 5, 6] = np.nan
    return values


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        (without("loss", Loss=on_nodes("loss")), ("Loss, x, y", "holds loss, or drift_x and drift_y", '"loss"?')),
        ({}, ("holds nothing",)),
        (without("y", why=Y), ("has no coordinate y: it holds loss, why, x", "array of its name")),
        (without(gradient_x=on_nodes("loss")), ("holds gradient_x but not gradient_y", "all its components")),
        (
            without(diffusion_xx=on_nodes("loss"), diffusion_yy=on_nodes("loss")),
            ("holds diffusion_xx, diffusion_yy but not diffusion_xy",),
        ),
        (without(x=np.stack([X, X])), ("x in", "has the shape 2 x 41", "one array per variable")),
        (
            without(x=X[[0, 2, 1, *range(3, 41)]]),
            ("node 2 of x goes back to -1.52, after -1.44", "increase", "Sort x"),
        ),
        (without(x=X[[40, 39, 37, 38, *range(36, -1, -1)]]), ("node 3 of x goes back to 1.44, after 1.36", "decrease")),
        (without(y=Y[[0, 0, *range(2, 31)]]), ("node 1 of y repeats -1",)),
        (without(loss=broken("loss")), ("2 of 1271 values of loss are not finite", "at x = -1.36, y = -0.733333")),
        (without(loss=on_nodes("loss").T), ("loss in", "31 x 41", "It must be 41 (x) x 31 (y)", "Transpose it")),
        (without(loss=np.ones(41)), ("has the shape 41.", "at all combinations of the nodes")),
        (without(loss=np.ones((5, 41, 31))), ("has the shape 5 x 41 x 31",)),
        (without(loss=np.float64(3.0)), ("has the shape of a single number",)),
        (without(x=X[:5], loss=on_nodes("loss")[:5]), ("x has 5 nodes", "at least 6", "degree = 3")),
        (without(loss=1j * on_nodes("loss")), ("loss in", "complex128", "real numbers")),
        (without(examples=np.float64(2.5)), ("examples in", "at least 1")),
        (without(examples=np.zeros(3)), ("examples in", "at least 1")),
    ],
)
@pytest.mark.parametrize("ending", ["h5", "npz"])
def test_what_is_no_table_is_refused(tmp_path, arrays, words, ending):
    path = tmp_path / f"a.{ending}"
    np.savez(path, **arrays) if ending == "npz" else plain(path, **arrays)
    with pytest.raises(CaseError) as error:
        Table.read(path, VARIABLES)
    assert error.value.where == "landscape.table"
    for word in words:
        if ending == "npz" and re.fullmatch(r"[\w, ]*(Loss|why), x[, y]*|.*it holds.*", word):
            continue  # in another order
        assert word in str(error.value)


def test_files_that_are_not_there(tmp_path):
    (tmp_path / "surface.nc").touch()
    with pytest.raises(CaseError, match=r'there is no file .*surfaces\.nc\..*Did you mean "surface\.nc"\?'):
        Table.read(tmp_path / "surfaces.nc", VARIABLES)
    with pytest.raises(CaseError, match=r"there is no directory .*elsewhere"):
        Table.read(tmp_path / "elsewhere" / "surface.nc", VARIABLES)
    with pytest.raises(CaseError, match="is a directory"):
        Table.read(tmp_path, VARIABLES)


def test_files_of_other_kinds(tmp_path):
    (tmp_path / "a.nc").write_text("x, y, loss")
    (tmp_path / "b.nc").write_bytes(b"CDF\x01" + bytes(60))
    np.save(tmp_path / "c.npy", X)
    write_table(tmp_path / "d.nc", VARIABLES, (X, Y), loss=on_nodes("loss"))
    write_table(tmp_path / "e.npz", VARIABLES, (X, Y), loss=on_nodes("loss"))
    content = (tmp_path / "d.nc").read_bytes()
    (tmp_path / "d.nc").write_bytes(content[: len(content) // 2])
    content = bytearray((tmp_path / "e.npz").read_bytes())
    content[600:640] = bytes(40)
    (tmp_path / "e.npz").write_bytes(content)
    np.savez(tmp_path / "f.npz", x=X, y=Y, loss=np.array([[{}]]))
    for name, words in {
        "a.nc": "is none of them",
        "b.nc": "classic format.*nccopy -k nc4 b.nc",
        "c.npy": "single array.*np.savez",
        "d.nc": "cannot be read",
        "e.npz": "cannot be read",
        "f.npz": "loss in .* is of type object",
    }.items():
        with pytest.raises(CaseError, match=words) as error:
            Table.read(tmp_path / name, VARIABLES)
        assert error.value.where == "landscape.table"


def test_a_wrong_degree_is_refused(tmp_path):
    with pytest.raises(CaseError, match="degree = 2") as error:
        Table.read(tmp_path / "a.nc", VARIABLES, degree=2, where="landscape.degree")
    assert error.value.where == "landscape.degree"


def test_a_damaged_write_leaves_the_old_table(tmp_path, monkeypatch):
    path = tmp_path / "a.nc"
    write_table(path, VARIABLES, (X, Y), loss=on_nodes("loss"))
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(RunError, match="No space left on device"):
            write_table(path, VARIABLES, (X, Y), loss=0.0 * on_nodes("loss"))
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.nc"]
    shutil.rmtree(tmp_path)
    with pytest.raises(RunError, match="cannot be written"):
        write_table(path, VARIABLES, (X, Y), loss=on_nodes("loss"))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"gradient": np.ones((41, 31))}, "gradient has the shape 41 x 31. It must be 2 x 41 x 31"),
        ({"loss": np.ones((31, 41))}, "loss has the shape 31 x 41. It must be 41 x 31"),
        (
            {"hessian": np.ones((2, 2, 41, 31)) * np.array([[1, 2], [3, 4]])[..., None, None]},
            "hessian is not symmetric",
        ),
    ],
)
def test_what_cannot_be_written(tmp_path, fields, words):
    with pytest.raises(CaseError, match=words):
        write_table(tmp_path / "a.nc", VARIABLES, (X, Y), **fields)
    assert not os.listdir(tmp_path)


def test_three_variables_and_one(tmp_path):
    nodes = [np.linspace(-1.0, 1.0, n) for n in (7, 8, 9)]
    x, y, z = np.meshgrid(*nodes, indexing="ij")
    diffusion = np.array([[2 + x, y, z], [y, 3 + z, x * y], [z, x * y, 4 + 0 * x]])
    write_table(tmp_path / "a.nc", ("x", "y", "z"), nodes, loss=x * y * z, drift=[-x, -y, -z], diffusion=diffusion)
    table = Table.read(tmp_path / "a.nc", ("x", "y", "z"))
    (u,), (v,), (w,) = place = np.array([[0.3], [-0.2], [0.7]])
    found = table.diffusion(place)[..., 0]
    np.testing.assert_allclose(found, [[2 + u, v, w], [v, 3 + w, u * v], [w, u * v, 4]], rtol=0, atol=1e-13)  # rounding
    np.testing.assert_allclose(table.drift(place), -place, rtol=0, atol=1e-13)
    write_table(tmp_path / "b.npz", ("file",), nodes[:1], loss=nodes[0] ** 2, hessian=np.full((1, 1, 7), 2.0))
    line = Table.read(tmp_path / "b.npz", ("file",), degree=3)
    np.testing.assert_allclose(line.gradient(np.array([[0.5]])), [[1.0]], rtol=1e-13)
    assert line.hessian.is_constant
    assert line.description == "table b.npz, 7 nodes, cubic spline"
