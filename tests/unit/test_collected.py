"""The rows of `collect()`: where they are, and what is said where they are not."""

from __future__ import annotations

import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream.testing.ranks import run_ranks

TABLE = pa.table({"t": list(range(25)), "x": ["a"] * 25})


def build(everywhere=False):
    job = hs.Job("collects")
    stream = job.from_batches(TABLE, event_time="t", event_time_unit="ms")
    return job, stream.collect(everywhere=everywhere)


def test_there_are_no_rows_before_the_job_runs_and_all_after_it():
    job, collected = build()
    with pytest.raises(RuntimeError, match=r"^collect\(\): there are no rows before job\.run\(\)$"):
        _ = collected.table

    result = job.run(show=False)

    assert collected.table == TABLE
    assert result.is_root
    assert job.last_result is result


def test_a_job_that_failed_has_no_rows_and_says_so():
    job = hs.Job("fails")
    stream = job.from_batches(TABLE)
    collected = stream.with_columns(y=hs.col("x").cast("int64")).collect()
    with pytest.raises(pa.ArrowInvalid):
        job.run(show=False)

    with pytest.raises(RuntimeError, match="not ended, or was stopped or failed"):
        _ = collected.table


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_rows_collected_everywhere_are_those_of_rank_0(ranks):
    run = run_ranks(ranks, lambda: build(everywhere=True), batch_rows=7)

    assert all(handle.table == run.table for handle in run.handles)
    assert run.table.sort_by("t") == TABLE


def test_of_no_rows_none_are_everywhere():
    def nothing():
        job = hs.Job("none")
        return job, job.from_batches(TABLE).filter(hs.lit(False)).collect(everywhere=True)

    run = run_ranks(2, nothing)

    assert [handle.table.num_rows for handle in run.handles] == [0, 0]
    assert run.handles[1].table.schema == TABLE.schema


def test_it_shows_its_first_rows():
    job, collected = build()
    assert repr(collected) == (
        "Collected (t: int64, x: string): there are no rows before job.run()"
    )
    assert "no rows before" in collected._repr_html_()

    job.run(show=False)

    lines = repr(collected).splitlines()
    assert lines[:3] == ["Collected: 25 rows", "t | x", "1970-01-01 00:00:00 | a"]
    assert lines[-1] == "... 15 more"
    assert collected._repr_html_().count("<tr>") == 11


def test_jobs_streams_and_results_are_shown_with_what_they_do():
    job, _ = build()
    assert repr(hs.Job("idle")) == "Job('idle'): no stream ends in a sink yet"
    assert repr(job).splitlines()[-1] == "    -> collect()"
    stream = job.from_batches(TABLE, event_time="t", event_time_unit="ms")
    head = "Stream of job 'collects': t: int64, x: string; event time 't' [ms]"
    assert repr(stream).startswith(head)
    keyed = stream.key_by("x")
    assert repr(keyed).startswith(f"KeyedStream by x of a {head}")
    windows = keyed.window(hs.tumbling("1s"))
    assert repr(windows).startswith("WindowedStream by x in tumbling(1s) of a Stream")
    plan = job.explain()
    assert isinstance(plan, str)
    assert repr(plan) == str(plan)
    result = job.run(show=False)
    assert repr(result).startswith("JobResult('collects' finished on 1 rank in ")
    for one in (job, stream, keyed, windows, plan, result):
        assert one._repr_html_().startswith("<pre>")
    many = job.from_batches(pa.table({f"c{i}": [i] for i in range(40)}))
    assert "... 28 more columns" in repr(many)
