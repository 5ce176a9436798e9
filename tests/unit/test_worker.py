"""The loop of one rank, alone and with others."""

from __future__ import annotations

from itertools import pairwise

import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream.exchange.doorbell import Doorbell
from hpcstream.exchange.edges.base import LocalEdge, RoundEnd
from hpcstream.exchange.solo import SoloCommunicator
from hpcstream.process.stop_signals import AskedToStop
from hpcstream.runtime.control import ControlGate
from hpcstream.runtime.driver import (
    FIRST_QUIET_SLEEP_S,
    LEAST_QUIET_SLEEP_S,
    Backoff,
    drive,
)
from hpcstream.runtime.loop.services import Services
from hpcstream.runtime.loop.waking import FAR_SLEEP_S, IDLE_SLEEP_S, QUIET_SLEEP_S, Waking
from hpcstream.runtime.loop.worker import Worker
from hpcstream.runtime.sources.pacing import BUSY_ROUNDS, MOST_STRETCHED_S
from hpcstream.runtime.tasks.outputs import Outputs
from hpcstream.runtime.tasks.task import Task
from hpcstream.testing import ListSink, ManualClock, StepSource, start_ranks

SCHEMA = pa.schema({"x": pa.int64()})


def solo_worker(tasks=(), edges=(), clock=None, services=None):
    comm, clock = SoloCommunicator(), clock or ManualClock()
    gate, waking = ControlGate(comm), Waking(comm, Doorbell(), clock)
    return Worker(tasks, edges, gate, waking, clock, 5.0, services=services)


def test_a_rank_without_tasks_ends_with_control():
    worker = solo_worker()

    moves = list(worker.run())

    assert worker.failure.error is None
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


def consumer_after(n_rounds, busy_round):
    """Return a worker that only consumes, after so many rounds of which one was busy."""
    edge = LocalEdge("in", n_rounds + 1)
    task = Task("task 0", [], [edge], Outputs([]))
    for number in range(n_rounds):
        edge.close(number, RoundEnd(0, busy=number == busy_round))
    while task.step():
        pass
    return solo_worker([task], [edge])


def test_a_rank_that_only_consumes_is_quiet_once_its_last_rounds_were_empty():
    assert not consumer_after(5, busy_round=0).rest.is_quiet
    assert consumer_after(20, busy_round=0).rest.is_quiet
    assert not consumer_after(20, busy_round=15).rest.is_quiet


def test_a_rank_that_only_consumes_is_awake_for_some_rounds_when_it_is_woken():
    worker = consumer_after(20, busy_round=0)
    (task,), (edge,) = worker.tasks, worker.edges
    worker.rest.wake()

    for number in range(20, 20 + BUSY_ROUNDS + 1):
        assert not worker.rest.is_quiet
        edge.close(number, RoundEnd(0))
        while task.step():
            pass

    assert worker.rest.is_quiet


def test_a_rank_without_tasks_tells_once_an_interval_that_it_was_asked_to_stop(monkeypatch):
    worker, told = solo_worker(services=Services(stop=AskedToStop(143))), []
    monkeypatch.setattr(worker.waking, "wake_others", lambda: told.append(worker.gate.boundary))

    for _ in range(5):
        worker._keep_pace(has_moved=False)
    worker.gate.boundary += 1
    worker._keep_pace(has_moved=False)

    assert told == [0, 1]


def test_a_rank_of_a_busy_job_sleeps_a_millisecond_at_most():
    assert consumer_after(5, busy_round=0).rest.sleep_limit_s() == IDLE_SLEEP_S


def test_a_rank_of_a_quiet_job_sleeps_longer_the_less_if_not_all_can_ring():
    worker = consumer_after(20, busy_round=0)
    assert worker.rest.sleep_limit_s() == QUIET_SLEEP_S

    worker.waking.bell.connect([], reaches_all=False)

    assert worker.rest.sleep_limit_s() == FAR_SLEEP_S


def test_a_failed_rank_is_not_quiet():
    worker = consumer_after(20, busy_round=0)

    worker.failure.note_task(ValueError("x"), worker.tasks[0])

    assert not worker.rest.is_quiet


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

        assert not worker.rest.is_quiet
        assert worker.rest.sleep_limit_s() <= 0.0005


def test_a_busy_live_worker_sleeps_while_its_rows_linger():
    feed, ranks = live_ranks(1, linger_s=0.5)
    with ranks:
        (worker,) = ranks.workers
        feed.push({"x": [1]})
        ranks.settle()

        assert not worker.rest.is_quiet
        assert worker.rest.sleep_limit_s() == IDLE_SLEEP_S


def quiet_ranks(n_ranks, **options):
    """Return ranks after a pause of seconds."""
    feed, ranks = live_ranks(n_ranks, **options)
    for _ in range(60):
        ranks.close_round()
    ranks.settle()
    assert all(worker.rest.is_quiet for worker in ranks.workers)
    return feed, ranks


def test_in_a_long_pause_a_live_worker_sleeps_until_it_asks_its_source_again():
    _, ranks = quiet_ranks(1)
    with ranks:
        (worker,) = ranks.workers

        assert IDLE_SLEEP_S < worker.rest.sleep_limit_s() <= QUIET_SLEEP_S


