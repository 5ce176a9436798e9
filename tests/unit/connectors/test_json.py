import gzip
import json

import pyarrow as pa
import pytest

from hpcstream.connectors.formats.json.format import json_source
from hpcstream.errors import ConnectorError
from tests.unit.connectors.source_contract import SourceContract, read_all, sample_table


def write(tmp_path, lines, name="a.jsonl"):
    path = tmp_path / name
    text = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


class TestJsonOfSeveralFiles(SourceContract):
    @pytest.fixture
    def source(self, tmp_path):
        rows = sample_table().to_pylist()
        write(tmp_path, rows[:300], "a.jsonl")
        write(tmp_path, rows[300:], "b.jsonl.gz")
        return json_source(tmp_path, event_time="time", unit="ms", block_bytes=3_000)


def test_a_line_that_is_no_json_is_named(tmp_path):
    path = write(tmp_path, [{"a": 1}, "\n", {"a": 2}, '{"a": 3\n', {"a": 4}])
    with pytest.raises(ConnectorError, match=r"a\.jsonl', line 4: JSON parse error"):
        read_all(json_source(path, schema=pa.schema({"a": pa.int64()})))


@pytest.mark.parametrize("bad", [{"a": "x"}, {"a": 1.5}, {"a": [1]}])
def test_a_value_of_another_type_is_named_by_its_line(tmp_path, bad):
    path = write(tmp_path, [{"a": i} for i in range(9_000)] + [bad])
    source = json_source(path, block_bytes=2_000)
    with pytest.raises(ConnectorError, match=r"a\.jsonl', line 9001: .*schema="):
        read_all(source)


def test_types_that_change_within_the_first_block_are_named_by_line(tmp_path):
    with pytest.raises(ConnectorError, match=r"line 3: .*changed from number to string"):
        json_source(write(tmp_path, [{"a": 1}, {"a": 2}, {"a": "x"}, {"a": 3}]))


def test_a_field_that_first_comes_later_is_an_error_unless_a_schema_was_given(tmp_path):
    path = write(tmp_path, [{"a": 1}] * 500 + [{"a": 1, "new": 2}])
    with pytest.raises(ConnectorError, match=r"line 501: .*unexpected field"):
        read_all(json_source(path, block_bytes=500))
    rows = read_all(json_source(path, schema=pa.schema({"a": pa.int64()})))
    assert rows == [{"a": 1}] * 501


def test_a_missing_field_is_null(tmp_path):
    path = write(tmp_path, [{"a": 1, "b": "x"}, {"b": "y"}, {}])
    assert read_all(json_source(path)) == [
        {"a": 1, "b": "x"},
        {"a": None, "b": "y"},
        {"a": None, "b": None},
    ]


def test_times_are_parsed_into_the_type_of_the_schema(tmp_path):
    path = write(tmp_path, [{"t": "2001-01-01T00:00:00.250"}])
    source = json_source(path, schema=pa.schema({"t": pa.timestamp("ms")}), event_time="t")
    assert str(read_all(source)[0]["t"]) == "2001-01-01 00:00:00.250000"


@pytest.mark.parametrize("text", ["", "\n\n  \n"])
def test_a_file_without_rows_needs_a_schema(tmp_path, text):
    path = write(tmp_path, [text])
    with pytest.raises(ConnectorError, match="no rows to infer fields from; give schema="):
        json_source(path)
    assert read_all(json_source(path, schema=pa.schema({"a": pa.int64()}))) == []


def test_nested_fields_are_read(tmp_path):
    rows = [{"a": {"x": 1, "y": [1, 2]}}, {"a": {"x": 2, "y": []}}]
    assert read_all(json_source(write(tmp_path, rows))) == rows


def test_a_line_longer_than_a_block_says_what_to_change(tmp_path):
    path = write(tmp_path, [{"a": "x"}, {"a": "y" * 900}])
    with pytest.raises(ConnectorError, match="block_bytes=100"):
        read_all(json_source(path, block_bytes=100))


def test_a_file_that_is_not_what_its_name_says_is_named(tmp_path):
    (tmp_path / "a.json.gz").write_bytes(b"no gzip")
    with pytest.raises(ConnectorError, match=r"a\.json\.gz'"):
        json_source(tmp_path)
