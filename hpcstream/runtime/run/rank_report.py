"""Sums up what one rank did, after its last round."""

from __future__ import annotations

from dataclasses import asdict

from hpcstream.metric import Measurement
from hpcstream.observability.metrics import OperatorReport, RankReport
from hpcstream.runtime.run.parts import RankParts


def rank_report(parts: RankParts, seconds: float, rows_before: int = 0) -> RankReport:
    """Return what this rank did in a run of ``seconds`` that began at ``rows_before``."""
    worker, telemetry = parts.worker, parts.telemetry
    telemetry.memory.sample()
    is_stopped = bool(worker.control.outcome.stop)
    stalls = telemetry.watermark_stalls
    stall = stalls.now if is_stopped else stalls.longest
    metrics = telemetry.measured_beside()
    operators = [
        OperatorReport.of(task.number, counters.label, telemetry.measured(task.number, index))
        for task in worker.tasks
        for index, counters in enumerate(task.chain.counters)
    ]
    return RankReport(
        rank=worker.rank,
        rows_in=parts.rows_read,
        rows_before=rows_before,
        rounds=_value(metrics.pop("rounds", None)),
        seconds=seconds,
        busy_s=sum(task.busy_ns for task in worker.tasks) / 1e9,
        exchange_s=worker.exchange_ns / 1e9,
        bytes_sent=_value(metrics.pop("sent", None)),
        peak_bytes=telemetry.memory.peak_bytes,
        rows_out=sum(operator.rows_out for operator in parts.sinks.values()),
        late_rows=sum(report.late_rows for report in operators),
        watermark_stall=None if stall is None else stall.to_json(),
        jumps=[asdict(jump) for jump in telemetry.jumps()],
        idle_splits=telemetry.idle_splits(),
        times=[times.to_json() for times in telemetry.event_times()],
        metrics=metrics,
        operators=operators,
    )


def _value(measured: Measurement | None) -> int:
    return 0 if measured is None else measured.value
