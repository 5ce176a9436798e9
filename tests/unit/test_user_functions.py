import datetime as dt
import itertools

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcstream.columns.event_time import ORDER_COLUMN, PLACE_COLUMN, TIME_COLUMN
from hpcstream.errors import ConnectorError, PlanError
from hpcstream.operators.function_rows import FunctionTime
from hpcstream.operators.user_functions import FlatMap, MapBatches

US = pa.timestamp("us")
VISIBLE = pa.schema([("n", pa.int64()), ("t", US)])
SCHEMA = VISIBLE.append(pa.field(TIME_COLUMN, pa.int64())).append(
    pa.field(ORDER_COLUMN, pa.int64())
)


def stream(*numbers):
    times = [10 * n for n in numbers]
    arrays = [pa.array(numbers, pa.int64()), pa.array(times, US), times, list(range(len(numbers)))]
    return pa.record_batch(
        [pa.array(a, f.type) for a, f in zip(arrays, SCHEMA, strict=True)], SCHEMA
    )


def run(operator, *batches):
    schema = operator.output_schema(SCHEMA)
    out = []
    for batch in batches:
        out += operator.process_batch(batch)
        operator.restore(operator.snapshot())
        assert list(operator.process_watermark(99)) == []
    for batch in out:
        batch.validate(full=True)
        assert batch.schema.equals(schema)
    return pa.Table.from_batches(out, schema)


def later(batch):
    moved = pc.add(batch["t"], pa.scalar(dt.timedelta(microseconds=1)))
    return batch.set_column(1, "t", moved)


# map_batches


def test_the_function_sees_the_users_columns_only():
    seen = []

    run(MapBatches(lambda batch: seen.append(batch.schema.names), VISIBLE), stream(1))

    assert seen == [["n", "t"]]


def test_event_time_is_read_again_from_its_column():
    out = run(MapBatches(later, None, FunctionTime("t", "us")), stream(1, 2))

    assert out.column_names == ["n", "t", TIME_COLUMN]
    assert out[TIME_COLUMN].to_pylist() == [11, 21]


def test_a_function_of_batches_that_gives_the_column_up_gives_event_time_up():
    out = run(MapBatches(lambda batch: batch, None, FunctionTime("other", "us")), stream(1))

    assert out.column_names == ["n", "t"]


def test_int64_event_time_needs_no_timestamp():
    out = run(
        MapBatches(lambda batch: batch.select(["n"]), None, FunctionTime("n", "ms")), stream(5)
    )

    assert out[TIME_COLUMN].to_pylist() == [5]


def test_event_time_in_another_unit_is_refused():
    schema = pa.schema([("t", pa.timestamp("ms"))])

    with pytest.raises(PlanError, match="'t' in ms, but the stream counts event time in us"):
        MapBatches(lambda batch: batch, schema, FunctionTime("t", "us")).output_schema(SCHEMA)


def test_event_time_made_null_is_refused_with_its_row():
    operator = MapBatches(
        lambda b: b.set_column(1, "t", pa.array([None] * len(b), US)),
        None,
        FunctionTime("t", "us"),
    )

    with pytest.raises(ConnectorError, match=r"'t' is null in 2 of 2 rows.*row 0, 1"):
        run(operator, stream(1, 2))


@pytest.mark.parametrize(
    "function",
    [
        lambda b: b,
        lambda b: pa.Table.from_batches([b]),
        lambda b: [b.slice(0, 1), b.slice(1)],
        lambda b: (part for part in (b.slice(0, 1), None, [b.slice(1)])),
        lambda b: [pa.Table.from_batches([b.slice(0, 2), b.slice(2)])],
    ],
    ids=["batch", "table", "list", "generator", "tables"],
)
def test_a_function_may_return_batches_in_any_form(function):
    out = run(MapBatches(function, VISIBLE), stream(1, 2, 3), stream(4))

    assert out["n"].to_pylist() == [1, 2, 3, 4]


def test_results_are_asked_for_one_by_one():
    made = []

    def endless(batch):
        for number in itertools.count():
            made.append(number)
            yield batch

    emitted = MapBatches(endless, VISIBLE).process_batch(stream(1))
    next(emitted)
    next(emitted)

    assert made == [0, 1]


def test_none_and_empty_batches_are_no_output():
    assert run(MapBatches(lambda b: None, VISIBLE), stream(1)).num_rows == 0
    assert list(MapBatches(lambda b: b.slice(0, 0), VISIBLE).process_batch(stream(1))) == []


def test_columns_in_another_order_are_put_right():
    out = run(MapBatches(lambda b: b.select(["t", "n"]), VISIBLE), stream(1))

    assert out.column_names == ["n", "t"]


