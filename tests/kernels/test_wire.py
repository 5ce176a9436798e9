from itertools import pairwise

import naive_wire as naive
import numpy as np
import numpy.testing as npt
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hpcstream.kernels import wire

AS_THEY_LIE = np.empty(0, dtype=np.int32)
BLOCK_BYTES = 4096
COLUMNS = st.tuples(st.sampled_from([0, 1, 8, 32, 64, 128]), st.integers(0, 1), st.integers(0, 1))


def cuts(n_rows):
    inner = st.lists(st.integers(0, n_rows), max_size=5).map(sorted)
    return inner.map(lambda inside: np.array([0, *inside, n_rows], dtype=np.int64))


@st.composite
def dealt(draw, rows):
    """Rows, the order in which they are sent (or as they lie), and who gets which."""
    rows = draw(rows)
    order = np.array(draw(st.permutations(range(len(rows)))), dtype=np.int32)
    if draw(st.booleans()):
        order = np.arange(len(rows), dtype=np.int32)
        return rows, order, AS_THEY_LIE, draw(cuts(len(rows)))
    return rows, order, order, draw(cuts(len(rows)))


def memory_and_starts(offsets):
    starts = np.arange(len(offsets) - 1, dtype=np.int64) * BLOCK_BYTES
    return np.full(BLOCK_BYTES * len(starts), 0xAA, dtype=np.uint8), starts


@given(
    st.lists(st.integers(0, 70), min_size=1, max_size=4), st.lists(COLUMNS, max_size=3), st.data()
)
def test_plan_blocks_matches_naive(rows, columns, data):
    sizes = st.lists(st.integers(0, 200), min_size=len(rows), max_size=len(rows))
    data_bytes = data.draw(st.lists(sizes, min_size=len(columns), max_size=len(columns)))
    row_bits, extra_rows, has_validity = np.array(columns, dtype=np.int64).reshape(-1, 3).T
    starts = np.full((len(columns), 3, len(rows)), -1, dtype=np.int64)
    counts, displacements = np.empty((2, len(rows)), dtype=np.int64)

    total = wire.plan_blocks(
        np.cumsum([0, *rows]),
        row_bits.copy(),
        extra_rows.copy(),
        has_validity.astype(np.uint8),
        np.array(data_bytes, dtype=np.int64).reshape(-1),
        starts.reshape(-1),
        counts,
        displacements,
    )

    places, lengths = naive.plan_blocks(rows, columns, data_bytes)
    assert {tuple(place): int(starts[tuple(place)]) for place in np.argwhere(starts >= 0)} == places
    npt.assert_array_equal(counts, lengths)
    npt.assert_array_equal(displacements, np.cumsum([0, *lengths])[:-1])
    assert total == sum(lengths)


def test_write_directories_skips_partitions_without_rows():
    words = np.full(24, -1, dtype=np.int64)
    offsets, displacements = np.array([0, 5, 5, 6]), np.array([0, 64, 64])
    has_validity, data_bytes = np.array([1, 0], dtype=np.uint8), np.array([10, 0, 12, 20, 0, 22])
    wire.write_directories(offsets, has_validity, data_bytes, displacements, words)
    npt.assert_array_equal(words[:5], [5, 1, 10, 0, 20])
    npt.assert_array_equal(words[8:13], [1, 1, 12, 0, 22])
    assert np.all(words[[5, 6, 7, *range(13, 24)]] == -1)


@given(st.sampled_from([np.uint8, np.uint16, np.uint32, np.uint64]), st.data())
def test_gather_values_matches_naive(dtype, data):
    values, naive_order, order, offsets = data.draw(dealt(arrays(dtype, st.integers(0, 40))))
    memory, starts = memory_and_starts(offsets)
    wire.gather_values(values, order, offsets, starts, memory.view(dtype))
    expected = naive.rows_of_partitions(values, naive_order, offsets)
    for start, rows in zip(starts, expected, strict=True):
        npt.assert_array_equal(memory[start:].view(dtype)[: len(rows)], rows)


@given(st.sampled_from([np.uint8, np.int64]), st.integers(0, 5), st.data())
def test_gather_records_matches_naive(dtype, width, data):
    shapes = st.integers(0, 20).map(lambda n_rows: (n_rows, width))
    records, naive_order, order, offsets = data.draw(
        dealt(shapes.flatmap(lambda s: arrays(dtype, s)))
    )
    memory, starts = memory_and_starts(offsets)
    wire.gather_records(records.reshape(-1), width, order, offsets, starts, memory.view(dtype))
    expected = naive.rows_of_partitions(records, naive_order, offsets)
    for start, rows in zip(starts, expected, strict=True):
        items = memory[start:].view(dtype)[: len(rows) * width]
        npt.assert_array_equal(items, np.array(rows, dtype=dtype).reshape(-1))


@given(
    dealt(st.lists(st.binary(max_size=70), max_size=20)),
    st.sampled_from([np.int32, np.int64]),
    st.integers(0, 3),
)
def test_binary_kernels_match_naive(case, offset_dtype, skipped):
    strings, naive_order, order, partition_offsets = case
    data = np.frombuffer(b"_" * skipped + b"".join(strings), dtype=np.uint8)
    offsets = (skipped + np.cumsum([0, *map(len, strings)])).astype(offset_dtype)
    memory, starts = memory_and_starts(partition_offsets)
    data_starts = starts + BLOCK_BYTES // 2
    sizes = np.empty(len(starts), dtype=np.int64)

    wire.measure_binary(offsets, order, partition_offsets, sizes)
    wire.gather_binary_offsets(offsets, order, partition_offsets, starts, memory.view(offset_dtype))
    wire.gather_binary_data(offsets, data, order, partition_offsets, data_starts, sizes, memory)

    expected = naive.rows_of_partitions(strings, naive_order, partition_offsets)
    for partition, rows in enumerate(expected):
        assert sizes[partition] == sum(map(len, rows))
        content = memory[data_starts[partition] :]
        bounds = memory[starts[partition] :].view(offset_dtype)[: len(rows) + 1] if rows else []
        assert [content[a:b].tobytes() for a, b in pairwise(bounds)] == rows
        padded = naive.aligned(int(sizes[partition]))
        assert np.all(content[padded : BLOCK_BYTES // 2] == 0xAA), "wrote past its own buffer"


def test_copy_blocks_copies_a_run_for_each_partition():
    content = np.arange(20, dtype=np.uint8)
    displacements, counts = np.array([3, 0, 10]), np.array([2, 0, 4])
    memory = np.full(16, 0xAA, dtype=np.uint8)
    wire.copy_blocks(content, displacements, counts, np.array([0, 8, 8]), memory)
    npt.assert_array_equal(memory, [3, 4, *[0xAA] * 6, 10, 11, 12, 13, *[0xAA] * 4])
