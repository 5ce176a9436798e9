"""The tables of an operator, put together from the files that hold their segments.

On as many ranks as before a table is read whole. Otherwise, if its entries are in the order
of key groups, an instance reads those of its own groups: one run of each segment, which begins
and ends at entries whose groups the index tells, so there are a few more at both ends.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from hpcstream.checkpoint.format import Array, CheckpointFile, Ranges
from hpcstream.checkpoint.increments import SegmentTable, StoredSegment
from hpcstream.columns.ownership import KeyGroups
from hpcstream.state.table import counts_name, firsts_name

FileOf = Callable[[str], CheckpointFile]
"""Returns a file by its path; the operator's own file for `OWN`."""


class _Run(NamedTuple):
    """Entries of one segment: from which on, in the file and in the segment, and how many."""

    file: str
    first: int
    in_segment: int
    n_entries: int


def read_state(
    path: str,
    tables: Sequence[SegmentTable],
    file_of: FileOf,
    groups: range | None,
    *,
    without_ordered: bool = False,
) -> dict[str, Array]:
    """Return the arrays of an operator.

    Parameters
    ----------
    path : str
        Its section.
    tables : sequence of SegmentTable
        Where segments are.
    file_of : callable
    groups : range or None
        Of tables in the order of key groups: entries of these, and a few more; None: all.
    without_ordered : bool
        No such table is wanted.
    """
    own = file_of("")
    in_tables = {name for table in tables for name in [*table.arrays, table.index]}
    state = {n: own.array(path, n) for n in own.names(path) if n not in in_tables}
    for table in tables:
        if not (without_ordered and table.index):
            state |= _read_table(path, table, file_of, groups)
    return state


def _read_table(
    path: str, table: SegmentTable, file_of: FileOf, groups: range | None
) -> dict[str, Array]:
    index: dict[str, KeyGroups] = {}
    runs = []
    for segment in table.segments:
        if groups is None or not table.index:
            runs.append(_Run(segment.file, segment.first, 0, segment.n_entries))
            continue
        if segment.file not in index:
            index[segment.file] = file_of(segment.file).array(path, table.index)
        runs.append(_run_of_groups(segment, index[segment.file], table.stride, groups))
    counts = np.array([run.n_entries for run in runs], dtype=np.int64)
    ranges = _ranges_by_file(runs)
    found: dict[str, Array] = {
        counts_name(table.name): counts,
        firsts_name(table.name): np.array([run.in_segment for run in runs], dtype=np.int64),
    }
    for name in table.arrays:
        found[name] = out = file_of("").empty(path, name, int(counts.sum()))
        for file, of_file in ranges.items():
            file_of(file).copy(path, name, out, of_file)
    return found


def _run_of_groups(segment: StoredSegment, index: KeyGroups, stride: int, groups: range) -> _Run:
    """Return the entries of a segment from the last one known to be before some groups on.

    They end at the first one known to be behind them.
    """
    begin, end = segment.first, segment.first + segment.n_entries
    known = range(-(-begin // stride), -(-end // stride))
    before, behind = np.searchsorted(index[known.start : known.stop], [groups.start, groups.stop])
    first = (known[before - 1]) * stride if before else begin
    stop = known[behind] * stride if behind < len(known) else end
    return _Run(segment.file, first, first - begin, max(stop - first, 0))


def _ranges_by_file(runs: Sequence[_Run]) -> dict[str, Ranges]:
    """Return the ranges of each file when all runs follow one another."""
    ranges: dict[str, Ranges] = {}
    at = 0
    for run in runs:
        ranges.setdefault(run.file, []).append((run.first, at, run.n_entries))
        at += run.n_entries
    return ranges
