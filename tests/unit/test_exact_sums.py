"""`sum(exact=True)` and `mean(exact=True)` against `math.fsum`, on any ranks, also restarted."""

from __future__ import annotations

import math
import random

import numpy as np
import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream import col
from tests.unit.checkpoint.restart import restarted, unfailed, visible
from tests.unit.windowed_rows import results_of

N_ROWS = 1200
CALLS = {
    "total": col("x").sum(exact=True),
    "mean": col("x").mean(exact=True),
    "single": col("f").sum(exact=True),
    "plain": col("i").sum(exact=True),
}


def wild_rows():
    """Return rows of all magnitudes that cancel out, with nulls; infinities for key 3."""
    chance = np.random.default_rng(7)
    x = chance.normal(size=N_ROWS) * 10.0 ** chance.integers(-320, 300, N_ROWS)
    x[1::2] = -np.roll(x[::2], 5)
    key = chance.integers(0, 4, N_ROWS)
    x[(key == 3) & (chance.random(N_ROWS) < 0.02)] = np.inf
    return pa.table(
        {
            "t": np.sort(chance.integers(0, 2000, N_ROWS)),
            "key": key,
            "x": pa.array(x, mask=chance.random(N_ROWS) < 0.1),
            "f": pa.array(chance.normal(size=N_ROWS).astype(np.float32)),
            "i": chance.integers(-(2**40), 2**40, N_ROWS),
        }
    )


ROWS = wild_rows()


def run(ranks, window, *, keyed, **options):
    options |= {"keyed": keyed, "chunk_rows": 17, "batch_rows": 50}
    return results_of(ROWS, CALLS, ranks, window, **options).to_pylist()


def expected_of(row):
    """Return the values of a row of results, each computed from all its input rows."""
    begin, end = row["window_start"], row["window_end"]
    inside = [
        each
        for each in ROWS.to_pylist()
        if begin <= each["t"] < end and row.get("key", each["key"]) == each["key"]
    ]
    x = [each["x"] for each in inside if each["x"] is not None]
    total = math.fsum(x)
    single = math.fsum(each["f"] for each in inside)
    return [total, total / len(x), single, sum(each["i"] for each in inside)]


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("keyed", [True, False])
@pytest.mark.parametrize("window", [hs.tumbling("500ms"), hs.sliding("1s", "250ms")], ids=str)
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_sums_are_those_of_fsum(ranks, window, keyed, local):
    rows = run(ranks, window, keyed=keyed, local_aggregation=local)

    assert len(rows) >= 4
    for row in rows:
        assert [row[name] for name in CALLS] == expected_of(row)


def test_integers_and_floats_keep_the_names_of_plain_sums():
    call = col("x").sum(exact=True)
    assert call.name == "x_sum"
    assert repr(call) == "col('x').sum(exact=True)"
    assert repr(col("x").sum()) == "col('x').sum()"
    assert call != col("x").sum()


def generated(start, n):
    numbers = range(start, start + n)
    x = [(-1) ** (i // 3) * 10.0 ** (i * 37 % 600 - 300) for i in numbers]
    return {"t": list(numbers), "key": [i * 7919 % 23 for i in numbers], "x": x}


def rows_of(job):
    return job.generate(
        generated, rows=6000, splits=7, event_time="t", event_time_unit="ms", watermark_delay="20ms"
    )


def in_parquet(windows, out):
    totals = {"total": col("x").sum(exact=True), "mean": col("x").mean(exact=True)}
    windows.agg(**totals).write_parquet(out)


def sliding(out):
    job = hs.Job("sliding")
    in_parquet(rows_of(job).key_by("key").window(hs.sliding("1s", "250ms")), out)
    return job


def over_all_rows(out):
    job = hs.Job("all rows")
    in_parquet(rows_of(job).window_all(hs.tumbling("700ms")), out)
    return job


@pytest.mark.parametrize("build", [sliding, over_all_rows], ids=lambda b: b.__name__)
def test_sums_have_the_same_bits_after_restarts_on_other_numbers_of_ranks(build, tmp_path):
    whole, turns = unfailed(build, tmp_path, 2)
    chance = random.Random(3)

    kills = restarted(build, tmp_path, lambda: chance.randint(1, 4), seed=3, turns=turns // 2)

    assert kills > 0
    assert visible(tmp_path / "out").equals(whole)
