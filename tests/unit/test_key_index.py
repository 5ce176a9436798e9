from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.state.key_index import KeyIndex


@pytest.fixture(autouse=True, scope="module")
def _integers_wrap():
    """Without compilation NumPy warns of the wrapping that kernels want."""
    with np.errstate(over="ignore"):
        yield


LENGTHS = st.sampled_from([0, 1, 7, 8, 9, 16, 17, 23, 24, 25, 32, 40])
alike = LENGTHS.flatmap(
    lambda n: st.builds(bytes, st.lists(st.integers(0, 1), min_size=n, max_size=n))
)
keys = st.lists(st.binary(max_size=20) | alike, max_size=60)


def views(strings, dtype=np.int32):
    offsets = np.cumsum([0, *map(len, strings)]).astype(dtype)
    data = np.frombuffer(b"".join(strings), dtype=np.uint8)
    offsets.setflags(write=False)
    return offsets, data


def strings_of(index, ids):
    offsets, data = index.keys(np.asarray(ids, dtype=np.int64))
    return [data[a:b].tobytes() for a, b in pairwise(offsets)]


@pytest.mark.parametrize("hash_mask", [-1, 0, 1 << 30])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@given(first=keys, second=keys)
def test_equal_keys_have_one_id_and_distinct_keys_two(hash_mask, dtype, first, second):
    index = KeyIndex(hash_mask)
    known = {}
    for strings in (first, second):
        ids = index.ids(*views(strings, dtype)).tolist()
        assert ids == [known.setdefault(string, len(known)) for string in strings]
    assert strings_of(index, list(known.values())) == list(known)


@given(strings=keys, before=st.binary(max_size=9), n_left_out=st.integers(0, 3))
def test_a_slice_of_a_column_gives_the_ids_of_its_keys(strings, before, n_left_out):
    offsets, data = views([before, *strings])

    ids = KeyIndex().ids(offsets[1 : len(offsets) - min(n_left_out, len(strings))], data)

    known = {}
    kept = strings[: len(strings) - min(n_left_out, len(strings))]
    assert ids.tolist() == [known.setdefault(string, len(known)) for string in kept]


@given(strings=keys, data=st.data())
def test_kept_keys_get_new_ids_and_others_are_gone(strings, data):
    index = KeyIndex()
    known = sorted(set(index.ids(*views(strings)).tolist()))
    kept = [i for i in known if data.draw(st.booleans())]
    wanted = strings_of(index, kept)

    new_of_old = index.keep(np.array(kept, dtype=np.int64))

    assert len(index) == len(kept)
    assert strings_of(index, new_of_old[kept]) == wanted
    assert index.ids(*views(wanted)).tolist() == new_of_old[kept].tolist()


def test_it_grows_and_survives_a_restart():
    strings = [b"key-%d" % (i * 7919) * (i % 4) + b"%d" % i for i in range(20_000)]
    index = KeyIndex()
    index.ids(*views(strings))
    other = KeyIndex()
    other.restore({name: array.copy() for name, array in index.contents().items()})

    again = other.ids(*views([*strings, b"new"]))

    assert again.tolist() == list(range(20_001))
