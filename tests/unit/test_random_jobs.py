"""Random jobs on random rows: the rows that a naive reference gives, and none lost."""

from __future__ import annotations

import datetime as dt
import math
import os
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import given, note, settings
from hypothesis import strategies as st

import hpcstream as hs
from hpcstream import PlanError, col
from hpcstream.aggregates.base import AggregateCall
from hpcstream.testing import run_ranks
from tests.unit.naive_jobs import Judged, NaiveWindows, aggregate, arrivals, judge

MORE = int(os.environ.get("HPCSTREAM_TEST_EXAMPLES", "1"))
"""How many times as many examples to try as by default."""

DAY = dt.date(1970, 1, 1)
NOON = dt.datetime(1969, 12, 31, 12)
SECOND = dt.timedelta(seconds=1)

POOLS: list[tuple[pa.DataType, list[Any]]] = [
    (pa.int8(), [0, 1, -1, 127, -128]),
    (pa.int32(), [0, 1, -1, 2**31 - 1, -(2**31)]),
    (pa.int64(), [0, 1, -1, 2**63 - 1, -(2**63)]),
    (pa.uint64(), [0, 1, 2**63, 2**64 - 1]),
    (pa.bool_(), [False, True]),
    (pa.string(), ["", "a", "ab", "\0", "a longer key than fits in a word", "ä"]),
    (pa.large_string(), ["", "b", "a longer key than fits in a word"]),
    (pa.binary(), [b"", b"\0", b"\0\0", b"\xff"]),
    (pa.date32(), [DAY, DAY - dt.timedelta(1), DAY + dt.timedelta(9000)]),
    (pa.timestamp("us"), [NOON, NOON + SECOND, NOON + 90000 * SECOND]),
    (pa.decimal128(9, 2), [Decimal("0.00"), Decimal("-1.25"), Decimal("99.50")]),
    (pa.dictionary(pa.int32(), pa.string()), ["x", "y", "z"]),
]
"""Key types, and values that are easily taken for each other."""

small_ints = st.integers(-50, 50)
VALUES: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.int8(), small_ints),
    (pa.int64(), small_ints | st.integers(-(2**52), 2**52)),
    (pa.uint32(), st.integers(0, 2**32 - 1)),
    (pa.float32(), small_ints.map(float)),
    (pa.float64(), st.floats(-1e6, 1e6).map(lambda x: round(x, 3) + 0.0)),
    (pa.string(), st.sampled_from(["", "a", "b", "ab", "b" * 20])),
    (pa.date32(), st.integers(-9, 9).map(lambda days: DAY + dt.timedelta(days))),
    (pa.timestamp("ms"), st.integers(-9, 9).map(lambda seconds: NOON + seconds * SECOND)),
    (pa.decimal128(12, 3), small_ints.map(lambda n: Decimal(n).scaleb(-3))),
]

TIMES = [
    (pa.int64(), "ms"),
    (pa.int64(), "us"),
    (pa.timestamp("s"), "s"),
    (pa.timestamp("us"), "us"),
    (pa.date32(), "d"),
]

COLUMN = col("value")
CALLS = {
    "rows": hs.count(),
    "count": COLUMN.count(),
    "sum": COLUMN.sum(),
    "mean": COLUMN.mean(),
    "min": COLUMN.min(),
    "max": COLUMN.max(),
    "var": COLUMN.var(),
    "var_pop": COLUMN.var(ddof=0),
    "std": COLUMN.std(),
    "first": COLUMN.first(),
    "last": COLUMN.last(),
    "count_distinct": COLUMN.count_distinct(),
    "median": COLUMN.median(),
    "quantile": COLUMN.quantile(0.3),
}
ALWAYS = {"rows"}


