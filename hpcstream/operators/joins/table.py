"""Enrichment: each row of a stream joined with a table that every rank holds."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hpcstream.columns.arrays import fixed_values
from hpcstream.columns.event_time import PLACE_COLUMN
from hpcstream.columns.row_order import CHILD_BITS, nested_places, places_of
from hpcstream.columns.selection import Rows, gather, take, take_column, true_rows
from hpcstream.operators.base import Emitted, Operator, with_pauses
from hpcstream.operators.joins.keys import without_null_keys
from hpcstream.operators.joins.table_join import Layout, TableJoin

if TYPE_CHECKING:
    from hpcstream.expressions.expression import Expression
    from hpcstream.operators.joins.table_index import KeyIndex

Codes = npt.NDArray[np.int32]

_ROWS_EMITTED = 65_536
"""Rows of a batch at most, where keys occur more than once in the table."""


class JoinTable(Operator):
    """Joins the rows of a stream with those of a table.

    Rows keep the order of the stream; the matches of one row come in the order
    of the table. A null key matches nothing.

    Parameters
    ----------
    join : TableJoin
        The table is indexed once, with the first batch.
    where : Expression, optional
        Only rows for which it is true are joined. It may read columns that are not among
        those that the join emits.
    """

    def __init__(self, join: TableJoin, where: Expression | None = None) -> None:
        self._join = join
        self._where = where
        self._layout: Layout | None = None
        self._index: KeyIndex | None = None
        self._added: dict[str, pa.Array] = {}

    def output_schema(self, input_schema: pa.Schema) -> pa.Schema:
        """Return the stream's columns, then the table's without its keys.

        Raises
        ------
        PlanError
            As `TableJoin.layout`.
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
        index = self._prepare(layout)
        codes = index.find([batch.column(name) for name in self._join.left_on], rows)
        if index.is_unique:
            yield from self._join_unique(batch, rows, codes, layout)
        else:
            yield from with_pauses(self._join_repeated(batch, rows, codes, layout))

    def describe(self) -> str:
        """Return one line for ``explain()``."""
        return self._join.describe()

    def _layout_of(self, schema: pa.Schema) -> Layout:
        if self._layout is None or not self._layout.input_schema.equals(schema):
            self._layout = self._join.layout(schema)
        return self._layout

    def _prepare(self, layout: Layout) -> KeyIndex:
        """Return the index of the table, made at the first call."""
        if self._index is None:
            from hpcstream.operators.joins.table_index import KeyIndex  # loads Numba

            join = self._join
            table = without_null_keys(join.table, join.right_on).combine_chunks()
            self._index = KeyIndex([_one_array(table[name]) for name in join.right_on])
            order = pa.array(self._index.order)
            for name in layout.sources:
                if isinstance(name, str):
                    column = _one_array(table[name])
                    column = column if self._index.is_unique else take(column, order)
                    self._added[name] = column
            for name in layout.encoded:
                self._added[name] = self._added[name].dictionary_encode()
        return self._index

    def _join_unique(
        self, batch: pa.RecordBatch, rows: Rows | None, codes: Codes, layout: Layout
    ) -> Iterator[pa.RecordBatch]:
        found = codes >= 0
        n_found = np.count_nonzero(found)
        if n_found == len(codes):  # every row has a match
            matches = pa.array(codes)
        elif self._join.how == "left":
            matches = pa.array(codes, mask=~found)
        else:
            matches = pa.array(codes[found])
            rows = np.flatnonzero(found).astype(np.int32) if rows is None else rows[found]
        if len(matches):
            yield self._combine(batch, rows, matches, layout, None)

    def _join_repeated(
        self, batch: pa.RecordBatch, rows: Rows | None, codes: Codes, layout: Layout
    ) -> Iterator[pa.RecordBatch]:
        from hpcstream.kernels.join import expand_matches

        assert self._index is not None, "_prepare() comes first"
        cursor = np.zeros(2, dtype=np.int64)
        row_numbers, matches = (np.empty(_ROWS_EMITTED, dtype=np.int64) for _ in range(2))
        keep_unmatched, starts = self._join.how == "left", self._index.starts
        while n_pairs := expand_matches(
            codes, starts, keep_unmatched, cursor, row_numbers, matches
        ):
            unmatched = matches[:n_pairs] < 0
            mask = unmatched if unmatched.any() else None
            of_pairs = row_numbers[:n_pairs].astype(np.int32)
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
        layout: Layout,
        numbers: npt.NDArray[np.int64] | None,
    ) -> pa.RecordBatch:
        """Return some rows of a batch (None: all) with the rows of the table that match them.

        ``numbers``: the number of each match among those of its row; None: each has one.
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


def _taken(column: pa.Array, matches: pa.Array) -> pa.Array:
    """Return the rows ``matches`` (int32 or int64, perhaps null) of a column."""
    is_short = matches.type == pa.int32() and matches.null_count == 0 == column.null_count
    if not is_short or not pa.types.is_dictionary(column.type):
        return take(column, matches)
    indices = gather(fixed_values(column.indices), fixed_values(matches))
    return pa.DictionaryArray.from_arrays(pa.array(indices), column.dictionary, safe=False)


def _one_array(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks == 1:
        return column.chunk(0)
    return column.combine_chunks()
