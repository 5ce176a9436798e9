"""Diagnoses what this rank waits for, in words, when nothing moves."""

from __future__ import annotations

from typing import NamedTuple

from hpcstream.exchange.edges.base import Edge
from hpcstream.graph.physical import EdgePlan, PhysicalGraph
from hpcstream.runtime.loop.worker import Worker
from hpcstream.runtime.tasks.source_task import SourceTask
from hpcstream.runtime.tasks.task import Task


class WaitReason(NamedTuple):
    """What a rank waits for, and the ranks whose part is missing, where that is known."""

    what: str
    ranks: tuple[int, ...] = ()


def diagnose(worker: Worker, graph: PhysicalGraph) -> WaitReason:
    """Return what the task furthest behind waits for."""
    wait = _first_wait(worker, graph)
    return WaitReason(wait.what, tuple(rank for rank in wait.ranks if rank != worker.rank))


def _first_wait(worker: Worker, graph: PhysicalGraph) -> WaitReason:
    open_tasks = [task for task in worker.tasks if not task.finished]
    if not open_tasks:
        return _of_the_end(worker, graph)
    task = min(open_tasks, key=lambda task: task.next_round)
    number = task.next_round
    for edge in task.inputs:
        if not edge.has_round(number):
            return WaitReason(f"round {number} of {edge.name}", _behind(edge, graph))
    for edge in task.outputs.edges:
        if not edge.may_start(number):
            return WaitReason(f"room for round {number} on {edge.name}", _behind(edge, graph))
    if isinstance(task, SourceTask) and not worker.gate.may_start(number):
        return WaitReason(f"the outcome of the control round before round {number}")
    return WaitReason(f"room on an edge, {task.where()}", _behind_on(task, graph))


def _of_the_end(worker: Worker, graph: PhysicalGraph) -> WaitReason:
    for edge in worker.edges:
        if not edge.finished:
            return WaitReason(f"the end of {edge.name}", _behind(edge, graph))
    return WaitReason("the outcome of a control round")


def _behind_on(task: Task, graph: PhysicalGraph) -> tuple[int, ...]:
    return tuple(sorted({rank for edge in task.outputs.edges for rank in _behind(edge, graph)}))


def _behind(edge: Edge, graph: PhysicalGraph) -> tuple[int, ...]:
    """Return the producers whose part is missing, as ranks of the job."""
    plan = next((plan for plan in graph.edges if plan.name == edge.name), None)
    return tuple(_members(plan)[index] for index in edge.behind) if plan else ()


def _members(plan: EdgePlan) -> list[int]:
    """Return the ranks of an edge in the order of its communicator."""
    assert plan.consumer is not None
    return sorted({*plan.producer.ranks, *plan.consumer.ranks})


def current_work(worker: Worker) -> str:
    """Return what the task in a step works on, else the task furthest behind."""
    if worker.at_work is not None:
        return worker.at_work.where()
    open_tasks = [task for task in worker.tasks if not task.finished]
    if not open_tasks:
        return "the end of the job"
    return min(open_tasks, key=lambda task: task.next_round).where()
