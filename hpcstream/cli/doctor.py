"""``hpcstream doctor``: what this machine and MPI give to a job."""

from __future__ import annotations

import argparse
import sys


def doctor(options: argparse.Namespace) -> int:
    """Print the report, on rank 0 if there are several; 1 if it found something to mend."""
    if options.ranks > 1:
        from hpcstream.cli.run import start

        return start([sys.executable, "-m", "hpcstream", "doctor"], options.ranks, options.launcher)
    raise NotImplementedError
