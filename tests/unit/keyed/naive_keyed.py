"""Ordered operators the obvious way: one row after the other, in plain Python.

Each takes rows as dictionaries, in the order of event time, and returns one list of rows for
each output.
"""

from __future__ import annotations

from fractions import Fraction


def deduplicate(rows, key, within):
    """Keep a row if none of its key was kept in (t - within, t]."""
    kept, times = [], {}
    for row in rows:
        before = times.setdefault(row[key], [])
        if within is None:
            is_kept = not before
        else:
            is_kept = not any(row["t"] - within < time <= row["t"] for time in before)
        if is_kept:
            before.append(row["t"])
            kept.append(row)
    return {"main": kept}


def rate_limit(rows, key, n, per, burst):
    """Fill a bucket of each key by n / per tokens a tick."""
    found, buckets = {"main": [], "limited": []}, {}
    for row in rows:
        tokens, time = buckets.get(row[key], (Fraction(burst), row["t"]))
        tokens = min(Fraction(burst), tokens + Fraction(n * (row["t"] - time), per))
        is_through = tokens >= 1
        found["main" if is_through else "limited"].append(row)
        buckets[row[key]] = (tokens - is_through, row["t"])
    return found
