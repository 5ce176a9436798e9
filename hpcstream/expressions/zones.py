"""Finds naive times in expressions that are compared with columns with a time zone."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

import pyarrow as pa

from hpcstream.expressions.expression import Expression
from hpcstream.expressions.nodes import Call, Literal, Node, render, walk

_COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")


def moments_taken_as_local(expression: Expression, schema: pa.Schema) -> Iterator[str]:
    """Yield a warning for each constant that is read as local time of a column's zone."""
    for node in walk(expression._node):
        if not (isinstance(node, Call) and node.function in _COMPARISONS):
            continue
        for moment, other in (node.arguments, node.arguments[::-1]):
            zone = _zone_of(other, schema)
            if zone is not None and isinstance(moment, Literal) and _is_naive(moment.scalar):
                yield (
                    f"{moment.text} has no time zone, {render(other)} has: it is taken as a time "
                    f"in {zone}; write it with a zone, as in '2001-01-31T12:00+00:00'"
                )


def _zone_of(node: Node, schema: pa.Schema) -> str | None:
    if isinstance(node, Literal):
        return None
    zone: str | None = getattr(Expression(node).data_type(schema), "tz", None)
    return zone


def _is_naive(scalar: pa.Scalar) -> bool:
    if pa.types.is_string(scalar.type):
        return dt.datetime.fromisoformat(scalar.as_py()).tzinfo is None
    if pa.types.is_timestamp(scalar.type):
        return scalar.type.tz is None
    return bool(pa.types.is_date(scalar.type))
