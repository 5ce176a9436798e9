"""`JobConfig`: every option of a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple


class RoundLimits(NamedTuple):
    """The most that a source scans for one round. Larger rounds cost less Python time a row."""

    rows: int
    n_bytes: int


LIVE_ROUND = RoundLimits(65_536, 16 << 20)
BOUNDED_ROUND = RoundLimits(262_144, 16 << 20)
REDUCED_ROUND = RoundLimits(2_097_152, 128 << 20)
"""For jobs that aggregate rows before the exchange."""
OVERLAPPING_ROUND = RoundLimits(1_048_576, 128 << 20)
"""The same for overlapping windows, which touch more memory in larger rounds."""

_OF_ONE_RANK = ("progress", "stall_timeout_s", "stop_grace_s")
_AT_LEAST_ONE = (
    "batch_rows", "round_bytes", "rounds_in_flight", "step_bytes", "receive_bytes", "keep",
)  # fmt: skip


_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "bool": ((bool,), "True or False"),
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number of seconds"),
    "str": ((str,), "a text"),
}
"""Of each annotation: the accepted types, and their name in messages."""


def _check_type(name: str, annotation: str, value: Any) -> None:
    """Raise `TypeError` if the value of an option does not match its annotation."""
    kind, _, optional = annotation.partition(" | ")
    accepted, description = _KINDS[kind]
    if value is None and optional:
        return
    is_flag = isinstance(value, bool) and kind != "bool"
    if is_flag or not isinstance(value, accepted):
        none = " or None" if optional else ""
        raise TypeError(f"{name} must be {description}{none}; got {value!r}")


@dataclass(frozen=True, kw_only=True)
class JobConfig:
    """How a job runs. No option changes the meaning of the job.

    Attributes
    ----------
    batch_rows : int or None
        Rows that a source scans for one round, on each rank. None: 2,097,152; 262,144 if
        the job calls functions of yours (they may be slow, and checkpoints and stops wait
        for the end of a round) or exchanges rows before it aggregates them (they should
        still be in the cache when they arrive); 65,536 if a source is live (results wait
        for the round). A round takes up to half as many more rows rather than cut a split.
        Operators get batches of at most 131,072 rows.
    round_bytes : int or None
        A bounded source also closes a round at this size. None: 128 MiB with rounds of
        2,097,152 rows, else 16 MiB.
    linger_s : float
        A live source closes a round this long after the last one, with or without rows.
    rounds_in_flight : int
        How many rounds a rank may be ahead of the slowest rank on an edge.
    step_bytes : int
        Most bytes that a rank sends in one step of a round.
    receive_bytes : int
        Most bytes that a rank receives in one step from all others together.
    shared_memory : bool
        Let ranks of one host read each other's messages in shared memory, without a copy
        by MPI.
    stall_timeout_s : float or None
        End the job if no round completes for this long; None: only warn.
    stop_grace_s : float
        After a request to stop: how long a rank may spend in one call of a function of the
        job, or the ranks may wait for one that does not respond, before the job is aborted.
    abort_timeout_s : float
        How long the ranks may take to agree on a failure before all are killed.
    local_aggregation : bool
        Aggregate before the exchange where possible.
    reproducible : bool
        Sum floats exactly, and compute covariances from all values in sorted order: the same
        bits on any number of ranks.
    progress : bool or None
        Show a progress line: on a terminal about once a second; elsewhere, as in the log of
        a batch job, every 10 s; None: every minute there.
    checkpoint_dir : str or None
        Directory of the checkpoints; None: no checkpoints.
    scratch_dir : str or None
        Directory on a local disk: checkpoint files are written there, then copied.
    checkpoint_interval_s : float
        Seconds from the start of one checkpoint to the start of the next.
    restore_from : str or None
        ``"auto"``: the newest checkpoint, if any; ``"latest"``: the newest checkpoint,
        which must exist; the path of a checkpoint; None: start afresh.
    keep : int
        How many checkpoints to keep, not counting savepoints.
    allow_dropped_state : bool
        Restore a checkpoint even if the plan has no operator for some of its state.
    on_checkpoint_failure : str
        ``"continue"`` if a checkpoint cannot be written, or ``"stop"`` the job.
    stop_after_savepoint : bool
        Take a savepoint as soon as possible, then stop.
    """

    batch_rows: int | None = None
    round_bytes: int | None = None
    linger_s: float = 0.001
    rounds_in_flight: int = 3
    step_bytes: int = 4 << 20
    receive_bytes: int = 256 << 20
    shared_memory: bool = True
    stall_timeout_s: float | None = None
    stop_grace_s: float = 25.0
    abort_timeout_s: float = 5.0
    local_aggregation: bool = True
    reproducible: bool = False
    progress: bool | None = None
    checkpoint_dir: str | None = None
    scratch_dir: str | None = None
    checkpoint_interval_s: float = 10.0
    restore_from: str | None = "auto"
    keep: int = 3
    allow_dropped_state: bool = False
    on_checkpoint_failure: str = "continue"
    stop_after_savepoint: bool = False

    def __post_init__(self) -> None:
        for option in fields(self):
            _check_type(option.name, str(option.type), getattr(self, option.name))
        for name in _AT_LEAST_ONE:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1; got {value!r}")
        for name in (
            "linger_s",
            "abort_timeout_s",
            "checkpoint_interval_s",
            "stall_timeout_s",
            "stop_grace_s",
        ):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be positive; got {value!r}")
        if self.on_checkpoint_failure not in ("continue", "stop"):
            raise ValueError(
                f"on_checkpoint_failure {self.on_checkpoint_failure!r}: 'continue' or 'stop'"
            )
        if self.stop_after_savepoint and self.checkpoint_dir is None:
            raise ValueError("stop_after_savepoint needs a checkpoint_dir")

    def round_limits(
        self, *, has_live_source: bool, is_reduced: bool, overlaps: bool = False
    ) -> RoundLimits:
        """Return the limits of a round for the sources of such a job."""
        usual = OVERLAPPING_ROUND if overlaps else REDUCED_ROUND
        usual = usual if is_reduced else BOUNDED_ROUND
        usual = LIVE_ROUND if has_live_source else usual
        return RoundLimits(self.batch_rows or usual.rows, self.round_bytes or usual.n_bytes)

    def fingerprint(self) -> str:
        """Return the options that all ranks must share, as text."""
        shared = {k: v for k, v in asdict(self).items() if k not in _OF_ONE_RANK}
        return ", ".join(f"{name}={value!r}" for name, value in sorted(shared.items()))