@dataclass(frozen=True)
class RandomJob:
    """One job: its input, what it computes, and how it is run."""

    schema: pa.Schema
    unit: str
    batches: list[list[dict[str, Any]]]
    one_split: bool
    delay: int
    keys: tuple[str, ...]
    windows: NaiveWindows
    calls: dict[str, AggregateCall]
    keep_above: int | None
    options: dict[str, Any]

    def ticks(self, n: int) -> str:
        return f"{n}{self.unit}"

    def splits(self) -> list[list[dict[str, Any]]]:
        splits = [batch for batch in self.batches if batch]
        return [[row for split in splits for row in split]] if self.one_split else splits

    def keeps(self, row: dict[str, Any]) -> bool:
        return self.keep_above is None or row["id"] % 7 > self.keep_above

    def build(self) -> tuple[hs.Job, Collected]:
        job = hs.Job("random")
        batches = [self._batch(rows) for rows in self.batches]
        rows = job.from_batches(
            (lambda: iter(batches)) if self.one_split else batches,
            event_time="time",
            watermark_delay=self.ticks(self.delay),
            event_time_unit=self.unit if self.schema.field("time").type == pa.int64() else None,
        )
        if self.keep_above is not None:
            rows = rows.filter(col("id") % 7 > self.keep_above)
        size, slide, offset = (
            self.ticks(n) for n in (self.windows.size, self.windows.slide, self.windows.offset)
        )
        window = hs.tumbling(size, offset) if size == slide else hs.sliding(size, slide, offset)
        windowed = rows.key_by(*self.keys).window(window) if self.keys else rows.window_all(window)
        results = windowed.allowed_lateness(self.ticks(self.windows.lateness)).agg(**self.calls)
        return job, Collected(results.collect(), results.late().collect())

    def _batch(self, rows: list[dict[str, Any]]) -> pa.RecordBatch:
        arrays = []
        for field in self.schema:
            column = [row[field.name] for row in rows]
            if field.name == "time" and field.type != pa.int64():
                width = pa.int32() if pa.types.is_date32(field.type) else pa.int64()
                arrays.append(pa.array(column, width).cast(field.type))
            else:
                arrays.append(pa.array(column, field.type))
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


class Collected:
    """The results and the late rows of a run."""

    def __init__(self, results: Any, late: Any) -> None:
        self._results = results
        self._late = late

    @property
    def table(self) -> pa.Table:
        return self._results.table

    @property
    def late_ids(self) -> list[int]:
        return sorted(self._late.table["id"].to_pylist())


@st.composite
def random_batches(draw, keys, pools, values, disorder: int) -> list[list[dict[str, Any]]]:
    fields = [st.none() | st.sampled_from(pool) for _, pool in pools]
    row = st.tuples(st.integers(0, 3), st.integers(0, disorder), st.none() | values, *fields)
    batches, at, n_rows = [], draw(st.integers(-60, 20)), 0
    for drawn in draw(st.lists(st.lists(row, max_size=30), min_size=1, max_size=6)):
        batch = []
        for step, back, value, *key in drawn:
            at += step
            batch.append(
                {
                    "id": n_rows,
                    "time": at - back,
                    "value": value,
                    **dict(zip(keys, key, strict=True)),
                }
            )
            n_rows += 1
        batches.append(batch)
    return batches


@st.composite
def random_windows(draw, tumbling_only: bool) -> NaiveWindows:
    slide = draw(st.integers(1, 12))
    size = slide if tumbling_only else slide + draw(st.sampled_from([0, 0, 1, 2, 5, slide]))
    return NaiveWindows(size, slide, draw(st.integers(0, 20)), draw(st.sampled_from([0, 0, 2, 9])))


@st.composite
def random_jobs(draw, late_rows: bool, tumbling_only: bool = False) -> RandomJob:
    n_keys = draw(st.sampled_from([0, 1, 1, 1, 2, 3]))
    pools = draw(st.lists(st.sampled_from(POOLS), min_size=n_keys, max_size=n_keys))
    keys = tuple(f"key_{i}" for i in range(n_keys))
    value_type, values = draw(st.sampled_from(VALUES))
    time_type, unit = draw(st.sampled_from(TIMES))
    schema = pa.schema(
        [
            ("id", pa.int64()),
            ("time", time_type),
            *((name, data_type) for name, (data_type, _) in zip(keys, pools, strict=True)),
            ("value", value_type),
        ]
    )

    disorder = draw(st.sampled_from([3, 12] if late_rows else [0, 3, 12]))
    batches = draw(random_batches(keys, pools, values, disorder))
    delay = draw(st.integers(0, 2)) if late_rows else disorder

    windows = draw(random_windows(tumbling_only))
    fitting = [name for name in CALLS if name not in ALWAYS and _fits(CALLS[name], schema)]
    chosen = draw(st.lists(st.sampled_from(fitting), max_size=5, unique=True))
    return RandomJob(
        schema=schema,
        unit=unit,
        batches=batches,
        one_split=draw(st.sampled_from([True, True, False] if late_rows else [True, False])),
        delay=delay,
        keys=keys,
        windows=windows,
        calls={"rows": CALLS["rows"], **{name: CALLS[name] for name in chosen}},
        keep_above=draw(st.sampled_from([None, None, 1, 6])),
        options={
            "batch_rows": draw(st.sampled_from([1, 2, 3, 7] if late_rows else [1, 2, 7, 64])),
            "rounds_in_flight": draw(st.integers(1, 4)),
            "local_aggregation": draw(st.booleans()),
            "step_bytes": draw(st.sampled_from([256, 1 << 20])),
            "seed": draw(st.integers(0, 999)),
            "max_delay": draw(st.sampled_from([0, 0, 5])),
        },
    )


