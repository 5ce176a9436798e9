"""Hashes of keys: 64 bits, the same on every machine and in every run.

They determine the owner of a key, and checkpoints depend on them through key groups:
**changing a function here changes the meaning of old checkpoints.** The high 12 bits
are the key group, the low bits the slot of a hash table, so both ends must be well
mixed. Hashes are not secret: they do not resist keys that are chosen to collide.

Sources: the finalizer is splitmix64 (Steele, Lea and Flood 2014, "Fast
splittable pseudorandom number generators", with the constants of Stafford's
"Mix13"); the loop over bytes follows the one-lane round of XXH64 (Collet, the
xxHash specification), with a tail padded to one word.
"""

import sys
from collections.abc import Callable

import numpy as np
from numba import config, types
from numba.core import cgutils
from numba.extending import intrinsic

from hpcstream.kernels.compiling import lean_njit

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_PRIME_1 = np.uint64(0x9E3779B185EBCA87)
_PRIME_2 = np.uint64(0xC2B2AE3D27D4EB4F)
_PRIME_4 = np.uint64(0x85EBCA77C2B2AE63)
_PRIME_5 = np.uint64(0x27D4EB2F165667C5)

NULL_HASH = np.uint64(0x5851F42D4C957F2D)
"""The hash of a null of any type."""

_BIG_ENDIAN = sys.byteorder == "big"


def _load_word_interpreted(data, start):
    """Return ``data[start:start + 8]`` as a little-endian uint64."""
    return np.uint64(int.from_bytes(data[start : start + 8].tobytes(), "little"))


@intrinsic
def _load_word_compiled(_typing_context, data, start):
    """Return ``data[start:start + 8]`` as a little-endian uint64: one unaligned load."""

    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        address = cgutils.pointer_add(builder, array.data, arguments[1])
        word_address = builder.bitcast(address, context.get_value_type(types.uint64).as_pointer())
        loaded = builder.load(word_address, align=1)
        return builder.bswap(loaded) if _BIG_ENDIAN else loaded

    return types.uint64(data, types.int64), generate


# An intrinsic exists only in compiled code; with NUMBA_DISABLE_JIT=1 there is none.
load_word: Callable[..., np.uint64] = (
    _load_word_interpreted
    if config.DISABLE_JIT  # type: ignore[attr-defined]  # set when numba reads its environment
    else _load_word_compiled
)


@lean_njit()
def mix_word(word):
    """Return the hash of a key of one word."""
    word = word + _GAMMA
    word = (word ^ (word >> np.uint64(30))) * _MIX_1
    word = (word ^ (word >> np.uint64(27))) * _MIX_2
    return word ^ (word >> np.uint64(31))


@lean_njit()
def _round(state, word):
    word = word * _PRIME_2
    word = ((word << np.uint64(31)) | (word >> np.uint64(33))) * _PRIME_1
    state = state ^ word
    state = (state << np.uint64(27)) | (state >> np.uint64(37))
    return state * _PRIME_1 + _PRIME_4


@lean_njit(inline="always")
def load_tail(data, start, n_bytes):
    """Return 0 to 7 bytes as the low end of a word, without reading past ``data``."""
    if start + 8 <= data.shape[0]:
        half = np.uint64(32 - 4 * n_bytes)  # half of the unused bits: a shift by 64 is undefined
        return (((load_word(data, start) << half) << half) >> half) >> half
    word = np.uint64(0)
    for byte in range(n_bytes):
        word |= np.uint64(data[start + byte]) << np.uint64(8 * byte)
    return word


@lean_njit()
def hash_words(words, out_hashes):
    """Hash one int64 per row.

    Parameters
    ----------
    words : int64[n_rows]
    out_hashes : uint64[n_rows]
    """
    for row in range(words.shape[0]):
        out_hashes[row] = mix_word(np.uint64(words[row]))


@lean_njit(inline="always")
def hash_bytes(data, start, stop):
    """Return the hash of ``data[start:stop]``."""
    position = np.int64(start)
    state = np.uint64(stop - position) + _PRIME_5
    while position + 8 <= stop:
        state = _round(state, load_word(data, position))
        position += 8
    if position < stop:
        state = _round(state, load_tail(data, position, stop - position))
    return mix_word(state)


@lean_njit()
def hash_binary(offsets, data, out_hashes):
    """Hash one byte string per row.

    Parameters
    ----------
    offsets : int32[n_rows + 1] or int64[n_rows + 1]
        Row ``i`` is ``data[offsets[i]:offsets[i + 1]]``.
    data : uint8[n_bytes]
    out_hashes : uint64[n_rows]
    """
    for row in range(out_hashes.shape[0]):
        out_hashes[row] = hash_bytes(data, np.int64(offsets[row]), np.int64(offsets[row + 1]))


@lean_njit()
def hash_records(data, width, out_hashes):
    """Hash records of ``width`` bytes each, with the same result as `hash_binary`.

    Parameters
    ----------
    data : uint8[n_rows * width]
    width : int64
    out_hashes : uint64[n_rows]
    """
    for row in range(out_hashes.shape[0]):
        out_hashes[row] = hash_bytes(data, row * width, (row + 1) * width)


@lean_njit()
def gather_hashes(dictionary_hashes, indices, out_hashes):
    """Write the hash of each row's dictionary entry; `NULL_HASH` for rows without an entry.

    Parameters
    ----------
    dictionary_hashes : uint64[n_entries]
    indices : int64[n_rows]
        Entry of each row; undefined for null rows.
    out_hashes : uint64[n_rows]
    """
    n_entries = dictionary_hashes.shape[0]
    for row in range(indices.shape[0]):
        entry = indices[row]
        known = 0 <= entry < n_entries
        out_hashes[row] = dictionary_hashes[entry] if known else NULL_HASH


@lean_njit()
def hash_nulls(valid, out_hashes):
    """Overwrite the hashes of null rows with `NULL_HASH`.

    Parameters
    ----------
    valid : bool[n_rows]
    out_hashes : uint64[n_rows]
        Changed in place.
    """
    for row in range(valid.shape[0]):
        out_hashes[row] = out_hashes[row] if valid[row] else NULL_HASH


@lean_njit()
def combine_hashes(hashes, out_hashes):
    """Combine the hashes of the previous key columns with those of the next one.

    Parameters
    ----------
    hashes : uint64[n_rows]
        Of the next column. The order matters: (a, b) and (b, a) differ.
    out_hashes : uint64[n_rows]
        Changed in place.
    """
    for row in range(hashes.shape[0]):
        out_hashes[row] = mix_word(out_hashes[row] * _PRIME_1 + hashes[row])


def _read_only(dtype):
    array = np.zeros(1, dtype=dtype)
    array.setflags(write=False)
    return array


def warm_up():
    """Compile what the engine calls: Arrow's views are read-only, our own arrays are not."""
    hashes = np.zeros(1, dtype=np.uint64)
    words, data, valid = _read_only(np.int64), _read_only(np.uint8), _read_only(np.bool_)
    hash_words(words, hashes)
    hash_words(words.copy(), hashes)
    for offset_dtype in (np.int32, np.int64):
        hash_binary(np.array([0, 1], dtype=offset_dtype), data, hashes)
        offsets = np.array([0, 1], dtype=offset_dtype)
        offsets.setflags(write=False)
        hash_binary(offsets, data, hashes)
    hash_records(data, 1, hashes)
    gather_hashes(hashes, words, hashes)
    hash_nulls(valid, hashes)
    combine_hashes(hashes, hashes)
