"""Checkpoint files on disk: whole or refused, never half believed."""

from __future__ import annotations

import json
import os
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from hpcstream.checkpoint.format import (
    CheckpointFile,
    DamagedCheckpoint,
    Section,
    WrittenFile,
    write_file,
)
from hpcstream.checkpoint.storage.manifest import Manifest, read_manifest, write_manifest

ARRAYS = {
    "keys": np.arange(300),
    "is_null": np.array([True, False]),
    "none": np.zeros(0, dtype=np.uint32),
    "corrections/keys": np.ones(3, dtype=np.float64),
    "100%": np.array(5),
}


def read(path, written):
    with CheckpointFile(str(path), written) as file:
        return file.arrays("0/2")


def test_arrays_come_back_as_they_were(tmp_path):
    path = tmp_path / "rank-00000.h5"
    written = write_file(str(path), [Section("0/2", ARRAYS, {"id": "w"}), Section("1/0", {})])

    found = read(path, WrittenFile.from_json(written.to_json()))

    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        assert np.array_equal(found[name], array)


@settings(max_examples=20)
@given(
    array=arrays.arrays(
        dtype=st.sampled_from([np.int64, np.uint8, np.float64, np.bool_, np.uint32]),
        shape=arrays.array_shapes(max_dims=2, min_side=0),
    )
)
def test_any_array_of_numbers_comes_back(array, tmp_path_factory):
    path = tmp_path_factory.mktemp("any") / "rank-00000.h5"
    written = write_file(str(path), [Section("0/2", {"a": array})])

    found = read(path, written)["a"]

    assert found.dtype == array.dtype
    assert found.tobytes() == array.tobytes()
    assert found.shape == array.shape


@pytest.fixture
def small_parts(monkeypatch):
    # not a whole number of words
    monkeypatch.setattr("hpcstream.checkpoint.format.BLOCK_BYTES", 20)
    monkeypatch.setattr("hpcstream.checkpoint.format._PART_BLOCKS", 3)


def copied(path, written, places, n_entries):
    out = np.full(n_entries, -1)
    with CheckpointFile(str(path), written) as file:
        file.copy("0/2", "a", out, places)
    return out


def test_any_entries_of_an_array_are_copied_to_where_they_belong(small_parts, tmp_path):
    path, array, dice = tmp_path / "rank-00000.h5", np.arange(100, 200), random.Random(1)
    written = write_file(str(path), [Section("0/2", {"a": array})])
    for _ in range(100):
        ends = sorted(dice.sample(range(101), dice.choice([2, 4, 10])))
        runs = list(zip(ends[::2], ends[1::2], strict=True))
        dice.shuffle(runs)
        expected = np.full(120, -1)
        places, at = [], 7
        for first, end in runs:
            expected[at : at + end - first] = array[first:end]
            places.append((first, at, end - first))
            at += end - first
        assert np.array_equal(copied(path, written, places, 120), expected)


def test_pieces_without_entries_may_be_anywhere(small_parts, tmp_path):
    path = tmp_path / "rank-00000.h5"
    written = write_file(str(path), [Section("0/2", {"a": np.arange(100)})])

    assert copied(path, written, [(100, 1, 0), (99, 0, 1), (0, 0, 0)], 1).tolist() == [99]


def test_entries_that_are_not_there_are_damage(small_parts, tmp_path):
    path = tmp_path / "rank-00000.h5"
    written = write_file(str(path), [Section("0/2", {"a": np.arange(100)})])

    with pytest.raises(DamagedCheckpoint, match="shorter than"):
        copied(path, written, [(90, 0, 11)], 20)
    with CheckpointFile(str(path), written) as file:
        with pytest.raises(DamagedCheckpoint, match="not what other files say"):
            file.copy("0/2", "a", np.zeros(20, dtype=np.float64), [(0, 0, 1)])
        with pytest.raises(DamagedCheckpoint, match="0/2/b is missing"):
            file.copy("0/2", "b", np.zeros(20, dtype=np.int64), [(0, 0, 1)])


def test_what_is_read_is_checked_and_no_more_is_read(small_parts, tmp_path):
    path, array = tmp_path / "rank-00000.h5", np.arange(100)
    written = write_file(str(path), [Section("0/2", {"a": array})])
    content = bytearray(path.read_bytes())
    content[written.ranges[0][0] + 8 * 50 + 3] ^= 1
    path.write_bytes(content)
    hurt = 8 * 50 // 20  # the number of the block

    for entry in range(100):
        blocks = range(8 * entry // 20, -(-(8 * entry + 8) // 20))
        if hurt in blocks:
            with pytest.raises(DamagedCheckpoint, match="0/2/a is not what was written"):
                copied(path, written, [(entry, 0, 1)], 1)
        else:
            assert copied(path, written, [(entry, 0, 1)], 1).tolist() == [entry]
    with CheckpointFile(str(path), written) as file, pytest.raises(DamagedCheckpoint):
        file.check()


def test_an_array_may_have_more_checksums_than_fit_into_a_small_attribute(small_parts, tmp_path):
    path, array = tmp_path / "rank-00000.h5", np.arange(60_000)
    written = write_file(str(path), [Section("0/2", {"a": array})])

    assert copied(path, written, [(59_990, 0, 10)], 10).tolist() == array[-10:].tolist()


def test_objects_are_refused(tmp_path):
    with pytest.raises(TypeError, match="holds numbers"):
        write_file(str(tmp_path / "x.h5"), [Section("0/2", {"a": np.array([None])})])


def test_hdf5_tools_can_read_the_arrays(tmp_path):
    import h5py

    path = tmp_path / "rank-00000.h5"
    write_file(str(path), [Section("0/2", ARRAYS, {"id": "w"})])

    with h5py.File(path) as file:
        assert file["0/2/keys"][-1] == 299
        assert file["0/2"].attrs["id"] == "w"


def test_no_flipped_bit_goes_unnoticed(tmp_path):
    path = tmp_path / "rank-00000.h5"
    written = write_file(str(path), [Section("0/2", ARRAYS, {"id": "w"})])
    whole = path.read_bytes()
    chance = random.Random(1)

    for position in chance.sample(range(len(whole)), 300):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        with pytest.raises(DamagedCheckpoint), CheckpointFile(str(path), written) as file:
            file.check()


def test_no_file_that_is_cut_short_is_believed(tmp_path):
    path = tmp_path / "rank-00000.h5"
    written = write_file(str(path), [Section("0/2", ARRAYS)])
    whole = path.read_bytes()

    for length in (0, 1, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedCheckpoint, match="written"):
            read(path, written)
    os.remove(path)
    with pytest.raises(DamagedCheckpoint, match="No such file"):
        read(path, written)


def test_a_manifest_is_whole_or_refused(tmp_path):
    manifest = Manifest(number=3, attempt=2, round=17, size=4, job="j", fingerprint="f")
    write_manifest(str(tmp_path), manifest)
    as_text = json.dumps(manifest.to_json())
    assert json.dumps(read_manifest(str(tmp_path)).to_json()) == as_text

    path = tmp_path / "manifest.json"
    whole = path.read_bytes()
    chance = random.Random(2)
    for position in chance.sample(range(len(whole)), 100):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << chance.randrange(7)
        path.write_bytes(damaged)
        try:
            found = read_manifest(str(tmp_path))
        except DamagedCheckpoint:
            continue
        assert json.dumps(found.to_json()) == as_text
