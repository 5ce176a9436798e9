import gzip

import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest

from hpcstream.connectors.formats.csv.format import csv_source
from hpcstream.errors import ConnectorError
from tests.unit.connectors.source_contract import SourceContract, read_all, sample_table


class TestCsvOfSeveralFiles(SourceContract):
    @pytest.fixture
    def source(self, tmp_path):
        pa_csv.write_csv(sample_table().slice(0, 700), tmp_path / "a.csv")
        pa_csv.write_csv(sample_table().slice(700), tmp_path / "b.csv")
        return csv_source(tmp_path, event_time="time", unit="ms", block_bytes=3_000)


class TestCompressedCsv(SourceContract):
    @pytest.fixture
    def source(self, tmp_path):
        with gzip.open(tmp_path / "a.csv.gz", "wb") as file:
            pa_csv.write_csv(sample_table(), file)
        return csv_source(tmp_path, schema=sample_table().schema)


def write(tmp_path, text, name="a.csv"):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_bad_number_is_named_by_file_line_and_column(tmp_path):
    path = write(tmp_path, "a,b\n1,2\n\n\n3,4\n5,x\n")
    source = csv_source(path, column_types={"b": pa.int64()})
    with pytest.raises(ConnectorError, match=r"a\.csv', line 6, column 'b': .*int64.*'x'"):
        read_all(source)


@pytest.mark.parametrize("columns", [["c"], ["c", "a"], ["a", "b", "c"]])
def test_the_column_is_named_right_whichever_are_read(tmp_path, columns):
    types = dict.fromkeys("abc", pa.int64())
    source = csv_source(write(tmp_path, "a,b,c\n1,2,3\n4,5,oops\n"), column_types=types)
    with pytest.raises(ConnectorError, match=r"line 3, column 'c'"):
        read_all(source.project(columns))


def test_a_bad_number_far_behind_the_first_block_is_found(tmp_path):
    path = write(tmp_path, "a,b\n" + "1,2\n" * 5_000 + "3,oops\n" + "1,2\n" * 50)
    source = csv_source(path, block_bytes=1_000)
    with pytest.raises(ConnectorError, match=r"line 5002, column 'b'.*column_types="):
        read_all(source)


def test_a_value_with_line_breaks_does_not_shift_the_line(tmp_path):
    path = write(tmp_path, 'a,b\n1,"x\ny"\n2,z\noops,z\n')
    source = csv_source(path, column_types={"a": pa.int64()}, newlines_in_values=True)
    with pytest.raises(ConnectorError, match="line 5, column 'a'"):
        read_all(source)


def test_a_row_of_another_length_is_named_by_its_line(tmp_path):
    with pytest.raises(ConnectorError, match=r"line 3: Expected 2 columns, got 3"):
        read_all(csv_source(write(tmp_path, "a,b\n1,2\n3,4,5\n")))


def test_invalid_utf8_is_named(tmp_path):
    path = write(tmp_path, b"a,b\n1,caf\xe9\n")
    with pytest.raises(ConnectorError, match=r"line 2, column 'b': b'caf\\xe9' is not UTF-8"):
        read_all(csv_source(path, column_types={"b": pa.string()}))


def test_an_empty_file_needs_a_schema_to_mean_no_rows(tmp_path):
    path = write(tmp_path, "")
    with pytest.raises(ConnectorError, match=r"a\.csv' is empty; .*header"):
        csv_source(path)
    assert read_all(csv_source(path, schema=pa.schema({"a": pa.int64()}))) == []


def test_a_header_alone_needs_a_schema_to_mean_no_rows(tmp_path):
    path = write(tmp_path, "a,b\n")
    with pytest.raises(ConnectorError, match=r"no rows to infer types from; give schema="):
        csv_source(path)
    schema = pa.schema({"a": pa.int64(), "b": pa.string()})
    assert read_all(csv_source(path, schema=schema)) == []


def test_a_header_that_does_not_fit_the_schema_is_named(tmp_path):
    path = write(tmp_path, "a,x\n1,2\n")
    source = csv_source(path, schema=pa.schema({"a": pa.int64(), "b": pa.int64()}))
    with pytest.raises(ConnectorError, match=r"column 'b' \(int64\) is missing"):
        source.list_splits()


