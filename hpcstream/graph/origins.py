"""What the order of rows at a place of the plan is worth: from which sources, and whether mixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpcstream.columns.row_order import MOST_SOURCES
from hpcstream.errors import PlanError


@dataclass(frozen=True)
class Origin:
    """Which sources the order of rows names.

    Attributes
    ----------
    in_order : bool
        The rows of each split of a source come in their order, all of them to one rank.
    sources : frozenset of int
        Numbers of sources in the order of rows; none behind windows.
    """

    in_order: bool = False
    sources: frozenset[int] = frozenset()

    def mixed(self) -> Origin:
        """Return the origin where rows of several ranks have been mixed."""
        return Origin(sources=self.sources)


UNKNOWN = Origin()
"""Behind windows, whose results have an order of their own."""


def united(inputs: Sequence[Origin]) -> tuple[Origin, tuple[int, ...]]:
    """Return the origin of a union, and what to add to the numbers of sources of each input.

    Inputs that come from one source are told apart: rows of the first come first.
    """
    sources: frozenset[int] = frozenset()
    offsets = []
    for one in inputs:
        offset = max(sources) + 1 - min(one.sources) if sources & one.sources else 0
        offsets.append(offset)
        sources |= {number + offset for number in one.sources}
    return Origin(all(one.in_order for one in inputs), sources), tuple(offsets)


def refuse_too_many(origin: Origin) -> None:
    """Raise `PlanError` if rows of some source cannot be told apart from those of another."""
    number = max(origin.sources, default=0)
    if number >= MOST_SOURCES:
        raise PlanError(
            f"the plan orders rows of {number + 1:,} sources, a stream that is joined to itself by "
            f"union counted each time; {MOST_SOURCES} can be told apart: read several paths with "
            "one source, or write results in between"
        )
