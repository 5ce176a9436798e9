"""The fixed-size header that every rank of an edge sends to every other, each call.

::

    word  0      1      2     3      4          5      6        7
          flags  round  rows  bytes  watermark  offset counter  extent   | inline payload ...

``rows``, ``bytes`` and ``offset`` differ by destination, the other words do not. With
`SHARED` the last three are the handle of a shared message. An *empty step* has no `STEP`
flag: it carries no rows and only lets the call of the other ranks complete.
"""

from __future__ import annotations

HEADER_BYTES = 64
HEADER_WORDS = HEADER_BYTES // 8

FLAGS, ROUND, ROWS, BYTES, WATERMARK, OFFSET, COUNTER, EXTENT = range(8)

STEP = 1
"""The call carries a step of this sender's stream of rounds."""
LAST = 2
"""The step is the last of its round; without the flag, more steps of the round follow."""
IDLE = 4
"""The sender's input is idle: consumers ignore its watermark."""
ABORT = 8
"""The sender, or a rank that it heard of, has failed."""
PAYLOAD = 16
"""The sender's rows did not fit the inline areas: a payload call follows, for all ranks."""
BUSY = 32
"""The sender's sources had rows in this round."""
END = 64
"""The end-of-stream step: the sender sends no further step."""
SHARED = 128
"""Ranks that can map the sender's memory read their rows there and are sent nothing else."""


def inline_bytes(n_ranks: int) -> int:
    """Return the size of the inline area, in which a small round needs only one message."""
    if n_ranks <= 4:
        return 4096
    if n_ranks <= 16:
        return 2048
    return 1024 if n_ranks <= 64 else 0
