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
from hpcstream.exchange.shared_messages import LOANS, Lender, Peer, find_nearby
from hpcstream.memory.pool import BufferPool
from hpcstream.testing.simulation import Simulation


@pytest.fixture
def lender():
    return Lender()


@pytest.fixture
def peer(lender):
    return Peer(f"/proc/self/fd/{lender.file.number}")


def message(lender, n_bytes, value):
    data = lender.pool.take(n_bytes)
    data[:] = value
    return data


def test_a_borrower_sees_what_the_lender_wrote_and_cannot_write(lender, peer):
    sent = message(lender, 100_000, 7)

    seen = peer.borrow(lender.lend(sent, 1), sent.size)

    assert np.array_equal(seen, sent)
    assert not np.shares_memory(seen, sent)  # another mapping of the same pages
    sent[50] = 8
    assert seen[50] == 8
    with pytest.raises(ValueError, match="read-only"):
        seen[0] = 1


def test_a_message_is_kept_until_every_borrower_has_given_it_back(lender, peer):
    other = Peer(f"/proc/self/fd/{lender.file.number}")
    loan = lender.lend(message(lender, 5000, 1), 2)
    here, there = peer.borrow(loan, 5000), other.borrow(loan, 5000)

    del here
    peer.give_back()
    assert lender.n_lent == 1
    del there
    assert lender.n_lent == 1
    other.give_back()
    assert lender.n_lent == 0


def test_a_message_is_kept_as_long_as_anything_is_built_on_it(lender, peer):
    seen = peer.borrow(lender.lend(message(lender, 8000, 3), 1), 8000)
    column = pa.Array.from_buffers(pa.int64(), 1000, [None, pa.py_buffer(seen)])
    last = column.slice(900).to_numpy()
    del seen, column

    peer.give_back()
    assert lender.n_lent == 1
    assert message(lender, 8000, 4) is not None
    assert set(last.view(np.uint8)) == {3}
    del last
    peer.give_back()
    assert lender.n_lent == 0


def test_the_last_view_may_die_in_another_thread(lender, peer):
    views = [peer.borrow(lender.lend(message(lender, 5000, 3), 1), 5000)]

    thread = threading.Thread(target=views.clear)
    thread.start()
    thread.join()
    peer.give_back()

    assert lender.n_lent == 0


def test_what_is_in_no_shared_memory_cannot_be_lent(lender):
    assert lender.lend(np.zeros(5000, dtype=np.uint8), 1) is None
    assert lender.lend(BufferPool().take(5000), 1) is None


def test_nothing_is_lent_while_every_counter_is_taken(lender, peer):
    loans = [lender.lend(message(lender, 64, i % 200), 1) for i in range(LOANS)]
    views = [peer.borrow(loan, 64) for loan in loans]

    assert lender.lend(message(lender, 64, 1), 1) is None
    assert [int(view[0]) for view in views] == [i % 200 for i in range(LOANS)]
    views[7] = None
    peer.give_back()
    assert lender.lend(message(lender, 64, 1), 1).counter == loans[7].counter


def test_memory_is_given_back_where_no_message_is_lent(lender, peer):
    seen = peer.borrow(lender.lend(message(lender, 5 << 20, 6), 1), 5 << 20)
    message(lender, 7 << 20, 1)

    lender.trim()
    assert lender.pool.statistics().bytes_reserved == 6 << 20  # of the one that is
    assert set(seen) == {6}
    del seen
    peer.give_back()
    lender.trim()
    assert lender.pool.statistics().bytes_reserved == 0


def test_a_job_leaves_no_memory_of_messages_behind(monkeypatch):
    own = Lender()
    known = Peer(f"/proc/self/fd/{own.file.number}")
    monkeypatch.setattr(shared_messages, "_own_lender", functools.cache(lambda: own))
    monkeypatch.setattr(shared_messages, "_known", {known.token.hex(): known})
    seen = known.borrow(own.lend(message(own, 5 << 20, 6), 1), 5 << 20)
    assert shared_messages._own_lender() is own

    del seen
    shared_messages.trim()

    assert own.pool.statistics().bytes_reserved == 0


_BORROWER = """
import sys
from hpcstream.exchange.shared_messages import Loan, Peer
peer = Peer(sys.argv[1])
seen = peer.borrow(Loan(*map(int, sys.argv[2:5])), int(sys.argv[5]))
print(int(seen.sum(dtype="int64")), flush=True)
sys.stdin.readline()
del seen
peer.give_back()
"""


def test_another_process_reads_and_gives_back(lender):
    sent = message(lender, 3_000_000, 5)
    loan = lender.lend(sent, 1)
    path = f"/proc/{os.getpid()}/fd/{lender.file.number}"
    arguments = [str(number) for number in (*loan, sent.size)]

    with subprocess.Popen(
        [sys.executable, "-c", _BORROWER, path, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert int(process.stdout.readline()) == 5 * 3_000_000
        assert lender.n_lent == 1
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.wait() == 0

    assert lender.n_lent == 0


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
        lambda card: [card[0], 2**22 + 1, *card[2:]],  # no such process: another namespace
        lambda card: [*card[:2], 0, card[3]],  # another file of that process
        lambda card: [*card[:3], "00" * 16],  # another process with that number
        lambda card: ["another boot", *card[1:]],
    ],
    ids=["process", "file", "token", "host"],
)
def test_only_the_file_that_was_meant_is_opened(lender, change):
    card = json.loads(lender.card())
    other = json.dumps(change(card)).encode()

    assert shared_messages._peer_of(other, lender.card()) is None


def test_jobs_run_without_such_memory(monkeypatch):
    monkeypatch.setattr(shared_messages, "_own_lender", lambda: None)

    assert found_by(3) == [None] * 3
