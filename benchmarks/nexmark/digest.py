"""What a query answered, small enough to compare and to publish; whatever the order of rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.workloads.answers import key_hashes, mix_rows

RELATIVE = 1e-9


@dataclass
class Digest:
    """A summary of rows.

    Attributes
    ----------
    rows : int
    mix : int
        Sum over the rows, modulo 2**64, of a hash of all values that are not floats.
    sums : dict of str to float
        Of each column of floats.
    window_ends : set of int
        Of results of windows.
    """

    rows: int = 0
    mix: int = 0
    sums: dict[str, float] = field(default_factory=dict)
    window_ends: set[int] = field(default_factory=set)

    @property
    def hash(self) -> str:
        """The mix as 16 digits."""
        return f"{self.mix:016x}"

    def add_batch(self, batch: pa.RecordBatch) -> None:
        """Add rows."""
        self.add(_digest(batch))

    def add(self, other: Digest) -> None:
        """Add the summary of other rows."""
        self.rows += other.rows
        self.mix = (self.mix + other.mix) % 2**64
        for name, value in other.sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.window_ends |= other.window_ends

    def difference(self, other: Digest) -> str:
        """Return in what this differs from the right one, or nothing."""
        if self.rows != other.rows:
            return f"{self.rows} rows instead of {other.rows}"
        if self.mix != other.mix:
            return f"rows of hash {self.hash} instead of {other.hash}"
        for name, value in other.sums.items():
            if abs(self.sums.get(name, 0.0) - value) > RELATIVE * max(abs(value), 1.0):
                return f"sum of {name} {self.sums.get(name)!r} instead of {value!r}"
        return ""

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object, of the windows only their number."""
        values = asdict(self) | {"mix": self.hash}
        return values | {"window_ends": len(self.window_ends)}


def digest(batches: Iterable[pa.RecordBatch]) -> Digest:
    """Return the summary of the rows of batches."""
    found = Digest()
    for batch in batches:
        found.add_batch(batch)
    return found


class DigestSink:
    """A sink that sums up its rank's rows, and keeps none."""

    def __init__(self) -> None:
        self.digest = Digest()

    def write(self, batch: pa.RecordBatch) -> None:
        """Add the rows of a batch."""
        self.digest.add_batch(batch)


class CountSink:
    """A sink that looks at nothing; the engine counts the rows it gets."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Take the rows and let them go."""


def _digest(batch: pa.RecordBatch) -> Digest:
    floats = {f.name for f in batch.schema if pa.types.is_floating(f.type)}
    exact = [_plain(batch[f.name]) for f in batch.schema if f.name not in floats]
    hashes = key_hashes(exact) if exact else np.zeros(batch.num_rows, np.uint64)
    zeros = np.zeros(batch.num_rows, np.int64)
    sums = {name: float(np.nansum(_floats(batch[name]))) for name in sorted(floats)}
    return Digest(batch.num_rows, int(mix_rows(hashes, zeros, zeros)), sums, _ends(batch))


def _plain(column: pa.Array) -> pa.Array:
    """Return a column as integers or text without nulls."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_temporal(column.type):
        column = column.cast(pa.int32() if pa.types.is_date32(column.type) else pa.int64())
    elif pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    elif pa.types.is_decimal(column.type):
        column = column.cast(pa.string())
    if column.null_count:
        column = pc.fill_null(column, -1 if pa.types.is_integer(column.type) else "null")
    return column


def _floats(column: pa.Array) -> np.ndarray:
    values: np.ndarray = column.to_numpy(zero_copy_only=False)
    return np.asarray(values, np.float64)


def _ends(batch: pa.RecordBatch) -> set[int]:
    if "window_end" not in batch.schema.names:
        return set()
    return set(pc.unique(batch["window_end"].cast(pa.int64())).to_pylist())
