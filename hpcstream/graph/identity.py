"""Identities of operators, by which a checkpoint finds their state, also in a changed plan.

The identity is the user's name, as in ``.named("x")``, or else kind and key of the operator;
equal identities are numbered. So a plan may change around an operator without losing its
state, and an operator that computes something else does not get it. Labels and
descriptions are no part of an identity and may change.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import islice

from hpcstream.connectors.files.source import FileSource
from hpcstream.graph.logical import SourceNode
from hpcstream.graph.physical import EdgePlan, OperatorPlan, PhysicalGraph, TaskPlan
from hpcstream.stable_keys import Key, key_text, schema_key


@dataclass(frozen=True)
class OperatorIdentity:
    """The position of an operator in the plan, and its identity.

    Attributes
    ----------
    task, index : int
        Number of the task, and index of the operator in its chain.
    id : str
    role : str
        `LOCAL`, `FINAL` or `WHOLE`; operators of one id share a state.
    signature : str
        Its function and the layout of its state: only an operator with the same can restore it.
    label : str
        Description for messages; no part of its identity.
    ranks : tuple of int
    """

    task: int
    index: int
    id: str
    role: str
    signature: str
    label: str
    ranks: tuple[int, ...]


def operator_identities(graph: PhysicalGraph) -> list[OperatorIdentity]:
    """Return the identity of every operator, in the order of the plan."""
    counts: dict[tuple[str, str], int] = {}
    found = []
    for task in graph.tasks:
        for index, operator in enumerate(task.operators):
            text = f"{operator.kind} {key_text(operator.key)}"
            name = text if operator.name is None else f"{operator.name}: {operator.kind}"
            signature = text if operator.state is None else f"{text} {key_text(operator.state)}"
            number = counts[name, operator.role] = counts.get((name, operator.role), 0) + 1
            if number > 1:
                name = f"{name} #{number}"
            found.append(
                OperatorIdentity(
                    task.number, index, name, operator.role, signature, _label(operator), task.ranks
                )
            )
    return found


def _label(operator: OperatorPlan) -> str:
    label = operator.label if operator.name is None else f"{operator.name}: {operator.label}"
    return f"{label} [{operator.state_text}]" if operator.state_text else label


def source_identities(graph: PhysicalGraph) -> dict[int, str]:
    """Return the name of each source, by the number of its task.

    For files without a name it consists of their paths with links resolved, so it does not
    depend on how the paths are written.
    """
    counts: dict[str, int] = {}
    found = {}
    for task in graph.tasks:
        if task.source is None:
            continue
        name = task.source.name or task.source.identity
        number = counts[name] = counts.get(name, 0) + 1
        found[task.number] = name if number == 1 else f"{name} #{number}"
    return found


def source_origins(graph: PhysicalGraph) -> dict[int, str]:
    """Return what each source reads, by the number of its task; for files only the format.

    Whether files are the same is determined from the files themselves.
    """
    sources = {task.number: task.source for task in graph.tasks}
    return {number: _origin(node) for number, node in sources.items() if node is not None}


def _origin(node: SourceNode) -> str:
    return node.source.kind if isinstance(node.source, FileSource) else node.identity


def plan_fingerprint(graph: PhysicalGraph) -> str:
    """Return a digest of the plan: equal plans run the same rounds on the same number of ranks.

    Paths of files are ignored as long as sources can be distinguished without them.
    """
    origins = source_origins(graph)
    kinds = list(origins.values())
    names = {
        task: origins[task] if kinds.count(origins[task]) == 1 else name
        for task, name in source_identities(graph).items()
    }
    return hashlib.sha256(_structure(graph, names).encode()).hexdigest()


def plan_structure(graph: PhysicalGraph) -> str:
    """Return the plan as text for comparison, one line per source, operator and edge."""
    return _structure(graph, source_identities(graph))


def _structure(graph: PhysicalGraph, source_names: dict[int, str]) -> str:
    identities = iter(operator_identities(graph))
    lines = [f"{graph.size} ranks"]
    for task in graph.tasks:
        lines.append(f"task {task.number} {task.ranks}")
        if task.source is not None:
            key = key_text(_source_key(task, task.source))
            lines.append(f"source {source_names[task.number]} {key}")
        own = islice(identities, len(task.operators))
        lines += [
            f"operator {identity.role} {identity.id} {identity.signature}" for identity in own
        ]
        needed = [each.environment for each in task.operators if each.environment is not None]
        lines += [f"environment {key_text(each)}" for each in needed]
        lines += [f"edge {key_text(_edge_key(edge))}" for edge in task.outputs]
    return "\n".join(lines)


def _source_key(task: TaskPlan, node: SourceNode) -> list[Key]:
    time = node.time
    clock = None if time is None else [time.column, time.unit.name, str(time.data_type)]
    filters = [predicate.key() for predicate in node.filters]
    idle = node.idle_timeout_s
    return [schema_key(node.schema), clock, node.watermark_delay, idle, filters, task.has_order]


def _edge_key(edge: EdgePlan) -> Key:
    assert edge.consumer is not None
    how = None if edge.partitioning is None else edge.partitioning.key()
    reduced = None if edge.reduction is None else sorted(edge.reduction)
    ends: list[Key] = [*edge.output, edge.consumer.number, edge.input_index]
    return [*ends, how, reduced, schema_key(edge.schema)]
