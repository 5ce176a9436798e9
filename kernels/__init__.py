"""Compiled loops on arrays, one family a module; imported as ``hpcstream.kernels.<family>``.

A kernel takes one-dimensional contiguous arrays and scalars, validates nothing
and knows nothing of Arrow, MPI or the engine.
"""

import importlib

FAMILIES = (
    "hashing",
    "partition",
    "wire",
    "bitmap",
    "dictionary",
    "key_table", "key_regions",
    "key_bytes",
    "accumulate",
    "order_statistics",
)
"""Every module here that has kernels; each has a ``warm_up()``."""


def warm_up() -> None:
    """Compile every kernel for the arguments the engine passes, or load it from Numba's cache."""
    for family in FAMILIES:
        importlib.import_module(f"hpcstream.kernels.{family}").warm_up()
