"""Compiled loops on arrays, one family a module; imported as ``hpcstream.kernels.<family>``.

A kernel takes one-dimensional contiguous arrays and scalars, validates nothing
and knows nothing of Arrow, MPI or the engine. All families are imported here, so
that all are cached in one place (see `hpcstream.kernels.cache`).
"""

import contextlib
import importlib
from collections.abc import Iterable
from pathlib import Path

from hpcstream.kernels.cache import folder, own_cache

FAMILIES = (
    "hashing",
    "partition",
    "gathering",
    "strings",
    "string_lookup",
    "wire",
    "bitmap",
    "dictionary",
    "join",
    "key_table",
    "key_direct",
    "key_resolve",
    "key_lookup",
    "key_loading",
    "key_regions",
    "snapshots",
    "key_bytes",
    "interning",
    "accumulate",
    "counters",
    "time_order",
    "keyed_table",
    "row_arenas",
    "order_statistics",
    "calendar",
)
"""Every module here that has kernels; each has a ``warm_up()``."""

with own_cache():
    for _family in FAMILIES:
        importlib.import_module(f"hpcstream.kernels.{_family}")


COSTS = {"key_resolve": 9, "accumulate": 4, "string_lookup": 4, "interning": 3, "wire": 3}
"""Seconds that some families take to compile, on a slow machine; `OTHER_COST` the others."""
OTHER_COST = 1.5


def not_compiled() -> list[str]:
    """Return the families that were never compiled for this source, Numba and processor."""
    indexes = {path.name for path in folder().glob("*/*.nbi")}
    return [family for family in FAMILIES if not _is_compiled(family, indexes)]


def warm_up(families: Iterable[str] = FAMILIES) -> None:
    """Compile every kernel for the arguments the engine passes, or load it from Numba's cache."""
    for family in families:
        importlib.import_module(f"hpcstream.kernels.{family}").warm_up()
        names = sorted(path.name for path in folder().glob(f"*/{family}.*.nbi"))
        with contextlib.suppress(OSError):  # a cache that cannot be written is no cache
            _marker(family).write_text("\n".join(names))


def _is_compiled(family: str, indexes: set[str]) -> bool:
    """Whether the marker is there, and every index of Numba's that it was made with."""
    try:
        names = _marker(family).read_text().split()
    except OSError:
        return False
    return bool(names) and indexes.issuperset(names)


def _marker(family: str) -> Path:
    return folder() / f"{family}.compiled"
