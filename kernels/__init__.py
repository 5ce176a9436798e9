"""Compiled loops over arrays, one family per module, imported as ``hpcstream.kernels.<family>``.

A kernel takes one-dimensional contiguous arrays and scalars, validates nothing and is
independent of Arrow, MPI and the engine. A family is loaded when it is imported, and all
are cached in the same folder (see `hpcstream.kernels.cache`).
"""

import contextlib
import importlib
from collections.abc import Iterable
from pathlib import Path

from hpcstream.kernels.cache import folder, ready_folder

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
    "exact_sums",
    "counters",
    "time_order",
    "keyed_table",
    "row_arenas",
    "ordered_rows",
    "ordered_columns",
    "order_statistics",
    "calendar",
    "sessions",
)
"""Every module here that has kernels; each has a ``warm_up()``."""

ON_DEMAND = frozenset(
    {
        "calendar",
        "exact_sums",
        "join",
        "keyed_table",
        "ordered_columns",
        "ordered_rows",
        "row_arenas",
        "sessions",
        "string_lookup",
        "time_order",
    }
)
"""Families that a job compiles only if one of its operators names them."""

COSTS = {"key_resolve": 9, "accumulate": 4, "string_lookup": 4, "interning": 3, "wire": 3}
"""Seconds to compile some families on a slow machine; `OTHER_COST` for the others."""
OTHER_COST = 1.5


def not_compiled() -> list[str]:
    """Return the families that are not compiled for this source, Numba and processor."""
    indexes = {path.name for path in ready_folder().glob("*/*.nbi")}
    return [family for family in FAMILIES if not _is_compiled(family, indexes)]


def warm_up(families: Iterable[str] = FAMILIES) -> None:
    """Compile every kernel for the arguments the engine passes, or load it from Numba's cache."""
    for family in families:
        importlib.import_module(f"hpcstream.kernels.{family}").warm_up()
        names = sorted(path.name for path in folder().glob(f"*/{family}.*.nbi"))
        with contextlib.suppress(OSError):  # the cache may be read-only
            _marker(family).write_text("\n".join(names))


def _is_compiled(family: str, indexes: set[str]) -> bool:
    """Whether the marker exists, and all index files of Numba that it lists."""
    try:
        names = _marker(family).read_text().split()
    except OSError:
        return False
    return bool(names) and indexes.issuperset(names)


def _marker(family: str) -> Path:
    return folder() / f"{family}.compiled"
