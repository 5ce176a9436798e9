"""What the inputs of a union have in common."""

from __future__ import annotations

from hpcstream.errors import PlanError
from hpcstream.graph.logical import Node


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