def test_other_columns_than_declared_are_named():
    declared = pa.schema([("n", pa.int32()), ("gone", pa.string())])

    with pytest.raises(TypeError) as error:
        run(MapBatches(lambda b: b, declared), stream(1))

    message = str(error.value)
    assert "'gone' (string) is missing" in message
    assert "'t' (timestamp[us]) is not declared" in message
    assert "'n' is int64, declared as int32" in message


def test_the_schema_is_found_with_a_batch_of_no_rows():
    def doubled(batch):
        return pa.table({"twice": pc.multiply(batch["n"], 2)})

    assert MapBatches(doubled).output_schema(SCHEMA) == pa.schema([("twice", pa.int64())])


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda b: None, "returned nothing for a batch of 0 rows"),
        (lambda b: b["n"][0].as_py(), "raised IndexError"),
        (lambda b: 3, "raised TypeError: .* got int"),
    ],
    ids=["nothing", "raises", "number"],
)
def test_a_function_that_cannot_be_asked_for_its_schema_is_refused(function, message):
    with pytest.raises(PlanError, match=message) as error:
        MapBatches(function).output_schema(SCHEMA)

    assert "schema=pa.schema" in str(error.value)


def test_a_wrong_result_and_a_reserved_name_are_refused():
    with pytest.raises(TypeError, match=r"must return a pyarrow RecordBatch or Table.*got dict"):
        run(MapBatches(lambda b: {"n": [1]}, VISIBLE), stream(1))
    with pytest.raises(PlanError, match="is reserved"):
        MapBatches(lambda b: b, pa.schema([(TIME_COLUMN, pa.int64())])).output_schema(SCHEMA)


def test_a_data_frame_is_refused_with_how_to_make_a_batch_of_it():
    pd = pytest.importorskip("pandas")
    pl = pytest.importorskip("polars")
    pandas = r"got pandas.DataFrame; pa.Table.from_pandas\(frame, preserve_index=False\)"

    with pytest.raises(PlanError, match=pandas):
        MapBatches(lambda b: pd.DataFrame({"n": [1]})).output_schema(SCHEMA)
    with pytest.raises(TypeError, match=r"got polars.DataFrame; its to_arrow\(\) makes a table"):
        run(MapBatches(lambda b: pl.DataFrame({"n": [1]}), VISIBLE), stream(1))
    with pytest.raises(TypeError, match=r"got dict; pa.record_batch\(columns\)"):
        run(MapBatches(lambda b: {"n": [1]}, VISIBLE), stream(1))


class Oops(Exception):
    """An error of the user's own."""


def fail(_):
    raise Oops


@pytest.mark.parametrize(
    "operator", [MapBatches(fail, VISIBLE), FlatMap(fail)], ids=["map", "flat"]
)
def test_the_users_exception_keeps_its_type(operator):
    with pytest.raises(Oops):
        run(operator, stream(1))


# flat_map


@settings(max_examples=25)
@given(counts=st.lists(st.integers(0, 3), max_size=30), cut=st.integers(0, 30))
def test_each_row_becomes_any_number_of_rows_in_order(counts, cut):
    schema = pa.schema([("n", pa.int64()), ("copy", pa.int8())])

    def copies(row):
        return ({"n": row["n"], "copy": i} for i in range(row["n"]))

    whole = stream(*counts)
    out = run(FlatMap(copies, schema), whole.slice(0, cut), whole.slice(cut))

    found = out.select(["n", "copy"]).to_pylist()
    assert found == [{"n": n, "copy": i} for n in counts for i in range(n)]


def test_a_row_is_a_dict_of_the_users_columns():
    rows = []

    run(FlatMap(rows.append), stream(1))

    assert rows == [{"n": 1, "t": dt.datetime(1970, 1, 1, 0, 0, 0, 10)}]


def test_one_dict_is_one_row_and_a_missing_column_is_null():
    out = run(FlatMap(lambda row: {"t": row["t"]}, None, FunctionTime("t", "us")), stream(1, 2))

    assert out["n"].to_pylist() == [None, None]
    assert out[TIME_COLUMN].to_pylist() == [10, 20]


def test_many_rows_come_in_batches_of_bounded_size_step_by_step():
    made = []

    def many(row):
        for number in range(10_000):
            made.append(number)
            yield row

    emitted = FlatMap(many).process_batch(stream(1))

    assert next(emitted).num_rows < 10_000
    assert len(made) < 10_000
    assert sum(batch.num_rows for batch in emitted) + 4096 == 10_000


