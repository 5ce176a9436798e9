"""Signals that request a stop before the job has started."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from hpcstream.log import say
from hpcstream.process.stop_signals import TRY_AGAIN

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)


class _StoppedEarly(BaseException):
    """A signal arrived before the launcher of the job could handle it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Early:
    """``status``: the exit status if the job was stopped before it started, else 0."""

    status = 0


@contextmanager
def stopped_by_signals(
    *, has_checkpoints: bool, before_what: str = "the job started"
) -> Iterator[Early]:
    """End the block at the first signal, unless other code handles it."""
    early = Early()
    before = {}
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup, or a background job
            before[number] = signal.signal(number, _stop)
    try:
        yield early
    except _StoppedEarly as stopped:
        say(f"stopped before {before_what}")
        is_interrupt = stopped.number == signal.SIGINT
        again = has_checkpoints and not is_interrupt
        early.status = TRY_AGAIN if again else 128 + stopped.number
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def restore_default_signals() -> None:
    """Restore the default handlers, before another program replaces this one (``exec``)."""
    for number in STOP_SIGNALS:
        if signal.getsignal(number) is _stop:
            usual = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, usual)


def _stop(number: int, frame: FrameType | None) -> None:
    raise _StoppedEarly(number)
