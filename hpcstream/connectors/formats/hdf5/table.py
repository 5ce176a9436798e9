"""A table in an open HDF5 file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pyarrow as pa

from hpcstream.connectors.files.listing import unreadable
from hpcstream.connectors.formats.hdf5.finding import columns_of
from hpcstream.connectors.formats.hdf5.paths import paths_named
from hpcstream.connectors.formats.hdf5.storage import check_filters, check_sources
from hpcstream.connectors.formats.hdf5.stored import TableSpec
from hpcstream.connectors.scan import plain_schema
from hpcstream.errors import ConnectorError, PlanError


class Hdf5Table:
    """The columns of a table in an open file.

    Parameters
    ----------
    only : sequence of str, optional
        The wanted columns; default: all.

    Raises
    ------
    ConnectorError
        No such table, or one that cannot be read.
    """

    def __init__(self, file: Any, spec: TableSpec, only: Sequence[str] | None = None) -> None:
        self._path = str(file.filename)
        self._file, self._spec = file, spec
        self.columns = columns_of(file, spec, only)
        schema = pa.schema([(name, column.type) for name, column in self.columns.items()])
        self.schema = plain_schema(schema, self._path)

    def n_rows(self) -> int:
        """Return the rows of the table.

        Raises
        ------
        ConnectorError
            The columns differ in length.
        """
        lengths = {name: int(column.datasets[0].shape[0]) for name, column in self.columns.items()}
        if len(set(lengths.values())) > 1:
            raise ConnectorError(
                f"{self._path!r}: datasets differ in length: {lengths}; name those of one length "
                "with columns=, or another group with table="
            )
        return next(iter(lengths.values()))

    def check_filters(self) -> None:
        """Raise `ConnectorError` for a dataset that is compressed by an unknown filter."""
        for dataset in self._datasets():
            check_filters(dataset)

    def rows_of(self, n_bytes: int) -> int:
        """Return the number of rows of this many bytes, at least one; whole chunks if possible."""
        widest, row_bytes = None, 1
        most = 0
        for column in self.columns.values():
            dataset = column.datasets[0]
            own = dataset.id.get_type().get_size() * math.prod(dataset.shape[1:])
            row_bytes += own
            if own > most:
                widest, most = dataset, own
        rows = max(1, n_bytes // row_bytes)
        step = widest.chunks[0] if widest is not None and widest.chunks else 1
        return int(max(rows // step * step, min(step, rows)))

    def check_event_time(self) -> None:
        """Raise `PlanError` if event time is not a column, but another dataset of the file."""
        wanted = self._spec.event_time
        if wanted is None or wanted in self.columns:
            return
        paths = paths_named(self._file, wanted)
        if paths:
            others = {name: str(column.datasets[0].name) for name, column in self.columns.items()}
            said = f"columns={ {wanted: paths[0], **others} }" if len(others) < 8 else "columns="
            raise PlanError(
                f"{self._path!r}: event_time {wanted!r} is no column of the table, but is at "
                f"{', '.join(paths)}; name all columns by path, as in {said}"
            )

    def check_storage(self) -> None:
        """Raise `ConnectorError` for a dataset whose values are not available."""
        self.check_filters()
        for dataset in self._datasets():
            check_sources(dataset)

    def _datasets(self) -> list[Any]:
        return [dataset for column in self.columns.values() for dataset in column.datasets]

    def read(self, names: Sequence[str], start: int, length: int) -> pa.RecordBatch:
        """Return rows of some columns, at least one."""
        columns = [self.columns[name].read(start, length) for name in names]
        return pa.RecordBatch.from_arrays(columns, names=list(names))


@contextmanager
def opened(path: str, spec: TableSpec, only: Sequence[str] | None = None) -> Iterator[Hdf5Table]:
    """Open a file and its table.

    Raises
    ------
    ConnectorError
        Not a file of HDF5, or without such a table.
    """
    import h5py

    try:
        file = h5py.File(path, "r", locking=False)
    except (OSError, RuntimeError) as error:
        raise unreadable(path, "HDF5", error) from error
    with file:
        yield Hdf5Table(file, spec, only)
