"""Tracebacks that show the frames of the user, not those of the engine.

Between ``job.run()`` and the function that failed are a dozen frames of this package; a note of the
error names operator, round and rank. One rule, wherever the error is shown (a script, a rank,
IPython, a notebook)::

    raised by hpcstream on purpose      the user's frames only; so are errors of Arrow over
                                        values, and of files that cannot be opened
    raised by a function of the user    the user's frames, and those of libraries it called
    anything else                       a fault of hpcstream itself: every frame

A cause without frames of the user is left out if the error repeats its text.
An error is raised on purpose if a ``raise`` statement of hpcstream raised it, whatever its type.
With ``HPCSTREAM_FULL_TRACEBACK=1`` every frame is shown.
"""

from __future__ import annotations

import dis
import os
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from hpcstream.environment import FULL_TRACEBACK
from hpcstream.errors import HpcstreamError
from hpcstream.log import show_traceback

_HINT = f"frames of hpcstream are left out; {FULL_TRACEBACK}=1 shows them"
_PACKAGE = Path(__file__).resolve().parents[1]
_LIBRARIES = tuple(
    f"{os.path.realpath(sysconfig.get_path(name))}{os.sep}"
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
_FAULTS = (AssertionError, NotImplementedError)
_RAISE = dis.opmap["RAISE_VARARGS"]
_FOLDERS = tuple(f"{folder}{os.sep}" for folder in (_PACKAGE, (_PACKAGE / "kernels").resolve()))


def shorten(error: BaseException, environ: Mapping[str, str] = os.environ) -> BaseException:
    """Remove the engine's frames from an error's traceback, and its causes'; return the error."""
    if environ.get(FULL_TRACEBACK, "0") not in ("", "0"):
        return error
    is_shorter, seen = False, set()
    waiting: list[tuple[BaseException | None, bool]] = [(error, False)]
    while waiting:
        current, explained = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        frames = _frames(current.__traceback__)
        meant = explained or _is_meant(current, frames)
        waiting += [(current.__cause__, meant), (current.__context__, meant)]
        if any(map(_is_ours, frames)) and (meant or _is_of_users_code(frames)):
            current.__traceback__ = _chain(_to_show(frames))
            is_shorter = True
    if is_shorter and _HINT not in getattr(error, "__notes__", ()):
        error.add_note(_HINT)
    return error


def to_be_shown(error: BaseException, environ: Mapping[str, str] = os.environ) -> BaseException:
    """Return an error that nobody caught, shortened, without causes that it has in its own text."""
    if environ.get(FULL_TRACEBACK, "0") in ("", "0"):
        shorten(error, environ)
        one: BaseException | None = error
        while one is not None:
            if one.__cause__ is not None and _is_repeated(one.__cause__, one):
                one.__cause__ = None  # its context is not shown either
            one = one.__cause__
    return error


def _is_repeated(cause: BaseException, error: BaseException) -> bool:
    """Whether an error says all that its cause would show."""
    said = str(error)
    parts = [str(cause), *getattr(cause, "__notes__", ())]
    has_frames = any(map(_is_users, _frames(cause.__traceback__)))
    return not has_frames and cause.__cause__ is None and all(one in said for one in parts)


def _is_meant(error: BaseException, frames: Sequence[TracebackType]) -> bool:
    """Return whether an error itself explains what is wrong with the data or the job."""
    if isinstance(error, HpcstreamError) or type(error).__module__.startswith("pyarrow"):
        return True
    if not frames or _is_of_users_code(frames) or isinstance(error, _FAULTS):
        return False
    if isinstance(error, OSError) and error.filename is not None:
        return True
    return _is_ours(frames[-1]) and _stands_at_raise(frames[-1])


def _stands_at_raise(trace: TracebackType) -> bool:
    """Return whether a ``raise`` statement left the frame, not an error inside it."""
    return trace.tb_frame.f_code.co_code[trace.tb_lasti] == _RAISE


def _is_of_users_code(frames: Sequence[TracebackType]) -> bool:
    """Return whether the innermost frame outside of libraries belongs to the user."""
    for frame in reversed(frames):
        if _is_ours(frame):
            return False
        if _is_users(frame):
            return True
    return False


def _to_show(frames: Sequence[TracebackType]) -> list[TracebackType]:
    """Return the frames without the engine's, and without those of libraries it called."""
    shown, is_below_ours = [], False
    for frame in frames:
        is_below_ours = _is_ours(frame) or (is_below_ours and not _is_users(frame))
        if not is_below_ours:
            shown.append(frame)
    return shown


def _frames(trace: TracebackType | None) -> list[TracebackType]:
    frames = []
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    return frames


def _is_ours(trace: TracebackType) -> bool:
    name = trace.tb_frame.f_code.co_filename
    if name.startswith("<"):  # generated by a decorator of one of our classes
        return str(trace.tb_frame.f_globals.get("__name__")).startswith(f"{_PACKAGE.name}.")
    return os.path.realpath(name).startswith(_FOLDERS)


def _is_users(trace: TracebackType) -> bool:
    """Return whether a frame belongs to neither hpcstream nor an installed library."""
    name = trace.tb_frame.f_code.co_filename
    if name.endswith((".pyx", ".pxi", ".pxd")) or name.startswith("<frozen"):
        return False
    return not _is_ours(trace) and not os.path.realpath(name).startswith(_LIBRARIES)


def _chain(frames: list[TracebackType]) -> TracebackType | None:
    chained = None
    for frame in reversed(frames):
        chained = TracebackType(chained, frame.tb_frame, frame.tb_lasti, frame.tb_lineno)
    return chained


def show(error: BaseException) -> None:
    """Show an error with its shortened traceback."""
    show_traceback(to_be_shown(error))
