"""Which integer columns of a stream are points in time, and what they count.

Types do not tell: an int64 column of event time is a number like others. It is known where
event time is named, and where windows are made of it; what computes with it makes a number.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

from hpcstream.graph.logical import (
    LateNode,
    Node,
    OperatorNode,
    ProjectNode,
    SourceNode,
    UnionNode,
    WindowNode,
    walk,
)

"""Aggregates whose result is one of the values."""


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
    before = [found[id(one)] for one in node.inputs]
    if isinstance(node, SourceNode):
        return _own(node)
    if isinstance(node, ProjectNode):
        same = {name: next(iter(e.columns())) for name, e in node.columns if e.is_column}
        return {name: before[0][old] for name, old in same.items() if old in before[0]}
    if isinstance(node, WindowNode):
        return _of_windows(node, before[0])
    if isinstance(node, LateNode):
        return found[id(node.inputs[0].inputs[0])]
    if isinstance(node, UnionNode):
        return {n: u for n, u in before[0].items() if all(one.get(n) == u for one in before)}
    if isinstance(node, OperatorNode):
        return {**(before[0] if node.passes_columns else {}), **_own(node)}
    return before[0]  # a table's columns that are joined to it have other names


def _own(node: Node) -> dict[str, str]:
    """Return the column that a node takes event time from, or says that it is."""
    if node.time is None or node.time.column is None:
        return {}
    if node.time.column not in node.schema.names:
        return {}
    return {node.time.column: node.time.unit.name}


def _of_windows(node: WindowNode, before: dict[str, str]) -> dict[str, str]:
    found = {name: before[name] for name in node.keys if name in before}
    found |= dict.fromkeys(("window_start", "window_end"), node.unit)
    for call in node.aggregates:
        if call.aggregate.returns_input and call.inputs[0].is_column:
            (column,) = call.inputs[0].columns()
            if column in before:
                found[call.name] = before[column]
    return found
