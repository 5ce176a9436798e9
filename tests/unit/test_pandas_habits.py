"""What users of pandas and Polars write by habit: taken, or refused with what to write here."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream import col
from hpcstream.errors import PlanError


@pytest.fixture
def stream():
    table = pa.table({"at": ["2026-03-01T12:00:00Z"] * 2, "x": [1.5, 2.5], "key": ["a", "b"]})
    return hs.Job("habits").from_batches(table)


def test_a_function_that_goes_by_way_of_a_data_frame_as_it_is_told_keeps_its_texts(stream):
    pytest.importorskip("pandas")

    def louder(batch):
        frame = batch.to_pandas()
        frame["key"] = frame["key"].str.upper()
        frame["size"] = frame["key"] + "!"
        return pa.Table.from_pandas(frame, preserve_index=False)

    with pytest.raises(PlanError, match=r"got pandas\.DataFrame; pa\.Table\.from_pandas\(frame"):
        stream.map_batches(lambda batch: batch.to_pandas())
    rows = stream.map_batches(louder).collect()
    stream._job.run(show=False)

    assert rows.table["key"].to_pylist() == ["A", "B"]
    assert rows.table["size"].to_pylist() == ["A!", "B!"]


def test_a_batch_that_pandas_cannot_make_of_no_rows_is_answered_with_what_can(stream):
    def convert(batch):
        raise TypeError("Cannot convert pyarrow.lib.ChunkedArray to pyarrow.lib.Array")

    with pytest.raises(PlanError, match=r"pa\.Table\.from_pandas\(\) does"):
        stream.map_batches(convert)


@pytest.mark.parametrize(
    ("habit", "said"),
    [
        (lambda s: s.select(["x", "key"]), r"write select\(\*\['x', 'key'\]\)"),
        (lambda s: s.select(("x",)), r"write select\(\*\('x',\)\)"),
        (lambda s: s.select({"y": col("x")}), r"write select\(\*\*\.\.\.\)"),
        (lambda s: s.select(5), r"needs a name, as in select\(name=hs\.lit\(5\)\)"),
        (lambda s: s.with_columns([col("x").abs()]), r"write with_columns\(\*\["),
        (lambda s: s.with_columns("x"), r"as in with_columns\(name=hs\.lit\('x'\)\)"),
        (lambda s: s.with_columns(y=np.arange(2)), r"got values \(numpy\.ndarray\)"),
        (lambda s: s.with_columns(y=pa.array([1, 2])), "belong to no rows of the stream"),
        (lambda s: s.filter(np.array([True, False])), "takes an expression"),
        (lambda s: s.drop(["x"]), r"write drop\(\*\['x'\]\)"),
        (lambda s: s.drop(col("x")), "takes the name of a column"),
        (lambda s: s.rename(str.upper), r"rename\(\{'old': 'new'\}\)"),
        (lambda s: s.rename(columns={"x": "y"}), r"write rename\(\{'x': 'y'\}\)"),
        (lambda s: s.with_event_time(col("at")), "takes the name of a column"),
    ],
    ids=range(14),
)
def test_columns_given_as_elsewhere_are_refused_with_what_to_write(stream, habit, said):
    with pytest.raises(TypeError, match=said):
        habit(stream)


def test_a_series_of_a_data_frame_is_no_column_of_a_stream(stream):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"x": [1.0, 2.0]})

    with pytest.raises(TypeError, match=r"got values \(pandas\.Series\).*join_table"):
        stream.with_columns(y=frame["x"])
    with pytest.raises(TypeError, match=r"got values \(pandas\.Series\)"):
        stream.filter(frame["x"] > 1)


def test_constants_are_columns_as_they_were(stream):
    rows = stream.select(
        "x", whole=5, real=np.float32(0.5), items=[1, 2], when=np.datetime64("2026-03-01", "s")
    ).collect()
    stream._job.run(show=False)

    assert rows.table["whole"].to_pylist() == [5, 5]
    assert rows.table["items"].to_pylist() == [[1, 2], [1, 2]]


def test_keys_and_aggregates_as_lists_and_dicts_are_refused_with_what_to_write(stream):
    keyed = stream.with_columns(at=col("at").str.to_datetime()).with_event_time("at").key_by("key")

    with pytest.raises(PlanError, match=r"write key_by\(\*\['key', 'x'\]\)"):
        stream.key_by(["key", "x"])
    with pytest.raises(PlanError, match=r"^agg\(\{'x': 'sum'\}\): expected an aggregate"):
        keyed.window(hs.tumbling("1s")).agg({"x": "sum"})


@pytest.mark.parametrize(
    ("call", "option", "said"),
    [
        ("read_parquet", "columns", r": only what the job uses is read; \.select\(\)"),
        ("read_parquet", "event_tim", "did you mean 'event_time'"),
        ("read_ipc", "use_columns", r"\.select\(\)"),
        ("read_hdf5", "tables", "did you mean 'table'"),
        ("read_hdf5", "key", "it is called 'table'"),
        ("read_csv", "skiprows", "all lines are read"),
        ("read_csv", "decimal", r"\.str\.replace\(',', '\.'\)"),
        ("read_json", "lines", "one object a line"),
        ("write_csv", "index", "there is no index"),
        ("write_parquet", "partition_cols", "filter"),
    ],
)
def test_options_of_pandas_are_refused_with_what_to_do(stream, call, option, said):
    owner = stream if call.startswith("write") else stream._job
    with pytest.raises(TypeError, match=rf"^{call}\(\): unknown option '{option}'.*{said}.*; see"):
        getattr(owner, call)("nowhere", **{option: 1})


def test_what_is_no_path_is_refused_with_where_it_goes(stream, tmp_path):
    job = stream._job
    (tmp_path / "a.csv").write_text("x\n1\n")

    for given in (3, None, pa.table({"x": [1]}), {"x": [1]}, b"a.csv"):
        with pytest.raises(TypeError, match=r"or a list of these, got .*job\.from_batches\(\)"):
            job.read_csv(given)
    with (tmp_path / "a.csv").open() as file, pytest.raises(TypeError, match="open file; give its"):
        job.read_csv(file)
    assert job.read_csv(iter([tmp_path / "a.csv"])).schema.names == ["x"]
    with pytest.raises(TypeError, match=r"event_time=.*takes the name of a column"):
        job.read_csv(tmp_path / "a.csv", event_time=col("x"))


def test_the_ways_to_event_time_that_are_named_lead_there():
    table = pa.table(
        {
            "iso": ["2026-03-01T12:00:00Z", "2026-03-01T13:00:00.5+01:00"],
            "german": ["01.03.2026 12:00:00", "01.03.2026 12:00:00"],
            "t": [1_772_366_400.0, 1_772_366_400.1234567],
        }
    )
    job = hs.Job("times")
    stream = job.from_batches(table)
    for name, said in (
        ("iso", r"\.str\.to_datetime\(\)"),
        ("german", r"\.str\.to_datetime\('%d\.%m\.%Y %H:%M:%S'\)"),
        ("t", r"\(col\('t'\) \* 1_000_000\)\.round\(\)\.cast\('int64'\) and with unit='us'"),
    ):
        with pytest.raises(PlanError, match=said):
            stream.with_event_time(name)
    made = {
        "iso": (col("iso").str.to_datetime(), None),
        "german": (col("german").str.to_datetime("%d.%m.%Y %H:%M:%S"), None),
        "t": ((col("t") * 1_000_000).round().cast("int64"), "us"),
    }
    counts = [
        stream.with_columns(**{name: how})
        .with_event_time(name, unit=unit)
        .window_all(hs.tumbling("1h"))
        .agg(n=hs.count())
        .collect()
        for name, (how, unit) in made.items()
    ]
    job.run(show=False)

    assert [one.table["n"].to_pylist() for one in counts] == [[2], [2], [2]]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("sort_values", "has no end, so it cannot be sorted"),
        ("iloc", "no positions"),
        ("shape", "known after the run"),
        ("value_counts", r"agg\(n=hs\.count\(\)\)"),
        ("dropna", r"is_not_null\(\)"),
        ("fillna", r"fill_null\(0\)"),
    ],
)
def test_methods_of_data_frames_are_answered(stream, name, said):
    with pytest.raises(AttributeError, match=f"has no attribute '{name}': .*{said}"):
        getattr(stream, name)


def test_fields_of_structs_are_taken_as_is_said():
    import pyarrow.compute as pc

    with pytest.raises(AttributeError, match=r"pyarrow\.compute\.struct_field\(batch\['x'\]"):
        _ = col("x").field
    job = hs.Job("nested")
    stream = job.from_batches(pa.table({"x": [{"ip": "1"}, {"ip": "2"}]}))
    rows = stream.map_batches(
        lambda batch: pa.record_batch({"ip": pc.struct_field(batch["x"], "ip")})
    ).collect()
    job.run(show=False)

    assert rows.table["ip"].to_pylist() == ["1", "2"]


@pytest.mark.parametrize("habit", ["is", "not", "isna", "when", "second when"])
def test_a_condition_that_no_row_has_a_say_in_is_refused(stream, habit):
    x = col("x")
    conditions = {
        "is": lambda: stream.filter(x is not None),
        "not": lambda: stream.filter(x is None),
        "isna": lambda: stream.filter(pytest.importorskip("pandas").isna(x)),
        "when": lambda: hs.when(x is None),
        "second when": lambda: hs.when(x > 1).then(1).when(x is None),
    }
    with pytest.raises(TypeError, match=r"is the same for all rows; .*use is_null\(\)"):
        conditions[habit]()


def test_a_constant_condition_that_is_meant_is_taken(stream):
    none, every = (stream.filter(hs.lit(value)).collect() for value in (False, True))
    stream._job.run(show=False)

    assert (none.table.num_rows, every.table.num_rows) == (0, 2)


def test_a_column_is_not_set_but_added(stream):
    with pytest.raises(TypeError, match=r"write stream = stream\.with_columns\(y=\.\.\.\)"):
        stream["y"] = col("x") * 2
    with pytest.raises(TypeError, match=r"with_columns\(\*\*\{name: \.\.\.\}\)"):
        stream["a b"] = 1


def test_what_is_no_table_is_refused_with_how_to_make_one(stream):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"key": ["a"], "z": [1]})

    with pytest.raises(PlanError, match=r"got DataFrame; pa\.Table\.from_pandas\(frame"):
        stream.join_table(frame, on="key")
    with pytest.raises(TypeError, match=r"item 0: .*got DataFrame; pa\.Table\.from_pandas"):
        stream._job.from_batches([frame, frame])
    for values in (frame["z"], frame["z"].to_numpy()):
        with pytest.raises(TypeError, match=r"pa\.table\(\{'name': values\}\) makes"):
            stream._job.from_batches(values)


def test_a_comment_that_is_taken_as_header_is_named(tmp_path):
    (tmp_path / "log.csv").write_text("# instrument 7\n# run 5\na,b\n1,2\n")

    with pytest.raises(hs.ConnectorError, match=r"line 3: .*begins with '# instrument 7'"):
        hs.Job("comments").read_csv(tmp_path / "log.csv")
