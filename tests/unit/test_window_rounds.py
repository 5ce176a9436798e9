"""Windows on simulated ranks: the same rows, and the same bits, whatever the timing."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hpcstream as hs
from hpcstream import col
from hpcstream.testing import assert_same_rows, run_ranks

N_ROWS = 400
TIMES = np.arange(N_ROWS) // 3
KEYS = np.arange(N_ROWS) * 7919 % 13
VALUES = np.sin(np.arange(N_ROWS))
SIZE = 20


def readings(job, n_batches=8):
    columns = {"t": TIMES, "k": KEYS, "v": VALUES}
    step = N_ROWS // n_batches
    batches = [
        pa.record_batch({name: array[start : start + step] for name, array in columns.items()})
        for start in range(0, N_ROWS, step)
    ]
    return job.from_batches(batches, event_time="t", event_time_unit="ms", watermark_delay="2ms")


def keyed():
    job = hs.Job("keyed")
    windows = readings(job).key_by("k").window(hs.tumbling(f"{SIZE}ms"))
    result = windows.agg(n=hs.count(), total=col("v").sum(), least=col("v").min())
    return job, result.collect()


def of_all():
    job = hs.Job("of all")
    windows = readings(job).window_all(hs.tumbling(f"{SIZE}ms"))
    return job, windows.agg(n=hs.count(), total=col("v").sum(), least=col("v").min()).collect()


def on_groups():
    job = hs.Job("groups")
    stream = readings(job).on(ranks=[1, 2]).key_by("k")
    windows = stream.window(hs.tumbling(f"{SIZE}ms"))
    result = windows.agg(n=hs.count(), total=col("v").sum(), least=col("v").min())
    return job, result.collect()


def expected(by_key):
    rows = []
    starts = TIMES // SIZE * SIZE
    keys = KEYS if by_key else np.zeros_like(KEYS)
    for start in np.unique(starts):
        for key in np.unique(keys):
            values = VALUES[(starts == start) & (keys == key)]
            if len(values):
                row = {"k": int(key)} if by_key else {}
                row |= {"window_start": int(start), "window_end": int(start) + SIZE}
                rows.append(row | {"n": len(values), "total": values.sum(), "least": values.min()})
    return rows


JOBS = pytest.mark.parametrize(
    ("build", "by_key"), [(keyed, True), (of_all, False), (on_groups, True)]
)


@JOBS
@given(
    n_ranks=st.integers(1, 6),
    seed=st.integers(0, 2**16),
    max_delay=st.sampled_from([0, 20]),
    rounds_in_flight=st.sampled_from([1, 2, 4]),
    batch_rows=st.sampled_from([9, 60, 1000]),
)
@settings(max_examples=6)
def test_windows_hold_the_right_rows_on_any_ranks(build, by_key, **options):
    run = run_ranks(options.pop("n_ranks"), build, **options)

    assert_same_rows(run.table, expected(by_key), rtol=1e-12)
    assert run.result.late_rows == 0


@JOBS
def test_float_sums_are_the_same_to_the_bit_whatever_the_timing(build, by_key):
    runs = [
        run_ranks(3, build, batch_rows=25, seed=seed, max_delay=7 * seed, rounds_in_flight=k)
        for seed, k in [(0, 3), (1, 3), (2, 1)]
    ]

    for run in runs[1:]:
        assert run.table.equals(runs[0].table)
