"""The definition of an operator: a value that says what the planner must know of it.

An `OperatorSpec` stands in the logical graph; the planner asks it for what its inputs
must be, what leaves it and what may pass it, and the runtime has it `open` one `Operator`
on each rank. Planner and runtime know no kind of operator: a new one is one file with its
definition and its operator. Definitions are plain values: making or printing one loads no
kernel and calls nothing of the user but to find a schema out.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import pyarrow as pa

from hpcstream.expressions.expression import Expression
from hpcstream.operators.base import Operator
from hpcstream.operators.stream_time import EventClock, EventTime
from hpcstream.stable_keys import Key, key_text

Columns: TypeAlias = frozenset[str]
Schemas: TypeAlias = Sequence[pa.Schema]

MAIN = "main"
"""Name of an operator's main output; side outputs have names of their own."""


@dataclass(frozen=True)
class Anywhere:
    """Rows may be on any rank: they stay where they are, if the operator runs there."""


@dataclass(frozen=True)
class ByKey:
    """Rows of one key must be on one rank; of several inputs, those of equal keys on the same.

    Attributes
    ----------
    columns : tuple of str
        At least one. Those of several inputs correspond by position; equal keys must have
        equal hashes, so the definition refuses types that cannot be compared.
    """

    columns: tuple[str, ...]


@dataclass(frozen=True)
class Gathered:
    """All rows must be on the first of the ranks that run the operator."""


@dataclass(frozen=True)
class Broadcast:
    """Every rank that runs the operator must have all rows."""


@dataclass(frozen=True)
class Spread:
    """Rows are to be dealt evenly to the ranks."""


Requirement: TypeAlias = Anywhere | ByKey | Gathered | Broadcast | Spread


@dataclass(frozen=True, kw_only=True)
class Traits:
    """What the planner and the runtime heed of an operator, apart from its columns.

    Attributes
    ----------
    runs_user_code : bool
        A row may take it any time.
    reduces : bool
        What leaves is far less than what comes.
    overlaps : bool
        A row counts in several results, which touch more memory than the row.
    needs_time, needs_order : bool
        It reads the event time of its rows, the order of those of equal event time.
    sets_time, sets_order : bool
        Its rows have an event time, an order of their own, whatever those of the input are.
    clock : EventClock or None
        The watermark begins here.
    stays : bool
        It runs where its input is, whatever ranks were asked for, before rows of several
        ranks meet: event time is in order only there.
    is_identity : bool
        Rows leave as they come: it is no operator, only a requirement.
    """

    runs_user_code: bool = False
    reduces: bool = False
    overlaps: bool = False
    needs_time: bool = False
    needs_order: bool = False
    sets_time: bool = False
    sets_order: bool = False
    clock: EventClock | None = None
    stays: bool = False
    is_identity: bool = False


@dataclass(frozen=True, kw_only=True)
class OperatorContext:
    """Where in a plan an operator is opened.

    Attributes
    ----------
    inputs : tuple of pyarrow.Schema
        With the hidden columns.
    output : pyarrow.Schema
        The user's columns that are to leave.
    sides : frozenset of str
        Side outputs that are read.
    reads_time, reads_order : bool
        Whether the event time and the order of what leaves are read.
    in_order : bool
        The rows of each split of a source come in their order, all of them to one rank.
    order_offsets : tuple of int
        What to add to the numbers of sources in the order of rows, for each input.
    """

    inputs: tuple[pa.Schema, ...]
    output: pa.Schema
    sides: Columns = frozenset()
    reads_time: bool = True
    reads_order: bool = False
    in_order: bool = False
    order_offsets: tuple[int, ...] = ()


