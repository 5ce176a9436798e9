"""The definition of a join of a stream with a table: keys, matching rows, output columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import pyarrow as pa

from hpcstream.columns.arrays import is_binary_type
from hpcstream.columns.event_time import ORDER_COLUMN, PLACE_COLUMN
from hpcstream.columns.hidden import (
    hidden_positions,
    refuse_repeated_names,
    refuse_reserved_names,
    visible_positions,
)
from hpcstream.columns.types.plain import plain_table
from hpcstream.errors import PlanError
from hpcstream.expressions.binding import unknown_column
from hpcstream.operators.joins.keys import check_join_keys
from hpcstream.stable_keys import Key, schema_key

How = Literal["inner", "left"]


@dataclass(frozen=True, slots=True)
class OutputColumn:
    """An output column: its name, and the column of the stream or table that it comes from."""

    name: str
    column: str
    of_table: bool


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the columns of the output come from, for one input schema.

    Attributes
    ----------
    sources : list of int or str
        Position in the stream's batch, or name in the table.
    encoded : list of str
        Columns of the table that are output as dictionaries.
    """

    input_schema: pa.Schema
    output_schema: pa.Schema
    sources: list[int | str]
    encoded: list[str]


def table_join(
    table: pa.Table,
    left_on: str | Sequence[str],
    right_on: str | Sequence[str],
    how: How = "inner",
    suffix: str = "_right",
) -> TableJoin:
    """Return the join with a user's arguments; `TableJoin` describes them.

    Raises
    ------
    ValueError
        ``how`` is neither, or the numbers of key columns differ.
    PlanError
        The table does not have a key column.
    """
    return TableJoin(plain_table(table), _names(left_on), _names(right_on), how, suffix)


@dataclass(frozen=True, eq=False)
class TableJoin:
    """Each row of a stream with the matching rows of a table, as SQL joins them.

    Of the table, the columns that are not keys are added; one that the stream has too
    gets the suffix.

    Parameters
    ----------
    table : pa.Table
        Held by every rank.
    left_on, right_on : tuple of str
        Key columns of the stream and, in the same order, of the table.
    how : {"inner", "left"}
        Whether rows without a match are left out, or get nulls.
    suffix : str
        For columns of the table whose name the stream has.
    outputs : tuple of OutputColumn, optional
        The output columns; None: all.
    encoded : frozenset of str
        Names of those that are output as dictionaries.
    """

    table: pa.Table
    left_on: tuple[str, ...]
    right_on: tuple[str, ...]
    how: How
    suffix: str
    outputs: tuple[OutputColumn, ...] | None = None
    encoded: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if self.how not in ("inner", "left"):
            raise ValueError(f"join_table(how={self.how!r}): expected 'inner' or 'left'")
        if len(self.left_on) != len(self.right_on) or not self.left_on:
            raise ValueError(
                "join_table needs as many key columns of the stream as of the table, at least one; "
                f"got {list(self.left_on)} and {list(self.right_on)}"
            )
        for name in self.right_on:
            if name not in self.table.schema.names:
                raise PlanError(f"in the table: {unknown_column(name, self.table.schema)}")

    def key(self) -> Key:
        """Return what is joined how, and the columns and rows of the table, as plain data."""
        table = [self.table.num_rows, schema_key(self.table.schema)]
        return [self.how, self.left_on, self.right_on, self.suffix, table]

    def describe(self) -> str:
        """Return one line for ``explain()``."""
        keys = ", ".join(
            left if left == right else f"{left} = {right}"
            for left, right in zip(self.left_on, self.right_on, strict=True)
        )
        return f"join_table({self.how} on {keys}; {self.table.num_rows} rows)"

    def emitting(
        self, schema: pa.Schema, names: Sequence[str], encoded: frozenset[str] = frozenset()
    ) -> TableJoin:
        """Return a join with only these output columns, for a stream of this ``schema``.

        Those of ``encoded`` that come from the table are output as dictionaries: an index
        per row instead of a string.
        """
        outputs = tuple(o for o in self.output_columns(schema) if o.name in names)
        return replace(
            self, outputs=outputs, encoded=encoded & self.texts(schema, frozenset(names))
        )

    def stream_columns(self, schema: pa.Schema, needed: frozenset[str]) -> frozenset[str]:
        """Return the columns of a stream that are read to emit ``needed``."""
        outputs = [output for output in self.output_columns(schema) if output.name in needed]
        passed = frozenset(output.column for output in outputs if not output.of_table)
        return passed.union(self.left_on)

    def texts(self, schema: pa.Schema, names: frozenset[str]) -> frozenset[str]:
        """Return which of these columns are strings that the table adds."""
        return frozenset(
            output.name
            for output in self.output_columns(schema)
            if output.name in names
            and output.of_table
            and _is_text(self.table.schema.field(output.column).type)
        )

    def looks_up_strings(self, schema: pa.Schema) -> bool:
        """Whether the key is one string, or binary, column of a stream's ``schema``."""
        return len(self.left_on) == 1 and is_binary_type(schema.field(self.left_on[0]).type)

    def output_schema(self, schema: pa.Schema) -> pa.Schema:
        """Return the stream's columns, then the table's without its keys. Raises as `layout`."""
        return self.layout(schema).output_schema

    def output_columns(self, schema: pa.Schema) -> tuple[OutputColumn, ...]:
        """Return the output columns, without hidden ones.

        Raises
        ------
        PlanError
            Two columns would have one name.
        """
        if self.outputs is not None:
            return self.outputs
        taken = [schema.field(i).name for i in visible_positions(schema)]
        outputs = [OutputColumn(name, name, False) for name in taken]
        for field in self.table.schema:
            if field.name not in self.right_on:
                name = field.name + self.suffix if field.name in taken else field.name
                outputs.append(OutputColumn(name, field.name, True))
        refuse_reserved_names([o.name for o in outputs if o.of_table], self.describe())
        refuse_repeated_names([o.name for o in outputs], self.describe())
        return tuple(outputs)

    def layout(self, schema: pa.Schema) -> Layout:
        """Return where the columns of the output come from.

        Raises
        ------
        PlanError
            A key column does not exist, two keys have types that cannot be
            compared, or two columns would have one name.
        """
        check_join_keys(schema, self.table.schema, self.left_on, self.right_on)
        fields: list[pa.Field] = []
        sources: list[int | str] = []
        outputs = self.output_columns(schema)
        for output in outputs:
            if output.of_table:
                field = self.table.schema.field(output.column).with_nullable(True)
                if output.name in self.encoded:
                    field = field.with_type(pa.dictionary(pa.int32(), field.type))
                sources.append(output.column)
            else:
                field = schema.field(output.column)
                sources.append(schema.get_field_index(output.column))
            fields.append(field.with_name(output.name))
        hidden = [i for i in hidden_positions(schema) if schema.field(i).name != PLACE_COLUMN]
        fields += [schema.field(i) for i in hidden]
        if ORDER_COLUMN in schema.names:
            fields.append(pa.field(PLACE_COLUMN, pa.int64()))
        encoded = [output.column for output in outputs if output.name in self.encoded]
        return Layout(schema, pa.schema(fields), [*sources, *hidden], encoded)


def _is_text(data_type: pa.DataType) -> bool:
    return data_type in (pa.string(), pa.large_string())


def _names(names: str | Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
