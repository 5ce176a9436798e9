"""Finds text that is not UTF-8, which some formats promise but do not check."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from hpcstream.errors import ConnectorError

_BYTES_OF_TEXT = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}
_MOST_SHOWN = 40


def check_utf8(batch: pa.RecordBatch, where: str, first_row: int) -> None:
    """Raise `ConnectorError` for a text of a batch that is not UTF-8.

    Parameters
    ----------
    where : str
        Of the message: the file.
    first_row : int
        Number of the batch's first row, for the message.
    """
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        for texts in _texts(column):
            try:
                texts.view(_BYTES_OF_TEXT[texts.type]).cast(texts.type)
            except pa.ArrowInvalid:
                row, shown = _found(column, texts)
                at = "" if row is None else f", row {first_row + row}"
                raise ConnectorError(
                    f"{where}: column {name!r}{at}: {shown!r} is not UTF-8 text; write it "
                    "as UTF-8, or as binary"
                ) from None


def _texts(column: pa.Array) -> Iterator[pa.Array]:
    """Yield the arrays of text in a column of any nesting."""
    if column.type in _BYTES_OF_TEXT:
        yield column
    elif pa.types.is_dictionary(column.type):
        yield from _texts(column.dictionary)
    elif pa.types.is_struct(column.type):
        for child in column.flatten():
            yield from _texts(child)
    elif pa.types.is_map(column.type):
        yield from _texts(column.keys)
        yield from _texts(column.items)
    elif pa.types.is_nested(column.type) and not pa.types.is_union(column.type):
        yield from _texts(column.flatten())


def _found(column: pa.Array, texts: pa.Array) -> tuple[int | None, bytes]:
    """Return the row of the first such text, if the column is not nested, and the text."""
    for row, value in enumerate(texts.view(_BYTES_OF_TEXT[texts.type]).to_pylist()):
        try:
            (value or b"").decode()
        except UnicodeDecodeError:
            return (row if column is texts else None), value[:_MOST_SHOWN]
    raise AssertionError("one of them is not UTF-8")
