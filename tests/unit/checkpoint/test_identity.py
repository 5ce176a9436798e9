"""By what a checkpoint finds operators, sources and sinks again: never by text for people."""

from __future__ import annotations

import functools
import sys
from pathlib import Path

import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream import col
from hpcstream.aggregates.base import AggregateCall
from hpcstream.connectors.in_process.generate import GenerateSource
from hpcstream.connectors.parts.sink import FileSink
from hpcstream.errors import PlanError
from hpcstream.expressions.expression import Expression
from hpcstream.graph import logical
from hpcstream.graph.identity import plan_fingerprint
from hpcstream.graph.physical import OperatorPlan, PhysicalGraph
from hpcstream.graph.planner import plan
from hpcstream.operators.spec import OperatorSpec
from hpcstream.operators.windows.spec import WindowAggregateSpec
from hpcstream.stable_keys import function_name
from hpcstream.testing import assert_same_rows, run_ranks

sys.path.insert(0, str(Path(__file__).parent))
from restart import JOBS, chained, generated, sliding, unfailed, visible
from test_jobs import kill_with_checkpoints, start


def doubled(batch, factor=2):
    numbers = [n * factor for n in batch["n"].to_pylist()]
    return batch.set_column(3, "n", pa.array(numbers, pa.int64()))


class Scaled:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, batch):
        return doubled(batch, self.factor)

    def method(self, batch):
        return doubled(batch, self.factor)


FUNCTIONS = {
    "function": lambda: doubled,
    "lambda": lambda: lambda batch: doubled(batch),
    "partial": lambda: functools.partial(doubled, factor=2),
    "partial of a partial": lambda: functools.partial(functools.partial(doubled), factor=2),
    "callable object": lambda: Scaled(2),
    "partial of an object": lambda: functools.partial(Scaled(2)),
    "bound method": lambda: Scaled(2).method,
}


def test_a_function_is_called_by_its_qualified_name_wherever_it_lies():
    names = {kind: function_name(make()) for kind, make in FUNCTIONS.items()}
    assert names == {
        "function": "doubled",
        "lambda": "<lambda>.<locals>.<lambda>",
        "partial": "doubled",
        "partial of a partial": "doubled",
        "callable object": "Scaled",
        "partial of an object": "Scaled",
        "bound method": "Scaled.method",
    }


def with_function(out, make):
    job = hs.Job("functions")
    rows = generated(job).map_batches(make())
    rows = rows.flat_map(functools.partial(same_row))
    rows.key_by("key").window(hs.tumbling("1s")).agg(n=col("n").sum()).write_parquet(out)
    return job


def same_row(row):
    return [row]


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_ranks_agree_on_any_kind_of_function(kind, tmp_path):
    expected, _ = unfailed(lambda out: with_function(out, lambda: doubled), tmp_path, 1)

    def build():  # once a rank: with objects of its own
        return with_function(tmp_path / "out", FUNCTIONS[kind])

    run_ranks(2, build)

    assert_same_rows(visible(tmp_path / "out"), expected)


@pytest.mark.parametrize(
    ("kind", "n_ranks"), [("lambda", 2), ("partial", 1), ("callable object", 2), ("partial", 3)]
)
def test_a_checkpoint_is_found_behind_any_kind_of_function(kind, n_ranks, tmp_path):
    def build(out):
        return with_function(out, FUNCTIONS[kind])

    expected, _ = unfailed(build, tmp_path, 1)
    kill_with_checkpoints(build, tmp_path, 2)

    start(build, tmp_path, n_ranks).finish()

    assert_same_rows(visible(tmp_path / "out"), expected)


# -- texts for people --------------------------------------------------------------------------


SAID = [
    *((kind, "describe") for kind in logical.Node.__subclasses__() if "describe" in vars(kind)),
    *((kind, "describe") for kind in OperatorSpec.__subclasses__() if "describe" in vars(kind)),
    (FileSink, "describe"),
    (GenerateSource, "describe"),
    (Expression, "__repr__"),
    (AggregateCall, "__repr__"),
    (OperatorPlan, "describe"),
    (PhysicalGraph, "explain"),
    (WindowAggregateSpec, "describe"),
    (WindowAggregateSpec, "describe_state"),
]


@pytest.fixture
def other_words(monkeypatch):
    """Return a function that changes every text for people, differently at each call."""
    originals = {(kind, name): vars(kind)[name] for kind, name in SAID}

    def change(word):
        for (kind, name), original in originals.items():
            monkeypatch.setattr(kind, name, lambda *a, _own=original: f"{word} {_own(*a)}")

    return change


def planned(build, n_ranks):
    return plan(build(Path("out"))._graph(), n_ranks)


@pytest.mark.parametrize("build", JOBS)
@pytest.mark.parametrize("n_ranks", [1, 2])
def test_a_text_for_people_is_no_part_of_a_plan(build, n_ranks, other_words):
    before = planned(build, n_ranks)
    fingerprint, text = plan_fingerprint(before), before.explain()

    other_words("Now")

    after = planned(build, n_ranks)
    assert plan_fingerprint(after) == fingerprint
    assert after.explain() != text


@pytest.mark.parametrize(("build", "n_ranks"), [(sliding, 1), (sliding, 2), (chained, 3)])
def test_a_changed_text_for_people_costs_no_checkpoint(build, n_ranks, tmp_path, other_words):
    expected, _ = unfailed(build, tmp_path, 2)
    kill_with_checkpoints(build, tmp_path, 2)

    other_words("Now")
    with start(build, tmp_path, n_ranks) as ranks:
        ranks.finish()

    assert_same_rows(visible(tmp_path / "out"), expected, rtol=1e-12)


def test_texts_that_differ_between_ranks_make_no_other_plan(tmp_path, other_words):
    words = iter("abc")

    def build():
        other_words(next(words))
        return sliding(tmp_path / "out")

    run_ranks(3, build)


def test_plans_that_look_alike_but_differ_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(Expression, "__repr__", lambda self: "an expression")
    limits = iter([1, 2])

    def build():
        job = hs.Job("limits")
        generated(job).filter(col("n") > next(limits)).write_parquet(tmp_path / "out")
        return job

    with pytest.raises(PlanError, match=r'has .*"int64",1.* rank 1 has .*"int64",2'):
        run_ranks(2, build)


def test_of_plans_that_differ_people_see_what_they_wrote(tmp_path):
    limits = iter([1, 2])

    def build():
        job = hs.Job("limits")
        generated(job).filter(col("n") > next(limits)).write_parquet(tmp_path / "out")
        return job

    with pytest.raises(PlanError, match=r"filter col\('n'\) > 1.* rank 1 has .*> 2"):
        run_ranks(2, build)
