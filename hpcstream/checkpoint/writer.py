"""Makes one rank's share of a checkpoint durable. In the background."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np

from hpcstream.checkpoint.copy_buffers import CopyBuffers
from hpcstream.checkpoint.format import Array, Section, write_file
from hpcstream.checkpoint.json_text import dumps
from hpcstream.checkpoint.pending import TASKS, PendingCheckpoint, SinkFailed, Written
from hpcstream.checkpoint.storage.directory import CheckpointStore, rank_file
from hpcstream.checkpoint.storage.staging import Staging
from hpcstream.connectors.base import OutputPart

_SINK = "sink: "


class RankFileWriter:
    """Writes the files of one rank.

    Parameters
    ----------
    store : CheckpointStore
    rank : int
    buffers : CopyBuffers
        Keeps the memory of what is written.
    staging : Staging or None
        Writes files by way of a disk of the node.
    """

    def __init__(
        self, store: CheckpointStore, rank: int, buffers: CopyBuffers, staging: Staging | None
    ) -> None:
        self._store = store
        self._rank = rank
        self._buffers = buffers
        self._staging = staging

    def write(self, checkpoint: PendingCheckpoint) -> Written:
        """Make the rows and the state of a checkpoint durable; raises nothing."""
        parts: dict[int, list[OutputPart]] = {}
        try:
            for number, make_durable in checkpoint.durable.items():
                parts[number] = list(make_durable())
        except Exception as error:
            return Written(None, parts, f"{_SINK}{type(error).__name__}: {error}")
        snapshots = np.frombuffer(dumps(checkpoint.tasks).encode(), dtype=np.uint8)
        checkpoint.sections.append(Section(TASKS, {"facts": snapshots}))
        try:
            _finish(checkpoint)
            directory = self._store.begin(checkpoint.number, checkpoint.kind)
            path = os.path.join(directory, rank_file(self._rank))
            if self._staging is None:
                file = write_file(path, checkpoint.sections)
            else:
                file = self._staging.write(
                    path, checkpoint.sections, lambda: self._keep_memory(checkpoint)
                )
        except Exception as error:
            return Written(None, parts, f"{type(error).__name__}: {error}")
        self._keep_memory(checkpoint)
        return Written(file, parts)

    def _keep_memory(self, checkpoint: PendingCheckpoint) -> None:
        """Keep the memory of written copies for the next checkpoint."""
        for section in checkpoint.sections:
            self._buffers.keep(section.path, section.arrays.values())
        checkpoint.sections.clear()


def _finish(checkpoint: PendingCheckpoint) -> None:
    """Make the arrays that did not have to be made in the pause."""
    for index, section in enumerate(checkpoint.sections):
        made: dict[str, Array] = {}
        for finish in checkpoint.finishes.pop(section.path, ()):
            made |= finish()
        checkpoint.sections[index] = replace(section, arrays={**section.arrays, **made})


def sink_error(written: Written) -> SinkFailed | None:
    """Return the failure of a sink, if one failed."""
    if written.error is None or not written.error.startswith(_SINK):
        return None
    return SinkFailed(f"rows could not be written: {written.error.removeprefix(_SINK)}")
