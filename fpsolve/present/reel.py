"""A reel: the density in time that a result file holds, to be shown as a film."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import h5netcdf
import numpy as np

from fpsolve.errors import CaseError
from fpsolve.model.grid import BoolArray, FloatArray
from fpsolve.model.initial import absorbed_name

MOST_FRAMES = 240  # more saved instants are thinned out
SEEN = 1e-3  # share of the peak of an instant down to which an infinite axis is shown
GONE = absorbed_name("")  # how the names of what has left begin


@final
@dataclass(frozen=True, slots=True, eq=False)
class Reel:
    """A density of one or two variables at some instants.

    names: of the variables; edges: of the cells along each, finite; times: (instants,); steps: SGD steps, (instants,),
    or None where the noise has none; density: (instants, *cells), integrated over a third variable; gone: probability
    that has left through each gate, (instants,), where there are gates; loss: (*cells), None where it is not known.
    """

    title: str
    names: tuple[str, ...]
    edges: tuple[FloatArray, ...]
    times: FloatArray
    steps: FloatArray | None
    density: FloatArray
    gone: dict[str, FloatArray]
    loss: FloatArray | None


def read_reel(path: Path) -> Reel:
    """The density in time of a result file.

    Raises CaseError when the file cannot be read, is no result, or holds no density at two instants or more.
    """
    where, required = str(path), "A film needs the result of a case with [evolve]"
    try:
        with h5netcdf.File(path, "r") as file:
            if "fpsolve_version" not in file.attrs:
                raise CaseError(where, "it is no result of fpsolve", required, "")
            if "density" not in file.variables or file.variables["density"].shape[0] < 2:
                remedy = "Add [evolve] to the case, and run it"
                raise CaseError(where, "it holds no density at several times", required, remedy)
            return _read(file)
    except KeyError as error:
        raise CaseError(where, f"there is no {error.args[0]} in it", required, "") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise CaseError(where, f"it cannot be read ({reason})", "It must be a result file", "") from None


def _read(file: Any) -> Reel:
    density = file.variables["density"]
    names = tuple(density.dimensions[1:])
    instants = np.unique(np.linspace(0, density.shape[0] - 1, MOST_FRAMES).round().astype(np.int64))
    bounds = [np.asarray(file.variables[f"{name}_bounds"], dtype=np.float64) for name in names]
    values = np.asarray(density, dtype=np.float64)[instants]
    loss = np.asarray(file.variables["loss"], dtype=np.float64) if "loss" in file.variables else None
    if len(names) == 3:
        depths = np.ptp(bounds[2], axis=1)
        values = np.where(values > 0.0, values, 0.0) @ np.where(np.isfinite(depths), depths, 0.0)
        names, bounds, loss = names[:2], bounds[:2], None
    window = _window(values, bounds)
    gates = [name for name in file.variables if name.startswith(GONE)]
    return Reel(
        title=str(file.attrs["title"]),
        names=names,
        edges=tuple(np.append(cells[kept, 0], cells[kept, 1][-1]) for cells, kept in zip(bounds, window, strict=True)),
        times=np.asarray(file.variables["time"])[instants],
        steps=np.asarray(file.variables["steps"])[instants] if "steps" in file.variables else None,
        density=np.array([values[number][np.ix_(*window)] for number in range(instants.size)]),
        gone={name.removeprefix(GONE): np.asarray(file.variables[name])[instants] for name in gates},
        loss=None if loss is None else loss[np.ix_(*window)],
    )


def _window(values: FloatArray, bounds: list[FloatArray]) -> list[BoolArray]:
    """The cells to show along every axis: all, but of an infinite one those where there is something to see."""
    seen = (values >= SEEN * values.max(axis=tuple(range(1, values.ndim)), keepdims=True)).any(axis=0)
    window = []
    for axis, cells in enumerate(bounds):
        shown: BoolArray = np.asarray(np.isfinite(cells).all(axis=1))
        if not shown.all():
            others = tuple(other for other in range(seen.ndim) if other != axis)
            places = np.flatnonzero(seen.any(axis=others) & shown)
            shown[: places[0]] = False
            shown[places[-1] + 1 :] = False
        window.append(shown)
    return window
