"""The result file: opens elsewhere, holds what the documentation says, is whole or not there."""

from __future__ import annotations

import errno
import os
import tomllib
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray

import fpsolve
from fpsolve import CaseError, RunError
from fpsolve.case import Case, parse_case
from fpsolve.present import storage
from fpsolve.present.report import Report
from fpsolve.version import __version__

WELL = """
title = "A shallow well"
[landscape]
variables = ["x"]
loss = "(x**2 - 1)**2"
[noise]
kind = "constant"
temperature = 0.25
[grid]
x = { min = -2.0, max = 2.0, cells = 20 }
[regions]
left = "x < 0"
[initial]
point = [-1.0]
[observables]
distance = "abs(x + 1)"
[evolve]
until = 1.0
save = 4
tolerance = 1e-3
watch = ["left", "x > 1/2"]
[stationary]
[spectrum]
count = 3
[escape]
start = [-1.0]
target = "x > 0.8"
"""
SGD = """
[landscape]
variables = ["u", "v"]
loss = "0.5*u**2 + v**2 + 0.1*u*v"
[noise]
kind = "hessian"
learning_rate = 0.1
batch_size = 4
[grid]
u = { min = -2.0, max = 2.0, cells = 8 }
v = { min = -1.0, max = 2.0, cells = 6 }
[walls]
u = ["reflecting", "absorbing"]
[initial]
uniform = true
[evolve]
times = [0.5, 1.5]
tolerance = 1e-2
"""

PARTS = ("drift", "diffusion", "noise_gradient")  # of a current


def stored(text: str, folder: Path) -> tuple[Case, Report]:
    case = parse_case(tomllib.loads(text), "well")
    return case, fpsolve.run(case, output=folder, figures=False)


@pytest.fixture(scope="module")
def well(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Report]:
    return stored(WELL, tmp_path_factory.mktemp("well"))


@pytest.fixture(scope="module")
def sgd(tmp_path_factory: pytest.TempPathFactory) -> tuple[Case, Report]:
    return stored(SGD, tmp_path_factory.mktemp("sgd"))


def opened(report: Report) -> xarray.Dataset:
    assert report.result_file is not None
    with xarray.open_dataset(report.result_file, engine="h5netcdf") as file:
        return file.load()


# --- what is in it


def test_coordinates_are_named_after_the_variables(well, sgd):
    file = opened(well[1])
    grid = well[0].grid
    running, (path,) = well[1].escape.running, well[1].terrain.paths
    own = {"mode": 3, "minimum": 2, "path_point": len(path.points), "running_flux_time": running.times.size}
    assert dict(file.sizes) == {"x": 20, "bound": 2, "time": 5, **own}
    np.testing.assert_array_equal(file.x, grid.axes[0].centres)
    assert file.x.attrs["bounds"] == "x_bounds"
    np.testing.assert_array_equal(file.x_bounds, np.stack([grid.axes[0].faces[:-1], grid.axes[0].faces[1:]], axis=1))
    np.testing.assert_array_equal(file.time, [0.0, 0.25, 0.5, 0.75, 1.0])
    file = opened(sgd[1])
    assert dict(file.sizes) == {"u": 8, "v": 6, "bound": 2, "time": 3}
    assert {name for name in file.variables if file[name].dims == (name,)} == {"u", "v", "time"}


def test_variables_of_one_dimension(well):
    case, report = well
    file = opened(report)
    fields = {
        "loss", "drift_x", "noise_gradient_drift_x", "convention_drift_x", "diffusion_xx",
        "stationary_density", "stationary_current_x", "mean_first_passage_time", "log10_mean_first_passage_time",
        "escape_density", "escape_current_x", "quasi_stationary_density", "committor", "backward_committor",
        "reactive_current_x", "basin", *(f"stationary_current_{part}_x" for part in PARTS),
    }  # fmt: skip
    in_time = {"density", "current_x", *(f"current_{part}_x" for part in PARTS)}
    assert {name for name in file.data_vars if file[name].dims == ("x",)} == fields
    assert {name for name in file.data_vars if file[name].dims == ("time", "x")} == in_time
    assert {name for name in file.data_vars if file[name].dims == ("time",)} == {
        "mass", "mean_x", "covariance_xx", "relative_entropy",
        "mean_loss", "mean_distance", "occupation_left", "flux_left",
        "occupation_x > 1\N{DIVISION SLASH}2", "flux_x > 1\N{DIVISION SLASH}2",
    }  # fmt: skip
    np.testing.assert_array_equal(file.density, report.motion.density)
    np.testing.assert_array_equal(file.stationary_density, report.rest.density)
    np.testing.assert_array_equal(file.mean_first_passage_time, report.escape.mean_first_passage_time)
    np.testing.assert_array_equal(file.occupation_left, report.motion.occupation["left"])
    np.testing.assert_array_equal(file.mean_x, report.motion.mean[:, 0])
    np.testing.assert_array_equal(file.covariance_xx, report.motion.covariance[:, 0, 0])
    np.testing.assert_array_equal(file.relative_entropy, report.motion.relative_entropy)
    np.testing.assert_array_equal(file["flux_x > 1\N{DIVISION SLASH}2"], report.motion.flux["x > 1/2"])
    np.testing.assert_array_equal(file.loss, case.problem.landscape.loss(case.grid.positions()))
    np.testing.assert_array_equal(file.diffusion_xx, np.full(20, 0.25))


