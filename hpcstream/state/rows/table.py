"""The rows of a `RowStore` as a table: a segment for each bucket, an Arrow stream of its rows.

A bucket grows, then goes: one to which no rows came, and whose words nobody changed, is not
written again.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from hpcstream.columns.arrays import fixed_values
from hpcstream.columns.event_time import TIME_COLUMN, WORD_PREFIX
from hpcstream.columns.kept_batches import take_rows
from hpcstream.columns.ownership import Ownership, owned_rows
from hpcstream.state.arrays import Arrays, Ints
from hpcstream.state.rows.store import RowStore
from hpcstream.state.stream_table import StreamTable
from hpcstream.state.table import Part

_PLACE = "__input_place"


class RowTable(StreamTable):
    """Rows by bucket, with their words, at the places at which they are.

    Parameters
    ----------
    store : RowStore
        Its rows have event time.
    keys : sequence of str
        Columns by which the rows are dealt to other ranks; none: one rank has them all.
    name : str
        Unique in the operator; begins the names of its arrays.
    links : sequence of str
        Words that mean nothing on other ranks, such as places: they are those of new rows there.
    """

    def __init__(
        self, store: RowStore, keys: Sequence[str], name: str = "rows", links: Sequence[str] = ()
    ) -> None:
        super().__init__(name)
        self._store = store
        self._keys = tuple(keys)
        self._links = frozenset(links)

    @property
    def n_bytes(self) -> int:
        """Bytes reserved for rows."""
        return self._store.n_bytes

    def head(self) -> dict[str, Ints]:
        """Return the buckets, and the pages that are free."""
        numbers = sorted(self._store.buckets)
        return {
            f"{self.name}:buckets": np.array(numbers, dtype=np.int64),
            f"{self.name}:free": np.array(self._store.free_pages, dtype=np.int64),
        }

    def versions(self) -> list[tuple[str, str]]:
        """Return the buckets."""
        return [(str(n), str(bucket.version)) for n, bucket in sorted(self._store.buckets.items())]

    def rows_of(self, name: str) -> pa.RecordBatch:
        """Return the rows of a bucket with their words and places."""
        store, places = self._store, self._store.places(int(name))
        rows = store.take(places)
        columns, fields = [*rows.columns, pa.array(places)], [*rows.schema]
        fields.append(pa.field(_PLACE, pa.uint32()))
        for word, array in zip(store.specs, store.words, strict=True):
            columns.append(pa.array(array[places]))
            fields.append(pa.field(WORD_PREFIX + word.name, columns[-1].type))
        return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))

    def restore(self, arrays: Arrays) -> None:
        """Put rows where they were."""
        numbers = arrays[f"{self.name}:buckets"].tolist()
        for number, batch in zip(numbers, self.batches_of(arrays), strict=True):
            places = fixed_values(batch.column(_PLACE))
            self._store.restore(number, places, self._rows(batch))
            for word, array in zip(self._store.specs, self._store.words, strict=True):
                array[places] = fixed_values(batch.column(WORD_PREFIX + word.name))
        self._store.restore_free(arrays[f"{self.name}:free"].tolist())

    def merge(self, parts: Sequence[Part], owned: Ownership) -> None:
        """Append the rows that an instance owns, bucket by bucket, in the order of parts."""
        for part in parts:
            if not self.is_in(part.arrays) or not (self._keys or not owned.instance):
                continue
            for batch in self.batches_of(part.arrays):
                if self._keys:
                    own = owned_rows(batch, self._keys, owned).astype(np.uint32)
                    batch = take_rows(batch, own)
                self._append(batch)

    def _append(self, batch: pa.RecordBatch) -> None:
        store = self._store
        places = store.append(self._rows(batch), fixed_values(batch.column(TIME_COLUMN)))
        for word, array in zip(store.specs, store.words, strict=True):
            if word.name not in self._links:
                array[places] = fixed_values(batch.column(WORD_PREFIX + word.name))

    def _rows(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        columns = batch.columns[: len(self._store.schema)]
        return pa.RecordBatch.from_arrays(columns, schema=self._store.schema)
