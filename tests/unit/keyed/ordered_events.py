"""Rows and watermarks for ordered operators: how they may come, and what they are in order."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
from hypothesis import strategies as st

from hpcstream.columns.event_time import MAX_TIME, ORDER_COLUMN, TIME_COLUMN
from hpcstream.operators.spec import OperatorContext
from hpcstream.testing import run_dealt, run_events

SCHEMA = pa.schema(
    {
        "key": pa.string(),
        "n": pa.int64(),
        "x": pa.float64(),
        "t": pa.int64(),
        "id": pa.int64(),
        TIME_COLUMN: pa.int64(),
        ORDER_COLUMN: pa.int64(),
    }
)
NAMES = SCHEMA.names[:5]


@st.composite
def events(draw, most_rows=40, spread=40):
    """Return batches and watermarks: some rows are late, others in disorder and in any batches."""
    n_rows = draw(st.integers(1, most_rows))
    rows = []
    for number in range(n_rows):
        time = draw(st.integers(0, spread))
        value = draw(st.none() | st.integers(-4, 4))
        key = draw(st.sampled_from(["a", "b", "a longer key", None]))
        rows.append((key, value, value if value is None else value / 4, time, number, time, number))
    events, watermark = [], 0
    while rows:
        size = draw(st.integers(1, 8))
        events.append(batch_of(rows[:size]))
        rows = rows[size:]
        if draw(st.booleans()):
            watermark = max(watermark, draw(st.integers(0, spread)))
            events.append(watermark)
    return [*events, MAX_TIME]


def batch_of(rows):
    """Return rows, given by their values, as a batch."""
    columns = zip(*rows, strict=True)
    arrays = [pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)


def in_order(events):
    """Return the rows that are in time, in event order, and those that are late."""
    rows, late, watermark = [], [], 0
    for event in events:
        if isinstance(event, int):
            watermark = event
            continue
        for row in event.to_pylist():
            (late if row["t"] < watermark else rows).append(row)
    return sorted(rows, key=lambda row: (row["t"], row["id"])), late


def opened(spec, schema=SCHEMA):
    """Return a function that makes the operator of a spec, all of whose side outputs are read."""
    sides = frozenset(spec.side_outputs([schema]))
    context = OperatorContext(inputs=(schema,), output=spec.output_schema([schema]), sides=sides)
    return lambda: spec.open(context)


def outputs(rows):
    """Return rows of an operator by its outputs, without hidden columns."""
    found = {}
    for row in rows:
        row = {n: v for n, v in row.items() if not n.startswith("__")}
        found.setdefault(row.pop("side output", "main"), []).append(row)
    return found


def visible(rows):
    """Return rows without hidden columns."""
    return [{n: v for n, v in row.items() if not n.startswith("__")} for row in rows]


def check(spec, events, expected, **same):
    """Check what an operator emits: as it goes, from a snapshot at each event, dealt at each."""
    make, (rows, late) = opened(spec), in_order(events)
    by_event = run_events(make, events)
    check_times(by_event, events)
    found = outputs([row for rows in by_event for row in rows])
    found_late = found.pop("late", [])
    assert found_late == visible(late)
    wanted = {name: visible(rows) for name, rows in expected(rows).items()}
    for name, of_output in wanted.items():
        assert_same(found.pop(name, []), of_output, **same)
    assert not found

    again = run_events(make, events, restart=True)
    assert [outputs(rows) for rows in again] == [outputs(rows) for rows in by_event]
    dealt = outputs(run_dealt(make, events, spec.keys, (2, 1, 3)))
    assert_same(dealt.pop("late", []), visible(late), ordered=False)
    for name, of_output in wanted.items():
        assert_same(dealt.pop(name, []), of_output, ordered=False, **same)


def check_times(by_event, events):
    """Check that no row leaves before the watermark has passed it, or after."""
    watermark = -1
    for event, rows in zip(events, by_event, strict=True):
        before, watermark = watermark, event if isinstance(event, int) else watermark
        for row in rows:
            if row.get("side output") != "late":
                assert before <= row[TIME_COLUMN] < watermark


def assert_same(found, expected, *, ordered=True):
    """Compare rows, in order or not."""
    if ordered:
        assert found == expected
    else:
        counted = [Counter(tuple(row.items()) for row in rows) for rows in (found, expected)]
        assert counted[0] == counted[1]
