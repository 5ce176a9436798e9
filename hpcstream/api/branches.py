"""Checks of `Stream.union`, and the split of a stream into rows and dead letters."""

from __future__ import annotations

from typing import TypeVar

from hpcstream.api.row_transforms import RowTransforms
from hpcstream.connectors.dead_letters import DEAD_LETTER_FIELDS, ERROR
from hpcstream.errors import PlanError
from hpcstream.expressions.expression import col
from hpcstream.graph.logical import Node

_S = TypeVar("_S", bound=RowTransforms)


def check_same_rows(first: Node, other: Node, number: int) -> None:
    """Raise `PlanError` unless input ``number`` has the columns and the unit of the first."""
    if first.schema != other.schema:
        for a, b in zip(first.schema, other.schema, strict=False):
            if a != b:
                raise PlanError(
                    f"union: input {number} has column {b.name!r} of type {b.type} where the "
                    f"first has {a.name!r} of type {a.type}; select() and cast() them alike"
                )
        raise PlanError(
            f"union: input {number} has columns {other.schema.names}, the first has "
            f"{first.schema.names}; select() the same from both"
        )
    units = [None if n.time is None else n.time.unit.name for n in (first, other)]
    if units[0] != units[1]:
        raise PlanError(
            f"union: input {number} has event time in {units[1]}, the first in {units[0]}; "
            "give both one unit with with_event_time()"
        )


def split_dead_letters(stream: _S) -> tuple[_S, _S]:
    """Separate the rows of a source with ``bad="keep"`` from its dead letters.

    Parameters
    ----------
    stream : Stream
        From a source that decodes with `MessageRows`, without event time: add that to the
        returned rows, with ``rows.with_event_time(...)``.

    Returns
    -------
    rows : Stream
        Decoded messages, in the columns of the decoder.
    dead_letters : Stream
        The other messages: ``dead_error``, ``dead_payload``, ``dead_split``, ``dead_position``.

    Raises
    ------
    PlanError
        The stream has no dead letters.
    """
    names = [field.name for field in DEAD_LETTER_FIELDS]
    missing = [name for name in names if name not in stream.schema.names]
    if missing:
        raise PlanError(
            f"split_dead_letters: the stream has no column {missing[0]!r}; a source has it whose "
            "rows are made by MessageRows(decoder, bad='keep')"
        )
    columns = [name for name in stream.schema.names if name not in names]
    rows = stream.filter(col(ERROR).is_null()).select(*columns)
    return rows, stream.filter(col(ERROR).is_not_null()).select(*names)
