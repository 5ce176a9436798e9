"""The result of a job, from the reports of all ranks."""

from __future__ import annotations

from dataclasses import replace

from hpcstream.errors import JobStopped
from hpcstream.exchange.communicator import Communicator, Procedure, gather_bytes
from hpcstream.graph.logical import LogicalGraph, SideNode
from hpcstream.log import say
from hpcstream.observability.metrics import RankReport
from hpcstream.observability.result import JobResult, collect_result
from hpcstream.operators.windows.definition import LATE
from hpcstream.process.failure import mark_agreed, mark_shown
from hpcstream.runtime.checkpoints.schedule import STOP_AFTER_SAVEPOINT
from hpcstream.runtime.run.parts import RankParts


def gather_result(
    job: str,
    graph: LogicalGraph,
    parts: RankParts,
    own: RankReport,
    comm: Communicator,
    *,
    was_finished: bool,
) -> Procedure[JobResult]:
    """Return the result of a job. Collective."""
    texts = yield from gather_bytes(comm, own.to_json().encode())
    reports = [RankReport.from_json(text.decode()) for text in texts]
    late = [node for node in graph.nodes() if isinstance(node, SideNode) and node.output == LATE]
    return replace(
        collect_result(job, comm.size, reports),
        rank=comm.rank,
        status="stopped" if parts.worker.control.outcome.stop else "finished",
        was_finished=was_finished,
        reads_late_rows=bool(late),
        checkpoints=0 if parts.checkpoints is None else parts.checkpoints.completed,
    )


def stopped(result: JobResult, parts: RankParts) -> JobStopped:
    """Return what to raise on every rank of a job that was stopped, and say where it stopped."""
    path = None if parts.checkpoints is None else parts.checkpoints.last_path
    if result.rank == 0:
        say(f"stopped, {'nothing was committed' if path is None else f'to go on from {path}'}")
    status = parts.worker.control.outcome.stop
    error = JobStopped(0 if status == STOP_AFTER_SAVEPOINT else status, result)
    mark_agreed(error)
    mark_shown(error)
    return error
