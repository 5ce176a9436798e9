"""`Collected`: the rows of a stream, once its job has run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from hpcstream.api.dataflow import Dataflow
from hpcstream.api.notebook import cells, schema_text
from hpcstream.calls import answers_wrong_calls
from hpcstream.columns.shown_rows import heading, line_of, shown_rows
from hpcstream.connectors.in_process.sinks import MemorySink
from hpcstream.hints import missing_attribute
from hpcstream.observability.metrics import EXPLAINED

_ROWS_SHOWN = 10


@answers_wrong_calls
class Collected:
    """What `Stream.collect` returns: the rows, once the job has run."""

    def __init__(self, job: Dataflow, sink: MemorySink, schema: pa.Schema, units: dict[str, str]):
        self._job = job
        self._sink = sink
        self._schema = schema
        self._units = units

    @property
    def table(self) -> pa.Table:
        """All rows, in a reproducible order: on rank 0, or on all ranks with ``everywhere=True``.

        Empty on the other ranks; ``result.is_root`` tells where the rows are. Empty under
        ``hpcstream explain``, which runs nothing, too.

        Raises
        ------
        RuntimeError
            The job has not run, or has not finished.
        """
        because = self._why_no_rows()
        if because and not self._is_elsewhere():
            raise RuntimeError(f"collect(): {because}")
        return pa.Table.from_batches(self._sink.batches, schema=self._schema)

    def _is_elsewhere(self) -> bool:
        """Whether the job is finished, and the rows are on rank 0, not here."""
        result = self._job.last_result
        return result is not None and not result.is_root and result.status == "finished"

    def _why_no_rows(self) -> str:
        """Return why there are no rows here, and what to do; empty if there are rows."""
        result = self._job.last_result
        if self._sink.has_committed or (result is not None and result.status == EXPLAINED):
            return ""
        if result is not None and self._is_elsewhere():
            return (
                f"the rows are on rank 0, and this is rank {result.rank} of {result.ranks}; look "
                "at them where result.is_root of result = job.run(), or have them on all ranks "
                "with collect(everywhere=True)"
            )
        if self._sink.has_begun or self._job.has_begun:
            return "the job has not ended, or was stopped or failed: nothing was committed"
        return "there are no rows before job.run()"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise missing_attribute("Collected", name, dir(type(self)))

    def __repr__(self) -> str:
        if because := self._why_no_rows():
            return f"Collected ({schema_text(self._schema)}): {because}"
        first, n_rows = self._first_rows()
        lines = [f"Collected: {n_rows:,} row{'' if n_rows == 1 else 's'}"]
        lines += [heading(self._schema.names), *map(line_of, first)]
        return "\n".join([*lines, *self._more(n_rows)])

    def _repr_html_(self) -> str:
        if because := self._why_no_rows():
            return cells([("column", "type"), *_types(self._schema)], because)
        first, n_rows = self._first_rows()
        caption = " ".join([f"{n_rows:,} row{'' if n_rows == 1 else 's'}", *self._more(n_rows)])
        return cells([tuple(self._schema.names), *first], caption)

    def _first_rows(self) -> tuple[list[tuple[str, ...]], int]:
        table = self.table
        head = table.slice(0, _ROWS_SHOWN)
        rows = [row for batch in head.to_batches() for row in shown_rows(batch, self._units)]
        return rows, table.num_rows

    def _more(self, n_rows: int) -> list[str]:
        return [f"... {n_rows - _ROWS_SHOWN:,} more"] if n_rows > _ROWS_SHOWN else []


def _types(schema: pa.Schema) -> list[tuple[str, ...]]:
    return [(field.name, str(field.type)) for field in schema]
