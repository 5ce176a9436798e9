"""``python -m benchmarks``: what ``make bench`` and ``hpcstream bench`` call."""

from __future__ import annotations

import sys

from benchmarks.command import main

sys.exit(main())
