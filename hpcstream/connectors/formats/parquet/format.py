"""Parquet files: a split is a file's row group (or a few small ones)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import pyarrow as pa
import pyarrow.parquet as pq

from hpcstream.connectors.base import JSON, Split, SplitReader
from hpcstream.connectors.files.file_format import FileFormat, FileListing
from hpcstream.connectors.files.listing import Paths, mapped_unless_utf8, unreadable
from hpcstream.connectors.files.slicing import BatchReader, SkippedReader
from hpcstream.connectors.files.source import FileSource
from hpcstream.connectors.files.time_bounds import Bounds, bounds_of_statistics, merged
from hpcstream.connectors.formats.parquet.int96 import Int96Check, check_int96_unit
from hpcstream.connectors.formats.parquet.leaves import int96_columns, refuse_intervals
from hpcstream.connectors.formats.parquet.written import restored_batch, written_schema
from hpcstream.connectors.formats.utf8 import check_utf8
from hpcstream.connectors.scan import Scan, plain_schema, relabel
from hpcstream.errors import ConnectorError

SMALL_SPLIT_ROWS = 131_072
"""Consecutive row groups are joined to a split until it has this many rows."""


def parquet_source(
    paths: Paths,
    *,
    event_time: str | None = None,
    unit: str | None = None,
    dictionary_columns: Sequence[str] = (),
    int96_unit: str = "us",
) -> FileSource:
    """Return a source of Parquet files.

    Reads only the columns asked for, skips row groups whose statistics exclude the
    filter, and takes event-time bounds from the statistics. Checksums of pages are
    verified where a file has them.

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
    int96_unit : {"us", "ns"}
        Unit of times that are stored as INT96, as Spark, Impala and Hive do. A time that
        the unit does not hold ends the job: nanoseconds end in 2262, and microseconds
        cannot hold nanoseconds.
    """
    parquet = ParquetFormat(tuple(dictionary_columns), check_int96_unit(int96_unit))
    return FileSource(paths, parquet, event_time=event_time, unit=unit)


class ParquetFormat(FileFormat):
    """`FileFormat` of Parquet; arguments as for `parquet_source`."""

    name = "parquet"
    extensions = (".parquet", ".pq")

    def __init__(self, dictionary_columns: tuple[str, ...] = (), int96_unit: str = "us") -> None:
        self._dictionary_columns = dictionary_columns
        self._int96_unit = int96_unit

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
        assert split.n_rows is not None, "list_file counts the rows"
        part = _Part(cast("str", path), row_groups, split.n_rows)
        if _excluded(part, scan, self._int96_unit):
            return SkippedReader(scan.schema, part.n_rows, position)

        def batches(max_rows: int) -> Iterator[pa.RecordBatch]:
            with self._open(part.path) as file:
                part.check(file.metadata)
                refuse_intervals(file, part.path, scan.read_columns)
                times = int96_columns(file, scan.read_columns)
                if not times:
                    yield from _read(file, part, scan, max_rows)
                    return
                other_unit = "ns" if self._int96_unit == "us" else "us"
                with self._open(part.path, other_unit) as twin:
                    check = Int96Check(twin, part.path, row_groups, times, self._int96_unit)
                    for batch in _read(file, part, scan, max_rows):
                        check.compare(batch)
                        yield batch

        return BatchReader(batches, scan, position)

    def _open(self, path: str, int96_unit: str | None = None) -> pq.ParquetFile:
        try:
            return pq.ParquetFile(
                mapped_unless_utf8(path),
                memory_map=True,
                pre_buffer=False,
                read_dictionary=self._dictionary_columns or None,
                coerce_int96_timestamp_unit=int96_unit or self._int96_unit,
                page_checksum_verification=True,
            )
        except KeyError as error:  # the text of Arrow's error
            raise ConnectorError(
                f"{path!r} has no column {error.args[0].decode()!r}, named in dictionary_columns"
            ) from error
        except (OSError, pa.ArrowException) as error:
            raise unreadable(path, "Parquet", error) from error


def _arrow_schema(file: pq.ParquetFile, path: str) -> pa.Schema:
    try:
        return written_schema(file)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ConnectorError(f"{path!r}: its schema has no Arrow form ({error})") from error


def _bounds(meta: pq.RowGroupMetaData, schema: pa.Schema, event_time: str | None) -> Bounds:
    outer = [name for name in schema.names if str(event_time).startswith(f"{name}.")]
    for i in range(meta.num_columns):
        column = meta.column(i)
        if column.path_in_schema == event_time and not outer:  # else it may be a field of a struct
            return bounds_of_statistics(column.statistics, schema.field(event_time).type)
    return None, None


def _splits(path: str, groups: list[tuple[int, Bounds]]) -> list[Split]:
    """Join small neighbours; the split has bounds if all of them have."""
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


@dataclass(frozen=True)
class _Part:
    """The row groups of a split, and their number of rows when they were listed."""

    path: str
    row_groups: list[int]
    n_rows: int

    def check(self, metadata: pq.FileMetaData) -> None:
        """Raise `ConnectorError` if the row groups of the file now have another number of rows."""
        there = [group for group in self.row_groups if group < metadata.num_row_groups]
        n_rows = sum(metadata.row_group(group).num_rows for group in there)
        if n_rows != self.n_rows:
            first, last = self.row_groups[0], self.row_groups[-1]
            raise ConnectorError(
                f"{self.path!r}: row groups {first} to {last} have {n_rows} rows, and had "
                f"{self.n_rows} when the file was listed; it was changed since"
            )


def _read(
    file: pq.ParquetFile, part: _Part, scan: Scan, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    schema, columns = scan.read_schema, scan.read_columns
    written = _arrow_schema(file, part.path)
    types = [written.field(name).type for name in columns]
    done = 0
    try:
        for batch in file.iter_batches(
            batch_rows, row_groups=part.row_groups, columns=columns, use_threads=False
        ):
            found = relabel(restored_batch(batch.select(columns), types), schema)
            check_utf8(found, f"{part.path!r} from row group {part.row_groups[0]} on", done)
            yield found
            done += batch.num_rows
    except (OSError, pa.ArrowException) as error:
        raise ConnectorError(
            f"{part.path!r}: cannot decode row group {_group_at(file, part.row_groups, done)} "
            f"after {done} rows of the split; damaged or changed while it was read? ({error})"
        ) from error
    if done != part.n_rows:
        raise ConnectorError(
            f"{part.path!r}: the footer promises {part.n_rows} rows in row groups "
            f"{part.row_groups[0]} to {part.row_groups[-1]}, their pages have {done}; the file "
            "is damaged"
        )


def _group_at(file: pq.ParquetFile, row_groups: list[int], n_rows: int) -> int:
    """Return the row group that holds row number ``n_rows`` of the split."""
    for group in row_groups:
        n_rows -= file.metadata.row_group(group).num_rows
        if n_rows < 0:
            return group
    return row_groups[-1]


def _has_no_bounds(data_type: pa.DataType) -> bool:
    is_label = isinstance(data_type, pa.BaseExtensionType)  # of which filters read what is stored
    return is_label or pa.types.is_floating(data_type) or pa.types.is_nested(data_type)


def _excluded(part: _Part, scan: Scan, int96_unit: str) -> bool:
    """Whether statistics prove that no row matches.

    Statistics leave NaN out, for which ``!=`` and ``not >=`` are true, so filters on
    floats prove nothing.
    """
    if scan.predicate is None:
        return False
    names = scan.predicate_columns
    types = [scan.full_schema.field(name).type for name in names]
    if any(_has_no_bounds(t) for t in types):
        return False
    from pyarrow import dataset, fs

    parquet = dataset.ParquetFileFormat(coerce_int96_timestamp_unit=int96_unit)
    try:
        fragment = parquet.make_fragment(
            mapped_unless_utf8(part.path), fs.LocalFileSystem(), row_groups=part.row_groups
        )
        there = fragment.physical_schema
        stored = [there.field(name).type for name in names]
        if any(map(_is_restored, stored, types)):
            return False  # statistics are in units of what is stored
        return not fragment.subset(filter=scan.predicate, schema=scan.full_schema).row_groups
    except IndexError:
        return False  # the file was changed: the reader says so
    except (OSError, pa.ArrowException) as error:
        raise ConnectorError(f"{part.path!r}: cannot read its statistics ({error})") from error


def _is_restored(stored: pa.DataType, read: pa.DataType) -> bool:
    """Whether a column is read in another type than it is stored in; text stays text."""
    if pa.types.is_dictionary(read):
        return not (pa.types.is_dictionary(stored) or pa.types.is_string(stored))
    return bool(stored != read and pa.types.is_temporal(read))
