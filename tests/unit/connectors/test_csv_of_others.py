"""CSV as other tools write it: read right, or refused by name."""

import bz2
import csv
import gzip
import io
import subprocess

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcstream.connectors.formats.csv.format import csv_source
from hpcstream.errors import ConnectorError
from tests.unit.connectors.source_contract import read_all

INT, TEXT = pa.int64(), pa.string()


def write(tmp_path, text, name="a.csv"):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def values(source):
    return [list(row.values()) for row in read_all(source)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("others")


BREAKS = st.sampled_from(["\r\n", "\n", "\r"])
FIELDS = st.lists(st.sampled_from(["a", "bc", ",", '"']) | BREAKS, max_size=5).map("".join)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(FIELDS, FIELDS), min_size=1, max_size=6), ends=BREAKS)
def test_line_breaks_in_values_survive_every_border_of_blocks(folder, rows, ends):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=ends, quoting=csv.QUOTE_ALL)
    writer.writerows([("h", "i"), *rows])
    path = write(folder, text.getvalue())
    longest = max(len(f"{a}{b}") + 14 for a, b in rows)
    whole = len(text.getvalue())

    for block_bytes in range(min(longest, whole), whole + 2):
        options = {"newlines_in_values": True, "block_bytes": 2 * block_bytes}
        source = csv_source(path, schema=pa.schema({"h": TEXT, "i": TEXT}), **options)
        assert values(source) == [list(row) for row in rows], block_bytes


@settings(max_examples=40, deadline=None)
@given(ends=st.lists(BREAKS, min_size=8, max_size=8), block_bytes=st.integers(12, 40))
def test_lines_may_end_in_different_ways(folder, ends, block_bytes):
    path = write(folder, "a,b" + "".join(f"{end}{i},x{i}" for i, end in enumerate(ends)))
    source = csv_source(path, schema=pa.schema({"a": INT, "b": TEXT}), block_bytes=block_bytes)
    assert values(source) == [[i, f"x{i}"] for i in range(8)]


def test_a_line_break_in_a_long_file_is_refused_with_the_option_to_read_it(tmp_path):
    rows = 'id,text\n1,x\n2,"one\ntwo"\n' + "3,y\n" * 100
    path = write(tmp_path, rows)
    with pytest.raises(
        ConnectorError, match=r"line 3, column 'text': .*line break; newlines_in_values=True"
    ):
        read_all(csv_source(path, block_bytes=100))
    assert values(csv_source(path, block_bytes=100, newlines_in_values=True))[1] == [2, "one\ntwo"]
    assert values(csv_source(path))[1] == [2, "one\ntwo"]  # in one block


@pytest.mark.parametrize("newlines_in_values", [False, True])
@pytest.mark.parametrize("columns", [["a"], ["a", "b"]])
def test_a_file_that_ends_within_quotes_is_refused(tmp_path, newlines_in_values, columns):
    path = write(tmp_path, 'a,b\n1,x\n2,"y\n3,z\n')
    source = csv_source(path, newlines_in_values=newlines_in_values).project(columns)
    with pytest.raises(ConnectorError, match=r"line 3: the file ends within a quoted value"):
        read_all(source)


def test_quotes_inside_plain_fields_are_characters(tmp_path):
    assert values(csv_source(write(tmp_path, 'a,b\n1,5" disk\n2,x\n'))) == [
        [1, '5" disk'],
        [2, "x"],
    ]


def test_an_empty_field_is_null_and_a_quoted_one_is_text(tmp_path):
    path = write(tmp_path, 'n,s\n1,\n2,""\n,x\n')
    assert values(csv_source(path)) == [[1, None], [2, ""], [None, "x"]]


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.sampled_from(["1", "-5", "", "NA", '""', "NULL", '"7"', "n/a"]),
            st.sampled_from(["NA", "", '""', "null", "x", '"NA"']),
        ),
        max_size=12,
    ),
    block_bytes=st.integers(20, 60),
)
def test_spellings_of_null_hold_among_numbers_and_not_in_text(folder, rows, block_bytes):
    path = write(folder, "n,s\n" + "".join(f"{n},{s}\n" for n, s in rows))
    source = csv_source(path, schema=pa.schema({"n": INT, "s": TEXT}), block_bytes=block_bytes)
    numbers = {"1": 1, "-5": -5, '"7"': 7}
    texts = {"": None, '""': "", '"NA"': "NA"}
    assert values(source) == [[numbers.get(n), texts.get(s, s)] for n, s in rows]


