"""Handles messages that do not decode: the job fails, or they are dropped or kept.

Kept messages travel in the stream of the source, as rows whose columns are null except four
that describe the error. So they are exactly-once like all rows; `hpcstream.split_dead_letters`
separates them from the others.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal, get_args

import pyarrow as pa

from hpcstream.connectors.base import JSON
from hpcstream.connectors.formats.decoding import BadMessage, Decoder, shown
from hpcstream.errors import ConnectorError
from hpcstream.log import warn

Bad = Literal["raise", "drop", "keep"]

ERROR, PAYLOAD, SPLIT, POSITION = "dead_error", "dead_payload", "dead_split", "dead_position"
DEAD_LETTER_FIELDS = (
    pa.field(ERROR, pa.string()),
    pa.field(PAYLOAD, pa.binary()),
    pa.field(SPLIT, pa.string()),
    pa.field(POSITION, pa.string()),
)
"""Why it did not decode, its bytes, the id of its split, its position as JSON."""


class MessageRows:
    """Converts the messages of a source to rows, one row each.

    Parameters
    ----------
    decoder : Decoder
    bad : {"raise", "drop", "keep"}
        What becomes of messages that do not decode: the job fails; they are dropped and
        counted; or they are kept as rows of their own, see `hpcstream.split_dead_letters`.

    Attributes
    ----------
    schema : pa.Schema
        Of the rows: that of the decoder, and with ``"keep"`` `DEAD_LETTER_FIELDS`.
    n_bad : int
        Messages that did not decode.
    """

    def __init__(self, decoder: Decoder, bad: Bad = "raise") -> None:
        if bad not in get_args(Bad):
            raise ValueError(f"bad={bad!r}: expected one of {', '.join(get_args(Bad))}")
        self.schema = decoder.schema
        if bad == "keep":
            taken = [
                field.name for field in DEAD_LETTER_FIELDS if field.name in decoder.schema.names
            ]
            if taken:
                raise ValueError(f"column {taken[0]!r} of the decoder is a name of dead letters")
            self.schema = pa.schema([*decoder.schema, *DEAD_LETTER_FIELDS])
        self.n_bad = 0
        self._decoder = decoder
        self._bad = bad

    def rows(
        self, messages: Sequence[bytes], split: str, positions: Sequence[JSON]
    ) -> pa.RecordBatch:
        """Return the rows of messages.

        Parameters
        ----------
        messages : sequence of bytes
        split : str
            Id of their split.
        positions : sequence of JSON
            Where each of them is, to be named.

        Raises
        ------
        ConnectorError
            One does not decode, and ``bad`` is ``"raise"``.
        """
        batch, bad = self._decoder.decode(messages)
        if bad:
            self._note(bad, messages, split, positions)
        if self._bad != "keep":
            return batch
        letters = self._letters(bad, messages, split, positions)
        if bad:
            batch = batch.take(_row_indices(len(messages), bad))
        return pa.RecordBatch.from_arrays([*batch.columns, *letters], schema=self.schema)

    def _note(
        self,
        bad: Sequence[BadMessage],
        messages: Sequence[bytes],
        split: str,
        positions: Sequence[JSON],
    ) -> None:
        before, self.n_bad = self.n_bad, self.n_bad + len(bad)
        first = bad[0]
        text = (
            f"{split}, at {json.dumps(positions[first.number])}: message "
            f"{shown(messages[first.number])} does not decode: {first.reason}"
        )
        if self._bad == "raise":
            raise ConnectorError(f"{text}; bad='drop' or bad='keep' goes on without such messages")
        if (self._bad == "drop" and len(str(self.n_bad)) > len(str(before))) or not before:
            done = "dropped" if self._bad == "drop" else "kept as dead letters"
            warn(f"{text}; {self.n_bad:,} so far on this rank, {done}")

    @staticmethod
    def _letters(
        bad: Sequence[BadMessage],
        messages: Sequence[bytes],
        split: str,
        positions: Sequence[JSON],
    ) -> list[pa.Array]:
        if not bad:
            return [pa.nulls(len(messages), field.type) for field in DEAD_LETTER_FIELDS]
        columns: list[list[str | bytes | None]] = [
            [None] * len(messages) for _ in DEAD_LETTER_FIELDS
        ]
        for number, reason in bad:
            position = json.dumps(positions[number])
            values: tuple[str | bytes, ...] = (reason, bytes(messages[number]), split, position)
            for column, value in zip(columns, values, strict=True):
                column[number] = value
        pairs = zip(columns, DEAD_LETTER_FIELDS, strict=True)
        return [pa.array(column, field.type) for column, field in pairs]


def _row_indices(n_messages: int, bad: Sequence[BadMessage]) -> pa.Array:
    """Return the row of each message; null for bad ones."""
    without = {message.number for message in bad}
    rows = iter(range(n_messages))
    return pa.array([None if i in without else next(rows) for i in range(n_messages)], pa.int64())
