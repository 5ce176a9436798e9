import numpy as np
import pyarrow as pa
import pytest

from hpcstream.columns.time_values import event_time_values
from hpcstream.errors import ConnectorError


@pytest.mark.parametrize("data_type", [pa.int64(), pa.timestamp("ns", "UTC"), pa.date64()], ids=str)
def test_times_of_eight_bytes_are_views(data_type):
    array = pa.array([0, 86_400_000, 172_800_000]).cast(data_type)

    times = event_time_values(array.slice(1), "t")

    assert times.tolist() == [86_400_000, 172_800_000]
    assert times.ctypes.data == array.buffers()[1].address + 8


def test_days_are_widened():
    times = event_time_values(pa.array([-1, 11_000], pa.int32()).cast(pa.date32()), "t")

    assert times.dtype == np.int64
    assert times.tolist() == [-1, 11_000]


def test_no_rows_have_no_times():
    assert event_time_values(pa.array([], pa.timestamp("us")), "t").size == 0


def test_only_the_first_null_rows_are_listed():
    with pytest.raises(ConnectorError, match=r"null in 9 of 9 rows .*\(row 0, 1, 2, 3, 4, \.\.\."):
        event_time_values(pa.nulls(9, pa.int64()), "t")
