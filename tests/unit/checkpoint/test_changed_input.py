"""A job is killed; its input lies elsewhere, is spelled otherwise, or has changed; it goes on."""

from __future__ import annotations

import os
import random
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest

import hpcstream as hs
from hpcstream import col
from hpcstream.checkpoint.format import CheckpointError
from hpcstream.checkpoint.storage.directory import CheckpointStore
from hpcstream.errors import HpcstreamError, PlanError
from hpcstream.runtime.checkpoints.same_sources import KnownFile, assigned_sources, compared
from hpcstream.testing import ManualClock, start_ranks

sys.path.insert(0, str(Path(__file__).parent))
from restart import visible

FILES, ROWS = 6, 60
OPTIONS = {"batch_rows": 15, "checkpoint_interval_s": 1e-6}


def table(number, rows=ROWS, x=1):
    first = number * ROWS
    return pa.table({"t": range(first, first + rows), "k": [i % 3 for i in range(rows)],
                     "x": [x] * rows})  # fmt: skip


def write_hdf5(rows, path):
    import h5py

    with h5py.File(f"{path}.new", "w") as file:
        for name in rows.column_names:
            file[name] = rows[name].to_numpy()
    os.replace(f"{path}.new", path)  # the job that was killed in this process has it open


WRITE = {
    "parquet": lambda rows, path: pq.write_table(rows, path, row_group_size=20),
    "ipc": lambda rows, path: feather.write_feather(rows, path, compression="uncompressed"),
    "csv": pa_csv.write_csv,
    "hdf5": write_hdf5,
}
ENDING = {"parquet": "parquet", "ipc": "arrow", "csv": "csv", "hdf5": "h5"}


def write_files(directory, kind="parquet", numbers=range(FILES)):
    directory.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        write_file(directory, number, kind)


def write_file(directory, number, kind="parquet", **more):
    WRITE[kind](table(number, **more), str(directory / f"f{number:03}.{ENDING[kind]}"))


def counting(paths, out, kind="parquet", name=None):
    def build():
        job = hs.Job("counts")
        options = {"event_time": "t", "event_time_unit": "ms", "watermark_delay": "100ms"}
        rows = getattr(job, f"read_{kind}")(paths, **options)
        rows = rows if name is None else rows.named(name)
        windows = rows.key_by("k").window(hs.tumbling("50ms"))
        windows.agg(n=hs.count(), total=col("x").sum()).write_parquet(str(out))
        return job

    return build


def start(build, top, n_ranks=2, **more):
    options = {"checkpoint_dir": str(top / "run"), "clock": ManualClock(turn_s=0.01), **OPTIONS}
    return start_ranks(n_ranks, build, **options | more)


def killed(build, top, n_ranks=2, checkpoints=2):
    """Start a job, and drop it after some checkpoints, input left."""
    with start(build, top, n_ranks) as ranks:
        store = CheckpointStore(str(top / "run"))
        ranks.until(lambda: Path(store.directory).exists() and store.next_number() > checkpoints)
        assert ranks.waiting, "it ended before it was killed"


def n_counted(out):
    return sum(visible(out)["n"].to_pylist())


def expected(top, kind="parquet"):
    write_files(top / "expected-in", kind)
    with start_ranks(1, counting(str(top / "expected-in"), top / "expected", kind)) as ranks:
        ranks.finish()
    return visible(top / "expected")


SPELLINGS = {
    "as it was": lambda top: f"{top}/src",
    "slash": lambda top: f"{top}/src/",
    "dots": lambda top: f"{top}/./run/../src",
    "relative": lambda top: os.path.relpath(f"{top}/src"),
    "link": lambda top: f"{top}/link",
    "glob": lambda top: f"{top}/src/f*",
    "all below": lambda top: f"{top}/s*/**/*.*",
    "list": lambda top: [str(path) for path in sorted(Path(f"{top}/src").iterdir())],
    "copy": lambda top: f"{top}/copy/of/it",
    "moved": lambda top: f"{top}/moved/*",
}


def prepared(top, how):
    """Return the paths by a spelling, the files moved there if they are to be."""
    (top / "link").symlink_to(top / "src")
    if how == "copy":
        shutil.copytree(top / "src", top / "copy/of/it", copy_function=shutil.copyfile)
    if how == "moved":
        shutil.move(top / "src", top / "moved")
    return SPELLINGS[how](top)


@pytest.mark.parametrize("how", SPELLINGS)
@pytest.mark.parametrize("name", [None, "readings"])
def test_the_same_files_under_other_paths_are_gone_on_with(tmp_path, how, name):
    write_files(tmp_path / "src")
    killed(counting(f"{tmp_path}/src", tmp_path / "out", name=name), tmp_path)

    paths = prepared(tmp_path, how)
    start(counting(paths, f"{tmp_path}/./out/", name=name), tmp_path).finish()

    assert visible(tmp_path / "out").equals(expected(tmp_path))


