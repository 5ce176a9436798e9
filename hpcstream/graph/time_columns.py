"""Finds the int64 columns of a stream that are points in time, and their units.

The type does not distinguish them from numbers. They are known from the event time of
sources and from the bounds of windows; the result of an expression is a number.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from hpcstream.graph.logical import Node, OperatorNode, SideNode, walk


def time_columns(node: Node) -> dict[str, str]:
    """Return the unit of each int64 column that holds points in time."""
    found: dict[int, dict[str, str]] = {}
    for upstream in walk([node]):
        schema = upstream.schema
        found[id(upstream)] = {
            name: unit
            for name, unit in _of_node(upstream, found).items()
            if name in schema.names and pa.types.is_int64(schema.field(name).type)
        }
    return found[id(node)]


def _of_node(node: Node, found: Mapping[int, dict[str, str]]) -> dict[str, str]:
    if isinstance(node, SideNode):
        return found[id(node.inputs[0].inputs[0])]
    before = [found[id(source)] for source in node.inputs]
    if isinstance(node, OperatorNode):
        return {**node.spec.time_units(before), **_own(node)}
    return before[0] if before else _own(node)


def _own(node: Node) -> dict[str, str]:
    """Return the unit of the node's event-time column, by its name."""
    if node.time is None or node.time.column is None:
        return {}
    if node.time.column not in node.schema.names:
        return {}
    return {node.time.column: node.time.unit.name}
