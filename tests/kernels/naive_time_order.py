"""The obvious version of `kernels.time_order`."""

from itertools import pairwise


def order_rows(times, orders, places):
    """Return the numbers of the rows by (time, order, place), ties as they came."""
    places = places if len(places) else [0] * len(times)
    keys = list(zip(times, orders, places, strict=True))
    return sorted(range(len(keys)), key=keys.__getitem__)


def count_runs(times, orders, places):
    """Return into how many runs in order the rows fall."""
    places = places if len(places) else [0] * len(times)
    keys = list(zip(times, orders, places, strict=True))
    return 1 + sum(after < before for before, after in pairwise(keys))
