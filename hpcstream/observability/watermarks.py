"""Why does my window not fire? The split that holds the watermark back, since when, what to do.

A window fires when the watermark passes its end; the watermark is the minimum over the
active splits of all sources on all ranks. Each rank describes its sources
(`SourceTime`); rank 0 compares them about once a second (`WatermarkStallTracker`).

The opposite failure is a watermark that advances too far: after one row from the far
future, all rows are late. Each rank keeps its greatest jump (`WatermarkHistory`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hpcstream.columns.event_time import MAX_TIME, MIN_TIME, TimeUnit
from hpcstream.observability.time_text import format_time
from hpcstream.quantities import format_span

STALLED_AFTER_S = 3.0
"""How long a watermark may stand still before it counts as stalled."""

ACTIVE, IDLE, ENDED = 0, 1, 2
"""States of a source on a rank: its watermark counts; it has no rows; it has ended."""

_JUMP_FACTOR = 20
_MANY_LATE = 0.001


@dataclass(frozen=True)
class SourceFacts:
    """A source as it is known before the run; the same on every rank.

    Attributes
    ----------
    task : int
    label : str
    unit : str or None
        Unit of its event time; None without event time.
    delay : int
        ``watermark_delay`` in ticks.
    live : bool
    idle_timeout_s : float or None
    time_operator : int or None
        Index of the operator of the task that takes event time from a column
        (`Stream.with_event_time`); None: the source has event time.
    """

    task: int
    label: str
    unit: str | None
    delay: int = 0
    live: bool = False
    idle_timeout_s: float | None = None
    time_operator: int | None = None

    def seconds(self, ticks: int) -> float:
        """Return ticks as seconds since the epoch."""
        return TimeUnit(self.unit).seconds(ticks) if self.unit else float(ticks)


@dataclass(frozen=True)
class SourceTime:
    """Event time of one source on one rank.

    Attributes
    ----------
    watermark : int
    state : int
        `ACTIVE`, `IDLE` or `ENDED`.
    still_s : float
        How long the watermark has not advanced.
    no_rows_s : float
        How long the slowest split has had no rows.
    split : str
        The slowest split.
    """

    watermark: int = MAX_TIME
    state: int = ENDED
    still_s: float = 0.0
    no_rows_s: float = 0.0
    split: str = ""


@dataclass(frozen=True)
class WatermarkStall:
    """A watermark that did not advance: for how long, because of which split, and what to do.

    Attributes
    ----------
    watermark : str
        Its value.
    seconds : float
        How long it did not advance.
    source, split : str
    rank : int
        -1: no single rank, all sources were idle.
    advice : str
    """

    watermark: str
    seconds: float
    source: str
    split: str
    rank: int
    advice: str

    def to_json(self) -> dict[str, Any]:
        """Return the stall as a JSON object."""
        return asdict(self)

    def __str__(self) -> str:
        if self.rank < 0:
            return (
                f"the watermark stood at {self.watermark} for {format_span(self.seconds)}: "
                f"{self.advice}"
            )
        return (
            f"the watermark stood at {self.watermark} for {format_span(self.seconds)}, held by "
            f"split {self.split!r} of {self.source} on rank {self.rank}: {self.advice}"
        )

    def in_short(self) -> str:
        """Return a short text for the progress line."""
        who = "no source has rows" if self.rank < 0 else f"by {self.split} on rank {self.rank}"
        return f"held {format_span(self.seconds)}: {who}"


@dataclass(frozen=True)
class Position:
    """The least watermark of all active sources, and the source that it belongs to."""

    watermark: int
    facts: SourceFacts
    rank: int
    time: SourceTime


def least_watermark(
    facts: Sequence[SourceFacts], times: Sequence[Sequence[SourceTime]]
) -> Position | None:
    """Return the least of the watermarks ``times[rank][source]``; None if no source is active."""
    active = [
        Position(time.watermark, source, rank, time)
        for rank, of_rank in enumerate(times)
        for source, time in zip(facts, of_rank, strict=True)
        if time.state == ACTIVE and source.unit is not None
    ]
    return min(active, key=_seconds_of, default=None)


def _seconds_of(position: Position) -> float:
    watermark = position.watermark
    return float("-inf") if watermark == MIN_TIME else position.facts.seconds(watermark)


def advice(position: Position) -> str:
    """Return why the watermark of this source does not advance, and what the user can do."""
    facts, time = position.facts, position.time
    if time.no_rows_s >= STALLED_AFTER_S:
        return _advice_without_rows(facts, time)
    if time.watermark == MIN_TIME:
        return "it has delivered no row with an event time yet"
    behind = ""
    if facts.delay:
        span = format_span(facts.seconds(facts.delay))
        behind = f"; it is {span} behind the greatest time seen (watermark_delay=)"
    return (
        f"its rows are no later than earlier ones{behind}: is the clock of the writer wrong, or "
        "does it send old rows?"
    )


def _advice_without_rows(facts: SourceFacts, time: SourceTime) -> str:
    since = f"it has had no rows for {format_span(time.no_rows_s)}"
    if not facts.live:
        return f"{since}; the job waits for a bounded source: check what writes it"
    if facts.idle_timeout_s is None:
        return f"{since}; idle_timeout='5s' would ignore such a split"
    if time.no_rows_s < facts.idle_timeout_s:
        return (
            f"{since}; it is ignored after idle_timeout='{facts.idle_timeout_s:g}s', which may be "
            "shorter"
        )
    return f"{since}; it counts as idle from the next round on"


class WatermarkStallTracker:
    """Measures how long the watermark of the job has not advanced, and which split holds it back.

    Reads no clock, does no I/O.

    Parameters
    ----------
    facts : sequence of SourceFacts
    """

    def __init__(self, facts: Sequence[SourceFacts]) -> None:
        self._facts = list(facts)
        self._since_s: float | None = None
        self._watermark: int | None = None
        self.now: WatermarkStall | None = None
        self.longest: WatermarkStall | None = None

    def see(self, times: Sequence[Sequence[SourceTime]], now_s: float) -> Position | None:
        """Process the reports of all ranks; return the least watermark."""
        position = least_watermark(self._facts, times)
        watermark = self._watermark if position is None else position.watermark
        if self._since_s is None or watermark != self._watermark or _all_ended(times):
            self._since_s, self._watermark = now_s, watermark
        seconds = now_s - self._since_s
        self.now = self._stall(position, seconds) if seconds >= STALLED_AFTER_S else None
        if self.now and (self.longest is None or self.longest.seconds <= seconds):
            self.longest = self.now
        return position

    def _stall(self, position: Position | None, seconds: float) -> WatermarkStall | None:
        if position is not None:
            return WatermarkStall(
                format_time(position.watermark, position.facts.unit),
                seconds,
                position.facts.label,
                position.time.split,
                position.rank,
                advice(position),
            )
        timed = [facts for facts in self._facts if facts.unit is not None]
        if not timed:
            return None
        where = MIN_TIME if self._watermark is None else self._watermark
        return WatermarkStall(
            format_time(where, timed[0].unit),
            seconds,
            "",
            "",
            -1,
            "no split of any source has rows; windows fire when rows arrive or the sources end",
        )


def _all_ended(times: Sequence[Sequence[SourceTime]]) -> bool:
    return all(time.state == ENDED for of_rank in times for time in of_rank)


@dataclass(frozen=True)
class Jump:
    """One step of a source's watermark, in ticks; ``start`` None: it was the first.

    Attributes
    ----------
    usual : float
        Mean of the other steps.
    """

    split: str
    start: int | None
    end: int
    usual: float

    @property
    def ticks(self) -> float:
        """The length of the step."""
        return float("inf") if self.start is None else self.end - self.start


class WatermarkHistory:
    """The greatest jump of one source's watermark on one rank. No clock, no I/O."""

    def __init__(self) -> None:
        self._first: tuple[int, str] | None = None
        self._last = MIN_TIME
        self._steps = 0
        self._greatest: tuple[int, int, str] | None = None

    def see(self, watermark: int, split: str) -> None:
        """Note where the watermark is after a round, and the split it comes from."""
        if watermark in (MIN_TIME, MAX_TIME) or watermark <= self._last:
            return
        if self._first is None:
            self._first = (watermark, split)
        else:
            self._steps += 1
            greatest = self._greatest
            if greatest is None or watermark - self._last > greatest[1] - greatest[0]:
                self._greatest = (self._last, watermark, split)
        self._last = watermark

    @property
    def jump(self) -> Jump | None:
        """The step that is far greater than the others, if there is one."""
        if self._first is None:
            return None
        if self._greatest is None:  # only the first rows moved it
            return Jump(self._first[1], None, self._first[0], 0.0)
        start, end, split = self._greatest
        others = (self._last - self._first[0]) - (end - start)
        usual = others / max(self._steps - 1, 1)
        return Jump(split, start, end, usual) if end - start > _JUMP_FACTOR * usual else None


