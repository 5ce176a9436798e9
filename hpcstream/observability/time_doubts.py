"""Asks whether the unit of event time is right, and the delay not longer than the data.

Seconds that are taken for milliseconds lie in January 1970, milliseconds taken for seconds
in the year 58131. Both run without an error, and so does a delay that no row outlives.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from hpcstream.columns.event_time import MIN_TIME, TimeUnit
from hpcstream.observability.time_text import format_time
from hpcstream.quantities import format_span

_EARLY_S = 3_652 * 86_400.0
"""Ten years after 1970: times before it are doubtful, if another unit makes them plausible."""

_FAR_S = 530 * 365 * 86_400.0
"""About the year 2500: rows that all lie after it are doubtful anyway."""

_PLAUSIBLE_S = (20 * 365 * 86_400.0, 130 * 365 * 86_400.0)
_UNITS = ("s", "ms", "us", "ns")


@dataclass(frozen=True)
class EventTimes:
    """Which event times a source has brought.

    Attributes
    ----------
    source : str
    unit : str
    first, greatest : int
        In ticks: the least of the first rows, and the greatest of all.
    delay : int
        ``watermark_delay`` in ticks.
    """

    source: str
    unit: str
    first: int
    greatest: int
    delay: int = 0

    def seconds(self, ticks: int) -> float:
        """Return ticks as seconds."""
        return TimeUnit(self.unit).seconds(ticks)

    def to_json(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> EventTimes:
        """Return what `to_json` wrote."""
        return cls(**value)


def united(times: Iterable[EventTimes]) -> list[EventTimes]:
    """Return the times of each source on all ranks together."""
    found: dict[tuple[str, str, int], EventTimes] = {}
    for one in times:
        key = (one.source, one.unit, one.delay)
        other = found.get(key, one)
        least, most = min(one.first, other.first), max(one.greatest, other.greatest)
        found[key] = EventTimes(one.source, one.unit, least, most, one.delay)
    return list(found.values())


def doubts(times: EventTimes, *, has_ended: bool = True) -> list[str]:
    """Return what to ask about the event times of a source, a sentence each.

    Parameters
    ----------
    has_ended : bool
        No more rows come, so that the delay can be compared with the data.
    """
    if times.greatest == MIN_TIME:
        return []
    said = [_about_unit(times)]
    span = times.greatest - times.first
    if has_ended and 0 < span < times.delay:
        said.append(
            f"watermark_delay is {format_span(times.seconds(times.delay))}, longer than all the "
            f"event time of {times.source} ({format_span(times.seconds(span))}): no window can "
            "fire before the stream ends"
        )
    return [text for text in said if text]


def _about_unit(times: EventTimes) -> str:
    first_s, greatest_s = times.seconds(times.first), times.seconds(times.greatest)
    is_early, is_far = first_s >= 0 and greatest_s < _EARLY_S, first_s > _FAR_S
    if times.unit == "d" or not (is_early or is_far):
        return ""
    other = _plausible_unit(times)
    if is_early and other is None:
        return ""  # counted from 0, as in a simulation
    shown = [format_time(ticks, times.unit) for ticks in (times.first, times.greatest)]
    where = shown[0] if shown[0] == shown[1] else f"{shown[0]} to {shown[1]}"
    text = f"event time of {times.source} lies in {where}: is the unit right?"
    if other is None:
        return text
    return (
        f"{text} It is read as {times.unit}; as {other} it would be "
        f"{format_time(times.first, other)} (event_time_unit=, or the type of the column)"
    )


def _plausible_unit(times: EventTimes) -> str | None:
    low_s, high_s = _PLAUSIBLE_S
    for name in _UNITS:
        seconds = [TimeUnit(name).seconds(ticks) for ticks in (times.first, times.greatest)]
        if name != times.unit and all(low_s <= one <= high_s for one in seconds):
            return name
    return None
