import pyarrow as pa
import pytest

from hpcstream.aggregates.base import AggregateCall
from hpcstream.aggregates.families.counts_sums import CountRows, count
from hpcstream.errors import PlanError
from hpcstream.expressions.expression import col

DECIMAL = pa.decimal128(10, 2)
US = pa.timestamp("us")


@pytest.mark.parametrize(
    ("call", "input_type", "expected"),
    [
        (count(), None, pa.int64()),
        (col("x").count(), pa.string(), pa.int64()),
        (col("x").count_distinct(), pa.string(), pa.int64()),
        (col("x").sum(), pa.int8(), pa.int64()),
        (col("x").sum(), pa.uint64(), pa.int64()),
        (col("x").sum(), pa.float32(), pa.float64()),
        (col("x").sum(), DECIMAL, pa.decimal128(38, 2)),
        (col("x").sum(), pa.duration("ms"), pa.duration("ms")),
        (col("x").mean(), pa.int32(), pa.float64()),
        (col("x").std(), pa.float32(), pa.float64()),
        (col("x").median(), DECIMAL, pa.float64()),
        (col("x").quantile(0.9), pa.int64(), pa.float64()),
        (col("x").min(), pa.string(), pa.string()),
        (col("x").max(), US, US),
        (col("x").min(), pa.dictionary(pa.int8(), pa.string()), pa.string()),
        (col("x").first(), pa.bool_(), pa.bool_()),
        (col("x").last(), pa.binary(), pa.binary()),
    ],
)
def test_result_types_follow_the_input(call, input_type, expected):
    types = [] if input_type is None else [input_type]
    assert call.result_type(*types) == expected


@pytest.mark.parametrize(
    ("call", "input_type", "message"),
    [
        (col("s").sum(), pa.string(), "'sum' of string in col('s').sum(); cast it first"),
        (col("b").sum(), pa.bool_(), "'sum' of bool in col('b').sum(); cast it first"),
        (col("t").sum(), US, "'sum' of timestamp[us]"),
        (col("t").mean(), US, "'mean' of timestamp[us]"),
        (col("l").max(), pa.list_(pa.int64()), "'max' of list"),
        (
            col("l").mean(),
            pa.list_(pa.list_(pa.int64(), 4), 4),
            " in col('l').mean() does not exist: aggregates are of single values, not element by "
            "element of lists; make a row of each value",
        ),
        (col("l").sum(), pa.struct([("a", pa.int64())]), "element by element of structs"),
        ((col("s") + "x").var(), pa.string(), "'var' of string in (col('s') + 'x').var(ddof=1)"),
    ],
)
def test_unsuitable_types_are_refused_with_what_was_asked(call, input_type, message):
    with pytest.raises(PlanError) as error:
        call.result_type(input_type)

    assert message in str(error.value)


def test_names_are_the_alias_or_made_of_input_and_function():
    assert count().name == "count"
    assert col("delay").mean().name == "delay_mean"
    assert (col("a") * col("b")).sum().alias("total").name == "total"


def test_repr_tells_parameters_and_alias():
    assert repr(count()) == "count()"
    assert repr(col("x").var(ddof=0)) == "col('x').var(ddof=0)"
    call = (col("a") + 1).quantile(1).alias("top")
    assert repr(call) == "(col('a') + 1).quantile(q=1.0).alias('top')"
    assert call.parameters == {"q": 1.0}


def test_calls_are_equal_when_they_ask_the_same():
    assert col("x").sum() == col("x").sum()
    assert len({col("x").sum(), col("x").sum(), col("x").sum().alias("s")}) == 2
    assert AggregateCall(CountRows()) == count()


def test_a_quantile_outside_0_to_1_is_refused():
    with pytest.raises(ValueError, match="between 0 and 1"):
        col("x").quantile(95)
