import naive_join as naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.kernels import hashing, join

WORDS = st.lists(st.integers(-5, 5) | st.sampled_from([-(2**63), 2**63 - 1]), max_size=40)
STRINGS = st.lists(st.binary(max_size=10) | st.sampled_from([b"", b"key", b"key-1"]), max_size=40)


def words(values):
    return np.array(values, dtype=np.int64)


def hashes_of(keys):
    """Return bad hashes: few of them, so that different keys meet in one slot."""
    return np.array([hash(key) % 3 for key in keys], dtype=np.uint64)


def binary(keys, dtype=np.int32):
    offsets = np.cumsum([0, *map(len, keys)]).astype(dtype)
    return offsets, np.frombuffer(b"".join(keys), dtype=np.uint8)


def empty_slots(n_rows):
    return np.full(1 << (2 * n_rows).bit_length(), -1, dtype=np.int64)


def index_words(keys):
    slots, codes, first_rows = empty_slots(len(keys)), words(keys), words(keys)
    n_codes = join.index_words(words(keys), hashes_of(keys), slots, codes, first_rows)
    return slots, codes.tolist(), first_rows[:n_codes].tolist()


def index_binary(keys):
    slots = empty_slots(len(keys))
    codes, first_rows = (np.empty(len(keys), dtype=np.int64) for _ in range(2))
    n_codes = join.index_binary(*binary(keys), hashes_of(keys), slots, codes, first_rows)
    return slots, codes.tolist(), first_rows[:n_codes].tolist()


@given(keys=WORDS)
def test_words_get_codes_in_the_order_of_their_first_row(keys):
    assert index_words(keys)[1:] == naive.index_keys(keys)


@given(keys=STRINGS)
def test_strings_get_codes_in_the_order_of_their_first_row(keys):
    assert index_binary(keys)[1:] == naive.index_keys(keys)


@given(table=WORDS, keys=WORDS)
def test_words_are_found_whatever_their_hashes(table, keys):
    slots, _, first_rows = index_words(table)
    distinct = [table[row] for row in first_rows]
    codes = np.empty(len(keys), dtype=np.int64)

    join.find_words(words(keys), hashes_of(keys), words(distinct), slots, codes)

    assert codes.tolist() == naive.find_keys(keys, distinct)


def true_hashes_of(keys):
    hashes = np.empty(len(keys), dtype=np.uint64)
    hashing.hash_binary(*binary(keys, np.int64), hashes)
    return hashes


def find_binary(keys, rows, dtype, distinct, hashes, slots):
    codes = np.empty(len(rows) or len(keys), dtype=np.int64)
    held = (*binary(distinct, np.int64), hashes, slots)
    join.find_binary(*binary(keys, dtype), np.array(rows, dtype=np.int32), *held, codes)
    return codes.tolist()


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@given(table=STRINGS, keys=STRINGS, data=st.data())
def test_strings_are_found_among_few_slots(dtype, table, keys, data):
    distinct = list(dict.fromkeys(table))
    hashes, slots = true_hashes_of(distinct), empty_slots(len(distinct))
    codes, first_rows = (np.empty(len(distinct), dtype=np.int64) for _ in range(2))
    join.index_binary(*binary(distinct), hashes, slots, codes, first_rows)
    rows = data.draw(st.lists(st.integers(0, len(keys) - 1))) if keys else []

    found = find_binary(keys, rows, dtype, distinct, hashes, slots)

    looked_up = [keys[row] for row in rows] if rows else keys
    assert found == naive.find_keys(looked_up, distinct)


def test_of_strings_with_one_hash_the_bytes_decide():
    first, second = b"a key of some words", b"a key of some wordz"
    hashes, slots = np.repeat(true_hashes_of([second]), 2), empty_slots(2)
    mask = len(slots) - 1
    slots[int(hashes[0]) & mask] = 0  # the place of the second
    slots[(int(hashes[0]) + 1) & mask] = 1

    assert find_binary([second, first], [], np.int32, [first, second], hashes, slots) == [1, -1]


def test_strings_of_a_slice_start_after_the_first_byte():
    offsets, data = binary([b"left out", b"a", b"b"])
    slots, codes, rows = empty_slots(2), words([0, 0]), words([0, 0])

    n_codes = join.index_binary(offsets[1:], data, hashes_of([b"a", b"b"]), slots, codes, rows)

    assert (n_codes, codes.tolist()) == (2, [0, 1])


CODES = st.lists(st.integers(-1, 3), max_size=30)


@given(pairs=st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 4)), max_size=30))
def test_pairs_of_codes_are_one_word_each(pairs):
    left, right = [p[0] for p in pairs], [p[1] for p in pairs]
    out = np.empty(len(pairs), dtype=np.int64)

    join.pair_codes(words(left), words(right), 5, out)

    assert out.tolist() == naive.pair_codes(left, right, 5)


@given(
    codes=CODES,
    counts=st.lists(st.integers(1, 5), min_size=4, max_size=4),
    keep_unmatched=st.booleans(),
    room=st.integers(1, 9),
)
def test_matches_are_listed_in_order_however_small_the_room(codes, counts, keep_unmatched, room):
    starts = np.cumsum([0, *counts])
    cursor, rows, matches = words([0, 0]), words([0] * room), words([0] * room)
    pairs = []

    while n := join.expand_matches(words(codes), starts, keep_unmatched, cursor, rows, matches):
        pairs += zip(rows[:n].tolist(), matches[:n].tolist(), strict=True)

    assert pairs == naive.expand_matches(codes, starts.tolist(), keep_unmatched)


def test_warm_up_compiles_what_a_join_passes():
    join.warm_up()
