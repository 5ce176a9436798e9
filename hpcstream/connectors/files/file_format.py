"""The interface of file formats that can be read.

::

    read_schema(path)                    of the first file
    list_file(path, ...)                 of each file: its splits
    open(split, scan, position)          a reader of one split
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import ClassVar, NamedTuple, cast

import pyarrow as pa

from hpcstream.connectors.base import Split, SplitReader
from hpcstream.connectors.files.slicing import BatchReader
from hpcstream.connectors.scan import Scan


class FileListing(NamedTuple):
    """What is in one file: its schema (see `scan.plain_schema`) and its splits in file order."""

    schema: pa.Schema
    splits: list[Split]


class FileFormat(ABC):
    """How files of one format are read.

    Attributes
    ----------
    name : str
        As in ``read_<name>``.
    extensions : tuple of str
        Names of files that count when a directory is given, as in ``(".csv",)``.
    bounded : bool
        Whether a file ends: not if it still grows.
    """

    name: ClassVar[str]
    extensions: ClassVar[tuple[str, ...]]
    bounded: ClassVar[bool] = True

    @abstractmethod
    def read_schema(self, path: str) -> pa.Schema:
        """Return the schema of a file; raises `ConnectorError`."""

    @abstractmethod
    def list_file(self, path: str, schema: pa.Schema, event_time: str | None) -> FileListing:
        """Return schema and splits of a file of a source with this ``schema``.

        The schema returned may differ; the caller then says so. Splits have bounds of
        column ``event_time`` if they are cheap to know.
        """

    @abstractmethod
    def open(self, split: Split, scan: Scan, position: int) -> SplitReader:
        """Return a reader of a split that `list_file` gave."""


class SequentialFormat(FileFormat):
    """A format whose files are read from their beginning: a split is a file."""

    def open(self, split: Split, scan: Scan, position: int) -> SplitReader:
        """Return a reader; to start at a position the rows before it are read and dropped."""
        path = cast("str", split.info["path"])
        return BatchReader(lambda max_rows: self.read_batches(path, scan), scan, position)

    @abstractmethod
    def read_batches(self, path: str, scan: Scan) -> Iterator[pa.RecordBatch]:
        """Yield the rows of a file, in ``scan.read_schema``."""
