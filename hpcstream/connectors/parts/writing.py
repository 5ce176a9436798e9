"""Writes rows to part files of bounded size, under hidden names."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass

import pyarrow as pa

from hpcstream.connectors.base import OutputPart
from hpcstream.connectors.coalesce import BLOCK_BYTES, Coalescer
from hpcstream.connectors.files.listing import native
from hpcstream.connectors.formats.part_format import PartFormat, PartWriter
from hpcstream.connectors.parts import directory as part_directory
from hpcstream.connectors.parts.output import PartOutput
from hpcstream.errors import ConnectorError


@dataclass(frozen=True)
class PartLimits:
    """When a new part is begun.

    Attributes
    ----------
    max_rows, max_bytes : int, optional
        At this many rows (exactly), or bytes written (about).

    Raises
    ------
    ValueError
        A limit is less than 1.
    """

    max_rows: int | None = None
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        for name, limit in (("max_rows", self.max_rows), ("max_bytes", self.max_bytes)):
            if limit is not None and limit < 1:
                raise ValueError(f"{name} must be at least 1, got {limit}")

    @property
    def block_bytes(self) -> int:
        """Bytes of rows that are written at a time."""
        return min(BLOCK_BYTES, self.max_bytes or BLOCK_BYTES)


@dataclass
class _OpenPart:
    """The part that is being written."""

    name: str
    temporary: str
    file: pa.NativeFile
    writer: PartWriter
    n_rows: int = 0

    @property
    def n_bytes(self) -> int:
        """Bytes written, or kept by a writer that writes them when it is closed."""
        kept = self.writer.kept_bytes
        return int(self.file.tell()) if kept is None else kept


class PartsWriter:
    """Writes the rows of one rank, part after part.

    Parameters
    ----------
    output : PartOutput
    part_format : PartFormat
    schema : pa.Schema
    limits : PartLimits
    sequence : int
        Of the next part.
    wrote_any : bool
        Whether the rank has written a part already, before a restart.

    Attributes
    ----------
    sequence, wrote_any
        As they are now.
    """

    def __init__(
        self,
        output: PartOutput,
        part_format: PartFormat,
        schema: pa.Schema,
        limits: PartLimits,
        *,
        sequence: int,
        wrote_any: bool,
    ) -> None:
        self._output = output
        self._format = part_format
        self._schema = schema
        self._limits = limits
        self.sequence = sequence
        self.wrote_any = wrote_any
        self._coalescer = Coalescer(schema, limits.block_bytes)
        self._part: _OpenPart | None = None
        self._finished: list[OutputPart] = []
        self._uncommitted: set[str] = set()

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows to the current part; many small batches become one block of it."""
        block = self._coalescer.add(batch)
        if block is not None:
            self._write_block(block)

    def finish(self, *, at_least_one: bool) -> list[OutputPart]:
        """Close and fsync the current part; return those finished since the last time.

        ``at_least_one``: write a part without rows if there never was one.
        """
        self._flush()
        if at_least_one and not self.wrote_any:
            self._open_part()
        self._finish_part()
        return self._take_finished()

    def set_aside(self) -> Callable[[], list[OutputPart]]:
        """Begin a new part; the function returned does what `finish` does for those so far."""
        self._flush()
        part, self._part = self._part, None
        finished = self._take_finished()

        def make_durable() -> list[OutputPart]:
            return finished if part is None else [*finished, self._closed(part)]

        return make_durable

    def note_committed(self, temporary_names: Collection[str]) -> None:
        """Note which parts this rank need not remove any more."""
        self._uncommitted.difference_update(temporary_names)

    def abort(self) -> None:
        """Remove what was written and not committed."""
        if self._part is not None:
            for opened in (self._part.writer, self._part.file):
                with suppress(OSError, ValueError, pa.ArrowException):
                    opened.close()
            self._part = None
        self._output.remove(self._uncommitted)
        self._uncommitted = set()

    def _flush(self) -> None:
        block = self._coalescer.flush()
        if block is not None:
            self._write_block(block)

    def _take_finished(self) -> list[OutputPart]:
        finished, self._finished = self._finished, []
        return finished

    def _write_block(self, block: pa.Table) -> None:
        """Write a block, over several parts if it exceeds ``max_rows``."""
        max_rows = self._limits.max_rows
        while block.num_rows:
            part = self._part or self._open_part()
            room = block.num_rows if max_rows is None else max_rows - part.n_rows
            rows = block.slice(0, room)
            try:
                part.writer.write_table(rows)
            except (OSError, pa.ArrowException) as error:
                raise self._failed(part.temporary, error) from error
            part.n_rows += rows.num_rows
            block = block.slice(rows.num_rows)
            if self._is_full(part):
                self._finish_part()

    def _is_full(self, part: _OpenPart) -> bool:
        max_rows, max_bytes = self._limits.max_rows, self._limits.max_bytes
        if max_rows is not None and part.n_rows >= max_rows:
            return True
        return max_bytes is not None and part.n_bytes >= max_bytes

    def _open_part(self) -> _OpenPart:
        output = self._output
        name = part_directory.part_name(self.sequence, output.rank, self._format.extension)
        temporary = output.temporary_name(name)
        self.sequence += 1
        self.wrote_any = True
        self._uncommitted.add(temporary)
        try:
            path = output.path(temporary)
            part_directory.create(path)
            file = pa.OSFile(native(path), "wb")
            writer = self._format.open(file, self._schema)
        except (OSError, pa.ArrowException) as error:
            raise self._failed(temporary, error) from error
        self._part = _OpenPart(name, temporary, file, writer)
        return self._part

    def _finish_part(self) -> None:
        part = self._part
        if part is not None:
            finished = self._closed(part)
            self._part = None
            self._finished.append(finished)

    def _closed(self, part: _OpenPart) -> OutputPart:
        path = self._output.path(part.temporary)
        try:
            part.writer.close()
            part.file.close()
            part_directory.sync_file(path)
            n_bytes = os.path.getsize(path)
        except (OSError, pa.ArrowException) as error:
            raise self._failed(part.temporary, error) from error
        return {
            "name": part.name,
            "temporary": part.temporary,
            "rank": self._output.rank,
            "rows": part.n_rows,
            "bytes": n_bytes,
        }

    def _failed(self, name: str, error: Exception) -> ConnectorError:
        return ConnectorError(f"cannot write {name!r} in {self._output.directory!r}: {error}")
