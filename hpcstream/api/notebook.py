"""Representations of streams, jobs and plans in shells and notebooks."""

from __future__ import annotations

import html
from collections.abc import Sequence

import pyarrow as pa

_MOST_COLUMNS = 12


class Plan(str):
    """A plan as text; its ``repr`` keeps the lines."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        return preformatted(self)


def preformatted(text: str) -> str:
    """Return text as preformatted HTML."""
    return f"<pre>{html.escape(text)}</pre>"


def cells(rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """Return an HTML table; the first row is its heading."""
    head, *body = [[html.escape(text) for text in row] for row in rows]
    lines = [f"<tr>{''.join(f'<th>{text}</th>' for text in head)}</tr>"]
    lines += [f"<tr>{''.join(f'<td>{text}</td>' for text in row)}</tr>" for row in body]
    above = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return f"<table>{above}{''.join(lines)}</table>"


def schema_text(schema: pa.Schema) -> str:
    """Return the columns with their types, in one line."""
    shown = [f"{field.name}: {field.type}" for field in list(schema)[:_MOST_COLUMNS]]
    if len(schema) > _MOST_COLUMNS:
        shown.append(f"... {len(schema) - _MOST_COLUMNS} more columns")
    return ", ".join(shown)
