"""State that does not change is written once, and referred to again."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import hpcstream as hs
from hpcstream import col
from hpcstream.checkpoint.format import CheckpointError, WrittenFile
from hpcstream.checkpoint.increments import (
    MOST_FILES,
    OWN,
    PieceMemory,
    assembled,
    files_of,
    tables_from_json,
)
from hpcstream.checkpoint.storage.directory import CheckpointStore, verify
from hpcstream.checkpoint.storage.manifest import read_manifest
from hpcstream.state.snapshots import Piece, PieceGroup, PiecewiseSnapshot
from hpcstream.testing import ManualClock, assert_same_rows, start_ranks

sys.path.insert(0, str(Path(__file__).parent))
from restart import OPTIONS, generated, rows, unfailed, visible


def slices(out):
    """Slices that many windows need, and that no row comes to any more."""
    job = hs.Job("slices")
    windows = generated(job).key_by("key").window(hs.sliding("4s", "100ms"))
    windows.agg(rows=hs.count(), total=col("x").sum()).write_parquet(out)
    return job


def start(tmp_path, n_ranks=2, **more):
    options = {"checkpoint_dir": str(tmp_path / "run"), "clock": ManualClock(turn_s=0.01)}
    return start_ranks(n_ranks, lambda: slices(tmp_path / "out"), **options, **OPTIONS | more)


def kill_late(tmp_path, at_least=8, **more):
    """Run until a checkpoint refers to others; return the store."""
    store = CheckpointStore(str(tmp_path / "run"))
    with start(tmp_path, **more) as ranks:
        ranks.until(lambda: Path(store.directory).exists() and store.next_number() > at_least + 1)
    return store


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return unfailed(slices, tmp_path_factory.mktemp("expected"), 2)[0]


def newest(store):
    return read_manifest(store.stored()[0].path)


def test_a_checkpoint_refers_to_files_of_others_and_these_stay(tmp_path, expected):
    store = kill_late(tmp_path, keep=1)
    (only,) = store.stored()
    manifest = read_manifest(only.path)

    assert manifest.shared
    assert all(Path(store.directory, place).is_file() for place in manifest.shared)
    assert all(isinstance(found, int) for _, found in verify(only.path))
    files = Path(store.directory).glob("*/rank-*.h5")
    there = {f"{p.parent.name}/{p.name}" for p in files if p.parent.name <= Path(only.path).name}
    own = {f"{Path(only.path).name}/rank-{rank:05d}.h5" for rank in range(2)}
    assert there == own | manifest.shared.keys(), "what nobody refers to is removed"

    start(tmp_path).finish()
    assert visible(tmp_path / "out").equals(expected)


def test_state_in_pieces_goes_to_another_number_of_ranks(tmp_path, expected):
    assert newest(kill_late(tmp_path)).shared

    start(tmp_path, n_ranks=3).finish()

    assert_same_rows(visible(tmp_path / "out"), expected, rtol=1e-12)


def test_a_savepoint_refers_to_nothing_and_can_be_moved(tmp_path, expected):
    kill_late(tmp_path)
    with pytest.raises(hs.JobStopped):
        start(tmp_path, stop_after_savepoint=True).finish()
    store = CheckpointStore(str(tmp_path / "run"))
    assert not newest(store).shared
    moved = shutil.move(store.stored()[0].path, tmp_path / "elsewhere" / "savepoint-000099")

    start(tmp_path, restore_from=str(moved)).finish()

    assert visible(tmp_path / "out").equals(expected)


@pytest.mark.parametrize("n_ranks", [2, 3])
def test_damage_in_a_file_that_is_referred_to_is_found(n_ranks, tmp_path):
    store = kill_late(tmp_path, keep=1)
    victim = Path(store.directory, min(newest(store).shared))
    victim.write_bytes(victim.read_bytes()[:-7])

    with pytest.raises(CheckpointError, match=r"no checkpoint of .* is whole"):
        start(tmp_path, n_ranks=n_ranks).finish()


def test_when_a_file_is_gone_the_next_checkpoint_is_whole_again(tmp_path, capsys, expected):
    store = CheckpointStore(str(tmp_path / "run"))
    taken = []

    def remove_one():
        if not taken and Path(store.directory).exists() and store.stored():
            shared = newest(store).shared
            if shared:
                taken.append(shutil.rmtree(Path(store.directory, min(shared)).parent))
        return False

    with start(tmp_path) as ranks:
        ranks.until(remove_one)
        ranks.finish()

    assert "is gone or not as it was; the job goes on" in capsys.readouterr().err
    assert visible(tmp_path / "out").equals(expected)
    assert all(isinstance(found, int) for _, found in verify(store.stored()[0].path))


def test_what_is_written_follows_what_has_changed(tmp_path):
    def build():
        job = hs.Job("grows")
        stream = job.generate(rows, rows=6000, splits=1, event_time="t", event_time_unit="ms")
        windows = stream.key_by("t").window(hs.sliding("1h", "250ms")).agg(rows=hs.count())
        windows.write_parquet(tmp_path / "out")
        return job

    store = CheckpointStore(str(tmp_path / "run"))
    options = {"checkpoint_dir": store.directory, "clock": ManualClock(turn_s=0.01), "keep": 1000}
    with start_ranks(1, build, **options | OPTIONS) as ranks:
        ranks.until(lambda: min(ranks.rounds, default=0) > 60)

    last, before = (read_manifest(one.path) for one in store.stored()[:2])
    assert last.shared
    (state,) = (one.state_bytes for one in last.operators if "sliding" in one.id)
    (state_before,) = (one.state_bytes for one in before.operators if "sliding" in one.id)
    entry_bytes = 8 + 8 + 1  # key, rows, is_null
    assert state - state_before < last.facts["copied_bytes"]
    assert last.facts["copied_bytes"] < state - state_before + 260 * entry_bytes + 2000
    assert last.facts["copied_bytes"] < state / 5


# -- the memory of pieces --------------------------------------------------------------------


def group(prefix, **versions):
    """One entry a piece, for each number in its version."""
    pieces = [Piece(name, version, len(version)) for name, version in versions.items()]
    texts = list(versions.values())

    def copies(places):
        return {prefix: np.array([ord(c) for i in places for c in texts[i]], dtype=np.int64)}

    return PieceGroup(pieces, copies)


def snapshot(keys=(), **versions):
    whole = {"n": np.array([len(versions)])}
    return PiecewiseSnapshot(whole, [group("values", **versions), group("keys", **dict(keys))])


def take(memory, name, **versions):
    """Take a checkpoint and complete it; return what was written and the tables."""
    state, tables = memory.take("0/1", snapshot(**versions))
    file = WrittenFile("rank-00000.h5", sum(array.nbytes for array in state.values()) + 1, "")
    memory.complete({"0/1": tables}, memory.files_of(tables), name, file)
    return state, tables_from_json(json.loads(json.dumps([one.to_json() for one in tables])))


def copying(files):
    """Copy entries from the arrays of files that are kept in memory."""

    def copy_of(file, name, out, places):
        for first, at, n in places:
            out[at : at + n] = files[file][name][first : first + n]

    return copy_of


def text(array):
    return "".join(map(chr, array))


def test_only_what_changed_is_copied_and_all_can_be_put_together():
    memory, files = PieceMemory(), {}
    for name, keys, versions in (
        ("first", {"k0": "xy", "k1": "z"}, {"a": "123", "b": "45"}),
        ("second", {"k0": "xy", "k1": "zz"}, {"a": "123", "b": "457", "c": "8"}),
        ("third", {"k0": "xy", "k1": "zz"}, {"b": "457", "c": "89", "d": "1"}),
    ):
        files[name], tables = take(memory, name, keys=keys, **versions)
        found = assembled(tables, files[name], copying(files))
        assert text(found["values"]) == "".join(versions.values())
        assert text(found["keys"]) == "".join(keys.values())
    assert len(files["second"]["values"]) == 4
    assert text(files["second"]["keys"]) == "zz"
    assert len(files["third"]["keys"]) == 0
    assert files_of(tables) == ["first", "second"]


@pytest.fixture
def no_spare(monkeypatch):
    monkeypatch.setattr("hpcstream.checkpoint.increments.SPARE_BYTES", 0)


def test_files_referred_to_are_at_most_twice_the_state(no_spare):
    memory, sizes = PieceMemory(), {}
    for i in range(40):  # a piece that stays in every second file, beside one that does not
        kept = {f"kept {n}": "12345" for n in range(i // 2 + 1)}
        state, tables = take(memory, f"file {i}", **kept, changes=f"{i:020d}")
        sizes[f"file {i}"] = sum(array.nbytes for array in state.values())
        n_bytes = sum(p.n_entries * t.entry_bytes for t in memory.take("0/1", snapshot(
            **kept, changes=f"{i:020d}"))[1] for p in t.pieces)  # fmt: skip
        assert sum(sizes[file] for file in files_of(tables)) <= 2 * n_bytes
    assert len(files_of(tables)) > 2, "and as much of them as that allows"


def test_a_file_of_which_little_is_needed_is_not_referred_to(no_spare):
    memory = PieceMemory()
    take(memory, "first", a="1", b="2345")
    _, tables = take(memory, "second", a="1")
    assert files_of(tables) == ["first"]  # it was not known yet how little
    assert len(take(memory, "third", a="1")[0]["values"]) == 1


def test_many_files_become_few_and_what_is_written_follows_what_changed():
    memory, versions, n_written = PieceMemory(), {}, []
    for i in range(20 * MOST_FILES):
        versions[f"slice {i}"] = f"{i:04d}"
        _, tables = take(memory, f"file {i}", **versions)
        assert len(files_of(tables)) <= MOST_FILES
        n_written.append(sum(one.file == OWN for one in tables[0].pieces))
    assert sum(n_written) <= 6 * len(n_written), "all again each 16 times: 11 times what changed"
