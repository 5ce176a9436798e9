"""Detects sinks that would overwrite the input of their own job."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from hpcstream.connectors.base import Source
from hpcstream.connectors.files.paths import covers, directory_id, location_of
from hpcstream.connectors.files.source import FileSource
from hpcstream.connectors.parts.directory import part_name, read_manifest, visible_parts
from hpcstream.connectors.parts.sink import FileSink
from hpcstream.errors import ConnectorError
from hpcstream.graph.logical import LogicalGraph, OperatorNode, SourceNode


@dataclass(frozen=True)
class _Input:
    """The input of a source or of a join's table: patterns, and the files that they match."""

    described: str
    source: Source | None = None
    path: str = ""

    def files(self) -> list[str]:
        """Return the files that exist now."""
        if self.source is None:
            return [self.path] if self.path else []
        with suppress(ConnectorError):  # the source reports missing files itself
            return self.source.files()
        return []

    def would_read(self, sink: FileSink) -> bool:
        """Whether a directory or glob of the source matches the parts that the sink writes."""
        if not isinstance(self.source, FileSource):
            return False
        part = part_name(0, 0, sink.extension)
        endings = self.source.extensions
        return any(
            covers(pattern, endings, sink.directory, part) for pattern in self.source.patterns
        )


def own_input_overwritten(graph: LogicalGraph) -> str | None:
    """Return an error message if a sink of the job would overwrite the job's input.

    A sink with ``mode="overwrite"`` removes the existing parts of its directory at its first
    commit, which with checkpoints happens long before the end.
    """
    inputs = list(_inputs(graph))
    for node in graph.sinks:
        sink = node.sink
        if not isinstance(sink, FileSink) or not sink.replaces:
            continue
        replaced = _replaced(sink)
        for read in inputs:
            found = _overwritten(sink, read, replaced)
            if found is not None:
                return (
                    f"{sink.describe()} would replace what this job reads, {found}, "
                    f"by {read.described}: write to another directory"
                )
    return None


def _inputs(graph: LogicalGraph) -> Iterator[_Input]:
    for node in graph.nodes():
        if isinstance(node, SourceNode):
            yield _Input(node.origin or node.source.describe(), source=node.source)
        elif isinstance(node, OperatorNode):
            for path in node.spec.files:
                yield _Input(f"{node.spec.kind}({path!r})", path=path)


def _replaced(sink: FileSink) -> set[str]:
    """Return the names of the files in the sink's directory that it would replace."""
    try:
        listed = read_manifest(sink.directory, sink.extension)
    except ConnectorError:  # the sink reports it when it is opened
        listed = []
    try:
        return {*listed, *visible_parts(sink.directory, sink.extension)}
    except OSError:
        return set()


def _overwritten(sink: FileSink, read: _Input, replaced: set[str]) -> str | None:
    if read.would_read(sink):
        return f"the directory {sink.directory!r}"
    if not replaced:
        return None
    directory = directory_id(sink.directory)
    for path in read.files():
        parent, name = location_of(path)
        if name in replaced and parent == directory:
            return repr(path)
    return None
