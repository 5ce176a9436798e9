"""Enrichment: each row of a stream joined with a table that every rank holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.columns.arrays import (
    LARGE_TYPE_OF_VIEW,
    can_be_key,
    fixed_values,
    is_binary_type,
    stored_type,
)
from hpcstream.columns.event_time import ORDER_COLUMN, PLACE_COLUMN
from hpcstream.columns.hidden import (
    hidden_positions,
    refuse_repeated_names,
    refuse_reserved_names,
    visible_positions,
    visible_schema,
)
from hpcstream.columns.row_order import CHILD_BITS, nested_places, places_of
from hpcstream.columns.selection import Rows, gather, take, take_column, true_rows
from hpcstream.columns.types.plain import plain_table
from hpcstream.errors import PlanError
from hpcstream.expressions.binding import unknown_column
from hpcstream.operators.base import Emitted, Operator, with_pauses
from hpcstream.operators.spec import Columns, OperatorContext, OperatorSpec, Schemas
from hpcstream.stable_keys import Key, schema_key

if TYPE_CHECKING:
    from hpcstream.expressions.expression import Expression
    from hpcstream.operators.joins.table_index import KeyIndex

How = Literal["inner", "left"]
Codes = npt.NDArray[np.int32]

_ROWS_EMITTED = 65_536
"""Rows of a batch at most, where keys occur more than once in the table."""


@dataclass(frozen=True, slots=True)
class _Output:
    """A column that leaves: its name, and where it comes from."""

    name: str
    column: str
    of_table: bool


@dataclass(frozen=True, slots=True)
class _Layout:
    """Where the columns of the output come from, for one input schema.

    Attributes
    ----------
    sources : list of int or str
        Position in the stream's batch, or name in the table.
    """

    input_schema: pa.Schema
    output_schema: pa.Schema
    sources: list[int | str]


class JoinTable(Operator):
    """Each row of a stream with the matching rows of a table, as SQL joins them.

    Rows keep the order of the stream; the matches of one row come in the order
    of the table. A null key matches nothing. Of the table, the columns that are
    not keys are added; one that the stream has too gets the suffix.

    Parameters
    ----------
    table : pa.Table
        Held by every rank. Indexed once, with the first batch.
    left_on, right_on : sequence of str
        Key columns of the stream and, in the same order, of the table.
    how : {"inner", "left"}
        Whether rows without a match are left out, or get nulls.
    suffix : str
        For columns of the table whose name the stream has.

    Raises
    ------
    ValueError
        ``how`` is neither, or the numbers of key columns differ.
    PlanError
        The table does not have a key column.
    """

    def __init__(
        self,
        table: pa.Table,
        left_on: Sequence[str],
        right_on: Sequence[str],
        how: How = "inner",
        suffix: str = "_right",
    ) -> None:
        self._left_on = _names(left_on)
        self._right_on = _names(right_on)
        self._how = how
        self._suffix = suffix
        self._table = plain_table(table)
        self._check_arguments()
        self._outputs: tuple[_Output, ...] | None = None  # None: all
        self._encoded: frozenset[str] = frozenset()
        self._where: Expression | None = None
        self._layout: _Layout | None = None
        self._index: KeyIndex | None = None
        self._added: dict[str, pa.Array] = {}

    def stream_columns(self, schema: pa.Schema, needed: frozenset[str]) -> frozenset[str]:
        """Return the columns of a stream that are read to emit ``needed``."""
        outputs = [output for output in self._all_outputs(schema) if output.name in needed]
        passed = frozenset(output.column for output in outputs if not output.of_table)
        return passed.union(self._left_on)

    def emitting(
        self,
        schema: pa.Schema,
        names: Sequence[str],
        encoded: frozenset[str] = frozenset(),
        where: Expression | None = None,
    ) -> JoinTable:
        """Return a join that emits only these columns of what it would of a stream's ``schema``.

        Those of ``encoded`` that come from the table leave as dictionaries: an index a
        row instead of a string. Only rows for which ``where`` is true are joined; it
        may read columns that the schema has not.
        """
        other = JoinTable(self._table, self._left_on, self._right_on, self._how, self._suffix)
        other._outputs = tuple(o for o in self._all_outputs(schema) if o.name in names)
        other._encoded = encoded & self.texts(schema, frozenset(names))
        other._where = where
        return other

    def texts(self, schema: pa.Schema, names: frozenset[str]) -> frozenset[str]:
        """Return which of these columns are strings that the table adds."""
        return frozenset(
            output.name
            for output in self._all_outputs(schema)
            if output.name in names
            and output.of_table
            and _is_text(self._table.schema.field(output.column).type)
        )

    def looks_up_strings(self, schema: pa.Schema) -> bool:
        """Whether the key is one string, or binary, column of a stream's ``schema``."""
        return len(self._left_on) == 1 and is_binary_type(schema.field(self._left_on[0]).type)

    def output_schema(self, input_schema: pa.Schema) -> pa.Schema:
        """Return the stream's columns, then the table's without its keys.

        Raises
        ------
        PlanError
            A key column does not exist, two keys have types that cannot be
            compared, or two columns would have one name.
        """
        return self._layout_of(input_schema).output_schema

    def process_batch(self, batch: pa.RecordBatch, input_index: int = 0) -> Iterator[Emitted]:
        """Yield the joined rows."""
        rows: Rows | None = None
        if self._where is not None:
            mask = self._where.evaluate(batch)
            n_rows = 0 if pa.types.is_null(mask.type) else mask.true_count
            if n_rows == 0:
                return
            rows = true_rows(mask) if n_rows < batch.num_rows else None
        layout = self._layout_of(batch.schema)
        index = self._prepare()
        codes = index.find([batch.column(name) for name in self._left_on], rows)
        if index.is_unique:
            yield from self._join_unique(batch, rows, codes, layout)
        else:
            yield from with_pauses(self._join_repeated(batch, rows, codes, layout))

    def key(self) -> Key:
        """Return what is joined how, and the columns and rows of the table, as plain data."""
        table = [self._table.num_rows, schema_key(self._table.schema)]
        return [self._how, self._left_on, self._right_on, self._suffix, table]

    def describe(self) -> str:
        """Return one line for ``explain()``."""
        keys = ", ".join(
            left if left == right else f"{left} = {right}"
            for left, right in zip(self._left_on, self._right_on, strict=True)
        )
        return f"join_table({self._how} on {keys}; {self._table.num_rows} rows)"

    def _check_arguments(self) -> None:
        if self._how not in ("inner", "left"):
            raise ValueError(f"join_table(how={self._how!r}): expected 'inner' or 'left'")
        if len(self._left_on) != len(self._right_on) or not self._left_on:
            raise ValueError(
                "join_table needs as many key columns of the stream as of the table, at least one; "
                f"got {list(self._left_on)} and {list(self._right_on)}"
            )
        for name in self._right_on:
            if name not in self._table.schema.names:
                raise PlanError(f"in the table: {unknown_column(name, self._table.schema)}")

    def _layout_of(self, schema: pa.Schema) -> _Layout:
        if self._layout is None or not self._layout.input_schema.equals(schema):
            self._layout = self._lay_out(schema)
        return self._layout

    def _lay_out(self, schema: pa.Schema) -> _Layout:
        check_join_keys(schema, self._table.schema, self._left_on, self._right_on)
        outputs = self._all_outputs(schema)
        fields, sources = [], []
        for output in outputs:
            if output.of_table:
                field = self._table.schema.field(output.column).with_nullable(True)
                if output.name in self._encoded:
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
        return _Layout(schema, pa.schema(fields), [*sources, *hidden])

    def _all_outputs(self, schema: pa.Schema) -> tuple[_Output, ...]:
        if self._outputs is not None:
            return self._outputs
        taken = [schema.field(i).name for i in visible_positions(schema)]
        outputs = [_Output(name, name, False) for name in taken]
        for field in self._table.schema:
            if field.name not in self._right_on:
                name = field.name + self._suffix if field.name in taken else field.name
                outputs.append(_Output(name, field.name, True))
        refuse_reserved_names([o.name for o in outputs if o.of_table], self.describe())
        refuse_repeated_names([o.name for o in outputs], self.describe())
        return tuple(outputs)

    def _prepare(self) -> KeyIndex:
        """Return the index of the table, made at the first call."""
        if self._index is None:
            from hpcstream.operators.joins.table_index import KeyIndex  # loads Numba

            table = _without_null_keys(self._table, self._right_on).combine_chunks()
            self._index = KeyIndex([_one_array(table[name]) for name in self._right_on])
            order = pa.array(self._index.order)
            assert self._layout is not None, "a batch came first"
            for name in self._layout.sources:
                if isinstance(name, str):
                    column = _one_array(table[name])
                    column = column if self._index.is_unique else take(column, order)
                    self._added[name] = column
            for output in self._all_outputs(self._layout.input_schema):
                if output.name in self._encoded:
                    self._added[output.column] = self._added[output.column].dictionary_encode()
        return self._index

    def _join_unique(
        self, batch: pa.RecordBatch, rows: Rows | None, codes: Codes, layout: _Layout
    ) -> Iterator[pa.RecordBatch]:
        found = codes >= 0
        n_found = np.count_nonzero(found)
        if n_found == len(codes):  # nothing to leave out, nor to mark
            matches = pa.array(codes)
        elif self._how == "left":
            matches = pa.array(codes, mask=~found)
        else:
            matches = pa.array(codes[found])
            rows = np.flatnonzero(found).astype(np.int32) if rows is None else rows[found]
        if len(matches):
            yield self._combine(batch, rows, matches, layout, None)

    def _join_repeated(
        self, batch: pa.RecordBatch, rows: Rows | None, codes: Codes, layout: _Layout
    ) -> Iterator[pa.RecordBatch]:
        from hpcstream.kernels.join import expand_matches

        assert self._index is not None, "_prepare() comes first"
        cursor = np.zeros(2, dtype=np.int64)
        places, matches = (np.empty(_ROWS_EMITTED, dtype=np.int64) for _ in range(2))
        keep_unmatched, starts = self._how == "left", self._index.starts
        while n_pairs := expand_matches(codes, starts, keep_unmatched, cursor, places, matches):
            unmatched = matches[:n_pairs] < 0
            mask = unmatched if unmatched.any() else None
            of_pairs = places[:n_pairs].astype(np.int32)
            # A row without a match has one row, number 0.
            numbers = np.maximum(matches[:n_pairs] - starts[codes[of_pairs]], 0)
            of_pairs = of_pairs if rows is None else rows[of_pairs]
            found = pa.array(matches[:n_pairs], mask=mask)
            yield self._combine(batch, of_pairs, found, layout, numbers)

    def _combine(
        self,
        batch: pa.RecordBatch,
        rows: Rows | None,
        matches: pa.Array,
        layout: _Layout,
        numbers: npt.NDArray[np.int64] | None,
    ) -> pa.RecordBatch:
        """Return some rows of a batch (None: all) with the rows of the table that match them.

        ``numbers``: which of the rows of one row of the batch each is; None: it is alone.
        """

        def column(source: int | str) -> pa.Array:
            if isinstance(source, str):
                return _taken(self._added[source], matches)
            passed = batch.column(source)
            return passed if rows is None else take_column(passed, rows)

        arrays = [column(source) for source in layout.sources]
        if layout.output_schema.names[-1] == PLACE_COLUMN:
            places = places_of(batch) if rows is None else places_of(batch)[rows]
            own = np.zeros_like(places) if numbers is None else numbers
            arrays.append(pa.array(nested_places(places, own, CHILD_BITS)))
        return pa.RecordBatch.from_arrays(arrays, schema=layout.output_schema)


