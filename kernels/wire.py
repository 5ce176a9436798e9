"""Writes the columns of a batch into one send buffer, a block for each partition.

``hpcstream/exchange/wire/format.py`` describes the layout of a block. All kernels here
process all partitions of one column, so that the overhead of a call does not grow with the
number of ranks. ``order`` is empty if rows keep the order of the batch.
"""

import numpy as np

from hpcstream.kernels.compiling import lean_njit
from hpcstream.kernels.copying import copy_items, copy_word

_ONE = np.uint64(1)


@lean_njit()
def _aligned(n_bytes):
    return (n_bytes + 63) & ~63


@lean_njit()
def plan_blocks(
    offsets,
    row_bits,
    extra_rows,
    has_validity,
    data_bytes,
    out_starts,
    out_counts,
    out_displacements,
):
    """Lay out the blocks of all partitions; return their total length.

    Parameters
    ----------
    offsets : int64[n_partitions + 1]
        Partition ``p`` has ``offsets[p + 1] - offsets[p]`` rows; without rows
        it has no block.
    row_bits, extra_rows : int64[n_columns]
        Size of a row in a column's first buffer after validity, and the number of rows that
        this buffer has in addition to those of the partition.
    has_validity : uint8[n_columns]
    data_bytes : int64[n_columns * n_partitions]
        Length of a column's last buffer.
    out_starts : int64[n_columns * 3 * n_partitions]
        For each column the offsets of its validity, its first buffer and its data.
    out_counts, out_displacements : int64[n_partitions]
        Length and offset of each block.

    Returns
    -------
    int64
    """
    n_partitions = out_counts.shape[0]
    n_columns = row_bits.shape[0]
    directory_bytes = _aligned(8 + 16 * n_columns)
    position = np.int64(0)
    for partition in range(n_partitions):
        out_displacements[partition] = position
        n_rows = offsets[partition + 1] - offsets[partition]
        if n_rows > 0:
            position += directory_bytes
            for column in range(n_columns):
                start = column * 3 * n_partitions + partition
                out_starts[start] = position
                if has_validity[column]:
                    position += _aligned((n_rows + 7) >> 3)
                out_starts[start + n_partitions] = position
                bits = (n_rows + extra_rows[column]) * row_bits[column]
                position += _aligned((bits + 7) >> 3)
                out_starts[start + 2 * n_partitions] = position
                position += _aligned(data_bytes[column * n_partitions + partition])
        out_counts[partition] = position - out_displacements[partition]
    return position


@lean_njit()
def write_directories(offsets, has_validity, data_bytes, displacements, out_words):
    """Write the directory of each block: rows, validity, data lengths.

    Parameters
    ----------
    offsets, has_validity, data_bytes
        As for `plan_blocks`.
    displacements : int64[n_partitions]
        Offset of each block in bytes.
    out_words : int64[...]
        The send buffer.
    """
    n_partitions = displacements.shape[0]
    for partition in range(n_partitions):
        n_rows = offsets[partition + 1] - offsets[partition]
        if n_rows > 0:
            word = displacements[partition] >> 3
            out_words[word] = n_rows
            for column in range(has_validity.shape[0]):
                out_words[word + 1 + 2 * column] = has_validity[column]
                out_words[word + 2 + 2 * column] = data_bytes[column * n_partitions + partition]


