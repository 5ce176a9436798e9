"""One task: a chain of operators, its outputs, and rounds that wait, fail and drain."""

from __future__ import annotations

import pyarrow as pa
import pytest

from hpcstream.columns.event_time import MAX_TIME
from hpcstream.exchange.edges.base import LocalEdge, RoundEnd
from hpcstream.operators.base import PAUSE, WAIT, Operator, SideOutput
from hpcstream.operators.spec import MAIN
from hpcstream.runtime.tasks.chain import OperatorChain
from hpcstream.runtime.tasks.outputs import Outputs
from hpcstream.runtime.tasks.task import Task, coalesced


def batch(*values):
    return pa.record_batch({"x": list(values)}, schema=pa.schema({"x": pa.int64()}))


def values_of(batches):
    return [value for one in batches for value in one["x"].to_pylist()]


class Passing(Operator):
    """Hands rows on, and what it is told to at a watermark."""

    def __init__(self, *, at_watermark=(), side=None):
        self.at_watermark = at_watermark
        self.side = side
        self.watermarks = []
        self.inputs = []

    def process_batch(self, one, input_index=0):
        self.inputs.append(input_index)
        if self.side:
            yield SideOutput(self.side, one)
        yield one

    def process_watermark(self, watermark):
        self.watermarks.append(watermark)
        yield from self.at_watermark


class Delaying(Passing):
    """Says that rows may be three ticks behind the watermark."""

    def output_watermark(self, watermark):
        return watermark - 3


class Doubling(Passing):
    def process_batch(self, one, input_index=0):
        yield one
        yield one


class Recorder:
    """Takes what a chain emits, by output."""

    def __init__(self):
        self.emitted = []

    def emit(self, place, one):
        self.emitted.append((place, values_of([one])))
        return iter(())


def chain_of(*operators):
    recorder = Recorder()
    named = [(f"operator {i}", operator) for i, operator in enumerate(operators)]
    return OperatorChain(named, recorder.emit), recorder


def test_a_chain_pushes_each_batch_through_all_operators():
    chain, recorder = chain_of(Doubling(), Doubling())

    list(chain.push(0, batch(1, 2)))

    assert recorder.emitted == [((1, MAIN), [1, 2])] * 4
    assert [(c.rows_in, c.rows_out) for c in chain.counters] == [(2, 4), (4, 8)]


def test_an_empty_chain_hands_on_what_comes():
    chain, recorder = chain_of()

    list(chain.push(0, batch(1)))
    list(chain.push_watermark(7, 7))

    assert recorder.emitted == [((-1, MAIN), [1])]
    assert chain.watermarks[-1] == 7


def test_side_outputs_leave_the_chain_where_they_arise():
    chain, recorder = chain_of(Passing(side="late"), Passing())

    list(chain.push(0, batch(1)))

    assert recorder.emitted == [((0, "late"), [1]), ((1, MAIN), [1])]


def test_empty_batches_go_no_further():
    chain, recorder = chain_of(Passing(), Passing())

    list(chain.push(0, batch()))

    assert recorder.emitted == []


def test_what_a_watermark_releases_passes_the_operators_behind_before_their_watermark():
    order = []

    class Noting(Passing):
        def process_batch(self, one, input_index=0):
            order.append("batch")
            yield one

        def process_watermark(self, watermark):
            order.append("watermark")
            return ()

    chain, recorder = chain_of(Passing(at_watermark=[batch(5)]), Noting())

    list(chain.push_watermark(10, 10))

    assert order == ["batch", "watermark"]
    assert recorder.emitted == [((1, MAIN), [5])]


def test_an_operator_may_hold_time_back_for_those_behind_it():
    first, second, third = Passing(), Delaying(), Passing()
    chain, _ = chain_of(first, second, third)

    list(chain.push_watermark(10, 10))

    assert [first.watermarks, second.watermarks, third.watermarks] == [[10], [10], [7]]
    assert chain.watermarks[:3] == [10, 7, 7]


