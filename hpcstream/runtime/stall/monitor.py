"""Finds the missing ranks when nothing moves.

A rank whose loop has had nothing to do for `STALL_AFTER_S` is *stalled*; it sends
a `Beat` about once a second. A rank that gets a beat and is not stalled answers with
its own. So the ranks without a beat are soon known: they are inside functions of the
job, or lost. Only time in the loop counts: a rank that was in a function for a minute
is not stalled when it returns.

Beats go to a few *listeners* spread over all ranks, so that some are left when a
host is lost, even that of rank 0; listeners send to every rank. The lowest stalled
listener warns the user, once. No clock and no I/O here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from hpcstream.quantities import format_span

STALL_AFTER_S = 10.0
GRACE_S = 2.0
"""How long beats may take before a rank counts as missing."""

_BEAT_EVERY_S = 1.0
_HEARD_S = 4.0
_LONGEST_LOOK_S = 1.0
_N_LISTENERS = 8
_LONGEST_TEXT = 240
_MOST_NAMED = 16


@dataclass(frozen=True)
class Beat:
    """What a rank reports of itself.

    Attributes
    ----------
    stalled : bool
        Nothing moves on it; else it works.
    spoken : bool
        A rank has warned the user already.
    ending : bool
        It ends the job now, and has announced that.
    doing : str
        What it waits for or works on.
    behind : tuple of int
        Ranks that it waits for, if it knows them.
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
    """Return the ranks that beats are sent to, spread evenly."""
    return tuple(sorted({index * size // _N_LISTENERS for index in range(_N_LISTENERS)}))


class StallMonitor:
    """Decides on one rank whether it is stalled, which ranks get its beat, and which one warns.

    Parameters
    ----------
    rank, size : int
    stall_timeout_s : float or None
        The job ends after so long without a move; None: never.
    lost_host_s : float
        The same if no rank of some other host sends a beat: the link of that host, or of this
        one, is cut. Ranks on both sides decide it, each for itself.
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
        shortest = float("inf") if stall_timeout_s is None else stall_timeout_s
        self._after_s = min(STALL_AFTER_S, shortest / 2)
        self._grace_s = min(GRACE_S, shortest / 4)
        self._listeners = listeners(size)
        self._heard: dict[int, tuple[float, Beat]] = {}
        self._looked_s: float | None = None
        self._sent_s = float("-inf")
        self._asked_s = float("-inf")
        self.quiet_s = 0.0
        self.spoken = False
        self.end_is_announced = False
        self._spoke_here = False
        self._processes: Sequence[str] = ()

    def know_processes(self, processes: Sequence[str]) -> None:
        """Note the process and host of each rank: ``"4711 on node3"``."""
        self._processes = processes

    @property
    def is_stalled(self) -> bool:
        """Whether nothing has moved here for long."""
        return self.quiet_s >= self._after_s

    def look(self, now_s: float, *, moved: bool) -> str | None:
        """Note whether anything moved since the last look; call a few times a second.

        Returns
        -------
        str or None
            A message for the user: the job moves again, after this rank had warned.
        """
        away_s = 0.0 if self._looked_s is None else now_s - self._looked_s
        self._looked_s = now_s
        if not moved:
            self.quiet_s += min(away_s, _LONGEST_LOOK_S)
            return None
        stalled_s, has_warned = self.quiet_s, self._spoke_here
        self.quiet_s, self.spoken, self._spoke_here = 0.0, False, False
        return f"it goes on, after {format_span(stalled_s)}" if has_warned else None

    def hear(self, beat: Beat, now_s: float) -> None:
        """Note the beat of another rank."""
        self._heard[beat.rank] = (now_s, beat)
        self.spoken = self.spoken or beat.spoken
        self.end_is_announced = self.end_is_announced or beat.ending
        if beat.stalled:
            self._asked_s = now_s

    def recipients(self, now_s: float) -> list[int]:
        """Return the ranks to send a beat to now: none, or at most once a second the listeners."""
        asked = now_s - self._asked_s < _HEARD_S
        if not (self.is_stalled or asked) or now_s - self._sent_s < _BEAT_EVERY_S:
            return []
        self._sent_s = now_s
        listens = self._rank in self._listeners
        to = range(self._size) if listens and self.is_stalled else self._listeners
        return [rank for rank in to if rank != self._rank]

    def verdict(self, own: Beat, now_s: float) -> str | None:
        """Return the warning for the user, once, on the one rank that gives it; else None."""
        if self.spoken or self.quiet_s < self._after_s + self._grace_s:
            return None
        if not self._speaks(now_s):
            return None
        self.spoken = self._spoke_here = True
        return self._message(own, now_s)

    def is_over(self, now_s: float) -> bool:
        """Return whether this rank must end the job now; all but one rank wait a little longer."""
        limit_s = self._limit_s(now_s)
        if limit_s is None:
            return False
        wait_s = 0.0 if self._speaks(now_s) else GRACE_S + self._grace_s
        return self.quiet_s >= limit_s + wait_s

    def lost_hosts(self, now_s: float) -> list[str]:
        """Return the other hosts from which no beat came while nothing moved."""
        heard = {beat.rank for beat in self._recent(now_s)} | {self._rank}
        hosts = [process.rpartition(" on ")[2] for process in self._processes]
        alive = {host for rank, host in enumerate(hosts) if rank in heard}
        return sorted(set(hosts) - alive)

    def _limit_s(self, now_s: float) -> float | None:
        """Return after how long without a move the job ends now; None: never."""
        own = self._timeout_s
        if self._lost_host_s == float("inf") or not self.lost_hosts(now_s):
            return own
        return self._lost_host_s if own is None else min(own, self._lost_host_s)

    def works_elsewhere(self, now_s: float) -> bool:
        """Return whether another rank has reported lately that it works."""
        return any(not beat.stalled for beat in self._recent(now_s))

    def _speaks(self, now_s: float) -> bool:
        """Return whether this rank is the lowest stalled listener."""
        stalled = {beat.rank for beat in self._recent(now_s) if beat.stalled}
        before = [rank for rank in self._listeners if rank < self._rank]
        return self._rank in self._listeners and stalled.isdisjoint(before)

    def _recent(self, now_s: float) -> list[Beat]:
        return [beat for heard_s, beat in self._heard.values() if now_s - heard_s < _HEARD_S]

    # -- messages ----------------------------------------------------------------------

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
        process = self._processes[rank] if rank < len(self._processes) else ""
        where = f" (process {process})" if process else ""
        number = process.partition(" ")[0] or "PID"
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
    """Return what the answering ranks wait for, and for which ranks."""
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
