"""Files of named arrays, NetCDF-4, HDF5 and NPZ: read by name, and written whole or not at all."""

from __future__ import annotations

import io
import os
import zipfile
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import h5netcdf
import h5py
import numpy as np
from numpy.typing import NDArray

from fpsolve.errors import CaseError, RunError, did_you_mean
from fpsolve.model.grid import FloatArray

NPZ = ".npz"
FORMATS = "A table is a NetCDF-4, HDF5 or NPZ file"
MOST_NAMED = 12  # so many names of a file go into a message
PACKING = (("scale_factor", 1.0), ("add_offset", 0.0))  # attributes of packed numbers, and what they are elsewhere
UNREADABLE = (OSError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error)  # raised by damaged files


@final
@dataclass(frozen=True, eq=False)
class Stored:
    """An array of numbers, and the names of its dimensions where the file tells them."""

    values: FloatArray
    dimensions: tuple[str, ...] = ()


@final
@dataclass(frozen=True, eq=False)
class Contents:
    """What was asked for, as far as it is there, the names of all arrays, and the attributes of the file."""

    names: tuple[str, ...]
    arrays: Mapping[str, Stored]
    attributes: Mapping[str, Any]

    @property
    def words(self) -> str:
        """The names, for messages."""
        more = f" and {len(self.names) - MOST_NAMED} more" if len(self.names) > MOST_NAMED else ""
        return ", ".join(self.names[:MOST_NAMED]) + more if self.names else "nothing"

    def nearest(self, known: Collection[str]) -> str:
        """A hint for the first of the names that is near to a known one; '' when none is."""
        return next((hint for name in self.names if (hint := did_you_mean(name, known))), "")


@final
@dataclass(frozen=True, eq=False)
class Entry:
    """An array to be written, with its dimensions, what it is, and its unit."""

    values: FloatArray
    dimensions: tuple[str, ...]
    words: str
    units: str


def load(path: Path, wanted: Collection[str], where: str) -> Contents:
    """Read those of the wanted arrays that a file holds, as float64, and its attributes; what it is shows its content.

    Packed numbers (scale_factor, add_offset) are unpacked, missing ones (_FillValue) are nan.

    Raises CaseError when there is no such file, it cannot be read, or a wanted array is not one of numbers.
    """
    _check_file(path, where)
    try:
        if h5py.is_hdf5(path):
            return _load_hdf(path, wanted, where)
        if zipfile.is_zipfile(path):
            return _load_npz(path, wanted, where)
        with path.open("rb") as file:
            start = file.read(6)
    except UNREADABLE as error:
        found = f"{path} cannot be read ({getattr(error, 'strerror', None) or error})"
        raise CaseError(where, found, FORMATS, "Write it anew, or check who may read it") from None
    if start.startswith(b"CDF"):
        found = f"{path} is a NetCDF file of the classic format"
        raise CaseError(where, found, FORMATS, f"Convert it: nccopy -k nc4 {path.name} new.nc")
    if start.startswith(b"\x93NUMPY"):
        found = f"{path} is a single array without coordinates"
        raise CaseError(where, found, FORMATS, "Save it with its coordinates: np.savez(path, x=x, loss=loss)")
    raise CaseError(where, f"{path} is none of them", FORMATS, "")


def store(path: Path, entries: Mapping[str, Entry], attributes: Mapping[str, Any]) -> None:
    """Write arrays to a file, NPZ by its ending, else NetCDF-4; through a temporary file beside it.

    Raises RunError when the disk refuses.
    """
    content = _npz(entries, attributes) if path.suffix == NPZ else _netcdf(entries, attributes)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        found = f"the table cannot be written ({error.strerror or error})"
        raise RunError(str(path), found, "", "Choose another place, or free some space") from None
    finally:
        temporary.unlink(missing_ok=True)


def _check_file(path: Path, where: str) -> None:
    if path.is_dir():
        raise CaseError(where, f"{path} is a directory", FORMATS, "Name a file in it")
    if not path.exists():
        if not path.parent.is_dir():
            raise CaseError(where, f"there is no directory {path.parent}", FORMATS, "")
        hint = did_you_mean(path.name, [beside.name for beside in sorted(path.parent.iterdir()) if beside.is_file()])
        raise CaseError(where, f"there is no file {path}", FORMATS, hint)


def _load_hdf(path: Path, wanted: Collection[str], where: str) -> Contents:
    with h5py.File(path, "r") as file:
        names = tuple(name for name, item in file.items() if isinstance(item, h5py.Dataset))
        arrays = {}
        for name in (name for name in names if name in wanted):
            data = file[name]
            values = _numbers(data[()], name, path, where)
            for missing in ("_FillValue", "missing_value"):
                if missing in data.attrs:
                    values[values == np.float64(np.ravel(data.attrs[missing])[0])] = np.nan
            scale, offset = (np.ravel(data.attrs.get(key, by))[0] for key, by in PACKING)
            scales = [(side[0].name or "").rsplit("/", 1)[-1] if len(side) else "" for side in data.dims]
            arrays[name] = Stored(values * float(scale) + float(offset), tuple(scales) if all(scales) else ())
        attributes = {name: value for name, value in file.attrs.items() if not name.startswith("_")}
        return Contents(names, arrays, attributes)


def _load_npz(path: Path, wanted: Collection[str], where: str) -> Contents:
    with np.load(path, allow_pickle=False) as file:
        names = tuple(file.files)
        arrays = {}
        for name in (name for name in names if name in wanted):
            try:
                values = np.asarray(file[name])
            except ValueError:  # objects, which are never unpickled
                values = np.array(None)
            arrays[name] = Stored(_numbers(values, name, path, where))
        return Contents(names, arrays, {})


def _numbers(values: NDArray[Any], name: str, path: Path, where: str) -> FloatArray:
    """A copy in float64."""
    kind = np.asarray(values).dtype
    if kind.kind not in "iufb":
        raise CaseError(where, f"{name} in {path} is of type {kind}", "It must hold real numbers", "")
    return np.array(values, dtype=np.float64)


def _netcdf(entries: Mapping[str, Entry], attributes: Mapping[str, Any]) -> bytes:
    content = io.BytesIO()
    with h5netcdf.File(content, "w") as file:
        lengths: dict[str, int] = {}
        for entry in entries.values():
            lengths |= zip(entry.dimensions, entry.values.shape, strict=True)
        file.dimensions = lengths
        for key, value in attributes.items():
            file.attrs[key] = value
        for name, entry in entries.items():
            data = np.ascontiguousarray(entry.values, dtype=np.float64)
            variable = file.create_variable(name, entry.dimensions, data=data, dtype="f8")
            variable.attrs["long_name"] = entry.words
            variable.attrs["units"] = entry.units
    return content.getvalue()


def _npz(entries: Mapping[str, Entry], attributes: Mapping[str, Any]) -> bytes:
    content = io.BytesIO()
    arrays = {key: np.asarray(value) for key, value in attributes.items()}
    arrays |= {name: np.asarray(entry.values, dtype=np.float64) for name, entry in entries.items()}
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:  # np.savez has a name of its own: file
        for name, values in arrays.items():
            with file.open(f"{name}.npy", "w", force_zip64=True) as sink:
                np.lib.format.write_array(sink, values, allow_pickle=False)
    return content.getvalue()


def shape_words(values: FloatArray) -> str:
    """The shape of an array, for messages: '51 x 41'."""
    return " x ".join(str(length) for length in values.shape) or "of a single number"
