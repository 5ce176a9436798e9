"""Expressions that could only be a mistake: constants that nothing equals, texts about them."""

from __future__ import annotations

import datetime as dt
import operator

import numpy as np
import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream import col, lit, when

NAN = float("nan")
NULLS = [None, pa.scalar(None), pa.scalar(None, pa.float64()), np.datetime64("NaT", "us")]
NANS = [NAN, -NAN, np.float64(NAN), np.float32(NAN), np.float16(NAN), pa.scalar(NAN)]
COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]


def pairs(constants):
    """A column and a constant, in either place, plain or by lit()."""
    for one in constants:
        yield from ((col("x"), one), (col("x"), lit(one)), (lit(one), col("x")))


@pytest.mark.parametrize("compare", COMPARISONS)
def test_a_comparison_with_nan_names_is_nan(compare):
    for left, right in pairs(NANS):
        with pytest.raises(ValueError, match=r"^col\('x'\) compared with NaN.*use is_nan\(\)$"):
            compare(left, right)


@pytest.mark.parametrize("compare", COMPARISONS)
def test_a_comparison_with_null_names_is_null(compare):
    for left, right in pairs(NULLS):
        with pytest.raises(TypeError, match=r"^col\('x'\) compared with None.*use is_null\(\)"):
            compare(left, right)


@pytest.mark.parametrize("bounds", [(NAN, 3), (0, NAN)])
def test_nan_is_no_bound(bounds):
    with pytest.raises(ValueError, match=r"compared with NaN"):
        col("x").is_between(*bounds)


@pytest.mark.parametrize("members", [[1.0, NAN], {NAN}, np.array([NAN]), pa.array([1.0, NAN])])
def test_nan_is_in_no_list(members):
    with pytest.raises(ValueError, match=r"is_in: NaN is equal to nothing.*is_nan\(\)"):
        col("x").is_in(members)


def test_rows_of_nan_are_found_as_the_message_says():
    x = [1.0, NAN, None, -NAN]
    job = hs.Job("nan")
    rows = job.from_batches(pa.table({"n": range(4), "x": x}))
    found = rows.filter(col("x").is_nan()).collect()
    others = rows.filter(col("x").is_in([1.0]) | ~col("x").is_nan()).collect()
    job.run(show=False)

    assert found.table["n"].to_pylist() == [1, 3]
    assert others.table["n"].to_pylist() == [0]


UNFORMATTED = [col("x"), col("x") + 1, lit(5), hs.count(), col("x").sum(), when(col("x")).then(1)]


@pytest.mark.parametrize("what", UNFORMATTED, ids=repr)
@pytest.mark.parametrize("spec", ["", ">10", ".2f"])
def test_an_expression_has_no_value_to_format(what, spec):
    with pytest.raises(TypeError, match=r"has no value to format before it sees rows; join"):
        format(what, spec)
    with pytest.raises(TypeError, match=r"has no value to format"):
        f"{what}"


def test_an_expression_can_be_printed_and_shown():
    assert str(col("x") + 1) == f"{col('x') + 1!r}" == "col('x') + 1"


@pytest.mark.parametrize(
    "text",
    ["id-" + str(col("x")), "-".join([str(col("a b") * 2), "b"])],
)
def test_a_text_about_an_expression_is_no_column(text):
    stream = hs.Job("text").from_batches(pa.table({"x": [1]}))
    for use in (
        lambda: stream.with_columns(y=text),
        lambda: col("x") == text,
        lambda: when(col("x") > 0).then(text),
        lambda: col("x").cast("string") + text,
    ):
        with pytest.raises(TypeError, match=r"is a text about an expression, the same for all"):
            use()
    assert lit(text)._node.scalar.as_py() == text


def test_texts_are_joined_as_the_message_says():
    job = hs.Job("text")
    rows = job.from_batches(pa.table({"x": [1, 22], "at": [dt.datetime(2026, 3, 1)] * 2}))
    found = rows.select(
        id="id-" + col("x").cast("string"), day=col("at").dt.strftime("%d.%m.")
    ).collect()
    job.run(show=False)

    assert found.table["id"].to_pylist() == ["id-1", "id-22"]
    assert found.table["day"].to_pylist() == ["01.03.", "01.03."]
