import datetime as dt
from decimal import Decimal

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hpcstream as hs
from hpcstream import col
from hpcstream.columns.event_time import TIME_COLUMN
from hpcstream.errors import PlanError
from hpcstream.operators.base import PAUSE
from hpcstream.operators.joins.keys import check_join_keys
from hpcstream.operators.joins.table import JoinTable
from hpcstream.operators.joins.table_index import KeyIndex
from hpcstream.operators.joins.table_join import table_join

DUCKDB = duckdb.connect()  # to start one takes longer than a query
DAY = dt.date(2001, 1, 31)
TYPES = {
    "int8": (pa.int8(), [1, 2, 3, -1]),
    "int64": (pa.int64(), [1, 2, 2**63 - 1, -(2**63)]),
    "uint64": (pa.uint64(), [1, 2, 2**64 - 1]),
    "string": (pa.string(), ["", "a", "ab", "a longer key than a word", "é"]),
    "large_string": (pa.large_string(), ["", "a", "ab"]),
    "dictionary": (pa.dictionary(pa.int8(), pa.string()), ["x", "y", "z"]),
    "string_view": (pa.string_view(), ["", "a", "a longer key than a word"]),
    "binary": (pa.binary(), [b"", b"\x00", b"\x00\x00"]),
    "bool": (pa.bool_(), [True, False]),
    "float64": (pa.float64(), [0.0, 1.5, -2.0, float("inf")]),
    "date32": (pa.date32(), [DAY, DAY + dt.timedelta(days=1)]),
    "timestamp": (pa.timestamp("us"), [dt.datetime(2001, 1, 1), dt.datetime(1960, 1, 1)]),
    "decimal": (pa.decimal128(20, 2), [Decimal("1.50"), Decimal("-7.00")]),
    "fixed": (pa.binary(3), [b"abc", b"abd"]),
}


def keys_of(name):
    data_type, values = TYPES[name]
    keys = st.lists(st.none() | st.sampled_from(values), max_size=25)
    return keys.map(lambda keys: pa.array(keys, data_type))


def stream_of(**columns):
    n_rows = len(next(iter(columns.values())))
    numbers = {"row": np.arange(n_rows), TIME_COLUMN: np.arange(n_rows) + 1000}
    return pa.record_batch({**columns, **numbers})


def table_of(**columns):
    n_rows = len(next(iter(columns.values())))
    return pa.table({**columns, "entry": pa.array(range(n_rows), pa.int64())})


def joined(operator, *batches):
    schema = operator.output_schema(batches[0].schema)
    out = [emitted for batch in batches for emitted in operator.process_batch(batch)]
    for batch in out:
        batch.validate(full=True)
        assert batch.schema.equals(schema)
    return pa.Table.from_batches(out, schema)


def in_duckdb(stream, table, keys, how):
    con = DUCKDB
    con.register("s", plain(pa.Table.from_batches([stream])))
    con.register("t", plain(table))
    on = " and ".join(f"s.{key} = t.{key}" for key in keys)
    sql = f"select s.row, t.entry from s {how} join t on {on} order by s.row, t.entry nulls first"
    return con.execute(sql).fetchall()


def plain(table):
    large = [pa.large_string() if pa.types.is_dictionary(f.type) else f.type for f in table.schema]
    return table.cast(pa.schema(list(zip(table.schema.names, large, strict=True))))


def pairs(table):
    return list(zip(table["row"].to_pylist(), table["entry"].to_pylist(), strict=True))


@pytest.mark.parametrize("how", ["inner", "left"])
@pytest.mark.parametrize("name", [name for name in TYPES if name != "fixed"])
@settings(max_examples=12)
@given(data=st.data())
def test_join_on_one_key_of_any_type_equals_sql(name, how, data):
    stream, table = stream_of(k=data.draw(keys_of(name))), table_of(k=data.draw(keys_of(name)))

    out = joined(JoinTable(table_join(table, ["k"], ["k"], how)), stream)

    assert pairs(out) == in_duckdb(stream, table, ["k"], how)
    assert out[TIME_COLUMN].to_pylist() == [row + 1000 for row in out["row"].to_pylist()]


@pytest.mark.parametrize("how", ["inner", "left"])
@settings(max_examples=25)
@given(data=st.data())
def test_join_on_three_keys_equals_sql(how, data):
    names = ["int8", "string", "bool"]
    rows = st.lists(
        st.tuples(*(st.none() | st.sampled_from(TYPES[name][1]) for name in names)), max_size=25
    )

    def columns(rows):
        return {
            f"k{i}": pa.array([row[i] for row in rows], TYPES[name][0])
            for i, name in enumerate(names)
        }

    stream, table = stream_of(**columns(data.draw(rows))), table_of(**columns(data.draw(rows)))
    keys = ["k0", "k1", "k2"]

    out = joined(JoinTable(table_join(table, keys, keys, how)), stream)

    assert pairs(out) == in_duckdb(stream, table, keys, how)


