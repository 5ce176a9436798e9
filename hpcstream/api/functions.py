"""Functions of the user as nodes: `Stream.map_batches` and `Stream.flat_map`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa

from hpcstream.columns.event_time import HIDDEN_COLUMNS, TIME_COLUMN
from hpcstream.graph.logical import Node, OperatorNode
from hpcstream.operators.function_rows import FunctionTime
from hpcstream.operators.user_functions import FlatMap, MapBatches
from hpcstream.stable_keys import function_name

_TAKES = {"map_batches": "a pyarrow.RecordBatch", "flat_map": "a row, given as a dict"}


def function_node(
    node: Node,
    ranks: tuple[int, ...] | None,
    kind: type[MapBatches] | type[FlatMap],
    function: Callable[[Any], Any],
    schema: pa.Schema | None,
) -> OperatorNode:
    """Return the node that calls a function for the rows of ``node``."""
    what = "map_batches" if kind is MapBatches else "flat_map"
    if not callable(function):
        raise TypeError(f"{what} takes a function of {_TAKES[what]}; got {function!r}")
    time = node.time
    own = None if time is None else FunctionTime(time.column, time.unit.name, time.shift)
    given = node.schema if time is None else node.schema.append(pa.field(TIME_COLUMN, pa.int64()))
    operator = kind(function, schema, own)
    found = operator.output_schema(given)
    kept = time if TIME_COLUMN in found.names else None
    return OperatorNode(
        inputs=(node,),
        schema=pa.schema([f for f in found if f.name not in HIDDEN_COLUMNS]),
        time=None if kept is None else replace(kept, column=operator.time_column(given)),
        ranks=ranks,
        make=lambda schema_here: kind(function, schema, own),
        operator=what,
        label=f"{what} {function_name(function)}",
        fields=(function_name(function),),
    )
