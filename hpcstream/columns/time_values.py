"""Extracts event times as int64 counts from a column."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from hpcstream.errors import ConnectorError

_SHOWN_ROWS = 5


def event_time_values(array: pa.Array, column: str) -> npt.NDArray[np.int64]:
    """Return the times of a column as counts of the column's unit.

    Parameters
    ----------
    array : pa.Array
        Of type timestamp, int64, date64 (a view is returned) or date32 (a copy).
    column : str
        Its name, for the error.

    Returns
    -------
    int64[n_rows]
        Read-only if it is a view.

    Raises
    ------
    ConnectorError
        The time of a row is null.
    """
    if array.null_count:
        raise ConnectorError(_null_times(array, column))
    if pa.types.is_date32(array.type):
        days: npt.NDArray[np.int32] = array.view(pa.int32()).to_numpy()
        return days.astype(np.int64)
    times: npt.NDArray[np.int64] = array.view(pa.int64()).to_numpy()
    return times


def _null_times(array: pa.Array, column: str) -> str:
    rows = pc.indices_nonzero(array.is_null())
    shown = ", ".join(str(row) for row in rows[:_SHOWN_ROWS].to_pylist())
    more = ", ..." if len(rows) > _SHOWN_ROWS else ""
    return (
        f"event time column {column!r} is null in {len(rows)} of {len(array)} rows of a batch "
        f"(row {shown}{more} of it); every row needs a time: filter them out before the time is "
        "assigned, with .filter(col(...).is_not_null()).with_event_time(...), or fill them"
    )
