"""The state of windows on another number of ranks: each entry to the owner of its key."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hpcstream.errors import PlanError
from hpcstream.exchange.partitioning import HashPartitioning
from hpcstream.operators.windows.slices import WindowState
from hpcstream.operators.windows.spec import WindowAggregateSpec
from hpcstream.state.arrays import HeapAllocator, Ints
from hpcstream.state.snapshots import Share, Snapshot

Owned = Callable[[Ints, pa.RecordBatch], npt.NDArray[np.int64]]
"""Which of some entries, with their slice numbers and keys, an instance takes over."""


def take_over_keys(state: WindowState, snapshots: Iterable[Snapshot], share: Share) -> None:
    """Merge the entries of an instance's keys from snapshots, in their order, into its state."""
    take_over(state, snapshots, owned_by_key(state.spec, share))


def owned_by_key(spec: WindowAggregateSpec, share: Share) -> Owned:
    """Return what picks the entries whose keys are an instance's."""
    partitioning = HashPartitioning(spec.keys)

    def owned(numbers: Ints, keys: pa.RecordBatch) -> npt.NDArray[np.int64]:
        order, offsets = partitioning.assign(keys, share.places, 0, 0)
        mine = slice(int(offsets[share.place]), int(offsets[share.place + 1]))
        places = np.arange(keys.num_rows) if order is None else order
        return np.asarray(places[mine], dtype=np.int64)

    return owned


def take_over(
    state: WindowState, snapshots: Iterable[Snapshot], owned: Owned, *, labels: bool = False
) -> None:
    """Merge the entries that ``owned`` picks from snapshots into a state."""
    for snapshot in snapshots:
        other = WindowState(state.spec, HeapAllocator(), labels=labels)
        other.restore(snapshot)
        numbers, regions = other.store.slices_below(2**63 - 1)
        for of_entries, slots, is_null in other.entry_groups(numbers, regions):
            keys = _keys(state.spec, other.key_columns(slots, is_null), len(slots))
            mine = owned(of_entries, keys)
            if len(mine):
                batch = keys.take(pa.array(mine))
                state.adopt(other, of_entries[mine], slots[mine], batch)


def everything(numbers: Ints, keys: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """Pick all entries."""
    return np.arange(len(numbers))


def _keys(spec: WindowAggregateSpec, columns: list[pa.Array], n_rows: int) -> pa.RecordBatch:
    if not columns:
        return pa.record_batch({"": pa.nulls(n_rows)})
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(list(spec.key_fields)))


def common_watermark(snapshots: Sequence[Snapshot], what: str) -> npt.NDArray[np.int64]:
    """Return the watermark that all instances of an operator had.

    Raises
    ------
    PlanError
        They had different ones, so a window may have fired on one of them only.
    """
    marks = {int(one["watermark"][0]) for one in snapshots}
    if len(marks) > 1:
        raise PlanError(
            f"the instances of {what} were at different event times ({min(marks)} to "
            f"{max(marks)}), so their state cannot be dealt again: keep the number of ranks"
        )
    return np.array([marks.pop()], dtype=np.int64)


def all_again(snapshots: Sequence[Snapshot]) -> npt.NDArray[np.int64]:
    """Return the windows that any instance is to fire again."""
    return np.unique(np.concatenate([one["fire_again"] for one in snapshots]))


def total(snapshots: Sequence[Snapshot], name: str, share: Share) -> int:
    """Return a count summed over instances; the first new one goes on counting from it."""
    return 0 if share.place else sum(int(one[name][0]) for one in snapshots)


def dealt(snapshots: Sequence[Any], share: Share) -> list[Any]:
    """Return every ``places``-th snapshot: for state that may be on any instance."""
    return list(snapshots)[share.place :: share.places]
