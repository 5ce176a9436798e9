"""What users get wrong, end to end: a clear message on every rank, or a defined result."""

import datetime as dt
import json

import pyarrow as pa
import pytest
from pyarrow import parquet

import hpcstream as hs
from hpcstream import ConnectorError, PlanError, col
from hpcstream.connectors.base import Split
from hpcstream.connectors.in_process.batches import BatchesSource
from hpcstream.testing import run_ranks

NOON = dt.datetime(2001, 1, 1, 12)
MINUTE = dt.timedelta(minutes=1)
SCHEMA = pa.schema({"time": pa.timestamp("ms"), "key": pa.string(), "n": pa.int64()})

on_ranks = pytest.mark.parametrize("ranks", [1, 2])


def some_rows(n=1000):
    return pa.table(
        [[NOON + i * MINUTE for i in range(n)], [f"k{i % 5}" for i in range(n)], list(range(n))],
        schema=SCHEMA,
    )


def hourly(rows: hs.api.stream.Stream):
    return rows.key_by("key").window(hs.tumbling("1h")).agg(rows=hs.count(), sum=col("n").sum())


def run(ranks, read, then=hourly, **options):
    """Run ``then(read(job))`` and return its rows and the result."""

    def build():
        job = hs.Job("bad input")
        return job, then(read(job)).collect()

    done = run_ranks(ranks, build, **{"batch_rows": 100, **options})
    return done.table, done.result


def said(error):
    """Return an error's message with its notes."""
    return "\n".join([str(error.value), *getattr(error.value, "__notes__", [])])


class Unread(BatchesSource):
    """A source that nobody may read."""

    def open(self, split: Split, position: int = 0):
        raise AssertionError("a row was read")


# -- files -----------------------------------------------------------------------------


@on_ranks
@pytest.mark.parametrize("kept", [0, 3, 0.5, 0.99])
def test_a_truncated_parquet_file_is_named(tmp_path, ranks, kept):
    path = tmp_path / "cut.parquet"
    parquet.write_table(some_rows(), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])

    with pytest.raises(ConnectorError, match=r"cut\.parquet"):
        run(ranks, lambda job: job.read_parquet(path, event_time="time"))


