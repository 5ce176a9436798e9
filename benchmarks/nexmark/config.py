"""What the stream of events is like: the published defaults, and how they are counted."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_ID = 1_000
"""Of people and of auctions."""

FIRST_CATEGORY, N_CATEGORIES = 10, 5
ID_LEAD = 10
"""How many ids ahead of the last person or auction may be named already."""

HOT_GROUP = 100
"""The hot auction, seller or bidder changes with every so many auctions or people."""


@dataclass(frozen=True)
class Kind:
    """One of the three kinds of events: which of every 50 events it has.

    Attributes
    ----------
    each : int
        How many of every 50 events.
    first : int
        The first of them.
    """

    each: int
    first: int

    def event(self, row: int) -> int:
        """Return the number of the event that is this kind's row number ``row``."""
        return row // self.each * PERIOD + self.first + row % self.each

    def rows(self, events: int) -> int:
        """Return how many of the first ``events`` events are of this kind."""
        whole, rest = divmod(events, PERIOD)
        return whole * self.each + min(max(rest - self.first, 0), self.each)


PERIOD = 50
"""After so many events the kinds come in the same order again; kernels have it built in."""

KINDS = {"person": Kind(1, 0), "auction": Kind(3, 1), "bid": Kind(46, 4)}


@dataclass(frozen=True, kw_only=True)
class NexmarkConfig:
    """The stream of events; every value of an event is a function of this and its number.

    Attributes
    ----------
    seed : int
    events_per_second : int
        Of event time. 10 million in the published suite of 100 million events, which so
        has one window of 10 s; fewer mean more windows.
    base_time_ms : int
        Event time of the first event.
    hot_auctions, hot_sellers, hot_bidders : int
        All but one in so many bids (auctions) go to the hot auction (seller, bidder).
    in_flight_auctions : int
        Bids that go to no hot auction go to one of so many last.
    active_people : int
        Sellers and bidders that are not hot are among so many last.
    bid_bytes, auction_bytes, person_bytes : int
        Average size of an event, filled up with ``extra``.
    out_of_order_group : int
        Within so many events, event times are shuffled; 1: they are in order.
    dictionaries : bool
        Deliver channels, URLs, names, cities and states as dictionary columns.
    """

    seed: int = 7
    events_per_second: int = 100_000
    base_time_ms: int = 1_436_918_400_000
    hot_auctions: int = 2
    hot_sellers: int = 4
    hot_bidders: int = 4
    in_flight_auctions: int = 100
    active_people: int = 1_000
    bid_bytes: int = 100
    auction_bytes: int = 500
    person_bytes: int = 200
    out_of_order_group: int = 1
    dictionaries: bool = True

    def __post_init__(self) -> None:
        for name in (
            "events_per_second", "hot_auctions", "hot_sellers", "hot_bidders",
            "in_flight_auctions", "active_people", "out_of_order_group",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)!r}")

    def time_ms(self, event: int) -> int:
        """Return the event time of an event, before any shuffling."""
        return self.base_time_ms + event * 1_000 // self.events_per_second

    @property
    def watermark_delay_ms(self) -> int:
        """How late an event may be."""
        if self.out_of_order_group == 1:
            return 0
        return -(-self.out_of_order_group * 1_000 // self.events_per_second)
