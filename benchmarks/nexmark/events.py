"""The three kinds of events as columns for `Job.generate`, each made only if it is read.

>>> import hpcstream as hs
>>> from benchmarks.nexmark.config import NexmarkConfig
>>> config = NexmarkConfig(events_per_second=10_000)
>>> job = hs.Job("bids")
>>> bids = stream(job, "bid", config, events=1_000_000)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import hpcstream as hs
from benchmarks.nexmark import kernels, texts
from benchmarks.nexmark.config import FIRST_CATEGORY, FIRST_ID, KINDS, N_CATEGORIES, NexmarkConfig
from hpcstream import Stream
from hpcstream import generators as g
from hpcstream.connectors.files.time_bounds import Bounds

TIME = "dateTime"
"""The event-time column of all kinds, in milliseconds."""

Make = Callable[[int, int, int], pa.Array]
"""``make(first, n_rows, stride)``."""


def stream(
    job: hs.Job,
    kind: str,
    config: NexmarkConfig,
    *,
    events: int,
    rate: float | None = None,
    splits: int | None = None,
) -> Stream:
    """Return the events of one kind among the first ``events`` of all kinds.

    Parameters
    ----------
    kind : {"person", "auction", "bid"}
    rate : float, optional
        Events of all kinds a second; makes the stream live.
    splits : int, optional
        As for `Job.generate`.
    """
    share = KINDS[kind].each / 50
    return job.generate(
        columns(kind, config),
        rows=KINDS[kind].rows(events),
        rate=None if rate is None else rate * share,
        event_time=TIME,
        watermark_delay=f"{config.watermark_delay_ms}ms",
        splits=splits,
    )


def table(
    kind: str, config: NexmarkConfig, events: int, names: list[str], block: int = 1 << 17
) -> pa.Table:
    """Return columns of one kind as a table: what the stream delivers, in order."""
    made = columns(kind, config)
    rows = KINDS[kind].rows(events)
    batches = [
        pa.record_batch(
            [made[name].values(start, min(block, rows - start), 0) for name in names], names
        )
        for start in range(0, rows, block)
    ]
    return pa.Table.from_batches(batches, pa.schema([(name, made[name].type) for name in names]))


def columns(kind: str, config: NexmarkConfig) -> dict[str, g.ColumnGenerator]:
    """Return the columns of a kind; they draw from ``config.seed`` alone."""
    own = {"person": _person, "auction": _auction, "bid": _bid}[kind](_Maker(kind, config))
    event = _Column(pa.int64(), _Maker(kind, config).event_column)
    return {"event": event, **own, TIME: _times(kind, config)}


@dataclass(frozen=True, eq=False)
class _Column:
    """`ColumnGenerator` of a function; the stream's seed is that of the configuration."""

    type: pa.DataType
    make: Make

    def values(self, start: int, n_rows: int, seed: int, stride: int = 1) -> pa.Array:
        return self.make(start, n_rows, stride)


@dataclass(frozen=True)
class _EventTimes(g.TimesGenerator):
    """Event times of one kind: ``each`` of every 50 events from ``offset`` on."""

    each: int = 1
    offset: int = 0
    group: int = 1

    def values(self, start: int, n_rows: int, seed: int, stride: int = 1) -> pa.Array:
        times = np.empty(n_rows, np.int64)
        clock = (self.start, self.per_second, self.group)
        kernels.times(start, stride, (self.each, self.offset), clock, times)
        return pa.array(times).view(self.type)

    def bounds(self, start: int, stop: int) -> Bounds:
        if stop <= start:
            return None, None
        first, last = (self._group(row) for row in (start, stop - 1))
        return self._time(first), self._time(last + self.group - 1)

    def _group(self, row: int) -> int:
        """Return the first of the events among which a row's event time is shuffled."""
        event = row // self.each * 50 + self.offset + row % self.each
        return event // self.group * self.group

    def _time(self, event: int) -> int:
        return self.start + event * 1_000 // self.per_second


def _times(kind: str, config: NexmarkConfig) -> _EventTimes:
    return _EventTimes(
        pa.timestamp("ms"),
        config.base_time_ms,
        1_000,
        config.events_per_second,
        0,
        KINDS[kind].each,
        KINDS[kind].first,
        config.out_of_order_group,
    )


