"""The checkpoint directory of a job: what it holds, and what an attempt may do there.

::

    run/attempt-000007/             made by mkdir, so that each number is unique
    run/attempt-000007/from-000041  it continued from there: later work of others is void
    run/ckpt-000042/rank-00003.h5
    run/ckpt-000042/manifest.json   written last: without it there is no checkpoint
    run/savepoint-000040/           kept until removed by hand
    run/job.lock
    run/directory.id                a random name, for locks elsewhere

Only the newest attempt may complete a checkpoint or commit rows. An old process
that still lives is excluded whatever it does next: it looks for newer attempts
before each such step, and a new attempt first removes what the old one had begun.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

from hpcstream.checkpoint.format import (
    CheckpointError,
    CheckpointFile,
    WrittenFile,
    sync_directory,
)
from hpcstream.checkpoint.storage.manifest import MANIFEST, Manifest, read_manifest, write_manifest

CHECKPOINT, SAVEPOINT = "ckpt", "savepoint"
_NAME = re.compile(rf"({CHECKPOINT}|{SAVEPOINT})-(\d{{6,}})")
_ATTEMPT = re.compile(r"attempt-(\d{6,})")
_FRESH = "fresh"
_FROM = re.compile(r"from-(\d{6,})")
REQUEST = "savepoint-request.json"
_IDENTITY = "directory.id"


class Superseded(CheckpointError):
    """A newer attempt of the job has begun: this one commits nothing more."""


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
        """Create the directory.

        Raises
        ------
        CheckpointError
            The directory cannot be created or written.
        """
        try:
            os.makedirs(self.directory, exist_ok=True)
        except OSError as error:
            raise CheckpointError(
                f"cannot make the checkpoint directory {self.directory!r}: {error.strerror}"
            ) from error
        if not os.access(self.directory, os.W_OK | os.X_OK):
            raise CheckpointError(f"the checkpoint directory {self.directory!r} is not writable")

    def identity(self) -> str:
        """Return an identifier that no other checkpoint directory has; empty: not known."""
        path = os.path.join(self.directory, _IDENTITY)
        with suppress(OSError):
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
            with os.fdopen(descriptor, "w") as file:
                file.write(uuid.uuid4().hex)
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return f"{file.read()}/{os.stat(self.directory).st_ino}"  # a copy differs
        except OSError:
            return ""

    # -- attempts ----------------------------------------------------------------------

    def new_attempt(self, *, fresh: bool) -> int:
        """Begin the next attempt; ``fresh``: checkpoints of earlier ones no longer count."""
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

    def continues_from(self, attempt: int, path: str | None) -> None:
        """Record durably which checkpoint an attempt continues from, before it touches any output.

        From now on, everything that earlier attempts completed after that checkpoint is void,
        also what a living one is about to complete. None: the attempt starts afresh.
        """
        name = _FRESH
        if path is not None:
            here = os.path.realpath(os.path.dirname(path)) == os.path.realpath(self.directory)
            name = f"from-{_number_of(os.path.basename(path)) if here else 0:06d}"
        made = os.path.join(self.directory, f"attempt-{attempt:06d}")
        with open(os.path.join(made, name), "w"):
            pass
        sync_directory(made)

    def _markers(self) -> dict[int, list[str]]:
        """Return the names of the files in the directory of each attempt."""
        found = {}
        for number in self.attempts():
            with suppress(OSError):
                path = os.path.join(self.directory, f"attempt-{number:06d}")
                found[number] = os.listdir(path)
        return found

    def _forget_attempts(self, newest: int) -> None:
        """Remove the oldest attempts, except those that make a checkpoint void."""
        if len(self.candidates()) < len(self.stored()):
            return
        for number in self.attempts():
            if number < newest - 100:
                path = os.path.join(self.directory, f"attempt-{number:06d}")
                shutil.rmtree(path, ignore_errors=True)

    # -- finding -----------------------------------------------------------------------

    def stored(self) -> list[Stored]:
        """Return the checkpoints that have a manifest, newest first."""
        return [stored for stored in self._directories() if os.path.exists(_manifest_of(stored))]

    def candidates(self) -> list[Stored]:
        """Return the checkpoints that a restart may continue from, newest first."""
        return self._judged()[0]

    def left_behind(self) -> list[Stored]:
        """Return the checkpoints that no longer fit the output, since a later attempt went back."""
        return self._judged()[1]

    def _judged(self) -> tuple[list[Stored], list[Stored]]:
        """Return `candidates` and `left_behind`; checkpoints before a fresh start are neither."""
        markers = self._markers()
        first = max((a for a, names in markers.items() if _FRESH in names), default=0)
        bases = [
            (attempt, int(match[1]))
            for attempt, names in markers.items()
            for match in map(_FROM.fullmatch, names)
            if match
        ]
        counting: list[Stored] = []
        left_behind: list[Stored] = []
        for stored in self.stored():
            by = _attempt_of(stored)
            if by >= first:
                fits = all(by >= a or stored.number <= base for a, base in bases)
                (counting if fits else left_behind).append(stored)
        return counting, left_behind

    def next_number(self) -> int:
        """Return a number greater than that of every checkpoint, complete or not."""
        return max((stored.number for stored in self._directories()), default=0) + 1

    def _directories(self) -> list[Stored]:
        found = []
        for name in os.listdir(self.directory):
            match = _NAME.fullmatch(name)
            if match:
                found.append(Stored(int(match[2]), match[1], os.path.join(self.directory, name)))
        return sorted(found, key=lambda stored: -stored.number)

    # -- writing -----------------------------------------------------------------------

    def path(self, number: int, kind: str = CHECKPOINT) -> str:
        """Return the path of a checkpoint that exists or will."""
        return os.path.join(self.directory, f"{kind}-{number:06d}")

    def begin(self, number: int, kind: str = CHECKPOINT) -> str:
        """Create the directory of a checkpoint; any rank may."""
        path = self.path(number, kind)
        with suppress(FileExistsError):
            os.mkdir(path)  # not its parents: if they are gone, so is the lock
        return path

    def complete(self, path: str, manifest: Manifest) -> None:
        """Write the manifest, which makes a checkpoint exist.

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
        """Remove a checkpoint, manifest first; files that other checkpoints refer to stay."""
        with suppress(OSError):
            os.remove(os.path.join(path, MANIFEST))
        self._sweep([path])

    def remove_unfinished(self) -> None:
        """Remove checkpoints that were not completed, except files that others refer to."""
        self._sweep([o.path for o in self._directories() if not os.path.exists(_manifest_of(o))])

    def prune(self, keep: int) -> None:
        """Remove all checkpoints but the newest ``keep`` candidates; savepoints stay."""
        directories = self._directories()
        complete = [stored for stored in directories if os.path.exists(_manifest_of(stored))]
        kept = [stored for stored in self.candidates() if stored.kind == CHECKPOINT][:keep]
        for stored in complete:
            if stored.kind == CHECKPOINT and stored not in kept:
                with suppress(OSError):
                    os.remove(_manifest_of(stored))
        newest = max((stored.number for stored in complete), default=0)  # later ones are under way
        self._sweep([stored.path for stored in directories if stored.number < newest])

    def missing(self, shared: Mapping[str, WrittenFile]) -> str | None:
        """Return a file of an earlier checkpoint that is gone or changed; None: all are whole."""
        for name, written in shared.items():
            path = os.path.join(self.directory, name)
            if not os.path.exists(path) or os.path.getsize(path) != written.n_bytes:
                return path
        return None

    def _sweep(self, paths: Iterable[str]) -> None:
        """Remove directories without a manifest, except files that manifests refer to."""
        found = [path for path in paths if not os.path.exists(os.path.join(path, MANIFEST))]
        needed, unknown_below = _referred_to(self.stored()) if found else (set(), 0)
        for path in found:
            directory = os.path.basename(path)
            if _number_of(directory) < unknown_below:
                continue
            kept = {path for path in needed if path.startswith(f"{directory}/")}
            if not kept:
                shutil.rmtree(path, ignore_errors=True)
                continue
            for name in os.listdir(path):
                if f"{directory}/{name}" not in kept:
                    with suppress(OSError):
                        os.remove(os.path.join(path, name))

    # -- requests ----------------------------------------------------------------------

    def take_request(self) -> dict[str, object] | None:
        """Return, once, the request of `hpcstream savepoint`."""
        path = os.path.join(self.directory, REQUEST)
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read()
            os.remove(path)
            value = json.loads(text)
        except OSError:
            return None
        except ValueError:
            return {}  # damaged, but a request
        return value if isinstance(value, dict) else {}


