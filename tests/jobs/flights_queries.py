"""Queries over the flights data, each as a job and as SQL: all of them are in `QUERIES`."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa

import hpcstream as hs
from hpcstream import col
from hpcstream.api.stream import Stream
from tests.jobs import flights_windows
from tests.jobs.flights_query import (
    AIRPORTS,
    HUBS,
    QUERIES,
    ROUTES,
    TABLES,
    Query,
    query,
    sliding,
    tumbling,
)

__all__ = ["QUERIES", "TABLES", "Query", "flights_windows"]

# -- tumbling windows ------------------------------------------------------------------


@query(
    "SELECT origin, window_start, window_end, count(*), avg(delay), max(delay), "
    f"sum(CASE WHEN delay > 15 THEN 1 ELSE 0 END) FROM {tumbling('1 day')} "
    "WHERE delay > -120 GROUP BY ALL"
)
def airport_delays(job: hs.Job, flights: Stream) -> Stream:
    return (
        flights.filter(col("delay") > -120)
        .key_by("origin")
        .window(hs.tumbling("1d"))
        .agg(
            flights=hs.count(),
            mean_delay=col("delay").mean(),
            worst=col("delay").max(),
            late=hs.when(col("delay") > 15).then(1).otherwise(0).sum(),
        )
    )


@query(
    "SELECT destination, window_start, window_end, sum(distance), min(delay), count(delay) "
    f"FROM {tumbling('1 day', '5 hours')} GROUP BY ALL"
)
def days_that_begin_at_five(job: hs.Job, flights: Stream) -> Stream:
    days = flights.key_by("destination").window(hs.tumbling("1d", offset="5h"))
    return days.agg(
        distance=col("distance").sum(), least=col("delay").min(), n=col("delay").count()
    )


@query(
    "SELECT distance, window_start, window_end, count(*), sum(delay), avg(delay * 1.5 + 1) "
    f"FROM {tumbling('7 hours')} GROUP BY ALL"
)
def seven_hours_by_an_int16_key(job: hs.Job, flights: Stream) -> Stream:
    windows = flights.key_by("distance").window(hs.tumbling("7h"))
    return windows.agg(
        n=hs.count(), delay=col("delay").sum(), scaled=(col("delay") * 1.5 + 1).mean()
    )


@query(
    "SELECT origin, destination, window_start, window_end, count(*), sum(distance), min(delay) "
    f"FROM {tumbling('3 days', '1 day')} GROUP BY ALL"
)
def routes_by_two_strings(job: hs.Job, flights: Stream) -> Stream:
    windows = flights.key_by("origin", "destination").window(hs.tumbling("3d", offset="1d"))
    return windows.agg(n=hs.count(), distance=col("distance").sum(), least=col("delay").min())


@query(
    "SELECT hub, window_start, window_end, count(*), max(distance) FROM (SELECT *, CASE WHEN "
    f"origin IN {tuple(HUBS)} THEN origin END AS hub FROM {tumbling('6 hours')}) GROUP BY ALL"
)
def hubs_and_a_null_key(job: hs.Job, flights: Stream) -> Stream:
    hub = hs.when(col("origin").is_in(HUBS)).then(col("origin")).otherwise(None)
    windows = flights.with_columns(hub=hub).key_by("hub").window(hs.tumbling("6h"))
    return windows.agg(n=hs.count(), farthest=col("distance").max())


@query(
    "SELECT band, hub, window_start, window_end, count(*), sum(delay) FROM (SELECT *, CASE WHEN "
    "delay > 0 THEN delay // 10 END AS band, CASE WHEN origin = 'ATL' THEN NULL ELSE origin < 'M' "
    f"END AS hub FROM {tumbling('12 hours')}) GROUP BY ALL"
)
def null_integers_and_null_booleans_as_keys(job: hs.Job, flights: Stream) -> Stream:
    band = hs.when(col("delay") > 0).then((col("delay") // 10).cast("int32")).otherwise(None)
    hub = hs.when(col("origin") == "ATL").then(None).otherwise(col("origin") < "M")
    keyed = flights.with_columns(band=band, hub=hub).key_by("band", "hub")
    return keyed.window(hs.tumbling("12h")).agg(n=hs.count(), delay=col("delay").sum())


@query(
    "SELECT CAST(date AS DATE) AS day, window_start, window_end, count(*), avg(distance) "
    f"FROM {tumbling('9 hours')} GROUP BY ALL"
)
def a_date_as_key(job: hs.Job, flights: Stream) -> Stream:
    keyed = flights.with_columns(day=col("date").dt.date()).key_by("day")
    return keyed.window(hs.tumbling("9h")).agg(n=hs.count(), mean=col("distance").mean())


@query(
    "SELECT date_trunc('hour', date) AS hour, delay > 15 AS is_late, window_start, window_end, "
    f"count(*), min(distance) FROM {tumbling('1 day')} GROUP BY ALL"
)
def a_timestamp_and_a_boolean_as_keys(job: hs.Job, flights: Stream) -> Stream:
    hour, is_late = col("date").dt.truncate("1h"), col("delay") > 15
    keyed = flights.with_columns(hour=hour, is_late=is_late).key_by("hour", "is_late")
    return keyed.window(hs.tumbling("1d")).agg(n=hs.count(), least=col("distance").min())


@query(
    "SELECT CAST(distance AS DECIMAL(9, 2)) AS miles, window_start, window_end, count(*), "
    f"sum(delay) FROM {tumbling('2 days')} GROUP BY ALL"
)
def a_decimal_as_key(job: hs.Job, flights: Stream) -> Stream:
    keyed = flights.with_columns(
        miles=col("distance").cast("int16").cast(pa.decimal128(9, 2))
    ).key_by("miles")
    return keyed.window(hs.tumbling("2d")).agg(n=hs.count(), delay=col("delay").sum())


@query(
    "SELECT origin, window_start, window_end, count(*), count(x), sum(x), avg(x), min(x), max(x), "
    "stddev_samp(x) FROM (SELECT *, CASE WHEN delay BETWEEN 60 AND 90 THEN delay END AS x "
    f"FROM {tumbling('1 day')}) GROUP BY ALL"
)
def aggregates_of_mostly_null_values(job: hs.Job, flights: Stream) -> Stream:
    x = hs.when(col("delay").is_between(60, 90)).then(col("delay")).otherwise(None)
    windows = flights.with_columns(x=x).key_by("origin").window(hs.tumbling("1d"))
    x = col("x")
    return windows.agg(
        rows=hs.count(), n=x.count(), sum=x.sum(), mean=x.mean(), min=x.min(), max=x.max(),
        std=x.std(),
    )  # fmt: skip


# -- sliding windows -------------------------------------------------------------------


@query(
    "SELECT origin, window_start, window_end, count(*), avg(delay), min(delay), max(delay), "
    f"sum(distance) FROM {sliding('7 days', '1 day', 7)} GROUP BY ALL"
)
def weeks_by_the_day(job: hs.Job, flights: Stream) -> Stream:
    delay = col("delay")
    return (
        flights.key_by("origin")
        .window(hs.sliding("7d", "1d"))
        .agg(
            n=hs.count(),
            mean=delay.mean(),
            least=delay.min(),
            worst=delay.max(),
            distance=col("distance").sum(),
        )
    )


@query(
    "SELECT destination, window_start, window_end, count(*), sum(delay / 60) "
    f"FROM {sliding('10 hours', '4 hours', 3)} WHERE distance >= 500 GROUP BY ALL"
)
def sizes_that_are_no_multiples(job: hs.Job, flights: Stream) -> Stream:
    windows = flights.filter(col("distance") >= 500).key_by("destination")
    windows = windows.window(hs.sliding("10h", "4h"))
    return windows.agg(n=hs.count(), hours=(col("delay") / 60).sum())


# -- aggregates ------------------------------------------------------------------------


@query(
    "SELECT destination, window_start, window_end, var_samp(delay), stddev_samp(delay), "
    f"var_pop(delay), stddev_pop(distance * 0.1) FROM {tumbling('1 day')} GROUP BY ALL"
)
def variances(job: hs.Job, flights: Stream) -> Stream:
    delay = col("delay")
    windows = flights.key_by("destination").window(hs.tumbling("1d"))
    return windows.agg(
        var=delay.var(),
        std=delay.std(),
        var_pop=delay.var(ddof=0),
        std_pop=(col("distance") * 0.1).std(ddof=0),
    )


@query(
    "SELECT origin, window_start, window_end, arg_min(delay, (date, row)), "
    "arg_max(delay, (date, row)), arg_min(distance / 4, (date, row)), "
    f"arg_max(date, (date, row)) FROM {tumbling('5 hours')} GROUP BY ALL"
)
def first_and_last_of_many_equal_times(job: hs.Job, flights: Stream) -> Stream:
    delay = col("delay")
    windows = flights.key_by("origin").window(hs.tumbling("5h"))
    return windows.agg(
        first=delay.first(),
        last=delay.last(),
        quarter=(col("distance") / 4).first(),
        last_time=col("date").last(),
    )


@query(
    "SELECT distance, window_start, window_end, arg_min(origin, (date, row)), "
    "arg_max(destination, (date, row)), min(origin), max(destination) "
    f"FROM {tumbling('4 days')} GROUP BY ALL"
)
def first_last_least_and_greatest_of_strings(job: hs.Job, flights: Stream) -> Stream:
    windows = flights.key_by("distance").window(hs.tumbling("4d"))
    return windows.agg(
        first=col("origin").first(),
        last=col("destination").last(),
        least=col("origin").min(),
        greatest=col("destination").max(),
    )


@query(
    "SELECT origin, window_start, window_end, count(DISTINCT destination), "
    f"count(DISTINCT delay), count(DISTINCT date) FROM {tumbling('1 day')} GROUP BY ALL"
)
def distinct_values(job: hs.Job, flights: Stream) -> Stream:
    windows = flights.key_by("origin").window(hs.tumbling("1d"))
    return windows.agg(
        destinations=col("destination").count_distinct(),
        delays=col("delay").count_distinct(),
        times=col("date").count_distinct(),
    )


@query(
    "SELECT destination, window_start, window_end, count(*), median(delay), "
    "quantile_cont(delay, 0.9), quantile_cont(distance / 7, 0.25), quantile_cont(delay, 0), "
    f"quantile_cont(delay, 1) FROM {tumbling('2 days')} GROUP BY ALL"
)
def exact_quantiles(job: hs.Job, flights: Stream) -> Stream:
    delay = col("delay")
    windows = flights.key_by("destination").window(hs.tumbling("2d"))
    return windows.agg(
        n=hs.count(),
        median=delay.median(),
        high=delay.quantile(0.9),
        low=(col("distance") / 7).quantile(0.25),
        least=delay.quantile(0),
        greatest=delay.quantile(1),
    )


@query(
    "SELECT origin, window_start, window_end, median(delay), count(DISTINCT destination), "
    "stddev_samp(delay), arg_max(delay, (date, row)) "
    f"FROM {sliding('36 hours', '1 day', 2)} GROUP BY ALL"
)
def sliding_windows_of_every_kind_of_state(job: hs.Job, flights: Stream) -> Stream:
    windows = flights.key_by("origin").window(hs.sliding("36h", "1d"))
    return windows.agg(
        median=col("delay").median(),
        destinations=col("destination").count_distinct(),
        std=col("delay").std(),
        last=col("delay").last(),
    )


@query(
    "SELECT origin, window_start, window_end, sum(fare), min(fare), max(fare) FROM (SELECT *, "
    f"CAST(distance AS DECIMAL(9, 2)) * 0.25 AS fare FROM {tumbling('1 day')}) GROUP BY ALL"
)
def decimals_to_sum(job: hs.Job, flights: Stream) -> Stream:
    fare = (col("distance").cast("int16").cast(pa.decimal128(9, 2)) * Decimal("0.25")).cast(
        pa.decimal128(18, 4)
    )
    windows = flights.with_columns(fare=fare).key_by("origin").window(hs.tumbling("1d"))
    fare = col("fare")
    return windows.agg(sum=fare.sum(), min=fare.min(), max=fare.max())


# -- without a key ---------------------------------------------------------------------


@query(
    "SELECT window_start, window_end, count(*), sum(distance), min(delay), max(delay), avg(delay) "
    f"FROM {tumbling('1 hour')} GROUP BY ALL"
)
def all_flights_by_the_hour(job: hs.Job, flights: Stream) -> Stream:
    delay = col("delay")
    return flights.window_all(hs.tumbling("1h")).agg(
        n=hs.count(),
        distance=col("distance").sum(),
        least=delay.min(),
        worst=delay.max(),
        mean=delay.mean(),
    )


@query(
    "SELECT window_start, window_end, count(*), sum(delay / 60), stddev_samp(delay), "
    "arg_min(origin, (date, row)), count(DISTINCT origin), median(delay) "
    f"FROM {sliding('1 day', '6 hours', 4)} WHERE delay > 30 GROUP BY ALL"
)
def all_delayed_flights_in_sliding_days(job: hs.Job, flights: Stream) -> Stream:
    delay = col("delay")
    return (
        flights.filter(delay > 30)
        .window_all(hs.sliding("1d", "6h"))
        .agg(
            n=hs.count(),
            hours=(delay / 60).sum(),
            std=delay.std(),
            first=col("origin").first(),
            airports=col("origin").count_distinct(),
            median=delay.median(),
        )
    )


# -- other operators -------------------------------------------------------------------


@query(
    "SELECT region, window_start, window_end, count(*), avg(delay) FROM airports "
    f"JOIN {tumbling('1 day')} ON origin = airport GROUP BY ALL"
)
def regions_from_a_table(job: hs.Job, flights: Stream) -> Stream:
    joined = flights.join_table(AIRPORTS, left_on="origin", right_on="airport")
    windows = joined.key_by("region").window(hs.tumbling("1d"))
    return windows.agg(n=hs.count(), mean=col("delay").mean())


@query(
    "SELECT fare, window_start, window_end, count(*), max(distance) FROM "
    f"{tumbling('1 day')} LEFT JOIN routes USING (origin, destination) GROUP BY ALL"
)
def fares_where_the_table_has_them(job: hs.Job, flights: Stream) -> Stream:
    joined = flights.join_table(ROUTES, on=["origin", "destination"], how="left")
    windows = joined.key_by("fare").window(hs.tumbling("1d"))
    return windows.agg(n=hs.count(), farthest=col("distance").max())


_MOVES = (
    "(SELECT date, origin AS airport, 1 AS departures FROM flights UNION ALL "
    "SELECT date, destination, 0 FROM flights WHERE delay < 30)"
)


@query(
    "SELECT airport, window_start, window_end, count(*), sum(departures) "
    f"FROM {tumbling('8 hours', rows=_MOVES)} GROUP BY ALL"
)
def departures_and_arrivals_united(job: hs.Job, flights: Stream) -> Stream:
    leave = flights.select(airport=col("origin"), departures=hs.lit(1))
    arrive = flights.filter(col("delay") < 30)
    arrive = arrive.select(airport=col("destination"), departures=hs.lit(0))
    windows = leave.union(arrive).key_by("airport").window(hs.tumbling("8h"))
    return windows.agg(moves=hs.count(), departures=col("departures").sum())


_LEFT = "(SELECT *, date + delay * INTERVAL '1 minute' AS left_at FROM flights)"


@query(
    "SELECT origin, window_start, window_end, count(*), avg(distance), "
    "arg_min(delay, (left_at, row)) "
    f"FROM {tumbling('3 hours', rows=_LEFT, time='left_at')} GROUP BY ALL",
    needs_order=True,
)
def departures_by_the_time_they_really_left(job: hs.Job, flights: Stream) -> Stream:
    minutes = (col("delay").cast("int64") * 60_000).cast(pa.duration("ms"))
    left = flights.with_columns(left_at=col("date").cast("timestamp[ms]") + minutes)
    timed = left.with_event_time("left_at", watermark_delay="3d")
    windows = timed.key_by("origin").window(hs.tumbling("3h"))
    return windows.agg(n=hs.count(), mean=col("distance").mean(), first=col("delay").first())


_HOURLY = (
    "(SELECT origin, window_start AS date, count(*) AS n, avg(delay) AS mean "
    f"FROM {tumbling('1 hour')} GROUP BY ALL)"
)


@query(
    "SELECT origin, window_start, window_end, max(n), sum(n), avg(mean), count(*) "
    f"FROM {tumbling('1 day', rows=_HOURLY)} GROUP BY ALL"
)
def busiest_hour_of_each_day(job: hs.Job, flights: Stream) -> Stream:
    hourly = flights.key_by("origin").window(hs.tumbling("1h"))
    hourly = hourly.agg(n=hs.count(), mean=col("delay").mean())
    n = col("n")
    daily = hourly.key_by("origin").window(hs.tumbling("1d"))
    return daily.agg(busiest=n.max(), all=n.sum(), mean=col("mean").mean(), hours=hs.count())


@query(
    "SELECT window_start, window_end, max(n), count(*) "
    f"FROM {tumbling('6 hours', rows=_HOURLY)} GROUP BY ALL"
)
def busiest_airport_of_all(job: hs.Job, flights: Stream) -> Stream:
    hourly = flights.key_by("origin").window(hs.tumbling("1h")).agg(n=hs.count())
    return hourly.window_all(hs.tumbling("6h")).agg(busiest=col("n").max(), airports=hs.count())


@query(
    'SELECT "from", "to", window_start, window_end, sum(km) FROM (SELECT origin AS "from", '
    'destination AS "to", round(distance * 1.609, 1) AS km, window_start, window_end FROM '
    f"{tumbling('1 day')} WHERE origin LIKE 'S%' AND destination NOT IN {tuple(HUBS)}) GROUP BY ALL"
)
def columns_renamed_dropped_and_chosen(job: hs.Job, flights: Stream) -> Stream:
    km = (col("distance") * 1.609).round(1)
    chosen = (
        flights.with_columns(km=km)
        .drop("distance", "delay")
        .rename({"origin": "from", "destination": "to"})
        .filter(col("from").str.starts_with("S") & ~col("to").is_in(HUBS))
        .select("from", "to", "km")
    )
    return chosen.key_by("from", "to").window(hs.tumbling("1d")).agg(km=col("km").sum())


@query(
    "SELECT state, window_start, window_end, count(*), sum(delay) FROM (SELECT *, "
    f"lower(substr(origin, 1, 1)) AS state FROM {tumbling('1 day')}) GROUP BY ALL"
)
def batches_mapped_by_a_function(job: hs.Job, flights: Stream) -> Stream:
    def add_state(batch: pa.RecordBatch) -> pa.RecordBatch:
        state = [name[0].lower() for name in batch["origin"].to_pylist()]
        return batch.append_column("state", pa.array(state, pa.string()))

    windows = flights.map_batches(add_state).key_by("state").window(hs.tumbling("1d"))
    return windows.agg(n=hs.count(), delay=col("delay").sum())


@query(
    "SELECT origin, part, window_start, window_end, count(*) FROM (SELECT *, "
    "unnest(range(0, delay // 300)) AS part FROM "
    f"{tumbling('1 day')} WHERE delay >= 600) GROUP BY ALL"
)
def rows_turned_into_several(job: hs.Job, flights: Stream) -> Stream:
    schema = pa.schema(
        [("date", pa.timestamp("us")), ("origin", pa.string()), ("part", pa.int32())]
    )

    def split(row: dict) -> list[dict]:
        return [{**row, "part": part} for part in range(row.pop("delay") // 300)]

    long = flights.filter(col("delay") >= 600).select("date", "origin", "delay")
    schema = schema.set(0, flights.schema.field("date"))
    windows = long.flat_map(split, schema).key_by("origin", "part").window(hs.tumbling("1d"))
    return windows.agg(n=hs.count())


@query(
    "SELECT origin, window_start, window_end, count(*), avg(delay) "
    f"FROM {tumbling('1 day')} WHERE distance > 100 AND delay <> 0 GROUP BY ALL"
)
def a_pipeline_of_rank_groups(job: hs.Job, flights: Stream) -> Stream:
    chosen = flights.on(ranks=[0, 2]).filter(col("distance") > 100).filter(col("delay") != 0)
    windows = chosen.on(ranks=[1, 2]).key_by("origin").window(hs.tumbling("1d"))
    return (
        windows.agg(n=hs.count(), mean=col("delay").mean())
        .on(ranks=[3])
        .select("origin", "window_start", "window_end", "n", "mean")
    )


@query(
    "SELECT origin, destination, window_start, window_end, count(*) "
    f"FROM {tumbling('1 day')} WHERE delay > 200 GROUP BY ALL"
)
def rebalanced_on_the_way(job: hs.Job, flights: Stream) -> Stream:
    rare = flights.filter(col("delay") > 200).rebalance()
    return rare.key_by("origin", "destination").window(hs.tumbling("1d")).agg(n=hs.count())


@query(
    "SELECT row_number() OVER (ORDER BY row) * 0, date, delay - 1, origin || '-' || destination "
    "FROM flights WHERE delay > 300 AND (distance < 400 OR origin = 'ORD')"
)
def rows_that_only_pass_through(job: hs.Job, flights: Stream) -> Stream:
    short = (col("distance") < 400) | (col("origin") == "ORD")
    return flights.filter((col("delay") > 300) & short).select(
        hs.lit(0).alias("zero"),
        "date",
        earlier=col("delay") - 1,
        route=col("origin") + "-" + col("destination"),
    )
