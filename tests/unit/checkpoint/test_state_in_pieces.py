"""What checkpoints put together from pieces is the state, whatever happened between them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcstream.aggregates.named import NamedAggregate
from hpcstream.checkpoint.format import WrittenFile
from hpcstream.checkpoint.increments import PieceMemory, assembled
from hpcstream.columns.event_time import ORDER_COLUMN, TIME_COLUMN
from hpcstream.operators.windows.assigners import SlidingWindows
from hpcstream.operators.windows.keyed import WindowAggregate
from hpcstream.operators.windows.local import LocalWindowAggregate
from hpcstream.operators.windows.spec import WindowAggregateSpec
from hpcstream.state.arrays import HeapAllocator

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
        patch.setattr("hpcstream.state.appended_arrays.BLOCK_BYTES", 16)
        patch.setattr("hpcstream.state.interned_keys._SPARE_KEYS", 2)
        yield


class Checkpoints:
    """What a run writes, kept in memory."""

    def __init__(self):
        self._memory, self._files = PieceMemory(), {}

    def taken(self, operator):
        """Take a checkpoint, and return the state as a restart finds it."""
        state, tables = self._memory.take("0/0", operator.snapshot_in_pieces())
        name = f"ckpt-{len(self._files)}"
        self._files[name] = {key: array.copy() for key, array in state.items()}
        size = sum(array.nbytes for array in state.values()) + 1
        shared = self._memory.files_of(tables)
        self._memory.complete({"0/0": tables}, shared, name, WrittenFile(name, size, ""))
        return assembled(tables, state, self._copy)

    def _copy(self, file, name, out, places):
        for first, at, n in places:
            out[at : at + n] = self._files[file][name][first : first + n]


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
    operator, checkpoints = make(), Checkpoints()
    for event in [*events, CHECKPOINT]:
        if isinstance(event, int):
            list(operator.process_watermark(event))
        elif event is not CHECKPOINT:
            list(operator.process_batch(batch(event)))
        if event is not CHECKPOINT:
            continue
        found, expected = checkpoints.taken(operator), operator.snapshot()
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
