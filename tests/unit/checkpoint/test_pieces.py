"""State that does not change is written once, and referred to again."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import hpcstream as hs
from hpcstream import col
from hpcstream.checkpoint.format import CheckpointError
from hpcstream.checkpoint.increments import MOST_FILES, OWN, files_of
from hpcstream.checkpoint.storage.directory import CheckpointStore, verify
from hpcstream.checkpoint.storage.manifest import read_manifest
from hpcstream.state.table import Segment, StateTable, TableCopy
from hpcstream.testing import ManualClock, assert_same_rows, start_ranks

sys.path.insert(0, str(Path(__file__).parent))
from kept_files import KeptFiles
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
        ranks.until(lambda: min(ranks.rounds, default=0) > 70)

    last, before = (read_manifest(one.path) for one in store.stored()[:2])
    assert last.shared
    (state,) = (one.state_bytes for one in last.operators if "sliding" in one.label)
    (state_before,) = (one.state_bytes for one in before.operators if "sliding" in one.label)
    entry_bytes = 8 + 8 + 1  # key, rows, is_null
    assert state - state_before < last.facts["copied_bytes"]
    assert last.facts["copied_bytes"] < state - state_before + 260 * entry_bytes + 2000
    assert last.facts["copied_bytes"] < state / 5


# -- the memory of segments ------------------------------------------------------------------


class Texts(StateTable):
    """One entry a letter, one segment a text."""

    def __init__(self, name, texts):
        self.name, self.texts = name, texts

    def head(self):
        return {f"n {self.name}": np.array([len(self.texts)])}

    def segments(self):
        return [Segment(name, text, len(text)) for name, text in self.texts.items()]

    def copy(self, indices):
        texts = list(self.texts.values())
        letters = [ord(letter) for i in indices for letter in texts[i]]
        return TableCopy({self.name: np.array(letters, dtype=np.int64)})


def tables(keys=(), **texts):
    return [Texts("values", texts), Texts("keys", dict(keys))]


def text(array):
    return "".join(map(chr, array))


def test_only_what_changed_is_copied_and_all_can_be_put_together():
    kept = KeptFiles()
    for name, keys, texts in (
        ("first", {"a": "xy", "b": "z"}, {"a": "123", "b": "45"}),
        ("second", {"a": "xy", "b": "zz"}, {"a": "123", "b": "457", "c": "8"}),
        ("third", {"a": "xy", "b": "zz"}, {"b": "457", "c": "89", "d": "1"}),
    ):
        own, stored = kept.take(tables(keys=keys, **texts), name)
        found = kept.read(own, stored)
        assert text(found["values"]) == "".join(texts.values())
        assert text(found["keys"]) == "".join(keys.values())
        assert found["n values"].tolist() == [len(texts)]
    assert len(kept.files["second"].arrays["values"]) == 4
    assert text(kept.files["second"].arrays["keys"]) == "zz"
    assert len(kept.files["third"].arrays["keys"]) == 0
    assert files_of(stored) == ["first", "second"]


@pytest.fixture
def no_spare(monkeypatch):
    monkeypatch.setattr("hpcstream.checkpoint.increments.SPARE_BYTES", 0)


def test_files_referred_to_are_at_most_twice_the_state(no_spare):
    kept = KeptFiles()
    for i in range(40):  # a text that stays in every second file, beside one that does not
        texts = {f"kept {n}": "12345" for n in range(i // 2 + 1)}
        _, stored = kept.take(tables(**texts, changes=f"{i:020d}"), f"file {i}")
        n_bytes = sum(len(one) * 8 for one in texts.values()) + 20 * 8
        assert sum(kept.files[file].n_bytes for file in files_of(stored)) <= 2 * n_bytes
    assert len(files_of(stored)) > 2, "and as much of them as that allows"


def test_a_file_of_which_little_is_needed_is_not_referred_to(no_spare):
    kept = KeptFiles()
    kept.take(tables(a="1", b="2345"), "first")
    _, stored = kept.take(tables(a="1"), "second")
    assert files_of(stored) == ["first"]  # it was not known yet how little
    own, _ = kept.take(tables(a="1"), "third")
    assert len(own.arrays["values"]) == 1


def test_many_files_become_few_and_what_is_written_follows_what_changed():
    kept, texts, n_written = KeptFiles(), {}, []
    for i in range(20 * MOST_FILES):
        texts[f"slice {i}"] = f"{i:04d}"
        _, stored = kept.take(tables(**texts), f"file {i}")
        assert len(files_of(stored)) <= MOST_FILES
        n_written.append(sum(one.file == OWN for one in stored[0].segments))
    assert sum(n_written) <= 6 * len(n_written), "all again each 16 times: 11 times what changed"
