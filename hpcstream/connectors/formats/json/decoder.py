"""Messages of JSON, an object each, decoded as lines of JSON files are."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

import pyarrow as pa

from hpcstream.connectors.formats.decoding import DecodingFailed, LineDecoder, shown
from hpcstream.connectors.formats.json.lines import JsonShape, parsed_lines
from hpcstream.connectors.scan import relabel

_TEXT_AFTER_VALUE = re.compile(rb"[}\]]\s*[^\s,\]}]")


class JsonDecoder(LineDecoder):
    """Decodes JSON objects.

    Parameters
    ----------
    schema : pa.Schema
        Fields that are read: one that a message lacks is null.
    unexpected : {"ignore", "error"}
        What becomes of further fields.
    """

    def __init__(self, schema: pa.Schema, *, unexpected: str = "ignore") -> None:
        super().__init__(schema)
        if unexpected not in ("ignore", "error"):
            raise ValueError(f"unexpected={unexpected!r}: expected 'ignore' or 'error'")
        self._shape = JsonShape(self.schema, unexpected)

    def _is_plain(self, line: bytes) -> bool:
        return (
            line.startswith(b"{")
            and line.endswith(b"}")
            and b"\n" not in line
            and b"\r" not in line
            and not _TEXT_AFTER_VALUE.search(line)
        )

    def _check_alone(self, line: bytes) -> None:
        if not line.strip():
            raise DecodingFailed("the message is empty")
        if not line.lstrip().startswith(b"{"):  # Arrow crashes at a null
            raise DecodingFailed(f"expected a JSON object, got {shown(line)}")
        if not self._is_plain(line):
            try:
                json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DecodingFailed(f"not a JSON object: {error}") from None

    def _parsed(self, lines: Sequence[bytes]) -> pa.RecordBatch:
        text = b"\n".join(lines)
        text.decode()
        if len(lines) == 1:  # which may be spread over several lines of text
            text = text.replace(b"\n", b" ").replace(b"\r", b" ")
        batch = parsed_lines(text, self._shape)
        return relabel(batch.select(self.schema.names), self.schema)