def test_a_bad_number_beside_spelled_nulls_is_still_named(tmp_path):
    path = write(tmp_path, "n,s\nNA,x\n1,y\n2x,z\n")
    source = csv_source(path, column_types={"n": INT})
    with pytest.raises(ConnectorError, match=r"line 4, column 'n': .*'2x'"):
        read_all(source)


@pytest.mark.parametrize(
    ("field", "found"),
    [
        ("007", TEXT),
        ("-01", TEXT),
        ("00.5", TEXT),
        ("0", INT),
        ("0.5", pa.float64()),
        ("-0.5", pa.float64()),
        ("NaN", pa.float64()),
        ("9223372036854775807", INT),
        ("9223372036854775808", TEXT),
        ("-123456789012345678901234567890", TEXT),
        ("1.5e300", pa.float64()),
        ("12345678901234567890.5", pa.float64()),
        ("2024-01-01", pa.date32()),
        ("2024-01-01T00:00:00", pa.timestamp("us")),
        ("2024-01-01 00:00:00.5", pa.timestamp("us")),
        ("2024-01-01T00:00:00Z", pa.timestamp("us", "UTC")),
        ("2024-01-01T02:00:00+02:00", pa.timestamp("us", "UTC")),
        ("2024-01-01T00:00:00.123456789", pa.timestamp("ns")),
        ("2024-02-30", TEXT),
    ],
)
def test_types_are_inferred_without_losing_digits(tmp_path, field, found):
    source = csv_source(write(tmp_path, f"a,b\n{field},1\nNA,2\n"))
    assert source.schema.field("a").type == found
    if found == TEXT:
        assert values(source)[0] == [field, 1]


def test_an_integer_beyond_int64_in_a_later_block_is_refused(tmp_path):
    path = write(tmp_path, "a\n" + "1\n" * 200 + "9223372036854775808\n")
    with pytest.raises(ConnectorError, match=r"line 202, column 'a': .*int64"):
        read_all(csv_source(path, block_bytes=64))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a;b\n1;2\n", r"one column, 'a;b': is its delimiter ';', not ','\? Say delimiter=';'"),
        ("a\tb\n1\t2\n", r"Say delimiter='\\t'"),
        ("a|b|c\n1|2|3\n", r"Say delimiter='\|'"),
        ("a;b\n1,5;2\n", r"one column, 'a;b': is its delimiter ';'"),
        ("a;b\n1,5;2,5\n", r"one column, 'a;b': is its delimiter ';'"),
        ("a\tb\n1\tx,y\n", r"Say delimiter='\\t'"),
        ("a b\n1 2\n", r"one column, 'a b': is its delimiter ' ', not ','\?"),
        ("station temp\nZRH -3.5\n", r"Say delimiter=' '"),
        ("a    b\n1    2\n30   4\n", r"runs of spaces .* `sed -E 's/\^ \+//; s/ \+/,/g'`"),
        (" a b\n 1 2\n", r"runs of spaces"),
        ("a,a\n1,2\n", r"2 columns are named 'a'; rename them with column_names="),
        ("a,b\n1,2\n3\n", r"line 3: Expected 2 columns, got 1"),
    ],
)
def test_a_header_that_cannot_be_meant_is_refused(tmp_path, text, said):
    with pytest.raises(ConnectorError, match=said):
        read_all(csv_source(write(tmp_path, text)))


@pytest.mark.parametrize(
    "text",
    [
        "first name\nAda Lovelace\n",
        "when at\n2026-01-01 00:00:00\n",
        "message text\nhello 3 worlds\n",
        "a\n1 2\n",
        "text\n;|\n",
        "a;b\nx\n",
    ],
)
def test_texts_of_one_column_are_left_alone(tmp_path, text):
    header, row = text.splitlines()
    (found,) = read_all(csv_source(write(tmp_path, text)))
    assert list(found) == [header]
    assert str(found[header]) == row


