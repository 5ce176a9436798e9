"""Every rank must have built the same plan."""

from __future__ import annotations

import json
from itertools import zip_longest

from hpcstream.config import JobConfig
from hpcstream.errors import PlanError
from hpcstream.exchange.communicator import Communicator, Procedure, gather_bytes
from hpcstream.graph.identity import plan_structure
from hpcstream.graph.physical import PhysicalGraph


def agree_on_plan(graph: PhysicalGraph, config: JobConfig, comm: Communicator) -> Procedure[None]:
    """Raise `PlanError` on every rank if the ranks built different graphs. Collective."""
    structure = f"{plan_structure(graph)}\n{config.fingerprint()}"
    own = [structure, f"{graph.explain()}\n{config.fingerprint()}"]
    texts = yield from gather_bytes(comm, json.dumps(own).encode())
    first, *others = (json.loads(text) for text in texts)
    for rank, other in enumerate(others, 1):
        if other[0] != first[0]:
            shown = 0 if other[1] == first[1] else 1  # plans that look alike may still differ
            raise PlanError(_difference(rank, first[shown], other[shown]))


def _difference(rank: int, first: str, other: str) -> str:
    pairs = zip_longest(first.splitlines(), other.splitlines(), fillvalue="(nothing more)")
    here, there = next((a.strip(), b.strip()) for a, b in pairs if a != b)
    return (
        f"rank {rank} built another job than rank 0; first difference: rank 0 has {here!r}, "
        f"rank {rank} has {there!r}; every rank must build the same graph, whatever its number"
    )
