"""Takes the counts of one rank together when its rounds are over."""

from __future__ import annotations

from dataclasses import asdict

from hpcstream.metric import Measurement
from hpcstream.observability.metrics import OperatorReport, RankReport
from hpcstream.runtime.run.assembly import Setup
from hpcstream.runtime.tasks.task import SourceTask


def rows_read(setup: Setup) -> int:
    """Return the rows that this rank has scanned, those before a restart included."""
    tasks = setup.worker.tasks
    return sum(task.reader.rows_scanned for task in tasks if isinstance(task, SourceTask))


def rank_report(setup: Setup, seconds: float, rows_before: int = 0) -> RankReport:
    """Return what this rank did in a run of ``seconds`` that began at ``rows_before``."""
    worker, telemetry = setup.worker, setup.telemetry
    telemetry.memory.sample()
    stall = (
        telemetry.watermark_stalls.now
        if worker.outcome.stop
        else telemetry.watermark_stalls.longest
    )
    measured = telemetry.measured_beside()
    report = RankReport(
        rank=worker.rank,
        rows_in=rows_read(setup),
        rows_before=rows_before,
        rounds=_value(measured.pop("rounds", None)),
        seconds=seconds,
        busy_s=sum(task.busy_ns for task in worker.tasks) / 1e9,
        exchange_s=worker.exchange_ns / 1e9,
        bytes_sent=_value(measured.pop("sent", None)),
        peak_bytes=telemetry.memory.peak_bytes,
        rows_out=sum(sink.rows_out for sink in setup.sinks.values()),
        watermark_stall=None if stall is None else stall.to_json(),
        jumps=[asdict(jump) for jump in telemetry.jumps()],
        idle_splits=telemetry.idle_splits(),
        times=[one.to_json() for one in telemetry.event_times()],
    )
    report.metrics = measured
    for plan, task in zip(setup.plans, worker.tasks, strict=True):
        for index, counters in enumerate(task.chain.counters):
            measured = telemetry.measured(plan.number, index)
            report.operators.append(OperatorReport.of(plan.number, counters.label, measured))
    report.late_rows = sum(one.late_rows for one in report.operators)
    return report


def _value(measured: Measurement | None) -> int:
    return 0 if measured is None else measured.value
