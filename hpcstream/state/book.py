"""The book of a `SliceStore`: the array of control fields of `hpcstream.kernels.key_table`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hpcstream.kernels import key_table

Book = npt.NDArray[np.int64]

LISTED, MERGED = 1, 2  # the STATE of the region of a slice, and of a merged region

_SECTION_FIELDS = [
    key_table.REGION_CAPACITY,
    key_table.CHUNK_CAPACITY,
    key_table.CHUNKS_AT,
    key_table.DIRECTORY_AT,
    key_table.DIRECTORY_SIZE,
]


def new_book(regions: int, chunks: int, directory: int) -> Book:
    """Return an empty book; it is small and lives on the heap."""
    chunks_at = key_table.REGIONS_AT + regions * key_table.REGION_FIELDS
    directory_at = chunks_at + chunks * key_table.CHUNK_FIELDS
    book = np.zeros(directory_at + directory, dtype=np.int64)
    book[key_table.REGION_CAPACITY] = regions
    book[key_table.CHUNK_CAPACITY] = chunks
    book[key_table.CHUNKS_AT] = chunks_at
    book[key_table.DIRECTORY_AT] = directory_at
    book[key_table.DIRECTORY_SIZE] = directory
    book[key_table.ENTRY_END] = 1
    book[key_table.INDEX_END] = key_table.FIRST_INDEX
    book[key_table.INDEX_CAPACITY] = key_table.FIRST_INDEX
    book[key_table.FREE_REGION] = -1
    book[key_table.LAST_REGION] = -1
    book[key_table.LEAST_SLICE] = 2**63 - 1
    return book


def book_of_slices(slice_size: int, offset: int, margin: int) -> Book:
    """Return an empty book of slices; times ``margin`` from the ends of int64 are refused."""
    book = new_book(4, 16, 16)
    margin += 2 * slice_size + abs(offset)
    book[key_table.SLICE_SIZE] = slice_size
    book[key_table.SLICE_OFFSET] = offset
    book[key_table.TIME_FLOOR] = -(2**63) + margin
    book[key_table.TIME_CEILING] = 2**63 - 1 - margin
    return book


def resized_book(old: Book, regions: int = 0, chunks: int = 0, directory: int = 0) -> Book:
    """Return a copy of a book with larger sections; sections not given keep their sizes."""
    book = new_book(
        regions or int(old[key_table.REGION_CAPACITY]),
        chunks or int(old[key_table.CHUNK_CAPACITY]),
        directory or int(old[key_table.DIRECTORY_SIZE]),
    )
    sections = book[_SECTION_FIELDS].copy()
    regions_end = key_table.REGIONS_AT + int(old[key_table.REGION_END]) * key_table.REGION_FIELDS
    book[:regions_end] = old[:regions_end]
    book[_SECTION_FIELDS] = sections
    n_links = int(old[key_table.CHUNK_END]) * key_table.CHUNK_FIELDS
    source, target = int(old[key_table.CHUNKS_AT]), int(book[key_table.CHUNKS_AT])
    book[target : target + n_links] = old[source : source + n_links]
    key_table.relist(book)
    return book


def region_at(region: Any) -> Any:
    """Return the index in the book of the fields of a region, or of each of many."""
    return key_table.REGIONS_AT + region * key_table.REGION_FIELDS


def fields_of(book: Book, regions: Book, field: int) -> Book:
    """Return one field of each region (int64[n])."""
    values: Book = book[region_at(regions) + field]
    return values


def times_outside(book: Book, times: Book) -> ValueError:
    """Return the error for event times that are too close to the ends of int64."""
    floor, ceiling = int(book[key_table.TIME_FLOOR]), int(book[key_table.TIME_CEILING])
    return ValueError(
        f"event times from {int(times.min())} to {int(times.max())}: outside "
        f"[{floor}, {ceiling}], where windows can be counted; is the column's unit right?"
    )


def kept_capacity(capacity: int, needed: int) -> int:
    """Return the size of an arena after packing: unchanged unless it is far too large."""
    return capacity if needed <= capacity <= 4 * needed else needed
