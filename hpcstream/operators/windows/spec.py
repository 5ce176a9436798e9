"""What a windowed aggregate is to do: the value that planner and operators share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from hpcstream.aggregates.accumulators import Accumulator
from hpcstream.aggregates.finishers import (
    NamedAggregate,
    is_word_aggregate,
    kept_type,
    result_type,
    shared_accumulators,
    value_type,
)
from hpcstream.aggregates.transport import WINDOW_COLUMN, list_fields, transport_of
from hpcstream.columns.event_time import TIME_COLUMN, WORD_PREFIX
from hpcstream.columns.row_order import key_orders, order_fields
from hpcstream.operators.windows.assigners import Slicing, WindowAssigner
from hpcstream.stable_keys import Key, schema_key
from hpcstream.state.arrays import Word

SLICE_COLUMN = "__slice"
ROWS_COLUMN = "__rows"


@dataclass(frozen=True)
class WindowAggregateSpec:
    """A windowed aggregate.

    Attributes
    ----------
    keys : tuple of str
        Key columns; empty for windows over all rows.
    assigner : WindowAssigner
        In ticks of the stream's time unit, as all times here.
    aggregates : tuple of NamedAggregate
    allowed_lateness : int
        How long after its end a window still takes rows, and fires again for their keys.
    input_schema : pa.Schema
        Of the rows, with the hidden columns.
    time_type : pa.DataType
        Type of ``window_start`` and ``window_end``.
    late_output : bool
        Whether late rows are emitted as the side output ``"late"``.
    ordered_output : bool
        Whether results carry an order: that of their keys.
    """

    keys: tuple[str, ...]
    assigner: WindowAssigner
    aggregates: tuple[NamedAggregate, ...]
    allowed_lateness: int
    input_schema: pa.Schema
    time_type: pa.DataType
    late_output: bool = False
    ordered_output: bool = False

    @cached_property
    def slicing(self) -> Slicing:
        """The slices and windows of the assigner."""
        return Slicing.of(self.assigner)

    @cached_property
    def word_aggregates(self) -> tuple[NamedAggregate, ...]:
        """The aggregates whose state is a few words."""
        return tuple(a for a in self.aggregates if is_word_aggregate(a, self.input_schema))

    @cached_property
    def holistic_aggregates(self) -> tuple[NamedAggregate, ...]:
        """The aggregates that need the values themselves when a window closes."""
        return tuple(a for a in self.aggregates if a not in self.word_aggregates)

    @cached_property
    def accumulators(self) -> tuple[Accumulator, ...]:
        """The accumulators of the word aggregates, each once."""
        return tuple(shared_accumulators(self.word_aggregates, self.input_schema))

    @cached_property
    def words(self) -> tuple[Word, ...]:
        """The words of all accumulators, in order."""
        return tuple(word for accumulator in self.accumulators for word in accumulator.words)

    @property
    def supports_partials(self) -> bool:
        """Whether a local stage can aggregate before the exchange."""
        return not self.holistic_aggregates

    @cached_property
    def key_fields(self) -> tuple[pa.Field, ...]:
        """The key columns as results carry them: dictionaries are decoded."""
        fields = (self.input_schema.field(name) for name in self.keys)
        return tuple(pa.field(field.name, value_type(field.type)) for field in fields)

    @cached_property
    def output_schema(self) -> pa.Schema:
        """Keys, ``window_start``, ``window_end``, the aggregates, and the event time."""
        results = [pa.field(a.name, result_type(a, self.input_schema)) for a in self.aggregates]
        window = [pa.field(name, self.time_type) for name in ("window_start", "window_end")]
        time = pa.field(TIME_COLUMN, pa.int64())
        order = order_fields(placed=True) if self.ordered_output else []
        return pa.schema([*self.key_fields, *window, *results, time, *order])

    def order_columns(self, keys: Sequence[pa.Array], n_rows: int) -> list[pa.Array]:
        """Return the hidden columns that order results with these key columns."""
        if not self.ordered_output:
            return []
        ones = np.ones(n_rows, dtype=np.int64)
        orders, places = key_orders(keys) if keys else (ones, None)
        return [pa.array(orders), pa.array(ones if places is None else places)]

    @cached_property
    def partial_schema(self) -> pa.Schema:
        """Keys, slice number, rows, and the words of the accumulators."""
        fields = [pa.field(SLICE_COLUMN, pa.int64()), pa.field(ROWS_COLUMN, pa.int64())]
        words = [
            pa.field(f"{WORD_PREFIX}{word.name}", pa.from_numpy_dtype(word.dtype))
            for word in self.words
        ]
        return pa.schema([*self.key_fields, *fields, *words])

    @cached_property
    def window_all_schema(self) -> pa.Schema:
        """Window number, rows, and the columns in which accumulators travel between ranks."""
        fields = [pa.field(WINDOW_COLUMN, pa.int64()), pa.field(ROWS_COLUMN, pa.int64())]
        sent = (c for accumulator in self.accumulators for c in transport_of(accumulator).columns)
        fields += [pa.field(column.name, pa.from_numpy_dtype(column.dtype)) for column in sent]
        for name in dict.fromkeys(a.input for a in self.holistic_aggregates if a.input):
            functions = {a.function for a in self.holistic_aggregates if a.input == name}
            values = kept_type(self.input_schema.field(name).type)
            needs_times = bool(functions & {"first", "last"})
            fields += list_fields(name, values, needs_times=needs_times)
        return pa.schema(fields)

    def describe(self) -> str:
        """Return the aggregate in one line, for `explain`."""
        keys = ", ".join(self.keys) or "all rows"
        text = f"{self.assigner} by {keys}: {', '.join(map(str, self.aggregates))}"
        return f"{text}, lateness {self.allowed_lateness}" if self.allowed_lateness else text

    def state_key(self) -> Key:
        """Return what the state is made of: equal keys, and one can take over another's."""
        kept = (a.input for a in self.holistic_aggregates if a.input is not None)
        values = [self.input_schema.field(name) for name in dict.fromkeys(kept)]
        slicing = self.slicing
        return {
            "keys": schema_key(pa.schema(self.key_fields)),
            "words": [_word_key(word) for word in self.words],
            "values": [[field.name, str(field.type)] for field in values],
            "slices": [slicing.size, slicing.slide, slicing.offset],
            "lateness": self.allowed_lateness,
            "time": str(self.time_type),
        }

    def describe_state(self) -> str:
        """Return what the state is made of, for people."""
        keys = ", ".join(f"{field.name} {field.type}" for field in self.key_fields)
        words = ", ".join(f"{word.name} {word.dtype}" for word in self.words)
        kept = (a.input for a in self.holistic_aggregates if a.input is not None)
        values = ", ".join(f"{n} {self.input_schema.field(n).type}" for n in dict.fromkeys(kept))
        parts = (keys, words, values, f"time {self.time_type}")
        return "; ".join(part for part in parts if part)


def _word_key(word: Word) -> Key:
    """Return a word's name and type, and where a greatest float begins: once that was NaN."""
    key: list[Key] = [word.name, str(word.dtype)]
    return [*key, "from -inf"] if word.identity == -math.inf else key
