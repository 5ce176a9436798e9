"""Rows that were collected on rank 0, given to all ranks where that was asked for."""

from __future__ import annotations

from collections.abc import Generator

import pyarrow as pa

from hpcstream.connectors.in_process.sinks import MemorySink
from hpcstream.exchange.agree import raise_together
from hpcstream.exchange.communicator import Communicator, spread_bytes
from hpcstream.graph.logical import LogicalGraph


def share_collected(graph: LogicalGraph, comm: Communicator) -> Generator[None, None, None]:
    """Give the rows of each such sink of a job that has ended to all ranks. Collective."""
    sinks = [node.sink for node in graph.sinks if isinstance(node.sink, MemorySink)]
    if comm.size == 1:
        return
    for sink in (one for one in sinks if one.everywhere):
        rows: pa.Buffer | None = None
        error = None
        try:
            rows = sink.committed_rows() if comm.rank == 0 else None
        except Exception as failure:
            error = failure
        yield from raise_together(error, comm)
        spread = yield from spread_bytes(comm, rows)
        if comm.rank:
            sink.take_over(spread)
