import naive_join as naive
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.kernels import join

WORDS = st.lists(st.integers(-5, 5) | st.sampled_from([-(2**63), 2**63 - 1]), max_size=40)


def words(values):
    return np.array(values, dtype=np.int64)


def hashes_of(keys):
    """Return bad hashes: few of them, so that different keys meet in one slot."""
    return np.array([hash(key) % 3 for key in keys], dtype=np.uint64)


def codes_of(values):
    return np.array(values, dtype=np.int32)


def empty_slots(n_rows):
    return np.full(1 << (2 * n_rows).bit_length(), -1, dtype=np.int32)


def index_words(keys):
    slots, first_rows = empty_slots(len(keys)), words(keys)
    codes = np.empty(len(keys), dtype=np.int32)
    n_codes = join.index_words(words(keys), hashes_of(keys), slots, codes, first_rows)
    return slots, codes.tolist(), first_rows[:n_codes].tolist()


@given(keys=WORDS)
def test_words_get_codes_in_the_order_of_their_first_row(keys):
    assert index_words(keys)[1:] == naive.index_keys(keys)


@given(table=WORDS, keys=WORDS)
def test_words_are_found_whatever_their_hashes(table, keys):
    slots, _, first_rows = index_words(table)
    distinct = [table[row] for row in first_rows]
    codes = np.empty(len(keys), dtype=np.int32)

    join.find_words(words(keys), hashes_of(keys), words(distinct), slots, codes)

    assert codes.tolist() == naive.find_keys(keys, distinct)


CODES = st.lists(st.integers(-1, 3), max_size=30)


@given(pairs=st.lists(st.tuples(st.integers(-1, 3), st.integers(-1, 4)), max_size=30))
def test_pairs_of_codes_are_one_word_each(pairs):
    left, right = [p[0] for p in pairs], [p[1] for p in pairs]
    out = np.empty(len(pairs), dtype=np.int64)

    join.pair_codes(codes_of(left), codes_of(right), 5, out)

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

    while n := join.expand_matches(codes_of(codes), starts, keep_unmatched, cursor, rows, matches):
        pairs += zip(rows[:n].tolist(), matches[:n].tolist(), strict=True)

    assert pairs == naive.expand_matches(codes, starts.tolist(), keep_unmatched)


def test_warm_up_compiles_what_a_join_passes():
    join.warm_up()
