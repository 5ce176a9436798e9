"""The loop of one rank, alone and with others."""

from __future__ import annotations

import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream.exchange.edge import LocalEdge
from hpcstream.exchange.solo import SoloCommunicator
from hpcstream.runtime.control import ControlGate
from hpcstream.runtime.driver import Backoff, drive
from hpcstream.runtime.task import Outputs, Task
from hpcstream.runtime.worker import IDLE_SLEEP_S, Worker
from hpcstream.testing import ListSink, ManualClock, StepSource, start_ranks

SCHEMA = pa.schema({"x": pa.int64()})


def solo_worker(tasks=(), edges=(), clock=None):
    comm = SoloCommunicator()
    return Worker(tasks, edges, ControlGate(comm), comm, clock or ManualClock(), 5.0)


def test_a_rank_without_tasks_ends_with_control():
    worker = solo_worker()

    moves = list(worker.run())

    assert worker.error is None
    assert len(moves) <= 3


def test_a_rank_without_sources_ends_after_its_last_round():
    edge = LocalEdge("in", 3)
    task = Task("task 0", [], [edge], Outputs([]))
    producer = Task("task 1", [], [], Outputs([((-1, "main"), edge)]))
    worker = solo_worker([producer, task], [edge])

    for _ in worker.run():
        assert producer.next_round - task.next_round <= 3

    assert producer.finished
    assert task.finished
    assert task.next_round == worker.gate.end_round


def test_a_worker_without_live_sources_may_sleep_a_millisecond():
    assert solo_worker().sleep_limit_s() == IDLE_SLEEP_S


def live_ranks(n_ranks, **options):
    feed, sink = StepSource(SCHEMA), ListSink()

    def build():
        job = hs.Job("live")
        job.source(feed).rebalance().sink(sink)
        return job

    ranks = start_ranks(n_ranks, build, clock=ManualClock(), progress=False, **options)
    ranks.settle()
    return feed, ranks


def test_a_live_worker_sleeps_no_longer_than_its_next_round_is_due():
    _, ranks = live_ranks(1, linger_s=0.0005)
    with ranks:
        (worker,) = ranks.workers

        assert worker.sleep_limit_s() <= 0.0005
        for _ in range(20):
            ranks.close_round()

        assert worker.sleep_limit_s() == IDLE_SLEEP_S


def test_a_rank_is_not_given_up_before_the_others_had_time_to_answer():
    clock = ManualClock()
    worker = solo_worker(clock=clock)
    assert not worker.failed_too_long()

    worker._fail(ValueError("x"), Task("task 0", [], [], Outputs([])))

    clock.advance(4.9)
    assert not worker.failed_too_long()
    clock.advance(0.2)
    assert worker.failed_too_long()


def test_on_control_is_told_of_every_outcome():
    worker = solo_worker()
    outcomes = []
    worker.on_control = outcomes.append

    list(worker.run())

    assert [outcome.has_input for outcome in outcomes] == [0]


# -- waiting -----------------------------------------------------------------------------


@pytest.fixture
def naps(monkeypatch):
    """Return what the driver did instead of waiting."""
    done = []
    monkeypatch.setattr("os.sched_yield", lambda: done.append("yield"))
    monkeypatch.setattr("time.sleep", lambda seconds: done.append(seconds))
    return done


def test_waiting_spins_then_yields_then_sleeps_longer_and_longer(naps):
    backoff = Backoff(shares_cores=False)

    for _ in range(2300):
        backoff.wait(lambda: 0.001)

    slept = naps[2000:]
    assert naps[:2000] == ["yield"] * 2000
    assert slept == sorted(slept)
    assert slept[0] < slept[-1] == 0.001


def test_ranks_that_share_cores_yield_at_once(naps):
    Backoff(shares_cores=True).wait(lambda: 0.001)

    assert naps == ["yield"]


def test_a_move_ends_the_wait(naps):
    backoff = Backoff(shares_cores=True)
    for _ in range(2100):
        backoff.wait(lambda: 0.001)

    backoff.reset()
    naps.clear()
    backoff.wait(lambda: 0.001)

    assert naps == ["yield"]


def test_driving_returns_the_result(naps):
    def running():
        yield True
        yield False
        return 42

    assert drive(running(), Backoff(shares_cores=True), lambda: 0.001) == 42
    assert naps == ["yield"]
