"""What the definitions of operators have in common that see the rows of each key in order."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa

from hpcstream.columns.kept_batches import decoded_schema
from hpcstream.operators.spec import (
    ByKey,
    Columns,
    OperatorSpec,
    Requirement,
    Schemas,
    Traits,
)
from hpcstream.stable_keys import Key, schema_key

LATE = "late"
"""Name of the side output with the rows that came behind the watermark."""

LIMITED = "limited"
"""Name of the side output with the rows that a rate limit does not let through."""

Order = Literal["event", "arrival"]


@dataclass(frozen=True, eq=False)
class KeyedSpec(OperatorSpec):
    """Rows of each key, in event order or as they come.

    Attributes
    ----------
    keys : tuple of str
    unit : str
        Of event time.
    order : {"event", "arrival"}
    """

    keys: tuple[str, ...]
    unit: str
    order: Order = "event"

    @property
    def traits(self) -> Traits:
        is_ordered = self.order == "event"
        return Traits(needs_time=True, needs_order=is_ordered, by_arrival=not is_ordered)

    @property
    def arrival_text(self) -> str:
        """What `describe` says of the order."""
        return ", as rows arrive" if self.order == "arrival" else ""

    @abstractmethod
    def describe_keyed_state(self) -> str:
        """Return what is kept of a key, and until when."""

    def describe_state(self) -> str:
        waiting = "" if self.order == "arrival" else "; rows, until the watermark has passed them"
        return self.describe_keyed_state() + waiting

    def state_key(self, inputs: Schemas) -> Key:
        rows = decoded_schema(inputs[0])
        if self.order == "arrival":
            rows = pa.schema([rows.field(name) for name in self.keys])
        return schema_key(rows)

    def kernels(self, *, reproducible: bool) -> frozenset[str]:
        return frozenset({"keyed_table", "time_order"})

    def inputs(self) -> tuple[Requirement, ...]:
        return (ByKey(self.keys),)

    def output_schema(self, inputs: Schemas) -> pa.Schema:
        return decoded_schema(inputs[0])

    def side_outputs(self, inputs: Schemas) -> Mapping[str, pa.Schema]:
        return {LATE: inputs[0]} if self.order == "event" else {}

    def passed(self, inputs: Schemas) -> Columns:
        return frozenset(inputs[0].names)

    def time_units(self, inputs: Sequence[Mapping[str, str]]) -> Mapping[str, str]:
        return inputs[0]

    def required(self, needed: Columns, inputs: Schemas, sides: Columns) -> Sequence[Columns]:
        return [frozenset(inputs[0].names) if sides else needed | frozenset(self.keys)]
