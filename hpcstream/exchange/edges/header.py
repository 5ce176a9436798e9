"""The fixed-size header that every rank of an edge sends to every other, each call.

::

    word  0      1      2     3      4          5      6        7
          flags  round  rows  bytes  watermark  place  counter  extent   | inline payload ...

``rows``, ``bytes`` and ``place`` differ from destination to destination, the other words
do not. The last three are a loan of the sender's memory, with `LENT`. A *filler* has no
`STEP` flag: it carries nothing and only lets the peers' call complete.
"""

from __future__ import annotations

HEADER_BYTES = 64
HEADER_WORDS = HEADER_BYTES // 8

FLAGS, ROUND, ROWS, BYTES, WATERMARK, PLACE, COUNTER, EXTENT = range(8)

STEP = 1
"""The call carries a step of this sender's stream of rounds."""
LAST = 2
"""The step is the last of its round; without it, more steps follow (`more`)."""
IDLE = 4
"""The sender's input is idle: its watermark does not hold time back."""
ABORT = 8
"""The sender, or a rank it heard of, has failed."""
PAYLOAD = 16
"""The sender's rows did not fit the inline areas: a payload call follows, for all ranks."""
BUSY = 32
"""The sender's sources had rows in this round."""
END = 64
"""The farewell: no step of this sender comes after this one."""
LENT = 128
"""Ranks that read the sender's memory find their rows there: nothing else is sent to them."""


def inline_bytes(n_ranks: int) -> int:
    """Return the size of the inline area, so that a small round needs one message only."""
    if n_ranks <= 4:
        return 4096
    if n_ranks <= 16:
        return 2048
    return 1024 if n_ranks <= 64 else 0