class _Maker:
    """Makes columns of one kind: numbers from kernels, texts cut from a pool or chosen."""

    def __init__(self, kind: str, config: NexmarkConfig) -> None:
        self.kind, self.config = kind, config
        self._each, self._offset = KINDS[kind].each, KINDS[kind].first

    def seed(self, name: str) -> np.uint64:
        return np.uint64(g.column_seed(self.config.seed, f"{self.kind}.{name}"))

    def events(self, first: int, n_rows: int, stride: int) -> np.ndarray:
        out = np.empty(n_rows, np.int64)
        kernels.events(first, stride, self._each, self._offset, out)
        return out

    def event_column(self, first: int, n_rows: int, stride: int) -> pa.Array:
        return pa.array(self.events(first, n_rows, stride))

    def by_row(self, name: str, kernel: Any, *arguments: Any) -> _Column:
        """Return int64 made by ``kernel(first, stride, seed, *arguments, out)``."""
        seed = self.seed(name)

        def make(first: int, n_rows: int, stride: int) -> pa.Array:
            out = np.empty(n_rows, np.int64)
            kernel(first, stride, seed, *arguments, out)
            return pa.array(out)

        return _Column(pa.int64(), make)

    def by_event(self, name: str, kernel: Any, *arguments: Any) -> _Column:
        """Return int64 made by ``kernel(events, seed, *arguments, out)``."""
        seed = self.seed(name)

        def make(first: int, n_rows: int, stride: int) -> pa.Array:
            out = np.empty(n_rows, np.int64)
            kernel(self.events(first, n_rows, stride), seed, *arguments, out)
            return pa.array(out)

        return _Column(pa.int64(), make)

    def chosen(self, name: str, values: pa.Array) -> _Column:
        """Return one of some values for each event."""
        numbers = self.by_event(name, kernels.choices, len(values))
        return self.looked_up(lambda *rows: numbers.make(*rows).to_numpy(), values)

    def looked_up(self, number: Callable[[int, int, int], np.ndarray], values: pa.Array) -> _Column:
        """Return the values with these numbers."""

        def make(first: int, n_rows: int, stride: int) -> pa.Array:
            numbers = pa.array(number(first, n_rows, stride).astype(np.int32, copy=False))
            coded = pa.DictionaryArray.from_arrays(numbers, values, safe=False)
            return coded if self.config.dictionaries else coded.dictionary_decode()

        coded = pa.dictionary(pa.int32(), pa.string())
        return _Column(coded if self.config.dictionaries else pa.string(), make)

    def cut(self, name: str, shortest: int, longest: int, special: str = "") -> _Column:
        """Return pieces of a pool of letters, one behind the other, so that none is copied."""
        seed = self.seed(name)

        def make(first: int, n_rows: int, stride: int) -> pa.Array:
            if stride > 1:
                every = make(first, n_rows * stride, 1)
                return every.take(pa.array(np.arange(0, n_rows * stride, stride)))
            offsets = np.empty(n_rows + 1, np.int32)
            kernels.cut_offsets(first, seed, shortest, longest, texts.POOL_BYTES, offsets)
            letters = texts.repeated_pool(self.config.seed, special, int(offsets[-1]))
            buffers = [None, pa.py_buffer(offsets), pa.py_buffer(letters)]
            return pa.Array.from_buffers(pa.string(), n_rows, buffers)

        return _Column(pa.string(), make)

    def extra(self, average: int, others: int) -> _Column:
        """Return what fills an event up to its average size, give or take a fifth."""
        wanted = max(average - others, 0)
        spread = round(wanted * 0.2)
        return self.cut("extra", wanted - spread, max(wanted + spread - 1, wanted - spread))


@cache
def _price_steps() -> np.ndarray:
    """Return the prices at 4,096 equal steps of the exponent, rounded to be the same anywhere."""
    return np.round(100.0 * 10.0 ** (6.0 * np.arange(4_097) / 4_096), 6)


