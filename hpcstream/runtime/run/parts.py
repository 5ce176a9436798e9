"""The parts of a job that one rank has."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from hpcstream.exchange.communicator import Communicator
from hpcstream.exchange.edges.base import Edge
from hpcstream.graph.physical import TaskPlan
from hpcstream.operators.sink import SinkOperator
from hpcstream.runtime.checkpoints.coordinator import CheckpointCoordinator
from hpcstream.runtime.loop.worker import Worker
from hpcstream.runtime.tasks.source_task import SourceTask
from hpcstream.runtime.tasks.task import Task
from hpcstream.runtime.telemetry.telemetry import Telemetry


@dataclass(frozen=True)
class RankParts:
    """The parts of a job that one rank has.

    Attributes
    ----------
    worker : Worker
    telemetry : Telemetry
    checkpoints : CheckpointCoordinator or None
    plans : list of TaskPlan
        Of the worker's tasks.
    sinks : dict of int to SinkOperator
        Those that this rank runs, by number.
    communicators : list of Communicator
        All that the run has made.
    """

    worker: Worker
    telemetry: Telemetry
    checkpoints: CheckpointCoordinator | None
    plans: Sequence[TaskPlan]
    sinks: Mapping[int, SinkOperator]
    communicators: Sequence[Communicator]

    def close(self) -> None:
        """Close the sources and free every communicator. Collective."""
        close_all(self.worker.tasks, self.worker.edges, self.communicators)
        self.leave()

    def leave(self) -> None:
        """Release what this rank holds alone; also after a failure, and twice."""
        self.worker.waking.bell.close()

    @property
    def rows_read(self) -> int:
        """Rows that this rank has scanned, those before a restart included."""
        tasks = self.worker.tasks
        return sum(task.reader.rows_scanned for task in tasks if isinstance(task, SourceTask))


@contextlib.contextmanager
def suppress_and_warn(action: str) -> Iterator[None]:
    """Turn a failure while tidying up into a warning: it hides and stops nothing else."""
    try:
        yield
    except Exception as failure:
        warnings.warn(f"{action} failed: {type(failure).__name__}: {failure}", stacklevel=3)


def close_all(
    tasks: Sequence[Task], edges: Sequence[Edge], communicators: Sequence[Communicator]
) -> None:
    """Close the sources and free every communicator. Collective."""
    for task in tasks:
        if isinstance(task, SourceTask):
            with suppress_and_warn("closing a source"):
                task.reader.close()
    for edge in edges:
        edge.free()
    for comm in communicators:
        comm.free()
