"""Longer turns on a core, for ranks that take turns.

Where there are more ranks than cores, each comes back to a cache that the others have
filled. Linux, from 6.12 on, lets a process say how long its turns are to be (EEVDF: I.
Stoica and H. Abdel-Wahab, "Earliest Eligible Virtual Deadline First", 1995): its share of
the core stays the same, and so does its niceness. Older kernels say that a turn takes 0 ns,
and are left alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hpcstream.memory.syscalls import Scheduling, SystemCalls

TURN_NS = 10_000_000
"""About two batches; the kernel's own turns take 3 ms or less."""

_SCHED_OTHER = 0


@contextmanager
def long_turns(calls: SystemCalls | None = None) -> Iterator[None]:
    """Let this thread have turns of `TURN_NS`, where the kernel can do that."""
    calls = calls or SystemCalls()
    before_ns = _set_turns(calls, TURN_NS)
    try:
        yield
    finally:
        if before_ns:
            _set_turns(calls, before_ns)


def _set_turns(calls: SystemCalls, turn_ns: int) -> int:
    """Return how long turns took; 0 if they have been left as they were."""
    try:
        how: Scheduling = calls.scheduling()
        before_ns = int(how.runtime)
        if how.policy != _SCHED_OTHER or not before_ns:
            return 0
        how.runtime = turn_ns
        calls.set_scheduling(how)
    except OSError:
        return 0
    return before_ns
