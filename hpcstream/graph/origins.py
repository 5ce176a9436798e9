"""Tracks where the order of rows comes from: its sources, and whether ranks have been mixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpcstream.columns.row_order import MOST_SOURCES
from hpcstream.errors import PlanError


@dataclass(frozen=True)
class Origin:
    """The origin of the rows at an output of the plan.

    Attributes
    ----------
    in_order : bool
        The rows of each source split arrive in order, all of them on one rank.
    sources : frozenset of int
        Source numbers in the order of rows; none after windows.
    """

    in_order: bool = False
    sources: frozenset[int] = frozenset()

    def mixed(self) -> Origin:
        """Return the origin after an exchange has mixed the rows of several ranks."""
        return Origin(sources=self.sources)


UNKNOWN = Origin()
"""The origin after windows, whose results have their own order."""


def united(inputs: Sequence[Origin]) -> tuple[Origin, tuple[int, ...]]:
    """Return the origin of a union, and the number to add to the source numbers of each input.

    If several inputs come from one source, the rows of the first such input are first.
    """
    sources: frozenset[int] = frozenset()
    offsets = []
    for origin in inputs:
        offset = max(sources) + 1 - min(origin.sources) if sources & origin.sources else 0
        offsets.append(offset)
        sources |= {number + offset for number in origin.sources}
    return Origin(all(origin.in_order for origin in inputs), sources), tuple(offsets)


def refuse_too_many(origin: Origin) -> None:
    """Raise `PlanError` if the number of some source does not fit in the order of rows."""
    number = max(origin.sources, default=0)
    if number >= MOST_SOURCES:
        raise PlanError(
            f"the plan orders rows of {number + 1:,} sources, a stream in a union with itself "
            f"counted each time; at most {MOST_SOURCES} are possible: read several paths with one "
            "source, or write results in between"
        )
