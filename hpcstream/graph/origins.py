"""What the order of rows at a place of the plan is worth: from which sources, and whether mixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


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
