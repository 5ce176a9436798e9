"""Guesses the delimiter of a file whose lines have one field each.

Two lines are looked at, the header and the first row. A character that both have equally
often stands between fields. Spaces are in texts, too: they do so if a piece is a number.
Without a header there is one line only, and so it is for any character.
"""

from __future__ import annotations

import re

from hpcstream.connectors.formats.csv.options import CsvOptions

_CHARACTERS = ";\t|,:"
_WITHOUT_HEADER = ";\t|"
"""A comma may be a decimal char, and a colon part of a time."""

_NUMBER = re.compile(r"\s*[+-]?([0-9]+([.,][0-9]*)?|[.,][0-9]+)([eE][+-]?[0-9]+)?\s*")
_SPACES = re.compile(r"[ \t]+")


def other_delimiter(header: list[str], first_row: list[str], options: CsvOptions) -> str | None:
    """Return the likely delimiter, or None; two spaces for runs of spaces.

    Parameters
    ----------
    header, first_row : list of str
        Their fields; ``header`` is empty if there is none.
    """
    row = options.delimiter.join(first_row)
    if options.header and options.delimiter == " " and len(header) > 1 and "" in header:
        return "  "
    if len(header or first_row) != 1 or not row or (header and header[0].startswith("#")):
        return None  # a comment taken for the header is another mistake
    head = header[0] if header else None
    for char in _CHARACTERS if header else _WITHOUT_HEADER:
        if char != options.delimiter and _parts(head, row, row.count(char), char):
            return char
    return _spaces(head, row) if options.delimiter != " " else None


def _parts(head: str | None, row: str, count: int, char: str) -> bool:
    """Whether a character divides both lines; without a header, whether a part is a number."""
    if head is not None:
        return head.count(char) == count > 0
    return count > 0 and _has_number(row.split(char))


def _spaces(head: str | None, row: str) -> str | None:
    pieces = _SPACES.split(row.strip())
    if len(pieces) < 2 or not _has_number(pieces):
        return None
    if head is not None and len(_SPACES.split(head.strip())) != len(pieces):
        return None
    is_single = all(line == " ".join(_SPACES.split(line.strip())) for line in (head or row, row))
    return " " if is_single else "  "


def _has_number(pieces: list[str]) -> bool:
    return any(_NUMBER.fullmatch(piece) for piece in pieces)
