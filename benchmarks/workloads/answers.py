"""What an engine answered, small enough to compare: counts, a mix of keys and windows, sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from numba import njit

from benchmarks.workloads.workload import Workload

RELATIVE = 1e-9


@dataclass
class Answer:
    """A summary of result rows, whatever their order.

    Attributes
    ----------
    rows : int
        Result rows.
    count : int
        Sum of the counts: how many rows went into windows.
    mix : int
        Sum over the rows of a hash of key, window and count, modulo 2**64.
    sums : list of float
        Of each further column.
    """

    rows: int = 0
    count: int = 0
    mix: int = 0
    sums: list[float] = field(default_factory=list)

    def add(self, other: Answer) -> None:
        """Add the answer of other rows."""
        self.rows += other.rows
        self.count += other.count
        self.mix = (self.mix + other.mix) % 2**64
        if len(self.sums) < len(other.sums):
            self.sums = [0.0] * len(other.sums)
        self.sums = [a + b for a, b in zip(self.sums, other.sums, strict=True)]

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object; the mix as text, as JSON has no 64-bit integers."""
        return {**asdict(self), "mix": f"{self.mix:016x}"}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Answer:
        """Return the answer that `to_json` wrote."""
        return cls(value["rows"], value["count"], int(value["mix"], 16), value["sums"])

    def difference(self, other: Answer) -> str:
        """Return in what the two differ, or nothing: floats by `RELATIVE` at most."""
        for name in ("rows", "count", "mix"):
            if getattr(self, name) != getattr(other, name):
                return f"{name} {getattr(self, name)} instead of {getattr(other, name)}"
        if len(self.sums) != len(other.sums):
            return f"{len(self.sums)} sums instead of {len(other.sums)}"
        for mine, theirs in zip(self.sums, other.sums, strict=True):
            if abs(mine - theirs) > RELATIVE * max(abs(theirs), 1.0):
                return f"sum {mine!r} instead of {theirs!r}"
        return ""


def answer_of(rows: pa.RecordBatch | pa.Table, workload: Workload) -> Answer:
    """Return the summary of result rows with the columns that `Workload` names."""
    if isinstance(rows, pa.Table):
        answer = Answer(sums=[0.0] * len(workload.aggregates))
        for batch in rows.to_batches():
            answer.add(answer_of(batch, workload))
        return answer
    counts = _int64(rows.column("n"))
    starts = _int64(rows.column("window_start"))
    keys = key_hashes([rows.column(name) for name in workload.keys])
    sums = [float(rows.column(name).to_numpy().sum()) for name in workload.aggregates]
    return Answer(rows.num_rows, int(counts.sum()), int(mix_rows(keys, starts, counts)), sums)


def key_hashes(columns: Sequence[pa.Array]) -> np.ndarray:
    """Return ``uint64[n]``: one number for each key, of one or more columns."""
    hashes = _column_hashes(columns[0])
    for column in columns[1:]:
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + _column_hashes(column)
    return hashes


def _column_hashes(column: pa.Array) -> np.ndarray:
    if pa.types.is_integer(column.type):
        return column.to_numpy().astype(np.uint64)
    text = column if pa.types.is_large_string(column.type) else column.cast(pa.large_string())
    _, offsets, data = text.buffers()
    starts = np.frombuffer(offsets, np.int64)[text.offset : text.offset + len(text) + 1]
    return _hash_bytes(starts, np.frombuffer(data or b"", np.uint8))


def _int64(column: pa.Array) -> np.ndarray:
    return column.to_numpy().astype(np.int64, copy=False)


@njit(cache=True, nogil=True)
def _hash_bytes(starts, data):
    hashes = np.empty(len(starts) - 1, dtype=np.uint64)
    for i in range(len(hashes)):
        h = np.uint64(0xCBF29CE484222325)
        for at in range(starts[i], starts[i + 1]):
            h = (h ^ np.uint64(data[at])) * np.uint64(0x100000001B3)
        hashes[i] = h
    return hashes


@njit(cache=True, nogil=True)
def mix_row(key, start, count):
    """Return the hash of one result row; all three are taken as uint64."""
    h = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    h ^= np.uint64(start) * np.uint64(0xBF58476D1CE4E5B9)
    h ^= h >> np.uint64(29)
    h += np.uint64(count)
    h *= np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(32))


@njit(cache=True, nogil=True)
def mix_rows(keys, starts, counts):
    """Return the sum of `mix_row` over all rows, modulo 2**64."""
    total = np.uint64(0)
    for i in range(len(keys)):
        total += mix_row(keys[i], starts[i], counts[i])
    return total
