"""Calls with too many, too few or unknown arguments: what is said of them, and of none else."""

from __future__ import annotations

import inspect
import re
from types import FunctionType

import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream import calls, col
from hpcstream.api.file_reading import FileReading
from hpcstream.api.file_writing import FileWriting
from hpcstream.api.keyed.transforms import KeyedTransforms
from hpcstream.api.row_transforms import RowTransforms
from hpcstream.expressions.aggregating import Aggregating
from hpcstream.expressions.expression import When
from hpcstream.expressions.namespaces import StringFunctions, TimeFunctions
from hpcstream.expressions.ordering import Ordering

USED = [
    *(hs.Job, hs.Stream, hs.KeyedStream, hs.WindowedStream, hs.Collected, hs.Expression),
    *(hs.AggregateCall, When, StringFunctions, TimeFunctions),
    *(FileReading, FileWriting, RowTransforms, KeyedTransforms, Aggregating, Ordering),
]
METHODS = [
    (owner, name)
    for owner in USED
    for name, value in vars(owner).items()
    if isinstance(value, FunctionType) and not name.startswith("_")
]
FUNCTIONS = [hs.col, hs.lit, hs.when, hs.count, hs.tumbling, hs.sliding]


@pytest.fixture
def stream():
    return hs.Job("calls").from_batches(
        pa.table({"x": [1], "t": [1]}), event_time="t", event_time_unit="s"
    )


def takes_any_number(function):
    return any(
        one.kind is inspect.Parameter.VAR_POSITIONAL
        for one in inspect.signature(function).parameters.values()
    )


def test_every_method_says_how_it_is_called():
    counted = [vars(o)[name] for o, name in METHODS if not takes_any_number(vars(o)[name])]
    for method in counted:
        with pytest.raises(TypeError) as raised:
            method(None, *range(40))
        said = rf"{method.__name__}\([^()]*\): too many positional arguments(; write .*)?"
        assert re.fullmatch(said, str(raised.value))
    assert len(counted) > 90


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda one: one.__name__)
def test_every_function_says_how_it_is_called(function):
    with pytest.raises(TypeError, match=r"^\w+\(.*\): too many positional arguments; write "):
        function(*range(40))


def test_every_example_is_of_something_that_there_is():
    known = {"Job", *(name for _, name in METHODS), *(one.__name__ for one in FUNCTIONS)}
    assert calls._EXAMPLES.keys() <= known


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda s: s.filter(col("x") > 0, col("x") < 5),
            "filter(predicate): too many positional arguments; write "
            "filter((col('a') > 0) & (col('b') < 5))",
        ),
        (lambda s: s.filter([col("x") > 0]), "takes one expression; write filter((col('a') > 0)"),
        (lambda s: s.filter(), "filter(predicate): missing a required argument: 'predicate'; wri"),
        (lambda s: s.rename("x", "y"), "rename(names=None): too many positional"),
        (lambda s: s.on(1), "on(*, ranks): too many positional arguments; write on(ranks=[0, 1])"),
        (lambda s: s.key_by("x").window(), "write window(hs.tumbling('10s'))"),
        (
            lambda s: s.collect(everywhre=True),
            "argument 'everywhre'; did you mean 'everywhere'?",
        ),
        (lambda s: s.write_csv(), "write_csv(path, mode='overwrite', ...): missing a required"),
        (lambda s: s._job.run("checkpoints"), "run(...): too many positional arguments; write job"),
        (lambda s: s._job.read_csv("a", "b"), "read_csv(paths, ...): too many"),
        (lambda s: col("x").is_in(1, 2), "write col('x').is_in([1, 2, 3])"),
        (lambda s: hs.count("x"), "write hs.count() for rows, col('x').count() for values"),
        (lambda s: hs.sliding("1s"), "missing a required argument: 'slide'; write hs.sliding("),
        (lambda s: hs.Job(), "Job(name): missing a required argument: 'name'; write hs.Job('n"),
    ],
)
def test_a_wrong_call_is_answered_with_a_right_one(stream, call, said):
    with pytest.raises(TypeError) as raised:
        call(stream)
    assert said in str(raised.value)


def test_a_type_error_within_a_call_stays_as_it_is():
    @calls.answers_wrong_call
    def outer(value):
        return inner(value, value)

    def inner(value):
        return value

    with pytest.raises(TypeError, match=r"inner\(\) takes 1 positional argument but 2 were given"):
        outer(1)


def test_what_answers_wrong_calls_is_the_same_to_look_at():
    assert str(inspect.signature(hs.Stream.filter)) == "(self, predicate: 'Expression') -> 'Self'"
    assert hs.Stream.filter.__doc__.startswith("Keep the rows")
