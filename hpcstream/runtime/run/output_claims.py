"""Claims the directories of sinks: one job at a time, and none that the job itself reads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from hpcstream.checkpoint.format import CheckpointError
from hpcstream.checkpoint.lease import Lease, acquire, described, refuse_while_held
from hpcstream.checkpoint.storage.directory import CheckpointStore, Superseded
from hpcstream.checkpoint.storage.manifest import read_manifest
from hpcstream.connectors.base import OutputPart
from hpcstream.connectors.files.source import FileSource
from hpcstream.connectors.parts.directory import (
    is_output,
    lock_name,
    make_directory,
    reader_lock_name,
    reader_locks,
)
from hpcstream.connectors.parts.sink import FileSink
from hpcstream.errors import ConnectorError, HpcstreamError, PlanError
from hpcstream.exchange.agree import raise_together
from hpcstream.exchange.communicator import Communicator, Procedure, gather_bytes
from hpcstream.graph.logical import LogicalGraph, SourceNode
from hpcstream.graph.own_input import own_input_overwritten
from hpcstream.log import say, warn
from hpcstream.operators.sink import SinkOperator


class OutputClaims:
    """The right to write to the directories of a job's sinks; held by rank 0 for all ranks.

    Directories that the job reads and another job may replace are marked as read.
    """

    def __init__(self) -> None:
        self._leases: list[Lease] = []
        self._reading: list[Lease] = []
        self._made: list[str] = []  # directories that did not exist

    def take(self, graph: LogicalGraph, job: str, run: str) -> None:
        """Take the lease of each directory. On rank 0.

        Parameters
        ----------
        graph : LogicalGraph
        job : str
        run : str
            Identity of its checkpoint directory: an older attempt that still lives gives way.

        Raises
        ------
        ConnectorError
            A directory cannot be written, or another job writes there.
        """
        for directory in sorted(_outputs_read(graph)):
            with suppress(HpcstreamError, OSError):  # not writable: then no job replaces it
                lease = acquire(directory, job, say=say, name=reader_lock_name())
                self._reading.append(lease)
        for sink in _file_sinks(graph):
            if not os.path.isdir(sink.directory):
                self._made.append(sink.directory)
            make_directory(sink.directory)
            name = lock_name(sink.extension)
            lease = acquire(sink.directory, job, say=say, name=name, run=run, refusal=_refusal)
            self._leases.append(lease)
            if sink.replaces and sink.has_parts:
                own = {os.path.basename(lease.path) for lease in self._reading}
                for path in reader_locks(sink.directory):
                    if os.path.basename(path) not in own:
                        refuse_while_held(path, say=say, refusal=_refusal_of_reader)
            _name_foreign(sink)

    def check(self) -> None:
        """Raise `ConnectorError` if another job has taken over a directory meanwhile."""
        for lease in self._leases:
            if lease.is_lost:
                raise ConnectorError(
                    f"{os.path.dirname(lease.path)!r} was taken over by another job, because this "
                    "one looked dead for a while: nothing more is committed"
                )

    def release(self) -> None:
        """Let other jobs write there."""
        for lease in [*self._leases, *self._reading]:
            lease.release()
        for directory in self._made:
            with suppress(OSError):  # it holds output, as it should
                os.rmdir(directory)
        self._leases, self._reading, self._made = [], [], []


def _file_sinks(graph: LogicalGraph) -> list[FileSink]:
    """Return the sinks that write to directories, in the same order in all jobs."""
    sinks = [node.sink for node in graph.sinks if isinstance(node.sink, FileSink)]
    return sorted(sinks, key=lambda sink: sink.target)


def _refusal(path: str, owner: Mapping[str, Any]) -> ConnectorError:
    return ConnectorError(
        f"another job writes to {os.path.dirname(path)!r}: {described(dict(owner))}; "
        "stop it first, or give this job another directory"
    )


def _refusal_of_reader(path: str, owner: Mapping[str, Any]) -> ConnectorError:
    return ConnectorError(
        f"another job reads from {os.path.dirname(path)!r}: {described(dict(owner))}; this one "
        "would replace the files there: wait for its end, or give this job another directory"
    )


def _outputs_read(graph: LogicalGraph) -> set[str]:
    """Return the directories that the job reads and that hpcstream wrote."""
    found: set[str] = set()
    for node in graph.nodes():
        if isinstance(node, SourceNode) and isinstance(node.source, FileSource):
            with suppress(ConnectorError):  # listing the files reports it
                found.update(filter(is_output, node.source.directories()))
    return found


def _name_foreign(sink: FileSink) -> None:
    names = sink.foreign_files()
    if not names:
        return
    files, them = ("1 file", "it") if len(names) == 1 else (f"{len(names)} files", "them")
    warn(
        f"{sink.directory!r} holds {files} that hpcstream did not write there, as {names[0]!r}; "
        f"readers of the directory will see {them} beside the new parts"
    )


def refuse_own_input(graph: LogicalGraph, comm: Communicator) -> Procedure[None]:
    """Raise `PlanError` on every rank if a sink would replace what the job reads. Collective."""
    text = ""
    if comm.rank == 0:
        with suppress(OSError):  # opening the file reports it
            text = own_input_overwritten(graph) or ""
    (first, *_) = yield from gather_bytes(comm, text.encode(errors="surrogateescape"))
    if first:
        raise PlanError(first.decode(errors="surrogateescape"))


def claim(
    claims: OutputClaims,
    graph: LogicalGraph,
    job: str,
    store: CheckpointStore | None,
    comm: Communicator,
) -> Procedure[None]:
    """Claim the directories of all sinks, on rank 0 for all ranks. Collective."""
    error = None
    if comm.rank == 0:
        try:
            claims.take(graph, job, "" if store is None else store.identity())
        except Exception as failure:
            error = failure
    yield from raise_together(error, comm)


def take_back(sinks: Iterable[SinkOperator], store: CheckpointStore, attempt: int) -> None:
    """Remove the output of a failed attempt if a newer one has begun; else a restart needs it."""
    try:
        store.check_attempt(attempt)
    except Superseded:
        pass
    else:
        return
    try:
        listed = _listed_parts(store)
    except CheckpointError:  # a damaged one may list any of them
        return
    for operator in sinks:
        operator.sink.superseded(listed)


def _listed_parts(store: CheckpointStore) -> Sequence[OutputPart]:
    """Return the parts of all checkpoints. Raises `CheckpointError` if one is damaged."""
    found: list[OutputPart] = []
    for stored in store.stored():
        for record in read_manifest(stored.path).sinks.values():
            found += record["parts"]
    return found
