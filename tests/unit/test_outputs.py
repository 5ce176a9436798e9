"""Where a job writes: never what it reads, and one job at a time."""

from __future__ import annotations

import os
import shutil

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hpcstream as hs
from hpcstream.checkpoint import lease
from hpcstream.connectors.files.listing import list_files
from hpcstream.connectors.files.paths import covers
from hpcstream.connectors.parts.directory import lock_name, manifest_path
from hpcstream.connectors.parts.sinks import parquet_sink
from hpcstream.errors import ConnectorError, PlanError
from hpcstream.testing import run_ranks, start_ranks

ROWS = pa.table({"id": list(range(40)), "x": [1.5] * 40})
FORMATS = {"parquet": "parquet", "ipc": "arrow", "csv": "csv", "hdf5": "h5"}


def written(directory, kind="parquet", rows=ROWS, **options):
    """Write rows by a job to a directory, in four parts."""
    job = hs.Job("seed")
    getattr(job.from_batches(rows), f"write_{kind}")(str(directory), max_rows=10, **options)
    job.run(show=False)
    return directory


def copying(source, target, kind="parquet", **options):
    """Return a builder of a job that reads one place and writes to another."""

    def build():
        job = hs.Job("copies")
        rows = getattr(job, f"read_{kind}")(source)
        getattr(rows, f"write_{kind}")(str(target), **options)
        return job

    return build


def ids(directory, kind="parquet"):
    """Return the ids in a directory, as a job reads them."""
    job = hs.Job("look")
    seen = getattr(job, f"read_{kind}")(str(directory)).collect()
    job.run(show=False)
    return sorted(seen.table["id"].to_pylist())


@pytest.mark.parametrize("kind", FORMATS)
def test_what_a_job_reads_is_not_overwritten_by_it_in_any_format(tmp_path, kind):
    data = written(tmp_path / "data", kind)

    with pytest.raises(PlanError, match=r"write_\w+\('.*/data'.* would replace .* by read_\w+"):
        run_ranks(2, copying(str(data), data, kind))

    assert ids(data, kind) == list(range(40))


SPELLINGS = {
    "slash": lambda top: f"{top}/data/",
    "dots": lambda top: f"{top}/other/.././data",
    "link to the directory": lambda top: f"{top}/link",
    "link to a file": lambda top: f"{top}/one.parquet",
    "glob": lambda top: f"{top}/data/*.parquet",
    "glob of directories": lambda top: f"{top}/d*/part-*",
    "glob of all below": lambda top: f"{top}/**/*.parquet",
    "one file": lambda top: f"{top}/data/part-00002-00000.parquet",
    "list": lambda top: [f"{top}/elsewhere", f"{top}/data/part-00000-00000.parquet"],
    "working directory": lambda top: os.path.relpath(f"{top}/data"),
}


@pytest.mark.parametrize("how", SPELLINGS)
@pytest.mark.parametrize("through_link", [False, True])
def test_however_the_path_is_spelled(tmp_path, how, through_link):
    data = written(tmp_path / "data")
    written(tmp_path / "elsewhere")
    (tmp_path / "other").mkdir()
    (tmp_path / "link").symlink_to(data)
    (tmp_path / "one.parquet").symlink_to(data / "part-00000-00000.parquet")
    target = tmp_path / ("link" if through_link else "data")

    with pytest.raises(PlanError, match="write to another directory"):
        run_ranks(1, copying(SPELLINGS[how](tmp_path), target))

    assert ids(data) == list(range(40))


def test_a_pattern_that_will_match_the_output_is_refused_before_there_is_any(tmp_path):
    written(tmp_path / "data" / "in")
    with pytest.raises(PlanError, match="would replace"):
        run_ranks(1, copying(f"{tmp_path}/data/**/*.parquet", tmp_path / "data" / "out"))


