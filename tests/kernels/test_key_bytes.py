"""Rows of several columns as bytes; interning is tested in tests/unit/test_key_index.py."""

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.state.interned_keys import decode_rows, encode_rows

TYPES = (pa.int64(), pa.string(), pa.int16(), pa.large_binary())
rows_of_keys = st.lists(
    st.tuples(
        st.none() | st.integers(-(2**63), 2**63 - 1),
        st.none() | st.text(max_size=9),
        st.none() | st.integers(-9, 9),
        st.none() | st.binary(max_size=20),
    ),
    min_size=1,
    max_size=20,
)


def naive_row(key):
    """Return the bytes of one row."""
    encoded = b""
    for value, data_type in zip(key, TYPES, strict=True):
        encoded += bytes([value is not None])
        if data_type in (pa.int64(), pa.int16()):
            encoded += (value or 0).to_bytes(8, "little", signed=True)
        else:
            raw = value.encode() if isinstance(value, str) else value or b""
            encoded += len(raw).to_bytes(4, "little") + raw
    return encoded


@given(keys=rows_of_keys, start=st.integers(0, 3))
def test_rows_are_encoded_as_by_the_naive_twin_and_come_back(keys, start):
    columns = [
        pa.array(column, data_type).slice(start)
        for column, data_type in zip(zip(*keys, strict=True), TYPES, strict=True)
    ]
    kept = keys[start:]

    offsets, data = encode_rows(columns)

    assert data.tobytes() == b"".join(map(naive_row, kept))
    assert offsets[-1] == len(data)
    decoded = decode_rows(offsets, data, TYPES)
    assert [column.to_pylist() for column in decoded] == [column.to_pylist() for column in columns]
