"""When a live source closes a round: decided by numbers alone."""

from __future__ import annotations

from types import SimpleNamespace

import pyarrow as pa
import pytest

from hpcstream.operators.spec import MAIN
from hpcstream.runtime.sources.pacing import (
    BUSY_ROUNDS,
    MOST_BETWEEN_LOOKS_S,
    MOST_STRETCHED_S,
    STRETCHED_S,
    Pacer,
    RoundCloser,
)
from hpcstream.runtime.tasks.outputs import Outputs
from hpcstream.runtime.tasks.source_task import SourceTask
from hpcstream.testing import ManualClock

LINGER_S = 0.001


def closer_after(n_empty_rounds, now_s=0.0):
    closer = RoundCloser(batch_rows=100, linger_s=LINGER_S)
    for number in range(n_empty_rounds):
        closer.closed(number, now_s)
    return closer


def test_a_full_round_is_due_at_once():
    closer = closer_after(1, now_s=5.0)

    assert closer.is_due(100, 5.0)
    assert not closer.is_due(99, 5.0)


def test_the_first_round_is_due_at_once():
    assert closer_after(0).is_due(0, 0.0)


def test_a_round_is_due_after_linger_with_or_without_rows():
    closer = closer_after(1, now_s=5.0)

    assert not closer.is_due(0, 5.0 + 0.9 * LINGER_S)
    assert closer.is_due(0, 5.0 + 1.1 * LINGER_S)
    assert closer.is_due(7, 5.0 + 1.1 * LINGER_S)


def test_rounds_stretch_when_all_ranks_were_empty_for_some_rounds():
    closer = closer_after(BUSY_ROUNDS, now_s=5.0)
    assert not closer.is_stretched

    closer.closed(BUSY_ROUNDS, 5.0)

    assert closer.is_stretched
    assert closer.due_s() == 5.0 + STRETCHED_S
    assert not closer.is_due(0, 5.0 + 2 * LINGER_S)
    assert closer.is_due(1, 5.0 + 2 * LINGER_S)


def test_a_busy_round_of_any_rank_keeps_them_short():
    closer = closer_after(BUSY_ROUNDS + 1)

    closer.busy_in(BUSY_ROUNDS)

    assert not closer.is_stretched
    assert closer.due_s() == LINGER_S


def test_an_old_busy_round_does_not():
    closer = closer_after(50)

    closer.busy_in(3)

    assert closer.is_stretched


def test_a_wake_makes_the_next_round_due_at_once():
    closer = closer_after(50, now_s=5.0)

    closer.wake()

    assert closer.is_due(0, 5.0)
    assert not closer.is_stretched


def paused_closer(pause_s):
    """Return a closer of which the last busy round was closed so long ago."""
    closer = closer_after(BUSY_ROUNDS + 1)
    closer.closed(BUSY_ROUNDS + 1, pause_s)
    return closer


def test_rounds_stretch_with_the_pause_up_to_a_bound():
    assert paused_closer(0.1).due_s() == pytest.approx(0.1 + STRETCHED_S)
    assert paused_closer(2.0).due_s() == pytest.approx(2.2)
    assert paused_closer(100.0).due_s() == pytest.approx(100.0 + MOST_STRETCHED_S)


def test_a_source_is_asked_more_rarely_the_longer_it_had_no_rows():
    assert closer_after(2).look_after_s(7.0, n_splits=1) == 0.0
    assert paused_closer(0.1).look_after_s(0.1, n_splits=1) == pytest.approx(0.005)
    assert paused_closer(9.0).look_after_s(9.0, n_splits=1) == MOST_BETWEEN_LOOKS_S
    assert paused_closer(9.0).look_after_s(9.0, n_splits=2) == 2 * MOST_BETWEEN_LOOKS_S


def test_a_wake_without_rows_does_not_end_a_pause():
    closer = paused_closer(9.0)
    closer.wake()
    for number in range(BUSY_ROUNDS + 2, 2 * BUSY_ROUNDS + 3):
        assert not closer.is_stretched
        closer.closed(number, 9.1)

    assert closer.is_stretched
    assert closer.due_s() == 9.1 + MOST_STRETCHED_S


