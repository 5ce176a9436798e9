"""A checkpoint under way on one rank, and the run and plan that it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hpcstream.checkpoint.format import CheckpointError, Section, WrittenFile
from hpcstream.checkpoint.increments import CopiedState, Finish, SegmentTable
from hpcstream.checkpoint.storage.directory import SAVEPOINT, CheckpointStore
from hpcstream.connectors.base import OutputPart
from hpcstream.graph.identity import (
    OperatorIdentity,
    operator_identities,
    plan_fingerprint,
    source_identities,
    source_origins,
)
from hpcstream.graph.physical import PhysicalGraph

TASKS = "tasks"
"""The section of a rank's file that holds the snapshots of its tasks, as JSON."""


@dataclass(frozen=True)
class PlanManifest:
    """What a manifest records of the job.

    Attributes
    ----------
    job, fingerprint : str
    size : int
        Number of ranks.
    operators : list of OperatorIdentity
        Of the whole plan.
    sources, sinks : dict of int to str
        Identity of each source by the number of its task, and of each sink by its number.
    origins : dict of int to str
        What each source reads, by the number of its task.
    """

    job: str
    fingerprint: str
    size: int
    operators: Sequence[OperatorIdentity]
    sources: Mapping[int, str]
    sinks: Mapping[int, str]
    origins: Mapping[int, str]

    @classmethod
    def of(cls, job: str, graph: PhysicalGraph) -> PlanManifest:
        """Return what manifests record of a plan."""
        operators = operator_identities(graph)
        names = {(operator.task, operator.index): operator.id for operator in operators}
        sinks = {
            operator.sink_number: names[task.number, index]
            for task in graph.tasks
            for index, operator in enumerate(task.operators)
            if operator.sink_number is not None
        }
        return cls(
            job,
            plan_fingerprint(graph),
            graph.size,
            operators,
            source_identities(graph),
            sinks,
            source_origins(graph),
        )


@dataclass(frozen=True)
class CheckpointRun:
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


@dataclass(eq=False)
class PendingCheckpoint:
    """One checkpoint under way on this rank.

    Attributes
    ----------
    number : int
    round : int
        The first round that is not in it, counted over all runs.
    begins_at : int
        The same, counted in this run: a task is copied before it begins this round.
    kind : str
    began_s : float
    waiting : set of int
        Numbers of the tasks that are not copied yet.
    is_last : bool
        The job ends with it, finished.
    is_abandoned : bool
        The job failed before every task was copied.
    pause_s : float
        How long rounds stood still for the copies.
    pause_cpu_s : float
        Processor time of that: less, where others use the machine too.
    copied_bytes : int
        Bytes of state copied in the pause.
    finishes : dict of str to list of callable
        Functions that make further arrays in the background, by section.
    tables : dict of str to list of SegmentTable
        Where the segments of operators are, by the operator's path.
    shared : dict of str to WrittenFile
        The files of earlier checkpoints that tables refer to.
    durable : dict of int to callable
        Makes a sink's rows durable and returns its parts, by the sink's number.
    positions : dict of int to JSON
        Position of each sink.
    notices : list of callable
        Called once the checkpoint is complete: they tell sources.
    """

    number: int
    round: int
    begins_at: int
    kind: str
    began_s: float
    waiting: set[int]
    is_last: bool = False
    is_abandoned: bool = False
    pause_s: float = 0.0
    pause_cpu_s: float = 0.0
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

    def abandon(self) -> None:
        """Do not complete it unless every task is copied: the job has failed."""
        self.is_abandoned = self.is_abandoned or bool(self.waiting)

    def add_state(self, path: str, copied: CopiedState, shared: Mapping[str, WrittenFile]) -> None:
        """Add the copied state of an operator; ``shared`` are the files that it refers to."""
        self.sections.append(Section(path, copied.arrays))
        self.finishes[path] = copied.finishes
        self.state_bytes[path] = copied.n_bytes
        self.copied_bytes += sum(array.nbytes for array in copied.arrays.values())
        self.tables[path] = copied.tables
        self.shared.update(shared)

    def add_task(self, number: int, snapshot: dict[str, Any]) -> None:
        """Add the snapshot of a task, which is now copied."""
        self.tasks[str(number)] = snapshot
        self.waiting.discard(number)

    def add_pause(self, seconds: float, cpu_seconds: float) -> None:
        """Count time for which rounds stood still."""
        self.pause_s += seconds
        self.pause_cpu_s += cpu_seconds


@dataclass(frozen=True)
class Written:
    """What the background wrote of a checkpoint on this rank.

    Attributes
    ----------
    file : WrittenFile or None
        None if the write failed.
    parts : dict of int to list of OutputPart
        Durable parts of each sink, also after a failure.
    error : str or None
    """

    file: WrittenFile | None
    parts: dict[int, list[OutputPart]]
    error: str | None = None


class SinkFailed(CheckpointError):
    """A sink could not make its rows durable."""
