"""Windows over all rows of several ranks against a reference that keeps every row."""

import math
from decimal import Decimal

import numpy as np
import numpy.testing as npt
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_windows import NaiveWindows, aggregate

from hpcstream.aggregates.named import NamedAggregate
from hpcstream.columns.event_time import MAX_TIME, ORDER_COLUMN, TIME_COLUMN
from hpcstream.errors import OverflowInAggregate
from hpcstream.operators.windows.all_ranks import (
    WINDOW_COLUMN,
    WindowAllFinal,
    WindowAllLocal,
)
from hpcstream.operators.windows.assigners.fixed import SlidingWindows, TumblingWindows
from hpcstream.operators.windows.spec import WindowAggregateSpec
from hpcstream.state.arrays import HeapAllocator

REDUCIBLE = ("count_rows", "count", "sum", "mean", "min", "max")
MERGED = ("count", "sum", "mean", "min", "max", "var", "std", "first", "last")
HOLISTIC = ("median", "count_distinct", "sum", "first")


def spec_of(assigner, functions, value_type, lateness=0):
    schema = pa.schema([("x", value_type), (TIME_COLUMN, pa.int64()), (ORDER_COLUMN, pa.int64())])
    return WindowAggregateSpec(
        keys=(),
        assigner=assigner,
        aggregates=tuple(
            NamedAggregate.of(f, f, *([] if f == "count_rows" else ["x"])) for f in functions
        ),
        allowed_lateness=lateness,
        input_schema=schema,
        time_type=pa.int64(),
    )


def reduce_like_mpi(batches, spec):
    """Merge partial rows of one window column by column, as the reducing edge does."""
    ops = spec.reductions
    parts = [part for batch in batches for part in [batch.to_pydict()] if batch.num_rows]
    windows = sorted({w for part in parts for w in part[WINDOW_COLUMN]})
    columns = {WINDOW_COLUMN: windows}
    for name, (op, identity) in ops.items():
        values = [
            [
                *(
                    v
                    for p in parts
                    for w, v in zip(p[WINDOW_COLUMN], p[name], strict=True)
                    if w == window
                ),
                identity,
            ]
            for window in windows
        ]
        columns[name] = [{"sum": sum, "min": min, "max": max}[op](v) for v in values]
    return [pa.RecordBatch.from_pydict(columns, schema=spec.window_all_schema)]


def restarted(operator, make):
    snapshot = {name: array.copy() for name, array in operator.snapshot().items()}
    other = make()
    other.restore(snapshot)
    return other


def run(spec, events, *, reduces, restart, n_ranks=2):
    def make_local():
        return WindowAllLocal(spec, HeapAllocator())

    def make_final():
        return WindowAllFinal(spec)

    locals_, final = [make_local() for _ in range(n_ranks)], make_final()
    rows_of_events, order = [], 0
    for event in [*events, MAX_TIME]:
        results = []
        if isinstance(event, int):
            partials = [batch for rank in locals_ for batch in rank.process_watermark(event)]
            for part in reduce_like_mpi(partials, spec) if reduces else partials:
                assert list(final.process_batch(part)) == []
            if restart:
                final = restarted(final, make_final)
            results = [row for b in final.process_watermark(event) for row in b.to_pylist()]
        else:
            rank, rows = event
            times, values = zip(*rows, strict=True) if rows else ((), ())
            columns = [values, times, range(order, order + len(rows))]
            arrays = [
                pa.array(list(column), field.type)
                for column, field in zip(columns, spec.input_schema, strict=True)
            ]
            batch = pa.RecordBatch.from_arrays(arrays, schema=spec.input_schema)
            order += len(rows)
            assert list(locals_[rank].process_batch(batch)) == []
        rows_of_events.append(results)
        if restart:
            locals_ = [restarted(rank, make_local) for rank in locals_]
            final = restarted(final, make_final)
    return rows_of_events, sum(rank.late_rows for rank in locals_)


def expected_of(spec, events):
    assigner = spec.assigner
    reference = NaiveWindows(assigner.size, assigner.slide, assigner.offset, spec.allowed_lateness)
    rows_of_events, order = [], 0
    for event in [*events, MAX_TIME]:
        results = []
        if isinstance(event, int):
            for start, groups in reference.advance(event):
                rows = groups[None]
                values = {a.name: aggregate(a.aggregate.name, rows) for a in spec.aggregates}
                results.append(
                    {"window_start": start, "window_end": start + assigner.size, **values}
                )
        else:
            reference.add([(None, t, order + i, v) for i, (t, v) in enumerate(event[1])])
            order += len(event[1])
        rows_of_events.append(results)
    return rows_of_events, len(reference.late)


