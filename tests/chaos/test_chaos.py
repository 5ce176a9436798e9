"""Real ranks, killed with SIGKILL at random moments, give what an unfailed run gives.

HPCSTREAM_CHAOS_RUNS says how many runs; HPCSTREAM_CHAOS_SEED repeats them.
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

from hpcstream.cli import mpiexec
from hpcstream.cli.supervise import descendants, kill_tree
from hpcstream.testing import assert_same_rows

RUNS = int(os.environ.get("HPCSTREAM_CHAOS_RUNS", "6"))
SEED = int(os.environ.get("HPCSTREAM_CHAOS_SEED", "1"))
JOB = Path(__file__).parent / "job.py"
GIVE_UP_S = 120
GONE_AFTER_S = 10


@dataclass
class Story:
    """What happened to one job."""

    kills: list[str] = field(default_factory=list)
    recover_s: list[float] = field(default_factory=list)


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
        self.attempts = 0

    def start(self, n_ranks: int, out: Path, run: Path | None) -> subprocess.Popen:
        program = [sys.executable, str(JOB), str(out)] + ([] if run is None else [str(run)])
        command = mpiexec.command(self.launcher, n_ranks, program, slots=0)
        environ = mpiexec.environment(self.launcher, dict(os.environ))
        with self.log.open("a") as log:
            return subprocess.Popen(command, env=environ, stdout=log, stderr=log)

    def unfailed(self, n_ranks: int, folder: Path) -> pa.Table:
        process = self.start(n_ranks, folder / f"unfailed-{n_ranks}", None)
        assert process.wait(GIVE_UP_S) == 0, self.log.read_text()
        return visible(folder / f"unfailed-{n_ranks}")

    def until_finished(self, sizes) -> Story:
        while not self.one_attempt(next(sizes)):
            pass
        return self.story

    def one_attempt(self, n_ranks: int) -> bool:
        began_s = time.monotonic()
        process = self.start(n_ranks, self.out, self.run)
        try:
            self._await_attempt(process)
            if len(self.story.kills):
                self.story.recover_s.append(time.monotonic() - began_s)
            if len(self.story.kills) < 4 and self._kill_something(process):
                return False
            assert process.wait(GIVE_UP_S) == 0, self.log.read_text()
        finally:
            kill_tree(process.pid)
            process.wait()
        return True

    def _await_attempt(self, process: subprocess.Popen) -> None:
        """Wait until the new attempt has begun: before, there is nothing to hit."""
        while len(list(self.run.glob("attempt-*"))) <= self.attempts:
            assert process.poll() is None, self.log.read_text()
            time.sleep(0.005)
        self.attempts += 1

    def _kill_something(self, process: subprocess.Popen) -> bool:
        time.sleep(self.chance.uniform(0.0, 1.2))
        ranks = [pid for pid in descendants(process.pid) if is_rank(pid)]
        if process.poll() is not None or not ranks:
            return False
        everything = descendants(process.pid)
        victim = process.pid if self.chance.random() < 0.2 else self.chance.choice(ranks)
        os.kill(victim, signal.SIGKILL)
        self.story.kills.append("launcher" if victim == process.pid else "rank")
        give_up = time.monotonic() + GONE_AFTER_S
        while alive := [pid for pid in everything if is_rank(pid)]:
            assert time.monotonic() < give_up, f"{alive} outlived the job by {GONE_AFTER_S} s"
            time.sleep(0.01)
        process.wait(GIVE_UP_S)
        return True


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


@pytest.mark.parametrize("seed", range(SEED, SEED + RUNS))
def test_a_job_that_is_killed_anywhere_gives_the_output_of_one_that_is_not(
    seed, launcher, expected, tmp_path, capsys
):
    chaos = Chaos(launcher, tmp_path, seed)
    same_size = seed % 2 == 0
    first = chaos.chance.randint(2, 4)

    def sizes():
        while True:
            yield first if same_size else chaos.chance.randint(2, 4)

    story = chaos.until_finished(sizes())

    found = visible(chaos.out)
    if same_size:
        assert found.equals(expected(first))
    else:
        assert_same_rows(found, expected(2), rtol=1e-12)
    mean = sum(story.recover_s) / max(len(story.recover_s), 1)
    with capsys.disabled():
        print(
            f"\n  seed {seed}: killed {', '.join(story.kills) or 'nothing'}; "
            f"{len(story.recover_s)} restarts, {mean:.2f} s each until the job ran again"
        )
