"""Makes one rank's share of a checkpoint durable. In the background."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np

from hpcstream.checkpoint.copy_buffers import Reserve
from hpcstream.checkpoint.format import Array, Section, write_file
from hpcstream.checkpoint.json_text import dumps
from hpcstream.checkpoint.pending import TASKS, Cut, SinkFailed, Written
from hpcstream.checkpoint.storage.directory import CheckpointStore, rank_file
from hpcstream.checkpoint.storage.staging import Staging
from hpcstream.connectors.base import OutputPart

_SINK = "sink: "


class CutWriter:
    """Writes the files of one rank.

    Parameters
    ----------
    store : CheckpointStore
    rank : int
    reserve : Reserve
        Gets the memory of what is written.
    staging : Staging, optional
        Files go by way of a disk of the node.
    """

    def __init__(
        self, store: CheckpointStore, rank: int, reserve: Reserve, staging: Staging | None = None
    ) -> None:
        self._store = store
        self._reserve = reserve
        self._rank = rank
        self._staging = staging

    def write(self, cut: Cut) -> Written:
        """Make rows and state of a cut durable; raises nothing."""
        parts: dict[int, list[OutputPart]] = {}
        try:
            for number, make_durable in cut.durable.items():
                parts[number] = list(make_durable())
        except Exception as error:
            return Written(None, parts, f"{_SINK}{type(error).__name__}: {error}")
        facts = np.frombuffer(dumps(cut.tasks).encode(), dtype=np.uint8)
        cut.sections.append(Section(TASKS, {"facts": facts}))
        try:
            _finish(cut)
            directory = self._store.begin(cut.number, cut.kind)
            path = os.path.join(directory, rank_file(self._rank))
            if self._staging is None:
                file = write_file(path, cut.sections)
            else:
                file = self._staging.write(path, cut.sections, lambda: self._let_go(cut))
        except Exception as error:
            return Written(None, parts, f"{type(error).__name__}: {error}")
        self._let_go(cut)
        return Written(file, parts)

    def _let_go(self, cut: Cut) -> None:
        for section in cut.sections:
            self._reserve.keep(section.path, section.arrays.values())
        cut.sections.clear()

    def close(self) -> None:
        """Leave nothing on the disk of the node."""
        if self._staging is not None:
            self._staging.close()


def _finish(cut: Cut) -> None:
    """Make what could wait until rounds went on."""
    for number, section in enumerate(cut.sections):
        made: dict[str, Array] = {}
        for finish in cut.finishes.pop(section.path, ()):
            made |= finish()
        cut.sections[number] = replace(section, arrays={**section.arrays, **made})


def sink_error(written: Written) -> SinkFailed | None:
    """Return what a sink failed with, if one did."""
    if written.error is None or not written.error.startswith(_SINK):
        return None
    return SinkFailed(f"rows could not be written: {written.error.removeprefix(_SINK)}")