@pytest.mark.parametrize(
    ("source", "target"),
    [("data/in", "data"), ("data/in/*.parquet", "data"), ("data/in", "data/in/out")],
)
def test_a_directory_within_or_around_the_input_is_written_and_the_input_stays(
    tmp_path, source, target
):
    data = written(tmp_path / "data" / "in")
    for _ in range(2):
        run_ranks(1, copying(f"{tmp_path}/{source}", tmp_path / target))
    assert ids(data) == ids(tmp_path / target) == list(range(40))


def test_hard_links_of_the_input_elsewhere_and_other_formats_beside_it_are_no_input(tmp_path):
    data = written(tmp_path / "data")
    shutil.copytree(data, tmp_path / "linked", copy_function=os.link)
    run_ranks(1, copying(str(tmp_path / "linked"), data))
    assert ids(tmp_path / "linked") == ids(data) == list(range(40))

    job = hs.Job("other format")
    job.read_parquet(str(data)).write_csv(str(data))
    job.run(show=False)
    assert ids(data, "csv") == ids(data) == list(range(40))


def test_a_table_that_is_joined_and_what_a_source_of_ones_own_reads_are_input_too(tmp_path):
    data = written(tmp_path / "data")
    part = str(data / "part-00001-00000.parquet")

    class Own:
        schema = pa.schema({"id": pa.int64()})

        def list_splits(self):
            return []

        def open(self, split, position=0):
            raise NotImplementedError

        def files(self):
            return [part]

    def joined(job):
        return job.from_batches(ROWS.select(["id"])).join_table(part, on="id")

    for rows in (joined, lambda job: job.source(Own())):
        job = hs.Job("joins")
        rows(job).write_parquet(str(data))
        with pytest.raises(PlanError, match=r"part-00001-00000\.parquet"):
            job.run(show=False)


def test_append_may_go_where_the_job_reads(tmp_path):
    data = written(tmp_path / "data")
    run_ranks(1, copying(str(data), data, mode="append"))
    assert ids(data) == sorted([*range(40)] * 2)


NAMES = st.sampled_from(["a", "b", ".h", "part-00000-00000.parquet", "x.parquet"])
PIECES = st.sampled_from(["a", "b", "*", "**", "?", "[ab]", ".h", "*.parquet", "part-*"])


@given(
    st.lists(st.sampled_from(["a", "b", ".h"]), max_size=3),
    NAMES,
    st.lists(PIECES, min_size=1, max_size=4),
)
def test_covers_says_what_listing_would_find(tmp_path_factory, directories, name, pieces):
    top = tmp_path_factory.mktemp("covers")
    directory = top.joinpath(*directories)
    directory.mkdir(parents=True, exist_ok=True)
    pattern = os.path.join(top, *pieces)
    said = covers(pattern, (".parquet",), str(directory), name)

    is_directory = os.path.isdir(pattern)
    path = directory / name
    if path.is_dir():
        return
    path.touch()
    try:
        found = list_files([pattern], (".parquet",))
    except ConnectorError:
        found = []
    if os.path.isdir(pattern) == is_directory:
        assert said == (str(path) in map(os.path.realpath, found))


# -- one job at a time ---------------------------------------------------------------------


def slow(out):
    def build():
        job = hs.Job("slow")
        job.from_batches(ROWS.to_batches(max_chunksize=1)).write_parquet(str(out))
        return job

    return build


def test_a_second_job_is_refused_where_one_writes_and_the_first_ends_well(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "TOUCH_EVERY_S", 0.05)
    out = tmp_path / "out"
    with start_ranks(2, slow(out), batch_rows=1) as first:
        assert first.until(lambda: min(first.rounds, default=0) > 3)
        with pytest.raises(ConnectorError, match=r"another job writes to '.*out': 'slow', proc"):
            run_ranks(1, slow(f"{out}/"))
        run_ranks(1, slow(tmp_path / "elsewhere"))
        first.finish()
    assert ids(out) == list(range(40))
    assert not (out / lock_name("parquet")).exists()


