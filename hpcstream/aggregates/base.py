"""The base class of aggregates, and calls of aggregates as users write them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.aggregates.accumulator import Accumulator
from hpcstream.aggregates.grouped_values import GroupedValues
from hpcstream.calls import answers_wrong_calls, refuse_format
from hpcstream.columns.arrays import is_word_type, stored_type, words_to_array
from hpcstream.errors import PlanError
from hpcstream.stable_keys import Key, key_text, value_key

Values = npt.NDArray[Any]
Entries = Mapping[str, Values]
"""The words of some entries by name; ``"rows"`` is the number of rows of each entry."""


class Unsuitable(PlanError):
    """An aggregate does not accept the type of an input.

    Attributes
    ----------
    what, advice : str
        The beginning and the end of the message; the caller inserts the call between them.
    """

    def __init__(self, what: str, advice: str = "") -> None:
        super().__init__(what + advice)
        self.what = what
        self.advice = advice


@dataclass(frozen=True)
class Inputs:
    """The input columns of an aggregate.

    Attributes
    ----------
    names : tuple of str
    types : tuple of pa.DataType
    is_placed : bool
        Rows have places (`PLACE_COLUMN`), which sort rows of equal order.
    """

    names: tuple[str, ...]
    types: tuple[pa.DataType, ...]
    is_placed: bool = False

    @property
    def are_words(self) -> bool:
        """Whether all values are numbers of 8 bytes, or can be converted to them without loss."""
        return all(map(is_number_or_word, self.types))

    def word(self, part: str) -> str:
        """Return the name of a word of state, as in `Accumulator.word_name`."""
        return f"{part}({', '.join(self.names)})"

    def n_values(self, entries: Entries) -> Values:
        """Return the number of rows without a null in each entry; requires a `NullCount`."""
        counts: Values = entries["rows"] - entries[self.word("nulls")]
        return counts


class Aggregate:
    """The base class of built-in and user-defined aggregates.

    A subclass is a frozen dataclass whose fields are the parameters. Calling an instance with
    its input expressions returns an argument for ``agg(...)``.

    An aggregate whose state is a few words implements `accumulators` and `finish`. It is
    mergeable: rows are aggregated before they are sent to another rank, and sliding windows
    share slices. An aggregate that needs all values together implements `from_values`, and
    its `accumulators` returns None.

    Attributes
    ----------
    name : str
        Its name in checkpoints: unique, and the same in later versions.
    n_inputs : int
        Number of input columns.
    needs_order : bool
        Whether results depend on the order of rows with equal event time.
    returns_input : bool
        Whether each result is one of the values of its first input.
    distinct_suffices : bool
        Whether `from_values` returns the same without duplicate values.
    is_method : bool
        Whether expressions have it as a method; used to print calls.
    """

    name: ClassVar[str]
    n_inputs: ClassVar[int] = 1
    needs_order: ClassVar[bool] = False
    returns_input: ClassVar[bool] = False
    distinct_suffices: ClassVar[bool] = False
    is_method: ClassVar[bool] = False

    def __call__(self, *inputs: AggregateInput) -> AggregateCall:
        """Return the aggregate of some expressions, for ``agg(...)``.

        Raises
        ------
        PlanError
            The number of expressions is not `n_inputs`.
        """
        return AggregateCall(self, inputs)

    def result_type(self, types: Sequence[pa.DataType]) -> pa.DataType:
        """Return the type of the results for the types of the inputs; dictionaries are decoded.

        Raises
        ------
        PlanError
            It does not accept one of the types.
        """
        raise NotImplementedError

    def accumulators(self, inputs: Inputs) -> tuple[Accumulator, ...] | None:
        """Return the accumulators that it reads; None if it needs all values."""
        return None

    def is_order_free(self, inputs: Inputs) -> bool:
        """Return whether results from words are bitwise independent of the order of rows."""
        return True

    def order_free(self) -> Aggregate:
        """Return the aggregate that ``reproducible=True`` uses instead; by default itself."""
        return self

    def finish(self, entries: Entries, inputs: Inputs, output_type: pa.DataType) -> pa.Array:
        """Compute results from words, one for each entry.

        Raises
        ------
        OverflowInAggregate
            A result does not fit its type.
        """
        raise NotImplementedError

    def from_values(self, rows: GroupedValues) -> pa.Array:
        """Compute results from the values of groups, one for each group.

        With several inputs the values are structs with a field for each; no field is null.
        """
        raise NotImplementedError

    @property
    def keeps_values(self) -> bool:
        """Whether it implements `from_values`."""
        return type(self).from_values is not Aggregate.from_values

    @property
    def kernels(self) -> frozenset[str]:
        """Kernel families on demand (`hpcstream.kernels.ON_DEMAND`) that it calls."""
        return frozenset()

    @property
    def parameters(self) -> dict[str, object]:
        """The parameters by name, without flags that are off.

        A flag that a later version adds changes neither the text nor the identity of the
        aggregate without it.
        """
        own: Any = self
        values = {field.name: getattr(self, field.name) for field in fields(own)}
        return {name: value for name, value in values.items() if value is not False}

    def key(self) -> list[Key]:
        """Return its identity as plain data: its name and its parameters."""
        return [self.name, value_key(self.parameters)]

    def unsuitable(self, data_type: pa.DataType) -> Unsuitable:
        """Return the error to raise for a type that it does not accept."""
        return Unsuitable(f"'{self.name}' of {data_type}", _advice(data_type))


class AggregateInput(Protocol):
    """An input of an aggregate: an `hpcstream.Expression`."""

    @property
    def name(self) -> str:
        """Name of the column that the expression computes."""

    @property
    def is_column(self) -> bool:
        """Whether it is an unchanged column."""

    def columns(self) -> frozenset[str]:
        """Return the names of the columns that it reads."""

    def key(self) -> Key:
        """Return its identity as plain data."""

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
    aggregate : Aggregate
    inputs : tuple of AggregateInput
    alias_name : str or None
        Name of the output column, if the user gave one.
    """

    aggregate: Aggregate
    inputs: tuple[AggregateInput, ...] = ()
    alias_name: str | None = None

    def __post_init__(self) -> None:
        wanted, given = self.aggregate.n_inputs, len(self.inputs)
        if wanted != given:
            raise PlanError(
                f"aggregate {self.aggregate.name!r} reads {wanted} columns; got {given}"
            )
        for each in self.inputs:
            if each is None or isinstance(each, str | bytes | int | float):
                raise TypeError(
                    f"aggregate {self.aggregate.name!r} of {each!r}: takes expressions, as "
                    "hs.col('name')"
                )

    def __format__(self, spec: str) -> str:
        refuse_format(self)

    def alias(self, name: str) -> AggregateCall:
        """Return the same aggregate under another output name."""
        return replace(self, alias_name=name)

    @property
    def function(self) -> str:
        """Name of the aggregate."""
        return self.aggregate.name

    @property
    def parameters(self) -> dict[str, object]:
        """The parameters of the aggregate."""
        return self.aggregate.parameters

    @property
    def name(self) -> str:
        """Name of the output column: the alias, or the first input's name and the function."""
        if self.alias_name is not None:
            return self.alias_name
        return f"{self.inputs[0].name}_{self.function}" if self.inputs else self._method

    def columns(self) -> frozenset[str]:
        """Return the names of the columns that are read."""
        return frozenset[str]().union(*(each.columns() for each in self.inputs))

    def key(self) -> Key:
        """Return the aggregate and the name of its column as plain data, its identity."""
        inputs = [each.key() for each in self.inputs]
        return [self.name, *self.aggregate.key(), inputs]

    def result_type(self, *types: pa.DataType) -> pa.DataType:
        """Return the type of the result for the types of the inputs.

        Raises
        ------
        PlanError
            The aggregate does not accept them.
        """
        if len(types) != len(self.inputs):
            raise PlanError(f"{self!r}: needs the type of each of its inputs")
        try:
            return self.aggregate.result_type([value_type(each) for each in types])
        except Unsuitable as error:
            raise PlanError(f"{error.what} in {self!r}{error.advice}") from None

    def type_in(self, schema: pa.Schema) -> pa.DataType:
        """Return the type of the result for rows of a schema."""
        return self.result_type(*(each.data_type(schema) for each in self.inputs))

    def __repr__(self) -> str:
        text = self._text()
        return text if self.alias_name is None else f"{text}.alias({self.alias_name!r})"

    def _text(self) -> str:
        parameters = [f"{name}={value!r}" for name, value in self.parameters.items()]
        inputs = [repr(each) for each in self.inputs]
        if not self.aggregate.is_method:
            kind = type(self.aggregate).__name__
            return f"{kind}({', '.join(parameters)})({', '.join(inputs)})"
        if not inputs:
            return f"{self._method}({', '.join(parameters)})"
        first = inputs[0] if self.inputs[0].is_column else f"({inputs[0]})"
        return f"{first}.{self.function}({', '.join([*inputs[1:], *parameters])})"

    @property
    def _method(self) -> str:
        """The name of the method in user code: ``count()`` counts rows."""
        return self.function.removesuffix("_rows")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AggregateCall):
            return NotImplemented
        return key_text(self.key()) == key_text(other.key())

    def __hash__(self) -> int:
        return hash(key_text(self.key()))


