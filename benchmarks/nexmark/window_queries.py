"""NEXMark queries over windows of event time.

The published q15 to q18 group without a window and emit every change; here they are windows
of a day, whose rows come once, when the day is over: the rows that a change log ends with.
"""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa

import hpcstream as hs
from benchmarks.nexmark.query import Views
from benchmarks.nexmark.stateless_queries import NEXMARK
from hpcstream import Stream, col

_SHIFT = 2**36
_IDS = Decimal(10**11)
_DAILY = "rows come once, at the end of the day, instead of every change"
_WINDOW = "window_start, window_end"


def _tumbling(size: str, view: str = "bid") -> str:
    """Return SQL for the rows of a view with the window each is in."""
    start = f"time_bucket(INTERVAL '{size}', dateTime, TIMESTAMP '1970-01-01')"
    return (
        f"(SELECT *, {start} AS window_start, {start} + INTERVAL '{size}' AS window_end "
        f"FROM {view})"
    )


_SLIDING = """(SELECT auction, window_start, window_start + INTERVAL '10 seconds' AS window_end,
    count(*) AS num FROM (SELECT auction, time_bucket(INTERVAL '2 seconds', dateTime) -
        to_seconds(2 * k) AS window_start FROM bid, range(5) AS steps(k)) GROUP BY ALL)"""