class OperatorSpec(ABC):
    """What an operator is. Two of one kind with equal keys are equal.

    A subclass is a frozen dataclass (``eq=False``) with a ``kind``; `key`, `describe`,
    `output_schema` and `open` must be written, the rest has the defaults of an operator
    with one input that reads all columns and lets no filter pass.
    """

    @property
    @abstractmethod
    def kind(self) -> str:
        """A stable word: ``kind`` and `key` are the identity in checkpoints."""

    @property
    def traits(self) -> Traits:
        """What the planner and the runtime heed of it."""
        return Traits()

    # -- identity ----------------------------------------------------------------------

    @abstractmethod
    def key(self) -> Key:
        """Return what tells it from others of its kind, as plain data: the same for ever."""

    @abstractmethod
    def describe(self) -> str:
        """Return one line for `explain`, free to change."""

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, OperatorSpec):
            return NotImplemented
        return (self.kind, key_text(self.key())) == (other.kind, key_text(other.key()))

    def __hash__(self) -> int:
        return hash((self.kind, key_text(self.key())))

    # -- inputs and outputs ------------------------------------------------------------

    def inputs(self) -> tuple[Requirement, ...]:
        """Return where the rows of each input must be."""
        return (Anywhere(),)

    @abstractmethod
    def output_schema(self, inputs: Schemas) -> pa.Schema:
        """Return the schema of what leaves, for those of the inputs.

        Hidden columns of the inputs are handed on as the operator does.

        Raises
        ------
        PlanError
            The inputs do not fit.
        """

    def planned_schema(self, context: OperatorContext) -> pa.Schema:
        """Return the schema of what leaves, hidden columns included, in a plan."""
        return self.output_schema(context.inputs)

    def output_time(self, times: Sequence[EventTime | None], inputs: Schemas) -> EventTime | None:
        """Return the event time of what leaves, for times and schemas of the inputs."""
        return times[0]

    def side_outputs(self, inputs: Schemas) -> Mapping[str, pa.Schema]:
        """Return the schemas of the side outputs, by name. Their rows are rows of input 0."""
        return {}

    def passed(self, inputs: Schemas) -> Columns:
        """Return the columns that leave as they came in by input 0, under the same name."""
        return frozenset()

    def time_units(self, inputs: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
        """Return which columns of the output hold points in time, and their units.

        ``inputs``: the same of each input.
        """
        return {}

    @property
    def files(self) -> tuple[str, ...]:
        """Paths that it has read, which no sink of the job may replace."""
        return ()

    # -- rewrites ----------------------------------------------------------------------

    def required(self, needed: Columns, inputs: Schemas, sides: Columns) -> Sequence[Columns]:
        """Return, for each input, the columns that are read to emit ``needed``."""
        return [frozenset(schema.names) for schema in inputs]

    def pruned(self, needed: Columns, inputs: Schemas) -> OperatorSpec:
        """Return the same, emitting ``needed``; its inputs may get fewer columns than now."""
        return self

    emits_only_needed: ClassVar[bool] = False
    """Whether what `pruned` returns emits, of its columns, exactly those that are needed."""
    needs_equal_inputs: ClassVar[bool] = False
    """Whether all inputs must have exactly the columns that are required."""

    def below_filter(
        self, predicate: Expression, inputs: Schemas
    ) -> Sequence[Expression | None] | None:
        """Return what to filter each input by in place of a filter behind; None: it stays there.

        None for an input: all of its rows are needed.
        """
        return None

    def with_filter(self, predicate: Expression, inputs: Schemas) -> OperatorSpec | None:
        """Return the same for rows that a filter before it keeps, better done here; else None."""
        return None

    @property
    def takes_dictionaries(self) -> Columns:
        """Columns of input 0 that do as well as dictionaries: their values leave decoded."""
        return frozenset()

    def with_dictionaries(
        self, names: Columns, inputs: Schemas
    ) -> tuple[OperatorSpec, Columns] | None:
        """Return the same with columns emitted as dictionaries, and which of these; or None."""
        return None

    # -- running -----------------------------------------------------------------------

    @abstractmethod
    def open(self, context: OperatorContext) -> Operator:
        """Return the operator of one rank."""