def test_the_escape_in_full(well):
    _, report = well
    file, out = opened(report), report.escape
    np.testing.assert_array_equal(file.log10_mean_first_passage_time, out.log10_mean_first_passage_time)
    np.testing.assert_array_equal(file.quasi_stationary_density, out.quasi_stationary_density)
    np.testing.assert_array_equal(file.committor, out.transition.committor)
    np.testing.assert_array_equal(file.backward_committor, out.transition.backward_committor)
    np.testing.assert_array_equal(file.reactive_current_x, out.transition.current[0])
    np.testing.assert_array_equal(file.running_flux_time, out.running.times)
    assert file.running_flux.dims == file.log10_running_flux.dims == ("running_flux_time",)
    np.testing.assert_array_equal(file.log10_running_flux, out.running.log_values / np.log(10.0))
    np.testing.assert_allclose(file.running_flux, np.exp(out.running.log_values), rtol=1e-15)


def test_the_terrain_and_the_spectrum(well):
    _, report = well
    file, around, modes = opened(report), report.terrain, report.spectrum
    np.testing.assert_array_equal(file.basin, around.basins.label)
    np.testing.assert_array_equal(file.minimum_x, [point.position[0] for point in around.basins.minima])
    np.testing.assert_array_equal(file.minimum_loss, [point.loss for point in around.basins.minima])
    (path,) = around.paths
    np.testing.assert_array_equal(file.path_x, path.points[:, 0])
    np.testing.assert_array_equal(file.path_loss, path.loss)
    np.testing.assert_array_equal(file.path_number, np.zeros(len(path.points)))
    assert file.path_arc_length[-1] == path.arc_length[-1]
    assert file.eigenfunction.dims == file.eigendensity.dims == ("mode", "x")
    np.testing.assert_array_equal(file.eigenvalue, modes.eigenvalues)
    np.testing.assert_array_equal(file.relaxation_time[1:], modes.relaxation_times[1:])
    assert file.relaxation_time[0] == np.inf
    np.testing.assert_array_equal(file.eigendensity, modes.densities)
    assert "eigenvalue_imaginary" not in file


def test_modes_that_turn_have_an_imaginary_part(tmp_path):
    text = """
    landscape = { variables = ["x", "y"], drift = ["-x + 2*y", "-2*x - y"] }
    noise = { kind = "constant", diffusion = [[0.3, 0.0], [0.0, 0.3]] }
    grid = { x = { min = -2, max = 2, cells = 12 }, y = { min = -2, max = 2, cells = 10 } }
    spectrum = { count = 3 }
    """
    _, report = stored(text, tmp_path)
    file = opened(report)
    np.testing.assert_array_equal(file.eigenvalue + 1j * file.eigenvalue_imaginary, report.spectrum.eigenvalues)
    assert abs(file.eigenvalue_imaginary[1]) > 1.0
    both = file.eigendensity + 1j * file.eigendensity_imaginary
    np.testing.assert_array_equal(both, report.spectrum.densities.reshape(3, 12, 10))
    assert file.eigenfunction_imaginary.dims == ("mode", "x", "y")


