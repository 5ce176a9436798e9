"""How far one split has been read, for checkpoints and restarts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpcstream.columns.event_time import MIN_TIME
from hpcstream.connectors.base import JSON, Chunk, Source, Split, SplitReader
from hpcstream.connectors.defaults import as_reader
from hpcstream.errors import ConnectorError


@dataclass(slots=True)
class SplitProgress:
    """How far one split has been read.

    Attributes
    ----------
    number : int
        Of the split in its source.
    rows : int
        Rows scanned: the number of the next row, for order and messages.
    position : JSON
        Where its reader said to continue; None: at row number `rows`.
    greatest : int
        The greatest event time in a live split.
    """

    number: int
    split: Split
    rows: int = 0
    position: JSON = None
    done: bool = False
    greatest: int = MIN_TIME

    @property
    def rows_left(self) -> int | None:
        """Rows that are not read; None if their number is not known."""
        n_rows = self.split.n_rows
        return None if n_rows is None else max(0, n_rows - self.rows)

    @property
    def resume_at(self) -> JSON:
        """What `Source.open` takes; None: the beginning."""
        return self.position if self.position is not None else self.rows or None

    def relocate(self, split: Split) -> None:
        """Continue with the same split at another path: its file was moved."""
        self.split = split

    def end(self) -> None:
        """Note that the split was read to its end."""
        self.done = True

    def opened(self, source: Source) -> SplitReader:
        """Return a reader that continues here."""
        at: Any = self.resume_at
        at = () if at is None else (at,)
        return as_reader(source.open(self.split, *at))

    def advance(self, chunk: Chunk) -> int:
        """Count the rows of a chunk; return the number of its first row."""
        first = self.rows
        self.rows += chunk.scanned
        if chunk.position is not None:
            self.position = chunk.position
        elif self.position is not None and chunk.scanned:
            raise ConnectorError(
                f"{self.split.id}: a chunk with rows, after position {self.position!r}, has no "
                "position; a reader that gives positions gives one with every chunk of rows"
            )
        return first

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object. Raises `ConnectorError` if its position is not JSON."""
        return {
            "number": self.number,
            "split": self.split.to_json(),
            "rows": self.rows,
            "position": self._checked_position(),
            "done": self.done,
            "greatest": self.greatest,
        }

    def _checked_position(self) -> JSON:
        if type(self.position) not in (type(None), int, str):
            try:
                json.dumps(self.position)
            except (TypeError, ValueError) as error:
                raise ConnectorError(
                    f"{self.split.id}: position {self.position!r} cannot be stored: {error}; a "
                    "position is JSON: numbers, text, lists, dicts with text as keys"
                ) from error
        return self.position

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SplitProgress:
        """Return what `to_json` wrote."""
        return cls(**{**value, "split": Split.from_json(value["split"])})