@pytest.mark.parametrize("seed", range(24))
def test_any_format_number_of_ranks_moment_and_spelling(tmp_path, seed):
    chance = random.Random(seed)
    kind = chance.choice(sorted(WRITE))
    write_files(tmp_path / "src", kind)
    paths = f"{tmp_path}/src"
    killed(counting(paths, tmp_path / "out", kind), tmp_path, chance.randint(1, 3))
    if chance.random() < 0.5:
        with start(
            counting(paths, tmp_path / "out", kind), tmp_path, chance.randint(1, 3)
        ) as ranks:
            ranks.until(lambda: min(ranks.rounds, default=0) > chance.randint(1, 4))

    paths = prepared(tmp_path, chance.choice(sorted(SPELLINGS)))
    build = counting(paths, tmp_path / "out", kind)
    start(build, tmp_path, chance.randint(1, 3)).finish()

    assert visible(tmp_path / "out").equals(expected(tmp_path, kind))


@pytest.mark.parametrize("kind", WRITE)
@pytest.mark.parametrize("how", ["shorter", "longer", "other values"])
@pytest.mark.parametrize("sizes", [(1, 1), (2, 3)])
def test_a_file_that_changed_is_named_whatever_is_allowed(tmp_path, kind, how, sizes):
    write_files(tmp_path / "src", kind)
    build = counting(f"{tmp_path}/src", tmp_path / "out", kind)
    killed(build, tmp_path, sizes[0])
    change = {"shorter": {"rows": 20}, "longer": {"rows": 90}, "other values": {"x": 2}}[how]
    number = len(kind) % FILES
    write_file(tmp_path / "src", number, kind, **change)

    for more in ({}, {"allow_dropped_state": True}):
        with pytest.raises(CheckpointError, match=rf"f00{number}\..* has changed since the check"):
            start(build, tmp_path, sizes[1], **more).finish()


def test_a_file_that_was_only_touched_or_written_again_as_it_was_has_not_changed(tmp_path):
    write_files(tmp_path / "src")
    build = counting(f"{tmp_path}/src", tmp_path / "out")
    killed(build, tmp_path)
    write_file(tmp_path / "src", 0)
    os.utime(tmp_path / "src" / "f001.parquet", (1, 1))

    start(build, tmp_path).finish()

    assert visible(tmp_path / "out").equals(expected(tmp_path))


def test_a_file_that_is_gone_is_named_if_rows_of_it_are_missing(tmp_path):
    write_files(tmp_path / "src")
    build = counting(f"{tmp_path}/src", tmp_path / "out")
    killed(build, tmp_path)
    (tmp_path / "src" / "f005.parquet").unlink()

    with pytest.raises(CheckpointError, match=r"f005\.parquet', which is not read yet, is not amo"):
        start(build, tmp_path).finish()


def test_a_file_that_was_read_to_its_end_may_go_and_one_that_came_is_said(tmp_path, capsys):
    write_files(tmp_path / "src")
    build = counting(f"{tmp_path}/src", tmp_path / "out")
    killed(build, tmp_path, n_ranks=1, checkpoints=4)
    (tmp_path / "src" / "f000.parquet").unlink()
    write_file(tmp_path / "src", 7)

    start(build, tmp_path).finish()

    said = capsys.readouterr().err
    assert "1 file was added to read_parquet(" in said
    assert "f007.parquet', and not read" in said
    assert "1 file was read already and gone, as" in said
    assert visible(tmp_path / "out").equals(expected(tmp_path))


@pytest.mark.parametrize("more", [{}, {"allow_dropped_state": True}])
@pytest.mark.parametrize("name", [None, "readings"])
def test_a_source_that_was_exchanged_is_refused_whatever_is_allowed(tmp_path, more, name):
    write_files(tmp_path / "src")
    write_files(tmp_path / "other", numbers=range(10, 13))
    write_files(tmp_path / "csv", "csv")
    killed(counting(f"{tmp_path}/src", tmp_path / "out", name=name), tmp_path)

    def again(directory, kind="parquet"):
        build = counting(str(tmp_path / directory), tmp_path / "out", kind, name)
        start(build, tmp_path, **more).finish()

    with pytest.raises(CheckpointError, match="reads other files than before"):
        again("other")
    with pytest.raises(PlanError, match="rows would count twice"):
        again("csv", "csv")
    again("src")
    assert visible(tmp_path / "out").equals(expected(tmp_path))


def two_sources(first, second, out, *, swapped=False, only=False):
    def build():
        job = hs.Job("two")
        options = {"event_time": "t", "event_time_unit": "ms", "watermark_delay": "1s"}
        one, other = (job.read_parquet(str(path), **options) for path in (first, second))
        rows = other.union(one) if swapped else one.union(other)
        rows = one if only else rows
        windows = rows.key_by("k").window(hs.tumbling("50ms"))
        windows.agg(n=hs.count(), total=col("x").sum()).write_parquet(str(out))
        return job

    return build


