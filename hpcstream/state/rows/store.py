"""Rows in buckets of event time, at places that stay; a bucket goes as a whole.

::

    append(batch, times) -> places    pages of 256 places, each of one bucket
    view(name)[place], words[i][place]        for kernels that follow chains of places
    take(places)                      rows, to be emitted
    drop_below(limit)                 buckets that end by then: their pages are free again

Place 0 is nobody's: a chain of places ends there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hpcstream.columns.kept_batches import decode_dictionaries, decoded_schema
from hpcstream.state.arrays import Allocator, Ints, Slots, Word
from hpcstream.state.rows.columns import Columns

PAGE_ROWS = 256

_LEAST_PAGES = 16
_OFFSETS = np.arange(PAGE_ROWS, dtype=np.uint32)


class Bucket:
    """Rows of one stretch of event time.

    Attributes
    ----------
    pages : list of int
        In the order in which they were filled; all but the last are full.
    n_rows : int
    version : int
        Another one whenever rows came, or words of rows changed.
    """

    def __init__(self) -> None:
        self.pages: list[int] = []
        self.n_rows = 0
        self.version = 0

    @property
    def room(self) -> int:
        """How many rows the last page has room for."""
        return len(self.pages) * PAGE_ROWS - self.n_rows

    def places(self, first: int = 0) -> Slots:
        """Return the places of the rows, from a number on, in the order in which they came."""
        pages = np.array(self.pages[first // PAGE_ROWS :], dtype=np.uint32)
        places = (pages[:, None] * np.uint32(PAGE_ROWS) + _OFFSETS).reshape(-1)
        skipped = first % PAGE_ROWS
        found: Slots = places[skipped : skipped + self.n_rows - first]
        return found


class RowStore:
    """Rows of any type in buckets of event time.

    Parameters
    ----------
    schema : pa.Schema
        Of the rows; dictionaries are decoded.
    bucket_ticks : int
        Bucket ``b`` has the times from ``b * bucket_ticks`` on.
    allocator : Allocator
    words : sequence of Word
        Further values of each row, of one number each: links of chains, marks.

    Attributes
    ----------
    schema : pa.Schema
        Of what `take` returns.
    words : list of dtype[capacity]
        By place; taken anew when a row is appended.
    buckets : dict of int to Bucket
    """

    def __init__(
        self,
        schema: pa.Schema,
        bucket_ticks: int,
        allocator: Allocator,
        words: Sequence[Word] = (),
    ) -> None:
        self.schema = decoded_schema(schema)
        self.bucket_ticks = bucket_ticks
        self.buckets: dict[int, Bucket] = {}
        self.specs = tuple(words)
        self._allocator = allocator
        self._columns = Columns(self.schema, allocator)
        self.words: list[npt.NDArray[Any]] = [np.zeros(0, dtype=word.dtype) for word in words]
        self._bucket_of = np.zeros(0, dtype=np.int64)
        self._free: list[int] = []
        self._n_pages = 1  # page 0 is nobody's
        self._grow(_LEAST_PAGES)

    @property
    def n_rows(self) -> int:
        """How many rows there are."""
        return sum(bucket.n_rows for bucket in self.buckets.values())

    @property
    def n_bytes(self) -> int:
        """Bytes reserved."""
        return self._columns.n_bytes + sum(word.nbytes for word in self.words)

    def append(self, batch: pa.RecordBatch, times: Ints) -> Slots:
        """Add rows of some times; return the place of each."""
        batch = decode_dictionaries(batch, self.schema)
        numbers = times // self.bucket_ticks
        places: Slots = np.empty(len(times), dtype=np.uint32)
        for number in np.unique(numbers).tolist():
            rows = np.flatnonzero(numbers == number)
            places[rows] = self._take_places(number, len(rows))
        self._columns.write(places, batch.columns)
        for word, array in zip(self.specs, self.words, strict=True):
            array[places] = word.identity
        return places

    def take(self, places: Slots) -> pa.RecordBatch:
        """Return the rows at some places, repeated as these are."""
        return pa.RecordBatch.from_arrays(self._columns.take(places), schema=self.schema)

    def view(self, name: str) -> npt.NDArray[Any]:
        """Return the values of a column of fixed width by place, until rows are appended."""
        return self._columns.view(name)

    def note_changed(self, places: Slots) -> None:
        """Note that words of the rows at some places were written to, since rows came."""
        for number in np.unique(self._bucket_of[np.unique(places // PAGE_ROWS)]).tolist():
            self.buckets[number].version += 1

    def buckets_below(self, limit: int) -> list[int]:
        """Return the buckets all of whose times are before a limit, ascending."""
        return sorted(n for n in self.buckets if (n + 1) * self.bucket_ticks <= limit)

    def places(self, bucket: int) -> Slots:
        """Return the places of the rows of a bucket, in the order in which they came."""
        return self.buckets[bucket].places()

    def drop_below(self, limit: int) -> None:
        """Forget the buckets all of whose times are before a limit."""
        for number in self.buckets_below(limit):
            self.drop(number)

    def drop(self, bucket: int) -> None:
        """Forget the rows of a bucket; their places are given out again."""
        gone = self.buckets.pop(bucket)
        self._columns.forget(gone.places())
        self._free += reversed(gone.pages)

    def restore(self, bucket: int, places: Slots, batch: pa.RecordBatch) -> None:
        """Put rows where they were; the places of all buckets before those that are free."""
        pages = places[::PAGE_ROWS] // PAGE_ROWS
        one = self.buckets.setdefault(bucket, Bucket())
        one.pages, one.n_rows = pages.tolist(), len(places)
        self._n_pages = max(self._n_pages, int(pages.max(initial=0)) + 1)
        while self._n_pages > len(self._bucket_of):
            self._grow(2 * len(self._bucket_of))
        self._bucket_of[pages] = bucket
        self._columns.write(places, batch.columns)

    @property
    def free_pages(self) -> list[int]:
        """The pages to give out again, the next one last."""
        return self._free

    def restore_free(self, pages: Sequence[int]) -> None:
        """Take over the pages that are free, after all buckets."""
        self._free = list(pages)
        self._n_pages = max([self._n_pages, *(page + 1 for page in pages)])
        while self._n_pages > len(self._bucket_of):
            self._grow(2 * len(self._bucket_of))

    def _take_places(self, number: int, n_rows: int) -> Slots:
        """Return places for more rows of a bucket, which has them from now on."""
        bucket = self.buckets.setdefault(number, Bucket())
        while bucket.room < n_rows:
            bucket.pages.append(self._take_page(number))
        first = bucket.n_rows
        bucket.n_rows += n_rows
        bucket.version += 1
        return bucket.places(first)

    def _take_page(self, number: int) -> int:
        if self._free:
            page = self._free.pop()
        else:
            page = self._n_pages
            self._n_pages += 1
            if page == len(self._bucket_of):
                self._grow(2 * page)
        self._bucket_of[page] = number
        return page

    def _grow(self, n_pages: int) -> None:
        """Make room for so many pages."""
        grown = np.zeros(n_pages, dtype=np.int64)
        grown[: len(self._bucket_of)] = self._bucket_of
        self._bucket_of = grown
        self._columns.grow(n_pages * PAGE_ROWS)
        for number, (word, array) in enumerate(zip(self.specs, self.words, strict=True)):
            larger = self._allocator.empty(n_pages * PAGE_ROWS, word.kind)
            larger[: len(array)] = array
            larger[len(array) :] = word.identity
            self.words[number] = larger
