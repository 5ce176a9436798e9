"""An operand that can fail is computed only for the rows that ask for it."""

from __future__ import annotations

import datetime as dt
import operator

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hpcstream as hs
from hpcstream import col, lit, when

BATCH = pa.record_batch(
    {
        "a": [6, 7, None, -9, 2**62],
        "b": [2, 0, 1, None, 4],
        "text": ["1", "x", None, "4", "99999999999999999999"],
        "day": ["2024-02-29", "2023-02-29", None, "soon", "1999-12-31"],
        "is_number": [True, False, None, True, False],
    }
)
a, b, text = col("a"), col("b"), col("text")


def values(expression, batch=BATCH):
    out = expression.evaluate(batch)
    assert out.type == expression.data_type(batch.schema)
    assert len(out) == batch.num_rows
    return out.to_pylist()


GUARDED = [
    (when(b != 0).then(a // b).otherwise(0), [3, 0, None, 0, 2**60]),
    (when(b == 0).then(None).otherwise(a % b), [0, None, None, None, 0]),
    (when(b > 2).then(0).otherwise(a * 3), [18, 21, None, -27, 0]),
    (when(col("is_number")).then(text.cast("int64")).otherwise(-1), [1, -1, -1, 4, -1]),
    (when(b.is_null()).then(1).when(b == 0).then(2).otherwise(8 // b), [4, 2, 8, 1, 2]),
    (when(b > 0).then(when(b > 1).then(a // (b - 1)).otherwise(b)).otherwise(None),
     [6, None, 1, None, 2**62 // 3]),
    ((b != 0) & (a // b > 2), [True, False, None, None, True]),
    ((b == 0) | (a // b > 2), [True, True, None, None, True]),
    (~((b != 0) & (a // b > 2)), [False, True, None, None, False]),
    (b.fill_null(text.cast("int64")), [2, 0, 1, 4, 4]),
    (b.fill_null(7) + when(b == 0).then(1).otherwise(a // b).fill_null(0), [5, 1, 1, 7, 4 + 2**60]),
    (
        when(col("day").str.starts_with("2024")).then(col("day").str.to_datetime("%Y-%m-%d"))
        .otherwise(None).dt.date(),
        [dt.date(2024, 2, 29), None, None, None, None],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("expression", "expected"), GUARDED, ids=repr)
@pytest.mark.parametrize("before", [0, 2], ids=["at once", "after the first failure"])
def test_rows_that_do_not_take_a_branch_cannot_fail_in_it(expression, expected, before):
    for _ in range(before):
        values(expression)

    assert values(expression) == expected
    for start in range(len(BATCH)):
        assert values(expression, BATCH.slice(start, 1)) == expected[start : start + 1]
    assert values(expression, BATCH.slice(0, 0)) == []


def test_rows_that_take_a_branch_fail_in_it():
    for expression in (
        when(b >= 0).then(a // b).otherwise(0),
        (b >= 0) & (a // b > 2),
        a.fill_null(1) // b,
        text.fill_null("y").cast("int64"),
    ):
        for _ in range(2):
            with pytest.raises((ZeroDivisionError, pa.ArrowInvalid)):
                expression.evaluate(BATCH)


def test_what_guards_is_written_first():
    with pytest.raises(ZeroDivisionError):
        ((a // b > 2) & (b != 0)).evaluate(BATCH)


def test_a_constant_that_cannot_be_computed_is_refused_in_the_plan():
    for wrong in (lit(1) // 0, lit("x").cast("int64"), lit(2**62) * 4):
        with pytest.raises(hs.PlanError):
            wrong.data_type(BATCH.schema)


def test_only_what_cannot_fail_is_total():
    total = [b == 0, b.fill_null(0), when(b == 0).then(a).otherwise(b), col("text").str.upper()]
    total += [b.cast("float64", safe=False), b / a, b.is_in([1, 2]), a.cast("string")]
    other = [a // b, a + b, text.cast("int64"), when(b == 0).then(a + 1).otherwise(b), a.abs()]
    other += [b.cast("int8"), b.cast("float64"), b.fill_null(a * 2), (b == 0) & (a + 1 > 0)]

    assert all(expression.is_total(BATCH.schema) for expression in total)
    assert not any(expression.is_total(BATCH.schema) for expression in other)


FILTERS = [
    (b != 0) & (a // b > 2),
    (a % 2 == 0) & (text.cast("int64") > 0),
    when(b == 1).then(text.cast("int64") > 3).otherwise(b == 2),
    (b == 2) | ((b == 1) & (text.cast("int64") == 1)),
]


@pytest.mark.parametrize("condition", FILTERS, ids=repr)
@pytest.mark.parametrize("apart", [False, True], ids=["one filter", "a filter for each condition"])
def test_a_filter_guards_alike_in_the_scan_and_after_it(condition, apart, tmp_path):
    rows = pa.table({"a": [6, 8, 7, 5], "b": [2, 1, 0, 0], "text": ["1", "4", "x", "x"]})
    pq.write_table(rows, tmp_path / "rows.parquet")
    found = []
    for read in (
        lambda job: job.read_parquet(tmp_path / "rows.parquet"),
        lambda job: job.from_batches(rows).map_batches(lambda batch: batch),
    ):
        job = hs.Job("guard")
        stream = read(job)
        for part in condition.conjuncts() if apart else [condition]:
            stream = stream.filter(part)
        kept = stream.collect()
        job.run(show=False)
        found.append(kept.table["a"].to_pylist())

    assert found[0] == found[1] != []


# Random choices against a reading of them row by row

COLUMNS = ("a", "b", "c")


@st.composite
def choices(draw, depth=2):
    """Draw an expression, and what it gives for a row, which is computed lazily."""
    if depth == 0 or draw(st.booleans()):
        name = draw(st.sampled_from(COLUMNS))
        if draw(st.booleans()):
            return col(name), lambda row: row[name]
        other = draw(st.sampled_from(COLUMNS))
        return col(name) // col(other), lambda row: divided(row[name], row[other])
    value, value_of = draw(choices(depth - 1))
    other, other_of = draw(choices(depth - 1))
    if draw(st.integers(0, 3)) == 0:
        return value.fill_null(other), lambda row: first_known(value_of(row), lambda: other_of(row))
    condition, holds = draw(conditions(depth - 1))
    chosen = when(condition).then(value).otherwise(other)
    return chosen, lambda row: value_of(row) if holds(row) else other_of(row)


@st.composite
def conditions(draw, depth):
    """Draw a condition, and whether a row has it: True, False or None."""
    value, value_of = draw(choices(depth))
    limit = draw(st.integers(-1, 1))
    compare = draw(st.sampled_from([operator.eq, operator.ne, operator.lt]))
    one, holds = compare(value, limit), lambda row: null_in(compare, value_of(row), limit)
    if depth == 0 or draw(st.booleans()):
        return one, holds
    other, other_holds = draw(conditions(depth - 1))
    if draw(st.booleans()):
        return one & other, lambda row: decided(holds(row), lambda: other_holds(row), False)
    return one | other, lambda row: decided(holds(row), lambda: other_holds(row), True)


def divided(one, other):
    return None if one is None or other is None else one // other


def first_known(one, other):
    return other() if one is None else one


def null_in(compare, one, other):
    return None if one is None else compare(one, other)


def decided(one, other, deciding):
    """Return ``and`` (False decides) or ``or`` (True does) of SQL."""
    if one is deciding:
        return one
    second = other()
    if second is deciding or one is not None:
        return second
    return None


@settings(max_examples=150)
@given(
    drawn=choices(),
    rows=st.lists(st.tuples(*[st.none() | st.integers(-2, 2)] * 3), max_size=6),
)
def test_random_choices_give_what_reading_them_row_by_row_gives(drawn, rows):
    expression, value_of = drawn
    table = [dict(zip(COLUMNS, row, strict=True)) for row in rows]
    batch = pa.RecordBatch.from_pylist(table, pa.schema([(name, "int64") for name in COLUMNS]))
    try:
        expected = [value_of(row) for row in table]
    except ZeroDivisionError:
        expected = None

    for _ in range(2):
        if expected is None:
            with pytest.raises(ZeroDivisionError):
                expression.evaluate(batch)
        else:
            assert values(expression, batch) == expected
