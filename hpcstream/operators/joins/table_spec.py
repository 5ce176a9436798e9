"""The definition of the operator that joins a stream with a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from hpcstream.columns.hidden import visible_schema
from hpcstream.operators.joins.table import JoinTable
from hpcstream.operators.joins.table_join import TableJoin
from hpcstream.operators.spec import Columns, OperatorContext, OperatorSpec, Schemas
from hpcstream.stable_keys import Key

if TYPE_CHECKING:
    from hpcstream.expressions.expression import Expression


@dataclass(frozen=True, eq=False)
class JoinTableSpec(OperatorSpec):
    """Each row with the matching rows of a table that every rank holds.

    Attributes
    ----------
    join : TableJoin
    encoded : frozenset of str
        Columns that are output as dictionaries.
    where : Expression or None
        Which rows of the input are joined; None: all. The input may have more columns
        than the join knows of.
    path : str
        Of the table's file; empty: the script has the table.
    """

    join: TableJoin
    encoded: Columns = frozenset()
    where: Expression | None = None
    path: str = ""
    kind = "join_table"
    emits_only_needed = True

    def key(self) -> Key:
        where = None if self.where is None else self.where.key()
        return [self.join.key(), sorted(self.encoded), where]

    def describe(self) -> str:
        where = "" if self.where is None else f" where {self.where!r}"
        return f"{self.join.describe()}{where}"

    @property
    def files(self) -> tuple[str, ...]:
        return (self.path,) if self.path else ()

    def kernels(self, *, reproducible: bool) -> frozenset[str]:
        return frozenset({"join", "string_lookup"})

    def output_schema(self, inputs: Schemas) -> pa.Schema:
        return self.join.output_schema(inputs[0])

    def planned_schema(self, context: OperatorContext) -> pa.Schema:
        return self._emitting(context).output_schema(context.inputs[0])

    def passed(self, inputs: Schemas) -> Columns:
        return frozenset(inputs[0].names)

    def time_units(self, inputs: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
        return inputs[0]  # columns of the table that are joined to it have other names

    def required(self, needed: Columns, inputs: Schemas, sides: Columns) -> Sequence[Columns]:
        return [self.join.stream_columns(inputs[0], needed)]

    def pruned(self, needed: Columns, inputs: Schemas) -> JoinTableSpec:
        return replace(self, join=self.join.emitting(inputs[0], sorted(needed)))

    def with_filter(self, predicate: Expression, inputs: Schemas) -> JoinTableSpec | None:
        """Filter during the lookup: a filter before it would copy the strings that it keeps."""
        if self.where is not None or not self.join.looks_up_strings(inputs[0]):
            return None
        return replace(self, where=predicate)

    def with_dictionaries(
        self, names: Columns, inputs: Schemas
    ) -> tuple[JoinTableSpec, Columns] | None:
        """Keep the strings of the table dictionary-encoded."""
        encoded = self.join.texts(inputs[0], names)
        return (replace(self, encoded=encoded), encoded) if encoded else None

    def open(self, context: OperatorContext) -> JoinTable:
        return JoinTable(self._emitting(context), self.where)

    def _emitting(self, context: OperatorContext) -> TableJoin:
        stream = visible_schema(context.inputs[0])
        return self.join.emitting(stream, context.output.names, self.encoded)
