"""Encodes the key columns of a windowed operator as one word per row, and decodes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pyarrow as pa

from hpcstream.aggregates.base import value_type
from hpcstream.columns.arrays import is_word_type, key_words, validity, words_to_array
from hpcstream.columns.ownership import Ownership, word_groups
from hpcstream.state.arrays import NO_NULLS, Bools, Ints
from hpcstream.state.key_holder import KeyHolder
from hpcstream.state.slices.table import Grouping, SliceKeys
from hpcstream.state.table import StateTable


class KeyCodec(SliceKeys, Protocol):
    """Encodes keys as words: keys are equal if and only if their words are."""

    def encode(self, batch: pa.RecordBatch) -> tuple[Ints, Bools]:
        """Return a word per row, and which keys are not null (empty if none is null)."""

    def decode(self, words: Ints, is_null: Bools | None) -> list[pa.Array]:
        """Return the key columns of entries."""

    def forget_dead(self, holder: KeyHolder) -> None:
        """Free the memory of keys that are in no open slice, if it is worth it."""

    def tables(self) -> Sequence[StateTable]:
        """Return the tables with the codec's state."""


class NoKeys:
    """Codec of windows over all rows, which have a single key."""

    generation = 0
    has_groups = False

    def encode(self, batch: pa.RecordBatch) -> tuple[Ints, Bools]:
        """Return zeros."""
        words = np.zeros(batch.num_rows, dtype=np.int64)
        words.setflags(write=False)
        return words, NO_NULLS

    def decode(self, words: Ints, is_null: Bools | None) -> list[pa.Array]:
        """Return no columns."""
        return []

    def forget_dead(self, holder: KeyHolder) -> None:
        """Keep nothing."""

    def tables(self) -> Sequence[StateTable]:
        """Return none."""
        return ()

    def grouping(self) -> Grouping:
        """Return a function that assigns every key to group 0."""
        return lambda words, is_null: np.zeros(len(words), dtype=np.uint16)

    def owned(self, part: int, words: Ints, is_null: Bools, owned: Ownership) -> Bools:
        """Return all entries: their owner does not depend on the key."""
        return np.ones(len(words), dtype=np.bool_)

    def translated(self, part: int, words: Ints) -> Ints:
        """Return the words."""
        return words


class WordKeys:
    """Codec of one key column whose values fit in a word: integers, times, booleans."""

    generation = 0
    has_groups = True

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

    def forget_dead(self, holder: KeyHolder) -> None:
        """Keep nothing."""

    def tables(self) -> Sequence[StateTable]:
        """Return none: the words are the keys."""
        return ()

    def grouping(self) -> Grouping:
        """Return the function from words to key groups."""
        return word_groups

    def owned(self, part: int, words: Ints, is_null: Bools, owned: Ownership) -> Bools:
        """Return which entries an instance owns."""
        return owned.owns(word_groups(words, is_null))

    def translated(self, part: int, words: Ints) -> Ints:
        """Return the words: they are the same in every instance."""
        return words


def key_codec(keys: Sequence[str], schema: pa.Schema) -> KeyCodec:
    """Return the codec for key columns of rows of a schema, which has them as results do."""
    if not keys:
        return NoKeys()
    fields = [schema.field(name) for name in keys]
    if len(keys) == 1 and is_word_type(fields[0].type):
        return WordKeys(keys[0], fields[0].type)
    from hpcstream.state.interned_keys import InternedKeys

    return InternedKeys([pa.field(f.name, value_type(f.type)) for f in fields])
