"""Messages read where they lie: nothing moves, nothing is written while somebody reads it."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pyarrow as pa
import pytest

from hpcstream.exchange import shared_messages
from hpcstream.exchange.shared_messages import MAX_SHARED, Peer, SharedMessages, find_nearby
from hpcstream.memory.pool import BufferPool
from hpcstream.testing.simulation import Simulation


@pytest.fixture
def own():
    return SharedMessages()


@pytest.fixture
def peer(own):
    return Peer(f"/proc/self/fd/{own.file.number}")


def message(own, n_bytes, value):
    data = own.pool.take(n_bytes)
    data[:] = value
    return data


def test_a_reader_sees_what_the_sender_wrote_and_cannot_write(own, peer):
    sent = message(own, 100_000, 7)

    seen = peer.map(own.share(sent, 1), sent.size)

    assert np.array_equal(seen, sent)
    assert not np.shares_memory(seen, sent)  # another mapping of the same pages
    sent[50] = 8
    assert seen[50] == 8
    with pytest.raises(ValueError, match="read-only"):
        seen[0] = 1


def test_a_message_is_kept_until_every_reader_has_released_it(own, peer):
    other = Peer(f"/proc/self/fd/{own.file.number}")
    handle = own.share(message(own, 5000, 1), 2)
    here, there = peer.map(handle, 5000), other.map(handle, 5000)

    del here
    peer.release()
    assert own.n_shared == 1
    del there
    assert own.n_shared == 1
    other.release()
    assert own.n_shared == 0


def test_a_message_is_kept_as_long_as_anything_is_built_on_it(own, peer):
    seen = peer.map(own.share(message(own, 8000, 3), 1), 8000)
    column = pa.Array.from_buffers(pa.int64(), 1000, [None, pa.py_buffer(seen)])
    last = column.slice(900).to_numpy()
    del seen, column

    peer.release()
    assert own.n_shared == 1
    assert message(own, 8000, 4) is not None
    assert set(last.view(np.uint8)) == {3}
    del last
    peer.release()
    assert own.n_shared == 0


def test_the_last_view_may_die_in_another_thread(own, peer):
    views = [peer.map(own.share(message(own, 5000, 3), 1), 5000)]

    thread = threading.Thread(target=views.clear)
    thread.start()
    thread.join()
    peer.release()

    assert own.n_shared == 0


def test_what_is_in_no_shared_memory_cannot_be_shared(own):
    assert own.share(np.zeros(5000, dtype=np.uint8), 1) is None
    assert own.share(BufferPool().take(5000), 1) is None


def test_nothing_is_shared_while_all_counters_are_in_use(own, peer):
    handles = [own.share(message(own, 64, i % 200), 1) for i in range(MAX_SHARED)]
    views = [peer.map(handle, 64) for handle in handles]

    assert own.share(message(own, 64, 1), 1) is None
    assert [int(view[0]) for view in views] == [i % 200 for i in range(MAX_SHARED)]
    views[7] = None
    peer.release()
    assert own.share(message(own, 64, 1), 1).counter == handles[7].counter


def test_unused_memory_is_returned_to_the_system(own, peer):
    seen = peer.map(own.share(message(own, 5 << 20, 6), 1), 5 << 20)
    message(own, 7 << 20, 1)

    own.trim()
    assert own.pool.statistics().bytes_reserved == 6 << 20  # of the one that is
    assert set(seen) == {6}
    del seen
    peer.release()
    own.trim()
    assert own.pool.statistics().bytes_reserved == 0


def test_a_job_leaves_no_memory_of_messages_behind(monkeypatch):
    own = SharedMessages()
    known = Peer(f"/proc/self/fd/{own.file.number}")
    monkeypatch.setattr(shared_messages, "_own_messages", functools.cache(lambda: own))
    monkeypatch.setattr(shared_messages, "_known", {known.token.hex(): known})
    seen = known.map(own.share(message(own, 5 << 20, 6), 1), 5 << 20)
    assert shared_messages._own_messages() is own

    del seen
    shared_messages.trim()

    assert own.pool.statistics().bytes_reserved == 0


_READER = """
import sys
from hpcstream.exchange.shared_messages import MessageHandle, Peer
peer = Peer(sys.argv[1])
seen = peer.map(MessageHandle(*map(int, sys.argv[2:5])), int(sys.argv[5]))
print(int(seen.sum(dtype="int64")), flush=True)
sys.stdin.readline()
del seen
peer.release()
"""


def test_another_process_reads_and_releases(own):
    sent = message(own, 3_000_000, 5)
    handle = own.share(sent, 1)
    path = f"/proc/{os.getpid()}/fd/{own.file.number}"
    arguments = [str(number) for number in (*handle, sent.size)]

    with subprocess.Popen(
        [sys.executable, "-c", _READER, path, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert int(process.stdout.readline()) == 5 * 3_000_000
        assert own.n_shared == 1
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait() == 0

    assert own.n_shared == 0


# -- who is near ----------------------------------------------------------------------


def found_by(size, allowed=lambda rank: True):
    world = Simulation(size, seed=1, max_delay=2)
    return world.run([find_nearby(world.communicator(r), allowed=allowed(r)) for r in range(size)])


def test_ranks_of_one_host_find_each_other():
    found = found_by(4)

    assert [sorted(one.peers) for one in found] == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]


def test_a_rank_alone_has_nobody_near():
    assert found_by(1) == [None]


def test_a_rank_that_is_not_allowed_is_left_out_by_all():
    found = found_by(3, allowed=lambda rank: rank != 1)

    assert found[1] is None
    assert [sorted(found[rank].peers) for rank in (0, 2)] == [[2], [0]]


def test_an_edge_has_those_near_that_are_its_members():
    nearby = found_by(4)[3]

    assert sorted(nearby.within((1, 3)).peers) == [0]
    assert nearby.within((3,)) is None


@pytest.mark.parametrize(
    "change",
    [
        lambda locator: [locator[0], 2**22 + 1, *locator[2:]],  # no such process: another namespace
        lambda locator: [*locator[:2], 0, locator[3]],  # another file of that process
        lambda locator: [*locator[:3], "00" * 16],  # another process with that number
        lambda locator: ["another boot", *locator[1:]],
    ],
    ids=["process", "file", "token", "host"],
)
def test_only_the_file_that_was_meant_is_opened(own, change):
    locator = json.loads(own.locator())
    other = json.dumps(change(locator)).encode()

    assert shared_messages._peer_of(other, own.locator()) is None


def test_jobs_run_without_such_memory(monkeypatch):
    monkeypatch.setattr(shared_messages, "_own_messages", lambda: None)

    assert found_by(3) == [None] * 3
