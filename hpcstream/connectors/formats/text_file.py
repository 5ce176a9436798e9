"""Text files prepared for Arrow: decompressed, in UTF-8, never cut inside a CR LF."""

from __future__ import annotations

import codecs
import io
from typing import Any

import numpy as np
import pyarrow as pa

from hpcstream.connectors.files.listing import COMPRESSED, is_binary, native, unreadable
from hpcstream.errors import ConnectorError

UTF8 = "utf-8"
_CODEC_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4"}
_MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_HEAD_BYTES = 64
_SCANNED_BYTES = 1 << 20
_QUOTE = ord('"')


def encoding_name(encoding: str) -> str:
    """Return Python's name of a text encoding.

    Raises
    ------
    ValueError
        There is no such encoding.
    """
    try:
        found = codecs.lookup(encoding)
        "".encode(encoding)  # refuses codecs that are not text encodings, such as hex
    except (LookupError, TypeError) as error:
        raise ValueError(
            f"encoding={encoding!r}: no such text encoding; common ones are 'utf-8', 'latin-1', "
            "'cp1252', 'utf-16'"
        ) from error
    return found.name


class TextFile(io.RawIOBase):
    """Bytes of a text file in UTF-8, as a file object for Arrow and for Python.

    Arrow's CSV reader drops a LF that begins a block if a CR ended the one before, even
    inside quotes, so what `read` returns ends with a CR at the end of the file only.

    Parameters
    ----------
    path : str
        As the operating system gives it: a name that is not UTF-8 has surrogates.
    kind : str
        ``"CSV"`` or ``"JSON"``, for messages.
    encoding : str
        See `encoding_name`.
    strict : bool
        Whether bytes that are not UTF-8 are an error; else they are passed on unchanged.

    Raises
    ------
    ConnectorError
        There is no such file, or it holds something else: UTF-16, an archive, Parquet.

    Attributes
    ----------
    n_quotes : int
        Double quotes read so far.
    is_longer : bool
        Whether the file has more bytes than the first `read` returned.
    """

    def __init__(self, path: str, kind: str, encoding: str = UTF8, *, strict: bool = False) -> None:
        super().__init__()
        self._path, self._kind, self._encoding = path, kind, encoding
        self._stream = _opened(path, kind)
        self._decoder = None if encoding == UTF8 else codecs.getincrementaldecoder(encoding)()
        self._check = codecs.getincrementaldecoder(UTF8)() if strict and not self._decoder else None
        self._held = b""
        self._n_read = 0
        self._has_begun = False
        self.n_quotes = 0
        self.is_longer = False
        if self._decoder is None:
            self._held = self._bytes(_HEAD_BYTES)
            _refuse_binary(path, kind, self._held)

    def readable(self) -> bool:
        """Return True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """Return at most ``size`` bytes, which may be fewer, none at the end."""
        if size < 0:
            return self.readall()
        data = self._held
        while len(data) < size and (more := self._bytes(size - len(data))):
            data += more
        data, self._held = data[:size], data[size:]
        if data.endswith(b"\r"):
            data = self._not_cut(data)
        if not self._has_begun:
            self._has_begun = True
            self._held = self._held or self._bytes(1)
            self.is_longer = bool(self._held)
        if b'"' in data:
            self.n_quotes += int(np.count_nonzero(np.frombuffer(data, np.uint8) == _QUOTE))
        return data

    def _not_cut(self, data: bytes) -> bytes:
        """Move a CR at the end of a block to the next block if that begins with a LF."""
        self._held = self._held or self._bytes(1)
        if not self._held.startswith(b"\n"):
            return data
        if len(data) == 1:
            self._held = self._held[1:]
            return b"\r\n"
        self._held = b"\r" + self._held
        return data[:-1]

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer, or a part of it; return how many bytes."""
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        """Close the file."""
        if not self.closed:
            self._stream.close()
        super().close()

    def _bytes(self, size: int) -> bytes:
        """Return about ``size`` further bytes in UTF-8; none at the end only."""
        while True:
            try:
                raw = bytes(self._stream.read(size))
            except (OSError, pa.ArrowException) as error:
                raise unreadable(self._path, self._kind, error) from error
            try:
                data = self._utf8(raw)
            except UnicodeError as error:
                raise self._undecodable(error) from error
            if data or not raw:
                return data

    def _utf8(self, raw: bytes) -> bytes:
        self._n_read += len(raw)
        if self._decoder is not None:
            return self._decoder.decode(raw, final=not raw).encode(UTF8)
        if self._check is not None:
            self._check.decode(raw, final=not raw)
        return raw

    def _undecodable(self, error: UnicodeError) -> ConnectorError:
        bad, offset = b"", self._n_read
        if isinstance(error, UnicodeDecodeError):
            bad = error.object[error.start : error.end]
            offset += error.start - len(error.object)
        where = f"{self._path!r}, line {self._line_at(offset)}"
        if self._decoder is None:
            return not_utf8(where, bad)
        return ConnectorError(f"{where}: {bad!r} is not {self._encoding}, as encoding= says")

    def _line_at(self, offset: int) -> int:
        """Return the number of the line at a byte offset of the file, by reading it again."""
        decoder = codecs.getincrementaldecoder(self._encoding)("replace")
        line, left = 1, offset
        with _opened(self._path, self._kind) as stream:
            while left > 0 and (raw := bytes(stream.read(min(left, _SCANNED_BYTES)))):
                line += decoder.decode(raw).count("\n")
                left -= len(raw)
        return line


def not_utf8(where: str, bad: bytes) -> ConnectorError:
    """Return the error of bytes that are not UTF-8."""
    return ConnectorError(
        f"{where}: {bad!r} is not UTF-8; say how the file is encoded, as in encoding='latin-1' "
        "or encoding='cp1252'"
    )


def _opened(path: str, kind: str) -> Any:
    """Return a stream of a file's bytes, decompressed according to its name or first bytes."""
    try:
        with open(path, "rb") as file:
            codec = _codec(path, file.read(_HEAD_BYTES))
        return pa.input_stream(pa.OSFile(native(path)), compression=codec)
    except (OSError, pa.ArrowException) as error:
        raise unreadable(path, kind, error) from error


def _codec(path: str, head: bytes) -> str | None:
    """Return how a file is compressed; None if it is not."""
    said = next((codec for end, codec in COMPRESSED.items() if path.lower().endswith(end)), None)
    if said is not None and head:
        return said
    if head.startswith(b"BZh") and head[4:10] == b"1AY&SY":
        return "bz2"
    return next((codec for magic, codec in _CODEC_MAGIC.items() if head.startswith(magic)), None)


def _refuse_binary(path: str, kind: str, head: bytes) -> None:
    if is_binary(head):
        raise unreadable(path, kind, ValueError("it is not text"))
    encoding = next((name for mark, name in _MARKS.items() if head.startswith(mark)), None)
    if encoding is None and 3 * head.count(0) > len(head) > 1:
        encoding = "utf-16-be" if head[0] == 0 else "utf-16-le"
    if encoding is not None:
        raise ConnectorError(
            f"{path!r} is not UTF-8 text but {encoding.upper()}, by its first bytes; "
            f"read_{kind.lower()}(..., encoding={encoding!r}) reads it"
        )
