"""Every type of Arrow, in every place of a job: done right, or refused while the graph is built."""

from __future__ import annotations

import uuid
from collections import Counter
from decimal import Decimal

import duckdb
import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream import col, when
from hpcstream.testing import run_ranks

ONE, TWO = uuid.UUID(int=1), uuid.UUID(int=2**127 + 255)
BYTES = pa.array([ONE.bytes, TWO.bytes, None, ONE.bytes], pa.binary(16))
UUIDS = pa.ExtensionArray.from_storage(pa.uuid(), BYTES)
PLACES = pa.array([0, 1, None, 0])
TEXTS = pa.array(["a", "b", None, "a"])


def labelled(data_type, values):
    return pa.ExtensionArray.from_storage(data_type, pa.array(values, data_type.storage_type))


def counts(data_type):
    return pa.array([1, 2, None, 1], data_type)


COLUMNS = [
    *map(counts, [pa.int8(), pa.uint16(), pa.uint64(), pa.float16(), pa.float32(), pa.float64()]),
    *map(counts, [pa.date32(), pa.time32("s"), pa.time64("us"), pa.duration("ms")]),
    *map(counts, [pa.timestamp("ns"), pa.timestamp("s", "Europe/Paris")]),
    pa.array([86_400_000, 0, None, 86_400_000], pa.date64()),
    *(pa.array([Decimal(1), Decimal(2), None, Decimal(1)], t)
      for t in (pa.decimal32(5, 2), pa.decimal64(9, 2), pa.decimal128(9, 2), pa.decimal256(50, 2))),
    pa.array([True, False, None, True]),
    pa.nulls(4),
    *(TEXTS.cast(t) for t in (pa.string(), pa.large_string(), pa.string_view())),
    *(TEXTS.cast(t) for t in (pa.binary(), pa.large_binary(), pa.binary_view())),
    pa.array([b"ab", b"cd", None, b"ab"], pa.binary(2)),
    pa.array([(1, 2, 3), (2, 3, 4), None, (1, 2, 3)], pa.month_day_nano_interval()),
    UUIDS,
    labelled(pa.json_(), ["{}", "[]", None, "{}"]),
    labelled(pa.bool8(), [0, 1, None, 0]),
    labelled(pa.opaque(pa.int64(), "number", "vendor"), [1, 2, None, 1]),
    labelled(pa.opaque(pa.string(), "text", "vendor"), ["a", "b", None, "a"]),
    labelled(pa.fixed_shape_tensor(pa.float32(), [2]), [[1, 2], [3, 4], None, [1, 2]]),
    *(pa.array([[1], [2, None], None, [1]], t)
      for t in (pa.list_(pa.int8()), pa.large_list(pa.int8()), pa.list_view(pa.int8()))),
    pa.array([[1], [2], None, [1]], pa.list_(pa.int64(), 1)),
    pa.array([{"a": 1}, {"a": 2}, None, {"a": 1}]),
    pa.array([[("a", 1)], [("b", 2)], None, [("a", 1)]], pa.map_(pa.string(), pa.int64())),
    pa.RunEndEncodedArray.from_arrays([1, 2, 3, 4], TEXTS),
    *(counts(t).dictionary_encode() for t in (pa.date32(), pa.float32(), pa.int64())),
    pa.DictionaryArray.from_arrays(PLACES, pa.array(["a", "b"]), ordered=True),
    pa.DictionaryArray.from_arrays(PLACES.cast("uint64"), pa.array(["a", "b"], pa.string_view())),
    pa.DictionaryArray.from_arrays(PLACES.cast("int8"), pa.array([True, False])),
    pa.DictionaryArray.from_arrays(PLACES, pa.array([[1], [2]])),
    pa.DictionaryArray.from_arrays(PLACES, UUIDS.slice(0, 2)),
    pa.StructArray.from_arrays([TEXTS.cast(pa.string_view())], ["x"]),
    pa.UnionArray.from_sparse(
        pa.array([0, 1, 0, 0], pa.int8()), [pa.array([1, 2, 3, 1]), pa.array(["a", "b", "c", "a"])]
    ),
]  # fmt: skip
X = col("x")
WINDOW = hs.tumbling("1h")
AGGREGATES = ["count", "count_distinct", "min", "max", "first", "last", "sum", "mean", "median"]
USES = {
    "passed": lambda rows: rows.rebalance(),
    "null": lambda rows: rows.filter(X.is_null()),
    "equal": lambda rows: rows.filter(X == X),
    "less": lambda rows: rows.filter(X < X),
    "in": lambda rows: rows.filter(X.is_in([])),
    "when": lambda rows: rows.select("t", y=when(col("t") > 0).then(X).otherwise(None)),
    "filled": lambda rows: rows.select("t", y=X.fill_null(X)),
    "text": lambda rows: rows.select("t", y=X.cast("string")),
    "functions": lambda rows: rows.map_batches(lambda b: b).flat_map(lambda row: row),
    "key": lambda rows: rows.key_by("x").window(WINDOW).agg(n=hs.count()),
    "keys": lambda rows: rows.key_by("k", "x").window(WINDOW).agg(n=hs.count()),
    "joined": lambda rows: rows.join_table(pa.table({"x": [], "v": []}), on="x"),
}
for name in AGGREGATES:
    USES[f"{name} by key"] = lambda rows, name=name: (
        rows.key_by("k").window(WINDOW).agg(y=getattr(X, name)())
    )
    USES[f"{name} of all"] = lambda rows, name=name: rows.window_all(WINDOW).agg(
        y=getattr(X, name)()
    )


