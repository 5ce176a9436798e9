import os
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest
from pyarrow import feather
from pyarrow import parquet as pq

import hpcstream as hs
from hpcstream.connectors.files.listing import (
    as_patterns,
    first_file,
    left_out,
    list_files,
    unreadable,
)
from hpcstream.errors import ConnectorError
from hpcstream.testing import run_ranks

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


def test_endings_are_taken_in_upper_and_lower_case_and_hidden_files_are_not(tmp_path):
    for name in ("a.CSV", "b.csv", "c.Csv", ".d.csv", "_e.csv", "f.csv.bak"):
        (tmp_path / name).touch()
    files = list_files(as_patterns(tmp_path), CSV)
    assert [Path(file).name for file in files] == ["a.CSV", "b.csv", "c.Csv"]


def test_a_file_met_again_by_a_link_or_another_spelling_is_read_once(tree):
    (tree / "latest.csv").symlink_to("a.csv")
    (tree / "other").symlink_to(tree / "sub", target_is_directory=True)
    patterns = ["./a.csv", "a.csv", "*.csv", str(tree / "b.csv"), "sub", "other", "**/d.csv"]
    assert list_files(as_patterns(patterns), CSV) == [
        "./a.csv",
        "b.csv",
        "x[1].csv",
        "sub/d.csv",
    ]


def test_the_files_of_a_directory_that_are_not_read_are_named(tree):
    for name in ("_SUCCESS", "d.txt", "e.txt", "f.txt"):
        (tree / name).touch()
    (said,) = left_out(as_patterns([".", "a.csv", "*.txt"]), CSV)
    assert said == (
        "not read in '.': 'c.txt', 'd.txt', 'e.txt' and 3 more; a directory means its files "
        "named *.csv"
    )
    assert not list(left_out(as_patterns("*"), CSV))


@pytest.mark.parametrize("scheme", ["s3", "gs", "https", "hdfs", "abfss", "S3"])
def test_an_address_is_refused_by_its_scheme(scheme):
    with pytest.raises(ConnectorError, match=rf"://x/a' is an address \({scheme}\), not a path"):
        as_patterns(["a", f"{scheme}://x/a"])


def test_a_file_address_is_its_path():
    given = ["file:///a/b%20c*.csv", "file://localhost/a", Path("x"), "a:b", "C:/a"]
    assert as_patterns(given) == ("/a/b c*.csv", "/a", "x", "a:b", "C:/a")
    with pytest.raises(ConnectorError, match="is an address"):
        as_patterns("file://elsewhere/a")


def test_an_address_is_refused_wherever_a_job_takes_a_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job = hs.Job("remote")
    rows = job.from_batches(pa.table({"x": [1]}))
    for write in (rows.write_parquet, rows.write_ipc, rows.write_csv, rows.write_hdf5):
        with pytest.raises(ConnectorError, match="is an address"):
            write("s3://bucket/x")
    rows.write_csv("out")
    for options in ({"checkpoint_dir": "s3://bucket/c"}, {"restore_from": "gs://b/c"}):
        with pytest.raises(ConnectorError, match="is an address"):
            job.run(show=False, **options)
    assert not list(tmp_path.iterdir())


WRITERS = {
    "parquet": pq.write_table,
    "csv": pa_csv.write_csv,
    "ipc": lambda table, path: feather.write_feather(table, path, compression="uncompressed"),
    "json": lambda table, path: Path(path).write_text('{"x": 1}\n{"x": 2}\n'),
}


@pytest.mark.parametrize("kind", list(WRITERS))
def test_files_whose_names_are_not_utf_8_are_read_and_written_on_several_ranks(tmp_path, kind):
    ending = {"ipc": "arrow"}.get(kind, kind).encode()
    WRITERS[kind](pa.table({"x": [1, 2]}), str(tmp_path / "a"))
    folder = os.fsencode(tmp_path) + b"/in\xe9"
    os.mkdir(folder)
    os.rename(tmp_path / "a", folder + b"/caf\xe9." + ending)
    out = os.fsdecode(os.fsencode(tmp_path) + b"/out\xff")

    def build():
        job = hs.Job("names")
        rows = getattr(job, f"read_{kind}")(os.fsdecode(folder)).filter(hs.col("x") > 0)
        rows.write_csv(out)
        return job, rows.collect()

    assert run_ranks(2, build, checkpoint_dir=str(tmp_path / "c")).table.num_rows == 2
    assert [name for name in os.listdir(out) if name.startswith("part-")]


def test_an_error_about_a_name_that_is_not_utf_8_reaches_all_ranks(tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.csv"
    Path(os.fsdecode(name)).write_bytes(b"a,b\n" + b"1,2\n" * 9 + b"3\n")

    def build():
        job = hs.Job("names")
        return job, job.read_csv(os.fsdecode(name), block_bytes=16).collect()

    with pytest.raises(ConnectorError, match=r"caf\\udce9\.csv', line 11"):
        run_ranks(2, build)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "it is empty \\(0 bytes\\)"),
        (b"PAR1 and so on", "truncated or still being written"),
        (b"\x1f\x8b and so on", "by its first bytes it is gzip"),
        (b"just text", "damaged, or no Parquet at all. it begins with b'just tex'"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_as_far_as_it_is_known(tmp_path, content, said):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ConnectorError, match=f"a' is not a readable Parquet file; {said}"):
        hs.Job("x").read_parquet(tmp_path / "a")


def test_the_reason_of_the_operating_system_is_given(tmp_path):
    (tmp_path / "a").symlink_to("a")
    with pytest.raises(ConnectorError, match=r"does not exist|cannot be read: .*symbolic links"):
        hs.Job("x").read_csv(tmp_path / "a")
    error = unreadable("a.csv", "CSV", PermissionError(13, "Permission denied"))
    assert str(error) == "'a.csv' cannot be read: Permission denied"
