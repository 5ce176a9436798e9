"""Memory of other processes, looked at from outside: RssAnon + RssShmem, not mapped files."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from hpcstream.process.launcher_facts import children_of

_OWN = ("RssAnon:", "RssShmem:")


def own_bytes(pid: int) -> int:
    """Return resident bytes of a process that are not pages of files; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(_OWN))


def descendants(pid: int) -> Iterator[int]:
    """Yield a process and all that it has started, at any depth."""
    yield pid
    for child in children_of(pid):
        yield from descendants(child)


class MemorySampler:
    """Watches a process tree from a thread until it is stopped.

    Only processes whose program has one of ``programs`` in its name count: the ranks and a
    peer's Java, not the launcher above them. Ranks that a batch system starts (``srun``) are
    not seen.

    Attributes
    ----------
    peaks : dict of int to int
        Greatest memory of each process, in bytes.
    series : list of (float, int)
        Seconds since the start, and the greatest memory of any process then.
    """

    def __init__(
        self, pid: int, programs: Sequence[str] = ("python", "java"), interval_s: float = 0.05
    ) -> None:
        self.peaks: dict[int, int] = {}
        self.series: list[tuple[float, int]] = []
        self._pid, self._programs, self._interval_s = pid, programs, interval_s
        self._start = time.monotonic()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what was seen stays."""
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self._interval_s):
            now = {pid: own_bytes(pid) for pid in descendants(self._pid) if self._counts(pid)}
            for pid, found in now.items():
                self.peaks[pid] = max(self.peaks.get(pid, 0), found)
            if now:
                self.series.append((time.monotonic() - self._start, max(now.values())))

    def _counts(self, pid: int) -> bool:
        try:
            program = os.readlink(f"/proc/{pid}/exe")
        except OSError:
            return False
        return any(name in program for name in self._programs)
