"""Splits dealt to ranks in runs of neighbours; see `hpcstream.runtime.run.assignment`."""

from __future__ import annotations

from collections.abc import Sequence

_LEAST_RUNS = 8  # of a rank, where there are splits enough: one run more or less is little
_MOST_SPLITS = 512  # in a run: to open one takes time, too, whatever is in it


def dealt_to(place: int, places: int, split_rows: Sequence[int | None], run_rows: int) -> list[int]:
    """Return the numbers of the splits that one of several ranks reads, in reading order.

    Parameters
    ----------
    place, places : int
        Of the rank among those that read.
    split_rows : sequence of (int or None)
        Rows of each split, in order; None, not known: the split is a run of its own.
    run_rows : int
        A run ends with the split that brings it to so many rows, or is the 512th; earlier if
        a rank would else have less than eight runs. 0: every split is a run.
    """
    weights = [None if rows is None else max(rows, run_rows // _MOST_SPLITS) for rows in split_rows]
    known = sum(weight or 0 for weight in weights)
    enough = min(run_rows, known // (places * _LEAST_RUNS))
    mine: list[int] = []
    run = of_run = 0
    for number, weight in enumerate(weights):
        if run % places == place:
            mine.append(number)
        of_run += enough if weight is None else weight
        if of_run >= enough:
            run, of_run = run + 1, 0
    return mine
