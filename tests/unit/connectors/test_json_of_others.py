"""JSON lines as other tools write them: read right, or refused by name."""

import datetime as dt
import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcstream.connectors.formats.json.format import json_source
from hpcstream.errors import ConnectorError
from tests.unit.connectors.source_contract import read_all

UTC = dt.UTC


def write(tmp_path, content, name="a.jsonl"):
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("json")


@pytest.mark.parametrize(
    "line", [b'{"a": "caf\xe9"}', b'{"caf\xe9": "x"}', b'{"a": "x", "b": {"c": ["\xff"]}}']
)
@pytest.mark.parametrize("before", [0, 1, 300])
def test_bytes_that_are_not_utf_8_are_named_by_line(tmp_path, line, before):
    path = write(tmp_path, b'{"a": "ok"}\n' * before + line + b"\n")
    with pytest.raises(ConnectorError, match=rf"a\.jsonl', line {before + 1}: .* is not UTF-8"):
        read_all(json_source(path, block_bytes=64))
    schema = pa.schema({"a": pa.string()})
    with pytest.raises(ConnectorError, match=rf"line {before + 1}: .* is not UTF-8"):
        read_all(json_source(path, schema=schema, block_bytes=64))


@settings(max_examples=100, deadline=None)
@given(
    texts=st.lists(st.text(max_size=6), min_size=1, max_size=8), block_bytes=st.integers(40, 120)
)
def test_any_text_is_read_in_blocks_of_any_size(folder, texts, block_bytes):
    lines = (json.dumps({"a": text}, ensure_ascii=False) for text in texts)
    path = write(folder, "\n".join(lines))
    source = json_source(path, schema=pa.schema({"a": pa.string()}), block_bytes=block_bytes)
    assert [row["a"] for row in read_all(source)] == texts


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
def test_other_encodings_are_read_if_named(tmp_path, encoding):
    path = write(tmp_path, '{"a": "Jos\xe9"}\n{"a": "x"}\n'.encode(encoding))
    with pytest.raises(ConnectorError, match="encoding="):
        json_source(path)
    source = json_source(path, encoding=encoding)
    assert read_all(source) == [{"a": "Jos\xe9"}, {"a": "x"}]


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["2024-01-01T00:00:00Z", "2024-01-01T02:00:00.5+02:00"], pa.timestamp("us", "UTC")),
        (["2024-01-01T00:00:00.123456789Z"], pa.timestamp("ns", "UTC")),
        (["2024-01-01T00:00:00", "2024-01-01 00:00:00.25"], pa.timestamp("us")),
        (["2024-01-01T00:00Z", None], pa.timestamp("us", "UTC")),
        (["2024-01-01"], pa.date32()),
        (["2024-01-01T00:00:00Z", "2024-01-01T00:00:00"], pa.string()),
        (["2024-01-01T00:00:00Z", "2024-01-01"], pa.string()),
        (["2024-02-30T00:00:00Z"], pa.string()),
        (["2024"], pa.string()),
        ([None], pa.string()),
    ],
)
def test_times_in_text_are_inferred_as_in_csv(tmp_path, texts, found):
    lines = "".join(json.dumps({"t": text, "in": {"t": [text]}}) + "\n" for text in texts)
    source = json_source(write(tmp_path, lines))
    assert source.schema.field("t").type == found
    assert source.schema.field("in").type.field(0).type.value_type == found
    back = [row["t"] for row in read_all(source)]
    if pa.types.is_string(found):
        assert back == texts
    else:
        assert back == pa.array(texts).cast(found).to_pylist()


def test_a_time_without_a_zone_among_those_with_one_is_refused(tmp_path):
    lines = '{"t": "2024-01-01T00:00:00Z"}\n' * 20 + '{"t": "2024-01-01T00:00:00"}\n'
    path = write(tmp_path, lines)
    with pytest.raises(ConnectorError, match=r"line 21: field 't': .*expected a zone offset"):
        read_all(json_source(path, block_bytes=64))
    given = {"t": pa.timestamp("us")}
    with pytest.raises(ConnectorError, match=r"line 1: field 't': .*expected no zone offset"):
        read_all(json_source(path, column_types=given))


