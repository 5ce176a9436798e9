"""Which integer columns of a stream are points in time, and what they count.

Types do not tell: an int64 column of event time is a number like others. It is known where
event time is named, and where windows are made of it; what computes with it makes a number.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from hpcstream.graph.logical import Node, OperatorNode, SideNode, walk


def time_columns(node: Node) -> dict[str, str]:
    """Return the unit of each int64 column that holds points in time."""
    found: dict[int, dict[str, str]] = {}
    for one in walk([node]):
        found[id(one)] = {
            name: unit
            for name, unit in _of_node(one, found).items()
            if name in one.schema.names and pa.types.is_int64(one.schema.field(name).type)
        }
    return found[id(node)]


def _of_node(node: Node, found: Mapping[int, dict[str, str]]) -> dict[str, str]:
    if isinstance(node, SideNode):
        return found[id(node.inputs[0].inputs[0])]
    before = [found[id(one)] for one in node.inputs]
    if isinstance(node, OperatorNode):
        return {**node.spec.time_units(before), **_own(node)}
    return before[0] if before else _own(node)


def _own(node: Node) -> dict[str, str]:
    """Return the column that a node takes event time from, or says that it is."""
    if node.time is None or node.time.column is None:
        return {}
    if node.time.column not in node.schema.names:
        return {}
    return {node.time.column: node.time.unit.name}
