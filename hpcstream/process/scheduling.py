"""Longer time slices for ranks that share cores.

With more ranks than cores, each returns to a cache that the others have filled. From 6.12 on,
Linux lets a process request the length of its time slices (EEVDF: I.
Stoica and H. Abdel-Wahab, "Earliest Eligible Virtual Deadline First", 1995): its share of
the core stays the same, and so does its niceness. Older kernels report a slice of 0 ns
and are left unchanged.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from hpcstream.memory.syscalls import Scheduling, SystemCalls

TURN_NS = 10_000_000
"""About two batches; the default slices take 3 ms or less."""

_SCHED_OTHER = 0


@contextmanager
def long_turns(calls: SystemCalls | None = None) -> Iterator[None]:
    """Request time slices of `TURN_NS` for this thread, if the kernel supports it."""
    calls = calls or SystemCalls()
    before_ns = _set_turns(calls, TURN_NS)
    try:
        yield
    finally:
        if before_ns:
            _set_turns(calls, before_ns)


def _set_turns(calls: SystemCalls, turn_ns: int) -> int:
    """Set the time slice and return the previous one; 0 if it was left unchanged."""
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
