import datetime as dt
import itertools

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.columns.event_time import MAX_TIME, MIN_TIME, ORDER_COLUMN, TIME_COLUMN
from hpcstream.columns.ownership import Ownership
from hpcstream.errors import ConnectorError, PlanError
from hpcstream.operators.event_time import AssignEventTime
from hpcstream.state.table import Part

INT64 = pa.int64()


def batch_of(times, data_type=INT64):
    return pa.record_batch({"v": ["x"] * len(times), "t": pa.array(times, data_type)})


def watermarks(batches, *, delay, restart):
    """Return the watermark after each batch, from a new operator each time if ``restart``."""
    operator = AssignEventTime("t", "us", delay)
    out = []
    for batch in batches:
        assert len(list(operator.process_batch(batch))) == 1
        assert list(operator.process_watermark(0)) == []
        out.append(operator.output_watermark(0))
        if restart:
            snapshot = operator.snapshot()
            operator = AssignEventTime("t", "us", delay)
            operator.restore(snapshot)
    return out


@pytest.mark.parametrize("restart", [False, True])
@given(times=st.lists(st.lists(st.integers(-100, 100))), delay=st.integers(0, 50))
def test_the_watermark_is_the_greatest_time_less_the_delay(restart, times, delay):
    found = watermarks([batch_of(some) for some in times], delay=delay, restart=restart)

    seen = [list(itertools.chain(*times[: i + 1])) for i in range(len(times))]
    assert found == [max(some) - delay if some else MIN_TIME for some in seen]
    assert found == sorted(found)


def test_the_end_of_the_stream_passes_through():
    operator = AssignEventTime("t", "us", 5)
    list(operator.process_batch(batch_of([7])))

    assert operator.output_watermark(MAX_TIME) == MAX_TIME
    assert operator.output_watermark(MIN_TIME) == 2


def test_the_earliest_times_do_not_wrap_around():
    operator = AssignEventTime("t", "us", 5)
    list(operator.process_batch(batch_of([MIN_TIME])))

    assert operator.output_watermark(0) == MIN_TIME


@pytest.mark.parametrize(
    ("data_type", "unit", "ticks"),
    [
        (pa.timestamp("s"), "s", 86_400),
        (pa.timestamp("ms", "Europe/Berlin"), "ms", 86_400_000),
        (pa.timestamp("us"), "us", 86_400_000_000),
        (pa.timestamp("ns"), "ns", 86_400_000_000_000),
        (pa.date32(), "d", 1),
        (pa.date64(), "ms", 86_400_000),
    ],
)
def test_times_count_in_the_unit_of_their_type(data_type, unit, ticks):
    batch = batch_of([dt.datetime(1970, 1, 2)], data_type)
    operator = AssignEventTime("t", unit, 0)

    (out,) = operator.process_batch(batch)

    assert out.schema.equals(operator.output_schema(batch.schema))
    assert out[TIME_COLUMN].to_pylist() == [ticks]


def test_a_slice_has_its_own_times():
    (out,) = AssignEventTime("t", "ms").process_batch(batch_of([1, 2, 3]).slice(1, 1))

    assert out[TIME_COLUMN].to_pylist() == [2]


def test_an_earlier_event_time_is_replaced_where_it_is():
    batch = batch_of([5]).append_column(TIME_COLUMN, pa.array([1]))
    batch = batch.append_column(ORDER_COLUMN, pa.array([9]))
    operator = AssignEventTime("t", "ms")

    (out,) = operator.process_batch(batch)

    assert operator.output_schema(batch.schema).equals(out.schema)
    assert out.to_pylist() == [{"v": "x", "t": 5, TIME_COLUMN: 5, ORDER_COLUMN: 9}]


def test_event_time_comes_directly_after_the_users_columns():
    batch = batch_of([5]).append_column(ORDER_COLUMN, pa.array([9]))
    operator = AssignEventTime("t", "ms")

    (out,) = operator.process_batch(batch)

    assert out.schema.names == ["v", "t", TIME_COLUMN, ORDER_COLUMN]
    assert operator.output_schema(batch.schema).equals(out.schema)


def test_a_null_time_is_refused_with_column_and_rows():
    batch = batch_of([1, None, 3, None], pa.timestamp("us"))

    with pytest.raises(ConnectorError, match=r"column 't' is null in 2 of 4 rows.*row 1, 3 of it"):
        AssignEventTime("t", "us").process_batch(batch)


@pytest.mark.parametrize(
    ("column", "data_type", "unit", "message"),
    [
        ("time", pa.int64(), "ms", "no column 'time'"),
        ("t", pa.string(), "us", "must be a timestamp, date or int64"),
        ("t", pa.timestamp("ms"), "us", "counts in ms, not in us"),
    ],
)
def test_a_column_without_such_times_is_refused(column, data_type, unit, message):
    schema = pa.schema([("t", data_type)])

    with pytest.raises(PlanError, match=message):
        AssignEventTime(column, unit).output_schema(schema)


def test_a_negative_delay_is_refused():
    with pytest.raises(ValueError, match="must not be negative"):
        AssignEventTime("t", "us", -1)


def test_of_several_instances_the_one_furthest_behind_counts():
    operator = AssignEventTime("t", "us", 1)
    parts = [Part(False, {"greatest": np.array([greatest])}) for greatest in (30, 10, 20)]

    operator.merge(parts, Ownership(1, 2))

    assert operator.output_watermark(0) == 9


def test_the_description_names_column_unit_and_delay():
    text = AssignEventTime("t", "us", 7).describe()

    assert text == "event time from 't', in us; watermark 7 us behind"
