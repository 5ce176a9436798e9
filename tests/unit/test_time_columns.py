"""Which integer columns are shown as dates."""

from __future__ import annotations

import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream import col
from hpcstream.graph.time_columns import time_columns

TABLE = pa.table({"t": [1, 2], "x": [3, 4], "when": pa.array([0, 1], pa.timestamp("ms"))})


@pytest.fixture
def stream():
    return hs.Job("times").from_batches(TABLE, event_time="t", event_time_unit="ms")


def windows(stream, *keys):
    keyed = stream.key_by(*keys).window(hs.tumbling("1s")) if keys else None
    return keyed or stream.window_all(hs.tumbling("1s"))


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda s: s, {"t": "ms"}),
        (lambda s: s.filter(col("x") > 0).rebalance(), {"t": "ms"}),
        (lambda s: s.rename(t="u"), {"u": "ms"}),
        (lambda s: s.select("x", u=col("t")), {"u": "ms"}),
        (lambda s: s.with_columns(t=col("t") + 1), {}),
        (lambda s: s.with_columns(t=col("x")), {}),
        (lambda s: s.drop("t"), {}),
        (lambda s: s.with_event_time("x", unit="s"), {"t": "ms", "x": "s"}),
        (lambda s: s.map_batches(lambda b: b), {"t": "ms"}),
        (lambda s: s.map_batches(lambda b: b.select(["x"])), {}),
        (lambda s: s.union(s), {"t": "ms"}),
        (lambda s: s.union(s.with_columns(t=col("x"))), {}),
        (lambda s: s.join_table(pa.table({"x": [3], "t": [9]}), on="x"), {"t": "ms"}),
        (
            lambda s: windows(s, "t").agg(n=hs.count(), last=col("t").max(), x=col("x").max()),
            {"t": "ms", "window_start": "ms", "window_end": "ms", "last": "ms"},
        ),
        (lambda s: windows(s).agg(mean=col("t").mean()).drop("window_end"), {"window_start": "ms"}),
        (lambda s: windows(s).agg(n=hs.count()).late(), {"t": "ms"}),
        (lambda s: windows(s.with_event_time("when")).agg(n=hs.count()), {}),
    ],
)
def test_the_unit_of_an_integer_column_is_known_as_long_as_it_is_the_same_times(
    stream, make, found
):
    assert time_columns(make(stream)._node) == found


def test_a_stream_that_is_used_many_times_over_is_looked_at_once(stream):
    for _ in range(60):
        stream = stream.union(stream)

    assert time_columns(stream._node) == {"t": "ms"}
