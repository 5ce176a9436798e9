"""Bytewax, event by event, as its guide shows: a clock, a windower and a folder in Python."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import bytewax.operators as op
import pyarrow as pa
from bytewax.dataflow import Dataflow
from bytewax.operators import windowing
from bytewax.testing import TestingSink, TestingSource, run_main

from benchmarks.measure.trial import Trial
from benchmarks.systems.tables import Repeated, mapped
from benchmarks.workloads.datasets import campaigns
from benchmarks.workloads.workload import Workload

_BATCH = 10_000  # events a poll of the source; one by one, every key is looked at for each
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SEPARATOR = "\x1f"  # between the columns of a key: Bytewax has keys of one string


def make(trial: Trial) -> Repeated:
    """Return a dataflow over the rows as Python values, made before the clock starts."""
    workload = trial.query
    events = list(_events(mapped(trial), workload))
    return Repeated(trial, lambda: _answer(events, workload))


def _events(rows: pa.Table, workload: Workload) -> Iterator[tuple[str, tuple[datetime, float]]]:
    """Yield (key, (event time, value)) of each row that the query keeps."""
    if workload.counts_views:
        campaign = dict(zip(*campaigns().to_pydict().values(), strict=True))
        for event, ad, time in zip(
            *(rows[name].to_pylist() for name in ("event_type", "ad_id", "ts")), strict=True
        ):
            if event == "view":
                yield campaign[ad], (_moment(time, workload), 0.0)
        return
    keys = zip(*(rows[name].to_pylist() for name in workload.keys), strict=True)
    for key, time, value in zip(
        keys, rows["ts"].to_pylist(), rows["value"].to_pylist(), strict=True
    ):
        yield _SEPARATOR.join(map(str, key)), (_moment(time, workload), value)


def _moment(ticks: int, workload: Workload) -> datetime:
    return _EPOCH + _length(ticks, workload)


def _length(ticks: int, workload: Workload) -> timedelta:
    return timedelta(microseconds=ticks * (1_000 if workload.unit == "ms" else 1))


def _fold(state: list[float], event: tuple[datetime, float]) -> list[float]:
    value = event[1]
    state[0] += 1
    state[1] += value
    state[2] = max(state[2], value)
    return state


def _merge(left: list[float], right: list[float]) -> list[float]:
    return [left[0] + right[0], left[1] + right[1], max(left[2], right[2])]


def _answer(events: list[Any], workload: Workload) -> pa.Table:
    results: list[Any] = []
    flow = Dataflow("benchmark")
    stream = op.input("rows", flow, TestingSource(events, batch_size=_BATCH))
    delay = _length(workload.watermark_delay, workload)
    # Its watermark also runs on with the wall clock, which a replay must not: rows would be late.
    clock = windowing.EventClock(
        lambda event: event[0], wait_for_system_duration=delay, now_getter=lambda: _EPOCH
    )
    size, slide = _length(workload.size, workload), _length(workload.slide, workload)
    windower: Any = windowing.SlidingWindower(size, slide, _EPOCH)
    if size == slide:
        windower = windowing.TumblingWindower(size, _EPOCH)
    start = [0, 0.0, float("-inf")]
    windows = windowing.fold_window(
        "windows", stream, clock, windower, lambda: list(start), _fold, _merge
    )
    op.output("results", windows.down, TestingSink(results))
    run_main(flow)
    return _table(results, workload)


def _table(results: list[Any], workload: Workload) -> pa.Table:
    keys = [key.split(_SEPARATOR) for key, _ in results]
    columns: dict[str, Any] = {
        name: [int(key[i]) if workload.dataset in _INTEGER_KEYS else key[i] for key in keys]
        for i, name in enumerate(workload.keys)
    }
    columns["window_start"] = [window * workload.slide for _, (window, _) in results]
    states = [state for _, (_, state) in results]
    columns["n"] = [int(count) for count, _, _ in states]
    values = {
        "sum": [total for _, total, _ in states],
        "max": [top for _, _, top in states],
        "mean": [total / count for count, total, _ in states],
    }
    return pa.table(columns | {name: values[name] for name in workload.aggregates})


_INTEGER_KEYS = ("uniform", "wide", "zipf")
