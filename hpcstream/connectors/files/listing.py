"""Lists the files that a user's paths, globs and directories mean."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa

from hpcstream.errors import ConnectorError

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
"""A path, a glob, a directory, or a list of these."""


COMPRESSED = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".lz4": "lz4"}
"""Endings of compressed text files, and the codec of each."""

_MAGIC = {
    b"PAR1": ("Parquet", "read_parquet"),
    b"ARROW1": ("Arrow IPC", "read_ipc"),
    b"\x89HDF": ("HDF5", "read_hdf5"),
}
_FOREIGN_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"PK\x03\x04": "zip",
    b"Obj\x01": "Avro",
    b"ORC": "ORC",
}


def with_compressed(*extensions: str) -> tuple[str, ...]:
    """Return extensions of text files, with those of compressed ones."""
    return (
        *extensions,
        *(f"{extension}{suffix}" for extension in extensions for suffix in COMPRESSED),
    )


_CSV, _JSON = ("CSV", "read_csv"), ("JSON", "read_json")
_NAMED = {
    **dict.fromkeys(with_compressed(".csv", ".tsv", ".txt"), _CSV),
    **dict.fromkeys(with_compressed(".json", ".jsonl", ".ndjson"), _JSON),
    **dict.fromkeys((".parquet", ".pq"), ("Parquet", "read_parquet")),
    **dict.fromkeys((".arrow", ".feather", ".ipc", ".arrows"), ("Arrow IPC", "read_ipc")),
    **dict.fromkeys((".h5", ".hdf5", ".he5", ".nxs"), ("HDF5", "read_hdf5")),
}
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_MOST_NAMED = 3
_LEAST_OF_TEXT = 9  # a tab


def as_patterns(paths: Paths) -> tuple[str, ...]:
    """Return the user's paths as a tuple of strings.

    Raises
    ------
    TypeError, ValueError
        Not paths, or none at all.
    """
    given = [paths] if isinstance(paths, str | os.PathLike) else _several(paths)
    for path in given:
        if not isinstance(path, str | os.PathLike):
            raise TypeError(f"paths: expected str or Path, got {type(path).__name__}: {path!r}")
    if not given:
        raise ValueError("paths: expected at least one path, got an empty list")
    return tuple(local_path(path) for path in given)


def _several(paths: Any) -> list[Any]:
    """Return the items of a list of paths; refuse other items."""
    if hasattr(paths, "read"):
        raise TypeError(f"paths: expected str or Path, got an open file; give its name: {paths!r}")
    if (
        not isinstance(paths, Iterable)
        or isinstance(paths, bytes | Mapping)
        or hasattr(paths, "columns")
    ):
        kind = type(paths).__name__
        raise TypeError(
            f"paths: expected str or Path, or a list of these, got {kind}; job.from_batches() "
            "takes tables and data frames"
        )
    return list(paths)


def local_path(path: str | os.PathLike[str]) -> str:
    """Return a path as text, ``~`` expanded; ``file:///a`` is ``/a``.

    Raises
    ------
    ConnectorError
        It is an address of another scheme, as ``s3://...``, or of another host.
    """
    text = os.fspath(path)
    found = _ADDRESS.match(text)
    if found is None:
        return os.path.expanduser(text)
    address = urlsplit(text)
    if address.scheme == "file" and address.netloc in ("", "localhost"):
        return unquote(text[len("file://") + len(address.netloc) :], errors="surrogateescape")
    raise ConnectorError(
        f"{text!r} is an address ({found[1]}), not a path; hpcstream reads and writes files in "
        "directories that every rank sees: mount it there, or copy the files"
    )


def native(path: str) -> bytes:
    """Return the bytes that name a file, for Arrow, which takes no text that is not UTF-8."""
    return os.fsencode(path)


def mapped_unless_utf8(path: str) -> str | pa.MemoryMappedFile:
    """Return the path, which Arrow opens; a mapped file if the path is not UTF-8."""
    return path if path.isascii() or _is_utf8(path) else pa.memory_map(native(path))


def _is_utf8(path: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in path)


def list_files(patterns: Sequence[str], extensions: Sequence[str]) -> list[str]:
    """Return the files that the patterns mean, each once.

    A file stands for itself, a directory for its files with one of ``extensions``, in
    upper or lower case (not those of its sub-directories, nor those whose name begins
    with a dot or an underscore), anything else is a glob (``**`` included). The order is
    the one given; globs and directories are sorted by name. A file that is met again, by
    a link or another spelling, is left out.

    Raises
    ------
    ConnectorError
        A pattern means no file.
    """
    files: dict[str, str] = {}
    for pattern in patterns:
        for path in _expand(pattern, extensions):
            files.setdefault(os.path.realpath(path), path)
    return list(files.values())


def left_out(patterns: Sequence[str], extensions: Sequence[str]) -> Iterator[str]:
    """Yield a sentence for each directory among the patterns that has other files, too."""
    for pattern in patterns:
        if not os.path.isdir(pattern):
            continue
        others = [
            name
            for name in sorted(os.listdir(pattern))
            if not name.startswith((".", "_")) and not name.lower().endswith(tuple(extensions))
        ]
        if others:
            more = f" and {len(others) - _MOST_NAMED} more" if len(others) > _MOST_NAMED else ""
            yield (
                f"not read in {pattern!r}: {', '.join(map(repr, others[:_MOST_NAMED]))}{more}; "
                f"a directory means its files named {_wanted(extensions)}"
            )


def first_file(patterns: Sequence[str], extensions: Sequence[str]) -> str:
    """Return the first of `list_files` without looking at the other patterns."""
    return next(iter(_expand(patterns[0], extensions)))


def unreadable(path: str, kind: str, error: Exception) -> ConnectorError:
    """Return the error of a file that is of another kind, or incomplete; it says what it may be."""
    if isinstance(error, OSError) and error.errno is not None:
        return ConnectorError(f"{path!r} cannot be read: {error.strerror or error}")
    return ConnectorError(
        f"{path!r} is not a readable {kind} file; {_why(path, kind)} ({_one_line(error)})"
    )


def is_binary(head: bytes) -> bool:
    """Whether the first bytes are those of a format that is not text."""
    magics = (*_MAGIC, *_FOREIGN_MAGIC)
    return head.startswith(magics) and any(byte < _LEAST_OF_TEXT or byte > 127 for byte in head)


def _why(path: str, kind: str) -> str:
    size, head = _beginning(path)
    if size == 0:
        return "it is empty (0 bytes)"
    for magic, (found, reader) in _MAGIC.items():
        if head.startswith(magic):
            return _of_another_kind(kind, found, reader) or "truncated or still being written?"
    for magic, packed in _FOREIGN_MAGIC.items():
        if head.startswith(magic):
            return f"by its first bytes it is {packed}, perhaps damaged or cut off"
    name = path.lower()
    found, reader = next((k for end, k in _NAMED.items() if name.endswith(end)), ("", ""))
    if found and (other := _of_another_kind(kind, found, reader)):
        return other
    return f"damaged, or no {kind} at all? it begins with {head!r}"


def _of_another_kind(kind: str, found: str, reader: str) -> str | None:
    return None if found == kind else f"is it a {kind} file? for {found} use {reader}"


def _beginning(path: str) -> tuple[int, bytes]:
    """Return size and first bytes of a file; size -1 if it cannot be opened."""
    with suppress(OSError), open(path, "rb") as file:
        return os.fstat(file.fileno()).st_size, file.read(8)
    return -1, b""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


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
        if name.lower().endswith(tuple(extensions))
        and not name.startswith((".", "_"))
        and os.path.isfile(os.path.join(directory, name))
    )
    if not names:
        raise ConnectorError(
            f"directory {directory!r} has no file named {_wanted(extensions)}; "
            f"for files in sub-directories give a glob, as in {directory + '/**/*'!r}"
        )
    return [os.path.join(directory, name) for name in names]


def _wanted(extensions: Sequence[str]) -> str:
    return ", ".join(f"*{extension}" for extension in extensions)


def _nearest_directory(pattern: str) -> str:
    """Return in words the part of a path that exists, to show a typing error."""
    where = "" if os.path.isabs(pattern) else f" (working directory {os.getcwd()!r})"
    missing = next((p for p in _ancestors(pattern) if not os.path.isdir(p)), None)
    return f"; there is no directory {missing!r}{where}" if missing else where


def _ancestors(pattern: str) -> Iterator[str]:
    """Yield the parent directories before the first wildcard, outermost first."""
    for parent in reversed(Path(pattern).parents):
        if glob.has_magic(str(parent)):
            return
        yield str(parent)