class Keeping(Passing):
    """Keeps every batch until it is told to let go."""

    def __init__(self):
        super().__init__()
        self.kept = []
        self.caught_up = []

    def process_batch(self, one, input_index=0):
        self.kept.append(one)
        return ()

    def release(self):
        kept, self.kept = self.kept, []
        return kept

    def catch_up(self, watermark):
        self.caught_up.append(watermark)


def test_what_is_held_back_goes_out_when_the_input_is_idle():
    chain, recorder = chain_of(Keeping(), Doubling())
    list(chain.push(0, batch(1)))
    list(chain.push_watermark(10, 4))
    assert recorder.emitted == []

    list(chain.push_watermark(10, None))

    assert recorder.emitted == [((1, MAIN), [1])] * 2
    assert chain.marks[:2] == [None, None]


def test_what_a_chain_promises_may_go_back_and_its_watermark_does_not():
    chain, _ = chain_of(Delaying())
    list(chain.push_watermark(10, 10))

    list(chain.push_watermark(10, 5))

    assert chain.watermarks[0] == 7
    assert chain.marks[0] == 2


class Blocks(Passing):
    """Fires a large window in three blocks, and looks up between them."""

    def process_watermark(self, watermark):
        yield batch(1)
        yield PAUSE
        yield batch(2)
        yield WAIT
        yield batch(3)


def test_a_chain_hands_up_that_an_operator_pauses_or_waits():
    chain, recorder = chain_of(Blocks(), Passing())

    assert list(chain.push_watermark(10, 10)) == [PAUSE, WAIT]
    assert [values for _, values in recorder.emitted] == [[1], [2], [3]]


# -- tasks -------------------------------------------------------------------------------


def edge(capacity=3, name="in"):
    return LocalEdge(name, capacity)


def fill(into, number, *values, **end):
    list(into.send(batch(*values)))
    list(into.close(number, RoundEnd(**{"watermark": number, **end})))


def run(task, turns=100):
    """Step a task until nothing moves; return how many steps moved."""
    return sum(task.step() for _ in range(turns))


def task_of(*operators, inputs, outputs):
    named = [(f"operator {i}", operator) for i, operator in enumerate(operators)]
    places = [((len(operators) - 1, MAIN), one) for one in outputs]
    return Task("task 0", named, inputs, Outputs(places))


def test_a_task_takes_a_round_of_all_inputs_and_closes_it_on_all_outputs():
    left, right, out, other = edge(), edge(), edge(), edge()
    operator = Passing()
    task = task_of(operator, inputs=[left, right], outputs=[out, other])
    fill(left, 0, 1, 2, watermark=9)

    assert run(task) == 0
    fill(right, 0, 3, watermark=4)
    run(task)

    assert task.next_round == 1
    assert operator.inputs == [0, 1]
    assert operator.watermarks == [4]
    for one in (out, other):
        part = one.take(0)
        assert values_of(part.batches) == [1, 2, 3]
        assert part.watermark == 4


def test_an_empty_round_is_closed_too():
    into, out = edge(), edge()
    task = task_of(Passing(), inputs=[into], outputs=[out])
    fill(into, 0)

    run(task)

    assert out.has_round(0)


def test_busy_and_idle_pass_through():
    into, out = edge(), edge()
    task = task_of(Passing(), inputs=[into], outputs=[out])
    fill(into, 0, busy=True)
    fill(into, 1, idle=True)

    run(task)

    first, second = out.take(0), out.take(1)
    assert first.busy
    assert first.watermark == 0
    assert not second.busy
    assert second.watermark is None


def test_the_loop_hears_that_a_task_pauses_or_waits_within_a_round():
    into, out = edge(), edge()
    task = task_of(Blocks(), inputs=[into], outputs=[out])
    fill(into, 0, 7)

    assert [task.step() for _ in range(3)] == [True, False, True]
    assert (task.next_round, out.has_round(0)) == (1, True)
    assert values_of(out.take(0).batches) == [7, 1, 2, 3]


class HeldUp(LocalEdge):
    """An edge whose other producers have closed the rounds below ``closed``."""

    closed = 0

    def reached_by(self, round_number):
        return 70 if round_number < self.closed else None


