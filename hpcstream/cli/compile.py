"""``hpcstream compile``: compile the kernels before any job does."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from hpcstream.errors import HpcstreamError
from hpcstream.exchange.communicator import complete
from hpcstream.launch.kernel_cache import Meter, compile_shares, shared_out
from hpcstream.log import say


def compile_all(options: argparse.Namespace) -> int:
    """Compile all kernels, on all cores; print where they are, and return the exit status."""
    if options.to is not None:
        os.environ["NUMBA_CACHE_DIR"] = str(Path(options.to).absolute())
    from hpcstream import kernels
    from hpcstream.kernels.cache import folder

    goal = folder()
    if options.to is not None and goal.parent != Path(options.to).absolute():
        raise HpcstreamError(
            f"--to {options.to}: kernels cannot be kept there: it cannot be written, or the "
            f"{goal.name} in it belongs to another user, or others can write to it"
        )
    started_s = time.monotonic()
    missing = kernels.not_compiled()
    if missing:
        meter = Meter(say)
        meter.begin()
        own, *others = shared_out(missing, len(os.sched_getaffinity(0)))
        complete(compile_shares(own, others, meter.look))
    n_bytes = sum(path.stat().st_size for path in goal.rglob("*") if path.is_file())
    n_all, seconds = len(kernels.FAMILIES), time.monotonic() - started_s
    left = kernels.not_compiled()
    if left:
        raise HpcstreamError(f"{goal}: {', '.join(left)} could not be kept there; is it full?")
    done = f"compiled in {seconds:.0f} s" if missing else "all compiled before"
    print(f"{goal}: {n_all} families of kernels, {n_bytes / 2**20:.1f} MiB, {done}")
    return 0
