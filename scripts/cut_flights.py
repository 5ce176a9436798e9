"""Cut January 2001 out of the US BTS on-time data into examples/data (run once; for the record).

Usage: python scripts/cut_flights.py FLIGHTS.parquet examples/data/flights-2001-01.parquet

The input has the columns date, delay, distance, origin and destination of the
US Bureau of Transportation Statistics' on-time performance data, a work of the
US government in the public domain.
"""

import datetime as dt
import sys

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq


def main(source: str, goal: str) -> None:
    """Write the month's departures, compactly, in row groups of 65,536."""
    table = pq.read_table(source, filters=[("date", "<", dt.datetime(2001, 2, 1))])
    table = table.sort_by("date")
    columns = {
        "date": table["date"].cast(pa.timestamp("s")).cast(pa.timestamp("ms")),
        "delay": pc.cast(table["delay"], pa.int16()),
        "distance": pc.cast(table["distance"], pa.int16()),
        "origin": table["origin"].cast(pa.string()),
        "destination": table["destination"].cast(pa.string()),
    }
    pq.write_table(
        pa.table(columns),
        goal,
        row_group_size=65_536,
        compression="zstd",
        compression_level=19,
        column_encoding={"date": "DELTA_BINARY_PACKED"},
        use_dictionary=["delay", "distance", "origin", "destination"],
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
