"""Elementwise reduction of a column over ranks."""

from __future__ import annotations

from typing import NamedTuple


class ColumnReduction(NamedTuple):
    """How one accumulator column is reduced.

    Attributes
    ----------
    op : str
        ``"sum"``, ``"min"`` or ``"max"``.
    identity : int or float
        What a rank without the window contributes.
    """

    op: str
    identity: int | float
