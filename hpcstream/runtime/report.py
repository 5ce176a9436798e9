"""Takes the counts of one rank together when its rounds are over."""

from __future__ import annotations

import resource

from hpcstream.observability.metrics import OperatorReport, RankReport
from hpcstream.runtime.setup import Setup
from hpcstream.runtime.task import SourceTask


def rank_report(setup: Setup, seconds: float) -> RankReport:
    """Return what this rank did in a run of ``seconds``."""
    worker = setup.worker
    report = RankReport(
        rank=worker.rank,
        rounds=max((task.next_round for task in worker.tasks), default=0),
        seconds=seconds,
        busy_s=sum(task.busy_ns for task in worker.tasks) / 1e9,
        exchange_s=worker.exchange_ns / 1e9,
        bytes_sent=sum(edge.bytes_sent for edge in worker.edges),
        peak_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        rows_out=sum(sink.rows_out for sink in setup.sinks.values()),
    )
    for plan, task in zip(setup.plans, worker.tasks, strict=True):
        if isinstance(task, SourceTask):
            report.rows_in += task.reader.rows_scanned
        for counters, operator in zip(task.chain.counters, task.chain.operators, strict=True):
            one = OperatorReport(plan.number, counters.label, counters.rows_in, counters.rows_out)
            one.late_rows = int(getattr(operator, "late_rows", 0))
            state = getattr(operator, "state_bytes", 0)
            one.state_bytes = int(state() if callable(state) else state) if state else 0
            report.late_rows += one.late_rows
            report.operators.append(one)
    return report
