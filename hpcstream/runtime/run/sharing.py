"""Shares rows collected on rank 0 with all ranks, for sinks with ``everywhere``."""

from __future__ import annotations

import pyarrow as pa

from hpcstream.connectors.in_process.sinks import MemorySink
from hpcstream.exchange.agree import raise_together
from hpcstream.exchange.communicator import Communicator, Procedure, spread_bytes
from hpcstream.graph.logical import LogicalGraph


def share_collected(graph: LogicalGraph, comm: Communicator) -> Procedure[None]:
    """Give all ranks the rows of each such sink, after the end of a job. Collective."""
    sinks = [node.sink for node in graph.sinks if isinstance(node.sink, MemorySink)]
    if comm.size == 1:
        return
    for sink in (sink for sink in sinks if sink.everywhere):
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
