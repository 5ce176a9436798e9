"""`run(reproducible=True)`: the same bits on any number of ranks, sums of floats included."""

import math

import numpy as np
import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream import col
from tests.unit.windowed_rows import results_of

N_ROWS = 400
RANDOM = np.random.default_rng(5)
ROWS = pa.table(
    {
        "t": np.sort(RANDOM.integers(0, 40, N_ROWS)),
        "key": RANDOM.integers(0, 3, N_ROWS),
        "x": pa.array(RANDOM.normal(size=N_ROWS) * 10.0 ** RANDOM.integers(-9, 9, N_ROWS)),
        "i": RANDOM.integers(0, 2**40, N_ROWS),
    }
)
X, COUNTS = col("x"), col("i")
AGGREGATES = {
    "n": hs.count(),
    "total": X.sum(),
    "mean": X.mean(),
    "var": X.var(),
    "std": COUNTS.std(ddof=0),
    "most": X.max(),
}


def results(ranks, window, *, keyed, **options):
    options |= {"keyed": keyed, "chunk_rows": 7, "batch_rows": 20}
    table = results_of(ROWS, AGGREGATES, ranks, window, **options)
    return table.sort_by([(name, "ascending") for name in table.column_names[:2]]).combine_chunks()


@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("window", [hs.tumbling("20ms"), hs.sliding("20ms", "5ms")], ids=str)
def test_results_have_the_same_bits_on_any_number_of_ranks(window, keyed):
    alone, *others = [
        results(ranks, window, keyed=keyed, reproducible=True) for ranks in (1, 2, 3, 7)
    ]

    assert all(other.equals(alone) for other in others)
    plain = results(1, window, keyed=keyed)
    for name in ("total", "mean", "var", "std"):
        np.testing.assert_allclose(alone[name], plain[name], rtol=1e-9)


def test_a_reproducible_sum_is_that_of_all_digits():
    table = results(3, hs.tumbling("1s"), keyed=False, reproducible=True)

    assert table["total"].to_pylist() == [math.fsum(ROWS["x"].to_pylist())]
