"""Aggregates of two columns against DuckDB, on any number of ranks, ties and restarts included."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream import col
from hpcstream.aggregates.accumulator import Accumulator
from hpcstream.aggregates.families.comoments import CoMoments
from hpcstream.testing import run_ranks

N_ROWS = 3000
CALLS = {
    "low": (col("x").arg_min(col("y")), "arg_min(x, y)"),
    "high": (col("x").arg_max(col("y")), "arg_max(x, y)"),
    "corr": (col("z").corr(col("y")), "corr(z, y)"),
    "covar": (col("z").covar(col("y")), "covar_samp(z, y)"),
    "covar_pop": (col("z").covar(col("y"), ddof=0), "covar_pop(z, y)"),
}


def rows_of(value_type, by_type):
    """Return rows whose ``y`` are all different, with nulls in ``x`` and ``y``."""
    random = np.random.default_rng(5)
    x = pa.array(random.integers(0, 90, N_ROWS), mask=random.random(N_ROWS) < 0.2)
    y = random.permutation(N_ROWS) - (0 if by_type == pa.uint64() else N_ROWS // 2)
    return pa.table(
        {
            "t": np.sort(random.integers(0, 2000, N_ROWS)),
            "key": random.integers(0, 5, N_ROWS),
            "x": x.cast(pa.int64()).cast(value_type),
            "y": pa.array(y, mask=random.random(N_ROWS) < 0.2).cast(by_type),
            "z": random.normal(size=N_ROWS) + y / 1000,
        }
    )


def run(table, calls, ranks, window, **options):
    def build():
        job = hs.Job("two columns")
        batches = table.to_batches(max_chunksize=170)
        stream = job.from_batches(batches, event_time="t", event_time_unit="ms")
        return job, stream.key_by("key").window(window).agg(**calls).collect()

    return run_ranks(ranks, build, **options).table


@pytest.mark.parametrize("local", [True, False])
@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize(
    ("value_type", "by_type"),
    [(pa.int64(), pa.float64()), (pa.float32(), pa.int16()), (pa.string(), pa.uint64())],
    ids=str,
)
def test_results_are_those_of_duckdb(value_type, by_type, ranks, local):
    table = rows_of(value_type, by_type)
    calls = {name: call for name, (call, _) in CALLS.items()}
    columns = ", ".join(f"{sql} AS {name}" for name, (_, sql) in CALLS.items())
    with duckdb.connect() as connection:
        connection.register("rows", table)
        query = f"SELECT key, t // 500 * 500 AS w, {columns} FROM rows GROUP BY ALL"
        expected = {row[:2]: row[2:] for row in connection.sql(query).fetchall()}

    got = run(table, calls, ranks, hs.tumbling("500ms"), local_aggregation=local).to_pylist()

    assert len(got) == len(expected)
    for row in got:
        low, high, *moments = expected[row["key"], row["window_start"]]
        assert (row["low"], row["high"]) == (low, high)
        assert [row["corr"], row["covar"], row["covar_pop"]] == pytest.approx(moments, rel=1e-9)


@pytest.mark.parametrize("value_type", [pa.int64(), pa.string()], ids=str)
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_of_several_rows_with_the_same_extreme_it_is_the_first(value_type, ranks):
    table = rows_of(pa.int64(), pa.int64())
    numbers = pa.array(np.arange(N_ROWS)).cast(value_type)
    by = pa.array(np.where(np.arange(N_ROWS) % 7 == 3, np.nan, np.arange(N_ROWS) % 3))
    table = table.set_column(2, "x", numbers).set_column(3, "y", by)
    calls = {"low": CALLS["low"][0], "high": CALLS["high"][0]}

    got = run(table, calls, ranks, hs.sliding("1s", "500ms")).to_pylist()

    times, keys = (np.array(table[name]) for name in ("t", "key"))
    for row in got:
        inside = (times >= row["window_start"]) & (times < row["window_end"])
        inside = np.flatnonzero(inside & (keys == row["key"]))
        least = inside[np.argmin(np.where(np.isnan(by), 9, by)[inside])]
        greatest = inside[np.argmax(np.where(np.isnan(by), 9, by)[inside])]
        assert [row["low"], row["high"]] == [numbers[least].as_py(), numbers[greatest].as_py()]


def test_reproducible_results_have_the_same_bits_on_any_number_of_ranks():
    table = rows_of(pa.int64(), pa.float64())
    calls = {name: CALLS[name][0] for name in ("corr", "covar")}

    tables = [
        run(table, calls, ranks, hs.tumbling("500ms"), reproducible=True).sort_by(
            [("key", "ascending"), ("window_start", "ascending")]
        )
        for ranks in (1, 2, 3)
    ]

    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])


def test_parts_of_one_slot_are_merged_one_after_the_other():
    random = np.random.default_rng(1)
    x, y = random.normal(size=(2, 40))
    words = CoMoments(("x", "y")).words
    parts = [np.empty(8) for _ in words]
    for part in range(8):
        own_x, own_y = x[part * 5 : part * 5 + 5], y[part * 5 : part * 5 + 5]
        covariance = np.cov(own_x, own_y, ddof=0) * 5
        values = (5, own_x.mean(), own_y.mean(), *covariance.diagonal(), covariance[0, 1])
        for array, value in zip(parts, values, strict=True):
            array[part] = value

    state = [np.zeros(3) for _ in words]
    accumulator: Accumulator = CoMoments(("x", "y"))
    accumulator.merge(state, np.array([1, 2, 1, 1, 2, 2, 1, 2], dtype=np.uint32), parts)

    of_slot_1 = np.concatenate([np.arange(part * 5, part * 5 + 5) for part in (0, 2, 3, 6)])
    expected = np.cov(x[of_slot_1], y[of_slot_1], ddof=0) * 20
    assert [word[1] for word in state[3:]] == pytest.approx(
        [*expected.diagonal(), expected[0, 1]], rel=1e-12
    )


def test_a_constant_in_place_of_a_column_is_refused():
    with pytest.raises(TypeError, match="takes expressions"):
        col("x").corr("y")
    with pytest.raises(hs.PlanError, match="'corr' of string"):
        col("x").corr(col("y")).result_type(pa.int64(), pa.string())
