"""Checks whether the unit of event time is plausible, and the delay shorter than the data.

Seconds read as milliseconds lie in January 1970, milliseconds read as seconds in the year
58131. Neither raises an error, nor does a delay longer than the data.
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
"""About the year 2500: times after it are always doubtful."""

_PLAUSIBLE_S = (20 * 365 * 86_400.0, 130 * 365 * 86_400.0)
_UNITS = ("s", "ms", "us", "ns")


@dataclass(frozen=True)
class EventTimes:
    """The range of the event times of a source.

    Attributes
    ----------
    source : str
    unit : str
    first, greatest : int
        In ticks: the least time of the first rows, and the greatest of all rows.
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
        """Return the range as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> EventTimes:
        """Return the range that `to_json` wrote."""
        return cls(**value)


def united(times: Iterable[EventTimes]) -> list[EventTimes]:
    """Merge the ranges of each source over all ranks."""
    found: dict[tuple[str, str, int], EventTimes] = {}
    for entry in times:
        key = (entry.source, entry.unit, entry.delay)
        other = found.get(key, entry)
        least, most = min(entry.first, other.first), max(entry.greatest, other.greatest)
        found[key] = EventTimes(entry.source, entry.unit, least, most, entry.delay)
    return list(found.values())


def doubts(times: EventTimes, *, has_ended: bool = True) -> list[str]:
    """Return doubts about the event times of a source, a sentence each.

    Parameters
    ----------
    has_ended : bool
        The source has ended, so the delay can be compared with the data.
    """
    if times.greatest == MIN_TIME:
        return []
    found = [_about_unit(times)]
    span = times.greatest - times.first
    if has_ended and 0 < span < times.delay:
        found.append(
            f"watermark_delay is {format_span(times.seconds(times.delay))}, longer than all the "
            f"event time of {times.source} ({format_span(times.seconds(span))}): no window can "
            "fire before the stream ends"
        )
    return [text for text in found if text]


def _about_unit(times: EventTimes) -> str:
    first_s, greatest_s = times.seconds(times.first), times.seconds(times.greatest)
    is_early, is_far = first_s >= 0 and greatest_s < _EARLY_S, first_s > _FAR_S
    if times.unit == "d" or not (is_early or is_far):
        return ""
    other = _plausible_unit(times)
    if is_early and other is None:
        return ""  # counts from 0, as in a simulation
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
        if name != times.unit and all(low_s <= second <= high_s for second in seconds):
            return name
    return None
