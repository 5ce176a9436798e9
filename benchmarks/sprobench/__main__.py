"""``python -m benchmarks.sprobench``; also a script for ``hpcstream run``."""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:
    sys.path[0] = str(Path(__file__).parents[2])

from benchmarks.sprobench.command import main

if __name__ == "__main__":
    sys.exit(main())
