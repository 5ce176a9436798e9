"""Operators that a test defines: they plan and run with no file of the engine knowing them."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream import col
from hpcstream.api.stream import Stream
from hpcstream.columns.event_time import MAX_TIME, TIME_COLUMN
from hpcstream.columns.hidden import visible_schema
from hpcstream.graph.logical import OperatorNode
from hpcstream.operators.base import Operator, SideOutput
from hpcstream.operators.spec import (
    Anywhere,
    Broadcast,
    ByKey,
    Columns,
    Gathered,
    OperatorContext,
    OperatorSpec,
    Requirement,
    Schemas,
    Traits,
)
from hpcstream.operators.stream_time import EventTime
from hpcstream.stable_keys import Key
from hpcstream.testing import run_ranks

UNMATCHED = "unmatched"


class Matching(Operator):
    """Buffers both sides, and joins them when all rows are there."""

    def __init__(self, spec: MatchSpec, context: OperatorContext) -> None:
        self.left = visible_schema(context.inputs[0])
        self.spec = spec
        self.output = spec.planned_schema(context)
        self.rows: tuple[list[dict], list[dict]] = ([], [])

    def process_batch(self, batch, input_index=0):
        self.rows[input_index].extend(batch.to_pylist())
        return ()

    def process_watermark(self, watermark):
        if watermark != MAX_TIME or not any(self.rows):
            return
        spec, (left, right) = self.spec, self.rows
        named = {}
        for row in right:
            named.setdefault(row[spec.right_on], []).append(row[spec.value])
        found = [
            row | {spec.value: value} for row in left for value in named.get(row[spec.left_on], ())
        ]
        alone = [row for row in left if row[spec.left_on] not in named]
        self.rows = ([], [])
        yield pa.RecordBatch.from_pylist(found, self.output)
        yield SideOutput(UNMATCHED, pa.RecordBatch.from_pylist(alone, self.left))


@dataclass(frozen=True, eq=False)
class MatchSpec(OperatorSpec):
    """Rows of the left with one column of the rows of the right that have an equal key."""

    left_on: str
    right_on: str
    value: str
    sides: tuple[Requirement, Requirement] | None = None
    kind = "match"

    def key(self) -> Key:
        return [self.left_on, self.right_on, self.value]

    def describe(self) -> str:
        return f"match {self.left_on} = {self.right_on}"

    def inputs(self) -> tuple[Requirement, ...]:
        return self.sides or (ByKey((self.left_on,)), ByKey((self.right_on,)))

    def output_schema(self, inputs: Schemas) -> pa.Schema:
        left, right = (visible_schema(schema) for schema in inputs)
        return left.append(right.field(self.value))

    def output_time(self, times: Sequence[EventTime | None], inputs: Schemas) -> None:
        return None

    def side_outputs(self, inputs: Schemas) -> Mapping[str, pa.Schema]:
        return {UNMATCHED: visible_schema(inputs[0])}

    def passed(self, inputs: Schemas) -> Columns:
        return frozenset(inputs[0].names)

    def required(self, needed: Columns, inputs: Schemas, sides: Columns) -> Sequence[Columns]:
        left = frozenset(inputs[0].names) & (needed | {self.left_on})
        return [frozenset(inputs[0].names) if sides else left, {self.right_on, self.value}]

    def below_filter(self, predicate, inputs: Schemas):
        return [predicate, None] if predicate.columns() <= set(inputs[0].names) else None

    def open(self, context: OperatorContext) -> Matching:
        return Matching(self, context)


ORDERS = [{"t": i, "user": i * 7 % 13, "amount": float(i), "unused": i} for i in range(200)]
USERS = [{"u": i % 10, "id": i % 10, "name": f"user {i}", "more": 0} for i in range(11)]


def batches(rows, n=3):
    shuffled = random.Random(n).sample(rows, len(rows))
    size = -(-len(rows) // n)
    return [pa.RecordBatch.from_pylist(shuffled[i : i + size]) for i in range(0, len(rows), size)]


def matched(job, sides=None):
    orders = job.from_batches(batches(ORDERS), event_time="t", event_time_unit="s")
    users = job.from_batches(batches(USERS))
    spec = MatchSpec("user", "id", "name", sides)
    return Stream(job, OperatorNode.of(spec, orders._node, users._node))


def expected():
    pairs = [(o, u) for o in ORDERS for u in USERS if o["user"] == u["id"]]
    return sorted((o["t"], u["name"]) for o, u in pairs)


SIDES = {
    "by key": None,
    "broadcast": (Anywhere(), Broadcast()),
    "gathered": (Gathered(), Gathered()),
}


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("n_ranks", [1, 2, 3])
def test_an_operator_of_two_inputs_runs_wherever_it_wants_its_rows(sides, n_ranks):
    def build():
        job = hs.Job("match")
        rows = matched(job, SIDES[sides])
        return job, {"found": rows.collect(), "alone": rows.side(UNMATCHED).collect()}

    found = run_ranks(n_ranks, build).handles[0]

    rows = found["found"].table.to_pylist()
    assert sorted((row["t"], row["name"]) for row in rows) == expected()
    alone = sorted(row["t"] for row in found["alone"].table.to_pylist())
    assert alone == [row["t"] for row in ORDERS if row["user"] >= 10]


def test_each_input_goes_to_the_rank_of_its_own_key():
    job = hs.Job("match")
    matched(job).collect()

    text = job.explain(ranks=2)

    assert "[hash(user)] (t, user, amount, unused)" in text
    assert "[hash(id)] (id, name)" in text
    assert "operator match user = id" in text


def test_rows_that_lie_by_other_keys_are_moved_where_the_other_input_is():
    """A subset of the keys is enough for one input alone, not for two that must meet."""
    job = hs.Job("match")
    orders = job.from_batches(batches(ORDERS), event_time="t", event_time_unit="s")
    sums = orders.key_by("user").window(hs.tumbling("10s")).agg(total=col("amount").sum())
    by_both = MatchSpec("user", "id", "name", (ByKey(("user", "window_start")), ByKey(("id", "u"))))
    by_user = MatchSpec("user", "id", "name")
    users = job.from_batches(batches(USERS))
    for spec in (by_user, by_both):
        Stream(job, OperatorNode.of(spec, sums._node, users._node)).collect()

    text = job.explain(ranks=2)

    assert text.count("exchange dropped") == 1
    assert "[hash(user, window_start)]" in text


def test_what_the_operator_passes_needs_no_second_exchange():
    job = hs.Job("match")
    rows = matched(job).with_event_time("t", unit="s")
    rows.key_by("user").window(hs.tumbling("10s")).agg(n=hs.count()).collect()

    assert "exchange dropped: rows are already partitioned by user" in job.explain(ranks=2)


def test_a_filter_passes_to_the_side_that_the_definition_names():
    job = hs.Job("match")
    matched(job).filter(col("amount") > 100).collect()

    text = job.explain(ranks=1)

    assert "filter pushed below match: col('amount') > 100" in text
    assert text.index("operator filter col('amount') > 100") < text.index("operator match")
    assert text.count("operator filter") == 1


def test_columns_that_no_side_needs_are_not_read():
    job = hs.Job("match")
    matched(job).select("t", "name").collect()

    text = job.explain(ranks=2)

    assert "[hash(user)] (t, user)" in text


def test_a_side_output_of_another_name_is_refused_by_the_names_there_are():
    job = hs.Job("match")
    rows = matched(job)
    rows.collect()

    with pytest.raises(hs.PlanError, match=r"side\('late'\): .*side outputs: 'unmatched'"):
        rows.side("late")


def test_rows_that_leave_without_event_time_have_none():
    rows = matched(hs.Job("match"))

    for stream in (rows, rows.side(UNMATCHED)):
        with pytest.raises(hs.PlanError, match="windows need event time"):
            stream.window_all(hs.tumbling("1s")).agg(n=hs.count())


def test_an_event_time_that_no_column_holds_is_refused():
    class Contradicting(MatchSpec):
        def output_time(self, times, inputs):
            return times[0]

    rows = hs.Job("match").from_batches(batches(ORDERS), event_time="t", event_time_unit="s")
    with pytest.raises(hs.PlanError, match=r"output_schema\(\) has no column '__event_time'"):
        OperatorNode.of(Contradicting("user", "t", "amount"), rows._node, rows._node)


class Running(Operator):
    """The number of rows of each key so far."""

    def __init__(self, spec: RunningSpec, context: OperatorContext) -> None:
        self.column, self.output = spec.column, spec.planned_schema(context)
        self.counts: dict = {}

    def process_batch(self, batch, input_index=0):
        rows = batch.to_pylist()
        for row in rows:
            row["seen"] = self.counts[row[self.column]] = self.counts.get(row[self.column], 0) + 1
        yield pa.RecordBatch.from_pylist(rows, self.output)


@dataclass(frozen=True, eq=False)
class RunningSpec(OperatorSpec):
    """Counts the rows of each key."""

    column: str
    kind = "running"
    traits = Traits(runs_user_code=True)

    def key(self) -> Key:
        return self.column

    def describe(self) -> str:
        return f"running count by {self.column}"

    def inputs(self) -> tuple[Requirement, ...]:
        return (ByKey((self.column,)),)

    def output_schema(self, inputs: Schemas) -> pa.Schema:
        seen = pa.field("seen", pa.int64())
        hidden = [field for field in inputs[0] if field.name == TIME_COLUMN]
        return pa.schema([*visible_schema(inputs[0]), seen, *hidden])

    def open(self, context: OperatorContext) -> Running:
        return Running(self, context)


@pytest.mark.parametrize("n_ranks", [1, 2, 3])
def test_an_operator_by_key_sees_all_rows_of_a_key(n_ranks):
    def build():
        job = hs.Job("running")
        orders = job.from_batches(batches(ORDERS), event_time="t", event_time_unit="s")
        rows = Stream(job, OperatorNode.of(RunningSpec("user"), orders._node))
        windows = rows.key_by("user").window(hs.tumbling("1000s")).agg(most=col("seen").max())
        return job, windows.collect()

    found = run_ranks(n_ranks, build).handles[0].table.to_pylist()

    counts = {row["user"]: sum(one["user"] == row["user"] for one in ORDERS) for row in ORDERS}
    assert {row["user"]: row["most"] for row in found} == counts


def test_definitions_are_values():
    assert RunningSpec("a") == RunningSpec("a")
    assert RunningSpec("a") != RunningSpec("b")
    assert len({RunningSpec("a"), RunningSpec("a"), MatchSpec("a", "b", "c")}) == 2
    assert repr(RunningSpec("a")) == "RunningSpec(column='a')"
