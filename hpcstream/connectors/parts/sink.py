"""Sinks that write a directory of part files which appear all at once, when they are committed."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from hpcstream.connectors.base import Part, Sink
from hpcstream.connectors.coalesce import BLOCK_BYTES, Coalescer
from hpcstream.connectors.files.listing import local_path, native
from hpcstream.connectors.parts import directory as part_directory
from hpcstream.connectors.parts.formats import (
    CsvParts,
    IpcParts,
    ParquetParts,
    PartFormat,
    PartWriter,
    check_format,
)
from hpcstream.errors import ConnectorError

HDF5_PART_BYTES = 256 << 20

_READ_AS = {
    "parquet": (".parquet", ".pq"),
    "arrow": (".arrow", ".arrows", ".feather", ".ipc"),
    "csv": (".csv", ".csv.gz"),
    "h5": (".h5", ".hdf5"),
}
"""Endings of the files that are read as one format when a directory is given."""

Mode = Literal["overwrite", "append", "error"]


def ParquetSink(
    path: str | os.PathLike[str],
    *,
    mode: Mode = "overwrite",
    compression: str = "snappy",
    max_rows: int | None = None,
    max_bytes: int | None = None,
    **options: Any,
) -> FileSink:
    """Return a sink of Parquet parts. ``options`` go to `pyarrow.parquet.ParquetWriter`.

    See `FileSink` for the others.
    """
    parts = ParquetParts({"compression": compression, **options})
    return FileSink(path, parts, mode=mode, max_rows=max_rows, max_bytes=max_bytes)


def IpcSink(
    path: str | os.PathLike[str],
    *,
    mode: Mode = "overwrite",
    compression: str | None = None,
    max_rows: int | None = None,
    max_bytes: int | None = None,
) -> FileSink:
    """Return a sink of Arrow IPC parts; ``compression`` is None, ``"lz4"`` or ``"zstd"``.

    See `FileSink` for the others.
    """
    return FileSink(path, IpcParts(compression), mode=mode, max_rows=max_rows, max_bytes=max_bytes)


def CsvSink(
    path: str | os.PathLike[str],
    *,
    mode: Mode = "overwrite",
    delimiter: str = ",",
    header: bool = True,
    max_rows: int | None = None,
    max_bytes: int | None = None,
) -> FileSink:
    """Return a sink of CSV parts.

    See `FileSink` for the others.
    """
    parts = CsvParts(delimiter, header)
    return FileSink(path, parts, mode=mode, max_rows=max_rows, max_bytes=max_bytes)


def Hdf5Sink(
    path: str | os.PathLike[str],
    *,
    mode: Mode = "overwrite",
    table: str = "/",
    compression: str | None = None,
    max_rows: int | None = None,
    max_bytes: int = HDF5_PART_BYTES,
) -> FileSink:
    """Return a sink of HDF5 parts: in group ``table`` one dataset a column.

    ``compression`` is None, ``"gzip"`` or ``"lzf"``. A part is kept in memory until it is
    complete, so it has at most ``max_bytes`` of rows, about. See `FileSink` for the others.
    """
    from hpcstream.connectors.formats.hdf5.writer import Hdf5Parts

    parts = Hdf5Parts(table, compression)
    return FileSink(path, parts, mode=mode, max_rows=max_rows, max_bytes=max_bytes)


@dataclass
class _OpenPart:
    """The part that is being written."""

    name: str
    temporary: str
    file: pa.NativeFile
    writer: PartWriter
    n_rows: int = 0


class FileSink(Sink):
    """Writes ``part-<sequence>-<rank>.<extension>`` files to a directory, as `Sink`.

    A part is written under a hidden name, fsynced by `prepare` and renamed by `commit`.
    A rank without rows writes no part, but rank 0 always writes one, so that the
    output can be read. A hidden manifest remembers which files are ours.

    Parameters
    ----------
    path : path
        Of the directory; it is made if need be.
    part_format : PartFormat
    mode : {"overwrite", "append", "error"}
        What to do about parts of this format that are there: replace those that we wrote
        (never others), number ours after them, or refuse.
    max_rows, max_bytes : int, optional
        Start a new part at this many rows (exactly), or bytes written (about).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        part_format: PartFormat,
        *,
        mode: Mode = "overwrite",
        max_rows: int | None = None,
        max_bytes: int | None = None,
    ) -> None:
        if mode not in ("overwrite", "append", "error"):
            raise ValueError(f"mode {mode!r}: expected 'overwrite', 'append' or 'error'")
        for name, limit in (("max_rows", max_rows), ("max_bytes", max_bytes)):
            if limit is not None and limit < 1:
                raise ValueError(f"{name} must be at least 1, got {limit}")
        self._directory = local_path(path)
        self._format = part_format
        self._mode = mode
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._attempt = 0
        self._part: _OpenPart | None = None
        self._uncommitted: set[str] = set()

    @property
    def target(self) -> str:
        """What only one sink of a job may write to: the parts of a format in a directory."""
        return f"{os.path.realpath(self._directory)}/*.{self._format.extension}"

    @property
    def directory(self) -> str:
        """Where the parts are."""
        return self._directory

    @property
    def extension(self) -> str:
        """Of the names of parts."""
        return self._format.extension

    @property
    def replaces(self) -> bool:
        """Whether parts of an earlier run are replaced."""
        return self._mode == "overwrite"

    def foreign_files(self) -> list[str]:
        """Return the files that readers of the directory take for data, but that are not ours."""
        endings = _READ_AS.get(self.extension, (f".{self.extension}",))
        return part_directory.foreign_files(self._directory, self.extension, endings)

    def describe(self) -> str:
        """Return one line for ``explain()``."""
        return f"write_{self._format.extension}({self._directory!r}, mode={self._mode!r})"

    def check(self, schema: pa.Schema) -> None:
        """Raise `ConnectorError` if the format cannot hold the columns; touches no file."""
        check_format(self._format, schema, self._directory)

    def identity(self) -> str:
        """Return what is written to: the same for all spellings of the directory."""
        directory = os.path.realpath(self._directory)
        return f"write_{self._format.extension}({directory!r}, mode={self._mode!r})"

    @property
    def has_parts(self) -> bool:
        """Whether parts that we wrote are in the directory."""
        return bool(self._manifest())

    def begin(self, schema: pa.Schema, rank: int, size: int, attempt: int) -> None:
        """Make the directory, look at what is there, remove what this rank once left behind.

        Raises
        ------
        ConnectorError
            It cannot be written, the format cannot hold the columns, or parts are there
            and the mode is ``"error"``. Raised on every rank alike.
        """
        self.check(schema)
        part_directory.make_directory(self._directory)
        self._schema, self._rank, self._size, self._attempt = schema, rank, size, attempt
        self._part, self._uncommitted = None, set()
        self._token = part_directory.new_token()
        self._finished: list[Part] = []
        self._coalescer = Coalescer(schema, min(BLOCK_BYTES, self._max_bytes or BLOCK_BYTES))
        self._wrote_any = False
        self._floor = 0
        there = part_directory.visible_parts(self._directory, self._format.extension)
        ours = self._manifest()
        if there and self._mode == "error":
            raise ConnectorError(_refusal(self._directory, there))
        if self._mode == "overwrite":
            _refuse_unlisted(self._directory, self._format.extension, sorted(set(there) - ours))
        self._replaced = ours if self._mode == "overwrite" else set()
        kept = set(there) - self._replaced
        self._sequence = self._floor = part_directory.next_sequence(kept)
        stale = part_directory.leftovers(self._directory, rank, size, attempt)
        part_directory.remove(self._directory, stale)
        if ours:
            self._take_over()

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows to the current part; many small batches become one block of it."""
        block = self._coalescer.add(batch)
        if block is not None:
            self._write_block(block)

    def resume(
        self, schema: pa.Schema, rank: int, size: int, attempt: int, stored: Mapping[str, Any]
    ) -> None:
        """Go on from a checkpoint: publish its parts, remove everything written after it.

        Raises
        ------
        ConnectorError
            A part of the checkpoint is gone.
        """
        self.check(schema)
        part_directory.make_directory(self._directory)
        self._schema, self._rank, self._size, self._attempt = schema, rank, size, attempt
        self._part, self._uncommitted, self._finished = None, set(), []
        self._token = part_directory.new_token()
        self._coalescer = Coalescer(schema, min(BLOCK_BYTES, self._max_bytes or BLOCK_BYTES))
        self._replaced = set()
        positions = stored["positions"]
        if len(positions) == size:
            self._sequence, self._floor = positions[rank]["next"], positions[rank]["floor"]
            self._wrote_any = positions[rank].get("wrote", True)
        else:
            self._sequence = self._floor = max(one["next"] for one in positions)
            self._wrote_any = any(one.get("wrote", True) for one in positions)
        listed = {part["temporary"] for part in stored["parts"]}
        stale = part_directory.leftovers(self._directory, rank, size, attempt)
        self._take_over()
        part_directory.remove(self._directory, [name for name in stale if name not in listed])
        self.commit(stored["parts"])
        if rank == 0:
            self._remove_after(positions)

    def position(self) -> dict[str, int]:
        """Return where the next start goes on.

        ``next`` is the next part's sequence, ``floor`` that of the first part of this number of
        ranks; ``wrote``: whether there is a part. Checkpoints of old have no ``wrote``.
        """
        return {"next": self._sequence, "floor": self._floor, "wrote": self._wrote_any}

    def _remove_after(self, positions: Sequence[Mapping[str, int]]) -> None:
        """Remove visible parts of ours that a checkpoint does not know."""
        ours = self._manifest()
        unknown = {name for name in ours if not part_directory.is_before(name, positions)}
        if unknown:
            part_directory.remove(self._directory, unknown)
            self._write_manifest(ours - unknown)

    def cut(self) -> Callable[[], list[Part]]:
        """Set the current part aside; the function returned closes and syncs it."""
        block = self._coalescer.flush()
        if block is not None:
            self._write_block(block)
        part, self._part = self._part, None
        finished, self._finished = self._finished, []

        def make_durable() -> list[Part]:
            return finished if part is None else [*finished, self._closed(part)]

        return make_durable

    def prepare(self) -> list[Part]:
        """Close and fsync the current part; return those finished since the last time."""
        block = self._coalescer.flush()
        if block is not None:
            self._write_block(block)
        if self._rank == 0 and not self._wrote_any:
            self._open_part()
        self._finish_part()
        finished, self._finished = self._finished, []
        return finished

    def commit(self, parts: Sequence[Part]) -> None:
        """Rename this rank's share of the parts of all ranks; rank 0 keeps the manifest."""
        names = [part["name"] for part in parts]
        if self._rank == 0:
            self._write_manifest(self._manifest().union(names))
        for part in parts:
            if part["rank"] % self._size == self._rank:
                part_directory.publish(self._directory, part["temporary"], part["name"])
                self._uncommitted.discard(part["temporary"])
        if self._rank == 0:
            self._drop_replaced(names)
        part_directory.sync_directory(self._directory)

    def abort(self) -> None:
        """Remove what this rank wrote and did not commit."""
        if self._part is not None:
            for opened in (self._part.writer, self._part.file):
                with suppress(OSError, ValueError, pa.ArrowException):
                    opened.close()
            self._part = None
        part_directory.remove(self._directory, self._uncommitted)
        self._uncommitted = set()

    def superseded(self, listed: Sequence[Part]) -> None:
        """Remove what this rank wrote, but for what a checkpoint lists: a newer attempt has it."""
        self._uncommitted -= {part["temporary"] for part in listed}
        self.abort()

    def _drop_replaced(self, names: list[str]) -> None:
        """Remove the parts of an earlier run, once, after the new ones are on their way."""
        stale = self._replaced.difference(names)
        self._replaced = set()
        for name in sorted(stale):
            self._check_attempt()
            part_directory.remove(self._directory, [name])
        if stale:
            self._write_manifest(self._manifest() - stale)

    def _write_block(self, block: pa.Table) -> None:
        """Write a block, over several parts if it exceeds ``max_rows``."""
        while block.num_rows:
            part = self._part or self._open_part()
            room = block.num_rows if self._max_rows is None else self._max_rows - part.n_rows
            piece = block.slice(0, room)
            self._write_piece(part, piece)
            block = block.slice(piece.num_rows)
            if self._is_full(part):
                self._finish_part()

    def _write_piece(self, part: _OpenPart, piece: pa.Table) -> None:
        try:
            part.writer.write_table(piece)
        except (OSError, pa.ArrowException) as error:
            raise self._failed(part.temporary, error) from error
        part.n_rows += piece.num_rows

    def _is_full(self, part: _OpenPart) -> bool:
        if self._max_rows is not None and part.n_rows >= self._max_rows:
            return True
        if self._max_bytes is None:
            return False
        n_bytes = getattr(part.writer, "n_bytes", None)  # of a writer that keeps them until closed
        return (part.file.tell() if n_bytes is None else int(n_bytes)) >= self._max_bytes

    def _open_part(self) -> _OpenPart:
        name = part_directory.part_name(self._sequence, self._rank, self._format.extension)
        temporary = part_directory.temporary_name(name, self._attempt, self._token)
        self._sequence += 1
        self._wrote_any = True
        self._uncommitted.add(temporary)
        try:
            path = os.path.join(self._directory, temporary)
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

    def _closed(self, part: _OpenPart) -> Part:
        path = os.path.join(self._directory, part.temporary)
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
            "rank": self._rank,
            "rows": part.n_rows,
            "bytes": n_bytes,
        }

    def _manifest(self) -> set[str]:
        return set(part_directory.read_manifest(self._directory, self._format.extension))

    def _write_manifest(self, names: set[str]) -> None:
        self._check_attempt()
        part_directory.write_manifest(self._directory, self._format.extension, names, self._attempt)

    def _take_over(self) -> None:
        """Shut out older attempts of a job with checkpoints: one may still live."""
        if self._rank == 0 and self._attempt:
            part_directory.take_over(self._directory, self._format.extension, self._attempt)

    def _check_attempt(self) -> None:
        if self._attempt:
            extension = self._format.extension
            part_directory.check_attempt(self._directory, extension, self._attempt)

    def _failed(self, name: str, error: Exception) -> ConnectorError:
        return ConnectorError(f"cannot write {name!r} in {self._directory!r}: {error}")


def _shown(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _refusal(directory: str, there: list[str]) -> str:
    return (
        f"mode='error': {directory!r} already has {_shown(there)}; write elsewhere, "
        "or say mode='overwrite' or mode='append'"
    )


def _refuse_unlisted(directory: str, extension: str, names: list[str]) -> None:
    """Raise if parts are there that may be ours, but that our list does not have."""
    if not names:
        return
    path = part_directory.manifest_path(directory, extension)
    raise ConnectorError(
        f"mode='overwrite': {directory!r} has {_shown(names)}, which "
        f"{os.path.basename(path)} does not list: were they copied there without it? They are not "
        "removed, and readers would find them beside the new parts; remove them yourself, write "
        "elsewhere, or say mode='append'"
    )