@dataclass(frozen=True, eq=False)
class JoinTableSpec(OperatorSpec):
    """Each row with the matching rows of a table that every rank holds.

    Attributes
    ----------
    join : JoinTable
        The operator as the user asked for it: it knows where each column comes from.
    encoded : frozenset of str
        Columns that leave as dictionaries.
    where : Expression or None
        Which rows of the input are joined; None: all. The input may have more columns
        than the join knows of.
    path : str
        Of the table's file; empty: the script has the table.
    """

    join: JoinTable
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

    def output_schema(self, inputs: Schemas) -> pa.Schema:
        return self.join.output_schema(inputs[0])

    def planned_schema(self, context: OperatorContext) -> pa.Schema:
        return self.open(context).output_schema(context.inputs[0])

    def passed(self, inputs: Schemas) -> Columns:
        return frozenset(inputs[0].names)

    def time_units(self, inputs: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
        return inputs[0]  # columns of the table that are joined to it have other names

    def required(self, needed: Columns, inputs: Schemas, sides: Columns) -> Sequence[Columns]:
        return [self.join.stream_columns(inputs[0], needed)]

    def pruned(self, needed: Columns, inputs: Schemas) -> JoinTableSpec:
        return replace(self, join=self.join.emitting(inputs[0], sorted(needed)))

    def with_filter(self, predicate: Expression, inputs: Schemas) -> JoinTableSpec | None:
        """Look strings up where they lie: a filter would copy those that it keeps."""
        if self.where is not None or not self.join.looks_up_strings(inputs[0]):
            return None
        return replace(self, where=predicate)

    def with_dictionaries(
        self, names: Columns, inputs: Schemas
    ) -> tuple[JoinTableSpec, Columns] | None:
        """Let strings that the table adds stay numbers."""
        encoded = self.join.texts(inputs[0], names)
        return (replace(self, encoded=encoded), encoded) if encoded else None

    def open(self, context: OperatorContext) -> JoinTable:
        stream = visible_schema(context.inputs[0])
        return self.join.emitting(stream, context.output.names, self.encoded, self.where)


def _taken(column: pa.Array, matches: pa.Array) -> pa.Array:
    """Return the rows ``matches`` (int32 or int64, perhaps null) of a column."""
    is_short = matches.type == pa.int32() and matches.null_count == 0 == column.null_count
    if not is_short or not pa.types.is_dictionary(column.type):
        return take(column, matches)
    indices = gather(fixed_values(column.indices), fixed_values(matches))
    return pa.DictionaryArray.from_arrays(pa.array(indices), column.dictionary, safe=False)


def _is_text(data_type: pa.DataType) -> bool:
    return data_type in (pa.string(), pa.large_string())


def check_join_keys(
    stream_schema: pa.Schema,
    table_schema: pa.Schema,
    left_on: Sequence[str],
    right_on: Sequence[str],
) -> None:
    """Check that the keys of a stream and a table exist and can be compared.

    Integers of different width compare, as do strings and large strings, and a
    dictionary with its plain values.

    Raises
    ------
    PlanError
        They do not; names both types.
    """
    for left, right in zip(left_on, right_on, strict=True):
        for name, schema in ((left, stream_schema), (right, table_schema)):
            if name not in schema.names:
                raise unknown_column(name, schema)
        left_type, right_type = stream_schema.field(left).type, table_schema.field(right).type
        kind = _kind(left_type)
        if kind is None or kind != _kind(right_type):
            raise PlanError(
                f"join_table: the stream's {left!r} is {left_type} and the table's {right!r} is "
                f"{right_type}, which cannot be compared as keys; cast one of them"
            )


def _kind(data_type: pa.DataType) -> str | None:
    """Return a name that types have in common whose equal values have equal keys."""
    types = pa.types
    if types.is_dictionary(data_type):
        return _kind(data_type.value_type)
    data_type = stored_type(data_type)
    if types.is_integer(data_type):
        return "uint64" if types.is_uint64(data_type) else "integer"
    if types.is_floating(data_type):
        return "float"
    if types.is_string(data_type) or types.is_large_string(data_type):
        return "string"
    if types.is_binary(data_type) or types.is_large_binary(data_type):
        return "binary"
    if data_type in (pa.string_view(), pa.binary_view()):
        return "string" if data_type == pa.string_view() else "binary"
    if types.is_timestamp(data_type):
        return f"timestamp[{data_type.unit}, zone {data_type.tz is not None}]"
    if types.is_decimal(data_type):
        return f"decimal{data_type.bit_width} of scale {data_type.scale}"
    return str(data_type) if can_be_key(data_type) else None


def _names(names: Sequence[str]) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _without_null_keys(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    """Leave out the rows that match nothing; a dictionary may hold its null among its values."""
    for name in keys:
        at, column = table.schema.get_field_index(name), table[name]
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        elif column.type in LARGE_TYPE_OF_VIEW:
            column = column.cast(LARGE_TYPE_OF_VIEW[column.type])
        table = table.set_column(at, name, column)
        if column.null_count:
            table = table.take(pc.indices_nonzero(column.is_valid()))
    return table


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return column.combine_chunks()
