"""Local and final stage together give what a single stage gives."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcstream.aggregates.named import NamedAggregate
from hpcstream.columns.event_time import MAX_TIME, ORDER_COLUMN, TIME_COLUMN
from hpcstream.errors import HpcstreamError
from hpcstream.operators.base import SideOutput
from hpcstream.operators.windows.assigners.fixed import SlidingWindows, TumblingWindows
from hpcstream.operators.windows.keyed import WindowAggregate
from hpcstream.operators.windows.local import LocalWindowAggregate, PreaggregationPolicy
from hpcstream.operators.windows.spec import SLICE_COLUMN, WindowAggregateSpec
from hpcstream.state.arrays import HeapAllocator

SCHEMA = pa.schema(
    [("key", pa.int64()), ("x", pa.int64()), (TIME_COLUMN, pa.int64()), (ORDER_COLUMN, pa.int64())]
)
FUNCTIONS = ("count_rows", "count", "sum", "mean", "min", "max", "first", "last")


def spec_of(assigner, functions=FUNCTIONS):
    return WindowAggregateSpec(
        keys=("key",),
        assigner=assigner,
        aggregates=tuple(
            NamedAggregate.of(f, f, *([] if f == "count_rows" else ["x"])) for f in functions
        ),
        allowed_lateness=0,
        input_schema=SCHEMA,
        time_type=pa.int64(),
        late_output=True,
    )


def batch(rows, order=0):
    keys, times, values = zip(*rows, strict=True) if rows else ((), (), ())
    columns = [keys, values, times, range(order, order + len(rows))]
    return pa.RecordBatch.from_arrays(
        [pa.array(list(column), pa.int64()) for column in columns], schema=SCHEMA
    )


def local_of(spec, **options):
    return LocalWindowAggregate(spec, HeapAllocator(), **options)


N = 1 << 17  # rows of a sample


def restarted(operator, make):
    snapshot = {name: array.copy() for name, array in operator.snapshot().items()}
    other = make()
    other.restore(snapshot)
    return other


rows_of_batch = st.lists(
    st.tuples(st.none() | st.integers(0, 3), st.integers(-20, 40), st.none() | st.integers(-9, 9)),
    max_size=10,
)


def run_two_stages(events, make_local, make_final, restart):
    """Two senders; the final's watermark is the least of theirs."""
    locals_, final = [make_local(), make_local()], make_final()
    watermarks, results, order = [-(2**63)] * 2, [], 0
    for sender, event in [*events, (0, MAX_TIME), (1, MAX_TIME)]:
        if isinstance(event, int):
            watermarks[sender] = max(watermarks[sender], event)
            emitted = list(locals_[sender].process_watermark(event))
        else:
            emitted = list(locals_[sender].process_batch(batch(event, order)))
            order += len(event)
        for part in emitted:
            if isinstance(part, SideOutput):
                results += list(final.process_batch(part.batch))
            else:
                results += list(final.process_batch(part, 1))
        results += list(final.process_watermark(min(watermarks)))
        if restart:
            locals_[sender] = restarted(locals_[sender], make_local)
            final = restarted(final, make_final)
    return results, final


@settings(max_examples=100)
@given(
    events=st.lists(
        st.tuples(st.integers(0, 1), rows_of_batch | st.integers(-30, 60)), max_size=10
    ),
    assigner=st.sampled_from([TumblingWindows(7), SlidingWindows(12, 3), SlidingWindows(6, 4)]),
    max_entries=st.sampled_from([3, 1000]),
    restart=st.booleans(),
)
def test_two_stages_give_the_results_of_one(events, assigner, max_entries, restart):
    spec = spec_of(assigner)
    results, final = run_two_stages(
        events,
        lambda: local_of(spec, max_entries=max_entries),
        lambda: WindowAggregate(spec, HeapAllocator()),
        restart,
    )
    # A single stage that takes the rows when the final stage could policy them: every
    # row that is not late there must be counted in each of its open windows.
    late = [part.batch for part in results if isinstance(part, SideOutput)]
    rows_in = sum(len(event) for _, event in events if not isinstance(event, int))
    assert final.late_rows == sum(part.num_rows for part in late)
    if assigner == TumblingWindows(7):
        counted = sum(
            sum(part["count_rows"].to_pylist())
            for part in results
            if not isinstance(part, SideOutput)
        )
        assert rows_in == counted + final.late_rows
    if not late:
        single = WindowAggregate(spec, HeapAllocator())
        order = 0
        for _, event in events:
            if not isinstance(event, int):
                single.process_batch(batch(event, order))
                order += len(event)
        expected = [row for part in single.process_watermark(MAX_TIME) for row in part.to_pylist()]
        got = [row for part in results for row in part.to_pylist()]
        if assigner == TumblingWindows(7):
            assert sorted(map(repr, got)) == sorted(map(repr, expected))


