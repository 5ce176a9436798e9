"""The definitions of operators that keep some rows of each key: deduplicate, rate limit."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from hpcstream.columns.event_time import duration_text
from hpcstream.operators.base import Operator
from hpcstream.operators.keyed.spec import LIMITED, KeyedSpec
from hpcstream.operators.spec import OperatorContext, Schemas
from hpcstream.stable_keys import Key


@dataclass(frozen=True, eq=False)
class DeduplicateSpec(KeyedSpec):
    """The first row of each key, again after a while.

    Attributes
    ----------
    within : int or None
        How long a row that is kept hides others, in ticks; None: for ever.
    """

    within: int | None = None
    kind = "deduplicate"

    def key(self) -> Key:
        return {
            "keys": self.keys,
            "within": None if self.within is None else [self.within, self.unit],
            "keep": "first",
            "order": self.order,
        }

    def describe(self) -> str:
        within = "" if self.within is None else f" within {duration_text(self.within, self.unit)}"
        return f"deduplicate by {', '.join(self.keys)}{within}{self.arrival_text}"

    def describe_keyed_state(self) -> str:
        if self.within is None:
            return "a time a key, for ever"
        return f"a time a key, until {duration_text(self.within, self.unit)} after the row kept"

    def kernels(self, *, reproducible: bool) -> frozenset[str]:
        return super().kernels(reproducible=reproducible) | {"ordered_rows"}

    def open(self, context: OperatorContext) -> Operator:
        from hpcstream.memory.pool import process_pool
        from hpcstream.operators.keyed.deduplicate import Deduplicate

        return Deduplicate(self, context, process_pool(), within=self.within)


@dataclass(frozen=True, eq=False)
class RateLimitSpec(KeyedSpec):
    """A token bucket for each key.

    Attributes
    ----------
    rows : int
        Tokens that come in a time.
    per : int
        That time, in ticks.
    burst : int
        Tokens of a full bucket.
    """

    rows: int = 1
    per: int = 1
    burst: int = 1
    kind = "rate_limit"

    def key(self) -> Key:
        return {
            "keys": self.keys,
            "rate": [self.rows, self.per, self.unit],
            "burst": self.burst,
            "order": self.order,
        }

    def describe(self) -> str:
        burst = f", burst {self.burst}" if self.burst != self.rows else ""
        rate = f"{self.rows} per {duration_text(self.per, self.unit)}{burst}"
        return f"rate limit {rate} by {', '.join(self.keys)}{self.arrival_text}"

    def describe_keyed_state(self) -> str:
        return "two words a key, until its bucket is full"

    def side_outputs(self, inputs: Schemas) -> dict[str, pa.Schema]:
        return {**super().side_outputs(inputs), LIMITED: self.output_schema(inputs)}

    def kernels(self, *, reproducible: bool) -> frozenset[str]:
        return super().kernels(reproducible=reproducible) | {"ordered_rows"}

    def open(self, context: OperatorContext) -> Operator:
        from hpcstream.memory.pool import process_pool
        from hpcstream.operators.keyed.rate_limit import RateLimit

        rate = (self.rows, self.per)
        return RateLimit(self, context, process_pool(), rate=rate, burst=self.burst)
