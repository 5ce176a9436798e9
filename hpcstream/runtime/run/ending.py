"""Commits or takes back what the sinks of a job wrote, after its last round. Collective."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from hpcstream.checkpoint.storage.directory import CHECKPOINT, SAVEPOINT
from hpcstream.exchange.agree import raise_together
from hpcstream.exchange.communicator import Communicator, Procedure, gather_bytes
from hpcstream.operators.sink import SinkOperator
from hpcstream.runtime.checkpoints.schedule import STOP_AFTER_SAVEPOINT
from hpcstream.runtime.run.context import RunStart
from hpcstream.runtime.run.output_claims import take_back
from hpcstream.runtime.run.parts import RankParts, suppress_and_warn


def end_run(parts: RankParts, start: RunStart, comm: Communicator) -> Procedure[None]:
    """Commit what the job wrote: all of it, or up to where it stopped. Collective."""
    stop = parts.worker.control.outcome.stop
    if parts.checkpoints is not None:
        kind = SAVEPOINT if stop == STOP_AFTER_SAVEPOINT else CHECKPOINT
        error = None
        try:
            yield from parts.checkpoints.finish(kind=kind, is_last=not stop)
        except Exception as failure:
            error = failure
        yield from raise_together(error, comm)
    elif start.directory is None and not stop:
        yield from _commit(parts.sinks, start.check_outputs, comm)
    if stop:
        for operator in parts.sinks.values():
            operator.sink.abort()


def _commit(
    sinks: Mapping[int, SinkOperator], check_outputs: Callable[[], None], comm: Communicator
) -> Procedure[None]:
    """Make the parts of all sinks durable on all ranks; then, and only then, visible."""
    prepared: dict[int, list[Any]] = {}
    text = ""
    error: BaseException | None = None
    try:
        for number, operator in sorted(sinks.items()):
            prepared[number] = list(operator.sink.prepare())
        text = json.dumps(prepared)
        check_outputs()
    except BaseException as failure:
        error = failure
    yield from raise_together(error, comm)
    texts = yield from gather_bytes(comm, text.encode())
    ranks = [json.loads(text) for text in texts]
    try:
        for number, operator in sorted(sinks.items()):
            operator.sink.commit([part for rank in ranks for part in rank.get(str(number), [])])
    except BaseException as failure:
        error = failure
    yield from raise_together(error, comm)


def take_back_all(parts: RankParts, start: RunStart) -> None:
    """Remove what the sinks of a failed run wrote, unless a checkpoint may list it."""
    for operator in parts.sinks.values():
        with suppress_and_warn("taking back what a sink had written"):
            if start.directory is None:
                operator.sink.abort()
            else:
                run = start.directory.run
                take_back([operator], run.store, run.attempt)