@pytest.mark.parametrize("n_rounds", [1, 7, 64])
def test_stretched_rounds_until_ranks_agree_take_no_longer_than_one_may(n_rounds):
    closer = paused_closer(100.0)
    closer.agree_after(n_rounds)

    began_s = now_s = 100.0
    for number in range(n_rounds):
        now_s = closer.due_s()
        closer.closed(BUSY_ROUNDS + 2 + number, now_s)

    assert now_s - began_s == pytest.approx(MOST_STRETCHED_S)


def test_sources_of_a_rank_are_awake_as_long_as_one_of_them_and_no_longer():
    woken, other = closer_after(50, now_s=5.0), closer_after(52, now_s=5.0)
    woken.wake()
    other.stay_awake(woken.awake_until)
    assert other.is_due(0, 5.0)

    for number in range(50, 50 + BUSY_ROUNDS + 1):
        woken.closed(number, 5.0)
        other.closed(number + 2, 5.0)
        for one, another in ((woken, other), (other, woken)):
            one.stay_awake(another.awake_until)

    assert woken.is_stretched
    assert other.is_stretched


class FedReader:
    """A reader that gives what a test puts into it."""

    def __init__(self):
        self.waiting = []
        self.ended = False
        self.mark = 0
        self.idle_from_s = float("inf")
        self.wakes = False
        self.descriptors = []
        self.n_unfinished = 1
        self.rows_scanned = 0
        self.asked = []

    def poll(self, max_rows, now_s):
        self.asked.append(max_rows)
        given, self.waiting = self.waiting, []
        self.rows_scanned += sum(batch.num_rows for batch in given)
        yield from given

    def snapshot(self):
        return len(self.asked)


@pytest.fixture
def paced():
    """Return a pacer with all that it works on."""

    class Paced:
        clock = ManualClock(1.0)
        reader = FedReader()
        wakes = 0

        def wake_others(self):
            self.wakes += 1

    parts = Paced()
    closer = RoundCloser(100, LINGER_S)
    parts.pacer = Pacer(parts.reader, closer, 100, parts.clock, parts.wake_others)
    return parts


def batch(n_rows):
    return pa.record_batch({"x": list(range(n_rows))})


def close_rounds(paced, first, last):
    for number in range(first, last):
        list(paced.pacer.take(number))


def test_rows_gather_until_the_round_is_due(paced):
    close_rounds(paced, 0, 1)
    paced.reader.waiting = [batch(10)]
    assert not paced.pacer.may_open()
    paced.reader.waiting = [batch(20)]
    paced.clock.advance(2 * LINGER_S)

    assert paced.pacer.may_open()

    assert [b.num_rows for b in paced.pacer.take(1)] == [10, 20]
    assert paced.reader.asked == [100, 90]
    assert list(paced.pacer.take(2)) == []


def test_a_round_takes_no_more_than_its_rows(paced):
    close_rounds(paced, 0, 1)
    paced.reader.waiting = [batch(100)]

    assert paced.pacer.may_open()
    paced.pacer.may_open()

    assert paced.reader.asked == [100, 0]


def test_rows_after_silence_wake_the_others_once(paced):
    close_rounds(paced, 0, 50)
    paced.reader.waiting = [batch(1)]

    assert paced.pacer.may_open()
    paced.pacer.may_open()

    assert paced.wakes == 1


def test_rows_in_busy_times_wake_nobody(paced):
    close_rounds(paced, 0, 2)
    paced.reader.waiting = [batch(1)]

    paced.pacer.may_open()

    assert paced.wakes == 0


def test_rows_that_the_filter_of_a_source_drops_are_no_pause(paced):
    close_rounds(paced, 0, 50)
    paced.reader.rows_scanned = 1000
    paced.pacer.may_open()
    assert paced.wakes == 1

    for number in range(50, 100):
        paced.reader.rows_scanned += 1000
        paced.pacer.may_open()
        assert list(paced.pacer.take(number)) == []
        assert paced.pacer.was_busy
        assert not paced.pacer.closer.is_stretched

    close_rounds(paced, 100, 102 + BUSY_ROUNDS)
    assert not paced.pacer.was_busy
    assert paced.pacer.closer.is_stretched