@pytest.mark.parametrize(
    ("row", "delimiter"), [("1 2", "' '"), ("x;2", "';'"), ("1\t2.5", r"'\\t'"), ("a|1", r"'\|'")]
)
def test_without_a_header_a_number_between_other_delimiters_is_refused(tmp_path, row, delimiter):
    path = write(tmp_path, f"{row}\n{row}\n")
    with pytest.raises(ConnectorError, match=rf"without a name: is its delimiter {delimiter}"):
        csv_source(path, header=False)
    assert values(csv_source(path, header=False, column_names=["x"])) == [[row], [row]]


@pytest.mark.parametrize("row", ["a b", "12:30", "1,5", "a;b"])
def test_without_a_header_texts_are_left_alone(tmp_path, row):
    options = {"header": False, "delimiter": "\t"}
    assert len(read_all(csv_source(write(tmp_path, f"{row}\n"), **options))[0]) == 1


def test_runs_of_spaces_are_refused_where_space_is_the_delimiter(tmp_path):
    with pytest.raises(ConnectorError, match="runs of spaces"):
        csv_source(write(tmp_path, "a  b\n1  2\n"), delimiter=" ")
    assert read_all(csv_source(write(tmp_path, "a b\n1 2\n"), delimiter=" ")) == [{"a": 1, "b": 2}]


def test_runs_of_spaces_are_read_as_the_message_says(tmp_path):
    text = "  a    b\n  1  2.5\n 30    4\n"
    made = subprocess.run(
        ["sed", "-E", "s/^ +//; s/ +/,/g"], input=text, capture_output=True, text=True, check=True
    )
    source = csv_source(write(tmp_path, made.stdout))
    assert read_all(source) == [{"a": 1, "b": 2.5}, {"a": 30, "b": 4.0}]


def test_one_column_whose_name_has_a_delimiter_is_read_by_another_name(tmp_path):
    path = write(tmp_path, "a;b\n1;2\n")
    assert read_all(csv_source(path, column_names=["x"])) == [{"x": "1;2"}]


def test_columns_without_a_name_are_numbered(tmp_path):
    assert read_all(csv_source(write(tmp_path, ",a,\n0,1,\n"))) == [{"f0": 0, "a": 1, "f2": None}]


def test_names_given_take_the_place_of_those_in_the_header(tmp_path):
    path = write(tmp_path, '\n"a\nq",a\n\n1,2\n3,x\n')
    source = csv_source(path, column_names=["b", "c"], column_types={"c": INT})
    with pytest.raises(ConnectorError, match="line 6, column 'c'"):
        read_all(source)
    with pytest.raises(ConnectorError, match="has 2 columns, but 1 names are given"):
        csv_source(path, column_names=["b"])


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("header", [True, False])
def test_blank_lines_are_nulls_in_one_column_and_nothing_in_several(tmp_path, end, header):
    one = ["1", "", '""', "2", "", "x"]
    path = write(tmp_path, end.join((["s"] if header else []) + one) + end)
    options = {"schema": pa.schema({"s": TEXT}), "header": header, "block_bytes": 8}
    assert values(csv_source(path, **options)) == [["1"], [None], [""], ["2"], [None], ["x"]]
    path = write(tmp_path, end.join(["", "1,2", "", "3,4", "", ""]))
    options = {"schema": pa.schema({"a": INT, "b": INT}), "header": False}
    assert values(csv_source(path, **options)) == [[1, 2], [3, 4]]


LATIN = "name,n\nJos\xe9,1\nna\xefve,2\n"


def test_latin_1_is_refused_with_line_column_and_option_and_read_with_it(tmp_path):
    path = write(tmp_path, LATIN.encode("latin-1"))
    with pytest.raises(
        ConnectorError, match=r"line 2, column 'name': b'Jos\\xe9' is not UTF-8; .*encoding='latin"
    ):
        csv_source(path)
    assert values(csv_source(path, encoding="latin-1")) == [["Jos\xe9", 1], ["na\xefve", 2]]


