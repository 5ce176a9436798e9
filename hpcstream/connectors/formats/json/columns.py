"""Detects JSON files with one object of columns instead of one object per row."""

from __future__ import annotations

import json
from collections.abc import Collection
from contextlib import closing
from typing import Any

from hpcstream.connectors.formats.text_file import TextFile
from hpcstream.errors import ConnectorError

_FEWEST_ROWS = 2
"""Lists of one value, or a single list, may as well be the values of one row."""


def refuse_columns(path: str, encoding: str, block_bytes: int, typed: Collection[str]) -> None:
    """Raise `ConnectorError` for a file of columns, as pandas writes them.

    Parameters
    ----------
    typed : collection of str
        Fields whose types the user gave, so that lists are intended.
    """
    value = _only_object(path, encoding, block_bytes)
    if not value or any(name in typed for name in value):
        return
    if _are_lists(value):
        first = json.dumps(next(iter(value)))
        raise ConnectorError(
            f"{path!r} holds one object whose fields are lists of {len(next(iter(value.values())))}"
            " values: columns, where one object a line is a row; "
            "job.from_batches(pa.table(json.load(open(path)))) reads them, or "
            f"`jq -c 'range(.[{first}] | length) as $i | map_values(.[$i])'` makes lines; "
            "column_types= if one row of lists is meant"
        )
    if _are_numbered(value):
        raise ConnectorError(
            f"{path!r} holds one object whose fields are columns by row number, as "
            "DataFrame.to_json(path) writes them; to_json(path, orient='records', lines=True) "
            "writes one object a line; column_types= if one row is meant"
        )


def _only_object(path: str, encoding: str, block_bytes: int) -> dict[str, Any] | None:
    """Return the object of a file that has no other, and is not longer than a block."""
    with closing(TextFile(path, "JSON", encoding, strict=True)) as file:
        block = file.read(block_bytes)
        if file.read(1):
            return None
    try:
        value = json.loads(block.decode("utf-8-sig"))
    except (ValueError, RecursionError):  # several objects, or said by Arrow
        return None
    return value if isinstance(value, dict) else None


def _are_lists(value: dict[str, Any]) -> bool:
    sizes = {len(column) if isinstance(column, list) else -1 for column in value.values()}
    return len(value) > 1 and len(sizes) == 1 and sizes.pop() >= _FEWEST_ROWS


def _are_numbered(value: dict[str, Any]) -> bool:
    keys = [list(column) if isinstance(column, dict) else [] for column in value.values()]
    numbers = [str(number) for number in range(len(keys[0]))]
    return bool(numbers) and all(labels == numbers for labels in keys)
