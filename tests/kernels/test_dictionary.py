import naive_dictionary as naive
import numpy as np
import numpy.testing as npt
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.kernels import dictionary

N_ENTRIES = 6
AS_THEY_LIE = np.empty(0, dtype=np.int32)
ENTRIES = st.lists(st.integers(-2, N_ENTRIES + 2), max_size=20)


@given(st.lists(ENTRIES, min_size=1, max_size=4), st.booleans(), st.data())
def test_compact_dictionary_matches_naive_call_after_call(calls, ordered, data):
    numbers, next_number = np.full(N_ENTRIES, -1, dtype=np.int64), 0
    for entries in calls:
        n_rows = len(entries)
        indices = np.array(entries, dtype=np.int64)
        rows = data.draw(st.permutations(range(n_rows))) if ordered else range(n_rows)
        rows = np.array(rows, dtype=np.int32)
        cuts = sorted(data.draw(st.lists(st.integers(0, n_rows), max_size=4)))
        offsets = np.array([0, *cuts, n_rows], dtype=np.int64)
        out_indices, used = np.empty(n_rows, dtype=np.int64), np.empty(n_rows, dtype=np.int32)
        used_offsets = np.empty_like(offsets)
        order = rows if ordered else AS_THEY_LIE

        next_number = dictionary.compact_dictionary(
            indices, order, offsets, next_number, numbers, out_indices, used, used_offsets
        )

        expected, expected_used = naive.compact_dictionary(indices, N_ENTRIES, rows, offsets)
        npt.assert_array_equal(out_indices, expected)
        runs = np.split(used[: used_offsets[-1]], used_offsets[1:-1])
        assert [run.tolist() for run in runs] == expected_used
