"""Read back where memory really lies, and say how that compares with the plan.

Binding is a wish: a full node, a cgroup or a page that somebody else wrote first
puts pages elsewhere. The kernel is asked page by page, on a sample; nothing moves.

Pages that automatic NUMA balancing is about to look at show as untouched (Linux
6.1); it leaves memory that was bound to a node alone.
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
    """Where the sampled pages of some memory lie.

    Attributes
    ----------
    name : str
        What was looked at.
    expected : int or None
        Node it should be on; None if there was no plan.
    pages : {node: sampled pages}
    untouched : int
        Sampled pages that were never written, so lie nowhere.
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
        """True unless a page was seen on another node than the expected one."""
        return self.expected is None or set(self.pages) <= {self.expected}

    @property
    def fraction_as_expected(self) -> float:
        """Share of the touched pages on the expected node; 1 if there is nothing to see."""
        seen = sum(self.pages.values())
        if self.expected is None or not seen:
            return 1.0
        return self.pages.get(self.expected, 0) / seen

    def __str__(self) -> str:
        if self.refused:
            return f"{self.name}: not known, {self.refused}"
        if not self.pages:
            return f"{self.name}: no page touched yet"
        places = ", ".join(f"{count} on node {node}" for node, count in sorted(self.pages.items()))
        plan = "no node asked for" if self.expected is None else f"expected node {self.expected}"
        return f"{self.name}: of {sum(self.pages.values())} sampled pages {places}; {plan}"


def check_pool(pool: BufferPool, calls: SystemCalls | None = None) -> Placement:
    """Return where the blocks of a pool's arenas lie, free ones included."""
    ranges = [(arena.address, arena.cursor) for arena in pool.arenas]
    return check_ranges(ranges, pool.node, name=f"pool {pool.name!r}", calls=calls)


def check_array(
    array: NDArray[Any],
    expected: int | None,
    *,
    name: str = "array",
    calls: SystemCalls | None = None,
) -> Placement:
    """Return where the pages of a contiguous array lie."""
    return check_ranges([(array.ctypes.data, array.nbytes)], expected, name=name, calls=calls)


def check_ranges(
    ranges: Iterable[tuple[int, int]],
    expected: int | None,
    *,
    name: str,
    calls: SystemCalls | None = None,
) -> Placement:
    """Return where the pages of some (address, bytes) ranges lie, on a sample of them."""
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
    """Addresses of at most `SAMPLED_PAGES` pages, evenly over all ranges."""
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
