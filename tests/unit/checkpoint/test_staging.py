"""Checkpoint files by way of a disk of the node."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from hpcstream.checkpoint.format import CheckpointError, CheckpointFile, Section
from hpcstream.checkpoint.storage.staging import Staging
from hpcstream.testing import ManualClock, start_ranks

sys.path.insert(0, str(Path(__file__).parent))
from restart import OPTIONS, sliding, unfailed, visible

SECTIONS = [Section("0/1", {"keys": np.arange(100_000)})]


@pytest.fixture
def said():
    return []


@pytest.fixture
def staging(tmp_path, said):
    (tmp_path / "run").mkdir()
    return Staging(str(tmp_path / "scratch"), str(tmp_path / "run"), 3, said.append)


def test_a_staged_file_is_the_file_and_nothing_stays_on_the_node(staging, tmp_path):
    sections, path = list(SECTIONS), str(tmp_path / "run" / "rank-00003.h5")

    written = staging.write(path, sections, sections.clear)

    assert sections == [], "memory is given back before the copy"
    with CheckpointFile(path, written) as file:
        assert np.array_equal(file.arrays("0/1")["keys"], np.arange(100_000))
    assert os.listdir(staging.directory) == []
    staging.close()
    assert os.listdir(tmp_path / "scratch") == []


def test_a_scratch_directory_that_fails_is_gone_round(staging, tmp_path, said):
    path = str(tmp_path / "run" / "rank-00003.h5")
    os.rmdir(staging.directory)

    written = staging.write(path, list(SECTIONS), lambda: None)

    assert "written without it" in said[0]
    with CheckpointFile(path, written) as file:
        assert file.check() == 800_000


def test_what_a_killed_attempt_left_on_the_node_is_removed(staging, tmp_path, said):
    left = Path(staging.directory, "rank-00003.h5.tmp")
    left.write_bytes(b"half")
    other = Path(staging.directory, "rank-00004.h5.tmp")
    other.write_bytes(b"of another rank")

    Staging(str(tmp_path / "scratch"), str(tmp_path / "run"), 3, said.append)

    assert not left.exists()
    assert other.exists()


def test_a_scratch_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot make the scratch directory .*/file/scratch"):
        Staging(str(tmp_path / "file" / "scratch"), str(tmp_path), 0, print)


def test_a_job_goes_on_from_checkpoints_that_were_staged(tmp_path):
    expected, _ = unfailed(sliding, tmp_path, 2)
    options = OPTIONS | {
        "checkpoint_dir": str(tmp_path / "run"),
        "scratch_dir": str(tmp_path / "scratch"),
    }

    def start():
        clock = ManualClock(turn_s=0.01)
        return start_ranks(2, lambda: sliding(tmp_path / "out"), clock=clock, **options)

    with start() as ranks:
        ranks.until(lambda: min(ranks.rounds, default=0) > 25)
    start().finish()

    assert visible(tmp_path / "out").equals(expected)
    assert os.listdir(tmp_path / "scratch") == []
