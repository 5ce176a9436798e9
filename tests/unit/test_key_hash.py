import datetime as dt
from decimal import Decimal

import numpy as np
import numpy.testing as npt
import pyarrow as pa
import pytest

from hpcstream.columns.key_hash import hash_array, hash_keys


@pytest.fixture(autouse=True)
def wrapping_arithmetic():
    with np.errstate(over="ignore"):  # only without compilation: hashing means to wrap
        yield


WORDS = ["JFK", None, "", "a longer key than one word", "JFK"]
SAME_STRINGS = [
    pa.array(WORDS, pa.string()),
    pa.array(WORDS, pa.large_string()),
    pa.array(WORDS, pa.string_view()),
    pa.array([word and word.encode() for word in WORDS], pa.binary()),
    pa.array(WORDS).dictionary_encode(),
    pa.array([None, "x", *WORDS]).dictionary_encode()[2:],
    pa.DictionaryArray.from_arrays(
        pa.array([1, 0, 2, 3, 1], pa.int8()), pa.array([None, *WORDS[:1], *WORDS[2:4]])
    ),
]
NUMBERS = [7, None, -1, 0, 7]
SAME_NUMBERS = [
    *(pa.array(NUMBERS, t) for t in (pa.int8(), pa.int16(), pa.int32(), pa.int64())),
    pa.array(NUMBERS, pa.int32()).dictionary_encode(),
    pa.array(NUMBERS, pa.int64()).view(pa.timestamp("us")),
]
DAY = dt.date(2001, 1, 1)
KEYS_OF_OTHER_TYPES = [
    pa.array([True, None, False, False, True]),
    pa.array([DAY, None, DAY + dt.timedelta(1), DAY + dt.timedelta(2), DAY]),
    pa.array([Decimal("1.5"), None, Decimal("-1.5"), Decimal(0), Decimal("1.5")]),
    pa.array([b"abc", None, b"abd", b"\0\0\0", b"abc"], pa.binary(3)),
    pa.array([2**63 + 1, None, 5, 6, 2**63 + 1], pa.uint64()),
]


@pytest.mark.parametrize("same", [SAME_STRINGS, SAME_NUMBERS], ids=["strings", "numbers"])
def test_equal_values_hash_alike_in_any_type_that_can_hold_them(same):
    hashes = [hash_array(array) for array in same]
    for array, others in zip(same, hashes, strict=True):
        npt.assert_array_equal(others, hashes[0], err_msg=str(array.type))


@pytest.mark.parametrize(
    "array", [SAME_STRINGS[0], SAME_NUMBERS[3], *KEYS_OF_OTHER_TYPES], ids=lambda a: str(a.type)
)
def test_different_values_hash_differently_and_null_like_any_null(array):
    hashes = hash_array(array)
    assert hashes[0] == hashes[4]
    assert hashes[1] == hash_array(pa.nulls(1))[0]
    assert len(set(hashes.tolist())) == len(set(array.to_pylist()))


def test_a_slice_hashes_like_its_rows():
    for array in [SAME_STRINGS[0], SAME_NUMBERS[3], *KEYS_OF_OTHER_TYPES]:
        npt.assert_array_equal(hash_array(array[1:4]), hash_array(array)[1:4])
        assert hash_array(array[:0]).size == 0


def test_few_rows_of_a_large_dictionary_hash_like_their_values():
    array = pa.array([*map(str, range(50)), None]).dictionary_encode()
    npt.assert_array_equal(hash_array(array[48:]), hash_array(pa.array(["48", "49", None])))
    npt.assert_array_equal(hash_array(array)[48:], hash_array(array[48:]))


def test_a_dictionary_of_nothing_but_nulls_hashes_like_null():
    array = pa.DictionaryArray.from_arrays(pa.nulls(3, pa.int32()), pa.array([], pa.string()))
    npt.assert_array_equal(hash_array(array), hash_array(pa.nulls(3)))


def test_the_order_of_key_columns_matters():
    batch = pa.record_batch({"a": [1, 2, None], "b": ["x", "y", None]})
    swapped = pa.record_batch({"a": [1, 1], "b": [2, 2]})
    hashes = hash_keys(batch, ["a", "b"])
    assert len(set(hashes.tolist())) == 3
    assert np.all((hashes != hash_keys(batch, ["b", "a"]))[:2])
    assert np.all(hash_keys(swapped, ["a", "b"]) != hash_keys(swapped, ["b", "a"]))
    assert np.all(hashes != hash_keys(batch, ["a"]))


@pytest.mark.parametrize("data_type", [pa.float64(), pa.list_(pa.int8())], ids=str)
def test_a_type_that_cannot_be_a_key_is_refused(data_type):
    with pytest.raises(TypeError, match="cannot be a key"):
        hash_array(pa.nulls(1, data_type))


def test_no_key_columns_is_refused():
    with pytest.raises(ValueError, match="at least one key column"):
        hash_keys(pa.record_batch({"a": [1]}), [])
