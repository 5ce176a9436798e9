import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.kernels import gathering


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.uint32, np.uint64])
@given(data=st.data())
def test_gather_picks_the_value_at_each_place(dtype, data):
    greatest = int(np.iinfo(dtype).max)
    values = data.draw(st.lists(st.integers(0, greatest), min_size=1, max_size=20))
    places = data.draw(st.lists(st.integers(0, len(values) - 1), max_size=30))
    out = np.empty(len(places), dtype=dtype)

    gathering.gather(np.array(values, dtype), np.array(places, np.uint32), out)

    assert out.tolist() == [values[place] for place in places]


def test_warm_up_compiles_every_kernel():
    gathering.warm_up()
