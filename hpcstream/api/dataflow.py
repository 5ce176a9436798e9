"""The state that a job and its streams share: the sinks, and the result of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hpcstream.graph.logical import SinkNode
from hpcstream.launch import exit_hooks

if TYPE_CHECKING:
    from hpcstream.observability.result import JobResult


class Dataflow:
    """The graph of a job, reached from the sinks of its streams.

    Attributes
    ----------
    name : str
    has_begun : bool
        Whether a run has begun.
    last_result : JobResult or None
        The result of the last run.
    """

    def __init__(self, name: str) -> None:
        exit_hooks.install()
        self.name = name
        self.has_begun = False
        self.last_result: JobResult | None = None
        self._sinks: list[SinkNode] = []
        self._reminder = exit_hooks.Reminder(name)

    def _add_sink(self, node: SinkNode) -> None:
        self._sinks.append(node)
        self._reminder.set()
