"""Splits assigned to instances in groups of neighbours; see `hpcstream.runtime.run.assignment`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpcstream.runtime.sources.split_progress import SplitProgress

_LEAST_GROUPS = 8  # of a rank, where there are splits enough: one group more is little
_MOST_SPLITS = 512  # in a group: opening a split takes time, too, whatever is in it


def assigned_to(
    instance: int, n_instances: int, split_rows: Sequence[int | None], group_rows: int
) -> list[int]:
    """Return the numbers of the splits that an instance of a source reads, in reading order.

    Parameters
    ----------
    instance, n_instances : int
    split_rows : sequence of (int or None)
        Rows of each split, in order; None, not known: the split is a group of its own.
    group_rows : int
        A group ends with the split that brings it to so many rows, or is the 512th; earlier if
        an instance would else have less than eight groups. 0: every split is a group.
    """
    least = group_rows // _MOST_SPLITS
    weights = [None if rows is None else max(rows, least) for rows in split_rows]
    known = sum(weight or 0 for weight in weights)
    enough = min(group_rows, known // (n_instances * _LEAST_GROUPS))
    own: list[int] = []
    group = weight_of_group = 0
    for number, weight in enumerate(weights):
        if group % n_instances == instance:
            own.append(number)
        weight_of_group += enough if weight is None else weight
        if weight_of_group >= enough:
            group, weight_of_group = group + 1, 0
    return own


def reassigned_splits(
    sources: Sequence[Mapping[str, Any]],
    instance: int,
    n_instances: int,
    group_rows: int,
    *,
    keep_done: bool,
) -> list[SplitProgress]:
    """Assign unfinished splits to another number of instances, in their order.

    Parameters
    ----------
    sources : list of dict
        The ``source`` of the snapshots of all tasks that read the splits before.
    keep_done : bool
        Assign finished splits, too, so that they are not taken for new ones.
    """
    splits = [SplitProgress.from_json(split) for source in sources for split in source["splits"]]
    wanted = [progress for progress in splits if keep_done or not progress.done]
    wanted.sort(key=lambda progress: progress.number)
    rows = [progress.rows_left for progress in wanted]
    return [wanted[i] for i in assigned_to(instance, n_instances, rows, group_rows)]
