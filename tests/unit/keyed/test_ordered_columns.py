"""Columns computed from earlier rows of the key are as a loop over its rows says, and as Polars."""

from __future__ import annotations

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hpcstream as hs
from hpcstream import col
from hpcstream.columns.event_time import MAX_TIME
from hpcstream.operators.keyed.ordered_columns_spec import OrderedColumnsSpec
from hpcstream.testing import assert_same_rows, run_ranks
from tests.unit.keyed import naive_keyed as naive
from tests.unit.keyed.ordered_events import NAMES, batch_of, check, events, opened

SCALE = 333_333.71  # no value of the tests lies half-way between two whole numbers then


def functions(x):
    return {
        "shift": x.shift(),
        "shift_3": x.shift(3, fill=-9),
        "diff_2": x.diff(2),
        "forward_fill": x.forward_fill(),
        "changed": x.changed(),
        "cum_count": x.cum_count(),
        "cum_sum": x.cum_sum(),
        "cum_min": x.cum_min(),
        "cum_max": x.cum_max(),
        "ewm_mean": x.ewm_mean("8ms"),
    }


def spec_of(named, ttl=None):
    columns = {**{name: col(name) for name in NAMES}, **named}
    return OrderedColumnsSpec(("key",), "ms", "event", tuple(columns.items()), ttl)


def rounded(rows):
    return [{n: round(v, 9) if isinstance(v, float) else v for n, v in r.items()} for r in rows]


@settings(max_examples=20)
@given(events(25), st.sampled_from(["n", "x"]), st.none() | st.integers(1, 15))
def test_each_function_is_as_naive_says(events, column, ttl):
    spec = spec_of(
        {**functions(col(column)), "ewm_mean": (col(column).ewm_mean("8ms") * SCALE).round()}, ttl
    )

    def expected(rows):
        found = naive.ordered_columns(rows, "key", column, 8, ttl)["main"]
        for row in found:
            mean = row["ewm_mean"]
            row["ewm_mean"] = None if mean is None else float(np.round(mean * SCALE)) + 0.0
        return {"main": found}

    check(spec, events, expected)


OTHER = {
    "text": ["", "a", "ab", None],
    "big": [2**64 - 1, 0, 5, None],
    "flag": [True, False, None],
    "list": [[1], [], [1, 2], None],
}


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), min_size=1, max_size=30))
def test_values_of_other_types_are_carried_from_batch_to_batch(given_rows):
    keys = [key for key, _ in given_rows]
    values = {n: [of[i % len(of)] for _, i in given_rows] for n, of in OTHER.items()}
    types = {
        "text": pa.string(),
        "big": pa.uint64(),
        "flag": pa.bool_(),
        "list": pa.list_(pa.int8()),
    }
    arrays = {n: pa.array(v, types[n]) for n, v in values.items()}
    rows = pa.table({"t": range(len(keys)), "key": keys, **arrays})

    def build():
        job = hs.Job("types")
        source = job.from_batches(rows.to_batches(max_chunksize=3)).with_event_time("t", unit="s")
        named = {f"{n}_2": col(n).shift(2) for n in OTHER}
        named |= {f"{n}_ff": col(n).forward_fill() for n in OTHER}
        named |= {f"{n}_ch": col(n).changed() for n in ("text", "big", "flag")}
        named |= {"lo": col("big").cum_min(), "hi": col("big").cum_max()}
        return job, source.key_by("key").with_columns(**named).collect()

    found = sorted(run_ranks(1, build, batch_rows=3).table.to_pylist(), key=lambda row: row["t"])
    history = {}
    for row in found:
        before = history.setdefault(row["key"], [])
        before.append(row)
        for name in OTHER:
            of_key = [one[name] for one in before]
            assert row[f"{name}_2"] == (of_key[-3] if len(of_key) > 2 else None)
            assert row[f"{name}_ff"] == next((v for v in reversed(of_key) if v is not None), None)
            if name != "list":
                assert row[f"{name}_ch"] == (len(of_key) == 1 or of_key[-1] != of_key[-2])
        known = [one["big"] for one in before if one["big"] is not None]
        assert (row["lo"], row["hi"]) == (
            (None, None) if row["big"] is None else (min(known), max(known))
        )


def ticks(n_rows=20_000):
    random = np.random.default_rng(7)
    price = random.normal(100, 5, n_rows).round(2)
    return pa.table(
        {
            "t": np.arange(n_rows) * 10 + random.integers(0, 400, n_rows),
            "key": pa.array([f"k{i}" for i in random.integers(0, 300, n_rows)]),
            "price": pa.array(price, mask=random.random(n_rows) < 0.1),
            "n": random.integers(-50, 50, n_rows),
            "id": np.arange(n_rows),
        }
    )


