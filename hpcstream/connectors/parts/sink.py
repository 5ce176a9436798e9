"""A sink that writes a directory of part files, which become visible at once by a commit."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import pyarrow as pa

from hpcstream.connectors.base import OutputPart, Sink
from hpcstream.connectors.files.listing import local_path
from hpcstream.connectors.formats.part_format import PartFormat
from hpcstream.connectors.parts import directory as part_directory
from hpcstream.connectors.parts.formats import check_format
from hpcstream.connectors.parts.output import PartOutput, refuse_existing, refuse_unlisted
from hpcstream.connectors.parts.writing import PartLimits, PartsWriter

_READ_AS = {
    "parquet": (".parquet", ".pq"),
    "arrow": (".arrow", ".arrows", ".feather", ".ipc"),
    "csv": (".csv", ".csv.gz"),
    "h5": (".h5", ".hdf5"),
}
"""Endings of the files that are read as one format when a directory is given."""

Mode = Literal["overwrite", "append", "error"]


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
        self._directory = local_path(path)
        self._format = part_format
        self._mode = mode
        self._limits = PartLimits(max_rows, max_bytes)
        self._replaced: set[str] = set()
        self._floor = 0
        self._writer: PartsWriter | None = None

    @property
    def target(self) -> str:
        """The exclusive target: the parts of one format in a directory."""
        return f"{os.path.realpath(self._directory)}/*.{self._format.extension}"

    @property
    def directory(self) -> str:
        """The directory of the parts."""
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
        """Return the files that readers of the directory would read, but that we did not write."""
        endings = _READ_AS.get(self.extension, (f".{self.extension}",))
        return part_directory.foreign_files(self._directory, self.extension, endings)

    def describe(self) -> str:
        """Return one line for ``explain()``."""
        return f"write_{self._format.extension}({self._directory!r}, mode={self._mode!r})"

    def check(self, schema: pa.Schema) -> None:
        """Raise `ConnectorError` if the format cannot hold the columns; touches no file."""
        check_format(self._format, schema, self._directory)

    def identity(self) -> str:
        """Return the identity: the same for all spellings of the directory."""
        directory = os.path.realpath(self._directory)
        return f"write_{self._format.extension}({directory!r}, mode={self._mode!r})"

    @property
    def has_parts(self) -> bool:
        """Whether parts that we wrote are in the directory."""
        return bool(part_directory.read_manifest(self._directory, self.extension))

    def begin(self, schema: pa.Schema, rank: int, size: int, attempt: int) -> None:
        """Make the directory, check its contents, remove leftovers of this rank.

        Raises
        ------
        ConnectorError
            It cannot be written, the format cannot hold the columns, or parts are there
            and the mode is ``"error"``. Raised on every rank alike.
        """
        output = self._open_output(schema, rank, size, attempt)
        visible, listed = output.visible(), output.listed()
        if self._mode == "error":
            refuse_existing(self._directory, sorted(visible))
        if self._mode == "overwrite":
            refuse_unlisted(self._directory, self.extension, sorted(visible - listed))
        self._replaced = listed if self._mode == "overwrite" else set()
        self._floor = part_directory.next_sequence(visible - self._replaced)
        self._start_writing(schema, output, self._floor, wrote_any=False)
        output.remove(output.leftovers())
        if listed:
            output.take_over()

    def resume(
        self, schema: pa.Schema, rank: int, size: int, attempt: int, stored: Mapping[str, Any]
    ) -> None:
        """Resume from a checkpoint: publish its parts, remove everything written after it.

        Raises
        ------
        ConnectorError
            A part of the checkpoint is gone.
        """
        output = self._open_output(schema, rank, size, attempt)
        self._replaced = set()
        positions = stored["positions"]
        if len(positions) == size:
            sequence, self._floor = positions[rank]["next"], positions[rank]["floor"]
            wrote_any = positions[rank].get("wrote", True)
        else:
            sequence = self._floor = max(position["next"] for position in positions)
            wrote_any = any(position.get("wrote", True) for position in positions)
        self._start_writing(schema, output, sequence, wrote_any=wrote_any)
        listed = {part["temporary"] for part in stored["parts"]}
        stale = output.leftovers()
        output.take_over()
        output.remove([name for name in stale if name not in listed])
        self.commit(stored["parts"])
        if rank == 0:
            output.remove_after(positions)

    def _open_output(self, schema: pa.Schema, rank: int, size: int, attempt: int) -> PartOutput:
        self.check(schema)
        part_directory.make_directory(self._directory)
        return PartOutput(self._directory, self.extension, rank=rank, size=size, attempt=attempt)

    def _start_writing(
        self, schema: pa.Schema, output: PartOutput, sequence: int, *, wrote_any: bool
    ) -> None:
        self._output = output
        self._writer = PartsWriter(
            output, self._format, schema, self._limits, sequence=sequence, wrote_any=wrote_any
        )

    @property
    def _parts(self) -> PartsWriter:
        assert self._writer is not None, "begin() or resume() comes first"
        return self._writer

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows to the current part; many small batches become one block of it."""
        self._parts.write(batch)

    def position(self) -> dict[str, int]:
        """Return the position from which the next start continues.

        ``next`` is the next part's sequence, ``floor`` that of the first part of this number of
        ranks; ``wrote``: whether there is a part. Old checkpoints have no ``wrote``.
        """
        parts = self._parts
        return {"next": parts.sequence, "floor": self._floor, "wrote": parts.wrote_any}

    def cut(self) -> Callable[[], list[OutputPart]]:
        """Set the current part aside; the function returned closes and syncs it."""
        return self._parts.set_aside()

    def prepare(self) -> list[OutputPart]:
        """Close and fsync the current part; return those finished since the last time."""
        return self._parts.finish(at_least_one=self._output.rank == 0)

    def commit(self, parts: Sequence[OutputPart]) -> None:
        """Rename this rank's share of the parts of all ranks; rank 0 keeps the manifest."""
        replaced, self._replaced = self._replaced, set()
        self._parts.note_committed(self._output.commit(parts, replaced))

    def abort(self) -> None:
        """Remove what this rank wrote and did not commit."""
        if self._writer is not None:
            self._writer.abort()

    def superseded(self, listed: Sequence[OutputPart]) -> None:
        """Remove what this rank wrote, except parts of a checkpoint: a newer attempt owns them."""
        if self._writer is not None:
            self._writer.note_committed({part["temporary"] for part in listed})
            self._writer.abort()
