"""Schemas as users give them: every call that takes one takes it in each of its forms."""

from __future__ import annotations

import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream import col
from hpcstream.errors import ConnectorError

TYPES = {
    "a": pa.int64(),
    "b": pa.list_(pa.int64()),
    "c": pa.timestamp("us", "UTC"),
    "d": pa.struct([("x", pa.float64()), ("y", pa.list_(pa.string()))]),
    "e": pa.decimal128(10, 2),
}
SCHEMA = pa.schema(list(TYPES.items()))
NAMES = {name: str(one) for name, one in TYPES.items()}
FORMS = {
    "schema": SCHEMA,
    "dict of types": TYPES,
    "dict of names": NAMES,
    "pairs": list(NAMES.items()),
    "fields": list(SCHEMA),
    "classes": {**TYPES, "a": int},
}


def nothing(*_):
    return pa.RecordBatch.from_pylist([], SCHEMA)


def json_file(path):
    (path / "a.jsonl").write_text('{"a": 1, "b": [1, 2], "d": {"x": 1, "y": ["z"]}}\n')
    return path / "a.jsonl"


CALLS = {
    "map_batches": lambda job, path, given: job.from_batches([nothing()]).map_batches(
        nothing, schema=given
    ),
    "flat_map": lambda job, path, given: job.from_batches([nothing()]).flat_map(
        nothing, schema=given
    ),
    "from_batches": lambda job, path, given: job.from_batches([], schema=given),
    "generate": lambda job, path, given: job.generate(nothing, rows=0, schema=given),
    "read_json": lambda job, path, given: job.read_json(json_file(path), schema=given),
}


@pytest.mark.parametrize("form", list(FORMS))
@pytest.mark.parametrize("call", list(CALLS))
def test_a_schema_is_taken_in_every_form(tmp_path, call, form):
    stream = CALLS[call](hs.Job("j"), tmp_path, FORMS[form])

    assert stream.schema == SCHEMA


@pytest.mark.parametrize("call", list(CALLS))
@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"a": "int46"}, ValueError, r"\(schema=\): column 'a': there is no type 'int46'"),
        ({"a": 3}, ValueError, "column 'a': type 3: expected a pyarrow type"),
        ({3: "int64"}, TypeError, "3 is not the name of a column"),
        (["a", "b"], TypeError, "or types by column name"),
        ("a", TypeError, "or types by column name"),
        (5, TypeError, "or types by column name"),
    ],
)
def test_what_is_no_schema_is_refused_where_it_is_given(tmp_path, call, given, error, said):
    with pytest.raises(error, match=said):
        CALLS[call](hs.Job("j"), tmp_path, given)


def test_types_of_some_columns_are_taken_as_cast_takes_them(tmp_path):
    (tmp_path / "a.csv").write_text("a,e\n1,1.50\n")
    job = hs.Job("j")
    from_json = job.read_json(json_file(tmp_path), column_types={"b": NAMES["b"], "a": float})
    from_csv = job.read_csv(tmp_path / "a.csv", column_types={"e": NAMES["e"]})
    cast = job.from_batches([nothing()]).select(col("b").cast(NAMES["b"]))

    assert from_json.schema.field("b").type == cast.schema.field("b").type == TYPES["b"]
    assert from_json.schema.field("a").type == pa.float64()
    assert from_csv.schema.field("e").type == TYPES["e"]


def test_a_schema_without_some_columns_of_a_csv_file_is_refused_as_such(tmp_path):
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    job = hs.Job("j")
    job.read_csv(tmp_path / "a.csv", schema={"a": "int64"}).collect()

    with pytest.raises(ConnectorError, match=r"the columns of schema=.*'b'.*column_types="):
        job.run(show=False)