@pytest.mark.parametrize("more", [{"swapped": True}, {}])
def test_two_sources_are_told_apart_by_their_paths_however_spelled(tmp_path, more):
    write_files(tmp_path / "src")
    write_files(tmp_path / "second", numbers=range(FILES, 2 * FILES))
    killed(two_sources(tmp_path / "src", tmp_path / "second", tmp_path / "out"), tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "second")

    again = two_sources(f"{tmp_path}/src/", f"{tmp_path}/link", tmp_path / "out", **more)
    start(again, tmp_path).finish()

    assert n_counted(tmp_path / "out") == 2 * FILES * ROWS


def test_a_source_that_was_taken_out_needs_leave_and_counts_nothing_twice(tmp_path):
    write_files(tmp_path / "src")
    write_files(tmp_path / "second", numbers=range(FILES, 2 * FILES))
    paths = tmp_path / "src", tmp_path / "second"
    killed(two_sources(*paths, tmp_path / "out"), tmp_path)

    fewer = two_sources(*paths, tmp_path / "out", only=True)
    with pytest.raises(PlanError, match=r"has the position of read_parquet\(.*second"):
        start(fewer, tmp_path).finish()
    start(fewer, tmp_path, allow_dropped_state=True).finish()

    assert FILES * ROWS <= n_counted(tmp_path / "out") <= 2 * FILES * ROWS


def test_a_finished_job_is_finished_under_any_spelling_but_not_with_other_files(tmp_path):
    write_files(tmp_path / "src")
    start(counting(f"{tmp_path}/src", tmp_path / "out"), tmp_path).finish()
    write_files(tmp_path / "other", numbers=range(10, 12))

    for paths in (f"{tmp_path}/src/", f"{tmp_path}/src/*.parquet"):
        assert start(counting(paths, tmp_path / "out"), tmp_path).finish().result.was_finished
    with pytest.raises(HpcstreamError, match="reads other files than before"):
        start(counting(f"{tmp_path}/other", tmp_path / "out"), tmp_path).finish()
    for path in list((tmp_path / "src").iterdir())[1:]:
        path.unlink()
    again = start(counting(f"{tmp_path}/src", tmp_path / "out"), tmp_path)
    assert again.finish().result.was_finished


def test_a_sink_that_the_checkpoint_does_not_know_replaces_no_rows_that_are_committed(tmp_path):
    write_files(tmp_path / "src")
    killed(counting(f"{tmp_path}/src", tmp_path / "out"), tmp_path, n_ranks=1, checkpoints=4)
    shutil.move(tmp_path / "out", tmp_path / "moved")
    before = visible(tmp_path / "moved")

    build = counting(f"{tmp_path}/src", tmp_path / "moved")
    with pytest.raises(PlanError, match="does not have"):
        start(build, tmp_path).finish()
    with pytest.raises(PlanError, match="would replace the parts that are there"):
        start(build, tmp_path, allow_dropped_state=True).finish()
    assert visible(tmp_path / "moved").equals(before)


# -- the comparison itself -----------------------------------------------------------------


@pytest.mark.parametrize("seed", range(100))
def test_a_set_of_files_is_found_again_wherever_it_is_moved_as_a_whole(tmp_path, seed):
    chance = random.Random(seed)
    names = [
        "/".join([*chance.choices("abc", k=chance.randint(0, 3)), f"{number}.parquet"])
        for number in range(chance.randint(1, 6))
    ]
    old, new = tmp_path / "old", tmp_path / "/".join(["new", *chance.choices("abc", k=2)])
    for name in names:
        (old / name).parent.mkdir(parents=True, exist_ok=True)
        (old / name).touch()
    shutil.copytree(old, new)
    if chance.random() < 0.5:
        shutil.rmtree(old)
    (new / "more.parquet").touch()
    found = [str(new / name) for name in names] + [str(new / "more.parquet")]
    chance.shuffle(found)

    result = compared({str(old / name): KnownFile(None) for name in names}, found)

    assert result.moved == {str(old / name): str(new / name) for name in names}
    assert result.added == [str(new / "more.parquet")]
    assert result.gone == []


@pytest.mark.parametrize(
    ("stored", "names", "expected"),
    [
        ({"a": "csv"}, {0: ("a", "csv")}, {0: "a"}),
        ({"a": "csv"}, {0: ("b", "csv")}, {0: "a"}),
        ({"a": "csv"}, {0: ("a", "ipc")}, {}),
        ({"a": "csv"}, {0: ("b", "csv"), 1: ("c", "csv")}, {}),
        ({"a": "csv"}, {0: ("b", "csv"), 1: ("a", "csv")}, {1: "a"}),
        ({"a": "csv", "b": "csv"}, {0: ("b", "csv"), 1: ("c", "csv")}, {0: "b", 1: "a"}),
        ({"a": "csv", "b": "csv"}, {0: ("c", "csv"), 1: ("d", "csv")}, {}),
        ({"a": "csv", "b": "ipc"}, {0: ("c", "csv"), 1: ("d", "ipc")}, {0: "a", 1: "b"}),
    ],
)
def test_a_source_is_found_by_name_or_as_the_only_one_of_its_kind(stored, names, expected):
    origins = {task: kind for task, (_, kind) in names.items()}
    assert assigned_sources(stored, {t: n for t, (n, _) in names.items()}, origins) == expected