def test_rows_after_a_pause_come_through_without_waiting_for_a_round_to_be_due():
    feed, ranks = quiet_ranks(3)
    with ranks:
        feed.push({"x": [1, 2, 3]})
        ranks.advance(0.06)  # the source is asked
        ranks.settle()
        ranks.advance(0.002)  # linger
        ranks.settle()

        assert not any(worker.rest.is_quiet for worker in ranks.workers)


@pytest.mark.parametrize("n_ranks", [1, 2])
def test_live_sources_of_a_rank_that_had_rows_at_different_times_fall_quiet_together(n_ranks):
    feeds = [StepSource(SCHEMA), StepSource(SCHEMA), StepSource(SCHEMA)]

    def build():
        job = hs.Job("live")
        for feed in feeds:
            job.source(feed).sink(ListSink())
        return job

    with start_ranks(n_ranks, build, clock=ManualClock(), progress=False) as ranks:
        ranks.settle()
        for feed in feeds:
            feed.push({"x": [1]})
            ranks.close_round()
            ranks.close_round()
        feeds[1].end()
        for _ in range(60):
            ranks.close_round()

        assert all(worker.rest.is_quiet for worker in ranks.workers)


def test_ranks_agree_at_least_once_in_the_longest_round_of_a_pause():
    feed, ranks = live_ranks(2, linger_s=0.001)
    with ranks:
        for _ in range(100):
            feed.push({"x": [1]})
            ranks.advance(0.001)
        gate = ranks.workers[0].gate
        agreed_s, boundary = [ranks.clock()], gate.boundary

        for _ in range(500):
            ranks.advance(0.003)
            if gate.boundary != boundary:
                agreed_s.append(ranks.clock())
                boundary = gate.boundary

        gaps_s = [after - before for before, after in pairwise([*agreed_s, ranks.clock()])]
        assert max(gaps_s) < 1.4 * MOST_STRETCHED_S  # time passes in steps of 3 ms


def test_a_rank_is_not_given_up_before_the_others_had_time_to_answer():
    clock = ManualClock()
    worker = solo_worker(clock=clock)
    assert not worker.failure.is_overdue

    worker.failure.note_task(ValueError("x"), Task("task 0", [], [], Outputs([])))

    clock.advance(4.9)
    assert not worker.failure.is_overdue
    clock.advance(0.2)
    assert worker.failure.is_overdue


# -- waiting -----------------------------------------------------------------------------


@pytest.fixture
def naps(monkeypatch):
    """Return what the driver did instead of waiting."""
    done = []
    monkeypatch.setattr("os.sched_yield", lambda: done.append("yield"))
    monkeypatch.setattr("time.sleep", lambda seconds: done.append(seconds))
    return done


class Rank:
    """What a driver asks when nothing moves."""

    def __init__(self, *, is_quiet=False, most_s=0.001, comes=False):
        self.is_quiet = is_quiet
        self.most_s = most_s
        self.comes = comes
        self.slept = []

    def sleep_limit_s(self):
        return self.most_s

    def sleep(self, seconds):
        self.slept.append(seconds)
        return self.comes


def test_waiting_spins_then_yields_then_sleeps_longer_and_longer(naps):
    backoff = Backoff(shares_cores=False)

    for _ in range(2300):
        backoff.wait(Rank())

    slept = naps[2000:]
    assert naps[:2000] == ["yield"] * 2000
    assert slept == sorted(slept)
    assert slept[0] < slept[-1] == 0.001


def test_ranks_that_share_cores_yield_at_once(naps):
    Backoff(shares_cores=True).wait(Rank())

    assert naps == ["yield"]


def test_a_move_ends_the_wait(naps):
    backoff = Backoff(shares_cores=True)
    for _ in range(2100):
        backoff.wait(Rank())

    backoff.reset()
    naps.clear()
    backoff.wait(Rank())

    assert naps == ["yield"]


def test_a_quiet_rank_sleeps_at_once_and_longer_and_longer(naps):
    backoff, rank = Backoff(shares_cores=False), Rank(is_quiet=True, most_s=0.05)

    for _ in range(10):
        backoff.wait(rank)

    assert naps == []
    assert rank.slept == sorted(rank.slept)
    assert rank.slept[0] == FIRST_QUIET_SLEEP_S
    assert rank.slept[-1] == 0.05


def test_a_quiet_rank_whose_round_waits_for_others_does_not_spin():
    backoff, rank = Backoff(shares_cores=False), Rank(is_quiet=True, most_s=0.0)

    backoff.wait(rank)

    assert rank.slept == [LEAST_QUIET_SLEEP_S]


def test_what_comes_makes_the_next_sleeps_short_again():
    backoff, rank = Backoff(shares_cores=False), Rank(is_quiet=True, most_s=0.05)
    for _ in range(10):
        backoff.wait(rank)
    rank.comes = True
    backoff.wait(rank)

    backoff.wait(rank)

    assert rank.slept[-1] == FIRST_QUIET_SLEEP_S


def test_driving_returns_the_result(naps):
    def running():
        yield True
        yield False
        return 42

    assert drive(running(), Backoff(shares_cores=True), Rank()) == 42
    assert naps == ["yield"]
