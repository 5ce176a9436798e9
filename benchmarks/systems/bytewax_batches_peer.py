"""Bytewax with whole record batches as items and Polars inside, as an expert would write it.

Each batch becomes slices (count, sum and max per key and slide); a keyed step at the end
of the stream joins the slices of all batches and makes windows of them.
"""

from __future__ import annotations

from typing import Any

import bytewax.operators as op
import polars as pl
import pyarrow as pa
from bytewax.dataflow import Dataflow
from bytewax.testing import TestingSink, TestingSource, run_main

from benchmarks.measure.trial import Trial
from benchmarks.systems.tables import Repeated, mapped
from benchmarks.workloads.datasets import campaigns
from benchmarks.workloads.json_lines import FIELDS
from benchmarks.workloads.workload import Workload

_PENDING = 8  # frames of slices that are kept before they are joined


def make(trial: Trial) -> Repeated:
    """Return a dataflow over the batches of the mapped file."""
    batches = mapped(trial).to_batches()
    return Repeated(trial, lambda: _answer(batches, trial.query))


def _answer(batches: list[pa.RecordBatch], workload: Workload) -> pa.Table:
    results: list[Any] = []
    flow = Dataflow("benchmark")
    stream = op.input("batches", flow, TestingSource(batches))
    slices = op.map("slices", stream, lambda batch: ("all", _slices(batch, workload)))

    def fold(frames: list[pl.DataFrame], frame: pl.DataFrame) -> list[pl.DataFrame]:
        frames.append(frame)
        return frames if len(frames) < _PENDING else [_joined(frames, workload)]

    whole = op.fold_final("joined", slices, list, fold)
    op.output("results", whole, TestingSink(results))
    run_main(flow)
    ((_, frames),) = results
    return _windows(_joined(frames, workload), workload).to_arrow()


def _slices(batch: pa.RecordBatch, workload: Workload) -> pl.DataFrame:
    rows = pl.from_arrow(batch)
    assert isinstance(rows, pl.DataFrame)
    if workload.is_json:
        fields = pl.col("line").str.json_decode(pl.Struct(dict.fromkeys(FIELDS, pl.String)))
        rows = rows.select("ts", fields.struct.unnest())
    if workload.counts_views:
        ads = pl.from_arrow(campaigns())
        assert isinstance(ads, pl.DataFrame)
        rows = rows.filter(pl.col("event_type") == "view").join(ads, on="ad_id")
    start = (pl.col("ts") // workload.slide * workload.slide).alias("window_start")
    value = pl.col("value")
    summed = [value.sum().alias("s"), value.max().alias("m")] if workload.aggregates else []
    count = pl.len().cast(pl.Int64).alias("c")
    return rows.with_columns(start).group_by(*workload.keys, "window_start").agg(count, *summed)


def _joined(frames: list[pl.DataFrame], workload: Workload) -> pl.DataFrame:
    summed = [pl.col("s").sum(), pl.col("m").max()] if workload.aggregates else []
    grouped = pl.concat(frames).group_by(*workload.keys, "window_start")
    return grouped.agg(pl.col("c").sum(), *summed)


def _windows(slices: pl.DataFrame, workload: Workload) -> pl.DataFrame:
    combined = {
        "sum": pl.col("s").sum(),
        "max": pl.col("m").max(),
        "mean": pl.col("s").sum() / pl.col("c").sum(),
    }
    shifts = pl.DataFrame({"shift": range(0, workload.size, workload.slide)})
    start = (pl.col("window_start") - pl.col("shift")).alias("window_start")
    moved = slices.join(shifts, how="cross").with_columns(start)
    named = {name: combined[name] for name in workload.aggregates}
    return moved.group_by(*workload.keys, "window_start").agg(n=pl.col("c").sum(), **named)
