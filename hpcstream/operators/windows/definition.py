"""The definition of a windowed aggregate in the logical graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from hpcstream.aggregates.base import AggregateCall, value_type
from hpcstream.columns.event_time import TimeUnit, duration_text
from hpcstream.columns.hidden import time_field
from hpcstream.operators.base import Operator
from hpcstream.operators.spec import (
    Anywhere,
    ByKey,
    Columns,
    OperatorContext,
    OperatorSpec,
    Requirement,
    Schemas,
    Traits,
)
from hpcstream.operators.stream_time import EventTime
from hpcstream.operators.windows.assigners.base import WindowAssigner
from hpcstream.stable_keys import Key

LATE = "late"
"""Name of the side output with the late rows."""


@dataclass(frozen=True, eq=False)
class WindowSpec(OperatorSpec):
    """Aggregates per window and key, or per window over all rows if there are no keys.

    `hpcstream.graph.lowering.windows` divides it into stages.

    Attributes
    ----------
    keys : tuple of str
    assigner : WindowAssigner
    aggregates : tuple of AggregateCall
        Each with the name of its output column.
    window : str
        The windows as the user wrote them.
    unit : TimeUnit
        Of event time.
    time_type : pyarrow.DataType
        Of ``window_start`` and ``window_end``.
    allowed_lateness : int
        In ticks.
    """

    keys: tuple[str, ...]
    assigner: WindowAssigner
    aggregates: tuple[AggregateCall, ...]
    window: str
    unit: TimeUnit
    time_type: pa.DataType
    allowed_lateness: int = 0
    kind = "aggregate"

    @property
    def traits(self) -> Traits:
        needs_order = any(call.aggregate.needs_order for call in self.aggregates)
        return Traits(
            overlaps=self.assigner.overlaps,
            needs_time=True,
            needs_order=needs_order,
            sets_time=True,
            sets_order=True,
        )

    def kernels(self, *, reproducible: bool) -> frozenset[str]:
        aggregates = [call.aggregate for call in self.aggregates]
        if reproducible:
            aggregates = [aggregate.order_free() for aggregate in aggregates]
        return self.assigner.kernels.union(*(aggregate.kernels for aggregate in aggregates))

    def key(self) -> Key:
        return {
            "keys": self.keys,
            "windows": [*self.assigner.key(), self.unit.name],
            "lateness": self.allowed_lateness,
            "aggregates": [call.key() for call in self.aggregates],
        }

    def describe(self) -> str:
        by = f"by {', '.join(self.keys)} " if self.keys else "all rows "
        what = ", ".join(f"{c.name}={replace(c, alias_name=None)!r}" for c in self.aggregates)
        late = duration_text(self.allowed_lateness, self.unit.name) if self.allowed_lateness else ""
        late = f", lateness {late}" if late else ""
        return f"aggregate {by}in {self.window}{late}: {what}"

    def retention(self, kept: Sequence[str], *, is_local: bool = False) -> str:
        """Return what state is kept, and until when; ``kept``: columns whose values are."""
        what = " and ".join(["accumulators", *[f"all values of {name}" for name in kept]])
        is_local = is_local and (bool(self.keys) or self.assigner.merges)
        until = "until the slice ends" if is_local else self.assigner.describe_retention()
        if self.allowed_lateness and not is_local:
            until += f" and {duration_text(self.allowed_lateness, self.unit.name)} longer"
        return f"{what} of each {'key and ' if self.keys else ''}slice, {until}"

    def inputs(self) -> tuple[Requirement, ...]:
        return (ByKey(self.keys) if self.keys else Anywhere(),)

    def output_schema(self, inputs: Schemas) -> pa.Schema:
        source = inputs[0]
        fields = [pa.field(name, value_type(source.field(name).type)) for name in self.keys]
        fields += [pa.field(name, self.time_type) for name in ("window_start", "window_end")]
        fields += [pa.field(call.name, call.type_in(source)) for call in self.aggregates]
        return pa.schema([*fields, time_field()])

    def output_time(self, times: Sequence[EventTime | None], inputs: Schemas) -> EventTime | None:
        return EventTime("window_end", self.unit, self.time_type, shift=-1)

    def side_outputs(self, inputs: Schemas) -> Mapping[str, pa.Schema]:
        return {LATE: inputs[0]}

    def time_units(self, inputs: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
        before = inputs[0]
        found = {name: before[name] for name in self.keys if name in before}
        found |= dict.fromkeys(("window_start", "window_end"), self.unit.name)
        for call in self.aggregates:
            if call.aggregate.returns_input and call.inputs[0].is_column:
                (column,) = call.inputs[0].columns()
                if column in before:
                    found[call.name] = before[column]
        return found

    def required(self, needed: Columns, inputs: Schemas, sides: Columns) -> Sequence[Columns]:
        if LATE in sides:
            return [frozenset(inputs[0].names)]
        return [frozenset(self.keys).union(*(call.columns() for call in self.aggregates))]

    @property
    def takes_dictionaries(self) -> Columns:
        return frozenset(self.keys).difference(*(call.columns() for call in self.aggregates))

    def open(self, context: OperatorContext) -> Operator:
        raise NotImplementedError("the planner chooses the stages")
