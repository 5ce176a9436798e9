"""Aggregates with the names of their input and output columns, bound to a schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from hpcstream.aggregates.accumulator import Accumulator
from hpcstream.aggregates.base import Aggregate, Entries, Inputs, value_type
from hpcstream.aggregates.grouped_values import GroupedValues
from hpcstream.aggregates.registry import AGGREGATES
from hpcstream.columns.event_time import PLACE_COLUMN
from hpcstream.errors import OverflowInAggregate, PlanError


@dataclass(frozen=True)
class NamedAggregate:
    """One aggregate of a window.

    Attributes
    ----------
    name : str
        Output column.
    aggregate : Aggregate
    inputs : tuple of str
        Input columns.
    of_values : bool
        Compute it from all values although words suffice, so that results are bitwise
        independent of the order of rows.
    """

    name: str
    aggregate: Aggregate
    inputs: tuple[str, ...] = ()
    of_values: bool = False

    @classmethod
    def of(cls, name: str, function: str, *inputs: str, **parameters: Any) -> NamedAggregate:
        """Return a built-in aggregate with the name of its output column."""
        return cls(name, AGGREGATES[function](**parameters), inputs)

    def __str__(self) -> str:
        constants = [f"{name}={value!r}" for name, value in self.aggregate.parameters.items()]
        if self.of_values:
            constants.append("reproducible=True")
        return f"{self.name}={self.aggregate.name}({', '.join([*self.inputs, *constants])})"

    def inputs_in(self, schema: pa.Schema) -> Inputs:
        """Return the input columns in a schema."""
        types = tuple(schema.field(name).type for name in self.inputs)
        return Inputs(self.inputs, types, PLACE_COLUMN in schema.names)

    def result_type(self, schema: pa.Schema) -> pa.DataType:
        """Return the type of the output column."""
        types = [value_type(schema.field(name).type) for name in self.inputs]
        return self.aggregate.result_type(types)

    def accumulators(self, schema: pa.Schema) -> tuple[Accumulator, ...] | None:
        """Return the accumulators that it reads; None if it keeps all values."""
        return None if self.of_values else self.aggregate.accumulators(self.inputs_in(schema))

    def is_order_free(self, schema: pa.Schema) -> bool:
        """Return whether its results are bitwise independent of the order of rows."""
        inputs = self.inputs_in(schema)
        if self.of_values or self.aggregate.accumulators(inputs) is None:
            return True
        return self.aggregate.is_order_free(inputs)

    def bound(self, schema: pa.Schema) -> BoundAggregate:
        """Bind it to a schema."""
        inputs, output_type = self.inputs_in(schema), self.result_type(schema)
        return BoundAggregate(self, inputs, output_type, self.accumulators(schema) is None)


@dataclass(frozen=True)
class BoundAggregate:
    """An aggregate bound to a schema, which computes results.

    Attributes
    ----------
    named : NamedAggregate
    inputs : Inputs
    output_type : pa.DataType
    keeps_values : bool
        Whether results are computed from values rather than from words.
    """

    named: NamedAggregate
    inputs: Inputs
    output_type: pa.DataType
    keeps_values: bool

    def finish(self, entries: Entries) -> pa.Array:
        """Return the results from the words of some entries.

        Raises
        ------
        OverflowInAggregate
            A result does not fit its type.
        """
        try:
            return self.named.aggregate.finish(entries, self.inputs, self.output_type)
        except OverflowInAggregate as error:
            raise self._named(error) from None

    def finish_values(self, rows: GroupedValues) -> pa.Array:
        """Return the results from the values of groups, as `finish` does."""
        try:
            return self.named.aggregate.from_values(rows).cast(self.output_type)
        except OverflowInAggregate as error:
            raise self._named(error) from None

    def _named(self, error: OverflowInAggregate) -> OverflowInAggregate:
        return OverflowInAggregate(f"aggregate {self.named}: {error}")


def shared_accumulators(
    aggregates: Sequence[NamedAggregate], schema: pa.Schema
) -> list[Accumulator]:
    """Return the accumulators of all aggregates without duplicates, grouped by columns.

    Raises
    ------
    PlanError
        Two different accumulators have a word of the same name.
    """
    found: dict[Accumulator, None] = {}
    for aggregate in aggregates:
        found.update(dict.fromkeys(aggregate.accumulators(schema) or ()))
    columns = list(dict.fromkeys(accumulator.columns for accumulator in found))
    in_order = sorted(found, key=lambda accumulator: columns.index(accumulator.columns))
    names = [word.name for accumulator in in_order for word in accumulator.words]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise PlanError(
            f"aggregates: two accumulators have a word {twice[0]!r}; include the parameters that "
            "differ in its name"
        )
    return in_order