def _bid(make: _Maker) -> Mapping[str, g.ColumnGenerator]:
    config, words = make.config, texts.channels(make.config.seed)
    n_hot = len(texts.HOT_CHANNELS)
    seed = make.seed("channel")

    @lru_cache(maxsize=1)  # the URL is read right after the name, of the same rows
    def channel(first: int, n_rows: int, stride: int) -> np.ndarray:
        out = np.empty(n_rows, np.int32)
        kernels.bid_channels(first, stride, seed, n_hot, texts.N_CHANNELS, out)
        return out

    auction = (kernels.bid_auctions, config.hot_auctions, config.in_flight_auctions)
    bidder = (kernels.bid_bidders, config.hot_bidders, config.active_people)
    return {
        "auction": make.by_row("auction", *auction),
        "bidder": make.by_row("bidder", *bidder),
        "price": make.by_row("price", kernels.bid_prices, _price_steps()),
        "channel": make.looked_up(channel, words.names),
        "url": make.looked_up(channel, words.urls),
        "extra": make.extra(config.bid_bytes, 32),
    }


def _auction(make: _Maker) -> Mapping[str, g.ColumnGenerator]:
    config, times = make.config, _times("auction", make.config)
    initial = make.by_event("initialBid", kernels.prices, _price_steps())
    above = make.by_event("reserve", kernels.prices, _price_steps())
    horizon = config.in_flight_auctions * 50 // 3 * 1_000 // config.events_per_second
    length = make.by_event("expires", kernels.choices, max(2 * horizon, 1))

    def reserve(*rows: int) -> pa.Array:
        return pc.add(initial.make(*rows), above.make(*rows))

    def expires(first: int, n_rows: int, stride: int) -> pa.Array:
        begin = times.values(first, n_rows, 0, stride).view(pa.int64())
        ends = pc.add(pc.add(begin, length.make(first, n_rows, stride)), 1)
        return ends.view(pa.timestamp("ms"))

    def category(*rows: int) -> pa.Array:
        return pc.add(categories.make(*rows), FIRST_CATEGORY)

    def number(first: int, n_rows: int, stride: int) -> pa.Array:
        return pa.array(np.arange(n_rows, dtype=np.int64) * stride + (first + FIRST_ID))

    categories = make.by_event("category", kernels.choices, N_CATEGORIES)
    seller = (kernels.auction_sellers, config.hot_sellers, config.active_people)
    return {
        "id": _Column(pa.int64(), number),
        "itemName": make.cut("itemName", 3, 19, " "),
        "description": make.cut("description", 3, 99, " "),
        "initialBid": initial,
        "reserve": _Column(pa.int64(), reserve),
        "expires": _Column(pa.timestamp("ms"), expires),
        "seller": make.by_row("seller", *seller),
        "category": _Column(pa.int64(), category),
        "extra": make.extra(config.auction_bytes, 48 + 11 + 51),
    }


def _person(make: _Maker) -> Mapping[str, g.ColumnGenerator]:
    user, host = make.cut("user", 3, 6), make.cut("host", 3, 4)
    digits = pa.array([f"{i:04d}" for i in range(10_000)])
    card = [make.by_event(f"card{k}", kernels.choices, 10_000) for k in range(4)]

    def number(first: int, n_rows: int, stride: int) -> pa.Array:
        return pa.array(np.arange(n_rows, dtype=np.int64) * stride + (first + FIRST_ID))

    def email(*rows: int) -> pa.Array:
        at = pc.binary_join_element_wise(user.make(*rows), host.make(*rows), "@")
        return pc.binary_join_element_wise(at, "com", ".")

    def credit_card(*rows: int) -> pa.Array:
        return pc.binary_join_element_wise(*(digits.take(k.make(*rows)) for k in card), " ")

    return {
        "id": _Column(pa.int64(), number),
        "name": make.chosen("name", texts.people()),
        "emailAddress": _Column(pa.string(), email),
        "creditCard": _Column(pa.string(), credit_card),
        "city": make.chosen("city", pa.array(texts.CITIES)),
        "state": make.chosen("state", pa.array(texts.STATES)),
        "extra": make.extra(make.config.person_bytes, 8 + 11 + 12 + 19 + 8 + 2),
    }