def test_a_second_file_with_another_header_is_named(tmp_path):
    write(tmp_path, "a,b\n1,2\n", "1.csv")
    write(tmp_path, "a,c\n1,2\n", "2.csv")
    with pytest.raises(ConnectorError, match=r"2\.csv' does not have the schema of '.*1\.csv"):
        csv_source(tmp_path).list_splits()


def test_types_inferred_from_the_first_file_hold_for_the_others(tmp_path):
    write(tmp_path, "a\n1\n", "1.csv")
    write(tmp_path, "a\n2.5\n", "2.csv")
    with pytest.raises(ConnectorError, match=r"2\.csv', line 2, column 'a'"):
        read_all(csv_source(tmp_path))


def test_a_file_without_header_takes_its_names_from_schema_or_argument(tmp_path):
    path = write(tmp_path, "1;x\n2;y\n")
    schema = pa.schema({"n": pa.int64(), "s": pa.string()})
    expected = [{"n": 1, "s": "x"}, {"n": 2, "s": "y"}]
    assert read_all(csv_source(path, header=False, delimiter=";", schema=schema)) == expected
    names = csv_source(path, header=False, delimiter=";", column_names=["n", "s"])
    assert read_all(names) == expected
    numbered = csv_source(path, header=False, delimiter=";")
    assert numbered.schema.names == ["f0", "f1"]


def test_a_column_without_values_in_the_first_block_is_text(tmp_path):
    path = write(tmp_path, "a,b\n" + "1,\n" * 100 + "2,late\n")
    rows = read_all(csv_source(path, block_bytes=64))
    assert rows[-1] == {"a": 2, "b": "late"}


def test_null_spellings_hold_for_every_column(tmp_path):
    path = write(tmp_path, "a,b\n1,-\n-,x\n")
    rows = read_all(csv_source(path, null_values=["-"]))
    assert rows == [{"a": 1, "b": None}, {"a": None, "b": "x"}]


def test_times_are_read_as_timestamps(tmp_path):
    path = write(tmp_path, "t,v\n2001-01-01 00:00:05,1\n")
    source = csv_source(path, event_time="t")
    assert pa.types.is_timestamp(source.schema.field("t").type)


def test_a_byte_order_mark_is_not_part_of_the_first_name(tmp_path):
    assert read_all(csv_source(write(tmp_path, b"\xef\xbb\xbfa\n1\n"))) == [{"a": 1}]


def test_a_row_longer_than_a_block_says_what_to_change(tmp_path):
    path = write(tmp_path, "a,b\n1,x\n2," + "y" * 500 + "\n")
    with pytest.raises(ConnectorError, match="block_bytes=100"):
        read_all(csv_source(path, block_bytes=100))


def test_two_columns_of_one_name_are_refused(tmp_path):
    with pytest.raises(ConnectorError, match="2 columns are named 'a'"):
        csv_source(write(tmp_path, "a,a\n1,2\n"))


def test_an_unknown_column_in_column_types_is_named(tmp_path):
    with pytest.raises(ConnectorError, match="no column 'z'"):
        csv_source(write(tmp_path, "a\n1\n"), column_types={"z": pa.int64()})


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"delimiter": ";;"}, ValueError, "one ASCII character"),
        ({"delimiter": '"'}, ValueError, "neither a quote"),
        ({"encoding": "latin-99"}, ValueError, "no such text encoding"),
        ({"encoding": "hex"}, ValueError, "no such text encoding"),
        ({"null_values": "NA"}, TypeError, "a list of texts"),
        ({"block_bytes": 1}, ValueError, "at least 2"),
        ({"column_types": {"a": "int46"}}, ValueError, "column 'a': there is no type 'int46'"),
        ({"column_types": {"a": 3}}, ValueError, "column 'a': type 3: expected a pyarrow type"),
        ({"column_types": {3: "int64"}}, TypeError, "3 is not the name of a column"),
        ({"schema": ["a"]}, TypeError, "expected a pyarrow schema"),
        ({"separator": ";"}, TypeError, "separator"),
    ],
)
def test_options_that_are_wrong_are_refused(tmp_path, options, error, said):
    with pytest.raises(error, match=said):
        csv_source(write(tmp_path, "a\n1\n"), **options)
