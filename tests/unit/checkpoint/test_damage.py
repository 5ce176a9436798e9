"""Whatever is damaged in a checkpoint directory: the right rows, or a refusal that says why.

HPCSTREAM_DAMAGE_RUNS says how many directories are damaged; HPCSTREAM_DAMAGE_SEED repeats them.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from hpcstream.checkpoint.format import CheckpointError
from hpcstream.checkpoint.lease import LOCK
from hpcstream.checkpoint.storage.directory import CheckpointStore, Stored
from hpcstream.checkpoint.storage.manifest import MANIFEST, read_manifest
from hpcstream.testing import assert_same_rows

sys.path.insert(0, str(Path(__file__).parent))
from killed_job import start
from restart import visible

RUNS = int(os.environ.get("HPCSTREAM_DAMAGE_RUNS", "12"))
SEED = int(os.environ.get("HPCSTREAM_DAMAGE_SEED", "1"))
SCRIPT = Path(__file__).parent / "killed_job.py"


@dataclass
class Killed:
    """What a killed job left behind, and what it would have given.

    ``needed`` are the files of each whole checkpoint, newest first; ``kinds`` all files.
    """

    left: Path
    folder: Path
    expected: pa.Table
    needed: list[set[Path]]
    kinds: list[list[Path]]

    def put_back(self) -> None:
        """Undo everything: times too, for the lock is judged by them."""
        shutil.rmtree(self.folder)
        shutil.copytree(self.left, self.folder)
        os.utime(self.folder / "run" / LOCK, (0, 0))  # left long ago: nobody waits for it


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    base = tmp_path_factory.mktemp("killed")
    start(base / "unfailed", 2).finish()
    folder = base / "job"
    child = subprocess.run([sys.executable, str(SCRIPT), str(folder)], capture_output=True)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    shutil.copytree(folder, base / "left")
    stored = CheckpointStore(str(folder / "run")).stored()
    needed = [files_of(one) for one in stored]
    expected = visible(base / "unfailed" / "out")
    return Killed(base / "left", folder, expected, needed, kinds_of(folder, stored, needed))


def files_of(stored: Stored) -> set[Path]:
    """Return the files that a checkpoint consists of."""
    here, manifest = Path(stored.path), read_manifest(stored.path)
    own = {here / MANIFEST, *(here / file.name for file in manifest.files)}
    return own | {here.parent / place for place in manifest.shared}


def kinds_of(folder: Path, stored: list[Stored], needed: list[set[Path]]) -> list[list[Path]]:
    """Return all files by what they are: manifests, files with state, files of others, the rest."""
    everything = {path for path in folder.rglob("*") if path.is_file()}
    everything -= set((folder / "out").iterdir())
    manifests = {Path(one.path, MANIFEST) for one in stored}
    newest = {path for path in needed[0] if path.parent == Path(stored[0].path)} - manifests
    shared = set().union(*needed) - manifests - newest
    kinds = [manifests, newest, shared, everything - manifests - newest - shared]
    return [sorted(kind) for kind in kinds]


def test_a_killed_job_leaves_files_of_every_kind(killed):
    manifests, newest, shared, rest = killed.kinds
    assert len(manifests) == 3
    assert len(newest) == 2
    assert any(path.parent not in {one.parent for one in manifests} for path in shared)
    names = {path.name for path in rest}
    assert {LOCK, "fresh", "savepoint-request.json", "rank-00000.h5"} <= names
    assert any("scratch" in path.parts for path in rest)


def damage(path: Path, chance: random.Random) -> str:
    """Do to a file what disks and power cuts do; return what."""
    whole = path.read_bytes()
    place, length = chance.randrange(len(whole) + 1), chance.choice([1, 1, 8, 512, 4096])
    before, behind = whole[:place], whole[place + length :]
    damages = {
        "cut short": before,
        "a flipped bit": before + bytes(b ^ 1 << chance.randrange(8) for b in whole[place:][:1])
        + whole[place + 1 :],
        "zeros": before + bytes(min(length, len(whole) - place)) + behind,
        "rubbish": before + chance.randbytes(min(length, len(whole) - place)) + behind,
        "made longer": whole + chance.randbytes(length),
    }  # fmt: skip
    how = chance.choice(sorted(damages))
    times = path.stat()
    path.write_bytes(damages[how])
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    return f"{path}: {how} at {place}" if damages[how] != whole else ""


def damage_some(killed: Killed, chance: random.Random) -> dict[Path, str]:
    """Damage one file, or several; return which, and how."""
    done = {}
    for _ in range(chance.choice([1, 1, 2, 5])):
        path = chance.choice(chance.choice(killed.kinds))
        how = damage(path, chance)
        if how:
            done[path] = how
    return done


@pytest.mark.parametrize("seed", range(SEED, SEED + RUNS))
def test_damage_gives_the_right_rows_or_a_refusal(seed, killed, capsys):
    chance = random.Random(seed)
    n_ranks = chance.choice([2, 2, 3])
    killed.put_back()
    done = damage_some(killed, chance)
    print(*done.values(), sep="\n")
    whole = [files for files in killed.needed if not files & done.keys()]

    refusal = run_or_refusal(killed, n_ranks)

    said = capsys.readouterr().err
    if refusal:
        assert not whole, f"refused, though {whole[0]} are whole: {refusal}\n{said}"
        assert_clear(refusal, said, done)
        put_back_damaged(killed, done)
        start(killed.folder, n_ranks).finish()
    elif own_files(killed, 0) & done.keys():
        assert "checkpoint damaged: " in said
        assert "going back to the one before" in said
    assert_right(visible(killed.folder / "out"), killed, n_ranks)


def run_or_refusal(killed: Killed, n_ranks: int) -> str:
    """Start the job again; return why it refused, or nothing. Any other error is a failure."""
    try:
        start(killed.folder, n_ranks).finish()
    except CheckpointError as refusal:
        return str(refusal)
    return ""


def assert_clear(refusal: str, said: str, done: dict[Path, str]) -> None:
    assert "is whole" in refusal
    assert "restore_from=None" in refusal
    assert any(str(path) in said for path in done), "it names what is damaged"


def put_back_damaged(killed: Killed, done: dict[Path, str]) -> None:
    """Give the files back: a refusal has destroyed nothing that counts, so the job can go on."""
    for path in done.keys() & set().union(*killed.needed):
        shutil.copyfile(killed.left / path.relative_to(killed.folder), path)


def own_files(killed: Killed, place: int) -> set[Path]:
    files = killed.needed[place]
    (directory,) = {path.parent for path in files if path.name == MANIFEST}
    return {path for path in files if path.parent == directory}


def assert_right(found: pa.Table, killed: Killed, n_ranks: int) -> None:
    if n_ranks == 2:
        assert found.equals(killed.expected)
    else:
        assert_same_rows(found, killed.expected, rtol=1e-12)
