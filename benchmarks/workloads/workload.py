"""The workloads: which rows, which query. Data only; every engine reads it in its own way."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Workload:
    """A keyed window query over one dataset.

    All times are in ticks of ``unit``. The answer has the key columns,
    ``window_start`` (the start of the window, in ticks), ``n`` (the count) and one column
    for each of ``aggregates``, which are taken over the column ``value``.

    Attributes
    ----------
    dataset : str
        Name of a builder in `benchmarks.workloads.datasets`.
    keys : tuple of str
    size, slide : int
        Of the window; equal if it is tumbling.
    aggregates : tuple of str
        Of sum, max, mean.
    sessions : bool
        Whether windows are sessions, with a gap of ``size``.
    period : int
        By how much event time is shifted each time the file is replayed.
    watermark_delay : int
    per_second : int
        Rows in a second of event time, where the data is made up.
    """

    name: str
    dataset: str
    keys: tuple[str, ...]
    size: int
    slide: int
    aggregates: tuple[str, ...] = ("sum", "max")
    unit: str = "ms"
    watermark_delay: int = 500
    per_second: int = 1_000_000
    rows: int = 10_000_000
    period: int = 10_000
    sessions: bool = False

    @property
    def counts_views(self) -> bool:
        """Whether rows are events of ads, of which views are kept and joined to campaigns."""
        return self.dataset.startswith("ysb")

    @property
    def is_json(self) -> bool:
        """Whether rows are lines of JSON beside their time."""
        return self.dataset == "ysb-json"

    def with_rows(self, rows: int) -> Workload:
        """Return the workload over a file of another length."""
        if self.dataset == "flights":
            return self
        seconds = -(-rows // self.per_second)
        slides = -(-seconds * 1000 // self.slide) + 2 * self.sessions  # no session over the end
        return replace(self, rows=rows, period=slides * self.slide)


_SECOND = 1_000
_DAY = 86_400_000_000
_KEYED = {"keys": ("key",), "size": _SECOND, "slide": _SECOND}
_FLIGHTS = {
    "dataset": "flights",
    "aggregates": ("mean", "max"),
    "unit": "us",
    "watermark_delay": 0,
    "rows": 3_000_000,
    "period": 182 * _DAY,
}

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("tumbling", "uniform", **_KEYED),
        Workload(
            "sliding",
            "uniform",
            ("key",),
            10 * _SECOND,
            _SECOND,
            per_second=100_000,
            period=100 * _SECOND,
        ),
        Workload(
            "sessions",
            "uniform",
            ("key",),
            500,
            500,
            per_second=100_000,
            period=101 * _SECOND,
            sessions=True,
        ),
        Workload(
            "ysb",
            "ysb",
            ("campaign",),
            10 * _SECOND,
            10 * _SECOND,
            aggregates=(),
            per_second=100_000,
            period=100 * _SECOND,
        ),
        Workload(
            "ysb-json",
            "ysb-json",
            ("campaign",),
            10 * _SECOND,
            10 * _SECOND,
            aggregates=(),
            per_second=100_000,
            rows=2_000_000,
            period=20 * _SECOND,
        ),
        Workload("skew", "zipf", **_KEYED),
        Workload("wide", "wide", **_KEYED),
        Workload("strings", "strings", **_KEYED),
        Workload("flights", keys=("origin",), size=_DAY, slide=_DAY, **_FLIGHTS),
        Workload("routes", keys=("origin", "destination"), size=7 * _DAY, slide=_DAY, **_FLIGHTS),
    )
}
"""By name; `routes` is the second query of the flights, `ysb-json` is `ysb` from lines of text."""
