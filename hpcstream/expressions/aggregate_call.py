"""What a user asked of a window: which aggregate, of what, under which name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import pyarrow as pa

from hpcstream.calls import answers_wrong_call, answers_wrong_calls
from hpcstream.columns.arrays import stored_type
from hpcstream.errors import PlanError
from hpcstream.expressions.refusals import refuse_format
from hpcstream.stable_keys import Key, value_key

Parameters = tuple[tuple[str, object], ...]

FUNCTIONS = (
    "count_rows",
    "count",
    "sum",
    "mean",
    "min",
    "max",
    "var",
    "std",
    "first",
    "last",
    "count_distinct",
    "median",
    "quantile",
)

_TO_FLOAT = ("mean", "var", "std", "median", "quantile")
_MAX_DECIMAL_DIGITS = 38
_MAX_DECIMAL256_DIGITS = 76


def _called(data_type: pa.DataType) -> str:
    """Return what nested values are called."""
    if pa.types.is_struct(data_type):
        return "structs"
    return "maps" if pa.types.is_map(data_type) else "lists"


class AggregateInput(Protocol):
    """What is aggregated: an `hpcstream.Expression`."""

    @property
    def name(self) -> str:
        """Name of the column that the expression computes."""

    @property
    def is_column(self) -> bool:
        """Whether it is a column as it is."""

    def columns(self) -> frozenset[str]:
        """Return the names of the columns that are read."""

    def key(self) -> Key:
        """Return what is computed as plain data."""

    def data_type(self, schema: pa.Schema) -> pa.DataType:
        """Return the type of the result for a schema."""

    def evaluate(self, batch: pa.RecordBatch) -> pa.Array:
        """Return the values for the rows of a batch."""


@answers_wrong_calls
@dataclass(frozen=True, eq=False, repr=False)
class AggregateCall:
    """An aggregate to compute for each key and window.

    Attributes
    ----------
    function : str
        One of `FUNCTIONS`.
    input : AggregateInput or None
        What is aggregated; None for ``count_rows``.
    parameters : tuple of (name, value)
        Constants of the function, as ``(("ddof", 1),)``.
    alias_name : str or None
        Name of the output column, if the user gave one.
    """

    function: str
    input: AggregateInput | None = None
    parameters: Parameters = ()
    alias_name: str | None = None

    def __format__(self, spec: str) -> str:
        refuse_format(self)

    def alias(self, name: str) -> AggregateCall:
        """Return the same aggregate under another output name."""
        return replace(self, alias_name=name)

    @property
    def name(self) -> str:
        """Name of the output column: the alias, or the input's name and the function."""
        if self.alias_name is not None:
            return self.alias_name
        return "count" if self.input is None else f"{self.input.name}_{self.function}"

    def key(self) -> Key:
        """Return the aggregate and the name of its column as plain data."""
        found = None if self.input is None else self.input.key()
        return [self.name, self.function, found, value_key(dict(self.parameters))]

    def result_type(self, input_type: pa.DataType | None = None) -> pa.DataType:
        """Return the type of the result.

        Raises
        ------
        PlanError
            The function does not take this type.
        """
        if self.function == "count_distinct" and input_type and _is_nested(input_type):
            raise self._unsuitable(input_type)
        if self.function in ("count_rows", "count", "count_distinct"):
            return pa.int64()
        if input_type is None:
            raise PlanError(f"{self!r}: needs the type of its input")
        if pa.types.is_dictionary(input_type):
            return self.result_type(input_type.value_type)
        if self.function == "sum":
            return self._sum_type(input_type)
        if self.function in _TO_FLOAT:
            return self._float_type(input_type)
        if self.function in ("min", "max"):
            return self._ordered_type(input_type)
        return input_type

    def _sum_type(self, input_type: pa.DataType) -> pa.DataType:
        if pa.types.is_integer(input_type):
            return pa.int64()
        if pa.types.is_floating(input_type):
            return pa.float64()
        if pa.types.is_decimal(input_type):
            if pa.types.is_decimal256(input_type):
                return pa.decimal256(_MAX_DECIMAL256_DIGITS, input_type.scale)
            return pa.decimal128(_MAX_DECIMAL_DIGITS, input_type.scale)
        if pa.types.is_duration(input_type):
            return input_type
        raise self._unsuitable(input_type)

    def _float_type(self, input_type: pa.DataType) -> pa.DataType:
        if (
            pa.types.is_integer(input_type)
            or pa.types.is_floating(input_type)
            or pa.types.is_decimal(input_type)
        ):
            return pa.float64()
        raise self._unsuitable(input_type)

    def _ordered_type(self, input_type: pa.DataType) -> pa.DataType:
        if _is_nested(input_type) or input_type in (pa.null(), pa.month_day_nano_interval()):
            raise self._unsuitable(input_type)
        return input_type

    def _unsuitable(self, input_type: pa.DataType) -> PlanError:
        advice = ""
        if pa.types.is_boolean(input_type):
            advice = "; cast it first, as in .cast('int64')"
        elif pa.types.is_string(input_type) or pa.types.is_large_string(input_type):
            advice = "; cast it first, as in .cast('float64'), if it holds numbers"
        elif pa.types.is_nested(input_type):
            advice = (
                f" does not exist: aggregates are of single values, not element by element of "
                f"{_called(input_type)}; make a row of each value, or one value of all, in "
                "map_batches() before"
            )
        return PlanError(f"'{self.function}' of {input_type} in {self!r}{advice}")

    def __repr__(self) -> str:
        if self.input is None:
            text = "count()"
        else:
            parameters = ", ".join(f"{name}={value!r}" for name, value in self.parameters)
            text = f"({self.input!r}).{self.function}({parameters})"
            if self.input.is_column:
                text = f"{self.input!r}.{self.function}({parameters})"
        return text if self.alias_name is None else f"{text}.alias({self.alias_name!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AggregateCall):
            return NotImplemented
        return repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))


def _is_nested(data_type: pa.DataType) -> bool:
    """Whether values are made of others, which Arrow neither orders nor groups."""
    if pa.types.is_dictionary(data_type):
        return _is_nested(data_type.value_type)
    return bool(pa.types.is_nested(stored_type(data_type)))


@answers_wrong_call
def count() -> AggregateCall:
    """Return the number of rows, nulls included.

    ``col(name).count()`` counts the values that are not null.
    """
    return AggregateCall("count_rows")
