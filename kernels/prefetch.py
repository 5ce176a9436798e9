"""Prefetches memory into the cache."""

from collections.abc import Callable

from llvmlite import ir
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

_FOR_READING, _KEEP, _DATA = 0, 3, 1  # of LLVM's prefetch


def _prefetch_interpreted(array, index):
    """Ask for the cache line of byte ``index`` of an array, which may lie behind its end."""


@intrinsic
def _prefetch_compiled(_typing_context, array, index):
    """Ask for the cache line of byte ``index`` of an array, which may lie behind its end."""

    def generate(context, builder, signature, arguments):
        view = context.make_array(signature.args[0])(context, builder, arguments[0])
        number, pointer = ir.IntType(32), ir.IntType(8).as_pointer()
        prototype = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, prototype, "llvm.prefetch.p0")
        address = builder.bitcast(cgutils.pointer_add(builder, view.data, arguments[1]), pointer)
        how = [number(_FOR_READING), number(_KEEP), number(_DATA)]
        builder.call(function, [address, *how])
        return context.get_dummy_value()

    return types.none(array, types.int64), generate


# An intrinsic exists only in compiled code; with NUMBA_DISABLE_JIT=1 there is none.
prefetch: Callable[..., None] = (
    _prefetch_interpreted
    if config.DISABLE_JIT  # type: ignore[attr-defined]  # set when numba reads its environment
    else _prefetch_compiled
)
