"""Rows as lines of JSON in a column of text, and back: the input of the workload ``ysb-json``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import json as arrow_json

TIME, LINE = "ts", "line"
FIELDS = ("ad_id", "event_type")
"""What the query needs of a line."""

PARSED = pa.schema([(TIME, pa.int64()), *((name, pa.string()) for name in FIELDS)])
_OPTIONS = arrow_json.ParseOptions(
    explicit_schema=pa.schema([(name, pa.string()) for name in FIELDS]),
    unexpected_field_behavior="ignore",
)


def as_lines(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the time of each row, as a broker notes it, and the whole row as a line of JSON."""
    parts: list[Any] = ['{"event_time": ', batch[TIME].cast(pa.string()), ""]
    for name in batch.schema.names:
        if name != TIME:
            parts[-1] += f', "{name}": "'
            parts += [_plain(batch[name]), '"']
    parts[-1] += "}\n"
    return pa.record_batch({TIME: batch[TIME], LINE: pc.binary_join_element_wise(*parts, "")})


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def parse(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return the fields that the query needs, parsed by Arrow where the lines lie."""
    lines = batch[LINE]
    if not len(lines):
        return pa.RecordBatch.from_pylist([], schema=PARSED)
    _, offsets, data = lines.buffers()
    starts = np.frombuffer(offsets, np.int32)[lines.offset : lines.offset + len(lines) + 1]
    begin, n_bytes = int(starts[0]), int(starts[-1] - starts[0])
    read = arrow_json.ReadOptions(use_threads=False, block_size=n_bytes + 1)
    text = pa.BufferReader(data.slice(begin, n_bytes))
    table = arrow_json.read_json(text, read_options=read, parse_options=_OPTIONS)
    columns = [table[name].combine_chunks() for name in FIELDS]
    return pa.record_batch([batch[TIME], *columns], schema=PARSED)
