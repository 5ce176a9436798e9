"""The planner: what `explain` shows, and what it refuses."""

import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream import col
from hpcstream.graph.planner import plan

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

    with pytest.raises(hs.PlanError, match="same target"):
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


LABELS = pa.table({"k": ["a", "c"], "x": [10, 30]})


def test_a_filter_before_a_join_on_strings_is_part_of_the_join():
    job = hs.Job("joined")
    result = rows(job).filter(col("x") > 1).select("k").join_table(LABELS, on="k").collect()

    plan = job.explain(ranks=1)
    job.run(show=False)

    assert "1 rows" not in plan
    assert "join_table(inner on k; 2 rows) where col('x') > 1" in plan
    assert "operator filter" not in plan
    assert result.table.to_pydict() == {"k": ["a"], "x": [10]}  # of the table: that was dropped


@pytest.mark.parametrize("why", ["others read it", "a column is made", "the key is a number"])
def test_a_filter_before_a_join_stays_where_it_cannot_be_part_of_it(why):
    job = hs.Job("apart")
    stream, table, on = rows(job).filter(col("x") > 1), LABELS, "k"
    if why == "others read it":
        stream.collect()
    elif why == "a column is made":
        stream = stream.with_columns(x=col("x") * 2)
    else:
        table, on = pa.table({"unused": [0], "label": ["zero"]}), "unused"
    stream.join_table(table, on=on).collect()

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


def test_what_is_left_out_between_stream_and_aggregate_is_named():
    stream = rows(hs.Job("short"))

    with pytest.raises(hs.PlanError, match="key_by"):
        stream.window(hs.tumbling("1s"))
    with pytest.raises(hs.PlanError, match="which windows"):
        stream.key_by("k").agg(n=hs.count())
    with pytest.raises(hs.PlanError, match="on the result"):
        stream.key_by("k").window(hs.tumbling("1s")).late()


GUARDED = pa.table({"a": [10, 20, 30, 40], "b": [0, 2, 0, 4], "s": ["1", "x", "3", "y"]})


@pytest.mark.parametrize("is_file", [False, True])
def test_a_filter_guards_those_after_it(is_file, tmp_path):
    import pyarrow.parquet as pq

    pq.write_table(GUARDED, tmp_path / "rows.parquet")
    job = hs.Job("guarded")
    read = job.read_parquet(tmp_path / "rows.parquet") if is_file else job.from_batches(GUARDED)
    by_zero = read.filter(col("b") != 0).with_columns(c=col("a") // col("b"))
    quotients = by_zero.filter(col("c") > 1).collect()
    numbers = read.filter(col("s").is_in(["1", "3"])).filter(col("s").cast("int64") > 0).collect()

    job.run(show=False)

    assert quotients.table["c"].to_pylist() == [10, 10]
    assert numbers.table["s"].to_pylist() == ["1", "3"]


def test_a_source_that_others_read_is_read_once(tmp_path):
    import pyarrow.parquet as pq

    pq.write_table(ROWS, tmp_path / "rows.parquet")
    job = hs.Job("shared below")
    stream = job.read_parquet(tmp_path / "rows.parquet")
    stream.filter(col("x") > 1).filter(col("k") == "a").collect()
    stream.collect()

    assert job.explain(ranks=1).count("source ") == 1


@pytest.mark.parametrize("name", ["__input_1", "__slice", "__event_time"])
def test_names_of_the_engines_own_columns_are_refused(name):
    with pytest.raises(hs.HpcstreamError, match="reserved"):
        hs.Job("reserved").from_batches(pa.table({name: [1]}))


def test_a_column_may_not_be_given_a_name_of_the_engines_own():
    with pytest.raises(hs.PlanError, match="reserved"):
        rows(hs.Job("reserved")).with_columns(__input_0=col("x"))


@pytest.mark.parametrize("ranks", [1, 2])
def test_an_aggregate_may_be_of_an_expression(ranks):
    from hpcstream.testing import run_ranks

    def build():
        job = hs.Job("expression")
        windows = rows(job).key_by("k").window(hs.tumbling("10s"))
        return job, windows.agg(double=(col("x") * 2).sum(), m=(col("x") + 1).max()).collect()

    table = run_ranks(ranks, build).table.sort_by("k")

    assert table["double"].to_pylist() == [8.0, 4.0]
    assert table["m"].to_pylist() == [4.0, 3.0]


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_key_may_be_named_as_sql_names_an_aggregate(ranks):
    from hpcstream.testing import run_ranks

    def build():
        job = hs.Job("named")
        named = rows(job).rename({"k": "sum(x)"})
        windows = named.key_by("sum(x)").window(hs.tumbling("10s"))
        return job, windows.agg(q=col("x").sum()).collect()

    table = run_ranks(ranks, build).table.sort_by("sum(x)")

    assert table["q"].to_pylist() == [4.0, 2.0]


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_union_of_rows_and_results_may_be_asked_for_its_first(ranks):
    from hpcstream.testing import run_ranks

    def build():
        job = hs.Job("mixed")
        source = rows(job)
        results = counted(source, "k").select("k", x=col("m"))
        both = source.select("k", "x").union(results)
        windows = both.key_by("k").window(hs.tumbling("10s"))
        return job, windows.agg(n=hs.count(), f=col("x").first()).collect()

    table = run_ranks(ranks, build).table.sort_by("k")

    assert table["n"].to_pylist() == [4, 2]
    assert table["f"].to_pylist() == [1.0, 2.0]


def test_a_round_is_shorter_where_functions_of_the_user_run():
    def rounds(build):
        job = hs.Job("rounds")
        batch = pa.record_batch({"n": pa.array(range(600_000))})
        build(job.from_batches([batch])).filter(col("n") < 0).collect()
        return job.run(progress=False).rounds

    plain, own = (rounds(build) for build in (lambda s: s, lambda s: s.map_batches(lambda b: b)))

    assert plain == 2  # all rows, and the end
    assert own > plain


@pytest.mark.parametrize(("aggregates_first", "moves"), [(True, False), (False, True)])
def test_rows_move_only_where_nothing_reduces_them_first(aggregates_first, moves):
    job = hs.Job("moves")
    counted(rows(job), "k").collect()

    on_two, on_one = (
        plan(job._graph(), size, local_aggregation=aggregates_first) for size in (2, 1)
    )
    assert on_two.moves_rows is moves
    assert not on_one.moves_rows
