import pandas as pd
import pyarrow as pa
import pytest

from hpcstream.connectors.in_process.batches import BatchesSource
from hpcstream.errors import ConnectorError, PlanError
from tests.unit.connectors.source_contract import SourceContract, read_all, sample_table


class TestListOfBatches(SourceContract):
    @pytest.fixture
    def source(self):
        batches = sample_table().to_batches(max_chunksize=130)
        return BatchesSource(batches, event_time="time", unit="ms")

    def test_each_batch_is_a_split_with_bounds(self, source):
        splits = source.list_splits()
        times = sample_table()["time"].to_pylist()
        assert [split.n_rows for split in splits] == [130] * 7 + [90]
        assert (splits[1].first_time, splits[1].last_time) == (
            min(times[130:260]),
            max(times[130:260]),
        )


class TestTable(SourceContract):
    @pytest.fixture
    def source(self, monkeypatch):
        monkeypatch.setattr("hpcstream.connectors.in_process.batches.TABLE_BATCH_ROWS", 256)
        return BatchesSource(sample_table(), event_time="time", unit="ms")


class TestFunctionThatGivesAGenerator(SourceContract):
    @pytest.fixture
    def source(self):
        return BatchesSource(lambda: iter(sample_table().to_batches(max_chunksize=90)))

    def test_it_is_one_split_to_be_read_in_order(self, source):
        (split,) = source.list_splits()
        assert split.n_rows is None


def test_a_data_frame_is_taken_without_its_index():
    source = BatchesSource(pd.DataFrame({"a": [1, 2]}, index=[7, 8]))
    assert read_all(source) == [{"a": 1}, {"a": 2}]


def test_a_generator_is_read_lazily_and_once():
    made = []

    def batches():
        for i in range(100):
            made.append(i)
            yield pa.record_batch({"a": [i, i]})

    source = BatchesSource(batches())
    assert made == [0], "the first batch says the schema"
    reader = source.open(source.list_splits()[0])
    assert reader.read(4).batch["a"].to_pylist() == [0, 0, 1, 1]
    assert made == [0, 1]
    with pytest.raises(ConnectorError, match="has already been read; give the function"):
        source.open(source.list_splits()[0]).read(1)


def test_a_single_batch_and_a_list_of_tables_are_taken():
    batch = pa.record_batch({"a": [1]})
    assert read_all(BatchesSource(batch)) == [{"a": 1}]
    tables = [pa.table({"a": [1, 2]}), pa.table({"a": [3]})]
    assert read_all(BatchesSource(tables)) == [{"a": 1}, {"a": 2}, {"a": 3}]


def test_no_batches_need_a_schema():
    with pytest.raises(ValueError, match="give schema="):
        BatchesSource([])
    with pytest.raises(ValueError, match="give schema="):
        BatchesSource(iter([]))
    assert read_all(BatchesSource([], schema=pa.schema({"a": pa.int64()}))) == []


def test_batches_without_rows_are_no_splits():
    assert BatchesSource(sample_table(0)).list_splits() == []
    empty = pa.record_batch({"a": pa.array([], pa.int64())})
    splits = BatchesSource([empty, pa.record_batch({"a": [1]}), empty]).list_splits()
    assert [split.id for split in splits] == ["batch-1"]


def test_a_batch_of_another_schema_is_named_at_once_in_a_list_and_when_met_in_a_generator():
    batches = [pa.record_batch({"a": [1]}), pa.record_batch({"a": ["x"]})]
    with pytest.raises(
        ConnectorError, match="batch 1 differs from the schema: column 'a' is string"
    ):
        BatchesSource(batches)
    source = BatchesSource(iter(batches))
    with pytest.raises(ConnectorError, match="batch 1 differs"):
        read_all(source)


@pytest.mark.parametrize("wrong", [[{"a": 1}], 5, lambda: 5])
def test_what_is_no_batches_is_refused(wrong):
    with pytest.raises(TypeError, match="from_batches"):
        BatchesSource(wrong)


def test_a_wrong_event_time_is_named():
    with pytest.raises(PlanError, match="no column 'tme'"):
        BatchesSource(sample_table(), event_time="tme")


def test_batches_per_rank_say_so():
    source = BatchesSource(sample_table(), per_rank=True)
    assert source.per_rank
    assert "each rank" in source.describe()
    assert source.project(["key"]).per_rank


class Frame:
    """What Polars and DuckDB give: nothing but an Arrow stream."""

    def __init__(self, table):
        self._table = table

    def __arrow_c_stream__(self, requested_schema=None):
        return self._table.__arrow_c_stream__(requested_schema)


def test_whatever_hands_out_an_arrow_stream_is_taken():
    table = pa.table({"x": [1, 2, 3]})

    assert read_all(BatchesSource(Frame(table))) == table.to_pylist()


def test_views_are_read_as_types_that_arrow_can_filter():
    texts = pa.array(["a", None, "b" * 20])
    views = pa.table(
        {
            "s": texts.cast(pa.string_view()),
            "b": texts.cast(pa.binary()).cast(pa.binary_view()),
            "d": pa.DictionaryArray.from_arrays([0, None, 1], pa.array(["a", "b" * 20])),
        }
    )
    of_views = pa.DictionaryArray.from_arrays(
        [0, None, 1], texts.drop_null().cast(pa.string_view())
    )

    source = BatchesSource(views.set_column(2, "d", of_views))

    assert source.schema.types[:2] == [pa.large_string(), pa.large_binary()]
    assert source.schema.field("d").type.value_type == pa.large_string()
    assert read_all(source) == views.to_pylist()


def test_tables_without_rows_tell_their_columns():
    empty = pa.table({"x": pa.array([], pa.int64())})

    assert BatchesSource([empty, empty]).schema == empty.schema
    assert BatchesSource([], schema=empty.schema).schema == empty.schema
    assert BatchesSource([pa.table({"x": []}), pa.table({"x": [1]})]).schema == empty.schema
    with pytest.raises(ValueError, match=r"the columns are not known; give schema=, or a table"):
        BatchesSource([])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"x": [1]}, r"pa\.table\(columns\)"),
        ([{"x": 1}], r"item 0: .*pa\.Table\.from_pylist"),
        ("rows.csv", r"job\.read_parquet\(path\)"),
        (["rows.csv"], r"item 0: .*job\.read_parquet\(path\)"),
        (3, "got int$"),
    ],
    ids=range(5),
)
def test_what_is_no_batch_is_answered_with_how_one_is_made(given, said):
    with pytest.raises(TypeError, match=f"from_batches: .*{said}"):
        BatchesSource(given)


def test_batches_are_counted_in_words():
    one = pa.record_batch({"x": [1]})

    assert BatchesSource([one]).describe() == "from_batches(1 batch)"
    assert BatchesSource([one, one]).describe() == "from_batches(2 batches)"
