"""State that some ranks wrote in several checkpoints, read by others: each row counts once."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcstream.aggregates.named import NamedAggregate
from hpcstream.columns.event_time import MAX_TIME, TIME_COLUMN
from hpcstream.columns.ownership import Ownership, owned_rows
from hpcstream.operators.windows.assigners.fixed import TumblingWindows
from hpcstream.operators.windows.keyed import WindowAggregate
from hpcstream.operators.windows.local import LocalWindowAggregate
from hpcstream.operators.windows.spec import WindowAggregateSpec
from hpcstream.state.arrays import HeapAllocator
from hpcstream.state.table import Order, Part

sys.path.insert(0, str(Path(__file__).parent))
from kept_files import KeptFiles

SCHEMA = pa.schema(
    [("s", pa.string()), ("i", pa.int32()), ("x", pa.int64()), (TIME_COLUMN, pa.int64())]
)
KEYS = [("s",), ("i",), ("s", "i")]
SIZE = 10

texts = st.none() | st.text("ab", max_size=3) | st.integers(0, 300).map(lambda n: "text" * (n % 9))
rows = st.tuples(texts, st.none() | st.integers(-90, 90), st.integers(0, 9), st.integers(0, 35))
batches = st.lists(rows, min_size=1, max_size=40)


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    with pytest.MonkeyPatch.context() as patch:
        dictionary = "hpcstream.state.key_dictionary"
        patch.setattr(f"{dictionary}.BLOCK_KEYS", 8)
        patch.setattr(f"{dictionary}.KeyDictionary.order", Order("key_places", "key_index", 2))
        patch.setattr(f"{dictionary}.KeyBytes.order", Order("", "byte_index", 3))
        patch.setattr("hpcstream.state.slices.table.STRIDE", 3)
        yield


@pytest.fixture(autouse=True)
def wrapping_arithmetic():
    with np.errstate(over="ignore"):  # only without compilation: hashing means to wrap
        yield


def spec_of(keys, function):
    functions = NamedAggregate.of("n", "count_rows"), NamedAggregate.of("value", function, "x")
    return WindowAggregateSpec(
        keys=keys,
        assigner=TumblingWindows(SIZE),
        aggregates=functions,
        allowed_lateness=0,
        input_schema=SCHEMA,
        time_type=pa.int64(),
    )


def batch_of(found):
    columns = [
        pa.array(column, f.type) for column, f in zip(zip(*found, strict=True), SCHEMA, strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


class Instance:
    """An operator, and its checkpoints."""

    def __init__(self, operator, *, is_local):
        self.operator, self.is_local, self.kept = operator, is_local, KeptFiles()

    def feed(self, batch):
        list(self.operator.process_batch(batch))
        self.newest = self.kept.take(self.operator.tables())

    def part(self, owned):
        return Part(self.is_local, self.kept.read(*self.newest, owned.groups))


def fed(spec, n_before, has_local, found):
    """Return instances of both stages that took in the batches of some of them."""
    finals = [WindowAggregate(spec, HeapAllocator()) for _ in range(n_before)]
    locals_ = [LocalWindowAggregate(spec, HeapAllocator()) for _ in range(has_local * n_before)]
    instances = [Instance(one, is_local=False) for one in finals]
    instances += [Instance(one, is_local=True) for one in locals_]
    for number, rows_ in enumerate(found):
        batch = batch_of(rows_)
        if has_local and number % 2:
            instances[n_before + number % n_before].feed(batch)
            continue
        for place in range(n_before):
            mine = owned_rows(batch, spec.keys, Ownership(place, n_before))
            instances[place].feed(batch.take(pa.array(mine)))
    return [one for one in instances if hasattr(one, "newest")]


@settings(max_examples=60)
@given(
    found=st.lists(batches, min_size=1, max_size=6),
    keys=st.sampled_from(KEYS),
    function=st.sampled_from(["sum", "median"]),
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 5)),
    has_local=st.booleans(),
)
def test_each_row_counts_once_on_the_rank_that_owns_its_key(
    found, keys, function, sizes, has_local
):
    spec = spec_of(keys, function)
    instances = fed(spec, sizes[0], has_local and function == "sum", found)
    everything = [row for rows_ in found for row in rows_]
    columns = [SCHEMA.get_field_index(name) for name in keys]
    expected = Counter((row[3] // SIZE * SIZE, *(row[c] for c in columns)) for row in everything)
    seen = Counter()
    for instance in range(sizes[1]):
        owned = Ownership(instance, sizes[1])
        operator = WindowAggregate(spec, HeapAllocator())
        operator.merge([one.part(owned) for one in instances], owned)
        for result in operator.process_watermark(MAX_TIME):
            assert len(owned_rows(result, keys, owned)) == result.num_rows
            for row in result.to_pylist():
                key = (row["window_start"], *(row[name] for name in keys))
                seen[key] += row["n"]
                assert row["value"] == value_of(everything, columns, key, function)
    assert seen == expected


def value_of(everything, columns, key, function):
    values = [
        row[2] for row in everything if (row[3] // SIZE * SIZE, *(row[c] for c in columns)) == key
    ]
    return sum(values) if function == "sum" else float(np.median(values))
