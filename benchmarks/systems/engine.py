"""hpcstream itself: the replayed file as a stream, event time and watermarks on, a sink behind."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

import hpcstream as hs
from benchmarks.measure.trial import Trial
from benchmarks.workloads import json_lines
from benchmarks.workloads.answers import Answer, answer_of
from benchmarks.workloads.datasets import campaigns
from benchmarks.workloads.replay import TIME, ReplaySource
from benchmarks.workloads.workload import Workload
from hpcstream import col


class AnswerSink:
    """Sums up the result rows of this rank; nothing is kept."""

    def __init__(self, workload: Workload) -> None:
        self._workload = workload
        self.answer = Answer()

    def write(self, batch: pa.RecordBatch) -> None:
        """Add the rows of a batch."""
        self.answer.add(answer_of(batch, self._workload))


class Engine:
    """`System` on all ranks of the launcher, or in this process."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial
        self._world = _world() if trial.ranks > 1 else None
        self.last: hs.JobResult | None = None

    def run(self, passes: int) -> tuple[float, Answer]:
        """Run the job; the answer is that of all ranks, on rank 0."""
        workload = self._trial.query
        job = hs.Job(workload.name)
        source = ReplaySource(self._trial.file, passes, workload.period)
        sink = AnswerSink(workload)
        query(job, source, workload).sink(sink)
        if self._world is not None:
            self._world.Barrier()
        with self._checkpoint_options() as options:
            start = time.perf_counter()
            self.last = job.run(show=False, **options)
            seconds = time.perf_counter() - start
        return seconds, self._total(sink.answer)

    @contextmanager
    def _checkpoint_options(self) -> Iterator[dict[str, Any]]:
        """Give a run that takes checkpoints a directory of its own, and remove it afterwards."""
        options = dict(self._trial.options)
        if "checkpoint_interval" not in options:
            yield options
            return
        is_first = self._world is None or self._world.Get_rank() == 0
        folder = tempfile.mkdtemp(prefix="hpcstream-bench-") if is_first else ""
        if self._world is not None:
            folder = self._world.bcast(folder)
        try:
            yield options | {"checkpoint_dir": folder, "restore_from": None}
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def details(self) -> dict[str, Any]:
        """Return what the job says of its last run."""
        assert self.last is not None, "run() comes first"
        return {
            "late_rows": self.last.late_rows,
            "rounds": self.last.rounds,
            "engine_seconds": self.last.seconds,
            "bytes_sent": sum(rank.bytes_sent for rank in self.last.per_rank),
            "busy_s": [rank.busy_s for rank in self.last.per_rank],
            "exchange_s": [rank.exchange_s for rank in self.last.per_rank],
        }

    def _total(self, answer: Answer) -> Answer:
        total = Answer()
        for part in [answer] if self._world is None else self._world.allgather(answer):
            total.add(part)
        return total


def make(trial: Trial) -> Engine:
    """Return the engine, with the kernels of the workload compiled by `Engine.run`."""
    return Engine(trial)


def query(job: hs.Job, source: ReplaySource, workload: Workload) -> hs.Stream:
    """Return the result of a workload's query."""
    rows = job.source(
        source,
        event_time=TIME,
        event_time_unit=workload.unit,
        watermark_delay=_duration(workload.watermark_delay, workload),
    )
    if workload.is_json:
        rows = rows.map_batches(json_lines.parse, json_lines.PARSED)
    if workload.counts_views:
        rows = rows.filter(col("event_type") == "view").select("ad_id")
        rows = rows.join_table(campaigns(), on="ad_id")
    return rows.key_by(*workload.keys).window(_window(workload)).agg(**_aggregates(workload))


def _aggregates(workload: Workload) -> dict[str, Any]:
    named = {name: getattr(col("value"), name)() for name in workload.aggregates}
    return {"n": hs.count(), **named}


def _window(workload: Workload) -> Any:
    if workload.sessions:
        return hs.session(_duration(workload.size, workload))
    size, slide = (_duration(ticks, workload) for ticks in (workload.size, workload.slide))
    return hs.tumbling(size) if size == slide else hs.sliding(size, slide)


def _duration(ticks: int, workload: Workload) -> str:
    return f"{ticks}{workload.unit}"


def _world() -> Any:
    from mpi4py import MPI

    return MPI.COMM_WORLD