def uses_of(column):
    """Return the tables of all uses that are not refused in the plan, run on two ranks."""
    uses = USES | {
        "joined": lambda rows: rows.join_table(pa.table({"x": column, "v": range(4)}), on="x"),
        "added": lambda rows: rows.join_table(pa.table({"t": range(4), "y": column}), on="t"),
    }
    found = []

    def build():
        job = hs.Job("types")
        batches = [
            pa.record_batch({"t": [i, i + 1], "k": [1, 1], "x": column.slice(i, 2)}) for i in (0, 2)
        ]
        rows = job.from_batches(batches, event_time="t", event_time_unit="ms")
        collected, refused = {}, {}
        for name, use in uses.items():
            try:
                stream = use(rows)
            except hs.PlanError as error:
                refused[name] = str(error)
            else:
                collected[name] = stream.collect()
        found.append((collected, refused))
        return job

    run_ranks(2, build)
    collected, refused = found[0]
    assert all(str(column.type) in text or "x" in text for text in refused.values())
    return {name: one.table for name, one in collected.items()}


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: str(column.type))
def test_a_type_is_used_rightly_or_refused_in_the_plan(column):
    values = list(map(str, column.to_pylist()))
    if column.type == pa.bool8():
        values = ["False", "True", "None", "False"]

    tables = uses_of(column)

    for name, of in (("passed", "x"), ("filled", "y"), ("functions", "x"), ("added", "y")):
        if name in tables:
            rows = sorted(tables[name].select(["t", of]).to_pylist(), key=lambda row: row["t"])
            assert [str(row[of]) for row in rows] == values, name
    for name in ("key", "keys"):
        if name in tables:
            keys = map(str, tables[name]["x"].to_pylist())
            rows = dict(zip(keys, tables[name]["n"].to_pylist(), strict=True))
            assert rows == Counter(values), name
    known = [value for value in values if value != "None"]
    for name, expected in (("count", len(known)), ("count_distinct", len(set(known)))):
        for of in ("by key", "of all"):
            if f"{name} {of}" in tables:
                assert tables[f"{name} {of}"]["y"].to_pylist() == [expected]
    if "joined" in tables:
        assert tables["joined"].num_rows == sum(n * n for n in Counter(known).values())
    if "null" in tables:
        assert tables["null"].num_rows == len(values) - len(known)
    for name in ("first by key", "last of all"):
        if name in tables:
            assert list(map(str, tables[name]["y"].to_pylist())) == (known[:1] or ["None"])


def test_uuids_of_a_file_are_keys_values_and_texts(tmp_path):
    path = tmp_path / "users.parquet"
    duckdb.sql(f"copy (select i::bigint as t, uuid() as id from range(50) r(i)) to '{path}'")
    ids = duckdb.sql(f"select id from '{path}' order by t").fetchall()
    job = hs.Job("uuids")
    rows = job.read_parquet(path, event_time="t", event_time_unit="ms")
    counted = rows.key_by("id").window(WINDOW).agg(n=hs.count()).collect()
    texts = rows.select(text=col("id").cast("string")).collect()
    found = rows.filter(col("id").is_in([ids[3][0]]) | (col("id") == ids[7][0])).collect()
    extremes = rows.window_all(WINDOW).agg(a=col("id").min(), b=col("id").max()).collect()
    job.run(show=False)

    assert {row["id"]: row["n"] for row in counted.table.to_pylist()} == {one: 1 for (one,) in ids}
    assert texts.table["text"].to_pylist() == [str(one) for (one,) in ids]
    assert found.table["t"].to_pylist() == [3, 7]
    ordered = sorted(one for (one,) in ids)
    (row,) = extremes.table.select(["a", "b"]).to_pylist()
    assert (row["a"], row["b"]) == (ordered[0], ordered[-1])


def test_a_cast_to_an_extension_type_is_from_what_it_is_stored_as():
    batch = pa.record_batch({"x": BYTES, "text": TEXTS})

    assert col("x").cast("uuid").evaluate(batch).to_pylist() == [ONE, TWO, None, ONE]
    with pytest.raises(hs.PlanError, match=r"stored as fixed_size_binary\[16\]"):
        col("text").cast("uuid").data_type(batch.schema)
    one = hs.lit(ONE).cast("string").evaluate(batch)
    assert one[0].as_py() == str(ONE)
