"""The checkpoint directory: attempts, the lock, what is kept, who may commit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpcstream.checkpoint import lease
from hpcstream.checkpoint.format import CheckpointError
from hpcstream.checkpoint.storage.directory import REQUEST, CheckpointStore, Superseded
from hpcstream.checkpoint.storage.manifest import MANIFEST, Manifest, write_manifest


@pytest.fixture
def store(tmp_path):
    made = CheckpointStore(str(tmp_path / "run"))
    made.make()
    return made


def complete(store, number, attempt=1, kind="ckpt"):
    path = store.begin(number, kind)
    store.complete(
        path, Manifest(number=number, attempt=attempt, round=0, size=1, job="j", fingerprint="")
    )
    return path


def numbers(found):
    return [one.number for one in found]


def test_only_what_has_a_manifest_exists(store):
    store.new_attempt(fresh=False)
    complete(store, 1)
    store.begin(2)

    assert numbers(store.stored()) == [1]
    assert store.next_number() == 3
    store.remove_unfinished()
    assert store.next_number() == 2


def test_the_newest_are_kept_and_savepoints_are_kept_for_ever(store):
    for number in range(1, 6):
        complete(store, number, kind="savepoint" if number == 2 else "ckpt")

    store.prune(2)

    assert numbers(store.stored()) == [5, 4, 2]


def test_an_attempt_that_was_cut_off_cannot_complete_a_checkpoint(store):
    old = store.new_attempt(fresh=False)
    path = store.begin(1)
    store.new_attempt(fresh=False)

    manifest = Manifest(number=1, attempt=old, round=0, size=1, job="j", fingerprint="")
    with pytest.raises(Superseded, match="attempt 2 has begun"):
        store.complete(path, manifest)
    assert store.stored() == []


def test_an_attempt_that_looked_too_early_finds_its_directory_gone(store):
    old = store.new_attempt(fresh=False)
    path = store.begin(1)
    store.check_attempt(old)
    store.new_attempt(fresh=False)
    store.remove_unfinished()

    manifest = Manifest(number=1, attempt=old, round=0, size=1, job="j", fingerprint="")
    with pytest.raises((Superseded, OSError)):
        store.complete(path, manifest)


def test_what_an_old_attempt_completes_after_a_newer_one_has_chosen_does_not_count(store):
    """It looked for newer attempts just before one began, and wrote its manifest just after."""
    old = store.new_attempt(fresh=False)
    kept = complete(store, 1, old)
    new = store.new_attempt(fresh=False)
    store.continues_from(new, kept)
    path = store.begin(2)
    write_manifest(path, Manifest(number=2, attempt=old, round=0, size=1, job="j", fingerprint=""))

    assert numbers(store.candidates()) == [1]
    assert numbers(store.left_behind()) == [2]
    complete(store, 3, new)
    store.prune(3)
    assert numbers(store.stored()) == [3, 1], "what does not count takes no place of what does"


def test_when_the_first_attempts_begin_from_nothing_late_checkpoints_do_not_count(store):
    old = store.new_attempt(fresh=False)
    store.continues_from(store.new_attempt(fresh=False), None)
    write_manifest(
        store.begin(1), Manifest(number=1, attempt=old, round=0, size=1, job="j", fingerprint="")
    )

    assert store.candidates() == []
    assert store.left_behind() == []


def test_attempts_are_forgotten_but_not_what_they_made_void(store):
    first = complete(store, 1, store.new_attempt(fresh=False))
    void = complete(store, 2, 1, kind="savepoint")
    store.continues_from(store.new_attempt(fresh=False), first)
    for _ in range(103):
        store.new_attempt(fresh=False)
    assert len(store.attempts()) == 105
    assert numbers(store.candidates()) == [1]

    store.discard(void)
    store.new_attempt(fresh=False)
    assert len(store.attempts()) == 101


def test_a_damaged_manifest_keeps_the_files_that_it_may_refer_to(store):
    for number in (1, 2, 3):
        complete(store, number)
        (Path(store.path(number)) / "rank-00000.h5").write_text("state")
    Path(store.path(3), MANIFEST).write_text("{")
    os.remove(Path(store.path(1), MANIFEST))

    store.remove_unfinished()
    assert Path(store.path(1), "rank-00000.h5").exists()

    store.discard(store.path(3))
    store.remove_unfinished()
    assert not Path(store.path(1)).exists()


def test_a_request_that_is_damaged_still_asks_for_a_savepoint(store):
    Path(store.directory, REQUEST).write_bytes(b'{"stop": \xff\xfe')

    assert store.take_request() == {}
    assert store.take_request() is None


def test_a_fresh_attempt_makes_earlier_checkpoints_count_no_more(store):
    first = store.new_attempt(fresh=False)
    complete(store, 1, first)
    fresh = store.new_attempt(fresh=True)
    assert store.candidates() == []

    complete(store, 2, fresh)
    store.new_attempt(fresh=False)
    assert numbers(store.candidates()) == [2]


def test_a_directory_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"cannot make the checkpoint directory .*/file/run"):
        CheckpointStore(str(tmp_path / "file" / "run")).make()


# -- the lock ------------------------------------------------------------------------------


def test_a_second_job_is_refused_and_the_first_is_named(store, monkeypatch):
    monkeypatch.setattr(lease, "TOUCH_EVERY_S", 0.05)
    held = lease.acquire(store.directory, "first", say=print)
    try:
        with pytest.raises(CheckpointError, match=rf"'first', process {os.getpid()} on"):
            lease.acquire(store.directory, "second", say=print)
    finally:
        held.release()
    lease.acquire(store.directory, "second", say=print).release()


def test_the_lock_of_a_process_that_is_gone_is_taken_over_at_once(store):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"],
                          capture_output=True, text=True, check=True)  # fmt: skip
    owner = {"host": os.uname().nodename, "pid": int(dead.stdout), "started": "1"}
    with open(os.path.join(store.directory, lease.LOCK), "w") as file:
        json.dump(owner, file)
    began = time.monotonic()

    lease.acquire(store.directory, "next", say=print).release()

    assert time.monotonic() - began < 2


def test_a_lock_that_nobody_touches_is_taken_over(store):
    owner = {"host": "another", "pid": 1, "started": "1", "job": "old"}
    with open(os.path.join(store.directory, lease.LOCK), "w") as file:
        json.dump(owner, file)
    os.utime(file.name, (time.time() + 60,) * 2)  # however slow this machine is, it is not old
    said = []

    lease.acquire(store.directory, "next", say=said.append, stale_after_s=0.2).release()

    assert "may have been left by a dead job" in said[0]
    assert not os.path.exists(os.path.join(store.directory, lease.LOCK))
