"""JSON files of columns, or of one array: refused by name, and read as the message says."""

from __future__ import annotations

import json
import re
import shutil
import subprocess

import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream.connectors.formats.json.format import json_source
from hpcstream.errors import ConnectorError
from tests.unit.connectors.source_contract import read_all

COLUMNS = {"a b": [1, 2, 3], "c": ["x", None, "z"]}
ROWS = [{"a b": 1, "c": "x"}, {"a b": 2, "c": None}, {"a b": 3, "c": "z"}]


def write(tmp_path, value, **options):
    path = tmp_path / "a.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value, **options))
    return path


@pytest.mark.parametrize("indent", [None, 2])
def test_columns_are_refused(tmp_path, indent):
    path = write(tmp_path, COLUMNS, indent=indent)
    with pytest.raises(ConnectorError, match="fields are lists of 3 values: columns, where"):
        json_source(path)
    assert read_rows(pa.table(json.loads(path.read_text()))) == ROWS


def read_rows(table):
    job = hs.Job("columns")
    rows = job.from_batches(table).collect()
    job.run(show=False)
    return rows.table.to_pylist()


@pytest.mark.parametrize("value", [COLUMNS, ROWS], ids=["columns", "array"])
@pytest.mark.skipif(shutil.which("jq") is None, reason="needs jq")
def test_jq_makes_lines_as_the_message_says(tmp_path, value):
    path = write(tmp_path, value)
    with pytest.raises(ConnectorError) as raised:
        json_source(path)
    program = re.search(r"`jq -c '(.*?)'`", str(raised.value))[1]
    made = subprocess.run(["jq", "-c", program, path], capture_output=True, text=True, check=True)
    assert read_all(json_source(write(tmp_path, made.stdout))) == ROWS


def test_an_array_is_read_as_the_message_says(tmp_path):
    path = write(tmp_path, ROWS)
    with pytest.raises(ConnectorError, match=r"from_batches\(pa\.Table\.from_pylist\(json\.load"):
        json_source(path)
    assert read_rows(pa.Table.from_pylist(json.loads(path.read_text()))) == ROWS


@pytest.mark.parametrize("names", [["a"], ["a", "b"]])
def test_what_pandas_writes_by_default_is_refused(tmp_path, names):
    path = write(tmp_path, {name: {"0": 1, "1": 2} for name in names})
    with pytest.raises(ConnectorError, match=r"orient='records', lines=True\) writes one object"):
        json_source(path)


@pytest.mark.parametrize(
    "row",
    [
        {"a": [1, 2]},
        {"a": [1], "b": [2]},
        {"a": [1, 2], "b": [1, 2, 3]},
        {"a": [1, 2], "b": 3},
        {"a": {"x": 1}, "b": {"x": 2}},
        {"a": {"0": 1}, "b": {"1": 2}},
    ],
    ids=str,
)
def test_one_row_of_lists_or_structs_is_read(tmp_path, row):
    assert [plain(one) for one in read_all(json_source(write(tmp_path, row)))] == [row]


def plain(row):
    return json.loads(json.dumps(row))


def test_lists_are_read_where_they_are_given_as_types_or_have_several_lines(tmp_path):
    line = {"a": [1, 2], "b": [3, 4]}
    source = json_source(write(tmp_path, line), column_types={"a": pa.list_(pa.int64())})
    assert read_all(source) == [line]
    schema = pa.schema({"b": pa.list_(pa.int64())})
    assert read_all(json_source(write(tmp_path, line), schema=schema)) == [{"b": [3, 4]}]
    assert read_all(json_source(write(tmp_path, f"{json.dumps(line)}\n" * 2))) == [line, line]


def test_columns_longer_than_a_block_are_asked_about(tmp_path):
    path = write(tmp_path, {"a": list(range(100)), "b": list(range(100))})
    with pytest.raises(ConnectorError, match="or does the file hold columns, one object for all"):
        json_source(path, block_bytes=64)
