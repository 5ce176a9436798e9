"""Who is missing when nothing moves.

A rank whose loop has had nothing to do for `STALL_AFTER_S` is *stalled*; it sends
a `Beat` about once a second. A rank that gets one and is not stalled answers with
its own. So after a moment those that said nothing are known: they are inside
their own code, or lost. Only time spent looking counts: a rank that was in its
own code for a minute is not stalled when it comes back.

Beats go to a few *listeners* spread over all ranks, so that some are left when a
host is lost, rank 0's too; listeners send to everyone. The lowest listener that
is stalled itself speaks, once. No clock and no I/O here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from hpcstream.quantities import format_span

STALL_AFTER_S = 10.0
GRACE_S = 2.0
"""How long the others' beats may take before a rank counts as missing."""

_BEAT_EVERY_S = 1.0
_HEARD_S = 4.0
_LONGEST_LOOK_S = 1.0
_N_LISTENERS = 8
_LONGEST_TEXT = 240
_MOST_NAMED = 16


@dataclass(frozen=True)
class Beat:
    """What a rank says of itself.

    Attributes
    ----------
    stalled : bool
        Nothing moves on it; else it is at work.
    spoken : bool
        Someone has told the user already.
    ending : bool
        It ends the job now, and has said so.
    doing : str
        What it waits for or works on.
    behind : tuple of int
        Ranks whose part it waits for, if it knows them.
    """

    rank: int
    stalled: bool
    doing: str
    behind: tuple[int, ...] = ()
    spoken: bool = False
    ending: bool = False

    def to_bytes(self) -> bytes:
        """Return the beat as bytes, at most `NOTE_BYTES`."""
        values = asdict(self)
        text = self.doing[:_LONGEST_TEXT].encode("ascii", "replace").decode()
        # A quote would take two bytes, and a control character six.
        values["doing"] = "".join(c if c.isprintable() and c not in '"\\' else "'" for c in text)
        values["behind"] = list(self.behind[:_MOST_NAMED])
        return json.dumps(values).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Beat:
        """Return the beat that `to_bytes` wrote."""
        values = json.loads(data)
        values["behind"] = tuple(values["behind"])
        return cls(**values)


