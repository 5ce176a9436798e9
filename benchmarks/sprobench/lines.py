"""Lines as sensors send them, ``1739183658407,sensor07-abcde,57.60``: written and read."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numba import njit

from benchmarks.nexmark.texts import pool
from hpcstream import generators as g

MEAN, DEVIATION = 70.0, 15.0
"""Of temperatures, in degrees Celsius."""

_STRING = pa.string()
_LONGEST = 64
"""Bytes of a line beside the filler, more than there can be."""


@dataclass(frozen=True)
class Sensors:
    """What the lines are about.

    Attributes
    ----------
    count : int
        Sensors, which take turns.
    record_bytes : int
        Of time, number and temperature; what is missing is filled up with letters.
    start_ms : int
        Time of the first line.
    per_second : int
        Lines in a second of event time.
    """

    seed: int = 7
    count: int = 64
    record_bytes: int = 27
    start_ms: int = 1_739_183_658_407
    per_second: int = 100_000

    @cached_property
    def filler(self) -> np.ndarray:
        """The letters behind a sensor's number."""
        return pool(self.seed)[: max(self.record_bytes - len("1739183658407,00,57.60"), 0)].copy()

    def columns(self) -> dict[str, g.ColumnGenerator]:
        """Return the columns: the time of arrival, as a broker would stamp it, and the line."""
        times = g.times(per_second=self.per_second, unit="ms", start=self.start_ms)
        return {"time": times, "line": _Lines(self)}

    def table(self, rows: int, block: int = 1 << 17) -> pa.Table:
        """Return the lines as a table."""
        made = self.columns()
        batches = [
            pa.record_batch({n: c.values(i, min(block, rows - i), 0) for n, c in made.items()})
            for i in range(0, rows, block)
        ]
        return pa.Table.from_batches(batches, pa.schema([(n, c.type) for n, c in made.items()]))


@dataclass(frozen=True)
class _Lines:
    sensors: Sensors
    type: pa.DataType = _STRING

    def values(self, start: int, n_rows: int, seed: int, stride: int = 1) -> pa.Array:
        own, filler = self.sensors, self.sensors.filler
        rows = np.arange(start, start + n_rows * stride, stride)
        times = own.start_ms + rows * 1_000 // own.per_second
        offsets = np.empty(n_rows + 1, np.int32)
        data = np.empty(n_rows * (_LONGEST + len(filler)), np.uint8)
        temperatures = np.empty(n_rows, np.int64)
        draw_hundredths(rows, np.uint64(g.column_seed(own.seed, "line")), temperatures)
        write_lines(times, rows % own.count, temperatures, filler, offsets, data)
        buffers = [None, pa.py_buffer(offsets), pa.py_buffer(data)]
        return pa.Array.from_buffers(self.type, n_rows, buffers)


@njit(cache=True, nogil=True)
def draw_hundredths(rows, seed, out_hundredths):
    """Write temperatures in hundredths of a degree, normally distributed (Box and Muller)."""
    for i in range(len(rows)):
        h = seed + np.uint64(rows[i] + 1) * np.uint64(0x9E3779B97F4A7C15)
        h = (h ^ (h >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        h = (h ^ (h >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        h ^= h >> np.uint64(31)
        a = 1.0 - np.int64(h >> np.uint64(32)) * 2.0**-32
        b = np.int64(h & np.uint64(0xFFFFFFFF)) * 2.0**-32
        normal = math.sqrt(-2.0 * math.log(a)) * math.cos(2.0 * math.pi * b)
        out_hundredths[i] = np.int64(math.floor(100.0 * (70.0 + 15.0 * normal) + 0.5))


@njit(cache=True, nogil=True)
def _write_number(value, digits, at, out_data):
    """Write a number in so many digits at least; return the offset behind it."""
    length = digits
    rest = value // 10**digits
    while rest > 0:
        length += 1
        rest //= 10
    for k in range(length):
        out_data[at + length - 1 - k] = 48 + value % 10
        value //= 10
    return at + length


@njit(cache=True, nogil=True)
def write_lines(times, sensors, hundredths, filler, out_offsets, out_data):
    """Write lines of text, one behind the other, and where each begins."""
    at = 0
    out_offsets[0] = 0
    for i in range(len(times)):
        at = _write_number(times[i], 1, at, out_data)
        for letter in b",sensor":
            out_data[at] = letter
            at += 1
        at = _write_number(sensors[i], 2, at, out_data)
        out_data[at] = 45
        at += 1
        for k in range(len(filler)):
            out_data[at + k] = filler[k]
        at += len(filler)
        out_data[at] = 44
        at += 1
        value = hundredths[i]
        if value < 0:
            out_data[at] = 45
            at += 1
            value = -value
        at = _write_number(value // 100, 1, at, out_data)
        out_data[at] = 46
        at = _write_number(value % 100, 2, at + 1, out_data)
        out_offsets[i + 1] = at


@njit(cache=True, nogil=True)
def _read_digits(data, at, stop, value):
    """Return the number that the digits continue, and the offset behind them."""
    while at < stop and 48 <= data[at] <= 57:
        value = value * 10 + (data[at] - 48)
        at += 1
    return value, at


@njit(cache=True, nogil=True)
def read_lines(offsets, data, out_times, out_names, out_texts, out_temperatures):
    """Read lines; write the names one behind the other. Return the first bad line, or -1.

    ``out_names`` is int32[n + 1], where each name begins in ``out_texts``.
    """
    written = 0
    out_names[0] = 0
    for i in range(len(offsets) - 1):
        at, stop = offsets[i], offsets[i + 1]
        out_times[i], at = _read_digits(data, at, stop, np.int64(0))
        if at >= stop or data[at] != 44:
            return i
        at += 1
        while at < stop and data[at] != 44:
            out_texts[written] = data[at]
            written += 1
            at += 1
        out_names[i + 1] = written
        at += 1
        minus = at < stop and data[at] == 45
        if minus:
            at += 1
        start = at
        number, at = _read_digits(data, at, stop, np.int64(0))
        scale = 1.0
        if at < stop and data[at] == 46:
            point = at + 1
            number, at = _read_digits(data, point, stop, number)
            scale = 10.0 ** (at - point)
        if at != stop or at == start:
            return i
        out_temperatures[i] = -number / scale if minus else number / scale
    return -1
