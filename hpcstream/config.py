"""`JobConfig`: every option of a run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple


class RoundLimits(NamedTuple):
    """What a source scans for one round, at most. A row pays less for Python in larger ones."""

    rows: int
    n_bytes: int


LIVE_ROUND = RoundLimits(65_536, 16 << 20)
BOUNDED_ROUND = RoundLimits(262_144, 16 << 20)
REDUCED_ROUND = RoundLimits(2_097_152, 128 << 20)
"""Of jobs in which rows are aggregated before they go to other ranks."""
OVERLAPPING_ROUND = RoundLimits(1_048_576, 128 << 20)
"""The same where a row counts in several windows, which touch more memory in larger rounds."""

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
"""Of each type of an option: what is taken for it, and how that is called."""


def _check_type(name: str, annotation: str, value: Any) -> None:
    """Raise `TypeError` if an option is of another type than its annotation says."""
    kind, _, optional = annotation.partition(" | ")
    taken, called = _KINDS[kind]
    if value is None and optional:
        return
    is_flag = isinstance(value, bool) and kind != "bool"
    if is_flag or not isinstance(value, taken):
        none = " or None" if optional else ""
        raise TypeError(f"{name} must be {called}{none}; got {value!r}")


@dataclass(frozen=True, kw_only=True)
class JobConfig:
    """How a job runs; none of it changes what the job means.

    Attributes
    ----------
    batch_rows : int or None
        Rows that a source scans for one round, on each rank. None: 2,097,152; 262,144 if
        the job calls functions of yours, for a row may take them long, and checkpoints
        and stops wait for the end of a round, or if rows cross ranks that nothing has
        aggregated, for they should still be in the cache when they arrive; 65,536 if a
        source of the job is live, for results wait for the round, too. Up to half as many
        more rather than cut what a split has. Operators get them in batches of at most
        131,072 rows.
    round_bytes : int or None
        A bounded source also closes a round that has this many bytes. None: 128 MiB where a
        round has 2,097,152 rows, else 16 MiB.
    linger_s : float
        A live source closes a round this long after the last one, rows or not.
    rounds_in_flight : int
        K: how many rounds a rank may be ahead of the slowest on an edge.
    step_bytes : int
        Bytes that a rank sends in one step of a round, at most.
    receive_bytes : int
        Bytes that a rank may receive in one step from all others together.
    shared_memory : bool
        Let ranks of one host read each other's messages where they lie, instead of having
        MPI copy them.
    stall_timeout_s : float or None
        End the job when no round completes for so long; None: only say so.
    stop_grace_s : float
        How long a rank that was asked to stop may be in one call of a function of the job, or
        all ranks wait for one that does not answer, before the job is ended as it is.
    abort_timeout_s : float
        How long the ranks may take to agree on a failure before all are killed.
    local_aggregation : bool
        Aggregate before the exchange where that is possible.
    reproducible : bool
        Make sums, means and variances of floats from all their values, in the order of
        the values: the same bits on any number of ranks.
    progress : bool or None
        Say how far the job is, on a terminal in one line, about once a second. Elsewhere, as
        in the log of a batch job, in a line every 10 s; None: every minute.
    checkpoint_dir : str or None
        Where checkpoints are; None: none are taken.
    scratch_dir : str or None
        Directory on a disk of the node; checkpoint files are written there, then copied.
    checkpoint_interval_s : float
        Seconds between the beginnings of two checkpoints.
    restore_from : str or None
        ``"auto"``: the newest checkpoint if there is one; ``"latest"``: there must be
        one; a path of a checkpoint; None: start afresh.
    keep : int
        How many checkpoints are kept, savepoints apart.
    allow_dropped_state : bool
        Go on from a checkpoint although the plan has no place for some of its state.
    on_checkpoint_failure : str
        ``"continue"`` without a checkpoint that cannot be written, or ``"stop"``.
    stop_after_savepoint : bool
        Take a savepoint as soon as possible, and stop.
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
        """Return what a source of such a job scans for one round."""
        usual = OVERLAPPING_ROUND if overlaps else REDUCED_ROUND
        usual = usual if is_reduced else BOUNDED_ROUND
        usual = LIVE_ROUND if has_live_source else usual
        return RoundLimits(self.batch_rows or usual.rows, self.round_bytes or usual.n_bytes)

    def fingerprint(self) -> str:
        """Return what all ranks must have in common, as text."""
        shared = {k: v for k, v in asdict(self).items() if k not in _OF_ONE_RANK}
        return ", ".join(f"{name}={value!r}" for name, value in sorted(shared.items()))
