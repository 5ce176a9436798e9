"""Which event time and which order rows have, whatever they have been through: random jobs."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

import hpcstream as hs
from hpcstream import col
from hpcstream.testing import run_ranks

MORE = int(os.environ.get("HPCSTREAM_TEST_EXAMPLES", "1"))
"""How many times as many examples to try as by default."""

Rows = list[dict[str, Any]]
"""Rows in their order, each with ``v``, ``truth`` (its event time) and the like."""

TABLE = pa.table({"v": [0, 1, 1, 2, 2, 2], "w": [0, 10, 11, 20, 21, 22]})


@dataclass(frozen=True)
class Step:
    """Something to do to a stream, and to the list of its rows."""

    name: str
    apply: Callable[[hs.Stream], hs.Stream]
    naive: Callable[[Rows], Rows] = lambda rows: rows
    needs_column: bool = False
    """The function returns another number of rows, so a column must hold event time."""


def twice(row):
    return [{**row, "v": 2 * row["v"] + i} for i in range(2)]


def hourly(stream):
    windows = stream.key_by("v").window(hs.tumbling("5s")).agg(s=col("s").min())
    return windows.with_columns(truth=col("window_end") - 1)


def naive_hourly(rows):
    groups: dict[tuple[int, int], list[str]] = {}
    for row in rows:
        groups.setdefault((row["truth"] // 5 * 5 + 4, row["v"]), []).append(row["s"])
    return [{"v": v, "truth": end, "s": min(texts)} for (end, v), texts in sorted(groups.items())]


def joined(stream):
    return stream.join_table(TABLE, on="v").with_columns(v=col("w")).drop("w")


def naive_joined(rows):
    pairs = list(zip(TABLE["v"].to_pylist(), TABLE["w"].to_pylist(), strict=True))
    return [{**row, "v": w} for row in rows for v, w in pairs if v == row["v"]]


def even(batch):
    return batch.filter(pc.equal(pc.bit_wise_and(batch["v"], 1), 0))


def tripled(batch):
    return batch.take(pa.array([i for i in range(batch.num_rows) for _ in range(3)], pa.int32()))


ROW_BY_ROW = [
    Step("identity", lambda s: s.map_batches(lambda batch: batch)),
    Step("cut", lambda s: s.map_batches(lambda b: [b.slice(0, 1), b.slice(1)])),
    Step("same rows", lambda s: s.flat_map(lambda row: row)),
    Step(
        "twice", lambda s: s.flat_map(twice), lambda rows: [r for row in rows for r in twice(row)]
    ),
    Step("joined", joined, naive_joined),
    Step(
        "filter", lambda s: s.filter(col("v") != 1), lambda rows: [r for r in rows if r["v"] != 1]
    ),
    Step("hourly", hourly, naive_hourly),
    Step("timed", lambda s: s.with_event_time("truth", "100s", unit="s")),
    Step(
        "beside itself",
        lambda s: s.map_batches(lambda batch: batch).union(s),
        lambda rows: rows + rows,
    ),
    Step("rebalance", lambda s: s.rebalance()),
    Step("elsewhere", lambda s: s.on(ranks=[1]).with_columns(v=col("v")).on(ranks=[0, 1, 2])),
]
BY_BATCHES = [
    Step(
        "even",
        lambda s: s.map_batches(even),
        lambda rows: [row for row in rows if row["v"] % 2 == 0],
        needs_column=True,
    ),
    Step(
        "tripled",
        lambda s: s.map_batches(tripled),
        lambda rows: [row for row in rows for _ in range(3)],
        needs_column=True,
    ),
]


def on_another_column(change):
    """Return a change of a column that may hold event time; nothing where there is none."""

    def apply(stream):
        others = [name for name in stream.schema.names if name not in ("v", "truth", "s")]
        column = "window_end" if "window_end" in others else (others or [None])[0]
        return stream if column is None else change(stream, column)

    return apply


COLUMNS = [
    Step("replaced", on_another_column(lambda s, name: s.with_columns(**{name: col("v")}))),
    Step("renamed", on_another_column(lambda s, name: s.rename({name: f"{name}_"}))),
    Step("copied", on_another_column(lambda s, name: s.with_columns(copy=col(name)))),
    Step("dropped", lambda s: s.select("v", "truth", "s")),
]


def holds_time(stream):
    return stream._node.time.column is not None


def source_of(job, batches):
    columns = ["t", "v", "truth", "s"]
    schema = pa.schema([(c, pa.string() if c == "s" else pa.int64()) for c in columns])
    parts = [pa.RecordBatch.from_pylist(rows, schema) for rows in batches if rows]
    return job.from_batches(
        parts or [pa.RecordBatch.from_pylist([], schema)],
        event_time="t",
        event_time_unit="s",
        watermark_delay="100s",
    )


def rows_of_batches(times):
    """Return rows with numbers of their own; ``v`` goes up and down with them."""
    numbered = iter(range(10_000))
    return [
        [
            {"t": t, "v": (7 * n) % 5, "truth": t, "s": f"{(3 * n) % 7}"}
            for t, n in zip(part, numbered, strict=False)
        ]
        for part in times
    ]


batches_of_times = st.lists(
    st.lists(st.integers(0, 12), min_size=1, max_size=6), min_size=1, max_size=5
)
options = st.fixed_dictionaries(
    {
        "batch_rows": st.sampled_from([1, 2, 5, 64]),
        "local_aggregation": st.booleans(),
        "seed": st.integers(0, 99),
    }
)


@settings(max_examples=50 * MORE)
@given(
    times=batches_of_times,
    steps=st.lists(st.sampled_from(ROW_BY_ROW + BY_BATCHES + COLUMNS * 2), max_size=6),
    ranks=st.integers(1, 3),
    options=options,
)
def test_event_time_stays_with_its_row_through_functions_windows_and_columns(
    times, steps, ranks, options
):
    batches = rows_of_batches(times)
    done: list[Step] = []

    def build():
        job = hs.Job("times")
        stream = source_of(job, batches)
        done.clear()
        for step in steps:
            if step.needs_column and not holds_time(stream):
                continue
            stream = step.apply(stream)
            done.append(step)
        truth = col("truth")
        results = stream.window_all(hs.tumbling("1s")).agg(
            n=hs.count(), least=truth.min(), most=truth.max(), vs=col("v").sum()
        )
        return job, results.collect()

    run = run_ranks(ranks, build, **options)
    note(f"{[step.name for step in done]}")

    rows = [row for part in batches for row in part]
    for step in done:
        rows = step.naive(rows)
    expected: dict[int, list[int]] = {}
    for row in rows:
        expected.setdefault(row["truth"], []).append(row["v"])
    found = {row["window_start"]: row for row in run.table.to_pylist()}
    assert {t: (len(vs), t, t, sum(vs)) for t, vs in expected.items()} == {
        t: (row["n"], row["least"], row["most"], row["vs"]) for t, row in found.items()
    }
    assert run.result.late_rows == 0


def edges_of(batches, steps, windowed, ranks, options):
    """Return the first and last values of windows behind some steps."""

    def build():
        job = hs.Job("ties")
        stream = source_of(job, batches[0])
        if len(batches) > 1:
            stream = stream.union(source_of(job, batches[1]))
        for step in steps:
            stream = step.apply(stream)
        names = {"v": col("v"), "s": col("s")}
        calls = {f"first_{n}": c.first() for n, c in names.items()}
        calls |= {f"last_{n}": c.last() for n, c in names.items()}
        return job, windowed(stream).agg(**calls).collect()

    table = run_ranks(ranks, build, **options).table
    return sorted(table.to_pylist(), key=repr)


ties = st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=7), min_size=1, max_size=6)
WINDOWS = [
    lambda s: s.window_all(hs.tumbling("100s")),
    lambda s: s.with_columns(g=col("truth") % 2).key_by("g").window(hs.sliding("10s", "5s")),
]


@settings(max_examples=30 * MORE)
@given(
    times=st.tuples(ties) | st.tuples(ties, ties),
    steps=st.lists(st.sampled_from(ROW_BY_ROW + BY_BATCHES), max_size=4),
    windowed=st.sampled_from(WINDOWS),
    options=options,
)
def test_first_and_last_of_ties_are_the_same_on_any_number_of_ranks(
    times, steps, windowed, options
):
    batches = [rows_of_batches(part) for part in times]
    note(f"{[step.name for step in steps]}")

    one, *others = (edges_of(batches, steps, windowed, ranks, options) for ranks in (1, 2, 3))

    assert others == [one, one]


UNORDERED = {"rebalance", "hourly"}
"""Behind these a function of batches goes by values: rows of several splits are mixed."""


@settings(max_examples=30 * MORE)
@given(
    times=st.tuples(ties) | st.tuples(ties, ties),
    steps=st.lists(st.sampled_from(ROW_BY_ROW + BY_BATCHES), max_size=4),
    ranks=st.integers(1, 3),
    options=options,
)
def test_first_and_last_of_ties_go_by_source_split_row_and_place_in_it(
    times, steps, ranks, options
):
    by_batches = {"identity", "cut", "even", "tripled", "beside itself"}
    kept = [
        step
        for at, step in enumerate(steps)
        if step.name not in by_batches or not UNORDERED & {s.name for s in steps[:at]}
    ]
    note(f"{[step.name for step in kept]}")
    batches = [rows_of_batches(part) for part in times]
    rows = [row for source in batches for part in source for row in part]
    for step in kept:
        rows = step.naive(rows)

    found = edges_of(batches, kept, WINDOWS[0], ranks, options)

    if not rows:
        assert found == []
        return
    (edges,) = found
    at = list(enumerate(rows))
    first = min(at, key=lambda pair: (pair[1]["truth"], pair[0]))[1]
    last = max(at, key=lambda pair: (pair[1]["truth"], pair[0]))[1]
    for name in "vs":
        assert edges[f"first_{name}"] == first[name]
        assert edges[f"last_{name}"] == last[name]


def test_a_function_that_changes_the_number_of_rows_without_the_column_is_refused_by_name():
    def build():
        job = hs.Job("refused")
        stream = source_of(job, rows_of_batches([[1, 2, 3]])).with_columns(t=col("v"))
        tripled_rows = stream.map_batches(tripled)
        return job, tripled_rows.window_all(hs.tumbling("1s")).agg(hs.count()).collect()

    with pytest.raises(ValueError, match=r"returned 9 rows for 3, and no column holds.*with_col"):
        run_ranks(1, build)


def test_event_time_that_nobody_reads_is_no_reason_to_refuse_a_function():
    def build():
        job = hs.Job("not read")
        stream = source_of(job, rows_of_batches([[1, 2, 3]])).with_columns(t=col("v"))
        return job, stream.map_batches(tripled).collect()

    assert run_ranks(1, build).table["v"].to_pylist() == [0] * 3 + [2] * 3 + [4] * 3
