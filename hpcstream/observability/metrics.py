"""The figures of a job: counted on each rank, combined when it ends."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from hpcstream.metric import Measurement, together
from hpcstream.observability.time_doubts import EventTimes
from hpcstream.observability.watermarks import JumpReport, WatermarkStall

EXPLAINED = "explained"
"""Status of a job that printed its plan instead of running."""


_FIELDS = {
    "rows in": "rows_in",
    "rows out": "rows_out",
    "late rows": "late_rows",
    "state": "state_bytes",
}
"""Metrics that every operator declares, and their attributes of `OperatorReport`."""


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
        Peak of the state sampled.
    metrics : dict of str to Measurement
        The other metrics of the operator, or of its sink (`hpcstream.metric`).
    """

    task: int
    label: str
    rows_in: int = 0
    rows_out: int = 0
    late_rows: int = 0
    state_bytes: int = 0
    metrics: dict[str, Measurement] = field(default_factory=dict)

    @classmethod
    def of(cls, task: int, label: str, measured: Mapping[str, Measurement]) -> OperatorReport:
        """Return the report of an operator from its metrics."""
        own = {
            _FIELDS[name]: measurement.value
            for name, measurement in measured.items()
            if name in _FIELDS
        }
        others = {
            name: measurement for name, measurement in measured.items() if name not in _FIELDS
        }
        return cls(task, label, **own, metrics=others)

    def add(self, other: OperatorReport) -> None:
        """Add another rank's counts."""
        self.metrics = together([*self.metrics.items(), *other.metrics.items()])
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
        Rows of ``rows_in`` read before the restart.
    peak_bytes : int
        Peak of the private memory sampled (RssAnon + RssShmem).
    watermark_stall : dict or None
        On rank 0: the `WatermarkStall` to report.
    jumps : list of dict
        `JumpReport` of its sources.
    idle_splits : dict of str to float
        Splits that were idle, and their longest idle time in seconds.
    times : list of dict
        `EventTimes` of its sources.
    metrics : dict of str to Measurement
        Metrics of its sources, edges and tasks, except ``rounds`` and ``bytes_sent``.
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
    watermark_stall: dict[str, Any] | None = None
    jumps: list[dict[str, Any]] = field(default_factory=list)
    idle_splits: dict[str, float] = field(default_factory=dict)
    times: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, Measurement] = field(default_factory=dict)

    @property
    def waiting_s(self) -> float:
        """Time in which the rank had nothing to do."""
        return max(0.0, self.seconds - self.busy_s - self.exchange_s)

    def to_json(self) -> str:
        """Return the report as text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> RankReport:
        """Return the report that `to_json` wrote."""
        values = json.loads(text)
        for report in (values, *values["operators"]):
            report["metrics"] = {
                name: Measurement(**given) for name, given in report["metrics"].items()
            }
        values["operators"] = [OperatorReport(**operator) for operator in values["operators"]]
        return cls(**values)


@dataclass(repr=False)
class JobFigures:
    """The figures of a job; see `hpcstream.observability.result.JobResult`."""

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
    watermark_stall: WatermarkStall | None = None
    watermark_jump: JumpReport | None = None
    idle_splits: dict[str, float] = field(default_factory=dict)
    per_rank: list[RankReport] = field(default_factory=list)
    operators: list[OperatorReport] = field(default_factory=list)
    rank: int = field(default=0, compare=False)
    event_times: list[EventTimes] = field(default_factory=list)

    @property
    def metrics(self) -> dict[str, int]:
        """Metrics of operators, sources, sinks and edges, over all ranks."""
        parts: list[OperatorReport | RankReport] = [*self.operators, *self.per_rank]
        measured = together(item for part in parts for item in part.metrics.items())
        return {name: measurement.value for name, measurement in measured.items()}

    @property
    def is_root(self) -> bool:
        """Whether this is rank 0, which has the rows of `Stream.collect`."""
        return self.rank == 0

    @property
    def rows_per_second(self) -> float:
        """Rows scanned per second since this start."""
        return (self.rows_in - self.rows_before) / self.seconds if self.seconds else 0.0
