"""Nulls, zeros, NaN and encodings: whichever way a value is written, jobs give the same rows."""

from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from decimal import Decimal
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

import hpcstream as hs
from hpcstream import col
from hpcstream.testing import run_ranks

NAN = math.nan
POOLS: list[tuple[pa.DataType, list[Any]]] = [
    (pa.string(), ["", "a", "b", "a text that is longer than a word"]),
    (pa.large_binary(), [b"", b"\0", b"ab"]),
    (pa.int16(), [0, 1, -1]),
    (pa.int64(), [0, 1, 2**62]),
    (pa.bool_(), [False, True]),
    (pa.date32(), [dt.date(1970, 1, 1), dt.date(1969, 12, 31)]),
    (pa.decimal128(9, 2), [Decimal("0.00"), Decimal("-1.50")]),
    (pa.float64(), [0.0, -0.0, NAN, 1.5, -math.inf]),
    (pa.float32(), [0.0, -0.0, NAN, 0.5]),
]
VIEWS = {pa.string(): pa.string_view(), pa.large_binary(): pa.binary_view()}
WINDOW = hs.tumbling("1h")


@st.composite
def encodings(draw, data_type):
    """Draw a function that writes values as an array of one type, each time another way."""
    as_view = VIEWS.get(data_type, data_type)
    how = draw(st.sampled_from(["plain", "view", "runs", "dictionary", "dictionary", "dictionary"]))
    index = draw(st.sampled_from([pa.int8(), pa.int32(), pa.uint64()]))
    random = draw(st.randoms(use_true_random=False))

    def write(values):
        if how in ("plain", "view"):
            return pa.array(values, data_type if how == "plain" else as_view)
        if how == "runs":
            ends = pa.array(range(1, len(values) + 1), pa.int32())
            return pa.RunEndEncodedArray.from_arrays(ends, pa.array(values, data_type))
        entries = [*values, *random.choices([*values, None], k=3)]  # twice, unused, null
        random.shuffle(entries)
        places = [
            random.choice([i for i, e in enumerate(entries) if same(e, v)] + [None] * (v is None))
            for v in values
        ]
        return pa.DictionaryArray.from_arrays(
            pa.array(places, index), pa.array(entries, draw_values_type)
        )

    draw_values_type = as_view if draw(st.booleans()) else data_type
    return write


def same(one, other):
    """Whether two values are one, bit by bit."""
    return repr(one) == repr(other)


@st.composite
def columns(draw):
    """Draw a type, batches of values, and the same batches as arrays."""
    data_type, pool = draw(st.sampled_from(POOLS))
    value = st.none() | st.sampled_from(pool)
    batches = draw(st.lists(st.lists(value, min_size=1, max_size=6), min_size=1))
    write = draw(encodings(data_type))
    return data_type, pool, batches, [write(values) for values in batches], write


def plain(value):
    """Return a value as results are compared: zeros are one, and so are NaNs."""
    if isinstance(value, float):
        return "NaN" if math.isnan(value) else value + 0.0
    return value


def greatest_last(value):
    return (isinstance(value, float) and math.isnan(value), value)


def expected_aggregates(values):
    """Return count, distinct, min, max, first and last of rows in order of time."""
    known = [value for value in values if value is not None]
    ordered = sorted(known, key=greatest_last)
    edges = (ordered[0], ordered[-1], known[0], known[-1]) if known else (None,) * 4
    return [len(known), len(set(map(plain, known))), *map(plain, edges)]


def counted(rows):
    return sorted(((plain(a), plain(b)), n) for (a, b), n in Counter(rows).items())


def table_rows(table, *names):
    return list(zip(*(map(plain, table[name].to_pylist()) for name in names), strict=True))


