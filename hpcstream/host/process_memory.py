"""How much memory this process holds of its own."""

from __future__ import annotations

import resource
from pathlib import Path

_STATUS = Path("/proc/self/status")
_OWN = (b"RssAnon:", b"RssShmem:")


def own_bytes(status: Path = _STATUS) -> int:
    """Return resident bytes that are not pages of files: RssAnon + RssShmem.

    Mapped input files and libraries do not count: the kernel takes them back when
    it needs memory. Where there is no such file: the greatest resident size so far.
    """
    try:
        text = status.read_bytes()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    lines = (line.split() for line in text.splitlines() if line.startswith(_OWN))
    return sum(int(words[1]) for words in lines) * 1024


class PeakMemory:
    """The greatest `own_bytes` of all samples."""

    def __init__(self) -> None:
        self.peak_bytes = own_bytes()

    def sample(self) -> None:
        """Look again."""
        self.peak_bytes = max(self.peak_bytes, own_bytes())
