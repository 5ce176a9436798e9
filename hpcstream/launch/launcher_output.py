"""Filters the messages that a launcher itself prints when ranks fail.

::

    ranks, launcher --standard error--> pipe --> filter --> standard error
                                                 blocks that only report the end of ranks are
                                                 held back, and shown if no rank gives a reason

Open MPI's launcher frames such blocks by lines of dashes, MPICH's by lines of equals signs.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import threading
from collections.abc import Iterable

_FRAMES = (b"-" * 60, b"=" * 60)
_STARTS = (*_FRAMES, b"Abort(", b"[", b"YOUR APPLICATION ", b"This typically ", b"Please see ")
_BLOCK_TITLE = re.compile(
    rb"\s*(=\s+BAD TERMINATION OF|(prterun|prted|mpirun|mpiexec) (detected|noticed|has exited)"
    rb"|MPI_ABORT was invoked|Primary job\s+terminated normally)"
)
_ABORT_LINE = re.compile(rb"Abort\(\d+\) on node \d+ \(rank \d+ in comm \d+\): application called")
_PMIX_LINE = re.compile(rb"\[[^\]]+:\d+\] PMIX ERROR: ")
_AFTER_BLOCK = re.compile(
    rb"YOUR APPLICATION TERMINATED WITH THE EXIT STRING|This typically refers to a problem with"
    rb"|Please see the FAQ page for debugging|You may or may not see output from other processes"
)
_REASON = re.compile(
    rb"Traceback \(most recent|Error\b|hpcstream: ?(stopped|asked|rank|this rank|all)"
)
_SIGNALLED = re.compile(rb"EXIT STRING: .*\(signal (\d+)\)")
_LONGEST_BLOCK = 4096
_HELD_S = 0.5
_REST_S = 2.0


class OutputFilter:
    """Separates the launcher's own blocks from other output. Does no I/O.

    ``signal_number`` is the signal that ended a rank, according to the launcher.
    """

    def __init__(self) -> None:
        self._pending = b""
        self._block = b""
        self._framed = b""
        self.held = b""
        self.has_reason = False
        self.signal_number = 0

    def feed(self, data: bytes) -> bytes:
        """Process new output; return what to show now."""
        lines = (self._pending + data.replace(b"\0", b"")).split(b"\n")
        self._pending = lines.pop()
        shown = b"".join(self._line(line + b"\n") for line in lines)
        if not self._framed and not self._may_be_block(self._pending):
            shown, self._pending = shown + self._pending, b""
        self.has_reason = self.has_reason or _REASON.search(shown) is not None
        return shown

    def flush(self) -> bytes:
        """Return the output kept as a possible block."""
        kept, self._block, self._framed, self._pending = self._block + self._pending, b"", b"", b""
        return kept

    def _line(self, line: bytes) -> bytes:
        found = _SIGNALLED.search(line)
        if found:
            self.signal_number = int(found[1])
        if self._framed:
            return self._within(line)
        if line.startswith(_FRAMES):
            self._framed, self._block = line[:60], line
            return b""
        if any(pattern.match(line) for pattern in (_ABORT_LINE, _AFTER_BLOCK, _PMIX_LINE)):
            self.held += line
            return b""
        return line

    def _within(self, line: bytes) -> bytes:
        self._block += line
        is_first = self._block.count(b"\n") == 2
        if line.startswith(self._framed) and not is_first:
            self.held, self._block, self._framed = self.held + self._block, b"", b""
            return b""
        if (is_first and not _BLOCK_TITLE.match(line)) or len(self._block) > _LONGEST_BLOCK:
            shown, self._block, self._framed = self._block, b"", b""
            return shown
        return b""

    def _may_be_block(self, start: bytes) -> bool:
        return bool(start) and any(prefix.startswith(start[: len(prefix)]) for prefix in _STARTS)


class LauncherOutput:
    """Forwards the standard streams of a launcher, filtered, in its own threads.

    Parameters
    ----------
    streams : iterable of int
        Descriptors: 1, 2 or both.
    """

    def __init__(self, streams: Iterable[int]) -> None:
        self._pipes = {stream: _Pipe(stream) for stream in streams}

    def writing(self, stream: int) -> int | None:
        """Return the descriptor that replaces a stream of the launcher; None: the stream itself."""
        pipe = self._pipes.get(stream)
        return None if pipe is None else pipe.writing

    def start(self) -> None:
        """Start, once the launcher has its ends of the pipes."""
        for pipe in self._pipes.values():
            os.close(pipe.writing)
            pipe.thread.start()

    def end(self, *, show_held: bool) -> None:
        """Show the rest; the launcher and its descendants have ended."""
        for stream, pipe in self._pipes.items():
            pipe.thread.join(_REST_S)
            _show(stream, pipe.output_filter.flush())
        filters = [pipe.output_filter for pipe in self._pipes.values()]
        if show_held and not any(output_filter.has_reason for output_filter in filters):
            _show(2, b"".join(output_filter.held for output_filter in filters))

    @property
    def signal_number(self) -> int:
        """The signal that ended a rank, if the launcher reports one, else 0."""
        return max(pipe.output_filter.signal_number for pipe in self._pipes.values())


class _Pipe:
    """A pipe from the launcher to one of our streams."""

    def __init__(self, stream: int) -> None:
        self.output_filter = OutputFilter()
        self._stream = stream
        self._reading, self.writing = os.pipe()
        self.thread = threading.Thread(target=self._pass_on, daemon=True)

    def _pass_on(self) -> None:
        while True:
            readable, _, _ = select.select([self._reading], [], [], _HELD_S)
            if not readable:
                _show(self._stream, self.output_filter.flush())
                continue
            data = os.read(self._reading, 65_536)
            if not data:
                os.close(self._reading)
                return
            _show(self._stream, self.output_filter.feed(data))


def _show(stream: int, data: bytes) -> None:
    with contextlib.suppress(OSError):  # the reader has gone; the ranks run on
        while data:
            data = data[os.write(stream, data) :]
