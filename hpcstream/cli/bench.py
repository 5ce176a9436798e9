"""``hpcstream bench``: the benchmarks in the checkout of this package."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from hpcstream.errors import HpcstreamError

ROOT = Path(__file__).parents[2]


def bench(options: argparse.Namespace) -> int:
    """Run ``python -m benchmarks`` in the checkout and return its exit status."""
    if not (ROOT / "benchmarks" / "command.py").exists():
        raise HpcstreamError(
            f"bench: no benchmarks beside {ROOT / 'hpcstream'}: they are in the repository, not in "
            "the installed package; clone it, pip install -e '.[bench]', and call this there"
        )
    arguments = options.arguments or ["--help"]
    return subprocess.run([sys.executable, "-m", "benchmarks", *arguments], cwd=ROOT).returncode
