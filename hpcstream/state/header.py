"""The header of a `SliceStore`: the control fields of `hpcstream.kernels.key_table`."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from hpcstream.kernels import key_table

Header = npt.NDArray[np.int64]

LISTED, MERGED = 1, 2  # the STATE of the region of a slice, and of a merged region

_SECTION_FIELDS = [
    key_table.REGION_CAPACITY,
    key_table.CHUNK_CAPACITY,
    key_table.CHUNKS_AT,
    key_table.DIRECTORY_AT,
    key_table.DIRECTORY_SIZE,
]


def new_header(regions: int, chunks: int, directory: int) -> Header:
    """Return an empty header; it is small and lives on the heap."""
    chunks_at = key_table.REGIONS_AT + regions * key_table.REGION_FIELDS
    directory_at = chunks_at + chunks * key_table.CHUNK_FIELDS
    header = np.zeros(directory_at + directory, dtype=np.int64)
    header[key_table.REGION_CAPACITY] = regions
    header[key_table.CHUNK_CAPACITY] = chunks
    header[key_table.CHUNKS_AT] = chunks_at
    header[key_table.DIRECTORY_AT] = directory_at
    header[key_table.DIRECTORY_SIZE] = directory
    header[key_table.ENTRY_END] = 1
    header[key_table.INDEX_END] = key_table.FIRST_INDEX
    header[key_table.INDEX_CAPACITY] = key_table.FIRST_INDEX
    header[key_table.FREE_REGION] = -1
    header[key_table.LAST_REGION] = -1
    header[key_table.LEAST_SLICE] = 2**63 - 1
    return header


def header_of_slices(slice_size: int, offset: int, margin: int) -> Header:
    """Return an empty header of slices; times ``margin`` from the ends of int64 are refused."""
    header = new_header(4, 16, 16)
    margin += 2 * slice_size + abs(offset)
    header[key_table.SLICE_SIZE] = slice_size
    header[key_table.SLICE_OFFSET] = offset
    header[key_table.TIME_FLOOR] = -(2**63) + margin
    header[key_table.TIME_CEILING] = 2**63 - 1 - margin
    return header


def resized_header(old: Header, regions: int = 0, chunks: int = 0, directory: int = 0) -> Header:
    """Return a copy of a header with larger sections; sections not given keep their sizes."""
    header = new_header(
        regions or int(old[key_table.REGION_CAPACITY]),
        chunks or int(old[key_table.CHUNK_CAPACITY]),
        directory or int(old[key_table.DIRECTORY_SIZE]),
    )
    sections = header[_SECTION_FIELDS].copy()
    regions_end = key_table.REGIONS_AT + int(old[key_table.REGION_END]) * key_table.REGION_FIELDS
    header[:regions_end] = old[:regions_end]
    header[_SECTION_FIELDS] = sections
    n_links = int(old[key_table.CHUNK_END]) * key_table.CHUNK_FIELDS
    source, target = int(old[key_table.CHUNKS_AT]), int(header[key_table.CHUNKS_AT])
    header[target : target + n_links] = old[source : source + n_links]
    key_table.relist(header)
    return header


def region_at(region: Any) -> Any:
    """Return the index in the header of the fields of a region, or of each of many."""
    return key_table.REGIONS_AT + region * key_table.REGION_FIELDS


def fields_of(header: Header, regions: Header, field: int) -> Header:
    """Return one field of each region (int64[n])."""
    values: Header = header[region_at(regions) + field]
    return values


def times_outside(header: Header, times: Header) -> ValueError:
    """Return the error for event times that are too close to the ends of int64."""
    floor, ceiling = int(header[key_table.TIME_FLOOR]), int(header[key_table.TIME_CEILING])
    return ValueError(
        f"event times from {int(times.min())} to {int(times.max())}: outside "
        f"[{floor}, {ceiling}], the supported range; is the column's unit right?"
    )


def kept_capacity(capacity: int, needed: int) -> int:
    """Return the size of an arena after packing: unchanged unless it is far too large."""
    return capacity if needed <= capacity <= 4 * needed else needed