def listeners(size: int) -> tuple[int, ...]:
    """Return the ranks that take beats in, spread evenly."""
    return tuple(sorted({place * size // _N_LISTENERS for place in range(_N_LISTENERS)}))


class StallMonitor:
    """Decides on one rank whether it is stalled, to whom it sends, and who speaks.

    Parameters
    ----------
    rank, size : int
    stall_timeout_s : float or None
        End the job after so long without a move; None: never.
    lost_host_s : float
        The same if meanwhile no rank of some other host is heard of: its link is cut, or
        this host's. Ranks on both sides come to it, each for itself.
    """

    def __init__(
        self,
        rank: int,
        size: int,
        stall_timeout_s: float | None = None,
        lost_host_s: float = float("inf"),
    ) -> None:
        self._rank = rank
        self._size = size
        self._timeout_s = stall_timeout_s
        self._lost_host_s = lost_host_s
        hurry = float("inf") if stall_timeout_s is None else stall_timeout_s
        self._after_s = min(STALL_AFTER_S, hurry / 2)
        self._grace_s = min(GRACE_S, hurry / 4)
        self._listeners = listeners(size)
        self._heard: dict[int, tuple[float, Beat]] = {}
        self._looked_s: float | None = None
        self._sent_s = float("-inf")
        self._asked_s = float("-inf")
        self.quiet_s = 0.0
        self.spoken = False
        self.end_is_said = False
        self._spoke_here = False
        self.places: Sequence[str] = ()

    @property
    def is_stalled(self) -> bool:
        """Whether nothing has moved here for long."""
        return self.quiet_s >= self._after_s

    def look(self, now_s: float, *, moved: bool) -> str | None:
        """Note whether anything moved since the last look; call a few times a second.

        Returns
        -------
        str or None
            Something to tell the user: that it goes on after this rank said it stood.
        """
        away_s = 0.0 if self._looked_s is None else now_s - self._looked_s
        self._looked_s = now_s
        if not moved:
            self.quiet_s += min(away_s, _LONGEST_LOOK_S)
            return None
        stood_s, told = self.quiet_s, self._spoke_here
        self.quiet_s, self.spoken, self._spoke_here = 0.0, False, False
        return f"it goes on, after {format_span(stood_s)}" if told else None

    def hear(self, beat: Beat, now_s: float) -> None:
        """Take in another rank's beat."""
        self._heard[beat.rank] = (now_s, beat)
        self.spoken = self.spoken or beat.spoken
        self.end_is_said = self.end_is_said or beat.ending
        if beat.stalled:
            self._asked_s = now_s

    def recipients(self, now_s: float) -> list[int]:
        """Return whom to send a beat now: nobody, or at most once a second the listeners."""
        asked = now_s - self._asked_s < _HEARD_S
        if not (self.is_stalled or asked) or now_s - self._sent_s < _BEAT_EVERY_S:
            return []
        self._sent_s = now_s
        listens = self._rank in self._listeners
        to = range(self._size) if listens and self.is_stalled else self._listeners
        return [rank for rank in to if rank != self._rank]

    def verdict(self, own: Beat, now_s: float) -> str | None:
        """Return what to tell the user, once, on the one rank that speaks; else None."""
        if self.spoken or self.quiet_s < self._after_s + self._grace_s:
            return None
        if not self._speaks(now_s):
            return None
        self.spoken = self._spoke_here = True
        return self._message(own, now_s)

    def is_over(self, now_s: float) -> bool:
        """Return whether this rank is to end the job now; others wait a little for that one."""
        limit_s = self._limit_s(now_s)
        if limit_s is None:
            return False
        wait_s = 0.0 if self._speaks(now_s) else GRACE_S + self._grace_s
        return self.quiet_s >= limit_s + wait_s

    def lost_hosts(self, now_s: float) -> list[str]:
        """Return the other hosts that no rank has been heard from while nothing moved."""
        heard = {beat.rank for beat in self._recent(now_s)} | {self._rank}
        hosts = [place.rpartition(" on ")[2] for place in self.places]
        alive = {host for rank, host in enumerate(hosts) if rank in heard}
        return sorted(set(hosts) - alive)

    def _limit_s(self, now_s: float) -> float | None:
        """Return after how long without a move the job ends, as things are now; None: never."""
        own = self._timeout_s
        if self._lost_host_s == float("inf") or not self.lost_hosts(now_s):
            return own
        return self._lost_host_s if own is None else min(own, self._lost_host_s)

    def works_elsewhere(self, now_s: float) -> bool:
        """Return whether another rank has said lately that it is at work."""
        return any(not beat.stalled for beat in self._recent(now_s))

    def _speaks(self, now_s: float) -> bool:
        """Return whether no listener before this one is there to speak."""
        stalled = {beat.rank for beat in self._recent(now_s) if beat.stalled}
        before = [rank for rank in self._listeners if rank < self._rank]
        return self._rank in self._listeners and stalled.isdisjoint(before)

    def _recent(self, now_s: float) -> list[Beat]:
        return [beat for heard_s, beat in self._heard.values() if now_s - heard_s < _HEARD_S]

    # -- words -------------------------------------------------------------------------

    def _message(self, own: Beat, now_s: float) -> str:
        beats = sorted([own, *self._recent(now_s)], key=lambda beat: beat.rank)
        missing = sorted(set(range(self._size)) - {beat.rank for beat in beats})
        lines = [f"nothing has moved for {format_span(self.quiet_s)}"]
        lines += [f"  {self._missing(rank)}" for rank in missing[:_MOST_NAMED]]
        if len(missing) > _MOST_NAMED:
            lines.append(f"  and {len(missing) - _MOST_NAMED} further ranks do not answer")
        lines += _present(beats, missing)
        if not missing and all(beat.stalled for beat in beats):
            lines.append(
                "  every rank answers and waits: please report this as a fault of hpcstream"
            )
        lines.append(f"  {self._what_next(now_s)}")
        return "\n".join(lines)

    def _missing(self, rank: int) -> str:
        place = self.places[rank] if rank < len(self.places) else ""
        where = f" (process {place})" if place else ""
        number = place.partition(" ")[0] or "PID"
        return (
            f"rank {rank}{where} does not answer: it is inside a function of the job, or lost; "
            f"`py-spy dump --pid {number}` on its host shows where it is"
        )

    def _what_next(self, now_s: float) -> str:
        limit_s = self._limit_s(now_s)
        if limit_s is None:
            return "the job waits on; run(stall_timeout_s=...) would end it"
        left = format_span(max(limit_s - self.quiet_s, 0.0))
        if limit_s != self._timeout_s:
            lost = ", ".join(self.lost_hosts(now_s))
            return f"the job ends in {left}: no rank of {lost} answers (--lost-host {limit_s:g})"
        return f"the job ends in {left} (stall_timeout_s={limit_s:g})"


def _present(beats: list[Beat], missing: list[int]) -> list[str]:
    """Return what the ranks that answer wait for, and from whom."""
    slow = {*missing, *(beat.rank for beat in beats if not beat.stalled)}
    lines = []
    for beat in beats[:_MOST_NAMED]:
        verb = "waits for" if beat.stalled else "is at work:"
        behind = [rank for rank in beat.behind if rank in slow] or beat.behind
        ranks = ", ".join(map(str, behind))
        whose = f" from rank{'s' if len(behind) > 1 else ''} {ranks}" if ranks else ""
        lines.append(f"  rank {beat.rank} {verb} {beat.doing}{whose}")
    if len(beats) > _MOST_NAMED:
        lines.append(f"  and {len(beats) - _MOST_NAMED} further ranks answer")
    return lines