def test_a_source_that_has_ended_is_always_ready_to_close(paced):
    close_rounds(paced, 0, 50)
    paced.reader.ended = True

    assert paced.pacer.may_open()


def test_the_mark_is_what_the_reader_was_at_when_the_last_round_closed(paced):
    before = paced.pacer.mark
    paced.pacer.may_open()
    assert paced.pacer.mark == before
    list(paced.pacer.take(0))
    assert paced.pacer.mark == paced.reader.snapshot() != before


@pytest.fixture
def resting(paced):
    """Return a pacer whose source had no rows for nine seconds."""
    close_rounds(paced, 0, 50)
    paced.clock.advance(9.0)
    close_rounds(paced, 50, 51)
    paced.pacer.may_open()
    paced.reader.asked.clear()
    return paced


def test_in_a_pause_the_source_is_asked_now_and_then(resting):
    for _ in range(1000):
        resting.clock.advance(0.001)
        resting.pacer.may_open()

    assert len(resting.reader.asked) == pytest.approx(1.0 / MOST_BETWEEN_LOOKS_S, rel=0.1)


def test_what_comes_makes_the_source_be_asked_at_once(resting):
    resting.pacer.look_in_a_pause()
    assert resting.reader.asked == []

    resting.pacer.look_soon()
    resting.pacer.look_in_a_pause()

    assert len(resting.reader.asked) == 1


def test_a_source_that_has_become_idle_is_told_of_at_once(resting):
    resting.reader.mark = None
    resting.clock.advance(MOST_BETWEEN_LOOKS_S)

    assert resting.pacer.may_open()

    assert resting.wakes == 1


def test_a_rank_sleeps_until_the_round_if_its_source_wakes_it(resting):
    asked_s = resting.pacer.due_s()

    resting.reader.wakes = True
    resting.pacer.look_soon()
    resting.pacer.look_in_a_pause()

    assert asked_s < resting.pacer.due_s() == resting.pacer.closer.due_s()


def test_a_reader_is_asked_what_wakes_only_when_it_is_asked_for_rows_in_a_pause(paced):
    class Failing(SimpleNamespace):
        @property
        def descriptors(self):
            raise OSError("closed")

    close_rounds(paced, 0, 1)
    paced.pacer._reader = Failing(
        poll=lambda *_: (),
        snapshot=list,
        mark=0,
        ended=False,
        wakes=True,
        n_unfinished=1,
        rows_scanned=0,
        idle_from_s=float("inf"),
    )
    paced.pacer.may_open()
    close_rounds(paced, 1, 50)

    assert paced.pacer.descriptors == []
    with pytest.raises(OSError, match="closed"):
        paced.pacer.look_in_a_pause()
    assert paced.pacer.descriptors == []
    assert paced.pacer.due_s() <= paced.clock()


def test_a_split_that_falls_idle_is_asked_at_that_moment(resting):
    resting.pacer.look_soon()
    resting.reader.idle_from_s = resting.clock() + 0.001
    resting.reader.wakes = True
    resting.pacer.look_in_a_pause()

    assert resting.pacer.due_s() == resting.reader.idle_from_s
    resting.clock.advance(0.0015)
    resting.pacer.look_in_a_pause()

    assert len(resting.reader.asked) == 2


class Ahead:
    """An edge that notes which rounds it is asked for, and takes all of them."""

    def __init__(self):
        self.asked = []

    def may_start(self, round_number):
        self.asked.append(round_number)
        return True


class Open:
    """A gate that lets every round pass."""

    def may_start(self, round_number):
        return True


def paced_task(pacer, edge):
    return SourceTask(
        "task",
        [],
        [],
        Outputs([((-1, MAIN), edge)]),
        reader=None,
        gate=Open(),
        batch_rows=100,
        rounds_in_flight=3,
        pacer=pacer,
    )


@pytest.mark.parametrize(("was_full", "asked"), [(False, 2), (True, 0)])
def test_a_round_that_is_not_full_is_followed_when_it_is_through(was_full, asked):
    pacer, edge = SimpleNamespace(was_full=was_full, may_open=lambda: False), Ahead()

    paced_task(pacer, edge).step()

    assert edge.asked == [asked]  # with capacity 3: round 0 needs round -1, or round -3