def result_array(
    values: npt.NDArray[Any], valid: npt.NDArray[np.bool_], output_type: pa.DataType
) -> pa.Array:
    """Return 8-byte values as an array of the output type."""
    mask = None if valid.all() else valid
    if not pa.types.is_floating(output_type):
        words = values.view(np.int64)
        return words_to_array(
            words if mask is None else np.where(mask, words, 0), mask, output_type
        )
    array = pa.array(values, mask=None if mask is None else ~mask)
    return array if output_type == pa.float64() else pc.cast(array, output_type, safe=False)


def value_type(data_type: pa.DataType) -> pa.DataType:
    """Return the type of the values of a column: a dictionary's, or the type itself."""
    return data_type.value_type if pa.types.is_dictionary(data_type) else data_type


def is_number_or_word(data_type: pa.DataType) -> bool:
    """Whether values of a column can be accumulated in words."""
    is_word = is_word_type(data_type) or pa.types.is_floating(data_type)
    return is_word and not pa.types.is_decimal(data_type)


def is_nested(data_type: pa.DataType) -> bool:
    """Whether values are nested: Arrow neither sorts nor groups them."""
    return bool(pa.types.is_nested(stored_type(value_type(data_type))))


def word_dtype(data_type: pa.DataType) -> str:
    """Return the dtype of a type's values in words: int64, uint64 or float64."""
    if pa.types.is_floating(data_type):
        return "float64"
    return "uint64" if pa.types.is_uint64(data_type) else "int64"


def _advice(data_type: pa.DataType) -> str:
    if pa.types.is_boolean(data_type):
        return "; cast it first, as in .cast('int64')"
    if pa.types.is_string(data_type) or pa.types.is_large_string(data_type):
        return "; cast it first, as in .cast('float64'), if it holds numbers"
    if pa.types.is_nested(data_type):
        return (
            f" does not exist: aggregates are of single values, not element by element of "
            f"{_called(data_type)}; make a row of each value, or one value of all, in "
            "map_batches() before"
        )
    return ""


def _called(data_type: pa.DataType) -> str:
    """Return the plural name of a nested type's values."""
    if pa.types.is_struct(data_type):
        return "structs"
    return "maps" if pa.types.is_map(data_type) else "lists"
