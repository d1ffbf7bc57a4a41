"""Data sets: named columns of numbers, from CSV, NPZ or NetCDF/HDF5 files, or from memory."""

from __future__ import annotations

import csv
import re
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, final

import h5py
import numpy as np

from fpsolve.errors import CaseError, did_you_mean
from fpsolve.model.grid import FloatArray

WHERE = "landscape.data"
REQUIRED = "Data are a CSV file with a header, or columns in an NPZ, NetCDF or HDF5 file"
DELIMITERS = ",;\t"

Given: TypeAlias = "str | Path | Mapping[str, Any]"


@final
@dataclass(frozen=True, eq=False)
class Data:
    """Columns of a table, by name, of which those that are asked for are read.

    names: of all columns that a formula can name, made identifiers ("petal length (cm)" is petal_length_cm);
    words: where they are from, for messages and reports.
    """

    names: tuple[str, ...]
    words: str
    read: Callable[[Sequence[str]], list[Any]]  # columns by name, as they are

    @classmethod
    def of(cls, given: Given, folder: Path = Path()) -> Data:
        """Data of a file, sought beside the case first, or of a mapping from names to arrays (a data frame, too).

        Raises CaseError when there is no such file, or it is not understood.
        """
        if not isinstance(given, str | Path):
            return cls._of_mapping({_identifier(str(name)): given[name] for name in given.keys()})  # noqa: SIM118
        path = folder / given if (folder / given).exists() else Path(given)
        try:
            return READERS.get(path.suffix.lower(), _of_csv)(path)
        except FileNotFoundError:
            near = did_you_mean(path.name, [other.name for other in path.parent.glob(f"*{path.suffix}")])
            raise CaseError(WHERE, f"there is no file {path}", REQUIRED, f"Check the path.{near}") from None
        except (OSError, ValueError, csv.Error, zipfile.BadZipFile) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise CaseError(WHERE, f"{path} cannot be read ({reason})", REQUIRED, "Check the file") from None

    @classmethod
    def _of_mapping(cls, columns: Mapping[str, Any]) -> Data:
        return cls(tuple(columns), "data in memory", lambda names: [columns[name] for name in names])

    def columns(self, names: Sequence[str]) -> FloatArray:
        """The columns of some names, (rows, columns).

        Raises CaseError when an entry is not a finite number, or their lengths differ.
        """
        found = [self._checked(name, values) for name, values in zip(names, self.read(names), strict=True)]
        if len({values.size for values in found}) > 1:
            lengths = ", ".join(f"{name} {values.size}" for name, values in zip(names, found, strict=True))
            raise CaseError(WHERE, f"columns of {self.words} differ in length: {lengths}", "All rows must be complete")
        if not found[0].size:
            raise CaseError(WHERE, f"{self.words} has no rows", "At least one is needed")
        return np.ascontiguousarray(np.array(found).T)

    def _checked(self, name: str, values: Any) -> FloatArray:
        where = f'column "{name}" of {self.words}'
        try:
            column = np.asarray(values, dtype=np.float64)
        except (TypeError, ValueError):
            row, value = _first_without_number(values)
            raise CaseError(WHERE, f"{where} has {value!r} in row {row + 1}", "It must hold numbers") from None
        if column.ndim != 1:
            shape = " x ".join(str(length) for length in column.shape)
            raise CaseError(WHERE, f"{where} is {shape or 'a single number'}", "A column has one dimension")
        bad = ~np.isfinite(column)
        if bad.any():
            row = int(np.argmax(bad))
            found = f"{where} has {column[row]} in row {row + 1} ({bad.sum()} such rows)"
            raise CaseError(WHERE, found, "All numbers must be finite", "Remove or fill those rows")
        return column


def _first_without_number(values: Iterable[Any]) -> tuple[int, Any]:
    """The first entry that is no number."""
    for row, value in enumerate(values):
        try:
            float(value)
        except (TypeError, ValueError):
            return row, value
    return 0, values


def _identifier(name: str) -> str:
    """A column's name as one word."""
    word = re.sub(r"\W+", "_", name.strip()).strip("_")
    return f"_{word}" if word[:1].isdigit() else word


def _of_csv(path: Path) -> Data:
    """A text file, its first line the names of the columns; comma, semicolon or tab between them."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        header = next((line for line in file if line.strip() and not line.startswith("#")), "")
    delimiter = max(DELIMITERS, key=header.count)
    given = next(csv.reader([header], delimiter=delimiter), [])
    names = [_identifier(name) for name in given]
    if not names or all(_is_number(name) for name in given):
        found = f"the first line of {path} is {header.strip()[:60]!r}"
        raise CaseError(WHERE, found, "It must name the columns", "Put their names on a line above the numbers")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise CaseError(WHERE, f'{path} has two columns named "{twice}"', "Each name may be used once", "Rename one")

    def read(wanted: Sequence[str]) -> list[Any]:
        return _csv_columns(path, header, delimiter, len(names), [names.index(name) for name in wanted])

    return Data(tuple(names), str(path.name), read)


def _csv_columns(path: Path, header: str, delimiter: str, width: int, numbers: Sequence[int]) -> list[list[str]]:
    """Some columns of a CSV file as texts, after its header. Raises CaseError where a row is too short or too long."""
    columns: list[list[str]] = [[] for _ in numbers]
    with path.open(encoding="utf-8-sig", newline="") as file:
        for line in file:
            if line == header:
                break
        reader = csv.reader((line for line in file if not line.startswith("#")), delimiter=delimiter)
        for row, fields in enumerate(fields for fields in reader if fields):
            if len(fields) != width:
                found = f"row {row + 1} of {path.name} has {len(fields)} entries"
                raise CaseError(WHERE, found, f"Its header names {width} columns", "Complete or remove that row")
            for column, number in zip(columns, numbers, strict=True):
                column.append(fields[number])
    return columns


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _of_npz(path: Path) -> Data:
    with np.load(path, allow_pickle=False) as archive:
        names = {_identifier(name): name for name in archive.files}

    def read(wanted: Sequence[str]) -> list[Any]:
        with np.load(path, allow_pickle=False) as archive:
            return [archive[names[name]] for name in wanted]

    return Data(tuple(names), str(path.name), read)


def _of_hdf5(path: Path) -> Data:
    with h5py.File(path, "r") as file:
        names = {_identifier(name): name for name, item in file.items() if isinstance(item, h5py.Dataset)}

    def read(wanted: Sequence[str]) -> list[Any]:
        with h5py.File(path, "r") as file:
            return [file[names[name]][()] for name in wanted]

    return Data(tuple(names), str(path.name), read)


READERS: dict[str, Callable[[Path], Data]] = {
    ".npz": _of_npz,
    **dict.fromkeys((".nc", ".nc4", ".h5", ".hdf5", ".hdf"), _of_hdf5),
}