def assert_same(got, expected):
    assert len(got) == len(expected)
    for one, other in zip(got, expected, strict=True):
        for name, value in other.items():
            if isinstance(value, float):
                assert math.isclose(one[name], value, rel_tol=1e-9, abs_tol=1e-9), name
            else:
                assert one[name] == value, (name, one, other)


event_lists = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.lists(st.tuples(st.integers(-20, 40), st.none() | st.integers(-5, 5)), max_size=8),
    )
    | st.integers(-30, 60),
    max_size=10,
)


@pytest.mark.parametrize(
    ("functions", "value_type", "reduces"),
    [
        (REDUCIBLE, pa.int64(), True),
        (("count", "min", "max"), pa.float64(), True),
        (REDUCIBLE, pa.int64(), False),
        (MERGED, pa.float64(), False),
        (HOLISTIC, pa.int32(), False),
    ],
)
@settings(max_examples=50)
@given(
    events=event_lists,
    assigner=st.sampled_from([TumblingWindows(7, 2), SlidingWindows(12, 3), SlidingWindows(6, 4)]),
    lateness=st.sampled_from([0, 4]),
    restart=st.booleans(),
)
def test_results_equal_those_of_a_reference(
    functions, value_type, reduces, events, assigner, lateness, restart
):
    spec = spec_of(assigner, functions, value_type, lateness)

    got, n_late = run(spec, events, reduces=reduces, restart=restart)

    expected, n_late_expected = expected_of(spec, events)
    for rows, rows_expected in zip(got, expected, strict=True):
        assert_same(rows, rows_expected)
    assert n_late == n_late_expected


def test_what_depends_on_order_is_not_reduced_elementwise():
    for functions, value_type in [
        (("sum",), pa.float64()),
        (("var",), pa.int64()),
        (HOLISTIC, pa.int64()),
    ]:
        assert spec_of(TumblingWindows(5), functions, value_type).reductions is None


@pytest.mark.parametrize("reduces", [False, True])
def test_a_sum_over_ranks_overflows_only_in_its_final_value(reduces):
    spec = spec_of(TumblingWindows(10), ("sum",), pa.int64())
    big = 2**63 - 1

    got, _ = run(
        spec, [(0, [(1, big), (1, big)]), (1, [(1, -big)])], reduces=reduces, restart=False
    )
    assert got[-1][0]["sum"] == big

    with pytest.raises(OverflowInAggregate, match=f"{2 * big}"):
        run(spec, [(0, [(1, big)]), (1, [(1, big)])], reduces=reduces, restart=False)


@pytest.mark.parametrize("value_type", [pa.float64(), pa.uint64(), pa.int64()])
def test_extremes_survive_the_reduction_as_integers(value_type):
    spec = spec_of(TumblingWindows(10), ("min", "max"), value_type)
    values = {
        pa.float64(): [-math.inf, -0.5, 1e300, math.nan],
        pa.uint64(): [0, 2**63, 2**64 - 1],
        pa.int64(): [-(2**63), 0, 2**63 - 1],
    }[value_type]
    events = [(0, [(1, v) for v in values[::2]]), (1, [(1, v) for v in values[1::2]])]

    got, _ = run(spec, events, reduces=True, restart=False)

    greatest = max(values, key=lambda v: (v != v, v))  # NaN is greater than any number
    npt.assert_array_equal([got[-1][0]["min"], got[-1][0]["max"]], [min(values), greatest])


def test_distinct_decimals_are_counted_over_ranks():
    spec = spec_of(TumblingWindows(10), ("count_distinct", "max"), pa.decimal128(8, 2))
    one, two = Decimal("1.00"), Decimal("2.50")

    got, _ = run(spec, [(0, [(1, one), (2, two)]), (1, [(1, two)])], reduces=False, restart=True)

    assert got[-1][0]["count_distinct"] == 2
    assert got[-1][0]["max"] == two


def test_partial_rows_are_numbers_that_mpi_can_reduce():
    spec = spec_of(SlidingWindows(12, 3), REDUCIBLE, pa.float32())
    kinds = {field.type.to_pandas_dtype() for field in spec.window_all_schema}
    assert kinds <= {np.int64, np.float64}
