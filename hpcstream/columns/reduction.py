"""Elementwise reduction of a column over ranks."""

from __future__ import annotations

from typing import NamedTuple


class ColumnReduction(NamedTuple):
    """The elementwise reduction of one accumulator column.

    Attributes
    ----------
    op : str
        ``"sum"``, ``"min"`` or ``"max"``.
    identity : int or float
        The contribution of a rank that does not have the window.
    """

    op: str
    identity: int | float
