"""Values of all aggregates against DuckDB, with nulls and NaN, per key and window."""

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from hpcstream.aggregates.named import NamedAggregate, shared_accumulators
from hpcstream.columns.event_time import ORDER_COLUMN, TIME_COLUMN
from hpcstream.operators.windows.assigners.fixed import TumblingWindows
from hpcstream.operators.windows.keyed import WindowAggregate
from hpcstream.operators.windows.spec import WindowAggregateSpec
from hpcstream.state.arrays import HeapAllocator
from hpcstream.testing.harness import run_operator

SQL = {
    "count": "count(x)",
    "sum": "sum(x)",
    "mean": "avg(x)",
    "min": "min(x)",
    "max": "max(x)",
    "var": "var_samp(x)",
    "std": "stddev_samp(x)",
    "first": f"arg_min(x, {ORDER_COLUMN})",
    "last": f"arg_max(x, {ORDER_COLUMN})",
    "count_distinct": "count(distinct x)",
    "median": "quantile_cont(x, 0.5)",
    "quantile": "quantile_cont(x, 0.9)",
}
OF_TEXT = ("count", "min", "max", "first", "last", "count_distinct")


def rows_of(value_type, n_rows=3000):
    random = np.random.default_rng(3)
    values = random.integers(-50, 50, n_rows)
    nulls = random.random(n_rows) < 0.2
    column = pa.array(values, mask=nulls)
    if pa.types.is_string(value_type):
        column = pa.array([f"v{value}" for value in values], mask=nulls)
    times = np.sort(random.integers(-500, 500, n_rows))
    return pa.table(
        {
            "key": pa.array(random.integers(0, 7, n_rows), mask=random.random(n_rows) < 0.1),
            "x": column.cast(value_type),
            TIME_COLUMN: times,
            ORDER_COLUMN: np.arange(n_rows),
        }
    )


@pytest.mark.parametrize(
    "value_type",
    [pa.int64(), pa.int16(), pa.float64(), pa.float32(), pa.decimal128(21, 2), pa.string()],
    ids=str,
)
def test_results_equal_those_of_duckdb(value_type):
    table = rows_of(value_type)
    functions = OF_TEXT if value_type == pa.string() else tuple(SQL)
    if pa.types.is_decimal(value_type):  # DuckDB rounds a decimal's quantile to its scale
        functions = tuple(f for f in functions if f != "quantile")
    spec = WindowAggregateSpec(
        keys=("key",),
        assigner=TumblingWindows(100),
        aggregates=tuple(
            NamedAggregate.of(f, f, "x", **({"q": 0.9} if f == "quantile" else {}))
            for f in functions
        ),
        allowed_lateness=0,
        input_schema=table.schema,
        time_type=pa.timestamp("us"),
    )
    columns = ", ".join(f"{SQL[f]} AS {f}" for f in functions)
    query = (
        f"SELECT key, (floor({TIME_COLUMN} / 100) * 100)::BIGINT AS w, {columns} "
        "FROM rows GROUP BY ALL"
    )
    with duckdb.connect() as connection:
        expected = connection.register("rows", table).sql(query).fetchall()

    events = [*table.to_batches(max_chunksize=257), 1000]
    rows = run_operator(lambda: WindowAggregate(spec, HeapAllocator()), events)

    got = {
        (row["key"], int(np.datetime64(row["window_start"], "us").astype(np.int64))): row
        for row in rows
    }
    assert len(got) == len(expected)
    for key, window, *values in expected:
        row = got[key, window]
        for function, value in zip(functions, values, strict=True):
            if value is None or isinstance(value, str):
                assert row[function] == value, function
            else:
                assert float(row[function]) == pytest.approx(float(value), rel=1e-6), function


def test_aggregates_of_one_column_share_accumulators():
    schema = pa.schema([("x", pa.int64())])
    wanted = [NamedAggregate.of(f, f, "x") for f in ("sum", "mean", "count", "max")]

    words = [w.name for a in shared_accumulators(wanted, schema) for w in a.words]

    assert words == ["nulls(x)", "sum(x)", "carry(x)", "max(x)"]


def test_what_needs_its_values_is_no_word_aggregate():
    schema = pa.schema([("x", pa.string()), ("y", pa.int64())])
    assert NamedAggregate.of("n", "count", "x").accumulators(schema) is not None
    assert NamedAggregate.of("n", "max", "x").accumulators(schema) is None
    assert NamedAggregate.of("n", "median", "y").accumulators(schema) is None
