"""Decoders of messages: the rows that a file of the same lines gives, and bad messages apart."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hpcstream as hs
from hpcstream.connectors.base import Chunk, Split
from hpcstream.connectors.dead_letters import MessageRows
from hpcstream.connectors.formats.csv.decoder import CsvDecoder
from hpcstream.connectors.formats.csv.format import csv_source
from hpcstream.connectors.formats.json.decoder import JsonDecoder
from hpcstream.connectors.formats.json.format import json_source
from hpcstream.errors import ConnectorError, PlanError
from tests.unit.connectors.source_contract import read_all

SCHEMA = pa.schema({"a": pa.int64(), "s": pa.string(), "t": pa.timestamp("ms")})
TEXTS = st.text(max_size=8)
ROWS = st.fixed_dictionaries(
    {
        "a": st.none() | st.integers(-(2**63), 2**63 - 1),
        "s": st.none() | TEXTS,
        "t": st.none() | st.sampled_from(["2024-05-01T10:00:00.125", "1969-12-31 23:59:59"]),
    }
)
BAD_JSON = [
    b"", b"  ", b"null", b"7", b"[1]", b'{"a": 1', b'{"a": "x"}', b'{"a": 1} {"a": 2}',
    b'{"a": 1}\n{"a": 2}', b'{"a": 1} null', b'{"a": 1}\nnull\n{"a": 2}', b"\xff{}",
    b'{"s": "\xff"}', b'{"t": "noon"}', b'{"a": 1}}', b"{'a': 1}", b'{} true {}', b'{"a":{}null}',
]  # fmt: skip
BAD_CSV = [b"", b"1,x", b"1,x,2024-05-01 10:00:00,4", b"x,y,", b'1,"y,', b"1,\xff,", b"1,a,\n2,b,"]


def expected_rows(dicts):
    return pa.table(
        {
            "a": pa.array([one["a"] for one in dicts], pa.int64()),
            "s": pa.array([one["s"] for one in dicts], pa.string()),
            "t": pa.array([one["t"] for one in dicts], pa.string()).cast(pa.timestamp("ms")),
        }
    ).to_pylist()


def csv_line(row):
    """Return a row as CSV: quoted text, nothing for null."""
    fields = [
        "" if row["a"] is None else str(row["a"]),
        "" if row["s"] is None else '"' + row["s"].replace('"', '""') + '"',
        row["t"] or "",
    ]
    return ",".join(fields).encode()


def check(decoder, items, encoded):
    """Decode rows (dicts) and bad messages (bytes) in a mix, and compare."""
    messages = [one if isinstance(one, bytes) else encoded(one) for one in items]

    batch, bad = decoder.decode(messages)

    good = [one for one in items if not isinstance(one, bytes)]
    assert batch.to_pylist() == expected_rows(good)
    assert batch.schema == SCHEMA
    assert [one.number for one in bad] == [
        i for i, one in enumerate(items) if isinstance(one, bytes)
    ]
    assert all(one.reason for one in bad)


@given(items=st.lists(ROWS | st.sampled_from(BAD_JSON), max_size=12), indent=st.booleans())
def test_json_objects_become_rows_and_bad_ones_are_told(items, indent):
    def encoded(row):
        known = {name: value for name, value in row.items() if value is not None}
        return json.dumps(known | {"other": [{"x": None}]}, indent=2 if indent else None).encode()

    check(JsonDecoder(SCHEMA), items, encoded)


@given(
    items=st.lists(
        ROWS.filter(lambda row: "\x00" not in (row["s"] or "")) | st.sampled_from(BAD_CSV),
        max_size=12,
    )
)
def test_csv_lines_become_rows_and_bad_ones_are_told(items):
    check(CsvDecoder(SCHEMA), items, csv_line)


@pytest.mark.parametrize("message", BAD_JSON)
def test_each_bad_json_message_is_told_among_many_good_ones(message):
    check(JsonDecoder(SCHEMA), [{"a": 1, "s": "x", "t": None}] * 20 + [message] * 2, json_line)


def json_line(row):
    return json.dumps(row).encode()


def test_text_that_looks_like_two_objects_is_text():
    row = {"a": 1, "s": '{"a": 1} null } x', "t": None}

    check(JsonDecoder(SCHEMA), [row, row], json_line)


def test_a_further_field_is_an_error_if_it_is_to_be():
    decoder = JsonDecoder(SCHEMA, unexpected="error")

    batch, bad = decoder.decode([b'{"a": 1}', b'{"b": 1}'])

    assert batch["a"].to_pylist() == [1]
    assert [(one.number, "unexpected field" in one.reason) for one in bad] == [(1, True)]


@settings(max_examples=40)
@given(lines=st.lists(ROWS.filter(lambda row: "\x00" not in (row["s"] or "")), min_size=1))
def test_a_decoder_gives_what_a_file_of_the_lines_gives(tmp_path_factory, lines):
    folder = tmp_path_factory.mktemp("lines")
    (folder / "rows.json").write_bytes(b"\n".join(map(json_line, lines)))
    (folder / "rows.csv").write_bytes(b"\n".join(map(csv_line, lines)) + b"\n")
    of_json = json_source(folder / "rows.json", schema=SCHEMA)
    of_csv = csv_source(folder / "rows.csv", schema=SCHEMA, header=False, newlines_in_values=True)

    batch, bad = JsonDecoder(SCHEMA).decode([*map(json_line, lines)])
    assert (batch.to_pylist(), bad) == (read_all(of_json), [])
    batch, bad = CsvDecoder(SCHEMA).decode([*map(csv_line, lines)])
    assert (batch.to_pylist(), bad) == (read_all(of_csv), [])


def test_delimiter_and_nulls_of_csv_are_taken():
    schema = pa.schema({"a": pa.int64(), "s": pa.string()})
    decoder = CsvDecoder(schema, delimiter=";", null_values=["-"])

    batch, bad = decoder.decode([b"1;x,y", b"-;-", b"2;"])

    assert bad == []
    assert batch.to_pylist() == [{"a": 1, "s": "x,y"}, {"a": None, "s": None}, {"a": 2, "s": ""}]


def test_an_empty_line_of_one_column_is_null():
    batch, bad = CsvDecoder(pa.schema({"a": pa.int64()})).decode([b"1", b"", b"x", b"2\r\n"])

    assert batch["a"].to_pylist() == [1, None, 2]
    assert [one.number for one in bad] == [2]


# -- dead letters --------------------------------------------------------------------------

MESSAGES = [b'{"a": 1}', b"oops", b'{"a": 3}', b'{"a": "four"}']
A = pa.schema({"a": pa.int64()})


def rows_of(bad):
    return MessageRows(JsonDecoder(A), bad)


def test_a_bad_message_stops_the_job_by_split_position_and_reason():
    with pytest.raises(ConnectorError, match=r"^lane, at \"7-1\": message b'oops' does not decode"):
        rows_of("raise").rows(MESSAGES, "lane", ["7-0", "7-1", "7-2", "7-3"])


def test_bad_messages_are_dropped_and_counted(capsys):
    rows = rows_of("drop")

    batches = [rows.rows(MESSAGES, "lane", [0, 1, 2, 3]) for _ in range(6)]

    assert all(batch.to_pylist() == [{"a": 1}, {"a": 3}] for batch in batches)
    assert rows.n_bad == 12
    said = capsys.readouterr().err
    assert said.count("does not decode") == 2
    assert "10 so far" in said or "12 so far" in said


def test_bad_messages_are_kept_in_their_places():
    batch = rows_of("keep").rows(MESSAGES, "lane", [0, [1, "x"], 2, 3])

    found = batch.to_pylist()
    assert [row["a"] for row in found] == [1, None, 3, None]
    assert found[1] == {
        "a": None,
        "dead_error": found[1]["dead_error"],
        "dead_payload": b"oops",
        "dead_split": "lane",
        "dead_position": '[1, "x"]',
    }
    assert "expected a JSON object" in found[1]["dead_error"]
    assert found[0]["dead_error"] is found[0]["dead_payload"] is None


class Messages:
    """A bounded source of messages that are kept or not."""

    def __init__(self, bad):
        self.rows = rows_of(bad)
        self.schema = self.rows.schema

    def list_splits(self):
        return [Split("lane")]

    def open(self, split, position=0):
        return MessagesReader(self.rows, position)


class MessagesReader:
    def __init__(self, rows, position):
        self.rows, self.position = rows, position

    def read(self, max_rows):
        part = MESSAGES[self.position : self.position + max_rows]
        if not part:
            return None
        positions = range(self.position, self.position + len(part))
        self.position += len(part)
        return Chunk(self.rows.rows(part, "lane", positions), len(part))


def test_dead_letters_are_a_stream_of_their_own():
    job = hs.Job("letters")
    rows, letters = hs.split_dead_letters(job.source(Messages("keep")))
    good, dead = rows.collect(), letters.collect()

    job.run(progress=False)

    assert good.table.to_pylist() == [{"a": 1}, {"a": 3}]
    assert dead.table["dead_payload"].to_pylist() == [MESSAGES[1], MESSAGES[3]]
    assert dead.table["dead_position"].to_pylist() == ["1", "3"]


def test_a_stream_without_dead_letters_says_so():
    with pytest.raises(PlanError, match="bad='keep'"):
        hs.split_dead_letters(hs.Job("none").source(Messages("drop")))
