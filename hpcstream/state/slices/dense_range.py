"""The range of keys that slices are dense for: one slot per key (`hpcstream.kernels.key_table`).

Where slices hold most keys of a range, they need neither hashing nor an index, they
merge by adding arrays, and their results come in the order of the keys. That order is
part of the output of a job, so the choice depends only on the contents of slices that
closed before, and it is part of a snapshot.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from hpcstream.state.slices.backoff import Backoff

Ints = npt.NDArray[np.int64]

_DENSE_ENOUGH = 4  # keys of the range for each entry, so that it is chosen
_TOO_EMPTY = 8  # and so that it is given up
_MANY_OTHERS = 1 / 8  # of the entries, outside the range
_MOST_KEYS = 1 << 18  # beyond, slots that are vacant cost more than an index does


class DenseRange:
    """The keys that the next slices are dense for: ``width`` of them from ``low`` on.

    Attributes
    ----------
    low, width : int
        A width of 0: the next slices are not dense.
    """

    def __init__(self) -> None:
        self.low = self.width = 0
        self._backoff = Backoff()

    def note_dense(self, widths: Ints, n_dense: Ints, n_others: Ints) -> None:
        """Abandon the range if closed dense slices had too few of its keys, or many others.

        Parameters
        ----------
        widths, n_dense, n_others : int64[n_slices]
            For how many keys each was dense, entries of these and of other keys.
        """
        n_slots, n_used, n_outside = (int(counts.sum()) for counts in (widths, n_dense, n_others))
        is_empty = n_slots > _TOO_EMPTY * n_used
        if self.width and (is_empty or n_outside > _MANY_OTHERS * (n_used + n_outside)):
            self.width = 0
            self._backoff.failed()

    def wants_look(self, n_closed: int) -> bool:
        """Whether `look` should be called for slices that close and are not dense."""
        return not self.width and self._backoff.due(n_closed)

    def look(self, low: int, high: int, n_entries: int) -> None:
        """Choose a range for slices whose keys are from ``low`` to ``high``, if it suits them.

        Parameters
        ----------
        low, high : int
        n_entries : int
            How many a slice had, on average.
        """
        if high < low or high - low >= _MOST_KEYS:
            self._backoff.failed()
            return
        step = 1 << max(0, (high - low).bit_length() - 3)  # a few more, for what comes
        first = max(low // step * step, -(2**63))
        width = min((high // step + 1) * step, 2**63) - first
        if width > _DENSE_ENOUGH * n_entries:
            self._backoff.failed()
        else:
            self.low, self.width = first, width

    def forget(self) -> None:
        """Abandon the range because the words of keys have changed."""
        self.width = 0

    def snapshot(self) -> Ints:
        """Return everything as int64[4]."""
        state = [self.low, self.width, self._backoff.wait, self._backoff.left]
        return np.array(state, dtype=np.int64)

    def restore(self, state: Ints) -> None:
        """Restore a snapshot."""
        self.low, self.width, self._backoff.wait, self._backoff.left = state.tolist()
