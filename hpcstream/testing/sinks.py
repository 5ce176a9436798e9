"""A sink that a test can inspect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from hpcstream.connectors.base import OutputPart, Sink


class ListSink(Sink):
    """Collects rows in lists: written rows, and committed rows.

    One object may serve all simulated ranks, so that a test sees the rows of all
    of them while the job still runs.

    Attributes
    ----------
    written : list of dict
        Every row, as soon as it was written.
    committed : list of dict
        The rows written before the commit.
    calls : list of str
        Names of the methods called, ``write`` left out.
    """

    def __init__(self, *, fail_in: str | None = None, error: BaseException | None = None) -> None:
        self.written: list[dict[str, Any]] = []
        self.committed: list[dict[str, Any]] = []
        self.calls: list[str] = []
        self._fail_in = fail_in
        self._error = error

    def describe(self) -> str:
        """Return one line for ``explain()``."""
        return "ListSink()"

    def begin(self, schema: pa.Schema, rank: int, size: int, attempt: int) -> None:
        """Note the call."""
        self._note("begin")

    def write(self, batch: pa.RecordBatch) -> None:
        """Keep the rows."""
        self._fail("write")
        self.written += batch.to_pylist()

    def prepare(self) -> list[OutputPart]:
        """Note the call; there is nothing to make durable."""
        self._note("prepare")
        return []

    def commit(self, parts: Sequence[OutputPart]) -> None:
        """Show what was written as committed."""
        self._note("commit")
        self.committed = list(self.written)

    def abort(self) -> None:
        """Note the call."""
        self._note("abort")

    def _note(self, call: str) -> None:
        self.calls.append(call)
        self._fail(call)

    def _fail(self, call: str) -> None:
        if call == self._fail_in:
            raise self._error or RuntimeError(f"ListSink fails in {call}()")
