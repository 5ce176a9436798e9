"""The lock of a directory in a model: every mix of the steps of several processes."""

from __future__ import annotations

import json
import os
import random
import threading
import time

import pytest

from hpcstream.checkpoint import lease
from hpcstream.checkpoint.format import CheckpointError


class Died(BaseException):
    """A process of the model was killed."""


class Process(threading.Thread):
    """A process of the model: takes a step only when it is told to."""

    def __init__(self, model, name, program):
        super().__init__(name=name, daemon=True)
        self.model, self.program = model, program
        self.go, self.stopped = threading.Semaphore(0), threading.Semaphore(0)
        self.is_dead, self.has_ended = False, False
        self.outcome = None

    def run(self):
        self.go.acquire()
        try:
            self.outcome = self.program(self)
        except Died:
            self.outcome = "died"
        except CheckpointError:
            self.outcome = "refused"
        except AssertionError as error:
            self.outcome = str(error)
        self.has_ended = True
        self.stopped.release()

    def step(self):
        """Wait for the next turn; a process that was killed does nothing more."""
        if not self.is_dead:
            self.stopped.release()
            self.go.acquire()
        if self.is_dead:
            raise Died


class Model:
    """Runs processes in turns that a seed chooses; some of them are killed."""

    def __init__(self, monkeypatch, directory):
        self.directory = str(directory)
        self.processes, self.holding = {}, []
        for name in ("_create", "_look", "_remove"):
            monkeypatch.setattr(lease, name, self.stepwise(getattr(lease, name)))
        monkeypatch.setattr(lease, "_own_text", self.own_text)
        monkeypatch.setattr(lease, "_is_gone", self.is_gone)
        monkeypatch.setattr(lease, "_age", lambda found: 0.0)
        monkeypatch.setattr(lease, "_wait_until_stale", self.judged)
        monkeypatch.setattr(lease, "_tidy", self.stepwise(lease._tidy))
        monkeypatch.setattr(time, "sleep", lambda seconds: threading.current_thread().step())

    def stepwise(self, function):
        def stepped(*arguments):
            threading.current_thread().step()
            return function(*arguments)

        return stepped

    def own_text(self, job, run=""):
        return json.dumps({"who": threading.current_thread().name, "token": os.urandom(8).hex()})

    def is_gone(self, owner):
        who = owner.get("who")
        return who == "long ago" or self.processes[who].is_dead

    def judged(self, found, say, stale_after_s, refusal):
        if not self.is_gone(found.owner):
            raise CheckpointError("somebody holds it")
        return found

    def acquires(self, process):
        """Acquire, and hold it for ever."""
        self.acquire(process)
        return "holds"

    def acquire(self, process):
        held = lease.acquire(self.directory, process.name, say=print)
        assert not [one for one in self.holding if not one.is_dead], "two hold it"
        self.holding.append(process)
        return held

    def acquires_and_releases(self, process):
        held = self.acquire(process)
        process.step()
        self.holding.remove(process)
        held.release()
        return "released"

    def run(self, programs, seed, n_killed):
        chance = random.Random(seed)
        self.processes = {str(n): Process(self, str(n), one) for n, one in enumerate(programs)}
        self.holding = []
        running = list(self.processes.values())
        kills = {chance.randrange(40) for _ in range(n_killed)}
        for one in running:
            one.start()
        for turn in range(2000):
            if not running:
                return [one.outcome for one in self.processes.values()]
            one = chance.choice(running)
            one.is_dead = one.is_dead or turn in kills
            one.go.release()
            assert one.stopped.acquire(timeout=60)
            running = [other for other in running if not other.has_ended]
        raise AssertionError("nobody got anywhere")


class Silent:
    """A lease that no thread keeps alive."""

    def __init__(self, path, text):
        self.path, self._text = path, text

    def release(self):
        found = lease._look(self.path)
        if found is not None and found.text == self._text:
            lease._set_aside(found)


@pytest.mark.parametrize("n_killed", [0, 1, 2])
def test_however_the_steps_mix_one_process_takes_a_stale_lock_over(monkeypatch, tmp_path, n_killed):
    monkeypatch.setattr(lease, "Lease", Silent)
    model = Model(monkeypatch, tmp_path)
    for seed in range(200):
        for path in tmp_path.iterdir():
            path.unlink()
        (tmp_path / lease.LOCK).write_text(json.dumps({"who": "long ago", "token": str(seed)}))
        programs = [model.acquires, model.acquires_and_releases, model.acquires]

        outcomes = model.run(programs, seed, n_killed)

        assert set(outcomes) <= {"holds", "released", "refused", "died"}, f"seed {seed}: {outcomes}"
        assert outcomes.count("holds") <= 1
        if n_killed == 0:
            assert outcomes.count("holds") + outcomes.count("released") >= 1
            left = [path.name for path in tmp_path.iterdir() if path.name != lease.LOCK]
            assert left == [], f"seed {seed}"


def test_a_lock_of_another_pid_namespace_is_not_judged_by_process_numbers(tmp_path, monkeypatch):
    owner = json.loads(lease._own_text("there")) | {"place": "boot/pid:[1]", "pid": 999_999_999}
    path = tmp_path / lease.LOCK
    path.write_text(json.dumps(owner))
    os.utime(path, (time.time() + 60,) * 2)
    threading.Timer(0.2, os.utime, [path]).start()

    with pytest.raises(CheckpointError, match="'there', process 999999999 on"):
        lease.acquire(str(tmp_path), "here", say=print, stale_after_s=5.0)


def test_a_lock_of_the_same_run_is_taken_over_at_once_and_the_older_notices(tmp_path):
    older = lease.acquire(str(tmp_path), "j", say=print, run="/run/of/j")

    newer = lease.acquire(str(tmp_path), "j", say=print, run="/run/of/j")

    assert older.is_lost
    assert not newer.is_lost
    older.release()
    assert not newer.is_lost
    newer.release()
    assert list(tmp_path.iterdir()) == []
