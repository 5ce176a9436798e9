"""A source of files: listing, schema check, projection and filter for all formats."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.connectors.base import JSON, Source, Split, SplitReader, row_position
from hpcstream.connectors.files.file_format import FileFormat
from hpcstream.connectors.files.fingerprint import FileFingerprint, fingerprint_of
from hpcstream.connectors.files.listing import Paths, as_patterns, first_file, left_out, list_files
from hpcstream.connectors.files.paths import real_pattern
from hpcstream.connectors.scan import Scan, check_event_time, first_difference
from hpcstream.errors import ConnectorError
from hpcstream.log import warn


class FileSource(Source):
    """Files of one format and one schema, read as a source.

    Parameters
    ----------
    paths : path, glob, directory or list of these
    file_format : FileFormat
    event_time : str, optional
        Column whose bounds the splits should have.
    unit : str, optional
        Of an int64 ``event_time``.
    schema : pa.Schema, optional
        Of the files; read from the first one if not given.

    Raises
    ------
    ConnectorError
        No such file, or it cannot be read.
    PlanError
        ``event_time`` is no column that carries time.
    """

    def __init__(
        self,
        paths: Paths,
        file_format: FileFormat,
        *,
        event_time: str | None = None,
        unit: str | None = None,
        schema: pa.Schema | None = None,
    ) -> None:
        self._patterns = as_patterns(paths)
        self._format = file_format
        self.bounded = file_format.bounded
        self._event_time = event_time
        self._is_given = schema is not None
        if schema is None:
            schema = file_format.read_schema(first_file(self._patterns, file_format.extensions))
        check_event_time(schema, event_time, unit)
        self._scan = Scan.of(schema)

    @property
    def schema(self) -> pa.Schema:
        """Of the batches delivered."""
        return self._scan.schema

    @property
    def patterns(self) -> tuple[str, ...]:
        """The paths, globs and directories given."""
        return self._patterns

    @property
    def extensions(self) -> tuple[str, ...]:
        """Names that count when a directory was given."""
        return self._format.extensions

    def files(self) -> list[str]:
        """Return the files that it reads. Raises `ConnectorError` if there are none."""
        return list_files(self._patterns, self._format.extensions)

    def directories(self) -> list[str]:
        """Return where the files are. Raises `ConnectorError` if there are none."""
        return sorted({os.path.dirname(os.path.realpath(path)) for path in self.files()})

    @property
    def kind(self) -> str:
        """The method that reads the files, without their paths."""
        return f"read_{self._format.name}"

    @property
    def call(self) -> str:
        """Return the call that makes this source, its paths as they were given."""
        return f"{self.kind}({', '.join(map(repr, self._patterns))})"

    def identity(self) -> str:
        """Return what is read: the same for all spellings of the paths."""
        return f"{self.kind}({', '.join(repr(real_pattern(p)) for p in self._patterns)})"

    def describe(self) -> str:
        """Return the call that makes this source, with columns and filter."""
        return ", ".join(filter(None, [self.call, self._scan.describe()]))

    def identified(self, splits: Sequence[Split]) -> list[Split]:
        """Return splits with the fingerprints of their files, so that changes can be detected.

        Not those of files that grow. Reads some blocks of each file.
        """
        if not self.bounded:
            return list(splits)
        fingerprints: dict[str, FileFingerprint] = {}
        found = []
        for split in splits:
            path = str(split.info["path"])
            if path not in fingerprints:
                fingerprints[path] = fingerprint_of(path)
            found.append(replace(split, info={**split.info, "file": fingerprints[path]}))
        return found

    def list_splits(self) -> list[Split]:
        """Return the splits of all files: by first event time if all are known, else by path.

        Warns of files in a directory that are not read because of their names.
        """
        for sentence in left_out(self._patterns, self._format.extensions):
            warn(sentence)
        first = None
        splits: list[Split] = []
        for path in self.files():
            first = first or path
            listing = self._format.list_file(path, self._scan.full_schema, self._event_time)
            difference = first_difference(self._scan.full_schema, listing.schema)
            if difference:
                raise self._other_schema(path, first, difference)
            splits += listing.splits
        if all(split.first_time is not None for split in splits):
            splits.sort(key=lambda split: split.first_time or 0)
        return splits

    def _other_schema(self, path: str, first: str, difference: str) -> ConnectorError:
        if self._is_given:
            return ConnectorError(
                f"{path!r} does not have the columns of schema=, which is to name them all: "
                f"{difference}; column_types= says the types of some"
            )
        return ConnectorError(
            f"{path!r} does not have the schema of {first!r}: {difference}; "
            "files of one source must agree: convert it, or read it apart and union"
        )

    def open(self, split: Split, position: JSON = None) -> SplitReader:
        """Return a reader of ``split`` from row ``position`` on."""
        return self._format.open(split, self._scan, row_position(position))

    def project(self, columns: Sequence[str]) -> FileSource:
        """Return a source of these columns only."""
        return self._with(self._scan.project(columns))

    def filter(self, predicate: pc.Expression) -> FileSource:
        """Return a source of the matching rows only."""
        return self._with(self._scan.filter(predicate))

    def _with(self, scan: Scan) -> FileSource:
        other = copy.copy(self)
        other._scan = scan
        return other