def test_times_beyond_all_floating_point_numbers(tmp_path):
    """They are infinite; their logarithms are there, and their attributes are not."""
    text = """
    landscape = { variables = ["x"], loss = "(x**2 - 1)**2" }
    noise = { kind = "constant", temperature = 1e-3 }
    grid = { x = { min = -2, max = 2, cells = 60 } }
    escape = { start = [-1.0], target = "x > 0.8", grids = 1 }
    """
    _, report = stored(text, tmp_path)
    file = opened(report)
    first = report.escape.times["mean_first_passage_time"]
    assert first.value is None
    assert file.attrs["escape_mean_first_passage_time_log10"] == first.log10
    assert "escape_mean_first_passage_time" not in file.attrs
    assert np.isinf(file.mean_first_passage_time.sel(x=-1.0, method="nearest"))
    assert file.log10_mean_first_passage_time.sel(x=-1.0, method="nearest") == pytest.approx(first.log10, abs=1.0)
    assert np.isinf(file.running_flux[-1])
    assert np.isfinite(file.log10_running_flux[-1])


def test_variables_of_two_dimensions_and_of_sgd(sgd):
    case, report = sgd
    file = opened(report)
    assert {name for name in file.data_vars if file[name].dims == ("u", "v")} == {
        "loss", "drift_u", "drift_v", "noise_gradient_drift_u", "noise_gradient_drift_v", "convention_drift_u",
        "convention_drift_v", "diffusion_uu", "diffusion_uv", "diffusion_vv",
    }  # fmt: skip
    assert {name for name in file.data_vars if file[name].dims == ("time", "u", "v")} == {
        "density", "current_u", "current_v", *(f"current_{part}_{axis}" for part in PARTS for axis in "uv")
    }  # fmt: skip
    np.testing.assert_array_equal(file.steps, file.time / 0.1)
    np.testing.assert_array_equal(file.absorbed_u_max, report.motion.absorbed["u_max"])
    np.testing.assert_allclose(file.diffusion_uv, 0.1 / 8 * 0.1, rtol=1e-14)
    grid = case.grid
    np.testing.assert_array_equal(file.current_v, grid.shaped(np.moveaxis(report.motion.current, 1, 0)[1]))
    # The last axis runs fastest: the density of one cell is where its coordinates say.
    cell = file.density.isel(time=-1).sel(u=0.25, v=-0.75).item()
    assert cell == report.motion.density[-1].reshape(8, 6)[4, 0]


def test_drifts_add_up(tmp_path):
    """Ito, D = y I: -div D = (0, -1) is the noise-gradient drift; an isothermal drift exceeds the given one by +1."""
    text = """
    landscape = { variables = ["x", "y"], drift = ["-x", "0"] }
    noise = { kind = "tensor", diffusion = [["y", "0"], ["0", "y"]] }
    grid = { x = { min = -1, max = 1, cells = 3 }, y = { min = 1, max = 2, cells = 4 } }
    """
    ito = opened(stored(text, tmp_path / "ito")[1])
    assert "loss" not in ito
    np.testing.assert_allclose(ito.drift_x, np.repeat([[2 / 3], [0.0], [-2 / 3]], 4, axis=1), atol=1e-15)
    for convention, added in (("ito", 0.0), ("stratonovich", 0.5), ("isothermal", 1.0)):
        file = opened(stored(text.replace("kind =", f'convention = "{convention}", kind ='), tmp_path / convention)[1])
        np.testing.assert_array_equal(file.noise_gradient_drift_x, np.zeros((3, 4)))
        np.testing.assert_array_equal(file.noise_gradient_drift_y, np.full((3, 4), -1.0))
        np.testing.assert_allclose(file.convention_drift_y, np.full((3, 4), added), atol=1e-15)


@pytest.mark.parametrize(
    ("name", "units"),
    [
        ("x", "x"),
        ("time", "time"),
        ("loss", "loss"),
        ("drift_x", "x/time"),
        ("noise_gradient_drift_x", "x/time"),
        ("diffusion_xx", "x*x/time"),
        ("density", "1/(x)"),
        ("stationary_density", "1/(x)"),
        ("current_x", "x/(time*x)"),
        ("mean_first_passage_time", "time"),
        ("log10_mean_first_passage_time", "1"),
        ("committor", "1"),
        ("reactive_current_x", "x/(x)"),
        ("quasi_stationary_density", "1/(x)"),
        ("running_flux", "time"),
        ("eigenvalue", "1/time"),
        ("relaxation_time", "time"),
        ("eigenfunction", "1"),
        ("eigendensity", "1/(x)"),
        ("path_x", "x"),
        ("minimum_x", "x"),
        ("mass", "1"),
        ("mean_loss", "loss"),
        ("mean_distance", "distance"),
        ("occupation_left", "1"),
        ("flux_left", "1/time"),
    ],
)
def test_units(well, name, units):
    assert opened(well[1])[name].attrs["units"] == units


