import datetime as dt
from decimal import Decimal
from zoneinfo import ZoneInfo

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hpcstream.expressions.expression as module
from hpcstream.errors import PlanError
from hpcstream.expressions.expression import Expression, col, lit, when

BATCH = pa.record_batch(
    {
        "small": pa.array([1, 2, None, 127], pa.int8()),
        "n": pa.array([3, -7, None, 0]),
        "u": pa.array([1, 2, None, 2**64 - 1], pa.uint64()),
        "x": pa.array([1.5, None, -0.5, 2.0]),
        "single": pa.array([0.1, 1.0, None, 2.0], pa.float32()),
        "flag": pa.array([True, False, None, True]),
        "text": pa.array(["a", "Bc", None, ""]),
        "word": pa.array(["p", "q", None, "p"]).dictionary_encode(),
        "price": pa.array([Decimal("1.50"), Decimal("2.25"), None, Decimal("-3.00")]),
        "day": pa.array([0, 31, None, 400], pa.int32()).cast(pa.date32()),
        "time": pa.array([0, 1_500_000, None, 86_400_000_000], pa.timestamp("us")),
        "zoned": pa.array([0, 1_500_000, None, 0], pa.timestamp("us", "Europe/Berlin")),
        "length": pa.array([1, 2, None, 3], pa.duration("s")),
    }
)
SCHEMA = BATCH.schema


def values(expression, batch=BATCH):
    out = expression.evaluate(batch)
    assert len(out) == batch.num_rows
    assert out.type == expression.data_type(batch.schema)
    return out.to_pylist()


# Arithmetic


def test_integers_are_computed_in_64_bits():
    assert values(col("small") * 1000) == [1000, 2000, None, 127000]
    assert (col("small") + col("small")).data_type(SCHEMA) == pa.int64()
    assert (col("u") + 0).data_type(SCHEMA) == pa.uint64()
    assert (col("u") - col("small").fill_null(0)).data_type(SCHEMA) == pa.int64()


@pytest.mark.parametrize("expression", [col("n") + 1, col("n") * 2, col("n") - -1])
def test_overflow_raises_and_names_the_expression(expression):
    batch = pa.record_batch({"n": [2**63 - 1]})

    with pytest.raises(pa.ArrowInvalid, match="overflow") as error:
        expression.evaluate(batch)

    assert repr(expression) in error.value.__notes__[0]


def test_overflow_of_the_opposite_raises():
    with pytest.raises(pa.ArrowInvalid, match="overflow"):
        (-col("n")).evaluate(pa.record_batch({"n": [-(2**63)]}))


def test_division_gives_floats_and_follows_ieee():
    assert values(col("n") / 2) == [1.5, -3.5, None, 0.0]
    assert values(col("n") / 0)[:2] == [float("inf"), float("-inf")]
    assert (col("price") / col("n")).data_type(SCHEMA) == pa.float64()
    assert (col("single") / 2).data_type(SCHEMA) == pa.float32()