@pytest.mark.parametrize("how", ["inner", "left"])
@pytest.mark.parametrize("name", ["string", "large_string", "binary", "dictionary", "int64"])
@given(data=st.data())
@settings(max_examples=15)
def test_a_join_of_some_rows_is_that_of_a_filtered_stream(name, how, data):
    keys = data.draw(keys_of(name))
    n_rows = len(keys)
    wanted = data.draw(st.lists(st.booleans() | st.none(), min_size=n_rows, max_size=n_rows))
    stream = stream_of(k=keys, wanted=pa.array(wanted, pa.bool_()), text=keys)
    table = table_of(k=data.draw(keys_of(name)))
    kept = stream.filter(stream.column("wanted")).drop_columns(["wanted"])
    names = ["k", "row", "text", "entry"]
    join = table_join(table, "k", "k", how).emitting(kept.schema, names)
    expected = joined(JoinTable(join), kept)

    operator = JoinTable(join, col("wanted"))

    assert joined(operator, stream, stream.slice(n_rows // 2)).slice(0, len(expected)) == expected


def test_fixed_size_binary_keys_match():
    stream = stream_of(k=pa.array([b"abd", b"xxx", None], pa.binary(3)))
    table = table_of(k=pa.array([b"abc", b"abd"], pa.binary(3)))

    assert pairs(joined(JoinTable(table_join(table, ["k"], ["k"])), stream)) == [(0, 1)]


def test_integers_of_any_width_and_texts_of_any_form_match():
    stream = stream_of(n=pa.array([1, 300], pa.int16()), s=pa.array(["a", "b"]).dictionary_encode())
    table = table_of(n=pa.array([300, 1], pa.uint32()), s=pa.array(["b", "a"], pa.large_string()))

    assert pairs(joined(JoinTable(table_join(table, ["n"], ["n"])), stream)) == [(0, 1), (1, 0)]
    assert pairs(joined(JoinTable(table_join(table, ["s"], ["s"])), stream)) == [(0, 1), (1, 0)]


def test_zero_is_zero_and_not_a_number_equals_itself():
    stream = stream_of(k=pa.array([-0.0, float("nan")], pa.float32()))
    table = table_of(k=pa.array([0.0, float("nan")]))

    assert pairs(joined(JoinTable(table_join(table, ["k"], ["k"])), stream)) == [(0, 0), (1, 1)]


def test_slices_of_batches_join_like_whole_ones():
    stream = stream_of(k=pa.array(["a", None, "c", "b", "a"]))
    table = table_of(k=["b", "a"])
    operator = JoinTable(table_join(table.slice(0, 2), ["k"], ["k"]))

    out = joined(operator, stream.slice(0, 2), stream.slice(2, 3), stream.slice(1, 1))

    assert pairs(out) == [(0, 1), (3, 0), (4, 1)]


def test_columns_come_from_stream_then_table_then_the_engine():
    stream = stream_of(id=[7], name=["mine"])
    table = pa.table({"key": [7], "name": ["theirs"], "size": [3]})

    out = joined(JoinTable(table_join(table, ["id"], ["key"], suffix="_t")), stream)

    assert out.column_names == ["id", "name", "row", "name_t", "size", TIME_COLUMN]
    assert out["name_t"].to_pylist() == ["theirs"]


def test_a_left_join_with_an_empty_table_keeps_all_rows():
    stream = stream_of(k=[1, 2])
    empty = pa.table({"k": pa.array([], pa.int64()), "entry": pa.array([], pa.int64())})

    assert pairs(joined(JoinTable(table_join(empty, ["k"], ["k"], "left")), stream)) == [
        (0, None),
        (1, None),
    ]
    assert pairs(joined(JoinTable(table_join(empty, ["k"], ["k"])), stream)) == []


def test_many_matches_come_in_batches_of_bounded_size():
    stream, table = stream_of(k=np.zeros(300, np.int64)), table_of(k=np.zeros(1000, np.int64))
    operator = JoinTable(table_join(table, ["k"], ["k"]))

    emitted = list(operator.process_batch(stream))
    batches = emitted[::2]

    assert emitted[1::2] == [PAUSE] * (len(batches) - 1)
    assert max(batch.num_rows for batch in batches) <= 65_536
    assert sum(batch.num_rows for batch in batches) == 300_000
    assert batches[0]["entry"][:3].to_pylist() == [0, 1, 2]


def test_a_table_of_many_chunks_is_joined_whole():
    table = pa.concat_tables([table_of(k=[1, 2]), table_of(k=[3, 4])])

    out = joined(JoinTable(table_join(table, ["k"], ["k"])), stream_of(k=[4, 1]))

    assert pairs(out) == [(0, 1), (1, 0)]


def test_the_operator_keeps_no_state():
    operator = JoinTable(table_join(table_of(k=[1]), ["k"], ["k"]))
    operator.restore(operator.snapshot())

    assert list(operator.process_watermark(5)) == []


@pytest.mark.parametrize(
    ("stream_type", "table_type"),
    [
        (pa.int64(), pa.string()),
        (pa.int64(), pa.float64()),
        (pa.int64(), pa.uint64()),
        (pa.timestamp("us"), pa.timestamp("ms")),
        (pa.timestamp("us"), pa.timestamp("us", "UTC")),
        (pa.decimal128(10, 2), pa.decimal128(10, 3)),
        (pa.list_(pa.int64()), pa.list_(pa.int64())),
    ],
)
def test_keys_of_types_that_do_not_compare_are_refused_with_both_types(stream_type, table_type):
    stream, table = pa.schema([("id", stream_type)]), pa.schema([("key", table_type)])

    with pytest.raises(PlanError) as error:
        check_join_keys(stream, table, ["id"], ["key"])

    assert f"'id' is {stream_type}" in str(error.value)
    assert f"'key' is {table_type}" in str(error.value)


def test_wrong_columns_and_names_are_refused():
    table = table_of(key=[1])
    with pytest.raises(PlanError, match="did you mean 'key'"):
        table_join(table, ["k"], ["kez"])
    with pytest.raises(PlanError, match="no column 'x'"):
        table_join(table, ["x"], ["key"]).output_schema(pa.schema([("k", pa.int64())]))
    schema = pa.schema([(n, pa.int64()) for n in ("k", "entry", "entry_right")])
    with pytest.raises(PlanError, match="more than one output column named 'entry_right'"):
        table_join(table, ["k"], ["key"]).output_schema(schema)
    with pytest.raises(ValueError, match="as many key columns"):
        table_join(table, ["a", "b"], ["key"])
    with pytest.raises(ValueError, match="expected 'inner' or 'left'"):
        table_join(table, ["a"], ["key"], "outer")


def test_description_names_keys_and_size():
    join = table_join(table_of(key=[1, 2], k=[1, 2]), ["id", "k"], ["key", "k"], "left")

    assert join.describe() == "join_table(left on id = key, k; 2 rows)"


def test_a_null_among_the_values_of_a_dictionary_matches_nothing():
    for values, other in ((["a", None], ""), ([7, None], 0)):
        indices = pa.array([0, 1, None], pa.int32())
        keys = pa.DictionaryArray.from_arrays(indices, pa.array(values))
        table = pa.table({"k": keys, "v": [1, 2, 3]})
        batch = pa.record_batch({"k": [other, values[0], None]})

        (joined,) = JoinTable(table_join(table, ["k"], ["k"])).process_batch(batch)

        assert joined.to_pylist() == [{"k": values[0], "v": 1}]


def test_columns_of_views_are_joined_and_added():
    table = pa.table({"k": ["a", "b", "b"], "v": pa.array(["x", None, "z"], pa.string_view())})
    batch = pa.record_batch({"k": pa.array(["b", "no", "a", None], pa.string_view())})

    (joined,) = JoinTable(table_join(table, ["k"], ["k"])).process_batch(batch)

    expected = [{"k": "b", "v": None}, {"k": "b", "v": "z"}, {"k": "a", "v": "x"}]
    assert joined.to_pylist() == expected
    assert joined.schema.field("v").type == pa.large_string()


def test_an_index_of_strings_is_as_large_as_its_distinct_keys():
    index = KeyIndex([pa.array(["a", "bc", ""] * 1000)])

    assert index.find([pa.array(["", "no", "bc"])]).tolist() == [2, -1, 1]
    (strings,) = index._columns
    assert sum(a.nbytes for a in (strings._records, strings._data, strings._slots)) < 1000
    assert index.find([pa.array(["a"])], np.zeros(0, np.int32)).tolist() == []


def test_a_table_is_read_from_a_file_as_a_stream_of_it_is(tmp_path):
    (tmp_path / "a.CSV").write_text('id,name\n007,NA\n010,""\n011,\n')
    (tmp_path / "a.jsonl").write_text('{"id": "007", "name": "NA"}\n{"id": "010", "name": ""}\n')
    for file, names in (("a.CSV", ["NA", "", None]), ("a.jsonl", ["NA", "", None])):
        job = hs.Job("enriched")
        rows = job.from_batches(pa.table({"id": ["007", "010", "011"]}))
        found = rows.join_table(tmp_path / file, on="id", how="left").collect()
        job.run(show=False)
        assert found.table.sort_by("id")["name"].to_pylist() == names