def _manifest_of(stored: Stored) -> str:
    return os.path.join(stored.path, MANIFEST)


def _attempt_of(stored: Stored) -> int:
    """Return the attempt that wrote a checkpoint; a damaged one counts until it is restored."""
    try:
        return read_manifest(stored.path).attempt
    except CheckpointError:
        return 2**62


def _number_of(directory: str) -> int:
    match = _NAME.fullmatch(directory)
    return int(match[2]) if match else 0


def _referred_to(stored: Iterable[Stored]) -> tuple[set[str], int]:
    """Return the files that checkpoints refer to, and the number below which there may be more.

    A user may replace a damaged manifest by a copy later: until it is pruned itself, no file
    that it could refer to is removed. Savepoints refer to no other checkpoint.
    """
    found: set[str] = set()
    unknown_below = 0
    for checkpoint in stored:
        try:
            found.update(read_manifest(checkpoint.path).shared)
        except CheckpointError:
            if checkpoint.kind == CHECKPOINT:
                unknown_below = max(unknown_below, checkpoint.number)
    return found, unknown_below


def verify(path: str) -> Iterator[tuple[str, int | CheckpointError]]:
    """Yield each file of a checkpoint with the number of bytes checked, or its error."""
    try:
        manifest = read_manifest(path)
    except CheckpointError as error:
        yield MANIFEST, error
        return
    yield MANIFEST, os.path.getsize(os.path.join(path, MANIFEST))
    files = {os.path.join(path, written.name): written for written in manifest.files}
    directory = os.path.dirname(path)
    files |= {os.path.join(directory, name): written for name, written in manifest.shared.items()}
    for file_path, written in files.items():
        name = os.path.relpath(file_path, path)
        try:
            with CheckpointFile(file_path, written) as file:
                yield name, file.check()
        except CheckpointError as error:
            yield name, error
