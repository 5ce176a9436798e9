import naive_join as naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.kernels import string_lookup

PARTS = st.sampled_from([b"", b"a", b"b", b"sensor-", b"https://example.org/", b"0123456789abcdef"])
STRINGS = st.builds(bytes.__add__, st.builds(bytes.__add__, PARTS, PARTS), st.binary(max_size=3))
KEYS = st.lists(STRINGS | STRINGS.map(lambda text: 2 * text), max_size=40)
PLACES = st.tuples(st.sampled_from([0, 4, 8, 30, 1 << 40]), st.sampled_from([0, 12, 1 << 40]))
WHOLE = st.just((string_lookup.WHOLE, 0))


def binary(keys, dtype=np.int32, behind=b""):
    offsets = np.cumsum([0, *map(len, keys)]).astype(dtype)
    return offsets, np.frombuffer(b"".join(keys) + behind, dtype=np.uint8)


class Table:
    """What the kernels leave of the strings of a table."""

    def __init__(self, keys, places, most_steps=1 << 40, dtype=np.int32):
        offsets, self.data = binary(keys, dtype)
        self.places = places
        n_slots = max(2, 1 << (2 * len(keys)).bit_length())
        self.slots = np.full(n_slots, -1, dtype=np.int32)
        self.records = np.zeros(string_lookup.RECORD_WORDS * len(keys), dtype=np.uint64)
        self.codes = np.empty(len(keys), dtype=np.int32)
        self.first_rows = np.empty(len(keys), dtype=np.int64)
        into = (self.records, self.slots, self.codes, self.first_rows)
        self.n_codes = string_lookup.enter(offsets, self.data, places, most_steps, *into)

    def find(self, keys, rows=(), dtype=np.int32, behind=b""):
        codes = np.empty(len(rows) or len(keys), dtype=np.int32)
        table = (self.data, self.records, self.places, self.slots)
        where = np.array(rows, dtype=np.int32)
        string_lookup.find(*binary(keys, dtype, behind), where, *table, codes)
        return codes.tolist()


@given(keys=KEYS, places=PLACES | WHOLE)
def test_strings_get_codes_in_the_order_of_their_first_row(keys, places):
    table = Table(keys, places)

    codes, first_rows = naive.index_keys(keys)
    assert table.codes.tolist() == codes
    assert table.first_rows[: table.n_codes].tolist() == first_rows


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@given(
    table=KEYS,
    keys=KEYS,
    places=PLACES | WHOLE,
    behind=st.sampled_from([b"", bytes(8)]),
    data=st.data(),
)
def test_strings_are_found_wherever_is_looked_first(dtype, table, keys, places, behind, data):
    keys = keys + data.draw(st.lists(st.sampled_from(table), max_size=9)) if table else keys
    rows = data.draw(st.lists(st.integers(0, len(keys) - 1), max_size=60)) if keys else []

    found = Table(table, places, dtype=dtype).find(keys, rows, dtype, behind)

    looked_up = [keys[row] for row in rows] if rows else keys
    assert found == naive.find_keys(looked_up, list(dict.fromkeys(table)))


@pytest.mark.parametrize("length", [1, 7, 8, 9, 16, 24, 31, 32, 33, 39, 40, 41, 48, 49, 70])
def test_one_other_byte_anywhere_makes_another_string(length):
    key = bytes(range(1, length + 1))
    others = [key[:at] + b"\0" + key[at + 1 :] for at in range(length)]

    table = Table([key], (0, 0))

    assert table.find([key, *others], behind=bytes(8)) == [0] + [-1] * length
    assert Table(others, (string_lookup.WHOLE, 0)).find(others) == list(range(length))


def test_zeros_at_the_end_count():
    table = Table([b"", b"\0", b"\0\0", bytes(8), bytes(9)], (0, 0))

    found = table.find([bytes(9), bytes(8), bytes(7), b"\0\0", b"\0", b""])
    assert found == [4, 3, -1, 2, 1, 0]


def test_strings_of_a_slice_start_after_the_first_byte():
    offsets, data = binary([b"left out", b"a", b"b", b"a string of many bytes"])
    table = Table([b"a string of many bytes", b"b"], (0, 0))
    codes = np.empty(3, dtype=np.int32)
    held = (table.data, table.records, table.places, table.slots)

    string_lookup.find(offsets[1:], data, np.zeros(0, np.int32), *held, codes)

    assert codes.tolist() == [-1, 1, 0]


def test_places_where_all_strings_are_alike_are_given_up():
    keys = [b"the same beginning %02d" % number for number in range(50)]

    assert Table(keys, (0, 0), most_steps=200).n_codes == -1
    assert Table(keys, (0, 1 << 40), most_steps=200).n_codes == 50


def test_warm_up_compiles_what_a_join_passes():
    string_lookup.warm_up()
