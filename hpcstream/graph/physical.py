"""The physical graph: tasks, the edges between them, and their ranks.

A *task* is a chain of operators that runs on a rank without an exchange; a source task
begins with a source. *Edges* connect tasks: rows on a local edge stay on their rank, other
edges distribute them over ranks by a partitioning.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from hpcstream.columns.event_time import RESERVED_PREFIXES, WORD_PREFIX
from hpcstream.columns.reduction import ColumnReduction
from hpcstream.exchange.partitioning import Partitioning
from hpcstream.graph.logical import SourceNode
from hpcstream.operators.base import Operator
from hpcstream.operators.spec import MAIN, OperatorContext, OperatorSpec
from hpcstream.operators.stream_time import EventClock
from hpcstream.stable_keys import Key

LOCAL, FINAL, WHOLE = "local", "final", ""
"""Roles: the two stages of an aggregate, and an operator with a single stage."""


@dataclass(frozen=True)
class OperatorPlan:
    """One operator of a chain.

    Attributes
    ----------
    kind : str
        With ``key``, the identity of its state in checkpoints.
    key : Key
        Distinguishes it from others of its kind.
    label : str
        Description for messages, without the role.
    make : callable
    name : str or None
        The user's name.
    role : str
        `LOCAL`, `FINAL` or `WHOLE`.
    state : Key
        Layout of its state as far as kind and key do not determine it, mostly types.
    state_text : str
        ``state`` as text for messages.
    retention : str
        Description of the state that it keeps and how long, for `explain`; empty: none.
    environment : Key
        What it depends on apart from its definition, such as time zone data: ranks with
        different environments do not start.
    clock : EventClock or None
        The operator generates a watermark.
    runs_user_code : bool
        The time per row is unbounded.
    reduces : bool
        The output is much smaller than the input.
    overlaps : bool
        A row contributes to several results.
    """

    kind: str
    key: Key
    label: str
    make: Callable[[], Operator]
    name: str | None = None
    role: str = WHOLE
    state: Key = None
    state_text: str = ""
    retention: str = ""
    environment: Key = None
    sink_number: int | None = None
    clock: EventClock | None = None
    runs_user_code: bool = False
    reduces: bool = False
    overlaps: bool = False

    @classmethod
    def of(cls, spec: OperatorSpec, make: Callable[[], Operator], **others: Any) -> OperatorPlan:
        """Return the plan of an operator, or of one of its stages, from its definition."""
        traits = spec.traits
        known = {"clock": traits.clock, "runs_user_code": traits.runs_user_code}
        known |= {"reduces": traits.reduces, "overlaps": traits.overlaps}
        return cls(spec.kind, spec.key(), spec.describe(), make, **(known | others))

    @classmethod
    def whole(cls, spec: OperatorSpec, context: OperatorContext) -> OperatorPlan:
        """Return the plan of an operator that its definition opens, in one stage."""
        state, retention = spec.state_key(context.inputs), spec.describe_state()
        return cls.of(spec, lambda: spec.open(context), state=state, retention=retention)

    def describe(self) -> str:
        """Return one line for `explain`."""
        return f"{self.role} {self.label}".lstrip()


@dataclass(eq=False)
class EdgePlan:
    """One edge: from an output of a task to an input of another task.

    Attributes
    ----------
    partitioning : Partitioning or None
        None for a local edge.
    output : (int, str)
        Index of the operator in the producer's chain, and name of its output.
    reduction : mapping of str to ColumnReduction, or None
        Reduce rows over all ranks instead of sending them (`hpcstream.exchange.edges.reduce`).
    """

    number: int
    producer: TaskPlan
    output: tuple[int, str]
    schema: pa.Schema
    partitioning: Partitioning | None = None
    consumer: TaskPlan | None = None
    input_index: int = 0
    reduction: Mapping[str, ColumnReduction] | None = None

    @property
    def name(self) -> str:
        """Return a name such as ``edge 2 (task 0 -> task 1)``."""
        goal = "?" if self.consumer is None else str(self.consumer.number)
        return f"edge {self.number} (task {self.producer.number} -> task {goal})"

    @property
    def is_local(self) -> bool:
        """Whether rows stay on their rank."""
        return self.partitioning is None and self.reduction is None

    @property
    def is_reduced(self) -> bool:
        """Whether an upstream operator reduces the rows, on every path to the edge."""
        task = self.producer
        if any(operator.reduces for operator in task.operators[: self.output[0] + 1]):
            return True
        return bool(task.inputs) and all(edge.is_reduced for edge in task.inputs)

    @property
    def span(self) -> int:
        """The number of levels that the edge spans, which increases its capacity in rounds."""
        assert self.consumer is not None
        return max(1, self.consumer.level - self.producer.level)


@dataclass(eq=False)
class TaskPlan:
    """One chain of operators, and the ranks that run it.

    Attributes
    ----------
    has_order : bool
        The rows of the source have an `ORDER_COLUMN`.
    source_ordinal : int
        Number of the source in the job, independent of the number of ranks.
    """

    number: int
    ranks: tuple[int, ...]
    source: SourceNode | None = None
    operators: list[OperatorPlan] = field(default_factory=list)
    inputs: list[EdgePlan] = field(default_factory=list)
    outputs: list[EdgePlan] = field(default_factory=list)
    level: int = 0
    has_order: bool = False
    source_ordinal: int = 0

    def describe(self) -> str:
        """Return the chain in one line."""
        parts = [self.source.describe()] if self.source else []
        return " | ".join(parts + [operator.describe() for operator in self.operators])


@dataclass
class PhysicalGraph:
    """All tasks, in topological order.

    Attributes
    ----------
    size : int
        Number of ranks.
    rewrites : list of str
    """

    size: int
    tasks: list[TaskPlan]
    rewrites: list[str]

    @property
    def moves_rows(self) -> bool:
        """Whether ranks exchange rows that no operator has reduced."""
        return any(edge.partitioning is not None and not edge.is_reduced for edge in self.edges)

    @property
    def overlaps(self) -> bool:
        """Whether a row contributes to several results of an operator, as in sliding windows."""
        return any(operator.overlaps for task in self.tasks for operator in task.operators)

    @property
    def runs_user_code(self) -> bool:
        """Whether any operator calls a user's function."""
        return any(operator.runs_user_code for task in self.tasks for operator in task.operators)

    @property
    def edges(self) -> list[EdgePlan]:
        """All edges, in the order in which all ranks set them up."""
        return sorted((e for t in self.tasks for e in t.outputs), key=lambda e: e.number)

    def explain(self) -> str:
        """Return the graph as text: rewrites, tasks with their ranks, edges."""
        tasks = f"{len(self.tasks)} task{'' if len(self.tasks) == 1 else 's'}"
        lines = [f"{tasks} on {self.size} rank{'' if self.size == 1 else 's'}"]
        for task in self.tasks:
            lines.append(f"task {task.number} on {_ranks(task.ranks, self.size)}")
            if task.source:
                lines.append(f"    source   {task.source.describe()}")
            for operator in task.operators:
                lines.append(f"    operator {operator.describe()}")
                if operator.retention:
                    lines.append(f"    state    {operator.retention}")
            lines += [f"    output   {_edge(edge)}" for edge in task.outputs]
        if self.rewrites:
            lines.append("rewrites")
            lines += [f"    {note}" for note in self.rewrites]
        return "\n".join(lines)


def _ranks(ranks: tuple[int, ...], size: int) -> str:
    if ranks == tuple(range(size)):
        return "all ranks" if size > 1 else "rank 0"
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"


def _shown(names: list[str]) -> list[str]:
    """Return the columns of an edge without the engine's own columns."""
    words = [name.removeprefix(WORD_PREFIX) for name in names]
    return [word for word in words if not word.startswith(RESERVED_PREFIXES)]


def _edge(edge: EdgePlan) -> str:
    if edge.reduction is not None:
        how = "reduced over all ranks (Iallreduce)"
    else:
        how = "local" if edge.partitioning is None else edge.partitioning.describe()
    side = "" if edge.output[1] == MAIN else f"{edge.output[1]} "
    assert edge.consumer is not None
    columns = ", ".join(_shown(edge.schema.names)) or "event time only"
    return f"{side}-> task {edge.consumer.number} [{how}] ({columns})"
