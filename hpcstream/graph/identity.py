"""Names by which a checkpoint finds the state of operators again, in a later plan too.

A name is what the user gave with ``.named("x")``, else the operator's own description;
equal ones are counted. So a plan may change around an operator without losing its
state, and an operator that does something else does not get it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from hpcstream.connectors.files.source import FileSource
from hpcstream.graph.logical import SourceNode
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
            role, text = _role(operator.identity or operator.label)
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
    """Return the name of each source, by the number of its task.

    That of files without a name has their paths, links followed: it is the same for all
    spellings.
    """
    counts: dict[str, int] = {}
    found = {}
    for task in graph.tasks:
        if task.source is None:
            continue
        name = task.source.name or _what(task.source, with_paths=True)
        number = counts[name] = counts.get(name, 0) + 1
        found[task.number] = name if number == 1 else f"{name} #{number}"
    return found


def source_origins(graph: PhysicalGraph) -> dict[int, str]:
    """Return what each source reads, by the number of its task; of files only how.

    Whether the files are the same is looked at in the files.
    """
    sources = {task.number: task.source for task in graph.tasks}
    return {n: _what(s, with_paths=False) for n, s in sources.items() if s is not None}


def _what(node: SourceNode, *, with_paths: bool) -> str:
    source = node.source
    if isinstance(source, FileSource):
        return source.real_call if with_paths else source.kind
    return node.origin or source.describe()


def plan_fingerprint(graph: PhysicalGraph) -> str:
    """Return a digest of the plan: equal ones, on as many ranks, run the same rounds.

    Where files are does not count, as long as it is clear which source is which.
    """
    text = graph.explain()
    origins = source_origins(graph)
    names = source_identities(graph)
    kinds = list(origins.values())
    for task in graph.tasks:
        source = task.source and task.source.source
        if isinstance(source, FileSource):
            is_alone = kinds.count(source.kind) == 1
            text = text.replace(source.call, source.kind if is_alone else names[task.number])
        for operator in task.operators:
            if operator.identity:
                text = text.replace(operator.label, operator.identity)
    signatures = [f"{one.id} {one.signature}" for one in operator_identities(graph)]
    return hashlib.sha256("\n".join([text, *signatures]).encode()).hexdigest()


def _role(label: str) -> tuple[str, str]:
    for role in (LOCAL, FINAL):
        if label.startswith(f"{role} "):
            return role, label.removeprefix(f"{role} ")
    return WHOLE, label
