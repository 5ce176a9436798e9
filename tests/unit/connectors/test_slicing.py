import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.connectors.files.slicing import RowSlicer, SkippedReader

lengths = st.lists(st.integers(0, 20), max_size=12)


def batches_of(lengths):
    start = 0
    for length in lengths:
        yield pa.record_batch({"i": pa.array(range(start, start + length), pa.int64())})
        start += length


@given(lengths=lengths, asked=st.lists(st.integers(1, 30), min_size=1), skipped=st.integers(0, 60))
def test_every_cut_has_the_size_asked_for_until_the_rows_end(lengths, asked, skipped):
    slicer = RowSlicer(batches_of(lengths))
    dropped = slicer.skip(skipped)
    assert dropped == min(skipped, sum(lengths))

    left, seen = sum(lengths) - dropped, []
    for n_rows in asked:
        batch = slicer.take(n_rows)
        assert (batch.num_rows if batch else 0) == min(n_rows, left)
        left -= batch.num_rows if batch else 0
        seen += batch["i"].to_pylist() if batch else []
    assert seen == list(range(sum(lengths)))[dropped : dropped + len(seen)]


def test_cuts_inside_a_batch_are_views():
    slicer = RowSlicer(batches_of([100]))
    slicer.take(1)
    before = pa.total_allocated_bytes()
    pieces = [slicer.take(10) for _ in range(9)]
    assert pa.total_allocated_bytes() == before
    assert pieces[-1]["i"].to_pylist() == list(range(81, 91))


@given(n_rows=st.integers(0, 50), position=st.integers(0, 60), max_rows=st.integers(1, 20))
def test_a_skipped_split_counts_its_rows(n_rows, position, max_rows):
    reader = SkippedReader(pa.schema({"a": pa.int64()}), n_rows, position)
    scanned = 0
    while (chunk := reader.read(max_rows)) is not None:
        assert chunk.batch.num_rows == 0
        assert 0 < chunk.scanned <= max_rows
        scanned += chunk.scanned
    assert scanned == max(0, n_rows - position)
