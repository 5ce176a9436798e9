from pathlib import Path

import pytest

from hpcstream.connectors.files import as_patterns, first_file, list_files
from hpcstream.errors import ConnectorError

CSV = (".csv",)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    for name in ("b.csv", "a.csv", "c.txt", ".hidden.csv", "sub/d.csv", "x[1].csv", "empty/.keep"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (tmp_path / "dir.csv").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("paths", "files"),
    [
        ("a.csv", ["a.csv"]),
        (Path("a.csv"), ["a.csv"]),
        ("c.txt", ["c.txt"]),
        ("*.csv", ["a.csv", "b.csv", "x[1].csv"]),
        ("**/*.csv", ["a.csv", "b.csv", "sub/d.csv", "x[1].csv"]),
        ("sub", ["sub/d.csv"]),
        (".", ["./a.csv", "./b.csv", "./x[1].csv"]),
        (["b.csv", Path("a.csv"), "*.csv"], ["b.csv", "a.csv", "x[1].csv"]),
        ("x[1].csv", ["x[1].csv"]),
    ],
    ids=repr,
)
def test_files_are_listed_in_the_order_given_and_sorted_within(tree, paths, files):
    patterns = as_patterns(paths)
    assert list_files(patterns, CSV) == files
    assert first_file(patterns, CSV) == files[0]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nope.csv", r"'nope\.csv' does not exist \(working directory '/"),
        ("no/where/a.csv", r"does not exist; there is no directory 'no'"),
        ("/no/where/a.csv", r"does not exist; there is no directory '/no'$"),
        ("sub/*.parquet", r"glob 'sub/\*\.parquet' matches no file"),
        ("su/*.csv", r"matches no file; there is no directory 'su'"),
        ("empty", r"directory 'empty' has no file named \*\.csv; .*'empty/\*\*/\*'"),
    ],
)
def test_what_means_no_file_is_an_error_that_says_how_far_the_path_exists(tree, path, message):
    with pytest.raises(ConnectorError, match=message):
        list_files(as_patterns(path), CSV)


def test_home_is_expanded(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert as_patterns("~/a.csv") == ("/home/me/a.csv",)


@pytest.mark.parametrize("paths", [5, [5], [None], ["a", b"b"]], ids=str)
def test_what_is_no_path_is_a_type_error(paths):
    with pytest.raises(TypeError):
        as_patterns(paths)


def test_no_paths_are_refused():
    with pytest.raises(ValueError, match="at least one path"):
        as_patterns([])
