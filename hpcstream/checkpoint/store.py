"""The directory of a job's checkpoints: what is in it, and what may be done to it.

::

    run/attempt-000007/             made by mkdir, so each number exists once
    run/ckpt-000042/rank-00003.h5
    run/ckpt-000042/manifest.json   written last: without it there is no checkpoint
    run/savepoint-000040/           kept until removed by hand
    run/job.lock

Only the newest attempt may complete a checkpoint or commit rows. An old process
that lives on is shut out whatever it does next: it looks for newer attempts
before each such step, and a new attempt first removes what the old one had begun.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from hpcstream.checkpoint.format import (
    CheckpointError,
    CheckpointFile,
    WrittenFile,
    sync_directory,
)
from hpcstream.checkpoint.manifest import MANIFEST, Manifest, read_manifest, write_manifest

CHECKPOINT, SAVEPOINT = "ckpt", "savepoint"
_NAME = re.compile(rf"({CHECKPOINT}|{SAVEPOINT})-(\d{{6,}})")
_ATTEMPT = re.compile(r"attempt-(\d{6,})")
_FRESH = "fresh"
REQUEST = "savepoint-request.json"


class Superseded(CheckpointError):
    """A newer attempt of the job has begun: this one may not commit any more."""


@dataclass(frozen=True)
class Stored:
    """A directory of a checkpoint that has a manifest.

    Attributes
    ----------
    number : int
    kind : str
        ``"ckpt"`` or ``"savepoint"``.
    path : str
    """

    number: int
    kind: str
    path: str


def rank_file(rank: int) -> str:
    """Return the name of a rank's file in a checkpoint."""
    return f"rank-{rank:05d}.h5"


