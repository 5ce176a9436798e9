"""The windowed aggregate against a reference that keeps every row."""

import math
import statistics
import time
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from naive_windows import NaiveWindows, aggregate

from hpcstream.aggregates.named import NamedAggregate
from hpcstream.columns.event_time import MAX_TIME, ORDER_COLUMN, TIME_COLUMN
from hpcstream.errors import OverflowInAggregate
from hpcstream.operators.base import PAUSE
from hpcstream.operators.windows.assigners.fixed import SlidingWindows, TumblingWindows
from hpcstream.operators.windows.keyed import WindowAggregate
from hpcstream.operators.windows.spec import WindowAggregateSpec
from hpcstream.state.arrays import HeapAllocator
from hpcstream.testing.harness import run_events, run_operator

FUNCTIONS = ("count_rows", "count", "sum", "mean", "min", "max", "var", "std", "first", "last")


def schema_of(value_type=None, key_type=None):
    return pa.schema(
        [
            ("key", key_type or pa.int64()),
            ("x", value_type or pa.float64()),
            (TIME_COLUMN, pa.int64()),
            (ORDER_COLUMN, pa.int64()),
        ]
    )


def batch(*rows, schema=None):
    schema = schema or schema_of()
    columns = list(zip(*rows, strict=True)) or [()] * 4
    key, time, order, value = (list(column) for column in columns)
    arrays = [
        pa.array(column, field.type)
        for column, field in zip((key, value, time, order), schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def spec_of(assigner, functions=FUNCTIONS, *, lateness=0, schema=None, late_output=True):
    return WindowAggregateSpec(
        keys=("key",),
        assigner=assigner,
        aggregates=tuple(
            NamedAggregate.of(f, f, *([] if f == "count_rows" else ["x"])) for f in functions
        ),
        allowed_lateness=lateness,
        input_schema=schema or schema_of(),
        time_type=pa.int64(),
        late_output=late_output,
    )


def operator_of(assigner, functions=FUNCTIONS, **options):
    spec = spec_of(assigner, functions, **options)
    return lambda: WindowAggregate(spec, HeapAllocator())


def expected_rows(reference, fired, functions):
    return [
        {
            "key": key,
            "window_start": start,
            "window_end": start + reference.size,
            **{function: aggregate(function, rows) for function in functions},
            TIME_COLUMN: start + reference.size - 1,
        }
        for start, groups in fired
        for key, rows in groups.items()
    ]


def sort_key(row):
    return row["window_start"], repr(row["key"])


def assert_same(got, expected):
    assert len(got) == len(expected)
    for one, other in zip(sorted(got, key=sort_key), sorted(expected, key=sort_key), strict=True):
        assert one.keys() == other.keys()
        for name, value in other.items():
            if isinstance(value, float):
                assert math.isclose(one[name], value, rel_tol=1e-9, abs_tol=1e-9), (name, one)
            else:
                assert one[name] == value, (name, one, other)


rows_of_batch = st.lists(
    st.tuples(
        st.none() | st.integers(-2, 3),
        st.integers(-30, 60),
        st.none() | st.integers(-5, 5),
    ),
    max_size=12,
)
event_lists = st.lists(rows_of_batch | st.integers(-40, 80), max_size=10)
assigners = st.sampled_from(
    [
        TumblingWindows(7),
        TumblingWindows(10, 3),
        SlidingWindows(10, 5),
        SlidingWindows(6, 4),
        SlidingWindows(20, 1),
        SlidingWindows(9, 3, 2),
        SlidingWindows(16, 2),
    ]
)


def run_reference(reference, events, functions):
    rows_of_events, late, order = [], [], 0
    batches = []
    for event in [*events, MAX_TIME]:
        if isinstance(event, int):
            rows_of_events.append(expected_rows(reference, reference.advance(event), functions))
            batches.append(event)
            continue
        rows = [(key, time, order + i, value) for i, (key, time, value) in enumerate(event)]
        order += len(rows)
        late += reference.add(rows)
        rows_of_events.append([])
        batches.append(batch(*rows))
    return batches, rows_of_events, late


@settings(max_examples=150)
@given(
    events=event_lists,
    assigner=assigners,
    lateness=st.sampled_from([0, 0, 3, 20]),
    restart=st.booleans(),
)
def test_results_equal_those_of_a_reference_that_keeps_every_row(
    events, assigner, lateness, restart
):
    reference = NaiveWindows(assigner.size, assigner.slide, assigner.offset, lateness)
    batches, expected, late = run_reference(reference, events, FUNCTIONS)

    got = run_events(operator_of(assigner, lateness=lateness), batches, restart=restart)

    for rows, rows_expected in zip(got, expected, strict=True):
        assert_same([row for row in rows if "side output" not in row], rows_expected)
    late_got = [row for rows in got for row in rows if row.get("side output") == "late"]
    assert [(r["key"], r[TIME_COLUMN], r[ORDER_COLUMN], r["x"]) for r in late_got] == late


@settings(max_examples=60)
@given(events=event_lists, assigner=assigners)
def test_restarting_after_every_event_changes_no_row_and_no_order(events, assigner):
    batches, _, _ = run_reference(NaiveWindows(assigner.size, assigner.slide), events, ())
    make = operator_of(assigner, lateness=3)

    assert run_operator(make, batches, restart=True) == run_operator(make, batches)


def test_late_rows_are_counted_without_late_output():
    operator = operator_of(TumblingWindows(10), late_output=False)()
    assert list(operator.process_watermark(20)) == []

    assert list(operator.process_batch(batch((1, 19, 0, 1.0), (1, 20, 1, 1.0)))) == []

    assert operator.late_rows == 1
    assert operator.n_entries == 1


def test_a_fired_window_fires_again_with_the_whole_result_within_allowed_lateness():
    make = operator_of(TumblingWindows(10), ("sum",), lateness=5)
    events = [batch((1, 3, 0, 1.0)), 10, batch((1, 4, 1, 2.0)), 12, 15, batch((1, 5, 2, 4.0)), 16]

    rows = run_operator(make, events)

    assert [row.get("sum", "late") for row in rows] == [1.0, 3.0, "late"]


def test_windows_after_a_gap_of_centuries_come_at_once():
    century = 100 * 365 * 86_400_000_000
    make = operator_of(SlidingWindows(1_000_000, 250_000), ("count_rows",))
    events = [batch((1, 5, 0, 1.0)), batch((1, century, 1, 1.0)), century + 10_000_000]

    rows = run_operator(make, events)

    assert [row["count_rows"] for row in rows] == [1] * 8


@pytest.mark.parametrize("function", ["median", "count_distinct", "sum"])
@pytest.mark.parametrize("times", [[0, 50, 100], [0, 100_000, 400_000]])
def test_windows_that_hold_the_same_rows_are_made_once(function, times):
    day = 86_400
    make = operator_of(SlidingWindows(day, 1), (function,))
    began = time.process_time()
    operator = make()
    operator.process_batch(batch(*((1, t, i, float(i)) for i, t in enumerate(times))))

    emitted = operator.process_watermark(MAX_TIME)
    parts = pa.Table.from_batches([part for part in emitted if part is not PAUSE])

    assert time.process_time() - began < 5, "some 10 ms are right, minutes if slices were visited"
    starts = parts["window_start"].to_numpy()
    held = [[i for i, t in enumerate(times) if start <= t < start + day] for start in starts]
    naive = {"median": statistics.median, "count_distinct": len, "sum": sum}[function]
    assert parts[function].to_pylist() == [naive(values) for values in held]
    assert len(starts) == len({s for t in times for s in range(t - day + 1, t + 1)})


def test_a_batch_may_hold_more_slices_than_the_table_has_seen():
    n_rows = 5000
    times = [i * 10 * 3 for i in range(n_rows)]
    events = [batch(*((i % 3, t, i, 1.0) for i, t in enumerate(times))), MAX_TIME]

    rows = run_operator(operator_of(TumblingWindows(10), ("count_rows",)), events)

    assert [row["window_start"] for row in rows] == times
    assert {row["count_rows"] for row in rows} == {1}


def test_output_batches_are_bounded():
    n_rows = 150_000
    schema = schema_of()
    columns = [pa.array(range(n_rows)), pa.array([1.0] * n_rows), pa.array([0] * n_rows)]
    rows = pa.RecordBatch.from_arrays([*columns, columns[0]], schema=schema)
    operator = operator_of(TumblingWindows(10), ("sum",))()
    operator.process_batch(rows)

    emitted = list(operator.process_watermark(10))
    assert emitted[1::2] == [PAUSE] * (len(emitted) // 2)
    sizes = [part.num_rows for part in emitted[::2]]

    assert sizes == [65_536, 65_536, 150_000 - 2 * 65_536]


def test_an_integer_sum_overflows_only_in_its_final_value():
    schema = schema_of(pa.int64())
    big = 2**62
    make = operator_of(TumblingWindows(10), ("sum", "mean"), schema=schema)
    fits = batch((1, 0, 0, big), (1, 0, 1, big), (1, 0, 2, -big), schema=schema)
    rows = run_operator(make, [fits, 10], restart=True)
    assert rows[0]["sum"] == big
    assert rows[0]["mean"] == pytest.approx(big / 3)

    too_big = batch((1, 0, 0, big), (1, 0, 1, big), schema=schema)
    with pytest.raises(OverflowInAggregate, match=f"sum=sum.x.*{2 * big}"):
        run_operator(make, [too_big, 10])


def test_unsigned_values_above_int63_are_compared_and_summed_as_unsigned():
    schema = schema_of(pa.uint64())
    make = operator_of(TumblingWindows(10), ("min", "max", "mean"), schema=schema)

    rows = run_operator(make, [batch((1, 0, 0, 2**64 - 1), (1, 0, 1, 1), schema=schema), 10])

    assert (rows[0]["min"], rows[0]["max"]) == (1, 2**64 - 1)
    assert rows[0]["mean"] == 2.0**63


def test_nan_is_greater_than_any_number():
    nan = float("nan")
    make = operator_of(TumblingWindows(10), ("min", "max"))

    rows = run_operator(make, [batch((1, 0, 0, nan), (1, 0, 1, 2.0), (2, 0, 2, nan)), 10])

    assert rows[0]["min"] == 2.0
    assert math.isnan(rows[0]["max"])
    assert math.isnan(rows[1]["min"])


@pytest.mark.parametrize(
    ("value_type", "values"),
    [
        (pa.int8(), [3, None, -4]),
        (pa.uint32(), [3, None, 4]),
        (pa.float32(), [0.5, None, -2.0]),
        (pa.bool_(), [True, None, False]),
        (pa.date32(), [3, None, 4]),
        (pa.timestamp("us", "UTC"), [3, None, 4]),
        (pa.duration("s"), [3, None, 4]),
    ],
)
def test_least_greatest_first_and_last_keep_the_type(value_type, values):
    schema = schema_of(value_type)
    make = operator_of(TumblingWindows(10), ("min", "max", "first", "last"), schema=schema)
    rows = batch(*((1, 0, i, value) for i, value in enumerate(values)), schema=schema)
    first, _, last = rows["x"].to_pylist()

    [row] = run_operator(make, [rows, 10], restart=True)

    assert (row["min"], row["max"]) == (min(first, last), max(first, last))
    assert (row["first"], row["last"]) == (first, last)


def test_times_near_the_ends_of_int64_are_refused():
    operator = operator_of(TumblingWindows(10))()
    with pytest.raises(ValueError, match=r"outside .*is the column's unit right"):
        operator.process_batch(batch((1, MAX_TIME - 1, 0, 1.0)))


def keyed_spec(key_types, functions=("count_rows",), **options):
    schema = pa.schema(
        [*((f"k{i}", t) for i, t in enumerate(key_types)), (TIME_COLUMN, pa.int64())]
    )
    return WindowAggregateSpec(
        keys=tuple(f"k{i}" for i in range(len(key_types))),
        assigner=TumblingWindows(10),
        aggregates=tuple(NamedAggregate.of(f, f) for f in functions),
        allowed_lateness=0,
        input_schema=schema,
        time_type=pa.int64(),
    )


KEY_TYPES = {
    pa.string(): st.text(max_size=10),
    pa.large_binary(): st.binary(max_size=10),
    pa.int32(): st.integers(-3, 3),
    pa.bool_(): st.booleans(),
    pa.date32(): st.dates(),
    pa.decimal128(10, 2): st.decimals(-99, 99, places=2),
    pa.binary(4): st.binary(min_size=4, max_size=4),
    pa.dictionary(pa.int8(), pa.string()): st.sampled_from(["a", "bb", ""]),
}


@settings(max_examples=60)
@given(data=st.data(), restart=st.booleans())
def test_keys_of_any_types_and_nulls_come_back_as_they_went_in(data, restart):
    types = data.draw(st.lists(st.sampled_from(list(KEY_TYPES)), min_size=1, max_size=3))
    spec = keyed_spec(types)
    events, counts = [], {}
    for _ in range(3):
        keys = data.draw(
            st.lists(st.tuples(*(st.none() | KEY_TYPES[t] for t in types)), min_size=1, max_size=8)
        )
        columns = [pa.array(c, t) for c, t in zip(zip(*keys, strict=True), types, strict=True)]
        times = pa.array([0] * len(keys), pa.int64())
        events.append(pa.RecordBatch.from_arrays([*columns, times], schema=spec.input_schema))
        for key in keys:
            counts[key] = counts.get(key, 0) + 1

    rows = run_operator(
        lambda: WindowAggregate(spec, HeapAllocator()), [*events, 10], restart=restart
    )

    got = {tuple(row[k] for k in spec.keys): row["count_rows"] for row in rows}
    assert got == counts
    assert list(got) == list(counts)  # in order of arrival


def test_memory_follows_open_keys_not_all_keys_ever_seen():
    spec = keyed_spec([pa.string()])
    operator = WindowAggregate(spec, HeapAllocator())
    sizes = []
    for window in range(40):
        keys = [f"key-{window}-{i}" for i in range(3000)]
        times = pa.array([10 * window] * 3000, pa.int64())
        operator.process_batch(
            pa.RecordBatch.from_arrays([pa.array(keys), times], schema=spec.input_schema)
        )
        fired = [part["k0"].to_pylist() for part in operator.process_watermark(10 * window + 10)]
        assert fired == [keys]
        sizes.append(operator.state_bytes())
    assert operator.n_entries == 0
    assert max(sizes[20:]) <= 1.1 * max(sizes[:10])


HOLISTIC = ("median", "quantile", "count_distinct", "count_rows", "max")


@settings(max_examples=80)
@given(
    events=event_lists, assigner=assigners, lateness=st.sampled_from([0, 3]), restart=st.booleans()
)
def test_holistic_results_equal_those_of_a_reference(events, assigner, lateness, restart):
    reference = NaiveWindows(assigner.size, assigner.slide, assigner.offset, lateness)
    batches, expected, _ = run_reference(reference, events, HOLISTIC)

    make = operator_of(assigner, HOLISTIC, lateness=lateness, late_output=False)
    got = run_events(make, batches, restart=restart)

    for rows, rows_expected in zip(got, expected, strict=True):
        assert_same(rows, rows_expected)


LEAST = {"min": Decimal("-2.5"), "last": Decimal("-2.5"), "mean": -0.5, "count_distinct": 2}


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(
    ("value_type", "values", "expected"),
    [
        (pa.string(), ["b", None, "a", "b"], {"min": "a", "max": "b", "first": "b", "last": "b"}),
        (pa.binary(), [b"b", None, b"", b"b"], {"min": b"", "max": b"b", "count_distinct": 2}),
        (
            pa.dictionary(pa.int8(), pa.string()),
            ["b", None, "a", "b"],
            {"min": "a", "last": "b", "count_distinct": 2},
        ),
        (
            pa.decimal128(10, 2),
            [Decimal("1.25"), None, Decimal("-0.25"), Decimal("1.25")],
            {
                "sum": Decimal("2.25"),
                "mean": 0.75,
                "min": Decimal("-0.25"),
                "first": Decimal("1.25"),
                "median": 1.25,
                "std": math.sqrt(0.75),
            },
        ),
        (pa.string_view(), ["b" * 20, None, "a"], {"min": "a", "first": "b" * 20, "last": "a"}),
        (pa.binary_view(), [b"b" * 20, None, b""], {"max": b"b" * 20, "count_distinct": 2}),
        (pa.float16(), [1.5, None, 0.0, -0.0], {"count_distinct": 2, "median": 0.0}),
        *(
            (data_type, [Decimal("1.5"), None, Decimal("-2.5")], {"sum": Decimal("-1.0")} | LEAST)
            for data_type in (pa.decimal32(5, 1), pa.decimal64(15, 1), pa.decimal256(70, 1))
        ),
    ],
)
@pytest.mark.parametrize("assigner", [TumblingWindows(10), SlidingWindows(10, 5)])
def test_aggregates_of_values_that_are_no_words(value_type, values, expected, restart, assigner):
    schema = schema_of(value_type)
    make = operator_of(assigner, tuple(expected), schema=schema)
    rows = [batch((1, 5 + i, i, value), schema=schema) for i, value in enumerate(values)]

    got = run_operator(make, [*rows, batch((2, 5, 9, None), schema=schema), 10], restart=restart)

    results, nothing = got[-2:]
    for name, value in expected.items():
        assert results[name] == (pytest.approx(value) if isinstance(value, float) else value)
        assert nothing[name] == (0 if name == "count_distinct" else None)


@pytest.mark.parametrize(
    ("value_type", "value"),
    [(pa.decimal128(38, 0), 9 * 10**37), (pa.decimal256(76, 0), 9 * 10**75)],
    ids=str,
)
def test_a_sum_of_decimals_that_does_not_fit_raises_and_never_wraps(value_type, value):
    schema = schema_of(value_type)
    values = [Decimal(value)] * 20
    rows = [batch((1, 5, i, each), schema=schema) for i, each in enumerate(values)]
    make = operator_of(TumblingWindows(10), ("sum",), schema=schema)

    with pytest.raises(OverflowInAggregate, match=r"a sum is about 1.8e"):
        run_operator(make, [*rows, 10])
    fits = run_operator(make, [rows[0], 10])
    assert fits[-1]["sum"] == value


def test_distinct_values_are_kept_once():
    operator = operator_of(TumblingWindows(10), ("count_distinct",))()
    n_rows = 1 << 16
    zeros = pa.array([0] * n_rows)
    values = pa.array([float(i % 10) for i in range(n_rows)])
    sizes = []
    for _ in range(24):
        operator.process_batch(
            pa.RecordBatch.from_arrays([zeros, values, zeros, zeros], schema=schema_of())
        )
        sizes.append(operator.state_bytes())

    [rows] = operator.process_watermark(10)

    assert rows["count_distinct"].to_pylist() == [10]
    assert max(sizes[12:]) <= max(sizes[:12])
