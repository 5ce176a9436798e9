"""NEXMark queries that look at one bid at a time."""

from __future__ import annotations

from decimal import Decimal

import pyarrow as pa

import hpcstream as hs
from benchmarks.nexmark.query import Suite, Views
from hpcstream import Stream, col

NEXMARK = Suite("nexmark")

SIDE_ROWS = 10_000
SIDE_INPUT = pa.table({"key": list(range(SIDE_ROWS)), "value": list(map(str, range(SIDE_ROWS)))})
"""What the published side input generator writes: each number beside itself as text."""

_BID = ("auction", "bidder", "price", "dateTime", "extra")
_CHANNEL = ("auction", "bidder", "price", "channel")
_CHANNEL_ID = "(&|^)channel_id=([^&]*)"


@NEXMARK.add("Pass through", {"bid": _BID}, f"SELECT {', '.join(_BID)} FROM bid")
def q0(views: Views) -> Stream:
    return views["bid"].select(*_BID)


@NEXMARK.add(
    "Currency conversion",
    {"bid": _BID},
    "SELECT auction, bidder, CAST(0.908 * price AS DECIMAL(23, 3)) AS price, dateTime, extra "
    "FROM bid",
)
def q1(views: Views) -> Stream:
    return views["bid"].select("auction", "bidder", _euros().alias("price"), "dateTime", "extra")


@NEXMARK.add(
    "Selection",
    {"bid": ("auction", "price")},
    "SELECT auction, price FROM bid WHERE auction % 123 = 0",
)
def q2(views: Views) -> Stream:
    return views["bid"].filter(col("auction") % 123 == 0).select("auction", "price")


@NEXMARK.add(
    "Log to file system",
    {"bid": _BID},
    f"SELECT {', '.join(_BID)}, strftime(dateTime, '%Y-%m-%d') AS dt, "
    "strftime(dateTime, '%H:%M') AS hm FROM bid",
    differs="one folder of Parquet files; sinks that partition by dt and hm are to come",
    writes_files=True,
)
def q10(views: Views) -> Stream:
    time = col("dateTime").dt
    return views["bid"].select(*_BID, dt=time.strftime("%Y-%m-%d"), hm=time.strftime("%H:%M"))


@NEXMARK.add(
    "Bounded side input join",
    {"bid": ("auction", "bidder", "price", "dateTime")},
    "SELECT auction, bidder, price, dateTime, value "
    f"FROM bid JOIN side_input ON auction % {SIDE_ROWS} = key",
    tables={"side_input": SIDE_INPUT},
)
def q13(views: Views) -> Stream:
    keyed = views["bid"].with_columns(key=col("auction") % SIDE_ROWS)
    joined = keyed.join_table(SIDE_INPUT, on="key")
    return joined.select("auction", "bidder", "price", "dateTime", "value")


@NEXMARK.add(
    "Calculation",
    {"bid": _BID},
    """SELECT auction, bidder, CAST(0.908 * price AS DECIMAL(23, 3)) AS price,
        CASE WHEN hour(dateTime) >= 8 AND hour(dateTime) <= 18 THEN 'dayTime'
            WHEN hour(dateTime) <= 6 OR hour(dateTime) >= 20 THEN 'nightTime'
            ELSE 'otherTime' END AS bidTimeType,
        dateTime, extra, length(extra) - length(replace(extra, 'c', '')) AS c_counts
    FROM bid WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000""",
)
def q14(views: Views) -> Stream:
    euros, hour, extra = _euros(), col("dateTime").dt.hour(), col("extra")
    day, night = (hour >= 8) & (hour <= 18), (hour <= 6) | (hour >= 20)
    return (
        views["bid"]
        .filter((euros > Decimal(1_000_000)) & (euros < Decimal(50_000_000)))
        .select(
            "auction",
            "bidder",
            euros.alias("price"),
            hs.when(day).then("dayTime").when(night).then("nightTime").otherwise("otherTime")
            .alias("bidTimeType"),
            "dateTime",
            "extra",
            (extra.str.length() - extra.str.replace("c", "").str.length()).alias("c_counts"),
        )
    )  # fmt: skip


@NEXMARK.add(
    "Add channel id",
    {"bid": (*_CHANNEL, "url")},
    f"""SELECT auction, bidder, price, channel, CASE lower(channel)
            WHEN 'apple' THEN '0' WHEN 'google' THEN '1'
            WHEN 'facebook' THEN '2' WHEN 'baidu' THEN '3'
            ELSE regexp_extract(url, '{_CHANNEL_ID}', 2) END AS channel_id
    FROM bid WHERE regexp_matches(url, '{_CHANNEL_ID}')
        OR lower(channel) IN ('apple', 'google', 'facebook', 'baidu')""",
)
def q21(views: Views) -> Stream:
    channel, url = col("channel").str.lower(), col("url")
    known = {"apple": "0", "google": "1", "facebook": "2", "baidu": "3"}
    chosen = hs.when(channel == "apple").then("0")
    for name in ("google", "facebook", "baidu"):
        chosen = chosen.when(channel == name).then(known[name])
    found = url.str.replace(f"^.*?{_CHANNEL_ID}.*$", r"\2", regex=True)
    return (
        views["bid"]
        .filter(url.str.contains(_CHANNEL_ID, regex=True) | channel.is_in(list(known)))
        .select(*_CHANNEL, channel_id=chosen.otherwise(found))
    )


@NEXMARK.add(
    "Get URL directories",
    {"bid": (*_CHANNEL, "url")},
    f"SELECT {', '.join(_CHANNEL)}, split_part(url, '/', 4) AS dir1, "
    "split_part(url, '/', 5) AS dir2, split_part(url, '/', 6) AS dir3 FROM bid",
)
def q22(views: Views) -> Stream:
    parts = {f"dir{k}": _url_part(k + 2) for k in (1, 2, 3)}
    return views["bid"].select(*_CHANNEL, **parts)


def _euros() -> hs.Expression:
    return col("price") * Decimal("0.908")


def _url_part(number: int) -> hs.Expression:
    """Return what stands between two slashes, counted from 0 as SPLIT_INDEX counts."""
    pattern = "^" + "[^/]*/" * number + "([^/]*)/.*$"
    return col("url").str.replace(pattern, r"\1", regex=True)