@NEXMARK.add(
    "Hot items",
    {"bid": ("auction", "dateTime")},
    f"SELECT {_WINDOW}, arg_max(auction, (num, auction)) AS auction, max(num) AS num "
    f"FROM {_SLIDING} GROUP BY ALL",
    differs="one auction a window: of those with equally many bids, the one of greatest id; "
    "all of them need a join of windows",
)
def q5(views: Views) -> Stream:
    counts = views["bid"].key_by("auction").window(hs.sliding("10s", "2s")).agg(num=hs.count())
    packed = counts.select("window_start", best=col("num") * _SHIFT + col("auction"))
    # The results of one sliding window have one event time, just before its end.
    best = packed.window_all(hs.tumbling("2s")).agg(
        best=col("best").max(), start=col("window_start").min()
    )
    return best.select(
        col("start").alias("window_start"),
        "window_end",
        (col("best") % _SHIFT).alias("auction"),
        (col("best") // _SHIFT).alias("num"),
    )


@NEXMARK.add(
    "Highest bid",
    {"bid": ("auction", "bidder", "price", "dateTime")},
    f"SELECT {_WINDOW}, max(price) AS price, arg_max(auction, (price, auction, bidder)) AS "
    "auction, arg_max(bidder, (price, auction, bidder)) AS bidder "
    f"FROM {_tumbling('10 seconds')} GROUP BY ALL",
    differs="one bid a window: of those of equal price, that of greatest auction and bidder; "
    "without dateTime and extra, which need a join of windows",
)
def q7(views: Views) -> Stream:
    packed = views["bid"].select("auction", best=col("price") * _SHIFT + col("bidder"))
    each = packed.key_by("auction").window(hs.tumbling("10s")).agg(best=col("best").max())
    price = _digits(col("best") // _SHIFT, 9)
    auction, bidder = _digits(col("auction"), 11), _digits(col("best") % _SHIFT, 11)
    ranked = each.select(rank=(price * _IDS + auction) * _IDS + bidder)
    best = ranked.window_all(hs.tumbling("10s")).agg(rank=col("rank").max())
    return best.map_batches(_unpack_rank, _RANKED)


def _digits(number: hs.Expression, n: int) -> hs.Expression:
    """Return an integer as a decimal of so many digits."""
    return number.cast(pa.decimal128(19)).cast(pa.decimal128(n))


_RANKED = pa.schema(
    [
        ("window_start", pa.timestamp("ms")),
        ("window_end", pa.timestamp("ms")),
        ("price", pa.int64()),
        ("auction", pa.int64()),
        ("bidder", pa.int64()),
    ]
)


def _unpack_rank(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Return price, auction and bidder of the few rows that windows end with."""
    ranks = [int(rank) for rank in batch["rank"].to_pylist()]
    ids = int(_IDS)
    columns = [
        batch["window_start"],
        batch["window_end"],
        pa.array([rank // ids**2 for rank in ranks], pa.int64()),
        pa.array([rank // ids % ids for rank in ranks], pa.int64()),
        pa.array([rank % ids for rank in ranks], pa.int64()),
    ]
    return pa.record_batch(columns, schema=_RANKED)


@NEXMARK.add(
    "Monitor new users",
    {"person": ("id", "name", "dateTime"), "auction": ("seller", "dateTime")},
    "SELECT p.id, p.name, p.window_start FROM (SELECT DISTINCT id, name, window_start "
    f"FROM {_tumbling('10 seconds', 'person')}) AS p JOIN (SELECT DISTINCT seller, window_start "
    f"FROM {_tumbling('10 seconds', 'auction')}) AS a "
    "ON p.id = a.seller AND p.window_start = a.window_start",
    differs="the join of windows is said as a union that is counted by kind",
)
def q8(views: Views) -> Stream:
    name = views["person"].schema.field("name").type
    people = views["person"].select("id", "name", sold=hs.lit(0, "int64"))
    sellers = views["auction"].select(
        col("seller").alias("id"), hs.lit(None, name).alias("name"), sold=hs.lit(1, "int64")
    )
    each = people.union(sellers).key_by("id").window(hs.tumbling("10s"))
    found = each.agg(name=col("name").max(), people=col("name").count(), sold=col("sold").sum())
    both = found.filter((col("people") > 0) & (col("sold") > 0))
    return both.select("id", "name", "window_start")


_SESSIONS = """(SELECT bidder, dateTime, sum(begins::INT) OVER keys AS session FROM (
        SELECT *, coalesce(dateTime - lag(dateTime) OVER keys >= INTERVAL '10 seconds', true)
        AS begins FROM bid WINDOW keys AS (PARTITION BY bidder ORDER BY dateTime))
    WINDOW keys AS (PARTITION BY bidder ORDER BY dateTime))"""


@NEXMARK.add(
    "User sessions",
    {"bid": ("bidder", "dateTime")},
    "SELECT bidder, min(dateTime) AS starttime, max(dateTime) + INTERVAL '10 seconds' AS endtime, "
    f"count(*) AS bid_count FROM {_SESSIONS} GROUP BY bidder, session",
    differs="bids just 10 s apart are of two sessions",
)
def q11(views: Views) -> Stream:
    sessions = views["bid"].key_by("bidder").window(hs.session("10s"))
    counts = sessions.agg(bid_count=hs.count())
    return counts.rename(window_start="starttime", window_end="endtime")


@NEXMARK.add(
    "Processing time windows",
    {"bid": ("bidder", "dateTime")},
    f"SELECT bidder, {_WINDOW}, count(*) AS bid_count FROM {_tumbling('10 seconds')} GROUP BY ALL",
    differs="windows of event time: those of processing time are to come, and repeat nothing",
)
def q12(views: Views) -> Stream:
    windows = views["bid"].key_by("bidder").window(hs.tumbling("10s"))
    return windows.agg(bid_count=hs.count())


_RANKS = {
    "rank1": "price < 10000",
    "rank2": "price >= 10000 AND price < 1000000",
    "rank3": "price >= 1000000",
}


def _of_rank(value: hs.Expression, rank: str) -> hs.Expression:
    """Return the value where the price is of a rank, else null."""
    price = col("price")
    condition = {
        "rank1": price < 10_000,
        "rank2": (price >= 10_000) & (price < 1_000_000),
        "rank3": price >= 1_000_000,
    }[rank]
    return hs.when(condition).then(value).otherwise(None)


def _statistics(names: tuple[str, ...]) -> dict[str, hs.AggregateCall]:
    """Return counts of bids, then of distinct values of columns, in all and by rank of price."""
    found = {"total_bids": hs.count()}
    found |= {f"{rank}_bids": _of_rank(col("price"), rank).count() for rank in _RANKS}
    for name in names:
        found[f"total_{name}s"] = col(name).count_distinct()
        for rank in _RANKS:
            found[f"{rank}_{name}s"] = _of_rank(col(name), rank).count_distinct()
    return found


def _statistics_sql(names: tuple[str, ...]) -> str:
    found = ["count(*) AS total_bids"]
    found += [f"count(*) FILTER (WHERE {sql}) AS {rank}_bids" for rank, sql in _RANKS.items()]
    for name in names:
        found.append(f"count(DISTINCT {name}) AS total_{name}s")
        found += [
            f"count(DISTINCT {name}) FILTER (WHERE {sql}) AS {rank}_{name}s"
            for rank, sql in _RANKS.items()
        ]
    return ", ".join(found)


_DISTINCT = ("bidder", "auction")


@NEXMARK.add(
    "Bidding statistics report",
    {"bid": ("auction", "bidder", "price", "dateTime")},
    "SELECT strftime(window_start, '%Y-%m-%d') AS day, * EXCLUDE (window_start) FROM (SELECT "
    f"window_start, {_statistics_sql(_DISTINCT)} FROM {_tumbling('1 day')} GROUP BY ALL)",
    differs=_DAILY,
)
def q15(views: Views) -> Stream:
    days = views["bid"].window_all(hs.tumbling("1d")).agg(**_statistics(_DISTINCT))
    return _with_day(days)


@NEXMARK.add(
    "Channel statistics report",
    {"bid": ("auction", "bidder", "price", "channel", "dateTime")},
    "SELECT strftime(window_start, '%Y-%m-%d') AS day, strftime(last, '%H:%M') AS minute, "
    "* EXCLUDE (window_start, last) FROM (SELECT channel, window_start, max(dateTime) AS last, "
    f"{_statistics_sql(_DISTINCT)} FROM {_tumbling('1 day')} GROUP BY ALL)",
    differs=_DAILY,
)
def q16(views: Views) -> Stream:
    days = views["bid"].key_by("channel").window(hs.tumbling("1d"))
    found = days.agg(last=col("dateTime").max(), **_statistics(_DISTINCT))
    return _with_day(found.with_columns(minute=col("last").dt.strftime("%H:%M")).drop("last"))


@NEXMARK.add(
    "Auction statistics report",
    {"bid": ("auction", "price", "dateTime")},
    "SELECT strftime(window_start, '%Y-%m-%d') AS day, * EXCLUDE (window_start) FROM (SELECT "
    f"auction, window_start, {_statistics_sql(())}, min(price) AS min_price, "
    "max(price) AS max_price, avg(price) AS avg_price, sum(price) AS sum_price "
    f"FROM {_tumbling('1 day')} GROUP BY ALL)",
    differs=f"{_DAILY}; the average is a float",
)
def q17(views: Views) -> Stream:
    price = col("price")
    days = views["bid"].key_by("auction").window(hs.tumbling("1d"))
    return _with_day(
        days.agg(
            **_statistics(()),
            min_price=price.min(),
            max_price=price.max(),
            avg_price=price.mean(),
            sum_price=price.sum(),
        )
    )


_LAST = ("price", "channel", "url", "extra")


@NEXMARK.add(
    "Find last bid",
    {"bid": ("event", "auction", "bidder", "dateTime", *_LAST)},
    "SELECT auction, bidder, max(dateTime) AS dateTime, "
    + ", ".join(f"arg_max({name}, (dateTime, event)) AS {name}" for name in _LAST)
    + f" FROM {_tumbling('1 day')} GROUP BY auction, bidder, window_start",
    differs=_DAILY,
)
def q18(views: Views) -> Stream:
    days = views["bid"].key_by("bidder", "auction").window(hs.tumbling("1d"))
    last = days.agg(dateTime=col("dateTime").max(), **{name: col(name).last() for name in _LAST})
    return last.select("auction", "bidder", "dateTime", *_LAST)


def _with_day(days: Stream) -> Stream:
    """Name the day as the published queries do, in place of its window."""
    day = col("window_start").dt.strftime("%Y-%m-%d")
    return days.with_columns(day=day).drop("window_start", "window_end")
