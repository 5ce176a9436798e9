"""Copies runs of items between arrays at the bandwidth of memory."""

from collections.abc import Callable

from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic


def _copy_items_interpreted(source, source_start, n_items, target, target_start):
    """Copy items from one array to another of the same type."""
    stop = int(source_start) + int(n_items)
    target[int(target_start) : int(target_start) + int(n_items)] = source[int(source_start) : stop]


@intrinsic
def _copy_items_compiled(_typing_context, source, source_start, n_items, target, target_start):
    """Copy items from one array to another of the same type: ``memcpy``."""

    def generate(context, builder, signature, arguments):
        def address(array, start):
            view = context.make_array(signature.args[array])(context, builder, arguments[array])
            return builder.gep(view.data, [arguments[start]])

        item = context.get_abi_sizeof(context.get_data_type(signature.args[0].dtype))
        cgutils.raw_memcpy(builder, address(3, 4), address(0, 1), arguments[2], item)
        return context.get_dummy_value()

    return types.none(source, types.int64, types.int64, target, types.int64), generate


@intrinsic
def _copy_word_compiled(_typing_context, source, source_start, target, target_start):
    """Copy eight bytes: one unaligned load and store."""

    def generate(context, builder, signature, arguments):
        word_pointer = context.get_value_type(types.uint64).as_pointer()

        def address(array_type, array, start):
            data = context.make_array(array_type)(context, builder, array).data
            return builder.bitcast(cgutils.pointer_add(builder, data, start), word_pointer)

        origin = address(signature.args[0], arguments[0], arguments[1])
        destination = address(signature.args[2], arguments[2], arguments[3])
        builder.store(builder.load(origin, align=1), destination, align=1)
        return context.get_dummy_value()

    return types.none(source, types.int64, target, types.int64), generate


def _copy_word_interpreted(source, source_start, target, target_start):
    """Copy eight bytes."""
    target[target_start : target_start + 8] = source[source_start : source_start + 8]


# An intrinsic exists only in compiled code; with NUMBA_DISABLE_JIT=1 there is none.
_INTERPRETED: bool = config.DISABLE_JIT  # type: ignore[attr-defined]  # set when numba starts

copy_items: Callable[..., None] = _copy_items_interpreted if _INTERPRETED else _copy_items_compiled

copy_word: Callable[..., None] = _copy_word_interpreted if _INTERPRETED else _copy_word_compiled
