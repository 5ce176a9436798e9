"""What a checkpoint under way consists of on one rank, and whose it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpcstream.checkpoint.format import CheckpointError, Section, WrittenFile
from hpcstream.checkpoint.increments import Finish, SegmentTable
from hpcstream.checkpoint.storage.directory import SAVEPOINT, CheckpointStore
from hpcstream.connectors.base import OutputPart
from hpcstream.graph.identity import OperatorIdentity

TASKS = "tasks"
"""The section that holds what is known of each task, as JSON."""


@dataclass(frozen=True)
class Plan:
    """What a manifest says of the job.

    Attributes
    ----------
    job, fingerprint : str
    size : int
    operators : list of OperatorIdentity
        Of the whole plan.
    sources, sinks : dict of int to str
        Number of each source's task, and of each sink, to its id.
    origins : dict of int to str
        Number of each source's task to what it reads.
    """

    job: str
    fingerprint: str
    size: int
    operators: Sequence[OperatorIdentity]
    sources: Mapping[int, str]
    sinks: Mapping[int, str]
    origins: Mapping[int, str]


@dataclass(frozen=True)
class Session:
    """The checkpoint directory as this run uses it.

    Attributes
    ----------
    store : CheckpointStore
    attempt : int
        Number of this run.
    next_number : int
        Of the next checkpoint.
    first_round : int
        Round at which this run began.
    """

    store: CheckpointStore
    attempt: int
    next_number: int
    first_round: int = 0


@dataclass
class Cut:
    """One checkpoint under way on this rank.

    Attributes
    ----------
    waiting : set of int
        Tasks that have not come to the round of the cut.
    copy_s : float
        How long rounds stood still for it.
    copy_cpu_s : float
        Processor time of that: less, where others use the machine too.
    copied_bytes : int
        Of state that was copied meanwhile.
    finishes : dict of str to list of callable
        By section: make, in the background, arrays of it.
    tables : dict of str to list of SegmentTable
        Where the segments of operators are, by the operator's path.
    shared : dict of str to WrittenFile
        The files of earlier checkpoints that tables refer to.
    notices : list of callable
        Called once it is complete: sources that are told of it.
    """

    number: int
    round: int
    kind: str
    waiting: set[int]
    finished: bool = False
    abandoned: bool = False
    began_s: float = 0.0
    copy_s: float = 0.0
    copy_cpu_s: float = 0.0
    copied_bytes: int = 0
    sections: list[Section] = field(default_factory=list)
    tasks: dict[str, Any] = field(default_factory=dict)
    finishes: dict[str, list[Finish]] = field(default_factory=dict)
    tables: dict[str, list[SegmentTable]] = field(default_factory=dict)
    shared: dict[str, WrittenFile] = field(default_factory=dict)
    durable: dict[int, Callable[[], Sequence[OutputPart]]] = field(default_factory=dict)
    positions: dict[int, Any] = field(default_factory=dict)
    state_bytes: dict[str, int] = field(default_factory=dict)
    notices: list[Callable[[], None]] = field(default_factory=list)

    @property
    def is_savepoint(self) -> bool:
        """Whether it is kept by itself: it refers to no other checkpoint."""
        return self.kind == SAVEPOINT


@dataclass(frozen=True)
class Written:
    """What the background wrote for a cut."""

    file: WrittenFile | None
    parts: dict[int, list[OutputPart]]
    error: str | None = None


class SinkFailed(CheckpointError):
    """Rows that a sink took in could not be made durable."""
