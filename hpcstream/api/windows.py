"""Window declarations as users write them; sizes become ticks when a stream's unit is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from hpcstream.calls import answers_wrong_call
from hpcstream.columns.event_time import Duration, TimeUnit, parse_duration
from hpcstream.operators.windows.assigners import SlidingWindows, TumblingWindows, WindowAssigner


class Window(Protocol):
    """What `KeyedStream.window` takes: made by `tumbling`, `sliding` and their kin."""

    def assigner(self, unit: TimeUnit) -> WindowAssigner:
        """Return the window in ticks of ``unit``."""


@dataclass(frozen=True)
class _Tumbling:
    size: Duration
    offset: Duration

    def __repr__(self) -> str:
        return f"tumbling({_sizes(self.size, offset=self.offset)})"

    def assigner(self, unit: TimeUnit) -> WindowAssigner:
        return TumblingWindows(
            unit.ticks(self.size, what="window size"),
            unit.ticks(self.offset, what="window offset"),
        )


@dataclass(frozen=True)
class _Sliding:
    size: Duration
    slide: Duration
    offset: Duration

    def __repr__(self) -> str:
        return f"sliding({_sizes(self.size, self.slide, offset=self.offset)})"

    def assigner(self, unit: TimeUnit) -> WindowAssigner:
        return SlidingWindows(
            unit.ticks(self.size, what="window size"),
            unit.ticks(self.slide, what="window slide"),
            unit.ticks(self.offset, what="window offset"),
        )


@answers_wrong_call
def tumbling(size: Duration, offset: Duration = "0s") -> Window:
    """Return windows of ``size`` side by side; each row is in exactly one.

    Parameters
    ----------
    size : str or datetime.timedelta
        As ``"10s"``, ``"1h"``, ``"1d"``.
    offset : str or datetime.timedelta
        Shifts the starts, which are otherwise multiples of ``size`` since the epoch.

    Raises
    ------
    ValueError
        Not a duration, or not positive.
    """
    _positive("tumbling", size=size)
    parse_duration(offset)
    return _Tumbling(size, offset)


@answers_wrong_call
def sliding(size: Duration, slide: Duration, offset: Duration = "0s") -> Window:
    """Return windows of ``size``, one starting every ``slide``; a row is in several.

    Parameters
    ----------
    size, slide : str or datetime.timedelta
        ``slide`` may not exceed ``size``.
    offset : str or datetime.timedelta
        Shifts the starts, which are otherwise multiples of ``slide`` since the epoch.

    Raises
    ------
    ValueError
        Not durations, not positive, or ``slide`` leaves gaps.
    """
    _positive("sliding", size=size, slide=slide)
    parse_duration(offset)
    if parse_duration(slide) > parse_duration(size):
        raise ValueError(
            f"sliding(size={size!r}, slide={slide!r}): slide exceeds size, so rows would fall "
            "between windows; filter before windowing if that is meant"
        )
    return _Sliding(size, slide, offset)


hopping = sliding


def _positive(name: str, **durations: Duration) -> None:
    for what, duration in durations.items():
        if parse_duration(duration) <= 0:
            raise ValueError(f"{name}({what}={duration!r}): {what} must be positive")


def _sizes(*sizes: Duration, offset: Duration) -> str:
    text = ", ".join(map(str, sizes))
    return text if parse_duration(offset) == 0 else f"{text}, offset {offset}"