def test_rows_behind_the_own_watermark_go_on_raw():
    local = local_of(spec_of(TumblingWindows(10)))
    assert list(local.process_watermark(15)) == []

    [raw] = local.process_batch(batch([(1, 9, 5), (1, 14, 6), (2, 3, 7)]))

    assert raw.name == "rows"
    assert raw.batch["x"].to_pylist() == [5, 7]
    assert local.n_entries == 1


def test_a_slice_is_shipped_with_the_watermark_that_ends_it():
    local = local_of(spec_of(SlidingWindows(20, 10), ("sum",)))
    assert list(local.process_batch(batch([(1, 0, 1), (1, 9, 2), (2, 10, 4)]))) == []
    assert list(local.process_watermark(9)) == []

    [partial] = local.process_watermark(10)

    assert partial.schema.equals(spec_of(SlidingWindows(20, 10), ("sum",)).partial_schema)
    assert partial[SLICE_COLUMN].to_pylist() == [0]
    assert partial["__word:sum(x)"].to_pylist() == [3]
    assert local.n_entries == 1


@pytest.mark.parametrize("restart", [False, True])
def test_an_idle_rank_ships_all_it_holds_and_then_passes_on_raw_what_may_be_late(restart):
    spec = spec_of(TumblingWindows(10), ("sum",))
    local = local_of(spec)
    list(local.process_batch(batch([(1, 3, 1), (1, 25, 2)])))

    [partial] = local.release()
    assert partial[SLICE_COLUMN].to_pylist() == [0, 2]
    assert list(local.release()) == []
    local.catch_up(31)
    if restart:
        local = restarted(local, lambda: local_of(spec))
    [raw] = local.process_batch(batch([(1, 4, 5), (1, 29, 6), (1, 30, 7)]))

    assert raw.name == "rows"
    assert raw.batch["x"].to_pylist() == [5, 6]
    assert [part[SLICE_COLUMN].to_pylist() for part in local.process_watermark(40)] == [[3]]


@pytest.mark.parametrize("lateness", [0, 100])
def test_partial_results_behind_the_watermark_are_refused_by_name(lateness):
    spec = replace(spec_of(TumblingWindows(10), ("sum",)), allowed_lateness=lateness)
    local, final = local_of(spec), WindowAggregate(spec, HeapAllocator())
    list(local.process_batch(batch([(1, 3, 1)])))
    [partial] = local.release()
    list(final.process_watermark(31))

    with pytest.raises(HpcstreamError, match="partial results arrived after watermark 31"):
        list(final.process_batch(partial, 1))

    assert final.late_rows == 0


def test_too_many_entries_are_shipped_at_once():
    local = local_of(spec_of(TumblingWindows(10)), max_entries=4)

    parts = list(local.process_batch(batch([(key, 0, 1) for key in range(5)])))

    assert [part.num_rows for part in parts] == [5]
    assert local.n_entries == 0


@pytest.mark.parametrize("restart", [False, True])
def test_distinct_keys_pass_raw_for_a_while_and_then_are_tried_again(restart):
    spec = spec_of(TumblingWindows(10), ("sum",))
    local = local_of(spec)
    n_rows = 1 << 16
    raw_batches = []
    for step in range(56):
        keys = pa.array(np.arange(n_rows))
        times = pa.array(np.full(n_rows, 10 * step))
        rows = pa.RecordBatch.from_arrays([keys, keys, times, keys], schema=SCHEMA)
        emitted = [*local.process_batch(rows), *local.process_watermark(10 * step + 10)]
        raw_batches.append(any(isinstance(part, SideOutput) for part in emitted))
        if restart:
            local = restarted(local, lambda: local_of(spec))
    samples = [[False] * 2 + [True] * n_passed for n_passed in (16, 32, 2)]
    assert raw_batches == [is_raw for sample in samples for is_raw in sample]


def test_the_policy_takes_a_sample_first():
    policy = PreaggregationPolicy()
    policy.rows_in = 1000
    assert policy.note_shipped(1000)
    assert policy.aggregates


def test_the_policy_doubles_its_wait_and_resets_it_after_a_success():
    policy = PreaggregationPolicy()
    waits = []
    for n_entries in [N, N, N, N, N, 0, N]:
        policy.rows_in = N
        policy.note_shipped(n_entries)
        waits.append(policy.rows_to_pass // N)
        policy.note_passed(policy.rows_to_pass)

    assert waits == [8, 16, 32, 64, 64, 0, 8]