@pytest.mark.parametrize("n_ranks", [1, 2, 3])
def test_a_job_gives_what_polars_gives_over_keys(n_ranks):
    rows = ticks()

    def build():
        job = hs.Job("ordered")
        source = job.from_batches(rows.to_batches(max_chunksize=900))
        keyed = source.with_event_time("t", "400ms", unit="ms").key_by("key")
        x, n = col("price"), col("n")
        return job, keyed.with_columns(
            change=x.diff() / x.shift(), last=x.forward_fill(), high=x.cum_max(), low=n.cum_min(),
            total=n.cum_sum(), five=n.diff(5), mean=x.ewm_mean("3s"),
        ).collect()  # fmt: skip

    found = run_ranks(n_ranks, build, batch_rows=800).table
    x, n = pl.col("price"), pl.col("n")
    when = pl.col("t").cast(pl.Datetime("ms"))
    expected = (
        pl.from_arrow(rows)
        .sort("t", "id")
        .with_columns(
            change=(x.diff() / x.shift()).over("key"), last=x.forward_fill().over("key"),
            high=x.cum_max().over("key"), low=n.cum_min().over("key"),
            total=n.cum_sum().over("key"), five=n.diff(5).over("key"),
            mean=x.ewm_mean_by(when, half_life="3s").over("key"),
        )
    )  # fmt: skip
    assert_same_rows(found, expected.to_arrow(), rtol=1e-12)


@pytest.mark.parametrize("ttl", [None, 100])
def test_state_follows_the_keys_that_are_not_forgotten(ttl):
    operator = opened(spec_of({"was": col("key").shift(2), "sum": col("n").cum_sum()}, ttl))()
    sizes = []
    for step in range(120):
        rows = [(f"key {step} {i}", 1, 0.5, step * 50, i, step * 50, i) for i in range(500)]
        list(operator.process_batch(batch_of(rows)))
        list(operator.process_watermark(step * 50))
        sizes.append(operator.state_bytes())
    list(operator.process_watermark(MAX_TIME))
    assert operator.n_keys_held == (0 if ttl else 120 * 500)
    assert (max(sizes[60:]) <= 1.05 * max(sizes[:60])) == bool(ttl)


def test_late_rows_of_ordered_columns_are_a_stream():
    rows = pa.table({"t": [0, 100, 5], "key": [1, 1, 1], "n": [1, 2, 3]})
    job = hs.Job("late")
    source = job.from_batches(rows.to_batches(max_chunksize=1)).with_event_time("t", unit="ms")
    columns = source.key_by("key").with_columns(total=col("n").cum_sum())
    kept, late = columns.select("total").collect(), columns.late().collect()
    result = job.run(show=False, batch_rows=1)
    assert result.late_rows == 1
    assert late.table.to_pylist() == [{"t": 5, "key": 1, "n": 3}]
    assert kept.table.to_pylist() == [{"total": 1}, {"total": 3}]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (lambda: col("n").shift(0), r"shift\(0\): takes from 1 to 1,000 rows back"),
        (lambda: col("n").shift(-1), "would wait for ever"),
        (lambda: col("key").cum_sum(), r"cum_sum\(\): does not take values of type string"),
        (lambda: col("key").cum_max(), r"cum_max\(\): does not take values of type string"),
        (lambda: col("n").ewm_mean("0s"), "half_life='0s'.*must be positive"),
        (lambda: col("nn").cum_sum(), "no column 'nn'"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(column, message):
    rows = hs.Job("refused").from_batches(ticks(10)).with_event_time("t", unit="ms")
    with pytest.raises(hs.PlanError, match=message):
        rows.key_by("key").with_columns(made=column())


def test_ordered_functions_need_a_key():
    rows = hs.Job("keyless").from_batches(ticks(10))
    with pytest.raises(hs.PlanError, match=r"diff|shift\(\) reads earlier rows of a key: write"):
        rows.with_columns(change=col("n").diff())


def test_a_sum_that_does_not_fit_stops_the_job():
    rows = pa.table({"t": [1, 2], "key": [1, 1], "n": [2**62, 2**62]})

    def build():
        source = hs.Job("overflow").from_batches(rows).with_event_time("t", unit="ms")
        columns = source.key_by("key").with_columns(total=col("n").cum_sum())
        return source._job, columns.collect()

    with pytest.raises(hs.HpcstreamError, match=r"cum_sum\(\): the sum of a key.*event time 2;"):
        run_ranks(1, build)
