"""The base of operators that handle the rows of each key in event order.

::

    process_batch(batch)    rows wait (`EventOrder`); late ones go to the side output "late"
    process_watermark(w)    rows before w, in order: on_rows(batch, slots); then what is due: on_due
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa

from hpcstream.columns.kept_batches import decode_dictionaries, decoded_schema
from hpcstream.metric import Gauge
from hpcstream.operators.base import Emitted, Operator, SideOutput, Turn
from hpcstream.operators.key_codec import key_codec
from hpcstream.operators.keyed.event_order import EventOrder
from hpcstream.operators.keyed.spec import LATE, KeyedSpec
from hpcstream.operators.spec import OperatorContext
from hpcstream.state.arrays import Allocator, Ints, Slots, Word
from hpcstream.state.keyed.store import KeyedState
from hpcstream.state.keyed.table import KeyedTable
from hpcstream.state.scalars import Field, Scalars, Values, total
from hpcstream.state.table import StateTable

NOTHING: tuple[Emitted, ...] = ()


class KeyedOperator(Operator):
    """Rows of each key in event order, with a slot for each key.

    Parameters
    ----------
    spec : KeyedSpec
    context : OperatorContext
    words : sequence of Word
        State of a key.
    allocator : Allocator

    Attributes
    ----------
    late_rows : int
        Rows behind the watermark, which are left out.
    """

    n_keys = Gauge("keys", "n_keys_held")

    def __init__(
        self,
        spec: KeyedSpec,
        context: OperatorContext,
        words: Sequence[Word],
        allocator: Allocator,
    ) -> None:
        self._input = context.inputs[0]
        self._rows_schema = decoded_schema(self._input)
        self._codec = key_codec(spec.keys, self._rows_schema)
        self._state = KeyedState(words, allocator)
        self._order = EventOrder(self._input, spec.keys) if spec.order == "event" else None
        self._reads_late = LATE in context.sides
        self._table = KeyedTable(self._state, self._codec)
        self.late_rows = 0

    @property
    def n_keys_held(self) -> int:
        """How many keys there is state of."""
        return self._state.n_keys

    @abstractmethod
    def on_rows(self, batch: pa.RecordBatch, slots: Slots) -> Iterable[Emitted]:
        """Handle rows in event order; yield what they make. ``slots``: that of each row's key."""

    def on_due(self, slots: Slots, times: Ints) -> Iterable[Emitted]:
        """Handle the slots that were due before the watermark, by time; forget their keys."""
        self._state.free(slots)
        return NOTHING

    def output_schema(self, input_schema: pa.Schema) -> pa.Schema:
        """Return the schema of the rows, dictionaries decoded."""
        return decoded_schema(input_schema)

    def process_batch(self, batch: pa.RecordBatch, input_index: int = 0) -> Iterable[Emitted]:
        """Take in rows: in order of arrival they are handled at once."""
        if self._order is None:
            return self._handle(decode_dictionaries(batch, self._rows_schema))
        late = self._order.push(batch)
        self.late_rows += len(late)
        if not len(late) or not self._reads_late:
            return NOTHING
        return (SideOutput(LATE, batch.take(pa.array(late))),)

    def process_watermark(self, watermark: int) -> Iterator[Emitted]:
        """Handle the rows before a watermark, then the keys that are due before it."""
        if self._order is not None:
            for out in self._order.release(watermark):
                if isinstance(out, Turn):
                    yield out
                else:
                    yield from self._handle(out)
        slots, times = self._state.expired(watermark)
        if len(slots):
            yield from self.on_due(slots, times)
            self._codec.forget_dead(self._state)

    def _handle(self, batch: pa.RecordBatch) -> Iterable[Emitted]:
        if not batch.num_rows:
            return NOTHING
        words, valid = self._codec.encode(batch)
        return self.on_rows(batch, self._state.resolve(words, valid))

    def tables(self) -> Sequence[StateTable]:
        """Return the tables of keys, of rows that wait, and of what was counted."""
        waiting = () if self._order is None else (self._order.table,)
        return (*self._codec.tables(), self._table, *waiting, self._counts())

    def _counts(self) -> Scalars:
        def load(values: Values) -> None:
            if values:
                self.late_rows = int(values["late_rows"][0])

        return Scalars([Field("late_rows", total)], lambda: {"late_rows": self.late_rows}, load)
