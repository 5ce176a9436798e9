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


def ordered_columns(rows, key, column, half_life, ttl=None):
    """Add a column for each ordered function of one column, from all rows of the key before."""
    found, histories = [], {}
    for row in rows:
        before = histories.setdefault(row[key], [])
        if ttl is not None and before and row["t"] - before[-1]["t"] >= ttl:
            before.clear()
        before.append(row)
        found.append({**row, **_columns_of(before, column, half_life)})
    return {"main": found}


def _columns_of(rows, column, half_life):
    values = [row[column] for row in rows]
    value, known = values[-1], [v for v in values if v is not None]
    back = [values[-1 - n] if len(values) > n else None for n in range(4)]
    mean = time = None
    for row in rows:
        if row[column] is not None:
            weight = 1 if mean is None else 1 - 0.5 ** ((row["t"] - time) / half_life)
            mean = row[column] if mean is None else weight * row[column] + (1 - weight) * mean
            time = row["t"]
    so_far = {"cum_sum": sum(known), "cum_min": min(known, default=None)}
    so_far |= {"cum_max": max(known, default=None), "ewm_mean": mean}
    return {
        "shift": back[1],
        "shift_3": back[3] if len(values) > 3 else -9,
        "diff_2": None if None in (value, back[2]) else value - back[2],
        "forward_fill": known[-1] if known else None,
        "changed": len(values) == 1 or value != back[1],
        "cum_count": len(known),
        **{name: None if value is None else one for name, one in so_far.items()},
    }
