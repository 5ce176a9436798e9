"""The definition of an operator: a value with everything that the planner needs to know.

An `OperatorSpec` is part of the logical graph. The planner queries the requirements of its
inputs, its output schema and the filters that it commutes with; the runtime calls `open`
to create one `Operator` on each rank. Planner and runtime know no specific operator, so a new
operator is one file with its definition and its implementation. Definitions are plain
values: creating or printing one loads no kernel, and calls user code only to infer a schema.
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
"""Name of an operator's main output, as distinct from its side outputs."""


@dataclass(frozen=True)
class Anywhere:
    """Rows may be on any rank: they stay on theirs if the operator runs there."""


@dataclass(frozen=True)
class ByKey:
    """Rows with equal keys must be on the same rank, also rows of different inputs.

    Attributes
    ----------
    columns : tuple of str
        At least one. The columns of several inputs correspond by position. Equal keys must
        have equal hashes, so the definition refuses types that cannot be compared.
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
    """Rows must be distributed evenly over the ranks."""


Requirement: TypeAlias = Anywhere | ByKey | Gathered | Broadcast | Spread


@dataclass(frozen=True, kw_only=True)
class Traits:
    """Properties of an operator that planner and runtime use, apart from its columns.

    Attributes
    ----------
    runs_user_code : bool
        The time per row is unbounded.
    reduces : bool
        The output is much smaller than the input.
    overlaps : bool
        A row contributes to several results, which touch more memory than the row.
    needs_time, needs_order : bool
        It reads the event time of rows, and the order of rows with equal event time.
    sets_time, sets_order : bool
        The output has its own event time or order, independent of the input's.
    clock : EventClock or None
        The operator generates a watermark.
    stays : bool
        It runs on the ranks of its input, whatever ranks were requested: before an exchange
        mixes the rows of several ranks, since event time is in order only there.
    is_identity : bool
        Rows pass unchanged: it is a requirement rather than an operator.
    by_arrival : bool
        Results depend on the order in which rows arrive; ``reproducible=True`` refuses it.
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
    by_arrival: bool = False


@dataclass(frozen=True, kw_only=True)
class OperatorContext:
    """The surroundings of an operator in a plan.

    Attributes
    ----------
    inputs : tuple of pyarrow.Schema
        With the hidden columns.
    output : pyarrow.Schema
        The user's columns to emit.
    sides : frozenset of str
        Side outputs that have consumers.
    reads_time, reads_order : bool
        Whether consumers read the event time and the order of the output.
    in_order : bool
        The rows of each source split arrive in order, all of them on one rank.
    order_offsets : tuple of int
        The number to add to the source numbers in the row order of each input.
    """

    inputs: tuple[pa.Schema, ...]
    output: pa.Schema
    sides: Columns = frozenset()
    reads_time: bool = True
    reads_order: bool = False
    in_order: bool = False
    order_offsets: tuple[int, ...] = ()


class OperatorSpec(ABC):
    """The definition of an operator. Definitions are equal if kind and key are.

    A subclass is a frozen dataclass (``eq=False``) with a ``kind``. It must implement `key`,
    `describe`, `output_schema` and `open`; the defaults of the rest are those of an operator
    with one input that reads all columns and commutes with no filter.
    """

    @property
    @abstractmethod
    def kind(self) -> str:
        """A stable name: ``kind`` and `key` are the identity in checkpoints."""

    @property
    def traits(self) -> Traits:
        """Properties that planner and runtime use."""
        return Traits()

    # -- identity ----------------------------------------------------------------------

    @abstractmethod
    def key(self) -> Key:
        """Return what distinguishes it from others of its kind, as plain data; it never changes."""

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
        """Return the requirement of each input: on which ranks its rows must be."""
        return (Anywhere(),)

    @abstractmethod
    def output_schema(self, inputs: Schemas) -> pa.Schema:
        """Return the output schema for the schemas of the inputs.

        Hidden columns of the inputs appear in it if the operator passes them on.

        Raises
        ------
        PlanError
            The inputs do not fit.
        """

    def planned_schema(self, context: OperatorContext) -> pa.Schema:
        """Return the output schema in a plan, hidden columns included."""
        return self.output_schema(context.inputs)

    def output_time(self, times: Sequence[EventTime | None], inputs: Schemas) -> EventTime | None:
        """Return the event time of the output, for times and schemas of the inputs."""
        return times[0]

    def side_outputs(self, inputs: Schemas) -> Mapping[str, pa.Schema]:
        """Return the schemas of the side outputs, by name. Their rows are rows of input 0."""
        return {}

    def passed(self, inputs: Schemas) -> Columns:
        """Return the columns of input 0 that the output has unchanged, with the same name."""
        return frozenset()

    def time_units(self, inputs: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
        """Return the output columns that hold points in time, with their units.

        ``inputs`` has the same for each input.
        """
        return {}

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of files that the definition has read; no sink of the job may replace them."""
        return ()

    def kernels(self, *, reproducible: bool) -> frozenset[str]:
        """Return the kernel families on demand that the operator calls.

        They are compiled before round 0, beside the families that any job may call
        (`hpcstream.kernels.ON_DEMAND`). ``reproducible`` is the option of the run.
        """
        return frozenset()

    # -- rewrites ----------------------------------------------------------------------

    def required(self, needed: Columns, inputs: Schemas, sides: Columns) -> Sequence[Columns]:
        """Return, for each input, the columns that the operator reads to emit ``needed``."""
        return [frozenset(schema.names) for schema in inputs]

    def pruned(self, needed: Columns, inputs: Schemas) -> OperatorSpec:
        """Return the definition that emits ``needed``; its inputs may have fewer columns."""
        return self

    emits_only_needed: ClassVar[bool] = False
    """Whether the result of `pruned` emits exactly the needed columns."""
    needs_equal_inputs: ClassVar[bool] = False
    """Whether all inputs must have exactly the columns that are required."""

    def below_filter(
        self, predicate: Expression, inputs: Schemas
    ) -> Sequence[Expression | None] | None:
        """Return the predicate for each input that replaces a filter after the operator.

        None: the filter cannot be pushed down. None for an input: all its rows are needed.
        """
        return None

    def with_filter(self, predicate: Expression, inputs: Schemas) -> OperatorSpec | None:
        """Return the definition with a filter of its input built in, or None if it cannot be."""
        return None

    @property
    def takes_dictionaries(self) -> Columns:
        """Columns of input 0 that may be dictionary-encoded: the operator decodes the values."""
        return frozenset()

    def with_dictionaries(
        self, names: Columns, inputs: Schemas
    ) -> tuple[OperatorSpec, Columns] | None:
        """Return the definition that emits columns dictionary-encoded, and which; or None."""
        return None

    # -- state ---------------------------------------------------------------------------

    def state_key(self, inputs: Schemas) -> Key:
        """Return what its state is made of, where `key` does not say it: types, mostly.

        ``inputs``: with the hidden columns. A checkpoint is refused where it is another.
        """
        return None

    def describe_state(self) -> str:
        """Return what state it keeps and until when, for `explain`; empty: none."""
        return ""

    # -- running -----------------------------------------------------------------------

    @abstractmethod
    def open(self, context: OperatorContext) -> Operator:
        """Return the operator of one rank."""
