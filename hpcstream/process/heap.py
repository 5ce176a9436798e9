"""Keeps freed memory in the C library, from the first job of a process on.

A round makes and frees columns of some hundred kilobytes. glibc returns such memory to
the kernel at once, and the next round takes a page fault every 4 KiB: a quarter of the
time of a job whose windows emit many rows. So up to `KEPT_BYTES` are kept, and released
at the end of each job. (glibc does not report its previous setting, so it is not restored.)
Other C libraries are left unchanged, and so is a glibc that the user has configured by
``MALLOC_..._`` or ``GLIBC_TUNABLES``.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping

KEPT_BYTES = 128 << 20
"""Free memory at the end of the heap that glibc keeps."""

_MAPPED_FROM = 32 << 20
"""Larger blocks are mapped individually and returned; the greatest value of glibc."""

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3


def keep_freed_memory(environ: Mapping[str, str] = os.environ) -> bool:
    """Keep freed memory for later allocations; return whether glibc accepted the setting."""
    library = ctypes.CDLL(None)
    is_configured = "GLIBC_TUNABLES" in environ or any(
        name.startswith("MALLOC_") for name in environ
    )
    if (
        is_configured
        or not hasattr(library, "mallopt")
        or not hasattr(library, "gnu_get_libc_version")
    ):
        return False
    accepted = library.mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)
    return bool(accepted and library.mallopt(_M_MMAP_THRESHOLD, _MAPPED_FROM))


def give_back_freed_memory() -> None:
    """Return free memory to the kernel, if the C library can."""
    library = ctypes.CDLL(None)
    if hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
