"""Specification of a windowed aggregate, shared by planner and operators."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa

from hpcstream.aggregates.accumulator import Accumulator, arrow_type
from hpcstream.aggregates.base import value_type
from hpcstream.aggregates.kept_columns import WINDOW_COLUMN, KeptColumns, list_fields
from hpcstream.aggregates.named import BoundAggregate, NamedAggregate, shared_accumulators
from hpcstream.aggregates.time_span import TimeSpan
from hpcstream.columns.event_time import TIME_COLUMN, WORD_PREFIX
from hpcstream.columns.reduction import ColumnReduction
from hpcstream.columns.row_order import key_orders, order_fields
from hpcstream.operators.windows.assigners.base import WindowAssigner
from hpcstream.operators.windows.assigners.slicing import Slicing
from hpcstream.stable_keys import Key, schema_key
from hpcstream.state.arrays import Word

SLICE_COLUMN = "__slice"
ROWS_COLUMN = "__rows"


@dataclass(frozen=True)
class WindowAggregateSpec:
    """Specification of a windowed aggregate.

    Attributes
    ----------
    keys : tuple of str
        Key columns; empty for windows over all rows.
    assigner : WindowAssigner
        In ticks of the stream's time unit, as are all times here.
    aggregates : tuple of NamedAggregate
    allowed_lateness : int
        How long a window takes rows after its end, and fires again for their keys.
    input_schema : pa.Schema
        Schema of the rows, with the hidden columns.
    time_type : pa.DataType
        Type of ``window_start`` and ``window_end``.
    late_output : bool
        Whether late rows are emitted as the side output ``"late"``.
    ordered_output : bool
        Whether results carry hidden order columns: the order of their keys.
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
        return self.assigner.slicing()

    @cached_property
    def bound_aggregates(self) -> tuple[BoundAggregate, ...]:
        """The aggregates, each bound to the input schema."""
        return tuple(each.bound(self.input_schema) for each in self.aggregates)

    @cached_property
    def word_aggregates(self) -> tuple[NamedAggregate, ...]:
        """The aggregates whose state is a fixed number of words."""
        return tuple(each.named for each in self.bound_aggregates if not each.keeps_values)

    @cached_property
    def holistic_aggregates(self) -> tuple[NamedAggregate, ...]:
        """The aggregates that need all values when a window closes."""
        return tuple(each.named for each in self.bound_aggregates if each.keeps_values)

    @cached_property
    def accumulators(self) -> tuple[Accumulator, ...]:
        """The accumulators of the word aggregates, without duplicates, and of merging windows."""
        found = shared_accumulators(self.word_aggregates, self.input_schema)
        if self.assigner.merges:
            found.append(TimeSpan())
        return tuple(found)

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
        """The key columns of results: dictionaries are decoded."""
        fields = (self.input_schema.field(name) for name in self.keys)
        return tuple(pa.field(field.name, value_type(field.type)) for field in fields)

    @cached_property
    def output_schema(self) -> pa.Schema:
        """Keys, ``window_start``, ``window_end``, the aggregates, and the event time."""
        results = [pa.field(a.named.name, a.output_type) for a in self.bound_aggregates]
        window = [pa.field(name, self.time_type) for name in ("window_start", "window_end")]
        time = pa.field(TIME_COLUMN, pa.int64())
        order = order_fields(placed=True) if self.ordered_output else []
        return pa.schema([*self.key_fields, *window, *results, time, *order])

    def order_columns(self, keys: Sequence[pa.Array], n_rows: int) -> list[pa.Array]:
        """Return the hidden order columns of results with these key columns."""
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
            pa.field(f"{WORD_PREFIX}{word.name}", arrow_type(word.dtype, word.width))
            for word in self.words
        ]
        return pa.schema([*self.key_fields, *fields, *words])

    @cached_property
    def window_all_schema(self) -> pa.Schema:
        """Window number, rows, and the columns in which ranks exchange accumulators."""
        fields = [pa.field(WINDOW_COLUMN, pa.int64()), pa.field(ROWS_COLUMN, pa.int64())]
        for accumulator in self.accumulators:
            fields += [column.field for column in accumulator.transport.columns]
        for kept in self.kept_columns:
            fields += list_fields(kept.name, kept.type, needs_times=kept.needs_times)
        return pa.schema(fields)

    @cached_property
    def kept_columns(self) -> tuple[KeptColumns, ...]:
        """The input columns whose values are kept for holistic aggregates, without duplicates."""
        readers: dict[tuple[str, ...], list[NamedAggregate]] = {}
        for aggregate in self.holistic_aggregates:
            readers.setdefault(aggregate.inputs, []).append(aggregate)
        return tuple(KeptColumns.of(self.input_schema, each) for each in readers.values())

    @property
    def reductions(self) -> dict[str, ColumnReduction] | None:
        """The elementwise reduction over ranks of each column after the window number.

        None if some column has none: float sums and moments (the result depends on the
        order), first and last values, and kept values.
        """
        if self.holistic_aggregates:
            return None
        found = {ROWS_COLUMN: ColumnReduction("sum", 0)}
        for accumulator in self.accumulators:
            for column in accumulator.transport.columns:
                if column.reduction is None:
                    return None
                found[column.name] = column.reduction
        return found

    def describe(self) -> str:
        """Return the aggregate in one line, for `explain`."""
        keys = ", ".join(self.keys) or "all rows"
        text = f"{self.assigner} by {keys}: {', '.join(map(str, self.aggregates))}"
        return f"{text}, lateness {self.allowed_lateness}" if self.allowed_lateness else text

    def state_key(self) -> Key:
        """Return the layout of the state as plain data: equal layouts are compatible."""
        values = [[*kept.inputs, str(kept.type)] for kept in self.kept_columns]
        return {
            "keys": schema_key(pa.schema(self.key_fields)),
            "words": [_word_key(word) for word in self.words],
            "values": values,
            "slices": self.assigner.state_key(),
            "lateness": self.allowed_lateness,
            "time": str(self.time_type),
        }

    @property
    def kept_inputs(self) -> tuple[str, ...]:
        """The input columns whose values are kept, each once."""
        kept = (name for columns in self.kept_columns for name in columns.inputs)
        return tuple(dict.fromkeys(kept))

    def describe_state(self) -> str:
        """Return the layout of the state as text for error messages."""
        keys = ", ".join(f"{field.name} {field.type}" for field in self.key_fields)
        words = ", ".join(f"{word.name} {word.kind}" for word in self.words)
        values = ", ".join(f"{n} {self.input_schema.field(n).type}" for n in self.kept_inputs)
        parts = (keys, words, values, f"time {self.time_type}")
        return "; ".join(part for part in parts if part)


def _word_key(word: Word) -> Key:
    """Return a word's name and type; mark maxima that start at -inf, as older ones start at NaN."""
    key: list[Key] = [word.name, word.dtype]
    if word.width > 1:
        key.append(word.width)
    return [*key, "from -inf"] if word.identity == -math.inf else key
