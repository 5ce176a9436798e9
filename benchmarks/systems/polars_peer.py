"""Polars' streaming engine, as someone who knows it would write it."""

from __future__ import annotations

import polars as pl

from benchmarks.measure.trial import Trial
from benchmarks.systems.tables import Repeated, mapped
from benchmarks.workloads.datasets import campaigns
from benchmarks.workloads.json_lines import FIELDS
from benchmarks.workloads.workload import Workload


def make(trial: Trial) -> Repeated:
    """Return Polars over the mapped file, whose numbers it uses without a copy.

    How many threads it has is said in the environment, before it is imported.
    """
    rows = pl.from_arrow(mapped(trial), rechunk=False)
    assert isinstance(rows, pl.DataFrame)
    plan = lazy(rows.lazy(), trial.query)
    return Repeated(trial, lambda: plan.collect(engine="streaming").to_arrow())


def lazy(rows: pl.LazyFrame, workload: Workload) -> pl.LazyFrame:
    """Return the query of a workload."""
    if workload.is_json:
        fields = pl.col("line").str.json_decode(pl.Struct(dict.fromkeys(FIELDS, pl.String)))
        rows = rows.select("ts", fields.struct.unnest())
    if workload.counts_views:
        ads = pl.from_arrow(campaigns())
        assert isinstance(ads, pl.DataFrame)
        rows = rows.filter(pl.col("event_type") == "view").join(ads.lazy(), on="ad_id")
    if workload.sessions:
        return _sessions(rows, workload)
    start = pl.col("ts") // workload.slide * workload.slide
    keys = [*workload.keys, "window_start"]
    rows = rows.with_columns(window_start=start)
    if workload.size == workload.slide:
        of = pl.col("value")
        named = {name: getattr(of, name)() for name in workload.aggregates}
        return rows.group_by(keys).agg(n=pl.len().cast(pl.Int64), **named)
    return _sliding(rows, keys, workload)


def _sessions(rows: pl.LazyFrame, workload: Workload) -> pl.LazyFrame:
    keys, of = list(workload.keys), pl.col("value")
    named = {name: getattr(of, name)() for name in workload.aggregates}
    begins = (pl.col("ts") - pl.col("ts").shift() >= workload.size).fill_null(value=True)
    return (
        rows.sort(*keys, "ts")
        .with_columns(session=begins.cum_sum().over(keys))
        .group_by([*keys, "session"])
        .agg(window_start=pl.col("ts").min(), n=pl.len().cast(pl.Int64), **named)
        .drop("session")
    )


def _sliding(rows: pl.LazyFrame, keys: list[str], workload: Workload) -> pl.LazyFrame:
    value = pl.col("value")
    slices = rows.group_by(keys).agg(c=pl.len().cast(pl.Int64), s=value.sum(), m=value.max())
    shifts = pl.LazyFrame({"shift": range(0, workload.size, workload.slide)})
    combined = {
        "sum": pl.col("s").sum(),
        "max": pl.col("m").max(),
        "mean": pl.col("s").sum() / pl.col("c").sum(),
    }
    return (
        slices.join(shifts, how="cross")
        .with_columns(window_start=pl.col("window_start") - pl.col("shift"))
        .group_by(keys)
        .agg(n=pl.col("c").sum(), **{name: combined[name] for name in workload.aggregates})
    )
