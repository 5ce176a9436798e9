"""From what the user gave as paths to a sorted list of files."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from hpcstream.errors import ConnectorError

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""A path, a glob, a directory, or a list of these."""


_MAGIC = {
    b"PAR1": ("Parquet", "read_parquet"),
    b"ARROW1": ("Arrow IPC", "read_ipc"),
    b"\x89HDF": ("HDF5", "read_hdf5"),
}
_CSV, _JSON = ("CSV", "read_csv"), ("JSON", "read_json")
_NAMED = {
    **dict.fromkeys((".csv", ".csv.gz", ".tsv", ".txt"), _CSV),
    **dict.fromkeys((".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz"), _JSON),
}


def as_patterns(paths: Paths) -> tuple[str, ...]:
    """Return what the user gave as a tuple of strings.

    Raises
    ------
    TypeError, ValueError
        Not paths, or none at all.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    for path in given:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"paths: expected str or Path, got {type(path).__name__}: {path!r}")
    if not given:
        raise ValueError("paths: expected at least one path, got an empty list")
    return tuple(os.path.expanduser(os.fspath(path)) for path in given)


def list_files(patterns: Sequence[str], extensions: Sequence[str]) -> list[str]:
    """Return the files that the patterns mean, each once.

    A file stands for itself, a directory for its files with one of ``extensions`` (not
    those of its sub-directories, nor hidden ones), anything else is a glob (``**``
    included). The order is the one given; globs and directories are sorted by name.

    Raises
    ------
    ConnectorError
        A pattern means no file.
    """
    files: dict[str, None] = {}
    for pattern in patterns:
        files |= dict.fromkeys(_expand(pattern, extensions))
    return list(files)


def first_file(patterns: Sequence[str], extensions: Sequence[str]) -> str:
    """Return the first of `list_files` without looking at the other patterns."""
    return next(iter(_expand(patterns[0], extensions)))


def unreadable(path: str, kind: str, error: Exception) -> ConnectorError:
    """Return the error of a file that is not of a kind, or not whole; says what it may be."""
    found, reader = _kind_of(path)
    if found in ("", kind):
        why = "empty, truncated or still being written?"
    else:
        why = f"is it a {kind} file? for {found} use {reader}"
    return ConnectorError(f"{path!r} is not a readable {kind} file; {why} ({error})")


def _kind_of(path: str) -> tuple[str, str]:
    """Return what a file's first bytes, or else its name, say that it is, and who reads it."""
    with suppress(OSError), open(path, "rb") as file:
        head = file.read(8)
        for magic, kind in _MAGIC.items():
            if head.startswith(magic):
                return kind
    name = path.lower()
    return next((kind for end, kind in _NAMED.items() if name.endswith(end)), ("", ""))


def _expand(pattern: str, extensions: Sequence[str]) -> list[str]:
    if os.path.isdir(pattern):
        return _in_directory(pattern, extensions)
    if os.path.exists(pattern):
        return [pattern]
    if not glob.has_magic(pattern):
        raise ConnectorError(f"{pattern!r} does not exist{_nearest_directory(pattern)}")
    files = sorted(path for path in glob.iglob(pattern, recursive=True) if os.path.isfile(path))
    if not files:
        raise ConnectorError(f"glob {pattern!r} matches no file{_nearest_directory(pattern)}")
    return files


def _in_directory(directory: str, extensions: Sequence[str]) -> list[str]:
    names = sorted(
        name
        for name in os.listdir(directory)
        if name.endswith(tuple(extensions))
        and not name.startswith(".")
        and os.path.isfile(os.path.join(directory, name))
    )
    if not names:
        wanted = ", ".join(f"*{extension}" for extension in extensions)
        raise ConnectorError(
            f"directory {directory!r} has no file named {wanted}; "
            f"for files in sub-directories give a glob, as in {directory + '/**/*'!r}"
        )
    return [os.path.join(directory, name) for name in names]


def _nearest_directory(pattern: str) -> str:
    """Say how much of a path exists, so that a slip is seen at once."""
    where = "" if os.path.isabs(pattern) else f" (working directory {os.getcwd()!r})"
    missing = next((p for p in _ancestors(pattern) if not os.path.isdir(p)), None)
    return f"; there is no directory {missing!r}{where}" if missing else where


def _ancestors(pattern: str) -> Iterator[str]:
    """Yield the parent directories before the first wildcard, outermost first."""
    for parent in reversed(Path(pattern).parents):
        if glob.has_magic(str(parent)):
            return
        yield str(parent)
