"""Checks of keys, windows and aggregates while a graph is built."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from hpcstream.aggregates.base import Aggregate, AggregateCall
from hpcstream.columns.arrays import can_be_key
from hpcstream.errors import PlanError
from hpcstream.graph.logical import Node, walk
from hpcstream.operators.stream_time import EventTime
from hpcstream.operators.windows.assigners.base import WindowAssigner

WINDOW_COLUMNS = ("window_start", "window_end")


def not_a_key(given: Any) -> str:
    """Return the error text for a key that is not a column name."""
    if isinstance(given, list | tuple):
        return f"key_by({given!r}): takes names one by one; write key_by(*{given!r})"
    return f"key_by({given!r}): takes column names; compute it with with_columns()"


def aggregate_named(name: str, call: Any) -> AggregateCall:
    """Return an aggregate under a name; raise `PlanError` for anything else."""
    if not isinstance(call, AggregateCall):
        given = f"{name}={call!r}" if name else repr(call)
        if isinstance(call, Aggregate):
            raise PlanError(f"agg({given}): call it with its inputs, as in {call!r}(hs.col('x'))")
        raise PlanError(f"agg({given}): expected an aggregate, as hs.count() or col('x').mean()")
    from hpcstream.aggregates.registry import check_name  # loads all families

    check_name(call.aggregate)
    return call.alias(name)


def check_window(keys: tuple[str, ...], window: str, assigner: WindowAssigner) -> None:
    """Raise `PlanError` for a window that only works with a key, if there is none."""
    if assigner.only_changed and not keys:
        raise PlanError(
            f"window_all({window}): only_changed=True needs a key: no rank knows alone whether the "
            "others got rows; use .key_by(...).window(...), or leave it out"
        )


def check_lateness(window: str, assigner: WindowAssigner) -> None:
    """Raise `PlanError` for windows that cannot fire again."""
    if assigner.merges:
        raise PlanError(
            f"allowed_lateness() of {window}: a late row may join two sessions whose results are "
            "out already; give the source a larger watermark_delay instead"
        )


def check_result_names(keys: tuple[str, ...], names: list[str]) -> None:
    """Raise `PlanError` if two columns of the result have one name."""
    taken = sorted(set(keys) & set(WINDOW_COLUMNS))
    if taken:
        raise PlanError(
            f"key_by({taken[0]!r}): the result has a column of this name already; rename the key "
            f"first, as in .rename({taken[0]}='previous_{taken[0]}')"
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PlanError(
            f"agg: two output columns are named {twice[0]!r}; give the aggregate another name, as "
            "in agg(other=...)"
        )


def time_of(node: Node, what: str = "windows need") -> EventTime:
    """Return the event time of a node; raise `PlanError` if it has none: ``what`` needs it."""
    time = node.time
    if time is None:
        raise PlanError(
            f"{what} event time, and this stream has none{_lost(node)}; name its "
            "column where the stream is read (event_time=...), or with with_event_time()"
        )
    return time


def _lost(node: Node) -> str:
    """Return the function that dropped the event time, if one did."""
    for upstream in reversed(list(walk([node]))):
        before = upstream.inputs[0].time if upstream.inputs else None
        if before is not None and upstream.time is None:
            return f" ({upstream.describe()} does not return {before.column!r}, which held it)"
    return ""


def decoded(data_type: pa.DataType) -> pa.DataType:
    """Return the type of the values of a dictionary, or the type itself."""
    return data_type.value_type if pa.types.is_dictionary(data_type) else data_type


def check_key_type(name: str, data_type: pa.DataType) -> None:
    """Raise `PlanError` for a type that cannot be a key."""
    if not can_be_key(data_type):
        raise PlanError(
            f"key_by({name!r}): {data_type} cannot be a key; use an integer, boolean, string, "
            "binary, date, timestamp or decimal column, or cast it in with_columns()"
        )
