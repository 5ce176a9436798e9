"""Counters in memory that several processes share: added to and read with an order.

What a process did with other memory before `add_one` is done for whoever reads the
new count with `read_counts` (release and acquire, as in C11). x86 keeps that order by
itself; ARM and POWER do not.
"""

from collections.abc import Callable

import numpy as np
from llvmlite import ir
from numba import config, types
from numba.extending import intrinsic

from hpcstream.kernels.compiling import lean_njit

IS_ATOMIC: bool = not config.DISABLE_JIT  # type: ignore[attr-defined]  # set from its environment
"""Whether this process may share counters with others: interpreted kernels may not."""


def _add_interpreted(counts, place):
    counts[place] += 1


@intrinsic
def _add_compiled(_typing_context, counts, place):
    def generate(context, builder, signature, arguments):
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.gep(view.data, [arguments[1]])
        builder.atomic_rmw("add", address, ir.Constant(ir.IntType(64), 1), "release")
        return context.get_dummy_value()

    return types.none(counts, types.int64), generate


def _load_interpreted(counts, place):
    return counts[place]


@intrinsic
def _load_compiled(_typing_context, counts, place):
    def generate(context, builder, signature, arguments):
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = builder.gep(view.data, [arguments[1]])
        return builder.load_atomic(address, "acquire", 8)

    return types.int64(counts, types.int64), generate


# An intrinsic exists only in compiled code; with NUMBA_DISABLE_JIT=1 there is none.
_add: Callable[..., None] = _add_compiled if IS_ATOMIC else _add_interpreted
_load: Callable[..., np.int64] = _load_compiled if IS_ATOMIC else _load_interpreted


@lean_njit()
def add_one(counts, places):
    """Add one to the counters at ``places``.

    Parameters
    ----------
    counts : int64[n]
        Shared by several processes.
    places : int64[m]
    """
    for index in range(places.shape[0]):
        _add(counts, places[index])


@lean_njit()
def read_counts(counts, places, out):
    """Read the counters at ``places``.

    Parameters
    ----------
    counts : int64[n]
        Shared by several processes.
    places : int64[m]
    out : int64[m]
    """
    for index in range(places.shape[0]):
        out[index] = _load(counts, places[index])


def warm_up():
    """Compile what the engine calls."""
    counts, places = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
    add_one(counts, places)
    read_counts(counts, places, np.zeros(1, dtype=np.int64))
