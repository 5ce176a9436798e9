"""Whether two paths name the same file or directory, however they are spelled.

Links, files mounted twice, ``./`` and the working directory are seen through; a hard
link is a file of its own, for removing the one leaves the other.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
from collections.abc import Sequence

Location = tuple[object, str]
"""A directory, as `directory_id` has it, and a name in it."""


def directory_id(path: str) -> object:
    """Return an id that is equal for all paths of a directory; its real path if it is missing."""
    real = os.path.realpath(path)
    try:
        found = os.stat(real)
    except OSError:
        return real
    return found.st_dev, found.st_ino


def location_of(path: str) -> Location:
    """Return the directory and the name of a file, with links resolved."""
    directory, name = os.path.split(os.path.realpath(path))
    return directory_id(directory), name


def covers(pattern: str, extensions: Sequence[str], directory: str, name: str) -> bool:
    """Whether a path, directory or glob would include a file if it existed.

    Parameters
    ----------
    pattern : str
        As given to a source of files (see `hpcstream.connectors.files.listing.list_files`).
    extensions : sequence of str
        That count if ``pattern`` is a directory.
    directory, name : str
        Of the file.
    """
    if os.path.isdir(pattern):
        is_meant = name.endswith(tuple(extensions)) and not name.startswith(".")
        return is_meant and directory_id(pattern) == directory_id(directory)
    if os.path.exists(pattern) or not glob.has_magic(pattern):
        return location_of(pattern) == (directory_id(directory), name)
    base, rest = _split_at_magic(pattern)
    below = _parts_below(base, directory)
    return below is not None and _matches([*below, name], rest)


def real_pattern(pattern: str) -> str:
    """Return the canonical path or glob: links before the first wildcard are resolved."""
    if os.path.exists(pattern) or not glob.has_magic(pattern):
        return os.path.realpath(pattern)
    base, rest = _split_at_magic(pattern)
    return os.path.join(os.path.realpath(base), *rest)


def _split_at_magic(pattern: str) -> tuple[str, list[str]]:
    """Return the directory before the first wildcard, and the parts from there on."""
    parts = os.path.normpath(pattern).split(os.sep)
    first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    base = os.sep.join(parts[:first]) or (os.sep if pattern.startswith(os.sep) else os.curdir)
    return base, parts[first:]


def _parts_below(base: str, directory: str) -> list[str] | None:
    """Return the names that lead from one directory to another; None if it is not below."""
    wanted = directory_id(base)
    below: list[str] = []
    path = os.path.realpath(directory)
    while directory_id(path) != wanted:
        path, name = os.path.split(path)
        if not name:
            return None
        below.insert(0, name)
    return below


def _matches(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    """Match names with the parts of a glob; ``**`` stands for any number of directories."""
    if not patterns:
        return not parts
    first, rest = patterns[0], patterns[1:]
    if first == "**":
        if not rest:
            return bool(parts) and not any(part.startswith(".") for part in parts)
        skipped = (parts[:i] for i in range(len(parts) + 1))
        return any(
            _matches(parts[len(names) :], rest)
            for names in skipped
            if not any(part.startswith(".") for part in names)
        )
    if not parts or (parts[0].startswith(".") and not first.startswith(".")):
        return False
    is_same = re.match(fnmatch.translate(first), parts[0]) is not None
    return is_same and _matches(parts[1:], rest)