@settings(max_examples=40)
@given(drawn=columns(), ranks=st.sampled_from([1, 3]), data=st.data())
def test_values_are_counted_and_matched_however_they_are_written(drawn, ranks, data):
    data_type, pool, batches, arrays, write = drawn
    values = [value for batch in batches for value in batch]
    constants = [value for value in pool if plain(value) != "NaN"]  # which is refused
    some = data.draw(st.lists(st.sampled_from(constants), min_size=1, max_size=3))
    names = pa.table({"d": write([*pool, None, pool[0]]), "name": range(len(pool) + 2)})
    starts = [sum(map(len, batches[:i])) for i in range(len(batches))]
    given_batches = [
        pa.record_batch({"t": pa.array(range(s, s + len(a))), "d": a, "k": [1] * len(a)})
        for s, a in zip(starts, arrays, strict=True)
    ]
    found: list[dict[str, Any]] = []  # of each rank

    def build():
        job = hs.Job("values")
        rows = job.from_batches(given_batches, event_time="t", event_time_unit="ms")
        d = col("d")
        wanted = {
            "aggregates": rows.window_all(WINDOW).agg(
                n=d.count(), u=d.count_distinct(), a=d.min(), b=d.max(), c=d.first(), e=d.last()
            ),
            "grouped": rows.key_by("k")
            .window(WINDOW)
            .agg(n=d.count(), u=d.count_distinct(), a=d.min(), b=d.max(), c=d.first(), e=d.last()),
            "equal": rows.filter(d == some[0]),
            "in": rows.filter(d.is_in(some)),
            "in after": rows.map_batches(lambda batch: batch).filter(d.is_in(some)),
            "nulls": rows.filter(d.is_null()),
            "filled": rows.select("t", d=d.fill_null(pool[0])),
            "joined": rows.join_table(names, on="d", how="left"),
        }
        if not pa.types.is_floating(data_type):
            count = hs.count()
            wanted["key"] = rows.key_by("d").window(WINDOW).agg(n=count)
            wanted["keys"] = rows.key_by("d", "k").window(WINDOW).agg(n=count)
        found.append({name: stream.collect() for name, stream in wanted.items()})
        return job

    run_ranks(ranks, build)
    tables = {name: one.table for name, one in found[0].items()}
    check_tables(tables, values, some, pool)


def check_tables(tables, values, some, pool):
    """Compare what a job found with what plain Python does."""
    for name in ("aggregates", "grouped"):
        (row,) = tables[name].select(["n", "u", "a", "b", "c", "e"]).to_pylist()
        assert list(map(plain, row.values())) == expected_aggregates(values), name
    times = {name: sorted(tables[name]["t"].to_pylist()) for name in tables if name in FILTERED}
    assert times["equal"] == [t for t, v in enumerate(values) if v == some[0]]
    inside = [t for t, v in enumerate(values) if v is not None and any(v == s for s in some)]
    assert times["in"] == times["in after"] == inside
    assert times["nulls"] == [t for t, v in enumerate(values) if v is None]
    filled = sorted(table_rows(tables["filled"], "t", "d"))
    assert filled == [(t, plain(pool[0] if v is None else v)) for t, v in enumerate(values)]
    keys = [*pool, None, pool[0]]
    matches = [
        (t, place)
        for t, v in enumerate(values)
        for place in [i for i, k in enumerate(keys) if v is not None and plain(k) == plain(v)]
        or [None]
    ]
    assert sorted(table_rows(tables["joined"], "t", "name"), key=str) == sorted(matches, key=str)
    by_value = Counter(values)
    for name in ("key", "keys"):
        if name in tables:
            assert Counter(dict(table_rows(tables[name], "d", "n"))) == by_value, name


FILTERED = ("equal", "in", "in after", "nulls")


FLOATS = st.sampled_from([0.0, -0.0, NAN, -NAN, math.inf, -math.inf, 1.5, -2.25])


@settings(max_examples=30)
@given(
    values=st.lists(st.none() | FLOATS, min_size=1, max_size=9),
    data_type=st.sampled_from([pa.float64(), pa.float32(), pa.float16()]),
    exact=st.booleans(),
    keyed=st.booleans(),
)
def test_order_statistics_of_floats_agree_to_the_bit_on_any_ranks(values, data_type, exact, keyed):
    batches = [
        pa.record_batch({"t": [0], "k": [1], "x": pa.array([value], data_type)}) for value in values
    ]
    x = col("x")

    def build():
        job = hs.Job("floats")
        rows = job.from_batches(batches, event_time="t", event_time_unit="ms")
        windows = rows.key_by("k").window(WINDOW) if keyed else rows.window_all(WINDOW)
        found = windows.agg(
            low=x.min(), high=x.max(), first=x.quantile(0.0), last=x.quantile(1.0), mid=x.median()
        )
        return job, found.collect()

    runs = [run_ranks(n, build, batch_rows=1, reproducible=exact).table for n in (1, 2, 3)]

    names = ["low", "high", "first", "last", "mid"]
    assert len({str(run.select(names).to_pylist()) for run in runs}) == 1
    low, high, first, last, mid = map(plain, runs[0].select(names).to_pylist()[0].values())
    ordered = sorted((value for value in values if value is not None), key=greatest_last)
    assert (low, high) == (first, last)
    if ordered:
        assert (low, high) == (plain(ordered[0]), plain(ordered[-1]))
        assert all(math.copysign(1, v) > 0 for v in (low, high, mid) if v == 0)
        if len(ordered) % 2:
            assert mid == plain(ordered[len(ordered) // 2])