class CheckpointStore:
    """The checkpoint directory of one job."""

    def __init__(self, directory: str) -> None:
        self.directory = os.path.abspath(os.path.expanduser(directory))

    def make(self) -> None:
        """Make the directory, or say why it cannot be used.

        Raises
        ------
        CheckpointError
        """
        try:
            os.makedirs(self.directory, exist_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"cannot make the checkpoint directory {self.directory!r}: {error.strerror}"
            ) from error
        if not os.access(self.directory, os.W_OK | os.X_OK):
            raise CheckpointError(f"the checkpoint directory {self.directory!r} is not writable")

    # -- attempts ----------------------------------------------------------------------

    def new_attempt(self, *, fresh: bool) -> int:
        """Make the next attempt; ``fresh``: checkpoints of earlier ones no longer count."""
        number = max(self.attempts(), default=0)
        while True:
            number += 1
            path = os.path.join(self.directory, f"attempt-{number:06d}")
            with suppress(FileExistsError):
                os.mkdir(path)
                break
        if fresh:
            with open(os.path.join(path, _FRESH), "w"):
                pass
        sync_directory(self.directory)
        self._forget_attempts(number)
        return number

    def attempts(self) -> list[int]:
        """Return the numbers of the attempts, ascending."""
        matches = (_ATTEMPT.fullmatch(name) for name in os.listdir(self.directory))
        return sorted(int(match[1]) for match in matches if match)

    def check_attempt(self, attempt: int) -> None:
        """Raise `Superseded` if a newer attempt has begun."""
        newest = max(self.attempts(), default=0)
        if newest > attempt:
            raise Superseded(
                f"attempt {attempt} of the job in {self.directory!r} was cut off: attempt {newest} "
                "has begun, so this one commits nothing more"
            )

    def _first_counting_attempt(self) -> int:
        """Return the last attempt that was begun afresh."""
        fresh = [
            number
            for number in self.attempts()
            if os.path.exists(os.path.join(self.directory, f"attempt-{number:06d}", _FRESH))
        ]
        return max(fresh, default=0)

    def _forget_attempts(self, newest: int) -> None:
        first = self._first_counting_attempt()
        for number in self.attempts():
            if number < newest - 100 and number != first:
                with suppress(OSError):
                    os.rmdir(os.path.join(self.directory, f"attempt-{number:06d}"))

    # -- finding -----------------------------------------------------------------------

    def stored(self) -> list[Stored]:
        """Return the checkpoints that have a manifest, newest first."""
        return [one for one in self._directories() if os.path.exists(_manifest_of(one))]

    def candidates(self) -> list[Stored]:
        """Return those that a restart may go on from, newest first."""
        first = self._first_counting_attempt()
        return [one for one in self.stored() if _attempt_of(one) >= first]

    def next_number(self) -> int:
        """Return a number above that of every checkpoint, whole or not."""
        return max((one.number for one in self._directories()), default=0) + 1

    def _directories(self) -> list[Stored]:
        found = []
        for name in os.listdir(self.directory):
            match = _NAME.fullmatch(name)
            if match:
                found.append(Stored(int(match[2]), match[1], os.path.join(self.directory, name)))
        return sorted(found, key=lambda one: -one.number)

    # -- writing -----------------------------------------------------------------------

    def path(self, number: int, kind: str = CHECKPOINT) -> str:
        """Return where a checkpoint is, or will be."""
        return os.path.join(self.directory, f"{kind}-{number:06d}")

    def begin(self, number: int, kind: str = CHECKPOINT) -> str:
        """Make the directory of a checkpoint; every rank may."""
        path = self.path(number, kind)
        with suppress(FileExistsError):
            os.mkdir(path)  # not its parents: if they are gone, so is the lock
        return path

    def complete(self, path: str, manifest: Manifest) -> None:
        """Make a checkpoint exist.

        Raises
        ------
        Superseded
            A newer attempt has begun.
        """
        sync_directory(path)
        self.check_attempt(manifest.attempt)
        write_manifest(path, manifest)
        sync_directory(self.directory)

    def discard(self, path: str) -> None:
        """Remove a checkpoint, manifest first; files that others refer to stay."""
        with suppress(OSError):
            os.remove(os.path.join(path, MANIFEST))
        self._sweep([path])

    def remove_unfinished(self) -> None:
        """Remove what earlier attempts began and did not complete, and what nobody refers to."""
        self._sweep([o.path for o in self._directories() if not os.path.exists(_manifest_of(o))])

    def prune(self, keep: int) -> None:
        """Remove all checkpoints but the newest ``keep``; savepoints stay."""
        directories = self._directories()
        stored = [one for one in directories if os.path.exists(_manifest_of(one))]
        for one in [one for one in stored if one.kind == CHECKPOINT][keep:]:
            with suppress(OSError):
                os.remove(_manifest_of(one))
        newest = max((one.number for one in stored), default=0)  # those after it are being written
        self._sweep([one.path for one in directories if one.number < newest])

    def lacks(self, shared: Mapping[str, WrittenFile]) -> str | None:
        """Return a file of earlier checkpoints that is no longer as it was; None: all are."""
        for place, written in shared.items():
            path = os.path.join(self.directory, place)
            if not os.path.exists(path) or os.path.getsize(path) != written.n_bytes:
                return path
        return None

    def _sweep(self, paths: Iterable[str]) -> None:
        """Remove directories without a manifest, but for the files that manifests refer to."""
        found = [path for path in paths if not os.path.exists(os.path.join(path, MANIFEST))]
        needed = _referred_to(self.stored()) if found else set()
        for path in found:
            directory = os.path.basename(path)
            kept = {place for place in needed if place.startswith(f"{directory}/")}
            if not kept:
                shutil.rmtree(path, ignore_errors=True)
                continue
            for name in os.listdir(path):
                if f"{directory}/{name}" not in kept:
                    with suppress(OSError):
                        os.remove(os.path.join(path, name))

    # -- requests ----------------------------------------------------------------------

    def take_request(self) -> dict[str, object] | None:
        """Return, once, what `hpcstream savepoint` asks for."""
        path = os.path.join(self.directory, REQUEST)
        try:
            with open(path, encoding="utf-8") as file:
                value = json.load(file)
            os.remove(path)
        except (OSError, ValueError):
            return None
        return value if isinstance(value, dict) else None


def _manifest_of(stored: Stored) -> str:
    return os.path.join(stored.path, MANIFEST)


def _attempt_of(stored: Stored) -> int:
    """Return who wrote a checkpoint; a damaged one is looked at when it is restored."""
    try:
        return read_manifest(stored.path).attempt
    except CheckpointError:
        return 2**62


def _referred_to(stored: Iterable[Stored]) -> set[str]:
    """Return the files of other checkpoints that whole ones refer to."""
    found: set[str] = set()
    for one in stored:
        with suppress(CheckpointError):
            found.update(read_manifest(one.path).shared)
    return found


def verify(path: str) -> Iterator[tuple[str, int | CheckpointError]]:
    """Yield for each file of a checkpoint its checked bytes, or what is wrong with it."""
    try:
        manifest = read_manifest(path)
    except CheckpointError as error:
        yield MANIFEST, error
        return
    yield MANIFEST, os.path.getsize(os.path.join(path, MANIFEST))
    places = {os.path.join(path, written.name): written for written in manifest.files}
    directory = os.path.dirname(path)
    places |= {os.path.join(directory, place): one for place, one in manifest.shared.items()}
    for place, written in places.items():
        name = os.path.relpath(place, path)
        try:
            with CheckpointFile(place, written) as file:
                yield name, file.check()
        except CheckpointError as error:
            yield name, error
