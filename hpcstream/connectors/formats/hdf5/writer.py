"""Writes the files of `write_hdf5`: a table in one group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from hpcstream.connectors.formats.hdf5.columns import (
    MASK_OF,
    OLD_MASK,
    SCHEMA,
    ColumnEntry,
    Values,
    dataset_layout,
    layout,
    schema_text,
    to_values,
    unused,
)
from hpcstream.connectors.formats.part_format import PartFormat, PartWriter

_CHUNK_BYTES = 1 << 20
_CHUNK_ROWS = 65_536


@dataclass(frozen=True)
class Hdf5Parts(PartFormat):
    """`PartFormat` of HDF5; ``compression`` is None, ``"gzip"`` or ``"lzf"``.

    A part is kept in memory until it is closed.
    """

    table: str = "/"
    compression: str | None = None
    extension = "h5"

    def open(self, where: Any, schema: pa.Schema) -> Hdf5Writer:
        """Return a writer to a file object."""
        return Hdf5Writer(where, schema, self)


class Hdf5Writer(PartWriter):
    """Writes one file, which gets its bytes when it is closed."""

    def __init__(self, where: Any, schema: pa.Schema, options: Hdf5Parts) -> None:
        import h5py

        self._where = where
        self._entries = layout(schema)
        self._compression = options.compression
        self._file = h5py.File.in_memory()
        self._group = self._file.require_group(options.table)
        self._n_rows = 0
        self._n_bytes = 0
        for entry in self._entries:
            dtype, sizes = dataset_layout(entry.field.type)
            self._create(entry.dataset, (0, *sizes), dtype)

    @property
    def kept_bytes(self) -> int:
        """Bytes of the rows so far."""
        return self._n_bytes

    def _create(self, name: str, shape: tuple[int, ...], dtype: Any, **options: Any) -> Any:
        sizes = [max(size, 1) for size in shape[1:]]
        row_bytes = dtype.itemsize
        for size in sizes:
            row_bytes *= size
        return self._group.create_dataset(
            name,
            shape=shape,
            maxshape=(None, *(size or None for size in shape[1:])),  # no size: chunks have one
            dtype=dtype,
            chunks=(max(1, min(_CHUNK_BYTES // row_bytes, _CHUNK_ROWS)), *sizes),
            compression=self._compression,
            **options,
        )

    def write_table(self, table: pa.Table) -> None:
        """Append rows."""
        start, stop = self._n_rows, self._n_rows + table.num_rows
        for i, entry in enumerate(self._entries):
            column = table.column(i).combine_chunks()
            values, masks, has_nul = to_values(column)
            self._append(entry.dataset, values, start, stop)
            for depth, mask in enumerate(masks):
                self._append_mask(entry, depth, mask, (start, *values.shape[1 : depth + 1]), stop)
            entry.has_nul = entry.has_nul or has_nul
            self._n_bytes += column.nbytes
        self._n_rows = stop

    def _append_mask(
        self, entry: ColumnEntry, depth: int, mask: Values | None, shape: tuple[int, ...], stop: int
    ) -> None:
        """Append validity, from the first null on; ``shape`` is that of the earlier rows."""
        name = entry.masks[depth]
        if name is None:
            if mask is None:
                return
            wanted = entry.dataset + OLD_MASK + (f"-{depth}" if depth else "")
            name = entry.masks[depth] = unused(wanted, self._group)
            dataset = self._create(name, shape, np.dtype(np.uint8), fillvalue=1)
            dataset.attrs[MASK_OF] = entry.dataset
        self._append(name, mask, shape[0], stop)

    def _append(self, name: str, values: Values | None, start: int, stop: int) -> None:
        """Append rows to a dataset; None: its fill value."""
        dataset = self._group[name]
        dataset.resize(stop, axis=0)
        if values is not None and values.size:
            dataset[start:stop] = values

    def close(self) -> None:
        """Complete the file."""
        if self._file:
            self._group.attrs[SCHEMA] = schema_text(self._entries)
            self._file.flush()
            image = self._file.id.get_file_image()
            self._file.close()
            self._where.write(image)
