"""``python -m benchmarks.micro``."""

from __future__ import annotations

import sys

from benchmarks.micro.command import main

if __name__ == "__main__":
    sys.exit(main())
