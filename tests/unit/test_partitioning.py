import numpy as np
import numpy.testing as npt
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.columns.key_hash import hash_keys
from hpcstream.exchange.partitioning import (
    BroadcastPartitioning,
    ForwardPartitioning,
    GatherPartitioning,
    HashPartitioning,
    RebalancePartitioning,
    encode_partitioned,
)
from hpcstream.exchange.wire.format import WireFormat
from hpcstream.memory.pool import BufferPool

N_PARTITIONS = st.integers(1, 7)
SENDERS = st.integers(0, 9)
ROUNDS = st.integers(0, 50)


@pytest.fixture(autouse=True)
def wrapping_arithmetic():
    with np.errstate(over="ignore"):  # only without compilation: hashing means to wrap
        yield


def batch_of(n_rows):
    return pa.record_batch({"k": pa.array(range(n_rows), pa.int64())})


def rows_of_partitions(partitioning, n_rows, n_partitions, sender=0, round_number=0):
    order, offsets = partitioning.assign(batch_of(n_rows), n_partitions, sender, round_number)
    assert order is None
    assert (offsets[0], offsets[-1]) == (0, n_rows)
    return np.diff(offsets)


@given(st.lists(st.integers(-5, 5) | st.none(), max_size=30), N_PARTITIONS)
def test_hash_sends_a_key_to_the_owner_of_its_group_in_arrival_order(keys, n_partitions):
    batch = pa.record_batch({"k": pa.array(keys, pa.int64())})
    order, offsets = HashPartitioning(("k",)).assign(batch, n_partitions, 0, 0)
    order = np.arange(len(keys)) if order is None else order
    owner = (hash_keys(batch, ["k"]) >> np.uint64(52)).astype(int) * n_partitions // 4096
    npt.assert_array_equal(order, np.argsort(owner, kind="stable"))
    npt.assert_array_equal(np.diff(offsets), np.bincount(owner, minlength=n_partitions))


@given(st.integers(0, 5_000), N_PARTITIONS, SENDERS, ROUNDS)
def test_rebalance_deals_contiguous_pieces_of_equal_size(n_rows, n_partitions, sender, number):
    rows = rows_of_partitions(RebalancePartitioning(), n_rows, n_partitions, sender, number)
    assert rows.sum() == n_rows
    pieces = rows[rows > 0]
    assert np.ptp(pieces) <= 1 if n_rows else pieces.size == 0
    assert len(pieces) == min(n_partitions, max(1, n_rows // 256)) or not n_rows


@given(st.integers(1, 255), N_PARTITIONS, SENDERS)
def test_rebalance_sends_small_batches_to_each_consumer_in_turn(n_rows, n_partitions, sender):
    partitioning = RebalancePartitioning()
    receivers = [
        int(np.flatnonzero(rows_of_partitions(partitioning, n_rows, n_partitions, sender, r))[0])
        for r in range(n_partitions)
    ]
    assert receivers == [(sender + r) % n_partitions for r in range(n_partitions)]


@given(st.integers(0, 9), N_PARTITIONS, SENDERS, ROUNDS)
def test_gather_and_forward_send_all_rows_to_one_consumer(n_rows, n_partitions, sender, number):
    where = (n_partitions, sender, number)
    gathered = rows_of_partitions(GatherPartitioning(8), n_rows, *where)
    forwarded = rows_of_partitions(ForwardPartitioning(), n_rows, *where)
    assert (gathered[8 % n_partitions], gathered.sum()) == (n_rows, n_rows)
    assert (forwarded[sender % n_partitions], forwarded.sum()) == (n_rows, n_rows)


@pytest.mark.parametrize(
    ("partitioning", "expected"),
    [
        (BroadcastPartitioning(), [[0, 1, 2]] * 3),
        (GatherPartitioning(), [[0, 1, 2], [], []]),
        (ForwardPartitioning(), [[], [0, 1, 2], []]),
        (RebalancePartitioning(), [[], [], [0, 1, 2]]),
    ],
    ids=lambda value: value.describe() if hasattr(value, "describe") else "",
)
def test_a_message_carries_to_each_consumer_what_its_partitioning_says(partitioning, expected):
    batch = batch_of(3)
    wire = WireFormat(batch.schema, BufferPool())
    message = encode_partitioned(partitioning, wire, batch, 3, sender=1, round_number=1)
    blocks = zip(message.displacements, message.counts, message.rows, strict=True)
    received = [wire.decode(message.data[at : at + n], int(rows)) for at, n, rows in blocks]
    assert [got["k"].to_pylist() for got in received] == expected


def test_partitionings_are_values_that_describe_themselves():
    assert HashPartitioning(["a", "b"]) == HashPartitioning(("a", "b"))
    assert HashPartitioning(("a", "b")).describe() == "hash(a, b)"
    assert GatherPartitioning(2).describe() == "gather(rank 2)"
    with pytest.raises(ValueError, match="at least one key column"):
        HashPartitioning(())
