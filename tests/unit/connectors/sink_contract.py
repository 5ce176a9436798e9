"""What every sink of part files has to do; inherited by a test class for each format."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from hpcstream.connectors.base import Sink
from hpcstream.errors import ConnectorError

TABLE = pa.table(
    {
        "key": [f"k{i % 7}" for i in range(300)],
        "window_start": pa.array(range(300), pa.timestamp("us")),
        "total": pa.array([None if i % 13 == 0 else i / 8 for i in range(300)], pa.float64()),
    }
)


def run(
    make: Callable[[], Sink], tables: Sequence[pa.Table], *, attempt: int = 0, schema=TABLE.schema
) -> None:
    """Write a table on each rank and commit."""
    sinks = [make() for _ in tables]
    for rank, sink in enumerate(sinks):
        sink.begin(schema, rank, len(sinks), attempt)
    for sink, table in zip(sinks, tables, strict=True):
        for batch in table.to_batches(max_chunksize=37):
            sink.write(batch)
    parts = [part for sink in sinks for part in sink.prepare()]
    for sink in sinks:
        sink.commit(parts)


def visible(directory: Path) -> list[str]:
    """Return what a careful reader of the directory sees."""
    return sorted(p.name for p in directory.glob("*") if not p.name.startswith("."))


def hidden_parts(directory: Path) -> list[str]:
    return sorted(p.name for p in directory.iterdir() if p.name.endswith(".tmp"))


class SinkContract:
    """A subclass gives ``make(path, **options)``, ``read(path)`` and ``extension``."""

    extension: str
    make: Callable[..., Sink]

    def read(self, path: Path) -> pa.Table:
        raise NotImplementedError

    def rows(self, directory: Path) -> list[dict[str, object]]:
        tables = [self.read(directory / name) for name in visible(directory)]
        return pa.concat_tables(tables).to_pylist()

    @pytest.fixture
    def out(self, tmp_path):
        return tmp_path / "deep" / "out"

    @pytest.mark.parametrize("size", [1, 2, 3])
    def test_all_rows_of_all_ranks_are_there_after_commit(self, out, size):
        shares = [TABLE.slice(i * 300 // size, 300 // size) for i in range(size)]
        run(lambda: self.make(out), shares)
        assert self.rows(out) == TABLE.to_pylist()
        assert visible(out) == [f"part-00000-0000{r}.{self.extension}" for r in range(size)]
        assert hidden_parts(out) == []

    def test_nothing_is_visible_before_commit(self, out):
        sink = self.make(out, max_rows=50)
        sink.begin(TABLE.schema, 0, 1, 0)
        for batch in TABLE.to_batches(max_chunksize=20):
            sink.write(batch)
            assert visible(out) == []
        parts = sink.prepare()
        assert visible(out) == []
        sink.commit(parts)
        assert len(visible(out)) == 6

    def test_a_rank_without_rows_writes_no_part_but_rank_0_does(self, out):
        run(lambda: self.make(out), [TABLE.slice(0, 0), TABLE.slice(0, 0), TABLE.slice(0, 5)])
        assert visible(out) == [f"part-00000-0000{r}.{self.extension}" for r in (0, 2)]
        empty = self.read(out / f"part-00000-00000.{self.extension}")
        assert empty.column_names == TABLE.column_names
        assert empty.num_rows == 0

    def test_a_part_has_at_most_max_rows(self, out):
        run(lambda: self.make(out, max_rows=100), [TABLE.slice(0, 250), TABLE.slice(250)])
        lengths = {name[5:16]: self.read(out / name).num_rows for name in visible(out)}
        assert lengths == {
            "00000-00000": 100,
            "00001-00000": 100,
            "00002-00000": 50,
            "00000-00001": 50,
        }

    def test_a_new_part_begins_at_max_bytes(self, out):
        sink = self.make(out, max_bytes=10_000)
        sink.begin(TABLE.schema, 0, 1, 0)
        for _ in range(200):
            for batch in TABLE.to_batches():
                sink.write(batch)
        parts = sink.prepare()
        sink.commit(parts)
        assert len(visible(out)) == len(parts)
        assert 3 <= len(parts) <= 200
        assert len(self.rows(out)) == 200 * 300

    def steps(self, sink: Sink):
        """Yield after each step of a run, so that it can be left anywhere."""
        sink.begin(TABLE.schema, 0, 1, 3)
        yield
        for batch in TABLE.to_batches(max_chunksize=60):
            sink.write(batch)
            yield
        parts = sink.prepare()
        yield
        for batch in TABLE.to_batches(max_chunksize=200):
            sink.write(batch)
            yield
        parts += sink.prepare()
        yield

    def test_abort_at_any_moment_leaves_nothing(self, out):
        for n_steps in itertools.count(1):
            sink = self.make(out, max_rows=40)
            steps = self.steps(sink)
            done = sum(1 for _ in itertools.islice(steps, n_steps))
            sink.abort()
            sink.abort()
            assert list(out.iterdir()) == []
            if done < n_steps:
                break

    def test_a_crash_at_any_moment_leaves_nothing_visible_and_the_next_attempt_cleans_up(self, out):
        for n_steps in itertools.count(1):
            lost = self.make(out, max_rows=40)
            done = sum(1 for _ in itertools.islice(self.steps(lost), n_steps))
            assert visible(out) == []

            run(lambda: self.make(out), [TABLE], attempt=4)
            assert self.rows(out) == TABLE.to_pylist()
            assert hidden_parts(out) == []
            for path in out.iterdir():
                path.unlink()
            lost.abort()
            if done < n_steps:
                break

    def test_leftovers_of_a_run_on_more_ranks_are_removed(self, out):
        sinks = [self.make(out) for _ in range(3)]
        for rank, sink in enumerate(sinks):
            sink.begin(TABLE.schema, rank, 3, 0)
            sink.write(TABLE.to_batches()[0])
            sink.prepare()
        run(lambda: self.make(out), [TABLE], attempt=0)
        assert hidden_parts(out) == []
        assert self.rows(out) == TABLE.to_pylist()

    def test_overwrite_replaces_the_parts_of_an_earlier_run(self, out):
        run(lambda: self.make(out, max_rows=10), [TABLE, TABLE, TABLE])
        run(lambda: self.make(out), [TABLE])
        assert visible(out) == [f"part-00000-00000.{self.extension}"]
        assert self.rows(out) == TABLE.to_pylist()

    def test_overwrite_leaves_alone_what_we_did_not_write(self, out):
        out.mkdir(parents=True)
        foreign = [f"part-3.{self.extension}", f"mine.{self.extension}", "notes.txt"]
        for name in foreign:
            (out / name).write_text("theirs")
        for _ in range(2):
            run(lambda: self.make(out), [TABLE])
            assert all((out / name).read_text() == "theirs" for name in foreign)
            ours = sorted(set(visible(out)) - set(foreign))
            assert ours == [f"part-00000-00000.{self.extension}"]
        assert sorted(self.make(out).foreign_files()) == sorted(foreign[:2])

    def test_overwrite_refuses_parts_that_no_list_of_ours_has(self, out):
        run(lambda: self.make(out), [TABLE])
        copy = out.parent / "copy"
        copy.mkdir()
        (copy / visible(out)[0]).write_bytes((out / visible(out)[0]).read_bytes())

        with pytest.raises(ConnectorError, match=r"has part-00000-00000\..* does not list"):
            run(lambda: self.make(copy), [TABLE])
        assert self.rows(copy) == TABLE.to_pylist()
        run(lambda: self.make(copy, mode="append"), [TABLE])
        assert len(self.rows(copy)) == 2 * len(TABLE)

    @pytest.mark.parametrize("how", ["copied", "moved"])
    def test_overwrite_replaces_output_that_was_copied_or_moved_with_its_list(self, out, how):
        run(lambda: self.make(out, max_rows=100), [TABLE])
        there = out.parent / "there"
        (shutil.copytree if how == "copied" else shutil.move)(out, there)

        run(lambda: self.make(there), [TABLE.slice(0, 10)])

        assert self.rows(there) == TABLE.slice(0, 10).to_pylist()

    def test_two_writers_at_once_do_not_share_a_file(self, out):
        first, second = self.make(out), self.make(out)
        for sink in (first, second):
            sink.begin(TABLE.schema, 0, 1, 0)
            sink.write(TABLE.to_batches()[0])
        parts = [sink.prepare() for sink in (first, second)]
        assert parts[0][0]["temporary"] != parts[1][0]["temporary"]
        first.commit(parts[0])
        assert self.rows(out) == TABLE.to_pylist()
        second.commit(parts[1])
        assert self.rows(out) == TABLE.to_pylist()

    def test_the_old_parts_stay_until_commit(self, out):
        run(lambda: self.make(out), [TABLE])
        sink = self.make(out)
        sink.begin(TABLE.schema, 0, 1, 0)
        sink.write(TABLE.to_batches()[0])
        parts = sink.prepare()
        assert self.rows(out) == TABLE.to_pylist()
        sink.commit(parts)
        run(lambda: self.make(out), [TABLE.slice(0, 0)])
        assert self.rows(out) == []

    def test_append_numbers_its_parts_after_those_that_are_there(self, out):
        for i in range(3):
            run(lambda: self.make(out, mode="append"), [TABLE.slice(i * 100, 100)])
        assert len(visible(out)) == 3
        assert self.rows(out) == TABLE.to_pylist()

    def test_overwrite_replaces_also_what_was_appended(self, out):
        run(lambda: self.make(out), [TABLE])
        run(lambda: self.make(out, mode="append"), [TABLE])
        run(lambda: self.make(out), [TABLE.slice(0, 10)])
        assert self.rows(out) == TABLE.slice(0, 10).to_pylist()

    def test_mode_error_refuses_and_names_what_is_there(self, out):
        run(lambda: self.make(out, mode="error"), [TABLE] * 5)
        with pytest.raises(ConnectorError, match=r"part-00000-00000.*and 2 more; .*overwrite"):
            run(lambda: self.make(out, mode="error"), [TABLE])
        assert len(visible(out)) == 5

    def test_committing_again_changes_nothing(self, out):
        sink = self.make(out)
        sink.begin(TABLE.schema, 0, 1, 0)
        sink.write(TABLE.to_batches()[0])
        parts = sink.prepare()
        sink.commit(parts)
        sink.commit(parts)
        assert self.rows(out) == TABLE.to_pylist()

    def test_parts_of_several_commits_add_up(self, out):
        run(lambda: self.make(out, max_rows=10), [TABLE])
        sink = self.make(out)
        sink.begin(TABLE.schema, 0, 1, 0)
        for batch in TABLE.to_batches(max_chunksize=100):
            sink.write(batch)
            sink.commit(sink.prepare())
        assert self.rows(out) == TABLE.to_pylist()
        sink.abort()
        assert self.rows(out) == TABLE.to_pylist()

    def test_parts_of_lost_ranks_are_committed_by_those_that_are_left(self, out):
        shares = [TABLE.slice(100 * i, 100) for i in range(3)]
        parts, positions = [], []
        for rank, share in enumerate(shares):
            sink = self.make(out)
            sink.begin(TABLE.schema, rank, 3, 1)
            sink.write(share.to_batches()[0])
            parts += sink.prepare()
            positions.append(sink.position())
        survivor = self.make(out)
        survivor.resume(TABLE.schema, 0, 1, 2, {"parts": parts, "positions": positions})
        assert self.rows(out) == TABLE.to_pylist()

    def test_a_part_that_is_gone_is_named(self, out):
        sink = self.make(out)
        sink.begin(TABLE.schema, 0, 1, 0)
        parts = sink.prepare()
        (out / parts[0]["temporary"]).unlink()
        with pytest.raises(ConnectorError, match=r"part 'part-00000-00000.* is gone"):
            sink.commit(parts)

    def test_an_output_directory_that_is_a_file_is_named(self, tmp_path):
        (tmp_path / "out").touch()
        with pytest.raises(ConnectorError, match="cannot make the output directory"):
            self.make(tmp_path / "out").begin(TABLE.schema, 0, 1, 0)

    def test_a_directory_that_vanishes_is_named(self, out):
        sink = self.make(out)
        sink.begin(TABLE.schema, 0, 1, 0)
        out.rmdir()
        sink.write(TABLE.to_batches()[0])
        with pytest.raises(ConnectorError, match="cannot write"):
            sink.prepare()
        sink.abort()

    def test_options_that_make_no_sense_are_refused(self, out):
        with pytest.raises(ValueError, match="mode 'replace'"):
            self.make(out, mode="replace")
        with pytest.raises(ValueError, match="max_rows"):
            self.make(out, max_rows=0)

    def test_it_may_be_used_again(self, out):
        sink = self.make(out)
        for n_rows in (10, 20):
            sink.begin(TABLE.schema, 0, 1, 0)
            sink.write(TABLE.slice(0, n_rows).to_batches()[0])
            sink.commit(sink.prepare())
            assert len(self.rows(out)) == n_rows
