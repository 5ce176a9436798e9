"""Run one operator without a job: events in, rows out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

import pyarrow as pa

from hpcstream.columns.ownership import Ownership, owned_rows
from hpcstream.operators.base import Emitted, Operator, SideOutput, Turn
from hpcstream.state.table import Part

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


def run_dealt(
    make: Callable[[], Operator],
    events: Iterable[int | pa.RecordBatch],
    keys: Sequence[str],
    n_instances: Sequence[int],
) -> list[Row]:
    """Feed events to several instances of an operator, and deal its state anew after each.

    Each batch goes to the instances that own the keys of its rows, each watermark to all. After
    event *i* all instances are thrown away and their state is merged into
    ``n_instances[i % len(n_instances)]`` new ones. Rows come event by event; in one event those of
    each instance are together, so their order says nothing.

    Parameters
    ----------
    make : () -> Operator
    events : iterable of int or pa.RecordBatch
    keys : sequence of str
        Key columns of the batches.
    n_instances : sequence of int
    """
    operators, rows = [make()], []
    for number, event in enumerate(events):
        for instance, operator in enumerate(operators):
            share: Event = event
            if isinstance(event, pa.RecordBatch):
                own = owned_rows(event, keys, Ownership(instance, len(operators)))
                share = event.take(pa.array(own))
            rows += [row for part in _feed(operator, share) for row in _rows(part)]
        parts = [Part(is_local=False, arrays=one.snapshot()) for one in operators]
        operators = [make() for _ in range(n_instances[number % len(n_instances)])]
        for instance, operator in enumerate(operators):
            operator.merge(parts, Ownership(instance, len(operators)))
    return rows
