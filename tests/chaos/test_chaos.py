"""Real ranks, killed with SIGKILL at random moments, give what an unfailed run gives.

HPCSTREAM_CHAOS_RUNS says how many runs; HPCSTREAM_CHAOS_SEED repeats them. A kill hits a
rank or the launcher: anywhere, while a checkpoint is being written (a rank's file is there,
the manifest is not), or while rows are being committed (the manifest has just appeared).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hpcstream.launch import mpiexec
from hpcstream.launch.quirks.openmpi import remove_session
from hpcstream.launch.supervise import descendants, kill_tree
from hpcstream.testing import assert_same_rows

RUNS = int(os.environ.get("HPCSTREAM_CHAOS_RUNS", "4"))
SEED = int(os.environ.get("HPCSTREAM_CHAOS_SEED", "1"))
JOB = Path(__file__).parent / "job.py"
GIVE_UP_S = 300
GONE_AFTER_S = 10
MOST_KILLS = 3
MOMENTS = ("anywhere", "writing", "committing")


@dataclass
class Story:
    """What happened to one job."""

    kills: list[str] = field(default_factory=list)
    recover_s: list[float] = field(default_factory=list)
    gone_s: list[float] = field(default_factory=list)


def visible(out: Path) -> pa.Table:
    parts = [pq.read_table(path) for path in sorted(out.glob("*.parquet"))]
    table = pa.concat_tables(parts)
    return table.sort_by([(name, "ascending") for name in table.schema.names])


class Chaos:
    """Starts the job, kills some of it, starts it again, until it ends by itself."""

    def __init__(self, launcher: mpiexec.Launcher, folder: Path, seed: int) -> None:
        self.launcher = launcher
        self.out, self.run, self.log = folder / "out", folder / "run", folder / "log"
        self.chance = random.Random(seed)
        self.story = Story()
        self.n_kills = self.chance.randint(1, MOST_KILLS)
        self.attempts = self.goes_on = 0
        self.killed_s = 0.0

    def start(self, n_ranks: int, out: Path, run: Path | None) -> subprocess.Popen:
        program = [sys.executable, str(JOB), str(out)] + ([] if run is None else [str(run)])
        command = mpiexec.command(self.launcher, n_ranks, program, slots=0)
        environ = mpiexec.environment(self.launcher, dict(os.environ))
        with self.log.open("a") as log:
            return subprocess.Popen(
                command,
                env=environ,
                stdout=log,
                stderr=log,
                preexec_fn=lambda: remove_session(os.getpid(), environ),
            )

    def unfailed(self, n_ranks: int, folder: Path) -> pa.Table:
        process = self.start(n_ranks, folder / f"unfailed-{n_ranks}", None)
        assert process.wait(GIVE_UP_S) == 0, self.log.read_text()
        return visible(folder / f"unfailed-{n_ranks}")

    def until_finished(self, sizes) -> Story:
        while not self.one_attempt(next(sizes)):
            pass
        return self.story

    def one_attempt(self, n_ranks: int) -> bool:
        process = self.start(n_ranks, self.out, self.run)
        try:
            self._await_attempt(process)
            if len(self.story.kills) < self.n_kills and self._kill_something(process):
                return False
            assert process.wait(GIVE_UP_S) == 0, self.log.read_text()
        finally:
            kill_tree(process.pid)
            process.wait()
        return True

    def _await_attempt(self, process: subprocess.Popen) -> None:
        """Wait until the new attempt goes on from where it was: before, there is nothing to hit."""
        give_up = time.monotonic() + GIVE_UP_S
        goes_on = any(self.run.glob("ckpt-*/manifest.json"))
        while not self._has_begun(goes_on):
            assert process.poll() is None or self._has_begun(goes_on), self.log.read_text()
            assert time.monotonic() < give_up, self.log.read_text()
            time.sleep(0.005)
        self.attempts += 1
        self.goes_on += goes_on
        if self.killed_s:
            self.story.recover_s.append(time.monotonic() - self.killed_s)

    def _has_begun(self, goes_on: bool) -> bool:
        if goes_on:
            said = self.log.read_text()
            return said.count("going on from") + said.count("is finished already") > self.goes_on
        return len(list(self.run.glob("attempt-*"))) > self.attempts

    def _kill_something(self, process: subprocess.Popen) -> bool:
        moment = self._await_moment(process)
        ranks = [pid for pid in descendants(process.pid) if is_rank(pid)]
        if process.poll() is not None or not ranks:
            return False
        everything = descendants(process.pid)
        victim = process.pid if self.chance.random() < 0.2 else self.chance.choice(ranks)
        os.kill(victim, signal.SIGKILL)
        self.killed_s = time.monotonic()
        who = "launcher" if victim == process.pid else "rank"
        self.story.kills.append(f"{who} {moment}")
        while alive := [pid for pid in everything if is_rank(pid)]:
            gone_s = time.monotonic() - self.killed_s
            assert gone_s < GONE_AFTER_S, f"{alive} outlived the job by {GONE_AFTER_S} s"
            time.sleep(0.01)
        self.story.gone_s.append(time.monotonic() - self.killed_s)
        process.wait(GIVE_UP_S)
        return True

    def _await_moment(self, process: subprocess.Popen) -> str:
        """Wait for a moment to kill; return what the job was doing."""
        moment = self.chance.choice(MOMENTS)
        time.sleep(self.chance.uniform(0.0, 1.2))
        before = whole_checkpoints(self.run)
        give_up = time.monotonic() + GIVE_UP_S
        while moment != "anywhere" and process.poll() is None:
            assert time.monotonic() < give_up, self.log.read_text()
            time.sleep(0.001)
            whole = whole_checkpoints(self.run)
            begun = {path.parent for path in self.run.glob("ckpt-*/rank-*")} - whole
            if (moment == "writing" and begun) or (moment == "committing" and whole - before):
                break
        return moment


def whole_checkpoints(run: Path) -> set[Path]:
    return {path.parent for path in run.glob("ckpt-*/manifest.json")}


def is_rank(pid: int) -> bool:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    is_script = str(JOB).encode() in command[1:2]
    return is_script and state not in "ZX"


@pytest.fixture(scope="module")
def expected(launcher, tmp_path_factory):
    folder = tmp_path_factory.mktemp("unfailed")
    cache: dict[int, pa.Table] = {}

    def of(n_ranks: int) -> pa.Table:
        if n_ranks not in cache:
            cache[n_ranks] = Chaos(launcher, folder, 0).unfailed(n_ranks, folder)
        return cache[n_ranks]

    return of


@pytest.fixture(scope="module")
def stories(pytestconfig):
    told: list[Story] = []
    yield told
    kills = [kill for story in told for kill in story.kills]
    recover_s = [seconds for story in told for seconds in story.recover_s]
    gone_s = [seconds for story in told for seconds in story.gone_s]
    counts = ", ".join(f"{kills.count(one)} {one}" for one in sorted(set(kills)))
    text = f"chaos: {len(told)} runs, {len(kills)} kills ({counts}), {len(recover_s)} restarts"
    if recover_s:
        mean = sum(recover_s) / len(recover_s)
        text += f"; from the kill until the job went on {mean:.2f} s in the mean, "
        text += f"{max(recover_s):.2f} s at most; no process left after {max(gone_s):.2f} s"
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n  {text}")


@pytest.mark.parametrize("seed", range(SEED, SEED + RUNS))
def test_a_job_that_is_killed_anywhere_gives_the_output_of_one_that_is_not(
    seed, launcher, expected, stories, tmp_path
):
    chaos = Chaos(launcher, tmp_path, seed)
    same_size = seed % 2 == 0
    first = chaos.chance.randint(2, 4)

    def sizes():
        while True:
            yield first if same_size else chaos.chance.randint(2, 4)

    stories.append(chaos.until_finished(sizes()))

    found = visible(chaos.out)
    if same_size:
        assert found.equals(expected(first))
    else:
        assert_same_rows(found, expected(2), rtol=1e-12)
