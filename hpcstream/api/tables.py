"""The table side of `Stream.join_table`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pyarrow as pa

from hpcstream.connectors.files.source import FileSource
from hpcstream.connectors.formats.csv.format import CsvFormat, csv_source
from hpcstream.connectors.formats.hdf5.format import hdf5_source
from hpcstream.connectors.formats.ipc.format import IpcFormat, ipc_source
from hpcstream.connectors.formats.json.format import JsonFormat, json_source
from hpcstream.connectors.formats.parquet.format import ParquetFormat, parquet_source
from hpcstream.errors import ConnectorError, PlanError
from hpcstream.graph.logical import Node, OperatorNode

Names = str | Sequence[str]

_READERS: tuple[tuple[tuple[str, ...], Callable[..., FileSource]], ...] = (
    (ParquetFormat.extensions, parquet_source),
    (CsvFormat.extensions, csv_source),
    (IpcFormat.extensions, ipc_source),
    (JsonFormat.extensions, json_source),
    ((".h5", ".hdf5"), hdf5_source),
)
_ROWS_AT_ONCE = 1 << 20


def join_table(
    node: Node,
    ranks: tuple[int, ...] | None,
    table: pa.Table | str | Path,
    left_on: Names,
    right_on: Names,
    *,
    how: str,
    suffix: str,
) -> OperatorNode:
    """Return the node that enriches ``node`` from a table."""
    from hpcstream.operators.joins.table_join import table_join
    from hpcstream.operators.joins.table_spec import JoinTableSpec

    held = _load(table)
    join = table_join(held, left_on, right_on, how, suffix)  # type: ignore[arg-type]
    path = os.fspath(table) if isinstance(table, str | Path) else ""
    return OperatorNode.of(JoinTableSpec(join, path=path), node, ranks=ranks)


def _load(table: pa.Table | str | Path) -> pa.Table:
    if isinstance(table, pa.Table):
        return table
    if isinstance(table, pa.RecordBatch):
        return pa.Table.from_batches([table])
    if not isinstance(table, str | Path):
        raise PlanError(
            "join_table(): needs a pyarrow.Table or the path of a file, got "
            f"{type(table).__name__}; "
            "pa.Table.from_pandas(frame, preserve_index=False) makes a table of a data frame"
        )
    for endings, make in _READERS:
        if str(table).lower().endswith(endings):
            try:
                return _read(make(table))
            except ConnectorError as error:
                raise ConnectorError(f"join_table: cannot read the table: {error}") from error
    known = ", ".join(endings[0] for endings, _ in _READERS)
    raise PlanError(f"join_table: {str(table)!r} ends in none of {known}")


def _read(source: FileSource) -> pa.Table:
    """Return all rows of a source, with the types and nulls that a stream of it has."""
    batches = []
    for split in source.list_splits():
        with closing(source.open(split)) as reader:
            while (chunk := reader.read(_ROWS_AT_ONCE)) is not None:
                batches.append(chunk.batch)
    return pa.Table.from_batches(batches, source.schema)
