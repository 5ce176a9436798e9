import datetime as dt
from decimal import Decimal

import numpy as np
import numpy.testing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.columns.arrays import (
    binary_views,
    fixed_values,
    is_binary_type,
    is_word_type,
    key_words,
    validity,
    words_to_array,
)

WORD_TYPES = [
    pa.int8(),
    pa.int16(),
    pa.int32(),
    pa.int64(),
    pa.uint8(),
    pa.uint16(),
    pa.uint32(),
    pa.uint64(),
    pa.bool_(),
    pa.date32(),
    pa.date64(),
    pa.time32("ms"),
    pa.time64("us"),
    pa.timestamp("ns", "Europe/Oslo"),
    pa.duration("s"),
    pa.decimal64(12, 2),
]
BINARY_TYPES = [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()]
EIGHT_BYTE_TYPES = [pa.int64(), pa.uint64(), pa.float64(), pa.timestamp("us"), pa.duration("ms")]


def numbers(data_type, values):
    """Return an array of a fixed-width type whose integers are ``values``."""
    if data_type == pa.bool_():
        return pa.array([None if value is None else bool(value) for value in values])
    width = pa.int32() if data_type.bit_width == 32 else pa.int64()
    if pa.types.is_integer(data_type) or pa.types.is_floating(data_type):
        return pa.array(values, type=data_type)
    return pa.array(values, type=width).view(data_type)


@pytest.mark.parametrize("data_type", [*WORD_TYPES, pa.float16(), pa.float32()], ids=str)
def test_fixed_values_of_a_slice_are_those_of_the_slice(data_type):
    array = numbers(data_type, [1, 0, 1, 0, None, 1, 1, 0, 1, 0, 1])[3:10]
    values, valid = fixed_values(array), validity(array)
    assert len(values) == 7
    npt.assert_array_equal(values[valid], [0, 1, 1, 0, 1, 0])
    npt.assert_array_equal(valid, [True, False, True, True, True, True, True])


@pytest.mark.parametrize("data_type", EIGHT_BYTE_TYPES, ids=str)
def test_fixed_values_share_the_memory_of_the_array(data_type):
    array = numbers(data_type, [1, 2, 3, 4])
    address = array.buffers()[1].address
    assert fixed_values(array[1:]).__array_interface__["data"][0] == address + 8


def test_fixed_values_keep_the_memory_alive():
    values = fixed_values(pa.array(range(100_000)))
    npt.assert_array_equal(values, np.arange(100_000))


def test_decimals_and_fixed_binaries_are_rows_of_words_and_bytes():
    decimals = pa.array([Decimal("0.01"), Decimal("-0.02"), None], pa.decimal128(20, 2))
    npt.assert_array_equal(fixed_values(decimals)[:2], [[1, 0], [-2, -1]])
    assert fixed_values(decimals.cast(pa.decimal256(20, 2))).shape == (3, 4)
    records = pa.array([b"ab", b"cd", b"ef"], pa.binary(2))
    npt.assert_array_equal(fixed_values(records[1:]), [[*b"cd"], [*b"ef"]])


@pytest.mark.parametrize("data_type", [pa.string(), pa.list_(pa.int64()), pa.null()], ids=str)
def test_fixed_values_refuses_a_type_without_fixed_width(data_type):
    with pytest.raises(TypeError, match="no fixed-width values"):
        fixed_values(pa.nulls(2, data_type))


def test_validity_is_none_without_nulls_and_false_throughout_for_the_null_type():
    assert validity(pa.array([1, 2])) is None
    assert validity(pa.array([None, 1, 2])[1:]) is None
    npt.assert_array_equal(validity(pa.nulls(3)), [False] * 3)


@pytest.mark.parametrize("data_type", BINARY_TYPES, ids=str)
def test_binary_views_of_a_slice_delimit_its_rows(data_type):
    array = pa.array(["zero", "one", None, "", "four"], data_type)[1:]
    offsets, data = binary_views(array)
    rows = [data[offsets[row] : offsets[row + 1]].tobytes() for row in range(4)]
    assert rows == [b"one", b"", b"", b"four"]
    assert is_binary_type(data_type)


@pytest.mark.parametrize("data_type", BINARY_TYPES, ids=str)
def test_binary_views_of_no_rows_and_of_empty_rows(data_type):
    offsets, data = binary_views(pa.array([], data_type))
    assert (offsets.tolist(), data.size) == ([0], 0)
    offsets, _ = binary_views(pa.array([None, "", None], data_type))
    assert offsets.tolist() == [0, 0, 0, 0]


def test_binary_views_refuses_numbers():
    with pytest.raises(TypeError, match="int64 has no offsets"):
        binary_views(pa.array([1]))


@pytest.mark.parametrize("data_type", WORD_TYPES, ids=str)
def test_words_round_trip(data_type):
    array = numbers(data_type, [0, 1, None, 1, 0, 1, None, 0, 1, 1])[1:]
    words = key_words(array)
    assert words.dtype == np.int64
    assert words_to_array(words, validity(array), data_type).equals(array)


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_uint64_words_keep_their_bits(values):
    array = pa.array(values, pa.uint64())
    assert words_to_array(key_words(array), None, pa.uint64()).equals(array)


def test_equal_values_of_any_width_are_equal_words():
    values = [-3, 0, 127]
    words = [key_words(pa.array(values, t)).tolist() for t in (pa.int8(), pa.int32(), pa.int64())]
    assert words == [values] * 3
    assert key_words(pa.array([dt.date(1970, 1, 3)])).tolist() == [2]


@pytest.mark.parametrize("data_type", [pa.float64(), pa.string(), pa.decimal128(5, 1)], ids=str)
def test_types_that_do_not_fit_a_word_are_refused(data_type):
    assert not is_word_type(data_type)
    with pytest.raises(TypeError, match="int64"):
        key_words(pa.nulls(1, data_type))
    with pytest.raises(TypeError, match="int64"):
        words_to_array(np.zeros(1, dtype=np.int64), None, data_type)


@pytest.mark.parametrize("data_type", [*WORD_TYPES, pa.float64()], ids=str)
def test_every_view_is_read_only_so_that_kernels_compile_once(data_type):
    array = numbers(data_type, [1, None, 0])
    views = [fixed_values(array), validity(array), fixed_values(array[:0])]
    views += [key_words(array)] if is_word_type(data_type) else []
    assert not any(view.flags.writeable for view in views)
    assert not any(view.flags.writeable for view in binary_views(pa.array(["a"])))
