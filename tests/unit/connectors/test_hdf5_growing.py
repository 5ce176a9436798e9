"""HDF5 files that grow while they are read."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import hpcstream as hs
from hpcstream import col
from hpcstream.connectors.formats.hdf5.growing import growing_hdf5_source
from hpcstream.errors import ConnectorError

h5py = pytest.importorskip("h5py")

DETECTOR = """
import sys, time
import h5py, numpy as np

with h5py.File(sys.argv[1], "w", libver="latest") as file:
    times = file.create_dataset("t", (0,), maxshape=(None,), dtype="i8", chunks=(64,))
    frames = file.create_dataset("frame", (0, 2, 3), maxshape=(None, 2, 3), dtype="f4")
    file.swmr_mode = True
    print("ready", flush=True)
    for start in range(0, 1000, 50):
        for dataset in (frames, times):
            dataset.resize(start + 50, axis=0)
        frames[start:] = np.arange(start, start + 50)[:, None, None]
        times[start:] = np.arange(start, start + 50)
        frames.flush(), times.flush()
        time.sleep(0.01)
"""


@pytest.fixture
def growing(tmp_path):
    """A file in the hands of a writer, and its datasets."""
    path = tmp_path / "a.h5"
    file = h5py.File(path, "w", libver="latest", locking=False)
    file.create_dataset("t", (0,), maxshape=(None,), dtype="i8", chunks=(16,))
    file.create_dataset("x", (0,), maxshape=(None,), dtype="f8", chunks=(16,))
    file.swmr_mode = True
    yield path, file
    file.close()


def append(file, name, *values):
    dataset = file[name]
    dataset.resize(len(dataset) + len(values), axis=0)
    dataset[-len(values) :] = values
    dataset.flush()


def test_a_row_counts_once_every_column_has_it(growing):
    path, file = growing
    now = [0.0]
    source = growing_hdf5_source(path, follow_s=5, clock=lambda: now[0]).project(["x", "t"])
    (split,) = source.list_splits()
    reader = source.open(split)

    def read():
        now[0] += 1.0
        chunk = reader.read(2)
        return None if chunk is None else (chunk.scanned, chunk.batch.to_pylist())

    assert not source.bounded
    assert read() == (0, [])
    append(file, "t", 1, 2, 3)
    assert read() == (0, [])
    append(file, "x", 0.5, 0.25)
    assert read() == (2, [{"x": 0.5, "t": 1}, {"x": 0.25, "t": 2}])
    append(file, "x", 0.125)
    assert read() == (1, [{"x": 0.125, "t": 3}])
    assert [read() for _ in range(5)] == [(0, [])] * 4 + [None]
    reader.close()
    resumed = source.open(split, 2)
    assert resumed.read(9).batch.to_pylist() == [{"x": 0.125, "t": 3}]
    resumed.close()


def test_a_file_that_is_no_growing_table_is_named(tmp_path):
    path = tmp_path / "a.h5"
    path.write_bytes(b"no HDF5")
    with pytest.raises(ConnectorError, match=r"a.h5' cannot be followed: .*swmr_mode=True"):
        growing_hdf5_source(path, follow_s=1)
    with pytest.raises(ValueError, match="follow must be positive"):
        growing_hdf5_source(path, follow_s=0)


def test_a_job_follows_a_detector_that_writes_in_another_process(tmp_path):
    path = tmp_path / "run.h5"
    command = [sys.executable, "-c", DETECTOR, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as detector:
        assert detector.stdout.readline() == "ready\n"
        job = hs.Job("follows")
        frames = job.read_hdf5(path, event_time="t", event_time_unit="ms", follow="3s")
        sums = frames.window_all(hs.tumbling("100ms")).agg(n=hs.count(), last=col("t").max())
        handles = sums.collect(), frames.select("frame").collect()
        job.run(show=False)
        assert detector.poll() == 0, "the job ended before the writer"

    windows, frames = (handle.table for handle in handles)
    assert windows["n"].to_pylist() == [100] * 10
    assert windows["last"].to_pylist() == list(range(99, 1000, 100))
    expected = np.repeat(np.arange(1000, dtype=np.float32), 6)
    assert np.array_equal(frames["frame"].combine_chunks().flatten().flatten(), expected)
