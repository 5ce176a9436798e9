"""Writes a rank's file of a checkpoint by way of a disk of its node.

::

    state --HDF5--> SCRATCH/hpcstream-<digest>/rank-00003.h5 --copy--> ckpt-000042/rank-00003.h5

A parallel file system handles one long write better than HDF5's many small ones, and
the copy of the state in memory is released as soon as the disk of the node has it.
Only the checkpoint directory counts: a restart never reads the scratch directory.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from hpcstream.checkpoint.format import (
    CheckpointError,
    Section,
    WrittenFile,
    write_file,
)

_BLOCK_BYTES = 8 << 20


class Staging:
    """Writes files of one checkpoint directory by way of a scratch directory.

    Parameters
    ----------
    scratch : str
        Directory on a disk of the node, or in its memory.
    directory : str
        The checkpoint directory: each has its own scratch files.
    rank : int
    say : callable
        Gets the message that the scratch directory failed and a file is written without it.
    """

    def __init__(self, scratch: str, directory: str, rank: int, say: Callable[[str], None]) -> None:
        digest = hashlib.sha256(os.path.abspath(directory).encode()).hexdigest()[:12]
        self.directory = os.path.join(
            os.path.abspath(os.path.expanduser(scratch)), f"hpcstream-{os.getuid()}-{digest}"
        )
        self._path = os.path.join(self.directory, f"rank-{rank:05d}.h5")
        self._say = say
        try:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"cannot make the scratch directory {self.directory!r}: {error.strerror}"
            ) from error
        self._clear()  # of an attempt that was killed

    def write(
        self, path: str, sections: Sequence[Section], written: Callable[[], None]
    ) -> WrittenFile:
        """Write sections as `write_file` does; calls ``written`` when their memory may go."""
        try:
            file = write_file(self._path, sections)
        except OSError as error:
            self._clear()
            self._say(f"{self.directory}: {error.strerror or error}; written without it")
            return write_file(path, sections)
        written()
        try:
            _copy(self._path, path)
        finally:
            self._clear()
        return replace(file, name=os.path.basename(path))

    def close(self) -> None:
        """Remove the scratch files."""
        self._clear()
        with suppress(OSError):  # other ranks of the node still write
            os.rmdir(self.directory)

    def _clear(self) -> None:
        for path in (self._path, f"{self._path}.tmp"):
            with suppress(OSError):
                os.remove(path)


def _copy(source: str, path: str) -> None:
    """Copy a file durably: hidden name, fsync, rename."""
    beside = f"{path}.tmp"
    with open(source, "rb") as reader, open(beside, "wb") as writer:
        shutil.copyfileobj(reader, writer, _BLOCK_BYTES)
        writer.flush()
        os.fsync(writer.fileno())
    os.replace(beside, path)
