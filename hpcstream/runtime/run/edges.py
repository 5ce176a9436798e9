"""From edges of a physical graph to this rank's edges. Collective."""

from __future__ import annotations

from hpcstream.config import JobConfig
from hpcstream.exchange.communicator import Communicator
from hpcstream.exchange.edges.base import Edge, LocalEdge
from hpcstream.exchange.edges.calls import EdgeGroup, EdgeMemory
from hpcstream.exchange.edges.collective import CollectiveEdge, EdgeLimits
from hpcstream.exchange.edges.reduce import ReduceEdge
from hpcstream.exchange.shared_messages import Nearby
from hpcstream.graph.physical import EdgePlan, PhysicalGraph
from hpcstream.memory.pool import process_pool


def make_edges(
    graph: PhysicalGraph, config: JobConfig, comm: Communicator, nearby: Nearby | None
) -> dict[int, Edge]:
    """Return the edges that this rank takes part in, by number. Collective."""
    edges = {}
    for plan in graph.edges:
        edge = _edge(plan, config, comm, nearby)
        if edge is not None:
            edges[plan.number] = edge
    return edges


def _edge(
    plan: EdgePlan, config: JobConfig, comm: Communicator, nearby: Nearby | None
) -> Edge | None:
    assert plan.consumer is not None
    producers, consumers = plan.producer.ranks, plan.consumer.ranks
    members = tuple(sorted({*producers, *consumers}))
    capacity = config.rounds_in_flight * plan.span
    if plan.is_local or len(members) == 1:
        return LocalEdge(plan.name, capacity) if comm.rank in members else None
    headers = comm.subset(members)
    if headers is None:
        return None
    if plan.reduction is not None:
        return ReduceEdge(plan.name, headers, plan.schema, plan.reduction, capacity)
    group = EdgeGroup(
        tuple(members.index(r) for r in producers), tuple(members.index(r) for r in consumers)
    )
    assert plan.partitioning is not None
    return CollectiveEdge(
        plan.name,
        headers,
        _payloads(headers, group),
        group=group,
        schema=plan.schema,
        partitioning=plan.partitioning,
        limits=EdgeLimits(capacity, config.step_bytes, config.receive_bytes),
        memory=EdgeMemory(process_pool(), nearby and nearby.within(members)),
    )


def _payloads(headers: Communicator, group: EdgeGroup) -> Communicator:
    """Return the payload communicator: between rank groups, of neighbours only."""
    everyone = tuple(range(headers.size))
    if group.producers == everyone and group.consumers == everyone:
        return headers.duplicate()
    near = set()
    if headers.rank in group.producers:
        near |= set(group.consumers)
    if headers.rank in group.consumers:
        near |= set(group.producers)
    return headers.neighborhood(sorted(near))
