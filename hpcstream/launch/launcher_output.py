"""What a launcher itself prints when ranks have failed, kept apart from what the ranks say.

::

    ranks, launcher --standard error--> pipe --> here --> standard error
                                                 blocks that only say that ranks have ended are
                                                 held back, and shown if nobody has said why

Open MPI's launcher frames such a text by lines of dashes, MPICH's by lines of equals signs.
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
_OF_LAUNCHER = re.compile(
    rb"\s*(=\s+BAD TERMINATION OF|(prterun|prted|mpirun|mpiexec) (detected|noticed|has exited)"
    rb"|MPI_ABORT was invoked|Primary job\s+terminated normally)"
)
_ABORT_LINE = re.compile(rb"Abort\(\d+\) on node \d+ \(rank \d+ in comm \d+\): application called")
_PMIX_LINE = re.compile(rb"\[[^\]]+:\d+\] PMIX ERROR: ")
_AFTER_BLOCK = re.compile(
    rb"YOUR APPLICATION TERMINATED WITH THE EXIT STRING|This typically refers to a problem with"
    rb"|Please see the FAQ page for debugging|You may or may not see output from other processes"
)
_SAYS_WHY = re.compile(
    rb"Traceback \(most recent|Error\b|hpcstream: ?(stopped|asked|rank|this rank|all)"
)
_SIGNALLED = re.compile(rb"EXIT STRING: .*\(signal (\d+)\)")
_LONGEST_BLOCK = 4096
_HELD_S = 0.5
_REST_S = 2.0


class Sorter:
    """Tells a launcher's own blocks from the rest. No I/O.

    ``signal_number`` is the signal that has ended a rank, as the launcher says.
    """

    def __init__(self) -> None:
        self._pending = b""
        self._block = b""
        self._framed = b""
        self.held = b""
        self.why_is_said = False
        self.signal_number = 0

    def feed(self, data: bytes) -> bytes:
        """Take in what has come, and return what is to be shown of it now."""
        lines = (self._pending + data.replace(b"\0", b"")).split(b"\n")
        self._pending = lines.pop()
        shown = b"".join(self._line(line + b"\n") for line in lines)
        if not self._framed and not self._may_be_launchers(self._pending):
            shown, self._pending = shown + self._pending, b""
        self.why_is_said = self.why_is_said or _SAYS_WHY.search(shown) is not None
        return shown

    def flush(self) -> bytes:
        """Return what was kept in case it became a block: it has not."""
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
        if (is_first and not _OF_LAUNCHER.match(line)) or len(self._block) > _LONGEST_BLOCK:
            shown, self._block, self._framed = self._block, b"", b""
            return shown
        return b""

    def _may_be_launchers(self, start: bytes) -> bool:
        return bool(start) and any(prefix.startswith(start[: len(prefix)]) for prefix in _STARTS)


class LauncherOutput:
    """Passes on what comes through a launcher's standard streams; in threads of its own.

    Parameters
    ----------
    streams : iterable of int
        Which: 1, 2 or both.
    """

    def __init__(self, streams: Iterable[int]) -> None:
        self._pipes = {stream: _Pipe(stream) for stream in streams}

    def writing(self, stream: int) -> int | None:
        """Return what a launcher gets in place of a stream; None: the stream itself."""
        pipe = self._pipes.get(stream)
        return None if pipe is None else pipe.writing

    def start(self) -> None:
        """Begin, once the launcher has its ends of the pipes."""
        for pipe in self._pipes.values():
            os.close(pipe.writing)
            pipe.thread.start()

    def end(self, *, show_held: bool) -> None:
        """Show what is left; the launcher and all that it started have ended."""
        for stream, pipe in self._pipes.items():
            pipe.thread.join(_REST_S)
            _show(stream, pipe.sorter.flush())
        sorters = [pipe.sorter for pipe in self._pipes.values()]
        if show_held and not any(sorter.why_is_said for sorter in sorters):
            _show(2, b"".join(sorter.held for sorter in sorters))

    @property
    def signal_number(self) -> int:
        """The signal that has ended a rank, if the launcher says so; else 0."""
        return max(pipe.sorter.signal_number for pipe in self._pipes.values())


class _Pipe:
    """Between a launcher and one of our streams."""

    def __init__(self, stream: int) -> None:
        self.sorter = Sorter()
        self._stream = stream
        self._reading, self.writing = os.pipe()
        self.thread = threading.Thread(target=self._pass_on, daemon=True)

    def _pass_on(self) -> None:
        while True:
            readable, _, _ = select.select([self._reading], [], [], _HELD_S)
            if not readable:
                _show(self._stream, self.sorter.flush())
                continue
            data = os.read(self._reading, 65_536)
            if not data:
                os.close(self._reading)
                return
            _show(self._stream, self.sorter.feed(data))


def _show(stream: int, data: bytes) -> None:
    with contextlib.suppress(OSError):  # nobody reads any more: the ranks shall not notice
        while data:
            data = data[os.write(stream, data) :]
