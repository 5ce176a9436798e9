"""The contract of state that holds interned keys, so that unused keys can be removed."""

from __future__ import annotations

from typing import Protocol

from hpcstream.state.arrays import Ints


class KeyHolder(Protocol):
    """State whose entries hold keys by their words: open slices, or slots of keys."""

    def n_key_uses(self) -> int:
        """Return how many entries hold a key."""

    def live_keys(self) -> Ints:
        """Return the key words of all entries, repeated as they are."""

    def replace_keys(self, new_key_of: Ints) -> None:
        """Replace each key ``k`` by ``new_key_of[k]``, for keys that are small numbers."""
