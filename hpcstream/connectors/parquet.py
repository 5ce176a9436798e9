"""Parquet files: a split is a file's row group (or a few small ones)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import cast

import pyarrow as pa
import pyarrow.parquet as pq

from hpcstream.connectors.base import JSON, Split, SplitReader
from hpcstream.connectors.file_source import FileListing, FileSource
from hpcstream.connectors.files import Paths, unreadable
from hpcstream.connectors.scan import Scan, plain_schema, relabel
from hpcstream.connectors.slicing import BatchReader, SkippedReader
from hpcstream.connectors.time_bounds import Bounds, bounds_of_statistics, merged
from hpcstream.errors import ConnectorError

SMALL_SPLIT_ROWS = 131_072
"""Consecutive row groups are joined to a split until it has this many rows."""


def ParquetSource(
    paths: Paths,
    *,
    event_time: str | None = None,
    unit: str | None = None,
    dictionary_columns: Sequence[str] = (),
) -> FileSource:
    """Return a source of Parquet files.

    Reads only the columns asked for, skips row groups whose statistics exclude the
    filter, and takes event-time bounds from the statistics.

    Parameters
    ----------
    paths : path, glob, directory or list of these
    event_time : str, optional
        Column of event time.
    unit : str, optional
        Its unit, if it is int64.
    dictionary_columns : sequence of str
        String columns of few distinct values to be read as dictionaries: about twice as
        fast, and their type is then a dictionary.
    """
    parquet = ParquetFormat(tuple(dictionary_columns))
    return FileSource(paths, parquet, event_time=event_time, unit=unit)


class ParquetFormat:
    """`FileFormat` of Parquet; ``dictionary_columns`` as in `ParquetSource`."""

    name = "parquet"
    extensions = (".parquet", ".pq")

    def __init__(self, dictionary_columns: tuple[str, ...] = ()) -> None:
        self._dictionary_columns = dictionary_columns

    def read_schema(self, path: str) -> pa.Schema:
        """Return the schema in a file's footer."""
        with self._open(path) as file:
            return plain_schema(_arrow_schema(file, path), path)

    def list_file(self, path: str, schema: pa.Schema, event_time: str | None) -> FileListing:
        """Return schema and splits from the footer alone."""
        with self._open(path) as file:
            found = plain_schema(_arrow_schema(file, path), path)
            known = event_time in found.names
            groups = [
                (meta.num_rows, _bounds(meta, found, event_time) if known else (None, None))
                for meta in map(file.metadata.row_group, range(file.metadata.num_row_groups))
            ]
        return FileListing(found, _splits(path, groups))

    def open(self, split: Split, scan: Scan, position: int) -> SplitReader:
        """Return a reader that streams the split's row groups."""
        path, first, stop = (split.info[key] for key in ("path", "first", "stop"))
        row_groups = list(range(cast("int", first), cast("int", stop)))
        if _excluded(cast("str", path), row_groups, scan):
            return SkippedReader(scan.schema, split.n_rows or 0, position)

        def batches(max_rows: int) -> Iterator[pa.RecordBatch]:
            with self._open(cast("str", path)) as file:
                yield from _read(file, cast("str", path), row_groups, scan, max_rows)

        return BatchReader(batches, scan, position)

    def _open(self, path: str) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(
                path,
                memory_map=True,
                pre_buffer=False,
                read_dictionary=self._dictionary_columns or None,
            )
        except KeyError as error:  # how Arrow says it
            raise ConnectorError(
                f"{path!r} has no column {error.args[0].decode()!r}, named in dictionary_columns"
            ) from error
        except (OSError, pa.ArrowException) as error:
            raise unreadable(path, "Parquet", error) from error


def _arrow_schema(file: pq.ParquetFile, path: str) -> pa.Schema:
    try:
        return file.schema_arrow
    except (OSError, pa.ArrowException) as error:
        raise ConnectorError(f"{path!r}: its schema has no Arrow form ({error})") from error


def _bounds(meta: pq.RowGroupMetaData, schema: pa.Schema, event_time: str | None) -> Bounds:
    for i in range(meta.num_columns):
        column = meta.column(i)
        if column.path_in_schema == event_time:
            return bounds_of_statistics(column.statistics, schema.field(event_time).type)
    return None, None


def _splits(path: str, groups: list[tuple[int, Bounds]]) -> list[Split]:
    """Join small neighbours; one that says no bounds leaves the whole split without."""
    splits: list[Split] = []
    first, n_rows, known = 0, 0, True
    bounds: Bounds = (None, None)
    for i, (rows, own) in enumerate(groups):
        n_rows += rows
        bounds = merged(bounds, own)
        known = known and (own[0] is not None or rows == 0)
        if n_rows and (n_rows >= SMALL_SPLIT_ROWS or i + 1 == len(groups)):
            least, largest = bounds if known else (None, None)
            info: dict[str, JSON] = {"path": path, "first": first, "stop": i + 1}
            splits.append(Split(_split_id(path, first, i + 1), info, n_rows, least, largest))
            first, n_rows, bounds, known = i + 1, 0, (None, None), True
    return splits


def _split_id(path: str, first: int, stop: int) -> str:
    return f"{path}#rg{first}" if stop - first == 1 else f"{path}#rg{first}-{stop - 1}"


def _read(
    file: pq.ParquetFile, path: str, row_groups: list[int], scan: Scan, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    schema, columns = scan.read_schema, scan.read_columns
    done = 0
    try:
        for batch in file.iter_batches(
            batch_rows, row_groups=row_groups, columns=columns, use_threads=False
        ):
            yield relabel(batch.select(columns), schema)
            done += batch.num_rows
    except (OSError, pa.ArrowException) as error:
        raise ConnectorError(
            f"{path!r}: cannot decode row group {_group_at(file, row_groups, done)} after "
            f"{done} rows of the split; damaged or changed while it was read? ({error})"
        ) from error


def _group_at(file: pq.ParquetFile, row_groups: list[int], n_rows: int) -> int:
    """Return the row group that holds row number ``n_rows`` of the split."""
    for group in row_groups:
        n_rows -= file.metadata.row_group(group).num_rows
        if n_rows < 0:
            return group
    return row_groups[-1]


def _excluded(path: str, row_groups: list[int], scan: Scan) -> bool:
    """Whether statistics prove that no row matches.

    Statistics leave NaN out, for which ``!=`` and ``not >=`` are true, so filters on
    floats prove nothing.
    """
    if scan.predicate is None:
        return False
    types = [scan.full_schema.field(name).type for name in scan.predicate_columns]
    if any(pa.types.is_floating(t) or pa.types.is_nested(t) for t in types):
        return False
    from pyarrow import dataset, fs

    try:
        fragment = dataset.ParquetFileFormat().make_fragment(
            path, fs.LocalFileSystem(), row_groups=row_groups
        )
        return not fragment.subset(filter=scan.predicate, schema=scan.full_schema).row_groups
    except (OSError, pa.ArrowException) as error:
        raise ConnectorError(f"{path!r}: cannot read its statistics ({error})") from error