@dataclass(frozen=True)
class JumpReport:
    """The jump of one source on one rank, as rank 0 reports it.

    Attributes
    ----------
    split : str
    rank : int
    row_time, start : str
        Event time of the row that caused it; the watermark before, empty for a first step.
    seconds : float
        The length of the jump; 0 for a first step.
    """

    source: str
    split: str
    rank: int
    row_time: str
    start: str
    seconds: float

    def __str__(self) -> str:
        who = f"split {self.split!r} of {self.source} on rank {self.rank}"
        if not self.start:
            return (
                f"the first rows of {who} include a row of {self.row_time} and the watermark has "
                "not advanced since; if that row is from the far future, filter such rows out"
            )
        return (
            f"a row of {self.row_time} in {who} advanced the watermark by "
            f"{format_span(self.seconds)} at once, from {self.start}: rows after it are late; if "
            "it is from the far future, filter such rows out before event time is taken from them"
        )


def report_jump(jump: Jump | None, facts: SourceFacts, rank: int) -> JumpReport | None:
    """Return the report of a jump; None without a jump, or if the source has no event time."""
    if jump is None or facts.unit is None:
        return None
    start = "" if jump.start is None else format_time(jump.start, facts.unit)
    seconds = 0.0 if jump.start is None else facts.seconds(jump.end) - facts.seconds(jump.start)
    row_time = format_time(jump.end + facts.delay, facts.unit)
    return JumpReport(facts.label, jump.split, rank, row_time, start, seconds)


def blamed(jumps: Iterable[JumpReport], late_rows: int, rows_in: int) -> JumpReport | None:
    """Return the jump to mention: the greatest, if late rows are many."""
    if late_rows <= _MANY_LATE * rows_in:
        return None
    return max(jumps, key=lambda jump: jump.seconds, default=None)