def test_latin_1_behind_the_first_block_and_in_the_header_is_named(tmp_path):
    path = write(tmp_path, b"name,n\n" + b"x,1\n" * 50 + b"Jos\xe9,1\n")
    with pytest.raises(ConnectorError, match=r"line 52, column 'name': b'Jos\\xe9' is not UTF-8"):
        read_all(csv_source(path, block_bytes=32))
    with pytest.raises(ConnectorError, match=r"in the header: b'n\\xe9' is not UTF-8"):
        csv_source(write(tmp_path, b"n\xe9,b\n1,2\n"))


def test_bytes_that_are_no_text_are_read_as_binary_if_that_is_asked_for(tmp_path):
    path = write(tmp_path, LATIN.encode("latin-1"))
    source = csv_source(path, column_types={"name": pa.binary()})
    assert values(source)[0] == [b"Jos\xe9", 1]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf_16_is_refused_with_the_option_and_read_with_it(tmp_path, encoding):
    path = write(tmp_path, LATIN.encode(encoding))
    said = "utf-32" if encoding == "utf-32" else encoding
    with pytest.raises(ConnectorError, match=rf"not UTF-8 text but .*encoding='{said}'"):
        csv_source(path)
    for block_bytes in (16, 17, 1 << 20):
        options = {"encoding": encoding, "block_bytes": block_bytes}
        assert values(csv_source(path, **options)) == [["Jos\xe9", 1], ["na\xefve", 2]]


def test_what_is_not_of_the_encoding_given_is_named(tmp_path):
    path = write(tmp_path, LATIN.encode("latin-1"))
    with pytest.raises(ConnectorError, match=r"line 2: b'\\xe9' is not ascii, as encoding= says"):
        csv_source(path, encoding="ascii")
    with pytest.raises(ConnectorError, match=r"line 3: .* is not utf-16"):
        csv_source(write(tmp_path, LATIN.encode("utf-16")[:-1]), encoding="utf-16")


@pytest.mark.parametrize("name", ["a.csv.gz", "A.CSV.GZ", "a.csv"])
def test_compressed_files_are_known_by_their_name_or_first_bytes(tmp_path, name):
    path = write(tmp_path, gzip.compress(b"a\n1\n"), name)
    assert read_all(csv_source(path)) == [{"a": 1}]


def test_bzip2_is_read(tmp_path):
    write(tmp_path, bz2.compress(b"a\n1\n"), "a.csv.bz2")
    assert read_all(csv_source(tmp_path)) == [{"a": 1}]


def test_a_compressed_file_that_is_cut_off_is_named(tmp_path):
    whole = gzip.compress("".join(f"{i * 7919 % 1000},{i}\n" for i in range(9_000)).encode())
    path = write(tmp_path, whole[: len(whole) // 2], "a.csv.gz")
    schema = pa.schema({"a": INT, "b": INT})
    with pytest.raises(ConnectorError, match=r"a\.csv\.gz' is not a readable CSV.*gzip.*cut off"):
        read_all(csv_source(path, schema=schema, header=False, block_bytes=4_096))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04" + b"x" * 60, "by its first bytes it is zip"),
        (b"PAR1" + b"\0" * 60, "for Parquet use read_parquet"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 60, "for HDF5 use read_hdf5"),
    ],
)
def test_a_file_of_another_kind_is_named(tmp_path, content, said):
    with pytest.raises(ConnectorError, match=said):
        csv_source(write(tmp_path, content))


def test_a_fault_behind_a_field_longer_than_python_allows_is_named(tmp_path):
    path = write(tmp_path, "a,b\n1," + "x" * 200_000 + "\nbad,y\n")
    limit = csv.field_size_limit()
    with pytest.raises(ConnectorError, match=r"line 3, column 'a': .*'bad'"):
        read_all(csv_source(path, column_types={"a": INT}))
    assert csv.field_size_limit() == limit


def test_column_types_may_be_named_and_cover_a_header_without_rows(tmp_path):
    path = write(tmp_path, "a,t\n")
    types = {"a": "int32", "t": "timestamp[ms, tz=UTC]"}
    source = csv_source(path, column_types=types)
    assert source.schema.types == [pa.int32(), pa.timestamp("ms", "UTC")]
    assert read_all(source) == []
