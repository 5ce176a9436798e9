"""The obvious version of each kernel in hpcstream.kernels.wire."""

from itertools import pairwise


def aligned(n_bytes):
    return -(-n_bytes // 64) * 64


def plan_blocks(rows, columns, data_bytes):
    """Return the places of (column, buffer, partition) and the length of each block.

    ``columns`` are (row_bits, extra_rows, has_validity), ``data_bytes`` by column and partition.
    """
    places, lengths, position = {}, [], 0
    for partition, n_rows in enumerate(rows):
        begin = position
        if n_rows:
            position += aligned(8 + 16 * len(columns))
            for column, (row_bits, extra_rows, has_validity) in enumerate(columns):
                first = -(-(n_rows + extra_rows) * row_bits // 8)
                sizes = [has_validity * -(-n_rows // 8), first, data_bytes[column][partition]]
                for buffer, size in enumerate(sizes):
                    places[column, buffer, partition] = position
                    position += aligned(size)
        lengths.append(position - begin)
    return places, lengths


def rows_of_partitions(rows, order, offsets):
    """Return for each partition a list of its rows."""
    return [[rows[row] for row in order[first:stop]] for first, stop in pairwise(offsets)]
