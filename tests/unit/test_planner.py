"""The planner: what `explain` shows, and what it refuses."""

import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream import col

ROWS = pa.table({"t": [1, 2, 3], "k": ["a", "b", "a"], "x": [1.0, 2.0, 3.0], "unused": [0, 0, 0]})


def rows(job):
    return job.from_batches(ROWS, event_time="t", event_time_unit="s")


def counted(stream, *keys):
    return stream.key_by(*keys).window(hs.tumbling("1s")).agg(n=hs.count(), m=col("x").max())


def test_a_job_without_a_sink_is_refused():
    with pytest.raises(hs.PlanError, match="nothing to do"):
        hs.Job("empty").explain(ranks=2)


def test_two_sinks_into_one_place_are_refused(tmp_path):
    job = hs.Job("twice")
    rows(job).write_parquet(tmp_path / "out")
    rows(job).write_parquet(tmp_path / "else" / ".." / "out")

    with pytest.raises(hs.PlanError, match="same place"):
        job.explain(ranks=1)


def test_parquet_and_csv_may_share_a_directory(tmp_path):
    job = hs.Job("both")
    rows(job).write_parquet(tmp_path)
    rows(job).write_csv(tmp_path)

    assert "write_csv" in job.explain(ranks=1)


def test_columns_that_nothing_reads_are_not_read():
    job = hs.Job("pruned")
    counted(rows(job), "k").collect()

    plan = job.explain(ranks=2)

    assert "unused" not in plan
    assert "columns pruned" in plan


def test_a_filter_goes_into_the_scan_through_a_rename(tmp_path):
    import pyarrow.parquet as pq

    pq.write_table(ROWS, tmp_path / "rows.parquet")
    job = hs.Job("pushed")
    stream = job.read_parquet(tmp_path / "rows.parquet").rename(x="y").filter(col("y") > 1)
    stream.collect()

    plan = job.explain(ranks=1)

    assert "filter pushed into the scan: col('x') > 1" in plan
    assert "operator filter" not in plan


def test_a_filter_on_a_stream_that_others_read_stays_where_it_is(tmp_path):
    import pyarrow.parquet as pq

    pq.write_table(ROWS, tmp_path / "rows.parquet")
    job = hs.Job("shared")
    stream = job.read_parquet(tmp_path / "rows.parquet")
    stream.filter(col("x") > 1).collect()
    stream.collect()

    assert "operator filter" in job.explain(ranks=1)


def test_an_aggregate_is_split_into_local_and_final_on_several_ranks_only():
    job = hs.Job("split")
    counted(rows(job), "k").collect()

    assert "local aggregate" not in job.explain(ranks=1)
    assert "split into local and final" in job.explain(ranks=2)


def test_an_aggregate_that_needs_the_rows_themselves_is_not_split():
    job = hs.Job("median")
    rows(job).key_by("k").window(hs.tumbling("1s")).agg(m=col("x").median()).collect()

    plan = job.explain(ranks=2)

    assert "local aggregate" not in plan
    assert "[hash(k)]" in plan


def test_no_exchange_where_rows_lie_right_already():
    job = hs.Job("chained")
    daily = counted(rows(job), "k")
    daily.key_by("k").window(hs.tumbling("2s")).agg(n=col("n").sum()).collect()

    plan = job.explain(ranks=3)

    assert "exchange dropped: rows are already partitioned by k" in plan


def test_a_key_named_like_a_window_column_is_refused():
    daily = counted(rows(hs.Job("named")), "k")

    with pytest.raises(hs.PlanError, match="rename the key"):
        daily.key_by("window_start").window(hs.tumbling("2s")).agg(n=hs.count())


def test_another_key_needs_another_exchange():
    job = hs.Job("rekeyed")
    daily = counted(rows(job), "k")
    daily.key_by("n").window(hs.tumbling("2s")).agg(keys=hs.count()).collect()

    plan = job.explain(ranks=3)

    assert "exchange dropped" not in plan
    assert "hash(n)" in plan


def test_integers_without_a_key_are_reduced_and_floats_are_not():
    job = hs.Job("all")
    windows = rows(job).window_all(hs.tumbling("1s"))
    windows.agg(n=hs.count()).collect()

    assert "Iallreduce" in job.explain(ranks=2)

    job = hs.Job("floats")
    windows = rows(job).window_all(hs.tumbling("1s"))
    windows.agg(total=col("x").sum()).collect()

    assert "Iallreduce" not in job.explain(ranks=2)


def test_placement_is_shown_and_counted_modulo_the_ranks():
    job = hs.Job("placed")
    rows(job).on(ranks=[5]).filter(col("x") > 1).collect()

    assert "task 1 on rank 2" in job.explain(ranks=3)
    assert "task 1 on rank 1" in job.explain(ranks=4)