def _fits(call: AggregateCall, schema: pa.Schema) -> bool:
    try:
        call.type_in(schema)
    except PlanError:
        return False
    return True


def run(job: RandomJob, ranks: int) -> tuple[hs.JobResult, list[dict[str, Any]], list[int]]:
    """Return the result, the last row of each key and window, and the ids of late rows."""
    note(f"{ranks} ranks: {job}")
    done = run_ranks(ranks, job.build, **job.options)
    table = done.table
    for name in ("window_start", "window_end"):
        position = table.schema.get_field_index(name)
        column = table.column(position)
        if pa.types.is_date32(column.type):
            column = column.cast(pa.int32())
        table = table.set_column(position, name, column.cast(pa.int64()))
    last = {
        tuple(row[name] for name in (*job.keys, "window_start")): row for row in table.to_pylist()
    }
    return done.result, list(last.values()), done.handles[0].late_ids


def expected_rows(job: RandomJob, judged: Judged) -> list[dict[str, Any]]:
    return [
        {
            **dict(zip((*job.keys, "window_start"), group, strict=True)),
            "window_end": group[-1] + job.windows.size,
            **{
                name: aggregate(call.function, "value", rows, call.parameters)
                for name, call in job.calls.items()
            },
        }
        for group, rows in judged.groups.items()
    ]


def assert_same(
    found: list[dict[str, Any]], expected: list[dict[str, Any]], job: RandomJob
) -> None:
    def place(row: dict[str, Any]) -> str:
        return repr([row[name] for name in ("window_start", *job.keys)])

    found, expected = sorted(found, key=place), sorted(expected, key=place)
    assert [place(row) for row in found] == [place(row) for row in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert same(one[name], other[name]), (name, one, other)


def same(found: Any, expected: Any) -> bool:
    if isinstance(found, float) and expected is not None:
        return math.isclose(found, expected, rel_tol=1e-9, abs_tol=1e-6)
    return bool(found == expected)


@settings(max_examples=60 * MORE)
@given(random_jobs(late_rows=False), st.integers(1, 6))
def test_a_job_without_late_rows_gives_the_same_rows_on_any_number_of_ranks(job, ranks):
    kept = [(row, -math.inf) for batch in job.batches for row in batch if job.keeps(row)]

    result, rows, late = run(job, ranks)

    assert_same(rows, expected_rows(job, judge(kept, job.keys, job.windows)), job)
    assert late == []
    assert result.late_rows == 0
    assert result.rows_in == sum(map(len, job.batches))


@settings(max_examples=60 * MORE)
@given(random_jobs(late_rows=True))
def test_one_rank_judges_every_row_by_the_watermark_of_the_rounds_before(job):
    came = arrivals(job.splits(), job.options["batch_rows"], job.delay)
    judged = judge(((row, mark) for row, mark in came if job.keeps(row)), job.keys, job.windows)

    result, rows, late = run(job, 1)

    assert late == [row["id"] for row in judged.late]
    assert result.late_rows == len(late)
    assert_same(rows, expected_rows(job, judged), job)


@settings(max_examples=60 * MORE)
@given(random_jobs(late_rows=True, tumbling_only=True), st.integers(1, 6))
def test_each_row_is_in_one_result_or_late_or_filtered(job, ranks):
    filtered = sum(not job.keeps(row) for batch in job.batches for row in batch)

    result, rows, late = run(job, ranks)

    counted = sum(row["rows"] for row in rows)
    assert result.rows_in == counted + len(late) + filtered
    assert result.late_rows == len(late)
    assert len(set(late)) == len(late)
