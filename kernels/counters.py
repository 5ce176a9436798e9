"""Atomic counters in memory that several processes share.

Accesses to other memory before `add_one` are visible to a process that reads the new count
with `read_counts` (release and acquire, as in C11). x86 guarantees this order for all
accesses; ARM and POWER do not.
"""

from collections.abc import Callable

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.extending import intrinsic

from hpcstream.kernels.compiling import lean_njit

IS_ATOMIC: bool = not config.DISABLE_JIT  # type: ignore[attr-defined]  # set from its environment
"""Whether counters can be shared with other processes; interpreted kernels are not atomic."""


def _add_interpreted(counts, index):
    counts[index] += 1


@intrinsic
def _add_compiled(_typing_context, counts, index):
    def generate(context, builder, signature, arguments):
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.gep(view.data, [arguments[1]])
        builder.atomic_rmw("add", address, ir.Constant(ir.IntType(64), 1), "release")
        return context.get_dummy_value()

    return types.none(counts, types.int64), generate


def _load_interpreted(counts, index):
    return counts[index]


@intrinsic
def _load_compiled(_typing_context, counts, index):
    def generate(context, builder, signature, arguments):
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.gep(view.data, [arguments[1]])
        return builder.load_atomic(address, "acquire", 8)

    return types.int64(counts, types.int64), generate


# An intrinsic exists only in compiled code; with NUMBA_DISABLE_JIT=1 there is none.
_add: Callable[..., None] = _add_compiled if IS_ATOMIC else _add_interpreted
_load: Callable[..., np.int64] = _load_compiled if IS_ATOMIC else _load_interpreted


@lean_njit()
def add_one(counts, indices):
    """Add one to the counters at ``indices``.

    Parameters
    ----------
    counts : int64[n]
        Shared by several processes.
    indices : int64[m]
    """
    for index in range(indices.shape[0]):
        _add(counts, indices[index])


@lean_njit()
def read_counts(counts, indices, out):
    """Read the counters at ``indices``.

    Parameters
    ----------
    counts : int64[n]
        Shared by several processes.
    indices : int64[m]
    out : int64[m]
    """
    for index in range(indices.shape[0]):
        out[index] = _load(counts, indices[index])


def warm_up():
    """Compile what the engine calls."""
    counts, indices = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    add_one(counts, indices)
    read_counts(counts, indices, np.zeros(1, dtype=np.int64))
