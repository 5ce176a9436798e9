"""The key columns of a windowed operator as one word per row, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from hpcstream.columns.arrays import is_word_type, key_words, validity, words_to_array
from hpcstream.state.arrays import NO_NULLS, Allocator, Bools, Ints
from hpcstream.state.slice_store import SliceStore
from hpcstream.state.snapshots import PieceGroup

if TYPE_CHECKING:
    from hpcstream.operators.windows.spec import WindowAggregateSpec

Arrays = Mapping[str, npt.NDArray[Any]]


class KeyCodec(Protocol):
    """Words for keys: equal keys, equal words.

    Attributes
    ----------
    generation : int
        Another one when the words of all keys have changed.
    """

    generation: int

    @property
    def n_bytes(self) -> int:
        """Bytes reserved for keys."""

    def encode(self, batch: pa.RecordBatch) -> tuple[Ints, Bools]:
        """Return a word per row, and which are not null (empty if all)."""

    def decode(self, words: Ints, is_null: Bools | None) -> list[pa.Array]:
        """Return the key columns of entries."""

    def forget_dead(self, store: SliceStore) -> None:
        """Give back what is kept for keys that no open slice holds, if that is much."""

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Return what is kept for keys."""

    def pieces(self) -> Sequence[PieceGroup]:
        """Return the same in pieces."""

    def restore(self, state: Arrays) -> None:
        """Take over a snapshot."""


class NoKeys:
    """For windows over all rows: one key."""

    generation = 0
    n_bytes = 0

    def encode(self, batch: pa.RecordBatch) -> tuple[Ints, Bools]:
        """Return zeros."""
        words = np.zeros(batch.num_rows, dtype=np.int64)
        words.setflags(write=False)
        return words, NO_NULLS

    def decode(self, words: Ints, is_null: Bools | None) -> list[pa.Array]:
        """Return no columns."""
        return []

    def forget_dead(self, store: SliceStore) -> None:
        """Keep nothing."""

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Return nothing."""
        return {}

    def pieces(self) -> Sequence[PieceGroup]:
        """Return nothing."""
        return ()

    def restore(self, state: Arrays) -> None:
        """Take nothing."""


class WordKeys:
    """One key column whose values are words already: integers, times, booleans."""

    generation = 0
    n_bytes = 0

    def __init__(self, column: str, key_type: pa.DataType) -> None:
        self._column = column
        self._type = key_type

    def encode(self, batch: pa.RecordBatch) -> tuple[Ints, Bools]:
        """Return the values."""
        column = batch.column(self._column)
        valid = validity(column)
        return key_words(column), NO_NULLS if valid is None else valid

    def decode(self, words: Ints, is_null: Bools | None) -> list[pa.Array]:
        """Return the column."""
        return [words_to_array(words, None if is_null is None else ~is_null, self._type)]

    def forget_dead(self, store: SliceStore) -> None:
        """Keep nothing."""

    def snapshot(self) -> dict[str, npt.NDArray[Any]]:
        """Return nothing: the words are the keys."""
        return {}

    def pieces(self) -> Sequence[PieceGroup]:
        """Return nothing."""
        return ()

    def restore(self, state: Arrays) -> None:
        """Take nothing."""


def key_codec(spec: WindowAggregateSpec, allocator: Allocator) -> KeyCodec:
    """Return the codec for the key columns of a windowed aggregate; ``allocator``: for copies."""
    if not spec.keys:
        return NoKeys()
    if len(spec.keys) == 1 and is_word_type(spec.key_fields[0].type):
        field = spec.input_schema.field(spec.keys[0])
        if not pa.types.is_dictionary(field.type):
            return WordKeys(spec.keys[0], field.type)
    from hpcstream.state.interned_keys import InternedKeys

    return InternedKeys(spec.key_fields, allocator)
