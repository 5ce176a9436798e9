import naive_hashing as naive
import numpy as np
import numpy.testing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hpcstream.kernels import hashing

KEYS = st.lists(st.binary(max_size=40), max_size=12)
HASHES = st.lists(st.integers(0, 2**64 - 1), max_size=20)


@pytest.fixture(autouse=True)
def wrapping_arithmetic():
    with np.errstate(over="ignore"):  # only without compilation: hashing means to wrap
        yield


def words_hashed(words):
    hashes = np.empty(len(words), dtype=np.uint64)
    hashing.hash_words(np.asarray(words, dtype=np.int64), hashes)
    return hashes


def keys_hashed(keys, offset_dtype=np.int32):
    data = np.frombuffer(b"".join(keys), dtype=np.uint8)
    offsets = np.cumsum([0, *map(len, keys)]).astype(offset_dtype)
    hashes = np.empty(len(keys), dtype=np.uint64)
    hashing.hash_binary(offsets, data, hashes)
    return hashes


@given(arrays(np.int64, st.integers(0, 20)))
def test_hash_words_matches_naive(words):
    expected = naive.as_hashes([naive.hash_word(int(word)) for word in words])
    npt.assert_array_equal(words_hashed(words), expected)


@given(KEYS, st.sampled_from([np.int32, np.int64]))
def test_hash_binary_matches_naive(keys, offset_dtype):
    expected = naive.as_hashes([naive.hash_bytes(key) for key in keys])
    npt.assert_array_equal(keys_hashed(keys, offset_dtype), expected)


@given(st.integers(0, 20), st.integers(0, 9), st.data())
def test_hash_records_is_hash_binary_of_equal_lengths(width, n_rows, data):
    content = data.draw(arrays(np.uint8, width * n_rows))
    hashes = np.empty(n_rows, dtype=np.uint64)
    hashing.hash_records(content, width, hashes)
    keys = [content[row * width : (row + 1) * width].tobytes() for row in range(n_rows)]
    npt.assert_array_equal(hashes, keys_hashed(keys))


@given(HASHES, arrays(np.int64, st.integers(0, 20), elements=st.integers(-3, 25)))
def test_gather_hashes_matches_naive(dictionary_hashes, indices):
    hashes = np.empty(len(indices), dtype=np.uint64)
    hashing.gather_hashes(naive.as_hashes(dictionary_hashes), indices, hashes)
    expected = naive.as_hashes(naive.gather_hashes(dictionary_hashes, indices))
    npt.assert_array_equal(hashes, expected)


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.booleans()), max_size=20))
def test_hash_nulls_changes_null_rows_only(rows):
    hashes = naive.as_hashes([key_hash for key_hash, _ in rows])
    hashing.hash_nulls(np.array([valid for _, valid in rows], dtype=np.bool_), hashes)
    expected = [key_hash if valid else naive.NULL_HASH for key_hash, valid in rows]
    npt.assert_array_equal(hashes, naive.as_hashes(expected))


@given(st.lists(st.tuples(*[st.integers(0, 2**64 - 1)] * 2), max_size=20))
def test_combine_hashes_matches_naive(pairs):
    before, following = [b for b, _ in pairs], [f for _, f in pairs]
    hashes = naive.as_hashes(before)
    hashing.combine_hashes(naive.as_hashes(following), hashes)
    npt.assert_array_equal(hashes, naive.as_hashes(naive.combine_hashes(before, following)))


def test_hashes_never_change_because_checkpoints_rely_on_them():
    npt.assert_array_equal(
        words_hashed([0, 1, -1]),
        naive.as_hashes([0xE220A8397B1DCDAF, 0x910A2DEC89025CC1, 0xE4D971771B652C20]),
    )
    npt.assert_array_equal(
        keys_hashed([b"", b"JFK", b"sixteen bytes ok"]),
        naive.as_hashes([0x444C2AC6264108D7, 0xBC20F02C91BAC94C, 0xC20F2D42A586073]),
    )
    assert int(hashing.NULL_HASH) == naive.NULL_HASH


@pytest.mark.parametrize("flipped_bit", range(0, 64, 7))
def test_flipping_one_bit_of_a_word_flips_half_of_the_hash(flipped_bit):
    words = np.arange(2_000, dtype=np.int64) * 1_000_003
    flipped = words ^ np.int64(1 << flipped_bit if flipped_bit < 63 else -(2**63))
    changed = words_hashed(words) ^ words_hashed(flipped)
    bits = np.unpackbits(changed.view(np.uint8)).reshape(len(words), 64)
    share = bits.mean(axis=0)
    assert share.min() > 0.44
    assert share.max() < 0.56


@pytest.mark.parametrize("shift", [52, 0])
@pytest.mark.parametrize("keys", ["numbers", "multiples of 4096", "strings"])
def test_regular_keys_spread_evenly_in_high_and_low_bits(keys, shift):
    numbers = np.arange(40_960, dtype=np.int64)
    hashes = {
        "numbers": lambda: words_hashed(numbers),
        "multiples of 4096": lambda: words_hashed(numbers * 4096),
        "strings": lambda: keys_hashed([b"key-%d" % number for number in numbers]),
    }[keys]()
    bits = np.int64(4095)
    rows_of_group = np.bincount((hashes >> np.uint64(shift)).astype(np.int64) & bits)
    assert len(rows_of_group) == 4096
    assert rows_of_group.max() < 30  # 10 expected, six standard deviations
    assert (rows_of_group == 0).sum() < 5
