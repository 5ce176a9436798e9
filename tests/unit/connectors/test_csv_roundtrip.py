"""What write_csv writes, read_csv reads back."""

import datetime as dt
import decimal

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcstream.connectors.formats.csv.format import csv_source
from hpcstream.connectors.parts.sinks import csv_sink
from hpcstream.errors import ConnectorError
from tests.unit.connectors.source_contract import read_rest

TEXTS = st.text(st.sampled_from("ab\",;\t\r\n' 0\u2028\x85é\0"), max_size=6) | st.sampled_from(
    ["", "NA", "null", "NaN", "nan", "007", "\r\n", '"', "#N/A", " ", "\ufeff", "1e5"]
)
FLOATS = st.floats() | st.sampled_from([0.0, -0.0, float("inf"), float("nan"), 1e300, 5e-324])


def times(unit):
    per_second = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}[unit]
    most = 9_000_000_000 * per_second if unit == "ns" else 62_135_596_800 * per_second
    return st.integers(-most, most)


VALUES = {
    pa.string(): TEXTS,
    pa.large_string(): TEXTS,
    pa.binary(): TEXTS.map(str.encode),
    pa.dictionary(pa.int32(), pa.string()): TEXTS,
    pa.dictionary(pa.int64(), pa.int64()): st.integers(-(2**63), 2**63 - 1),
    pa.bool_(): st.booleans(),
    **{t: st.integers(-(2 ** (t.bit_width - 1)), 2 ** (t.bit_width - 1) - 1)
       for t in (pa.int8(), pa.int16(), pa.int32(), pa.int64())},
    **{t: st.integers(0, 2**t.bit_width - 1)
       for t in (pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64())},
    pa.float64(): FLOATS,
    pa.float32(): st.floats(width=32),
    pa.float16(): st.floats(width=16),
    pa.decimal128(9, 2): st.decimals(-9999999, 9999999, places=2),
    pa.decimal256(50, 2): st.decimals(-9999999, 9999999, places=2),
    pa.date32(): st.dates(),
    pa.date64(): st.dates(),
    pa.time32("s"): st.integers(0, 86_399),
    pa.time32("ms"): st.integers(0, 86_399_999),
    pa.time64("us"): st.times(),
    pa.time64("ns"): st.integers(0, 86_399_999_999_999),
    **{pa.timestamp(u): times(u) for u in ("s", "ms", "us", "ns")},
    pa.timestamp("us", "UTC"): times("us"),
    pa.timestamp("ms", "Europe/Berlin"): times("ms"),
    pa.duration("us"): st.integers(-(2**62), 2**62),
    pa.null(): st.none(),
}  # fmt: skip


@st.composite
def tables(draw, types=tuple(VALUES)):
    n_rows = draw(st.integers(0, 12))
    columns = draw(st.lists(st.sampled_from(types), min_size=1, max_size=4))
    names = draw(
        st.lists(st.text('ab,"; \n', min_size=1), min_size=len(columns), max_size=len(columns),
                 unique=True)
    )  # fmt: skip
    arrays = []
    for one in columns:
        values = st.lists(st.none() | VALUES[one], min_size=n_rows, max_size=n_rows)
        plain = one.value_type if pa.types.is_dictionary(one) else one
        array = pa.array(draw(values), plain)
        arrays.append(array.dictionary_encode().cast(one) if plain is not one else array)
    return pa.table(arrays, names=names)


def write(table, directory, **options):
    sink = csv_sink(directory, **options)
    sink.begin(table.schema, rank=0, size=1, attempt=0)
    for batch in table.to_batches():
        sink.write(batch)
    sink.commit(sink.prepare())


def read(directory, schema, **options):
    source = csv_source(directory, schema=schema, newlines_in_values=True, **options)
    batches = [b for split in source.list_splits() for b in read_rest(source.open(split), 5)]
    return pa.Table.from_batches(batches, schema)


def shown(table):
    """Values as texts, in which NaN and both zeros differ; None for null."""
    return [[text_of(value) for value in column] for column in table.columns]


def text_of(value):
    if not value.is_valid:
        return None
    return str(value.as_py() if pa.types.is_dictionary(value.type) else value)


@settings(max_examples=150, deadline=None)
@given(
    table=tables(),
    delimiter=st.sampled_from(",;\t|"),
    header=st.booleans(),
    block_bytes=st.integers(400, 500) | st.just(1 << 20),
)
def test_what_is_written_is_read_back(tmp_path_factory, table, delimiter, header, block_bytes):
    directory = tmp_path_factory.mktemp("out")
    options = {"delimiter": delimiter, "header": header}

    write(table, directory, **options)
    back = read(directory, table.schema, block_bytes=block_bytes, **options)

    assert back.schema == table.schema
    assert shown(back) == shown(table)


@settings(max_examples=40, deadline=None)
@given(table=tables((pa.string(), pa.int64(), pa.float64(), pa.timestamp("us"))))
def test_duckdb_reads_the_same(tmp_path_factory, table):
    table = table.rename_columns([f"c{i}" for i in range(table.num_columns)])
    table = pa.table([no_controls(c) for c in table.columns], names=table.column_names)
    directory = tmp_path_factory.mktemp("out")
    write(table, directory)
    types = ["VARCHAR" if pa.types.is_string(t) else "DOUBLE" if pa.types.is_float64(t)
             else "BIGINT" if pa.types.is_int64(t) else "TIMESTAMP"
             for t in table.schema.types]  # fmt: skip
    columns = dict(zip(table.column_names, types, strict=True))

    rows = duckdb.read_csv(
        f"{directory}/*.csv", columns=columns, header=True, allow_quoted_nulls=False,
        auto_detect=False, delimiter=",", quotechar='"', escapechar='"',
    ).fetchall()  # fmt: skip

    assert [list(map(repr, row)) for row in rows] == [
        list(map(repr, row.values())) for row in table.to_pylist()
    ]


def no_controls(column):
    """DuckDB takes no lone CR and no zero byte."""
    if not pa.types.is_string(column.type):
        return column
    return pa.array([v and v.replace("\r", "").replace("\0", "") for v in column.to_pylist()],
                    pa.string())  # fmt: skip


@pytest.mark.parametrize(
    ("value", "data_type"),
    [(253_402_300_800, pa.timestamp("s")), (-(2**62), pa.timestamp("us")),
     (3_000_000, pa.date32()), (-(10**15), pa.date64())],
)  # fmt: skip
def test_a_time_that_csv_cannot_write_is_refused(tmp_path, value, data_type):
    table = pa.table({"t": pa.array([value], data_type)})
    with pytest.raises(ConnectorError, match=r"column 't'.*beyond the years 1 to 9999"):
        write(table, tmp_path)


def test_nan_is_a_number_and_null_is_none(tmp_path):
    table = pa.table({"a": [float("nan"), None, 1.5], "b": ["x", None, ""]})
    write(table, tmp_path)
    source = csv_source(tmp_path)
    (split,) = source.list_splits()
    (batch,) = read_rest(source.open(split), 9)
    assert shown(batch) == [["nan", None, "1.5"], ["x", None, ""]]


def test_decimals_and_dates_keep_their_types(tmp_path):
    rows = {"d": [decimal.Decimal("1.50"), None], "t": [dt.date(1, 1, 1), dt.date(9999, 12, 31)]}
    table = pa.table(rows, pa.schema({"d": pa.decimal128(5, 2), "t": pa.date32()}))
    write(table, tmp_path)
    assert read(tmp_path, table.schema) == table
