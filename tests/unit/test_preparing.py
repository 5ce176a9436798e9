"""Memory for the next checkpoint is prepared in time, and a checkpoint waits for it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from hpcstream.checkpoint.increments import SegmentMemory
from hpcstream.checkpoint.pending import Session
from hpcstream.checkpoint.storage.background import Outcome
from hpcstream.expressions.expression import col
from hpcstream.operators.stateless import Filter
from hpcstream.runtime.checkpoints.coordinator import DUE, SAVEPOINT_DUE, Checkpointing
from hpcstream.runtime.checkpoints.preparing import Preparation
from hpcstream.runtime.control import Status
from hpcstream.state.table import Segment, StateTable, TableCopy
from hpcstream.testing import ManualClock
from hpcstream.testing.simulation import Simulation


class LaterWriter:
    """Does its work when it is told to."""

    def __init__(self):
        self.waiting = []

    def submit(self, work):
        self.waiting.append(Outcome(work))
        return self.waiting[-1]

    def work(self):
        while self.waiting:
            self.waiting.pop(0).run()


class OneSegment(StateTable):
    """The state of a `Changing`."""

    name = "changing"

    def __init__(self, operator):
        self._operator = operator

    def segments(self):
        self._operator.looks += 1
        return [Segment("0", str(self._operator.looks), 1 << 20)]

    def copy(self, indices):
        return TableCopy({"keys": np.empty(0, np.int64)})


class Changing(Filter):
    """A state of one segment; counts how often it is looked at."""

    bytes = 1000
    looks = 0

    def state_bytes(self):
        return self.bytes

    def tables(self):
        return (OneSegment(self),)


class Filled:
    """In place of the reserve."""

    def __init__(self):
        self.sizes = []
        self.is_enough = True

    def fill(self, wanted):
        self.sizes.append(wanted)

    def covers(self, wanted):
        return self.is_enough


@pytest.fixture
def clock():
    return ManualClock()


@pytest.fixture
def writer():
    return LaterWriter()


@pytest.fixture
def operator():
    return Changing(col("x") > 0)


@pytest.fixture
def tasks(operator):
    operators = [Filter(col("x") > 0), operator]
    return [SimpleNamespace(chain=SimpleNamespace(operators=operators), cut_round=None)]


@pytest.fixture
def preparation(clock, writer, tasks):
    made = Preparation(Filled(), SegmentMemory(), writer, clock)
    made.attach(tasks, {id(tasks[0]): 3})
    made.schedule(10.0)
    return made


@pytest.fixture
def checkpoints(clock, writer, tasks):
    session = Session(SimpleNamespace(take_request=lambda: None), attempt=1, next_number=1)
    made = Checkpointing(Simulation(1).communicator(0), session, None, writer, clock)
    made.attach(tasks, [3], {})
    return made


def test_the_state_is_looked_at_before_the_checkpoint_and_the_memory_touched(
    preparation, clock, writer, operator
):
    preparation.go_on()
    assert not operator.looks

    clock.advance(6)
    preparation.go_on()
    assert preparation.is_under_way
    writer.work()

    assert not preparation.is_under_way
    (sizes,) = preparation._reserve.sizes
    assert list(sizes) == ["3/1"]
    assert sizes["3/1"][0] > 8 << 20


def test_it_is_looked_at_again_if_it_has_grown_and_when_it_is_due(
    preparation, clock, writer, operator
):
    for _ in range(9):
        clock.advance(1)
        preparation.go_on()
        writer.work()
    assert operator.looks == 1
    clock.advance(1)
    preparation.go_on()
    assert operator.looks == 2

    preparation.schedule(10.0)
    clock.advance(6)
    preparation.go_on()
    writer.work()
    operator.bytes *= 2
    clock.advance(3)
    preparation.go_on()

    assert operator.looks == 4


def test_a_state_that_outgrew_its_memory_when_it_is_due_gets_more_first(preparation, clock, writer):
    clock.advance(10)
    preparation.go_on()
    assert not preparation.is_under_way

    preparation.schedule(10.0)
    preparation._reserve.is_enough = False
    clock.advance(10)
    preparation.go_on()
    assert preparation.is_under_way
    writer.work()
    preparation._reserve.is_enough = True
    preparation.go_on()
    assert not preparation.is_under_way


def test_a_state_that_grows_faster_than_memory_is_found_is_copied_all_the_same(
    preparation, clock, writer
):
    preparation._reserve.is_enough = False
    clock.advance(10)
    for _ in range(10):
        preparation.go_on()
        writer.work()

    assert len(preparation._reserve.sizes) == 3


def test_times_that_passed_while_a_checkpoint_was_written_are_made_up_for_once(
    preparation, clock, operator
):
    clock.advance(100)
    preparation.go_on()
    operator.bytes *= 2
    preparation.go_on()

    assert operator.looks == 1


def test_a_checkpoint_is_due_only_when_its_memory_is_there(checkpoints, clock, writer):
    clock.advance(11)

    assert checkpoints.wanted() == 0, "the background has just begun to touch it"
    assert checkpoints.is_unready
    writer.work()
    assert checkpoints.wanted() == DUE


def test_a_checkpoint_that_any_rank_is_not_ready_for_is_put_off(checkpoints, clock, writer, tasks):
    clock.advance(11)
    checkpoints.wanted()
    writer.work()
    assert checkpoints.wanted() == DUE
    assert checkpoints.wanted() == 0, "asked once"

    checkpoints.begin(Status(checkpoint=DUE, unready=1), 7, tasks)
    assert tasks[0].cut_round is None
    assert checkpoints.wanted() == DUE, "asked again"
    checkpoints.begin(Status(checkpoint=DUE), 9, tasks)

    assert tasks[0].cut_round == 9
    assert checkpoints.is_unready, "until this one is complete"
    assert checkpoints.wanted() == 0


def test_a_savepoint_is_not_put_off(checkpoints, clock, tasks):
    checkpoints.want_savepoint(stop=False)
    clock.advance(11)

    assert checkpoints.wanted() == SAVEPOINT_DUE
    checkpoints.begin(Status(checkpoint=SAVEPOINT_DUE, unready=1), 7, tasks)

    assert tasks[0].cut_round == 7
