"""Tracebacks that show the user's frames, not the engine's.

Between ``job.run()`` and the function that failed lie a dozen frames of this
package; the error's note says in which operator, round and rank it was. They are
left out where they say nothing: when the error is one that hpcstream or Arrow
raises on purpose, or comes from a function of the user's. A fault of our own code
keeps every frame, and so does everything with ``HPCSTREAM_FULL_TRACEBACK=1``.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import time
import traceback
from collections.abc import Generator, Mapping
from pathlib import Path
from types import TracebackType

from hpcstream.errors import HpcstreamError
from hpcstream.exchange import leaving
from hpcstream.exchange.communicator import Communicator, gather_bytes
from hpcstream.exchange.launcher import launched_rank

FULL = "HPCSTREAM_FULL_TRACEBACK"
"""Set to 1 to see every frame."""

_MOST_OTHERS = 4
_HINT = f"frames of hpcstream are left out; {FULL}=1 shows them"
_PACKAGE = Path(__file__).resolve().parents[1]
_LIBRARIES = tuple(
    f"{os.path.realpath(sysconfig.get_path(name))}{os.sep}"
    for name in ("stdlib", "platstdlib", "purelib", "platlib")
)
_FOLDERS = tuple(f"{folder}{os.sep}" for folder in (_PACKAGE, (_PACKAGE / "kernels").resolve()))


def shorten(error: BaseException, environ: Mapping[str, str] = os.environ) -> BaseException:
    """Leave the engine's frames out of an error's traceback, and its causes'; return the error."""
    if environ.get(FULL, "0") not in ("", "0"):
        return error
    is_shorter, seen = False, set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        waiting += [one.__cause__, one.__context__]
        is_shorter = _shorten_one(one) or is_shorter
    if is_shorter and _HINT not in getattr(error, "__notes__", ()):
        error.add_note(_HINT)
    return error


def _shorten_one(error: BaseException) -> bool:
    frames = _frames(error.__traceback__)
    ours = [place for place, frame in enumerate(frames) if _is_ours(frame)]
    if not ours:
        return False
    inside = frames[ours[0] :]
    if not (_is_meant(error) or any(_is_users(frame) for frame in inside)):
        return False
    error.__traceback__ = _chain([frame for frame in frames if not _is_ours(frame)])
    return True


def _is_meant(error: BaseException) -> bool:
    """Return whether an error says itself what is wrong with the data or the job."""
    return isinstance(error, HpcstreamError) or type(error).__module__.startswith("pyarrow")


def _frames(trace: TracebackType | None) -> list[TracebackType]:
    frames = []
    while trace is not None:
        frames.append(trace)
        trace = trace.tb_next
    return frames


def _is_ours(trace: TracebackType) -> bool:
    return os.path.realpath(trace.tb_frame.f_code.co_filename).startswith(_FOLDERS)


def _is_users(trace: TracebackType) -> bool:
    """Return whether a frame is of neither hpcstream nor an installed library."""
    name = trace.tb_frame.f_code.co_filename
    if name.endswith((".pyx", ".pxi", ".pxd")) or name.startswith("<frozen"):
        return False
    return not _is_ours(trace) and not os.path.realpath(name).startswith(_LIBRARIES)


def _chain(frames: list[TracebackType]) -> TracebackType | None:
    chained = None
    for one in reversed(frames):
        chained = TracebackType(chained, one.tb_frame, one.tb_lasti, one.tb_lineno)
    return chained


def show(error: BaseException) -> None:
    """Write an error to standard error, without the frames that say nothing."""
    traceback.print_exception(shorten(error), file=sys.stderr)
    sys.stderr.flush()


def let_one_speak(error: BaseException, comm: Communicator) -> Generator[None, None, None]:
    """Have one rank show its traceback, and name there what the others failed with. Collective.

    Ranks that stumble over different rows have different errors, of one cause mostly.
    ``error`` is what `raise_together` raised here.
    """
    is_silent = getattr(error, "shown_by_hpcstream", False) or not isinstance(error, Exception)
    own = "" if is_silent else f"{type(error).__name__}: {error}".splitlines()[0]
    texts = yield from gather_bytes(comm, own.encode())
    failed = [rank for rank, text in enumerate(texts) if text]
    if not own:
        return
    if comm.rank != failed[0]:
        error.shown_by_hpcstream = True  # type: ignore[attr-defined]  # by that rank
        return
    for rank in failed[1 : 1 + _MOST_OTHERS]:
        error.add_note(f"also failed on rank {rank}: {texts[rank].decode()}")
    if len(failed) > 1 + _MOST_OTHERS:
        error.add_note(f"also failed on {len(failed) - 1 - _MOST_OTHERS} more ranks")


def install_excepthook() -> None:
    """Shorten what this process shows of an error that leaves its script.

    Until MPI starts, that is, while the graph is built; then `hpcstream.exchange.mpi`
    has a hook that ends all ranks. A hook of someone else's, as in IPython, is left alone.
    """
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _excepthook


def _excepthook(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    let_earlier_ranks_speak(launched_rank(os.environ))
    sys.__excepthook__(kind, error, shorten(error).__traceback__)
    if leaving.would_be_waited_for(os.environ):
        leaving.end_all_ranks(1)


def let_earlier_ranks_speak(rank: int) -> None:
    """Wait a moment on all ranks but the first: an error of the script is the same on all.

    The first one to show it ends the others before they show it too.
    """
    if rank:
        time.sleep(min(2.0 + 0.2 * rank, 3.0))
