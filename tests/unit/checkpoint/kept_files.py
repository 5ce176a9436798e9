"""Checkpoints of one operator that are kept in memory, as its rank's files would be."""

from __future__ import annotations

import json

import numpy as np

from hpcstream.checkpoint.format import WrittenFile
from hpcstream.checkpoint.increments import SegmentMemory, SegmentTable, copy_state
from hpcstream.checkpoint.reading import read_state

PATH = "0/1"


class KeptFile:
    """The arrays of a file."""

    def __init__(self, arrays):
        self.arrays = {name: array.copy() for name, array in arrays.items()}
        self.n_bytes = sum(array.nbytes for array in arrays.values())

    def names(self, path):
        return list(self.arrays)

    def array(self, path, name):
        return self.arrays[name].copy()

    def empty(self, path, name, n_entries):
        array = self.arrays[name]
        return np.empty((n_entries, *array.shape[1:]), dtype=array.dtype)

    def copy(self, path, name, out, places):
        for first, at, n in places:
            out[at : at + n] = self.arrays[name][first : first + n]


class KeptFiles:
    """Takes checkpoints that refer to one another, and reads them."""

    def __init__(self):
        self.memory, self.files = SegmentMemory(), {}

    def take(self, tables, name=None):
        """Take a checkpoint and complete it; return its file, and where the segments are."""
        name = name or f"ckpt-{len(self.files)}"
        copied = copy_state(tables, self.memory.known(PATH))
        arrays = dict(copied.arrays)
        for finish in copied.finishes:
            arrays |= finish()
        self.files[name] = file = KeptFile(arrays)
        shared = self.memory.files_of(copied.tables)
        self.memory.complete(
            {PATH: copied.tables}, shared, name, WrittenFile(name, file.n_bytes + 1, "")
        )
        return file, [written(table) for table in copied.tables]

    def read(self, own, tables, groups=None):
        """Return the state as a restart finds it."""
        return read_state(PATH, tables, lambda file: self.files[file] if file else own, groups)


def written(table):
    """Return a table as it is found in the file."""
    return SegmentTable.from_json(json.loads(json.dumps(table.to_json())))
