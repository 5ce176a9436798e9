"""Compares the NUMA nodes of memory pages with the plan.

Binding is only a preference: pages are on another node if the node is full, a cgroup
forbids it, or another thread has written them first. The kernel is queried for a sample of
pages; no page moves.

Pages that automatic NUMA balancing is about to examine appear as untouched (Linux 6.1); it
ignores memory that is bound to a node.
"""

import errno
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpcstream.memory.pool import BufferPool
from hpcstream.memory.syscalls import SystemCalls

SAMPLED_PAGES = 1024
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Placement:
    """The NUMA nodes of the sampled pages of some memory.

    Attributes
    ----------
    name : str
        Name of the memory.
    expected : int or None
        The planned node; None if there was no plan.
    pages : {node: sampled pages}
    untouched : int
        Sampled pages that were never written, so have no node.
    refused : str
        Why the kernel did not answer; empty if it did.
    """

    name: str
    expected: int | None
    pages: Mapping[int, int]
    untouched: int = 0
    refused: str = ""

    @property
    def is_as_expected(self) -> bool:
        """Whether no sampled page is on another node than the expected one."""
        return self.expected is None or set(self.pages) <= {self.expected}

    @property
    def fraction_as_expected(self) -> float:
        """Share of the touched pages on the expected node; 1 if no page is touched."""
        seen = sum(self.pages.values())
        if self.expected is None or not seen:
            return 1.0
        return self.pages.get(self.expected, 0) / seen

    def __str__(self) -> str:
        if self.refused:
            return f"{self.name}: not known, {self.refused}"
        if not self.pages:
            return f"{self.name}: no page touched yet"
        nodes = ", ".join(f"{count} on node {node}" for node, count in sorted(self.pages.items()))
        plan = "no node asked for" if self.expected is None else f"expected node {self.expected}"
        return f"{self.name}: of {sum(self.pages.values())} sampled pages {nodes}; {plan}"


def check_pool(pool: BufferPool, calls: SystemCalls | None = None) -> Placement:
    """Return the placement of the blocks of a pool's arenas, including free blocks."""
    ranges = [(arena.address, arena.cursor) for arena in pool.arenas]
    return check_ranges(ranges, pool.node, name=f"pool {pool.name!r}", calls=calls)


def check_array(
    array: NDArray[Any],
    expected: int | None,
    *,
    name: str = "array",
    calls: SystemCalls | None = None,
) -> Placement:
    """Return the placement of a contiguous array."""
    return check_ranges([(array.ctypes.data, array.nbytes)], expected, name=name, calls=calls)


def check_ranges(
    ranges: Iterable[tuple[int, int]],
    expected: int | None,
    *,
    name: str,
    calls: SystemCalls | None = None,
) -> Placement:
    """Return the placement of (address, bytes) ranges, from a sample of their pages."""
    addresses = _sample_pages(ranges)
    if not addresses.size:
        return Placement(name, expected, {})
    try:
        status = (calls or SystemCalls()).nodes_of_pages(addresses)
    except OSError as error:
        return Placement(name, expected, {}, refused=_reason(error))
    pages = Counter(int(node) for node in status if node >= 0)
    return Placement(name, expected, dict(pages), untouched=int((status < 0).sum()))


def _sample_pages(ranges: Iterable[tuple[int, int]]) -> NDArray[np.uint64]:
    """Return the addresses of at most `SAMPLED_PAGES` pages, evenly spaced over all ranges."""
    pages = [
        np.arange(address // _PAGE_BYTES, -(-(address + n_bytes) // _PAGE_BYTES), dtype=np.uint64)
        for address, n_bytes in ranges
        if n_bytes
    ]
    if not pages:
        return np.empty(0, dtype=np.uint64)
    every = np.concatenate(pages)
    step = -(-every.size // SAMPLED_PAGES)
    return every[::step] * np.uint64(_PAGE_BYTES)


def _reason(error: OSError) -> str:
    if error.errno == errno.EPERM:
        return "the container forbids to ask (allow move_pages, e.g. docker --cap-add SYS_NICE)"
    return f"the kernel does not tell ({error.strerror})"
