"""`JobResult`: what `hpcstream.Job.run` returns."""

from __future__ import annotations

import html
from collections.abc import Sequence

from hpcstream.observability.metrics import JobFigures, OperatorReport, RankReport
from hpcstream.observability.summary import in_short, summary
from hpcstream.observability.time_doubts import EventTimes, united
from hpcstream.observability.watermarks import JumpReport, WatermarkStall, blamed


class JobResult(JobFigures):
    """The figures of a job; the same on every rank, except for `rank`.

    Attributes
    ----------
    name : str
    status : str
        ``"finished"`` or ``"stopped"``; ``"explained"`` under ``hpcstream explain``.
    was_finished : bool
        An earlier start had finished the job, so this one did nothing.
    ranks : int
    rank : int
        Number of this rank, from 0.
    rows_in : int
        Rows scanned by all sources, before filters; with checkpoints, by all starts.
    rows_before : int
        Rows of ``rows_in`` that earlier starts read.
    rows_out : int
        Rows written by all sinks.
    late_rows : int
        Rows that arrived after all their windows had fired.
    reads_late_rows : bool
        The job uses a stream of late rows (`Stream.late`).
    rounds : int
    seconds : float
        From the first round to the last commit, on the slowest rank.
    checkpoints : int
    watermark_stall : WatermarkStall or None
        The longest stall of the watermark (of a stopped job: the last), the split that
        caused it, and what to do; None if the watermark never stalled.
    watermark_jump : JumpReport or None
        If many rows are late: the row that advanced the watermark too far.
    idle_splits : dict of str to float
        Splits that had no rows for longer than ``idle_timeout``, with their ranks, and for
        how many seconds.
    event_times : list of EventTimes
        Range of the event times of each source.
    per_rank : list of RankReport
    operators : list of OperatorReport
        All ranks together.
    """

    def __str__(self) -> str:
        return summary(self)

    def __repr__(self) -> str:
        return f"JobResult({in_short(self)})"

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(in_short(self))}</pre>"


def collect_result(name: str, ranks: int, reports: Sequence[RankReport]) -> JobResult:
    """Return the result of a job from the reports of its ranks."""
    result = JobResult(name, ranks, per_rank=list(reports))
    totals: dict[tuple[int, int], OperatorReport] = {}
    for report in reports:
        result.rows_in += report.rows_in
        result.rows_before += report.rows_before
        result.rows_out += report.rows_out
        result.late_rows += report.late_rows
        result.rounds = max(result.rounds, report.rounds)
        result.seconds = max(result.seconds, report.seconds)
        last_index: dict[int, int] = {}
        for operator in report.operators:
            index = last_index[operator.task] = last_index.get(operator.task, -1) + 1
            total = totals.setdefault(
                (operator.task, index), OperatorReport(operator.task, operator.label)
            )
            total.add(operator)
    result.operators = [totals[key] for key in sorted(totals)]
    _add_times(result)
    return result


def _add_times(result: JobResult) -> None:
    """Add the reports of the ranks about event time."""
    reports = result.per_rank
    stall = reports[0].watermark_stall if reports else None
    result.watermark_stall = None if stall is None else WatermarkStall(**stall)
    jumps = [JumpReport(**jump) for report in reports for jump in report.jumps]
    result.watermark_jump = blamed(jumps, result.late_rows, result.rows_in)
    result.event_times = united(EventTimes.from_json(times) for r in reports for times in r.times)
    result.idle_splits = {
        f"{split} on rank {report.rank}": seconds
        for report in reports
        for split, seconds in report.idle_splits.items()
    }
