"""Run one operator without a job: events in, rows out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import pyarrow as pa

from hpcstream.operators.base import Emitted, Operator, SideOutput, Turn

Event: TypeAlias = int | pa.RecordBatch | tuple[int, pa.RecordBatch]
"""A watermark, a batch for input 0, or an input and a batch for it."""

Row = dict[str, Any]


def run_operator(
    make: Callable[[], Operator], events: Iterable[Event], *, restart: bool = False
) -> list[Row]:
    """Feed batches and watermarks to a new operator and return the rows it emits.

    Rows of its main output come as dictionaries; those of a side output have
    its name under ``"side output"`` besides. A `PAUSE` or `WAIT` is passed over: the operator
    is asked again at once.

    Parameters
    ----------
    make : () -> Operator
    events : iterable of int, pa.RecordBatch or (int, pa.RecordBatch)
        Watermarks, batches for input 0, and batches for other inputs.
    restart : bool
        Throw the operator away after every event and restore a new one from its
        snapshot: the rows must come out the same.
    """
    return [row for rows in run_events(make, list(events), restart=restart) for row in rows]


def run_events(
    make: Callable[[], Operator], events: Sequence[Event], *, restart: bool = False
) -> list[list[Row]]:
    """Do the same, with the rows of each event apart."""
    operator = make()
    rows_of_events = []
    for event in events:
        rows_of_events.append([row for part in _feed(operator, event) for row in _rows(part)])
        if restart:
            snapshot = {name: array.copy() for name, array in operator.snapshot().items()}
            operator = make()
            operator.restore(snapshot)
    return rows_of_events


def _feed(operator: Operator, event: Event) -> Iterable[Emitted]:
    if isinstance(event, int):
        return operator.process_watermark(event)
    if isinstance(event, tuple):
        input_index, batch = event
        return operator.process_batch(batch, input_index)
    return operator.process_batch(event)


def _rows(emitted: Emitted) -> list[Row]:
    if isinstance(emitted, SideOutput):
        return [{"side output": emitted.name, **row} for row in _rows(emitted.batch)]
    if isinstance(emitted, Turn):
        return []
    rows: list[Row] = emitted.to_pylist()
    return rows
