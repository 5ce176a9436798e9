"""Copies tasks into a pending checkpoint while rounds stand still."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from hpcstream.checkpoint.copy_buffers import CopyBuffers
from hpcstream.checkpoint.increments import SegmentMemory, copy_state
from hpcstream.checkpoint.pending import PendingCheckpoint
from hpcstream.operators.base import Operator
from hpcstream.operators.sink import SinkOperator


class CheckpointedTask(Protocol):
    """What a checkpoint asks of a task, between two of its rounds."""

    @property
    def number(self) -> int:
        """Its number in the plan."""

    @property
    def next_round(self) -> int:
        """The round that it has not closed."""

    @property
    def operators(self) -> Sequence[Operator]:
        """Its operators, whose tables are copied."""

    def begin_snapshot(self, round_number: int) -> bool:
        """Return whether everything before a round is in the state, and nothing of the round."""

    def has_caught_up(self) -> bool:
        """Return whether operators that hold rows back know how far time has gone."""

    def snapshot(self) -> dict[str, Any]:
        """Return its progress as JSON; a source's under ``"source"``."""

    def commit_notice(self) -> Callable[[], None] | None:
        """Return what to call once the checkpoint taken now is complete; None: nothing."""


def operator_path(task: int, index: int) -> str:
    """Return the section of an operator's state: its task, and its index in the chain."""
    return f"{task}/{index}"


class StateCopier:
    """Copies the state of tasks and asks their sinks for what is to become durable.

    Parameters
    ----------
    buffers : CopyBuffers
        Holds memory for the copies.
    segments : SegmentMemory
        Knows what need not be copied.
    sources : mapping of int to str
        Identity of each source by the number of its task.

    Attributes
    ----------
    longest_pause_s : float
        The longest that rounds stood still for one checkpoint.
    """

    def __init__(
        self, buffers: CopyBuffers, segments: SegmentMemory, sources: Mapping[int, str]
    ) -> None:
        self.longest_pause_s = 0.0
        self._buffers = buffers
        self._segments = segments
        self._sources = sources

    def copy(
        self, task: CheckpointedTask, checkpoint: PendingCheckpoint, *, is_alone: bool
    ) -> None:
        """Copy a task. ``is_alone``: the checkpoint refers to no file of an earlier one."""
        started_s, cpu_started_s = time.perf_counter(), time.thread_time()
        for operator in task.operators:
            if isinstance(operator, SinkOperator):
                checkpoint.durable[operator.number] = operator.sink.cut()
                checkpoint.positions[operator.number] = operator.sink.position()
        snapshot = task.snapshot()
        notice = task.commit_notice()
        if notice is not None:
            checkpoint.notices.append(notice)
        if "source" in snapshot:
            snapshot["source"]["id"] = self._sources[task.number]
        snapshot["tables"] = self._copy_operators(task, checkpoint, is_alone=is_alone)
        checkpoint.add_task(task.number, snapshot)
        checkpoint.add_pause(time.perf_counter() - started_s, time.thread_time() - cpu_started_s)
        self.longest_pause_s = max(self.longest_pause_s, checkpoint.pause_s)

    def _copy_operators(
        self, task: CheckpointedTask, checkpoint: PendingCheckpoint, *, is_alone: bool
    ) -> dict[str, Any]:
        """Copy the state of a task's operators; return where the segments of each are."""
        tables = {}
        for index, operator in enumerate(task.operators):
            path = operator_path(task.number, index)
            self._buffers.release(path)
            copied = copy_state(operator.tables(), {} if is_alone else self._segments.known(path))
            if copied.arrays:
                checkpoint.add_state(path, copied, self._segments.files_of(copied.tables))
                tables[str(index)] = [table.to_json() for table in copied.tables]
        return tables
