"""Rows of any type by place, in buckets of event time, as a list of rows says."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.columns.event_time import TIME_COLUMN
from hpcstream.columns.ownership import Ownership, owned_rows
from hpcstream.state import table
from hpcstream.state.arrays import HeapAllocator, Word
from hpcstream.state.rows.store import PAGE_ROWS, RowStore
from hpcstream.state.rows.table import RowTable
from hpcstream.state.table import Part

TYPES = {
    "key": pa.int64(),
    "flag": pa.bool_(),
    "small": pa.uint8(),
    "x": pa.float64(),
    "half": pa.float16(),
    "when": pa.timestamp("us", "UTC"),
    "price": pa.decimal128(20, 2),
    "uuid": pa.uuid(),
    "raw": pa.large_binary(),
    "text": pa.string(),
    "view": pa.string_view(),
    "tag": pa.dictionary(pa.int16(), pa.string()),
    "list": pa.list_(pa.string()),
    "nested": pa.struct([("a", pa.int32()), ("b", pa.list_(pa.float32()))]),
    "frame": pa.list_(pa.int16(), 3),
    "nothing": pa.null(),
    TIME_COLUMN: pa.int64(),
}
SCHEMA = pa.schema(list(TYPES.items()))
WORDS = (Word("next", "uint32", 0), Word("matched", "uint8", 0), Word("n", "int64", 5))
TICKS = 10
JANUARY = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def values(number, time):
    """Return a row; every third value of each column is null, in another row."""
    text = "ab" * (number % 4) + str(number)
    row = {
        "key": number % 5, "flag": number % 2 == 0, "small": number % 200, "x": number / 8,
        "half": np.float16(number % 64), "when": JANUARY + dt.timedelta(number % 28),
        "price": Decimal(number) / 4, "uuid": number.to_bytes(16, "big"), "raw": text.encode(),
        "text": text, "view": text * 3, "tag": text[:1], "list": [text, None][: number % 3],
        "nested": {"a": number, "b": [1.5] * (number % 3)}, "frame": [number % 9] * 3,
        "nothing": None, TIME_COLUMN: time,
    }  # fmt: skip
    for place, name in enumerate(list(row)[:-1]):
        if (number + place) % 3 == 0:
            row[name] = None
    return row


def batch_of(numbers, times):
    rows = [values(n, t) for n, t in zip(numbers, times, strict=True)]
    columns = [
        pa.array([row[f.name] for row in rows], f.type if f.name != "uuid" else pa.binary(16))
        for f in SCHEMA
    ]
    columns[7] = pa.ExtensionArray.from_storage(pa.uuid(), columns[7])
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def times_of(batch):
    return batch.column(TIME_COLUMN).to_numpy()


def new_store():
    return RowStore(SCHEMA, TICKS, HeapAllocator(), WORDS)


def new_table(store):
    return RowTable(store, ("key",), links=("next",))


ACTIONS = st.lists(
    st.tuples(st.just("append"), st.lists(st.integers(-25, 60), max_size=12))
    | st.tuples(st.sampled_from(["drop", "restart", "mark"]), st.integers(-25, 60)),
    max_size=15,
)


class Kept:
    """A `RowStore` beside the rows it should have, by place."""

    def __init__(self):
        self.store, self.rows, self.n_made = new_store(), {}, 0

    def append(self, times):
        batch = batch_of(range(self.n_made, self.n_made + len(times)), times)
        self.n_made += len(times)
        places = self.store.append(batch, times_of(batch))
        assert 0 not in places
        assert not self.rows.keys() & set(places.tolist())
        self.store.words[2][places] = self.n_made
        self.store.words[0][places] = 77
        for place, row in zip(places.tolist(), batch.to_pylist(), strict=True):
            self.rows[place] = [row, self.n_made, 0]

    def drop(self, limit):
        self.store.drop_below(limit)
        gone = [
            p
            for p, (row, *_) in self.rows.items()
            if (row[TIME_COLUMN] // TICKS + 1) * TICKS <= limit
        ]
        for place in gone:
            del self.rows[place]

    def mark(self, limit):
        places = [p for p, (row, *_) in self.rows.items() if row[TIME_COLUMN] < limit]
        self.store.words[1][places] = 1
        self.store.note_changed(np.array(places, dtype=np.uint32))
        for place in places:
            self.rows[place][2] = 1

    def restart(self):
        snapshot = table.snapshot([new_table(self.store)])
        self.store = new_store()
        table.restore([new_table(self.store)], snapshot)

    def check(self):
        store, places = self.store, np.array(list(self.rows), dtype=np.uint32)
        assert store.n_rows == len(places)
        assert store.take(places).to_pylist() == [row for row, *_ in self.rows.values()]
        assert store.words[2][places].tolist() == [n for _, n, _ in self.rows.values()]
        assert store.words[1][places].tolist() == [mark for *_, mark in self.rows.values()]
        found = [p for bucket in sorted(store.buckets) for p in store.places(bucket).tolist()]
        assert sorted(found) == sorted(self.rows)
        assert store.view(TIME_COLUMN)[places].tolist() == [
            row[TIME_COLUMN] for row, *_ in self.rows.values()
        ]


@given(ACTIONS)
def test_rows_stay_at_their_places_until_their_bucket_goes(actions):
    kept = Kept()
    for what, given_value in actions:
        if what == "restart":
            kept.restart()
        else:
            getattr(kept, what)(given_value)
        kept.check()


@given(st.lists(st.integers(-25, 60), max_size=40), st.integers(1, 3))
def test_rows_are_dealt_to_the_owners_of_their_keys_without_their_links(times, n_instances):
    kept = Kept()
    kept.append(times)
    kept.mark(20)
    parts = [Part(is_local=False, arrays=table.snapshot([new_table(kept.store)]))]
    found = []
    for instance in range(n_instances):
        owned, store = Ownership(instance, n_instances), new_store()
        new_table(store).merge(parts, owned)
        for bucket in sorted(store.buckets):
            places = store.places(bucket)
            rows = store.take(places)
            assert len(owned_rows(rows, ("key",), owned)) == len(places)
            assert set(times_of(rows) // TICKS) == {bucket}
            assert not store.words[0][places].any()
            marks = zip(*(word[places].tolist() for word in store.words[1:]), strict=True)
            found += [(str(row), n, m) for row, (m, n) in zip(rows.to_pylist(), marks, strict=True)]
    assert sorted(found) == sorted((str(row), n, m) for row, n, m in kept.rows.values())


def test_a_bucket_that_does_not_change_is_not_written_again():
    kept = Kept()
    one = new_table(kept.store)
    kept.append([1, 2, 11, 25])
    before = one.segments()
    one.copy(np.arange(3))
    assert one.segments() == before

    kept.append([12])
    kept.mark(5)
    after = one.segments()
    assert [new == old for new, old in zip(after, before, strict=True)] == [False, False, True]
    copied = one.copy(np.array([0, 1]))
    assert len(copied.arrays["rows:data"]) == sum(segment.n_entries for segment in after[:2])


@pytest.mark.parametrize("n_rows", [PAGE_ROWS - 1, PAGE_ROWS, 10 * PAGE_ROWS + 1])
def test_memory_follows_the_rows_that_are_there(n_rows):
    store = new_store()
    sizes = []
    for step in range(30):
        batch = batch_of(range(n_rows), np.full(n_rows, step * TICKS))
        store.append(batch, times_of(batch))
        store.drop_below((step - 1) * TICKS)
        sizes.append(store.n_bytes)
    assert store.n_rows == 2 * n_rows
    assert max(sizes) == max(sizes[:8])
