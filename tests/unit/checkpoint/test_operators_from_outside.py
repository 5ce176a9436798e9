"""An operator that a test defines is found in a checkpoint, on any number of ranks."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import hpcstream as hs
from hpcstream.api.stream import Stream
from hpcstream.columns.hidden import visible_schema
from hpcstream.graph.logical import OperatorNode
from hpcstream.operators.base import Operator
from hpcstream.operators.spec import ByKey, OperatorContext, OperatorSpec, Requirement, Schemas
from hpcstream.operators.stream_time import EventTime
from hpcstream.stable_keys import Key
from hpcstream.state.table import StateTable

sys.path.insert(0, str(Path(__file__).parent))
from restart import generated, visible
from test_jobs import kill_with_checkpoints, start


class Numbering(Operator):
    """Numbers the rows of each key."""

    def __init__(self, spec: NumberingSpec, context: OperatorContext) -> None:
        self.column, self.output = spec.column, spec.planned_schema(context)
        self.counts: dict[str, int] = {}

    def process_batch(self, batch, input_index=0):
        rows = batch.to_pylist()
        for row in rows:
            key = str(row[self.column])
            row["number"] = self.counts[key] = self.counts.get(key, 0) + 1
        yield pa.RecordBatch.from_pylist(rows, self.output)

    def tables(self) -> Sequence[StateTable]:
        return (Counts(self.counts),)


class Counts(StateTable):
    """The count of each key, as JSON."""

    name = "counts"

    def __init__(self, counts: dict[str, int]) -> None:
        self.counts = counts

    def head(self):
        return {"counts": np.frombuffer(json.dumps(self.counts).encode(), np.uint8)}

    def restore(self, arrays):
        self.counts.update(json.loads(np.asarray(arrays["counts"]).tobytes()))

    def merge(self, parts, owned):
        for part in parts:  # keys of others do not come here
            self.restore(part.arrays)


@dataclass(frozen=True, eq=False)
class NumberingSpec(OperatorSpec):
    """Numbers the rows of each key; ``word``: what it says of itself."""

    column: str
    word: str = "number"
    kind = "numbering"

    def key(self) -> Key:
        return self.column

    def describe(self) -> str:
        return f"{self.word} by {self.column}"

    def inputs(self) -> tuple[Requirement, ...]:
        return (ByKey((self.column,)),)

    def output_schema(self, inputs: Schemas) -> pa.Schema:
        return visible_schema(inputs[0]).append(pa.field("number", pa.int64()))

    def output_time(self, times: Sequence[EventTime | None], inputs: Schemas) -> None:
        return None

    def open(self, context: OperatorContext) -> Numbering:
        return Numbering(self, context)


def numbered(out, spec):
    job = hs.Job("numbered")
    rows = generated(job, 3000)
    Stream(job, OperatorNode.of(spec, rows._node)).write_parquet(out)
    return job


@pytest.mark.parametrize("n_ranks", [1, 2, 3])
def test_its_state_goes_on_on_any_number_of_ranks_under_other_words(n_ranks, tmp_path):
    kill_with_checkpoints(lambda out: numbered(out, NumberingSpec("key")), tmp_path)

    start(lambda out: numbered(out, NumberingSpec("key", "count")), tmp_path, n_ranks).finish()

    numbers: dict[str | None, list[int]] = {}
    for row in visible(tmp_path / "out").to_pylist():
        numbers.setdefault(row["key"], []).append(row["number"])
    assert sum(map(len, numbers.values())) == 3000
    assert all(sorted(found) == list(range(1, len(found) + 1)) for found in numbers.values())
