"""Behind which nodes event time is read, and the order of rows of equal event time."""

from __future__ import annotations

from hpcstream.graph.logical import LogicalGraph, Node, SideNode


class HiddenNeeds:
    """Of which nodes the rows need an event time or an order, for what follows.

    An operator may give its results an event time or an order of their own, so that what
    follows it needs neither of its input: see `hpcstream.operators.spec.Traits`.
    """

    def __init__(self, graph: LogicalGraph) -> None:
        self._time: set[int] = set()
        self._order: set[int] = set()
        for node in reversed(graph.nodes()):
            self._note(node)

    def has_time(self, node: Node) -> bool:
        """Whether the event time of a node's rows is read."""
        return id(node) in self._time

    def has_order(self, node: Node) -> bool:
        """Whether the order of a node's rows is read."""
        return id(node) in self._order

    def _note(self, node: Node) -> None:
        traits = node.traits
        # Rows of a side output are rows that went into the operator, as they were.
        inputs = node.inputs[0].inputs[:1] if isinstance(node, SideNode) else node.inputs
        for one in inputs:
            if traits.needs_time or (self.has_time(node) and not traits.sets_time):
                self._time.add(id(one))
            if traits.needs_order or (self.has_order(node) and not traits.sets_order):
                self._order.add(id(one))
