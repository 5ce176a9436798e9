"""`filter_rows` returns the rows that Arrow's own filter returns."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.columns import selection

ROWS = st.lists(
    st.tuples(
        st.none() | st.booleans(),
        st.text(max_size=40),
        st.none() | st.text(max_size=3),
        st.integers(-9, 9),
        st.none() | st.floats(allow_nan=False),
    ),
    max_size=60,
)


@pytest.fixture(autouse=True)
def _own_kernels_for_small_batches(monkeypatch):
    monkeypatch.setattr(selection, "_LEAST_ROWS", 0)


@pytest.mark.parametrize("text_type", [pa.string(), pa.large_string()])
@given(rows=ROWS, start=st.integers(0, 5))
def test_filtered_rows_are_those_of_arrows_filter(text_type, rows, start):
    mask, *columns = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    types = [text_type, pa.string(), pa.int64(), pa.float64()]
    arrays = [pa.array(c, t).slice(start) for c, t in zip(columns, types, strict=True)]
    batch = pa.record_batch(arrays, names=["text", "maybe", "number", "real"])
    flags = pa.array(mask, pa.bool_()).slice(start)

    found = selection.filter_rows(batch, flags)

    found.validate(full=True)
    assert found.equals(batch.filter(flags))


TYPES = [
    pa.int8(),
    pa.uint16(),
    pa.float16(),
    pa.date32(),
    pa.float32(),
    pa.time64("us"),
    pa.bool_(),
]
TYPES += [pa.decimal128(9, 2), pa.string_view(), pa.month_day_nano_interval(), pa.binary(3)]


@pytest.mark.parametrize("data_type", TYPES, ids=str)
@given(values=st.lists(st.integers(0, 2), max_size=30), start=st.integers(0, 5), data=st.data())
def test_rows_of_any_type_are_those_that_arrow_takes(data_type, values, start, data):
    made = {
        pa.string_view(): str,
        pa.bool_(): bool,
        pa.binary(3): lambda n: b"%03d" % n,
        pa.month_day_nano_interval(): lambda n: (n, n, n),
    }
    column = pa.array(map(made.get(data_type, int), values), data_type).slice(start)
    indices = st.integers(0, len(column) - 1)
    rows = data.draw(st.lists(indices, max_size=20)) if len(column) else []

    found = selection.take_column(column, np.array(rows, np.int32))

    found.validate(full=True)
    assert found.type == data_type
    assert found.to_pylist() == [column[row].as_py() for row in rows]


@pytest.mark.parametrize("index_type", [np.int32, np.uint32, np.int64])
def test_indices_may_have_any_width(index_type):
    indices = np.array([2, 0, 2], index_type)

    assert selection.gather(np.array([5.0, 6.0, 7.0]), indices).tolist() == [7.0, 5.0, 7.0]
