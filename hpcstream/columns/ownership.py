"""Ownership of keys: key -> key group -> instance, for the exchange and for restored state.

::

    key group of a key        the high 12 bits of its hash: 4096 groups
    instance p of n owns      the groups g with g * n >> 12 == p: one range of groups

The ranges of consecutive instances are adjacent, so state that is sorted by key group can be
divided among any number of instances.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

N_KEY_GROUPS = 4096

KeyGroups = npt.NDArray[np.uint16]
Instances = npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Ownership:
    """The keys that instance number ``instance`` of ``n_instances`` owns."""

    instance: int
    n_instances: int

    @property
    def groups(self) -> range:
        """The key groups that the instance owns."""
        ends = (self.instance, self.instance + 1)
        first, stop = (-(-end * N_KEY_GROUPS // self.n_instances) for end in ends)
        return range(first, stop)

    def owns(self, groups: KeyGroups) -> npt.NDArray[np.bool_]:
        """Return which of some key groups the instance owns."""
        own = self.groups
        # Groups below the first one wrap around to large numbers.
        is_own: npt.NDArray[np.bool_] = groups - np.uint16(own.start) < len(own)
        return is_own


def owners(batch: pa.RecordBatch, columns: Sequence[str], n_instances: int) -> Instances:
    """Return the instance, of ``n_instances``, that owns the key of each row."""
    # Kernels are imported when a job runs, not when it is planned.
    from hpcstream.columns.key_hash import hash_keys, single_words
    from hpcstream.kernels import partition

    instances = np.empty(batch.num_rows, dtype=np.uint16)
    words = single_words(batch, columns)
    if words is not None:
        partition.partition_of_words(words, n_instances, instances)
    else:
        partition.partition_of_hashes(hash_keys(batch, columns), n_instances, instances)
    return instances


def key_groups(batch: pa.RecordBatch, columns: Sequence[str]) -> KeyGroups:
    """Return the key group of each row: its owner among as many instances as key groups."""
    return owners(batch, columns, N_KEY_GROUPS)


def word_groups(words: npt.NDArray[np.int64], is_null: npt.NDArray[np.bool_]) -> KeyGroups:
    """Return the key groups of keys of one word, or of null where ``is_null``."""
    from hpcstream.kernels import partition

    groups = np.empty(len(words), dtype=np.uint16)
    partition.partition_of_words(words, N_KEY_GROUPS, groups)
    groups[is_null] = null_group()
    return groups


def null_group() -> int:
    """Return the key group of the null of a single key column."""
    from hpcstream.kernels import hashing

    return int(hashing.NULL_HASH) * N_KEY_GROUPS >> 64


def owned_rows(
    batch: pa.RecordBatch, columns: Sequence[str], owned: Ownership
) -> npt.NDArray[np.int64]:
    """Return the numbers of the rows whose keys an instance owns."""
    return np.flatnonzero(owners(batch, columns, owned.n_instances) == owned.instance)