@pytest.mark.parametrize("counts", [[2, 0, 5000, 1], [4096, 4096, 1], [1] * 4097, [9000]])
def test_rows_of_a_row_are_numbered_over_the_batches_they_come_in(counts):
    def copies(row):
        return [{"n": row["n"]}] * counts[row["n"]]

    whole = stream(*range(len(counts)))
    out = run(FlatMap(copies, pa.schema([("n", pa.int64())]), FunctionTime("t", "us")), whole)

    parents = [n for n, count in enumerate(counts) for _ in range(count)]
    assert out[TIME_COLUMN].to_pylist() == [10 * n for n in parents]  # those of the rows given
    assert out[ORDER_COLUMN].to_pylist() == parents
    assert out[PLACE_COLUMN].to_pylist() == [i for count in counts for i in range(count)]


def test_wrong_rows_are_refused():
    with pytest.raises(ValueError, match="a row with 'm', which is not in its schema"):
        run(FlatMap(lambda row: [{"m": 1}]), stream(1))
    with pytest.raises(TypeError, match=r"must return an iterable of dicts.*got int"):
        run(FlatMap(lambda row: 3), stream(1))
    with pytest.raises(TypeError, match="returned a tuple for a row"):
        run(FlatMap(lambda row: [(1, 2)]), stream(1))


def test_descriptions_name_the_function():
    assert MapBatches(later).describe() == "map_batches(later)"
    assert FlatMap(Oops).describe() == "flat_map(Oops)"


# -- types found by a call without rows ------------------------------------------------


def returning(**columns):
    """A function whose columns have the types of a data frame without rows if it has none."""

    def function(batch):
        empty = {"label": pa.array([], pa.float64()), "n": pa.array([], pa.int64())}
        filled = {"n": pa.array([1] * batch.num_rows)} | columns
        return pa.table(filled if batch.num_rows else {name: empty[name] for name in filled})

    return function


def test_types_found_without_a_row_say_so_and_what_to_write():
    function = returning(label=pa.array(["late"], pa.large_string()))

    with pytest.raises(TypeError) as error:
        run(MapBatches(function), stream(1))

    assert "returned other columns than inferred from a call with 0 rows" in str(error.value)
    assert "'label' is large_string, inferred as double; give map_batches(..., " in str(error.value)
    assert "schema=pa.schema([('n', 'int64'), ('label', 'large_string')])" in str(error.value)
    assert pa.schema([("n", "int64"), ("label", "large_string")]).field("label").type


NUMBERS = [pa.int8(), pa.int32(), pa.int64(), pa.uint16(), pa.float32(), pa.float64()]


@given(st.sampled_from(NUMBERS), st.lists(st.integers(0, 100) | st.none(), min_size=1, max_size=5))
def test_numbers_are_taken_in_the_type_that_was_inferred_where_nothing_is_lost(data_type, given_):
    function = returning(label=pa.array(given_, data_type), n=pa.array(given_, data_type))

    out = run(MapBatches(function), stream(*range(len(given_))))

    assert out.schema == pa.schema([("n", pa.int64()), ("label", pa.float64())])
    assert out["n"].to_pylist() == given_
    assert out["label"].to_pylist() == given_


@pytest.mark.parametrize(
    ("column", "inferred"),
    [
        (pa.array([1.5]), pa.int64()),
        (pa.array(["1"]), pa.int64()),
        (pa.array([2**62 + 1]), pa.float64()),
        (pa.array([True]), pa.int64()),
        (pa.array([1]), pa.string()),
    ],
    ids=["fraction", "text", "too large", "flag", "number"],
)
def test_values_that_would_change_are_refused(column, inferred):
    def function(batch):
        return pa.table({"x": column if batch.num_rows else pa.array([], inferred)})

    with pytest.raises(TypeError, match="inferred as"):
        run(MapBatches(function), stream(1))


def test_a_batch_of_nulls_alone_has_any_type():
    declared = pa.schema([("x", pa.string())])

    out = run(MapBatches(lambda b: pa.table({"x": [None]}), declared), stream(1))

    assert out["x"].to_pylist() == [None]
    assert out.schema == declared


def test_declared_types_are_not_changed():
    declared = pa.schema([("n", pa.float64())])

    with pytest.raises(TypeError, match="other columns than declared: 'n' is int64, declared as d"):
        run(MapBatches(lambda b: pa.table({"n": [1]}), declared), stream(1))


def test_a_type_that_no_row_tells_is_refused_when_the_graph_is_built():
    pd = pytest.importorskip("pandas")

    def labels(batch):
        frame = pd.DataFrame({"label": pd.Series(["x"] * batch.num_rows, dtype=object)})
        return pa.RecordBatch.from_pandas(frame, preserve_index=False)

    with pytest.raises(PlanError, match=r"type of 'label' cannot be inferred from a call with 0"):
        MapBatches(labels).output_schema(SCHEMA)


def test_a_function_that_returns_nothing_is_asked_for_its_return():
    with pytest.raises(PlanError, match=r"for a batch of 0 rows; is a return missing\?; give"):
        MapBatches(lambda b: None).output_schema(SCHEMA)
