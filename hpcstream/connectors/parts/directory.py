"""The directory of a file sink: names of parts, the manifest of those we wrote, durability.

::

    out/part-00000-00003.parquet              visible: sequence 0 of rank 3
    out/.part-00000-00003.parquet.a2.5e8b1c09.tmp    not committed, written by attempt 2
    out/.hpcstream-parts-parquet.json         names of all parts of this format that we wrote
    out/.hpcstream-writing-parquet.lock       a job that runs writes here
    out/.hpcstream-reading-5e8b1c09.lock      a job that runs reads here

No usual glob matches the hidden names: they begin with a dot, and do not end like data.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress

from hpcstream.errors import ConnectorError

_FORMAT = 1
_LIST = ".hpcstream-parts-"
_READING = ".hpcstream-reading-"
_PART = re.compile(r"part-(\d{5,})-(\d{5,})\.\w+")
_TEMPORARY = re.compile(r"\.part-\d{5,}-(?P<rank>\d{5,})\.\w+\.a(?P<attempt>\d+)(\.\w+)?\.tmp")


def part_name(sequence: int, rank: int, extension: str) -> str:
    """Return the visible name of a part."""
    return f"part-{sequence:05d}-{rank:05d}.{extension}"


def temporary_name(name: str, attempt: int, token: str) -> str:
    """Return the name of a part until it is committed; no other writer has the ``token``."""
    return f".{name}.a{attempt}.{token}.tmp"


def lock_name(extension: str) -> str:
    """Return the name of the lock that a writer of parts of a format holds."""
    return f".hpcstream-writing-{extension}.lock"


def reader_lock_name() -> str:
    """Return the name for the lock of a further reading job."""
    return f"{_READING}{new_token()}.lock"


def reader_locks(directory: str) -> list[str]:
    """Return the paths of the locks of present and former reading jobs."""
    names = (n for n in os.listdir(directory) if n.startswith(_READING) and n.endswith(".lock"))
    return sorted(os.path.join(directory, name) for name in names)


def is_output(directory: str) -> bool:
    """Whether we wrote parts to a directory, which a later run may replace."""
    try:
        names = os.listdir(directory)
    except OSError:
        return False
    return any(name.startswith(_LIST) and name.endswith(".json") for name in names)


def new_token() -> str:
    """Return a unique token."""
    return uuid.uuid4().hex[:8]


def create(path: str) -> None:
    """Create an empty file; raises `OSError` if it exists."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))


def make_directory(directory: str) -> None:
    """Make the output directory; it may be there.

    Raises
    ------
    ConnectorError
        Something else has the name, or it cannot be written.
    """
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError as error:
        raise ConnectorError(f"cannot make the output directory {directory!r}: {error}") from error
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ConnectorError(f"the output directory {directory!r} is not writable")


def visible_parts(directory: str, extension: str) -> list[str]:
    """Return the names of files that look like parts of one format, sorted."""
    return sorted(
        name
        for name in os.listdir(directory)
        if _PART.fullmatch(name) and name.endswith(f".{extension}")
    )


def next_sequence(names: Iterable[str]) -> int:
    """Return the least sequence number above those of these parts."""
    matches = (_PART.fullmatch(name) for name in names)
    return max((int(match[1]) + 1 for match in matches if match), default=0)


def is_before(name: str, positions: Sequence[Mapping[str, int]]) -> bool:
    """Return whether a part was written before a checkpoint took these positions, by rank."""
    match = _PART.fullmatch(name)
    assert match is not None, f"{name} is no part"
    sequence, rank = int(match[1]), int(match[2])
    if sequence < min((position["floor"] for position in positions), default=0):
        return True
    return rank < len(positions) and sequence < positions[rank]["next"]


def manifest_path(directory: str, extension: str) -> str:
    """Return the path of the manifest of one format."""
    return os.path.join(directory, f"{_LIST}{extension}.json")


def read_manifest(directory: str, extension: str) -> list[str]:
    """Return the names of the parts that we wrote; none if there is no manifest.

    Raises
    ------
    ConnectorError
        The manifest is not one that this version wrote.
    """
    path = manifest_path(directory, extension)
    try:
        with open(path, encoding="utf-8") as file:
            manifest = json.load(file)
        names = manifest["parts"] if manifest["format"] == _FORMAT else None
    except FileNotFoundError:
        return []
    except json.JSONDecodeError as error:
        raise ConnectorError(_cut_off(path, directory, extension)) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConnectorError(f"{path!r} is not readable: {error}; see what it is") from error
    if not isinstance(names, list) or not all(_is_part(name) for name in names):
        raise ConnectorError(f"{path!r} was not written by this version; see what it is")
    return names


