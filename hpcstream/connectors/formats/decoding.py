"""Decodes bytes to batches, from a line of a file or the payload of a broker.

A decoder never raises for invalid messages: it returns them separately, each with the reason,
and decodes all others.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import pyarrow as pa

from hpcstream.connectors.scan import empty_batch, plain_schema

_SHOWN = 20
_COUNTED_ROW = re.compile(r" in row \d+$|Row #\d+: ")


class BadMessage(NamedTuple):
    """A message that did not decode: its number, and the reason."""

    number: int
    reason: str


class Decoded(NamedTuple):
    """The result of decoding messages.

    Attributes
    ----------
    batch : pa.RecordBatch
        A row for each message that decoded, in order.
    bad : list of BadMessage
        The others, in order.
    """

    batch: pa.RecordBatch
    bad: list[BadMessage]


class DecodingFailed(ValueError):
    """Some of the lines that were parsed together are invalid; names the line if it was one."""


class Decoder(ABC):
    """Decodes messages to batches, one row per message.

    Attributes
    ----------
    schema : pa.Schema
        Of the batches.
    """

    schema: pa.Schema

    @abstractmethod
    def decode(self, messages: Sequence[bytes]) -> Decoded:
        """Return the rows of messages; never raises for invalid messages."""


class LineDecoder(Decoder):
    """Decodes messages that are lines of a text file, many at once, like its reader.

    If lines do not parse together, they are bisected until the invalid line is found.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = plain_schema(schema, type(self).__name__)

    def decode(self, messages: Sequence[bytes]) -> Decoded:
        """Return the rows of messages, and the invalid messages."""
        lines = [message.rstrip(b"\r\n") for message in messages]
        batches: list[pa.RecordBatch] = []
        bad: list[BadMessage] = []
        self._decode(lines, 0, batches, bad)
        if len(batches) == 1:
            return Decoded(batches[0], bad)
        return Decoded(pa.concat_batches([empty_batch(self.schema), *batches]), bad)

    def _decode(
        self,
        lines: Sequence[bytes],
        first: int,
        batches: list[pa.RecordBatch],
        bad: list[BadMessage],
    ) -> None:
        if not lines:
            return
        try:
            if len(lines) == 1:
                self._check_alone(lines[0])
            elif not all(map(self._is_plain, lines)):
                raise DecodingFailed
            batch = self._parsed(lines)
            if batch.num_rows != len(lines):
                raise DecodingFailed(f"{batch.num_rows} rows in one message")
            batches.append(batch)
        except (DecodingFailed, UnicodeDecodeError, pa.ArrowException) as error:
            if len(lines) == 1:
                bad.append(BadMessage(first, _COUNTED_ROW.sub("", str(error))))
                return
            middle = len(lines) // 2
            self._decode(lines[:middle], first, batches, bad)
            self._decode(lines[middle:], first + middle, batches, bad)

    @abstractmethod
    def _is_plain(self, line: bytes) -> bool:
        """Whether a line that parses together with others is certainly one row."""

    @abstractmethod
    def _check_alone(self, line: bytes) -> None:
        """Raise `DecodingFailed` unless a line can be parsed alone as one row."""

    @abstractmethod
    def _parsed(self, lines: Sequence[bytes]) -> pa.RecordBatch:
        """Return the rows of lines, in the decoder's schema. Raises what it catches above."""


def shown(line: bytes) -> str:
    """Return the beginning of a message, for an error text."""
    return repr(line[:_SHOWN]) if len(line) <= _SHOWN else f"{line[:_SHOWN]!r}..."
