"""Operators from outside: a clock, results that come late, watermarks of inputs, pauses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import hpcstream as hs
from hpcstream.columns.event_time import MAX_TIME, MIN_TIME, TIME_COLUMN
from hpcstream.errors import PlanError
from hpcstream.exchange.edges.base import LocalEdge, RoundEnd
from hpcstream.graph.logical import OperatorNode
from hpcstream.operators.base import PAUSE, PAUSE_ROWS, Operator, with_pauses
from hpcstream.operators.spec import MAIN, Anywhere, Gathered, OperatorSpec, Traits
from hpcstream.runtime.control import CLOCK_US
from hpcstream.runtime.sources.pacing import MOST_STRETCHED_S
from hpcstream.runtime.tasks.outputs import Outputs
from hpcstream.runtime.tasks.task import Task
from hpcstream.state.scalars import Field, Scalars, greatest
from hpcstream.testing import ListSink, ListSource, ManualClock, StepSource, run_ranks, start_ranks

SCHEMA = pa.schema({"x": pa.int64()})
EPOCH_S = 1_000_000.0
DELAY_US = 100_000


@dataclass(frozen=True, eq=False)
class OutsideSpec(OperatorSpec):
    """An operator of this file; rows of several inputs are gathered on one rank."""

    operator: type[Operator]
    n_inputs: int = 1

    @property
    def kind(self):
        return f"outside {self.operator.__name__}"

    @property
    def traits(self):
        return Traits(needs_time=self.n_inputs > 1)

    def key(self):
        return None

    def describe(self):
        return self.operator.__name__

    def inputs(self):
        return (Anywhere(),) if self.n_inputs == 1 else (Gathered(),) * self.n_inputs

    def output_schema(self, inputs):
        return inputs[0]

    def open(self, context):
        return self.operator()


def through(operator, *streams):
    """Return a stream through an operator that the package does not know."""
    spec = OutsideSpec(operator, len(streams))
    return streams[0]._add(OperatorNode.of(spec, *(stream._node for stream in streams)))


class Keeping(Operator):
    """Keeps rows, each with a number; a subclass says when one is let go."""

    def __init__(self):
        self.kept = []
        fields = [Field(name, rule) for name, rule in self.fields().items()]
        self.table = Scalars(fields, self.values, self.load)

    def process_batch(self, batch, input_index=0):
        self.kept += [(x, self.number()) for x in batch["x"].to_pylist()]
        return ()

    def let_go(self, is_due):
        due = [x for x, number in self.kept if is_due(number)]
        self.kept = [(x, number) for x, number in self.kept if not is_due(number)]
        if due:
            yield pa.record_batch({"x": due}, schema=SCHEMA)

    @property
    def has_pending(self):
        return bool(self.kept)

    def output_watermark(self, watermark):
        return min(watermark, MAX_TIME - 1) if self.kept else watermark

    def fields(self):
        return {"kept": dealt}

    def values(self):
        return {"kept": [number for pair in self.kept for number in pair]}

    def load(self, values):
        self.kept = [tuple(pair) for pair in values["kept"].reshape(-1, 2).tolist()]

    def tables(self):
        return (self.table,)


def dealt(values, owned):
    """Deal pairs by the first of both."""
    pairs = np.concatenate(values).reshape(-1, 2)
    return pairs[pairs[:, 0] % owned.n_instances == owned.instance].ravel()


def together(values, owned):
    return np.concatenate(values)


class Reminding(Keeping):
    """A timer a row: gives it back `DELAY_US` after it came, by the time of day."""

    heard: ClassVar[list[list[int]]] = []

    def __init__(self):
        super().__init__()
        self.now_us = 0
        self.own = []
        self.heard.append(self.own)

    def number(self):
        return self.now_us + DELAY_US

    def process_clock(self, now_us):
        self.now_us = now_us
        self.own.append(now_us)
        return self.let_go(lambda due_us: due_us <= now_us)


class Answering(Keeping):
    """Gives a row back three rounds after it came, as something slow and asynchronous does."""

    def __init__(self):
        super().__init__()
        self.rounds = 0

    def number(self):
        return self.rounds + 3

    def process_watermark(self, watermark):
        self.rounds += 1
        return self.let_go(lambda due: due <= self.rounds)

    def fields(self):
        return super().fields() | {"rounds": greatest}

    def values(self):
        return super().values() | {"rounds": self.rounds}

    def load(self, values):
        super().load(values)
        self.rounds = int(values["rounds"][0])


@pytest.fixture
def heard(monkeypatch):
    """What each instance of `Reminding` was told."""
    monkeypatch.setattr(Reminding, "heard", [])
    return Reminding.heard


def clock():
    return ManualClock(EPOCH_S, turn_s=0.01)


def rows_of(n_rows):
    return lambda start, n: {"x": list(range(start, min(start + n, n_rows)))}


def build_through(make, out, n_rows=200):
    def build():
        job = hs.Job("outside")
        rows = job.generate(rows_of(n_rows), rows=n_rows, splits=3)
        twice = through(make, through(make, rows.rebalance()).rebalance())
        twice.write_parquet(out)
        return job

    return build


def run_on(n_ranks, build, directory, *, checkpoints=10**9, seed=0):
    """Run a job to its end, or drop all ranks after some checkpoints; True if it was dropped."""
    options = {"batch_rows": 5, "checkpoint_interval_s": 1e-6, "checkpoint_dir": str(directory)}
    ranks = start_ranks(n_ranks, build, clock=clock(), max_delay=2, seed=seed, **options)

    def is_over():
        made = [worker.services.checkpoints for worker in ranks.workers]
        return any(one is not None and one.completed >= checkpoints for one in made)

    with ranks:
        is_dropped = ranks.until(is_over)
        if not is_dropped:
            ranks.finish()
    return is_dropped


def visible(out):
    tables = [pq.read_table(path) for path in sorted(out.glob("part-*.parquet"))]
    return sorted(pa.concat_tables(tables)["x"].to_pylist())


# -- a clock, and results that are still to come -------------------------------------------


@pytest.mark.parametrize("make", [Reminding, Answering])
@pytest.mark.parametrize("n_ranks", [1, 2, 3])
def test_a_job_does_not_end_before_operators_have_given_back_what_they_keep(
    make, n_ranks, tmp_path, heard
):
    run_ranks(n_ranks, build_through(make, tmp_path), clock=clock(), max_delay=3, batch_rows=20)

    assert visible(tmp_path) == list(range(200))


@pytest.mark.parametrize("make", [Reminding, Answering])
@pytest.mark.parametrize("sizes", [(1, 1), (2, 2), (3, 2, 1), (1, 3)])
def test_what_is_kept_survives_a_kill_and_a_restart_on_any_number_of_ranks(
    make, sizes, tmp_path, heard, capsys
):
    build = build_through(make, tmp_path / "out", n_rows=400)
    for seed, n_ranks in enumerate(sizes):
        assert run_on(n_ranks, build, tmp_path / "run", checkpoints=1, seed=seed)
    assert not run_on(sizes[-1], build, tmp_path / "run")

    assert capsys.readouterr().err.count("going on from") >= len(sizes)
    assert visible(tmp_path / "out") == list(range(400))


@pytest.mark.parametrize("n_ranks", [1, 2, 3])
def test_all_ranks_are_told_the_same_times_50_ms_apart_or_more(n_ranks, heard):
    def build():
        job = hs.Job("clock")
        rows = job.generate(rows_of(100), rows=100, splits=3)
        through(Reminding, rows.rebalance()).sink(ListSink())
        return job

    run_ranks(n_ranks, build, clock=clock(), max_delay=3, batch_rows=5)

    assert len(heard) >= n_ranks
    told = [own for own in heard if own]
    assert all(own == told[0] for own in told)
    assert len(told[0]) > 2
    assert told[0] == sorted(set(told[0]))
    assert all(now_us % CLOCK_US == 0 for now_us in told[0])
    assert told[0][0] >= 1e6 * EPOCH_S - CLOCK_US


def test_a_quiet_live_job_still_hears_the_time(heard):
    feed = StepSource(SCHEMA)

    def build():
        job = hs.Job("quiet")
        through(Reminding, job.source(feed)).sink(ListSink())
        return job

    with start_ranks(1, build, clock=ManualClock(EPOCH_S), progress=False) as ranks:
        ranks.settle()
        for _ in range(1000):  # ten seconds without rows
            ranks.advance(0.01)
        own = heard[-1]
        gaps = np.diff([now_us for now_us in own if now_us > 1e6 * (EPOCH_S + 8)])
        feed.end()
        ranks.finish()

    assert len(gaps) > 10
    assert gaps.max() <= 3 * CLOCK_US < 1e6 * MOST_STRETCHED_S


def test_a_reproducible_job_refuses_the_time_of_day():
    def build():
        job = hs.Job("reproducible")
        through(Reminding, job.generate(rows_of(10), rows=10)).sink(ListSink())
        return job

    with pytest.raises(PlanError, match="'Reminding' goes by the time of day"):
        run_ranks(2, build, reproducible=True)


# -- watermarks of inputs ----------------------------------------------------------------------


class SemiJoin(Operator):
    """Says of each time of input 0 whether input 1 has it, as soon as input 1 is past it."""

    def __init__(self):
        self.left, self.right, self.marks = [], set(), (MIN_TIME, MIN_TIME)
        self.table = Scalars(
            [Field("left", together), Field("right", together)],
            lambda: {"left": self.left, "right": sorted(self.right)},
            self.load,
        )

    def process_batch(self, batch, input_index=0):
        times = batch[TIME_COLUMN].to_pylist()
        if input_index:
            self.right.update(times)
        else:
            self.left += times
        return ()

    def note_watermarks(self, marks):
        self.marks = marks

    def process_watermark(self, watermark):
        left, right = (watermark if mark is None else mark for mark in self.marks)
        decided = sorted(time for time in self.left if time < right)
        self.left = [time for time in self.left if time >= right]
        if decided:
            found = [int(time in self.right) for time in decided]
            yield pa.record_batch({"t": decided, "found": found, TIME_COLUMN: decided})
        self.right = {time for time in self.right if time >= min(left, right)}

    def output_watermark(self, watermark):
        return min([watermark, *self.left])

    def tables(self):
        return (self.table,)

    def load(self, values):
        self.left = values["left"].tolist()
        self.right = set(values["right"].tolist())


def batch_of(*times):
    return pa.record_batch({TIME_COLUMN: pa.array(times, pa.int64())})


def fill(edge, number, times, watermark):
    list(edge.send(batch_of(*times)))
    end = RoundEnd(MIN_TIME, idle=True) if watermark is None else RoundEnd(watermark)
    list(edge.close(number, end))


def two_inputs():
    left, right, out = LocalEdge("left", 9), LocalEdge("right", 9), LocalEdge("out", 9)
    operator = SemiJoin()
    task = Task("semi", [("semi", operator)], [left, right], Outputs([((0, MAIN), out)]))
    return operator, task, left, right, out


def run(task):
    while task.step():
        pass


def test_an_operator_frees_one_input_by_the_watermark_of_the_other():
    operator, task, left, right, out = two_inputs()
    fill(left, 0, [1, 2, 8], 3)
    fill(right, 0, [2, 8], 7)

    run(task)

    assert operator.marks == (3, 7)
    rows = out.take(0)
    assert rows.batches[0].to_pydict() == {"t": [1, 2], "found": [0, 1], TIME_COLUMN: [1, 2]}
    assert rows.watermark == 3
    assert operator.left == [8]


def test_the_watermark_of_an_input_never_goes_back_and_is_none_while_it_is_idle():
    operator, task, left, right, _ = two_inputs()
    seen = []
    for number, marks in enumerate([(5, 9), (4, None), (None, 6), (7, 10)]):
        fill(left, number, [], marks[0])
        fill(right, number, [], marks[1])
        run(task)
        seen.append(operator.marks)

    assert seen == [(5, 9), (5, None), (None, 9), (7, 10)]


def test_the_watermarks_of_inputs_are_restored():
    _, task, left, right, _ = two_inputs()
    fill(left, 0, [], 50)
    fill(right, 0, [], 90)
    run(task)
    facts = task.snapshot()

    operator, again, left, right, _ = two_inputs()
    again.restore(facts, 1)
    fill(left, 0, [], 40)
    fill(right, 0, [], 95)
    run(again)

    assert again.watermark == 50
    assert operator.marks == (50, 95)


@pytest.mark.parametrize("sizes", [(1,), (2, 2), (3, 1), (1, 3, 2)])
def test_an_operator_with_two_inputs_runs_and_is_restarted_on_any_number_of_ranks(
    sizes, tmp_path, capsys
):
    times = {"left": range(0, 600, 2), "right": range(0, 600, 3)}

    def build():
        job = hs.Job("semi")
        left, right = (
            job.source(
                ListSource([[{"t": own[i::3], "found": [-1] * len(own[i::3])}] for i in range(3)])
            ).with_event_time("t", unit="us", watermark_delay="600us")
            for own in times.values()
        )
        through(SemiJoin, left, right).write_parquet(tmp_path / "out")
        return job

    for seed, n_ranks in enumerate(sizes[:-1]):
        assert run_on(n_ranks, build, tmp_path / "run", checkpoints=1, seed=seed)
    assert not run_on(sizes[-1], build, tmp_path / "run")

    assert capsys.readouterr().err.count("going on from") == len(sizes) - 1
    rows = pa.concat_tables([pq.read_table(p) for p in (tmp_path / "out").glob("part-*.parquet")])
    found = dict(zip(rows["t"].to_pylist(), rows["found"].to_pylist(), strict=True))
    assert found == {t: int(t in times["right"]) for t in times["left"]}
    assert rows.num_rows == len(times["left"])


# -- pauses ------------------------------------------------------------------------------------


def test_there_is_a_pause_wherever_many_rows_have_left_and_more_follow():
    small, large = batch_of(1), batch_of(*range(PAUSE_ROWS))

    assert list(with_pauses([small, small, large])) == [small, small, large]
    assert list(with_pauses([large, small, small])) == [large, PAUSE, small, small]
    assert list(with_pauses([large, PAUSE, large])) == [large, PAUSE, large]


@pytest.mark.parametrize("window", [hs.tumbling("1s"), hs.sliding("1s", "500ms")], ids=repr)
@pytest.mark.parametrize("local", [True, False])
def test_a_rank_looks_at_mpi_while_a_large_window_fires(window, local, monkeypatch):
    monkeypatch.setattr("hpcstream.operators.windows.slices.MAX_BATCH_ROWS", 500)
    monkeypatch.setattr("hpcstream.operators.base.PAUSE_ROWS", 500)
    keys = 8_000

    def build():
        job = hs.Job("large")
        rows = job.generate(
            lambda start, n: {"t": [999] * n, "k": list(range(start, start + n))},
            rows=keys, splits=2, event_time="t", event_time_unit="ms",
        )  # fmt: skip
        sink = ListSink()
        rows.key_by("k").window(window).agg(rows=hs.count()).sink(sink)
        return job, sink

    looks, most = [0], [0]
    with start_ranks(2, build, local_aggregation=local, batch_rows=2 * keys) as ranks:
        ranks.until(lambda: len(ranks.workers) == 2)
        for worker in ranks.workers:
            _count_looks(worker, looks, most)
        result = ranks.finish()

    n_windows = 1 if window == hs.tumbling("1s") else 2
    assert sum(len(sink.committed) for sink in result.handles) == n_windows * keys
    assert most[0] >= keys // 2 // 500 - 2


def _count_looks(worker, looks, most):
    """Note in ``most`` the greatest number of looks at the edges within one round of a task."""
    progress, step = worker._progress_edges, worker._step
    since = {}

    def looking():
        looks[0] += 1
        return progress()

    def stepping(task):
        number = task.next_round
        moved = step(task)
        if task._running is None:
            since.pop(id(task), None)
        else:
            begun = since.setdefault(id(task), (number, looks[0]))
            if moved and "watermark" in task._doing:
                most[0] = max(most[0], looks[0] - begun[1])
        return moved

    worker._progress_edges, worker._step = looking, stepping
