"""Nodes that call functions of the user: `Stream.map_batches` and `Stream.flat_map`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hpcstream.columns.types.given import SchemaLike, given_schema
from hpcstream.graph.logical import Node, OperatorNode
from hpcstream.operators.function_rows import FunctionTime
from hpcstream.operators.user_functions import FlatMap, FunctionSpec, MapBatches

_TAKES = {"map_batches": "a pyarrow.RecordBatch", "flat_map": "a row, given as a dict"}


def function_node(
    node: Node,
    ranks: tuple[int, ...] | None,
    kind: type[MapBatches] | type[FlatMap],
    function: Callable[[Any], Any],
    schema: SchemaLike | None,
) -> OperatorNode:
    """Return the node that calls a function for the rows of ``node``."""
    what = "map_batches" if kind is MapBatches else "flat_map"
    if not callable(function):
        raise TypeError(f"{what} takes a function of {_TAKES[what]}; got {function!r}")
    time = node.time
    own = None if time is None else FunctionTime(time.column, time.unit.name, time.shift)
    given = None if schema is None else given_schema(schema, f"{what}(schema=)")
    return OperatorNode.of(FunctionSpec(kind, function, given, own), node, ranks=ranks)
