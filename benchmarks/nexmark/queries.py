"""All queries of NEXMark: those that run, and what the others wait for."""

from __future__ import annotations

import benchmarks.nexmark.window_queries  # noqa: F401  it adds its queries
from benchmarks.nexmark.stateless_queries import NEXMARK

QUERIES = dict(sorted(NEXMARK.queries.items(), key=lambda item: int(item[0][1:])))
"""Those that run, by name."""

_JOIN = "a join of two streams by key, without windows"
_WINNING = "a join of bids to auctions by key and time interval (winning bids)"

MISSING = {
    "q3": ("Local item suggestion", _JOIN),
    "q4": ("Average price for a category", f"{_WINNING}, then an average that is updated"),
    "q6": (
        "Average selling price by seller",
        f"{_WINNING}, then a mean over the last 10 rows of a key (count windows)",
    ),
    "q9": ("Winning bids", _WINNING),
    "q19": ("Auction top 10 price", "the aggregate top_k, or a process function"),
    "q20": ("Expand bid with auction", _JOIN),
}
"""Those that do not, each with its title and what is missing."""
