"""The plans whose texts and identities are kept in files: one of each shape that there is."""

from __future__ import annotations

import functools

import pyarrow as pa

import hpcstream as hs
from hpcstream import col, when


def columns(start, n):
    numbers = range(start, start + n)
    return {
        "t": list(numbers),
        "key": [f"key-{i * 7919 % 23}" for i in numbers],
        "x": [(i * 31 % 101) / 7 for i in numbers],
        "n": [i * 13 % 17 for i in numbers],
    }


def generated(job, **options):
    return job.generate(
        columns, rows=6000, splits=7, event_time="t", event_time_unit="ms", **options
    )


def same_rows(batch, label):
    return batch


def same_row(row):
    return row


def stateless(job):
    rows = generated(job, watermark_delay="20ms")
    rows = rows.with_columns(twice=col("n") * 2, late=when(col("x") > 3).then("y").otherwise(None))
    rows.filter((col("n") > 3) & col("key").is_in(["key-1", "key-2"])).drop("x").collect()


def keyed(job):
    windows = generated(job).filter(col("x") > 0.2).key_by("key", "n").window(hs.tumbling("1s"))
    windows.agg(rows=hs.count(), total=(col("x") + 1).sum(), worst=col("n").max()).collect()


def sliding(job):
    windows = generated(job).key_by("key").window(hs.sliding("1s", "250ms"))
    windows.allowed_lateness("2s").agg(first=col("n").first(), last=col("x").last()).collect()


def cumulating(job):
    windows = generated(job).key_by("key").window(hs.cumulate("1s", "100ms", only_changed=True))
    windows.agg(total=col("x").sum(), middle=col("n").max()).collect()


def calendar(job):
    windows = generated(job).key_by("key").window(hs.cumulate("1mo", "1d", tz="Asia/Tokyo"))
    windows.agg(total=col("x").sum()).collect()


def sessions(job):
    windows = generated(job).key_by("key").window(hs.session("50ms"))
    windows.agg(rows=hs.count(), total=col("x").sum()).collect()


def sessions_of_all_rows(job):
    windows = generated(job).window_all(hs.session("50ms"))
    windows.agg(rows=hs.count(), last=col("n").max()).collect()


def kept_values(job):
    windows = generated(job).key_by("key").window(hs.tumbling("1s", offset="100ms"))
    windows.agg(median=col("x").median(), q=col("x").quantile(0.9)).named("medians").collect()


def all_rows(job):
    windows = generated(job).window_all(hs.tumbling("700ms"))
    windows.agg(total=col("x").sum(), spread=col("x").std(ddof=0)).collect()


def all_rows_kept(job):
    generated(job).window_all(hs.tumbling("700ms")).agg(median=col("x").median()).collect()


def chained(job):
    sums = generated(job).rebalance().key_by("n").window(hs.tumbling("100ms"))
    totals = sums.agg(total=col("x").sum()).key_by("n").window(hs.tumbling("1s"))
    totals.agg(total=col("total").sum(), last=col("total").last()).collect()


def late_rows(job):
    counts = generated(job).key_by("key").window(hs.tumbling("1s")).agg(rows=hs.count())
    counts.collect()
    counts.late().print(label="late")


def union(job):
    rows = generated(job)
    few = rows.filter(col("n") > 3).select("key", "x").union(rows.select("key", "x"))
    few.filter(col("x") > 1).collect()


def joined(job):
    table = pa.table({"key": ["key-1", "key-2"], "place": ["here", "there"]})
    rows = generated(job).filter(col("n") != 5).join_table(table, on="key", how="left")
    rows.key_by("place").window(hs.tumbling("1s")).agg(rows=hs.count()).collect()


def functions(job):
    rows = generated(job).map_batches(functools.partial(same_rows, label="x"))
    rows = rows.flat_map(same_row).map_batches(lambda batch: batch)
    rows.key_by("key").window(hs.tumbling("1s")).agg(rows=hs.count()).collect()


def event_time(job):
    rows = generated(job).with_event_time("n", "5s", unit="s").on(ranks=[0, 1])
    rows.key_by("key").window(hs.tumbling("10s")).agg(rows=hs.count()).print(limit=5)


def several_sinks(job):
    rows = generated(job)
    rows.write_parquet("out/rows", mode="overwrite")
    rows.on(ranks=0).filter(col("x") > 1).write_csv("out/some")
    rows.select("key").print()


def kept_rows(job):
    first = generated(job).key_by("key").deduplicate("1s")
    first.side("late").print(label="late")
    limited = first.key_by("key", "n").rate_limit(3, "10s", burst=5)
    limited.select("key", "x").collect()
    limited.side("limited").key_by("n").deduplicate(None, order="arrival").collect()


def ordered_columns(job):
    keyed = generated(job).key_by("key")
    columns = keyed.with_columns(
        change=col("x").diff() / col("x").shift(),
        total=col("n").cum_sum(),
        was=col("key").shift(3, fill="none"),
        mean=(col("x") + 1).ewm_mean("5s"),
        ttl="1h",
    )
    columns.late().print(label="late")
    columns.select("key", "change", "total").collect()


JOBS = [
    stateless,
    keyed,
    sliding,
    cumulating,
    calendar,
    sessions,
    sessions_of_all_rows,
    kept_values,
    all_rows,
    all_rows_kept,
    chained,
    late_rows,
    union,
    joined,
    functions,
    event_time,
    several_sinks,
    kept_rows,
    ordered_columns,
]
