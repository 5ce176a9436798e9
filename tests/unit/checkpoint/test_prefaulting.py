"""Memory for the next checkpoint is prepared in time, and a checkpoint waits for it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from hpcstream.checkpoint.increments import SegmentMemory
from hpcstream.checkpoint.pending import CheckpointRun, PlanManifest
from hpcstream.checkpoint.storage.background import Outcome
from hpcstream.config import JobConfig
from hpcstream.expressions.expression import col
from hpcstream.operators.stateless import Filter
from hpcstream.runtime.checkpoints.coordinator import make_coordinator
from hpcstream.runtime.checkpoints.prefaulting import Prefaulting
from hpcstream.runtime.checkpoints.run_directory import RunDirectory
from hpcstream.runtime.checkpoints.schedule import DUE, SAVEPOINT_DUE
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
    """In place of the copy buffers."""

    def __init__(self):
        self.sizes = []
        self.is_enough = True

    def fill(self, wanted):
        self.sizes.append(wanted)

    def covers(self, wanted):
        return self.is_enough


class Started:
    """A task that has come to no round of a checkpoint yet; keeps which ones it is asked for."""

    number = 3

    def __init__(self, operators):
        self.operators, self.asked_for = operators, []

    def begin_snapshot(self, round_number):
        self.asked_for.append(round_number)
        return False


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
    return [Started([Filter(col("x") > 0), operator])]


@pytest.fixture
def prefaulting(clock, writer, tasks):
    made = Prefaulting(tasks, Filled(), SegmentMemory(), writer, clock)
    made.schedule(10.0)
    return made


@pytest.fixture
def checkpoints(clock, writer, tasks):
    run = CheckpointRun(SimpleNamespace(take_request=lambda: None), attempt=1, next_number=1)
    directory = RunDirectory(run, PlanManifest("job", "", 1, [], {}, {}, {}))
    comm = Simulation(1).communicator(0)
    return make_coordinator(directory, comm, tasks, {}, JobConfig(), writer, clock, lambda: None)


def rounds_asked_for(checkpoints, task):
    """Return for which rounds a task is asked whether it can be copied."""
    task.asked_for.clear()
    checkpoints.copy_if_due(task)
    return task.asked_for


def test_the_state_is_looked_at_before_the_checkpoint_and_the_memory_touched(
    prefaulting, clock, writer, operator
):
    prefaulting.poll()
    assert not operator.looks

    clock.advance(6)
    prefaulting.poll()
    assert prefaulting.is_under_way
    writer.work()

    assert not prefaulting.is_under_way
    (sizes,) = prefaulting._buffers.sizes
    assert list(sizes) == ["3/1"]
    assert sizes["3/1"][0] > 8 << 20


def test_it_is_looked_at_again_if_it_has_grown_and_when_it_is_due(
    prefaulting, clock, writer, operator
):
    for _ in range(9):
        clock.advance(1)
        prefaulting.poll()
        writer.work()
    assert operator.looks == 1
    clock.advance(1)
    prefaulting.poll()
    assert operator.looks == 2

    prefaulting.schedule(10.0)
    clock.advance(6)
    prefaulting.poll()
    writer.work()
    operator.bytes *= 2
    clock.advance(3)
    prefaulting.poll()

    assert operator.looks == 4


def test_a_state_that_outgrew_its_memory_when_it_is_due_gets_more_first(prefaulting, clock, writer):
    clock.advance(10)
    prefaulting.poll()
    assert not prefaulting.is_under_way

    prefaulting.schedule(10.0)
    prefaulting._buffers.is_enough = False
    clock.advance(10)
    prefaulting.poll()
    assert prefaulting.is_under_way
    writer.work()
    prefaulting._buffers.is_enough = True
    prefaulting.poll()
    assert not prefaulting.is_under_way


def test_a_state_that_grows_faster_than_memory_is_found_is_copied_all_the_same(
    prefaulting, clock, writer
):
    prefaulting._buffers.is_enough = False
    clock.advance(10)
    for _ in range(10):
        prefaulting.poll()
        writer.work()

    assert len(prefaulting._buffers.sizes) == 3


def test_times_that_passed_while_a_checkpoint_was_written_are_made_up_for_once(
    prefaulting, clock, operator
):
    clock.advance(100)
    prefaulting.poll()
    operator.bytes *= 2
    prefaulting.poll()

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

    checkpoints.begin(Status(checkpoint=DUE, unready=1), 7)
    assert rounds_asked_for(checkpoints, tasks[0]) == []
    assert checkpoints.wanted() == DUE, "asked again"
    checkpoints.begin(Status(checkpoint=DUE), 9)

    assert rounds_asked_for(checkpoints, tasks[0]) == [9]
    assert checkpoints.is_unready, "until this one is complete"
    assert checkpoints.wanted() == 0


def test_a_savepoint_is_not_put_off(checkpoints, clock, tasks):
    checkpoints.schedule.want_savepoint(stop=False)
    clock.advance(11)

    assert checkpoints.wanted() == SAVEPOINT_DUE
    checkpoints.begin(Status(checkpoint=SAVEPOINT_DUE, unready=1), 7)

    assert rounds_asked_for(checkpoints, tasks[0]) == [7]