def test_column_types_say_how_some_fields_are_read(tmp_path):
    path = write(tmp_path, '{"n": 1, "t": "2024-01-01T00:00:00Z", "x": 2}\n' * 9 + '{"late": 1}\n')
    types = {"n": "int16", "t": pa.timestamp("ms", "UTC"), "late": pa.int8()}
    source = json_source(path, column_types=types, event_time="t", block_bytes=64)
    assert {f.name: f.type for f in source.schema} == {
        "n": pa.int16(),
        "t": pa.timestamp("ms", "UTC"),
        "x": pa.int64(),
        "late": pa.int8(),
    }
    rows = read_all(source)
    assert rows[0] == {"n": 1, "t": dt.datetime(2024, 1, 1, tzinfo=UTC), "x": 2, "late": None}
    assert rows[-1]["late"] == 1


@pytest.mark.parametrize("columns", [["a"], ["a", "b"]])
def test_a_field_that_comes_late_is_an_error_whatever_is_read(tmp_path, columns):
    path = write(tmp_path, '{"a": 1, "b": 2}\n' * 50 + '{"a": 1, "new": 2}\n')
    source = json_source(path, block_bytes=64).project(columns)
    with pytest.raises(ConnectorError, match=r"line 51: .*unexpected field; column_types="):
        read_all(source)


def test_a_field_without_values_at_first_is_text_and_says_so(tmp_path):
    path = write(tmp_path, '{"a": null}\n' * 50 + '{"a": 1}\n')
    with pytest.raises(ConnectorError, match=r"line 51: .*no value in the first block .* text"):
        read_all(json_source(path, block_bytes=64))
    typed = json_source(path, column_types={"a": pa.int64()}, block_bytes=64)
    assert read_all(typed)[-1] == {"a": 1}


BIG = 2**63


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([BIG], rf"field 'a': {BIG} is beyond int64"),
        ([1, None, -BIG - 1], rf"field 'a': {-BIG - 1} is beyond int64"),
        ([{"b": [BIG]}], rf"field 'a\.b': {BIG} is beyond int64"),
        ([BIG - 1, -BIG], None),
        ([BIG, 0.5], None),
        (["9" * 30], None),
    ],
)
def test_integers_beyond_int64_are_not_rounded(tmp_path, values, said):
    path = write(tmp_path, "".join(json.dumps({"a": value}) + "\n" for value in values))
    if said is None:
        assert [row["a"] for row in read_all(json_source(path))] == values
    else:
        with pytest.raises(ConnectorError, match=said):
            json_source(path)


def test_a_long_integer_is_read_as_the_type_given(tmp_path):
    path = write(tmp_path, f'{{"a": {BIG}}}\n')
    assert read_all(json_source(path, column_types={"a": "uint64"})) == [{"a": BIG}]
    decimal = json_source(path, column_types={"a": pa.decimal128(38, 0)})
    assert int(read_all(decimal)[0]["a"]) == BIG


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[{"a": 1},\n{"a": 2}]\n', 1),
        ("null\n", 1),
        ('{"a": 1}\n\n  null\n', 3),
        ('{"a": null}\n' * 40 + "null\n", 41),
        ('{"a": "' + "x" * 53 + '"}\nnull\n', 2),
        ("1\n", 1),
        ("<html>\n", 1),
    ],
)
@pytest.mark.parametrize("block_bytes", [64, 1 << 20])
def test_lines_that_are_no_objects_are_named(tmp_path, text, line, block_bytes):
    path = write(tmp_path, text)
    with pytest.raises(ConnectorError, match=rf"line {line}: expected a JSON object in each line"):
        read_all(json_source(path, schema=pa.schema({"a": pa.string()}), block_bytes=block_bytes))


@settings(max_examples=60, deadline=None)
@given(n_blanks=st.integers(0, 70), block_bytes=st.integers(62, 75))
def test_a_null_line_is_found_at_every_border_of_blocks(folder, n_blanks, block_bytes):
    path = write(folder, '{"a": 1}' + " " * n_blanks + "\nnull\n" + '{"a": 2}\n' * 20)
    source = json_source(path, schema=pa.schema({"a": pa.int64()}), block_bytes=block_bytes)
    with pytest.raises(ConnectorError, match=r"line 2: expected a JSON object"):
        read_all(source)


@pytest.mark.parametrize("line", ['{"a": 1, "a": 2}', '{"a": {"b": 1, "b": 2}}'])
def test_a_key_that_comes_twice_is_refused(tmp_path, line):
    path = write(tmp_path, "\n" + line + "\n")
    with pytest.raises(ConnectorError, match=r"line 2: .*specified twice"):
        read_all(json_source(path))


def test_files_of_other_tools_are_read(tmp_path):
    write(tmp_path, b'\xef\xbb\xbf{"a": 1}\r\n\r\n{"a": 2}', "A.JSONL")
    assert read_all(json_source(tmp_path)) == [{"a": 1}, {"a": 2}]