def test_every_variable_says_what_it_is(well, sgd):
    for _, report in (well, sgd):
        file = opened(report)
        for name in file.variables:
            assert file[name].attrs["long_name"].strip()
            assert file[name].attrs["units"].strip()
            assert file[name].dtype == (np.int32 if name in {"basin", "path_number"} else np.float64)
    assert opened(well[1])["flux_left"].attrs["long_name"] == "net probability current out of left"
    assert opened(well[1])["mean_first_passage_time"].attrs["long_name"] == "mean first-passage time into x > 0.8"


def test_opens_in_h5py(well):
    _, report = well
    with h5py.File(report.result_file) as file:
        np.testing.assert_array_equal(file["density"][()], report.motion.density)
        assert [axis[0].name for axis in file["density"].dims] == ["/time", "/x"]
        assert file["x"].is_scale
        assert not any(isinstance(entry, h5py.Group) for entry in file.values()), "everything lies in the root"


def test_root_attributes(well):
    case, report = well
    attributes = opened(report).attrs
    assert parse_case(tomllib.loads(attributes["case"]), "well") == case
    assert (attributes["title"], attributes["outcome"]) == ("A shallow well", "done")
    assert (attributes["fpsolve_version"], attributes["numpy_version"]) == (__version__, np.__version__)
    record = report.as_record()
    for name, value in record["invariants"].items():
        assert attributes[name] == value
    for name, time in report.escape.times.items():
        assert attributes[f"escape_{name}"] == record["escape"][name]["value"]
        assert attributes[f"escape_{name}_log10"] == record["escape"][name]["log10"]
        assert attributes[f"escape_{name}_error"] == time.estimate.error
    assert attributes["escape_running_flux_onset"] == report.escape.running.onset


def test_only_what_was_asked_for_is_there(tmp_path):
    _, report = stored(WELL[: WELL.index("[regions]")], tmp_path)
    file = opened(report)
    assert set(file.data_vars) == {
        "x_bounds", "loss", "drift_x", "noise_gradient_drift_x", "convention_drift_x", "diffusion_xx"
    }  # fmt: skip
    assert "detailed_balance" not in file.attrs


# --- whole or not at all


def test_a_failing_disk_leaves_nothing_behind(well, tmp_path, monkeypatch):
    case, report = well

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(storage, "write_analyses", full)
    with pytest.raises(RunError) as caught:
        storage.write_result(report, tmp_path / "well.nc", case.resolved())
    assert str(caught.value) == (
        f"{tmp_path / 'well.nc'}: the result cannot be written (No space left on device). Free some space."
    )
    assert list(tmp_path.iterdir()) == []


def test_a_failing_disk_leaves_the_earlier_result(well, tmp_path, monkeypatch):
    case, report = well
    path = tmp_path / "well.nc"
    storage.write_result(report, path, case.resolved())
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(storage.os, "replace", full)
    with pytest.raises(RunError):
        storage.write_result(report, path, "")
    assert [entry.name for entry in tmp_path.iterdir()] == ["well.nc"]
    assert path.read_bytes() == before


def test_a_bug_in_the_middle_leaves_nothing_behind_either(well, tmp_path, monkeypatch):
    case, report = well
    monkeypatch.setattr(storage, "_write_grid", lambda *_: {}["bug"])
    with pytest.raises(KeyError):
        storage.write_result(report, tmp_path / "well.nc", case.resolved())
    assert list(tmp_path.iterdir()) == []


def test_a_second_result_replaces_the_first(tmp_path):
    stored(WELL, tmp_path)
    _, report = stored(WELL.replace("save = 4", "save = 2"), tmp_path)
    assert opened(report).sizes["time"] == 3
    assert [path.name for path in tmp_path.iterdir()] == ["well.nc"]


def test_directories_are_made(tmp_path):
    storage.make_directory(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_directory_that_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CaseError) as caught:
        storage.make_directory(tmp_path / "file" / "below")
    assert str(caught.value) == (
        f"--output {tmp_path / 'file' / 'below'}: it cannot be written (Not a directory). It must be a directory. "
        "Choose another."
    )
