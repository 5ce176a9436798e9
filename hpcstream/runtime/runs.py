"""Splits dealt to ranks in runs of neighbours; see `hpcstream.runtime.dealing`."""

from __future__ import annotations

from collections.abc import Sequence

_LEAST_RUNS = 8  # of a rank, where there are splits enough: one run more or less is little


def dealt_to(place: int, places: int, split_rows: Sequence[int | None], run_rows: int) -> list[int]:
    """Return the numbers of the splits that one of several ranks reads, in reading order.

    Parameters
    ----------
    place, places : int
        Of the rank among those that read.
    split_rows : sequence of (int or None)
        Rows of each split, in order; None, not known: the split is a run of its own.
    run_rows : int
        A run ends with the split that brings it to so many rows; earlier if a rank would
        else have less than eight runs. 0: every split is a run.
    """
    known = sum(rows or 0 for rows in split_rows)
    enough = min(run_rows, known // (places * _LEAST_RUNS))
    mine: list[int] = []
    run = rows_of_run = 0
    for number, rows in enumerate(split_rows):
        if run % places == place:
            mine.append(number)
        rows_of_run += enough if rows is None else rows
        if rows_of_run >= enough:
            run, rows_of_run = run + 1, 0
    return mine
