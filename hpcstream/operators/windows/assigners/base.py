"""What windowed operators and the planner ask of a window assigner."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from hpcstream.operators.windows.assigners.slicing import Slicing
from hpcstream.stable_keys import Key


class WindowAssigner(ABC):
    """Which windows a time belongs to. All answers are pure.

    Attributes
    ----------
    overlaps : bool
        Whether a row may be in several windows.
    merges : bool
        Whether the rows of a key decide where its windows begin and end, as those of sessions:
        slices of neighbouring rows are then merged into one window.
    only_changed : bool
        Whether a window has no result of a key without rows since the window before.
    kernels : frozenset of str
        Kernel families on demand that its windows call.
    """

    overlaps: bool = False
    merges: bool = False
    only_changed: bool = False
    kernels: ClassVar[frozenset[str]] = frozenset()

    @abstractmethod
    def slicing(self) -> Slicing:
        """Return of which slices the windows are made."""

    @abstractmethod
    def key(self) -> list[Key]:
        """Return what tells the windows from others, whatever the unit of time."""

    @abstractmethod
    def state_key(self) -> list[Key]:
        """Return what tells the slices from others: equal keys can take over each other's."""

    def environment(self) -> Key:
        """Return what the windows depend on beside their key: all ranks must have the same."""
        return None

    @abstractmethod
    def describe_retention(self) -> str:
        """Return until when rows are part of the state, for people."""
