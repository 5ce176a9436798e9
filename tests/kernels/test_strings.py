import naive_strings as naive
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.kernels import strings

TEXTS = st.lists(
    st.binary(max_size=12) | st.sampled_from([b"", b"view", b"views", b"purchase", b"purchases"]),
    max_size=30,
)
WANTED = st.binary(max_size=12) | st.sampled_from([b"", b"view", b"purchase", b"purchases"])


def columns(texts, dtype, spare=b""):
    """Return offsets and bytes, with bytes of nobody before and after."""
    offsets = (np.cumsum([0, *map(len, texts)]) + len(spare)).astype(dtype)
    return offsets, np.frombuffer(spare + b"".join(texts) + spare, dtype=np.uint8)


@pytest.mark.parametrize("dtype", [np.int32, np.int64])
@given(texts=TEXTS, wanted=WANTED, spare=st.binary(max_size=9))
def test_equal_to_matches_naive(dtype, texts, wanted, spare):
    bits = np.full((len(texts) + 7) // 8, 255, dtype=np.uint8)

    strings.equal_to(*columns(texts, dtype, spare), np.frombuffer(wanted, dtype=np.uint8), bits)

    equal = np.unpackbits(bits, bitorder="little").astype(bool).tolist()
    assert equal[: len(texts)] == naive.equal_to(texts, wanted)
    assert not any(equal[len(texts) :])


@given(flags=st.lists(st.booleans(), max_size=40), first_bit=st.integers(0, 17))
def test_true_rows_matches_naive(flags, first_bit):
    bits = np.packbits([True] * first_bit + flags + [True], bitorder="little")
    rows = np.empty(len(flags), dtype=np.int32)

    n_true = strings.true_rows(bits, first_bit, len(flags), rows)

    assert rows[:n_true].tolist() == naive.true_rows(flags)


def test_warm_up_compiles_every_kernel():
    strings.warm_up()
