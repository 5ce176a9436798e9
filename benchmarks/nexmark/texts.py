"""The words of the stream: made once for a seed, before the first event."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
import pyarrow as pa

from hpcstream import generators as g

HOT_CHANNELS = ("Google", "Facebook", "Baidu", "Apple")
N_CHANNELS = 10_000
STATES = ("AZ", "CA", "ID", "OR", "WA", "WY")
CITIES = (
    "Phoenix",
    "Los Angeles",
    "San Francisco",
    "Boise",
    "Portland",
    "Bend",
    "Redmond",
    "Seattle",
    "Kent",
    "Cheyenne",
)
FIRST_NAMES = (
    "Peter",
    "Paul",
    "Luke",
    "John",
    "Saul",
    "Vicky",
    "Kate",
    "Julie",
    "Sarah",
    "Deiter",
    "Walter",
)
LAST_NAMES = (
    "Shultz",
    "Abrams",
    "Spencer",
    "White",
    "Bartels",
    "Walton",
    "Smith",
    "Jones",
    "Noris",
)

POOL_BYTES = 1 << 20
_LETTERS = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", np.uint8)


def pool(seed: int, special: str = "") -> np.ndarray:
    """Return ``uint8``: letters to cut texts from, every 13th the special one on average."""
    bits = g.random_bits(0, POOL_BYTES, g.column_seed(seed, f"pool{special}"))
    letters = _LETTERS[g.below(bits, 26).view(np.int64)]
    if special:
        letters = np.where(bits % np.uint64(13) == 0, np.uint8(ord(special)), letters)
    return letters


def repeated_pool(seed: int, special: str, n_bytes: int) -> np.ndarray:
    """Return the pool over and over, for ``n_bytes`` at least; kept for the next time."""
    return _repeated(seed, special, (n_bytes // POOL_BYTES).bit_length() + 1)


@cache
def _repeated(seed: int, special: str, exponent: int) -> np.ndarray:
    return np.tile(pool(seed, special), 1 << exponent)


def people() -> pa.Array:
    """Return every pair of a first and a last name."""
    return pa.array([f"{first} {last}" for first in FIRST_NAMES for last in LAST_NAMES])


@dataclass(frozen=True, eq=False)
class Channels:
    """The channels that bids come through, the hot ones first, and the URL of each."""

    names: pa.Array
    urls: pa.Array


@lru_cache(maxsize=4)
def channels(seed: int) -> Channels:
    """Return the channels; of those that are not hot, nine of ten name an id in their URL."""
    words = _Words(seed)
    hot = len(HOT_CHANNELS)
    names = [*HOT_CHANNELS, *(f"channel-{i}" for i in range(N_CHANNELS))]
    urls = [words.url() for _ in names]
    with_id = g.below(g.random_bits(0, N_CHANNELS, g.column_seed(seed, "channel ids")), 10) > 0
    for i in np.flatnonzero(with_id).tolist():
        urls[hot + i] += f"&channel_id={_reversed(i)}"
    return Channels(pa.array(names), pa.array(urls))


class _Words:
    """Draws short words, one after the other."""

    def __init__(self, seed: int) -> None:
        n = 18 * (len(HOT_CHANNELS) + N_CHANNELS)
        self._bits = iter(g.random_bits(0, n, g.column_seed(seed, "urls")).tolist())

    def url(self) -> str:
        folders = "/".join(self._word() for _ in range(3))
        return f"https://www.nexmark.com/{folders}/item.htm?query=1"

    def _word(self) -> str:
        """Return 3 or 4 letters, as the published words of up to 5 have."""
        bits = next(self._bits)
        letters = [(bits >> 8 * k) & 0xFF for k in range(3 + (bits >> 63))]
        return "".join("_" if x % 13 == 0 else chr(97 + x % 26) for x in letters)


def _reversed(number: int) -> int:
    """Return the 32 bits in reverse order, as a positive number."""
    backwards = int(f"{number:032b}"[::-1], 2)
    return backwards if backwards < 2**31 else 2**32 - backwards