@on_ranks
def test_a_parquet_file_truncated_after_the_job_was_described_is_named(tmp_path, ranks):
    for name in ("a", "b"):
        parquet.write_table(some_rows(), tmp_path / f"{name}.parquet")

    def read(job):
        rows = job.read_parquet(tmp_path, event_time="time")
        whole = (tmp_path / "b.parquet").read_bytes()
        (tmp_path / "b.parquet").write_bytes(whole[: len(whole) // 2])
        return rows

    with pytest.raises(ConnectorError, match=r"b\.parquet"):
        run(ranks, read)


@on_ranks
def test_damaged_pages_of_a_parquet_file_are_named(tmp_path, ranks):
    path = tmp_path / "damaged.parquet"
    parquet.write_table(some_rows(), path, compression="zstd", row_group_size=300)
    data = bytearray(path.read_bytes())
    start = parquet.ParquetFile(path).metadata.row_group(2).column(0).data_page_offset
    data[start : start + 60] = b"\xff" * 60
    path.write_bytes(data)

    with pytest.raises(ConnectorError) as error:
        run(ranks, lambda job: job.read_parquet(path, event_time="time"))
    assert "damaged.parquet" in said(error)


@on_ranks
def test_a_bad_number_in_a_csv_file_is_named_with_its_line_and_column(tmp_path, ranks):
    lines = [f"{NOON + i * MINUTE:%Y-%m-%d %H:%M:%S},a,{i}" for i in range(500)]
    lines[321] = "2001-01-01 12:00:00,a,3x1"
    path = tmp_path / "rows.csv"
    path.write_text("time,key,n\n" + "\n".join(lines) + "\n")

    with pytest.raises(ConnectorError, match=r"rows\.csv', line 323, column 'n'.*3x1"):
        run(
            ranks,
            lambda job: job.read_csv(path, event_time="time", column_types={"n": pa.int64()}),
        )


@on_ranks
def test_an_empty_directory_is_named(tmp_path, ranks):
    with pytest.raises(ConnectorError, match=r"has no file named \*\.parquet"):
        run(ranks, lambda job: job.read_parquet(tmp_path, event_time="time"))


# -- event time ------------------------------------------------------------------------


@on_ranks
def test_windows_without_event_time_say_how_to_name_its_column(tmp_path, ranks):
    with pytest.raises(PlanError, match=r"windows need event time.*event_time="):
        run(ranks, lambda job: job.from_batches(some_rows()))


@on_ranks
def test_event_time_of_a_column_that_is_not_there_names_those_that_are(ranks):
    with pytest.raises(PlanError, match=r"'tiem'.*time, key, n"):
        run(ranks, lambda job: job.from_batches(some_rows(), event_time="tiem"))


@on_ranks
def test_event_time_of_a_type_without_time_is_refused(ranks):
    with pytest.raises(PlanError, match="must be a timestamp, date or int64 column; got string"):
        run(ranks, lambda job: job.from_batches(some_rows(), event_time="key"))


@on_ranks
@pytest.mark.parametrize("way", ["at the source", "on the way"])
def test_a_null_event_time_is_named_with_its_row(ranks, way):
    times = some_rows()["time"].to_pylist()
    times[234] = None
    table = some_rows().set_column(0, "time", pa.array(times, pa.timestamp("ms")))

    def read(job):
        if way == "at the source":
            return job.from_batches(table, event_time="time")
        return job.from_batches(table).with_event_time("time")

    with pytest.raises(ConnectorError, match=r"event.time.* 'time'.*null") as error:
        run(ranks, read)
    assert "is_not_null" in said(error)
    if way == "at the source":
        assert "row 234" in said(error)


@on_ranks
def test_null_event_times_filtered_out_on_the_way_are_no_fault(ranks):
    times = some_rows()["time"].to_pylist()
    times[234] = None
    table = some_rows().set_column(0, "time", pa.array(times, pa.timestamp("ms")))

    rows, _ = run(
        ranks,
        lambda job: (
            job.from_batches(table).filter(col("time").is_not_null()).with_event_time("time")
        ),
    )

    assert sum(rows["rows"].to_pylist()) == 999


@on_ranks
def test_rows_from_years_ago_are_late_and_counted(ranks):
    """Time goes back by ten years in the middle of one split, and stays there."""
    table = some_rows()
    back = [t - dt.timedelta(days=3650) for t in table["time"].to_pylist()[500:]]
    times = pa.array(table["time"].to_pylist()[:500] + back, pa.timestamp("ms"))
    table = table.set_column(0, "time", times)

    def then(rows):
        return hourly(rows)

    rows, result = run(
        ranks, lambda job: job.from_batches(lambda: iter([table]), event_time="time"), then
    )

    assert result.late_rows == 500
    assert result.rows_in == 1000
    assert sum(rows["rows"].to_pylist()) == 500


@on_ranks
def test_one_row_from_the_far_future_makes_later_rows_late_and_counted(ranks):
    table = some_rows()
    times = table["time"].to_pylist()
    times[250] = dt.datetime(2999, 1, 1)
    table = table.set_column(0, "time", pa.array(times, pa.timestamp("ms")))

    rows, result = run(
        ranks, lambda job: job.from_batches(lambda: iter([table]), event_time="time")
    )

    assert result.late_rows + sum(rows["rows"].to_pylist()) == 1000
    assert result.late_rows == 700  # rounds of 100 rows: from row 300 on
    assert dt.datetime(2999, 1, 1) in rows["window_start"].to_pylist()


@on_ranks
def test_times_at_the_ends_of_what_64_bits_hold_overflow_nothing(ranks):
    table = pa.table(
        {"time": [-(2**63) + 10**7, 0, 2**63 - 10**7], "key": ["a"] * 3, "n": [1, 2, 3]}
    )

    rows, result = run(
        ranks,
        lambda job: job.from_batches(table, event_time="time", event_time_unit="us"),
        lambda rows: rows.key_by("key").window(hs.tumbling("1s")).agg(sum=col("n").sum()),
    )

    assert sorted(rows["sum"].to_pylist()) == [1, 2, 3]
    assert all(row["window_end"] - row["window_start"] == 1_000_000 for row in rows.to_pylist())
    assert result.late_rows == 0


# -- no rows ---------------------------------------------------------------------------


@on_ranks
@pytest.mark.parametrize("kind", ["parquet", "parquet without row groups", "csv", "batches"])
def test_no_rows_give_no_rows_of_the_right_schema(tmp_path, ranks, kind):
    empty = some_rows(0)
    path = tmp_path / "empty"
    if kind.startswith("parquet"):
        if kind == "parquet":
            parquet.write_table(empty, path)
        else:
            parquet.ParquetWriter(path, SCHEMA).close()
    elif kind == "csv":
        path.write_text("time,key,n\n")

    def read(job):
        if kind.startswith("parquet"):
            return job.read_parquet(path, event_time="time")
        if kind == "csv":
            return job.read_csv(path, event_time="time", schema=SCHEMA)
        return job.from_batches(empty, event_time="time")

    rows, result = run(ranks, read)

    assert rows.num_rows == result.rows_in == result.rows_out == 0
    assert rows.schema.names == ["key", "window_start", "window_end", "rows", "sum"]
    assert rows.schema.field("window_end").type == pa.timestamp("ms")


@on_ranks
def test_a_filter_that_keeps_nothing_gives_no_rows(ranks):
    rows, result = run(
        ranks,
        lambda job: job.from_batches(some_rows(), event_time="time"),
        lambda rows: hourly(rows.filter(col("n") < 0)),
    )

    assert rows.num_rows == 0
    assert result.rows_in == 1000


@on_ranks
def test_windows_over_all_of_no_rows_give_no_rows(ranks):
    rows, _ = run(
        ranks,
        lambda job: job.from_batches(some_rows(0), event_time="time"),
        lambda rows: rows.window_all(hs.tumbling("1h")).agg(n=hs.count(), mean=col("n").mean()),
    )

    assert rows.num_rows == 0


# -- names -----------------------------------------------------------------------------


WRONG_NAMES = {
    "filter": lambda rows: rows.filter(col("kye") == "a"),
    "select": lambda rows: rows.select("kye"),
    "with_columns": lambda rows: rows.with_columns(x=col("kye")),
    "drop": lambda rows: rows.drop("kye"),
    "rename": lambda rows: rows.rename({"kye": "x"}),
    "key_by": lambda rows: rows.key_by("kye").window(hs.tumbling("1h")).agg(hs.count()),
    "agg": lambda rows: rows.window_all(hs.tumbling("1h")).agg(first=col("kye").first()),
    "with_event_time": lambda rows: rows.with_event_time("kye"),
    "join_table": lambda rows: rows.join_table(pa.table({"kye": ["a"]}), on="kye"),
}


@on_ranks
@pytest.mark.parametrize("where", WRONG_NAMES)
def test_a_wrong_column_name_fails_before_any_row_is_read(ranks, where):
    with pytest.raises(PlanError) as error:
        run(
            ranks,
            lambda job: job.source(Unread(some_rows()), event_time="time"),
            WRONG_NAMES[where],
        )

    assert "'kye'" in said(error)
    assert "'key'" in said(error) or "did you mean key" in said(error)


@on_ranks
def test_columns_that_differ_between_ranks_fail_before_any_row_is_read(ranks):
    made = []

    def read(job):
        made.append(job)
        rows = job.source(Unread(some_rows()), event_time="time")
        return rows.select("key", "n") if len(made) == 1 else rows.select("n", "key")

    if ranks == 1:
        with pytest.raises(AssertionError, match="a row was read"):
            run(1, read, lambda rows: rows)
        return
    with pytest.raises(PlanError, match="rank 1") as error:
        run(ranks, read, lambda rows: rows)
    assert "select" in said(error)


# -- values ----------------------------------------------------------------------------


@on_ranks
def test_a_sum_beyond_int64_is_an_error_not_a_number(ranks):
    table = some_rows(10).set_column(2, "n", pa.array([2**62] * 10))

    with pytest.raises(hs.OverflowInAggregate, match=r"outside int64; cast"):
        run(
            ranks,
            lambda job: job.from_batches(table, event_time="time"),
            lambda rows: rows.window_all(hs.tumbling("1h")).agg(sum=col("n").sum()),
        )


@on_ranks
def test_a_bad_line_of_json_is_named(tmp_path, ranks):
    path = tmp_path / "rows.json"
    good = [json.dumps({"time": f"2001-01-01T12:{i:02}:00", "key": "a", "n": i}) for i in range(50)]
    path.write_text("\n".join([*good[:40], '{"time": "2001-01-01T12:', *good[40:]]) + "\n")

    with pytest.raises(ConnectorError, match=r"rows\.json.*line 41"):
        run(ranks, lambda job: job.read_json(path, event_time="time"))
