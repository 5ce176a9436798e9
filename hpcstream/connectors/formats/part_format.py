"""The interface of formats in which sinks write parts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import pyarrow as pa


class PartFormat(ABC):
    """How the parts of one format are written.

    Attributes
    ----------
    extension : str
        Of a part's name, as in ``"parquet"``.
    """

    extension: ClassVar[str]

    @abstractmethod
    def open(self, where: Any, schema: pa.Schema) -> PartWriter:
        """Return a writer to a path or a file object."""


class PartWriter(ABC):
    """Writes one file."""

    @abstractmethod
    def write_table(self, table: pa.Table) -> None:
        """Append rows; in formats that have blocks, as one block."""

    @abstractmethod
    def close(self) -> None:
        """Complete the file."""

    @property
    def kept_bytes(self) -> int | None:
        """Bytes of rows that are written by `close` only; None: they are written at once."""
        return None