@lean_njit()
def gather_values(values, order, offsets, starts, out_values):
    """Copy the values of each partition's rows into its block.

    Parameters
    ----------
    values : dtype[n_rows]
        An unsigned type of 1, 2, 4 or 8 bytes.
    order : int32[n_ordered] or int32[0]
    offsets : int64[n_partitions + 1]
    starts : int64[n_partitions]
        Offset of each partition's buffer in bytes.
    out_values : dtype[...]
        The send buffer.
    """
    ordered = order.shape[0] > 0
    for partition in range(starts.shape[0]):
        # Unsigned: Numba then does not check for negative indices, which is twice as fast.
        first = np.uint64(offsets[partition])
        n_rows = np.uint64(offsets[partition + 1]) - first
        if n_rows == 0:
            continue
        start = np.uint64(starts[partition] // out_values.itemsize)
        if ordered:
            for row in range(n_rows):
                out_values[start + row] = values[np.uint32(order[first + row])]
        else:
            for row in range(n_rows):
                out_values[start + row] = values[first + row]


@lean_njit()
def gather_records(items, width, order, offsets, starts, out_items):
    """Copy records of ``width`` items each, as `gather_values` does with values.

    Parameters
    ----------
    items : dtype[n_rows * width]
    width : int64
    order, offsets, starts
        As for `gather_values`.
    out_items : dtype[...]
        The send buffer.
    """
    ordered = order.shape[0] > 0
    n_items = np.uint64(width)
    for partition in range(starts.shape[0]):
        first = np.uint64(offsets[partition])
        stop = np.uint64(offsets[partition + 1])
        target = np.uint64(starts[partition] // out_items.itemsize)
        for index in range(first, stop):
            source = n_items * (np.uint64(np.uint32(order[index])) if ordered else np.uint64(index))
            if n_items == 2:  # decimal128: a loop over two words would be four times as slow
                out_items[target] = items[source]
                out_items[target + _ONE] = items[source + _ONE]
            else:
                for item in range(n_items):
                    out_items[target + item] = items[source + item]
            target += n_items


@lean_njit()
def measure_binary(offsets, order, partition_offsets, out_bytes):
    """Compute the total bytes of each partition's rows.

    Parameters
    ----------
    offsets : int32[n_rows + 1] or int64[n_rows + 1]
    order : int32[n_ordered] or int32[0]
    partition_offsets : int64[n_partitions + 1]
    out_bytes : int64[n_partitions]
    """
    ordered = order.shape[0] > 0
    for partition in range(out_bytes.shape[0]):
        first = np.uint64(partition_offsets[partition])
        stop = np.uint64(partition_offsets[partition + 1])
        total = np.int64(0)
        if ordered:
            for index in range(first, stop):
                row = np.uint64(np.uint32(order[index]))
                total += np.int64(offsets[row + _ONE]) - np.int64(offsets[row])
        else:
            total = np.int64(offsets[stop]) - np.int64(offsets[first])
        out_bytes[partition] = total


@lean_njit()
def _copy_four_words(source, source_start, target, target_start):
    copy_word(source, source_start, target, target_start)
    copy_word(source, source_start + 8, target, target_start + 8)
    copy_word(source, source_start + 16, target, target_start + 16)
    copy_word(source, source_start + 24, target, target_start + 24)


@lean_njit(inline="always")
def _copy_bytes(source, source_start, n_bytes, target, target_start, target_limit):
    """Copy bytes; may also write over what follows in ``target``, up to ``target_limit``."""
    done = np.int64(0)
    room = min(source.shape[0] - source_start, target_limit - target_start)
    if room >= n_bytes + 32:
        # Most strings are shorter than 32 bytes: one step, no loop to mispredict (2 ns, not 7).
        _copy_four_words(source, source_start, target, target_start)
        done += 32
        while done < n_bytes:
            _copy_four_words(source, source_start + done, target, target_start + done)
            done += 32
    while done < n_bytes:
        target[target_start + done] = source[source_start + done]
        done += 1


@lean_njit()
def gather_binary_offsets(offsets, order, partition_offsets, starts, out_offsets):
    """Write the offsets of each partition's rows, beginning at 0.

    Parameters
    ----------
    offsets : int32[n_rows + 1] or int64[n_rows + 1]
    order, partition_offsets
        As for `measure_binary`.
    starts : int64[n_partitions]
        Place of each partition's offsets in bytes.
    out_offsets : int32[...] or int64[...]
        The send buffer.
    """
    ordered = order.shape[0] > 0
    for partition in range(starts.shape[0]):
        first = np.uint64(partition_offsets[partition])
        stop = np.uint64(partition_offsets[partition + 1])
        if first == stop:
            continue
        target = np.uint64(starts[partition] // out_offsets.itemsize)
        out_offsets[target] = 0
        if ordered:
            length = np.int64(0)
            for index in range(first, stop):
                row = np.uint64(np.uint32(order[index]))
                length += np.int64(offsets[row + _ONE]) - np.int64(offsets[row])
                target += _ONE
                out_offsets[target] = length
        else:
            base = offsets[first]
            for index in range(_ONE, stop - first + _ONE):
                out_offsets[target + index] = offsets[first + index] - base


@lean_njit()
def gather_binary_data(offsets, data, order, partition_offsets, starts, sizes, out_bytes):
    """Copy the bytes of each partition's rows into its block.

    Parameters
    ----------
    offsets : int32[n_rows + 1] or int64[n_rows + 1]
    data : uint8[n_bytes]
    order, partition_offsets
        As for `measure_binary`.
    starts, sizes : int64[n_partitions]
        Place of each partition's data, and its length by `measure_binary`.
    out_bytes : uint8[...]
        The send buffer.
    """
    ordered = order.shape[0] > 0
    for partition in range(starts.shape[0]):
        first = np.uint64(partition_offsets[partition])
        stop = np.uint64(partition_offsets[partition + 1])
        if sizes[partition] == 0:
            continue
        target = starts[partition]
        if ordered:
            limit = target + _aligned(sizes[partition])
            for index in range(first, stop):
                row = np.uint64(np.uint32(order[index]))
                source = np.int64(offsets[row])
                n_bytes = np.int64(offsets[row + _ONE]) - source
                _copy_bytes(data, source, n_bytes, out_bytes, target, limit)
                target += n_bytes
        else:
            source = np.int64(offsets[first])
            copy_items(data, source, sizes[partition], out_bytes, target)


@lean_njit()
def copy_blocks(content, displacements, counts, starts, out_bytes):
    """Copy one run of bytes into the block of each partition.

    Parameters
    ----------
    content : uint8[n_bytes]
    displacements, counts : int64[n_partitions]
        Place and length of each partition's run.
    starts : int64[n_partitions]
        Place of each partition's copy.
    out_bytes : uint8[...]
        The send buffer.
    """
    for partition in range(starts.shape[0]):
        source, target = displacements[partition], starts[partition]
        copy_items(content, source, counts[partition], out_bytes, target)


def _read_only(dtype, n_items=1):
    array = np.zeros(n_items, dtype=dtype)
    array.setflags(write=False)
    return array


def warm_up():
    """Compile what the engine calls: Arrow's views are read-only, our own arrays are not."""
    one = np.zeros(1, dtype=np.int64)
    flags = np.zeros(1, dtype=np.uint8)
    offsets = np.zeros(2, dtype=np.int64)
    order = np.empty(0, dtype=np.int32)
    memory = np.zeros(64, dtype=np.uint8)
    plan_blocks(offsets, one, one, flags, one, np.empty(3, dtype=np.int64), one, one.copy())
    write_directories(offsets, flags, one, one, memory.view(np.int64))
    copy_blocks(memory, one, one, one, memory.copy())
    for value in (np.uint8, np.uint16, np.uint32, np.uint64):
        gather_values(_read_only(value), order, offsets, one, memory.view(value))
    for item in (np.uint8, np.int64):
        gather_records(_read_only(item), 1, order, offsets, one, memory.view(item))
    for offset in (np.int32, np.int64):
        lengths = _read_only(offset, 2)
        measure_binary(lengths, order, offsets, one)
        gather_binary_offsets(lengths, order, offsets, one, memory.view(offset))
        gather_binary_data(lengths, _read_only(np.uint8), order, offsets, one, one, memory)
