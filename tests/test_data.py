"""Data sets: what is read from files and from memory, and what is refused."""

import re

import h5netcdf
import numpy as np
import pytest

from fpsolve.errors import CaseError
from fpsolve.model.data import Data

WEIGHT, HEIGHT = np.array([1.5, -2.0, 3.25]), np.array([0.1, 0.2, 0.3])


def write_csv(path, delimiter=",", head="weight,height (m),kind"):
    rows = [f"{w!r},{h!r},cat" for w, h in zip(WEIGHT.tolist(), HEIGHT.tolist(), strict=True)]
    path.write_text("\n".join([head, *rows, ""]).replace(",", delimiter))


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_columns_by_name_beside_words(tmp_path, delimiter):
    write_csv(tmp_path / "a.csv", delimiter)
    data = Data.of("a.csv", tmp_path)
    assert data.names == ("weight", "height_m", "kind")
    np.testing.assert_array_equal(data.columns(["height_m", "weight"]), np.stack([HEIGHT, WEIGHT], axis=1))


def test_csv_with_a_mark_comments_and_quotes(tmp_path):
    text = '\ufeff# measured in spring\n"weight","height"\n# first day\n1.5,0.1\n\n-2,"0.2"\n'
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    np.testing.assert_array_equal(Data.of(tmp_path / "a.csv").columns(["height"]), [[0.1], [0.2]])


def test_archives_and_memory_say_the_same(tmp_path):
    np.savez(tmp_path / "a.npz", weight=WEIGHT, height=HEIGHT)
    with h5netcdf.File(tmp_path / "a.nc", "w") as file:
        file.dimensions = {"row": 3}
        for name, values in (("weight", WEIGHT), ("height", HEIGHT)):
            file.create_variable(name, ("row",), float)[:] = values
    wanted = np.stack([WEIGHT, HEIGHT], axis=1)
    memory = {"weight": WEIGHT.tolist(), "height": HEIGHT}
    for given in (tmp_path / "a.npz", tmp_path / "a.nc", memory):
        np.testing.assert_array_equal(Data.of(given).columns(["weight", "height"]), wanted)


def test_a_file_beside_the_case_comes_before_one_where_the_work_is_done(tmp_path, monkeypatch):
    (tmp_path / "case").mkdir()
    for folder, value in ((tmp_path, 1.0), (tmp_path / "case", 2.0)):
        (folder / "a.csv").write_text(f"u\n{value}\n")
    monkeypatch.chdir(tmp_path)
    assert Data.of("a.csv", tmp_path / "case").columns(["u"]) == 2.0
    assert Data.of("a.csv").columns(["u"]) == 1.0


BAD_FILES = [
    ("1.0,2.0\n3.0,4.0\n", "a", "It must name the columns"),
    ("", "a", "It must name the columns"),
    ("a,a\n1,2\n", "a", 'two columns named "a"'),
    ("a,b\n1,2\n3\n", "a", "row 2 of a.csv has 1 entries. Its header names 2 columns"),
    ("a,b\n1,2\n3,x\n", "b", "column \"b\" of a.csv has 'x' in row 2. It must hold numbers"),
    ("a,b\n1,2\n3,nan\n", "b", 'column "b" of a.csv has nan in row 2 (1 such rows). All numbers must be finite'),
    ("a,b\n", "b", "a.csv has no rows"),
]


@pytest.mark.parametrize(("text", "name", "message"), BAD_FILES)
def test_bad_csv_files_are_explained(tmp_path, text, name, message):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(CaseError, match=re.escape(message)) as caught:
        Data.of("a.csv", tmp_path).columns([name])
    assert caught.value.where == "landscape.data"


def test_a_missing_file_has_a_neighbour(tmp_path):
    write_csv(tmp_path / "points.csv")
    with pytest.raises(CaseError, match=r'there is no file .*point\.csv.* Did you mean "points\.csv"'):
        Data.of(tmp_path / "point.csv")


def test_what_is_no_archive_is_explained(tmp_path):
    for name in ("a.npz", "a.nc"):
        (tmp_path / name).write_text("hello")
        with pytest.raises(CaseError, match="cannot be read"):
            Data.of(tmp_path / name)


def test_columns_of_different_length_and_shape_are_refused():
    with pytest.raises(CaseError, match="differ in length: a 2, b 3"):
        Data.of({"a": [1.0, 2.0], "b": [1.0, 2.0, 3.0]}).columns(["a", "b"])
    with pytest.raises(CaseError, match=r"is 2 x 2\. A column has one dimension"):
        Data.of({"a": np.eye(2)}).columns(["a"])