def test_a_task_that_was_idle_hears_how_far_time_has_gone_before_its_next_round_or_snapshot():
    into, out, holder = edge(), HeldUp("out", 3), Keeping()
    task = task_of(holder, inputs=[into], outputs=[out])
    assert not task.begin_snapshot(1), "it has not come to that round"
    fill(into, 0, idle=True)
    fill(into, 1, 5)

    run(task)
    assert not task.begin_snapshot(1)
    assert (task.next_round, holder.caught_up) == (1, [])
    out.closed = 1
    assert task.begin_snapshot(1)
    assert holder.caught_up == [70]
    run(task)

    assert (task.next_round, holder.caught_up) == (2, [70])


def test_a_task_that_failed_does_not_wait_to_hear_it():
    into, out = edge(), HeldUp("out", 3)
    task = task_of(Keeping(), inputs=[into], outputs=[out])
    fill(into, 0, idle=True)
    fill(into, 1, 5)
    run(task)

    task.drain()
    run(task)

    assert task.next_round == 2


def test_one_input_that_wakes_behind_the_others_does_not_let_time_jump():
    left, right, out = edge(), edge(), edge()
    task = task_of(Passing(), inputs=[left, right], outputs=[out])
    fill(left, 0, watermark=5)
    fill(right, 0, idle=True)
    fill(left, 1, watermark=90)
    fill(right, 1, watermark=20)

    run(task)

    assert task.watermark == 20


def test_a_task_waits_for_room_on_every_output():
    into, roomy, narrow = edge(10), edge(10), edge(1)
    task = task_of(Passing(), inputs=[into], outputs=[roomy, narrow])
    for number in range(5):
        fill(into, number, number)

    run(task)
    assert task.next_round == 1
    narrow.take(0)
    run(task)

    assert task.next_round == 2


def test_the_last_round_is_followed_by_a_farewell_only_once():
    into, out = edge(), edge()
    task = task_of(Passing(), inputs=[into], outputs=[out])
    fill(into, 0)
    task.end_at(1)

    run(task)

    assert task.finished
    assert out.finished
    assert task.step() is False


class Failing(Passing):
    def process_batch(self, one, input_index=0):
        self.inputs.append(input_index)
        yield one
        raise ArithmeticError("seven")


def test_a_failed_round_is_closed_empty_and_so_are_those_after_it():
    left, right, out = edge(), edge(), edge()
    operator = Failing()
    task = task_of(operator, inputs=[left, right], outputs=[out])
    for number in range(2):
        fill(left, number, 1)
        fill(right, number, 2)

    with pytest.raises(ArithmeticError):
        run(task)
    assert "in task 0, round 0, batch of 1 rows from in" in task.where()
    task.drain()
    run(task)

    assert task.next_round == 2
    assert operator.inputs == [0]
    assert operator.watermarks == []
    assert out.abort_seen
    assert [out.take(number).watermark for number in range(2)] == [MAX_TIME, MAX_TIME]


def test_a_task_drained_in_the_middle_of_a_round_does_not_take_an_input_twice():
    left, right, out = edge(), edge(), edge()
    task = task_of(Passing(), inputs=[left, right], outputs=[out])
    fill(left, 0, 1)
    fill(right, 0, 2)
    task.step()

    task.drain()
    run(task)

    assert task.next_round == 1
    assert [left.has_round(0), right.has_round(0)] == [False, False]


def test_small_batches_are_joined_and_large_ones_left_alone():
    large = batch(*range(20_000))

    joined = list(coalesced([batch(1), batch(2, 3), large, batch(4)]))

    assert [one.num_rows for one in joined] == [3, 20_000, 1]
    assert joined[1] is large
    assert values_of(joined) == [1, 2, 3, *range(20_000), 4]


def test_rows_of_an_output_that_nobody_reads_are_dropped():
    out = edge()
    outputs = Outputs([((0, MAIN), out)])

    assert list(outputs.emit((0, "late"), batch(1))) == []
    list(outputs.emit((0, MAIN), batch(2)))
    list(outputs.close(0, lambda place: RoundEnd(0)))

    assert values_of(out.take(0).batches) == [2]
