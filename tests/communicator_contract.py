"""What every `Communicator` must do; inherited by the tests of each implementation."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import pytest

from hpcstream.errors import RemoteError
from hpcstream.exchange.agree import raise_together
from hpcstream.exchange.communicator import gather_bytes, wait_for
from hpcstream.exchange.renewal import RenewedCommunicator
from hpcstream.process.failure import failure_of

Program = Callable[[Any], Generator[None, None, Any]]


class CommunicatorContract:
    """Tests over ``run``, which runs ``program(comm)`` on every rank.

    ``run`` returns what the ranks of this process returned: all of them in a
    simulation, one under MPI. So a program checks what it can on its own rank.
    """

    @pytest.fixture
    def run(self):
        raise NotImplementedError

    def test_ranks_are_numbered(self, run):
        def program(comm):
            own = comm.rank.to_bytes(2, "little")
            everyone = yield from gather_bytes(comm, own)
            assert [int.from_bytes(rank, "little") for rank in everyone] == list(range(comm.size))

        run(program)

    def test_all_to_all_exchanges_equal_slots(self, run):
        def program(comm):
            send = np.array([10 * comm.rank + peer for peer in range(comm.size)], dtype=np.int64)
            receive = np.full(comm.size, -1, dtype=np.int64)
            yield from wait_for(comm.all_to_all(send.view(np.uint8), receive.view(np.uint8)))
            assert receive.tolist() == [10 * peer + comm.rank for peer in range(comm.size)]

        run(program)

    def test_all_to_all_v_exchanges_any_number_of_bytes(self, run):
        run(lambda comm: self.exchange_v(comm, comm))

    @staticmethod
    def exchange_v(comm, via):
        """Send ``rank * size + peer`` bytes to each peer, in reverse order, with gaps."""
        size, rank = comm.size, comm.rank
        counts = np.array([rank * size + peer for peer in range(size)], dtype=np.int64)
        starts = 200 * np.arange(size, dtype=np.int64)[::-1].copy()
        send = np.zeros(200 * size, dtype=np.uint8)
        for peer in range(size):
            send[starts[peer] : starts[peer] + counts[peer]] = 1 + rank * size + peer
        receive = np.zeros(200 * size, dtype=np.uint8)
        incoming = np.array([peer * size + rank for peer in range(size)], dtype=np.int64)
        yield from wait_for(via.all_to_all_v(send, counts, starts, receive, incoming, starts))
        for peer in range(size):
            part = receive[starts[peer] : starts[peer] + 200]
            assert part[: incoming[peer]].tolist() == [1 + peer * size + rank] * incoming[peer]
            assert not part[incoming[peer] :].any()

    def test_nothing_at_all_may_be_exchanged(self, run):
        def program(comm):
            nothing, zeros = np.empty(0, dtype=np.uint8), np.zeros(comm.size, dtype=np.int64)
            request = comm.all_to_all_v(nothing, zeros, zeros, nothing, zeros, zeros)
            yield from wait_for(request)

        run(program)

    @pytest.mark.parametrize("dtype", [np.int64, np.float64])
    @pytest.mark.parametrize(("op", "expected"), [("sum", sum), ("min", min), ("max", max)])
    def test_all_reduce_is_elementwise(self, run, op, expected, dtype):
        def program(comm):
            send = np.array([comm.rank, -comm.rank, 2**40], dtype=dtype)
            receive = np.empty(3, dtype=dtype)
            yield from wait_for(comm.all_reduce(send, receive, op))
            ranks = range(comm.size)
            columns = [list(ranks), [-rank for rank in ranks], [2**40] * comm.size]
            assert receive.tolist() == [expected(column) for column in columns]

        run(program)

    def test_all_gather_is_in_rank_order(self, run):
        def program(comm):
            send = np.full(3, comm.rank, dtype=np.uint8)
            receive = np.empty(3 * comm.size, dtype=np.uint8)
            yield from wait_for(comm.all_gather(send, receive))
            assert receive.tolist() == [rank for rank in range(comm.size) for _ in range(3)]

        run(program)

    def test_gathered_bytes_may_differ_in_length_or_be_none(self, run):
        def program(comm):
            texts = yield from gather_bytes(comm, b"x" * comm.rank)
            assert texts == [b"x" * rank for rank in range(comm.size)]
            assert (yield from gather_bytes(comm, b"")) == [b""] * comm.size

        run(program)

    def test_a_request_may_be_asked_again_when_it_is_complete(self, run):
        def program(comm):
            own, least = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.int64)
            request = comm.all_reduce(own, least, "min")
            yield from wait_for(request)
            assert request.test()
            assert request.test()

        run(program)

    def test_many_calls_may_be_under_way_at_once(self, run):
        def program(comm):
            sends = [np.full(comm.size, i, dtype=np.uint8) for i in range(20)]
            receives = [np.empty(comm.size, dtype=np.uint8) for _ in range(20)]
            pairs = zip(sends, receives, strict=True)
            requests = [comm.all_to_all(send, receive) for send, receive in pairs]
            for request in reversed(requests):
                yield from wait_for(request)
            assert [receive.tolist() for receive in receives] == [
                [i] * comm.size for i in range(20)
            ]

        run(program)

    def test_a_duplicate_is_a_message_space_of_its_own(self, run):
        def program(comm):
            other = comm.duplicate()
            first, second = np.empty(comm.size, dtype=np.uint8), np.empty(comm.size, dtype=np.uint8)
            ones, twos = np.full(comm.size, 1, np.uint8), np.full(comm.size, 2, np.uint8)
            if comm.rank % 2:
                b, a = other.all_to_all(twos, second), comm.all_to_all(ones, first)
            else:
                a, b = comm.all_to_all(ones, first), other.all_to_all(twos, second)
            yield from wait_for(a)
            yield from wait_for(b)
            assert (first.tolist(), second.tolist()) == ([1] * comm.size, [2] * comm.size)
            other.free()

        run(program)

    def test_a_subset_has_its_own_numbering(self, run):
        def program(comm):
            members = [rank for rank in range(comm.size) if rank != 1]
            part = comm.subset(members)
            assert (part is None) == (comm.rank not in members)
            if part is not None:
                assert part.size == len(members)
                assert members[part.rank] == comm.rank
                texts = yield from gather_bytes(part, bytes([comm.rank]))
                assert texts == [bytes([rank]) for rank in members]
                part.free()

        run(program)

    def test_a_neighborhood_carries_payload_between_neighbors(self, run):
        def program(comm):
            near = list(range(comm.size))
            graph = comm.neighborhood(near)
            yield from self.exchange_v(comm, graph)
            fresh = RenewedCommunicator(graph, 4)
            for _ in range(10):
                yield from self.exchange_v(comm, fresh.next())
            assert fresh.renewals == 2
            fresh.free()

        run(program)

    def test_a_neighborhood_may_leave_ranks_out(self, run):
        def program(comm):
            """Even ranks send to odd ones; the two kinds are neighbors."""
            size, rank = comm.size, comm.rank
            near = [peer for peer in range(size) if (peer - rank) % 2]
            graph = comm.neighborhood(near)
            zeros = np.zeros(size, dtype=np.int64)
            counts, incoming = zeros.copy(), zeros.copy()
            if rank % 2 == 0:
                counts[near] = 1
            else:
                incoming[near] = 1
            send, receive = np.full(1, rank, np.uint8), np.full(size, 99, np.uint8)
            places = np.arange(size, dtype=np.int64)
            request = graph.all_to_all_v(send, counts, zeros, receive, incoming, places)
            yield from wait_for(request)
            expected = [p if rank % 2 and p % 2 == 0 else 99 for p in range(size)]
            assert receive.tolist() == expected
            graph.free()

        run(program)

    def test_renewal_keeps_messages_apart(self, run):
        def program(comm):
            renewed = RenewedCommunicator(comm.duplicate(), 6)
            for i in range(40):
                receive = np.empty(comm.size, dtype=np.uint8)
                send = np.full(comm.size, i, dtype=np.uint8)
                yield from wait_for(renewed.next().all_to_all(send, receive))
                assert receive.tolist() == [i] * comm.size
            assert renewed.renewals == 6
            renewed.free()

        run(program)

    def test_a_wake_reaches_its_rank_and_is_taken_once(self, run):
        def program(comm):
            if comm.size == 1:
                assert not comm.take_wake()
                return
            comm.send_wake((comm.rank + 1) % comm.size)
            while not comm.take_wake():
                yield
            yield from gather_bytes(comm, b"all awake")
            assert not comm.take_wake()

        run(program)

    def test_notes_say_who_sent_them(self, run):
        def program(comm):
            if comm.size == 1:
                assert comm.take_notes() == []
                return
            comm.send_note((comm.rank + 1) % comm.size, b"note %d" % comm.rank)
            notes = []
            while not notes:
                notes = comm.take_notes()
                yield
            before = (comm.rank - 1) % comm.size
            assert notes == [(before, b"note %d" % before)]

        run(program)

    def test_ranks_fail_together(self, run):
        def program(comm):
            last = comm.size - 1
            error = ValueError("mine") if comm.rank == last else None
            with pytest.raises((ValueError, RemoteError), match="mine") as caught:
                yield from raise_together(error, comm)
            assert failure_of(caught.value).is_agreed
            if comm.rank == last:
                assert caught.value is error
            else:
                assert f"rank {last}: ValueError: mine" in str(caught.value)
            yield from raise_together(None, comm)

        run(program)