def test_a_job_is_refused_that_would_replace_what_another_job_still_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "TOUCH_EVERY_S", 0.05)
    data = written(tmp_path / "data")
    with start_ranks(2, copying(f"{data}/*.parquet", tmp_path / "out"), batch_rows=1) as reader:
        assert reader.until(lambda: min(reader.rounds, default=0) > 3)
        with pytest.raises(ConnectorError, match=r"another job reads from '.*data': 'copies', "):
            written(data, rows=ROWS.slice(0, 5))
        written(data, rows=ROWS.slice(0, 5), mode="append")
        reader.finish()
    assert ids(tmp_path / "out") == list(range(40))
    written(data, rows=ROWS.slice(0, 5))
    assert ids(data) == list(range(5))
    assert [path for path in data.iterdir() if "reading" in path.name] == []


def test_a_file_of_others_beside_the_parts_that_are_replaced_may_be_read(tmp_path):
    data = written(tmp_path / "data")
    shutil.move(data / "part-00000-00000.parquet", data / "mine.parquet")

    for _ in range(2):
        run_ranks(1, copying(f"{data}/mine.parquet", data))

    assert ids(data) == sorted([*range(10)] * 2)


def test_a_lock_that_a_dead_reader_left_behind_is_removed(tmp_path):
    data = written(tmp_path / "data")
    left = data / ".hpcstream-reading-0.lock"
    left.write_text('{"host": "another", "pid": 1}')
    os.utime(left, (0, 0))

    written(data, rows=ROWS.slice(0, 5))

    assert ids(data) == list(range(5))
    assert not left.exists()


def test_a_job_whose_output_was_taken_over_commits_nothing(tmp_path):
    out = tmp_path / "out"
    with start_ranks(1, slow(out), batch_rows=1) as older:
        assert older.until(lambda: min(older.rounds, default=0) > 3)
        (out / lock_name("parquet")).unlink()  # as if it had looked dead
        run_ranks(1, slow(out))
        before = sorted(path.name for path in out.iterdir())
        with pytest.raises(ConnectorError, match="was taken over by another job"):
            older.finish()
    assert ids(out) == list(range(40))
    assert sorted(path.name for path in out.iterdir()) == before


def test_a_job_that_ends_badly_leaves_neither_lock_nor_directory(tmp_path):
    def build():
        job = hs.Job("fails")
        job.from_batches(ROWS).map_batches(lambda batch: batch["no such column"]).write_parquet(
            str(tmp_path / "out")
        )
        return job

    with pytest.raises(Exception, match="no such column"):
        run_ranks(1, build)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("n_foreign", [0, 1, 3])
def test_files_of_others_in_the_directory_are_named_in_one_line(tmp_path, capsys, n_foreign):
    out = written(tmp_path / "out")
    for number in range(n_foreign):
        shutil.copy(out / "part-00000-00000.parquet", out / f"old-{number}.parquet")
    capsys.readouterr()

    written(out)

    said = [line for line in capsys.readouterr().err.splitlines() if "did not write" in line]
    assert len(said) == (n_foreign > 0)
    if n_foreign:
        assert f"{n_foreign} file" in said[0]
        assert "'old-0.parquet'; readers of the directory will see" in said[0]


@pytest.mark.parametrize("text", ["", '{"format": 1, "parts": ["part-0000'])
def test_a_list_that_a_power_cut_emptied_says_that_it_may_be_removed(tmp_path, text):
    out = written(tmp_path / "out")
    path = manifest_path(str(out), "parquet")
    with open(path, "w") as file:
        file.write(text)

    with pytest.raises(ConnectorError, match=r"hpcstream-parts-parquet\.json' .* may be removed"):
        written(out)

    os.remove(path)
    for part in out.glob("*.parquet"):
        part.unlink()
    written(out)
    assert ids(out) == list(range(40))


def test_parts_of_a_superseded_attempt_go_but_not_those_that_a_checkpoint_lists(tmp_path):
    sink = parquet_sink(tmp_path, max_rows=10)
    sink.begin(ROWS.schema, 0, 1, 1)
    for batch in ROWS.to_batches():
        sink.write(batch)
    parts = sink.prepare()
    assert len(parts) == 4

    sink.superseded(parts[:1])

    assert [path.name for path in tmp_path.iterdir()] == [parts[0]["temporary"]]
