"""Names by which a checkpoint finds the state of operators again, in a later plan too.

A name is what the user gave with ``.named("x")``, else the operator's own description;
equal ones are counted. So a plan may change around an operator without losing its
state, and an operator that does something else does not get it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from hpcstream.graph.physical import PhysicalGraph

LOCAL, FINAL, WHOLE = "local", "final", ""
"""Roles: the two stages of an aggregate, and an operator that is all there is."""


@dataclass(frozen=True)
class OperatorIdentity:
    """Where an operator is in the plan, and what it is called.

    Attributes
    ----------
    task, place : int
    id : str
    role : str
        `LOCAL`, `FINAL` or `WHOLE`; those of one id share a state.
    signature : str
        What it does, and what its state is made of: only an equal one can take it over.
    ranks : tuple of int
    """

    task: int
    place: int
    id: str
    role: str
    signature: str
    ranks: tuple[int, ...]


def operator_identities(graph: PhysicalGraph) -> list[OperatorIdentity]:
    """Return the identity of every operator, in the order of the plan."""
    counts: dict[tuple[str, str], int] = {}
    found = []
    for task in graph.tasks:
        for place, operator in enumerate(task.operators):
            role, text = _role(operator.label)
            name = text
            if operator.name is not None:
                name = f"{operator.name}: {text.split(maxsplit=1)[0]}"
            signature = f"{text} [{operator.state}]" if operator.state else text
            number = counts[name, role] = counts.get((name, role), 0) + 1
            if number > 1:
                name = f"{name} #{number}"
            found.append(OperatorIdentity(task.number, place, name, role, signature, task.ranks))
    return found


def source_identities(graph: PhysicalGraph) -> dict[int, str]:
    """Return the name of each source, by the number of its task."""
    counts: dict[str, int] = {}
    found = {}
    for task in graph.tasks:
        if task.source is None:
            continue
        name = task.source.name or task.source.origin or task.source.source.describe()
        number = counts[name] = counts.get(name, 0) + 1
        found[task.number] = name if number == 1 else f"{name} #{number}"
    return found


def source_origins(graph: PhysicalGraph) -> dict[int, str]:
    """Return what each source reads, by the number of its task."""
    sources = {task.number: task.source for task in graph.tasks}
    return {n: s.origin or s.source.describe() for n, s in sources.items() if s is not None}


def plan_fingerprint(graph: PhysicalGraph) -> str:
    """Return a digest of the plan: equal ones, on as many ranks, run the same rounds."""
    signatures = [f"{one.id} {one.signature}" for one in operator_identities(graph)]
    return hashlib.sha256("\n".join([graph.explain(), *signatures]).encode()).hexdigest()


def _role(label: str) -> tuple[str, str]:
    for role in (LOCAL, FINAL):
        if label.startswith(f"{role} "):
            return role, label.removeprefix(f"{role} ")
    return WHOLE, label