@given(
    pairs=st.lists(
        st.tuples(
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.integers(-9, 9).filter(bool),
        ),
        min_size=1,
    )
)
def test_floor_division_and_remainder_round_down_as_python_does(pairs):
    pairs = [p for p in pairs if p != (-(2**63), -1)] or [(1, 1)]
    batch = pa.record_batch(
        {"a": pa.array([p[0] for p in pairs], pa.int64()), "b": pa.array([p[1] for p in pairs])}
    )
    batch = batch.cast(pa.schema([("a", pa.int64()), ("b", pa.int64())]))
    known = [None if None in p else p for p in pairs]

    assert values(col("a") // col("b"), batch) == [p and p[0] // p[1] for p in known]
    assert values(col("a") % col("b"), batch) == [p and p[0] % p[1] for p in known]


def test_integer_division_by_zero_raises_only_where_both_are_known():
    with pytest.raises(ZeroDivisionError, match="filter zeros out"):
        (lit(1) // col("n")).evaluate(BATCH)
    batch = pa.record_batch({"a": pa.array([None, 5], pa.int64()), "b": [0, 2]})
    assert values(col("a") % col("b"), batch) == [None, 1]
    assert values(col("x") % 0.0)[1] is None


def test_floor_division_that_leaves_int64_raises():
    with pytest.raises(OverflowError, match="int64"):
        (col("n") // -1).evaluate(pa.record_batch({"n": [-(2**63)]}))


def test_floor_division_of_slices_and_constants():
    assert values(col("n") // 2, BATCH.slice(1, 2)) == [-4, None]
    assert values(7 // lit(2)) == [3] * 4
    assert values(7 % col("small")) == [0, 1, None, 7]
    assert values(col("n") // lit(None)) == [None] * 4
    assert values(col("price") // 1) == [1.0, 2.0, None, -3.0]


def test_powers():
    assert values(col("small") ** 2) == [1, 4, None, 16129]
    assert values(2 ** col("x")) == [2**1.5, None, 2**-0.5, 4.0]
    assert values(col("small") ** -1)[:2] == [1.0, 0.5]


def test_decimals_stay_exact():
    assert values(col("price") * 2)[:2] == [Decimal("3.00"), Decimal("4.50")]
    assert values(col("price") + col("price"))[0] == Decimal("3.00")
    assert values(col("price") * 0.5)[:2] == [0.75, 1.125]
    assert values(col("price") >= 2) == [False, True, None, False]
    assert values(col("price") == Decimal("2.25")) == [False, True, None, False]


def test_text_is_joined_with_plus():
    assert values(col("text") + "-" + col("word")) == ["a-p", "Bc-q", None, "-p"]


def test_operators_take_python_values_on_either_side():
    assert values(10 - col("n")) == [7, 17, None, 10]
    assert values(1 + col("n")) == values(col("n") + 1)
    assert values(3 * col("n")) == values(col("n") * 3)
    assert values(3 / col("x")) == [2.0, None, -6.0, 1.5]
    assert values(True & col("flag")) == values(col("flag"))
    assert values(False | col("flag")) == values(col("flag"))
    assert values(abs(-col("n"))) == values(col("n").abs())


# Comparison


@settings(max_examples=60)
@given(data=st.data())
def test_comparisons_with_literals_equal_python(data):
    numbers = st.integers(-3, 3)
    column = data.draw(st.lists(st.none() | numbers, min_size=1, max_size=8))
    literal = data.draw(numbers | st.sampled_from([-1.5, 0.0, 0.5, 2.0, 1000, 10**12]))
    data_type = data.draw(st.sampled_from([pa.int8(), pa.int32(), pa.int64(), pa.float64()]))
    batch = pa.record_batch({"c": pa.array(column, data_type)})
    tests = {
        "==": (col("c") == literal, lambda v: v == literal),
        "!=": (col("c") != literal, lambda v: v != literal),
        "<": (col("c") < literal, lambda v: v < literal),
        "<=": (col("c") <= literal, lambda v: v <= literal),
        ">": (literal < col("c"), lambda v: v > literal),
        ">=": (literal <= col("c"), lambda v: v >= literal),
    }
    expression, expected = data.draw(st.sampled_from(list(tests.values())))

    assert values(expression, batch) == [None if v is None else expected(v) for v in column]


def test_a_literal_takes_the_type_of_the_column_it_is_compared_with():
    assert values(col("single") == 0.1) == [True, False, None, False]
    assert values(col("u") > 5) == [False, False, None, True]
    assert values(col("u") == 2**64 - 1) == [False, False, None, True]
    assert "cast" not in str((col("small") > 2.0).to_arrow(SCHEMA))


def test_columns_of_different_number_types_compare():
    assert values(col("n") > col("x")) == [True, None, None, False]
    assert values(col("small") < col("n")) == [True, False, None, False]
    assert values(col("price") < col("x")) == [False, None, None, True]


def test_large_integers_do_not_stop_a_comparison_with_a_fraction():
    batch = pa.record_batch({"n": [2**62 + 1, 1]})

    assert values(col("n") > 1.5, batch) == [True, False]


def test_times_compare_with_python_values_and_iso_text():
    expected = [False, False, None, True]
    assert values(col("time") >= dt.datetime(1970, 1, 2)) == expected
    assert values(col("time") >= "1970-01-02") == expected
    assert values(col("time") >= dt.date(1970, 1, 2)) == expected
    assert values(lit("1970-01-01T12:00") < col("time")) == expected
    assert values(col("day") > dt.date(1970, 2, 1)) == expected
    assert values(col("day") > "1970-02-01") == expected
    assert values(col("day") >= "1970-02-01 12:00") == expected
    assert values(col("time") == col("day")) == [True, False, None, False]


def test_a_literal_finer_than_the_column_loses_nothing():
    batch = pa.record_batch({"t": pa.array([1, 2], pa.timestamp("s"))})

    assert values(col("t") < "1970-01-01 00:00:01.5", batch) == [True, False]


def test_a_naive_literal_is_local_time_of_a_zoned_column():
    berlin = ZoneInfo("Europe/Berlin")
    for moment in (
        "1970-01-01 01:00",
        dt.datetime(1970, 1, 1, 1),
        dt.datetime(1970, 1, 1, 1, tzinfo=berlin),
        "1970-01-01 00:00+00:00",
    ):
        assert values(col("zoned") == moment) == [True, False, None, True]


@pytest.mark.parametrize("zone", ["UTC", "+02:00"])
def test_fixed_zones_take_naive_literals(zone):
    batch = pa.record_batch({"t": pa.array([7_200], pa.timestamp("s", zone))})
    hour = 2 if zone == "UTC" else 4

    assert values(col("t") == dt.datetime(1970, 1, 1, hour), batch) == [True]


def test_a_zone_nobody_knows_is_refused():
    schema = pa.schema([("t", pa.timestamp("s", "Mars/Olympus"))])

    with pytest.raises(PlanError, match="does not know the time zone 'Mars/Olympus'"):
        (col("t") > "2001-01-01").data_type(schema)


def test_mixing_zoned_and_naive_times_is_refused():
    aware = dt.datetime(2001, 1, 1, tzinfo=dt.UTC)
    for expression in (col("time") > aware, col("time") > col("zoned")):
        with pytest.raises(PlanError, match="time zone"):
            expression.data_type(SCHEMA)


def test_times_and_durations_are_computed():
    hour = dt.timedelta(hours=1)
    assert values(col("time") + hour)[0] == dt.datetime(1970, 1, 1, 1)
    assert (col("time") + hour).data_type(SCHEMA) == pa.timestamp("us")
    assert values(col("time") - "1970-01-01")[1] == dt.timedelta(seconds=1.5)
    assert values(col("time") - col("time"))[1] == dt.timedelta(0)
    assert values(col("length") * 2)[1] == dt.timedelta(seconds=4)
    with pytest.raises(PlanError, match="of duration"):
        (col("length") + 1).data_type(SCHEMA)
    assert values(col("small") * col("length"))[1] == dt.timedelta(seconds=4)
    assert values(col("length") / 2)[1] == dt.timedelta(seconds=1)
    assert values(col("length") > dt.timedelta(seconds=1.5)) == [False, True, None, True]


# Nulls and conditions


def test_and_or_not_follow_three_valued_logic():
    rows = [(a, b) for a in (True, False, None) for b in (True, False, None)]
    batch = pa.record_batch({"a": [a for a, _ in rows], "b": [b for _, b in rows]})
    polars = pl.from_arrow(pa.Table.from_batches([batch]))

    for ours, theirs in (
        (col("a") & col("b"), pl.col("a") & pl.col("b")),
        (col("a") | col("b"), pl.col("a") | pl.col("b")),
        (~col("a"), ~pl.col("a")),
    ):
        assert values(ours, batch) == polars.select(r=theirs)["r"].to_list()


def test_nulls_are_found_and_filled():
    assert values(col("n").is_null()) == [False, False, True, False]
    assert values(col("word").is_not_null()) == [True, True, False, True]
    assert values(col("small").fill_null(0)) == [1, 2, 0, 127]
    assert col("small").fill_null(0).data_type(SCHEMA) == pa.int8()
    assert values(col("n").fill_null(0.5))[2] == 0.5
    assert values(col("n").fill_null(col("x"))) == [3.0, -7.0, -0.5, 0.0]
    assert values(col("text").fill_null("none"))[2] == "none"


def test_is_in_is_null_for_null():
    assert values(col("n").is_in([3, 0, 99])) == [True, False, None, True]
    assert values(col("small").is_in([1, 100_000])) == [True, False, None, False]
    assert values(col("word").is_in({"p"})) == [True, False, None, True]
    assert values(col("day").is_in([dt.date(1970, 1, 1)])) == [True, False, None, False]
    assert values(col("day").is_in(["1970-02-01", "1970-01-01 12:00"])) == [
        False,
        True,
        None,
        False,
    ]
    assert values(lit(1).is_in([1.0])) == [True] * 4
    nanoseconds = pa.record_batch({"t": pa.array([1, 2], pa.timestamp("ns"))})
    assert values(col("t").is_in(nanoseconds["t"].slice(1)), nanoseconds) == [False, True]
    assert values(col("n").is_in([])) == [False, False, None, False]
    assert values(~col("n").is_in([3])) == [False, True, None, True]
    assert repr(col("n").is_in({"b", "a", "c"})).endswith("(values=['a', 'b', 'c'])")
    with pytest.raises(ValueError, match="is_null"):
        col("n").is_in([1, None])


def test_is_between_includes_both_ends():
    assert values(col("n").is_between(0, 3)) == [True, False, None, True]


def test_when_takes_the_first_condition_that_holds():
    size = when(col("n") > 0).then("plus").when(col("n") < 0).then("minus").otherwise("rest")
    assert values(size) == ["plus", "minus", "rest", "rest"]
    assert values(when(col("flag")).then(col("n")).otherwise(None)) == [3, None, None, 0]
    assert values(when(col("flag")).then(1).otherwise(0.5)) == [1.0, 0.5, 0.5, 1.0]
    assert values(when(lit(True)).then(col("small")).otherwise(0)) == [1, 2, None, 127]
    with pytest.raises(TypeError, match="otherwise"):
        col("n") + when(col("flag")).then(1)
    with pytest.raises(TypeError, match="then"):
        when(col("flag")).otherwise(1)


@pytest.mark.parametrize(
    "use",
    [bool, lambda e: e and e, lambda e: not e, lambda e: 0 < e < 3],
    ids=["bool", "and", "not", "chain"],
)
def test_truth_of_an_expression_is_refused_with_advice(use):
    with pytest.raises(TypeError, match=r"use & \| ~"):
        use(col("n") > 1)


def test_comparison_with_none_and_iteration_are_refused():
    with pytest.raises(TypeError, match="is_null"):
        col("n") == None  # noqa: B015, E711
    with pytest.raises(TypeError, match="not iterable"):
        list(col("n"))
    with pytest.raises(TypeError, match="aggregate"):
        col("n") + col("n").sum()
    with pytest.raises(TypeError, match="name of a column"):
        col(3)
    with pytest.raises(TypeError, match="cannot be a constant"):
        lit(object())
    with pytest.raises(TypeError, match="cannot be a constant"):
        lit(2**70)


# Planning


def test_a_wrong_column_names_the_nearest():
    schema = pa.schema([("delay", pa.int64()), ("origin", pa.string()), ("__event_time", "int64")])

    with pytest.raises(PlanError) as error:
        (col("dealy") > 1).data_type(schema)

    expected = "no column 'dealy'; did you mean 'delay'? columns: delay, origin"
    assert str(error.value) == expected


def test_a_column_that_exists_twice_is_refused():
    schema = pa.schema([("a", pa.int64()), ("a", pa.string())])

    with pytest.raises(PlanError, match="exists 2 times"):
        col("a").data_type(schema)


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (col("text") + 1, "'+' of string and int64 in col('text') + 1; cast the string first"),
        (col("text") > 1, "'>' of string and int64"),
        (col("flag") + 1, "'+' of bool and int64 in col('flag') + 1; cast the boolean first"),
        (col("n") == "3", "'==' of int64 and string"),
        (col("n") & col("flag"), "'&' of int64 and bool"),
        (~col("n"), "'~' of int64"),
        (-col("text"), "'-' of string"),
        (col("time") > "soon", "'soon' is not an ISO date or time"),
        (col("time") == col("text"), "'==' of timestamp[us] and string"),
        (col("n") > lit(2**64 - 1), "not in the range"),
        (col("u") > -1, "not in the range"),
        (col("n").str.lower(), "'str.lower' of int64"),
        (col("text").dt.year(), "'dt.year' of string"),
        (col("text").sqrt(), "'sqrt' of string"),
        (when(col("n")).then(1).otherwise(2), "'when' of int64"),
        (when(col("flag")).then(1).otherwise("b"), "'when' of bool and int64 and string"),
    ],
)
def test_types_that_do_not_go_together_are_refused_in_the_plan(expression, message):
    with pytest.raises(PlanError) as error:
        expression.data_type(SCHEMA)

    assert message in str(error.value)


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (col("a") + 1 > col("b"), "(col('a') + 1) > col('b')"),
        ((col("a") > 0) & ~(col("b") == "x"), "(col('a') > 0) & ~(col('b') == 'x')"),
        (-(col("a") * 2.5), "-(col('a') * 2.5)"),
        ((-col("a")).abs(), "(-col('a')).abs()"),
        (
            col("s").str.contains("a.b", regex=True),
            "col('s').str.contains(pattern='a.b', regex=True)",
        ),
        (col("a").cast("int32").alias("b"), "(col('a').cast(data_type='int32')).alias('b')"),
        (when(col("a")).then(1).otherwise(None), "when(col('a')).then(1).otherwise(None)"),
        (lit(dt.date(2001, 1, 2)), "lit(datetime.date(2001, 1, 2))"),
        (lit(1, "int8"), "lit(1, 'int8')"),
        (col("a").is_in([1, 2]).alias("x"), "(col('a').is_in(values=[1, 2])).alias('x')"),
    ],
)
def test_repr_is_python_that_makes_the_same_expression(expression, text):
    assert repr(expression) == text
    assert repr(eval(text, {**vars(module), "datetime": dt})) == text


def test_names_come_from_the_alias_or_the_leftmost_column():
    assert (col("a") + col("b")).name == "a"
    assert (1 - col("b")).name == "b"
    assert lit(1).name == "literal"
    assert (col("a") + 1).alias("c").name == "c"
    assert (col("a").alias("c") + 1).name == "c"


def test_columns_conjuncts_and_substitution():
    condition = (col("a") > 1) & ((col("b") < 2) | col("c")) & col("d")

    parts = condition.conjuncts()
    moved = condition.substitute({"a": col("x") + 1, "d": lit(True)})

    assert condition.columns() == {"a", "b", "c", "d"}
    assert [repr(p) for p in parts] == ["col('a') > 1", "(col('b') < 2) | col('c')", "col('d')"]
    assert moved.columns() == {"x", "b", "c"}
    assert "(col('x') + 1) > 1" in repr(moved)
    assert col("b").substitute({"b": col("a")}).name == "b"
    assert condition.equals((col("a") > 1) & ((col("b") < 2) | col("c")) & col("d"))


def test_texts_of_different_widths_compare():
    batch = pa.record_batch({"a": ["x"], "b": pa.array(["x"], pa.large_string())})

    assert values(col("a") == col("b"), batch) == [True]
    assert values(col("b") == "x", batch) == [True]
    assert values(col("a").fill_null(col("b")), batch) == ["x"]
    assert values("<" + col("b") + col("a"), batch) == ["<xx"]
    assert (col("a") + col("b")).data_type(batch.schema) == pa.large_string()


def test_times_of_day_compare():
    batch = pa.record_batch({"t": pa.array([3600, 7200], pa.time32("s"))})

    assert values(col("t") > dt.time(1, 30), batch) == [False, True]


def test_literals_fill_the_length_of_the_batch():
    assert values(lit("k")) == ["k"] * 4
    assert values(lit(None)) == [None] * 4
    assert lit(1, pa.int8()).data_type(SCHEMA) == pa.int8()
    assert values(lit(2) + 3) == [5] * 4


def test_an_expression_is_bound_again_for_another_schema():
    total = col("n") + 1

    assert values(total, pa.record_batch({"n": [1.5]})) == [2.5]
    assert values(total, pa.record_batch({"m": ["x"], "n": [1]})) == [2]
    for name in "abcdef":  # more than are remembered
        assert values(total, pa.record_batch({name: [0], "n": [1]})) == [2]
    assert values(total, pa.record_batch({"n": [2.5]})) == [3.5]


PUSHED = [
    (col("small") > 1) & (col("x") < 1.75),
    col("n") + 1 > col("small"),
    col("single") == 0.1,
    col("word") == "p",
    ~col("n").is_in([3]),
    col("time") >= "1970-01-02",
    col("zoned") == "1970-01-01 01:00",
    col("text").str.lower().str.contains("b"),
    col("n").fill_null(5) > 3,
    when(col("flag")).then(col("n")).otherwise(1) > 0,
    col("day").dt.year() == 1971,
    lit(True),
]


@pytest.mark.parametrize("condition", PUSHED, ids=repr)
def test_a_pushed_condition_keeps_the_rows_that_evaluate_keeps(condition, tmp_path):
    table = pa.Table.from_batches([BATCH])
    pushed = condition.to_arrow(SCHEMA)

    scanned = ds.InMemoryDataset(table).to_table(filter=pushed)

    kept = [bool(v) for v in values(condition)]
    assert scanned["n"].to_pylist() == [n for n, k in zip(values(col("n")), kept, strict=True) if k]


def test_what_arrow_cannot_do_is_not_pushed():
    assert ((col("n") % 2) == 0).to_arrow(SCHEMA) is None
    assert ((col("n") > 1) & ((col("n") % 2) == 0)).to_arrow(SCHEMA) is None


# Against SQL

DUCKDB = duckdb.connect()
NUMBER = st.none() | st.integers(-1000, 1000)
ROWS = st.lists(st.tuples(NUMBER, NUMBER, st.none() | st.floats(-100, 100)), min_size=1, max_size=9)
LEAVES = st.sampled_from(["a", "b", "x", "1", "-2", "0.5", "7"])
COMPARISONS = {"=": "equal", "<>": "not_equal", "<": "less", ">=": "greater_equal"}


def combine(children):
    return st.one_of(
        st.tuples(st.sampled_from("+-*"), children, children),
        st.tuples(st.just("coalesce"), children, children),
        st.tuples(st.just("abs"), children),
    )


def to_sql(tree):
    if isinstance(tree, str):
        return f"{tree}::double" if "." in tree else tree
    operator, *parts = tree
    parts = [to_sql(part) for part in parts]
    return (
        f"({parts[0]} {operator} {parts[1]})"
        if len(operator) == 1
        else (f"{operator}({', '.join(parts)})")
    )


def to_expression(tree) -> Expression:
    if isinstance(tree, str):
        return col(tree) if tree.isalpha() else lit(float(tree) if "." in tree else int(tree))
    operator, *parts = tree
    left, *right = map(to_expression, parts)
    if operator == "abs":
        return left.abs()
    if operator == "coalesce":
        return left.fill_null(right[0])
    return {"+": left.__add__, "-": left.__sub__, "*": left.__mul__}[operator](right[0])


@settings(max_examples=80)
@given(
    rows=ROWS,
    left=st.recursive(LEAVES, combine, max_leaves=5),
    right=st.recursive(LEAVES, combine, max_leaves=3),
    comparison=st.sampled_from(list(COMPARISONS)),
)
def test_random_expressions_equal_sql(rows, left, right, comparison):
    schema = pa.schema([("a", pa.int64()), ("b", pa.int32()), ("x", pa.float64())])
    batch = pa.record_batch([list(c) for c in zip(*rows, strict=True)], schema=schema)
    DUCKDB.register("t", pa.Table.from_batches([batch]))
    sql = f"select ({to_sql(left)})::double, {to_sql(left)} {comparison} {to_sql(right)} from t"
    expected = DUCKDB.execute(sql).fetchall()

    ours = to_expression(left)
    compared = ours._compare(COMPARISONS[comparison], to_expression(right))

    found = list(
        zip(values(ours.cast(float, safe=False), batch), values(compared, batch), strict=True)
    )
    assert found == expected
