import pyarrow as pa
import pyarrow.compute as pc
import pytest

from hpcstream.connectors.scan import (
    Scan,
    empty_batch,
    first_difference,
    matching_rows,
    one_batch,
    plain_schema,
    referenced_columns,
    relabel,
)
from hpcstream.errors import ConnectorError, PlanError

BATCH = pa.record_batch(
    {
        "a": pa.array([1, None, 3, 4]),
        "a b": ["x", "y", None, "x"],
        "s": pa.array([{"a": 1}, {"a": 2}, None, {"a": 4}]),
        "a.b": [1.0, 2.0, 3.0, 4.0],
    }
)


@pytest.mark.parametrize(
    ("predicate", "columns"),
    [
        (pc.field("a") > 1, ["a"]),
        (pc.field("a b") == "a", ["a b"]),
        ((pc.field("a.b") > 1) | (pc.field("a") > 1), ["a", "a.b"]),
        (pc.field("s", "a") > 1, ["s"]),
        (pc.field("a").is_null(), ["a"]),
        (pc.field("a b").isin(["s", "a.b"]), ["a b"]),
        (pc.scalar(True), []),
    ],
    ids=str,
)
def test_the_columns_that_a_predicate_reads_are_found(predicate, columns):
    assert referenced_columns(predicate, BATCH.schema) == columns


@pytest.mark.parametrize(
    "predicate", [pc.field("z") > 1, pc.field("a b") > 1, pc.field("a") + 1], ids=str
)
def test_a_predicate_that_does_not_fit_is_a_plan_error(predicate):
    with pytest.raises(PlanError, match="does not fit the source's columns"):
        Scan.of(BATCH.schema).filter(predicate)


def test_rows_for_which_a_predicate_is_null_do_not_match():
    kept = matching_rows(BATCH, pc.field("a") < 4)
    assert kept["a"].to_pylist() == [1, 3]
    assert matching_rows(BATCH, ~(pc.field("a") < 4))["a"].to_pylist() == [4]


def test_rows_match_in_their_order_in_large_batches():
    batch = pa.record_batch({"i": pa.array(range(200_000))})
    kept = matching_rows(batch, (pc.field("i") < 70_000) | (pc.field("i") > 150_000))
    assert kept["i"].to_pylist() == [*range(70_000), *range(150_001, 200_000)]


@pytest.mark.parametrize(("constant", "n_rows"), [(True, 4), (False, 0), (None, 0)])
def test_a_constant_matches_all_or_nothing(constant, n_rows):
    assert matching_rows(BATCH, pc.scalar(pa.scalar(constant, pa.bool_()))).num_rows == n_rows


def test_a_batch_without_rows_has_no_matches():
    assert matching_rows(BATCH.slice(0, 0), pc.field("a") > 1).num_rows == 0


def test_columns_only_of_the_predicate_are_read_but_not_delivered():
    scan = Scan.of(BATCH.schema).filter(pc.field("a") > 1).project(["a b"])
    assert scan.read_columns == ["a b", "a"]
    read = relabel(BATCH.select(scan.read_columns), scan.read_schema)
    assert scan.apply(read).to_pylist() == [{"a b": None}, {"a b": "x"}]
    assert scan.describe() == "columns=[a b], filter=(a > 1)"


def test_what_is_read_whole_needs_no_words():
    assert Scan.of(BATCH.schema).describe() == ""


def test_differences_of_schemas_are_said_in_words():
    a = pa.schema({"x": pa.int64(), "y": pa.string()})
    assert first_difference(a, pa.schema({"y": pa.string(), "x": pa.int64()})) is None
    assert first_difference(a, pa.schema({"x": pa.int32()})) == "column 'x' is int32, not int64"
    assert first_difference(a, pa.schema({"x": pa.int64()})) == "column 'y' (string) is missing"


def test_names_that_come_twice_or_are_reserved_are_refused():
    twice = pa.schema([("x", pa.int64()), ("x", pa.int64())])
    with pytest.raises(ConnectorError, match="f: 2 columns are named 'x'"):
        plain_schema(twice, "f")
    with pytest.raises(ConnectorError, match="'__row_order' is reserved"):
        plain_schema(pa.schema({"__row_order": pa.int64()}), "f")


def test_tables_become_one_batch():
    table = pa.table({"a": pa.chunked_array([[1], [2, 3]])})
    assert one_batch(table)["a"].to_pylist() == [1, 2, 3]
    assert one_batch(table.slice(0, 0)).num_rows == 0
    assert one_batch(table.schema.empty_table()).schema == table.schema
    assert empty_batch(table.schema).num_rows == 0
