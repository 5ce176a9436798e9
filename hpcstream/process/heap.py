"""What the C library does with memory that is freed, from the first job of a process on.

A round makes and frees columns of some hundred kilobytes. glibc gives such memory back
to the kernel at once, and the next round pays for each page of it again: a page fault
every 4 KiB, a quarter of the time of a job whose windows emit much. So up to
`KEPT_BYTES` stay; at the end of each job they go. (What glibc did before cannot be
asked, so it is not put back.) Other C libraries are left as they are, and so is one that
the user has told what to do, by ``MALLOC_..._`` or ``GLIBC_TUNABLES``.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping

KEPT_BYTES = 128 << 20
"""Free memory at the end of the heap that is not given back."""

_MAPPED_FROM = 32 << 20
"""Larger pieces are mapped one by one and given back; glibc takes no more than this."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory(environ: Mapping[str, str] = os.environ) -> bool:
    """Keep memory that is freed for what is made next; return whether that could be said."""
    library = ctypes.CDLL(None)
    is_told = "GLIBC_TUNABLES" in environ or any(name.startswith("MALLOC_") for name in environ)
    if is_told or not hasattr(library, "mallopt") or not hasattr(library, "gnu_get_libc_version"):
        return False
    told = library.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
    return bool(told and library.mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM))


def give_back_freed_memory() -> None:
    """Give free memory back to the kernel, where the C library can."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
