"""The sources of files that a `hpcstream.Job` begins with. A format is loaded when it is read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Never

from hpcstream.api.misuse import refuse_unknown_options
from hpcstream.api.stream import Stream
from hpcstream.calls import answers_wrong_calls
from hpcstream.columns.event_time import Duration, parse_duration
from hpcstream.columns.types.given import SchemaLike, TypesByName
from hpcstream.connectors.base import Source
from hpcstream.connectors.files.split_sizes import IPC_SPLIT_ROWS, TEXT_BLOCK_BYTES

Paths = str | Path | Sequence[str | Path]
_TIME_OPTIONS = ("event_time", "watermark_delay", "event_time_unit")


@answers_wrong_calls
class FileReading(ABC):
    """Methods ``read_<format>``; `_source` makes a stream of what they find."""

    @abstractmethod
    def _source(
        self,
        source: Source,
        column: str | None,
        watermark_delay: Duration,
        unit: str | None,
        idle_timeout: Duration | None = None,
    ) -> Stream:
        """Return the stream of a source."""

    def read_parquet(
        self,
        paths: Paths,
        *,
        event_time: str | None = None,
        watermark_delay: Duration = "0s",
        event_time_unit: str | None = None,
        dictionary_columns: Sequence[str] = (),
        int96_unit: str = "us",
        **unknown: Never,
    ) -> Stream:
        """Read Parquet files; each row group is a split of its own.

        Checksums of pages are verified where a file has them.

        Parameters
        ----------
        paths : path, glob, directory or list of these
        event_time : str, optional
            Column that says when a row happened: timestamp, date or int64.
        watermark_delay : str or datetime.timedelta
            How far out of order rows may be; later ones are late.
        event_time_unit : str, optional
            What an int64 ``event_time`` counts: ``"ns"``, ``"us"``, ``"ms"``, ``"s"``.
        dictionary_columns : sequence of str
            String columns of few distinct values to be read as dictionaries: about twice as
            fast, and their type is then a dictionary.
        int96_unit : {"us", "ns"}
            Unit of times stored as INT96 (Spark, Impala, Hive). A time that the unit does
            not hold ends the job.

        Raises
        ------
        ConnectorError
            No such file, or not a readable Parquet file.
        PlanError
            No such column, or it cannot be event time.
        """
        options: dict[str, Any] = {"dictionary_columns": dictionary_columns}
        options["int96_unit"] = int96_unit
        _refuse_unknown("read_parquet", unknown, options)
        from hpcstream.connectors.formats.parquet.format import parquet_source

        source = parquet_source(paths, event_time=event_time, unit=event_time_unit, **options)
        return self._source(source, event_time, watermark_delay, event_time_unit)

    def read_ipc(
        self,
        paths: Paths,
        *,
        event_time: str | None = None,
        watermark_delay: Duration = "0s",
        event_time_unit: str | None = None,
        split_rows: int = IPC_SPLIT_ROWS,
        **unknown: Never,
    ) -> Stream:
        """Read Arrow IPC files, memory-mapped; other arguments as for `read_parquet`.

        Parameters
        ----------
        split_rows : int
            Rows, about, that a rank takes at a time.
        """
        _refuse_unknown("read_ipc", unknown, ["split_rows"])
        from hpcstream.connectors.formats.ipc.format import ipc_source

        source = ipc_source(
            paths, event_time=event_time, unit=event_time_unit, split_rows=split_rows
        )
        return self._source(source, event_time, watermark_delay, event_time_unit)

    def read_csv(
        self,
        paths: Paths,
        *,
        event_time: str | None = None,
        watermark_delay: Duration = "0s",
        event_time_unit: str | None = None,
        schema: SchemaLike | None = None,
        column_types: TypesByName | None = None,
        delimiter: str = ",",
        header: bool = True,
        column_names: Sequence[str] = (),
        null_values: Sequence[str] | None = None,
        newlines_in_values: bool = False,
        encoding: str = "utf-8",
        block_bytes: int = TEXT_BLOCK_BYTES,
        **unknown: Never,
    ) -> Stream:
        """Read CSV files, compressed ones included; other arguments as for `read_parquet`.

        Parameters
        ----------
        schema : pa.Schema or types by name, optional
            All columns and their types. If not given, names come from the header and types
            from the first block of the first file: say what it cannot know.
        column_types : mapping of str to a type or its name, optional
            Types of some columns, the others being inferred.
        delimiter : str
            One character between fields.
        header : bool
            Whether the first line of each file names the columns.
        column_names : sequence of str
            Names of the columns, in place of those in the header if there is one. Without a
            header the default is those of ``schema``, else f0, f1, ...; an empty name in a
            header becomes such a number, too.
        null_values : sequence of str, optional
            Spellings of null, in every column, quoted or not. By default an empty field is
            null and a quoted empty one an empty text; in columns of other types than text
            NA, N/A, NULL and the like are null, too. NaN is a number.
        newlines_in_values : bool
            Whether a quoted value may hold a line break. If not, one in a file longer than
            ``block_bytes`` is an error, because a quote that is missing looks the same.
        encoding : str
            Of the files, as ``"latin-1"``; Python's names.
        block_bytes : int
            Bytes read at a time; a row must be shorter.
        """
        options: dict[str, Any] = {
            "schema": schema,
            "column_types": column_types or {},
            "delimiter": delimiter,
            "header": header,
            "column_names": column_names,
            "null_values": null_values,
            "newlines_in_values": newlines_in_values,
            "encoding": encoding,
            "block_bytes": block_bytes,
        }
        _refuse_unknown("read_csv", unknown, options)
        from hpcstream.connectors.formats.csv.format import csv_source

        source = csv_source(paths, event_time=event_time, unit=event_time_unit, **options)
        return self._source(source, event_time, watermark_delay, event_time_unit)

    def read_json(
        self,
        paths: Paths,
        *,
        event_time: str | None = None,
        watermark_delay: Duration = "0s",
        event_time_unit: str | None = None,
        schema: SchemaLike | None = None,
        column_types: TypesByName | None = None,
        encoding: str = "utf-8",
        block_bytes: int = TEXT_BLOCK_BYTES,
        **unknown: Never,
    ) -> Stream:
        """Read newline-delimited JSON files; other arguments as for `read_parquet`.

        Parameters
        ----------
        schema : pa.Schema or types by name, optional
            The fields to read; others are ignored. If not given, the fields are those of the
            first block of the first file, and a later one is an error. A field that a line
            lacks is null.
        column_types : mapping of str to a type or its name, optional
            Types of some fields, the others being inferred; one that the first block lacks
            is read all the same.
        encoding : str
            Of the files; Python's names.
        block_bytes : int
            Bytes read at a time; a line must be shorter.
        """
        options: dict[str, Any] = {
            "schema": schema,
            "column_types": column_types,
            "encoding": encoding,
            "block_bytes": block_bytes,
        }
        _refuse_unknown("read_json", unknown, options)
        from hpcstream.connectors.formats.json.format import json_source

        source = json_source(paths, event_time=event_time, unit=event_time_unit, **options)
        return self._source(source, event_time, watermark_delay, event_time_unit)

    def read_hdf5(
        self,
        paths: Paths,
        *,
        table: str = "/",
        columns: Mapping[str, str] | None = None,
        event_time: str | None = None,
        watermark_delay: Duration = "0s",
        event_time_unit: str | None = None,
        follow: Duration | None = None,
        **unknown: Never,
    ) -> Stream:
        """Read HDF5 files; other arguments as for `read_parquet`.

        Parameters
        ----------
        table : str
            Group whose datasets, of one length, are the columns, or a compound dataset,
            whose fields are. A dataset of more dimensions is a column of fixed-size lists.
        columns : mapping of str to str, optional
            Name and path of each column instead, as in ``{"frame": "/entry/data/data"}``:
            of a dataset, or of a field of a compound one. A path that does not begin with a
            slash begins at ``table``.
        event_time_unit : str, optional
            What a number in ``event_time`` counts. Floats become times, to the nearest
            microsecond.
        follow : str or timedelta, optional
            Read files that another process is still writing (in SWMR mode, see
            `hpcstream.connectors.formats.hdf5.growing`) as they grow; one that did not grow for
            so long has ended.
        """
        options: dict[str, Any] = {"table": table, "columns": columns}
        _refuse_unknown("read_hdf5", unknown, [*options, "follow"])
        options |= {"event_time": event_time, "unit": event_time_unit}
        source = _hdf5(paths, options) if follow is None else _growing(paths, follow, options)
        return self._source(source, event_time, watermark_delay, event_time_unit)


def _refuse_unknown(what: str, unknown: Iterable[str], known: Iterable[str]) -> None:
    refuse_unknown_options(what, unknown, [*known, *_TIME_OPTIONS], f"help(Job.{what})")


def _hdf5(paths: Paths, options: dict[str, Any]) -> Source:
    from hpcstream.connectors.formats.hdf5.format import hdf5_source

    return hdf5_source(paths, **options)


def _growing(paths: Paths, follow: Duration, options: dict[str, Any]) -> Source:
    from hpcstream.connectors.formats.hdf5.growing import growing_hdf5_source

    return growing_hdf5_source(paths, follow_s=parse_duration(follow) / 1e9, **options)
