"""Hints for names of other systems: each has one, and points to what there is."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import hpcstream as hs
from hpcstream import hints
from hpcstream.expressions.namespaces import StringFunctions, TimeFunctions

OWNERS = {
    "Stream": hs.Stream,
    "KeyedStream": hs.KeyedStream,
    "WindowedStream": hs.WindowedStream,
    "Job": hs.Job,
    "Collected": hs.Collected,
    "Expression": hs.Expression,
    "StringFunctions": StringFunctions,
    "TimeFunctions": TimeFunctions,
    "hpcstream": hs,
}
HINTS = [(owner, name) for owner, names in hints._INSTEAD.items() for name in names]


def test_no_hint_hides_something_that_there_is():
    assert {owner for owner, _ in HINTS} == OWNERS.keys()
    assert [(owner, name) for owner, name in HINTS if name in dir(OWNERS[owner])] == []


def named(text: str) -> list[str]:
    """The names that a hint says something is called."""
    found = re.search(r"it is called (.*)", text)
    return re.findall(r"([\w.]+)", found[1].partition(", ")[0].partition("(")[0]) if found else []


def test_what_something_is_called_here_is_there():
    known = {name for owner in OWNERS.values() for name in dir(owner)}
    wrong = [
        (owner, name, one)
        for owner, name in HINTS
        for one in named(str(hints.missing_attribute(owner, name, ())))
        if not all(part in known | {"stream", "names", "types"} for part in one.split("."))
    ]
    assert wrong == []


@pytest.mark.parametrize("owner", list(OWNERS))
def test_private_names_and_unknown_ones_have_no_hint(owner):
    for name in ("qqqqqqqqq", "__array__", "_repr_png_"):
        assert str(hints.missing_attribute(owner, name, dir(OWNERS[owner]))).endswith(repr(name))


def test_names_of_protocols_are_looked_for_nowhere(monkeypatch):
    monkeypatch.setattr(hints.difflib, "get_close_matches", lambda *_, **__: pytest.fail("looked"))
    stream = hs.Job("j").from_batches([], schema={"a": "int64"})

    stream.with_columns(b=hs.col("a") + 1).select("b").filter(hs.col("b") > 0)

    assert not hasattr(stream, "__array__")


def test_python_adds_no_guess_of_its_own():
    script = "import hpcstream as hs; hs.Job('j').from_batches([], schema={'a': 'int64'}).filtr"

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert done.stderr.lower().count("did you mean") == 1


@pytest.mark.parametrize(
    ("typed", "meant"), [("withColumns", "with_columns"), ("KEYBY", "key_by"), ("filtr", "filter")]
)
def test_capitals_and_underscores_do_not_count(typed, meant):
    assert hints.did_you_mean(typed, dir(hs.Stream)) == f"; did you mean {meant!r}?"


@pytest.mark.parametrize(
    ("get", "said"),
    [
        (lambda s: s.to_pandas, "to_pandas"),
        (lambda s: s.head, "print"),
        (lambda s: s._job.read_kafka, "job.source"),
        (lambda s: s._job.from_pandas, "from_batches"),
        (lambda s: s.key_by("x").sum, "need windows"),
        (lambda s: s.arg_max, "aggregates need windows"),
        (lambda s: s.key_by("x").process, "map_batches"),
        (lambda s: s.with_event_time("x", unit="s").window_all(hs.tumbling("1s")).mean, r"agg\("),
        (lambda s: s.collect().to_pandas, r"\.table\.to_pandas"),
        (lambda s: hs.col("x").avg, r"mean\(\)"),
        (lambda s: hs.col("x").nunique, r"count_distinct\(\)"),
        (lambda s: hs.col("x").str.upcase, r"upper\(\)"),
        (lambda s: hs.col("x").dt.floor, r"truncate\(\)"),
        (lambda s: hs.read_parquet, r"hs\.Job"),
        (lambda s: hs.rank, r"result\.rank"),
    ],
)
def test_names_of_other_systems_are_answered_where_they_are_typed(get, said):
    import pyarrow as pa

    stream = hs.Job("hints").from_batches(pa.table({"x": [1]}))
    with pytest.raises(AttributeError, match=f"has no attribute .*: .*{said}"):
        get(stream)
    assert not hasattr(stream, "__array__")
