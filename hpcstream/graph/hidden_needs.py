"""Determines which nodes must emit event time, and the order of rows of equal event time."""

from __future__ import annotations

from hpcstream.graph.logical import LogicalGraph, Node, SideNode


class HiddenNeeds:
    """The nodes whose consumers need an event time or an order of rows.

    If an operator sets the event time or the order of its output, its consumers do not need
    those of its input: see `hpcstream.operators.spec.Traits`.
    """

    def __init__(self, graph: LogicalGraph) -> None:
        self._time: set[int] = set()
        self._order: set[int] = set()
        for node in reversed(graph.nodes()):
            self._note(node)

    def has_time(self, node: Node) -> bool:
        """Return whether consumers need the event time of a node's rows."""
        return id(node) in self._time

    def has_order(self, node: Node) -> bool:
        """Return whether consumers need the order of a node's rows."""
        return id(node) in self._order

    def _note(self, node: Node) -> None:
        traits = node.traits
        # Rows of a side output are unchanged input rows of the operator.
        inputs = node.inputs[0].inputs[:1] if isinstance(node, SideNode) else node.inputs
        for source in inputs:
            if traits.needs_time or (self.has_time(node) and not traits.sets_time):
                self._time.add(id(source))
            if traits.needs_order or (self.has_order(node) and not traits.sets_order):
                self._order.add(id(source))
