"""`JobResult`: what `hpcstream.Job.run` returns."""

from __future__ import annotations

import html
from collections.abc import Sequence

from hpcstream.observability.metrics import JobFigures, OperatorReport, RankReport
from hpcstream.observability.summary import in_short, summary
from hpcstream.observability.time_doubts import EventTimes, united
from hpcstream.observability.watermarks import Hold, JumpReport, blamed


class JobResult(JobFigures):
    """What a job did, the same on every rank but for `rank`.

    Attributes
    ----------
    name : str
    status : str
        ``"finished"`` or ``"stopped"``; ``"explained"`` under ``hpcstream explain``.
    was_finished : bool
        An earlier start had finished it, so that this one did nothing.
    ranks : int
    rank : int
        Number of this one, from 0.
    rows_in : int
        Rows scanned by all sources, before filters; with checkpoints, by all starts.
    rows_before : int
        Those of ``rows_in`` that earlier starts have read.
    rows_out : int
        Rows written by all sinks.
    late_rows : int
        Rows that came after every window they belong to had closed.
    reads_late_rows : bool
        The job does something with them: it has a stream of `Stream.late`.
    rounds : int
    seconds : float
        From the first round to the last commit, on the slowest rank.
    checkpoints : int
    watermark_holder : Hold or None
        Who held the watermark back for longest (in a stopped job: at the end), since
        when, and what to do; None if nobody did for seconds.
    watermark_jump : JumpReport or None
        If late rows are many: the row that moved the watermark far ahead.
    idle_splits : dict of str to float
        Splits that had no rows for longer than ``idle_timeout``, with their ranks, and for
        how many seconds.
    event_times : list of EventTimes
        Which event times each source has brought.
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
    """Return the result of a job from what its ranks report."""
    result = JobResult(name, ranks, per_rank=list(reports))
    totals: dict[tuple[int, int], OperatorReport] = {}
    for report in reports:
        result.rows_in += report.rows_in
        result.rows_before += report.rows_before
        result.rows_out += report.rows_out
        result.late_rows += report.late_rows
        result.rounds = max(result.rounds, report.rounds)
        result.seconds = max(result.seconds, report.seconds)
        places: dict[int, int] = {}
        for operator in report.operators:
            place = places[operator.task] = places.get(operator.task, -1) + 1
            total = totals.setdefault(
                (operator.task, place), OperatorReport(operator.task, operator.label)
            )
            total.add(operator)
    result.operators = [totals[key] for key in sorted(totals)]
    _add_times(result)
    return result


def _add_times(result: JobResult) -> None:
    """Add what the ranks say about event time."""
    reports = result.per_rank
    hold = reports[0].hold if reports else None
    result.watermark_holder = None if hold is None else Hold(**hold)
    jumps = [JumpReport(**jump) for report in reports for jump in report.jumps]
    result.watermark_jump = blamed(jumps, result.late_rows, result.rows_in)
    result.event_times = united(EventTimes.from_json(one) for r in reports for one in r.times)
    result.idle_splits = {
        f"{split} on rank {report.rank}": seconds
        for report in reports
        for split, seconds in report.idle_splits.items()
    }
