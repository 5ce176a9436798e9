"""What a job did: counted on each rank, put together when it ends."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from hpcstream.observability.time_doubts import EventTimes, united
from hpcstream.observability.watermarks import Hold, JumpReport, blamed

EXPLAINED = "explained"
"""Status of a job whose plan was printed, and that did not run."""


@dataclass
class OperatorReport:
    """One operator on one rank, or on all ranks together.

    Attributes
    ----------
    task : int
        Number of the task in the physical graph.
    label : str
    rows_in, rows_out, late_rows : int
    state_bytes : int
        The most that its state was seen to take.
    """

    task: int
    label: str
    rows_in: int = 0
    rows_out: int = 0
    late_rows: int = 0
    state_bytes: int = 0

    def add(self, other: OperatorReport) -> None:
        """Add another rank's counts."""
        self.rows_in += other.rows_in
        self.rows_out += other.rows_out
        self.late_rows += other.late_rows
        self.state_bytes += other.state_bytes


@dataclass
class RankReport:
    """What one rank did. Times in seconds.

    Attributes
    ----------
    rows_before : int
        Of ``rows_in``, those that were read before a restart.
    peak_bytes : int
        Most memory of its own that it was seen with (RssAnon + RssShmem).
    hold : dict or None
        Rank 0: the `Hold` to tell of.
    jumps : list of dict
        `JumpReport` of its sources.
    idle_splits : dict of str to float
        Splits that were idle, and for how long at most.
    times : list of dict
        `EventTimes` of its sources.
    """

    rank: int
    rows_in: int = 0
    rows_before: int = 0
    rows_out: int = 0
    late_rows: int = 0
    rounds: int = 0
    seconds: float = 0.0
    busy_s: float = 0.0
    exchange_s: float = 0.0
    bytes_sent: int = 0
    peak_bytes: int = 0
    operators: list[OperatorReport] = field(default_factory=list)
    hold: dict[str, Any] | None = None
    jumps: list[dict[str, Any]] = field(default_factory=list)
    idle_splits: dict[str, float] = field(default_factory=dict)
    times: list[dict[str, Any]] = field(default_factory=list)

    @property
    def waiting_s(self) -> float:
        """Time in which nothing could be done here."""
        return max(0.0, self.seconds - self.busy_s - self.exchange_s)

    def to_json(self) -> str:
        """Return the report as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> RankReport:
        """Return the report that `to_json` wrote."""
        values = json.loads(text)
        operators = [OperatorReport(**one) for one in values.pop("operators")]
        return cls(**values, operators=operators)


@dataclass(repr=False)
class JobResult:
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

    name: str
    ranks: int
    status: str = "finished"
    was_finished: bool = False
    rows_in: int = 0
    rows_before: int = 0
    rows_out: int = 0
    late_rows: int = 0
    reads_late_rows: bool = False
    rounds: int = 0
    seconds: float = 0.0
    checkpoints: int = 0
    watermark_holder: Hold | None = None
    watermark_jump: JumpReport | None = None
    idle_splits: dict[str, float] = field(default_factory=dict)
    per_rank: list[RankReport] = field(default_factory=list)
    operators: list[OperatorReport] = field(default_factory=list)
    rank: int = field(default=0, compare=False)
    event_times: list[EventTimes] = field(default_factory=list)

    @property
    def is_root(self) -> bool:
        """Whether this is rank 0, the one that has the rows of `Stream.collect`."""
        return self.rank == 0

    @property
    def rows_per_second(self) -> float:
        """Rows scanned a second, by this start."""
        return (self.rows_in - self.rows_before) / self.seconds if self.seconds else 0.0

    def __str__(self) -> str:
        from hpcstream.observability.summary import summary

        return summary(self)

    def __repr__(self) -> str:
        from hpcstream.observability.summary import in_short

        return f"JobResult({in_short(self)})"

    def _repr_html_(self) -> str:
        from hpcstream.observability.summary import in_short

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
