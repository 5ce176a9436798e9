"""``hpcstream compile``: compile the kernels before the first job."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from hpcstream.errors import HpcstreamError
from hpcstream.exchange.communicator import complete
from hpcstream.launch.early_signals import stopped_by_signals
from hpcstream.launch.kernel_cache import CompileProgress, balanced_shares, compile_shares
from hpcstream.log import say

_PROBE_BYTES = 1 << 16


def compile_all(options: argparse.Namespace) -> int:
    """Compile all kernels, on all cores; print where they are, and return the exit status."""
    if options.to is not None:
        _refuse_unless_writable(Path(options.to))
        os.environ["NUMBA_CACHE_DIR"] = str(Path(options.to).absolute())
    from hpcstream.kernels.cache import folder

    goal = folder()
    if options.to is not None and goal.parent != Path(options.to).absolute():
        raise HpcstreamError(
            f"--to {options.to}: kernels cannot be kept there: it cannot be written, or the "
            f"{goal.name} in it belongs to another user, or others can write to it"
        )
    with stopped_by_signals(
        has_checkpoints=False, before_what="all kernels were compiled; those that were are kept"
    ) as early:
        _compile_into(goal)
    return early.status


def _refuse_unless_writable(folder: Path) -> None:
    """Raise `HpcstreamError` before compiling, unless the folder is writable."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(_PROBE_BYTES))
    except OSError as error:
        raise HpcstreamError(f"--to {folder}: kernels cannot be kept there: {error}") from error


def _compile_into(goal: Path) -> None:
    from hpcstream import kernels

    started_s = time.monotonic()
    missing = kernels.not_compiled()
    if missing:
        progress = CompileProgress(say, missing)
        progress.begin()
        own, *others = balanced_shares(missing, len(os.sched_getaffinity(0)))
        complete(compile_shares(own, others, progress.look))
    n_bytes = sum(path.stat().st_size for path in goal.rglob("*") if path.is_file())
    n_all, seconds = len(kernels.FAMILIES), time.monotonic() - started_s
    left = kernels.not_compiled()
    if left:
        raise HpcstreamError(f"{goal}: {', '.join(left)} could not be kept there; is it full?")
    done = f"compiled in {seconds:.0f} s" if missing else "all compiled before"
    print(f"{goal}: {n_all} families of kernels, {n_bytes / 2**20:.1f} MiB, {done}")
