"""Rows leave in event order when the watermark has passed them, whatever way they came."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.columns.event_time import MAX_TIME, ORDER_COLUMN, PLACE_COLUMN, TIME_COLUMN
from hpcstream.columns.ownership import Ownership
from hpcstream.operators.base import Turn
from hpcstream.operators.keyed.event_order import SLAB_ROWS, EventOrder
from hpcstream.state import table
from hpcstream.state.table import Part

FIELDS = [
    pa.field("key", pa.int64()),
    pa.field("text", pa.string()),
    pa.field("tag", pa.dictionary(pa.int32(), pa.string())),
    pa.field("list", pa.list_(pa.int32())),
    pa.field("view", pa.string_view()),
    pa.field(TIME_COLUMN, pa.int64()),
    pa.field(ORDER_COLUMN, pa.int64()),
    pa.field(PLACE_COLUMN, pa.int64()),
]
SCHEMA = pa.schema(FIELDS)


def row(number, time, order, place):
    key, text = number % 7, None if number % 5 == 0 else f"t{number}"
    values = (key, text, f"d{number % 3}", [number] * (number % 3), text, time, order, place)
    return dict(zip(SCHEMA.names, values, strict=True))


@st.composite
def events(draw):
    """Return batches of rows and watermarks; some rows are late."""
    found, number, watermark = [], 0, 0
    for _ in range(draw(st.integers(1, 8))):
        for _ in range(draw(st.integers(0, 3))):
            size = draw(st.integers(1, 6))
            times = [watermark + draw(st.integers(-2, 9)) for _ in range(size)]
            if draw(st.booleans()):
                times.sort()
            ties = [(draw(st.integers(0, 2)), draw(st.integers(0, 1))) for _ in range(size)]
            rows = [row(number + i, times[i], *ties[i]) for i in range(size)]
            found.append(pa.RecordBatch.from_pylist(rows, SCHEMA))
            number += size
        watermark += draw(st.integers(0, 5))
        found.append(watermark)
    return [*found, MAX_TIME]


class Naive:
    """A list of all rows that wait."""

    def __init__(self):
        self.waiting, self.watermark = [], 0

    def push(self, rows):
        late = [i for i, one in enumerate(rows) if one[TIME_COLUMN] < self.watermark]
        self.waiting += [one for i, one in enumerate(rows) if i not in late]
        return late

    def release(self, watermark):
        self.watermark = watermark
        due = [one for one in self.waiting if one[TIME_COLUMN] < watermark]
        self.waiting = [one for one in self.waiting if one[TIME_COLUMN] >= watermark]
        by = (TIME_COLUMN, ORDER_COLUMN, PLACE_COLUMN)
        return sorted(due, key=lambda one: tuple(one[name] for name in by))


def released(order, watermark):
    batches = [out for out in order.release(watermark) if not isinstance(out, Turn)]
    assert all(batch.schema == order.schema for batch in batches)
    return [one for batch in batches for one in batch.to_pylist()]


def again(order, parts, share=None):
    """Return another one with what was kept, of all parts or of one instance."""
    new = EventOrder(SCHEMA, ("key",))
    if share is None:
        table.restore([new.table], parts[0])
    else:
        table.merge([new.table], [Part(is_local=False, arrays=one) for one in parts], share)
    return new


@given(events(), st.booleans())
def test_rows_leave_as_naive_says_also_from_a_snapshot_at_each_event(events, restart):
    order, naive = EventOrder(SCHEMA, ("key",)), Naive()
    naive.watermark = order.watermark
    for event in events:
        if isinstance(event, int):
            assert released(order, event) == naive.release(event)
        else:
            assert order.push(event).tolist() == naive.push(event.to_pylist())
        assert order.n_rows == len(naive.waiting)
        if restart:
            order = again(order, [table.snapshot([order.table])])


@given(events(), st.integers(2, 3))
def test_rows_are_dealt_by_key_to_any_number_of_instances(events, n_instances):
    whole = EventOrder(SCHEMA, ("key",))
    for event in events[:-2]:
        if isinstance(event, int):
            released(whole, event)
        else:
            whole.push(event)
    parts = [table.snapshot([whole.table])]
    shares = [again(whole, parts, Ownership(i, n_instances)) for i in range(n_instances)]
    back = again(whole, [table.snapshot([one.table]) for one in shares], Ownership(0, 1))

    found = [released(one, MAX_TIME) for one in shares]
    expected = released(whole, MAX_TIME)
    for rows in found:
        keys = {one["key"] for one in rows}
        assert rows == [one for one in expected if one["key"] in keys]
    assert sum(map(len, found)) == len(expected)
    by_order = [(o[TIME_COLUMN], o[ORDER_COLUMN], o[PLACE_COLUMN]) for o in expected]
    found = released(back, MAX_TIME)
    assert [(o[TIME_COLUMN], o[ORDER_COLUMN], o[PLACE_COLUMN]) for o in found] == by_order


def plain(times, orders):
    times, orders = (np.array(one, dtype=np.int64) for one in (times, orders))
    return pa.record_batch({"x": np.arange(len(times)), TIME_COLUMN: times, ORDER_COLUMN: orders})


@pytest.mark.parametrize("spread", [100, 10**9])
def test_many_rows_leave_in_parts_with_pauses_between(spread):
    random = np.random.default_rng(1)
    order = EventOrder(plain([], []).schema)
    times = [np.sort(random.integers(0, spread, SLAB_ROWS)) for _ in range(5)]
    for number, one in enumerate(times):
        order.push(plain(one, np.full(len(one), number)))

    out = list(order.release(MAX_TIME))

    batches = [one for one in out if not isinstance(one, Turn)]
    found = pa.concat_batches(batches)
    splits = np.repeat(np.arange(5), SLAB_ROWS)
    rows = np.lexsort((splits, np.concatenate(times)))
    assert found[TIME_COLUMN].to_numpy().tolist() == np.concatenate(times)[rows].tolist()
    assert found[ORDER_COLUMN].to_numpy().tolist() == splits[rows].tolist()
    assert len(out) - len(batches) >= len(batches) - 1 >= 3
    assert max(one.num_rows for one in batches) < 2 * SLAB_ROWS


def test_rows_in_order_leave_where_they_lie():
    order = EventOrder(plain([], []).schema)
    given_rows = [plain([1, 2], [0, 1]), plain([2, 7], [2, 0])]
    for batch in given_rows:
        order.push(batch)

    out = [one for one in order.release(8) if not isinstance(one, Turn)]

    assert [one["x"].buffers()[1].address for one in out] == [
        one["x"].buffers()[1].address for one in given_rows
    ]


def test_what_is_held_is_copied_and_its_memory_follows_it():
    order = EventOrder(plain([], []).schema)
    batch = plain(range(1000), range(1000))
    order.push(batch)
    assert list(order.release(0)) == []
    assert order.rows()["x"].buffers()[1].address != batch["x"].buffers()[1].address
    most = order.n_bytes

    for watermark in range(1, 990):
        list(order.release(watermark))
    assert order.n_rows == 11
    assert order.n_bytes < most / 20