def _cut_off(path: str, directory: str, extension: str) -> str:
    """Return the error text for a manifest that is empty or truncated."""
    what = "is empty" if os.path.getsize(path) == 0 else "ends in the middle, or is not JSON"
    n_parts = len(visible_parts(directory, extension))
    return (
        f"{path!r} {what}, as after a power cut: it is the list of the parts that hpcstream wrote "
        f"there, and may be removed; the {n_parts} parts in {directory!r} then count as not ours: "
        "remove those too that the next run is to replace"
    )


def foreign_files(directory: str, extension: str, endings: Sequence[str]) -> list[str]:
    """Return the files that readers of a directory would read, but that we did not write."""
    ours = set(read_manifest(directory, extension))
    return sorted(
        name
        for name in os.listdir(directory)
        if name.lower().endswith(tuple(endings))
        and not name.startswith(".")
        and name not in ours
        and os.path.isfile(os.path.join(directory, name))
    )


def write_manifest(directory: str, extension: str, names: Iterable[str], attempt: int = 0) -> None:
    """Replace the manifest, durably; ``attempt`` is who writes the output from now on."""
    path = manifest_path(directory, extension)
    beside = f"{path}.a{attempt}.{new_token()}.tmp"
    content = {"format": _FORMAT, "attempt": attempt, "parts": sorted(set(names))}
    with open(beside, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    try:
        os.replace(beside, path)
    except FileNotFoundError as error:  # whoever took the output over removed it
        raise ConnectorError(f"{path!r} cannot be written: another job took it over") from error
    sync_directory(directory)


def take_over(directory: str, extension: str, attempt: int) -> None:
    """Make an attempt the only writer of the output; remove unfinished manifests of older ones."""
    write_manifest(directory, extension, read_manifest(directory, extension), attempt)
    path = os.path.basename(manifest_path(directory, extension))
    begun = [n for n in os.listdir(directory) if n.startswith(path) and n.endswith(".tmp")]
    remove(directory, begun)


def check_attempt(directory: str, extension: str, attempt: int) -> None:
    """Raise `ConnectorError` if a newer attempt has taken the output over."""
    try:
        with open(manifest_path(directory, extension), encoding="utf-8") as file:
            found = json.load(file).get("attempt", 0)
    except FileNotFoundError:
        return
    if found > attempt:
        raise ConnectorError(
            f"attempt {attempt} of the job was cut off: attempt {found} writes to {directory!r} now"
        )


def publish(directory: str, temporary: str, name: str) -> None:
    """Rename a part to its visible name; does nothing if it has been renamed.

    Raises
    ------
    ConnectorError
        Neither name is there.
    """
    try:
        os.replace(os.path.join(directory, temporary), os.path.join(directory, name))
    except FileNotFoundError as error:
        if not os.path.exists(os.path.join(directory, name)):
            raise ConnectorError(
                f"part {name!r} of {directory!r} is gone, and so is {temporary!r}; "
                "was the directory cleaned, or written by two jobs at once?"
            ) from error


def remove(directory: str, names: Iterable[str]) -> None:
    """Remove files; missing ones are ignored."""
    for name in names:
        with suppress(FileNotFoundError):
            os.remove(os.path.join(directory, name))


def leftovers(directory: str, rank: int, size: int, attempt: int) -> list[str]:
    """Return the uncommitted parts that attempts up to this one left in a rank's care.

    Rank 0 also cares for those of ranks that are no more.
    """
    found = []
    for name in os.listdir(directory):
        match = _TEMPORARY.fullmatch(name)
        if match and int(match["attempt"]) <= attempt:
            owner = int(match["rank"])
            if owner == rank or (rank == 0 and owner >= size):
                found.append(name)
    return sorted(found)


def sync_file(path: str) -> None:
    """Make a written file durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(directory: str) -> None:
    """Make renames and removals in a directory durable."""
    sync_file(directory)


def _is_part(name: object) -> bool:
    return isinstance(name, str) and _PART.fullmatch(name) is not None
