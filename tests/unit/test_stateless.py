import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcstream.columns.event_time import ORDER_COLUMN, TIME_COLUMN
from hpcstream.errors import PlanError
from hpcstream.expressions.expression import col, lit
from hpcstream.operators.stateless import Filter, Project

BATCH = pa.record_batch(
    {
        "a": [1, 2, None, 4],
        "s": ["x", None, "y", "x"],
        TIME_COLUMN: [10, 20, 30, 40],
        ORDER_COLUMN: [0, 1, 2, 3],
    }
)
SCHEMA = BATCH.schema
HIDDEN = [TIME_COLUMN, ORDER_COLUMN]
OPERATORS = [
    Filter(col("a") > 1),
    Project((("b", col("a") + 1), ("s", col("s")))),
]


def run(operator, *batches):
    """Return the rows; every batch goes to a new instance restored from the last one's state."""
    schema = operator.output_schema(batches[0].schema)
    out = []
    for batch in batches:
        out += operator.process_batch(batch)
        operator.restore(operator.snapshot())
        assert list(operator.process_watermark(99)) == []
    for batch in out:
        batch.validate(full=True)
        assert batch.schema.equals(schema)
    return pa.Table.from_batches(out, schema)


@pytest.mark.parametrize("operator", OPERATORS, ids=lambda operator: type(operator).__name__)
def test_the_output_has_the_schema_that_was_promised_and_the_hidden_columns_last(operator):
    out = run(operator, BATCH, BATCH.slice(1, 2), BATCH.slice(0, 0))

    assert out.column_names[-2:] == HIDDEN
    assert dict(operator.snapshot()) == {}


@settings(max_examples=30)
@given(
    rows=st.lists(st.tuples(st.none() | st.integers(-5, 5), st.none() | st.booleans())),
    bound=st.integers(-5, 5),
)
def test_filter_keeps_the_rows_that_polars_keeps(rows, bound):
    schema = pa.schema([("n", pa.int64()), ("f", pa.bool_())])
    batch = pa.RecordBatch.from_pylist([{"n": n, "f": f} for n, f in rows], schema)
    expected = pl.from_arrow(pa.Table.from_batches([batch])).filter(
        (pl.col("n") > bound) | pl.col("f")
    )

    out = run(Filter((col("n") > bound) | col("f")), batch)

    assert out.to_pylist() == expected.to_dicts()


def test_filter_hands_on_the_very_batch_when_all_rows_stay():
    assert list(Filter(col("s").is_null() | lit(True)).process_batch(BATCH)) == [BATCH]
    assert next(iter(Filter(lit(True)).process_batch(BATCH))) is BATCH


def test_filter_emits_nothing_when_no_row_stays():
    for never in (col("a") > 99, lit(False), lit(None)):
        assert list(Filter(never).process_batch(BATCH)) == []
    assert list(Filter(col("a") > 1).process_batch(BATCH.slice(0, 0))) == []


def test_filter_needs_a_condition():
    with pytest.raises(PlanError, match=r"filter\(col\('a'\) \+ 1\) needs a condition.*int64"):
        Filter(col("a") + 1).output_schema(SCHEMA)


def test_project_computes_columns_in_the_order_given():
    out = run(Project((("t", col("s")), ("b", col("a") + 1), ("k", lit(7)))), BATCH)

    assert out.column_names == ["t", "b", "k", *HIDDEN]
    assert out.slice(0, 1).to_pylist() == [
        {"t": "x", "b": 2, "k": 7, TIME_COLUMN: 10, ORDER_COLUMN: 0}
    ]


def test_project_keeps_nullability_and_metadata_of_a_column_and_copies_nothing():
    schema = pa.schema([pa.field("a", pa.int64(), nullable=False, metadata={"unit": "m"})])
    batch = pa.record_batch([np.arange(3)], schema=schema)

    (out,) = Project((("b", col("a")),)).process_batch(batch)

    assert out.schema.field("b").equals(schema.field("a").with_name("b"), check_metadata=True)
    assert out["b"].buffers()[1].address == batch["a"].buffers()[1].address


@pytest.mark.parametrize(
    ("operator", "message"),
    [
        (Project((("a", col("a")), ("a", col("s")))), "more than one output column named 'a'"),
        (Project(((TIME_COLUMN, col("a")),)), "is reserved"),
        (Project((("b", col("c")),)), "no column 'c'"),
        (Project((("b", col("s") + 1),)), "'+' of string and int64"),
    ],
    ids=lambda case: case.describe() if not isinstance(case, str) else "",
)
def test_what_cannot_run_is_refused_in_the_plan(operator, message):
    with pytest.raises(PlanError) as error:
        operator.output_schema(SCHEMA)

    assert message in str(error.value)


def test_the_last_column_cannot_be_dropped():
    schema = pa.schema([("a", pa.int64())])
    with pytest.raises(PlanError, match="leaves no column"):
        Project(()).output_schema(schema)


def test_descriptions_say_what_is_done():
    assert [operator.describe() for operator in OPERATORS] == [
        "filter(col('a') > 1)",
        "select(b=col('a') + 1, s)",
    ]
