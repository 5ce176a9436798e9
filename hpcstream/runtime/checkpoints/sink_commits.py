"""Makes the parts of sinks visible once a checkpoint that lists them is complete."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from hpcstream.checkpoint.pending import CheckpointRun, PendingCheckpoint, Written
from hpcstream.checkpoint.reports import Report, parts_of
from hpcstream.checkpoint.storage.background import Outcome, Writer
from hpcstream.connectors.base import OutputPart
from hpcstream.exchange.communicator import Procedure
from hpcstream.operators.sink import SinkOperator

_T = TypeVar("_T")


class SinkCommits:
    """Commits the sinks of one rank.

    Parameters
    ----------
    sinks : mapping of int to SinkOperator
        By number.
    run : CheckpointRun
        Commits nothing once a newer attempt has begun.
    writer : Writer
        Runs commits that take long.

    Attributes
    ----------
    carried : dict of int to list of OutputPart
        Parts of each sink that are durable but not committed, since their checkpoint failed.
    """

    def __init__(
        self, sinks: Mapping[int, SinkOperator], run: CheckpointRun, writer: Writer
    ) -> None:
        self.carried: dict[int, list[OutputPart]] = {}
        self._sinks = dict(sinks)
        self._run = run
        self._writer = writer

    def prepare_last(self, checkpoint: PendingCheckpoint) -> None:
        """Add what the sinks have left to the last checkpoint of a job."""
        for number, operator in self._sinks.items():
            parts = list(operator.sink.prepare())
            checkpoint.durable[number] = _joined(checkpoint.durable[number], parts)
            checkpoint.positions[number] = operator.sink.position()

    def carry(self, written: Written) -> None:
        """Keep the parts of a failed checkpoint for the next one."""
        for number, parts in written.parts.items():
            self.carried.setdefault(number, []).extend(parts)

    def commit(self, reports: Sequence[Report]) -> Procedure[None]:
        """Make the parts that all ranks report visible: this rank's share."""
        self.carried = {}
        in_background: list[tuple[SinkOperator, list[OutputPart]]] = []
        for number, operator in self._sinks.items():
            parts = parts_of(number, reports)
            if operator.sink.commits_in_background:
                in_background.append((operator, parts))
            else:
                self._run.store.check_attempt(self._run.attempt)
                operator.sink.commit(parts)

        def commit() -> None:
            self._run.store.check_attempt(self._run.attempt)
            for operator, parts in in_background:
                operator.sink.commit(parts)

        if in_background:
            yield from result_of(self._writer.submit(commit))


def _joined(
    before: Callable[[], Sequence[OutputPart]], parts: list[OutputPart]
) -> Callable[[], Sequence[OutputPart]]:
    return lambda: [*before(), *parts]


def result_of(outcome: Outcome[_T]) -> Procedure[_T]:
    """Wait for work in the background; return its result, or raise its error."""
    while not outcome.done:
        yield
    return outcome.result()
