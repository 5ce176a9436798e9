"""Rows picked by a mask are those that Arrow's own filter picks."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.memory import selection

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
def test_picked_rows_are_those_of_arrows_filter(text_type, rows, start):
    mask, *columns = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    types = [text_type, pa.string(), pa.int64(), pa.float64()]
    arrays = [pa.array(c, t).slice(start) for c, t in zip(columns, types, strict=True)]
    batch = pa.record_batch(arrays, names=["text", "maybe", "number", "real"])
    flags = pa.array(mask, pa.bool_()).slice(start)

    found = selection.picked(batch, flags)

    found.validate(full=True)
    assert found.equals(batch.filter(flags))
