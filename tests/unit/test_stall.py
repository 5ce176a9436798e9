"""Nothing moves: who says so, who is named, and how the job ends."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import hpcstream as hs
from hpcstream.exchange.communicator import NOTE_BYTES
from hpcstream.process.stop_signals import AskedToStop
from hpcstream.runtime.stall.diagnosis import WaitReason
from hpcstream.runtime.stall.heartbeat import LOOK_EVERY_S, Heartbeat
from hpcstream.runtime.stall.monitor import Beat, StallMonitor, listeners
from hpcstream.testing import ManualClock, Simulation, StepSource, start_ranks


class Group:
    """Monitors that hear one another; the ranks in ``mute`` never look."""

    def __init__(self, size: int, *, mute=(), busy=(), timeout_s: float | None = None) -> None:
        self.now_s = 0.0
        self.said: list[tuple[int, str]] = []
        self.ended: list[int] = []
        self.monitors = [StallMonitor(rank, size, timeout_s) for rank in range(size)]
        self._mute, self._busy = set(mute), set(busy)

    def run(self, seconds: float) -> None:
        end_s = self.now_s + seconds
        while self.now_s < end_s and not self.ended:
            self.now_s += 0.25
            for rank, monitor in enumerate(self.monitors):
                if rank not in self._mute:
                    self._turn(rank, monitor)

    def _turn(self, rank: int, monitor: StallMonitor) -> None:
        self._note(rank, monitor.look(self.now_s, moved=rank in self._busy))
        beat = Beat(rank, monitor.is_stalled, f"round {rank}", (), monitor.spoken)
        for other in monitor.recipients(self.now_s):
            self.monitors[other].hear(Beat.from_bytes(beat.to_bytes()), self.now_s)
        self._note(rank, monitor.verdict(beat, self.now_s))
        if monitor.is_over(self.now_s):
            self.ended.append(rank)

    def _note(self, rank: int, text: str | None) -> None:
        if text is not None:
            self.said.append((rank, text))

    def wake(self, *ranks: int) -> None:
        self._busy |= set(ranks)
        self._mute -= set(ranks)


@pytest.mark.parametrize("size", [2, 3, 8, 9, 50])
@pytest.mark.parametrize("missing", [0, 1])
def test_the_rank_that_does_not_answer_is_named_once_by_one_rank(size, missing):
    group = Group(size, mute=[missing])
    for monitor in group.monitors:
        monitor.know_processes([f"{1000 + rank} on node1" for rank in range(size)])

    group.run(30)

    ((_, text),) = group.said
    assert f"rank {missing} (process {1000 + missing} on node1) does not answer" in text
    assert text.count("does not answer") == 1
    assert f"py-spy dump --pid {1000 + missing}" in text


def test_nobody_says_anything_before_ten_seconds():
    group = Group(3, mute=[1])
    group.run(9.9)
    assert group.said == []


def test_a_whole_host_may_be_missing_rank_0_among_them():
    group = Group(64, mute=range(32))
    group.run(30)

    ((speaker, text),) = group.said
    assert speaker == 32
    assert "rank 0 does not answer" in text or "rank 0 (" in text
    assert "and 16 further ranks do not answer" in text


def test_a_rank_at_work_answers_and_is_not_called_missing():
    group = Group(3, busy=[2])
    group.run(30)

    ((_, text),) = group.said
    assert "does not answer" not in text
    assert "rank 2 is at work: round 2" in text
    assert "rank 0 waits for round 0" in text


def test_if_all_wait_for_each_other_that_is_said():
    group = Group(2)
    group.run(30)

    ((_, text),) = group.said
    assert "every rank answers and waits" in text


def test_when_it_goes_on_that_is_said_and_a_second_stall_is_told_again():
    group = Group(3, mute=[1])
    group.run(20)
    group.wake(0, 1, 2)
    group.run(5)
    group._busy, group._mute = set(), {2}
    group.run(20)

    texts = [text for _, text in group.said]
    assert len(texts) == 3
    assert "it goes on" in texts[1]
    assert "rank 2" in texts[2]


def test_time_inside_own_code_is_no_stall():
    monitor = StallMonitor(0, 2)
    monitor.look(0.0, moved=True)
    monitor.look(3600.0, moved=False)

    assert not monitor.is_stalled


@pytest.mark.parametrize("mute", [0, 1])
def test_the_timeout_ends_the_job_on_the_rank_that_speaks_after_it_spoke(mute):
    group = Group(3, mute=[mute], timeout_s=4.0)
    group.run(60)

    assert group.ended == [1 - mute if mute == 0 else 0]
    assert group.now_s == pytest.approx(4.0, abs=0.5)
    assert "the job ends in" in group.said[0][1]


def test_without_a_timeout_it_waits_on():
    group = Group(2, mute=[1])
    group.run(600)
    assert group.ended == []


@given(st.integers(1, 5000))
def test_listeners_are_few_and_spread(size):
    found = listeners(size)
    assert len(found) == min(size, 8)
    assert found[0] == 0
    assert max(b - a for a, b in zip(found, (*found[1:], size), strict=True)) <= size // 8 + 1


@given(st.text(max_size=2000), st.lists(st.integers(0, 10**6), max_size=100))
def test_a_beat_fits_a_note_whatever_it_says(doing, behind):
    beat = Beat(10**6, True, doing, tuple(behind), True)
    data = beat.to_bytes()

    assert len(data) <= 512
    assert Beat.from_bytes(data).rank == 10**6


# -- simulated ranks, one of which is stuck ---------------------------------------------


def build(feed: StepSource) -> hs.Job:
    job = hs.Job("orders")
    job.source(feed, event_time="t", event_time_unit="s").key_by("t").window(hs.tumbling("1s")).agg(
        n=hs.count()
    ).collect()
    return job


def step_all_but(ranks, stuck: int, seconds: float) -> None:
    """Let all ranks but one look, again and again."""
    alive = ranks._turns._alive
    for _ in range(round(seconds / LOOK_EVERY_S)):
        ranks.clock.advance(1.01 * LOOK_EVERY_S)
        for rank in [rank for rank in sorted(alive) if rank != stuck]:
            for _ in range(4):
                next(alive[rank])


@pytest.mark.parametrize("stuck", [0, 1, 2])
def test_the_message_names_the_stuck_rank_and_the_edge_waited_on(stuck, capsys):
    feed = StepSource(pa.schema({"t": pa.int64()}), n_splits=3)
    with start_ranks(3, lambda: build(feed), clock=ManualClock()) as ranks:
        ranks.close_round()
        step_all_but(ranks, stuck, 14)

    text = capsys.readouterr().err
    assert text.count("nothing has moved") == 1
    assert text.count("does not answer") == 1
    assert f"rank {stuck} (process" in text
    assert "waits for" in text
    assert f"task 1) from rank {stuck}\n" in text or "control round" in text


def test_stall_timeout_ends_all_ranks(capsys):
    feed = StepSource(pa.schema({"t": pa.int64()}), n_splits=3)
    options = {"clock": ManualClock(), "stall_timeout_s": 4.0}
    with start_ranks(3, lambda: build(feed), **options) as ranks:
        ranks.close_round()
        with pytest.raises(SystemExit):
            step_all_but(ranks, 1, 10)

    text = capsys.readouterr().err
    assert "rank 1 (process" in text
    assert "hpcstream.errors.StallError: nothing has moved for 4 s" in text


@pytest.mark.parametrize(
    ("hears", "lost"),
    [((1, 2, 3), []), ((1,), ["b"]), ((1, 3), []), ((2,), []), ((), ["b"])],
)
def test_a_host_from_which_no_rank_is_heard_ends_the_job(hears, lost):
    monitor = StallMonitor(0, 4, None, lost_host_s=60.0)
    monitor.know_processes(["10 on a", "11 on a", "12 on b", "13 on b"])
    now_s = 0.0
    monitor.look(now_s, moved=True)
    while now_s < 59:
        now_s += 1.0
        monitor.look(now_s, moved=False)
        for rank in hears:
            monitor.hear(Beat(rank, rank % 2 == 0, "work"), now_s)
        assert not monitor.is_over(now_s)

    assert monitor.lost_hosts(now_s) == lost
    monitor.look(now_s + 1, moved=False)
    assert monitor.is_over(now_s + 1) is bool(lost)


def test_without_a_limit_a_lost_host_is_waited_for():
    monitor = StallMonitor(0, 2)
    monitor.know_processes(["10 on a", "12 on b"])
    for second in range(1000):
        monitor.look(float(second), moved=False)
    assert monitor.lost_hosts(1000.0) == ["b"]
    assert not monitor.is_over(1000.0)


def test_ranks_that_wait_in_vain_end_a_job_that_was_asked_to_stop(capsys, monkeypatch):
    monkeypatch.setattr(AskedToStop, "unanswered_s", lambda stop: 1000.0 if stop.status else 0.0)
    feed = StepSource(pa.schema({"t": pa.int64()}), n_splits=3)
    with start_ranks(3, lambda: build(feed), clock=ManualClock(), stop_grace_s=20.0) as ranks:
        ranks.close_round()
        for run in ranks._runs:
            run.context.stop.status = 75
        step_all_but(ranks, 1, 20)
        assert "gave no answer" not in capsys.readouterr().err
        with pytest.raises(SystemExit, match="75"):
            step_all_but(ranks, 1, 10)

    assert "asked to stop, the ranks gave no answer for 23 s: rank" in capsys.readouterr().err


def test_a_rank_that_says_it_works_is_waited_for():
    monitor = StallMonitor(0, 2)
    monitor.hear(Beat(1, False, "a long batch"), 100.0)

    assert monitor.works_elsewhere(101.0)
    assert not monitor.works_elsewhere(110.0)
    monitor.hear(Beat(1, True, "rank 0"), 111.0)
    assert not monitor.works_elsewhere(111.0)


def test_a_quiet_live_source_is_no_stall(capsys):
    feed = StepSource(pa.schema({"t": pa.int64()}), n_splits=3)
    with start_ranks(2, lambda: build(feed), clock=ManualClock(turn_s=0.005)) as ranks:
        ranks.until(lambda: ranks.clock() >= 30)
        feed.end()
        ranks.finish()

    assert "nothing has moved" not in capsys.readouterr().err


def heartbeats_of_three(clock, stuck):
    """Return heartbeats that end the job after 4 s, all waiting for ``stuck``."""
    world = Simulation(3)
    return [
        Heartbeat(
            world.communicator(rank),
            clock,
            StallMonitor(rank, 3, 4.0),
            lambda stalled: WaitReason("round 7", (stuck,)),
        )
        for rank in range(3)
    ]


@pytest.mark.parametrize("behind_s", [0.2, 0.5, 0.9, 1.0, 1.1, 1.5])
@pytest.mark.parametrize("turn_s", [0.01, 0.03])
def test_a_rank_that_stalled_a_little_later_does_not_tell_again(turn_s, behind_s, capsys):
    clock = ManualClock()
    beats = heartbeats_of_three(clock, stuck=0)

    def to_the_end():
        for turn in range(5000):
            clock.advance(turn_s)
            for rank in (1, 2):  # 0 is stuck
                beats[rank].turn(moved=rank == 1 and turn * turn_s < behind_s)

    with pytest.raises(SystemExit):
        to_the_end()

    said = capsys.readouterr().err
    assert said.count("nothing has moved for") == 2  # who is missing; then the end
    assert said.count("does not answer") == 1


def test_where_the_launcher_takes_long_to_end_all_only_one_rank_tells_of_the_end(capsys):
    """Both end the job at last, whichever of them is still there."""
    clock = ManualClock()
    beats = heartbeats_of_three(clock, stuck=2)
    ended, said = [], {0: "", 1: ""}

    for _ in range(1200):
        clock.advance(0.025)
        for rank in {0, 1} - set(ended):
            try:
                beats[rank].turn(moved=False)
            except SystemExit:
                ended.append(rank)
            said[rank] += capsys.readouterr().err

    assert ended == [0, 1]
    assert said[0].count("StallError") == 1
    assert said[1] == ""


@pytest.mark.parametrize("character", ['"', "\\", "\n", "\x00", "é", "\N{SNOWMAN}"])
def test_a_beat_fits_into_a_note_whatever_a_job_is_called(character):
    beat = Beat(10**6, True, character * 1000, tuple(range(10**6, 10**6 + 50)), True, True)

    sent = beat.to_bytes()

    assert len(sent) <= NOTE_BYTES
    assert len(Beat.from_bytes(sent).doing) == 240
