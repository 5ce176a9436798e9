"""Fingerprints of files: size, modification time, and a digest of samples of their bytes."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from hpcstream.errors import ConnectorError

_WHOLE_BYTES = 1 << 20
_END_BYTES = 64 << 10
_SAMPLE_BYTES = 16 << 10
_SAMPLES = 6

FileFingerprint = dict[str, Any]
"""``size`` in bytes, ``mtime`` in ns, ``digest``; a JSON object."""


def fingerprint_of(path: str) -> FileFingerprint:
    """Return the fingerprint of a file.

    Raises
    ------
    ConnectorError
        It cannot be read.
    """
    try:
        with open(path, "rb") as file:
            found = os.fstat(file.fileno())
            return {
                "size": found.st_size,
                "mtime": found.st_mtime_ns,
                "digest": _digest(file.fileno(), found.st_size),
            }
    except OSError as error:
        raise ConnectorError(f"cannot read {path!r}: {error.strerror}") from error


def change_of(path: str, before: FileFingerprint, *, is_elsewhere: bool) -> str | None:
    """Return in words how a file has changed; None if it has not.

    Parameters
    ----------
    is_elsewhere : bool
        Its path has changed, so the modification time is not compared.

    Raises
    ------
    ConnectorError
        It cannot be read.
    """
    try:
        found = os.stat(path)
    except OSError as error:
        raise ConnectorError(f"cannot read {path!r}: {error.strerror}") from error
    if found.st_size != before["size"]:
        return f"it has {found.st_size:,} bytes, had {before['size']:,}"
    if found.st_mtime_ns == before["mtime"] and not is_elsewhere:
        return None
    if fingerprint_of(path)["digest"] != before["digest"]:
        return "its size is the same, but its bytes are others"
    return None


def _digest(descriptor: int, size: int) -> str:
    """Return a digest of a small file, or of both ends of a large one and samples between.

    Formats keep their metadata at the beginning or the end.
    """
    digest = hashlib.blake2b(digest_size=16)
    if size <= _WHOLE_BYTES:
        pieces = [(0, size)]
    else:
        step = (size - 2 * _END_BYTES) // (_SAMPLES + 1)
        samples = [(_END_BYTES + (i + 1) * step, _SAMPLE_BYTES) for i in range(_SAMPLES)]
        pieces = [(0, _END_BYTES), *samples, (size - _END_BYTES, _END_BYTES)]
    for start, length in pieces:
        digest.update(os.pread(descriptor, length, start))
    return digest.hexdigest()
