"""Queries over the flights in windows of other kinds; importing this adds them to `QUERIES`."""

from __future__ import annotations

import hpcstream as hs
from hpcstream import col
from hpcstream.api.stream import Stream
from tests.jobs.flights_query import query


def cumulating(size: str, step: str, most: int) -> str:
    """Return SQL for each row once for each window, of ``most`` steps at most, it is in."""
    start = f"time_bucket(INTERVAL '{size}', date, TIMESTAMP '1970-01-01')"
    every = (
        f"(SELECT *, {start} AS window_start, {start} + n * INTERVAL '{step}' AS window_end "
        f"FROM flights, generate_series(1, {most}) AS steps(n))"
    )
    return f"(SELECT * FROM {every} WHERE date < window_end)"


@query(
    "SELECT origin, window_start, window_end, count(*), sum(distance), max(delay) "
    f"FROM {cumulating('1 day', '3 hours', 8)} GROUP BY ALL"
)
def days_so_far(job: hs.Job, flights: Stream) -> Stream:
    return (
        flights.key_by("origin")
        .window(hs.cumulate("1d", "3h"))
        .agg(n=hs.count(), distance=col("distance").sum(), worst=col("delay").max())
    )


# -- sessions --------------------------------------------------------------------------


def sessions(gap: str, keys: str, rows: str = "flights") -> str:
    """Return SQL for rows with the number of the session of their key each is in."""
    by = f"PARTITION BY {keys} " if keys else ""
    begins = (
        f"(SELECT *, coalesce(date - lag(date) OVER ({by}ORDER BY date) >= INTERVAL '{gap}', true) "
        f"AS begins FROM {rows})"
    )
    return f"(SELECT *, sum(begins::INT) OVER ({by}ORDER BY date) AS session FROM {begins})"


@query(
    "SELECT destination, min(date) AS window_start, max(date) + INTERVAL '45 minutes', count(*), "
    f"sum(distance), max(delay) FROM {sessions('45 minutes', 'destination')} "
    "GROUP BY destination, session"
)
def busy_times(job: hs.Job, flights: Stream) -> Stream:
    return (
        flights.key_by("destination")
        .window(hs.session("45min"))
        .agg(n=hs.count(), distance=col("distance").sum(), worst=col("delay").max())
    )


@query(
    "SELECT origin, min(date) AS window_start, max(date) + INTERVAL '2 hours', median(delay) "
    f"FROM {sessions('2 hours', 'origin')} GROUP BY origin, session"
)
def kept_values_of_sessions(job: hs.Job, flights: Stream) -> Stream:
    return flights.key_by("origin").window(hs.session("2h")).agg(delay=col("delay").median())


@query(
    "SELECT min(date) AS window_start, max(date) + INTERVAL '10 minutes', count(*), sum(distance) "
    f"FROM {sessions('10 minutes', '')} GROUP BY session"
)
def sessions_of_all_flights(job: hs.Job, flights: Stream) -> Stream:
    windows = flights.window_all(hs.session("10min"))
    return windows.agg(n=hs.count(), distance=col("distance").sum())


# -- days of a time zone ---------------------------------------------------------------


def local_days(zone: str) -> str:
    """Return SQL for rows with the day of a zone each is in; times are in UTC."""
    local = f"date_trunc('day', timezone('{zone}', timezone('UTC', date)))"
    start, end = (
        f"timezone('UTC', timezone('{zone}', {day}))"
        for day in (local, f"{local} + INTERVAL 1 DAY")
    )
    return f"(SELECT *, {start} AS window_start, {end} AS window_end FROM flights)"


@query(
    "SELECT origin, window_start, window_end, count(*), max(delay) "
    f"FROM {local_days('America/Chicago')} GROUP BY ALL"
)
def days_in_chicago(job: hs.Job, flights: Stream) -> Stream:
    windows = flights.key_by("origin").window(hs.tumbling("1d", tz="America/Chicago"))
    return windows.agg(n=hs.count(), worst=col("delay").max())
