"""What checkpoints put together from pieces is the state, whatever happened between them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcstream.aggregates.named import NamedAggregate
from hpcstream.columns.event_time import ORDER_COLUMN, TIME_COLUMN
from hpcstream.operators.windows.assigners.fixed import SlidingWindows
from hpcstream.operators.windows.keyed import WindowAggregate
from hpcstream.operators.windows.local import LocalWindowAggregate
from hpcstream.operators.windows.spec import WindowAggregateSpec
from hpcstream.state.arrays import HeapAllocator

sys.path.insert(0, str(Path(__file__).parent))
from kept_files import KeptFiles

SCHEMA = pa.schema(
    [("key", pa.string()), ("x", pa.int64()), (TIME_COLUMN, pa.int64()), (ORDER_COLUMN, pa.int64())]
)
SPEC = WindowAggregateSpec(
    keys=("key",),
    assigner=SlidingWindows(30, 5),
    aggregates=(NamedAggregate.of("n", "count_rows"), NamedAggregate.of("most", "max", "x")),
    allowed_lateness=0,
    input_schema=SCHEMA,
    time_type=pa.int64(),
    late_output=False,
)


@pytest.fixture(autouse=True, scope="module")
def small_blocks():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hpcstream.state.key_dictionary.BLOCK_KEYS", 3)
        patch.setattr("hpcstream.state.interned_keys._SPARE_KEYS", 2)
        yield


def batch(rows):
    keys, times = zip(*rows, strict=True)
    values = list(range(len(rows)))
    return pa.RecordBatch.from_arrays(
        [pa.array(keys, pa.string()), pa.array(values), pa.array(times), pa.array(values)],
        schema=SCHEMA,
    )


def local():
    return LocalWindowAggregate(SPEC, HeapAllocator(), max_entries=2)


def final():
    return WindowAggregate(SPEC, HeapAllocator())


keys = st.sampled_from(["", "a", "bb", "a key of some length"]) | st.text("xyz", min_size=2)
batches = st.lists(st.tuples(keys | st.none(), st.integers(0, 60)), min_size=1, max_size=6)
CHECKPOINT = "a checkpoint is taken"


def assert_found_again(make, events):
    operator, checkpoints = make(), KeptFiles()
    for event in [*events, CHECKPOINT]:
        if isinstance(event, int):
            list(operator.process_watermark(event))
        elif event is not CHECKPOINT:
            list(operator.process_batch(batch(event)))
        if event is not CHECKPOINT:
            continue
        restored = make()
        restored.restore(checkpoints.read(*checkpoints.take(operator.tables())))
        found, expected = restored.snapshot(), operator.snapshot()
        assert found.keys() == expected.keys()
        for name, array in expected.items():
            np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("make", [local, final])
@settings(max_examples=150)
@given(events=st.lists(batches | st.integers(0, 70) | st.just(CHECKPOINT), max_size=12))
def test_pieces_make_up_the_state(make, events):
    assert_found_again(make, events)


def test_slices_that_were_shipped_and_come_again_are_other_slices(monkeypatch):
    monkeypatch.setattr("hpcstream.state.interned_keys._SPARE_KEYS", 100)  # keys stay the same
    ships_all = [("bb", 1), ("", 1), ("a", 2)]
    assert_found_again(local, [[("a", 1)], CHECKPOINT, ships_all, [("bb", 1)]])
